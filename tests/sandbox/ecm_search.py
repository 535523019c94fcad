"""Finding things in the Extended ECM stand-in, and its audit trail.

What search says about words is about names, descriptions and category values: contents are not indexed.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

from tests.sandbox import lql
from tests.sandbox.ecm_shapes import node_properties, version_properties
from tests.sandbox.ecm_store import AUDIT_EVENTS, DOCUMENT, TYPE_NAMES, Store, local, wire_values
from tests.sandbox.ecm_wire import Api, Call, Faults, Refusal, envelope, page_of, paging, whole

SCHEMA = ""
REGIONS = ["OTMIMEType", "OTName", "OTObjectDate", "OTObjectSize", "OTLocation", "OTCreatedBy"]
"""What a hit tells where ``select`` does not ask for others."""
FACETS = (
    ("OTSubType", "Content Type", "ContentType"),
    ("OTMIMEType", "File Type", "String"),
    ("OTCreatedBy", "Created By", "UserLogin"),
    ("OTModifyDate", "Modified Date", "Date"),
)
MOST_FACET_VALUES = 20


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
        options = set(re.findall(r"\w+", str(call.many("options"))))
        selected = [name for text in call.many("select") for name in re.findall(r"\w+", str(text))] or REGIONS
        try:
            found = self._found(call)
            reads = {name: lql.region(name) for name in selected}
            if sort.lower() != "relevance":
                direction, _, region = sort.partition("_") if sort.startswith(("asc_", "desc_")) else ("asc", "_", sort)
                read = lql.region(region)
                found.sort(key=lambda hit: read(*hit), reverse=direction == "desc")
        except lql.BadQueryError as error:
            raise Refusal(400, f"Error Evaluating Query, {error}") from error
        page, limit = page_of(call, body=True)
        shown = found[(page - 1) * limit : page * limit]
        first, last = min(len(found), (page - 1) * limit + 1), min(len(found), page * limit)
        searching = {
            "cache_id": int(time.time() * 1000) % 10**9,
            "regions_metadata": {},
            "regions_order": list(reads),
            "result_title": "Search results: Extended ECM",
        }
        if options & {"facets", "facets_raw"}:
            searching["facets"] = {"available": [self._facet(*facet, found) for facet in FACETS]}
        collection = {
            "paging": {
                **paging(call, len(found), page, limit),
                "result_header_string": f"Results {first} to {last} of {len(found)} sorted by {sort.partition('_')[2] or sort.title()}",
            },
            "searching": searching,
            "sorting": {"links": {}, "sort": [sort]},
        }
        wanted = lql.WORD.findall(call.text("where").lower()) if "highlight_summaries" in options else []
        return envelope(call, [self._hit(row, path, reads, wanted) for row, path in shown], collection=collection)

    def _facet(self, region: str, shown: str, kind: str, found: list[tuple[Any, tuple[int, ...]]]) -> dict[str, Any]:
        """How often each value of a region is among everything that was found, not only on this page."""
        read = lql.region(region)
        counts = Counter(str(read(row, path)) for row, path in found)
        items = [
            {"count": count, "display_name": self._shown(region, value), "value": value}
            for value, count in counts.most_common(MOST_FACET_VALUES)
            if value
        ]
        return {
            "count": len(items),
            "count_exceeded": len(counts) > MOST_FACET_VALUES,
            "display_name": shown,
            "facet_items": items,
            "name": region,
            "type": kind,
        }

    def _shown(self, region: str, value: str) -> str:
        if region == "OTSubType":
            return TYPE_NAMES.get(int(value), value)
        if region == "OTCreatedBy":
            found = self.store.db.execute("SELECT name FROM member WHERE id = ?", (int(value),)).fetchone()
            return str(found["name"]) if found else value
        return value

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

    def _hit(self, row: Any, path: tuple[int, ...], reads: Mapping[str, Any], wanted: list[str]) -> dict[str, Any]:
        summary = highlighted(self._words(row), wanted)
        properties = node_properties(self.store, row) | {"short_summary": summary, "summary": summary}
        data: dict[str, Any] = {"properties": properties, "regions": {name: read(row, path) for name, read in reads.items()}}
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


def highlighted(text: str, wanted: list[str]) -> str | list[Any]:
    """A summary: plain text, or in pieces of which the wanted words are objects. The pieces' shape is seen in the server's own
    web pages, not in its documentation, which shows an empty text."""
    pieces: list[Any] = []
    for piece in re.split(r"(\w+)", text):
        if piece.lower() in wanted:
            pieces.append({"type": "HH", "text": piece})
        elif pieces and isinstance(pieces[-1], str):
            pieces[-1] += piece
        elif piece:
            pieces.append(piece)
    return pieces if wanted else ""
