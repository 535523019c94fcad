"""Routing: which destinations a document goes to, by what is known of it; where that does not tell, a person does, and nobody guesses."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blocks.values import Destination, Others, shown

KNOWN = frozenset({"partner", "stream", "name", "extension", "id", "version", "repository", "received", "digest", "size"})
"""Facts of every document; those of ``doctype`` and the names' groups, or of a watch's ``told``, are beside them."""
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Routing:
    """Where a document goes, or why nobody can tell."""

    destinations: tuple[str, ...] = ()
    unclear: str = ""
    """Empty: it is clear, also that it goes nowhere."""


def route(
    facts: Mapping[str, Any],
    destinations: Mapping[str, Destination],
    needs: Mapping[str, Collection[str]],
    others: Others = Others.TRIAGE,
) -> Routing:
    """Where a document with these facts goes. ``needs``: what must be known of a document that goes to a destination, beside ``when``.

    A fact may have several values, as a list; one of them is enough for a ``when``. It goes nowhere before all is clear: of a document
    that is to go to two systems, none has it while nobody knows whether it is for the other.
    """
    fits = [name for name, one in destinations.items() if _may_fit(facts, one)]
    missing = sorted({fact for name in fits for fact in (*destinations[name].when, *needs[name]) if not _is_told(facts, fact)})
    if missing:
        return Routing(unclear=f"nobody has told {', '.join(missing)} of it, and {', '.join(fits)} may need it")
    if not fits and others is Others.TRIAGE:
        asked = sorted({fact for one in destinations.values() for fact in one.when})
        told = ", ".join(f"{fact}={_said(facts[fact])}" for fact in asked if _is_told(facts, fact))
        return Routing(unclear=f"it fits no destination ({told or 'nothing is known of it'})")
    return Routing(tuple(fits))


def needed(one: Destination, route_needs: Collection[str], used: Collection[str]) -> frozenset[str]:
    """What must be known of a document: what the route needs, unless the destination makes it, and what it makes that of."""
    return frozenset(route_needs) - one.facts.keys() | frozenset(used)


def _may_fit(facts: Mapping[str, Any], one: Destination) -> bool:
    """False if something that is known of the document speaks against it."""
    return not any(_is_told(facts, fact) and not _is_one_of(facts[fact], wanted) for fact, wanted in one.when.items())


def _is_one_of(value: Any, wanted: str | tuple[str, ...]) -> bool:
    allowed = {wanted} if isinstance(wanted, str) else set(wanted)
    return not allowed.isdisjoint(_values(value))


def _is_told(facts: Mapping[str, Any], fact: str) -> bool:
    return any(value.strip() for value in _values(facts.get(fact)))


def _values(value: Any) -> Iterator[str]:
    several = value if isinstance(value, list | tuple) else [value]
    return (str(one) for one in several if one is not None)


def _said(value: Any) -> str:
    return " | ".join(shown(one)[:60] for one in list(_values(value))[:_SHOWN])
