"""X6 Sensitive change triggers approval.

*Given* a pricing exception is modified while approval is pending; *when* saved; *then* the pending approval restarts on the new hash and
earlier approvers are told.

Extended ECM's half: what the repository's own workflow has not let through does not leave, and a value or version that changes while
people sign voids what they signed. File 360's: an upload, a change or a share in a watched folder starts an approval of that very
version, a ticketing system is told, and what came of it stands at the document.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.logging import disable_run_logger

from blocks.errors import ConfigurationError, LedgerUnreachable
from blocks.ledger import Recorded
from blocks.profile import load_repositories
from blocks.repositories.extended_ecm import ExtendedEcm, ExtendedEcmSession
from blocks.repositories.file360 import File360Session
from blocks.values import Filed, Filing
from flows.governance import approvals
from flows.reconcile import reconcile
from tasks import connections, incidents
from tasks.approvals import BEGUN, Row, carry_on, find_sensitive, load_approvals
from tasks.compare import compare
from tests.ledger.full import no_room_for
from tests.release_world import Release, ReleaseWorld
from tests.reviews import answer, begin
from tests.sandbox.business import BusinessSandbox
from tests.servers.mail import Mailbox, mail_server
from tests.world import ROOT, file360, reached

MAP = "Process Library/Document Approval"
NAME = "prices.csv"


def values(partner: str = "acme") -> dict[str, dict[str, str]]:
    return {"Partner Document": {"Reference": "Approved", "Partner ID": partner}}


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    with file360(tmp_path_factory.mktemp("team")) as service:
        yield service


@pytest.fixture(scope="module")
def world(release_world: ReleaseWorld, team: Mapping[str, Any]) -> Iterator[ReleaseWorld]:
    """A stream whose documents need the workflow, and two sign-offs; one without the workflow, under each freshness; and one for
    approvals of what is in File 360."""
    gather = {
        **release_world.terms()["gather"],
        "sensitive": [{"category": "Partner Document", "attribute": "Partner ID"}],
    }
    pair = {"stages": [{"name": "release", "groups": ["pricing"], "quorum": 2}], "proof": "code"}
    release_world.agree(
        reviewed=release_world.terms(gather={**gather, "review": {"map": MAP, "step": "Approved"}}, signoff=pair),
        latest=release_world.terms(gather=gather, signoff=pair),
        fixed=release_world.terms(gather=gather, signoff=pair, freshness="pinned"),
        exceptions=release_world.terms(gather={"repository": "team", "from_order": True, "patterns": ["*.csv"]}, signoff=pair),
        others=release_world.terms(gather={"repository": "team", "from_order": True}, signoff=pair),
        bound=release_world.terms(gather={"repository": "team", "from_order": True}, signoff=pair, freshness="pinned"),
    )
    kept = release_world.profiles / "repositories.yaml"
    repositories = yaml.safe_load(kept.read_text())["repositories"]
    repositories["team"] = {**reached(team), "client_secret": "env:TEAM_SECRET"}
    kept.write_text(yaml.safe_dump({"repositories": repositories}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEAM_SECRET", team["password"])
        yield release_world


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


# --------------------------------------------------------------------------------------------- File 360


@dataclass
class Pricing:
    """A watched folder of File 360 with pricing exceptions, and the approvals of what is in it."""

    world: ReleaseWorld
    home: Path
    service: Mapping[str, Any]
    watch: str = field(default_factory=lambda: f"w{uuid4().hex[:8]}")

    @contextmanager
    def session(self) -> Iterator[File360Session]:
        with load_repositories(self.world.profiles)["team"].session() as session:
            assert isinstance(session, File360Session)
            yield session

    def agree(self, **terms: Any) -> None:
        folder = self.world.profiles / "watches"
        folder.mkdir(exist_ok=True)
        watch = {"repository": "team", "folder": f"Pricing/{self.watch}", "owner": "pricing@example.com"}
        approval = {"stream": "acme/exceptions", "patterns": ["exception-*"], **terms}
        (folder / f"{self.watch}.yaml").write_text(yaml.safe_dump({"watch": {**watch, "approval": approval}}))

    def save(self, content: bytes, name: str = "exception-7.csv", *, below: str = "", **values: str) -> str:
        """Somebody saves a document, maybe in a folder ``below``, with values of "Pricing"; its id."""
        path = self.home / uuid4().hex
        path.write_bytes(content)
        folder, digest = ("Pricing", self.watch, *filter(None, [below])), hashlib.sha256(content).hexdigest()
        known = {"Pricing": values} if values else {}
        filing = Filing(str(uuid4()), name, folder, path, digest, len(content), "text/csv", known)
        with self.session() as session:
            (filed,) = session.file([filing])
        assert isinstance(filed, Filed), filed
        return filed.id

    def look(self) -> list[Row]:
        """What the flow does, without a run of Prefect."""
        agreed = load_approvals(self.watch)
        with disable_run_logger():
            find_sensitive.fn(agreed)
            return carry_on.fn(agreed)

    def asked(self) -> dict[str, list[Recorded]]:
        """Order -> all that the ledger holds of its approval."""
        ledger = connections.ledger()
        found = ledger.journeys([one.journey for one in ledger.search(partner=self.watch, limit=1000)])
        return {
            entries[0].body["order"]: entries
            for entries in sorted(found.values(), key=lambda one: one[0].seq)
            if entries[0].kind == BEGUN
        }

    def kinds(self) -> dict[str, list[str]]:
        return {order: [entry.kind.removeprefix("approval ") for entry in told] for order, told in self.asked().items()}

    def release(self, order: str) -> Release:
        """The release that asks for a sign-off, after its first pass: as a worker that has taken its run."""
        (self.world.remote / order).mkdir(exist_ok=True)
        (run,) = [entry.body["run"] for entry in self.asked()[order] if entry.kind == "approval asked"]
        return Release(self.world, "exceptions", order, UUID(run))

    def remarks(self, document: str) -> list[str]:
        with self.session() as session:
            return [comment.text for comment in session.comments(document)]

    def incidents(self) -> list[tuple[str | None, str]]:
        return [(case.code, case.name) for case in connections.ledger().cases(partner=self.watch)]

    def bare(self, client: str = "countersign") -> httpx.Client:
        """Bare HTTP, as somebody in a browser."""
        secret = {"countersign": self.service["password"], "sender": self.service["sender_password"]}[client]
        form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
        url = self.service["url"]
        token = httpx.post(f"{url}/otdsws/oauth2/token", data=form, timeout=60).json()["access_token"]
        return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def share(self, folder: str, *members: str, client: str = "countersign", role: int = 1) -> None:
        body = {"members": [{"email": member, "role": role} for member in members]}
        with self.bare(client) as http:
            http.post(f"/api/v1/folders/{folder}/collaborators", json=body).raise_for_status()

    def link(self, document: str) -> None:
        """A public link to it, as somebody makes it who may."""
        with self.bare("sender") as http:
            http.post(f"/api/v1/documents/{document}/shares", json={}).raise_for_status()

    def change(self, id: str, kind: str = "folders", **to: str) -> None:
        """Somebody moves, renames, discards or restores it."""
        with self.bare() as http:
            http.put(f"/api/v1/{kind}/{id}", json=to).raise_for_status()

    def folder(self, *below: str) -> str:
        """The watched folder's id, or of one below it."""
        *above, name = "Pricing", self.watch, *below
        with self.session() as session:
            kept = session.find(tuple(above), name)
        assert kept is not None
        return kept.id

    @contextmanager
    def faults(self, **faults: float) -> Iterator[None]:
        """File 360 misbehaves while the block runs."""
        told = {name.replace("_", "-"): value for name, value in faults.items()}
        httpx.post(f"{self.service['url']}/_faults", json=told, timeout=60).raise_for_status()
        try:
            yield
        finally:
            httpx.post(f"{self.service['url']}/_faults", json=dict.fromkeys(told, 0), timeout=60).raise_for_status()


@pytest.fixture
def pricing(world: ReleaseWorld, team: Mapping[str, Any], tmp_path: Path) -> Pricing:
    made = Pricing(world, tmp_path, team)
    made.agree()
    return made


@pytest.fixture
def box(world: ReleaseWorld) -> Iterator[Mailbox]:
    """People are told by mail."""
    file = world.profiles / "notify.yaml"
    with mail_server() as box:
        mail = {"host": "127.0.0.1", "port": box.port, "security": "none", "sender": "countersign@example.com"}
        file.write_text(yaml.safe_dump({"mail": mail}))
        try:
            yield box
        finally:
            file.unlink()


@pytest.fixture
def tickets(world: ReleaseWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BusinessSandbox]:
    """The ticketing system, as ``tickets.yaml`` of this project has it."""
    monkeypatch.setenv("COUNTERSIGN_TICKETS_PASSWORD", BusinessSandbox.PASSWORD)
    (world.profiles / "systems").mkdir(exist_ok=True)
    agreed = yaml.safe_load((ROOT / "deployments" / "systems" / "tickets.yaml").read_text("utf-8"))
    with BusinessSandbox(tmp_path / "tickets") as running:
        agreed["system"]["url"] = f"{running.url}/api"
        (world.profiles / "systems" / "tickets.yaml").write_text(yaml.safe_dump(agreed))
        yield running


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_an_exception_that_is_modified_while_approval_is_pending_is_approved_anew_and_who_signed_is_told(
    world: ReleaseWorld, pricing: Pricing, box: Mailbox, tickets: BusinessSandbox
) -> None:
    pricing.agree(ticket={"system": "tickets", "route": "approval"})
    author = world.newcomer(logins=["countersign@example.com"])
    ann, bea, cem = (world.newcomer() for _ in range(3))
    document = pricing.save(b"one")
    first, second = (f"{pricing.watch}-{document}-v{version}" for version in (1, 2))
    state = approvals(pricing.watch, return_state=True)
    assert (state.name, list(pricing.asked())) == ("1 waits", [first])
    old = pricing.release(first)
    assert old.go() is None and old.package.files[0].sha256 == sha256(b"one")
    assert f"awaits:{ann}" in old.told.tags and f"awaits:{author}" not in old.told.tags
    assert old.sign(ann) is None, "one of two"

    pricing.save(b"two")
    state = approvals(pricing.watch, return_state=True)
    assert state.name == "1 restarted, 1 waits", state
    assert list(pricing.asked()) == [first, second]
    state = old.go()  # it was woken
    assert state is not None and state.name == "Voided: exception-7.csv is superseded by v2", state
    told = [text for text in box.messages if "signed anew" in str(text["Subject"])]
    assert [text["To"] for text in told] == [f"{ann}@example.com"]
    assert sha256(b"one")[:16] in told[0].get_content() and "version 2" in told[0].get_content()

    new = pricing.release(second)
    assert new.go() is None and new.package.files[0].sha256 == sha256(b"two"), "on the new hash"
    assert old.package.digest != new.package.digest and new.sign(bea) is None
    state = new.sign(cem)
    assert state is not None and state.name == "Delivered", state
    assert new.received == {"exception-7.csv": b"two"} and old.received == {}
    pricing.save(b"three")
    outcomes = [[(row.outcome, row.version) for row in pricing.look()] for _ in range(2)]
    assert outcomes == [[("approved", 2), ("waits", 3)], [("waits", 3)]]
    assert "restarted" not in pricing.kinds()[second], "what was delivered was signed for good"
    remarks = pricing.remarks(document)
    assert [one.partition(".")[0] for one in remarks] == [
        "Approval of version 1: pending",
        "Approval of version 1: voided: exception-7",
        "Approval of version 2: pending",
        "Approval of version 2: approved",
        "Approval of version 3: pending",
    ]
    assert sha256(b"two") in remarks[-2] and f"Signed by {', '.join(sorted([bea, cem]))}." in remarks[-2]
    assert len([text for text in box.messages if "signed anew" in str(text["Subject"])]) == 1
    assert tickets.books.writes["jobs"] == 3, "one for each version"
    titles = [thing["title"] for thing in tickets.books.things["jobs"].values()]
    assert titles == ["Approve exception-7.csv"] * 3
    assert pricing.incidents() == []


def test_of_two_changes_while_pending_only_what_stands_there_is_asked_for(pricing: Pricing) -> None:
    document = pricing.save(b"one")
    pricing.look()
    pricing.save(b"two")
    pricing.save(b"three")
    pricing.look()
    assert list(pricing.asked()) == [f"{pricing.watch}-{document}-v{version}" for version in (1, 3)]
    assert [row.version for row in pricing.look()] == [3]
    pricing.save(b"four")
    assert sorted(row.outcome for row in pricing.look()) == ["restarted", "waits"]
    assert list(pricing.asked())[-1] == f"{pricing.watch}-{document}-v4"
    new = pricing.release(f"{pricing.watch}-{document}-v4")
    assert new.go() is None and new.package.files[0].sha256 == sha256(b"four")
    for order, by in zip(list(pricing.asked())[:2], (3, 4), strict=True):
        state = pricing.release(order).go()
        assert state is not None and state.name == f"Voided: exception-7.csv is superseded by v{by}", (
            "never for the newest one too"
        )
    assert [row.version for row in pricing.look()] == [4]


def test_a_change_between_sign_off_and_sending_sends_nothing_and_asks_anew(
    world: ReleaseWorld, pricing: Pricing, box: Mailbox
) -> None:
    ann, bea = world.newcomer(), world.newcomer()
    document = pricing.save(b"one")
    pricing.look()
    old = pricing.release(f"{pricing.watch}-{document}-v1")
    assert old.go() is None and old.sign(ann) is None
    assert old.resume(old.answer(bea)) == "ACCEPT"
    pricing.save(b"two")
    state = old.go()
    assert state is not None and state.name.startswith("Voided") and old.received == {}, state
    pricing.look()
    assert list(pricing.asked())[1:] == [f"{pricing.watch}-{document}-v2"]
    told = sorted(str(text["To"]) for text in box.messages if "signed anew" in str(text["Subject"]))
    assert told == sorted([f"{ann}@example.com", f"{bea}@example.com"])


@pytest.mark.parametrize("kind", [BEGUN, "followed", "approval asked", "approval restarted", "approval over"])
def test_a_worker_that_is_killed_at_any_step_begins_it_once(world: ReleaseWorld, pricing: Pricing, kind: str) -> None:
    """The ledger takes no such entry: all that was done before it is done, and nothing after it."""
    ledger, ann = connections.ledger(), world.newcomer()
    document = pricing.save(b"one")
    if kind in ("approval restarted", "approval over"):
        pricing.look()
        release = pricing.release(f"{pricing.watch}-{document}-v1")
        assert release.go() is None
        if kind == "approval over":
            state = release.sign(ann, decision="reject", comment="too low")
            assert state is not None and state.name == "Rejected", state
        else:
            pricing.save(b"two")
    with no_room_for(ledger, kind), pytest.raises(LedgerUnreachable):
        pricing.look()
    pricing.look()
    pricing.look()
    versions = [1, 2] if kind == "approval restarted" else [1]
    assert list(pricing.asked()) == [f"{pricing.watch}-{document}-v{version}" for version in versions]
    runs = {str(entry.body["run"]) for told in pricing.asked().values() for entry in told if entry.kind == "approval asked"}
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(run) for run in runs]))
    assert len(world.client.read_flow_runs(flow_run_filter=wanted)) == len(versions)
    newest = world.client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=200)
    begun = [run for run in newest if (run.parameters or {}).get("ids") == [document]]
    assert len(begun) == len(versions), "no run that nobody knows of"
    remarks = pricing.remarks(document)
    assert len(remarks) == len(set(remarks)) == len(versions) + (kind in ("approval over", "approval restarted"))


def test_what_is_rejected_stays_so_until_it_is_changed(world: ReleaseWorld, pricing: Pricing) -> None:
    ann, document = world.newcomer(), pricing.save(b"one")
    pricing.look()
    release = pricing.release(f"{pricing.watch}-{document}-v1")
    assert release.go() is None
    release.sign(ann, decision="reject", comment="too low")
    pricing.share(pricing.folder(), "admin@example.com")
    assert [row.reason for row in pricing.look()] == ["Rejected"]
    assert pricing.look() == [] and len(pricing.asked()) == 1
    assert pricing.remarks(document)[-1].startswith("Approval of version 1: rejected.")
    pricing.save(b"two")
    assert [row.version for row in pricing.look()] == [2]


def test_only_what_the_file_calls_sensitive_starts_an_approval(pricing: Pricing) -> None:
    """By name, by kind of change, by day, and by value."""
    pricing.agree(on=["modify"])
    pricing.save(b"one")
    pricing.save(b"one", "list.csv")
    pricing.save(b"two", "list.csv")
    assert pricing.look() == []
    pricing.save(b"two")
    assert [(row.document, row.version) for row in pricing.look()] == [("exception-7.csv", 2)]
    pricing.agree(since=date.today() + timedelta(days=2))
    pricing.save(b"three")
    assert [row.version for row in pricing.look()] == [2]
    pricing.agree(patterns=["value-*"], values=[{"category": "Pricing", "attribute": "Kind", "values": ["exception"]}])
    pricing.save(b"one", "value-1.csv", Kind="list")
    pricing.save(b"one", "value-2.csv", Kind="exception")
    pricing.save(b"two", "value-3.csv", Kind="exception")
    pricing.save(b"two", "value-3.csv")
    assert {row.document: row.version for row in pricing.look()} == {"exception-7.csv": 2, "value-2.csv": 1, "value-3.csv": 2}


def test_a_share_starts_an_approval_and_one_outside_without_a_sign_off_is_told_loudly(pricing: Pricing) -> None:
    pricing.agree(on=["share"])
    document = pricing.save(b"one")
    pricing.save(b"one", "list.csv")
    pricing.share(pricing.folder(), "admin@example.com")
    assert [row.document for row in pricing.look()] == ["exception-7.csv"]
    told = pricing.asked()[f"{pricing.watch}-{document}-v1"][0].body
    assert (told["change"], told["by"]) == ("share", "countersign@example.com")
    assert pricing.incidents() == []
    pricing.share(pricing.folder(), "sender@example.com", role=3)
    pricing.share(pricing.folder(), "guest@agency.example.org", client="sender")
    pricing.look()
    pricing.look()
    assert pricing.incidents() == [("shown-unsigned", "exception-7.csv")] and len(pricing.asked()) == 1
    (case,) = connections.ledger().cases(partner=pricing.watch)
    assert "as 1, by sender@example.com (event " in str(case.reason)
    assert case.owner == "pricing@example.com"
    incidents.close(case.journey, "it was agreed", by="ann")
    pricing.look()
    assert pricing.incidents() == []
    pricing.share(pricing.folder(), "guest@agency.example.org", client="sender")
    pricing.look()
    assert len(pricing.incidents()) == 1, "with the same guest once more, nobody has looked at that"
    pricing.link(document)
    pricing.look()
    assert len(pricing.incidents()) == 2 and len(pricing.asked()) == 1


def test_a_public_link_is_a_share(pricing: Pricing) -> None:
    pricing.agree(on=["modify"])
    document = pricing.save(b"one")
    pricing.share(pricing.folder(), "sender@example.com", role=3)
    assert pricing.look() == []
    pricing.agree(on=["share"])
    pricing.link(document)
    assert [row.document for row in pricing.look()] == ["exception-7.csv"]
    told = pricing.asked()[f"{pricing.watch}-{document}-v1"][0].body
    assert (told["change"], told["by"]) == ("share", "sender@example.com")
    assert pricing.incidents() == [("shown-unsigned", "exception-7.csv")]


def test_what_comes_into_the_folder_is_asked_for_and_what_has_left_it_is_not(pricing: Pricing) -> None:
    """Whether a document or a folder of them is moved, discarded, restored or renamed."""
    pricing.agree(patterns=["nothing"])
    moved, discarded = pricing.save(b"a", "exception-1.csv", below="a"), pricing.save(b"b", "exception-2.csv", below="b")
    single = pricing.save(b"c", "exception-3.csv")
    renamed = pricing.save(b"d", "list.csv")
    pricing.save(b"e", "exception-5.csv")
    assert pricing.look() == [], "all that is told of what was done until now"
    pricing.agree()
    a, b, watched = pricing.folder("a"), pricing.folder("b"), pricing.folder()
    with pricing.session() as session:
        kept = session.find((), "Pricing")
    assert kept is not None
    pricing.change(a, parentId=kept.id, name=f"a-{pricing.watch}")
    pricing.change(single, "documents", parentId=kept.id, name=f"exception-{pricing.watch}.csv")
    pricing.share(b, "admin@example.com")
    pricing.change(b, state="deleted")
    assert pricing.look() == [], "neither these, which have gone, nor those that stay"
    pricing.change(a, parentId=watched)
    pricing.change(b, state="active")
    pricing.change(renamed, "documents", name="exception-4.csv")
    pricing.look()
    assert sorted(pricing.asked()) == sorted(f"{pricing.watch}-{one}-v1" for one in (moved, discarded, renamed))
    pricing.change(b, name="c")
    pricing.look()
    assert len(pricing.asked()) == 3


def test_an_order_that_finds_a_newer_version_asks_for_that_one_and_nobody_else_does(pricing: Pricing) -> None:
    """Its run begins after the document was changed, and before that was seen."""
    document = pricing.save(b"one")
    pricing.look()
    first = f"{pricing.watch}-{document}-v1"
    pricing.save(b"two")
    order = pricing.release(first)
    assert order.go() is None and order.package.files[0].version == 2
    assert [row.outcome for row in pricing.look()] == ["waits"] and list(pricing.asked()) == [first]
    pricing.save(b"three")
    pricing.look()
    assert list(pricing.asked()) == [first, f"{pricing.watch}-{document}-v3"]


def test_another_stream_in_the_file_is_for_what_comes_later(pricing: Pricing) -> None:
    document = pricing.save(b"one")
    pricing.look()
    old = pricing.release(f"{pricing.watch}-{document}-v1")
    assert old.go() is None
    pricing.agree(stream="acme/others")
    pricing.save(b"two")
    pricing.look()
    state = old.go()
    assert state is not None and state.name == "Voided: exception-7.csv is superseded by v2", state
    asked = [told[0].body["release"] for told in pricing.asked().values()]
    assert asked == ["acme/exceptions", "acme/others"] and [row.version for row in pricing.look()] == [2]


def test_a_document_that_takes_no_comment_is_asked_for_all_the_same(pricing: Pricing) -> None:
    document = pricing.save(b"one")
    with pricing.faults(max_body=10):
        assert [row.outcome for row in pricing.look()] == ["waits"]
    assert pricing.remarks(document) == [] and pricing.kinds()[f"{pricing.watch}-{document}-v1"] == ["approval", "asked"]


def test_where_prefects_answer_was_lost_it_is_the_same_run(
    world: ReleaseWorld, pricing: Pricing, monkeypatch: pytest.MonkeyPatch
) -> None:
    document, real, lost = pricing.save(b"one"), SyncPrefectClient.create_flow_run_from_deployment, list[UUID]()

    def create(self: SyncPrefectClient, *args: Any, **more: Any) -> FlowRun:
        run = real(self, *args, **more)
        if not lost:
            lost.append(run.id)
            raise httpx.ReadError("no answer")
        return run

    # Only the moment is ours: the run is made.
    monkeypatch.setattr(SyncPrefectClient, "create_flow_run_from_deployment", create)
    with pytest.raises(httpx.ReadError):
        pricing.look()
    assert [row.outcome for row in pricing.look()] == ["waits"]
    assert [pricing.release(order).run for order in pricing.asked()] == lost
    assert len(pricing.remarks(document)) == 1


def test_where_nobody_is_asked_somebody_is_told(pricing: Pricing, tickets: BusinessSandbox) -> None:
    """The stream lets only CSV files out; nor is there such a route. One of the two hides nothing of the other."""
    pricing.agree(ticket={"system": "tickets", "route": "no-such-route"})
    document = pricing.save(b"one", "exception-7.txt")
    pricing.look()
    state = pricing.release(f"{pricing.watch}-{document}-v1").go()
    assert state is not None and state.name == "Nothing to release", state
    pricing.look()
    pricing.look()
    assert sorted(pricing.incidents()) == [("approval-not-told", "exception-7.txt"), ("approval-stopped", "exception-7.txt")]


def test_what_a_ticketing_system_refuses_is_told_and_holds_up_nothing(pricing: Pricing, tickets: BusinessSandbox) -> None:
    pricing.agree(ticket={"system": "tickets", "route": "no-such-route"})
    pricing.save(b"one")
    assert [row.outcome for row in pricing.look()] == ["waits"]
    assert pricing.incidents() == [("approval-not-told", "exception-7.csv")] and tickets.books.writes["jobs"] == 0
    before = pricing.kinds()
    pricing.look()
    assert pricing.kinds() == before, "not told again every minute"
    pricing.agree(ticket={"system": "tickets", "route": "approval"})
    pricing.look()
    pricing.look()
    assert pricing.incidents() == [] and tickets.books.writes["jobs"] == 1


def test_a_lost_secret_holds_up_no_sign_off_and_what_a_person_gives_up_is_not_told_again(
    pricing: Pricing, tickets: BusinessSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    pricing.agree(ticket={"system": "tickets", "route": "approval"})
    names = ["exception-7.csv", "exception-8.csv"]
    for name in names:
        pricing.save(b"one", name)
    monkeypatch.delenv("COUNTERSIGN_TICKETS_PASSWORD")
    for _ in range(2):
        assert [row.outcome for row in pricing.look()] == ["waits", "waits"]
    assert pricing.incidents() == [("approval-not-told", name) for name in names]
    (given_up, _) = connections.ledger().cases(partner=pricing.watch)
    assert "COUNTERSIGN_TICKETS_PASSWORD" in str(given_up.reason)
    incidents.close(given_up.journey, "told them by telephone", by="ann")
    monkeypatch.setenv("COUNTERSIGN_TICKETS_PASSWORD", BusinessSandbox.PASSWORD)
    pricing.look()
    pricing.look()
    assert pricing.incidents() == []
    assert [thing["title"] for thing in tickets.books.things["jobs"].values()] == ["Approve exception-8.csv"]


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        pytest.param({"stream": "acme/bound"}, "freshness: latest", id="an approval of another version than the newest"),
        pytest.param({"stream": "acme/latest"}, "from_order: true", id="a stream that chooses its documents itself"),
        pytest.param({"stream": "acme/listed"}, "another repository", id="documents of another repository"),
        pytest.param({"stream": "acme/nothing"}, "no outbound stream", id="no such stream"),
    ],
)
def test_terms_that_would_approve_something_else_are_refused(pricing: Pricing, terms: dict[str, Any], why: str) -> None:
    pricing.agree(**terms)
    with pytest.raises(ConfigurationError, match=why):
        load_approvals(pricing.watch)


def test_a_watch_that_breaks_off_hinders_no_other(
    world: ReleaseWorld, tmp_path: Path, pricing: Pricing, team: Mapping[str, Any]
) -> None:
    for path in (world.profiles / "watches").glob("*.yaml"):  # other tests'
        path.unlink()
    broken, silent = (Pricing(world, tmp_path, team) for _ in range(2))
    broken.agree(stream="acme/bound")
    pricing.agree()
    silent.agree()
    file = world.profiles / "watches" / f"{silent.watch}.yaml"
    terms = yaml.safe_load(file.read_text())
    del terms["watch"]["approval"]
    file.write_text(yaml.safe_dump(terms))
    pricing.save(b"one")
    state = approvals(return_state=True)
    assert (state.name, state.is_failed()) == ("1 waits, 1 broken off", True)
    assert len(pricing.asked()) == 1
