"""Measure ours against what a user would pick instead: ``make bench [BENCH=name]``, or ``BENCH="name --scale 0.01"`` for a rehearsal.

Prints for each bench a JSON line per peer and a table, and at the end how every goal stands. Ours and theirs run alternately on the same
servers, and every byte is verified after every turn. Seconds of one machine mean little; ratios within one run are what to quote, of a
machine that does nothing else. Exits with 1 if one of them broke; a goal that is not reached is told, and breaks nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor

from tests.bench.race import verdict

COPYING = "tests.bench.copying"
BENCHES = {
    "sftp-fetch-small": COPYING,
    "sftp-put-small": COPYING,
    "sftp-fetch-rtt": COPYING,
    "sftp-list": "tests.bench.listing",
    "sftp-fetch-large": COPYING,
    "sftp-put-large": COPYING,
    "ftps-fetch-large": COPYING,
    "ftps-put-large": COPYING,
    "ftps-fetch-small": COPYING,
    "ftps-put-small": COPYING,
    "trigger": "tests.bench.trigger",
    "trigger-resume": "tests.bench.trigger",
    **dict.fromkeys(
        ("intake-small", "intake-one-finding", "intake-medium", "intake-large", "intake-naive"), "tests.bench.intake"
    ),
    "plot": "tests.bench.plot",
    "release-many": "tests.bench.release_many",
    "ledger": "tests.bench.ledger",
    "checks": "tests.bench.checking",
}
"""Where each lives: a module whose ``main(rounds, name=, scale=)`` runs it and answers its ``Outcome``."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="make bench BENCH=", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bench", nargs="*", help=f"of: {', '.join(BENCHES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; medians are told")
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the files or bytes, for a rehearsal: 0.01")
    given = parser.parse_args()
    if unknown := [name for name in given.bench if name not in BENCHES]:
        sys.exit(f"no such bench: {', '.join(unknown)}; there are: {', '.join(BENCHES)}")
    verdicts, broken = dict[str, str](), False
    for name in given.bench or BENCHES:
        began = time.monotonic()
        try:
            verdicts[name] = _alone(name, given.rounds, given.scale)
        except Exception:  # noqa: BLE001 - whatever broke one, the others are measured
            traceback.print_exc()
            verdicts[name], broken = "BROKEN, see above", True
        print(f"{name}: all of it took {time.monotonic() - began:.0f} s", file=sys.stderr)
    print("\n".join(["| bench | ours beside the best peer |", "|---|---|", *(f"| {n} | {v} |" for n, v in verdicts.items())]))
    sys.exit(broken)


def _alone(name: str, rounds: int, scale: float) -> str:
    """Run a bench in a process of its own, so that it has only its own imports and memory."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(verdict, BENCHES[name], name, rounds, scale).result()


if __name__ == "__main__":
    main()
