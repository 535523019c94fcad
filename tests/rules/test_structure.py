"""The raw structural pass: exact rows for everything odd, and the same rows and fields as the csv module for everything else."""

from __future__ import annotations

import csv
import io
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tasks.rules import structure
from tasks.rules.findings import Findings
from tasks.rules.structure import LONGEST_RECORD_BYTES, Block, Scan, Shape

SHAPE = Shape(("sku", "text", "price"))


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> Iterator[None]:
    """The first look at a file takes a few KiB: as much as a whole table here, which would hide what happens between chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structure, "HEAD_BYTES", 8)
        yield


HEADER = b"sku,text,price\n"
GOOD = HEADER + b"A,x,1\nB,y,2\n"


def scan(data: bytes, shape: Shape = SHAPE, size: int = 1 << 20) -> tuple[Scan, list[Block], list[tuple[str, int | None]]]:
    findings = Findings("a.csv")
    one = Scan(shape, findings)
    blocks = list(one.blocks(data[at : at + size] for at in range(0, len(data), size)))
    return one, blocks, [(finding.code, finding.row) for finding in findings.all()]


def rows_of(blocks: list[Block], delimiter: str = ",") -> dict[int, list[str]]:
    """What the blocks hold, by row."""
    rows: dict[int, list[str]] = {}
    for block in blocks:
        records = list(csv.reader(io.StringIO(block.data.decode(), newline=""), delimiter=delimiter))
        assert len(records) == block.rows
        rows.update(zip(range(block.first_row, block.first_row + block.rows), records, strict=True))
    return rows


UTF_16 = replace(SHAPE, encoding="utf-16")
CP1252 = replace(SHAPE, encoding="cp1252")
TRAILED = replace(SHAPE, trailer="#END")
QUOTED = Shape(("a,b", "c"))


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("data", "shape", "expected", "good"),
    [
        pytest.param(GOOD, SHAPE, [], [2, 3], id="as agreed"),
        pytest.param(b"\xef\xbb\xbf" + GOOD, SHAPE, [], [2, 3], id="one BOM is taken off"),
        pytest.param(b"\xef\xbb\xbf" * 2 + GOOD, SHAPE, [("double-bom", 1)], [2, 3], id="two BOMs"),
        pytest.param(GOOD.decode().encode("utf-16"), UTF_16, [], [2, 3], id="UTF-16 as agreed"),
        pytest.param(GOOD.decode().encode("utf-16-be"), SHAPE, [("wrong-encoding", 1)], [], id="UTF-16 that was not agreed, unmarked"),
        pytest.param(GOOD.decode().encode("utf-16"), SHAPE, [("wrong-encoding", 1)], [], id="UTF-16 that was not agreed"),
        pytest.param(b"\xef\xbb\xbf" + GOOD, CP1252, [("wrong-encoding", 1)], [], id="marked as UTF-8, agreed was cp1252"),
        pytest.param(GOOD + b"C,\xfc,3\n", CP1252, [], [2, 3, 4], id="cp1252 as agreed"),
        pytest.param(GOOD + b"C,\xfc,3\nD,z,4\n", SHAPE, [("wrong-encoding", 4)], [2, 3, 4, 5], id="a byte that is not UTF-8"),
        pytest.param(GOOD + b"C,\xc3", SHAPE, [("truncated", 4), ("wrong-encoding", 4)], [2, 3], id="cut inside a letter"),
        pytest.param(GOOD + "C,ü,3\n".encode(), SHAPE, [], [2, 3, 4], id="a letter of two bytes"),
        pytest.param(GOOD + b"C,a\0b,3\n", SHAPE, [("nul-byte", 4)], [2, 3, 4], id="a NUL byte"),
        pytest.param((GOOD + b"C,a\0b,3\n").decode().encode("utf-16"), UTF_16, [("nul-byte", 4)], [2, 3, 4], id="a NUL in UTF-16"),
        pytest.param(b"sku,text,price" + b",x" * 40_000, SHAPE, [("header-too-long", 1)], [], id="forty thousand columns"),
        pytest.param(b"", SHAPE, [("missing-header", 1)], [], id="nothing at all"),
        pytest.param(HEADER, SHAPE, [("no-rows", None)], [], id="a header alone"),
        pytest.param(GOOD[:-1], SHAPE, [("no-final-newline", 3)], [2, 3], id="no newline at the end"),
        pytest.param(GOOD + b"C,z", SHAPE, [("truncated", 4)], [2, 3], id="cut inside a row"),
        pytest.param(GOOD + b"C\nD,z,4\n", SHAPE, [("ragged-row", 4)], [2, 3, 5], id="a field too few"),
        pytest.param(GOOD + b"C,x,y,3\nD,z,4\n", SHAPE, [("ragged-row", 4)], [2, 3, 5], id="a field too many"),
        pytest.param(GOOD + b"\nD,z,4\n", SHAPE, [("blank-row", 4)], [2, 3, 5], id="a blank row between rows"),
        pytest.param(GOOD + b"\n\n", SHAPE, [("blank-lines-at-end", 4)], [2, 3], id="blank lines at the end"),
        pytest.param(GOOD.replace(b"\n", b"\r\n"), SHAPE, [], [2, 3], id="lines as Windows ends them"),
        pytest.param(GOOD.replace(b"\n", b"\r"), SHAPE, [("cr-newlines", None)], [2, 3], id="carriage returns alone"),
        pytest.param(GOOD + b"C,z,3\r\n", SHAPE, [("mixed-newlines", None)], [2, 3, 4], id="mixed newlines"),
        pytest.param(GOOD + b'C,"a,""b""\n",3\nD,z,4\n', SHAPE, [], [2, 3, 4, 5], id="quotes, commas and a newline in a field"),
        pytest.param(GOOD + b'C,2" pipe,3\n', SHAPE, [], [2, 3, 4], id="an inch sign inside a text is text"),
        pytest.param(GOOD + b'C,"open,3\nD,z,4\n', SHAPE, [("unclosed-quote", 4)], [2, 3], id="a quote that never closes"),
        pytest.param(GOOD + b'C,"a"b,3\nD,z,4\n', SHAPE, [("bad-quote", 4)], [2, 3, 5], id="text behind a closing quote"),
        pytest.param(GOOD.replace(b",", b";"), SHAPE, [("wrong-delimiter", 1)], [], id="another separator"),
        pytest.param(b'"a,b",c\n1,2\n', QUOTED, [], [2], id="a header that can only be written in quotes"),
        pytest.param(
            b"a,b,c\n1,2,3\n", QUOTED, [("missing-column", 1), ("unknown-column", 1), ("unknown-column", 1)], [], id="without them"
        ),
        pytest.param(b"A,x,1\nB,y,2\n", SHAPE, [("missing-header", 1)], [], id="no header"),
        pytest.param(b"sku,text\nA,x\n", SHAPE, [("missing-column", 1)], [], id="a missing column"),
        pytest.param(b"sku,text,price,x\nA,x,1,2\n", SHAPE, [("unknown-column", 1)], [], id="a column too many"),
        pytest.param(b"SKU,text,price\nA,x,1\n", SHAPE, [("renamed-column", 1)], [], id="capitals make another name"),
        pytest.param(b"sku, text,price\nA,x,1\n", SHAPE, [("renamed-column", 1)], [], id="so does a blank"),
        pytest.param(b"text,sku,price\nA,x,1\n", SHAPE, [("column-order", 1)], [], id="another order"),
        pytest.param(b"sku,text,price,sku\nA,x,1,A\n", SHAPE, [("duplicate-column", 1)], [], id="a column twice"),
        pytest.param(GOOD + b"#END;rows=2\n", TRAILED, [], [2, 3], id="a control line is no row"),
        pytest.param(GOOD + b"#END;rows=2", TRAILED, [], [2, 3], id="a control line without a newline"),
        pytest.param(GOOD + b"#END;rows=2\nC,z,3\n", TRAILED, [("after-trailer", 5)], [2, 3], id="a row after the control line"),
        pytest.param(GOOD + b"C,#END,3\n", TRAILED, [], [2, 3, 4], id="its beginning inside a row is a text"),
        pytest.param(GOOD, replace(SHAPE, rows=1), [("too-many-rows", 3)], [], id="more rows than agreed"),
        pytest.param(GOOD + b"C,123456,3\n", replace(SHAPE, field_characters=5), [("field-too-long", 4)], [2, 3], id="a field too long"),
        pytest.param(
            GOOD + b'C,"123\n456",3\n', replace(SHAPE, field_characters=5), [("field-too-long", 4)], [2, 3], id="too long, on short lines"
        ),
        pytest.param(GOOD + "C,üüüüü,3\n".encode(), replace(SHAPE, field_characters=5), [], [2, 3, 4], id="characters count, not bytes"),
        pytest.param("sku§text§price\nA§x§1\n".encode(), replace(SHAPE, delimiter="§"), [], [2], id="a separator beyond ASCII"),
    ],
)  # fmt: skip
def test_what_is_odd_is_told_with_its_row(
    data: bytes, shape: Shape, expected: list[tuple[str, int | None]], good: list[int], size: int
) -> None:
    _, blocks, found = scan(data, shape, size)
    assert sorted(found, key=str) == sorted(expected, key=str)
    if not any(code == "too-many-rows" for code, _ in expected):  # how much comes before the bound is hit depends on the chunks
        assert list(rows_of(blocks, shape.delimiter)) == good


# --------------------------------------------------------------------------------------------- properties

TEXTS = st.text(st.sampled_from('ab ü"\n\r,;#\u2028\x0b'), max_size=6)
TABLES = st.lists(st.lists(TEXTS, min_size=3, max_size=3), min_size=1, max_size=12)


def written(rows: list[list[str]], newline: str, quoting: int) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=newline, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(SHAPE.columns)
    writer.writerows(rows)
    return text.getvalue().encode()


@settings(deadline=None, max_examples=150)
@given(TABLES, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.integers(1, 40))
def test_every_written_table_is_read_as_the_csv_module_reads_it(
    rows: list[list[str]], newline: str, quoting: int, size: int
) -> None:
    # Python's writer leaves a newline that is not its own unquoted: such a file has more rows than its writer meant.
    assume(quoting == csv.QUOTE_ALL or not any(mark in text for row in rows for text in row for mark in {*"\r\n"} - {*newline}))
    one, blocks, found = scan(written(rows, newline, quoting), size=size)
    assert not {code for code, _ in found} - {"mixed-newlines", "cr-newlines"}
    assert one.rows == len(rows)
    assert rows_of(blocks) == dict(enumerate(rows, 2))


@settings(deadline=None, max_examples=200)
@given(st.text(st.sampled_from('a,"\n\r'), max_size=40), st.integers(1, 50))
@example("a,a,a\ra\n,,\n", 3)
def test_whatever_follows_the_header_rows_and_fields_are_those_of_the_csv_module(tail: str, size: int) -> None:
    data = HEADER + tail.encode()
    one, blocks, found = scan(data, size=size)
    if any(code in ("unclosed-quote", "bad-quote") for code, _ in found):
        return
    expected = list(csv.reader(io.StringIO(data.decode(), newline="")))
    assert rows_of(blocks) == {row: record for row, record in enumerate(expected, 1) if row > 1 and len(record) == 3}
    wrong = {row for row, record in enumerate(expected, 1) if record and len(record) != 3}
    assert {row for code, row in found if code in ("ragged-row", "truncated")} == wrong
    assert one.rows == sum(1 for record in expected[1:] if record)


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=120), st.integers(1, 64), st.sampled_from(["utf-8", "cp1252", "utf-16", "shift_jis", "utf-8-sig"]))
def test_any_bytes_are_read_to_their_end_without_an_error(tail: bytes, size: int, encoding: str) -> None:
    shape = replace(SHAPE, encoding=encoding)
    head = HEADER.decode().encode(encoding)
    _, blocks, found = scan(head + tail, shape, size)
    again = scan(head + tail, shape)
    assert rows_of(blocks) == rows_of(again[1]), "the size of the chunks decides nothing"
    assert sorted(found, key=str) == sorted(again[2], key=str)


def test_a_long_quoted_table_in_many_chunks() -> None:
    rows = [[f"{number}", 'x, "y"\nz', "ü" * (number % 7)] for number in range(5000)]
    one, blocks, found = scan(written(rows, "\n", csv.QUOTE_ALL), size=10_000)
    assert (one.rows, found) == (5000, [])
    assert list(rows_of(blocks).values()) == rows


# --------------------------------------------------------------------------------------------- bounds


def endless(start: bytes, more: bytes) -> Iterator[bytes]:
    yield HEADER + start
    while True:
        yield more * (1 << 20)


@pytest.mark.parametrize(
    ("start", "more", "code"),
    [
        pytest.param(b'A,"', b"x", "unclosed-quote", id="a quote that swallows the rest"),
        pytest.param(b'A,"', b"\n", "unclosed-quote", id="a quote that swallows lines"),
        pytest.param(b"A,", b"x", "field-too-long", id="a field without end"),
        pytest.param(b"A", b"\0", "not-text", id="zeros without end"),
        pytest.param(b"A", b"\xff", "not-text", id="no text, without end"),
        pytest.param(b"", b"a,b,1\n", "too-many-rows", id="rows without end"),
        pytest.param(b"", b"\n", "blank-row", id="blank lines without end"),
    ],
)
def test_what_has_no_end_is_given_up_in_bounded_memory(start: bytes, more: bytes, code: str) -> None:
    taken = 0

    def counted() -> Iterator[bytes]:
        nonlocal taken
        for chunk in endless(start, more):
            taken += len(chunk)
            yield chunk

    findings = Findings("a.csv")
    one = Scan(replace(SHAPE, rows=1_000_000), findings)
    for _ in one.blocks(counted()):
        pass
    assert code in {finding.code for finding in findings.all()}
    assert not one.complete
    assert taken <= LONGEST_RECORD_BYTES


def test_many_columns_and_many_short_lines_are_no_pattern_that_fills_the_memory() -> None:
    findings = Findings("a.csv")
    one = Scan(SHAPE, findings)
    tracemalloc.start()
    list(one.blocks([b"sku," * 15_000 + b"x\n", b"a\n" * (1 << 14)]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert findings.all()[0].code == "duplicate-column"
    assert peak < 64 * 1024 * 1024


def test_a_million_bad_rows_are_a_hundred_findings_and_a_count() -> None:
    findings = Findings("a.csv")
    list(Scan(SHAPE, findings).blocks([HEADER, b"A,1\n" * 5000]))
    told = findings.all()
    assert len(told) == 101
    assert told[-1].code == "more-findings"
    assert "4900 more" in told[-1].message
    assert findings.errors == 5000


def test_the_message_names_offset_and_a_likely_encoding() -> None:
    findings = Findings("a.csv")
    list(Scan(SHAPE, findings).blocks([GOOD + b"C,M\xfcller,3\n"]))
    [finding] = findings.all()
    assert f"offset {len(GOOD) + 3}" in finding.message
    assert "'ü'" in finding.fix
    assert finding.file == "a.csv"
