"""What a person answers about a case is read with care, and what is put right changes those cells and no other byte."""

from __future__ import annotations

import math

import pytest

from blocks.values import Finding
from tasks.rules.case_form import Decision, Page, page, parse, texts, typed
from tasks.rules.cells import Cell, parsed, put_right
from tests.rules.signoff.test_dialog import EVIL, assert_harmless

TABLE = b'\xef\xbb\xbfsku;name;price\r\nA;"Bolt;\r\nlong";one\r\nB;Nut ;2,50\r\n#END;rows=2'


@pytest.mark.parametrize(
    ("cells", "before", "after"),
    [
        pytest.param([Cell(2, "price", "1,50")], b'"Bolt;\r\nlong";one', b'"Bolt;\r\nlong";1,50', id="a record of two lines"),
        pytest.param([Cell(3, "name", 'Nut; "M8"')], b"Nut ", b'"Nut; ""M8"""', id="quoted where it must be"),
        pytest.param([Cell(1, "price", "cost")], b"name;price", b"name;cost", id="a name in the header, behind its mark"),
        pytest.param([Cell(1, "sku", "article")], b"\xbfsku", b"\xbfarticle", id="the first name keeps the mark"),
        pytest.param([Cell(4, "name", "rows=3")], b"rows=2", b"rows=3", id="the last line, which has no end"),
    ],
)
def test_only_the_named_cells_change(cells: list[Cell], before: bytes, after: bytes) -> None:
    assert put_right(TABLE, cells, "utf-8", ";") == TABLE.replace(before, after)


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        pytest.param([], "at least one", id="none"),
        pytest.param([Cell(9, "price", "1")], "4 rows", id="a row that is not there"),
        pytest.param([Cell(2, "cost", "1")], "no column", id="a column that is not there"),
        pytest.param([Cell(4, "price", "1")], "only 2 fields", id="a field that is not there"),
        pytest.param([Cell(2, "price", "1"), Cell(2, "price", "2")], "two values", id="two values for one"),
        pytest.param([Cell(n, "price", "1") for n in range(201)], "201 cells", id="too many"),
    ],
)
def test_a_cell_that_cannot_be_is_told(cells: list[Cell], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        put_right(TABLE, cells, "utf-8", ";")


def test_what_cannot_be_read_or_written_is_told() -> None:
    with pytest.raises(ValueError, match="cannot be read as ascii"):
        put_right(TABLE, [Cell(2, "price", "1")], "ascii", ";")
    with pytest.raises(ValueError, match="cannot be written in cp1252"):
        put_right(b"a;b\n1;2\n", [Cell(2, "b", "ж")], "cp1252", ";")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("7, quantity = 12", Cell(7, "quantity", "12")),
        ("Row 7; net price=1,50", Cell(7, "net price", "1,50")),
        ("7,a= b = c ", Cell(7, "a", "b = c")),
        ("7, quantity =", Cell(7, "quantity", "")),
    ],
)
def test_a_cell_as_people_write_it(text: str, cell: Cell) -> None:
    assert parsed(text) == cell


@pytest.mark.parametrize("text", ["", "quantity = 12", "7 quantity 12", "seven, a = 1", "-1, a = 1", "7, = 1"])
def test_what_is_no_cell_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write row, column = value"):
        parsed(text)


EVERY = list(Decision)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (None, "could not be read"),
        ("approve", "could not be read"),
        ({"decision": Decision.COMMENT, "who": "anna", "comment": "x", "more": 1}, "could not be read"),
        ({"decision": Decision.COMMENT.value, "who": "anna", "comment": ["x"]}, "could not be read"),
        ({"decision": Decision.COMMENT.value, "who": "anna", "comment": "\ud800"}, "could not be read"),
        ({"decision": "file it", "who": "anna"}, "none of the decisions"),
        ({"decision": Decision.COMMENT.value, "who": "eve", "comment": "x"}, "nobody of people.yaml"),
        ({"decision": Decision.RELEASE.value, "who": "anna", "comment": " "}, "Say why"),
        ({"decision": Decision.COMMENT.value, "who": "anna", "comment": "x" * 2001}, "at most 2000"),
        ({"decision": Decision.ASSIGN.value, "who": "anna"}, "Say to whom"),
        ({"decision": Decision.CORRECT.value, "who": "anna", "comment": "x"}, "either cells or a file"),
        ({"decision": Decision.CORRECT.value, "who": "anna", "comment": "x", "file": "a", "cells": ["b"]}, "either cells"),
        ({"decision": Decision.CLOSE.value, "who": "anna", "comment": "x", "file": "a"}, "nothing was done"),
    ],
)
def test_an_answer_that_says_nothing_clear_is_no_answer(raw: object, why: str) -> None:
    told = parse(raw, EVERY, ["anna"])
    assert isinstance(told, str) and why in told


def test_a_decision_that_a_case_does_not_take_is_refused_although_it_is_one() -> None:
    raw = {"decision": Decision.RELEASE.value, "who": "anna", "comment": "x"}
    assert isinstance(parse(raw, [Decision.COMMENT], ["anna"]), str)
    assert not isinstance(parse(raw, EVERY, []), str), "without people.yaml whoever answers is as stated"


def test_nothing_from_outside_is_markup_in_the_form() -> None:
    for evil in EVIL:
        finding = Finding(evil, evil, evil, column=evil, value=evil, row=2, fix=evil)
        told = Page("j", evil, evil, evil, evil, evil, evil, evil, (finding,), (evil,), (), evil, {"comment": evil, evil: evil})
        assert_harmless(page(told))


def test_of_what_was_planted_only_the_fields_there_are_are_shown_again() -> None:
    planted = {
        "who": math.nan,
        "comment": "\ud800",
        "file": "f",
        "cells": ["a", "b"],
        "assign_to": [1],
        "[x](y)": "z",
        "decision": "d",
    }
    assert typed(planted) == {"decision": "d", "cells": ["a", "b"], "file": "f"}
    assert list(texts(planted)) == ["\ud800", "f", "a", "b", "[x](y)", "z", "d"]
    assert typed("x") == {} and list(texts(None)) == []
    told = parse({"\ud800": 1}, EVERY, ["anna"])
    assert isinstance(told, str) and told.encode(), "the ledger takes only what can be written"
