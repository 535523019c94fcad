"""Names made to fit what a repository can hold."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from blocks.repositories.naming import fitted
from blocks.repositories.otcs_names import kept_name


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        pytest.param("PRICAT 2026-12-01 (ä).csv", "PRICAT 2026-12-01 (ä).csv", id="fits"),
        pytest.param("a\u00a0b.csv", "a\u00a0b.csv", id="a blank that is no usual one is kept"),
        pytest.param("a:b.csv", "a_b~ca7c2b0f.csv", id="forbidden"),
        pytest.param("a\u202eb.csv", "a_b~2b41870f.csv", id="a mark that turns the text round"),
        pytest.param(" a.csv", "a~9c085893.csv", id="a blank at its end"),
    ],
)
def test_a_name_that_fits_is_kept_and_any_other_is_marked(name: str, kept: str) -> None:
    assert kept_name(name) == kept


@given(st.text())
@example("a\u2028b")
@example("\ud800")
def test_nothing_unseen_or_forbidden_is_left_and_only_a_name_without_it_is_kept(name: str) -> None:
    unseen = {char for char in name if char == ":" or unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    kept = fitted(name, forbidden=":", length=len, most=248, reserved=lambda _: False)
    assert not unseen & set(kept)
    assert (kept == name) == (not unseen and name == name.strip() != "" and len(name) <= 248)
