"""Ask about a case: one run per case, suspended with a form until the case is over; what is answered is carried out once.

::

    review begun (this run) ─ case asked (a key) ─ case answered (the key) ─ case asked ... ─ review ended

Like the form of a release it is a bell and no lock: who answers is as stated, as on the command line, but where the stream's ``signoff``
wants a release or a correction proven. That the sender judges. What an answer does, the command line does too, and what it may not do,
it does not do here either.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field, create_model

from blocks import reviewed
from blocks.case_signoff import CaseAction
from blocks.errors import ConfigurationError, CountersignError
from blocks.ledger import CaseState, Entry, Recorded
from blocks.outbound import PeopleFile, on
from blocks.sender import Sender
from blocks.settings import settings
from blocks.values import CaseSignoffTerms, Finding, SignoffProof
from tasks import cases, incidents
from tasks import retry as again
from tasks.ask import Asking, one_of, told_by_the_classic_ui
from tasks.case_signoff import agreed_about, decision, document_of, sign_off
from tasks.connections import hang_up, ledger
from tasks.consignment import Agreed
from tasks.correct import Correction, correctable, corrections, digest_of, unfit, without_cells
from tasks.report import tell
from tasks.retrying import task
from tasks.rules.case_form import MOST_CHARACTERS, PROVEN, Answer, Decision, Page, page, parse, texts, typed
from tasks.rules.dialog import AWAITS
from tasks.rules.judge import from_facts, not_acceptable
from tasks.rules.literal import code
from tasks.rules.passing import PERHAPS_FILED
from tasks.rules.signing import MOST_CHARACTERS as MOST_TYPED
from tasks.rules.signing import codes_seen
from tasks.rules.variables import from_variable
from tasks.settle_round import left_wait, variables
from tasks.tell_cases import REVIEW_BEGUN, review_ended

ASKED, ANSWERED = "case asked", "case answered"


class Review:
    """One case, and the run that asks about it. Its class is opaque to Prefect: a flow's tasks change it in turn."""

    def __init__(self, journey: str, run: str, begun: Recorded) -> None:
        self.journey, self.run, self.begun = journey, run, begun
        self.history: Sequence[Recorded] = ledger().journey(journey)
        self.again: dict[str, Any] | None = None
        """What ``flows.review.retry`` is to be given, once a person has decided so."""

    def reload(self) -> None:
        self.history = ledger().journey(self.journey)

    @property
    def open(self) -> bool:
        """There is something to decide, and it is this run that asks."""
        return self.ours and cases.state_of(self.history) is not CaseState.RESOLVED

    @property
    def ours(self) -> bool:
        return bool(self.begun.body["run"] == self.run)

    @property
    def key(self) -> str | None:
        """Of the round that nobody has settled; None if there is none."""
        rounds = [entry for entry in self.history if entry.kind in (ASKED, ANSWERED)]
        return str(rounds[-1].body["key"]) if rounds and rounds[-1].kind == ASKED else None

    @property
    def refusal(self) -> tuple[str, Mapping[str, Any] | None]:
        """Why the last answer was not carried out, and what it was."""
        last = next((entry.body for entry in reversed(self.history) if entry.kind == ANSWERED), {})
        return str(last.get("refusal", "")), last.get("typed")

    def settle(self, refusal: str = "", raw: Any = None) -> None:
        """The open round is over; ``refusal``: nothing was done, and why."""
        kept = typed(raw) if refusal else {}
        if len(json.dumps(kept)) > 20_000:
            kept = {}
        facts = {"key": self.key, "run": self.run, "refusal": refusal[:2000], "typed": kept or None}
        ledger().append([Entry(self.journey, ANSWERED, facts, once=f"{ANSWERED}/{self.key}")])
        self.reload()


@task(task_run_name="take case {journey}")
def take_case(journey: str) -> Review:
    """The case as the ledger knows it. Raises ``ConfigurationError`` if it never was one."""
    cases.find_case(journey)
    run = str(flow_run.id)
    history = ledger().journey(journey)
    begun = next((entry for entry in reversed(history) if entry.kind == REVIEW_BEGUN), None)
    if begun is None or (begun.body["run"] != run and not _asks(str(begun.body["run"]))):
        count = sum(entry.kind == REVIEW_BEGUN for entry in history)
        [begun] = ledger().append(
            [Entry(journey, REVIEW_BEGUN, {"run": run}, once=f"{REVIEW_BEGUN}/{journey}/by hand/{count}")]
        )
    return Review(journey, run, begun)


def _asks(run: str) -> bool:
    """True if another run is there for the case: it waits for an answer, is at work, or is about to begin."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(run)).state
        except ObjectNotFound:
            return False
    return state is not None and not state.is_final()


# --------------------------------------------------------------------------------------------- what was answered


@task(task_run_name="settle answer about {review.journey}")
def settle_answer(review: Review) -> None:
    """Carry out what somebody has answered; another try of the document is left to the flow. What cannot be done is told next."""
    if not review.ours or (key := review.key) is None:
        return
    raw, terms = _stored(_asked(review), key), _signoff(review)
    if not review.open:
        if terms is not None:  # the case was closed while this answer waited
            _burn(raw)
        return
    if raw is None:  # the run was moved on without an answer, or killed before anybody could give one
        review.settle()
        return
    decisions, people = _decisions(review), _people()
    choices = {*(one.value for one in decisions), *people, *(cases.owners() if people else ())}
    answer = parse(raw, decisions, people, proving=terms is not None)
    why = _not_typed(text for text in texts(raw) if text not in choices)
    if terms is not None and (why or isinstance(answer, str) or answer.decided not in PROVEN):
        _burn(raw)
    if why:
        review.settle(why)  # a value of Prefect's, a secret perhaps: nothing of it is kept
        return
    if isinstance(answer, str):
        review.settle(answer, raw)
        return
    try:
        if not _act(review, answer, key):
            review.settle()
    except CountersignError as error:
        if error.worth_retrying:
            raise
        if terms is not None:  # it may have been refused before the sender saw its code; to burn one twice is to burn it once
            _burn(raw)
        review.settle(str(error), raw)
    finally:
        hang_up()


def _asked(review: Review) -> str:
    """The run that asked last: maybe one before this one, which failed before it could carry out the answer."""
    return str(next(entry for entry in reversed(review.history) if entry.kind == ASKED).body["run"])


def _answered_at(run: str, key: str) -> datetime:
    """When the run left its wait, by the server's clock."""
    with get_client(sync_client=True) as client:
        _, after = left_wait(client, run, key)
    return after.timestamp if after is not None else ledger().now()


def _burn(raw: Any) -> None:
    """Whatever code was given where nothing is judged by it stands in Prefect's database all the same, and a comment is shown again."""
    given = {name: raw.get(name) for name in ("proof", "comment")} if isinstance(raw, Mapping) else {}
    if codes := codes_seen(given):
        with Sender(settings().sender_socket) as sender:
            sender.burn(" ".join(codes))


def _not_typed(texts: Iterable[str]) -> str:
    """Why an answer does not count into which Prefect put one of its Variables; "" if it did not."""
    known: list[tuple[str, Any]] | None = None
    for text in texts:
        if text.strip():
            known = list(variables()) if known is None else known
            if refusal := from_variable(text, known):
                return refusal.first_line
    return ""


def _stored(run: str, key: str) -> Any:
    """An answer as it stands in Prefect's database, where anybody with the API can write; None if there is none."""
    with get_client(sync_client=True) as client:
        try:
            # The key is that of prefect.input.run_input.keyset_from_paused_state.
            text = client.read_flow_run_input(UUID(run), key=f"suspended-{key}-response")
        except ObjectNotFound:
            return None
        except PrefectHTTPStatusError as error:
            if error.response.status_code == 404:
                return None
            raise
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return str(text)


def _act(review: Review, answer: Answer, key: str) -> bool:
    """True if another try is to be made first. Raises what the command line would tell."""
    journey, by, comment = review.journey, answer.who, answer.comment
    match answer.decided:
        case Decision.COMMENT:
            cases.remark(journey, comment, by, once=key)
        case Decision.ASSIGN:
            cases.assign(journey, answer.assign_to, comment, by, once=key)
        case Decision.CLOSE:
            again.reject(journey, comment, by)
        case Decision.DISMISS:
            incidents.close(journey, comment, by)
        case Decision.RETURN:
            again.return_to_partner(journey, comment, by, once=key)
        case Decision.CORRECT:
            correction = Correction(by, comment, answer.cells, answer.file)
            if why := unfit(journey, _agreed(review), correction):
                raise ConfigurationError(why)
            if _signoff(review) is not None:
                _prove(review, answer, key, CaseAction.CORRECT, digest_of(journey, _agreed(review), correction))
            review.again = {"journey": journey, "comment": comment, "by": by, "cells": answer.cells, "file": answer.file}
        case Decision.RELEASE:
            if _signoff(review) is not None:
                _prove(review, answer, key, CaseAction.RELEASE)
            review.again = {"journey": journey, "comment": comment, "by": by, "release": True}
    return review.again is not None


def _prove(review: Review, answer: Answer, key: str, action: CaseAction, corrected: str = "") -> None:
    """Have the sender judge that it is this person who decides so. Raises ``ConfigurationError`` with why it does not count."""
    asked, agreed = _asked(review), _agreed(review)
    decided = decision(review.journey, review.history, agreed, action, answer.who, corrected)
    refused = sign_off(decided, answer.comment, answer.proof, f"{asked}/{key}", _answered_at(asked, key))
    if refused is not None:
        if refused.code == "locked":
            tell(agreed, "locked", {"approver": answer.who, "journey": review.journey})
        raise ConfigurationError(refused.first_line)
    review.reload()


def settle_try(review: Review, made: State[Any]) -> None:
    """Another try has been made: either the case is over, or the form says why it is not.

    No task: to a task Prefect gives what a state holds, and not the state.
    """
    review.reload()
    tried, review.again = review.again, None
    if not made.is_completed():
        review.settle(str(made.message or "the try broke off"), tried)
    elif review.open:
        case = cases.find_case(review.journey)
        review.settle(f"it was tried, and is refused still: {case.reason}", tried)
    else:
        review.settle()


# --------------------------------------------------------------------------------------------- the form


@task(task_run_name="ask about {review.journey}")
def ask_about(review: Review) -> Asking:
    """Open a round: its key is in the ledger before anybody can see the form, and was never used before."""
    key = f"case-{sum(entry.kind == ASKED for entry in review.history) + 1}-{secrets.token_hex(4)}"
    form = _form(review)
    ledger().append([Entry(review.journey, ASKED, {"key": key, "run": review.run}, once=f"{ASKED}/{key}")])
    _announce(review)
    return Asking(form, key)


def _refused(review: Review) -> Recorded | None:
    return next((entry for entry in reversed(review.history) if entry.kind == "quarantined"), None)


def _agreed(review: Review) -> Agreed:
    return agreed_about(review.history)


def _signoff(review: Review) -> CaseSignoffTerms | None:
    """Who must prove a release or a correction; None if nobody must, or it is no document."""
    return _agreed(review).terms.signoff if _refused(review) is not None else None


def _decisions(review: Review) -> list[Decision]:
    """What this case takes just now."""
    common = [Decision.ASSIGN, Decision.COMMENT]
    refused = _refused(review)
    if refused is None:
        return [Decision.DISMISS, *common] if cases.find_case(review.journey).code in incidents.CODES else common
    agreed, taken = _agreed(review), [Decision.RETURN, Decision.CLOSE, *common]
    if agreed.terms.transfers is None:
        if not not_acceptable(from_facts(review.journey, refused.body), agreed.terms.releasable):
            taken.insert(0, Decision.RELEASE)
        if not correctable(agreed, review.history):
            taken.insert(0, Decision.CORRECT)
    return taken


def _people() -> list[str]:
    """Who may answer: everybody in people.yaml today; empty where there is no such file."""
    path = settings().profiles / "people.yaml"
    if not path.exists():
        return []
    people = reviewed.load(path, PeopleFile)
    today = people.day(ledger().now())
    return sorted(person.id for person in people.people if on(today, person.valid_from, person.valid_until))


def _form(review: Review) -> type[RunInput]:
    decisions, people = _decisions(review), _people()
    text = page(_page(review, decisions))
    who: Any = one_of(tuple(people)) if people else str
    fields: dict[str, Any] = {
        "decision": (
            one_of(tuple(one.value for one in decisions)),
            Field(json_schema_extra=told_by_the_classic_ui(text)),
        ),
        "who": (who, Field(description="Who you are; recorded as you state it")),
        "comment": (str, Field(default="", max_length=MOST_CHARACTERS, description="Why; kept with the decision")),
    }
    if people:
        choices = ("", *cases.owners())
        fields["assign_to"] = (one_of(choices), Field(default="", description="Only with 'assign it': a person or a group"))
    if Decision.CORRECT in decisions:
        if not without_cells(review.journey):
            cells: Any = Field(
                default=[], description="Only with 'correct it': one cell each, as row, column = value: 7, quantity = 12"
            )
            fields["cells"] = (list[str], cells)
        fields["file"] = (
            str,
            Field(default="", max_length=255, description="Or the name of the corrected file in the folder named above"),
        )
    terms = _signoff(review)
    if terms is not None and PROVEN & set(decisions):
        said = "The six digits that your phone shows now"
        if terms.proof is SignoffProof.SIGNATURE:
            said = "The line that 'countersign quarantine sign' prints"
        fields["proof"] = (
            str,
            Field(default="", max_length=MOST_TYPED["proof"], description=f"Only to release or correct it. {said}"),
        )
    made: type[RunInput] = create_model("Case", __base__=RunInput, **fields)
    return made.with_initial_data(description=text)


def _page(review: Review, decisions: Sequence[Decision]) -> Page:
    case, refused = cases.find_case(review.journey), _refused(review)
    refusal, typed = review.refusal
    findings: tuple[Finding, ...] = from_facts(review.journey, refused.body).findings if refused else ()
    return Page(
        journey=review.journey,
        about=case.name or review.journey,
        stream="/".join(filter(None, (case.partner, case.stream))),
        code=case.code or "",
        reason=case.reason or "",
        owner=case.owner or "",
        due=f"{case.due:%Y-%m-%d %H:%M} UTC" if case.due else "",
        state=case.state.value,
        findings=findings,
        moments=tuple(
            f"{one.at:%m-%d %H:%M} {one.what}" + (f" by {one.by}" if one.by else "") + (f": {one.said}" if one.said else "")
            for one in cases.moments(review.history)
        ),
        hints=tuple(_hints(review, findings, decisions)),
        refused=refusal,
        typed=typed if isinstance(typed, Mapping) else None,
    )


def _hints(review: Review, findings: Iterable[Finding], decisions: Sequence[Decision]) -> list[str]:
    told = [f"{code(one.message, len(one.message))}. {one.fix}" for one in findings if one.code == PERHAPS_FILED]
    terms = _signoff(review)
    if terms is not None and PROVEN & set(decisions):
        document = document_of(review.history)
        told.append(
            f"To release or correct it, one of {', '.join(f'`{group}`' for group in terms.groups)} proves that it is they, in `proof`"
            + (f"; it is the document with SHA-256 `{document}`" if document else "")
        )
    if Decision.CORRECT in decisions:
        told.append(
            f"A corrected file: put it into the folder `{corrections().name}` in the workers' `COUNTERSIGN_HOME`, and give its name below"
        )
        if why := without_cells(review.journey):
            told.append(f"Not by single cells: it {why}")
    elif _refused(review) is not None and (why := correctable(_agreed(review), review.history)):
        told.append(f"Not to be corrected here: {why}")
    if Decision.RETURN in decisions:
        kinds = {entry.kind for entry in review.history}
        sent = "told" in kinds or (_agreed(review).terms.notes is not None and "cleared" not in kinds)
        note = "a note tells them what to mend" if sent else "no note goes to them by itself, so tell them"
        told.append(f"Rejected to the partner: {note}; the right file under the same name closes the case")
    return told


def _announce(review: Review) -> None:
    """Keep the run's name and tags true: whose it is finds it in their inbox."""
    case = cases.find_case(review.journey)
    stream = "/".join(filter(None, (case.partner, case.stream)))
    path = settings().profiles / "people.yaml"
    people = reviewed.load(path, PeopleFile).people if path.exists() else ()
    own = [person.id for person in people if case.owner in (person.id, person.mail, *person.groups)]
    with get_client(sync_client=True) as client:
        kept = [tag for tag in client.read_flow_run(UUID(review.run)).tags if not tag.startswith((AWAITS, "owner:"))]
        tags = [*kept, f"owner:{case.owner}", *(f"{AWAITS}{id}" for id in own)]
        name = f"review {stream}: {(case.name or review.journey)[:80]} ({case.code}), of {case.owner}"
        client.update_flow_run(UUID(review.run), name=name[:200], tags=tags)


def concluded(review: Review) -> State[Any]:
    """The run's end."""
    if not review.ours:
        return Completed(name="Asked elsewhere", message=f"the run {review.begun.body['run']} asks about this case")
    review_ended(review.journey, review.begun)
    case = cases.find_case(review.journey)
    return Completed(name="Resolved", message=f"{case.code}: {case.reason}")
