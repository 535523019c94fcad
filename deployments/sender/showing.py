"""Documents shown to people outside: all of a package or none, each as it was signed off, until a day.

::

    intended ──file──▶ uploaded ──all read back──▶ renaming ──share the folder──▶ placed ──look──▶ proven
              (a new folder that nobody sees)      (asked to be shown)        (placed: it has been shown, also if it is not any more)

Each package has a folder of its own, that the sender makes in a repository with an account of its own and fills from the bytes that it
has checked. So a share shows what was signed off and nothing that comes later: nobody else can add to the folder, or to a document in it.
Before it is shown, all of it is read back; afterwards it is looked at once more, and shown to nobody any more if it is not as it was.
Nobody else may get at the folders around it, or they could add to it later. The days count from the moment in which the share is first
asked for, to the second, however often it is asked for.

The steps are those of a delivery. None is ever in doubt: a document carries whose it is, and a share can be looked at and be made again.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_URL, uuid5

from blocks.errors import CountersignError, SendRefused
from blocks.repositories.file360 import File360Session, kept_name
from blocks.repositories.otcs_names import Unfit
from blocks.shares import Share
from blocks.spool import Spool, Unkept
from blocks.values import Collision, Filed, Filing, Kept, Outgoing, Proof, shown
from deployments.sender.delivery import intended, settled
from deployments.sender.sharing_file360 import SharedFolders, viewers
from deployments.sender.store import Parcel, Step, Store

_UNSEEN = (Step.INTENDED, Step.UPLOADED)
"""Nobody was asked to be shown it yet."""


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
            if any(parcel.step not in _UNSEEN for parcel in store.parcels(exhibit.package, exhibit.destination)):
                raise _astray(exhibit)
            return []
        _end(exhibit, folder.id, shares, store)
        standing = {kept.name: kept for kept in session.look(exhibit.place)}
        left = []
        for parcel in store.parcels(exhibit.package, exhibit.destination):
            kept = standing.get(_text(parcel.name))
            if kept is None or parcel.step.stood:
                continue
            try:
                session.remove(kept.id, (_journey(parcel),))
            except CountersignError:
                left.append(parcel.name)
        return left


def _end(exhibit: Exhibit, folder: str, shares: SharedFolders, store: Store) -> None:
    """Show a folder to nobody any more, and remember that it was shown, or may have been until its days were over."""
    parcels = store.parcels(exhibit.package, exhibit.destination)
    asked = [parcel for parcel in parcels if parcel.step is Step.RENAMING]
    if asked and (shares.given(folder) or any(one.modified and one.modified <= datetime.now(UTC) for one in asked)):
        store.move({Step.PLACED: asked})
    shares.stop(folder)


def _astray(exhibit: Exhibit) -> SendRefused:
    return SendRefused(
        f"{exhibit.share.address}: the folder {'/'.join(exhibit.place)} is not where it was shown from, and may be shown yet; look for "
        "it in File 360 and stop its share there, or put it back and try again"
    )


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
            read = self._must_stand(folder)
            for parcel, kept in read:
                self._must_hold(parcel, kept)
            until = self._show(folder)
            self._must_be_as_read(folder, read, until)
        except CountersignError as error:
            if not error.worth_retrying:
                self._take_back(folder, error)
            raise
        shown_until = f"folder {folder} is shown until {until:%Y-%m-%d %H:%M} UTC"
        versions = {parcel.name: f"document {kept.id}, version {kept.version}" for parcel, kept in read}
        read_back = [
            parcel._replace(proof=Proof.READ_BACK, replies=(versions[parcel.name], shown_until), heard=True)
            for parcel in self._parcels()
        ]
        self._store.move({Step.PROVEN: read_back})
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
            self._store.move({Step.UPLOADED: [waiting[filed.journey]]})

    def _folder(self) -> str:
        found = self._session.find(self._exhibit.place[:-1], self._exhibit.place[-1])
        if found is None or not found.container:
            if any(parcel.step not in _UNSEEN for parcel in self._parcels()):
                raise _astray(self._exhibit)
            raise SendRefused(
                f"{self._address}: the folder {self._place} is not there any more; nothing of this package is shown"
            )
        return found.id

    def _must_stand(self, folder: str) -> list[tuple[Parcel, Kept]]:
        """What the folder holds: our documents in the one version that we filed, and nothing else. Raises ``SendRefused``.

        And nobody else gets at it by a folder around it: they could put something there afterwards, or see it for ever.
        """
        try:
            others = self._session.reached_from(folder)
        except Unfit as unfit:
            raise SendRefused(f"{self._address}: {unfit.reason}; {self._place} is shown to nobody") from unfit
        if others:
            raise SendRefused(
                f"{self._address}: {shown(', '.join(sorted(others)[:5]))} gets at {self._place} by a folder around it; it is shown to "
                "nobody. Let nobody else have access to the sender's folders"
            )
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

    def _must_be_as_read(self, folder: str, read: Sequence[tuple[Parcel, Kept]], until: datetime) -> None:
        """In the moment before it was shown, somebody may have put something there, or let somebody in. Raises ``SendRefused``."""
        before, now = ({kept.id: kept.version for _, kept in some} for some in (read, self._must_stand(folder)))
        if before != now:
            raise SendRefused(
                f"{self._address}: another document stands in {self._place} than was read back; it is shown to nobody. Ask who else "
                "writes there"
            )
        if not self._shares.shows(folder, viewers(self._exhibit.share.guests), until):
            raise SendRefused(
                f"{self._address}: {self._place} is not shown as was agreed any more; it is shown to nobody. Ask who changed the share"
            )

    def _must_hold(self, parcel: Parcel, kept: Kept) -> None:
        with closing(Unkept(self._scratch)) as batch:
            digest = self._session.fetch(kept.id, kept.version, batch).digest
        if digest != parcel.digest:
            raise SendRefused(
                f"{self._address}: {shown(parcel.name)} in {self._place} does not hold the bytes that were signed off; nothing of this "
                "package is shown"
            )

    # ----------------------------------------------------------------------------------------- the share

    def _show(self, folder: str) -> datetime:
        """Shown to the guests until the end of the days, whether it was before we were killed or is now; that end."""
        share, parcels = self._exhibit.share, self._parcels()
        # Reckoned once, and written down before it is asked for: each try has the same end.
        begun = [parcel.modified for parcel in parcels if parcel.modified is not None]
        until = min(begun, default=datetime.now(UTC).replace(microsecond=0) + timedelta(days=share.days))
        asked = [parcel._replace(modified=until) for parcel in parcels if parcel.step is Step.UPLOADED]
        self._store.move({Step.RENAMING: asked})
        self._shares.share(folder, viewers(share.guests), until)
        return until

    def _take_back(self, folder: str, error: CountersignError) -> None:
        """Shown to nobody because of an error. Raises ``SendRefused`` where it may be shown yet."""
        try:
            _end(self._exhibit, folder, self._shares, self._store)
        except CountersignError as failed:
            if failed.worth_retrying:
                raise
            raise SendRefused(f"{error}. And its share could not be ended, stop it in File 360: {failed}") from failed

    def _parcels(self) -> list[Parcel]:
        return self._store.parcels(self._exhibit.package, self._exhibit.destination)


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
