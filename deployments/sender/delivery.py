"""Bytes to a partner: all files of a package or none, each once, and proven.

::

    intended ──put──▶ uploaded ──all read back──▶ renaming ──rename──▶ placed ──look──▶ proven | collected
                     (temporary name)             (done file last)        └─ no answer, neither name there ─▶ unknown

Every step is written down before the act that it announces, so that a sender killed anywhere goes on where the partner's
server says it stopped. Bytes are copied out of the spool, which workers may write, into the sender's own folder and hashed
there before the first of them leaves: what was changed meanwhile never reaches the partner, not even under a temporary name.
They are read back under their temporary names: a damaged file is never seen by the partner's programs.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocks.database import chunks
from blocks.endpoints.base import NOT_RENAMED, PART, TEMPORARY, Endpoint, EndpointSession, legal, not_renamed, temporary_name
from blocks.errors import EndpointError, HostKeyChanged, SendRefused, TransferIncomplete
from blocks.spool import CHUNK, Batch, Spool, Unkept, sync_filesystem
from blocks.values import (
    Exists,
    Fetched,
    FileKind,
    Missed,
    Move,
    Moved,
    Outcome,
    Outgoing,
    Personality,
    Placed,
    Proof,
    RemoteFile,
    shown,
)
from deployments.sender.store import Parcel, Step, Store

_MOST_BYTES = 255
"""In a name, on nearly all file systems."""
_TOLD_APART = len(TEMPORARY) + 8
"""By so many bytes no two temporary names are alike."""
MOST_IN_DOUBT = 64
"""Renames asked for at a time: so many files a person has to ask about when we are killed and the partner collects at once. What
looking then tells of the others does not help there; so it is no more for large packages. And it is no less: for each so many, the
disk and the partner are waited for."""
PUT_IN_DOUBT = 16
"""The same of files that are put under their own names: there a connection that is lost leaves as many in doubt, and nothing is waited
for between them."""
_COMING = ".coming"
"""Behind a package's digest: the folder of what is being copied. What is there may be half a file."""
_TOGETHER = 500
"""So many answers of the server are written down together, if they come fast: to be killed before costs sending them again."""
_TOGETHER_SECONDS = 0.5
"""An answer that comes so long after the last writing is written at once, with those before it."""


@dataclass(frozen=True, slots=True)
class Freight:
    """What goes to one destination."""

    package: str
    """The package digest."""
    destination: str
    """The destination as the package names it, in one text."""
    endpoint: Endpoint
    folder: str
    pins: frozenset[str]
    """Fingerprints of the server's keys, as they were approved; empty where the protocol has none."""
    files: Sequence[Outgoing] = ()
    """In the order of their renames."""
    sources: Sequence[bytes | None] = ()
    """The name of each in the package; None for a file that we made ourselves."""
    last: int = 0
    """How many at the end are done files: they appear only when all others stand."""
    exists: Exists = Exists.REFUSE
    """What was agreed for a name that is taken."""
    create_folder: bool = False
    """The folder is made if it is not there."""


def stage(package: str, files: Iterable[tuple[str, int]], place: Callable[[str], Path], outbox: Path) -> dict[str, Path]:
    """Copy bytes (digest, size) from the spool to where only the sender writes, and hash them on the way.

    Raises ``SendRefused`` that names every digest whose bytes are missing or others; then none of the package may be sent.
    """
    sizes = dict(files)
    if wrong := [f"{digest[:16]}…: {problem}" for digest, problem in copy(package, sizes, place, outbox).items()]:
        raise SendRefused(
            f"package {package[:16]}…: the spool does not hold what was approved ({'; '.join(wrong)}). Nothing was sent. "
            "Fetch the approved versions again; if their digests are the same, the sign-off stands"
        )
    folder = outbox / package
    return {digest: folder / digest for digest in sizes}


def copy(package: str, sizes: Mapping[str, int], place: Callable[[str], Path], outbox: Path) -> dict[str, str]:
    """As ``stage``, as far as it can be done; what is wrong with the others in the spool, by digest."""
    folder, coming = outbox / package, outbox / f"{package}{_COMING}"
    wrong: dict[str, str] = {}
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.rmtree(coming, ignore_errors=True)  # of one that was killed: a package is in one hand at a time
    have = {entry.name for entry in os.scandir(folder)}
    if have >= sizes.keys():
        return wrong
    coming.mkdir(mode=0o700)
    try:
        with _closing(os.open(coming, os.O_DIRECTORY)) as fresh:
            for digest, size in sizes.items():
                if digest not in have and (problem := _copy(place(digest), fresh, digest, size)):
                    wrong[digest] = problem
            # What has its name is not copied again: a power cut must not empty it, or the package is stuck.
            copies = [entry.name for entry in os.scandir(fresh)]
            if copies:
                sync_filesystem(fresh)
        if have:
            for digest in copies:
                (coming / digest).rename(folder / digest)
        else:
            coming.rename(folder)  # all at once, in place of the empty one
    finally:
        shutil.rmtree(coming, ignore_errors=True)
    return wrong


def packages_in(outbox: Path) -> list[str]:
    """Packages of which something is copied there."""
    return sorted({folder.name.removesuffix(_COMING) for folder in outbox.glob("*")})


def unstage(package: str, outbox: Path) -> int:
    """Remove the copies of a package, and tell the bytes that this frees; what is sent once more is copied anew."""
    folders = outbox / package, outbox / f"{package}{_COMING}"
    freed = sum(file.stat().st_size for folder in folders for file in folder.glob("*"))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return freed


def _copy(source: Path, fresh: int, digest: str, size: int) -> str:
    """What is wrong with the bytes in the spool, and then there is no copy; "" if they are copied into the folder ``fresh`` now."""
    hashed, copied, problem = hashlib.sha256(), 0, ""
    try:
        # A worker may put a link or a pipe there: neither is followed, and nothing of it waits.
        spooled = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return "it is not there" if error.errno == errno.ENOENT else f"it cannot be read ({error.strerror})"
    # The system's own calls: a small file takes a third of the time less than with file objects.
    with _closing(spooled), _closing(os.open(digest, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=fresh)) as ours:
        try:
            while copied <= size and (data := os.read(spooled, min(CHUNK, size + 1 - copied))):
                hashed.update(data)
                copied += len(data)
                while data:  # a write that is cut short goes on, or fails
                    data = data[os.write(ours, data) :]
        except IsADirectoryError:
            problem = "a folder stands there"
        except BlockingIOError:  # a pipe
            problem = "other bytes stand there"
    if not problem and (copied != size or hashed.hexdigest() != digest):
        problem = "other bytes stand there"
    if problem:
        os.unlink(digest, dir_fd=fresh)
    return problem


@contextmanager
def _closing(handle: int) -> Iterator[int]:
    try:
        yield handle
    finally:
        os.close(handle)


def deliver(
    freight: Freight,
    store: Store,
    scratch: Spool,
    met: Callable[[Personality], None] = lambda _: None,
    session: Callable[[], EndpointSession] | None = None,
) -> list[Parcel]:
    """Bring one destination's files as far as they can be brought, and tell how far that is; ``met`` is told what the server is like.

    Called again, it goes on; what is there is never sent again. All answers are ``final``, or some are ``UNKNOWN``: then
    nothing more is done here without a person. Raises ``SendRefused`` (a name is taken, another server) and ``EndpointError``.
    ``session``: of ``signing_in``, where that was begun already.
    """
    _check_names(freight)
    wanted = [
        Parcel(freight.package, freight.destination, file.name, position, file.digest, file.size, _temporary(file.name), source)
        for position, (file, source) in enumerate(zip(freight.files, freight.sources, strict=True))
    ]
    anew = not store.parcels(freight.package, freight.destination)
    parcels = [] if anew else intended(store, freight.endpoint.address, wanted)
    if not anew and settled(parcels):
        return parcels  # nobody is called
    with signing_in(freight.endpoint) if session is None else nullcontext(session) as session:
        if anew:
            parcels = intended(store, freight.endpoint.address, wanted)
        with _visit(freight, store, scratch, parcels, session) as courier:
            try:
                return courier.bring(anew)
            finally:
                met(courier.met)


def intended(store: Store, address: str, wanted: Sequence[Parcel]) -> list[Parcel]:
    """Write down what one destination is to be given, before it is; how far that has come. Raises ``SendRefused`` for another set."""
    before = store.parcels(wanted[0].package, wanted[0].destination)
    if not before:
        return store.intend(wanted)
    if [(one.name, one.digest, one.size) for one in before] != [(one.name, one.digest, one.size) for one in wanted]:
        raise SendRefused(f"{address}: another set of files of this package was sent there before; nothing was sent")
    return before


def withdraw(freight: Freight, store: Store, scratch: Spool) -> list[bytes]:
    """Remove what stands at a destination under temporary names of a package that goes no further; the names that stay nevertheless.

    Only names that are written down here are touched. Raises ``EndpointError``.
    """
    with _visit(freight, store, scratch, store.parcels(freight.package, freight.destination)) as courier:
        return courier.withdraw()


@contextmanager
def signing_in(endpoint: Endpoint) -> Iterator[Callable[[], EndpointSession]]:
    """Sign in, which is mostly waiting, while the block does something else; what it is given waits for that, and has its errors."""
    with ThreadPoolExecutor(1) as aside:
        coming = aside.submit(endpoint.session)
        try:
            yield coming.result
        finally:
            if coming.exception() is None:
                coming.result().close()


@contextmanager
def connected(
    endpoint: Endpoint, pins: frozenset[str], session: Callable[[], EndpointSession] | None = None
) -> Iterator[EndpointSession]:
    """Connected to the server that was approved, maybe by who has begun to sign in. Raises ``EndpointError``."""
    with (session or endpoint.session)() as at_server:
        shows = at_server.capabilities.fingerprint
        if pins and shows not in pins:
            approved = " or ".join(sorted(pins))
            raise HostKeyChanged(f"{endpoint.address}: the server shows {shows}, approved was {approved}; nothing was sent")
        yield at_server


@contextmanager
def _visit(
    freight: Freight,
    store: Store,
    scratch: Spool,
    parcels: Sequence[Parcel],
    session: Callable[[], EndpointSession] | None = None,
) -> Iterator[_Courier]:
    """``parcels``: how far the files have come."""
    with connected(freight.endpoint, freight.pins, session) as at_server:
        plain = freight.endpoint.direct_write or freight.endpoint.write_only
        yield (_PlainCourier if plain else _Courier)(freight, at_server, store, scratch, parcels)


def _temporary(final: bytes) -> bytes:
    """A temporary name as long as the final one, if that leaves room for what ``put`` adds: what cuts the one, cuts the other."""
    return temporary_name().ljust(min(len(final), _MOST_BYTES - len(PART)), b"_")


def _cut_short(temporary: bytes, listed: Collection[bytes]) -> int:
    """How many bytes of one of our names the server has kept; 0 if all, or if it does not list it at all."""
    if temporary in listed:
        return 0
    return max((len(name) for name in listed if len(name) >= _TOLD_APART and temporary.startswith(name)), default=0)


def settled(parcels: Sequence[Parcel]) -> bool:
    """True if nothing more is done without a person."""
    return any(parcel.step is Step.UNKNOWN for parcel in parcels) or all(parcel.step.final for parcel in parcels)


def _check_names(freight: Freight) -> None:
    for name, times in Counter(file.name for file in freight.files).items():
        if not legal(name) or name.startswith(TEMPORARY):
            raise SendRefused(f"{shown(name)!r} can be no file's name at the partner; nothing was sent")
        if times > 1:
            raise SendRefused(f"{shown(name)!r} stands twice in the package for {freight.endpoint.address}; nothing was sent")


class _Courier:
    """One visit to one destination. How far its files have come is read once: nobody else moves them meanwhile (``Turns``)."""

    _together = _TOGETHER

    def __init__(
        self, freight: Freight, session: EndpointSession, store: Store, scratch: Spool, parcels: Sequence[Parcel]
    ) -> None:
        """``parcels``: how far they have come, in the order of their renames."""
        self._freight, self._session, self._store, self._scratch = freight, session, store, scratch
        self._folder, self._address = freight.folder, freight.endpoint.address
        self._now = {parcel.name: parcel for parcel in parcels}

    @property
    def met(self) -> Personality:
        """What the server has shown of its ways so far."""
        return self._session.personality

    def bring(self, anew: bool) -> list[Parcel]:
        if self._freight.create_folder:
            self._session.make_folder(self._folder)
        if not anew:
            self._find_out()
        if settled(self._parcels()):
            return self._parcels()
        self._upload()
        self._read_back()
        self._must_fit()
        boundary = len(self._freight.files) - self._freight.last
        for group in (range(boundary), range(boundary, len(self._freight.files))):
            self._rename(self._unplaced(group))
            self._look_after()
            if any(parcel.step is Step.UNKNOWN for parcel in self._parcels()):
                break  # a done file must not announce what may not be there
        return self._parcels()

    def withdraw(self) -> list[bytes]:
        self._find_out()
        self._withdraw(self._unplaced())
        ours = {name for parcel in self._parcels() for name in _temporaries(parcel)}
        self._clear({_temporaries(parcel)[1] for parcel in self._parcels()}, self._standing())
        return sorted(ours & self._standing().keys())

    # ----------------------------------------------------------------------------------------- what the server says

    def _find_out(self) -> None:
        """After a break: what became of what we had asked for. Half uploads stay: they are gone on with, or replaced."""
        standing = self._standing()
        for parcel in self._at(Step.UPLOADED):
            if not _stands(parcel.temporary, parcel, standing):
                self._move([parcel], Step.INTENDED)  # its rename was never asked for, so nobody has it: send it anew
        self._settle_renames(standing)
        self._look_after(standing)
        self._clear({parcel.temporary for parcel in self._at(Step.INTENDED)}, standing)

    def _settle_renames(self, standing: dict[bytes, RemoteFile]) -> None:
        """What became of the renames that nobody has answered.

        Where the file still stands under its temporary name, it keeps the step: the server may yet do what it was asked, however
        late, and the partner may collect at once. So it is asked for again, and never taken for something that nobody has.
        """
        for parcel in self._at(Step.RENAMING):
            if _stands(parcel.temporary, parcel, standing):
                continue
            # Renamed and collected, or cleaned away: where neither name stands, the two look the same. Only the partner knows.
            self._move([parcel], Step.PLACED if _stands(parcel.name, parcel, standing) else Step.UNKNOWN)

    def _clear(self, names: set[bytes], standing: dict[bytes, RemoteFile]) -> None:
        for _ in self._session.remove([standing[name] for name in sorted(names & standing.keys())]):
            pass  # what cannot be removed is told when its name is needed

    def _look_after(self, standing: dict[bytes, RemoteFile] | None = None) -> None:
        """See what was renamed under its own name, unless the partner was faster."""
        placed = self._at(Step.PLACED)
        if not placed:
            return
        standing = self._standing() if standing is None else standing
        seen, unseen = list[Parcel](), list[Parcel]()
        for parcel in placed:
            (seen if _stands(parcel.name, parcel, standing) else unseen).append(parcel)
        self._move(seen, Step.PROVEN)
        stayed = [parcel for parcel in unseen if _stands(parcel.temporary, parcel, standing)]
        other = [p for p in unseen if p not in stayed and p.name in standing and standing[p.name].size != p.size]
        self._move(stayed, Step.RENAMING)  # it may yet do what it says it has done
        self._move(other, Step.UNKNOWN)  # something else has the name: only the partner knows whether ours was there
        self._move([parcel for parcel in unseen if parcel not in (*stayed, *other)], Step.COLLECTED)
        if stayed:
            raise TransferIncomplete(
                f"{parcel_name(stayed[0])}: {self._address} said that it was renamed, and it stands under its temporary name; "
                "it will be tried again"
            )

    def _standing(self) -> dict[bytes, RemoteFile]:
        """Of the folder at the partner, what bears one of our names."""
        parcels = self._parcels()
        ours = {parcel.name for parcel in parcels} | {name for parcel in parcels for name in _temporaries(parcel)}
        return {file.name: file for file in self._session.look(self._folder) if file.name in ours}

    # ----------------------------------------------------------------------------------------- what we ask for

    def _upload(self) -> None:
        waiting = {parcel.temporary: parcel for parcel in self._at(Step.INTENDED)}
        sources = {file.name: file.source for file in self._freight.files}
        outgoing = [Outgoing(sources[p.name], p.temporary, p.size, p.digest) for p in waiting.values()]
        # What could not be cleared away under one of these names is ours to replace.
        with self._writing_down() as notes:
            for done in self._session.put(outgoing, self._folder, exists=Exists.REPLACE):
                parcel = waiting[done.file.name]
                if isinstance(done, Missed):
                    raise self._failure(parcel, done)
                notes.take(self._heard(parcel, done, proof=done.proof, modified=done.file.modified), Step.UPLOADED)

    def _read_back(self) -> None:
        """Compare what the server holds with what was approved, before anybody else can see it."""
        unread = [parcel for parcel in self._at(Step.UPLOADED) if parcel.proof is not Proof.READ_BACK]
        self._compare(unread, self._session.read_back)

    def _compare(
        self, parcels: Sequence[Parcel], read: Callable[[Iterable[RemoteFile], Batch], Iterator[Fetched | Missed]]
    ) -> None:
        """Read what stands under temporary names; if one of them holds anything but ours, all that was uploaded is taken back."""
        unread = {parcel.temporary: parcel for parcel in parcels}
        wrong: Parcel | None = None
        with closing(Unkept(self._scratch)) as batch, self._writing_down() as notes:
            for answer in read([self._file(p.temporary, p) for p in unread.values()], batch):
                parcel = unread[answer.file.name]
                if isinstance(answer, Fetched) and answer.digest == parcel.digest:
                    notes.take(parcel._replace(proof=Proof.READ_BACK), Step.UPLOADED)
                elif isinstance(answer, Fetched) or answer.outcome in (Outcome.CHANGED, Outcome.VANISHED, Outcome.NOT_A_FILE):
                    wrong = parcel
                    break
                # Otherwise the account may write and not read: the proof stays what it is, and the page says so.
        if wrong is not None:
            self._withdraw(self._at(Step.UPLOADED))
            raise TransferIncomplete(
                f"{parcel_name(wrong)}: {self._address} does not hold the bytes that were sent; none of the package's "
                "files was given its name there, and it will be tried again"
            )

    def _must_fit(self) -> None:
        """All or none: nothing is renamed if one of the names is taken, or would be cut short, or what was uploaded is gone or other."""
        uploaded = self._unplaced()
        wanted = {parcel.name for parcel in uploaded}
        listed = {
            file.name: file
            for file in self._session.look(self._folder)
            if file.name in wanted or file.name.startswith(TEMPORARY)
        }
        taken = [p for p in uploaded if p.name in listed and (p.step is Step.UPLOADED or p.temporary in listed)]
        if taken and self._freight.exists is Exists.REFUSE:
            names = ", ".join(parcel_name(parcel) for parcel in taken[:5])
            self._withdraw(uploaded)
            raise SendRefused(
                f"{self._address}: {len(taken)} of the names are taken in {shown(self._folder)} ({names}); nothing was "
                "overwritten. Ask the partner to collect or remove them, then try again"
            )
        for parcel in uploaded:
            if kept := _cut_short(parcel.temporary, listed):
                self._withdraw(uploaded)
                raise SendRefused(
                    f"{self._address}: the server keeps {kept} bytes of a name and cuts the rest off without a word; "
                    f"{parcel_name(parcel)} has {len(parcel.name)}. Nothing was sent. Give a shorter 'name' at the destination"
                )
        # Some servers list none of these names, others list them with times or sizes that the files have not. So what was swapped or
        # taken away is told by the file itself.
        waiting = {parcel.temporary: parcel for parcel in self._at(Step.UPLOADED)}
        if waiting.keys() & listed.keys():
            unlike = [parcel for name, parcel in waiting.items() if not _stands(name, parcel, listed)]
            self._compare(unlike, self._session.fetch)

    def _rename(self, parcels: Sequence[Parcel]) -> None:
        """A few at a time. What became of these is written down together with what is asked for next: each writing is a wait."""
        with self._writing_down() as notes:
            for some in chunks(parcels, MOST_IN_DOUBT):
                # With those before, some of these may have been settled: asked for once more, they would be in doubt again.
                now = [self._now[parcel.name] for parcel in some]
                self._rename_together([parcel for parcel in now if parcel.step in _UNPLACED], notes)

    def _rename_together(self, parcels: Sequence[Parcel], notes: _Notes) -> None:
        again = {parcel.temporary for parcel in parcels if parcel.step is Step.RENAMING}
        notes.write(parcels)
        asked = {parcel.temporary: self._now[parcel.name] for parcel in parcels}
        failures: dict[bytes, EndpointError | SendRefused] = {}
        moves = [Move(self._file(parcel.temporary, parcel), self._folder, parcel.name) for parcel in asked.values()]
        for moved in self._session.rename(moves, exists=self._freight.exists):
            parcel = asked[moved.file.name]
            step = _AFTER_RENAME.get(moved.outcome, Step.UPLOADED)
            if step not in (Step.PLACED, Step.UNKNOWN):
                missed = Missed(moved.file, moved.outcome, moved.reason)
                failures[parcel.temporary] = self._failure(parcel, not_renamed(missed))
            if step in (Step.PLACED, Step.UNKNOWN) or moved.file.name not in again:
                notes.take(self._heard(parcel, moved, parcel.replies), step)
        if not failures:
            return
        notes.write()
        if failures.keys() & again:
            self._settle_renames(self._standing())
        open_still = {parcel.temporary for parcel in self._at(Step.RENAMING)}
        for temporary, failure in failures.items():
            if temporary not in again or temporary in open_still:
                raise failure

    def _withdraw(self, parcels: Sequence[Parcel]) -> None:
        """Remove what stands under temporary names; written down first, so that it is uploaded anew.

        Of a file whose rename nobody has answered, that is so only when it was this removal that took it away.
        """
        self._move([parcel for parcel in parcels if parcel.step is not Step.RENAMING], Step.INTENDED)
        asked = {parcel.temporary: parcel for parcel in parcels}
        for moved in self._session.remove([self._file(parcel.temporary, parcel) for parcel in parcels]):
            if moved.outcome is Outcome.DONE and asked[moved.file.name].step is Step.RENAMING:
                self._move([asked[moved.file.name]], Step.INTENDED)

    # ----------------------------------------------------------------------------------------- shorthand

    def _parcels(self) -> list[Parcel]:
        """How far they have come, in the order of their renames."""
        return list(self._now.values())

    def _move(self, parcels: Iterable[Parcel], step: Step) -> list[Parcel]:
        return self._write({step: parcels})

    def _write(self, moves: Mapping[Step, Iterable[Parcel]]) -> list[Parcel]:
        """As in ``Store.move``."""
        moved = self._store.move(moves)
        self._now |= {parcel.name: parcel for parcel in moved}
        return moved

    @contextmanager
    def _writing_down(self) -> Iterator[_Notes]:
        """Take answers of the server as they come, and write them down some at a time: all of them, whatever ends the block."""
        notes = _Notes(self._write, self._together)
        try:
            yield notes
        finally:
            notes.write()

    def _at(self, step: Step, positions: range | None = None) -> list[Parcel]:
        return [p for p in self._parcels() if p.step is step and (positions is None or p.position in positions)]

    def _unplaced(self, positions: range | None = None) -> list[Parcel]:
        """What stands under its temporary name, as far as we know, in the order of the renames."""
        return [p for p in self._parcels() if p.step in _UNPLACED and (positions is None or p.position in positions)]

    def _heard(self, parcel: Parcel, answer: Placed | Moved, before: tuple[str, ...] = (), **changes: Any) -> Parcel:
        """With what the server said of it, kept as evidence."""
        server = self._session.capabilities.fingerprint or ""
        return parcel._replace(server=server, replies=before + answer.replies, heard=True, **changes)

    def _file(self, name: bytes, parcel: Parcel) -> RemoteFile:
        return RemoteFile(self._folder, name, parcel.size, parcel.modified)

    def _failure(self, parcel: Parcel, missed: Missed) -> EndpointError | SendRefused:
        told = f"{self._address}: {parcel_name(parcel)} was not placed ({missed.outcome}: {missed.reason})"
        if missed.outcome in (Outcome.EXISTS, Outcome.ILLEGAL_NAME, Outcome.NOT_A_FILE):
            return SendRefused(f"{told}; files placed before it stand, none is sent twice")
        if missed.outcome in (Outcome.VANISHED, Outcome.CHANGED, Outcome.UNKNOWN):
            return TransferIncomplete(f"{told}; it will be tried again")
        if missed.reason.startswith(NOT_RENAMED):
            told += (
                ". The server does not let us rename: ask the partner for that right. If it gives that to nobody, "
                "agree in writing that files appear under their final names while they are written, and say so: "
                "'direct_write: accepted' at the endpoint and a 'done_file' at the destination"
            )
            return EndpointError(told)
        return EndpointError(f"{told}; ask the partner whether our account may write there")


class _Notes:
    """What the server has answered, not written down yet."""

    def __init__(self, write: Callable[[Mapping[Step, Iterable[Parcel]]], object], together: int) -> None:
        self._write, self._together = write, together
        self._heard = defaultdict[Step, list[Parcel]](list)
        self._since = time.monotonic()

    def take(self, parcel: Parcel, step: Step) -> None:
        self._heard[step].append(parcel)
        if len(self._heard[step]) >= self._together or time.monotonic() - self._since > _TOGETHER_SECONDS:
            self.write()

    def write(self, asked: Sequence[Parcel] = ()) -> None:
        """Write it down, and in the same transaction of which parcels the rename is asked for now."""
        self._write({**self._heard, Step.RENAMING: asked})
        self._heard.clear()
        self._since = time.monotonic()


class _PlainCourier(_Courier):
    """Where nothing can be renamed, or nothing be seen: each file is put under its own name, the done files last.

    ::

        intended ──put──▶ renaming ──answered──▶ placed ──read back──▶ proven | collected
                         (it may stand there)       └─ write_only ─▶ proven: 'sent, unverifiable'

    With ``direct_write`` half a file may stand there after a break. It is removed if its bytes are the beginning of ours; anything
    else was not written by us and is left alone. With ``write_only`` nobody here can look, so a person is asked.
    """

    _together = 1
    """An answer that is lost with us is not one file sent again, as elsewhere: it is one more in doubt."""

    def bring(self, anew: bool) -> list[Parcel]:
        if self._freight.endpoint.direct_write and not self._freight.last:
            raise SendRefused(
                f"{self._address}: files would be written under their final names, and no done file says when they are whole; "
                "nothing was sent. Add 'done_file' to the destination"
            )
        if self._freight.create_folder:
            self._session.make_folder(self._folder)
        if not anew:
            self._find_out()
        if settled(self._parcels()):
            return self._parcels()
        if self._sees:
            self._must_be_free()
        boundary = len(self._freight.files) - self._freight.last
        for group in (range(boundary), range(boundary, len(self._freight.files))):
            for some in chunks(self._at(Step.INTENDED, group), PUT_IN_DOUBT):
                self._place(some)
            self._look_after()
            if not all(parcel.step.final for parcel in self._parcels() if parcel.position in group):
                break  # a done file must not announce what may not be there
        return self._parcels()

    def withdraw(self) -> list[bytes]:
        if not self._sees:
            return []
        self._find_out()
        # There are temporary names only if the endpoint was used in another way before.
        ours = {name for parcel in self._parcels() if not parcel.step.final for name in _temporaries(parcel)}
        self._clear(ours, self._standing())
        return sorted(ours & self._standing().keys())

    @property
    def _sees(self) -> bool:
        return not self._freight.endpoint.write_only

    def _place(self, parcels: Sequence[Parcel]) -> None:
        asked = {parcel.name: parcel for parcel in self._move(parcels, Step.RENAMING)}
        sources = {file.name: file.source for file in self._freight.files}
        outgoing = [Outgoing(sources[p.name], p.name, p.size, p.digest) for p in asked.values()]
        failed: EndpointError | SendRefused | None = None
        try:
            with self._writing_down() as notes:
                for done in self._session.put(outgoing, self._folder):
                    parcel = asked.pop(done.file.name)
                    if isinstance(done, Missed):
                        notes.take(parcel, Step.UNKNOWN if done.outcome is Outcome.UNKNOWN else Step.INTENDED)
                        failed = failed or self._failure(parcel, done)
                    else:
                        notes.take(self._heard(parcel, done, proof=done.proof, modified=done.file.modified), Step.PLACED)
        except EndpointError:
            # What was renamed without an answer was told as unknown; the others do not stand under their names.
            if not self._freight.endpoint.direct_write:
                self._move(asked.values(), Step.INTENDED)
            raise
        if failed:
            raise failed

    def _find_out(self) -> None:
        begun = self._at(Step.RENAMING)
        if not self._sees:
            self._move(begun, Step.UNKNOWN)
            return
        standing = self._standing()
        boundary = len(self._freight.files) - self._freight.last
        for parcel in begun:
            stands = standing.get(parcel.name)
            if stands is None:
                # Nobody takes a file before its done file is there. That one the partner may have taken, and cleared away.
                self._move([parcel], Step.UNKNOWN if parcel.position >= boundary else Step.INTENDED)
            elif stands.size == parcel.size and self._holds(stands, parcel.digest):
                self._move([parcel._replace(modified=stands.modified)], Step.PLACED)
            else:
                if self._holds(stands, self._beginning(parcel, stands.size)):
                    for _ in self._session.remove([stands]):
                        pass  # what cannot be removed is told when its name is needed
                self._move([parcel], Step.INTENDED)
        self._look_after(standing)

    def _look_after(self, standing: dict[bytes, RemoteFile] | None = None) -> None:
        if not self._sees:
            self._move([p._replace(proof=Proof.UNVERIFIABLE) for p in self._at(Step.PLACED)], Step.PROVEN)
            return
        placed = self._at(Step.PLACED)
        if not placed:
            return
        standing = self._standing() if standing is None else standing
        for parcel in placed:
            stands = standing.get(parcel.name)
            if stands is None:
                self._move([parcel], Step.COLLECTED)
            elif self._holds(stands, parcel.digest):
                self._move([parcel._replace(proof=Proof.READ_BACK)], Step.PROVEN)
            else:
                self._move([parcel], Step.RENAMING)
                raise TransferIncomplete(
                    f"{parcel_name(parcel)}: {self._address} does not hold the bytes that were sent; it will be tried again"
                )

    def _must_be_free(self) -> None:
        standing = self._standing()
        taken = [parcel for parcel in self._at(Step.INTENDED) if parcel.name in standing]
        if taken:
            names = ", ".join(parcel_name(parcel) for parcel in taken[:5])
            raise SendRefused(
                f"{self._address}: {len(taken)} of the names are taken in {shown(self._folder)} ({names}) by what we did not write; "
                "nothing was overwritten. Ask the partner to collect or remove them, then try again"
            )

    def _holds(self, stands: RemoteFile, digest: str) -> bool:
        with closing(Unkept(self._scratch)) as batch:
            return any(isinstance(a, Fetched) and a.digest == digest for a in self._session.fetch([stands], batch))

    def _beginning(self, parcel: Parcel, size: int) -> str:
        """The digest of our first ``size`` bytes."""
        source = next(file.source for file in self._freight.files if file.name == parcel.name)
        with source.open("rb") as ours:
            hashed, left = hashlib.sha256(), size
            while left > 0 and (data := ours.read(min(left, CHUNK))):
                hashed.update(data)
                left -= len(data)
        return "" if left else hashed.hexdigest()


_UNPLACED = (Step.UPLOADED, Step.RENAMING)
_AFTER_RENAME = {
    Outcome.DONE: Step.PLACED,
    Outcome.UNKNOWN: Step.UNKNOWN,
    # Not renamed, because what we uploaded is gone or other: it is uploaded anew, unless its rename was asked for before.
    Outcome.VANISHED: Step.INTENDED,
    Outcome.CHANGED: Step.INTENDED,
}


def _temporaries(parcel: Parcel) -> tuple[bytes, bytes]:
    """Under which names it may stand at the partner before it has its own: whole, and half."""
    return parcel.temporary, temporary_name(parcel.temporary)


def parcel_name(parcel: Parcel) -> str:
    return shown(parcel.name)


def _stands(name: bytes, parcel: Parcel, standing: dict[bytes, RemoteFile]) -> bool:
    """True if the file under this name is the one that we uploaded, as far as a listing tells."""
    file = standing.get(name)
    if file is None or file.kind is not FileKind.FILE or file.size != parcel.size:
        return False
    return parcel.modified is None or file.modified is None or file.modified == parcel.modified
