"""Sidecars: which file of a set is its sidecar, and what it tells about the others."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from blocks.values import Finding, Inbound, SidecarFact, shown
from tasks.rules.naming import illegal, text
from tasks.rules.sets import set_of
from tasks.rules.triage import LONGEST

LARGEST_BYTES = 64 * 1024
UNREADABLE, WITHOUT, ODD = "sidecar-unreadable", "sidecar-without-fact", "sidecar-odd-value"


def is_sidecar(name: bytes, stream: Inbound) -> bool:
    """True for the file of its set that tells about the others."""
    terms = stream.sets
    if terms is None or terms.sidecar is None:
        return False
    key = set_of(text(name), terms)
    return key is not None and text(name) == terms.sidecar.name.replace("{set}", key)


def to_come(name: bytes, facts: Mapping[str, str], stream: Inbound) -> frozenset[str]:
    """Facts that the sidecar of a file has yet to tell."""
    terms = stream.sets
    if terms is None or terms.sidecar is None or set_of(text(name), terms) is None or is_sidecar(name, stream):
        return frozenset()
    return frozenset(terms.sidecar.facts.keys() - facts.keys())


def read(content: bytes, stream: Inbound) -> tuple[dict[str, str], list[Finding]]:
    """What a sidecar tells, and what is wrong with it. All or nothing: beside an error no fact counts."""
    assert stream.sets is not None and stream.sets.sidecar is not None  # noqa: S101 - ``is_sidecar``
    try:
        told = _parsed(content)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else shown(str(error))[:200]
        return {}, [
            Finding(
                code=UNREADABLE,
                message=f"The sidecar cannot be read: {reason}.",
                rule=f"A sidecar is one JSON object of at most {LARGEST_BYTES:,} bytes, in UTF-8, with each key once",
                fix="Send it again as agreed, under the same name.",
            )
        ]
    facts, findings = dict[str, str](), list[Finding]()
    for fact, terms in stream.sets.sidecar.facts.items():
        value, finding = _fact(fact, terms, told)
        facts[fact] = value
        findings += [finding] if finding else []
    return ({}, findings) if findings else (facts, [])


def _parsed(content: bytes) -> Any:
    """The JSON as it is written: numbers stay the text that they are. Raises ``ValueError`` and ``RecursionError``."""
    if len(content) > LARGEST_BYTES:
        raise ValueError(f"it is larger than {LARGEST_BYTES:,} bytes")
    told = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_each_once, parse_int=str, parse_float=str)
    if not isinstance(told, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - one kind of error for whatever is wrong with it
    return told


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a key that stands there twice, each reader would take another one."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _fact(fact: str, terms: SidecarFact, told: Any) -> tuple[str, Finding | None]:
    for step in terms.at.split("."):
        told = told.get(step) if isinstance(told, dict) else None
    if told is None or told == "" or (isinstance(told, str) and not told.strip()):
        return "", Finding(
            code=WITHOUT,
            message=f"The sidecar tells no {fact}.",
            column=terms.at,
            rule=f"{fact} stands at {terms.at!r}",
            fix="Send it again with that value, under the same name.",
        )
    wrong = _wrong(told, terms)
    if wrong is None:
        return str(told), None
    return "", Finding(
        code=ODD,
        message=f"The {fact} that the sidecar tells cannot be used: {wrong}.",
        column=terms.at,
        value=shown(str(told))[:LONGEST],
        rule=f"{fact} matches {terms.matches} and is one line of up to {LONGEST} characters that could be a file's name",
        fix="Send it again with the right value, under the same name.",
    )


def _wrong(value: Any, terms: SidecarFact) -> str | None:
    """Why a value cannot be a fact; None if it can. Facts become names and folders, so what could be no name is none."""
    if not isinstance(value, str):
        return "it is neither a text nor a number"
    if len(value) > LONGEST:
        return f"it is longer than {LONGEST} characters"
    if value != value.strip() or not value.isprintable():
        return "it has blanks at its ends, or characters that cannot be seen"
    if (why := illegal(value.encode("utf-8", "replace"))) is not None:
        return why
    return None if re.fullmatch(terms.matches, value) else "it is not as agreed"
