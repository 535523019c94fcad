"""Price lists: what an article costs from a day on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.doctypes.base import TEXT, Column, Doctype, Kind, Table, a_currency, a_recent_day, an_article_number, between, up_to

if TYPE_CHECKING:
    from pandera.pandas import DataFrameSchema


def schema() -> DataFrameSchema:
    from pandera.pandas import Column as Checked
    from pandera.pandas import DataFrameSchema

    return DataFrameSchema(
        {
            "sku": Checked(checks=an_article_number(), nullable=True),
            "description": Checked(checks=up_to(500), nullable=True),
            "currency": Checked(checks=a_currency(), nullable=True),
            "price": Checked(checks=between(0, 10_000_000), nullable=True),
            "valid_from": Checked(checks=a_recent_day(), nullable=True),
        }
    )


DOCTYPE = Doctype(
    slug="price-list",
    title="Price list",
    media_types=TEXT,
    extensions=frozenset({"csv"}),
    category="Partner Document",
    retention_years=10,
    table=Table(
        columns=(
            Column("sku", example="4711-A"),
            Column("description", optional=True, example="Bolt M8 x 40"),
            Column("currency", example="EUR"),
            Column("price", Kind.DECIMAL, example="1250.75"),
            Column("valid_from", Kind.DATE, example="2026-12-01"),
        ),
        schema=schema,
        key=("sku", "currency", "valid_from"),
        rows_stand_alone=True,
    ),
)
