"""What the Extended ECM stand-in keeps: nodes, versions, categories, classifications, people and an audit trail.

SQLite for the facts and one file per version for the content, both below one folder, so that a restart forgets nothing. Where a
rule of the real server is documented, the refusal here carries its status and text.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from tests.sandbox.ecm_wire import Refusal, Upload, truth, whole

RIGHTS = (
    "see",
    "see_contents",
    "modify",
    "edit_attributes",
    "add_items",
    "reserve",
    "add_major_version",
    "delete_versions",
    "delete",
    "edit_permissions",
)
ALL_RIGHTS = (1 << len(RIGHTS)) - 1

FOLDER, SHORTCUT, WORKFLOW, CATEGORY, CATEGORY_FOLDER, URL, DOCUMENT = 0, 1, 128, 131, 132, 140, 144
CLASS_TREE, CLASS, HOLD = 196, 199, 833
TYPE_NAMES = {
    FOLDER: "Folder",
    SHORTCUT: "Shortcut",
    WORKFLOW: "Workflow Map",
    CATEGORY: "Category",
    CATEGORY_FOLDER: "Category Folder",
    133: "Categories Volume",
    136: "Compound Document",
    URL: "URL",
    141: "Enterprise Workspace",
    142: "Personal Workspace",
    DOCUMENT: "Document",
    CLASS_TREE: "Classification Tree",
    198: "Classification Volume",
    CLASS: "Classification",
    202: "Project",
    206: "Task",
    298: "Collection",
    525: "Transport Warehouse",
    550: "Records Management",
    749: "Email",
    751: "Email Folder",
    HOLD: "Hold",
    848: "Business Workspace",
    862: "Business Workspaces",
    20541: "Content Server Document Templates",
}
VOLUMES = (133, 141, 198, 525, 550, 862, 20541)
CONTAINERS = frozenset((FOLDER, CATEGORY_FOLDER, 136, CLASS_TREE, CLASS, 202, 298, 751, 848, 899, *VOLUMES, 142))
CREATABLE = frozenset(
    (FOLDER, SHORTCUT, WORKFLOW, CATEGORY_FOLDER, 136, URL, DOCUMENT, CLASS_TREE, CLASS, 202, 206, 298, 751, HOLD)
)
ENTERPRISE_ID = 2000
ADMIN_ID = 1000
DEFAULT_GROUP_ID = 1001
LONGEST_NAME = 248

# OpenText's client shows 9, 10, 92, 264 and 6000; the other numbers are ours.
AUDIT_EVENTS = {
    1: "Create",
    2: "Delete",
    3: "Rename",
    4: "Move",
    5: "Add Version",
    6: "Fetch",
    7: "Reserve",
    8: "Unreserve",
    9: "Permissions Changed",
    10: "Attribute Values Changed",
    11: "Modified",
    13: "Classification Removed",
    14: "Version Deleted",
    31: "Restore",
    32: "Purge",
    33: "Version Locked",
    34: "Version Unlocked",
    92: "Create from Copy",
    264: "Classification Applied",
    6000: "Shared",
    6001: "Share Stopped",
}
EVENT_IDS = {name: number for number, name in AUDIT_EVENTS.items()}

SCHEMA = """
CREATE TABLE IF NOT EXISTS node (
    id INTEGER PRIMARY KEY, parent_id INTEGER NOT NULL, volume_id INTEGER NOT NULL, type INTEGER NOT NULL,
    name TEXT NOT NULL, name_key TEXT NOT NULL, description TEXT NOT NULL DEFAULT '',
    create_date TEXT NOT NULL, create_user_id INTEGER NOT NULL, modify_date TEXT NOT NULL, modify_user_id INTEGER NOT NULL,
    changed REAL NOT NULL, owner_user_id INTEGER, owner_group_id INTEGER, acl TEXT NOT NULL,
    children INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL DEFAULT 0, mime_type TEXT,
    next_version INTEGER NOT NULL DEFAULT 1, versions_control_advanced INTEGER NOT NULL DEFAULT 0,
    external_create_date TEXT, external_modify_date TEXT, external_source TEXT NOT NULL DEFAULT '',
    external_identity TEXT NOT NULL DEFAULT '', external_identity_type TEXT NOT NULL DEFAULT '',
    reserved_user_id INTEGER NOT NULL DEFAULT 0, reserved_date TEXT, url TEXT, original_id INTEGER,
    token INTEGER NOT NULL DEFAULT 0, guid TEXT NOT NULL, deleted INTEGER NOT NULL DEFAULT 0, deleted_date TEXT,
    deleted_user_id INTEGER);
CREATE UNIQUE INDEX IF NOT EXISTS node_name ON node(parent_id, name_key) WHERE deleted = 0;
CREATE TABLE IF NOT EXISTS version (
    node_id INTEGER NOT NULL, number INTEGER NOT NULL, version_id INTEGER NOT NULL, name TEXT NOT NULL, file_name TEXT NOT NULL,
    file_size INTEGER NOT NULL, mime_type TEXT NOT NULL, description TEXT, create_date TEXT NOT NULL, owner_id INTEGER NOT NULL,
    external_create_date TEXT, external_modify_date TEXT, external_source TEXT NOT NULL DEFAULT '',
    external_identity TEXT NOT NULL DEFAULT '', external_identity_type TEXT NOT NULL DEFAULT '',
    major INTEGER NOT NULL, minor INTEGER NOT NULL, number_name TEXT NOT NULL, locked_user_id INTEGER, locked_date TEXT,
    PRIMARY KEY (node_id, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS member (
    id INTEGER PRIMARY KEY, type INTEGER NOT NULL, name TEXT NOT NULL, password TEXT NOT NULL DEFAULT '', group_id INTEGER,
    details TEXT NOT NULL DEFAULT '{}', deleted INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS membership (
    group_id INTEGER NOT NULL, member_id INTEGER NOT NULL, PRIMARY KEY (group_id, member_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER PRIMARY KEY, node_id INTEGER NOT NULL, event INTEGER NOT NULL, date TEXT NOT NULL, user_id INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS audit_node ON audit(node_id);
CREATE TABLE IF NOT EXISTS secret (value BLOB NOT NULL);
"""

SEED: dict[str, Any] = {
    "users": [{"name": "Admin", "password": "livelink", "groups": []}],
    "groups": [{"name": "DefaultGroup"}],
    "folders": [],
    "categories": [
        {
            "path": "Partner Exchange/Partner Document",
            "attributes": [
                {"name": "Partner ID"},
                {"name": "Document Date", "type": "Date"},
                {"name": "Tags", "multi": True},
                {
                    "name": "Lines",
                    "columns": [{"name": "SKU"}, {"name": "Description"}, {"name": "Quantity", "type": "Integer"}],
                },
                {"name": "Reference"},
                {"name": "SHA-256", "length": 64},
                {"name": "Source Path", "length": 1024},
                {"name": "Received", "type": "Date"},
                {"name": "Keep Until", "type": "Date"},
            ],
        }
    ],
    "record_classes": ["File Plan/Contracts", "File Plan/Invoices", "File Plan/Price Lists", "File Plan/Audits"],
    "hold_folders": ["Hold Maintenance"],
    "workflows": ["Process Library/Document Approval"],
    "document_templates": ["Blank Document.txt"],
}
"""What no REST call creates. A ``--config`` file replaces whole entries of it; paths are below their volume."""


class Grant(NamedTuple):
    """One line of a node's permissions. ``kind`` is owner, group, public or custom."""

    kind: str
    right_id: int | None
    mask: int


def volume_id(volume: int) -> int:
    """The node that a volume is: fixed, so that it is the same after every start."""
    return ENTERPRISE_ID if volume == 141 else volume + 2000


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def mask_of(names: Iterable[str]) -> int:
    """Permission names as bits. ``Refusal`` for a name that is none."""
    try:
        return sum({1 << RIGHTS.index(name) for name in names})
    except ValueError as error:
        raise Refusal(400, f"Invalid permission: {error}") from error


def names_of(mask: int) -> list[str]:
    return [name for bit, name in enumerate(RIGHTS) if mask >> bit & 1]


@lru_cache(maxsize=4096)
def grants_of(acl: str) -> tuple[Grant, ...]:
    return tuple(Grant(*grant) for grant in json.loads(acl))


def local(date: object) -> str | None:
    """A date as ``external_*`` keeps it: no zone. ``Refusal`` where it is no date."""
    if date in (None, ""):
        return None
    try:
        return datetime.fromisoformat(str(date)).strftime("%Y-%m-%dT%H:%M:%S")
    except ValueError as error:
        raise Refusal(400, f"Invalid date: {date}") from error


def missing(node_id: object) -> Refusal:
    return Refusal(400, f"Could not get a node for {node_id}")


class Store:
    """One repository in one folder. Not for several threads: the server asks from its event loop only."""

    def __init__(self, folder: Path, seed: Mapping[str, Any] | None = None, schemas: Iterable[str] = ()) -> None:
        self.folder = folder
        self.incoming = folder / "incoming"
        shutil.rmtree(self.incoming, ignore_errors=True)  # halves of uploads that a stop interrupted
        self.incoming.mkdir(parents=True)
        (folder / "content").mkdir(exist_ok=True)
        self.db = sqlite3.connect(folder / "ecm.sqlite", isolation_level=None, check_same_thread=False)
        self.db.row_factory = sqlite3.Row
        # A stand-in may lose its last second in a power cut; it must not cost the programs it serves their speed.
        self.db.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536;" + SCHEMA + "".join(schemas)
        )
        self._guards: list[Callable[[str, sqlite3.Row], None]] = []
        self._groups: dict[int, frozenset[int]] = {}
        self._definitions: dict[int, list[dict[str, Any]]] = {}
        if not self.db.execute("SELECT 1 FROM secret").fetchone():
            self.db.execute("INSERT INTO secret VALUES (?)", (secrets.token_bytes(32),))
        # What was purged lives on in the audit trail: its id is not given to anything else.
        highest = self.db.execute(
            """SELECT max(coalesce((SELECT max(id) FROM node), 0), coalesce((SELECT max(version_id) FROM version), 0),
               coalesce((SELECT max(node_id) FROM audit), 0))"""
        ).fetchone()[0]
        self._next_id = max(10_000, max(map(volume_id, VOLUMES)) + 1, (highest or 0) + 1)
        highest = self.db.execute("SELECT max(id) FROM member").fetchone()[0]
        self._next_member = max(1002, (highest or 0) + 1)
        self.seed: Mapping[str, Any] = {**SEED, **(seed or {})}
        with self.transaction():
            self._plant(self.seed)

    @property
    def secret(self) -> bytes:
        return bytes(self.db.execute("SELECT value FROM secret").fetchone()[0])

    def close(self) -> None:
        self.db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    # ----------------------------------------------------------------------------------------- seed

    def _plant(self, seed: Mapping[str, Any]) -> None:
        """Make sure that everything of the seed is there; what was changed or added since stays."""
        for group in seed["groups"]:
            self._ensure_member(1, group["name"], {}, DEFAULT_GROUP_ID if group["name"] == "DefaultGroup" else None)
        for user in seed["users"]:
            details = {key: value for key, value in user.items() if key not in ("name", "groups")}
            member_id = self._ensure_member(0, user["name"], details, ADMIN_ID if user["name"] == "Admin" else None)
            for name in user.get("groups", []):
                group = self.member_named(name, 1)
                if group:
                    self.join(group["id"], member_id)
        for volume in VOLUMES:
            if not self.volume(volume):
                name = "Enterprise" if volume == 141 else TYPE_NAMES[volume]
                self._insert(
                    volume_id(volume),
                    -1,
                    volume,
                    name,
                    ADMIN_ID,
                    acl=self._first_acl(),
                    volume_id=None,
                )
        for path in seed["folders"]:
            self._ensure(141, path, FOLDER, FOLDER)
        for category in seed["categories"]:
            node_id = self._ensure(133, category["path"], CATEGORY_FOLDER, CATEGORY)
            self.db.execute(
                "INSERT OR REPLACE INTO definition VALUES (?, ?)",
                (node_id, json.dumps(number_attributes(category["attributes"]))),
            )
        for path in seed["record_classes"]:
            self._ensure(198, path, CLASS_TREE, CLASS)
        for path in seed["hold_folders"]:
            self._ensure(550, path, FOLDER, FOLDER)
        for path in seed["workflows"]:
            self._ensure(141, path, FOLDER, WORKFLOW)
        for path in seed["document_templates"]:
            self._ensure(20541, path, FOLDER, DOCUMENT)

    def _first_acl(self) -> str:
        group = mask_of(RIGHTS) & ~mask_of(("delete", "edit_permissions"))
        grants = [
            ("owner", ADMIN_ID, ALL_RIGHTS),
            ("group", DEFAULT_GROUP_ID, group),
            ("public", None, mask_of(("see", "see_contents"))),
        ]
        return json.dumps(grants)

    def _ensure(self, volume: int, path: str, folder_type: int, last_type: int) -> int:
        """The node at a path below a volume, created as far as it is missing."""
        parent = self.volume(volume)
        if parent is None:
            raise ValueError(f"no volume {volume}")
        parts = path.split("/")
        for position, name in enumerate(parts):
            found = self.child(parent["id"], name)
            if found is None:
                kind = last_type if position == len(parts) - 1 else folder_type
                node_id = self.create(ADMIN_ID, parent["id"], kind, name)
                if kind == DOCUMENT:
                    empty = self.incoming / "template"
                    empty.write_bytes(b"")
                    self.add_version(ADMIN_ID, self.row(node_id), Upload(empty, name, "text/plain"), {})
                found = self.row(node_id)
            parent = found
        return int(parent["id"])

    def _ensure_member(self, kind: int, name: str, details: Mapping[str, Any], member_id: int | None) -> int:
        found = self.member_named(name, kind)
        return int(found["id"]) if found else self.add_member(kind, name, details, member_id)

    # ----------------------------------------------------------------------------------------- people

    def member(self, member_id: int) -> sqlite3.Row:
        row: sqlite3.Row | None = self.db.execute("SELECT * FROM member WHERE id = ? AND deleted = 0", (member_id,)).fetchone()
        if row is None:
            raise Refusal(400, f"Could not get a member for {member_id}")
        return row

    def member_named(self, name: str, kind: int | None = None) -> sqlite3.Row | None:
        """Login names are compared without case."""
        found: sqlite3.Row | None = self.db.execute(
            "SELECT * FROM member WHERE lower(name) = lower(?) AND deleted = 0 AND (? IS NULL OR type = ?)", (name, kind, kind)
        ).fetchone()
        return found

    def members(self, kind: int | None = None) -> list[sqlite3.Row]:
        return self.db.execute(
            "SELECT * FROM member WHERE deleted = 0 AND (? IS NULL OR type = ?) ORDER BY id", (kind, kind)
        ).fetchall()

    def add_member(self, kind: int, name: str, details: Mapping[str, Any], member_id: int | None = None) -> int:
        if not name or self.member_named(name):
            raise Refusal(500, f"A user or group with the name '{name}' already exists." if name else "A name is required.")
        if member_id is None:
            member_id, self._next_member = self._next_member, self._next_member + 1
        details = dict(details)
        password = str(details.pop("password", ""))
        group = whole("group_id", details.pop("group_id", None) or DEFAULT_GROUP_ID) if kind == 0 else None
        self.db.execute(
            "INSERT INTO member (id, type, name, password, group_id, details) VALUES (?, ?, ?, ?, ?, ?)",
            (member_id, kind, name, password, group, json.dumps(details)),
        )
        if group:
            self.join(group, member_id)
        return member_id

    def change_member(self, member: sqlite3.Row, details: Mapping[str, Any]) -> None:
        details = dict(details)
        name = str(details.pop("name", member["name"]))
        password = str(details.pop("password", member["password"]))
        group = details.pop("group_id", member["group_id"])
        self.db.execute(
            "UPDATE member SET name = ?, password = ?, group_id = ?, details = ? WHERE id = ?",
            (name, password, group, json.dumps(json.loads(member["details"]) | details), member["id"]),
        )

    def remove_member(self, member_id: int) -> None:
        self.db.execute("UPDATE member SET deleted = 1 WHERE id = ?", (member_id,))
        self._groups.clear()

    def join(self, group_id: int, member_id: int) -> None:
        self.db.execute("INSERT OR IGNORE INTO membership VALUES (?, ?)", (group_id, member_id))
        self._groups.clear()

    def leave(self, group_id: int, member_id: int) -> None:
        self.db.execute("DELETE FROM membership WHERE group_id = ? AND member_id = ?", (group_id, member_id))
        self._groups.clear()

    def group_members(self, group_id: int) -> list[sqlite3.Row]:
        return self.db.execute(
            "SELECT member.* FROM member JOIN membership ON member_id = id WHERE membership.group_id = ? AND deleted = 0 ORDER BY id",
            (group_id,),
        ).fetchall()

    def groups_of(self, member_id: int) -> frozenset[int]:
        """All groups a member is in, through groups in groups too."""
        if member_id not in self._groups:
            found: set[int] = set()
            waiting = [member_id]
            while waiting:
                rows = self.db.execute("SELECT group_id FROM membership WHERE member_id = ?", (waiting.pop(),)).fetchall()
                fresh = {row[0] for row in rows} - found
                found |= fresh
                waiting.extend(fresh)
            self._groups[member_id] = frozenset(found)
        return self._groups[member_id]

    # ----------------------------------------------------------------------------------------- rights

    def rights(self, user: int, node: sqlite3.Row) -> int:
        """What this user or group may do with a node, as bits."""
        if user == ADMIN_ID:
            return ALL_RIGHTS
        groups = self.groups_of(user)
        mask = 0
        for kind, right_id, bits in grants_of(node["acl"]):
            if kind == "public" or right_id == user or right_id in groups:
                mask |= bits
        return mask

    def may(self, user: int, node: sqlite3.Row, right: str) -> bool:
        return bool(self.rights(user, node) >> RIGHTS.index(right) & 1)

    def need(self, user: int, node: sqlite3.Row, right: str) -> None:
        if not self.may(user, node, right):
            raise Refusal(500, f"Insufficient permissions to perform this action on the item '{node['name']}' ({right}).")

    def set_grants(
        self, user: int, node: sqlite3.Row, change: Mapping[tuple[str, int | None], int | None], apply_to: int
    ) -> None:
        """Set or (None) remove lines of the permissions, here (0), below (1), both (2), or here and one level below (3)."""
        if apply_to not in (0, 1, 2, 3) or (apply_to and node["type"] not in CONTAINERS):
            raise Refusal(400, "Invalid value for parameter apply_to")
        targets = [] if apply_to == 1 else [node]
        if apply_to == 3:
            targets += self.children(node["id"])
        elif apply_to:
            targets += self.below(node["id"])
        for target in targets:
            self.need(user, target, "edit_permissions")
            grants = {
                (kind, right_id if kind == "custom" else 0): Grant(kind, right_id, mask)
                for kind, right_id, mask in grants_of(target["acl"])
            }
            for (kind, right_id), mask in change.items():
                key = (kind, right_id if kind == "custom" else 0)
                if mask is None:
                    grants.pop(key, None)
                else:
                    grants[key] = Grant(kind, right_id or (grants[key].right_id if key in grants else None), mask)
            self.db.execute("UPDATE node SET acl = ? WHERE id = ?", (json.dumps(list(grants.values())), target["id"]))
            self.note(user, target["id"], "Permissions Changed")

    def guard(self, allow: Callable[[str, sqlite3.Row], None]) -> None:
        """Ask before a node is lost in part or as a whole. ``allow("delete" | "purge" | "drop version", node)`` raises ``Refusal``."""
        self._guards.append(allow)

    def allow(self, act: str, node: sqlite3.Row) -> None:
        for allow in self._guards:
            allow(act, node)

    def need_unreserved(self, user: int, node: sqlite3.Row) -> None:
        """Only who has reserved a node may change it."""
        if node["reserved_user_id"] not in (0, user):
            raise Refusal(500, f"The item '{node['name']}' is reserved by another user.")

    # ----------------------------------------------------------------------------------------- nodes

    def row(self, node_id: int) -> sqlite3.Row:
        """A node that exists, whoever asks."""
        found: sqlite3.Row | None = self.db.execute(
            "SELECT * FROM node WHERE id = ? AND deleted = 0", (abs(node_id),)
        ).fetchone()
        if found is None:
            raise missing(node_id)
        return found

    def node(self, user: int, node_id: int) -> sqlite3.Row:
        """A node that this user sees. One that is invisible answers as one that is missing."""
        found = self.row(node_id)
        if not self.may(user, found, "see"):
            raise missing(node_id)
        return found

    def child(self, parent_id: int, name: str) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self.db.execute(
            "SELECT * FROM node WHERE parent_id = ? AND name_key = ? AND deleted = 0", (parent_id, name.casefold())
        ).fetchone()
        return found

    def children(self, parent_id: int) -> list[sqlite3.Row]:
        return self.db.execute("SELECT * FROM node WHERE parent_id = ? AND deleted = 0", (parent_id,)).fetchall()

    def below(self, node_id: int) -> list[sqlite3.Row]:
        """Everything under a node."""
        return self.db.execute(
            """WITH RECURSIVE under(id) AS (SELECT id FROM node WHERE parent_id = ? AND deleted = 0
               UNION ALL SELECT node.id FROM node JOIN under ON node.parent_id = under.id WHERE node.deleted = 0)
               SELECT node.* FROM node JOIN under ON node.id = under.id""",
            (node_id,),
        ).fetchall()

    def ancestors(self, node: sqlite3.Row) -> list[sqlite3.Row]:
        """From the volume down to the node itself."""
        chain = [node]
        while chain[-1]["parent_id"] > 0:
            chain.append(self.row(chain[-1]["parent_id"]))
        return chain[::-1]

    def volume(self, kind: int) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self.db.execute("SELECT * FROM node WHERE type = ? AND parent_id = -1", (kind,)).fetchone()
        return found

    def volumes(self) -> list[sqlite3.Row]:
        return self.db.execute("SELECT * FROM node WHERE parent_id = -1 ORDER BY id").fetchall()

    def personal(self, user: int) -> sqlite3.Row:
        """The personal workspace, made when first asked for."""
        found: sqlite3.Row | None = self.db.execute(
            "SELECT * FROM node WHERE type = 142 AND owner_user_id = ? AND parent_id = -2", (user,)
        ).fetchone()
        if found:
            return found
        node_id = self._new_id()
        acl = json.dumps([("owner", user, ALL_RIGHTS)])
        self._insert(node_id, -2, 142, f"{self.member(user)['name']}'s workspace", user, acl=acl, volume_id=None)
        return self.row(node_id)

    def listing(
        self, user: int, parent: sqlite3.Row, where: str, values: list[Any], order: str, start: int, limit: int
    ) -> tuple[int, list[sqlite3.Row]]:
        """One page of what this user sees in a container, and how much there is in all."""
        query = f"FROM node WHERE parent_id = ? AND deleted = 0{where}"
        values = [parent["id"], *values]
        if user == ADMIN_ID:
            total = parent["children"] if not where else self.db.execute(f"SELECT count(*) {query}", values).fetchone()[0]
            rows = self.db.execute(f"SELECT * {query} ORDER BY {order} LIMIT ? OFFSET ?", [*values, limit, start]).fetchall()
            return total, rows
        seen = [row for row in self.db.execute(f"SELECT * {query} ORDER BY {order}", values) if self.may(user, row, "see")]
        return len(seen), seen[start : start + limit]

    def create(self, user: int, parent_id: int, kind: int, name: str, *, collision: int = 500, **more: Any) -> int:
        """A new node without content. ``collision`` is the status for a taken name: it differs between v1 and v2."""
        parent = self.node(user, parent_id)
        if kind not in CREATABLE and kind != CATEGORY:
            raise Refusal(400, f"Invalid value for parameter type: {kind}")
        if parent["type"] not in CONTAINERS:
            raise Refusal(500, f"The item '{parent['name']}' cannot contain other items.")
        self.need(user, parent, "add_items")
        name = self._good_name(name)
        if self.child(parent["id"], name):
            raise Refusal(collision, f"An item with the name '{name}' already exists.")
        grants = [
            grant._replace(right_id=user, mask=ALL_RIGHTS) if grant.kind == "owner" else grant
            for grant in grants_of(parent["acl"])
        ]
        if not any(grant.kind == "owner" for grant in grants):
            grants.insert(0, Grant("owner", user, ALL_RIGHTS))
        node_id = self._new_id()
        more.setdefault("versions_control_advanced", parent["versions_control_advanced"])
        self._insert(node_id, parent["id"], kind, name, user, acl=json.dumps(grants), volume_id=parent["volume_id"], **more)
        self.db.execute("UPDATE node SET children = children + 1 WHERE id = ?", (parent["id"],))
        self.note(user, node_id, "Create")
        for row in self.db.execute(
            "SELECT * FROM applied_category WHERE node_id = ? AND inherited = 1", (parent["id"],)
        ).fetchall():
            self.db.execute("INSERT INTO applied_category VALUES (?, ?, ?, 1)", (node_id, row["category_id"], row["data"]))
        return node_id

    def rename(self, user: int, node: sqlite3.Row, parent_id: int, name: str) -> None:
        """Another name, another place, or both."""
        name = self._good_name(name)
        moved = parent_id != node["parent_id"]
        self.need(user, node, "delete" if moved else "modify")
        self.need_unreserved(user, node)
        parent = self.node(user, parent_id) if parent_id > 0 else None
        if moved:
            if parent is None or parent["type"] not in CONTAINERS:
                raise Refusal(500, "The item cannot be moved there.")
            self.need(user, parent, "add_items")
            if node["id"] in (row["id"] for row in self.ancestors(parent)):
                raise Refusal(500, "An item cannot be moved into itself.")
        taken = self.child(parent_id, name)
        if taken and taken["id"] != node["id"]:
            raise Refusal(500, f"An item with the name '{name}' already exists.")
        self.change(user, node["id"], name=name, name_key=name.casefold(), parent_id=parent_id)
        if moved:
            self.db.execute("UPDATE node SET children = children - 1 WHERE id = ?", (node["parent_id"],))
            self.db.execute("UPDATE node SET children = children + 1 WHERE id = ?", (parent_id,))
            self.note(user, node["id"], "Move")
        if name != node["name"]:
            self.note(user, node["id"], "Rename")

    def change(self, user: int, node_id: int, **columns: Any) -> None:
        """Set columns of a node, and who changed it when."""
        columns |= {"modify_date": now(), "modify_user_id": user, "changed": time.time()}
        assignments = ", ".join(f"{column} = ?" for column in columns)
        self.db.execute(f"UPDATE node SET {assignments}, token = token + 1 WHERE id = ?", [*columns.values(), node_id])

    def delete(self, user: int, node: sqlite3.Row) -> None:
        """Into the recycle bin, with everything below."""
        if node["parent_id"] < 0:
            raise Refusal(500, f"The volume '{node['name']}' cannot be deleted.")
        self.need(user, node, "delete")
        rows = (node, *self.below(node["id"]))
        for row in rows:
            self.need_unreserved(user, row)
            self.allow("delete", row)
        for row in rows:
            values = (node["id"], now(), user, row["id"])
            self.db.execute("UPDATE node SET deleted = ?, deleted_date = ?, deleted_user_id = ? WHERE id = ?", values)
            self.note(user, row["id"], "Delete")
        self.db.execute("UPDATE node SET children = children - 1 WHERE id = ?", (node["parent_id"],))

    def all_nodes(self, changed_before: float) -> Iterator[sqlite3.Row]:
        """What a search index that lags has seen."""
        yield from self.db.execute(
            "SELECT * FROM node WHERE deleted = 0 AND parent_id != -1 AND changed <= ?", (changed_before,)
        ).fetchall()

    def _good_name(self, name: str) -> str:
        name = name.strip()
        if not name:
            raise Refusal(400, "A name is required.")
        if ":" in name:
            raise Refusal(400, f"The name '{name}' contains an invalid character: ':'")
        if len(name) > LONGEST_NAME:
            raise Refusal(400, f"The name exceeds the maximum length of {LONGEST_NAME} characters.")
        return name

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _insert(
        self, node_id: int, parent_id: int, kind: int, name: str, user: int, *, acl: str, volume_id: int | None, **more: Any
    ) -> None:
        moment = now()
        owner_group = next((grant.right_id for grant in grants_of(acl) if grant.kind == "group"), DEFAULT_GROUP_ID)
        columns = {
            "id": node_id,
            "parent_id": parent_id,
            "volume_id": -node_id if volume_id is None else volume_id,
            "type": kind,
            "name": name,
            "name_key": name.casefold(),
            "create_date": moment,
            "create_user_id": user,
            "modify_date": moment,
            "modify_user_id": user,
            "changed": time.time(),
            "owner_user_id": user,
            "owner_group_id": owner_group,
            "acl": acl,
            "guid": str(uuid.uuid4()),
            **more,
        }
        marks = ", ".join("?" * len(columns))
        self.db.execute(f"INSERT INTO node ({', '.join(columns)}) VALUES ({marks})", list(columns.values()))

    # ----------------------------------------------------------------------------------------- versions

    def content_path(self, version_id: int) -> Path:
        return self.folder / "content" / f"{version_id // 1000}" / f"{version_id}"

    def add_version(self, user: int, node: sqlite3.Row, upload: Upload, more: Mapping[str, Any], *, major: bool = False) -> int:
        """Content for a document, as its newest version. Numbers are never used twice."""
        number = node["next_version"]
        version_id = node["id"] if number == 1 else self._new_id()
        columns = {
            "node_id": node["id"],
            "number": number,
            "version_id": version_id,
            "name": node["name"],
            "file_name": upload.file_name or node["name"],
            "file_size": upload.size,
            "mime_type": upload.mime_type,
            "create_date": now(),
            "owner_id": user,
            **self._numbered(node, number, major=major),
            **more,
        }
        marks = ", ".join("?" * len(columns))
        self.db.execute(f"INSERT INTO version ({', '.join(columns)}) VALUES ({marks})", list(columns.values()))
        self.change(user, node["id"], next_version=number + 1, size=upload.size, mime_type=upload.mime_type)
        path = self.content_path(version_id)
        try:
            upload.path.rename(path)
        except FileNotFoundError:
            path.parent.mkdir(parents=True)
            upload.path.rename(path)
        if number > 1:
            self.note(user, node["id"], "Add Version")
        return int(number)

    def _numbered(self, node: sqlite3.Row, number: int, *, major: bool) -> dict[str, int | str]:
        """Major and minor number of a new version. Under standard versioning every version is a minor one of 0."""
        if not node["versions_control_advanced"]:
            return {"major": 0, "minor": number, "number_name": str(number)}
        held = self.versions(node["id"])
        first, second = (held[-1]["major"], held[-1]["minor"]) if held else (0, 0)
        first, second = (first + 1, 0) if major else (first, second + 1)
        return {"major": first, "minor": second, "number_name": f"{first}.{second}"}

    def versions(self, node_id: int) -> list[sqlite3.Row]:
        """Oldest first."""
        return self.db.execute("SELECT * FROM version WHERE node_id = ? ORDER BY number", (node_id,)).fetchall()

    def version(self, node: sqlite3.Row, number: int | None) -> sqlite3.Row:
        """One version, or (None) the newest. A wrong number is the documented 500."""
        found: sqlite3.Row | None
        if number is None:
            query = "SELECT * FROM version WHERE node_id = ? ORDER BY number DESC LIMIT 1"
            found = self.db.execute(query, (node["id"],)).fetchone()
        else:
            found = self.db.execute("SELECT * FROM version WHERE node_id = ? AND number = ?", (node["id"], number)).fetchone()
        if found is None:
            raise Refusal(500, f"Could not find version {number or ''} of the item '{node['name']}'.")
        return found

    def drop_versions(self, user: int, node: sqlite3.Row, numbers: Iterable[int]) -> None:
        self.allow("drop version", node)
        for number in numbers:
            version = self.version(node, number)
            self.db.execute("DELETE FROM version WHERE node_id = ? AND number = ?", (node["id"], number))
            self.content_path(version["version_id"]).unlink(missing_ok=True)
            self.note(user, node["id"], "Version Deleted")
        newest = self.versions(node["id"])[-1:]
        if newest:
            self.change(user, node["id"], size=newest[0]["file_size"], mime_type=newest[0]["mime_type"])

    # ----------------------------------------------------------------------------------------- categories

    def definition(self, category_id: int) -> list[dict[str, Any]]:
        if category_id not in self._definitions:
            row = self.db.execute("SELECT attributes FROM definition WHERE id = ?", (category_id,)).fetchone()
            if row is None:
                raise Refusal(400, f"Could not get a category for {category_id}")
            self._definitions[category_id] = json.loads(row[0])
        return self._definitions[category_id]

    def categories(self, node_id: int) -> dict[int, dict[str, Any]]:
        """Category id -> its values under their plain keys (sets as lists of rows)."""
        rows = self.db.execute(
            "SELECT category_id, data FROM applied_category WHERE node_id = ? ORDER BY category_id", (node_id,)
        )
        return {row[0]: first_values(self.definition(row[0])) | json.loads(row[1]) for row in rows.fetchall()}

    def apply_category(self, user: int, node_id: int, category_id: int, given: Mapping[str, Any], *, new: bool) -> None:
        """Put a category on a node, or set values of one that is there.

        ``given`` uses the documented keys: ``{cat}_{att}``, ``{cat}_{set}_{row}_{att}``, ``{cat}_{set}_{row}=""`` to remove a row.
        """
        definition = self.definition(category_id)
        row = self.db.execute(
            "SELECT data FROM applied_category WHERE node_id = ? AND category_id = ?", (node_id, category_id)
        ).fetchone()
        if new and row:
            raise Refusal(400, "The category already exists on this item.")
        if not new and not row:
            raise Refusal(400, f"The category {category_id} is not applied to this item.")
        values = first_values(definition) | (json.loads(row[0]) if row else {})
        merge(category_id, definition, values, given)
        self.db.execute(
            """INSERT INTO applied_category (node_id, category_id, data) VALUES (?, ?, ?)
               ON CONFLICT (node_id, category_id) DO UPDATE SET data = excluded.data""",
            (node_id, category_id, json.dumps(values)),
        )
        self.change(user, node_id)
        self.note(user, node_id, "Attribute Values Changed")

    def remove_category(self, user: int, node_id: int, category_id: int) -> None:
        done = self.db.execute("DELETE FROM applied_category WHERE node_id = ? AND category_id = ?", (node_id, category_id))
        if not done.rowcount:
            raise Refusal(400, f"The category {category_id} is not applied to this item.")
        self.change(user, node_id)
        self.note(user, node_id, "Attribute Values Changed")

    def inherit_category(self, node_id: int, category_id: int, *, on: bool) -> None:
        query = "UPDATE applied_category SET inherited = ? WHERE node_id = ? AND category_id = ?"
        if not self.db.execute(query, (on, node_id, category_id)).rowcount:
            raise Refusal(400, f"The category {category_id} is not applied to this item.")

    # ----------------------------------------------------------------------------------------- classifications

    def classes(self, node_id: int) -> list[sqlite3.Row]:
        query = "SELECT node.* FROM node JOIN applied_class ON class_id = node.id WHERE node_id = ? AND deleted = 0"
        return self.db.execute(query, (node_id,)).fetchall()

    def classify(self, user: int, node_id: int, class_ids: Iterable[int]) -> None:
        """Exactly these classifications from now on."""
        class_ids = list(class_ids)
        for class_id in class_ids:
            if self.row(class_id)["type"] not in (CLASS, CLASS_TREE):
                raise Refusal(400, f"Not a classification: {class_id}")
        self.db.execute("DELETE FROM applied_class WHERE node_id = ?", (node_id,))
        self.db.executemany(
            "INSERT OR IGNORE INTO applied_class VALUES (?, ?)", [(node_id, class_id) for class_id in class_ids]
        )
        self.note(user, node_id, "Classification Applied" if class_ids else "Classification Removed")

    # ----------------------------------------------------------------------------------------- audit

    def note(self, user: int, node_id: int, event: str) -> None:
        self.db.execute(
            "INSERT INTO audit (node_id, event, date, user_id) VALUES (?, ?, ?, ?)", (node_id, EVENT_IDS[event], now(), user)
        )

    def trail(self, node_id: int) -> list[sqlite3.Row]:
        """Oldest first."""
        return self.db.execute("SELECT * FROM audit WHERE node_id = ? ORDER BY id", (node_id,)).fetchall()


# --------------------------------------------------------------------------------------------- category values


def number_attributes(described: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Attributes with their ids: from 2 on, a set before its columns."""
    number = 1
    attributes = []
    for attribute in described:
        number += 1
        numbered = {"id": number, "type": "String", "multi": False, "length": 254, "required": False, **attribute}
        if "columns" in attribute:
            numbered["columns"] = []
            for column in attribute["columns"]:
                number += 1
                numbered["columns"].append(
                    {"id": number, "type": "String", "multi": False, "length": 254, "required": False, **column}
                )
        attributes.append(numbered)
    return attributes


def first_values(definition: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A freshly applied category: nothing set, one empty row in every set."""
    return {
        str(attribute["id"]): [empty_row(attribute)] if "columns" in attribute else ([] if attribute["multi"] else None)
        for attribute in definition
    }


def empty_row(attribute: Mapping[str, Any]) -> dict[str, Any]:
    return {str(column["id"]): [] if column["multi"] else None for column in attribute["columns"]}


def merge(category_id: int, definition: list[dict[str, Any]], values: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Put values given under wire keys into ``values``. ``Refusal`` with 400 for a foreign key or a bad value."""
    by_id = {attribute["id"]: attribute for attribute in definition}
    removed: list[tuple[str, int]] = []
    for key, value in given.items():
        parts = key.split("_")
        if not all(part.isdigit() for part in parts) or int(parts[0]) != category_id or len(parts) < 2:
            raise Refusal(400, f"The attribute {key} does not belong to the category {category_id}.")
        attribute = by_id.get(int(parts[1]))
        if parts[1] == "1" and len(parts) == 2:
            continue  # the metadata token travels under this key
        if attribute is None:
            raise Refusal(400, f"The attribute {key} does not belong to the category {category_id}.")
        if "columns" not in attribute:
            if len(parts) != 2:
                raise Refusal(400, f"The attribute {key} is not a set.")
            values[parts[1]] = parsed(key, attribute, value)
        elif len(parts) == 2:
            rows = value if isinstance(value, list) else [value]
            values[parts[1]] = [set_row(key, attribute, row) for row in rows if isinstance(row, dict)] or [empty_row(attribute)]
        elif len(parts) == 3:
            removed.append((parts[1], int(parts[2])))
        elif len(parts) == 4:
            put_cell(key, attribute, values[parts[1]], int(parts[2]), int(parts[3]), value)
        else:
            raise Refusal(400, f"The attribute {key} does not belong to the category {category_id}.")
    for set_id, row in sorted(removed, reverse=True):
        if 1 <= row <= len(values[set_id]):
            del values[set_id][row - 1]
        if not values[set_id]:
            values[set_id].append(empty_row(by_id[int(set_id)]))
    for attribute in definition:
        if attribute["required"] and values[str(attribute["id"])] in (None, [], ""):
            raise Refusal(400, f"The attribute '{attribute['name']}' is required.")


def put_cell(
    key: str, attribute: Mapping[str, Any], rows: list[dict[str, Any]], row: int, column_id: int, value: object
) -> None:
    column = next((column for column in attribute["columns"] if column["id"] == column_id), None)
    if column is None or not 1 <= row <= 1000:
        raise Refusal(400, f"There is no attribute {key}.")
    while len(rows) < row:
        rows.append(empty_row(attribute))
    rows[row - 1][str(column_id)] = parsed(key, column, value)


def set_row(key: str, attribute: Mapping[str, Any], cells: Mapping[str, Any]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for cell, value in cells.items():
        put_cell(cell, attribute, rows, 1, int(re.sub(r".*_", "", cell) or 0), value)
    return rows[0] if rows else empty_row(attribute)


def parsed(key: str, attribute: Mapping[str, Any], value: object) -> Any:
    """A value as its attribute keeps it; "" and None clear it."""
    if attribute["multi"]:
        return [
            one_value(key, attribute, item)
            for item in (value if isinstance(value, list) else [value])
            if item not in ("", None)
        ]
    if isinstance(value, list):
        raise Refusal(400, f"The attribute {key} takes a single value.")
    return None if value in ("", None) else one_value(key, attribute, value)


def one_value(key: str, attribute: Mapping[str, Any], value: object) -> Any:
    if isinstance(value, dict):
        raise Refusal(400, f"The attribute {key} takes a plain value.")
    match attribute["type"]:
        case "Date":
            text = local(value)
            return f"{text[:10]}T00:00:00" if text else None
        case "Integer":
            return whole(key, value)
        case "Boolean":
            return truth(value)
        case _:
            if len(str(value)) > attribute["length"]:
                raise Refusal(400, f"The value of {key} exceeds the maximum length of {attribute['length']} characters.")
            return str(value)


def wire_values(category_id: int, definition: Iterable[Mapping[str, Any]], values: Mapping[str, Any]) -> dict[str, Any]:
    """All values under the keys of the wire."""
    flat: dict[str, Any] = {}
    for attribute in definition:
        held = values[str(attribute["id"])]
        if "columns" in attribute:
            for number, row in enumerate(held, 1):
                flat |= {f"{category_id}_{attribute['id']}_{number}_{column}": value for column, value in row.items()}
        else:
            flat[f"{category_id}_{attribute['id']}"] = held
    return flat
