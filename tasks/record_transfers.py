"""Record transfers: file what another program sent, its log and what came back as one transmission record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from blocks.ledger import Entry, Recorded
from blocks.outbound import sha256
from blocks.values import Collision, Finding, Stage
from tasks.connections import ledger
from tasks.consignment import Consignment, Item
from tasks.evidence import file_pieces, written
from tasks.match import sent, set_journey, sets, size_of
from tasks.retrying import task
from tasks.rules.transfers import Logged, Member, Part, Role, record
from tasks.rules.transmission import acknowledged


@task(task_run_name="record transfers ({consignment.size})")
def record_transfers(consignment: Consignment) -> Consignment:
    """File the record of each set whose files are all filed. Only then are the originals cleared: it raises if one cannot be filed.

    What its log tells is written down where the set is judged, and the record's text before it is filed: no bytes are read again.
    """
    for key, together in sets(consignment).items():
        if all(item.stage is Stage.FILED and item.filed is not None for item, _ in together):
            _record(consignment, key, together)
    return consignment


def _record(consignment: Consignment, key: str, together: Sequence[tuple[Item, Part]]) -> None:
    """File records until they hold every one of these files: an earlier try, or another run, may have written one without some."""
    journey, agreed = set_journey(consignment, key), consignment.agreed
    while True:
        history = ledger().journey(journey)
        filed = {str(id) for entry in history if entry.kind == "recorded" for id in entry.body["journeys"]}
        if not (fresh := {item.journey for item, _ in together} - filed):
            return
        number = sum(entry.kind == "recorded" for entry in history) + 1
        told = _written(consignment, journey, key, together, fresh, number, history)
        text, facts = str(told.body["text"]), dict(told.body["facts"])
        piece = written(
            f"{journey}/{number}",
            f"{facts['set']}.transmission.json",
            "transmission.json",
            text,
            "application/json",
            [(str(name), str(digest)) for name, digest in told.body["documents"]],
        )
        target = agreed.terms.target.model_copy(update={"collision": Collision.NEW_VERSION})
        about = {**facts, "role": "record", "partner": agreed.partner, "stream": agreed.stream}
        (done,) = file_pieces(agreed.repository, target, about, told.at, [piece])
        body = {
            **_about(consignment, key),
            "record": sha256(text),
            "repository": agreed.repository.address,
            "repository_id": done.id,
            "version": done.version,
            "filed_as": done.name,
            "facts": facts,
            "journeys": sorted({*filed, *told.body["journeys"]}),
        }
        ledger().append([Entry(journey, "recorded", body, once=f"recorded/{journey}/{number}", stage=Stage.CLEARED)])


def _about(consignment: Consignment, key: str) -> dict[str, Any]:
    return {"partner": consignment.agreed.partner, "stream": consignment.agreed.stream, "name": key}


def _written(
    consignment: Consignment,
    journey: str,
    key: str,
    together: Sequence[tuple[Item, Part]],
    fresh: set[str],
    number: int,
    history: Sequence[Recorded],
) -> Recorded:
    """The record's text as it is filed, whoever files it: the first writer's, with the journeys of the files that it tells of."""
    once = f"recording/{journey}/{number}"
    if (before := next((entry for entry in history if entry.once == once), None)) is not None:
        return before
    earlier = [entry for entry in history if entry.kind == "recording"]
    if earlier and all(part.role is Role.ACKNOWLEDGEMENT for item, part in together if item.journey in fresh):
        together = [(item, part) for item, part in together if item.journey in fresh]  # what was recorded stands
    members = [_member(consignment, item, part) for item, part in together]
    documents = [(one.name, one.digest) for one in members if one.role is Role.DOCUMENT]
    first = together[0][0].recorded("judged")
    facts: Mapping[str, Any]
    if documents:
        told = sent(consignment, together)
        lines = {item.arrival.file.shown: _sure(told[item.journey]) for item, part in together if part.role is Role.DOCUMENT}
        now = ledger().now()
        text = record(consignment.agreed.partner, "", consignment.agreed.stream, key, members, lines, now)
        verdict = together[0][0].verdict
        facts = dict(verdict.facts) if verdict is not None else dict(first.body["facts"]) if first is not None else {}
    else:
        now = ledger().now()
        text = acknowledged(str(earlier[-1].body["text"]), [one.acknowledges(now) for one in members])
        facts, documents = earlier[-1].body["facts"], [tuple(pair) for pair in earlier[-1].body["documents"]]
    journeys = sorted(item.journey for item, _ in together)
    body = {
        **_about(consignment, key),
        "text": text,
        "facts": {**facts, "set": key},
        "documents": documents,
        "journeys": journeys,
    }
    return ledger().append([Entry(journey, "recording", body, once=once, stage=Stage.CLEARED)], None)[0]


def _sure(told: Logged | Finding) -> Logged:
    assert isinstance(told, Logged)  # noqa: S101 - a set with a finding is refused, and never filed
    return told


def _member(consignment: Consignment, item: Item, part: Part) -> Member:
    assert item.filed is not None and item.arrival.digest is not None  # noqa: S101 - asked before
    file = item.arrival.file
    size, kept = size_of(item), consignment.agreed.repository.address
    return Member.of(part.role, file.shown, item.arrival.digest, size, kept, item.filed)
