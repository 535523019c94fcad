"""Calls over kept connections: what goes out in one piece, or is poured out, and comes back in one.

Where every document is a call or two, the calls are what a filing costs us: 0.03 ms of the processor for one here, 0.08 ms with the
standard library's client, and several times that with httpx. So an answer as most are is read here, and any other by the standard
library, from its first byte. Errors are httpx's all the same, so that callers need not know which of them spoke: answers that are not
short stay with httpx. No proxy is taken from the environment, here as there.
"""

from __future__ import annotations

import io
import json
import re
import select
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from threading import Lock
from time import monotonic
from types import TracebackType
from typing import Any, Protocol, Self

import httpx

from blocks.pace import Pace
from blocks.relay import Take

PIECE = 64 * 1024
_PLAIN = re.compile(r"[A-Za-z0-9/_.~?=&%:,;+!@()*-]*")
"""What stands in an address as it is."""
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BROKEN = re.compile(r"[\r\n\0]")
_EMPTY = frozenset({"POST", "PUT", "PATCH"})
"""Calls that say so when they have no body."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered. Speaks of itself as httpx's answers do."""

    status_code: int
    headers: Mapping[str, str]
    """By name in small letters."""
    content: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status_code < 300

    def json(self) -> Any:
        """Raises ``ValueError`` for what is none."""
        return json.loads(self.content)


class Body(Protocol):
    """What is said with a call, if it is not held."""

    @property
    def size(self) -> int: ...

    def pour(self, take: Take) -> None:
        """Give exactly ``size`` bytes, perhaps in another thread while it waits."""


class Lines:
    """Connections to one server, each for one call at a time. Used by several threads at once.

    Raises httpx's errors: ``ConnectError`` and ``ConnectTimeout`` where nothing was sent, ``ReadTimeout`` where no answer came in time,
    ``RemoteProtocolError`` where the connection ended before the answer did, and ``stalled`` for one that comes at no pace.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        cookies: httpx.Cookies,
        *,
        timeout_seconds: float,
        kept: int,
        idle_seconds: float,
        trust: ssl.SSLContext,
        stalled: Callable[[str], Exception],
    ) -> None:
        """``cookies``: what the server wants to hear again. Before several machines it tells them which of them knows us."""
        address = httpx.URL(url)
        self._tls, self._host = address.scheme == "https", address.host
        self._port = address.port or (443 if self._tls else 80)
        self._origin = str(address.copy_with(path="/", query=None)).rstrip("/")
        self._always = _lines({"Host": address.netloc.decode("ascii"), **headers})
        self._trust, self._stalled = trust, stalled
        self.timeout_seconds = timeout_seconds
        self._kept, self._idle_seconds = kept, idle_seconds
        self._lock, self._idle = Lock(), list[tuple[float, _Line]]()
        self._cookies = cookies

    def call(self, method: str, address: str, headers: Mapping[str, str], content: bytes | None = None) -> Answer:
        """One call; ``address`` is a whole one, at this server. Raises ``ValueError`` for a header that would be several."""
        with self.say(method, address, headers, content) as said:
            return self.hear(said)

    def say(
        self, method: str, address: str, headers: Mapping[str, str], content: bytes | None = None, poured: Body | None = None
    ) -> Said:
        """The same in two steps, of which this is the first: the call is on its way then, and ``hear`` waits for its answer.

        Instead of ``content``, a body may be ``poured`` out. What that raises ends the call half-way, and its connection with it.
        """
        call = self._call(method, address, headers, content or b"", poured)
        with Said(self._line(), method, address) as said:
            line = said.line
            if line.sock.gettimeout() != self.timeout_seconds:
                line.sock.settimeout(self.timeout_seconds)
            # A server that does not want to hear all of it may have answered before it hung up.
            with suppress(_HungUp):
                line.say(call)
                if poured is not None:
                    poured.pour(line.say)
        said.at = monotonic()
        return said

    def hear(self, said: Said) -> Answer:
        """The answer to a call, within its ``with`` block."""
        heard = self._heard(said)
        told = {name.lower(): value for name, value in heard.headers}
        body = heard.body
        if "set-cookie" in told or "content-encoding" in told:
            body = self._opened(said, heard)
        if heard.ends:
            said.line.close()
        else:
            self._keep(said.line, since=said.at)
        return Answer(heard.status, told, body)

    def close(self) -> None:
        """End the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, line in idle:
            line.close()

    # ------------------------------------------------------------------------------------------------- one exchange

    def _call(self, method: str, address: str, headers: Mapping[str, str], content: bytes, poured: Body | None) -> bytes:
        """All that is said, but for a body that is poured out."""
        if len(self._cookies):
            asked = httpx.Request(method, address)
            self._cookies.set_cookie_header(asked)
            headers = {**headers, **({"Cookie": asked.headers["Cookie"]} if "Cookie" in asked.headers else {})}
        size = len(content) if poured is None else poured.size
        length = f"Content-Length: {size}\r\n" if size or method in _EMPTY else ""
        head = f"{method} {self._target(address)} HTTP/1.1\r\n{self._always}{_lines(headers)}{length}\r\n"
        return head.encode("latin-1") + content

    def _heard(self, said: Said) -> _Heard:
        came = said.line.sock.recv(PIECE)
        plain = _plain(came)
        if plain is None:
            return _read(_Answer(_From(came, said.line.sock)), self._pace(said.address))  # type: ignore[arg-type]  # it asks for a file alone
        status, headers, start, length = plain
        missing = length - (len(came) - start)
        if missing <= 0:  # more than was announced: whose is that?
            return _Heard(status, headers, came[start : start + length], ends=missing < 0)
        pieces, pace = [came[start:]], self._pace(said.address)
        while missing:
            piece = said.line.sock.recv(min(missing, PIECE))
            if not piece:
                raise httpx.RemoteProtocolError(f"the answer ended {missing} bytes too early")
            pace.moved(len(piece))
            missing -= len(piece)
            pieces.append(piece)
        return _Heard(status, headers, b"".join(pieces), ends=False)

    def _pace(self, address: str) -> Pace:
        pace = Pace(_shown(address), self.timeout_seconds, self._stalled)
        pace.moved(0)
        return pace

    def _opened(self, said: Said, heard: _Heard) -> bytes:
        """The body as it was before it was packed, although nobody asked for that; and what is to be heard again is remembered."""
        told = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in heard.headers]
        try:
            response = httpx.Response(
                heard.status, headers=told, content=heard.body, request=httpx.Request(said.method, said.address)
            )
        except httpx.DecodingError as error:
            raise httpx.RemoteProtocolError(f"{said.shown}: {error}") from error
        self._cookies.extract_cookies(response)
        return response.content

    def _target(self, address: str) -> str:
        target = address.removeprefix(self._origin)
        if target.startswith("/") and _PLAIN.fullmatch(target):
            return target
        return httpx.URL(address).raw_path.decode("ascii")

    # ------------------------------------------------------------------------------------------------- connections

    def _line(self) -> _Line:
        """A connection that is open, as far as we can see."""
        while True:
            with self._lock:
                since, line = self._idle.pop() if self._idle else (0.0, None)
            if line is None:
                return self._connected()
            if monotonic() - since < self._idle_seconds and not line.ended():
                return line
            line.close()

    def _connected(self) -> _Line:
        try:
            sock = socket.create_connection((self._host, self._port), self.timeout_seconds)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return _Line(self._trust.wrap_socket(sock, server_hostname=self._host) if self._tls else sock)
        except TimeoutError as error:
            raise httpx.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error

    def _keep(self, line: _Line, since: float) -> None:
        with self._lock:
            if len(self._idle) < self._kept:
                self._idle.append((since, line))
                return
        line.close()


class Said:
    """A call on its way. An error within its ``with`` block ends its connection, for whoever comes next would hear its answer."""

    def __init__(self, line: _Line, method: str, address: str) -> None:
        self.line, self.method, self.address = line, method, address
        self.at = 0.0
        """When all of it was said. The server may be done a moment later, however late we hear it: since then its connection is idle."""

    @property
    def shown(self) -> str:
        return f"{self.method} {_shown(self.address)}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            return
        self.line.close()
        if isinstance(error, TimeoutError):
            raise httpx.ReadTimeout(f"{self.shown}: {error}") from error
        if isinstance(error, OSError | HTTPException):
            raise httpx.RemoteProtocolError(f"{self.shown}: {error or type(error).__name__}") from error


class _HungUp(Exception):
    """The server takes no more of what we say. No ``OSError``, for a body that is poured out may raise one of its own."""


class _Line:
    """A connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._ready = select.poll()
        self._ready.register(sock, select.POLLIN)

    def say(self, words: bytes | bytearray | memoryview) -> None:
        """Send it. The timeout is for each piece. Raises ``_HungUp``."""
        try:
            if len(words) <= PIECE:
                self.sock.sendall(words)
                return
            whole = memoryview(words)
            for at in range(0, len(whole), PIECE):
                self.sock.sendall(whole[at : at + PIECE])
        except TimeoutError:
            raise
        except OSError as error:  # which one depends on TLS, and on when we find out
            raise _HungUp from error

    def ended(self) -> bool:
        """True if the server has hung up, or said something that nobody asked for."""
        # What came in one record of TLS with the last answer is taken off the wire already.
        return bool(self._ready.poll(0)) or (isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0)

    def close(self) -> None:
        self.sock.close()


# ----------------------------------------------------------------------------------------------------- what was heard


@dataclass(frozen=True, slots=True)
class _Heard:
    """An answer as it came."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    ends: bool
    """No other can come on its connection."""


_HEAD = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2})(?: [\t -~]*)?\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*\r\n)+)\r\n")
_LENGTH = re.compile(r"[0-9]{1,15}")


def _plain(came: bytes) -> tuple[int, list[tuple[str, str]], int, int] | None:
    """Status, headers, and where the body begins and how long it is, of an answer as most are: its head is here, its length is told,
    its connection stays. None for any other.

    The standard library has a head read by a parser of mails, which costs more than all the rest of a call. We never ask with HEAD.
    """
    head = _HEAD.match(came)
    if head is None or head[1] in (b"204", b"304"):
        return None
    headers, lengths = list[tuple[str, str]](), list[str]()
    for line in head[2].decode("ascii").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        value = value.strip(" \t")
        headers.append((name, value))
        lower = name.lower()
        if lower == "content-length":
            lengths.append(value)
        elif lower in ("connection", "transfer-encoding"):
            return None
    if len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]):
        return None
    return int(head[1]), headers, head.end(), int(lengths[0])


def _read(answer: HTTPResponse, pace: Pace) -> _Heard:
    """An answer that is read by the standard library."""
    answer.begin()
    if answer.status < 200:
        raise httpx.RemoteProtocolError(f"the server changes to another protocol ({answer.status}), and nobody asked for that")
    pieces = []
    while piece := answer.read1(PIECE):
        pace.moved(len(piece))
        pieces.append(piece)
    if answer.length:  # a body that ends early is no error there
        raise httpx.RemoteProtocolError(f"the answer ended {answer.length} bytes too early")
    answer.close()
    return _Heard(answer.status, answer.getheaders(), b"".join(pieces), answer.will_close)


class _Answer(HTTPResponse):
    """The final answer: what a server says in between (1xx) is passed over. The library does that with 100 alone."""

    def begin(self) -> None:
        super().begin()
        while 100 <= self.status < 200 and self.status != HTTPStatus.SWITCHING_PROTOCOLS:
            self.headers = None  # type: ignore[assignment]  # so that it begins anew
            super().begin()


class _From(io.RawIOBase):
    """What comes on a connection, together with what ``came`` already."""

    def __init__(self, came: bytes, sock: socket.socket) -> None:
        self._came, self._sock = came, sock

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        if not self._came:
            return self._sock.recv_into(into)
        count = min(len(into), len(self._came))
        into[:count], self._came = self._came[:count], self._came[count:]
        return count


def _lines(headers: Mapping[str, str]) -> str:
    """Headers as they are said."""
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or _BROKEN.search(value):
            raise ValueError(f"{name!r}: no header can hold {value!r}")
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])


def _shown(address: str) -> str:
    return address.partition("?")[0]
