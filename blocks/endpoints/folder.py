"""A local or mounted folder as an endpoint: a share, a drop of another program, or the far side of somebody else's transfer."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import stat as modes
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from blocks.endpoints.base import (
    COMPARED,
    Endpoint,
    EndpointSession,
    differs,
    goes_on,
    legal,
    open_source,
    resume_key,
    temporary_name,
    unfit,
)
from blocks.errors import EndpointError, EndpointFull, EndpointUnreachable, EndpointUnsuitable, SpoolError
from blocks.spool import CHUNK, Batch
from blocks.values import (
    EndpointCapabilities,
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

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RENAME_NOREPLACE = 1
_BROKEN = (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT)
_libc = ctypes.CDLL(None, use_errno=True)


class Folder(Endpoint):
    """A folder on this machine or a mounted share. Folders in a profile are paths below ``root``, which is never left."""

    _block_type_name: ClassVar[str | None] = "Countersign folder endpoint"
    _block_type_slug: ClassVar[str | None] = "countersign-folder-endpoint"
    protocol: ClassVar[str] = "folder"

    root: Path = Field(description="The folder, as an absolute path on the machine that does the work")

    @property
    def address(self) -> str:
        return self.root.absolute().as_uri()

    def session(self) -> FolderSession:
        """Look whether the folder is there."""
        return FolderSession(self)


class FolderSession(EndpointSession):
    """At work in one folder. All names are used relative to an open folder, so that no path can be bent on the way."""

    def __init__(self, endpoint: Folder) -> None:
        self._address, self._root = endpoint.address, endpoint.root
        if not endpoint.root.is_dir():
            raise EndpointUnreachable(f"{self._address}: no such folder here; is the share mounted?")
        self.capabilities = EndpointCapabilities(server="folder", rename_replaces=True)
        self.personality = Personality(
            server="folder", listing="folder", hashes=(), resumes=True, tells_times=True, rename_replaces=True
        )

    def close(self) -> None:
        """Nothing stays open between calls."""

    # ----------------------------------------------------------------------------------------- the five verbs

    def look(self, folder: str) -> Iterator[RemoteFile]:
        with self._opened(folder) as place, os.scandir(place) as entries:
            for entry in entries:
                # An entry that goes while we list is as if it had gone before.
                with suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    yield RemoteFile(folder, os.fsencode(entry.name), status.st_size, _modified(status), _kind(status))

    def fetch(self, files: Iterable[RemoteFile], into: Batch) -> Iterator[Fetched | Missed]:
        for file in files:
            if missed := unfit(file):
                yield missed
                continue
            with self._opened(file.folder) as place:
                try:
                    yield self._fetch(file, place, into)
                except OSError as error:
                    yield self._missed(file, error)

    def put(self, files: Sequence[Outgoing], folder: str, *, exists: Exists = Exists.REFUSE) -> Iterator[Placed | Missed]:
        with self._opened(folder) as place:
            for file in files:
                wanted = RemoteFile(folder, file.name, file.size, None)
                temporary, broken = temporary_name(file.name), False
                try:
                    answer = unfit(wanted) or self._put(file, wanted, place, temporary, exists)
                except OSError as error:
                    broken = error.errno in _BROKEN
                    answer = self._missed(wanted, error)
                finally:
                    if not (broken and goes_on(temporary)):
                        with suppress(FileNotFoundError):
                            os.unlink(temporary, dir_fd=place)
                yield answer

    def make_folder(self, folder: str) -> None:
        parts = [part for part in folder.split("/") if part not in ("", ".")]
        for depth, part in enumerate(parts):
            with self._opened("/".join(parts[:depth])) as above:
                if not legal(os.fsencode(part)):
                    raise EndpointError(
                        f"{self._address}: the folder {shown(folder)} leads out of the root; correct the profile"
                    )
                try:
                    os.mkdir(os.fsencode(part), dir_fd=above)
                except FileExistsError:
                    pass
                except OSError as error:
                    raise EndpointError(
                        f"{self._address}: the folder {shown(folder)} cannot be created ({error.strerror}); nothing was placed"
                    ) from error
        with self._opened(folder):
            pass  # raises if that is no folder

    def rename(self, moves: Iterable[Move], *, exists: Exists = Exists.REFUSE) -> Iterator[Moved]:
        for move in moves:
            file = move.file
            missed = unfit(file) or unfit(replace(file, name=move.name))
            if missed is None:
                with self._opened(file.folder) as old, self._opened(move.folder) as new:
                    try:
                        missed = _differs(file, os.lstat(file.name, dir_fd=old))
                        if missed is None:
                            _into_place(file.name, old, move.name, new, exists)
                    except OSError as error:
                        missed = self._missed(file, error)
            yield Moved(file, missed.outcome, missed.reason) if missed else Moved(file, Outcome.DONE)

    def remove(self, files: Iterable[RemoteFile]) -> Iterator[Moved]:
        for file in files:
            missed = unfit(file)
            if missed is None:
                with self._opened(file.folder) as place:
                    try:
                        missed = _differs(file, os.lstat(file.name, dir_fd=place))
                        if missed is None:
                            os.unlink(file.name, dir_fd=place)
                    except OSError as error:
                        missed = self._missed(file, error)
            yield Moved(file, missed.outcome, missed.reason) if missed else Moved(file, Outcome.DONE)

    # ----------------------------------------------------------------------------------------- one file each

    def _fetch(self, file: RemoteFile, place: int, batch: Batch) -> Fetched | Missed:
        # Looked at before it is opened: opening a device may do something. O_NOFOLLOW and O_NONBLOCK are for a link or a FIFO
        # put there in between.
        if missed := _differs(file, os.lstat(file.name, dir_fd=place)):
            return missed
        with os.fdopen(
            os.open(file.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place), "rb", buffering=0
        ) as source:
            if missed := _differs(file, os.fstat(source.fileno())):
                return missed
            sink = batch.open(resume_key(self._address, file))
            try:
                if sink.size:
                    for held, at in ((sink.head(COMPARED), 0), (sink.tail(COMPARED), max(0, sink.size - COMPARED))):
                        if os.pread(source.fileno(), len(held), at) != held:
                            sink.restart()
                            break
                source.seek(sink.size)
                while sink.size <= file.size and (data := source.read(CHUNK)):
                    try:
                        sink.write(data)
                    except OSError as error:
                        raise SpoolError(
                            f"the spool cannot be written ({error.strerror}); {file.shown} was left alone"
                        ) from error
                opened, named = os.fstat(source.fileno()), os.lstat(file.name, dir_fd=place)
            except FileNotFoundError:
                sink.discard()
                raise
            except BaseException:
                sink.keep()
                raise
        missed = _differs(file, opened) or _differs(file, named)
        if missed is None and (sink.size != file.size or (opened.st_dev, opened.st_ino) != (named.st_dev, named.st_ino)):
            missed = Missed(file, Outcome.CHANGED, "it was replaced or written while it was read; it was left alone")
        if missed:
            sink.discard()
            return missed
        done = sink.finish()
        return Fetched(file, done.digest, done.size)

    def _put(self, file: Outgoing, wanted: RemoteFile, place: int, temporary: bytes, exists: Exists) -> Placed | Missed:
        with suppress(FileNotFoundError):
            standing = _kind(os.lstat(file.name, dir_fd=place))
            if exists is Exists.REFUSE:
                return Missed(wanted, Outcome.EXISTS, "the name is taken; nothing was overwritten")
            if standing is not FileKind.FILE:
                return Missed(wanted, Outcome.EXISTS, f"a {standing} has this name; it was not replaced")
        digest = hashlib.sha256()
        with open_source(file) as source, os.fdopen(_begun(temporary, place), "r+b", 0) as target:
            written, ours_already = 0, True
            while data := source.read(CHUNK):
                digest.update(data)
                # What a broken upload has left is read for as long as it is ours.
                if ours_already and target.read(len(data)) != data:
                    ours_already = False
                    target.seek(written)
                view = memoryview(b"" if ours_already else data)
                while view:
                    view = view[target.write(view) :]
                written += len(data)
            target.truncate(written)
            os.fsync(target.fileno())
            status = os.fstat(target.fileno())
        if digest.hexdigest() != file.digest or status.st_size != file.size:
            return Missed(
                wanted, Outcome.CHANGED, "our source does not hold the bytes of its digest (any more); nothing was placed"
            )
        _into_place(temporary, place, file.name, place, exists)
        os.fsync(place)
        return Placed(replace(wanted, modified=_modified(status)), file.digest, Proof.SIZE_ONLY)

    # ----------------------------------------------------------------------------------------- folders and errors

    @contextmanager
    def _opened(self, folder: str) -> Iterator[int]:
        """A folder below the root, opened; links on the way are not followed."""
        handle = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in folder.split("/"):
                if part in ("", "."):
                    continue
                name = os.fsencode(part)
                if not legal(name):
                    raise EndpointError(
                        f"{self._address}: the folder {shown(folder)} leads out of the root; correct the profile"
                    )
                try:
                    deeper = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
                except OSError as error:
                    raise EndpointError(
                        f"{self._address}: the folder {shown(folder)} cannot be opened ({error.strerror}); nothing was changed"
                    ) from error
                os.close(handle)
                handle = deeper
            yield handle
        finally:
            os.close(handle)

    def _missed(self, file: RemoteFile, error: OSError) -> Missed:
        """The one place where what the operating system refuses becomes an outcome, or an error that concerns all files."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise EndpointFull(f"{self._address}: no space left; nothing partial stands under a final name") from error
        if error.errno in _BROKEN:
            raise EndpointUnreachable(f"{self._address}: {error.strerror}; it will be tried again") from error
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            raise EndpointUnsuitable(
                f"{self._address}: this file system cannot rename without overwriting ({error.strerror}); agree on 'replace'"
            ) from error
        outcomes = {
            errno.ENOENT: Outcome.VANISHED,
            errno.EEXIST: Outcome.EXISTS,
            errno.ELOOP: Outcome.NOT_A_FILE,
            errno.EISDIR: Outcome.NOT_A_FILE,
        }
        return Missed(file, outcomes.get(error.errno or 0, Outcome.REFUSED), f"{error.strerror}; nothing was changed")


def _begun(temporary: bytes, place: int) -> int:
    """Open what an upload that broke off has left, or a new file. Nothing is written through a link."""
    if goes_on(temporary):
        with suppress(OSError):
            handle = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
            status = os.fstat(handle)
            if modes.S_ISREG(status.st_mode) and status.st_nlink == 1:
                return handle
            os.close(handle)
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=place)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(temporary, flags, 0o644, dir_fd=place)


def _into_place(old: bytes, old_folder: int, new: bytes, new_folder: int, exists: Exists) -> None:
    """Rename in one step. ``FileExistsError`` where the name is taken and must not be (or not by a folder or a link)."""
    if exists is Exists.REPLACE:
        with suppress(FileNotFoundError):
            if not modes.S_ISREG(os.lstat(new, dir_fd=new_folder).st_mode):
                raise FileExistsError(errno.EEXIST, "something that is not a file has this name")
        os.replace(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder)
        return
    if _libc.renameat2(old_folder, old, new_folder, new, _RENAME_NOREPLACE) == 0:
        return
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(number, os.strerror(number))
    # NFS and some others know no such flag; there a second link takes the name only if it is free.
    os.link(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder, follow_symlinks=False)
    os.unlink(old, dir_fd=old_folder)


def _modified(status: os.stat_result) -> datetime:
    return _EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)


def _kind(status: os.stat_result) -> FileKind:
    if modes.S_ISREG(status.st_mode):
        return FileKind.FILE
    if modes.S_ISDIR(status.st_mode):
        return FileKind.FOLDER
    return FileKind.LINK if modes.S_ISLNK(status.st_mode) else FileKind.OTHER


def _differs(file: RemoteFile, now: os.stat_result) -> Missed | None:
    return differs(file, _kind(now), now.st_size, _modified(now))
