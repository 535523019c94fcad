"""Shipment manifests: what is in which shipment. A control line at the end proves that none of it is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.doctypes.base import (
    TEXT,
    Column,
    Doctype,
    Kind,
    Table,
    Trailer,
    a_recent_day,
    an_article_number,
    between,
    written_as,
)

if TYPE_CHECKING:
    from pandera.pandas import DataFrameSchema


def schema() -> DataFrameSchema:
    from pandera.pandas import Column as Checked
    from pandera.pandas import DataFrameSchema

    return DataFrameSchema(
        {
            "shipment": Checked(
                checks=written_as(r"[A-Z0-9][A-Z0-9-]{0,29}", "a shipment number of up to 30 capital letters, digits and -"),
                nullable=True,
            ),
            "line": Checked(checks=between(1, 999_999), nullable=True),
            "sku": Checked(checks=an_article_number(), nullable=True),
            "quantity": Checked(checks=between(1, 1_000_000), nullable=True),
            "shipped_on": Checked(checks=a_recent_day(), nullable=True),
        }
    )


DOCTYPE = Doctype(
    slug="shipment-manifest",
    title="Shipment manifest",
    media_types=TEXT,
    extensions=frozenset({"csv"}),
    category="Partner Document",
    retention_years=6,
    table=Table(
        columns=(
            Column("shipment", example="SHP-2026-0815"),
            Column("line", Kind.INTEGER, example="1"),
            Column("sku", example="4711-A"),
            Column("quantity", Kind.INTEGER, example="12"),
            Column("shipped_on", Kind.DATE, example="2026-11-20"),
        ),
        schema=schema,
        key=("shipment", "line"),
        rows_stand_alone=True,
        trailer=Trailer("#TRAILER", totals=("quantity",)),
    ),
)
