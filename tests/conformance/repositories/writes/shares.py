"""Shares at Core Share. Only the sender makes them; the session that other rows use has no part in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from deployments.sender.sharing import Guest, Role, Shares
from tests.conformance.repositories.enrolment import block
from tests.conformance.repositories.writes.bench import HUNG_UP, Bench, Write
from tests.sandbox.ecm_sharing import shares as shares_of

UNTIL = datetime.now(UTC).date() + timedelta(days=7)
GUESTS = (Guest("Guest@Partner.example"), Guest("boss@partner.example", Role.COLLABORATOR))
STALLED = "the server may still be at it, and there is no second name that would let only one of two shares be"


@dataclass
class Given:
    open: Callable[[], Shares]
    nodes: tuple[int, ...]


def nodes(bench: Bench) -> Given:
    return Given(lambda: Shares(block(bench.sandbox.described())), (bench.document(), bench.document()))


def shared(bench: Bench) -> Given:
    given = nodes(bench)
    share(None, given)
    return given


def stands(bench: Bench, given: Given) -> object:
    """Of each node: until when and who sees it, and how often it was shared and stopped: each time somebody outside is told."""
    held = shares_of(bench.sandbox._store)
    now = [(held[node]["expire_date"], held[node]["invitees"]) if node in held else None for node in given.nodes]
    trails = [bench.ask(f"v2/nodes/{node}/audit")["results"]["data"]["audit"] for node in given.nodes]
    told = [[event["audit_name"] for event in trail if event["audit_name"].startswith("Share")] for trail in trails]
    return now, told


def share(_: object, given: Given) -> None:
    with given.open() as shares:
        shares.share(given.nodes, GUESTS, UNTIL)


def stop(_: object, given: Given) -> None:
    with given.open() as shares:
        shares.stop(given.nodes[0])


WRITES = (
    Write("share documents outside", nodes, share, stands, {HUNG_UP: STALLED}),
    Write("stop a share", shared, stop, stands),
)
