"""Every question meets every fault on each of its calls, and is answered as if nothing had been; so is each look of a write.

The rows are data in ``writes``. Questions come first and in a sandbox of their own: what the writes of ``test_faults.py`` leave behind
makes every list long.
"""

from __future__ import annotations

import pytest

from tests.conformance.repositories.writes.bench import READ_FAULTS, Bench, measured
from tests.conformance.repositories.writes.reads import READS
from tests.conformance.repositories.writes.table import WRITES

FAULTS_OF_LOOKS = ("a burst of 503", "hung up", "500 with a page", "half an answer")


@pytest.fixture(autouse=True)
def _no_long_pauses(short_pauses: None) -> None:
    """The server is back at once."""


@pytest.mark.parametrize("name", READS)
def test_a_question_is_answered_all_the_same(bench: Bench, name: str) -> None:
    read = READS[name]
    given = read.prepare(bench)
    read.tell(bench.session, given)  # names are looked up once per session
    before, changed = bench.count("reads"), bench.count("writes")
    wanted = read.tell(bench.session, given)
    calls = bench.count("reads") - before
    assert wanted, f"{name!r} tells nothing"
    assert calls, f"{name!r} asks nothing"
    assert bench.count("writes") == changed, f"{name!r} changes something"
    for fault, faults in READ_FAULTS.items():
        for spared in range(calls):
            with bench.fault(faults, spared):
                assert read.tell(bench.session, given) == wanted, f"{fault}, call {spared + 1} of {calls}"
            assert not bench.left, f"{fault}, call {spared + 1} of {calls}: this fault met nothing"


@pytest.mark.parametrize(
    ("name", "turn"),
    [
        pytest.param(name, turn, marks=[pytest.mark.soak] if turn else [])
        for name in WRITES
        for turn in range(len(FAULTS_OF_LOOKS))
    ],
)
def test_a_look_on_the_way_is_answered_all_the_same(bench: Bench, name: str, turn: int) -> None:
    """What a write asks before and after it changes something.

    In the daily run the faults take turns, and of the looks that ask for the same, only the first meets one.
    """
    write = WRITES[name]
    wanted = measured(bench, write)
    met = range(len(wanted.looks)) if turn else [wanted.looks.index(look) for look in dict.fromkeys(wanted.looks)]
    for spared in met:
        fault = FAULTS_OF_LOOKS[(list(WRITES).index(name) + spared + turn) % len(FAULTS_OF_LOOKS)]
        given = write.prepare(bench)
        with bench.fault(READ_FAULTS[fault], spared):
            write.act(bench.session, given)
        assert write.stands(bench, given) == wanted.stands, f"{fault}, look {spared + 1}"
        if bench.left:  # some things are asked once in a session
            assert spared >= len(measured(bench, write).looks), f"{fault}, look {spared + 1}: this fault met nothing"
            break
