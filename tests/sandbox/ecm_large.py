"""Large File Upload of the Extended ECM stand-in: a document's bytes in parts, each in a call of its own.

A session is started with name, size and type, takes its parts in any order, and is completed; its key then stands for the file in
the call that makes the document or the version. Parts are written to their place in one file, so nothing is copied at the end.
Texts are the documented ones; that a part is counted from 1 follows from "Expected BlockID between 1 and {n}".
"""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from tests.sandbox.ecm_store import Store
from tests.sandbox.ecm_wire import Api, Call, Faults, Refusal, Upload

SCHEMA = """
CREATE TABLE IF NOT EXISTS upload_session (
    key TEXT PRIMARY KEY, user_id INTEGER NOT NULL, file_name TEXT NOT NULL, mime_type TEXT NOT NULL, size INTEGER NOT NULL,
    parts INTEGER NOT NULL, complete INTEGER NOT NULL DEFAULT 0, started REAL NOT NULL);
CREATE TABLE IF NOT EXISTS upload_part (
    key TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (key, number)) WITHOUT ROWID;
"""

SETTINGS = {"is_enabled": True, "min_size": 64 * 1024**2, "max_size": 100 * 1024**3, "part_size": 16 * 1024**2}
"""Replaced by the entry ``large_upload`` of the seed. ``part_size`` is told when a session starts."""
RETRIES = 5


def register(store: Store, faults: Faults, api: Api) -> None:
    LargeUploads(store, faults, api).register()


class LargeUploads:
    """Settings and sessions."""

    def __init__(self, store: Store, faults: Faults, api: Api) -> None:
        self.store = store
        self.faults = faults
        self.api = api
        self.settings = {**SETTINGS, **store.seed.get("large_upload", {})}

    def register(self) -> None:
        api = self.api
        api.get("/v2/multipart/settings")(self.told)
        api.post("/v2/multipart")(self.start)
        api.post("/v2/multipart/{key}/{number:int}")(self.part)
        api.post("/v2/multipart/{key}")(self.complete)
        api.delete("/v2/multipart/{key}")(self.cancel)

    def told(self, call: Call) -> dict[str, Any]:
        return {name: self.settings[name] for name in ("is_enabled", "max_size", "min_size")}

    def start(self, call: Call) -> dict[str, Any]:
        name, size, mime_type = call.text("file_name"), call.number("file_size"), call.text("mime_type")
        least, most = self.settings["min_size"], self.settings["max_size"]
        if not name or not mime_type:
            raise Refusal(400, "Pattern of argument was not recognized.")
        if not self.settings["is_enabled"]:
            raise Refusal(500, "Large File Upload is not enabled.")
        if not least <= size <= most:
            raise Refusal(500, f"Invalid block size: File size must be between {least} and {most} bytes.")
        key, parts = secrets.token_hex(16), -(-size // self.settings["part_size"])
        folder(self.store).mkdir(exist_ok=True)
        (folder(self.store) / key).touch()
        self.store.db.execute(
            "INSERT INTO upload_session (key, user_id, file_name, mime_type, size, parts, started) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (key, call.user, name, mime_type, size, parts, time.time()),
        )
        return {"upload_key": key, "part_size": self.settings["part_size"], "num_parts": parts, "max_retries": RETRIES}

    def part(self, call: Call, key: str, number: int) -> dict[str, Any]:
        session = held(self.store, self.faults, call.user, key)
        if not 1 <= number <= session["parts"]:
            raise Refusal(500, f"Invalid BlockID: Expected BlockID between 1 and {session['parts']}")
        if self.store.db.execute("SELECT 1 FROM upload_part WHERE key = ? AND number = ?", (key, number)).fetchone():
            raise Refusal(500, f"Invalid BlockID: BlockID {number} has already been uploaded.")
        sent = call.body.files.get("part_content")
        if sent is None:
            raise Refusal(400, "Missing required parameter: part_content")
        start = (number - 1) * self.settings["part_size"]
        if sent.size != min(self.settings["part_size"], session["size"] - start):
            raise Refusal(500, f"Invalid block size: BlockID {number} has {sent.size} bytes.")
        with sent.path.open("rb") as source, (folder(self.store) / key).open("r+b") as target:
            target.seek(start)
            shutil.copyfileobj(source, target, 1024**2)
        self.store.db.execute("INSERT INTO upload_part VALUES (?, ?)", (key, number))
        self.api.stats["parts"] += 1
        return {"ok": True}

    def complete(self, call: Call, key: str) -> dict[str, Any]:
        session = held(self.store, self.faults, call.user, key)
        parts = self.store.db.execute("SELECT count(*) FROM upload_part WHERE key = ?", (key,)).fetchone()[0]
        if session["complete"] or not parts:
            raise Refusal(500, "Invalid status. Cannot close an empty or already closed upload.")
        if parts < session["parts"]:
            raise Refusal(500, f"Invalid status. {session['parts'] - parts} parts are missing.")
        self.store.db.execute("UPDATE upload_session SET complete = 1 WHERE key = ?", (key,))
        return {"ok": True}

    def cancel(self, call: Call, key: str) -> dict[str, Any]:
        held(self.store, self.faults, call.user, key)
        forget(self.store, key)
        (folder(self.store) / key).unlink(missing_ok=True)
        return {"ok": True}


def taken(store: Store, faults: Faults, call: Call) -> Upload | None:
    """The file that an ``upload_key`` in the body stands for, as if it had come with the call. A key is good for one try."""
    key = call.one("upload_key")
    if key in (None, ""):
        return None
    session = held(store, faults, call.user, str(key))
    if not session["complete"]:
        raise Refusal(500, "Invalid status. The upload is not complete.")
    forget(store, str(key))
    upload = Upload(folder(store) / str(key), session["file_name"], session["mime_type"], session["size"])
    call.body.files["upload_key"] = upload  # removed with the call's other files where nothing takes it
    return upload


def folder(store: Store) -> Path:
    return store.folder / "uploads"


def held(store: Store, faults: Faults, user: int, key: str) -> Any:
    """A session of this user, or the documented refusal."""
    session = store.db.execute("SELECT * FROM upload_session WHERE key = ?", (key,)).fetchone()
    if session is None or session["user_id"] != user:
        raise Refusal(
            500,
            "Failed to complete request. Either the UploadKey is invalid, or you do not have permission to access this upload"
            " session",
        )
    if faults["upload-life"] and time.time() - session["started"] > faults["upload-life"]:
        raise Refusal(500, "Multipart Upload session expired")
    return session


def forget(store: Store, key: str) -> None:
    store.db.execute("DELETE FROM upload_session WHERE key = ?", (key,))
    store.db.execute("DELETE FROM upload_part WHERE key = ?", (key,))
