"""Cases that belong to no content: when they open, when they are over, and what a person may do about them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger
from typer.testing import CliRunner

from blocks.errors import ConfigurationError, HostKeyChanged
from blocks.ledger import first_sight, new_journey
from deployments.cli import app
from tasks import incidents
from tasks.agreed import load_stream
from tasks.rules import notice
from tests.ledger.clock import Clock
from tests.tasks.dock import Dock, price_list

DONE = {"quiet": "PT0S", "done_file": "{name}.done", "done_wait": "PT0.001S"}
AT_ONCE = {"quiet": "PT1H", "abandoned_after": "PT0S"}
"""Files that are never quiet are never finished, and that is told at once."""


def rewrite(path: Path, content: bytes) -> None:
    """So that size and time are others."""
    path.write_bytes(content)
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1_000_000_000))


# --------------------------------------------------------------------------------------------- changed after fetch


@pytest.mark.parametrize("refused", ["remove", "leave"])
def test_a_quarantined_documents_case_is_not_replaced_when_its_original_changes(dock: Dock, refused: str) -> None:
    dock.agree(naming="good.*", disposition={"refused": refused})
    path = dock.leave("bad.csv", price_list())

    def change(step: str, _: Any) -> None:
        if step == "clear_source":
            rewrite(path, price_list(rows=5))

    assert dock.run(before=change) == {"bad.csv": "quarantined"}
    (case,) = dock.cases()
    assert case.code == "naming-rule", "what a person has to decide still stands there"
    assert path.exists()


@pytest.mark.parametrize("fate", ["filed", "duplicate", "rejected"])
def test_a_change_after_the_fetch_is_over_when_the_newer_version_is_through(dock: Dock, fate: str) -> None:
    dock.leave("before.csv", price_list(rows=7))
    dock.run()
    path = dock.leave("a.csv", price_list())
    newer = {"filed": price_list(rows=9), "duplicate": price_list(rows=7), "rejected": b"nonsense"}[fate]

    def change(step: str, _: Any) -> None:
        if step == "clear_source":
            rewrite(path, newer)

    dock.run(before=change)
    assert dock.codes() == ["changed-after-fetch"]
    assert dock.run()["a.csv"] == {"rejected": "quarantined"}.get(fate, fate)
    if fate == "rejected":
        dock.look()
        assert "changed-after-fetch" in dock.codes(), "the newer one still waits for a person"
        from tasks.retry import reject

        reject(dock.journeys("a.csv")[-1], "they sent nonsense", "ann")
    dock.look()
    assert dock.codes() == []


# --------------------------------------------------------------------------------------------- halves


def test_as_many_lone_files_as_a_person_can_look_at_are_cases_at_once(dock: Dock) -> None:
    dock.agree(settle=DONE)
    for number in range(incidents.MOST + 2):
        dock.leave(f"{number}.csv", price_list())
    for _ in range(3):
        dock.look(patience=timedelta(0))
    assert dock.codes() == ["done-file-missing"] * incidents.MOST
    (dock.out / dock.cases()[0].name).unlink()  # type: ignore[operator]
    dock.look()
    dock.look()
    assert dock.codes() == ["done-file-missing"] * incidents.MOST, "the next one is told when one is over"
    assert len(dock.events("done-file-missing")) == incidents.MOST + 1


def two_streams(dock: Dock, done_file: str) -> None:
    settle = {**DONE, "done_file": done_file}
    csv = {"patterns": ["*.csv"], "settle": settle}
    pdf = {"patterns": ["*.pdf"], "settle": settle, "classify": [{"pattern": ".*", "doctype": "invoice"}]}
    dock.agree(streams={"prices": csv, "invoices": pdf})


@pytest.mark.parametrize("done_file", ["{name}.done", "{stem}.done"])
def test_another_streams_done_file_in_the_same_folder_lacks_no_file_of_ours(dock: Dock, done_file: str) -> None:
    two_streams(dock, done_file)
    dock.leave("a.pdf", b"%PDF-1.7\n")
    dock.leave("a.pdf.done" if "name" in done_file else "a.done")
    for _ in range(2):
        dock.look()
    assert dock.codes() == []


def test_our_own_lone_done_file_is_still_told(dock: Dock) -> None:
    two_streams(dock, "{name}.done")
    dock.leave("a.csv.done")
    for _ in range(2):
        dock.look()
    assert dock.codes() == ["file-missing"]


def test_a_done_file_that_two_streams_share_stays_until_both_are_through(dock: Dock) -> None:
    two_streams(dock, "{stem}.done")
    dock.leave("a.csv", price_list())
    dock.leave("a.pdf", b"%PDF-1.7\n")
    dock.leave("a.done")
    assert dock.run("prices") == {"a.csv": "filed"}
    assert sorted(path.name for path in dock.out.iterdir()) == ["a.done", "a.pdf"]
    dock.run("invoices")
    assert list(dock.out.iterdir()) == []
    assert dock.cases("file-missing") == []


def test_a_done_file_that_two_files_share_stays_until_both_are_through(dock: Dock) -> None:
    dock.agree(settle={**DONE, "done_file": "{stem}.done"}, patterns=["*.csv", "*.CSV"], limits={"consignment_files": 1},
               classify=[{"pattern": "(?i).*csv", "doctype": "price-list"}])  # fmt: skip
    dock.leave("a.CSV", price_list())
    dock.leave("a.csv", price_list(rows=5))
    dock.leave("a.done")

    def seen(step: str, consignment: Any) -> None:
        if step == "pick_up":
            assert (dock.out / "a.done").exists()

    assert dock.run(before=seen) == {"a.CSV": "filed", "a.csv": "filed"}
    assert list(dock.out.iterdir()) == []


# --------------------------------------------------------------------------------------------- closed by a person


def countersign(*arguments: str) -> Any:
    return CliRunner(env={"COLUMNS": "250"}).invoke(app, ["incident", *arguments])


def test_a_person_closes_an_incident_and_the_same_is_not_told_again(dock: Dock) -> None:
    dock.agree(settle=DONE)
    dock.leave("a.csv.done")
    for _ in range(2):
        dock.look()
    (case,) = dock.cases()
    assert case.journey in countersign("list", "--partner", "acme").output
    closed = countersign("close", case.journey, "--comment", "ACME forgot it")
    assert closed.exit_code == 0, closed.output
    dock.look()
    assert dock.codes() == []
    assert dock.ledger.journey(case.journey)[-1].body["comment"] == "ACME forgot it"
    again = countersign("close", case.journey, "--comment", "again")
    assert again.exit_code == 2
    assert "no open incident" in again.output


def test_a_refused_document_is_no_incident(dock: Dock) -> None:
    dock.agree(naming="good.*")
    dock.leave("bad.csv", price_list())
    dock.run()
    (case,) = dock.cases()
    with pytest.raises(ConfigurationError, match="quarantine retry"):
        incidents.close(case.journey, "away with it", "ann")
    assert case.journey not in countersign("list").output


# --------------------------------------------------------------------------------------------- never finished


def test_an_ordered_stream_goes_on_when_a_person_says_that_a_file_is_never_finished(dock: Dock) -> None:
    dock.agree(sequence="ordered", settle=AT_ONCE)
    dock.leave("0.csv", price_list(rows=2))
    dock.look(patience=timedelta(0))
    (case,) = dock.cases()
    assert (case.code, case.name) == ("never-settles", "0.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.rules.settle._quiet", lambda sighting, settle: sighting.file.name != b"0.csv")
        dock.leave("1.csv", price_list())
        assert dock.run(patience=timedelta(0)) == {"1.csv": "waits"}
        assert countersign("close", case.journey, "--comment", "a log that grows for ever").exit_code == 0
        assert dock.run(patience=timedelta(0)) == {"1.csv": "filed"}
    dock.agree(sequence="ordered")
    assert dock.run() == {"0.csv": "quarantined"}, "and is never filed after a later one"
    assert dock.codes() == []


def test_a_file_that_was_finished_after_all_closes_its_incident(dock: Dock) -> None:
    dock.agree(settle=AT_ONCE)
    dock.leave("0.csv", price_list())
    dock.look(patience=timedelta(0))
    assert dock.codes() == ["never-settles"]
    dock.agree()
    assert dock.run() == {"0.csv": "filed"}
    assert dock.codes() == []


def test_a_file_that_changes_whenever_it_is_fetched_is_told_too(dock: Dock) -> None:
    dock.agree(settle={"quiet": "PT0S", "abandoned_after": "PT0S"})
    path = dock.leave("0.csv", price_list())

    def change(step: str, _: Any) -> None:
        if step == "pick_up":
            rewrite(path, path.read_bytes() + b"\n")

    assert dock.run(before=change) == {"0.csv": "waits"}
    dock.look()
    assert dock.codes() == ["never-settles"]


def test_a_file_beside_an_older_done_file_lacks_neither_half(dock: Dock) -> None:
    dock.agree(settle={**DONE, "quiet": "PT1H"})
    dock.leave("a.csv.done")
    dock.look()
    dock.leave("a.csv", price_list())
    dock.look()
    dock.look()
    assert dock.codes() == []


# --------------------------------------------------------------------------------------------- late

DAY = timedelta(days=1)


def until_due(dock: Dock, minutes: float) -> datetime:
    """Agree that something is due every day in so many minutes from now."""
    due = datetime.now(UTC) + timedelta(minutes=minutes)
    dock.agree(expect={"by": f"{due:%H:%M:%S}"})
    return due


def sighted_at(dock: Dock, moment: datetime) -> None:
    """A file came at a moment, and was filed."""
    from blocks.ledger import Entry
    from blocks.values import Stage

    journey = new_journey(moment)
    about = {"partner": "acme", "stream": "prices", "name": "x.csv"}
    dock.ledger.append([Entry(journey, "arrived", about), Entry(journey, "filed", about, stage=Stage.CLEARED)])


def test_what_comes_late_every_day_is_told_every_day(dock: Dock, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    due = until_due(dock, -1)
    dock.look()
    assert dock.codes() == ["late"]
    sighted_at(dock, due + timedelta(hours=1))  # an hour late
    clock.ahead = timedelta(hours=2)
    dock.look()
    assert dock.codes() == []
    clock.ahead = DAY
    dock.look()
    assert dock.codes() == ["late"], "what came yesterday an hour late is not what was due today"
    assert len(dock.events("late")) == 2


def test_a_day_that_was_left_out_makes_no_later_one_late(dock: Dock, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    due = until_due(dock, -1)
    dock.look()
    sighted_at(dock, due + DAY - timedelta(minutes=30))
    clock.ahead = DAY
    dock.look()
    assert dock.codes() == []


def test_an_old_file_that_waits_is_not_what_is_due(dock: Dock, clock: Clock) -> None:
    dock.agree(settle={"quiet": "PT10H"})
    dock.leave("old.csv", price_list())
    dock.look(patience=timedelta(0))
    due = datetime.now(UTC) - timedelta(minutes=1)
    dock.agree(settle={"quiet": "PT10H"}, expect={"by": f"{due:%H:%M:%S}"})
    dock.look(patience=timedelta(0))
    assert dock.codes() == [], "it came after the last time something was due"
    clock.ahead = 2 * DAY
    dock.look(patience=timedelta(0))
    assert "late" in dock.codes()


def test_late_is_over_when_nothing_is_expected_any_more(dock: Dock) -> None:
    until_due(dock, -1)
    dock.look()
    assert dock.codes() == ["late"]
    dock.agree()
    dock.look()
    assert dock.codes() == []


def test_journeys_of_expectations_need_no_bytes_and_are_closed(dock: Dock) -> None:
    until_due(dock, -1)
    dock.look()
    (case,) = dock.cases()
    assert [entry.stage for entry in dock.ledger.journey(case.journey)] == ["cleared"]
    assert case.journey not in dock.ledger.begun("incident", datetime.now(UTC) + DAY)


def test_an_id_tells_when_its_journey_began() -> None:
    moment = datetime(2026, 11, 21, 6, 30, 1, 234000, tzinfo=UTC)
    assert first_sight(new_journey(moment)) == moment


# --------------------------------------------------------------------------------------------- what was noticed


def test_a_hundred_old_oddities_do_not_hide_a_new_one(dock: Dock) -> None:
    names = [b"%03d.csv" % number for number in range(notice.MOST + 1)]
    for name in names:
        (dock.out / name.decode()).symlink_to("nowhere")
    assert [one.name for one in dock.look().notices] == names[:-1]
    assert [one.name for one in dock.look().notices] == names[-1:]
    assert dock.look().notices == ()


def test_a_key_that_a_person_has_closed_the_case_of_is_told_again_when_it_comes_back(dock: Dock) -> None:
    agreed, error = load_stream("acme", "prices"), HostKeyChanged("it shows the key SHA256:abc")

    def other() -> list[str | None]:
        with disable_run_logger():
            incidents.other_server(agreed, error)
        return dock.codes()

    assert other() == ["host-key-changed"]
    incidents.close(dock.cases()[0].journey, "they are told", "ann")
    assert other() == [], "the same, and a person knows"
    for _ in range(2):
        dock.look()  # the trusted one is back
    assert other() == ["host-key-changed"], "weeks later"
    assert len(dock.events("host-key-changed")) == 2
    assert [entry.kind for entry in dock.ledger.journey(dock.cases()[0].journey)] == [
        "incident",
        "dismissed",
        "resolved",
        "incident",
    ]
