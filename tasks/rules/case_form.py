"""The form about a case: what a person reads before deciding, what they may decide, and what their answer is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from blocks.values import Finding, Severity, shown
from tasks.rules import signing
from tasks.rules.literal import code

_FINDINGS, _MOMENTS = 8, 6
"""Listed in the form, which has room for about forty lines; the command line lists all."""
_LONGEST = 200
MOST_CHARACTERS = 2000
"""Of a comment."""


def _writable(text: str) -> str:
    text.encode()  # JSON may hold halves of characters, which no ledger takes
    return text


_Text = Annotated[str, AfterValidator(_writable)]
_FILLED_IN: TypeAdapter[str | list[str]] = TypeAdapter(_Text | list[_Text], config=ConfigDict(strict=True))


class Decision(StrEnum):
    """What a person decides, as the form offers it."""

    CORRECT = "correct it: the cells or the file named below"
    RELEASE = "release it as it is, for the reason given"
    RETURN = "reject it to the partner, who is to send it again"
    CLOSE = "close the case; the document is not filed"
    DISMISS = "close the case, for the reason given"
    ASSIGN = "assign it"
    COMMENT = "comment only"


WANT_A_REASON = frozenset({Decision.CORRECT, Decision.RELEASE, Decision.CLOSE, Decision.DISMISS, Decision.COMMENT})


PROVEN = frozenset({Decision.CORRECT, Decision.RELEASE})
"""What is proven where the stream's ``signoff`` wants it: by these a document is filed that the checks have refused."""


class Answer(BaseModel):
    """What was filled in, as raw JSON: it may have been planted, so nothing of it is taken for granted."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    decision: _Text
    who: _Text
    comment: _Text = ""
    assign_to: _Text = ""
    cells: list[_Text] = []
    file: _Text = ""
    proof: _Text = Field("", repr=False)

    @property
    def decided(self) -> Decision:
        return Decision(self.decision)


_KEPT = tuple(name for name in Answer.model_fields if name != "proof")
"""What of an answer may be kept, and is shown again."""


def parse(raw: Any, decisions: Sequence[Decision], people: Sequence[str], *, proving: bool = False) -> Answer | str:
    """An answer, or why it is none: the first line of the next asking. ``proving``: the stream wants some decisions proven."""
    try:
        answer = Answer.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        return f"The answer could not be read ({shown('.'.join(map(str, first['loc']))[:80])}: {first['msg']})."
    if answer.decision not in {one.value for one in decisions}:
        return f"{shown(answer.decision[:80])} is none of the decisions that this case takes."
    if people and answer.who not in people:
        return f"{shown(answer.who[:80])} is nobody of people.yaml today."
    if not answer.who.strip() or len(answer.who) > 200:
        return "Say who you are."
    if len(answer.proof) > signing.MOST_CHARACTERS["proof"]:
        return "That is no proof: it is too long."
    if len(answer.comment) > MOST_CHARACTERS:
        return f"The comment has {len(answer.comment)} characters; at most {MOST_CHARACTERS} are kept."
    if answer.decided in WANT_A_REASON and not answer.comment.strip():
        return "Say why, in the comment: it is kept with the decision."
    if answer.decided is Decision.ASSIGN and not answer.assign_to:
        return "Say to whom, in 'assign to'."
    if answer.decided is Decision.CORRECT and bool(answer.cells) == bool(answer.file):
        return "To correct it name either cells or a file."
    if answer.decided is not Decision.CORRECT and (answer.cells or answer.file):
        return "Cells or a file were named, and the decision was not to correct it: nothing was done."
    if proving and answer.decided in PROVEN and not answer.proof.strip():
        return "Prove that it is you, in 'proof': this stream lets no refused document go on without."
    return answer


def texts(raw: Any) -> Iterator[str]:
    """Every text of an answer that may be kept, or stand in why it is refused: what was filled in, and names that are no field's."""
    if isinstance(raw, Mapping):
        for name, value in raw.items():
            if name == "proof":
                continue  # never kept, and never shown
            if name not in Answer.model_fields:
                yield str(name)
            yield from (part for part in (value if isinstance(value, list) else [value]) if isinstance(part, str))


def typed(raw: Any) -> dict[str, str | list[str]]:
    """What was filled in, as it is shown again; of what may have been planted, only the fields there are, and only text that is text."""
    kept = {}
    for name in _KEPT:
        with suppress(ValidationError):
            kept[name] = _FILLED_IN.validate_python(raw.get(name) if isinstance(raw, Mapping) else None)
    return kept


@dataclass(frozen=True, slots=True)
class Page:
    """What is known of a case."""

    journey: str
    about: str
    """The file's name, or what else it is about."""
    stream: str
    code: str
    reason: str
    owner: str
    due: str
    state: str
    findings: tuple[Finding, ...] = ()
    moments: tuple[str, ...] = ()
    """What was done so far, oldest first."""
    hints: tuple[str, ...] = ()
    """What the decisions mean for this case; our own words."""
    refused: str = ""
    """Why the last answer was not carried out."""
    typed: Mapping[str, Any] | None = None
    """What it was, so that nobody types it again from memory."""


def page(case: Page) -> str:
    """The form's text, Markdown. Every text from outside stands in a code span."""
    lines = []
    if case.refused:
        lines += [f"**Nothing was done:** {code(case.refused, _LONGEST)}", ""]
        if case.typed:
            known = {name: value for name in _KEPT if (value := case.typed.get(name))}
            told = "; ".join(f"{name}: {code(str(value), _LONGEST)}" for name, value in known.items())
            lines += [f"You had answered: {told}", ""]
    lines += [
        f"**{code(case.about)}** on {code(case.stream)}",
        "",
        f"{code(case.code)}: {code(case.reason.removeprefix(f'{case.code}: '), _LONGEST)}",
        "",
        f"Owner {code(case.owner)}, due {code(case.due)}, {code(case.state)}",
    ]
    errors = [finding for finding in case.findings if finding.severity is Severity.ERROR]
    if errors:
        lines += ["", *(f"- {_line(finding)}" for finding in errors[:_FINDINGS])]
        if len(errors) > _FINDINGS:
            lines.append(f"- and {len(errors) - _FINDINGS} more: `countersign quarantine show {case.journey}`")
    if case.hints:
        lines += ["", *(f"- {hint}" for hint in case.hints)]
    if case.moments:
        lines += ["", "So far:", "", *(f"- {code(moment, _LONGEST)}" for moment in case.moments[-_MOMENTS:])]
    return "\n".join(lines)


def _line(finding: Finding) -> str:
    place = f"row {finding.row}" if finding.row else "the file"
    column = f", {code(finding.column)}" if finding.column else ""
    value = f" = {code(str(finding.value))}" if finding.value not in (None, "") else ""
    fix = f" {code(finding.fix, _LONGEST)}" if finding.fix else ""
    return f"{place}{column}{value}: {code(finding.message, _LONGEST)}{fix}"
