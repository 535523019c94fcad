"""Every verb of every facet meets every fault: nothing is lost, nothing doubled, and errors say what to do.

The rows are data in ``writes``. A question is answered as if nothing had been. A write meets each fault at each of its calls: before
the server does anything, while it does, or after it did. It must come through; or raise an error that is worth retrying, and come
through when it is made again; or, only where its row says why, leave a person to look.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from blocks.errors import DocumentMissing, EditConflict, OutcomeUnknown, RepositoryError, SendRefused
from blocks.repositories.otcs_wire import Refusal
from tests.conformance.repositories.writes.bench import AWAY, FAULTS, READ_FAULTS, Bench, Write
from tests.conformance.repositories.writes.reads import READS
from tests.conformance.repositories.writes.table import WRITES


@pytest.fixture(autouse=True)
def _no_long_pauses(short_pauses: None) -> None:
    """The server is back at once."""


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """What stands before and after a write that met no fault, and how many calls of it change something and nothing."""

    before: object
    stands: object
    writes: int
    reads: int


@pytest.fixture(scope="module")
def undisturbed(bench: Bench) -> dict[str, Undisturbed]:
    """By the name of a write; filled as it is asked for."""
    return {}


def measured(bench: Bench, known: dict[str, Undisturbed], write: Write) -> Undisturbed:
    if write.name not in known:
        given = write.prepare(bench)
        before = write.stands(bench, given)
        calls = bench.count("writes"), bench.count("reads")
        write.act(bench.session, given)
        writes, reads = bench.count("writes") - calls[0], bench.count("reads") - calls[1]
        known[write.name] = Undisturbed(before, write.stands(bench, given), writes, reads)
    return known[write.name]


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name, write in WRITES.items() for fault in write.faults])
def test_nothing_is_lost_and_nothing_doubled(bench: Bench, undisturbed: dict[str, Undisturbed], name: str, fault: str) -> None:
    write = WRITES[name]
    wanted = measured(bench, undisturbed, write)
    assert wanted.writes, f"{name!r} changes nothing"
    assert wanted.before != wanted.stands, f"{name!r}: what stands does not tell whether it was done"
    for spared in range(wanted.writes):
        strike(bench, write, wanted, fault, spared)


def strike(bench: Bench, write: Write, wanted: Undisturbed, fault: str, spared: int) -> None:
    where = f"{fault}, call {spared + 1} of {wanted.writes}"
    given = write.prepare(bench)
    again = unknown = False
    with bench.fault(FAULTS[fault], spared):
        try:
            write.act(bench.session, given)
        except OutcomeUnknown as error:
            assert fault in write.unknown, f"{where}: {error}"
            unknown = True
        except RepositoryError as error:
            assert error.worth_retrying, f"{where}: {error!r}"
            assert bench.sandbox.url in str(error), f"the error does not say where: {error}"
            again = True
    assert unknown or not bench.left, f"{where}: this fault met nothing"
    if again:
        try:
            write.act(bench.session, given)
        except (Refusal, DocumentMissing, EditConflict, SendRefused):
            # Away for longer than we wait, and done: whoever says it again is told that it stands.
            assert fault == AWAY and write.stands(bench, given) == wanted.stands, where
        except OutcomeUnknown as error:
            assert fault == AWAY and fault in write.unknown, f"{where}: {error}"
            unknown = True
    stands = write.stands(bench, given)
    assert stands == wanted.stands or (unknown and (stands == wanted.before or write.half(bench, given))), where


@pytest.mark.parametrize("name", WRITES)
def test_a_look_on_the_way_is_answered_all_the_same(bench: Bench, undisturbed: dict[str, Undisturbed], name: str) -> None:
    """What a write asks before and after it changes something. Questions alone meet the other faults: all are asked in one way."""
    write = WRITES[name]
    wanted = measured(bench, undisturbed, write)
    for spared in range(wanted.reads):
        given = write.prepare(bench)
        with bench.fault(READ_FAULTS["a burst of 503"], spared):
            write.act(bench.session, given)
        assert write.stands(bench, given) == wanted.stands, f"look {spared + 1} of {wanted.reads}"


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
