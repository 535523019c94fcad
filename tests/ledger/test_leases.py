"""Who works on what: taken once, kept alive, and worth nothing after it ran out."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from blocks.errors import LeaseLost, LedgerUnreachable
from blocks.ledger import Entry, Holding, Lease, Ledger, _lease
from blocks.values import RemoteFile, Stage
from tests.forks import processes
from tests.ledger.workers import work


def sighted(ledger: Ledger, count: int) -> list[str]:
    ledger.sight(
        "acme", "prices", [RemoteFile("/in", b"%d.csv" % n, n, datetime(2026, 1, 1, tzinfo=UTC)) for n in range(count)]
    )
    return [each.journey for each in ledger.sightings("acme", "prices")]


def claimed(ledger: Ledger, journeys: list[str], owner: str = "w", seconds: float = 60) -> Lease:
    taken = ledger.claim("acme", "prices", journeys, owner=owner, seconds=seconds)
    assert taken is not None
    return taken[0]


def until_over(ledger: Ledger, lease: Lease) -> None:
    """Until the life that a lease was given is over, by the ledger's clock."""
    while ledger.now() <= lease.until:
        time.sleep(0.05)


def run_out(ledger: Ledger, lease: Lease) -> None:
    """End the life of a lease now, whatever it was given."""
    with ledger._db.write() as connection:
        connection.execute(_lease.update().where(_lease.c.fence == lease.fence).values(until=lease.until - timedelta(days=1)))


def lost(held: Holding) -> LeaseLost:
    """Wait until what is held is told to be lost, and how."""
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        try:
            held.lease  # noqa: B018 - asking is the act
        except LeaseLost as error:
            return error
        time.sleep(0.05)
    raise AssertionError("it is still held")


def test_a_claim_takes_what_nobody_holds_in_the_order_asked(ledger: Ledger) -> None:
    one, two, three = sighted(ledger, 3)
    first = ledger.claim("acme", "prices", [three, one, "unknown"], owner="a", seconds=60)
    assert first is not None
    assert [each.journey for each in first[1]] == [three, one]
    assert {each.stage for each in first[1]} == {Stage.CLAIMED}
    second = ledger.claim("acme", "prices", [one, two, three], owner="b", seconds=60)
    assert second is not None
    assert [each.journey for each in second[1]] == [two]
    assert second[0].fence > first[0].fence
    assert ledger.claim("acme", "prices", [one, two, three], owner="a", seconds=60) is None
    assert ledger.claim("acme", "assets", [one], owner="a", seconds=60) is None


def test_what_was_cleared_is_not_claimed(ledger: Ledger) -> None:
    [journey] = sighted(ledger, 1)
    ledger.append([Entry(journey, "cleared", stage=Stage.CLEARED)])
    assert ledger.claim("acme", "prices", [journey], owner="a", seconds=60) is None


def test_a_released_claim_is_sighted_again_and_progress_is_kept(ledger: Ledger) -> None:
    one, two = sighted(ledger, 2)
    lease = claimed(ledger, [one, two])
    ledger.append([Entry(one, "fetched", {"digest": "d"}, stage=Stage.FETCHED)], lease)
    ledger.release(lease)
    ledger.release(lease)
    assert [(each.stage, each.digest) for each in ledger.sightings("acme", "prices")] == [
        (Stage.FETCHED, "d"),
        (Stage.SIGHTED, None),
    ]
    again = ledger.claim("acme", "prices", [one, two], owner="b", seconds=60)
    assert again is not None
    assert [(each.stage, each.digest) for each in again[1]] == [(Stage.FETCHED, "d"), (Stage.CLAIMED, None)]


def test_a_stalled_worker_writes_nothing(ledger: Ledger) -> None:
    one, two = sighted(ledger, 2)
    stalled = claimed(ledger, [one])
    ledger.append([Entry(one, "arrived", stage=Stage.CLAIMED)], stalled)
    with pytest.raises(LeaseLost, match="not part of the lease"):
        ledger.append([Entry(one, "x"), Entry(two, "x")], stalled)
    run_out(ledger, stalled)
    for _ in ("before anybody took over", "after"):
        with pytest.raises(LeaseLost, match="nothing was written"):
            ledger.append([Entry(one, "filed", stage=Stage.FILED)], stalled)
        with pytest.raises(LeaseLost):
            ledger.renew(stalled, 60)
        next_one = claimed(ledger, [one], owner="next") if _.startswith("before") else None
        if next_one:
            taken = next_one
    ledger.release(stalled)  # which is not his to give back
    ledger.append([Entry(one, "fetched", stage=Stage.FETCHED)], taken)
    assert [entry.kind for entry in ledger.journey(one)] == ["arrived", "fetched"]
    assert ledger.journey(two) == []
    assert ledger.arrivals([one])[one].stage is Stage.FETCHED


def test_a_fence_alone_does_not_open_other_leases(ledger: Ledger) -> None:
    one, two = sighted(ledger, 2)
    lease = claimed(ledger, [one, two])
    claim_more = Lease(lease.owner, lease.fence, (f"journey:{one}",), lease.until)
    with pytest.raises(LeaseLost):
        ledger.append([Entry(two, "x")], claim_more)


def test_a_lease_is_all_or_none(ledger: Ledger) -> None:
    lease = ledger.lease(["package:1", "package:2"], owner="a", seconds=60)
    assert lease is not None
    assert ledger.lease(["package:2", "package:3"], owner="b", seconds=60) is None
    assert ledger.lease(["package:3"], owner="b", seconds=60) is not None
    renewed = ledger.renew(lease, 600)
    assert renewed.until > lease.until
    assert renewed.fence == lease.fence
    ledger.release(renewed)
    assert ledger.lease(["package:1"], owner="b", seconds=60) is not None


def test_holding_keeps_a_lease_longer_than_its_life(ledger: Ledger) -> None:
    [journey] = sighted(ledger, 1)
    claim = claimed(ledger, [journey], seconds=5)
    with ledger.holding(claim, 5) as held:
        until_over(ledger, claim)
        assert ledger.append([Entry(journey, "late")], held.lease)[0].fresh
        assert ledger.claim("acme", "prices", [journey], owner="b", seconds=60) is None
    assert ledger.claim("acme", "prices", [journey], owner="b", seconds=60) is not None
    assert not [thread for thread in threading.enumerate() if thread.name == "lease"]


def test_a_lease_taken_while_it_was_held_is_lost(ledger: Ledger) -> None:
    [journey] = sighted(ledger, 1)
    with ledger.holding(claimed(ledger, [journey]), 6) as held:
        stale = held.lease
        with ledger._db.write() as connection:
            connection.exec_driver_sql("UPDATE lease SET fence = fence + 1")
        assert "was taken over" in str(lost(held))
        for lease in (lambda: held.lease, lambda: stale):
            with pytest.raises(LeaseLost):
                ledger.append([Entry(journey, "late")], lease())
    assert ledger.journey(journey) == []


def test_a_lease_that_cannot_be_renewed_is_lost_in_time(url: str) -> None:
    """The database is out of reach: by our own clock we stop before anybody else may begin."""
    with Ledger(url, timeout_seconds=0.1) as ledger, Ledger(url) as other:
        [journey] = sighted(ledger, 1)
        with ledger.holding(claimed(ledger, [journey]), 2) as held, other._db.write() as connection:
            other._db.lock(connection, "record")
            assert "could not be renewed" in str(lost(held))
            with pytest.raises(LedgerUnreachable):
                ledger.append([Entry(journey, "x")])


WORKERS = 6


def test_six_processes_share_the_work_without_doubling_it(url: str) -> None:
    with Ledger(url) as ledger:
        journeys = sighted(ledger, 120)
        context = processes()
        start, answers = context.Barrier(WORKERS), context.Queue()
        workers = [context.Process(target=work, args=(url, number, start, answers)) for number in range(WORKERS)]
        for worker in workers:
            worker.start()
        done = dict(answers.get(timeout=300) for _ in workers)
        for worker in workers:
            worker.join(300)
        assert sorted(journey for mine in done.values() for journey in mine) == sorted(journeys)
        assert all([entry.kind for entry in entries] == ["worked"] for entries in ledger.journeys(journeys).values())
        assert ledger.verify().entries == len(journeys)
