"""Shares: folders of a repository in which people outside are shown what was released to them, until a day.

::

    shares:
      auditors:
        repository: { kind: file360, url: https://files.example.com, client_id: sender, client_secret: env:FILE360_SENDER }
        guests: [ ann@audit.example ]
        days: 30

A stream's destination names one with ``share: auditors`` where another one names an endpoint. The account is the sender's own: the only
one that may share with people outside, whose secret workers do not have.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from blocks.chosen import Chosen
from blocks.outbound import Destination
from blocks.repositories.file360 import File360
from blocks.values import Terms

SHARING: dict[str, type[File360]] = {File360.kind: File360}
"""The repositories that show folders to people outside, by their kinds."""

_repository = Chosen("kind", SHARING)
_PORTS = {"http": 80, "https": 443}
_Mail = Annotated[str, StringConstraints(pattern=r"^[^@\s,]+@[^@\s,]+$", to_lower=True)]


def _each_once(guests: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(guests)) != len(guests):
        raise ValueError("a guest stands there twice")
    return guests


class Share(Terms):
    """Where people outside are shown what is released to them: each package in a folder of its own, for so many days."""

    repository: Annotated[File360, _repository] = Field(
        description="The repository, with the sender's own account: the only one that may share with people outside"
    )
    guests: Annotated[tuple[_Mail, ...], AfterValidator(_each_once)] = Field(
        min_length=1,
        max_length=50,
        description="Who is shown it, by mail address. They may look and download, and nothing else",
    )
    days: int = Field(ge=1, le=366, description="For how many days; the repository ends it by itself")

    @property
    def address(self) -> str:
        """Where this is, for people: ``file360://sender@files.example.com:443``."""
        return self.destination("").shown.rstrip("/")

    def destination(self, folder: str) -> Destination:
        """A folder, as a package names it and approvers agree to it: with those who see it, and for how long."""
        place, url = self.repository, urlsplit(self.repository.url)
        root = "/".join(part for part in (url.path.strip("/"), place.root.strip("/")) if part)
        return Destination(
            protocol=place.kind,
            host=url.hostname or "",
            port=url.port or _PORTS[url.scheme],
            user=place.username or place.client_id,
            path=f"{root}/{folder}" if root else folder,
            key_fingerprint="",
            shown_to=f"{', '.join(sorted(self.guests))} for {self.days} days",
        )
