"""The brake: whether a release is so far from its stream's usual ones that one more person must sign.

What is usual is the middle half of the last releases that were delivered (from the lower to the upper quartile): one outlier, which
somebody signed, does not make the next one usual.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blocks.outbound import Band, Brake

FEWEST = 3
"""Releases that were delivered before anything is usual. Until then only fixed bounds count."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much one release is."""

    files: int
    rows: int | None = None
    """Of all tables; None: somebody wants to know, and they could not be counted."""
    value: float | None = None
    """The sum of the agreed column, each number by its size whatever its sign; None likewise."""


def unusual(now: Amounts, before: Sequence[Amounts], terms: Brake) -> tuple[str, ...]:
    """Why one more person must sign, in words; empty if it is as usual. ``before`` is what was delivered, the newest first."""
    return tuple(dict.fromkeys(_unusual(now, before[: terms.releases], terms)))


def _unusual(now: Amounts, before: Sequence[Amounts], terms: Brake) -> Iterator[str]:
    if terms.files is not None:
        yield from _more("files", now.files, [one.files for one in before], terms.files)
    if terms.rows is not None:
        yield from _more("rows", now.rows, [one.rows for one in before], terms.rows)
    if terms.value is not None:
        yield from _more(f"in column {terms.value.column}", now.value, [one.value for one in before], terms.value)
    if terms.removed is not None and before:
        yield from _fewer("files", now.files, before[0].files, terms.removed)
        yield from _fewer("rows", now.rows, before[0].rows, terms.removed)


def _more(what: str, now: float | None, before: Sequence[float | None], terms: Band) -> Iterator[str]:
    if now is None:
        yield f"nobody could count what it has {what}" if what.startswith("in ") else f"nobody could count its {what}"
        return
    known = sorted(amount for amount in before if amount is not None)
    if terms.factor is not None and len(known) >= FEWEST:
        lower, upper = _quartile(known, 1), _quartile(known, 3)
        if now > terms.factor * upper:
            band = _number(upper) if lower == upper else f"{_number(lower)} to {_number(upper)}"
            yield f"{_number(now)} {what}, usually {band}"
    if terms.most is not None and now > terms.most:
        yield f"{_number(now)} {what}, above the bound of {_number(terms.most)}"


def _fewer(what: str, now: float | None, last: float | None, percent: float) -> Iterator[str]:
    if now is None:
        yield f"nobody could count its {what}"
    elif last and 100 * (last - now) > percent * last:
        yield f"{_number(last - now)} of {_number(last)} {what} are gone since the last release"


def _quartile(amounts: Sequence[float], nth: int) -> float:
    """By nearest rank: one of the amounts, which are sorted."""
    return amounts[(nth * len(amounts) + 3) // 4 - 1]


def _number(amount: float) -> str:
    """For people: ``1,200``, ``1,200.5``."""
    return f"{amount:,.2f}".rstrip("0").rstrip(".")
