"""What a governance system has flagged: the section ``flags:`` of its file in ``deployments/systems``.

::

    flags:
      owner: records@example.com
      repository: team
      ask: { path: /flags, query: { after: "{after}" }, items: results, next: next, total: total }

Each flag is a legal hold on a document, or a rule that what is kept in a folder stays for so many days; it says of itself whether it is
set or lifted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from blocks.systems.http import Place, Question
from blocks.values import Owned, Slug

AFTER = "after"
"""The fact by which the question names the page that is wanted: what the page before said, empty for the first."""
Word = Annotated[str, StringConstraints(min_length=1)]


class Listing(Question):
    """The question for all flags, in pages or in one."""

    items: Place = Field(description="Where in the answer the list of them stands")
    next: Place | None = Field(
        default=None, description="Where it stands after what the next page begins, for {after}; nothing there: it was the last"
    )
    total: Place | None = Field(default=None, description="Where it stands how many there are in all; so many must come")


class Flags(Owned):
    """Legal holds and retention that a governance system sets on what a repository keeps."""

    repository: Slug = Field(description="Whose documents and folders it flags: a name of repositories.yaml")
    ask: Listing
    stale_after: timedelta = Field(
        default=timedelta(minutes=15),
        ge=timedelta(0),
        description="How old its last whole answer may be when we remove something; older, it is asked first, and where it does not "
        "answer, nothing of that repository is removed",
    )
    unsaid: Literal["stay", "are-lifted"] = Field(
        default="stay",
        description="Flags that it told once and tells no more: 'stay' (a person is asked), or 'are-lifted' where two whole lists "
        "agree; that needs 'total'",
    )
    id: Place = Field(default="id", description="Where in one of them its own id stands, the same for ever")
    state: Place = Field(default="state", description="Where it stands whether it is set")
    set: tuple[Word, ...] = Field(default=("set",), min_length=1, description="Words that mean: set")
    lifted: tuple[Word, ...] = Field(default=("lifted",), description="Words that mean: lifted")
    kind: Place = Field(default="kind", description="Where it stands what kind it is")
    hold: tuple[Word, ...] = Field(default=("hold",), description="Words that mean: a legal hold on a document")
    retention: tuple[Word, ...] = Field(default=("retention",), description="Words that mean: a rule for a folder")
    name: Place = Field(default="name", description="Where the hold's name stands")
    comment: Place = Field(default="comment", description="Where the reason stands, if there is one")
    document: Place = Field(default="document", description="Of a hold: where the document's id in the repository stands")
    folder: Place = Field(default="folder", description="Of a rule: where the folder's path below the repository's root stands")
    days: Place = Field(default="days", description="Of a rule: where it stands how many days what is filed there must be kept")

    @model_validator(mode="after")
    def _can_be_told(self) -> Self:
        if self.unsaid == "are-lifted" and self.ask.total is None:
            raise ValueError("'unsaid: are-lifted' needs 'total' in 'ask': else a list that was cut short would lift holds")
        for one, other in (("set", "lifted"), ("hold", "retention")):
            if both := {*getattr(self, one)} & {*getattr(self, other)}:
                raise ValueError(f"{sorted(both)[0]!r} cannot mean both {one!r} and {other!r}")
        return self
