"""Flags: what governance systems have set on what our repositories keep, heard and written down; in force here from then on.

::

    governance.<system>:       heard ─ heard ─ unheard ─ heard ...    one entry for each whole answer; one for the first that is none
    flag.<system>.<id>.<what>: flagged ─ hold-applied ─ hold-told ─ hold-lifting ─ hold-lifted      of a hold
                               flagged ─ rule-applied ─ rule-told ─ rule-lifted                     of a rule for a folder
    holds:                     all of these but "flagged" once more: the register of ``holds``

A flag is a hold like any other from its first moment here: the gate (``holds``) asks for no more. Told to the repository, and lifted, it
is by ``govern``. Whoever removes anything asks first (``unheard``): where a system's last whole answer is too old, and it gives none now,
nothing that it may have flagged meanwhile goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from blocks.canonical import sha256
from blocks.errors import ConfigurationError, SystemRefused, SystemUnreachable
from blocks.flag_file import AFTER, Flags
from blocks.ledger import Entry, Holding
from blocks.profile import load_repositories
from blocks.repositories.base import Repository
from blocks.reviewed import nearest
from blocks.settings import settings
from blocks.system_file import load_system_file, systems
from blocks.systems.http import HttpSystem, at
from blocks.values import Stage, shown
from tasks.connections import ledger
from tasks.rules import flagging
from tasks.rules.flagging import FLAGGED, HEARD, HOLD, RETENTION, RULED, UNHEARD, Answer, Flag, Rule, rules_in_force
from tasks.rules.holding import APPLIED, FLAG, REGISTER, HoldHere, in_force
from tasks.telling import holding

MOST_PAGES = 10_000
LONGEST_DAYS = 365_000
PATIENCE = timedelta(minutes=1)
"""So long one who removes something waits for another run that is hearing the same system."""


class Governing:
    """What was agreed about one governance system, and nothing that is open. Its class is opaque to Prefect."""

    stream = "flags"

    def __init__(self, system: str, terms: Flags, source: HttpSystem, repository: Repository) -> None:
        self.partner, self.terms, self.source, self.repository = system, terms, source, repository

    @property
    def key(self) -> str:
        return f"{self.partner}/{self.stream}"

    @property
    def journey(self) -> str:
        return f"governance.{self.partner}"

    @property
    def by(self) -> str:
        """Who has set its flags, for people."""
        return f"governance system {self.partner}"

    def flag(self, flag: Flag) -> str:
        """A flag's journey. What is said of one id about two documents are two flags; and so is what it says of two repositories."""
        identity = f"{self.repository.address}\n{flag.identity}"
        return f"{self.of_id(flag.id)}{sha256(identity)[:12]}"

    def of_id(self, id: str) -> str:
        """What the journeys of all flags of that id begin with."""
        return f"{FLAG}{self.partner}.{sha256(id)[:24]}."


def governing() -> Iterator[Governing | ConfigurationError]:
    """Every system that sets flags; an error for each file of which nobody can tell whether it does."""
    folder = settings().profiles
    for name in systems(folder):
        try:
            file = load_system_file(name, folder)
            if file.flags is None or not isinstance(file.system, HttpSystem):
                continue
            repositories = load_repositories(folder)
            repository = repositories.get(file.flags.repository)
            if repository is not None:
                yield Governing(name, file.flags, file.system, repository)
            else:
                which = f"'{file.flags.repository}' in repositories.yaml; {nearest(file.flags.repository, repositories)}"
                yield ConfigurationError(f"{name}/flags: no repository {which}")
        except ConfigurationError as error:
            yield error


# --------------------------------------------------------------------------------------------- before anything is removed


def unheard() -> dict[str, str]:
    """Addresses of repositories of which nothing may be removed, and why: nobody knows what has been flagged there. "": of all.

    Systems whose last whole answer is older than was agreed are asked now.
    """
    found: dict[str, str] = {}
    for agreed in governing():
        if isinstance(agreed, ConfigurationError):
            found[""] = f"nobody can tell whether a governance system has flagged it: {agreed}"
        elif not heard_lately(agreed):
            with holding([agreed.journey], PATIENCE) as held:
                why = "another run is asking it" if held is None else hear(agreed, held).why
            if why:
                found[agreed.repository.address] = f"nobody can tell whether {agreed.by} has flagged it: {why}"
    return found


def heard_lately(agreed: Governing, *, whatever_came: bool = False) -> bool:
    """True if its last whole answer is recent enough to remove anything by it; ``whatever_came`` since then.

    What was asked for in vain since then is no reason to remove anything; it is one to tell a person only after a while.
    """
    last = ledger().newest(agreed.journey)
    if last is None or last.body.get("at") != agreed.repository.address:
        return False
    began = datetime.fromisoformat(str(last.body["began"]))
    kind = HEARD if whatever_came else last.kind
    return flagging.fresh(kind, began, ledger().now(), agreed.terms.stale_after)


# --------------------------------------------------------------------------------------------- hearing


def hear(agreed: Governing, held: Holding) -> Answer:
    """Ask a system for its flags. What it says is set is in force here when this returns, whole answer or not; nothing is lifted."""
    began = ledger().now()
    answer = ask(agreed)
    here = flags_here(agreed)
    entries = [entry for flag in answer.set if agreed.flag(flag) not in here for entry in _set(agreed, flag)]
    if entries:
        held.lease  # noqa: B018 - raises
        ledger().append(entries)
    last = ledger().newest(agreed.journey)
    facts: dict[str, Any] = {"partner": agreed.partner, "stream": agreed.stream, "at": agreed.repository.address}
    if not answer.why:
        told = sha256("\n\n".join(sorted(flag.identity for flag in answer.set)))
        facts |= {"began": began.isoformat(), "set": len(answer.set), "sha256": told}
        ledger().append([Entry(agreed.journey, HEARD, facts, stage=Stage.CLEARED)], held.lease)
    elif last is None or last.kind != UNHEARD:
        since = str(last.body["began"]) if last is not None else began.isoformat()
        facts |= {"began": since, "reason": shown(answer.why)[:500]}
        ledger().append([Entry(agreed.journey, UNHEARD, facts, stage=Stage.CLEARED)], held.lease)
    return answer


def ask(agreed: Governing) -> Answer:
    """All flags that a system tells, page by page."""
    terms, flags, announced, odd = agreed.terms, list[Flag](), list[Any](), list[str]()
    after, pages = "", set[str]()
    try:
        with agreed.source.session() as session:
            while after not in pages and len(pages) < MOST_PAGES:
                pages.add(after)
                told = session.ask("flags", terms.ask, {AFTER: after})
                items = at(told, terms.ask.items)
                if not isinstance(items, list):
                    return Answer(tuple(flags), f"no list at {terms.ask.items!r} of what it answers")
                for item in items:
                    flag = flag_of(item, terms)
                    if isinstance(flag, Flag):
                        flags.append(flag)
                    else:
                        odd.append(flag)
                announced.append(at(told, terms.ask.total) if terms.ask.total else None)
                follows = at(told, terms.ask.next) if terms.ask.next else None
                after = "" if follows is None else str(follows)
                if not after:
                    break
            else:
                return Answer(tuple(flags), f"its pages have no end: {shown(after)[:80]!r} comes again")
    except (SystemUnreachable, SystemRefused, ConfigurationError) as error:
        return Answer(tuple(flags), str(error))
    if odd:
        return Answer(tuple(flags), f"{len(odd)} of its flags cannot be read, and nobody can tell what they are on: {odd[0]}")
    return Answer(tuple(flags), flagging.whole(flags, announced, terms.ask.total is not None))


def flag_of(item: Any, terms: Flags) -> Flag | str:
    """A flag, of what a system tells of it; else why it cannot be read."""
    told = {
        word: at(item, getattr(terms, word))
        for word in ("id", "state", "kind", "name", "comment", "document", "folder", "days")
    }
    id, state, kind = (_text(told[word]) for word in ("id", "state", "kind"))
    which = f"flag {shown(id)[:80] or '(without an id)'}"
    if id and len(id) <= 200 and state in terms.lifted:
        return Flag(id, is_set=False)
    if not id or len(id) > 200 or state not in terms.set or kind not in (*terms.hold, *terms.retention):
        return f"{which}: {shown(f'state {state!r}, kind {kind!r}')[:120]}"
    comment = _text(told["comment"])[:1000]
    name = _text(told["name"]).strip()
    if kind in terms.hold:
        document = _text(told["document"])
        if not name or len(name) > 200 or not name.isprintable() or not document or len(document) > 200:
            return f"{which}: a hold has a name, and a document's id: {shown(f'{name!r}, {document!r}')[:200]}"
        return Flag(id, HOLD, name, document=document, comment=comment)
    folder, days = _text(told["folder"]).strip("/"), told["days"]
    if not folder or re.search(r"(^|/)\s*\.{0,2}\s*(/|$)", folder):
        return f"{which}: a rule has a folder's path: {shown(folder)[:120]!r}"
    if not isinstance(days, int) or isinstance(days, bool) or not 0 < days <= LONGEST_DAYS:
        return f"{which}: a rule has a number of days: {shown(repr(days))[:80]}"
    return Flag(id, RETENTION, name[:200], folder=folder, days=days, comment=comment)


def _text(told: Any) -> str:
    return str(told) if isinstance(told, str | int) and not isinstance(told, bool) else ""


def _set(agreed: Governing, flag: Flag) -> list[Entry]:
    """What is written of a flag from which on it is in force here."""
    journey = agreed.flag(flag)
    place = {
        "repository": agreed.repository.address,
        **({"id": flag.document} if flag.kind == HOLD else {"folder": flag.folder}),
    }
    about = {"partner": agreed.partner, "stream": agreed.stream, "name": flag.name, "flag": flag.id, "at": place}
    told = {"comment": flag.comment, "by": agreed.by}
    kind, facts = (
        (APPLIED, {"hold": flag.name, **told}) if flag.kind == HOLD else (RULED, {"at": place, "days": flag.days, **told})
    )
    return [
        Entry(journey, FLAGGED, {**about, "identity": flag.identity}, once=f"{journey}/{FLAGGED}", stage=Stage.CLEARED),
        Entry(journey, kind, facts),
        Entry(REGISTER, kind, {"journey": journey, **facts}, stage=Stage.CLEARED),
    ]


def flags_here(agreed: Governing) -> dict[str, HoldHere | Rule]:
    """What a system has flagged and what is in force here, by the flag's journey."""
    register = ledger().journey(REGISTER)
    found: dict[str, HoldHere | Rule] = {one: hold for one, holds in in_force(register).items() for hold in holds.values()}
    found |= rules_in_force(register)
    return {journey: flag for journey, flag in found.items() if journey.startswith(f"{FLAG}{agreed.partner}.")}
