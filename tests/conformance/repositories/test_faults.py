"""Every verb that changes something meets every fault: nothing is lost, nothing doubled, and errors say what to do.

The rows are data in ``writes``; ``test_faults_of_questions.py`` is about what is asked. A write meets each fault at each of its calls:
before the server does anything, while it does, or after it did. Rows that cost much and whose calls other rows make too meet fewer of
them, and five faults that mostly look like one of the others are met by ``make soak``. The write must come through; or raise an error
that is worth retrying, and come through when it is made again; or, only where its row says why, leave a person to look.
"""

from __future__ import annotations

import pytest

from blocks.errors import DocumentMissing, EditConflict, OutcomeUnknown, RepositoryError, SendRefused
from blocks.repositories import otcs_wire
from blocks.repositories.otcs_wire import Refusal
from tests.conformance.repositories.writes import workflows
from tests.conformance.repositories.writes.bench import AWAY, FAULTS, LONG_CAMPAIGN, Bench, Undisturbed, Write, measured
from tests.conformance.repositories.writes.table import WRITES


@pytest.fixture(autouse=True)
def _no_long_pauses(short_pauses: None) -> None:
    """The server is back at once."""


@pytest.fixture(scope="module")
def undisturbed(bench: Bench) -> dict[str, Undisturbed]:
    """By the name of a write; filled as it is asked for."""
    return {}


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        pytest.param(name, fault, marks=[pytest.mark.soak] if fault in LONG_CAMPAIGN else [])
        for name, write in WRITES.items()
        for fault in write.faults
    ],
)
def test_nothing_is_lost_and_nothing_doubled(bench: Bench, undisturbed: dict[str, Undisturbed], name: str, fault: str) -> None:
    write = WRITES[name]
    if name not in undisturbed:
        undisturbed[name] = measured(bench, write)
    wanted = undisturbed[name]
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


def test_a_process_is_looked_for_when_the_last_answer_is_lost_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otcs_wire, "ATTEMPTS", 1)
    given = workflows.document(bench)
    with bench.fault({"lost-answer": 1}, 3):  # refused without a draft, a draft, its title
        workflows.start_by_draft(bench.session, given)
    assert not bench.left
    assert len(workflows.started(bench, given)) == 1
