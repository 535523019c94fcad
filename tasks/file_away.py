"""File away: ask the repository to keep what was accepted, once per stream, target and content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date
from typing import Any

from blocks.errors import OutcomeUnknown, SpoolCorrupt, SpoolError
from blocks.ledger import Entry, Recorded
from blocks.repositories.base import RepositorySession
from blocks.spool import Unkept
from blocks.values import Duplicates, Filed, Filing, Finding, InWorkspace, NotFiled, Stage, Succession, Verdict
from tasks.connections import ledger, repository_session, spool
from tasks.consignment import Consignment, Item, Steps
from tasks.in_sequence import file_in_sequence
from tasks.in_sets import whole_sets
from tasks.retrying import task
from tasks.returns import find_origins
from tasks.rules.filing import plan, unfilled
from tasks.rules.holding import UNKNOWN as UNTOLD
from tasks.rules.passing import PASSING
from tasks.rules.removal import being_removed, was_removed
from tasks.rules.sequence import UNKNOWN
from tasks.rules.sidecar import to_come
from tasks.start_reviews import start_reviews
from tasks.to_go_onward import to_go_onward

IN_PARTS = "kept-in-parts"
"""Kind of the entry with which a table takes its bytes' key whose rows were filed as parts."""
_DECIDED = ("quarantined", "duplicate", "retried", "rejected")


@task(task_run_name="file away ({consignment.size})")
def file_away(consignment: Consignment) -> Consignment:
    """File what was accepted. The same bytes are filed once per stream and target; later ones are duplicates of that journey."""
    return start_reviews(_file_away(find_origins(_refuse_unfilled(consignment))))


def _file_away(consignment: Consignment) -> Consignment:
    if consignment.agreed.terms.sequence is not Succession.FREE:
        return file_in_sequence(consignment, lambda so_far, item: _file_accepted(so_far, [item]))
    consignment, waiting = whole_sets(consignment)
    judged = [item for item in consignment.at(Stage.JUDGED) if item.journey not in waiting]
    accepted = [item for item in judged if item.verdict is not None and item.verdict.accepted]
    return _file_accepted(consignment, accepted)


def _file_accepted(consignment: Consignment, accepted: list[Item]) -> Consignment:
    keys = {item.journey: _content_key(consignment, item) for item in accepted}
    while accepted:
        plans = _plans(consignment, accepted)
        holders = _intend(consignment, accepted, plans, keys)
        ours = [item for item in accepted if _is_ours(item, holders[item.journey])]
        to_go_onward(consignment, ours)
        mine = {item.journey for item in ours}
        rest = [item for item in accepted if item.journey not in mine]
        consignment = _file(consignment, ours, plans, holders)
        consignment, accepted = _compare(consignment, rest, plans, holders, keys)
    return consignment


def _refuse_unfilled(consignment: Consignment) -> Consignment:
    """What was judged stands, but its target may have been changed since, and need what nobody had read then."""
    refused = {}
    for item in consignment.at(Stage.JUDGED):
        if item.document and item.verdict and item.verdict.accepted:
            terms, facts = consignment.agreed.terms, item.verdict.facts
            findings = tuple(unfilled(item.document.shown, facts, terms, to_come(item.document.name, facts, terms)))
            if findings:
                refused[item.journey] = replace(item, verdict=Verdict(item.journey, item.verdict.doctype, findings))
    return consignment.with_changes(refused)


def _content_key(consignment: Consignment, item: Item) -> str:
    agreed = consignment.agreed
    key = f"content/{agreed.partner}/{agreed.stream}/{agreed.terms.target.repository}/{item.arrival.digest}"
    if item.origin is not None:  # the same edit of two documents is a version of each
        key = f"{key}/{hashlib.sha256(item.origin.repository_id.encode()).hexdigest()}"
    # The same for what may be in the repository already, before anybody knew its digest.
    own = agreed.terms.duplicates is Duplicates.FILE or item.recorded(PASSING) is not None
    return f"{key}/{item.journey}" if own else key


def in_parts(consignment: Consignment, item: Item) -> Entry:
    """The entry that makes bytes this journey's, although only parts of them were filed: later ones are duplicates of it."""
    facts = {**consignment.agreed.about(item.arrival), "digest": item.arrival.digest, "round": item.round}
    return Entry(item.journey, IN_PARTS, facts, once=_content_key(consignment, item))


def stand_behind(consignment: Consignment, claim: Entry) -> None:
    """Make bytes kept in parts this journey's also where another one meant to file them, and did not: who tries next is told of it."""
    key = claim.once
    while True:
        [holder] = ledger().append([claim], consignment.lease)
        if holder.fresh or _fate(ledger().journey(holder.journey)) == "filed":
            return
        claim = replace(claim, once=f"{key}/after/{holder.journey}/{holder.body['round']}")


def _plans(consignment: Consignment, items: Sequence[Item]) -> dict[str, Filing]:
    """What the repository is to be asked, by journey."""
    agreed, plans = consignment.agreed, dict[str, Filing]()
    for item in items:
        assert item.document is not None and item.verdict is not None  # noqa: S101 - it was accepted
        plans[item.journey] = plan(
            item.document, item.verdict, agreed.terms, agreed.partner, agreed.stream, item.arrival, item.origin
        )
    return plans


def _intend(
    consignment: Consignment, items: Sequence[Item], plans: Mapping[str, Filing], keys: Mapping[str, str]
) -> dict[str, Recorded]:
    """Write down what we are about to file. The key decides, among all workers, whose journey these bytes belong to."""
    entries = [_intent(consignment, item, plans[item.journey], keys[item.journey]) for item in items]
    recorded = ledger().append(entries, consignment.lease)
    return {item.journey: entry for item, entry in zip(items, recorded, strict=True)}


def _intent(consignment: Consignment, item: Item, filing: Filing, key: str) -> Entry:
    agreed = consignment.agreed
    facts = {
        **agreed.about(item.arrival),
        "digest": item.arrival.digest,
        "repository": agreed.repository.address,
        "folder": list(filing.folder),
        "filed_as": filing.name,
        "round": item.round,
        "keeping": _keeping(filing),
        **({"workspace": filing.workspace.facts} if filing.workspace else {}),
        **({"document": filing.document, "said": filing.sent} if filing.document else {}),
    }
    return Entry(item.journey, "filing", facts, once=key)


def passing(consignment: Consignment, item: Item, filing: Filing) -> Entry:
    """The intent to file what is on its way, and whose digest nobody knows yet. Once per journey."""
    return replace(_intent(consignment, item, filing, f"{item.journey}/{PASSING}"), kind=PASSING)


def filed_already(item: Item, answer: Filed, steps: Steps) -> None:
    """Record that it passed through: as if it had been intended with its digest, and filed, now."""
    filing = _plans(steps.consignment, [item])[item.journey]
    steps.entries.append(_intent(steps.consignment, item, filing, _content_key(steps.consignment, item)))
    _note_filed(item, answer, steps, _keeping(filing))


def _is_ours(item: Item, holder: Recorded) -> bool:
    """True if these bytes are this journey's to file. What it meant to file before it was refused may be another's by now."""
    return (
        holder.kind == "filing"
        and holder.journey == item.journey
        and (holder.body["round"] == item.round or item.recorded("filed") is not None)
    )


def _file(
    consignment: Consignment, items: Sequence[Item], plans: Mapping[str, Filing], holders: Mapping[str, Recorded]
) -> Consignment:
    agreed, steps = consignment.agreed, Steps(consignment)
    waiting = {item.journey: _as_intended(plans[item.journey], item, holders[item.journey]) for item in items}
    by_journey = {item.journey: item for item in items}
    for journey, reason in _in_doubt(items, holders).items():
        del waiting[journey]
        steps.changed[journey] = refused(by_journey[journey], UNKNOWN, reason)
    try:
        while waiting:
            with repository_session(agreed.repository) as session:
                for answer in _until_unknown(session.file(_while_leased(list(waiting.values()), consignment)), waiting):
                    filing, item = waiting.pop(answer.journey), by_journey[answer.journey]
                    if isinstance(answer, Filed) and (why := _differs(item, answer, session)):
                        answer = NotFiled(item.journey, UNKNOWN, why)
                    if isinstance(answer, Filed):
                        told = holders[item.journey].body.get("workspace")
                        _note_filed(item, answer, steps, _keeping(filing) | ({"workspace": told} if told else {}))
                    elif answer.code == UNKNOWN:
                        unknown(item, answer.reason, steps)
                    else:
                        steps.changed[item.journey] = refused(item, answer.code, answer.reason)
    except SpoolCorrupt:
        for filing in waiting.values():
            with suppress(SpoolError):
                spool().verify(filing.digest)  # sets aside what is not what it should be, so that it is fetched again
        raise
    finally:
        # What the repository confirmed before something broke is a fact, and is recorded as one.
        consignment = steps.write(ledger().append)
    return consignment


def _differs(item: Item, answer: Filed, session: RepositorySession) -> str | None:
    """Why what the repository keeps is not what we hold, of a file that was once on its way through; None if it is the same.

    The attempt that broke off may have filed it, and only bytes tell whether the source has others since.
    """
    if item.recorded(PASSING) is None:
        return None
    with Unkept(spool()) as batch:
        kept = session.fetch(answer.id, answer.version, batch)
    if kept.digest == item.arrival.digest:
        return None
    return (
        f"version {answer.version} of {answer.id} came of an attempt that broke off, and its bytes ({kept.digest[:16]}…) are not those "
        f"that the source has now ({str(item.arrival.digest)[:16]}…); nothing was changed"
    )


def _in_doubt(items: Sequence[Item], holders: Mapping[str, Recorded]) -> dict[str, str]:
    """Journeys whose attempt in this round ended without our knowing how, and why: not tried again before a person has looked."""
    begun = {item.journey: item.round for item in items if not holders[item.journey].fresh or item.recorded(PASSING)}
    return {
        entry.journey: str(entry.body["reason"])
        for history in (ledger().journeys(list(begun)).values() if begun else ())
        for entry in history
        if entry.kind == "unknown" and entry.body["round"] == begun[entry.journey]
    }


def _as_intended(filing: Filing, item: Item, holder: Recorded) -> Filing:
    """Where an earlier attempt may have filed it already, place and retention are that one's, also if the profile has changed since."""
    passed = item.recorded(PASSING)
    if passed is None and holder.fresh:
        return filing  # the intent was written just now, of this very filing
    told = (passed or holder).body
    return replace(
        filing,
        folder=tuple(told["folder"]),
        name=str(told["filed_as"]),
        workspace=InWorkspace.parse(told["workspace"]) if "workspace" in told else None,
        document=told.get("document"),
        sent=str(told["said"]) if told.get("document") else filing.sent,
        **(_kept(told["keeping"]) if "keeping" in told else {}),
    )


def _while_leased(filings: Sequence[Filing], consignment: Consignment) -> Iterator[Filing]:
    """Filings, each only while the lease holds: a worker that was stalled files nothing more."""
    for filing in filings:
        consignment.lease  # noqa: B018 - raises
        yield filing


def _until_unknown(answers: Iterator[Filed | NotFiled], waiting: Mapping[str, Filing]) -> Iterator[Filed | NotFiled]:
    """Answers, which come in the order of ``waiting``; the one that cannot be told is refused, so that a person looks, and ends them."""
    try:
        yield from answers
    except OutcomeUnknown as lost:
        yield NotFiled(next(iter(waiting)), UNKNOWN, str(lost))


def _keeping(filing: Filing) -> dict[str, Any]:
    """How long it must be kept, for the ledger: as far as anything was agreed."""
    told = {
        "records_class": filing.records_class,
        "record_date": filing.record_date,
        "keep_until": filing.keep_until,
        "schedule": filing.schedule,
    }
    return {name: str(value) for name, value in told.items() if value is not None}


def _kept(told: Mapping[str, str]) -> dict[str, Any]:
    """What ``_keeping`` tells, as a filing says it."""
    days = {name: date.fromisoformat(told[name]) if name in told else None for name in ("record_date", "keep_until")}
    return {"records_class": told.get("records_class"), "schedule": told.get("schedule"), **days}


def _note_filed(item: Item, answer: Filed, steps: Steps, more: Mapping[str, Any]) -> None:
    agreed = steps.consignment.agreed
    steps.add(
        item,
        "filed",
        {
            "digest": item.arrival.digest,
            "repository": agreed.repository.address,
            "repository_id": answer.id,
            "version": answer.version,
            "folder": "/".join(answer.folder),
            "filed_as": answer.name,
            "doctype": item.verdict.doctype if item.verdict else None,
            # What is known of it now: a sidecar, or a person, may have told more since it was judged; of some it was never written.
            "facts": dict(item.verdict.facts) if item.verdict else {},
            "media_type": item.document.sniffed if item.document else None,
            "size": item.document.size if item.document else None,
            **more,
        },
        once=f"{item.journey}/filed",
        stage=Stage.FILED,
        filed=answer,
    )


def refused(item: Item, code: str, reason: str, rule: str = "the repository accepts the filing", fix: str = "") -> Item:
    """What the repository will not take as it is, or may have taken already, needs a person like any other refusal."""
    usual = "Correct the stream's target in the partner's profile, then 'countersign quarantine retry'"
    if code == UNKNOWN:
        usual = "Look at the document in the repository; if our version is not there, 'countersign quarantine retry'"
    finding = Finding(
        code=code,
        message=reason,
        file=item.arrival.file.shown,
        rule=rule,
        fix=fix or usual,
    )
    doctype = item.verdict.doctype if item.verdict else None
    return replace(item, verdict=Verdict(item.journey, doctype, (finding,)))


def unknown(item: Item, reason: str, steps: Steps, fix: str = "") -> None:
    """Looking cannot tell what became of an attempt: a person looks, before anything is tried again."""
    note_unknown(item, reason, steps, verdict=refused(item, UNKNOWN, reason, fix=fix).verdict)


def note_unknown(item: Item, reason: str, steps: Steps, **now: Any) -> None:
    """Write down that nobody knows whether it was filed. ``now`` says what the item is from here on."""
    steps.add(item, UNTOLD, {"reason": reason, "round": item.round}, once=f"{item.journey}/{UNTOLD}/{item.round}", **now)


def _compare(
    consignment: Consignment,
    items: Sequence[Item],
    plans: Mapping[str, Filing],
    holders: Mapping[str, Recorded],
    keys: dict[str, str],
) -> tuple[Consignment, list[Item]]:
    """Bytes that belong to another journey: a duplicate if that one filed them, perhaps ours if it was refused, else wait."""
    steps, again = Steps(consignment), list[Item]()
    histories = ledger().journeys(sorted({holders[item.journey].journey for item in items}))
    for item in items:
        holder = holders[item.journey]
        fate = "refused" if holder.journey == item.journey else _fate(histories[holder.journey])
        if fate == "filed" and consignment.agreed.terms.duplicates is Duplicates.REFUSE:
            reason = f"These very bytes were filed before, as journey {holder.journey}"
            fix = "Ask the partner whether this was meant; the stream's 'duplicates' says what becomes of such files"
            steps.changed[item.journey] = refused(item, "duplicate-content", reason, "a stream's bytes are filed once", fix)
        elif fate == "filed":
            facts = {"digest": item.arrival.digest, "duplicate_of": holder.journey, **_keeping(plans[item.journey])}
            steps.add(
                item, "duplicate", facts, once=f"{item.journey}/duplicate", stage=Stage.DUPLICATE, duplicate_of=holder.journey
            )
        elif fate == "refused":
            keys[item.journey] = f"{_content_key(consignment, item)}/after/{holder.journey}/{holder.body['round']}"
            again.append(item)
        else:
            note = f"the same bytes are journey {holder.journey}'s, which is in work, waits for a person, or is being removed"
            steps.changed[item.journey] = replace(item, note=note)
    return steps.write(ledger().append), again


def _fate(history: Sequence[Recorded]) -> str:
    """What became of the journey that meant to file the same bytes: filed (as a whole or in parts), refused, or "" while that is open.

    What was filed and removed when its retention had ended is not there to be the same as: the bytes are filed anew.
    """
    if being_removed(history):
        return ""
    if was_removed(history):
        return "refused"
    if any(entry.kind == "filed" or (entry.kind == "duplicate" and entry.body.get("parts")) for entry in history):
        return "filed"
    newest = next((entry for entry in reversed(history) if entry.kind in _DECIDED), None)
    if newest is None or newest.kind == "retried" or (newest.kind == "quarantined" and newest.body["case"]["code"] == UNKNOWN):
        return ""
    return "refused"
