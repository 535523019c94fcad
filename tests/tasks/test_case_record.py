"""The records of cases are brought up to date one by one: what one waits for keeps no other back, and what is up to date is not read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import yaml
from prefect.logging import disable_run_logger

from blocks.ledger import Entry, Ledger
from tasks import cases, connections
from tasks.ask_about import ANSWERED, ASKED
from tasks.case_record import PAGE, keep_case_records
from tasks.rules.case_record import UNTOLD
from tasks.tell_cases import CASE_TOLD, REVIEW_BEGUN, REVIEW_ENDED
from tests.tasks.dock import Dock, price_list

BAD = price_list().replace(b"1.50", b"one")


def agree(dock: Dock, folder: str = "Cases") -> None:
    """Two streams with repositories of their own; records of cases are kept in a third one."""
    dock.agree(streams={"prices": {}, "other": {"folder": "/other", "target": {"repository": "elsewhere", "folder": "Prices"}}})
    kept = {name: {"kind": "folder", "path": str(dock.home / name)} for name in ("kept", "elsewhere", "records")}
    told = {"repositories": kept, "cases": {"repository": "records", "folder": folder}}
    (dock.profiles / "repositories.yaml").write_text(yaml.safe_dump(told))


@pytest.fixture
def dock(dock: Dock) -> Dock:
    for folder in ("elsewhere", "records", "partner/other"):
        (dock.home / folder).mkdir()
    agree(dock)
    return dock


def sweep() -> list[str]:
    """What cannot be filed."""
    with disable_run_logger():
        return [finding.message for finding in keep_case_records.fn()]


def recorded(dock: Dock, name: str) -> bool:
    kinds = dock.kinds(name)
    return "case-recorded" in kinds[-2:]


def test_a_repository_that_is_away_keeps_only_the_records_back_whose_sample_it_has(dock: Dock) -> None:
    dock.leave("good.csv", price_list())
    assert dock.run() == {"good.csv": "filed"}
    connections.spool().collect(set(), lambda digests: set(), older_than=timedelta(0))
    (dock.home / "kept").rename(dock.home / "away")
    for number in (1, 2):
        dock.leave(f"bad{number}.csv", BAD.replace(b"one", b"one%d" % number))
    (dock.home / "partner" / "other" / "worse.csv").write_bytes(BAD)
    assert set(dock.run().values()) == {"quarantined"}
    assert dock.run("other") == {"worse.csv": "quarantined"}
    journeys = {name: dock.journeys(name)[0] for name in ("bad1.csv", "bad2.csv")}
    told = sweep()
    assert len(told) == 2 and all(
        journey in text and "kept" in text for journey, text in zip(journeys.values(), told, strict=True)
    )
    assert recorded(dock, "worse.csv") and not recorded(dock, "bad1.csv") and not recorded(dock, "bad2.csv")
    (dock.home / "away").rename(dock.home / "kept")
    assert sweep() == []
    assert recorded(dock, "bad1.csv") and recorded(dock, "bad2.csv")


def test_of_records_that_are_up_to_date_no_sweep_reads_the_journey(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    whole = Ledger.journeys

    def journeys(self: Ledger, ids: Sequence[str]) -> Any:
        read.extend(ids)
        return whole(self, ids)

    dock.leave("bad.csv", BAD)
    dock.run()
    [case] = dock.cases()
    assert {CASE_TOLD, REVIEW_BEGUN, REVIEW_ENDED, ASKED, ANSWERED} == UNTOLD
    dock.ledger.append([Entry(case.journey, kind, {"run": "r", "key": "k"}) for kind in sorted(UNTOLD)])
    monkeypatch.setattr(Ledger, "journeys", journeys)
    assert sweep() == [] and read == []
    cases.remark(case.journey, "by noon", "ann")
    read.clear()
    assert sweep() == [] and case.journey in read and recorded(dock, "bad.csv")
    agree(dock, folder="Other")
    assert sweep() == []
    assert len(list((dock.home / "records" / "Other").rglob(f"*{PAGE.partition('.')[0]}*"))) > 0, (
        "another place has nothing yet"
    )
    agree(dock)
    read.clear()
    assert sweep() == [] and read == []


def test_what_comes_while_a_record_is_begun_is_told_by_the_next(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    dock.leave("bad.csv", BAD)
    dock.run()
    [case] = dock.cases()
    cases.remark(case.journey, "first", "ann")
    append, said = Ledger.append, list[str]()

    def meanwhile(self: Ledger, entries: Sequence[Entry], *more: Any, **named: Any) -> Any:
        if entries[0].kind == "case-recording" and not said:
            said.append("second")
            append(self, [Entry(case.journey, "commented", {"by": "ben", "comment": "second"})])
        return append(self, entries, *more, **named)

    monkeypatch.setattr(Ledger, "append", meanwhile)
    assert sweep() == [] and said
    told = [entry for entry in dock.ledger.journey(case.journey) if entry.kind in ("case-recording", "commented")]
    assert [entry.kind for entry in told[-2:]] == ["commented", "case-recording"] and told[-1].body["upto"] == told[-2].n
