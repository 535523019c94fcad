"""Correct: what a person puts right in a refused document is checked and filed as a document of its own, which names the person.

::

    prices.csv, refused ─▶ (cells, or a file in the folder ``corrections``) ─▶ prices.csv, journey <its>.fix1    filed
                       └▶ itself, in the quarantine as the partner wrote it: kept as that one, and its case closes

The partner's own bytes are never changed. What is put right and is refused again files nothing, and the case stays.
"""

from __future__ import annotations

import codecs
import io
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from blocks.errors import ConfigurationError
from blocks.settings import settings
from blocks.values import Document, Duplicates, Inbound, RowPolicy, Stage, Succession
from tasks import tables
from tasks.connections import ledger, quarantine, spool
from tasks.consignment import Agreed, Consignment, Item, Steps
from tasks.file_away import in_parts, stand_behind
from tasks.let_go_on import LARGEST_BYTES, file_derived, keeping, rely_on
from tasks.retrying import task
from tasks.rules import cells
from tasks.rules.judge import as_facts

CORRECTION_REFUSED = "correction refused"
"""Kind of the entry about what a person put right, and the checks refused."""


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


def correctable(terms: Inbound) -> str:
    """Why documents of a stream are not put right here; "" if they may be."""
    if terms.transfers or terms.sets or terms.returns or terms.sequence is not Succession.FREE:
        return "files of this stream are judged together with others: ask the partner for a correct one"
    if terms.rows is RowPolicy.GOOD_ROWS:
        return "good rows of this file may be filed already: ask the partner for a correct one, of which only the missing rows are filed"
    return ""


@task(task_run_name="correct what was refused")
def correct(consignment: Consignment, correction: Correction) -> Consignment:
    """Check and file what a person put right, in the place of the refused document. Refused again, that one stays refused."""
    if not (correction.cells or correction.file):
        return consignment  # nothing was put right: another try of the partner's own bytes
    agreed, steps = consignment.agreed, Steps(consignment)
    if why := correctable(agreed.terms):
        raise ConfigurationError(f"{agreed.key}: {why}")
    [item] = consignment.items
    document = _judged_document(item, agreed, correction)
    [(named, verdict)] = tables.judge([document], agreed.terms, _facts(item))
    about = {"by": correction.by, "comment": correction.comment, "corrected": True}
    if verdict.accepted:
        made = file_derived(agreed, item, named, verdict, about)
        verdict = made.verdict or verdict
    if not verdict.accepted:
        # With the case, so that who looks at it next sees why: the findings of the partner's own bytes stand beside it.
        case = {"case": {"reason": f"put right by {correction.by}, and refused again: {verdict.reason}"}}
        steps.add(item, CORRECTION_REFUSED, {**about, "digest": named.digest, **case, **as_facts(verdict)})
        return steps.write(ledger().append)
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


def _facts(item: Item) -> dict[str, tables.Told]:
    """What people told of the document counts for what was made of it as well."""
    told = {
        fact: value
        for entry in item.history
        if entry.kind == "retried"
        for fact, value in (entry.body.get("facts") or {}).items()
    }
    return {f"{item.journey}.fix{item.round}": (told, ())} if told else {}


def _judged_document(item: Item, agreed: Agreed, correction: Correction) -> Document:
    journey = f"{item.journey}.fix{item.round}"
    with spool().batch() as batch, _opened(item.journey, agreed, correction) as content:
        sink = batch.open()
        while chunk := content.read(1024 * 1024):
            sink.write(chunk)
        done = sink.finish()
    return Document(journey, item.arrival.file.name, done.size, done.digest, spool().path(done.digest))


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


def _with_cells(journey: str, agreed: Agreed, given: Sequence[str]) -> bytes:
    kept = quarantine().content(journey)
    if kept is None:
        raise ConfigurationError(f"{journey}: was refused before it was fetched, so there are no cells: give a new file")
    if kept.stat().st_size > LARGEST_BYTES:
        raise ConfigurationError(f"{journey}: is too large to put single cells right: give a new file")
    try:
        return cells.put_right(
            kept.read_bytes(),
            [cells.parsed(one) for one in given],
            codecs.lookup(agreed.terms.encoding).name,
            agreed.terms.delimiter,
        )
    except ValueError as error:
        raise ConfigurationError(f"{journey}: {error}") from error


def unfit(journey: str, agreed: Agreed, correction: Correction) -> str:
    """Why nothing can be put right so; "" if it can be tried. Reads, and writes nothing."""
    if why := correctable(agreed.terms):
        return why
    try:
        with _opened(journey, agreed, correction):
            return ""
    except ConfigurationError as error:
        return str(error).removeprefix(f"{journey}: ")
