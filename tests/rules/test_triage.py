"""Triage: what was told of one file holds for those of the same pattern, and for nothing else."""

from __future__ import annotations

import pytest

from tasks.rules.triage import Taught, pattern_of, told, unfit


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
    facts, notes = told(other, [Taught(pattern_of(name), {"project": "P"}, "ann")], ["project"])
    assert (facts == {"project": "P"}, len(notes)) == (same, int(same))


def test_the_last_rule_decides_and_only_what_is_agreed_is_told() -> None:
    rules = [Taught("a", {"project": "1", "other": "x"}, "ann"), Taught("a", {"project": "2"}, "bea")]
    facts, (note,) = told("a", rules, ["project"])
    assert facts == {"project": "2"}
    assert "bea" in note.message
    assert unfit({"project": "P 1"}, ["project"]) is None
