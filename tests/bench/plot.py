"""``make bench BENCH=plot``: what an intake costs against the number of files and against their size, as pictures of the documentation.

``docs/images/speed-files.svg`` is from 100 to 20,000 files of 4 KiB, ``docs/images/speed-size.svg`` from 4 KiB to 4 MiB a file. Both show
ours, a whole flow run, beside the peers of ``intake`` that look at every row; both axes are logarithmic. The points are printed as JSON.
Drawn by hand, as so little is drawn: no library for it is among what we need.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TypeAlias

from tests.bench.intake import KIB, LOADS, MIB, ROOT, course
from tests.bench.race import Contender, Failed, cost_of

IMAGES = ROOT / "docs" / "images"
SMALL = LOADS["intake-small"]
FILES = (100, 500, 1000, 5000, 20_000)
SIZES = {4 * KIB: 500, 64 * KIB: 300, MIB: 60, 4 * MIB: 16}
"""Bytes of a file, and how many files are brought in to tell what one costs."""

MEASURED_ONCE = 1000
"""From so many files on one round is enough."""

Curves: TypeAlias = dict[str, list[tuple[float, float]]]
"""Who -> points: files or bytes, and seconds or milliseconds."""


@dataclass(frozen=True)
class Plotted:
    """The pictures that were drawn."""

    pictures: tuple[Path, ...]

    @property
    def verdict(self) -> str:
        return f"drawn: {', '.join(path.name for path in self.pictures)}"


def main(rounds: int, *, name: str = "plot", scale: float = 1.0, images: Path = IMAGES) -> Plotted:
    """Measure and draw both, which takes about five minutes; ``scale`` makes do with fewer files."""
    by_files, by_size = Curves(), Curves()
    numbers = dict.fromkeys(max(2, int(files * scale)) for files in FILES)
    # One installation for all points: the ledger grows as it does in use.
    with course(replace(SMALL, files=max(numbers))) as run:
        everybody = [one for one in (run.contender(), *run.scripts()) if one.turn is not None]
        for one in everybody:
            run.uncounted(one)
        for files in numbers:
            run.load = replace(SMALL, files=files)
            for who, seconds in _measured(everybody, 1 if files >= MEASURED_ONCE else rounds):
                by_files.setdefault(who, []).append((files, seconds))
        for size, many in SIZES.items():
            run.load = replace(SMALL, size=size, files=max(2, int(many * scale)))
            for who, seconds in _measured(everybody, rounds):
                by_size.setdefault(who, []).append((size, seconds / run.load.files * 1000))
    shown = {size: f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB" for size in SIZES}
    pictures = (images / "speed-files.svg", images / "speed-size.svg")
    images.mkdir(parents=True, exist_ok=True)
    for path, picture, curves in (
        (
            pictures[0],
            svg("Seconds for an intake, by its number of files of 4 KiB", by_files, {n: f"{n:,}" for n in numbers}),
            by_files,
        ),
        (pictures[1], svg("Milliseconds for each file of an intake, by its size", by_size, shown), by_size),
    ):
        path.write_text(picture, encoding="utf-8")
        print(json.dumps({"picture": path.name, "points": curves}))
    return Plotted(pictures)


def _measured(everybody: Sequence[Contender], rounds: int) -> Iterator[tuple[str, float]]:
    """Medians, by turns. A peer that fails has no point there; what ours, the first, does wrong is raised."""
    seconds: dict[str, list[float]] = {}
    for number in range(rounds):
        first = number % len(everybody)
        for one in (*everybody[first:], *everybody[:first]):
            assert one.turn is not None
            try:
                seconds.setdefault(one.name, []).append(cost_of(one.turn()).seconds)
            except Failed as failed:
                if one is everybody[0]:
                    raise
                print(f"{one.name}: {failed}", file=sys.stderr)
    return ((who, statistics.median(some)) for who, some in seconds.items() if some)


# ----------------------------------------------------------------------------------------------------- drawing

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 60, 32, 44, 76
WIDEST = 7
"""So wide a letter is on average, or less."""
COLOURS = ("#0b5fff", "#c2410c", "#64748b", "#15803d")
"""Ours first."""


def svg(title: str, curves: Curves, ticks: Mapping[int, str]) -> str:
    """A picture with both axes logarithmic. ``ticks``: values of the axis below, and how each is written."""
    values = [value for points in curves.values() for _, value in points]
    low, high = (10.0**bound for bound in (math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))))
    across = _scale(min(ticks), max(ticks), LEFT, WIDTH - RIGHT)
    up = _scale(low, max(high, low * 10), HEIGHT - BOTTOM, TOP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" font-size="16">{escape(title)}</text>',
    ]
    for power in range(round(math.log10(low)), round(math.log10(max(high, low * 10))) + 1):
        y = up(10.0**power)
        lines.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#d4d4d8"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>')
    for value, written in ticks.items():
        lines.append(f'<text x="{across(value):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{escape(written)}</text>')
    legend = LEFT
    for number, (who, points) in enumerate(curves.items()):
        colour, at = COLOURS[number % len(COLOURS)], [(across(x), up(y)) for x, y in sorted(points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{3 if number == 0 else 2}"/>')
        lines += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in at]
        lines.append(f'<rect x="{legend}" y="{HEIGHT - 32}" width="14" height="14" fill="{colour}"/>')
        lines.append(f'<text x="{legend + 20}" y="{HEIGHT - 20}">{escape(who)}</text>')
        legend += 44 + WIDEST * len(who)
    return "\n".join([*lines, "</svg>", ""])


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Where a value lies between two places, logarithmically."""
    span = math.log(high / low) or 1.0
    return lambda value: start + (end - start) * math.log(value / low) / span
