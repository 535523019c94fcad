"""Retries that broke off, rejections, and sequences in which somebody was killed at a bad moment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from blocks.endpoints.folder import FolderSession
from blocks.errors import ConfigurationError, LeaseLost, LedgerUnreachable
from blocks.ledger import Entry, Ledger
from blocks.settings import settings
from tasks import in_sequence
from tasks.retry import reject
from tests.tasks.dock import Dock, price_list


class Killed(Exception):
    """The process ended here."""


def kill_before(step: str) -> Any:
    def before(name: str, _: Any) -> None:
        if name == step:
            raise Killed

    return before


def quarantined(dock: Dock, name: str = "a.csv", **terms: Any) -> str:
    """A document whose name was not agreed, then the rule is mended; its journey."""
    dock.agree(naming="good.*", **terms)
    dock.leave(name, price_list())
    assert dock.run() == {name: "quarantined"}
    dock.agree(**terms)
    return dock.journeys(name)[-1]


def kill_retry(dock: Dock, journey: str, after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody retries, and the process ends right after entries of that kind were written."""
    append = Ledger.append

    def dying(self: Ledger, entries: Sequence[Entry], lease: Any = None) -> Any:
        recorded = append(self, entries, lease)
        if any(entry.kind == after for entry in entries):
            raise Killed
        return recorded

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", dying)
        with pytest.raises(Killed):
            dock.retry(journey)


# --------------------------------------------------------------------------------------------- not fetched


def test_where_a_file_comes_from_is_written_down_before_it_is_fetched(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it is known of one with which every run is killed."""
    fetch, known = FolderSession.fetch, list[list[str]]()

    def noting(self: FolderSession, *how: Any, **more: Any) -> Any:
        known.append(dock.kinds("a.csv"))
        return fetch(self, *how, **more)

    monkeypatch.setattr(FolderSession, "fetch", noting)
    dock.agree()
    dock.leave("a.csv", price_list())
    assert dock.run() == {"a.csv": "filed"}
    assert known == [["arrived"]]


# --------------------------------------------------------------------------------------------- rejected


@pytest.mark.parametrize("refused", ["remove", "leave"])
def test_what_was_rejected_is_not_filed_after_a_retry_that_broke_off(
    dock: Dock, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journey = quarantined(dock, disposition={"refused": refused})
    kill_retry(dock, journey, "judged", monkeypatch)
    reject(journey, "never mind", "ann")
    dock.run()
    assert "filed" not in dock.kinds("a.csv")
    assert dock.codes() == []
    assert dock.ledger.begun("arrived", dock.ledger.now() + timedelta(days=1)) == [], "its journey is closed"


def test_what_was_rejected_before_it_was_cleared_is_cleared_as_agreed(dock: Dock) -> None:
    dock.agree(naming="good.*")
    path = dock.leave("a.csv", price_list())
    with pytest.raises(Killed):
        dock.run(before=kill_before("clear_source"))
    (case,) = dock.cases()
    reject(case.journey, "never mind", "ann")
    dock.run()
    assert not path.exists()
    assert "filed" not in dock.kinds("a.csv")


def test_what_was_filed_cannot_be_rejected_any_more_and_another_retry_closes_its_case(
    dock: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    journey = quarantined(dock)
    kill_retry(dock, journey, "filed", monkeypatch)
    with pytest.raises(ConfigurationError, match="the repository has it"):
        reject(journey, "never mind", "ann")
    assert dock.codes() == ["naming-rule"]
    assert [row.outcome for row in dock.retry(journey)] == ["filed"]
    assert dock.codes() == []
    assert dock.kinds("a.csv").count("filed") == 1


def test_the_next_run_closes_the_case_of_what_a_broken_retry_has_filed(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    journey = quarantined(dock, disposition={"refused": "leave"})
    kill_retry(dock, journey, "filed", monkeypatch)
    assert dock.codes() == ["naming-rule"]
    assert dock.run() == {"a.csv": "filed"}
    assert dock.codes() == []
    assert not list(dock.out.iterdir())


def test_the_flows_take_the_steps_that_are_tried_here() -> None:
    from flows.intake import intake
    from flows.review import retry
    from tasks.close import close
    from tasks.file_or_set_aside import file_or_set_aside
    from tests.tasks.dock import STEPS

    for flow in (intake, retry):
        taken = set(flow.fn.__code__.co_names)
        for several in (file_or_set_aside, close):
            assert several.fn.__name__ in taken
            taken |= set(several.fn.__code__.co_names)
        assert {step.__name__ for step in STEPS} <= taken, flow.name


def test_bytes_that_wait_for_a_rejected_document_wait_no_more(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    journey = quarantined(dock)
    kill_retry(dock, journey, "filing", monkeypatch)
    reject(journey, "it is not in the repository", "ann")
    dock.leave("b.csv", price_list())
    assert dock.run() == {"b.csv": "filed"}


def test_a_retry_tells_only_what_people_may_tell(dock: Dock) -> None:
    dock.agree(triage=["project"], target={"repository": "kept", "folder": "Prices", "name": "{project} {name}"})
    dock.leave("a.csv", price_list())
    dock.run()
    assert dock.codes() == ["needs-triage"]
    told = {"project": "P-77", "rows": "1", "records_class": "Other"}
    assert [row.outcome for row in dock.retry(dock.journeys("a.csv")[-1], facts=told)] == ["filed"]
    judged = [entry for entry in dock.history("a.csv") if entry.kind == "judged"][-1]
    assert judged.body["facts"]["project"] == "P-77"
    assert not {"rows", "records_class"} & {name for name, value in judged.body["facts"].items() if value == told.get(name)}
    assert list(dock.filed()) == ["P-77 a.csv"]


# --------------------------------------------------------------------------------------------- sequences


def test_a_killed_upload_is_not_superseded_without_a_look(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    journey = quarantined(dock, "1.csv", sequence="latest")
    kill_retry(dock, journey, "filing", monkeypatch)
    dock.leave("2.csv", price_list(rows=5))
    assert dock.run() == {"2.csv": "filed"}
    assert dock.codes() == ["naming-rule"], "the repository may hold it: a later one does not close its case"
    assert [row.outcome for row in dock.retry(journey)] == ["quarantined"]
    assert dock.codes() == ["outcome-unknown"]
    reject(journey, "looked: it is not there", "ann")
    assert dock.codes() == []
    assert dock.filed() == {"2.csv": price_list(rows=5)}


def test_a_case_that_was_overtaken_just_before_a_kill_is_closed_by_the_next_run(
    dock: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock.agree(sequence="latest", naming="good.*")
    dock.leave("bad.csv", price_list())
    assert dock.run() == {"bad.csv": "quarantined"}
    dock.leave("good.csv", price_list(rows=5))
    with monkeypatch.context() as patch:
        patch.setattr(in_sequence, "_need_nobody", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            dock.run()
    assert dock.codes() == ["naming-rule"]
    assert dock.run() == {"good.csv": "filed"}
    assert dock.codes() == []


def test_who_lost_the_sequence_files_nothing_more(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERSIGN_LEASE_SECONDS", "5")
    settings.cache_clear()
    dock.agree(sequence="ordered")
    dock.leave("1.csv", price_list())
    dock.leave("2.csv", price_list(rows=5))
    renew, lost = Ledger.renew, []

    def stalled(self: Ledger, lease: Any, seconds: float) -> Any:
        if lost and any(resource.startswith("sequence:") for resource in lease.resources):
            raise LedgerUnreachable("this worker reaches nobody")
        return renew(self, lease, seconds)

    def file_one(consignment: Any, item: Any) -> Any:
        lost.append(item)
        until = time.monotonic() + 120
        while (taken := dock.ledger.lease(["sequence:acme/prices"], owner="another", seconds=60)) is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert taken is not None
        return consignment

    def stall(step: str, consignment: Any) -> None:
        if step == "file_away":
            in_sequence.file_in_sequence(consignment, file_one)

    # A worker that reaches the ledger's database no more, while another one does: one process is both here.
    monkeypatch.setattr(Ledger, "renew", stalled)
    # Of two that could be filed only the first was begun.
    dock.agree(sequence="latest")
    with pytest.raises(LeaseLost):
        dock.run(before=stall)
    assert len(lost) == 1
