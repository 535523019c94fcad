"""What a supplier is told, in every language, and that nothing else can be told."""

from __future__ import annotations

import ast
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.values import Document, Finding, Inbound, Language, NoteFormat, Severity, Verdict
from tasks.doctypes import find, known
from tasks.doctypes.base import Doctype
from tasks.rules.languages import CATALOGUES
from tasks.rules.languages.base import LENGTHS, PHRASES, RANGES
from tasks.rules.note import (
    MOST_LINES,
    Line,
    Note,
    Told,
    admitted,
    harmless,
    lines,
    note_name,
    render,
    sayings,
    translated,
    with_values,
    worth_telling,
)
from tasks.tables import judge

ROOT = Path(__file__).parents[2]
PRICES, SHIPMENTS = find("price-list"), find("shipment-manifest")
ABOUT_FILES = ("bounds", "sniff", "naming", "structure", "tabular", "judge")
"""Rules about what a partner sends. Other refusals are between us and our repositories, or wait for other files."""
NEVER_TOLD = {"illegal-name"}
"""Such a name is put into no other name, and the file was left where it is."""
HEADER = b"sku,description,currency,price,valid_from\n"


# --------------------------------------------------------------------------------------------- every code, every phrase


def codes() -> Iterator[str]:
    """Reason codes of errors, as they stand in the source; and those of the checks of document types."""
    for module in ABOUT_FILES:
        for node in ast.walk(ast.parse((ROOT / f"tasks/rules/{module}.py").read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Finding", "Cell"):
                told = [word.value for word in node.keywords if word.arg == "code"]
                at = 3 if getattr(node.func, "id", "") == "Cell" else 0
                told += node.args[at : at + 1]
                for one in told:
                    yield from (
                        text.value for text in ast.walk(one) if isinstance(text, ast.Constant) and isinstance(text.value, str)
                    )
    yield "rule-broken"
    for doctype in known().values():
        if doctype.table:
            for column in doctype.table.schema().columns.values():
                yield from (str(check.name) for check in column.checks)


@pytest.mark.parametrize("language", Language)
def test_every_reason_code_has_its_words_in_every_language(language: Language) -> None:
    found = {code for code in codes() if re.fullmatch(r"[a-z]+(-[a-z]+)*", code)} - NEVER_TOLD
    assert len(found) > 30, "the source is read"
    assert found - CATALOGUES[language].reasons.keys() == set()


@pytest.mark.parametrize("language", Language)
def test_every_phrase_and_every_document_type_is_in_every_language(language: Language) -> None:
    catalogue = CATALOGUES[language]
    assert set(catalogue.phrases) == set(PHRASES)
    blanks = re.compile(r"\{[a-z]+\}")
    for phrase, text in catalogue.phrases.items():
        assert sorted(blanks.findall(text)) == sorted(blanks.findall(phrase)), phrase
    assert set(catalogue.titles) == set(known())
    assert catalogue.code == language
    for reason in catalogue.reasons.values():
        assert reason.what.endswith(".") and reason.fix.endswith(".")


def test_every_rule_of_a_column_is_a_phrase() -> None:
    for doctype in known().values():
        for name, column in doctype.table.schema().columns.items() if doctype.table else ():
            for check in column.checks:
                assert german(f"{name}: {check.error}", doctype), f"{doctype.slug}: {check.error} is in no catalogue"


def test_every_number_in_a_rule_of_a_column_is_known_without_its_schema() -> None:
    """The sender makes every rule that there may be, and loads no schema for it."""
    rules = [
        str(check.error)
        for doctype in known().values()
        for column in (doctype.table.schema().columns.values() if doctype.table else ())
        for check in column.checks
    ]
    ranges = {match.groups() for rule in rules if (match := re.fullmatch(r"from (-?[0-9,]+) to ([0-9,]+)", rule))}
    lengths = {match[1] for rule in rules if (match := re.fullmatch(r"at most ([0-9,]+) characters", rule))}
    assert (ranges, lengths) == (set(RANGES), set(LENGTHS))


def agreed(slug: str = "price-list", **terms: object) -> Inbound:
    told = {"classify": [{"pattern": ".*", "doctype": slug}], "target": {"repository": "kept", "folder": "Prices"}}
    return Inbound.model_validate({"endpoint": "drop", "folder": "/out", **told, **terms})


def german(text: str, doctype: Doctype, **terms: object) -> str:
    return translated(text, CATALOGUES[Language.DE], sayings(doctype, agreed(**terms)))


def judged(tmp_path: Path, content: bytes, slug: str = "price-list", **terms: object) -> Verdict:
    """What a check finds in a file of these bytes."""
    path = tmp_path / "content"
    path.write_bytes(content)
    [(_, verdict)] = judge([Document("j", b"a.csv", len(content), "0" * 64, path)], agreed(slug, **terms))
    return verdict


GOOD = b"A,,EUR,1.50,2026-12-01\n"
ROWS = {
    "missing-value": b",,EUR,1.50,2026-12-01\n",
    "wrong-type": b'A,,EUR,"1.234,50",2026-12-01\n',
    "ambiguous-date": b"A,,EUR,1.50,01.12.2026\n",
    "out-of-range": b"A,,EUR,-1.50,2026-12-01\n",
    "wrong-format": b"A B,,EUR,1.50,2026-12-01\n",
    "too-long": b"A," + b"x" * 501 + b",EUR,1.50,2026-12-01\n",
    "duplicate-key": GOOD + GOOD,
    "ragged-row": b"A,b,c,EUR,1.50,2026-12-01\n",
    "blank-row": b"\n" + GOOD,
    "bad-quote": b'"A"x,,EUR,1.50,2026-12-01\n',
}


@pytest.mark.parametrize("code", ROWS)
def test_what_is_found_in_a_row_is_told_in_german_with_its_rule_and_what_to_do(code: str, tmp_path: Path) -> None:
    verdict = judged(tmp_path, HEADER + ROWS[code])
    found = [finding for finding in verdict.findings if finding.code == code]
    assert found, verdict.findings
    told, more = lines(verdict.findings, PRICES, agreed())
    assert more == 0
    line = next(line for line in told if line.code == code)
    assert german(line.rule, PRICES) and german(line.fix, PRICES), (found[0].rule, found[0].fix)
    if code != "bad-quote":
        assert line.row == found[0].row


@pytest.mark.parametrize(
    ("content", "terms", "code"),
    [
        pytest.param(b"sku;description;currency;price;valid_from\n", {}, "wrong-delimiter", id="another separator"),
        pytest.param(b"sku,description,currency,price\n", {}, "missing-column", id="a column is missing"),
        pytest.param(GOOD, {}, "missing-header", id="no header"),
        pytest.param(HEADER + GOOD * 5, {"limits": {"rows": 2}}, "too-many-rows", id="more rows than agreed"),
    ],
)
def test_what_is_wrong_with_a_table_is_told_with_its_rule(
    content: bytes, terms: dict[str, object], code: str, tmp_path: Path
) -> None:
    told, _ = lines(judged(tmp_path, content, **terms).findings, PRICES, agreed(**terms))
    line = next(line for line in told if line.code == code)
    assert german(line.rule, PRICES, **terms), line


def test_a_control_line_is_told_with_its_rule(tmp_path: Path) -> None:
    content = b"shipment,line,sku,quantity,shipped_on\nS1,1,A,2,2026-11-20\n"
    for trailer, code in (
        (b"", "trailer-missing"),
        (b"#TRAILER;rows=2\n", "truncated"),
        (b"#TRAILER;rows=0\n", "trailer-mismatch"),
        (b"#TRAILER;x\n", "trailer-unreadable"),
    ):
        told, _ = lines(judged(tmp_path, content + trailer, "shipment-manifest").findings, SHIPMENTS, agreed())
        assert [line.code for line in told] == [code]
        assert german(told[0].rule, SHIPMENTS) and german(told[0].fix, SHIPMENTS)


@pytest.mark.parametrize("slug", [slug for slug, doctype in known().items() if doctype.table])
@pytest.mark.parametrize(("delimiter", "decimal"), [(",", "."), (";", ","), (",", ",")])
def test_the_good_row_of_each_document_type_is_good(slug: str, delimiter: str, decimal: str, tmp_path: Path) -> None:
    """A supplier who copies the example is never refused for it."""
    note = Note(b"a.csv", 1, None, find(slug), (), delimiter=delimiter, decimal=decimal)
    page = render(note, NoteFormat.HTML, CATALOGUES[Language.EN]).decode()
    import html

    example = html.unescape(page.partition("<pre>")[2].partition("</pre>")[0]) + "\n"
    assert example.count("\n") >= 2
    verdict = judged(tmp_path, example.encode(), slug, delimiter=delimiter, decimal=decimal)
    assert verdict.accepted, verdict.findings


# --------------------------------------------------------------------------------------------- what a line may say

SECRET = "the merger is on 4 December"


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(Line("wrong-type", 2, SECRET), id="in a column's name"),
        pytest.param(Line("wrong-type", 2, "sku+" + SECRET), id="behind a column's name"),
        pytest.param(Line("wrong-type", 2, "price", rule=SECRET), id="in a rule"),
        pytest.param(Line("wrong-type", 2, "price", fix=f"Fill it in. {SECRET}"), id="behind what to do"),
        pytest.param(Line("wrong-type", 2, "price", rule=f"{SECRET} has a value in every row"), id="as what is filled in"),
        pytest.param(Line("wrong-type", 2, "price", rule="merger has a value in every row"), id="as a column that is none"),
        pytest.param(Line("wrong-type", 2, "price", rule="The header is exactly: sku,merger"), id="in the header"),
        pytest.param(Line("wrong-type", 2, "price", rule="The text is merger"), id="as an encoding"),
        pytest.param(
            Line("wrong-type", 2, "price", rule="The last line is #MERGER;rows=<number of rows>"), id="in a control line"
        ),
        pytest.param(
            Line("wrong-type", 2, "price", rule="The last line is #TRAILER;rows=<number of rows>[;merger=<sum>]"),
            id="in its totals",
        ),
    ],
)
def test_no_word_of_anybody_gets_into_a_line(line: Line) -> None:
    told = admitted(line, PRICES, sayings(PRICES, agreed()))
    assert told is not None
    assert "merger" not in "".join([told.code, told.column, told.rule, told.fix]).lower()


@pytest.mark.parametrize(
    "text",
    [
        "At most 123456789012345678901 bytes",
        "At least 4 bytes",
        "At most 4,12 rows",
        "At most 4 characters in a field",
        "Every row has 4 fields",
        "price: at most 412 characters",
        "price: from 4 to 12",
        "price is a number with ',' before its decimals and no other separators, such as 1250,75",
        "price is a number with '.' before its decimals and no other separators, such as 4.12",
        "The text is cp1252",
        "The header is exactly: sku,sku,price",
        "sku and sku and price together occur once per file",
        "The last line is #TRAILER;rows=<number of rows>",
    ],
)
def test_no_number_of_anybody_gets_into_a_line(text: str) -> None:
    """Not even as a rule that another type or another stream has."""
    told = admitted(Line("wrong-type", 2, "price", rule=text, fix=text), PRICES, sayings(PRICES, agreed()))
    assert told == Line("wrong-type", 2, "price")


def test_a_column_is_one_or_the_key() -> None:
    told = [
        admitted(Line("wrong-type", 2, column), PRICES, {}) for column in ("sku+price", "sku+sku", "sku+currency+valid_from")
    ]
    assert [line and line.column for line in told] == ["", "", "sku+currency+valid_from"]


@pytest.mark.parametrize("line", [Line(SECRET), Line("wrong-type", 0), Line("wrong-type", 10**10), Line("more-findings")])
def test_a_line_that_is_none_is_left_out(line: Line) -> None:
    assert admitted(line, PRICES, {}) is None


def test_what_only_concerns_us_is_not_told() -> None:
    assert not worth_telling([Finding("needs-triage", "")])
    assert not worth_telling([Finding("mojibake", "", severity=Severity.NOTE)])
    assert worth_telling([Finding("mojibake", "", severity=Severity.NOTE), Finding("wrong-type", "")])


def test_of_very_many_lines_a_hundred_are_told_and_the_rest_is_counted(tmp_path: Path) -> None:
    rows = b"".join(b"A%d,,EUR,x,2026-12-01\n" % number for number in range(250))
    told, more = lines(judged(tmp_path, HEADER + rows).findings, PRICES, agreed())
    assert (len(told), more) == (MOST_LINES, 150)
    page = render(Note(b"a.csv", 1, None, PRICES, tuple(map(Told, told)), more), NoteFormat.HTML, CATALOGUES[Language.DE])
    assert b"150 weitere wurden gefunden" in page


# --------------------------------------------------------------------------------------------- values, as they are shown

HOSTILE = [
    "=cmd|'/c calc'!A1",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    " =1",
    "＝1",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{language}",
    "a\u202eb",
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("language", Language)
def test_a_hostile_value_is_shown_and_does_nothing(value: str, language: Language) -> None:
    note = Note(
        value.encode() + b".csv",
        10,
        "0" * 64,
        PRICES,
        tuple(with_values([Line("wrong-type", 1, "sku")], PRICES.table, lambda: [[value]], ",")),
    )
    page = render(note, NoteFormat.HTML, CATALOGUES[language]).decode()
    assert "<script" not in page and "<img" not in page and "\u202e" not in page
    table = render(note, NoteFormat.CSV, CATALOGUES[language]).decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(table, newline="")))
    assert not any(cell.lstrip().startswith(tuple("=+-@＝")) for row in rows for cell in row)
    if not harmless(value).startswith("'"):
        assert any(value in row for row in rows) or "\u202e" in value


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("value", ["x,=HYPERLINK(A1)", "x; +1", 'x,"=1"', "x|@SUM(A1),-2", 'a";=1', "=1;=2,=3"])
def test_no_value_is_a_formula_whatever_separator_a_spreadsheet_is_set_to(value: str, delimiter: str) -> None:
    told = with_values([Line("wrong-type", 1, "sku")], PRICES.table, lambda: [[value]], delimiter)
    note = Note(b"a.csv", 10, "0" * 64, PRICES, tuple(told), delimiter=delimiter)
    table = render(note, NoteFormat.CSV, CATALOGUES[Language.EN]).decode("utf-8-sig")
    for other in (",", ";", "\t", "|"):
        rows = list(csv.reader(io.StringIO(table, newline=""), delimiter=other))
        cells = [cell for row in rows for cell in row]
        assert not [cell for cell in cells if cell.lstrip(' "').startswith(tuple("=+-@＝"))], other


def test_values_are_read_at_their_rows() -> None:
    records = [["sku", "description", "currency", "price", "valid_from"], ["A", "", "EUR", "x", "2026-12-01"], ["A", "b"], []]
    asked = [
        Line("wrong-type", 2, "price"),
        Line("duplicate-key", 2, "sku+currency"),
        Line("ragged-row", 3),
        Line("blank-row", 4),
    ]
    told = with_values([*asked, Line("truncated"), Line("wrong-type", 9, "sku")], PRICES.table, lambda: records, ",")
    assert [one.value for one in told] == ["x", "A, EUR", "A,b", "", None, None]


def test_a_repeated_row_names_the_row_that_came_first() -> None:
    records = [
        ["sku", "description", "currency", "price", "valid_from"],
        *[[f"A{n % 3}", "", "EUR", "1", ""] for n in range(9)],
    ]
    told = with_values([Line("duplicate-key", 9, "sku+currency")], PRICES.table, lambda: records, ",")
    assert [(one.value, one.earlier) for one in told] == [("A1, EUR", 3)]
    note = Note(b"a.csv", 1, None, PRICES, tuple(told))
    assert b"It is row 3." in render(note, NoteFormat.HTML, CATALOGUES[Language.EN])


def test_numbers_and_names_are_written_as_in_the_language() -> None:
    assert german("price: from 0 to 10,000,000", PRICES) == "price: von 0 bis 10.000.000"
    assert german("sku and currency and valid_from together occur once per file", PRICES).startswith("sku, currency, valid")
    rule = "price is a number with ',' before its decimals and no other separators, such as 1250,75"
    assert german(rule, PRICES, decimal=",").endswith("wie 1250,75"), "an example is as the file must be"


def test_a_note_is_named_by_its_file_and_never_too_long() -> None:
    assert note_name(b"prices.csv", "0123456789abcdef", NoteFormat.HTML) == b"prices.csv.01234567.note.html"
    long = note_name("ü".encode() * 127, "0" * 64, NoteFormat.CSV)
    assert len(long) <= 255 and long.decode()


@pytest.mark.parametrize(
    ("sku", "fix"),
    [
        pytest.param(b" GT-1", "Remove the blanks around it.", id="a blank that nobody sees"),
        pytest.param(
            b'"4,2E+06"',
            "A spreadsheet has shortened it: format the column as text, enter it in full and export again.",
            id="shortened",
        ),
        pytest.param(b"GT 1", "Write it as the rule says.", id="anything else"),
    ],
)
def test_what_to_do_about_a_number_of_an_article_is_told_by_what_is_wrong(tmp_path: Path, sku: bytes, fix: str) -> None:
    [finding] = judged(tmp_path, HEADER + sku + b",Bolt,EUR,1.50,2026-12-01\n").findings
    assert (finding.code, finding.fix) == ("wrong-format", fix)
    assert german(fix, PRICES), "and it is known in German"


@pytest.mark.parametrize("language", Language)
def test_the_table_alone_tells_what_to_do_with_the_file_and_whose_quotes_those_are(language: Language) -> None:
    words = CATALOGUES[language].headings

    def table(*asked: Line) -> str:
        told = with_values(asked, PRICES.table, lambda: [[], ["GT-1", "", "EUR", "-4.20", ""]], ",")
        return render(Note(b"a.csv", 1, None, PRICES, tuple(told)), NoteFormat.CSV, CATALOGUES[language]).decode("utf-8-sig")

    harmful = table(Line("out-of-range", 2, "price"))
    assert "'-4.20" in harmful and words.quoted in harmful and words.how in harmful
    harmless_ = table(Line("wrong-format", 2, "sku"))
    assert words.quoted not in harmless_ and words.how in harmless_
    renamed = table(Line("naming-rule"))
    assert words.how_named in renamed and words.how not in renamed, "a wrong name is not to be kept"
