"""Whether a comment holds the value of one of Prefect's Variables."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.rules.variables import from_variable

SECRET = "s3cr3t-tariff"


@pytest.mark.parametrize(
    ("comment", "value", "held"),
    [
        pytest.param(SECRET, SECRET, True, id="the whole comment"),
        pytest.param(f" {SECRET}\n", f"{SECRET}\n", True, id="but for blanks around it"),
        pytest.param(f"it is {SECRET}, as agreed", SECRET, True, id="within other words"),
        pytest.param(SECRET, {"deep": [1, {"in": SECRET}]}, True, id="nested in a value"),
        pytest.param(SECRET, json.dumps({"token": SECRET}), True, id="nested in a text that is JSON"),
        pytest.param(SECRET, json.dumps(json.dumps(SECRET)), True, id="JSON twice"),
        pytest.param('"s3cr3t\\u002dtariff"', '"s3cr3t\\u002dtariff"', True, id="JSON as it stands"),
        pytest.param(SECRET, '"s3cr3t\\u002dtariff"', True, id="JSON read"),
        pytest.param(f"x{SECRET}1", "{{ 'x' }}s3cr3t-tariff{% if 1 %}1{% endif %}", True, id="what a template leaves"),
        pytest.param("prod", "prod", True, id="a short value as the whole comment"),
        pytest.param("new products", "prod", False, id="a short value within other words"),
        pytest.param("last year's prices", SECRET, False, id="other words"),
        pytest.param("s3cr3t", SECRET, False, id="less than the value"),
        pytest.param("anything", "", False, id="an empty value"),
        pytest.param("12345678", 12345678, False, id="a number, which the form's door does not let in"),
        pytest.param("anything", "[" * 100_000, False, id="a text that is no JSON"),
    ],
)
def test_from_variable(comment: str, value: Any, held: bool) -> None:
    refusal = from_variable(comment, [("other", "else"), ("tariff", value)])
    assert (refusal is not None) is held
    if refusal is not None:
        assert refusal.code == "variable" and "'tariff'" in refusal.first_line and SECRET not in refusal.first_line


def test_a_name_that_is_none_is_not_shown() -> None:
    refusal = from_variable(SECRET, [("<img src=x>", SECRET)])
    assert refusal is not None and "img" not in refusal.first_line
