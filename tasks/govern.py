"""Govern: what governance systems have flagged is in force here, then at the repositories; and lifted where they say so.

::

    hear                 what is set is in force here at once (``flags``)
    lift                 what a whole answer says is lifted: at the repository first, then here
    tell                 what is in force here, to the repository, where it does not know it yet

Doing it again changes nothing. A hold of the same name that a person has set, here or at the repository, is theirs: no flag lifts it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from blocks.errors import ConfigurationError, RepositoryError
from blocks.ledger import Entry
from blocks.repositories.base import Repository
from blocks.values import Stage, shown
from tasks.connections import ledger, repository_session
from tasks.flags import PATIENCE, Governing, ask, flags_here, governing, hear, heard_lately
from tasks.holds import configured, lift_hold, tell_hold
from tasks.incidents import FLAGS_DIFFER, FLAGS_UNHEARD, close_incidents, open_incident
from tasks.report import SHOWN
from tasks.retrying import task
from tasks.rules.flagging import (
    RULE_LIFTED,
    RULE_TELLING,
    RULE_TOLD,
    Answer,
    Rule,
    agree,
    ruled_by_us,
    rules_in_force,
    said_lifted,
)
from tasks.rules.holding import REGISTER, HoldHere
from tasks.rules.literal import literal
from tasks.telling import holding

KEEP = "keep"


@dataclass(slots=True)
class Governed:
    """What became of one system's flags in one run."""

    system: str
    why: str = ""
    """Why nobody knows its flags now; empty: it gave a whole answer."""
    set: int = 0
    lifted: int = 0
    in_force: int = 0
    differs: list[str] = field(default_factory=list)
    """What is not the same here, there and at the repository, and is for a person."""


@task(task_run_name="hear flags, lift and tell")
def govern_all() -> list[Governed]:
    """Have the flags of every governance system in force here and at its repository. One that does not answer hinders no other."""
    found = []
    for agreed in governing():
        if isinstance(agreed, ConfigurationError):
            found.append(Governed("?", why=str(agreed)))
        else:
            found.append(govern(agreed))
    return found


def govern(agreed: Governing) -> Governed:
    """One system's flags. Nothing is lifted unless its answer is whole."""
    done = Governed(agreed.partner)
    with holding([agreed.journey], PATIENCE) as held:
        if held is None:
            done.why = "another run is at it"
            return done
        before = flags_here(agreed)
        answer = hear(agreed, held)
        here = flags_here(agreed)
        done.why, done.set = answer.why, len(here.keys() - before.keys())
        for journey in _over(agreed, answer, here, done):
            held.lease  # noqa: B018 - raises
            _lift(agreed, here[journey], done)
        for flag in flags_here(agreed).values():
            done.differs += tell_hold(flag) if isinstance(flag, HoldHere) else tell_rule(flag)
        done.in_force = len(flags_here(agreed))
        _tell_a_person(agreed, done)
    return done


def _over(agreed: Governing, answer: Answer, here: dict[str, HoldHere | Rule], done: Governed) -> Iterator[str]:
    """Flags in force here that are so no more by what the system says."""
    if answer.why:
        return
    lifted = tuple(agreed.of_id(id) for id in said_lifted(answer))
    told = {agreed.flag(flag) for flag in answer.set}
    unsaid = [journey for journey in here if journey not in told and not journey.startswith(lifted)]
    yield from (journey for journey in here if journey not in told and journey.startswith(lifted))
    if not unsaid:
        return
    elsewhere = [journey for journey in unsaid if _set_at(journey) != agreed.repository.address]
    if agreed.terms.unsaid == "are-lifted" and agree(answer, ask(agreed)):
        yield from (journey for journey in unsaid if journey not in elsewhere)
        unsaid = elsewhere
    for journey in unsaid:
        nothing = "is asked about another repository now" if journey in elsewhere else "says nothing of it any more"
        done.differs.append(
            f"{_shown(here[journey])} is in force here, and {agreed.partner} {nothing}; it stays until it says that "
            "it is lifted, or a person does ('countersign hold lift')"
        )


def _set_at(journey: str) -> str:
    """Address of the repository of which a system was asked when it set a flag."""
    return str(ledger().journey(journey)[0].body["at"]["repository"])


def lift(journey: str, name: str, comment: str, by: str) -> None:
    """Lift a hold or a flag, at the repository first. Raises ``ConfigurationError`` for one that is not in force here.

    What a governance system still says is set is in force again when it is heard the next time.
    """
    if rule := rules_in_force(ledger().journey(REGISTER)).get(journey):
        lift_rule(rule, comment, by)
    else:
        lift_hold(journey, name, comment, by)


def _lift(agreed: Governing, flag: HoldHere | Rule, done: Governed) -> None:
    try:
        name = flag.name if isinstance(flag, HoldHere) else ""
        lift(flag.journey, name, f"said by {agreed.by}", by=agreed.by)
    except (RepositoryError, ConfigurationError) as error:  # it stays in force here; the next run tries again
        done.differs.append(f"{_shown(flag)} is lifted, and its repository cannot be told: {error}")
    else:
        done.lifted += 1


# --------------------------------------------------------------------------------------------- rules for folders


def tell_rule(rule: Rule) -> list[str]:
    """Tell a rule to its repository, where it does not know it yet. Answers what could not be told."""
    if rule.told:
        return []
    try:
        repository = configured(rule.repository)
        if repository.rules_folders and (differs := _rule_folder(rule, repository, [*_rules_of(rule)])):
            return [differs]
    except (RepositoryError, ConfigurationError) as error:
        return [f"{_shown(rule)}: {error}"]
    _record(RULE_TOLD, rule, {})
    return []


def rules_here() -> list[Rule]:
    """Every rule for a folder that a governance system has set and that is in force."""
    return list(rules_in_force(ledger().journey(REGISTER)).values())


def lift_rule(rule: Rule, comment: str, by: str) -> None:
    """Lift a rule, at the repository first. Raises ``RepositoryError`` where that cannot be told: it stays in force."""
    repository = configured(rule.repository)
    if repository.rules_folders:
        _rule_folder(rule, repository, [other for other in _rules_of(rule) if other.journey != rule.journey])
    _record(RULE_LIFTED, rule, {"comment": comment, "by": by})


def _rules_of(rule: Rule) -> Iterator[Rule]:
    """All rules in force for a rule's folder."""
    place = (rule.repository, rule.folder.casefold())
    in_force = rules_in_force(ledger().journey(REGISTER)).values()
    return (other for other in in_force if (other.repository, other.folder.casefold()) == place)


def _rule_folder(rule: Rule, repository: Repository, rules: Sequence[Rule]) -> str:
    """Have the repository keep what is in a folder as long as these say, or no longer rule it for us.

    What somebody else has ruled there is left as it is; then this is told. A rule is ours where we meant to make it.
    """
    path, days = tuple(rule.folder.split("/")), max((other.days for other in rules), default=0)
    with repository_session(repository) as session:
        stands = session.rule(path)
        if stands == ((KEEP, days) if days else None):
            return ""
        if stands is not None and stands not in {(KEEP, known) for known in ruled_by_us(ledger().journey(REGISTER), rule)}:
            theirs = f"somebody has ruled {rule.folder} at {rule.repository}: {stands[0]}, {stands[1]} days"
            return f"{_shown(rule)} is in force here, and {theirs}" if days else ""
        if days:
            _record(RULE_TELLING, rule, {"at": {"repository": rule.repository, "folder": rule.folder}, "days": days})
        session.retain(path, KEEP if days else "none", days)
    return ""


def _record(kind: str, rule: Rule, facts: Mapping[str, Any]) -> None:
    """In the flag's own chain and in the register, in one transaction."""
    registered = Entry(REGISTER, kind, {"journey": rule.journey, **facts}, stage=Stage.CLEARED)
    ledger().append([Entry(rule.journey, kind, dict(facts), stage=Stage.CLEARED), registered])


# --------------------------------------------------------------------------------------------- what people see


def _shown(flag: HoldHere | Rule) -> str:
    if isinstance(flag, HoldHere):
        return f"hold {shown(flag.name)!r} ({flag.journey})"
    return f"rule to keep {flag.days} days what is in {shown(flag.folder)!r} ({flag.journey})"


def _tell_a_person(agreed: Governing, done: Governed) -> None:
    """An incident while nobody knows its flags for longer than was agreed, and one while they are not the same everywhere."""
    place = f"governance.{agreed.partner}"
    if not done.why:
        close_incidents(agreed, FLAGS_UNHEARD, [f"{place}.unheard"])
    elif not heard_lately(agreed, whatever_came=True):
        reason = f"{agreed.by} gives no whole answer: {done.why}. Nothing is removed of what {agreed.repository.address} keeps"
        open_incident(agreed, f"{place}.unheard", agreed.key, FLAGS_UNHEARD, reason)
    if done.differs:
        more = f", and {len(done.differs) - 1} more" if len(done.differs) > 1 else ""
        open_incident(agreed, f"{place}.differ", agreed.key, FLAGS_DIFFER, f"{done.differs[0]}{more}")
    elif not done.why:
        close_incidents(agreed, FLAGS_DIFFER, [f"{place}.differ"])


def report_flags(found: Sequence[Governed]) -> State:
    """A table of the systems, and the run's final state: failed where nobody knows what one of them has flagged."""
    rows = [
        {"system": one.system, "set": one.set, "lifted": one.lifted, "in force": one.in_force, "but": literal(told)}
        for one in found
        for told in ([one.why] if one.why else []) + one.differs or [""]
    ]
    unheard, differ = [one for one in found if one.why], sum(len(one.differs) for one in found)
    if rows:
        create_table_artifact(
            table=rows[:SHOWN], key="flags", description=f"**Flags**: {sum(one.in_force for one in found)} in force"
        )
    told = f"{sum(one.set for one in found)} set, {sum(one.lifted for one in found)} lifted"
    for one in unheard:
        get_run_logger().error("%s: %s; nothing that it may have flagged is removed", one.system, one.why)
    if unheard:
        return Failed(
            name="Unheard", message=f"{unheard[0].system}: {unheard[0].why}; nothing that it may have flagged is removed"
        )
    if differ:
        return Completed(name=f"Heard, {differ} differ", message=told)
    return Completed(name="Heard" if found else "Nothing governed", message=told)
