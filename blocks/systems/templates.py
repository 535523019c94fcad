"""Templates over a message's facts: ``{number}`` stands for a fact, ``{{`` for a brace; no attributes, no formats, nothing else.

A template that is one fact and nothing else keeps the fact's type: a number stays one.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import AfterValidator, StringConstraints


class BadFact(Exception):
    """A message does not have what its route needs."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


def _template(template: str) -> str:
    """Checked when the file is read: facts only, no attributes, no formats, so that it cannot read anything else."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"is no template: {error}; a brace itself is written twice") from None
    for _, name, spec, conversion in parts:
        if name is not None and (not re.fullmatch(r"[a-z][a-z0-9_]*", name) or spec or conversion):
            raise ValueError(f"{{{name}}}: a fact is small letters, digits and underscores, and takes no format")
    return template


Template = Annotated[str, AfterValidator(_template)]
PathTemplate = Annotated[str, StringConstraints(pattern=r"^/[^\s?#]*$"), AfterValidator(_template)]


def well_formed(body: Any) -> Any:
    """For a validator: JSON values whose texts are templates."""
    for text in _texts(body):
        _template(text)
    return body


def _texts(body: Any) -> Iterator[str]:
    if isinstance(body, str):
        yield body
    elif isinstance(body, list):
        for item in body:
            yield from _texts(item)
    elif isinstance(body, dict):
        for item in body.values():
            yield from _texts(item)


def facts_in(body: Any) -> frozenset[str]:
    """The facts that JSON values with templates in them are made of."""
    parts = (part for text in _texts(body) for part in string.Formatter().parse(text))
    return frozenset(name for _, name, _, _ in parts if name is not None)


def fill_path(template: str, facts: Mapping[str, Any]) -> str:
    """A path in which no fact adds, leaves or climbs a level. Raises ``BadFact``."""
    path = ""
    for literal, name, _, _ in string.Formatter().parse(template):
        path += literal
        if name is not None:
            value = fill_text(f"{{{name}}}", facts)
            if value in ("", ".", ".."):
                raise BadFact("bad-fact", f"{{{name}}} is {value!r}, which cannot stand in a path")
            path += quote(value, safe="")
    return path


def fill_text(template: str, facts: Mapping[str, Any]) -> str:
    """A template filled in, as text. Raises ``BadFact``."""
    value = fill(template, facts)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: ""}[value]
    if isinstance(value, list | dict):
        raise BadFact("bad-fact", f"{template!r} is a list or an object, where a text was due")
    return str(value)


def fill(template: Any, facts: Mapping[str, Any]) -> Any:
    """JSON values filled in. Raises ``BadFact``."""
    if isinstance(template, list):
        return [fill(item, facts) for item in template]
    if isinstance(template, dict):
        return {key: fill(item, facts) for key, item in template.items()}
    if not isinstance(template, str):
        return template
    parts = list(string.Formatter().parse(template))
    for _, name, _, _ in parts:
        if name is not None and name not in facts:
            raise BadFact("missing-fact", f"{{{name}}} is not known of this message")
    if len(parts) == 1 and parts[0][0] == "" and parts[0][1] is not None:
        return facts[parts[0][1]]
    return "".join(literal + ("" if name is None else fill_text(f"{{{name}}}", facts)) for literal, name, _, _ in parts)
