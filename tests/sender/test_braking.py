"""What the sender finds unusual, from its own record and from bytes that have the digest that was signed."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from blocks.outbound import Outbound, Package, PackageFile, Redelivery, canonical
from deployments.sender import braking, gauging
from deployments.sender.braking import Reading, brakes
from deployments.sender.store import Counted, Opening, Parcel, Step, Store
from tasks.rules.policy import Moments
from tasks.rules.structure import Shape
from tests.rules.signoff.world import package, terms

PRICES = Reading("utf-8", ",", ".", "price")


class Desk:
    """A sender's record and a spool, without a sender."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.spool, self.store, self.clock = folder / "spool", store, datetime.now(UTC) - timedelta(days=30)
        self.spool.mkdir()

    def place(self, digest: str) -> Path:
        return self.spool / digest

    def pack(self, *contents: bytes, **changed: Any) -> Package:
        """A package of ``1.csv``, ``2.csv``, …, its bytes in the spool."""
        files = []
        for number, content in enumerate(contents, 1):
            digest = hashlib.sha256(content).hexdigest()
            self.place(digest).write_bytes(content)
            files.append(PackageFile(f"{number}.csv".encode(), len(content), digest, f"id-{number}", 1))
        return replace(package(*files), **{"order": f"o-{uuid4().hex[:6]}", **changed})

    def brakes(self, about: Package, under: Outbound, **bounds: int) -> tuple[str, ...]:
        return brakes(about, under, self.store, self.place, **bounds)

    def deliver(self, about: Package, under: Outbound, step: Step = Step.PROVEN, left_out: tuple[str, ...] = ()) -> None:
        """It is opened, and what is not left out comes as far as told, each a day after the one before."""
        told = Opening("rita", frozenset(), Moments(self.clock + timedelta(days=14)), self.brakes(about, under))
        with self.store.bench() as bench:
            bench.open(about, told, self.clock)
        self.clock += timedelta(days=1)
        place = canonical(about.destinations[0].facts)
        parcels = [
            Parcel(about.digest, place, file.name, n, file.sha256, file.size, b".t", file.name)
            for n, file in enumerate(about.kept(left_out))
        ]
        self.store.move({step: self.store.intend(parcels)})


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Store(tmp_path / "state") as store:
        yield Desk(tmp_path, store)


def table(rows: int, price: str = "2.00") -> bytes:
    """So many rows of one price; no two have the same bytes."""
    return f"sku,price,{uuid4().hex}\n{f'a,{price},x' + chr(10)}".encode() + f"b,{price},x\n".encode() * (rows - 1)


BRAKE = {"files": 2, "rows": 3, "value": {"column": "price", "factor": 2}, "removed": 40}
UNDER = terms(brake=BRAKE)


def usual(desk: Desk) -> None:
    """Three releases of two documents, with twenty rows and 40.00 in all."""
    for _ in range(3):
        desk.deliver(desk.pack(table(10), table(10)), UNDER)


def mixed(*rows: int, price: str = "2.00") -> Callable[[], list[bytes]]:
    return lambda: [table(count, price) for count in rows]


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        pytest.param(mixed(10, 10), (), id="as usual"),
        pytest.param(mixed(5, 5, 4, 3, 3), ("5 files, usually 2",), id="files"),
        pytest.param(mixed(30, 31, price="0.50"), ("61 rows, usually 20",), id="rows"),
        pytest.param(mixed(10, 10, price="-4.10"), ("82 in column price, usually 40",), id="value, whatever its sign"),
        pytest.param(mixed(20), ("1 of 2 files are gone since the last release",), id="files gone"),
        pytest.param(mixed(6, 5, price="3.00"), ("9 of 20 rows are gone since the last release",), id="rows gone"),
        pytest.param(mixed(10, 10, price="two"), ("nobody could count what it has in column price",), id="no numbers"),
    ],
)
def test_what_is_far_from_what_was_delivered_asks_for_one_more_signature(
    desk: Desk, contents: Callable[[], list[bytes]], said: tuple[str, ...]
) -> None:
    usual(desk)
    assert desk.brakes(desk.pack(*contents()), UNDER) == said


def test_what_was_counted_before_open_quotes_were_found_is_counted_again_and_still_usual(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reading, "key", Reading.key_before)
    usual(desk)
    hidden = desk.pack(b'sku,price,x\na,40,"x\n' + b"b,999999,x\n" * 19)
    desk.store.count(hidden.files[0].sha256, PRICES.key, Counted(1, 40.0))
    monkeypatch.undo()
    assert desk.brakes(hidden, terms(brake={"value": BRAKE["value"]})) == (NO_VALUE,)
    assert desk.brakes(desk.pack(*mixed(30, 31)()), UNDER) == ("61 rows, usually 20", "122 in column price, usually 40")


def test_who_looks_for_a_table_s_header_leaves_other_readers_their_bound() -> None:
    before = csv.field_size_limit(1000)
    try:
        assert gauging._begins_as(b"sku,price\na,1\n", Shape(("sku", "price"), "utf-8", ","))
        assert csv.field_size_limit() == 1000
    finally:
        csv.field_size_limit(before)


def test_only_what_was_delivered_is_usual(desk: Desk) -> None:
    usual(desk)
    for _ in range(2):
        desk.deliver(desk.pack(*mixed(*[4] * 9)()), UNDER, Step.UPLOADED)  # opened and never placed, as anybody can
        desk.deliver(desk.pack(*mixed(*[4] * 9)(), stream="another"), UNDER)
        desk.deliver(desk.pack(*mixed(*[4] * 9)(), partner="another"), UNDER)
    assert desk.brakes(desk.pack(*mixed(4, 4, 4, 4, 4)()), UNDER) == ("5 files, usually 2",)


def test_an_order_counts_as_a_whole_with_what_was_left_of_it(desk: Desk) -> None:
    usual(desk)
    lone = desk.pack(table(20), order="nobody~0123456789ab")
    assert desk.brakes(lone, UNDER) == ("1 of 2 files are gone since the last release",), "a part of nothing is a release"
    parent = desk.pack(table(10), table(10))
    desk.deliver(parent, UNDER, left_out=("2. 2.csv",))
    assert desk.brakes(parent.child(["2. 2.csv"]), UNDER) == (), "the rest of an order is no small release"
    rest = desk.pack(*mixed(3, 3, 3, 3)(), order=f"{parent.root_order}~0123456789ab")
    more = replace(rest, files=tuple(replace(file, name=b"x" + file.name) for file in rest.files))
    assert desk.brakes(more, UNDER) == ("5 files, usually 2",), "nor are many parts of one order"


def test_a_corrected_document_counts_as_it_was_sent_last(desk: Desk) -> None:
    wrong = desk.pack(table(10), table(10))
    right = desk.pack(table(11), order=f"{wrong.root_order}~0123456789ab")
    desk.deliver(wrong, UNDER)
    desk.deliver(right, UNDER)
    told = desk.store.went(wrong.partner, wrong.stream, wrong.root_order)
    assert told == {file.name: (file.sha256, file.size) for file in (*right.files, wrong.files[1])}


def test_bytes_that_are_not_those_of_the_package_are_not_counted_and_one_more_person_signs(desk: Desk) -> None:
    usual(desk)
    for spoil in (lambda path: path.write_bytes(table(1)), Path.unlink, _linked, _piped):
        about = desk.pack(table(10), table(10))
        spoil(desk.place(about.files[0].sha256))
        assert desk.brakes(about, UNDER) == ("nobody could count its rows", "nobody could count what it has in column price")


def _linked(path: Path) -> None:
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


def _piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def test_what_was_counted_once_is_known_also_when_the_spool_has_lost_it(desk: Desk) -> None:
    usual(desk)
    about = desk.pack(table(10), table(10))
    assert desk.brakes(about, UNDER) == ()
    for file in about.files:
        desk.place(file.sha256).unlink()
    assert desk.brakes(about, UNDER) == ()


def test_tables_that_are_too_large_to_be_counted_ask_for_one_more_signature(
    desk: Desk,
) -> None:
    about, rows = desk.pack(table(1000)), terms(brake={"rows": {"most": 10**6}})
    assert desk.brakes(about, rows, most_bytes=1000) == ("nobody could count its rows",)
    assert desk.brakes(about, terms(brake={"files": 3}), most_bytes=1000) == (), "nobody asks for its rows"
    assert desk.brakes(about, rows) == ()


NO_ROWS, NO_VALUE = "nobody could count its rows", "nobody could count what it has in column price"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda text: b"%PDF-\n" + text, (NO_ROWS, NO_VALUE), id="a table that begins as a PDF does"),
        pytest.param(lambda text: text.replace(b"a,", b"a\x1b,", 1), (NO_ROWS, NO_VALUE), id="a byte that is in no text"),
        pytest.param(lambda text: text.decode().encode("utf-16"), (NO_ROWS, NO_VALUE), id="another encoding"),
        pytest.param(lambda text: text.replace(b"price", b"Price"), (NO_VALUE,), id="another name of the column"),
        pytest.param(lambda text: text.replace(b",", b";"), (NO_VALUE,), id="another delimiter"),
        pytest.param(lambda text: b"Prices\n" + text, (NO_VALUE,), id="a title before the table"),
        pytest.param(lambda text: b"\n" + text, (NO_VALUE,), id="an empty line before the table"),
    ],
)
def test_a_table_that_is_not_what_was_agreed_is_not_taken_for_none(
    desk: Desk, spoil: Callable[[bytes], bytes], said: tuple[str, ...]
) -> None:
    usual(desk)
    assert desk.brakes(desk.pack(spoil(table(4000)), spoil(table(4000))), UNDER)[-len(said) :] == said
    spoiled, whole = spoil(table(10)), table(10)
    about = desk.pack(spoiled, whole)
    other = replace(about, files=(replace(about.files[0], name=b"1.pdf"), about.files[1]))
    desk.brakes(other, UNDER)
    assert (NO_ROWS in said) == (NO_ROWS in desk.brakes(about, UNDER)), "whatever was counted when it had another name"


def test_documents_that_are_no_tables_are_worth_nothing_beside_one(desk: Desk) -> None:
    usual(desk)
    about = desk.pack(table(20), b"%PDF-1.7 a letter")
    assert desk.brakes(replace(about, files=(about.files[0], replace(about.files[1], name=b"2.pdf"))), UNDER) == ()
    assert desk.brakes(about, UNDER) == (NO_ROWS, NO_VALUE), "it is called a table"


def test_what_goes_once_more_is_not_asked_about_and_where_nothing_was_agreed_nothing_is(desk: Desk) -> None:
    usual(desk)
    far = desk.pack(*mixed(*[4] * 9)())
    assert desk.brakes(replace(far, redelivery=Redelivery("o-1", "a" * 64, 2, "lost", "rita")), UNDER) == ()
    assert desk.brakes(far, terms()) == ()


@pytest.mark.parametrize(
    ("content", "told", "found"),
    [
        pytest.param(b"sku,price\na,1.50\nb,2\n", {}, Counted(2, 3.5), id="a table"),
        pytest.param(b"\xef\xbb\xbfprice,sku\r\n1,a\r\n", {}, Counted(1, 1.0), id="with a byte order mark"),
        pytest.param(
            b'sku,price\n"a\nb",1\n\n,\n', {}, Counted(1, 1.0), id="a line end in quotes, and lines that hold nothing"
        ),
        pytest.param(
            "artikel;preis\nStück;1,5\n".encode("latin-1"),
            {"encoding": "latin-1", "delimiter": ";", "decimal": ",", "column": "preis"},
            Counted(1, 1.5),
            id="as the stream agreed",
        ),
        pytest.param(b"sku,amount\na,1\n", {}, Counted(1, 0.0), id="without the column"),
        pytest.param(b"sku,price\na\n", {}, Counted(1, None), id="a row without the cell"),
        pytest.param(b"sku,price\na,1e9\n", {}, Counted(1, None), id="no plain number"),
        pytest.param(b"sku,price\na,1\n", {"column": ""}, Counted(1, 0.0), id="no column is asked for"),
        pytest.param(b'sku,price\n"' + b"a" * 200_000, {}, Counted(1, None), id="a quote that is never closed"),
        pytest.param(b'sku,price,x\na,1,"x\nb,9,x\nc,9,x\n', {}, Counted(1, None), id="nor before the rows behind it end"),
        pytest.param(
            "price\nß\n1\n".encode("utf-8-sig"), {"encoding": "latin-1"}, Counted(2, None), id="a mark of another encoding"
        ),
        pytest.param(b"\xef\xbb\xbfprice\n1\n", {"encoding": "latin-1"}, Counted(1, 1.0), id="a mark before another encoding"),
        pytest.param(
            "price\n1\n".encode("utf-16"), {"encoding": "utf-16"}, Counted(1, 1.0), id="two bytes a letter, as agreed"
        ),
        pytest.param(
            "\ufeffprice\n1\n".encode("utf-16-le"), {"encoding": "utf-16-le"}, Counted(1, 1.0), id="marked all the same"
        ),
        pytest.param("price\n1\n".encode("utf-16-be"), {"encoding": "utf-16-be"}, Counted(1, 1.0), id="and unmarked"),
        pytest.param("price\n1\n".encode("utf-16"), {}, None, id="two bytes a letter, not agreed"),
        pytest.param("price\n1\n".encode("utf-16-le"), {}, None, id="nor marked"),
        pytest.param(b"sku,price\na\0,1\n", {}, None, id="one byte that is in no text"),
        pytest.param(b"%PDF-1.7\n1\n2\n3\n", {}, Counted(0, 0.0), id="no table"),
        pytest.param(b"", {}, Counted(0, 0.0), id="nothing"),
    ],
)
def test_rows_and_values_of_a_document(tmp_path: Path, content: bytes, told: Mapping[str, Any], found: Counted) -> None:
    path = tmp_path / "document"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    assert braking._count(path, digest, len(content), replace(PRICES, **told), promised=False) == found
    path.write_bytes(content + b"x")
    assert braking._count(path, digest, len(content), PRICES, promised=False) is None
