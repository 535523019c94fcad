"""Short calls over kept connections: what goes out in one piece and comes back in one.

Where every document is a call or two, the calls are what a filing costs us. The standard library's client needs 0.15 ms for one,
httpx's 0.7 ms. What is said here is httpx's all the same, errors and answers, so that callers need not know which of them spoke:
streams, uploads in pieces and whatever else is not short stay with httpx. No proxy is taken from the environment, here as there.
"""

from __future__ import annotations

import re
import select
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse, HTTPSConnection
from threading import Lock
from time import monotonic

import httpx

from blocks.pace import Pace

PIECE = 64 * 1024
_PLAIN = re.compile(r"[A-Za-z0-9/_.~?=&%:,;+!@()*-]*")
"""What stands in an address as it is."""


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
        self._headers, self._trust, self._stalled = dict(headers), trust, stalled
        self.timeout_seconds = timeout_seconds
        self._kept, self._idle_seconds = kept, idle_seconds
        self._lock, self._idle = Lock(), list[tuple[float, HTTPConnection]]()
        self._cookies = cookies

    def call(self, method: str, address: str, headers: Mapping[str, str], content: bytes | None = None) -> httpx.Response:
        """One call; ``address`` is a whole one, at this server."""
        sent = self._headers | dict(headers)
        if len(self._cookies):
            asked = httpx.Request(method, address)
            self._cookies.set_cookie_header(asked)
            sent |= {"Cookie": asked.headers["Cookie"]} if "Cookie" in asked.headers else {}
        line = self._line()
        try:
            with _translated(f"{method} {address.partition('?')[0]}"):
                line.sock.settimeout(self.timeout_seconds)
                answer, body = self._exchange(line, method, self._target(address), sent, content)
        except BaseException:
            line.close()
            raise
        if answer.will_close:
            line.close()
        else:
            self._keep(line)
        told = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.getheaders()]
        try:
            response = httpx.Response(answer.status, headers=told, content=body)
        except httpx.DecodingError as error:
            raise httpx.RemoteProtocolError(f"{method} {address.partition('?')[0]}: {error}") from error
        if "set-cookie" in response.headers:
            response.request = httpx.Request(method, address)
            self._cookies.extract_cookies(response)
        return response

    def close(self) -> None:
        """End the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, line in idle:
            line.close()

    # ------------------------------------------------------------------------------------------------- one exchange

    def _exchange(
        self, line: HTTPConnection, method: str, target: str, headers: Mapping[str, str], content: bytes | None
    ) -> tuple[HTTPResponse, bytes]:
        # A server that does not want to hear all of it may have answered before it hung up.
        with suppress(BrokenPipeError, ConnectionResetError):
            if content is None or len(content) <= PIECE:
                line.request(method, target, body=content, headers=headers)
            else:  # the timeout is for each piece
                sized = {**headers, "Content-Length": str(len(content))}
                whole = memoryview(content)
                in_pieces = (whole[at : at + PIECE] for at in range(0, len(whole), PIECE))
                line.request(method, target, body=in_pieces, headers=sized)
        answer = line.getresponse()
        if answer.status < 200:
            raise httpx.RemoteProtocolError(
                f"the server changes to another protocol ({answer.status}), and nobody asked for that"
            )
        pace = Pace(f"{self._origin}{target.partition('?')[0]}", self.timeout_seconds, self._stalled)
        pace.moved(0)
        pieces = []
        while piece := answer.read1(PIECE):
            pace.moved(len(piece))
            pieces.append(piece)
        if answer.length:  # a body that ends early is no error there
            raise httpx.RemoteProtocolError(f"the answer ended {answer.length} bytes too early")
        answer.close()
        return answer, b"".join(pieces)

    def _target(self, address: str) -> str:
        target = address.removeprefix(self._origin)
        if target.startswith("/") and _PLAIN.fullmatch(target):
            return target
        return httpx.URL(address).raw_path.decode("ascii")

    # ------------------------------------------------------------------------------------------------- connections

    def _line(self) -> HTTPConnection:
        """A connection that is open, as far as we can see."""
        while True:
            with self._lock:
                since, line = self._idle.pop() if self._idle else (0.0, None)
            if line is None:
                return self._connected()
            if monotonic() - since < self._idle_seconds and not _ended(line):
                return line
            line.close()

    def _connected(self) -> HTTPConnection:
        if self._tls:
            line: HTTPConnection = HTTPSConnection(self._host, self._port, timeout=self.timeout_seconds, context=self._trust)
        else:
            line = HTTPConnection(self._host, self._port, timeout=self.timeout_seconds)
        line.response_class = _Answer
        try:
            line.connect()
        except TimeoutError as error:
            raise httpx.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        return line

    def _keep(self, line: HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < self._kept:
                self._idle.append((monotonic(), line))
                return
        line.close()


_HEAD = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2}) ?([\t -~]*)\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*\r\n)+)\r\n")
_LENGTH = re.compile(r"[0-9]{1,15}")


class _Answer(HTTPResponse):
    """The final answer: what a server says in between (1xx) is passed over. The library does that with 100 alone."""

    def begin(self) -> None:
        if self.headers is None and self._is_plain():
            return
        super().begin()
        while 100 <= self.status < 200 and self.status != HTTPStatus.SWITCHING_PROTOCOLS:
            self.headers = None  # type: ignore[assignment]  # so that it begins anew
            super().begin()

    def _is_plain(self) -> bool:
        """Read the head of an answer as most are: here at once, its length told, on a connection that stays. Else nothing is read.

        The library has it read by a parser of mails, which costs a third of a call. We never ask with HEAD.
        """
        head = _HEAD.match(self.fp.peek())
        if head is None or head[1] in (b"204", b"304"):
            return False
        headers, told = HTTPMessage(), dict[str, str]()
        for line in head[3].decode("ascii").splitlines():
            name, _, value = line.partition(":")
            headers[name] = told[name.lower()] = value.lstrip(" \t")
        length = told.get("content-length", "")
        if len(headers.get_all("Content-Length", ())) != 1 or not _LENGTH.fullmatch(length):
            return False
        if "connection" in told or "transfer-encoding" in told:
            return False
        self.fp.read(head.end())
        self.version, self.status, self.reason = 11, int(head[1]), head[2].decode("ascii").strip()
        self.headers = self.msg = headers
        self.length, self.chunked, self.will_close = int(length), False, False
        return True


def _ended(line: HTTPConnection) -> bool:
    """True if the server has hung up, or said something that nobody asked for."""
    ready = select.poll()
    ready.register(line.sock, select.POLLIN)
    return bool(ready.poll(0))


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise httpx.ReadTimeout(f"{what}: {error}") from error
    except (OSError, HTTPException) as error:
        raise httpx.RemoteProtocolError(f"{what}: {error or type(error).__name__}") from error
