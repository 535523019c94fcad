"""Versions of documents in the Extended ECM stand-in, and the bytes."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from tests.sandbox.ecm_large import taken
from tests.sandbox.ecm_shapes import external, node_properties, version_properties
from tests.sandbox.ecm_store import ADMIN_ID, DOCUMENT, Store, now
from tests.sandbox.ecm_wire import Api, Call, Faults, Refusal, Upload, content, envelope, page_of, paging, truth

SCHEMA = ""


def register(store: Store, faults: Faults, api: Api) -> None:
    Versions(store, faults, api).register()


class Versions:
    """Versions of documents, and the bytes."""

    def __init__(self, store: Store, faults: Faults, api: Api) -> None:
        self.store = store
        self.faults = faults
        self.api = api

    def register(self) -> None:
        api = self.api
        api.get("/v2/nodes/{node_id:int}/versions")(self.several)
        api.post("/v2/nodes/{node_id:int}/versions")(self.add)
        api.delete("/v2/nodes/{node_id:int}/versions")(self.purge)
        api.get("/v2/nodes/{node_id:int}/versions/{number:int}")(self.get)
        api.put("/v2/nodes/{node_id:int}/versions/{number:int}")(self.describe)
        api.delete("/v2/nodes/{node_id:int}/versions/{number:int}")(self.drop)
        api.post("/v2/nodes/{node_id:int}/versions/{number:int}/promote")(self.promote)
        api.post("/v2/nodes/{node_id:int}/versions/{number:int}/lock")(self.lock)
        api.post("/v2/nodes/{node_id:int}/versions/{number:int}/unlock")(self.unlock)
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
        self.store.need_unreserved(call.user, node)
        major = truth(call.one("add_major_version", False))
        if major:
            if not node["versions_control_advanced"]:
                raise Refusal(500, f"You cannot add a major version to {node['name']} which is using standard versioning")
            self.store.need(call.user, node, "add_major_version")
        description = self._description(call)
        upload = call.body.files.get("file") or taken(self.store, self.faults, call)
        if upload is None:
            raise Refusal(400, "Missing required parameter 'File'")
        with self.store.transaction():
            more = {"description": description, **external(call)}
            number = self.store.add_version(call.user, node, upload, more, major=major)
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

    def _description(self, call: Call) -> str | None:
        description = call.one("description")
        if description and len(str(description)) > 255:
            raise Refusal(400, "The description exceeds the maximum length of 255 characters.")
        return None if description is None else str(description)

    def describe(self, call: Call, node_id: int, number: int) -> dict[str, Any]:
        node = self._document(call, node_id, "modify")
        self.store.need_unreserved(call.user, node)
        self._unlocked(self.store.version(node, number), call.user)
        self._change(node, number, description=self._description(call))
        return self.get(call, node_id, number)

    def promote(self, call: Call, node_id: int, number: int) -> dict[str, Any]:
        """The version's content once more, as the next major version."""
        node = self._document(call, node_id, "add_major_version")
        self.store.need_unreserved(call.user, node)
        if not node["versions_control_advanced"]:
            raise Refusal(500, f"You cannot promote a version for {node['name']} which is using standard versioning")
        version = self.store.version(node, number)
        copy = self.store.incoming / f"promoted-{version['version_id']}"
        copy.hardlink_to(self.store.content_path(version["version_id"]))
        upload = Upload(copy, version["file_name"], version["mime_type"], version["file_size"])
        with self.store.transaction():
            description = self._description(call) or version["description"]
            made = self.store.add_version(call.user, node, upload, {"description": description}, major=True)
        return self.get(call, node_id, made)

    def lock(self, call: Call, node_id: int, number: int) -> dict[str, Any]:
        node = self._document(call, node_id, "modify")
        if self.store.version(node, number)["locked_user_id"] not in (None, call.user):
            raise Refusal(500, f"Could not lock version '{number}' for node '{node_id}'")
        self._change(node, number, locked_user_id=call.user, locked_date=now())
        self.store.note(call.user, node["id"], "Version Locked")
        return self.get(call, node_id, number)

    def unlock(self, call: Call, node_id: int, number: int) -> dict[str, Any]:
        node = self._document(call, node_id, "modify")
        if self.store.version(node, number)["locked_user_id"] not in (call.user, None) and call.user != ADMIN_ID:
            raise Refusal(500, f"Could not unlock version '{number}' for node '{node_id}'")
        self._change(node, number, locked_user_id=None, locked_date=None)
        self.store.note(call.user, node["id"], "Version Unlocked")
        return self.get(call, node_id, number)

    def _change(self, node: Any, number: int, **columns: Any) -> None:
        self.store.version(node, number)
        assignments = ", ".join(f"{column} = ?" for column in columns)
        self.store.db.execute(
            f"UPDATE version SET {assignments} WHERE node_id = ? AND number = ?", (*columns.values(), node["id"], number)
        )

    def _unlocked(self, version: Any, user: int | None = None) -> None:
        """A lock keeps everybody but its owner from changing a version, and everybody from deleting it."""
        if version["locked_user_id"] not in (None, user):
            raise Refusal(500, f"Version {version['number']} of the item is locked.")

    def drop(self, call: Call, node_id: int, number: int) -> dict[str, Any]:
        node = self._document(call, node_id, "delete_versions")
        self.store.need_unreserved(call.user, node)
        self._unlocked(self.store.version(node, number))
        if len(self.store.versions(node["id"])) == 1:
            raise Refusal(500, "The last version of a document cannot be deleted.")
        with self.store.transaction():
            self.store.drop_versions(call.user, node, [number])
        return envelope(call, {})

    def purge(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self._document(call, node_id, "delete_versions")
        keep = call.number("number_to_keep", call.asked_number("number_to_keep", 1))
        if keep < 1:
            raise Refusal(500, "Invalid value for NumberToKeep")
        self.store.need_unreserved(call.user, node)
        versions = self.store.versions(node["id"])
        if node["versions_control_advanced"]:  # only minor versions are purged then, and only they are counted
            versions = [version for version in versions if version["minor"]]
        with self.store.transaction():
            unlocked = [version["number"] for version in versions[:-keep] if version["locked_user_id"] is None]
            self.store.drop_versions(call.user, node, unlocked)
        return envelope(call, {})

    def content(self, call: Call, node_id: int, number: int | None = None) -> Response:
        node = self._document(call, node_id, "see_contents")
        version = self.store.version(node, number)
        self.store.note(call.user, node["id"], "Fetch")
        self.api.stats["downloads"] += 1
        path = self.store.content_path(version["version_id"])
        return content(path, version["file_size"], node["name"], version["mime_type"])
