"""Product images. The article number comes from the name."""

from __future__ import annotations

from tasks.doctypes.base import Doctype

DOCTYPE = Doctype(
    slug="product-image",
    title="Product image",
    media_types=frozenset({"image/png", "image/jpeg", "image/tiff"}),
    extensions=frozenset({"png", "jpg", "jpeg", "tif", "tiff"}),
    category="Partner Document",
    retention_years=5,
)
