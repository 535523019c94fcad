"""The sender's record against the ledger: what was asked of the sender past our flows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from blocks.outbound import Record, Refused, Stood
from blocks.values import shown
from tasks.rules.reconcile import Finding


@dataclass(frozen=True, slots=True)
class Known:
    """What our flows have written down before they asked the sender."""

    rounds: frozenset[str]
    """Keys of the rounds that were opened."""
    frozen: frozenset[str]
    """Digests of the packages on which somebody was asked."""
    sending: Mapping[str, datetime]
    """Digests of the packages that were about to be sent, and since when."""
    preparing: Mapping[str, datetime] = field(default_factory=dict)
    """Digests of the packages whose bytes were about to be copied, and since when."""
    telling: frozenset[str] = frozenset()
    """Ids of the service messages that partners were about to be sent."""
    gathered: frozenset[str] = frozenset()
    """Of the packages that went by what was signed beforehand, the digests of those that our flows have gathered."""
    leaving: frozenset[str] = frozenset()
    """Of the packages that have left, the digests of those that our flows were about to send."""
    cases: frozenset[str] = frozenset()
    """Rounds of cases in which our flows have asked, as ``tasks.ask_about`` names them to the sender."""


def around(record: Record, known: Known) -> list[Finding]:
    """All that did not come from our flows; what was tried many times is one finding."""
    strange = Counter((one.package, one.voter, one.refusal) for one in record.judged if one.round not in known.rounds)
    judged = [_judged(*told, count) for told, count in sorted(strange.items())]
    stood = [_stood(one) for one in record.stood if one.package not in known.gathered]
    sent = [_sent(package) for package in record.sent if package not in known.leaving]
    return judged + stood + sent + [_refused(one) for one in record.refused if not _ours(one, known)]


def _judged(package: str, voter: str, refusal: str, count: int) -> Finding:
    what = f"a vote of {shown(voter[:80])} was sealed" if voter else f"{count} answers were refused ({refusal})"
    return Finding(
        "sender",
        f"judged/{package}/{voter}/{refusal}",
        f"/judge: {what} on package {package[:8]}, in a round that none of our flows has asked: somebody calls the sender as the "
        "workers' user" + ("; ask that person at once whether they signed anything" if voter else ""),
    )


def _stood(one: Stood) -> Finding:
    return Finding(
        "sender",
        f"stood/{one.package}/{one.voter}",
        f"/open: what {shown(one.voter[:80])} had signed beforehand for {shown(f'{one.partner}/{one.stream}'[:200])} was counted for "
        f"package {one.package[:8]}, order {shown(one.order[:80])}, which none of our flows has gathered: somebody calls the sender as "
        "the workers' user",
    )


def _sent(package: str) -> Finding:
    return Finding(
        "sender",
        f"sent/{package}",
        f"/send: package {package[:8]} left, or was about to, and none of our flows has sent it: somebody calls the sender as the "
        "workers' user; ask the partner what has come",
    )


def _refused(one: Refused) -> Finding:
    return Finding(
        "sender",
        f"refused/{one.id}",
        f"{shown(one.asked)}: the sender refused user id {one.uid}, and none of our flows has asked for that: {shown(one.reason)}",
    )


def _ours(one: Refused, known: Known) -> bool:
    """True if a flow of ours has asked, and was refused: that flow says so."""
    begun = {"/prepare": known.preparing, "/send": known.sending}
    if one.asked in begun:
        return one.about in begun[one.asked] and one.since >= begun[one.asked][one.about]
    about = {
        "/open": known.frozen,
        "/ask": known.rounds,
        "/judge": known.rounds,
        "/tell": known.telling,
        "/case": known.cases,
    }
    return one.about in about.get(one.asked, frozenset())
