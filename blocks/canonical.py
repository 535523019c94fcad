"""The one way we write what is hashed, signed or sealed: JSON, ASCII, keys sorted, no blanks; moments are UTC with microseconds and Z."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

_AS_READ = frozenset({str, int, bool, type(None)})
"""Types of values that are written one way only, and are read from JSON as they were."""


def canonical(value: Any) -> str:
    """The canonical text of JSON values. Raises ``ValueError`` for what JSON does not have."""
    try:
        return of_plain(value) or _ENCODER.encode(value)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def of_plain(value: Any) -> str | None:
    """The canonical text of a value that is read from JSON just as it is here, as most are; None for any other, and if in doubt.

    orjson writes it in an eighth of the time, and not as we do where a character needs an escape or a number has a point.
    """
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # half a surrogate pair, a key that is no text, what holds itself, ...
        return None
    return text.decode() if text.isascii() and b"\x7f" not in text and _read_as_it_is(value) else None


def _read_as_it_is(value: Any) -> bool:
    """False for anything but dicts, lists, texts, integers, true, false and null: a tuple, say, is read as a list."""
    nested: list[Any] = [value]
    for one in nested:  # what is found in it joins the list, so however deep it goes
        if type(one) is dict:
            inside: Collection[Any] = one.values()
        elif type(one) is list:
            inside = one
        else:
            return False
        if not _AS_READ.issuperset(map(type, inside)):
            nested += [inner for inner in inside if type(inner) not in _AS_READ]
    return True


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
