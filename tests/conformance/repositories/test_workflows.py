"""Workflows: started with documents, followed, answered, and told by what they were about."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from blocks.repositories.extended_ecm import ExtendedEcm, ExtendedEcmSession
from blocks.repositories.otcs_names import Unfit
from blocks.repositories.otcs_wire import Wire
from blocks.repositories.otcs_workflows import COMPLETED, RUNNING, SUSPENDED
from blocks.spool import Spool
from tests.conformance.repositories.checks import Ground
from tests.conformance.repositories.enrolment import block
from tests.sandbox.ecm_workflows import SEED
from tests.sandbox.extended_ecm import ExtendedEcmSandbox

APPROVAL, REVIEW = "Process Library/Document Approval", "Process Library/Quality Review"
LIGHT, OTHER = "Process Library/Quality Review light", "Elsewhere/Quality Review"
"""A map whose name begins with another's; and one of the same name, with a step more."""
MAPS: list[Any] = [
    *SEED["workflow_maps"],
    {**SEED["workflow_maps"][1], "path": LIGHT},
    {
        **SEED["workflow_maps"][1],
        "path": OTHER,
        "steps": [
            *SEED["workflow_maps"][1]["steps"][:1],
            {"name": "Accepted", "then": "Skipped"},
            {"name": "Refused"},
            {"name": "Skipped"},
        ],
    },
]
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExtendedEcm]:
    server = ExtendedEcmSandbox(tmp_path_factory.mktemp("ecm"), seed={"workflow_maps": MAPS}).start()
    try:
        yield block(server.described())
    finally:
        server.stop()


@pytest.fixture
def session(repository: ExtendedEcm) -> Iterator[ExtendedEcmSession]:
    with repository.session() as session:
        yield session


@pytest.fixture
def document(repository: ExtendedEcm, tmp_path: Path) -> int:
    (tmp_path / "files").mkdir()
    ground = Ground(repository, ("Workflows", tmp_path.name), tmp_path / "files", Spool(tmp_path / "spool", floor_bytes=0))
    (filed,) = ground.filed(ground.filing("certificate.txt"))
    return int(filed.id)


def test_maps_tell_their_steps_and_are_offered_for_documents(session: ExtendedEcmSession, document: int) -> None:
    told = session.workflows.definition(APPROVAL)
    assert told.steps == ("Approver", "Approved", "Rejected")
    assert list(told.attributes) == ["Reason"]
    offered = session.workflows.offered(document, session.nodes.get(document).properties["parent_id"])
    assert offered["Document Approval"] == told.id
    with pytest.raises(Unfit, match="no workflow map 'No Such Map'"):
        session.workflows.definition("No Such Map")


@pytest.mark.parametrize(
    ("name", "action", "outcome"),
    [
        pytest.param(APPROVAL, "Approve", "Approved", id="by a draft, approved"),
        pytest.param(APPROVAL, "Reject", "Rejected", id="by a draft, rejected"),
        pytest.param(REVIEW, "Accept", "Accepted", id="at once"),
    ],
)
def test_one_is_started_followed_and_answered(
    session: ExtendedEcmSession, document: int, name: str, action: str, outcome: str
) -> None:
    process = session.workflows.start(name, [document])
    told = session.workflows.status(process)
    (step,) = told.current
    assert (told.status, told.ended, told.completed) == (RUNNING, False, ())
    assert [one.document for one in session.workflows.attached(told)] == [document]
    assert step.process in {one.step.process for one in session.workflows.assignments() if one.step}
    own, map_ones = session.workflows.actions(step)
    assert own == ("Delegate",)
    assert action in map_ones
    with pytest.raises(Unfit, match="'Burn' is none of"):
        session.workflows.complete(step, "Burn")
    session.workflows.complete(step, action, "seen")
    done = session.workflows.status(process)
    assert (done.status, done.ended, done.completed) == (COMPLETED, True, (step.name, outcome))
    assert process in {one.id for one in session.workflows.look("Initiated", COMPLETED)}
    assert [(one.id, one.completed) for one, _ in session.workflows.about(document, name, LONG_AGO)] == [
        (process, done.completed)
    ]
    assert session.workflows.about(document, name, datetime.now(UTC).replace(year=2200)) == []


def test_a_plain_name_means_a_map_even_where_a_document_has_it(session: ExtendedEcmSession, document: int) -> None:
    session.nodes.rename(document, "Document Approval")
    top = session.nodes.ancestors(document)[0][0]
    session.nodes.move(document, top)
    try:
        assert session.workflows.definition("Document Approval").steps == ("Approver", "Approved", "Rejected")
    finally:
        session.nodes.delete(document)


@pytest.mark.parametrize(("started", "counts"), [(REVIEW, True), (LIGHT, False), (OTHER, False)])
def test_an_approval_by_another_map_counts_for_nothing(
    session: ExtendedEcmSession, document: int, started: str, counts: bool
) -> None:
    [version] = session.nodes.versions(document)
    assert version.created is not None
    while datetime.now(UTC).replace(microsecond=0) <= version.created:
        time.sleep(0.02)  # dates are whole seconds, and what is attached in the version's own counts for nothing
    process = session.workflows.start(started, [document])
    session.workflows.complete(session.workflows.status(process).current[0], "Accept")
    assert session.workflows.status(process).completed[:2] == ("Quality review", "Accepted")
    assert session.reviewed(str(document), 1, REVIEW, "Accepted") is counts
    assert session.reviewed(str(document), 1, started, "Accepted")


def test_a_completed_process_is_looked_at_once_for_all_documents_of_a_session(
    session: ExtendedEcmSession, document: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = session.workflows.start(REVIEW, [document])
    session.workflows.complete(session.workflows.status(process).current[0], "Accept")
    asked: list[str] = []
    original = Wire.ask

    def ask(wire: Wire, what: str, *arguments: Any, **more: Any) -> Any:
        asked.append(what)
        return original(wire, what, *arguments, **more)

    monkeypatch.setattr(Wire, "ask", ask)
    for _ in range(3):
        session.reviewed(str(document), 1, REVIEW, "Accepted")
    assert asked.count(f"workflow process {process}") == 1


def test_one_is_suspended_resumed_and_stopped(session: ExtendedEcmSession, document: int) -> None:
    process = session.workflows.start(REVIEW, [document])
    (step,) = session.workflows.status(process).current
    for _ in range(2):
        session.workflows.set(process, "suspend")
    assert session.workflows.status(process).status == SUSPENDED
    with pytest.raises(Exception, match="The task is not open"):
        session.workflows.complete(step, "Accept")
    session.workflows.set(process, "resume")
    assert session.workflows.status(process).status == RUNNING
    session.workflows.set(process, "stop")
    assert session.workflows.status(process).ended
    with pytest.raises(Unfit):
        session.workflows.set(process, "resume")


def test_a_task_about_a_document_is_put_into_inboxes(session: ExtendedEcmSession, document: int) -> None:
    session.workflows.assign(document, f"Look at {document}", "please", ["DefaultGroup", "Admin"])
    assert f"Look at {document}" in {one.name for one in session.workflows.assignments() if one.step is None}
