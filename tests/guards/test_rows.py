"""Every row of the list of hostile inputs about names, listings, timing and transport has a test that bears its number."""

from __future__ import annotations

import re
from pathlib import Path

ROWS = set(range(1, 55))
HOSTILE = Path(__file__).parents[1] / "hostile"


def test_every_row_has_a_test() -> None:
    numbers = {
        int(n) for path in HOSTILE.glob("test_*.py") for n in re.findall(r"(?m)^def test_row_(\d\d)_", path.read_text("utf-8"))
    }
    assert not ROWS - numbers, f"without a test: {sorted(ROWS - numbers)}"
    assert not numbers - ROWS, f"no row of the list: {sorted(numbers - ROWS)}"
