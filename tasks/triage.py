"""Triage: people tell what a file's name and content do not, once; files of the same pattern from that partner need nobody any more.

What was told stands in the ledger, under ``rule.<partner>.<stream>``: proposed, and forgotten by whoever thinks better of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from blocks.errors import ConfigurationError
from blocks.ledger import Entry
from blocks.tombstones import REDUCED
from blocks.values import Stage
from tasks.agreed import load_stream
from tasks.connections import ledger
from tasks.rules.naming import text
from tasks.rules.triage import TRIAGE, Taught, pattern_of, unfit


def rules(partner: str, stream: str) -> list[Taught]:
    """What people have told about files of a stream, oldest first, without what was forgotten."""
    found: dict[str, Taught] = {}
    for entry in ledger().journey(_journey(partner, stream)):
        pattern = str(entry.body["pattern"])
        found.pop(pattern, None)
        if entry.kind == "proposed":
            found[pattern] = Taught(pattern, dict(entry.body["facts"]), str(entry.body["by"]))
    return list(found.values())


def may_tell(journey: str, facts: Mapping[str, str]) -> None:
    """Raises ``ConfigurationError`` if these facts cannot be told of this case."""
    history = ledger().journey(journey)
    reduced = bool(history) and history[-1].kind == REDUCED
    if reduced or not any(entry.kind == "quarantined" and entry.body["case"]["code"] == TRIAGE for entry in history):
        raise ConfigurationError(f"{journey}: no such triage case; see 'countersign triage list'")
    arrived = next(entry.body for entry in history if entry.kind == "arrived")
    terms = load_stream(arrived["partner"], arrived["stream"]).terms
    if why := unfit(facts, terms.triage):
        raise ConfigurationError(f"{journey}: {why}")


def remember(journey: str, facts: Mapping[str, str], by: str, comment: str) -> Taught:
    """Propose what was told of this case for all files of its pattern."""
    arrival = ledger().arrivals([journey])[journey]
    rule = Taught(pattern_of(text(arrival.file.name)), facts, by)
    body = {
        "partner": arrival.partner,
        "stream": arrival.stream,
        "name": rule.pattern,
        "pattern": rule.pattern,
        "facts": dict(facts),
        "by": by,
        "comment": comment,
        "from": journey,
    }
    ledger().append([Entry(_journey(arrival.partner, arrival.stream), "proposed", body, stage=Stage.CLEARED)])
    return rule


def forget(partner: str, stream: str, pattern: str, by: str, comment: str) -> None:
    """Files of that pattern go to triage again. Raises ``ConfigurationError`` if nothing was told about them."""
    if pattern not in {rule.pattern for rule in rules(partner, stream)}:
        raise ConfigurationError(f"{partner}/{stream}: nothing was told about {pattern!r}; see 'countersign triage rules'")
    body = {"partner": partner, "stream": stream, "name": pattern, "pattern": pattern, "by": by, "comment": comment}
    ledger().append([Entry(_journey(partner, stream), "forgotten", body, stage=Stage.CLEARED)])


def _journey(partner: str, stream: str) -> str:
    return f"rule.{partner}.{stream}"
