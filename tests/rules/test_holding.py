"""What is asked of a journey before anything of it is deleted is answered without the entries that every file has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from tasks.rules.flagging import Rule, kept_by
from tasks.rules.holding import ON_ITS_WAY, kept_at, nobody_knows, same_bytes

NOW = datetime(2026, 11, 20, tzinfo=UTC)
AT = {"repository": "https://ecm", "id": "7"}
EVERYTHING = {
    "repository": "https://ecm",
    "repository_id": "7",
    "page_id": "8",
    "folder": "Prices",
    "copies": {"page": AT},
    "at": AT,
    "duplicate_of": "another",
    "parts": ["a part"],
}


@dataclass(frozen=True)
class Entry:
    kind: str
    body: Mapping[str, Any]
    at: datetime = NOW


RULE = Rule("rule", "https://ecm", "Prices", 30)
FILED, UNKNOWN, DECIDED = Entry("filed", EVERYTHING), Entry("unknown", {}), Entry("rejected", {})
GONE = Entry("removed", {**EVERYTHING, "outcome": "done"})


def answers(*history: Entry) -> tuple[Any, ...]:
    return kept_at(history), same_bytes(history), nobody_knows(history), kept_by(history, [RULE], NOW)


@pytest.mark.parametrize("kind", ON_ITS_WAY)
def test_what_every_file_has_tells_nothing_of_holding(kind: str) -> None:
    more = Entry(kind, EVERYTHING)
    assert answers(more) == answers()
    for one in (FILED, UNKNOWN, DECIDED):
        assert answers(one, more) == answers(more, one) == answers(one)
    assert answers(FILED, more, GONE) == answers(FILED, GONE)


@pytest.mark.parametrize(
    "kind",
    [
        "filed",
        "certified",
        "recorded",
        "copied",
        "removed",
        "duplicate",
        "parted",
        "unknown",
        "rejected",
        "flagged",
        "case-recorded",
    ],
)
def test_what_tells_of_holding_is_never_left_out(kind: str) -> None:
    more = Entry(kind, {**EVERYTHING, "outcome": "done"})
    assert any(answers(one, more) != answers(one) for one in (FILED, UNKNOWN, Entry("noted", {})))
    assert kind not in ON_ITS_WAY
