"""Orders: what a release was asked to send, under one id, and everything that the ledger holds about it.

::

    ordered ─ frozen ─ opened ─ round ─ answered ─ round ─ … ─ sending ─ delivered ─ sealed ─ certified ─ closed
                                  └─ bypass | abandoned | unasked                 └─ in-doubt ─ settled ─ sending …

One journey for the order, and one for each document of its package, so that a document is found by its name and its bytes are
kept while somebody may still sign. Nothing is remembered elsewhere: a pass that was killed anywhere is run again from the top.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run

from blocks import reviewed
from blocks.errors import ConfigurationError, LeaseLost, SenderError
from blocks.ledger import Entry, Holding, Lease, Recorded, new_journey
from blocks.outbound import (
    Correction,
    Delivered,
    Destination,
    Matter,
    Outbound,
    Package,
    PackageFile,
    PeopleFile,
    Policies,
    Refusal,
    Requested,
    Requester,
    Round,
    Vote,
)
from blocks.profile import PartnerProfile, load_partner, load_repositories, policies_of
from blocks.repositories.base import Repository
from blocks.sender import Arrived, Sender, Withdrawn, delivered_facts, delivered_of, destination_of
from blocks.settings import settings
from blocks.values import Finding, Stage, name_b64, shown
from tasks.cases import opened
from tasks.connections import ledger
from tasks.rules.dialog import Checked
from tasks.rules.judge import from_facts
from tasks.rules.packing import Voided, fill
from tasks.rules.policy import Standing, standing
from tasks.rules.reconcile import WAITS

_ORDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?:~[0-9a-f]{12})?")
NOT_DELIVERED = "not-delivered"
"""Reason code of an order that did not come as far as the partner, and is not tried again by itself."""
CORRECTION = "correction"
"""Kind of the entry about a delivered order whose documents are to be sent in newer versions: ``journey`` is the order that does."""
SETTLES = ("answered", "bypass", "abandoned", "unasked")
"""What a round's row is followed by, once it is over."""


class Agreed:
    """What was agreed about one outbound stream, and who may sign: read from the reviewed files at the beginning of each pass."""

    def __init__(
        self, profile: PartnerProfile, stream: str, people: PeopleFile, repositories: Mapping[str, Repository]
    ) -> None:
        self.profile, self.partner, self.stream, self.people = profile, profile.name, stream, people
        self.terms: Outbound = profile.outbound[stream]
        self.repository = repositories[self.terms.gather.repository]
        self.evidence = repositories[self.terms.evidence.repository]
        self.recording = repositories[self.terms.recording.repository]

    @property
    def key(self) -> str:
        return f"{self.partner}/{self.stream}"

    @property
    def policies(self) -> Policies:
        return policies_of(self.profile, self.stream, self.people)

    def destinations(self, order: str, ordered: datetime, kit: str = "") -> tuple[Destination, ...]:
        """Where a package of this order goes, by the terms of today."""
        facts: dict[str, str | datetime] = {"partner": self.partner, "stream": self.stream, "order": order, "ordered": ordered}
        facts["kit"] = kit
        return tuple(destination_of(self.profile.place(terms), fill(terms.folder, facts)) for terms in self.terms.destinations)


def load_release(partner: str, stream: str) -> Agreed:
    """An outbound stream with its people and repositories. Raises ``ConfigurationError`` that says what to mend."""
    folder = settings().profiles
    profile = load_partner(partner, folder)
    if stream not in profile.outbound:
        raise ConfigurationError(
            f"{partner}: no outbound stream '{stream[:80]}'; the profile in {folder} has {', '.join(sorted(profile.outbound)) or 'none'}"
        )
    repositories = load_repositories(folder)
    terms = profile.outbound[stream]
    for wanted in (terms.gather.repository, terms.evidence.repository, terms.recording.repository):
        if wanted not in repositories:
            raise ConfigurationError(
                f"{partner}/{stream}: no repository '{wanted}'; repositories.yaml has {', '.join(sorted(repositories))}"
            )
    return Agreed(profile, stream, reviewed.load(folder / "people.yaml", PeopleFile), repositories)


def sender() -> Sender:
    """The sender of this installation."""
    return Sender(settings().sender_socket)


# --------------------------------------------------------------------------------------------- one order


@dataclass(frozen=True, slots=True)
class Ending:
    """How a pass ended, for the run's final state."""

    name: str
    message: str
    fault: bool = False
    """Somebody has to mend something; then the run is retried."""


class Order:
    """One order in the hands of this run. Deliberately opaque to Prefect, which would walk through a dataclass at every call."""

    def __init__(self, agreed: Agreed, id: str, journey: str, run: str, holding: Holding | None) -> None:
        self.agreed, self.id, self.journey, self.run = agreed, id, journey, run
        self.ending: Ending | None = None
        self._holding = holding
        self.history: tuple[Recorded, ...] = ()
        self.reload()

    # ---------------------------------------------------------------------------------------- the ledger

    def reload(self) -> None:
        # What was read before stays as it is, and its text is parsed once: it may be a package of thousands of documents.
        known = {entry.hash: entry for entry in self.history}
        self.history = tuple(known.get(entry.hash, entry) for entry in ledger().journey(self.journey))

    @property
    def _lease(self) -> Lease:
        if self._holding is None:
            raise LeaseLost(f"order {self.id}: another run works on it; this one changes nothing")
        return self._holding.lease

    def write(self, kind: str, body: Mapping[str, Any], *, once: str | None = None, stage: Stage | None = None) -> Recorded:
        """Record a step of this order, under our lease."""
        facts = {"partner": self.agreed.partner, "stream": self.agreed.stream, "order": self.id, **body}
        recorded = ledger().append([Entry(self.journey, kind, facts, once, stage)], self._lease)[0]
        self.reload()
        return recorded

    def last(self, *kinds: str) -> Recorded | None:
        """The newest entry of these kinds."""
        return next((entry for entry in reversed(self.history) if entry.kind in kinds), None)

    def case(self, code: str, reason: str) -> dict[str, Any]:
        """A case about this order for the body of an entry."""
        terms = self.agreed.terms
        return opened(code, reason, terms.owner or self.agreed.profile.owner, terms.resolve_within)

    def each(self, kind: str) -> list[Recorded]:
        return [entry for entry in self.history if entry.kind == kind]

    # ---------------------------------------------------------------------------------------- what it holds

    @property
    def open(self) -> bool:
        """There is something left to do for this pass."""
        return self.ending is None

    @property
    def ordered(self) -> Recorded:
        return self.history[0]

    @property
    def package(self) -> Package | None:
        frozen = self.last("frozen")
        return Package.parse(frozen.body["package"]) if frozen else None

    @property
    def frozen(self) -> Recorded:
        found = self.last("frozen")
        assert found is not None  # noqa: S101 - only asked once there is a package
        return found

    @property
    def policies(self) -> Policies:
        """Under which the package was frozen."""
        return Policies(**self.frozen.body["policies"])

    @property
    def corrects(self) -> Correction | None:
        """Which order it corrects, if it does; that one is its parent."""
        told = self.ordered.body.get("corrects")
        return Correction(**told) if told else None

    @property
    def root(self) -> tuple[str, datetime]:
        """The id and the moment by which its destinations are found: a correction goes where what it corrects went."""
        told = self.ordered.body
        return (
            (self.id.partition("~")[0], datetime.fromisoformat(told["due"]))
            if "corrects" in told
            else (self.id, self.ordered.at)
        )

    @property
    def due(self) -> datetime:
        """The moment that ``{ordered}`` means: a remainder or a redelivery goes where its root order went."""
        return datetime.fromisoformat(self.frozen.body["ordered"])

    @property
    def source(self) -> Repository:
        """Where the package's documents are taken from: what goes once more may come from where its record keeps copies."""
        return self.agreed.recording if self.frozen.body.get("from_record") else self.agreed.repository

    @property
    def checked(self) -> Checked:
        """What the checks said when the package was frozen."""
        told, stopped = self.frozen.body["checked"], self.last("refused")
        before = stopped.body.get("findings", []) if stopped else []
        return Checked(told["documents"], _findings(told["findings"]), _findings(before))

    @property
    def matter(self) -> Matter:
        """What is to be decided. The deadline counts from the first asking."""
        body, opened = self.frozen.body, self.last("opened")
        told = opened.body if opened else {}
        deadline, widens = (datetime.fromisoformat(told[key]) if told.get(key) else None for key in ("deadline", "widens"))
        package, editors = Package.parse(body["package"]), frozenset(body["editors"])
        return Matter(
            package,
            self.run,
            self.requester,
            editors,
            deadline,
            widens,
            tuple(told.get("brake", ())),
            tuple(told.get("outside", ())),
        )

    @property
    def requester(self) -> Requester | None:
        """Who asked: as proven at the sender, else as stated; None: a schedule or an event."""
        if self.requested is not None:
            return Requester(self.requested.requester, self.requested.proof)
        stated = self.ordered.body["requester"]
        return Requester(stated) if stated else None

    @property
    def requested(self) -> Requested | None:
        """The proven request, as it was learnt from the sender."""
        learnt = self.last("requested")
        return Requested.parse(learnt.body["request"]) if learnt else None

    @property
    def ids(self) -> Sequence[str]:
        """The documents, where the stream takes them from the order."""
        return self.requested.ids if self.requested else list(self.ordered.body["ids"])

    @property
    def kit(self) -> str:
        """Which of the stream's kits was asked for; "" where it has none."""
        return self.requested.kit if self.requested else self.ordered.body.get("kit", "")

    def learn(self, holder: Sender) -> None:
        """Ask the sender who proved that they asked for this order, and write it down. Nobody proves it of a redelivery."""
        if self.requested is None and not self.ordered.body.get("again"):
            root = self.id.partition("~")[0]
            proven = holder.requested(self.agreed.partner, self.agreed.stream, root)
            if proven is not None:
                self.write("requested", {"request": proven.facts}, once=f"requested/{self.journey}")

    @property
    def votes(self) -> list[Vote]:
        return [Vote.parse(entry.body["vote"]) for entry in self.each("answered") if entry.body["vote"]]

    @property
    def people(self) -> PeopleFile:
        """Who may sign: those of today; once all stands at the partner, those of then. What is delivered stays signed off."""
        delivered = self._delivered
        return PeopleFile.model_validate(delivered.body["people"]) if delivered else self.agreed.people

    def standing(self) -> Standing:
        """How far the sign-off has come, by the people and at the time that count."""
        delivered = self._delivered
        now = delivered.at if delivered else ledger().now()
        return standing(self.matter, self.agreed.terms.signoff, self.people, self.votes, now)

    @property
    def arrived(self) -> list[Arrived] | None:
        """What stands at each destination, once that is so at all of them."""
        if self._delivered is None:
            return None
        told = sorted((entry.body for entry in self.each("delivered")), key=lambda body: int(body["destination"]))
        return [Arrived(one["destination"], tuple(delivered_of(file) for file in one["files"])) for one in told]

    @property
    def _delivered(self) -> Recorded | None:
        """The last destination's delivery, once every destination has its own."""
        done = self.each("delivered")
        package = self.package if done else None
        return done[-1] if package and len(done) == len(package.destinations) else None

    @property
    def open_round(self) -> tuple[Round, Recorded] | None:
        """The last round, if it is not settled yet."""
        asked = self.last("round")
        if asked is None or any(entry.body.get("key") == asked.body["key"] for entry in self.history if entry.kind in SETTLES):
            return None
        told = asked.body
        return Round(told["n"], told["key"], told["run"], told["digest"]), asked

    @property
    def refusal(self) -> Refusal | None:
        """Why the last answer did not count: the first line of the next asking."""
        settled = self.last(*SETTLES)
        told = settled.body.get("refusal") if settled else None
        return Refusal(told["code"], told["first_line"]) if told else None

    # ---------------------------------------------------------------------------------------- the end

    def close(self, name: str, message: str) -> None:
        """Nothing more happens with this order, whoever runs it again; its documents' bytes may go."""
        if self.last("sending") and not self.last("certified"):
            message += self._withdraw()
        package, closing = self.package, {"state": name, "reason": message}
        if package is not None:
            ledger().append(
                [
                    Entry(
                        document_journey(package, n), "closed", closing, f"closed/{document_journey(package, n)}", Stage.CLEARED
                    )
                    for n in range(1, len(package.files) + 1)
                ]
            )
        # Nobody waits for the partner's room, or for the repository, or mends a delivery any more.
        over = {"case": {"state": "resolved"}} if _case_of(self.history) in (*WAITS, NOT_DELIVERED) else {}
        self.write("closed", {**closing, **over}, once=f"closed/{self.journey}", stage=Stage.CLEARED)
        self.ending = Ending(name, message)

    def _withdraw(self) -> str:
        """Let the sender clear away what it had begun to send, as far as it can; what is to be said of it."""
        try:
            with sender() as clearing:
                told = clearing.withdraw(self.matter.package)
        except (SenderError, ConfigurationError) as error:
            told = Withdrawn(problem=str(error))
        said = (
            [f"{told.stand} of its files stand at the partner already, and stay ({_names(told.files)})"] if told.stand else []
        )
        said += [f"{told.unknown} may have arrived: ask the partner"] if told.unknown else []
        said += [f"temporary files of ours may still stand there ({told.problem})"] if told.left or told.problem else []
        # Those have no certificate, which is of whole releases: what left, and how we know, is in this row, and who signed in the others.
        facts = {
            "files": [delivered_facts(file) for file in told.files],
            "stand": told.stand,
            "unknown": told.unknown,
            "left": [shown(name) for name in told.left],
            "problem": told.problem,
        }
        self.write("withdrawn", facts, once=f"withdrawn/{self.journey}")
        return f". It had begun to be sent; {'; '.join(said)}" if said else ""

    def void(self, why: Voided) -> None:
        """The package is not, or no longer, what was or would be signed: it ends with all its votes."""
        # Whoever signed already is told that it was in vain.
        signed = sorted({vote.approver for vote in self.votes})
        self.tell("voided", code=why.code, reason=why.reason, signed=signed)
        self.close(f"Voided: {why.reason}"[:200], f"order {self.id}: {why.reason}; its sign-off is void. Order it anew")

    def end(self, name: str, message: str, *, fault: bool = False) -> None:
        """This pass ends; the order may be run again."""
        self.ending = Ending(name, message, fault)

    def tell(self, event: str, **facts: Any) -> None:
        """An event for programs: ``countersign.signoff.<event>``."""
        emit_event(
            event=f"countersign.signoff.{event}",
            resource={
                "prefect.resource.id": f"countersign.stream.{self.agreed.partner}.{self.agreed.stream}",
                "prefect.resource.name": self.agreed.key,
            },
            related=[{"prefect.resource.id": f"prefect.flow-run.{self.run}", "prefect.resource.role": "flow-run"}],
            payload={"order": self.id, "journey": self.journey, **facts},
        )


def _findings(told: list[dict[str, Any]]) -> tuple[Finding, ...]:
    return from_facts("", {"doctype": None, "findings": told, "facts": {}}).findings


def _names(files: Sequence[Delivered]) -> str:
    """The first of them, for people."""
    listed = ", ".join(f"{shown(file.name)} at destination {file.destination + 1}" for file in files[:5])
    return listed + (f" and {len(files) - 5} more" if len(files) > 5 else "")


def waits_for(history: Sequence[Recorded]) -> str:
    """What an order waits for that the sweep tries again: the code of its case; "" if it waits for nothing of that kind."""
    return code if (code := _case_of(history)) in WAITS else ""


def _case_of(history: Sequence[Recorded]) -> str:
    """The code of the case that an order has now; "" if it has none."""
    asked = next((entry for entry in reversed(history) if entry.kind in ("in-doubt", "resolved", "settled", "closed")), None)
    return str(asked.body["case"]["code"]) if asked is not None and asked.kind == "in-doubt" else ""


def document_journey(package: Package, n: int) -> str:
    """The journey of a package's n-th document, from 1."""
    return f"{package.journey}.{n}"


# --------------------------------------------------------------------------------------------- taking it


@contextmanager
def take(partner_stream: Agreed, order: str | None, requester: str, ids: Sequence[str], kit: str = "") -> Iterator[Order]:
    """The order of this run, to be worked on by nobody else while the block runs.

    Without an id it is derived from the time for which the run was first scheduled. Raises ``ConfigurationError`` for what can
    be no order.
    """
    agreed, run = partner_stream, str(flow_run.id)
    id = order if order is not None else _scheduled_order(run)
    if not _ORDER.fullmatch(id):
        raise ConfigurationError(f"order {id[:80]!r}: letters, digits, '.', '_' and '-' are wanted, at most 100")
    journey = journey_of(agreed, id, requester, ids, kit, run)
    lease = _wait_for_lease(journey, run)
    if lease is None:
        elsewhere = Order(agreed, id, journey, run, None)
        elsewhere.end("Under way elsewhere", f"order {id}: another run is working on it right now; this one changed nothing")
        yield elsewhere
        return
    with ledger().holding(lease, settings().lease_seconds) as holding:
        taken = Order(agreed, id, journey, run, holding)
        _lead(taken)
        yield taken


@contextmanager
def in_hand(order: Order) -> Iterator[Order]:
    """An order for somebody at a console, while no run works on it. Raises ``LeaseLost`` if one does."""
    lease = _wait_for_lease(order.journey, order.run)
    if lease is None:
        raise LeaseLost(f"order {order.id}: a run is working on it right now; nothing was changed, try again in a minute")
    with ledger().holding(lease, settings().lease_seconds) as holding:
        yield Order(order.agreed, order.id, order.journey, order.run, holding)


def journey_of(agreed: Agreed, id: str, requester: str, ids: Sequence[str], kit: str, run: str) -> str:
    """The journey of an order: a new one, or the one that it has. Raises ``ConfigurationError`` for what can be none."""
    body = {
        "partner": agreed.partner,
        "stream": agreed.stream,
        "name": id,
        "order": id,
        "requester": requester.strip(),
        "ids": list(ids),
        "run": run,
        **({"kit": kit} if kit else {}),
    }
    key = order_key(agreed.partner, agreed.stream, id)
    if "~" in id:
        # A remainder or a redelivery was ordered, and frozen, by the run that made it; nobody else makes one.
        if found := find_order(agreed, id):
            return found[0].journey
        raise ConfigurationError(f"order {id}: there is no such remainder or redelivery; '~' is kept for those")
    if (kit or agreed.terms.kits) and (before := find_order(agreed, id)):
        if kit not in ("", before[0].body.get("kit", "")):
            raise ConfigurationError(f"order {id}: it was made for another kit; give this one an id of its own")
    elif kit not in (agreed.terms.kits or {""}):
        kits = f"it releases kits, so name one: {', '.join(agreed.terms.kits)}" if agreed.terms.kits else "it has no kits"
        raise ConfigurationError(f"{agreed.key}: there is no kit {shown(kit[:80])!r}; {kits}")
    return ledger().append([Entry(new_journey(), "ordered", body, once=key)])[0].journey


def find_order(agreed: Agreed, id: str) -> list[Recorded]:
    """All that the ledger holds of an order of this stream; empty if nobody has ordered it."""
    found = ledger().holder(order_key(agreed.partner, agreed.stream, id))
    return ledger().journey(found.journey) if found else []


def sent_before(order: Order) -> frozenset[str]:
    """Of a correction: SHA-256 of what the partner was sent last under each name, by the order that is corrected or since."""
    if order.corrects is None:
        return frozenset()
    parent = ledger().journey(str(order.ordered.body["parent"]))
    since = [str(entry.body["journey"]) for entry in parent if entry.kind == CORRECTION]
    corrections = ledger().journeys(since)
    last: dict[bytes, str] = {}
    for history in (parent, *(corrections[journey] for journey in since if journey in corrections)):
        last |= {file.name: file.sha256 for file in sent(history)}
    return frozenset(last.values())


def sent(history: Sequence[Recorded]) -> tuple[PackageFile, ...]:
    """The documents of an order that were delivered."""
    frozen = next((entry for entry in reversed(history) if entry.kind == "frozen"), None)
    names = {file["source"] for entry in history if entry.kind == "delivered" for file in entry.body["files"]}
    return tuple(file for file in Package.parse(frozen.body["package"]).files if name_b64(file.name) in names) if frozen else ()


def order_key(partner: str, stream: str, id: str) -> str:
    """What makes an order one: the same id on the same stream."""
    return f"order/{partner}/{stream}/{id}"


def _scheduled_order(run: str) -> str:
    """An id from the time for which a run was first scheduled: the same on every pass, also after a resume."""
    with get_client(sync_client=True) as client:
        states = sorted(client.read_flow_run_states(UUID(run)), key=lambda state: state.timestamp)
        told = client.read_flow_run(UUID(run))
    first = next((state.state_details.scheduled_time for state in states if state.state_details.scheduled_time), None)
    at = (first or told.created or datetime.now(UTC)).astimezone(UTC)
    return f"{at:%Y%m%dT%H%M%S}{f'.{at.microsecond:06d}' if at.microsecond else ''}Z"


def _wait_for_lease(journey: str, run: str) -> Lease | None:
    """The lease of an order. A worker that was killed holds it a little longer: we wait that long, and not for ever."""
    seconds = settings().lease_seconds
    give_up = time.monotonic() + 1.5 * seconds
    while (lease := ledger().lease([f"journey:{journey}"], owner=f"run {run}", seconds=seconds)) is None:
        if time.monotonic() > give_up:
            return None
        time.sleep(min(0.2, seconds / 10))
    return lease


def _lead(order: Order) -> None:
    """One run leads an order. Another takes over only when that one has ended or is gone, and says so in the ledger."""
    closed = order.last("closed")
    if closed is not None:
        order.ending = Ending(
            closed.body["state"], f"{closed.body['reason']} (on {closed.at:%Y-%m-%d %H:%M} UTC; nothing was done now)"
        )
        return
    leader = next((entry.body.get("run") for entry in reversed(order.history) if leads(entry)), None)
    if leader == order.run:
        return
    if leader and (state := _state_of(leader)) not in (None, "final"):
        order.end("Under way elsewhere", f"order {order.id}: run {leader} leads it ({state}); this run changed nothing")
        return
    order.write("led", {"run": order.run})


def leads(entry: Recorded) -> bool:
    """True for an entry that says which run leads an order from now on."""
    return entry.kind in ("ordered", "led") or (entry.kind == "redrive" and bool(entry.body.get("anew")))


def _state_of(run: str) -> str | None:
    """The name of a run's state; "final" if it has ended, None if Prefect does not know the run."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(run)).state
        except ObjectNotFound:
            return None
    return None if state is None else "final" if state.is_final() else str(state.name)


def parted(order: Order, child: Package) -> None:
    """Write down the child package of what was left out: an order of its own, frozen already, that any run may lead."""
    frozen = order.frozen.body
    about = {"partner": child.partner, "stream": child.stream, "name": child.order, "order": child.order}
    ordered = {**about, "requester": order.ordered.body["requester"], "ids": [], "run": "", "parent": order.journey}
    ledger().append(
        [
            Entry(child.journey, "ordered", ordered, once=order_key(child.partner, child.stream, child.order)),
            Entry(child.journey, "frozen", {**frozen, **about, "package": child.text}, once=f"frozen/{child.journey}"),
            *documents(child, order.source.address),
        ]
    )


def documents(package: Package, repository: str) -> list[Entry]:
    """A journey for each document, so that it is found by name and digest, and its bytes are kept."""
    return [
        Entry(
            document_journey(package, n),
            "packaged",
            {
                "partner": package.partner,
                "stream": package.stream,
                "order": package.order,
                "package": package.digest,
                **{fact: told for fact, told in file.facts.items() if fact != "sha256"},
                "digest": file.sha256,
                "repository": repository,
            },
            once=f"packaged/{document_journey(package, n)}",
        )
        for n, file in enumerate(package.files, 1)
    ]
