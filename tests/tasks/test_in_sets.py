"""Sets of which a file was refused: what a person asks another try for belongs to its set as before."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from tasks import connections, incidents
from tasks.consignment import Consignment
from tasks.retry import reject
from tests.tasks.dock import Dock, price_list

PARTS = ("a", "b", "c")
NAMES = [f"11_{part}.csv" for part in PARTS]


def agree(dock: Dock, window: str = "PT1H", **terms: Any) -> None:
    files = [f"{{set}}_{part}.csv" for part in PARTS]
    dock.agree(sets={"pattern": r"(?P<set>\d+)_.*", "files": files, "window": window}, **terms)


def leave(dock: Dock) -> None:
    for number, name in enumerate(NAMES):
        dock.leave(name, price_list(first=10 * number + 1))


def journey(dock: Dock, name: str) -> str:
    (found,) = dock.journeys(name)
    return found


def test_the_one_that_was_refused_completes_its_set_when_it_is_retried(dock: Dock) -> None:
    agree(dock, naming=r"11_[ab]\.csv")
    leave(dock)
    assert dock.run() == {"11_a.csv": "waits", "11_b.csv": "waits", "11_c.csv": "quarantined"}
    agree(dock)
    assert [row.outcome for row in dock.retry(journey(dock, "11_c.csv"))] == ["filed"]
    assert dock.codes() == []
    assert dock.run() == {"11_a.csv": "filed", "11_b.csv": "filed"}
    assert sorted(dock.filed()) == NAMES


def test_of_several_that_were_refused_the_last_one_completes_the_set(dock: Dock) -> None:
    agree(dock, naming=r"11_a\.csv")
    leave(dock)
    dock.run()
    agree(dock)
    (first,) = dock.retry(journey(dock, "11_b.csv"))
    assert (first.outcome, first.reason) == ("waits", "set 11 is incomplete; missing: 11_c.csv")
    done = [(row.file, row.outcome) for row in dock.retry(journey(dock, "11_c.csv"))]
    assert done == [("11_c.csv", "filed"), ("11_b.csv", "filed")], "what waited since it was retried is taken up with it"
    asked = [entry.body for entry in dock.history("11_b.csv") if entry.kind == "retried"]
    assert [told["comment"] for told in asked] == ["mended", "mended (its set is whole now)"]
    assert dock.run() == {"11_a.csv": "filed"}
    assert dock.codes() == []
    assert sorted(dock.filed()) == NAMES


def test_what_came_of_a_set_that_is_waited_for_no_more_is_for_a_person_to_decide(dock: Dock) -> None:
    agree(dock, "PT0.000001S")
    for name in NAMES[:2]:
        dock.leave(name, price_list(first=1 + NAMES.index(name)))
    dock.run()
    (case,) = dock.cases()
    assert [told["missing"] for told in dock.events("set-incomplete")] == [["11_c.csv"]]
    assert incidents.close(case.journey, "they never had a third", "ann") == "set-incomplete"
    assert dock.run() == {"11_a.csv": "quarantined", "11_b.csv": "quarantined"}
    assert dock.codes() == ["set-given-up"] * 2
    reject(journey(dock, "11_a.csv"), "away with it", "ann")

    dock.leave("11_a.csv", price_list(first=7))
    dock.leave("11_c.csv", price_list(first=9))
    assert set(dock.run().values()) == {"quarantined"}
    for name in ("11_a.csv", "11_b.csv"):
        assert [row.outcome for row in dock.retry(dock.journeys(name)[-1])] == ["waits"]
    assert [row.outcome for row in dock.retry(journey(dock, "11_c.csv"))] == ["filed"] * 3, "it came after all"


def test_a_set_all_of_whose_files_were_refused_is_told_once_its_window_has_closed(dock: Dock) -> None:
    agree(dock, naming=r"nothing")
    leave(dock)
    dock.leave("12_a.csv", price_list(first=90))
    dock.run()
    assert set(dock.codes()) == {"naming-rule"}, "the window is open"
    agree(dock, "PT0.000001S", naming=r"12_a\.csv")
    assert [row.outcome for row in dock.retry(journey(dock, "12_a.csv"))] == ["waits"], "what waits tells it itself"
    dock.look()
    dock.look()
    told = {event["set"]: event["missing"] for event in dock.events("set-incomplete")}
    assert list(told) == ["12", "11"] and told["12"] == ["12_b.csv", "12_c.csv"]
    assert [line.partition(" (naming-rule: ")[0] for line in told["11"]] == NAMES
    for case in dock.cases("set-incomplete"):
        assert incidents.close(case.journey, "they never come", "ann") == "set-incomplete"
    dock.look()
    assert dock.cases("set-incomplete") == [], "somebody knows"


def test_a_manifest_that_another_worker_has_fetched_is_not_called_no_list(dock: Dock) -> None:
    sets = {"pattern": r"(?P<set>\d+)[_.].*", "files": ["{set}_a.csv"], "manifest": "{set}.sha256", "window": "PT0.000001S"}
    classify = [{"pattern": r".*\.csv", "doctype": "price-list"}, {"pattern": r".*\.sha256", "doctype": "checksum-list"}]
    dock.agree(sets=sets, classify=classify)
    dock.leave("11_a.csv", price_list())
    dock.leave("11.sha256", f"{sha256(price_list()).hexdigest()}  11_a.csv\n".encode())

    def elsewhere(step: str, consignment: Consignment) -> None:
        if step == "file_away":
            (listing,) = [item for item in consignment.items if item.arrival.file.name == b"11.sha256"]
            connections.spool().path(str(listing.arrival.digest)).unlink()

    assert dock.run(before=elsewhere) == {"11_a.csv": "waits", "11.sha256": "waits"}
    reason = "Set 11 is incomplete: missing 11.sha256 (another worker has it; who takes it up next reads it)"
    assert [case.reason for case in dock.cases()] == [reason]
    assert dock.run() == {"11_a.csv": "filed", "11.sha256": "filed"}
    assert dock.codes() == []


def test_what_was_rejected_after_all_completes_nothing(dock: Dock) -> None:
    agree(dock, naming=r"11_a\.csv")
    leave(dock)
    dock.run()
    agree(dock)
    dock.retry(journey(dock, "11_b.csv"))
    reject(journey(dock, "11_b.csv"), "not this one", "ann")
    assert [row.outcome for row in dock.retry(journey(dock, "11_c.csv"))] == ["waits"]
    assert not list((dock.home / "kept").rglob("*.csv"))


def test_a_set_is_called_whatever_its_partner_likes(dock: Dock) -> None:
    dock.agree(sets={"pattern": r"(?P<set>.+)_[ab]\.csv", "files": ["{set}_a.csv", "{set}_b.csv"], "window": "PT1H"})
    alike = "Prüfung " + "x" * 190
    names = [f"{alike}{end}_{part}.csv" for end in "12" for part in "ab"]
    for number, name in enumerate(names[:3]):
        dock.leave(name, price_list(first=10 * number + 1))
    assert dock.run() == dict(zip(names, ("filed", "filed", "waits"), strict=False)), "the two sets are not one"
    dock.leave(names[3], price_list(first=50))
    assert dock.run() == dict.fromkeys(names[2:], "filed")
    assert dock.codes() == []
