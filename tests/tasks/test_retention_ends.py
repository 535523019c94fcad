"""The clean-up removes what need not be kept any longer: whole documents, and only those of which everything is ours and over."""

from __future__ import annotations

import pytest

from blocks.ledger import Entry
from tasks.clean_up import Swept, remove_what_has_ended
from tests.tasks.dock import Dock, price_list

NAMING = r"[a-z]*-(?P<date>[\d-]+)\.csv"
OLD, OLDER, LONG = "prices-2002-01-01.csv", "prices-2001-01-01.csv", "prices-2900-01-01.csv"


@pytest.fixture
def ending(dock: Dock) -> Dock:
    """A dock whose documents are kept for a year from the date in their names, and are removed then."""
    agree(dock)
    return dock


def agree(dock: Dock, **target: object) -> None:
    kept = {"record_date": "{date}", "retention": {"period": "P1Y", "at_end": "remove"}}
    dock.agree(naming=NAMING, target={"repository": "kept", "folder": "Prices", **kept, **target})


def sweep() -> Swept:
    [swept] = remove_what_has_ended.fn()
    return swept


def test_bytes_that_come_again_after_their_removal_are_filed_again(ending: Dock) -> None:
    for name in (OLDER, OLD, LONG):
        ending.leave(name, price_list())
        assert ending.run() == {name: "filed"}
        assert list(ending.filed()) == [name]
        assert sweep().gone == (0 if name == LONG else 1)
    assert list(ending.filed()) == [LONG]


def test_bytes_whose_removal_is_under_way_are_neither_filed_nor_duplicates(ending: Dock) -> None:
    ending.leave(OLD, price_list())
    ending.run()
    [first] = ending.journeys(OLD)
    ending.ledger.append([Entry(first, "removing")])
    original = ending.leave(LONG, price_list())
    ending.run()
    assert ("filed" in ending.kinds(LONG), "duplicate" in ending.kinds(LONG), original.exists()) == (False, False, True)
    ending.ledger.append([Entry(first, "not-removed")])
    ending.run()
    assert (ending.kinds(LONG)[-1], original.exists()) == ("cleared", False)
    assert "duplicate" in ending.kinds(LONG)
