"""What FTP servers answer when asked for a folder or a file: MLSD facts, LIST lines of many minds, NLST names. Pure functions.

A line that nobody can read is ``Odd``: it is counted and shown, the rest of the folder goes on, and it never becomes a file.
The times in LIST lines are read past: they are of minute precision in a zone nobody tells, often without a year.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from blocks.values import FileKind

LONGEST_LINE = 16 * 1024
"""No honest line is longer: names end at 255 bytes on most systems, and at a few thousand anywhere."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a server tells about one name. What it does not tell is None."""

    name: bytes
    kind: FileKind | None
    size: int | None
    modified: datetime | None
    unique: bytes = b""
    """Two entries with different words here are different files, whatever else is equal (RFC 3659)."""


@dataclass(frozen=True, slots=True)
class Odd:
    """A line that is no entry, or half of one."""

    line: bytes


Parse = Callable[[bytes], Entry | None]
"""Reads one line without its end. None for what is no entry on purpose ("total 12", "."); raises ``ValueError`` if it is odd."""


def entries(lines: Iterable[bytes], parse: Parse) -> Iterator[tuple[Entry | Odd, bool]]:
    """The entries of a listing in its order. True beside an entry that may be the first half of a name with a line break.

    ``lines`` keep their ends. Such a half looks like a whole entry, with a name that does not exist: only asking can tell.
    """
    waiting: Entry | None = None
    with_return = False
    for line in lines:
        with_return = with_return or line.endswith(b"\r\n")
        # Where lines end with CR LF, one that ends with LF alone was broken by a name.
        broken = with_return and not line.endswith(b"\r\n")
        try:
            entry = parse(line.rstrip(b"\n").removesuffix(b"\r"))
        except ValueError:
            if waiting is not None:
                yield waiting, True
                waiting = None
            yield Odd(line.rstrip(b"\r\n")), False
            continue
        if waiting is not None:
            yield waiting, False
        waiting = entry
        if broken and entry is not None:
            yield entry, True
            waiting = None
    if waiting is not None:
        yield waiting, False


# --------------------------------------------------------------------------------------------- MLSD and MLST

_NOT_ENTRIES = (b"cdir", b"pdir")


def mlsd_line(line: bytes) -> Entry | None:
    """``type=file;size=156;modify=20261121155301; name`` (RFC 3659). The name is everything behind the first blank."""
    facts, blank, name = line.partition(b" ")
    told: dict[bytes, bytes] = {}
    for fact in facts.split(b";"):
        key, equals, value = fact.partition(b"=")
        if equals:
            told[key.lower()] = value
        elif fact:
            raise ValueError("neither facts nor a name")
    if not blank or not facts.endswith(b";"):
        raise ValueError("no facts before the name")
    kind = told.get(b"type", b"").lower()
    if kind in _NOT_ENTRIES or (not kind and name in (b".", b"..")):
        return None
    size = told.get(b"size", b"")
    return Entry(
        name,
        _kind_of_fact(kind),
        int(size) if size.isdigit() else None,
        timestamp(told.get(b"modify", b"")),
        told.get(b"unique", b""),
    )


def mlst_answer(lines: Iterable[bytes]) -> Entry | None:
    """The entry in the answer to MLST: the line that begins with a blank. None if there is none."""
    for line in lines:
        if line[:1] == b" ":
            try:
                return mlsd_line(line[1:])
            except ValueError:
                continue
    return None


def _kind_of_fact(kind: bytes) -> FileKind | None:
    if kind in (b"file", b"dir"):
        return FileKind.FILE if kind == b"file" else FileKind.FOLDER
    if kind.startswith((b"os.unix=slink", b"os.unix=symlink")):
        return FileKind.LINK
    return FileKind.OTHER if kind else None


def timestamp(text: bytes) -> datetime | None:
    """``20261121155301`` or ``20261121155301.123``, always UTC; None for anything else."""
    found = re.fullmatch(rb"(\d{14})(?:\.(\d{1,6})\d*)?", text.strip())
    if not found:
        return None
    try:
        # strptime would take longer than the question.
        at = found[1]
        parts = (int(at[:4]), int(at[4:6]), int(at[6:8]), int(at[8:10]), int(at[10:12]), int(at[12:]))
        whole = datetime(*parts, tzinfo=UTC)
    except ValueError:
        return None
    return whole + timedelta(microseconds=int((found[2] or b"0").ljust(6, b"0")))


# --------------------------------------------------------------------------------------------- LIST

_UNIX = re.compile(
    rb"""
    (?P<kind>[-dlbcpsDC]) [-rwxsStTlL]{9} [+.@]? \s+
    .*? \s*                                                    # links, owner, group: any of them may be missing or hold blanks
    (?<!\S) (?P<size> \d+ | \d+,\s*\d+ ) \s+
    (?: \d{4}-\d\d-\d\d \s \d\d:\d\d                           # 2026-11-21 15:53
      | [^\s\d]{3,9}\.? \s+ \d{1,2}\.? \s+ (?: \d{4} | \d{1,2}:\d\d )    # Nov 21 15:53, Mai  1 2025: months of any language
      | \d{1,2}\.? \s+ [^\s\d]{3,9}\.? \s+ (?: \d{4} | \d{1,2}:\d\d ) )  # 21. Nov 15:53
    \s (?P<name> .* )                                          # one blank; further ones belong to the name
    """,
    re.VERBOSE | re.DOTALL,
)
_DOS = re.compile(
    rb"""
    (?: \d\d[-/.]\d\d[-/.]\d\d(?:\d\d)? | \d{4}[-/.]\d\d[-/.]\d\d ) \s+ \d\d:\d\d (?: \s?[AaPp][Mm] )? \s+
    (?: (?P<folder> <DIR> ) \x20{1,10} | (?P<link> <(?:JUNCTION|SYMLINKD?)> ) \x20{1,5} | (?P<size> \d[\d.,]* ) \x20 )
    (?P<name> .* )
    """,
    re.VERBOSE | re.DOTALL,
)


def list_form(line: bytes) -> str | None:
    """Whose lines look like this one: ``Unix`` or ``DOS``; None where it is neither."""
    line = line.rstrip(b"\r\n")
    return "Unix" if _UNIX.fullmatch(line) else "DOS" if _DOS.fullmatch(line) else None


def list_line(line: bytes) -> Entry | None:
    """A line of LIST as Unix or DOS servers write it. Times are not read: ask MDTM."""
    if not line.strip() or re.fullmatch(rb"total \d+\s*", line):
        return None
    if found := _UNIX.fullmatch(line):
        kind = {b"-": FileKind.FILE, b"d": FileKind.FOLDER, b"l": FileKind.LINK}.get(found["kind"], FileKind.OTHER)
        name = found["name"].partition(b" -> ")[0] if kind is FileKind.LINK else found["name"]
        size = int(found["size"]) if found["size"].isdigit() else None
    elif found := _DOS.fullmatch(line):
        kind = FileKind.FOLDER if found["folder"] else FileKind.LINK if found["link"] else FileKind.FILE
        name = found["name"].partition(b" [")[0] if kind is FileKind.LINK else found["name"]
        size = int(re.sub(rb"[.,]", b"", found["size"])) if found["size"] else None
    else:
        raise ValueError("neither Unix nor DOS")
    if not name:
        raise ValueError("no name")
    return None if name in (b".", b"..") else Entry(name, kind, size, None)


# --------------------------------------------------------------------------------------------- NLST


def nlst_line(line: bytes, folder: bytes = b"") -> Entry | None:
    """A name and nothing else: what stands there must be asked. A banner looks like a name too.

    Some servers put the folder before every name.
    """
    name = line.removeprefix(b"./").removeprefix(folder.rstrip(b"/") + b"/" if folder else b"")
    return None if name in (b"", b".", b"..") else Entry(name, None, None, None)


def readable(lines: Iterable[bytes], parse: Parse) -> bool:
    """Whether anything in a listing can be read. An empty one can."""
    blank = True
    for line in lines:
        if stripped := line.rstrip(b"\r\n"):
            blank = False
            try:
                parse(stripped)
            except ValueError:
                continue
            return True
    return blank
