"""F2 Approved export: only the very version that somebody approved leaves, and a newer one voids the approval.

File 360 is the repository of this use case.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from prefect.states import Scheduled
from typer.testing import CliRunner

from deployments.cli import app
from tests.release_world import Release, ReleaseWorld
from tests.world import file360

CREATIVE = "creative.pdf"


def version(number: int) -> bytes:
    return b"%PDF-1.7\n% the creative, version " + str(number).encode() * number


@pytest.fixture(scope="module")
def ecm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """File 360 is this use case's repository."""
    with file360(tmp_path_factory.mktemp("file360")) as service:
        yield service


@pytest.fixture
def creative(release_world: ReleaseWorld) -> str:
    """A creative of which version 3 is the newest; its id. The account that filed it is its author in the repository."""
    ordered = {"repository": "ecm", "from_order": True}
    release_world.agree(creatives=release_world.terms(gather=ordered))
    for number in (1, 2, 3):
        document = release_world.keep("creatives", CREATIVE, version(number))
    return document


def ordered(world: ReleaseWorld, document: str) -> Release:
    """Somebody orders the newest creative for the printer."""
    release = world.order("creatives")
    assert release.start(ids=[document]) is None
    return release


def test_a_version_saved_after_the_approval_voids_it_and_only_the_newly_approved_one_is_sent(
    release_world: ReleaseWorld, creative: str
) -> None:
    bea = release_world.newcomer()
    release = ordered(release_world, creative)
    assert [file.version for file in release.package.files] == [3]
    assert release.resume(release.answer(bea)) == "ACCEPT"
    release_world.keep("creatives", CREATIVE, version(4))
    state = release.go()
    assert state is not None and state.name == f"Voided: {CREATIVE} is superseded by v4", state
    assert release.last("answered")["vote"], "the approval itself was in order"
    assert release.received == {}
    shown = CliRunner().invoke(app, ["signoff", "show", release.id]).output
    assert "Voided" in shown and "superseded by v4" in shown

    anew = ordered(release_world, creative)
    assert [file.version for file in anew.package.files] == [4]
    assert anew.received == {}
    ann = release_world.newcomer()
    assert anew.go() is None, "asked again, for somebody new may sign"
    state = anew.sign(ann)
    assert state is not None and state.name == "Delivered", state
    assert anew.received == {CREATIVE: version(4)}
    assert release.received == {}
    approved = anew.package.files[0].sha256
    assert hashlib.sha256(anew.received[CREATIVE]).hexdigest() == approved
    (certificate,) = [
        t for n, t in release_world.evidence(anew.id).items() if anew.package.digits in n and n.endswith(".signoff.json")
    ]
    assert json.loads(certificate)["package"]["files"][0]["sha256"] == approved


def test_the_author_cannot_approve(release_world: ReleaseWorld, creative: str) -> None:
    author = release_world.newcomer(logins=["countersign@example.com"])
    bea = release_world.newcomer()
    release = ordered(release_world, creative)
    assert f"awaits:{bea}" in release.told.tags and f"awaits:{author}" not in release.told.tags
    assert release.resume(release.answer(author)) == "REJECT"
    release.plant(release.answer(author))
    release_world.client.set_flow_run_state(release.told.id, Scheduled(), force=True)
    assert release.go() is None
    assert release.last("answered")["refusal"]["code"] == "editor"
    assert release.received == {}
