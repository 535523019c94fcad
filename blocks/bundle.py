"""A bundle: files that are handed on together, as a folder or as one zip, with a manifest of every member.

Names in it are ours, never a partner's. In a zip all members are stored as they are, uncompressed, one behind the other from its first
byte to its directory: unpacked it is no larger than it is packed, whoever made it, and every program finds the same in it that we do.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import struct
import zipfile
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from uuid import uuid4

from blocks.closing import Closing
from blocks.errors import BundleBroken, ConfigurationError
from blocks.values import shown

CHUNK = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,240}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,240}){0,3}")
_MOST = 2_000_000
"""Members of a bundle that we still list."""
_LONGEST = 1024
_ALWAYS = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can tell: what is in a bundle, and not when it was written, is what counts."""


# --------------------------------------------------------------------------------------------- writing


class Written:
    """One member while it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash, self.size = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


class BundleWriter:
    """Writes a bundle beside its place, under a temporary name; it gets its own name once it is whole. Nothing is ever replaced."""

    def __init__(self, to: Path) -> None:
        """``to``: a folder that is not there yet, or a name that ends in ``.zip``. Raises ``ConfigurationError`` if it is taken."""
        if to.exists() or to.is_symlink():
            raise ConfigurationError(f"{to}: is there already, and nothing is overwritten; name another place")
        if not to.absolute().parent.is_dir():
            raise ConfigurationError(f"{to}: there is no folder {to.absolute().parent}; make it first")
        self._to, self._fresh = to, to.with_name(f".{to.name}.{uuid4().hex[:8]}.part")
        self.members: dict[str, tuple[str, int]] = {}
        """Name -> SHA-256 and size of what was written so far."""
        self._zip: zipfile.ZipFile | None = None
        if to.suffix == ".zip":
            self._file = os.fdopen(os.open(self._fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")
            self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED)
        else:
            self._fresh.mkdir(mode=0o700)

    @contextmanager
    def member(self, name: str) -> Iterator[Written]:
        """Write one member, piece by piece."""
        if not _NAME.fullmatch(name) or name in self.members:
            raise ValueError(f"{name!r}: cannot be the name of a (further) member")
        with self._open(name) as file:
            written = Written(file)
            yield written
        self.members[name] = (written.digest, written.size)

    def text(self, name: str, pieces: Iterable[str]) -> None:
        with self.member(name) as written:
            for piece in pieces:
                written.write(piece.encode())

    def copy(self, name: str, source: Path) -> str:
        """Take a file in as it is; its digest, told from what was read."""
        with self.member(name) as written, source.open("rb") as file:
            while data := file.read(CHUNK):
                written.write(data)
        return written.digest

    def _open(self, name: str) -> IO[bytes]:
        if self._zip is not None:
            about = zipfile.ZipInfo(name, _ALWAYS)
            about.external_attr = (stat.S_IFREG | 0o600) << 16
            return self._zip.open(about, "w", force_zip64=True)
        path = self._fresh / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path.open("xb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._zip is not None:
                self._zip.close()
                self._file.flush()
                os.fsync(self._file.fileno())
            if kind is None:
                self._publish()
        except OSError:
            if kind is None:
                raise  # else what went wrong before is what counts, such as a full disk
        finally:
            if self._zip is not None:
                self._file.close()
                self._fresh.unlink(missing_ok=True)
            elif self._fresh.exists():
                shutil.rmtree(self._fresh)

    def _publish(self) -> None:
        try:
            if self._zip is not None:
                os.link(self._fresh, self._to)  # unlike a rename it replaces nothing
            else:
                self._fresh.rename(self._to)  # a folder with anything in it is not replaced
        except OSError as error:
            raise ConfigurationError(
                f"{self._to}: could not be given that name ({error}); nothing was written there"
            ) from error


# --------------------------------------------------------------------------------------------- reading


class Bundle(Closing):
    """A bundle that somebody gave us: nothing in it is believed."""

    @property
    @abstractmethod
    def sizes(self) -> dict[str, int]:
        """Name -> size in bytes of every member. Every name is one that we would give."""

    @abstractmethod
    def open(self, name: str) -> IO[bytes]:
        """A member, to be read. Raises ``BundleBroken``."""

    def chunks(self, name: str) -> Iterator[bytes]:
        """A member's bytes, piece by piece. Raises ``BundleBroken`` if they cannot be read to the end."""
        with _readable(name), self.open(name) as file:
            while data := file.read(CHUNK):
                yield data

    def lines(self, name: str, most: int) -> Iterator[bytes]:
        """A member's lines, without their ends. Raises ``BundleBroken`` for one of more than ``most`` bytes, or without an end."""
        with _readable(name), self.open(name) as file:
            while line := file.readline(most + 1):
                if not line.endswith(b"\n"):
                    raise BundleBroken(name, f"a line is longer than {most:,} bytes, or has no end")
                yield line[:-1]

    def text(self, name: str, most: int) -> str:
        """A member's text, in ASCII or with its bytes escaped. Raises ``BundleBroken`` if it is larger than ``most`` bytes."""
        if self.sizes[name] > most:
            raise BundleBroken(name, f"it has {self.sizes[name]:,} bytes; more than {most:,} are not read")
        return b"".join(self.chunks(name)).decode("utf-8", "surrogateescape")

    @abstractmethod
    def close(self) -> None: ...


@contextmanager
def open_bundle(path: Path) -> Iterator[Bundle]:
    """A folder or a zip. Raises ``BundleBroken`` for what cannot be one of ours."""
    bundle: Bundle = _Folder(path) if path.is_dir() else _Zip(path)
    with bundle:
        yield bundle


class _Folder(Bundle):
    def __init__(self, root: Path) -> None:
        self._root = root
        self._sizes = dict(self._walk(root, ""))

    def _walk(self, folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise BundleBroken(prefix or "bundle", f"cannot be read ({error.strerror})") from error
        for entry in entries:
            name = prefix + entry.name
            if not _NAME.fullmatch(name):
                raise BundleBroken(_short(name), "no bundle has a member of such a name")
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(Path(entry.path), f"{name}/")
            elif entry.is_file(follow_symlinks=False):
                yield name, entry.stat(follow_symlinks=False).st_size
            else:
                raise BundleBroken(name, "is no plain file (a link?), and a bundle has nothing else")

    @property
    def sizes(self) -> dict[str, int]:
        return self._sizes

    def open(self, name: str) -> IO[bytes]:
        return (self._root / name).open("rb")

    def close(self) -> None:
        """Nothing is open."""


class _Zip(Bundle):
    def __init__(self, path: Path) -> None:
        with _readable("bundle"):
            self._zip = zipfile.ZipFile(path)
        try:
            self._members = self._listed(path.stat().st_size)
            with _readable("bundle"), path.open("rb") as file:
                self._nothing_else(file, path.stat().st_size)
            self._sizes = {name: member.file_size for name, member in self._members.items()}
        except BaseException:
            self._zip.close()
            raise

    def _listed(self, most: int) -> dict[str, zipfile.ZipInfo]:
        found: dict[str, zipfile.ZipInfo] = {}
        for member in self._zip.infolist():
            name, mode = member.orig_filename, member.external_attr >> 16
            if not _NAME.fullmatch(name):
                raise BundleBroken(_short(name), "no bundle has a member of such a name")
            if name in found:
                raise BundleBroken(name, "is in it twice")
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size or member.flag_bits & 1:
                raise BundleBroken(name, "is compressed or encrypted, which nothing in a bundle is")
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise BundleBroken(name, "is no plain file (a link?), and a bundle has nothing else")
            found[name] = member
            most -= member.file_size
            if most < 0 or len(found) > _MOST:
                raise BundleBroken(name, "the zip says that more is in it than can be")
            if member.comment or not _only_sizes(member.extra):
                raise BundleBroken(name, "the zip says more about it than its name and size, which could give it another name")
        return found

    def _nothing_else(self, file: IO[bytes], size: int) -> None:
        """Members stand one behind the other from the first byte on, then the directory, then its end: what we read is all there is.

        Programs differ in which of a zip's places they believe (local headers, directory, end), so all must say the same.
        Raises ``BundleBroken``.
        """
        at = 0
        for member in sorted(self._members.values(), key=lambda one: one.header_offset):
            if member.header_offset != at:
                raise BundleBroken(
                    member.filename, "something stands before it in the zip that the zip's directory does not tell"
                )
            file.seek(at)
            _, *told, crc, packed, plain, named, more = _LOCAL.unpack(file.read(_LOCAL.size))
            name, extra = file.read(named), file.read(more)
            sizes = _ZIP64.unpack(extra)[2:] if len(extra) == _ZIP64.size and _MOST_32 in (packed, plain) else (plain, packed)
            same = name == member.orig_filename.encode() and crc == member.CRC and set(sizes) == {member.file_size}
            if not (same and _only_sizes(extra) and told[1] == member.flag_bits and told[1] & ~_UTF8 == 0 and told[2] == 0):
                raise BundleBroken(member.filename, "its own header says something else than the zip's directory")
            at += _LOCAL.size + named + more + member.file_size
        count, length, start, end = _directory(file, size)
        if (count, start, start + length) != (len(self._members), at, end) or self._zip.start_dir != at:
            raise BundleBroken("bundle", "something stands in the zip beside its members and its directory")

    @property
    def sizes(self) -> dict[str, int]:
        return self._sizes

    def open(self, name: str) -> IO[bytes]:
        return self._zip.open(self._members[name])

    def close(self) -> None:
        self._zip.close()


_LOCAL = struct.Struct("<4s5HIIIHH")
_END = struct.Struct("<4s4HIIH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_ZIP64 = struct.Struct("<2H2Q")
"""Of PKWARE's APPNOTE.TXT 4.3.7, 4.3.16, 4.3.14, 4.3.15 and 4.5.3 (in a local header: both sizes)."""
_MOST_32, _UTF8 = 0xFFFFFFFF, 0x800


def _directory(file: IO[bytes], size: int) -> tuple[int, int, int, int]:
    """What the end of a zip says of its directory (members, bytes, place), and where the directory must end."""
    file.seek(max(0, size - _END.size))
    sign, *disks, here, count, length, start, comment = _END.unpack(file.read(_END.size))
    end = size - _END.size
    if sign != b"PK\5\6" or any(disks) or here != count or comment:
        raise BundleBroken("bundle", "its end is not that of a zip of ours: it has a comment, or is one of several")
    place = end - _LOCATOR.size
    file.seek(max(0, place))
    locator = file.read(_LOCATOR.size)
    if not locator.startswith(b"PK\6\7"):
        return count, length, start, end
    _, disk, at, whole = _LOCATOR.unpack(locator)
    file.seek(max(0, place - _END64.size))
    sign, rest, _, _, *both, here64, count64, length64, start64 = _END64.unpack(file.read(_END64.size))
    wide = (count64, length64, start64)
    agree = all(
        one in (other, most)
        for one, other, most in zip((count, length, start), wide, (0xFFFF, _MOST_32, _MOST_32), strict=True)
    )
    if (sign, rest, disk, at, whole, here64) != (b"PK\6\6", 44, 0, place - _END64.size, 1, count64) or any(both) or not agree:
        raise BundleBroken("bundle", "its two ends do not say the same")
    return *wide, at


def _only_sizes(extra: bytes) -> bool:
    """True if what a zip adds to a member is nothing, or large sizes (zip64)."""
    return not extra or (len(extra) >= 4 and struct.unpack("<2H", extra[:4]) == (1, len(extra) - 4))


_UNREADABLE: tuple[type[Exception], ...] = (
    zipfile.BadZipFile, zipfile.LargeZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError, OverflowError,
    struct.error,
)  # fmt: skip
"""What ``zipfile`` raises for files that are none, or damaged ones."""


@contextmanager
def _readable(what: str) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise BundleBroken(what, f"cannot be read: {shown(str(error))[:300]}") from error


def _short(name: Any) -> str:
    return shown(str(name)[:200])
