"""Canonical JSON: one text for one value, whichever of two writers it came from."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest

from blocks.canonical import canonical, of_plain


class Word(StrEnum):
    HELLO = "hello"


class Odd(Enum):
    ONE = 1


@dataclass
class Pair:
    left: int = 1


def by_json(value: Any) -> str:
    """What the canonical text was before there was a second writer."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def typed(value: Any) -> Any:
    """A value with the types of all that is in it: a member of an enumeration is equal to its text, and is not the same."""
    if type(value) is dict:
        return {key: typed(inner) for key, inner in value.items()}
    return [typed(inner) for inner in value] if type(value) is list else (type(value), value)


def without_end() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize("code", [*range(0x100), 0x2028, 0xD7FF, 0xD800, 0xDCFF, 0xDFFF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF])
def test_every_character_is_written_as_ever(code: int) -> None:
    for value in ({"name": f"a{chr(code)}b"}, {f"a{chr(code)}b": 1}, chr(code)):
        assert canonical(value) == by_json(value)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(1e16, id="a number that is written in two ways"),
        pytest.param([1.0, -0.0, 1e-7, 5e-324], id="numbers with a point"),
        pytest.param([2**63, -(2**63), 2**64, 10**40, -(10**40)], id="numbers of many digits"),
        pytest.param({"b": 1, "a": {"z": [], "": {}}, "B": None}, id="keys out of order"),
        pytest.param({"\U0001f600": 1, "\uffff": 2, "é": 3, "z": 4}, id="keys that sort otherwise as UTF-8"),
        pytest.param({"\U0001f600": 1, "\ue000": 2}, id="keys that sort otherwise as UTF-16"),
        pytest.param({1: "a", 20: "b"}, id="numbers as keys"),
        pytest.param({Word.HELLO: Word.HELLO}, id="a member of an enumeration of texts"),
        pytest.param(("a", ("b",)), id="tuples"),
        pytest.param([[[]]] * 3, id="lists"),
        pytest.param("", id="an empty text"),
        pytest.param(True, id="true"),
    ],
)
def test_whatever_json_has_is_written_as_ever(value: Any) -> None:
    assert canonical(value) == by_json(value)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(float("nan"), id="not a number"),
        pytest.param({"at": datetime(2026, 1, 1, tzinfo=UTC)}, id="a moment"),
        pytest.param([UUID(int=1)], id="a UUID"),
        pytest.param([Pair()], id="a dataclass"),
        pytest.param([Odd.ONE], id="a member of an enumeration of no texts"),
        pytest.param([b"a"], id="bytes"),
        pytest.param(without_end(), id="a list that holds itself"),
    ],
)
def test_what_json_does_not_have_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        canonical(value)


def test_a_mapping_is_written_as_an_object() -> None:
    assert canonical({"told": MappingProxyType({"b": 1, "a": 2})}) == '{"told":{"a":2,"b":1}}'


def test_any_value_is_written_as_ever_and_what_is_called_plain_is_read_as_it_was() -> None:
    chance, plain = random.Random(8), 0

    def name() -> str:
        return "".join(chance.choice("abcxyz0189._-") for _ in range(chance.randrange(40)))

    leaves: list[Callable[[], Any]] = [
        lambda: None,
        lambda: chance.random() < 0.5,
        lambda: chance.choice([0, -1, 4096, 2**53 + 1, 2**63, 2**70]),
        lambda: chance.choice([0.1, 1e22, 1e-9, 3.0]),
        lambda: "".join(chance.choice('ab/\\"\x00\x1f\x7fé\ud800\U0001f600 ') for _ in range(chance.randrange(8))),
        name,
        lambda: Word.HELLO,
        lambda: ("a", 1),
    ]

    def value(depth: int) -> Any:
        kind = chance.randrange(8) if depth else 0
        if kind < 4:
            return chance.choice(leaves)()
        if kind < 6:
            return [value(depth - 1) for _ in range(chance.randrange(4))]
        return {f"{name()}{index}": value(depth - 1) for index in range(chance.randrange(4))}

    for _ in range(5000):
        made = {"body": value(3), "n": 1}
        assert canonical(made) == by_json(made)
        if (text := of_plain(made)) is not None:
            plain += 1
            assert typed(json.loads(text)) == typed(made)
    assert 500 < plain < 4500
