"""What a file is by its bytes, whatever its name says. Only its first and last bytes are needed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from blocks.values import Finding, shown
from tasks.doctypes.base import Doctype
from tasks.rules.naming import extension

HEAD_BYTES = 4096
TAIL_BYTES = 66 * 1024
"""A ZIP directory ends at most 64 KiB before the end of a file."""

EMPTY, UNKNOWN, PLAIN = "application/x-empty", "application/octet-stream", "text/plain"
PROGRAM = "application/vnd.microsoft.portable-executable"

# Offset and first bytes, as registered or published by each format's owner.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF-", "application/pdf"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (0, b"\x7fELF", "application/x-executable"),
    (0, b"\xcf\xfa\xed\xfe", "application/x-mach-binary"),
    (0, b"\xca\xfe\xba\xbe", "application/java-vm"),
    (0, b"#!", "text/x-shellscript"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (0, b"\x1f\x8b", "application/gzip"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"Rar!\x1a\x07", "application/vnd.rar"),
    (0, b"{\\rtf", "application/rtf"),
    (0, b"%!PS", "application/postscript"),
    (4, b"ftypqt  ", "video/quicktime"),
    (4, b"ftyp", "video/mp4"),
    (4, b"moov", "video/quicktime"),
)
_BEGINNINGS = {offset: tuple(magic for at, magic, _ in _MAGIC if at == offset) for offset in (0, 4)}
_MARKS = (b"\xff\xfe", b"\xfe\xff")
_CONTROLS = bytes(sorted({*range(0x20)} - {*b"\t\n\x0c\r\x1a"}))
# Assembled here, so that no scanner takes this file for what it looks for (EICAR's published test string).
_EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-" + b"ANTIVIRUS-TEST-FILE!$H+H*"
_ARCHIVE_END = b"PK\x05\x06" + bytes(4)  # end of a ZIP directory on the first and only disk
_RUNS = {PROGRAM, "application/x-executable", "application/x-mach-binary", "application/java-vm", "text/x-shellscript"}


def sniff(head: bytes) -> str:
    """The media type of a file that begins with these bytes (4 KiB are enough); ``application/octet-stream`` if they do not tell."""
    if not head:
        return EMPTY
    for offset, beginnings in _BEGINNINGS.items():
        if head.startswith(beginnings, offset):
            return next(media_type for at, magic, media_type in _MAGIC if at == offset and head.startswith(magic, at))
    if head.startswith(b"MZ") and (b"\0" in head[:64] or b"PE\0\0" in head):
        return PROGRAM
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _package(head)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:512].lower()
    if start.startswith(b"<?xml") or re.match(rb"<[a-z_][\w:.-]*[\s/>]", start):
        return "text/html" if b"<html" in start or start.startswith(b"<!doctype html") else "application/xml"
    if start.startswith(b"<!doctype html"):
        return "text/html"
    if head.startswith(_MARKS) or len(head.translate(None, _CONTROLS)) == len(head):
        return PLAIN
    return UNKNOWN


def _package(head: bytes) -> str:
    for part, media_type in (
        (b"xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        (b"word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (b"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ):
        if part in head:
            return media_type
    return "application/zip"


def suits(media_type: str, doctype: Doctype) -> bool:
    """True if bytes of that type can be a document of this type. Bytes that do not tell are left to a table's own pass."""
    return media_type in doctype.media_types or (doctype.table is not None and media_type in (PLAIN, UNKNOWN))


def needs_its_end(media_type: str) -> bool:
    """True if ``inspect`` looks at the last bytes of such a file, too."""
    return media_type == "application/pdf" or media_type.startswith("image/")


def inspect(name: bytes, media_type: str, head: bytes, tail: bytes, doctype: Doctype) -> Iterator[Finding]:
    """Findings from the first and last bytes: what the content is against what name and document type say."""
    if _EICAR in head:
        yield Finding(
            code="malware-test-file",
            message="This is the EICAR test file, which virus scanners must report.",
            rule="No malware",
            fix="If this was no test of yours, tell your security team.",
        )
    if media_type == EMPTY:
        return
    if not suits(media_type, doctype):
        wanted = ", ".join(sorted(doctype.media_types))
        yield Finding(
            code="program" if media_type in _RUNS else "content-mismatch",
            message=f"{shown(name)} is {spoken(media_type)}, not {_article(doctype.title)}.",
            value=media_type,
            rule=f"The bytes of {_article(doctype.title)} are {wanted}",
            fix="Send the document itself in the agreed format; if this was not you, tell your security team.",
        )
        return
    ending = extension(name)
    if ending not in doctype.extensions or not _agree(ending, media_type):
        yield Finding(
            code="extension-mismatch",
            message=f"{shown(name)} holds {spoken(media_type)}.",
            value=shown(ending),
            rule=f"{doctype.title}: one of .{', .'.join(sorted(doctype.extensions))}, and the one that its bytes are",
            fix="Give the file the extension of what it is.",
        )
    yield from _ends(media_type, tail)


def _ends(media_type: str, tail: bytes) -> Iterator[Finding]:
    """What the last bytes tell: cut files, and files that are two things at once."""
    needed = {"application/pdf": b"%%EOF", "image/png": b"IEND\xaeB`\x82", "image/jpeg": b"\xff\xd9"}.get(media_type)
    if needed is not None and needed not in tail:
        yield Finding(
            code="truncated",
            message=f"The end of {spoken(media_type)} is missing: the file was cut.",
            rule="The file is complete",
            fix="Send the complete file again.",
        )
    if media_type.startswith(("application/pdf", "image/")) and _ARCHIVE_END in tail:
        yield Finding(
            code="appended-archive",
            message=f"An archive is appended to {spoken(media_type)}: it is two files in one.",
            rule="One file is one document",
            fix="Send the document without the archive; if this was not you, tell your security team.",
        )
    if media_type == "application/pdf" and re.search(rb"/Encrypt\s", tail):
        yield Finding(
            code="cannot-inspect",
            message="The PDF is encrypted, so nobody can tell what is in it.",
            rule="Documents can be looked into",
            fix="Send it without a password.",
        )


_SAME_ENDING = {
    "application/pdf": {"pdf"},
    "image/png": {"png"},
    "image/jpeg": {"jpg", "jpeg"},
    "image/tiff": {"tif", "tiff"},
    "video/mp4": {"mp4", "m4v", "mov"},
    "video/quicktime": {"mov"},
}
_SPOKEN = {
    "application/pdf": "a PDF",
    "image/png": "a PNG image",
    "image/jpeg": "a JPEG image",
    "image/tiff": "a TIFF image",
    PROGRAM: "a Windows program",
    "application/x-executable": "a Linux program",
    "text/x-shellscript": "a script",
    PLAIN: "a text",
    UNKNOWN: "of an unknown kind",
}


def _agree(ending: str, media_type: str) -> bool:
    return ending in _SAME_ENDING.get(media_type, {ending})


def spoken(media_type: str) -> str:
    """A media type in words for people."""
    return _SPOKEN.get(media_type, media_type)


def _article(title: str) -> str:
    title = title[0].lower() + title[1:]
    return f"an {title}" if title[0] in "aeiou" else f"a {title}"
