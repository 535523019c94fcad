"""Records management of the Extended ECM stand-in: records with their details, retention schedules (RSIs), and legal holds.

A hold on a container holds everything in it. What is on hold cannot be deleted, and no version of it dropped or purged. Calls that
change holds are taken one at a time, as the real server wants them.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from tests.sandbox.ecm_shapes import node_properties
from tests.sandbox.ecm_store import CLASS, Store, local, now
from tests.sandbox.ecm_wire import Api, Call, Faults, Refusal, as_json, envelope, page_of, paging, truth, whole

SCHEMA = """
CREATE TABLE IF NOT EXISTS record (
    node_id INTEGER PRIMARY KEY, class_id INTEGER NOT NULL, details TEXT NOT NULL, token TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rsi (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE, details TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rsi_stage (
    id INTEGER PRIMARY KEY, rsi_id INTEGER NOT NULL, details TEXT NOT NULL, approved INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS hold (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE, type TEXT NOT NULL, comment TEXT NOT NULL,
    alternate_id TEXT NOT NULL, parent_id INTEGER, date_applied TEXT, date_to_remove TEXT, user_id INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS on_hold (
    node_id INTEGER NOT NULL, hold_id INTEGER NOT NULL, date TEXT NOT NULL, user_id INTEGER NOT NULL,
    PRIMARY KEY (node_id, hold_id)) WITHOUT ROWID;
"""

SCHEDULES: tuple[Mapping[str, Any], ...] = (
    {"name": "FIN-10", "title": "Financial records, ten years", "years": 10},
    {"name": "CON-6", "title": "Contracts, six years", "years": 6},
)
"""Planted where the seed says nothing under ``schedules``: approved, destroyed at the end."""
CODES = {
    "fileStatus": [{"code": code} for code in ("ACTIVE", "CLOSED", "CLOSEDSTATUS", "DESTROYED")],
    "essential": [{"code": code} for code in ("NR", "VITAL")],
    "storage": [{"code": code} for code in ("EL", "PAPER")],
}
DETAILS = (
    "rsi",
    "file_status",
    "status_date",
    "essential",
    "storage",
    "record_date",
    "received_date",
    "accession",
    "subject",
)
RETENTION = ("retentionYears", "retentionMonths", "retentionDays")


def register(store: Store, faults: Faults, api: Api) -> None:
    Records(store).register(api)
    Holds(store).register(api)
    schedules = Schedules(store)
    schedules.register(api)
    for schedule in store.seed.get("schedules", SCHEDULES):
        schedules.plant(schedule)


# --------------------------------------------------------------------------------------------- records


class Records:
    """Classifications of records management, with their metadata token."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def register(self, api: Api) -> None:
        path = "/v1/nodes/{node_id:int}/rmclassifications"
        api.get(path)(self.get)
        api.post(path)(self.declare)
        api.put(path)(self.update)
        api.delete(path + "/{class_id:int}")(self.undeclare)
        api.post(path + "/{class_id:int}/rsis")(self.assign_schedule)
        api.put("/v1/rmclassifications/finalizerecords")(self.finalize)

    def _held(self, node_id: int) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self.store.db.execute("SELECT * FROM record WHERE node_id = ?", (node_id,)).fetchone()
        return found

    def get(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        held = self._held(node["id"])
        data = []
        if held:
            empty = dict.fromkeys(
                ("rsi", "received_date", "cycle_period", "last_review_date", "next_review_date", "accession", "subject")
            )
            data.append(
                {
                    "inherited_rmclassification_id": None,
                    "default_rmclassification_id": None,
                    "multiple_classifications": [],
                    "rmclassification_id": held["class_id"],
                    "name": self.store.row(held["class_id"])["name"],
                    "file_number": f"{held['class_id']}",
                    **empty,
                    **json.loads(held["details"]),
                }
            )
        allowed = self.store.may(call.user, node, "edit_attributes")
        rights = dict.fromkeys(("canBeUnclassified", "canFinalize", "canRemoveClass", "canRMClassify"), allowed)
        volume = self.store.volume(198)
        return {
            **rights,
            "classVolumeID": int(volume["id"]) if volume else 0,
            "data": data,
            "definitions": {},
            "multiClass": False,
            "rm_metadataToken": held["token"] if held else "",
        }

    def declare(self, call: Call, node_id: int) -> dict[str, Any]:
        """Make a document a record; another class later needs the token."""
        node = self._to_change(call, node_id)
        class_id = call.number("class_id")
        targets = [node, *(self.store.below(node["id"]) if truth(call.one("apply_to_sub_items", False)) else [])]
        with self.store.transaction():
            for target in targets:
                held = self._held(target["id"])
                seen = str(call.one("rm_metadataToken") or "")
                token = held["token"] if held and target is not node else seen
                self._set(call.user, target["id"], class_id, self._details(call), token)
        return self.get(call, node_id)

    def update(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self._to_change(call, node_id)
        held = self._record(node)
        with self.store.transaction():
            token = str(call.one("rm_metadataToken") or "")
            self._set(call.user, node["id"], held["class_id"], self._details(call), token)
        return self.get(call, node_id)

    def undeclare(self, call: Call, node_id: int, class_id: int) -> dict[str, Any]:
        node = self._to_change(call, node_id)
        held = self._held(node["id"])
        if not held or held["class_id"] != class_id:
            raise Refusal(400, f"The item is not classified with {class_id}.")
        if (call.asked("rm_metadataToken") or str(call.one("rm_metadataToken") or "")) != held["token"]:
            raise Refusal(409, "Could not update metadata (edit conflict).")
        with self.store.transaction():
            self.store.db.execute("DELETE FROM record WHERE node_id = ?", (node["id"],))
            self.store.note(call.user, node["id"], "Classification Removed")
        return {"ok": True}

    def assign_schedule(self, call: Call, node_id: int, class_id: int) -> dict[str, Any]:
        node = self._to_change(call, node_id)
        held = self._record(node)
        if held["class_id"] != class_id:
            raise Refusal(400, f"The item is not classified with {class_id}.")
        rsi = call.text("rsi")
        with self.store.transaction():
            self._set(call.user, node["id"], class_id, {"rsi": rsi}, held["token"])
        return {"ok": True, "rsi": rsi}

    def finalize(self, call: Call) -> dict[str, Any]:
        nodes = [self._to_change(call, whole("ids", id)) for id in ids_of(call)]
        with self.store.transaction():
            for node in nodes:
                held = self._record(node)
                final = {"finalized": True, "official": True, "status_date": now()[:10] + "T00:00:00"}
                self._set(call.user, node["id"], held["class_id"], final, held["token"])
        return {"ok": True, "ids": [node["id"] for node in nodes]}

    def _to_change(self, call: Call, node_id: int) -> sqlite3.Row:
        node = self.store.node(call.user, node_id)
        self.store.need(call.user, node, "edit_attributes")
        return node

    def _record(self, node: sqlite3.Row) -> sqlite3.Row:
        held = self._held(node["id"])
        if held is None:
            raise Refusal(400, "The item has no records management classification.")
        return held

    def _set(self, user: int, node_id: int, class_id: int, details: Mapping[str, Any], token: str | None) -> None:
        """Declare a record or change one; a change proves with its token that it saw the newest state."""
        held = self._held(node_id)
        if held and token != held["token"]:
            raise Refusal(409, "Could not update metadata (edit conflict).")
        if self.store.row(class_id)["type"] != CLASS:
            raise Refusal(400, f"Not a records management classification: {class_id}")
        today = now()[:10] + "T00:00:00"
        first = {
            "record_date": today,
            "status_date": today,
            "file_status": "ACTIVE",
            "essential": "NR",
            "storage": "EL",
            "official": False,
        }
        kept = {**(json.loads(held["details"]) if held else first), **details}
        if kept.get("rsi") and not self.store.db.execute("SELECT 1 FROM rsi WHERE name = ?", (kept["rsi"],)).fetchone():
            raise Refusal(400, f"Invalid RSI: {kept['rsi']}")
        values = (node_id, class_id, json.dumps(kept), secrets.token_hex(16))
        self.store.db.execute("INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?)", values)
        self.store.change(user, node_id)
        self.store.note(user, node_id, "Classification Applied")

    def _details(self, call: Call) -> dict[str, Any]:
        details: dict[str, Any] = {name: call.one(name) for name in DETAILS if call.one(name) is not None}
        for name in ("record_date", "received_date", "status_date"):
            if name in details:
                details[name] = local(details[name])
        if call.one("official") is not None:
            details["official"] = truth(call.one("official"))
        return details


# --------------------------------------------------------------------------------------------- schedules


class Schedules:
    """Retention schedules (RSIs) and their stages. Stages are added and approved, not edited."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def register(self, api: Api) -> None:
        api.get("/v2/rsis")(self.several)
        api.post("/v1/rsis", reads=True)(self.find)
        api.post("/v2/rsischedules")(self.create)
        api.post("/v2/rsischedules/{rsi_id:int}/stages")(self.add_stage)
        api.put("/v2/rsischedules/{rsi_id:int}/approve/{stage_id:int}")(self.approve)
        api.get("/v2/recordsmanagement/rmcodes")(self.codes)

    def plant(self, schedule: Mapping[str, Any]) -> None:
        with self.store.transaction():
            if self.store.db.execute("SELECT 1 FROM rsi WHERE name = ?", (schedule["name"],)).fetchone():
                return
            about = {"title": schedule.get("title", ""), "status": "ACTIVE"}
            made = self.store.db.execute(
                "INSERT INTO rsi (name, details) VALUES (?, ?)", (schedule["name"], json.dumps(about))
            ).lastrowid
            stage = {"objectType": "LIV", "stage": "FINAL", "eventType": 1, "dateToUse": 95, "actionCode": 32}
            stage["retentionYears"] = int(schedule.get("years", 0))
            self.store.db.execute(
                "INSERT INTO rsi_stage (rsi_id, details, approved) VALUES (?, ?, 1)", (made, json.dumps(stage))
            )

    def several(self, call: Call) -> dict[str, Any]:
        """One line per stage; a schedule without stages has one without a stage."""
        lines = [line for row in self.store.db.execute("SELECT * FROM rsi ORDER BY id").fetchall() for line in self._lines(row)]
        _, limit = page_of(call, 25)
        return envelope(call, {"data": {"rsis": lines[:limit], "total_count": len(lines)}})

    def _lines(self, row: sqlite3.Row) -> list[dict[str, Any]]:
        about = json.loads(row["details"])
        shown = {
            "RSIID": row["id"],
            "RSI": row["name"],
            "Title": about.get("title", ""),
            "Subject": about.get("subject", ""),
            "Description": about.get("description", ""),
            "RSIStatus": about.get("status", ""),
            "StatusDate": about.get("statusDate"),
            "Active": 1,
        }
        stages = self.store.db.execute("SELECT * FROM rsi_stage WHERE rsi_id = ? ORDER BY id", (row["id"],)).fetchall()
        return [shown | self._stage(stage) for stage in stages] or [{**shown, "RSIScheduleID": None}]

    def _stage(self, row: sqlite3.Row) -> dict[str, Any]:
        told = json.loads(row["details"])
        years, months, days = (int(told.get(name) or 0) for name in RETENTION)
        return {
            "RSIScheduleID": row["id"],
            "RetStage": told.get("stage", ""),
            "ObjectType": told.get("objectType", "LIV"),
            "EventType": int(told.get("eventType") or 1),
            "DateToUse": str(told.get("dateToUse", "")),
            "RetYears": years,
            "RetMonths": months,
            "RetDays": days,
            "ActionCode": str(told.get("actionCode", "0")),
            "Disposition": told.get("disposition", ""),
            "ApprovalFlag": row["approved"],
        }

    def find(self, call: Call) -> dict[str, Any]:
        part = str(call.one("query") or "").casefold()
        rows = self.store.db.execute("SELECT * FROM rsi ORDER BY id").fetchall()
        found = [
            {"id": row["id"], "rsi": row["name"], "title": json.loads(row["details"]).get("title", "")}
            for row in rows
            if part in row["name"].casefold()
        ]
        return {"data": {"fast_codes": found}}

    def create(self, call: Call) -> dict[str, Any] | Response:
        need_records_manager(self.store, call)
        name = call.text("name").strip()
        if not name or self.store.db.execute("SELECT 1 FROM rsi WHERE name = ?", (name,)).fetchone():
            return failed(f"An RSI with the name '{name}' already exists." if name else "A name is required.")
        about = {key: str(call.one(key) or "") for key in ("status", "statusDate", "description", "subject", "title")}
        about["dispcontrol"] = str(truth(call.one("dispcontrol", False)))
        made = self.store.db.execute("INSERT INTO rsi (name, details) VALUES (?, ?)", (name, json.dumps(about))).lastrowid
        return envelope(call, {"ok": True, "id": made, "errMsg": ""})

    def add_stage(self, call: Call, rsi_id: int) -> dict[str, Any] | Response:
        need_records_manager(self.store, call)
        if not self.store.db.execute("SELECT 1 FROM rsi WHERE id = ?", (rsi_id,)).fetchone():
            return failed(f"There is no RSI {rsi_id}.")
        given = {key: call.one(key) for key in call.values}
        if given.get("objectType", "LIV") not in ("LIV", "LRM") or whole("eventType", given.get("eventType", 1)) not in range(
            1, 6
        ):
            return failed("Invalid value for parameter objectType or eventType")
        for name in RETENTION:
            given[name] = whole(name, given.get(name) or 0)
        values = (rsi_id, json.dumps(given))
        made = self.store.db.execute("INSERT INTO rsi_stage (rsi_id, details) VALUES (?, ?)", values).lastrowid
        return envelope(call, {"ok": True, "id": made, "errMsg": ""})

    def approve(self, call: Call, rsi_id: int, stage_id: int) -> dict[str, Any] | Response:
        need_records_manager(self.store, call)
        word = str(call.one("updateApproval") or "")
        if word not in ("updateapproval", "removeapproval"):
            return failed("Invalid value for parameter updateApproval")
        changed = self.store.db.execute(
            "UPDATE rsi_stage SET approved = ? WHERE id = ? AND rsi_id = ?", (word == "updateapproval", stage_id, rsi_id)
        )
        if not changed.rowcount:
            return failed(f"There is no stage {stage_id} of the RSI {rsi_id}.")
        return envelope(call, {"ok": True, "id": stage_id, "errMsg": ""})

    def codes(self, call: Call) -> dict[str, Any]:
        return envelope(call, {"data": CODES})


# --------------------------------------------------------------------------------------------- holds

HOLDS_MOST = 25
"""Lines of one answer, however many were asked for."""


class Holds:
    """Legal holds. Each call that changes one is refused while another is under way."""

    def __init__(self, store: Store) -> None:
        self.store = store
        store.guard(self.allow)

    def register(self, api: Api) -> None:
        api.post("/v1/holds", alone="holds")(self.create)
        api.get("/v2/holds")(self.several)
        api.get("/v2/hold")(self.get)
        api.delete("/v2/hold", alone="holds")(self.remove)
        api.get("/v1/nodes/{node_id:int}/holds")(self.of_node)
        api.post("/v1/nodes/{node_id:int}/holds", alone="holds")(self.apply)
        api.delete("/v1/nodes/{node_id:int}/holds/{hold_id:int}", alone="holds")(self.lift)
        api.post("/v1/rmclassifications/applyhold", alone="holds")(self.apply_to_many)
        api.post("/v1/rmclassifications/removehold", alone="holds")(self.lift_from_many)
        api.get("/v2/holditems/{hold_id:int}")(self.items)
        api.get("/v2/holditems/{hold_id:int}/{page:int}")(self.items)

    def allow(self, act: str, node: sqlite3.Row) -> None:
        """A node on hold stays, with all its versions: nothing is deleted, dropped or purged."""
        held = self._of(node)
        if held:
            raise Refusal(500, f"The item '{node['name']}' is on hold ({held[0]['name']}) and cannot be deleted.")

    def create(self, call: Call) -> dict[str, Any]:
        need_records_manager(self.store, call)
        name = call.text("name").strip()
        if not name or self._named(name):
            raise Refusal(400, f"A hold with the name '{name}' already exists." if name else "A name is required.")
        row = {
            "name": name,
            "type": call.text("type"),
            "comment": str(call.one("comment") or ""),
            "alternate_id": str(call.one("alternate_id") or ""),
            "parent_id": call.number("parent_id", 0) or None,
            "date_applied": local(call.one("date_applied")),
            "date_to_remove": local(call.one("date_to_remove")),
            "user_id": call.user,
        }
        marks = ", ".join("?" * len(row))
        made = self.store.db.execute(f"INSERT INTO hold ({', '.join(row)}) VALUES ({marks})", list(row.values())).lastrowid
        return {"holdID": made}

    def several(self, call: Call) -> dict[str, Any]:
        rows = self.store.db.execute("SELECT * FROM hold ORDER BY id").fetchall()
        page, limit = page_of(call, 25, largest=HOLDS_MOST)
        rows = rows[(page - 1) * limit : page * limit]
        return envelope(call, {"data": {"holds": [self._shown(row) for row in rows]}})

    def get(self, call: Call) -> dict[str, Any]:
        return envelope(call, {"data": {"hold": self._shown(self._asked(call))}})

    def remove(self, call: Call) -> dict[str, Any] | Response:
        need_records_manager(self.store, call)
        hold = self._asked(call)
        if self.store.db.execute("SELECT 1 FROM on_hold WHERE hold_id = ?", (hold["id"],)).fetchone():
            return failed(f"The hold '{hold['name']}' is applied to items.", hold["id"])
        self.store.db.execute("DELETE FROM hold WHERE id = ?", (hold["id"],))
        return envelope(call, {"ok": True, "id": hold["id"], "errMsg": ""})

    def of_node(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        return {"data": [self._applied(row, row["node_id"] == node["id"]) for row in self._of(node)]}

    def apply(self, call: Call, node_id: int) -> dict[str, Any]:
        self._apply(call, [node_id], self._hold(call.number("hold_id")))
        return {"ok": True, "hold_id": call.number("hold_id")}

    def lift(self, call: Call, node_id: int, hold_id: int) -> dict[str, Any]:
        node = self._to_change(call, node_id)
        gone = self.store.db.execute("DELETE FROM on_hold WHERE node_id = ? AND hold_id = ?", (node["id"], hold_id))
        if not gone.rowcount:
            raise Refusal(400, "Object does not have this Hold")
        return {"ok": True, "hold_id": hold_id}

    def apply_to_many(self, call: Call) -> dict[str, Any]:
        ids = [whole("ids", id) for id in ids_of(call)]
        self._apply(call, ids, self._hold(call.number("holdID")))
        return {"ok": True, "ids": ids}

    def lift_from_many(self, call: Call) -> dict[str, Any]:
        ids, hold = [whole("ids", id) for id in ids_of(call)], self._hold(call.number("holdID"))
        nodes = [self._to_change(call, id) for id in ids]
        with self.store.transaction():
            for node in nodes:
                self.store.db.execute("DELETE FROM on_hold WHERE node_id = ? AND hold_id = ?", (node["id"], hold["id"]))
        return {"ok": True, "ids": ids}

    def items(self, call: Call, hold_id: int, page: int = 1) -> dict[str, Any]:
        """Flat node fields, of what this user sees."""
        hold = self._hold(hold_id)
        rows = self.store.db.execute(
            "SELECT node.* FROM node JOIN on_hold ON node_id = node.id WHERE hold_id = ? AND deleted = 0 ORDER BY node.id",
            (hold["id"],),
        ).fetchall()
        rows = [row for row in rows if self.store.may(call.user, row, "see")]
        _, limit = page_of(call, 25)
        shown = rows[(page - 1) * limit : page * limit]
        collection = {"paging": paging(call, len(rows), page, limit)}
        return envelope(call, [node_properties(self.store, row) for row in shown], collection=collection)

    def _apply(self, call: Call, ids: list[int], hold: sqlite3.Row) -> None:
        nodes = [self._to_change(call, id) for id in ids]
        with self.store.transaction():
            for node in nodes:
                values = (node["id"], hold["id"], now(), call.user)
                self.store.db.execute("INSERT OR IGNORE INTO on_hold VALUES (?, ?, ?, ?)", values)

    def _to_change(self, call: Call, node_id: int) -> sqlite3.Row:
        node = self.store.node(call.user, node_id)
        self.store.need(call.user, node, "edit_attributes")
        return node

    def _of(self, node: sqlite3.Row) -> list[sqlite3.Row]:
        """Holds on a node and on what it lies in, a deleted one's too."""
        return self.store.db.execute(
            """WITH RECURSIVE above(id, parent) AS (SELECT id, parent_id FROM node WHERE id = ?
               UNION ALL SELECT node.id, node.parent_id FROM node JOIN above ON node.id = above.parent)
               SELECT hold.*, on_hold.node_id, on_hold.date, on_hold.user_id AS applied_by FROM on_hold
               JOIN above ON on_hold.node_id = above.id JOIN hold ON hold.id = on_hold.hold_id ORDER BY hold.id""",
            (node["id"],),
        ).fetchall()

    def _hold(self, hold_id: int) -> sqlite3.Row:
        found: sqlite3.Row | None = self.store.db.execute("SELECT * FROM hold WHERE id = ?", (hold_id,)).fetchone()
        if found is None:
            raise Refusal(400, f"Could not get a hold for {hold_id}")
        return found

    def _named(self, name: str) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self.store.db.execute("SELECT * FROM hold WHERE name = ?", (name,)).fetchone()
        return found

    def _asked(self, call: Call) -> sqlite3.Row:
        name = call.asked("holdname")
        if name is None:
            return self._hold(call.asked_number("id", 0))
        found = self._named(name)
        if found is None:
            raise Refusal(400, f"Could not get a hold for {name}")
        return found

    def _shown(self, row: sqlite3.Row) -> dict[str, Any]:
        return {
            "HoldID": row["id"],
            "HoldName": row["name"],
            "ActiveHold": 1,
            "OBJECT": None,
            "ApplyPatron": self.store.member(row["user_id"])["name"],
            "DateApplied": row["date_applied"],
            "HoldComment": row["comment"],
            "HoldType": row["type"],
            "DateToRemove": row["date_to_remove"],
            "DateRemoved": None,
            "RemovalPatron": None,
            "RemovalComment": None,
            "EditDate": None,
            "EditPatron": None,
            "AlternateHoldID": row["alternate_id"] or row["name"],
            "ParentID": row["parent_id"],
        }

    def _applied(self, row: sqlite3.Row, directly: bool) -> dict[str, Any]:
        return {
            "hold_id": row["id"],
            "hold_name": row["name"],
            "hold_type": row["type"],
            "hold_comment": row["comment"],
            "hold_appliedmethod": "Direct" if directly else "Inherited",
            "active": True,
            "applied_by": row["applied_by"],
            "date_applied": row["date"].rstrip("Z"),
            "removable": directly,
        }


# --------------------------------------------------------------------------------------------- both


def need_records_manager(store: Store, call: Call) -> None:
    """Holds and schedules are made by those who may add to the volume of records management."""
    volume = store.volume(550)
    assert volume is not None
    store.need(call.user, volume, "add_items")


def ids_of(call: Call) -> list[str]:
    """Ids as clients send them: repeated, a list, or separated by commas."""
    ids = [part for given in call.many("ids") for part in str(given).split(",") if part.strip()]
    if not ids:
        raise Refusal(400, "Missing required parameter: ids")
    return ids


def failed(text: str, id: int = 0) -> Response:
    """How the second version of the records interface says no."""
    return as_json(400, {"results": {"ok": False, "errMsg": text, "id": id}})
