"""Shares of the Extended ECM stand-in: nodes shown to people outside, at Core Share, until a day.

No document tells which right sharing needs. Here it is a privilege of the account, ``privilege_share`` (a configured server gives
sharing to few too), and ``edit_permissions`` on the node.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

from tests.sandbox.ecm_people import member_properties
from tests.sandbox.ecm_store import Store
from tests.sandbox.ecm_wire import Api, Call, Faults, Refusal, envelope, truth, whole

SCHEMA = """
CREATE TABLE IF NOT EXISTS share (
    node_id INTEGER PRIMARY KEY, expire_date TEXT, initiator_role INTEGER NOT NULL, invitees TEXT NOT NULL,
    message TEXT NOT NULL, user_id INTEGER NOT NULL);
"""
ROLES = {1, 2, 3, 4}
"""Viewer, collaborator, manager, owner."""
NOT_SHARED = "Could not share the specified item"


def register(store: Store, faults: Faults, api: Api) -> None:
    Sharing(store).register(api)


def shares(store: Store) -> dict[int, dict[str, Any]]:
    """Node -> who outside sees it and until when; what has expired is none."""
    rows = store.db.execute("SELECT * FROM share WHERE expire_date IS NULL OR expire_date >= ?", (today().isoformat(),))
    return {row["node_id"]: {**dict(row), "invitees": json.loads(row["invitees"])} for row in rows.fetchall()}


def today() -> date:
    return datetime.now(UTC).date()


class Sharing:
    """Share and stop sharing."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def register(self, api: Api) -> None:
        api.post("/v2/shares")(self.share)
        api.delete("/v2/shares/{node_id:int}")(self.stop)

    def share(self, call: Call) -> dict[str, Any]:
        """Documented for JSON, sent by the public client as plain fields that hold JSON; named ``IDs`` or ``ids``."""
        self._need_privilege(call)
        ids = [whole("IDs", id) for id in call.many("IDs") or call.many("ids")]
        options, provider = call.object("shareOptions"), call.object("providerParams")
        expires = self._expires(options.get("expire_date"))
        role = whole("shareInitiatorRole", options.get("shareInitiatorRole", 1))
        invitees = [self._invitee(invitee) for invitee in provider.get("invitees") or []]
        if str(call.one("shareProvider")).upper() != "CORE" or role not in ROLES or not ids or not invitees:
            raise Refusal(500, NOT_SHARED)
        shared = []
        with self.store.transaction():
            for id in ids:
                try:
                    node = self.store.node(call.user, id)
                    self.store.need(call.user, node, "edit_permissions")
                except Refusal:
                    continue
                self.store.db.execute(
                    "INSERT OR REPLACE INTO share VALUES (?, ?, ?, ?, ?, ?)",
                    (id, expires, role, json.dumps(invitees), str(provider.get("sharing_message") or ""), call.user),
                )
                self.store.note(call.user, id, "Shared")
                shared.append(id)
        if not shared:
            raise Refusal(500, NOT_SHARED)
        partial = len(shared) < len(ids)
        return envelope(call, {"data": {"msg": f"{len(shared)} item(s) shared", "partial": partial}})

    def stop(self, call: Call, node_id: int) -> dict[str, Any]:
        self._need_privilege(call)
        node = self.store.node(call.user, node_id)
        self.store.need(call.user, node, "edit_permissions")
        if node["id"] not in shares(self.store):
            raise Refusal(500, "Could not delete the share")
        with self.store.transaction():
            self.store.db.execute("DELETE FROM share WHERE node_id = ?", (node["id"],))
            self.store.note(call.user, node["id"], "Share Stopped")
        return envelope(call, {"data": {}})

    def _need_privilege(self, call: Call) -> None:
        properties = member_properties(self.store, call.user)
        if not (properties["privilege_system_admin_rights"] or truth(properties.get("privilege_share", False))):
            raise Refusal(500, f"{NOT_SHARED}: insufficient privileges")

    def _expires(self, given: object) -> str | None:
        if given in (None, ""):
            return None
        try:
            day = date.fromisoformat(str(given)[:10])
        except ValueError as error:
            raise Refusal(500, NOT_SHARED) from error
        if day < today():
            raise Refusal(500, NOT_SHARED)
        return day.isoformat()

    def _invitee(self, given: dict[str, Any]) -> dict[str, Any]:
        mail, role = str(given.get("business_email") or given.get("id") or "").lower(), whole("perm", given.get("perm", 1))
        if "@" not in mail or role not in ROLES:
            raise Refusal(500, NOT_SHARED)
        return {"business_email": mail, "perm": role, "identityType": whole("identityType", given.get("identityType", 1))}
