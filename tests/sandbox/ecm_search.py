"""Finding things in the Extended ECM stand-in, and its audit trail.

What search says about words is about names, descriptions and category values: contents are not indexed.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from tests.sandbox import lql
from tests.sandbox.ecm_shapes import node_properties, version_properties
from tests.sandbox.ecm_store import AUDIT_EVENTS, DOCUMENT, Store, local, wire_values
from tests.sandbox.ecm_wire import Api, Call, Faults, Refusal, envelope, page_of, paging, whole

SCHEMA = ""


def register(store: Store, faults: Faults, api: Api) -> None:
    Search(store, faults, api).register()


class Search:
    """Search and audit."""

    def __init__(self, store: Store, faults: Faults, api: Api) -> None:
        self.store = store
        self.faults = faults
        self.api = api

    def register(self) -> None:
        api = self.api
        api.post("/v2/search", reads=True)(self.search)
        api.get("/v2/nodes/{node_id:int}/audit")(self.audit)

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
