"""Retry: take a quarantined document up again, under a lease of its own."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from blocks.case_signoff import CaseAction
from blocks.errors import ConfigurationError, LeaseLost, SpoolCorrupt
from blocks.ledger import Entry, Recorded
from blocks.settings import settings
from blocks.tombstones import REDUCED
from blocks.values import Arrival, RemoteFile, Stage
from tasks.agreed import load_inbound
from tasks.case_signoff import document_of, need_signoff
from tasks.cases import open_history, wait_for_partner
from tasks.connections import hang_up, ledger, quarantine, spool
from tasks.consignment import GONE, Agreed, Consignment, claimed_item
from tasks.correct import fixes, give_up, under_way
from tasks.rules.holding import nobody_knows
from tasks.rules.judge import from_facts, not_acceptable
from tasks.rules.passing import PASSING
from tasks.rules.settle import OVER
from tasks.tell_partner import tell_partner

_THROUGH = {"filed": Stage.FILED, "duplicate": Stage.DUPLICATE}


@contextmanager
def reopened(
    journey: str,
    comment: str,
    by: str,
    release: bool = False,
    facts: Mapping[str, str] | None = None,
    corrected: bool = False,
) -> Iterator[Consignment]:
    """A consignment of the one document, at the stage where its checks begin. Who asked, and why, is recorded first.

    ``facts`` are what this person tells about it. ``release``: this person has looked into the document, which we could not.
    ``corrected``: this person puts it right, so its own bytes are not filed by this try. Raises ``ConfigurationError`` for a case that
    nobody may release, and for one that there is nothing to put right in any more.
    """
    history = _history(journey)
    arrived = next(entry for entry in reversed(history) if entry.kind == "arrived").body
    agreed = load_inbound(arrived["partner"], arrived["stream"])
    if agreed.terms.transfers is not None:
        raise ConfigurationError(
            f"{journey}: is part of another program's transfer, and a set is judged as a whole. Reject its cases by 'countersign "
            "quarantine reject', and have the files left once more: the flow 'collect' takes them up"
        )
    lease = ledger().lease([f"journey:{journey}"], owner=by, seconds=settings().lease_seconds)
    if lease is None:
        raise LeaseLost(f"{journey}: somebody works on this case just now; try again in a minute")
    try:
        with ledger().holding(lease, settings().lease_seconds) as held:
            if release:
                check_releasable(journey, agreed)
                need_signoff(journey, agreed, CaseAction.RELEASE, document_of(history))
            if corrected and _in_doubt(open_history(journey)):
                raise ConfigurationError(
                    f"{journey}: an earlier try may have filed it as the partner wrote it, so nothing is filed in its place. Look "
                    f"into the repository; if it is not there, 'countersign quarantine retry {journey}'"
                )
            told = {"by": by, "comment": comment, "released": release, "facts": dict(facts or {}), "corrected": corrected}
            ledger().append([Entry(journey, "retried", told)], held.lease)
            arrival = _arrival(journey, arrived, history)
            yield Consignment(agreed, held, [claimed_item(arrival, ledger().journey(journey))])
    finally:
        hang_up()


def _in_doubt(history: Sequence[Recorded]) -> bool:
    """True if the document's own bytes were to be filed, and nobody knows what came of it."""
    newest = next(
        (entry.kind for entry in reversed(history) if entry.kind in ("filing", "filed", "quarantined", "rejected")), ""
    )
    kinds = {entry.kind for entry in history}
    return newest == "filing" or nobody_knows(history) or (PASSING in kinds and "filed" not in kinds)


def check_releasable(journey: str, agreed: Agreed) -> None:
    """Raise ``ConfigurationError`` for a refused document that nobody may let through."""
    if why := not_acceptable(from_facts(journey, _last(_history(journey), "quarantined")), agreed.terms.releasable):
        raise ConfigurationError(f"{journey}: nobody can release it; {why} Have it mended, then 'countersign quarantine retry'")


def _history(journey: str) -> list[Recorded]:
    """What the ledger holds of a case. Raises ``ConfigurationError`` if there is none, or none any more."""
    history = ledger().journey(journey)
    if not any(entry.kind == "quarantined" for entry in history):
        raise ConfigurationError(f"{journey}: no such quarantine case; see 'countersign quarantine list'")
    if history[-1].kind == REDUCED:
        raise ConfigurationError(
            f"{journey}: was resolved, closed and reduced to a tombstone; ask the partner to send the file again"
        )
    return history


def _last(history: Sequence[Recorded], kind: str) -> Mapping[str, Any]:
    return next(entry for entry in reversed(history) if entry.kind == kind).body


def reject(journey: str, comment: str, by: str) -> None:
    """Close a case whose document shall not be filed. Its bytes stay in the quarantine; what waits for it in its sequence goes on."""
    _history(journey)
    lease = ledger().lease([f"journey:{journey}"], owner=by, seconds=settings().lease_seconds)
    if lease is None:
        raise LeaseLost(f"{journey}: somebody works on this case just now; try again in a minute")
    with ledger().holding(lease, settings().lease_seconds) as held:
        history = ledger().journey(journey)
        through = _through(history)
        if through is not None:
            kept = through.body.get("repository_id") or f"journey {through.body.get('duplicate_of')}"
            raise ConfigurationError(
                f"{journey}: cannot be rejected, the repository has it ({kept}): an earlier try broke off after that. "
                f"'countersign quarantine retry {journey}' closes its case, and so does the next run of the stream"
            )
        _no_correction_under_way(journey, history)
        for fix in fixes(history):
            if not fix.settled:
                give_up(fix, by, comment)
        body = {"by": by, "comment": comment, "case": {"state": "resolved"}}
        ledger().append([Entry(journey, "rejected", body, stage=_rejected_at(journey))], held.lease)


def _no_correction_under_way(journey: str, history: Sequence[Recorded]) -> None:
    """Raise ``ConfigurationError`` where what a person put right is filed, or may be. In doubt a person has looked, and decides."""
    fix = under_way(history)
    if fix is not None and not fix.doubtful:
        raise ConfigurationError(
            f"{journey}: what was put right {'is' if fix.through else 'may be'} filed, as journey {fix.journey}: that try broke off. "
            f"'countersign quarantine retry {journey}' goes on with it"
        )


def return_to_partner(journey: str, comment: str, by: str, once: str | None = None) -> None:
    """Have the partner told what to mend, where a note is agreed and none was sent; from then on the right file closes the case."""
    history = _history(journey)
    arrived = _last(history, "arrived")
    agreed = load_inbound(arrived["partner"], arrived["stream"])
    lease = ledger().lease([f"journey:{journey}"], owner=by, seconds=settings().lease_seconds)
    if lease is None:
        raise LeaseLost(f"{journey}: somebody works on this case just now; try again in a minute")
    with ledger().holding(lease, settings().lease_seconds) as held:
        _no_correction_under_way(journey, ledger().journey(journey))
        item = claimed_item(_arrival(journey, arrived, history), history)
        verdict = from_facts(journey, _last(history, "quarantined"))
        tell_partner.fn(Consignment(agreed, held, [replace(item, stage=Stage.QUARANTINED, verdict=verdict)]))
    wait_for_partner(journey, comment, by, once)


def _through(history: Sequence[Recorded]) -> Recorded | None:
    """The entry that says that the repository has these bytes."""
    return next((entry for entry in history if entry.kind in _THROUGH), None)


def _rejected_at(journey: str) -> Stage:
    """Where no run files it any more, whatever a try that broke off had begun. An original that still stands is cleared as agreed."""
    arrival = ledger().arrivals([journey])[journey]
    if any(entry.kind in GONE for entry in ledger().journey(journey)):
        return Stage.CLEARED
    return arrival.stage if arrival.stage in OVER else Stage.QUARANTINED


def _arrival(journey: str, arrived: Mapping[str, Any], history: Sequence[Recorded]) -> Arrival:
    file = RemoteFile(
        arrived["folder"],
        base64.b64decode(arrived["name_b64"]),
        int(arrived["size"]),
        datetime.fromisoformat(arrived["modified"]) if arrived["modified"] else None,
    )
    digest = document_of(history) or None
    first_seen = datetime.fromisoformat(arrived["first_seen"])
    through = _through(history)
    if through is not None:  # an earlier try broke off after that: what is left to do is to close its case
        stage = _THROUGH[through.kind]
    else:
        if digest is not None and not spool().holds(digest):
            digest = _from_quarantine(journey, digest)
        stage = Stage.CLAIMED if digest is None else Stage.FETCHED
    return Arrival(journey, arrived["partner"], arrived["stream"], file, first_seen, stage, digest)


def _from_quarantine(journey: str, digest: str) -> str | None:
    """Bring the bytes back into the spool. Raises ``SpoolCorrupt`` if they are not those that the partner sent."""
    kept = quarantine().content(journey)
    if kept is None:
        return None
    with spool().batch() as batch, kept.open("rb") as content:
        file = batch.open()
        shutil.copyfileobj(content, file, 1024 * 1024)
        found = file.finish().digest
    if found != digest:
        raise SpoolCorrupt(
            f"{journey}: the quarantine holds bytes with digest {found[:16]}…, the partner sent {digest[:16]}…; nothing was filed. "
            f"Put the original back as {kept}, or ask the partner to send a corrected file"
        )
    return digest
