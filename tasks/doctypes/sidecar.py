"""Sidecars: small JSON files that tell about the files they come with."""

from __future__ import annotations

from tasks.doctypes.base import Doctype

DOCTYPE = Doctype(
    slug="sidecar",
    title="Sidecar",
    media_types=frozenset({"text/plain"}),
    extensions=frozenset({"json"}),
    category="Partner Document",
    retention_years=5,
)
