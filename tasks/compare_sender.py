"""Compare with the sender: what it was asked, by its own account, against what our flows have written down.

Whoever calls the sender past our flows leaves nothing in Prefect or the ledger. But the sender keeps what it judged and refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from prefect import get_run_logger

from blocks.errors import SenderError
from blocks.ledger import Recorded
from blocks.outbound import Package, Record
from tasks.ask_about import ASKED
from tasks.connections import ledger
from tasks.order import order_key, sender
from tasks.retrying import task
from tasks.rules.reconcile import Finding
from tasks.rules.sender_record import Known, around

_ASKED_SINCE = timedelta(hours=2)
"""A sweep comes every minute."""


@task(task_run_name="compare with the sender")
def compare_with_sender(look_back: timedelta) -> list[Finding]:
    """What the sender judged, refused or sent and no flow of ours asked for. If it does not answer, nothing: releases say so."""
    now = ledger().now()
    try:
        with sender() as asked:
            record = asked.record(now - min(look_back, _ASKED_SINCE))
    except SenderError as error:
        get_run_logger().warning("the sender's record was not compared: %s", error)
        return []
    if record == Record((), ()):
        return []
    known = replace(_known(look_back), telling=_telling(record), gathered=_gathered(record), leaving=_leaving(record))
    return around(record, replace(known, cases=_cases(record)))


def _telling(record: Record) -> frozenset[str]:
    """Of the messages that the sender refused, those that our flows had asked for."""
    refused = {one.about for one in record.refused if one.asked == "/tell"}
    return frozenset(one for one in refused if ledger().holder(f"telling/{one}"))


def _cases(record: Record) -> frozenset[str]:
    """Of the rounds of cases in which the sender refused, those in which our flows had asked."""
    asked = {(one.about, *one.about.partition("/")[::2]) for one in record.refused if one.asked == "/case"}
    return frozenset(
        round for round, run, key in asked if (held := ledger().holder(f"{ASKED}/{key}")) and held.body.get("run") == run
    )


def _gathered(record: Record) -> frozenset[str]:
    """Of the packages that went by what was signed beforehand, those that our flows gathered: that is written before it is asked."""
    ours: set[str] = set()
    for one in record.stood:
        ordered = ledger().holder(order_key(one.partner, one.stream, one.order))
        history = ledger().journey(ordered.journey) if ordered else []
        ours |= {Package.parse(str(entry.body["package"])).digest for entry in history if entry.kind == "frozen"}
    return frozenset(ours)


def _leaving(record: Record) -> frozenset[str]:
    """Of the packages that left, those that our flows were about to send."""
    return frozenset(package for package in record.sent if ledger().holder(f"sending/{package}"))


def _known(look_back: timedelta) -> Known:
    """What our flows have asked of the sender, as the ledger has it."""
    orders = ledger().journeys(ledger().begun("ordered", ledger().now() - look_back)).values()
    entries = [entry for history in orders for entry in history]
    return Known(
        rounds=frozenset(str(entry.body["key"]) for entry in entries if entry.kind == "round"),
        frozen=frozenset(str(entry.body["digest"]) for entry in entries if entry.kind == "round"),
        sending=_begun("sending", entries),
        preparing=_begun("preparing", entries),
    )


def _begun(kind: str, entries: Iterable[Recorded]) -> dict[str, datetime]:
    """Digests of the packages that something was about to be done with, and since when."""
    return {str(entry.once).removeprefix(f"{kind}/"): entry.at for entry in entries if entry.kind == kind}
