"""Transfers that other programs made: whatever they sent. Nothing of it is read; what is known of it stands in their logs."""

from __future__ import annotations

from tasks.doctypes.base import Doctype

DOCTYPE = Doctype(
    slug="transfer",
    title="Transfer",
    media_types=frozenset(),
    extensions=frozenset(),
    category="Partner Document",
    retention_years=10,
    tells=frozenset({"role", "server", "path", "sent", "bytes", "reply"}),
)
