"""Every verb of every facet meets every fault: nothing is lost, nothing doubled, and errors say what to do.

The rows are data in ``writes``. A question is answered as if nothing had been. A write meets a fault before the server does
anything, while it does, or after it did; ``calls_to_strike`` says which of its calls. It must come through; or raise an error that is
worth retrying, and come through when it is made again; or, only where its row says why, leave a person to look.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from blocks.errors import OutcomeUnknown, RepositoryError
from blocks.repositories import otcs_wire
from tests.conformance.repositories.writes.bench import Bench
from tests.conformance.repositories.writes.reads import READS
from tests.conformance.repositories.writes.table import WRITES

FAULTS: Mapping[str, Mapping[str, float]] = {
    "401 in mid-upload": {"write-401": 1},
    "500 with a page": {"write-500": 1},
    "a burst of 503": {"write-503": 3},
    "slow, and goes on": {"write-stall": 1},
    "lost answer": {"lost-answer": 1},
    "500 after it was done": {"write-500-after": 1},
    "half an answer": {"write-cut": 1},
}


@pytest.fixture(autouse=True)
def _no_long_pauses(short_pauses: None) -> None:
    """The server is back at once."""


@pytest.fixture(scope="module")
def undisturbed(bench: Bench) -> dict[str, tuple[object, int]]:
    """Name of a write -> what stands after it, and with how many calls that change something; filled as it is asked for."""
    return {}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", WRITES)
def test_nothing_is_lost_and_nothing_doubled(
    bench: Bench, undisturbed: dict[str, tuple[object, int]], name: str, fault: str
) -> None:
    write = WRITES[name]
    if name not in undisturbed:
        given, before = write.prepare(bench), bench.count("writes")
        write.act(bench.session, given)
        undisturbed[name] = (write.stands(bench, given), bench.count("writes") - before)
    wanted, calls = undisturbed[name]
    assert calls, f"{name!r} changes nothing"
    for spared in calls_to_strike(calls, thoroughly=fault in ("lost answer", "slow, and goes on")):
        given = write.prepare(bench)
        before = write.stands(bench, given)
        assert before != wanted, f"{name!r}: what stands does not tell whether it was done"
        again = False
        with bench.fault(FAULTS[fault], spared):
            try:
                write.act(bench.session, given)
            except OutcomeUnknown as unknown:
                assert fault in write.unknown, f"call {spared + 1} of {calls}: {unknown}"
                assert write.stands(bench, given) in (before, wanted), f"call {spared + 1} of {calls}"
                continue
            except RepositoryError as error:
                assert error.worth_retrying, f"call {spared + 1} of {calls}: {error!r}"
                assert bench.sandbox.url in str(error), f"the error does not say where: {error}"
                again = True
        assert not bench.left, f"call {spared + 1} of {calls}: this fault met nothing"
        if again:
            write.act(bench.session, given)
        assert write.stands(bench, given) == wanted, f"call {spared + 1} of {calls}"


@pytest.mark.parametrize(
    ("name", "spared"),
    [
        ("file a document with all it can have", 1),
        ("file a version with all it can have", 1),
        ("file a version of a named document", 0),
        ("file a document in parts", 6),
        ("file a version in parts", 5),
        ("start a workflow", 0),
        ("promote a version", 0),
    ],
)
def test_what_comes_after_its_answer_was_lost_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str, spared: int
) -> None:
    """The connection ends at once, and the server is done a while later: one look in between sees nothing."""
    monkeypatch.setattr(otcs_wire, "LONGEST_PAUSE_SECONDS", 4.0)
    write, sent = WRITES[name], []
    given, original = write.prepare(bench), otcs_wire.Wire.write
    before = write.stands(bench, given)

    def counted(wire: otcs_wire.Wire, what: str, *arguments: Any, **more: Any) -> Any:
        sent.append(what)
        return original(wire, what, *arguments, **more)

    monkeypatch.setattr(otcs_wire.Wire, "write", counted)
    with bench.fault({"write-late": 1}, spared):
        write.act(bench.session, given)
    assert not bench.left
    # What may be made twice is sent once. A document's name lets only one of two calls make it.
    assert sent.count(sent[spared]) == 1 or "a document" in name, sent
    late = write.stands(bench, given)
    fresh = write.prepare(bench)
    write.act(bench.session, fresh)
    assert before != late == write.stands(bench, fresh)


def calls_to_strike(calls: int, *, thoroughly: bool = False) -> list[int]:
    """Which calls of many a fault meets: all of them where what it leaves differs from call to call, else the first and the last."""
    return list(range(calls)) if thoroughly else sorted({0, calls - 1})


READ_FAULTS: Mapping[str, Mapping[str, float]] = {
    "401": {"read-401": 1},
    "500 with a page": {"read-500": 1},
    "a burst of 503": {"read-503": 3},
    "slow, and goes on": {"read-stall": 1},
    "half an answer": {"read-cut": 1},
}


@pytest.mark.parametrize("name", READS)
def test_a_question_is_answered_all_the_same(bench: Bench, name: str) -> None:
    read = READS[name]
    given = read.prepare(bench)
    read.tell(bench.session, given)  # names are looked up once per session
    before = bench.count("reads")
    wanted = read.tell(bench.session, given)
    calls = bench.count("reads") - before
    assert wanted, f"{name!r} tells nothing"
    assert calls, f"{name!r} asks nothing"
    for fault, faults in READ_FAULTS.items():
        if read.streams and "read-stall" in faults:
            continue
        for spared in calls_to_strike(calls):
            with bench.fault(faults, spared):
                assert read.tell(bench.session, given) == wanted, f"{fault}, call {spared + 1} of {calls}"
            assert not bench.left, f"{fault}, call {spared + 1} of {calls}: this fault met nothing"
