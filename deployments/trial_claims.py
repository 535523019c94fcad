"""What must be true of what a session told, as claims: each says in a sentence what is wrong, or "". Values in, words out."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from blocks.errors import CountersignError
from blocks.values import Fetched, FileKind, Missed, Moved, Outcome, Placed, Proof, RemoteFile, Unread, shown

Answer: TypeAlias = RemoteFile | Fetched | Missed | Placed | Moved


@dataclass(frozen=True, slots=True)
class Told:
    """What one verb told before it ended."""

    answers: Mapping[bytes, Answer] = field(default_factory=dict)
    """By the name of the file each is about."""
    error: CountersignError | None = None
    """What ended it early."""
    unread: Unread = field(default_factory=Unread)
    seconds: float = 0.0

    @property
    def files(self) -> list[RemoteFile]:
        return [answer for answer in self.answers.values() if isinstance(answer, RemoteFile)]


def ended_well(told: Told) -> str:
    return f"it ended with {_error(told.error)}" if told.error else ""


def ended_with(told: Told, kind: type[CountersignError], *words: str, later: bool | None = None) -> str:
    """It ended with this error, which says these words, and says that trying again later may help, or does not."""
    if not isinstance(told.error, kind):
        return f"it ended {f'with {_error(told.error)}' if told.error else 'as if all were well'} instead of {kind.__name__}"
    if missing := [word for word in words if word.lower() not in str(told.error).lower()]:
        return f"its error does not say {', '.join(map(repr, missing))}: {shown(str(told.error))}"
    if later is not None and told.error.worth_retrying is not later:
        return f"{kind.__name__} says that trying again {'cannot' if later else 'can'} help"
    return ""


def hides(told: Told, secret: str) -> str:
    return f"its error shows {secret!r}" if secret in str(told.error) else ""


def lists(told: Told, names: Collection[bytes], kind: FileKind = FileKind.FILE) -> str:
    """These names and no others are listed, all of one kind."""
    if others := [f"{file.shown} as {file.kind}" for file in told.files if file.kind is not kind]:
        return f"listed: {', '.join(others)}"
    wrong = _names("listed", told.answers, names)
    return wrong and wrong + _because(told)


def became(told: Told, name: bytes, *wanted: Outcome) -> str:
    """This file's outcome is one of these; ``DONE`` is what was fetched, placed, moved."""
    answer = told.answers.get(name)
    if answer is None:
        return f"{shown(name)}: nothing was told of it, where {' or '.join(wanted)} was due{_because(told)}"
    outcome = outcome_of(answer)
    if outcome in wanted:
        return ""
    reason = f" ({answer.reason})" if isinstance(answer, Missed | Moved) and answer.reason else ""
    return f"{shown(name)}: {outcome}{reason}, where {' or '.join(wanted)} was due"


def outcome_of(answer: Answer) -> Outcome:
    return answer.outcome if isinstance(answer, Missed | Moved) else Outcome.DONE


def arrived(told: Told, contents: Mapping[bytes, bytes]) -> str:
    """These files were fetched, with exactly these bytes."""
    for name, content in contents.items():
        if wrong := became(told, name, Outcome.DONE):
            return wrong
        answer = told.answers[name]
        assert isinstance(answer, Fetched | Placed)  # noqa: S101 - what came of fetch or put and is DONE
        if answer.digest != hashlib.sha256(content).hexdigest():
            return f"{shown(name)}: other bytes than the partner's are said to be fetched"
    return ""


def proven_by(told: Told, name: bytes, *proofs: Proof) -> str:
    answer = told.answers.get(name)
    if isinstance(answer, Placed) and answer.proof in proofs:
        return ""
    return f"{shown(name)}: {answer.proof if isinstance(answer, Placed) else 'not placed'}, where {' or '.join(proofs)} was due"


def stand(there: Mapping[bytes, bytes], wanted: Mapping[bytes, bytes]) -> str:
    """This is what stands in the partner's folder: these names, temporary ones included, with these bytes."""
    if wrong := _names("at the partner", there, wanted):
        return wrong
    return next((f"{shown(name)}: other bytes stand there" for name in wanted if there[name] != wanted[name]), "")


def within(told: Told, seconds: float) -> str:
    return f"it took {told.seconds:.1f} s" if told.seconds > seconds else ""


def holds(claim: bool, otherwise: str) -> str:
    return "" if claim else otherwise


def _names(where: str, found: Collection[bytes], wanted: Collection[bytes]) -> str:
    lost, strange = set(wanted) - set(found), set(found) - set(wanted)
    told = [f"{where}: {word} {_some(names)}" for word, names in (("not", lost), ("also", strange)) if names]
    return "; ".join(told)


def _some(names: Collection[bytes]) -> str:
    first = ", ".join(map(shown, sorted(names)[:5]))
    return first if len(names) <= 5 else f"{first} and {len(names) - 5} more"


def _because(told: Told) -> str:
    return f"; it ended with {_error(told.error)}" if told.error else ""


def _error(error: CountersignError | None) -> str:
    return f"{type(error).__name__}: {shown(str(error))}"
