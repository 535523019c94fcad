"""FTP and FTPS: a partner's server that speaks FTP, behind TLS or, only where the profile says so, in clear.

``ftp_wire`` is one connection, ``ftp_listing`` reads what servers list. Here are the blocks, and the session that keeps the
contract over several connections. FTP has no lock and no rename that refuses: between our last look at a name and the rename
there is an instant in which somebody else's file of that name would be replaced.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import ssl
import tempfile
import threading
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import islice
from os import SEEK_END
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import IO, Annotated, Any, BinaryIO, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import Field, StringConstraints, field_validator, model_validator

from blocks.credentials import Reference
from blocks.credentials import read as read_credential
from blocks.endpoints import ftp_wire
from blocks.endpoints.base import (
    COMPARED,
    Endpoint,
    EndpointSession,
    differs,
    goes_on,
    legal,
    likely_kind,
    not_renamed,
    open_source,
    remains,
    resume_key,
    set_aside,
    temporary_name,
    unfit,
)
from blocks.endpoints.connections import Slots
from blocks.endpoints.ftp_listing import (
    LONGEST_LINE,
    Entry,
    Odd,
    Parse,
    entries,
    list_form,
    list_line,
    mlsd_line,
    nlst_line,
    readable,
)
from blocks.endpoints.ftp_wire import (
    BLOCK,
    Data,
    Door,
    Protection,
    Reply,
    Wire,
    digest_in,
    moment,
    shown_certificate,
    size_in,
)
from blocks.endpoints.legacy import Legacy, allowed
from blocks.errors import ConfigurationError, EndpointBusy, EndpointError, EndpointUnreachable, SpoolError
from blocks.spool import Batch, SpoolFile
from blocks.values import (
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
    Proof,
    RemoteFile,
    Unread,
    shown,
)

CertificatePin = Annotated[str, StringConstraints(pattern=r"^SHA256(:[0-9A-Fa-f]{2}){32}$")]

_CHUNK = 128
_WAITING_FOR_ANOTHER = 4
"""So many files wait for each open connection before another one is opened: that costs as much as a few small files."""
_TOLD_SECONDS = 0.005
"""So long after a work is done it is told at the latest."""
_MANY = 32
"""From so many small files on, one listing of their folder costs less than asking what kind each of them is."""
_TOGETHER = 1000
"""Files for which one listing may serve."""
_SMALL = 1024 * 1024
"""Bytes. The kind of a larger file is asked for by its name, as late as can be: that costs little beside its bytes."""
_SHOWN_LINES = 20
_LONGEST_WORDS = 500
"""Characters that are kept of what a server says about itself."""
_NOT_KNOWN = (500, 501, 502, 504)
OUTDATED = frozenset(
    {
        "AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
        "AES128-SHA256",
        "AES256-SHA256",
        "AES128-SHA",
        "AES256-SHA",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA",
        "ECDHE-RSA-AES128-SHA",
        "ECDHE-RSA-AES256-SHA",
        "DHE-RSA-AES128-SHA",
        "DHE-RSA-AES256-SHA",
    }
)
"""TLS 1.2 ciphers (as OpenSSL names them) that we offer only to a server with a dated exception. Older TLS is gone for good."""

T = TypeVar("T")
Item = TypeVar("Item")


class _FtpServer(Endpoint):
    """What FTP and FTPS have in common."""

    host: str = Field(min_length=1, description="Host name or address of the partner's server")
    port: int = Field(default=21, ge=1, le=65535, description="TCP port of the server")
    username: str = Field(min_length=1, description="Account that the partner gave us")
    password: Reference = Field(description="Where the password is: env:NAME or file:/path")
    connection_limit: int = Field(
        default=4, ge=1, description="Most connections to this server at a time from one of our processes"
    )

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.protocol}://{self.username}@{host}:{self.port}"

    def session(self) -> FtpSession:
        """Connect, prove who the server is, sign in."""
        return FtpSession(self)

    def expect(self, known: Personality) -> None:
        Wire.careful.expect((self.host, self.port), known.one_by_one)

    @model_validator(mode="after")
    def _never_over_a_file(self) -> Self:
        if self.direct_write and self.write_only:
            raise ValueError(
                "'direct_write' and 'write_only' together cannot be kept over FTP: its STOR replaces what stands there, and without "
                "looking nobody knows. Ask the partner to let the account list its folder, or to allow renames"
            )
        return self

    @abstractmethod
    def door(self) -> Door:
        """Where to connect and whom to believe. Raises ``ConfigurationError``."""


class Ftps(_FtpServer):
    """A partner's place for files on an FTP server behind TLS; control and data connections are always protected."""

    _block_type_name: ClassVar[str | None] = "Countersign FTPS endpoint"
    _block_type_slug: ClassVar[str | None] = "countersign-ftps"
    protocol: ClassVar[str] = "ftps"

    mode: Literal["explicit", "implicit"] = Field(
        default="explicit", description="explicit: TLS after AUTH TLS, usual on port 21; implicit: TLS at once, usual on 990"
    )
    ca_file: Path | None = Field(
        default=None, description="PEM file of the partner's own certification authority; without one the system's are trusted"
    )
    certificates: tuple[CertificatePin, ...] = Field(
        default=(),
        description="Fingerprints (SHA256:AA:BB:...) of the only certificates trusted, shown by 'countersign endpoint trust'; "
        "they replace the system's authorities, so a self-signed certificate can be trusted",
    )

    legacy: Legacy | None = Field(
        default=None,
        description="Outdated TLS 1.2 ciphers that this one server may use, up to a date: algorithms, until, reason",
    )

    @field_validator("legacy")
    @classmethod
    def _known_ones(cls, legacy: Legacy | None) -> Legacy | None:
        if legacy is not None:
            legacy.must_be_among(OUTDATED)
        return legacy

    def door(self) -> Door:
        pins = frozenset(pin.upper() for pin in self.certificates)
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"{self.address}: ca_file {self.ca_file} cannot be used ({error}); it must be a PEM file that we may read"
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if outdated := allowed(self.legacy, self.address):
            ours = [cipher["name"] for cipher in context.get_ciphers()]
            context.set_ciphers(":".join([*(name for name in ours if not name.startswith("TLS_")), *sorted(outdated)]))
        if pins and self.ca_file is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE  # exactly these certificates, whoever signed them; compared before the login
        return Door(
            self.host, self.port, self.timeout_seconds, self.address, Protection(context, self.mode == "implicit", pins)
        )


class Ftp(_FtpServer):
    """A partner's place for files on an FTP server without any protection: whoever is on the way reads and changes everything."""

    _block_type_name: ClassVar[str | None] = "Countersign FTP endpoint (in clear)"
    _block_type_slug: ClassVar[str | None] = "countersign-ftp"
    protocol: ClassVar[str] = "ftp"
    protected: ClassVar[bool] = False

    unprotected: Literal["accepted"] = Field(
        description="Must say 'accepted': the password and all files travel readable and changeable by anyone on the way"
    )

    def door(self) -> Door:
        return Door(self.host, self.port, self.timeout_seconds, self.address, None)


def certificate_fingerprint(endpoint: Ftps) -> str:
    """The ``SHA256:AA:…`` fingerprint of the certificate a server shows now, believed or not. Nothing is sent but the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    protection = Protection(context, endpoint.mode == "implicit", frozenset())
    door = Door(endpoint.host, endpoint.port, endpoint.timeout_seconds, endpoint.address, protection)
    return asyncio.run(shown_certificate(door))


# --------------------------------------------------------------------------------------------- the session


class FtpSession(EndpointSession):
    """Signed in to one FTP server, with further connections when many files wait. The event loop lives in a thread of ours."""

    def __init__(self, endpoint: _FtpServer) -> None:
        self._endpoint, self._address, self._door = endpoint, endpoint.address, endpoint.door()
        self._password = read_credential(endpoint.password)
        self._temporaries: set[tuple[str, bytes]] = set()
        """Folder and name of uploads under way: ours to remove, whatever happens."""
        self._doubtful: dict[tuple[str, bytes], Outgoing] = {}
        """Uploads whose rename was sent and not answered."""
        self.unread = Unread()
        self._links_only_listed = False
        """Nothing but a listing tells a link here; vsftpd reads the whole folder to answer that for one name."""
        self._lists_all = dict[bytes, bool]()
        """Whether LIST and NLST take -a for what it is."""
        self._slots: Slots | None = Slots.of(endpoint.host, endpoint.port)
        self._slots.take(endpoint.connection_limit, endpoint.timeout_seconds, self._address)
        self._places, self._limit = 1, endpoint.connection_limit
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"ftp {endpoint.host}", daemon=True)
        self._thread.start()
        self._idle: list[Wire] = []
        self._open = 0
        self._queue = deque[asyncio.Future[None]]()
        """Who waits for a connection."""
        try:
            self.capabilities = self._run(self._first())
        except BaseException:
            self.close()
            raise

    def recall(self, known: Personality) -> None:
        super().recall(known)
        if self._known.listing in ("LIST", "NLST"):
            self._lists_all[self._known.listing.encode()] = False
        for wire in self._idle:
            self._remind(wire)

    def _learn(self, **traits: Any) -> None:
        if any(getattr(self.personality, trait) != told for trait, told in traits.items()):  # it is told again with every file
            super()._learn(**traits)

    def _remind(self, wire: Wire) -> None:
        wire.extended_passive = self._known.extended_passive

    def close(self) -> None:
        if self._slots is None:
            return
        try:
            with suppress(EndpointError):
                self._tidy()
            self._run(self._leave())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            for _ in range(self._places):
                self._slots.give()
            self._slots = None

    # ----------------------------------------------------------------------------------------- the five verbs

    def look(self, folder: str) -> Iterator[RemoteFile]:
        # The listing is taken as a whole before the first entry is told: an interrupted one never looks complete, and the
        # connection is free for questions about its entries.
        count, examples = 0, list[str]()
        with self._listed_entries(folder) as found:
            while chunk := list(islice(found, _CHUNK)):
                whole = (
                    self._run(self._completed(folder, chunk)) if any(map(_incomplete, chunk)) else [told for told, _ in chunk]
                )
                for told in whole:
                    if isinstance(told, Odd):
                        count += 1
                        examples += [shown(told.line)] if len(examples) < _SHOWN_LINES else []
                    else:
                        self._notice(told.name)
                        yield RemoteFile(folder, told.name, told.size or 0, told.modified, likely_kind(told.kind, told.size))
        self.unread = Unread(count, tuple(examples))

    def fetch(self, files: Iterable[RemoteFile], into: Batch) -> Iterator[Fetched | Missed]:
        standing = set[str]()
        for group, kinds in self._groups(files, lambda file: {file.folder}, lambda file: file.size):
            for outcome in self._fetched(group, kinds, into):
                if isinstance(outcome, Missed) and outcome.outcome is Outcome.VANISHED:
                    self._must_stand(outcome.file.folder, standing)
                yield outcome

    def put(self, files: Sequence[Outgoing], folder: str, *, exists: Exists = Exists.REFUSE) -> Iterator[Placed | Missed]:
        if files:
            self._must_stand(folder, set())
        self._send_as(file.name for file in files)
        try:
            if self._endpoint.direct_write:
                yield from self._each(files, lambda file: self._put_directly(file, folder))
            else:
                for group, kinds in self._groups(files, lambda _: {folder}, lambda file: file.size):
                    yield from self._each(group, partial(self._put, folder=folder, exists=exists, kinds=kinds))
        except (EndpointError, SpoolError, OSError) as error:
            yield from self._settle()
            if isinstance(error, EndpointUnreachable | EndpointBusy):
                self._temporaries = {(place, name) for place, name in self._temporaries if not goes_on(name)}
            raise
        finally:
            with suppress(EndpointError):
                self._tidy()

    def make_folder(self, folder: str) -> None:
        self._run(self._made(folder))

    def rename(self, moves: Iterable[Move], *, exists: Exists = Exists.REFUSE) -> Iterator[Moved]:
        standing = set[str]()
        for group, kinds in self._groups(moves, lambda move: {move.file.folder, move.folder}):
            for moved in self._each(group, partial(self._rename, exists=exists, kinds=kinds)):
                if moved.outcome is Outcome.VANISHED:
                    self._must_stand(moved.file.folder, standing)
                yield moved

    def remove(self, files: Iterable[RemoteFile]) -> Iterator[Moved]:
        standing = set[str]()
        for group, kinds in self._groups(files, lambda file: {file.folder}):
            for moved in self._each(group, partial(self._remove, kinds=kinds)):
                if moved.outcome is Outcome.VANISHED:
                    self._must_stand(moved.file.folder, standing)
                yield moved

    # ----------------------------------------------------------------------------------------- looking

    @contextmanager
    def _listed_entries(self, folder: str) -> Iterator[Iterator[tuple[Entry | Odd, bool]]]:
        with tempfile.TemporaryFile() as kept:
            parse = self._run(self._listing(folder, kept))
            kept.seek(0)
            yield entries(iter(lambda: kept.readline(LONGEST_LINE), b""), parse)

    def _groups(
        self, items: Iterable[Item], folders_of: Callable[[Item], set[str]], size_of: Callable[[Item], int] = lambda _: 0
    ) -> Iterator[tuple[list[Item], _Kinds]]:
        """All items, as many at a time as one listing may serve, with what that listing says about their folders."""
        source = iter(items)
        while group := list(islice(source, _TOGETHER)):
            small = Counter(folder for item in group if size_of(item) <= _SMALL for folder in folders_of(item))
            yield group, self._kinds(folder for folder, count in small.items() if count >= _MANY)

    def _kinds(self, folders: Iterable[str]) -> _Kinds:
        """What stands in some folders now. Of a folder that cannot be listed, or not be read in full, nothing is known."""
        kinds = _Kinds()
        for folder in folders if self._links_only_listed else ():
            others = set[bytes]()
            try:
                with self._listed_entries(folder) as found:
                    for told, half in found:
                        if isinstance(told, Odd) or half or told.kind is None:
                            break
                        if told.kind is not FileKind.FILE:
                            others.add(told.name.strip())
                    else:
                        kinds.folders[folder] = others
                        kinds.hidden_too = bool(self._lists_all.get(b"LIST"))
            except EndpointError as error:
                if type(error) is not EndpointError:
                    raise  # more is wrong than this folder
        return kinds

    async def _listing(self, folder: str, into: IO[bytes]) -> Parse:
        """Bring a whole listing into a file. Returns how to read its lines."""
        async with self._lease() as wire:
            await wire.enter(_folder(folder))
            if "MLST" in wire.features or "MLSD" in wire.features:
                refused = await self._listed(wire, b"MLSD", folder, into)
                if refused is not None and refused.code not in _NOT_KNOWN:
                    raise EndpointError(f"{self._address}: the folder {shown(folder)} cannot be listed ({refused.words})")
                if refused is None and _readable(into, mlsd_line):
                    self._learn(listing="MLSD")
                    return mlsd_line
            refused = await self._listed_all(wire, b"LIST", folder, into)
            if refused is None and _readable(into, list_line):
                into.seek(0)
                if form := next(filter(None, map(list_form, islice(into, _SHOWN_LINES))), None):
                    # An empty folder does not show whether its lines can be read: the next look may need NLST.
                    self._learn(listing="LIST -a" if self._lists_all.get(b"LIST") else "LIST", list_form=form)
                return list_line
            with tempfile.TemporaryFile() as names:
                without = await self._listed_all(wire, b"NLST", folder, names)
                if without is None and (names.tell() or (refused is not None and refused.code in _NOT_KNOWN)):
                    for file in (names, into):
                        file.seek(0)
                    into.truncate()
                    shutil.copyfileobj(names, into)
                    self._learn(listing="NLST -a" if self._lists_all.get(b"NLST") else "NLST")
                    return partial(nlst_line, folder=await wire.path(_folder(folder)))
            if refused is None:
                return list_line  # nobody can read it: that is counted and shown
            raise EndpointError(f"{self._address}: the folder {shown(folder)} cannot be listed ({refused.words})")

    async def _listed_all(self, wire: Wire, command: bytes, folder: str, into: IO[bytes]) -> Reply | None:
        # Without -a some leave out names that begin with a dot, and some take it for a name: only "." among the entries proves
        # that it was understood.
        refused = None
        for asked in (command + b" -a", command) if self._lists_all.get(command, True) else (command,):
            into.seek(0)
            into.truncate()
            refused = await self._listed(wire, asked, folder, into)
            if refused is None and asked != command:
                into.seek(0)
                self._lists_all[command] = any(re.fullmatch(rb"(d.* )?\.\s*", line) for line in into)
                if self._lists_all[command]:
                    break
        into.seek(0, SEEK_END)
        return refused

    async def _listed(self, wire: Wire, command: bytes, folder: str, into: IO[bytes]) -> Reply | None:
        async with wire.data(command, most=ftp_wire.LONGEST_LISTING) as data:
            if isinstance(data, Reply):
                wire.refuse(data)
                return data
            while block := await data.read():
                into.write(block)
            reply = await data.finish()
        if not reply.done:
            wire.refuse(reply)
            raise EndpointUnreachable(
                f"{self._address}: the listing of {shown(folder)} broke off ({reply.words}); it will be tried again"
            )
        return None

    async def _completed(self, folder: str, chunk: Sequence[tuple[Entry | Odd, bool]]) -> list[Entry | Odd]:
        """Ask what the listing does not tell exactly."""
        while True:
            async with self._lease() as wire:
                together = not wire.one_by_one
                try:
                    return await self._asked_about(wire, folder, chunk)
                except EndpointUnreachable:
                    if not (together and wire.one_by_one):
                        raise

    async def _asked_about(self, wire: Wire, folder: str, chunk: Sequence[tuple[Entry | Odd, bool]]) -> list[Entry | Odd]:
        whole = [await self._whole(wire, folder, told) if _doubtful(told) else told[0] for told in chunk]
        bare = await _paths(wire, folder, whole, _bare)
        for (number, told, path), reply in zip(
            bare, await wire.ask_each([b"SIZE " + path for _, _, path in bare]), strict=True
        ):
            whole[number] = await self._unfolded(wire, told, path, size_in(reply))
        timeless = await _paths(wire, folder, whole, _lacks_time) if wire.tells_times else []
        for (number, told, _), reply in zip(
            timeless, await wire.ask_each([b"MDTM " + path for _, _, path in timeless]), strict=True
        ):
            whole[number] = replace(told, modified=moment(reply))
        return whole

    async def _unfolded(self, wire: Wire, told: Entry, path: bytes, size: int | None) -> Entry | Odd:
        """What a bare name is. A server tells the size of files only, and goes only into folders."""
        if size is not None:
            return replace(told, kind=FileKind.FILE, size=size)
        return replace(told, kind=FileKind.FOLDER) if (await wire.ask(b"CWD " + path)).done else Odd(told.name)

    async def _whole(self, wire: Wire, folder: str, told: tuple[Entry | Odd, bool]) -> Entry | Odd:
        entry, half = told
        if isinstance(entry, Odd) or not _speakable(entry.name):
            return entry
        size = await wire.size(await wire.path(_folder(folder), entry.name))
        # No such file: it was the first half of a name with a line break.
        return Odd(entry.name) if half and size is None else replace(entry, size=size)

    # ----------------------------------------------------------------------------------------- one file each

    def _fetched(self, files: list[RemoteFile], kinds: _Kinds, into: Batch) -> Iterator[Fetched | Missed]:
        """Fetch some files. Those whose kind was not asked for by name are held back until a listing after it has told it."""
        held = list[tuple[Fetched, SpoolFile]]()
        try:
            for outcome, sink in self._each(files, partial(self._fetch, batch=into, kinds=kinds)):
                if isinstance(outcome, Fetched) and sink is not None and kinds.plain(outcome.file):
                    held.append((outcome, sink))
                else:
                    yield outcome
        except EndpointError:
            with suppress(EndpointError):
                yield from self._still_files(held)
            raise
        else:
            yield from self._still_files(held)
        finally:
            for _, sink in held:
                sink.keep()

    def _still_files(self, held: list[tuple[Fetched, SpoolFile]]) -> Iterator[Fetched | Missed]:
        """What was held back and is no link now; what was told is held no more."""
        if not held:
            return
        now = self._kinds({fetched.file.folder for fetched, _ in held})
        while held:
            fetched, sink = held[-1]
            missed = None if now.plain(fetched.file) else self._run(self._not_the_same(fetched.file))
            held.pop()
            if missed is not None:
                sink.discard()
            yield missed or fetched

    async def _not_the_same(self, file: RemoteFile) -> Missed | None:
        async with self._lease() as wire:
            return _differs(file, await wire.facts(await wire.path(_folder(file.folder), file.name)))

    async def _fetch(self, file: RemoteFile, batch: Batch, kinds: _Kinds) -> tuple[Fetched | Missed, SpoolFile | None]:
        missed = unfit(file) or _unfit(file)
        if missed is None:
            with _Kept(batch, resume_key(self._address, file)) as kept:
                while True:
                    with suppress(_OtherBytes):
                        async with self._lease() as wire:
                            missed = await self._read(wire, file, kept, sure=not kinds.plain(file))
                        break
                if missed is None:
                    done = kept.sink.finish()
                    return Fetched(file, done.digest, done.size), kept.sink
                kept.discard()
        return missed, None

    async def _read(self, wire: Wire, file: RemoteFile, kept: _Kept, *, sure: bool) -> Missed | None:
        """All bytes of a file, behind those that were kept; None if they are what it was before and is after."""
        path = await wire.path(_folder(file.folder), file.name)
        before: Entry | Reply | None = None
        # Of a small plain file whose time was listed a look before would tell no more than the look after: the same as was listed.
        if sure or file.modified is None or kept.sink.size:
            (before,), _ = await wire.facts_of([(path, sure)], data=True)
            if missed := _differs(file, before):
                return missed
        if missed := await self._brought(wire, path, file, kept, sure=sure):
            return missed
        # The connection for the next file's data is asked for on the way.
        (after,), _ = await wire.facts_of([(path, sure)], data=before is None, there=True)
        missed = _differs(file, after)
        if missed is None and before not in (None, after):
            missed = Missed(file, Outcome.CHANGED, "it was replaced while it was read; it was left alone")
        return missed

    async def _brought(self, wire: Wire, path: bytes, file: RemoteFile, kept: _Kept, *, sure: bool) -> Missed | None:
        sink = kept.sink
        if sink.size and not (self.capabilities.resume and await self._begins_so(wire, path, file, kept)):
            sink.restart()
        tail = sink.tail(COMPARED) if sink.size else b""
        async with wire.data(b"RETR " + path, sink.size - len(tail)) as data:
            if isinstance(data, Reply):
                if sink.size == 0:
                    return _differs(file, await wire.facts(path, sure=sure)) or await _refused(wire, file, path, data)
                sink.restart()  # this server cannot go on in the middle of this file
                raise _OtherBytes
            start = await data.read_at_least(len(tail))
            if not start.startswith(tail):
                sink.restart()
                raise _OtherBytes  # the transfer is broken off, and the connection with it is given up
            block = start[len(tail) :]
            while block or (block := await data.read()):
                if sink.size + len(block) > file.size:
                    reason = f"it has more than the {file.size} bytes that were listed; it was left alone"
                    return Missed(file, Outcome.CHANGED, reason)
                sink.write(block)
                block = b""
            reply = await data.finish()
        if not reply.done:
            return await _refused(wire, file, path, reply)
        if sink.size != file.size:
            reason = f"the server says that all was sent ({reply.words}), and sent {sink.size} of {file.size} bytes; nothing was kept"
            return Missed(file, Outcome.CHANGED, reason)
        return None

    async def _begins_so(self, wire: Wire, path: bytes, file: RemoteFile, kept: _Kept) -> bool:
        """Whether what stands there begins as what we hold: by digest, or the first bytes; the last are compared on the way."""
        sink = kept.sink
        if not 2 * COMPARED < sink.size <= file.size:
            return False
        told = await wire.sha256_of_first(path, sink.size, sink.head(1))
        if told is not None or kept.begins:
            return told in (None, sink.digest)
        async with wire.data(b"RETR " + path) as data:
            if isinstance(data, Reply):
                return False
            kept.begins = (await data.read_at_least(COMPARED)).startswith(sink.head(COMPARED))
            if not kept.begins:
                sink.restart()
            raise _OtherBytes  # no answer tells for sure where a transfer that we break off ends: go on on another connection

    async def _put(self, file: Outgoing, folder: str, exists: Exists, kinds: _Kinds) -> Placed | Missed:
        wanted = RemoteFile(folder, file.name, file.size, None)
        if missed := unfit(wanted) or _unfit(wanted):
            return missed
        temporary = temporary_name(file.name)
        async with self._lease() as wire:
            place = _folder(folder)
            final, hidden = await wire.path(place, file.name), await wire.path(place, temporary)
            wire.said.clear()
            sure = not kinds.plain(wanted)
            looked_for = [(final, sure), (hidden, True)] if goes_on(temporary) else [(final, sure)]
            (stands, *half), _ = await wire.facts_of(looked_for, data=True)
            if reason := _taken(stands, exists):
                return Missed(wanted, Outcome.EXISTS, reason)
            self._temporaries.add((folder, temporary))
            start = await self._ours_already(wire, file, hidden, half[0]) if half else 0
            answer: Placed | Missed | _Uploaded = await self._uploaded(wire, file, hidden, final, wanted, start, sure)
            if isinstance(answer, _Uploaded):
                self._doubtful[folder, temporary] = file
                answer = await self._named(wire, file, hidden, final, wanted, exists, answer)
                del self._doubtful[folder, temporary]
            if isinstance(answer, Placed) or (await wire.ask(b"DELE " + hidden)).done:
                self._temporaries.discard((folder, temporary))
            return answer

    async def _named(
        self, wire: Wire, file: Outgoing, hidden: bytes, final: bytes, wanted: RemoteFile, exists: Exists, whole: _Uploaded
    ) -> Placed | Missed:
        """Give a file that is whole its final name."""
        if reason := _taken(whole.stands, exists):
            return Missed(wanted, Outcome.EXISTS, reason)
        missed = await self._into_place(wire, hidden, final, wanted, exists, isinstance(whole.stands, Entry))
        if missed:
            return not_renamed(missed)
        return Placed(replace(wanted, modified=whole.modified), file.digest, whole.proof, tuple(wire.said))

    async def _ours_already(self, wire: Wire, file: Outgoing, hidden: bytes, stood: Entry | Reply) -> int:
        """How many of our bytes an upload that broke off has left under its temporary name. Anything else there is removed."""
        if isinstance(stood, Reply):
            return 0
        size = stood.size or 0
        if stood.kind in (FileKind.FILE, None) and 0 < size <= file.size and await self._begins_as(wire, file, hidden, size):
            return size
        await wire.ask(b"DELE " + hidden)
        return 0

    async def _begins_as(self, wire: Wire, file: Outgoing, hidden: bytes, size: int) -> bool:
        """Whether a server's file holds our first ``size`` bytes: by its digest, else by the last of them, read back."""
        with open_source(file) as source:
            if (told := await wire.sha256(hidden, size)) is not None:
                return told == (await asyncio.to_thread(_digest_of_next, source, size)).hexdigest()
            if not self.capabilities.resume:
                return False
            source.seek(max(0, size - COMPARED))
            ours = source.read(min(size, COMPARED))
        async with wire.data(b"RETR " + hidden, size - len(ours)) as data:
            if isinstance(data, Reply):
                return False
            theirs = await data.read_at_least(len(ours) + 1)
            reply = await data.finish()
        return reply.done and theirs == ours

    async def _uploaded(
        self, wire: Wire, file: Outgoing, hidden: bytes, final: bytes, wanted: RemoteFile, start: int, sure: bool
    ) -> _Uploaded | Missed:
        """All bytes under the temporary name, of which ``start`` stand there, and a look at the final name after that."""
        refused = Missed(wanted, Outcome.REFUSED, "")
        # Some servers let nobody write on in the middle of a file, some only at its end.
        for command, offset in ((b"STOR", start), (b"APPE", start), (b"STOR", 0)) if start else ((b"STOR", 0),):
            if refused.reason:
                await wire.ask(b"REST 0")
                if offset and await wire.size(hidden) != offset:
                    continue
                if not offset:
                    await wire.ask(b"DELE " + hidden)
            missed = await self._stored(wire, file, hidden, wanted, command, offset)
            if missed is None:
                question = wire.sha256_question(hidden)
                # The final name is looked at again, last: FTP's rename overwrites, and the upload may have taken long.
                (stood, stands), told = await wire.facts_of(
                    [(hidden, False), (final, sure)], question, seconds=wire.hashing_seconds(file.size) if question else None
                )
                proof = _proven(file, wanted, stood, *map(digest_in, told))
                if isinstance(proof, Proof):
                    return _Uploaded(_modified(stood), proof, stands)
                missed = proof
            refused = missed
            if refused.outcome is not Outcome.REFUSED:
                break
        return refused

    async def _stored(
        self, wire: Wire, file: Outgoing, hidden: bytes, wanted: RemoteFile, command: bytes, start: int
    ) -> Missed | None:
        """Send our bytes from ``start`` on. All of them are hashed."""
        with open_source(file) as source:
            digest = await asyncio.to_thread(_digest_of_next, source, start) if start else hashlib.sha256()
            if not start or start < file.size:
                async with wire.data(command + b" " + hidden, start if command == b"STOR" else 0) as data:
                    if isinstance(data, Reply):
                        wire.refuse(data)
                        return Missed(wanted, Outcome.REFUSED, data.words)
                    reply = await self._poured(source, data, wire, digest)
                if not reply.done:
                    # A file that is gone on with is tried in other ways first.
                    (wire.refuse if start else wire.not_kept)(reply)
                    return Missed(wanted, Outcome.REFUSED, reply.words)
                wire.said.append(reply.to(command.decode()))
        if digest.hexdigest() != file.digest:
            reason = "our source does not hold the bytes of its digest (any more); nothing was placed"
            return Missed(wanted, Outcome.CHANGED, reason)
        return None

    async def _poured(self, source: BinaryIO, data: Data, wire: Wire, digest: hashlib._Hash) -> Reply:
        """Send the rest of our source, hashed on its way; what the server says at the end."""
        try:
            while block := source.read(BLOCK):
                digest.update(block)
                await data.write(block)
        except EndpointUnreachable:
            # A server that refuses in mid-transfer closes the data connection first, and then says why, if it says anything.
            with suppress(EndpointUnreachable):
                wire.not_kept(await data.finish())
            raise
        return await data.finish()

    async def _rename(self, move: Move, exists: Exists, kinds: _Kinds) -> Moved:
        file, new_file = move.file, replace(move.file, folder=move.folder, name=move.name)
        if missed := unfit(file) or _unfit(file) or unfit(new_file) or _unfit(new_file):
            return Moved(file, missed.outcome, missed.reason)
        if reason := self._not_kept(move.name):
            return Moved(file, Outcome.ILLEGAL_NAME, reason)
        async with self._lease() as wire:
            old, new = await wire.path(_folder(file.folder), file.name), await wire.path(_folder(move.folder), move.name)
            (ours, stands), _ = await wire.facts_of([(old, not kinds.plain(file)), (new, not kinds.plain(new_file))])
            if missed := _differs(file, ours):
                return Moved(file, missed.outcome, missed.reason)
            if reason := _taken(stands, exists):
                return Moved(file, Outcome.EXISTS, reason)
            wire.said.clear()
            missed = await self._into_place(wire, old, new, file, exists, isinstance(stands, Entry))
            if missed is None:
                return Moved(file, Outcome.DONE, replies=tuple(wire.said))
            await wire.enter(_folder(move.folder))  # raises if that is why
            return Moved(file, missed.outcome, missed.reason)

    async def _put_directly(self, file: Outgoing, folder: str) -> Placed | Missed:
        """Write a file under its own name, which must be free. Only what we have created ourselves is ever removed."""
        wanted = RemoteFile(folder, file.name, file.size, None)
        if missed := unfit(wanted) or _unfit(wanted):
            return missed
        async with self._lease() as wire:
            final = await wire.path(_folder(folder), file.name)
            if reason := _taken(await wire.facts(final), Exists.REFUSE):
                return Missed(wanted, Outcome.EXISTS, reason)
            digest = hashlib.sha256()
            with open_source(file) as source:
                async with wire.data(b"STOR " + final) as data:
                    if isinstance(data, Reply):
                        wire.refuse(data)
                        return Missed(wanted, Outcome.REFUSED, data.words)
                    self._temporaries.add((folder, file.name))
                    reply = await self._poured(source, data, wire, digest)
            stands = await wire.facts(final, sure=False) if reply.done else reply
            told = await wire.sha256(final, file.size) if isinstance(stands, Entry) else None
            held = stands.size if isinstance(stands, Entry) else None
            missed = None
            if not reply.done:
                wire.refuse(reply)
                missed = Missed(wanted, Outcome.REFUSED, reply.words)
            elif digest.hexdigest() != file.digest:
                missed = Missed(wanted, Outcome.CHANGED, "our source does not hold the bytes of its digest (any more)")
            elif held not in (file.size, None) or told not in (file.digest, None):
                missed = Missed(
                    wanted, Outcome.REFUSED, f"the server holds {held} of {file.size} bytes, or others than were sent"
                )
            gone = await wire.ask(b"DELE " + final) if missed else None
            if missed is None or (gone is not None and gone.done):
                self._temporaries.discard((folder, file.name))
            if missed is not None and gone is not None:
                return missed if gone.done else remains(missed, "its final name", gone.words)
            proof = Proof.SERVER_HASH if told else Proof.UNVERIFIABLE if held is None else Proof.SIZE_ONLY
            return Placed(replace(wanted, modified=_modified(stands)), file.digest, proof, (reply.to("STOR"),))

    async def _made(self, folder: str) -> None:
        async with self._lease() as wire:
            path = await wire.path(_folder(folder))
            if (await wire.ask(b"CWD " + path)).done:
                return
            for end in [*(n for n, byte in enumerate(path) if byte == ord("/") and n), len(path)]:
                made = await wire.ask(b"MKD " + path[:end])
            # What is there already is refused like what may not be made: whether we can go in tells the two apart.
            if not made.done and not (await wire.ask(b"CWD " + path)).done:
                raise EndpointError(
                    f"{self._address}: the folder {shown(folder)} cannot be created ({made.words}); nothing was placed"
                )

    async def _remove(self, file: RemoteFile, kinds: _Kinds) -> Moved:
        missed = unfit(file) or _unfit(file)
        if missed is None:
            async with self._lease() as wire:
                path = await wire.path(_folder(file.folder), file.name)
                if (missed := _differs(file, await wire.facts(path, sure=not kinds.plain(file)))) is None:
                    reply = await wire.ask(b"DELE " + path)
                    missed = None if reply.done else await _refused(wire, file, path, reply)
        return Moved(file, missed.outcome, missed.reason) if missed else Moved(file, Outcome.DONE)

    async def _into_place(
        self, wire: Wire, old: bytes, new: bytes, file: RemoteFile, exists: Exists, over: bool
    ) -> Missed | None:
        """Rename, ``over`` a file that stood there just now."""
        missed = await self._renamed_to(wire, old, new, file, exists, over)
        if missed is None or missed.outcome is Outcome.REFUSED:
            self._learn_of_rename(new, done=missed is None)
        return missed

    async def _renamed_to(
        self, wire: Wire, old: bytes, new: bytes, file: RemoteFile, exists: Exists, over: bool
    ) -> Missed | None:
        if not (over and self._known.rename_replaces is False):
            reply = await _renamed(wire, old, new)
            if reply.done:
                wire.said.append(reply.to("RNTO"))
                if over:
                    self._learn(rename_replaces=True)
                return None
            if exists is Exists.REFUSE or not isinstance(await wire.facts(new, sure=False), Entry):
                return await _refused(wire, file, old, reply)
        # This server does not rename over a file, so for a moment nothing stands under the name; the old file is set aside
        # rather than removed, and put back if ours cannot take its place.
        aside = new[: new.rfind(b"/") + 1] + temporary_name()
        if not (reply := await _renamed(wire, new, aside)).done:
            return await _refused(wire, file, old, reply)
        reply = await _renamed(wire, old, new)
        if reply.done:
            wire.said.append(reply.to("RNTO"))
            self._learn(rename_replaces=False)
            await wire.ask(b"DELE " + aside)
            return None
        back = await _renamed(wire, aside, new)
        missed = await _refused(wire, file, old, reply)
        if not back.done:
            return replace(missed, reason=set_aside(missed.reason, aside[aside.rfind(b"/") + 1 :], back.words))
        return missed

    # ----------------------------------------------------------------------------------------- after a break

    def _settle(self) -> Iterator[Placed | Missed]:
        """Look on a new connection what became of renames whose answers were lost."""
        doubtful, self._doubtful = self._doubtful, {}
        for (folder, temporary), file in doubtful.items():
            wanted = RemoteFile(folder, file.name, file.size, None)
            with suppress(EndpointError):
                left, stands, told = self._run(self._looked_for(folder, temporary, file))
                if isinstance(left, Entry):
                    continue  # it was not renamed; the error that follows says so
                whole = isinstance(stands, Entry) and stands.kind in (FileKind.FILE, None) and stands.size == file.size
                if whole and told in (file.digest, None):
                    self._temporaries.discard((folder, temporary))
                    proof = Proof.SERVER_HASH if told else Proof.SIZE_ONLY
                    yield Placed(replace(wanted, modified=_modified(stands)), file.digest, proof)
                    continue
            reason = "the answer to its rename was lost, and looking did not tell; look at the server before sending it again"
            yield Missed(wanted, Outcome.UNKNOWN, reason)

    async def _looked_for(
        self, folder: str, temporary: bytes, file: Outgoing
    ) -> tuple[Entry | Reply, Entry | Reply, str | None]:
        async with self._lease() as wire:
            left = await wire.facts(await wire.path(_folder(folder), temporary), sure=False)
            final = await wire.path(_folder(folder), file.name)
            stands = await wire.facts(final)
            return left, stands, await wire.sha256(final, file.size) if isinstance(stands, Entry) else None

    def _tidy(self) -> None:
        """Remove what we left under temporary names."""
        for folder, temporary in list(self._temporaries):
            self._run(self._removed(folder, temporary))
            self._temporaries.discard((folder, temporary))

    async def _removed(self, folder: str, temporary: bytes) -> None:
        async with self._lease() as wire:
            await wire.ask(b"DELE " + await wire.path(_folder(folder), temporary))

    def _must_stand(self, folder: str, standing: set[str]) -> None:
        """A missing folder is an error, not a folder whose files have all gone."""
        if folder not in standing:
            self._run(self._enter(folder))
            standing.add(folder)

    async def _enter(self, folder: str) -> None:
        async with self._lease() as wire:
            await wire.enter(_folder(folder))

    # ----------------------------------------------------------------------------------------- many at a time

    def _each(self, items: Iterable[Item], act: Callable[[Item], Coroutine[Any, Any, T]]) -> Iterator[T]:
        """Act on each item, many in flight; answers in any order. What was complete is told before an error is raised."""
        source = iter(items)  # the caller's own generator: read in the caller's thread, as it may use this very session
        landed, flying = SimpleQueue[list[asyncio.Task[T]]](), 0
        flight = _Flight(landed)
        try:
            while True:
                most = self._limit * (_WAITING_FOR_ANOTHER + 1)  # it may fall meanwhile
                # Several at a time: to wake the loop for each would cost as much as some files do.
                if flying <= most // 2 and (works := [act(item) for item in islice(source, most - flying)]):
                    self._call(flight.begin, works)
                    flying += len(works)
                if not flying:
                    return
                tasks = landed.get()
                flying -= len(tasks)
                if errors := [error for task in tasks if (error := _failure(task)) is not None]:
                    self._run(flight.call_off())
                    while flying:
                        tasks += (others := landed.get())
                        flying -= len(others)
                for task in tasks:
                    if not task.cancelled() and task.exception() is None:
                        yield task.result()
                if errors:
                    raise errors[0]
        finally:
            if flying and self._slots is not None:
                self._run(flight.call_off())

    def _call(self, begin: Callable[[Sequence[Coroutine[Any, Any, T]]], None], works: Sequence[Coroutine[Any, Any, T]]) -> None:
        """Have works begun in the loop's thread."""
        if self._slots is None:
            for work in works:
                work.close()
            raise EndpointError(f"{self._address}: the session is closed")
        self._loop.call_soon_threadsafe(begin, works)

    def _begun(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if self._slots is None:
            work.close()
            raise EndpointError(f"{self._address}: the session is closed")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the loop's thread and wait for it; all its own waits have deadlines."""
        future = self._begun(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    # ----------------------------------------------------------------------------------------- connections

    async def _first(self) -> EndpointCapabilities:
        async with self._lease() as wire:
            self._links_only_listed = not {"MLST", "MLSD"} & wire.features.keys()
            self._learn(
                server=_lasting(wire.banner)[:_LONGEST_WORDS],
                offers=tuple(sorted(shown(f"{word} {rest}".strip())[:_LONGEST_WORDS] for word, rest in wire.features.items())),
                hashes=("sha256",) if wire.hashes else (),
                resumes="STREAM" in wire.features.get("REST", "").upper(),
                tells_times="MDTM" in wire.features or "MLST" in wire.features if wire.features else None,
            )
            return EndpointCapabilities(
                server=wire.banner,
                fingerprint=wire.certificate,
                hashes=("sha256",) if wire.hashes else (),
                resume="STREAM" in wire.features.get("REST", "").upper(),
                read_bytes=BLOCK,
                write_bytes=BLOCK,
            )

    @asynccontextmanager
    async def _lease(self) -> AsyncIterator[Wire]:
        """A connection for a while: an idle one, or another one if many wait and the limits allow it."""
        wire = await self._wire()
        try:
            yield wire
        finally:
            self._note(wire)
            if wire.usable:
                wire.idle_since = self._loop.time()
                self._idle.append(wire)
            else:
                self._open -= 1
            self._next()

    def _note(self, wire: Wire) -> None:
        """What a connection has found out about its server."""
        self._learn(protection=wire.tls or "none")
        if wire.tls_reuse is not None:
            self._learn(tls_reuse=wire.tls_reuse or bool(self.personality.tls_reuse))
        if Wire.careful.seen(self._door.server):
            self._learn(one_by_one=True)
        if wire.extended_passive is not None:
            self._learn(extended_passive=wire.extended_passive)

    async def _wire(self) -> Wire:
        while True:
            while not self._idle:
                if self._may_open():
                    return await self._another()
                turn = self._loop.create_future()
                self._queue.append(turn)
                try:
                    await turn
                except asyncio.CancelledError:
                    if not turn.cancelled():
                        self._next()  # it was our turn just now
                    raise
            wire = self._idle.pop()
            if await wire.alive(self._loop.time()):
                return wire
            self._open -= 1  # the server or a firewall has forgotten it

    def _next(self, count: int = 1) -> None:
        """Have the first of those who wait look whether there is a connection for it."""
        while self._queue and count:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                count -= 1

    async def _another(self) -> Wire:
        self._open += 1
        try:
            return await self._connected()
        except BaseException as error:
            self._open -= 1
            if not (isinstance(error, EndpointBusy) and self._open):
                self._next(len(self._queue))
                raise
            # The server lets in fewer of us than was agreed: go on with those that are.
            self._limit = self._open
            return await self._wire()

    async def _connected(self) -> Wire:
        wire = Wire(self._door)
        self._remind(wire)
        together = not wire.one_by_one
        try:
            await wire.open()
            await wire.sign_in(self._endpoint.username, self._password)
        except BaseException as error:
            wire.abandon()
            if not (together and wire.one_by_one and isinstance(error, EndpointUnreachable)):
                raise
            return await self._connected()
        return wire

    def _may_open(self) -> bool:
        """True if another connection is worth its cost and allowed. The first is always."""
        if self._open == 0:
            return True
        if self._open >= self._limit or len(self._queue) + 1 < self._open * _WAITING_FOR_ANOTHER or self._slots is None:
            return False
        if self._open == self._places:
            self._places += self._slots.take_if_free(self._limit)
        return self._open < self._places

    async def _leave(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.gather(*(wire.leave() for wire in self._idle))
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()


@dataclass(slots=True)
class _Kinds:
    """What stood in some folders when this was made, and was no plain file."""

    folders: dict[str, set[bytes]] = field(default_factory=dict)
    """Names, without blanks at their ends: some servers lose them in listings."""
    hidden_too: bool = False
    """Names that begin with a dot were listed too."""

    def plain(self, file: RemoteFile) -> bool:
        """Whether a plain file or nothing stood there, and nobody need be asked for the kind of what is small."""
        listed = self.folders.get(file.folder)
        if listed is None or file.size > _SMALL or (file.name.startswith(b".") and not self.hidden_too):
            return False
        return file.name.strip() not in listed


class _OtherBytes(Exception):
    """This connection is given up in the middle of a file: begin again with what is kept (perhaps nothing), on another one."""


@dataclass(frozen=True, slots=True)
class _Uploaded:
    """A file that is whole under its temporary name."""

    modified: datetime | None
    proof: Proof
    stands: Entry | Reply
    """What stood under its final name after that."""


class _Kept:
    """A file on its way into a batch, opened when it is first needed; kept for later if it breaks off."""

    def __init__(self, batch: Batch, key: str) -> None:
        self._batch, self._key = batch, key
        self._sink: SpoolFile | None = None
        self.begins = False
        """The first bytes of what is kept were compared."""

    @property
    def sink(self) -> SpoolFile:
        if self._sink is None:
            self._sink = self._batch.open(self._key)
        return self._sink

    def discard(self) -> None:
        if self._sink is not None:
            self._sink.discard()
            self._sink = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and self._sink is not None:
            self._sink.keep()


class _Flight(Generic[T]):
    """The works of one call that are under way in the loop. They come to ``landed`` when they are done, whatever became of them.

    Several at a time where they are done one after the other: to wake the caller's thread for each costs as much as to read a small file.
    """

    def __init__(self, landed: SimpleQueue[list[asyncio.Task[T]]]) -> None:
        self._tasks, self._landed = set[asyncio.Task[T]](), landed
        self._done = list[asyncio.Task[T]]()
        self._telling: asyncio.TimerHandle | None = None

    def begin(self, works: Sequence[Coroutine[Any, Any, T]]) -> None:
        for work in works:
            task = asyncio.get_running_loop().create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._is_done)

    def _is_done(self, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        self._done.append(task)
        if not self._tasks:
            self._tell()
        elif self._telling is None:
            self._telling = task.get_loop().call_later(_TOLD_SECONDS, self._tell)

    def _tell(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self._done:
            self._landed.put(self._done)
            self._done = []

    async def call_off(self) -> None:
        """End all, and wait until they have ended: their files are closed, their connections given up."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _failure(task: asyncio.Task[Any]) -> BaseException | None:
    """Why a task failed; None if it was called off, or did not fail."""
    return None if task.cancelled() else task.exception()


# --------------------------------------------------------------------------------------------- names and answers


_NOW = re.compile(r"\d{1,2}:\d{2}|\b(users?|connections?|sessions?|clients?|process|pid)\b", re.IGNORECASE)
_PASSING = re.compile(
    r"\d+|\b(mon|tue|wed|thu|fri|sat|sun|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*", re.IGNORECASE
)


def _lasting(banner: str) -> str:
    """A greeting as it is at every visit: many hold the time of day, or how many users there are."""
    return " / ".join(_PASSING.sub("…", line) if _NOW.search(line) else line for line in banner.split(" / "))


def _folder(folder: str) -> bytes:
    return folder.encode("utf-8", "surrogateescape")


def _speakable(name: bytes) -> bool:
    return legal(name) and b"\r" not in name and b"\n" not in name


def _unfit(file: RemoteFile) -> Missed | None:
    """FTP ends a command with a line break: no name with one can be said. A part of it would be another command."""
    if _speakable(file.name):
        return None
    return Missed(file, Outcome.ILLEGAL_NAME, "FTP cannot carry a name with a line break; ask the partner to rename it")


def _doubtful(told: tuple[Entry | Odd, bool]) -> bool:
    """Whether a listed file has no size, or may be half a name."""
    entry, half = told
    return isinstance(entry, Entry) and entry.kind in (FileKind.FILE, None) and (half or entry.size is None)


def _lacks_time(entry: Entry) -> bool:
    return entry.kind in (FileKind.FILE, None) and entry.modified is None and _speakable(entry.name)


def _bare(entry: Entry) -> bool:
    """Whether it is a name and nothing else."""
    return entry.kind is None and entry.size is None and entry.modified is None and _speakable(entry.name)


def _incomplete(told: tuple[Entry | Odd, bool]) -> bool:
    return _doubtful(told) or (isinstance(told[0], Entry) and (_lacks_time(told[0]) or _bare(told[0])))


async def _paths(
    wire: Wire, folder: str, listed: Sequence[Entry | Odd], lacks: Callable[[Entry], bool]
) -> list[tuple[int, Entry, bytes]]:
    """Number, entry and path of those of which something is lacking."""
    return [
        (number, told, await wire.path(_folder(folder), told.name))
        for number, told in enumerate(listed)
        if isinstance(told, Entry) and lacks(told)
    ]


def _readable(listing: IO[bytes], parse: Parse) -> bool:
    listing.seek(0)
    return readable(iter(lambda: listing.readline(LONGEST_LINE), b""), parse)


def _differs(file: RemoteFile, now: Entry | Reply) -> Missed | None:
    """Why what stands there is not the file we saw. What the server does not tell is not held against it."""
    if isinstance(now, Reply):
        outcome = Outcome.VANISHED if now.code in (450, 550) else Outcome.REFUSED
        return Missed(file, outcome, now.words)
    size = file.size if now.size is None and now.kind in (FileKind.FILE, None) else now.size
    return differs(file, now.kind, size, now.modified or file.modified)


def _modified(stands: Entry | Reply) -> datetime | None:
    return stands.modified if isinstance(stands, Entry) else None


def _proven(file: Outgoing, wanted: RemoteFile, stood: Entry | Reply, told: str | None = None) -> Proof | Missed:
    """Whether the server holds our bytes, by its own count and digest where it tells them."""
    if not isinstance(stood, Entry) or stood.size is None:
        return Proof.UNVERIFIABLE
    if stood.size != file.size:
        return Missed(wanted, Outcome.REFUSED, f"the server holds {stood.size} of {file.size} bytes; nothing was placed")
    if told not in (None, file.digest):
        reason = f"the server holds other bytes (digest {told[:16]}…) than were sent; nothing was placed"
        return Missed(wanted, Outcome.REFUSED, reason)
    return Proof.SERVER_HASH if told else Proof.SIZE_ONLY


def _digest_of_next(source: BinaryIO, count: int) -> hashlib._Hash:
    """Of the next ``count`` bytes, or of as many as there are."""
    digest = hashlib.sha256()
    while count and (block := source.read(min(BLOCK, count))):
        digest.update(block)
        count -= len(block)
    return digest


def _taken(stands: Entry | Reply, exists: Exists) -> str:
    """Why a name cannot be ours; "" if it can."""
    if not isinstance(stands, Entry):
        return ""
    if exists is Exists.REFUSE:
        return "the name is taken; nothing was overwritten"
    return "" if stands.kind in (FileKind.FILE, None) else f"a {stands.kind} has this name; it was not replaced"


async def _refused(wire: Wire, file: RemoteFile, path: bytes, reply: Reply) -> Missed:
    """What a refusal means for one file. Raises if it concerns more than this one."""
    wire.refuse(reply)
    gone = reply.code in (450, 550) and isinstance(await wire.facts(path, sure=False), Reply)
    return Missed(file, Outcome.VANISHED if gone else Outcome.REFUSED, reply.words)


async def _renamed(wire: Wire, old: bytes, new: bytes) -> Reply:
    known, renamed = await wire.ask_each([b"RNFR " + old, b"RNTO " + new])
    # Only a refusal of the first speaks for both: some servers greet RNFR with a code of success.
    return known if known.code >= 400 else renamed
