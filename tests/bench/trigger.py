"""``trigger``: from ``create_flow_run`` to the first line of a flow; ``trigger-resume``: from a resume to the line after the hold.

Ours is the worker type ``countersign``, beside it Prefect's process worker: the same flows in checkouts of their own, the same server,
the same poll interval. Both are up all the time, and one run at a time is asked of one of them.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State

from tests.bench.cost import family
from tests.bench.race import Contender, Goal, Outcome, race
from tests.servers.prefect import client_of, resume, serve
from tests.worker.checkout import checkout, deploy, make_pool, worker

OURS, PEER = "countersign", "process"
NAMES = {OURS: "our worker", PEER: "Prefect's process worker"}
POLL_SECONDS = "1"
LONG = 300.0


@dataclass
class Works:
    """A worker at work."""

    api: SyncPrefectClient
    folder: Path
    look: UUID
    wait: UUID
    process: int

    def first_line(self) -> float:
        spent, place = _cpu(self.process), self._place()
        began = time.time()
        run = self.api.create_flow_run_from_deployment(self.look, parameters={"path": str(place)})
        seconds = float(_told(place)["began"]) - began
        _until(lambda: self._state(run.id).is_completed())
        time.sleep(
            2
        )  # so long a worker looks after a run that has ended; and neither is found at the same point of its poll each time
        print(f"  {_cpu(self.process) - spent:.2f} CPU seconds of the worker and the run", file=sys.stderr)
        return seconds

    def line_after_the_hold(self) -> float:
        place, again = self._place(), self._place()
        run = self.api.create_flow_run_from_deployment(self.wait, parameters={"path": str(place), "again": str(again)})
        _until(lambda: self._state(run.id).is_paused())
        _until(lambda: not Path(f"/proc/{_told(place)['pid']}").exists())
        time.sleep(2)
        began = time.time()
        assert resume(self.api, run.id, None) == "ACCEPT"
        seconds = float(_told(again)["at"]) - began
        _until(lambda: self._state(run.id).is_completed())
        return seconds

    def _state(self, run: UUID) -> State[Any]:
        state = self.api.read_flow_run(run).state
        assert state is not None and not (state.is_failed() or state.is_crashed()), state
        return state

    def _place(self) -> Path:
        return self.folder / f"told-{uuid4().hex}"


def _told(place: Path) -> dict[str, Any]:
    _until(place.exists)
    return dict(json.loads(place.read_text()))


def _cpu(process: int) -> float:
    """Seconds that a process and all that it has started have used."""
    return sum(one.cpu for one in family(process).values())


def _until(fits: Callable[[], bool]) -> None:
    give_up = time.monotonic() + LONG
    while not fits():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.02)


def main(rounds: int, *, name: str = "trigger", scale: float = 1.0) -> Outcome:
    """``scale`` changes nothing: it is one run at a time."""
    resumes = name == "trigger-resume"
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, ExitStack() as running:
        server = running.enter_context(serve(Path(scratch) / "prefect"))
        running.enter_context(client_of(server))
        api = running.enter_context(get_client(sync_client=True))
        turns, processes = {}, {}
        for kind in (OURS, PEER):
            folder = checkout(Path(scratch) / kind)
            make_pool(api, kind, kind)
            look, wait = (deploy(api, flow, kind, folder) for flow in ("look", "wait"))
            started = worker(server, kind, folder, kind=kind, PREFECT_WORKER_QUERY_SECONDS=POLL_SECONDS)
            works = Works(api, folder, look, wait, running.enter_context(started).pid)
            works.first_line()  # uncounted: it is up then
            processes[kind] = list(family(works.process))
            turns[kind] = works.line_after_the_hold if resumes else works.first_line
        ours, peer = (Contender(NAMES[kind], turn) for kind, turn in turns.items())
        work = "a resume to the line after the hold" if resumes else "create_flow_run to the first line of the flow"
        return race(name, work, ours, [peer], rounds=rounds, goal=Goal(4), processes=processes[OURS])
