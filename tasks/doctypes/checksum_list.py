"""Lists of files with their checksums, as ``sha256sum`` writes them: the manifest of a set."""

from __future__ import annotations

from tasks.doctypes.base import TEXT, Doctype

DOCTYPE = Doctype(
    slug="checksum-list",
    title="List of checksums",
    media_types=TEXT,
    extensions=frozenset({"sha256", "txt"}),
    category="Partner Document",
    retention_years=10,
)
