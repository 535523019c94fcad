"""A stand-in for OpenText Extended ECM: the documented Content Server REST API, v1 and v2, over a folder on disk.

``ExtendedEcmSandbox(data).start()`` serves on loopback until ``stop()``. It is proven by OpenText's own Python client in
``tests/conformance/pyxecm``. Each ``Domain`` is a module beside this one; here are sign-in and the server itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from tests.sandbox import (
    ecm_large,
    ecm_metadata,
    ecm_nodes,
    ecm_people,
    ecm_records,
    ecm_recycle,
    ecm_reserve,
    ecm_search,
    ecm_sharing,
    ecm_versions,
    ecm_workflows,
    ecm_workspaces,
)
from tests.sandbox.ecm_people import member_properties
from tests.sandbox.ecm_store import Store
from tests.sandbox.ecm_wire import UNKNOWN_ROUTE, Api, Call, Faults, Refusal, Tickets, as_json
from tests.sandbox.serving import Serving

VERSION = "25.4"


class Domain(Protocol):
    """One module of the stand-in: the tables that it keeps beside the store's own, and its endpoints."""

    SCHEMA: str

    def register(self, store: Store, faults: Faults, api: Api) -> None:
        """Put the endpoints on ``api``; plant what the domain's seed asks for."""


DOMAINS: tuple[Domain, ...] = (
    ecm_nodes,
    ecm_versions,
    ecm_large,
    ecm_recycle,
    ecm_reserve,
    ecm_search,
    ecm_metadata,
    ecm_records,
    ecm_people,
    ecm_sharing,
    ecm_workspaces,
    ecm_workflows,
)


def build(store: Store, faults: Faults, base_path: str) -> Starlette:
    """The application: every endpoint below ``{base_path}/api``, the controls at ``/_faults`` and ``/_stats``."""
    tickets = Tickets(store.secret, faults)
    api = Api(tickets=tickets, faults=faults, incoming=store.incoming)
    for domain in DOMAINS:
        domain.register(store, faults, api)
    session_routes(store, api)
    app = Starlette(routes=[Mount(f"{base_path}/api", api), *one_sign_on(store, tickets)])
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

    async def unknown(request: Request, error: Exception) -> Response:
        quiet = "suppress_response_codes" in request.query_params
        status = error.status_code if isinstance(error, HTTPException) else 500
        return as_json(400 if status in (404, 405) else status, {"error": UNKNOWN_ROUTE}, quiet=quiet)

    for prefix in dict.fromkeys(("", base_path)):
        app.routes.append(Route(f"{prefix}/_faults", controls, methods=["GET", "POST"]))
        app.routes.append(Route(f"{prefix}/_stats", statistics, methods=["GET"]))
    for status in (404, 405):
        app.add_exception_handler(status, unknown)
    return app


# --------------------------------------------------------------------------------------------- session


def session_routes(store: Store, api: Api) -> None:
    """Ping, sign-in, server information."""

    @api.get("/v1/ping", anyone=True)
    def ping(call: Call) -> dict[str, Any]:
        return {"rest_api": [{"build": 1, "href": "api/v1", "version": 1}, {"build": 1, "href": "api/v2", "version": 2}]}

    @api.post("/v1/auth", anyone=True, reads=True)
    def sign_in(call: Call) -> Response:
        if call.one("username") is None or call.one("password") is None:
            raise Refusal(500, "Missing required parameter: username or password")
        member = store.member_named(str(call.one("username")), 0)
        if member is None or member["password"] != str(call.one("password")):
            api.stats["refused sign-ins"] += 1
            raise Refusal(401, "Invalid username/password specified.")
        api.stats["sign-ins"] += 1
        ticket = api.tickets.issue(member["id"])
        response = as_json(200, {"ticket": ticket})
        response.headers["OTCSTicket"] = ticket
        return response

    @api.get("/v1/auth")
    def who(call: Call) -> dict[str, Any]:
        return {"data": member_properties(store, call.user)}

    @api.delete("/v1/auth", reads=True)
    def sign_out(call: Call) -> Response:
        api.tickets.end(call.session)
        response = as_json(200, {"ok": True})
        response.headers["OTCSTicket"] = ""
        return response

    @api.get("/v1/serverinfo")
    def server_info(call: Call) -> dict[str, Any]:
        life = int(api.tickets.LIFE_SECONDS * 1000)
        languages = [{"language_code": "en", "display_name": "English", "default": True}]
        return {
            "mobile": {"cs_viewer_support": False, "offline_use": True},
            "server": {
                "advanced_versioning": True,
                "character_encoding": 1,
                "current_date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
                "language_code": "USA",
                "languages": languages,
                "metadata_languages": languages,
                "url": str(call.request.url).partition("/api/")[0],
                "version": VERSION,
            },
            "sessions": {
                "enabled": True,
                "expire_after_last_login": False,
                "expire_after_last_request": True,
                "session_inactivity": life,
                "session_reaction_time": 180000,
                "session_timeout": life,
            },
            "viewer": {"content_suite": {}},
        }


def one_sign_on(store: Store, tickets: Tickets) -> list[Route]:
    """The directory service's two ways to a token, so that ``OTDSTicket`` and ``Bearer`` can be tried."""

    def known(name: object, password: object) -> int | None:
        member = store.member_named(str(name))
        return int(member["id"]) if member and member["password"] == str(password) else None

    async def credentials(request: Request) -> Response:
        given = await request.json()
        user = known(given.get("userName"), given.get("password"))
        if user is None:
            return as_json(401, {"error": "Authentication failed"})
        return as_json(200, {"ticket": tickets.issue(user, kind="otds"), "userId": given.get("userName")})

    async def token(request: Request) -> Response:
        form = await request.form()
        by_password = form.get("grant_type") == "password"
        names = ("username", "password") if by_password else ("client_id", "client_secret")
        user = known(*(form.get(name) for name in names))
        if user is None:
            return as_json(401, {"error": "invalid_client"})
        return as_json(
            200,
            {"access_token": tickets.issue(user, kind="otds"), "token_type": "Bearer", "expires_in": int(tickets.LIFE_SECONDS)},
        )

    return [
        Route("/otdsws/rest/authentication/credentials", credentials, methods=["POST"]),
        Route("/otdsws/oauth2/token", token, methods=["POST"]),
    ]


# --------------------------------------------------------------------------------------------- the server


class ExtendedEcmSandbox:
    """The stand-in on a port of its own, in a thread of its own."""

    USER, PASSWORD = "Admin", "livelink"

    def __init__(
        self,
        data: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        base_path: str = "/cs/cs",
        seed: Mapping[str, Any] | None = None,
        faults: Mapping[str, float | str] | None = None,
    ) -> None:
        self.data = data
        self.base_path = "/" + base_path.strip("/") if base_path.strip("/") else ""
        self.faults = Faults(faults)
        data.mkdir(parents=True, exist_ok=True)
        self._store = Store(data, seed, (domain.SCHEMA for domain in DOMAINS))
        app = build(self._store, self.faults, self.base_path)
        self.stats: Counter[str] = app.state.stats
        self._serving = Serving("extended-ecm", app, host, port)
        self.host, self.port = self._serving.host, self._serving.port

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}{self.base_path}"

    def start(self) -> ExtendedEcmSandbox:
        """Serve from now on."""
        self._serving.start()
        return self

    def stop(self) -> None:
        """End it. What was committed stays in the data folder."""
        self._serving.stop()
        self._store.close()

    def described(self) -> dict[str, Any]:
        """What a client must know, as one JSON-ready line."""
        return {
            "service": "extended-ecm",
            "url": self.url,
            "user": self.USER,
            "password": self.PASSWORD,
            "host": self.host,
            "port": self.port,
            "base_path": self.base_path,
            "faults": f"http://{self.host}:{self.port}/_faults",
            "root": str(self.data),
        }
