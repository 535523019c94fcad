"""Papers: the documents that a partner must provide, and what waits while one of them is lacking. The key ``papers:`` of its profile.

::

    papers:
      repository: team
      folder: Vendors/acme/Papers
      required: { insurance: { title: Liability insurance, pattern: "insurance*.pdf" }, … }
      approved: { category: Vendor Paper, attribute: Status, values: [Approved] }
      valid_until: { category: Vendor Paper, attribute: Valid Until }
      tells: { system: vendors, route: papers }

What a document is good for, people say in the repository, by values beside it; nothing here is guessed from its content.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from blocks.errors import DocumentMissing
from blocks.outbound import Admission, Attribute, Slot
from blocks.values import Kept, Owned, Slug, Terms

if TYPE_CHECKING:
    from blocks.repositories.base import RepositorySession

Days = Annotated[int, Field(ge=1, le=365)]


class Paper(Slot):
    """One document that the partner must provide, which is known by its name, by a value in the repository, or by both."""

    title: str = Field(min_length=1, max_length=100, description="As people call it: Liability insurance")
    expires: bool = Field(default=True, description="false: it is good for ever, and needs no date")
    required: bool = Field(default=True, description="false: nothing waits for it, whatever its state is")


class TellsPapers(Terms):
    """Which system is told of the papers."""

    system: Slug = Field(description="A file in the folder systems, beside this one")
    route: Slug = Field(
        description="One of its routes: facts {partner}, {title}, {paper}, {paper_title}, {state}, {before}, {valid_until}, {days_left}, "
        "{document}, {reminder}, {summary}, {papers} (state by paper) and {counts} (number by state)"
    )


class Papers(Owned):
    """Documents that a partner must provide, and keep up to date."""

    repository: Slug = Field(description="One of repositories.yaml")
    folder: Annotated[str, StringConstraints(pattern=r"^[^/]+(/[^/]+)*$")] = Field(
        description="The partner's folder of papers, below the repository's root"
    )
    required: Mapping[Slug, Paper] = Field(min_length=1, description="The papers, by short names")
    approved: Admission = Field(description="The value by which a person has approved a paper")
    rejected: Admission | None = Field(default=None, description="The value by which a person has rejected one")
    valid_until: Attribute | None = Field(
        default=None,
        description="The attribute with the last day (YYYY-MM-DD) on which a paper is good, on the partner's calendar",
    )
    remind: tuple[Days, ...] = Field(default=(30, 14, 3), description="So many days before that day somebody is reminded")
    reminds: tuple[str, ...] = Field(
        default=(), description="Who: ids of people, groups, teams or mail addresses, as in 'owner'; left out: the owner"
    )
    tells: TellsPapers | None = Field(default=None, description="The system that is told of each change, and of each reminder")
    lacking: Literal["block", "tell"] = Field(
        default="block",
        description="While a required paper is missing, not approved or expired: block (no release goes out to this partner) or tell",
    )
    blocks: tuple[Slug, ...] | None = Field(default=None, description="Only these outbound streams wait; left out: all of them")

    @model_validator(mode="after")
    def _dates_are_somewhere(self) -> Self:
        if self.valid_until is None and (dated := [name for name, paper in self.required.items() if paper.expires]):
            raise ValueError(f"'{dated[0]}' expires: add 'valid_until', or 'expires: false' to the paper")
        if self.blocks is not None and self.lacking == "tell":
            raise ValueError("'blocks' names what waits, and with 'lacking: tell' nothing does: leave one of them out")
        return self

    @property
    def days(self) -> tuple[int, ...]:
        """Of the reminders, the first one first."""
        return tuple(sorted(set(self.remind), reverse=True))

    @property
    def deciding(self) -> tuple[Attribute, ...]:
        """The values that say what a document is good for."""
        return tuple(one for one in (self.approved, self.rejected, self.valid_until) if one is not None)

    def holds_up(self, stream: str) -> bool:
        """True if releases of an outbound stream wait while a paper is lacking."""
        return self.lacking == "block" and (self.blocks is None or stream in self.blocks)


def look_for_papers(session: RepositorySession, papers: Papers) -> list[Kept]:
    """The documents that may be papers, with their values, as they are now; none where the folder is not there."""
    found = []
    try:
        listed = list(session.look(tuple(papers.folder.split("/"))))
    except DocumentMissing:
        return []
    for kept in listed:
        if not kept.container and any(p.pattern is None or fnmatchcase(kept.name, p.pattern) for p in papers.required.values()):
            try:
                found.append(session.get(kept.id))
            except DocumentMissing:
                continue  # removed in this very moment
    return found
