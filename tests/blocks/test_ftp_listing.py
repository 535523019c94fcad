"""What servers write into listings, and what we make of it: every odd line is counted, and none becomes a file."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.endpoints.ftp_listing import (
    Entry,
    Odd,
    entries,
    list_line,
    mlsd_line,
    mlst_answer,
    nlst_line,
    readable,
    timestamp,
)
from blocks.values import FileKind

FILE, FOLDER, LINK, OTHER = FileKind.FILE, FileKind.FOLDER, FileKind.LINK, FileKind.OTHER


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(b"-rw-r--r--    1 0  0   5 Nov 21 11:13 a.csv", (b"a.csv", FILE, 5), id="vsftpd"),
        pytest.param(
            b"-rw-r--r--    1 0  0   5 Nov 21  2025  two blanks ", (b" two blanks ", FILE, 5), id="blanks of the name"
        ),
        pytest.param(
            b"drwxr-xr-x+ 2 ftp Domain Users 0 M\xe4r  1 2025 x", (b"x", FOLDER, 0), id="a group with a blank, German"
        ),
        pytest.param(b"-rw-rw-r-- 1 u g 12 2026-11-21 15:53 n", (b"n", FILE, 12), id="ISO date"),
        pytest.param(b"-rw-rw-r-- 1 u g 12 21. Nov 15:53 n", (b"n", FILE, 12), id="day before month"),
        pytest.param(b"-r--------   1 17 Jan 01 2001 n", (b"n", FILE, 17), id="no owner"),
        pytest.param(
            b"-rw-r--r-- 1 1 2 17 Jan 01 2001 33 Feb 02 2002 n", (b"33 Feb 02 2002 n", FILE, 17), id="a date in the name"
        ),
        pytest.param(b"lrwxrwxrwx 1 0 0 5 Nov 21 11:13 link -> ../plain", (b"link", LINK, 5), id="a link"),
        pytest.param(b"prw-r--r-- 1 0 0 0 Nov 21 11:13 fifo", (b"fifo", OTHER, 0), id="a pipe"),
        pytest.param(b"crw-rw-rw- 1 root root 1, 3 Jan 01 00:00 null", (b"null", OTHER, None), id="a device"),
        pytest.param(b"-rw-r--r-- 1 0 0 5 Nov 21 11:13 \xff\x1b[2J.csv", (b"\xff\x1b[2J.csv", FILE, 5), id="any bytes"),
        pytest.param(b"02-03-01  04:05AM                 1234 a b.csv", (b"a b.csv", FILE, 1234), id="IIS"),
        pytest.param(b"10-23-2024  03:25PM       <DIR>          name", (b"name", FOLDER, None), id="IIS folder"),
        pytest.param(b"10/23/2024  15:25     1,234,567 n", (b"n", FILE, 1234567), id="DOS with commas"),
    ],
)
def test_lines_of_list(line: bytes, expected: tuple[bytes, FileKind, int | None]) -> None:
    assert list_line(line) == Entry(*expected, None)


@pytest.mark.parametrize(
    "line", [b"total 12", b"", b"  ", b"drwxr-xr-x 2 0 0 4096 Nov 21 11:13 .", b"drwxr-xr-x 2 0 0 4096 Nov 21 11:13 .."]
)
def test_what_is_no_entry_on_purpose_is_passed_over(line: bytes) -> None:
    assert list_line(line) is None


@pytest.mark.parametrize(
    "line",
    [
        b"Welcome to our server",
        b"-rw-r--r-- 1 cut",
        b"-rw-r--r-- 1 0 0 5 Nov 21 11:13 ",
        b"-rw-r--r-- 1 0 0 many Nov 21 11:13 n",
        b"QSYS 28672 06/07/22 10:00:00 *FILE A.FILE",
        b"U00001 2022/06/07 1 15 VB 27998 PO MVS.DATA",
        b"total nonsense",
        b"break",
    ],
)
def test_odd_lines_are_told_as_odd(line: bytes) -> None:
    assert list(entries([line + b"\r\n"], list_line)) == [(Odd(line), False)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(
            b"type=file;size=156;modify=20261121155301; a; b=c.csv",
            Entry(b"a; b=c.csv", FILE, 156, datetime(2026, 11, 21, 15, 53, 1, tzinfo=UTC)),
            id="a file",
        ),
        pytest.param(b"Type=DIR;Unique=8U1; d", Entry(b"d", FOLDER, None, None, b"8U1"), id="capitals, unique"),
        pytest.param(b"type=OS.unix=slink:/etc;size=4; l", Entry(b"l", LINK, 4, None), id="a link with its target"),
        pytest.param(b"type=OS.unix=symlink; l", Entry(b"l", LINK, None, None), id="a link as proftpd tells it"),
        pytest.param(b"type=OS.unix=chr-1/3; n", Entry(b"n", OTHER, None, None), id="a device"),
        pytest.param(b"type=file;size=x;modify=yesterday; n", Entry(b"n", FILE, None, None), id="nonsense in facts"),
        pytest.param(b"type=file;size=1;  n ", Entry(b" n ", FILE, 1, None), id="blanks of the name"),
        pytest.param(b"type=cdir; /drop", None, id="the folder itself"),
    ],
)
def test_lines_of_mlsd(line: bytes, expected: Entry | None) -> None:
    assert mlsd_line(line) == expected


@pytest.mark.parametrize("line", [b"break", b".csv", b"Hello there", b"type=file;size=12", b"type=file n", b" name only"])
def test_odd_lines_of_mlsd(line: bytes) -> None:
    assert list(entries([line + b"\r\n"], mlsd_line)) == [(Odd(line), False)]


def test_mlst_is_the_line_with_a_blank_before_it() -> None:
    told = mlst_answer([b"-Listing", b" type=file;size=3; /drop/n", b"End"])
    assert told == Entry(b"/drop/n", FILE, 3, None)
    assert mlst_answer([b"-Listing", b"End"]) is None


def test_half_a_name_is_marked_and_the_other_half_is_odd() -> None:
    whole = b"type=file;size=1; "
    lines = [whole + b"a\r\n", whole + b"first\n", b"second\r\n", whole + b"third\r\n", b"fourth\r\n", whole + b"z\r\n"]
    found = [(told.name if isinstance(told, Entry) else told, half) for told, half in entries(lines, mlsd_line)]
    assert found == [
        (b"a", False),
        (b"first", True),
        (Odd(b"second"), False),
        (b"third", True),
        (Odd(b"fourth"), False),
        (b"z", False),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"20261121155301", datetime(2026, 11, 21, 15, 53, 1, tzinfo=UTC)),
        (b"20261121155301.25", datetime(2026, 11, 21, 15, 53, 1, 250_000, tzinfo=UTC)),
        (b"20261321155301", None),
        (b"2026112115530", None),
        (b"", None),
    ],
)
def test_times(text: bytes, expected: datetime | None) -> None:
    assert timestamp(text) == expected


NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: not set(name) & set(b"\r\n\0/") and name not in (b".", b".."))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(NAMES, st.integers(0, 10**15))
def test_any_name_survives_a_listing(name: bytes, size: int) -> None:
    unix = b"-rw-r--r--   1 owner group %12d Nov 21 11:13 %b\r\n" % (size, name)
    facts = b"type=file;size=%d;modify=20261121111300; %b\r\n" % (size, name)
    dos = b"11-21-26  11:13AM %20d %b\r\n" % (size, name)
    for line, parse in ((unix, list_line), (facts, mlsd_line), (dos, list_line)):
        ((told, half),) = entries([line], parse)
        assert isinstance(told, Entry)
        assert (told.name, told.size, told.kind, half) == (name, size, FILE, False)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.binary(max_size=60)))
def test_no_line_is_lost_and_none_ends_the_listing(lines: list[bytes]) -> None:
    clean = [line.replace(b"\n", b"") for line in lines]
    for parse in (list_line, mlsd_line):
        told = list(entries([line + b"\r\n" for line in clean], parse))
        passed_over = sum(1 for line in clean if _passes(line, parse))
        assert len(told) + passed_over == len(clean)


def _passes(line: bytes, parse: object) -> bool:
    try:
        return parse(line) is None  # type: ignore[operator]
    except ValueError:
        return False


@pytest.mark.parametrize(
    ("line", "name"),
    [
        pytest.param(b"a.csv", b"a.csv", id="bare"),
        pytest.param(b" two  blanks ", b" two  blanks ", id="blanks"),
        pytest.param(b"./a.csv", b"a.csv", id="here"),
        pytest.param(b"/out/a.csv", b"a.csv", id="the folder before it"),
        pytest.param(b"/outside/a.csv", b"/outside/a.csv", id="another folder stays, and is no legal name"),
        pytest.param(b"../a.csv", b"../a.csv", id="a way out stays, and is no legal name"),
    ],
)
def test_lines_of_nlst(line: bytes, name: bytes) -> None:
    assert nlst_line(line, b"/out") == Entry(name, None, None, None)


@pytest.mark.parametrize("line", [b"", b".", b"..", b"./.", b"/out/.."])
def test_what_is_no_name_in_nlst(line: bytes) -> None:
    assert nlst_line(line, b"/out/") is None


def test_a_listing_of_which_nothing_can_be_read_is_told_from_an_empty_one() -> None:
    assert readable([], list_line)
    assert readable([b"\r\n"], list_line)
    assert readable([b"Welcome!\r\n", b"-rw-r--r--    1 0  0   5 Nov 21 11:13 a.csv\r\n"], list_line)
    assert not readable([b"Volume Unit    Referred\r\n", b"WYOSPT 3420   2003/05/21 A.CSV\r\n"], list_line)
