"""Folders, documents, versions, trash, locks, holds, retention, comments, audit trail, changes and search of the File 360 stand-in.

Which of these calls rest on public evidence and which are our decision is told, call by call, in ``docs/file360.md``.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from tests.sandbox.ecm_wire import Api, Call, Refusal, content
from tests.sandbox.file360_store import (
    COLLABORATOR,
    CONTENT_MANAGER,
    DOCUMENT,
    FOLDER,
    MANAGER,
    OWNER,
    SHARES_OUTSIDE,
    VIEWER,
    Row,
    Store,
    fit_name,
)

SEARCHED_BYTES = 1024 * 1024
KINDS = {"folders": FOLDER, "documents": DOCUMENT}


def ending(id: int | str) -> int:
    """By what a fault names an event: an id has more digits than a fault's number keeps."""
    return int(id) % 1_000_000_000


class Content:
    """What all these calls share: looking a node up for somebody, and describing it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def node(self, call: Call, id: str, kind: str | None, needs: int = VIEWER, *, trashed: bool = False) -> Row:
        """Raises ``Refusal``: 404 for what is not there or not visible, 403 for what the role does not allow."""
        store = self.store
        store.sweep()
        node = store.nodes.get(int(id)) if id.isascii() and id.isdecimal() else None
        role = 0 if node is None else store.role(call.user, node)
        if node is None or not role or (kind and node["kind"] != kind) or (store.deleted(node) and not trashed):
            raise Refusal(404, f"There is no such {kind or 'item'}: {id}")
        if role < needs:
            raise Refusal(403, f"Your role on {node['name']!r} does not allow this")
        return node

    def user(self, id: int) -> dict[str, Any]:
        user = self.store.users.get(id, {"firstName": "", "lastName": "", "email": "", "id": id})
        name = f"{user['firstName']} {user['lastName']}".strip()
        return {
            "id": str(id),
            "type": "user",
            "tenantId": self.store.seed["tenant"],
            "firstName": user["firstName"],
            "lastName": user["lastName"],
            "displayName": name,
            "email": user["email"],
            "uri": f"/api/v1/users/{id}",
        }

    def described(self, node: Row, user: int) -> dict[str, Any]:
        """A folder or document as lists have it."""
        store, folder = self.store, node["kind"] == FOLDER
        gone = store.deleted(node)
        about: dict[str, Any] = {
            "id": str(node["id"]),
            "name": node["name"],
            "size": 0,
            "created": node["created"],
            "lastModified": node["modified"],
            "shareCount": len(store.collaborators(node)),
            "isShared": bool(store.collaborators(node)),
            "isSharedExternally": store.shown_outside(node),
            "parentId": None if node["parent"] is None else str(node["parent"]),
            "uri": f"/api/v1/{node['kind']}s/{node['id']}",
            "commentCount": sum(reply["node"] == node["id"] for reply in store.replies.values()),
            "isDeleted": bool(gone),
            "deletedAt": gone,
            "locks": [node["locked"]] if node["locked"] else [],
            "createdBy": self.user(node["createdBy"]),
            "lastModifiedBy": self.user(node["modifiedBy"]),
            "owner": self.user(store.owner(node)),
            "permission": store.role(user, node),
            "resourceType": node["kind"],
            "externalData": node.get("externalData"),
            "retention": node["retention"],
            "isOnHold": bool(store.holds(node)),
        }
        if folder:
            return {**about, "childCount": len(store.children(node["id"]))}
        newest = store.versions_of(node)[-1]
        return {
            **about,
            "size": newest["size"],
            "mimeType": newest["mimeType"],
            "currentVersionNumber": newest["number"],
            "currentVersionId": str(newest["id"]),
            "externalData": newest["externalData"],
        }

    def version(self, version: Row) -> dict[str, Any]:
        return {
            "id": str(version["id"]),
            "label": str(version["number"]),
            "createdDate": version["created"],
            "createdBy": self.user(version["createdBy"]),
            "fileName": version["name"],
            "size": version["size"],
            "mimeType": version["mimeType"],
            "externalData": version["externalData"],
        }

    def place(self, call: Call, id: str) -> Row:
        """A folder that somebody may put something in. Where guests see it, that is sharing outside."""
        parent = self.node(call, id, FOLDER, COLLABORATOR)
        self.allow_outside(call, self.store.shown_outside(parent))
        return parent

    def allow_outside(self, call: Call, outside: bool) -> None:
        if outside and not self.store.may(call.user, SHARES_OUTSIDE):
            text = "This account may not share with anybody outside"
            raise Refusal(403, text, {"error": text, "code": "external"})

    def free(self, folder: int, name: str, node: Row | None = None) -> None:
        taken = self.store.child(folder, name)
        if taken is not None and taken is not node:
            raise Refusal(409, f"An item with the name '{taken['name']}' already exists")

    def not_locked(self, call: Call, node: Row) -> None:
        if node["locked"] and node["locked"]["user"] != str(call.user):
            raise Refusal(423, f"{node['name']!r} is locked by somebody else")


def page(call: Call, rows: list[Row], limit: int = 25) -> list[Row]:
    start = call.asked_number("offset", 0)
    return rows[start : start + min(call.asked_number("limit", limit), 500)]


def register(store: Store, api: Api, content_: Content) -> None:
    """Put the endpoints on ``api``."""
    folders(store, api, content_)
    documents(store, api, content_)
    both(store, api, content_)

    @api.get("/search/v1/resources")
    def search(call: Call) -> Any:
        words = (call.asked("q") or "").casefold().split()
        by_name = call.asked("in") == "name"
        found = []
        for node in list(store.nodes.values()):
            if node["kind"] != DOCUMENT or not words or store.deleted(node) or store.role(call.user, node) < VIEWER:
                continue
            said = node["name"] if by_name else says(store, node)
            if (" ".join(words) in said.casefold()) if by_name else all(word in said.casefold() for word in words):
                found.append(node)
        return {"results": [content_.described(node, call.user) for node in page(call, found)]}


def says(store: Store, node: Row) -> str:
    newest = store.versions_of(node)[-1]
    with (store.contents / str(newest["id"])).open("rb") as source:
        begin = source.read(SEARCHED_BYTES).decode("utf-8", "replace")
    return "\n".join((node["name"], newest["externalData"] or "", begin))


def folders(store: Store, api: Api, content_: Content) -> None:
    @api.post("/api/v1/folders")
    def create(call: Call) -> Any:
        parent, name = content_.place(call, call.text("parentId")), fit_name(call.text("name"))
        content_.free(parent["id"], name)
        folder = store.add_node(FOLDER, name, parent["id"], call.user, call.one("externalData"))
        store.note("Create", call.user, folder)
        return content_.described(folder, call.user)

    @api.get("/api/v1/folders/{id}")
    def get(call: Call, id: str) -> Any:
        return content_.described(content_.node(call, id, FOLDER, trashed=True), call.user)

    @api.get("/api/v1/folders/{id}/children")
    def children(call: Call, id: str) -> Any:
        folder = content_.node(call, id, FOLDER)
        kind, name = call.asked("filter", "any"), call.asked("name")
        found = store.children(folder["id"]) if name is None else [one for one in [store.child(folder["id"], name)] if one]
        found = [one for one in found if kind in ("any", one["kind"])]
        key, _, way = (call.asked("order") or "name:asc").partition(":")
        column = {"lastModified": "modified", "created": "created"}.get(key, "name")
        found.sort(key=lambda one: (one[column], one["id"]), reverse=way == "desc")
        return [content_.described(one, call.user) for one in page(call, found)]

    @api.put("/api/v1/folders/{id}/retention")
    def retain(call: Call, id: str) -> Any:
        folder = content_.node(call, id, FOLDER)
        steward(store, call, folder)
        action, days = call.text("action"), call.number("days", 0)
        if action not in ("trash", "delete", "keep", "none"):
            raise Refusal(400, "action is trash, delete, keep or none")
        store.change(folder, call.user, retention=None if action == "none" else {"days": days, "action": action})
        store.note("Retention", call.user, folder, f"{action} after {days} days")
        return content_.described(folder, call.user)

    @api.get("/api/v1/folders/{id}/library_changes")
    def changes(call: Call, id: str) -> Any:
        """What happened in a folder and all below it after an event; ``cursor`` is where to go on."""
        folder = content_.node(call, id, FOLDER)
        since = call.asked_number("since", 0)
        found = store.events_in(folder, since)[: min(call.asked_number("limit", 100), 500)]
        return {
            "changes": [event_of(content_, event) for event in found if ending(event["id"]) != store.faults["feed-hides"]],
            "cursor": str(found[-1]["id"] if found else since),
        }


def documents(store: Store, api: Api, content_: Content) -> None:
    @api.post("/api/v3/documents")
    def upload(call: Call) -> Any:
        sent = call.body.files.get("file")
        if sent is None:
            raise Refusal(400, "Missing part: file")
        parent, name = content_.place(call, call.text("parentId")), fit_name(sent.file_name)
        held = store.child(parent["id"], name)
        external = call.one("externalData")
        if held is None:
            document = store.add_node(DOCUMENT, name, parent["id"], call.user)
            store.add_version(document, call.user, sent, external)
            store.note("Create", call.user, document)
            return content_.described(document, call.user)
        if call.asked("collisionStrategy") != "overwrite" or held["kind"] != DOCUMENT:
            content_.free(parent["id"], name)
        content_.allow_outside(call, store.shown_outside(held))
        content_.not_locked(call, held)
        version = store.add_version(held, call.user, sent, external)
        store.note("Add Version", call.user, held, f"version {version['number']}")
        return content_.described(held, call.user)

    @api.get("/api/v1/documents/{id}")
    def get(call: Call, id: str) -> Any:
        return content_.described(content_.node(call, id, DOCUMENT, trashed=True), call.user)

    @api.get("/api/v1/documents/{id}/versions")
    def versions(call: Call, id: str) -> Any:
        return [content_.version(one) for one in store.versions_of(content_.node(call, id, DOCUMENT))]

    def download(call: Call, node: Row, version: Row) -> Response:
        store.note("Download", call.user, node, f"version {version['number']}")
        return content(store.contents / str(version["id"]), version["size"], version["name"], version["mimeType"])

    @api.get("/api/v1/documents/{id}/content")
    def newest(call: Call, id: str) -> Any:
        node = content_.node(call, id, DOCUMENT)
        return download(call, node, store.versions_of(node)[-1])

    @api.get("/api/v1/documents/{id}/preview")
    def view(call: Call, id: str) -> Any:
        """The newest version as somebody reads it in a browser: no download."""
        node = content_.node(call, id, DOCUMENT)
        version = store.versions_of(node)[-1]
        store.note("View", call.user, node, f"version {version['number']}")
        return content(store.contents / str(version["id"]), version["size"], version["name"], version["mimeType"])

    @api.get("/api/v1/documents/{id}/versions/{version}/content")
    def one_version(call: Call, id: str, version: str) -> Any:
        node = content_.node(call, id, DOCUMENT)
        found = next((one for one in store.versions_of(node) if str(one["id"]) == version), None)
        if found is None:
            raise Refusal(404, f"There is no such version: {version}")
        return download(call, node, found)

    @api.put("/api/v1/documents/{id}/lock")
    def lock(call: Call, id: str) -> Any:
        node = content_.node(call, id, DOCUMENT, COLLABORATOR)
        content_.not_locked(call, node)
        if not node["locked"]:
            store.change(node, call.user, locked={"user": str(call.user), "at": store.stamp()})
            store.note("Lock", call.user, node)
        return content_.described(node, call.user)

    @api.delete("/api/v1/documents/{id}/lock")
    def unlock(call: Call, id: str) -> Any:
        node = content_.node(call, id, DOCUMENT, COLLABORATOR)
        content_.not_locked(call, node)
        if node["locked"]:
            store.change(node, call.user, locked=None)
            store.note("Unlock", call.user, node)
        return content_.described(node, call.user)


def both(store: Store, api: Api, content_: Content) -> None:
    for word, kind in KINDS.items():
        changing(store, api, content_, word, kind)
        governed(store, api, content_, word, kind)

    @api.put("/api/v1/replies/{id}")
    def edit(call: Call, id: str) -> Any:
        reply = own_reply(store, call, id)
        reply["text"] = call.text("text")
        store.replies.put(reply)
        return reply_of(content_, reply)

    @api.delete("/api/v1/replies/{id}")
    def withdraw(call: Call, id: str) -> Any:
        store.replies.drop(own_reply(store, call, id)["id"])
        return {"success": True}


def changing(store: Store, api: Api, content_: Content, word: str, kind: str) -> None:
    @api.put(f"/api/v1/{word}/{{id}}")
    def change(call: Call, id: str) -> Any:
        """``state`` into the trash and back; ``name``; ``parentId``."""
        state = call.one("state")
        node = content_.node(call, id, kind, MANAGER, trashed=state == "active")
        if node["parent"] is None:
            raise Refusal(403, "This is where somebody's files begin")
        if state == "deleted":
            discard(call, node)
        elif state == "active":
            if not node["deleted"]:
                raise Refusal(409, f"{node['name']!r} is not in the trash")
            content_.free(node["parent"], node["name"])
            store.change(node, call.user, deleted=None)
            store.note("Restore", call.user, node)
        if (name := call.one("name")) is not None:
            content_.not_locked(call, node)
            content_.free(node["parent"], fit_name(name), node)
            store.note("Rename", call.user, node, f"from {node['name']}")
            store.change(node, call.user, name=str(name))
        if (goal := call.one("parentId")) is not None:
            parent = content_.place(call, str(goal))
            if any(one is node for one in store.line(parent)):
                raise Refusal(400, "A folder cannot be moved into itself")
            content_.free(parent["id"], node["name"], node)
            before = [one["id"] for one in store.line(node)]
            store.change(node, call.user, parent=parent["id"])
            store.note("Move", call.user, node, also_in=before)
        return content_.described(node, call.user)

    def discard(call: Call, node: Row) -> None:
        for one in store.below(node):
            content_.not_locked(call, one)
            if held := store.holds(one):
                raise Refusal(409, f"on hold: {held[0]['name']}", {"error": f"on hold: {held[0]['name']}", "code": "onHold"})
            if (until := store.kept_until(one)) and until > store.stamp():
                raise Refusal(409, f"kept until {until}", {"error": f"kept until {until}", "code": "retention"})
        store.trash(node, call.user)


def steward(store: Store, call: Call, node: Row) -> None:
    """Raises ``Refusal`` for who may not say what is kept."""
    if store.role(call.user, node) < OWNER and not store.may(call.user, CONTENT_MANAGER):
        raise Refusal(403, "Only owners and content managers say what is kept")


def governed(store: Store, api: Api, content_: Content, word: str, kind: str) -> None:
    @api.get(f"/api/v1/{word}/{{id}}/holds")
    def holds(call: Call, id: str) -> Any:
        return store.holds(content_.node(call, id, kind))

    @api.post(f"/api/v1/{word}/{{id}}/holds")
    def hold(call: Call, id: str) -> Any:
        """A hold of a name, once."""
        node, name = content_.node(call, id, kind), call.text("name")
        steward(store, call, node)
        if not any(one["name"] == name for one in node["holds"]):
            held = {"id": str(store.new_id()), "name": name, "comment": str(call.one("comment", "")), "since": store.stamp()}
            store.change(node, call.user, holds=[*node["holds"], held])
            store.note("Hold", call.user, node, name)
        return store.holds(node)

    @api.delete(f"/api/v1/{word}/{{id}}/holds/{{hold}}")
    def lift(call: Call, id: str, hold: str) -> Any:
        node = content_.node(call, id, kind)
        steward(store, call, node)
        left = [one for one in node["holds"] if one["id"] != hold]
        if left == node["holds"]:
            raise Refusal(404, f"There is no such hold: {hold}")
        store.change(node, call.user, holds=left)
        store.note("Hold lifted", call.user, node)
        return store.holds(node)

    @api.get(f"/api/v1/{word}/{{id}}/audit")
    def audit(call: Call, id: str) -> Any:
        """Newest first; what is in the trash too."""
        node = content_.node(call, id, kind, trashed=True)
        begins, hidden = store.faults["trail-begins"], store.faults["trail-hides"]
        told = [event for event in store.events_of(node)[::-1] if event["id"] >= begins and ending(event["id"]) != hidden]
        return [event_of(content_, event) for event in page(call, told, 100)]

    @api.get(f"/api/v1/{word}/{{id}}/replies")
    def replies(call: Call, id: str) -> Any:
        node = content_.node(call, id, kind)
        return [reply_of(content_, reply) for reply in store.replies.values() if reply["node"] == node["id"]]

    @api.post(f"/api/v1/{word}/{{id}}/replies")
    def reply(call: Call, id: str) -> Any:
        node = content_.node(call, id, kind)
        row = {"id": store.new_id(), "node": node["id"], "text": call.text("text"), "author": call.user, "at": store.stamp()}
        store.note("Comment", call.user, node)
        return reply_of(content_, store.replies.put(row))


def event_of(content_: Content, event: Row) -> dict[str, Any]:
    return {
        "id": str(event["id"]),
        "type": event["type"],
        "actor": content_.user(event["actor"]),
        "at": event["at"],
        "ip": event["ip"],
        "target": {"id": str(event["target"]), "resourceType": event["kind"], "name": event["name"]},
        "detail": event["detail"],
    }


def reply_of(content_: Content, reply: Row) -> dict[str, Any]:
    return {
        "id": str(reply["id"]),
        "text": reply["text"],
        "createdBy": content_.user(reply["author"]),
        "created": reply["at"],
    }


def own_reply(store: Store, call: Call, id: str) -> Row:
    reply = store.replies.get(int(id)) if id.isascii() and id.isdecimal() else None
    if reply is None or reply["author"] != call.user:
        raise Refusal(404, f"There is no such comment of yours: {id}")
    return reply
