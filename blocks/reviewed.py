"""Reading a reviewed file: strict YAML into a pydantic model, and every mistake in it named with its line, all at once.

Strict means: no unknown keys (the nearest known one is suggested), no key twice, no tags, no merge keys, one document, and
bounds on size, depth and what anchors expand to. Plain words are read by the YAML 1.2 core schema: ``no`` and ``12:30`` are
text, as their writer meant them (https://yaml.org/spec/1.2.2/#103-core-schema).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from blocks.errors import ConfigurationError
from blocks.values import shown

LARGEST_BYTES = 256 * 1024
MOST_VALUES = 20_000
DEEPEST = 32

Model = TypeVar("Model", bound=BaseModel)
Loc = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend: where in the terms, and what."""

    loc: Loc
    message: str


def load(path: Path, model: type[Model], also: Callable[[Any], Iterable[Problem]] = lambda content: ()) -> Model:
    """The file's content as ``model``. Raises ``ConfigurationError`` that lists every problem with its line.

    ``also`` looks at the plain content for what the model cannot know, to be told along with the rest.
    """
    source = read(path)
    try:
        valid: Model = beside(also(source.content), source.content, model.model_validate)
    except ValidationError as error:
        schema, details = model.model_json_schema(), error.errors()
        raise source.refuse(_explain(detail, schema) for detail in details if not _follows(detail, details)) from None
    return valid


def invalid(title: str, problems: Iterable[Problem]) -> ValidationError:
    """What a pydantic validator raises to name several problems below its own place."""
    return ValidationError.from_exception_data(title, [refusal(problem) for problem in problems])


def beside(problems: Iterable[Problem], given: Any, handler: Callable[[Any], Any]) -> Any:
    """For a wrap validator: validate on, and name these problems along with whatever else is wrong."""
    errors = [refusal(problem) for problem in problems]
    try:
        valid = handler(given)
    except ValidationError as error:
        errors = [*map(again, error.errors()), *errors]
    if errors:
        raise ValidationError.from_exception_data("terms", errors)
    return valid


def refusal(problem: Problem) -> InitErrorDetails:
    """A problem as pydantic carries it."""
    message: Any = problem.message  # not a template: pydantic fills in nothing when it is given no context
    return InitErrorDetails(type=PydanticCustomError("terms", message), loc=problem.loc, input=None)


def again(detail: ErrorDetails) -> InitErrorDetails:
    """An error that pydantic reported, to be raised once more beside others."""
    if detail["type"] in ("value_error", "assertion_error", "terms"):
        message = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        return refusal(Problem(detail["loc"], message))
    return InitErrorDetails(type=detail["type"], loc=detail["loc"], input=detail["input"], ctx=detail.get("ctx", {}))


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: what was probably meant, and what there is."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"{meant}known: {', '.join(words) or 'none'}"


# --------------------------------------------------------------------------------------------- the file


@dataclass(slots=True)
class Source:
    """A file's content as plain values, and the line on which each of them stands."""

    path: Path
    content: Any = None
    lines: dict[Loc, int] = field(default_factory=dict)
    twice: list[Problem] = field(default_factory=list)

    def line(self, loc: Loc) -> int:
        """The line of a place, or of the nearest place around it (a missing key stands nowhere)."""
        while loc not in self.lines and loc:
            loc = loc[:-1]
        return self.lines.get(loc, 1)

    def refuse(self, problems: Iterable[Problem]) -> ConfigurationError:
        found = sorted({(self.line(p.loc), ".".join(map(str, p.loc)), p.message) for p in problems})
        count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
        lines = [f"  line {line}: {place + ': ' if place else ''}{message}" for line, place, message in found]
        return ConfigurationError("\n".join([f"{self.path}: {count}; nothing of it is used until mended", *lines]))


def read(path: Path) -> Source:
    """Parse a YAML file within bounds. Raises ``ConfigurationError``."""
    source = Source(path)
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}); check the path and its owner") from error
    if len(raw) > LARGEST_BYTES:
        raise ConfigurationError(f"{path}: larger than {LARGEST_BYTES // 1024} KiB; people are meant to read it")
    try:
        node = _composed(raw)
        source.content = _Builder(source).value(node, (), ()) if node is not None else {}
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        told = ", ".join(filter(None, (error.context, error.problem)))
        raise ConfigurationError(f"{path}: 1 problem; nothing of it is used until mended\n  line {line}: {told}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: not YAML: {shown(str(error))}") from None
    if source.twice:
        raise source.refuse(source.twice)
    return source


@lru_cache(maxsize=16)
def _composed(raw: bytes) -> yaml.Node | None:
    """What a file of these bytes says. A file is read anew each time, but nearly always says what it did, and YAML is slow to read."""
    return yaml.compose(raw.decode("utf-8-sig"), Loader=_Loader)


def _at_mark(message: str, where: yaml.Event | yaml.Node) -> yaml.MarkedYAMLError:
    mark: Any = where.start_mark  # two classes, one for the parser in C
    return yaml.MarkedYAMLError(None, None, message, mark)


class _Loader(yaml.SafeLoader):
    """Composes nodes only; stops at tags, at too much nesting and at too many values, before anything is built."""

    depth = 0
    values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise _at_mark(f"the tag {shown(event.tag)} is not allowed; write a plain value", event)
        self.depth += 1
        if self.depth > DEEPEST:
            raise _at_mark(f"nested more than {DEEPEST} levels deep", event)
        is_key = parent is not None and index is None
        self.values += not is_key
        if self.values > MOST_VALUES:
            raise _at_mark(f"more than {MOST_VALUES} values", event)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


_NULL = re.compile(r"|~|null|Null|NULL")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,18}|[0-9]{1,18}(\.[0-9]{0,18})?)([eE][-+]?[0-9]{1,3})?")


class _Builder:
    """Plain values from nodes, the lines noted on the way. Anchors are followed, and their expansion is counted."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.values = 0

    def value(self, node: yaml.Node, loc: Loc, above: tuple[int, ...]) -> Any:
        self.values += 1
        if self.values > MOST_VALUES:
            raise _at_mark(f"its anchors expand to more than {MOST_VALUES} values", node)
        if id(node) in above:
            raise _at_mark("an anchor that contains itself", node)
        self.source.lines.setdefault(loc, node.start_mark.line + 1)
        above = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, loc, above)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*loc, place), above) for place, item in enumerate(node.value)]
        return _scalar(node)

    def mapping(self, node: yaml.MappingNode, loc: Loc, above: tuple[int, ...]) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.value == "<<":
                raise _at_mark("a key must be a plain word; merge keys are written out", key_node)
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in built:
                first = self.source.lines[(*loc, key)]
                self.source.lines[(*loc, key, "again")] = line
                self.source.twice.append(
                    Problem((*loc, key, "again"), f"{shown(key)!r} stands here twice (first in line {first})")
                )
                continue
            self.source.lines[(*loc, key)] = line
            built[key] = self.value(value_node, (*loc, key), above)
        return built


def _scalar(node: yaml.Node) -> str | int | float | bool | None:
    text = str(node.value)
    if getattr(node, "style", None):  # quoted or a block: text
        return text
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


# --------------------------------------------------------------------------------------------- explaining


def _explain(detail: ErrorDetails, schema: dict[str, Any]) -> Problem:
    """A pydantic error in the words of the file's author. Values are not repeated: one may be a secret in the wrong place."""
    loc = detail["loc"]
    kind = detail["type"]
    if kind == "extra_forbidden":
        return Problem(loc, f"no such key; {nearest(str(loc[-1]), _keys(schema, loc[:-1]))}")
    place = _at(schema, loc)
    meaning = f" ({place['description']})" if place.get("description") else ""
    if kind == "missing":
        return Problem(loc, f"is missing{meaning}")
    if kind == "string_pattern_mismatch" and "env|file" in detail["ctx"]["pattern"]:
        return Problem(loc, "a credential is written as env:NAME or file:/path, never in clear")
    if kind == "string_type" and isinstance(detail["input"], int | float | bool):
        return Problem(loc, f"must be text: put it in quotes{meaning}")
    if kind == "terms":
        return Problem(loc, str(detail["msg"]))
    return Problem(loc, f"{detail['msg']}{meaning}")


def _follows(detail: ErrorDetails, details: Iterable[ErrorDetails]) -> bool:
    """True for "too few items" where an item is there and has problems of its own: only those are worth telling."""
    loc = detail["loc"]
    return detail["type"] == "too_short" and any(other["loc"][: len(loc)] == loc and other["loc"] != loc for other in details)


def _keys(schema: dict[str, Any], loc: Loc) -> list[str]:
    return list(_at(schema, loc).get("properties", ()))


def _at(schema: dict[str, Any], loc: Loc) -> dict[str, Any]:
    """The part of a JSON schema that describes a place; empty where it cannot be told."""
    place = schema
    for step in loc:
        inner = _descend(_resolved(place, schema), step, schema)
        if inner is None:
            return {}
        place = inner
    return {**_resolved(place, schema), **place}


def _descend(place: dict[str, Any], step: str | int, schema: dict[str, Any]) -> dict[str, Any] | None:
    for option in (place, *(_resolved(o, schema) for o in (*place.get("anyOf", ()), *place.get("oneOf", ())))):
        if step in option.get("properties", {}):
            return dict(option["properties"][step])
        anything = [option.get("items")] if isinstance(step, int) else [option.get("additionalProperties")]
        for inner in (*anything, *option.get("patternProperties", {}).values()):
            if isinstance(inner, dict):
                return inner
    return None


def _resolved(place: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = place.get("$ref")
    return dict(schema["$defs"][reference.rpartition("/")[2]]) if reference else place
