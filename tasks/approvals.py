"""Approvals: a sensitive change in a watched folder starts a sign-off of that very version, and a later one starts it anew.

::

    approval ─ approval asked ─ (telling ─ told) ─ approval over         one journey for each version of a document; a voided one
                       └─ approval restarted                              is begun anew: ``order`` says which release asks
    approval.<watch>.<document>.<change>:   incident (``shown-unsigned``) ─ dismissed
    approval.<journey>:                     incident (``approval-stopped``) ─ resolved | dismissed
    approval.<journey>.ticket:              incident (``approval-not-told``) ─ resolved | dismissed: then it is not told again
    approval.<journey>.<number>:            incident (``telling-in-doubt``) ─ dismissed

The sign-off is a release's: its stream says who signs, how it is proven, and where approved bytes go. Its order has an id made of the
document and its version, so whoever asks again, after whatever broke off, asks for the same one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Failed, Scheduled

from blocks.approval_terms import Approval
from blocks.errors import (
    ConfigurationError,
    CountersignError,
    RepositoryError,
    SenderError,
    SystemFailure,
)
from blocks.ledger import Entry, Recorded, new_journey
from blocks.outbound import Freshness, Package, PackageFile, Vote
from blocks.repositories.base import RepositorySession
from blocks.settings import settings
from blocks.system_file import load_system
from blocks.systems.base import Fate, System
from blocks.values import Change, Kept, Stage, shown
from blocks.watch_file import load_watch_file, watches
from tasks.ask import announce
from tasks.connections import ledger, repository_session
from tasks.follow import Watching, follow, load_watch
from tasks.incidents import APPROVAL_NOT_TOLD, APPROVAL_STOPPED, SHOWN_UNSIGNED, close_incidents, open_incident
from tasks.notify import notify
from tasks.order import Agreed, Order, journey_of, leads, load_release, order_key
from tasks.previews import drop_previews
from tasks.report import SHOWN
from tasks.retrying import task
from tasks.rules.approvals import asked, is_sensitive, kind_of, order_id, over
from tasks.rules.literal import literal
from tasks.rules.notification import Notification
from tasks.rules.packing import Voided
from tasks.sweep import deployment_of
from tasks.telling import Telling, Trail, holding, last_said, tell_once

BEGUN, ASKED, RESTARTED, OVER = "approval", "approval asked", "approval restarted", "approval over"
BROKEN_OFF = "broken off"
_WITH_ITS_DOCUMENTS = ("Share", "Link", "Move", "Restore")
"""What happens to a folder and concerns what is in it."""
_TOLD_AGAIN = timedelta(hours=1)
"""After a system has refused an approval, and before it is told once more."""


class Approvals:
    """What was agreed about the approvals of one watch, and nothing that is open. Its class is opaque to Prefect."""

    def __init__(self, watching: Watching, terms: Approval, release: Agreed, system: System | None) -> None:
        self.watching, self.terms, self.release, self.system = watching, terms, release, system

    @property
    def key(self) -> str:
        return self.watching.key

    def is_sensitive(self, kept: Kept) -> bool:
        return is_sensitive(kept, self.terms.patterns, self.terms.values)


@dataclass(frozen=True, slots=True)
class Row:
    """How one approval stands."""

    document: str
    version: int
    order: str
    outcome: str
    """waits, approved, restarted, over, broken off"""
    reason: str = ""


def with_approvals(watch: str = "") -> list[str]:
    """That watch; without a name all that say something of approvals, and those whose file is not in order."""
    return [watch] if watch else [one for one in watches(settings().profiles) if _may_approve(one)]


def _may_approve(watch: str) -> bool:
    try:
        return load_watch_file(watch, settings().profiles).watch.approval is not None
    except ConfigurationError:
        return True  # told when it is to be used


def load_approvals(watch: str) -> Approvals:
    """A watch's approvals. Raises ``ConfigurationError`` that says what to mend."""
    watching, folder = load_watch(watch), settings().profiles
    terms = watching.terms.approval
    if terms is None:
        raise ConfigurationError(f"watch {watch}: its file says nothing of 'approval'")
    release = load_release(*terms.stream.split("/"))
    if not release.terms.gather.from_order or release.terms.freshness is not Freshness.LATEST or release.terms.kits:
        raise ConfigurationError(
            f"watch {watch}: the stream {terms.stream} asks for one version of one document, so it needs 'from_order: true' under "
            "'gather', 'freshness: latest' and no kits"
        )
    if release.repository.address != watching.repository.address:
        raise ConfigurationError(f"watch {watch}: {terms.stream} takes documents from another repository than is watched")
    system = load_system(terms.ticket.system, folder) if terms.ticket else None
    return Approvals(watching, terms, release, system)


def approve(watch: str) -> list[Row]:
    """Begin what is to be approved of one watch, and bring it on. What breaks off hinders no other watch."""
    try:
        agreed = load_approvals(watch)
        find_sensitive(agreed)
        return carry_on(agreed)
    except CountersignError as error:
        get_run_logger().error("watch %s: %s", watch, error)
        return [Row(f"watch {watch}", 0, "", BROKEN_OFF, str(error))]


# --------------------------------------------------------------------------------------------- begun


@task(task_run_name="sensitive changes of {agreed.key}")
def find_sensitive(agreed: Approvals) -> None:
    """Begin an approval for each sensitive change since the last look. What is told twice is begun once."""
    for changes in follow(agreed.watching, "approval"):
        shared: dict[str, tuple[Kept, list[Change]]] = {}
        with repository_session(agreed.watching.repository) as session:
            for change in changes:
                kind = kind_of(change, agreed.terms.on)
                for kept in _concerned(session, agreed, change) if kind else ():
                    if kind and agreed.is_sensitive(kept):
                        _begin(agreed, kept, kind, change.actor)
                        if kind == "share":
                            shared.setdefault(kept.id, (kept, []))[1].append(change)
            for kept, shares in shared.values():
                _look_outside(session, agreed, kept, shares)


def _concerned(session: RepositorySession, agreed: Approvals, change: Change) -> Iterator[Kept]:
    """The documents in the watched folder that a change is about, as they are now. What has gone by now needs no approval here."""
    if agreed.terms.since is not None and change.at is not None and change.at.date() < agreed.terms.since:
        return
    if change.kind != "folder" or change.event in _WITH_ITS_DOCUMENTS:
        yield from _there(session, agreed, change.target)


def _there(session: RepositorySession, agreed: Approvals, id: str) -> Iterator[Kept]:
    """That document, or all below that folder, as far as they are in the watched folder."""
    return (one.kept for one in session.describe(agreed.watching.folder, id))


def _begin(agreed: Approvals, kept: Kept, kind: str, actor: str, after: str = "") -> None:
    """The first entry of the approval of a version, unless another than ``after`` asks for it: the first to come writes it."""
    watch, known = agreed.watching.partner, _approvals(agreed, kept.id)
    if any(_asks_for(one, kept.version) for one in known if one[0].journey != after):
        return
    attempt = sum(one[0].body["version"] == kept.version for one in known)
    facts = {
        "partner": watch,
        "stream": agreed.watching.stream,
        "name": kept.name,
        "repository_id": kept.id,
        "version": kept.version,
        "release": agreed.release.key,
        "order": order_id(watch, kept.id, kept.version, attempt),
        "change": kind,
        "by": actor,
        "profile": agreed.watching.digest,
    }
    ledger().append([Entry(new_journey(), BEGUN, facts, once=f"approval/{watch}/{kept.id}/{kept.version}/{attempt}")])


def _approvals(agreed: Approvals, document: str) -> list[list[Recorded]]:
    """All approvals of a document, oldest first."""
    about = agreed.watching
    found = ledger().search(partner=about.partner, stream=about.stream, repository_id=document, limit=1000)
    histories = ledger().journeys([one.journey for one in found])
    return sorted((one for one in histories.values() if one[0].kind == BEGUN), key=lambda one: one[0].seq)


def _asks_for(history: Sequence[Recorded], version: int) -> bool:
    """True if an approval asks for a version, or has: also one that was begun for an earlier one, and found this when it was asked."""
    order = _order_of(history[0])
    frozen = _frozen(order)
    return not _voided(order) and version in (history[0].body["version"], frozen.version if frozen else None)


def _look_outside(session: RepositorySession, agreed: Approvals, kept: Kept, shares: Sequence[Change]) -> None:
    """Tell loudly of a document that was shared, and that people outside can see by now: no sign-off shows it where it stands."""
    if session.shown_outside(kept.id):
        last, more = shares[-1], len(shares) - 1
        by = f"{shown(last.detail)[:80]}, by {shown(last.actor)[:80]} (event {last.id})" + (
            f", and {more} before it" if more else ""
        )
        reason = f"version {kept.version} was shared and can be seen outside, and no sign-off has shown it there: {by}"
        reason += "; it was not withdrawn, do so in the repository if it must not be seen"
        place = f"approval.{agreed.watching.partner}.{kept.id}.{last.id}"
        open_incident(agreed.watching, place, kept.name, SHOWN_UNSIGNED, reason)


# --------------------------------------------------------------------------------------------- asked, restarted, over


@task(task_run_name="approvals of {agreed.key}")
def carry_on(agreed: Approvals) -> list[Row]:
    """Bring each approval on as far as it goes: ask for it, start it anew, and write down what came of it."""
    open_ones = ledger().journeys(ledger().begun(BEGUN, ledger().now()))
    rows = []
    for journey, history in open_ones.items():
        if history[0].body["partner"] == agreed.watching.partner and history[-1].kind != OVER:
            with holding([journey], timedelta(0)) as held:
                if held is not None:  # else another run has it in hand
                    trail = Trail(agreed.watching, journey, str(history[0].body["name"]), held, place=f"approval.{journey}")
                    try:
                        rows.append(_Approval(agreed, history[0], trail).go_on())
                    # Of this one alone; the next look goes on with it.
                    except (ConfigurationError, RepositoryError, SystemFailure, SenderError) as error:
                        get_run_logger().warning("%s: %s", trail.name, error)
                        rows.append(Row(trail.name, 0, str(history[0].body["order"]), BROKEN_OFF, str(error)))
    return rows


class _Approval:
    """The approval of one version of a document."""

    def __init__(self, agreed: Approvals, first: Recorded, trail: Trail) -> None:
        self.agreed, self.first, self.trail = agreed, first, trail
        self.document, self.version = str(first.body["repository_id"]), int(first.body["version"])
        self.order = str(first.body["order"])
        self._place = f"approval.{trail.journey}"
        self._ticket = f"{self._place}.ticket"

    @cached_property
    def release(self) -> Agreed:
        """The stream that it was begun with, whatever the watch says by now."""
        key = str(self.first.body["release"])
        return self.agreed.release if key == self.agreed.release.key else load_release(*key.split("/"))

    def go_on(self) -> Row:
        run = self._ask()
        self._tell_system()
        anew = self._begun_anew()
        history = _order_of(self.first)
        if anew and not _closed(history):
            self._void(anew, run)
            history = _order_of(self.first)
        if closed := _closed(history):
            return self._over(history, str(closed.body["state"]))
        self._look_for_a_stop(history, run)
        return self._row("waits")

    def _row(self, outcome: str, reason: str = "") -> Row:
        return Row(self.trail.name, self.version, self.order, outcome, reason)

    def _ask(self) -> str:
        """The run of the release that asks for it. Made twice, it is the same run."""
        if (before := self.trail.last(ASKED)) is not None:
            return str(before.body["run"])
        partner, stream = self.release.partner, self.release.stream
        with get_client(sync_client=True) as client:
            deployment = deployment_of(client, partner, stream)
            if deployment is None:
                raise ConfigurationError(
                    f"{partner}/{stream}: no deployment of its release is there as it was reviewed; run 'countersign deploy'"
                )
            run = client.create_flow_run_from_deployment(
                deployment.id,
                parameters={"partner": partner, "stream": stream, "order": self.order, "ids": [self.document]},
                idempotency_key=f"approval/{self.trail.journey}",
            )
        told = self.first.body
        self._remark(asked(self.version, self.order, str(told["change"]), str(told["by"])))
        self.trail.write(ASKED, {"run": str(run.id), "order": self.order}, once="asked")
        return str(run.id)

    def _remark(self, text: str) -> None:
        """For people who read the document. It says nothing that the ledger does not, so the approval goes on where it is refused."""
        with repository_session(self.agreed.watching.repository) as session:
            try:
                session.remark(self.document, text)
            except RepositoryError as error:
                if error.worth_retrying:
                    raise
                get_run_logger().warning("%s: %s", self.trail.name, error)

    def _tell_system(self) -> None:
        """The sign-off goes on, whatever becomes of it."""
        ticket, system = self.agreed.terms.ticket, self.agreed.system
        if ticket is None or system is None or not self._may_be_told(ticket.route):
            return
        told = self.first.body
        facts = {
            "document": self.trail.name,
            "version": self.version,
            "id": self.document,
            "order": self.order,
            "change": told["change"],
            "by": told["by"],
            "reason": f"{told['change']} of version {self.version} by {told['by']}; sign-off {self.order}",
        }
        try:
            with system.session() as session:
                [answer] = tell_once(session, [Telling(self.trail, ticket.route, facts)])
        except (ConfigurationError, SystemFailure) as error:
            if error.worth_retrying:
                get_run_logger().warning("%s: %s", self.trail.name, error)
            else:
                self._not_told(ticket.system, str(error))
            return
        if answer.fate is Fate.REFUSED:
            self._not_told(ticket.system, f"{answer.code}: {answer.reason}")
        elif answer.fate in (Fate.TAKEN, Fate.PENDING):
            close_incidents(self.agreed.watching, APPROVAL_NOT_TOLD, [self._ticket])

    def _may_be_told(self, route: str) -> bool:
        """False once a person has given it up, and for a while after it was refused on that route."""
        said, before = last_said(ledger().journey(self._ticket)), self.trail.last("not told")
        if said is None or said.kind == "resolved":
            return True
        lately = before is not None and before.body["route"] == route and ledger().now() - before.at < _TOLD_AGAIN
        return said.kind != "dismissed" and not lately

    def _not_told(self, system: str, why: str) -> None:
        reason = f"{system} is not told, and the sign-off goes on: {why}"
        open_incident(self.agreed.watching, self._ticket, self.trail.name, APPROVAL_NOT_TOLD, reason)

    def _begun_anew(self) -> Recorded | None:
        """The newest approval of the document, if that is a later one."""
        newest = _approvals(self.agreed, self.document)[-1][0]
        return newest if newest.seq > self.first.seq else None

    def _void(self, anew: Recorded, run: str) -> None:
        """End what is asked of an earlier version, now: also of a run that has not begun, which would ask for the newest one."""
        release = self.release
        journey = journey_of(release, self.order, "", [self.document], "", run)
        with holding([journey], timedelta(0)) as held:
            if held is None:
                return  # a run works on it; it looks itself before anybody is asked and before anything is sent
            history = ledger().journey(journey)
            leader = str(next((one.body["run"] for one in reversed(history) if leads(one) and one.body.get("run")), run))
            order = Order(release, self.order, journey, leader, held)
            if order.last("closed", "sending"):
                return
            order.void(Voided("superseded", f"{shown(self.trail.name)} is superseded by v{anew.body['version']}"))
            drop_previews(order)
            with get_client(sync_client=True) as client, suppress(ObjectNotFound):
                announce(order, None)
                state = client.read_flow_run(UUID(leader)).state
                if state is not None and state.is_paused():  # it begins at the top, and ends
                    client.set_flow_run_state(UUID(leader), Scheduled(message="Its document was changed"), force=True)

    def _begin_anew(self) -> Recorded | None:
        """After the package was voided: ask for what stands there now; None if nothing does that needs it."""
        with repository_session(self.agreed.watching.repository) as session:
            kept = next(_there(session, self.agreed, self.document), None)
        told = self.first.body
        if kept is not None and self.agreed.is_sensitive(kept):
            kind, actor = (told["change"], told["by"]) if kept.version == self.version else ("modify", "somebody")
            _begin(self.agreed, kept, kind, actor, after=self.trail.journey)
        return self._begun_anew()

    def _tell_who_signed(self, history: Sequence[Recorded], anew: Recorded) -> None:
        """Whoever had signed is told that it was in vain, and what is asked now; each once."""
        signed, told, frozen = _signed(history), anew.body, _frozen(history)
        facts = {
            "Document": self.trail.name,
            "Signed": f"version {frozen.version}, SHA-256 {frozen.sha256[:16]}" if frozen else "",
            "Now": f"version {told['version']}, {told['change']} by {told['by']}",
            "Asked as": f"order {told['order']}",
        }
        subject = f"{self.first.body['release']}: a document that you had signed was changed, and is to be signed anew"
        notify(signed, Notification(f"restarted/{self.trail.journey}", self.trail.journey, subject, facts))
        body = {"order": told["order"], "version": told["version"], "told": signed}
        self.trail.write(RESTARTED, body, once=f"restarted/{told['order']}/{','.join(signed)}")

    def _look_for_a_stop(self, history: Sequence[Recorded], run: str) -> None:
        """Nobody is asked where the release found nothing that may leave: then a person has to know."""
        if any(entry.kind in ("frozen", "refused") for entry in history):
            close_incidents(self.agreed.watching, APPROVAL_STOPPED, [self._place])
            return
        with get_client(sync_client=True) as client, suppress(ObjectNotFound):
            state = client.read_flow_run(UUID(run)).state
            if state is not None and state.is_final():
                reason = f"nobody is asked to sign version {self.version}: {state.name}, {shown(state.message or '')[:300]}"
                reason += f". Mend it, and run order {self.order} again"
                open_incident(self.agreed.watching, self._place, self.trail.name, APPROVAL_STOPPED, reason)

    def _over(self, history: Sequence[Recorded], state: str) -> Row:
        frozen, signed = _frozen(history), _signed(history)
        version, digest = (frozen.version, frozen.sha256) if frozen else (self.version, "")
        self._remark(over(version, self.order, state, digest, signed))
        anew = self._begin_anew() if _voided(history) else None
        if anew:
            self._tell_who_signed(history, anew)
        facts = {"state": state, "order": self.order, "version": version, "sha256": digest, "signed": signed}
        self.trail.write(OVER, facts, once="over", stage=Stage.CLEARED)
        close_incidents(self.agreed.watching, APPROVAL_STOPPED, [self._place])
        return self._row("restarted" if anew else "approved" if state.startswith("Delivered") else "over", state)


def _order_of(first: Recorded) -> list[Recorded]:
    """All that the ledger holds of the order of an approval; empty before it is asked for."""
    partner, stream = str(first.body["release"]).split("/")
    found = ledger().holder(order_key(partner, stream, str(first.body["order"])))
    return ledger().journey(found.journey) if found else []


def _voided(order: Sequence[Recorded]) -> bool:
    closed = _closed(order)
    return closed is not None and str(closed.body["state"]).startswith("Voided")


def _closed(history: Sequence[Recorded]) -> Recorded | None:
    return next((entry for entry in history if entry.kind == "closed"), None)


def _signed(history: Sequence[Recorded]) -> list[str]:
    """Who has approved."""
    votes = [Vote.parse(entry.body["vote"]) for entry in history if entry.kind == "answered" and entry.body["vote"]]
    return sorted({vote.approver for vote in votes if vote.decision.approves})


def _frozen(history: Sequence[Recorded]) -> PackageFile | None:
    """The document as people are asked to sign it; None before."""
    frozen = next((entry for entry in history if entry.kind == "frozen"), None)
    return Package.parse(frozen.body["package"]).files[0] if frozen else None


def report_approvals(rows: Sequence[Row]) -> State:
    """A table of the approvals that were open, and a final state whose name says how many wait, and what came of the others."""
    outcomes = ("approved", "over", "restarted", "waits", BROKEN_OFF)
    counts = {outcome: sum(row.outcome == outcome for row in rows) for outcome in outcomes}
    if rows:
        table = [
            {
                "document": literal(row.document),
                "version": row.version or "",
                "order": row.order,
                "outcome": row.outcome,
                "reason": literal(row.reason),
            }
            for row in rows[:SHOWN]
        ]
        create_table_artifact(table=table, key="approvals", description="**Approvals**")
    name = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count) or "Nothing new"
    return Failed(name=name) if counts[BROKEN_OFF] else Completed(name=name)
