"""What a watch's file says of approvals: which changes are sensitive, and whose sign-off they start."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field

from blocks.outbound import Admission
from blocks.values import Slug, Terms

ChangeKind = Literal["upload", "modify", "share"]


class Ticket(Terms):
    """The ticketing or process system that is told of each approval."""

    system: Slug = Field(description="Its file in systems/")
    route: str = Field(description="Told of {document}, {version}, {id}, {order}, {change}, {by}, {reason}")


class Approval(Terms):
    """Changes of documents that start an approval."""

    on: tuple[ChangeKind, ...] = Field(
        default=("upload", "modify", "share"), min_length=1, description="Which changes: upload, modify, share"
    )
    patterns: tuple[str, ...] = Field(default=("*",), min_length=1, description="Names of sensitive documents (shell patterns)")
    values: tuple[Admission, ...] = Field(
        default=(), description="Values that make a document sensitive, all of them; left out: its name and place do"
    )
    stream: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9-]*$",
        description="partner/stream whose sign-off is asked: one with 'from_order: true' and 'freshness: latest'",
    )
    since: date | None = Field(
        default=None, description="Changes before this day start none; left out: all that the repository still tells of"
    )
    ticket: Ticket | None = Field(default=None, description="A system that is told of each approval, once")
