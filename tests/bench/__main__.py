"""Measure ours against what a user would pick instead: ``make bench [BENCH=name]``, or ``BENCH="name --scale 0.01"`` for a rehearsal.

Prints a JSON line per peer, ``{"bench","ours_s","peer","peer_s","ratio","peak_mib"}``: seconds are medians over the rounds, ratio is
peer_s / ours_s, peak_mib is our process's. Ours and theirs run alternately on the same servers, and every byte is verified after
every run. Seconds of one machine mean little; ratios within one run are what to quote.
"""

from __future__ import annotations

import argparse
import importlib
import sys

COPYING = "tests.bench.copying"
BENCHES = {
    "intake-small": "tests.bench.intake_small",
    "sftp-small": COPYING,
    "sftp-large": COPYING,
    "ftps-large": COPYING,
    "ftps-small": COPYING,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="make bench BENCH=", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bench", nargs="*", help=f"one of: {', '.join(BENCHES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; medians are told")
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the files or bytes, for a rehearsal: 0.01")
    given = parser.parse_args()
    if unknown := [name for name in given.bench if name not in BENCHES]:
        sys.exit(f"no such bench: {', '.join(unknown)}; there are: {', '.join(BENCHES)}")
    for name in given.bench or BENCHES:
        importlib.import_module(BENCHES[name]).main(given.rounds, name=name, scale=given.scale)


if __name__ == "__main__":
    main()
