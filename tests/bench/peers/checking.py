"""Price lists checked as pandera's documentation has it: many files in one frame, the file as a column, every row looked at.

Rules and columns are those of ``tasks/doctypes/price_list.py`` and of what stands before its schema: nothing missing, numbers and days in
one notation, no key twice in a file. Texts are read as texts, so that a cell that is no number is told like any other. What is not looked
at: encoding, quotes and the number of fields in a line, which are the reader's here.

Takes jobs as lines of JSON from standard input, ``{"files": [paths]}``, and answers ``{"bad": [[file, row, column]]}``: a file by its
place, the header being row 1. Which way, the only argument says; those with polars need the peers' environment (``requirements.txt``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

COLUMNS = ["sku", "description", "currency", "price", "valid_from"]
KEY = ["file", "sku", "currency", "valid_from"]
SKU, CURRENCY = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,39}$", r"^[A-Z]{3}$"
PRICE, DAY = r"^-?[0-9]{1,15}(\.[0-9]{1,9})?$", r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
MOST, LONGEST, FIRST, LAST = 10_000_000, 500, date(2000, 1, 1), date(2099, 12, 31)


def with_pandas(engine: Any) -> Callable[[Sequence[str]], list[list[Any]]]:
    import pandas as pd
    import pandera.errors
    import pandera.pandas as pa

    def numbers(texts: Any) -> Any:
        return pd.to_numeric(texts, errors="coerce").between(0, MOST)

    def days(texts: Any) -> Any:
        return pd.to_datetime(texts, format="%Y-%m-%d", errors="coerce").between(pd.Timestamp(FIRST), pd.Timestamp(LAST))

    schema = pa.DataFrameSchema(
        {
            "file": pa.Column(int),
            "sku": pa.Column(str, pa.Check.str_matches(SKU)),
            "description": pa.Column(str, pa.Check.str_length(max_value=LONGEST)),
            "currency": pa.Column(str, pa.Check.str_matches(CURRENCY)),
            "price": pa.Column(str, [pa.Check.str_matches(PRICE), pa.Check(numbers)]),
            "valid_from": pa.Column(str, [pa.Check.str_matches(DAY), pa.Check(days)]),
        },
        unique=KEY,
    )

    def check(files: Sequence[str]) -> list[list[Any]]:
        read = [pd.read_csv(path, dtype="str", keep_default_na=False, engine=engine) for path in files]
        frame = pd.concat([one.assign(file=number) for number, one in enumerate(read)], ignore_index=True)
        assert list(frame.columns[:5]) == COLUMNS
        try:
            schema.validate(frame, lazy=True)
        except pandera.errors.SchemaErrors as errors:
            starts = frame.groupby("file").cumcount()
            cases = errors.failure_cases[["index", "column"]].drop_duplicates()
            return [[int(frame["file"][index]), int(starts[index]) + 2, column] for index, column in cases.to_numpy()]
        return []

    return check


def with_polars(validate: bool) -> Callable[[Sequence[str]], list[list[Any]]]:
    import pandera.errors
    import pandera.polars as pa
    import polars as pl

    def number(column: str) -> pl.Expr:
        return pl.col(column).cast(pl.Float64, strict=False).is_between(0, MOST).fill_null(value=False)

    def day(column: str) -> pl.Expr:
        return pl.col(column).str.to_date("%Y-%m-%d", strict=False).is_between(FIRST, LAST).fill_null(value=False)

    schema = pa.DataFrameSchema(
        {
            "file": pa.Column(str),
            "sku": pa.Column(str, pa.Check.str_matches(SKU)),
            "description": pa.Column(str, pa.Check.str_length(max_value=LONGEST), nullable=True),
            "currency": pa.Column(str, pa.Check.str_matches(CURRENCY)),
            "price": pa.Column(
                str, [pa.Check.str_matches(PRICE), pa.Check(lambda data: data.lazyframe.select(number(data.key)))]
            ),
            "valid_from": pa.Column(
                str, [pa.Check.str_matches(DAY), pa.Check(lambda data: data.lazyframe.select(day(data.key)))]
            ),
        },
        unique=KEY,
    )
    rules = {
        "sku": pl.col("sku").str.contains(SKU).fill_null(value=False),
        "description": (pl.col("description").str.len_chars() <= LONGEST).fill_null(value=True),
        "currency": pl.col("currency").str.contains(CURRENCY).fill_null(value=False),
        "price": (pl.col("price").str.contains(PRICE) & number("price")).fill_null(value=False),
        "valid_from": (pl.col("valid_from").str.contains(DAY) & day("valid_from")).fill_null(value=False),
    }

    def check(files: Sequence[str]) -> list[list[Any]]:
        texts = dict.fromkeys(COLUMNS, pl.String)
        lazy = pl.scan_csv(list(files), schema=texts, include_file_paths="file")
        frame = lazy.collect()
        found: list[tuple[int, str]] = []
        if validate:
            try:
                schema.validate(frame, lazy=True)
            except pandera.errors.SchemaErrors as errors:
                found = errors.failure_cases.select("index", "column").unique().rows()
        else:
            good = frame.select(**rules)
            if frame.select(KEY).is_duplicated().any() or not good.select(pl.all_horizontal(pl.all().all())).item():
                found = [(row, name) for name in COLUMNS for row in (~good[name]).arg_true().to_list()]
        places = {path: place for place, path in enumerate(files)}
        names = frame["file"]
        return [[places[names[row]], row - (names == names[row]).arg_max() + 2, column] for row, column in found]

    return check


WAYS: dict[str, Callable[[], Callable[[Sequence[str]], list[list[Any]]]]] = {
    "pandera.pandas": lambda: with_pandas("c"),
    "pandera.pandas, read by pyarrow": lambda: with_pandas("pyarrow"),
    "pandera.polars": lambda: with_polars(validate=True),
    "polars without pandera": lambda: with_polars(validate=False),
}


def main() -> None:
    check = WAYS[sys.argv[1]]()
    for line in sys.stdin:
        print(json.dumps({"bad": check(json.loads(line)["files"])}), flush=True)


if __name__ == "__main__":
    main()
