"""A race: ours and theirs by turns on the same work, told as a table and as lines of JSON.

A bench makes the world in which the work is done, and says for each contender what one turn is. Everything else is the same for all
benches and is done here: who begins changes from round to round, medians decide, a contender that fails is told with its reason, and our
memory is what the kernel saw at most during our own turns.

::

    bench ── Contender(name, turn) ...  ─▶ race ─▶ {"bench", "ours_s", "peer", "peer_s", "ratio", "spread", "peak_mib"}, table

A peer that took far longer than another in the first round cannot be the best any more: it is not asked again, and its one time is told.

Where the work's cost is known, the lines also have ``ours_cpu_s`` and ``server_cpu_s``, what our turn took of the CPU and what the
servers took for it, and ``peer_cpu_s`` and ``peer_server_cpu_s``; and a goal that was missed is told with what these leave room for.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from tests.bench.cost import Cost, keep_orphans, peak_mib

Turn: TypeAlias = Callable[[], float | Cost]
"""A contender does all of the work once: it makes ready, times its own part, verifies every byte, tidies up, and answers its seconds,
with what they cost where that is known. Raises ``Failed`` for what it could not do or did not do right."""


FAR_SLOWER = 4
"""So many times as long as the fastest peer that counts: then one round of it is enough."""


class Failed(Exception):
    """A contender did not do what it was asked, or did it wrong; how."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Who takes part, and how it does the work.

    Attributes:
        turn: None for one that cannot take part here, which ``lacks`` says why.
        cold: The same as a process that starts for it. Told beside the warm time, and decides nothing.
        counts: False for one that is only shown: the goal does not speak of it.
    """

    name: str
    turn: Turn | None
    lacks: str = ""
    cold: Turn | None = None
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Goal:
    """What we mean to reach: so many times faster than the best peer that counts, in no more memory."""

    ratio: float
    peak_mib: float | None = None

    @property
    def shown(self) -> str:
        return f"at least {self.ratio:g}x" + (f", peak under {self.peak_mib:g} MiB" if self.peak_mib else "")


@dataclass(slots=True)
class Line:
    """How one contender did: the cost of each round, or why there are none."""

    contender: Contender
    costs: list[Cost] = field(default_factory=list)
    problem: str = ""
    cold: float | None = None
    once: bool = False
    """It was far slower than another peer in the first round, and is not asked again."""

    @property
    def name(self) -> str:
        return self.contender.name

    @property
    def shown(self) -> str:
        name = self.name if self.contender.counts else f"{self.name} (only shown)"
        return f"{name} (one round)" if self.once else name

    @property
    def seconds(self) -> list[float]:
        return [cost.seconds for cost in self.costs]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def cpu(self) -> tuple[float, float] | None:
        """Medians of CPU seconds: its own, the servers'. None where that is not known."""
        own = [cost.own_cpu for cost in self.costs if cost.own_cpu is not None]
        servers = [cost.server_cpu for cost in self.costs if cost.server_cpu is not None]
        return (statistics.median(own), statistics.median(servers)) if own and servers else None

    @property
    def spread(self) -> float:
        """From its fastest to its slowest round, as a part of its median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


@dataclass(slots=True)
class Outcome:
    """A race that was run."""

    bench: str
    work: str
    goal: Goal | None
    ours: Line
    theirs: list[Line]
    peak_mib: float | None

    @property
    def best(self) -> Line | None:
        """The fastest peer that counts; None if none of them did the work."""
        return min(
            (line for line in self.theirs if line.seconds and line.contender.counts), key=lambda line: line.median, default=None
        )

    @property
    def facts(self) -> list[dict[str, Any]]:
        """A line per peer: seconds are medians, ``ratio`` is peer_s / ours_s, ``spread`` is ours, fastest to slowest over the median."""
        peak = None if self.peak_mib is None else round(self.peak_mib, 1)
        lines = []
        for line in self.theirs:
            if line.seconds:
                about = {"bench": self.bench, "ours_s": round(self.ours.median, 3), "peer": line.name}
                result = {"peer_s": round(line.median, 3), "ratio": round(line.median / self.ours.median, 2)}
                cpu = {
                    **_named(self.ours.cpu, "ours_cpu_s", "server_cpu_s"),
                    **_named(line.cpu, "peer_cpu_s", "peer_server_cpu_s"),
                }
                lines.append({**about, **result, "spread": round(self.ours.spread, 2), "peak_mib": peak, **cpu})
        return lines

    @property
    def verdict(self) -> str:
        """In a line: how the goal stands."""
        if self.best is None:
            return "no peer did this work here"
        said = f"{self.best.median / self.ours.median:.2f}x of {self.best.name}"
        if self.peak_mib is not None:
            said += f", peak {self.peak_mib:.0f} MiB"
        if self.goal is None:
            return said
        return f"{said}; goal: {self.goal.shown}: {'reached' if self.reached else f'NOT reached{self._limit}'}"

    @property
    def reached(self) -> bool:
        if self.goal is None or self.best is None:
            return False
        fast = self.best.median / self.ours.median >= self.goal.ratio
        return fast and (self.goal.peak_mib is None or (self.peak_mib is not None and self.peak_mib < self.goal.peak_mib))

    @property
    def _limit(self) -> str:
        """How near the limit we are: no work can be done in less time than its CPU seconds, shared out among the cores."""
        assert self.goal is not None and self.best is not None
        if self.ours.cpu is None:
            return ""
        own, servers = self.ours.cpu
        cores = len(os.sched_getaffinity(0))
        return (
            f" (it would take {self.best.median / self.goal.ratio:.2f} s; of our {self.ours.median:.2f} s on {cores} cores the servers "
            f"alone used {servers:.2f} s of CPU and we {own:.2f} s, together no less than {(own + servers) / cores:.2f} s)"
        )

    @property
    def table(self) -> str:
        """As Markdown. A ratio is theirs to ours: 2.00 means that ours took half the time."""
        rows = [
            f"{self.bench}: {self.work}; {len(self.ours.seconds)} rounds, by turns, every byte verified",
            "",
            "| | median s | fastest - slowest | ratio | CPU s: its own, the servers' | as a process that starts |",
            "|---|---|---|---|---|---|",
        ]
        for line in (self.ours, *self.theirs):
            if line.seconds:
                ratio = "" if line is self.ours else f"{line.median / self.ours.median:.2f}"
                cold = "" if line.cold is None else f"{line.cold:.2f} s"
                spread = f"{min(line.seconds):.2f} - {max(line.seconds):.2f}"
                cpu = "" if line.cpu is None else "{:.2f}, {:.2f}".format(*line.cpu)
                rows.append(f"| {line.shown} | {line.median:.2f} | {spread} | {ratio} | {cpu} | {cold} |")
            else:
                rows.append(f"| {line.shown} | - | - | {line.problem} | | |")
        return "\n".join([*rows, "", self.verdict, ""])


def race(
    bench: str,
    work: str,
    ours: Contender,
    theirs: Sequence[Contender],
    *,
    rounds: int,
    goal: Goal | None = None,
    processes: Sequence[int] = (),
    colds: bool = True,
) -> Outcome:
    """Let them take turns, and print what came out. What ours does wrong is raised; what theirs does wrong is told instead of a time.

    Args:
        work: What is done, in a few words, for the table.
        processes: Ids of those that do our work, whose peaks are added up; by default this one. Unless a cost tells its peak.
        colds: False leaves out the cold starts.
    """
    lines = [Line(one, problem=one.lacks) for one in (ours, *theirs)]
    taking_part = [line for line in lines if not line.problem]
    peak = 0.0
    for number in range(rounds):
        first = number % len(taking_part)
        for line in taking_part[first:] + taking_part[:first]:
            if line.problem or line.once:
                continue
            if line.contender is ours:
                with_memory = _HighWater(processes or [os.getpid()])
                cost = _taken(line, ours.turn)
                line.costs.append(cost)
                peak = max(peak, with_memory.mib() if cost.peak_mib is None else cost.peak_mib)
            else:
                try:
                    line.costs.append(_taken(line, line.contender.turn))
                except Failed as failed:
                    line.costs, line.problem = [], str(failed)
                    print(f"{bench}: {line.name}: {failed}", file=sys.stderr)
        if number == 0:
            _spare(lines[1:])
    for line in taking_part:
        if colds and line.contender.cold is not None and not line.problem:
            line.cold = _taken(line, line.contender.cold).seconds
    outcome = Outcome(bench, work, goal, lines[0], lines[1:], peak or None)
    for facts in outcome.facts:
        print(json.dumps(facts), flush=True)
    print(outcome.table, flush=True)
    return outcome


def _spare(theirs: Sequence[Line]) -> None:
    fastest = min((line.median for line in theirs if line.seconds and line.contender.counts), default=None)
    for line in theirs:
        line.once = fastest is not None and bool(line.seconds) and line.median > FAR_SLOWER * fastest


def verdict(module: str, bench: str, rounds: int, scale: float) -> str:
    """Run one bench where it lives, and tell how its goal stands."""
    keep_orphans()
    outcome: Outcome = importlib.import_module(module).main(rounds, name=bench, scale=scale)
    return outcome.verdict


def _taken(line: Line, turn: Turn | None) -> Cost:
    assert turn is not None
    cost = cost_of(turn())
    print(f"{line.name}: {cost}", file=sys.stderr)
    return cost


def cost_of(told: float | Cost) -> Cost:
    """What a turn answered, as a cost."""
    return told if isinstance(told, Cost) else Cost(told)


def _named(cpu: tuple[float, float] | None, *names: str) -> dict[str, float]:
    return {} if cpu is None else {name: round(seconds, 3) for name, seconds in zip(names, cpu, strict=True)}


class _HighWater:
    """The most memory that processes have in use from now on, as the kernel sees it (proc(5): ``clear_refs``)."""

    def __init__(self, processes: Sequence[int]) -> None:
        self._of = processes
        for process in processes:
            Path(f"/proc/{process}/clear_refs").write_text("5")

    def mib(self) -> float:
        return sum(peak_mib(process) for process in self._of)
