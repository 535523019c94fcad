"""X6 Sensitive change triggers approval, Extended ECM's half: what the repository's own workflow has not let through does not leave,
and a value or version that changes while people sign voids what they signed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from prefect.logging import disable_run_logger

from blocks.profile import load_repositories
from blocks.repositories.extended_ecm import ExtendedEcm, ExtendedEcmSession
from flows.reconcile import reconcile
from tasks.compare import compare
from tests.release_world import Release, ReleaseWorld
from tests.reviews import answer, begin

MAP = "Process Library/Document Approval"
NAME = "prices.csv"


def values(partner: str = "acme") -> dict[str, dict[str, str]]:
    return {"Partner Document": {"Reference": "Approved", "Partner ID": partner}}


@pytest.fixture(scope="module")
def world(release_world: ReleaseWorld) -> ReleaseWorld:
    """A stream whose documents need the workflow, and two sign-offs; and one without the workflow, under each freshness."""
    gather = {
        **release_world.terms()["gather"],
        "sensitive": [{"category": "Partner Document", "attribute": "Partner ID"}],
    }
    pair = {"stages": [{"name": "release", "groups": ["pricing"], "quorum": 2}], "proof": "code"}
    release_world.agree(
        reviewed=release_world.terms(gather={**gather, "review": {"map": MAP, "step": "Approved"}}, signoff=pair),
        latest=release_world.terms(gather=gather, signoff=pair),
        fixed=release_world.terms(gather=gather, signoff=pair, freshness="pinned"),
    )
    return release_world


@contextmanager
def repository(world: ReleaseWorld) -> Iterator[ExtendedEcmSession]:
    with load_repositories(world.profiles)["ecm"].session() as session:
        assert isinstance(session, ExtendedEcmSession)
        yield session


def decide(world: ReleaseWorld, document: str, action: str) -> int:
    """Somebody starts the workflow with the document as it is, and somebody answers it; the process."""
    with repository(world) as session:
        process = begin(session, MAP, int(document))
        answer(session, process, action)
        return process


def ordered(world: ReleaseWorld, stream: str) -> tuple[Release, str]:
    release = world.order(stream)
    return release, world.keep(release.id, NAME, b"one", categories=values())


def test_only_what_the_workflow_let_through_is_asked_for(world: ReleaseWorld) -> None:
    release, document = ordered(world, "reviewed")
    state = release.start()
    assert state is not None and state.name == "Nothing to release", "no workflow at all"
    decide(world, document, "Reject")
    state = release.go()
    assert state is not None and state.name == "Nothing to release", "completed, and rejected"
    decide(world, document, "Approve")
    assert release.go() is None
    assert [file.version for file in release.package.files] == [1]


def test_what_was_attached_after_the_approval_is_withheld_and_says_what_to_do(world: ReleaseWorld) -> None:
    release, document = ordered(world, "reviewed")
    late = world.keep(release.id, "late.csv", b"late", categories=values())
    process = decide(world, document, "Approve")
    with repository(world) as session:
        folder = session.workflows.status(process).attachments
        body = {"type": "1", "parent_id": folder, "name": "late.csv", "original_id": int(late)}
        session._wire.write("somebody", "POST", "v2/nodes", body=body)
    assert release.start() is None
    assert [file.shown for file in release.package.files] == [NAME]
    (told,) = release.last("frozen")["checked"]["findings"]
    assert told["file"] == "late.csv" and f"did not provably stand in workflow process {process}" in told["message"], told
    assert f"start {MAP} with version 1 again" in told["message"]


def test_a_version_that_came_after_the_workflow_was_not_let_through(world: ReleaseWorld) -> None:
    release, document = ordered(world, "reviewed")
    decide(world, document, "Approve")
    world.keep(release.id, NAME, b"two", categories=values())
    state = release.start()
    assert state is not None and state.name == "Nothing to release", state
    decide(world, document, "Approve")
    assert release.go() is None
    assert [file.version for file in release.package.files] == [2]


def change_partner_id(world: ReleaseWorld, document: str) -> None:
    with repository(world) as session:
        category = session._names.category("Partner Document")
        key = category.attributes["partner id"].key
        session._wire.write("a person", "PUT", f"v2/nodes/{document}/categories/{category.id}", fields={key: "another"})


@pytest.mark.parametrize("stream", ["latest", "fixed"])
def test_a_sensitive_value_that_changes_between_two_sign_offs_voids_the_first(world: ReleaseWorld, stream: str) -> None:
    ann, bea = world.newcomer(), world.newcomer()
    release, document = ordered(world, stream)
    assert release.start() is None
    assert release.sign(ann) is None, "one of two"
    change_partner_id(world, document)
    state = release.sign(bea)
    wanted = f"Voided: Partner Document / Partner ID of {NAME} was changed while the package waited"
    assert state is not None and state.name == wanted, state
    assert release.received == {}


@pytest.mark.parametrize("stream", ["latest", "fixed"])
def test_a_sensitive_value_that_changes_after_a_try_to_send_voids_too(world: ReleaseWorld, stream: str) -> None:
    ann, bea = world.newcomer(), world.newcomer()
    release, document = ordered(world, stream)
    assert release.start() is None and release.sign(ann) is None
    (world.remote / release.id).rmdir()
    state = release.sign(bea)
    assert state is not None and state.name == "Not delivered" and release.kinds.count("sending") == 1, state
    (world.remote / release.id).mkdir()
    change_partner_id(world, document)
    state = release.go()
    wanted = f"Voided: Partner Document / Partner ID of {NAME} was changed while the package waited"
    assert state is not None and state.name == wanted, state
    assert release.received == {}
    assert release.last("closed")["case"]["state"] == "resolved", "nobody has to look after that delivery any more"


def test_a_new_version_is_found_before_anybody_is_asked_again(world: ReleaseWorld) -> None:
    ann = world.newcomer()
    release, _ = ordered(world, "latest")
    assert release.start() is None
    world.keep(release.id, NAME, b"two", categories=values())
    rounds = release.kinds.count("round")
    state = release.sign(ann)
    assert state is not None and state.name == f"Voided: {NAME} is superseded by v2", state
    assert release.kinds.count("round") == rounds, "the second approver was not asked"


def test_the_sweep_finds_it_while_nobody_answers(world: ReleaseWorld) -> None:
    release, _ = ordered(world, "latest")
    assert release.start() is None
    reconcile(patience_seconds=3600, return_state=True)
    assert "found" not in release.kinds, "nothing has changed yet"
    world.keep(release.id, NAME, b"two", categories=values())
    reconcile(patience_seconds=3600, return_state=True)
    assert [entry.body["code"] for entry in release.history if entry.kind == "found"] == ["changed"]
    state = release.go()
    assert state is not None and state.name == f"Voided: {NAME} is superseded by v2", state
    reconcile(patience_seconds=3600, return_state=True)
    assert release.kinds.count("found") == 1


def test_a_repository_that_is_away_is_waited_for_once_in_a_pass(world: ReleaseWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        assert ordered(world, "latest")[0].start() is None
    file, session, tried = world.profiles / "repositories.yaml", ExtendedEcm.session, list[str]()

    def counted(self: ExtendedEcm) -> ExtendedEcmSession:
        tried.append(self.address)
        return session(self)

    # Counted, not replaced: nobody listens there who could count.
    monkeypatch.setattr(ExtendedEcm, "session", counted)
    agreed = file.read_text()
    with socket.socket() as nobody, disable_run_logger():
        nobody.bind(("127.0.0.1", 0))  # and listens to nobody
        file.write_text(agreed.replace(world.ecm["url"], f"http://127.0.0.1:{nobody.getsockname()[1]}/otcs/cs"))
        try:
            compare.fn(timedelta(days=1), timedelta(0))
        finally:
            file.write_text(agreed)
    assert len(tried) == 1, tried
