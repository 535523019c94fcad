"""Reserved documents of the Extended ECM stand-in: who waits for one, what a user has reserved and has opened."""

from __future__ import annotations

from typing import Any

from tests.sandbox.ecm_shapes import described
from tests.sandbox.ecm_store import DOCUMENT, EVENT_IDS, Store, now
from tests.sandbox.ecm_wire import Api, Call, Faults, Refusal, envelope, page_of, paging

SCHEMA = """
CREATE TABLE IF NOT EXISTS reserve_request (
    node_id INTEGER NOT NULL, user_id INTEGER NOT NULL, date TEXT NOT NULL, PRIMARY KEY (node_id, user_id)) WITHOUT ROWID;
"""

MOST_ACCESSED = 25


def register(store: Store, faults: Faults, api: Api) -> None:
    Reservations(store, api).register()


class Reservations:
    """Reserving itself is a change of the node (``reserved_user_id``)."""

    def __init__(self, store: Store, api: Api) -> None:
        self.store = store
        self.api = api

    def register(self) -> None:
        api = self.api
        path = "/v2/reservemanagement/nodes/{node_id:int}"
        api.get(path)(self.status)
        api.post(path)(self.request)
        api.delete(path)(self.withdraw)
        api.get("/v2/members/reserved")(self.reserved)
        api.get("/v2/members/accessed")(self.accessed)

    def _node(self, call: Call, node_id: int) -> Any:
        try:
            node = self.store.node(call.user, node_id)
        except Refusal as refusal:  # one of the few that answer 404
            text = "The item you requested could not be accessed. Either it does not exist, or you do not have permission to access it."
            raise Refusal(404, text) from refusal
        if node["type"] != DOCUMENT:
            raise Refusal(400, "This node type does not support reserve management")
        return node

    def _reserved(self, call: Call, node_id: int) -> Any:
        node = self._node(call, node_id)
        if not node["reserved_user_id"]:
            raise Refusal(400, "This node is not reserved")
        return node

    def _waiting(self, node: Any) -> list[int]:
        rows = self.store.db.execute("SELECT user_id FROM reserve_request WHERE node_id = ? ORDER BY date", (node["id"],))
        return [row["user_id"] for row in rows.fetchall()]

    def status(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self._reserved(call, node_id)
        waiting = self._waiting(node)
        return {
            "data": {
                "already_requested": call.user in waiting,
                "num_users": len([user for user in waiting if user != call.user]),
                "reserved_by": self.store.member(node["reserved_user_id"])["name"],
                "reserved_date": node["reserved_date"],
            }
        }

    def request(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self._reserved(call, node_id)
        if call.user in self._waiting(node):
            raise Refusal(400, "Unable to request reservation, reservation request already exists")
        self.store.db.execute("INSERT INTO reserve_request VALUES (?, ?, ?)", (node["id"], call.user, now()))
        return {"ok": True}

    def withdraw(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self._node(call, node_id)
        if call.user not in self._waiting(node):
            raise Refusal(400, "Unable to delete reservation request, user is not in reservation queue")
        self.store.db.execute("DELETE FROM reserve_request WHERE node_id = ? AND user_id = ?", (node["id"], call.user))
        return {"ok": True}

    def reserved(self, call: Call) -> dict[str, Any]:
        """What the user has reserved."""
        query = "SELECT * FROM node WHERE reserved_user_id = ? AND deleted = 0"
        return self._page(call, self.store.db.execute(query, (call.user,)).fetchall(), most=1000)

    def accessed(self, call: Call) -> dict[str, Any]:
        """What the user opened last, newest first."""
        rows = self.store.db.execute(
            """SELECT node.* FROM node JOIN (SELECT node_id, max(id) AS last FROM audit WHERE user_id = ? AND event = ?
               GROUP BY node_id) ON node_id = id WHERE deleted = 0 ORDER BY last DESC LIMIT ?""",
            (call.user, EVENT_IDS["Fetch"], MOST_ACCESSED),
        ).fetchall()
        return self._page(call, rows, most=MOST_ACCESSED)

    def _page(self, call: Call, rows: list[Any], most: int) -> dict[str, Any]:
        name = (call.asked("where_name") or "").casefold()
        rows = [row for row in rows if name in row["name"].casefold() and self.store.may(call.user, row, "see")]
        sort = call.asked("sort")
        if sort:
            direction, _, column = sort.partition("_") if sort.startswith(("asc_", "desc_")) else ("asc", "_", sort)
            if column != "name":
                raise Refusal(400, f"Invalid value for parameter sort: {sort}")
            rows.sort(key=lambda row: row["name_key"], reverse=direction == "desc")
        page, limit = page_of(call, most, largest=most)
        collection = {"paging": paging(call, len(rows), page, limit), "sorting": {"sort": [{"key": "sort", "value": sort}]}}
        shown = [described(self.store, call, row) for row in rows[(page - 1) * limit : page * limit]]
        return envelope(call, shown, collection=collection)
