"""Everybody around an installation: callers who order, people who sign, a partner who collects at once, operators who retry."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyotp

from blocks.endpoints.base import TEMPORARY
from blocks.ledger import Recorded
from blocks.outbound import Package, canonical
from blocks.spool import Spool
from blocks.values import Filing
from deployments.sender.store import Step
from tasks.sweep import RUNS
from tests.soak.installation import ONE, PAIR, PARTNER, Installation

SIGNED, REJECTED, UNANSWERED = "signed", "rejected", "unanswered"


# --------------------------------------------------------------------------------------------- the partner


@dataclass
class Seen:
    """One file under its own name: its bytes, and what tells it from another file of that name."""

    digest: str
    inode: int
    modified: int


class Partner:
    """Two folders on the partner's server: from one of them everything is taken away as soon as it has its name."""

    def __init__(self, root: Path, signed: set[str]) -> None:
        self.collecting, self.leaving, self.collected = root / "collecting", root / "leaving", root / "collected"
        for folder in (self.collecting, self.leaving, self.collected):
            folder.mkdir(parents=True)
        self.signed = signed
        """Orders that somebody has approved, before they say so."""
        self.seen: dict[Path, dict[str, Seen]] = {self.collecting: {}, self.leaving: {}}
        self.wrong: list[str] = []
        self.busy = threading.Event()
        """Something is being delivered just now."""

    def look(self) -> None:
        for folder, seen in self.seen.items():
            names = sorted(os.listdir(folder), key=lambda name: name.endswith(".done"))
            if any(name.startswith(TEMPORARY.decode()) or name not in seen for name in names):
                self.busy.set()
            for name in names:
                if not name.startswith(TEMPORARY.decode()):
                    self._see(folder, name, seen)

    def _see(self, folder: Path, name: str, seen: dict[str, Seen]) -> None:
        path = folder / name
        told = path.stat()
        if name in seen:
            if folder is self.collecting or (told.st_ino, told.st_mtime_ns) != (seen[name].inode, seen[name].modified):
                self.wrong.append(f"{folder.name}/{name} was sent twice")
            if folder is self.leaving:
                return
        seen[name] = Seen(hashlib.sha256(path.read_bytes()).hexdigest(), told.st_ino, told.st_mtime_ns)
        if (order := name.partition(".")[0]) not in self.signed:
            self.wrong.append(f"{folder.name}/{name} was sent, and nobody has signed {order}")
        if folder is self.collecting:
            path.rename(self.collected / f"{name}.{len(seen)}")


# --------------------------------------------------------------------------------------------- orders


@dataclass
class Order:
    """One order, and what its approvers will do with it."""

    id: str
    stream: str
    end: str
    """What becomes of it: signed, rejected, or never answered."""
    wrong_first: bool
    """Its first approver mistypes the code."""
    documents: dict[str, str]
    """Name and SHA-256."""
    run: str = ""

    @property
    def names(self) -> set[str]:
        """Under which its files stand at the partner."""
        return {f"{self.id}.{name}" for name in (*self.documents, "manifest", "done")}


class Orders:
    """Callers who put documents into the repository and order their release."""

    def __init__(self, ours: Installation, seed: int) -> None:
        self.ours, self.seed, self.made = ours, seed, dict[str, Order]()
        self._desk = Spool(ours.home / "desk", floor_bytes=0)
        self._deployments = {name: ours.ask("GET", f"/deployments/name/release/{PARTNER}-{name}")["id"] for name in (ONE, PAIR)}
        self._journeys: dict[str, str] = {}

    def place(self) -> Order:
        """The next order; the same for the same seed."""
        number = len(self.made) + 1
        chance = random.Random(f"{self.seed}/{number}")
        end = chance.choices((SIGNED, REJECTED, UNANSWERED), (85, 9, 6))[0]
        stream = chance.choices((ONE, PAIR), (80, 20))[0]
        order = Order(f"o{number:04d}", stream, end, chance.random() < 0.1, {})
        for document in range(1, chance.randint(1, 3) + 1):
            content = chance.randbytes(chance.randint(1, 60_000))
            order.documents[f"{document}.bin"] = self._file(order.id, f"{document}.bin", content)
        asked = {
            "parameters": {"partner": PARTNER, "stream": stream, "order": order.id, "requester": "rita"},
            "idempotency_key": order.id,
        }
        order.run = self.ours.ask("POST", f"/deployments/{self._deployments[stream]}/create_flow_run", asked)["id"]
        self.made[order.id] = order
        return order

    def _file(self, order: str, name: str, content: bytes) -> str:
        with self._desk.batch() as batch:
            sink = batch.open()
            sink.write(content)
            done = sink.finish()
        filing = Filing(
            journey=str(uuid4()),
            name=name,
            folder=("Soak", "Outbox", order),
            path=self._desk.path(done.digest),
            digest=done.digest,
            size=done.size,
            media_type="application/octet-stream",
            categories={},
        )
        with self.ours.repository() as session:
            list(session.file([filing]))
        return done.digest

    def history(self, order: Order) -> list[Recorded]:
        """What the ledger holds of it."""
        if order.id not in self._journeys:
            found = self.ours.ledger.search(name=order.id, partner=PARTNER, stream=order.stream, limit=100)
            named = [one.journey for one in found if one.name == order.id]
            if not named:
                return []
            self._journeys[order.id] = named[0]
        return self.ours.ledger.journey(self._journeys[order.id])

    def state(self, order: Order) -> str:
        """``closed``, ``in doubt``, ``waiting`` or ``under way``."""
        kinds = [entry.kind for entry in self.history(order)]
        if "closed" in kinds:
            return "closed"
        told = [kind for kind in kinds if kind not in ("found", "redrive")]
        if told and told[-1] == "in-doubt":
            return "in doubt"
        return "waiting" if told and told[-1] == "round" else "under way"

    def at_rest(self, order: Order) -> bool:
        """True if nobody but a person who was not asked to could bring it further."""
        return self.state(order) == ("waiting" if order.end == UNANSWERED else "closed")

    def states(self) -> Counter[str]:
        return Counter(self.state(order) for order in self.made.values())


# --------------------------------------------------------------------------------------------- people


@dataclass
class Approvers:
    """People who look into their inbox, read, and sign, each with one code in half a minute."""

    ours: Installation
    orders: Orders
    signed: set[str]
    answers: Counter[str] = field(default_factory=Counter)
    _used: dict[str, int] = field(default_factory=dict)
    _mistyped: set[str] = field(default_factory=set)

    def look(self) -> None:
        """Answer what awaits somebody."""
        wanted = {"flow_runs": {"state": {"name": {"any_": ["Suspended"]}}}, "limit": 100}
        for run in self.ours.ask_once("POST", "/flow_runs/filter", wanted) or ():
            order = self.orders.made.get(run["parameters"].get("order", ""))
            people = [tag.removeprefix("awaits:") for tag in run["tags"] if tag.startswith("awaits:")]
            if order is not None and order.end != UNANSWERED and people:
                self._answer(order, run["id"], people)

    def _answer(self, order: Order, run: str, people: list[str]) -> None:
        step = int(time.time()) // 30
        free = [person for person in people if self._used.get(person) != step]
        frozen = [entry for entry in self.orders.history(order) if entry.kind == "frozen"]
        if not free or not frozen:
            return
        person = min(free, key=lambda one: self._used.get(one, 0))
        self._used[person] = step
        code = pyotp.TOTP(self.ours.seeds[person]).now()
        if order.wrong_first and order.id not in self._mistyped:
            self._mistyped.add(order.id)
            code = f"{(int(code) + 500_000) % 1_000_000:06d}"
        if order.end == SIGNED:
            self.signed.add(order.id)
        answer: dict[str, Any] = {
            "decision": "approve" if order.end == SIGNED else "reject",
            "approver": person,
            "meaning": "release",
            "package": Package.parse(frozen[-1].body["package"]).digits,
            "proof": code,
            "comment": "" if order.end == SIGNED else "not this one",
        }
        told: Mapping[str, Any] | None = self.ours.ask_once("POST", f"/flow_runs/{run}/resume", {"run_input": answer})
        self.answers[str(told["status"]) if told else "no answer"] += 1


@dataclass
class Operators:
    """People who press Retry on what has failed and on what the sweep has given up, and who ask the partner about what is in doubt."""

    ours: Installation
    orders: Orders
    partner: Partner
    settled: Counter[str] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)

    def look(self) -> None:
        """The sweep wakes what has crashed or got stuck, three times; a fault, or what stops again and again, is left to people."""
        wanted = {
            "flow_runs": {"state": {"type": {"any_": ["FAILED", "CRASHED", "PENDING", "RUNNING"]}}},
            "flows": {"name": {"any_": ["release"]}},
        }
        for run in self.ours.ask_once("POST", "/flow_runs/filter", wanted) or ():
            order = self.orders.made.get(run["parameters"].get("order", ""))
            if not _ended(run) and _age_seconds(run) < 90:
                continue
            if run["state_type"] == "FAILED" or (order is not None and self._given_up(order, run["id"])):
                self._retry(run)
        for order in list(self.orders.made.values()):  # callers go on ordering meanwhile
            if self.orders.state(order) == "in doubt":
                self._settle(order)

    def _settle(self, order: Order) -> None:
        package = Package.parse(next(e.body["package"] for e in self.orders.history(order) if e.kind == "frozen"))
        with self.ours.store() as store:
            doubts = [parcel for parcel in store.parcels(package.digest) if parcel.step is Step.UNKNOWN]
        for parcel in doubts:
            number, folder = next(
                (number, folder)
                for number, place in enumerate(package.destinations, 1)
                for folder in self.partner.seen
                if canonical(place.facts) == parcel.destination and place.path == str(folder)
            )
            name = parcel.name.decode()
            says = "--arrived" if name in self.partner.seen[folder] else "--send-again"
            about = ["--file", name, "--destination", str(number), says, "--comment", "the partner looked"]
            if self.ours.countersign("signoff", "settle", order.id, *about):
                self.settled[says] += 1

    def _given_up(self, order: Order, run: str) -> bool:
        """A run that had not even taken its order is told among those that belong to none."""
        told = [*self.orders.history(order), *self.ours.ledger.journey(RUNS)]
        return any(str(entry.once) in (f"found/given-up/{entry.journey}", f"found/given-up/{run}") for entry in told)

    def _retry(self, run: Mapping[str, Any]) -> None:
        scheduled = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}, "force": True}
        if self.ours.ask_once("POST", f"/flow_runs/{run['id']}/set_state", scheduled):
            self.retried[f"{run['state_name']}: {run['state']['message']}"[:200]] += 1


def _ended(run: Mapping[str, Any]) -> bool:
    return run["state_type"] in ("FAILED", "CRASHED")


def _age_seconds(run: Mapping[str, Any]) -> float:
    """How long it has been in its state."""
    return (datetime.now(UTC) - datetime.fromisoformat(run["state"]["timestamp"])).total_seconds()
