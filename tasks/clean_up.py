"""Clean up: what retention and holds let go. Each of these passes the gate (``tasks.holds``); what it keeps is told with its reason."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any

from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from blocks.errors import (
    ConfigurationError,
    CountersignError,
    DocumentMissing,
    EndpointError,
    LeaseLost,
    OutcomeUnknown,
    RepositoryError,
    RepositoryUnreachable,
    SenderError,
    SignInRefused,
    SpoolError,
)
from blocks.ledger import Case, CaseState, Entry, Holding, Recorded
from blocks.profile import load_partner, partners
from blocks.repositories.base import Repository, RepositorySession
from blocks.settings import settings
from blocks.tombstones import REDUCED
from blocks.values import AtEnd, Inbound, Stage
from tasks.agreed import load_inbound
from tasks.cases import opened
from tasks.clear_source import ON_HOLD, clear_source
from tasks.connections import ledger, quarantine, repository_session, spool
from tasks.consignment import Consignment, claimed_item
from tasks.correct import digests_given
from tasks.govern import govern_all
from tasks.holds import Gate, configured, holds_here, tell_hold, with_same_bytes
from tasks.incidents import REMOVAL_UNKNOWN
from tasks.let_go_on import compared_with, went_on
from tasks.order import sender
from tasks.retrying import task
from tasks.rules.holding import NOT_THERE, REMOVED, Place, filed_at, same_bytes, wholes_of
from tasks.rules.literal import literal
from tasks.rules.removal import NOT_REMOVED, REMOVING, being_removed, was_removed
from tasks.rules.retention import ended, last_day
from tasks.rules.settle import markers_of

WORKED_ON = frozenset({Stage.FILED, Stage.DUPLICATE, Stage.MARKER, Stage.QUARANTINED})
ALL = 1_000_000
SHOWN = 1000
AGAIN = timedelta(days=7)
"""A removal that was begun and refused is tried again after so long."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What one clean-up came to."""

    what: str
    gone: int = 0
    freed_bytes: int = 0
    kept: tuple[tuple[str, str], ...] = ()
    """Journey and reason, for what retention would let go and something else does not."""


@task(task_run_name="hear flags")
def hear_flags() -> Swept:
    """Ask the governance systems anew what they have flagged: whatever is removed after this is removed by what they say now."""
    told = ((one.system, reason) for one in govern_all.fn() for reason in ([one.why] if one.why else []) + one.differs)
    return Swept("flags", kept=tuple(told))


@task(task_run_name="tell of holds")
def tell_holds() -> Swept:
    """Tell the repositories of holds that were set here while they were away, or before they had the document."""
    problems = [(hold.journey, "; ".join(left)) for hold in holds_here() if (left := tell_hold(hold))]
    return Swept("holds told", kept=tuple(problems))


@task(task_run_name="clear what was on hold")
def clear_what_was_held() -> list[Swept]:
    """Originals that stayed at a partner because of a hold, and are free now: what was agreed happens to them."""
    left = [row for row in ledger().search(stage=Stage.LEFT, limit=ALL) if row.kind != "left" and row.partner and row.stream]
    histories = ledger().journeys([row.journey for row in left])
    held = sorted((str(row.partner), str(row.stream), row.journey) for row in left if _held(histories[row.journey]))
    bars = Gate().bars(journey for _, _, journey in held)
    swept = []
    for (partner, stream), rows in groupby(held, key=lambda row: row[:2]):
        journeys = [journey for _, _, journey in rows]
        kept = tuple((journey, bars[journey].reason) for journey in journeys if journey in bars)
        free = [journey for journey in journeys if journey not in bars]
        try:
            gone = _clear(partner, stream, free) if free else 0
        except (
            ConfigurationError,
            EndpointError,
            RepositoryError,
            SpoolError,
            LeaseLost,
        ) as error:  # what was agreed is not known any more; the partner is away; or the disk is full
            gone, kept = 0, (*kept, *((journey, str(error)) for journey in free))
        swept.append(Swept(f"originals of {partner}/{stream}", gone, kept=kept))
    return swept


def _held(history: Sequence[Recorded]) -> bool:
    staged = [entry for entry in history if entry.stage is not None]
    return bool(staged) and staged[-1].kind == ON_HOLD


def _clear(partner: str, stream: str, journeys: Sequence[str]) -> int:
    agreed, seconds = load_inbound(partner, stream), settings().lease_seconds
    claimed = ledger().claim(partner, stream, journeys, owner="clean-up", seconds=seconds)
    if claimed is None:
        return 0
    lease, arrivals = claimed
    with ledger().holding(lease, seconds) as holding:
        histories = ledger().journeys([arrival.journey for arrival in arrivals])
        items = [
            claimed_item(replace(arrival, stage=_before(histories[arrival.journey])), histories[arrival.journey])
            for arrival in arrivals
            if _held(histories[arrival.journey])
        ]
        markers = markers_of(ledger().sightings(partner, stream), agreed.terms.settle)
        cleared = clear_source.fn(Consignment(agreed, holding, items, markers))
    return len(cleared.at(Stage.CLEARED))


def _before(history: Sequence[Recorded]) -> Stage:
    """How far the journey was when its original had to stay."""
    return next(entry.stage for entry in reversed(history) if entry.stage in WORKED_ON)


# --------------------------------------------------------------------------------------------- spool, quarantine


@task(task_run_name="collect the spool")
def collect_spool(older_than: timedelta) -> Swept:
    """Bytes that no open journey needs."""
    gate, kept = Gate(), list[str]()

    def must_stay(digests: Sequence[str]) -> set[str]:
        found = gate.kept_digests(digests)
        kept.extend(sorted(found))
        return found | _needed()  # asking for holds takes long: a journey may have taken bytes up meanwhile

    freed = spool().collect(_needed(), must_stay, older_than=older_than)
    return Swept("spool", freed_bytes=freed, kept=tuple((digest, "a hold, or nobody can tell") for digest in kept))


def _needed() -> set[str]:
    """Digests of bytes that an open journey or case still needs."""
    return ledger().open_digests() | digests_given()


@task(task_run_name="clear the sender's outbox")
def clear_outbox() -> Swept:
    """The sender's copies of what it sent, of orders that are over."""
    gate, gone, freed, kept = Gate(), 0, 0, list[tuple[str, str]]()
    if not settings().sender_socket.exists():
        return Swept("outbox")
    try:
        with sender() as holder:
            for digest in holder.staged():
                package = gate.packages_over.get(digest)
                if package is None:
                    continue
                if gate.kept_digests([file.sha256 for file in package.files]):
                    kept.append((package.journey, "a hold on one of its documents, or nobody can tell"))
                    continue
                freed += holder.unstage(digest)
                gone += 1
    except SenderError as error:
        kept.append(("outbox", str(error)))
    return Swept("outbox", gone, freed, tuple(kept))


@task(task_run_name="purge the quarantine")
def purge_quarantine(older_than: timedelta) -> Swept:
    """The bytes of cases that were resolved so long ago, and of files filed in parts so long ago. The ledger keeps what was decided."""
    limit = ledger().now() - older_than
    cases = {case.journey: case for case in ledger().cases(open_only=False)}
    rested = [journey for journey in quarantine().journeys() if _rests(journey, limit, cases)]
    bars, gone, freed = Gate().bars(rested), 0, 0
    kept = [(journey, bar.reason) for journey, bar in bars.items()]
    for journey in (journey for journey in rested if journey not in bars):
        try:
            with alone(journey) as held:
                cases |= {case.journey: case for case in ledger().cases(journey=journey, open_only=False)}
                if held is None or not _rests(journey, limit, cases):
                    continue  # somebody has just taken it up again
                if bar := Gate().bars([journey]).get(journey):  # asking of all took its time
                    kept.append((journey, bar.reason))
                    continue
                ledger().append([Entry(journey, "purged", {"after": str(older_than)})], held.lease)
                freed += quarantine().drop(journey)
                gone += 1
        except LeaseLost as error:
            kept.append((journey, str(error)))
    return Swept("quarantine", gone, freed, tuple(kept))


def _rests(journey: str, limit: datetime, cases: Mapping[str, Case]) -> bool:
    """True if its case was over before that moment, or where it never had one, if it was filed in parts before; and if so are the cases
    of all that it is compared with: what is missing of an earlier file is told by what stood in this one, too."""
    case = cases.get(journey)
    if case is not None and not _resolved_before(case, limit):
        return False
    told = went_on(ledger().journey(journey))
    if case is None and (told is None or told.at >= limit):
        return False
    others = compared_with(told.body["parts"]) if told is not None else {}
    return all(_resolved_before(cases[one], limit) for one in others if one in cases)


def _resolved_before(case: Case, limit: datetime) -> bool:
    return case.state is CaseState.RESOLVED and case.changed < limit


@contextmanager
def alone(*journeys: str) -> Iterator[Holding | None]:
    """Work on these that nobody else does meanwhile; None where somebody works on one of them."""
    seconds = settings().lease_seconds
    lease = ledger().lease([f"journey:{journey}" for journey in journeys], owner="clean-up", seconds=seconds)
    if lease is None:
        yield None
        return
    with ledger().holding(lease, seconds) as holding:
        yield holding


# --------------------------------------------------------------------------------------------- documents whose time is over


@task(task_run_name="remove what need not be kept")
def remove_what_has_ended() -> list[Swept]:
    """Documents of streams whose retention says so, after the last day that they must be kept."""
    today = ledger().now().date()
    swept = [given_up] if (given_up := _settle_given_up(today)).kept else []
    for partner in partners(settings().profiles):
        try:
            streams = load_partner(partner, settings().profiles).inbound
        except ConfigurationError as error:
            swept.append(Swept(f"documents of {partner}", kept=((partner, str(error)),)))
            continue
        for stream, terms in streams.items():
            retention = terms.target.retention
            if retention is not None and retention.at_end is AtEnd.REMOVE:
                swept.append(_remove_ended(partner, stream, terms, today))
    return swept


def _remove_ended(partner: str, stream: str, terms: Inbound, today: date) -> Swept:
    kept, gone, staying = list[tuple[str, str]](), 0, dict[Place, str]()
    try:
        repository = load_inbound(partner, stream).repository
        for journey in _over(partner, stream, terms, today):
            try:
                reason = _remove(journey, repository, terms, today, staying)
            except (RepositoryUnreachable, SignInRefused):
                raise
            except (RepositoryError, LeaseLost) as error:
                reason = str(error)
            if reason:
                kept.append((journey, reason))
            else:
                gone += 1
    except (ConfigurationError, RepositoryError) as error:  # it is away, or takes nobody in: the others need not be tried
        kept.append((f"{partner}/{stream}", str(error)))
    return Swept(f"documents of {partner}/{stream}", gone, kept=tuple(kept))


def _over(partner: str, stream: str, terms: Inbound, today: date) -> Iterator[str]:
    """Journeys whose document need not be kept any longer, oldest first."""
    after = ""
    while page := ledger().over(partner, stream, without=REMOVED, after=after):
        histories = ledger().journeys(page)
        yield from (journey for journey in page if ended(_last_day(histories[journey], terms), today))
        after = page[-1]


def _last_day(history: Sequence[Recorded], terms: Inbound) -> date | None:
    """By what was agreed when it was filed (or found to be a duplicate) and by what is agreed now: the later of both."""
    filed = next((entry.body for entry in reversed(history) if entry.kind in ("filed", "duplicate")), None)
    if filed is None or not filed.get("keep_until") or not filed.get("record_date"):
        return None
    until, begin = date.fromisoformat(filed["keep_until"]), date.fromisoformat(filed["record_date"])
    try:
        return last_day(until, begin, terms.target.retention)
    except ValueError:  # prolonged beyond the calendar's end: that day never comes
        return date.max


def _remove(journey: str, repository: Repository, terms: Inbound, today: date, staying: dict[Place, str]) -> str:
    """Remove one journey's document; why not, where it must stay. Raises ``RepositoryError`` where none could be asked for now.

    ``staying``: documents of which this clean-up knows why they stay; it is not asked again for each of their versions.
    """
    history = ledger().journey(journey)
    if not being_removed(history) and (known := [staying[place] for place in filed_at(history)[-1:] if place in staying]):
        return known[0]
    family = family_of(journey)
    with alone(*family) as held:
        if held is None:
            return "somebody works on it, or on another one that shares its document"
        history = ledger().journey(journey)
        places = filed_at(history)
        if not places:
            return ""  # somebody else has just removed it
        place = places[-1]
        if place.repository != repository.address:
            return f"it is kept at {place.repository}, and the stream files elsewhere now"
        begun = being_removed(history)
        if not begun and (tried := _refused_lately(history)):
            return tried
        with repository_session(repository) as session:
            try:
                if not begun:
                    if reason := _bars(family, session.filed_by(place.id), terms, today):
                        staying[place] = reason
                        return reason
                    ledger().append([Entry(journey, REMOVING, _facts(place))], held.lease)
                # From here on nobody relies on the document. Who did just before that is seen now.
                makers = session.filed_by(place.id)
                reason = _bars(family, makers, terms, today)
                if not reason and family_of(journey) != family:
                    reason = "the same bytes, or another version, came just now"
                if not reason:
                    held.lease  # noqa: B018 - raises
                    reason = _asked_to_remove(session, place, makers)
                if reason:
                    session.let_stand(place.id)
            except DocumentMissing as error:
                if not being_removed(ledger().journey(journey)):
                    return f"cannot be asked for: {error}"
                return _not_to_be_seen(session, family, journey, held, terms)
        if reason:
            ledger().append([Entry(journey, NOT_REMOVED, {**_facts(place), "reason": reason})], held.lease)
            return reason
        ledger().append(_gone(family, journey, place), held.lease)
    return ""


def _asked_to_remove(session: RepositorySession, place: Place, makers: Sequence[str | None]) -> str:
    """Remove it; the repository's reason where it did not. Raises where nobody knows: the next clean-up looks."""
    try:
        session.remove(place.id, makers)
    except (RepositoryUnreachable, OutcomeUnknown, DocumentMissing):
        raise
    except RepositoryError as error:
        return f"could not be removed: {error}"
    return ""


def _facts(place: Place) -> dict[str, str]:
    return {"repository": place.repository, "repository_id": place.id}


def _gone(
    family: Sequence[str], journey: str, place: Place, outcome: str = "removed", own: Mapping[str, Any] | None = None
) -> list[Entry]:
    """What is written of a family of journeys whose document is gone. ``own``: about the one that was removed."""
    facts = {**_facts(place), "outcome": outcome, "removed_as": journey}
    told: dict[str, dict[str, Any]] = {**dict.fromkeys(family, facts), journey: {**facts, **(own or {})}}
    return [Entry(one, REMOVED, body, once=f"{one}/{REMOVED}") for one, body in told.items()]


def _not_to_be_seen(
    session: RepositorySession, family: Sequence[str], journey: str, held: Holding, terms: Inbound | None
) -> str:
    """Write down that a document whose removal was begun is not to be seen; where nobody can tell why, a person looks.

    Answers why its bytes stay then. Nobody relies on the document any more.
    """
    intent = next(entry for entry in reversed(ledger().journey(journey)) if entry.kind == REMOVING)
    place = Place(str(intent.body["repository"]), str(intent.body["repository_id"]))
    if session.was_removed(place.id, intent.at):
        ledger().append(_gone(family, journey, place), held.lease)
        return ""
    reason = (
        f"document {place.id} at {place.repository} is not shown since its removal was begun, and nothing there tells that it was "
        "removed: it may be hidden from us, and on hold"
    )
    about = (REMOVAL_UNKNOWN, reason)
    case = opened(*about, terms.owner, terms.resolve_within) if terms else opened(*about, "")
    ledger().append(_gone(family, journey, place, NOT_THERE, {"family": list(family), "case": case}), held.lease)
    return reason


def _settle_given_up(today: date) -> Swept:
    """Removals that broke off, of what is to be kept after all by what is agreed now: nobody else looks what came of them."""
    kept = []
    for journey in ledger().open_intents(REMOVING, (REMOVED, NOT_REMOVED)):
        try:
            terms = _terms_now(journey)
            if not _wanted_gone(journey, terms, today) and (reason := _look_what_came(journey, terms)):
                kept.append((journey, reason))
        except (ConfigurationError, RepositoryError, LeaseLost) as error:
            kept.append((journey, f"its removal broke off, and nobody can tell what came of it: {error}"))
    return Swept("removals that were given up", kept=tuple(kept))


def _terms_now(journey: str) -> Inbound | None:
    """What is agreed about its stream now; None where there is none. Raises ``ConfigurationError`` for terms that cannot be read."""
    partner, stream = _stream_of(journey)
    return load_partner(partner, settings().profiles).inbound.get(stream) if partner in partners(settings().profiles) else None


def _stream_of(journey: str) -> tuple[str, str]:
    told = next((entry.body for entry in ledger().journey(journey) if "partner" in entry.body), {})
    return str(told.get("partner", "")), str(told.get("stream", ""))


def _wanted_gone(journey: str, terms: Inbound | None, today: date) -> bool:
    """True if what is agreed now still lets its document go."""
    history, retention = ledger().journey(journey), terms.target.retention if terms else None
    if terms is None or retention is None or retention.at_end is not AtEnd.REMOVE:
        return False
    begun = next(entry.body for entry in reversed(history) if entry.kind == REMOVING)
    here = load_inbound(*_stream_of(journey)).repository.address == begun.get("repository")
    return here and ended(_last_day(history, terms), today)


def _look_what_came(journey: str, terms: Inbound | None) -> str:
    """Write down whether a removal that broke off had come through; nothing of it stays behind where it had not.

    Answers why its bytes stay, where nobody can tell.
    """
    family = family_of(journey)
    with alone(*family) as held:
        history = ledger().journey(journey)
        if held is None or not being_removed(history):
            return ""  # somebody else is at it
        begun = next(entry.body for entry in reversed(history) if entry.kind == REMOVING)
        place = Place(str(begun["repository"]), str(begun["repository_id"]))
        with repository_session(configured(place.repository)) as session:
            try:
                session.let_stand(place.id)
            except DocumentMissing:
                return _not_to_be_seen(session, family, journey, held, terms)
        reason = "it is kept longer, by what is agreed now"
        ledger().append([Entry(journey, NOT_REMOVED, {**_facts(place), "reason": reason})], held.lease)
    return ""


def _refused_lately(history: Sequence[Recorded]) -> str:
    """Why it stayed when its removal was begun, less than a week ago: not every night writes two more entries."""
    last = next((entry for entry in reversed(history) if entry.kind == NOT_REMOVED), None)
    return str(last.body["reason"]) if last is not None and ledger().now() - last.at < AGAIN else ""


def family_of(journey: str) -> tuple[str, ...]:
    """The journeys whose bytes exist in this one's document alone: it, those of its other versions, and the duplicates of all these;
    also whole tables of which it is a part. Of one that has no document of its own, those that share the documents of its bytes."""
    places = filed_at(ledger().journey(journey))[-1:]
    places = places or tuple(place for history in with_same_bytes([journey]).values() for place in filed_at(history))
    rows = [row.journey for place in places for row in ledger().search(repository_id=place.id, limit=ALL)]
    fresh = {one: history for one, history in ledger().journeys(rows).items() if set(places) & set(filed_at(history))}
    found, looked = dict(fresh), set[str]()
    while fresh:
        told = [entry for history in fresh.values() for entry in history if entry.kind in ("filed", "duplicate")]
        digests = {str(entry.body["digest"]) for entry in told} - looked
        looked |= digests
        near = {row.journey for digest in digests for row in ledger().search(digest=digest, limit=ALL)}
        near |= {one for history in fresh.values() for one in wholes_of(history)}
        fresh = {
            one: history for one, history in ledger().journeys(sorted(near - found.keys())).items() if _relies(history, found)
        }
        found |= fresh
    return tuple(sorted({journey, *found}))


def _relies(history: Sequence[Recorded], family: Collection[str]) -> bool:
    """True if a journey's bytes are kept in the documents of these alone. A table of which good rows went on is in the quarantine."""
    through = any(entry.kind == "duplicate" for entry in history) and not was_removed(history)
    return through and any(one in family for one in same_bytes(history))


def _bars(family: Sequence[str], makers: Sequence[str | None], terms: Inbound, today: date) -> str:
    """Why a document must stay: one of its versions is not ours, must be kept longer, or is on hold.

    ``makers``: whose its versions are. Raises ``RepositoryUnreachable`` where it is away.
    """
    strangers = [number for number, maker in enumerate(makers, start=1) if maker not in family]
    if not makers or strangers:
        return f"{len(strangers)} of its {len(makers)} versions are not ours: somebody works with it"
    for other, history in ledger().journeys(family).items():
        if history and history[-1].kind == REDUCED:
            return f"it is one document with journey {other}, which was reduced: that one's record cannot take the removal any more"
        if not ended(_last_day(history, terms), today):
            return f"it is one document with journey {other}, which must be kept longer"
    bars = Gate().bars(family)
    if away := next((bar for bar in bars.values() if bar.away), None):
        raise RepositoryUnreachable(away.reason)
    return next((bar.reason for bar in bars.values()), "")


# --------------------------------------------------------------------------------------------- telling


def each(steps: Mapping[str, Callable[[], Swept | list[Swept]]]) -> tuple[list[Swept], list[CountersignError]]:
    """What some steps came to, and why some broke off: that hinders none behind them, and stands in the table too."""
    swept, broken = list[Swept](), list[CountersignError]()
    for what, step in steps.items():
        try:
            done = step()
        except CountersignError as error:
            broken.append(error)
            done = Swept(what, kept=((what, f"it broke off: {error}"),))
        swept += [done] if isinstance(done, Swept) else done
    return swept, broken


def report(swept: Sequence[Swept]) -> State:
    """A table of what went and what had to stay, and a final state whose name says how much that is."""
    kept = [(one.what, journey, reason) for one in swept for journey, reason in one.kept]
    gone, freed = sum(one.gone for one in swept), sum(one.freed_bytes for one in swept)
    if kept:
        create_table_artifact(
            table=[
                {"of": what, "journey": journey, "stays because": literal(reason)} for what, journey, reason in kept[:SHOWN]
            ],
            key="clean-up",
            description=f"**Clean-up**: {len(kept)} stay" + (f" (the first {SHOWN} shown)" if len(kept) > SHOWN else ""),
        )
    name = f"Cleaned up, {len(kept)} stay" if kept else "Cleaned up" if gone or freed else "Nothing to clean up"
    return Completed(name=name, message=f"{gone} removed, cleared or reduced, {freed / 1024**2:.1f} MiB freed")
