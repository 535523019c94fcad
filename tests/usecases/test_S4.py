"""S4 Contract exchange: drafts, redlines and signed copies are bound to their contract; what nobody can look into waits for a person."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.repositories.otcs_nodes import raw_versions
from blocks.repositories.otcs_workspaces import Workspace
from blocks.values import BusinessObject
from deployments.cli import app
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
