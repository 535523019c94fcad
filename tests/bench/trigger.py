"""``trigger``: from ``create_flow_run`` to the first line of a flow, and from a resume to the line after the hold.

Ours is the worker type ``countersign``, beside it Prefect's process worker: the same flows in the same checkout, the same server, the
same poll interval. Both work all the time and are asked by turns.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import SyncPrefectClient, get_client

from tests.servers.prefect import client_of, resume, serve
from tests.worker.checkout import checkout, deploy, make_pool, worker

KINDS = ("countersign", "process")
POLL_SECONDS = "1"
LONG = 300.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Contender:
    """One worker, and what was measured of it, in seconds."""

    kind: str
    api: SyncPrefectClient
    folder: Path
    look: UUID
    wait: UUID
    worker: int
    """Its process id."""
    begins: list[float] = field(default_factory=list)
    goes_on: list[float] = field(default_factory=list)
    spends: list[float] = field(default_factory=list)
    """CPU seconds of the worker and all its processes for a run that does nothing."""

    def round(self) -> None:
        spent, place = cpu_seconds(self.worker), self._place()
        began = time.time()
        run = self.api.create_flow_run_from_deployment(self.look, parameters={"path": str(place)})
        self.begins.append(_told(place)["began"] - began)
        _until(lambda: _state(self.api, run.id).is_final())
        time.sleep(2)  # a worker looks after a process that has ended
        self.spends.append(cpu_seconds(self.worker) - spent)

        place, again = self._place(), self._place()
        run = self.api.create_flow_run_from_deployment(self.wait, parameters={"path": str(place), "again": str(again)})
        _until(lambda: _state(self.api, run.id).is_paused())
        _until(lambda: not Path(f"/proc/{_told(place)['pid']}").exists())
        began = time.time()
        assert resume(self.api, run.id, None) == "ACCEPT"
        self.goes_on.append(_told(again)["at"] - began)
        _until(lambda: _state(self.api, run.id).is_final())

    def _place(self) -> Path:
        return self.folder / f"told-{uuid4().hex}"


def _state(api: SyncPrefectClient, run: UUID) -> Any:
    return api.read_flow_run(run).state


def _told(place: Path) -> dict[str, Any]:
    _until(place.exists)
    return dict(json.loads(place.read_text()))


def _until(fits: Callable[[], bool]) -> None:
    give_up = time.monotonic() + LONG
    while not fits():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.02)


def cpu_seconds(process: int) -> float:
    """What a process has used and all that it has started, those that have ended too."""
    every: dict[int, tuple[int, float]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            told = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        every[int(entry.parent.name)] = int(told[1]), sum(map(int, told[11:15])) / _TICKS

    def all_of(one: int) -> float:
        return every[one][1] + sum(all_of(child) for child, (parent, _) in every.items() if parent == one)

    return all_of(process)


def main(rounds: int, *, name: str = "trigger", scale: float = 1.0) -> None:
    """``scale`` changes nothing: it is one run at a time."""
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, ExitStack() as running:
        server = running.enter_context(serve(Path(scratch) / "prefect"))
        running.enter_context(client_of(server))
        api = running.enter_context(get_client(sync_client=True))
        contenders = []
        for kind in KINDS:
            folder = checkout(Path(scratch) / kind)
            make_pool(api, kind, kind)
            look, wait = (deploy(api, flow, kind, folder) for flow in ("look", "wait"))
            works = worker(server, kind, folder, kind=kind, PREFECT_WORKER_QUERY_SECONDS=POLL_SECONDS)
            contenders.append(Contender(kind, api, folder, look, wait, running.enter_context(works).pid))
        for contender in contenders:  # once uncounted: until it is up, and has asked for the first time
            contender.round()
            for measured in (contender.begins, contender.goes_on, contender.spends):
                measured.clear()
        for _ in range(rounds):
            for contender in contenders:
                contender.round()
                print(f"{contender.kind}: {contender.begins[-1]:.2f} s, {contender.goes_on[-1]:.2f} s", file=sys.stderr)
        ours, peer = contenders
        tell(f"{name} first line", ours.begins, peer.begins)
        tell(f"{name} resume", ours.goes_on, peer.goes_on)
        tell(f"{name} cpu", ours.spends, peer.spends)


def tell(bench: str, ours: list[float], peer: list[float]) -> None:
    ours_s, peer_s = statistics.median(ours), statistics.median(peer)
    line = {
        "bench": bench,
        "ours_s": round(ours_s, 2),
        "peer": "Prefect's process worker",
        "peer_s": round(peer_s, 2),
        "ratio": round(peer_s / ours_s, 2),
        "spread": [round(seconds, 2) for seconds in (min(ours), max(ours), min(peer), max(peer))],
        "peak_mib": None,
    }
    print(json.dumps(line))
