"""What is new about a server, what has changed, and how it is told."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from blocks.values import CaseRule, Personality
from tasks.rules.personality import TRAITS, Change, changes, merged, words

FULL = Personality(
    server="(vsFTPd 3.0.3)",
    offers=("EPSV", "MDTM", "SIZE"),
    protection="TLSv1.3",
    tls_reuse=True,
    listing="LIST -a",
    list_form="Unix",
    hashes=("sha256",),
    resumes=True,
    tells_times=False,
    extended_passive=True,
    one_by_one=True,
    read_bytes=1,
    write_bytes=2,
    renames=True,
    rename_replaces=False,
    case_rule=CaseRule.TOLD_APART,
    longest_name=255,
    clock_seconds=-7200,
)


def test_every_trait_has_words_and_makes_the_way_to_the_ledger_and_back() -> None:
    assert set(TRAITS) == {field.name for field in fields(Personality)}
    assert None not in FULL.facts.values() and set(FULL.facts) == set(TRAITS)
    assert Personality.parse(json.loads(json.dumps(FULL.facts))) == FULL
    assert Personality.parse({"server": "x", "a trait of tomorrow": 1}) == Personality(server="x")
    assert Personality.parse({"server": "x", "case_rule": "a rule of tomorrow"}) == Personality(server="x")
    assert Personality.parse({}) == Personality()


@pytest.mark.parametrize(
    ("known", "seen", "told", "kept"),
    [
        pytest.param({}, {"resumes": True}, [], {"resumes": True}, id="what nobody knew is learned, not changed"),
        pytest.param({"resumes": True}, {}, [], {"resumes": True}, id="what a visit does not tell stays"),
        pytest.param({"resumes": True}, {"resumes": True}, [], {"resumes": True}, id="the same is the same"),
        pytest.param(
            {"resumes": True},
            {"resumes": False},
            [Change("resumes", "yes", "no")],
            {"resumes": False},
            id="no longer is a change",
        ),
        pytest.param(
            {"listing": "MLSD"},
            {"listing": "LIST"},
            [Change("listing", "MLSD", "LIST")],
            {"listing": "LIST"},
            id="from what to what",
        ),
        pytest.param(
            {"hashes": ("sha256",)},
            {"hashes": ()},
            [Change("hashes", "sha256", "without them")],
            {"hashes": ()},
            id="all of many",
        ),
        pytest.param(
            {"offers": ("A", "B", "C")},
            {"offers": ("A", "C", "D")},
            [Change("offers", "B", "D")],
            {"offers": ("A", "C", "D")},
            id="one of many",
        ),
        pytest.param({"clock_seconds": 0}, {"clock_seconds": 20}, [], {"clock_seconds": 0}, id="a clock drifts"),
        pytest.param(
            {"clock_seconds": 0},
            {"clock_seconds": 3600},
            [Change("clock_seconds", "as ours", "3600 s ahead of ours")],
            {"clock_seconds": 3600},
            id="a clock was set",
        ),
    ],
)
def test_changes(known: dict[str, object], seen: dict[str, object], told: list[Change], kept: dict[str, object]) -> None:
    before, now = Personality(**known), Personality(**seen)  # type: ignore[arg-type]
    assert list(changes(before, now)) == told
    assert merged(before, now) == Personality(**kept)  # type: ignore[arg-type]
    assert not changes(merged(before, now), now), "it is told once"


def test_what_is_not_tried_again_is_forgotten_with_the_version_that_it_was_found_in() -> None:
    known = Personality(server="1.0", offers=("A",), one_by_one=True, rename_replaces=False, case_rule=CaseRule.TOLD_APART)
    same, upgraded = Personality(server="1.0", offers=("A",)), Personality(server="2.0", offers=("A",))
    assert merged(known, same) == known
    assert merged(known, upgraded) == Personality(server="2.0", offers=("A",), case_rule=CaseRule.TOLD_APART)
    assert changes(known, upgraded) == (Change("server", "1.0", "2.0"),)


def test_a_trait_is_told_in_words() -> None:
    assert words("longest_name", 255) == "255 bytes or more"
    assert words("longest_name", 100) == "100 bytes"
    assert words("clock_seconds", -5) == "5 s behind ours"
    assert words("case_rule", CaseRule.NOT_TOLD_APART) == "not told apart"
    assert words("hashes", ()) == "none"
    assert "--probe" in words("case_rule", None) and "--probe" not in words("listing", None)
    assert Change("listing", "MLSD", "LIST").text == "lists folders by: MLSD -> LIST"
