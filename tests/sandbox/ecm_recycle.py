"""The recycle bin of the Extended ECM stand-in: what was deleted, given back to its place or gone for good."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.sandbox.ecm_shapes import node_properties
from tests.sandbox.ecm_store import ADMIN_ID, CONTAINERS, DOCUMENT, Store, missing, now
from tests.sandbox.ecm_wire import Api, Call, Faults, Refusal, envelope, page_of, paging, whole

SCHEMA = "CREATE INDEX IF NOT EXISTS node_deleted ON node(deleted) WHERE deleted != 0;"

KEPT = timedelta(days=60)
"""After so long a real server purges by itself."""
MODES = ("user_deleted_today", "user_deleted", "anyone_deleted_today", "anyone_deleted")
SHOWN = (
    "id",
    "type",
    "name",
    "parent_id",
    "type_name",
    "mime_type",
    "create_user_id",
    "container",
    "container_size",
    "size",
    "size_formatted",
)
SORTABLE = ("name", "purged_date", "deleted_date", "size", "type")


def register(store: Store, faults: Faults, api: Api) -> None:
    RecycleBin(store, api).register()


class RecycleBin:
    """A deleted container is one item of the bin: what was in it comes back, or goes, with it."""

    def __init__(self, store: Store, api: Api) -> None:
        self.store = store
        self.api = api

    def register(self) -> None:
        api = self.api
        api.get("/v2/volumes/recyclebin/nodes")(self.listing)
        api.post("/v2/volumes/recyclebin/nodes/restore")(self.restore)
        api.post("/v2/volumes/recyclebin/nodes/purge")(self.purge)

    def listing(self, call: Call) -> dict[str, Any]:
        mode = call.asked("mode", MODES[0]) or MODES[0]
        if mode not in MODES:
            raise Refusal(400, f"Invalid value for parameter mode: {mode}")
        sort = call.asked("sort", "desc_deleted_date") or "desc_deleted_date"
        direction, _, column = sort.partition("_") if sort.startswith(("asc_", "desc_")) else ("desc", "_", sort)
        if column not in SORTABLE:
            raise Refusal(400, f"Invalid value for parameter sort: {sort}")
        name, items = (call.asked("where_name") or "").casefold(), []
        for row in self.store.db.execute("SELECT * FROM node WHERE deleted = id").fetchall():
            mine = row["deleted_user_id"] == call.user
            if mode.startswith("user") and not mine:
                continue
            if mode.endswith("today") and row["deleted_date"][:10] != now()[:10]:
                continue
            if not row["name"].casefold().startswith(name) or not (mine or self.store.may(call.user, row, "see")):
                continue
            items.append(self._properties(row))
        items.sort(key=lambda item: (item[column], item["id"]), reverse=direction == "desc")
        items.sort(key=lambda item: not item["container"])  # containers are always in a group of their own at the top
        page, limit = page_of(call)
        fields = call.fields().get("properties")
        shown = [
            {"data": {"properties": {name: item[name] for name in fields if name in item} if fields else item}}
            for item in items[(page - 1) * limit : page * limit]
        ]
        collection = {
            "filtering": {"filter": [{"key": "where_name", "value": name}], "modes": {"selected": [{"value": mode}]}},
            "paging": paging(call, len(items), page, limit),
            "sorting": {"sort": [{"key": "sort", "value": sort}]},
        }
        return envelope(call, shown, collection=collection)

    def _properties(self, row: Any) -> dict[str, Any]:
        held = node_properties(self.store, row)
        purged = datetime.fromisoformat(row["deleted_date"]) + KEPT
        number = self.store.version(row, None)["number"] if row["type"] == DOCUMENT else None
        return {
            **{name: held[name] for name in SHOWN},
            "deleted_date": row["deleted_date"],
            "deleted_user_id": row["deleted_user_id"],
            "purged_date": purged.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "version_number": number,
        }

    def restore(self, call: Call) -> dict[str, Any]:
        return self._each(call, self._restore)

    def purge(self, call: Call) -> dict[str, Any]:
        return self._each(call, self._purge)

    def _each(self, call: Call, act: Callable[[int, Any], None]) -> dict[str, Any]:
        """Each for itself. Where one failed the status is 400, and the results tell which."""
        ids = [whole("ids", node_id) for node_id in call.many("ids")]
        if not ids:
            raise Refusal(400, "The parameter 'ids' is not specified.")
        done, failed = list[int](), dict[str, Any]()
        for node_id in ids:
            try:
                with self.store.transaction():
                    act(call.user, self._item(call.user, node_id))
                done.append(node_id)
            except Refusal as refusal:
                failed[str(node_id)] = {"message": refusal.text}
        results = {"failure": {"errors": failed, "ids": [int(node_id) for node_id in failed]}, "success": {"ids": done}}
        answer = envelope(call, results)
        if failed:
            raise Refusal(400, "", answer)
        return answer

    def _item(self, user: int, node_id: int) -> Any:
        row = self.store.db.execute("SELECT * FROM node WHERE id = ? AND deleted = id", (node_id,)).fetchone()
        if row is None or not (row["deleted_user_id"] == user or self.store.may(user, row, "see")):
            raise missing(node_id)
        return row

    def _restore(self, user: int, item: Any) -> None:
        store = self.store
        parent = store.node(user, item["parent_id"])
        store.need(user, parent, "add_items")
        if store.child(parent["id"], item["name"]):
            raise Refusal(400, f"An item with the name '{item['name']}' already exists.")
        store.db.execute(
            "UPDATE node SET deleted = 0, deleted_date = NULL, deleted_user_id = NULL, changed = unixepoch() WHERE deleted = ?",
            (item["id"],),
        )
        store.db.execute("UPDATE node SET children = children + 1 WHERE id = ?", (parent["id"],))
        store.note(user, item["id"], "Restore")

    def _purge(self, user: int, item: Any) -> None:
        store = self.store
        if user not in (ADMIN_ID, item["deleted_user_id"]):
            store.need(user, item, "delete")
        rows = store.db.execute("SELECT * FROM node WHERE deleted = ?", (item["id"],)).fetchall()
        for row in rows:
            store.allow("purge", row)
        for row in rows:
            if row["type"] not in CONTAINERS:
                for version in store.versions(row["id"]):
                    store.content_path(version["version_id"]).unlink(missing_ok=True)
            store.db.execute("DELETE FROM version WHERE node_id = ?", (row["id"],))
            store.db.execute("DELETE FROM node WHERE id = ?", (row["id"],))
            store.note(user, row["id"], "Purge")
