"""F6 Auditors, both ways, on Extended ECM: what legal lets them see goes to their drop, what they upload is kept for as long as audits
are, one request number leads from each to the other, and no auditor sees another's drop."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prefect.client.schemas.objects import State

from blocks.endpoints.base import EndpointSession
from blocks.errors import EndpointError
from blocks.profile import load_partner, load_repositories
from blocks.repositories.extended_ecm import ExtendedEcmSession
from flows.intake import intake
from tasks import connections
from tests.release_world import ReleaseWorld
from tests.servers.ftp import PASSWORD, Ftp, pyftpdlib_server

AUDITORS = ("ann", "bob")


@pytest.fixture(scope="module")
def drops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ftp]:
    """One FTPS server on which each auditor has an account, and a drop of their own."""
    folder = tmp_path_factory.mktemp("audit")
    accounts: list[str] = []
    for auditor in AUDITORS:
        for way in ("to-us", "from-us"):
            (folder / "drops" / auditor / way).mkdir(parents=True)
        accounts += ["--account", auditor, str(folder / "drops" / auditor)]
    with pyftpdlib_server(folder / "server", *accounts, tls=True) as server:
        yield server


@pytest.fixture(scope="module")
def places(drops: Ftp) -> Path:
    return drops.root.parents[1] / "drops"


@pytest.fixture(scope="module")
def world(release_world: ReleaseWorld, drops: Ftp, tmp_path_factory: pytest.TempPathFactory) -> ReleaseWorld:
    password = tmp_path_factory.mktemp("password") / "of-auditors"
    password.write_text(PASSWORD)
    assert drops.certificate is not None
    endpoints = {
        auditor: {
            "protocol": "ftps",
            "host": drops.host,
            "port": drops.port,
            "username": auditor,
            "password": f"file:{password}",
            "ca_file": str(drops.certificate.authority),
            "timeout_seconds": 60,
        }
        for auditor in AUDITORS
    }
    by_request = {"Partner Document": {"Reference": "{order}"}}
    shown = release_world.terms(
        signoff={"stages": [{"name": "legal", "groups": ["legal"]}], "proof": "code"},
        destinations=[{"endpoint": "ann", "folder": "from-us", "name": "{order}_{name}"}],
        record={"repository": "ecm", "folder": "Audits/{order}", "categories": by_request, "records_class": "Audits"},
    )
    artifacts = {
        "direction": "inbound",
        "endpoint": "ann",
        "folder": "to-us",
        "settle": {"quiet": "PT0S"},
        "classify": [{"pattern": r"(?P<request>[a-z]-[0-9a-f]{8})_.+\.zip", "doctype": "audit-artifact"}],
        "target": {
            "repository": "ecm",
            "folder": "Audits/{request}",
            "categories": {"Partner Document": {"Reference": "{request}"}},
            "records_class": "Audits",
            "retention": {"period": "P7Y", "begins": "end of year"},
        },
    }
    release_world.agree(endpoints=endpoints, shown=shown, artifacts=artifacts)
    return release_world


def artifact() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("findings.txt", "none")
    return packed.getvalue()


def taken_in() -> State:
    state: State = intake("acme", "artifacts", patience_seconds=10, return_state=True)
    return state


def test_what_goes_to_an_auditor_and_what_comes_back_are_linked_by_the_request(world: ReleaseWorld, places: Path) -> None:
    # Out: what legal lets the auditor see.
    lena = world.newcomer("legal")
    release = world.order("shown", ledger=b"account,amount\n1,2\n")
    assert release.start() is None
    assert not list((places / "ann" / "from-us").iterdir()), "nothing is shown before legal has signed"
    state = release.sign(lena)
    assert state is not None and state.name == "Delivered", state
    assert [path.name for path in (places / "ann" / "from-us").iterdir()] == [f"{release.id}_ledger.csv"]

    # Back: it leaves the drop only once the repository has it.
    upload = places / "ann" / "to-us" / f"{release.id}_artifact.zip"
    packed = artifact()
    upload.write_bytes(packed)
    reviewed = world.profiles / "repositories.yaml"
    agreed = reviewed.read_text()
    nowhere = yaml.safe_load(agreed)
    nowhere["repositories"]["ecm"]["url"] = "http://127.0.0.1:9/cs/cs"
    reviewed.write_text(yaml.safe_dump(nowhere))
    assert taken_in().is_failed() and upload.read_bytes() == packed
    reviewed.write_text(agreed)
    assert taken_in().name == "Filed" and not upload.exists()

    # Both under the audit class, in one place, and each found from the other by the request number.
    with load_repositories(world.profiles)["ecm"].session() as session:
        assert isinstance(session, ExtendedEcmSession)
        kept = {one.name: one for one in session.look(("Audits", release.id))}
        assert len(kept) == 2 and upload.name in kept
        for one in kept.values():
            record = session.records.get(int(one.id))
            assert record is not None and record.class_name.endswith("Audits"), record
            assert session.get(one.id).categories["Partner Document"]["Reference"] == release.id
        assert {one.id for one in kept.values()} <= {found.id for found in session.search(text=release.id)}
        (name,) = set(kept) - {upload.name}
        record_of_it = json.loads(read(session, kept[name].id))
    assert [sent["document"] for sent in record_of_it["transmissions"]] == ["ledger.csv"]
    assert [one["name"] for one in record_of_it["approvers"]] == [lena.title()]
    found = {one.name for one in connections.ledger().search(name=release.id, partner="acme")}
    assert found >= {release.id, upload.name}


def read(session: ExtendedEcmSession, id: str) -> bytes:
    spool = connections.spool()
    with spool.batch() as batch:
        return spool.path(session.fetch(id, None, batch).digest).read_bytes()


@pytest.mark.parametrize("folder", ["../bob/to-us", "/../bob/to-us", "/bob/to-us", "to-us/../../bob/to-us"])
def test_an_auditor_cannot_list_anybody_elses_drop(world: ReleaseWorld, places: Path, folder: str) -> None:
    (places / "bob" / "to-us" / "secret.zip").write_bytes(artifact())
    with load_partner("acme", world.profiles).endpoints["ann"].session() as session:
        assert {file.name for file in session.look(".")} == {b"to-us", b"from-us"}
        assert b"secret.zip" not in names(session, folder)


def names(session: EndpointSession, folder: str) -> set[bytes]:
    try:
        return {file.name for file in session.look(folder)}
    except EndpointError:
        return set()
