"""Account statements: movements under one reference number, which links them to what we hold about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.doctypes.base import TEXT, Column, Doctype, Kind, Table, a_currency, a_recent_day, between, up_to, written_as

if TYPE_CHECKING:
    from pandera.pandas import DataFrameSchema


def schema() -> DataFrameSchema:
    from pandera.pandas import Column as Checked
    from pandera.pandas import DataFrameSchema

    return DataFrameSchema(
        {
            "reference": Checked(
                checks=written_as(r"[A-Za-z0-9][A-Za-z0-9/-]{0,34}", "a reference of up to 35 letters, digits, / and -"),
                nullable=True,
            ),
            "booked_on": Checked(checks=a_recent_day(), nullable=True),
            "text": Checked(checks=up_to(500), nullable=True),
            "amount": Checked(checks=between(-1_000_000_000_000, 1_000_000_000_000), nullable=True),
            "currency": Checked(checks=a_currency(), nullable=True),
        }
    )


DOCTYPE = Doctype(
    slug="statement",
    title="Account statement",
    media_types=TEXT,
    extensions=frozenset({"csv"}),
    category="Partner Document",
    retention_years=10,
    table=Table(
        columns=(
            Column("reference", example="4711/2026-11"),
            Column("booked_on", Kind.DATE, example="2026-11-20"),
            Column("text", optional=True, example="Invoice 4711"),
            Column("amount", Kind.DECIMAL, example="-1250.75"),
            Column("currency", example="EUR"),
        ),
        schema=schema,
        constants=("reference",),
    ),
)
