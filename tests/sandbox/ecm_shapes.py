"""How the Extended ECM stand-in shows a node, a version, a line of permissions: the shapes that several domains answer with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.sandbox.ecm_store import CONTAINERS, DOCUMENT, TYPE_NAMES, Store, grants_of, local, names_of, now, wire_values
from tests.sandbox.ecm_wire import Call

EXTERNAL = ("external_create_date", "external_modify_date", "external_source", "external_identity", "external_identity_type")


def size_text(node: Any) -> str:
    if node["type"] in CONTAINERS:
        return f"{node['children']} Items"
    size = node["size"]
    return f"{size} Bytes" if size < 1024 else f"{-(-size // 1024)} KB" if size < 1024**2 else f"{-(-size // 1024**2)} MB"


def shared_outside(store: Store, node_id: int) -> bool:
    query = "SELECT 1 FROM share WHERE node_id = ? AND (expire_date IS NULL OR expire_date >= ?)"
    return store.db.execute(query, (node_id, now()[:10])).fetchone() is not None


def node_properties(store: Store, node: Any) -> dict[str, Any]:
    """Everything v2 tells about a node. Containers count their children as their size."""
    container = node["type"] in CONTAINERS
    owner = store.db.execute("SELECT name FROM member WHERE id = ?", (node["owner_user_id"],)).fetchone()
    properties = {
        "advanced_versioning": None if container else bool(node["versions_control_advanced"]),
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
        "reserved_shared_collaboration": shared_outside(store, node["id"]),
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
        "locked": version["locked_user_id"] is not None,
        "locked_date": version["locked_date"],
        "locked_user_id": version["locked_user_id"],
        "mime_type": version["mime_type"],
        "modify_date": version["create_date"],
        "name": version["name"],
        "owner_id": version["owner_id"],
        "provider_id": version["version_id"],
        "version_id": version["version_id"],
        "version_number": version["number"],
        "version_number_major": version["major"],
        "version_number_minor": version["minor"],
        "version_number_name": version["number_name"],
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
            data["permissions"] = [permission_line(*grant) for grant in grants_of(node["acl"])]
    return {"data": data}
