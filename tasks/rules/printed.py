"""Pages to print: one HTML file without script or outside resource, in which every text from outside is shown literally."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from blocks.values import shown

_STYLE = """
body { font: 10.5pt/1.45 "DejaVu Sans", Arial, sans-serif; color: #111; margin: 2em auto; max-width: 60em; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 1.8em; border-bottom: 1px solid #999 }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; vertical-align: top; padding: .25em .6em .25em 0 }
tr + tr { border-top: 1px solid #ddd } th { font-weight: 600; white-space: nowrap } code { font: .9em "DejaVu Sans Mono", monospace }
code { overflow-wrap: anywhere; unicode-bidi: isolate } .no { color: #a00; font-weight: 600 }
@page { margin: 18mm } @media print { body { margin: 0; max-width: none } tr { break-inside: avoid } }
@media (max-width: 30em) { body { margin: 1em auto } th, td { display: block; padding-right: 0 } th { white-space: normal } }
""".strip()

END = "\n</body>\n</html>\n"


def begin(title: str) -> str:
    """All of a page that comes before its body."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{literally(title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n"
    )


def literally(value: object) -> str:
    """Anything, shown literally: no control characters, no markup. Line ends are written out like all the others."""
    return escape("".join(char if char == "\\" else shown(char) for char in str(value)))


def code(value: object) -> str:
    return f"<code>{literally(value)}</code>"


def when(utc: str, local_time: str = "") -> str:
    """A moment, given as ISO 8601 in UTC, and what it was where people live."""
    told = f"{literally(utc[:19].replace('T', ' '))} UTC"
    return f"{told} · {literally(local_time)}" if local_time else told


def table(lines: Iterable[tuple[str, str]]) -> str:
    """Rows of a heading and a content, both made safe already."""
    return "<table>\n" + "\n".join(f"<tr><th>{head}</th><td>{content}</td></tr>" for head, content in lines) + "\n</table>"
