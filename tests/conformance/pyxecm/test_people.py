"""Users, groups, permissions, search and the audit trail, asked for by OpenText's own client."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from tests.conformance.pyxecm.environment import Pyxecm
from tests.conformance.pyxecm.wire import Wire

NUMBERS = count()
DEFAULT_GROUP = 1001


def ids(answer: Any) -> list[int]:
    found = answer if isinstance(answer, list) else answer["results"]
    return [entry["data"]["properties"]["id"] for entry in found]


def made(answer: Any) -> int:
    return int(answer["results"]["data"]["properties"]["id"])


@pytest.fixture
def user(otcs: Pyxecm) -> int:
    name = f"kim{next(NUMBERS)}"
    person = {"first_name": "Kim", "last_name": f"Lee {name}", "email": f"{name}@example.com", "title": ""}
    return made(otcs.add_user(name=name, password="secret", base_group=DEFAULT_GROUP, **person))


def test_users_are_listed_found_and_changed(otcs: Pyxecm, user: int) -> None:
    name = otcs.get_member(member_id=user)["results"]["data"]["properties"]["name"]
    assert ids(otcs.get_users(where_name=name)) == [user]
    assert ids(otcs.search_user(value=name)) == [user]
    assert ids(otcs.get_users(where_last_name=f"Lee {name}")) == [user]
    for number in range(21):
        otcs.add_user(
            name=f"{name}x{number}",
            password="secret",
            first_name="",
            last_name="",
            email="",
            title="",
            base_group=DEFAULT_GROUP,
        )
    assert len(otcs.get_users(query_string=name)["results"]) == 20
    assert len(otcs.get_users_iterator(query_string=name)) == 22
    assert otcs.update_user(user_id=user, field="first_name", value="Sam")
    assert ids(otcs.get_users(where_first_name="Sam", where_name=name)) == [user]


def test_groups_are_listed_and_hold_members(otcs: Pyxecm, user: int) -> None:
    outer, inner = (made(otcs.add_group(name=f"{name} {user}")) for name in ("Outer", "Inner"))
    assert otcs.add_group_member(member_id=inner, group_id=outer)
    assert otcs.add_group_member(member_id=[user], group_id=inner)
    assert ids(otcs.get_groups(where_name=f"Inner {user}")) == [inner]
    assert {outer, inner} <= set(ids(otcs.get_groups_iterator()))
    assert ids(otcs.get_group_members_iterator(group=outer, member_type=1)) == [inner]
    assert ids(otcs.get_group_members(group=inner, member_type=0)) == [user]
    assert ids(otcs.get_group_memberof(group_id=inner)) == [outer]


@pytest.mark.parametrize(
    ("apply_to", "reached"), [(0, (True, False)), (1, (False, True)), (2, (True, True)), (3, (True, True))]
)
def test_permissions_reach_as_far_as_asked(
    otcs: Pyxecm, wire: Wire, user: int, apply_to: int, reached: tuple[bool, ...]
) -> None:
    folder = wire.folder(f"reach {user}")
    document = wire.document("inner.txt", b"x", folder)
    for whose in ("group", "public"):
        assert otcs.delete_permission(node_id=folder, assignee_type=whose, apply_to=2)
    rights = ["see", "see_contents"]
    granted = {"assignee_type": "custom", "assignee": user, "permissions": rights, "apply_to": apply_to}
    assert otcs.assign_permission(node_id=folder, **granted)
    held = [otcs.get_permission(node_id=node, assignee=user)["results"]["data"]["permissions"] for node in (folder, document)]
    assert [line["permissions"] == rights for line in held] == list(reached)
    seen = otcs.check_user_node_permissions(node_ids=[folder, document], user_id=user)["results"]["ids"]
    assert seen == [node for node, hit in zip((folder, document), reached, strict=True) if hit]
    assert (otcs.assign_permission(node_id=document, **granted) is None) == bool(apply_to)
    assert otcs.assign_permission(node_id=folder, assignee_type="public", permissions=["see"])
    assert otcs.assign_permission(node_id=folder, assignee_type="owner", assignee=user, permissions=rights)


def test_search_pages_past_the_end_and_refuses_nonsense(otcs: Pyxecm, wire: Wire) -> None:
    folder = wire.folder(f"Loquats {next(NUMBERS)}")
    for number in range(3):
        wire.document(f"Loquat {number}.txt", b"x", folder)
    query = {"search_term": '[QLREGION "OTName"] *oquat* and OTSubType: 144', "location_id": folder}
    assert len(otcs.search(**query, limit=2)["results"]) == 2
    beyond = otcs.search(**query, limit=2, page=3)
    assert (beyond["results"], beyond["collection"]["paging"]["total_count"]) == ([], 3)
    assert len(otcs.search_iterator(**query, page_size=2)) == 3
    assert otcs.search(search_term='OTName: ("x"') is None
    assert "Error Evaluating Query" in " ".join(otcs.log)


def test_the_audit_trail_is_filtered_and_told_page_by_page(otcs: Pyxecm, wire: Wire) -> None:
    document = wire.document("watched.txt", b"x", wire.folder(f"watched {next(NUMBERS)}"))
    for _ in range(30):
        assert wire.http.get(f"/v1/nodes/{document}/content").is_success
    # Its own iterator expects another shape than its own sample of the answer, so it is asked for the pages.
    pages = [otcs.get_node_audit(node_id=document, limit=10, page=page)["results"]["data"]["audit"] for page in (1, 2, 3, 4, 5)]
    assert [len(page) for page in pages] == [10, 10, 10, 1, 0]
    kinds = otcs.get_node_audit(node_id=document)["results"]["data"]["audit_event_types"]
    create = next(kind["id"] for kind in kinds if kind["name"] == "Create")
    found = otcs.get_node_audit(node_id=document, filter_event_type=create)["results"]["data"]["audit"]
    assert [line["audit_name"] for line in found] == ["Create"]
    for wanted in ({"filter_user_id": 4711}, {"filter_date_end": "2001-01-01"}, {"filter_date_start": "2999-01-01"}):
        assert otcs.get_node_audit(node_id=document, **wanted)["results"]["data"]["audit"] == []
