"""S6 Customer packages: a kit is whole before anybody signs it, void as one, and complete before its done file says so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State
from prefect.states import Scheduled

from blocks.endpoints.base import TEMPORARY
from tests.release_world import Release, ReleaseWorld
from tests.servers import need
from tests.servers.openssh import SFTP_SERVERS, OpenSsh, openssh_server

KIT = {f"part-{number:02d}.pdf": b"%PDF-1.7\n% part " + str(number).encode() for number in range(1, 13)}
REGION = {"category": "Partner Document", "attribute": "Tags", "values": ["EU"]}
KITS: dict[str, Any] = {
    "customer-7": {"slots": {name.removesuffix(".pdf"): {"pattern": f"*{name}"} for name in KIT}},
    "standard": {"slots": {"offer": {"pattern": "offer*"}, "leaflet": {"pattern": "leaflet*", "required": False}}},
    "region-eu": {"like": "standard", "slots": {"safety": {"value": REGION}}},
}


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


@pytest.fixture(scope="module")
def kits_world(release_world: ReleaseWorld) -> ReleaseWorld:
    """Two streams of kits: one where a newer version voids, one where it does not."""
    place = {"endpoint": "drop", "folder": f"{release_world.remote}/{{order}}"}
    terms = {"kits": KITS, "destinations": [{**place, "manifest": "{order}.json", "done_file": "{order}.done"}]}
    release_world.agree(kits=release_world.terms(**terms), pinned=release_world.terms(**terms, freshness="pinned"))
    return release_world


def customers(world: ReleaseWorld, stream: str) -> tuple[Release, str]:
    """The order of a kit of twelve, which waits for the sign-off of somebody new; no other order has the same bytes."""
    release, approver = world.order(stream), world.newcomer()
    for name, content in KIT.items():
        world.keep(release.id, name, content + release.id.encode())
    assert release.start(kit="customer-7") is None
    assert len(release.package.files) == 12
    return release, approver


def test_one_document_updated_after_the_approval_voids_the_whole_kit(kits_world: ReleaseWorld) -> None:
    kit, bea = customers(kits_world, "kits")
    assert kit.resume(kit.answer(bea)) == "ACCEPT"
    kits_world.keep(kit.id, "part-07.pdf", b"%PDF-1.7\n% another part 7")
    state = kit.go()
    assert state is not None and state.name == "Voided: part-07.pdf is superseded by v2", state
    assert kit.last("answered")["vote"], "the approval itself was in order"
    assert kit.received == {}


def test_other_bytes_under_one_approved_version_void_the_whole_kit_also_where_versions_are_pinned(
    kits_world: ReleaseWorld,
) -> None:
    kit, bea = customers(kits_world, "pinned")
    seventh = KIT["part-07.pdf"] + kit.id.encode()
    kits_world.keep(kit.id, "part-03.pdf", b"%PDF-1.7\n% a newer part 3")  # which is no reason here
    (stored,) = [path for path in kits_world.ecm["data"].rglob("*") if path.is_file() and path.read_bytes() == seventh]
    stored.write_bytes(seventh.replace(b"part 7", b"part 8"))
    state = kit.sign(bea)
    assert state is not None
    assert state.name == "Voided: version 1 of part-07.pdf has other bytes than those that were approved"
    assert kit.received == {}


def test_all_twelve_and_the_manifest_arrive_and_the_done_file_is_last(kits_world: ReleaseWorld, server_log: Path) -> None:
    kit, bea = customers(kits_world, "kits")
    state = kit.sign(bea)
    assert state is not None and state.name == "Delivered", state
    received = kit.received
    assert set(received) == {*KIT, f"{kit.id}.json", f"{kit.id}.done"}
    assert {name: received[name] for name in KIT} == {name: content + kit.id.encode() for name, content in KIT.items()}
    manifest = json.loads(received[f"{kit.id}.json"])
    assert {file["name"]: file["sha256"] for file in manifest["files"]} == {f.shown: f.sha256 for f in kit.package.files}
    assert manifest["kit"] == "customer-7"
    assert [file["slot"] for file in manifest["files"]] == [name.removesuffix(".pdf") for name in KIT]
    renamed = re.findall(rf'rename old "[^"]*" new "[^"]*/{kit.id}/([^"]*)"', server_log.read_text())
    named = [name for name in renamed if not name.startswith(TEMPORARY.decode())]
    assert sorted(named) == sorted(received), "each file was given its name once"
    assert named[-1] == f"{kit.id}.done"
    filed = kits_world.evidence(kit.id)
    (certificate,) = [json.loads(content) for name, content in filed.items() if name.endswith(".signoff.json")]
    assert certificate["package"]["kit"] == "customer-7"
    assert [file["slot"] for file in certificate["package"]["files"]] == [name.removesuffix(".pdf") for name in KIT]


def blocked(state: State | None) -> str:
    """Why a kit was not released, as the run's final state says."""
    assert state is not None and state.name == "Stopped by checks", state
    return str(state.message)


def test_a_kit_that_is_not_whole_waits_for_the_missing_document_and_is_asked_again(kits_world: ReleaseWorld) -> None:
    """By region: what has the region's value fills its slot. Two for one slot stop it as well; what fits none stays here."""
    eu = {"Partner Document": {"Reference": "Approved", "Tags": ["EU"]}}
    kit = kits_world.order("kits")
    kits_world.keep(kit.id, "offer.pdf", b"an offer")
    kits_world.keep(kit.id, "minutes.pdf", b"of a meeting")
    kits_world.keep(kit.id, "leaflet.pdf", b"a leaflet")
    said = blocked(kit.start(kit="region-eu"))
    assert "Kit region-eu: slot 'safety' is empty: a document with Partner Document / Tags = EU is wanted." in said
    assert "frozen" not in kit.kinds
    bea, ann = kits_world.newcomer(), kits_world.newcomer()
    kits_world.keep(kit.id, "sheet.pdf", b"a sheet", categories=eu)
    assert kit.go() is None, "asked for again it is whole"
    assert [(file.shown, file.slot) for file in kit.package.files] == [
        ("leaflet.pdf", "leaflet"),
        ("offer.pdf", "offer"),
        ("sheet.pdf", "safety"),
    ]
    assert "Send kit `region-eu`, **3 documents**" in kit.form
    assert "slot `leaflet` (may be left out)" in kit.form and "slot `safety`\n" in kit.form
    assert "minutes.pdf" in kit.form and "fits no slot of kit region-eu" in kit.form

    but = {"decision": "approve all but the listed", "comment": "not this time"}
    assert kit.resume(kit.answer(bea, left_out=["2. offer.pdf"], **but)) == "REJECT", "the form does not offer it"
    kit.plant(kit.answer(bea, left_out=["2. offer.pdf"], **but))
    kits_world.client.set_flow_run_state(kit.told.id, Scheduled(), force=True)
    assert kit.go() is None
    assert kit.last("answered")["refusal"]["code"] == "list-foreign"
    state = kit.sign(ann, left_out=["1. leaflet.pdf"], **but)
    assert state is not None and state.name == "Delivered", state
    assert set(kit.received) == {"offer.pdf", "sheet.pdf", f"{kit.id}.json", f"{kit.id}.done"}
    assert "parted" not in kit.kinds, "what is left out of a kit is no kit"

    twice = kits_world.order("kits")
    for name in ("offer.pdf", "offer-new.pdf"):
        kits_world.keep(twice.id, name, name.encode())
    said = blocked(twice.start(kit="standard"))
    assert "2 documents fit slot 'offer', which takes one: offer-new.pdf, offer.pdf" in said
