"""A watch's reviewed file: ``deployments/watches/<name>.yaml``, beside the partners'.

::

    watch: { repository: team, folder: Claims, owner: … }      whose changes are followed, and one key for each that follows them

Nothing outside this file says what becomes of what happens in the folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from blocks import reviewed
from blocks.approval_terms import Approval
from blocks.errors import ConfigurationError
from blocks.index_terms import IndexTerms
from blocks.outbound import Attribute
from blocks.profile import digest_of
from blocks.reviewed import nearest
from blocks.values import FactName, Onward, Owned, Slug, Terms


def _plain_path(folder: str) -> str:
    if not all(part.strip() and part not in (".", "..") for part in folder.split("/")):
        raise ValueError("is a path below the repository's root, as in 'Claims/Incoming'")
    return folder


class Audit(Terms):
    """Where every event of the folder is told: a SIEM."""

    system: Slug = Field(description="Name of the SIEM's file in systems: kind syslog or event-collector")
    late_after: timedelta = Field(
        default=timedelta(minutes=15),
        gt=timedelta(0),
        description="An event of an object's history that the feed has not told is missing",
    )


class Uploads(Onward):
    """Where documents go that people put into the folder, by the values that they gave them."""

    told: Mapping[FactName, Attribute] = Field(
        default_factory=dict, description="Facts and where they stand: { project: { category: Claim, attribute: Project } }"
    )


class Watch(Owned):
    """A folder of a repository whose changes are followed, with all below it."""

    repository: Slug = Field(description="Its name in repositories.yaml")
    folder: Annotated[str, AfterValidator(_plain_path)] = Field(description="Below the repository's root: Claims/Incoming")
    approval: Approval | None = Field(default=None, description="Whose changes start an approval, and which")
    index: IndexTerms | None = Field(default=None, description="The search system that is told of its documents")
    audit: Audit | None = Field(
        default=None, description="The SIEM that is told every event, by the flow 'audit'; left out: none is"
    )
    onward: Uploads | None = Field(
        default=None, description="The systems that are given what people put there, by the flow 'onward'; left out: none is"
    )


class WatchFile(Terms):
    """What was agreed about one watch."""

    watch: Watch

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the terms, for the ledger."""
        return digest_of(self.model_dump(mode="json"))


def load_watch_file(name: str, folder: Path) -> WatchFile:
    """A watch's reviewed file, of the folder with the partners'. Raises ``ConfigurationError`` with every problem and its line."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
        raise ConfigurationError(f"{name[:80]!r} is no watch's name: small letters, digits and dashes, as in 'claims'")
    path = folder / "watches" / f"{name}.yaml"
    if not path.is_file():
        raise ConfigurationError(f"{path}: there is no such watch; {nearest(name, watches(folder))}")
    for beside in _of_that_name(name, folder):
        raise ConfigurationError(f"{path}: {beside} has that name too, and the ledger tells them apart by it; rename one")
    return reviewed.load(path, WatchFile)


def _of_that_name(name: str, folder: Path) -> Iterator[Path]:
    return (path for path in (folder / f"{name}.yaml", folder / "systems" / f"{name}.yaml") if path.exists())


def watches(folder: Path) -> list[str]:
    """Names of the watches' files, broken ones included."""
    return sorted(path.stem for path in (folder / "watches").glob("*.yaml"))
