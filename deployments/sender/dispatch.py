"""A released package on its way: everything asked once more, and only then the bytes leave, destination by destination."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from blocks.endpoints.base import Endpoint, EndpointSession
from blocks.errors import ConfigurationError, EndpointError, EndpointFull, RepositoryError, SendRefused, SpoolError
from blocks.outbound import Delivered, Destination, Matter, Package, PackageFile, Policies, Vote, canonical
from blocks.profile import load_partner
from blocks.sender import Arrived, Seen, Settled, Withdrawn
from blocks.shares import Share
from blocks.spool import Spool
from blocks.values import Outgoing, Personality, Proof, shown
from deployments.sender.beforehand import depart
from deployments.sender.delivery import Freight, copy, deliver, packages_in, settled, signing_in, stage, unstage, withdraw
from deployments.sender.judging import Judge, Reviewed, check_kit, check_redelivery, reviewed
from deployments.sender.lading import Item, Place, items, place_of
from deployments.sender.papers import lacking_papers
from deployments.sender.showing import Exhibit, hide, show
from deployments.sender.store import Parcel, Step, Store
from deployments.sender.turns import Turns
from tasks.rules.packing import AtRepository, Voided, freshness
from tasks.rules.policy import Standing, four_eyes, standing


@dataclass(frozen=True, slots=True)
class _Released:
    """What the votes on a package let go, and where to."""

    agreed: Reviewed
    votes: list[Vote]
    places: list[Place]
    files: Sequence[PackageFile]


class Dispatcher:
    """Sends packages whose sign-off is complete, each once."""

    def __init__(self, store: Store, judge: Judge, profiles: Path, place: Callable[[str], Path], *, floor_bytes: int) -> None:
        """``place`` tells where the bytes of a digest stand in the workers' spool."""
        self._store, self._judge, self._profiles, self._place = store, judge, profiles, place
        self._outbox = store.folder / "outbox"
        self._scratch = Spool(store.folder / "scratch", floor_bytes=floor_bytes)
        self._turns = Turns()

    def prepare(self, matter: Matter, policies: Policies, votes: Iterable[Vote]) -> list[str]:
        """Copy the bytes of a package that people have released, before it is asked to be sent; the digests that the spool lacks.

        Nothing leaves, and nothing of it is believed later: what is sent is asked everything again. Raises ``SendRefused`` if it is
        not released.
        """
        package = matter.package
        with self._turns.alone(package.digest):
            if self._complete(package):
                return []
            released = self._released(matter, policies, votes)
            return sorted(copy(package.digest, _sizes(released.files), self._place, self._outbox))

    def send(self, matter: Matter, policies: Policies, votes: Iterable[Vote], seen: Sequence[Seen]) -> list[Arrived]:
        """Bring a package as far as it can be brought now. Raises ``SendRefused`` if it may not leave.

        A destination that cannot be reached, or refuses, does not hinder the others; it is told in its answer.
        """
        package = matter.package
        with self._turns.alone(package.digest):
            if self._complete(package):
                return [self._arrived(package, number) for number in range(len(package.destinations))]
            released = self._released(matter, policies, votes)
            agreed, files = released.agreed, released.files
            self._must_be_fresh(package, agreed, policies, seen)
            check_kit(package, files, agreed.terms)
            if lacking := lacking_papers(agreed.profile, package.stream, self._profiles):
                return [self._withheld(package, number, lacking) for number in range(len(package.destinations))]
            ladings = [items(package, files, place.terms) for place in released.places]
            staged = stage(package.digest, _sizes(files).items(), self._place, self._outbox)
            depart(package, released.votes, agreed.terms, self._store)
            return [
                self._bring(package, number, place, lading, staged)
                for number, (place, lading) in enumerate(zip(released.places, ladings, strict=True))
            ]

    def staged(self) -> list[str]:
        """Packages of whose bytes there are copies here. A worker says when they may go: only workers can ask for legal holds."""
        return packages_in(self._outbox)

    def unstage(self, package: str) -> int:
        """Remove the copies of a package while nobody sends it; bytes freed."""
        with self._turns.alone(package):
            return unstage(package, self._outbox)

    def settle(self, package: str, destination: str, name: bytes, *, arrived: bool, by: str, comment: str) -> Settled:
        """Take a person's word for a file in doubt, while nobody sends. Raises ``SendRefused`` for one that is in no doubt."""
        with self._turns.alone(package):
            return self._store.settle(package, destination, name, arrived=arrived, by=by, comment=comment)

    def withdraw(self, package: Package) -> Withdrawn:
        """Clear away what stands at the partner under temporary names of a package; other names are not touched."""
        left: list[bytes] = []
        problems: list[str] = []
        with self._turns.alone(package.digest):
            for number, told in enumerate(package.destinations):
                parcels = self._store.parcels(package.digest, _key(told))
                if all(parcel.step.final for parcel in parcels):
                    continue
                try:
                    left += self._clear(package, number)
                except (EndpointError, RepositoryError, SendRefused, ConfigurationError) as error:
                    left += [parcel.temporary for parcel in parcels if not parcel.step.final]
                    problems.append(str(error))
            steps = [parcel.step for parcel in self._store.parcels(package.digest)]
            files = [file for number in range(len(package.destinations)) for file in self._arrived(package, number).files]
        stand, unknown = sum(step.stood for step in steps), steps.count(Step.UNKNOWN)
        return Withdrawn(stand, unknown, tuple(left), "; ".join(problems), tuple(files))

    def hide(self, package: Package) -> list[str]:
        """End the shares of a package that has come as far as it must; where they were. Raises ``SendRefused``."""
        hidden = []
        with self._turns.alone(package.digest):
            for number, told in enumerate(package.destinations):
                parcels = self._store.parcels(package.digest, _key(told))
                if not told.shown_to or not parcels:
                    continue
                if not all(parcel.step.final for parcel in parcels):
                    raise SendRefused(
                        f"package {package.digits}: it is on its way to {told.shown}; reject or cancel its order instead"
                    )
                try:
                    self._clear(package, number)
                except RepositoryError as error:
                    raise SendRefused(f"package {package.digits}: {error}; it may be shown yet, hide it again") from error
                hidden.append(told.shown)
        if not hidden:
            raise SendRefused(f"package {package.digits}: nothing of it is shown in a share")
        return hidden

    def _clear(self, package: Package, number: int) -> list[bytes]:
        """The names that could not be removed."""
        profile = load_partner(package.partner, self._profiles)
        if package.stream not in profile.outbound:
            raise SendRefused(f"{package.partner}: the reviewed profile has no outbound stream {package.stream!r} any more")
        terms = profile.outbound[package.stream].destinations
        place = place_of(package, package.destinations[number], terms, profile.place, whoever=True)
        if isinstance(place.endpoint, Share):
            return hide(self._exhibit(package, number, place, place.endpoint), self._store)
        return withdraw(self._freight(package, number, place, place.endpoint), self._store, self._scratch)

    # ---------------------------------------------------------------------------------------- may it leave

    def _released(self, matter: Matter, policies: Policies, votes: Iterable[Vote]) -> _Released:
        """What people have released of a package, by the reviewed files as they are now. Raises ``SendRefused``."""
        package = matter.package
        agreed = reviewed(package, policies, self._profiles)
        check_redelivery(package, self._store)
        every = self._judge.votes(package, votes)
        now = self._approved(matter, agreed, every)
        places = [place_of(package, told, agreed.terms.destinations, agreed.profile.place) for told in package.destinations]
        return _Released(agreed, every, places, package.kept(now.left_out))

    def _approved(self, matter: Matter, agreed: Reviewed, votes: Iterable[Vote]) -> Standing:
        policy, people = agreed.terms.signoff, agreed.people
        if (refused := four_eyes(matter, policy, people)) is not None:
            raise SendRefused(f"package {matter.package.digits}: {refused.first_line} Nothing was sent")
        now = standing(matter, policy, people, votes, datetime.now(UTC))
        if not now.approved:
            lost = "".join(f"; {vote.seat.text}: {reason.first_line}" for vote, reason in now.lost)
            raise SendRefused(
                f"package {matter.package.digits}: its sign-off is not complete ({now.progress}{lost}); nothing was sent"
            )
        return now

    def _must_be_fresh(self, package: Package, agreed: Reviewed, frozen: Policies, seen: Sequence[Seen]) -> None:
        told = {one.repository_id: AtRepository(one.newest, one.admitted, one.sha256) for one in seen}
        found = freshness(
            package, told, agreed.terms, destinations=package.destinations, frozen=frozen, policies=agreed.policies
        )
        if isinstance(found, Voided):
            raise SendRefused(f"package {package.digits} is void ({found.code}): {found.reason}; nothing was sent")

    # ---------------------------------------------------------------------------------------- bringing it

    def _bring(self, package: Package, number: int, place: Place, lading: Sequence[Item], staged: dict[str, Path]) -> Arrived:
        sources = [item.document.name if item.document else None for item in lading]
        met: list[Personality] = []
        try:
            with self._signing_in(package, number, place) as session:
                files = [self._outgoing(package, item, staged) for item in lading]
                if isinstance(place.endpoint, Share):
                    exhibit = self._exhibit(package, number, place, place.endpoint)
                    parcels = show(replace(exhibit, files=files, sources=sources), self._store, self._scratch)
                else:
                    freight = self._freight(package, number, place, place.endpoint)
                    freight = replace(freight, files=files, sources=sources)
                    parcels = deliver(freight, self._store, self._scratch, met.append, session)
        except (EndpointError, RepositoryError, SendRefused, ConfigurationError, SpoolError) as error:
            arrived = self._arrived(
                package, number, problem=str(error), worth_retrying=error.worth_retrying, full=isinstance(error, EndpointFull)
            )
        else:
            arrived = how_far(parcels, number)
        return replace(arrived, endpoint=place.terms.place, personality=met[-1]) if met else arrived

    @contextmanager
    def _signing_in(self, package: Package, number: int, place: Place) -> Iterator[Callable[[], EndpointSession] | None]:
        """Sign in while all else is made ready; None where nobody is called now."""
        parcels = self._store.parcels(package.digest, _key(package.destinations[number]))
        if isinstance(place.endpoint, Share) or (parcels and settled(parcels)):
            yield None
        else:
            with signing_in(place.endpoint) as session:
                yield session

    def _exhibit(self, package: Package, number: int, place: Place, share: Share) -> Exhibit:
        """What is shown in a share, its files not named yet."""
        return Exhibit(package.digest, _key(package.destinations[number]), share, place.folder)

    def _freight(self, package: Package, number: int, place: Place, endpoint: Endpoint) -> Freight:
        """What goes to a destination, its files not named yet."""
        return Freight(
            package=package.digest,
            destination=_key(package.destinations[number]),
            endpoint=endpoint,
            folder=place.folder,
            pins=place.pins,
            last=0 if place.terms.done_file is None else 1,
            exists=place.terms.exists,
            create_folder=place.terms.create_folder,
        )

    def _outgoing(self, package: Package, item: Item, staged: dict[str, Path]) -> Outgoing:
        if item.document is not None:
            return Outgoing(staged[item.document.sha256], item.name, item.document.size, item.document.sha256)
        digest = hashlib.sha256(item.content).hexdigest()
        made = self._outbox / package.digest / digest
        if not made.exists() or made.read_bytes() != item.content:  # a power cut may have emptied it
            fresh = made.with_suffix(".new")
            fresh.write_bytes(item.content)
            os.replace(fresh, made)  # noqa: PTH105 - as in the spool
        return Outgoing(made, item.name, len(item.content), digest)

    # ---------------------------------------------------------------------------------------- how far it has come

    def _complete(self, package: Package) -> bool:
        parcels = self._store.parcels(package.digest)
        reached = {parcel.destination for parcel in parcels if parcel.step.final}
        return reached == {_key(told) for told in package.destinations} and all(parcel.step.final for parcel in parcels)

    def _withheld(self, package: Package, number: int, lacking: str) -> Arrived:
        """What has come to its end stays so; nothing more goes there now."""
        parcels = self._store.parcels(package.digest, _key(package.destinations[number]))
        if parcels and all(parcel.step.final for parcel in parcels):
            return self._arrived(package, number)
        problem = f"package {package.digits}: {lacking}; nothing more was sent, and it goes on once they are good"
        return replace(self._arrived(package, number, problem), withheld=True)

    def _arrived(
        self, package: Package, number: int, problem: str = "", worth_retrying: bool = False, full: bool = False
    ) -> Arrived:
        parcels = self._store.parcels(package.digest, _key(package.destinations[number]))
        return how_far(parcels, number, problem, worth_retrying, full=full)


def how_far(
    parcels: Sequence[Parcel], number: int, problem: str = "", worth_retrying: bool = False, *, full: bool = False
) -> Arrived:
    """What is told of the files of one destination."""
    unknown = tuple(parcel.name for parcel in parcels if parcel.step is Step.UNKNOWN)
    if unknown and not problem:
        problem = (
            f"nobody here can tell whether {', '.join(map(shown, unknown[:5]))} arrived: the answer was lost, and neither our "
            "temporary name nor the final one stands there. Ask the partner; nothing is sent again until somebody says so: "
            "countersign signoff settle"
        )
    if not problem and not all(parcel.step.final for parcel in parcels):
        problem, worth_retrying = "not all of its files have come as far as they must; it will be tried again", True
    return Arrived(
        destination=number,
        files=tuple(delivered(parcel, number) for parcel in parcels if parcel.source is not None and parcel.step.stood),
        unknown=unknown,
        problem=problem,
        worth_retrying=worth_retrying and not unknown,
        full=full and not unknown,
    )


def _sizes(files: Iterable[PackageFile]) -> dict[str, int]:
    return {file.sha256: file.size for file in files}


def _key(destination: Destination) -> str:
    return canonical(destination.facts)


def delivered(parcel: Parcel, number: int) -> Delivered:
    """A file that stands at the partner, or stood, as it is told."""
    hashed = parcel.proof in (Proof.READ_BACK, Proof.SERVER_HASH)
    return Delivered(
        destination=number,
        name=parcel.name,
        source=parcel.source or b"",
        approved=parcel.digest,
        read=parcel.digest,  # staged only if the bytes read have it, and placed only if the bytes sent have it
        sent=parcel.digest,
        proof=parcel.proof or Proof.UNVERIFIABLE,
        proven=parcel.digest if hashed else None,
        at=parcel.at or datetime.now(UTC),
        collected=parcel.step is Step.COLLECTED,
        said=parcel.said,
        server=parcel.server,
        replies=parcel.replies,
    )
