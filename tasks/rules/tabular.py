"""Cells of tables: texts first, then types, then the document type's schema, and all findings at once.

A frame holds rows of many files: one pandera call costs milliseconds however few the rows. Nothing here knows of files; a
``Cell`` names a position in the frame, and who built the frame knows whose row that was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from blocks.values import Finding, shown
from tasks.doctypes.base import Column, Kind, Table, Trailer, misfits

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pandera.pandas import DataFrameSchema

SHOWN_CHARACTERS = 200
TRUNCATED = "truncated"
"""Code of a table that has fewer rows than its control line tells, or that ends inside of one."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing wrong at one place of a frame."""

    position: int
    """Of the row in the frame, from 0."""
    column: str
    value: str
    code: str
    message: str
    rule: str
    fix: str

    def finding(self, row: int) -> Finding:
        """With the row that the sender knows."""
        return Finding(
            self.code,
            f"Row {row}, {self.column}: {self.message}",
            row=row,
            column=self.column,
            value=told(self.value),
            rule=self.rule,
            fix=self.fix,
        )


def told(value: str) -> str:
    """A partner's value made safe and short to show."""
    return shown(value if len(value) <= SHOWN_CHARACTERS else f"{value[:SHOWN_CHARACTERS]}…")


def judge(texts: pa.Table, table: Table, decimal: str) -> tuple[pd.DataFrame, list[Cell]]:
    """The converted frame, and everything that is wrong in it. A cell that does not read as its type is missing in the former.

    ``texts`` has the table's columns, all of them text exactly as it was sent, each in one piece.
    """
    import pandas as pd

    cells: list[Cell] = []
    converted: dict[str, Any] = {}
    for column in table.columns:
        converted[column.name] = _convert(texts[column.name].chunk(0), column, decimal, cells)
    frame = pd.DataFrame(converted, copy=False)
    cells.extend(_violations(frame, texts, table))
    return frame, cells


# --------------------------------------------------------------------------------------------- texts, then types


def _convert(texts: pa.StringArray, column: Column, decimal: str, cells: list[Cell]) -> pd.Series[Any]:
    import pandas as pd
    import pyarrow.compute as pc

    if column.kind is Kind.DATE and (days := _days(texts)) is not None:
        return days
    unfit = _misfits(texts, column, decimal)
    cells.extend(_misfit(position, texts[position].as_py(), column, decimal) for position in unfit)
    if column.kind is Kind.TEXT:
        return pd.Series(pd.array(_without(texts, pc.equal(texts, "")) if unfit else texts, dtype="str"))
    known = _without(texts, _marked(unfit, len(texts))) if unfit else texts
    known = _without(known, pc.equal(known, "")) if column.optional else known
    if column.kind is not Kind.DATE:
        return _numbers(known, column.kind, decimal)
    dates = _dates(known)
    for position in dates.index[dates.isna().to_numpy() & known.is_valid().to_numpy(zero_copy_only=False)]:
        # It reads like a date, and the calendar does not have it.
        cells.append(_misfit(position, texts[position].as_py(), column, decimal))
    return dates


def _without(texts: pa.StringArray, where: pa.BooleanArray) -> pa.StringArray:
    """The texts, and nothing in some places."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(where, pa.scalar(None, pa.string()), texts)


def _marked(positions: list[int], length: int) -> pa.BooleanArray:
    import numpy as np
    import pyarrow as pa

    marked = np.zeros(length, dtype=bool)
    marked[positions] = True
    return pa.array(marked)


def _numbers(texts: pa.StringArray, kind: Kind, decimal: str) -> pd.Series[Any]:
    """Only what fits the expression comes here: a library would convert "1E5", "nan" and blanks without a word."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if decimal != ".":
        texts = pc.replace_substring(texts, decimal, ".")
    numbers: pd.Series[Any] = pc.cast(texts, pa.int64() if kind is Kind.INTEGER else pa.float64()).to_pandas()
    return numbers


def _dates(texts: pa.StringArray) -> pd.Series[Any]:
    """Days; what the calendar does not have is missing. Only what fits the expression comes here."""
    import pandas as pd

    if (days := _days(texts)) is not None:
        return days
    written = [text if text and text[:4] != "0000" else None for text in texts.to_pylist()]  # pandas knows a year 0 too
    return pd.to_datetime(pd.Series(written, dtype=object), format="%Y-%m-%d", errors="coerce")


def _days(texts: pa.StringArray) -> pd.Series[Any] | None:
    """Days, if every text is one of the calendar as we want it written: Arrow reads no other way of writing. But it knows a year 0."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        days = pc.cast(texts, pa.date32())
    except pa.ArrowInvalid:
        return None
    if pc.any(pc.less(days, date.min)).as_py():
        return None
    dates: pd.Series[Any] = pc.cast(days, pa.timestamp("us")).to_pandas()
    return dates


def _misfits(texts: pa.StringArray, column: Column, decimal: str) -> list[int]:
    """Positions of the cells that do not read as what the column holds."""
    import pyarrow.compute as pc

    if column.kind is Kind.TEXT:
        return [] if column.optional else list(pc.indices_nonzero(pc.equal(texts, "")).to_pylist())
    expression = _expression(column.kind, decimal)
    expression = f"(?:{expression})?" if column.optional else expression
    # Arrow's own expressions mean the same here, and keep no other thread from running.
    if pc.all(pc.match_substring_regex(texts, rf"\A(?:{expression})\z")).as_py():
        return []
    return misfits(expression, texts)


@lru_cache
def _expression(kind: Kind, decimal: str) -> str:
    if kind is Kind.DATE:
        return r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    # 15 digits are what a float holds exactly.
    return r"-?[0-9]{1,15}" + (rf"(?:{re.escape(decimal)}[0-9]{{1,9}})?" if kind is Kind.DECIMAL else "")


def _misfit(position: int, value: str, column: Column, decimal: str) -> Cell:
    name, kind = column.name, column.kind
    if not value:
        fix = "Fill it in." if kind is Kind.TEXT else f"Fill in {kind}."
        return Cell(position, name, value, "missing-value", "is empty.", f"{name} has a value in every row", fix)
    rule = {
        Kind.DATE: f"{name} is a date of ISO 8601, YYYY-MM-DD, such as 2026-11-20",
        Kind.INTEGER: f"{name} is a whole number of up to 15 digits, without separators",
        Kind.DECIMAL: f"{name} is a number with '{decimal}' before its decimals and no other separators, such as 1250{decimal}75",
    }.get(kind, "")
    if kind is Kind.DATE and re.fullmatch(r"[0-9]{1,4}[./-][0-9]{1,2}[./-][0-9]{1,4}", value) and not _iso(value):
        told_so = f"'{told(value)}' can be read as more than one day, so it was not guessed."
        return Cell(position, name, value, "ambiguous-date", told_so, rule, "Write the year first: YYYY-MM-DD.")
    return Cell(position, name, value, "wrong-type", f"'{told(value)}' is not {kind}.", rule, _remedy(value, kind, decimal))


def _iso(value: str) -> bool:
    return re.fullmatch(_expression(Kind.DATE, "."), value) is not None


_SHORTENED = re.compile(r"-?[0-9.,]+[eE][+-]?[0-9]+")


def _remedy(value: str, kind: Kind, decimal: str) -> str:
    if value != value.strip():
        return "Remove the blanks around it."
    if kind is Kind.DATE:
        return "Give a day that the calendar has, as YYYY-MM-DD."
    if re.fullmatch(r"-?[0-9.,' ]+", value):
        return f"Write it without separators of thousands, and with '{decimal}' before its decimals."
    if _SHORTENED.fullmatch(value):
        return "A spreadsheet has shortened it: format the column as a plain number and export again."
    return f"Give {kind}."


# --------------------------------------------------------------------------------------------- the schema


# Pandera does not promise that threads may share a schema, and making one costs more than waiting.
_one_at_a_time = Lock()


@lru_cache
def _schema(make: Callable[[], DataFrameSchema]) -> DataFrameSchema:
    return make()


def _violations(frame: pd.DataFrame, texts: pa.Table, table: Table) -> Iterator[Cell]:
    from pandera.errors import SchemaErrors

    try:
        with _one_at_a_time:
            _schema(table.schema).validate(frame, lazy=True)
    except SchemaErrors as errors:
        for error in errors.schema_errors:
            yield from _violation(error, texts)


def _violation(error: Any, texts: pa.Table) -> Iterator[Cell]:
    """The cells of one failed check. A failure that names no rows is a mistake in the document type, and is raised."""
    failed = getattr(error, "failure_cases", None)
    if failed is None or not hasattr(failed, "columns") or "index" not in failed or failed["index"].isna().any():
        raise error
    check, name = error.check, str(error.schema.name)
    code = check.name if re.fullmatch(r"[a-z][a-z-]*", str(check.name)) else "rule-broken"
    rule = str(check.error or check.name)
    for position in failed["index"].tolist():
        value = str(texts[name][position])
        yield Cell(position, name, value, code, f"'{told(value)}' is not {rule}.", f"{name}: {rule}", _spelling(code, value))


def _spelling(code: str, value: str) -> str:
    """What to do about a text that breaks a rule. Blanks at its ends show nowhere, so they are named."""
    if code != "wrong-format":
        return "Correct the value."
    if value != value.strip():
        return "Remove the blanks around it."
    if _SHORTENED.fullmatch(value):
        return "A spreadsheet has shortened it: format the column as text, enter it in full and export again."
    return "Write it as the rule says."


# --------------------------------------------------------------------------------------------- over the whole table


def repeated(row: int, first_row: int, key: Mapping[str, str]) -> Finding:
    """A row whose key another row has."""
    named = ", ".join(f"{name} '{told(value)}'" for name, value in key.items())
    return Finding(
        code="duplicate-key",
        message=f"Row {row} repeats row {first_row}: {named}.",
        row=row,
        column="+".join(key),
        value=", ".join(told(value) for value in key.values()),
        rule=f"{' and '.join(key)} together occur once per file",
        fix="Send each once; if both rows are meant, their keys must differ.",
    )


def several_values(column: str, first: str, other: str, row: int) -> Finding:
    """A column that must hold one value and holds two."""
    return Finding(
        code="several-values",
        message=f"Row {row}, {column}: '{told(other)}', while the rows before have '{told(first)}'.",
        row=row,
        column=column,
        value=told(other),
        rule=f"{column} is the same in the whole file",
        fix="Send one file for each.",
    )


def check_trailer(trailer: Trailer, line: str | None, rows: int, totals: Mapping[str, int]) -> Iterator[Finding]:
    """The control line against what was counted: a table cut at the end of a row looks complete without it."""
    rule = f"The last line is {trailer.told}"
    if line is None:
        yield Finding(
            code="trailer-missing",
            message=f"The control line {trailer.start} is missing after {rows:,} rows: the file may have been cut.",
            row=rows + 2,
            rule=rule,
            fix="Send the complete file, with its control line.",
        )
        return
    given = dict(part.strip().partition("=")[::2] for part in line.removeprefix(trailer.start).split(";") if part.strip())
    unknown = [name for name in given if name != "rows" and name not in trailer.totals]
    if "rows" not in given or unknown or not all(re.fullmatch(r"-?[0-9]{1,18}", value) for value in given.values()):
        yield Finding(
            code="trailer-unreadable",
            message=f"The control line '{told(line)}' cannot be read.",
            row=rows + 2,
            value=told(line),
            rule=rule,
            fix="Write the control line as agreed.",
        )
        return
    if (expected := int(given["rows"])) > rows:
        yield Finding(
            code=TRUNCATED,
            message=f"The control line tells of {expected:,} rows, and the file has {rows:,}: {expected - rows:,} are missing.",
            row=rows + 2,
            value=given["rows"],
            rule=rule,
            fix="Rows are missing or were added on the way: send the complete file again.",
        )
        return  # sums over rows that are not there say nothing
    for name, value in given.items():
        found = rows if name == "rows" else totals.get(name)
        if found is not None and int(value) != found:
            yield Finding(
                code="trailer-mismatch",
                message=f"The control line says {name}={value}, and {found} were found.",
                row=rows + 2,
                column=None if name == "rows" else name,
                value=value,
                rule=rule,
                fix="Rows are missing or were added on the way: send the complete file again.",
            )
