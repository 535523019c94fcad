"""Service messages to a partner about a file of theirs: what nobody signs, because nobody could put anything into it.

::

    a worker names the file and, from fixed vocabularies, what is wrong with it
        └─▶ fetched again from the partner, by us: it stands there, with these very bytes
              └─▶ built here: our catalogue's words, the values read from those bytes ──▶ delivered like anything else, once

Workers are not trusted with what leaves. A message is made here and from three sources only: the reviewed files, the catalogues, and
the partner's own file as we ourselves find it at the partner. Bytes of our spool, which workers write, are never read for one. So all
that a worker in wrong hands can do is to choose: which file of the partner's, and which of its rows and which of our sentences to name,
at most a hundred, once for each file. A file that does not stand there any more is not written about.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blocks.endpoints.base import Endpoint, EndpointSession
from blocks.errors import ConfigurationError, EndpointError, EndpointFull, SendRefused, SpoolError
from blocks.outbound import canonical
from blocks.profile import load_partner
from blocks.sender import Arrived, MessageKind, ServiceMessage, destination_of
from blocks.spool import Spool
from blocks.values import Fetched, Inbound, Missed, NoteTerms, Outcome, Outgoing, ReceiptTerms, RowPolicy
from deployments.sender.delivery import Freight, deliver
from deployments.sender.dispatch import how_far
from deployments.sender.store import Store
from deployments.sender.turns import Turns
from tasks.doctypes import known
from tasks.doctypes.base import Doctype
from tasks.rules.languages import CATALOGUES
from tasks.rules.naming import illegal
from tasks.rules.note import MOST_LINES, Line, Note, admitted, note_name, render, sayings, with_values
from tasks.rules.receipt import Receipt, receipt_name, written

_LONGEST_LINE = 1024 * 1024
_NAMES = "names.json"
_LISTINGS = 8
"""Folders of which the last listing is kept."""


class Messenger:
    """Tells partners about their files, each once."""

    def __init__(self, store: Store, profiles: Path, *, floor_bytes: int) -> None:
        self._store, self._profiles = store, profiles
        self._outbox = store.folder / "messages"
        self._scratch = Spool(store.folder / "scratch", floor_bytes=floor_bytes)
        self._floor = floor_bytes
        self._turns = Turns()
        self._listings: dict[tuple[str, str, str], frozenset[tuple[bytes, int, datetime | None]]] = {}
        self._listing = Lock()

    def tell(self, message: ServiceMessage) -> Arrived:
        """Bring a message as far as it can be brought now; asked again, it goes on, and what was built first is what is sent.

        Raises ``SendRefused`` for a message that nothing was agreed about, or about a file that does not stand at the partner, and
        ``EndpointError`` if that could not be seen just now.
        """
        with self._turns.alone(message.id, "message"):
            parcels = self._store.parcels(message.id)
            if parcels and all(parcel.step.final for parcel in parcels):
                return how_far(parcels, 0)
            profile = load_partner(message.partner, self._profiles)
            stream = profile.inbound.get(message.stream)
            terms = _terms(message.kind, stream) if stream else None
            if stream is None or terms is None:
                wanted = f"receipt '{message.kind}'" if message.kind.receipt else message.kind
                raise SendRefused(
                    f"{message.partner}/{message.stream}: no {wanted} was agreed for this stream; nothing was sent"
                )
            folder = self._outbox / message.id
            if not folder.exists() and message.kind.receipt is not None and self._known(message):
                self._make(message, stream, terms, None, folder)
            elif not folder.exists():
                self._build(message, stream, terms, profile.endpoints[stream.endpoint], folder)
            return self._bring(message, profile.endpoints[terms.endpoint or stream.endpoint], terms.folder, folder)

    # ---------------------------------------------------------------------------------------- what it says

    def _build(
        self, message: ServiceMessage, stream: Inbound, terms: NoteTerms | ReceiptTerms, source: Endpoint, folder: Path
    ) -> None:
        """Make the message's files, whole or not at all."""
        with self._witnessed(message, stream, source) as content:
            self._make(message, stream, terms, content, folder)

    def _known(self, message: ServiceMessage) -> bool:
        """We have seen this very file at the partner before, when another receipt for it was asked for: it may be gone by now."""
        others = [replace(message, kind=kind).id for kind in MessageKind if kind.receipt is not None]
        return any(self._store.parcels(other) or (self._outbox / other).exists() for other in others)

    def _make(
        self, message: ServiceMessage, stream: Inbound, terms: NoteTerms | ReceiptTerms, content: Path | None, folder: Path
    ) -> None:
        files = _BUILDERS[message.kind](message, stream, terms, content)
        self._outbox.mkdir(exist_ok=True, mode=0o700)
        fresh = self._outbox / f".{uuid4().hex}"
        fresh.mkdir(mode=0o700)
        for number, made in enumerate(files.values()):
            fresh.joinpath(str(number)).write_bytes(made)
        fresh.joinpath(_NAMES).write_text(json.dumps([name.hex() for name in files]))
        os.replace(fresh, folder)  # noqa: PTH105 - as in the spool

    @contextmanager
    def _witnessed(self, message: ServiceMessage, stream: Inbound, source: Endpoint) -> Iterator[Path | None]:
        """The partner's file as it stands there now; None for one that nobody can or may fetch, and that stands there as it is told.

        Raises ``SendRefused`` if it does not: then nobody here can tell that it ever was the partner's.
        """
        file = message.file
        if file.folder not in stream.folders or illegal(file.name) is not None:
            raise SendRefused(f"{message.shown}: cannot be a file of this stream; nothing was sent")
        unfetched, too_large = message.digest is None, file.size > stream.limits.largest_bytes
        if too_large and not unfetched:
            raise SendRefused(f"{message.shown}: is larger than was agreed, so it was not fetched; nothing was sent")
        spool = Spool(self._scratch.folder / f"message-{message.id[:16]}", floor_bytes=self._floor)
        try:
            with source.session() as session, spool.batch() as batch:
                if not self._stands(message, stream, session):
                    raise _not_theirs(message, "it is not there as it is told")
                answers = [] if too_large else list(session.fetch([file], batch))
                missed = next((answer for answer in answers if isinstance(answer, Missed)), None)
                if missed is not None and not unfetched and not self._gone(missed, session):
                    raise EndpointError(f"{message.shown}: the server did not let us fetch it just now: {missed.reason}")
            fetched = next((answer for answer in answers if isinstance(answer, Fetched)), None)
            if unfetched and fetched is not None:
                raise SendRefused(f"{message.shown}: it can be fetched, so its digest must be told; nothing was sent")
            if not unfetched and (fetched is None or fetched.digest != message.digest):
                raise _not_theirs(message, "other bytes stand there" if fetched else "it is not there, or has changed")
            yield None if fetched is None else spool.path(fetched.digest)
        finally:
            shutil.rmtree(spool.folder, ignore_errors=True)

    def _gone(self, missed: Missed, session: EndpointSession) -> bool:
        """It cannot become this file again: only then is it given up. A busy server also says that there is no such file."""
        if missed.outcome is Outcome.VANISHED:
            return missed.file.name not in {one.name for one in session.look(missed.file.folder)}
        return missed.outcome in (Outcome.CHANGED, Outcome.NOT_A_FILE, Outcome.ILLEGAL_NAME)

    def _stands(self, message: ServiceMessage, stream: Inbound, session: EndpointSession) -> bool:
        """The partner's server lists this file with the very size and time that are told: a message's id is made of them.

        An earlier listing serves as well where the bytes are compared besides: a folder of many files is not read for each of them.
        """
        file = message.file
        place, wanted = (message.partner, stream.endpoint, file.folder), (file.name, file.size, file.modified)
        if message.digest is not None and wanted in self._listings.get(place, ()):
            return True
        listed = frozenset((one.name, one.size, one.modified) for one in session.look(file.folder))
        with self._listing:
            self._listings.pop(place, None)
            self._listings[place] = listed
            if len(self._listings) > _LISTINGS:
                self._listings.pop(next(iter(self._listings)))
        return wanted in listed

    # ---------------------------------------------------------------------------------------- on its way

    def _bring(self, message: ServiceMessage, endpoint: Endpoint, place: str, folder: Path) -> Arrived:
        names = [bytes.fromhex(name) for name in json.loads(folder.joinpath(_NAMES).read_text())]
        files = []
        for number, name in enumerate(names):
            made = folder / str(number)
            content = made.read_bytes()
            files.append(Outgoing(made, name, len(content), hashlib.sha256(content).hexdigest()))
        destination = destination_of(endpoint, place)
        freight = Freight(
            package=message.id,
            destination=canonical(destination.facts),
            endpoint=endpoint,
            folder=place,
            pins=frozenset(destination.key_fingerprint.split()),
            files=files,
            sources=names,
        )
        try:
            parcels = deliver(freight, self._store, self._scratch)
        except (EndpointError, ConfigurationError, SpoolError) as error:
            full = isinstance(error, EndpointFull)
            return how_far(self._store.parcels(message.id), 0, str(error), error.worth_retrying, full=full)
        arrived = how_far(parcels, 0)
        if arrived.complete:
            shutil.rmtree(folder, ignore_errors=True)
        return arrived


def _not_theirs(message: ServiceMessage, why: str) -> SendRefused:
    return SendRefused(
        f"{message.shown}: {why}, so nobody here can tell that it is the partner's own; nothing was sent. Tell them by mail"
    )


# --------------------------------------------------------------------------------------------- each kind


def _terms(kind: MessageKind, stream: Inbound) -> NoteTerms | ReceiptTerms | None:
    """Where the reviewed profile wants messages of a kind; None if it wants none."""
    if kind.receipt is None:
        return stream.notes
    return stream.receipts if stream.receipts and kind.receipt in stream.receipts.states else None


class _LineTold(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    code: str = Field(max_length=40)
    row: int | None = None
    column: str = Field(default="", max_length=200)
    rule: str = Field(default="", max_length=400)
    fix: str = Field(default="", max_length=400)


class _NoteTold(BaseModel):
    """What a worker tells of a note: see ``Line``."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    doctype: str | None
    lines: list[_LineTold] = Field(max_length=MOST_LINES)
    more: int = Field(default=0, ge=0, le=10**9)
    parted: bool = False


def _note(message: ServiceMessage, stream: Inbound, terms: NoteTerms, content: Path | None) -> dict[bytes, bytes]:
    """A rejection note: name -> bytes."""
    try:
        told = _NoteTold.model_validate(dict(message.facts))
    except ValidationError as error:
        raise SendRefused(
            f"{message.shown}: what it should say is no note ({error.error_count()} faults); nothing was sent"
        ) from error
    doctype = _doctype(told.doctype, stream)
    says = sayings(doctype, stream)
    lines = [line for one in told.lines if (line := admitted(Line(**one.model_dump()), doctype, says)) is not None]
    if not lines:
        raise SendRefused(f"{message.shown}: a note without anything to mend; nothing was sent")
    note = Note(
        name=message.file.name,
        size=message.file.size,
        digest=message.digest,
        doctype=doctype,
        lines=tuple(
            with_values(lines, doctype.table if doctype else None, lambda: _records(content, stream), stream.delimiter)
        ),
        more=told.more,
        parted=told.parted and stream.rows is RowPolicy.GOOD_ROWS,
        delimiter=stream.delimiter,
        decimal=stream.decimal,
        good_name=terms.good_name,
        says=says,
    )
    catalogue = CATALOGUES[terms.language]
    return {
        note_name(note.name, message.digest or message.id, format): render(note, format, catalogue)
        for format in dict.fromkeys(terms.formats)
    }


def _doctype(slug: str | None, stream: Inbound) -> Doctype | None:
    """Only a type that this stream takes: another one's words are none of this partner's business."""
    return known()[slug] if slug in {rule.doctype for rule in stream.classify} and slug in known() else None


def _records(content: Path | None, stream: Inbound) -> Iterator[list[str]]:
    """The rows of a table, as a spreadsheet counts them, as far as they can be read."""
    if content is None:
        return
    encoding = "utf-8-sig" if codecs.lookup(stream.encoding).name == "utf-8" else stream.encoding
    with content.open(encoding=encoding, errors="replace", newline="") as text:
        rows = csv.reader(iter(lambda: text.readline(_LONGEST_LINE), ""), delimiter=stream.delimiter)
        try:
            yield from rows
        except csv.Error:
            return  # a quote that is never closed, most often: the note says so


def _receipt(message: ServiceMessage, stream: Inbound, terms: ReceiptTerms, content: Path | None) -> dict[bytes, bytes]:
    """A receipt: name -> bytes. Nothing in it is a worker's to say but which of the three it is."""
    assert message.kind.receipt is not None  # noqa: S101 - that is how it got here
    receipt = Receipt(
        state=message.kind.receipt,
        partner=message.partner,
        stream=message.stream,
        file=message.file,
        digest=message.digest,
        at=datetime.now(UTC),
    )
    return {receipt_name(receipt, message.id, format): written(receipt, format) for format in dict.fromkeys(terms.formats)}


_BUILDERS: Mapping[MessageKind, Any] = {kind: _receipt if kind.receipt else _note for kind in MessageKind}
