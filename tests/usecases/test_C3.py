"""C3 Media orchestration, over FTP into File 360.

*Given* IMG_0001.tif with SKU in a sidecar; *when* both are present; *then* it is renamed by rule, linked to the SKU; without sidecar
after T it goes to triage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deployments.cli import app
from tests.sandbox.ftp import FtpSandbox
from tests.world import World, file360, over_ftp

OPEN, CLOSED = "PT1H", "PT0.000001S"
"""T: a window that is open for as long as a test takes, and one that has closed by the next run."""
LINK = {"Product Link": {"SKU": "{sku}", "Campaign": "{campaign}", "Sent As": "{name}"}}


def picture(number: int) -> bytes:
    return b"II*\x00\x08\x00\x00\x00" + number.to_bytes(4, "little") * 20


def sidecar(sku: str, campaign: str = "Spring") -> bytes:
    return json.dumps({"product": {"sku": sku}, "campaign": campaign}).encode()


@pytest.fixture(scope="module")
def ecm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """File 360 is this use case's repository."""
    with file360(tmp_path_factory.mktemp("file360")) as service:
        yield service


@pytest.fixture
def agency(world: World, tmp_path: Path) -> Iterator[FtpSandbox]:
    """The agency's FTP server."""
    (tmp_path / "password").write_text("not a secret")
    with FtpSandbox(tmp_path / "agency", users={"partner": "not a secret"}) as server:
        agree(world, server, OPEN)
        yield server


def agree(world: World, server: FtpSandbox, window: str) -> None:
    world.agree(
        endpoint=over_ftp(server.host, server.port, server.root.parent / "password"),
        folder="/",
        classify=[{"pattern": r".*\.tif", "doctype": "product-image"}, {"pattern": r".*\.json", "doctype": "sidecar"}],
        triage=["sku", "campaign"],
        sets={
            "pattern": r"(?P<set>IMG_\d{4})\.(tif|json)",
            "files": ["{set}.tif"],
            "sidecar": {
                "name": "{set}.json",
                "facts": {"sku": {"at": "product.sku", "matches": r"[A-Z]-\d{4}"}, "campaign": {"at": "campaign"}},
            },
            "window": window,
        },
        target={
            "repository": "ecm",
            "folder": f"Tests/{world.remote.name}",
            "name": "{sku}.{extension}",
            "collision": "keep both",
            "categories": LINK,
        },
        owner="media@example.com",
    )


def links(world: World) -> dict[str, dict[str, str]]:
    """Name of what is filed -> what it is linked to."""
    with world.repository() as session:
        kept = {one.name: session.get(one.id) for one in session.look(("Tests", world.remote.name))}
        return {name: dict(one.categories["Product Link"]) for name, one in kept.items()}


def test_a_picture_is_renamed_and_linked_by_its_sidecar_and_without_one_a_person_tells(
    world: World, agency: FtpSandbox
) -> None:
    # The picture alone waits, and stays where it is.
    (agency.root / "IMG_0001.tif").write_bytes(picture(1))
    assert world.run().name == "Nothing new"
    assert (agency.root / "IMG_0001.tif").exists() and world.ledger.cases() == []

    # Both are there.
    (agency.root / "IMG_0001.json").write_bytes(sidecar("A-0077"))
    assert world.run().name == "Filed"
    assert world.filed() == {"A-0077.tif": picture(1), "A-0077.json": sidecar("A-0077")}
    told = {"SKU": "A-0077", "Campaign": "Spring"}
    assert links(world) == {
        "A-0077.tif": {**told, "Sent As": "IMG_0001.tif"},
        "A-0077.json": {**told, "Sent As": "IMG_0001.json"},
    }
    assert not list(agency.root.iterdir()), "nothing strays"

    # T has passed, and no sidecar has come; another picture is of a product that is there already.
    (agency.root / "IMG_0002.tif").write_bytes(picture(2))
    (agency.root / "IMG_0003.tif").write_bytes(picture(3))
    (agency.root / "IMG_0003.json").write_bytes(sidecar("A-0077", "Summer"))
    agree(world, agency, CLOSED)
    assert world.run().name == "Filed, 1 quarantined"
    (case,) = world.ledger.cases()
    assert (case.name, case.code, case.owner) == ("IMG_0002.tif", "needs-triage", "media@example.com")
    assert "No sidecar that can be used has come" in str(case.reason) and "IMG_0002.json" in str(case.reason)

    # A person tells what the sidecar would have told.
    facts = ["--fact", "sku=B-0001", "--fact", "campaign=Spring"]
    ran = CliRunner().invoke(app, ["triage", "assign", case.journey, *facts, "--once", "--comment", "asked the agency"])
    assert ran.exit_code == 0, ran.output
    assert world.ledger.cases() == []

    # Of two pictures of one product none replaces the other.
    filed = world.filed()
    assert (filed["A-0077.tif"], filed["B-0001.tif"]) == (picture(1), picture(2))
    (other,) = filed.keys() - {"A-0077.tif", "A-0077.json", "B-0001.tif"} - {name for name in filed if name.endswith(".json")}
    assert filed[other] == picture(3) and other.startswith("A-0077")
    assert set(world.versions().values()) == {1}
    assert links(world)[other] == {"SKU": "A-0077", "Campaign": "Summer", "Sent As": "IMG_0003.tif"}
    assert not list(agency.root.iterdir())
