"""What changed since the last release: one cell among many is found, whatever else moved."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from blocks.outbound import Destination, PackageFile
from tasks.doctypes import find
from tasks.rules.difference import (
    CellChange,
    Changed,
    Columns,
    Released,
    Row,
    RowChanges,
    columns_of,
    columns_of_lines,
    compare,
    difference,
    match,
    parse,
)

PRICE_LIST = find("price-list").table
assert PRICE_LIST is not None
PRICES = columns_of(PRICE_LIST, ".")
AT = datetime(2026, 11, 13, 9, 0, tzinfo=UTC)


def rows(count: int = 1000, day: str = "2026-01-01") -> list[Row]:
    return [(f"A-{n:04}", f"article {n}", "EUR", f"{n % 90 + 10}.50", day) for n in range(count)]


def planted(table: list[Row], at: int, place: int, value: str) -> list[Row]:
    row = list(table[at])
    row[place] = value
    return [*table[:at], tuple(row), *table[at + 1 :]]


def test_one_planted_price_among_a_thousand_rows_is_named() -> None:
    found = compare(rows(), planted(rows(), 612, 3, "825.00"), PRICES)
    assert (found.changed, found.added, found.removed) == (1, 0, 0)
    assert found.columns == {"price": 1}
    assert found.biggest == (CellChange("A-0612, EUR", "price", "82.50", "825.00", 9000),)
    assert found.biggest[0].percent == "+900 %"


def test_the_planted_price_is_the_biggest_also_where_every_row_has_another_day_and_most_another_price() -> None:
    """Then the type's own key (article, currency, day) fits no row of the last release."""
    later = [(*row[:3], f"{float(row[3]) * 1.02:.2f}", "2026-02-01") for row in rows()]
    found = compare(rows(), planted(later, 5, 3, "0.15"), PRICES)
    assert (found.before, found.after, found.changed, found.added, found.removed) == (1000, 1000, 1000, 0, 0)
    assert found.biggest[0].row == "A-0005, EUR" and found.biggest[0].after == "0.15"
    assert found.biggest[0].percent == "-99 %"
    assert found.columns["valid_from"] == 1000


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param([], [], RowChanges(), id="nothing on either side"),
        pytest.param([("a", "1"), ("b", "2")], [("b", "2"), ("a", "1")], RowChanges(2, 2), id="another order is no change"),
        pytest.param([], [("a", "1")], RowChanges(0, 1, added=1, first_added="a, 1"), id="a row came"),
        pytest.param([("a", "1")], [], RowChanges(1, 0, removed=1, first_removed="a, 1"), id="a row went"),
        pytest.param(
            [("a", "1")],
            [("a", "1"), ("a", "1")],
            RowChanges(1, 2, added=1, first_added="a, 1"),
            id="the same row twice is one more",
        ),
        pytest.param(
            [("a", "1"), ("a", "2")],
            [("a", "3"), ("a", "4")],
            RowChanges(2, 2, added=2, removed=2, first_added="a, 3", first_removed="a, 1"),
            id="a key of two rows pairs none",
        ),
        pytest.param(
            [("a", "0")],
            [("a", "5")],
            RowChanges(1, 1, changed=1, columns={"field 2": 1}, biggest=(CellChange("a", "field 2", "0", "5", 10**9),)),
            id="from nothing to something is the biggest of all",
        ),
        pytest.param(
            [("a", "x")],
            [("a", "y\u202e|`")],
            RowChanges(1, 1, changed=1, columns={"field 2": 1}, texts=(CellChange("a", "field 2", "x", "y\\u202e|`"),)),
            id="a text",
        ),
        pytest.param(
            [("a", "x")],
            [("a", "x", "more")],
            RowChanges(1, 1, changed=1, columns={"field 3": 1}, texts=(CellChange("a", "field 3", "", "more"),)),
            id="a row of another length",
        ),
    ],
)
def test_rows(before: list[Row], after: list[Row], expected: RowChanges) -> None:
    assert compare(before, after, columns_of_lines(".")) == expected


def test_a_decimal_comma_is_read_as_agreed_and_a_number_of_many_digits_stays_a_text() -> None:
    columns = columns_of_lines(",")
    assert compare([("a", "1,50")], [("a", "3,00")], columns).biggest[0].by == 1000
    assert compare([("a", "1.50")], [("a", "3.00")], columns).biggest == ()
    assert compare([("a", "9" * 400)], [("a", "8" * 400)], columns).biggest == ()


def test_the_rarest_text_comes_first() -> None:
    other = [(row[0], row[1] + "!", *row[2:]) for row in rows(50)]
    found = compare(rows(50), planted(other, 7, 4, "2030-01-01"), PRICES)
    assert [cell.column for cell in found.texts] == ["valid_from", "description"]


@pytest.mark.parametrize("seed", range(20))
def test_parts_add_up_to_the_whole(seed: int) -> None:
    chance = random.Random(seed)
    before = rows(60)
    after = [
        row if chance.random() < 0.6 else (*row[:3], f"{chance.randint(0, 99)}.5", chance.choice([row[4], "2026-03-01"]))
        for row in before
        if chance.random() < 0.9
    ]
    chance.shuffle(after)
    after += [(f"B-{n}", "", "EUR", "1", "2026-01-01") for n in range(chance.randint(0, 3))]
    whole, total = compare(before, after, PRICES), RowChanges()
    for part in range(4):
        mine = [[row for row in side if sum(map(ord, "".join(PRICES.part(row)))) % 4 == part] for side in (before, after)]
        total += compare(*mine, PRICES)
    counts = ("before", "after", "added", "removed", "changed", "columns", "biggest")
    assert [getattr(total, name) for name in counts] == [getattr(whole, name) for name in counts]
    assert whole.after - whole.before == whole.added - whole.removed == len(after) - len(before)


def test_a_table_without_a_key_is_compared_by_whole_rows() -> None:
    found = compare([("a", "1")], [("a", "2")], Columns())
    assert (found.added, found.removed, found.changed) == (1, 1, 0)


# --------------------------------------------------------------------------------------------- documents


def file(name: str, digest: str = "0") -> PackageFile:
    return PackageFile(name.encode(), 10, digest * 64, f"id of {name}", 1)


def doctype(one: PackageFile) -> str | None:
    return "price-list" if one.name.endswith(b".csv") else None


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(["a.csv", "b.csv"], ["b.csv", "a.csv"], {"a.csv": "a.csv", "b.csv": "b.csv"}, id="by name"),
        pytest.param(
            ["p-2026-10-01.csv", "q-1.csv"],
            ["p-2026-11-01.csv", "q-2.csv"],
            {"p-2026-11-01.csv": "p-2026-10-01.csv", "q-2.csv": "q-1.csv"},
            id="by name but for its digits",
        ),
        pytest.param(["old.csv", "x.pdf"], ["new.csv", "x.pdf"], {"new.csv": "old.csv", "x.pdf": "x.pdf"}, id="by type"),
        pytest.param(["a.csv", "b.csv"], ["c.csv"], {}, id="two could be meant: none is"),
        pytest.param(["a.pdf"], ["b.pdf"], {}, id="nothing in common"),
    ],
)
def test_which_document_takes_the_place_of_which(before: list[str], after: list[str], expected: dict[str, str]) -> None:
    pairs, gone, fresh = match([file(name) for name in before], [file(name) for name in after], doctype)
    assert {new.shown: old.shown for old, new in pairs} == expected
    assert len(pairs) + len(gone) == len(before) and len(pairs) + len(fresh) == len(after)


def test_all_together_and_back_from_the_ledger() -> None:
    here, there = (Destination("sftp", host, 22, "acme", "/in", "key") for host in ("new.example", "old.example"))
    released = Released("o-1", "d" * 64, AT, (there,), (file("same.csv"), file("a.csv"), file("b.csv"), file("gone.pdf")))
    pairs, gone, fresh = match(
        released.files, [file("same.csv"), file("a.csv", "1"), file("b.csv", "1"), file("n.txt")], doctype
    )
    little = Changed("a.csv", "a.csv", 10, 10, compare(rows(), planted(rows(), 3, 3, "13.60"), PRICES))
    much = Changed("b.csv", "b.csv", 10, 10, compare(rows(), planted(rows(), 3, 3, "99.60"), PRICES))
    found = difference(released, (here,), pairs, gone, fresh, [little, much])
    assert (found.same, found.changed, found.added, found.gone) == (1, 2, 1, 1)
    assert [one.name for one in found.documents] == ["b.csv", "a.csv"]
    assert (found.names_added, found.names_gone) == (("n.txt",), ("gone.pdf",))
    assert found.places_added == (here.shown,) and found.places_gone == (there.shown,)
    assert parse(found.facts) == found
