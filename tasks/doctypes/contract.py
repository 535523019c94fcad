"""Contracts and what is exchanged on the way to them: drafts, redlines, signed copies. Recognised by name and magic."""

from __future__ import annotations

from tasks.doctypes.base import Doctype

DOCTYPE = Doctype(
    slug="contract",
    title="Contract",
    media_types=frozenset({"application/pdf", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"}),
    extensions=frozenset({"pdf", "docx"}),
    category="Partner Document",
    retention_years=10,
)
