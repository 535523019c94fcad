"""Audit artifacts: what an auditor hands over for a request. Kept as it came; nothing of it is unpacked."""

from __future__ import annotations

from tasks.doctypes.base import Doctype

DOCTYPE = Doctype(
    slug="audit-artifact",
    title="Audit artifact",
    media_types=frozenset({"application/zip", "application/pdf", "text/plain"}),
    extensions=frozenset({"zip", "pdf", "txt"}),
    category="Partner Document",
    retention_years=7,
)
