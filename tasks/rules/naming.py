"""Names from a partner: which no honest listing holds, which only look like something else, and what a name tells us."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from blocks.outbound import Outbound
from blocks.values import Finding, Inbound, shown
from tasks.rules.findings import note

_PLAIN = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""Most names are like this, and need no look at each character."""
LONGEST_NAME_BYTES = 255
"""NAME_MAX of the usual file systems: a longer name cannot have been a file there."""

# What a desktop runs when it is opened: an ending that a document never has.
RUNNABLE = frozenset(
    {
        "bat",
        "cmd",
        "com",
        "cpl",
        "desktop",
        "dll",
        "exe",
        "hta",
        "img",
        "iso",
        "jar",
        "js",
        "jse",
        "lnk",
        "msi",
        "msp",
        "pif",
        "ps1",
        "psm1",
        "reg",
        "scr",
        "sh",
        "url",
        "vbe",
        "vbs",
        "wsf",
        "wsh",
    }
)
DOCUMENTS = frozenset(
    {
        "csv",
        "doc",
        "docx",
        "gif",
        "jpeg",
        "jpg",
        "json",
        "mov",
        "mp4",
        "pdf",
        "png",
        "ppt",
        "pptx",
        "tif",
        "tiff",
        "txt",
        "xls",
        "xlsx",
        "xml",
        "zip",
    }
)


def text(name: bytes) -> str:
    """The name as text; bytes that are not UTF-8 survive as surrogates, so the exact name can be had back."""
    return name.decode("utf-8", "surrogateescape")


def extension(name: bytes) -> str:
    """The ending after the last dot, small, without the dot: the one that programs go by."""
    stem, dot, ending = text(name).rpartition(".")
    return ending.lower() if dot and stem else ""


def illegal(name: bytes) -> str | None:
    """Why no honest listing holds this name, or None. Such a file is never fetched and its name never used in a path.

    >>> illegal(b"../../etc/passwd"), illegal(b"prices_2026-11.csv")
    ('it leads out of the folder', None)
    """
    if len(name) <= LONGEST_NAME_BYTES and _PLAIN.fullmatch(name):
        return None
    if not name:
        return "it is empty"
    if b"\0" in name:
        return "it holds a NUL byte"
    parts = re.split(rb"[/\\]", name)
    if name[:1] in (b"/", b"\\") or re.match(rb"[A-Za-z]:[/\\]", name):
        return "it is an absolute path"
    if b".." in parts or name == b".":
        return "it leads out of the folder"
    if len(parts) > 1:
        return "it holds a path separator"
    if len(name) > LONGEST_NAME_BYTES:
        return f"it is {len(name)} bytes long, and no file system takes more than {LONGEST_NAME_BYTES}"
    for char in text(name):
        if unicodedata.category(char) in ("Cc", "Zl", "Zp"):
            return "it holds a control character"
        if (
            unicodedata.bidirectional(char) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
            or char in "\u200e\u200f\u061c"
        ):
            return "it holds a mark that turns the direction of writing, so it reads as another name"
    return None


def legality(name: bytes) -> Iterator[Finding]:
    """``illegal-name``: the one finding for which a file is not even fetched."""
    reason = illegal(name)
    if reason is not None:
        yield Finding(
            code="illegal-name",
            message=f"The name {shown(name[:300])} cannot be used: {reason}. The file was not fetched and was left where it is.",
            file=shown(name[:300]),
            rule=f"A name is one path segment of at most {LONGEST_NAME_BYTES} bytes without control or direction characters",
            fix="Rename the file at its source and send it again.",
        )


def naming(name: bytes, stream: Inbound, real: str = "") -> Iterator[Finding]:
    """What is wrong with a legal name on this stream. ``real`` is what the bytes are, in words."""
    if stream.naming is not None and re.fullmatch(stream.naming, text(name)) is None:
        yield Finding(
            code="naming-rule",
            message=f"The name {shown(name)} is not one that was agreed for this stream.",
            file=shown(name),
            value=shown(name),
            rule=f"The whole name must match {stream.naming}",
            fix="Rename the file as agreed and send it again.",
        )
    endings = [part.lower() for part in text(name).split(".")[1:]]
    if endings and endings[-1] in RUNNABLE:
        double = len(endings) > 1 and endings[-2].strip() in DOCUMENTS
        yield Finding(
            code="double-extension" if double else "runnable-name",
            message=f"{shown(name)} ends in .{shown(endings[-1])}: it is a program"
            + (f", though it reads as .{shown(endings[-2])}." if double else ".")
            + (f" Its bytes are {real}." if real else ""),
            file=shown(name),
            value=shown(name),
            rule="No file whose last extension makes a computer run it",
            fix="Send the document itself; if this was not you, tell your security team.",
        )
    if not name.isascii() and any(0xDC80 <= ord(char) <= 0xDCFF for char in text(name)):
        yield note("name-not-utf-8", f"The name {shown(name)} is not UTF-8; it is shown and filed with its bytes written out.")


def facts_of_name(pattern: str, name: bytes) -> dict[str, str] | None:
    """The named groups of a pattern that fits the whole name; None if it does not fit."""
    found = re.fullmatch(pattern, text(name))
    if found is None:
        return None
    return {key: shown(value) for key, value in found.groupdict().items() if value is not None}


def recognise(name: bytes, stream: Inbound | Outbound) -> str | None:
    """The document type that the stream's rules give this name: the first rule that fits decides."""
    return next((rule.doctype for rule in stream.classify if re.fullmatch(rule.pattern, text(name))), None)
