"""Names that a repository cannot hold, made to fit: always the same way, and never so that two of them meet.

A name that fits is kept as it is. Any other becomes ``<clean stem>~<mark>.<extension>``: what the repository forbids, controls
and bidi marks are ``_``, blanks at the ends are gone, the stem is cut to the limit, and the mark is eight hex digits of the
SHA-256 of the *original* name, so that ``a:b.csv`` and ``a_b.csv`` stay two documents and the same name always meets its
own earlier versions. A name that fits, and that the repository takes for another one which stands there (``A.csv`` and ``a.csv``),
gets the mark too. Back-ends keep the original name beside the document and say where.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable

LONGEST_EXTENSION = 16


def fitted(name: str, *, forbidden: str, length: Callable[[str], int], most: int, reserved: Callable[[str], bool]) -> str:
    """``name`` as a repository can hold it.

    ``length`` measures in the repository's own units, of which it holds ``most``; ``reserved`` tells names it keeps for itself.
    """
    plain = name.isprintable() and not any(char in name for char in forbidden)  # nothing unseen can be printed
    clean = name if plain else "".join("_" if char in forbidden or _unseen(char) else char for char in name)
    clean = clean.strip()
    if clean == name and clean and length(clean) <= most and not reserved(clean):
        return name
    return marked(clean.lstrip(".") or "_", name, length=length, most=most)


def marked(clean: str, name: str, *, length: Callable[[str], int], most: int) -> str:
    """``<clean stem>~<mark>.<extension>``, the mark being the original name's: always the same one for it."""
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return _with_suffix(clean, f"~{mark}", length, most)


def beside(name: str, digest: str, *, length: Callable[[str], int], most: int) -> str:
    """The name of a document that is kept beside another one of its name: ``stem (<8 of its digest>).ext``."""
    return _with_suffix(name, f" ({digest[:8]})", length, most)


def _unseen(char: str) -> bool:
    """Controls, invisible format characters (bidi marks among them), lone surrogates, line and paragraph separators."""
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _with_suffix(name: str, suffix: str, length: Callable[[str], int], most: int) -> str:
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension) > LONGEST_EXTENSION:
        stem, dot, extension = name, "", ""
    while stem and length(f"{stem}{suffix}{dot}{extension}") > most:
        stem = stem[:-1]
    return f"{stem.rstrip()}{suffix}{dot}{extension}"
