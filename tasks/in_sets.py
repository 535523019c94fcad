"""In sets: files that belong together wait until all of them have come, and a person is told what is missing.

::

    set.<partner>.<stream>.<digest of its name>:   incomplete (a case) ─ complete (names -> journeys; the case is closed)
                                                                       └ dismissed (a person waits for it no more)

What came of a set that is waited for no more is refused, so that a person decides about each file. Once a set is written down as
complete its members are filed, also by a run that comes after a kill in between.

Where a sidecar is agreed, what it tells is written down with that, and is known of every member from then on. A file whose sidecar has
not come when the window closes goes to triage: a person tells what it would have told, and then the file is filed without its set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from blocks.canonical import sha256
from blocks.errors import SpoolMissing
from blocks.ledger import Entry, Recorded
from blocks.values import Arrival, Finding, SetTerms, Sighting, Stage, Verdict, shown
from tasks.connections import ledger, spool
from tasks.consignment import Agreed, Consignment, Item
from tasks.incidents import SET_INCOMPLETE
from tasks.incidents import case as case_of
from tasks.report import tell
from tasks.rules.filing import unfilled
from tasks.rules.judge import from_facts
from tasks.rules.naming import text
from tasks.rules.sets import NO_LIST, Assembled, Member, assemble, listed, set_of, wanted
from tasks.rules.settle import OVER
from tasks.rules.sidecar import to_come
from tasks.rules.triage import TRIAGE

_LARGEST_MANIFEST = 1024 * 1024
_MOST_WAITING = 10_000


def whole_sets(consignment: Consignment) -> tuple[Consignment, frozenset[str]]:
    """The consignment, and the journeys of it that wait for others of their set: each says what is missing."""
    agreed, terms = consignment.agreed, consignment.agreed.terms.sets
    if terms is None:
        return consignment, frozenset()
    waiting: dict[str, Item] = {}
    changed: dict[str, Item] = {}
    came: dict[str, list[Member]] | None = None
    for item in consignment.at(Stage.JUDGED):
        key = set_of(text(item.arrival.file.name), terms) if item.verdict and item.verdict.accepted else None
        if key is None:
            continue
        history = ledger().journey(_journey(agreed, key))
        members = _complete(history)
        if _told_by_a_person(item, agreed):
            continue
        if item.journey in members:
            changed[item.journey] = _with_facts(item, agreed, _facts(history))
            continue
        if _again(item, members):
            continue
        if members:
            changed[item.journey] = _came_after(item, key)
            continue
        if came is None:
            came = _came(consignment, terms)
        state = _state(key, came.get(key, []), terms)
        if state.whole and item.journey in state.members.values():
            complete = _say_complete(consignment, key, state)
            if item.journey in _complete(complete):
                changed[item.journey] = _with_facts(item, agreed, _facts(complete))
            else:
                waiting[item.journey] = replace(item, note=f"set {key}: another file of that name went with it")
            continue
        if _given_up(history) and not item.round:  # what a person asks another try for may complete it after all
            changed[item.journey] = _left_alone(item, key, state)
            continue
        missing = ", ".join(state.missing) or "nothing, but this file is none of it"
        if state.late(terms, ledger().now()) and (alone := _without_sidecar(item, agreed, key, state)) is not None:
            changed[item.journey] = alone
            continue
        if state.late(terms, ledger().now()):
            consignment.lease  # noqa: B018 - raises
            _say_incomplete(agreed, key, state)
        waiting[item.journey] = replace(item, note=f"set {key} is incomplete; missing: {missing}")
    return consignment.with_changes(changed | waiting), frozenset(waiting)


def tell_refused_sets(agreed: Agreed) -> None:
    """Tell of sets whose window has closed and of which every file that came was refused: nothing of them waits, to tell it itself."""
    terms = agreed.terms.sets
    if terms is None or terms.sidecar is not None:  # each of two has a case of its own, which says all there is to say
        return
    cases = {case.journey: case for case in ledger().cases(partner=agreed.partner, stream=agreed.stream)}
    refused: dict[str, list[Member]] = {}
    for journey, arrival in ledger().arrivals(list(cases)).items():
        name = text(arrival.file.name)
        if arrival.stage is not Stage.JUDGED and (key := set_of(name, terms)) is not None:
            reason = f"{cases[journey].code}: {cases[journey].reason}"
            refused.setdefault(key, []).append(Member(journey, name, arrival.digest, arrival.first_seen, False, reason))
    if not refused:
        return
    known = {member.journey for members in refused.values() for member in members}
    open_still = (one for journey, one in _arrived(agreed).items() if journey not in known and one.stage not in OVER)
    waiting = {set_of(text(one.file.name), terms) for one in open_still}
    histories = {key: ledger().journey(_journey(agreed, key)) for key in refused.keys() - waiting}
    for key, history in sorted(histories.items()):
        state = assemble(key, refused[key], None, terms)
        if state.late(terms, ledger().now()) and not (_complete(history) or _given_up(history)):
            _say_incomplete(agreed, key, state)


def waiting_for(consignment: Consignment) -> list[dict[str, Any]]:
    """What a person asked for of files that waited, and whose set this consignment has made whole: no run looks for them by itself.

    Each is what ``flows.review.retry`` takes.
    """
    agreed, terms = consignment.agreed, consignment.agreed.terms.sets
    if terms is None:
        return []
    members: set[str] = set()
    for item in consignment.items:
        key = set_of(text(item.arrival.file.name), terms)
        for entry in ledger().journey(_journey(agreed, key)) if key is not None else ():
            if entry.kind == "complete" and item.history and entry.seq > item.history[-1].seq:
                members.update(entry.body["members"].values())
    arrivals, asked = ledger().arrivals(sorted(members)), list[dict[str, Any]]()
    for journey, history in ledger().journeys([one for one in sorted(members) if arrivals[one].stage is Stage.JUDGED]).items():
        told = next((entry.body for entry in reversed(history) if entry.kind == "retried"), None)
        if told is not None:
            comment = f"{told['comment']} (its set is whole now)"
            asked.append(
                {"journey": journey, "comment": comment, "by": told["by"], "release": told["released"], "facts": told["facts"]}
            )
    return asked


# --------------------------------------------------------------------------------------------- what a sidecar tells


def _with_facts(item: Item, agreed: Agreed, facts: Mapping[str, str]) -> Item:
    """A member of a whole set, with what its sidecar tells; refused where that is not enough, or not what is known already."""
    if item.verdict is None or not facts:
        return item
    known = item.verdict.facts
    if others := [fact for fact in sorted(facts) if known.get(fact, facts[fact]) != facts[fact]]:
        told = ", ".join(f"{fact} is {shown(facts[fact])}, and not {shown(known[fact])}" for fact in others)
        message = f"Its sidecar says: {told}, as its name or people say."
        return _refused(
            item, "sidecar-differs", message, "Ask the partner which is right, and have it sent again.", "They agree"
        )
    merged = {**known, **facts}
    findings = tuple(unfilled(item.arrival.file.shown, merged, agreed.terms))
    return replace(item, verdict=replace(item.verdict, facts=merged, findings=(*findings, *item.verdict.findings)))


def _without_sidecar(item: Item, agreed: Agreed, key: str, state: Assembled) -> Item | None:
    """For triage, if its sidecar is what its set lacks: a person tells what it would have told. Else None."""
    terms, name = agreed.terms.sets, item.arrival.file.name
    if terms is None or terms.sidecar is None or item.verdict is None or text(name) not in wanted(key, terms):
        return None
    sidecar = terms.sidecar.name.replace("{set}", key)
    lacked = to_come(name, item.verdict.facts, agreed.terms)
    if not lacked or sidecar in state.members:
        return None
    why = next(told for told in state.missing if told.startswith(shown(sidecar)))
    facts = " ".join(f"--fact {fact}=..." for fact in sorted(lacked))
    return _refused(
        item,
        TRIAGE,
        f"No sidecar that can be used has come within {terms.window}: {why}. Nobody tells its {', '.join(sorted(lacked))}.",
        f"Tell it: countersign triage assign ... --once {facts}; or, once the sidecar is there: countersign quarantine retry",
        f"{shown(name)} and {shown(sidecar)} are filed together",
    )


def _told_by_a_person(item: Item, agreed: Agreed) -> bool:
    """True if it goes without its set: who asked for this try told what its sidecar would have told."""
    terms, asked = agreed.terms.sets, item.recorded("retried")
    if terms is None or terms.sidecar is None or asked is None or not asked.body.get("facts") or item.verdict is None:
        return False
    return not to_come(item.arrival.file.name, item.verdict.facts, agreed.terms)


def _facts(history: Iterable[Recorded]) -> Mapping[str, str]:
    return next((entry.body.get("facts") or {} for entry in history if entry.kind == "complete"), {})


def _again(item: Item, members: Iterable[str]) -> bool:
    """True for the very bytes of a file of the set that came once more: a duplicate, as anywhere else."""
    return any(arrival.digest == item.arrival.digest for arrival in ledger().arrivals(sorted(members)).values())


def _came_after(item: Item, key: str) -> Item:
    """A correction, or a file that is none of the set's: nobody but a person can tell what it means for what was filed as a whole."""
    message = f"Set {shown(key)} was complete and has been filed; this file is none of those that made it."
    fix = "If it corrects one of them, ask the partner for the whole set under another name; else reject it."
    return _refused(item, "set-complete", message, fix)


def _left_alone(item: Item, key: str, state: Assembled) -> Item:
    """Of a set that is waited for no more. Its bytes go to the quarantine, where a person decides."""
    message = f"Set {shown(key)} is waited for no more, and lacks {', '.join(state.missing) or 'nothing but this file'}."
    return _refused(item, "set-given-up", message, "Reject it; or, if the set comes after all, retry each of its files.")


def _refused(item: Item, code: str, message: str, fix: str, rule: str = "A set is filed once, as a whole") -> Item:
    finding = Finding(code=code, message=message, file=item.arrival.file.shown, rule=rule, fix=fix)
    return replace(item, verdict=Verdict(item.journey, item.verdict.doctype if item.verdict else None, (finding,)))


def _journey(agreed: Agreed, key: str) -> str:
    """The set's name is whatever somebody called a file, so it is not in the id as it is."""
    return f"set.{agreed.partner}.{agreed.stream}.{sha256(key)[:32]}"


def _complete(history: Iterable[Recorded]) -> frozenset[str]:
    return frozenset(j for entry in history if entry.kind == "complete" for j in entry.body["members"].values())


def _given_up(history: Iterable[Recorded]) -> bool:
    return [entry.kind for entry in history if entry.kind in ("incomplete", "dismissed")][-1:] == ["dismissed"]


# --------------------------------------------------------------------------------------------- what has come


def _came(consignment: Consignment, terms: SetTerms) -> dict[str, list[Member]]:
    """By set, every file of the stream that has come and is not through; those of this consignment as they are by now."""
    here = {item.journey: item for item in consignment.items}
    arrivals = _arrived(consignment.agreed) | {journey: item.arrival for journey, item in here.items()}
    arrived = {journey: one for journey, one in arrivals.items() if set_of(text(one.file.name), terms) is not None}
    histories = ledger().journeys([journey for journey in arrived if journey not in here])
    found: dict[str, list[Member]] = {}
    for one in sorted(arrived.values(), key=lambda one: (one.first_seen, one.journey)):
        item, name = here.get(one.journey), text(one.file.name)
        if item is not None:
            accepted = item.verdict is not None and item.verdict.accepted
            digest, reason = item.arrival.digest, item.verdict.reason if item.verdict else ""
            facts = item.verdict.facts if item.verdict else {}
        else:
            accepted, digest, reason, facts = _judged(histories[one.journey])
        key = str(set_of(name, terms))
        found.setdefault(key, []).append(Member(one.journey, name, digest, one.first_seen, accepted, reason, facts))
    return found


def _arrived(agreed: Agreed) -> dict[str, Sighting | Arrival]:
    """Open arrivals; and those that were closed when they were refused, and passed the checks when a person asked for another try."""
    sightings = ledger().sightings(agreed.partner, agreed.stream)
    found: dict[str, Sighting | Arrival] = {one.journey: one for one in sightings if one.stage is not Stage.SIGHTED}
    judged = ledger().search(partner=agreed.partner, stream=agreed.stream, stage=Stage.JUDGED, limit=_MOST_WAITING)
    retried = ledger().arrivals([one.journey for one in judged if one.journey not in found])
    return found | retried


def _judged(history: Iterable[Recorded]) -> tuple[bool, str | None, str, Mapping[str, str]]:
    """Whether a file was accepted, its digest, else why not, and what it told."""
    entries = list(history)
    judged = next((entry for entry in reversed(entries) if entry.kind in ("judged", "quarantined", "rejected")), None)
    if judged is None or judged.kind == "rejected":
        return False, None, "rejected by a person" if judged else "", {}
    verdict = from_facts("", judged.body)
    return verdict.accepted and judged.kind == "judged", judged.body["digest"], verdict.reason, verdict.facts


def _state(key: str, came: list[Member], terms: SetTerms) -> Assembled:
    manifest, unread = None, NO_LIST
    if terms.manifest is not None:
        name = wanted(key, terms)[-1]
        own = [one for one in came if one.name == name and one.accepted and one.digest]
        try:
            manifest = _read(str(own[-1].digest)) if own else None
        except (SpoolMissing, FileNotFoundError):
            unread = "another worker has it; who takes it up next reads it"
    return assemble(key, came, manifest, terms, unread)


def _read(digest: str) -> Mapping[str, str | None] | None:
    """What a manifest lists; None where it is no list, or too long for one. Raises ``SpoolMissing``."""
    try:
        path = spool().path(digest)
        return listed(path.read_bytes()) if path.stat().st_size <= _LARGEST_MANIFEST else None
    except ValueError:
        return None


# --------------------------------------------------------------------------------------------- what is said about a set


def _about(agreed: Agreed, key: str) -> dict[str, Any]:
    return {"partner": agreed.partner, "stream": agreed.stream, "name": key}


def _say_complete(consignment: Consignment, key: str, state: Assembled) -> list[Recorded]:
    """Written once: which files made the set. Whoever comes second is told what stands."""
    agreed = consignment.agreed
    journey = _journey(agreed, key)
    told = {**_about(agreed, key), "members": dict(state.members), **({"facts": dict(state.facts)} if state.facts else {})}
    if any(entry.kind == "incomplete" for entry in ledger().journey(journey)):
        told["case"] = {"state": "resolved"}
    consignment.lease  # noqa: B018 - raises
    return ledger().append([Entry(journey, "complete", told, once=f"{journey}/complete", stage=Stage.CLEARED)])


def _say_incomplete(agreed: Agreed, key: str, state: Assembled) -> None:
    """One case for each set whose window has closed; one more entry when something else is missing than was said."""
    journey, missing = _journey(agreed, key), ", ".join(state.missing)
    reason = f"Set {key} is incomplete: missing {missing}"
    case = case_of(agreed, SET_INCOMPLETE, reason)
    body = {**_about(agreed, key), "missing": list(state.missing), "members": dict(state.members), "case": case}
    recorded = ledger().append(
        [Entry(journey, "incomplete", body, once=f"{journey}/incomplete/{sha256(missing)}", stage=Stage.CLEARED)]
    )
    if recorded[0].fresh:
        tell(agreed, SET_INCOMPLETE, {"set": key, "missing": list(state.missing), "owner": agreed.terms.owner})
