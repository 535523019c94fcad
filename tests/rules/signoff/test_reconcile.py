"""What a sweep makes of the ledger's side and Prefect's side of one order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tasks.rules.reconcile import MOST_REDRIVES, Finding, Posted, Remedy, Run, Told, compare, names

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
PATIENCE = timedelta(seconds=60)
KEY, OLD = "signoff-2-3f2a9c013f2a9c01-0badcafe", "signoff-1-3f2a9c013f2a9c01-deadbeef"


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def posted(answer: str = "a", seconds: float = 600) -> Posted:
    return Posted(answer, ago(seconds))


TOLD = Told(journey="j", run="r", deadline=NOW + timedelta(days=1))
WORKS = replace(TOLD, settled={OLD: "answered"}, answered={OLD: "a"})
ASKS = replace(WORKS, open_key=KEY)
FULL = replace(WORKS, waits_for="partner-full")
CLOSED = replace(ASKS, open_key=None, closed=True)
LATE = {"deadline": NOW}

WAITS = Run("r", "PAUSED", "Suspended", ago(600), pause_key=KEY, posted={OLD: posted()})


def left(state: str, name: str = "", seconds: float = 600, *, answer: bool = False) -> Run:
    """A run that was asked the open round, and is now in this state."""
    answers = {OLD: posted(), **({KEY: posted()} if answer else {})}
    return Run("r", state, name or state.title(), ago(seconds), waited=frozenset({OLD, KEY}), posted=answers)


REMINDS = replace(ASKS, remind=NOW, awaits=("ann", "bea"))
WIDENS = replace(ASKS, widens=NOW, asked=ago(600))


@pytest.mark.parametrize(
    ("told", "run"),
    [
        pytest.param(replace(REMINDS, remind=NOW + timedelta(seconds=1)), WAITS, id="nobody is reminded yet"),
        pytest.param(replace(REMINDS, awaits=()), WAITS, id="there is nobody to remind"),
        pytest.param(replace(REMINDS, open_key=None, closed=True), left("COMPLETED", "Delivered"), id="nor any more"),
        pytest.param(replace(WIDENS, widens=NOW + timedelta(seconds=1)), WAITS, id="the circle is as it was"),
        pytest.param(replace(WIDENS, asked=NOW), WAITS, id="the wider circle was asked"),
        pytest.param(WIDENS, replace(WAITS, posted={KEY: posted(seconds=4)}), id="it was just answered"),
        pytest.param(ASKS, WAITS, id="a run waits in its round"),
        pytest.param(ASKS, left("SCHEDULED", "Resuming", answer=True), id="an answer waits for a worker, however long"),
        pytest.param(ASKS, left("SCHEDULED"), id="a run that was set going will find out by itself"),
        pytest.param(ASKS, left("RUNNING", seconds=59), id="a run that has just begun is given time"),
        pytest.param(ASKS, left("PENDING", seconds=59), id="so is its start"),
        pytest.param(ASKS, replace(WAITS, since=ago(4), form=False), id="the form is stored a moment after the wait begins"),
        pytest.param(
            ASKS, replace(WAITS, posted={KEY: posted(seconds=4)}), id="an answer is stored a moment before the wait ends"
        ),
        pytest.param(replace(WORKS, deadline=None), left("RUNNING", seconds=59), id="between rounds"),
        pytest.param(replace(WORKS, paused=True), left("COMPLETED"), id="checks said no: a person mends it"),
        pytest.param(WORKS, left("COMPLETED", "Nothing to release"), id="a pass that ended as agreed"),
        pytest.param(FULL, left("COMPLETED", "Paused", seconds=59), id="the partner's disk is full: not at once again"),
        pytest.param(replace(FULL, redriven=3), left("COMPLETED", "Paused", seconds=479), id="less and less often"),
        pytest.param(replace(FULL, redriven=99), left("COMPLETED", "Paused", seconds=3839), id="at last about once an hour"),
        pytest.param(replace(FULL, closed=True), left("COMPLETED", "Voided"), id="what is void needs no room"),
        pytest.param(CLOSED, left("COMPLETED", "Delivered"), id="delivered"),
        pytest.param(CLOSED, replace(left("COMPLETED"), diverted=True), id="what becomes of the run of a finished order"),
        pytest.param(CLOSED, None, id="history of what is finished may be purged"),
        pytest.param(replace(CLOSED, **LATE), left("CANCELLED"), id="a deadline means nothing to what is closed"),
        pytest.param(
            replace(ASKS, elsewhere=frozenset({"x"})), replace(WAITS, posted={"x": posted()}), id="another run's round"
        ),
    ],
)
def test_in_order(told: Told, run: Run | None) -> None:
    assert compare(told, run, NOW, PATIENCE) == []


@pytest.mark.parametrize(
    ("told", "run", "code", "remedy"),
    [
        pytest.param(ASKS, None, "deleted", Remedy.ANEW, id="a run is gone, its order is open"),
        pytest.param(WORKS, None, "deleted", Remedy.ANEW, id="gone before it asked"),
        pytest.param(ASKS, replace(WAITS, diverted=True), "diverted", Remedy.ANEW, id="its parameters name another order"),
        pytest.param(WORKS, replace(left("COMPLETED"), diverted=True), "diverted", Remedy.ANEW, id="and it has worked on that"),
        pytest.param(ASKS, left("COMPLETED"), "bypass", Remedy.ASK, id="set to completed"),
        pytest.param(ASKS, left("COMPLETED", "Delivered"), "bypass", Remedy.ASK, id="whatever that state is called"),
        pytest.param(ASKS, left("FAILED"), "bypass", Remedy.ASK, id="set to failed"),
        pytest.param(ASKS, left("RUNNING", seconds=60), "bypass", Remedy.ASK, id="set to running, and nothing runs"),
        pytest.param(ASKS, left("COMPLETED", answer=True), "stuck", Remedy.WAKE, id="ended with an answer that nobody judged"),
        pytest.param(ASKS, left("CRASHED", answer=True), "crashed", Remedy.WAKE, id="crashed with an answer: it is judged"),
        pytest.param(ASKS, left("FAILED", answer=True), "failed", Remedy.NONE, id="failed with an answer: a person mends it"),
        pytest.param(ASKS, left("CANCELLED"), "cancelled", Remedy.NONE, id="cancelled"),
        pytest.param(replace(ASKS, **LATE), left("CANCELLED"), "expired", Remedy.ASK, id="cancelled until the deadline"),
        pytest.param(
            ASKS, replace(left("RUNNING"), waited=frozenset()), "stuck", Remedy.WAKE, id="killed before the form stood"
        ),
        pytest.param(ASKS, replace(WAITS, form=False), "stuck", Remedy.ASK, id="no form"),
        pytest.param(ASKS, replace(WAITS, pause_key="x"), "stuck", Remedy.ASK, id="suspended under a key of somebody's own"),
        pytest.param(ASKS, replace(WAITS, pause_key=None), "stuck", Remedy.ASK, id="suspended without a key"),
        pytest.param(CLOSED, WAITS, "stuck", Remedy.ASK, id="a finished order's run waits"),
        pytest.param(ASKS, replace(WAITS, posted={KEY: posted()}), "planted", Remedy.ASK, id="an answer behind the form"),
        pytest.param(ASKS, replace(WAITS, posted={"x": posted()}), "planted", Remedy.NONE, id="an answer to no round"),
        pytest.param(CLOSED, replace(left("COMPLETED"), posted={OLD: posted("b")}), "edited", Remedy.NONE, id="edited"),
        pytest.param(replace(ASKS, **LATE), WAITS, "expired", Remedy.ASK, id="the deadline has come"),
        pytest.param(REMINDS, WAITS, "reminder", Remedy.NONE, id="a reminder"),
        pytest.param(WIDENS, WAITS, "widened", Remedy.ASK, id="the wider circle is asked too"),
        pytest.param(replace(WIDENS, **LATE), WAITS, "expired", Remedy.ASK, id="and nobody after the deadline"),
        pytest.param(replace(REMINDS, **LATE), WAITS, "expired", Remedy.ASK, id="nor is anybody reminded then"),
        pytest.param(WORKS, left("CRASHED"), "crashed", Remedy.WAKE, id="crashed between rounds"),
        pytest.param(WORKS, left("RUNNING"), "stuck", Remedy.WAKE, id="its process is gone"),
        pytest.param(WORKS, left("COMPLETED"), "stuck", Remedy.WAKE, id="set to completed between rounds"),
    ],
)
def test_not_in_order(told: Told, run: Run | None, code: str, remedy: Remedy) -> None:
    (found,) = compare(told, run, NOW, PATIENCE)
    assert (found.code, found.remedy) == (code, remedy), found


def test_what_the_run_found_itself_is_told_without_a_second_event() -> None:
    told = replace(ASKS, settled={OLD: "bypass"}, answered={})
    (found,) = compare(told, replace(WAITS, posted={}), NOW, PATIENCE)
    assert (found.code, found.told, found.remedy) == ("bypass", True, Remedy.NONE)


def test_an_answer_put_behind_a_bypassed_round_is_told_too() -> None:
    told = replace(ASKS, settled={OLD: "bypass"}, answered={})
    assert [found.code for found in compare(told, WAITS, NOW, PATIENCE)] == ["planted", "bypass"]


def test_many_rows_for_no_round_are_one_finding() -> None:
    """Else whoever has the API could fill the ledger."""
    rows = {f"\u202ekey{n}": posted() for n in range(1000)}
    (found,) = compare(ASKS, replace(WAITS, posted=rows), NOW, PATIENCE)
    assert "1000 answers" in found.message and "\u202e" not in found.message and len(found.message) < 300


def test_a_run_that_stops_by_itself_is_not_woken_for_ever() -> None:
    (found,) = compare(replace(WORKS, redriven=MOST_REDRIVES), left("CRASHED"), NOW, PATIENCE)
    assert found.remedy is Remedy.NONE and "a person is needed" in found.message


@pytest.mark.parametrize(("redriven", "seconds"), [(0, 60), (3, 480), (99, 3840)])
def test_a_partner_without_room_is_tried_again_as_long_as_it_takes(redriven: int, seconds: float) -> None:
    (found,) = compare(replace(FULL, redriven=redriven), left("COMPLETED", "Paused", seconds), NOW, PATIENCE)
    assert (found.code, found.remedy, found.told) == ("partner-full", Remedy.WAKE, True)


def test_nobody_can_keep_people_from_deciding_by_planting_often() -> None:
    (found,) = compare(replace(ASKS, redriven=99), replace(WAITS, posted={KEY: posted()}), NOW, PATIENCE)
    assert found.remedy is Remedy.ASK


ORDERED = {"partner": "acme", "stream": "prices", "order": "20261120T120000Z"}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param({}, True, id="the same"),
        pytest.param({"order": None}, True, id="an order that took its id from a time"),
        pytest.param({"order": "20261120T120001Z"}, False, id="another order"),
        pytest.param({"stream": "contracts"}, False, id="another stream"),
        pytest.param({"partner": ["acme"]}, False, id="no name at all"),
    ],
)
def test_parameters_name_an_order(changed: dict[str, object], expected: bool) -> None:
    assert names(ORDERED | changed, ORDERED) is expected
    assert not names({}, ORDERED)


def _keys(*findings: Finding) -> set[str]:
    return {finding.key for finding in findings}


def test_the_same_thing_has_the_same_key_and_the_next_one_another() -> None:
    crashed = left("CRASHED")
    first = compare(WORKS, crashed, NOW, PATIENCE)
    assert _keys(*first) == _keys(*compare(WORKS, crashed, NOW + PATIENCE, PATIENCE))
    assert _keys(*first) != _keys(*compare(WORKS, replace(crashed, since=ago(61)), NOW, PATIENCE))
