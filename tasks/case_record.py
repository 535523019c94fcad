"""Case record: a folder for each case in a repository, with the problem file, a page that tells all, and the last good document.

::

    <folder>/<journey>/error.html            a new version with every change of the case: state, owner, due, what people said
                      /problem - NAME        the refused bytes, from the quarantine
                      /sample - NAME         what came before it on the stream and was filed: a copy of that version

The sample is a copy and no link: a link would show whatever is the newest version by then, and would end with that document's retention.

Intent before, look after, in the case's own journey: ``case-recording`` (up to which entry it tells, and which document is the sample)
and ``case-recorded`` (what was filed). Each piece is filed under a key of its own, so that nothing is doubled by whoever goes on. The
case never waits for its record: what the repository does not take now is filed by the sweep, or the stream's next run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect import get_run_logger

from blocks.database import chunks
from blocks.errors import (
    ConfigurationError,
    DocumentChanged,
    DocumentMissing,
    JourneyMoved,
    JourneyReduced,
    LeaseLost,
    RepositoryError,
    RepositoryUnreachable,
    SignInRefused,
    SpoolError,
)
from blocks.ledger import Entry, Holding, Recorded
from blocks.profile import CaseTerms, load_cases
from blocks.repositories.base import Repository
from blocks.settings import settings
from tasks.connections import hang_up, ledger, quarantine, repository_session, spool
from tasks.evidence import file_pieces, written
from tasks.holds import configured
from tasks.retrying import task
from tasks.rules.case_record import RECORDED, UNTOLD, Beside, changes, named, page
from tasks.rules.filing import Evidence
from tasks.rules.reconcile import Finding
from tasks.rules.removal import being_removed, was_removed
from tasks.rules.transmission import Kept

RECORDING = "case-recording"
LOOKS_BACK = timedelta(days=7)
"""So long after it was resolved a case without an intent is still found; with one it always is."""
MOST = 200
"""Records that one run brings up to date, and as many at most that it cannot; the sweep goes on with the rest."""
LARGEST_SAMPLE_BYTES = 64 * 1024 * 1024
"""Larger ones are named, and not copied."""
_LOOKED_AT, _PAGE = 500, 50
"""Journeys before the case's own among which its sample is, and how many are read at once."""
_BYTES = "application/octet-stream"
PAGE = "error.html"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where records of cases are filed by what is agreed now."""

    terms: CaseTerms
    repository: Repository
    away: set[str] = field(default_factory=set)
    """Other repositories that did not answer: in this pass nobody waits for them once more."""

    @property
    def facts(self) -> dict[str, str]:
        return {"repository": self.repository.address, "folder": self.terms.folder}

    @property
    def key(self) -> str:
        """What tells it from any other, in the keys of entries."""
        return hashlib.sha256(str(sorted(self.facts.items())).encode()).hexdigest()[:16]

    def entries(self, history: Sequence[Recorded], kind: str) -> list[Recorded]:
        """Those about a record that is kept there. One that was filed elsewhere stays there, and begins anew here."""
        return [entry for entry in history if entry.kind == kind and entry.body["place"] == self.facts]


@task(task_run_name="keep the records of cases")
def keep_case_records(partner: str | None = None, stream: str | None = None) -> list[Finding]:
    """Bring the records of cases up to date, all or one stream's; what cannot be, is told. Nothing if none are agreed."""
    agreed = load_cases(settings().profiles)
    if agreed is None:
        return []
    place, found, done = _Place(*agreed), list[Finding](), 0
    try:
        behind = _behind(place, partner, stream)
        while max(done, len(found)) < MOST and (journey := next(behind, None)) is not None:
            try:
                _bring_up_to_date(journey, place)
                done += 1
            except (LeaseLost, JourneyReduced):
                continue  # somebody is at it, or it is over for long
            except (RepositoryUnreachable, SignInRefused) as error:
                get_run_logger().warning("records of cases wait, that of %s is the first: %s", journey, error)
                break  # the others need not be tried
            except (RepositoryError, SpoolError, ConfigurationError) as error:
                message = f"the record of case {journey} cannot be filed yet; that is tried again ({error})"
                found.append(Finding("case-record", f"case-record/{journey}/{type(error).__name__}", message))
    finally:
        hang_up()
    return found


def _behind(place: _Place, partner: str | None, stream: str | None) -> Iterator[str]:
    """Cases whose record does not tell all of them, the oldest first. Of the others nothing is read but kinds of entries."""
    since = ledger().now() - LOOKS_BACK
    wanted = ledger().cases_behind(
        RECORDING, RECORDED, mark=f"/{place.key}/", besides=UNTOLD, since=since, partner=partner, stream=stream
    )
    if partner is None:
        wanted += ledger().open_intents(RECORDING, (RECORDED,))
    for part in chunks(list(dict.fromkeys(wanted)), _PAGE):
        histories = ledger().journeys(part)
        yield from (journey for journey, history in histories.items() if _wanted(history, place) is not None)


def _wanted(history: Sequence[Recorded], place: _Place) -> int | None:
    """Up to which entry the record is to tell, if it does not yet: what was begun comes first."""
    begun, done = ([int(entry.body["upto"]) for entry in place.entries(history, kind)] for kind in (RECORDING, RECORDED))
    if begun[-1:] != done[-1:]:
        return begun[-1]
    told = changes(history)
    return told[-1].n if told and told[-1].n > max(done, default=0) else None


def _bring_up_to_date(journey: str, place: _Place) -> None:
    with _alone(journey) as held:
        while (upto := _wanted(history := ledger().journey(journey), place)) is not None:
            begun = place.entries(history, RECORDING)
            sample = begun[0].body["sample"] if begun else _sample(journey, history)
            key = f"{journey}/{place.key}"
            body = {"place": place.facts, "upto": upto}
            intent = Entry(journey, RECORDING, {**body, "sample": sample}, once=f"{RECORDING}/{key}/{upto}")
            try:
                ledger().append(
                    [intent], behind=len(history)
                )  # what came in since is behind the intent: else nobody would see it
            except JourneyMoved:
                continue
            filed = _File(journey, history[:upto], place, key, place.entries(history, RECORDED)).file(sample, held)
            ledger().append([Entry(journey, RECORDED, {**body, **filed}, once=f"{RECORDED}/{key}/{upto}")])


@contextmanager
def _alone(journey: str) -> Iterator[Holding]:
    """Who works on the case itself is not kept from it. Raises ``LeaseLost`` if somebody else files its record."""
    seconds = settings().lease_seconds
    lease = ledger().lease([f"case-record:{journey}"], owner="case records", seconds=seconds)
    if lease is None:
        raise LeaseLost(f"{journey}: somebody files the record of this case just now")
    with ledger().holding(lease, seconds) as held:
        yield held


# --------------------------------------------------------------------------------------------- what is filed


@dataclass(frozen=True, slots=True)
class _File:
    """The folder of one case."""

    journey: str
    history: Sequence[Recorded]
    """As far as the page is to tell."""
    place: _Place
    key: str
    before: Sequence[Recorded]
    """What was filed in it so far."""

    def file(self, sample: Mapping[str, Any] | None, held: Holding) -> dict[str, Any]:
        """File the page, and what is to stand beside it and does not yet; the facts of that for the ledger."""
        there = {name for entry in self.before for name in entry.body["copies"]}
        problem, of_problem = self._problem()
        copy, of_sample = (None, Beside(**self.before[0].body["sample"])) if self.before else self._copy(sample)
        text = page(self.journey, self.history, [of_problem, of_sample])
        pieces = [piece for piece in (problem, copy) if piece is not None and piece.name not in there]
        pieces.append(written(f"case/{self.key}/page/{len(self.history)}", PAGE, "html", text, "text/html"))
        held.lease  # noqa: B018 - raises
        opened = changes(self.history)[0].at
        filed = file_pieces(self.place.repository, self.place.terms.target, _about(self.journey, self.history), opened, pieces)
        address = self.place.repository.address
        copies = {piece.name: Kept(address, one.id, one.version).facts for piece, one in zip(pieces, filed, strict=True)}
        return {"copies": copies, "sample": asdict(of_sample)}

    def _problem(self) -> tuple[Evidence | None, Beside]:
        """The refused bytes, as they were set aside."""
        what, kept = "Problem file", quarantine().content(self.journey)
        digest = next((str(entry.body["digest"]) for entry in self.history if entry.body.get("digest")), None)
        if kept is None or digest is None:
            return None, Beside(what, said="none: its bytes were never fetched, or the case is about no file")
        original = next((str(entry.body["name"]) for entry in self.history if entry.body.get("name")), self.journey)
        judged = next((entry.body for entry in reversed(self.history) if entry.kind == "judged"), {})
        media_type = str(judged.get("media_type") or _BYTES)
        piece = self._piece("problem", original, digest, kept, media_type)
        return piece, Beside(what, piece.name, digest)

    def _copy(self, sample: Mapping[str, Any] | None) -> tuple[Evidence | None, Beside]:
        """A copy of exactly the version that was filed then, read back from where it is kept."""
        what = "Last good document"
        if sample is None:
            return None, Beside(what, said="none: nothing of this kind was filed on the stream before")
        name, digest = str(sample["name"]), str(sample["digest"])
        origin = f"journey {sample['journey']}, document {sample['repository_id']}, version {sample['version']} at {sample['repository']}"
        if (sample["size"] or 0) > LARGEST_SAMPLE_BYTES:
            return None, Beside(what, name, digest, f"{origin}; too large to be copied")
        try:
            path = _read_back(sample, digest, self.place)
        except (DocumentMissing, DocumentChanged, ConfigurationError) as error:
            return None, Beside(what, name, digest, f"{origin}; not copied: {error}")
        piece = self._piece("sample", name, digest, path, _BYTES)
        return piece, Beside(what, piece.name, digest, f"a copy of {origin}")

    def _piece(self, what: str, original: str, digest: str, path: Path, media_type: str) -> Evidence:
        name = named(what, original)
        stem, _, extension = name.rpartition(".")
        size = path.stat().st_size
        return Evidence(
            f"case/{self.key}/{what}", name, stem or name, extension, digest, size, media_type, path, ((name, digest),)
        )


def _about(journey: str, history: Sequence[Recorded]) -> dict[str, str]:
    """Facts for templates. What belongs to no partner is the installation's."""
    said = {fact: entry.body[fact] for entry in history for fact in ("partner", "stream") if entry.body.get(fact)}
    return {"partner": str(said.get("partner", "installation")), "stream": str(said.get("stream", "all")), "case": journey}


# --------------------------------------------------------------------------------------------- the last good document


def _sample(journey: str, history: Sequence[Recorded]) -> dict[str, Any] | None:
    """The newest document of the stream, of the case's document type, that came before it, was accepted and is kept; None without one."""
    about = _about(journey, history)
    doctype = next((entry.body["doctype"] for entry in reversed(history) if entry.body.get("doctype")), None)
    # What came in the same moment sorts by journey; what we write about servers and expectations has a dot in its id.
    until = history[0].at + timedelta(milliseconds=1)
    near = ledger().search(partner=about["partner"], stream=about["stream"], until=until, limit=_LOOKED_AT)
    earlier = [one for one in near if "." not in one.journey and ("." in journey or one.journey < journey)]
    earlier.sort(key=lambda one: one.journey, reverse=True)
    for start in range(0, len(earlier), _PAGE):
        part = earlier[start : start + _PAGE]
        histories = ledger().journeys([one.journey for one in part])
        for one in part:
            filed = _filed(histories[one.journey])
            if filed is not None and doctype in (None, filed.get("doctype")):
                facts = {fact: filed.get(fact) for fact in ("repository", "repository_id", "version", "digest")}
                return {"journey": one.journey, "name": one.name or one.journey, "size": one.size, **facts}
    return None


def _filed(history: Sequence[Recorded]) -> Mapping[str, Any] | None:
    """What the ledger says of where a journey's document is kept."""
    if was_removed(history) or being_removed(history):
        return None
    filed = next((entry.body for entry in reversed(history) if entry.kind == "filed"), None)
    return filed if filed and filed.get("repository_id") and filed.get("digest") else None


class _SampleAway(RepositoryError):
    """The repository of a last good document does not answer, while that of the records may."""


def _read_back(sample: Mapping[str, Any], digest: str, place: _Place) -> Path:
    if not spool().holds(digest):
        where = str(sample["repository"])
        if where in place.away:
            raise _SampleAway(f"{where} did not answer just now, and the last good document is kept there")
        try:
            with repository_session(configured(where)) as session, spool().batch() as batch:
                found = session.fetch(str(sample["repository_id"]), int(sample["version"]), batch)
        except (RepositoryUnreachable, SignInRefused) as error:
            if where == place.repository.address:
                raise
            place.away.add(where)
            raise _SampleAway(f"the last good document cannot be read: {error}") from error
        if found.digest != digest:
            raise DocumentChanged(f"{sample['repository_id']}: other bytes stand there than were filed")
    return spool().path(digest)
