"""E2 Approved distribution: of all versions the approved one goes, with a list and checksums, whatever is being worked on since."""

from __future__ import annotations

import hashlib
import json
import subprocess

import pytest

from tests.release_world import ReleaseWorld

MANUAL = "manual.pdf"


def version(number: int) -> bytes:
    return b"%PDF-1.7\n% the manual, version " + str(number).encode() * number


def approved(number: str) -> dict[str, dict[str, str]]:
    return {"Partner Document": {"Reference": number}}


@pytest.fixture(scope="module")
def world(release_world: ReleaseWorld) -> ReleaseWorld:
    """Manuals go in the version whose number stands in their category, as agreed: pinned."""
    place = {"endpoint": "drop", "folder": f"{release_world.remote}/{{order}}"}
    manuals = release_world.terms(
        gather={
            "repository": "ecm",
            "folder": "Outbox/{order}",
            "version": "approved",
            "approved_in": {"category": "Partner Document", "attribute": "Reference"},
        },
        destinations=[{**place, "sidecar": "{name}.sha256", "manifest": "{order}.json"}],
        freshness="pinned",
    )
    release_world.agree(manuals=manuals)
    return release_world


def test_the_approved_version_goes_with_manifest_and_checksum_and_the_newer_one_stays(world: ReleaseWorld) -> None:
    bea = world.newcomer()
    release = world.order("manuals")
    for number in range(1, 5):
        world.keep(release.id, MANUAL, version(number), categories={})
    # Version 4 was approved, then somebody began the next one.
    world.keep(release.id, MANUAL, version(5), categories=approved("4"))
    assert release.start() is None
    (file,) = release.package.files
    assert (file.version, file.sha256) == (4, hashlib.sha256(version(4)).hexdigest())
    # And one more while the approver reads: pinned means that the approved one goes all the same.
    world.keep(release.id, MANUAL, version(6), categories=approved("4"))
    state = release.sign(bea)
    assert state is not None and state.name == "Delivered", state
    received = release.received
    assert set(received) == {MANUAL, f"{MANUAL}.sha256", f"{release.id}.json"}
    assert received[MANUAL] == version(4)
    manifest = json.loads(received[f"{release.id}.json"])
    assert manifest["files"] == [{"name": MANUAL, "size": len(version(4)), "sha256": file.sha256}]
    folder = world.remote / release.id
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", f"{MANUAL}.sha256"], cwd=folder, capture_output=True, text=True
    )
    assert checked.returncode == 0 and checked.stdout == f"{MANUAL}: OK\n", checked


def test_without_an_approved_version_nothing_is_asked_or_sent(world: ReleaseWorld) -> None:
    release = world.order("manuals")
    for number in (1, 2):
        world.keep(release.id, MANUAL, version(number), categories={})
    state = release.start()
    assert state is not None and state.name == "Nothing to release", state
    assert release.received == {} and "round" not in release.kinds
