"""Which of what a look found is worth telling."""

from __future__ import annotations

from datetime import UTC, datetime

from blocks.values import Classification, FileKind, Inbound, RemoteFile, Sighting, Stage, Target, Unread
from tasks.rules import notice
from tasks.rules.notice import notices
from tasks.rules.settle import Readiness

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
STREAM = Inbound(
    endpoint="drop",
    folder="/out",
    classify=(Classification(pattern=".*", doctype="price-list"),),
    target=Target(repository="ecm", folder="Prices"),
)


def link(name: str, journey: str = "") -> Sighting:
    return Sighting(
        journey or name, RemoteFile("/out", name.encode(), 1, None, FileKind.LINK), Stage.SIGHTED, NOON, NOON, NOON, 2
    )


def told(links: list[Sighting], before: frozenset[str] = frozenset()) -> list[str]:
    return [one.key for one in notices(Readiness(not_files=tuple(links)), Unread(), False, STREAM, NOON, before)]


def test_what_was_told_keeps_no_place_of_what_comes_after_it() -> None:
    links = [link(f"{number}.csv") for number in range(2 * notice.MOST + 1)]
    every: list[str] = []
    for expected in (notice.MOST, notice.MOST, 1, 0):
        news = told(links, frozenset(every))
        assert len(news) == expected
        every += news
    assert len(set(every)) == len(links)


def test_a_link_that_is_listed_every_other_time_is_told_once() -> None:
    assert told([link("l.csv", "journey 1")]) == told([link("l.csv", "journey 2")])
