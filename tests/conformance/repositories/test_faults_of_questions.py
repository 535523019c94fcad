"""Every question meets every fault on each of its calls, and is answered as if nothing had been; so is each look of a write.

The rows are data in ``writes``. Questions come first and in a sandbox of their own: what the writes of ``test_faults.py`` leave behind
makes every list long.
"""

from __future__ import annotations

import pytest

from tests.conformance.repositories.writes.bench import READ_FAULTS, Bench, measured
from tests.conformance.repositories.writes.reads import READS
from tests.conformance.repositories.writes.table import WRITES


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


@pytest.mark.parametrize("name", WRITES)
def test_a_look_on_the_way_is_answered_all_the_same(bench: Bench, name: str) -> None:
    """What a write asks before and after it changes something. Questions alone meet the other faults: all are asked in one way."""
    write = WRITES[name]
    wanted = measured(bench, write)
    for spared in range(wanted.reads):
        given = write.prepare(bench)
        with bench.fault(READ_FAULTS["a burst of 503"], spared):
            write.act(bench.session, given)
        assert write.stands(bench, given) == wanted.stands, f"look {spared + 1} of {wanted.reads}"
