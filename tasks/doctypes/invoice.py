"""Invoices as PDF, recognised by name and magic. The invoice number comes from the name."""

from __future__ import annotations

from tasks.doctypes.base import Doctype

DOCTYPE = Doctype(
    slug="invoice",
    title="Invoice",
    media_types=frozenset({"application/pdf"}),
    extensions=frozenset({"pdf"}),
    category="Partner Document",
    retention_years=10,
)
