"""Provision: what is created in a system gets one workspace in a repository, and its closing there is told back once.

::

    created ─ laying out (an intent) ─ laid out ─ opened ─ closed                one journey for each reference
              ... ─ not laid out: nothing of it stands, its place is thought anew
    of the same journey, as ``telling`` has it: to "opened", to "closed": telling ─ told, once each
    workspace.<journey>:   incident (``not-provisioned``) ─ resolved | dismissed

Nobody gets at a workspace before the ledger knows its folders, and the system is not told before exactly those get at it who are to.
So whatever breaks off, the next run goes on with the same workspace: by its ids once they are known, by the journey that its folders
carry until then; never by its name, which somebody else may have taken.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from blocks.errors import (
    ConfigurationError,
    DocumentMissing,
    RepositoryError,
    SignInRefused,
    SystemRefused,
    SystemUnreachable,
)
from blocks.ledger import Entry, Holding, Recorded, new_journey
from blocks.profile import load_repositories
from blocks.repositories.base import Repository
from blocks.reviewed import nearest
from blocks.settings import settings
from blocks.system_file import REFERENCE, Workspaces, load_system_file
from blocks.systems.base import Fate
from blocks.systems.http import HttpSession, HttpSystem, at
from blocks.values import FolderTree, Kept, NotFiled, Stage, shown
from tasks.connections import ledger, repository_session
from tasks.incidents import NOT_PROVISIONED, close_incidents, open_incident
from tasks.report import SHOWN, tell
from tasks.retrying import task
from tasks.rules.filing import check_place, place
from tasks.rules.literal import literal
from tasks.rules.outcome import summary
from tasks.telling import Telling, Trail, holding, last_said, tell_once

CREATED, LAYING_OUT, NOT_LAID_OUT, LAID_OUT = "created", "laying out", "not laid out", "laid out"
OPENED, CLOSED = "opened", "closed"
MOST_REFERENCES = 100
"""Of one call of the task."""
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 15.0
"""Between two tries of what waits, where the system does not say for how long; they double."""


class Provisioning:
    """What was agreed about one kind of workspace of a system, and nothing that is open. Its class is opaque to Prefect."""

    def __init__(
        self, system: str, stream: str, terms: Workspaces, source: HttpSystem, repository: Repository, digest: str
    ) -> None:
        self.partner, self.stream, self.terms, self.digest = system, stream, terms, digest
        self.source, self.repository = source, repository

    @property
    def key(self) -> str:
        return f"{self.partner}/{self.stream}"

    @property
    def about(self) -> dict[str, str]:
        return {"partner": self.partner, "stream": self.stream}


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one project, deal or case in this run."""

    reference: str
    outcome: str
    """open, closed, refused, in doubt, waits"""
    journey: str = ""
    workspace: str = ""
    """Its id in the repository."""
    reason: str = ""
    after_seconds: float = 0.0
    """Of what waits: not before then."""
    news: bool = True
    """Something was done, or is wrong."""


class _Refused(Exception):
    """It cannot be done as it is, and a person is told."""


def load_workspaces(system: str, stream: str) -> Provisioning:
    """What was agreed, with its system and repository. Raises ``ConfigurationError`` that says what to mend."""
    folder = settings().profiles
    file = load_system_file(system, folder)
    terms = file.workspaces.get(stream)
    if terms is None or not isinstance(file.system, HttpSystem):
        raise ConfigurationError(
            f"{system}: no workspaces '{stream}'; its file has {', '.join(sorted(file.workspaces)) or 'none'}"
        )
    repositories = load_repositories(folder)
    repository = repositories.get(terms.repository)
    if repository is None:
        raise ConfigurationError(
            f"{system}/{stream}: no repository '{terms.repository}' in repositories.yaml; {nearest(terms.repository, repositories)}"
        )
    if not repository.has_shared_folders:
        raise ConfigurationError(
            f"{system}/{stream}: '{terms.repository}' is of kind {repository.kind!r}, which gives nobody folders; a filing's "
            "'target.workspace' makes those of Extended ECM"
        )
    if problems := list(check_place(terms.folder, terms.name, {REFERENCE, *terms.about.facts})):
        raise ConfigurationError(f"{system}/{stream}: {'; '.join(problems)}")
    return Provisioning(system, stream, terms, file.system, repository, file.digest)


@task(task_run_name="find what is created in {agreed.key}")
def find_created(agreed: Provisioning, reference: str = "") -> list[list[str]]:
    """References of what is to have a workspace or has an open one, so many at a time; or the one asked for."""
    if reference:
        return [[_sound(reference)]]
    offers = agreed.terms.offers
    if offers is None:
        raise ConfigurationError(f"{agreed.key}: says nothing of 'offers', so a call names the reference")
    with agreed.source.session() as session:
        items = at(session.ask("offers", offers, {}), offers.items)
    if not isinstance(items, list):
        raise SystemRefused(f"{agreed.key}: no list at {offers.items!r} of what the system answers; mend 'offers' in its file")
    offered = [str(at(item, offers.key) or "") for item in items]
    if odd := [one for one in offered if not _is_sound(one)]:
        get_run_logger().warning("%s: offered under %s, and a reference is %s", agreed.key, shown(str(odd))[:200], _SOUND)
    begun = ledger().journeys(ledger().begun(CREATED, ledger().now()))
    mine = [str(first.body["name"]) for first, *_ in begun.values() if agreed.about.items() <= first.body.items()]
    found = _not_given_up(agreed, list(dict.fromkeys([*mine, *filter(_is_sound, offered)])))
    return [found[start : start + MOST_REFERENCES] for start in range(0, len(found), MOST_REFERENCES)]


def _not_given_up(agreed: Provisioning, references: Sequence[str]) -> list[str]:
    """Without what a person has closed the incident of before it was opened: only a call that names it has it tried again."""
    known = {one: first.journey for one in references if (first := ledger().holder(_once(agreed, one))) is not None}
    about = ledger().journeys([_place(journey) for journey in known.values()])
    histories = ledger().journeys(list(known.values()))
    return [one for one in references if one not in known or not _given_up(histories[known[one]], about[_place(known[one])])]


def _given_up(history: Sequence[Recorded], about: Sequence[Recorded]) -> bool:
    said = last_said(about)
    # A call that named it may have begun it anew since then.
    begun = history[-1].kind != NOT_LAID_OUT and said is not None and history[-1].seq > said.seq
    opened = any(entry.kind == OPENED for entry in history)
    return said is not None and said.kind == "dismissed" and not begun and not opened


_SOUND = "printable text of 1 to 200 characters"


def _is_sound(reference: str) -> bool:
    return 0 < len(reference) <= 200 and reference.isprintable()


def _sound(reference: str) -> str:
    if not _is_sound(reference):
        raise ConfigurationError(f"{_short(reference)!r}: a reference is {_SOUND}")
    return reference


def _once(agreed: Provisioning, reference: str) -> str:
    return f"workspace/{agreed.key}/{reference}"


def _place(journey: str) -> str:
    """Where the incident about a workspace is."""
    return f"workspace.{journey}"


def _short(told: Any) -> str:
    return shown(str(told))[:80]


@task(task_run_name="provision {agreed.key}")
def provision(agreed: Provisioning, references: Sequence[str], patience: timedelta, *, asked: bool = False) -> list[Row]:
    """Make each workspace that is not there yet, tell the system, and tell it of those that people have closed.

    What there is nothing new about has no row, unless it was ``asked`` for by its reference. One that cannot be made hinders no other.
    ``patience``: longest wait for another run that has it in hand, and for a system that says "later"; the rest waits for the next run.
    """
    rows, end, pause = dict[str, Row](), time.monotonic() + patience.total_seconds(), SHORTEST_PAUSE_SECONDS
    firsts = {reference: _begin(agreed, reference) for reference in references}
    quiet = set() if asked else _quiet(agreed, firsts)
    if quiet:
        close_incidents(agreed, NOT_PROVISIONED, [_place(firsts[one].journey) for one in quiet])
    waiting = [one for one in references if one not in quiet]
    with agreed.source.session() as session:
        while waiting:
            for reference in waiting:
                left = timedelta(seconds=max(0.0, end - time.monotonic()))
                with holding([firsts[reference].journey], left) as held:
                    rows[reference] = _provision(agreed, firsts[reference], held, session)
            waiting = [reference for reference in waiting if rows[reference].outcome == "waits"]
            wait = max([pause, min((rows[reference].after_seconds for reference in waiting), default=0.0)])
            if time.monotonic() + wait > end:
                break
            if waiting:
                time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
    return [row for row in rows.values() if row.news or asked]


def _begin(agreed: Provisioning, reference: str) -> Recorded:
    """The first entry of the journey: whoever came first has written it."""
    facts = {**agreed.about, "name": reference, "profile": agreed.digest}
    [first] = ledger().append([Entry(new_journey(), CREATED, facts, once=_once(agreed, reference))])
    return first


def _quiet(agreed: Provisioning, firsts: Mapping[str, Recorded]) -> set[str]:
    """References about which there is nothing to do: the workspace stands under a name that closes nothing, or its closing was told.

    They are seen in the lists of the folders in which they were made; one that is not seen there is looked at by itself, later.
    """
    histories = ledger().journeys([first.journey for first in firsts.values()])
    over = {one for one, first in firsts.items() if _was_told(histories[first.journey], CLOSED)}
    laid = {
        reference: next(entry for entry in history if entry.kind == LAID_OUT)
        for reference, first in firsts.items()
        for history in [histories[first.journey]]
        if {entry.kind for entry in history} & {OPENED, CLOSED} == {OPENED}
        and (agreed.terms.opened is None or _was_told(history, OPENED))
    }
    seen = dict[str, Kept]()
    try:
        with repository_session(agreed.repository) as session:
            for folder in {tuple(entry.body["folder"]) for entry in laid.values()}:
                try:
                    seen |= {kept.id: kept for kept in session.look(folder)}
                except RepositoryError as error:
                    if error.worth_retrying or isinstance(error, SignInRefused):
                        raise
                    continue  # gone or not ours to list: each is looked at by itself
    except RepositoryError as error:
        if not error.worth_retrying:
            raise
        return over
    stand = {one for one, entry in laid.items() if (kept := seen.get(_root(entry))) and not _is_closed(agreed, kept)}
    return over | stand


def _was_told(history: Sequence[Recorded], to: str) -> bool:
    return any(entry.kind == "told" and entry.body.get("to") == to for entry in history)


def _root(laid: Recorded) -> str:
    return str(laid.body["folders"][""])


def _is_closed(agreed: Provisioning, kept: Kept) -> bool:
    closed = agreed.terms.closed
    return closed is not None and closed.word.casefold() in kept.name.casefold()


def _provision(agreed: Provisioning, first: Recorded, held: Holding | None, session: HttpSession) -> Row:
    reference = str(first.body["name"])
    if held is None:
        return Row(reference, "waits", first.journey, reason="another run has it in hand")
    workspace = _Workspace(agreed, first, held, session)
    try:
        workspace.stands()
        row = workspace.told(OPENED, agreed.terms.opened, {}) or workspace.closed()
    except _Refused as refused:
        open_incident(agreed, _place(first.journey), reference, NOT_PROVISIONED, str(refused))
        return workspace.row("refused", str(refused))
    except SignInRefused:
        raise  # none of them can be made
    except (SystemUnreachable, RepositoryError) as error:
        if not error.worth_retrying:
            open_incident(agreed, _place(first.journey), reference, NOT_PROVISIONED, str(error))
            return workspace.row("refused", str(error))
        return replace(workspace.row("waits", str(error)), after_seconds=getattr(error, "after_seconds", 0.0))
    if row.outcome not in ("open", "closed"):
        return row
    close_incidents(agreed, NOT_PROVISIONED, [_place(first.journey)])
    return replace(row, news=len(ledger().journey(first.journey)) > workspace.known)


class _Workspace:
    """One workspace on its way."""

    def __init__(self, agreed: Provisioning, first: Recorded, held: Holding, session: HttpSession) -> None:
        self.agreed, self.reference, self.id = agreed, str(first.body["name"]), first.journey
        self._first, self._session, self._held = first, session, held
        self._history = ledger().journey(first.journey)
        self.known = len(self._history)
        self.trail = self._trail("")

    def _trail(self, to: str) -> Trail:
        return Trail(self.agreed, self.id, self.reference, self._held, to=to, history=self._history)

    def row(self, outcome: str, reason: str = "", after_seconds: float = 0.0) -> Row:
        laid = self.trail.last(LAID_OUT)
        return Row(self.reference, outcome, self.id, "" if laid is None else _root(laid), reason, after_seconds)

    # ------------------------------------------------------------------------------------------------- made

    def stands(self) -> None:
        """See to it that the workspace stands as agreed, and that exactly those get at it who are to."""
        laid = self.trail.last(LAID_OUT) or self._lay_out()
        self._same_repository(laid)
        if self.trail.last(OPENED):
            return
        ids = {_path(path): str(id) for path, id in laid.body["folders"].items()}
        # What was agreed later about further folders counts for workspaces that are begun later.
        access = {path: self.agreed.terms.tree.get(path, ()) for path in ids}
        tree = FolderTree(self.id, tuple(laid.body["folder"]), str(laid.body["filed_as"]), access)
        with repository_session(self.agreed.repository) as session:
            refused = session.admit(tree, ids)
        if refused is not None:
            raise _Refused(f"{refused.code}: {refused.reason}")
        self.trail.write(OPENED, {"profile": self.agreed.digest}, once=OPENED, stage=self._last_stage(self.agreed.terms.opened))

    def _lay_out(self) -> Recorded:
        begun = self.trail.last(LAYING_OUT, NOT_LAID_OUT)
        if begun is not None and begun.kind == LAYING_OUT:
            intent = begun
            self._same_repository(intent)
        else:
            folder, name = self._planned()
            facts = {"repository": self.agreed.repository.address, "folder": list(folder), "filed_as": name}
            intent = self.trail.write(LAYING_OUT, facts, once=f"{LAYING_OUT}/{self.trail.count(NOT_LAID_OUT)}")
        # Where an earlier attempt has begun it, its place is that one's, also if name and folder would be others by now.
        place = {key: intent.body[key] for key in ("repository", "folder", "filed_as")}
        tree = FolderTree(self.id, tuple(place["folder"]), str(place["filed_as"]), self.agreed.terms.tree)
        with repository_session(self.agreed.repository) as session:
            made = session.lay_out(tree, resumed=begun is not None)
            if isinstance(made, NotFiled):
                there = session.find(tree.folder, tree.name)
                if there is None or there.identity != self.id:
                    self.trail.write(NOT_LAID_OUT, {"code": made.code, "reason": made.reason})
                raise _Refused(f"{made.code}: {made.reason}")
        return self.trail.write(
            LAID_OUT, {**place, "folders": {"/".join(path): id for path, id in made.items()}}, once=LAID_OUT
        )

    def _planned(self) -> tuple[tuple[str, ...], str]:
        """Where it is to stand, and how it is to be called, by what the system says of it now."""
        terms = self.agreed.terms
        try:
            told = self._session.ask("about", terms.about, {REFERENCE: self.reference})
        except SystemRefused as error:
            raise _Refused(f"the system does not know it: {error}") from error
        facts = {fact: at(told, where) for fact, where in terms.about.facts.items()}
        if lost := sorted(
            fact for fact, value in facts.items() if not isinstance(value, str | int | float) or not str(value).strip()
        ):
            raise _Refused(f"the system does not say {', '.join(lost)} of it")
        known = {**{fact: shown(str(value)) for fact, value in facts.items()}, REFERENCE: self.reference}
        try:
            folder, name = place(terms.folder, terms.name, known, self._first.at)
        except (KeyError, ValueError) as error:
            raise _Refused(f"where it is to stand cannot be told: {error}") from error
        if terms.closed is not None and terms.closed.word.casefold() in name.casefold():
            raise _Refused(f"it would be called {name!r}, and {terms.closed.word!r} in a name says that it is closed")
        return folder, name

    def _same_repository(self, begun: Recorded) -> None:
        if begun.body["repository"] != self.agreed.repository.address:
            raise _Refused(f"it was begun at {begun.body['repository']}; name that repository again in the system's file")

    # ------------------------------------------------------------------------------------------------- told

    def told(self, to: str, route: str | None, more: Mapping[str, Any]) -> Row | None:
        """Tell the system of it, once; a row where it does not know yet."""
        laid = self.trail.last(LAID_OUT)
        assert laid is not None  # noqa: S101 - it stands
        if route is None:
            return None
        facts = {
            REFERENCE: self.reference,
            "id": _root(laid),
            "name": laid.body["filed_as"],
            "repository": laid.body["repository"],
            **more,
        }
        telling = Telling(self._trail(to), route, facts, stage=self._last_stage(None) if to == OPENED else Stage.CLEARED)
        [told] = tell_once(self._session, [telling])
        if told.fate is Fate.TAKEN:
            return None
        if told.fate is Fate.REFUSED:
            raise _Refused(f"the workspace is {to}, and the system did not take that: {told.code}: {told.reason}")
        if told.fate is Fate.UNKNOWN:
            return self.row("in doubt", told.reason)
        return self.row("waits", f"the workspace is {to}, and the system is told later: {told.reason}", told.after_seconds)

    def _last_stage(self, still_to_tell: str | None) -> Stage | None:
        return Stage.CLEARED if still_to_tell is None and self.agreed.terms.closed is None else None

    def closed(self) -> Row:
        """See whether people have closed it, and tell the system so, once. What was closed once stays so for us."""
        closing, laid, noticed = self.agreed.terms.closed, self.trail.last(LAID_OUT), self.trail.last(CLOSED)
        assert laid is not None  # noqa: S101 - it stands
        if closing is None:
            return self.row("open")
        if noticed is None:
            with repository_session(self.agreed.repository) as session:
                try:
                    kept = session.workspace(_root(laid))
                except DocumentMissing as error:
                    raise _Refused(f"it is gone, and was not closed: {error}") from error
                if not _is_closed(self.agreed, kept):
                    return self.row("open")
                by = session.named_by(kept.id)
            noticed = self.trail.write(CLOSED, {"named": kept.name, "by": by}, once=CLOSED)
        more = {"name": noticed.body["named"], "by": noticed.body["by"]}
        return self.told(CLOSED, closing.route, more) or self.row("closed")


def _path(told: str) -> tuple[str, ...]:
    return tuple(told.split("/")) if told else ()


def report_workspaces(agreed: Provisioning, rows: Sequence[Row]) -> State:
    """A table of what was done, an event for programs, and the run's final state: failed only where all that there was must wait."""
    outcomes = [row.outcome for row in rows]
    if rows:
        columns = [
            {
                "reference": literal(row.reference),
                "outcome": row.outcome,
                "workspace": literal(row.workspace),
                "reason": literal(row.reason),
                "journey": row.journey,
            }
            for row in sorted(rows, key=lambda row: (row.outcome in ("open", "closed"), row.reference))[:SHOWN]
        ]
        key = f"workspaces-{agreed.partner}-{agreed.stream}"
        create_table_artifact(table=columns, key=key, description=f"**{agreed.key}**: {summary(outcomes)}")
    for outcome in ("open", "closed"):
        if done := [row.journey for row in rows if row.outcome == outcome and row.news]:
            tell(agreed, f"workspace-{outcome}", {"workspaces": len(done), "journeys": done[:100]})
    get_run_logger().info("%s: %s", agreed.key, summary(outcomes))
    [only] = rows if len(rows) == 1 else [None]
    message = f"{shown(only.reference)}: {only.reason or only.workspace}" if only is not None else summary(outcomes)
    if rows and set(outcomes) == {"waits"}:
        return Failed(name="Waits", message=message)
    return Completed(name=", ".join(_named(outcomes)) or "Nothing new", message=message)


def _named(outcomes: Sequence[str]) -> Iterator[str]:
    for outcome in ("open", "closed", "refused", "in doubt", "waits"):
        if count := outcomes.count(outcome):
            yield f"{count} {outcome}"
