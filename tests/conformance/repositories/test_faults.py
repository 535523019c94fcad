"""Every verb that changes something meets every fault: nothing is lost, nothing doubled, and errors say what to do.

The rows are data in ``writes``; ``test_faults_of_questions.py`` is about what is asked. A write meets each fault at each of its calls:
before the server does anything, while it does, or after it did. The write must come through; or raise an error that is worth retrying,
and come through when it is made again; or, only where its row says why, leave a person to look.

All of this is met by ``make test`` and ``make soak`` together: what mostly looks like something else that is met (other faults, other
calls of a row that makes many, calls that other rows make too) is left to ``make soak``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from blocks.errors import DocumentMissing, EditConflict, OutcomeUnknown, RepositoryError, SendRefused
from blocks.repositories import otcs_wire
from blocks.repositories.otcs_wire import Refusal
from tests.conformance.repositories.writes import workflows
from tests.conformance.repositories.writes.bench import AWAY, FAULTS, Bench, Undisturbed, Write, measured
from tests.conformance.repositories.writes.table import WRITES


@pytest.fixture(autouse=True)
def _no_long_pauses(short_pauses: None) -> None:
    """The server is back at once."""


@pytest.fixture(scope="module")
def undisturbed(bench: Bench) -> dict[str, Undisturbed]:
    """By the name of a write; filled as it is asked for."""
    return {}


def turns() -> Iterator[Any]:
    """Row, fault, and which of the row's calls meet it: from the first of them on, each or each other one."""
    for name, write in WRITES.items():
        for number, fault in enumerate(FAULTS):
            rare = [pytest.mark.soak] if fault not in write.often else []
            if write.long and fault not in write.unknown:
                first = number % 2
                yield pytest.param(name, fault, first, 2, marks=rare)
                yield pytest.param(name, fault, 1 - first, 2, marks=pytest.mark.soak)
            else:
                yield pytest.param(name, fault, 0, 1, marks=rare)


@pytest.mark.parametrize(("name", "fault", "first", "step"), list(turns()))
def test_nothing_is_lost_and_nothing_doubled(
    bench: Bench, undisturbed: dict[str, Undisturbed], name: str, fault: str, first: int, step: int
) -> None:
    write = WRITES[name]
    if name not in undisturbed:
        undisturbed[name] = measured(bench, write)
    wanted = undisturbed[name]
    assert wanted.writes, f"{name!r} changes nothing"
    assert wanted.before != wanted.stands, f"{name!r}: what stands does not tell whether it was done"
    left_to_a_person = [strike(bench, write, wanted, fault, spared) for spared in range(first, wanted.writes, step)]
    assert any(left_to_a_person) or fault not in write.unknown, "no call needs what the row says about this fault"


def strike(bench: Bench, write: Write, wanted: Undisturbed, fault: str, spared: int) -> bool:
    """Make a write that meets a fault; True if it is left to a person."""
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
    assert bench.struck and (unknown or not bench.left), f"{where}: this fault met nothing"
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
    return unknown


def test_a_process_is_looked_for_when_the_last_answer_is_lost_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # So that the next lost answer meets the next call.
    monkeypatch.setattr(otcs_wire, "ATTEMPTS", 1)
    given = workflows.document(bench)
    with bench.fault({"lost-answer": 1}, 3):  # refused without a draft, a draft, its title
        workflows.start_by_draft(bench.session, given)
    assert not bench.left
    assert len(workflows.started(bench, given)) == 1
