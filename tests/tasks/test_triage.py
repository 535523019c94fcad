"""Teach once: what a person tells is proposed for later files, tried on past ones, and live once a second person agrees."""

from __future__ import annotations

import pytest
import yaml

from blocks.errors import ConfigurationError, LeaseLost
from blocks.ledger import Entry
from tasks import triage
from tasks.rules.triage import Rehearsal, RuleState, Taught
from tests.tasks.dock import Dock, price_list

TERMS = {
    "classify": [
        {"pattern": r"(?P<project>7)_prices\.csv", "doctype": "price-list"},
        {"pattern": r".*\.csv", "doctype": "price-list"},
    ],
    "triage": ["project"],
    "target": {"repository": "kept", "folder": "Prices", "name": "{project} {name}"},
}


@pytest.fixture(autouse=True)
def agreed(dock: Dock) -> None:
    """Price lists are filed by project, which their names rarely tell."""
    dock.agree(**TERMS)


def arrives(dock: Dock, number: int) -> str:
    """A price list comes; its journey."""
    dock.leave(f"{number}_prices.csv", price_list(first=number + 1))
    dock.run()
    return dock.journeys(f"{number}_prices.csv")[-1]


def taught(dock: Dock, number: int, project: str, by: str = "ann") -> tuple[Taught, Rehearsal]:
    """A price list comes to triage, and somebody tells its project, as 'triage assign' does."""
    journey = arrives(dock, number)
    triage.may_tell(journey, {"project": project})
    proposed = triage.propose(journey, {"project": project}, by, "they said so")
    dock.retry(journey, by=by, facts={"project": project})
    return proposed


def test_a_proposal_is_tried_on_past_files_and_changes_none(dock: Dock) -> None:
    arrives(dock, 7)  # its name tells the project
    dock.retry(arrives(dock, 1), by="cleo", facts={"project": "P-1"})
    dock.retry(arrives(dock, 2), by="cleo", facts={"project": "P-77"})
    waits = arrives(dock, 3)
    dock.leave("another.csv", price_list(first=50))
    dock.run()
    rule, so_far = taught(dock, 4, "P-77")
    assert (rule.id, rule.state, rule.pattern) == ("acme/prices/1", RuleState.PROPOSED, r"[0-9]+_prices\.csv")
    assert (so_far.looked, so_far.fit, so_far.new, so_far.same) == (5, 4, 1, 1)
    assert set(so_far.against) == {
        "7_prices.csv (project=7, told by its name or content)",
        "1_prices.csv (project=P-1, told by cleo)",
    }
    (proposed,) = dock.ledger.journey("rule.acme.prices")
    assert proposed.body["past"]["against"] == 2, "what its proposer saw is on record"
    assert dock.kinds("4_prices.csv")[-2:] != ["quarantined"] and "P-77 4_prices.csv" in dock.filed(), "its own file went on"
    assert sorted(case.name or "" for case in dock.cases("needs-triage")) == ["3_prices.csv", "another.csv"]
    arrives(dock, 5)
    assert "5_prices.csv" in [case.name for case in dock.cases("needs-triage")], "nobody has agreed yet"

    triage.agree(rule.id, "ben", "asked them")
    assert sorted(triage.waiting(triage.rule_of(rule.id))) == sorted([waits, *dock.journeys("5_prices.csv")])
    dock.retry(waits)
    arrives(dock, 6)
    assert {"P-77 3_prices.csv", "P-77 6_prices.csv"} <= dock.filed().keys()
    (note,) = next(entry for entry in dock.history("6_prices.csv") if entry.kind == "judged").body["findings"]
    assert note["message"] == "Its project is P-77, as ann told of such a file, and ben agreed (rule acme/prices/1)."
    against = triage.rehearse(Taught("acme/prices/new", rule.pattern, {"project": "P-2"}, "ann")).against
    assert sum("told by rule acme/prices/1" in one for one in against) == 2


def test_what_was_forgotten_before_two_people_decided_is_no_proposal(dock: Dock) -> None:
    """Ledgers from then hold it so."""
    told = {"partner": "acme", "stream": "prices", "by": "ann", "comment": "so it was"}
    proposed = {**told, "pattern": "a", "facts": {"project": "P-7"}}
    other = {**proposed, "pattern": "b"}
    entries = [("proposed", proposed), ("proposed", other), ("forgotten", {**told, "pattern": "a"}), ("proposed", proposed)]
    dock.ledger.append([Entry("rule.acme.prices", kind, body) for kind, body in entries])
    assert [rule.state for rule in triage.rules("acme", "prices")] == [
        RuleState.RETRACTED,
        RuleState.PROPOSED,
        RuleState.PROPOSED,
    ]


def test_nobody_agrees_to_their_own(dock: Dock) -> None:
    rule, _ = taught(dock, 1, "P-77")
    people = [
        {"id": "ann-miller", "name": "Ann Miller", "mail": "ann@example.com", "logins": ["ann", "root-ann"]},
        {"id": "ben", "name": "Ben", "mail": "ben@example.com"},
    ]
    (dock.profiles / "people.yaml").write_text(yaml.safe_dump({"people": people}))
    for name in ("ann", "ANN", "root-ann"):
        with pytest.raises(ConfigurationError, match="another person has to agree"):
            triage.agree(rule.id, name, "me again")
    with pytest.raises(ConfigurationError, match="say why"):
        triage.agree(rule.id, "ben", " ")
    again, _ = taught(dock, 2, "P-77", by="ben")
    assert again.id == rule.id, "the same is not proposed twice"
    assert triage.rule_of(rule.id).state is RuleState.PROPOSED, "and proposing is not agreeing"
    triage.agree(rule.id, "ben", "I have seen it, too")
    with pytest.raises(ConfigurationError, match="is live by ben, not proposed"):
        triage.agree(rule.id, "cleo", "me, too")
    assert [entry.kind for entry in dock.ledger.journey("rule.acme.prices")] == ["proposed", "agreed"]


def test_what_a_live_rule_says_otherwise_is_not_proposed_before_it_is_retracted(dock: Dock) -> None:
    rule, _ = taught(dock, 1, "P-77")
    other, _ = taught(dock, 2, "P-88")  # both are only proposed
    waits = arrives(dock, 3)
    triage.agree(rule.id, "ben", "asked them")
    before = dock.ledger.journey("rule.acme.prices")
    with pytest.raises(ConfigurationError, match=r"acme/prices/1 says project=P-77 .* ann told it .* ben agreed.*--once"):
        triage.may_tell(waits, {"project": "P-99"})
    with pytest.raises(ConfigurationError, match="acme/prices/1 says project=P-77"):
        triage.propose(waits, {"project": "P-99"}, "ann", "no")
    with pytest.raises(ConfigurationError, match="'countersign triage retract acme/prices/1' first"):
        triage.agree(other.id, "ben", "asked them again")
    assert dock.ledger.journey("rule.acme.prices") == before
    triage.may_tell(waits, {"project": "P-99"}, once=True)

    triage.retract(rule.id, "ann", "they moved")
    arrives(dock, 4)
    assert "4_prices.csv" in [case.name for case in dock.cases("needs-triage")], "it tells nothing any more"
    triage.agree(other.id, "ben", "so it is now")
    arrives(dock, 5)
    assert "P-88 5_prices.csv" in dock.filed()
    with pytest.raises(ConfigurationError, match="is retracted by ann, not live"):
        triage.retract(rule.id, "ben", "again")


def test_a_refused_proposal_stays_refused(dock: Dock) -> None:
    rule, _ = taught(dock, 1, "P-77")
    triage.refuse(rule.id, "ben", "the names do not tell it")
    with pytest.raises(ConfigurationError, match="is refused by ben"):
        triage.agree(rule.id, "cleo", "but")
    arrives(dock, 2)
    assert [case.name for case in dock.cases("needs-triage")] == ["2_prices.csv"]
    again, _ = taught(dock, 3, "P-77")
    assert again.id == "acme/prices/3", "told anew, it is a proposal of its own"
    assert [(one.id, one.state, one.why) for one in triage.rules_of()] == [
        (rule.id, "refused", "the names do not tell it"),
        (again.id, "proposed", ""),
    ]


def test_two_people_who_decide_at_once_do_it_one_after_the_other(dock: Dock) -> None:
    rule, _ = taught(dock, 1, "P-77")
    lease = dock.ledger.lease(["journey:rule.acme.prices"], owner="cleo", seconds=600)
    assert lease is not None
    with pytest.raises(LeaseLost, match="somebody decides"):
        triage.agree(rule.id, "ben", "asked them")
    dock.ledger.release(lease)
    for none in ("acme/prices/9", "acme/other/1", "acme", "", "//", "../prices/1"):
        with pytest.raises(ConfigurationError, match="no such rule"):
            triage.agree(none, "ben", "asked them")
    triage.agree(rule.id, "ben", "asked them")
