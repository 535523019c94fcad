"""What a first journey needs, asked for by OpenText's own client."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.pyxecm.environment import Pyxecm
from tests.conformance.pyxecm.wire import Wire

ENTERPRISE = 141
NUMBERS = count()


def properties(answer: Any) -> dict[str, Any]:
    """Of one node, however the client wraps it."""
    assert answer, "the client got nothing"
    found = answer["results"][0] if isinstance(answer["results"], list) else answer["results"]
    return dict(found["data"]["properties"])


@pytest.fixture
def folder(otcs: Pyxecm) -> int:
    """A new folder in the enterprise volume."""
    root = properties(otcs.get_volume(volume_type=ENTERPRISE))["id"]
    made = otcs.create_item(parent_id=root, item_type=0, item_name=f"Folder {next(NUMBERS)}", item_description="made by pyxecm")
    return int(properties(made)["id"])


@pytest.fixture
def document(otcs: Pyxecm, folder: int, a_file: Path) -> int:
    made = otcs.upload_file_to_parent(parent_id=folder, file_url=str(a_file), file_name="prices.csv", mime_type="text/csv")
    return int(properties(made)["id"])


@pytest.fixture
def category(otcs: Pyxecm) -> int:
    found = otcs.get_node_by_volume_and_path(volume_type=133, path=["Partner Exchange", "Partner Document"])
    return int(properties(found)["id"])


@pytest.fixture
def definitions(otcs: Pyxecm, document: int, category: int) -> Iterator[dict[str, Any]]:
    """Attribute name -> its key, with the category on ``document``."""
    assert otcs.assign_category(node_id=document, category_id=category, inheritance=None) is True
    found = otcs.get_node_category_definition(node_id=document, category_name="Partner Document")
    assert found[0] == str(category)
    yield found[1]


def test_it_is_the_pinned_client(otcs: Pyxecm) -> None:
    assert otcs.version in (Path(__file__).parent / "requirements.txt").read_text()


def test_signs_in_and_asks_who_it_is(otcs: Pyxecm) -> None:
    assert otcs.is_ready() is True
    assert otcs.get_current_user()["data"]["name"] == "Admin"
    assert float(otcs.get_server_version()) > 20
    assert otcs.get_server_info()["sessions"]["session_timeout"] == 1_800_000
    assert otcs.get_system_default_metadata_language() == "en"


def test_wrong_password_is_refused(extended_ecm: dict[str, Any]) -> None:
    with Pyxecm(extended_ecm["url"], "Admin", "wrong") as stranger:
        assert stranger.authenticate() is None
        assert "Invalid username/password specified." in " ".join(stranger.log)


def test_volumes(otcs: Pyxecm) -> None:
    kinds = {item["data"]["properties"]["type"] for item in otcs.get_volumes()["results"]}
    assert {133, 141, 142, 198, 550, 862} <= kinds
    assert properties(otcs.get_volume(volume_type=ENTERPRISE))["id"] == 2000
    assert otcs.get_volume(volume_type=4711) is None


def test_creates_a_folder_once(otcs: Pyxecm, folder: int) -> None:
    made = properties(otcs.get_node(node_id=folder))
    assert (made["type"], made["container"], made["description"]) == (0, True, "made by pyxecm")
    assert otcs.create_item(parent_id=made["parent_id"], item_type=0, item_name=made["name"].upper()) is None
    assert "already exists" in " ".join(otcs.log)


def test_uploads_and_finds_by_name(otcs: Pyxecm, folder: int, document: int) -> None:
    found = otcs.get_node_by_parent_and_name(parent_id=folder, name="prices.csv")
    assert [item["data"]["properties"]["id"] for item in found["results"]] == [document]
    assert otcs.get_node_by_parent_and_name(parent_id=folder, name="Prices.csv")["results"] == []  # exact on their side
    assert otcs.get_node_by_parent_and_name(parent_id=folder, name="other.csv")["results"] == []
    assert otcs.check_node_name(parent_id=folder, node_name="PRICES.csv")["results"] == [{"id": document, "name": "prices.csv"}]
    assert otcs.check_node_name(parent_id=folder, node_name="other.csv")["results"] == []


def test_a_taken_name_refuses_the_upload(otcs: Pyxecm, folder: int, document: int, a_file: Path) -> None:
    again = otcs.upload_file_to_parent(parent_id=folder, file_url=str(a_file), file_name="prices.csv", mime_type="text/csv")
    assert again is None
    assert [item["data"]["properties"]["id"] for item in otcs.get_subnodes(parent_node_id=folder)["results"]] == [document]


def test_downloads_what_was_uploaded(otcs: Pyxecm, document: int, a_file: Path, tmp_path: Path) -> None:
    assert otcs.get_document_content(node_id=document) == a_file.read_bytes().decode("latin-1")
    target = tmp_path / "down" / "prices.csv"
    assert otcs.download_document(node_id=document, file_path=str(target)) is True
    assert target.read_bytes() == a_file.read_bytes()


def test_versions(otcs: Pyxecm, document: int, tmp_path: Path) -> None:
    newer = tmp_path / "newer.csv"
    newer.write_bytes(b"sku,price\r\nA-1,10.90\r\n" * 100_000)
    added = otcs.add_document_version(
        node_id=document, file_url=str(newer), file_name="prices.csv", mime_type="text/csv", description="new prices"
    )
    assert added["results"]["data"]["versions"]["version_number"] == 2
    numbers = [item["data"]["versions"]["version_number"] for item in otcs.get_document_versions(node_id=document)["results"]]
    assert numbers == [1, 2]
    second = otcs.get_document_version(node_id=document, version_number=2)["results"]["data"]["versions"]
    assert (second["description"], second["file_size"], second["version_number_name"]) == (
        "new prices",
        newer.stat().st_size,
        "2",
    )
    assert otcs.get_latest_document_version(node_id=document)["data"]["version_number"] == 2
    target = tmp_path / "down" / "second.csv"
    assert otcs.download_document(node_id=document, file_path=str(target), version_number=2) is True
    assert target.read_bytes() == newer.read_bytes()
    assert "results" in otcs.purge_document_versions(node_id=document, versions_to_keep=1)
    assert otcs.get_document_version(node_id=document, version_number=1) is None


def test_iterates_over_several_pages(otcs: Pyxecm, folder: int) -> None:
    for number in range(7):
        otcs.create_item(parent_id=folder, item_type=0, item_name=f"part {number}")
    listed = otcs.get_subnodes_iterator(parent_node_id=folder, page_size=3)
    assert [item["data"]["properties"]["name"] for item in listed] == [f"part {number}" for number in range(7)]
    beyond = otcs.get_subnodes(parent_node_id=folder, limit=3, page=4)
    assert beyond["results"] == []
    assert beyond["collection"]["paging"]["total_count"] == 7


def test_an_empty_folder_iterates_over_nothing(otcs: Pyxecm, folder: int) -> None:
    assert otcs.get_subnodes_iterator(parent_node_id=folder) == []


def test_several_nodes_at_once(otcs: Pyxecm, folder: int, document: int) -> None:
    found = otcs.get_nodes(node_ids=[folder, document], fields=["properties{id,name}"])
    assert [item["data"]["properties"]["id"] for item in found["results"]] == [folder, document]
    assert set(found["results"][0]["data"]["properties"]) == {"id", "name"}


def test_ancestors(otcs: Pyxecm, folder: int, document: int) -> None:
    assert [item["id"] for item in otcs.get_node_ancestors(node_id=document)["ancestors"]] == [2000, folder, document]


def test_renames_and_moves(otcs: Pyxecm, folder: int, document: int) -> None:
    assert otcs.rename_node(node_id=document, name="better.csv", description="renamed")
    target = properties(otcs.create_item(parent_id=folder, item_type=0, item_name="inner"))["id"]
    assert otcs.update_item(node_id=document, parent_id=target)
    moved = properties(otcs.get_node(node_id=document))
    assert (moved["name"], moved["parent_id"], moved["description"]) == ("better.csv", target, "renamed")


def test_deletes(otcs: Pyxecm, folder: int, document: int) -> None:
    assert otcs.delete_node(node_id=folder)
    assert otcs.get_node(node_id=document) is None
    assert otcs.get_node(node_id=folder) is None


def test_a_category_comes_with_its_definition(definitions: dict[str, Any], category: int) -> None:
    assert definitions["Partner ID"] == {"id": f"{category}_2", "type": "String", "description": None}
    assert definitions["Document Date"]["type"] == "Date"
    assert definitions["Lines"]["type"] == "Assoc"
    sku = definitions["Lines:SKU"]
    assert sku["set_id"] == definitions["Lines"]["id"]
    assert "_x_" in sku["id"]
    assert {"Tags", "Reference", "SHA-256", "Source Path", "Received"} <= set(definitions)


@pytest.mark.parametrize(
    ("attribute", "value", "kept"),
    [
        pytest.param("Partner ID", "ACME", "ACME", id="text"),
        pytest.param("Document Date", "2026-03-01", "2026-03-01T00:00:00", id="date"),
        pytest.param("Tags", ["red", "green"], ["red", "green"], id="several values"),
    ],
)
def test_a_value_is_kept(
    otcs: Pyxecm, document: int, category: int, definitions: dict[str, Any], attribute: str, value: Any, kept: Any
) -> None:
    attribute_id = int(definitions[attribute]["id"].rpartition("_")[2])
    assert otcs.set_category_value(node_id=document, value=value, category_id=category, attribute_id=attribute_id)
    by_name = otcs.get_category_value_by_name(node_id=document, category_name="Partner Document", attribute_name=attribute)
    assert by_name == kept
    assert otcs.get_category_value(node_id=document, category_id=category, attribute_id=attribute_id) == kept


def test_rows_of_a_set(otcs: Pyxecm, document: int, category: int, definitions: dict[str, Any]) -> None:
    set_id = int(definitions["Lines"]["id"].rpartition("_")[2])
    column = int(definitions["Lines:SKU"]["id"].rpartition("_")[2])
    for row, sku in ((1, "A-1"), (2, "A-2")):
        where = {"category_id": category, "attribute_id": column, "set_id": set_id, "set_row": row}
        assert otcs.set_category_value(node_id=document, value=sku, **where)
        assert otcs.get_category_value(node_id=document, **where) == sku
    read = otcs.get_node_category_as_dictionary(node_id=document, category_id=category)
    assert [row["SKU"] for row in read["Lines"]] == ["A-1", "A-2"]


def test_a_foreign_key_is_refused(otcs: Pyxecm, document: int, category: int, definitions: dict[str, Any]) -> None:
    assert otcs.set_category_value(node_id=document, value="x", category_id=category, attribute_id=999) is None
    assert "does not belong" in " ".join(otcs.log)


def test_values_come_with_an_upload(otcs: Pyxecm, folder: int, category: int, a_file: Path) -> None:
    values = {str(category): {f"{category}_2": "ACME", f"{category}_4": ["new"]}}
    made = otcs.upload_file_to_parent(
        parent_id=folder, file_url=str(a_file), file_name="with.csv", mime_type="text/csv", category_data=values
    )
    read = otcs.get_node_categories(node_id=properties(made)["id"], metadata=False)["results"][0]["data"]["categories"]
    assert (read[f"{category}_2"], read[f"{category}_4"]) == ("ACME", ["new"])


def test_the_category_form(otcs: Pyxecm, document: int, category: int, definitions: dict[str, Any]) -> None:
    form = otcs.get_node_category_form(node_id=document, category_id=category)["forms"][0]
    assert form["schema"]["properties"][f"{category}_2"]["title"] == "Partner ID"
    assert form["data"][f"{category}_1"]["metadata_token"] != ""


def test_search(otcs: Pyxecm, folder: int, a_file: Path) -> None:
    otcs.upload_file_to_parent(parent_id=folder, file_url=str(a_file), file_name="Walnut order 17.csv", mime_type="text/csv")
    for number in range(4):
        otcs.create_item(parent_id=folder, item_type=0, item_name=f"Walnut folder {number}")
    exact = otcs.search(search_term=f'OTName: "Walnut order 17" and OTSubType: 144 and OTLocation: {folder}')
    assert [item["data"]["properties"]["name"] for item in exact["results"]] == ["Walnut order 17.csv"]
    assert exact["results"][0]["data"]["versions"]["version_number"] == 1
    many = otcs.search_iterator(search_term='[QLREGION "OTName"] *alnut*', page_size=2)
    assert len(many) == 5
    assert (
        otcs.search(search_term="walnut", look_for="allwords", location_id=folder)["collection"]["paging"]["total_count"] == 5
    )
    assert otcs.search(search_term='OTNonsense: "x"') is None


def test_permissions(otcs: Pyxecm, document: int) -> None:
    group = otcs.get_group(name="DefaultGroup")["results"][0]["data"]["properties"]["id"]
    rights = ["see", "see_contents"]
    assert otcs.assign_permission(node_id=document, assignee_type="custom", assignee=group, permissions=rights)
    assert otcs.delete_permission(node_id=document, assignee_type="group")
    assert otcs.delete_permission(node_id=document, assignee_type="public")
    assert otcs.get_permission(node_id=document, assignee=group)["results"]["data"]["permissions"]["permissions"] == rights
    assert otcs.delete_permission(node_id=document, assignee_type="custom", assignee=group)
    assert otcs.get_permission(node_id=document, assignee=group)["results"]["data"]["permissions"]["permissions"] == []
    assert otcs.check_user_node_permissions(node_ids=[document])["results"]["ids"] == [document]


def test_members(otcs: Pyxecm) -> None:
    group = otcs.add_group(name="Buyers")["results"]["data"]["properties"]["id"]
    user = otcs.add_user(
        name="pat", password="secret", first_name="Pat", last_name="Doe", email="pat@example.com", title="", base_group=group
    )["results"]["data"]["properties"]["id"]
    found = otcs.get_user(name="pat")["results"]
    assert [item["data"]["properties"]["business_email"] for item in found] == ["pat@example.com"]
    assert properties(otcs.get_user(user_id=user))["name"] == "pat"
    members = otcs.get_group_members(group=group, member_type=0)["results"]
    assert [item["data"]["properties"]["id"] for item in members] == [user]
    assert group in [item["data"]["properties"]["id"] for item in otcs.get_user_memberof(user_id=user)["results"]]


def test_audit(otcs: Pyxecm, document: int) -> None:
    otcs.get_document_content(node_id=document)
    otcs.rename_node(node_id=document, name="audited.csv", description="seen")
    trail = otcs.get_node_audit(node_id=document)["results"]["data"]
    names = [line["audit_name"] for line in trail["audit"]]
    assert (names[-1], set(names)) == ("Create", {"Create", "Fetch", "Rename", "Modified"})
    assert {line["event_type"] for line in trail["audit"]} <= {kind["id"] for kind in trail["audit_event_types"]}
    assert otcs.get_node_audit(node_id=document, filter_date_start="2999-01-01")["results"]["data"]["audit"] == []


def test_classifications(otcs: Pyxecm, document: int) -> None:
    contracts = properties(otcs.get_node_by_volume_and_path(volume_type=198, path=["File Plan", "Contracts"]))["id"]
    assert otcs.assign_classifications(node_id=document, classifications=[contracts])
    assert [item["id"] for item in otcs.get_node_classifications(node_id=document)["data"]] == [contracts]


def test_signs_in_again_when_the_ticket_has_expired(extended_ecm: dict[str, Any], wire: Wire) -> None:
    with Pyxecm(extended_ecm["url"], "Admin", "livelink") as client:
        assert client.authenticate()
        wire.faults(**{"clock-ahead": 3600})
        before = wire.stats()["sign-ins"]
        assert client.get_node(node_id=2000)
        assert wire.stats()["sign-ins"] == before + 1


def test_rides_out_a_burst_of_errors(otcs: Pyxecm, wire: Wire) -> None:
    wire.faults(html500=1, burst503=1)
    assert otcs.get_node(node_id=2000)
    assert len([line for line in otcs.log if "transient" in line]) == 2
