"""People of the Extended ECM stand-in: who may do what with a node, users and groups."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.sandbox.ecm_shapes import permission_line
from tests.sandbox.ecm_store import ADMIN_ID, Store, grants_of, mask_of, names_of
from tests.sandbox.ecm_wire import (
    UNKNOWN_ROUTE,
    Api,
    Call,
    Faults,
    Refusal,
    envelope,
    page_of,
    paging,
    whole,
)

SCHEMA = ""
MEMBER_TYPES = {0: "User", 1: "Group", 17: "Service User"}


def register(store: Store, faults: Faults, api: Api) -> None:
    Permissions(store, api).register()
    Members(store, api).register()


def member_properties(store: Store, member_id: int) -> dict[str, Any]:
    member = store.member(member_id)
    details = json.loads(member["details"])
    administrator = member_id == ADMIN_ID
    properties = {
        "id": member["id"],
        "name": member["name"],
        "name_formatted": " ".join(filter(None, (details.get("first_name"), details.get("last_name")))) or member["name"],
        "type": member["type"],
        "type_name": MEMBER_TYPES.get(member["type"], "Group"),
        "deleted": False,
    }
    if member["type"] == 1:
        return {**properties, "initials": member["name"][:1], "leader_id": details.get("leader_id")}
    return {
        "business_email": None,
        "business_phone": None,
        "first_name": None,
        "last_name": None,
        "middle_name": None,
        "office_location": None,
        "title": None,
        "time_zone": -1,
        "privilege_login": True,
        "privilege_public_access": True,
        "privilege_system_admin_rights": administrator,
        "privilege_user_admin_rights": administrator,
        **details,
        **properties,
        "group_id": member["group_id"],
    }


# --------------------------------------------------------------------------------------------- permissions


class Permissions:
    """Who may do what with a node."""

    def __init__(self, store: Store, api: Api) -> None:
        self.store = store
        self.api = api

    def register(self) -> None:
        api = self.api
        path = "/v2/nodes/{node_id:int}/permissions"
        api.get(path)(self.several)
        api.get(path + "/effective/{member_id:int}")(self.effective)
        api.post(path + "/custom")(self.add)
        api.post(path + "/custom/bulk")(self.add_many)
        api.put(path + "/custom/{member_id:int}")(self.change)
        api.delete(path + "/custom/{member_id:int}")(self.remove)
        api.put(path + "/{kind}")(self.set)
        api.delete(path + "/{kind}")(self.clear)
        api.post("/v2/nodes/permissions/check", reads=True)(self.check)
        api.post("/v2/ai/nodes/permissions/check", reads=True)(self.check)

    def several(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        lines = [permission_line(*grant) for grant in grants_of(node["acl"])]
        page, limit = page_of(call)
        collection = {"paging": paging(call, len(lines), page, limit)}
        shown = lines[(page - 1) * limit : page * limit]
        return envelope(call, [{"data": {"permissions": line}} for line in shown], collection=collection)

    def effective(self, call: Call, node_id: int, member_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        mask = self.store.rights(self.store.member(member_id)["id"], node)
        return envelope(
            call, {"data": {"permissions": {"permissions": names_of(mask), "right_id": member_id, "type": "effective"}}}
        )

    def add(self, call: Call, node_id: int) -> dict[str, Any]:
        return self._set(call, node_id, "custom", self.store.member(call.number("right_id"))["id"])

    def add_many(self, call: Call, node_id: int) -> dict[str, Any]:
        given = call.many("permissions_array")
        lines = json.loads(given[0]) if given and isinstance(given[0], str) else given
        change = {
            ("custom", self.store.member(whole("right_id", line["right_id"]))["id"]): mask_of(line["permissions"])
            for line in lines
        }
        return self._apply(call, node_id, change)

    def change(self, call: Call, node_id: int, member_id: int) -> dict[str, Any]:
        self._held(call, node_id, member_id)
        return self._set(call, node_id, "custom", member_id)

    def remove(self, call: Call, node_id: int, member_id: int) -> dict[str, Any]:
        self._held(call, node_id, member_id)
        return self._apply(call, node_id, {("custom", member_id): None})

    def set(self, call: Call, node_id: int, kind: str) -> dict[str, Any]:
        self._known(kind)
        right_id = call.one("right_id")
        return self._set(call, node_id, kind, self.store.member(whole("right_id", right_id))["id"] if right_id else None)

    def clear(self, call: Call, node_id: int, kind: str) -> dict[str, Any]:
        self._known(kind)
        return self._apply(call, node_id, {(kind, None): None})

    def check(self, call: Call) -> dict[str, Any]:
        """Of these nodes, the ones that the user sees."""
        user = call.number("right_id", call.user)
        seen = []
        for node_id in call.many("ids"):
            try:
                seen.append(self.store.node(user, whole("ids", node_id))["id"])
            except Refusal:
                continue
        return envelope(call, {"ids": seen})

    def _known(self, kind: str) -> None:
        if kind not in ("owner", "group", "public"):
            raise Refusal(400, UNKNOWN_ROUTE)

    def _held(self, call: Call, node_id: int, member_id: int) -> None:
        grants = grants_of(self.store.node(call.user, node_id)["acl"])
        if not any(grant.kind == "custom" and grant.right_id == member_id for grant in grants):
            raise Refusal(400, f"The item has no permissions for {member_id}.")

    def _set(self, call: Call, node_id: int, kind: str, right_id: int | None) -> dict[str, Any]:
        if "permissions" not in call.values:
            raise Refusal(400, "Missing required parameter: permissions")
        return self._apply(call, node_id, {(kind, right_id): mask_of(map(str, call.many("permissions")))})

    def _apply(self, call: Call, node_id: int, change: Mapping[tuple[str, int | None], int | None]) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        with self.store.transaction():
            self.store.set_grants(call.user, node, change, call.number("apply_to", 0))
            (kind, right_id), _ = next(iter(change.items()), (("", None), 0))
            if kind in ("owner", "group") and right_id:
                self.store.change(call.user, node["id"], **{"owner_user_id" if kind == "owner" else "owner_group_id": right_id})
        grants = grants_of(self.store.row(node["id"])["acl"])
        return envelope(call, {"data": {"permissions": [permission_line(*grant) for grant in grants]}})


# --------------------------------------------------------------------------------------------- members


class Members:
    """Users and groups."""

    LARGEST_PAGE = 20

    def __init__(self, store: Store, api: Api) -> None:
        self.store = store
        self.api = api

    def register(self) -> None:
        api = self.api
        api.get("/v2/members")(self.several)
        api.post("/v2/members")(self.add)
        api.get("/v2/members/{member_id:int}")(self.get)
        api.put("/v2/members/{member_id:int}")(self.change)
        api.delete("/v2/members/{member_id:int}")(self.remove)
        api.get("/v2/members/{member_id:int}/members")(self.group_members)
        api.post("/v2/members/{member_id:int}/members")(self.join)
        api.delete("/v2/members/{member_id:int}/members/{other_id:int}")(self.leave)
        api.get("/v2/members/{member_id:int}/memberof")(self.member_of)

    def _need_administrator(self, call: Call) -> None:
        if call.user != ADMIN_ID:
            raise Refusal(500, "Insufficient permissions to perform this action.")

    def _page(self, call: Call, rows: list[Any]) -> dict[str, Any]:
        """A page of members. Nobody gets more than 20 at once."""
        kind = call.asked("where_type")
        wanted = {name: call.asked(f"where_{name}") for name in ("first_name", "last_name", "business_email")}
        shown = []
        for row in rows:
            properties = member_properties(self.store, row["id"])
            if kind is not None and row["type"] != whole("where_type", kind):
                continue
            if call.asked("where_name") and row["name"].lower() != str(call.asked("where_name")).lower():
                continue
            if any(value is not None and properties.get(name) != value for name, value in wanted.items()):
                continue
            query = (call.asked("query") or "").lower()
            names = (properties.get(name) or "" for name in ("name", "first_name", "last_name"))
            if query and not any(str(name).lower().startswith(query) for name in names):
                continue
            shown.append(properties)
        sort = call.asked("sort") or "asc_id"
        direction, _, column = sort.partition("_") if sort.startswith(("asc_", "desc_")) else ("asc", "_", sort)
        shown.sort(
            key=lambda properties: str(properties.get(column) or "").lower() if column != "id" else 0,
            reverse=direction == "desc",
        )
        page, limit = page_of(call, self.LARGEST_PAGE, largest=self.LARGEST_PAGE)
        collection = {"paging": paging(call, len(shown), page, limit), "sorting": {"sort": [{"key": "sort", "value": sort}]}}
        results = [{"data": {"properties": properties}} for properties in shown[(page - 1) * limit : page * limit]]
        return envelope(call, results, collection=collection)

    def several(self, call: Call) -> dict[str, Any]:
        return self._page(call, self.store.members())

    def group_members(self, call: Call, member_id: int) -> dict[str, Any]:
        return self._page(call, self.store.group_members(self.store.member(member_id)["id"]))

    def member_of(self, call: Call, member_id: int) -> dict[str, Any]:
        groups = self.store.groups_of(self.store.member(member_id)["id"])
        return self._page(call, [row for row in self.store.members(1) if row["id"] in groups])

    def get(self, call: Call, member_id: int) -> dict[str, Any]:
        return envelope(call, {"data": {"properties": member_properties(self.store, member_id)}})

    def add(self, call: Call) -> dict[str, Any]:
        self._need_administrator(call)
        kind, name = call.number("type"), call.text("name")
        if kind not in MEMBER_TYPES:
            raise Refusal(400, f"Invalid value for parameter type: {kind}")
        details = {key: call.one(key) for key in call.values if key not in ("type", "name")}
        with self.store.transaction():
            member_id = self.store.add_member(kind, name, details)
        return self.get(call, member_id)

    def change(self, call: Call, member_id: int) -> dict[str, Any]:
        own = {"password", "first_name", "last_name", "business_email", "title"}
        if member_id != call.user or not set(call.values) <= own:
            self._need_administrator(call)  # nobody gives privileges to himself
        details = {key: call.one(key) for key in call.values if key != "type"}
        with self.store.transaction():
            self.store.change_member(self.store.member(member_id), details)
        return self.get(call, member_id)

    def remove(self, call: Call, member_id: int) -> dict[str, Any]:
        self._need_administrator(call)
        with self.store.transaction():
            self.store.remove_member(self.store.member(member_id)["id"])
        return envelope(call, {})

    def join(self, call: Call, member_id: int) -> dict[str, Any]:
        self._need_administrator(call)
        with self.store.transaction():
            for other in call.many("member_id"):
                self.store.join(self.store.member(member_id)["id"], self.store.member(whole("member_id", other))["id"])
        return self.get(call, member_id)

    def leave(self, call: Call, member_id: int, other_id: int) -> dict[str, Any]:
        self._need_administrator(call)
        with self.store.transaction():
            self.store.leave(member_id, other_id)
        return envelope(call, {})
