"""Speaking with Content Server's REST interface (OTCS): tickets, encodings, what an answer means, and what may be repeated.

Nothing here knows what a filing is. Two kinds of call, because they fail differently (and each as a routine too, ``asking`` and
``writing``, so that one thread has several on their way):

- ``ask`` changes nothing. No answer, or one that means "later", is asked again a few times with growing, jittered pauses.
- ``write`` changes something and is sent once. When it was sent and no answer tells what became of it, ``AnswerLost`` is
  raised: the caller looks. Only what certainly was not carried out is sent again here (no connection; 401 for an old ticket).

What an answer means, from OpenText's REST reference and its own client (pyxecm):

- 401: the ticket has run out. One thread signs in again for all; each call is then repeated once, its body from the start.
- 502, 503, 504, an empty success: transient. So is every page where JSON was due, whatever its status: it is somebody else's (a
  proxy, a sign-on portal, a web server whose application is away) and tells nothing of a node or of a call.
- a name collision is 500 or 400 depending on the call, and is told by its text ("already exists"), never by its status.
- a missing or invisible node is 400 as a rule, and told by its text too.
- every answer may carry a renewed ticket in the header ``OTCSTicket``: whoever keeps the newest one stays signed in.
"""

from __future__ import annotations

import json
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from threading import Lock
from typing import Any, BinaryIO, ClassVar, Protocol, TypeAlias
from urllib.parse import urlencode

import httpx

from blocks.errors import (
    DocumentMissing,
    EditConflict,
    OutcomeUnknown,
    RepositoryError,
    RepositoryUnreachable,
    SignInRefused,
    SpoolCorrupt,
    SpoolMissing,
)
from blocks.pace import Pace
from blocks.relay import Take
from blocks.repositories.lines import Answer, Lines
from blocks.repositories.routines import Routine, finished
from blocks.settings import settings

SMALL_BYTES = 1024 * 1024
"""Below this a file is sent from memory in one piece; measured to be the faster way for small posts."""
CHUNK_BYTES = 256 * 1024
ATTEMPTS = 6
IDLE_SECONDS = 3.0
"""So long an idle connection is kept."""

Query: TypeAlias = Mapping[str, str | int | list[str]]
Fields: TypeAlias = Mapping[str, str | int | Sequence[str | int]]
Json: TypeAlias = dict[str, Any]
Answered: TypeAlias = Answer | httpx.Response


class Refusal(RepositoryError):
    """The server answered, and said no. ``text`` is the reason in its own words, ``answer`` all that it said."""

    def __init__(self, message: str, text: str = "", answer: Json | None = None) -> None:
        super().__init__(message)
        self.text, self.answer = text, answer or {}


class NameTaken(Refusal):
    """The container already holds something of that name (whatever its case)."""


class AnswerLost(RepositoryUnreachable):
    """A write was sent, and no answer tells what became of it. ``running``: the server may still be at it."""

    def __init__(self, message: str, running: bool = False) -> None:
        super().__init__(message)
        self.running = running


class FilePart(Protocol):
    """The file part of a multipart call."""

    @property
    def field(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def media_type(self) -> str: ...
    @property
    def size(self) -> int: ...

    def pour(self, take: Take) -> None:
        """Give exactly ``size`` bytes, from the start each time it is asked: a call may have to be sent again."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A whole file. Its bytes are counted and hashed on the way: others than promised are never filed."""

    field: ClassVar[str] = "file"

    path: Path
    name: str
    media_type: str
    size: int
    digest: str

    def pour(self, take: Take) -> None:
        for piece in self.pieces():
            take(piece)

    def pieces(self) -> Iterator[bytes]:
        """The bytes. Raises before the last piece is out, so that the server can never take a wrong body for a whole one."""
        digest, sent, held = sha256(), 0, b""
        with readable(self) as source:
            while piece := source.read(min(CHUNK_BYTES, self.size + 1)):
                if held:
                    yield held
                digest.update(piece)
                sent, held = sent + len(piece), piece
                if sent > self.size:
                    break
        if sent != self.size or digest.hexdigest() != self.digest:
            raise self.corrupt()
        yield held

    def corrupt(self) -> SpoolCorrupt:
        return SpoolCorrupt(
            f"{self.path}: not the {self.size} bytes with digest {self.digest[:16]}… that were promised; {self.name!r} was not filed, "
            "fetch it again"
        )


@contextmanager
def readable(upload: Upload) -> Iterator[BinaryIO]:
    """The file that is sent, opened."""
    try:
        with upload.path.open("rb", buffering=0) as source:
            yield source
    except FileNotFoundError as error:
        raise SpoolMissing(f"{upload.path}: gone before it was filed as {upload.name!r}; fetch it again") from error
    except OSError as error:
        raise RepositoryError(f"{upload.path}: cannot be read ({error.strerror}); {upload.name!r} was not filed") from error


def pauses() -> Iterator[None]:
    """Yields once per attempt; sleeps between attempts, longer each time and never in step with others."""
    longest = settings().pause_seconds
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(min(longest, 0.15 * 2**attempt) * random.uniform(0.5, 1.5))  # noqa: S311
        yield


class Wire:
    """One signed-in account at one server. Used by several threads at once."""

    SERVER: ClassVar = "Content Server"

    def __init__(
        self,
        url: str,
        username: str,
        password: Callable[[], str],
        *,
        timeout_seconds: float,
        connections: int,
        ca: Path | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._username, self._password = username, password
        # Idle connections are given up before the usual servers do (5 s): a post on one just being closed is a lost answer.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=connections, keepalive_expiry=IDLE_SECONDS)
        trust = _trust(self.url, ca)
        self._client = httpx.Client(
            transport=_Transport(verify=trust, limits=limits, trust_env=False),
            timeout=httpx.Timeout(timeout_seconds),
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            follow_redirects=False,
            trust_env=False,
        )
        self._lines = Lines(
            self.url,
            self._client.headers,
            self._client.cookies,
            timeout_seconds=timeout_seconds,
            kept=connections,
            idle_seconds=IDLE_SECONDS,
            trust=trust,
            stalled=Stalled,
        )
        self._lock, self._ticket, self._sign_ins = Lock(), "", 0

    # ------------------------------------------------------------------------------------------------- the two kinds of call

    def ask(
        self,
        what: str,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Json | None = None,
        fields: Fields | None = None,
    ) -> Json:
        """A call that changes nothing. ``what`` names it in errors: ``"versions of node 4711"``."""
        return finished(self.asking(what, method, path, query=query, body=body, fields=fields))

    def asking(
        self,
        what: str,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Json | None = None,
        fields: Fields | None = None,
    ) -> Routine[Json]:
        """``ask``, with others beside it."""
        timeouts = 0
        for _ in pauses():
            try:
                return self._judge(
                    what, (yield from self._sending(what, method, path, query=query, fields=_form(body, fields)))
                )
            except NotCarriedOut as error:
                failure: RepositoryUnreachable = error
                if not error.soon:
                    break
            except Stalled as error:
                failure = error
                timeouts += 1
                if timeouts == 2:  # each has already waited as long as was agreed
                    break
            except RepositoryUnreachable as error:
                failure = error
        raise RepositoryUnreachable(*failure.args) from failure

    def write(
        self,
        what: str,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        fields: Fields | None = None,
        upload: FilePart | None = None,
        bare: bool = False,
    ) -> Json:
        """A call that changes something. ``body`` goes as JSON in the one form field ``body``, ``fields`` as they are.

        ``bare``: of this call only "an object" is documented as its answer, so an empty one is an answer too.
        """
        return finished(self.writing(what, method, path, body=body, fields=fields, upload=upload, bare=bare))

    def writing(
        self,
        what: str,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        fields: Fields | None = None,
        upload: FilePart | None = None,
        bare: bool = False,
    ) -> Routine[Json]:
        """``write``, with others beside it."""
        form = _form(body, fields)
        for _ in pauses():
            try:
                response = yield from self._sending(what, method, path, fields=form, upload=upload)
                break
            except NotCarriedOut as error:
                failure = error
                if not error.soon:
                    raise
            except RepositoryUnreachable as error:
                raise AnswerLost(
                    f"{error}; whether it was carried out is looked up", isinstance(error, Stalled | _Dropped)
                ) from error
        else:
            raise RepositoryUnreachable(*failure.args) from failure
        try:
            return self._judge(what, response, bare=bare)
        except RepositoryUnreachable as error:
            # A gateway gives up on a server that may well go on; the server's own page means that it has stopped.
            raise AnswerLost(str(error), response.status_code in (502, 504)) from error

    @contextmanager
    def download(self, what: str, path: str) -> Iterator[httpx.Response]:
        """A body as a stream. Raises ``RepositoryUnreachable`` for anything that may be tried again."""
        for last in (False, True):
            generation, headers = self._keys()
            with _translated(f"{what} at {self.url}"), self._client.stream("GET", self._at(path), headers=headers) as answer:
                if answer.status_code != 401 or last:
                    self._renew(generation, answer)
                    if answer.status_code != 200:
                        answer.read()
                        self._judge(what, answer)
                    yield answer
                    return
            self._sign_in(generation)

    # ------------------------------------------------------------------------------------------------- tickets

    def sign_in(self) -> None:
        """Get a ticket. Raises ``SignInRefused`` for a wrong name or password, which is never tried again by itself."""
        self._sign_in(self._sign_ins)

    def _sign_in(self, generation: int) -> None:
        with self._lock:
            if self._sign_ins != generation:
                return  # another thread has just done it for all of us
            what = f"sign-in of {self._username}"
            address, form, word = self._door()
            for _ in pauses():
                try:
                    with _translated(f"{what} at {self.url}"):
                        response = self._client.post(address, data=form)
                    answer = self._judge(what, response)
                    break
                except RepositoryUnreachable as error:
                    failure = error
                    if isinstance(error, Stalled) or (isinstance(error, NotCarriedOut) and not error.soon):
                        raise
            else:
                raise RepositoryUnreachable(*failure.args) from failure
            ticket = answer.get(word)
            if not isinstance(ticket, str) or not ticket:
                raise RepositoryError(
                    f"{what} at {self.url}: the answer holds no ticket; is this the address of {self.SERVER}?"
                )
            self._ticket, self._sign_ins = ticket, self._sign_ins + 1

    def _door(self) -> tuple[str, dict[str, str], str]:
        """Where one signs in, what is said there, and which word of the answer is the ticket."""
        return self._at("v1/auth"), {"username": self._username, "password": self._password()}, "ticket"

    def _keys(self) -> tuple[int, dict[str, str]]:
        with self._lock:
            return self._sign_ins, {"OTCSTicket": self._ticket}

    def _renew(self, generation: int, response: Answered) -> None:
        """Keep the newest echoed ticket; an echo of before the last sign-in is stale."""
        ticket = response.headers.get("otcsticket")
        if ticket and ticket != self._ticket:
            with self._lock:
                if self._sign_ins == generation:
                    self._ticket = ticket

    # ------------------------------------------------------------------------------------------------- one sending

    def _at(self, path: str) -> str:
        return f"{self.url}/api/{path}"

    def _sending(
        self,
        what: str,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        fields: Fields | None = None,
        upload: FilePart | None = None,
    ) -> Routine[Answer]:
        """Steps aside while the call is on its way."""
        for last in (False, True):
            generation, headers = self._keys()
            content: bytes | None = None
            framed = None if upload is None else _Framed(fields or {}, upload)
            if framed is not None:
                headers["Content-Type"] = framed.content_type
                content = framed.whole() if framed.size < SMALL_BYTES else None
            elif fields:
                content, more = self._encoded(fields)
                headers |= more
            address = f"{self._at(path)}?{httpx.QueryParams(query)}" if query else self._at(path)
            try:
                with self._lines.say(method, address, headers, content, framed if content is None else None) as said:
                    yield
                    response = self._lines.hear(said)
            except httpx.TransportError as error:
                failure = _told(f"{what} at {self.url}", error)
                if isinstance(failure, _Dropped) and framed is not None and not framed.out:
                    # Half a body is nothing that a server could go on with.
                    raise RepositoryUnreachable(*failure.args) from error
                raise failure from error
            if framed is not None and not framed.out and response.is_success:
                raise RepositoryUnreachable(f"{what} at {self.url}: {response.status_code}, before it was sent whole")
            if response.status_code != 401 or last:
                self._renew(generation, response)
                return response
            self._sign_in(generation)
        raise AssertionError

    def _encoded(self, fields: Fields) -> tuple[bytes, dict[str, str]]:
        """How fields are sent that come without a file, and with which headers."""
        pairs = [(name, one) for name, value in fields.items() for one in ([value] if isinstance(value, str | int) else value)]
        plain = [(name, json.dumps(one) if isinstance(one, bool) else one) for name, one in pairs]
        return urlencode(plain).encode("ascii"), {"Content-Type": "application/x-www-form-urlencoded"}

    def _judge(self, what: str, response: Answered, *, bare: bool = False) -> Json:
        """The answer's JSON object, or the error that it means."""
        where, status = f"{what} at {self.url}", response.status_code
        if status in (429, 502, 503, 504):
            raise RepositoryUnreachable(f"{where}: {status}, the server is away or too busy; it is safe to try again")
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.is_success:
            if isinstance(answer, dict) and (answer or bare):
                return answer
            # An empty success is how a proxy or a restarting server looks; OpenText's client repeats it too.
            raise RepositoryUnreachable(f"{where}: {status} without a JSON answer; it is safe to try again")
        if not isinstance(answer, dict):
            if status not in (401, 413):  # web servers say these two in pages of their own, and nobody else says them
                raise RepositoryUnreachable(
                    f"{where}: {status} with a page instead of an answer; it is safe to try again, and if that stays so, look at the "
                    "address and at what is between us and the server"
                )
            answer = {}
        text = _reason(answer) or ("too large for the server" if status == 413 else f"status {status} without a reason")
        words = text.casefold()
        if status == 401:
            raise SignInRefused(f"{where}: {text}; check the account, nothing was changed")
        if status == 409 or "edit conflict" in words:
            raise EditConflict(f"{where}: {text}; somebody changed it in between, it is safe to try again")
        if "already exists" in words:
            raise NameTaken(f"{where}: {text}", text)
        if (
            status == 404
            or "could not get a node" in words
            or "could not get node" in words
            or "could not be accessed" in words
        ):
            raise DocumentMissing(f"{where}: {text}")
        raise Refusal(f"{where}: {text}", text, answer)

    def close(self) -> None:
        """Give the ticket back and close the connections. Safe to call twice."""
        if self._client.is_closed:
            return
        try:
            if self._ticket:
                with _translated("sign-out"):
                    self._lines.call("DELETE", self._at("v1/auth"), self._keys()[1])
        except RepositoryUnreachable:
            return  # the ticket runs out by itself; what was done in the session stands
        finally:
            self._lines.close()
            self._client.close()


class Stalled(RepositoryUnreachable):
    """The server took the call and did not answer in time."""


class _Dropped(RepositoryUnreachable):
    """The connection ended while we waited for the answer; the server may have the whole call and go on with it."""


class NotCarriedOut(RepositoryUnreachable):
    """Certainly nothing was done: there was no connection, or the server asked us to come back. ``soon``: it may be said again here."""

    soon = True


@contextmanager
def _translated(where: str) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise _told(where, error) from error


def _told(where: str, error: httpx.TransportError) -> RepositoryUnreachable:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return NotCarriedOut(f"{where}: no connection ({error}); check address and network, nothing was changed")
    if isinstance(error, httpx.TimeoutException):
        return Stalled(f"{where}: no answer in time; it is safe to try again")
    kind = _Dropped if isinstance(error, httpx.ReadError | httpx.RemoteProtocolError) else RepositoryUnreachable
    return kind(f"{where}: the connection was lost ({error}); it is safe to try again")


class _Transport(httpx.HTTPTransport):
    """HTTP whose answers must come at a pace: each byte may take as long as was agreed, and all of them together not for ever."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        assert isinstance(response.stream, httpx.SyncByteStream)  # noqa: S101 - this is not the asynchronous one
        address = str(request.url.copy_with(query=None))
        response.stream = _Paced(response.stream, Pace(address, request.extensions["timeout"]["read"], Stalled))
        return response


class _Paced(httpx.SyncByteStream):
    """An answer's body. Raises ``Stalled`` where so little of it comes that it stands still."""

    def __init__(self, stream: httpx.SyncByteStream, pace: Pace) -> None:
        self._stream, self._pace = stream, pace

    def __iter__(self) -> Iterator[bytes]:
        self._pace.moved(0)
        for piece in self._stream:
            self._pace.moved(len(piece))
            yield piece

    def close(self) -> None:
        self._stream.close()


def _trust(url: str, ca: Path | None) -> ssl.SSLContext:
    if url.startswith("https:"):
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used: loading the authorities would cost every session 30 ms


def _form(body: Json | None, fields: Fields | None) -> Fields:
    return dict(fields or {}) if body is None else {**(fields or {}), "body": json.dumps(body)}


@contextmanager
def settling(what: str) -> Iterator[None]:
    """While we look what became of a call that may not be made twice: where the look fails too, ``OutcomeUnknown``."""
    try:
        yield
    except RepositoryUnreachable as error:
        raise OutcomeUnknown(
            f"{what}: its answer was lost, and looking for what came of it failed too ({error}); look there before it is done again"
        ) from error


def moment(text: Any) -> datetime | None:
    """A date of an answer; one without a zone is taken for UTC."""
    if not isinstance(text, str) or not text:
        return None
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _reason(answer: Json) -> str:
    results = answer.get("results")
    inner = results if isinstance(results, dict) else {}
    for text in (answer.get("errorDetail"), answer.get("error"), inner.get("errMsg")):
        if isinstance(text, str) and text:
            return text
    return ""


class _Framed:
    """A multipart body framed by ourselves: exact length, file part last, in one piece or streamed in bounded memory."""

    def __init__(self, fields: Fields, upload: FilePart) -> None:
        boundary = token_hex(16)
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        ]
        # Escaped as browsers do (HTML, "multipart/form-data encoding algorithm"): a name cannot end the header.
        filename = upload.name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        media_type = upload.media_type if upload.media_type.isascii() and upload.media_type.isprintable() else ""
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{upload.field}"; filename="{filename}"\r\n'
            f"Content-Type: {media_type or 'application/octet-stream'}\r\n\r\n"
        )
        self._head, self._tail = "".join(parts).encode(), f"\r\n--{boundary}--\r\n".encode()
        self._upload, self.out = upload, False
        """True once the last byte was taken off us."""
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self.size = len(self._head) + upload.size + len(self._tail)

    def whole(self) -> bytes:
        pieces = list[bytes | bytearray | memoryview]()
        self.pour(pieces.append)
        return b"".join(pieces)

    def pour(self, take: Take) -> None:
        take(self._head)
        self._upload.pour(take)
        take(self._tail)
        self.out = True
