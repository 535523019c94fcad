"""One signed-in FTP connection: aioftp speaks the control connection, the data connections are opened here. Both stand on ``ftp_line``.

aioftp opens TLS on a data connection before it sends the command; vsftpd and proftpd only answer the handshake after it, so
both would wait for each other. Here the passive connection is opened in clear, the command is sent, its 1xx is awaited, and
only then TLS begins, with the control connection's session: many servers take no other.

Names are bytes. aioftp's text is Latin-1 throughout, which carries any byte unchanged.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from math import inf
from types import TracebackType
from typing import Any, ClassVar

import aioftp
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from blocks.endpoints.base import endless
from blocks.endpoints.connections import OneByOne
from blocks.endpoints.ftp_line import Line, connected
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

# What goes wrong reaches the reader through our errors. aioftp would log every name and answer.
logging.getLogger("aioftp").setLevel(logging.CRITICAL)


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


class Wire(aioftp.Client):
    """A control connection. ``usable`` is False once an exchange was left half-way: it is then good for nothing more.

    On a long line every answer that is waited for costs more than the bytes, so questions go out together where one does not
    depend on the answer to another. Some servers lose questions that come before they have answered the last one: these are
    asked one by one, for as long as this process lives.
    """

    careful: ClassVar[OneByOne] = OneByOne()

    def __init__(self, door: Door) -> None:
        super().__init__(encoding="latin-1")
        self.door = door
        self.usable = True
        self.said: list[str] = []
        """What the server answered to what was done with the one file in hand."""
        self.banner = ""
        self.home = b"/"
        self.features: dict[str, str] = {}
        self.certificate: str | None = None
        self.tls: str | None = None
        self.tls_reuse: bool | None = None
        self._connection: Line | None = None
        self._room = memoryview(bytearray(BLOCK))
        """Where all that comes is received; what is waited for is never left there."""
        self._resuming: ssl.SSLSession | None = None
        """The control connection's, for data connections."""
        self._judged: bytes | None = None
        """The certificate that was found to be the right one."""
        self.extended_passive: bool | None = None
        self.idle_since = 0.0
        self._doubled: bool | None = None
        self._port: int | None = None
        """Of a data connection that the server awaits."""
        self._lists_by_stat = True
        self._translated = Translated(door, self.abandon)
        """Whatever goes wrong inside leaves an exchange half-way: an error of ours, and this connection is given up."""

    # ----------------------------------------------------------------------------------------- connecting

    async def open(self) -> None:
        """Connect, and prove who the server is. Nothing of ours has been sent but AUTH TLS."""
        door, protection = self.door, self.door.protection
        with self._translated:
            async with asyncio.timeout(door.seconds):
                await aioftp.BaseClient.connect(self, door.host, door.port)
                # Firewalls forget a control connection that says nothing during a long transfer.
                self._control.keep_alive()
                if protection is not None and protection.implicit:
                    await self._secured(protection)
            greeting = await self._final()  # after 120, "in so many minutes", it may come later
            if greeting.code != 220:
                raise EndpointBusy(f"{door.address}: the server greets with {greeting.words!r}; it will be tried again")
            self.banner = " / ".join(shown(line.strip(" -").encode("latin-1")) for line in greeting.lines)
            if protection is not None and not protection.implicit:
                await self._begin_tls(protection)

    async def _open_connection(self, host: str, port: int) -> tuple[Any, Any]:
        """What aioftp opens its streams by."""
        self._connection = await connected(host, port, self._room)
        return self._connection, self._connection

    @property
    def _control(self) -> Line:
        if self._connection is None:
            raise ConnectionResetError("not connected")
        return self._connection

    async def sign_in(self, username: str, password: str) -> None:
        """USER and PASS; then what the session needs to know about this server. Raises ``LoginRefused``."""
        address = self.door.address
        reply = await self.ask(b"USER " + _line(username))
        if reply.code == 331:
            reply = await self.ask(b"PASS " + _line(password))
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
            await self._protect_data()
        self.features = _features(await self.ask(b"FEAT"))
        options = list[bytes]()
        if "UTF8" in self.features:
            options.append(b"OPTS UTF8 ON")  # some servers send names in a code page of their own until asked
        facts = self.features.get("MLST", "").lower().replace("*", "")
        if facts and "*" in self.features["MLST"]:
            wanted = [fact for fact in facts.split(";") if fact in ("type", "size", "modify", "unique")]
            options.append(b"OPTS MLST " + _line("".join(f"{fact};" for fact in wanted)))
        if self._tells_hash:
            options.append(b"OPTS HASH SHA-256")
        *_, binary, place = await self.ask_each(
            [*options, b"TYPE I", b"PWD"], seconds=min(_ANSWERED_TOGETHER_SECONDS, self.door.seconds)
        )
        if not binary.done:
            raise EndpointUnsuitable(f"{address}: the server refuses binary transfers ({binary.words})")
        home = re.search(r'"((?:[^"]|"")*)"', "".join(place.lines))
        self.home = home[1].replace('""', '"').encode("latin-1") if home else b"/"

    async def _begin_tls(self, protection: Protection) -> None:
        reply = await self.ask(b"AUTH TLS")
        if not reply.done:
            raise EndpointUnsuitable(
                f"{self.door.address}: the server offers no explicit TLS ({reply.words}). Nothing was sent to it in clear. Ask "
                "the partner whether it is implicit (port 990: 'mode: implicit')"
            )
        # What came in clear behind the answer would be taken for the server's protected words.
        if self._control.unread():
            raise HostKeyChanged(f"{self.door.address}: somebody put words between AUTH TLS and TLS; nothing was sent")
        with self._translated:
            await self._secured(protection)

    async def _secured(self, protection: Protection) -> None:
        self._wait(self.door.seconds)
        await self.stream.start_tls(protection.context, self.door.host)
        self._know(self._control, protection)
        if self._control.group is not None:
            # This server had to ask for the group that it wants. It need not ask again at each data connection.
            protection.context.set_ecdh_curve(self._control.group)

    async def _protect_data(self) -> None:
        _, reply = await self.ask_each([b"PBSZ 0", b"PROT P"], seconds=min(_ANSWERED_TOGETHER_SECONDS, self.door.seconds))
        if reply.code != 200:
            raise EndpointUnsuitable(
                f"{self.door.address}: the server refuses to protect data connections ({reply.words} to PROT P). No file was "
                "sent or asked for. Ask the partner to allow PROT P"
            )

    def _know(self, line: Line, protection: Protection) -> None:
        """Compare the certificate with the pins. Raises ``HostKeyChanged``."""
        told = None
        if line.tls is not None:
            told, self.tls = line.tls.getpeercert(binary_form=True), line.tls.version()
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

    async def alive(self, now: float) -> bool:
        """Whether the connection still answers; asked only after some rest, as servers and firewalls forget idle ones."""
        if now - self.idle_since > _PORT_SECONDS:
            self._port = None
        if now - self.idle_since > _RESTED_SECONDS:
            with suppress(EndpointError):
                await self.ask(b"NOOP")
        return self.usable

    def abandon(self) -> None:
        """End the connection at once."""
        self.usable = False
        if self._connection is not None:
            self._connection.close()

    async def leave(self) -> None:
        """Say goodbye, briefly."""
        with suppress(EndpointError, OSError, TimeoutError):
            async with asyncio.timeout(min(2.0, self.door.seconds)):
                await self.ask(b"QUIT")
        self.abandon()

    # ----------------------------------------------------------------------------------------- questions and answers

    async def ask(self, command: bytes, *, seconds: float | None = None) -> Reply:
        """Send a command and await its answer, whatever it is. Only 421 is raised: ``EndpointBusy``."""
        await self.say([command])
        return await self._final(seconds)

    async def ask_each(self, commands: Sequence[bytes], *, seconds: float | None = None) -> list[Reply]:
        """Ask small questions without waiting for each answer before the next question, where the server bears that."""
        if self.one_by_one:
            return [await self.ask(command, seconds=seconds) for command in commands]
        await self.say(commands)
        replies = list[Reply]()
        try:
            for _ in commands:
                replies.append(await self._final(seconds))
        except EndpointUnreachable as error:
            if replies and isinstance(error.__cause__, TimeoutError):
                self.careful.saw(self.door.server)
            raise
        return replies

    @property
    def one_by_one(self) -> bool:
        """True if this server is asked one question at a time."""
        return self.door.server in self.careful

    async def say(self, commands: Sequence[bytes]) -> None:
        """Send commands; their answers are still to come."""
        if any(b"\r" in command or b"\n" in command for command in commands):
            raise EndpointError(f"{self.door.address}: a line break never goes into a command; nothing was sent")
        with self._translated:
            self._wait(self.door.seconds)
            await self.stream.write(b"".join(command + b"\r\n" for command in commands))

    def _wait(self, seconds: float) -> None:
        """Set the time that may pass until all that is waited for next has come."""
        self._control.until = asyncio.get_running_loop().time() + seconds

    async def _final(self, seconds: float | None = None) -> Reply:
        """The answer that ends an exchange. Some servers say more than once on the way there that they are at it."""
        return await self._answer(seconds, preliminary=False)

    async def _answer(self, seconds: float | None = None, *, preliminary: bool) -> Reply:
        with self._translated:
            self._wait(seconds or self.door.seconds)
            while (reply := await self._reply()).code < 200 and not preliminary:
                pass
        return reply

    async def _reply(self) -> Reply:
        """The next answer, which may be preliminary; the caller knows how long to wait for it."""
        line = await self._line()
        code, lines, length = line[:3], [line[4:]], 0
        if not (code.isascii() and code.isdigit()):
            raise ValueError(f"{shown(line.encode('latin-1')[:100])!r} is no answer")
        while not line.startswith(code + " ") and line != code and (len(lines) > 1 or line[3:4] == "-"):
            line = await self._line()
            length += len(line)
            if length > _LONGEST_REPLY:
                raise endless(self.door.address, "an answer")
            lines.append(line[4:] if line[:3] == code and line[3:4] in ("", " ", "-") else line)
        if code == "421":
            self.abandon()
            words = shown(lines[-1].strip(" -").encode("latin-1"))
            raise EndpointBusy(f"{self.door.address}: the server ends the connection (421 {words}); it will be tried again")
        return Reply(int(code), tuple(lines))

    async def _line(self) -> str:
        # aioftp's own readline makes tasks and takes times for a speed limit that is never set.
        line = await self._control.readline()
        if not line:
            raise ConnectionResetError("closed by the server")
        return line.decode("latin-1").rstrip()

    # ----------------------------------------------------------------------------------------- names and facts

    async def path(self, folder: bytes, name: bytes = b"") -> bytes:
        """Where a name is, from the root of what we see: so no command's argument begins with a dash, or looks like a time."""
        base = folder if folder.startswith(b"/") or not self.home.startswith(b"/") else self.home.rstrip(b"/") + b"/" + folder
        whole = base.rstrip(b"/") + b"/" + name if name else base.rstrip(b"/") or b"/"
        if b"\xff" not in whole:
            return whole
        if self._doubled is None:
            # On the Telnet connection that FTP once was, 255 is a command and doubled if it is meant. proftpd still reads it
            # so, others do not. What a server says about a name that cannot exist shows which kind it is.
            echo = "".join((await self.ask(b"SIZE /\xff\xff countersign")).lines)
            self._doubled = echo.count("\xff") == 1
        return whole.replace(b"\xff", b"\xff\xff") if self._doubled else whole

    async def facts(self, path: bytes, *, sure: bool = True) -> Entry | Reply:
        """What stands under a path, or the server's refusal. With ``sure`` the kind is asked for where MLST does not tell links.

        MLST follows links on many servers, and calls a pipe a file.
        """
        (told,), _ = await self.facts_of([(path, sure)])
        return told

    async def facts_of(
        self,
        asked: Sequence[tuple[bytes, bool]],
        more: Sequence[bytes] = (),
        *,
        data: bool = False,
        there: bool = False,
        seconds: float | None = None,
    ) -> tuple[list[Entry | Reply], list[Reply]]:
        """``facts`` of several paths (each with its ``sure``) and, before them, the answers to ``more``, all asked at once.

        With ``data``, the data connection that comes next is asked for on the way. What is expected to be a file that is ``there``
        is only asked when it has no size whether one can go in.
        """
        questions = [self._questions(path, sure, there) for path, sure in asked]
        passive = [self._passive_question] if data and self._port is None else []
        commands = [*more, *chain.from_iterable(questions), *passive]
        replies = iter(await self.ask_each(commands, seconds=seconds))
        others = [next(replies) for _ in more]
        answers = [[next(replies) for _ in each] for each in questions]
        if passive:
            self._port = self._port_in(passive[0], next(replies))
        return [await self._fact(*ask, answer, there) for ask, answer in zip(asked, answers, strict=True)], others

    def _questions(self, path: bytes, sure: bool, there: bool) -> list[bytes]:
        if "MLST" in self.features:
            known = [b"MLST"]
        else:
            known = [b"SIZE", *([b"MDTM"] if self.tells_times else []), *([] if there else [b"CWD"])]
        return [word + b" " + path for word in (*known, *([b"STAT"] if sure and self._lists_by_stat else []))]

    async def _fact(self, path: bytes, sure: bool, answers: Sequence[Reply], there: bool) -> Entry | Reply:
        """What the answers to ``_questions`` say, with further ones where they do not say enough."""
        if "MLST" in self.features:
            reply, *listed = answers
            told = mlst_answer(line.encode("latin-1") for line in reply.lines) if reply.done else None
            if told is not None and told.kind is FileKind.FILE:
                if told.size is None:
                    told = replace(told, size=await self.size(path))
                if told.modified is None:
                    told = replace(told, modified=await self.modified(path))
            if told is not None and not (sure and told.kind is FileKind.FILE):
                return told
            kind = await self.kind(path, there=told is not None, listed=listed)
            if told is not None:
                return replace(told, kind=kind or told.kind)
            return Entry(b"", kind, None, None) if kind is not None else reply
        reply, *listed = answers
        timed = listed.pop(0) if self.tells_times else None
        entered = None if there else listed.pop(0)
        size = size_in(reply)
        kind = await self.kind(path, there=size is not None, listed=listed) if sure else None
        if size is None and kind is None and (entered or await self.ask(b"CWD " + path)).done:
            kind = FileKind.FOLDER
        if size is None:
            return Entry(b"", kind, None, None) if kind is not None else reply
        return Entry(b"", kind, size, moment(timed) if timed is not None else None)

    async def size(self, path: bytes) -> int | None:
        return size_in(await self.ask(b"SIZE " + path))

    async def modified(self, path: bytes) -> datetime | None:
        return moment(await self.ask(b"MDTM " + path)) if self.tells_times else None

    @property
    def tells_times(self) -> bool:
        """False if the server says that it knows no MDTM."""
        return not self.features or "MDTM" in self.features

    async def kind(self, path: bytes, *, there: bool, listed: Sequence[Reply] = ()) -> FileKind | None:
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
            reply, listed = listed[0] if listed else await self.ask(b"STAT " + argument), ()
            if not reply.done and not argument.startswith(b"-a "):
                return None
            # A trailing blank is lost on the way through aioftp.
            kind = _kind_in((line.encode("latin-1").lstrip() for line in reply.lines), wanted, bytes.rstrip)
            if kind is not None:
                return kind
        if not there:
            return None
        kind = await self._listed_kind(folder or b"/", wanted)
        self._lists_by_stat = kind is not FileKind.FILE  # else STAT is of no use here, and asking it again would be of none
        return kind

    async def _listed_kind(self, folder: bytes, name: bytes) -> FileKind | None:
        if not (await self.ask(b"CWD " + folder)).done:
            return None
        kind, rest = None, b""
        listing = b"LIST -a" if name.startswith(b".") else b"LIST"
        async with self.data(listing, most=LONGEST_LISTING) as data:
            if isinstance(data, Reply):
                return None
            while block := await data.read():
                *lines, rest = (rest + block).split(b"\n")
                kind = kind or _kind_in((line.removesuffix(b"\r") for line in lines), name, bytes)
            await data.finish()
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

    async def sha256(self, path: bytes, size: int) -> str | None:
        """The server's own digest of a file; None if it offers none."""
        for question in self.sha256_question(path):
            return digest_in(await self.ask(question, seconds=self.hashing_seconds(size)))
        return None

    async def sha256_of_first(self, path: bytes, count: int, first: bytes) -> str | None:
        """The server's own digest of a file's first ``count`` bytes, of which the first is ``first``; None if it tells none.

        No standard says how a range is asked for. HASH with RANG does (draft-bryan-ftpext-hash), but proftpd takes the RANG and
        hashes the whole. So XSHA256 is asked for a byte that we know, to see whether it means by a range what we mean.
        """
        if "XSHA256" not in self.features or b'"' in path or not count:
            return None
        question = b'XSHA256 "' + path + b'" 0 %d'
        known, told = await self.ask_each([question % 1, question % count], seconds=self.hashing_seconds(count))
        return digest_in(told) if digest_in(known) == hashlib.sha256(first).hexdigest() else None

    async def enter(self, folder: bytes) -> None:
        """Make a folder the current one. Raises ``EndpointError`` if it is missing."""
        reply = await self.ask(b"CWD " + await self.path(folder))
        if not reply.done:
            raise EndpointError(
                f"{self.door.address}: the folder {shown(folder)} cannot be opened ({reply.words}); nothing was changed. "
                "Create it or correct the profile"
            )

    # ----------------------------------------------------------------------------------------- data connections

    @asynccontextmanager
    async def data(self, command: bytes, offset: int = 0, *, most: float = inf) -> AsyncIterator[Data | Reply]:
        """A data connection for a command, or the server's refusal. Left before ``finish`` the whole connection is given up.

        More than ``most`` bytes are never read from it: ``EndpointUnsuitable``.
        """
        port, self._port = self._port or await self._passive_port(), None
        with self._translated:
            # Never elsewhere, whatever the server says. A link-local address is nothing without its scope, which stands behind the port.
            host, _, *rest = self._control.peer
            line = Line(self._control.family, self._room)
        data = Data(self, line, most)
        try:
            with self._translated:
                line.until = asyncio.get_running_loop().time() + self.door.seconds
                await line.reach((host, port, *rest))
            if offset:
                reply = await self.ask(b"REST %d" % offset)
                if reply.code != 350:
                    yield reply
                    return
            await self.say([command])
            reply = await self._answer(preliminary=True)
            if reply.code >= 200:
                yield reply
                return
            if self.door.protection is not None:
                with self._translated:
                    await self._protect(line, self.door.protection)
            data.under_way = True
            yield data
        finally:
            line.close()
            if data.under_way:
                self.abandon()

    async def _protect(self, line: Line, protection: Protection) -> None:
        if self._resuming is None and self._control.tls is not None:
            # Copying a session out of OpenSSL costs as much as half a handshake, so it is done once.
            self._resuming = self._control.tls.session
        try:
            await line.start_tls(protection.context, self.door.host, self.door.seconds, session=self._resuming)
        except (ConnectionError, EOFError, TimeoutError) as error:
            raise EndpointUnreachable(
                f"{self.door.address}: TLS did not begin on the data connection, though the server agreed to PROT P. "
                "Nothing was sent on it in clear; it will be tried again"
            ) from error
        reused = line.tls is not None and bool(line.tls.session_reused)
        if not reused:
            self._know(line, protection)
            self._resuming = None  # the server may have told a newer one since
        self.tls_reuse = bool(self.tls_reuse or reused)

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

    async def _passive_port(self) -> int:
        # That EPSV is not understood may be no more than what an earlier visit found.
        for question in (b"EPSV", b"PASV") if self._passive_question == b"EPSV" else (b"PASV", b"EPSV"):
            reply = await self.ask(question)
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

    def __init__(self, wire: Wire, line: Line, most: float) -> None:
        self._wire, self._line, self._most = wire, line, most
        self._pace = Pace(wire.door.address, wire.door.seconds, EndpointUnreachable)
        self._translated = Translated(wire.door)
        self.under_way = False

    async def read(self) -> bytes:
        """The next bytes; none at the end."""
        with self._translated:
            self._wait()
            came = await self._line.read()
        self._pace.moved(len(came))
        self._most -= len(came)
        if self._most < 0:
            raise endless(self._wire.door.address, "a listing")
        return came

    def _wait(self) -> None:
        self._line.until = asyncio.get_running_loop().time() + self._wire.door.seconds

    async def read_at_least(self, count: int) -> bytes:
        """The next bytes, so many or more; fewer only at the end."""
        start = b""
        while len(start) < count and (block := await self.read()):
            start += block
        return start

    async def write(self, block: bytes) -> None:
        with self._translated:
            self._wait()
            await self._line.drain()  # what was written before; the last goes with the farewell
            self._line.write(block)
        self._pace.moved(len(block))

    async def finish(self) -> Reply:
        """Close, and await what the server says about the whole. 226 alone proves nothing."""
        with self._wire._translated:
            self._wait()
            sent = await self._line.end()
        reply = await self._wire._final()
        self.under_way = False
        if reply.done and not sent:
            raise EndpointUnreachable(
                f"{self._wire.door.address}: the data connection was lost before all was sent, though the server says {reply.words!r}; "
                "it will be tried again"
            )
        return reply


# --------------------------------------------------------------------------------------------- small things


class Translated:
    """The one place where what aioftp, TLS and the socket raise becomes an error of ours; ``then`` is done first."""

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


async def shown_certificate(door: Door) -> str:
    """The fingerprint of the certificate that a server shows now; nothing is sent to it but the handshake."""
    wire = Wire(door)
    try:
        await wire.open()
        return wire.certificate or ""
    finally:
        wire.abandon()


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
