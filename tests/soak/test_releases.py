"""Releases while everything of ours is killed again and again, and releases that wait in great number."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from blocks.seals import signed as sealed
from blocks.sender import Sender
from deployments.ssh_signatures import signature_holds
from tasks.rules.certificate import verified, verify
from tests.servers.openssh import OpenSsh
from tests.soak.installation import ONE, PAIR, PARTNER, Installation, installation
from tests.soak.outside import REJECTED, SIGNED, UNANSWERED, Approvers, Operators, Order, Orders, Partner

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3500)]

KILLS = int(os.environ.get("COUNTERSIGN_SOAK_KILLS", "100"))
SEED = int(os.environ.get("COUNTERSIGN_SOAK_SEED", str(random.SystemRandom().randrange(10**6))))
SECONDS = 60 * int(os.environ.get("COUNTERSIGN_SOAK_MINUTES", "45"))
KILLING_SECONDS, DRAINING_SECONDS = 0.6 * SECONDS, 0.4 * SECONDS
PAUSE_SECONDS = 0.5 * KILLING_SECONDS / KILLS
"""Between kills, on average. What is killed all the time never gets to where a kill hurts; the other half is waiting for that moment."""
AT_ONCE = 6
"""Orders under way at a time."""
VICTIMS = {"run": 22, "worker": 6, "worker and its runs": 6, "sender": 56, "prefect": 6, "machine": 4}
"""How often each is killed. The Prefect server takes half a minute to start, and nothing moves meanwhile."""


@dataclass
class Killer:
    """SIGKILL, when it hurts."""

    ours: Installation
    partner: Partner
    chance: random.Random
    kills: Counter[str] = field(default_factory=Counter)

    def strike(self) -> None:
        victim = self.chance.choices([*VICTIMS], [*VICTIMS.values()])[0]
        moment, busy = self.chance.random(), self.chance.random() < 0.7
        if getattr(self, "_" + victim.replace(" ", "_"))(moment, busy):
            self.kills[victim] += 1

    def _run(self, moment: float, busy: bool) -> bool:
        """A flow run's process, somewhere between its start and its end."""
        if not _until(lambda: bool(self.ours.running), 15):
            return False
        time.sleep(6 * moment)
        running = sorted(self.ours.running)
        return bool(running) and _kill(running[int(moment * len(running))])

    def _worker(self, moment: float, busy: bool) -> bool:
        """The worker alone: its runs go on, and nobody looks after them."""
        return self.ours.services["worker"].kill()

    def _worker_and_its_runs(self, moment: float, busy: bool) -> bool:
        killed = self.ours.services["worker"].kill()
        for pid in self.ours.running:
            _kill(pid)
        return killed

    def _sender(self, moment: float, busy: bool) -> bool:
        """Mostly while it sends."""
        if busy:
            self.partner.busy.clear()
            self.partner.busy.wait(6)
            time.sleep(0.3 * moment)
        return self.ours.services["sender"].kill()

    def _prefect(self, moment: float, busy: bool) -> bool:
        # Not while it starts: it would never get to do anything.
        return self.ours.services["prefect"].up and self.ours.services["prefect"].kill()

    def _machine(self, moment: float, busy: bool) -> bool:
        """All at once."""
        if not self.ours.services["prefect"].up:
            return False
        for service in self.ours.services.values():
            service.kill()
        for pid in self.ours.running:
            _kill(pid)
        return True


def _kill(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def _until(holds: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def test_nothing_is_lost_or_sent_twice_whatever_is_killed(tmp_path: Path, openssh: OpenSsh, ecm: Mapping[str, Any]) -> None:
    print(f"\nseed {SEED}: repeat with COUNTERSIGN_SOAK_SEED={SEED}", flush=True)
    signed: set[str] = set()
    partner = Partner(openssh.root / "soak", signed)
    with installation(tmp_path / "home", openssh, ecm, {"collecting": partner.collecting, "leaving": partner.leaving}) as ours:
        orders = Orders(ours, SEED)
        approvers, operators = Approvers(ours, orders, signed), Operators(ours, orders, partner)
        ours.repeat(partner.look, 0.002)
        ours.repeat(approvers.look, 0.7)
        ours.repeat(operators.look, 10)
        killer = Killer(ours, partner, random.Random(SEED))
        began = time.monotonic()

        def report(what: str) -> None:
            starts = {name: service.starts for name, service in ours.services.items()}
            print(
                f"{time.monotonic() - began:5.0f} s {what}: {killer.kills.total()} kills {dict(killer.kills)}, "
                f"{len(orders.made)} orders {dict(orders.states())}, {len(partner.seen[partner.leaving])} files, starts {starts}, "
                f"answers {dict(approvers.answers)}, retried {operators.retried.total()}, settled {dict(operators.settled)}",
                flush=True,
            )

        def going_on() -> None:
            if ours.faults:
                raise ours.faults[0]
            assert not partner.wrong, partner.wrong

        reported = 0.0
        while killer.kills.total() < KILLS and time.monotonic() - began < KILLING_SECONDS:
            while sum(not orders.at_rest(order) for order in orders.made.values()) < AT_ONCE:
                orders.place()
            time.sleep(min(4 * PAUSE_SECONDS, killer.chance.expovariate(1 / PAUSE_SECONDS)))
            killer.strike()
            going_on()
            if time.monotonic() - reported > 20:
                report("killing")
                reported = time.monotonic()
        report("no more kills")
        drained = time.monotonic() + DRAINING_SECONDS
        while not all(orders.at_rest(order) for order in orders.made.values()) and time.monotonic() < drained:
            going_on()
            time.sleep(1)
            if time.monotonic() - reported > 20:
                report("draining")
                reported = time.monotonic()
        report("at rest")
        for why, often in list(operators.retried.items()):
            print(f"      retried {often}: {why}")
        going_on()
        Audit(ours, orders, partner).all_is_well()
        assert killer.kills.total() >= KILLS, "too few kills in the time there is: another machine, or fewer of them"


@dataclass
class Audit:
    """What must hold when all is over."""

    ours: Installation
    orders: Orders
    partner: Partner

    def all_is_well(self) -> None:
        made = list(self.orders.made.values())
        told = self.ours.ledger.verify()
        print(f"      ledger: {told.journeys} journeys, {told.entries} entries, chain intact")
        restless = {order.id: (order.end, self.orders.state(order)) for order in made if not self.orders.at_rest(order)}
        assert not restless, restless
        for order in made:
            self._has_its_end(order)
        self._nothing_else()
        self._are_certified([order for order in made if order.end == SIGNED])

    def _has_its_end(self, order: Order) -> None:
        there = {folder: {n for n in seen if n.startswith(f"{order.id}.")} for folder, seen in self.partner.seen.items()}
        closed = [entry.body["state"] for entry in self.orders.history(order) if entry.kind == "closed"]
        if order.end == UNANSWERED:
            run = self.ours.ask("GET", f"/flow_runs/{order.run}")
            assert (closed, run["state_name"], any(there.values())) == ([], "Suspended", False), order
        elif order.end == REJECTED:
            assert (closed, any(there.values())) == (["Rejected"], False), (order, closed, there)
        else:
            assert len(closed) == 1 and closed[0].startswith("Delivered"), (order, closed)
            for folder, names in there.items():
                assert names == order.names, (order, folder, names)
                for name, digest in order.documents.items():
                    assert self.partner.seen[folder][f"{order.id}.{name}"].digest == digest, (order, folder, name)

    def _nothing_else(self) -> None:
        """Every file belongs to an order that was signed, stands there once, and nothing is left over from any attempt."""
        names = {name for order in self.orders.made.values() if order.end == SIGNED for name in order.names}
        for seen in self.partner.seen.values():
            assert set(seen) <= names, set(seen) - names
        assert len(list(self.partner.collected.iterdir())) == len(self.partner.seen[self.partner.collecting])
        standing = {path.name for path in self.partner.leaving.iterdir()}
        assert standing == set(self.partner.seen[self.partner.leaving]), "temporary names are left"
        assert not list(self.partner.collecting.iterdir())

    def _are_certified(self, orders: list[Order]) -> None:
        """One certificate for each, filed once, in one unbroken chain for each stream; it holds without us."""
        with Sender(self.ours.socket) as client:
            key = client.health().public
        for stream in (ONE, PAIR):
            before: str | None = None
            links = self.ours.ledger.journey(f"certificates.{PARTNER}.{stream}")
            by_release = {link.body["release"]: link.body["certificate"] for link in links}
            chained = [order for order in orders if order.stream == stream]
            histories = {h[0].journey: (h, order) for order in chained for h in [self.orders.history(order)]}
            assert [link.body["release"] for link in links if link.body["release"] in histories] == [*by_release], stream
            for journey, certificate in by_release.items():
                history, order = histories[journey]
                (text,) = [e.body["text"] for e in history if e.kind == "sealed" and e.body["certificate"] == certificate]
                documents = {f"{order.id}.{name}": digest for name, digest in order.documents.items()}
                checks = verify(
                    text, public_key=key, sealed=sealed, signed=signature_holds, documents=documents, previous=before
                )
                assert verified(checks), [check for check in checks if not check.passed]
                before = text
                with self.ours.repository() as session:
                    filed = sorted(kept.name.rpartition(".")[2] for kept in session.look(("Soak", "Evidence", order.id)))
                assert filed == ["html", "json", "json"], (order, filed)
            assert len(links) == len(chained), (stream, len(links), len(chained))
        print(f"      {len(orders)} certificates verified, each chain unbroken")
