"""The difference to a stream's last release: which documents are new, changed or gone, and what changed in their rows.

Rows are tuples of texts. Whoever reads the documents may split large tables into parts, such that rows which have the last of the
``keys`` in common are in one part; what is found in the parts is then added up.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, TypeAlias

from pydantic import TypeAdapter

from blocks.outbound import Destination, PackageFile, shortened
from blocks.values import shown
from tasks.doctypes.base import Kind, Table

Row: TypeAlias = tuple[str, ...]

MOST_CHANGES = 3
"""Changed cells kept of one document, the biggest."""
MOST_LISTED = 50
"""Documents whose changes are written out."""
_MOST_CHARACTERS = 80
MOST_IN_CELL = 40
"""Characters of a changed cell that are told."""
_ALIKE = 10
"""Of these, so many of what is the same in front of the first difference."""
_FROM_ZERO = 10**9
_MOST_HELD = 100
"""Changed cells in memory before all but the biggest are let go."""

# --------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True, slots=True)
class Columns:
    """What tells rows apart, and which of their cells are numbers."""

    names: tuple[str, ...] = ()
    """Empty where nobody knows them: then it is "field 2"."""
    keys: tuple[tuple[int, ...], ...] = ()
    """Places of cells that together name a row, the most exact first; each has those of the next among them."""
    numbers: frozenset[int] | None = frozenset()
    """None: whatever reads as one."""
    decimal: str = "."

    def name(self, place: int) -> str:
        return self.names[place] if place < len(self.names) else f"field {place + 1}"

    def number(self, place: int, text: str) -> float | None:
        if self.numbers is not None and place not in self.numbers:
            return None
        return float(text.replace(self.decimal, ".")) if _number(self.decimal).fullmatch(text) else None

    def part(self, row: Row) -> Row:
        """What rows of the same part have in common."""
        return _cells(self.keys[-1], row) if self.keys else row


def columns_of(table: Table, decimal: str) -> Columns:
    """Of a known table: its key, and then that without days, which are other ones in each release of some documents."""
    places = {column.name: place for place, column in enumerate(table.columns)}
    days = {column.name for column in table.columns if column.kind is Kind.DATE}
    keys = [tuple(places[name] for name in key) for key in (table.key, [n for n in table.key if n not in days]) if key]
    numbers = {places[column.name] for column in table.columns if column.kind in (Kind.INTEGER, Kind.DECIMAL)}
    return Columns(table.names, tuple(dict.fromkeys(keys)), frozenset(numbers), decimal)


def columns_of_lines(decimal: str) -> Columns:
    """Of lines about which nothing was agreed: often the first field names what a line is about."""
    return Columns(keys=((0,),), numbers=None, decimal=decimal)


@lru_cache
def _number(decimal: str) -> re.Pattern[str]:
    return re.compile(rf"-?[0-9]{{1,15}}(?:{re.escape(decimal)}[0-9]{{1,9}})?")


@dataclass(frozen=True, slots=True)
class CellChange:
    """One cell of a row that is in both releases."""

    row: str
    column: str
    before: str
    after: str
    by: int = 0
    """Relative change of a number, in thousandths; 0 for texts."""

    @property
    def percent(self) -> str:
        """For people: ``+900 %``; nothing to say of texts, and of what was zero."""
        if not 0 < abs(self.by) < _FROM_ZERO:
            return ""
        return f"{self.by / 10:+,.1f} %" if abs(self.by) < 100 else f"{self.by / 10:+,.0f} %"


@dataclass(frozen=True, slots=True)
class RowChanges:
    """What became of the rows of one document."""

    before: int = 0
    after: int = 0
    """How many rows it had and has."""
    added: int = 0
    removed: int = 0
    changed: int = 0
    columns: Mapping[str, int] = field(default_factory=dict)
    """In how many of the changed rows each column did."""
    biggest: tuple[CellChange, ...] = ()
    texts: tuple[CellChange, ...] = ()
    """Changed cells that are no numbers: those of the columns where that is rarest."""
    first_added: str = ""
    first_removed: str = ""
    """An example of each."""
    reordered: bool = False
    """True if they are the same lines, but not in the same order. In tables whose type is known the order means nothing."""

    def __add__(self, other: RowChanges) -> RowChanges:
        columns = Counter(self.columns) + Counter(other.columns)
        return RowChanges(
            self.before + other.before,
            self.after + other.after,
            self.added + other.added,
            self.removed + other.removed,
            self.changed + other.changed,
            columns,
            _biggest((*self.biggest, *other.biggest)),
            _rarest((*self.texts, *other.texts), columns),
            self.first_added or other.first_added,
            self.first_removed or other.first_removed,
        )


def compare(before: Iterable[Row], after: Iterable[Row], columns: Columns) -> RowChanges:
    """What became of the rows: equal ones are found wherever they stand, and others by a key that only one on each side has."""
    old, new = Counter(before), Counter(after)
    gone, fresh = list((old - new).elements()), list((new - old).elements())
    pairs: list[tuple[Row, Row]] = []
    for key in columns.keys:
        found = list(pair(gone, fresh, partial(_cells, key)))
        pairs += found
        gone, fresh = _without(gone, (one for one, _ in found)), _without(fresh, (one for _, one in found))
    counts: Counter[str] = Counter()
    numbers: list[CellChange] = []
    texts: dict[str, CellChange] = {}
    for both in pairs:
        for cell in _changed(*both, columns):
            counts[cell.column] += 1
            if cell.by:
                numbers.append(cell)
            else:
                texts.setdefault(cell.column, cell)
        if len(numbers) > _MOST_HELD:
            numbers = list(_biggest(numbers))
    return RowChanges(
        old.total(),
        new.total(),
        len(fresh),
        len(gone),
        len(pairs),
        counts,
        _biggest(numbers),
        _rarest(texts.values(), counts),
        _row(fresh[0]) if fresh else "",
        _row(gone[0]) if gone else "",
    )


def _cells(key: tuple[int, ...], row: Row) -> Row:
    return tuple(row[place] if place < len(row) else "" for place in key)


def _without(rows: Sequence[Row], paired: Iterable[Row]) -> list[Row]:
    taken = set(paired)  # a row that was paired is the only one with its key
    return [row for row in rows if row not in taken]


def _changed(before: Row, after: Row, columns: Columns) -> Iterator[CellChange]:
    label = _row(_cells(columns.keys[-1], after))
    for place in range(max(len(before), len(after))):
        was, now = (row[place] if place < len(row) else "" for row in (before, after))
        if was != now:
            yield CellChange(label, columns.name(place), *_apart(was, now), _by(place, was, now, columns))


def _apart(was: str, now: str) -> tuple[str, str]:
    """Two texts that are not the same, made short so that this is seen."""
    cut = 0
    if max(len(was), len(now)) > _MOST_CHARACTERS:
        cut = _same(was, now)
    first, then = (shown(text[cut : cut + _MOST_CHARACTERS]) for text in (was, now))
    begin = _same(first, then) if max(len(first), len(then)) > MOST_IN_CELL else 0
    return _around(first, begin, cut > 0), _around(then, begin, cut > 0)


def _same(was: str, now: str) -> int:
    """Where to begin, so that the first difference is seen with what stands in front of it."""
    alike = next(
        (place for place, (one, other) in enumerate(zip(was, now, strict=False)) if one != other), min(len(was), len(now))
    )
    return max(0, alike - _ALIKE)


def _around(text: str, begin: int, cut: bool) -> str:
    text = ("…" if cut or begin else "") + text[begin:]
    return text if len(text) <= MOST_IN_CELL else text[: MOST_IN_CELL - 1] + "…"


def _by(place: int, was: str, now: str, columns: Columns) -> int:
    first, then = columns.number(place, was), columns.number(place, now)
    if first is None or then is None or first == then:
        return 0
    if first == 0:
        return _FROM_ZERO if then > 0 else -_FROM_ZERO
    thousandths = max(-_FROM_ZERO + 1, min(_FROM_ZERO - 1, round((then - first) / abs(first) * 1000)))
    return thousandths or (1 if then > first else -1)


def _biggest(cells: Iterable[CellChange]) -> tuple[CellChange, ...]:
    return tuple(sorted(cells, key=lambda cell: (-abs(cell.by), cell.row, cell.column))[:MOST_CHANGES])


def _rarest(cells: Iterable[CellChange], counts: Mapping[str, int]) -> tuple[CellChange, ...]:
    first: dict[str, CellChange] = {}
    for cell in cells:
        first.setdefault(cell.column, cell)
    return tuple(sorted(first.values(), key=lambda cell: (counts[cell.column], cell.column))[:MOST_CHANGES])


def _row(row: Row) -> str:
    return _text(", ".join(row))


def _text(text: str) -> str:
    return shortened(shown(text[: 4 * _MOST_CHARACTERS]), _MOST_CHARACTERS)


# --------------------------------------------------------------------------------------------- documents


@dataclass(frozen=True, slots=True)
class Decided:
    """How an earlier order of the stream ended."""

    order: str
    state: str
    at: datetime
    by: tuple[str, ...]
    """Ids of those whose votes decided it."""
    comment: str = ""
    """Of whoever did not approve."""


@dataclass(frozen=True, slots=True)
class Released:
    """What a stream sent last, as far as it went: what was left out of a package was not sent."""

    order: str
    package: str
    """Its digest."""
    at: datetime
    destinations: tuple[Destination, ...]
    files: tuple[PackageFile, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """A document that has other bytes than the one it takes the place of."""

    name: str
    before: str
    """What that was called."""
    size_before: int
    size: int
    rows: RowChanges | None = None
    """None where they were not compared."""
    note: str = ""
    """Why not."""

    @property
    def weight(self) -> tuple[int, int]:
        """What an approver should look at first weighs most."""
        rows = self.rows or RowChanges()
        return max((abs(cell.by) for cell in rows.biggest), default=0), rows.added + rows.removed + rows.changed


@dataclass(frozen=True, slots=True)
class Difference:
    """A package beside what its stream released last."""

    order: str
    package: str
    at: datetime
    """Which release that was."""
    same: int
    changed: int
    added: int
    gone: int
    """How many documents."""
    documents: tuple[Changed, ...] = ()
    """What changed most comes first; at most ``MOST_LISTED``."""
    names_added: tuple[str, ...] = ()
    names_gone: tuple[str, ...] = ()
    places_added: tuple[str, ...] = ()
    places_gone: tuple[str, ...] = ()
    """Destinations, as they are shown."""

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON values, for the ledger."""
        facts: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return facts


def parse(facts: Any) -> Difference:
    """Back from the ledger."""
    return _adapter().validate_python(facts)


@lru_cache
def _adapter() -> TypeAdapter[Difference]:
    return TypeAdapter(Difference)


Pairs: TypeAlias = list[tuple[PackageFile, PackageFile]]


def match(
    before: Sequence[PackageFile], after: Sequence[PackageFile], doctype: Callable[[PackageFile], str | None]
) -> tuple[Pairs, list[PackageFile], list[PackageFile]]:
    """Which document takes the place of which, then those that are gone and those that are new.

    By name; else by name but for its digits, which often are a date; else by document type; each time only where one on either
    side is left of it.
    """
    pairs: Pairs = []
    gone, fresh = list(before), list(after)
    labels: tuple[Callable[[PackageFile], Hashable | None], ...] = (
        lambda file: file.name,
        lambda file: re.sub(rb"[0-9]+", b"#", file.name),
        doctype,
    )
    for label in labels:
        found = list(pair(gone, fresh, label))
        pairs += found
        old, new = {id(one) for one, _ in found}, {id(one) for _, one in found}
        gone, fresh = [one for one in gone if id(one) not in old], [one for one in fresh if id(one) not in new]
    return pairs, gone, fresh


def pair(gone: Sequence[Any], fresh: Sequence[Any], label: Callable[[Any], Hashable | None]) -> Iterator[tuple[Any, Any]]:
    """Those that have a label in common which nobody else on their side has. None is no label."""
    by_label: defaultdict[Hashable, tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
    for side, members in enumerate((gone, fresh)):
        for one in members:
            by_label[label(one)][side].append(one)
    for told, (old, new) in by_label.items():
        if told is not None and len(old) == len(new) == 1:
            yield old[0], new[0]


def difference(
    released: Released,
    destinations: Sequence[Destination],
    pairs: Pairs,
    gone: Sequence[PackageFile],
    fresh: Sequence[PackageFile],
    told: Sequence[Changed],
) -> Difference:
    """All of it together. ``told`` are the pairs whose bytes are not the same."""
    same = sum(old.sha256 == new.sha256 for old, new in pairs)
    return Difference(
        released.order,
        released.package,
        released.at,
        same,
        len(told),
        len(fresh),
        len(gone),
        tuple(sorted(told, key=lambda one: one.weight, reverse=True)[:MOST_LISTED]),
        _names(fresh),
        _names(gone),
        tuple(place.shown for place in destinations if place not in released.destinations),
        tuple(place.shown for place in released.destinations if place not in destinations),
    )


def _names(files: Sequence[PackageFile]) -> tuple[str, ...]:
    return tuple(shortened(file.shown, 2 * _MOST_CHARACTERS) for file in files[:MOST_LISTED])
