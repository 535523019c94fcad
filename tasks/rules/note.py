"""Rejection notes: what a supplier needs to mend a file that was refused, and nothing else.

::

    findings ─ lines ─▶ Lines: code, row, column, rule, fix ─ (the sender reads the values itself) ─▶ Note ─ render ─▶ CSV, HTML

No word of a line is free: its code is of the reviewed catalogues, its column of the document type, its rule and fix are texts that are
made here from both and the stream's terms (``sayings``). So a line can be taken from somebody who is not trusted (``admitted``), and what
it says is still ours.
"""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from blocks.values import Finding, Inbound, Language, NoteFormat, Severity, shown
from tasks.doctypes.base import Doctype, Kind, Table
from tasks.rules.languages import CATALOGUES
from tasks.rules.languages.base import LENGTHS, PHRASES, RANGES, Catalogue
from tasks.rules.tabular import told

MOST_LINES = 100
"""In a note; of the rest only the number is told."""
MOST_ROWS = 10**9
_MOST_NAME_BYTES = 180
_LEFT_OUT = "more-findings"

_CODES = frozenset(CATALOGUES[Language.EN].reasons)


@dataclass(frozen=True, slots=True)
class Line:
    """One thing to mend, without a word of the partner's or of anybody's who could make one up."""

    code: str
    row: int | None = None
    """As a spreadsheet counts, the header being row 1; None: the file as a whole."""
    column: str = ""
    """A column of the document type, several joined by ``+``, or ""."""
    rule: str = ""
    """English, one of the phrases; "" where the code says it all."""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """A line with what stands at its place in the partner's own file."""

    line: Line
    value: str | None = None
    """None where there is no such place."""
    earlier: int | None = None
    """The first row with the same key, where it is said to be repeated."""


@dataclass(frozen=True, slots=True)
class Note:
    """Everything that one note says."""

    name: bytes
    """Of the file that was refused."""
    size: int
    digest: str | None
    doctype: Doctype | None
    lines: tuple[Told, ...]
    more: int = 0
    """Findings that are not listed."""
    parted: bool = False
    """Only the listed rows were held; the others were accepted."""
    delimiter: str = ","
    decimal: str = "."
    good_name: str = ""
    """A name as agreed, for files whose name is what is wrong."""
    says: Sayings = field(default_factory=dict)
    """What its lines' rules and fixes may be."""


# --------------------------------------------------------------------------------------------- from findings


def worth_telling(findings: Iterable[Finding]) -> bool:
    """True if the partner can mend it: what only concerns us is not theirs to hear of."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    return bool(errors) and errors[0].code in _CODES


def lines(findings: Iterable[Finding], doctype: Doctype | None, stream: Inbound) -> tuple[list[Line], int]:
    """One line for each thing to mend, by row; and how many were found besides."""
    found: list[Line] = []
    more = 0
    says = sayings(doctype, stream)
    for finding in findings:
        if finding.severity is not Severity.ERROR:
            continue
        if finding.code == _LEFT_OUT:
            counted = re.match(r"[0-9]+", finding.message)
            more += int(counted[0]) if counted else 0
            continue
        line = Line(finding.code, finding.row, finding.column or "", finding.rule, finding.fix)
        if (ours := admitted(line, doctype, says)) is not None:
            found.append(ours)
    found = list(dict.fromkeys(found))
    return found[:MOST_LINES], more + max(0, len(found) - MOST_LINES)


def admitted(line: Line, doctype: Doctype | None, says: Sayings) -> Line | None:
    """The line with only what a note may say; None for one of an unknown code. What is none of ours is left out of it."""
    if line.code not in _CODES or (line.row is not None and not 1 <= line.row <= MOST_ROWS):
        return None
    table = doctype.table if doctype else None
    column = line.column if table and line.column in (*table.names, "+".join(table.key)) else ""
    rule, fix = (text if text in says else "" for text in (line.rule, line.fix))
    return replace(line, column=column, rule=rule, fix=fix)


Sayings = Mapping[str, tuple[str, Mapping[str, str]]]
"""Every text that a rule or a fix may be, by itself: its phrase, and what is filled in."""


def sayings(doctype: Doctype | None, stream: Inbound) -> Sayings:
    """What can be said of a file of this type in this stream: made from the reviewed files alone, so it has nobody's words."""
    table, limits = doctype.table if doctype else None, stream.limits
    filled: dict[tuple[str, ...], list[tuple[str, ...]]] = {
        ("mark", "sample"): [(f"'{stream.decimal}'", f"1250{stream.decimal}75")],
        ("encoding",): [(stream.encoding,)],
        ("rows",): [(f"{limits.rows:,}",)],
        ("field_characters",): [(f"{limits.field_characters:,}",)],
        ("largest_bytes",): [(f"{limits.largest_bytes:,}",)],
        ("smallest_bytes",): [(f"{limits.smallest_bytes:,}",)],
    }
    if table is not None:
        filled[("column",)] = [(name,) for name in table.names]
        filled[("columns",)] = [(" and ".join(table.key),)] if table.key else []
        filled[("header",)] = [(stream.delimiter.join(table.names),)]
        filled[("width",)] = [(str(len(table.names)),)]
        filled[("length",)] = [(length,) for length in LENGTHS]
        filled[("lowest", "highest")] = list(RANGES)
        if table.trailer is not None:
            filled[("trailer",)] = [(table.trailer.told,)]
    found = {}
    for phrase in PHRASES:
        blanks = set(re.findall(r"\{([a-z_]+)\}", phrase))
        wanted = [names for names in filled if blanks & set(names)]
        if blanks <= {name for names in wanted for name in names}:
            for choice in product(*(filled[names] for names in wanted)):
                told = {
                    name: text
                    for names, texts in zip(wanted, choice, strict=True)
                    for name, text in zip(names, texts, strict=True)
                }
                found[phrase.format(**told)] = (phrase, told)
    return found


def translated(text: str, catalogue: Catalogue, says: Sayings) -> str:
    """A text in another language, with the same filled in; "" for one that may not be said."""
    if text not in says:
        return ""
    phrase, filled = says[text]
    words = catalogue.headings
    filled = {
        name: told.replace(",", words.thousands) if _THOUSANDS.fullmatch(told) else told.replace(" and ", words.joined)
        for name, told in filled.items()
    }
    return catalogue.phrases[phrase].format(**filled)


_THOUSANDS = re.compile(r"-?[0-9]{1,3}(?:,[0-9]{3})+")


# --------------------------------------------------------------------------------------------- the partner's own values


def with_values(
    lines: Sequence[Line], table: Table | None, records: Callable[[], Iterable[Sequence[str]]], delimiter: str
) -> list[Told]:
    """What stands at the place of each line. ``records`` gives the file's, from row 1 on; they are read only as far as needed."""
    wanted: dict[int, list[int]] = {}
    for number, line in enumerate(lines):
        if line.row is not None and table is not None:
            wanted.setdefault(line.row, []).append(number)
    found = [Told(line) for line in lines]
    last = max(wanted, default=0)
    repeated: dict[tuple[str, ...], list[int]] = {}
    for row, record in enumerate(records(), 1):
        for number in wanted.get(row, ()):
            line = lines[number]
            cells = _cells(line.column, record, table)
            found[number] = replace(found[number], value=", ".join(map(told, cells)) if cells else told(delimiter.join(record)))
            if line.code == _REPEATED and cells:
                repeated.setdefault(cells, []).append(number)
        if row >= last:
            break
    column = next((line.column for line in lines if line.code == _REPEATED), "")
    for row, record in enumerate(records(), 1) if repeated else ():
        for number in repeated.pop(_cells(column, record, table), ()):
            found[number] = replace(found[number], earlier=row)
        if not repeated:
            break
    return found


_REPEATED = "duplicate-key"


def _cells(column: str, record: Sequence[str], table: Table | None) -> tuple[str, ...]:
    """Those of a column, or of several; none where the row does not have them."""
    names = table.names if table else ()
    places = [names.index(name) for name in column.split("+")] if column else []
    return tuple(record[place] for place in places) if places and max(places) < len(record) else ()


# --------------------------------------------------------------------------------------------- as a file


def note_name(name: bytes, digest: str, format: NoteFormat) -> bytes:
    """What a note is called: by the refused file's own name and digest, so that it is recognised and never another one's."""
    return shortened_name(name) + f".{digest[:8]}.note.{format}".encode()


def shortened_name(name: bytes) -> bytes:
    """A file's name, as far as something can be put behind it."""
    short = name[:_MOST_NAME_BYTES]
    if len(name) > _MOST_NAME_BYTES:  # no half letter at the end
        short = short.decode("utf-8", "ignore").encode()
    return short


def render(note: Note, format: NoteFormat, catalogue: Catalogue) -> bytes:
    """The note as a file."""
    return (_as_csv if format is NoteFormat.CSV else _as_html)(note, catalogue)


def _as_csv(note: Note, catalogue: Catalogue) -> bytes:
    """For a spreadsheet, separated as the partner's own tables are; with the mark by which spreadsheets know UTF-8."""
    words, out = catalogue.headings, io.StringIO(newline="")
    writer = csv.writer(out, delimiter=note.delimiter, lineterminator="\r\n")
    writer.writerow([words.row, words.column, words.value, words.problem, words.rule, words.fix])
    quoted = ""
    for cells in _rows(note, catalogue):
        safe = tuple(harmless(cell) for cell in cells)
        quoted = words.quoted if safe != cells else quoted
        writer.writerow(safe)
    for text in (_more(note, catalogue), _how(note, catalogue), quoted, *_example_lines(note, catalogue)):
        if text:
            writer.writerow(["", "", harmless(text), "", "", ""])
    return b"\xef\xbb\xbf" + out.getvalue().encode("utf-8")


def harmless(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: what could begin one gets a quote before it (OWASP, CSV injection).

    Also inside of it: a spreadsheet that is set to another separator begins a cell behind each of those, whatever is quoted.
    """
    safe = _BEHIND_A_SEPARATOR.sub(r"\g<0>'", cell)
    return f"'{safe}" if cell.lstrip().startswith(tuple(_BEGINS)) or cell.startswith(("\t", "\r", "\n")) else safe


_BEGINS = "=+-@＝＋－＠"
"""A formula."""
_BEHIND_A_SEPARATOR = re.compile(rf"[,;|\t\r\n][\s\"]*(?=[{re.escape(_BEGINS)}])")


def _as_html(note: Note, catalogue: Catalogue) -> bytes:
    """One page that loads nothing and runs nothing; on a narrow screen each row of its table is a card."""
    words, say = catalogue.headings, html.escape
    heads = (words.row, words.column, words.value, words.problem, words.rule, words.fix)
    title = _title(note, catalogue)
    how = _how(note, catalogue)
    refused = say(words.parted if note.parted else words.refused).format(
        file=_code(shown(note.name)), bytes=f"{note.size:,}", title=say(title)
    )
    body = [f"<h1>{say(words.title)}</h1>", f"<p>{refused}</p>", f"<p><strong>{say(how)}</strong></p>"]
    body.append("<table><thead><tr>" + "".join(f"<th>{say(head)}</th>" for head in heads) + "</tr></thead><tbody>")
    for cells in _rows(note, catalogue):
        told_cells = [_code(cell) if at in (1, 2) and cell else say(cell) for at, cell in enumerate(cells)]
        body.append(
            "<tr>"
            + "".join(f'<td data-head="{say(h)}">{cell}</td>' for h, cell in zip(heads, told_cells, strict=True))
            + "</tr>"
        )
    body.append("</tbody></table>")
    body += [f"<p>{say(text)}</p>" for text in (_more(note, catalogue), words.counted) if text]
    if example := _example(note):
        body.append(f"<h2>{say(words.example.format(title=title))}</h2>")
        body.append(f"<pre>{say(chr(10).join(example))}</pre>")
    if note.digest:
        body.append(f"<p class=small>{say(words.digest)}: {_code(note.digest)}</p>")
    return _PAGE.format(language=catalogue.code, title=say(words.title), body="\n".join(body)).encode("utf-8")


def _code(text: str) -> str:
    return f"<code>{html.escape(text)}</code>"


def _rows(note: Note, catalogue: Catalogue) -> Iterator[tuple[str, str, str, str, str, str]]:
    words = catalogue.headings
    for one in note.lines:
        line, reason = one.line, catalogue.reasons[one.line.code]
        value = "" if one.value is None else one.value or words.empty
        rule = translated(line.rule, catalogue, note.says)
        if not rule and note.good_name and line.code in _ABOUT_NAMES:
            rule = note.good_name
        yield (
            str(line.row) if line.row is not None else words.whole_file,
            line.column.replace("+", ", "),
            value,
            reason.what + (f" {words.earlier.format(row=one.earlier)}" if one.earlier else ""),
            rule or reason.what,
            translated(line.fix, catalogue, note.says) or reason.fix,
        )


_ABOUT_NAMES = frozenset({"naming-rule", "unrecognised", "double-extension", "runnable-name"})
_OTHER_NAME = _ABOUT_NAMES | {"extension-mismatch", "name-content-mismatch"}
"""What may be mended by another name."""


def _how(note: Note, catalogue: Catalogue) -> str:
    """What to do with the whole file: under the same name the corrected one closes the case of the refused one."""
    words = catalogue.headings
    if note.parted:
        return words.how_parted
    return words.how_named if any(one.line.code in _OTHER_NAME for one in note.lines) else words.how


def _title(note: Note, catalogue: Catalogue) -> str:
    return catalogue.titles[note.doctype.slug] if note.doctype else shown(note.name)


def _more(note: Note, catalogue: Catalogue) -> str:
    return catalogue.headings.more.format(count=note.more) if note.more else ""


def _example(note: Note) -> list[str]:
    """The lines of a small good file; none where the document type is no table."""
    table = note.doctype.table if note.doctype else None
    if table is None or not all(column.example for column in table.columns):
        return []
    values = [
        column.example.replace(".", note.decimal) if column.kind is Kind.DECIMAL else column.example for column in table.columns
    ]
    rows = [list(table.names), values]
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=note.delimiter, lineterminator="\n").writerows(rows)
    good = out.getvalue().splitlines()
    if table.trailer is not None:
        totals = "".join(f";{name}={values[table.names.index(name)]}" for name in table.trailer.totals)
        good.append(f"{table.trailer.start};rows=1{totals}")
    return good


def _example_lines(note: Note, catalogue: Catalogue) -> list[str]:
    good = _example(note)
    return [catalogue.headings.example.format(title=_title(note, catalogue)), *good] if good else []


_PAGE = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 16px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 75rem; padding: 1rem; color: #1a1a1a; background: #fff }}
h1 {{ font-size: 1.5rem }} h2 {{ font-size: 1.1rem }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ border: 1px solid #bbb; padding: .4rem .6rem; text-align: left; vertical-align: top }}
th {{ background: #eee }}
code, pre {{ font-family: ui-monospace, monospace; background: #f4f4f4; white-space: pre-wrap; overflow-wrap: anywhere }}
pre {{ padding: .6rem; border: 1px solid #ccc }}
td:nth-child(6) {{ font-weight: 600 }}
.small {{ font-size: .8rem; color: #555 }}
@media (max-width: 45rem) {{
  thead {{ display: none }}
  tr, td {{ display: block; border: 0 }}
  tr {{ border: 1px solid #bbb; margin-bottom: .8rem; padding: .3rem 0 }}
  td {{ padding: .15rem .6rem }}
  td::before {{ content: attr(data-head) ": "; color: #555; font-weight: 400 }}
  td:empty {{ display: none }}
}}
</style>
</head>
<body>
{body}
</body>
</html>
"""
