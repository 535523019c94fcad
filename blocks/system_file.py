"""A line-of-business system's reviewed file: ``deployments/systems/<name>.yaml``, beside the partners'.

::

    system:    { kind: http, url: …, auth: { … }, routes: { … } }      parsed by the block class of the kind
    handovers: { invoices: { about: …, content: …, target: … } }       documents that it makes, and where they are kept
    flags:     { repository: …, ask: … }                               holds and retention that it sets (``flag_file``)
    workspaces: { cases: { about: …, folder: …, name: …, access: … } } what gets a workspace in a repository when it is created there

Nothing outside this file says where a system is, what it is told, or where its documents go; only credentials are references
(``env:``, ``file:``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ModelWrapValidatorHandler, model_validator

from blocks import reviewed
from blocks.catalog import SYSTEMS
from blocks.chosen import Chosen
from blocks.errors import ConfigurationError
from blocks.flag_file import Flags
from blocks.profile import FACTS, digest_of
from blocks.reviewed import Problem, nearest
from blocks.systems.base import System
from blocks.systems.http import HttpSystem, Place, Question
from blocks.values import FactName, Grant, Owned, Slug, Target, Terms

_system = Chosen("kind", SYSTEMS)

KEY = "document"
"""The fact by which the questions of a handover name one document: its idempotency key."""
REFERENCE = "reference"
"""The fact by which the questions of workspaces name one project, deal or case."""


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
    facts: Mapping[FactName, Place] = Field(
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


class Subject(Question):
    """What the system says about one project, deal or case: '/cases/{reference}'."""

    facts: Mapping[FactName, Place] = Field(
        default_factory=dict, description="Facts for the templates of folder and name, and where they stand"
    )


class ClosedBy(Terms):
    """How people close a workspace in the repository, and how the system is told."""

    word: str = Field(
        default="[closed]", min_length=3, description="Who renames the workspace so that its name holds this, closes it"
    )
    route: Slug = Field(
        description="Route by which the system is told, once: facts {reference}, {id}, {name}, {repository}, {by}"
    )


def _plain_paths(folders: Mapping[str, tuple[Grant, ...]]) -> Mapping[str, tuple[Grant, ...]]:
    for path in folders:
        if any(part != part.strip() or part in ("", ".", "..") or "\\" in part for part in path.split("/")):
            raise ValueError(f"{path!r} is no path of names with / between them: 'Contracts/Signed'")
    if len({path.casefold() for path in folders}) < len(folders):
        raise ValueError("two folders differ only in case")
    return folders


class Workspaces(Owned):
    """What gets a workspace when it is created in the system: a tree of folders in a repository, with who gets at each."""

    offers: Offers | None = Field(
        default=None, description="What is to have a workspace; left out: only what a call names by its reference"
    )
    about: Subject
    repository: Slug = Field(description="Its name in repositories.yaml; one that gives people folders: File 360")
    folder: str = Field(min_length=1, description="Path template, with {reference} and the facts: 'Cases/{customer}'")
    name: str = Field(min_length=1, description="Name template of the workspace itself: 'case {reference}'")
    access: tuple[Grant, ...] = Field(
        min_length=1, description="Exactly who gets at the workspace and all its folders: read, edit or full"
    )
    folders: Annotated[Mapping[str, tuple[Grant, ...]], AfterValidator(_plain_paths)] = Field(
        default_factory=dict,
        description="Its folders, by path, each with who gets at it besides: { Letters: [], Contracts/Signed: [{ who: Legal }] }",
    )
    opened: Slug | None = Field(
        default=None, description="Route by which the system is told: facts {reference}, {id}, {name}, {repository}"
    )
    closed: ClosedBy | None = Field(
        default=None, description="Left out: that a workspace is closed means nothing to the system"
    )

    @property
    def tree(self) -> dict[tuple[str, ...], tuple[Grant, ...]]:
        """Who gets at which folder, those in between included; ``()`` is the workspace itself."""
        paths = {tuple(path.split("/")): access for path, access in self.folders.items()}
        between = {path[:depth]: () for path in paths for depth in range(1, len(path))}
        return {(): self.access, **between, **paths}


class SystemFile(Terms):
    """What was agreed about one system."""

    system: Annotated[System, _system]
    handovers: Mapping[Slug, Handover] = Field(default_factory=dict, description="Documents that it makes, by a short name")
    flags: Flags | None = Field(default=None, description="Holds and retention that it sets, where it governs a repository")
    workspaces: Mapping[Slug, Workspaces] = Field(
        default_factory=dict, description="What gets a workspace when it is created there, by a short name"
    )

    @model_validator(mode="wrap")
    @classmethod
    def _can_do_it(cls, given: Any, handler: ModelWrapValidatorHandler[SystemFile]) -> SystemFile:
        """Asked of what was written, so that it is told along with all else."""
        odd = [*_odd_handovers(given), *_odd_flags(given), *_odd_workspaces(given)]
        valid: SystemFile = reviewed.beside(odd, given, handler)
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


def _odd_workspaces(given: Any) -> Iterator[Problem]:
    """The same of workspaces; and names that a handover has: the ledger tells the two apart by them."""
    content = given if isinstance(given, dict) else {}
    system, every = content.get("system"), content.get("workspaces")
    if not isinstance(system, dict) or not isinstance(every, dict):
        return
    if every and system.get("kind") != HttpSystem.kind:
        yield Problem(("workspaces",), f"only a system of kind {HttpSystem.kind!r} is asked what is to have one")
        return
    routes: dict[str, Any] = system["routes"] if isinstance(system.get("routes"), dict) else {}
    handovers = content.get("handovers")
    for name, terms in every.items():
        if isinstance(handovers, dict) and name in handovers:
            yield Problem(("workspaces", name), "is a handover's name too; choose another")
        if not isinstance(terms, dict):
            continue
        closed = terms.get("closed")
        told = {
            ("opened",): terms.get("opened"),
            ("closed", "route"): closed.get("route") if isinstance(closed, dict) else None,
        }
        for where, route in told.items():
            if route is not None and route not in routes:
                yield Problem(("workspaces", name, *where), f"no such route; {nearest(str(route), routes)}")
        about = terms.get("about")
        facts = about.get("facts") if isinstance(about, dict) else None
        for fact in sorted({REFERENCE, *FACTS} & set(facts if isinstance(facts, dict) else ())):
            yield Problem(("workspaces", name, "about", "facts", fact), "is a fact that each one has; choose another word")


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
