"""What other processes do in these tests. Imports little: every process pays for it."""

from __future__ import annotations

from typing import Any

from blocks.ledger import Entry, Lease, Ledger
from blocks.values import Stage


def work(url: str, number: int, start: Any, answers: Any) -> None:
    """Claim seven at a time until nothing is left, and record each under the lease."""
    mine: list[str] = []
    with Ledger(url) as ledger:
        journeys = [each.journey for each in ledger.sightings("acme", "prices")]
        start.wait(300)
        while taken := ledger.claim("acme", "prices", journeys, owner=f"worker {number}", seconds=60):
            lease, arrivals = taken
            some = [each.journey for each in arrivals[:7]]
            ledger.append([Entry(journey, "worked", {"by": number}, stage=Stage.FETCHED) for journey in some], lease)
            mine += some
            journeys = [each for each in journeys if each not in mine]
            # What was taken and not worked on goes back; what was worked on stays ours.
            ledger.release(Lease(lease.owner, lease.fence, lease.resources[7:], lease.until))
    answers.put((number, mine))


def migrate(url: str, start: Any, answers: Any) -> None:
    """Make the ledger, all workers at the same moment."""
    start.wait(300)
    try:
        with Ledger(url) as ledger:
            ledger.migrate()
            answers.put(ledger.append([Entry("a", "arrived")])[0].n)
    except Exception as error:  # noqa: BLE001 - shown by the test
        answers.put(repr(error))
