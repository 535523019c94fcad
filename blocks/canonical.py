"""The one way we write what is hashed, signed or sealed: JSON, ASCII, keys sorted, no blanks; moments are UTC with microseconds and Z."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any


def canonical(value: Any) -> str:
    """The canonical text of JSON values. Raises ``ValueError`` for what JSON does not have."""
    try:
        return _ENCODER.encode(value)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value; write it as text or a number first")


# What holds itself is told by the depth it comes to.
_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, check_circular=False, default=_plain
)


def sha256(text: str) -> str:
    """Of a canonical text, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache(256)  # the entries of one transaction have one time
def iso(moment: datetime) -> str:
    """A moment; it sorts as text. Raises ``ValueError`` for one without a zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
