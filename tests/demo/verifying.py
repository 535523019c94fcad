"""Is every file of the demo where it must be? Bytes are compared, not names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from blocks.ledger import JourneySummary
from blocks.profile import load_repositories
from blocks.settings import settings
from blocks.spool import Spool
from blocks.values import shown
from tasks.connections import ledger, quarantine
from tests.demo.stage import Stage
from tests.samples import Sample


def documents() -> list[JourneySummary]:
    """All that came in. The ledger also holds what was noticed of folders and servers, which has no size."""
    return [found for found in ledger().search(partner="acme", limit=1000) if found.size is not None]


def misplaced(here: Stage, samples: list[Sample]) -> list[str]:
    """What is not as it must be, in words; empty if all is well."""
    journeys = {(found.stream, found.name): found for found in documents()}
    problems = [
        f"{sample.stream}/{shown(sample.name)} ({sample.shows}): {problem}"
        for sample in samples
        for problem in _faults(here, sample, journeys.get((sample.stream, shown(sample.name))))
    ]
    expected = sum(sample.outcome == "filed" for sample in samples)
    filed = sum(found.repository_id is not None for found in journeys.values())
    if filed != expected:
        problems.append(f"{filed} documents are filed, {expected} should be")
    noted = {os.fsencode(path.name).split(b".")[-3] for path in here.notes.iterdir()}
    refused = [s for s in samples if (s.stream, s.outcome) == ("price-lists", "quarantined") and not s.stays]
    problems += [f"{shown(s.name)}: the partner has no note on it" for s in refused if s.digest[:8].encode() not in noted]
    if any("still-growing" in str(name) for _, name in journeys):
        problems.append("the file that was still being written was picked up")
    ledger().verify()
    return problems


def _faults(here: Stage, sample: Sample, journey: JourneySummary | None) -> Iterator[str]:
    original = Path(os.fsdecode(os.fsencode(here.drop / "out" / sample.stream) + b"/" + sample.name))
    if original.exists() != sample.stays:
        yield "its original is still there" if original.exists() else "its original is gone"
    if sample.outcome == "not picked up":
        if journey is not None:
            yield f"it was picked up, journey {journey.journey}"
        return
    if journey is None:
        yield "the ledger knows nothing of it"
        return
    entries = {entry.kind: entry for entry in ledger().journey(journey.journey)}
    if sample.outcome not in entries:
        yield f"it should be {sample.outcome}; its steps are {', '.join(entries)}"
    elif sample.outcome == "filed" and digest_of(str(journey.repository), str(journey.repository_id)) != sample.digest:
        yield "the repository holds other bytes"
    elif sample.outcome == "quarantined":
        codes = [finding["code"] for finding in entries["quarantined"].body["findings"]]
        if sample.code not in codes:
            yield f"its findings are {', '.join(codes)}, not {sample.code}"
        kept = quarantine().content(journey.journey)
        if sample.stays == (kept is not None):
            yield "its bytes are in the quarantine and at the source" if kept else "its bytes are not in the quarantine"
        if kept is not None and hashlib.sha256(kept.read_bytes()).hexdigest() != sample.digest:
            yield "the quarantine holds other bytes"


def digest_of(address: str, id: str) -> str:
    """SHA-256 of what the repository at an address gives back for a document."""
    [repository] = (one for one in load_repositories(settings().profiles).values() if one.address == address)
    spool = Spool(settings().home / "read-back", floor_bytes=0)
    with repository.session() as session, spool.batch() as batch:
        return session.fetch(id, None, batch).digest
