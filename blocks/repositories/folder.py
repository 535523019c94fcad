"""A plain folder as a repository: for a first try, for tests, and for firms whose archive is a file share.

::

    <root>/<folder>/<name>                                    the newest version, readable to anybody who may read the share
    <root>/.countersign/records/<folder>/<name>/record.json   versions, values, class, access, history
    <root>/.countersign/records/<folder>/<name>/<n>           the bytes of version n (the newest shares them with the name above)
    <root>/.countersign/lock, incoming/

The record is the truth; it is replaced in one step, after the bytes are safe on disk and before the name above points to them.
A crash in between leaves what was, or is completed when the same journey is filed again. Filing takes a lock file, so that
several processes on one machine (or on a share that keeps POSIX locks) can work in the same folder.

What a folder cannot do, it records: category values are kept as given (there is no definition that could refuse them), class,
retention and access are written down and not enforced, and names that differ in case are different names. Legal holds are kept:
what is on hold is not removed by us.

An id is the path below the root. A name that a file system cannot hold (``/``, more than 255 bytes, ``.countersign``) is fitted
as told in ``naming``; the original name stands in the record. A file that a person put there is a document of one version.
"""

from __future__ import annotations

import errno
import fcntl
import getpass
import json
import os
import shutil
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG
from typing import Any, ClassVar
from uuid import uuid4

from pydantic import Field

from blocks.errors import (
    DocumentChanged,
    DocumentMissing,
    EditConflict,
    OnHold,
    RepositoryError,
    RepositoryUnreachable,
    SpoolCorrupt,
    SpoolMissing,
)
from blocks.repositories.base import Repository, RepositorySession
from blocks.repositories.naming import beside, fitted
from blocks.spool import CHUNK, Batch, Spooled
from blocks.values import Collision, Filed, Filing, HistoryEvent, Hold, Kept, NotFiled

OURS = ".countersign"
LONGEST_NAME_BYTES = 255 - len("record.json")
"""Room for a suffix of ours in the file system's 255."""
SEARCHED_BYTES = 1024 * 1024
ABANDONED_SECONDS = 24 * 3600
_RECORD_BYTES = 16 * 1024
"""Of a record, which is seldom longer, in one read."""

Record = dict[str, Any]


def _length(text: str) -> int:
    return len(os.fsencode(text))


def kept_name(name: str) -> str:
    """``name`` as one path segment (see ``naming``)."""
    return fitted(name, forbidden="/\\", length=_length, most=LONGEST_NAME_BYTES, reserved=_reserved)


def _reserved(name: str) -> bool:
    return name in (".", "..") or name.startswith(OURS)


class FolderRepository(Repository):
    """A folder that keeps documents with their versions and what is known about them."""

    _block_type_name = "Folder Repository"

    kind: ClassVar[str] = "folder"

    path: Path = Field(description="The folder. It must exist: a share that is not mounted must not be filled by accident")

    @property
    def address(self) -> str:
        return f"folder {self.path}"

    def session(self) -> FolderSession:
        if not self.path.is_dir():
            raise RepositoryUnreachable(f"{self.address}: is not there; mount or create it, nothing was filed")
        return FolderSession(self.path, self.timeout_seconds)


@dataclass(frozen=True, slots=True)
class _Standing:
    """What an id means, by one look at it."""

    id: str
    path: tuple[str, ...]
    record: Record | None
    """None for a folder, and for the rest of a document whose removal broke off."""
    filed: bool
    """The record is ours, and not made up for a person's file."""


class FolderSession(RepositorySession):
    def __init__(self, root: Path, timeout_seconds: float) -> None:
        self._root, self._timeout_seconds = root, timeout_seconds
        self._records, self._incoming = root / OURS / "records", root / OURS / "incoming"
        with _translated(str(root)):
            self._records.mkdir(parents=True, exist_ok=True)
            self._incoming.mkdir(exist_ok=True)
            for left in self._incoming.iterdir():  # by a process that was killed
                with suppress(FileNotFoundError):
                    if left.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                        shutil.rmtree(left) if left.is_dir() else left.unlink()

    def close(self) -> None:
        """Nothing is held between calls."""

    # ------------------------------------------------------------------------------------------------- filing

    def file(self, filings: Iterable[Filing]) -> Iterator[Filed | NotFiled]:
        for filing in filings:
            if filing.workspace is not None:
                yield NotFiled(filing.journey, "no-workspaces", "a folder repository keeps no business workspaces")
                continue
            with _translated(f"{filing.name!r} in {self._root}"):
                arrived = self._take_in(filing)
                try:
                    with self._lock():
                        answer = self._keep(filing, arrived)
                finally:
                    arrived.unlink(missing_ok=True)
            yield answer

    def _take_in(self, filing: Filing) -> Path:
        """The bytes on the repository's own file system, counted, hashed and synced."""
        place, digest, size = self._incoming / uuid4().hex, sha256(), 0
        try:
            source = filing.path.open("rb")
        except FileNotFoundError as error:
            raise SpoolMissing(f"{filing.path}: gone before it was filed as {filing.name!r}; fetch it again") from error
        with source, place.open("xb") as copy:
            while piece := source.read(CHUNK):
                digest.update(piece)
                size += len(piece)
                copy.write(piece)
            copy.flush()
            os.fsync(copy.fileno())
        if size != filing.size or digest.hexdigest() != filing.digest:
            place.unlink()
            raise SpoolCorrupt(
                f"{filing.path}: {size} bytes with digest {digest.hexdigest()[:16]}…, promised were {filing.size} with "
                f"{filing.digest[:16]}…; {filing.name!r} was not filed, fetch it again"
            )
        place.chmod(0o640)
        return place

    def _keep_as_version(self, id: str, filing: Filing, arrived: Path) -> Filed | NotFiled:
        try:
            path = self._path(id)
        except DocumentMissing as error:
            return NotFiled(filing.journey, "document-missing", str(error))
        record = self._record(path)
        if record is None:
            return NotFiled(filing.journey, "document-missing", f"{id!r} in {self._root} is no document; nothing was filed")
        number = next((held["number"] for held in record["versions"] if held["identity"] == filing.journey), None)
        if number is None:
            return self._add(path, record, filing, arrived)
        self._show(path, record)
        return Filed(filing.journey, id, number, path[-1], filing.folder)

    def _keep(self, filing: Filing, arrived: Path) -> Filed | NotFiled:
        if filing.document is not None:
            return self._keep_as_version(filing.document, filing, arrived)
        folder = tuple(kept_name(part) for part in filing.folder)
        name = kept_name(filing.name)
        for depth in range(1, len(folder) + 1):
            if self._root.joinpath(*folder[:depth]).is_file():
                taken = "/".join(folder[:depth])
                return NotFiled(filing.journey, "folder-name-taken", f"{taken!r} is a document in {self._root}, not a folder")
        other = beside(name, filing.digest, length=_length, most=LONGEST_NAME_BYTES)
        names = (name, other) if filing.collision is Collision.KEEP_BOTH else (name,)
        for candidate in names:
            self._finish_removal((*folder, candidate))
            record = self._record((*folder, candidate))
            number = (
                next((held["number"] for held in record["versions"] if held["identity"] == filing.journey), None)
                if record
                else None
            )
            if record and number:
                self._show((*folder, candidate), record)
                return Filed(filing.journey, "/".join((*folder, candidate)), number, candidate, filing.folder)
        for candidate in names:
            path = (*folder, candidate)
            if self._root.joinpath(*path).is_dir():
                continue
            record = self._record(path)
            if record is None or filing.collision is Collision.NEW_VERSION:
                return self._add(path, record, filing, arrived)
        where = "/".join((*folder, name))
        return NotFiled(filing.journey, "name-taken", f"{where!r} is taken in {self._root}; nothing was replaced")

    def _add(self, path: tuple[str, ...], record: Record | None, filing: Filing, arrived: Path) -> Filed:
        place, now = self._records.joinpath(*path), datetime.now(UTC).isoformat(timespec="seconds")
        _make_folders(place)
        if record is None:
            record = {"original_name": filing.name, "versions": [], "history": []}
        elif not (place / "record.json").exists():  # a person's file becomes version 1
            _link(self._root.joinpath(*path), place / "1", self._incoming)
        number = max((held["number"] for held in record["versions"]), default=0) + 1
        arrived.replace(place / str(number))
        _sync(place)
        record["versions"].append(
            {
                "number": number,
                "identity": filing.journey,
                "digest": filing.digest,
                "size": filing.size,
                "media_type": filing.media_type,
                "filed": now,
                "modified": None if filing.modified is None else filing.modified.astimezone(UTC).isoformat(),
            }
        )
        record["categories"] = {
            **record.get("categories", {}),
            **{name: dict(values) for name, values in filing.categories.items()},
        }
        record["records_class"] = filing.records_class or record.get("records_class")
        for key, told in (("record_date", filing.record_date), ("keep_until", filing.keep_until)):
            record[key] = told.isoformat() if told else record.get(key)
        record["schedule"] = filing.schedule or record.get("schedule")
        if filing.access:
            record["access"] = [grant.model_dump(mode="json") for grant in filing.access]
        event = "Create" if number == 1 else "Add Version"
        record["history"].append({"at": now, "event": event, "user": getpass.getuser()})
        self._write(place / "record.json", record)
        self._show(path, record)
        return Filed(filing.journey, "/".join(path), number, path[-1], filing.folder)

    def _show(self, path: tuple[str, ...], record: Record) -> None:
        """Let the document's name mean its newest version."""
        if self._shows(path, record):
            return
        shown = self._root.joinpath(*path)
        _make_folders(shown.parent)
        _link(self._newest(path, record), shown, self._incoming)
        _sync(shown.parent)

    def _shows(self, path: tuple[str, ...], record: Record) -> bool:
        """True if the document's name means its newest version already."""
        shown, newest = self._root.joinpath(*path), self._newest(path, record)
        if not shown.exists():
            return False
        return shown.samefile(newest) or _digest(shown) == (record["versions"][-1]["digest"] or _digest(newest))

    def _newest(self, path: tuple[str, ...], record: Record) -> Path:
        return self._records.joinpath(*path, str(record["versions"][-1]["number"]))

    def _write(self, place: Path, record: Record) -> None:
        written = self._incoming / uuid4().hex
        with written.open("x", encoding="utf-8") as file:
            # surrogates of names that are no UTF-8 survive as escapes
            json.dump(record, file, indent=1, ensure_ascii=True)
            file.flush()
            os.fsync(file.fileno())
        written.replace(place)
        _sync(place.parent)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One filing at a time, between processes too. Released by the system when its holder dies."""
        handle = os.open(self._root / OURS / "lock", os.O_RDWR | os.O_CREAT, 0o640)
        try:
            limit = time.monotonic() + self._timeout_seconds
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > limit:
                        raise RepositoryUnreachable(
                            f"{self._root}: its lock was held for {self._timeout_seconds} s by another process; try again later"
                        ) from error
                    time.sleep(0.005)
            yield
        finally:
            os.close(handle)

    # ------------------------------------------------------------------------------------------------- reading

    def find(self, folder: tuple[str, ...], name: str) -> Kept | None:
        path = (*(kept_name(part) for part in folder), kept_name(name))
        return self._kept(path) if self._root.joinpath(*path).exists() else None

    def look(self, folder: tuple[str, ...]) -> Iterator[Kept]:
        path = tuple(kept_name(part) for part in folder)
        place = self._root.joinpath(*path)
        if not place.is_dir():
            raise DocumentMissing(f"folder {'/'.join(folder)!r} in {self._root}: there is none")
        with os.scandir(place) as entries:
            for entry in entries:
                if not (entry.name.startswith(OURS) or entry.is_symlink()) and (kept := self._kept((*path, entry.name))):
                    yield kept

    def get(self, id: str) -> Kept:
        return self._described(self._standing(id))

    def filed_by(self, id: str) -> tuple[str | None, ...]:
        record = self._record(self._path(id))
        return () if record is None else tuple(held["identity"] for held in record["versions"])

    def search(self, *, name: str | None = None, text: str | None = None) -> Iterator[Kept]:
        words = [word.encode() for word in (text or "").casefold().split()]
        if not (name or words):
            return
        for base, folders, files in os.walk(self._root):
            folders[:] = sorted(folder for folder in folders if not folder.startswith(OURS))
            for file in sorted(files):
                path = (*Path(base).relative_to(self._root).parts, file)
                if name and name.casefold() not in file.casefold():
                    continue
                if (not words or self._says(path, words)) and (kept := self._kept(path)):
                    yield kept

    def _says(self, path: tuple[str, ...], words: list[bytes]) -> bool:
        """True if all words are in the name, the values or the first MiB of the content."""
        record = self._record(path) or {}
        with self._root.joinpath(*path).open("rb") as content:
            begin = content.read(SEARCHED_BYTES).decode("utf-8", "replace")
        values = json.dumps(record.get("categories", {}), ensure_ascii=False)
        said = "\n".join((path[-1], values, begin)).casefold().encode("utf-8", "replace")
        return all(word in said for word in words)

    def fetch(self, id: str, version: int | None, into: Batch) -> Spooled:
        return self._read(self._standing(id), version, into)

    def examine(self, id: str, version: int, into: Batch) -> tuple[Kept, Spooled]:
        standing = self._standing(id)
        return self._described(standing), self._read(standing, version, into)

    def _described(self, standing: _Standing) -> Kept:
        kept = self._told(standing.path, standing.record)
        if kept is None:
            raise DocumentMissing(f"{standing.id!r} in {self._root}: there is no such document")
        return kept

    def _read(self, standing: _Standing, version: int | None, into: Batch) -> Spooled:
        where, record = f"{standing.id!r} in {self._root}", standing.record
        if record is None:
            raise DocumentMissing(f"{where}: there is no such document")
        held = (
            record["versions"][-1] if version is None else next((v for v in record["versions"] if v["number"] == version), None)
        )
        if held is None:
            raise DocumentMissing(f"{where}: has no version {version}")
        place = _below(self._records, (*standing.path, str(held["number"])))
        if not standing.filed or _status(place) is None:
            place = _below(self._root, standing.path)
        at_once = min(CHUNK, held["size"] + 1)  # to get a whole MiB from the system takes longer than a small document does
        file = into.open()
        try:
            with _translated(where):
                source = _opened(place)
                try:
                    # Once more has come than was announced, the rest changes nothing: a person may be copying it in just now.
                    while file.size <= held["size"] and (piece := os.read(source, at_once)):
                        file.write(piece)
                finally:
                    os.close(source)
        except BaseException:
            file.discard()
            raise
        spooled = file.finish()
        if spooled.size != held["size"] or held["digest"] not in (None, spooled.digest):
            raise DocumentChanged(f"{where}: other bytes than were filed; somebody changed them, restore from a backup")
        return spooled

    def history(self, id: str) -> Iterator[HistoryEvent]:
        record = self._record(self._path(id))
        if record is None:
            raise DocumentMissing(f"{id!r} in {self._root}: there is no such document")
        for event in reversed(record["history"]):
            yield HistoryEvent(datetime.fromisoformat(event["at"]), event["event"], event["user"])

    # ------------------------------------------------------------------------------------------------- holds and removal

    def holds(self, id: str) -> tuple[Hold, ...]:
        with _translated(f"{id!r} in {self._root}"):
            record = self._document(id)[1]
        return tuple(
            Hold(held["name"], datetime.fromisoformat(held["since"]), held["comment"]) for held in record.get("holds", [])
        )

    def holds_of(self, ids: Iterable[str]) -> Generator[tuple[Hold, ...] | RepositoryError]:
        yield from map(self._holds_told, ids)  # files of this machine: several at the same time would only wait for each other

    def apply_hold(self, id: str, name: str, comment: str = "") -> None:
        with _translated(f"{id!r} in {self._root}"), self._lock():
            self._finish_removal(self._parts(id))
            path, record = self._document(id)
            held = record.setdefault("holds", [])
            if any(one["name"] == name for one in held):
                return
            now = datetime.now(UTC).isoformat(timespec="seconds")
            held.append({"name": name, "since": now, "comment": comment})
            place = self._records.joinpath(*path)
            if not (place / "record.json").exists():  # a person's file becomes version 1
                _make_folders(place)
                _link(self._root.joinpath(*path), place / "1", self._incoming)
            self._note(place, record, f"Hold {name!r} applied")

    def lift_hold(self, id: str, name: str) -> None:
        with _translated(f"{id!r} in {self._root}"), self._lock():
            path, record = self._document(id)
            left = [one for one in record.get("holds", []) if one["name"] != name]
            if left != record.get("holds", []):
                record["holds"] = left
                self._note(self._records.joinpath(*path), record, f"Hold {name!r} lifted")

    def remove(self, id: str, made_by: Sequence[str | None] | None = None) -> None:
        with _translated(f"{id!r} in {self._root}"), self._lock():
            if self._finish_removal(self._parts(id)):
                return
            path, record = self._document(id)
            if held := record.get("holds"):
                raise OnHold(f"{id!r} in {self._root}: is on hold ({held[0]['name']}); nothing was removed")
            if made_by is not None and [one["identity"] for one in record["versions"]] != list(made_by):
                raise EditConflict(f"{id!r} in {self._root}: another version has come meanwhile; nothing was removed")
            if self._written(path) is None:  # a person's file, of which we know nothing
                self._root.joinpath(*path).unlink()
                _sync(self._root.joinpath(*path).parent)
                return
            # Said first: whoever comes after a crash goes on with it, and takes what is left of the document for no person's file.
            record["removed"] = True
            self._note(self._records.joinpath(*path), record, "Delete")
            self._finish_removal(path)

    def was_removed(self, id: str, since: datetime) -> bool:
        """Nothing is hidden in a folder: what does not stand there was removed."""
        try:
            self.let_stand(id)
        except DocumentMissing:
            return True
        return False

    def let_stand(self, id: str) -> None:
        with _translated(f"{id!r} in {self._root}"), self._lock():
            if not self._finish_removal(self._parts(id)):  # a person's file may stand where it was
                self._document(id)
                return
        raise DocumentMissing(f"{id!r} in {self._root}: was removed")

    def _finish_removal(self, path: tuple[str, ...]) -> bool:
        """Take away what is marked as removed; False for anything else. A file that a person has put there since stays."""
        record = self._written(path)
        if record is None or not record.get("removed"):
            return False
        shown, place, gone = self._root.joinpath(*path), self._records.joinpath(*path), self._incoming / uuid4().hex
        if self._shows(path, record):
            shown.unlink()
            _sync(shown.parent)
        os.utime(place)  # other sessions sweep up what is old where it goes
        place.replace(gone)
        _sync(place.parent)
        shutil.rmtree(gone)
        return True

    def _document(self, id: str) -> tuple[tuple[str, ...], Record]:
        path = self._path(id)
        record = self._record(path)
        if record is None:
            raise DocumentMissing(f"{id!r} in {self._root}: there is no such document")
        return path, record

    def _note(self, place: Path, record: Record, event: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        record["history"].append({"at": now, "event": event, "user": getpass.getuser()})
        self._write(place / "record.json", record)

    # ------------------------------------------------------------------------------------------------- small things

    def _path(self, id: str) -> tuple[str, ...]:
        """The path that an id is, of what stands there."""
        path = self._parts(id)
        if _status(_below(self._root, path)) is None:
            raise DocumentMissing(f"{id!r} in {self._root}: there is no such document")
        return path

    def _parts(self, id: str) -> tuple[str, ...]:
        """The path that an id is. Anything that could lead elsewhere is no id."""
        path = tuple(id.split("/"))
        if "\0" in id or not all(path) or any(map(_reserved, path)):
            raise DocumentMissing(f"{id!r} in {self._root}: there is no such document")
        return path

    def _standing(self, id: str) -> _Standing:
        """What an id means now. Raises ``DocumentMissing`` where nothing stands there."""
        path = self._parts(id)
        written = self._written(path)
        if written and written.get("removed"):
            with _translated(f"{id!r} in {self._root}"), self._lock():
                self._finish_removal(path)  # who asks before removing it hears that it is gone, and asks no more
            written = self._written(path)
        status = _status(_below(self._root, path))
        if status is None:
            raise DocumentMissing(f"{id!r} in {self._root}: there is no such document")
        record = self._known(path, written, status)
        return _Standing(id, path, record, written is not None and record is written)

    def _record(self, path: tuple[str, ...]) -> Record | None:
        """What is known about a document; a made-up record for a person's file; None where there is nothing."""
        return self._known(path, self._written(path))

    def _known(self, path: tuple[str, ...], record: Record | None, status: os.stat_result | None = None) -> Record | None:
        """The same, of a record that was read already. ``status``: of what stands there, where that was asked already."""
        if record is not None and not record.get("removed"):
            return record
        status = status or _status(_below(self._root, path))
        if status is None or not S_ISREG(status.st_mode) or (record is not None and self._shows(path, record)):
            return None
        filed = datetime.fromtimestamp(status.st_mtime, UTC).isoformat(timespec="seconds")
        version = {"number": 1, "identity": None, "digest": None, "size": status.st_size, "media_type": "", "filed": filed}
        return {"original_name": path[-1], "versions": [version | {"modified": None}], "history": [], "categories": {}}

    def _written(self, path: tuple[str, ...]) -> Record | None:
        """The record as it was written, also of a document whose removal broke off; None for a person's file, and where there is none."""
        place = _below(self._records, (*path, "record.json"))
        try:
            record: Record = json.loads(_content(place))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise RepositoryError(
                f"{place}: is not readable as a record; restore it from a backup, nothing was changed"
            ) from error
        return record

    def _kept(self, path: tuple[str, ...]) -> Kept | None:
        """What stands at a path; None where that is but the rest of a document whose removal broke off."""
        return self._told(path, self._record(path))

    def _told(self, path: tuple[str, ...], record: Record | None) -> Kept | None:
        """The same, by a record that is known already."""
        if record is None:
            status = self._root.joinpath(*path).stat()
            modified = datetime.fromtimestamp(status.st_mtime, UTC)
            return Kept("/".join(path), path[-1], True, 0, 0, "", modified) if self._root.joinpath(*path).is_dir() else None
        newest = record["versions"][-1]
        return Kept(
            id="/".join(path),
            name=path[-1],
            container=False,
            size=newest["size"],
            version=newest["number"],
            media_type=newest["media_type"],
            modified=datetime.fromisoformat(newest["filed"]),
            identity=newest["identity"],
            categories=record["categories"],
        )


def _below(base: Path, path: tuple[str, ...]) -> str:
    """Where something stands, in plain text: to make a ``Path`` costs several times what the system call does that it is for."""
    return "/".join((str(base), *path))


def _status(place: str) -> os.stat_result | None:
    """What stands there; None where nothing can. Any other trouble, as with a share that is away, is an error: it is not gone."""
    try:
        return os.stat(place)  # noqa: PTH116 - see _below
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
    except ValueError:  # no file system can have such a name
        pass
    return None


def _opened(place: str) -> int:
    """To be read with the system's own calls: a file object takes two or three times as long as they do for a small document."""
    return os.open(place, os.O_RDONLY | os.O_CLOEXEC)


def _content(place: str) -> bytes:
    """All bytes of a record."""
    source = _opened(place)
    try:
        return b"".join(iter(lambda: os.read(source, _RECORD_BYTES), b""))
    finally:
        os.close(source)


@contextmanager
def _translated(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ESTALE, errno.EIO, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN):
            raise RepositoryUnreachable(f"{where}: {error.strerror}; the share is away, it is safe to try again") from error
        raise RepositoryError(
            f"{where}: {error.strerror} ({error.filename}); what was complete is kept, nothing is half filed"
        ) from error


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as source:
        while piece := source.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def _link(source: Path, place: Path, incoming: Path) -> None:
    """Put the bytes of ``source`` at ``place`` in one step; shared with it where the file system can."""
    step = incoming / uuid4().hex
    try:
        os.link(source, step)
    except OSError:
        shutil.copyfile(source, step)
        _sync(step)
    step.replace(place)


def _make_folders(folder: Path) -> None:
    missing = [folder]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        _sync(made.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
