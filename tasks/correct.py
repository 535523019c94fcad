"""Correct: what a person puts right in a refused document is checked and filed as a document of its own, which names the person.

::

    prices.csv, refused ─▶ (cells, or a file in the folder ``corrections``) ─▶ prices.csv, journey <its>.fix1    filed
                       └▶ itself, in the quarantine as the partner wrote it: kept as that one, and its case closes

The partner's own bytes are never changed. What is put right and is refused again files nothing, and the case stays.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import io
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from blocks.case_signoff import CaseAction
from blocks.errors import ConfigurationError, JourneyMoved
from blocks.ledger import Entry, Recorded
from blocks.settings import settings
from blocks.values import Document, Duplicates, Stage, Succession, Verdict, name_b64, shown
from tasks import tables
from tasks.case_signoff import need_signoff
from tasks.cases import open_history
from tasks.connections import ledger, quarantine, spool
from tasks.consignment import Agreed, Consignment, Item, Steps
from tasks.file_away import in_parts, stand_behind
from tasks.let_go_on import LARGEST_BYTES, file_derived, keeping, rely_on, rows_filed
from tasks.retrying import task
from tasks.rules import cells
from tasks.rules.judge import as_facts, before_fetch, from_facts, name_refused
from tasks.rules.sequence import UNKNOWN

CORRECTION_REFUSED = "correction refused"
"""Kind of the entry about what a person put right, and the checks refused."""
CORRECTING = "correcting"
"""Kind of the entry of the case's journey that is written before a correction (``fix``) is filed."""
SETTLED = "rejected"
"""Kind of the entry of a correction's own journey from which on it is not filed any more: the repository refused it, or a person."""


@dataclass(frozen=True, slots=True)
class Correction:
    """What a person puts right: cells of the table, as ``tasks.rules.cells`` reads them, or a whole file."""

    by: str
    comment: str
    cells: Sequence[str] = ()
    file: str = ""
    """Name of a file in ``corrections()``."""


def corrections() -> Path:
    """The folder on the workers' machine in which people leave corrected files."""
    return settings().home / "corrections"


def correctable(agreed: Agreed, history: Iterable[Recorded]) -> str:
    """Why a refused document is not put right here; "" if it may be."""
    terms = agreed.terms
    if terms.transfers or terms.sets or terms.returns or terms.sequence is not Succession.FREE:
        return "files of this stream are judged together with others: ask the partner for a correct one"
    arrived = next(entry for entry in history if entry.kind == "arrived")
    name = base64.b64decode(arrived.body["name_b64"])
    if code := name_refused(name, terms):
        return (
            f"what is put right keeps its name, which is refused whatever is in it ({code}): ask the partner for another name"
        )
    if rows_filed(agreed, arrived.journey, shown(name)):
        return "rows of it, or of another file of its name, are filed already, and would be once more: ask the partner for a correct one"
    return ""


@dataclass(frozen=True, slots=True)
class Fix:
    """A correction that was to be filed: its journey, and what became of it there."""

    document: Document
    verdict: Verdict
    history: Sequence[Recorded]

    @property
    def journey(self) -> str:
        return self.document.journey

    @property
    def through(self) -> bool:
        """The repository has it."""
        return any(entry.kind in ("filed", "duplicate") for entry in self.history)

    @property
    def begun(self) -> bool:
        """The repository was asked to keep it, and nobody has settled yet what came of it."""
        return next((entry.kind == "filing" for entry in reversed(self.history) if entry.kind in ("filing", SETTLED)), False)

    @property
    def settled(self) -> bool:
        """It was given up, and not tried since."""
        return self._newest == SETTLED

    @property
    def doubtful(self) -> bool:
        """The attempt ended without our knowing how: a person looks, and decides."""
        return not self.through and self._newest == "unknown"

    @property
    def _newest(self) -> str:
        return next((entry.kind for entry in reversed(self.history) if entry.kind in ("unknown", "retried", SETTLED)), "")


def fixes(history: Iterable[Recorded]) -> list[Fix]:
    """What was put right in a case's document and was to be filed, oldest first."""
    told = {entry.body["fix"]["journey"]: entry.body["fix"] for entry in history if entry.kind == CORRECTING}
    histories = ledger().journeys(list(told)) if told else {}
    return [
        Fix(
            Document(
                journey,
                base64.b64decode(fix["name_b64"]),
                fix["size"],
                fix["digest"],
                spool().place(fix["digest"]),
                fix["media_type"],
            ),
            from_facts(journey, fix["judged"]),
            histories[journey],
        )
        for journey, fix in told.items()
    ]


def digests_given() -> set[str]:
    """Digests of what people gave to put documents right whose cases are open: clean-up keeps these bytes."""
    return {str(entry.body["fix"]["digest"]) for entry in ledger().in_open_cases(CORRECTING, CORRECTION_REFUSED)}


def under_way(history: Iterable[Recorded]) -> Fix | None:
    """The correction that is filed, or may be, while its case is open still. Until it is settled nothing else is filed in its place."""
    return next((fix for fix in fixes(history) if fix.through or fix.begun), None)


def give_up(fix: Fix, by: str, reason: str) -> None:
    """The correction is not filed any more; the same one given again is another try."""
    ledger().append([Entry(fix.journey, SETTLED, {"by": by, "reason": reason}, stage=Stage.CLEARED)])


@task(task_run_name="correct what was refused")
def correct(consignment: Consignment, correction: Correction) -> Consignment:
    """Check and file what a person put right, in the place of the refused document. Refused again, that one stays refused.

    One that broke off is gone on with by any later try. Raises ``ConfigurationError`` for another one meanwhile.
    """
    [item] = consignment.items
    asked = bool(correction.cells or correction.file)
    standing = under_way(item.history)
    if not asked and standing is None:
        return consignment  # nothing was put right: another try of the partner's own bytes
    agreed = consignment.agreed
    if asked:
        if why := correctable(agreed, item.history):
            raise ConfigurationError(f"{agreed.key}: {why}")
        given = _put_right(item, agreed, correction)
        if standing is not None and given.digest != standing.document.digest:
            raise ConfigurationError(
                f"{item.journey}: was put right before, as journey {standing.journey}, which {_stands(standing)}; nothing else is filed "
                f"in its place. 'countersign quarantine retry {item.journey}' goes on with that one"
            )
    if item.filed or item.duplicate_of:  # an earlier try broke off after that: what is left to do is to close its case
        if asked and (standing is None or item.duplicate_of != standing.journey):
            raise ConfigurationError(
                f"{item.journey}: the repository has it already: 'countersign quarantine retry {item.journey}' closes its case"
            )
        return consignment
    if standing is None or not standing.through:
        wanted = given if standing is None else standing.document
        signoff = need_signoff(item.journey, agreed, CaseAction.CORRECT, item.arrival.digest or "", wanted.digest)
        if signoff is not None:  # whoever has started the flow with it says what they like
            correction = replace(correction, by=signoff.approver, comment=signoff.comment)
    if standing is None:
        named, verdict = _judged(item, agreed, given)
        if not verdict.accepted:
            return _refused(consignment, item, correction, named, verdict)
        standing = _intend(consignment, item, correction, named, verdict)
    return _file(consignment, item, correction, standing)


def _stands(fix: Fix) -> str:
    return (
        "is filed"
        if fix.through
        else "may be filed: look into the repository"
        if fix.doubtful
        else "broke off while it was filed"
    )


def _judged(item: Item, agreed: Agreed, given: Document) -> tuple[Document, Verdict]:
    """A correction under the journey that it has, or would have, and what the checks say of it."""
    earlier = fixes(ledger().journey(item.journey))
    journey = next((fix.journey for fix in earlier if fix.document.digest == given.digest), None)
    named = replace(given, journey=journey or f"{item.journey}.fix{len(earlier) + 1}")
    file = replace(item.arrival.file, size=named.size)
    if findings := before_fetch(replace(item.arrival, file=file), agreed.terms):
        return named, Verdict(named.journey, None, findings)
    [judged] = tables.judge([named], agreed.terms, _facts(item, named.journey))
    return judged


def _intend(consignment: Consignment, item: Item, correction: Correction, named: Document, verdict: Verdict) -> Fix:
    """Write down what is about to be filed, before anybody is asked to keep it; only while the case is open."""
    facts = {
        "journey": named.journey,
        "name_b64": name_b64(named.name),
        "size": named.size,
        "digest": named.digest,
        "media_type": named.sniffed,
        "judged": as_facts(verdict),
    }
    entry = Entry(item.journey, CORRECTING, {"by": correction.by, "comment": correction.comment, "fix": facts})
    while True:
        history = open_history(item.journey)
        for fix in fixes(history):
            if fix.journey != named.journey and not fix.settled:
                give_up(fix, correction.by, "another correction was given")
        try:
            ledger().append([entry], consignment.lease, behind=len(history))
        except JourneyMoved:
            continue  # whatever came in between may have closed it
        return Fix(named, verdict, ledger().journey(named.journey))


def _file(consignment: Consignment, item: Item, correction: Correction, fix: Fix) -> Consignment:
    agreed, steps, named = consignment.agreed, Steps(consignment), fix.document
    about = {"by": correction.by, "comment": correction.comment, "corrected": True}
    if not fix.through:
        if not spool().holds(named.digest):
            raise ConfigurationError(
                f"{item.journey}: what was put right is not in the spool any more: give the same correction once more"
            )
        if fix.settled or fix.doubtful:  # a person had it tried again, as with any other document
            consignment.lease  # noqa: B018 - raises
            ledger().append([Entry(fix.journey, "retried", {"by": correction.by, "comment": correction.comment})])
    made = file_derived(agreed, item, named, fix.verdict, about)
    if made.verdict is not None and not made.verdict.accepted:
        if made.verdict.reason.partition(":")[0] != UNKNOWN:
            give_up(fix, correction.by, made.verdict.reason)
        return _refused(consignment, item, correction, named, made.verdict)
    rely_on([named.journey], item.journey)
    facts = {**about, "digest": item.arrival.digest, "round": item.round, "parts": [named.journey], **keeping(named.journey)}
    steps.add(
        item,
        "duplicate",
        {**facts, "duplicate_of": named.journey},
        once=f"{item.journey}/duplicate",
        stage=Stage.DUPLICATE,
        duplicate_of=named.journey,
        note=f"put right by {correction.by}, and filed as journey {named.journey}",
    )
    if item.arrival.digest is None or agreed.terms.duplicates is Duplicates.FILE:
        return steps.write(ledger().append)
    claim = in_parts(consignment, item)
    steps.entries.append(claim)
    consignment = steps.write(ledger().append)
    stand_behind(consignment, claim)
    return consignment


def _refused(consignment: Consignment, item: Item, correction: Correction, named: Document, verdict: Verdict) -> Consignment:
    """Nothing was filed, and why: for who looks at the case next. The findings of the partner's own bytes stand beside it."""
    steps = Steps(consignment)
    case = {"case": {"reason": f"put right by {correction.by}, and refused again: {verdict.reason}"}}
    about = {"by": correction.by, "comment": correction.comment, "corrected": True}
    steps.add(item, CORRECTION_REFUSED, {**about, "fix": {"digest": named.digest}, **case, **as_facts(verdict)})
    return steps.write(ledger().append)


def _facts(item: Item, journey: str) -> dict[str, tables.Told]:
    """What people told of the document counts for what was made of it as well."""
    told = {
        fact: value
        for entry in item.history
        if entry.kind == "retried"
        for fact, value in (entry.body.get("facts") or {}).items()
    }
    return {journey: (told, ())} if told else {}


def _put_right(item: Item, agreed: Agreed, correction: Correction) -> Document:
    """What a person put right, in the spool; it has no journey of its own yet."""
    with spool().batch() as batch, _opened(item.journey, agreed, correction) as content:
        sink = batch.open()
        while chunk := content.read(1024 * 1024):
            sink.write(chunk)
        done = sink.finish()
    return Document(item.journey, item.arrival.file.name, done.size, done.digest, spool().path(done.digest))


@contextmanager
def _opened(journey: str, agreed: Agreed, correction: Correction) -> Iterator[IO[bytes]]:
    if bool(correction.cells) == bool(correction.file):
        raise ConfigurationError(f"{journey}: name either cells or a file to put it right")
    if correction.file:
        with _left(journey, correction.file, agreed.terms.limits.largest_bytes) as content:
            yield content
    else:
        yield io.BytesIO(_with_cells(journey, agreed, correction.cells))


@contextmanager
def _left(journey: str, name: str, most: int) -> Iterator[IO[bytes]]:
    """A file in the corrections folder, and nothing that only leads out of it."""
    if not name or name in (".", "..") or {"/", "\0"} & set(name):
        raise ConfigurationError(f"{journey}: {name[:80]!r} is no name of a file in {corrections()}")
    try:
        handle = os.open(corrections() / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigurationError(
            f"{journey}: {name[:80]!r} cannot be read in {corrections()} ({error.strerror}); put it there and answer again"
        ) from error
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise ConfigurationError(f"{journey}: {name[:80]!r} in {corrections()} is no file")
    with os.fdopen(handle, "rb") as content:
        if found.st_size > most:
            raise ConfigurationError(f"{journey}: {name[:80]!r} has {found.st_size:,} bytes, more than the {most:,} agreed")
        yield content


def without_cells(journey: str) -> str:
    """Why only a whole file puts a refused document right; "" if its cells can be, too."""
    kept = quarantine().content(journey)
    if kept is None:
        return "was refused before it was fetched, so there are no cells: give a new file"
    return "is too large to put single cells right: give a new file" if kept.stat().st_size > LARGEST_BYTES else ""


def _with_cells(journey: str, agreed: Agreed, given: Sequence[str]) -> bytes:
    kept, why = quarantine().content(journey), without_cells(journey)
    if kept is None or why:
        raise ConfigurationError(f"{journey}: {why}")
    try:
        return cells.put_right(
            kept.read_bytes(),
            [cells.parsed(one) for one in given],
            codecs.lookup(agreed.terms.encoding).name,
            agreed.terms.delimiter,
        )
    except ValueError as error:
        raise ConfigurationError(f"{journey}: {error}") from error


def digest_of(journey: str, agreed: Agreed, correction: Correction) -> str:
    """SHA-256 of what a person puts right. Raises ``ConfigurationError`` if it cannot be had."""
    with _opened(journey, agreed, correction) as content:
        return hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]


def unfit(journey: str, agreed: Agreed, correction: Correction) -> str:
    """Why nothing can be put right so; "" if it can be tried. Reads, and writes nothing."""
    if why := correctable(agreed, ledger().journey(journey)):
        return why
    try:
        with _opened(journey, agreed, correction):
            return ""
    except ConfigurationError as error:
        return str(error).removeprefix(f"{journey}: ")
