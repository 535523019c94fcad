"""What leaves and who lets it: the terms of an outbound stream, the people, the frozen package, and what a sign-off is made of.

::

    Outbound + Order ── gathered and frozen as ─▶ Package ── shown in a ─▶ Round ── filled in as ─▶ Answer
                                                    │ digest                                         │ judged (tasks.rules)
                                                    ▼                                                ▼
                                              Statement ◀── a signature covers it ──  Refusal | ProposedVote ── proven as ─▶ Vote

No Prefect, no I/O, no clock. Whatever is hashed, signed or sealed has one canonical text: JSON, ASCII, keys sorted, no blanks, as
in the ledger; moments are UTC with microseconds and ``Z``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import string
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from blocks.calendars import Period

# Given on: whoever reads a package or a vote writes its text in the same way.
from blocks.canonical import canonical as canonical
from blocks.canonical import iso as iso
from blocks.canonical import sha256 as sha256
from blocks.values import DUE_WITHIN, Classification, Exists, Limits, Owned, Proof, Slug, Target, Terms, name_b64, shown
from blocks.values import SignoffProof as SignoffProof

NAMESPACE = "release@countersign"
"""Of our SSH signatures (``ssh-keygen -Y sign -n``): one made for a commit or a mail is never an approval."""

STANDING_NAMESPACE = "standing@countersign"
"""Of signatures over a stream's terms, beforehand: one made for a release is never good for others."""

REQUEST_NAMESPACE = "request@countersign"
"""Of signatures with which somebody asks for a release: asking is never approving."""

MOST_CHOICES = 50
"""Files of a package from which some may be left out in the form; larger packages go whole or not at all."""


# --------------------------------------------------------------------------------------------- templates


def _template(*facts: str) -> AfterValidator:
    """A template over these facts only: no attributes, no conversions, so that it cannot read anything else."""

    def checked(template: str) -> str:
        try:
            parts = list(string.Formatter().parse(template))
        except ValueError as error:
            raise ValueError(f"is no template: {error}; a brace itself is written twice") from None
        for _, name, spec, conversion in parts:
            if name is not None and (name not in facts or conversion):
                raise ValueError(f"{{{name}}} is no fact here; known: {', '.join('{' + fact + '}' for fact in facts)}")
            if spec and (name != "ordered" or "{" in spec):
                raise ValueError(f"{{{name}}} takes no format; only {{ordered:%Y-%m-%d}} does")
        return template

    return AfterValidator(checked)


Folder = Annotated[str, StringConstraints(min_length=1), _template("partner", "stream", "order", "ordered", "kit")]
Name = Annotated[
    str,
    StringConstraints(min_length=1),
    _template("name", "stem", "extension", "partner", "stream", "order", "version", "digest", "id"),
]
ServiceName = Annotated[str, StringConstraints(min_length=1), _template("partner", "stream", "order", "package")]
Sidecar = Annotated[str, StringConstraints(min_length=6), _template("name")]

# --------------------------------------------------------------------------------------------- terms of a stream


class Attribute(Terms):
    """One attribute of a category in the repository."""

    category: str = Field(description="Name of the category: Product Content")
    attribute: str = Field(description="Name of the attribute in it: Status")


class Admission(Attribute):
    """A value that a document must have before it may leave."""

    values: tuple[str, ...] = Field(
        min_length=1, description="Any one of these, written exactly as in the repository: Approved"
    )


class Review(Terms):
    """A workflow in the repository that must have let a document through before it may leave."""

    map: str = Field(description="The workflow map, as a path below the Enterprise volume: Process Library/Document Approval")
    step: str = Field(description="The step that only a process completes which ended well: Approved")


class Which(StrEnum):
    """Which version of a document leaves."""

    NEWEST = "newest"
    APPROVED = "approved"


class Gather(Terms):
    """Which documents a release takes, and from where. Exactly one of folder, search and from_order."""

    repository: Slug = Field(description="A repository in repositories.yaml")
    folder: Folder | None = Field(
        default=None, description="Everything in this folder: a template over {partner}, {stream}, {order}, {ordered:%Y-%m-%d}"
    )
    search: str | None = Field(
        default=None, min_length=1, description="What a search for these words finds; an index may lag behind"
    )
    from_order: bool = Field(default=False, description="The documents whose ids the order lists, and no others")
    patterns: tuple[str, ...] = Field(
        default=("*",), min_length=1, description="Names that belong to this stream (shell patterns)"
    )
    admits: tuple[Admission, ...] = Field(default=(), description="What a document must have, all of it; others are withheld")
    review: Review | None = Field(
        default=None,
        description="A completed workflow that was started with the very version that goes; a document without one is withheld",
    )
    sensitive: tuple[Attribute, ...] = Field(
        default=(), description="If the value of one of these changes while a package waits, it is void, with all its sign-offs"
    )
    valid_until: Attribute | None = Field(
        default=None, description="The attribute with the last day (YYYY-MM-DD) on which a document may leave, if it has one"
    )
    version: Which = Field(default=Which.NEWEST, description="newest or approved")
    approved_in: Attribute | None = Field(
        default=None, description="The attribute that holds the number of the approved version; needed by 'version: approved'"
    )
    most_files: int = Field(default=1000, gt=0, le=10_000, description="A larger package is refused: somebody has to read it")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if [self.folder is not None, self.search is not None, self.from_order].count(True) != 1:
            raise ValueError("say where documents come from by exactly one of 'folder', 'search' and 'from_order: true'")
        if (self.version is Which.APPROVED) != (self.approved_in is not None):
            raise ValueError("'version: approved' needs 'approved_in', and only it does")
        return self


class Slot(Terms):
    """A place in a kit for one document, which is known by its name, by a value in the repository, or by both."""

    pattern: str | None = Field(default=None, min_length=1, description="The document's name, a shell pattern: 'terms-*.pdf'")
    value: Admission | None = Field(default=None, description="A value of a category that the document has")
    required: bool = Field(default=True, description="true: without a document here the kit does not go")

    @model_validator(mode="after")
    def _known_by_something(self) -> Self:
        if self.pattern is None and self.value is None:
            raise ValueError("say which document belongs there: by 'pattern', by 'value', or by both")
        return self

    @property
    def wants(self) -> str:
        """What would fill it, for people."""
        named = f"named '{self.pattern}'" if self.pattern is not None else ""
        held = f"with {self.value.category} / {self.value.attribute} = {' or '.join(self.value.values)}" if self.value else ""
        return " ".join(["a document", *filter(None, (named, held))])


class Kit(Terms):
    """What one customer, region or occasion gets as a whole."""

    like: Slug | None = Field(
        default=None, description="Another kit of this stream whose slots it has too, but for those that it names itself"
    )
    slots: Mapping[Slug, Slot] = Field(default={}, description="What belongs into it, by the slots' names")


class DestinationTerms(Terms):
    """Where a package goes and what it looks like there."""

    endpoint: Slug | None = Field(default=None, description="One of the partner's endpoints")
    share: Slug | None = Field(
        default=None, description="Or one of the partner's shares: then people outside are shown the package in a repository"
    )
    folder: Folder = Field(
        description="A template over {partner}, {stream}, {order}, {ordered:%Y-%m-%d}; it must exist there, unless create_folder. In "
        "a share, each package gets a new folder of that name and its digits"
    )
    name: Name = Field(
        default="{name}", description="A template over {name}, {stem}, {extension}, {version}, {id}, {digest}, {order}, ..."
    )
    create_folder: bool = Field(default=False, description="Create the folder if it is not there, and those above it")
    exists: Exists = Field(default=Exists.REFUSE, description="If a name is taken: refuse or replace")
    sidecar: Sidecar | None = Field(
        default=None, description="A checksum file beside each document, e.g. '{name}.sha256'; its format is that of sha256sum"
    )
    manifest: ServiceName | None = Field(
        default=None, description="One list of all documents with sizes and SHA-256: {order}.json"
    )
    done_file: ServiceName | None = Field(default=None, description="An empty file that is placed last of all: {order}.done")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.endpoint is None) == (self.share is None):
            raise ValueError("say where it goes by exactly one of 'endpoint' and 'share'")
        if self.share is not None and (self.create_folder or self.exists is Exists.REPLACE or self.done_file is not None):
            raise ValueError(
                "in a share each package has a new folder, shown as a whole: no 'create_folder', 'exists', 'done_file'"
            )
        return self

    @property
    def place(self) -> str:
        """The name of the endpoint or share."""
        return self.endpoint or self.share or ""

    @model_validator(mode="after")
    def _sidecar_beside_its_file(self) -> Self:
        if self.sidecar is not None and ("{name}" not in self.sidecar or self.sidecar == "{name}"):
            raise ValueError("'sidecar' must name its file by {name} and differ from it: '{name}.sha256'")
        return self


class Freshness(StrEnum):
    """What a change in the repository while a package waits means for it."""

    LATEST = "latest"  # a newer version voids the package
    PINNED = "pinned"  # the approved version still goes


class PreviewKind(StrEnum):
    """What approvers see of the documents themselves."""

    FINDINGS = "findings"  # what the checks found, with the failing rows
    FULL = "full"  # and first rows, first pages, small pictures: content stands at Prefect while people decide


class FourEyes(StrEnum):
    """How sure we are who asked for a release."""

    AS_STATED = "as_stated"
    PROVEN = "proven"


class StageTerms(Terms):
    """One step of a sign-off; the next one opens when its quorum is reached."""

    name: str = Field(min_length=1, max_length=40, description="As approvers call it: pricing, content")
    groups: tuple[Slug, ...] = Field(min_length=1, description="Whose members may sign here; groups of people.yaml")
    quorum: int = Field(default=1, ge=1, le=20, description="How many of them must approve")


class WiderCircle(Terms):
    """Who may sign too once a sign-off has waited for so long; quorums stay what they are."""

    after: Period = Field(description="From the first asking: P3D, '8 business hours', '2 business days'")
    groups: tuple[Slug, ...] = Field(
        min_length=1, description="Whose members may then sign in every stage; groups of people.yaml"
    )


class Band(Terms):
    """From how much on there is far more of something."""

    factor: float | None = Field(default=None, gt=1, le=1000, description="So many times what is usual on this stream: 3")
    most: float | None = Field(default=None, ge=0, description="A fixed bound, whatever is usual: 500")

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.factor is None and self.most is None:
            raise ValueError("say from how much on: by 'factor', by 'most', or by both")
        return self


class ValueBand(Band):
    """The same for the sum of a column."""

    column: str = Field(min_length=1, max_length=100, description="Name of a column of numbers in the stream's tables: price")


def _as_band(given: Any) -> Any:
    return {"factor": given} if isinstance(given, int | float) else given


_Factor = Annotated[Band, BeforeValidator(_as_band, json_schema_input_type=float | Band)]

ONE_MORE = "one more signature"
"""The stage that the brake adds."""


class Brake(Terms):
    """When a release is so far from the stream's usual ones that one more person must sign, after all others."""

    files: _Factor | None = Field(default=None, description="Documents: 3 for three times the usual, or 'factor' and 'most'")
    rows: _Factor | None = Field(default=None, description="Rows of all tables, likewise")
    value: ValueBand | None = Field(default=None, description="The sum of a column, each number whatever its sign")
    removed: float | None = Field(
        default=None, gt=0, lt=100, description="So many percent fewer documents, or rows, than the last release had: 20"
    )
    releases: int = Field(
        default=10, ge=3, le=100, description="How many delivered releases tell what is usual; at least three"
    )
    groups: tuple[Slug, ...] = Field(default=(), description="Who gives the signature; left out: the last stage's groups")

    @model_validator(mode="after")
    def _watches_something(self) -> Self:
        if all(watched is None for watched in (self.files, self.rows, self.value, self.removed)):
            raise ValueError("say what is watched: 'files', 'rows', 'value' or 'removed'")
        return self


class MostValue(Terms):
    """The most that a column of a release may come to."""

    column: str = Field(min_length=1, max_length=100, description="Name of a column of numbers in the stream's tables: price")
    most: float = Field(ge=0, description="At most so much, all tables together, each number whatever its sign: 50000")


class StandingTerms(Terms):
    """Which releases people may sign off beforehand. What is not within these bounds asks them."""

    days: int = Field(ge=1, le=366, description="For so many days at most somebody signs beforehand")
    files: int = Field(ge=1, description="At most so many documents in a release")
    size_bytes: int = Field(ge=1, description="At most so many bytes in a release, all its documents together")
    per_day: int = Field(ge=1, description="At most so many releases within 24 hours")
    doctypes: tuple[Slug, ...] = Field(
        default=(), description="Only documents of these types of the stream's 'classify'; left out: of any of them"
    )
    rows: int | None = Field(
        default=None,
        ge=1,
        description="At most so many rows in a release, all its tables together; needs the stream's 'classify'",
    )
    value: MostValue | None = Field(
        default=None, description="The most that a column may come to in a release; needs the stream's 'classify'"
    )

    @property
    def told(self) -> tuple[str, ...]:
        """The bounds of a release in words, for people."""
        bounds = [
            f"at most {self.files} documents and {self.size_bytes:,} bytes in a release",
            f"{self.per_day} releases in 24 hours",
        ]
        if self.doctypes:
            bounds.append(f"only documents of type {' or '.join(self.doctypes)}")
        if self.rows is not None:
            bounds.append(f"at most {self.rows:,} rows in a release")
        if self.value is not None:
            bounds.append(f"at most {self.value.most:,.15g} in column {self.value.column} in a release")
        return tuple(bounds)


class SignoffPolicy(Terms):
    """Who must agree, how they prove it, and until when."""

    proof: SignoffProof = Field(description="code (TOTP) or signature (SSH key over the whole statement)")
    four_eyes: FourEyes = Field(
        default=FourEyes.AS_STATED,
        description="as_stated: the requester as the order says; proven: only orders made with `countersign request`",
    )
    stages: tuple[StageTerms, ...] = Field(min_length=1, max_length=8, description="In order; each person votes once in all")
    veto: tuple[Slug, ...] = Field(
        default=(), description="Groups that may reject or ask for changes also when it is not their turn"
    )
    expires_after: Period = Field(
        default=timedelta(days=14),
        description="From the first asking; then the release ends, unsent: P7D, '8 business hours', '2 business days'",
    )
    calendar: Slug | None = Field(default=None, description="One of calendars.yaml: which time is business time")
    remind_after: Period | None = Field(
        default=None, description="From the first asking: whoever may still sign is reminded, once"
    )
    wider: WiderCircle | None = Field(default=None, description="Who may sign too, once it has waited for long")
    brake: Brake | None = Field(default=None, description="When one more person must sign, because a release is unusual")
    standing: StandingTerms | None = Field(
        default=None, description="Which releases may be signed off beforehand (`countersign standing`); left out: none"
    )

    @model_validator(mode="after")
    def _stages_differ(self) -> Self:
        names = [stage.name.casefold() for stage in (self.braked if self.brake else self).stages]
        if len(set(names)) != len(names):
            raise ValueError("two stages have the same name")
        return self

    @model_validator(mode="after")
    def _times_are_told(self) -> Self:
        earlier = {"remind_after": self.remind_after, "wider": self.wider.after if self.wider else None}
        business = [period for period in (self.expires_after, *earlier.values()) if isinstance(period, str)]
        if business and self.calendar is None:
            raise ValueError(f"{business[0]!r} is business time: add 'calendar', one of calendars.yaml")
        if self.calendar is not None and not business:
            raise ValueError("'calendar' counts for business time only, and no period here is any: '2 business days'")
        for name, period in earlier.items():
            if isinstance(period, timedelta) and isinstance(self.expires_after, timedelta) and period >= self.expires_after:
                raise ValueError(f"'{name}' comes after 'expires_after', when nobody can sign any more")
        return self

    def signers(self, stage: StageTerms, *, widened: bool) -> frozenset[str]:
        """Groups whose members may sign in a stage, before the circle is widened or after."""
        return frozenset(stage.groups).union(self.wider.groups if widened and self.wider else ())

    @property
    def braked(self) -> SignoffPolicy:
        """The same for a release that is not as usual: somebody else signs after all others."""
        if self.brake is None:
            return self
        more = StageTerms(name=ONE_MORE, groups=self.brake.groups or self.stages[-1].groups)
        return self.model_copy(update={"stages": (*self.stages, more), "brake": None})

    @property
    def groups(self) -> frozenset[str]:
        """Everybody's who may answer at all."""
        return frozenset(self.veto).union(*(self.signers(stage, widened=True) for stage in self.stages))


class RecordTerms(Target):
    """Where the record of each transmission is filed: what left, when, to whom, what the server said, and who allowed it.

    Templates know what those of ``evidence`` know; in category values ``{documents}`` and ``{digests}``, alone, give one value for
    each document.
    """

    copies: bool = Field(
        default=False,
        description="True: the documents' bytes are filed beside the record, so that they can be sent again from there. False: it "
        "names them by id and version in the repository that they were taken from",
    )
    acknowledged_by: Slug | None = Field(
        default=None,
        description="An inbound stream of this partner that brings acknowledgements. Its name pattern tells of what: a group "
        "{order}, or {document} for a document's name at the partner; a rule with the fact 'acknowledged: no' says no",
    )
    acknowledged_within: timedelta | None = Field(
        default=None,
        gt=timedelta(0),
        description="So long after its delivery an order may be unacknowledged; then a person is told",
    )
    picked_up_within: timedelta | None = Field(
        default=None,
        gt=timedelta(0),
        description="Where the partner acknowledges nothing: a document that stood there and is gone was picked up, and counts as "
        "acknowledged. So long after its delivery an order may stand there; then a person is told",
    )

    @property
    def awaited(self) -> bool:
        """What is delivered is to be acknowledged, or seen picked up."""
        return self.acknowledged_by is not None or self.picked_up_within is not None

    @model_validator(mode="after")
    def _somebody_acknowledges(self) -> Self:
        if self.acknowledged_within is not None and self.acknowledged_by is None:
            raise ValueError("'acknowledged_within': add 'acknowledged_by', the stream that brings the acknowledgements")
        if self.picked_up_within is not None and self.acknowledged_by is not None:
            raise ValueError("'picked_up_within': a partner that acknowledges tells itself; leave it out, or 'acknowledged_by'")
        return self


_CAME_LATER: Mapping[str, Mapping[str, Any]] = {
    "gather": {"review": None, "sensitive": []},
    "classify": {"facts": {}},
    "limits": {"pass_through_bytes": 64 * 1024**2},  # says nothing of what goes out: that never passes through
    "destinations": {"endpoint": None, "share": None},
    "signoff": {"wider": None, "brake": None, "standing": None},
    "signoff.standing": {"doctypes": [], "rows": None, "value": None},
    "evidence": {"workspace": None, "record_date": None, "retention": None},
    "record": {"acknowledged_within": None, "picked_up_within": None},
}
"""Keys with their defaults that came after packages had been frozen without them. Left out they mean what was agreed before they
were there, so they do not count in its digest then: what waits for its sign-offs survives an upgrade of ours."""


class Outbound(Owned):
    """One named kind of exchange that goes out. The words for checks are those of an inbound stream."""

    direction: Literal["outbound"]
    gather: Gather
    limits: Limits = Limits()
    naming: str | None = Field(default=None, description="Regular expression for the whole name; others are withheld")
    classify: tuple[Classification, ...] = Field(
        default=(), description="If given, each document must be of one of these types and pass its checks"
    )
    encoding: str = Field(default="utf-8", description="Of tables")
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    decimal: Literal[".", ","] = "."
    kits: Mapping[Slug, Kit] = Field(
        default={},
        description="Per customer, region or occasion, what belongs together; then each order names one and is void as a whole",
    )
    destinations: tuple[DestinationTerms, ...] = Field(
        min_length=1, max_length=20, description="Each gets all of a package or nothing of it"
    )
    freshness: Freshness = Field(
        description="latest: a newer version in the repository voids a waiting package; pinned: the approved version still goes"
    )
    signoff: SignoffPolicy
    preview: PreviewKind = Field(
        default=PreviewKind.FINDINGS,
        description="findings: checks and failing rows; full: also the beginning of each document, kept at Prefect while people decide",
    )
    evidence: Target = Field(description="Where the certificate is filed; {name} is its own name")
    record: RecordTerms | None = Field(
        default=None, description="Where the transmission record is filed; left out: beside the certificate, without copies"
    )

    @model_validator(mode="after")
    def _signed_beforehand_by_type(self) -> Self:
        bounds, known = self.signoff.standing, {rule.doctype for rule in self.classify}
        if bounds is not None and (lost := sorted(set(bounds.doctypes) - known)):
            raise ValueError(
                f"'standing': the stream's 'classify' makes no document a {lost[0]}: nothing would ever be within that"
            )
        if bounds is not None and (bounds.rows is not None or bounds.value is not None) and not known:
            raise ValueError("'standing': 'rows' and 'value' need 'classify': of what has no known type nobody can count all")
        return self

    @model_validator(mode="after")
    def _kits_are_whole(self) -> Self:
        for name, kit in self.kits.items():
            if kit.like is not None and (kit.like not in self.kits or self.kits[kit.like].like is not None):
                raise ValueError(f"kit '{name}': 'like' names a kit of this stream that is not itself like another one")
            if not any(slot.required for slot in self.slots(name).values()):
                raise ValueError(f"kit '{name}': no slot of it is required, so nothing would have to be in it")
        folders = [self.gather.folder or "", *(place.folder for place in self.destinations)]
        if not self.kits and any("{kit}" in folder for folder in folders):
            raise ValueError("{kit} is a fact only where the stream has 'kits'")
        return self

    def slots(self, kit: str) -> Mapping[str, Slot]:
        """What belongs into a kit; nothing for a name that is none."""
        found = self.kits.get(kit)
        if found is None:
            return {}
        return {**(self.slots(found.like) if found.like else {}), **found.slots}

    @property
    def routine(self) -> tuple[str, ...]:
        """The document types that may go by what was signed beforehand; empty where the stream knows none."""
        standing = self.signoff.standing
        named = standing.doctypes if standing and standing.doctypes else [rule.doctype for rule in self.classify]
        return tuple(sorted(set(named)))

    @property
    def recording(self) -> RecordTerms:
        """Where the transmission record is filed."""
        return self.record or RecordTerms(**dict(self.evidence))

    @property
    def agreed(self) -> dict[str, Any]:
        """As JSON values, defaults included, but for those of keys that came later: what is digested, and what certificates hold."""
        agreed = self.model_dump(mode="json")
        if self.record is None:
            del agreed["record"]
        if self.preview is PreviewKind.FINDINGS:
            del agreed["preview"]
        if not self.kits:
            del agreed["kits"]
        if self.resolve_within == DUE_WITHIN:
            del agreed["resolve_within"]
        for key, later in _CAME_LATER.items():
            told: Any = agreed
            for part in key.split("."):
                told = told.get(part, [])
            for terms in told if isinstance(told, list) else [told]:
                for name in [name for name, default in later.items() if terms[name] == default]:
                    del terms[name]
        return agreed

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical terms as they were agreed."""
        return sha256(canonical(self.agreed))


# --------------------------------------------------------------------------------------------- people

_KEY = re.compile(r"(?:ssh-ed25519|sk-ssh-ed25519@openssh\.com) ([A-Za-z0-9+/]{40,200}={0,2})(?: [^\r\n]{0,100})?")


class PublicKey(Terms):
    """A key with which a person may sign, valid from the beginning of one day to the end of another."""

    key: str = Field(max_length=400, description="One line of an Ed25519 .pub file: ssh-ed25519 AAAA... comment")
    valid_from: date | None = Field(default=None, description="First day")
    valid_until: date | None = Field(default=None, description="Last day")

    @model_validator(mode="after")
    def _is_a_key(self) -> Self:
        found = _KEY.fullmatch(self.key)
        try:
            base64.b64decode(found[1] if found else "-", validate=True)
        except binascii.Error:
            raise ValueError("'key' must be one line of an Ed25519 .pub file, as ssh-keygen -t ed25519 makes it") from None
        return self

    @cached_property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` prints it: ``SHA256:...``."""
        blob = base64.b64decode(self.key.split(" ")[1])
        return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _as_key(given: Any) -> Any:
    return {"key": given} if isinstance(given, str) else given


class Delegation(Terms):
    """Somebody signs for this person, on dated days only."""

    to: Slug = Field(description="Id of the person who signs instead")
    valid_from: date = Field(description="First day")
    valid_until: date = Field(description="Last day")

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Self:
        if self.valid_until < self.valid_from:
            raise ValueError("'valid_until' is before 'valid_from'")
        return self


class Person(Terms):
    """Somebody who may sign or ask for releases."""

    id: Slug = Field(description="Short and for ever: it is never given to another person")
    name: str = Field(min_length=1, max_length=80, description="As printed on certificates")
    mail: str = Field(description="Mail address", pattern=r"^\S+@\S+$")
    groups: tuple[Slug, ...] = Field(default=(), description="What the stages of a sign-off ask for")
    logins: tuple[str, ...] = Field(
        default=(), description="Their user names in repositories: whoever edited a document last never signs for it"
    )
    valid_from: date | None = Field(default=None, description="First day")
    valid_until: date | None = Field(default=None, description="Last day")
    keys: tuple[Annotated[PublicKey, BeforeValidator(_as_key, json_schema_input_type=str | PublicKey)], ...] = Field(
        default=(), description="Public keys for signatures: a .pub line, or 'key:' with 'valid_from:' and 'valid_until:'"
    )
    delegations: tuple[Delegation, ...] = Field(default=(), description="Who signs instead, and on which days")

    @model_validator(mode="after")
    def _not_to_oneself(self) -> Self:
        if any(delegation.to == self.id for delegation in self.delegations):
            raise ValueError("nobody delegates to themselves")
        return self

    def known_as(self, name: str | None) -> bool:
        """True if that is this person's id, login, mail address or printed name; case does not count.

        Whoever asks over the API states what they like: the more we recognise, the fewer sign for themselves by mistake.
        """
        words = {word.casefold() for word in (self.id, self.mail, self.name, *self.logins)}
        return name is not None and name.strip().casefold() in words


class PeopleFile(Terms):
    """``people.yaml``: everybody who may sign. Days in it are days of its time zone."""

    timezone: str = Field(default="UTC", description="IANA time zone in which days begin and end: Europe/Berlin")
    people: tuple[Person, ...] = Field(description="One entry per person")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        try:
            ZoneInfo(self.timezone)
        except (ValueError, OSError, LookupError):
            raise ValueError("'timezone' is no time zone of the IANA database (Europe/Berlin, UTC, ...)") from None
        names = [word.casefold() for person in self.people for word in {person.id, *person.logins}]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"these ids or logins belong to two people: {', '.join(map(shown, twice))}")
        keys = [key.fingerprint for person in self.people for key in person.keys]
        if len(set(keys)) != len(keys):
            raise ValueError("one public key is given to two people, or twice to one: each has their own")
        ids = {person.id for person in self.people}
        for person in self.people:
            for delegation in person.delegations:
                if delegation.to not in ids:
                    raise ValueError(f"{person.id} delegates to {delegation.to!r}, who is not in this file")
        return self

    def get(self, id: str | None) -> Person | None:
        return self._by_id.get(id) if id else None

    @property
    def known(self) -> set[str]:
        """Whom a case may be given to: the ids of all, and their groups."""
        return {word for person in self.people for word in (person.id, *person.groups)}

    def only(self, ids: Collection[str]) -> PeopleFile:
        """The file with nobody else in it."""
        kept = [person for person in self.people if person.id in ids]
        known = {person.id for person in kept}
        return PeopleFile(
            timezone=self.timezone,
            people=tuple(
                person.model_copy(update={"delegations": tuple(one for one in person.delegations if one.to in known)})
                for person in kept
            ),
        )

    def day(self, moment: datetime) -> date:
        """The day of a moment, where these people live."""
        return moment.astimezone(ZoneInfo(self.timezone)).date()

    @cached_property
    def _by_id(self) -> dict[str, Person]:
        return {person.id: person for person in self.people}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical file."""
        return sha256(canonical(self.model_dump(mode="json")))


def on(day: date, first: date | None, last: date | None) -> bool:
    """True on the days between first and last, both included."""
    return (first is None or first <= day) and (last is None or day <= last)


# --------------------------------------------------------------------------------------------- the package

_HEX = re.compile(r"[0-9a-f]{64}")
_ORDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(?:~[0-9a-f]{12})?")


@dataclass(frozen=True, slots=True)
class Destination:
    """A place at the partner, resolved: what approvers agree to."""

    protocol: str
    host: str
    port: int
    user: str
    path: str
    key_fingerprint: str
    """The pinned key or certificate; several sorted and joined by a blank; "" where the protocol has none."""
    shown_to: str = ""
    """In a share, who outside sees it, and for how long; "" where it is no share."""

    @property
    def facts(self) -> dict[str, Any]:
        return ({"shown_to": self.shown_to} if self.shown_to else {}) | {
            "protocol": self.protocol,
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "path": self.path,
            "key_fingerprint": self.key_fingerprint,
        }

    @property
    def shown(self) -> str:
        """For people: ``sftp://acme@sftp.example.com:22/in``."""
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        guests = f", shown to {self.shown_to}" if self.shown_to else ""
        return shown(f"{self.protocol}://{user}{self.host}{port}/{self.path.lstrip('/')}{guests}")


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One document of a package: these bytes, of this version."""

    name: bytes
    size: int
    sha256: str
    repository_id: str
    version: int
    slot: str = ""
    """Its place in the kit; "" where the package is no kit."""
    optional: bool = False
    """The kit may go without it."""

    @property
    def shown(self) -> str:
        return shown(self.name)

    @property
    def facts(self) -> dict[str, Any]:
        place = {"slot": self.slot, "optional": self.optional} if self.slot else {}
        return place | {
            "name": self.shown,
            "name_b64": name_b64(self.name),
            "size": self.size,
            "sha256": self.sha256,
            "repository_id": self.repository_id,
            "version": self.version,
        }


@dataclass(frozen=True, slots=True)
class Redelivery:
    """Why a package goes though its documents went before: the same bytes, to the same places, signed for anew."""

    order: str
    """The order that was delivered."""
    package: str
    """Digest of its package."""
    attempt: int
    """2 for the first redelivery."""
    reason: str
    by: str
    """Who asks for it, as stated."""

    @property
    def facts(self) -> dict[str, Any]:
        return {name.name: getattr(self, name.name) for name in fields(self)}


@dataclass(frozen=True, slots=True)
class Correction:
    """What a package takes the place of: documents of the same names went before, and these are newer versions, signed for anew."""

    order: str
    """The order that was delivered."""
    package: str
    """Digest of its package."""
    reason: str
    by: str
    """Who asks for it, as stated."""

    @property
    def facts(self) -> dict[str, Any]:
        return {name.name: getattr(self, name.name) for name in fields(self)}


@dataclass(frozen=True, slots=True)
class Policies:
    """What a package was frozen under, by the digests of its parts: the partner as far as the stream uses it, the people file, the
    stream's terms (``blocks.profile.policies_of``).

    A package carries the digest of all three. The parts are kept beside it, because a change of people does not void a package
    (it is asked of each vote), and a change of the other two does.
    """

    profile: str
    people: str
    terms: str

    @property
    def facts(self) -> dict[str, str]:
        return {"profile": self.profile, "people": self.people, "terms": self.terms}

    @property
    def digest(self) -> str:
        return sha256(canonical(self.facts))


@dataclass(frozen=True)
class Package:
    """The frozen set of documents and destinations that approvers look at. Its digest is what they sign.

    Raises ``ValueError`` for what is no package: no documents, no destinations, two documents of one name.
    """

    journey: str
    order: str
    partner: str
    stream: str
    policy: str
    """``Policies.digest`` when it was frozen."""
    destinations: tuple[Destination, ...]
    files: tuple[PackageFile, ...]
    version: int = 1
    redelivery: Redelivery | None = None
    """Set where it sends documents of another package once more."""
    kit: str = ""
    """Which of the stream's kits it is; "" where the stream has none."""
    corrects: Correction | None = None
    """Set where it sends newer versions of another package's documents in their place."""

    def __post_init__(self) -> None:
        if type(self.version) is not int or self.version != 1:
            raise ValueError(f"version {self.version!r} of a package is not known here; use a newer Countersign")
        if not self.files or not self.destinations:
            raise ValueError("a package has at least one document and one destination")
        if not _ORDER.fullmatch(self.order):
            raise ValueError(f"{shown(self.order[:80])!r} is no order id: letters, digits, '.', '_' and '-', at most 100")
        if not self.journey or not self.partner or not self.stream or not _HEX.fullmatch(self.policy):
            raise ValueError("a package names its journey, partner, stream and the digest of its policy")
        if len({file.name for file in self.files}) != len(self.files):
            raise ValueError("two documents of a package have the same name: the partner would get only one")
        if len(set(self.destinations)) != len(self.destinations):
            raise ValueError("a destination is in the package twice")
        if (again := self.redelivery) is not None:
            said = type(again.reason) is str and again.reason and type(again.order) is str and _ORDER.fullmatch(again.order)
            if not said or not _HEX.fullmatch(again.package) or type(again.attempt) is not int or again.attempt < 2:
                raise ValueError("a redelivery says of which order and package, why, and under which attempt from 2 on")
        slots = [file.slot for file in self.files]
        if type(self.kit) is not str or (slots != [""] * len(slots) if not self.kit else "" in slots):
            raise ValueError("the documents of a kit have a slot each, and no others have")
        if self.kit and len(set(slots)) != len(slots):
            raise ValueError("two documents are in one slot of the kit")
        if (wrong := self.corrects) is not None:
            said = type(wrong.reason) is str and wrong.reason and type(wrong.order) is str and _ORDER.fullmatch(wrong.order)
            if not said or not _HEX.fullmatch(wrong.package):
                raise ValueError("a correction says of which order and package, and why")
        for file in self.files:
            if type(file.slot) is not str or type(file.optional) is not bool:
                raise ValueError(f"{file.shown}: its slot in the kit cannot be")
            counts = all(type(number) is int and number >= 0 for number in (file.size, file.version))
            if not file.name or not counts or not _HEX.fullmatch(file.sha256):
                raise ValueError(f"{file.shown or 'a document without a name'}: size, version or digest cannot be")

    @cached_property
    def facts(self) -> dict[str, Any]:
        """As JSON values. Not to be changed."""
        again = {"redelivery": self.redelivery.facts} if self.redelivery else {}
        kit = {"kit": self.kit} if self.kit else {}
        corrects = {"corrects": self.corrects.facts} if self.corrects else {}
        return {
            **again,
            **kit,
            **corrects,
            "version": self.version,
            "journey": self.journey,
            "order": self.order,
            "partner": self.partner,
            "stream": self.stream,
            "policy": self.policy,
            "destinations": [destination.facts for destination in self.destinations],
            "files": [file.facts for file in self.files],
        }

    @cached_property
    def text(self) -> str:
        """The canonical text."""
        return canonical(self.facts)

    @cached_property
    def digest(self) -> str:
        """The package digest: SHA-256 of the canonical text, 64 hex digits."""
        return sha256(self.text)

    @property
    def digits(self) -> str:
        """What an approver types to show which package was read."""
        return self.digest[:8]

    @property
    def size(self) -> int:
        """Bytes of all documents."""
        return sum(file.size for file in self.files)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """What each document is called in forms and statements: its number and its name, ``3. prices.csv``."""
        return tuple(f"{number}. {shortened(file.shown, 120)}" for number, file in enumerate(self.files, 1))

    @property
    def choices(self) -> tuple[str, ...]:
        """Labels that may be left out; none where there are too many to choose from, or only one. A kit needs most of its own."""
        if not 1 < len(self.files) <= MOST_CHOICES:
            return ()
        return tuple(label for label, file in zip(self.labels, self.files, strict=True) if file.optional or not self.kit)

    def labelled(self, labels: Iterable[str]) -> tuple[PackageFile, ...]:
        """The documents of these labels, in the package's order. Raises ``ValueError`` for a label that is not of this package."""
        wanted = set(labels)
        if foreign := wanted - set(self.labels):
            raise ValueError(f"{shown(min(foreign)[:200])!r} is no document of package {self.digits}")
        return tuple(file for label, file in zip(self.labels, self.files, strict=True) if label in wanted)

    def kept(self, left_out: Iterable[str]) -> tuple[PackageFile, ...]:
        """What goes if these are left out."""
        out = frozenset(self.labelled(left_out))
        return tuple(file for file in self.files if file not in out) if out else self.files

    def remainder(self, left_out: Collection[str]) -> Package | None:
        """The package of what was left out, if that is to be asked about: what is left out of a kit is no kit, and stays here."""
        return self.child(left_out) if left_out and not self.kit else None

    def child(self, left_out: Iterable[str]) -> Package:
        """The package of what was left out of this one, to be asked about anew.

        Its order is the root order with ``~`` and twelve digits behind it, its journey a UUID made from this package's digest and
        the documents: asked twice, it is the same package with the same digest. Raises ``ValueError`` if nothing is left out.
        """
        files = self.labelled(left_out)
        return self._offspring(["child", self.digest, [file.facts for file in files]], files=files)

    def again(self, files: Iterable[PackageFile], attempt: int, reason: str, by: str, policies: Policies) -> Package:
        """The package that sends some of these documents once more, to where they went, under the policies of today.

        ``files`` may name other copies of the same bytes. Asked twice for one attempt, it is the same package with the same digest.
        """
        why = Redelivery(self.root_order, self.digest, attempt, reason, by)
        chosen = tuple(files)
        seed = ["again", why.facts, policies.digest, [file.facts for file in chosen]]
        return self._offspring(seed, files=chosen, policy=policies.digest, redelivery=why)

    def _offspring(self, seed_of: list[Any], **changes: Any) -> Package:
        seed = sha256(canonical(seed_of))
        # RFC 9562, version 8: the bits are our own hash.
        journey = f"{seed[:8]}-{seed[8:12]}-8{seed[13:16]}-{'89ab'[int(seed[16], 16) % 4]}{seed[17:20]}-{seed[20:32]}"
        return replace(self, journey=journey, order=f"{self.root_order}~{seed[:12]}", **changes)

    @property
    def root_order(self) -> str:
        """The order that somebody made; that of a remainder or a redelivery has a suffix."""
        return self.order.partition("~")[0]

    @classmethod
    def parse(cls, text: str) -> Package:
        """The package of a canonical text. Raises ``ValueError`` for any other text, also for one that only means the same."""
        return _parsed(text)


@lru_cache(8)  # a release asks for its package dozens of times, and one of 2,000 documents takes 30 ms to read
def _parsed(text: str) -> Package:
    try:
        facts = json.loads(text)
        package = Package(
            version=facts["version"],
            journey=facts["journey"],
            order=facts["order"],
            partner=facts["partner"],
            stream=facts["stream"],
            policy=facts["policy"],
            destinations=tuple(Destination(**told) for told in facts["destinations"]),
            files=tuple(_file(told) for told in facts["files"]),
            redelivery=Redelivery(**facts["redelivery"]) if "redelivery" in facts else None,
            kit=facts.get("kit", ""),
            corrects=Correction(**facts["corrects"]) if "corrects" in facts else None,
        )
        same = package.text == text
    except (KeyError, TypeError, AttributeError, RecursionError, binascii.Error, ValueError) as error:
        raise ValueError(f"this is no package: {shown(str(error)[:200])}") from error
    if not same:
        raise ValueError("this is no package: its text is not canonical, or holds more than a package does")
    return package


def _file(told: Mapping[str, Any]) -> PackageFile:
    name = base64.b64decode(told["name_b64"], validate=True)
    place = (told.get("slot", ""), told.get("optional", False))
    return PackageFile(name, told["size"], told["sha256"], told["repository_id"], told["version"], *place)


def shortened(text: str, most: int) -> str:
    """The text with its middle left out if it is long: the end of a name says what it is."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


# --------------------------------------------------------------------------------------------- asking and answering


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asked for a release. Without a proof it is as stated."""

    id: str
    proof: SignoffProof | None = None

    @property
    def proven(self) -> bool:
        return self.proof is not None

    @property
    def in_words(self) -> str:
        return f"proven by {self.proof.value}" if self.proof else "as stated, not proven"


@dataclass(frozen=True, slots=True)
class Request:
    """An order as its requester asks for it, to be proven.

    Raises ``ValueError`` for what can be no order, or is the remainder of one.
    """

    partner: str
    stream: str
    order: str
    ids: tuple[str, ...]
    """The documents, where the stream takes them from the order."""
    requester: str
    kit: str = ""
    """Which of the stream's kits, where it has any."""

    def __post_init__(self) -> None:
        if not _ORDER.fullmatch(self.order) or "~" in self.order:
            raise ValueError(f"{shown(self.order[:80])!r} is no order id: letters, digits, '.', '_' and '-', at most 100")

    def statement(self, time: datetime) -> str:
        """The canonical text that a signature covers; its namespace is ``REQUEST_NAMESPACE``. ``time`` is by the signer's clock."""
        facts = {
            "version": 1,
            "partner": self.partner,
            "stream": self.stream,
            "order": self.order,
            "ids": list(self.ids),
            "requester": self.requester,
            "time": iso(time.replace(microsecond=0)),
        }
        return canonical(facts | ({"kit": self.kit} if self.kit else {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """An order whose requester is proven. The sender seals its text."""

    partner: str
    stream: str
    order: str
    ids: tuple[str, ...]
    requester: str
    at: datetime
    """When it was proven, by the sender's clock."""
    proof: SignoffProof
    key: str = ""
    """The public key that made the signature; "" for a code."""
    signature: str = ""
    """Over ``Request.statement``: the body of its armour in one line; "" for a code."""
    signed_at: datetime | None = None
    kit: str = ""
    """Which of the stream's kits, where it has any."""
    seal: str = ""
    """The sender's signature over ``text``, in base64; "" until sealed."""

    @property
    def asked(self) -> Request:
        return Request(self.partner, self.stream, self.order, self.ids, self.requester, self.kit)

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON values, the seal included."""
        told: dict[str, Any] = {name.name: getattr(self, name.name) for name in fields(self)}
        told |= {"at": iso(self.at), "signed_at": iso(self.signed_at) if self.signed_at else None}
        if not self.kit:
            del told["kit"]  # as it was sealed before there were kits
        return told | {"kind": "countersign request", "ids": list(self.ids), "proof": self.proof.value}

    @property
    def text(self) -> str:
        """The canonical text that is sealed: everything but the seal."""
        return canonical({key: value for key, value in self.facts.items() if key != "seal"})

    @classmethod
    def parse(cls, facts: Mapping[str, Any]) -> Requested:
        """The request of its facts. Raises ``ValueError`` for anything else."""
        try:
            asked: Requested = _REQUESTED.validate_json(canonical({k: v for k, v in facts.items() if k != "kind"}))
            same = canonical(asked.facts) == canonical(facts)
        except (ValidationError, AttributeError, ValueError) as error:
            raise ValueError(f"this is no request: {shown(str(error)[:300])}") from error
        if not same:
            raise ValueError("this is no request: it holds more or other than a request does")
        return asked


_REQUESTED = TypeAdapter(Requested)


@dataclass(frozen=True, slots=True)
class Matter:
    """What is to be decided, and what stands around it."""

    package: Package
    run: str
    """The flow run that asks."""
    requester: Requester | None
    """None: a schedule or an event asked."""
    editors: frozenset[str] = frozenset()
    """Who edited each document last: ids, or logins as the repository names them."""
    deadline: datetime | None = None
    """After it nobody may sign any more."""
    widens: datetime | None = None
    """From then on the wider circle may sign too."""
    brake: tuple[str, ...] = ()
    """Why one more person must sign, as the sender found it; empty: it is as usual."""
    outside: tuple[str, ...] = ()
    """Why what people have signed beforehand is not good for it, as the sender found it; empty: it is, or nobody has."""

    def widened(self, at: datetime) -> bool:
        """True if the wider circle may sign at that moment."""
        return self.widens is not None and at >= self.widens


@dataclass(frozen=True, slots=True)
class Round:
    """One asking. Written to the ledger before the run is suspended."""

    n: int
    key: str
    run: str
    digest: str
    """Of the package."""


class Decision(StrEnum):
    APPROVE = "approve"
    APPROVE_BUT = "approve all but the listed"
    REJECT = "reject"
    CHANGES = "request changes"

    @property
    def approves(self) -> bool:
        return self in (Decision.APPROVE, Decision.APPROVE_BUT)


class Meaning(StrEnum):
    """What a signature means to its signer."""

    AUTHORSHIP = "authorship"
    REVIEW = "review"
    APPROVAL = "approval"
    RELEASE = "release"


@dataclass(frozen=True, slots=True, order=True)
class Seat:
    """Who signs, and for whom. In the form: ``bea``, or ``bea for ann``."""

    approver: str
    on_behalf_of: str | None = None

    @property
    def text(self) -> str:
        return f"{self.approver} for {self.on_behalf_of}" if self.on_behalf_of else self.approver

    @property
    def principal(self) -> str:
        """Whose vote it is."""
        return self.on_behalf_of or self.approver

    @classmethod
    def parse(cls, text: str) -> Seat:
        """Of anything: whoever is not there is found out later."""
        approver, _, principal = text.partition(" for ")
        return cls(approver, principal or None)


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody filled in, in shape and within bounds; not yet judged."""

    decision: Decision
    seat: Seat
    meaning: Meaning
    digits: str
    """What was typed from the package digest."""
    proof: str = field(repr=False)
    left_out: tuple[str, ...] = ()
    """Labels as listed: maybe foreign, maybe twice."""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an answer does not count. Its first line opens the next asking."""

    code: str
    """Stable, kebab-case, for the ledger and programs."""
    first_line: str
    """For the approver; holds no text from outside."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What a signature covers."""

    package: str
    destinations: tuple[Destination, ...]
    run: str
    round: int
    decision: Decision
    meaning: Meaning
    left_out: tuple[str, ...]
    """Labels, sorted."""
    approver: str
    on_behalf_of: str | None
    time: datetime
    """When it was signed, by the signer's clock; whole seconds."""

    @property
    def text(self) -> str:
        """The canonical text, to the byte what ``ssh-keygen -Y sign`` is given."""
        facts = {
            "version": 1,
            "package": self.package,
            "destinations": [destination.facts for destination in self.destinations],
            "run": self.run,
            "round": self.round,
            "decision": self.decision.value,
            "meaning": self.meaning.value,
            "left_out": list(self.left_out),
            "approver": self.approver,
            "on_behalf_of": self.on_behalf_of,
            "time": iso(self.time),
        }
        return canonical(facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingSignoff:
    """What somebody signs beforehand: whatever goes out on a stream under these very terms, until a moment. It is no vote yet."""

    partner: str
    stream: str
    profile: str
    """Digest of what the stream uses of the partner's profile, as in ``Policies``."""
    terms: str
    """Digest of the stream's terms, with the bounds."""
    approver: str
    until: datetime
    time: datetime
    """When it was signed, by the signer's clock."""

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON values."""
        told: dict[str, Any] = {name.name: getattr(self, name.name) for name in fields(self)}
        return told | {"until": iso(self.until), "time": iso(self.time)}

    @property
    def text(self) -> str:
        """The canonical text that the signature covers."""
        return canonical({"kind": "countersign standing sign-off", **self.facts})

    @property
    def id(self) -> str:
        """SHA-256 of the text."""
        return sha256(self.text)

    @classmethod
    def parse(cls, text: str) -> StandingSignoff:
        """Back from the JSON of its facts. Raises ``ValueError``."""
        return _STANDING.validate_json(text)


_STANDING = TypeAdapter(StandingSignoff)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingEnd:
    """What somebody signs to end what they have signed beforehand."""

    partner: str
    stream: str
    approver: str
    ends: tuple[str, ...]
    """Ids of what they signed, sorted."""
    time: datetime
    """When it was signed, by the signer's clock."""

    @property
    def text(self) -> str:
        """The canonical text that the signature covers, in the namespace of what it ends."""
        told: dict[str, Any] = {name.name: getattr(self, name.name) for name in fields(self)}
        told |= {"ends": list(self.ends), "time": iso(self.time)}
        return canonical({"kind": "countersign end of standing sign-offs", **told})


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """What the sender found in a release's bytes, where the bounds of what was signed beforehand ask for it."""

    doctypes: tuple[str, ...] = ()
    """The types of its documents, sorted; empty where the stream knows none."""
    rows: int | None = None
    """Of all its tables."""
    value: float | None = None
    """The sum of the agreed column, each number by its size whatever its sign."""

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON values."""
        return {"doctypes": list(self.doctypes), "rows": self.rows, "value": self.value}


BEFOREHAND = "beforehand, has not seen these documents"
"""Said wherever a vote is told that was signed beforehand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedVote:
    """A vote that every rule admits; only its proof is still the sender's to say."""

    package: str
    run: str
    round: int
    approver: str
    on_behalf_of: str | None
    stage: int | None
    """Number of the stage it counts in, from 0; None for a veto out of turn."""
    decision: Decision
    meaning: Meaning
    left_out: tuple[str, ...]
    """Labels, in the package's order."""
    comment: str
    at: datetime
    """When the run left Paused, by the server's clock."""
    shown: str
    """SHA-256 of the text that the form showed."""

    @property
    def seat(self) -> Seat:
        return Seat(self.approver, self.on_behalf_of)

    def proven(self, proof: SignoffProof, *, key: str = "", signature: str = "", signed_at: datetime | None = None) -> Vote:
        """This vote with its proof, not yet sealed."""
        told = {name.name: getattr(self, name.name) for name in fields(ProposedVote)}
        return Vote(**told, proof=proof, key=key, signature=signature, signed_at=signed_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote(ProposedVote):
    """An approver's recorded, proven answer. The sender seals its text."""

    proof: SignoffProof
    key: str = ""
    """The public key that made the signature, ``ssh-ed25519 AAAA...``; "" for a code."""
    signature: str = ""
    """SSH signature over ``statement(...)``: the body of its armour in one line; "" for a code."""
    signed_at: datetime | None = None
    """The statement's time; None for a code."""
    seal: str = ""
    """The sender's signature over ``text``, in base64; "" until sealed."""
    standing: StandingSignoff | None = None
    """What was signed beforehand, if that is what the signature covers; None: it covers ``statement(...)``."""
    extent: Extent | None = None
    """Of the package, where it was signed beforehand: that it lies within the bounds, the sender found."""

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON values, the seal included."""
        told: dict[str, Any] = {name.name: getattr(self, name.name) for name in fields(self)}
        # Only where it is so: votes that were sealed before this could be said stay as they are.
        for name, later in (("standing", self.standing), ("extent", self.extent)):
            if later is None:
                del told[name]
            else:
                told[name] = later.facts
        told |= {"at": iso(self.at), "signed_at": iso(self.signed_at) if self.signed_at else None}
        return told | {
            "decision": self.decision.value,
            "meaning": self.meaning.value,
            "proof": self.proof.value,
            "left_out": list(self.left_out),
        }

    @property
    def text(self) -> str:
        """The canonical text that is sealed: everything but the seal."""
        return canonical({key: value for key, value in self.facts.items() if key != "seal"})

    def covered(self, destinations: tuple[Destination, ...]) -> tuple[str, str] | None:
        """The text that the signature covers, and its namespace; None for a vote by code."""
        if self.standing is not None:
            return self.standing.text, STANDING_NAMESPACE
        statement = self.statement(destinations)
        return (statement.text, NAMESPACE) if statement else None

    def statement(self, destinations: tuple[Destination, ...]) -> Statement | None:
        """What an approver's answer says; None for a vote that no signature covers, and for one that was given beforehand."""
        if self.signed_at is None or self.standing is not None:
            return None
        return Statement(
            package=self.package,
            destinations=destinations,
            run=self.run,
            round=self.round,
            decision=self.decision,
            meaning=self.meaning,
            left_out=tuple(sorted(self.left_out)),
            approver=self.approver,
            on_behalf_of=self.on_behalf_of,
            time=self.signed_at,
        )

    @classmethod
    def parse(cls, facts: object) -> Vote:
        """The vote of its facts. Raises ``ValueError`` for anything else."""
        try:
            told = json.dumps(facts)
            vote = _VOTE.validate_json(told)
            same = canonical(vote.facts) == canonical(facts)
        except (ValidationError, TypeError, RecursionError, ValueError) as error:
            raise ValueError(f"this is no vote: {shown(str(error)[:300])}") from error
        if not same:
            raise ValueError("this is no vote: it holds more or other than a vote does")
        return vote


_VOTE = TypeAdapter(Vote)


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody answered for a delivery of which no server tells us any more."""

    by: str
    """Their account where the sender runs, as its system tells it: ``olga (user id 1002)``."""
    comment: str
    at: datetime

    @property
    def facts(self) -> dict[str, str]:
        return {"by": self.by, "comment": self.comment, "at": iso(self.at)}

    @classmethod
    def parse(cls, facts: Mapping[str, str] | None) -> Said | None:
        return cls(facts["by"], facts["comment"], datetime.fromisoformat(facts["at"])) if facts else None


class Delivered(NamedTuple):
    """One document at one destination: what was approved, read, sent and found there afterwards. There are thousands: a tuple."""

    destination: int
    """Its place in the package's destinations, from 0."""
    name: bytes
    """Its name there."""
    source: bytes
    """Its name in the package."""
    approved: str
    """The SHA-256 that was signed; so the next ones, of what the sender read and what it sent."""
    read: str
    sent: str
    proof: Proof
    proven: str | None
    """The SHA-256 of the bytes read back or told by the server; None where there is none."""
    at: datetime
    collected: bool = False
    """It was gone when we looked: the partner had it already, or somebody removed it."""
    said: Said | None = None
    """Who says that it arrived, where nothing else does."""
    server: str = ""
    """The fingerprint that the partner's server showed then; "" where the protocol has none, or nobody knows."""
    replies: tuple[str, ...] = ()
    """What it answered, in its own words: ``STOR: 226 Transfer complete``."""


# --------------------------------------------------------------------------------------------- the sender's record


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer that the sender has judged."""

    run: str
    round: str
    """The round's key."""
    package: str
    voter: str
    """Whose vote it is; "" if it was refused."""
    refusal: str
    """Why it was refused; "" if it is a vote."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that the sender would not do."""

    id: str
    uid: int
    """Who asked, as the kernel says."""
    asked: str
    """What for: /send, /judge, /unlock, ...; "connect" if the caller was not listened to."""
    about: str
    """The round's key or the package's digest; "" if it was about neither."""
    reason: str
    since: datetime
    """When first, by the sender's clock."""
    times: int
    """How often."""


@dataclass(frozen=True, slots=True)
class Stood:
    """A vote that was given by what somebody had signed beforehand."""

    package: str
    partner: str
    stream: str
    order: str
    voter: str


@dataclass(frozen=True, slots=True)
class HeldStanding:
    """What somebody signed beforehand, as the sender holds it."""

    signed: StandingSignoff
    ended: str
    """When it was ended, and by whom; "" if it was not."""
    used: int
    """For how many releases it gave a vote."""


@dataclass(frozen=True, slots=True)
class StandingBook:
    """What the sender holds about a stream."""

    held: tuple[HeldStanding, ...]
    """Everything that was ever signed beforehand, the oldest first."""
    today: int
    """How many releases of the last 24 hours went by it, or wait to."""


class DeedKind(StrEnum):
    """What is done about sign-offs that are given beforehand."""

    SIGNED = "signed"
    REFUSED = "refused"  # somebody wanted to sign, and it does not count
    ENDED = "ended"  # by who had signed
    REVOKED = "revoked"  # by operations
    USED = "used"  # a release has got a vote by it


@dataclass(frozen=True, slots=True)
class Deed:
    """One of these, by the sender's own account."""

    id: str
    kind: DeedKind
    partner: str
    stream: str
    approver: str
    """Whose; "" where nobody was known."""
    at: datetime
    """By the sender's clock."""
    facts: Mapping[str, Any]
    """What was signed, with key and signature; or what was ended, by whom; or the release; or why it was refused."""

    @property
    def told(self) -> dict[str, Any]:
        """As JSON values."""
        return {name.name: getattr(self, name.name) for name in fields(self)} | {"kind": self.kind.value, "at": iso(self.at)}

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> Deed:
        return cls(**{**told, "kind": DeedKind(told["kind"]), "at": datetime.fromisoformat(told["at"])})


@dataclass(frozen=True, slots=True)
class Record:
    """What was lately asked of the sender, by its own account. It holds no secret."""

    judged: tuple[Judged, ...]
    refused: tuple[Refused, ...]
    stood: tuple[Stood, ...] = ()
    sent: tuple[str, ...] = ()
    """Digests of the packages that left, or were about to."""
