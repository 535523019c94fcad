"""What was agreed with a partner: one reviewed file, ``deployments/<partner>.yaml``, which also holds its Prefect deployments.

::

    partner:
      name: acme
      endpoints: { drop: { protocol: sftp, host: …, host_keys: [ … ] } }      parsed by the block class of the protocol
      streams:   { invoices: { direction: inbound, endpoint: drop, … } }      the terms in blocks/values.py
    deployments:                                                              Prefect's own stanzas, checked more strictly

What the product uses is this file. Its terms never come from the environment, a variable or the Prefect UI; only
credentials are references (``env:``, ``file:``). The digest of the terms goes into the ledger with every journey.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import json
import posixpath
import re
import string
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ModelWrapValidatorHandler, TypeAdapter, WrapValidator, model_validator

from blocks import reviewed
from blocks.calendars import Calendar, CalendarsFile, known_timezone
from blocks.catalog import ENDPOINTS, REPOSITORIES
from blocks.chosen import Chosen
from blocks.endpoints.base import Endpoint
from blocks.errors import ConfigurationError
from blocks.outbound import DestinationTerms, FourEyes, Freshness, Outbound, PeopleFile, Policies, Which
from blocks.papers import Papers
from blocks.repositories.base import Repository
from blocks.reviewed import Problem, nearest
from blocks.shares import Share
from blocks.stanza import Deployment
from blocks.values import AtEnd, DispositionKind, EmptyFiles, Exists, Grant, Inbound, Retention, Slug, Target, Terms

FACTS = frozenset(
    {"partner", "stream", "name", "stem", "extension", "digest", "received", "source_path", "record_date", "keep_until"}
)
"""Known about every document. A named group of these names would be ambiguous in a template."""

_endpoint, _repository = Chosen("protocol", ENDPOINTS), Chosen("kind", REPOSITORIES)

NOT_PARTNERS = frozenset({"repositories", "people", "notify", "calendars"})
"""Other reviewed files in the same folder."""

# --------------------------------------------------------------------------------------------- the profile


def _sound(stream: Inbound) -> Inbound:
    """What the shape of a stream's terms cannot say."""
    problems = list(_faults(stream))
    if problems:
        raise reviewed.invalid("stream", problems)
    return stream


def _faults(stream: Inbound) -> Iterator[Problem]:
    expressions: list[tuple[reviewed.Loc, str]] = [(("naming",), stream.naming)] if stream.naming is not None else []
    expressions += [(("classify", number, "pattern"), rule.pattern) for number, rule in enumerate(stream.classify)]
    for loc, pattern in expressions:
        try:
            groups = re.compile(pattern).groupindex
        except (re.error, OverflowError, RecursionError) as error:
            yield Problem(loc, f"is not a regular expression: {error}")
        else:
            for group in sorted(FACTS & groups.keys()):
                yield Problem(loc, f"the group name {group!r} is taken: it always means the document's own; choose another")
    for word in ("quiet", "minimum_age"):
        if getattr(stream.settle, word) < timedelta(0):
            yield Problem(("settle", word), "cannot be negative")
    if stream.settle.done_file is not None and not _names_its_file(stream.settle.done_file):
        yield Problem(("settle", "done_file"), "must name its file by {name} or {stem}, e.g. '{name}.done'")
    if stream.limits.smallest_bytes == 0 and stream.empty is EmptyFiles.REFUSE:
        yield Problem(("limits", "smallest_bytes"), "0 lets empty files in, and 'empty' refuses them: add 'empty: accept'")
    moves = DispositionKind.MOVE in (stream.disposition.accepted, stream.disposition.refused)
    if moves and not stream.disposition.folder:
        yield Problem(("disposition",), "'move' needs a folder to move to: add 'folder:'")
    if moves and segments(stream.disposition.folder or "") == segments(stream.folder):
        yield Problem(("disposition", "folder"), "is the folder we look in: what was moved would come in again")
    if not moves and stream.disposition.folder:
        yield Problem(("disposition", "folder"), "nothing is moved: add 'accepted: move' or 'refused: move', or leave this out")
    for word, told in (("notes", stream.notes), ("receipts", stream.receipts)):
        if told is not None and segments(told.folder) in {segments(folder) for folder in stream.folders}:
            yield Problem((word, "folder"), f"is a folder we look in: our own {word} would come in again")
    if stream.notes is not None and stream.notes.good_name and not _agreed_name(stream.notes.good_name, stream):
        yield Problem(("notes", "good_name"), "is no name that this stream takes (its 'naming' and 'classify')")
    try:
        codecs.lookup(stream.encoding)
    except LookupError:
        yield Problem(("encoding",), "is no text encoding that Python knows (utf-8, cp1252, iso8859-15, …)")


def _agreed_name(name: str, stream: Inbound) -> bool:
    """True if a file of this name would be taken; also where an expression is none, which is told elsewhere."""
    try:
        named = stream.naming is None or re.fullmatch(stream.naming, name) is not None
        return named and any(re.fullmatch(rule.pattern, name) for rule in stream.classify)
    except (re.error, OverflowError, RecursionError):
        return True


def segments(folder: str) -> str:
    """A folder by its path segments: ``/drop/`` and ``/drop/.`` are ``/drop``, and ``/dropped`` is not."""
    return posixpath.normpath(folder or ".").replace("//", "/")


def _names_its_file(pattern: str) -> bool:
    try:
        used = {name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None}
    except ValueError:
        return False
    return bool(used) and used <= {"name", "stem"}


_inbound = TypeAdapter[Inbound](Annotated[Inbound, AfterValidator(_sound)])


def _by_direction(given: Any, handler: Any) -> Inbound | Outbound:
    """Parsed as what it says it is, so that its mistakes are told for that direction only."""
    if isinstance(given, Outbound) or (isinstance(given, dict) and given.get("direction") == "outbound"):
        return Outbound.model_validate(given)
    return _inbound.validate_python(given)


Stream = Annotated[Inbound | Outbound, WrapValidator(_by_direction)]


class Contact(Terms):
    """A person or team at the partner."""

    name: str = Field(description="Person or team")
    mail: str = Field(description="Mail address", pattern=r"^\S+@\S+$")
    role: str = Field(default="", description="What to ask them about: 'transfers', 'prices'")


class PartnerProfile(Terms):
    """What was agreed with one partner."""

    name: Slug = Field(description="The file's name without .yaml: acme")
    title: str = Field(description="As people call the partner: ACME Corporation")
    owner: str = Field(default="", description="Who of us answers for this partner: a mail address or a team's name")
    contacts: tuple[Contact, ...] = Field(default=(), description="Whom to ask at the partner")
    timezone: Annotated[str, AfterValidator(known_timezone)] = Field(
        default="UTC", description="The partner's IANA time zone: Europe/Berlin"
    )
    endpoints: Mapping[Slug, Annotated[Endpoint, _endpoint]] = Field(
        default={}, description="The partner's places for files, by a short name; none where it is only shown documents"
    )
    shares: Mapping[Slug, Share] = Field(
        default={},
        description="Where people outside are shown what is released to them in a repository of ours, by a short name",
    )
    streams: Mapping[Slug, Stream] = Field(min_length=1, description="The kinds of exchange, by a short name")
    papers: Papers | None = Field(default=None, description="Documents that the partner must provide, and keep up to date")

    @model_validator(mode="wrap")
    @classmethod
    def _endpoints_exist(cls, given: Any, handler: ModelWrapValidatorHandler[PartnerProfile]) -> PartnerProfile:
        """Every stream's endpoint is there, and good enough; asked of what was written, so that it is told along with all else."""
        valid: PartnerProfile = reviewed.beside(
            [
                *_lost_endpoints(given),
                *_weak_endpoints(given),
                *_direct_writes(given),
                *_odd_returns(given),
                *_odd_papers(given),
            ],
            given,
            handler,
        )
        return valid

    def place(self, terms: DestinationTerms) -> Endpoint | Share:
        """Where a destination is."""
        return self.endpoints[terms.endpoint] if terms.endpoint is not None else self.shares[terms.place]

    @property
    def inbound(self) -> dict[str, Inbound]:
        """The streams that come in, by name."""
        return {name: stream for name, stream in self.streams.items() if isinstance(stream, Inbound)}

    @property
    def outbound(self) -> dict[str, Outbound]:
        """The streams that go out, by name."""
        return {name: stream for name, stream in self.streams.items() if isinstance(stream, Outbound)}

    @cached_property
    def terms(self) -> dict[str, Any]:
        """Everything that is in force, defaults included, as JSON values."""
        return self.model_dump(mode="json")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the terms: the same in two files that mean the same."""
        return digest_of(self.terms)


def policies_of(profile: PartnerProfile, stream: str, people: PeopleFile) -> Policies:
    """What a package of an outbound stream is frozen under: what that stream uses, and no other stream's business.

    The partner by name and title, as approvers are shown them, and the endpoints and shares that its destinations name, with pins and
    guests.
    """
    terms, agreed = profile.outbound[stream], profile.terms
    named = {destination.endpoint for destination in terms.destinations}
    used = {
        "name": agreed["name"],
        "title": agreed["title"],
        "stream": stream,
        "endpoints": {name: told for name, told in agreed["endpoints"].items() if name in named},
    }
    if shares := {destination.share for destination in terms.destinations if destination.share}:
        used["shares"] = {name: told for name, told in agreed["shares"].items() if name in shares}
    return Policies(digest_of(used), people.digest, terms.digest)


def _lost_endpoints(given: Any) -> Iterator[Problem]:
    """Streams whose endpoint, or one of whose destinations' endpoints or shares, is not in the same profile."""
    endpoints, shares = _mapping(given, "endpoints"), _mapping(given, "shares")
    for name, stream in _mapping(given, "streams").items():
        destinations = _told(stream, "destinations")
        places: list[tuple[reviewed.Loc, Any]] = [((), stream)]
        if isinstance(destinations, list | tuple):
            places += [(("destinations", number), destination) for number, destination in enumerate(destinations)]
        for word in ("notes", "receipts"):
            if (told := _told(stream, word)) is not None:
                places.append(((word,), told))
        for loc, place in places:
            wanted = _told(place, "endpoint")
            if isinstance(wanted, str) and wanted not in endpoints:
                yield Problem(("streams", name, *loc, "endpoint"), f"no such endpoint; {nearest(wanted, endpoints)}")
            wanted = _told(place, "share")
            if isinstance(wanted, str) and wanted not in shares:
                yield Problem(("streams", name, *loc, "share"), f"no such share; {nearest(wanted, shares)}")


def _weak_endpoints(given: Any) -> Iterator[Problem]:
    """Streams that release only what proven people ask for, and would send it where anybody on the way can change it."""
    endpoints = _mapping(given, "endpoints")
    for name, stream in _mapping(given, "streams").items():
        destinations, four_eyes = _told(stream, "destinations"), _told(_told(stream, "signoff"), "four_eyes")
        if four_eyes != FourEyes.PROVEN or not isinstance(destinations, list | tuple):
            continue
        for number, destination in enumerate(destinations):
            endpoint = endpoints.get(str(_told(destination, "endpoint")))
            kind = ENDPOINTS.get(str(_told(endpoint, "protocol")))
            if kind is not None and not kind.protected:
                loc: reviewed.Loc = ("streams", name, "destinations", number, "endpoint")
                protocol = f"plain {kind.protocol.upper()}"
                yield Problem(
                    loc, f"is {protocol}: a stream with 'four_eyes: proven' goes only where nobody on the way can change it"
                )


def _direct_writes(given: Any) -> Iterator[Problem]:
    """Destinations where files are written under their final names, and no done file says when they are whole."""
    endpoints = _mapping(given, "endpoints")
    for name, stream in _mapping(given, "streams").items():
        destinations = _told(stream, "destinations")
        for number, destination in enumerate(destinations if isinstance(destinations, list | tuple) else ()):
            if _told(endpoints.get(str(_told(destination, "endpoint"))), "direct_write") is None:
                continue
            loc: reviewed.Loc = ("streams", name, "destinations", number)
            if _told(destination, "done_file") is None:
                yield Problem(
                    loc, "its endpoint has 'direct_write': add a 'done_file', without which nobody knows when a file is whole"
                )
            if _told(destination, "exists") == Exists.REPLACE:
                yield Problem((*loc, "exists"), "its endpoint has 'direct_write', where no name is ever replaced: say 'refuse'")


def _odd_returns(given: Any) -> Iterator[Problem]:
    """Streams of returns of what does not go out, or whose files would change or stop what goes out next."""
    streams = _mapping(given, "streams")
    for name, stream in streams.items():
        returned = _told(stream, "returns")
        if returned is None:
            continue
        out, loc = streams.get(str(returned)), ("streams", name, "returns")
        gather = _told(out, "gather")
        if gather is None:
            outbound = [other for other, told in streams.items() if _told(told, "gather") is not None]
            yield Problem(loc, f"no such outbound stream; {nearest(str(returned), outbound)}")
        elif _told(gather, "version") != Which.APPROVED:
            yield Problem(
                loc,
                f"'{returned}' sends newest versions, as what came back would be: add 'version: approved' to its 'gather'",
            )
        elif _told(gather, "repository") != _told(_told(stream, "target"), "repository"):
            yield Problem(loc, f"the documents of '{returned}' are in another repository than this stream's 'target'")
        elif _told(out, "freshness") != Freshness.PINNED:
            yield Problem(loc, f"what came back would void packages of '{returned}' that wait: add 'freshness: pinned' to it")
        else:
            for category, attribute in sorted(_deciding(gather) & _written(_told(stream, "target"))):
                yield Problem(
                    ("streams", name, "target", "categories", category, attribute),
                    f"decides what '{returned}' sends (its 'gather'): what comes back must not change it",
                )


def _odd_papers(given: Any) -> Iterator[Problem]:
    """Papers that hold up streams which are not there, and streams whose files would say what the partner's own papers are good for."""
    papers, streams = _told(given, "papers"), _mapping(given, "streams")
    if papers is None:
        return
    held = _told(papers, "blocks")
    outbound = [name for name, told in streams.items() if _told(told, "direction") == "outbound"]
    for number, name in enumerate(held if isinstance(held, list | tuple) else ()):
        if name not in outbound:
            yield Problem(("papers", "blocks", number), f"no such outbound stream; {nearest(str(name), outbound)}")
    said = [_told(papers, word) for word in ("approved", "rejected", "valid_until")]
    deciding = {(str(_told(one, "category")), str(_told(one, "attribute"))) for one in said if one is not None}
    for name, stream in streams.items():
        # Whatever the repository is called there: one may have two names in repositories.yaml, for two accounts.
        for category, attribute in sorted(deciding & _written(_told(stream, "target"))):
            yield Problem(
                ("streams", name, "target", "categories", category, attribute),
                "says what a paper is good for ('papers'): what the partner sends must not say it",
            )


def _deciding(gather: Any) -> set[tuple[str, str]]:
    """Category and attribute of all values that say which version of a document leaves, whether and until when."""
    told = [_told(gather, "approved_in"), _told(gather, "valid_until")]
    for several in (_told(gather, "admits"), _told(gather, "sensitive")):
        told += several if isinstance(several, list | tuple) else []
    return {(str(_told(one, "category")), str(_told(one, "attribute"))) for one in told if one is not None}


def _written(target: Any) -> set[tuple[str, str]]:
    """Category and attribute of all values that a target sets."""
    categories = _told(target, "categories")
    several = categories.items() if isinstance(categories, dict) else ()
    return {(str(category), str(one)) for category, values in several if isinstance(values, dict) for one in values}


def _told(given: Any, key: str) -> Any:
    """What stands under a key of something that was written, or is parsed already."""
    return given.get(key) if isinstance(given, dict) else getattr(given, key, None)


def _mapping(given: Any, key: str) -> dict[str, Any]:
    """What was written under a key, if it is a mapping: the rest of the check tells if it is not."""
    inner = given.get(key) if isinstance(given, dict) else None
    return inner if isinstance(inner, dict) else {}


class PartnerFile(Terms):
    """One partner's file: the profile, and the Prefect deployments that carry it out."""

    partner: PartnerProfile
    deployments: tuple[Deployment, ...] = Field(default=(), description="Prefect deployments, deployed by countersign deploy")

    @model_validator(mode="wrap")
    @classmethod
    def _deployments_stay_here(cls, given: Any, handler: ModelWrapValidatorHandler[PartnerFile]) -> PartnerFile:
        """No deployment runs another partner's stream, or one that is not here."""
        valid: PartnerFile = reviewed.beside(_strays(given), given, handler)
        return valid


def _strays(given: Any) -> Iterator[Problem]:
    """Deployments whose parameters name another partner or an unknown stream."""
    partner, deployments = _mapping(given, "partner"), given.get("deployments") if isinstance(given, dict) else None
    for number, deployment in enumerate(deployments if isinstance(deployments, list) else ()):
        loc, parameters = ("deployments", number, "parameters"), _mapping(deployment, "parameters")
        if parameters.get("partner", partner.get("name")) != partner.get("name"):
            yield Problem((*loc, "partner"), f"is another partner's: this file is {partner.get('name')!r}")
        if "stream" in parameters and parameters["stream"] not in _mapping(partner, "streams"):
            yield Problem(
                (*loc, "stream"), f"no such stream; {nearest(str(parameters['stream']), _mapping(partner, 'streams'))}"
            )


class CheckpointTerms(Terms):
    """Where the ledger's checkpoints are kept, out of reach of whoever can edit the ledger."""

    repository: Slug = Field(description="One of the repositories")
    folder: str = Field(min_length=1, description="Folder in it, made if it is not there")
    key: str | None = Field(
        default=None,
        description="The sender's public key, as 'countersign signoff key' prints it: only it may seal checkpoints from now on",
        pattern=r"^[A-Za-z0-9+/]{43}=$",
    )

    @property
    def public_key(self) -> bytes | None:
        return base64.b64decode(self.key) if self.key else None


_OF_A_CASE = frozenset({"partner", "stream", "case", "received"})
"""What is known of every case."""


class CaseTerms(Terms):
    """Where the record of each case is filed: a folder of its own, with the problem file, an error page and the last good document."""

    repository: Slug = Field(description="One of the repositories")
    folder: str = Field(
        min_length=1,
        description="Path template, with {partner}, {stream} and {received:%Y} (when the case was opened): 'Cases/{partner}'. Each "
        "case has a folder below it, called by its journey",
    )
    categories: Mapping[str, Mapping[str, str | tuple[str, ...]]] = Field(
        default_factory=dict, description="Category name -> attribute -> value template(s); {case} is the journey"
    )
    records_class: str | None = Field(default=None, description="Records management classification")
    retention: Retention | None = Field(default=None, description="How long it must be kept; we never remove it")
    access: tuple[Grant, ...] = Field(default=(), description="Exactly who gets access; empty inherits from the folder")

    @model_validator(mode="after")
    def _is_kept(self) -> CaseTerms:
        if self.retention is not None and self.retention.at_end is AtEnd.REMOVE:
            raise ValueError("'at_end: remove' is not for records of cases: after the last day the repository decides")
        values = [one for values in self.categories.values() for told in values.values() for one in _several(told)]
        for template in (self.folder, *values):
            if not _used(template) <= _OF_A_CASE | ({"record_date", "keep_until"} if self.retention else set()):
                raise ValueError(f"{template!r}: known of a case are {', '.join(f'{{{fact}}}' for fact in sorted(_OF_A_CASE))}")
        if any(part.strip() in ("", ".", "..") for part in self.folder.strip("/").split("/")) or "\\" in self.folder:
            raise ValueError("'folder' is a path of names with / between them, without empty, '.' or '..' parts")
        self.target  # noqa: B018 - raises
        return self

    @property
    def target(self) -> Target:
        """The folder of one case."""
        return Target(
            repository=self.repository,
            folder=f"{self.folder.strip('/')}/{{case}}",
            categories=self.categories,
            records_class=self.records_class,
            retention=self.retention,
            access=self.access,
        )


def _several(told: str | tuple[str, ...]) -> tuple[str, ...]:
    return (told,) if isinstance(told, str) else told


def _used(template: str) -> set[str]:
    """The facts of a template. Raises ``ValueError`` for what is none."""
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


class RepositoriesFile(Terms):
    """``repositories.yaml``: where documents are kept, by a short name that targets use; where checkpoints of the ledger and records of
    cases are."""

    repositories: Mapping[Slug, Annotated[Repository, _repository]]
    checkpoints: CheckpointTerms | None = Field(default=None, description="Where the ledger's checkpoints are filed")
    cases: CaseTerms | None = Field(default=None, description="Where records of cases are filed; left out: none are")

    @model_validator(mode="after")
    def _kept_somewhere(self) -> RepositoriesFile:
        for word, terms in (("checkpoints", self.checkpoints), ("cases", self.cases)):
            if terms is not None and terms.repository not in self.repositories:
                raise ValueError(f"'{word}': no such repository; {nearest(terms.repository, self.repositories)}")
        return self


# --------------------------------------------------------------------------------------------- reading


def partner_path(name: str, folder: Path) -> Path:
    """Where a partner's file is, or would be. Raises ``ConfigurationError`` for what cannot be a name."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name) or name in NOT_PARTNERS:
        raise ConfigurationError(f"{name[:80]!r} is no partner's name: small letters, digits and dashes, as in 'acme'")
    return folder / f"{name}.yaml"


def load_file(name: str, folder: Path) -> PartnerFile:
    """A partner's reviewed file. Raises ``ConfigurationError`` with every problem, its line and what may have been meant."""
    path = partner_path(name, folder)
    if not path.is_file():
        raise ConfigurationError(f"{path}: there is no such partner; {nearest(name, partners(folder))}")
    return reviewed.load(path, PartnerFile, also=lambda content: _misnamed(content, name))


def _misnamed(content: Any, name: str) -> Iterator[Problem]:
    if _mapping(content, "partner").get("name", name) != name:
        yield Problem(("partner", "name"), f"must be the file's name, {name!r}")


def load_partner(name: str, folder: Path) -> PartnerProfile:
    """What was agreed with a partner, from ``<folder>/<name>.yaml``. Raises ``ConfigurationError``."""
    return load_file(name, folder).partner


def load_repositories(folder: Path) -> dict[str, Repository]:
    """The repositories of ``<folder>/repositories.yaml`` by name. Raises ``ConfigurationError``."""
    return dict(reviewed.load(folder / "repositories.yaml", RepositoriesFile).repositories)


def load_calendars(folder: Path) -> dict[str, Calendar]:
    """The business calendars of ``<folder>/calendars.yaml`` by name; none without that file. Raises ``ConfigurationError``."""
    path = folder / "calendars.yaml"
    return dict(reviewed.load(path, CalendarsFile).calendars) if path.exists() else {}


def load_checkpoints(folder: Path) -> tuple[CheckpointTerms, Repository] | None:
    """Where checkpoints of the ledger are filed; None if nothing was agreed about that. Raises ``ConfigurationError``."""
    file = _repositories(folder)
    if file is None or file.checkpoints is None:
        return None
    return file.checkpoints, file.repositories[file.checkpoints.repository]


def load_cases(folder: Path) -> tuple[CaseTerms, Repository] | None:
    """Where records of cases are filed; None if nothing was agreed about that. Raises ``ConfigurationError``."""
    file = _repositories(folder)
    return None if file is None or file.cases is None else (file.cases, file.repositories[file.cases.repository])


def _repositories(folder: Path) -> RepositoriesFile | None:
    path = folder / "repositories.yaml"
    return reviewed.load(path, RepositoriesFile) if path.exists() else None


def partners(folder: Path) -> list[str]:
    """Names of the partner files in a folder, broken ones included: those with a top-level key ``partner``."""
    return sorted(path.stem for path in folder.glob("*.yaml") if re.search(rb"(?m)^partner\s*:", _beginning(path)))


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(reviewed.LARGEST_BYTES)


def terms_of(block: Endpoint | Repository) -> dict[str, Any]:
    """What was agreed about one endpoint or repository, as JSON values."""
    return (_endpoint if isinstance(block, Endpoint) else _repository).terms(block)


def digest_of(terms: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of some terms."""
    return hashlib.sha256(json.dumps(terms, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def editor_schema() -> dict[str, Any]:
    """JSON schema of a partner's file, for editors: completion, descriptions, and a red line under a typo."""
    schema = PartnerFile.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "A partner of Countersign"}
