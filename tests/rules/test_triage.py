"""Triage: what was told of one file holds for those of the same pattern, once it is live, and for nothing else."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tasks.rules.triage import Past, RuleState, Taught, contradicted, pattern_of, rehearsed, told, unfit


def live(pattern: str, facts: Mapping[str, str], by: str = "ann", number: int = 1) -> Taught:
    return Taught(f"acme/certificates/{number}", pattern, facts, by, "seen", RuleState.LIVE, "ben", "so it is")


@pytest.mark.parametrize(
    ("name", "other", "same"),
    [
        pytest.param("ISO_9001_2026.pdf", "ISO_14001_1.pdf", True, id="other digits"),
        pytest.param("ISO_9001_2026.pdf", "ISO_9001_2026.pdfx", False, id="longer"),
        pytest.param("ISO_9001.pdf", "ISO_final.pdf", False, id="a word where there were digits"),
        pytest.param("a.b", "aXb", False, id="a dot is a dot"),
        pytest.param("a", "a1", False, id="digits where there were none"),
        pytest.param("a١", "a٢", False, id="digits of another script are text"),
        pytest.param("1٢3", "145", False, id="two runs of digits never stand side by side"),
        pytest.param("a+1(2).pdf", "a+3(44).pdf", True, id="no expression of its own"),
    ],
)
def test_the_same_pattern_has_other_digits_and_nothing_else(name: str, other: str, same: bool) -> None:
    facts, notes = told(other, [live(pattern_of(name), {"project": "P"})], ["project"])
    assert (facts == {"project": "P"}, len(notes)) == (same, int(same))


@pytest.mark.parametrize("state", [state for state in RuleState if state is not RuleState.LIVE])
def test_only_a_live_rule_tells_anything(state: RuleState) -> None:
    assert told("a", [Taught("acme/x/1", "a", {"project": "P"}, "ann", state=state)], ["project"]) == ({}, ())


def test_only_what_is_agreed_is_told_and_the_note_names_rule_and_people() -> None:
    facts, (note,) = told("a", [live("a", {"project": "2", "other": "x"})], ["project"])
    assert facts == {"project": "2"}
    assert note.message == "Its project is 2, as ann told of such a file, and ben agreed (rule acme/certificates/1)."
    assert unfit({"project": "P 1"}, ["project"]) is None


def test_where_two_rules_differ_neither_is_believed() -> None:
    both = [live("a", {"project": "1", "site": "Ulm"}), live("[a-z]", {"project": "2", "site": "Ulm"}, number=4)]
    facts, notes = told("a", both, ["project", "site"])
    assert facts == {"site": "Ulm"}, "on that they do not differ"
    assert [note.code for note in notes] == ["rules-differ", "told-before"]
    assert "1 (rule acme/certificates/1) and 2 (rule acme/certificates/4)" in notes[0].message


def test_only_a_live_rule_about_the_same_files_contradicts() -> None:
    rule = live("a[0-9]+", {"project": "1"})
    assert contradicted("a[0-9]+", {"project": "2"}, [rule]) is rule
    assert contradicted("a[0-9]+", {"project": "1", "site": "Ulm"}, [rule]) is None, "more, and nothing else"
    assert contradicted("b[0-9]+", {"project": "2"}, [rule]) is None
    proposed = Taught("acme/certificates/2", "a[0-9]+", {"project": "1"}, "ann")
    assert contradicted("a[0-9]+", {"project": "2"}, [proposed]) is None


def test_what_a_rule_would_have_done_is_counted_and_what_is_against_it_is_named() -> None:
    past = [
        Past("ISO_1.pdf", {}, {}),
        Past("ISO_2.pdf", {"project": " "}, {}),
        Past("ISO_3.pdf", {"project": "P-77"}, {"project": "cleo"}),
        Past("ISO_4.pdf", {"project": "P-1"}, {"project": "cleo"}),
        *(Past(f"ISO_1{number}.pdf", {"project": "P-2"}, {}) for number in range(6)),
    ]
    found = rehearsed({"project": "P-77"}, past, looked=400, more=False)
    assert (found.fit, found.new, found.same, len(found.against)) == (10, 2, 1, 7)
    assert found.in_words() == (
        "of 400 past files 10 fit its names; of these 2 would have got what nobody told, 1 had the same, 7 had something else: "
        "ISO_4.pdf (project=P-1, told by cleo); "
        + "; ".join(f"ISO_1{number}.pdf (project=P-2, told by its name or content)" for number in range(4))
        + "; and 2 more"
    )
    assert (found.facts()["against"], len(found.facts()["named"])) == (7, 5)  # type: ignore[arg-type]
    assert rehearsed({"project": "P"}, [], 10_000, more=True).in_words().startswith("of the last 10,000 past files 0 fit")
