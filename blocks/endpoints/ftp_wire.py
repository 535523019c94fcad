"""One signed-in FTP connection, and the data connections that belong to it. Used by one thread at a time; every wait has an end.

The usual libraries open TLS on a data connection before they send the command; vsftpd and proftpd only answer the handshake after
it, so both would wait for each other. Here the passive connection is opened in clear, the command is sent, its 1xx is awaited, and
only then TLS begins, with the control connection's session: many servers take no other.

Sockets block, each connection has a thread of its own while it works: TLS, hashing and the disk then use all cores, and a small file
costs a third of what it cost in an event loop, which spent its time on streams and timers.

Names are bytes. Text is Latin-1 throughout, which carries any byte unchanged.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from math import ceil, inf
from time import monotonic
from types import TracebackType
from typing import ClassVar

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from blocks.endpoints.base import endless
from blocks.endpoints.connections import OneByOne
from blocks.endpoints.ftp_listing import Entry, list_line, mlst_answer, timestamp
from blocks.errors import (
    EndpointBusy,
    EndpointError,
    EndpointFull,
    EndpointUnreachable,
    EndpointUnsuitable,
    HostKeyChanged,
    LoginRefused,
)
from blocks.pace import Pace
from blocks.values import FileKind, shown

BLOCK = 256 * 1024
_HASH_BYTES_PER_SECOND = 20 * 1024 * 1024
"""No server is slower at hashing its own files; it is silent meanwhile."""
LONGEST_LISTING = 256 * 1024 * 1024
"""Bytes: more than a million names."""
_LONGEST_REPLY = 16 * 1024 * 1024
"""Characters. Asked about a folder, some servers list it in their answer."""
_LONGEST_REPLY_LINE = 64 * 1024
"""Bytes."""
_SAID_AT_ONCE = 16 * 1024
"""Bytes of questions before the answers to them are read: who sends for ever and reads nothing waits for a server that does so too."""
_RESTED_SECONDS = 15
_PORT_SECONDS = 5
"""So long we trust that a server still awaits the data connection that was asked for ahead."""
_ANSWERED_TOGETHER_SECONDS = 10
"""So long the first questions that were sent together may each wait for their answers; else they are asked one by one."""

_NOTHING_IN_COMMON = frozenset(
    {
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "TLSV1_ALERT_INSUFFICIENT_SECURITY",
        "UNSUPPORTED_PROTOCOL",
        "NO_PROTOCOLS_AVAILABLE",
        "WRONG_SSL_VERSION",
        "DH_KEY_TOO_SMALL",
    }
)


@dataclass(frozen=True, slots=True)
class Protection:
    """How the connection is protected: TLS from the start (implicit) or after AUTH TLS, and whom we believe."""

    context: ssl.SSLContext
    implicit: bool
    pins: frozenset[str]
    """``SHA256:AA:…`` of the certificates that are trusted; empty: whatever the context verified."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where to connect, and how."""

    host: str
    port: int
    seconds: float
    address: str
    protection: Protection | None

    @property
    def server(self) -> tuple[str, int]:
        return self.host, self.port


@dataclass(frozen=True, slots=True)
class Reply:
    code: int
    lines: tuple[str, ...]
    """Without the code on the first and the last line; Latin-1."""

    @property
    def done(self) -> bool:
        return 200 <= self.code < 300

    def to(self, command: str) -> str:
        """As evidence: ``STOR: 226 Transfer complete``."""
        return f"{command}: {self.words}"

    @property
    def words(self) -> str:
        """For people: ``550 No such file``."""
        return f"{self.code} {shown(self.lines[-1].strip(' -').encode('latin-1'))}"


class OutOfTurn(EndpointUnreachable):
    """The server answered later questions before the last one. It is asked one by one from now on; this connection is given up."""


class Wire:
    """A control connection. ``usable`` is False once an exchange was left half-way: it is then good for nothing more.

    On a long line every answer that is waited for costs more than the bytes, so questions go out together where one does not
    depend on the answer to another. Some servers lose questions that come before they have answered the last one: these are
    asked one by one, for as long as this process lives.
    """

    careful: ClassVar[OneByOne] = OneByOne()

    def __init__(self, door: Door) -> None:
        self.door = door
        self._translated = Translated(door, self.abandon)
        """Whatever goes wrong inside leaves an exchange half-way: an error of ours, and this connection is given up."""
        self.usable = True
        self._control: socket.socket | None = None
        self._came = bytearray()
        """What the server said and nobody has read yet."""
        self._data_socket: socket.socket | None = None
        self.said: list[str] = []
        """What the server answered to what was done with the one file in hand."""
        self.told: list[Reply] = []
        """The answers to what was asked together with the last transfer."""
        self.banner = ""
        self.home = b"/"
        self.features: dict[str, str] = {}
        self.certificate: str | None = None
        self.tls: str | None = None
        self.tls_reuse: bool | None = None
        self._resuming: ssl.SSLSession | None = None
        """The control connection's TLS session, for data connections."""
        self._judged: bytes | None = None
        """The certificate that was found to be the right one."""
        self.extended_passive: bool | None = None
        self.idle_since = 0.0
        self._doubled: bool | None = None
        self._port: int | None = None
        """Of a data connection that the server awaits."""
        self._lists_by_stat = True

    # ----------------------------------------------------------------------------------------- connecting

    def open(self) -> None:
        """Connect, and prove who the server is. Nothing of ours has been sent but AUTH TLS."""
        door, protection = self.door, self.door.protection
        with self._translated:
            self._control = socket.create_connection((door.host, door.port), door.seconds)
            self._control.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Firewalls forget a control connection that says nothing during a long transfer.
            self._control.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if protection is not None and protection.implicit:
                self._secured(self._control, protection)
            greeting = self._final()  # after 120, "in so many minutes", it may come later
            if greeting.code != 220:
                raise EndpointBusy(f"{door.address}: the server greets with {greeting.words!r}; it will be tried again")
            self.banner = " / ".join(shown(line.strip(" -").encode("latin-1")) for line in greeting.lines)
            if protection is not None and not protection.implicit:
                self._begin_tls(protection)

    def sign_in(self, username: str, password: str) -> None:
        """USER and PASS; then what the session needs to know about this server. Raises ``LoginRefused``."""
        address = self.door.address
        reply = self.ask(b"USER " + _line(username))
        if reply.code == 331:
            reply = self.ask(b"PASS " + _line(password))
        if reply.code == 332:
            raise LoginRefused(
                f"{address}: the server also wants an account (ACCT), which cannot be given here; ask the partner"
            )
        if not reply.done:
            words = reply.words.replace(password, "***") if password else reply.words  # some repeat what they were told
            if re.search(r"maximum|too many|limit", words, re.IGNORECASE):
                raise EndpointBusy(f"{address}: the server lets nobody more in ({words}); it will be tried again")
            if 400 <= reply.code < 500:
                raise EndpointUnreachable(f"{address}: the server cannot let us in now ({words}); it will be tried again")
            raise LoginRefused(
                f"{address}: the server refused our login ({words}); check username and password. "
                "It is not tried again by itself"
            )
        if self.door.protection is not None:
            self._protect_data()
        self.features = _features(self.ask(b"FEAT"))
        options = list[bytes]()
        if "UTF8" in self.features:
            options.append(b"OPTS UTF8 ON")  # some servers send names in a code page of their own until asked
        facts = self.features.get("MLST", "").lower().replace("*", "")
        if facts and "*" in self.features["MLST"]:
            wanted = [fact for fact in facts.split(";") if fact in ("type", "size", "modify", "unique")]
            options.append(b"OPTS MLST " + _line("".join(f"{fact};" for fact in wanted)))
        if self._tells_hash:
            options.append(b"OPTS HASH SHA-256")
        *_, binary, place = self.ask_each(
            [*options, b"TYPE I", b"PWD"], seconds=min(_ANSWERED_TOGETHER_SECONDS, self.door.seconds)
        )
        if not binary.done:
            raise EndpointUnsuitable(f"{address}: the server refuses binary transfers ({binary.words})")
        home = re.search(r'"((?:[^"]|"")*)"', "".join(place.lines))
        self.home = home[1].replace('""', '"').encode("latin-1") if home else b"/"

    def _begin_tls(self, protection: Protection) -> None:
        reply = self.ask(b"AUTH TLS")
        if not reply.done:
            raise EndpointUnsuitable(
                f"{self.door.address}: the server offers no explicit TLS ({reply.words}). Nothing was sent to it in clear. Ask "
                "the partner whether it is implicit (port 990: 'mode: implicit')"
            )
        # What came in clear behind the answer would be taken for the server's protected words.
        self._line_open.setblocking(False)
        with suppress(BlockingIOError):
            self._came += self._line_open.recv(1)
        if self._came:
            raise HostKeyChanged(f"{self.door.address}: somebody put words between AUTH TLS and TLS; nothing was sent")
        self._secured(self._line_open, protection)

    @property
    def _line_open(self) -> socket.socket:
        if self._control is None:
            raise ConnectionResetError("closed")
        return self._control

    def _secured(self, clear: socket.socket, protection: Protection, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        """TLS on a connection, with a server that is who it should be."""
        channel = protection.context.wrap_socket(
            clear, server_hostname=self.door.host, do_handshake_on_connect=False, session=session
        )
        if clear is self._control:
            self._control = channel
        else:
            self._data_socket = channel
        try:
            channel.settimeout(self.door.seconds)
            channel.do_handshake()
            self._know(channel, protection)
        except BaseException:
            channel.close()
            raise
        return channel

    def _protect_data(self) -> None:
        _, reply = self.ask_each([b"PBSZ 0", b"PROT P"], seconds=min(_ANSWERED_TOGETHER_SECONDS, self.door.seconds))
        if reply.code != 200:
            raise EndpointUnsuitable(
                f"{self.door.address}: the server refuses to protect data connections ({reply.words} to PROT P). No file was "
                "sent or asked for. Ask the partner to allow PROT P"
            )

    def _know(self, channel: ssl.SSLSocket, protection: Protection) -> None:
        """Compare the certificate with the pins. Raises ``HostKeyChanged``."""
        told, self.tls = channel.getpeercert(binary_form=True), channel.version()
        if told is None:
            raise HostKeyChanged(f"{self.door.address}: the server shows no certificate; nothing was sent")
        if told == self._judged:
            return
        certificate = x509.load_der_x509_certificate(told)
        shows = fingerprint_of(certificate)
        if protection.pins and shows not in protection.pins:
            raise HostKeyChanged(
                f"{self.door.address}: the server shows the certificate {shows}, but pinned is {', '.join(sorted(protection.pins))}. "
                "Nothing was sent, no login was tried. Ask the partner by another way whether they changed it"
            )
        if protection.pins and not certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc:
            raise HostKeyChanged(
                f"{self.door.address}: the pinned certificate is valid from {certificate.not_valid_before_utc:%Y-%m-%d} to "
                f"{certificate.not_valid_after_utc:%Y-%m-%d} only. Nothing was sent. Ask the partner for the new one"
            )
        self.certificate, self._judged = shows, told

    def alive(self, now: float) -> bool:
        """Whether the connection still answers; asked only after some rest, as servers and firewalls forget idle ones."""
        if now - self.idle_since > _PORT_SECONDS:
            self._port = None
        if now - self.idle_since > _RESTED_SECONDS:
            with suppress(EndpointError):
                self.ask(b"NOOP")
        return self.usable

    def abandon(self) -> None:
        """End the connection at once."""
        self.usable = False
        for connection in (self._data_socket, self._control):
            if connection is not None:
                connection.close()

    def stop(self) -> None:
        """Called from another thread than the one that uses it: end its waits. It fails there, and is given up there."""
        self.usable = False
        for connection in (self._data_socket, self._control):
            if connection is not None:
                with suppress(OSError):
                    # Below TLS, whose own state belongs to the other thread.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def leave(self) -> None:
        """Say goodbye, briefly."""
        with suppress(EndpointError):
            self.ask(b"QUIT", seconds=min(2.0, self.door.seconds))
        self.abandon()

    # ----------------------------------------------------------------------------------------- questions and answers

    def ask(self, command: bytes, *, seconds: float | None = None) -> Reply:
        """Send a command and await its answer, whatever it is. Only 421 is raised: ``EndpointBusy``."""
        self.say([command])
        return self._final(seconds)

    def ask_each(self, commands: Sequence[bytes], *, seconds: float | None = None) -> list[Reply]:
        """Ask small questions without waiting for each answer before the next question, where the server bears that."""
        if self.one_by_one:
            return [self.ask(command, seconds=seconds) for command in commands]
        replies = list[Reply]()
        for some in _portions(commands):
            self.say(some)
            replies += self._answers_to(some, seconds)
        return replies

    def _answers_to(self, commands: Sequence[bytes], seconds: float | None = None) -> list[Reply]:
        replies = list[Reply]()
        for _ in commands:
            with self._lost(bool(replies)):
                replies.append(self._final(seconds))
        return replies

    @contextmanager
    def _lost(self, together: bool) -> Iterator[None]:
        """Wait for the answer to a question that was sent together with one that was answered: if none comes, ask one by one."""
        try:
            yield
        except EndpointUnreachable as error:
            if together and isinstance(error.__cause__, TimeoutError):
                self.careful.saw(self.door.server)
            raise

    @property
    def one_by_one(self) -> bool:
        """True if this server is asked one question at a time."""
        return self.door.server in self.careful

    def say(self, commands: Sequence[bytes]) -> None:
        """Send commands; their answers are still to come."""
        if any(b"\r" in command or b"\n" in command for command in commands):
            raise EndpointError(f"{self.door.address}: a line break never goes into a command; nothing was sent")
        with self._translated:
            if self._line_open.gettimeout() != ceil(self.door.seconds):
                self._line_open.settimeout(ceil(self.door.seconds))
            self._line_open.sendall(b"".join(command + b"\r\n" for command in commands))

    def _final(self, seconds: float | None = None) -> Reply:
        """The answer that ends an exchange. Some servers say more than once on the way there that they are at it."""
        return self._answer(seconds, preliminary=False)

    def _answer(self, seconds: float | None = None, *, preliminary: bool) -> Reply:
        until = monotonic() + (seconds or self.door.seconds)
        with self._translated:
            while (reply := self._reply(until)).code < 200 and not preliminary:
                pass
        return reply

    def _reply(self, until: float) -> Reply:
        line = self._line(until)
        code, lines, length = line[:3], [line[4:]], 0
        if not (code.isascii() and code.isdigit()):
            raise ValueError(f"{shown(line.encode('latin-1')[:100])!r} is no answer")
        while not line.startswith(code + " ") and line != code and (len(lines) > 1 or line[3:4] == "-"):
            line = self._line(until)
            length += len(line)
            if length > _LONGEST_REPLY:
                raise endless(self.door.address, "an answer")
            lines.append(line[4:] if line[:3] == code and line[3:4] in ("", " ", "-") else line)
        if code == "421":
            self.abandon()
            words = shown(lines[-1].strip(" -").encode("latin-1"))
            raise EndpointBusy(f"{self.door.address}: the server ends the connection (421 {words}); it will be tried again")
        return Reply(int(code), tuple(lines))

    def _line(self, until: float) -> str:
        while (end := self._came.find(b"\n")) < 0:
            if len(self._came) > _LONGEST_REPLY_LINE:
                raise ValueError(f"{shown(bytes(self._came[:100]))!r}... never ends")
            if (left := until - monotonic()) <= 0:
                raise TimeoutError
            if self._line_open.gettimeout() != ceil(left):  # setting it is a call to the system
                self._line_open.settimeout(ceil(left))
            if not (block := self._line_open.recv(16 * 1024)):
                raise ConnectionResetError("closed by the server")
            self._came += block
        line = self._came[:end].decode("latin-1").rstrip()
        del self._came[: end + 1]
        return line

    def final_of_transfer(self, after: Sequence[bytes]) -> Reply:
        """What the server says about a transfer; what it says to the questions ``after`` is ``told``, and the next port is known."""
        together = [] if self.one_by_one or not after else [*after, self._passive_question]
        if together:
            self.say(together)
        reply = self._final()
        if together and (reply.code in (211, 212, 213, 227, 229) or (reply.code == 250 and len(reply.lines) > 2)):
            self.careful.saw(self.door.server)
            self.abandon()
            raise OutOfTurn(
                f"{self.door.address}: the server answers out of turn ({reply.words}); it will be asked one by one. Try again"
            )
        if together:
            with self._lost(True):
                *self.told, passive = self._answers_to(together)
            self._port = self._port_in(together[-1], passive)
        else:
            self.told = [self.ask(question) for question in after]
        return reply

    # ----------------------------------------------------------------------------------------- names and facts

    def path(self, folder: bytes, name: bytes = b"") -> bytes:
        """Where a name is, from the root of what we see: so no command's argument begins with a dash, or looks like a time."""
        base = folder if folder.startswith(b"/") or not self.home.startswith(b"/") else self.home.rstrip(b"/") + b"/" + folder
        whole = base.rstrip(b"/") + b"/" + name if name else base.rstrip(b"/") or b"/"
        if b"\xff" not in whole:
            return whole
        if self._doubled is None:
            # On the Telnet connection that FTP once was, 255 is a command and doubled if it is meant. proftpd still reads it
            # so, others do not. What a server says about a name that cannot exist shows which kind it is.
            echo = "".join((self.ask(b"SIZE /\xff\xff countersign")).lines)
            self._doubled = echo.count("\xff") == 1
        return whole.replace(b"\xff", b"\xff\xff") if self._doubled else whole

    def facts(self, path: bytes, *, sure: bool = True) -> Entry | Reply:
        """What stands under a path, or the server's refusal. With ``sure`` the kind is asked for where MLST does not tell links.

        MLST follows links on many servers, and calls a pipe a file.
        """
        (told,), _ = self.facts_of([(path, sure)])
        return told

    def facts_of(
        self,
        asked: Sequence[tuple[bytes, bool]],
        more: Sequence[bytes] = (),
        *,
        data: bool = False,
        seconds: float | None = None,
    ) -> tuple[list[Entry | Reply], list[Reply]]:
        """``facts`` of several paths (each with its ``sure``) and, before them, the answers to ``more``, all asked at once.

        With ``data``, the data connection that comes next is asked for on the way.
        """
        questions = [self.questions(path, sure) for path, sure in asked]
        passive = [self._passive_question] if data and self._port is None else []
        commands = [*more, *chain.from_iterable(questions), *passive]
        replies = iter(self.ask_each(commands, seconds=seconds))
        others = [next(replies) for _ in more]
        answers = [[next(replies) for _ in each] for each in questions]
        if passive:
            self._port = self._port_in(passive[0], next(replies))
        return [self.fact(*ask, answer) for ask, answer in zip(asked, answers, strict=True)], others

    def questions(self, path: bytes, sure: bool, present: bool = False) -> list[bytes]:
        if "MLST" in self.features:
            known = [b"MLST"]
        else:
            # Of what is expected to be a file it is only asked when it has no size whether one can go in.
            known = [b"SIZE", *([b"MDTM"] if self.tells_times else []), *([] if present else [b"CWD"])]
        return [word + b" " + path for word in (*known, *([b"STAT"] if sure and self._lists_by_stat else []))]

    def fact(self, path: bytes, sure: bool, answers: Sequence[Reply], present: bool = False) -> Entry | Reply:
        """What the answers to ``_questions`` say, with further ones where they do not say enough."""
        if "MLST" in self.features:
            reply, *listed = answers
            told = mlst_answer(line.encode("latin-1") for line in reply.lines) if reply.done else None
            if told is not None and told.kind is FileKind.FILE:
                if told.size is None:
                    told = replace(told, size=self.size(path))
                if told.modified is None:
                    told = replace(told, modified=self.modified(path))
            if told is not None and not (sure and told.kind is FileKind.FILE):
                return told
            kind = self.kind(path, there=told is not None, listed=listed)
            if told is not None:
                return replace(told, kind=kind or told.kind)
            return Entry(b"", kind, None, None) if kind is not None else reply
        reply, *listed = answers
        timed = listed.pop(0) if self.tells_times else None
        entered = None if present else listed.pop(0)
        size = size_in(reply)
        kind = self.kind(path, there=size is not None, listed=listed) if sure else None
        if size is None and kind is None and (entered or self.ask(b"CWD " + path)).done:
            kind = FileKind.FOLDER
        if size is None:
            return Entry(b"", kind, None, None) if kind is not None else reply
        return Entry(b"", kind, size, moment(timed) if timed is not None else None)

    def asked_at_once(self, path: bytes) -> list[bytes]:
        """Questions about a small plain file that go out together with the command to send it."""
        return self.questions(path, False, True)

    def told_at_once(self) -> Entry | Reply:
        """What the answers to them say; nothing more is asked, as the file is under way."""
        reply, *timed = self.told
        size = size_in(reply)
        return reply if size is None else Entry(b"", None, size, moment(timed[0]) if timed else None)

    def size(self, path: bytes) -> int | None:
        return size_in(self.ask(b"SIZE " + path))

    def modified(self, path: bytes) -> datetime | None:
        return moment(self.ask(b"MDTM " + path)) if self.tells_times else None

    @property
    def tells_times(self) -> bool:
        """False if the server says that it knows no MDTM."""
        return not self.features or "MDTM" in self.features

    def kind(self, path: bytes, *, there: bool, listed: Sequence[Reply] = ()) -> FileKind | None:
        """What LIST calls a path, asked over the control connection; None if the server does not say.

        ``listed`` holds the answer to STAT, if that was asked already.

        vsftpd takes the argument for a pattern, and for a link compares it with the link's target: a link is never found by its
        own name. So what is ``there`` and not found is looked for in the whole folder. It leaves out names that begin with a dot,
        unless asked for all.
        """
        if not self._lists_by_stat:
            return None
        folder, _, name = path.rpartition(b"/")
        wanted = name.replace(b"\xff\xff", b"\xff") if self._doubled else name
        pattern = folder + b"/" + re.sub(rb"[*?\[\]{}\\]", b"?", name)
        for argument in dict.fromkeys((path, pattern, *([b"-a " + pattern] if name.startswith(b".") else []))):
            reply, listed = listed[0] if listed else self.ask(b"STAT " + argument), ()
            if not reply.done and not argument.startswith(b"-a "):
                return None
            # A trailing blank is lost with the end of its line.
            kind = _kind_in((line.encode("latin-1").lstrip() for line in reply.lines), wanted, bytes.rstrip)
            if kind is not None:
                return kind
        if not there:
            return None
        kind = self._listed_kind(folder or b"/", wanted)
        self._lists_by_stat = kind is not FileKind.FILE  # else STAT is of no use here, and asking it again would be of none
        return kind

    def _listed_kind(self, folder: bytes, name: bytes) -> FileKind | None:
        if not (self.ask(b"CWD " + folder)).done:
            return None
        kind, rest = None, b""
        listing = b"LIST -a" if name.startswith(b".") else b"LIST"
        with self.data(listing, block=64 * 1024, most=LONGEST_LISTING) as data:
            if isinstance(data, Reply):
                return None
            while block := data.read():
                *lines, rest = (rest + block).split(b"\n")
                kind = kind or _kind_in((line.removesuffix(b"\r") for line in lines), name, bytes)
            data.finish()
        return kind

    @property
    def hashes(self) -> bool:
        """True if the server tells SHA-256 digests of its files."""
        return self._tells_hash or "XSHA256" in self.features

    @property
    def _tells_hash(self) -> bool:
        return "SHA-256" in self.features.get("HASH", "").upper()

    def sha256_question(self, path: bytes) -> list[bytes]:
        """The question for the server's own digest of a file; none if it tells none."""
        if self._tells_hash:
            return [b"HASH " + path]
        # A name with blanks must be quoted (proftpd), and nothing says how to quote a quotation mark.
        return [b'XSHA256 "' + path + b'"'] if "XSHA256" in self.features and b'"' not in path else []

    def hashing_seconds(self, size: int) -> float:
        return self.door.seconds + size / _HASH_BYTES_PER_SECOND

    def sha256(self, path: bytes, size: int) -> str | None:
        """The server's own digest of a file; None if it offers none."""
        for question in self.sha256_question(path):
            return digest_in(self.ask(question, seconds=self.hashing_seconds(size)))
        return None

    def sha256_of_first(self, path: bytes, count: int, first: bytes) -> str | None:
        """The server's own digest of a file's first ``count`` bytes, of which the first is ``first``; None if it tells none.

        No standard says how a range is asked for. HASH with RANG does (draft-bryan-ftpext-hash), but proftpd takes the RANG and
        hashes the whole. So XSHA256 is asked for a byte that we know, to see whether it means by a range what we mean.
        """
        if "XSHA256" not in self.features or b'"' in path or not count:
            return None
        question = b'XSHA256 "' + path + b'" 0 %d'
        known, told = self.ask_each([question % 1, question % count], seconds=self.hashing_seconds(count))
        return digest_in(told) if digest_in(known) == hashlib.sha256(first).hexdigest() else None

    def enter(self, folder: bytes) -> None:
        """Make a folder the current one. Raises ``EndpointError`` if it is missing."""
        reply = self.ask(b"CWD " + self.path(folder))
        if not reply.done:
            raise EndpointError(
                f"{self.door.address}: the folder {shown(folder)} cannot be opened ({reply.words}); nothing was changed. "
                "Create it or correct the profile"
            )

    # ----------------------------------------------------------------------------------------- data connections

    @contextmanager
    def data(
        self, command: bytes, offset: int = 0, *, before: Sequence[bytes] = (), block: int = BLOCK, most: float = inf
    ) -> Iterator[Data | Reply]:
        """A data connection for a command, or the server's refusal. Left before ``finish`` the whole connection is given up.

        Questions ``before`` it are sent together with it; what was ``told`` is there when it begins.

        More than ``most`` bytes are never read from it: ``EndpointUnsuitable``.
        """
        clear = self._passive()
        data = Data(self, clear, block, most)
        try:
            if offset:
                reply = self.ask(b"REST %d" % offset)
                if reply.code != 350:
                    yield reply
                    return
            self.say([*before, command])
            self.told = self._answers_to(before)
            with self._lost(bool(before)):
                reply = self._answer(preliminary=True)
            if reply.code >= 200:
                yield reply
                return
            if self.door.protection is not None:
                with self._translated:
                    data.channel = self._protect(clear, self.door.protection)
            data.under_way = True
            yield data
        finally:
            self._data_socket = None
            data.channel.close()
            if data.under_way:
                self.abandon()

    def _passive(self) -> socket.socket:
        """A connection for data, in clear as yet."""
        port, self._port = self._port or self._passive_port(), None
        with self._translated:
            # Never elsewhere, whatever the server says. A link-local address is nothing without its scope, which stands behind the port.
            host, _, *rest = self._line_open.getpeername()
            clear = self._data_socket = socket.socket(self._line_open.family, socket.SOCK_STREAM)
            clear.settimeout(self.door.seconds)
            clear.connect((host, port, *rest))
            clear.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return clear

    def _protect(self, clear: socket.socket, protection: Protection) -> ssl.SSLSocket:
        control = self._line_open
        if self._resuming is None and isinstance(control, ssl.SSLSocket):
            # Copying a session out of OpenSSL costs as much as half a handshake, so it is done once.
            self._resuming = control.session
        try:
            channel = self._secured(clear, protection, self._resuming)
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise EndpointUnreachable(
                f"{self.door.address}: the data connection ended before TLS had begun on it, though the server agreed to PROT P. "
                "Nothing was sent on it in clear; it will be tried again"
            ) from error
        reused = bool(channel.session_reused)
        if not reused:
            self._resuming = None  # the server may have told a newer one since
        self.tls_reuse = bool(self.tls_reuse or reused)
        return channel

    @property
    def _passive_question(self) -> bytes:
        return b"PASV" if self.extended_passive is False else b"EPSV"

    def _port_in(self, question: bytes, reply: Reply) -> int | None:
        """The port in the answer to EPSV or PASV; None if there is none."""
        if question == b"EPSV":
            found = re.search(r"\((.)\1\1(\d+)\1\)", reply.lines[-1])
            self.extended_passive = reply.code == 229 and found is not None
            return int(found[2]) if reply.code == 229 and found else None
        numbers = re.search(r"(?:\d{1,3},){4}(\d{1,3}),(\d{1,3})", reply.lines[-1])
        # Its first four numbers are an address, often a private one behind a firewall. We never connect elsewhere.
        return int(numbers[1]) * 256 + int(numbers[2]) if reply.code == 227 and numbers else None

    def _passive_port(self) -> int:
        # That EPSV is not understood may be no more than what an earlier visit found.
        for question in (b"EPSV", b"PASV") if self._passive_question == b"EPSV" else (b"PASV", b"EPSV"):
            reply = self.ask(question)
            if (port := self._port_in(question, reply)) is not None:
                return port
        raise EndpointUnsuitable(f"{self.door.address}: the server offers no passive data connection ({reply.words})")

    def not_kept(self, reply: Reply) -> None:
        """Raise for a refusal after a server has begun to take bytes, if it concerns more than this file; else return."""
        self.refuse(reply)
        # "Local error": what vsftpd and proftpd say when their disk is full. 452 comes from servers that looked before they wrote.
        if reply.code == 451:
            raise EndpointFull(
                f"{self.door.address}: the server could not keep what it was sent ({reply.words}); its disk may be full. Nothing partial "
                "stands under a final name. Ask the partner to make room"
            )

    def refuse(self, reply: Reply) -> None:
        """Raise for a refusal that concerns more than one file; return if it is about this file only."""
        address, words = self.door.address, reply.words
        if reply.code in (452, 552):
            raise EndpointFull(
                f"{address}: no space left ({words}); nothing partial stands under a final name. Ask the partner to make room"
            )
        if reply.code in (425, 426):
            raise EndpointUnreachable(f"{address}: the data connection failed ({words}); it will be tried again")
        if reply.code in (521, 522, 533, 534, 536):
            raise EndpointUnsuitable(
                f"{address}: the server refuses the protection of a data connection ({words}); ask the partner"
            )
        if reply.code in (530, 532):
            raise LoginRefused(f"{address}: the server wants a login again ({words}); nothing was changed")


class Data:
    """An open data connection."""

    def __init__(self, wire: Wire, channel: socket.socket, block: int, most: float) -> None:
        self._wire, self.channel, self._most = wire, channel, most
        self._pace = Pace(wire.door.address, wire.door.seconds, EndpointUnreachable)
        self._block, self._translated = block, Translated(wire.door)
        self._broken: EndpointError | None = None
        self.under_way = False

    def read(self) -> bytearray:
        """The next bytes, a whole block unless it is the last; none at the end. What came before a break is told before the break."""
        if self._broken is not None:
            raise self._broken
        block, came = bytearray(self._block), 0
        view = memoryview(block)
        try:
            with self._translated:
                while came < len(view) and (count := self.channel.recv_into(view[came:])):
                    came += count
                    self._pace.moved(count)
        except EndpointError as error:
            if not came:
                raise
            self._broken = error
        view.release()
        del block[came:]
        self._most -= came
        if self._most < 0:
            raise endless(self._wire.door.address, "a listing")
        return block

    def read_at_least(self, count: int) -> bytes:
        """The next bytes, so many or more; fewer only at the end."""
        start = b""
        while len(start) < count and (block := self.read()):
            start += block
        return start

    def write(self, block: bytes) -> None:
        left = memoryview(block)
        with self._translated:
            while left:
                count = self.channel.send(left)
                self._pace.moved(count)
                left = left[count:]

    def finish(self, after: Sequence[bytes] = ()) -> Reply:
        """Close, and await what the server says about the whole. 226 alone proves nothing.

        Questions ``after`` it do not wait for that: only for a file that has come to its end, as some servers go on with what they are
        asked while a transfer lasts.
        """
        with suppress(OSError):  # what the server says counts
            if isinstance(self.channel, ssl.SSLSocket):
                self.channel.setblocking(False)
                with suppress(ssl.SSLError):  # our goodbye is sent, and nobody waits for theirs
                    self.channel.unwrap()
            # Not closed as yet: TLS tickets that nobody has read would make of that a reset, and cost the server our last bytes.
            socket.socket.shutdown(self.channel, socket.SHUT_WR)
        reply = self._wire.final_of_transfer(after)
        self.under_way = False
        return reply


# --------------------------------------------------------------------------------------------- small things


class Translated:
    """The one place where what TLS and the socket raise becomes an error of ours; ``then`` is done first. Used again and again."""

    def __init__(self, door: Door, then: Callable[[], None] = lambda: None) -> None:
        self._door, self._then = door, then

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self._then()
            if (ours := _ours(error, self._door)) is not None:
                raise ours from error


def _ours(error: BaseException, door: Door) -> EndpointError | None:
    """What an error means here; None if it is ours already, or nobody's."""
    address = door.address
    if isinstance(error, ssl.SSLCertVerificationError):
        return HostKeyChanged(
            f"{address}: the server's certificate is not trusted ({error.verify_message}). Nothing was sent, no login was tried. "
            "Ask the partner by another way; a new certificate is pinned with 'countersign endpoint trust'"
        )
    if isinstance(error, ssl.SSLError):
        if "WRONG_VERSION_NUMBER" in str(error) or "RECORD_LAYER" in str(error):
            return EndpointUnsuitable(
                f"{address}: the server does not speak TLS here. Explicit TLS is usual on port 21, implicit on 990: look at 'mode'"
            )
        if error.reason in _NOTHING_IN_COMMON:
            return EndpointUnsuitable(
                f"{address}: the server offers no TLS version or cipher that we accept ({error.reason}), only outdated ones. Ask the "
                "partner to enable TLS 1.2 with ECDHE and GCM; until then 'legacy' at the endpoint can allow named ones up to a date"
            )
        return EndpointUnreachable(f"{address}: TLS failed ({error.reason or error}); it will be tried again")
    if isinstance(error, TimeoutError):
        return EndpointUnreachable(f"{address}: no answer for {door.seconds:g} s; it will be tried again")
    if isinstance(error, socket.gaierror):
        return EndpointUnreachable(f"{address}: the host name is not known here ({error.strerror}); check it in the profile")
    if isinstance(error, OSError | EOFError):
        return EndpointUnreachable(f"{address}: the connection was lost ({error or 'closed'}); it will be tried again")
    if isinstance(error, ValueError):
        return EndpointUnsuitable(f"{address}: what answers there does not speak FTP; check host, port and protocol")
    return None


def fingerprint_of(certificate: x509.Certificate) -> str:
    """``SHA256:AA:BB:…``, as openssl prints it."""
    return "SHA256:" + certificate.fingerprint(SHA256()).hex(":").upper()


def shown_certificate(door: Door) -> str:
    """The fingerprint of the certificate that a server shows now; nothing is sent to it but the handshake."""
    wire = Wire(door)
    try:
        wire.open()
        return wire.certificate or ""
    finally:
        wire.abandon()


def _portions(commands: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Commands that may be sent together."""
    portion, size = list[bytes](), 0
    for command in commands:
        if portion and size + len(command) > _SAID_AT_ONCE:
            yield portion
            portion, size = [], 0
        portion.append(command)
        size += len(command)
    if portion:
        yield portion


def _line(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _kind_in(lines: Iterable[bytes], name: bytes, worn: Callable[[bytes], bytes]) -> FileKind | None:
    """What the lines of a LIST call a name; ``worn`` is what became of names on their way."""
    for line in lines:
        with suppress(ValueError):
            entry = list_line(line)
            if entry is not None and worn(entry.name.rpartition(b"/")[2]) == worn(name):
                return entry.kind
    return None


def digest_in(reply: Reply) -> str | None:
    """The SHA-256 digest in an answer to HASH or XSHA256; None if it holds none."""
    found = re.search(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{64}(?![0-9A-Fa-f])", reply.lines[-1])
    return found[0].lower() if reply.done and found else None


def moment(reply: Reply) -> datetime | None:
    """The time in an answer to MDTM; None if it holds none."""
    return timestamp(reply.lines[-1].encode("latin-1")) if reply.code == 213 else None


def size_in(reply: Reply) -> int | None:
    """The size in an answer to SIZE; None if it holds none."""
    text = reply.lines[-1].strip()
    return int(text) if reply.code == 213 and text.isascii() and text.isdigit() else None


def _features(reply: Reply) -> dict[str, str]:
    if reply.code != 211:
        return {}
    return {word.upper(): rest for word, _, rest in (line.strip().partition(" ") for line in reply.lines[1:-1])}
