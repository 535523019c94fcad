"""What a watch's file says under ``index``: which search system is told of the folder's documents, and what of them.

::

    watch: { repository: team, folder: Claims, index: { system: search, fields: [name, folder, readers], restricted: … } }
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from blocks.values import Slug, Terms

FIELDS = ("name", "folder", "media_type", "size", "version", "modified", "readers")
"""Words for what is known of every document; a category's value is told as 'Category/Attribute'."""


def _field(name: str) -> str:
    category, _, attribute = name.partition("/")
    if name not in FIELDS and not (category.strip() and attribute.strip()):
        raise ValueError(f"is none of {', '.join(FIELDS)}, and no value as in 'Partner Document/Reference'")
    return name


class RestrictedPolicy(StrEnum):
    """What the index is told of a restricted document."""

    MASK = "mask"  # that there is one, under a title that says nothing
    LEAVE_OUT = "leave-out"  # nothing


class MarkedBy(Terms):
    """A category value that says that a document is restricted."""

    category: str
    attribute: str
    values: tuple[str, ...] = Field(
        min_length=1, description="Any of these, in any case; of a number or a checkbox what it says: [secret, '3', 'true']"
    )


class Restricted(Terms):
    """Which documents are restricted, and what is told of them. One sign is enough."""

    policy: RestrictedPolicy = Field(description="mask or leave-out")
    title: str = Field(default="Restricted document", min_length=1, description="What masked ones are called")
    folders: tuple[str, ...] = Field(default=(), description="All in these folders below the watch's: [HR, Claims/Medical]")
    marked: tuple[MarkedBy, ...] = Field(default=(), description="All with one of these category values")
    open_to: tuple[str, ...] = Field(
        default=(), description="All that none of these may see: ['group:Everyone'], as 'readers' tells them"
    )

    @model_validator(mode="after")
    def _says_which(self) -> Restricted:
        if not (self.folders or self.marked or self.open_to):
            raise ValueError("say which documents are restricted: 'folders', 'marked' or 'open_to'")
        return self


class IndexTerms(Terms):
    """What a search system is told of the documents in a watched folder. Never their bytes."""

    system: Slug = Field(description="Its file in systems/, of kind opensearch")
    fields: tuple[Annotated[str, AfterValidator(_field)], ...] = Field(
        min_length=1, description=f"All that goes there: {', '.join(FIELDS)}, and values as 'Category/Attribute'"
    )
    restricted: Restricted | None = Field(default=None, description="Left out: no document is restricted")
    agreed_time: timedelta = Field(
        default=timedelta(minutes=15),
        gt=timedelta(0),
        description="So long after a change a person is told that it is not there",
    )
    compare_every: timedelta = Field(
        default=timedelta(days=1),
        gt=timedelta(0),
        description="So often all documents are told anew, and what is gone is removed",
    )
