"""Nodes of the Extended ECM stand-in: volumes, containers and documents, their versions, and the bytes."""

from __future__ import annotations

from typing import Any

from tests.sandbox.ecm_large import taken
from tests.sandbox.ecm_shapes import EXTERNAL, described, external, node_properties
from tests.sandbox.ecm_store import ADMIN_ID, CONTAINERS, DOCUMENT, TYPE_NAMES, Store, missing, now
from tests.sandbox.ecm_wire import Api, Call, Faults, Refusal, Upload, envelope, page_of, paging, truth, whole

SCHEMA = ""

NOT_ACCESSIBLE = (
    "Sorry, the item you requested could not be accessed. Either it does not exist or you do not have permission to access it."
)
SORTABLE = {
    "name": "name_key",
    "modify_date": "changed",
    "create_date": "create_date",
    "size": "max(size, children)",
    "type": "type",
    "id": "id",
}


def register(store: Store, faults: Faults, api: Api) -> None:
    Nodes(store, faults, api).register()


class Nodes:
    """Volumes and nodes."""

    def __init__(self, store: Store, faults: Faults, api: Api) -> None:
        self.store = store
        self.faults = faults
        self.api = api

    def register(self) -> None:
        api = self.api
        api.post("/v2/nodes")(self.create)
        api.post("/v1/nodes")(self.create_v1)
        api.get("/v2/nodes/{node_id:int}")(self.get)
        api.get("/v2/nodes/{node_id:int}/nodes")(self.listing)
        api.post("/v2/nodes/list", reads=True)(self.several)
        api.post("/v2/nodes/actions", reads=True)(self.actions)
        api.put("/v2/nodes/{node_id:int}")(self.update)
        api.delete("/v2/nodes/{node_id:int}")(self.delete)
        api.get("/v1/nodes/{node_id:int}")(self.get_v1)
        api.get("/v1/nodes/{node_id:int}/ancestors")(self.ancestors)
        api.post("/v1/validation/nodes/names", reads=True)(self.taken_names)
        api.get("/v2/volumes")(self.volumes)
        api.get("/v2/volumes/{kind:int}")(self.volume)

    def volumes(self, call: Call) -> dict[str, Any]:
        rows = [row for row in self.store.volumes() if self.store.may(call.user, row, "see")]
        rows.append(self.store.personal(call.user))
        return envelope(call, [described(self.store, call, row) for row in rows])

    def volume(self, call: Call, kind: int) -> dict[str, Any]:
        row = self.store.personal(call.user) if kind == 142 else self.store.volume(kind)
        if row is None or not self.store.may(call.user, row, "see"):
            raise Refusal(500, f"Could not get a volume of type {kind}.")
        return envelope(call, described(self.store, call, row))

    def create(self, call: Call) -> dict[str, Any]:
        node = self._create(call, collision=500)
        return envelope(call, {"data": {"properties": node_properties(self.store, node)}})

    def create_v1(self, call: Call) -> dict[str, Any]:
        node = self._create(call, collision=400)
        return {"id": node["id"], "name": node["name"], "type": node["type"]}

    def _create(self, call: Call, collision: int) -> Any:
        store = self.store
        parent_id = call.number("parent_id")
        upload = call.body.files.get("file") or taken(store, self.faults, call)
        more = external(call)
        copied = None
        if "type" in call.values:
            kind = call.number("type")
        elif "original_id" in call.values:
            copied = store.node(call.user, call.number("original_id"))
            kind = copied["type"]
        else:
            raise Refusal(400, "Missing required parameter: type")
        name = copied["name"] if copied is not None and "name" not in call.values else call.text("name")
        if copied is not None and copied["id"] in (row["id"] for row in store.ancestors(store.node(call.user, parent_id))):
            raise Refusal(500, "An item cannot be copied into itself.")
        if kind == DOCUMENT and upload is None and copied is None:
            raise Refusal(400, "Missing required parameter: file")
        if copied is None and call.one("original_id"):
            more["original_id"] = store.node(call.user, call.number("original_id"))["id"]
        if call.one("url"):
            more["url"] = str(call.one("url"))
        with store.transaction():
            try:
                node_id = store.create(
                    call.user,
                    parent_id,
                    kind,
                    name,
                    collision=collision,
                    description=str(call.one("description") or ""),
                    **more,
                )
            except Refusal as refusal:
                raise (Refusal(500, NOT_ACCESSIBLE) if refusal.text == missing(parent_id).text else refusal) from refusal
            if upload and kind == DOCUMENT:
                version = {name: value for name, value in more.items() if name in EXTERNAL}
                store.add_version(call.user, store.row(node_id), upload, version)
                self.api.stats["uploads"] += 1
                self.api.stats["uploaded bytes"] += upload.size
            elif copied is not None:
                self._copy(call, copied, node_id)
            self._roles(call, node_id)
        return store.row(node_id)

    def _copy(self, call: Call, original: Any, node_id: int) -> None:
        """What the original holds: of a document its newest version, of a container everything that the user sees below it."""
        store = self.store
        if original["type"] == DOCUMENT:
            version = store.version(original, None)
            link = store.incoming / f"copy-{node_id}"
            link.hardlink_to(store.content_path(version["version_id"]))
            upload = Upload(link, version["file_name"], version["mime_type"], version["file_size"])
            store.add_version(call.user, store.row(node_id), upload, {})
        self._inherit(call, original["id"], node_id)
        store.note(call.user, node_id, "Create from Copy")
        for child in store.children(original["id"]):
            if store.may(call.user, child, "see"):
                more = {name: child[name] for name in ("description", "original_id", "url")}
                self._copy(call, child, store.create(call.user, node_id, child["type"], child["name"], **more))

    def _inherit(self, call: Call, original_id: int, node_id: int) -> None:
        """Categories of what was copied or moved: the original's (0, the default), the destination's (1), or both (2)."""
        categories = call.object("roles").get("categories") or {}
        inheritance = whole("inheritance", categories.get("inheritance", 0))
        if inheritance not in (0, 1, 2):
            raise Refusal(400, "Invalid value for parameter inheritance")
        db = self.store.db
        held = db.execute("SELECT * FROM applied_category WHERE node_id = ?", (original_id,)).fetchall()
        if inheritance == 0:
            db.execute("DELETE FROM applied_category WHERE node_id = ?", (node_id,))
        if inheritance != 1:
            for row in held:
                given = (node_id, row["category_id"], row["data"], row["inherited"])
                db.execute("INSERT OR IGNORE INTO applied_category VALUES (?, ?, ?, ?)", given)

    def _roles(self, call: Call, node_id: int) -> None:
        """Category values and classifications that come with a create."""
        roles = call.object("roles")
        by_category: dict[int, dict[str, Any]] = {}
        for key, value in (roles.get("categories") or {}).items():
            if key == "inheritance":
                continue
            category_id = whole("roles.categories", key.partition("_")[0])
            if "_" in key:
                by_category.setdefault(category_id, {})[key] = value
            else:
                by_category.setdefault(category_id, {}).update(value if isinstance(value, dict) else {})
        for category_id, values in by_category.items():
            applied = category_id in self.store.categories(node_id)
            self.store.apply_category(call.user, node_id, category_id, values, new=not applied)
        classes = roles.get("classifications") or {}
        if classes.get("id"):
            given = classes["id"] if isinstance(classes["id"], list) else [classes["id"]]
            self.store.classify(call.user, node_id, [whole("roles.classifications", class_id) for class_id in given])

    def get(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        results = described(self.store, call, node)
        if call.flag("state"):
            results["state"] = {"properties": {"metadata_token": str(node["token"])}}
        if wanted := set(call.asked_many("actions")):
            results["actions"] = self._actions(call, node, wanted)
        return envelope(call, results)

    def get_v1(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        data = node_properties(self.store, node)
        for name in ("create_date", "modify_date", "reserved_date"):
            data[name] = data[name] and data[name].rstrip("Z")
        return {"type": node["type"], "type_name": data["type_name"], "data": data}

    def several(self, call: Call) -> dict[str, Any]:
        ids = [whole("ids", node_id) for node_id in call.many("ids")]
        if not ids:
            raise Refusal(400, "Missing required parameter: ids")
        found = []
        for node_id in ids:
            try:
                found.append(self.store.node(call.user, node_id))
            except Refusal:
                continue
        return envelope(call, [described(self.store, call, node) for node in found])

    def actions(self, call: Call) -> dict[str, Any]:
        """What the user may do with each of the nodes. One that is missing is left out."""
        wanted = set(map(str, call.many("actions")))
        results: dict[str, Any] = {}
        for node_id in call.many("ids"):
            try:
                node = self.store.node(call.user, whole("ids", node_id))
            except Refusal:
                continue
            results[str(node["id"])] = self._actions(call, node, wanted)
        return envelope(call, results)

    def _actions(self, call: Call, node: Any, wanted: set[str]) -> dict[str, Any]:
        allowed = {
            action: {"body": "", "content_type": "", "form_href": "", "href": f"/api/v2/{path}", "method": method, "name": name}
            for action, (right, method, path, name) in actions_of(node).items()
            if self.store.may(call.user, node, right) and (not wanted or action in wanted)
        }
        return {"data": allowed, "map": {"default_action": "open"}, "order": list(allowed)}

    def listing(self, call: Call, node_id: int) -> dict[str, Any]:
        try:
            parent = self.store.node(call.user, node_id)
        except Refusal as refusal:
            raise Refusal(500, NOT_ACCESSIBLE) from refusal
        if parent["type"] not in CONTAINERS:
            raise Refusal(500, f"The item '{parent['name']}' is not a container.")
        self.store.need(call.user, parent, "see_contents")
        where, values = self._where(call)
        sort = call.asked("sort", "asc_name") or "asc_name"
        direction, _, column = sort.partition("_") if sort.startswith(("asc_", "desc_")) else ("asc", "_", sort)
        if column not in SORTABLE:
            raise Refusal(400, f"Invalid value for parameter sort: {sort}")
        order = f"{SORTABLE[column]} {direction}, id {direction}"
        page, limit = page_of(call)
        total, rows = self.store.listing(call.user, parent, where, values, order, (page - 1) * limit, limit)
        collection = {
            "paging": paging(call, total, page, limit),
            "sorting": {"sort": [{"key": "sort", "value": sort}]},
        }
        return envelope(call, [described(self.store, call, row) for row in rows], collection=collection)

    def _where(self, call: Call) -> tuple[str, list[Any]]:
        """``where_name`` is a part of the name, in any case; several ``where_type`` widen."""
        where, values = "", []
        name = call.asked("where_name")
        if name:
            where += " AND instr(name_key, ?)"
            values.append(name.casefold())
        kinds = [whole("where_type", kind) for part in call.asked_many("where_type") for kind in part.split(",") if kind]
        if kinds:
            containers = ", ".join(map(str, sorted(CONTAINERS)))
            choices = {-1: f"type IN ({containers})", -2: "1 = 1", -3: f"type NOT IN ({containers})"}
            where += f" AND ({' OR '.join(choices.get(kind, f'type = {kind}') for kind in kinds)})"
        return where, values

    def update(self, call: Call, node_id: int) -> dict[str, Any]:
        store = self.store
        node = store.node(call.user, node_id)
        token = call.one("metadata_token")
        if token not in (None, "") and str(token) != str(node["token"]):
            raise Refusal(409, "Could not update metadata (edit conflict).")
        with store.transaction():
            if "name" in call.values or "parent_id" in call.values:
                store.rename(call.user, node, call.number("parent_id", node["parent_id"]), str(call.one("name", node["name"])))
                if call.number("parent_id", node["parent_id"]) != node["parent_id"]:
                    self._moved(call, node)
            changes: dict[str, Any] = external(call)
            if "description" in call.values:
                changes["description"] = str(call.one("description") or "")
            if "url" in call.values:
                changes["url"] = str(call.one("url"))
            if "versions_control_advanced" in call.values:
                below = self._versioning(call, node)
                if call.number("apply_to", 0) != 1:
                    changes["versions_control_advanced"] = below
            if "reserved_user_id" in call.values:
                changes |= self._reserve(call, node)
            elif changes:
                store.need(call.user, node, "modify")
                store.need_unreserved(call.user, node)
            if changes:
                store.change(call.user, node["id"], **changes)
                store.note(call.user, node["id"], "Modified")
        changed = store.row(node_id)
        results: dict[str, Any] = {"data": {"properties": node_properties(store, changed)}}
        if token not in (None, ""):
            results["state"] = {"properties": {"metadata_token": str(changed["token"])}}
        return envelope(call, results)

    def _moved(self, call: Call, node: Any) -> None:
        """A moved node keeps its categories, unless the body chooses the destination's."""
        categories = call.object("roles").get("categories") or {}
        inheritance = whole("inheritance", categories.get("inheritance", 0))
        if inheritance:
            db, parent = self.store.db, self.store.row(node["id"])["parent_id"]
            if inheritance == 1:
                db.execute("DELETE FROM applied_category WHERE node_id = ?", (node["id"],))
            query = "SELECT * FROM applied_category WHERE node_id = ? AND inherited = 1"
            for row in db.execute(query, (parent,)).fetchall():
                given = (node["id"], row["category_id"], row["data"], 1)
                db.execute("INSERT OR IGNORE INTO applied_category VALUES (?, ?, ?, ?)", given)
        self._roles(call, node["id"])

    def _versioning(self, call: Call, node: Any) -> bool:
        """Major and minor versions from now on; for what is below too, if ``apply_to`` says so (1, 2)."""
        advanced = truth(call.one("versions_control_advanced"))
        if call.number("apply_to", 0):
            for row in self.store.below(node["id"]):
                self.store.need(call.user, row, "modify")
                self.store.change(call.user, row["id"], versions_control_advanced=advanced)
        return advanced

    def _reserve(self, call: Call, node: Any) -> dict[str, Any]:
        wanted = call.one("reserved_user_id")
        user = whole("reserved_user_id", wanted) if wanted not in (None, "", "null", "None") else 0
        self.store.need(call.user, node, "reserve")
        if node["reserved_user_id"] and node["reserved_user_id"] != call.user and call.user != ADMIN_ID:
            raise Refusal(500, f"The item '{node['name']}' is reserved by another user.")
        if user:
            self.store.member(user)
        self.store.note(call.user, node["id"], "Reserve" if user else "Unreserve")
        return {"reserved_user_id": user, "reserved_date": now() if user else None}

    def delete(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        with self.store.transaction():
            self.store.delete(call.user, node)
        self.api.stats["deletions"] += 1
        return envelope(call, {})

    def ancestors(self, call: Call, node_id: int) -> dict[str, Any]:
        chain = self.store.ancestors(self.store.node(call.user, node_id))
        names = ("id", "name", "parent_id", "type", "volume_id")
        return {
            "ancestors": [
                {**{name: row[name] for name in names}, "type_name": TYPE_NAMES.get(row["type"], "")}
                for row in chain
                if self.store.may(call.user, row, "see")
            ]
        }

    def taken_names(self, call: Call) -> dict[str, Any]:
        parent = self.store.node(call.user, call.number("parent_id"))
        taken = [self.store.child(parent["id"], str(name)) for name in call.many("names")]
        return {"results": [{"id": row["id"], "name": row["name"]} for row in taken if row is not None]}


def actions_of(node: Any) -> dict[str, tuple[str, str, str, str]]:
    """Action -> the right that it needs, method, path below the version, name."""
    here = f"nodes/{node['id']}"
    actions = {
        "audit": ("see", "GET", f"{here}/audit", "Audit"),
        "copy": ("see_contents", "POST", "nodes", "Copy"),
        "delete": ("delete", "DELETE", here, "Delete"),
        "move": ("delete", "PUT", here, "Move"),
        "permissions": ("see", "GET", f"{here}/permissions", "Permissions"),
        "properties": ("see", "GET", here, "Properties"),
        "rename": ("modify", "PUT", here, "Rename"),
        "unreserve" if node["reserved_user_id"] else "reserve": ("reserve", "PUT", here, "Reserve"),
    }
    if node["type"] in CONTAINERS:
        return actions | {"open": ("see_contents", "GET", f"{here}/nodes", "Open")}
    return actions | {
        "addversion": ("modify", "POST", f"{here}/versions", "Add Version"),
        "download": ("see_contents", "GET", f"{here}/content", "Download"),
        "open": ("see_contents", "GET", f"{here}/content", "Open"),
        "versionscontrol": ("see", "GET", f"{here}/versions", "Versions"),
    }
