"""What is missing of an object's events is seen in its own history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from tasks.rules.auditing import Gap, Stand, compare

NOW = datetime(2026, 11, 20, tzinfo=UTC)
LATE = timedelta(minutes=15)


@dataclass(frozen=True)
class Event:
    id: str
    at: datetime


def history(ids: str, age: timedelta = timedelta(0)) -> list[Event]:
    return [Event(id, NOW - age) for id in ids]


@pytest.mark.parametrize(
    ("numbered", "events", "age", "gap"),
    [
        pytest.param("abc", "abc", LATE, Gap(), id="all told"),
        pytest.param("ac", "abc", timedelta(0), Gap(("b",)), id="one left out, and a later one told"),
        pytest.param("ab", "abc", LATE, Gap(), id="the last may yet come"),
        pytest.param("ab", "abc", 2 * LATE, Gap(("c",)), id="the last is late"),
        pytest.param("cd", "abcd", 2 * LATE, Gap(), id="it was moved here by the third"),
        pytest.param("", "ab", 2 * LATE, Gap(("a", "b")), id="the feed told nothing of it"),
        pytest.param("", "ab", timedelta(0), Gap(), id="it has just come"),
        pytest.param("abc", "ac", LATE, Gap((), ("b",)), id="one vanished from its history"),
        pytest.param("abc", "bc", LATE, Gap(), id="its history forgets what is old"),
        pytest.param("abc", "", LATE, Gap(), id="it tells nothing any more"),
        pytest.param("abd", "acd", LATE, Gap(("c",), ("b",)), id="one for another"),
    ],
)
def test_compare(numbered: str, events: str, age: timedelta, gap: Gap) -> None:
    assert compare(list(numbered), history(events, age), NOW, LATE) == gap


def test_numbers_have_no_holes() -> None:
    stand = Stand.of(None)
    for number, id in enumerate("abc", start=1):
        stand = stand.after(id)
        assert (stand.numbered, stand.last, stand.told) == (number, id, 0)
    assert Stand.of(stand.facts) == stand
