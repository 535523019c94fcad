"""Who may answer, when an answer counts, and how far a sign-off has come. What is not allowed here is not sent.

An answer is judged in this order, and the first refusal ends it::

    locked? ─ eligible ─ reads (the typed digits) ─ [the proof: the sender] ─ admissible (policy, then the file list) ─▶ ProposedVote

The people file is always the one of today: who was taken out of it has lost their vote, and the other votes stand. Its dates are
asked for the day of the vote: who leaves tomorrow has signed today.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from blocks.calendars import Calendar
from blocks.outbound import (
    Answer,
    Decision,
    FourEyes,
    Matter,
    Package,
    PeopleFile,
    Person,
    ProposedVote,
    Refusal,
    Round,
    Seat,
    SignoffPolicy,
    SignoffProof,
    StageTerms,
    Vote,
    on,
)
from tasks.rules.business import after

MOST_WRONG = 5
"""Wrong proofs in a row, over all runs, that lock an approver."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One judged proof of one approver, in any run."""

    approver: str
    at: datetime
    right: bool


def locked(approver: str, attempts: Iterable[Attempt], now: datetime) -> Refusal | None:
    """Refused after five wrong proofs in a row, also with a right one, until somebody unlocks: give the attempts since then.

    A right proof clears the count, as NIST SP 800-63B, 5.2.2 has it. Attempts after ``now`` do not count: a round is judged as of
    the moment it was answered.
    """
    wrong = 0
    for attempt in sorted(attempts, key=lambda attempt: attempt.at):
        if attempt.approver != approver or attempt.at > now or wrong >= MOST_WRONG:
            continue
        wrong = 0 if attempt.right else wrong + 1
    if wrong < MOST_WRONG:
        return None
    return Refusal(
        "locked", "This approver is locked after five wrong proofs. Operations can unlock; another approver can sign."
    )


# --------------------------------------------------------------------------------------------- who


def in_force(policy: SignoffPolicy, matter: Matter) -> SignoffPolicy:
    """The stages that this release has: one more than usual, if it is not as usual."""
    return policy.braked if matter.brake else policy


def eligible(seat: Seat, matter: Matter, policy: SignoffPolicy, people: PeopleFile, at: datetime) -> Refusal | None:
    """Why this person may not answer at all, for themselves or for another; None if they may."""
    policy = in_force(policy, matter)
    approver, principal = people.get(seat.approver), people.get(seat.principal)
    day = people.day(at)
    if approver is None or principal is None:
        return Refusal("unknown-approver", "This approver is not, or no longer, among the people who may sign.")
    if not all(on(day, person.valid_from, person.valid_until) for person in (approver, principal)):
        return Refusal("not-valid", "This approver may not sign on this day: see the dates in the people file.")
    if seat.on_behalf_of is not None and not _delegated(principal, approver, day):
        return Refusal(
            "not-delegated", "There is no delegation for this day: ask the person to be represented, or sign for yourself."
        )
    for person in (approver, principal):
        if matter.requester is not None and person.known_as(matter.requester.id):
            return Refusal("requester", "Whoever asked for this release does not sign it, nor does anybody for them.")
        if any(person.known_as(editor) for editor in matter.editors):
            return Refusal(
                "editor", "Whoever last edited one of these documents does not sign them, nor does anybody for them."
            )
    if _may_answer(policy, widened=matter.widened(at)).isdisjoint(principal.groups):
        if policy.groups.isdisjoint(principal.groups):
            return Refusal("not-in-group", "This approver is in none of the groups that sign on this stream.")
        return Refusal("not-yet", "This approver may sign only once this release has waited for longer.")
    return None


def _may_answer(policy: SignoffPolicy, *, widened: bool) -> frozenset[str]:
    return frozenset(policy.veto).union(*(policy.signers(stage, widened=widened) for stage in policy.stages))


def _delegated(principal: Person, approver: Person, day: date) -> bool:
    return principal is not approver and any(
        delegation.to == approver.id and on(day, delegation.valid_from, delegation.valid_until)
        for delegation in principal.delegations
    )


def seats(matter: Matter, policy: SignoffPolicy, people: PeopleFile, at: datetime) -> Iterator[Seat]:
    """Everybody who may answer on this day, for themselves and for others, whatever was signed already."""
    for person in people.people:
        for seat in (Seat(person.id), *(Seat(to, person.id) for to in sorted({d.to for d in person.delegations}))):
            if eligible(seat, matter, policy, people, at) is None:
                yield seat


def four_eyes(matter: Matter, policy: SignoffPolicy, people: PeopleFile) -> Refusal | None:
    """Why this order cannot be released at all under ``four_eyes: proven``; None if it can."""
    if policy.four_eyes is FourEyes.AS_STATED:
        return None
    if matter.requester is None or not matter.requester.proven or people.get(matter.requester.id) is None:
        return Refusal(
            "requester-unproven",
            "This stream releases only orders whose requester is proven: make it with `countersign request`.",
        )
    return None


# --------------------------------------------------------------------------------------------- how far it has come


class Status(StrEnum):
    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"
    CHANGES = "changes requested"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class StageStanding:
    """How far one stage has come."""

    name: str
    quorum: int
    approvals: tuple[Vote, ...]

    @property
    def complete(self) -> bool:
        return len(self.approvals) >= self.quorum

    @property
    def progress(self) -> str:
        return f"{min(len(self.approvals), self.quorum)} of {self.quorum}"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a sign-off has come, from all its votes and the people of today."""

    status: Status
    stages: tuple[StageStanding, ...]
    stage: int | None
    """The number of the stage that is open, from 0; None once everything is decided."""
    votes: tuple[Vote, ...]
    """The votes that count, in order."""
    lost: tuple[tuple[Vote, Refusal], ...]
    """Votes that no longer count because of who is in the people file now, and why."""
    left_out: tuple[str, ...]
    """Labels that anybody left out, in the package's order: what remains was approved by everybody who approved."""
    may_sign: tuple[Seat, ...]
    """Who may still sign in the open stage, and on whose behalf."""
    may_veto: tuple[Seat, ...]
    """Who else may reject or ask for changes, out of turn."""

    @property
    def approved(self) -> bool:
        return self.status is Status.APPROVED

    @property
    def open(self) -> StageStanding | None:
        return None if self.stage is None else self.stages[self.stage]

    @property
    def progress(self) -> str:
        """``1 of 2`` in the open stage, with its name if there are several; else the status."""
        if self.open is None:
            return self.status.value
        return self.open.progress + (f" in {self.open.name}" if len(self.stages) > 1 else "")


def standing(matter: Matter, policy: SignoffPolicy, people: PeopleFile, votes: Iterable[Vote], now: datetime) -> Standing:
    """How far the sign-off of exactly this package has come. Votes may come in any order, twice, or from other packages.

    The caller has checked their seals. A rejection, once recorded, stands, whoever is in the people file: it only ever keeps
    documents in. After the deadline no vote counts any more; what was approved before it stays approved.
    """
    policy, cast = in_force(policy, matter), _cast_in_time(matter, votes)
    counted, lost = _counted(matter, policy, people, cast)
    left_out = {label for vote in counted if vote.decision.approves for label in vote.left_out}
    stages = tuple(
        StageStanding(stage.name, stage.quorum, tuple(v for v in counted if v.stage == n and v.decision.approves))
        for n, stage in enumerate(policy.stages)
    )
    status = _status(cast, stages, matter.deadline, now)
    stage = next(n for n, s in enumerate(stages) if not s.complete) if status is Status.WAITING else None
    may_sign, may_veto = (
        _free_seats(matter, policy, people, counted, now, policy.stages[stage]) if stage is not None else ((), ())
    )
    return Standing(
        status=status,
        stages=stages,
        stage=stage,
        votes=tuple(counted),
        lost=tuple(lost),
        left_out=tuple(label for label in matter.package.labels if label in left_out),
        may_sign=may_sign,
        may_veto=may_veto,
    )


def _cast_in_time(matter: Matter, votes: Iterable[Vote]) -> list[Vote]:
    """The votes on this package, each once, in the order in which they were cast."""
    mine = {vote.text: vote for vote in votes if vote.package == matter.package.digest}
    in_time = (vote for vote in mine.values() if matter.deadline is None or vote.at <= matter.deadline)
    return sorted(in_time, key=lambda vote: (vote.at, vote.round, vote.text))


def _counted(
    matter: Matter, policy: SignoffPolicy, people: PeopleFile, cast: Sequence[Vote]
) -> tuple[list[Vote], list[tuple[Vote, Refusal]]]:
    counted: list[Vote] = []
    lost: list[tuple[Vote, Refusal]] = []
    voted: set[str] = set()
    left_out: set[str] = set()
    for place, vote in enumerate(cast):
        if vote.decision.approves:
            reason = _reason_lost(vote, matter, policy, people)
            if reason is not None:
                lost.append((vote, reason))
            if (
                reason is not None
                or not _in_turn(policy, cast[:place], vote)
                or not _sound_list(matter.package, vote, left_out)
            ):
                continue
            if voted & {vote.approver, vote.seat.principal}:  # one person, one vote, also for others
                continue
            left_out |= set(vote.left_out)
        voted |= {vote.approver, vote.seat.principal}
        counted.append(vote)
    return counted, lost


def _reason_lost(vote: Vote, matter: Matter, policy: SignoffPolicy, people: PeopleFile) -> Refusal | None:
    """Why a vote does not count, by the people file of today and the day of the vote."""
    if (reason := eligible(vote.seat, matter, policy, people, vote.at)) is not None:
        return reason
    principal, approver = people.get(vote.seat.principal), people.get(vote.approver)
    if principal is None or approver is None:
        return Refusal("unknown-approver", "This approver is not, or no longer, among the people who may sign.")
    groups = frozenset(policy.veto)
    if vote.stage is not None:
        stage = policy.stages[vote.stage] if _there(policy, vote.stage) else None
        groups = policy.signers(stage, widened=matter.widened(vote.at)) if stage else frozenset()
    if groups.isdisjoint(principal.groups):
        return Refusal("not-in-group", "This approver is not, or no longer, in a group that signs in this stage.")
    if vote.proof is SignoffProof.CODE and policy.proof is SignoffProof.SIGNATURE:
        return Refusal("proof-too-weak", "This stream asks for a signature.")
    if vote.proof is SignoffProof.SIGNATURE and not holds_key(approver, vote.key, people.day(vote.at)):
        return Refusal("key-withdrawn", "The key of this signature is not, or no longer, one of the approver's.")
    return None


def _there(policy: SignoffPolicy, stage: int) -> bool:
    return 0 <= stage < len(policy.stages)


def holds_key(person: Person, key: str, day: date) -> bool:
    """True if a public key is one of the person's on that day."""
    blob = key.split(" ")[:2]
    return any(key.key.split(" ")[:2] == blob and on(day, key.valid_from, key.valid_until) for key in person.keys)


def _in_turn(policy: SignoffPolicy, before: Sequence[Vote], vote: Vote) -> bool:
    """True if every earlier stage had its quorum of different people when it was cast, people since removed included."""
    if vote.stage is None or not _there(policy, vote.stage):
        return False
    voted: set[str] = set()
    reached = [0] * len(policy.stages)
    for earlier in before:
        person = {earlier.approver, earlier.seat.principal}
        if earlier.decision.approves and earlier.stage is not None and _there(policy, earlier.stage) and not voted & person:
            voted |= person
            reached[earlier.stage] += 1
    return all(reached[n] >= policy.stages[n].quorum for n in range(vote.stage))


def _sound_list(package: Package, vote: Vote, left_out: set[str]) -> bool:
    listed = set(vote.left_out)
    return listed <= set(package.labels) and len(listed | left_out) < len(package.files)


def _status(cast: Sequence[Vote], stages: Sequence[StageStanding], deadline: datetime | None, now: datetime) -> Status:
    ended = next((vote.decision for vote in cast if not vote.decision.approves), None)
    if ended is not None:
        return Status.REJECTED if ended is Decision.REJECT else Status.CHANGES
    if all(stage.complete for stage in stages):
        return Status.APPROVED
    return Status.EXPIRED if deadline is not None and now > deadline else Status.WAITING


def _free_seats(
    matter: Matter, policy: SignoffPolicy, people: PeopleFile, counted: Sequence[Vote], now: datetime, stage: StageTerms
) -> tuple[tuple[Seat, ...], tuple[Seat, ...]]:
    """Who may sign in this stage, and who else may reject."""
    voted = {person for vote in counted for person in (vote.approver, vote.seat.principal)}
    may_sign, may_veto = [], []
    for seat in seats(matter, policy, people, now):
        principal = people.get(seat.principal)
        if principal is None or voted & {seat.approver, seat.principal}:
            continue
        if not policy.signers(stage, widened=matter.widened(now)).isdisjoint(principal.groups):
            may_sign.append(seat)
        elif not set(policy.veto).isdisjoint(principal.groups):
            may_veto.append(seat)
    return tuple(may_sign), tuple(may_veto)


# --------------------------------------------------------------------------------------------- one answer


def reads(answer: Answer, package: Package) -> Refusal | None:
    """Refused unless the package's digits were typed: it was read, and the tab is not a stale one."""
    if answer.digits == package.digits:
        return None
    return Refusal("package", "The package digits were not those of this package: read the form again, it may have changed.")


def admissible(
    answer: Answer,
    matter: Matter,
    policy: SignoffPolicy,
    people: PeopleFile,
    votes: Iterable[Vote],
    asked: Round,
    *,
    at: datetime,
    shown: str,
) -> ProposedVote | Refusal:
    """The vote that this answer is, or why it is none: policy first, then the list of what is left out.

    ``at`` is when the run left Paused, by the server's clock; ``shown`` the SHA-256 of the text that the form showed.
    """
    if (refused := eligible(answer.seat, matter, policy, people, at)) is not None:
        return refused
    if asked.run != matter.run or asked.digest != matter.package.digest:
        return Refusal("other-round", "This answer belongs to another package. Please answer the form that is open now.")
    now = standing(matter, policy, people, votes, at)
    stage = _turn(answer, now)
    if isinstance(stage, Refusal):
        return stage
    if (refused := _said_too_little(answer)) is not None:
        return refused
    listed = _list(answer, matter.package, now)
    if isinstance(listed, Refusal):
        return listed
    return ProposedVote(
        package=matter.package.digest,
        run=asked.run,
        round=asked.n,
        approver=answer.seat.approver,
        on_behalf_of=answer.seat.on_behalf_of,
        stage=stage,
        decision=answer.decision,
        meaning=answer.meaning,
        left_out=listed,
        comment=answer.comment,
        at=at,
        shown=shown,
    )


def _turn(answer: Answer, now: Standing) -> int | Refusal | None:
    """The stage in which the answer counts; None for a veto out of turn."""
    if now.status is Status.EXPIRED:
        return Refusal("expired", "The deadline has passed: nothing was sent, and nobody can sign any more.")
    if now.status is not Status.WAITING:
        return Refusal("decided", "This release is decided already.")
    if answer.seat in now.may_sign:
        return now.stage
    if answer.seat in now.may_veto:
        if answer.decision.approves:
            return Refusal("not-your-turn", "It is not this approver's turn: now they can only reject or request changes.")
        return None
    if any({vote.approver, vote.seat.principal} & {answer.seat.approver, answer.seat.principal} for vote in now.votes):
        return Refusal("voted", "This person has signed already: one person, one vote, also on behalf of others.")
    return Refusal("not-your-turn", "It is not this approver's turn: an earlier stage is still open, or theirs is complete.")


def _said_too_little(answer: Answer) -> Refusal | None:
    if answer.decision is Decision.APPROVE or answer.comment:
        return None
    return Refusal("comment", "Please say why in the comment: only a plain approval needs none.")


def _list(answer: Answer, package: Package, now: Standing) -> tuple[str, ...] | Refusal:
    """The labels that are left out, in the package's order."""
    listed = set(answer.left_out)
    if answer.decision is not Decision.APPROVE_BUT:
        if listed:
            return Refusal("list-unexpected", "Documents were listed, but only 'approve all but the listed' leaves any out.")
        return ()
    if not listed:
        return Refusal("list-empty", "No document was listed: list those to be left out, or choose 'approve'.")
    if len(listed) != len(answer.left_out):
        return Refusal("list-twice", "A document was listed twice.")
    if not listed <= set(package.choices):
        return Refusal("list-foreign", "A document was listed that cannot be left out of this package.")
    if len(listed.union(now.left_out)) == len(package.files):
        return Refusal("list-all", "Nothing would be left to send: choose 'reject' instead.")
    return tuple(label for label in package.labels if label in listed)


# --------------------------------------------------------------------------------------------- until when


@dataclass(frozen=True, slots=True)
class Moments:
    """When something happens to a sign-off by itself. Counted once, from its first asking, whatever calendars say later."""

    deadline: datetime
    remind: datetime | None = None
    widens: datetime | None = None


def moments(opened: datetime, policy: SignoffPolicy, calendars: Mapping[str, Calendar]) -> Moments:
    """The moments of a sign-off that was first asked for at ``opened``; a reminder after the deadline is none, nor is a wider circle.

    Raises ``ValueError`` for a calendar that is not there, or has not enough working days.
    """
    if policy.calendar is not None and policy.calendar not in calendars:
        raise ValueError(f"calendars.yaml has no calendar '{policy.calendar}', by which this sign-off counts its time")
    calendar = calendars[policy.calendar] if policy.calendar else None
    deadline = after(opened, policy.expires_after, calendar)
    periods = (policy.remind_after, policy.wider.after if policy.wider else None)
    remind, widens = (after(opened, period, calendar) if period is not None else None for period in periods)
    return Moments(
        deadline,
        remind if remind is not None and remind < deadline else None,
        widens if widens is not None and widens < deadline else None,
    )
