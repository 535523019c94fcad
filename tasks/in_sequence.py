"""In sequence: file documents of a stream one after another, where a refused or late one means something for those after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from blocks.chain import CaseState
from blocks.errors import LeaseLost
from blocks.ledger import Entry, Holding, Recorded
from blocks.settings import settings
from blocks.values import Finding, Stage, Succession, Verdict
from tasks.connections import ledger
from tasks.consignment import Agreed, Consignment, Item
from tasks.incidents import given_up
from tasks.rules.passing import PASSING
from tasks.rules.sequence import SUPERSEDED, UNKNOWN, settled_by, under_way, waits_for

_PATIENCE_SECONDS = 900.0
_RULE = "of a stream with a sequence, an earlier file is never filed after a later one"
_OURS = frozenset({Stage.SIGHTED, Stage.CLAIMED, Stage.FETCHED, Stage.JUDGED})
"""Of a consignment's items: not through, refused ones included."""


def file_in_sequence(consignment: Consignment, file_one: Callable[[Consignment, Item], Consignment]) -> Consignment:
    """File what was accepted in the order of first sight, so that each document sees what became of those before it."""
    agreed = consignment.agreed
    with _alone(agreed) as held:
        if agreed.terms.sequence is Succession.LATEST:
            _settle_the_overtaken(agreed)
        refused, ours = _refused(agreed), {item.journey for item in consignment.items}
        elsewhere = {*refused, *(journey for journey in _under_way(agreed) if journey not in ours)}
        accepted = sorted(item.journey for item in consignment.at(Stage.JUDGED) if item.verdict and item.verdict.accepted)
        through = _through(accepted)
        for journey in accepted:
            here = {item.journey: item for item in consignment.items}
            open_here = {item.journey for item in here.values() if item.stage in _OURS}
            if journey in through:
                consignment = file_one(consignment, here[journey])
                continue
            if later := ledger().overtaken_by(agreed.partner, agreed.stream, journey):
                item = here[journey]
                begun = _begun(ledger().journey(journey))
                changed = _in_doubt(item, later) if begun else _superseded(item, later)
            elif first := waits_for(journey, elsewhere | open_here, agreed.terms.sequence):
                changed = replace(here[journey], note=f"waits in its sequence for {_name(first)} (journey {first})")
            else:
                held.lease  # noqa: B018 - raises: whoever has the sequence now may have filed a later one
                consignment = file_one(consignment, here[journey])
                _need_nobody(consignment, journey, refused)
                continue
            consignment = consignment.with_changes({journey: changed})
    return consignment


def _through(journeys: list[str]) -> set[str]:
    """Those that an earlier try of the same consignment has filed before it met an error: asked again, it is the same filing."""
    histories = ledger().journeys(journeys) if journeys else {}
    return {journey for journey in journeys if {entry.kind for entry in histories[journey]} & {"filed", "duplicate"}}


def overtaken(agreed: Agreed, journey: str, code: str) -> bool:
    """True for a refused document that needs nobody: by the stream's sequence a later one stands in its place already."""
    if agreed.terms.sequence is Succession.FREE:
        return False
    later = ledger().overtaken_by(agreed.partner, agreed.stream, journey)
    return later is not None and (code == SUPERSEDED or bool(settled_by(later, {journey: code}, agreed.terms.sequence)))


def _refused(agreed: Agreed) -> dict[str, str]:
    """Journeys of the stream that were refused, with the codes of their cases, and that no person has decided yet."""
    cases = {case.journey: case.code or "" for case in ledger().cases(partner=agreed.partner, stream=agreed.stream)}
    histories = ledger().journeys(list(cases))
    kinds = {journey: {entry.kind for entry in histories[journey]} for journey in cases}
    return {
        journey: UNKNOWN if _begun(histories[journey]) else code
        for journey, code in cases.items()
        if "quarantined" in kinds[journey] and not kinds[journey] & {"filed", "duplicate"}
    }


def _under_way(agreed: Agreed) -> list[str]:
    if agreed.terms.sequence is not Succession.ORDERED:
        return []
    settle, now = agreed.terms.settle, ledger().now()
    found = list(under_way(ledger().sightings(agreed.partner, agreed.stream), settle, agreed.terms.patterns))
    # Nobody has to wait for ever for a file that is never finished: a person may say so.
    told_after = min(settle.done_wait, settle.abandoned_after)
    told = [one.journey for one in found if one.stage is Stage.SIGHTED and now - one.first_seen >= told_after]
    dismissed = given_up(told) if told else set()
    return [one.journey for one in found if one.journey not in dismissed]


def _settle_the_overtaken(agreed: Agreed) -> None:
    """Close the cases that were overtaken by a document after whose filing a run broke off."""
    for journey, code in _refused(agreed).items():
        later = ledger().overtaken_by(agreed.partner, agreed.stream, journey)
        if later is not None:
            _close_overtaken(agreed, later, {journey: code})


def _need_nobody(consignment: Consignment, journey: str, refused: dict[str, str]) -> None:
    """Close the cases that a document which was just filed has overtaken."""
    if not any(item.journey == journey and item.stage in (Stage.FILED, Stage.DUPLICATE) for item in consignment.items):
        return
    _close_overtaken(consignment.agreed, journey, refused)


def _close_overtaken(agreed: Agreed, journey: str, refused: dict[str, str]) -> None:
    about = {"partner": agreed.partner, "stream": agreed.stream, "by": journey}
    over = settled_by(journey, refused, agreed.terms.sequence)
    body = {**about, "case": {"state": CaseState.RESOLVED.value}}
    ledger().append([Entry(other, SUPERSEDED, body, once=f"{other}/{SUPERSEDED}") for other in over])


def _begun(history: Sequence[Recorded]) -> bool:
    """True if a run that broke off may have filed it: its newest intent stands, and what became of that was never told."""
    told = [entry.kind for entry in history if entry.kind in ("filing", PASSING, "filed", "quarantined")]
    return told[-1:] in (["filing"], [PASSING])


def _in_doubt(item: Item, later: str) -> Item:
    message = (
        f"A run broke off while it was being filed, and then {_name(later)}, which came later (journey {later}), was filed"
    )
    fix = "Look for it in the repository, also among older versions; then 'countersign quarantine reject' closes the case"
    return _not_filed(item, UNKNOWN, message, fix)


def _superseded(item: Item, later: str) -> Item:
    message = f"{_name(later)} came later (journey {later}) and is filed already"
    return _not_filed(item, SUPERSEDED, message, "If it shall count all the same, ask the partner to send it again")


def _not_filed(item: Item, code: str, message: str, fix: str) -> Item:
    finding = Finding(code=code, message=message, file=item.arrival.file.shown, rule=_RULE, fix=fix)
    doctype = item.verdict.doctype if item.verdict else None
    return replace(item, verdict=Verdict(item.journey, doctype, (finding,)))


def _name(journey: str) -> str:
    """A file's name as it was when it arrived, or was seen."""
    if history := ledger().journey(journey):
        return str(history[0].body.get("name", journey))
    arrival = ledger().arrivals([journey]).get(journey)
    return arrival.file.shown if arrival else journey


@contextmanager
def _alone(agreed: Agreed) -> Iterator[Holding]:
    """One at a time for each stream: what is compared with what is filed must still be so when it is filed."""
    seconds, give_up = settings().lease_seconds, time.monotonic() + _PATIENCE_SECONDS
    resource = f"sequence:{agreed.key}"
    while (lease := ledger().lease([resource], owner="file away", seconds=seconds)) is None:
        if time.monotonic() > give_up:
            raise LeaseLost(
                f"{agreed.key}: somebody else has been filing its documents for {_PATIENCE_SECONDS / 60:.0f} minutes; nothing was "
                "filed here, and the next run goes on"
            )
        time.sleep(min(0.2, seconds / 10))
    with ledger().holding(lease, seconds) as held:
        yield held
