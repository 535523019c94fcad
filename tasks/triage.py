"""Triage: people tell what a file's name and content do not. It holds for that file at once; for later ones it is a proposal.

Proposals stand in the ledger, under ``rule.<partner>.<stream>``, and what people decide about them behind them::

    proposed  who, what, of which file, and what it would have done to past files
    agreed    by another person: from now on files of that pattern need nobody   (or ``refused``)
    retracted by whoever thinks better of it: they come to triage again

Who somebody is, is what they state: two honest people are kept apart, nobody is kept from playing both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from blocks import reviewed
from blocks.database import chunks
from blocks.errors import ConfigurationError, LeaseLost
from blocks.ledger import Entry, Holding, Recorded
from blocks.outbound import PeopleFile
from blocks.profile import load_partner, partners
from blocks.settings import settings
from blocks.tombstones import REDUCED
from blocks.values import Inbound, Stage, shown
from tasks.agreed import load_stream
from tasks.connections import ledger
from tasks.rules.naming import text
from tasks.rules.triage import (
    TOLD,
    TRIAGE,
    Past,
    Rehearsal,
    RuleState,
    Taught,
    contradicted,
    pattern_of,
    rehearsed,
    unfit,
)

LOOKED_AT = 10_000
"""Past files of a stream, the newest, on which a proposal is tried."""
PAGE = 500
"""Journeys read at once: the findings of one may be many."""
_DECISIONS = {"agreed": RuleState.LIVE, "refused": RuleState.REFUSED, "retracted": RuleState.RETRACTED}


def rules(partner: str, stream: str) -> list[Taught]:
    """All rules that were ever proposed for a stream, oldest first, as they stand now."""
    found: dict[str, Taught] = {}
    for entry in ledger().journey(_journey(partner, stream)):
        body = entry.body
        if entry.kind == "proposed":
            id = f"{partner}/{stream}/{entry.n}"
            found[id] = Taught(id, str(body["pattern"]), dict(body["facts"]), str(body["by"]), str(body["comment"]))
        elif entry.kind in _DECISIONS:
            rule, state = found[str(body["rule"])], _DECISIONS[entry.kind]
            found[rule.id] = replace(rule, state=state, decided_by=str(body["by"]), why=str(body["comment"]))
        elif (
            entry.kind == "forgotten"
        ):  # as it was written before two people decided: all that was told of files of that pattern
            for rule in [rule for rule in found.values() if rule.pattern == body["pattern"]]:
                found[rule.id] = replace(rule, state=RuleState.RETRACTED, decided_by=str(body["by"]), why=str(body["comment"]))
    return list(found.values())


def rules_of(partner: str | None = None, stream: str | None = None) -> list[Taught]:
    """The rules of all streams, or of a partner's, or of one stream; of streams whose people may tell facts today."""
    folder = settings().profiles
    found = []
    for name in [partner] if partner else partners(folder):
        for key, terms in load_partner(name, folder).streams.items():
            if stream in (None, key) and isinstance(terms, Inbound) and terms.triage:
                found += rules(name, key)
    return found


def rule_of(id: str) -> Taught:
    """A rule by its id. Raises ``ConfigurationError`` if there is none."""
    partner, _, rest = id.partition("/")
    stream, _, _ = rest.partition("/")
    found = next((rule for rule in rules(partner, stream) if rule.id == id), None) if partner and stream else None
    if found is None:
        raise ConfigurationError(f"{id}: no such rule; 'countersign triage rules' lists them")
    return found


# --------------------------------------------------------------------------------------------- telling


def may_tell(journey: str, facts: Mapping[str, str], *, once: bool = False) -> None:
    """Raises ``ConfigurationError`` if these facts cannot be told of this case; or, unless ``once``, of those that come."""
    history = ledger().journey(journey)
    reduced = bool(history) and history[-1].kind == REDUCED
    if reduced or not any(entry.kind == "quarantined" and entry.body["case"]["code"] == TRIAGE for entry in history):
        raise ConfigurationError(f"{journey}: no such triage case; see 'countersign triage list'")
    arrived = next(entry.body for entry in history if entry.kind == "arrived")
    terms = load_stream(arrived["partner"], arrived["stream"]).terms
    if why := unfit(facts, terms.triage):
        raise ConfigurationError(f"{journey}: {why}")
    if not once:
        pattern = pattern_of(text(ledger().arrivals([journey])[journey].file.name))
        _may_be_live(pattern, facts, rules(arrived["partner"], arrived["stream"]), also="or tell it of this file only: --once")


def _may_be_live(pattern: str, facts: Mapping[str, str], known: Sequence[Taught], also: str = "") -> None:
    """Raises ``ConfigurationError`` if a live rule says otherwise."""
    if other := contradicted(pattern, facts, known):
        raise ConfigurationError(
            f"rule {other.id} says {other.told} of files {shown(pattern)}: {shown(other.by)} told it ({shown(other.comment)}) and "
            f"{shown(other.decided_by)} agreed. Nothing was done. If that is wrong, 'countersign triage retract {other.id}' first"
            + (f"; {also}" if also else "")
        )


def propose(journey: str, facts: Mapping[str, str], by: str, comment: str) -> tuple[Taught, Rehearsal]:
    """Propose what was told of this case for all later files of its pattern; the rule, and what it would have done so far.

    What is proposed already, or holds, is not proposed again: then that rule is the answer.
    """
    arrival = ledger().arrivals([journey])[journey]
    partner, stream, pattern = arrival.partner, arrival.stream, pattern_of(text(arrival.file.name))
    with _deciding(partner, stream, by) as held:
        known = rules(partner, stream)
        _may_be_live(pattern, facts, known)
        rehearsal = rehearse(Taught(f"{partner}/{stream}/new", pattern, facts, by), without=journey)
        open_or_live = (rule for rule in known if rule.state in (RuleState.PROPOSED, RuleState.LIVE))
        if same := next((rule for rule in open_or_live if (rule.pattern, rule.facts) == (pattern, dict(facts))), None):
            return same, rehearsal
        body = {
            **_about(partner, stream, pattern),
            "facts": dict(facts),
            "by": by,
            "comment": comment,
            "from": journey,
            "past": rehearsal.facts(),
        }
        written = _write(partner, stream, "proposed", body, held)
    return rule_of(f"{partner}/{stream}/{written.n}"), rehearsal


# --------------------------------------------------------------------------------------------- deciding


def agree(id: str, by: str, comment: str) -> tuple[Taught, Rehearsal]:
    """A second person agrees: the rule is live. Raises ``ConfigurationError`` for its proposer, and where a live rule says otherwise."""
    rule = rule_of(id)
    with _deciding(rule.partner, rule.stream, by) as held:
        rule = _in_state(id, RuleState.PROPOSED)
        if _same_person(rule.by, by):
            raise ConfigurationError(f"{id}: {shown(by)} proposed it ({shown(rule.by)}); another person has to agree")
        if why := unfit(rule.facts, load_stream(rule.partner, rule.stream).terms.triage):
            raise ConfigurationError(f"{id}: {why}")
        _may_be_live(rule.pattern, rule.facts, rules(rule.partner, rule.stream))
        rehearsal = rehearse(rule)
        _decide(rule, "agreed", by, comment, held, past=rehearsal.facts())
    return rule_of(id), rehearsal


def refuse(id: str, by: str, comment: str) -> None:
    """A proposal never becomes live. Whoever proposed it may do that too. Raises ``ConfigurationError`` if it is none (any more)."""
    _end(id, RuleState.PROPOSED, "refused", by, comment)


def retract(id: str, by: str, comment: str) -> None:
    """Files of a live rule come to triage again; one person suffices. Raises ``ConfigurationError`` if it is not live."""
    _end(id, RuleState.LIVE, "retracted", by, comment)


def _end(id: str, state: RuleState, kind: str, by: str, comment: str) -> None:
    rule = rule_of(id)
    with _deciding(rule.partner, rule.stream, by) as held:
        _decide(_in_state(id, state), kind, by, comment, held)


def _in_state(id: str, wanted: RuleState) -> Taught:
    rule = rule_of(id)
    if rule.state is not wanted:
        by = f" by {shown(rule.decided_by)}" if rule.decided_by else ""
        raise ConfigurationError(f"{id}: is {rule.state}{by}, not {wanted}; nothing was changed")
    return rule


def _decide(rule: Taught, kind: str, by: str, comment: str, held: Holding, **more: object) -> None:
    if not comment.strip():
        raise ConfigurationError(f"{rule.id}: say why (--comment); nothing was changed")
    body = {
        **_about(rule.partner, rule.stream, rule.pattern),
        "rule": rule.id,
        "facts": dict(rule.facts),
        "by": by,
        "comment": comment,
    }
    _write(rule.partner, rule.stream, kind, {**body, **more}, held)


@contextmanager
def _deciding(partner: str, stream: str, by: str) -> Iterator[Holding]:
    """What is decided about a stream's rules is decided one after the other."""
    wanted = f"journey:{_journey(partner, stream)}"
    lease = ledger().lease([wanted], owner=by, seconds=settings().lease_seconds)
    if lease is None:
        raise LeaseLost(f"{partner}/{stream}: somebody decides about its rules just now; try again in a minute")
    with ledger().holding(lease, settings().lease_seconds) as held:
        yield held


def _write(partner: str, stream: str, kind: str, body: Mapping[str, object], held: Holding) -> Recorded:
    return ledger().append([Entry(_journey(partner, stream), kind, body, stage=Stage.CLEARED)], held.lease)[0]


def _about(partner: str, stream: str, pattern: str) -> dict[str, str]:
    return {"partner": partner, "stream": stream, "name": pattern, "pattern": pattern}


def _same_person(one: str, other: str) -> bool:
    """True if both names are one person's: the same, or two that ``people.yaml``, where there is one, gives to one person."""
    path = settings().profiles / "people.yaml"
    people = reviewed.load(path, PeopleFile).people if path.exists() else ()
    return one.casefold() == other.casefold() or any(person.known_as(one) and person.known_as(other) for person in people)


def _journey(partner: str, stream: str) -> str:
    return f"rule.{partner}.{stream}"


# --------------------------------------------------------------------------------------------- on past files


def rehearse(rule: Taught, without: str = "") -> Rehearsal:
    """What a rule would have done to the newest past files of its stream, by their names in the ledger. Changes nothing.

    ``without``: the journey that it comes from.
    """
    found = [one.journey for one in ledger().search(partner=rule.partner, stream=rule.stream, limit=LOOKED_AT + 1)]
    files = ledger().arrivals([journey for journey in found[:LOOKED_AT] if journey != without])
    fit = {journey: name for journey, one in files.items() if rule.fits(name := text(one.file.name))}
    past = (_past(fit[journey], history) for some in chunks(fit, PAGE) for journey, history in ledger().journeys(some).items())
    return rehearsed(rule.facts, past, len(files), len(found) > LOOKED_AT)


def _past(name: str, history: Sequence[Recorded]) -> Past:
    """What the ledger says of a past file."""
    facts: dict[str, str] = {}
    by: dict[str, str] = {}
    for entry in history:
        if entry.kind == "retried":
            by |= dict.fromkeys(entry.body.get("facts") or {}, str(entry.body["by"]))
        elif entry.kind == "judged":
            facts = dict(entry.body.get("facts") or {})
            notes = (one for one in entry.body.get("findings") or () if one["code"] == TOLD and "column" in one)
            by = {one["column"]: f"rule {one['rule']}" for one in notes} | by
    return Past(name, facts, by)


def waiting(rule: Taught) -> list[str]:
    """Journeys of cases in triage that a rule fits: it tells them what they lack when they are tried again."""
    cases = [case.journey for case in ledger().cases(partner=rule.partner, stream=rule.stream) if case.code == TRIAGE]
    return [journey for journey, one in ledger().arrivals(cases).items() if rule.fits(text(one.file.name))]
