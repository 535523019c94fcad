"""Content judged in one go: many files in a frame, large ones in many, and every finding where the sender can find it."""

from __future__ import annotations

import hashlib
import os
import re
import resource
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocks.errors import SpoolMissing
from blocks.profile import load_partner
from blocks.values import Arrival, Document, Finding, Inbound, RemoteFile, Severity, Verdict
from tasks import tables
from tasks.doctypes import find, known
from tasks.doctypes.base import misfits, written_as
from tasks.rules import structure, tabular
from tasks.rules.filing import check_templates, plan
from tasks.rules.findings import Findings
from tasks.rules.judge import as_facts, before_fetch, from_facts
from tasks.rules.settle import belongs
from tests.samples import Sample, drop
from tests.samples.making import HEADER, csv_text

ROOT = Path(__file__).parents[2]


def inbound(doctype: str, **changes: object) -> Inbound:
    return Inbound.model_validate(
        {
            "endpoint": "drop",
            "folder": "/out",
            "classify": [{"pattern": r"(?P<kind>[a-z]+)\d*(_(?P<reference>[^.]+))?\.(csv|pdf)", "doctype": doctype}],
            "target": {"repository": "ecm", "folder": "In"},
            **changes,
        }
    )


PRICES = inbound("price-list")
MANIFESTS = inbound("shipment-manifest", delimiter=";")
STATEMENTS = inbound("statement")

Judge = Callable[..., list[Verdict]]


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    def judged(stream: Inbound, *contents: bytes, name: bytes | None = None, **pieces: int) -> list[Verdict]:
        documents = []
        for number, content in enumerate(contents):
            path = tmp_path / str(number)
            path.write_bytes(content)
            given = name or b"a%d.csv" % number
            documents.append(Document(f"j{number}", given, len(content), hashlib.sha256(content).hexdigest(), path))
        return [verdict for _, verdict in tables.judge(documents, stream, **pieces)]

    return judged


def prices(*rows: tuple[str, str, str, str, str]) -> bytes:
    return csv_text(HEADER, rows)


def row(
    sku: str = "A-1", text: str = "x", currency: str = "EUR", price: str = "1.50", day: str = "2026-12-01"
) -> tuple[str, str, str, str, str]:
    return (sku, text, currency, price, day)


def places(verdict: Verdict) -> list[tuple[str, int | None, str | None, str | None]]:
    return [(finding.code, finding.row, finding.column, finding.value) for finding in verdict.findings]


@pytest.mark.parametrize(
    ("cells", "code", "column"),
    [
        pytest.param(row(), None, None, id="as agreed"),
        pytest.param(row(sku="00012"), None, None, id="leading zeros are kept"),
        pytest.param(row(text="NA"), None, None, id="NA is a text"),
        pytest.param(row(text=""), None, None, id="a description may be empty"),
        pytest.param(row(text="=cmd|' /C calc'!A0"), None, None, id="what a spreadsheet would run is a text to us"),
        pytest.param(row(price="0"), None, None, id="nothing is a price"),
        pytest.param(row(sku=""), "missing-value", "sku", id="an empty article number"),
        pytest.param(row(price=""), "missing-value", "price", id="an empty price"),
        pytest.param(row(day=""), "missing-value", "valid_from", id="an empty date"),
        pytest.param(row(sku="4.00639E+12"), "wrong-format", "sku", id="an article number that a spreadsheet has shortened"),
        pytest.param(row(sku="A 1"), "wrong-format", "sku", id="a blank inside an article number"),
        pytest.param(row(sku="A-1\nx"), "wrong-format", "sku", id="a newline inside an article number"),
        pytest.param(row(text="x" * 501), "too-long", "description", id="a novel for a description"),
        pytest.param(row(text="x\n" * 200), None, None, id="newlines in a description"),
        pytest.param(row(currency="eur"), "wrong-format", "currency", id="small letters for a currency"),
        pytest.param(row(price="abc"), "wrong-type", "price", id="letters for a price"),
        pytest.param(row(price="1E5"), "wrong-type", "price", id="a price that a spreadsheet has shortened"),
        pytest.param(row(price="1,5"), "wrong-type", "price", id="a decimal comma that was not agreed"),
        pytest.param(row(price="1,250.00"), "wrong-type", "price", id="a separator of thousands"),
        pytest.param(row(price=" 1.5"), "wrong-type", "price", id="a blank before a price"),
        pytest.param(row(price="nan"), "wrong-type", "price", id="not a number, in so many letters"),
        pytest.param(row(price="inf"), "wrong-type", "price", id="without end"),
        pytest.param(row(price="١٢"), "wrong-type", "price", id="digits of another script"),
        pytest.param(row(price="1\n2"), "wrong-type", "price", id="a newline inside a price"),
        pytest.param(row(price="-0.01"), "out-of-range", "price", id="a negative price"),
        pytest.param(row(price="10000001"), "out-of-range", "price", id="a price beyond belief"),
        pytest.param(row(day="03/04/2026"), "ambiguous-date", "valid_from", id="March or April"),
        pytest.param(row(day="3.4.26"), "ambiguous-date", "valid_from", id="the same with dots"),
        pytest.param(row(day="2026-02-30"), "wrong-type", "valid_from", id="a day that no calendar has"),
        pytest.param(row(day="20261201"), "wrong-type", "valid_from", id="a date without dashes"),
        pytest.param(row(day="2026-12-01T00:00"), "wrong-type", "valid_from", id="a time where a day belongs"),
        pytest.param(row(day="1899-12-30"), "out-of-range", "valid_from", id="a spreadsheet's zeroth day"),
    ],
)  # fmt: skip
def test_a_cell(judge: Judge, cells: tuple[str, str, str, str, str], code: str | None, column: str | None) -> None:
    [verdict] = judge(PRICES, prices(row("B-1"), cells, row("C-1")))
    assert verdict.accepted is (code is None)
    assert [(f.code, f.row, f.column) for f in verdict.findings] == ([] if code is None else [(code, 3, column)])
    for finding in verdict.findings:
        assert finding.file == "a0.csv"
        assert finding.rule
        assert finding.fix
        assert "\n" not in finding.message


def test_a_decimal_comma_that_was_agreed(judge: Judge) -> None:
    comma = inbound("price-list", delimiter=";", decimal=",")
    good, bad = judge(comma, csv_text(HEADER, [row(price="1,5")], ";"), csv_text(HEADER, [row(price="1.5")], ";"))
    assert good.accepted
    assert places(bad) == [("wrong-type", 2, "price", "1.5")]


def test_all_findings_at_once_each_at_its_place(judge: Judge) -> None:
    ugly = (
        b"sku,description,currency,price,valid_from\n"
        b'A-1,"two\nlines",EUR,1,2026-12-01\n'
        b"A-1,again,EUR,2,2026-12-01\n"
        b"B-1,short\n"
        b"B-2,x,EUR,-1,2026-12-01\n"
        b",x,euro,one,1/2/2026\n"
    )
    first, second, third = judge(PRICES, prices(row()), ugly, prices(row(price="-1"), row(sku="B")))
    assert first.accepted, "a bad neighbour in the frame is no fault of its own"
    assert places(second) == [
        ("duplicate-key", 3, "sku+currency+valid_from", "A-1, EUR, 2026-12-01"),
        ("ragged-row", 4, None, "2"),
        ("out-of-range", 5, "price", "-1"),
        ("missing-value", 6, "sku", ""),
        ("wrong-type", 6, "price", "one"),
        ("ambiguous-date", 6, "valid_from", "1/2/2026"),
        ("wrong-format", 6, "currency", "euro"),
    ]
    assert places(third) == [("out-of-range", 2, "price", "-1")]
    assert second.facts["rows"] == "5"


def test_equal_keys_in_two_files_are_no_duplicates(judge: Judge) -> None:
    assert all(verdict.accepted for verdict in judge(PRICES, prices(row()), prices(row(price="2"))))


# --------------------------------------------------------------------------------------------- trailers, constants, facts

MANIFEST = b"shipment;line;sku;quantity;shipped_on\nS1;1;A;2;2026-11-20\nS1;2;B;3;2026-11-20\n"


@pytest.mark.parametrize(
    ("end", "codes"),
    [
        pytest.param(b"#TRAILER;rows=2\n", [], id="the right number of rows"),
        pytest.param(b"#TRAILER;rows=2;quantity=5\n", [], id="and the right sum"),
        pytest.param(b"#TRAILER;rows=3\n", ["truncated"], id="a row is missing"),
        pytest.param(b"#TRAILER;quantity=6;rows=3\n", ["truncated"], id="and nothing is said of sums over rows that are not there"),
        pytest.param(b"#TRAILER;rows=1\n", ["trailer-mismatch"], id="more rows than told"),
        pytest.param(b"#TRAILER;rows=-2\n", ["trailer-mismatch"], id="fewer than none"),
        pytest.param(b"#TRAILER;rows=2.0\n", ["trailer-unreadable"], id="no whole number"),
        pytest.param("#TRAILER;rows=\u0662\n".encode(), ["trailer-unreadable"], id="digits of another script"),
        pytest.param(b"#TRAILER;rows=2\r\n", ["mixed-newlines"], id="another line end"),
        pytest.param(b"#TRAILER;rows=2\r\n\x1a", ["after-trailer", "mixed-newlines"], id="an end mark of old systems"),
        pytest.param(b'"#TRAILER;rows=2"\n', ["trailer-unreadable"], id="a control line in quotes"),
        pytest.param(b'"#TRAILER;rows=2\n', ["unclosed-quote"], id="a control line behind a quote that never closes"),
        pytest.param(b"S1;3;C;1;2026-11-20;x\n#TRAILER;rows=1000\n", ["ragged-row", "truncated"], id="a long row is still a row"),
        pytest.param(b"#TRAILER;rows=2;quantity=6\n", ["trailer-mismatch"], id="a sum that does not add up"),
        pytest.param(b"", ["trailer-missing"], id="cut at the end of a row"),
        pytest.param(b"#TRAILER\n", ["trailer-unreadable"], id="a control line that says nothing"),
        pytest.param(b"#TRAILER;rows=two\n", ["trailer-unreadable"], id="a number in letters"),
        pytest.param(b"#TRAILER;rows=2;weight=9\n", ["trailer-unreadable"], id="a sum of something unknown"),
        pytest.param(b"S1;2;C;1;2026-11-20\n#TRAILER;rows=3\n", ["duplicate-key"], id="a line twice"),
        pytest.param(b"S1;3;C;0;2026-11-20\n#TRAILER;rows=3\n", ["out-of-range"], id="nothing of something"),
        pytest.param(b"S1;3;C;1.5;2026-11-20\n#TRAILER;rows=3;quantity=6\n", ["wrong-type"], id="no sum is compared where a cell is bad"),
        pytest.param(b"S1;3;C\n#TRAILER;rows=3\n", ["ragged-row"], id="a short row is still a row"),
        pytest.param(b'S1;3;"C;1;2026-11-20\n#TRAILER;rows=3\n', ["unclosed-quote"], id="swallowed rows are not counted"),
    ],
)  # fmt: skip
def test_a_manifest_ends_in_its_control_line(judge: Judge, end: bytes, codes: list[str]) -> None:
    [verdict] = judge(MANIFESTS, MANIFEST + end)
    assert [finding.code for finding in verdict.findings] == codes


def test_a_cut_table_is_told_with_both_numbers(judge: Judge) -> None:
    rows = b"".join(b"S1;%d;A;2;2026-11-20\n" % line for line in range(1, 813))
    [verdict] = judge(MANIFESTS, MANIFEST.splitlines(keepends=True)[0] + rows + b"#TRAILER;rows=1000;quantity=2000\n")
    assert verdict.reason.startswith("truncated: The control line tells of 1,000 rows, and the file has 812: 188 are missing.")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a byte order mark"])
@pytest.mark.parametrize(("rows", "code"), [(2, None), (3, "truncated")])
def test_a_control_line_is_read_whatever_the_line_ends(judge: Judge, mark: bytes, rows: int, code: str | None) -> None:
    [verdict] = judge(MANIFESTS, mark + (MANIFEST + b"#TRAILER;rows=%d\n" % rows).replace(b"\n", b"\r\n"))
    assert (verdict.reason.partition(":")[0] or None) == code


def test_a_control_line_inside_a_quoted_text_is_no_control_line(judge: Judge) -> None:
    [verdict] = judge(MANIFESTS, MANIFEST + b'S1;3;"C\n#TRAILER;rows=3";1;2026-11-20\n')
    assert verdict.reason.startswith("wrong-format:")
    assert "trailer-missing" in [finding.code for finding in verdict.findings]


STATEMENT = b"reference,booked_on,text,amount,currency\nR-1,2026-11-20,x,-1.5,EUR\n"


@pytest.mark.parametrize(
    ("name", "more", "codes", "reference"),
    [
        pytest.param(b"s.csv", b"", [], "R-1", id="the content tells the reference"),
        pytest.param(b"s_R-1.csv", b"", [], "R-1", id="name and content agree"),
        pytest.param(b"s_R-2.csv", b"", ["name-content-mismatch"], "R-1", id="name and content disagree"),
        pytest.param(b"s.csv", b"R-2,2026-11-20,,2,EUR\n", ["several-values"], "R-1", id="two references in one statement"),
    ],
)
def test_a_statement_has_one_reference(judge: Judge, name: bytes, more: bytes, codes: list[str], reference: str) -> None:
    [verdict] = judge(STATEMENTS, STATEMENT + more, name=name)
    assert [finding.code for finding in verdict.findings] == codes
    assert verdict.facts["reference"] == reference


def test_a_header_alone_lacks_the_fact_that_the_target_needs(judge: Judge) -> None:
    needy = inbound("statement", target={"repository": "ecm", "folder": "In/{reference}"})
    [verdict] = judge(needy, STATEMENT.splitlines(keepends=True)[0], name=b"s.csv")
    assert [finding.code for finding in verdict.findings] == ["missing-fact", "no-rows"]


# --------------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize(
    ("frame_bytes", "held_rows"),
    [
        pytest.param(1, 1, id="a row a frame, keys on disk"),
        pytest.param(200, 1 << 18, id="a few rows a frame, keys in memory"),
        pytest.param(200, 100, id="a few rows a frame, some keys on disk and some not yet"),
        pytest.param(4 * 1024 * 1024, 1 << 18, id="one frame"),
    ],
)
def test_the_size_of_frames_decides_nothing(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, frame_bytes: int, held_rows: int
) -> None:
    monkeypatch.setattr(tables._Keys, "HELD_ROWS", held_rows)
    pieces = {"frame_bytes": frame_bytes, "chunk": 128}
    many = [row(f"K-{number}") for number in range(260)]
    assert len(prices(*many)) > structure.HEAD_BYTES + 20 * 128, "so much is read at once, the rest in chunks"
    many[250], many[255] = row("K-7", price="-1"), row("K-7")
    first, second, third = judge(PRICES, prices(row()), prices(*many), prices(row(), row()), **pieces)
    assert first.accepted
    assert places(second) == [
        ("out-of-range", 252, "price", "-1"),
        ("duplicate-key", 252, "sku+currency+valid_from", "K-7, EUR, 2026-12-01"),
        ("duplicate-key", 257, "sku+currency+valid_from", "K-7, EUR, 2026-12-01"),
    ]
    assert second.findings[1].message == "Row 252 repeats row 9: sku 'K-7', currency 'EUR', valid_from '2026-12-01'."
    assert [code for code, *_ in places(third)] == ["duplicate-key"]
    lines = "".join(f"S1;{number};A;2;2026-11-20\n" for number in range(1, 100))
    whole = MANIFEST.splitlines()[0].decode() + "\n" + lines + "#TRAILER;rows=99;quantity=198\n"
    [manifest] = judge(MANIFESTS, whole.encode(), **pieces)
    assert manifest.accepted


def test_equal_hashes_accuse_nobody(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody can make two keys whose 64-bit hashes are the same.
    monkeypatch.setattr(tables, "_hashes", lambda keys: np.zeros(len(keys), dtype="uint64"))
    [verdict] = judge(PRICES, prices(*(row(f"K-{number}") for number in range(40))), frame_bytes=100)
    assert verdict.accepted


def test_one_pandera_call_for_a_whole_consignment(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    from pandera.pandas import DataFrameSchema

    # Counted, not replaced: what a call costs is seen in no result.
    calls = []
    validate = DataFrameSchema.validate
    monkeypatch.setattr(DataFrameSchema, "validate", lambda self, *a, **k: calls.append(len(a[0])) or validate(self, *a, **k))
    assert all(verdict.accepted for verdict in judge(PRICES, *(prices(row(), row("B")) for _ in range(50))))
    assert calls == [100]


def read(texts: pa.Table) -> list[list[str]]:
    return [list(row) for row in zip(*(column.to_pylist() for column in texts.columns), strict=True)]


def test_one_bad_file_slows_no_other(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    from pandera.pandas import DataFrameSchema

    # Counted, not replaced: what a call costs, and who reads a file again, is seen in no result.
    calls, opened = [], []
    validate, opening = DataFrameSchema.validate, os.open
    monkeypatch.setattr(DataFrameSchema, "validate", lambda self, *a, **k: calls.append(len(a[0])) or validate(self, *a, **k))
    monkeypatch.setattr(os, "open", lambda path, *a, **k: opened.append(path) or opening(path, *a, **k))
    files = [prices(row(), row("B")) for _ in range(100)]
    files[50] = prices(row(), row("B", price="x"), row("C", price="-1"), row("B", price="2"))
    verdicts = judge(PRICES, *files)
    assert calls == [202], "one call, with the finding as without"
    assert len([path for path in opened if isinstance(path, Path)]) == 100, "each is read once"
    assert [number for number, verdict in enumerate(verdicts) if not verdict.accepted] == [50]
    assert [(code, at) for code, at, *_ in places(verdicts[50])] == [
        ("wrong-type", 3),
        ("out-of-range", 4),
        ("duplicate-key", 5),
    ]


def test_a_thousand_bad_cells_are_counted_and_a_hundred_told(judge: Judge) -> None:
    bad, good = judge(PRICES, prices(*(row(f"K-{number}", price="x") for number in range(1000))), prices(row()))
    assert [at for _, at, *_ in places(bad)] == [*range(2, 102), None]
    assert bad.findings[-1].message == "900 more errors were found; the first 100 are listed."
    assert good.accepted


def test_tables_in_several_frames_do_not_keep_files_open(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables._Keys, "HELD_ROWS", 1)
    before = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 2 * tables._Keys.PARTS, hard))
    try:
        verdicts = judge(PRICES, *[prices(*(row(f"K-{number}") for number in range(4)))] * 4, frame_bytes=100)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert all(verdict.accepted for verdict in verdicts)


@pytest.mark.parametrize("rule", ["[^,]+", "[^,]{3,}", "a[^;]b", r"a\sb", r"\W?", r"a\x0ab", "(?s)a.b", "a\nb"])
def test_a_rule_that_matches_newlines_is_refused(rule: str) -> None:
    # Texts are matched many at once: "" and "a" together would be "one or more that are no comma".
    with pytest.raises(ValueError, match="matches newlines"):
        written_as(rule, "any")


@pytest.mark.parametrize("rule", [r"[^\n]{3,}", r"a.b", r"(?P<s>[A-Z])\1", r"\w+\S", "[]a]", r"(?:a|[\]^])+"])
def test_a_rule_that_matches_no_newline_is_taken(rule: str) -> None:
    written_as(rule, "any")


@pytest.mark.parametrize("at", [0, 500, 999], ids=["first", "in between", "last"])
@pytest.mark.parametrize(
    "wrong",
    [{"price": "1-2"}, {"price": ""}, {"day": "1.2.2026"}, {"currency": "EURO"}, {"sku": "A 1"}],
    ids=str,
)
def test_a_wrong_cell_among_many_good_ones_is_found_wherever_it_stands(judge: Judge, at: int, wrong: dict[str, str]) -> None:
    rows = [row(f"K-{number}") for number in range(1000)]
    rows[at] = row(**{"sku": "W", **wrong})
    [verdict] = judge(PRICES, prices(*rows))
    assert [finding.row for finding in verdict.findings] == [at + 2]


RULES = [
    "[A-Z]{3}",
    "[A-Za-z0-9][A-Za-z0-9._/-]{0,3}",
    "[A-Z0-9][A-Z0-9-]{1,2}",
    "[a-c]{1,2}",
    "[A-C][a-c]{2}",
    "[^a]{2}",
    r"[\da]{2}",
    "[ä-ü]{2}",
]


@pytest.mark.parametrize("rule", RULES)
@settings(deadline=None, max_examples=300)
@given(texts=st.lists(st.text(st.sampled_from("ABab01.-/^\\ ä\u0661\n"), max_size=5), max_size=4), skipped=st.integers(0, 2))
def test_many_texts_at_once_fit_as_one_by_one(rule: str, texts: list[str], skipped: int) -> None:
    whole = pa.array(["AAA"] * skipped + texts + ["A A"], pa.string())
    expected = [number for number, one in enumerate(texts) if re.fullmatch(rule, one) is None]
    assert misfits(rule, whole.slice(skipped, len(texts))) == expected


@settings(deadline=None, max_examples=1000)
@given(
    st.lists(st.text(st.sampled_from("0123456789"), min_size=1, max_size=4), min_size=3, max_size=3),
    st.text("-/T +Z\n٣", max_size=2),
)
def test_arrow_reads_days_as_they_are_agreed_and_in_no_other_way(parts: list[str], other: str) -> None:
    year, month, day = parts
    for written in (
        f"{year}-{month}-{day}",
        f"{year}{other}{month}{other}{day}",
        f"{other}{year}-{month}-{day}",
        f"{year}-{month}-{day}{other}",
    ):
        read = tabular._days(pa.array([written], pa.string()))
        try:
            known = date.fromisoformat(written) if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", written) else None
        except ValueError:
            known = None
        assert (None if read is None else read[0].date()) == known


def test_the_calendar_has_no_year_0_and_no_30th_of_february() -> None:
    days = tabular._dates(pa.array(["0000-01-01", "2026-02-30", "0001-01-01", "2026-02-28", None], pa.string()))
    assert list(days.isna()) == [True, True, False, False, True]


def test_a_byte_order_mark_before_a_text_is_part_of_it_wherever_a_frame_begins(judge: Judge) -> None:
    verdicts = judge(PRICES, prices(row("\ufeffA"), row("B")), prices(row("A"), row("\ufeffB")))
    assert [(finding.code, finding.row) for verdict in verdicts for finding in verdict.findings] == [
        ("wrong-format", 2),
        ("wrong-format", 3),
    ]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.lists(TEXT, min_size=5, max_size=5), min_size=1, max_size=6))
def test_a_frame_holds_the_texts_exactly_as_they_were_sent(rows: list[list[str]]) -> None:
    table = find("price-list").table
    assert table is not None
    data = csv_text(HEADER, rows).partition(b"\n")[2]
    if any("\r" in text and "\n" not in text for line in rows for text in line):
        return  # Python's writer does not quote it, so it means another table
    assert read(tables._texts(data, table, ",")) == rows


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.text(st.sampled_from('a,,,," \n\r\u2028#'), max_size=60))
def test_a_frame_reads_good_records_as_they_were_counted(tail: str) -> None:
    table = find("price-list").table
    assert table is not None
    shape = structure.Shape(table.names)
    for block in structure.Scan(shape, Findings("a")).blocks([",".join(HEADER).encode() + b"\n" + tail.encode()]):
        exactly = read(tables._texts_exactly(block.data, table, ","))
        assert read(tables._texts(block.data, table, ",")) == exactly
        assert len(exactly) == block.rows


def test_a_separator_beyond_ascii(judge: Judge) -> None:
    data = "§".join(HEADER) + "\n" + "§".join(row()) + "\n" + "§".join(row("B", price="x")) + "\n"
    [verdict] = judge(inbound("price-list", delimiter="§"), data.encode())
    assert places(verdict) == [("wrong-type", 3, "price", "x")]


# --------------------------------------------------------------------------------------------- verdicts


def test_an_unrecognised_file_is_told_what_was_tried(judge: Judge) -> None:
    [verdict] = judge(PRICES, b"hello", name=b"README.TXT")
    assert not verdict.accepted
    assert verdict.reason.startswith("unrecognised: ")
    assert PRICES.classify[0].pattern in verdict.findings[0].rule


def test_a_broken_naming_rule_is_told_once(judge: Judge) -> None:
    [verdict] = judge(inbound("price-list", naming=r"only\.this"), prices(row()), name=b"README.TXT")
    assert [finding.code for finding in verdict.findings] == ["naming-rule"]


def test_an_empty_file_is_only_empty(judge: Judge) -> None:
    [verdict] = judge(PRICES, b"")
    assert [finding.code for finding in verdict.findings] == ["empty-file"]
    [welcome] = judge(inbound("price-list", limits={"smallest_bytes": 0}), b"")
    assert welcome.accepted


def test_notes_refuse_nothing_and_come_last(judge: Judge) -> None:
    good, bad = judge(PRICES, prices(row()).rstrip(), prices(row(price="x")).rstrip())
    assert good.accepted
    assert [finding.severity for finding in good.findings] == [Severity.NOTE]
    assert [finding.code for finding in bad.findings] == ["wrong-type", "no-final-newline"]


def test_missing_bytes_are_fetched_again(tmp_path: Path) -> None:
    with pytest.raises(SpoolMissing, match="fetched again"):
        tables.judge([Document("j", b"a.csv", 1, "d" * 64, tmp_path / "gone")], PRICES)


def test_the_sniffed_type_travels_with_the_document(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(prices(row()))
    [(document, _)] = tables.judge([Document("j", b"a.csv", 1, "d", tmp_path / "a")], PRICES)
    assert document.sniffed == "text/plain"


def test_a_verdict_survives_the_ledger() -> None:
    findings = (Finding("a", "m", "f", 0, "c", "", "r", "x"), Finding("b", "n", severity=Severity.NOTE))
    verdict = Verdict("j", "price-list", findings, {"rows": "1"})
    again = from_facts("j", as_facts(verdict))
    assert again.findings[1] == findings[1]
    assert (again.accepted, again.facts, again.findings[0].row) == (verdict.accepted, verdict.facts, 0)


# --------------------------------------------------------------------------------------------- the samples


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[bytes, tuple[Sample, str, str]]:
    """Each sample of the demo, and what acme's terms make of it."""
    folder = tmp_path_factory.mktemp("drop")
    acme = load_partner("acme", ROOT / "deployments")
    found: dict[bytes, tuple[Sample, str, str]] = {}
    seen: set[str] = set()
    for sample in drop(folder):
        path = Path(os.fsdecode(os.fsencode(folder / "out" / sample.stream) + b"/" + sample.name))
        file, stream = RemoteFile(f"/out/{sample.stream}", sample.name, path.stat().st_size, None), acme.streams[sample.stream]
        found[sample.name] = (sample, *outcome(file, path, stream, sample, seen))
    return found


def outcome(file: RemoteFile, path: Path, stream: Inbound, sample: Sample, seen: set[str]) -> tuple[str, str]:
    if not belongs(file, stream.settle, stream.patterns):
        return "not picked up", ""
    arrival = Arrival("j", "acme", sample.stream, file, datetime(2026, 11, 20, tzinfo=UTC))
    if refused := before_fetch(arrival, stream):
        return "quarantined", refused[0].code
    [(document, verdict)] = tables.judge([Document("j", file.name, file.size, sample.digest, path)], stream)
    if not verdict.accepted:
        return "quarantined", verdict.reason.partition(":")[0]
    plan(document, verdict, stream, "acme", sample.stream, arrival)
    known_before = sample.digest in seen
    seen.add(sample.digest)
    return ("duplicate" if known_before else "filed"), ""


def test_every_sample_becomes_what_it_says(outcomes: dict[bytes, tuple[Sample, str, str]]) -> None:
    assert len(outcomes) >= 40
    wrong = {
        name: (what, code) for name, (sample, what, code) in outcomes.items() if (what, code) != (sample.outcome, sample.code)
    }
    assert not wrong


def test_the_samples_show_every_kind_of_failure(outcomes: dict[bytes, tuple[Sample, str, str]]) -> None:
    assert {sample.outcome for sample, _, _ in outcomes.values()} == {"filed", "quarantined", "duplicate", "not picked up"}
    assert len({sample.code for sample, _, _ in outcomes.values()}) >= 20


def test_the_samples_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    assert drop(tmp_path / "a", seed=5) == drop(tmp_path / "b", seed=5)
    assert drop(tmp_path / "a", seed=5) != drop(tmp_path / "c", seed=6)


def test_acmes_templates_are_sound() -> None:
    inbound = load_partner("acme", ROOT / "deployments").inbound
    assert inbound
    for stream in inbound.values():
        assert list(check_templates(stream)) == []


@pytest.mark.parametrize("slug", sorted(known()))
def test_a_document_type_is_whole(slug: str) -> None:
    doctype = find(slug)
    assert (doctype.slug, bool(doctype.title)) == (slug, True)
    # A transfer is whatever another program has sent; all others say what they are made of.
    assert (bool(doctype.media_types), bool(doctype.extensions)) == ((slug != "transfer"),) * 2
    if doctype.table:
        assert set(doctype.table.schema().columns) <= set(doctype.table.names)
        assert {*doctype.table.key, *doctype.table.constants} <= set(doctype.table.names)
