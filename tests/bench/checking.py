"""``checks``: price lists in the spool are judged, beside pandera over pandas and over polars with the same five columns and rules.

All look at every row of all files, and must say of the one bad cell which file, row and column it is. Ours also looks at encoding,
quotes and the number of fields in each line, reads frames of 4 MiB, and makes a verdict for each document; theirs reads all files
into one frame with the file as a column. ``polars without pandera`` is the least that polars costs: it says no rule and no value.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blocks.values import Document, Inbound
from tasks import tables
from tests.bench.copying import roomy
from tests.bench.cost import Cost, Watch
from tests.bench.intake import KIB, MIB, PEERS, Warm, price_list
from tests.bench.peers.checking import WAYS
from tests.bench.race import Contender, Failed, Outcome, race
from tests.environment import NotMade, python_of

TIMES = 3
"""So often a turn does the work: once takes too little to be told from nothing in CPU seconds, which the kernel counts in hundredths."""
_GOOD, _BAD = b".50,2026-12-01\n", b".x0,2026-12-01\n"


@dataclass(frozen=True, slots=True)
class Load:
    """What is checked. ``bad``: in the middle of the middle file a price is no number."""

    files: int
    size: int
    bad: bool = False

    @property
    def shown(self) -> str:
        size = f"{self.size / MIB:g} MiB" if self.size >= MIB else f"{self.size / KIB:g} KiB"
        return f"{TIMES} times {self.files:,} price lists x {size}, {'one bad cell' if self.bad else 'all good'}"


LOADS: Mapping[str, Load] = {
    "small": Load(1000, 4 * KIB),
    "small, one bad": Load(1000, 4 * KIB, bad=True),
    "medium": Load(20, MIB),
    "medium, one bad": Load(20, MIB, bad=True),
}


def main(rounds: int, *, name: str = "checks", scale: float = 1.0) -> Outcome:
    """The race that goes worst for ours."""
    outcomes = []
    with entered() as contenders, tempfile.TemporaryDirectory(prefix="bench-", dir=roomy(64 * MIB)) as scratch:
        for load, whole in LOADS.items():
            part = replace(whole, files=max(2, int(whole.files * scale)))
            outcomes.append(run(Path(scratch) / load, part, rounds, f"{name} {load}", contenders))
    return min(outcomes, key=lambda one: one.best.median / one.ours.median if one.best else float("inf"))


@contextmanager
def entered() -> Iterator[Mapping[str, Warm | str]]:
    """The peers' processes by name, or why there is none, while the block runs."""
    with ExitStack() as open_until:
        found: dict[str, Warm | str] = {}
        for name in WAYS:
            try:
                python = str(python_of("peers", PEERS / "requirements.txt")) if "polars" in name else sys.executable
            except NotMade as trouble:
                found[name] = str(trouble)
            else:
                found[name] = open_until.enter_context(Warm.started(python, str(PEERS / "checking.py"), name))
        yield found


def run(base: Path, load: Load, rounds: int, bench: str, contenders: Mapping[str, Warm | str]) -> Outcome:
    """A race over files that are made for it. Everybody takes a turn before, which is not counted."""
    paths, bad = made(base, load)

    def contender(name: str, warm: Warm | str) -> Contender:
        if isinstance(warm, str):
            return Contender(name, None, warm)
        return Contender(name, lambda: theirs(warm, paths, bad), counts=not name.endswith("without pandera"))

    everybody = [Contender("ours", lambda: ours(paths, bad)), *(contender(*one) for one in contenders.items())]
    for one in everybody:
        if one.turn is not None:
            one.turn()
    return race(bench, load.shown, everybody[0], everybody[1:], rounds=rounds)


def made(base: Path, load: Load) -> tuple[list[Path], list[list[Any]]]:
    """The files, and what is bad in them: file, row and column."""
    base.mkdir()
    paths, middle = [base / f"prices_{number:06d}.csv" for number in range(load.files)], load.files // 2
    bad: list[list[Any]] = []
    for number, path in enumerate(paths):
        content = b"".join(price_list(number, load.size))
        if load.bad and number == middle:
            at = content.index(_GOOD, len(content) // 2)
            content = content[:at] + _BAD + content[at + len(_GOOD) :]
            bad.append([number, content.count(b"\n", 0, at) + 1, "price"])
        path.write_bytes(content)
    return paths, bad


def ours(paths: Sequence[Path], bad: list[list[Any]]) -> Cost:
    """One turn. Raises ``Failed`` if it finds other cells than those."""
    terms = Inbound.model_validate(
        {
            "endpoint": "drop",
            "folder": "/out",
            "classify": [{"pattern": ".*", "doctype": "price-list"}],
            "target": {"repository": "kept", "folder": "Prices"},
        }
    )
    # Only its path, name and size are looked at: the digest of what is in the spool is known.
    documents = [
        Document(f"{place:06d}", path.name.encode(), path.stat().st_size, "", path) for place, path in enumerate(paths)
    ]
    with Watch() as watch:
        for _ in range(TIMES):
            judged = tables.judge(documents, terms)
    return _as_expected(
        [[place, one.row, one.column] for place, (_, verdict) in enumerate(judged) for one in verdict.findings], bad, watch
    )


def theirs(warm: Warm, paths: Sequence[Path], bad: list[list[Any]]) -> Cost:
    """The same of a peer."""
    with Watch() as watch:
        for _ in range(TIMES):
            told = warm.bring({"files": [str(path) for path in paths]})
    return _as_expected(told["bad"], bad, watch)


def _as_expected(found: list[list[Any]], bad: list[list[Any]], watch: Watch) -> Cost:
    if found != bad:
        raise Failed(f"it found {found}, and {bad} is wrong")
    return watch.cost
