"""Clean up: what retention and holds let go. Each of these passes the gate (``tasks.holds``); what it keeps is told with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import groupby

from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from blocks.errors import ConfigurationError, DocumentMissing, EndpointError, OnHold, RepositoryError
from blocks.ledger import Entry, Lease, Recorded
from blocks.profile import load_partner, partners
from blocks.repositories.base import Repository
from blocks.settings import settings
from blocks.values import AtEnd, Inbound, Stage
from tasks.agreed import load_inbound
from tasks.clear_source import ON_HOLD, clear_source
from tasks.connections import ledger, quarantine, repository_session, spool
from tasks.consignment import Consignment, claimed_item
from tasks.holds import Gate, holds_here, tell_hold
from tasks.retrying import task
from tasks.rules.holding import REMOVED, Place, filed_at, same_bytes
from tasks.rules.literal import literal
from tasks.rules.removal import REMOVING
from tasks.rules.retention import ended, last_day

WORKED_ON = frozenset({Stage.FILED, Stage.DUPLICATE, Stage.MARKER, Stage.QUARANTINED})
ALL = 1_000_000
SHOWN = 1000


@dataclass(frozen=True, slots=True)
class Swept:
    """What one clean-up came to."""

    what: str
    gone: int = 0
    freed_bytes: int = 0
    kept: tuple[tuple[str, str], ...] = ()
    """Journey and reason, for what retention would let go and something else does not."""


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
        except (ConfigurationError, EndpointError) as error:  # what was agreed is not known any more; or the partner is away
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
        cleared = clear_source.fn(Consignment(agreed, holding, items))
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
        return found

    freed = spool().collect(ledger().open_digests(), must_stay, older_than=older_than)
    return Swept("spool", freed_bytes=freed, kept=tuple((digest, "a hold, or nobody can tell") for digest in kept))


@task(task_run_name="purge the quarantine")
def purge_quarantine(older_than: timedelta) -> Swept:
    """The bytes of cases that were resolved so long ago. The ledger keeps what was found and decided."""
    limit = ledger().now() - older_than
    rested = [
        case.journey
        for case in ledger().cases(state="resolved")
        if case.changed < limit and quarantine().about(case.journey) is not None
    ]
    bars, gone, freed = Gate().bars(rested), 0, 0
    for journey in (journey for journey in rested if journey not in bars):
        with _alone(journey) as lease:
            if lease is not None:  # else somebody has just taken it up again
                ledger().append([Entry(journey, "purged", {"after": str(older_than)})], lease)
                freed += quarantine().drop(journey)
                gone += 1
    return Swept("quarantine", gone, freed, tuple((journey, bar.reason) for journey, bar in bars.items()))


@contextmanager
def _alone(journey: str) -> Iterator[Lease | None]:
    seconds = settings().lease_seconds
    lease = ledger().lease([f"journey:{journey}"], owner="clean-up", seconds=seconds)
    if lease is None:
        yield None
        return
    with ledger().holding(lease, seconds) as holding:
        yield holding.lease


# --------------------------------------------------------------------------------------------- documents whose time is over


@task(task_run_name="remove what need not be kept")
def remove_what_has_ended() -> list[Swept]:
    """Documents of streams whose retention says so, after the last day that they must be kept."""
    today = ledger().now().date()
    swept = []
    for partner in partners(settings().profiles):
        for stream, terms in load_partner(partner, settings().profiles).inbound.items():
            retention = terms.target.retention
            if retention is not None and retention.at_end is AtEnd.REMOVE:
                swept.append(_remove_ended(partner, stream, terms, today))
    return swept


def _remove_ended(partner: str, stream: str, terms: Inbound, today: date) -> Swept:
    rows = [row for row in ledger().search(partner=partner, stream=stream, limit=ALL) if row.repository_id]
    histories = ledger().journeys([row.journey for row in rows])
    over = [
        row.journey
        for row in rows
        if row.stage in (Stage.CLEARED, Stage.LEFT)
        and not any(entry.kind == REMOVED for entry in histories[row.journey])
        and ended(_last_day(histories[row.journey], terms), today)
    ]
    bars = Gate().bars(over)
    kept = [(journey, bar.reason) for journey, bar in bars.items()]
    gone = 0
    repository = load_inbound(partner, stream).repository
    for journey in (journey for journey in over if journey not in bars):
        reason = _remove(journey, histories[journey], repository, terms, today)
        if reason:
            kept.append((journey, reason))
        else:
            gone += 1
    return Swept(f"documents of {partner}/{stream}", gone, kept=tuple(kept))


def _last_day(history: Sequence[Recorded], terms: Inbound) -> date | None:
    """By what was agreed when it was filed (or found to be a duplicate) and by what is agreed now: the later of both."""
    filed = next((entry.body for entry in reversed(history) if entry.kind in ("filed", "duplicate")), None)
    if filed is None or not filed.get("keep_until") or not filed.get("record_date"):
        return None
    return last_day(date.fromisoformat(filed["keep_until"]), date.fromisoformat(filed["record_date"]), terms.target.retention)


def _remove(journey: str, history: Sequence[Recorded], repository: Repository, terms: Inbound, today: date) -> str:
    """Remove one journey's document; why not, where it must stay."""
    [place] = filed_at(history)[-1:]
    if place.repository != repository.address:
        return f"it is kept at {place.repository}, and the stream files elsewhere now"
    if sharing := _sharing(place, journey, terms, today):
        return sharing
    with _alone(journey) as lease:
        if lease is None:
            return "somebody works on it"
        facts = {"repository": place.repository, "repository_id": place.id}
        ledger().append([Entry(journey, REMOVING, facts)], lease)
        outcome = "removed"
        try:
            with repository_session(repository) as session:
                kept = session.get(place.id)
                if kept.identity != journey:
                    return "its newest version is not ours: somebody goes on working with it"
                session.remove(place.id)
        except DocumentMissing:
            outcome = "was not there any more"
        except OnHold as error:
            return str(error)
        except RepositoryError as error:
            return f"could not be removed: {error}"
        ledger().append([Entry(journey, REMOVED, {**facts, "outcome": outcome}, once=f"{journey}/{REMOVED}")], lease)
    return ""


def _sharing(place: Place, journey: str, terms: Inbound, today: date) -> str:
    """Another journey whose document is a version of the same one, or whose bytes it has, and that must be kept longer."""
    versions = [row.journey for row in ledger().search(repository_id=place.id, limit=ALL)]
    digests = {
        str(entry.body["digest"]) for one in ledger().journeys(versions).values() for entry in one if entry.kind == "filed"
    }
    alike = [row.journey for digest in digests for row in ledger().search(digest=digest, limit=ALL)]
    for other, history in ledger().journeys([*versions, *alike]).items():
        same = place in filed_at(history) or set(same_bytes(history)) & set(versions)
        if other != journey and same and not ended(_last_day(history, terms), today):
            return f"it is one document with journey {other}, which must be kept longer"
    return ""


# --------------------------------------------------------------------------------------------- telling


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
    return Completed(name=name, message=f"{gone} removed or cleared, {freed / 1024**2:.1f} MiB freed")
