"""S6 Customer packages: a kit is approved as one, void as one, and complete before its done file says so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.endpoints.base import TEMPORARY
from tests.release_world import Release, ReleaseWorld
from tests.servers import need
from tests.servers.openssh import SFTP_SERVERS, OpenSsh, openssh_server

KIT = {f"part-{number:02d}.pdf": b"%PDF-1.7\n% part " + str(number).encode() for number in range(1, 13)}


@pytest.fixture(scope="module")
def server_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "sftp.log"


@pytest.fixture(scope="module")
def openssh(tmp_path_factory: pytest.TempPathFactory, server_log: Path) -> Iterator[OpenSsh]:
    """The partner's server, which writes down every rename."""
    program = need("sftp-server", "openssh-sftp-server", SFTP_SERVERS)
    with openssh_server(
        tmp_path_factory.mktemp("openssh") / "server", f"Subsystem sftp {program} -e -l INFO 2>>{server_log}"
    ) as server:
        yield server


@pytest.fixture
def kit(release_world: ReleaseWorld) -> Release:
    """The order of a kit of twelve."""
    place = {"endpoint": "drop", "folder": f"{release_world.remote}/{{order}}"}
    kits = release_world.terms(destinations=[{**place, "manifest": "{order}.json", "done_file": "{order}.done"}])
    release_world.agree(kits=kits)
    release = release_world.order("kits")
    for name, content in KIT.items():
        release_world.keep(release.id, name, content)
    assert release.start() is None
    assert len(release.package.files) == 12
    return release


def test_one_document_updated_after_the_approval_voids_the_whole_package(release_world: ReleaseWorld, kit: Release) -> None:
    bea = release_world.newcomer()
    assert kit.go() is None, "asked again, for somebody new may sign"
    assert kit.resume(kit.answer(bea)) == "ACCEPT"
    release_world.keep(kit.id, "part-07.pdf", b"%PDF-1.7\n% another part 7")
    state = kit.go()
    assert state is not None and state.name == "Voided: part-07.pdf is superseded by v2", state
    assert kit.last("answered")["vote"], "the approval itself was in order"
    assert kit.received == {}


def test_all_twelve_and_the_manifest_arrive_and_the_done_file_is_last(
    release_world: ReleaseWorld, kit: Release, server_log: Path
) -> None:
    bea = release_world.newcomer()
    assert kit.go() is None
    state = kit.sign(bea)
    assert state is not None and state.name == "Delivered", state
    received = kit.received
    assert set(received) == {*KIT, f"{kit.id}.json", f"{kit.id}.done"}
    assert {name: received[name] for name in KIT} == KIT
    manifest = json.loads(received[f"{kit.id}.json"])
    assert {file["name"]: file["sha256"] for file in manifest["files"]} == {f.shown: f.sha256 for f in kit.package.files}
    renamed = re.findall(rf'rename old "[^"]*" new "[^"]*/{kit.id}/([^"]*)"', server_log.read_text())
    named = [name for name in renamed if not name.startswith(TEMPORARY.decode())]
    assert sorted(named) == sorted(received), "each file was given its name once"
    assert named[-1] == f"{kit.id}.done"
