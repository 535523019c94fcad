"""Of a table that a person puts right only the cells named change; every other byte is the partner's."""

from __future__ import annotations

import csv
import io
import random

import pytest

from tasks.rules.cells import Cell, put_right


@pytest.mark.parametrize(
    ("before", "cell", "after"),
    [
        pytest.param('a,b,c\n"1","x", 3 \n', Cell(2, "b", "y"), 'a,b,c\n"1","y", 3 \n', id="what was quoted stays so"),
        pytest.param("a,b\r\n1,x\r\n2,z", Cell(3, "b", "y"), "a,b\r\n1,x\r\n2,y", id="no line end where there was none"),
        pytest.param('a,b\n"q ""r""\ns",x\n', Cell(2, "b", "y"), 'a,b\n"q ""r""\ns",y\n', id="quotes and lines in a field"),
        pytest.param('a,b\n1"2,x\n', Cell(2, "b", 'y"z'), 'a,b\n1"2,"y""z"\n', id="a quote in the middle"),
        pytest.param("a,b\n1,x\n", Cell(2, "b", "y,z"), 'a,b\n1,"y,z"\n', id="quoted where it must be"),
        pytest.param('\ufeff"a","b"\n1,x\n', Cell(1, "a", "c"), '\ufeff"c","b"\n1,x\n', id="a quoted header behind a mark"),
        pytest.param('a\n"x"\ny\n', Cell(3, "a", ""), 'a\n"x"\n""\n', id="an empty row is none"),
    ],
)
def test_all_other_bytes_stay(before: str, cell: Cell, after: str) -> None:
    assert put_right(before.encode(), [cell], "utf-8", ",").decode() == after


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "^"])
def test_whatever_a_table_is_written_like_one_field_changes_and_no_other_byte(delimiter: str) -> None:
    chance = random.Random(7)
    for _ in range(300):
        rows = [[_text(chance, delimiter) for _ in range(4)] for _ in range(3)]
        fields = [[_written(chance, value, delimiter) for value in row] for row in rows]
        ends = chance.choice(["\n", "\r\n"])
        header = delimiter.join("abcd") + ends

        def table(fields: list[list[str]], header: str = header, ends: str = ends) -> str:
            return header + "".join(delimiter.join(row) + ends for row in fields)

        row, column = chance.randrange(3), chance.randrange(4)
        value = _text(chance, delimiter)
        given = table(fields)
        made = put_right(given.encode(), [Cell(row + 2, "abcd"[column], value)], "utf-8", delimiter).decode()
        head = table([*fields[:row], fields[row][:column]])[: -len(ends)] + (delimiter if column else "")
        tail = (delimiter if column < 3 else "") + table([fields[row][column + 1 :], *fields[row + 1 :]], header="")
        assert made.startswith(head) and made.endswith(tail), (given, made)
        rows[row][column] = value
        assert list(csv.reader(io.StringIO(made, newline=""), delimiter=delimiter))[1:] == rows


def _text(chance: random.Random, delimiter: str) -> str:
    return "".join(chance.choice(["x", " ", '"', delimiter, "\n", "é"]) for _ in range(chance.randrange(5)))


def _written(chance: random.Random, value: str, delimiter: str) -> str:
    bare = not value.startswith('"') and not {delimiter, "\n"} & set(value) and chance.random() < 0.7
    return value if bare else '"' + value.replace('"', '""') + '"'
