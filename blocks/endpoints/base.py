"""The contract of an endpoint: a partner's place for files.

An ``Endpoint`` is a Prefect block: what was agreed, without a connection. ``with endpoint.session() as session`` connects.
A session offers five verbs. Every back-end keeps every promise below; ``tests/conformance/endpoints`` asks it of each.

Promises of all verbs:

- Synchronous, one thread at a time per session. Every wait has a deadline (``timeout_seconds``); none is for ever.
- Names are bytes, exactly as the server listed them. A name that is empty, ``.``, ``..``, or holds ``/`` or NUL is never put
  into a path: asked to act on one, a verb answers ``Outcome.ILLEGAL_NAME``. CR and LF never reach a line protocol.
- Verbs that take many answer for each: one bad file is an outcome beside the others. Only what concerns the whole session
  (connection lost, login, disk full, host key) is raised. What was yielded before a raise stays true.
- Folders are text paths as the profile spells them. A missing folder is an ``EndpointError``.
- Symbolic links are listed as ``FileKind.LINK`` and never followed, fetched, moved or removed.

Errors: ``EndpointUnreachable``, ``EndpointBusy``, ``EndpointFull``, ``TransferIncomplete``, ``HostKeyChanged``,
``LoginRefused``, ``EndpointUnsuitable``, and ``EndpointError`` for the rest.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, BinaryIO, ClassVar, Literal

from prefect.blocks.core import Block
from pydantic import ConfigDict, Field, model_validator

from blocks.closing import Closing
from blocks.errors import EndpointUnsuitable, SpoolMissing
from blocks.spool import Batch
from blocks.values import (
    CaseRule,
    EndpointCapabilities,
    Exists,
    Fetched,
    FileKind,
    Missed,
    Move,
    Moved,
    Outcome,
    Outgoing,
    Personality,
    Placed,
    RemoteFile,
    Unread,
    shown,
)


class EndpointSession(Closing):
    """A connection to one endpoint, open between ``__enter__`` and ``__exit__``."""

    capabilities: EndpointCapabilities
    unread: Unread = Unread()
    """What the last complete ``look`` could not read of its listing."""
    personality: Personality = Personality()
    """What this session has found out about the server so far: it costs nothing, and grows with what is asked of it."""
    _known: Personality = Personality()
    _sent: Mapping[bytes, bytes] = MappingProxyType({})
    """Temporary names that were given in this session, by what they are in lower case."""
    _recased: Callable[[bytes], bytes] | None = None
    """What this server makes of the case of names, once it was seen to change one."""

    def recall(self, known: Personality) -> None:
        """Take what earlier sessions found out for known, so that it is not found out again.

        Only ways to ask are chosen by it, never what is believed or allowed. Of a server that says other things about itself
        than it did then, nothing is taken for known.
        """
        if (known.server, known.offers) == (self.personality.server, self.personality.offers):
            self._known = known

    def _learn(self, **traits: Any) -> None:
        self.personality = replace(self.personality, **traits)

    def _send_as(self, names: Iterable[bytes]) -> None:
        self._sent = {**self._sent, **{name.lower(): name for name in names if name.startswith(TEMPORARY)}}

    def _notice(self, listed: bytes) -> None:
        """See whether a listed name is one of ours in another case: nobody else has these."""
        if listed[:1] == TEMPORARY[:1] and self._sent.get(listed.lower(), listed) != listed:
            self._recased = bytes.upper if listed == listed.upper() else bytes.lower
            self._learn(case_rule=CaseRule.CHANGED)

    def _not_kept(self, name: bytes) -> str:
        """Why a final name that we would give is not the one that a listing would show; "" if it is, as far as we know."""
        if self._recased is None or self._recased(name) == name or name.startswith(TEMPORARY):
            return ""
        return (
            f"the server changes the case of names: it would stand there as {shown(self._recased(name))}, and nobody would find it "
            "under its own. Agree on a 'name' in that case at the destination"
        )

    def _learn_of_rename(self, new: bytes, *, done: bool) -> None:
        """What a rename to the path ``new`` tells. Nobody has a reason to refuse a name of ours, but that we may not rename."""
        known = self.personality.renames
        if known is not done and (done or (known is None and new.rpartition(b"/")[2].startswith(TEMPORARY))):
            self._learn(renames=done)

    @abstractmethod
    def look(self, folder: str) -> Iterator[RemoteFile]:
        """List everything in ``folder``, files and others, as a stream: 100,000 entries in bounded memory.

        ``.`` and ``..`` are left out. Order is the server's. Entries whose names are illegal are listed too, so that
        a person hears of them. An interrupted listing raises; it never ends early as if it were whole.
        """

    @abstractmethod
    def fetch(self, files: Iterable[RemoteFile], into: Batch) -> Iterator[Fetched | Missed]:
        """Bring the bytes of many files into a spool batch, many in flight; answers come as files complete, in any order.

        ``Fetched`` means: as many bytes as listed and as the server says now, all read once and hashed, and size and time
        unchanged at the end. ``CHANGED``: they differ (still growing, or replaced), nothing is kept. ``VANISHED``: gone.
        A broken connection raises; complete files were yielded, and the partial one stays with the batch, so that a later
        fetch of a file with the same name, size and time goes on there. What is held is compared with what stands there before:
        all of it by digest where the server tells digests of ranges, else its first and last 64 KiB. So a file of which somebody
        changed a byte in the middle, and neither size nor time, between two attempts is not told from the old one.
        """

    @abstractmethod
    def put(self, files: Sequence[Outgoing], folder: str, *, exists: Exists = Exists.REFUSE) -> Iterator[Placed | Missed]:
        """Place many files so that a reader never sees half of one: temporary name, size checked, then renamed.

        ``EXISTS`` where the name is taken, unless ``exists`` says replace. On any other outcome nothing of ours stands
        under the final name. Temporary names start with ``.countersign-`` and are removed on failure where possible.
        ``UNKNOWN``: the answer to the rename was lost and looking did not settle it.

        Where the final name is itself a temporary name (its sender wrote it down), what a broken connection leaves stays under
        that name with ``PART``, and a later put goes on there: if it is a file, no longer than ours, and its bytes were compared.
        All of them where the server tells digests or we can read it as our own disk, else the last 64 KiB that count. Anything
        else that stands there is removed and the upload begun anew. Our own bytes are always hashed from first to last.

        With ``direct_write`` there is no temporary name and no rename: a reader may see half a file, no name is ever replaced, and
        what a broken connection has left stands under the final name where it could not be removed.
        """

    def read_back(self, files: Iterable[RemoteFile], into: Batch) -> Iterator[Fetched | Missed]:
        """As ``fetch``, for files that we have put under temporary names and rename next: only their bytes count here.

        Whether they are files still, of the same size and time, whoever renames them looks once more. So there may be fewer
        questions: ``Fetched`` says nothing but that so many bytes as were listed were read, and what their digest is.
        """
        return self.fetch(files, into)

    @abstractmethod
    def make_folder(self, folder: str) -> None:
        """Create a folder, and those above it that are missing. One that is there already is no error."""

    @abstractmethod
    def rename(self, moves: Iterable[Move], *, exists: Exists = Exists.REFUSE) -> Iterator[Moved]:
        """Rename or move files that are unchanged since we saw them: ``CHANGED`` and ``VANISHED`` are left alone.

        ``EXISTS`` where the new name is taken, unless ``exists`` says replace.
        """

    @abstractmethod
    def remove(self, files: Iterable[RemoteFile]) -> Iterator[Moved]:
        """Remove files that are unchanged since we saw them: ``CHANGED`` is left alone, ``VANISHED`` is no error."""

    @abstractmethod
    def close(self) -> None:
        """End the connection. Safe to call twice."""


class Endpoint(Block, ABC):
    """What was agreed about a partner's place for files. Parsed from the profile; connects only when asked."""

    model_config = ConfigDict(extra="forbid")  # a typo in a profile must be loud

    protocol: ClassVar[str]
    """The word in the profile that chooses this back-end."""
    protected: ClassVar[bool] = True
    """False: on the way to it, anybody may read and change what we send."""

    timeout_seconds: float = Field(default=30.0, gt=0, description="Longest wait for any single answer, in seconds")

    direct_write: Literal["accepted"] | None = Field(
        default=None,
        description="Say 'accepted' for a server that lets nobody rename: files are written under their final names, where a reader "
        "may see half of one. Deliveries there need a done file, and replace nothing",
    )
    write_only: bool = Field(
        default=False,
        description="True: our account may neither list nor read there. Deliveries are proven by nothing: 'sent, unverifiable'",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_the_slug(cls, values: Any) -> Any:
        # Prefect writes the kind of a block among its fields; it has compared it by now, and it is no field of ours.
        return (
            {name: value for name, value in values.items() if name != "block_type_slug"} if isinstance(values, dict) else values
        )

    def expect(self, known: Personality) -> None:
        """Be told what earlier processes found out, before the next session connects. What it changes is only how fast it is."""

    @abstractmethod
    def session(self) -> EndpointSession:
        """Connect and sign in."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where this is, for people and for the ledger: ``sftp://user@host:22``. Holds no secret."""


def legal(name: bytes) -> bool:
    """True for a name that can be one path segment; anything else is never joined to a path."""
    return name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name


def unfit(file: RemoteFile) -> Missed | None:
    """Why a file is not touched at all, by its name and the kind it was listed with; None if it may be."""
    if not legal(file.name):
        return Missed(file, Outcome.ILLEGAL_NAME, "no file can have this name; it was not used in any path")
    if file.kind is not FileKind.FILE:
        return Missed(file, Outcome.NOT_A_FILE, f"it is listed as {file.kind}")
    return None


def likely_kind(kind: FileKind | None, size: int | None) -> FileKind:
    """Where a server tells no kind, what has a size is taken for a file: only reading it, under every check of a fetch, can tell."""
    return kind or (FileKind.OTHER if size is None else FileKind.FILE)


def differs(file: RemoteFile, kind: FileKind | None, size: int | None, modified: datetime | None) -> Missed | None:
    """Why what stands there now is not the file we saw; None if it is. A server that tells no kind is believed."""
    if kind not in (FileKind.FILE, None):
        return Missed(file, Outcome.NOT_A_FILE, f"it is a {kind} now")
    if size != file.size:
        return Missed(file, Outcome.CHANGED, f"it has {size} bytes now, {file.size} when it was listed; it was left alone")
    if file.modified is not None and modified != file.modified:
        return Missed(file, Outcome.CHANGED, f"it was written at {modified}, not at {file.modified}; it was left alone")
    return None


def open_source(file: Outgoing) -> BinaryIO:
    """Our bytes, to be placed. Raises ``SpoolMissing``: what is wrong on our side is never an outcome at the partner."""
    try:
        return file.source.open("rb")
    except OSError as error:
        raise _unreadable(file, error) from error


def read_source(file: Outgoing) -> bytes:
    """All our bytes of a small file, or one more than it should have. Raises ``SpoolMissing`` too."""
    try:
        # The system's own calls: a file object for each of thousands takes three times as long.
        source = os.open(file.source, os.O_RDONLY)
        try:
            return os.read(source, file.size + 1)
        finally:
            os.close(source)
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Outgoing, error: OSError) -> SpoolMissing:
    return SpoolMissing(
        f"{file.source}: our bytes for {shown(file.name)} cannot be read ({error.strerror}); nothing was placed under that name"
    )


TEMPORARY = b".countersign-"
"""How our temporary names begin."""


MOST_ENTRIES = 2_000_000
"""Of a folder that has more, a server is taken never to come to the end."""


def endless(address: str, what: str) -> EndpointUnsuitable:
    """What is raised about a server that does not end what it says."""
    return EndpointUnsuitable(
        f"{address}: the server sends {what} that has no end; it was broken off and nothing of it is used. Ask the partner"
    )


def remains(missed: Missed, where: str, words: str) -> Missed:
    """An outcome that leaves something of ours standing: whoever reads it must hear of that."""
    return replace(
        missed,
        reason=f"{missed.reason}; what was written of it stands under {where} and could not be removed ({words}): remove it",
    )


def set_aside(reason: str, aside: bytes, words: str) -> str:
    """Why something was not done, and that the file which stood under the name is not back there."""
    return (
        f"{reason}; the file that stood there is safe, but stands under {shown(aside)} now and could not be put back ({words}): "
        "rename it"
    )


NOT_RENAMED = "it was uploaded, and its rename was refused: "
"""How the reason begins where a server takes a file and does not let us give it its name."""


def not_renamed(missed: Missed) -> Missed:
    """The outcome where the last step, the rename, failed."""
    return replace(missed, reason=NOT_RENAMED + missed.reason) if missed.outcome is Outcome.REFUSED else missed


PART = b".part"


def temporary_name(final: bytes = b"") -> bytes:
    """A name for an upload under way. Ours alone: it holds nothing of the final name, which may already be of full length.

    Where the final name is one of these itself, it is that with ``PART``: whoever wrote the one down finds what was left of the other.
    """
    return final + PART if final.startswith(TEMPORARY) else TEMPORARY + os.urandom(16).hex().encode()


def goes_on(temporary: bytes) -> bool:
    """Whether an upload under this temporary name is gone on with after a break: somebody will look for it again."""
    return temporary.startswith(TEMPORARY) and temporary.endswith(PART)


COMPARED = 64 * 1024
"""So many bytes are compared, where not all can be, before half a file is gone on with."""


def resume_key(address: str, file: RemoteFile) -> str:
    """Under what key an interrupted download is kept: another size or time is another file."""
    modified = file.modified.isoformat() if file.modified else ""
    parts = (
        address.encode(),
        file.folder.encode(errors="surrogateescape"),
        file.name,
        str(file.size).encode(),
        modified.encode(),
    )
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
