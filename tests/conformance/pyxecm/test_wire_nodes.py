"""Nodes, the recycle bin, reservations, versions and large uploads of the sandbox, where a client library would hide the answer."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conformance.pyxecm.wire import Wire
from tests.sandbox import ecm_metadata
from tests.sandbox.ecm_store import Store
from tests.sandbox.ecm_wire import Refusal
from tests.sandbox.extended_ecm import ExtendedEcmSandbox

PART = 1000
LARGE = {"large_upload": {"min_size": 2500, "max_size": 100_000, "part_size": PART}}
NUMBERS = count()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A sandbox in this process, whose parts are small."""
    server = ExtendedEcmSandbox(tmp_path_factory.mktemp("ecm"), seed=LARGE).start()
    yield server.described()
    server.stop()


@pytest.fixture
def wire(service: dict[str, Any]) -> Iterator[Wire]:
    with Wire(service) as client:
        yield client
        client.faults(**{"lost-answer": 0, "upload-life": 0})


@pytest.fixture
def folder(wire: Wire) -> int:
    return wire.folder(f"Nodes {next(NUMBERS)}")


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


def names_in(wire: Wire, folder: int) -> list[str]:
    listed = wire.http.get(f"/v2/nodes/{folder}/nodes").json()["results"]
    return [item["data"]["properties"]["name"] for item in listed]


def other(wire: Wire) -> Wire:
    name = f"user {next(NUMBERS)}"
    wire.user(name)
    return wire.as_user(name)


# --------------------------------------------------------------------------------------------- copies and moves


def test_a_folder_is_copied_with_what_is_below_it(wire: Wire, folder: int) -> None:
    source = wire.folder("source", folder)
    inner = wire.folder("inner", source)
    wire.document("a.txt", b"deep", inner)
    made = wire.body("POST", "/v2/nodes", original_id=source, parent_id=folder, name="copy")
    copied = made.json()["results"]["data"]["properties"]
    assert (copied["type"], copied["size"]) == (0, 1)
    again = wire.body("POST", "/v2/nodes", original_id=source, parent_id=folder, name="COPY")
    assert refused(again) == (500, "An item with the name 'COPY' already exists.")
    [inside] = wire.http.get(f"/v2/nodes/{copied['id']}/nodes").json()["results"]
    [leaf] = wire.http.get(f"/v2/nodes/{inside['data']['properties']['id']}/nodes").json()["results"]
    assert wire.http.get(f"/v2/nodes/{leaf['data']['properties']['id']}/content").content == b"deep"
    into_itself = wire.body("POST", "/v2/nodes", original_id=source, parent_id=inner, name="loop")
    assert refused(into_itself) == (500, "An item cannot be copied into itself.")


@pytest.mark.parametrize(
    ("inheritance", "expected"),
    [(None, {"original"}), (0, {"original"}), (1, {"destination"}), (2, {"original", "destination"})],
)
@pytest.mark.parametrize("act", ["copy", "move"])
def test_categories_of_what_is_copied_or_moved(tmp_path: Path, act: str, inheritance: int | None, expected: set[str]) -> None:
    seed = {"categories": [{"path": name, "attributes": [{"name": "x"}]} for name in ("original", "destination")]}
    server = ExtendedEcmSandbox(tmp_path, seed=seed).start()
    try:
        with Wire(server.described()) as wire:
            ids = {name: wire.at(name, volume=133) for name in ("original", "destination")}
            target, source = wire.folder("target"), wire.document("a.txt")
            wire.plain("POST", f"/v2/nodes/{source}/categories", category_id=ids["original"])
            wire.plain("POST", f"/v2/nodes/{target}/categories", category_id=ids["destination"])
            wire.http.post(f"/v2/nodes/{target}/categories/{ids['destination']}/inheritance")
            roles = {} if inheritance is None else {"roles": {"categories": {"inheritance": inheritance}}}
            if act == "copy":
                made = wire.body("POST", "/v2/nodes", original_id=source, parent_id=target, **roles)
            else:
                made = wire.body("PUT", f"/v2/nodes/{source}", parent_id=target, **roles)
            node = made.json()["results"]["data"]["properties"]
            assert (node["name"], node["parent_id"]) == ("a.txt", target)
            held = wire.http.get(f"/v2/nodes/{node['id']}/categories").json()["results"]
            keys = {key.partition("_")[0] for entry in held for key in entry["data"]["categories"]}
            assert {name for name in ids if str(ids[name]) in keys} == expected
    finally:
        server.stop()


def test_sizes_of_containers_follow_every_change(wire: Wire, folder: int) -> None:
    def sizes() -> tuple[int, int]:
        held = wire.properties(folder)
        return held["size"], held["container_size"]

    inner = wire.folder("inner", folder)
    document = wire.document("a.txt", b"x", folder)
    assert sizes() == (2, 2)
    wire.body("PUT", f"/v2/nodes/{document}", parent_id=inner)
    assert sizes() == (1, 1)
    wire.http.delete(f"/v2/nodes/{inner}")
    assert sizes() == (0, 0)
    wire.plain("POST", "/v2/volumes/recyclebin/nodes/restore", ids=inner)
    assert sizes() == (1, 1)
    wire.body("POST", "/v2/nodes", original_id=inner, parent_id=folder, name="again")
    assert sizes() == (2, 2)


def test_a_token_proves_what_was_seen(wire: Wire, folder: int) -> None:
    def token() -> str:
        shown = wire.http.get(f"/v2/nodes/{folder}", params={"state": "", "actions": ["delete", "open"]}).json()["results"]
        assert shown["actions"]["order"] == ["delete", "open"]
        return str(shown["state"]["properties"]["metadata_token"])

    stale = token()
    answer = wire.body("PUT", f"/v2/nodes/{folder}", description="new", metadata_token=stale).json()["results"]
    assert answer["state"]["properties"]["metadata_token"] == token() != stale
    late = wire.body("PUT", f"/v2/nodes/{folder}", description="newer", metadata_token=stale)
    assert refused(late) == (409, "Could not update metadata (edit conflict).")


def test_actions_are_those_that_the_rights_allow(wire: Wire, folder: int) -> None:
    document = wire.document("a.txt", b"x", folder)
    allowed = wire.plain("POST", "/v2/nodes/actions", ids=[document, 999_999]).json()["results"]
    assert list(allowed) == [str(document)]
    assert {"open", "delete", "addversion", "reserve"} <= set(allowed[str(document)]["data"])
    one = wire.body("POST", "/v2/nodes/actions", ids=[document], actions=["delete"]).json()["results"]
    assert one[str(document)]["order"] == ["delete"]
    with other(wire) as stranger:
        few = stranger.plain("POST", "/v2/nodes/actions", ids=[document]).json()["results"][str(document)]["order"]
    assert "delete" not in few and "open" in few


# --------------------------------------------------------------------------------------------- the recycle bin


def deleted(wire: Wire, **query: str) -> list[dict[str, Any]]:
    answer = wire.http.get("/v2/volumes/recyclebin/nodes", params={"mode": "user_deleted", **query})
    assert answer.status_code == 200, answer.text
    return [item["data"]["properties"] for item in answer.json()["results"]]


def test_a_deleted_folder_comes_back_with_everything(wire: Wire, folder: int) -> None:
    inner = wire.folder(f"bin {folder}", folder)
    document = wire.document("a.txt", b"kept", inner)
    wire.http.delete(f"/v2/nodes/{inner}")
    [item] = deleted(wire, where_name=f"BIN {folder}")
    assert (item["id"], item["parent_id"], item["deleted_user_id"], item["container"]) == (inner, folder, 1000, True)
    assert item["deleted_date"].endswith("Z") and item["purged_date"] > item["deleted_date"]
    answer = wire.body("POST", "/v2/volumes/recyclebin/nodes/restore", ids=[inner])
    assert answer.json()["results"] == {"failure": {"errors": {}, "ids": []}, "success": {"ids": [inner]}}
    assert wire.http.get(f"/v2/nodes/{document}/content").content == b"kept"
    assert deleted(wire, where_name=f"bin {folder}") == []


def test_what_cannot_be_restored_is_told_and_the_rest_is(wire: Wire, folder: int) -> None:
    inner = wire.folder("inner", folder)
    taken, orphan, good = (wire.document(name, b"x", where) for name, where in (("a", folder), ("b", inner), ("c", folder)))
    for node in (taken, orphan, good, inner):
        wire.http.delete(f"/v2/nodes/{node}")
    wire.document("A", b"new", folder)
    answer = wire.body("POST", "/v2/volumes/recyclebin/nodes/restore", ids=[taken, orphan, 7, good])
    results = answer.json()["results"]
    assert (answer.status_code, results["success"]["ids"], results["failure"]["ids"]) == (400, [good], [taken, orphan, 7])
    assert results["failure"]["errors"]["7"]["message"] == "Could not get a node for 7"
    assert "already exists" in results["failure"]["errors"][str(taken)]["message"]
    assert refused(wire.plain("POST", "/v2/volumes/recyclebin/nodes/restore")) == (400, "The parameter 'ids' is not specified.")


def test_a_purged_item_is_gone_and_its_id_is_not_used_again(tmp_path: Path) -> None:
    server = ExtendedEcmSandbox(tmp_path).start()
    with Wire(server.described()) as wire:
        document = wire.document("last.txt", b"secret bytes")
        wire.http.delete(f"/v2/nodes/{document}")
        answer = wire.plain("POST", "/v2/volumes/recyclebin/nodes/purge", ids=document)
        assert answer.json()["results"]["success"]["ids"] == [document]
        assert wire.plain("POST", "/v2/volumes/recyclebin/nodes/purge", ids=document).status_code == 400
    server.stop()
    assert not [path for path in (tmp_path / "content").rglob("*") if path.is_file() and path.read_bytes() == b"secret bytes"]
    server = ExtendedEcmSandbox(tmp_path).start()
    with Wire(server.described()) as wire:
        assert wire.document("next.txt") > document
    server.stop()


def test_nobody_purges_or_sees_what_others_deleted(wire: Wire, folder: int) -> None:
    document = wire.document("private.txt", b"x", folder)
    for kind in ("public", "group"):
        wire.body("DELETE", f"/v2/nodes/{document}/permissions/{kind}")
    wire.http.delete(f"/v2/nodes/{document}")
    with other(wire) as stranger:
        assert document not in [item["id"] for item in deleted(stranger, mode="anyone_deleted")]
        assert stranger.plain("POST", "/v2/volumes/recyclebin/nodes/purge", ids=document).status_code == 400
    assert document in [item["id"] for item in deleted(wire, mode="anyone_deleted")]


def test_guards_block_deletion_purging_and_the_loss_of_a_version(tmp_path: Path) -> None:
    """What holds rest on: a guard is asked about every node that would go, however deep."""
    store = Store(tmp_path, schemas=[ecm_metadata.SCHEMA])
    held: set[int] = set()

    def allow(act: str, node: Any) -> None:
        if node["id"] in held:
            raise Refusal(500, f"{act} refused")

    store.guard(allow)
    folder = store.create(1000, 2000, 0, "folder")
    inner = store.create(1000, folder, 0, "inner")
    held.add(inner)
    with pytest.raises(Refusal, match="delete refused"):
        store.delete(1000, store.row(folder))
    assert store.row(inner)["deleted"] == 0
    with pytest.raises(Refusal, match="drop version refused"):
        store.drop_versions(1000, store.row(inner), [1])
    store.close()


# --------------------------------------------------------------------------------------------- reservations


def test_what_somebody_else_reserved_is_not_changed(wire: Wire, folder: int) -> None:
    document = wire.document("a.txt", b"x", folder)
    category = wire.at("Partner Exchange", "Partner Document", volume=133)
    with other(wire) as owner:
        owner_id = owner.http.get("/v1/auth").json()["data"]["id"]
        wire.body("PUT", f"/v2/nodes/{document}", reserved_user_id=owner_id)
        assert owner.http.get("/v2/members/reserved").json()["results"][0]["data"]["properties"]["id"] == document
    answers = [
        wire.body("PUT", f"/v2/nodes/{document}", name="b.txt"),
        wire.body("PUT", f"/v2/nodes/{document}", description="b"),
        wire.body("PUT", f"/v2/nodes/{document}", parent_id=2000),
        wire.http.delete(f"/v2/nodes/{document}"),
        wire.http.delete(f"/v2/nodes/{folder}"),
        wire.plain("POST", f"/v2/nodes/{document}/categories", category_id=category),
        wire.http.post(f"/v2/nodes/{document}/versions", files={"file": ("a.txt", b"y", "text/plain")}),
        wire.http.delete(f"/v2/nodes/{document}/versions/1"),
        wire.plain("DELETE", f"/v2/nodes/{document}/versions", number_to_keep=1),
    ]
    assert {refused(answer) for answer in answers} == {(500, "The item 'a.txt' is reserved by another user.")}
    assert wire.body("PUT", f"/v2/nodes/{document}", reserved_user_id=None).status_code == 200
    assert wire.body("PUT", f"/v2/nodes/{document}", name="b.txt").status_code == 200


def test_the_queue_for_a_reserved_document(wire: Wire, folder: int) -> None:
    document = wire.document("a.txt", b"x", folder)
    queue = f"/v2/reservemanagement/nodes/{document}"
    assert refused(wire.http.get(queue)) == (400, "This node is not reserved")
    assert refused(wire.http.get(f"/v2/reservemanagement/nodes/{folder}"))[0] == 400
    assert wire.http.get("/v2/reservemanagement/nodes/999999").status_code == 404
    wire.body("PUT", f"/v2/nodes/{document}", reserved_user_id=1000)
    with other(wire) as waiting:
        assert waiting.http.post(queue).json()
        assert "already exists" in refused(waiting.http.post(queue))[1]
        mine = waiting.http.get(queue).json()["data"]
        assert (mine["already_requested"], mine["num_users"], mine["reserved_by"]) == (True, 0, "Admin")
        theirs = wire.http.get(queue).json()["data"]
        assert (theirs["already_requested"], theirs["num_users"]) == (False, 1)
        assert waiting.http.delete(queue).json()
        assert "not in reservation queue" in refused(waiting.http.delete(queue))[1]


def test_what_was_opened_last(wire: Wire, folder: int) -> None:
    with other(wire) as reader:
        documents = [wire.document(f"{n}.txt", b"x", folder) for n in range(3)]
        for document in (documents[0], documents[2], documents[0]):
            reader.http.get(f"/v2/nodes/{document}/content")
        found = reader.http.get("/v2/members/accessed", params={"fields": "properties{id}"}).json()["results"]
        assert [item["data"]["properties"]["id"] for item in found] == [documents[0], documents[2]]


# --------------------------------------------------------------------------------------------- versions


def add_version(wire: Wire, document: int, content: bytes, **fields: str) -> dict[str, Any]:
    answer = wire.http.post(f"/v2/nodes/{document}/versions", data=fields, files={"file": ("a.txt", content, "text/plain")})
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["results"]["data"]["versions"])


def version_names(wire: Wire, document: int) -> list[str]:
    listed = wire.http.get(f"/v2/nodes/{document}/versions").json()["results"]
    return [item["data"]["versions"]["version_number_name"] for item in listed]


def test_major_and_minor_versions(wire: Wire, folder: int) -> None:
    plain = wire.document("plain.txt", b"1", folder)
    assert refused(wire.http.post(f"/v2/nodes/{plain}/versions/1/promote")) == (
        500,
        "You cannot promote a version for plain.txt which is using standard versioning",
    )
    wire.body("PUT", f"/v2/nodes/{folder}", versions_control_advanced=True)
    document = wire.document("a.txt", b"1", folder)
    add_version(wire, document, b"2", add_major_version="true")
    add_version(wire, document, b"3")
    promoted = wire.plain("POST", f"/v2/nodes/{document}/versions/3/promote", description="final").json()
    version = promoted["results"]["data"]["versions"]
    assert (version["version_number"], version["version_number_name"], version["description"]) == (4, "2.0", "final")
    assert version_names(wire, document) == ["0.1", "1.0", "1.1", "2.0"]
    assert wire.http.get(f"/v2/nodes/{document}/versions/4/content").content == b"3"
    wire.plain("DELETE", f"/v2/nodes/{document}/versions", number_to_keep=1)
    assert version_names(wire, document) == ["1.0", "1.1", "2.0"]  # majors are never purged
    assert version_names(wire, plain) == ["1"]
    wire.body("PUT", f"/v2/nodes/{folder}", versions_control_advanced=True, apply_to=2)
    add_version(wire, plain, b"2")
    assert version_names(wire, plain) == ["1", "0.2"]


def test_a_locked_version_is_neither_dropped_nor_purged(wire: Wire, folder: int) -> None:
    document = wire.document("a.txt", b"1", folder)
    for content in (b"2", b"3"):
        add_version(wire, document, content)
    locked = wire.http.post(f"/v2/nodes/{document}/versions/1/lock").json()["results"]["data"]["versions"]
    assert (locked["locked"], locked["locked_user_id"]) == (True, 1000)
    assert wire.http.delete(f"/v2/nodes/{document}/versions/1").status_code == 500
    wire.plain("DELETE", f"/v2/nodes/{document}/versions", number_to_keep=1)
    assert version_names(wire, document) == ["1", "3"]
    assert add_version(wire, document, b"4")["version_number"] == 4  # numbers survive a purge
    assert wire.http.post(f"/v2/nodes/{document}/versions/1/unlock").json()["results"]["data"]["versions"]["locked"] is False
    assert wire.http.delete(f"/v2/nodes/{document}/versions/1").status_code == 200
    described = wire.plain("PUT", f"/v2/nodes/{document}/versions/3", description="third").json()
    assert described["results"]["data"]["versions"]["description"] == "third"
    with other(wire) as stranger:
        wire.http.post(f"/v2/nodes/{document}/versions/3/lock")
        assert stranger.http.post(f"/v2/nodes/{document}/versions/3/unlock").status_code == 500


# --------------------------------------------------------------------------------------------- large uploads


def start(wire: Wire, size: int) -> httpx.Response:
    return wire.plain("POST", "/v2/multipart", file_name="big.bin", file_size=size, mime_type="application/octet-stream")


def part(wire: Wire, key: str, number: int, content: bytes) -> httpx.Response:
    return wire.http.post(f"/v2/multipart/{key}/{number}", files={"part_content": ("part", content)})


def test_parts_in_any_order_make_one_file(wire: Wire, folder: int) -> None:
    assert wire.http.get("/v2/multipart/settings").json() == {"is_enabled": True, "min_size": 2500, "max_size": 100_000}
    data = os.urandom(3 * PART + 7)
    told = start(wire, len(data)).json()
    assert (told["num_parts"], told["part_size"]) == (4, PART)
    key = told["upload_key"]
    assert refused(wire.http.post(f"/v2/multipart/{key}")) == (
        500,
        "Invalid status. Cannot close an empty or already closed upload.",
    )
    for number in (4, 2, 1):
        assert part(wire, key, number, data[(number - 1) * PART : number * PART]).json()
    assert refused(part(wire, key, 2, data[:PART])) == (500, "Invalid BlockID: BlockID 2 has already been uploaded.")
    assert refused(part(wire, key, 5, b"x")) == (500, "Invalid BlockID: Expected BlockID between 1 and 4")
    assert part(wire, key, 3, b"short").status_code == 500
    assert "missing" in refused(wire.http.post(f"/v2/multipart/{key}"))[1]
    early = wire.body("POST", "/v2/nodes", type=144, parent_id=folder, name="big.bin", upload_key=key)
    assert early.status_code == 500
    part(wire, key, 3, data[2 * PART : 3 * PART])
    assert wire.http.post(f"/v2/multipart/{key}").json()
    made = wire.body("POST", "/v2/nodes", type=144, parent_id=folder, name="big.bin", upload_key=key)
    document = made.json()["results"]["data"]["properties"]
    assert document["size"] == len(data)
    content = wire.http.get(f"/v2/nodes/{document['id']}/content").content
    assert hashlib.sha256(content).digest() == hashlib.sha256(data).digest()
    again = wire.body("POST", "/v2/nodes", type=144, parent_id=folder, name="other.bin", upload_key=key)
    assert "UploadKey is invalid" in refused(again)[1]


def test_sessions_end(wire: Wire) -> None:
    assert refused(start(wire, 2499)) == (500, "Invalid block size: File size must be between 2500 and 100000 bytes.")
    key = start(wire, 3000).json()["upload_key"]
    with other(wire) as stranger:
        assert "you do not have permission" in refused(part(stranger, key, 1, b"x" * PART))[1]
    assert wire.http.delete(f"/v2/multipart/{key}").json()
    assert "UploadKey is invalid" in refused(part(wire, key, 1, b"x" * PART))[1]
    key = start(wire, 3000).json()["upload_key"]
    wire.faults(**{"upload-life": 0.000001})
    assert refused(part(wire, key, 1, b"x" * PART)) == (500, "Multipart Upload session expired")


def test_a_large_version(wire: Wire, folder: int) -> None:
    document = wire.document("a.bin", b"1", folder)
    data = os.urandom(3 * PART)
    key = start(wire, len(data)).json()["upload_key"]
    for number in range(3):
        part(wire, key, number + 1, data[number * PART : (number + 1) * PART])
    wire.http.post(f"/v2/multipart/{key}")
    answer = wire.plain("POST", f"/v2/nodes/{document}/versions", upload_key=key, description="large")
    assert answer.json()["results"]["data"]["versions"]["file_size"] == len(data)
    assert wire.http.get(f"/v2/nodes/{document}/content").content == data


# --------------------------------------------------------------------------------------------- every write, both encodings


@pytest.mark.parametrize("encoding", ["body", "plain", "multipart", "multipart body"])
def test_writes_in_every_encoding(wire: Wire, folder: int, encoding: str) -> None:
    def send(method: str, path: str, **values: Any) -> httpx.Response:
        if encoding in ("body", "plain"):
            answer = getattr(wire, encoding)(method, path, **values)
        else:
            given = {"body": json.dumps(values)} if encoding == "multipart body" else values
            parts = [
                (name, (None, str(value)))
                for name, held in given.items()
                for value in (held if isinstance(held, list) else [held])
            ]
            answer = wire.http.request(method, path, files=parts)
        assert answer.status_code == 200, (path, answer.text)
        assert answer.json()  # an empty answer makes OpenText's client repeat the call
        return answer

    wire.body("PUT", f"/v2/nodes/{folder}", versions_control_advanced=True)
    documents = [wire.document(f"{n}.txt", b"1", folder) for n in range(3)]
    node = f"/v2/nodes/{documents[0]}"
    add_version(wire, documents[0], b"2")
    send("PUT", node, reserved_user_id=1000)
    send("PUT", node, name="renamed.txt", description="by test")
    send("POST", f"{node}/versions/2/promote", description="final")
    send("POST", f"{node}/versions/1/lock", anything="")
    send("DELETE", f"{node}/versions", number_to_keep=1)
    send("POST", "/v2/nodes", original_id=documents[1], parent_id=folder, name="copy.txt")
    send("POST", "/v2/nodes/actions", ids=documents, actions=["delete"])
    send("POST", "/v2/nodes/list", ids=documents)
    assert len(send("POST", "/v1/validation/nodes/names", parent_id=folder, names=["COPY.txt", "no"]).json()["results"]) == 1
    for name in ("restore", "purge"):
        for document in documents[1:]:
            assert wire.http.delete(f"/v2/nodes/{document}").json()
        send("POST", f"/v2/volumes/recyclebin/nodes/{name}", ids=documents[1:])
    key = send("POST", "/v2/multipart", file_name="a", file_size=3000, mime_type="a/b").json()["upload_key"]
    assert wire.http.delete(f"/v2/multipart/{key}").json()
    assert names_in(wire, folder) == ["copy.txt", "renamed.txt"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/volumes/recyclebin/nodes/purge", 400),
        ("POST", "/v2/multipart/nokey/1", 500),
        ("GET", "/v2/reservemanagement/nodes/999999", 404),
        ("POST", "/v2/nodes/2000/versions/1/promote", 400),
    ],
)
def test_response_codes_can_be_suppressed_everywhere(wire: Wire, method: str, path: str, status: int) -> None:
    answer = wire.http.request(method, path, params={"suppress_response_codes": ""}, data={"ids": 999_999})
    assert (answer.status_code, answer.json()["statusCode"]) == (200, status)


@pytest.mark.parametrize(
    ("action", "clear", "expected"),
    [
        ("add", False, "own"),
        (None, False, "own"),
        ("replace", False, "folder"),
        ("delete", False, None),
        ("none", False, "own"),
        ("none", True, None),
        ("add", True, "folder"),
    ],
)
def test_categories_are_applied_below(wire: Wire, folder: int, action: str | None, clear: bool, expected: str | None) -> None:
    category = wire.at("Partner Exchange", "Partner Document", volume=133)
    document = wire.document("a.txt", b"x", folder)
    for node, value in ((folder, "folder"), (document, "own")):
        wire.plain("POST", f"/v2/nodes/{node}/categories", category_id=category, **{f"{category}_2": value})
    body = {"categories": [{"id": category, "action": action}], "add_version": False, "clear_existing_categories": clear}
    assert wire.body("POST", f"/v2/nodes/{folder}/categories/apply", **body).status_code == 200
    held = wire.http.get(f"/v2/nodes/{document}/categories").json()["results"]
    assert [entry["data"]["categories"][f"{category}_2"] for entry in held] == ([expected] if expected else [])
    wrong = wire.body("POST", f"/v2/nodes/{folder}/categories/apply", categories=[{"id": category, "action": "nonsense"}])
    assert refused(wrong) == (500, "Invalid specification.")
