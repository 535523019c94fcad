"""What the sweep finds is a case: of files that were begun and get no further, and of what goes around the sign-off."""

from __future__ import annotations

from datetime import timedelta

import pytest

from blocks.ledger import CaseState
from tasks import cases, incidents
from tasks.consignment import Consignment
from tasks.found_cases import look_for_stuck_files, open_found_case
from tasks.rules.reconcile import Finding, Remedy
from tests.tasks.dock import Dock, price_list


def broken_off(step: str, consignment: Consignment) -> None:
    if step == "file_away":
        raise RuntimeError("killed here")


def test_files_that_get_no_further_are_one_case_of_their_stream_until_they_are_through(dock: Dock) -> None:
    for number in (1, 2):
        dock.leave(f"{number}.csv", price_list(first=number))
    with pytest.raises(RuntimeError):
        dock.run(before=broken_off)
    look_for_stuck_files()
    assert dock.cases() == [], "they are given time"
    for _ in range(2):
        look_for_stuck_files(timedelta(0))
    (case,) = dock.cases("stuck")
    assert (case.owner, case.state, case.name) == ("prices@example.com", CaseState.NEW, "acme/prices")
    assert case.due is not None and "2 files" in str(case.reason) and dock.journeys("1.csv")[0] in str(case.reason)
    incidents.close(case.journey, "I know", "ann")
    look_for_stuck_files(timedelta(0))
    assert dock.cases() == [], "and it is not told again"
    assert dock.run() == {"1.csv": "filed", "2.csv": "filed"}
    dock.leave("3.csv", price_list(first=3))
    with pytest.raises(RuntimeError):
        dock.run(before=broken_off)
    look_for_stuck_files(timedelta(0))
    assert len(dock.cases("stuck")) == 1
    profile = dock.profiles / "acme.yaml"
    agreed = profile.read_text()
    profile.write_text("partner: {")
    look_for_stuck_files(timedelta(0))
    assert len(dock.cases("stuck")) == 1, "a slip in a profile mends nothing"
    profile.write_text(agreed)
    assert dock.run() == {"3.csv": "filed"}
    look_for_stuck_files(timedelta(0))
    assert dock.cases() == []


def test_what_waits_for_others_as_agreed_is_not_stuck(dock: Dock) -> None:
    dock.agree(sequence="ordered")
    dock.leave("1.csv", price_list())
    with pytest.raises(RuntimeError):
        dock.run(before=broken_off)
    look_for_stuck_files(timedelta(0))
    assert dock.cases() == []


def test_a_finding_is_told_once_and_another_one_goes_to_whoever_has_the_case(dock: Dock) -> None:
    first, second = (Finding("deployment", f"deployment/{number}", f"somebody made deployment {number}") for number in (1, 2))
    for _ in range(2):
        open_found_case(first, {}, "sweep.mirrors")
    (case,) = dock.cases()
    assert (case.code, case.owner, case.reason) == ("deployment", "ops", first.message)
    cases.wait_for_partner(case.journey, "asked them", "ann")
    open_found_case(second, {}, "sweep.mirrors")
    (case,) = dock.cases()
    assert (case.state, case.reason) == (CaseState.WAITING, second.message)
    assert incidents.close(case.journey, "removed", "ann") == "deployment"
    open_found_case(second, {}, "sweep.mirrors")
    assert dock.cases() == [], "a person has closed it"
    open_found_case(Finding("deployment", "deployment/3", "and another"), {}, "sweep.mirrors")
    assert [case.state for case in dock.cases()] == [CaseState.NEW]


@pytest.mark.parametrize("remedy", [Remedy.WAKE, Remedy.ASK, Remedy.ANEW])
def test_what_the_sweep_helps_by_itself_is_no_case(dock: Dock, remedy: Remedy) -> None:
    open_found_case(
        Finding("crashed", "crashed/1", "it crashed", remedy), {"partner": "acme", "stream": "out", "order": "o"}, "j"
    )
    assert dock.cases() == []
