"""The repository that all contenders of a bench post to: one process that keeps names, sizes and digests, and no bytes.

``with sink() as there`` starts ``python -m tests.bench.sink`` on loopback and ends it by its process id. It speaks the calls of
Extended ECM that a filing needs (``tests/sandbox`` has them all, and costs too much to be measured with): tickets, volumes,
folders and what is in them, one category's definition, documents by multipart, their versions and holds. A name that is taken
is refused, identities are kept and told. What it does not know, it answers as the real one does. Bodies need a Content-Length,
and the file is their last part, as every contender frames them: so it is hashed as it comes, and never held.

As lean as Python allows, because it shares the machine with those that are measured: HTTP is read here, from one buffer per
connection.
"""

from __future__ import annotations

import asyncio
import gc
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx

ROOT = Path(__file__).resolve().parents[2]
USER, PASSWORD = "bench", "as-fast-as-you-can"
ENTERPRISE, CATEGORIES = 141, 133
FOLDER, CATEGORY, CATEGORY_FOLDER, DOCUMENT = 0, 131, 132, 144
PARTNER_DOCUMENT = ("Partner ID", "Document Date", "Reference", "SHA-256", "Source Path", "Received")
"""Attributes of the category Partner Document, all of them texts."""
BUFFER_BYTES = 256 * 1024
"""A call that does not fit must be a document's, whose file is hashed piece by piece."""


# ----------------------------------------------------------------------------------------------------- for those who post


@dataclass(frozen=True)
class Received:
    """A document that the sink was given."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Sink:
    """A sink that is up. Its folders are made by whoever asks for them, as in the real one."""

    url: str
    user: str
    password: str
    process: subprocess.Popen[bytes]

    def folder(self, *path: str) -> int:
        """The node id of a folder below the Enterprise volume; made where it is missing."""
        return int(self._answer("POST", "/_folder", path))

    def received(self, folder: int) -> dict[str, Received]:
        """Every document in a folder, by name."""
        return {name: Received(*told) for name, told in self._answer("GET", f"/_received/{folder}").items()}

    def forget(self, folder: int) -> None:
        """Empty a folder: the next turn may use the same names."""
        self._answer("POST", f"/_forget/{folder}")

    def cpu_seconds(self) -> float:
        """Of the sink's process so far, user and system."""
        return float(self._answer("GET", "/_cpu"))

    def calls(self) -> dict[str, int]:
        """How often each kind of call was made so far; ids in it are shown as ``N``."""
        return dict(self._answer("GET", "/_calls"))

    def _answer(self, method: str, path: str, content: Any = None) -> Any:
        answer = httpx.request(method, self.url + path, content=json.dumps(content).encode(), timeout=60, trust_env=False)
        answer.raise_for_status()
        return answer.json()


@contextmanager
def sink(seconds: float = 120) -> Iterator[Sink]:
    """A sink while the block runs. Raises ``RuntimeError`` if it is not there after ``seconds``."""
    command = [sys.executable, "-m", "tests.bench.sink"]
    # Its standard input is ours: should we be killed, it closes, and the sink ends too.
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin and process.stdout
    try:
        said = process.stdout.readline()
        if not said:
            raise RuntimeError(f"the sink ended with {process.wait(seconds)} before it was there; its log is above")
        yield Sink(json.loads(said)["url"], USER, PASSWORD, process)
    finally:
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        process.stdout.close()


# ----------------------------------------------------------------------------------------------------- what it keeps


class Refusal(Exception):
    """An error as the interface tells it."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


@dataclass(slots=True)
class Node:
    id: int
    parent: int
    name: str
    type: int
    size: int = 0
    digest: str = ""
    source: str = ""
    identity: str = ""
    below: dict[str, Node] = field(default_factory=dict)
    """What a container holds, by folded name."""

    @property
    def container(self) -> bool:
        return self.type not in (DOCUMENT, CATEGORY)

    def properties(self) -> dict[str, Any]:
        size = len(self.below) if self.container else self.size
        return {
            "advanced_versioning": False,
            "container": self.container,
            "container_size": size if self.container else 0,
            "create_date": "2026-12-01T08:00:00Z",
            "create_user_id": 1000,
            "description": "",
            "external_create_date": None,
            "external_identity": self.identity,
            "external_identity_type": "",
            "external_modify_date": None,
            "external_source": self.source,
            "favorite": False,
            "guid": f"00000000-0000-4000-8000-{self.id:012d}",
            "hidden": False,
            "icon": f"/cssupport/webdoc/type{self.type}.gif",
            "icon_large": f"/cssupport/webdoc/type{self.type}_large.gif",
            "id": self.id,
            "mime_type": "text/plain" if self.type == DOCUMENT else None,
            "modify_date": "2026-12-01T08:00:00Z",
            "modify_user_id": 1000,
            "name": self.name,
            "name_multilingual": {"en": self.name},
            "owner": "Admin",
            "owner_group_id": 1001,
            "owner_user_id": 1000,
            "parent_id": self.parent,
            "permissions_model": "advanced",
            "reserved": False,
            "reserved_date": None,
            "reserved_shared_collaboration": False,
            "reserved_user_id": 0,
            "size": size,
            "status": None,
            "type": self.type,
            "type_name": "Document" if self.type == DOCUMENT else "Folder",
            "versionable": self.type == DOCUMENT,
            "versions_control_advanced": False,
            "volume_id": -2000,
        }

    def versions(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "version_number": 1,
            "version_number_major": 0,
            "version_number_minor": 1,
            "version_number_name": "1",
            "file_name": self.name,
            "file_size": self.size,
            "mime_type": "text/plain",
            "create_date": "2026-12-01T08:00:00Z",
            "owner_id": 1000,
            "locked": False,
            "external_source": self.source,
            "external_identity": self.identity,
        }


class Store:
    """Nodes, and the answers about them."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self.volumes = {
            ENTERPRISE: self.add(-1, "Enterprise", ENTERPRISE),
            CATEGORIES: self.add(-1, "Categories Volume", CATEGORIES),
        }
        exchange = self.add(self.volumes[CATEGORIES].id, "Partner Exchange", CATEGORY_FOLDER)
        self.category = self.add(exchange.id, "Partner Document", CATEGORY)

    def node(self, id: int) -> Node:
        try:
            return self.nodes[id]
        except KeyError:
            raise Refusal(400, f"Could not get a node for {id}") from None

    def add(self, parent: int, name: str, type: int) -> Node:
        """A new node. Refuses a name that its container holds, in whatever case."""
        node = Node(2000 + len(self.nodes), parent, name, type)
        if parent != -1:
            below, key = self.node(parent).below, name.casefold()
            if key in below:
                raise Refusal(500, f"An item with the name '{name}' already exists.")
            below[key] = node
        self.nodes[node.id] = node
        return node

    def folder(self, path: list[str]) -> int:
        here = self.volumes[ENTERPRISE]
        for name in path:
            here = here.below.get(name.casefold()) or self.add(here.id, name, FOLDER)
        return here.id

    def children(self, parent: int, query: dict[str, list[str]]) -> dict[str, Any]:
        """A page of what a container holds; ``where_name`` asks for a part of the name, ``where_type`` for kinds."""
        found = list(self.node(parent).below.values())
        if part := query.get("where_name", [""])[0].casefold():
            found = [node for node in found if part in node.name.casefold()]
        if kinds := [int(kind) for kind in query.get("where_type", [])]:
            found = [node for node in found if node.type in kinds or (node.container and -1 in kinds)]
        limit, page = int(query.get("limit", ["100"])[0]), int(query.get("page", ["1"])[0])
        shown = sorted(found, key=lambda node: node.name)[(page - 1) * limit : page * limit]
        paging = {"limit": limit, "page": page, "page_total": -(-len(found) // limit), "total_count": len(found)}
        results = [{"data": {"properties": node.properties(), "versions": node.versions()}} for node in shown]
        return {"collection": {"paging": paging}, "results": results}

    def form(self) -> dict[str, Any]:
        id = self.category.id
        fields = {
            f"{id}_{number}": {"title": title, "type": "string", "readonly": False, "required": False}
            for number, title in enumerate(PARTNER_DOCUMENT, 2)
        }
        schema = {"properties": {f"{id}_1": {"readonly": True, "type": "object"}, **fields}, "type": "object"}
        return {"forms": [{"data": dict.fromkeys(fields), "options": {"fields": {}, "form": {}}, "schema": schema}]}


# ----------------------------------------------------------------------------------------------------- answering calls


def _links(path: str, method: str) -> dict[str, Any]:
    return {"data": {"self": {"body": "", "content_type": "", "href": path, "method": method, "name": ""}}}


def _made(marked: Node) -> str:
    """The answer to a new document, to be filled in: encoding it anew each time would cost as much as all the rest."""
    answer = {"links": _links("/api/v2/nodes", "POST"), "results": {"data": {"properties": marked.properties()}}}
    text = json.dumps(answer).replace("%", "%%").replace(f"{marked.id:012d}", "%(id)012d")
    for name, mark in (("name", marked.name), ("source", marked.source), ("identity", marked.identity)):
        text = text.replace(f'"{mark}"', f"%({name})s")
    for name, number in (("id", marked.id), ("parent", marked.parent), ("size", marked.size)):
        text = text.replace(f": {number},", f": %({name})d,")
    return text


MADE = _made(Node(111111, 222222, "@name", DOCUMENT, 333333, source="@source", identity="@identity"))


class Server:
    """What each call is answered. Nothing of HTTP but status and ticket is known here."""

    def __init__(self) -> None:
        self.store, self.ticket, self.calls = Store(), secrets.token_hex(32), dict[str, int]()
        self._proof = f"\r\notcsticket: {self.ticket}\r\n".encode()
        self._head = (
            f"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nOTCSTicket: {self.ticket}\r\nContent-Length: %d\r\n\r\n"
        )

    def answer(self, head: Head, body: bytes) -> bytes:
        """To a call that came whole."""
        try:
            if head.boundary:
                start, fields = opened(body, head.boundary)
                end = len(body) - len(tail(head.boundary))
                return self.keep(head, fields, sha256(memoryview(body)[start:end]).hexdigest(), end - start)
            return self.said(200, json.dumps(self._answer(head, body)))
        except Refusal as refusal:
            return self.refused(refusal)

    def keep(self, head: Head, fields: dict[str, str], digest: str, size: int) -> bytes:
        """Make the document whose bytes came. Raises ``Refusal``."""
        if head.path != "/api/v2/nodes" or "body" not in fields:
            raise Refusal(400, "The REST API URL could not be found in the mappings registry")
        self.admit(head)
        asked = json.loads(fields["body"])
        if int(asked["type"]) != DOCUMENT:
            raise Refusal(400, "Only a document holds a file")
        node = self.store.add(int(asked["parent_id"]), asked["name"], DOCUMENT)
        node.size, node.digest = size, digest
        node.source, node.identity = asked.get("external_source", ""), asked.get("external_identity", "")
        self._count("POST v2/nodes (file)")
        told = {"name": json.dumps(node.name), "source": json.dumps(node.source), "identity": json.dumps(node.identity)}
        return self.said(200, MADE % {**told, "id": node.id, "parent": node.parent, "size": size})

    def admit(self, head: Head) -> None:
        if self._proof not in head.lines:
            raise Refusal(401, "Authentication Required")

    def said(self, status: int, text: str) -> bytes:
        return (self._head % (status, "OK" if status == 200 else "Refused", len(text))).encode() + text.encode()

    def refused(self, refusal: Refusal) -> bytes:
        return self.said(refusal.status, json.dumps({"error": refusal.text}))

    def _count(self, call: str) -> None:
        self.calls[call] = self.calls.get(call, 0) + 1

    def _answer(self, head: Head, body: bytes) -> Any:
        path, _, question = head.path.partition("?")
        if path.startswith("/_"):
            return self._about(path, body)
        if (head.method, path) == ("POST", "/api/v1/auth"):
            form = parse_qs(body.decode())
            if (form.get("username"), form.get("password")) != ([USER], [PASSWORD]):
                raise Refusal(401, "Invalid username/password specified.")
            return {"ticket": self.ticket}
        self.admit(head)
        _, api, version, *rest = path.split("/")
        self._count(f"{head.method} {version}/{'/'.join('N' if part.isdecimal() else part for part in rest)}")
        store = self.store
        match [head.method, api, version, *rest]:
            case ["GET", "api", "v1", "nodes", id, "holds"] if store.node(int(id)):
                return {"data": []}
            case ["GET", "api", "v2", "volumes", kind] if kind.isdecimal() and int(kind) in store.volumes:
                return _one(path, store.volumes[int(kind)])
            case ["GET", "api", "v2", "nodes", id]:
                return _one(path, store.node(int(id)))
            case ["GET", "api", "v2", "nodes", id, "nodes"]:
                return store.children(int(id), parse_qs(question))
            case ["GET", "api", "v2", "nodes", id, "versions"]:
                return {"results": [{"data": {"versions": store.node(int(id)).versions()}}]}
            case ["GET", "api", "v2", "holds"]:
                return {"results": {"data": {"holds": []}}}
            case ["GET", "api", "v1", "forms", "nodes", "categories", "create"]:
                return store.form()
            case ["GET", "api", "v2", "multipart", "settings"]:
                return {"is_enabled": False, "min_size": 0, "max_size": 0}
            case ["POST", "api", "v1", "validation", "nodes", "names"]:
                asked = json.loads(parse_qs(body.decode())["body"][0])
                below = store.node(int(asked["parent_id"])).below
                held = [below[name.casefold()] for name in asked["names"] if name.casefold() in below]
                return {"results": [{"id": node.id, "name": node.name} for node in held]}
            case ["POST", "api", "v2", "nodes"]:
                asked = json.loads(parse_qs(body.decode())["body"][0])
                return _one(path, store.add(int(asked["parent_id"]), asked["name"], int(asked["type"])))
            case ["DELETE", "api", "v1", "auth"]:
                return {"ok": True}
        raise Refusal(400, "The REST API URL could not be found in the mappings registry")

    def _about(self, path: str, body: bytes) -> Any:
        """What ``Sink`` asks."""
        match path.split("/")[1:]:
            case ["_folder"]:
                return self.store.folder(json.loads(body))
            case ["_received", id]:
                below = self.store.node(int(id)).below.values()
                return {node.name: (node.size, node.digest) for node in below if node.type == DOCUMENT}
            case ["_forget", id]:
                self.store.node(int(id)).below.clear()
                return True
            case ["_cpu"]:
                return time.process_time()
            case ["_calls"]:
                return self.calls
        raise Refusal(400, "unknown")


def _one(path: str, node: Node) -> dict[str, Any]:
    return {"links": _links(path, "GET"), "results": {"data": {"properties": node.properties(), "versions": node.versions()}}}


# ----------------------------------------------------------------------------------------------------- reading calls


@dataclass(frozen=True, slots=True)
class Head:
    """The lines before a call's body; ``lines`` in small letters, for looking things up."""

    method: str
    path: str
    lines: bytes
    length: int
    boundary: bytes
    """Of a multipart body; else empty."""


def head_of(text: bytes) -> Head:
    method, path, _ = text[: text.index(b"\r\n")].decode("latin-1").split(" ", 2)
    lines = text.lower()
    length = int(_value(lines, b"content-length") or 0)
    boundary = b""
    if (kind := _value(lines, b"content-type")).startswith(b"multipart/form-data"):
        # Upper and lower case count here.
        at = lines.index(kind)
        boundary = text[at : at + len(kind)].partition(b"boundary=")[2].strip(b'" ')
    return Head(method, path, lines, length, boundary)


def _value(lines: bytes, name: bytes) -> bytes:
    at = lines.find(b"\r\n" + name + b":")
    return b"" if at < 0 else lines[at + len(name) + 3 : lines.index(b"\r\n", at + 2)].strip()


def tail(boundary: bytes) -> bytes:
    """What comes after the file, which is the last part."""
    return b"\r\n--" + boundary + b"--\r\n"


def opened(body: bytes, boundary: bytes) -> tuple[int, dict[str, str]]:
    """Where the file begins, and the fields before it. Raises ``Refusal`` if that is not to be seen (yet)."""
    at = body.find(b'; filename="')
    start = body.find(b"\r\n\r\n", at) + 4
    if at < 0 or start < 4:
        raise Refusal(400, "A multipart body without a file")
    fields = {}
    for part in body[:at].split(b"--" + boundary + b"\r\n")[1:-1]:
        about, _, value = part.partition(b"\r\n\r\n")
        fields[about.partition(b'name="')[2].partition(b'"')[0].decode()] = value.removesuffix(b"\r\n").decode()
    return start, fields


class Upload:
    """A document whose bytes are still coming."""

    def __init__(self, head: Head, came: memoryview) -> None:
        """``came``: of the body so far. Raises ``Refusal`` if its file is not to be seen yet."""
        start, self.fields = opened(bytes(came), head.boundary)
        self.head, self.digest = head, sha256()
        self.size = head.length - start - len(tail(head.boundary))
        self._file, self.left = self.size, head.length - start
        """Bytes to come: of the file, and of all."""
        self.feed(came[start:])

    def feed(self, piece: memoryview) -> int:
        """Take what belongs to it, and say how much."""
        taken = min(self.left, len(piece))
        if own := min(self._file, taken):
            self.digest.update(piece[:own])
            self._file -= own
        self.left -= taken
        return taken


class Connection(asyncio.BufferedProtocol):
    """One client: calls one after the other, from one buffer."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._held = bytearray(BUFFER_BYTES)
        self._view, self._end = memoryview(self._held), 0
        """The buffer, and how far it is filled."""
        self._head: Head | None = None
        """Of a call whose body is still coming."""
        self._upload: Upload | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        self._end += nbytes
        taken = 0
        while taken < self._end and (more := self._take(taken)):
            taken += more
        left = self._end - taken
        if taken and left:
            self._view[:left] = self._view[taken : self._end]
        self._end = left
        if left == BUFFER_BYTES:
            self._transport.write(self._server.refused(Refusal(413, "Neither a file nor a small call")))
            self._transport.close()

    def _take(self, start: int) -> int:
        """Go on from ``start``; how many bytes are done with. 0: more must come first."""
        if self._upload is not None:
            return self._feed(self._upload, start)
        if self._head is None:
            stop = self._held.find(b"\r\n\r\n", start, self._end)
            if stop < 0:
                return 0
            self._head = head_of(bytes(self._view[start : stop + 2]))
            if b"\r\nexpect: 100-continue\r\n" in self._head.lines:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if self._head.length:
                return stop + 4 - start
            return self._whole(self._head, start, stop + 4)
        head, stop = self._head, start + self._head.length
        if stop <= self._end:
            return self._whole(head, start, stop)
        if head.boundary and head.length > BUFFER_BYTES:
            try:
                self._upload = Upload(head, self._view[start : self._end])
            except Refusal:
                return 0
            return self._end - start
        return 0

    def _whole(self, head: Head, start: int, stop: int) -> int:
        self._head = None
        body = bytes(self._view[start:stop]) if head.length else b""
        self._transport.write(self._server.answer(head, body))
        return stop - start

    def _feed(self, upload: Upload, start: int) -> int:
        taken = upload.feed(self._view[start : self._end])
        if not upload.left:
            self._head = self._upload = None
            try:
                answer = self._server.keep(upload.head, upload.fields, upload.digest.hexdigest(), upload.size)
            except Refusal as refusal:
                answer = self._server.refused(refusal)
            self._transport.write(answer)
        return taken


async def serve() -> None:
    """Until the standard input closes."""
    gc.disable()  # what it keeps grows, and to look through that again and again is no work of a repository's
    server, loop = Server(), asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0, backlog=512)
    print(json.dumps({"url": "http://{}:{}".format(*listening.sockets[0].getsockname())}), flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    listening.close()


if __name__ == "__main__":
    asyncio.run(serve())
