"""A mapping in a reviewed file that a block class parses: ``protocol: sftp`` chooses the class, and the rest are its fields."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from prefect.blocks.core import Block
from pydantic_core import CoreSchema, core_schema

from blocks.reviewed import Problem, beside, invalid, nearest


class Chosen:
    """A mapping whose ``protocol:`` (or ``kind:``) chooses the block class that parses the rest, strictly."""

    def __init__(self, word: str, choices: Mapping[str, type[Block]]) -> None:
        self.word, self.choices = word, choices

    def parse(self, given: Any) -> Any:
        """The block. Raises pydantic's ``ValidationError`` with all that is wrong in the mapping."""
        if isinstance(given, tuple(self.choices.values())):
            return given
        if not isinstance(given, dict):
            raise invalid(self.word, [Problem((), f"must be a mapping with a key {self.word!r}")])
        kind = self.choices.get(str(given.get(self.word)))
        if kind is None:
            what = f"no such {self.word}" if self.word in given else "is missing"
            raise invalid(self.word, [Problem((self.word,), f"{what}; {nearest(str(given.get(self.word)), self.choices)}")])
        fields = {key: value for key, value in given.items() if key != self.word}
        # A Prefect block keeps unknown keys silently, and resolves references: both are looked at before it sees anything.
        known = {key: value for key, value in fields.items() if key in kind.model_fields}
        problems = [Problem((key,), f"no such key; {nearest(key, kind.model_fields)}") for key in fields if key not in known]
        return beside([*problems, *_not_constant(kind, known)], known, lambda known: kind(**known))

    def terms(self, block: Block) -> dict[str, Any]:
        """What was agreed, without what Prefect adds: for the digest and the mirror."""
        fields = block.model_dump(mode="json", include=set(type(block).model_fields))
        fields.pop("block_type_slug", None)
        return {self.word: getattr(block, self.word), **fields}

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.parse, serialization=core_schema.plain_serializer_function_ser_schema(self.terms)
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        return {"type": "object", "oneOf": [_form(kind, self.word) for kind in self.choices.values()]}


def _form(kind: type[Block], word: str) -> dict[str, Any]:
    """The JSON schema of one back-end's keys, in one piece and without Prefect's additions."""
    schema = kind.model_json_schema()
    shared = schema.get("definitions", {})

    def inline(part: Any) -> Any:
        if isinstance(part, list):
            return [inline(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return inline({**shared[part["$ref"].rpartition("/")[2]], **{key: part[key] for key in part if key != "$ref"}})
        return {
            key: inline(value) for key, value in part.items() if key not in ("position", "title") or isinstance(value, dict)
        }

    chooses = {"const": getattr(kind, word), "description": "Chooses the back-end"}
    return {
        "description": (kind.__doc__ or "").strip().partition("\n")[0],
        "type": "object",
        "properties": {word: chooses, **inline(schema["properties"])},
        "required": [word, *schema.get("required", [])],
        "additionalProperties": False,
    }


@cache
def credentials(kind: type[Block]) -> frozenset[str]:
    """Fields whose form is that of a reference to a secret. It takes as long as the rest of a profile, so it is found out once."""
    forms = kind.model_json_schema()["properties"]
    return frozenset(key for key, form in forms.items() if "(env|file)" in json.dumps(form))


def _not_constant(kind: type[Block], fields: Mapping[str, Any]) -> Iterator[Problem]:
    """Where bytes go stands in the reviewed file, in full: only credentials may be looked up elsewhere."""
    for key, value in fields.items():
        if key not in credentials(kind) and isinstance(value, str) and re.match(r"(env|file):|.*(\{\{|\$\{)", value):
            yield Problem((key,), "must be written out: only credentials are references, so that nothing outside moves this")
