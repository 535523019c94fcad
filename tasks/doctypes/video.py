"""Videos: large media of which only the container is looked at."""

from __future__ import annotations

from tasks.doctypes.base import Doctype

DOCTYPE = Doctype(
    slug="video",
    title="Video",
    media_types=frozenset({"video/mp4", "video/quicktime"}),
    extensions=frozenset({"mp4", "m4v", "mov"}),
    category="Partner Document",
    retention_years=5,
)
