"""Acknowledgements: a partner's short word on what it received. Of what, its name tells; its content is kept, and not yet read."""

from __future__ import annotations

from tasks.doctypes.base import Doctype

DOCTYPE = Doctype(
    slug="acknowledgement",
    title="Acknowledgement",
    media_types=frozenset({"text/plain", "text/xml", "application/xml", "application/json", "application/pdf"}),
    extensions=frozenset({"ack", "nack", "txt", "xml", "json", "pdf"}),
    category="Partner Document",
    retention_years=10,
)
