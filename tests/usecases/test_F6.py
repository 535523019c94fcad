"""F6 Auditors, both ways, with Extended ECM and with File 360 as the repository.

*Given* auditor uploads artifact.zip to the controlled drop; *when* ingested; *then* it is removed from the FTP drop only after File 360
confirms, is under the audit retention class, and the request number links both directions; an auditor account cannot list anyone else's
drop.

What our people put on the internal FTP server is filed, and legal approves what auditors see of it. It goes to the auditor's drop; with
File 360 it is also shown to the auditor there, in a folder of its own, until a day. File 360 has no retention classes: the class is
written on the document, and the rule of the audits' folder keeps it.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prefect.client.schemas.objects import State
from typer.testing import CliRunner

from blocks.endpoints.base import EndpointSession
from blocks.errors import EndpointError, OnHold, SendRefused
from blocks.profile import load_partner, load_repositories
from blocks.repositories.base import RepositorySession
from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.repositories.file360 import File360Session
from blocks.sender import Seen
from blocks.settings import settings
from deployments.cli import app
from flows.intake import intake
from tasks import connections
from tasks.order import load_release, sender
from tests.release_world import Release, ReleaseWorld
from tests.servers.ftp import PASSWORD, Ftp, pyftpdlib_server
from tests.world import file360

AUDITORS = ("ann", "bob")
ACCOUNTS = {"ann": ("to-us", "from-us"), "bob": ("to-us", "from-us"), "internal": ("books",)}


@pytest.fixture(scope="module", params=["extended-ecm", "file360"])
def ecm(
    request: pytest.FixtureRequest, ecm: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Any]]:
    """The repository of this use case."""
    if request.param == "extended-ecm":
        yield ecm
        return
    with file360(tmp_path_factory.mktemp("file360")) as service:
        yield service


@pytest.fixture(scope="module")
def drops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ftp]:
    """One FTPS server on which each auditor has an account, and a drop of their own; and our own people have theirs."""
    folder = tmp_path_factory.mktemp("audit")
    accounts: list[str] = []
    for account, places in ACCOUNTS.items():
        for place in places:
            (folder / "drops" / account / place).mkdir(parents=True)
        accounts += ["--account", account, str(folder / "drops" / account)]
    with pyftpdlib_server(folder / "server", *accounts, tls=True) as server:
        yield server


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A repository that is away stays away."""
    monkeypatch.setenv("COUNTERSIGN_PAUSE_SECONDS", "0.02")
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture(scope="module")
def places(drops: Ftp) -> Path:
    return drops.root.parents[1] / "drops"


@pytest.fixture(scope="module")
def world(
    release_world: ReleaseWorld, ecm: Mapping[str, Any], drops: Ftp, tmp_path_factory: pytest.TempPathFactory
) -> ReleaseWorld:
    secrets = tmp_path_factory.mktemp("secrets")
    (secrets / "of-accounts").write_text(PASSWORD)
    assert drops.certificate is not None
    endpoints = {
        account: {
            "protocol": "ftps",
            "host": drops.host,
            "port": drops.port,
            "username": account,
            "password": f"file:{secrets}/of-accounts",
            "ca_file": str(drops.certificate.authority),
            "timeout_seconds": 60,
        }
        for account in ACCOUNTS
    }
    by_request = {"Partner Document": {"Reference": "{order}"}}
    destinations: list[dict[str, Any]] = [{"endpoint": "ann", "folder": "from-us"}]
    shares = {}
    if ecm["service"] == "file360":
        (secrets / "of-sender").write_text(str(ecm["sender_password"]))
        account = {"client_id": ecm["sender_user"], "client_secret": f"file:{secrets}/of-sender", "timeout_seconds": 60}
        at = {"kind": "file360", "url": ecm["url"], "root": "Shown outside", **account}
        shares["auditors"] = {"repository": at, "guests": ["ann@audit.example"], "days": 30}
        destinations.append({"share": "auditors", "folder": "{order}"})
    shown = release_world.terms(
        gather={"repository": "ecm", "folder": "Outbox/{order}"},
        signoff={"stages": [{"name": "legal", "groups": ["legal"]}], "proof": "code"},
        destinations=destinations,
        record={"repository": "ecm", "folder": "Audits/{order}", "categories": by_request, "records_class": "Audits"},
    )
    inbound = {"direction": "inbound", "settle": {"quiet": "PT0S"}}
    books = {
        **inbound,
        "endpoint": "internal",
        "folder": "books",
        "classify": [{"pattern": r"(?P<request>[a-z]-[0-9a-f]{8})_.+\.zip", "doctype": "audit-artifact"}],
        "target": {"repository": "ecm", "folder": "Outbox/{request}"},
    }
    artifacts = {
        **inbound,
        "endpoint": "ann",
        "folder": "to-us",
        "classify": [{"pattern": r"(?P<request>[a-z]-[0-9a-f]{8})_.+\.zip", "doctype": "audit-artifact"}],
        "target": {
            "repository": "ecm",
            "folder": "Audits/{request}",
            "categories": {"Partner Document": {"Reference": "{request}"}},
            "records_class": "Audits",
            "retention": {"period": "P7Y", "begins": "end of year"},
        },
    }
    release_world.agree(endpoints=endpoints, shares=shares, shown=shown, books=books, artifacts=artifacts)
    if shares:  # governance rules the audits' folder, before anything is in it
        with load_repositories(release_world.profiles)["ecm"].session() as session:
            assert isinstance(session, File360Session)
            session.retain(("Audits",), "keep", 7 * 366)
    return release_world


def artifact() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("findings.txt", "none")
    return packed.getvalue()


def taken_in(stream: str = "artifacts") -> State:
    state: State = intake("acme", stream, patience_seconds=10, return_state=True)
    return state


def test_what_goes_to_an_auditor_and_what_comes_back_are_linked_by_the_request(
    world: ReleaseWorld, ecm: Mapping[str, Any], places: Path
) -> None:
    # Out: what our people have put on the internal server, and legal lets the auditor see.
    lena = world.newcomer("legal")
    release = world.order("shown")
    books, packed = f"{release.id}_books.zip", artifact()
    (places / "internal" / "books" / books).write_bytes(packed)
    assert taken_in("books").name == "Filed"
    assert release.start() is None
    assert not list((places / "ann" / "from-us").glob(f"*{release.id}*")), "nothing is shown before legal has signed"
    without_a_signoff(release)
    if ecm["service"] == "file360":
        assert guests_files(ecm, "ann@audit.example", None) is None, "no guest is even invited"
        assert "shown to ann@audit.example for 30 days" in release.form
    state = release.sign(lena)
    assert state is not None and state.name == "Delivered", state
    assert [path.name for path in (places / "ann" / "from-us").glob(f"*{release.id}*")] == [books]
    if ecm["service"] == "file360":
        (receipt,) = release.last("delivered")["files"]
        folder = receipt["replies"][1].split()[1]
        assert (receipt["approved"], receipt["proof"]) == (receipt["proven"], "read back"), receipt
        assert guests_files(ecm, "ann@audit.example", folder) == {books: packed}

    # Back: it leaves the drop only once the repository has it.
    upload = places / "ann" / "to-us" / f"{release.id}_artifact.zip"
    upload.write_bytes(packed)
    if ecm["service"] == "file360":
        with away(world):
            assert taken_in().is_failed() and upload.read_bytes() == packed
    assert taken_in().name == "Filed" and not upload.exists()

    # Both under the audit class, in one place, and each found from the other by the request number.
    with load_repositories(world.profiles)["ecm"].session() as session:
        kept = {one.name: one for one in session.look(("Audits", release.id))}
        assert len(kept) == 2 and upload.name in kept
        for one in kept.values():
            assert of_the_audits(session, one.id)
            assert session.get(one.id).categories["Partner Document"]["Reference"] == release.id
        assert {one.id for one in kept.values()} <= {found.id for found in session.search(text=release.id)}
        (name,) = set(kept) - {upload.name}
        assert read(session, kept[upload.name].id) == packed
        record_of_it = json.loads(read(session, kept[name].id))
    shores = 2 if ecm["service"] == "file360" else 1
    assert [sent["document"] for sent in record_of_it["transmissions"]] == [books] * shores
    assert [one["name"] for one in record_of_it["approvers"]] == [lena.title()]
    found = {one.name for one in connections.ledger().search(name=release.id, partner="acme")}
    assert found >= {release.id, books, upload.name}
    if ecm["service"] == "file360":
        hidden_by_operations(release)
        assert guests_files(ecm, "ann@audit.example", folder) == {}


@contextmanager
def away(world: ReleaseWorld) -> Iterator[None]:
    """The repository answers nobody."""
    reviewed = world.profiles / "repositories.yaml"
    agreed = reviewed.read_text()
    nowhere = yaml.safe_load(agreed)
    nowhere["repositories"]["ecm"]["url"] = "http://127.0.0.1:9"
    reviewed.write_text(yaml.safe_dump(nowhere))
    try:
        yield
    finally:
        reviewed.write_text(agreed)


def without_a_signoff(release: Release) -> None:
    """A worker asks the sender to send it as it is."""
    seen = [Seen(file.repository_id, file.version) for file in release.package.files]
    with sender() as asked, pytest.raises(SendRefused, match="its sign-off is not complete"):
        asked.send(release.package, load_release("acme", "shown").policies, [], seen)


def hidden_by_operations(release: Release) -> None:
    """The days are not over, and the auditor is shown nothing any more."""
    asked = CliRunner().invoke(app, ["signoff", "hide", release.id, "--comment", "the audit is over"])
    assert asked.exit_code == 0 and asked.output.startswith("hidden: file360://sender@"), asked.output
    assert release.last("hidden")["comment"] == "the audit is over"


def of_the_audits(session: RepositorySession, id: str) -> bool:
    """Under the retention class of audits, as the repository has such."""
    if isinstance(session, ExtendedEcmSession):
        record = session.records.get(int(id))
        return record is not None and record.class_name.endswith("Audits")
    assert isinstance(session, File360Session)
    with pytest.raises(OnHold, match="kept until"):
        session.remove(id)
    return bool(session._document(id).external["recordsClass"] == "Audits")


def guests_files(ecm: Mapping[str, Any], guest: str, folder: str | None) -> dict[str, bytes] | None:
    """What a guest who has taken the invitation finds in a folder; None for one who was never invited."""
    with httpx.Client(base_url=ecm["url"], timeout=60, trust_env=False) as http:
        http.post("/api/v1/invites/accept", json={"email": guest, "password": "of a guest"})
        signed_in = http.post("/api/v1/sessions", params={"email": guest, "password": "of a guest"})
        if signed_in.status_code == 401:
            return None
        http.headers["Authorization"] = f"Bearer {signed_in.cookies['AccessToken'].removeprefix('s%3A').rpartition('.')[0]}"
        listed = http.get(f"/api/v1/folders/{folder}/children")
        documents = listed.json() if listed.is_success else ()
        return {one["name"]: http.get(f"/api/v1/documents/{one['id']}/content").content for one in documents}


def read(session: RepositorySession, id: str) -> bytes:
    spool = connections.spool()
    with spool.batch() as batch:
        return spool.path(session.fetch(id, None, batch).digest).read_bytes()


def test_an_auditor_cannot_list_anybody_elses_drop(world: ReleaseWorld, places: Path) -> None:
    (places / "bob" / "to-us" / "secret.zip").write_bytes(artifact())
    with load_partner("acme", world.profiles).endpoints["ann"].session() as session:
        assert {file.name for file in session.look(".")} == {b"to-us", b"from-us"}
        for folder in ("../bob/to-us", "/../bob/to-us", "/bob/to-us", "to-us/../../bob/to-us"):
            assert b"secret.zip" not in names(session, folder), folder


def names(session: EndpointSession, folder: str) -> set[bytes]:
    try:
        return {file.name for file in session.look(folder)}
    except EndpointError:
        return set()
