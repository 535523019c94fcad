"""A stand-in for OpenText File 360: a Core-Share-shaped REST API over a folder on disk.

``File360Sandbox(data).start()`` serves on loopback until ``stop()``. No reference of File 360's interface is public. What OpenText's
own Python client calls (``pyxecm.coreshare``) is as that client has it, and that client drives this stand-in; the rest is our decision,
told call by call in ``docs/file360.md``. Folders and documents are in ``file360_content``, people and shares in ``file360_people``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from tests.sandbox import file360_content, file360_people
from tests.sandbox.ecm_wire import Api, Body, Call, Faults, Refusal, Tickets, as_json, received
from tests.sandbox.file360_content import Content
from tests.sandbox.file360_store import Store
from tests.sandbox.serving import Serving


class File360Faults(Faults):
    """Those of Extended ECM's stand-in, and ``write-429``, ``read-429`` and ``sign-in-429``: too many calls, come back after
    ``retry-after`` seconds; ``feed-hides`` and ``trail-hides``: the event whose id ends so is not
    among the changes, or in no history; ``trail-begins``: nor are those before that id."""

    BEFORE: ClassVar = (*Faults.BEFORE, "429")
    COUNTED: ClassVar = (*Faults.COUNTED, "write-429", "read-429", "sign-in-429")
    LASTING: ClassVar = (*Faults.LASTING, "retry-after", "feed-hides", "trail-hides", "trail-begins")


class File360Api(Api):
    """Bodies are JSON, the token is a bearer's, lists are bare, errors are objects with ``error``."""

    def come_back_later(self, status: int) -> Response:
        if status != 429:
            return super().come_back_later(status)
        response = as_json(429, {"error": "Too many requests"})
        response.headers["Retry-After"] = f"{self.faults['retry-after']:g}"
        return response

    async def read(self, request: Request) -> Body:
        if request.headers.get("content-type", "").startswith("multipart/"):
            return await super().read(request)
        text = b"".join([chunk async for chunk in received(request, self.faults["max-body"])])
        try:
            values = json.loads(text) if text.strip() else {}
        except ValueError as error:
            raise Refusal(400, f"The body is not valid JSON: {error}") from error
        if not isinstance(values, dict):
            raise Refusal(400, "The body must be a JSON object.")
        return Body(values)

    def renew(self, response: Response, user: int, session: str) -> None:
        """A token lives as long as it was issued for."""

    def _who(self, request: Request, *, anyone: bool) -> tuple[int, str] | None:
        known = self.tickets.check(request.headers.get("authorization", "").removeprefix("Bearer "), "f360")
        if known is None and not anyone:
            raise Refusal(401, "The access token is missing, or has expired")
        return known


def build(store: Store, faults: Faults) -> Starlette:
    """The application: the service below ``/api`` and ``/search``, its sign-on below ``/otdsws``, the controls at ``/_faults``."""
    tickets = Tickets(store.secret, faults)
    api = File360Api(tickets=tickets, faults=faults, incoming=store.incoming)
    routes(store, api)
    app = Starlette(routes=[Route("/otdsws/oauth2/token", token(store, api), methods=["POST"])])
    app.router.redirect_slashes = False
    app.state.stats = api.stats

    async def controls(request: Request) -> Response:
        try:
            if request.method == "POST":
                faults.set(await request.json())
        except (ValueError, TypeError, AttributeError) as error:
            return as_json(400, {"error": str(error)})
        return as_json(200, faults.as_dict())

    async def statistics(_: Request) -> Response:
        return as_json(200, dict(api.stats))

    async def unknown(_: Request, error: Exception) -> Response:
        return as_json(error.status_code if isinstance(error, HTTPException) else 500, {"error": "There is no such call"})

    app.routes.append(Route("/_faults", controls, methods=["GET", "POST"]))
    app.routes.append(Route("/_stats", statistics, methods=["GET"]))
    app.routes.append(Mount("", api))
    for status in (404, 405):
        app.add_exception_handler(status, unknown)
    return app


def routes(store: Store, api: File360Api) -> None:
    """Every call."""
    content_ = Content(store)

    @api.post("/api/v1/sessions", anyone=True, reads=True)
    def sign_in(call: Call) -> Response:
        """An administrator's way to a token, as a signed cookie."""
        user = store.user_with(call.asked("email"))
        if user is None or user["state"] != "enabled" or user["password"] != call.asked("password"):
            raise Refusal(401, "The address or the password is wrong")
        response = as_json(200, {"user": content_.user(user["id"])})
        issued = api.tickets.issue(user["id"], kind="f360")
        response.headers["Set-Cookie"] = f"AccessToken=s%3A{issued}.{'0' * 43}; Path=/; HttpOnly"
        return response

    file360_people.register(store, api, content_)
    file360_content.register(store, api, content_)


def token(store: Store, api: Api) -> Any:
    """OAuth 2: a token for a client's own account, or for a user whose name and password it has."""

    async def issue(request: Request) -> Response:
        if api.faults.spend("sign-in-429"):
            return api.come_back_later(429)
        form = await request.form()
        client = store.seed["clients"].get(form.get("client_id"))
        user = None
        if client and client["secret"] == form.get("client_secret"):
            if form.get("grant_type") == "client_credentials":
                user = store.user_with(client["user"])
            elif form.get("grant_type") == "password":
                user = store.user_with(form.get("username"))
                user = user if user and user["password"] == form.get("password") else None
        if user is None or user["state"] != "enabled":
            api.stats["refused sign-ins"] += 1
            return as_json(401, {"error": "invalid_client", "error_description": "The client or its user is not known"})
        api.stats["sign-ins"] += 1
        life = int(api.tickets.LIFE_SECONDS)
        answer = {"access_token": api.tickets.issue(user["id"], kind="f360"), "token_type": "Bearer", "expires_in": life}
        return as_json(200, answer)

    return issue


class File360Sandbox:
    """The stand-in on a port of its own, in a thread of its own."""

    CLIENT, SECRET = "countersign", "countersign-secret"

    def __init__(
        self,
        data: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        seed: Mapping[str, Any] | None = None,
        faults: Mapping[str, float | str] | None = None,
    ) -> None:
        self.data, self.faults = data, File360Faults(faults)
        data.mkdir(parents=True, exist_ok=True)
        self._store = Store(data, self.faults, seed)
        app = build(self._store, self.faults)
        self.stats: Counter[str] = app.state.stats
        self._serving = Serving("file360", app, host, port)
        self.host, self.port = self._serving.host, self._serving.port

    def stock(self, files: Iterable[tuple[tuple[str, ...], bytes, Mapping[str, Any]]]) -> None:
        """See ``Store.stock``. While nobody asks it anything: the store is the server's."""
        self._store.stock(files)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def start(self) -> File360Sandbox:
        """Serve from now on."""
        self._serving.start()
        return self

    def stop(self) -> None:
        """End it. What was committed stays in the data folder."""
        self._serving.stop()
        self._store.close()

    def described(self) -> dict[str, Any]:
        """What a client must know, as one JSON-ready line."""
        clients = self._store.seed["clients"]
        sender = "sender" if "sender" in clients else self.CLIENT
        return {
            "service": "file360",
            "url": self.url,
            "user": self.CLIENT,
            "password": clients[self.CLIENT]["secret"],
            "sender_user": sender,
            "sender_password": clients[sender]["secret"],
            "host": self.host,
            "port": self.port,
            "faults": f"{self.url}/_faults",
            "root": str(self.data),
        }
