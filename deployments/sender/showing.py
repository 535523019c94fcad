"""Documents shown to people outside: all of a package or none, each as it was signed off, until a day.

::

    intended ──file──▶ uploaded ──all read back──▶ renaming ──share the folder──▶ placed ──look──▶ proven
              (a new folder that nobody sees)      (asked to be shown)

Each package has a folder of its own, that the sender makes in a repository with an account of its own and fills from the bytes that it
has checked. So a share shows what was signed off and nothing that comes later: nobody else can add to the folder, or to a document in it.
Before it is shown, all of it is read back; afterwards it is looked at once more, and shown to nobody any more if it is not as it was.

The steps are those of a delivery. None is ever in doubt: a document carries whose it is, and a share can be looked at and be made again.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from uuid import NAMESPACE_URL, uuid5

from blocks.errors import CountersignError, DocumentChanged, SendRefused
from blocks.repositories.file360 import File360Session, kept_name
from blocks.shares import Share
from blocks.spool import Spool, Unkept
from blocks.values import Collision, Filed, Filing, Kept, Outgoing, Proof, shown
from deployments.sender.delivery import intended, settled
from deployments.sender.sharing_file360 import SharedFolders, viewers
from deployments.sender.store import Parcel, Step, Store


@dataclass(frozen=True, slots=True)
class Exhibit:
    """What is shown in one share."""

    package: str
    """The package digest."""
    destination: str
    """The destination as the package names it, in one text."""
    share: Share
    folder: str
    """As the package's destination has it; the package's digits are added to its name."""
    files: Sequence[Outgoing] = ()
    sources: Sequence[bytes | None] = ()
    """The name of each in the package; None for a file that we made ourselves."""

    @property
    def place(self) -> tuple[str, ...]:
        """The folder of this package alone, below the share's root."""
        *above, last = [part for part in self.folder.split("/") if part] or [""]
        return (*above, f"{last} {self.package[:8]}".strip())


def show(exhibit: Exhibit, store: Store, scratch: Spool) -> list[Parcel]:
    """Show one package as far as that can be done now, and tell how far that is. Called again, it goes on.

    Raises ``SendRefused`` (a name that cannot be kept, somebody else's document in the folder, a share that is not ours), and
    ``RepositoryError``.
    """
    names = [_text(file.name) for file in exhibit.files]
    if len({name.casefold() for name in names}) != len(names):
        raise SendRefused(
            f"{exhibit.share.address}: two names of the package are one there, whatever their case; nothing was shown"
        )
    parcels = intended(
        store,
        exhibit.share.address,
        [
            Parcel(exhibit.package, exhibit.destination, file.name, position, file.digest, file.size, file.name, source)
            for position, (file, source) in enumerate(zip(exhibit.files, exhibit.sources, strict=True))
        ],
    )
    if settled(parcels):
        return parcels
    with _opened(exhibit.share) as (session, shares):
        return _Exhibitor(exhibit, session, shares, store, scratch).bring()


def hide(exhibit: Exhibit, store: Store) -> list[bytes]:
    """Show a package to nobody any more, and remove of it what has not been shown; the names that stay nevertheless.

    What people outside have been shown stays, for who asks later what that was. Raises ``SendRefused`` and ``RepositoryError``.
    """
    with _opened(exhibit.share) as (session, shares):
        folder = session.find(exhibit.place[:-1], exhibit.place[-1])
        if folder is None or not folder.container:
            return []
        shares.stop(folder.id)
        standing = {kept.name: kept for kept in session.look(exhibit.place)}
        left = []
        for parcel in store.parcels(exhibit.package, exhibit.destination):
            kept = standing.get(_text(parcel.name))
            if kept is None or parcel.step.final:
                continue
            try:
                session.remove(kept.id, (_journey(parcel),))
            except CountersignError:
                left.append(parcel.name)
        return left


@contextmanager
def _opened(share: Share) -> Iterator[tuple[File360Session, SharedFolders]]:
    """Signed in once, for documents and shares."""
    place = share.repository
    with SharedFolders(wire := place.signed_in()) as shares:
        yield File360Session(wire, place.root, place.connections), shares


class _Exhibitor:
    """At work on one package in one share."""

    def __init__(self, exhibit: Exhibit, session: File360Session, shares: SharedFolders, store: Store, scratch: Spool) -> None:
        self._exhibit, self._session, self._shares, self._store, self._scratch = exhibit, session, shares, store, scratch
        self._address, self._place = exhibit.share.address, "/".join(exhibit.place)

    def bring(self) -> list[Parcel]:
        self._file()
        folder = self._folder()
        try:
            for parcel, kept in self._must_stand():
                self._must_hold(parcel, kept)
            self._show(folder)
            documents = self._must_stand()  # in the moment before it was shown, somebody may have put something there
        except (SendRefused, DocumentChanged):
            self._shares.stop(folder)
            raise
        until = max((one.until for one in self._shares.seers(folder) if one.until), default=None)
        ends = f"until {until:%Y-%m-%d}" if until else "without end"
        self._store.move(
            [
                replace(
                    parcel,
                    proof=Proof.READ_BACK,
                    replies=(f"document {kept.id}, version {kept.version}", f"folder {folder} is shown {ends}"),
                )
                for parcel, kept in documents
            ],
            Step.PROVEN,
        )
        return self._parcels()

    # ----------------------------------------------------------------------------------------- the documents

    def _file(self) -> None:
        waiting = {_journey(parcel): parcel for parcel in self._parcels() if parcel.step is Step.INTENDED}
        sources = {file.name: file.source for file in self._exhibit.files}
        filings = [
            Filing(
                journey=journey,
                name=_text(parcel.name),
                folder=self._exhibit.place,
                path=sources[parcel.name],
                digest=parcel.digest,
                size=parcel.size,
                media_type=mimetypes.guess_type(_text(parcel.name))[0] or "application/octet-stream",
                collision=Collision.REFUSE,
            )
            for journey, parcel in waiting.items()
        ]
        for filed in self._session.file(filings):
            if not isinstance(filed, Filed):
                raise SendRefused(
                    f"{self._address}: {shown(waiting[filed.journey].name)} cannot be kept in {self._place} ({filed.reason}); nothing "
                    "of this package is shown"
                )
            self._store.move([waiting[filed.journey]], Step.UPLOADED)

    def _folder(self) -> str:
        found = self._session.find(self._exhibit.place[:-1], self._exhibit.place[-1])
        if found is None:
            raise SendRefused(
                f"{self._address}: the folder {self._place} is not there any more; nothing of this package is shown"
            )
        return found.id

    def _must_stand(self) -> list[tuple[Parcel, Kept]]:
        """What the folder holds: our documents in the one version that we filed, and nothing else. Raises ``SendRefused``."""
        standing = {kept.name: kept for kept in self._session.look(self._exhibit.place)}
        parcels = {_text(parcel.name): parcel for parcel in self._parcels()}
        if odd := sorted(standing.keys() ^ parcels.keys()):
            raise SendRefused(
                f"{self._address}: the folder {self._place} does not hold this package and nothing else ({shown(', '.join(odd[:5]))}); "
                "it is shown to nobody. Ask who else writes there"
            )
        for name, parcel in parcels.items():
            if standing[name].size != parcel.size or self._session.filed_by(standing[name].id) != (_journey(parcel),):
                raise SendRefused(
                    f"{self._address}: {shown(parcel.name)} in {self._place} is not the one version that was signed off; it is shown to "
                    "nobody. Ask who else writes there"
                )
        return [(parcel, standing[name]) for name, parcel in parcels.items()]

    def _must_hold(self, parcel: Parcel, kept: Kept) -> None:
        with closing(Unkept(self._scratch)) as batch:
            digest = self._session.fetch(kept.id, kept.version, batch).digest
        if digest != parcel.digest:
            raise SendRefused(
                f"{self._address}: {shown(parcel.name)} in {self._place} does not hold the bytes that were signed off; nothing of this "
                "package is shown"
            )

    # ----------------------------------------------------------------------------------------- the share

    def _show(self, folder: str) -> None:
        """Shown to the guests until the day, whether it was before we were killed or is now."""
        share = self._exhibit.share
        last = _today() + timedelta(days=share.days)
        seers = {one.who.casefold(): one for one in self._shares.seers(folder)}
        in_time = all(one.until and one.until.date() <= last for one in seers.values())
        if seers.keys() == set(share.guests) and in_time and not self._shares.links(folder):
            return
        self._store.move([parcel for parcel in self._parcels() if parcel.step is Step.UPLOADED], Step.RENAMING)
        self._shares.share(folder, viewers(share.guests), last)

    def _parcels(self) -> list[Parcel]:
        return self._store.parcels(self._exhibit.package, self._exhibit.destination)


def _today() -> date:
    return datetime.now(UTC).date()


def _journey(parcel: Parcel) -> str:
    """By which a document in the repository is known as this one of this package, for ever."""
    return str(uuid5(NAMESPACE_URL, f"{parcel.package} {parcel.destination} {parcel.name.hex()}"))


def _text(name: bytes) -> str:
    """A name as the repository keeps it. Raises ``SendRefused`` for one that it would change."""
    try:
        text = name.decode()
    except UnicodeDecodeError as error:
        raise SendRefused(f"{shown(name)}: a share takes only names in UTF-8; agree on a 'name' at the destination") from error
    if kept_name(text) != text:
        raise SendRefused(
            f"{shown(name)}: the repository would keep this name as {kept_name(text)!r}; agree on a 'name' at the destination"
        )
    return text
