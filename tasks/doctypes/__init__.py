"""Document types. A new one is one file here with a ``DOCTYPE``; its file name, with dashes, is what profiles call it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from tasks.doctypes.base import Doctype


@cache
def known() -> Mapping[str, Doctype]:
    """All document types by their slug."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")
    doctypes = [importlib.import_module(f"{__name__}.{name}").DOCTYPE for name in names]
    return MappingProxyType({doctype.slug: doctype for doctype in doctypes})


def find(slug: str) -> Doctype:
    """The document type of that slug. Raises ``KeyError``: profiles are checked against ``known`` when they are read."""
    return known()[slug]
