"""F1 Supplier assets in: images, spec sheets and prices come into the folders of those who work with them, and nobody else sees them.

*Given* supplier A's /out holds hero.jpg (settled), price.csv (still growing), spec.pdf; *when* two polls pass; *then* hero.jpg and
spec.pdf are in the folders mapped for A with roles merchandising/legal/ops and no one else, price.csv is absent until settled, each
object carries supplier, source path, SHA-256, received time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from blocks.profile import load_repositories
from tests.samples import making
from tests.sandbox.file360 import File360Sandbox
from tests.sandbox.file360_store import SEED
from tests.sandbox.ftp import FtpSandbox
from tests.tasks.conftest import dock as dock
from tests.tasks.dock import Dock, price_list
from tests.world import ONE_LOOK, over_ftp

IMAGE, SPEC, PRICES = making.jpeg(80), b"%PDF-1.7\n% the specification\ntrailer << >>\n%%EOF\n", price_list(rows=40)
ASSETS = {
    "images": ("*.jpg", "product-image", "Merchandising"),
    "specs": ("*.pdf", "contract", "Legal"),
    "prices": ("*.csv", "price-list", "Operations"),
}
"""Stream -> names, document type, and who gets at what comes."""
POLL = timedelta(seconds=ONE_LOOK)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[File360Sandbox]:
    monkeypatch.setenv("TEAM_SECRET", "countersign-secret")
    people = [
        {"email": f"{group.lower()}@example.com", "password": "pw", "firstName": group} for _, _, group in ASSETS.values()
    ]
    groups = [{"name": group} for _, _, group in ASSETS.values()]
    sandbox = File360Sandbox(tmp_path / "files", seed={"users": [*SEED["users"], *people], "groups": groups}).start()
    try:
        yield sandbox
    finally:
        sandbox.stop()


@pytest.fixture
def supplier(dock: Dock, files: File360Sandbox, tmp_path: Path) -> Iterator[Path]:
    """Supplier A's folder /out on its FTP server, with the three streams agreed."""
    (tmp_path / "password").write_text("not a secret")
    with FtpSandbox(tmp_path / "supplier", users={"partner": "not a secret"}) as server:
        (server.root / "out").mkdir()
        streams = {
            stream: {
                "patterns": [names],
                "classify": [{"pattern": ".*", "doctype": doctype}],
                "target": {
                    "repository": "team",
                    "folder": f"Suppliers/{{partner}}/{group}",
                    "categories": {
                        "Supplier Asset": {
                            "Supplier": "{partner}",
                            "Source": "{source_path}",
                            "SHA-256": "{digest}",
                            "Received": "{received:%Y-%m-%dT%H:%M:%S}",
                        }
                    },
                    "access": [{"who": group, "right": "edit"}],
                },
            }
            for stream, (names, doctype, group) in ASSETS.items()
        }
        dock.agree(streams=streams, endpoint=over_ftp(server.host, server.port, tmp_path / "password"))
        team = {"kind": "file360", "url": files.url, "client_id": "countersign", "client_secret": "env:TEAM_SECRET"}
        (dock.profiles / "repositories.yaml").write_text(yaml.safe_dump({"repositories": {"team": team}}))
        yield server.root / "out"


def poll(dock: Dock) -> dict[str, str]:
    """One look at the supplier by each stream: file -> what became of it."""
    return {name: outcome for stream in ASSETS for name, outcome in dock.run(stream, patience=POLL).items() if name}


def seen_by(files: File360Sandbox, who: str) -> dict[str, dict[str, Any]]:
    """Folder/name -> all that File 360 shows somebody of what is below the suppliers' folders, by asking for each by its id."""
    asked = {"client_id": "countersign", "client_secret": "countersign-secret", "grant_type": "client_credentials"}
    if who:
        asked |= {"grant_type": "password", "username": who, "password": "admin" if who.startswith("admin") else "pw"}
    with closing(httpx.Client(base_url=files.url, timeout=60, trust_env=False)) as http:
        http.headers["Authorization"] = f"Bearer {http.post('/otdsws/oauth2/token', data=asked).json()['access_token']}"
        every = [(node["id"], node["kind"], node["parent"], node["name"]) for node in files._store.nodes.values()]
        names = {id: name for id, _, _, name in every}
        documents = [(id, f"{names[parent]}/{name}") for id, kind, parent, name in every if kind == "document"]
        answers = {place: http.get(f"/api/v1/documents/{id}") for id, place in documents}
        return {place: answer.json() for place, answer in answers.items() if answer.is_success}


def join(files: File360Sandbox) -> None:
    """Each person into their own group."""
    store = files._store
    for group in store.groups.values():
        person = store.user_with(f"{group['name'].lower()}@example.com")
        assert person is not None
        store.groups.put({**group, "members": {str(person["id"]): False}})


def test_what_has_settled_is_with_those_who_work_with_it_and_nobody_else(
    dock: Dock, files: File360Sandbox, supplier: Path
) -> None:
    join(files)
    began = datetime.now(UTC)
    (supplier / "hero.jpg").write_bytes(IMAGE)
    (supplier / "spec.pdf").write_bytes(SPEC)
    (supplier / "price.csv").write_bytes(PRICES[:200])
    assert poll(dock) == {}, "one look is never enough"
    (supplier / "price.csv").write_bytes(PRICES[:400])
    assert poll(dock) == {"hero.jpg": "filed", "spec.pdf": "filed"}, [case.reason for case in dock.cases()]
    assert {*seen_by(files, "")} == {"Merchandising/hero.jpg", "Legal/spec.pdf"}, "price.csv is still growing"
    (supplier / "price.csv").write_bytes(PRICES)
    assert poll(dock) == {}
    assert poll(dock) == {"price.csv": "filed"}

    for _, _, group in ASSETS.values():
        mine = seen_by(files, f"{group.lower()}@example.com")
        assert [(place.partition("/")[0], told["permission"]) for place, told in mine.items()] == [(group, 2)]
    assert seen_by(files, "admin@example.com") == {}, "not even who administers the tenant"

    with load_repositories(dock.profiles)["team"].session() as session:
        kept = {"hero.jpg": ("Merchandising", IMAGE), "spec.pdf": ("Legal", SPEC), "price.csv": ("Operations", PRICES)}
        for name, (group, content) in kept.items():
            found = session.find(("Suppliers", "acme", group), name)
            assert found is not None and found.identity == dock.journeys(name)[-1]
            carried: Mapping[str, Any] = session.get(found.id).categories["Supplier Asset"]
            assert (carried["Supplier"], carried["Source"]) == ("acme", f"/out/{name}")
            assert carried["SHA-256"] == hashlib.sha256(content).hexdigest()
            received = datetime.fromisoformat(carried["Received"]).replace(tzinfo=UTC)
            assert began - timedelta(seconds=2) <= received <= datetime.now(UTC)
    assert [path.name for path in supplier.iterdir()] == [] and not dock.cases()


def test_a_folder_that_somebody_else_gets_at_takes_nothing_and_the_supplier_keeps_it(
    dock: Dock, files: File360Sandbox, supplier: Path
) -> None:
    """Somebody shows the suppliers' folders to everybody in legal: what is for merchandising alone does not come there."""
    store = files._store
    join(files)
    us = store.user_with("countersign@example.com")
    assert us is not None
    around = store.add_node("folder", "Suppliers", us["rootId"], us["id"])
    legal = next(group for group in store.groups.values() if group["name"] == "Legal")
    store.change(around, us["id"], collaborators={f"group:{legal['id']}": 1})
    (supplier / "hero.jpg").write_bytes(IMAGE)
    poll(dock)
    assert poll(dock) == {"hero.jpg": "quarantined"} and seen_by(files, "legal@example.com") == {}
    [case] = dock.cases()
    assert "shown-to-others" in str(case.reason) and "Legal" in str(case.reason)
    store.change(around, us["id"], collaborators={})
    assert [row.outcome for row in dock.retry(case.journey)] == ["filed"]
    assert {*seen_by(files, "merchandising@example.com")} == {"Merchandising/hero.jpg"} and not dock.cases()
