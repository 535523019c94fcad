"""Clear the source: what was agreed happens to the originals, once the ledger holds the receipt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from blocks.endpoints.base import EndpointSession
from blocks.ledger import Entry, Recorded
from blocks.values import DispositionKind, Fetched, Inbound, Move, Moved, Outcome, RemoteFile, Stage
from tasks.connections import endpoint_session, ledger, spool
from tasks.consignment import Consignment, Item, Steps
from tasks.holds import Gate, sharers, with_same_bytes
from tasks.incidents import CHANGED, REMOVED_MEANWHILE, case
from tasks.report import tell
from tasks.retrying import task
from tasks.rules.holding import REMOVED
from tasks.rules.passing import PASSING
from tasks.rules.removal import being_removed, was_removed
from tasks.rules.settle import OVER

ON_HOLD = "on-hold"
"""Kind of the entry about an original that stays at the source because of a legal hold."""
MOST = 10_000
"""Versions of one document."""
_TAKEN_AWAY = (
    "its document was removed while it came in, as that of a journey whose retention had ended; the original stays at the source: put it "
    "there under another name, and it is filed anew"
)


@task(task_run_name="clear the source ({consignment.size})")
def clear_source(consignment: Consignment) -> Consignment:
    """Remove, move or leave the originals. A file that changed since we fetched it is left: it is a new arrival.

    What is under a legal hold stays where it is, and so does what nobody can tell about.
    """
    steps = Steps(consignment)
    waiting: dict[DispositionKind, list[Item]] = {kind: [] for kind in DispositionKind}
    for item in consignment.at(Stage.FILED, Stage.DUPLICATE, Stage.MARKER, Stage.QUARANTINED):
        if item.untold:
            continue
        if item.gone:  # a retried case
            steps.add(item, "closed", {}, stage=Stage.CLEARED)
        else:
            waiting[_disposition(item, consignment.agreed.terms)].append(item)
    for item in waiting[DispositionKind.LEAVE]:
        steps.add(item, "left", {"reason": "as agreed"}, stage=Stage.LEFT)
    waiting = _let_go(_relied_on(waiting, steps), steps)
    going = waiting[DispositionKind.REMOVE] + waiting[DispositionKind.MOVE]
    if going:
        doubtful = _intend(going, consignment)
        with endpoint_session(consignment.agreed.endpoint) as session:
            _close_the_replaced(session, doubtful, steps)
            remove, move = (
                [item for item in waiting[kind] if item.journey not in steps.changed]
                for kind in (DispositionKind.REMOVE, DispositionKind.MOVE)
            )
            # The marker goes first: a file without its marker is only not ready, a marker without its file is a riddle.
            list(session.remove(_spoken_out(remove + move, consignment)))
            _record(remove, session.remove(item.arrival.file for item in _ours(remove, consignment)), steps)
            _record(move, _move(session, move, consignment), steps)
    return steps.write(ledger().append)


def _relied_on(waiting: dict[DispositionKind, list[Item]], steps: Steps) -> dict[DispositionKind, list[Item]]:
    """Without those whose document is being removed just now, as that of a journey whose retention has ended: the original stays.

    A removal writes its intent and then looks who relies on the document; we have written that we do, and look now. One of both
    sees the other.
    """
    going = [item for kind in (DispositionKind.REMOVE, DispositionKind.MOVE) for item in waiting[kind]]
    others = _sharers(going)
    histories = ledger().journeys(sorted({one for some in others.values() for one in (*some, *others)})) if others else {}
    for item in (item for item in going if item.journey in others):
        shared = [histories[one] for one in others[item.journey]]
        if any(being_removed(history) for history in shared):
            note = "its original stays at the source: its document is being removed"
            steps.changed[item.journey] = replace(item, note=note)
        elif any(_gone_since(histories[item.journey], history) for history in shared):
            steps.add(item, "left", {"reason": _TAKEN_AWAY, **_taken_away(item, steps)}, stage=Stage.LEFT, note=_TAKEN_AWAY)
    return {kind: [item for item in items if item.journey not in steps.changed] for kind, items in waiting.items()}


def _sharers(items: Sequence[Item]) -> dict[str, list[str]]:
    """Other journeys with which these share their documents: as the same bytes, as parts of them, or as another version."""
    duplicates = [item.journey for item in items if item.stage is Stage.DUPLICATE]
    histories = with_same_bytes(duplicates)
    found = {journey: list(sharers(journey, histories)) for journey in duplicates}
    for item in items:
        if item.stage is Stage.FILED and item.filed and item.filed.version > 1:
            rows = ledger().search(repository_id=item.filed.id, limit=MOST)
            found[item.journey] = [row.journey for row in rows if row.journey != item.journey]
    return {journey: others for journey, others in found.items() if others}


def _gone_since(history: Sequence[Recorded], other: Sequence[Recorded]) -> bool:
    """True if the other one's document was removed although this one relies on it."""
    if was_removed(history):
        return False  # together, when both had ended
    through = next((entry.seq for entry in history if entry.kind == PASSING), None)
    intent = through or next((entry.seq for entry in reversed(history) if entry.kind == "filing"), 0)
    return any(entry.kind == REMOVED and entry.seq > intent for entry in other)


def _taken_away(item: Item, steps: Steps) -> dict[str, Any]:
    agreed = steps.consignment.agreed
    tell(agreed, REMOVED_MEANWHILE, {"file": item.arrival.file.shown, "reason": _TAKEN_AWAY, "journey": item.journey})
    return {"case": case(agreed, REMOVED_MEANWHILE, _TAKEN_AWAY)}


def _let_go(waiting: dict[DispositionKind, list[Item]], steps: Steps) -> dict[DispositionKind, list[Item]]:
    """What no legal hold keeps. The others are left until a clean-up finds them free; where the repository is away, the next run asks."""
    bars = Gate().bars(item.journey for kind in (DispositionKind.REMOVE, DispositionKind.MOVE) for item in waiting[kind])
    for item in (item for items in waiting.values() for item in items if item.journey in bars):
        bar = bars[item.journey]
        note = f"its original stays at the source: {bar.reason}"
        if bar.away:
            steps.changed[item.journey] = replace(item, note=note)
        else:
            steps.add(item, ON_HOLD, {"reason": note}, stage=Stage.LEFT, note=note)
    return {kind: [item for item in items if item.journey not in bars] for kind, items in waiting.items()}


def _intend(items: list[Item], consignment: Consignment) -> list[Item]:
    """Written before the source is touched; refused if these are somebody else's by now. Answers the doubtful ones.

    Where an earlier attempt wrote the intent, the original may be gone already; where an earlier run fetched it, that was long
    ago. Then what stands there may be another file of the same name, size and time.
    """
    intents = ledger().append(
        [
            Entry(item.journey, "clearing", consignment.agreed.about(item.arrival), once=f"{item.journey}/clearing")
            for item in items
        ],
        consignment.lease,
    )
    return [item for item, intent in zip(items, intents, strict=True) if not intent.fresh or item.recorded("fetched")]


def _close_the_replaced(session: EndpointSession, items: list[Item], steps: Steps) -> None:
    """Only bytes tell a look-alike from the original. It is not touched, and the next look finds a new arrival."""
    if not items:
        return
    by_file = {item.arrival.file: item for item in items}
    with spool().batch() as batch:
        for answer in session.fetch(list(by_file), batch):
            item = by_file[answer.file]
            if isinstance(answer, Fetched) and answer.digest != item.arrival.digest:
                steps.add(item, "cleared", {"outcome": "replaced", "found": answer.digest}, stage=Stage.CLEARED)


def _ours(items: Iterable[Item], consignment: Consignment) -> Iterator[Item]:
    """Items, each only while the lease holds: a worker that was stalled touches nothing more."""
    for item in items:
        consignment.lease  # noqa: B018 - raises
        yield item


def _spoken_out(items: Sequence[Item], consignment: Consignment) -> list[RemoteFile]:
    """The done files of these; not one that speaks for another file of this run as well, before that one is through too."""
    going = {item.journey for item in items}
    markers = {marker for journey, marker in consignment.markers.items() if journey in going}
    others = {journey: marker for journey, marker in consignment.markers.items() if marker in markers and journey not in going}
    arrivals = ledger().arrivals(list(others)) if others else {}
    needed = {marker for journey, marker in others.items() if journey in arrivals and arrivals[journey].stage not in OVER}
    return [marker for marker in markers if marker not in needed]


def _disposition(item: Item, terms: Inbound) -> DispositionKind:
    if item.arrival.digest is None:  # we do not have its bytes: the original is all there is
        return DispositionKind.LEAVE
    return terms.disposition.refused if item.stage is Stage.QUARANTINED else terms.disposition.accepted


def _move(session: EndpointSession, items: list[Item], consignment: Consignment) -> list[Moved]:
    """Move under the same name; where that is taken, under one that the journey makes unique."""
    folder = consignment.agreed.terms.disposition.folder or ""
    first = list(session.rename(Move(item.arrival.file, folder, item.arrival.file.name) for item in _ours(items, consignment)))
    taken = {moved.file for moved in first if moved.outcome is Outcome.EXISTS}
    if not taken:
        return first
    again = session.rename(
        Move(item.arrival.file, folder, item.arrival.file.name + b"." + item.journey.encode())
        for item in _ours(items, consignment)
        if item.arrival.file in taken
    )
    return [moved for moved in first if moved.outcome is not Outcome.EXISTS] + list(again)


def _record(items: list[Item], answers: Iterable[Moved], steps: Steps) -> None:
    by_file = {item.arrival.file: item for item in items}
    for answer in answers:
        item = by_file[answer.file]
        if answer.outcome in (Outcome.DONE, Outcome.VANISHED):
            steps.add(item, "cleared", {"outcome": str(answer.outcome)}, stage=Stage.CLEARED)
        else:
            note = f"left at the source: {answer.reason or answer.outcome}"
            # What is in the quarantine has its case already.
            came_late = answer.outcome is Outcome.CHANGED and item.stage is not Stage.QUARANTINED
            late = _changed_late(item, note, steps) if came_late else {}
            steps.add(item, "left", {"reason": note, **late}, stage=Stage.LEFT, note=note)


def _changed_late(item: Item, note: str, steps: Steps) -> dict[str, Any]:
    """What we have fetched is not, or no longer, all of it: what stands there now comes in as a new version, and a person is told."""
    agreed = steps.consignment.agreed
    reason = f"it was written to after it had been fetched ({note}); what stands there now comes in as a new version"
    tell(agreed, CHANGED, {"file": item.arrival.file.shown, "reason": reason, "journey": item.journey})
    return {"case": case(agreed, CHANGED, reason)}
