"""How the Extended ECM stand-in speaks HTTP: bodies, tickets, envelopes, error pages and faults.

Nothing here knows what a node is. Endpoints are plain functions from a ``Call`` to an answer; ``Api`` gives each of them the
rules that every call of the documented REST API obeys.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedWriter
from itertools import count
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, quote

from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

UNKNOWN_ROUTE = "The REST API URL could not be found in the mappings registry"
SIGN_IN_REQUIRED = "Authentication Required"
SMALL_FILE = 256 * 1024


class Refusal(Exception):
    """The documented answer to a request that is not fulfilled: a status and one sentence, or an ``answer`` with another shape."""

    def __init__(self, status: int, text: str, answer: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.answer = {"error": text} if answer is None else answer


def truth(value: object) -> bool:
    """Flags come as words from Python clients, and without a value from others."""
    return value in (True, 1, "", "1") or str(value).lower() == "true"


# --------------------------------------------------------------------------------------------- faults and counters


@dataclass(frozen=True, slots=True, eq=False)
class Meanwhile:
    """What one call meets (``Faults.meanwhile``)."""

    path: str
    act: Callable[[], object]
    method: str
    after: bool
    struck: str


class Faults:
    """What misbehaves now. Counted faults burn down; the others stay until they are set to 0.

    ``html500`` and ``burst503`` meet any call. The others meet calls that change something, once ``spare-writes`` of these went
    through: ``write-401`` (the ticket ends in mid-upload), ``write-500`` and ``write-503`` (a page, nothing done), ``write-drop`` (the
    connection ends in mid-upload, nothing done), ``lost-answer``, ``write-500-after``, ``write-503-after`` and ``write-cut`` (done; no
    answer, a page, a gateway's page, half an answer), ``write-stall`` (done once the client hung up), ``write-late`` (no answer, and
    done only when ``late-calls`` other calls were answered and one more comes).
    ``read-401`` to ``read-cut`` are the same for calls that change nothing, once ``spare-reads`` of these went through;
    ``read-trickle`` gives the answer a byte at a time.
    ``clock-ahead`` is by how many seconds the clock is ahead by which tickets are issued and read: they run out without a wait.
    While ``away-after`` is set, the server is away for everything once a call was struck.
    """

    BEFORE: ClassVar = ("401", "500", "503", "drop", "stall", "late")
    """Each with ``write-`` or ``read-`` before it; struck before anything is done."""
    AFTER_WRITES: ClassVar = ("lost-answer", "write-500-after", "write-503-after", "write-cut")
    AFTER_READS: ClassVar = ("read-cut", "read-trickle")
    COUNTED: ClassVar = (
        "html500",
        "burst503",
        *("write-401", "write-500", "write-503", "write-drop", "write-stall", "write-late"),
        *("read-401", "read-500", "read-503", "read-drop", "read-stall"),
        *AFTER_WRITES,
        *AFTER_READS,
        "spare-writes",
        "spare-reads",
    )
    LASTING: ClassVar = ("clock-ahead", "upload-life", "search-lag", "slow", "max-body", "late-calls", "away-after")

    def __init__(self, initial: Mapping[str, float | str] | None = None) -> None:
        self._values: dict[str, float] = {}
        self._meanwhile: list[Meanwhile] = []
        self.set(initial or {})

    def set(self, wanted: Mapping[str, float | str | None]) -> None:
        """Switch faults on, or off with 0. ValueError for an unknown name or a value that is not a number >= 0."""
        parsed = {}
        for name, value in wanted.items():
            if name not in (*self.COUNTED, *self.LASTING):
                raise ValueError(f"unknown fault {name!r}: choose from {', '.join((*self.COUNTED, *self.LASTING))}")
            parsed[name] = float(value or 0)
            if not 0 <= parsed[name] < float("inf"):
                raise ValueError(f"fault {name}={value}: expected a number of at least 0")
        self._values.update(parsed)

    def __getitem__(self, name: str) -> float:
        return self._values.get(name, 0.0)

    def spend(self, name: str) -> bool:
        """Use up one of a counted fault; False when there is none left."""
        if self[name] < 1:
            return False
        self._values[name] -= 1
        return True

    def as_dict(self) -> dict[str, float]:
        return {name: self[name] for name in (*self.COUNTED, *self.LASTING)}

    def meanwhile(
        self, path: str, act: Callable[[], object] = lambda: None, *, method: str = "", after: bool = False, struck: str = ""
    ) -> None:
        """Around the next call of this method (else: the next that changes something) whose path ends so, somebody else acts.

        Just before the call is carried out, or ``after`` that. ``struck`` as well by ``write-drop`` or ``write-503`` (nothing is done),
        or by ``lost-answer``. For tests in the server's own process.
        """
        self._meanwhile.append(Meanwhile(path, act, method, after, struck))

    @property
    def unmet(self) -> list[str]:
        """Paths of what no call has met yet."""
        return [one.path for one in self._meanwhile]

    def met(self, method: str, path: str, *, writes: bool) -> Meanwhile | None:
        """What this call meets, and no other after it."""
        kinds = (method, "") if writes else (method,)
        found = next((one for one in self._meanwhile if path.endswith(one.path) and one.method in kinds), None)
        if found is not None:
            self._meanwhile.remove(found)
        return found


# --------------------------------------------------------------------------------------------- tickets


class Tickets:
    """Signed tickets that slide: each answer carries a younger one, and each expires by its own age."""

    LIFE_SECONDS = 1800.0

    def __init__(self, key: bytes, faults: Faults) -> None:
        self._key = key
        self._faults = faults
        self._ended: set[str] = set()

    def _now(self) -> float:
        return time.time() + self._faults["clock-ahead"]

    def issue(self, user: int, *, kind: str = "cs", session: str | None = None) -> str:
        claim = f"{kind} {user} {session or secrets.token_hex(8)} {self._now():.6f}"
        return base64.urlsafe_b64encode(claim.encode()).decode().rstrip("=") + "*" + self._sign(claim)

    def check(self, ticket: str, wanted: str) -> tuple[int, str] | None:
        """User and session of a ticket that is genuine, of the wanted kind, young enough and not signed out."""
        encoded, _, signature = ticket.partition("*")
        try:
            claim = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            kind, user, session, issued = claim.split(" ")
        except ValueError:
            return None
        if not hmac.compare_digest(signature, self._sign(claim)) or kind != wanted or session in self._ended:
            return None
        if self._now() - float(issued) >= self.LIFE_SECONDS:
            return None
        return int(user), session

    def end(self, session: str) -> None:
        self._ended.add(session)

    def _sign(self, claim: str) -> str:
        return hmac.new(self._key, claim.encode(), hashlib.sha256).hexdigest()[:40]


# --------------------------------------------------------------------------------------------- bodies


@dataclass(slots=True)
class Upload:
    """A file part, already on the data disk."""

    path: Path
    file_name: str
    mime_type: str
    size: int = 0


@dataclass(slots=True)
class Body:
    """Everything a request's body said: plain fields and those in ``body=``, in one mapping, and its file parts."""

    values: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Upload] = field(default_factory=dict)

    def add(self, name: str, value: str) -> None:
        if name == "body":
            try:
                parsed = json.loads(value)
            except ValueError as error:
                raise Refusal(400, f"The body parameter is not valid JSON: {error}") from error
            if not isinstance(parsed, dict):
                raise Refusal(400, "The body parameter must be a JSON object.")
            self.values.update(parsed)
        elif name in self.values:
            held = self.values[name]
            self.values[name] = [*held, value] if isinstance(held, list) else [held, value]
        else:
            self.values[name] = value

    def discard(self) -> None:
        for upload in self.files.values():
            upload.path.unlink(missing_ok=True)


class MultipartBody:
    """Reads a multipart body as it arrives: fields to memory, files straight to the data disk."""

    _numbers = count()

    def __init__(self, boundary: bytes, incoming: Path) -> None:
        self.body = Body()
        self._incoming = incoming
        self._header = [b"", b""]
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._text = bytearray()
        self._upload: Upload | None = None
        self._file: BufferedWriter | None = None
        self._complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._collect(0, data[start:end]),
                "on_header_value": lambda data, start, end: self._collect(1, data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._open,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._ended,
            },
        )

    def feed(self, chunk: bytes) -> None:
        self._parser.write(chunk)

    def finish(self) -> None:
        if not self._complete:
            raise Refusal(400, "The multipart body ended too early.")

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _begin(self) -> None:
        self._headers, self._header = {}, [b"", b""]
        self._text, self._upload = bytearray(), None

    def _collect(self, part: int, data: bytes) -> None:
        self._header[part] += data

    def _header_end(self) -> None:
        self._headers[self._header[0].lower()] = self._header[1]
        self._header = [b"", b""]

    def _open(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options:
            path = self._incoming / f"{next(self._numbers)}.part"
            mime_type = self._headers.get(b"content-type", b"application/octet-stream").decode("latin-1").partition(";")[0]
            self._upload = Upload(path, options[b"filename"].decode("utf-8", "replace"), mime_type)
            self.body.files[self._name] = self._upload
            self._file = path.open("wb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._upload and self._file:
            self._file.write(memoryview(data)[start:end])
            self._upload.size += end - start
        else:
            self._text += data[start:end]

    def _end(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
        else:
            self.body.add(self._name, self._text.decode("utf-8", "replace"))

    def _ended(self) -> None:
        self._complete = True


async def read_body(request: Request, incoming: Path, largest: float) -> Body:
    """The parsed body, whichever of the two encodings it came in. Raises ``Refusal`` with 413 beyond ``largest`` bytes."""
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    if content_type == b"multipart/form-data" and options.get(b"boundary"):
        multipart = MultipartBody(options[b"boundary"], incoming)
        try:
            async for chunk in received(request, largest):
                multipart.feed(chunk)
            multipart.finish()
        except BaseException:
            multipart.close()
            multipart.body.discard()
            raise
        return multipart.body
    text = b"".join([chunk async for chunk in received(request, largest)])
    body = Body()
    if content_type == b"application/x-www-form-urlencoded":  # nothing else is documented, so nothing else is understood
        for name, value in parse_qsl(text.decode("utf-8", "replace"), keep_blank_values=True):
            body.add(name, value)
    return body


async def received(request: Request, largest: float) -> AsyncIterator[bytes]:
    """The body's bytes as they come. After a refusal the server reads what is left, so that its answer is not lost."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if largest and size > largest:
            raise Refusal(413, f"Request body of more than {largest:.0f} bytes")
        yield chunk


# --------------------------------------------------------------------------------------------- one call


@dataclass(slots=True)
class Call:
    """One request, parsed: who asks, what the query and the body say."""

    request: Request
    user: int
    session: str
    body: Body

    @property
    def values(self) -> dict[str, Any]:
        return self.body.values

    def one(self, name: str, default: Any = None) -> Any:
        """A single body value."""
        value = self.values.get(name, default)
        return value[-1] if isinstance(value, list) and value else value

    def text(self, name: str) -> str:
        """A body value that must be there."""
        value = self.one(name)
        if value is None:
            raise Refusal(400, f"Missing required parameter: {name}")
        return str(value)

    def number(self, name: str, default: int | None = None) -> int:
        return whole(name, self.one(name, default))

    def many(self, name: str) -> list[Any]:
        """A list, however it was sent: repeated, JSON, or comma separated."""
        value = self.values.get(name)
        if value is None or value == "":
            return []
        if isinstance(value, str) and value.startswith("["):
            with suppress(ValueError):
                value = json.loads(value)
        return value if isinstance(value, list) else [value]

    def object(self, name: str) -> dict[str, Any]:
        """A nested object; in a plain field it comes as JSON text, or (from Python clients) as nothing useful."""
        value = self.one(name)
        if isinstance(value, str):
            with suppress(ValueError):
                value = json.loads(value)
        return value if isinstance(value, dict) else {}

    def asked(self, name: str, default: str | None = None) -> str | None:
        """One query value."""
        value = self.request.query_params.get(name, default)
        return default if value in ("", "None") else value

    def asked_number(self, name: str, default: int) -> int:
        return whole(name, self.asked(name, str(default)))

    def asked_many(self, name: str) -> list[str]:
        return self.request.query_params.getlist(name)

    def flag(self, name: str) -> bool:
        """A query flag: ``?metadata`` without a value counts as set."""
        value = self.request.query_params.get(name)
        return value is not None and truth(value)

    def fields(self) -> dict[str, tuple[str, ...] | None]:
        """``fields=properties{id,name}&fields=versions.element(0)`` as {"properties": ("id", "name"), "versions": None}."""
        wanted: dict[str, tuple[str, ...] | None] = {}
        for text in (*self.asked_many("fields"), *map(str, self.many("fields"))):
            for part in split_fields(text):
                group, brace, rest = part.partition("{")
                names = tuple(name.strip() for name in rest.partition("}")[0].split(",")) if brace else None
                wanted[group.partition(".")[0].strip()] = names
        return wanted


def split_fields(text: str) -> Iterator[str]:
    """Split at commas outside braces."""
    depth, start = 0, 0
    for position, char in enumerate(text):
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            yield text[start:position]
            start = position + 1
    yield text[start:]


def whole(name: str, value: object) -> int:
    try:
        return int(str(value))
    except ValueError as error:
        raise Refusal(400, f"Invalid value for parameter {name}: {value}") from error


# --------------------------------------------------------------------------------------------- answers


def envelope(call: Call, results: object, **more: object) -> dict[str, Any]:
    """The v2 shape: an object for one thing, a list for many."""
    url = call.request.url
    href = url.path[url.path.index("/api/") :] + (f"?{url.query}" if url.query else "")
    link = {"body": "", "content_type": "", "href": href, "method": call.request.method, "name": ""}
    return {**more, "links": {"data": {"self": link}}, "results": results}


def paging(call: Call, total: int, page: int, limit: int) -> dict[str, Any]:
    """``collection.paging`` of one page. Pages start at 1."""
    pages = max(1, -(-total // limit))
    links = {}
    path = call.request.url.path[call.request.url.path.index("/api/") :]
    for name, number in (("previous", page - 1), ("next", page + 1)):
        if 1 <= number <= pages:
            query = call.request.url.include_query_params(page=number).query
            links[name] = {"body": "", "content_type": "", "href": f"{path}?{query}", "method": "GET", "name": name.title()}
    return {
        "limit": limit,
        "links": {"data": links},
        "page": page,
        "page_total": pages,
        "range_max": min(total, page * limit),
        "range_min": min(total, (page - 1) * limit + 1),
        "total_count": total,
    }


def page_of(call: Call, default_limit: int = 100, *, largest: int = 1000, body: bool = False) -> tuple[int, int]:
    """Page and limit as asked."""
    if body:
        page, limit = call.number("page", 1), call.number("limit", default_limit)
    else:
        page, limit = call.asked_number("page", 1), call.asked_number("limit", default_limit)
    if page < 1 or limit < 1:
        raise Refusal(400, "Invalid value for parameter page or limit")
    return page, min(limit, largest)


def html_page(status: int, title: str) -> HTMLResponse:
    """The page a busy or broken server answers instead of JSON."""
    text = f"<html><head><title>Content Server Error</title></head><body><h1>{title}</h1><p>Please try again.</p></body></html>"
    return HTMLResponse(text, status_code=status)


def content(path: Path, size: int, name: str, mime_type: str) -> Response:
    """A stored file as a download with its length; large ones are streamed."""
    fallback = name.encode("ascii", "replace").decode().replace('"', "'").replace("\\", "_")
    headers = {"Content-Disposition": f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{quote(name)}"}
    if size <= SMALL_FILE:
        return Response(path.read_bytes(), media_type=mime_type, headers=headers)
    return FileResponse(path, media_type=mime_type, headers=headers)


# --------------------------------------------------------------------------------------------- every call


class WireProtocol(H11Protocol):
    """HTTP/1.1 whose connections can be dropped without an answer."""

    open: ClassVar[dict[tuple[str, int], asyncio.Transport]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client:
            self.open[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client:
            self.open.pop(self.client, None)
        super().connection_lost(exc)


class NoAnswer(Response):
    """Closes the connection of the request it answers, or (given an answer) after the half of it."""

    def __init__(self, answer: Response | None = None) -> None:
        super().__init__()
        self._cut = answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._cut:
            body = body_of(self._cut)
            await send({"type": "http.response.start", "status": self._cut.status_code, "headers": self._cut.raw_headers})
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        self.hang_up(scope)
        while (await receive())["type"] != "http.disconnect":
            pass

    @staticmethod
    def hang_up(scope: Any) -> None:
        if transport := WireProtocol.open.get(tuple(scope["client"])):
            transport.close()


class Trickle(Response):
    """An answer a byte at a time, until it is out or its client has gone."""

    EACH_SECONDS = 0.01

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        await send({"type": "http.response.start", "status": self._answer.status_code, "headers": self._answer.raw_headers})
        hung_up = asyncio.ensure_future(gone())
        for byte in body_of(self._answer):
            await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
            if (await asyncio.wait([hung_up], timeout=self.EACH_SECONDS))[0]:
                return
        hung_up.cancel()
        await send({"type": "http.response.body", "body": b""})


def body_of(answer: Response) -> bytes:
    return Path(answer.path).read_bytes() if isinstance(answer, FileResponse) else bytes(answer.body)


Endpoint = Callable[..., "dict[str, Any] | Response"]


class Api:
    """Registers endpoints, and gives each the rules of the wire: faults, ticket, body, errors, statuses, ticket echo."""

    def __init__(self, *, tickets: Tickets, faults: Faults, incoming: Path) -> None:
        self.routes: list[tuple[str, Route]] = []
        """Each with its method."""
        self._index: dict[tuple[str, int], list[Route]] = {}
        """By method and number of slashes: trying two hundred routes for each call costs more than the call."""
        self.tickets = tickets
        self.faults = faults
        self.incoming = incoming
        self.stats: Counter[str] = Counter()
        self.writes: list[str] = []
        """Calls that change something."""
        self._busy: set[str] = set()
        self._away = False
        self._late: list[tuple[float, Callable[[], None]]] = []
        """Calls that are carried out later: after how many others, and how."""

    def get(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._route("GET", path, **options)

    def post(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._route("POST", path, **options)

    def put(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._route("PUT", path, **options)

    def delete(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        return self._route("DELETE", path, **options)

    def _route(
        self, method: str, path: str, *, anyone: bool = False, reads: bool = False, alone: str = ""
    ) -> Callable[[Endpoint], Endpoint]:
        """``anyone`` needs no ticket; ``reads`` marks a POST that changes nothing, so that losing its answer is harmless.

        Of the calls that share a word in ``alone``, the server takes one at a time: others get an error page meanwhile.
        """

        def register(endpoint: Endpoint) -> Endpoint:
            writes = method != "GET" and not reads
            if writes:
                self.writes.append(f"{method} {path[1:]}")

            async def answer(request: Request) -> Response:
                self.stats["requests"] += 1
                self.stats[f"{method} {path}"] += 1
                if alone and alone in self._busy:
                    self.stats[f"parallel {alone}"] += 1
                    return html_page(500, "Error Processing Request")
                if alone:
                    self._busy.add(alone)
                self.stats["in hand"] += 1
                try:
                    return await self._answer(request, endpoint, anyone=anyone, writes=writes)
                finally:
                    self._busy.discard(alone)
                    self.stats["in hand"] -= 1

            name = f"{endpoint.__module__.rpartition('.')[2]}.{endpoint.__qualname__}".replace(".<locals>", "")
            route = Route(path, answer, methods=[method], name=name)
            self.routes.append((method, route))
            self._index.setdefault((method, path.count("/")), []).append(route)
            return endpoint

        return register

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application that answers below where it is mounted."""
        slashes = scope["path"].count("/") - scope["root_path"].count("/")
        for route in self._index.get((scope["method"], slashes), ()):
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope.update(found)
                await route.handle(scope, receive, send)
                return
        raise HTTPException(404)

    async def _answer(self, request: Request, endpoint: Endpoint, *, anyone: bool, writes: bool) -> Response:
        if self.faults["slow"]:
            await asyncio.sleep(self.faults["slow"])
        self._catch_up()
        self._away = self._away and self.faults["away-after"] > 0
        if self._away:
            return html_page(503, "Service Unavailable")
        for fault, status, title in (("html500", 500, "Error Processing Request"), ("burst503", 503, "Service Unavailable")):
            if self.faults.spend(fault):
                self.stats[fault] += 1
                return html_page(status, title)
        quiet = (
            truth(request.query_params["suppress_response_codes"])
            if "suppress_response_codes" in request.query_params
            else False
        )
        body = Body()
        known: tuple[int, str] | None = None
        if not anyone:
            self.stats["writes" if writes else "reads"] += 1
        kind = "write" if writes else "read"
        harmed = not anyone and not self.faults.spend(f"spare-{kind}s")
        struck = self._struck(tuple(f"{kind}-{fault}" for fault in self.faults.BEFORE)) if harmed else ""
        stalled = struck.endswith("-stall")
        try:
            known = self._who(request, anyone=anyone)
            if struck.endswith("-401"):
                async for _ in request.stream():
                    break
                return as_json(401, {"error": SIGN_IN_REQUIRED})
            if struck.endswith(("-429", "-500", "-503")):
                return self.come_back_later(int(struck[-3:]))
            if struck.endswith("-drop"):
                async for _ in request.stream():
                    break
                return NoAnswer()
            if request.method != "GET":
                body = await self.read(request)
            if stalled:
                async with asyncio.timeout(60):
                    while not await request.is_disconnected():
                        await asyncio.sleep(0.01)
            met = self.faults.met(request.method, request.url.path, writes=writes)
            if met is not None and not met.after:
                await run_in_threadpool(met.act)  # it asks this server
            if met is not None and met.struck == "write-503":
                return html_page(503, "Service Unavailable")
            if met is not None and met.struck == "write-drop":
                return NoAnswer()
            user, session = known or (0, "")
            call = Call(request, user, session, body)
            if struck.endswith("-late"):
                self._later(call, endpoint)
                body = Body()
                return NoAnswer()
            result = endpoint(call, **request.path_params)
            response = result if isinstance(result, Response) else as_json(200, result, quiet=quiet)
            if met is not None and met.after:
                await run_in_threadpool(met.act)
            if harmed:
                struck = self._struck(Faults.AFTER_WRITES if writes else Faults.AFTER_READS)
            if met is not None and met.struck == "lost-answer":
                return NoAnswer()
            if struck == "lost-answer":
                return NoAnswer()
            if struck.endswith("-after"):
                return html_page(int(struck[-9:-6]), "Error Processing Request")
            if struck.endswith("-cut"):
                return NoAnswer(response)
            if struck.endswith("-trickle"):
                return Trickle(response)
        except Refusal as refusal:
            if refusal.status == 413:
                response = html_page(413, "Request Entity Too Large")
            else:
                response = as_json(refusal.status, refusal.answer, quiet=quiet)
        except ClientDisconnect:
            return NoAnswer()
        finally:
            body.discard()
            if stalled:
                self.stats["went on"] += 1
        if known and response.status_code != 401:
            self.renew(response, *known)
        return response

    def come_back_later(self, status: int) -> Response:
        """What is answered instead of doing anything."""
        return html_page(status, "Please come back later")

    async def read(self, request: Request) -> Body:
        """The body, in the encodings that this interface has."""
        return await read_body(request, self.incoming, self.faults["max-body"])

    def renew(self, response: Response, user: int, session: str) -> None:
        """Each answer carries a younger ticket."""
        if "OTCSTicket" not in response.headers:
            response.headers["OTCSTicket"] = self.tickets.issue(user, session=session)

    def _struck(self, faults: tuple[str, ...]) -> str:
        """The one of these faults that meets this call, used up by it."""
        struck = next((fault for fault in faults if self.faults.spend(fault)), "")
        if struck:
            self.stats[struck] += 1
            self._away = True
        return struck

    def _later(self, call: Call, endpoint: Endpoint) -> None:
        """Keep a call whose client has gone."""

        def carry_out() -> None:
            self.stats["came late"] += 1
            with suppress(Refusal):
                endpoint(call, **call.request.path_params)
            call.body.discard()

        self._late.append((self.faults["late-calls"], carry_out))

    def _catch_up(self) -> None:
        """Carry out what comes late, if enough other calls came in between."""
        due = [carry_out for others, carry_out in self._late if others < 1]
        self._late = [(others - 1, carry_out) for others, carry_out in self._late if others >= 1]
        for carry_out in due:
            carry_out()

    def _who(self, request: Request, *, anyone: bool) -> tuple[int, str] | None:
        """User and session of the first credential that is offered, if it is good."""
        headers, cookies = request.headers, request.cookies
        ticket = headers.get("otcsticket") or headers.get("llcookie") or cookies.get("LLCookie") or cookies.get("otcsticket")
        token = headers.get("otdsticket") or headers.get("authorization", "").removeprefix("Bearer ")
        known = self.tickets.check(ticket.strip('"'), "cs") if ticket else self.tickets.check(token, "otds")
        if known is None and not anyone:
            raise Refusal(401, SIGN_IN_REQUIRED)
        return known


def as_json(status: int, payload: Any, *, quiet: bool = False) -> Response:
    """A JSON answer; a ``quiet`` one (``suppress_response_codes``) is always 200 and tells its status inside."""
    if quiet:
        payload, status = {**payload, "statusCode": status}, 200
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "replace"), status_code=status, media_type="application/json; charset=UTF-8")
