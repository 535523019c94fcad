"""The frozen values that travel between flows, tasks, rules and blocks. No Prefect, no I/O.

::

    a partner's server                 us                                      a repository
    RemoteFile ── sighted as ─▶ Arrival ─ fetched ─▶ Document ─ judged ─▶ Verdict (Findings)
                                                        │                     │ accepted        refused
                                                        └── planned as ─▶ Filing ─▶ Filed    Quarantined

What was agreed with a partner (streams, rules, targets) is below as pydantic models, because it is parsed at the door.
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from blocks.systems.templates import Template

# --------------------------------------------------------------------------------------------- names from outside


def shown(name: bytes | str) -> str:
    """A partner's name made safe to show: every byte that is not plain printable text is escaped, reversibly.

    >>> shown(b"a\\nb"), shown("invoice\\u202efdp.exe"), shown(b"M\\xfcller.csv")
    ('a\\\\x0ab', 'invoice\\\\u202efdp.exe', 'M\\\\xfcller.csv')
    """
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    out = []
    for char in text:
        code = ord(char)
        if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
            out.append(f"\\x{code - 0xDC00:02x}")
        elif char == "\\":
            out.append("\\\\")
        elif unicodedata.category(char)[0] in "CZ" and char != " ":  # controls, bidi marks, odd blanks
            # From 0x80 on, \x is for bytes that are not UTF-8.
            out.append(f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
        else:
            out.append(char)
    return "".join(out)


def name_b64(name: bytes) -> str:
    """The exact bytes of a name, for JSON."""
    return binascii.b2a_base64(name, newline=False).decode("ascii")


# --------------------------------------------------------------------------------------------- at an endpoint


class FileKind(StrEnum):
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as its server lists it. Name, size and time are claims, not facts."""

    folder: str
    """Where we looked, as the profile spells it."""
    name: bytes
    """The exact bytes of the last path segment."""
    size: int
    modified: datetime | None
    """UTC, as precise as the server tells; None where it does not."""
    kind: FileKind = FileKind.FILE

    @property
    def shown(self) -> str:
        return shown(self.name)


class Outcome(StrEnum):
    """What became of one file in a call that carries many."""

    DONE = "done"
    VANISHED = "vanished"  # it was listed, and is not there now
    CHANGED = "changed"  # size or time differ from what we were told: left alone
    EXISTS = "exists"  # the wanted name is taken: nothing was overwritten
    REFUSED = "refused"  # the server does not let us
    NOT_A_FILE = "not a file"
    ILLEGAL_NAME = "illegal name"  # a name that no honest listing contains: never used in a path
    UNKNOWN = "unknown"  # the answer was lost and looking did not tell


@dataclass(frozen=True, slots=True)
class Fetched:
    """One file whose bytes are in the spool batch: complete, counted and hashed."""

    file: RemoteFile
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Missed:
    """One file that a call could not carry, and why. The others in the call are not affected."""

    file: RemoteFile
    outcome: Outcome
    reason: str


class Proof(StrEnum):
    """How we know that a placed file holds our bytes, strongest first."""

    READ_BACK = "read back"
    SERVER_HASH = "server hash"
    SIZE_ONLY = "size only"
    UNVERIFIABLE = "sent, unverifiable"
    TOLD = "told by a person"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A file to place at an endpoint."""

    source: Path
    name: bytes
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Placed:
    """A file that stands under its final name at an endpoint, and how we know."""

    file: RemoteFile
    digest: str
    proof: Proof
    replies: tuple[str, ...] = ()
    """What the server answered to upload and rename, in its own words, made safe to show: ``STOR: 226 Transfer complete``."""


@dataclass(frozen=True, slots=True)
class Move:
    """Rename ``file`` to ``name`` in ``folder``, if it still is what we saw."""

    file: RemoteFile
    folder: str
    name: bytes


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of one rename or removal."""

    file: RemoteFile
    outcome: Outcome
    reason: str = ""
    replies: tuple[str, ...] = ()
    """As in ``Placed``."""


class Exists(StrEnum):
    """What to do when a wanted name is taken."""

    REFUSE = "refuse"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class Unread:
    """Lines of a server's listing that nobody could read. They became no files; a person should look at them."""

    count: int = 0
    examples: tuple[str, ...] = ()
    """The first of them, made safe to show."""


@dataclass(frozen=True, slots=True)
class EndpointCapabilities:
    """What a server can do, found out when connecting. Data, so that code asks instead of knowing brands."""

    server: str
    """The server's own words about itself, made safe to show."""
    fingerprint: str | None = None
    """Of the host key or certificate in use."""
    rename_replaces: bool = False
    """An atomic rename over an existing name is offered."""
    hashes: tuple[str, ...] = ()
    resume: bool = True
    read_bytes: int = 32768
    write_bytes: int = 32768


class CaseRule(StrEnum):
    """What a server makes of upper and lower case in names."""

    TOLD_APART = "told apart"
    NOT_TOLD_APART = "not told apart"  # a.csv and A.CSV are one file
    CHANGED = "changed"  # a name is listed in another case than it was given


@dataclass(frozen=True, slots=True)
class Personality:
    """How a server behaves, as far as anybody has found out. None: not known (yet).

    The last five cannot be told without writing at the partner: they are tried when somebody asks for it (``probe``). What is said
    of renames may also be learned from one that was needed anyway.
    """

    server: str | None = None
    """What it calls itself, without what is another at every visit (times, counts of users)."""
    offers: tuple[str, ...] | None = None
    """What it says it can do: the features of FTP, the extensions of SFTP."""
    protection: str | None = None
    """``TLSv1.3``, ``SSH 2.0``; "none" where anybody on the way may read."""
    tls_reuse: bool | None = None
    """Data connections went on with the TLS session of the control connection."""
    listing: str | None = None
    """How it lists a folder: ``MLSD``, ``LIST -a``, ``LIST``, ``NLST``, ``SFTP``, ``folder``."""
    list_form: str | None = None
    """Whose lines its LIST writes: ``Unix`` or ``DOS``."""
    hashes: tuple[str, ...] | None = None
    """Digests of files that it tells, in the order in which we ask for them."""
    resumes: bool | None = None
    """A download may begin in the middle (REST)."""
    tells_times: bool | None = None
    """The exact time of a file can be had (MDTM, MLSD, SFTP)."""
    extended_passive: bool | None = None
    """EPSV is understood."""
    one_by_one: bool | None = None
    """True: it loses questions that come before it has answered the last one."""
    read_bytes: int | None = None
    write_bytes: int | None = None
    """Most bytes in one request, where the protocol has requests."""
    renames: bool | None = None
    """It lets us give a file that we uploaded another name."""
    rename_replaces: bool | None = None
    """A rename over an existing file replaces it in one step; False: it refuses, and for a moment nothing stands there."""
    case_rule: CaseRule | None = None
    longest_name: int | None = None
    """Bytes in the longest name that it keeps; longer ones than 255 are not tried."""
    clock_seconds: int | None = None
    """How far the times that it gives to new files are ahead of our clock."""

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON values, for ledger and wire; what is not known is left out."""
        return {trait: value for trait, value in asdict(self).items() if value is not None}

    @classmethod
    def parse(cls, facts: Mapping[str, Any]) -> Personality:
        """Back from ``facts``. What another version of ours wrote, and this one does not know, is left out."""
        told = {trait.name: facts[trait.name] for trait in fields(cls) if facts.get(trait.name) is not None}
        told |= {trait: tuple(told[trait]) for trait in ("offers", "hashes") if trait in told}
        if "case_rule" in told:
            rule = told.pop("case_rule")
            with suppress(ValueError):
                told["case_rule"] = CaseRule(rule)
        return cls(**told)


# --------------------------------------------------------------------------------------------- arrivals and documents


class Stage(StrEnum):
    """How far an arrival's journey has come. The ledger knows; this is its index."""

    SIGHTED = "sighted"  # listed, perhaps still being written; not yet a journey
    CLAIMED = "claimed"
    FETCHED = "fetched"
    JUDGED = "judged"
    FILED = "filed"
    DUPLICATE = "duplicate"
    MARKER = "marker"  # an empty file that, as agreed, only says something: there is nothing to file
    QUARANTINED = "quarantined"
    LEFT = "left"  # settled for us, and the original still stands at the partner: watched, not worked on
    CLEARED = "cleared"  # closed: the original was cleared or seen absent


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file seen at an endpoint that is ours to work on, under a journey of its own."""

    journey: str
    partner: str
    stream: str
    file: RemoteFile
    first_seen: datetime
    stage: Stage = Stage.CLAIMED
    digest: str | None = None
    """Set from the stage FETCHED on."""


@dataclass(frozen=True, slots=True)
class Document:
    """An arrival's bytes in the spool."""

    journey: str
    name: bytes
    size: int
    digest: str
    path: Path
    sniffed: str = ""
    """Media type told by the bytes, not by the name; "" until looked at."""

    @property
    def shown(self) -> str:
        return shown(self.name)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What our looks at one file so far have told. Times are the database's, not the server's."""

    journey: str
    file: RemoteFile
    stage: Stage
    first_seen: datetime
    unchanged_since: datetime
    """When we first saw the size and time it has now."""
    last_seen: datetime
    looks: int
    """How often size and time were seen equal, this look included."""
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that a look found and left alone, and that a person should know of. It stops nothing."""

    code: str
    """Stable: ``illegal-name``, ``not-a-file``, ``abandoned-upload``, ``twin-names``, ``unread-lines``, ``folder-emptied``."""
    key: str
    """What makes it one: the same key is told once."""
    message: str
    """What was found, in a sentence. Partner text in it went through ``shown``."""
    name: bytes = b""

    @property
    def file(self) -> str:
        return shown(self.name[:300])


class Severity(StrEnum):
    ERROR = "error"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong (or worth a note) in one document, so that its sender can mend it."""

    code: str
    """Stable, kebab-case, for people and programs: ``wrong-type``, ``illegal-name``."""
    message: str
    """What is wrong, in a sentence. Partner text in it went through ``shown``."""
    file: str = ""
    row: int | None = None
    """Line record in the file, the header being row 1."""
    column: str | None = None
    value: str | None = None
    rule: str = ""
    fix: str = ""
    severity: Severity = Severity.ERROR


@dataclass(frozen=True, slots=True)
class Verdict:
    """All findings about one document, merged."""

    journey: str
    doctype: str | None
    findings: tuple[Finding, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    """What was learned from name and content (``invoice_number``, ``rows``, ``sku_count``): usable in targets."""

    @property
    def accepted(self) -> bool:
        return self.doctype is not None and all(finding.severity is not Severity.ERROR for finding in self.findings)

    @property
    def reason(self) -> str:
        """The first error's code, message and rule; "" when accepted."""
        for finding in self.findings:
            if finding.severity is Severity.ERROR:
                return f"{finding.code}: {finding.message}" + (f" Rule: {finding.rule}" if finding.rule else "")
        return "" if self.accepted else "unrecognised: no document type of this stream fits"


# --------------------------------------------------------------------------------------------- in a repository


class Right(StrEnum):
    """What a grant allows; each includes the ones before it."""

    SEE = "see"
    READ = "read"
    EDIT = "edit"
    DELETE = "delete"
    FULL = "full"


class Terms(BaseModel):
    """Something agreed: frozen, and a typo in it is loud."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Grant(Terms):
    """Access for one user or group."""

    who: str = Field(description="Login of a user or name of a group in the repository")
    right: Right = Field(default=Right.READ, description="see, read, edit, delete or full; each includes the ones before")


class Collision(StrEnum):
    """What to do when a repository already holds a document of that name in that folder."""

    NEW_VERSION = "new version"
    REFUSE = "refuse"
    KEEP_BOTH = "keep both"  # ours gets a short suffix from its digest


@dataclass(frozen=True, slots=True)
class BusinessObject:
    """What a workspace is about, in the words of the system that leads it: ``ERP``, ``CONTRACT``, ``4711``."""

    system: str
    type: str
    id: str

    @property
    def shown(self) -> str:
        return shown(f"{self.type} {self.id} of {self.system}")


@dataclass(frozen=True, slots=True)
class InWorkspace:
    """The workspace that a filing belongs to."""

    about: BusinessObject
    name: str
    """How it is called if it has to be made."""
    template: str | None = None
    """From which it is made if there is none: ``Type/Template``. None: it must be there."""
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of a role -> logins or groups that get it when the workspace is made."""
    below: BusinessObject | None = None
    """Whose workspace must have this one as a child; a new one becomes its child. None: it may be anybody's."""

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON values, for the ledger."""
        about = self.about
        object: dict[str, Any] = {"system": about.system, "type": about.type, "id": about.id}
        if self.below is not None:
            object["below"] = {"system": self.below.system, "type": self.below.type, "id": self.below.id}
        return {
            **object,
            "name": self.name,
            "template": self.template,
            "roles": {n: list(who) for n, who in self.roles.items()},
        }

    @classmethod
    def parse(cls, facts: Mapping[str, Any]) -> InWorkspace:
        """Back from ``facts``."""
        about = BusinessObject(facts["system"], facts["type"], facts["id"])
        below = BusinessObject(**facts["below"]) if facts.get("below") else None
        return cls(about, facts["name"], facts["template"], {name: tuple(who) for name, who in facts["roles"].items()}, below)


@dataclass(frozen=True, slots=True)
class Filing:
    """What a repository is asked to keep."""

    journey: str
    """Becomes the node's external identity: how a lost answer is settled by looking."""
    name: str
    folder: tuple[str, ...]
    """Path below the repository's root; missing folders are created."""
    path: Path
    digest: str
    size: int
    media_type: str
    categories: Mapping[str, Mapping[str, str | tuple[str, ...]]] = field(default_factory=dict)
    """Category name -> attribute name -> value or values."""
    records_class: str | None = None
    record_date: date | None = None
    """The day from which retention counts."""
    keep_until: date | None = None
    """The last day on which it must be kept, by what was agreed; None where only ``schedule`` tells, or nothing was agreed."""
    schedule: str | None = None
    """The repository's own retention schedule (RSI) for it."""
    access: tuple[Grant, ...] = ()
    """Empty: inherited from the folder. Else exactly these get at it, nobody besides them. A repository that gives people folders and
    not documents has exactly these get at the folder."""
    modified: datetime | None = None
    collision: Collision = Collision.NEW_VERSION
    workspace: InWorkspace | None = None
    """Where ``folder`` begins; None: at the repository's root."""
    document: str | None = None
    """Id of the document that gets this as its new version, wherever it is and whatever it is called; None: folder and name tell."""
    sent: str = ""
    """Who sent which bytes when, in words: for people who read the repository's history of versions. At most 255 characters."""


@dataclass(frozen=True, slots=True)
class FolderTree:
    """A workspace as a tree of folders, with who gets at which of them."""

    journey: str
    """Becomes the folders' identity: how a lost answer is settled by looking."""
    folder: tuple[str, ...]
    """Path below the repository's root in which it stands; missing folders are created."""
    name: str
    access: Mapping[tuple[str, ...], tuple[Grant, ...]]
    """Path below the workspace (``()``: itself) -> who gets at that folder, besides those who get at what it is in. Each folder of a
    path is a path itself."""

    def __post_init__(self) -> None:
        lost = [path for path in self.access if path and path[:-1] not in self.access]
        if () not in self.access or lost:
            raise ValueError(f"folders in none: {lost or 'the workspace itself'}")

    def paths(self) -> list[tuple[str, ...]]:
        """All folders, each after the one that it is in."""
        return sorted(self.access, key=lambda path: (len(path), path))

    def line(self, path: tuple[str, ...]) -> list[tuple[Grant, ...]]:
        """What is granted on a folder and on all that it is in, from the workspace down."""
        return [self.access[path[:depth]] for depth in range(len(path) + 1)]


@dataclass(frozen=True, slots=True)
class Filed:
    """A filing that the repository holds completely: content, values, classification, access."""

    journey: str
    id: str
    version: int
    name: str
    folder: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotFiled:
    """A filing that the repository will not take as it is. Nothing of it was left behind."""

    journey: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A document or folder as a repository describes it."""

    id: str
    name: str
    container: bool
    size: int
    version: int
    media_type: str
    modified: datetime | None
    identity: str | None = None
    """The journey that filed it, if one of ours did."""
    categories: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Described:
    """A document as a catalogue may tell of it: what is known about it, and nothing that is in it."""

    kept: Kept
    path: tuple[str, ...]
    """Names of the folders between the one that was asked for and it."""
    folders: tuple[str, ...]
    """Ids of the folders around it, beginning with the one that was asked for."""
    readers: frozenset[str]
    """Who may see it, as far as we may know: ``user:ann@example.com``, ``group:Marketing``."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold that a document is under: while there is one, no copy of it may be deleted, whatever its retention says."""

    name: str
    since: datetime | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One line of a repository's own audit trail."""

    at: datetime
    event: str
    user: str
    id: str = ""
    """The same as a change's, where the repository tells both."""
    detail: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happened in a folder of a repository, or below it."""

    id: str
    """Where to go on: what came later is told by asking for what happened since this."""
    event: str
    """The repository's own word: ``Create``, ``Share``, ..."""
    target: str
    """The id of the document or folder that it happened to."""
    actor: str
    at: datetime | None
    kind: str = ""
    """``document`` or ``folder``."""
    name: str = ""
    """Of what it happened to, as it was then."""
    detail: str = ""
    """The repository's own words: which version, whom it was shared with and as what, ..."""
    address: str = ""
    """From where: an IP address."""


# --------------------------------------------------------------------------------------------- what was agreed

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
FactName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]


class Settle(Terms):
    """When a file counts as finished being written."""

    quiet: timedelta = Field(
        default=timedelta(seconds=30),
        description="Size and time must be equal on two of our looks at least this far apart",
    )
    minimum_age: timedelta = Field(default=timedelta(0), description="Not before this long after we first saw it, by our clock")
    done_file: str | None = Field(
        default=None,
        description="Pattern of the marker that says a file is complete, e.g. '{name}.done'; it then replaces the quiet time",
    )
    done_wait: timedelta = Field(
        default=timedelta(hours=1),
        gt=timedelta(0),
        description="So long a file waits for its done file, and a done file for its file, before a person is told which is missing",
    )
    exclude: tuple[str, ...] = Field(
        default=(".*", "*.part", "*.tmp", "*.filepart", "*.crdownload", "~$*", "*.swp"),
        description="Names that are never picked up (shell patterns): temporary names of uploading programs",
    )
    abandoned_after: timedelta = Field(
        default=timedelta(days=1),
        description="What we have seen for so long is told: a name under 'exclude' (a broken upload?), a file that is still written to",
    )


class Limits(Terms):
    """Bounds of what we take from this stream."""

    smallest_bytes: int = Field(
        default=1, ge=0, description="Smaller files are refused; 0 needs 'empty: accept' where it comes in"
    )
    largest_bytes: int = Field(default=5 * 1024**3, gt=0, description="Larger files are refused without being fetched")
    rows: int = Field(default=50_000_000, gt=0, description="Most rows in a table")
    field_characters: int = Field(default=131_072, gt=0, description="Longest field in a table")
    pass_through_bytes: int = Field(
        default=64 * 1024**2,
        ge=0,
        description="Files of so many bytes pass straight from the source into the repository, where nothing of the stream needs a look "
        "at the whole before it is filed; 0: never",
    )
    consignment_files: int = Field(default=500, gt=0, le=5000, description="Most files that one task carries")
    consignment_bytes: int = Field(default=256 * 1024**2, gt=0, description="Most bytes that one task carries")


class InboundLimits(Limits):
    """The same where it comes in: as many small files together, and large ones so far apart, that our tasks are quickest."""

    consignment_files: int = Field(default=1000, gt=0, le=5000, description="Most files that one task carries")
    consignment_bytes: int = Field(
        default=100 * 1024**2,
        gt=0,
        description="Most bytes that one task carries; six times as many where files pass straight into the repository",
    )


class Classification(Terms):
    """Which document type a file is, by its name. The first rule that fits decides."""

    pattern: str = Field(description="Regular expression for the whole name; named groups become facts")
    doctype: Slug = Field(description="A file in tasks/doctypes, with dashes: price-list, invoice")
    facts: Mapping[str, str] = Field(
        default_factory=dict,
        description="What is agreed about every such file, beside what its name tells: { contract: '4711' }",
    )


class ObjectTerms(Terms):
    """A business object of an external system."""

    system: str = Field(description="The external system, as the repository calls it: ERP")
    object: str = Field(description="The type of its business object: SUPPLIER")
    reference: str = Field(description="Template of the object's id: 'S-100'")


class WorkspaceTerms(Terms):
    """The business workspace that a document belongs to: found by what it is about, and made where a template is named."""

    system: str = Field(description="The external system, as the repository calls it: ERP")
    object: str = Field(description="The type of its business object: CONTRACT")
    reference: str = Field(description="Template of the object's id: '{contract}'")
    below: ObjectTerms | None = Field(
        default=None,
        description="The partner's own workspace: only workspaces that are its children are filed into, and new ones become so. Without "
        "it, the facts of the reference must be such that only this partner's fit",
    )
    template: str | None = Field(
        default=None,
        description="Type/Template from which a missing workspace is made; without it, such a file waits for a person",
    )
    name: str | None = Field(
        default=None,
        description="Template of a new workspace's name, with all facts of the reference; default: object and reference",
    )
    roles: Mapping[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Role -> logins or groups that get it when the workspace is made"
    )


class RetentionStart(StrEnum):
    """From when a period counts."""

    RECORD_DATE = "record date"
    END_OF_YEAR = "end of year"  # from the last day of the record date's year, as tax law counts


class AtEnd(StrEnum):
    """What becomes of a document after the last day that it must be kept."""

    KEEP = "keep"  # whoever governs the repository decides
    REMOVE = "remove"  # a clean-up of ours removes it, unless it is on hold


class Retention(Terms):
    """How long a filed document must be kept: a period of ours, a schedule of the repository's records management, or both."""

    period: str | None = Field(
        default=None,
        pattern=r"^P(\d{1,3}Y)?(\d{1,4}M)?(\d{1,5}D)?$",
        description="Calendar years, months, days: P10Y, P18M, P1Y6M, P90D. From it comes the last day that it must be kept",
    )
    begins: RetentionStart = Field(
        default=RetentionStart.RECORD_DATE, description="The period counts from: record date, end of year"
    )
    schedule: str | None = Field(
        default=None, min_length=1, description="The repository's retention schedule (RSI); it needs a records_class"
    )

    at_end: AtEnd = Field(
        default=AtEnd.KEEP,
        description="After that day: keep (the repository's business) or remove (by the clean-up, never while on hold)",
    )

    @model_validator(mode="after")
    def _says_how_long(self) -> Retention:
        if self.period == "P":
            raise ValueError("'period: P' names no time: P10Y, P18M, P90D")
        if self.period is None and self.schedule is None:
            raise ValueError("say how long: a period (P10Y), a schedule of the repository, or both")
        if self.at_end is AtEnd.REMOVE and (self.period is None or self.schedule is not None):
            raise ValueError("'at_end: remove' needs a period and no schedule: what has a schedule, the repository disposes of")
        return self


class Target(Terms):
    """Where and how an accepted document is filed. Values are templates over facts: {partner}, {stream}, {name}, {stem},
    {extension}, {digest}, {received:%Y-%m-%d}, {source_path} (folder and name at the partner), and what the name's groups and
    the content told."""

    repository: Slug = Field(description="A repository in repositories.yaml")
    folder: str = Field(description="Path template; missing folders are created: 'Suppliers/{partner}/{received:%Y}'")
    workspace: WorkspaceTerms | None = Field(
        default=None, description="The business workspace in which 'folder' begins, instead of the repository's root"
    )
    name: str = Field(default="{name}", description="Name template")
    collision: Collision = Field(default=Collision.NEW_VERSION, description="If that name is taken in the folder")
    categories: Mapping[str, Mapping[str, str | tuple[str, ...]]] = Field(
        default_factory=dict, description="Category name -> attribute -> value template(s)"
    )
    records_class: str | None = Field(default=None, description="Records management classification")
    record_date: str | None = Field(
        default=None,
        description="Template that gives the record's date, as 2026-11-20 or 20261120: '{document_date}'. Default: when we first saw it",
    )
    retention: Retention | None = Field(
        default=None, description="How long it must be kept; {record_date} and {keep_until} can then be used in categories"
    )
    access: tuple[Grant, ...] = Field(default=(), description="Exactly who gets access; empty inherits from the folder")

    @model_validator(mode="after")
    def _a_schedule_is_a_records(self) -> Target:
        if self.retention is not None and self.retention.schedule is not None and self.records_class is None:
            raise ValueError("'retention': a schedule is given to records only: add 'records_class'")
        return self


class DispositionKind(StrEnum):
    REMOVE = "remove"
    MOVE = "move"
    LEAVE = "leave"


class Disposition(Terms):
    """What happens to the original at the partner, once the ledger holds the receipt."""

    accepted: DispositionKind = Field(default=DispositionKind.REMOVE, description="remove, move or leave")
    refused: DispositionKind = Field(default=DispositionKind.REMOVE, description="The same for quarantined files")
    folder: str | None = Field(default=None, description="Where 'move' moves to, at the same endpoint")


class Succession(StrEnum):
    """What later files of a stream do while an earlier one is refused, or late."""

    FREE = "free"  # each stands for itself
    ORDERED = "ordered"  # they wait until it is filed, or a person has rejected it
    LATEST = "latest"  # they go on, and it is never filed after one of them


class EmptyFiles(StrEnum):
    """What a file of no bytes means."""

    REFUSE = "refuse"
    ACCEPT = "accept"  # filed as it is, with a note; there is nothing to check
    MARKER = "marker"  # it only says something: recorded and cleared, never filed


class Duplicates(StrEnum):
    """What becomes of bytes that were filed before, under whatever name."""

    RECORD = "record"  # written down as a duplicate of that journey; no second object
    REFUSE = "refuse"  # a person is asked
    FILE = "file"  # filed once more


class Weekday(StrEnum):
    MONDAY = "mon"
    TUESDAY = "tue"
    WEDNESDAY = "wed"
    THURSDAY = "thu"
    FRIDAY = "fri"
    SATURDAY = "sat"
    SUNDAY = "sun"


class Expected(Terms):
    """By when something must have come, on the partner's clock. If nothing has, a person is told."""

    by: time = Field(description="Time of day in the partner's time zone: '06:30'")
    days: tuple[Weekday, ...] = Field(
        default=tuple(Weekday), min_length=1, description="On these days of the week: mon, tue, …"
    )
    month_days: tuple[Annotated[int, Field(ge=-31, le=31)], ...] = Field(
        default=(), description="Only on these days of the month; -1 is its last. A day that a month lacks is its last"
    )
    except_on: tuple[date, ...] = Field(default=(), description="Never on these days: holidays")
    calendar: Slug | None = Field(default=None, description="One of calendars.yaml: never on days on which it is closed")
    grace: timedelta = Field(
        default=timedelta(0),
        ge=timedelta(0),
        lt=timedelta(days=1),
        description="So long it is merely late; then it is missing: PT2H. Left out: late it stays",
    )

    @field_validator("by", mode="before")
    @classmethod
    def _is_written_as_a_time(cls, given: Any) -> Any:
        """A number would be taken for seconds since midnight."""
        if isinstance(given, int | float):
            raise ValueError("is a number; write the time of day as in '16:30'")  # noqa: TRY004 - which pydantic reads
        return given


class SidecarFact(Terms):
    """What a sidecar tells about its files."""

    at: str = Field(pattern=r"^[^.]+(\.[^.]+)*$", description="Where it stands in the JSON: sku, product.sku")
    matches: str = Field(
        default=r".+", description="Regular expression for the whole value; another one is refused, the rule is quoted"
    )

    @field_validator("matches")
    @classmethod
    def _is_an_expression(cls, given: str) -> str:
        try:
            re.compile(given)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"is not a regular expression: {error}") from error
        return given


class SidecarTerms(Terms):
    """A small JSON file beside the others of its set, which tells what their names and bytes do not. It is filed with them."""

    name: str = Field(description="Its name: '{set}.json'; 'classify' gives it the document type sidecar")
    facts: Mapping[Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*$")], SidecarFact] = Field(
        min_length=1, description="Facts of every file of the set, for the target's templates: { sku: { at: product.sku } }"
    )


class SetTerms(Terms):
    """Files that belong together: none of them is filed before all have come, and the manifest if one is agreed."""

    pattern: str = Field(description="Regular expression for the whole name; its group 'set' says which set a file belongs to")
    files: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = Field(
        min_length=1, description="The names in every set: ['{set}_balance.csv', …]"
    )
    manifest: str | None = Field(
        default=None, description="The name of its list, with or without SHA-256 as sha256sum writes it: '{set}.sha256'"
    )
    sidecar: SidecarTerms | None = Field(
        default=None,
        description="A file that tells facts of the others. Where it has not come when the window closes, they go to triage",
    )
    window: timedelta = Field(
        default=timedelta(days=1),
        gt=timedelta(0),
        description="From its first file on; then a person is told which names are missing",
    )

    @model_validator(mode="after")
    def _names_its_set(self) -> SetTerms:
        try:
            groups = re.compile(self.pattern).groupindex
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"'pattern' is not a regular expression: {error}") from error
        if "set" not in groups:
            raise ValueError("'pattern' needs a group 'set' that says which set a file belongs to: '(?P<set>\\d{6})_.*'")
        others = [self.sidecar.name if self.sidecar else None, self.manifest]
        names = [*self.files, *(name for name in others if name is not None)]
        if any("{set}" not in name for name in names) or len(set(names)) != len(names):
            raise ValueError("each name in 'files', 'manifest' and 'sidecar' contains {set}, and they differ")
        return self


class Leavings(Terms):
    """Where another program leaves one kind of its files, at the same endpoint."""

    folder: str | None = Field(default=None, description="The folder; left out: the stream's own")
    pattern: str = Field(description="Regular expression for the whole name; its group 'set' says to which file it belongs")


class Reported(Leavings):
    """Where acknowledgements are left."""

    required: bool = Field(
        default=False, description="True: a set without one is not complete; False: it may come later, or never"
    )


class RowPolicy(StrEnum):
    """What becomes of the good rows of a table that has bad ones."""

    WHOLE_FILE = "whole-file"  # they are held with the others
    GOOD_ROWS = "good-rows"  # they go on, and a corrected file brings only what was missing


class Language(StrEnum):
    """In which a partner is written to."""

    EN = "en"
    DE = "de"


class NoteFormat(StrEnum):
    """What a rejection note is written as: one to work through, one to read."""

    CSV = "csv"
    HTML = "html"


class NoteTerms(Terms):
    """How a partner is told what is wrong with a file that was refused."""

    endpoint: Slug | None = Field(
        default=None, description="One of the partner's endpoints, that the sender may write to; left out: the stream's own"
    )
    folder: str = Field(min_length=1, description="The folder there; it must exist, and be none that we look in")
    language: Language = Field(default=Language.EN, description="en or de")
    formats: tuple[NoteFormat, ...] = Field(
        default=(NoteFormat.CSV, NoteFormat.HTML), min_length=1, max_length=2, description="csv, html or both"
    )
    good_name: str = Field(
        default="",
        max_length=200,
        description="A name as agreed, for notes on files whose name is wrong: prices_spring_2026-11-20.csv",
    )


class ReceiptState(StrEnum):
    """What a partner is told of a file of theirs, in this order."""

    RECEIVED = "received"  # all of its bytes are here
    ACCEPTED = "accepted"  # filed, or here already
    REJECTED = "rejected"  # refused; a note says why, where one is agreed


class ReceiptFormat(StrEnum):
    JSON = "json"
    CSV = "csv"


class ReceiptTerms(Terms):
    """How a partner is told that a file of theirs has come, and what became of it."""

    endpoint: Slug | None = Field(
        default=None, description="One of the partner's endpoints, that the sender may write to; left out: the stream's own"
    )
    folder: str = Field(min_length=1, description="The folder there; it must exist, and be none that we look in")
    states: tuple[ReceiptState, ...] = Field(
        default=tuple(ReceiptState), min_length=1, max_length=3, description="Of which: received, accepted, rejected"
    )
    formats: tuple[ReceiptFormat, ...] = Field(
        default=(ReceiptFormat.JSON,), min_length=1, max_length=2, description="json, csv or both"
    )


class SignoffProof(StrEnum):
    """How people prove that a decision is theirs."""

    CODE = "code"  # TOTP: proves the person and the moment, binds neither decision nor files
    SIGNATURE = "signature"  # SSH: covers the whole statement


class CaseSignoffTerms(Terms):
    """Who proves that they let a refused document through, or put it right."""

    proof: SignoffProof = Field(description="code (TOTP) or signature (SSH key over the whole statement)")
    groups: tuple[Slug, ...] = Field(min_length=1, description="Whose members may; groups of people.yaml. One of them suffices")


class TransferTerms(Terms):
    """What this stream brings are transfers that another program has made: files, with the log and perhaps an acknowledgement of each.

    The patterns under ``classify`` have the group ``set`` too, and the document type ``transfer``.
    """

    log: Leavings = Field(description="Where its logs are")
    acknowledgement: Reported | None = Field(default=None, description="Where acknowledgements are, if there are any")
    line: str = Field(
        description="Regular expression for a whole line of a log that tells of one transfer, with the groups path (where it went), "
        "time, size, server, reply, sha256, key (fingerprint of the server), as far as it tells them"
    )
    time_format: str = Field(
        default="",
        description="How it writes times, as in strptime: '%Y-%m-%d %H:%M:%S'; empty: ISO 8601. Without a zone, the partner's",
    )
    server: str = Field(default="", description="The server, where its log does not name it")
    success: str = Field(
        default=r"2\d\d\b.*", description="Regular expression for the whole reply of a transfer that succeeded"
    )
    wait: timedelta = Field(
        default=timedelta(hours=1),
        gt=timedelta(0),
        description="So long a set may be incomplete before a person is told what it lacks",
    )


DUE_WITHIN = timedelta(days=2)
"""By when a case is to be resolved, where nothing else is agreed."""


class Owned(Terms):
    """Whose a stream is."""

    owner: str = Field(
        default="",
        description="Whose the cases are, and who hears what becomes of a release: a person's id or a group of people.yaml, a team's "
        "name, a mail address; left out: the partner's owner, else ops",
    )
    resolve_within: timedelta = Field(
        default=DUE_WITHIN, gt=timedelta(0), description="By when a case is to be resolved, from its opening: PT4H, P2D"
    )


class Destination(Terms):
    """One system and route for documents that were accepted."""

    system: Slug = Field(description="Name of its file in the folder 'systems'")
    route: Slug = Field(
        description="One of its routes; the document's bytes go along where the route takes them ('document: true')"
    )
    when: Mapping[FactName, str | tuple[str, ...]] = Field(
        default_factory=dict,
        description="What must be so of a document: { doctype: price-list, region: [de, at] }; left out: every one goes",
    )
    facts: Mapping[FactName, Template] = Field(
        default_factory=dict,
        description="Facts for the route under other names: { document: '{id}', title: 'Claim {project}' }",
    )


class Others(StrEnum):
    """What becomes of documents that fit no destination."""

    TRIAGE = "triage"
    LEAVE = "leave"


class Onward(Terms):
    """Where documents go that were accepted and are kept: to each destination that fits, each on its own."""

    destinations: Mapping[Slug, Destination] = Field(min_length=1, description="By a short name")
    others: Others = Field(
        default=Others.TRIAGE, description="What fits no destination: triage (a person is asked) or leave (it goes nowhere)"
    )


class Inbound(Owned):
    """One named kind of exchange that comes in."""

    direction: Literal["inbound"] = "inbound"
    endpoint: Slug = Field(description="One of the partner's endpoints")
    folder: str = Field(description="The folder we look in")
    patterns: tuple[str, ...] = Field(default=("*",), description="Names that belong to this stream (shell patterns)")
    settle: Settle = Settle()
    limits: InboundLimits = InboundLimits()
    naming: str | None = Field(
        default=None, description="Regular expression for the whole name; others are quarantined, the rule is quoted"
    )
    classify: tuple[Classification, ...] = Field(min_length=1)
    encoding: str = Field(default="utf-8", description="Of tables; detection only ever suggests")
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    decimal: Literal[".", ","] = "."
    target: Target
    disposition: Disposition = Disposition()
    run_files: int = Field(
        default=10_000, gt=0, description="Most files that one run takes, the oldest; the others wait for the next run"
    )
    empty: EmptyFiles = Field(default=EmptyFiles.REFUSE, description="Files of no bytes: refuse, accept or marker")
    duplicates: Duplicates = Field(
        default=Duplicates.RECORD, description="Bytes that this stream has filed before: record, refuse or file"
    )
    expect: Expected | None = Field(default=None, description="By when something must have come")
    ordered: bool = Field(default=True, description="Later files wait while an earlier one cannot be filed")
    sequence: Succession = Field(
        default=Succession.FREE,
        description="What later files do while an earlier one is refused or late: free (each stands for itself), ordered (they wait), "
        "latest (they go on, and it is never filed after one of them)",
    )
    returns: Slug | None = Field(
        default=None,
        description="An outbound stream of this partner, whose edited copies come back here: each becomes a proposed version of the "
        "document that was delivered under its name; bytes that we sent ourselves are skipped",
    )
    triage: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_]*$")], ...] = Field(
        default=(), description="Facts that the target needs, and that a person tells where name and content do not: [project]"
    )
    workflow: str | None = Field(
        default=None, description="Workflow map that is started with each filed document: Process Library/Quality Review"
    )
    sets: SetTerms | None = Field(default=None, description="Files that are filed only together")
    releasable: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z-]*$")], ...] = Field(
        default=(),
        description="Reason codes of refusals that a person may overrule, besides cannot-inspect: [naming-rule, duplicate-key]",
    )
    signoff: CaseSignoffTerms | None = Field(
        default=None,
        description="Who must prove it when a refused document is released, or corrected; left out: whoever answers, as stated",
    )
    rows: RowPolicy = Field(
        default=RowPolicy.WHOLE_FILE,
        description="A table with bad rows: whole-file (held) or good-rows (the others are filed, a corrected file brings the rest)",
    )
    notes: NoteTerms | None = Field(
        default=None,
        description="Where the partner finds a note on each refused file, with what to mend; left out: none is sent",
    )
    receipts: ReceiptTerms | None = Field(
        default=None, description="Where the partner finds a receipt for each file; left out: none is sent"
    )
    transfers: TransferTerms | None = Field(
        default=None, description="Set where another program's transfers are kept as records, by the flow 'collect'"
    )

    onward: Onward | None = Field(
        default=None, description="The systems that are given what was filed, by the flow 'onward'; left out: none is"
    )
    reduce_after: timedelta | None = Field(
        default=None,
        ge=timedelta(days=30),
        description="Closed journeys about which nothing was recorded for so long are exported to the repository, and only tombstones "
        "of them stay here: P730D. Without it they stay whole",
    )

    @property
    def folders(self) -> tuple[str, ...]:
        """Every folder in which this stream's files are left."""
        found = [self.folder]
        if self.transfers is not None:
            places = (self.transfers.log, self.transfers.acknowledgement)
            found += [place.folder for place in places if place is not None and place.folder is not None]
        return tuple(dict.fromkeys(found))

    @property
    def tells_partner(self) -> bool:
        """True if we tell the partner what becomes of its files."""
        return self.receipts is not None or self.notes is not None

    @model_validator(mode="after")
    def _transfers_are_sets_already(self) -> Inbound:
        if self.transfers is not None and (self.sets is not None or self.sequence is not Succession.FREE):
            raise ValueError("'transfers' takes files by sets of its own: leave out 'sets' and 'sequence'")
        if self.transfers is not None and (self.notes is not None or self.receipts is not None):
            raise ValueError("'transfers' are another program's: nobody is told about them, leave out 'notes' and 'receipts'")
        return self

    @model_validator(mode="after")
    def _rows_go_on_one_by_one(self) -> Inbound:
        if self.rows is RowPolicy.GOOD_ROWS:
            if self.notes is None:
                raise ValueError("'rows: good-rows' needs 'notes': the partner must hear which rows are missing")
            if self.sets or self.returns or self.transfers or self.sequence is not Succession.FREE:
                raise ValueError("'rows: good-rows' is for streams without 'sets', 'sequence', 'returns' and 'transfers'")
            if self.target.name != "{name}":
                raise ValueError("'rows: good-rows' files parts under names of their own: leave out 'name' of the target")
        return self

    @model_validator(mode="after")
    def _what_returns_is_not_ours_to_remove(self) -> Inbound:
        retention = self.target.retention
        if self.returns is not None and retention is not None and retention.at_end is AtEnd.REMOVE:
            raise ValueError(
                "'returns' and 'at_end: remove' cannot be agreed for one stream: what returns is a version of a document that was not "
                "filed by it, and removing one removes all versions; say 'at_end: keep'"
            )
        return self

    @model_validator(mode="after")
    def _what_belongs_together_stays_whole(self) -> Inbound:
        others = {"sets": self.sets, "transfers": self.transfers, "returns": self.returns}
        if self.reduce_after is not None and (told := [name for name, terms in others.items() if terms is not None]):
            raise ValueError(
                f"'reduce_after' is not for streams with '{told[0]}': later files are judged by the journeys of earlier ones"
            )
        if self.reduce_after is not None and self.rows is RowPolicy.GOOD_ROWS:
            raise ValueError("'reduce_after' is not for streams with 'rows: good-rows': their parts would stay, names and all")
        return self

    @model_validator(mode="after")
    def _people_tell_what_no_sidecar_does(self) -> Inbound:
        sidecar = self.sets.sidecar if self.sets is not None else None
        if sidecar is not None and (lost := sorted(sidecar.facts.keys() - set(self.triage))):
            raise ValueError(
                f"'triage' lacks {', '.join(lost)}: where no sidecar comes, a person tells what it would have told"
            )
        return self

    @model_validator(mode="after")
    def _sets_have_no_sequence(self) -> Inbound:
        if self.sets is not None and self.sequence is not Succession.FREE:
            raise ValueError("'sets' and 'sequence' cannot be agreed for one stream: a set waits for all of its files anyway")
        return self

    @model_validator(mode="after")
    def _a_sequence_is_ordered(self) -> Inbound:
        if self.sequence is not Succession.FREE and not self.ordered:
            raise ValueError(
                f"'sequence: {self.sequence}' needs 'ordered: true': files that overtake one another have no sequence"
            )
        return self
