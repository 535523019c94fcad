"""A stand-in for line-of-business systems: an ERP or CRM over HTTP, a search index, and a collector of security events.

``BusinessSandbox(data).start()`` serves on loopback until ``stop()``, over TLS if it is given a certificate, and then asks for the
client's own (mTLS) if it is given the authority of those. What it took is in ``business.jsonl`` and survives a restart.

=======================================  ================================================================================
``POST /oauth2/token``                   a token for ``client``/``secret`` by the grant "client credentials"
``POST /api/<kind>``                     makes a thing; ``Idempotency-Key`` is honoured: same key and body, same answer;
                                         other body: 422. Also JSON's field ``reference``, to be looked for
``GET  /api/<kind>?reference=``          the things of a kind; in pages with ``limit`` and ``after``, whose answers say ``next``
``GET  /api/<kind>/<id>``                one of them; a ``jobs`` one is "running" for ``job-looks`` looks, then "done" or what it was
                                         asked to be by ``{"ends": "failed"}``
``PUT  /api/<kind>/<id>``                makes or replaces it; a body that is no JSON is kept by its SHA-256
``GET  /api/documents?state=ready``      what ``offer`` has put there, to be handed over; ``/content`` below one are its bytes
``POST /_bulk``                          OpenSearch's bulk interface: index, create, delete, with ``version_type: external``
``GET  /<index>/_doc/<id>``              one of its documents
``PUT  /<index>``, ``/_mapping`` below   says what its fields are; ``POST /<index>/_delete_by_query`` and ``_refresh``
``POST /services/collector/event``       Splunk's HTTP Event Collector: one JSON object per event, ``Authorization: Splunk <token>``
``POST /_faults``, ``GET /_stats``       what misbehaves, and what was called how often
=======================================  ================================================================================

All but the token endpoint, the collector and the controls ask for basic (``user``/``password``), the bearer token ``token``, a token of
the endpoint, or a client's certificate.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

BEFORE = ("busy429", "burst503", "html500", "drop", "token-ends")
"""Counted, struck before anything is done: 429 or 503 with Retry-After, a page, the connection ends, 401."""
AFTER = ("lost-answer", "html500-after", "cut", "trickle", "stall")
"""Counted, struck when it is done: no answer, a page, half an answer, an answer byte by byte, an answer much too late."""
LASTING = ("retry-after", "job-looks", "trickle-seconds", "bulk-refuses", "largest-body", "largest-says", "list-loses")
"""Numbers that stay: seconds told with 429 and 503 (none by default), looks until a job is over, seconds between two bytes of a
trickle, 1 to refuse the first document of each bulk, bytes of a body above which a call is refused (0: none) and the status it
is refused with (413), and by how many things each page of a list is too short."""
FAULTS = (*BEFORE, *AFTER, *LASTING)
_PAGE = b"<html><head><title>500</title></head><body>Something went wrong</body></html>"
_RESET = struct.pack("ii", 1, 0)


class Faults:
    """What misbehaves now. ``busy429`` strikes any call, ``busy429@claims`` only those to a path that holds "claims"."""

    def __init__(self, initial: Mapping[str, float | str] | None = None) -> None:
        self._values: dict[str, float] = {}
        self._lock = threading.Lock()
        self.set(initial or {})

    def set(self, wanted: Mapping[str, float | str]) -> None:
        """Switch faults on, or off with 0. ``ValueError`` for an unknown name or a value that is not a number >= 0."""
        parsed = {}
        for name, value in wanted.items():
            if name.partition("@")[0] not in FAULTS:
                raise ValueError(f"unknown fault {name!r}: choose from {', '.join(FAULTS)}")
            parsed[name] = float(value)
            if not 0 <= parsed[name] < float("inf"):
                raise ValueError(f"fault {name}={value}: expected a number of at least 0")
        with self._lock:
            self._values.update(parsed)

    def __getitem__(self, name: str) -> float:
        return self._values.get(name, 0.0)

    def spend(self, name: str, path: str) -> bool:
        """Use up one of a counted fault that strikes this path; False when there is none left."""
        with self._lock:
            for known, left in self._values.items():
                what, _, where = known.partition("@")
                if what == name and where in path and left >= 1:
                    self._values[known] -= 1
                    return True
        return False

    def as_dict(self) -> dict[str, float]:
        return dict(self._values)


@dataclass
class Books:
    """What the systems know. Appended to a file before it is answered."""

    path: Path
    things: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Kind -> id -> thing."""
    keys: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Kind and idempotency key -> digest of the body, id."""
    index: dict[str, dict[str, Any]] = field(default_factory=dict)
    """``index/id`` -> document with its version; a deleted one has no source, and keeps its version."""
    events: list[dict[str, Any]] = field(default_factory=list)
    writes: Counter[str] = field(default_factory=Counter)
    """What was really done, by kind: never more than once for what is done once."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        if self.path.exists():
            for line in self.path.read_text("utf-8").splitlines():
                self._apply(json.loads(line))
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, **what: Any) -> None:
        with self.lock:
            self._file.write(json.dumps(what) + "\n")
            self._file.flush()
            self._apply(what)

    def _apply(self, what: dict[str, Any]) -> None:
        match what:
            case {"kind": kind, "id": id, "thing": thing}:
                self.things.setdefault(kind, {})[id] = thing
                if what.get("key"):
                    self.keys[f"{kind} {what['key']}"] = (what["digest"], id)
                self.writes[kind] += 1
            case {"entry": place, "source": source, "version": version}:
                self.index[place] = {"_source": source, "_version": version}
            case {"event": event}:
                self.events.append(event)

    def close(self) -> None:
        self._file.close()


class BusinessSandbox:
    """The stand-in on a port of its own, in threads of its own."""

    USER, PASSWORD, TOKEN, COLLECTOR = "user", "password", "token", "collector-token"
    CLIENT, SECRET = "client", "secret"

    def __init__(
        self,
        data: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        certificate: Path | None = None,
        clients: Path | None = None,
        faults: Mapping[str, float | str] | None = None,
        recorded: Path | None = None,
    ) -> None:
        """``certificate``: PEM of certificate and key. ``clients``: the authority whose certificates a client must show. ``recorded``:
        a file that gets every byte that clients say, apart from headers."""
        data.mkdir(parents=True, exist_ok=True)
        self.recorded = recorded
        self.data, self.faults, self.stats = data, Faults(faults), Counter[str]()
        self.books, self.tokens = Books(data / "business.jsonl"), set[str]()
        self.looks, self.content = Counter[str](), data / "content"
        self.fields: dict[str, dict[str, str]] = {}
        """By index: what its fields were said to be."""
        self.content.mkdir(exist_ok=True)
        self.mutual = clients is not None
        self._server = _Server((host, port), _Handler)
        self._server.sandbox = self
        if certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
            context.verify_mode = ssl.CERT_REQUIRED if clients else ssl.CERT_NONE
            context.load_cert_chain(certificate)
            self._server.context = context
        self._scheme = "http" if certificate is None else "https"
        self.host, self.port = str(self._server.server_address[0]), int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="business", daemon=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.host}:{self.port}"

    def start(self) -> BusinessSandbox:
        self._thread.start()
        return self

    def stop(self) -> None:
        """End it. What was taken stays in the data folder."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
        self.books.close()

    def __enter__(self) -> BusinessSandbox:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def offer(self, id: str, content: bytes, **facts: Any) -> None:
        """The system has made a document, which waits to be handed over under its key: ``id``, unless the facts say another one."""
        digest = hashlib.sha256(content).hexdigest()
        (self.content / digest).write_bytes(content)
        thing = {"key": id, "state": "ready", "sha256": digest, "size": len(content), **facts}
        self.books.write(kind="documents", id=id, thing=thing)

    def described(self) -> dict[str, Any]:
        """What a client must know, as one JSON-ready line."""
        return {
            "service": "business",
            "url": self.url,
            "user": self.USER,
            "password": self.PASSWORD,
            "token": self.TOKEN,
            "collector_token": self.COLLECTOR,
            "token_url": f"{self.url}/oauth2/token",
            "client_id": self.CLIENT,
            "client_secret": self.SECRET,
            "host": self.host,
            "port": self.port,
            "faults": f"{self.url}/_faults",
            "root": str(self.data),
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    sandbox: BusinessSandbox
    context: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread, so that a slow handshake holds nobody up."""
        if self.context is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(60)
        with self.context.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up, or showed no certificate, is no fault of ours."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Counted instead."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    # ------------------------------------------------------------------------------------------------- every call

    def _serve(self) -> None:
        sandbox, faults = self.server.sandbox, self.server.sandbox.faults
        place = urlsplit(self.path)
        path = place.path
        body = self._read()
        if path in ("/_faults", "/_stats"):
            return self._control(path, body)
        sandbox.stats[f"{self.command} {path}"] += 1
        if sandbox.recorded is not None:
            with sandbox.books.lock, sandbox.recorded.open("ab") as told:
                told.write(self.path.encode() + b"\n" + body + b"\n")
        if 0 < faults["largest-body"] < len(body):
            return self._answer(int(faults["largest-says"]) or 413, _PAGE, "text/html")
        if faults.spend("drop", path):
            return self._cut_off()
        if faults.spend("html500", path):
            return self._answer(500, _PAGE, "text/html")
        for fault, status in (("busy429", 429), ("burst503", 503)):
            if faults.spend(fault, path):
                wait = f"{faults['retry-after']:.0f}" if faults["retry-after"] else None
                return self._answer(status, b"{}" if status == 429 else _PAGE, retry_after=wait)
        if faults.spend("token-ends", path):
            sandbox.tokens.clear()
        with sandbox.books.lock:
            status, told = self._do(path, parse_qs(place.query), body)
        if isinstance(told, bytes):
            return self._answer(status, told, "application/octet-stream")
        answer = json.dumps(told).encode()
        if faults.spend("lost-answer", path):
            return self._cut_off()
        if faults.spend("html500-after", path):
            return self._answer(500, _PAGE, "text/html")
        if faults.spend("stall", path):
            self.rfile.read(1)  # until the client has lost its patience
            return self._cut_off()
        if faults.spend("cut", path):
            self._head(status, len(answer), "application/json")
            self.wfile.write(answer[: len(answer) // 2])
            return self._cut_off()
        if faults.spend("trickle", path):
            self._head(status, len(answer), "application/json")
            for byte in answer:
                self.wfile.write(bytes([byte]))
                time.sleep(faults["trickle-seconds"])
            return None
        return self._answer(status, answer)

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _head(self, status: int, size: int, kind: str, retry_after: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        self.end_headers()

    def _answer(self, status: int, body: bytes, kind: str = "application/json", retry_after: str | None = None) -> None:
        self._head(status, len(body), kind, retry_after)
        self.wfile.write(body)

    def _cut_off(self) -> None:
        """The connection ends at once."""
        self.wfile.flush()
        self.close_connection = True
        raw = socket.socket(fileno=socket.dup(self.connection.fileno()))
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.connection.close()
        raw.close()
        raise ConnectionAbortedError

    def _control(self, path: str, body: bytes) -> None:
        sandbox = self.server.sandbox
        try:
            if self.command == "POST":
                sandbox.faults.set(json.loads(body))
        except (ValueError, TypeError, AttributeError) as error:
            return self._answer(400, json.dumps({"error": str(error)}).encode())
        told: Mapping[str, Any] = sandbox.faults.as_dict() if path == "/_faults" else dict(sandbox.stats)
        return self._answer(200, json.dumps(told).encode())

    # ------------------------------------------------------------------------------------------------- what it knows

    def _do(self, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, Any]:
        steps = [unquote(step) for step in path.strip("/").split("/")]
        if path == "/oauth2/token":
            return self._token(body)
        if path == "/services/collector/event":
            return self._collect(body)
        if not self._known():
            return 401, {"error": "sign in"}
        match self.command, steps:
            case "PUT", [index, *rest] if rest in ([], ["_mapping"]):
                return self._map(index, json.loads(body), anew=not rest)
            case "POST", [_, "_refresh"]:
                return 200, {"_shards": {"failed": 0}}
            case "POST", [index, "_delete_by_query"]:
                return self._delete_by_query(index, json.loads(body)["query"]["bool"]["filter"])
            case "POST", ["_bulk"]:
                return self._bulk(body)
            case "GET", [index, "_doc", id]:
                found = self.server.sandbox.books.index.get(f"{index}/{id}")
                there = found is not None and found["_source"] is not None
                return (200, {"found": True, "_id": id, **(found or {})}) if there else (404, {"found": False})
            case "POST", ["api", kind]:
                return self._make(kind, body)
            case "GET", ["api", kind]:
                return self._list(kind, query)
            case "GET", ["api", kind, id]:
                return self._get(kind, id)
            case "PUT", ["api", kind, id]:
                return self._put(kind, id, body)
            case "GET", ["api", "documents", id, "content"]:
                thing = self.server.sandbox.books.things.get("documents", {}).get(id)
                return (
                    (200, (self.server.sandbox.content / thing["sha256"]).read_bytes())
                    if thing
                    else (404, {"error": "no such"})
                )
        return 404, {"error": "no such route"}

    def _known(self) -> bool:
        sandbox = self.server.sandbox
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic":
            return base64.b64decode(given).decode() == f"{sandbox.USER}:{sandbox.PASSWORD}"
        if scheme == "Bearer":
            return given == sandbox.TOKEN or given in sandbox.tokens
        return not scheme and sandbox.mutual

    def _token(self, body: bytes) -> tuple[int, Any]:
        sandbox, form = self.server.sandbox, parse_qs(body.decode())
        given = base64.b64decode(self.headers.get("Authorization", "").partition(" ")[2]).decode()
        if form.get("grant_type") != ["client_credentials"] or given != f"{sandbox.CLIENT}:{sandbox.SECRET}":
            return 401, {"error": "invalid_client"}
        token = secrets.token_urlsafe(16)
        sandbox.tokens.add(token)
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": 3600}

    def _make(self, kind: str, body: bytes) -> tuple[int, Any]:
        books, key, digest = self.server.sandbox.books, self.headers.get("Idempotency-Key"), hashlib.sha256(body).hexdigest()
        known = books.keys.get(f"{kind} {key}") if key else None
        if known is not None:
            if known[0] != digest:
                return 422, {"error": "this key came with another body"}
            return 201, books.things[kind][known[1]]
        try:
            asked = json.loads(body)
        except ValueError:
            return 400, {"error": "no JSON"}
        if not isinstance(asked, dict) or asked.get("refuse"):
            return 422, {"error": f"not acceptable: {asked}"}
        number = f"{kind[:-1]}-{len(books.things.get(kind, {})) + 1}"
        thing = {**asked, "id": number, "state": "queued" if kind == "jobs" else "done"}
        books.write(kind=kind, id=number, thing=thing, key=key, digest=digest)
        return 201, thing

    def _list(self, kind: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        things = self.server.sandbox.books.things.get(kind, {}).values()
        wanted = {name: values[0] for name, values in query.items() if name not in ("limit", "after")}
        found = [thing for thing in things if all(str(thing.get(name)) == value for name, value in wanted.items())]
        start, limit = int(query.get("after", ["0"])[0]), int(query.get("limit", [str(len(found) or 1)])[0])
        page = found[start : start + limit]
        page = page[: len(page) - int(self.server.sandbox.faults["list-loses"])]
        return 200, {"results": page, "total": len(found), "next": str(start + limit) if start + limit < len(found) else None}

    def _get(self, kind: str, id: str) -> tuple[int, Any]:
        sandbox = self.server.sandbox
        thing = sandbox.books.things.get(kind, {}).get(id)
        if thing is None:
            return 404, {"error": "no such thing"}
        if kind == "jobs":
            sandbox.looks[id] += 1
            over = sandbox.looks[id] > sandbox.faults["job-looks"]
            return 200, {**thing, "state": thing.get("ends", "done") if over else "running"}
        return 200, thing

    def _put(self, kind: str, id: str, body: bytes) -> tuple[int, Any]:
        books = self.server.sandbox.books
        before = books.things.get(kind, {}).get(id, {})
        try:
            told = json.loads(body)
        except ValueError:
            digest = hashlib.sha256(body).hexdigest()
            (self.server.sandbox.content / digest).write_bytes(body)
            told = {"sha256": digest, "size": len(body)}
        thing = {**before, **told, "id": id}
        if thing != before:
            books.write(kind=kind, id=id, thing=thing)
        return 200, thing

    def _bulk(self, body: bytes) -> tuple[int, Any]:
        """https://docs.opensearch.org/latest/api-reference/document-apis/bulk/"""
        if self.headers.get("Content-Type") != "application/x-ndjson" or not body.endswith(b"\n"):
            return 400, {
                "error": {"type": "illegal_argument_exception", "reason": "The bulk request must be terminated by a newline"}
            }
        sandbox, items = self.server.sandbox, []
        lines = iter([json.loads(line) for line in body.splitlines()])
        refuse = sandbox.faults["bulk-refuses"] >= 1
        for line in lines:
            [(action, about)] = line.items()
            source = None if action == "delete" else next(lines)
            place = f"{about['_index']}/{about['_id']}"
            there, version = sandbox.books.index.get(place), int(about.get("version", 1))
            item: dict[str, Any] = {"_index": about["_index"], "_id": about["_id"], "status": 200}
            if refuse and source is not None:
                refuse = False
                item |= {"status": 400, "error": {"type": "mapper_parsing_exception", "reason": "failed to parse field"}}
            elif there is not None and there["_version"] >= version:
                reason = f"current version [{there['_version']}] is higher or equal to the one provided [{version}]"
                item |= {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": reason}}
            elif source is None and there is None:
                item |= {"status": 404, "result": "not_found"}
            else:
                sandbox.books.write(entry=place, source=source, version=version)
                item["result"] = "deleted" if source is None else "created"
            items.append({action: item})
        return 200, {"took": 1, "errors": any("error" in item for one in items for item in one.values()), "items": items}

    def _map(self, index: str, body: dict[str, Any], *, anew: bool) -> tuple[int, Any]:
        """https://docs.opensearch.org/latest/api-reference/index-apis/create-index/ and put-mapping"""
        fields = self.server.sandbox.fields
        if anew and index in fields:
            return 400, {"error": {"type": "resource_already_exists_exception", "reason": f"index [{index}] already exists"}}
        told = (body["mappings"] if anew else body)["properties"]
        fields.setdefault(index, {}).update({name: about["type"] for name, about in told.items()})
        return 200, {"acknowledged": True}

    def _delete_by_query(self, index: str, conditions: list[dict[str, Any]]) -> tuple[int, Any]:
        """https://docs.opensearch.org/latest/api-reference/document-apis/delete-by-query/: "term" of keywords and "range" with "lt"."""
        sandbox, gone = self.server.sandbox, 0
        fields = sandbox.fields.get(index, {})
        for place, there in list(sandbox.books.index.items()):
            source = there["_source"]
            if (
                place.partition("/")[0] == index
                and source is not None
                and all(_fits(source, one, fields) for one in conditions)
            ):
                sandbox.books.write(entry=place, source=None, version=there["_version"] + 1)
                gone += 1
        return 200, {"deleted": gone, "failures": [], "timed_out": False}

    def _collect(self, body: bytes) -> tuple[int, Any]:
        """https://docs.splunk.com/Documentation/Splunk/latest/Data/HECExamples"""
        if self.headers.get("Authorization") != f"Splunk {self.server.sandbox.COLLECTOR}":
            return 403, {"text": "Invalid token", "code": 4}
        try:
            events = [json.loads(line) for line in body.splitlines() if line]
        except ValueError:
            return 400, {"text": "Invalid data format", "code": 6}
        if not events or any("event" not in one for one in events):
            return 400, {"text": "Event field is required", "code": 12}
        for one in events:
            self.server.sandbox.books.write(event=one)
        return 200, {"text": "Success", "code": 0}


def _fits(source: Mapping[str, Any], condition: Mapping[str, Any], fields: Mapping[str, str]) -> bool:
    """A field that was not said to be a keyword is searched by its words, and has no value as a whole."""
    [(kind, about)] = condition.items()
    [(name, wanted)] = about.items()
    found = source.get(name)
    if kind == "range":
        return fields.get(name) == "long" and found is not None and bool(found < wanted["lt"])
    return fields.get(name) == "keyword" and wanted in (found if isinstance(found, list) else [found])
