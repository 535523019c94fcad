"""S4 Contract exchange: drafts, redlines and signed copies are bound to their contract; what nobody can look into waits for a person."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from blocks.profile import load_repositories
from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.repositories.otcs_nodes import raw_versions
from blocks.repositories.otcs_workspaces import Workspace
from blocks.values import BusinessObject, Filed, Filing, InWorkspace
from deployments.cli import app
from flows.intake import intake
from tests.release_world import ReleaseWorld
from tests.world import World

ENDED = b"\ntrailer << /Root 1 0 R >>\n%%EOF\n"
ENCRYPTED = b"\ntrailer << /Root 1 0 R /Encrypt 5 0 R >>\n%%EOF\n"


def pdf(text: str, end: bytes = ENDED) -> bytes:
    return b"%PDF-1.7\n% " + text.encode() + end


class Contracts:
    """The contract with this partner: what is filed in its workspace."""

    def __init__(self, world: World) -> None:
        self.world, self.number = world, world.remote.name.removeprefix("world-")
        self.about = BusinessObject("ERP", "CONTRACT", self.number)
        world.agree(
            classify=[
                {"pattern": r"Contract_(?P<contract>[0-9a-f]{8})_.*", "doctype": "contract"},
                # As agreed, what they call just so is about this one.
                {"pattern": r"Contract_(draft|final).*", "doctype": "contract", "facts": {"contract": self.number}},
            ],
            target={
                "repository": "ecm",
                "workspace": {
                    "system": "ERP",
                    "object": "CONTRACT",
                    "reference": "{contract}",
                    "template": "Supplier",
                    "name": "Contract {contract}",
                    "roles": {"Team Lead": ["DefaultGroup"]},
                },
                "folder": "Contracts/Exchange",
                "name": "Contract.pdf",
                "categories": {"Partner Document": {"Reference": "{contract}", "SHA-256": "{digest}"}},
            },
            owner="legal@example.com",
        )

    def workspaces(self) -> list[Workspace]:
        with self.world.repository() as session:
            assert isinstance(session, ExtendedEcmSession)
            return list(session.workspaces.look(about=self.about))

    def versions(self) -> list[dict[str, Any]]:
        """The versions of the contract as the repository tells them, oldest first; the first has its description at the document."""
        with self.world.repository() as session:
            assert isinstance(session, ExtendedEcmSession)
            kept = session.find(("Suppliers", f"Contract {self.number}", "Contracts", "Exchange"), "Contract.pdf")
            if kept is None:
                return []
            node = session._wire.ask("node", "GET", f"v2/nodes/{kept.id}")["results"]["data"]["properties"]
            found = [{**version} for version in raw_versions(session._wire, int(kept.id))]
        found[0]["description"] = node["description"]
        return found


@pytest.fixture
def contracts(world: World) -> Contracts:
    return Contracts(world)


def test_an_encrypted_return_is_bound_to_its_contract_and_held_for_a_person(world: World, contracts: Contracts) -> None:
    world.leave(f"Contract_{contracts.number}_draft.pdf", pdf("draft"))
    assert world.run().name == "Filed"
    world.leave("Contract_draft redlined.pdf", pdf("redline"))
    assert world.run().name == "Filed"
    (workspace,) = contracts.workspaces()
    assert workspace.name == f"Contract {contracts.number}"
    drafts = contracts.versions()
    assert len(drafts) == 2

    world.leave("Contract_final(3).PDF", pdf("signed", ENCRYPTED))
    assert world.run().name == "Nothing filed, 1 quarantined"
    (case,) = world.ledger.cases()
    assert (case.code, case.owner) == ("cannot-inspect", "legal@example.com")
    held = next(entry for entry in world.ledger.journey(case.journey) if entry.kind == "quarantined")
    assert held.body["workspace"] == {"system": "ERP", "type": "CONTRACT", "id": contracts.number}
    assert contracts.versions() == drafts, "nothing of it is filed yet"

    # A retry changes nothing: still nobody has looked into it. A person who has lets it through, and says why.
    assert CliRunner().invoke(app, ["quarantine", "retry", case.journey, "--comment", "again"]).exit_code == 1
    comment = "opened with the password they phoned in: it is the signed copy"
    released = CliRunner().invoke(app, ["quarantine", "release", case.journey, "--comment", comment])
    assert released.exit_code == 0, released.output
    assert world.ledger.cases() == []
    (same,) = contracts.workspaces()
    assert same.id == workspace.id

    history = contracts.versions()
    assert [version["version_number"] for version in history] == [1, 2, 3]
    journeys = world.journeys()
    for version, sent in zip(history, ("_draft.pdf", "Contract_draft redlined.pdf", "Contract_final(3).PDF"), strict=True):
        entries = journeys[version["external_identity"]]
        fetched = next(entry for entry in entries if entry.kind == "fetched")
        assert sent in version["description"], "people read in the repository what was sent"
        assert "from acme/price-lists, received 20" in version["description"]
        assert fetched.body["digest"] in version["description"]
        filed = next(entry for entry in entries if entry.kind == "filed")
        assert filed.body["workspace"]["id"] == contracts.number
    last = journeys[history[-1]["external_identity"]]
    assert [entry.body["comment"] for entry in last if entry.kind == "retried" and entry.body["released"]] == [comment]


def test_what_is_wrong_in_itself_nobody_can_let_through(world: World, contracts: Contracts) -> None:
    world.leave("Contract_final.pdf", b"%PDF-1.7\n% cut before its end" + b" /Encrypt 5 0 R ")
    assert world.run().name == "Nothing filed, 1 quarantined"
    (case,) = world.ledger.cases()
    released = CliRunner().invoke(app, ["quarantine", "release", case.journey, "--comment", "looks fine to me"])
    assert released.exit_code != 0
    assert "truncated" in str(released.output) + str(released.exception)
    assert contracts.versions() == []
    assert all(entry.kind != "retried" for entry in world.ledger.journey(case.journey))


def test_without_a_template_a_document_of_an_unknown_contract_waits_for_a_person(world: World, contracts: Contracts) -> None:
    profile = world.profiles / "acme.yaml"
    profile.write_text(profile.read_text().replace("template: Supplier", "template: null"))
    world.leave(f"Contract_{contracts.number}_draft.pdf", pdf("draft"))
    assert world.run().name == "Nothing filed, 1 quarantined"
    assert [case.code for case in world.ledger.cases()] == ["no-workspace"]
    assert contracts.workspaces() == []


# --------------------------------------------------------------------------------------------- both ways


class Exchange:
    """A contract with a counterparty whose drafts come in, and to whom ours go out once somebody has signed for them."""

    def __init__(self, world: ReleaseWorld) -> None:
        self.world, self.number = world, uuid4().hex[:8]
        self.about = BusinessObject("ERP", "CONTRACT", self.number)
        workspace = {"system": "ERP", "object": "CONTRACT", "reference": "{contract}"}
        here = {"repository": "ecm", "workspace": workspace, "folder": "Contracts/Exchange", "name": "Contract.{extension}"}
        pattern = r"Contract_(?P<contract>[0-9a-f]{8})_.*\.pdf"
        self.theirs = world.remote / self.number
        self.theirs.mkdir()
        contracts = {
            "direction": "inbound",
            "endpoint": "drop",
            "folder": str(self.theirs),
            "settle": {"quiet": "PT0S"},
            "classify": [{"pattern": pattern, "doctype": "contract"}],
            "target": {
                **here,
                "workspace": {**workspace, "template": "Supplier", "name": "Contract {contract}"},
                "records_class": "Contracts",
            },
        }
        drafts = world.terms(
            gather={"repository": "ecm", "from_order": True},
            classify=[{"pattern": pattern, "doctype": "contract"}],
            evidence={**here, "folder": "Contracts/Signed", "name": "{name}"},
            record={**here, "copies": True, "records_class": "Contracts"},
        )
        world.agree(contracts=contracts, drafts=drafts)

    def comes_in(self, kind: str) -> str:
        """The counterparty sends something about this contract; the digest of its bytes."""
        content = pdf(f"{kind} {self.number}")
        (self.theirs / f"Contract_{self.number}_{kind}.pdf").write_bytes(content)
        state = intake("acme", "contracts", patience_seconds=5, return_state=True)
        assert state.name == "Filed", state
        return hashlib.sha256(content).hexdigest()

    def draws_up(self, kind: str, tmp_path: Path) -> tuple[str, bytes]:
        """Somebody of ours puts a document into the contract's workspace; its id and bytes."""
        content = pdf(f"{kind} {self.number}")
        file = tmp_path / kind
        file.write_bytes(content)
        filing = Filing(
            journey=str(uuid4()),
            name=f"Contract_{self.number}_{kind}.pdf",
            folder=("Contracts", "Drafts"),
            path=file,
            digest=hashlib.sha256(content).hexdigest(),
            size=len(content),
            media_type="application/pdf",
            workspace=InWorkspace(self.about, f"Contract {self.number}", "Supplier"),
        )
        with load_repositories(self.world.profiles)["ecm"].session() as session:
            (filed,) = session.file([filing])
        assert isinstance(filed, Filed)
        return filed.id, content

    def tells(self) -> tuple[list[str], dict[str, int]]:
        """What the history of the exchanged contract says, oldest first; and names and versions of all that is filed with it."""
        with load_repositories(self.world.profiles)["ecm"].session() as session:
            assert isinstance(session, ExtendedEcmSession)
            (workspace,) = session.workspaces.look(about=self.about)
            folder = ("Suppliers", workspace.name, "Contracts", "Exchange")
            kept = {one.name: one for one in session.look(folder)}
            contract = int(kept["Contract.pdf"].id)
            node = session._wire.ask("node", "GET", f"v2/nodes/{contract}")["results"]["data"]["properties"]
            said = [str(version["description"]) for version in raw_versions(session._wire, contract)]
        return [str(node["description"]), *said[1:]], {name: one.version for name, one in kept.items()}


@pytest.fixture
def exchange(release_world: ReleaseWorld) -> Exchange:
    return Exchange(release_world)


def test_a_redline_goes_out_signed_for_and_history_tells_both_ways(exchange: Exchange, tmp_path: Path) -> None:
    bea = exchange.world.newcomer()
    draft = exchange.comes_in("draft")
    document, redline = exchange.draws_up("redline", tmp_path)
    release = exchange.world.order("drafts")
    assert release.start(ids=[document]) is None
    assert release.received == {}, "nothing leaves before somebody has signed for it"
    assert len(exchange.tells()[0]) == 1
    state = release.sign(bea)
    assert state is not None and state.name == "Delivered", state
    assert release.received == {f"Contract_{exchange.number}_redline.pdf": redline}

    signed = exchange.comes_in("signed")
    history, filed = exchange.tells()
    went = hashlib.sha256(redline).hexdigest()
    wanted = [("draft", "from acme/contracts, received 2", draft), ("redline", "to acme/drafts, delivered 2", went)]
    wanted += [("signed", "from acme/contracts, received 2", signed)]
    assert len(history) == 3
    for told, (kind, way, digest) in zip(history, wanted, strict=True):
        assert told.startswith(f"Contract_{exchange.number}_{kind}.pdf {way}") and digest in told, told
    assert f"order {release.id}" in history[1]
    assert filed == {"Contract.pdf": 3, "Contract.transmission.json": 1}, "one contract, and the record of what went out"


def test_what_belongs_to_two_contracts_does_not_leave_in_one_order(exchange: Exchange, tmp_path: Path) -> None:
    first, _ = exchange.draws_up("redline", tmp_path)
    second, _ = Exchange(exchange.world).draws_up("draft", tmp_path)
    release = exchange.world.order("drafts")
    state = release.start(ids=[first, second])
    assert state is not None and state.name == "Stopped by checks", state
    assert "do not tell contract alike" in str(state.message)
    assert release.received == {}
