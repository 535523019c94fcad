"""What the File 360 stand-in keeps: people, groups, folders, documents with versions, shares, comments, events.

Everything is a row, a plain dict with an ``id``, in a table in memory, written through to one SQLite file; the bytes of versions are
files beside it. Not for several threads: the server asks from its event loop only.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.sandbox.ecm_wire import Faults, Refusal, Upload

Row = dict[str, Any]

FOLDER, DOCUMENT = "folder", "document"
VIEWER, COLLABORATOR, MANAGER, OWNER = 1, 2, 3, 4
"""What somebody may do with a folder and all below it: view, download, comment, read the trail; and edit, upload, lock; and move,
delete, share; and everything."""
CONTENT_MANAGER, SHARES_OUTSIDE = 5, 7
"""Access roles of an account. The first is Core Share's own number; the second is ours."""
FORBIDDEN = '/\\:*?"<>|'
LONGEST_NAME = 255
FIRST_ID = 2_600_000_000_000_000_000

SEED: Mapping[str, Any] = {
    "tenant": "2157293035593927996",
    "domains": ["example.com"],
    "users": [
        {"email": "admin@example.com", "password": "admin", "firstName": "Ada", "lastName": "Admin", "isAdmin": True},
        {"email": "countersign@example.com", "password": "countersign", "firstName": "Countersign", "lastName": "Service"},
        {
            "email": "sender@example.com",
            "password": "sender",
            "firstName": "Countersign",
            "lastName": "Sender",
            "accessRoles": [SHARES_OUTSIDE],
        },
    ],
    "clients": {
        "countersign": {"secret": "countersign-secret", "user": "countersign@example.com"},
        "sender": {"secret": "sender-secret", "user": "sender@example.com"},
        "pyxecm": {"secret": "pyxecm-secret", "user": "admin@example.com"},
    },
    "groups": [{"name": "Marketing", "description": "All of marketing"}],
}


class Table(dict[int, Row]):
    """Rows by id. ``put`` after each change of one."""

    def __init__(self, name: str, database: sqlite3.Connection) -> None:
        self._name, self._database = name, database
        database.execute(f"CREATE TABLE IF NOT EXISTS {name} (id INTEGER PRIMARY KEY, row TEXT NOT NULL)")
        super().__init__((id, json.loads(row)) for id, row in database.execute(f"SELECT id, row FROM {name} ORDER BY id"))

    def put(self, row: Row) -> Row:
        self[row["id"]] = row
        self._database.execute(f"INSERT OR REPLACE INTO {self._name} VALUES (?, ?)", (row["id"], json.dumps(row)))
        return row

    def drop(self, id: int) -> None:
        self.pop(id, None)
        self._database.execute(f"DELETE FROM {self._name} WHERE id = ?", (id,))


class Store:
    """One tenant in one folder."""

    def __init__(self, folder: Path, faults: Faults, seed: Mapping[str, Any] | None = None) -> None:
        self.seed = {**SEED, **(seed or {})}
        self.faults = faults
        self.contents, self.incoming = folder / "content", folder / "incoming"
        shutil.rmtree(self.incoming, ignore_errors=True)
        for place in (self.contents, self.incoming):
            place.mkdir(parents=True, exist_ok=True)
        key = folder / "key"
        if not key.exists():
            key.write_bytes(secrets.token_bytes(32))
        self.secret = key.read_bytes()
        self._database = sqlite3.connect(folder / "file360.sqlite", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = MEMORY")
        self._database.execute("PRAGMA synchronous = OFF")
        self.users, self.groups, self.nodes, self.versions, self.links, self.replies, self.events = (
            Table(name, self._database) for name in ("users", "groups", "nodes", "versions", "links", "replies", "events")
        )
        self._tables = (self.users, self.groups, self.nodes, self.versions, self.links, self.replies, self.events)
        self._last = max((max(table, default=0) for table in self._tables), default=0) or FIRST_ID
        self._below: dict[int, set[int]] = {}
        self._named: dict[tuple[int, str], int] = {}
        self._ruled: set[int] = set()
        """Folders with a rule about what is in them."""
        self._told: dict[int, list[int]] = {}
        """By node: its events."""
        self._inside: dict[int, list[int]] = {}
        """By folder: the events in it and below it, of what was there then."""
        self._of: dict[int, list[int]] = {}
        """By document: its versions, oldest first."""
        for node in self.nodes.values():
            self._index(node)
        for event in self.events.values():
            self._remember(event)
        for version in self.versions.values():
            self._of.setdefault(version["node"], []).append(version["id"])
        if not self.users:
            self._plant()

    def close(self) -> None:
        self._database.close()

    def _plant(self) -> None:
        for user in self.seed["users"]:
            self.add_user(**{**user, "state": "enabled"})
        for group in self.seed["groups"]:
            self.add_group(**group)

    def new_id(self) -> int:
        self._last += 1
        return self._last

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time() + self.faults["clock-ahead"], UTC)

    def stamp(self) -> str:
        return told(self.now())

    # ----------------------------------------------------------------------------------------- people

    def add_user(self, **given: Any) -> Row:
        user = {
            "id": self.new_id(),
            "firstName": given.get("firstName", ""),
            "lastName": given.get("lastName", ""),
            "email": given["email"],
            "password": given.get("password"),
            "title": given.get("title", ""),
            "company": given.get("company", ""),
            "state": given.get("state", "pending"),
            "isAdmin": given.get("isAdmin", False),
            "accessRoles": given.get("accessRoles", []),
            "quota": given.get("quota", 10 * 1024**3),
            "created": self.stamp(),
            "invited": 1,
        }
        user["rootId"] = self.add_node(FOLDER, "Files", None, user["id"])["id"]
        return self.users.put(user)

    def add_group(self, name: str, description: str = "") -> Row:
        row = {"id": self.new_id(), "name": name, "description": description, "created": self.stamp(), "members": {}}
        return self.groups.put(row)

    def user_with(self, email: object) -> Row | None:
        wanted = str(email).casefold()
        return next((user for user in self.users.values() if user["email"].casefold() == wanted), None)

    def outside(self, email: str) -> bool:
        """True for an address that is not the tenant's own: a guest's."""
        return email.rpartition("@")[2].casefold() not in self.seed["domains"]

    def may(self, user: int, role: int) -> bool:
        return role in self.users[user]["accessRoles"]

    # ----------------------------------------------------------------------------------------- the tree

    def add_node(self, kind: str, name: str, parent: int | None, user: int, external: str | None = None) -> Row:
        now = self.stamp()
        node = {
            "id": self.new_id(),
            "kind": kind,
            "name": name,
            "parent": parent,
            "created": now,
            "createdBy": user,
            "modified": now,
            "modifiedBy": user,
            "deleted": None,
            "collaborators": {},
            "until": {},
            "locked": None,
            "holds": [],
            "retention": None,
            "externalData": external,
        }
        self._index(node)
        return self.nodes.put(node)

    def change(self, node: Row, user: int, **values: Any) -> None:
        """Change a node, and where it is found."""
        self._index(node, gone=True)
        node.update(values, modified=self.stamp(), modifiedBy=user)
        self._index(node)
        self.nodes.put(node)

    def _index(self, node: Row, *, gone: bool = False) -> None:
        parent, key = node["parent"], (node["parent"], node["name"].casefold())
        below = self._below.setdefault(parent, set())
        (self._ruled.add if node["retention"] and not gone else self._ruled.discard)(node["id"])
        if gone or node["deleted"]:
            below.discard(node["id"])
            if self._named.get(key) == node["id"]:
                del self._named[key]
        else:
            below.add(node["id"])
            self._named[key] = node["id"]

    def children(self, folder: int) -> list[Row]:
        return [self.nodes[id] for id in self._below.get(folder, ())]

    def child(self, folder: int, name: str) -> Row | None:
        """What has that name, whatever its case: clients that keep folders in step do so on file systems that ignore it."""
        found = self._named.get((folder, name.casefold()))
        return None if found is None else self.nodes[found]

    def line(self, node: Row) -> Iterator[Row]:
        """The node and what it is in, up to the root."""
        here: Row | None = node
        while here is not None:
            yield here
            here = None if here["parent"] is None else self.nodes[here["parent"]]

    def below(self, node: Row) -> Iterator[Row]:
        """The node and all that is in it and not in the trash."""
        yield node
        for child in self.children(node["id"]):
            yield from self.below(child)

    def deleted(self, node: Row) -> str | None:
        """Since when it is in the trash, itself or with a folder around it."""
        return next((one["deleted"] for one in self.line(node) if one["deleted"]), None)

    def owner(self, node: Row) -> int:
        *_, root = self.line(node)
        return int(root["createdBy"])

    def role(self, user: int, node: Row) -> int:
        """What somebody may do: the strongest of their own and their groups' roles on the node and on all folders around it."""
        if self.owner(node) == user:
            return OWNER
        mine = {f"user:{user}", *(f"group:{group['id']}" for group in self.groups.values() if str(user) in group["members"])}
        return max((role for one in self.line(node) for who, role in self.collaborators(one).items() if who in mine), default=0)

    def collaborators(self, node: Row) -> dict[str, int]:
        """Who may do what with it now: a share may end on its own."""
        until, now = node.get("until", {}), self.stamp()
        return {who: role for who, role in node["collaborators"].items() if until.get(who, "9") > now}

    def shown_outside(self, node: Row) -> bool:
        """True if anybody outside the tenant can see it: a guest, a group with a guest in it, or whoever has a link."""
        for one in self.line(node):
            for who in self.collaborators(one):
                kind, _, id = who.partition(":")
                users = [id] if kind == "user" else self.groups[int(id)]["members"]
                if any(self.outside(self.users[int(user)]["email"]) for user in users):
                    return True
            if any(link["node"] == one["id"] and self.open_link(link) for link in self.links.values()):
                return True
        return False

    def open_link(self, link: Row) -> bool:
        return bool(link["expiration"] is None or link["expiration"] > self.stamp())

    def holds(self, node: Row) -> list[Row]:
        return [{**hold, "inherited": one is not node} for one in self.line(node) for hold in one["holds"]]

    def kept_until(self, node: Row) -> str | None:
        """Until when a folder's rule forbids that it is deleted."""
        return max(
            (
                told(datetime.fromisoformat(node["created"]) + timedelta(days=one["retention"]["days"]))
                for one in self.line(node)
                if one["retention"] and one["retention"]["action"] == "keep"
            ),
            default=None,
        )

    def sweep(self) -> None:
        """Do what the folders' rules say about what has come of age. What is on hold stays."""
        for folder in [self.nodes[id] for id in self._ruled]:
            rule = folder["retention"]
            before = told(self.now() - timedelta(days=rule["days"]))
            for node in list(self.below(folder)):
                if node["kind"] == DOCUMENT and node["modified"] < before and rule["action"] != "keep" and not self.holds(node):
                    self.trash(node, self.owner(node))
                    if rule["action"] == "delete":
                        self.purge(node, self.owner(node))

    def trash(self, node: Row, user: int) -> None:
        self.change(node, user, deleted=self.stamp(), locked=None)
        self.note("Delete", user, node)

    def purge(self, node: Row, user: int) -> None:
        """For ever, with all that is in it."""
        for child in [one for one in self.nodes.values() if one["parent"] == node["id"]]:
            self.purge(child, user)
        self.note("Purge", user, node)
        for version in self._of.pop(node["id"], ()):
            self.versions.drop(version)
            (self.contents / str(version)).unlink(missing_ok=True)
        self._index(node, gone=True)
        self.nodes.drop(node["id"])

    def stock(self, files: Iterable[tuple[tuple[str, ...], bytes, Mapping[str, Any]]]) -> None:
        """Documents that stood there before anybody followed what happens: path with name, bytes, category values. In one go, untold."""
        user = self.user_with(self.seed["clients"]["countersign"]["user"])
        assert user is not None
        self._database.execute("BEGIN")
        for number, ((*folders, name), held, values) in enumerate(files):
            parent = user["rootId"]
            for folder in folders:
                parent = (self.child(parent, folder) or self.add_node(FOLDER, folder, parent, user["id"]))["id"]
            document = self.add_node(DOCUMENT, name, parent, user["id"])
            incoming = self.incoming / f"stock-{number}"
            incoming.write_bytes(held)
            known = json.dumps({"countersign": {"categories": values}}) if values else None
            self.add_version(document, user["id"], Upload(incoming, name, "application/pdf", len(held)), known)
        self._database.execute("COMMIT")

    # ----------------------------------------------------------------------------------------- versions

    def versions_of(self, node: Row) -> list[Row]:
        """Oldest first."""
        return [self.versions[id] for id in self._of.get(node["id"], ())]

    def add_version(self, node: Row, user: int, upload: Upload, external: str | None) -> Row:
        held = self.versions_of(node)
        version = {
            "id": self.new_id(),
            "node": node["id"],
            "number": held[-1]["number"] + 1 if held else 1,
            "name": node["name"],
            "size": upload.size,
            "mimeType": upload.mime_type,
            "created": self.stamp(),
            "createdBy": user,
            "externalData": external,
        }
        upload.path.rename(self.contents / str(version["id"]))
        self._of.setdefault(node["id"], []).append(version["id"])
        self.versions.put(version)
        self.change(node, user)
        return version

    # ----------------------------------------------------------------------------------------- events

    def note(self, kind: str, user: int, node: Row, detail: str = "", *, also_in: Iterable[int] = ()) -> None:
        """``also_in``: folders that it was in before, of what was moved."""
        event = {
            "id": self.new_id(),
            "type": kind,
            "actor": user,
            "at": self.stamp(),
            "ip": "127.0.0.1",
            "target": node["id"],
            "kind": node["kind"],
            "name": node["name"],
            "detail": detail,
            "inside": sorted({*also_in, *(one["id"] for one in self.line(node))}),
        }
        self._remember(self.events.put(event))

    def _remember(self, event: Row) -> None:
        self._told.setdefault(event["target"], []).append(event["id"])
        for folder in event["inside"]:
            self._inside.setdefault(folder, []).append(event["id"])

    def events_of(self, node: Row) -> list[Row]:
        """Oldest first."""
        return [self.events[id] for id in self._told.get(node["id"], ())]

    def events_in(self, folder: Row, since: int) -> list[Row]:
        """After an event, oldest first: of the folder, and of what was in it or below it when it happened."""
        found = self._inside.get(folder["id"], [])
        return [self.events[id] for id in found[bisect_right(found, since) :]]


def told(moment: datetime) -> str:
    """A date as the interface has it: ``2024-05-09T13:55:24.899Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def fit_name(name: object) -> str:
    """A name that a file may have. Raises ``Refusal``."""
    text = str(name or "")
    if not text.strip() or text != text.strip() or text in (".", "..") or len(text) > LONGEST_NAME:
        raise Refusal(400, "The name is empty, too long, or begins or ends with a blank")
    if any(char in FORBIDDEN or ord(char) < 32 for char in text):
        raise Refusal(400, f"A name may not contain any of {FORBIDDEN} or control characters")
    return text
