"""Pages that somebody draws."""

from __future__ import annotations


def pdf(content: bytes, box: str = "0 0 200 100", more: bytes = b"") -> bytes:
    """A page with this content stream."""
    return (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R" + more + b">>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[" + box.encode() + b"]/Contents 4 0 R>>endobj\n4 0 obj<</Length "
        + str(len(content)).encode() + b">>stream\n" + content + b"\nendstream endobj\ntrailer<</Root 1 0 R>>\n"
    )  # fmt: skip
