"""Where a document goes, by what is known of it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from blocks.values import Destination, Others
from tasks.rules.routing import Routing, needed, route

WAYS = {
    "claims": Destination(system="crm", route="claim", when={"type": "claim"}),
    "letters": Destination(system="crm", route="letter", when={"type": ("letter", "reminder")}),
    "abroad": Destination(system="crm", route="abroad", when={"type": "claim", "country": "at"}),
}
NEEDS = {"claims": {"project"}, "letters": set[str](), "abroad": set[str]()}


def to(*destinations: str) -> Routing:
    return Routing(destinations)


def unclear(why: str) -> Routing:
    return Routing(unclear=why)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param({"type": "letter"}, to("letters"), id="the one that fits"),
        pytest.param({"type": "reminder"}, to("letters"), id="one of several values is enough"),
        pytest.param({"type": "claim", "project": 12, "country": "de"}, to("claims"), id="numbers are told, too"),
        pytest.param({"type": "claim", "project": "12", "country": "at"}, to("claims", "abroad"), id="all that fit"),
        pytest.param(
            {"type": ["claim", "letter"], "project": "12", "country": "de"},
            to("claims", "letters"),
            id="several values of its own",
        ),
        pytest.param(
            {"type": "claim", "country": "de"},
            unclear("nobody has told project of it, and claims may need it"),
            id="a route's need",
        ),
        pytest.param(
            {"type": "claim", "project": "12"},
            unclear("nobody has told country of it, and claims, abroad may need it"),
            id="nobody goes while it is not clear for one",
        ),
        pytest.param(
            {"type": " ", "country": "de", "project": "12"},
            unclear("nobody has told type of it, and claims, letters may need it"),
            id="blank is not told",
        ),
        pytest.param({"type": "Letter"}, unclear("it fits no destination (type=Letter)"), id="nearly is not"),
        pytest.param({"type": "memo\n"}, unclear("it fits no destination (type=memo\\x0a)"), id="shown harmlessly"),
    ],
)
def test_route(facts: dict[str, Any], expected: Routing) -> None:
    assert route(facts, WAYS, NEEDS) == expected


def test_what_fits_none_may_be_left() -> None:
    assert route({"type": "memo"}, WAYS, NEEDS, Others.LEAVE) == to()
    assert route({}, WAYS, NEEDS, Others.LEAVE).unclear, "but what nobody has told is not left"


def test_what_a_destination_needs() -> None:
    one = Destination(system="crm", route="claim", facts={"title": "Claim {project}"})
    assert needed(one, {"title", "id"}, {"project"}) == {"id", "project"}


def test_more_knowledge_never_takes_a_destination_back_that_was_clear() -> None:
    """Seeded: with every fact told, exactly those go whose conditions all hold; with less, the same ones or nobody."""
    chance = random.Random(3)
    for _ in range(300):
        full = {"type": chance.choice(["claim", "letter", "memo"]), "country": chance.choice(["at", "de"]), "project": "12"}
        wanted = [name for name, way in WAYS.items() if all(full[fact] in _values(way.when[fact]) for fact in way.when)]
        assert route(full, WAYS, NEEDS, Others.LEAVE) == to(*wanted)
        less = {fact: value for fact, value in full.items() if chance.random() < 0.6}
        found = route(less, WAYS, NEEDS, Others.LEAVE)
        assert found.unclear or found == to(*wanted)


def _values(wanted: str | tuple[str, ...]) -> tuple[str, ...]:
    return (wanted,) if isinstance(wanted, str) else wanted
