"""A line-of-business system's reviewed file: ``deployments/systems/<name>.yaml``, beside the partners'.

::

    system:    { kind: http, url: …, auth: { … }, routes: { … } }      parsed by the block class of the kind
    handovers: { invoices: { about: …, content: …, target: … } }       documents that it makes, and where they are kept
    flags:     { repository: …, ask: … }                               holds and retention that it sets (``flag_file``)

Nothing outside this file says where a system is, what it is told, or where its documents go; only credentials are references
(``env:``, ``file:``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ModelWrapValidatorHandler, StringConstraints, model_validator

from blocks import reviewed
from blocks.catalog import SYSTEMS
from blocks.chosen import Chosen
from blocks.errors import ConfigurationError
from blocks.flag_file import Flags
from blocks.profile import FACTS, digest_of
from blocks.reviewed import Problem, nearest
from blocks.systems.base import System
from blocks.systems.http import HttpSystem, Place, Question
from blocks.values import Owned, Slug, Target, Terms

_system = Chosen("kind", SYSTEMS)

Fact = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
KEY = "document"
"""The fact by which the questions of a handover name one document: its idempotency key."""


class Offers(Question):
    """Which documents wait to be handed over."""

    items: Place = Field(description="Where in the answer the list of them stands")
    key: Place = Field(description="Where in one of them its key stands")


class About(Question):
    """What the system says about one document: '/documents/{document}'."""

    name: Place = Field(description="Where in the answer its name stands, with its ending: INV-4711.pdf")
    sha256: Place | None = Field(
        default=None, description="Where the SHA-256 of its bytes stands, in hex; what comes must have it"
    )
    size: Place | None = Field(default=None, description="Where the number of its bytes stands; so many must come")
    facts: Mapping[Fact, Place] = Field(
        default_factory=dict, description="Facts for the target's templates, and where they stand"
    )


class Handover(Owned):
    """Documents that a system makes, each kept in a repository exactly once by its key."""

    offers: Offers | None = Field(default=None, description="Left out: only documents whose key a call names are handed over")
    about: About
    content: Question = Field(description="Where its bytes are: '/documents/{document}/content'")
    largest_bytes: int = Field(default=5 * 1024**3, gt=0, description="Larger documents are refused")
    media_types: tuple[str, ...] = Field(default=(), description="What its bytes may be: [application/pdf]. Left out: anything")
    target: Target
    done: Slug | None = Field(
        default=None, description="Route by which the system is told: facts {document}, {id}, {version}, {repository}"
    )


class SystemFile(Terms):
    """What was agreed about one system."""

    system: Annotated[System, _system]
    handovers: Mapping[Slug, Handover] = Field(default_factory=dict, description="Documents that it makes, by a short name")
    flags: Flags | None = Field(default=None, description="Holds and retention that it sets, where it governs a repository")

    @model_validator(mode="wrap")
    @classmethod
    def _can_do_it(cls, given: Any, handler: ModelWrapValidatorHandler[SystemFile]) -> SystemFile:
        """Asked of what was written, so that it is told along with all else."""
        valid: SystemFile = reviewed.beside([*_odd_handovers(given), *_odd_flags(given)], given, handler)
        return valid

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the terms, for the ledger."""
        return digest_of(self.model_dump(mode="json"))


def _odd_handovers(given: Any) -> Iterator[Problem]:
    """Handovers of a kind that has no documents, those that tell it on no route, and facts that are ours."""
    content = given if isinstance(given, dict) else {}
    system, handovers = content.get("system"), content.get("handovers")
    if not isinstance(system, dict) or not isinstance(handovers, dict):
        return
    if handovers and system.get("kind") != HttpSystem.kind:
        yield Problem(("handovers",), f"only a system of kind {HttpSystem.kind!r} has documents to hand over")
        return
    routes: dict[str, Any] = system["routes"] if isinstance(system.get("routes"), dict) else {}
    for name, terms in handovers.items():
        if not isinstance(terms, dict):
            continue
        if terms.get("done") is not None and terms["done"] not in routes:
            yield Problem(("handovers", name, "done"), f"no such route; {nearest(str(terms['done']), routes)}")
        about = terms.get("about")
        facts = about.get("facts") if isinstance(about, dict) else None
        for fact in sorted({KEY, *FACTS} & set(facts if isinstance(facts, dict) else ())):
            yield Problem(("handovers", name, "about", "facts", fact), "is a fact that every document has; choose another word")


def _odd_flags(given: Any) -> Iterator[Problem]:
    """Flags of a kind of system that answers no questions."""
    content = given if isinstance(given, dict) else {}
    system = content.get("system")
    if content.get("flags") is not None and isinstance(system, dict) and system.get("kind") != HttpSystem.kind:
        yield Problem(("flags",), f"only a system of kind {HttpSystem.kind!r} can be asked for flags")


def load_system_file(name: str, folder: Path) -> SystemFile:
    """A system's reviewed file, of the folder with the partners'. Raises ``ConfigurationError`` with every problem and its line."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
        raise ConfigurationError(f"{name[:80]!r} is no system's name: small letters, digits and dashes, as in 'erp'")
    path = folder / "systems" / f"{name}.yaml"
    if not path.is_file():
        raise ConfigurationError(f"{path}: there is no such system; {nearest(name, systems(folder))}")
    if (beside := folder / f"{name}.yaml").exists():
        raise ConfigurationError(
            f"{path}: {beside} has that name too, and the ledger tells systems and partners apart by it; rename one"
        )
    return reviewed.load(path, SystemFile)


def load_system(name: str, folder: Path) -> System:
    """How a system is spoken with. Raises ``ConfigurationError``."""
    return load_system_file(name, folder).system


def systems(folder: Path) -> list[str]:
    """Names of the systems' files, broken ones included."""
    return sorted(path.stem for path in (folder / "systems").glob("*.yaml"))
