"""What is said about nodes of the Extended ECM stand-in: categories and classifications."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.sandbox.ecm_store import CONTAINERS, Store, first_values, wire_values
from tests.sandbox.ecm_wire import Api, Call, Faults, Refusal, envelope, truth, whole

SCHEMA = """
CREATE TABLE IF NOT EXISTS definition (id INTEGER PRIMARY KEY, attributes TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS applied_category (
    node_id INTEGER NOT NULL, category_id INTEGER NOT NULL, data TEXT NOT NULL, inherited INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (node_id, category_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS applied_class (
    node_id INTEGER NOT NULL, class_id INTEGER NOT NULL, PRIMARY KEY (node_id, class_id)) WITHOUT ROWID;
"""

APPLY_ACTIONS = ("add", "add_upgrade", "upgrade", "replace", "delete", "none")


def register(store: Store, faults: Faults, api: Api) -> None:
    Categories(store, api).register()
    Classifications(store, api).register()


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
        self.store.need_unreserved(call.user, node)
        with self.store.transaction():
            self.store.apply_category(call.user, node["id"], category_id, values, new=new)
        return envelope(call, self._shown(call, category_id, self.store.categories(node["id"])[category_id]))

    def remove(self, call: Call, node_id: int, category_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        self.store.need(call.user, node, "edit_attributes")
        self.store.need_unreserved(call.user, node)
        with self.store.transaction():
            self.store.remove_category(call.user, node["id"], category_id)
        return envelope(call, {})

    def apply_below(self, call: Call, node_id: int) -> dict[str, Any]:
        """Copy categories of a container to what is in it, each with an action of its own."""
        node = self.store.node(call.user, node_id)
        self.store.need(call.user, node, "edit_attributes")
        held = self.store.categories(node["id"])
        wanted = [(whole("categories", line["id"]), line.get("action") or "add_upgrade") for line in call.many("categories")]
        for category_id, action in wanted:
            if category_id not in held:
                raise Refusal(500, f"Could not find category ID '{category_id}' on the node")
            if action not in APPLY_ACTIONS:
                raise Refusal(500, "Invalid specification.")
        with self.store.transaction():
            for row in self.store.below(node["id"]):
                self.store.need(call.user, row, "edit_attributes")
                self.store.need_unreserved(call.user, row)
                if truth(call.one("clear_existing_categories", False)):
                    for category_id in self.store.categories(row["id"]):
                        self.store.remove_category(call.user, row["id"], category_id)
                for category_id, action in wanted:
                    self._apply_one(call.user, row["id"], category_id, action, held[category_id])
        return envelope(call, {"ok": True})

    def _apply_one(self, user: int, node_id: int, category_id: int, action: str, values: Mapping[str, Any]) -> None:
        """``upgrade`` is to a newer definition, of which there is only one here."""
        there = category_id in self.store.categories(node_id)
        if there and action in ("replace", "delete"):
            self.store.remove_category(user, node_id, category_id)
        if action == "replace" or (not there and action in ("add", "add_upgrade")):
            given = wire_values(category_id, self.store.definition(category_id), values)
            self.store.apply_category(user, node_id, category_id, given, new=True)

    def inherit(self, call: Call, node_id: int, category_id: int) -> dict[str, Any]:
        return self._inheritance(call, node_id, category_id, on=True)

    def disinherit(self, call: Call, node_id: int, category_id: int) -> dict[str, Any]:
        return self._inheritance(call, node_id, category_id, on=False)

    def _inheritance(self, call: Call, node_id: int, category_id: int, *, on: bool) -> dict[str, Any]:
        node = self.store.node(call.user, node_id)
        if node["type"] not in CONTAINERS:
            raise Refusal(400, f"The item '{node['name']}' is not a container.")
        self.store.need(call.user, node, "edit_attributes")
        self.store.inherit_category(node["id"], category_id, on=on)
        return envelope(call, {"ok": True})

    def form(self, call: Call) -> dict[str, Any]:
        """What a client shows to fill a category in. ``{cat}_1`` carries the token that proves what was seen."""
        node = self.store.node(call.user, call.asked_number("id", 0))
        category_id = call.asked_number("category_id", 0)
        values = self.store.categories(node["id"]).get(category_id)
        return self._form(category_id, values or first_values(self.store.definition(category_id)), str(node["token"]))

    def specific(self, call: Call) -> dict[str, Any]:
        """The same for the category's own node: its definition, where it is not applied to anything yet."""
        category = self.store.node(call.user, call.asked_number("id", 0))
        return self._form(category["id"], first_values(self.store.definition(category["id"])), "")

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
    """Classifications of a node."""

    def __init__(self, store: Store, api: Api) -> None:
        self.store = store
        self.api = api

    def register(self) -> None:
        api = self.api
        api.get("/v1/nodes/{node_id:int}/classifications")(self.several)
        api.post("/v1/nodes/{node_id:int}/classifications")(self.assign)

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
