"""``ledger``: what a worker and ops ask of a ledger with a million entries, beside the same asked of an empty one.

The million comes in by the ledger's own verbs: 200,000 arrivals of twenty streams were seen, claimed, recorded with five entries each,
and left; so arrivals, chains and index are what they are after that. It is made once, and every turn adds its work to it.
The empty one is a new file for each turn. Both then are asked the same:

==========  =====================================================================================================================
claim       500 arrivals that were just seen
append      1,000 entries, two for each of 500 journeys in work, under their lease
search      today's documents, newest first and by pages: of a stream, by stage, time, digest and repository id
asks        what flows and sweeps ask all the time: open cases, files in work, orders begun, bytes needed, histories, open intents
name        today's documents by a part of their name, and one that nobody has sent. No index serves that: all names are read, about
            0.3 µs for each, so this one is shown and has no goal
==========  =====================================================================================================================

What is asked has the same answers in both (that is asserted): nothing old is among them.
"""

from __future__ import annotations

import gc
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from blocks.ledger import Entry, Lease, Ledger
from blocks.values import Arrival, RemoteFile, Stage
from tests.bench.copying import roomy
from tests.bench.race import Contender, Goal, Outcome, race

ENTRIES, FILES, TIMES = 1_000_000, 500, 5
"""Entries of old; arrivals in one piece of work; how often a turn does it."""
STREAMS = 20
_LOOK = 5000
_SENT = datetime(2026, 1, 1, tzinfo=UTC)


def main(rounds: int, *, name: str = "ledger", scale: float = 1.0) -> Outcome:
    """The race that goes worst for the old ledger."""
    entries = int(ENTRIES * scale)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=roomy(entries * 1200)) as scratch:
        return min((one for one in run(Path(scratch), entries, rounds, name) if one.goal), key=_ratio)


def run(base: Path, entries: int, rounds: int, name: str = "ledger", files: int = FILES, times: int = TIMES) -> list[Outcome]:
    """A race for each kind of work."""
    with _ledger(base / "old") as old:
        seed(old, entries)
        gc.collect()
        gc.freeze()  # as in the worker's forks: what was imported is not searched for garbage in a turn
        today = Today(files, times)
        outcomes = []
        for what, work in today.work.items():

            def on_an_empty_one(work: Callable[[Ledger], float] = work) -> float:
                with _ledger(base / "empty") as empty:
                    try:
                        return work(empty)
                    finally:
                        shutil.rmtree(base / "empty")

            def on_the_old_one(work: Callable[[Ledger], float] = work) -> float:
                return work(old)

            told = f"{times} times {what} on {entries:,} entries"
            ours, peer = Contender("ours", on_the_old_one), Contender("empty ledger", on_an_empty_one)
            goal = None if what == "name" else Goal(round(1 / 1.3, 2))
            outcomes.append(race(f"{name} {what}", told, ours, [peer], rounds=rounds, goal=goal))
        return outcomes


def _ratio(outcome: Outcome) -> float:
    return outcome.theirs[0].median / outcome.ours.median


@contextmanager
def _ledger(folder: Path) -> Iterator[Ledger]:
    folder.mkdir()
    with Ledger(f"sqlite:///{folder / 'ledger.sqlite'}") as made:
        made.migrate()
        yield made


# --------------------------------------------------------------------------------------------- of old


def seed(ledger: Ledger, entries: int) -> None:
    """So many entries, by the ledger's own verbs: files that came, were filed and are gone."""
    numbers = count()
    for look in range(0, entries // 5, _LOOK):
        partner = f"partner-{look // _LOOK % STREAMS:02d}"
        lease, arrivals = _seen(
            ledger, partner, [f"old_{next(numbers):07d}.csv" for _ in range(min(_LOOK, entries // 5 - look))]
        )
        told = [entry for arrival in arrivals for entry in [*_begun(arrival), *_filed(arrival)]]
        ledger.append(told, lease)
        ledger.release(lease)


def _seen(ledger: Ledger, partner: str, names: Sequence[str]) -> tuple[Lease, list[Arrival]]:
    """Files that a look found, claimed."""
    ledger.sight(partner, "prices", [RemoteFile("/out", name.encode(), 4096, _SENT) for name in names])
    claimed = ledger.claim(
        partner, "prices", [one.journey for one in ledger.sightings(partner, "prices")], owner="w", seconds=3600
    )
    assert claimed is not None and len(claimed[1]) == len(names)
    return claimed


def _begun(arrival: Arrival) -> list[Entry]:
    about = {"partner": arrival.partner, "stream": arrival.stream, "name": arrival.file.shown, "size": arrival.file.size}
    return [
        Entry(arrival.journey, "arrived", {**about, "folder": arrival.file.folder}, f"arrived/{arrival.journey}"),
        Entry(arrival.journey, "fetched", {"digest": _digest(arrival)}, f"fetched/{arrival.journey}", Stage.FETCHED),
    ]


def _filed(arrival: Arrival) -> list[Entry]:
    kept = {"repository": "archive", "repository_id": _id(arrival), "digest": _digest(arrival)}
    return [
        Entry(arrival.journey, "judged", {"doctype": "price-list", "findings": []}, f"judged/{arrival.journey}", Stage.JUDGED),
        Entry(arrival.journey, "filed", kept, f"filed/{arrival.journey}", Stage.FILED),
        Entry(arrival.journey, "cleared", {}, f"cleared/{arrival.journey}", Stage.CLEARED),
    ]


def _digest(arrival: Arrival) -> str:
    return hashlib.sha256(arrival.journey.encode()).hexdigest()


def _id(arrival: Arrival) -> str:
    return f"D-{arrival.journey}"


# --------------------------------------------------------------------------------------------- today


class Today:
    """The day's work on a ledger, however old it is."""

    def __init__(self, files: int, times: int) -> None:
        self._files, self._times, self._numbers = files, times, count()
        self.work: Mapping[str, Callable[[Ledger], float]] = {
            "claim": self._claim,
            "append": self._append,
            "search": self._search,
            "asks": self._asks,
            "name": self._name,
        }

    def _names(self) -> list[str]:
        """New ones, of which no other has a part."""
        day = next(self._numbers)
        return [f"today_{day:05d}_{number:04d}.csv" for number in range(self._files)]

    def _claim(self, ledger: Ledger) -> float:
        seconds = 0.0
        for _ in range(self._times):
            names = self._names()
            ledger.sight("partner-07", "prices", [RemoteFile("/out", name.encode(), 4096, _SENT) for name in names])
            wanted = [one.journey for one in ledger.sightings("partner-07", "prices")]
            began = time.perf_counter()
            claimed = ledger.claim("partner-07", "prices", wanted, owner="w", seconds=3600)
            seconds += time.perf_counter() - began
            assert claimed is not None and len(claimed[1]) == self._files
            self._through(ledger, *claimed)
        return seconds

    def _append(self, ledger: Ledger) -> float:
        seconds = 0.0
        for _ in range(self._times):
            lease, arrivals = _seen(ledger, "partner-07", self._names())
            entries = [entry for arrival in arrivals for entry in _begun(arrival)]
            began = time.perf_counter()
            recorded = ledger.append(entries, lease)
            seconds += time.perf_counter() - began
            assert len(recorded) == 2 * self._files and all(one.fresh for one in recorded)
            self._through(ledger, lease, arrivals)
        return seconds

    def _search(self, ledger: Ledger) -> float:
        since = ledger.now()
        names = self._names()
        lease, arrivals = _seen(ledger, "partner-07", names)
        ledger.append([entry for arrival in arrivals for entry in [*_begun(arrival), *_filed(arrival)[:2]]], lease)
        some = [arrivals[n * len(arrivals) // 7] for n in range(7)]
        most = min(100, self._files)
        began = time.perf_counter()
        for _ in range(self._times):
            first = ledger.search(partner="partner-07", stream="prices", limit=most)
            second = ledger.search(partner="partner-07", stream="prices", since=since, until=first[-1].opened, limit=most)
            lately = ledger.search(since=since, limit=most)
            waiting = ledger.search(partner="partner-07", stream="prices", stage=Stage.FILED, limit=most)
            assert len(first) == len(lately) == len(waiting) == most and not {*first} & {*second}
            for arrival in some:
                found = [
                    ledger.search(digest=_digest(arrival)[:16]),
                    ledger.search(repository_id=_id(arrival)),
                    ledger.search(repository_id=_id(arrival), partner="partner-07", stream="prices"),
                ]
                assert [[one.journey for one in rows] for rows in found] == [[arrival.journey]] * len(found)
        seconds = time.perf_counter() - began
        self._through(ledger, lease, arrivals)
        return seconds

    def _asks(self, ledger: Ledger) -> float:
        now = ledger.now()
        lease, arrivals = _seen(ledger, "partner-07", self._names())
        journeys = [arrival.journey for arrival in arrivals]
        ledger.append([entry for arrival in arrivals for entry in _begun(arrival)], lease)
        began = time.perf_counter()
        for _ in range(self._times):
            assert ledger.cases(partner="partner-07", stream="prices") == [] and ledger.cases() == []
            [(_, _, working, _)] = ledger.in_work(now + timedelta(days=1))
            assert working == self._files and ledger.begun("ordered", now) == []
            assert ledger.open_digests() == {_digest(arrival) for arrival in arrivals}
            assert ledger.open_intents("removing", ["removed"]) == []
            assert [len(told) for told in ledger.journeys(journeys).values()] == [2] * self._files
            assert len(ledger.arrivals(journeys)) == self._files == len(list(ledger.sightings("partner-07", "prices")))
            assert ledger.overtaken_by("partner-07", "prices", journeys[0]) is None
        seconds = time.perf_counter() - began
        self._through(ledger, lease, arrivals)
        return seconds

    def _name(self, ledger: Ledger) -> float:
        lease, arrivals = _seen(ledger, "partner-07", self._names())
        ledger.append([entry for arrival in arrivals for entry in _begun(arrival)], lease)
        name = arrivals[len(arrivals) // 2].file.shown
        began = time.perf_counter()
        for _ in range(self._times):
            assert [one.name for one in ledger.search(name=name)] == [name]
            assert [one.name for one in ledger.search(name=name[3:-4].upper())] == [name]
            assert ledger.search(name="there-is-none-of-that") == []
        seconds = time.perf_counter() - began
        self._through(ledger, lease, arrivals)
        return seconds

    def _through(self, ledger: Ledger, lease: Lease, arrivals: Sequence[Arrival]) -> None:
        """What was claimed is over, so that it is in nobody's way next time."""
        ledger.append([Entry(one.journey, "cleared", {}, stage=Stage.CLEARED) for one in arrivals], lease)
        ledger.release(lease)
