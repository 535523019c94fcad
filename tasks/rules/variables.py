"""Whether a comment holds what Prefect put there: the value of one of its Variables.

Both UIs can fill a field from a Variable, and an API caller with ``{"__prefect_kind": "workspace_variable", ...}``. Prefect then
stores the value as if it had been typed (``prefect.utilities.schema_tools.hydration``), and nothing in the answer tells that it
was not. Every other field of an answer to a release that counts is one of the form's choices, or a proof; only a comment is kept as it
is, in a certificate that goes on to others. So a comment is compared with what the Variables hold, and in an answer about a case every
text that is none of the choices: cells, the file's name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from blocks.outbound import Refusal

_LONG = 8
"""A value this long is no ordinary word: it counts wherever it stands. A shorter one only as the whole comment, for Prefect always
fills in a whole field."""

_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
"""Jinja in a value: Prefect can render it, and then only what stands around it is left."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")


def from_variable(comment: str, variables: Iterable[tuple[str, object]]) -> Refusal | None:
    """Why a text does not count: one of these Variables (name, value) stands in it. None if none does.

    >>> from_variable("as agreed", [("tariff", "s3cr3t-value")]) is None
    True
    >>> from_variable("it is s3cr3t-value", [("tariff", "s3cr3t-value")]).code
    'variable'
    """
    plain = comment.strip()
    for name, value in variables:
        if any(text == plain or (len(text) >= _LONG and text in plain) for text in _texts(value)):
            named = f" '{name}'" if _NAME.fullmatch(name) else ""
            return Refusal(
                "variable",
                f"The answer held the value of Prefect's Variable{named}, which is nobody's own words. Nothing of it was kept: "
                "please answer again, and type it.",
            )
    return None


def _texts(value: object) -> Iterator[str]:
    """All that Prefect can make of a value that is a text: itself, what it holds as JSON, and what a template leaves of it."""
    if isinstance(value, str):
        yield from (part for text in (value, *_TEMPLATE.split(value)) if (part := text.strip()))
        yield from _texts(_parsed(value))
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _parsed(text: str) -> object:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return None if parsed == text else parsed
