"""The spool: bytes in transit, kept by their SHA-256 digest. It may be rebuilt from the source at any time.

A consignment is one ``Batch``. Its files are written beside the store under temporary names, hashed as they pass through,
and become visible under their digests when the batch commits: one sync for all of them, then the renames, then one sync of
the names. Only after that may the ledger say "fetched".

::

    <spool>/incoming/<batch>/<n>         being written
    <spool>/partial/<resume key>         an interrupted file, until somebody goes on with it or it is too old
    <spool>/store/ab/abcdef…             complete, by digest, read-only
    <spool>/corrupt/abcdef…              bytes that stopped being what their name says, set aside
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from blocks.errors import SpoolCorrupt, SpoolFull, SpoolMissing

CHUNK = 1024 * 1024
HELD = 64 * 1024
"""Most bytes of a file that are held in memory before they are written."""
_NO_FILE = -1
_READ_ONLY = 0o440
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Spooled:
    """Bytes that a batch holds completely."""

    digest: str
    size: int


class SpoolFile:
    """One file being written into a batch. ``size`` is how far it is; a resumed one starts above zero.

    Up to ``HELD`` bytes stay in memory until the file is finished or grows beyond: most files are small, and some turn out not to
    be wanted. Names are plain text here and in a batch, because a ``Path`` costs more than the system call that it is for.
    """

    def __init__(self, batch: Batch, name: str, resume_key: str | None) -> None:
        self._batch, self._name, self._key = batch, name, resume_key
        self._hash = hashlib.sha256()
        self._held, self._file = b"", _NO_FILE
        self.size = 0
        if resume_key is not None and _take(batch.spool.partial / resume_key, self._path):
            with Path(self._path).open("rb") as old:
                while data := old.read(CHUNK):
                    self._hash.update(data)
                    self.size += len(data)
            self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes at the end. Raises ``SpoolFull`` when the floor of free disk is reached."""
        self._batch.reserve(len(data))
        self._hash.update(data)
        self.size += len(data)
        if self._file == _NO_FILE:
            if self.size <= HELD:
                self._held = self._held + data if self._held else bytes(data)
                return
            self._begin()
        _write_all(self._file, data)

    def head(self, count: int) -> bytes:
        """The first ``count`` bytes, to compare with the source before resuming."""
        return self._held[:count] if self._file == _NO_FILE else os.pread(self._file, count, 0)

    def tail(self, count: int) -> bytes:
        """The last ``count`` bytes written so far, for the same."""
        start = max(0, self.size - count)
        return self._held[start:] if self._file == _NO_FILE else os.pread(self._file, count, start)

    @property
    def digest(self) -> str:
        """Of what was written so far."""
        return self._hash.hexdigest()

    def restart(self) -> None:
        """Forget what was written: the source has other bytes now."""
        if self._file != _NO_FILE:
            os.ftruncate(self._file, 0)
        self._hash, self.size, self._held = hashlib.sha256(), 0, b""

    def finish(self) -> Spooled:
        """All bytes are here."""
        if self._file == _NO_FILE:
            self._begin()
        os.fchmod(self._file, _READ_ONLY)
        self._end()
        done = Spooled(self._hash.hexdigest(), self.size)
        self._batch.finished(self._name, done)
        return done

    def keep(self) -> None:
        """The source broke off: keep what came, for a later file with the same resume key."""
        wanted = self._key is not None and self.size > 0
        if wanted and self._held:
            self._begin()
        self._end()
        self._batch.forget(self._name)
        if wanted:
            _take(self._path, self._batch.spool.partial / str(self._key))
        else:
            _remove(self._path)

    def discard(self) -> None:
        """Nothing of this is wanted, though it may have been finished; not after the batch has committed."""
        self._end()
        self._batch.forget(self._name)
        _remove(self._path)

    @property
    def _path(self) -> str:
        return f"{self._batch.folder}/{self._name}"

    def _begin(self) -> None:
        """What was held in memory goes to the disk."""
        self._file = os.open(self._name, _NEW, 0o640, dir_fd=self._batch.handle)
        held, self._held = self._held, b""
        _write_all(self._file, held)

    def _end(self) -> None:
        if self._file != _NO_FILE:
            ended, self._file = self._file, _NO_FILE
            os.close(ended)
        self._batch.unfinished.discard(self)


class Batch:
    """The files of one consignment on their way into the store. Leaving the ``with`` block normally commits.

    Several threads may each write files of their own into it; one of them ends it when the others are done.
    """

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.folder, self.handle = _locked_folder(spool.incoming)
        self._numbers = itertools.count(1)
        self._budget, self._budgeting = 0, threading.Lock()
        self._done: dict[str, str] = {}
        """Digests by the names that the bytes have in our folder."""
        self.unfinished: set[SpoolFile] = set()

    def open(self, resume_key: str | None = None) -> SpoolFile:
        """Begin a file. With a key, go on with what an earlier batch kept under that key."""
        file = SpoolFile(self, str(next(self._numbers)), resume_key)
        self.unfinished.add(file)
        return file

    def reserve(self, count: int) -> None:
        """Raise ``SpoolFull`` before the disk falls under the floor. Asks the disk once per 64 MiB."""
        with self._budgeting:
            self._budget -= count
            if self._budget < 0:
                self.spool.check_room(count)
                self._budget = min(64 * CHUNK, max(0, self.spool.free_bytes() - self.spool.floor_bytes))

    def finished(self, name: str, spooled: Spooled) -> None:
        self._done[name] = spooled.digest

    def forget(self, name: str) -> None:
        """What was finished turned out not to be wanted."""
        self._done.pop(name, None)

    def commit(self) -> None:
        """Make everything finished visible by its digest, and safe against a power cut."""
        sync_filesystem(self.handle)
        if not self._done:
            return
        store = os.open(self.spool.store, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name, digest in self._done.items():
                place = f"{digest[:2]}/{digest}"
                try:
                    os.rename(name, place, src_dir_fd=self.handle, dst_dir_fd=store)
                except FileNotFoundError:
                    with suppress(FileExistsError):
                        os.mkdir(digest[:2], dir_fd=store)
                    os.rename(name, place, src_dir_fd=self.handle, dst_dir_fd=store)
        finally:
            os.close(store)
        sync_filesystem(self.handle)
        self._done.clear()

    def close(self) -> None:
        """End the batch. Files that were not finished are kept under their resume key, or gone."""
        for file in list(self.unfinished):
            file.keep()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            # Files that were complete before a break are worth keeping; what was not finished is gone or set apart.
            self.commit()
        finally:
            self.close()


class _Hashed(SpoolFile):
    """Bytes that are counted and hashed as they pass, and written nowhere."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._hash, self.size = hashlib.sha256(), 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._hash.update(data)
        self.size += len(data)

    def head(self, count: int) -> bytes:
        return b""  # never what a source begins with: nothing is gone on with

    tail = head

    def restart(self) -> None:
        self._hash, self.size = hashlib.sha256(), 0

    def finish(self) -> Spooled:
        self._end()
        return Spooled(self._hash.hexdigest(), self.size)

    def keep(self) -> None:
        self._end()

    discard = keep

    def _end(self) -> None:
        self._batch.unfinished.discard(self)


class Unkept(Batch):
    """Bytes that are read to be compared: nothing is written, and nothing begun earlier is gone on with."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.unfinished = set()

    def open(self, resume_key: str | None = None) -> SpoolFile:
        file = _Hashed(self)
        self.unfinished.add(file)
        return file

    def reserve(self, count: int) -> None:
        """It takes no room."""

    def forget(self, path: str) -> None:
        """Nothing is remembered."""

    def commit(self) -> None:
        """There is nothing to make safe."""

    def close(self) -> None:
        self.unfinished.clear()


class Spool:
    """A folder of bytes by digest, safe for several processes on one machine."""

    def __init__(self, folder: Path, *, floor_bytes: int = 1024**3) -> None:
        self.folder, self.floor_bytes = folder, floor_bytes
        self.incoming, self.partial = folder / "incoming", folder / "partial"
        self.store, self.corrupt = folder / "store", folder / "corrupt"
        for part in (self.incoming, self.partial, self.store, self.corrupt):
            part.mkdir(parents=True, exist_ok=True, mode=0o750)

    def batch(self) -> Batch:
        """Begin a consignment. Raises ``SpoolFull`` when the disk is already under the floor."""
        self.check_room(0)
        return Batch(self)

    def place(self, digest: str) -> Path:
        return place_in(self.folder, digest)

    def holds(self, digest: str) -> bool:
        return self.place(digest).exists()

    def path(self, digest: str) -> Path:
        """Where the bytes of a digest are. Raises ``SpoolMissing``."""
        place = self.place(digest)
        if not place.exists():
            raise SpoolMissing(f"{digest[:16]}…: not in the spool {self.folder}; it will be fetched again from its source")
        return place

    def verify(self, digest: str) -> Path:
        """Read the bytes of a digest again. Raises ``SpoolCorrupt`` (and sets them aside) when they are others."""
        place = self.path(digest)
        with place.open("rb") as stored:
            found = hashlib.file_digest(stored, "sha256").hexdigest()
        if found != digest:
            place.replace(self.corrupt / f"{digest}.{uuid4().hex[:8]}")
            raise SpoolCorrupt(
                f"{digest[:16]}…: the spool held bytes with digest {found[:16]}…; they were moved to {self.corrupt}, "
                "nothing was sent or filed, and the source will be fetched again"
            )
        return place

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.folder).free

    def check_room(self, count: int) -> None:
        """Raise ``SpoolFull`` if ``count`` more bytes would leave less free disk than the floor."""
        free = self.free_bytes()
        if free - count < self.floor_bytes:
            raise SpoolFull(
                f"{self.folder}: {free // CHUNK} MiB free, the floor is {self.floor_bytes // CHUNK} MiB; nothing was lost. "
                "Free disk space, run 'countersign spool collect', or lower COUNTERSIGN_SPOOL_FLOOR_BYTES"
            )

    def collect(
        self,
        needed: Iterable[str],
        kept: Callable[[Sequence[str]], Collection[str]],
        *,
        older_than: timedelta = timedelta(hours=24),
    ) -> int:
        """Remove bytes that no open journey needs and that have rested for a while. Returns bytes freed.

        ``needed`` are the digests of all open journeys. The age protects what was committed after ``needed`` was asked. ``kept`` is
        asked, before anything is removed, which of the digests that would go must stay all the same.
        """
        keep, limit, freed = set(needed), time.time() - older_than.total_seconds(), 0

        def rested(path: Path) -> bool:
            status = path.stat()
            return path.name not in keep and max(status.st_mtime, status.st_ctime) < limit

        going = []
        for path in [*self.store.glob("*/*"), *self.partial.iterdir()]:
            with _gone_is_fine():
                if rested(path):
                    going.append(path)
        keep.update(kept([path.name for path in going if path.parent != self.partial]))
        for path in going:
            with _gone_is_fine():
                if rested(path):
                    size = path.stat().st_size
                    path.unlink()
                    freed += size
        for folder in self.incoming.iterdir():
            with _gone_is_fine(), _abandoned(folder) as abandoned:
                if abandoned:
                    freed += sum(file.stat().st_size for file in folder.iterdir())
                    shutil.rmtree(folder, ignore_errors=True)
        return freed


def place_in(folder: Path, digest: str) -> Path:
    """Where a spool keeps the bytes of a digest, for a process that reads it and may not write there."""
    return folder.joinpath(f"store/{digest[:2]}/{digest}")


def _take(source: Path | str, place: Path | str) -> bool:
    """Move a file; False if it is not there (somebody else took it first)."""
    try:
        os.replace(source, place)
    except FileNotFoundError:
        return False
    return True


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _write_all(file: int, data: bytes | bytearray | memoryview) -> None:
    written = os.write(file, data)
    if written < len(data):
        view = memoryview(data)[written:]
        while view:
            view = view[os.write(file, view) :]


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        return


def _locked_folder(place: Path) -> tuple[Path, int]:
    """A folder for a batch, with its lock. Whoever holds that is alive: ``collect`` leaves the folder alone."""
    while True:
        folder = place / uuid4().hex
        folder.mkdir()
        with _gone_is_fine():
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock).st_nlink:
                return folder, lock
            os.close(lock)  # collected before it was locked


@contextmanager
def _abandoned(folder: Path) -> Iterator[bool]:
    """True while we hold the lock of a batch folder, which means that its writer is dead."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def sync_filesystem(handle: int) -> None:
    """Bring to the disk whatever was written to the file system of an open file or folder."""
    # One syncfs for the whole consignment costs a fifth of an fsync per file.
    if _libc.syncfs(handle) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
