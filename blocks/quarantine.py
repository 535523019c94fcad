"""The quarantine: refused arrivals with their bytes, their findings and where they came from; and files that were filed in parts.

::

    <quarantine>/<journey>/content      the exact bytes (absent when the file was refused before it was fetched)
    <quarantine>/<journey>/case.json    origin, findings, reason code: enough to understand it without the ledger

The ledger says which cases are open (a file that was filed in parts has none); this is where the bytes are. Nothing here is ever
overwritten or removed by an intake; what a clean-up of resolved cases removes has passed the gate for legal holds (``tasks.holds``).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

_GONE = ".gone."
"""What the name of a folder begins with that is being removed."""


class Quarantine:
    """A folder with one sub-folder per refused journey."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)

    def keep(self, journey: str, content: Path | None, about: Mapping[str, Any]) -> Path:
        """Set one refused arrival aside, whole or not at all. Keeping the same journey again changes only what is said about it."""
        place = self.folder / journey
        if content is not None and not (place / "content").exists():
            fresh = self.folder / f".{journey}.{uuid4().hex[:8]}"
            fresh.mkdir(mode=0o750)
            # The spool is on the same disk as a rule: a second name for the same bytes costs nothing.
            try:
                os.link(content, fresh / "content")
            except OSError:
                shutil.copyfile(content, fresh / "content")
            _write(fresh / "case.json", about)
            _sync(fresh / "content")
            if place.exists():  # kept before without bytes
                (fresh / "content").replace(place / "content")
                shutil.rmtree(fresh)
            else:
                fresh.rename(place)
        else:
            place.mkdir(exist_ok=True, mode=0o750)
        _write(place / "case.json", about)
        _sync(self.folder)
        return place

    def journeys(self) -> list[str]:
        """All that are kept here."""
        return sorted(place.parent.name for place in self.folder.glob("[!.]*/case.json"))

    def content(self, journey: str) -> Path | None:
        """Where the bytes of a journey are; None where it was refused before it was fetched."""
        path = self.folder / journey / "content"
        return path if path.exists() else None

    def drop(self, journey: str) -> int:
        """Remove the bytes of a journey, and what was written beside them. Returns bytes freed. Doing it again changes nothing."""
        place, gone = self.folder / journey, self.folder / f"{_GONE}{uuid4().hex[:8]}"
        content = self.content(journey)
        freed = content.stat().st_size if content else 0
        for left in self.folder.glob(f"{_GONE}*"):  # by a process that was killed
            with suppress(FileNotFoundError):  # another one is at it too
                shutil.rmtree(left)
        try:
            place.rename(gone)
        except FileNotFoundError:
            return 0
        _sync(self.folder)
        with suppress(FileNotFoundError):  # as above
            shutil.rmtree(gone)
        return freed

    def about(self, journey: str) -> dict[str, Any] | None:
        """What was written beside the bytes; None for a journey that is not here."""
        path = self.folder / journey / "case.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _write(path: Path, about: Mapping[str, Any]) -> None:
    fresh = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    fresh.write_text(json.dumps(about, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    _sync(fresh)
    fresh.replace(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
