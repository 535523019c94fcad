"""What a document type is: how it is recognised, what its table looks like, and how long it is kept.

One file per type, each with a ``DOCTYPE``. Nothing heavy is imported by these files: a schema is a function.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pandera.pandas import Check, DataFrameSchema


class Kind(StrEnum):
    """What a column's texts must read as, before anything is converted."""

    TEXT = "text"
    INTEGER = "a whole number"
    DECIMAL = "a number"
    DATE = "a date"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table. It must be there; its cells may be empty only if ``optional``."""

    name: str
    kind: Kind = Kind.TEXT
    optional: bool = False
    example: str = ""
    """A good value, with a point before its decimals: what a supplier is shown."""


@dataclass(frozen=True, slots=True)
class Trailer:
    """A control line at the end, ``<start>;rows=2;quantity=7``: proof that the table is complete.

    ``totals`` are columns whose sums it may carry. The number of rows it must carry.
    """

    start: str
    totals: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """How it is written, in words."""
        return f"{self.start};rows=<number of rows>" + "".join(f"[;{name}=<sum>]" for name in self.totals)


@dataclass(frozen=True, slots=True)
class Table:
    """A delimited text with a header."""

    columns: tuple[Column, ...]
    schema: Callable[[], DataFrameSchema]
    """Checks of the converted columns. Each ``Check`` carries ``name=`` (the finding's code) and ``error=`` (the rule in words)."""
    key: tuple[str, ...] = ()
    """Columns that together occur once per file."""
    constants: tuple[str, ...] = ()
    """Columns that hold one value in the whole file; it becomes a fact of the column's name."""
    trailer: Trailer | None = None
    rows_stand_alone: bool = False
    """A row means something without the others, so that good ones may go on; the table has a key. A part's control line is its own."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True, slots=True)
class Doctype:
    """A kind of document that partners and we exchange."""

    slug: str
    title: str
    media_types: frozenset[str]
    """What its bytes may be. ``text/plain`` stands for any text."""
    extensions: frozenset[str]
    category: str
    """The usual category in a repository; a stream's target decides."""
    retention_years: int
    """The usual retention; a stream's records class decides."""
    table: Table | None = None
    tells: frozenset[str] = frozenset()
    """Facts of every document of this type that come from elsewhere than a table of it."""

    @property
    def facts(self) -> frozenset[str]:
        """What is told of every accepted document of this type, besides its name: usable in targets."""
        return self.tells | (frozenset({"rows", *self.table.constants}) if self.table else frozenset())


TEXT = frozenset({"text/plain", "text/csv"})


# --------------------------------------------------------------------------------------------- checks that schemas share


def misfits(expression: str, values: pa.StringArray) -> list[int]:
    """Positions of the texts that do not match as a whole. The expression must not match a newline.

    Where all match, which is nearly always, one match of the joined texts tells it many times faster than one match each.
    """
    if not len(values) or _spelled(expression, values):
        return []
    joined = f"\n{_joined(values)}"
    # A line that does not match is looked for. A repeat over all lines would keep a way back for each, and a possessive one, which
    # keeps none, tells nonsense before Python 3.11.5 (https://github.com/python/cpython/issues/106052).
    if joined.count("\n") == len(values) and not re.search(rf"\n(?!(?:{expression})(?m:$))", joined):
        return []
    fits = re.compile(expression).fullmatch
    return [position for position, value in enumerate(values.to_pylist()) if fits(value) is None]


_SETS = re.compile(r"(\[[^\[\]\\^]+\])?(\[[^\[\]\\^]+\])\{(?:([0-9]+),)?([0-9]+)\}")
"""An expression of one set of characters, how many times, and maybe another one for the first of them."""


@lru_cache
def _sets(expression: str) -> tuple[bytes, bytes, int, int] | None:
    """What may stand first, what may stand anywhere, and the least and most characters; None for an expression of another form."""
    found = _SETS.fullmatch(expression)
    if found is None:
        return None
    one, each, least, most = found.groups()
    first, rest = (bytes(code for code in range(128) if re.fullmatch(part, chr(code))) for part in (one or each, each))
    more = 1 if one else 0
    # Where the first may be what none of the others may be, they are not told apart by looking at all of them at once.
    return (first, rest, int(least or most) + more, int(most) + more) if set(first) <= set(rest) else None


def _spelled(expression: str, values: pa.StringArray) -> bool:
    """True if all texts match for certain: sets of characters are compared with all bytes at once, as Arrow holds them."""
    import numpy as np

    sets = _sets(expression)
    _, places, content = values.buffers()
    if sets is None or values.null_count or content is None:
        return False
    first, rest, least, most = sets
    ends = np.frombuffer(places, np.int32)[values.offset : values.offset + len(values) + 1]
    lengths = np.diff(ends)
    if lengths.min() < max(least, 1) or lengths.max() > most:
        return False
    whole = bytes(memoryview(content)[ends[0] : ends[-1]])
    if whole.translate(None, rest):
        return False
    begins = np.frombuffer(whole, np.uint8)[ends[:-1] - ends[0]]
    return first == rest or bool(np.isin(begins, list(first)).all())


def _joined(values: pa.StringArray) -> str:
    """The texts with a newline between each two."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return str(pc.binary_join(pa.ListArray.from_arrays([0, len(values)], values), "\n")[0].as_py())


def _arrow(texts: pd.Series[Any]) -> pa.StringArray:
    """The same texts as Arrow holds them; nothing is copied where pandas holds them so."""
    import pyarrow as pa

    found = pa.array(texts, type=pa.string(), from_pandas=True)
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


_PART = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?[A-Za-z]*s|\\.|\n", re.DOTALL)
"""What of an expression may match a newline: a set, the flag that lets the point match it, a class such as ``\\s``, itself."""


def _matches_newline(part: str) -> bool:
    """True unless it is known that it does not."""
    if part.startswith("(") or part in (r"\x", r"\u", r"\U", r"\N", r"\0"):
        return True
    return not re.fullmatch(r"\\[1-9]", part) and re.fullmatch(part, "\n") is not None


def written_as(expression: str, rule: str, *, code: str = "wrong-format") -> Check:
    """Every text of a column matches as a whole; what is missing is another check's business.

    Raises ``ValueError`` for an expression that matches newlines: texts are matched many at once, with newlines between them.
    """
    from pandera.pandas import Check

    if any(_matches_newline(part) for part in _PART.findall(expression)):
        raise ValueError(f"{expression!r} matches newlines: say what a text may hold instead, such as [^\\n] for anything else")

    def fits(texts: pd.Series[Any]) -> pd.Series[Any]:
        import pandas as pd

        good = pd.Series(True, index=texts.index)
        good.iloc[misfits(expression, _arrow(texts))] = False
        return good

    return Check(fits, name=code, error=rule)


def up_to(characters: int) -> Check:
    """Texts of bounded length, newlines included."""
    from pandera.pandas import Check

    def fits(texts: pd.Series[Any]) -> pd.Series[Any]:
        import pandas as pd
        import pyarrow.compute as pc

        return pd.Series(pc.less_equal(pc.utf8_length(_arrow(texts)), characters).to_numpy(zero_copy_only=False), texts.index)

    return Check(fits, name="too-long", error=f"at most {characters} characters")


def between(lowest: float, highest: float) -> Check:
    """Numbers in a range, both ends included."""
    from pandera.pandas import Check

    return Check.in_range(lowest, highest, name="out-of-range", error=f"from {lowest:,} to {highest:,}")


def a_recent_day() -> Check:
    """Days that a business document can mean."""
    import pandas as pd
    from pandera.pandas import Check

    return Check.in_range(
        pd.Timestamp("2000-01-01"), pd.Timestamp("2099-12-31"), name="out-of-range", error="a day from 2000 to 2099"
    )


def an_article_number() -> Check:
    return written_as(
        r"[A-Za-z0-9][A-Za-z0-9._/-]{0,39}", "an article number of up to 40 letters, digits and . _ / - without blanks"
    )


def a_currency() -> Check:
    return written_as(r"[A-Z]{3}", "a currency code of ISO 4217, such as EUR")
