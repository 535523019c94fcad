"""Nodes of the Extended ECM stand-in: volumes, containers and documents, their versions, and the bytes."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from tests.sandbox.ecm_shapes import EXTERNAL, described, external, node_properties, version_properties
from tests.sandbox.ecm_store import ADMIN_ID, CONTAINERS, DOCUMENT, TYPE_NAMES, Store, missing, now
from tests.sandbox.ecm_wire import Api, Call, Faults, Refusal, Upload, content, envelope, page_of, paging, truth, whole

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
    Nodes(store, api).register()
    Versions(store, api).register()


class Nodes:
    """Volumes and nodes."""

    def __init__(self, store: Store, api: Api) -> None:
        self.store = store
        self.api = api

    def register(self) -> None:
        api = self.api
        api.post("/v2/nodes")(self.create)
        api.post("/v1/nodes")(self.create_v1)
        api.get("/v2/nodes/{node_id:int}")(self.get)
        api.get("/v2/nodes/{node_id:int}/nodes")(self.listing)
        api.post("/v2/nodes/list", reads=True)(self.several)
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
        parent_id, name = call.number("parent_id"), call.text("name")
        upload = call.body.files.get("file")
        more = external(call)
        copied = None
        if "type" in call.values:
            kind = call.number("type")
        elif "original_id" in call.values:
            copied = store.node(call.user, call.number("original_id"))
            kind = copied["type"]
        else:
            raise Refusal(400, "Missing required parameter: type")
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
        if original["type"] != DOCUMENT:
            return
        version = self.store.version(original, None)
        link = self.store.incoming / f"copy-{node_id}"
        link.hardlink_to(self.store.content_path(version["version_id"]))
        upload = Upload(link, version["file_name"], version["mime_type"], version["file_size"])
        self.store.add_version(call.user, self.store.row(node_id), upload, {})
        self.store.note(call.user, node_id, "Create from Copy")

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
        return envelope(call, described(self.store, call, self.store.node(call.user, node_id)))

    def get_v1(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        data = node_properties(self.store, node)
        for name in ("create_date", "modify_date"):
            data[name] = data[name].rstrip("Z")
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
            changes: dict[str, Any] = external(call)
            if "description" in call.values:
                changes["description"] = str(call.one("description") or "")
            if "url" in call.values:
                changes["url"] = str(call.one("url"))
            if "versions_control_advanced" in call.values:
                changes["versions_control_advanced"] = truth(call.one("versions_control_advanced"))
            if "reserved_user_id" in call.values:
                changes |= self._reserve(call, node)
            elif changes:
                store.need(call.user, node, "modify")
            if changes:
                store.change(call.user, node["id"], **changes)
                store.note(call.user, node["id"], "Modified")
        return envelope(call, {"data": {"properties": node_properties(store, store.row(node_id))}})

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


# --------------------------------------------------------------------------------------------- versions and content


class Versions:
    """Versions of documents, and the bytes."""

    def __init__(self, store: Store, api: Api) -> None:
        self.store = store
        self.api = api

    def register(self) -> None:
        api = self.api
        api.get("/v2/nodes/{node_id:int}/versions")(self.several)
        api.post("/v2/nodes/{node_id:int}/versions")(self.add)
        api.delete("/v2/nodes/{node_id:int}/versions")(self.purge)
        api.get("/v2/nodes/{node_id:int}/versions/{number:int}")(self.get)
        api.delete("/v2/nodes/{node_id:int}/versions/{number:int}")(self.drop)
        api.get("/v1/nodes/{node_id:int}/versions/latest")(self.latest)
        for version in ("v1", "v2"):
            api.get(f"/{version}/nodes/{{node_id:int}}/content")(self.content)
            api.get(f"/{version}/nodes/{{node_id:int}}/versions/{{number:int}}/content")(self.content)

    def _document(self, call: Call, node_id: int, right: str = "see") -> Any:
        node = self.store.node(call.user, node_id)
        if node["type"] != DOCUMENT:
            raise Refusal(400, f"The item '{node['name']}' has no versions.")
        self.store.need(call.user, node, right)
        return node

    def several(self, call: Call, node_id: int) -> dict[str, Any]:
        versions = self.store.versions(self._document(call, node_id)["id"])
        if (call.asked("order") or "").lower() == "desc":
            versions.reverse()
        page, limit = page_of(call)
        collection = {"paging": paging(call, len(versions), page, limit)}
        shown = versions[(page - 1) * limit : page * limit]
        return envelope(call, [{"data": {"versions": version_properties(version)}} for version in shown], collection=collection)

    def add(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self._document(call, node_id, "modify")
        upload = call.body.files.get("file")
        if upload is None:
            raise Refusal(400, "Missing required parameter: file")
        if node["reserved_user_id"] not in (0, call.user):
            raise Refusal(500, f"The item '{node['name']}' is reserved by another user.")
        description = call.one("description")
        if description and len(str(description)) > 255:
            raise Refusal(400, "The description exceeds the maximum length of 255 characters.")
        with self.store.transaction():
            number = self.store.add_version(call.user, node, upload, {"description": description, **external(call)})
            changes = external(call)
            if changes:
                self.store.change(call.user, node["id"], **changes)
        self.api.stats["versions"] += 1
        self.api.stats["uploaded bytes"] += upload.size
        node = self.store.row(node["id"])
        versions = version_properties(self.store.version(node, number))
        return envelope(call, {"data": {"properties": node_properties(self.store, node), "versions": versions}})

    def get(self, call: Call, node_id: int, number: int) -> dict[str, Any]:
        version = self.store.version(self._document(call, node_id), number)
        return envelope(call, {"data": {"versions": version_properties(version)}})

    def latest(self, call: Call, node_id: int) -> dict[str, Any]:
        data = version_properties(self.store.version(self._document(call, node_id), None))
        for name in ("create_date", "modify_date", "file_create_date", "file_modify_date"):
            data[name] = data[name].rstrip("Z")
        return {"data": data}

    def drop(self, call: Call, node_id: int, number: int) -> dict[str, Any]:
        node = self._document(call, node_id, "delete_versions")
        if len(self.store.versions(node["id"])) == 1:
            raise Refusal(500, "The last version of a document cannot be deleted.")
        with self.store.transaction():
            self.store.drop_versions(call.user, node, [number])
        return envelope(call, {})

    def purge(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self._document(call, node_id, "delete_versions")
        keep = call.number("number_to_keep", call.asked_number("number_to_keep", 1))
        if keep < 1:
            raise Refusal(400, "Invalid value for parameter number_to_keep")
        with self.store.transaction():
            self.store.drop_versions(
                call.user, node, [version["number"] for version in self.store.versions(node["id"])[:-keep]]
            )
        return envelope(call, {})

    def content(self, call: Call, node_id: int, number: int | None = None) -> Response:
        node = self._document(call, node_id, "see_contents")
        version = self.store.version(node, number)
        self.store.note(call.user, node["id"], "Fetch")
        self.api.stats["downloads"] += 1
        path = self.store.content_path(version["version_id"])
        return content(path, version["file_size"], node["name"], version["mime_type"])
