"""A stand-in for OpenText Extended ECM: the documented Content Server REST API, v1 and v2, over a folder on disk.

``ExtendedEcmSandbox(data).start()`` serves on loopback until ``stop()``. It is proven by OpenText's own Python client in
``tests/conformance/pyxecm``. What it says about search words is about names, descriptions and category values: contents are
not indexed.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from tests.sandbox import ecm_store, lql
from tests.sandbox.ecm_store import (
    ADMIN_ID,
    AUDIT_EVENTS,
    CONTAINERS,
    DOCUMENT,
    TYPE_NAMES,
    Store,
    local,
    mask_of,
    missing,
    names_of,
    wire_values,
)
from tests.sandbox.ecm_wire import (
    UNKNOWN_ROUTE,
    Api,
    Call,
    Faults,
    Refusal,
    Tickets,
    Upload,
    WireProtocol,
    as_json,
    content,
    envelope,
    page_of,
    paging,
    truth,
    whole,
)

VERSION = "25.4"
NOT_ACCESSIBLE = (
    "Sorry, the item you requested could not be accessed. Either it does not exist or you do not have permission to access it."
)
SORTABLE = {
    "name": "name_key",
    "modify_date": "changed",
    "create_date": "create_date",
    "size": "max(size, children)",
    "type": "type",
    "id": "id",
}
EXTERNAL = ("external_create_date", "external_modify_date", "external_source", "external_identity", "external_identity_type")
MEMBER_TYPES = {0: "User", 1: "Group", 17: "Service User"}


def build(store: Store, faults: Faults, base_path: str) -> FastAPI:
    """The application: every endpoint below ``{base_path}/api``, the controls at ``/_faults`` and ``/_stats``."""
    tickets = Tickets(store.secret, faults)
    api = Api(tickets=tickets, faults=faults, incoming=store.incoming)
    Nodes(store, faults, api).register()
    Versions(store, api).register()
    Categories(store, api).register()
    Classifications(store, api).register()
    Permissions(store, api).register()
    Members(store, api).register()
    session_routes(store, api)
    app = FastAPI(title="Extended ECM sandbox", version=VERSION, redirect_slashes=False)
    app.include_router(api.router, prefix=f"{base_path}/api")
    one_sign_on(app, store, tickets)

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
        app.add_api_route(f"{prefix}/_faults", controls, methods=["GET", "POST"], response_model=None)
        app.add_api_route(f"{prefix}/_stats", statistics, methods=["GET"], response_model=None)
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
        life = int(api.tickets.life_seconds * 1000)
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


def one_sign_on(app: FastAPI, store: Store, tickets: Tickets) -> None:
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
            {"access_token": tickets.issue(user, kind="otds"), "token_type": "Bearer", "expires_in": int(tickets.life_seconds)},
        )

    app.add_api_route("/otdsws/rest/authentication/credentials", credentials, methods=["POST"], response_model=None)
    app.add_api_route("/otdsws/oauth2/token", token, methods=["POST"], response_model=None)


# --------------------------------------------------------------------------------------------- shapes


def size_text(node: Any) -> str:
    if node["type"] in CONTAINERS:
        return f"{node['children']} Items"
    size = node["size"]
    return f"{size} Bytes" if size < 1024 else f"{-(-size // 1024)} KB" if size < 1024**2 else f"{-(-size // 1024**2)} MB"


def node_properties(store: Store, node: Any) -> dict[str, Any]:
    """Everything v2 tells about a node. Containers count their children as their size."""
    container = node["type"] in CONTAINERS
    owner = store.db.execute("SELECT name FROM member WHERE id = ?", (node["owner_user_id"],)).fetchone()
    properties = {
        "advanced_versioning": None if container else False,
        "container": container,
        "container_size": node["children"],
        "create_date": node["create_date"],
        "create_user_id": node["create_user_id"],
        "description": node["description"],
        "description_multilingual": {"en": node["description"]},
        "external_create_date": node["external_create_date"],
        "external_identity": node["external_identity"],
        "external_identity_type": node["external_identity_type"],
        "external_modify_date": node["external_modify_date"],
        "external_source": node["external_source"],
        "favorite": False,
        "guid": node["guid"],
        "hidden": False,
        "icon": f"/cssupport/webdoc/type{node['type']}.gif",
        "icon_large": f"/cssupport/webdoc/type{node['type']}_large.gif",
        "id": node["id"],
        "mime_type": node["mime_type"],
        "modify_date": node["modify_date"],
        "modify_user_id": node["modify_user_id"],
        "name": node["name"],
        "name_multilingual": {"en": node["name"]},
        "owner": owner["name"] if owner else "",
        "owner_group_id": node["owner_group_id"],
        "owner_user_id": node["owner_user_id"],
        "parent_id": node["parent_id"],
        "permissions_model": "advanced",
        "reserved": bool(node["reserved_user_id"]),
        "reserved_date": node["reserved_date"],
        "reserved_shared_collaboration": False,
        "reserved_user_id": node["reserved_user_id"],
        "size": node["children"] if container else node["size"],
        "size_formatted": size_text(node),
        "status": None,
        "type": node["type"],
        "type_name": TYPE_NAMES.get(node["type"], str(node["type"])),
        "versionable": node["type"] == DOCUMENT,
        "versions_control_advanced": bool(node["versions_control_advanced"]),
        "volume_id": node["volume_id"],
    }
    if node["original_id"] is not None:
        properties["original_id"] = node["original_id"]
    if node["url"] is not None:
        properties["url"] = node["url"]
    return properties


def version_properties(version: Any) -> dict[str, Any]:
    number = version["number"]
    return {
        "create_date": version["create_date"],
        "description": version["description"],
        "external_create_date": version["external_create_date"],
        "external_identity": version["external_identity"],
        "external_identity_type": version["external_identity_type"],
        "external_modify_date": version["external_modify_date"],
        "external_source": version["external_source"],
        "file_create_date": version["create_date"],
        "file_modify_date": version["create_date"],
        "file_name": version["file_name"],
        "file_size": version["file_size"],
        "file_type": Path(version["file_name"]).suffix[1:],
        "has_generation": False,
        "id": version["node_id"],
        "locked": False,
        "locked_date": None,
        "locked_user_id": None,
        "mime_type": version["mime_type"],
        "modify_date": version["create_date"],
        "name": version["name"],
        "owner_id": version["owner_id"],
        "provider_id": version["version_id"],
        "version_id": version["version_id"],
        "version_number": number,
        "version_number_major": 0,
        "version_number_minor": number,
        "version_number_name": str(number),
    }


def member_properties(store: Store, member_id: int) -> dict[str, Any]:
    member = store.member(member_id)
    details = json.loads(member["details"])
    administrator = member_id == ADMIN_ID
    properties = {
        "id": member["id"],
        "name": member["name"],
        "name_formatted": " ".join(filter(None, (details.get("first_name"), details.get("last_name")))) or member["name"],
        "type": member["type"],
        "type_name": MEMBER_TYPES.get(member["type"], "Group"),
        "deleted": False,
    }
    if member["type"] == 1:
        return {**properties, "initials": member["name"][:1], "leader_id": details.get("leader_id")}
    return {
        "business_email": None,
        "business_phone": None,
        "first_name": None,
        "last_name": None,
        "middle_name": None,
        "office_location": None,
        "title": None,
        "time_zone": -1,
        "privilege_login": True,
        "privilege_public_access": True,
        "privilege_system_admin_rights": administrator,
        "privilege_user_admin_rights": administrator,
        **details,
        **properties,
        "group_id": member["group_id"],
    }


def permission_line(kind: str, right_id: int | None, mask: int) -> dict[str, Any]:
    return {"permissions": names_of(mask), "right_id": right_id, "type": kind}


def external(call: Call) -> dict[str, Any]:
    """The ``external_*`` columns a body sets."""
    given = {name: call.one(name) for name in EXTERNAL if name in call.values}
    return {name: local(value) if name.endswith("_date") else str(value or "") for name, value in given.items()}


def described(store: Store, call: Call, node: Any) -> dict[str, Any]:
    """``data`` of one node, cut to the ``fields`` that were asked for."""
    wanted = call.fields() or {"properties": None}
    data: dict[str, Any] = {}
    for group, names in wanted.items():
        if group == "properties":
            properties = node_properties(store, node)
            data["properties"] = {name: properties[name] for name in names if name in properties} if names else properties
        elif group == "versions" and node["type"] == DOCUMENT:
            version = version_properties(store.version(node, None))
            data["versions"] = {name: version[name] for name in names if name in version} if names else version
        elif group == "categories":
            data["categories"] = [
                wire_values(category_id, store.definition(category_id), values)
                for category_id, values in store.categories(node["id"]).items()
            ]
        elif group == "permissions":
            data["permissions"] = [permission_line(*grant) for grant in ecm_store.grants_of(node["acl"])]
    return {"data": data}


# --------------------------------------------------------------------------------------------- nodes


class Nodes:
    """Volumes, nodes, search, audit."""

    def __init__(self, store: Store, faults: Faults, api: Api) -> None:
        self.store = store
        self.faults = faults
        self.api = api

    def register(self) -> None:
        api = self.api
        api.post("/v2/nodes")(self.create)
        api.post("/v1/nodes")(self.create_v1)
        api.get("/v2/nodes/{node_id:int}")(self.get)
        api.get("/v2/nodes/{node_id:int}/nodes")(self.listing)
        api.post("/v2/nodes/list", reads=True)(self.several)
        api.put("/v2/nodes/{node_id:int}")(self.update)
        api.delete("/v2/nodes/{node_id:int}")(self.delete)
        api.get("/v1/nodes/{node_id:int}")(self.get_v1)
        api.get("/v1/nodes/{node_id:int}/ancestors")(self.ancestors)
        api.post("/v1/validation/nodes/names", reads=True)(self.taken_names)
        api.get("/v2/volumes")(self.volumes)
        api.get("/v2/volumes/{kind:int}")(self.volume)
        api.post("/v2/search", reads=True)(self.search)
        api.get("/v2/nodes/{node_id:int}/audit")(self.audit)

    def volumes(self, call: Call) -> dict[str, Any]:
        rows = [row for row in self.store.volumes() if self.store.may(call.user, row, "see")]
        rows.append(self.store.personal(call.user))
        return envelope(call, [described(self.store, call, row) for row in rows])

    def volume(self, call: Call, kind: int) -> dict[str, Any]:
        row = self.store.personal(call.user) if kind == 142 else self.store.volume(kind)
        if row is None or not self.store.may(call.user, row, "see"):
            raise Refusal(500, f"Could not get a volume of type {kind}.")
        return envelope(call, described(self.store, call, row))

    def create(self, call: Call) -> dict[str, Any]:
        node = self._create(call, collision=500)
        return envelope(call, {"data": {"properties": node_properties(self.store, node)}})

    def create_v1(self, call: Call) -> dict[str, Any]:
        node = self._create(call, collision=400)
        return {"id": node["id"], "name": node["name"], "type": node["type"]}

    def _create(self, call: Call, collision: int) -> Any:
        store = self.store
        parent_id, name = call.number("parent_id"), call.text("name")
        upload = call.body.files.get("file")
        more = external(call)
        copied = None
        if "type" in call.values:
            kind = call.number("type")
        elif "original_id" in call.values:
            copied = store.node(call.user, call.number("original_id"))
            kind = copied["type"]
        else:
            raise Refusal(400, "Missing required parameter: type")
        if kind == DOCUMENT and upload is None and copied is None:
            raise Refusal(400, "Missing required parameter: file")
        if copied is None and call.one("original_id"):
            more["original_id"] = store.node(call.user, call.number("original_id"))["id"]
        if call.one("url"):
            more["url"] = str(call.one("url"))
        with store.transaction():
            try:
                node_id = store.create(
                    call.user,
                    parent_id,
                    kind,
                    name,
                    collision=collision,
                    description=str(call.one("description") or ""),
                    **more,
                )
            except Refusal as refusal:
                raise (Refusal(500, NOT_ACCESSIBLE) if refusal.text == missing(parent_id).text else refusal) from refusal
            if upload and kind == DOCUMENT:
                version = {name: value for name, value in more.items() if name in EXTERNAL}
                store.add_version(call.user, store.row(node_id), upload, version)
                self.api.stats["uploads"] += 1
                self.api.stats["uploaded bytes"] += upload.size
            elif copied is not None:
                self._copy(call, copied, node_id)
            self._roles(call, node_id)
        return store.row(node_id)

    def _copy(self, call: Call, original: Any, node_id: int) -> None:
        if original["type"] != DOCUMENT:
            return
        version = self.store.version(original, None)
        link = self.store.incoming / f"copy-{node_id}"
        link.hardlink_to(self.store.content_path(version["version_id"]))
        upload = Upload(link, version["file_name"], version["mime_type"], version["file_size"])
        self.store.add_version(call.user, self.store.row(node_id), upload, {})
        self.store.note(call.user, node_id, "Create from Copy")

    def _roles(self, call: Call, node_id: int) -> None:
        """Category values and classifications that come with a create."""
        roles = call.object("roles")
        by_category: dict[int, dict[str, Any]] = {}
        for key, value in (roles.get("categories") or {}).items():
            if key == "inheritance":
                continue
            category_id = whole("roles.categories", key.partition("_")[0])
            if "_" in key:
                by_category.setdefault(category_id, {})[key] = value
            else:
                by_category.setdefault(category_id, {}).update(value if isinstance(value, dict) else {})
        for category_id, values in by_category.items():
            applied = category_id in self.store.categories(node_id)
            self.store.apply_category(call.user, node_id, category_id, values, new=not applied)
        classes = roles.get("classifications") or {}
        if classes.get("id"):
            given = classes["id"] if isinstance(classes["id"], list) else [classes["id"]]
            self.store.classify(call.user, node_id, [whole("roles.classifications", class_id) for class_id in given])

    def get(self, call: Call, node_id: int) -> dict[str, Any]:
        return envelope(call, described(self.store, call, self.store.node(call.user, node_id)))

    def get_v1(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        data = node_properties(self.store, node)
        for name in ("create_date", "modify_date"):
            data[name] = data[name].rstrip("Z")
        return {"type": node["type"], "type_name": data["type_name"], "data": data}

    def several(self, call: Call) -> dict[str, Any]:
        ids = [whole("ids", node_id) for node_id in call.many("ids")]
        if not ids:
            raise Refusal(400, "Missing required parameter: ids")
        found = []
        for node_id in ids:
            try:
                found.append(self.store.node(call.user, node_id))
            except Refusal:
                continue
        return envelope(call, [described(self.store, call, node) for node in found])

    def listing(self, call: Call, node_id: int) -> dict[str, Any]:
        try:
            parent = self.store.node(call.user, node_id)
        except Refusal as refusal:
            raise Refusal(500, NOT_ACCESSIBLE) from refusal
        if parent["type"] not in CONTAINERS:
            raise Refusal(500, f"The item '{parent['name']}' is not a container.")
        self.store.need(call.user, parent, "see_contents")
        where, values = self._where(call)
        sort = call.asked("sort", "asc_name") or "asc_name"
        direction, _, column = sort.partition("_") if sort.startswith(("asc_", "desc_")) else ("asc", "_", sort)
        if column not in SORTABLE:
            raise Refusal(400, f"Invalid value for parameter sort: {sort}")
        order = f"{SORTABLE[column]} {direction}, id {direction}"
        page, limit = page_of(call)
        total, rows = self.store.listing(call.user, parent, where, values, order, (page - 1) * limit, limit)
        collection = {
            "paging": paging(call, total, page, limit),
            "sorting": {"sort": [{"key": "sort", "value": sort}]},
        }
        return envelope(call, [described(self.store, call, row) for row in rows], collection=collection)

    def _where(self, call: Call) -> tuple[str, list[Any]]:
        """``where_name`` is a part of the name, in any case; several ``where_type`` widen."""
        where, values = "", []
        name = call.asked("where_name")
        if name:
            where += " AND instr(name_key, ?)"
            values.append(name.casefold())
        kinds = [whole("where_type", kind) for part in call.asked_many("where_type") for kind in part.split(",") if kind]
        if kinds:
            containers = ", ".join(map(str, sorted(CONTAINERS)))
            choices = {-1: f"type IN ({containers})", -2: "1 = 1", -3: f"type NOT IN ({containers})"}
            where += f" AND ({' OR '.join(choices.get(kind, f'type = {kind}') for kind in kinds)})"
        return where, values

    def update(self, call: Call, node_id: int) -> dict[str, Any]:
        store = self.store
        node = store.node(call.user, node_id)
        token = call.one("metadata_token")
        if token not in (None, "") and str(token) != str(node["token"]):
            raise Refusal(409, "Could not update metadata (edit conflict).")
        with store.transaction():
            if "name" in call.values or "parent_id" in call.values:
                store.rename(call.user, node, call.number("parent_id", node["parent_id"]), str(call.one("name", node["name"])))
            changes: dict[str, Any] = external(call)
            if "description" in call.values:
                changes["description"] = str(call.one("description") or "")
            if "url" in call.values:
                changes["url"] = str(call.one("url"))
            if "versions_control_advanced" in call.values:
                changes["versions_control_advanced"] = truth(call.one("versions_control_advanced"))
            if "reserved_user_id" in call.values:
                changes |= self._reserve(call, node)
            elif changes:
                store.need(call.user, node, "modify")
            if changes:
                store.change(call.user, node["id"], **changes)
                store.note(call.user, node["id"], "Modified")
        return envelope(call, {"data": {"properties": node_properties(store, store.row(node_id))}})

    def _reserve(self, call: Call, node: Any) -> dict[str, Any]:
        wanted = call.one("reserved_user_id")
        user = whole("reserved_user_id", wanted) if wanted not in (None, "", "null", "None") else 0
        self.store.need(call.user, node, "reserve")
        if node["reserved_user_id"] and node["reserved_user_id"] != call.user and call.user != ADMIN_ID:
            raise Refusal(500, f"The item '{node['name']}' is reserved by another user.")
        if user:
            self.store.member(user)
        self.store.note(call.user, node["id"], "Reserve" if user else "Unreserve")
        return {"reserved_user_id": user, "reserved_date": ecm_store.now() if user else None}

    def delete(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        with self.store.transaction():
            self.store.delete(call.user, node)
        self.api.stats["deletions"] += 1
        return envelope(call, {})

    def ancestors(self, call: Call, node_id: int) -> dict[str, Any]:
        chain = self.store.ancestors(self.store.node(call.user, node_id))
        names = ("id", "name", "parent_id", "type", "volume_id")
        return {
            "ancestors": [
                {**{name: row[name] for name in names}, "type_name": TYPE_NAMES.get(row["type"], "")}
                for row in chain
                if self.store.may(call.user, row, "see")
            ]
        }

    def taken_names(self, call: Call) -> dict[str, Any]:
        parent = self.store.node(call.user, call.number("parent_id"))
        taken = [self.store.child(parent["id"], str(name)) for name in call.many("names")]
        return {"results": [{"id": row["id"], "name": row["name"]} for row in taken if row is not None]}

    # ----------------------------------------------------------------------------------------- search and audit

    def search(self, call: Call) -> dict[str, Any]:
        sort = str(call.one("sort") or "relevance")
        direction, _, region = sort.partition("_")
        try:
            found = self._found(call)
            if region:
                read = lql.region(region)
                found.sort(key=lambda hit: read(*hit), reverse=direction == "desc")
        except lql.BadQueryError as error:
            raise Refusal(400, f"The search query could not be processed: {error}") from error
        page, limit = page_of(call, body=True)
        shown = found[(page - 1) * limit : page * limit]
        collection = {
            "paging": {
                **paging(call, len(found), page, limit),
                "result_header_string": f"Results {min(len(found), (page - 1) * limit + 1)} to {min(len(found), page * limit)}"
                f" of {len(found)} sorted by {region or 'Relevance'}",
            },
            "searching": {
                "cache_id": int(time.time() * 1000) % 10**9,
                "regions_metadata": {},
                "regions_order": ["OTMIMEType", "OTName", "OTObjectDate", "OTObjectSize", "OTLocation", "OTCreatedBy"],
                "result_title": "Search results: Extended ECM",
            },
            "sorting": {"links": {}, "sort": [sort]},
        }
        return envelope(call, [self._hit(row, path) for row, path in shown], collection=collection)

    def _found(self, call: Call) -> list[tuple[Any, tuple[int, ...]]]:
        """What fits the query, lies in the asked places and is visible to the user, with its path."""
        fits = lql.compiled(call.text("where"), str(call.one("lookfor") or "complexQuery").lower())
        places = {whole(name, call.one(name)) for name in call.values if name.startswith("location_id") and call.one(name)}
        found = []
        parents: dict[int, tuple[int, ...]] = {}
        for row in self.store.all_nodes(time.time() - self.faults["search-lag"]):
            path = self._path(row, parents)
            if places and places.isdisjoint(path[:-1]):
                continue
            if self.store.may(call.user, row, "see") and fits(lql.Entry(row, path, partial(self._words, row))):
                found.append((row, path))
        return found

    def _path(self, row: Any, parents: dict[int, tuple[int, ...]]) -> tuple[int, ...]:
        """Ids from the volume to the node; ancestors are looked up once per search."""
        if row["parent_id"] not in parents:
            above = self.store.row(row["parent_id"]) if row["parent_id"] > 0 else None
            parents[row["parent_id"]] = self._path(above, parents) if above is not None else ()
        return (*parents[row["parent_id"]], row["id"])

    def _words(self, row: Any) -> str:
        values = [row["name"], row["description"]]
        for category_id, held in self.store.categories(row["id"]).items():
            for value in wire_values(category_id, self.store.definition(category_id), held).values():
                values.extend(map(str, value) if isinstance(value, list) else [str(value or "")])
        return "\n".join(values)

    def _hit(self, row: Any, path: tuple[int, ...]) -> dict[str, Any]:
        properties = node_properties(self.store, row) | {"short_summary": "", "summary": ""}
        names = ("OTName", "OTMIMEType", "OTObjectDate", "OTObjectSize", "OTLocation")
        regions = {name: lql.region(name)(row, path) for name in names}
        data: dict[str, Any] = {"properties": properties, "regions": {**regions, "OTCreatedBy": row["create_user_id"]}}
        number = 0
        if row["type"] == DOCUMENT:
            data["versions"] = version_properties(self.store.version(row, None))
            number = data["versions"]["version_number"]
        parent = {"href": f"api/v1/nodes/{row['parent_id']}", "name": ""}
        metadata = {
            "current_version": True,
            "object_href": None,
            "object_id": f"DataId={row['id']}&Version={number}",
            "result_type": "264",
        }
        return {"data": data, "links": {"ancestors": [], "parent": parent}, "search_result_metadata": metadata}

    def audit(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        rows = self.store.trail(node["id"])
        kinds = {whole("where_type", kind) for kind in call.asked_many("where_type")}
        if kinds:
            rows = [row for row in rows if row["event"] in kinds]
        if call.asked("where_user_id"):
            rows = [row for row in rows if row["user_id"] == call.asked_number("where_user_id", 0)]
        # Days count as a whole, times are ignored.
        start, end = local(call.asked("where_audit_date_start")), local(call.asked("where_audit_date_end"))
        rows = [
            row for row in rows if (not start or row["date"][:10] >= start[:10]) and (not end or row["date"][:10] <= end[:10])
        ]
        sort = call.asked("sort", "desc_audit_date") or "desc_audit_date"
        if sort != "asc_audit_date":
            rows.reverse()
        page, limit = page_of(call)
        lines = [
            {
                "agent_id": None,
                "audit_date": row["date"],
                "audit_language_code": None,
                "audit_name": AUDIT_EVENTS[row["event"]],
                "event_type": row["event"],
                "id": node["id"],
                "target_user_id": None,
                "user_id": row["user_id"],
            }
            for row in rows[(page - 1) * limit : page * limit]
        ]
        names = [{"id": number, "name": name} for number, name in AUDIT_EVENTS.items()]
        collection = {"paging": paging(call, len(rows), page, limit), "sorting": {"sort": [{"key": "sort", "value": sort}]}}
        return envelope(call, {"data": {"audit": lines, "audit_event_types": names}}, collection=collection)


# --------------------------------------------------------------------------------------------- versions and content


class Versions:
    """Versions of documents, and the bytes."""

    def __init__(self, store: Store, api: Api) -> None:
        self.store = store
        self.api = api

    def register(self) -> None:
        api = self.api
        api.get("/v2/nodes/{node_id:int}/versions")(self.several)
        api.post("/v2/nodes/{node_id:int}/versions")(self.add)
        api.delete("/v2/nodes/{node_id:int}/versions")(self.purge)
        api.get("/v2/nodes/{node_id:int}/versions/{number:int}")(self.get)
        api.delete("/v2/nodes/{node_id:int}/versions/{number:int}")(self.drop)
        api.get("/v1/nodes/{node_id:int}/versions/latest")(self.latest)
        for version in ("v1", "v2"):
            api.get(f"/{version}/nodes/{{node_id:int}}/content")(self.content)
            api.get(f"/{version}/nodes/{{node_id:int}}/versions/{{number:int}}/content")(self.content)

    def _document(self, call: Call, node_id: int, right: str = "see") -> Any:
        node = self.store.node(call.user, node_id)
        if node["type"] != DOCUMENT:
            raise Refusal(400, f"The item '{node['name']}' has no versions.")
        self.store.need(call.user, node, right)
        return node

    def several(self, call: Call, node_id: int) -> dict[str, Any]:
        versions = self.store.versions(self._document(call, node_id)["id"])
        if (call.asked("order") or "").lower() == "desc":
            versions.reverse()
        page, limit = page_of(call)
        collection = {"paging": paging(call, len(versions), page, limit)}
        shown = versions[(page - 1) * limit : page * limit]
        return envelope(call, [{"data": {"versions": version_properties(version)}} for version in shown], collection=collection)

    def add(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self._document(call, node_id, "modify")
        upload = call.body.files.get("file")
        if upload is None:
            raise Refusal(400, "Missing required parameter: file")
        if node["reserved_user_id"] not in (0, call.user):
            raise Refusal(500, f"The item '{node['name']}' is reserved by another user.")
        description = call.one("description")
        if description and len(str(description)) > 255:
            raise Refusal(400, "The description exceeds the maximum length of 255 characters.")
        with self.store.transaction():
            number = self.store.add_version(call.user, node, upload, {"description": description, **external(call)})
            changes = external(call)
            if changes:
                self.store.change(call.user, node["id"], **changes)
        self.api.stats["versions"] += 1
        self.api.stats["uploaded bytes"] += upload.size
        node = self.store.row(node["id"])
        versions = version_properties(self.store.version(node, number))
        return envelope(call, {"data": {"properties": node_properties(self.store, node), "versions": versions}})

    def get(self, call: Call, node_id: int, number: int) -> dict[str, Any]:
        version = self.store.version(self._document(call, node_id), number)
        return envelope(call, {"data": {"versions": version_properties(version)}})

    def latest(self, call: Call, node_id: int) -> dict[str, Any]:
        data = version_properties(self.store.version(self._document(call, node_id), None))
        for name in ("create_date", "modify_date", "file_create_date", "file_modify_date"):
            data[name] = data[name].rstrip("Z")
        return {"data": data}

    def drop(self, call: Call, node_id: int, number: int) -> dict[str, Any]:
        node = self._document(call, node_id, "delete_versions")
        if len(self.store.versions(node["id"])) == 1:
            raise Refusal(500, "The last version of a document cannot be deleted.")
        with self.store.transaction():
            self.store.drop_versions(call.user, node, [number])
        return envelope(call, {})

    def purge(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self._document(call, node_id, "delete_versions")
        keep = call.number("number_to_keep", call.asked_number("number_to_keep", 1))
        if keep < 1:
            raise Refusal(400, "Invalid value for parameter number_to_keep")
        with self.store.transaction():
            self.store.drop_versions(
                call.user, node, [version["number"] for version in self.store.versions(node["id"])[:-keep]]
            )
        return envelope(call, {})

    def content(self, call: Call, node_id: int, number: int | None = None) -> Response:
        node = self._document(call, node_id, "see_contents")
        version = self.store.version(node, number)
        self.store.note(call.user, node["id"], "Fetch")
        self.api.stats["downloads"] += 1
        path = self.store.content_path(version["version_id"])
        return content(path, version["file_size"], node["name"], version["mime_type"])


# --------------------------------------------------------------------------------------------- categories


class Categories:
    """Categories of a node and their values."""

    def __init__(self, store: Store, api: Api) -> None:
        self.store = store
        self.api = api

    def register(self) -> None:
        api = self.api
        api.get("/v2/nodes/{node_id:int}/categories")(self.several)
        api.post("/v2/nodes/{node_id:int}/categories")(self.apply)
        api.post("/v2/nodes/{node_id:int}/categories/apply")(self.apply_below)
        api.get("/v2/nodes/{node_id:int}/categories/{category_id:int}")(self.get)
        api.put("/v2/nodes/{node_id:int}/categories/{category_id:int}")(self.set)
        api.delete("/v2/nodes/{node_id:int}/categories/{category_id:int}")(self.remove)
        api.post("/v2/nodes/{node_id:int}/categories/{category_id:int}/inheritance")(self.inherit)
        api.delete("/v2/nodes/{node_id:int}/categories/{category_id:int}/inheritance")(self.disinherit)
        api.get("/v1/forms/nodes/categories/create")(self.form)
        api.get("/v1/forms/nodes/categories/update")(self.form)
        api.get("/v1/forms/nodes/properties/specific")(self.specific)

    def several(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        held = self.store.categories(node["id"])
        return envelope(call, [self._shown(call, category_id, values) for category_id, values in held.items()])

    def get(self, call: Call, node_id: int, category_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        held = self.store.categories(node["id"])
        if category_id not in held:
            raise Refusal(400, f"The category {category_id} is not applied to this item.")
        return envelope(call, self._shown(call, category_id, held[category_id]))

    def _shown(self, call: Call, category_id: int, values: Mapping[str, Any]) -> dict[str, Any]:
        definition = self.store.definition(category_id)
        shown: dict[str, Any] = {"data": {"categories": wire_values(category_id, definition, values)}}
        if call.flag("metadata"):
            shown |= self._metadata(category_id, definition)
        return shown

    def _metadata(self, category_id: int, definition: list[dict[str, Any]]) -> dict[str, Any]:
        """Definitions: the category's own first, a set before its columns."""
        name = self.store.row(category_id)["name"]
        described = {str(category_id): attribute_metadata(str(category_id), name, "category", "Category", multi=False)}
        order = []
        for attribute in definition:
            key = f"{category_id}_{attribute['id']}"
            order.append(key)
            if "columns" not in attribute:
                described[key] = attribute_metadata(
                    key,
                    attribute["name"],
                    "categoryattribute",
                    attribute["type"],
                    multi=attribute["multi"],
                    length=attribute["length"],
                )
                continue
            described[key] = attribute_metadata(key, attribute["name"], "set", "Assoc", multi=True)
            for column in attribute["columns"]:
                cell = f"{key}_x_{column['id']}"
                described[cell] = attribute_metadata(
                    cell, column["name"], "categoryattribute", column["type"], multi=column["multi"], length=column["length"]
                )
        return {
            "metadata": {"categories": described},
            "metadata_map": {"categories": {str(category_id): order}},
            "metadata_order": {"categories": {str(category_id): order}},
        }

    def apply(self, call: Call, node_id: int) -> dict[str, Any]:
        values = {key: value for key, value in call.values.items() if key != "category_id"}
        return self._write(call, node_id, call.number("category_id"), values, new=True)

    def set(self, call: Call, node_id: int, category_id: int) -> dict[str, Any]:
        token = call.one("metadata_token") or call.object(f"{category_id}_1").get("metadata_token")
        node = self.store.node(call.user, node_id)
        if token not in (None, "") and str(token) != str(node["token"]):
            raise Refusal(409, "Could not update metadata (edit conflict).")
        values = {key: value for key, value in call.values.items() if key not in ("category_id", "metadata_token")}
        return self._write(call, node_id, category_id, values, new=False)

    def _write(self, call: Call, node_id: int, category_id: int, values: Mapping[str, Any], *, new: bool) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        self.store.need(call.user, node, "edit_attributes")
        with self.store.transaction():
            self.store.apply_category(call.user, node["id"], category_id, values, new=new)
        return envelope(call, self._shown(call, category_id, self.store.categories(node["id"])[category_id]))

    def remove(self, call: Call, node_id: int, category_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        self.store.need(call.user, node, "edit_attributes")
        with self.store.transaction():
            self.store.remove_category(call.user, node["id"], category_id)
        return envelope(call, {})

    def apply_below(self, call: Call, node_id: int) -> dict[str, Any]:
        """Copy categories of a container to what is in it. Actions are not told apart: missing ones are added."""
        node = self.store.node(call.user, node_id)
        held = self.store.categories(node["id"])
        with self.store.transaction():
            for wanted in call.many("categories"):
                category_id = whole("categories", wanted["id"])
                if category_id not in held:
                    raise Refusal(400, f"The category {category_id} is not applied to this item.")
                values = wire_values(category_id, self.store.definition(category_id), held[category_id])
                for row in self.store.below(node["id"]):
                    if category_id not in self.store.categories(row["id"]):
                        self.store.apply_category(call.user, row["id"], category_id, values, new=True)
        return envelope(call, {"ok": True})

    def inherit(self, call: Call, node_id: int, category_id: int) -> dict[str, Any]:
        return self._inheritance(call, node_id, category_id, on=True)

    def disinherit(self, call: Call, node_id: int, category_id: int) -> dict[str, Any]:
        return self._inheritance(call, node_id, category_id, on=False)

    def _inheritance(self, call: Call, node_id: int, category_id: int, *, on: bool) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        if node["type"] not in CONTAINERS:
            raise Refusal(400, f"The item '{node['name']}' is not a container.")
        self.store.inherit_category(node["id"], category_id, on=on)
        return envelope(call, {"ok": True})

    def form(self, call: Call) -> dict[str, Any]:
        """What a client shows to fill a category in. ``{cat}_1`` carries the token that proves what was seen."""
        node = self.store.node(call.user, call.asked_number("id", 0))
        category_id = call.asked_number("category_id", 0)
        values = self.store.categories(node["id"]).get(category_id)
        return self._form(category_id, values or ecm_store.first_values(self.store.definition(category_id)), str(node["token"]))

    def specific(self, call: Call) -> dict[str, Any]:
        """The same for the category's own node: its definition, where it is not applied to anything yet."""
        category = self.store.node(call.user, call.asked_number("id", 0))
        return self._form(category["id"], ecm_store.first_values(self.store.definition(category["id"])), "")

    def _form(self, category_id: int, values: Mapping[str, Any], token: str) -> dict[str, Any]:
        definition = self.store.definition(category_id)
        data: dict[str, Any] = {f"{category_id}_1": {"metadata_token": token}}
        properties: dict[str, Any] = {f"{category_id}_1": {"readonly": True, "required": False, "type": "object"}}
        for attribute in definition:
            key = f"{category_id}_{attribute['id']}"
            columns = attribute.get("columns", [])
            held = values[str(attribute["id"])]
            data[key] = [{f"{key}_x_{cell}": value for cell, value in row.items()} for row in held] if columns else held
            items = {f"{key}_x_{column['id']}": {"title": column["name"], "type": json_type(column)} for column in columns}
            kind = (
                {"items": {"properties": items, "type": "object"}, "type": "array"}
                if columns
                else {"type": json_type(attribute)}
            )
            properties[key] = {"readonly": False, "required": attribute["required"], "title": attribute["name"], **kind}
        schema = {"properties": properties, "type": "object"}
        return {"forms": [{"data": data, "options": {"fields": {}, "form": {}}, "schema": schema}]}


def attribute_metadata(
    key: str, name: str, persona: str, kind: str, *, multi: bool, length: int | None = None
) -> dict[str, Any]:
    return {
        "default_value": None,
        "description": None,
        "hidden": False,
        "key": key,
        "max_length": length if kind == "String" else None,
        "multi_value": multi,
        "name": name,
        "persona": persona,
        "read_only": persona == "category",
        "required": False,
        "type_name": kind,
        "valid_values": [],
        "valid_values_name": [],
    }


def json_type(attribute: Mapping[str, Any]) -> str:
    return "array" if attribute["multi"] else {"Integer": "integer", "Boolean": "boolean"}.get(attribute["type"], "string")


# --------------------------------------------------------------------------------------------- classifications


class Classifications:
    """Classifications, and those of records management."""

    def __init__(self, store: Store, api: Api) -> None:
        self.store = store
        self.api = api

    def register(self) -> None:
        api = self.api
        api.get("/v1/nodes/{node_id:int}/classifications")(self.several)
        api.post("/v1/nodes/{node_id:int}/classifications")(self.assign)
        api.get("/v1/nodes/{node_id:int}/rmclassifications")(self.record)
        api.post("/v1/nodes/{node_id:int}/rmclassifications")(self.declare)
        api.put("/v1/nodes/{node_id:int}/rmclassifications")(self.update)
        api.delete("/v1/nodes/{node_id:int}/rmclassifications/{class_id:int}")(self.undeclare)

    def _volume(self) -> int:
        volume = self.store.volume(198)
        return int(volume["id"]) if volume else 0

    def several(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        data = [
            {
                "cell_metadata": {"data": {}, "definitions": {}},
                "classvolumeid": None,
                "id": row["id"],
                "inherit_flag": False,
                "management_type": "manual",
                "menu": None,
                "name": row["name"],
                "parent_managed": None,
                "score": None,
                "selectable": True,
                "type": row["type"],
            }
            for row in self.store.classes(node["id"])
        ]
        rights = dict.fromkeys(
            ("bCanApplyClass", "bCanRemoveClass", "canModify"), self.store.may(call.user, node, "edit_attributes")
        )
        shape = {"definitions": {}, "definitions_map": {"name": ["menu"]}, "definitions_order": ["name"]}
        return {**rights, "classVolumeID": self._volume(), "data": data, **shape}

    def assign(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        self.store.need(call.user, node, "edit_attributes")
        class_ids = [whole("class_id", class_id) for class_id in call.many("class_id")]
        targets = [node, *(self.store.below(node["id"]) if truth(call.one("apply_to_sub_items", False)) else [])]
        with self.store.transaction():
            for target in targets:
                self.store.classify(call.user, target["id"], class_ids)
        return self.several(call, node_id)

    def record(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        held = self.store.record(node["id"])
        data = []
        if held:
            empty = dict.fromkeys(
                ("rsi", "received_date", "cycle_period", "last_review_date", "next_review_date", "accession", "subject")
            )
            data.append(
                {
                    "inherited_rmclassification_id": None,
                    "default_rmclassification_id": None,
                    "multiple_classifications": [],
                    "rmclassification_id": held["class_id"],
                    "name": self.store.row(held["class_id"])["name"],
                    "file_number": f"{held['class_id']}",
                    **empty,
                    **json.loads(held["details"]),
                }
            )
        allowed = self.store.may(call.user, node, "edit_attributes")
        rights = dict.fromkeys(("canBeUnclassified", "canFinalize", "canRemoveClass", "canRMClassify"), allowed)
        token = held["token"] if held else ""
        return {
            **rights,
            "classVolumeID": self._volume(),
            "data": data,
            "definitions": {},
            "multiClass": False,
            "rm_metadataToken": token,
        }

    def declare(self, call: Call, node_id: int) -> dict[str, Any]:
        """Make a document a record; another class later needs the token."""
        node = self.store.node(call.user, node_id)
        self.store.need(call.user, node, "edit_attributes")
        class_id = call.number("class_id")
        targets = [node, *(self.store.below(node["id"]) if truth(call.one("apply_to_sub_items", False)) else [])]
        with self.store.transaction():
            for target in targets:
                held = self.store.record(target["id"])
                seen = str(call.one("rm_metadataToken") or "")
                token = held["token"] if held and target is not node else seen
                self.store.set_record(call.user, target["id"], class_id, self._details(call), token)
        return self.record(call, node_id)

    def update(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        self.store.need(call.user, node, "edit_attributes")
        held = self.store.record(node["id"])
        if held is None:
            raise Refusal(400, "The item has no records management classification.")
        with self.store.transaction():
            token = str(call.one("rm_metadataToken") or "")
            self.store.set_record(call.user, node["id"], held["class_id"], self._details(call), token)
        return self.record(call, node_id)

    def undeclare(self, call: Call, node_id: int, class_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        self.store.need(call.user, node, "edit_attributes")
        token = call.asked("rm_metadataToken") or str(call.one("rm_metadataToken") or "")
        with self.store.transaction():
            self.store.remove_record(call.user, node["id"], class_id, token)
        return {"ok": True}

    def _details(self, call: Call) -> dict[str, Any]:
        names = (
            "rsi",
            "file_status",
            "status_date",
            "essential",
            "storage",
            "record_date",
            "received_date",
            "accession",
            "subject",
        )
        details: dict[str, Any] = {name: call.one(name) for name in names if call.one(name) is not None}
        if call.one("official") is not None:
            details["official"] = truth(call.one("official"))
        return details


# --------------------------------------------------------------------------------------------- permissions


class Permissions:
    """Who may do what with a node."""

    def __init__(self, store: Store, api: Api) -> None:
        self.store = store
        self.api = api

    def register(self) -> None:
        api = self.api
        path = "/v2/nodes/{node_id:int}/permissions"
        api.get(path)(self.several)
        api.get(path + "/effective/{member_id:int}")(self.effective)
        api.post(path + "/custom")(self.add)
        api.post(path + "/custom/bulk")(self.add_many)
        api.put(path + "/custom/{member_id:int}")(self.change)
        api.delete(path + "/custom/{member_id:int}")(self.remove)
        api.put(path + "/{kind}")(self.set)
        api.delete(path + "/{kind}")(self.clear)
        api.post("/v2/nodes/permissions/check", reads=True)(self.check)
        api.post("/v2/ai/nodes/permissions/check", reads=True)(self.check)

    def several(self, call: Call, node_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        lines = [permission_line(*grant) for grant in ecm_store.grants_of(node["acl"])]
        page, limit = page_of(call)
        collection = {"paging": paging(call, len(lines), page, limit)}
        shown = lines[(page - 1) * limit : page * limit]
        return envelope(call, [{"data": {"permissions": line}} for line in shown], collection=collection)

    def effective(self, call: Call, node_id: int, member_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        mask = self.store.rights(self.store.member(member_id)["id"], node)
        return envelope(
            call, {"data": {"permissions": {"permissions": names_of(mask), "right_id": member_id, "type": "effective"}}}
        )

    def add(self, call: Call, node_id: int) -> dict[str, Any]:
        return self._set(call, node_id, "custom", self.store.member(call.number("right_id"))["id"])

    def add_many(self, call: Call, node_id: int) -> dict[str, Any]:
        given = call.many("permissions_array")
        lines = json.loads(given[0]) if given and isinstance(given[0], str) else given
        change = {
            ("custom", self.store.member(whole("right_id", line["right_id"]))["id"]): mask_of(line["permissions"])
            for line in lines
        }
        return self._apply(call, node_id, change)

    def change(self, call: Call, node_id: int, member_id: int) -> dict[str, Any]:
        self._held(call, node_id, member_id)
        return self._set(call, node_id, "custom", member_id)

    def remove(self, call: Call, node_id: int, member_id: int) -> dict[str, Any]:
        self._held(call, node_id, member_id)
        return self._apply(call, node_id, {("custom", member_id): None})

    def set(self, call: Call, node_id: int, kind: str) -> dict[str, Any]:
        self._known(kind)
        right_id = call.one("right_id")
        return self._set(call, node_id, kind, self.store.member(whole("right_id", right_id))["id"] if right_id else None)

    def clear(self, call: Call, node_id: int, kind: str) -> dict[str, Any]:
        self._known(kind)
        return self._apply(call, node_id, {(kind, None): None})

    def check(self, call: Call) -> dict[str, Any]:
        """Of these nodes, the ones that the user sees."""
        user = call.number("right_id", call.user)
        seen = []
        for node_id in call.many("ids"):
            try:
                seen.append(self.store.node(user, whole("ids", node_id))["id"])
            except Refusal:
                continue
        return envelope(call, {"ids": seen})

    def _known(self, kind: str) -> None:
        if kind not in ("owner", "group", "public"):
            raise Refusal(400, UNKNOWN_ROUTE)

    def _held(self, call: Call, node_id: int, member_id: int) -> None:
        grants = ecm_store.grants_of(self.store.node(call.user, node_id)["acl"])
        if not any(grant.kind == "custom" and grant.right_id == member_id for grant in grants):
            raise Refusal(400, f"The item has no permissions for {member_id}.")

    def _set(self, call: Call, node_id: int, kind: str, right_id: int | None) -> dict[str, Any]:
        if "permissions" not in call.values:
            raise Refusal(400, "Missing required parameter: permissions")
        return self._apply(call, node_id, {(kind, right_id): mask_of(map(str, call.many("permissions")))})

    def _apply(self, call: Call, node_id: int, change: Mapping[tuple[str, int | None], int | None]) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        with self.store.transaction():
            self.store.set_grants(call.user, node, change, call.number("apply_to", 0))
            (kind, right_id), _ = next(iter(change.items()), (("", None), 0))
            if kind in ("owner", "group") and right_id:
                self.store.change(call.user, node["id"], **{"owner_user_id" if kind == "owner" else "owner_group_id": right_id})
        grants = ecm_store.grants_of(self.store.row(node["id"])["acl"])
        return envelope(call, {"data": {"permissions": [permission_line(*grant) for grant in grants]}})


# --------------------------------------------------------------------------------------------- members


class Members:
    """Users and groups."""

    LARGEST_PAGE = 20

    def __init__(self, store: Store, api: Api) -> None:
        self.store = store
        self.api = api

    def register(self) -> None:
        api = self.api
        api.get("/v2/members")(self.several)
        api.post("/v2/members")(self.add)
        api.get("/v2/members/{member_id:int}")(self.get)
        api.put("/v2/members/{member_id:int}")(self.change)
        api.delete("/v2/members/{member_id:int}")(self.remove)
        api.get("/v2/members/{member_id:int}/members")(self.group_members)
        api.post("/v2/members/{member_id:int}/members")(self.join)
        api.delete("/v2/members/{member_id:int}/members/{other_id:int}")(self.leave)
        api.get("/v2/members/{member_id:int}/memberof")(self.member_of)

    def _need_administrator(self, call: Call) -> None:
        if call.user != ADMIN_ID:
            raise Refusal(500, "Insufficient permissions to perform this action.")

    def _page(self, call: Call, rows: list[Any]) -> dict[str, Any]:
        """A page of members. Nobody gets more than 20 at once."""
        kind = call.asked("where_type")
        wanted = {name: call.asked(f"where_{name}") for name in ("first_name", "last_name", "business_email")}
        shown = []
        for row in rows:
            properties = member_properties(self.store, row["id"])
            if kind is not None and row["type"] != whole("where_type", kind):
                continue
            if call.asked("where_name") and row["name"].lower() != str(call.asked("where_name")).lower():
                continue
            if any(value is not None and properties.get(name) != value for name, value in wanted.items()):
                continue
            query = (call.asked("query") or "").lower()
            names = (properties.get(name) or "" for name in ("name", "first_name", "last_name"))
            if query and not any(str(name).lower().startswith(query) for name in names):
                continue
            shown.append(properties)
        sort = call.asked("sort") or "asc_id"
        direction, _, column = sort.partition("_") if sort.startswith(("asc_", "desc_")) else ("asc", "_", sort)
        shown.sort(
            key=lambda properties: str(properties.get(column) or "").lower() if column != "id" else 0,
            reverse=direction == "desc",
        )
        page, limit = page_of(call, self.LARGEST_PAGE, largest=self.LARGEST_PAGE)
        collection = {"paging": paging(call, len(shown), page, limit), "sorting": {"sort": [{"key": "sort", "value": sort}]}}
        results = [{"data": {"properties": properties}} for properties in shown[(page - 1) * limit : page * limit]]
        return envelope(call, results, collection=collection)

    def several(self, call: Call) -> dict[str, Any]:
        return self._page(call, self.store.members())

    def group_members(self, call: Call, member_id: int) -> dict[str, Any]:
        return self._page(call, self.store.group_members(self.store.member(member_id)["id"]))

    def member_of(self, call: Call, member_id: int) -> dict[str, Any]:
        groups = self.store.groups_of(self.store.member(member_id)["id"])
        return self._page(call, [row for row in self.store.members(1) if row["id"] in groups])

    def get(self, call: Call, member_id: int) -> dict[str, Any]:
        return envelope(call, {"data": {"properties": member_properties(self.store, member_id)}})

    def add(self, call: Call) -> dict[str, Any]:
        self._need_administrator(call)
        kind, name = call.number("type"), call.text("name")
        if kind not in MEMBER_TYPES:
            raise Refusal(400, f"Invalid value for parameter type: {kind}")
        details = {key: call.one(key) for key in call.values if key not in ("type", "name")}
        with self.store.transaction():
            member_id = self.store.add_member(kind, name, details)
        return self.get(call, member_id)

    def change(self, call: Call, member_id: int) -> dict[str, Any]:
        if member_id != call.user:
            self._need_administrator(call)
        details = {key: call.one(key) for key in call.values if key != "type"}
        with self.store.transaction():
            self.store.change_member(self.store.member(member_id), details)
        return self.get(call, member_id)

    def remove(self, call: Call, member_id: int) -> dict[str, Any]:
        self._need_administrator(call)
        with self.store.transaction():
            self.store.remove_member(self.store.member(member_id)["id"])
        return envelope(call, {})

    def join(self, call: Call, member_id: int) -> dict[str, Any]:
        self._need_administrator(call)
        with self.store.transaction():
            for other in call.many("member_id"):
                self.store.join(self.store.member(member_id)["id"], self.store.member(whole("member_id", other))["id"])
        return self.get(call, member_id)

    def leave(self, call: Call, member_id: int, other_id: int) -> dict[str, Any]:
        self._need_administrator(call)
        with self.store.transaction():
            self.store.leave(member_id, other_id)
        return envelope(call, {})


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
        self._store = Store(data, seed)
        self._socket = socket.create_server((host, port), backlog=512)
        # asyncio does this only for sockets made with an explicit protocol; without it each small answer waits 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host, self.port = self._socket.getsockname()[:2]
        config = uvicorn.Config(
            build(self._store, self.faults, self.base_path),
            http=WireProtocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=2,
            timeout_keep_alive=60,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="extended-ecm", daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}{self.base_path}"

    def start(self) -> ExtendedEcmSandbox:
        """Serve from now on. Raises ``RuntimeError`` if that takes more than 15 seconds."""
        self._thread.start()
        limit = datetime.now(UTC) + timedelta(seconds=15)
        while not self._server.started:
            if not self._thread.is_alive() or datetime.now(UTC) > limit:
                raise RuntimeError(f"the Extended ECM sandbox did not start on {self.host}:{self.port}; its log is on stderr")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """End it. What was committed stays in the data folder."""
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()
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
