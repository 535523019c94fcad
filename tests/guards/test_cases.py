"""Every case at the end of the sign-off's specification has a test that bears its number, and none bears another."""

from __future__ import annotations

import re
from pathlib import Path

CASES = set(range(1, 34))
E2E = Path(__file__).parents[1] / "e2e"


def test_every_case_has_a_test() -> None:
    numbers = {
        int(n) for path in E2E.glob("test_*.py") for n in re.findall(r"(?m)^def test_case_(\d\d)_", path.read_text("utf-8"))
    }
    assert not CASES - numbers, f"without a test: {sorted(CASES - numbers)}"
    assert not numbers - CASES, f"no case of the specification: {sorted(numbers - CASES)}"
