"""Which file completes one that was cut."""

from __future__ import annotations

from io import BytesIO

import pytest

from tasks.rules.completes import completes

HEADER, END = b"shipment;line\n", b"#TRAILER;rows=3\n"
ROWS = b"S1;1\nS1;2\nS1;3\n"
WHOLE = HEADER + ROWS + END


@pytest.mark.parametrize(
    ("cut", "whole", "expected"),
    [
        pytest.param(HEADER + b"S1;1\nS1;2\n" + END, WHOLE, True, id="its end is missing"),
        pytest.param(HEADER + b"S1;1\nS1;3\n" + END, WHOLE, True, id="a row in the middle is missing"),
        pytest.param(HEADER + b"S1;1\nS1", WHOLE, True, id="cut inside a row"),
        pytest.param(HEADER + b"S1;1\n#TRAI", WHOLE, False, id="cut inside the control line: a person looks"),
        pytest.param(HEADER + b"S1;1\n", (HEADER + ROWS).replace(b"\n", b"\r\n"), True, id="other line ends"),
        pytest.param(b"\xef\xbb\xbf" + HEADER + b"S1;1\n", WHOLE, True, id="a byte order mark"),
        pytest.param(HEADER + b"S1;2\nS1;1\n", WHOLE, False, id="another order"),
        pytest.param(HEADER + b"S1;1\nS1;1\n", WHOLE, False, id="a row twice that comes once"),
        pytest.param(HEADER + b"S1;9\n" + END, WHOLE, False, id="a row that is not in it"),
        pytest.param(HEADER + b"S1;1\nS\n", WHOLE, False, id="a whole row that only begins like one"),
        pytest.param(HEADER + END, WHOLE, False, id="no rows at all: nobody could tell"),
        pytest.param(b"", WHOLE, False, id="nothing"),
        pytest.param(WHOLE, HEADER, False, id="the other way round"),
    ],
)
def test_completes(cut: bytes, whole: bytes, expected: bool) -> None:
    assert completes(BytesIO(whole), BytesIO(cut), "#TRAILER") is expected


def test_a_document_without_line_ends_is_told_by_how_it_begins() -> None:
    whole = b"%PDF-1.7\n" + bytes(range(11, 256)) * 20_000
    assert completes(BytesIO(whole), BytesIO(whole[:3_000_000]), None)
    assert not completes(BytesIO(whole), BytesIO(whole[:2_000_000] + b"x" + whole[2_000_001:3_000_000]), None)
