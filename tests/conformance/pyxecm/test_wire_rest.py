"""Calls of the contract that our client does not need, by bare HTTP and OpenText's client."""

from __future__ import annotations

from itertools import count

from tests.conformance.pyxecm.environment import Pyxecm
from tests.conformance.pyxecm.wire import Wire

NUMBERS = count()


def test_an_external_system_is_described(otcs: Pyxecm, wire: Wire) -> None:
    assert otcs.get_external_system_connection(connection_name="ERP")
    assert wire.http.get("/v2/externalsystems/ERP/config").json()
    assert not wire.http.get("/v2/externalsystems/Nowhere/config").is_success


def test_one_role_of_a_workspace(wire: Wire) -> None:
    kind = wire.http.get("/v2/businessworkspacetypes", params={"expand_templates": "true"}).json()["results"][0]
    template = kind["data"]["properties"]["templates"][0]["id"]
    body = {"template_id": template, "name": f"One role {next(NUMBERS)}", "parent_id": wire.folder(f"Rest {next(NUMBERS)}")}
    made = wire.body("POST", "/v2/businessworkspaces", **body).json()["results"]["id"]
    roles = wire.http.get(f"/v2/businessworkspaces/{made}/roles").json()["results"]
    for listed in roles:
        alone = wire.http.get(f"/v2/businessworkspaces/{made}/roles/{listed['data']['properties']['id']}").json()["results"]
        assert alone["data"]["properties"] == listed["data"]["properties"]
    assert roles and not wire.http.get(f"/v2/businessworkspaces/{made}/roles/4711").is_success


def test_items_of_a_hold_begin_with_the_first_page(wire: Wire) -> None:
    hold = wire.body("POST", "/v1/holds", name=f"Rest {next(NUMBERS)}", type="Legal").json()["holdID"]
    document = wire.document("held.txt", b"x", wire.folder(f"Rest {next(NUMBERS)}"))
    wire.body("POST", f"/v1/nodes/{document}/holds", hold_id=hold)
    first = wire.http.get(f"/v2/holditems/{hold}").json()
    assert [entry["id"] for entry in first["results"]] == [document]
    assert first["results"] == wire.http.get(f"/v2/holditems/{hold}/1").json()["results"]
    assert wire.http.get(f"/v2/holditems/{hold}/2").json()["results"] == []
