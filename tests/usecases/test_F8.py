"""F8 Onboarding with exceptions: three bad rows of five hundred, and a report on them that the partner can work with.

File 360 is the repository of this use case. The report goes where the profile says: a folder on the partner's own server. A folder at
File 360 that the partner sees would be a share outside.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from blocks.settings import settings
from tests.sender.thread import sender_thread
from tests.world import World, file360

HEADER = "shipment,line,sku,quantity,shipped_on"
NAME = "shipments.csv"
BAD = {7: "many", 250: "", 499: "-3"}
"""Row, as a spreadsheet counts it -> the quantity that is none."""


def shipments(bad: dict[int, str]) -> bytes:
    """Five hundred rows and their control line."""
    rows = [f"S{row},1,A-{row},{bad.get(row, '2')},2026-11-20" for row in range(2, 502)]
    return "\n".join([HEADER, *rows, "#TRAILER;rows=500;quantity=1000", ""]).encode()


def agree(world: World, rows: str) -> None:
    world.agree(
        rows=rows,
        classify=[{"pattern": r"shipments\.csv", "doctype": "shipment-manifest"}],
        notes={"folder": f"{world.remote}/notes", "formats": ["csv"]},
    )


@pytest.fixture(scope="module")
def ecm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """File 360 is this use case's repository."""
    with file360(tmp_path_factory.mktemp("file360")) as service:
        yield service


@pytest.fixture
def partner(world: World) -> Iterator[World]:
    (world.remote / "notes").mkdir()
    with sender_thread(settings().sender_socket, world.home / "sender", profiles=world.profiles, spool=settings().spool):
        yield world


def reported(world: World) -> list[tuple[str, str, str]]:
    """Row, column and value of each line of the one report."""
    [report] = (world.remote / "notes").iterdir()
    rows = list(csv.reader(io.StringIO(report.read_text("utf-8-sig"), newline="")))
    report.unlink()  # the partner collects
    assert all(row[4] and row[5] for row in rows if row[0]), "each with its rule and what to do"
    return [(row[0], row[1], row[2]) for row in rows[1:] if row[0]]


LISTED = [("7", "quantity", "many"), ("250", "quantity", "(empty)"), ("499", "quantity", "'-3")]


def test_the_whole_file_is_held_and_the_corrected_one_closes_the_exception(partner: World) -> None:
    agree(partner, "whole-file")
    partner.leave(NAME, shipments(BAD))
    assert partner.run().name == "Nothing filed, 1 quarantined"
    assert partner.filed() == {}
    assert reported(partner) == LISTED
    [case] = partner.ledger.cases()
    partner.leave(NAME, corrected := shipments({}))
    assert partner.run().name == "Filed"
    assert partner.filed() == {NAME: corrected}
    assert partner.ledger.cases() == [], f"{case.journey} closed itself"
    assert not list((partner.remote / "notes").iterdir())


def test_the_good_rows_go_on_and_the_corrected_file_brings_only_the_three(partner: World) -> None:
    agree(partner, "good-rows")
    partner.leave(NAME, shipments(BAD))
    assert partner.run().name == "497 rows filed, 1 quarantined"
    [(_, first)] = partner.filed().items()
    assert rows(first) == rows(shipments({})) - {row for row in rows(shipments({})) if row.split(",")[0][1:] in map(str, BAD)}
    assert first.endswith(b"#TRAILER;rows=497;quantity=994\n"), "its own control line"
    assert reported(partner) == LISTED

    partner.leave(NAME, shipments({}))
    assert partner.run().name == "3 rows filed, 1 duplicate"
    parts = list(partner.filed().values())
    assert len(parts) == 2
    [second] = [part for part in parts if part != first]
    assert {row.split(",")[0] for row in rows(second)} == {f"S{row}" for row in BAD}
    assert rows(first) | rows(second) == rows(shipments({})) and not rows(first) & rows(second), (
        "nothing is missing, nothing twice"
    )
    assert partner.ledger.cases() == []
    assert not list((partner.remote / "notes").iterdir())
    partner.ledger.verify()


def rows(table: bytes) -> set[str]:
    return {line for line in table.decode().splitlines()[1:] if not line.startswith("#")}
