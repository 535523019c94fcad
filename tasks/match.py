"""Match: put what another program left together in sets, and see whether its log says what stands there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from blocks.outbound import sha256
from blocks.values import Finding, Stage, Verdict, shown
from tasks.connections import ledger, spool
from tasks.consignment import Consignment, Item, Steps
from tasks.incidents import TRANSFER_INCOMPLETE, close_incidents, open_incident
from tasks.retrying import task
from tasks.rules.judge import as_facts, from_facts
from tasks.rules.transfers import Logged, Part, Role, compared, facts_of, log_too_large, logged, missing, part_of

DOCTYPE = "transfer"
MOST_LOG = 64 * 1024 * 1024
"""Bytes of a log that is read; a larger one is refused."""


@task(task_run_name="match ({consignment.size})")
def match(consignment: Consignment) -> Consignment:
    """Judge each set as a whole, once: what is incomplete waits; what is not as its log says is refused, with all that belongs to it."""
    steps = Steps(consignment)
    for key, together in sets(consignment).items():
        open_still = [item for item, _ in together if item.stage in (Stage.FETCHED, Stage.JUDGED)]
        if any(item.document is None for item in open_still):
            continue  # it is still being written, or was refused for its name
        if lacking := _lacking(consignment, key, together):
            _wait(consignment, key, open_still, lacking, steps)
        elif open_still:
            close_incidents(consignment.agreed, TRANSFER_INCOMPLETE, [item.journey for item in open_still])
            _judge(consignment, key, together, steps)
    return steps.write(ledger().append)


def sets(consignment: Consignment) -> dict[str, list[tuple[Item, Part]]]:
    """The files of a consignment by set, each with what it is there."""
    found: dict[str, list[tuple[Item, Part]]] = {}
    for item in consignment.items:
        part = part_of(item.arrival.file.folder, item.arrival.file.name, consignment.agreed.terms)
        if part is not None and item.stage is not Stage.QUARANTINED and item.stage is not Stage.CLEARED:
            found.setdefault(part.set, []).append((item, part))
    return found


def _lacking(consignment: Consignment, key: str, together: Sequence[tuple[Item, Part]]) -> tuple[Role, ...]:
    terms = consignment.agreed.terms.transfers
    assert terms is not None  # noqa: S101 - the flow is for such streams only
    roles = {part.role for _, part in together}
    if roles == {Role.ACKNOWLEDGEMENT} and recorded(consignment, key):
        return ()  # it comes later, and is added to the record
    return missing(roles, terms)


def recorded(consignment: Consignment, key: str) -> bool:
    """True if a record of the set was filed."""
    return any(entry.kind == "recorded" for entry in ledger().journey(set_journey(consignment, key)))


def set_journey(consignment: Consignment, key: str) -> str:
    """The journey of a set's record. The set's name is whatever somebody called a file, so it is not in the id as it is."""
    return f"transfer.{consignment.agreed.partner}.{consignment.agreed.stream}.{sha256(key)[:32]}"


def _wait(consignment: Consignment, key: str, items: Sequence[Item], lacking: Sequence[Role], steps: Steps) -> None:
    terms = consignment.agreed.terms.transfers
    assert terms is not None  # noqa: S101 - as above
    reason = f"{shown(key)}: its {' and its '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} not come"
    for item in items:
        steps.changed[item.journey] = replace(item, note=f"waits: {reason}")
    first = min(items, key=lambda item: item.arrival.first_seen)
    if ledger().now() - first.arrival.first_seen >= terms.wait:
        name = first.arrival.file.shown
        told = f"{reason} within {terms.wait}; the rest waits for it"
        open_incident(consignment.agreed, first.journey, name, TRANSFER_INCOMPLETE, told)


def _judge(consignment: Consignment, key: str, together: Sequence[tuple[Item, Part]], steps: Steps) -> None:
    before = {item.journey: item.recorded("judged") for item, _ in together}
    fresh = [
        item
        for item, _ in together
        if (told := before[item.journey]) is None
        or (told.body["digest"], told.body["round"]) != (item.arrival.digest, item.round)
    ]
    judged, told_by_log = _verdicts(consignment, key, together) if fresh else ({}, {})
    for item, _ in together:
        told = before[item.journey]
        if item.stage not in (Stage.FETCHED, Stage.JUDGED):
            continue
        if item not in fresh and told is not None:
            steps.changed[item.journey] = replace(item, stage=Stage.JUDGED, verdict=from_facts(item.journey, told.body))
            continue
        verdict = judged[item.journey]
        facts = {
            "digest": item.arrival.digest,
            "round": item.round,
            "profile": consignment.agreed.digest,
            "media_type": "",
            "set": key,
            "logged": told_by_log[item.journey].facts if item.journey in told_by_log else None,
            **as_facts(verdict),
        }
        steps.add(item, "judged", facts, stage=Stage.JUDGED, verdict=verdict)


def _verdicts(
    consignment: Consignment, key: str, together: Sequence[tuple[Item, Part]]
) -> tuple[dict[str, Verdict], dict[str, Logged]]:
    """One verdict for all files of a set, for what is wrong about one of them is wrong about the set; and what its log says."""
    findings: list[Finding] = []
    facts: dict[str, str] = {}
    lines: dict[str, Logged] = {}
    if all(part.role is Role.ACKNOWLEDGEMENT for _, part in together):
        newest = [entry.body for entry in ledger().journey(set_journey(consignment, key)) if entry.kind == "recorded"][-1]
        facts = dict(newest["facts"])
    else:
        told = sent(consignment, together)
        for item, part in together:
            if part.role is Role.DOCUMENT:
                one = told[item.journey]
                if isinstance(one, Finding):
                    findings.append(one)
                else:
                    lines[item.journey] = one
                    facts = facts or facts_of(part, one)
    verdicts = {
        item.journey: Verdict(item.journey, DOCTYPE, tuple(findings), {**facts, "role": part.role.value})
        for item, part in together
    }
    return verdicts, lines


def sent(consignment: Consignment, together: Sequence[tuple[Item, Part]]) -> dict[str, Logged | Finding]:
    """What the log says of each document of a set, by its journey; or what is wrong.

    What was found when a document was judged stands: who goes on with it may have another spool.
    """
    terms = consignment.agreed.terms.transfers
    assert terms is not None  # noqa: S101 - as above
    documents = [item for item, part in together if part.role is Role.DOCUMENT and item.arrival.digest is not None]
    found: dict[str, Logged | Finding] = {}
    for item in documents:
        judged = item.recorded("judged")
        if item.stage is Stage.FILED and judged is not None and judged.body.get("logged"):
            found[item.journey] = Logged.parse(judged.body["logged"])
    if len(found) == len(documents):
        return found
    lines: list[Logged] = []
    for item, part in together:
        if part.role is Role.LOG and item.arrival.digest is not None:
            if size_of(item) > MOST_LOG:
                wrong = log_too_large(item.arrival.file.shown, size_of(item), MOST_LOG)
                return {**dict.fromkeys((one.journey for one in documents), wrong), **found}
            with spool().path(item.arrival.digest).open("rb") as log:
                lines += logged(log, terms, consignment.agreed.timezone)
    for item in documents:
        assert item.arrival.digest is not None  # noqa: S101 - asked above
        told = compared(item.arrival.file.name, size_of(item), item.arrival.digest, lines, terms)
        found.setdefault(item.journey, told)
    return found


def size_of(item: Item) -> int:
    """Bytes of a file that was fetched."""
    if item.document is not None:
        return item.document.size
    fetched = item.recorded("fetched")
    assert fetched is not None  # noqa: S101 - only such files are matched
    return int(fetched.body["size"])
