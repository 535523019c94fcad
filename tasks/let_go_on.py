"""Let good rows go on: of a table with bad rows the others are filed as a document of their own, of a corrected one what was missing.

::

    shipments.csv, 3 of 500 bad ─▶ shipments.rows-1a2b3c4d.csv (497 rows), journey <its>.rows0   filed
                                └▶ itself, in the quarantine, its case open until ...
    shipments.csv, corrected    ─▶ shipments.rows-5e6f7a8b.csv (3 rows)                          filed, and the case closes
                                └▶ itself, in the quarantine too, with no case

A part has a journey of its own, which names the one that it came from; that one names the part. What was filed is known by the whole
row, so that nothing is filed twice, whatever else stands in a later file.
"""

from __future__ import annotations

import codecs
import csv
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blocks.errors import JourneyReduced, LeaseLost
from blocks.ledger import Case, Entry, Recorded
from blocks.settings import settings
from blocks.values import Document, Finding, RowPolicy, Stage, Verdict
from tasks import tables
from tasks.connections import ledger, quarantine, spool
from tasks.consignment import Agreed, Consignment, Item, Steps, claimed_item
from tasks.doctypes import find
from tasks.doctypes.base import Table
from tasks.file_away import file_away, in_parts, stand_behind
from tasks.rules.holding import RELIED_ON, wholes_of
from tasks.rules.rows import Parted, Record, as_file, keys, part, part_name, separable

LARGEST_BYTES = 32 * 1024 * 1024
"""A larger table is held as a whole: its rows would not all be in memory."""
PARTED = "parted"
"""Kind of the entry about a file of which a part went on: ``held`` are the rows that did not, ``parts`` the parts' journeys."""
CORRECTS = "corrects"
"""What the entry about a corrected file calls the journeys whose held rows have all come: tomorrow's file may have the same name.

Earlier files that were held as a whole are among them: as elsewhere, the next one of their name that comes through is the right one,
where the partner was asked for it."""
KEPT = "kept"
"""What that entry calls the folder of the quarantine in which the corrected file's own bytes are: the repository has them in parts."""

NOT_KEPT = "and its bytes are not in the quarantine"
NOT_IN_ROWS = (
    "and this one is not read by its rows (too large, another document type, or 'rows: good-rows' is not agreed any more)"
)


def let_go_on(consignment: Consignment) -> Consignment:
    """File the good rows of tables that are refused, and what was missing of corrected ones. All else is left to the steps behind."""
    agreed = consignment.agreed
    going_on = [item for item in consignment.at(Stage.JUDGED) if item.verdict is not None and separable(item.verdict.findings)]
    cases = ledger().cases(partner=agreed.partner, stream=agreed.stream) if going_on else []
    by_name = dict[str | None, list[Case]]()
    for case in cases:
        by_name.setdefault(case.name, []).append(case)
    for item in going_on:
        assert item.verdict is not None  # noqa: S101 - it is judged
        named = _named(by_name.get(item.arrival.file.shown, ()), item)
        waiting = _waiting(named, item)
        table = _table(item) if agreed.terms.rows is RowPolicy.GOOD_ROWS else None
        if table is None:
            if item.verdict.accepted and waiting:
                consignment = consignment.with_changes({item.journey: _unknown(item, NOT_IN_ROWS)})
            continue
        earlier = _earlier(waiting, item)
        if earlier is None:
            consignment = consignment.with_changes({item.journey: _unknown(item, NOT_KEPT)})
        elif not item.verdict.accepted or earlier:
            whole = [one for one in named if one not in waiting and one != item.journey]
            consignment = _part(consignment, item, table, earlier, whole)
    return consignment


def _table(item: Item) -> Table | None:
    """The table that a document is, if its rows mean something without each other, and are not too many."""
    if item.document is None or item.verdict is None or item.verdict.doctype is None or item.document.size > LARGEST_BYTES:
        return None
    table = find(item.verdict.doctype).table
    return table if table is not None and table.rows_stand_alone and table.key else None


@dataclass(frozen=True, slots=True)
class _Before:
    """An earlier file, parts of which were filed: of the same name with an open case, or one that came after it."""

    journey: str
    content: Path
    held: frozenset[int]
    parts: tuple[str, ...]


def _waiting(named: Sequence[str], item: Item) -> dict[str, Recorded]:
    """Files of this name of which a part went on and the rest waits: journey -> what was said last about it. This one itself is among
    them if a person has it tried again."""
    before = [journey for journey in named if journey != item.journey]
    histories = {**(ledger().journeys(before) if before else {}), item.journey: item.history}
    found = {}
    for journey, history in sorted(histories.items()):
        told = went_on(history)
        if told is not None and (journey != item.journey or told.body["round"] != item.round):
            found[journey] = told
    return found


def _named(cases: Iterable[Case], item: Item) -> list[str]:
    """Of the open cases of files of its name those that came before, and its own if it has one."""
    return [case.journey for case in cases if case.journey <= item.journey]


def _earlier(waiting: Mapping[str, Recorded], item: Item) -> list[_Before] | None:
    """What went on of these, and of those that are compared with them. None if nobody can tell."""
    later = compared_with(one for told in waiting.values() for one in told.body["parts"])
    later.pop(item.journey, None)
    found = []
    for journey, told in sorted({**later, **waiting}.items()):
        content = item.document.path if journey == item.journey and item.document else quarantine().content(journey)
        if content is None:
            return None
        found.append(_Before(journey, content, frozenset(told.body["held"]), tuple(told.body["parts"])))
    return found


def went_on(history: Sequence[Recorded]) -> Recorded | None:
    """What was said last about a file of which rows went on: which are held, and the journeys of all parts in which the others are."""
    return next(
        (one for one in reversed(history) if one.kind == PARTED or (one.kind == "duplicate" and CORRECTS in one.body)), None
    )


def rows_filed(agreed: Agreed, journey: str, name: str) -> bool:
    """True if rows of this file went on, or of another one of its name whose case is open: what is filed whole has them once more.

    That is so whatever ``rows`` says by now.
    """
    cases = ledger().cases(partner=agreed.partner, stream=agreed.stream)
    named = [case.journey for case in cases if case.name == name]
    return any(went_on(history) for history in ledger().journeys([journey, *named]).values())


def compared_with(parts: Iterable[str]) -> dict[str, Recorded]:
    """Whole files whose rows are in these parts, or in other parts of such a file, and so on; what was said last about each.

    So a file is found whose own case is closed while an earlier one's is open.
    """
    found, asked, wanted = dict[str, Recorded](), set[str](), set(parts)
    while new := wanted - asked:
        asked |= new
        wholes = {whole for history in ledger().journeys(sorted(new)).values() for whole in wholes_of(history)} - found.keys()
        for whole, history in ledger().journeys(sorted(wholes)).items():
            if (told := went_on(history)) is not None:
                found[whole] = told
                wanted.update(told.body["parts"])
    return found


def _unknown(item: Item, why: str) -> Item:
    """Nothing of a file goes on while nobody can tell what of it did already."""
    finding = Finding(
        code="parts-unknown",
        message=f"Rows of an earlier file of this name were filed, {why}: which rows, nobody can tell",
        file=item.arrival.file.shown,
        rule="No row is filed twice",
        fix="Compare with the parts in the repository, reject the earlier file's case, then 'countersign quarantine retry'",
    )
    return replace(item, verdict=Verdict(item.journey, item.verdict.doctype if item.verdict else None, (finding,)))


def _part(consignment: Consignment, item: Item, table: Table, earlier: Sequence[_Before], whole: Sequence[str]) -> Consignment:
    """File what is good and not filed yet. ``whole``: earlier files of this name that are held with all of their rows."""
    agreed, document, verdict = consignment.agreed, item.document, item.verdict
    assert document is not None and verdict is not None  # noqa: S101 - it is a table
    filed: set[Record] = set()
    held: dict[str, set[Record]] = {}
    for before in earlier:
        records = _records(before.content, table, agreed)
        filed |= {record for row, record in records.items() if row not in before.held}
        if before.held:
            held[before.journey] = {record for row, record in records.items() if row in before.held}
    parted = part(_records(document.path, table, agreed), table, verdict.findings, filed)
    parts = [one for before in earlier for one in before.parts]
    if parted.fresh:
        made = _file(consignment, item, parted, table)
        if made.verdict is not None and not made.verdict.accepted:  # then all of it waits for a person, and says why
            told = replace(verdict, findings=(*verdict.findings, *made.verdict.findings))
            return consignment.with_changes({item.journey: replace(item, verdict=told)})
        parts.append(made.journey)
    if not parts:
        return consignment  # no good row at all
    facts = {
        "digest": item.arrival.digest,
        "round": item.round,
        "fresh": len(parted.fresh),
        "before": parted.before,
        "held": list(parted.held),
        "parts": list(dict.fromkeys(parts)),
    }
    steps = Steps(consignment)
    rely_on(dict.fromkeys(one for before in earlier for one in before.parts), item.journey)
    if parted.held:
        note = f"{len(parted.fresh)} rows were filed, {len(parted.held)} are held"
        told = Verdict(item.journey, verdict.doctype, (*parted.changed, *verdict.findings), verdict.facts)
        once = f"{item.journey}/{PARTED}/{item.round}"
        steps.add(item, PARTED, facts, once=once, verdict=told, note=note, parted=True, rows_filed=len(parted.fresh))
    else:
        part_of = parts[-1]
        came = keys({*filed, *parted.fresh}, table)
        facts |= {CORRECTS: [*(journey for journey, records in held.items() if keys(records, table) <= came), *whole]}
        note = f"{len(parted.fresh)} rows were missing and are filed, as journey {part_of}"
        facts |= keeping(part_of)
        about = {
            **(quarantine().about(item.journey) or {}),
            "origin": agreed.origin(item.arrival),
            "digest": item.arrival.digest,
        }
        about |= {CORRECTS: facts[CORRECTS]}  # beside what was found in it, if it was refused before
        facts |= {KEPT: quarantine().keep(item.journey, document.path, about).name}
        steps.add(
            item,
            "duplicate",
            {**facts, "duplicate_of": part_of},
            once=f"{item.journey}/duplicate",
            stage=Stage.DUPLICATE,
            duplicate_of=part_of,
            note=note,
            rows_filed=len(parted.fresh),
        )
        claim = in_parts(consignment, item)
        steps.entries.append(claim)
        consignment = steps.write(ledger().append)
        stand_behind(consignment, claim)
        return consignment
    return steps.write(ledger().append)


def keeping(part: str) -> dict[str, Any]:
    """How long rows must be kept, as it was agreed for the part that was filed last."""
    told = next((entry.body for entry in reversed(ledger().journey(part)) if entry.kind in ("filed", "duplicate")), {})
    return {name: told[name] for name in ("records_class", "record_date", "keep_until", "schedule") if name in told}


def rely_on(parts: Iterable[str], whole: str) -> None:
    """Tell parts that a whole file's rows are kept in them, before that is so: a removal looks there who relies on the document."""
    for journey in parts:
        with suppress(JourneyReduced):  # then we do not remove its document any more
            ledger().append([Entry(journey, RELIED_ON, {"from": whole}, once=f"{journey}/{RELIED_ON}/{whole}")])


# --------------------------------------------------------------------------------------------- the part


def _file(consignment: Consignment, item: Item, parted: Parted, table: Table) -> Item:
    """File rows as a document of their own; what became of it."""
    agreed, journey = consignment.agreed, f"{item.journey}.rows{item.round}"
    document, verdict = _judged(
        agreed, item, journey, as_file(parted.fresh, table, agreed.terms.delimiter, agreed.terms.encoding)
    )
    if not verdict.accepted:
        return replace(item, verdict=verdict)
    named = replace(document, name=part_name(item.arrival.file.name, document.digest))
    return file_derived(agreed, item, named, verdict, {"rows": len(parted.fresh)})


def file_derived(agreed: Agreed, item: Item, document: Document, verdict: Verdict, about: Mapping[str, Any]) -> Item:
    """File a document that was made of an item's, as a journey of its own that names the item's; what became of it.

    Doing it again after a kill files nothing twice.
    """
    journey, seconds = document.journey, settings().lease_seconds
    lease = ledger().lease([f"journey:{journey}"], owner=f"{socket.gethostname()}/{os.getpid()}", seconds=seconds)
    if lease is None:
        raise LeaseLost(f"{item.arrival.file.shown}: somebody files what was made of it just now; the next run goes on")
    with ledger().holding(lease, seconds) as held:
        file = replace(item.arrival.file, name=document.name, size=document.size)
        arrival = replace(item.arrival, journey=journey, file=file, digest=document.digest, stage=Stage.JUDGED)
        about = {**about, "from": item.journey, "digest": document.digest, "profile": agreed.digest}
        begun = Entry(journey, "derived", {**agreed.about(arrival), **about}, once=f"{journey}/derived/{document.digest}")
        ledger().append([begun], held.lease)
        history = ledger().journey(journey)
        through = any(entry.kind == "filed" for entry in history)
        made = claimed_item(replace(arrival, stage=Stage.FILED) if through else arrival, history)
        made = replace(made, document=document, verdict=verdict)
        if not through:
            [made] = file_away.fn(Consignment(agreed, held, [made])).items
        if made.filed is None and made.duplicate_of is None:
            if made.verdict is None or made.verdict.accepted:
                raise LeaseLost(f"{item.arrival.file.shown}: what was made of it waits ({made.note}); the next run goes on")
            return made
        closed = Entry(journey, "closed", agreed.about(arrival), once=f"{journey}/closed", stage=Stage.CLEARED)
        ledger().append([closed], held.lease)
        return made


def _judged(agreed: Agreed, item: Item, journey: str, content: bytes) -> tuple[Document, Verdict]:
    """A part in the spool, and what the checks say of it under the name of the file that it came from."""
    assert item.document is not None and item.verdict is not None  # noqa: S101 - it is a table
    with spool().batch() as batch:
        sink = batch.open()
        sink.write(content)
        done = sink.finish()
    document = Document(journey, item.document.name, done.size, done.digest, spool().path(done.digest))
    [(sniffed, verdict)] = tables.judge([document], agreed.terms)
    by_people = {fact: value for fact, value in item.verdict.facts.items() if fact not in verdict.facts}
    return sniffed, replace(verdict, facts={**by_people, **verdict.facts})


def _records(content: Path, table: Table, agreed: Agreed) -> dict[int, Record]:
    """The data rows of a table that its checks could read, by their number."""
    encoding = "utf-8-sig" if codecs.lookup(agreed.terms.encoding).name == "utf-8" else agreed.terms.encoding
    found: dict[int, Record] = {}
    with content.open(encoding=encoding, newline="") as text:
        for row, record in enumerate(csv.reader(text, delimiter=agreed.terms.delimiter), 1):
            ends = table.trailer is not None and bool(record) and record[0].startswith(table.trailer.start)
            if row > 1 and record and not ends:
                found[row] = tuple(record)
    return found
