"""SFTP: a partner's server behind SSH. ``ssh`` connects and signs in; ``sftp_engine`` moves the bytes, or ``sftp_stock`` does.

::

    SftpSession ── what is done to one file, as routines ─▶ Engine   many requests in flight
                                                            Stock    one at a time, where a server cannot have several waiting
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal

import paramiko
from pydantic import Field, field_validator

from blocks.endpoints import sftp_engine as engine
from blocks.endpoints import ssh
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
    read_source,
    remains,
    resume_key,
    set_aside,
    temporary_name,
    unfit,
)
from blocks.endpoints.connections import OneByOne, Slots
from blocks.endpoints.legacy import Legacy, allowed
from blocks.endpoints.sftp_engine import Answer, Attributes, Crowded, Engine, Muddled, Routine, Status, T, Wire, Work
from blocks.endpoints.sftp_packetizer import quicken
from blocks.endpoints.sftp_stock import Stock
from blocks.endpoints.ssh import Line, translated
from blocks.errors import EndpointError, EndpointFull, EndpointUnreachable, EndpointUnsuitable, SpoolError
from blocks.pace import SLOWEST, Pace
from blocks.spool import CHUNK, HELD, Batch, SpoolFile
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
    shown,
)

_PROOF_SECONDS = 10.0
"""How long a server may take for any of several requests that wait at once."""
_PROOFS = 2
"""How often it must have failed to answer them before it is asked one at a time: once may be chance."""


class Sftp(Endpoint):
    """A partner's place for files on an SFTP server, with its host keys pinned."""

    _block_type_name: ClassVar[str | None] = "Countersign SFTP endpoint"
    _block_type_slug: ClassVar[str | None] = "countersign-sftp"
    protocol: ClassVar[str] = "sftp"

    host: ssh.Host
    port: ssh.Port = 22
    username: ssh.Username
    password: ssh.Password = None
    private_key: ssh.PrivateKey = None
    passphrase: ssh.Passphrase = None
    certificate: ssh.Certificate = None
    host_keys: ssh.HostKeys = ()
    jump: tuple[ssh.Jump, ...] = Field(
        default=(), description="Jump hosts in their order, where the server is reached through others; each with its own pins"
    )
    engine: Literal["auto", "pipelined", "stock"] = Field(
        default="auto",
        description="How many requests wait at the server at once: many (pipelined), one (stock, slow), or what it can bear (auto)",
    )
    connection_limit: int = Field(
        default=4, ge=1, description="Most connections to this server at a time from one of our processes"
    )
    legacy: Legacy | None = Field(
        default=None,
        description="Outdated ciphers and MACs that this one server may use, up to a date: algorithms, until, reason",
    )

    @field_validator("legacy")
    @classmethod
    def _known_ones(cls, legacy: Legacy | None) -> Legacy | None:
        if legacy is not None:
            legacy.must_be_among(ssh.OUTDATED)
        return legacy

    @property
    def address(self) -> str:
        return f"sftp://{self.username}@{self.host}:{self.port}"

    def session(self) -> SftpSession:
        """Connect, compare the host key with the pins, sign in."""
        return SftpSession(self)

    def expect(self, known: Personality) -> None:
        _CAREFUL.expect(self.address, known.one_by_one)


# --------------------------------------------------------------------------------------------- the session


class SftpSession(EndpointSession):
    """Signed in to one SFTP server. After a verb that was broken off, the next one opens a channel of its own."""

    def __init__(self, endpoint: Sftp) -> None:
        self._endpoint, self._address = endpoint, endpoint.address
        self._line: Line | None = None
        self._wire_in_use: Wire | None = None
        self._temporaries: set[bytes] = set()
        """Paths of uploads under way: ours to remove, whatever happens."""
        self._slots: Slots | None = Slots.of(endpoint.host, endpoint.port)
        self._slots.take(endpoint.connection_limit, endpoint.timeout_seconds, self._address)
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._slots is None:
            return
        try:
            if self._line is not None:
                with suppress(EndpointError):
                    self._tidy()
                self._line.end()
        finally:
            self._slots.give()
            self._slots = None

    # ----------------------------------------------------------------------------------------- the five verbs

    def look(self, folder: str) -> Iterator[RemoteFile]:
        wire, pace = self._wire(), Pace(self._address, self._endpoint.timeout_seconds, EndpointUnreachable)
        for page in self._noting(wire.listing(_path(folder))):
            pace.moved(SLOWEST * len(page))
            for name, told in page:
                if name in (b".", b".."):
                    continue
                if told.size is None or told.mode is None:
                    told = _whole(wire.ask(engine.lstat(_path(folder, name))) if legal(name) else told, told)
                self._notice(name)
                yield RemoteFile(folder, name, told.size or 0, told.modified, likely_kind(told.kind, told.size))

    def fetch(self, files: Iterable[RemoteFile], into: Batch) -> Iterator[Fetched | Missed]:
        return self._read(files, into, self._fetch)

    def read_back(self, files: Iterable[RemoteFile], into: Batch) -> Iterator[Fetched | Missed]:
        return self._read(files, into, self._read_back)

    def _read(
        self,
        files: Iterable[RemoteFile],
        into: Batch,
        read: Callable[[RemoteFile, Batch, Wire], Routine[Fetched | Missed]],
    ) -> Iterator[Fetched | Missed]:
        wire = self._wire()
        works = (Work(partial(read, file, into, wire), max(0, file.size)) for file in files)
        standing: set[str] = set()
        with closing(self._noting(wire.run(works))) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, Missed) and outcome.outcome is Outcome.VANISHED:
                    self._must_stand(outcome.file.folder, standing, wire)
                yield outcome

    def put(self, files: Sequence[Outgoing], folder: str, *, exists: Exists = Exists.REFUSE) -> Iterator[Placed | Missed]:
        wire = self._wire()
        self._send_as(file.name for file in files)
        doubtful: dict[bytes, Outgoing] = {}
        works = (
            Work(
                partial(self._put_directly, file, folder, wire)
                if self._endpoint.direct_write
                else partial(self._put, file, folder, exists, wire, doubtful),
                min(file.size, engine.UPLOAD_WINDOW),
            )
            for file in files
        )
        try:
            with closing(self._noting(wire.run(works))) as outcomes:
                yield from outcomes
        except (EndpointError, SpoolError, OSError) as error:
            lost = isinstance(error, EndpointUnreachable)
            if lost or doubtful:
                yield from self._settle(doubtful, folder)
            if lost:
                self._temporaries = {path for path in self._temporaries if not goes_on(path[path.rfind(b"/") + 1 :])}
            raise
        finally:
            with suppress(EndpointError):
                self._tidy()

    def make_folder(self, folder: str) -> None:
        wire = self._wire()
        path, words = _path(folder), "something else has its name"
        for end in [*(n for n, byte in enumerate(path) if byte == ord("/") and n), len(path)]:
            if isinstance(wire.ask(engine.stat(path[:end])), Status):
                made = engine.status(wire.ask(engine.mkdir(path[:end])))
                words = made.words
                if made.code == engine.OK and end == len(path):
                    return
        # Somebody else may have made it meanwhile.
        stands = wire.ask(engine.stat(path))
        if not isinstance(stands, Attributes) or stands.kind not in (FileKind.FOLDER, None):
            raise EndpointError(f"{self._address}: the folder {shown(folder)} cannot be created ({words}); nothing was placed")

    def rename(self, moves: Iterable[Move], *, exists: Exists = Exists.REFUSE) -> Iterator[Moved]:
        wire = self._wire()
        standing: set[str] = set()
        with closing(self._noting(wire.run(Work(partial(self._rename, move, exists)) for move in moves))) as outcomes:
            for moved in outcomes:
                if moved.outcome is Outcome.VANISHED:
                    self._must_stand(moved.file.folder, standing, wire)
                yield moved

    def remove(self, files: Iterable[RemoteFile]) -> Iterator[Moved]:
        wire = self._wire()
        standing: set[str] = set()
        with closing(self._noting(wire.run(Work(partial(self._remove, file)) for file in files))) as outcomes:
            for moved in outcomes:
                if moved.outcome is Outcome.VANISHED:
                    self._must_stand(moved.file.folder, standing, wire)
                yield moved

    # ----------------------------------------------------------------------------------------- one file each

    def _fetch(self, file: RemoteFile, batch: Batch, wire: Wire) -> Routine[Fetched | Missed]:
        if missed := unfit(file):
            return missed
        path = _path(file.folder, file.name)
        # Looked at before it is opened: opening a FIFO would block the server's process, opening a link would follow it.
        look = engine.lstat(path)
        before = yield [look]
        if missed := _differs(file, before):
            return missed
        opened = yield [engine.open_to_read(path)]
        if isinstance(opened, Status):
            missed = _missed(file, opened)
            if opened.code == engine.FAILURE:
                raise Crowded(missed)
            return missed
        handle = engine.handle(opened)
        small = file.size < min(HELD, wire.read_bytes)  # comes in one answer, usually: nothing to go on with
        sink = batch.open(None if small else resume_key(self._address, file))
        try:
            if sink.size:
                head, tail = sink.head(COMPARED), sink.tail(COMPARED)
                first = yield from engine.read_exactly(handle, 0, len(head), wire)
                last = yield from engine.read_exactly(handle, sink.size - len(tail), len(tail), wire)
                if sink.size > file.size or (first, last) != (head, tail):
                    sink.restart()
            whole = (yield [engine.read(handle, 0, file.size + 1)]) if small else b""
            if isinstance(whole, bytes | memoryview) and 0 < len(whole) == file.size:
                sink.write(whole)
                verdict = engine.FINE
            else:  # it is large or empty, or not as it was listed, or comes in short answers: all is asked for, and told apart
                paced = _Paced(sink, Pace(self._address, self._endpoint.timeout_seconds, EndpointUnreachable))
                verdict = yield from engine.read_into(paced, handle, file.size, wire)
            held = yield [engine.fstat(handle), engine.close(handle), look]
            yield ()
            named = yield ()
        except BaseException:
            sink.keep()
            raise
        missed = None
        if verdict.code in (engine.EOF, engine.FAILURE) and isinstance(named, Attributes):
            missed = Missed(file, Outcome.CHANGED, f"{verdict.message}; it was left alone")
        elif verdict.code != engine.OK:
            missed = _missed(file, verdict)
        elif not before == held == named:
            # The name may have been pointed elsewhere for a moment: what we had open must be what stands there now.
            missed = _differs(file, held) or _differs(file, named)
            if missed is None and held != named:
                missed = Missed(file, Outcome.CHANGED, "it was replaced while it was read; it was left alone")
        if missed:
            sink.discard()
            return missed
        done = sink.finish()
        return Fetched(file, done.digest, done.size)

    def _read_back(self, file: RemoteFile, batch: Batch, wire: Wire) -> Routine[Fetched | Missed]:
        """A small file of ours, in three requests instead of six: what its name leads to is told by its bytes alone.

        Should somebody have put a pipe there meanwhile, our wait ends it. Whatever is not as long as it should be is fetched the
        long way, which tells why.
        """
        if unfit(file) is None and 0 < file.size < min(HELD, wire.read_bytes):
            opened = yield [engine.open_to_read(_path(file.folder, file.name))]
            if not isinstance(opened, Status):
                handle = engine.handle(opened)
                whole = yield [engine.read(handle, 0, file.size + 1), engine.close(handle)]
                yield ()
                if isinstance(whole, bytes | memoryview) and len(whole) == file.size:
                    sink = batch.open(None)
                    sink.write(whole)
                    done = sink.finish()
                    return Fetched(file, done.digest, done.size)
        return (yield from self._fetch(file, batch, wire))

    def _put(
        self, file: Outgoing, folder: str, exists: Exists, wire: Wire, doubtful: dict[bytes, Outgoing]
    ) -> Routine[Placed | Missed]:
        wanted = RemoteFile(folder, file.name, file.size, None)
        if missed := unfit(wanted):
            return missed
        hidden = temporary_name(file.name)
        final, temporary = _path(folder, file.name), _path(folder, hidden)
        whole = read_source(file) if file.size < min(HELD, wire.write_bytes) else None
        if whole is not None and goes_on(hidden) and self.personality.renames:
            placed = yield from self._put_written_down(file, whole, folder, final)
            if placed is not None:
                return placed
        stands = yield [engine.lstat(final)]
        if reason := _taken(stands, exists):
            return Missed(wanted, Outcome.EXISTS, reason)
        # By the end of the upload nothing may stand there any more: too late to learn from, early enough to save a refusal.
        over = self._known.rename_replaces is False and isinstance(stands, Attributes)
        if whole is not None and hashlib.sha256(whole).hexdigest() != file.digest:
            return Missed(wanted, Outcome.CHANGED, _OTHER_BYTES)
        handle, start = (yield from self._ours_already(file, temporary, wire)) if goes_on(hidden) else (b"", 0)
        opened = handle or (yield [engine.open_new(temporary)])
        if isinstance(opened, Status):
            if opened.code == engine.NO_SUCH_FILE:
                raise EndpointError(
                    f"{self._address}: the folder {shown(folder)} does not exist; create it or correct the profile"
                )
            yield from self._must_have_room(opened, folder, file.size, wire)
            missed = _missed(wanted, opened)
            if opened.code == engine.FAILURE:
                raise Crowded(missed)
            return missed
        handle = engine.handle(opened)
        self._temporaries.add(temporary)
        look = engine.lstat(temporary)
        if whole is not None:
            written, closed, stood = yield from engine.each([engine.write(handle, 0, whole), engine.close(handle), look])
            verdict = engine.status(written)
        else:
            digest = hashlib.sha256()
            with open_source(file) as source:
                while start and source.tell() < start and (data := source.read(min(CHUNK, start - source.tell()))):
                    digest.update(data)
                verdict = yield from engine.write_from(source, handle, wire, self._paced_seen(digest.update), start)
            closed = yield [engine.close(handle)]
            stood = None
        if verdict.code == engine.OK and isinstance(closed, Status):
            verdict = closed  # a server may tell only now that it could not keep the bytes
        if verdict.code != engine.OK:
            yield from self._must_have_room(verdict, folder, file.size, wire)
            return (yield from self._give_up(temporary, _missed(wanted, verdict)))
        if whole is None and digest.hexdigest() != file.digest:
            return (yield from self._give_up(temporary, Missed(wanted, Outcome.CHANGED, _OTHER_BYTES)))
        if not isinstance(stood, Attributes) or stood.size != file.size:
            stood = yield [look]  # for the first time, or again: what is asked for together may be done in any order
        proof = Proof.SIZE_ONLY if isinstance(stood, Attributes) else Proof.UNVERIFIABLE
        if isinstance(stood, Attributes) and (stood.size != file.size or stood.kind not in (FileKind.FILE, None)):
            reason = f"the server holds {stood.size} of {file.size} bytes; nothing was placed"
            return (yield from self._give_up(temporary, Missed(wanted, Outcome.REFUSED, reason)))
        doubtful[temporary] = file
        renamed = yield from self._into_place(temporary, final, exists, over)
        del doubtful[temporary]
        if renamed.code == engine.OK:
            self._temporaries.discard(temporary)
            modified = stood.modified if isinstance(stood, Attributes) else None
            return Placed(replace(wanted, modified=modified), file.digest, proof, (verdict.to("CLOSE"), renamed.to("RENAME")))
        return (yield from self._give_up(temporary, not_renamed(_missed(wanted, renamed))))

    def _put_written_down(self, file: Outgoing, whole: bytes, folder: str, path: bytes) -> Routine[Placed | Missed | None]:
        """Write a small file at once under a temporary name that its sender has written down.

        Nobody takes it for whole before we have said so: another name beside it and a rename would hide it from nobody. None, and
        nothing of ours stands there, where it is not as easy as that: the long way replaces what stands there, and tells why.
        """
        if hashlib.sha256(whole).hexdigest() != file.digest:
            return Missed(RemoteFile(folder, file.name, file.size, None), Outcome.CHANGED, _OTHER_BYTES)
        opened = yield [engine.open_new(path)]
        if isinstance(opened, Status):
            return None
        self._temporaries.add(path)
        handle, look = engine.handle(opened), engine.lstat(path)
        written, closed, stood = yield from engine.each([engine.write(handle, 0, whole), engine.close(handle), look])
        fine = engine.status(written).code == engine.status(closed).code == engine.OK
        if not (fine and isinstance(stood, Attributes) and stood.size == file.size and stood.kind in (FileKind.FILE, None)):
            yield from self._give_up(path, Missed(RemoteFile(folder, file.name, file.size, None), Outcome.REFUSED, ""))
            return None
        self._temporaries.discard(path)
        told = (engine.status(closed).to("CLOSE"),)
        return Placed(RemoteFile(folder, file.name, file.size, stood.modified), file.digest, Proof.SIZE_ONLY, told)

    def _paced_seen(self, seen: Callable[[bytes], None]) -> Callable[[bytes], None]:
        pace = Pace(self._address, self._endpoint.timeout_seconds, EndpointUnreachable)

        def both(data: bytes) -> None:
            seen(data)
            pace.moved(len(data))

        return both

    def _put_directly(self, file: Outgoing, folder: str, wire: Wire) -> Routine[Placed | Missed]:
        """Write a file under its own name, which must be free. Only what we have created ourselves is ever removed."""
        wanted = RemoteFile(folder, file.name, file.size, None)
        if missed := unfit(wanted):
            return missed
        final = _path(folder, file.name)
        if reason := _taken((yield [engine.lstat(final)]), Exists.REFUSE):
            return Missed(wanted, Outcome.EXISTS, reason)
        opened = yield [engine.open_new(final)]
        if isinstance(opened, Status):
            if opened.code == engine.NO_SUCH_FILE:
                raise EndpointError(
                    f"{self._address}: the folder {shown(folder)} does not exist; create it or correct the profile"
                )
            yield from self._must_have_room(opened, folder, file.size, wire)
            return _missed(wanted, opened)
        handle = engine.handle(opened)
        self._temporaries.add(final)
        digest = hashlib.sha256()
        with open_source(file) as source:
            verdict = yield from engine.write_from(source, handle, wire, self._paced_seen(digest.update))
        closed = yield [engine.close(handle)]
        if verdict.code == engine.OK and isinstance(closed, Status):
            verdict = closed
        if verdict.code != engine.OK:
            yield from self._must_have_room(verdict, folder, file.size, wire)
            return (yield from self._give_up(final, _missed(wanted, verdict)))
        if digest.hexdigest() != file.digest:
            return (yield from self._give_up(final, Missed(wanted, Outcome.CHANGED, _OTHER_BYTES)))
        stood = yield [engine.lstat(final)]
        if not isinstance(stood, Attributes):
            self._temporaries.discard(final)
            return Placed(wanted, file.digest, Proof.UNVERIFIABLE, (verdict.to("CLOSE"),))
        if stood.size != file.size:
            reason = f"the server holds {stood.size} of {file.size} bytes; nothing was placed"
            return (yield from self._give_up(final, Missed(wanted, Outcome.REFUSED, reason)))
        self._temporaries.discard(final)
        return Placed(replace(wanted, modified=stood.modified), file.digest, Proof.SIZE_ONLY, (verdict.to("CLOSE"),))

    def _ours_already(self, file: Outgoing, temporary: bytes, wire: Wire) -> Routine[tuple[bytes, int]]:
        """What a broken upload has left: an open handle, and from where to write on. Anything else there is removed."""
        stands = yield [engine.lstat(temporary)]
        if not isinstance(stands, Attributes):
            return b"", 0
        # Writes are many at a time, and a server may do them in any order: before what can have been on its way at the end there
        # are no holes. From there on all is written again.
        start = (stands.size or 0) - engine.UPLOAD_WINDOW
        if stands.kind in (FileKind.FILE, None) and start > 0 and (stands.size or 0) <= file.size:
            opened = yield [engine.open_again(temporary)]
            if not isinstance(opened, Status):
                handle, before = engine.handle(opened), max(0, start - COMPARED)
                with open_source(file) as source:
                    source.seek(before)
                    ours = source.read(start - before)
                held, theirs = (yield [engine.fstat(handle)]), (yield from engine.read_exactly(handle, before, len(ours), wire))
                if held == stands and ours == theirs:  # else a link, or somebody still writes
                    return handle, start
                yield [engine.close(handle)]
        yield [engine.remove(temporary)]
        return b"", 0

    def _give_up(self, temporary: bytes, missed: Missed) -> Routine[Missed]:
        removed = engine.status((yield [engine.remove(temporary)]))
        if removed.code in (engine.OK, engine.NO_SUCH_FILE):
            self._temporaries.discard(temporary)
            return missed
        return remains(missed, "its final name", removed.words) if self._endpoint.direct_write else missed

    def _rename(self, move: Move, exists: Exists) -> Routine[Moved]:
        file = move.file
        if missed := unfit(file) or (None if legal(move.name) else unfit(replace(file, name=move.name))):
            return Moved(file, missed.outcome, missed.reason)
        if reason := self._not_kept(move.name):
            return Moved(file, Outcome.ILLEGAL_NAME, reason)
        old, new = _path(file.folder, file.name), _path(move.folder, move.name)
        held, stands = yield from engine.each([engine.lstat(old), engine.lstat(new)])
        if missed := _differs(file, held):
            return Moved(file, missed.outcome, missed.reason)
        if reason := _taken(stands, exists):
            return Moved(file, Outcome.EXISTS, reason)
        renamed = yield from self._into_place(old, new, exists, over=isinstance(stands, Attributes))
        if renamed.code == engine.NO_SUCH_FILE and isinstance((yield [engine.lstat(old)]), Attributes):
            raise EndpointError(f"{self._address}: the folder {shown(move.folder)} does not exist; nothing was moved")
        if renamed.code == engine.OK:
            return Moved(file, Outcome.DONE, replies=(renamed.to("RENAME"),))
        missed = _missed(file, renamed)
        return Moved(file, missed.outcome, missed.reason)

    def _remove(self, file: RemoteFile) -> Routine[Moved]:
        path = _path(file.folder, file.name)
        missed = unfit(file) or _differs(file, (yield [engine.lstat(path)]))
        if missed is None:
            removed = yield [engine.remove(path)]
            if isinstance(removed, Status) and removed.code == engine.OK:
                return Moved(file, Outcome.DONE)
            missed = _missed(file, removed)
        return Moved(file, missed.outcome, missed.reason)

    def _into_place(self, old: bytes, new: bytes, exists: Exists, over: bool) -> Routine[Status]:
        """Rename, ``over`` a file that stood there just now. ``FILE_EXISTS`` where the name is taken and must not be."""
        renamed = yield from self._renamed_to(old, new, exists, over)
        if renamed.code in (engine.OK, engine.PERMISSION_DENIED, engine.OP_UNSUPPORTED):
            self._learn_of_rename(new, done=renamed.code == engine.OK)
        return renamed

    def _renamed_to(self, old: bytes, new: bytes, exists: Exists, over: bool) -> Routine[Status]:
        if exists is Exists.REPLACE and self.capabilities.rename_replaces:
            renamed = engine.status((yield [engine.posix_rename(old, new)]))
            if renamed.code not in (engine.OP_UNSUPPORTED, engine.BAD_MESSAGE):
                return renamed
            # It was offered in the greeting, and is refused: from now on as with servers that do not offer it.
            self.capabilities = replace(self.capabilities, rename_replaces=False)
            self._learn(rename_replaces=None)
        if not (over and self._known.rename_replaces is False):
            renamed = engine.status((yield [engine.rename(old, new)]))
            if renamed.code == engine.OK and over:
                self._learn(rename_replaces=True)
            if renamed.code == engine.OK or isinstance((yield [engine.lstat(new)]), Status):
                return renamed
            if exists is Exists.REFUSE:
                return Status(engine.FILE_EXISTS, "the name is taken; nothing was overwritten")
        # This server cannot replace in one step, so for a moment nothing stands under the name; the old file is set aside
        # rather than removed, and put back if ours cannot take its place.
        aside = new[: new.rfind(b"/") + 1] + temporary_name()
        parked = engine.status((yield [engine.rename(new, aside)]))
        if parked.code == engine.NO_SUCH_FILE:
            return engine.status((yield [engine.rename(old, new)]))
        if parked.code != engine.OK:
            return parked
        renamed = engine.status((yield [engine.rename(old, new)]))
        if renamed.code == engine.OK:
            self._learn(rename_replaces=False)
            yield [engine.remove(aside)]
            return renamed
        back = engine.status((yield [engine.rename(aside, new)]))
        if back.code == engine.OK:
            return renamed
        return replace(renamed, message=set_aside(renamed.message, aside[aside.rfind(b"/") + 1 :], back.words))

    def _must_have_room(self, refused: Status, folder: str, size: int, wire: Wire) -> Routine[None]:
        """Raise ``EndpointFull`` if a refusal to take bytes means that. Version 3 has no code of its own for it."""
        words = refused.message.lower()
        full = refused.code in (engine.NO_SPACE, engine.QUOTA_EXCEEDED) or "no space" in words or "quota" in words
        if not full and refused.code == engine.FAILURE and b"statvfs@openssh.com" in wire.extensions:
            answer = yield [engine.statvfs(_path(folder))]
            if isinstance(answer, bytes | memoryview) and len(answer) >= 88:
                _, block, _, _, free, _, _, inodes, *_ = struct.unpack_from(">11Q", answer)
                full = block * free < size or not inodes
        if full:
            raise EndpointFull(
                f"{self._address}: no space left; nothing partial stands under a final name. Ask the partner to make room"
            )

    # ----------------------------------------------------------------------------------------- after a break

    def _settle(self, doubtful: dict[bytes, Outgoing], folder: str) -> Iterator[Placed | Missed]:
        """Look on a new connection what became of renames whose answers were lost."""
        if not self._temporaries:
            return
        try:
            self._connect()
            wire = self._wire()
            for temporary, file in list(doubtful.items()):
                left, stands = (wire.ask(engine.lstat(path)) for path in (temporary, _path(folder, file.name)))
                if isinstance(left, Attributes):
                    del doubtful[temporary]  # it was not renamed; the error that follows says so
                elif isinstance(stands, Attributes) and stands.kind is FileKind.FILE and stands.size == file.size:
                    del doubtful[temporary]
                    self._temporaries.discard(temporary)
                    yield Placed(RemoteFile(folder, file.name, file.size, stands.modified), file.digest, Proof.SIZE_ONLY)
        except EndpointError:
            pass  # the first error is on its way to the caller
        for file in doubtful.values():
            reason = "the answer to its rename was lost, and looking did not tell; look at the server before sending it again"
            yield Missed(RemoteFile(folder, file.name, file.size, None), Outcome.UNKNOWN, reason)

    def _tidy(self) -> None:
        """Remove what we left under temporary names."""
        for path in list(self._temporaries):
            self._wire().ask(engine.remove(path))
            self._temporaries.discard(path)

    def _must_stand(self, folder: str, standing: set[str], wire: Wire) -> None:
        """A missing folder is an error, not a folder whose files have all gone."""
        if folder in standing:
            return
        answer = wire.ask(engine.stat(_path(folder)))
        if isinstance(answer, Status) and answer.code == engine.NO_SUCH_FILE:
            raise EndpointError(f"{self._address}: the folder {shown(folder)} does not exist (any more); nothing was changed")
        standing.add(folder)

    # ----------------------------------------------------------------------------------------- connecting

    def _connect(self) -> None:
        end = self._endpoint
        if self._line is not None:
            self._line.end()
        self._line = Line.to(end, end.jump, self._address, end.timeout_seconds, allowed(end.legacy, self._address))
        wire = self._wire()
        self.capabilities = EndpointCapabilities(
            server=shown(self._line.transport.remote_version),
            fingerprint=self._line.fingerprint,
            rename_replaces=b"posix-rename@openssh.com" in wire.extensions,
            read_bytes=wire.read_bytes,
            write_bytes=wire.write_bytes,
        )
        told = self.capabilities
        self._learn(
            server=told.server,
            offers=tuple(sorted(map(shown, wire.extensions))),
            protection="SSH 2.0",
            listing="SFTP",
            hashes=told.hashes,
            resumes=told.resume,
            tells_times=True,
            **({"read_bytes": told.read_bytes, "write_bytes": told.write_bytes} if isinstance(wire, Engine) else {}),
            **({"rename_replaces": True} if told.rename_replaces else {}),
        )

    def _wire(self) -> Wire:
        """The wire in use, or one on a new channel if the last one was left half-way."""
        if self._slots is None or self._line is None:
            raise EndpointError(f"{self._address}: the session is closed")
        transport, in_use = self._line.transport, self._wire_in_use
        if in_use is not None and in_use.transport is transport:
            if in_use.usable:
                return in_use
            in_use.close()
        self._wire_in_use = self._speak(transport)
        return self._wire_in_use

    def _speak(self, transport: paramiko.Transport) -> Wire:
        """SFTP on a new channel, with as many requests waiting at once as this server can bear."""
        wanted, seconds = self._endpoint.engine, self._endpoint.timeout_seconds
        if wanted == "pipelined" or (wanted == "auto" and self._address not in _CAREFUL):
            for _ in range(_PROOFS):
                wire = Engine(self._channel(transport), transport, self._address, seconds)
                try:
                    wire.prove(min(_PROOF_SECONDS, seconds) if wanted == "auto" else seconds)
                except EndpointUnreachable:
                    if wanted == "pipelined" or not transport.is_active():
                        raise
                    wire.close()
                else:
                    return wire
            self._one_at_a_time()
        elif wanted == "auto" and _CAREFUL.seen(self._address):
            self._learn(one_by_one=True)
        return Stock(self._channel(transport), transport, self._address, seconds)

    def _one_at_a_time(self) -> None:
        _CAREFUL.saw(self._address)
        self._learn(one_by_one=True)

    def _channel(self, transport: paramiko.Transport) -> paramiko.Channel:
        # invoke_subsystem waits without a limit; ending the transport wakes it.
        seconds = self._endpoint.timeout_seconds
        limit = threading.Timer(seconds, transport.close)
        limit.daemon = True
        limit.start()
        try:
            with translated(self._address, seconds):
                channel = transport.open_session(window_size=ssh.WINDOW, timeout=seconds)
                quicken(channel, transport)
                try:
                    channel.invoke_subsystem("sftp")
                except paramiko.SSHException as error:
                    if not transport.is_active():
                        raise
                    raise EndpointUnsuitable(
                        f"{self._address}: the server lets us in but offers no SFTP; ask the partner"
                    ) from error
        finally:
            limit.cancel()
        return channel

    def _noting(self, stream: Iterator[T]) -> Generator[T, None, None]:
        """What comes, and if the server gets muddled on the way: that the next attempt has one request waiting at a time."""
        try:
            yield from stream
        except Muddled:
            if self._endpoint.engine == "auto":
                self._one_at_a_time()
            raise


_CAREFUL = OneByOne()


class _Paced:
    """A file on its way into the spool, which must not come too slowly."""

    def __init__(self, sink: SpoolFile, pace: Pace) -> None:
        self._sink, self._pace = sink, pace

    @property
    def size(self) -> int:
        return self._sink.size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._sink.write(data)
        self._pace.moved(len(data))


# --------------------------------------------------------------------------------------------- names and answers


_OTHER_BYTES = "our source does not hold the bytes of its digest (any more); nothing was placed"


def _path(folder: str, name: bytes = b"") -> bytes:
    """The bytes of a path; ``name`` was found legal."""
    base = folder.encode("utf-8", "surrogateescape")
    if not name:
        return base or b"."
    return base + name if not base or base.endswith(b"/") else base + b"/" + name


def _whole(answer: Answer, told: Attributes) -> Attributes:
    return answer if isinstance(answer, Attributes) else told


def _missed(file: RemoteFile, answer: Answer) -> Missed:
    status = engine.status(answer)
    outcomes = {engine.NO_SUCH_FILE: Outcome.VANISHED, engine.FILE_EXISTS: Outcome.EXISTS}
    return Missed(file, outcomes.get(status.code, Outcome.REFUSED), status.words)


def _differs(file: RemoteFile, now: Answer) -> Missed | None:
    return differs(file, now.kind, now.size, now.modified) if isinstance(now, Attributes) else _missed(file, now)


def _taken(stands: Answer, exists: Exists) -> str:
    """Why a name cannot be ours; "" if it can."""
    if not isinstance(stands, Attributes):
        return ""
    if exists is Exists.REFUSE:
        return "the name is taken; nothing was overwritten"
    return "" if stands.kind in (FileKind.FILE, None) else f"a {stands.kind} has this name; it was not replaced"
