"""Business workspaces of the Extended ECM stand-in: types, templates, business references, roles, related items, external systems.

A workspace's role is a group of its own, so that its members get what the role may do, here and in everything that is made below.
Of two things the documentation says nothing, and what stands here is our decision: a business object is of at most one workspace
(the second is refused), and looking for one that is of none answers 404.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tests.sandbox.ecm_people import member_properties
from tests.sandbox.ecm_shapes import described, node_properties
from tests.sandbox.ecm_store import (
    ADMIN_ID,
    ALL_RIGHTS,
    DOCUMENT,
    FOLDER,
    RIGHTS,
    Grant,
    Store,
    grants_of,
    mask_of,
    missing,
    names_of,
)
from tests.sandbox.ecm_wire import Api, Call, Faults, Refusal, Upload, envelope, page_of, paging, whole

WORKSPACE = 848
TEMPLATES, ENTERPRISE = 20541, 141
ROLE = 848
"""Of a member: a role of a workspace is neither a user nor a plain group."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS workspace_type (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, location_id INTEGER NOT NULL, icon TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS workspace (
    node_id INTEGER PRIMARY KEY, type_id INTEGER NOT NULL, template_id INTEGER, is_template INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS workspace_reference (
    node_id INTEGER NOT NULL, system TEXT NOT NULL, bo_type TEXT NOT NULL, bo_id TEXT NOT NULL,
    PRIMARY KEY (node_id, system, bo_type, bo_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS workspace_object ON workspace_reference(system, bo_type, bo_id);
CREATE TABLE IF NOT EXISTS workspace_role (
    id INTEGER PRIMARY KEY, node_id INTEGER NOT NULL, name TEXT NOT NULL, leader INTEGER NOT NULL, mask INTEGER NOT NULL,
    inherited_from INTEGER);
CREATE TABLE IF NOT EXISTS workspace_relation (
    parent_id INTEGER NOT NULL, child_id INTEGER NOT NULL, PRIMARY KEY (parent_id, child_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS external_system (name TEXT PRIMARY KEY, node_id INTEGER NOT NULL, details TEXT NOT NULL);
"""

SEED: Mapping[str, Any] = {
    "workspace_types": [
        {
            "name": "Supplier",
            "location": "Suppliers",
            "templates": [
                {
                    "name": "Supplier",
                    "folders": ["Contracts", "Contracts/Signed", "Reports"],
                    "roles": [
                        {"name": "Team Lead", "leader": True, "permissions": list(RIGHTS)},
                        {"name": "Reader", "permissions": ["see", "see_contents"]},
                    ],
                }
            ],
        },
        {
            "name": "Compliance",
            "location": "Compliance",
            "templates": [
                {
                    "name": "Audit",
                    "folders": ["Evidence"],
                    "roles": [
                        {"name": "Officer", "leader": True, "permissions": list(RIGHTS)},
                        {"name": "Auditor", "permissions": ["see", "see_contents"]},
                    ],
                }
            ],
        },
    ],
    "external_systems": [{"name": "ERP", "conn_type": "HTTP", "bo_types": ["SUPPLIER", "CONTRACT", "CASE", "AUDIT"]}],
}
"""What no REST call creates, as a configuration file may replace it: whole entries."""


def register(store: Store, faults: Faults, api: Api) -> None:
    seed = {**SEED, **store.seed}
    with store.transaction():
        for system in seed["external_systems"]:
            _ensure_system(store, system)
        for kind in seed["workspace_types"]:
            _ensure_type(store, kind)
    Workspaces(store, api).register()


def _ensure_system(store: Store, system: Mapping[str, Any]) -> int:
    held = store.db.execute("SELECT node_id FROM external_system WHERE name = ?", (system["name"],)).fetchone()
    if held:
        return int(held[0])
    details = {"conn_type": "HTTP", "asurl": "", "baseurl": "", "username": "", **system}
    details.pop("password", None)
    number = 1 + int(store.db.execute("SELECT coalesce(max(node_id), 500) FROM external_system").fetchone()[0])
    store.db.execute("INSERT INTO external_system VALUES (?, ?, ?)", (system["name"], number, json.dumps(details)))
    return number


def _ensure_type(store: Store, described_type: Mapping[str, Any]) -> None:
    """A type with its templates; what was changed since stays."""
    name = described_type["name"]
    held = store.db.execute("SELECT id FROM workspace_type WHERE name = ?", (name,)).fetchone()
    if held:
        return
    location = store._ensure(ENTERPRISE, described_type.get("location", name), FOLDER, FOLDER)
    number = 1 + int(store.db.execute("SELECT coalesce(max(id), 10) FROM workspace_type").fetchone()[0])
    store.db.execute("INSERT INTO workspace_type (id, name, location_id) VALUES (?, ?, ?)", (number, name, location))
    for template in described_type["templates"]:
        top = store.volume(TEMPLATES)
        if top is None:
            raise ValueError(f"no volume {TEMPLATES}")
        node_id = _new_workspace(store, ADMIN_ID, top["id"], template["name"], number, None, is_template=True)
        for path in template.get("folders", []):
            parent, _, leaf = path.rpartition("/")
            above = node_id
            for part in filter(None, parent.split("/")):
                above = store.child(above, part)["id"]  # type: ignore[index]
            store.create(ADMIN_ID, above, FOLDER, leaf)
        for role in template.get("roles", []):
            _new_role(store, node_id, role["name"], bool(role.get("leader")), mask_of(role.get("permissions", RIGHTS)), None)


def _new_workspace(
    store: Store,
    user: int,
    parent_id: int,
    name: str,
    type_id: int,
    template_id: int | None,
    *,
    is_template: bool = False,
    **more: Any,
) -> int:
    node_id = store.create(user, parent_id, FOLDER, name, **more)
    store.db.execute("UPDATE node SET type = ? WHERE id = ?", (WORKSPACE, node_id))
    store.db.execute("INSERT INTO workspace VALUES (?, ?, ?, ?)", (node_id, type_id, template_id, is_template))
    return node_id


def _new_role(store: Store, node_id: int, name: str, leader: bool, mask: int, inherited_from: int | None) -> int:
    role_id = store.add_member(ROLE, f"{name} ({node_id})", {})
    store.db.execute(
        "INSERT INTO workspace_role VALUES (?, ?, ?, ?, ?, ?)", (role_id, node_id, name, leader, mask, inherited_from)
    )
    _grant(store, node_id, role_id, mask)
    return role_id


def _grant(store: Store, node_id: int, role_id: int, mask: int) -> None:
    """What a role may do in its workspace, and in what is there already."""
    for row in (store.row(node_id), *store.below(node_id)):
        others = [grant for grant in grants_of(row["acl"]) if (grant.kind, grant.right_id) != ("custom", role_id)]
        acl = json.dumps([*others, Grant("custom", role_id, mask)])
        store.db.execute("UPDATE node SET acl = ? WHERE id = ?", (acl, row["id"]))


class Workspaces:
    """Everything below ``businessworkspaces``, ``businessworkspacetypes`` and ``externalsystems``."""

    def __init__(self, store: Store, api: Api) -> None:
        self.store = store
        self.api = api

    def register(self) -> None:
        api, one = self.api, "/v2/businessworkspaces/{node_id:int}"
        api.get("/v2/businessworkspacetypes")(self.types)
        api.get("/v1/businessworkspacetypes/{type_id:int}")(self.type)
        api.get("/v2/forms/businessworkspaces/create")(self.form)
        api.get("/v2/businessworkspaces")(self.several)
        api.post("/v2/businessworkspaces")(self.create)
        api.get(one)(self.get)
        api.put(f"{one}/workspacereferences")(self.bind)
        api.delete(f"{one}/workspacereferences")(self.unbind)
        api.get(f"{one}/roles")(self.roles)
        api.get(f"{one}/roles/{{role_id:int}}")(self.role)
        api.put(f"{one}/roles/{{role_id:int}}")(self.change_role)
        api.get(f"{one}/roles/{{role_id:int}}/members")(self.members)
        api.post(f"{one}/roles/{{role_id:int}}/members")(self.join)
        api.delete(f"{one}/roles/{{role_id:int}}/members/{{member_id:int}}")(self.leave)
        api.get(f"{one}/relateditems")(self.related)
        api.post(f"{one}/relateditems")(self.relate)
        api.delete(f"{one}/relateditems/{{other_id:int}}")(self.unrelate)
        api.get("/v2/externalsystems")(self.systems)
        api.post("/v2/externalsystems")(self.add_system)
        api.get("/v2/externalsystems/{name}/config")(self.system)
        api.get("/v2/externalsystems/{system}/botypes/{bo_type}/boids/{bo_id}")(self.by_object)

    # ----------------------------------------------------------------------------------------- types

    def _rows(self, query: str, *values: Any) -> list[Any]:
        return self.store.db.execute(query, values).fetchall()

    def _type(self, row: Any) -> dict[str, Any]:
        templates = self._rows(
            "SELECT node.* FROM node JOIN workspace ON node_id = node.id WHERE type_id = ? AND is_template AND deleted = 0 ORDER BY id",
            row["id"],
        )
        return {
            "can_create": True,
            "rm_enabled": False,
            "templates": [{"id": node["id"], "name": node["name"], "subtype": WORKSPACE} for node in templates],
            "wksp_type_icon": row["icon"],
            "wksp_type_id": row["id"],
            "wksp_type_name": row["name"],
        }

    def types(self, call: Call) -> dict[str, Any]:
        if (call.asked("ext_system_id") is None) != (call.asked("bo_type") is None):
            raise Refusal(400, "ext_system_id and bo_type must be given together.")
        found = []
        for row in self._rows("SELECT * FROM workspace_type ORDER BY id"):
            told = self._type(row)
            if not call.flag("expand_templates"):
                del told["templates"]
            found.append({"data": {"properties": told}})
        return envelope(call, found)

    def type(self, call: Call, type_id: int) -> dict[str, Any]:
        rows = self._rows("SELECT * FROM workspace_type WHERE id = ?", type_id)
        if not rows:
            raise Refusal(400, f"Could not get a workspace type for {type_id}")
        return {"workspace_type": {"wksp_type_id": type_id, "wksp_type_name": rows[0]["name"]}, "id": type_id}

    def form(self, call: Call) -> dict[str, Any]:
        template = self._workspace(call, call.asked_number("template_id", 0))
        schema = {
            "properties": {"name": {"type": "string", "title": "Name", "maxLength": 248, "required": True}},
            "type": "object",
        }
        form = {"data": {"name": "", "parent_id": call.asked_number("parent_id", 0), "type": WORKSPACE}, "schema": schema}
        return {"forms": [{**form, "options": {"form": {"attributes": {"template_id": template["id"]}}}}]}

    # ----------------------------------------------------------------------------------------- one workspace

    def _workspace(self, call: Call, node_id: int) -> Any:
        node = self.store.node(call.user, node_id)
        if node["type"] != WORKSPACE:
            raise missing(node_id)
        return node

    def _about(self, node_id: int) -> Any:
        return self._rows("SELECT * FROM workspace WHERE node_id = ?", node_id)[0]

    def _properties(self, node: Any) -> dict[str, Any]:
        about = self._about(node["id"])
        more = {"wnf_wksp_type_id": about["type_id"], "wnf_wksp_template_id": about["template_id"]}
        told = node_properties(self.store, node) | more
        # Unlike elsewhere in v2, dates come without their zone here.
        return told | {name: str(told[name]).rstrip("Z") for name in ("create_date", "modify_date")}

    def _references(self, node_id: int) -> list[dict[str, Any]]:
        return [
            {
                "business_object_id": row["bo_id"],
                "business_object_type": row["bo_type"],
                "external_system_id": row["system"],
                "has_default_display": True,
                "has_default_search": True,
                "workspace_type_id": self._about(node_id)["type_id"],
            }
            for row in self._rows("SELECT * FROM workspace_reference WHERE node_id = ?", node_id)
        ]

    def get(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self._workspace(call, node_id)
        wanted = set(call.fields()) or {"properties", "business_properties"}
        data: dict[str, Any] = described(self.store, call, node)["data"] if wanted - {"workspace_references"} else {}
        if "properties" in wanted:
            data["properties"] = self._properties(node)
        if "business_properties" in wanted:
            about = self._about(node_id)
            data["business_properties"] = {"workspace_type_id": about["type_id"], "workspace_template_id": about["template_id"]}
        if "workspace_references" in wanted:
            data["workspace_references"] = self._references(node_id)
        return envelope(call, {"data": data})

    def create(self, call: Call) -> dict[str, Any]:
        store, template = self.store, self._workspace(call, call.number("template_id"))
        about = self._about(template["id"])
        if not about["is_template"] or call.number("wksp_type_id", about["type_id"]) != about["type_id"]:
            raise Refusal(400, "The template does not belong to the workspace type.")
        kind = self._rows("SELECT * FROM workspace_type WHERE id = ?", about["type_id"])[0]
        system, bo_type, bo_id = (str(call.one(name) or "") for name in ("ext_system_id", "bo_type", "bo_id"))
        name = str(call.one("name") or "").strip() or f"{kind['name']} {bo_id}".strip()
        parent_id = call.number("parent_id", kind["location_id"])
        more = {key: str(call.one(key)) for key in ("external_create_date", "external_modify_date") if call.one(key)}
        with store.transaction():
            description = str(call.one("description") or "")
            node_id = _new_workspace(
                store, call.user, parent_id, name, kind["id"], template["id"], description=description, **more
            )
            self._copy_below(call.user, template["id"], node_id)
            for role in self._rows("SELECT * FROM workspace_role WHERE node_id = ? ORDER BY id", template["id"]):
                _new_role(store, node_id, role["name"], bool(role["leader"]), role["mask"], role["id"])
            for category_id, values in store.categories(template["id"]).items():
                self._categorise(call.user, node_id, category_id, {})
                store.db.execute(
                    "UPDATE applied_category SET data = ? WHERE node_id = ? AND category_id = ?",
                    (json.dumps(values), node_id, category_id),
                )
            for category_id, values in _by_category(call.object("roles").get("categories") or {}).items():
                self._categorise(call.user, node_id, category_id, values)
            if system or bo_type or bo_id:
                self._bind(node_id, system, bo_type, bo_id)
        self.api.stats["workspaces"] += 1
        return envelope(call, {"direct_open": True, "id": node_id, "sub_folder_id": 0})

    def _categorise(self, user: int, node_id: int, category_id: int, values: Mapping[str, Any]) -> None:
        new = category_id not in self.store.categories(node_id)
        self.store.apply_category(user, node_id, category_id, values, new=new)

    def _copy_below(self, user: int, source: int, target: int) -> None:
        for row in sorted(self.store.children(source), key=lambda row: int(row["id"])):
            made = self.store.create(user, target, row["type"], row["name"], description=row["description"])
            if row["type"] == DOCUMENT:
                version = self.store.version(row, None)
                link = self.store.incoming / f"copy-{made}"
                link.hardlink_to(self.store.content_path(version["version_id"]))
                upload = Upload(link, version["file_name"], version["mime_type"], version["file_size"])
                self.store.add_version(user, self.store.row(made), upload, {})
            self._copy_below(user, row["id"], made)

    # ----------------------------------------------------------------------------------------- lists

    def several(self, call: Call) -> dict[str, Any]:
        query = (
            "SELECT DISTINCT node.* FROM node JOIN workspace ON workspace.node_id = node.id "
            "JOIN workspace_type ON workspace_type.id = type_id LEFT JOIN workspace_reference ON workspace_reference.node_id = node.id "
            "WHERE deleted = 0 AND NOT is_template"
        )
        values: list[Any] = []
        for asked, column in (
            ("where_workspace_type_name", "workspace_type.name"),
            ("where_workspace_type_id", "type_id"),
            ("where_ext_system_id", "system"),
            ("where_bo_type", "bo_type"),
            ("where_bo_id", "bo_id"),
        ):
            if call.asked(asked) is not None:
                query += f" AND {column} = ?"
                values.append(call.asked(asked))
        query, values = _named(call.asked("where_name"), query, values)
        direction = "DESC" if (call.asked("sort") or "").startswith("desc_") else "ASC"
        rows = [
            row
            for row in self._rows(f"{query} ORDER BY name_key {direction}, node.id", *values)
            if self.store.may(call.user, row, "see")
        ]
        return self._page(call, rows)

    def _page(self, call: Call, rows: list[Any], **more: Any) -> dict[str, Any]:
        """A list as workspaces are listed: paging stands at the top level, 500 unless asked otherwise."""
        page, limit = page_of(call, 500)
        names = (call.fields() or {}).get("properties")
        shown = []
        for row in rows[(page - 1) * limit : page * limit]:
            told = self._properties(row) | more
            kept = {name: told[name] for name in names if name in told} if names else told
            shown.append({"data": {"properties": kept}})
        return envelope(call, shown, paging=paging(call, len(rows), page, limit), wksp_info={"wksp_type_icon": None})

    # ----------------------------------------------------------------------------------------- business references

    def _bind(self, node_id: int, system: str, bo_type: str, bo_id: str) -> None:
        if not (system and bo_type and bo_id):
            raise Refusal(400, "Missing required parameter: ext_system_id, bo_type and bo_id belong together")
        self._system(system)
        held = self._object(system, bo_type, bo_id)
        if held is not None and held["id"] != node_id:
            raise Refusal(500, f"The business object is connected to the workspace '{held['name']}' already.")
        self.store.db.execute(
            "INSERT OR IGNORE INTO workspace_reference VALUES (?, ?, ?, ?)", (node_id, system, bo_type, bo_id)
        )

    def _reference(self, call: Call) -> tuple[str, str, str]:
        return call.text("ext_system_id"), call.text("bo_type"), call.text("bo_id")

    def bind(self, call: Call, node_id: int) -> dict[str, Any]:
        self.store.need(call.user, self._workspace(call, node_id), "modify")
        with self.store.transaction():
            self._bind(node_id, *self._reference(call))
        return envelope(call, {"ok": True, "id": node_id})

    def unbind(self, call: Call, node_id: int) -> dict[str, Any]:
        self.store.need(call.user, self._workspace(call, node_id), "modify")
        done = self.store.db.execute(
            "DELETE FROM workspace_reference WHERE node_id = ? AND system = ? AND bo_type = ? AND bo_id = ?",
            (node_id, *self._reference(call)),
        )
        if not done.rowcount:
            raise Refusal(400, "The workspace does not have this reference.")
        return envelope(call, {"ok": True, "id": node_id})

    def _object(self, system: str, bo_type: str, bo_id: str) -> Any:
        rows = self._rows(
            "SELECT node.* FROM node JOIN workspace_reference ON node_id = node.id "
            "WHERE system = ? AND bo_type = ? AND bo_id = ? AND deleted = 0",
            system,
            bo_type,
            bo_id,
        )
        return rows[0] if rows else None

    def by_object(self, call: Call, system: str, bo_type: str, bo_id: str) -> dict[str, Any]:
        self._system(system)
        node = self._object(system, bo_type, bo_id)
        if node is None or not self.store.may(call.user, node, "see"):
            raise Refusal(404, "No workspace was found for the business object.")
        return envelope(call, {"data": {"properties": self._properties(node)}})

    # ----------------------------------------------------------------------------------------- roles

    def _role(self, call: Call, node_id: int, role_id: int) -> Any:
        self._workspace(call, node_id)
        rows = self._rows("SELECT * FROM workspace_role WHERE id = ? AND node_id = ?", role_id, node_id)
        if not rows:
            raise Refusal(400, f"Could not get a role for {role_id}")
        return rows[0]

    def _role_properties(self, role: Any) -> dict[str, Any]:
        return {
            "id": role["id"],
            "name": role["name"],
            "leader": bool(role["leader"]),
            "inherited_from_id": role["inherited_from"],
            "member_count": len(self.store.group_members(role["id"])),
            "perms": names_of(role["mask"]),
        }

    def roles(self, call: Call, node_id: int) -> dict[str, Any]:
        self._workspace(call, node_id)
        rows = self._rows("SELECT * FROM workspace_role WHERE node_id = ? ORDER BY id", node_id)
        return envelope(call, [{"data": {"properties": self._role_properties(row)}} for row in rows])

    def role(self, call: Call, node_id: int, role_id: int) -> dict[str, Any]:
        return envelope(call, {"data": {"properties": self._role_properties(self._role(call, node_id, role_id))}})

    def change_role(self, call: Call, node_id: int, role_id: int) -> dict[str, Any]:
        role = self._role(call, node_id, role_id)
        self.store.need(call.user, self.store.row(node_id), "edit_permissions")
        mask = mask_of(map(str, call.many("permissions")))
        with self.store.transaction():
            self.store.db.execute("UPDATE workspace_role SET mask = ? WHERE id = ?", (mask, role_id))
            _grant(self.store, node_id, role["id"], mask)
        return self.role(call, node_id, role_id)

    def members(self, call: Call, node_id: int, role_id: int) -> dict[str, Any]:
        self._role(call, node_id, role_id)
        rows = self.store.group_members(role_id)
        return envelope(call, [{"data": {"properties": member_properties(self.store, row["id"])}} for row in rows])

    def join(self, call: Call, node_id: int, role_id: int) -> dict[str, Any]:
        self._role(call, node_id, role_id)
        self.store.need(call.user, self.store.row(node_id), "edit_permissions")
        member = self.store.member(call.number("id"))
        if member["id"] in (row["id"] for row in self.store.group_members(role_id)):
            raise Refusal(400, f"'{member['name']}' already exists in this role.")
        with self.store.transaction():
            self.store.join(role_id, member["id"])
        return envelope(call, {"data": {"properties": member_properties(self.store, member["id"])}})

    def leave(self, call: Call, node_id: int, role_id: int, member_id: int) -> dict[str, Any]:
        self._role(call, node_id, role_id)
        self.store.need(call.user, self.store.row(node_id), "edit_permissions")
        if member_id not in (row["id"] for row in self.store.group_members(role_id)):
            raise Refusal(400, f"Could not get a member for {member_id}")
        with self.store.transaction():
            self.store.leave(role_id, member_id)
        return envelope(call, {"ok": True})

    # ----------------------------------------------------------------------------------------- related items

    def related(self, call: Call, node_id: int) -> dict[str, Any]:
        self._workspace(call, node_id)
        asked = call.asked("where_rel_types") or call.asked("where_relationtype") or "child"
        found = []
        for kind, near, far in (
            ("child", "workspace_relation.parent_id", "child_id"),
            ("parent", "child_id", "workspace_relation.parent_id"),
        ):
            if kind not in asked:
                continue
            query = f"SELECT node.* FROM node JOIN workspace_relation ON {far} = node.id WHERE {near} = ? AND deleted = 0"
            query, values = _named(call.asked("where_name"), query, [node_id])
            rows = [row for row in self._rows(f"{query} ORDER BY name_key", *values) if self.store.may(call.user, row, "see")]
            found.append(self._page(call, rows, rel_type=f"BO_{kind.title()}"))
        if not found:
            raise Refusal(400, f"Invalid value for parameter where_relationtype: {asked}")
        return {**found[0], "results": [entry for page in found for entry in page["results"]]}

    def _pair(self, call: Call, node_id: int, other_id: int, kind: str | None) -> tuple[int, int]:
        """Parent and child."""
        if kind not in ("child", "parent"):
            raise Refusal(400, f"Invalid value for parameter rel_type: {kind}")
        here, other = self._workspace(call, node_id)["id"], self._workspace(call, other_id)["id"]
        if here == other:
            raise Refusal(400, "A workspace cannot be related to itself.")
        self.store.need(call.user, self.store.row(here), "modify")
        return (here, other) if kind == "child" else (other, here)

    def relate(self, call: Call, node_id: int) -> dict[str, Any]:
        pair = self._pair(call, node_id, call.number("rel_bw_id"), str(call.one("rel_type") or "child"))
        with self.store.transaction():
            if self._rows("SELECT 1 FROM workspace_relation WHERE parent_id = ? AND child_id = ?", *pair):
                raise Refusal(400, "The relationship already exists.")
            self.store.db.execute("INSERT INTO workspace_relation VALUES (?, ?)", pair)
        return envelope(call, {"ok": True})

    def unrelate(self, call: Call, node_id: int, other_id: int) -> dict[str, Any]:
        pair = self._pair(call, node_id, other_id, str(call.one("rel_type") or call.asked("rel_type") or "child"))
        done = self.store.db.execute("DELETE FROM workspace_relation WHERE parent_id = ? AND child_id = ?", pair)
        if not done.rowcount:
            raise Refusal(400, "The relationship does not exist.")
        return envelope(call, {"ok": True})

    # ----------------------------------------------------------------------------------------- external systems

    def _system(self, name: str) -> Any:
        rows = self._rows("SELECT * FROM external_system WHERE name = ?", name)
        if not rows:
            raise Refusal(400, f"The external system '{name}' is not known.")
        return rows[0]

    def _system_properties(self, row: Any) -> dict[str, Any]:
        details = {key: value for key, value in json.loads(row["details"]).items() if key not in ("name", "bo_types")}
        return {
            **details,
            "enabled": 1,
            "extsystem_node_id": row["node_id"],
            "external_system_name": row["name"],
            "id_extsystem": row["name"],
        }

    def systems(self, call: Call) -> dict[str, Any]:
        rows = self._rows("SELECT * FROM external_system ORDER BY name")
        wanted = call.asked("where_name")
        return envelope(call, [self._system_properties(row) for row in rows if wanted in (None, row["name"])])

    def system(self, call: Call, name: str) -> dict[str, Any]:
        return envelope(call, self._system_properties(self._system(name)))

    def add_system(self, call: Call) -> dict[str, Any]:
        if self.store.rights(call.user, self.store.row(2000)) != ALL_RIGHTS:
            raise Refusal(500, "Insufficient permissions to perform this action on external systems.")
        name = call.text("external_system_name")
        if self._rows("SELECT 1 FROM external_system WHERE name = ?", name):
            raise Refusal(500, f"An external system with the name '{name}' already exists.")
        given = {key: call.one(key) for key in call.values if key != "external_system_name"}
        with self.store.transaction():
            number = _ensure_system(self.store, {**given, "name": name})
        return envelope(call, {"EXTSYSTEM_NODE_ID": number, "ID_EXTSYSTEM": name, "OK": True})


def _named(asked: str | None, query: str, values: list[Any]) -> tuple[str, list[Any]]:
    """``contains_`` and ``startswith_`` are understood; a bare name is the beginning of it."""
    if not asked:
        return query, values
    how, _, name = asked.partition("_")
    if how == "contains":
        return f"{query} AND instr(name_key, ?)", [*values, name.casefold()]
    plain = name if how == "startswith" else asked
    return f"{query} AND substr(name_key, 1, ?) = ?", [*values, len(plain), plain.casefold()]


def _by_category(given: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """``{"7_2": ..}`` and ``{"7": {"7_2": ..}}``, which clients both send."""
    found: dict[int, dict[str, Any]] = {}
    for key, value in given.items():
        if key == "inheritance":
            continue
        values: Iterable[tuple[str, Any]] = [(key, value)] if "_" in key else (value or {}).items()
        found.setdefault(whole("roles.categories", key.partition("_")[0]), {}).update(values)
    return found
