"""Workflows: started with documents, followed, answered, and told by what they were about."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from blocks.repositories.extended_ecm import ExtendedEcm, ExtendedEcmSession
from blocks.repositories.otcs_audit import AuditTrail
from blocks.repositories.otcs_names import Unfit
from blocks.repositories.otcs_wire import Wire
from blocks.repositories.otcs_workflows import COMPLETED, RUNNING, SUSPENDED, Attached, Process, stood_there
from blocks.spool import Spool
from tests.conformance.repositories.checks import Ground
from tests.conformance.repositories.enrolment import block
from tests.reviews import after, answer, begin
from tests.sandbox.ecm_store import Store
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


def approve(session: ExtendedEcmSession, name: str, *documents: int) -> int:
    """A process with these documents, each attached after its newest version, and let through provably after that."""
    process = begin(session, name, *documents)
    answer(session, process, "Accept")
    return process


def attach(session: ExtendedEcmSession, process: int, document: int) -> None:
    """Somebody adds a document to the attachments of a process, whatever its state."""
    folder = session.workflows.status(process).attachments
    body = {"type": "1", "parent_id": folder, "name": f"Late {document}", "original_id": document}
    session._wire.write("a person", "POST", "v2/nodes", body=body)


@pytest.mark.parametrize(("started", "counts"), [(REVIEW, True), (LIGHT, False), (OTHER, False)])
def test_an_approval_by_another_map_counts_for_nothing(
    session: ExtendedEcmSession, document: int, started: str, counts: bool
) -> None:
    process = approve(session, started, document)
    assert session.workflows.status(process).completed[:2] == ("Quality review", "Accepted")
    lacking = session.unreviewed({str(document): 1}, REVIEW, "Accepted")
    assert (lacking == {}) is counts, lacking
    assert session.unreviewed({str(document): 1}, started, "Accepted") == {}
    assert "no completed workflow" in session.unreviewed({str(document): 1}, started, "Refused")[str(document)]


def test_a_server_that_is_slow_to_attach_withholds_nothing(
    session: ExtendedEcmSession, document: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Store.create

    def slowly(store: Store, *arguments: Any, **more: Any) -> int:
        time.sleep(0.7)
        return create(store, *arguments, **more)

    folder = session.nodes.get(document).properties["parent_id"]
    other = session.nodes.copy(document, folder, name="other.txt").id
    with monkeypatch.context() as slow:
        slow.setattr(Store, "create", slowly)
        approve(session, REVIEW, document, other)
    assert session.unreviewed({str(document): 1, str(other): 1}, REVIEW, "Accepted") == {}


def test_what_was_attached_or_added_after_the_approval_was_not_approved(
    session: ExtendedEcmSession, repository: ExtendedEcm, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    ground = Ground(repository, ("Late", tmp_path.name), tmp_path / "files", Spool(tmp_path / "spool", floor_bytes=0))
    first, late = (int(filed.id) for filed in ground.filed(ground.filing("a.txt"), ground.filing("b.txt")))
    process = approve(session, REVIEW, first)
    attach(session, process, late)
    both = {str(first): 1, str(late): 1}
    assert list(session.unreviewed(both, REVIEW, "Accepted")) == [str(late)]
    assert f"process {process} when it came to step Accepted" in session.unreviewed(both, REVIEW, "Accepted")[str(late)]
    after(datetime.now(UTC).replace(microsecond=0))
    ground.filed(ground.filing("a.txt", b"another"))
    after(session.nodes.versions(first)[-1].created)
    attach(session, process, first)
    lacking = session.unreviewed({str(first): 1}, REVIEW, "Accepted")
    assert "newer version" in lacking[str(first)], "replaced so soon that nobody can tell"
    with repository.session() as fresh:
        assert "start" in fresh.unreviewed({str(first): 2}, REVIEW, "Accepted")[str(first)]


def test_a_version_that_came_while_others_decided_was_not_approved_nor_the_one_before(
    session: ExtendedEcmSession, repository: ExtendedEcm, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    ground = Ground(repository, ("Meanwhile", tmp_path.name), tmp_path / "files", Spool(tmp_path / "spool", floor_bytes=0))
    (filed,) = ground.filed(ground.filing("a.txt"))
    after(session.nodes.versions(int(filed.id))[-1].created)
    process = session.workflows.start(REVIEW, [int(filed.id)])
    ground.filed(ground.filing("a.txt", b"another"))
    after(session.nodes.versions(int(filed.id))[-1].created)
    session.workflows.complete(session.workflows.status(process).current[0], "Accept")
    assert [bool(session.unreviewed({filed.id: version}, REVIEW, "Accepted")) for version in (1, 2)] == [True, True]


@pytest.mark.parametrize("others", [(), (b"a third",)], ids=["the newest now", "a gap in the numbers"])
def test_a_version_that_was_looked_at_and_removed_makes_no_other_one_approved(
    session: ExtendedEcmSession, repository: ExtendedEcm, tmp_path: Path, others: tuple[bytes, ...]
) -> None:
    (tmp_path / "files").mkdir()
    ground = Ground(repository, ("Removed", tmp_path.name), tmp_path / "files", Spool(tmp_path / "spool", floor_bytes=0))
    (filed,) = ground.filed(ground.filing("a.txt"))
    process = begin(session, REVIEW, int(filed.id))
    ground.filed(ground.filing("a.txt", b"another"))
    answer(session, process, "Accept")
    session.nodes.drop_version(int(filed.id), 2)
    for content in others:
        ground.filed(ground.filing("a.txt", content))
    lacking = session.unreviewed({filed.id: 1}, REVIEW, "Accepted")
    assert "a version newer than 1 was removed" in lacking[filed.id]


def test_the_newest_version_is_approved_though_older_ones_are_purged_but_not_after_a_newer_one_was(
    session: ExtendedEcmSession, repository: ExtendedEcm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "files").mkdir()
    ground = Ground(repository, ("Purged", tmp_path.name), tmp_path / "files", Spool(tmp_path / "spool", floor_bytes=0))
    (filed,) = ground.filed(ground.filing("a.txt"))
    after(session.nodes.versions(int(filed.id))[-1].created)
    ground.filed(ground.filing("a.txt", b"another"))
    approve(session, REVIEW, int(filed.id))
    session.nodes.drop_version(int(filed.id), 1)
    second = {filed.id: 2}
    assert session.unreviewed(second, REVIEW, "Accepted") == {}
    ground.filed(ground.filing("a.txt", b"a third"))
    session.nodes.drop_version(int(filed.id), 3)
    assert "was removed" in session.unreviewed(second, REVIEW, "Accepted")[filed.id]
    # A server that keeps no trail: the sandbox always does.
    monkeypatch.setattr(AuditTrail, "events", lambda *_, **__: iter(()))
    assert "does not tell" in session.unreviewed(second, REVIEW, "Accepted")[filed.id], "a trail that is not kept"


MADE = datetime(2026, 3, 27, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("began", "at", "changed", "following", "stood"),
    [
        pytest.param("2026-03-27T05:00:10", 3, 3, None, True, id="attached before"),
        pytest.param("2026-03-27T05:00:10", 10, 10, None, False, id="in the same second"),
        pytest.param("2026-03-27T05:00:10", 3, 12, None, False, id="brought there later"),
        pytest.param("2026-03-27T05:00:10", -5, -5, None, False, id="made elsewhere, before there was such a folder"),
        pytest.param("2026-03-27T05:00:10", 3, 3, 10, False, id="a newer version at that moment"),
        pytest.param(
            "2026-03-27T05:00:10", 3, 3, 5 * 3600 + 10, False, id="a newer version that may have come before, in some zone"
        ),
        pytest.param("2026-03-27T05:00:10", 3, 3, 5 * 3600 + 11, True, id="a newer version afterwards in any zone"),
        pytest.param(
            "2026-03-30T06:00:00", 72 * 3600 + 1, 72 * 3600 + 1, None, False, id="the clock was put forward meanwhile"
        ),
        pytest.param("2026-03-30T06:00:00", 60, 60, None, True, id="long before"),
        pytest.param("", 3, 3, None, False, id="nobody tells when"),
    ],
)
def test_what_stood_there_is_told_by_how_long_things_took(
    began: str, at: int, changed: int, following: int | None, stood: bool
) -> None:
    process = Process(1, "", COMPLETED, ("Accepted",), initiated="2026-03-27T05:00:00", began={"Accepted": began})
    one = Attached(7, MADE + timedelta(seconds=at), MADE + timedelta(seconds=changed))
    newer = None if following is None else MADE + timedelta(seconds=following)
    assert stood_there(one, MADE, process, "Accepted", newer) is stood


@pytest.mark.parametrize(("minutes", "stood"), [(40, False), (80, False), (15 * 60, True)])
def test_a_clock_that_was_put_back_meanwhile_lets_no_version_through_that_was_replaced(minutes: int, stood: bool) -> None:
    """In Berlin on the last Sunday of October: 20 minutes by the clock are 80."""
    made = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    process = Process(
        1, "", COMPLETED, ("Accepted",), initiated="2026-10-25T02:30:00", began={"Accepted": "2026-10-25T02:50:00"}
    )
    attached = made + timedelta(seconds=3)
    newer = made + timedelta(minutes=minutes)
    assert stood_there(Attached(7, attached, attached), made, process, "Accepted", newer) is stood


def test_a_version_that_came_while_the_draft_waited_was_not_approved_nor_the_one_before(
    session: ExtendedEcmSession, repository: ExtendedEcm, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    ground = Ground(repository, ("Draft", tmp_path.name), tmp_path / "files", Spool(tmp_path / "spool", floor_bytes=0))
    (filed,) = ground.filed(ground.filing("a.txt"))
    after(session.nodes.versions(int(filed.id))[-1].created)
    wire, body = session._wire, {"workflow_id": session.workflows.definition(APPROVAL).id, "doc_ids": filed.id}
    made = wire.write("a person", "POST", "v2/draftprocesses", body={**body, "AttachDocuments": "true"})
    draft = f"v2/draftprocesses/{made['results']['draftprocess_id']}"
    drafted = datetime.now(UTC)
    after(drafted + timedelta(seconds=2))
    ground.filed(ground.filing("a.txt", b"another"))
    process = int(wire.write("a person", "PUT", draft, body={"action": "Initiate"})["results"]["process_id"])
    after(datetime.now(UTC) + timedelta(seconds=1))
    answer(session, process, "Approve")
    assert sorted(session.unreviewed({filed.id: 1}, APPROVAL, "Approved")) == [filed.id]
    assert sorted(session.unreviewed({filed.id: 2}, APPROVAL, "Approved")) == [filed.id]


def test_many_documents_cost_the_list_of_processes_once(
    session: ExtendedEcmSession, repository: ExtendedEcm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "files").mkdir()
    ground = Ground(repository, ("Many", tmp_path.name), tmp_path / "files", Spool(tmp_path / "spool", floor_bytes=0))
    many = [filed.id for filed in ground.filed(*(ground.filing(f"{number}.txt") for number in range(100)))]
    asked: list[str] = []
    original = Wire.ask

    def ask(wire: Wire, what: str, *arguments: Any, **more: Any) -> Any:
        asked.append(what.partition(" ")[0])
        return original(wire, what, *arguments, **more)

    process = approve(session, REVIEW, *map(int, many))
    # Overheard, not replaced: what was asked for.
    monkeypatch.setattr(Wire, "ask", ask)
    before = len(asked)
    assert session.unreviewed(dict.fromkeys(many, 1), REVIEW, "Accepted") == {}
    assert asked.count("workflows") == 1 and len(asked) - before < 240, asked
    assert asked.count("workflow") <= len({one.id for one in session.workflows.look()}), "each process once"
    asked.clear()
    assert session.unreviewed(dict.fromkeys(many, 1), REVIEW, "Accepted") == {}
    assert asked.count("workflow") == 0, f"process {process} is over, and known"
    asked.clear()
    for id in many[:3]:
        session.review(id, 1, REVIEW, resumed=False)
    assert "workflows" not in asked, "who starts one need not know the others"


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
