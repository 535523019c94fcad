"""Compare: read what the ledger and Prefect tell about each order, for a rule to say what differs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, FlowRunInput, StateType
from prefect.exceptions import ObjectNotFound

from blocks import reviewed
from blocks.errors import ConfigurationError, RepositoryError, RepositoryUnreachable, SignInRefused
from blocks.ledger import Recorded
from blocks.mirrors import differs, mirrors
from blocks.outbound import Package, PackageFile, PeopleFile, Policies, Round
from blocks.profile import load_partner, load_repositories, partners, policies_of
from blocks.repositories.base import RepositorySession
from blocks.settings import settings
from blocks.values import shown
from tasks.case_record import RECORDING
from tasks.cases import ASSIGNED, COMMENTED, RETURNED
from tasks.connections import hang_up, ledger, repository_session
from tasks.gather import still_there
from tasks.order import SETTLES, Agreed, Order, leads, load_release, waits_for
from tasks.retrying import task
from tasks.rules import reconcile
from tasks.rules.case_record import RECORDED
from tasks.rules.packing import AtRepository, Voided, admitted, changed_values, freshness, sensitive
from tasks.rules.policy import standing
from tasks.rules.reconcile import Finding, Posted, Run, Told
from tasks.rules.signing import answer_hash
from tasks.side_doors import as_reviewed
from tasks.tell_cases import CASE_TOLD, REVIEW_BEGUN, REVIEW_ENDED

SWEPT = frozenset(
    {"found", "redrive", RECORDING, RECORDED, CASE_TOLD, REVIEW_BEGUN, REVIEW_ENDED, ASSIGNED, COMMENTED, RETURNED}
)
"""What the sweep itself and people with a case write in an order's journey: none of it is a step of the order."""

MOST_LOOKED_AT = 100
"""Documents of a waiting package that a sweep looks at in the repository."""
_PAGE = 200
"""The most that Prefect answers at once."""
_MOST_ROWS = 2000
"""Of one run: nobody has that many answers who does not want to keep us busy."""


@dataclass(frozen=True, slots=True)
class Watched:
    """An order that the sweep looks after, as the ledger knows it."""

    history: tuple[Recorded, ...]
    run: str
    """The run that leads it, or is to lead it."""

    @property
    def journey(self) -> str:
        return self.history[0].journey

    @property
    def ordered(self) -> Mapping[str, Any]:
        return self.history[0].body

    @property
    def due(self) -> datetime | None:
        """When its sign-off expires; None before it was asked for."""
        return _moment(_last(self, "opened"), "deadline")

    @property
    def name(self) -> str:
        """As people know it."""
        return f"{self.ordered['partner']}/{self.ordered['stream']} {self.ordered['order']}"


class InForce:
    """The terms of the reviewed files as this process reads them, each read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Policies | None] = {}
        self._agreed: dict[tuple[str, str], Agreed] = {}
        self.away: set[str] = set()
        """Repositories that did not answer, by address: in this pass nobody waits for them once more."""

    def agreed(self, partner: str, stream: str) -> Agreed:
        """What was agreed about a stream that goes out. Raises ``ConfigurationError``."""
        if (partner, stream) not in self._agreed:
            self._agreed[partner, stream] = load_release(partner, stream)
        return self._agreed[partner, stream]

    def policies(self, partner: str, stream: str) -> Policies | None:
        """None if the files are not in order, or have no such stream: that is told elsewhere."""
        if (partner, stream) not in self._known:
            folder = settings().profiles
            try:
                profile, people = load_partner(partner, folder), reviewed.load(folder / "people.yaml", PeopleFile)
                found = policies_of(profile, stream, people) if stream in profile.outbound else None
            except ConfigurationError:
                found = None
            self._known[partner, stream] = found
        return self._known[partner, stream]


@task(task_run_name="compare orders")
def compare(look_back: timedelta, patience: timedelta) -> list[str]:
    """Journeys of the orders about which something is to be told or done: open ones, and those closed not longer ago than that."""
    now = ledger().now()
    orders, in_force = watch(ledger().begun("ordered", now - look_back)), InForce()
    try:
        with get_client(sync_client=True) as client:
            runs = known_runs(client, [order.run for order in orders])
            return [
                order.journey
                for order in orders
                if any(
                    not known(order, one) for one in _differences(client, order, runs.get(order.run), now, patience, in_force)
                )
            ]
    finally:
        hang_up()


def look_again(client: SyncPrefectClient, order: Watched, patience: timedelta, in_force: InForce) -> list[Finding]:
    """What differs about one order at this moment."""
    run = known_runs(client, [order.run]).get(order.run)
    found = _differences(client, order, run, ledger().now(), patience, in_force)
    return [one for one in found if not known(order, one)]


def known(order: Watched, finding: Finding) -> bool:
    """True for what was told before, and is not to be done again."""
    told = any(entry.once == found_key(finding) for entry in order.history)
    return told and finding.remedy is reconcile.Remedy.NONE


def found_key(finding: Finding) -> str:
    return f"found/{finding.key}"


# --------------------------------------------------------------------------------------------- the ledger


def watch(journeys: Sequence[str]) -> list[Watched]:
    """These orders, without those that no run has been given yet."""
    histories = ledger().journeys(journeys)
    parents = sorted({str(entries[0].body["parent"]) for entries in histories.values() if entries[0].body.get("parent")})
    remainders = {
        entry.body["child_order"]: str(entry.body["child_run"])
        for entries in ledger().journeys(parents).values()
        for entry in entries
        if entry.kind == "parted"
    }
    found = []
    for entries in histories.values():
        leading = next((entry.body["run"] for entry in reversed(entries) if entry.body.get("run") and leads(entry)), None)
        if run := leading or remainders.get(entries[0].body["order"]):
            found.append(Watched(tuple(entries), str(run)))
    return found


def told(order: Watched, in_force: InForce) -> Told:
    """The ledger's side of the comparison."""
    rounds = {entry.body["key"]: _round(entry) for entry in order.history if entry.kind == "round"}
    settled = {entry.body["key"]: entry for entry in order.history if entry.kind in SETTLES}
    ours = {key for key, asked in rounds.items() if asked.run == order.run}
    opened = _last(order, "opened")
    moments = {key: _moment(opened, key) for key in ("deadline", "remind", "widens")}
    open_key = next((key for key in reversed(rounds) if key not in settled and key in ours), None)
    asked = next((entry.at for entry in order.history if entry.kind == "round" and entry.body["key"] == open_key), None)
    last = next((entry for entry in reversed(order.history) if entry.kind not in SWEPT), order.history[0])
    return Told(
        journey=order.journey,
        run=order.run,
        open_key=open_key,
        answered={key: entry.body["answer"] for key, entry in settled.items() if entry.kind == "answered" and key in ours},
        settled={key: entry.kind for key, entry in settled.items() if key in ours},
        elsewhere=frozenset(rounds) - ours,
        **moments,
        asked=asked,
        awaits=_awaits(order, in_force, asked) if asked is not None and _reminds(order, moments["remind"]) else (),
        closed=_last(order, "closed") is not None,
        waits_for=waits_for(order.history),
        paused=last.kind in ("refused", "in-doubt"),
        redriven=_redriven(order),
        other_terms=_other_terms(order, in_force),
        changed=_changed(order, in_force) if open_key is not None else "",  # nobody is asked to sign it else
    )


def _moment(opened: Recorded | None, key: str) -> datetime | None:
    return datetime.fromisoformat(opened.body[key]) if opened and opened.body.get(key) else None


def _reminds(order: Watched, remind: datetime | None) -> bool:
    """False where nobody is reminded any more, nor yet."""
    if remind is None or ledger().now() < remind:
        return False
    return not any(entry.once == f"found/{reconcile.REMINDER}/{order.journey}" for entry in order.history)


def _awaits(order: Watched, in_force: InForce, asked: datetime) -> tuple[str, ...]:
    """Who was asked then, and may sign: who comes to it later has just been asked."""
    told = order.ordered
    try:
        agreed = in_force.agreed(told["partner"], told["stream"])
    except ConfigurationError:
        return ()  # told where the mirrors are compared
    held = Order(agreed, told["order"], order.journey, order.run, None)
    now = standing(held.matter, agreed.terms.signoff, held.people, held.votes, asked)
    return tuple(sorted({seat.approver for seat in now.may_sign}))


def _round(entry: Recorded) -> Round:
    return Round(entry.body["n"], entry.body["key"], entry.body["run"], entry.body["digest"])


def _other_terms(order: Watched, in_force: InForce) -> str:
    """The digest under which its package was frozen, if that is not the reviewed files' and nothing was sent yet; else ""."""
    frozen, now = _last(order, "frozen"), in_force.policies(order.ordered["partner"], order.ordered["stream"])
    if frozen is None or now is None or _last(order, "sending") or _last(order, "closed"):
        return ""
    then = Policies(**frozen.body["policies"])
    return "" if (then.profile, then.terms) == (now.profile, now.terms) else then.digest


def _changed(order: Watched, in_force: InForce) -> str:
    """Why the package that people are asked to sign is void by now, because the repository has changed what it is about; else ""."""
    frozen = _last(order, "frozen")
    if frozen is None or _last(order, "sending") or _last(order, "closed") or frozen.body.get("from_record"):
        return ""
    package, then = Package.parse(frozen.body["package"]), Policies(**frozen.body["policies"])
    if len(package.files) > MOST_LOOKED_AT:
        return ""  # looked at with each answer, and before anything is sent
    try:
        agreed = in_force.agreed(order.ordered["partner"], order.ordered["stream"])
        at_repository = {}
        if agreed.repository.address in in_force.away:
            return ""
        with repository_session(agreed.repository) as session:
            for file in package.files:
                at_repository[file.repository_id] = _at_repository(session, file, agreed, frozen.body.get("sensitive", {}))
    except (ConfigurationError, RepositoryError) as error:
        get_run_logger().warning("%s: could not be looked at, the next sweep does: %s", order.name, error)
        if isinstance(error, RepositoryUnreachable | SignInRefused):
            in_force.away.add(agreed.repository.address)
        return ""
    found = freshness(package, at_repository, agreed.terms, destinations=package.destinations, frozen=then, policies=then)
    return found.reason if isinstance(found, Voided) else ""


def _at_repository(
    session: RepositorySession, file: PackageFile, agreed: Agreed, frozen: Mapping[str, Mapping[str, Sequence[str]]]
) -> AtRepository:
    kept, gather = still_there(session, file.repository_id), agreed.terms.gather
    if kept is None:
        return AtRepository(None)
    now = admitted(kept, gather, agreed.terms.freshness, agreed.people.day(ledger().now()))
    values = changed_values(frozen.get(file.repository_id, {}), sensitive(kept, gather))
    return AtRepository(kept.version, isinstance(now, int), changed=values)


def _redriven(order: Watched) -> int:
    """How often it was woken, or given a new run, since it made a step that brought it further."""
    count = 0
    for entry in reversed(order.history):
        if entry.kind == "redrive":
            count += 1
        elif entry.kind in ("answered", "frozen", "round", "sending", "delivered", "sealed"):
            break
    return count


def _last(order: Watched, kind: str) -> Recorded | None:
    return next((entry for entry in reversed(order.history) if entry.kind == kind), None)


# --------------------------------------------------------------------------------------------- Prefect


def _differences(
    client: SyncPrefectClient, order: Watched, run: FlowRun | None, now: datetime, patience: timedelta, in_force: InForce
) -> list[Finding]:
    ledgers = told(order, in_force)
    return reconcile.compare(ledgers, _run(client, run, ledgers, order.ordered) if run else None, now, patience)


def known_runs(client: SyncPrefectClient, ids: Sequence[str]) -> dict[str, FlowRun]:
    """These runs by id, without those that Prefect does not know."""
    found: dict[str, FlowRun] = {}
    for start in range(0, len(ids), _PAGE):
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(id) for id in ids[start : start + _PAGE]]))
        found |= {str(run.id): run for run in client.read_flow_runs(flow_run_filter=wanted, limit=_PAGE)}
    return found


def _run(client: SyncPrefectClient, run: FlowRun, order: Told, ordered: Mapping[str, Any]) -> Run:
    state = run.state
    rows = {row.key: row for row in _rows(client, run.id)}
    paused = state is not None and state.is_paused()
    details = state.state_details if state else None
    waits = order.open_key is not None and not paused
    return Run(
        id=str(run.id),
        state=state.type.value if state else "PENDING",
        name=str(state.name) if state else "",
        since=state.timestamp if state else run.created or ledger().now(),
        pause_key=details.pause_key if details and paused else None,
        # Among too many rows it may be one that we did not read.
        form=bool(details and (details.run_input_keyset or {}).get("schema") in rows) or len(rows) >= _MOST_ROWS,
        diverted=not reconcile.names(run.parameters or {}, ordered),
        waited=_waited(client, run.id) if waits else frozenset(),
        posted={_pause_key(key): _posted(row) for key, row in rows.items() if key.endswith("-response")},
    )


def _rows(client: SyncPrefectClient, run: UUID) -> Iterator[FlowRunInput]:
    """Everything that is stored as a run's input."""
    seen: set[str] = set()
    while len(seen) < _MOST_ROWS:
        try:
            page = client.filter_flow_run_input(run, "", _PAGE, seen)
        except ObjectNotFound:
            return  # deleted just now; the next sweep tells it
        yield from page
        seen |= {row.key for row in page}
        if len(page) < _PAGE:
            return


def _waited(client: SyncPrefectClient, run: UUID) -> frozenset[str]:
    states = client.read_flow_run_states(run)
    return frozenset(str(state.state_details.pause_key) for state in states if state.is_paused())


def _pause_key(row: str) -> str:
    """The key of a wait, from the name of the row with its answer (prefect.input.run_input.keyset_from_paused_state)."""
    return row.removesuffix("-response").removeprefix("suspended-")


def _posted(row: FlowRunInput) -> Posted:
    raw: Any = row.value
    with suppress(ValueError, RecursionError):  # planted: what is no JSON is kept as it is, as when a round is settled
        raw = json.loads(row.value)
    return Posted(answer_hash(raw), row.created or ledger().now())


# --------------------------------------------------------------------------------------------- runs without an order


def begun_without_order(client: SyncPrefectClient, look_back: timedelta) -> list[Run]:
    """Releases that Prefect holds for begun and of which the ledger does not know: they were just started, or killed at once.

    Only those of our deployments as they were reviewed: a Prefect server may be shared with another installation.
    """
    since = ledger().now() - look_back
    known = {str(entry.body["run"]) for order in _orders(since) for entry in order if entry.body.get("run")}
    states = FlowRunFilterState(
        type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CRASHED]),
    )
    wanted = FlowRunFilter(state=states, expected_start_time=FlowRunFilterExpectedStartTime(after_=since))
    releases = FlowFilter(name=FlowFilterName(any_=["release"]))
    found = client.read_flow_runs(flow_filter=releases, flow_run_filter=wanted, limit=_PAGE)
    ours = {one.id for one in as_reviewed(client.read_deployments(flow_filter=releases, limit=_PAGE))} if found else set()
    return [
        Run(id=str(run.id), state=run.state.type.value, name=str(run.state.name), since=run.state.timestamp)
        for run in found
        if run.state is not None and str(run.id) not in known and run.deployment_id in ours
    ]


def _orders(since: datetime) -> Iterable[Sequence[Recorded]]:
    return ledger().journeys(ledger().begun("ordered", since)).values()


# --------------------------------------------------------------------------------------------- mirrors


@task(task_run_name="compare mirrors")
def compare_mirrors() -> list[Finding]:
    """Blocks in Prefect that do not say what the reviewed files say. They change nothing; but somebody may believe them."""
    folder, found = settings().profiles, []
    try:
        profiles = {name: load_partner(name, folder) for name in partners(folder)}
        expected = list(mirrors(profiles, load_repositories(folder)))
    except ConfigurationError as error:
        return [Finding("files", f"files/{answer_hash(str(error))}", str(error))]
    with get_client(sync_client=True) as client:
        for name, block in expected:
            try:
                there = client.read_block_document_by_name(name, block.get_block_type_slug())
            except ObjectNotFound:
                continue  # never deployed, or taken away: nobody can be misled by it
            if fields := differs(there, block):
                message = (
                    f"the block {shown(name)} shows other {', '.join(fields)} than the reviewed file, which alone counts; "
                )
                message += "somebody edited it in Prefect, or the file was not deployed since: run 'countersign deploy'"
                found.append(Finding("mirror", f"mirror/{there.id}/{there.updated}", message))
    return found
