"""Copies, the recycle bin, reservations and versions, asked for by OpenText's own client."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.pyxecm.environment import Pyxecm
from tests.conformance.pyxecm.wire import Wire

NUMBERS = count()


def properties(answer: Any) -> dict[str, Any]:
    assert answer, "the client got nothing"
    return dict(answer["results"]["data"]["properties"])


@pytest.fixture
def folder(otcs: Pyxecm) -> int:
    return int(properties(otcs.create_item(parent_id=2000, item_type=0, item_name=f"Nodes by pyxecm {next(NUMBERS)}"))["id"])


@pytest.fixture
def document(otcs: Pyxecm, folder: int, a_file: Path) -> int:
    made = otcs.upload_file_to_parent(parent_id=folder, file_url=str(a_file), file_name="prices.csv", mime_type="text/csv")
    return int(properties(made)["id"])


@pytest.fixture
def released(otcs: Pyxecm) -> Iterator[list[int]]:
    """Reserved nodes to give free afterwards."""
    nodes: list[int] = []
    yield nodes
    for node in nodes:
        otcs.update_item(node_id=node, reserved_user_id=0)


def names(otcs: Pyxecm, folder: int) -> list[str]:
    return [item["data"]["properties"]["name"] for item in otcs.get_subnodes(parent_node_id=folder)["results"]]


def test_copies_a_folder_and_a_document(otcs: Pyxecm, folder: int, document: int, a_file: Path) -> None:
    copy = properties(otcs.copy_node(node_id=document, parent_id=folder, new_name="copy.csv"))
    assert copy["id"] != document
    assert otcs.get_document_content(node_id=copy["id"]) == a_file.read_bytes().decode("latin-1")
    assert otcs.copy_node(node_id=document, parent_id=folder, new_name="COPY.csv") is None
    assert "already exists" in " ".join(otcs.log)
    second = properties(otcs.create_item(parent_id=2000, item_type=0, item_name=f"Copies by pyxecm {next(NUMBERS)}"))["id"]
    tree = properties(otcs.copy_node(node_id=folder, parent_id=second, new_name="tree"))
    assert (tree["size"], names(otcs, tree["id"])) == (2, ["copy.csv", "prices.csv"])


def test_restores_what_was_deleted(otcs: Pyxecm, folder: int, document: int) -> None:
    assert otcs.delete_node(node_id=folder)
    assert otcs.get_node(node_id=document) is None
    assert otcs.restore_node(node_id=folder)["results"]["success"]["ids"] == [folder]
    assert names(otcs, folder) == ["prices.csv"]
    assert otcs.restore_node(node_id=folder) is None  # nothing of it is in the bin any more
    assert "Could not get a node" in " ".join(otcs.log)


def test_purges_for_good(otcs: Pyxecm, folder: int, document: int) -> None:
    assert otcs.delete_node(node_id=document, purge=True)
    assert otcs.restore_node(node_id=[document]) is None
    made = properties(otcs.create_item(parent_id=folder, item_type=0, item_name="inner"))["id"]
    assert otcs.purge_node(node_id=[made]) is None  # only what is in the bin
    assert otcs.delete_node(node_id=made)
    assert otcs.purge_node(node_id=[made])["results"]["success"]["ids"] == [made]


def test_a_name_kept_by_the_bin_is_free(otcs: Pyxecm, folder: int, document: int, a_file: Path) -> None:
    assert otcs.delete_node(node_id=document)
    assert otcs.check_node_name(parent_id=folder, node_name="prices.csv")["results"] == []
    again = otcs.upload_file_to_parent(parent_id=folder, file_url=str(a_file), file_name="PRICES.csv", mime_type="text/csv")
    assert properties(again)["id"] != document
    assert otcs.restore_node(node_id=document) is None
    assert "already exists" in " ".join(otcs.log)


def test_reserves(otcs: Pyxecm, folder: int, document: int, wire: Wire, a_file: Path, released: list[int]) -> None:
    admin = otcs.get_current_user()["data"]["id"]
    released.append(document)
    assert otcs.update_item(node_id=document, reserved_user_id=admin)
    assert properties(otcs.get_node(node_id=document))["reserved_user_id"] == admin
    mine = otcs.get_user_reserved_nodes(where_name="prices")["results"]
    assert document in [item["data"]["properties"]["id"] for item in mine]
    reviewer = wire.user(f"pyxecm reviewer {next(NUMBERS)}")
    assert otcs.update_item(node_id=document, reserved_user_id=reviewer)
    assert otcs.rename_node(node_id=document, name="mine.csv", description="") is None
    assert "reserved by another user" in " ".join(otcs.log)
    version = otcs.add_document_version(
        node_id=document, file_url=str(a_file), file_name="prices.csv", mime_type="text/csv", description="late"
    )
    assert version is None
    assert otcs.delete_node(node_id=document) is None


def test_what_was_opened_last(otcs: Pyxecm, document: int) -> None:
    otcs.get_document_content(node_id=document)
    newest = otcs.get_user_recently_accessed(limit=1)["results"]
    assert [item["data"]["properties"]["id"] for item in newest] == [document]


def test_actions(otcs: Pyxecm, document: int) -> None:
    allowed = otcs.get_node_actions(node_id=[document], filter_actions=["delete", "copy"])["results"][str(document)]
    assert set(allowed["data"]) == {"delete", "copy"}
    assert allowed["data"]["delete"]["method"] == "DELETE"


def test_version_numbers_survive_a_purge(otcs: Pyxecm, document: int, a_file: Path) -> None:
    added = {"node_id": document, "file_url": str(a_file), "file_name": "prices.csv", "mime_type": "text/csv"}
    assert otcs.add_document_version(**added, description="second")
    assert otcs.purge_document_versions(node_id=document, versions_to_keep=1)
    third = otcs.add_document_version(**added, description="third")["results"]["data"]["versions"]
    assert third["version_number"] == 3
    numbers = [item["data"]["versions"]["version_number"] for item in otcs.get_document_versions(node_id=document)["results"]]
    assert numbers == [2, 3]


def test_major_and_minor_versions(otcs: Pyxecm, folder: int, a_file: Path) -> None:
    assert otcs.update_item(node_id=folder, versions_control_advanced=True)
    upload = {"file_url": str(a_file), "file_name": "contract.csv", "mime_type": "text/csv"}
    document = properties(otcs.upload_file_to_parent(parent_id=folder, **upload))["id"]
    added = otcs.add_document_version(node_id=document, **upload)["results"]["data"]["versions"]
    assert (added["version_number"], added["version_number_name"]) == (2, "0.2")


def test_categories_are_handed_down(otcs: Pyxecm, folder: int, document: int) -> None:
    [found] = otcs.get_node_by_volume_and_path(volume_type=133, path=["Partner Exchange", "Partner Document"])["results"]
    category_id = found["data"]["properties"]["id"]
    assert otcs.assign_category(node_id=folder, category_id=category_id, inheritance=True, apply_to_sub_items=True)
    assert [int(id) for id in otcs.get_node_category_ids(node_id=document)] == [category_id]
    inner = properties(otcs.create_item(parent_id=folder, item_type=0, item_name="inner"))["id"]
    assert [int(id) for id in otcs.get_node_category_ids(node_id=inner)] == [category_id]
    assert otcs.set_category_inheritance(node_id=folder, category_id=category_id, enable=False)
    later = properties(otcs.create_item(parent_id=folder, item_type=0, item_name="later"))["id"]
    assert not otcs.get_node_category_ids(node_id=later)
