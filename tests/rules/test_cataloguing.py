"""A document is restricted where any of the agreed signs says so, however its repository writes what they stand for."""

from __future__ import annotations

from typing import Any

import pytest

from blocks.index_terms import Restricted
from blocks.values import Described, Kept
from tasks.rules.cataloguing import is_restricted


def document(*, path: tuple[str, ...] = (), readers: tuple[str, ...] = (), **values: Any) -> Described:
    kept = Kept("17", "a.pdf", False, 1, 1, "application/pdf", None, categories={"Report": values})
    return Described(kept, path, ("1",), frozenset(readers))


def terms(**signs: Any) -> Restricted:
    return Restricted.model_validate({"policy": "mask", **signs})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("secret", True, id="a text"),
        pytest.param("Secret ", True, id="in another case, with a blank"),
        pytest.param("secretary", False, id="another text"),
        pytest.param(True, True, id="a checkbox"),
        pytest.param(False, False, id="one that is not set"),
        pytest.param(3, True, id="a whole number"),
        pytest.param(3.0, True, id="a number"),
        pytest.param(3.5, False, id="another number"),
        pytest.param("3", True, id="a number as a text"),
        pytest.param(["none", "secret"], True, id="one of several"),
        pytest.param((1, 3), True, id="one of several numbers"),
        pytest.param([{"Level": "none"}, {"Level": ["secret"]}], True, id="in a row"),
        pytest.param({"Level": "none"}, False, id="in no row"),
        pytest.param(None, False, id="nothing"),
        pytest.param([], False, id="none"),
    ],
)
def test_a_mark_counts_whatever_its_value_is(value: Any, expected: bool) -> None:
    marked = terms(marked=[{"category": "Report", "attribute": "Secrecy", "values": ["secret", "true", "3"]}])
    assert is_restricted(document(Secrecy=value), marked) is expected
    assert not is_restricted(document(Other=value), marked) and not is_restricted(document(Secrecy=value), None)


@pytest.mark.parametrize(
    ("path", "expected"),
    [(("HR",), True), (("hr", "Salaries"), True), (("HRM",), False), (("Open", "HR"), False), ((), False)],
)
def test_a_folder_counts_with_all_below_it(path: tuple[str, ...], expected: bool) -> None:
    assert is_restricted(document(path=path), terms(folders=["HR"])) is expected


@pytest.mark.parametrize(("readers", "expected"), [(("group:All", "user:ann"), False), (("user:ann",), True), ((), True)])
def test_what_not_everybody_may_see_counts(readers: tuple[str, ...], expected: bool) -> None:
    assert is_restricted(document(readers=readers), terms(open_to=["group:All"])) is expected


def test_one_sign_is_enough() -> None:
    all_signs = terms(folders=["HR"], open_to=["group:All"])
    assert is_restricted(document(path=("HR",), readers=("group:All",)), all_signs)
    assert not is_restricted(document(path=("Open",), readers=("group:All",)), all_signs)
