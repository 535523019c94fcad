"""SFTP: a partner's server behind SSH. paramiko connects, proves the host key and signs in; ``sftp_engine`` moves the bytes."""

from __future__ import annotations

import hashlib
import io
import logging
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Annotated, ClassVar

import paramiko
from pydantic import Field, StringConstraints

from blocks.credentials import Reference
from blocks.credentials import read as read_credential
from blocks.endpoints import sftp_engine as engine
from blocks.endpoints.base import (
    Endpoint,
    EndpointSession,
    differs,
    legal,
    likely_kind,
    open_source,
    resume_key,
    temporary_name,
    unfit,
)
from blocks.endpoints.connections import Slots
from blocks.endpoints.sftp_engine import Answer, Attributes, Crowded, Engine, Routine, Status, Work
from blocks.errors import (
    ConfigurationError,
    EndpointBusy,
    EndpointError,
    EndpointFull,
    EndpointUnreachable,
    EndpointUnsuitable,
    HostKeyChanged,
    LoginRefused,
)
from blocks.spool import Batch
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
    Placed,
    Proof,
    RemoteFile,
    shown,
)

Fingerprint = Annotated[str, StringConstraints(pattern=r"^SHA256:[A-Za-z0-9+/]{43}=?$")]

_TAIL_BYTES = 64 * 1024
# What paramiko has to say reaches the reader through our errors; its own log lines would come a second time, with tracebacks.
_LOG = "countersign.ssh"
logging.getLogger(_LOG).setLevel(logging.CRITICAL)


class Sftp(Endpoint):
    """A partner's place for files on an SFTP server, with its host keys pinned."""

    _block_type_name: ClassVar[str | None] = "Countersign SFTP endpoint"
    _block_type_slug: ClassVar[str | None] = "countersign-sftp"
    protocol: ClassVar[str] = "sftp"

    host: str = Field(min_length=1, description="Host name or address of the partner's server")
    port: int = Field(default=22, ge=1, le=65535, description="TCP port of the server")
    username: str = Field(min_length=1, description="Account that the partner gave us")
    password: Reference | None = Field(default=None, description="Where the password is: env:NAME or file:/path")
    private_key: Reference | None = Field(default=None, description="Where our private key is: file:/path or env:NAME")
    passphrase: Reference | None = Field(
        default=None, description="Where the private key's passphrase is: env:NAME or file:/path"
    )
    host_keys: tuple[Fingerprint, ...] = Field(
        default=(),
        description="Fingerprints (SHA256:...) of trusted host keys, shown by 'countersign endpoint trust'; without one nothing connects",
    )
    connection_limit: int = Field(
        default=4, ge=1, description="Most connections to this server at a time from one of our processes"
    )

    @property
    def address(self) -> str:
        return f"sftp://{self.username}@{self.host}:{self.port}"

    def session(self) -> SftpSession:
        """Connect, compare the host key with the pins, sign in."""
        return SftpSession(self)


def host_fingerprint(host: str, port: int = 22, timeout_seconds: float = 30.0) -> str:
    """The ``SHA256:...`` fingerprint of the key a server shows now. Nothing is sent to it but the key exchange."""
    with _translated(f"sftp://{host}:{port}", timeout_seconds):
        transport = _exchange_keys(host, port, timeout_seconds)
        try:
            return str(transport.get_remote_server_key().fingerprint)
        finally:
            _end(transport)


# --------------------------------------------------------------------------------------------- the session


class SftpSession(EndpointSession):
    """Signed in to one SFTP server. After a verb that was broken off, the next one opens a channel of its own."""

    def __init__(self, endpoint: Sftp) -> None:
        self._endpoint, self._address = endpoint, endpoint.address
        self._transport: paramiko.Transport | None = None
        self._engine_in_use: Engine | None = None
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
            if self._transport is not None:
                with suppress(EndpointError):
                    self._tidy()
                _end(self._transport)
        finally:
            self._slots.give()
            self._slots = None

    # ----------------------------------------------------------------------------------------- the five verbs

    def look(self, folder: str) -> Iterator[RemoteFile]:
        wire = self._engine()
        for name, told in wire.listing(_path(folder)):
            if told.size is None or told.kind is None:
                told = _whole(wire.ask(engine.lstat(_path(folder, name))) if legal(name) else told, told)
            yield RemoteFile(folder, name, told.size or 0, told.modified, likely_kind(told.kind, told.size))

    def fetch(self, files: Iterable[RemoteFile], into: Batch) -> Iterator[Fetched | Missed]:
        wire = self._engine()
        works = (Work(partial(self._fetch, file, into, wire), max(0, file.size)) for file in files)
        standing: set[str] = set()
        with closing(wire.run(works)) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, Missed) and outcome.outcome is Outcome.VANISHED:
                    self._must_stand(outcome.file.folder, standing, wire)
                yield outcome

    def put(self, files: Sequence[Outgoing], folder: str, *, exists: Exists = Exists.REFUSE) -> Iterator[Placed | Missed]:
        wire = self._engine()
        doubtful: dict[bytes, Outgoing] = {}
        works = (
            Work(partial(self._put, file, folder, exists, wire, doubtful), min(file.size, engine.UPLOAD_WINDOW))
            for file in files
        )
        try:
            with closing(wire.run(works)) as outcomes:
                yield from outcomes
        except EndpointUnreachable:
            yield from self._settle(doubtful, folder)
            raise
        finally:
            with suppress(EndpointError):
                self._tidy()

    def rename(self, moves: Iterable[Move], *, exists: Exists = Exists.REFUSE) -> Iterator[Moved]:
        wire = self._engine()
        standing: set[str] = set()
        with closing(wire.run(Work(partial(self._rename, move, exists)) for move in moves)) as outcomes:
            for moved in outcomes:
                if moved.outcome is Outcome.VANISHED:
                    self._must_stand(moved.file.folder, standing, wire)
                yield moved

    def remove(self, files: Iterable[RemoteFile]) -> Iterator[Moved]:
        wire = self._engine()
        standing: set[str] = set()
        with closing(wire.run(Work(partial(self._remove, file)) for file in files)) as outcomes:
            for moved in outcomes:
                if moved.outcome is Outcome.VANISHED:
                    self._must_stand(moved.file.folder, standing, wire)
                yield moved

    # ----------------------------------------------------------------------------------------- one file each

    def _fetch(self, file: RemoteFile, batch: Batch, wire: Engine) -> Routine[Fetched | Missed]:
        if missed := unfit(file):
            return missed
        path = _path(file.folder, file.name)
        # Looked at before it is opened: opening a FIFO would block the server's process, opening a link would follow it.
        if missed := _differs(file, (yield [engine.lstat(path)])):
            return missed
        opened = yield [engine.open_to_read(path)]
        if isinstance(opened, Status):
            missed = _missed(file, opened)
            if opened.code == engine.FAILURE:
                raise Crowded(missed)
            return missed
        handle = engine.handle(opened)
        sink = batch.open(resume_key(self._address, file))
        try:
            if sink.size:
                tail = sink.tail(_TAIL_BYTES)
                if sink.size > file.size or tail != (
                    yield from engine.read_exactly(handle, sink.size - len(tail), len(tail), wire)
                ):
                    sink.restart()
            verdict = yield from engine.read_into(sink, handle, file.size, wire)
            held, _, named = yield from engine.each([engine.fstat(handle), engine.close(handle), engine.lstat(path)])
        except BaseException:
            sink.keep()
            raise
        missed = None
        if verdict.code in (engine.EOF, engine.FAILURE) and isinstance(named, Attributes):
            missed = Missed(file, Outcome.CHANGED, f"{verdict.message}; it was left alone")
        elif verdict.code != engine.OK:
            missed = _missed(file, verdict)
        # The name may have been pointed elsewhere for a moment: what we had open must be what stands there now.
        missed = missed or _differs(file, held) or _differs(file, named)
        if missed is None and held != named:
            missed = Missed(file, Outcome.CHANGED, "it was replaced while it was read; it was left alone")
        if missed:
            sink.discard()
            return missed
        done = sink.finish()
        return Fetched(file, done.digest, done.size)

    def _put(
        self, file: Outgoing, folder: str, exists: Exists, wire: Engine, doubtful: dict[bytes, Outgoing]
    ) -> Routine[Placed | Missed]:
        wanted = RemoteFile(folder, file.name, file.size, None)
        if missed := unfit(wanted):
            return missed
        final, temporary = _path(folder, file.name), _path(folder, temporary_name(file.name))
        stands = yield [engine.lstat(final)]
        if reason := _taken(stands, exists):
            return Missed(wanted, Outcome.EXISTS, reason)
        # By the end of the upload nothing may stand there any more: too late to learn from, early enough to save a refusal.
        over = self._known.rename_replaces is False and isinstance(stands, Attributes)
        opened = yield [engine.open_new(temporary)]
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
        digest = hashlib.sha256()
        with open_source(file) as source:
            verdict = yield from engine.write_from(source, handle, wire, digest.update)
        closed = yield [engine.close(handle)]
        if verdict.code == engine.OK and isinstance(closed, Status):
            verdict = closed  # a server may tell only now that it could not keep the bytes
        if verdict.code != engine.OK:
            yield from self._must_have_room(verdict, folder, file.size, wire)
            return (yield from self._give_up(temporary, _missed(wanted, verdict)))
        if digest.hexdigest() != file.digest:
            reason = "our source does not hold the bytes of its digest (any more); nothing was placed"
            return (yield from self._give_up(temporary, Missed(wanted, Outcome.CHANGED, reason)))
        stood = yield [engine.lstat(temporary)]
        proof = Proof.SIZE_ONLY if isinstance(stood, Attributes) else Proof.UNVERIFIABLE
        if isinstance(stood, Attributes) and stood.size != file.size:
            reason = f"the server holds {stood.size} of {file.size} bytes; nothing was placed"
            return (yield from self._give_up(temporary, Missed(wanted, Outcome.REFUSED, reason)))
        doubtful[temporary] = file
        renamed = yield from self._into_place(temporary, final, exists, over)
        del doubtful[temporary]
        if renamed.code == engine.OK:
            self._temporaries.discard(temporary)
            return Placed(
                replace(wanted, modified=stood.modified if isinstance(stood, Attributes) else None), file.digest, proof
            )
        return (yield from self._give_up(temporary, _missed(wanted, renamed)))

    def _give_up(self, temporary: bytes, missed: Missed) -> Routine[Missed]:
        removed = yield [engine.remove(temporary)]
        if isinstance(removed, Status) and removed.code in (engine.OK, engine.NO_SUCH_FILE):
            self._temporaries.discard(temporary)
        return missed

    def _rename(self, move: Move, exists: Exists) -> Routine[Moved]:
        file = move.file
        if missed := unfit(file) or unfit(replace(file, name=move.name)):
            return Moved(file, missed.outcome, missed.reason)
        old, new = _path(file.folder, file.name), _path(move.folder, move.name)
        if missed := _differs(file, (yield [engine.lstat(old)])):
            return Moved(file, missed.outcome, missed.reason)
        stands = yield [engine.lstat(new)]
        if reason := _taken(stands, exists):
            return Moved(file, Outcome.EXISTS, reason)
        renamed = yield from self._into_place(old, new, exists, over=isinstance(stands, Attributes))
        if renamed.code == engine.NO_SUCH_FILE and isinstance((yield [engine.lstat(old)]), Attributes):
            raise EndpointError(f"{self._address}: the folder {shown(move.folder)} does not exist; nothing was moved")
        if renamed.code == engine.OK:
            return Moved(file, Outcome.DONE)
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
        if exists is Exists.REPLACE and self.capabilities.rename_replaces:
            return engine.status((yield [engine.posix_rename(old, new)]))
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
        yield [engine.remove(aside) if renamed.code == engine.OK else engine.rename(aside, new)]
        return renamed

    def _must_have_room(self, refused: Status, folder: str, size: int, wire: Engine) -> Routine[None]:
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
            wire = self._engine()
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
            self._engine().ask(engine.remove(path))
            self._temporaries.discard(path)

    def _must_stand(self, folder: str, standing: set[str], wire: Engine) -> None:
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
        if self._transport is not None:
            _end(self._transport)
        if not end.host_keys:
            raise ConfigurationError(
                f"{self._address}: no host key is pinned, so the server cannot be told from an impostor; nothing was sent. "
                f"Run 'countersign endpoint trust {end.host}:{end.port}', compare with what the partner says, and put it in host_keys"
            )
        with _translated(self._address, end.timeout_seconds):
            self._transport = _exchange_keys(end.host, end.port, end.timeout_seconds)
            shows = str(self._transport.get_remote_server_key().fingerprint)
            if shows not in {pin.rstrip("=") for pin in end.host_keys}:
                raise HostKeyChanged(
                    f"{self._address}: the server shows the key {shows}, but pinned is {', '.join(end.host_keys)}. "
                    "Nothing was sent, no login was tried. Ask the partner by another way whether they changed it"
                )
            self._sign_in(self._transport)
        wire = self._engine()
        self.capabilities = EndpointCapabilities(
            server=shown(self._transport.remote_version),
            fingerprint=shows,
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
            read_bytes=told.read_bytes,
            write_bytes=told.write_bytes,
            **({"rename_replaces": True} if told.rename_replaces else {}),
        )

    def _sign_in(self, transport: paramiko.Transport) -> None:
        end = self._endpoint
        if end.private_key is None and end.password is None:
            raise ConfigurationError(
                f"{self._address}: neither password nor private_key is given; add one as env:NAME or file:/path"
            )
        # A server may ask for both: the key first, then the password.
        wanted = ["password"]
        if end.private_key is not None:
            wanted = transport.auth_publickey(end.username, _private_key(end.private_key, end.passphrase))
        if end.password is not None and wanted:
            wanted = transport.auth_password(end.username, read_credential(end.password))
        if not transport.is_authenticated():
            raise LoginRefused(f"{self._address}: the server also wants {', '.join(wanted)}, which the profile does not give")

    def _engine(self) -> Engine:
        """The engine in use, or one on a new channel if the last one was left half-way."""
        if self._engine_in_use is not None and self._engine_in_use.usable and self._engine_in_use.transport is self._transport:
            return self._engine_in_use
        transport, seconds = self._transport, self._endpoint.timeout_seconds
        if self._slots is None or transport is None:
            raise EndpointError(f"{self._address}: the session is closed")
        if self._engine_in_use is not None and self._engine_in_use.transport is transport:
            self._engine_in_use.close()
        # invoke_subsystem waits without a limit; ending the transport wakes it.
        limit = threading.Timer(seconds, transport.close)
        limit.daemon = True
        limit.start()
        try:
            with _translated(self._address, seconds):
                channel = transport.open_session(window_size=engine.WINDOW, timeout=seconds)
                try:
                    channel.invoke_subsystem("sftp")
                except paramiko.SSHException as error:
                    if not transport.is_active():
                        raise
                    raise EndpointUnsuitable(
                        f"{self._address}: the server lets us in but offers no SFTP; ask the partner"
                    ) from error
                self._engine_in_use = Engine(channel, transport, address=self._address, timeout_seconds=seconds)
        finally:
            limit.cancel()
        return self._engine_in_use


# --------------------------------------------------------------------------------------------- names and answers


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


# --------------------------------------------------------------------------------------------- connections


def _exchange_keys(host: str, port: int, seconds: float) -> paramiko.Transport:
    """A transport with its keys agreed, and nothing of ours sent yet."""
    connection = socket.create_connection((host, port), seconds)
    transport = None
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # paramiko's socket writes know no deadline; the kernel ends a connection whose far side takes nothing any more.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
        transport = paramiko.Transport(connection, default_window_size=engine.WINDOW)
        transport.set_log_channel(_LOG)
        options = transport.get_security_options()
        # GCM needs one pass over the data where CTR with HMAC needs two; paramiko offers it last.
        options.ciphers = sorted(options.ciphers, key=lambda cipher: "gcm" not in cipher)
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = transport.channel_timeout = seconds
        transport.clear_to_send_timeout = seconds
        transport.start_client(timeout=seconds)
        transport.get_remote_server_key()  # start_client does not tell that its time ran out; this does
    except BaseException:
        if transport is not None:
            _end(transport)
        connection.close()
        raise
    return transport


def _end(transport: paramiko.Transport) -> None:
    transport.close()
    transport.packetizer.complete_handshake()  # else its timer thread lives on until the handshake's deadline


def _private_key(reference: str, passphrase: str | None) -> paramiko.PKey:
    text = read_credential(reference) + "\n"
    secret = read_credential(passphrase) if passphrase is not None else None
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(text), password=secret)
        except paramiko.PasswordRequiredException as error:
            raise ConfigurationError(
                f"{reference}: the private key is encrypted; give passphrase as env:NAME or file:/path"
            ) from error
        except (paramiko.SSHException, ValueError):
            continue
    hint = "or its passphrase does not fit" if secret else "in OpenSSH or PEM format"
    raise ConfigurationError(f"{reference}: this is not a private key (Ed25519, ECDSA or RSA) {hint}")


@contextmanager
def _translated(address: str, seconds: float) -> Iterator[None]:
    """The one place where what paramiko and the socket raise becomes an error of ours."""
    began = time.monotonic()
    try:
        yield
    except paramiko.ssh_exception.IncompatiblePeer as error:
        raise EndpointUnsuitable(_lacks(address, str(error))) from error
    except paramiko.BadAuthenticationType as error:
        allowed = ", ".join(error.allowed_types)
        raise LoginRefused(f"{address}: the server does not accept this kind of login; it accepts: {shown(allowed)}") from error
    except paramiko.AuthenticationException as error:
        if "timeout" in str(error).lower() or "EOF" in str(error):
            raise EndpointUnreachable(
                f"{address}: the server broke off during the login ({error}); it will be tried again"
            ) from error
        raise LoginRefused(
            f"{address}: the server refused our login; check username, password and private key. It is not tried again by itself"
        ) from error
    except paramiko.ChannelException as error:
        raise EndpointBusy(f"{address}: the server opens no channel for us ({error}); it will be tried again") from error
    except socket.gaierror as error:
        raise EndpointUnreachable(
            f"{address}: the host name is not known here ({error.strerror}); check it in the profile"
        ) from error
    except TimeoutError as error:
        raise EndpointUnreachable(f"{address}: no answer within {seconds:g} s; it will be tried again") from error
    except paramiko.SSHException as error:
        if "protocol banner" in str(error) and time.monotonic() - began < seconds:
            # OpenSSH (MaxStartups) and others drop surplus connections before greeting.
            raise EndpointBusy(
                f"{address}: the server closed before its greeting, as one with too many connections does"
            ) from error
        raise EndpointUnreachable(f"{address}: no usable SSH connection ({error}); it will be tried again") from error
    except (OSError, EOFError) as error:
        raise EndpointUnreachable(
            f"{address}: cannot connect ({error or 'closed by the server'}); it will be tried again"
        ) from error


def _lacks(address: str, words: str) -> str:
    """What a server must offer that paramiko refuses, in words for the partner."""
    with closing(socket.socket()) as unused:
        ours = paramiko.Transport(unused).get_security_options()
    for word, what, accepted in (
        ("kex", "key exchange", ours.kex),
        ("host key", "host key", ours.key_types),
        ("cipher", "cipher", ours.ciphers),
        ("mac", "message authentication", ours.digests),
    ):
        if word in words:
            return (
                f"{address}: the server offers no {what} algorithm that we accept, only outdated ones. "
                f"Ask the partner to enable one of: {', '.join(accepted)}"
            )
    return f"{address}: no algorithm in common ({words}); ask the partner what their server offers"
