"""Business workspaces, asked for by OpenText's own client."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from tests.conformance.pyxecm.environment import Pyxecm
from tests.conformance.pyxecm.test_pyxecm import properties

_number = count(1)


def listed(answer: Any) -> list[dict[str, Any]]:
    assert answer is not None, "the client got nothing"
    return [entry["data"]["properties"] for entry in answer["results"]]


@pytest.fixture(scope="module")
def template(otcs: Pyxecm) -> tuple[int, int]:
    """Type and template."""
    kind, templates = otcs.get_workspace_templates(type_name="Supplier")
    assert [one["name"] for one in templates] == ["Supplier"]
    return kind, templates[0]["id"]


def make(otcs: Pyxecm, template: tuple[int, int], **more: Any) -> int:
    made = otcs.create_workspace(
        workspace_template_id=template[1],
        workspace_name=f"By pyxecm {next(_number)}",
        workspace_description="made by pyxecm",
        workspace_type=template[0],
        **more,
    )
    return int(made["results"]["id"])


@pytest.fixture
def workspace(otcs: Pyxecm, template: tuple[int, int]) -> int:
    return make(otcs, template)


def test_types(otcs: Pyxecm, template: tuple[int, int]) -> None:
    types = otcs.get_workspace_types(expand_templates=True, expand_workspace_info=True)
    assert [one["wksp_type_name"] for one in listed(types)] == ["Supplier", "Compliance"]
    told = otcs.get_workspace_type(type_id=template[0])
    assert told["workspace_type"]["wksp_type_name"] == "Supplier"
    form = otcs.get_workspace_create_form(template_id=template[1])
    assert form["forms"][0]["data"]["type"] == 848


def test_one_is_made_from_a_template_with_a_reference_and_found_by_it(otcs: Pyxecm, template: tuple[int, int]) -> None:
    number = f"P{next(_number)}"
    object = {"external_system_id": "ERP", "bo_type": "SUPPLIER", "bo_id": number}
    made = make(otcs, template, **object)
    told = properties(otcs.get_workspace(node_id=made))
    assert (told["type"], told["description"], told["container"]) == (848, "made by pyxecm", True)
    assert {one["name"] for one in listed(otcs.get_subnodes(parent_node_id=made))} == {"Contracts", "Reports"}
    (reference,) = otcs.get_workspace_references(node_id=made)
    assert (reference["external_system_id"], reference["business_object_id"]) == ("ERP", number)
    by_object = {"external_system_name": "ERP", "business_object_type": "SUPPLIER"}
    assert properties(otcs.get_workspace_by_business_object(business_object_id=number, **by_object))["id"] == made
    assert otcs.get_workspace_by_business_object(business_object_id="none", **by_object) is None


def test_lists_are_narrowed_and_paged(otcs: Pyxecm, template: tuple[int, int]) -> None:
    made = [make(otcs, template) for _ in range(3)]
    found = otcs.get_workspace_instances(type_name="Supplier", page=1, limit=2)
    assert (found["paging"]["limit"], len(found["results"])) == (2, 2)
    assert found["paging"]["total_count"] >= 3
    beyond = otcs.get_workspace_instances(type_name="Supplier", page=1000, limit=2)
    assert beyond["results"] == []
    name = properties(otcs.get_workspace(node_id=made[0]))["name"]
    by_name = otcs.get_workspace_by_type_and_name(type_name="Supplier", name=name)
    assert [one["id"] for one in listed(by_name)] == [made[0]]


def test_references_are_set_and_removed(otcs: Pyxecm, workspace: int) -> None:
    object = {"external_system_id": "ERP", "bo_type": "CASE", "bo_id": f"C{next(_number)}"}
    assert otcs.set_workspace_reference(workspace_id=workspace, **object)
    assert len(otcs.get_workspace_references(node_id=workspace)) == 1
    assert otcs.delete_workspace_reference(workspace_id=workspace, **object)
    assert not otcs.get_workspace_references(node_id=workspace)
    assert otcs.delete_workspace_reference(workspace_id=workspace, **object) is None


def test_roles_and_members(otcs: Pyxecm, workspace: int) -> None:
    roles = {one["name"]: one for one in listed(otcs.get_workspace_roles(workspace_id=workspace))}
    lead = roles["Team Lead"]
    assert lead["leader"] is True
    assert otcs.add_workspace_member(workspace_id=workspace, role_id=lead["id"], member_id=1000)
    assert [one["name"] for one in listed(otcs.get_workspace_members(workspace_id=workspace, role_id=lead["id"]))] == ["Admin"]
    assert otcs.remove_workspace_member(workspace_id=workspace, role_id=lead["id"], member_id=1000)
    assert otcs.get_workspace_members(workspace_id=workspace, role_id=lead["id"])["results"] == []
    reader = roles["Reader"]["id"]
    changed = otcs.assign_workspace_permissions(workspace_id=workspace, role_id=reader, permissions=["see"], apply_to=2)
    assert changed["results"]["data"]["properties"]["perms"] == ["see"]


def test_related_workspaces(otcs: Pyxecm, template: tuple[int, int], workspace: int) -> None:
    child = make(otcs, template)
    pair = {"workspace_id": workspace, "related_workspace_id": child}
    assert otcs.create_workspace_relationship(**pair, relationship_type="child")
    below = listed(otcs.get_workspace_relationships(workspace_id=workspace, relationship_type="child"))
    above = listed(otcs.get_workspace_relationships(workspace_id=child, relationship_type="parent"))
    assert ([one["id"] for one in below], [one["id"] for one in above]) == ([child], [workspace])
    assert otcs.delete_workspace_relationship(**pair, relationship_type="child")
    assert otcs.get_workspace_relationships(workspace_id=workspace, relationship_type="child")["results"] == []


def test_external_systems(otcs: Pyxecm) -> None:
    added = otcs.add_external_system_connection(
        connection_name=f"CRM {next(_number)}",
        connection_type="HTTP",
        as_url="https://crm.example.com",
        base_url="https://crm.example.com",
        username="reader",
        password="none",
    )
    assert added["results"]["OK"] is True
    assert otcs.get_external_system_connection(connection_name="ERP") is not None
