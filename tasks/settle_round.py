"""Settle a round: read the answer that somebody gave, have the sender judge it once, and record what it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from blocks.outbound import Refusal, Round, Vote
from blocks.values import shown
from tasks.order import Order, sender
from tasks.retrying import task
from tasks.rules.packing import Voided
from tasks.rules.policy import Status
from tasks.rules.signing import NO_ANSWER, answer_hash, parse_answer
from tasks.rules.variables import from_variable

_PAGE = 200
"""The most that Prefect answers at once."""


@dataclass(frozen=True, slots=True)
class _Left:
    """What Prefect tells about one round."""

    asked: bool
    """The run was suspended with the round's key."""
    at: datetime | None
    """When it left that state, by the server's clock; None: it has not."""
    state: str
    """Into which state."""
    answer: Any
    """As posted, or None."""


@task(task_run_name="settle round of {order.id}")
def settle_round(order: Order) -> None:
    """Bring the last open round to its end, and the order too if that decides it. A round that is settled stays as it is."""
    if _other_terms(order):
        order.void(Voided("policy-changed", "what was agreed with the partner was changed while the package waited"))
        return
    if order.open_round is not None:
        _settle(order, order.open_round[0])
    _decide(order)


def _other_terms(order: Order) -> bool:
    """True if the terms are not those of the package, and nothing was sent yet: then nobody needs to answer any more."""
    then, now = order.policies, order.agreed.policies
    return order.last("sending") is None and (then.profile, then.terms) != (now.profile, now.terms)


def _settle(order: Order, asked: Round) -> None:
    if asked.run != order.run:
        # Another run asked, and has ended, is gone, or was turned to another order: nobody is asked there any more.
        _record(order, asked, "abandoned", {})
        return
    if any(entry.body.get("key") == asked.key for entry in order.each("redrive")):
        _record(order, asked, "unasked", {"reason": "the sweep woke the run"})
        return
    left = _left(asked)
    if not left.asked or left.at is None:
        # Killed before the form stood there, or a second worker has the run: the form is asked again under another key.
        _record(order, asked, "unasked", {"answer": answer_hash(left.answer) if left.answer is not None else None})
    elif left.answer is None:
        _bypass(order, asked, left)
    else:
        _judge(order, asked, left.answer, left.at)


def _left(asked: Round) -> _Left:
    """Read the round's answer, and how the run left its wait."""
    with get_client(sync_client=True) as client:
        waited, after = left_wait(client, asked.run, asked.key)
        raw = _stored(client, asked)
    return _Left(waited, after.timestamp if after else None, str(after.name) if after else "", _parsed(raw))


def left_wait(client: SyncPrefectClient, run: str, key: str) -> tuple[bool, State[Any] | None]:
    """Whether a run was suspended with this key, and the state into which it left that; None: it has not."""
    states = sorted(client.read_flow_run_states(UUID(run)), key=lambda state: state.timestamp)
    waits = [n for n, state in enumerate(states) if state.is_paused() and state.state_details.pause_key == key]
    return bool(waits), _after(states, waits)


def _stored(client: SyncPrefectClient, asked: Round) -> str | None:
    """The round's answer as it stands in Prefect's database, where anybody with the API can write."""
    try:
        # The key is that of prefect.input.run_input.keyset_from_paused_state.
        return client.read_flow_run_input(UUID(asked.run), key=f"suspended-{asked.key}-response")
    except ObjectNotFound:
        return None
    except PrefectHTTPStatusError as error:
        if error.response.status_code == 404:
            return None
        raise


def _after(states: Sequence[State[Any]], waits: Sequence[int]) -> State[Any] | None:
    return states[waits[-1] + 1] if waits and waits[-1] + 1 < len(states) else None


def _parsed(raw: str | None) -> Any:
    """An answer row is text, maybe planted: what is no JSON is kept as it is, and is no answer."""
    if raw is None:
        return None
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return raw


def _bypass(order: Order, asked: Round, left: _Left) -> None:
    """Somebody moved the run on without an answer. Nothing is sent for it; it is told, and asked again."""
    _record(order, asked, "bypass", {"state": left.state, "at": _text(left.at), "refusal": _facts(NO_ANSWER)})
    order.tell("bypass", round=asked.n, state=left.state)


def _judge(order: Order, asked: Round, answer: Any, at: datetime) -> None:
    outcome: Vote | Refusal
    if isinstance(answer, Mapping):
        not_typed = _from_variable(answer)
        # Judged all the same, for whatever codes it holds must be burnt; but without a decision it can be no vote.
        to_judge = {**answer, "decision": None} if not_typed else answer
        with sender() as judge:
            outcome = judge.judge(
                to_judge,
                order.matter.package,
                order.policies,
                asked,
                votes=order.votes,
                at=at,
            )
        outcome = not_typed or outcome
    else:
        parsed = parse_answer(answer)
        outcome = parsed if isinstance(parsed, Refusal) else NO_ANSWER
    vote = outcome.facts if isinstance(outcome, Vote) else None
    refusal = _facts(outcome) if isinstance(outcome, Refusal) else None
    _record(order, asked, "answered", {"answer": answer_hash(answer), "at": _text(at), "vote": vote, "refusal": refusal})
    if isinstance(outcome, Refusal):
        order.tell("refused", round=asked.n, code=outcome.code)
        if outcome.code == "locked":
            order.tell("locked", round=asked.n, approver=answer["approver"])
    else:
        order.tell("signed", round=asked.n, approver=outcome.approver, decision=outcome.decision.value)


def _from_variable(answer: Mapping[str, Any]) -> Refusal | None:
    """Why an answer does not count into which Prefect put one of its Variables."""
    comment = answer.get("comment")
    return from_variable(comment, variables()) if isinstance(comment, str) and comment.strip() else None


def variables() -> Iterator[tuple[str, Any]]:
    """Every Variable of Prefect's, with its value."""
    with get_client(sync_client=True) as client:
        read = 0
        while page := client.request("POST", "/variables/filter", json={"limit": _PAGE, "offset": read}).json():
            yield from ((one["name"], one["value"]) for one in page)
            read += len(page)


def _record(order: Order, asked: Round, kind: str, facts: Mapping[str, Any]) -> None:
    order.write(kind, {"n": asked.n, "key": asked.key, **facts}, once=f"settled/{asked.key}")


def _facts(refusal: Refusal) -> dict[str, str]:
    return {"code": refusal.code, "first_line": refusal.first_line}


def _text(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _decide(order: Order) -> None:
    """What ends a release without sending it, or without sending the rest: votes can be lost after a part of it has gone."""
    now = order.standing()
    why = shown(next((vote.comment for vote in reversed(now.votes) if not vote.decision.approves), ""))
    unsent = "nothing was sent" if order.last("sending") is None else "nothing more is sent"
    if now.status is Status.REJECTED:
        order.close("Rejected", f"order {order.id} was rejected: {why}; {unsent}")
    elif now.status is Status.CHANGES:
        order.close("Changes requested", f"order {order.id}: {why}; {unsent}, the corrected package is a new order")
    elif now.status is Status.EXPIRED:
        order.close("Expired", f"order {order.id} was not signed off until {now_deadline(order)}; {unsent}")
    if not order.open:
        order.tell(now.status.value.replace(" ", "-"), owner=order.agreed.terms.owner)


def now_deadline(order: Order) -> str:
    until = order.matter.deadline
    return f"{until:%Y-%m-%d %H:%M} UTC" if until else "its deadline"


def waiting(order: Order) -> bool:
    """True while people still have to sign."""
    return order.open and order.standing().status is Status.WAITING
