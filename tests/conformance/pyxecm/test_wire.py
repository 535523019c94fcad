"""The rules every call obeys, asked with bare HTTP: what a client library hides."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conformance.pyxecm.wire import Wire
from tests.sandbox import sandbox

NUMBERS = count()
UNKNOWN = "The REST API URL could not be found in the mappings registry"


def fresh(what: str) -> str:
    """A name that no other test takes, in any case."""
    return f"{what} of the wire {next(NUMBERS)}"


def error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


# --------------------------------------------------------------------------------------------- sign-in


def test_ping_needs_no_ticket(stranger: Wire) -> None:
    assert stranger.http.get("/v1/ping").json()["rest_api"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(
            {"username": "Admin", "password": "wrong"}, (401, "Invalid username/password specified."), id="wrong password"
        ),
        pytest.param({"username": "nobody", "password": "x"}, (401, "Invalid username/password specified."), id="unknown user"),
        pytest.param({"username": "Admin"}, (500, "Missing required parameter: username or password"), id="field missing"),
    ],
)
def test_sign_in_refused(stranger: Wire, values: dict[str, str], expected: tuple[int, str]) -> None:
    assert error(stranger.plain("POST", "/v1/auth", **values)) == expected


@pytest.mark.parametrize(
    "headers", [{}, {"OTCSTicket": "forged"}, {"Authorization": "Bearer forged"}, {"OTDSTicket": "forged"}]
)
def test_without_a_good_ticket_nothing_is_told(stranger: Wire, headers: dict[str, str]) -> None:
    assert error(stranger.http.get("/v2/nodes/2000", headers=headers)) == (401, "Authentication Required")


@pytest.mark.parametrize(
    "carrier", ["OTCSTicket", "otcsticket", "OTCSTICKET", "LLCookie", "cookie LLCookie", "cookie otcsticket"]
)
def test_ticket_in_every_known_place(stranger: Wire, carrier: str) -> None:
    ticket = stranger.sign_in("Admin", "livelink")
    kind, _, name = carrier.rpartition(" ")
    headers = {"Cookie": f"{name}={ticket}"} if kind else {carrier: ticket}
    assert stranger.http.get("/v2/nodes/2000", headers=headers).status_code == 200


@pytest.mark.parametrize("header", ["OTDSTicket", "Authorization"])
def test_a_token_of_the_directory_service_is_traded_in(stranger: Wire, extended_ecm: dict[str, Any], header: str) -> None:
    root = extended_ecm["url"].removesuffix(extended_ecm["base_path"]) + "/otdsws"
    if header == "OTDSTicket":
        given = {"userName": "Admin", "password": "livelink"}
        token = stranger.http.post(f"{root}/rest/authentication/credentials", json=given).json()["ticket"]
    else:
        form = {"grant_type": "client_credentials", "client_id": "Admin", "client_secret": "livelink"}
        token = "Bearer " + stranger.http.post(f"{root}/oauth2/token", data=form).json()["access_token"]
    answer = stranger.http.get("/v1/auth", headers={header: token})
    assert "ticket" not in answer.json()
    assert stranger.http.get("/v2/nodes/2000", headers={"OTCSTicket": answer.headers["OTCSTicket"]}).status_code == 200


def test_the_newest_ticket_slides_and_an_old_one_does_not(wire: Wire) -> None:
    first = wire.http.headers["OTCSTicket"]
    for quarter_hours in range(4):
        wire.faults(**{"clock-ahead": quarter_hours * 900})
        answer = wire.http.get("/v2/nodes/2000")
        assert answer.status_code == 200
        assert answer.headers["OTCSTicket"] != wire.http.headers["OTCSTicket"]
        wire.http.headers["OTCSTicket"] = answer.headers["OTCSTicket"]
    assert wire.http.get("/v2/nodes/2000", headers={"OTCSTicket": first}).status_code == 401


def test_refusals_echo_a_ticket_too(wire: Wire) -> None:
    assert wire.http.get("/v2/nodes/999999").headers["OTCSTicket"]


def test_signing_out_ends_the_whole_session(wire: Wire) -> None:
    newer = wire.http.get("/v2/nodes/2000").headers["OTCSTicket"]
    assert wire.http.delete("/v1/auth").json()
    for ticket in (newer, wire.http.headers["OTCSTicket"]):
        assert wire.http.get("/v2/nodes/2000", headers={"OTCSTicket": ticket}).status_code == 401


# --------------------------------------------------------------------------------------------- bodies and answers


@pytest.mark.parametrize("encoding", ["body", "plain", "multipart body", "multipart plain"])
def test_a_folder_in_every_encoding(wire: Wire, encoding: str) -> None:
    values = {"type": 0, "parent_id": 2000, "name": fresh("folder")}
    fields = {"body": json.dumps(values)} if encoding.endswith("body") else {key: str(value) for key, value in values.items()}
    parts = {key: (None, value) for key, value in fields.items()}
    answer = (
        wire.http.post("/v2/nodes", files=parts) if encoding.startswith("multi") else wire.http.post("/v2/nodes", data=fields)
    )
    assert answer.json()["results"]["data"]["properties"]["name"] == values["name"]


@pytest.mark.parametrize("encoding", ["body", "plain", "multipart"])
def test_lists_in_every_encoding(wire: Wire, encoding: str) -> None:
    ids = [wire.folder(fresh("listed")), wire.folder(fresh("listed"))]
    body = {"body": json.dumps({"ids": ids})}
    answer = {
        "body": lambda: wire.http.post("/v2/nodes/list", data=body),
        "plain": lambda: wire.http.post("/v2/nodes/list", data={"ids": ids}),
        "multipart": lambda: wire.http.post("/v2/nodes/list", files={"body": (None, body["body"])}),
    }[encoding]()
    assert [item["data"]["properties"]["id"] for item in answer.json()["results"]] == ids


def test_a_form_body_on_delete(wire: Wire) -> None:
    document = wire.document(fresh("purged"))
    for _ in range(2):
        wire.http.post(f"/v2/nodes/{document}/versions", files={"file": ("x", b"y")})
    assert wire.body("DELETE", f"/v2/nodes/{document}/versions", number_to_keep=2).status_code == 200
    assert [
        v["data"]["versions"]["version_number"] for v in wire.http.get(f"/v2/nodes/{document}/versions").json()["results"]
    ] == [2, 3]


@pytest.mark.parametrize(
    ("word", "expected"), [("True", True), ("true", True), ("1", True), ("False", False), ("false", False)]
)
def test_words_of_python_for_flags(wire: Wire, word: str, expected: bool) -> None:
    document = wire.document(fresh("flagged"))
    wire.plain("PUT", f"/v2/nodes/{document}", versions_control_advanced=word)
    assert wire.properties(document)["versions_control_advanced"] is expected


def test_a_json_document_as_body_is_not_understood(wire: Wire) -> None:
    assert wire.http.post("/v2/nodes", json={"type": 0, "parent_id": 2000, "name": "x"}).status_code == 400


@pytest.mark.parametrize("text", ["{broken", "[1]"])
def test_a_bad_body_parameter(wire: Wire, text: str) -> None:
    assert wire.http.post("/v2/nodes", data={"body": text}).status_code == 400


def test_a_torn_multipart_body_leaves_nothing(wire: Wire, extended_ecm: dict[str, Any]) -> None:
    text = '--B\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nhalf'
    answer = wire.http.post("/v2/nodes", content=text, headers={"Content-Type": "multipart/form-data; boundary=B"})
    assert answer.status_code == 400
    assert list((Path(extended_ecm["root"]) / "incoming").iterdir()) == []


def test_the_envelope(wire: Wire) -> None:
    one = wire.http.get("/v2/nodes/2000", params={"fields": "properties{id,name}"}).json()
    assert one["results"] == {"data": {"properties": {"id": 2000, "name": "Enterprise"}}}
    assert one["links"]["data"]["self"]["href"].startswith("/api/v2/nodes/2000?")
    assert one["links"]["data"]["self"]["method"] == "GET"
    many = wire.http.get("/v2/nodes/2000/nodes").json()
    assert isinstance(many["results"], list)
    assert {"limit", "page", "page_total", "range_min", "range_max", "total_count"} <= set(many["collection"]["paging"])


def test_no_success_is_empty(wire: Wire) -> None:
    for answer in (wire.http.delete(f"/v2/nodes/{wire.folder(fresh('gone'))}"), wire.http.get("/v2/nodes/2000/categories")):
        assert answer.status_code == 200
        assert answer.json()


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        pytest.param("GET", "/v2/nonsense", 400, UNKNOWN, id="unknown address"),
        pytest.param("PUT", "/v1/ping", 400, UNKNOWN, id="unknown method"),
        pytest.param("GET", "/v2/nodes/999999", 400, "Could not get a node for 999999", id="missing node read"),
        pytest.param("PUT", "/v2/nodes/999999", 400, "Could not get a node for 999999", id="missing node changed"),
        pytest.param("DELETE", "/v2/nodes/999999", 400, "Could not get a node for 999999", id="missing node deleted"),
        pytest.param(
            "GET", "/v2/nodes/999999/nodes", 500, "Sorry, the item you requested could not be accessed", id="missing container"
        ),
        pytest.param("GET", "/v2/volumes/4711", 500, "Could not get a volume", id="unknown volume"),
        pytest.param("GET", "/v2/nodes/2000/nodes?page=0", 400, "Invalid value", id="no page 0"),
        pytest.param("GET", "/v2/nodes/2000/nodes?limit=many", 400, "Invalid value", id="no number"),
    ],
)
def test_refusals(wire: Wire, method: str, path: str, status: int, text: str) -> None:
    answered, told = error(wire.http.request(method, path))
    assert (answered, text in told) == (status, True)


@pytest.mark.parametrize(("path", "status"), [("/v2/nodes/999999", 400), ("/v2/nodes/2000", 200), ("/v2/nonsense", 400)])
def test_response_codes_can_be_suppressed(wire: Wire, path: str, status: int) -> None:
    answer = wire.http.get(f"{path}?suppress_response_codes")
    assert (answer.status_code, answer.json()["statusCode"]) == (200, status)


@pytest.mark.parametrize(("version", "status"), [("v1", 400), ("v2", 500)])
def test_a_taken_name(wire: Wire, version: str, status: int) -> None:
    name = fresh("Taken")
    wire.folder(name)
    answer = wire.body("POST", f"/{version}/nodes", type=0, parent_id=2000, name=name.lower())
    assert error(answer) == (status, f"An item with the name '{name.lower()}' already exists.")


@pytest.mark.parametrize("name", ["a:b", "x" * 249, "  ", ""])
def test_names_that_cannot_be(wire: Wire, name: str) -> None:
    assert wire.body("POST", "/v2/nodes", type=0, parent_id=2000, name=name).status_code == 400


def test_the_longest_name_and_all_letters(wire: Wire) -> None:
    name = "Größe Ⅷ ★ 'q' \"d\" %2F & + " + "x" * 220
    document = wire.document(name[:248], b"x")
    assert wire.properties(document)["name"] == name[:248]
    disposition = wire.http.get(f"/v1/nodes/{document}/content").headers["Content-Disposition"]
    assert "filename*=UTF-8''Gr%C3%B6%C3%9Fe" in disposition


# --------------------------------------------------------------------------------------------- nodes


def test_dates(wire: Wire) -> None:
    document = wire.document(fresh("dated"), external_modify_date="2020-05-04T03:02:01Z", external_source="ftp")
    properties = wire.properties(document)
    assert datetime.strptime(properties["create_date"], "%Y-%m-%dT%H:%M:%S%z").tzinfo == UTC
    assert (properties["external_modify_date"], properties["external_source"]) == ("2020-05-04T03:02:01", "ftp")
    assert not wire.http.get(f"/v1/nodes/{document}").json()["data"]["create_date"].endswith("Z")


def test_an_identity_is_kept(wire: Wire) -> None:
    identity: dict[str, Any] = {"external_source": "ftp", "external_identity": "J-1", "external_identity_type": "generic"}
    document = wire.document(fresh("known"), **identity)
    held = wire.properties(document)
    assert {name: held[name] for name in identity} == identity
    wire.http.post(f"/v2/nodes/{document}/versions", data={"external_identity": "J-2"}, files={"file": ("x", b"y")})
    versions = wire.http.get(f"/v2/nodes/{document}/versions").json()["results"]
    assert [item["data"]["versions"]["external_identity"] for item in versions] == ["J-1", "J-2"]
    assert wire.properties(document)["external_identity"] == "J-2"


def test_listing(wire: Wire) -> None:
    folder = wire.folder(fresh("listing"))
    for name in ("beta.csv", "Alpha.csv", "gamma.txt"):
        wire.document(name, b"x" * len(name), folder)
    inner = wire.folder("Inner", folder)
    path = f"/v2/nodes/{folder}/nodes"

    def names(**query: Any) -> list[str]:
        return [item["data"]["properties"]["name"] for item in wire.http.get(path, params=query).json()["results"]]

    assert names() == ["Alpha.csv", "beta.csv", "gamma.txt", "Inner"]
    assert names(sort="desc_name") == ["Inner", "gamma.txt", "beta.csv", "Alpha.csv"]
    assert names(where_name="CSV") == ["Alpha.csv", "beta.csv"]
    assert names(where_type=-1) == ["Inner"]
    assert names(where_type=[-3]) == ["Alpha.csv", "beta.csv", "gamma.txt"]
    assert names(where_type=[0, 144]) == names()
    assert names(limit=3, page=2) == ["Inner"]
    assert names(limit=3, page=3) == []
    assert wire.http.get(path, params={"limit": 3}).json()["collection"]["paging"]["page_total"] == 2
    properties = wire.properties(folder)
    assert (properties["size"], properties["container_size"]) == (4, 4)
    wire.http.delete(f"/v2/nodes/{inner}")
    assert wire.properties(folder)["size"] == 3


def test_a_deleted_name_is_free_again(wire: Wire) -> None:
    name = fresh("again")
    assert wire.http.delete(f"/v2/nodes/{wire.document(name)}").json()["results"] == {}
    wire.document(name)


def test_version_numbers_are_never_used_twice(wire: Wire) -> None:
    document = wire.document(fresh("numbered"))
    add = lambda: wire.http.post(f"/v2/nodes/{document}/versions", files={"file": ("x", b"y")})  # noqa: E731
    assert add().json()["results"]["data"]["versions"]["version_number"] == 2
    assert wire.http.delete(f"/v2/nodes/{document}/versions/2").status_code == 200
    assert add().json()["results"]["data"]["versions"]["version_number"] == 3
    assert wire.http.get(f"/v2/nodes/{document}/versions/2").status_code == 500
    assert "Z" not in wire.http.get(f"/v1/nodes/{document}/versions/latest").json()["data"]["create_date"]


@pytest.mark.parametrize("size", [0, 1, 300_000, 3_000_001], ids=["empty", "one byte", "small", "streamed"])
def test_bytes_come_back_as_they_went(wire: Wire, size: int) -> None:
    sent = bytes(index % 251 for index in range(1000)) * (size // 1000 + 1)
    document = wire.document(fresh("bytes"), sent[:size])
    for path in (
        f"/v1/nodes/{document}/content?action=download",
        f"/v2/nodes/{document}/content",
        f"/v1/nodes/{document}/versions/1/content",
        f"/v2/nodes/{document}/versions/1/content",
    ):
        answer = wire.http.get(path)
        assert (answer.headers["Content-Length"], answer.content == sent[:size]) == (str(size), True)
    assert wire.properties(document)["size"] == size


def test_reserving(wire: Wire) -> None:
    document = wire.document(fresh("reserved"))
    wire.body("PUT", f"/v2/nodes/{document}", reserved_user_id=1000)
    assert wire.properties(document)["reserved"] is True
    wire.body("PUT", f"/v2/nodes/{document}", reserved_user_id=None)
    assert wire.properties(document)["reserved"] is False


# --------------------------------------------------------------------------------------------- categories, records, rights


def test_rows_of_a_set_and_stale_tokens(wire: Wire) -> None:
    category = wire.at("Partner Exchange", "Partner Document", volume=133)
    lines = f"{category}_5"
    values = {f"{lines}_1_6": "A", f"{lines}_2_6": "B", f"{category}_4": ["x", "y"]}
    document = wire.document(fresh("lined"), roles={"categories": values})
    path = f"/v2/nodes/{document}/categories/{category}"
    assert wire.http.get(path).json()["results"]["data"]["categories"][f"{lines}_2_6"] == "B"
    form = wire.http.get(f"/v1/forms/nodes/categories/update?id={document}&category_id={category}").json()["forms"][0]["data"]
    token = form[f"{category}_1"]["metadata_token"]
    removed = wire.plain("PUT", path, metadata_token=token, **{f"{lines}_1": ""})
    assert removed.json()["results"]["data"]["categories"][f"{lines}_1_6"] == "B"
    assert f"{lines}_2_6" not in removed.json()["results"]["data"]["categories"]
    stale = wire.plain("PUT", path, metadata_token=token, **{f"{category}_2": "late"})
    assert error(stale) == (409, "Could not update metadata (edit conflict).")
    described = list(wire.http.get(f"{path}?metadata").json()["results"]["metadata"]["categories"])
    assert described[0] == str(category)
    assert described.index(lines) < described.index(f"{lines}_x_6")


def test_a_category_tells_its_definition(wire: Wire) -> None:
    category = wire.at("Partner Exchange", "Partner Document", volume=133)
    schema = wire.http.get(f"/v1/forms/nodes/properties/specific?id={category}").json()["forms"][0]["schema"]["properties"]
    assert schema[f"{category}_2"]["title"] == "Partner ID"
    assert schema[f"{category}_5"]["items"]["properties"][f"{category}_5_x_6"]["title"] == "SKU"
    assert wire.http.get("/v1/forms/nodes/properties/specific?id=2000").status_code == 400


def test_refused_values(wire: Wire) -> None:
    category = wire.at("Partner Exchange", "Partner Document", volume=133)
    document = wire.document(fresh("valued"))
    path = f"/v2/nodes/{document}/categories"
    assert wire.plain("PUT", f"{path}/{category}", **{f"{category}_2": "x"}).status_code == 400  # not applied
    assert wire.plain("POST", path, category_id=category).status_code == 200
    assert "already exists" in error(wire.plain("POST", path, category_id=category))[1]
    assert wire.plain("PUT", f"{path}/{category}", **{f"{category}_3": "no date"}).status_code == 400
    assert wire.plain("PUT", f"{path}/{category}", **{f"{category}_99": "x"}).status_code == 400
    assert wire.plain("PUT", f"{path}/{category}", **{f"{category}_10": "x" * 999}).status_code == 400
    assert wire.http.delete(f"{path}/{category}").json()
    assert wire.http.get(path).json()["results"] == []


def test_a_refused_value_takes_the_upload_back(wire: Wire) -> None:
    folder = wire.folder(fresh("whole"))
    category = wire.at("Partner Exchange", "Partner Document", volume=133)
    assert wire.upload("x.csv", b"x", folder, roles={"categories": {f"{category}_3": "no date"}}).status_code == 400
    assert wire.properties(folder)["size"] == 0


def test_a_record_needs_the_newest_token(wire: Wire) -> None:
    document = wire.document(fresh("record"))
    contracts = wire.at("File Plan", "Contracts", volume=198)
    path = f"/v1/nodes/{document}/rmclassifications"
    assert wire.http.get(path).json()["data"] == []
    first = wire.body("POST", path, class_id=contracts).json()["rm_metadataToken"]
    second = wire.body("PUT", path, rm_metadataToken=first, essential="VR").json()["rm_metadataToken"]
    assert wire.body("PUT", path, rm_metadataToken=first, essential="NR").status_code == 409
    assert wire.http.delete(f"{path}/{contracts}", params={"rm_metadataToken": first}).status_code == 409
    assert wire.http.delete(f"{path}/{contracts}", params={"rm_metadataToken": second}).json()
    assert wire.http.get(path).json()["data"] == []


def test_rights_bite(wire: Wire) -> None:
    reader = fresh("reader").replace(" ", "")
    user = wire.user(reader)
    folder = wire.folder(fresh("closed"))
    document = wire.document("secret.csv", b"secret", folder)
    path = f"/v2/nodes/{document}/permissions"
    with wire.as_user(reader) as theirs:
        assert theirs.properties(document)["name"] == "secret.csv"
        assert theirs.http.delete(f"/v2/nodes/{document}").status_code == 500  # seen, but not theirs to delete
        wire.body("DELETE", f"{path}/group", apply_to=0)
        wire.body("DELETE", f"{path}/public", apply_to=0)
        assert error(theirs.http.get(f"/v2/nodes/{document}")) == (400, f"Could not get a node for {document}")
        assert theirs.http.get(f"/v1/nodes/{document}/content").status_code == 400
        assert theirs.http.get(f"/v2/nodes/{folder}/nodes").json()["results"] == []
        assert theirs.plain("POST", "/v2/search", where='OTName: "secret"').json()["results"] == []
        taken = theirs.upload("SECRET.csv", b"mine", folder)  # absent to them, and yet taken
        assert (taken.status_code, "already exists" in taken.text) == (500, True)
        wire.body("POST", f"{path}/custom", right_id=user, permissions=["see"])
        assert theirs.properties(document)
        assert theirs.http.get(f"/v1/nodes/{document}/content").status_code == 500
        wire.body("PUT", f"{path}/custom/{user}", permissions=["see", "see_contents"])
        assert theirs.http.get(f"/v1/nodes/{document}/content").content == b"secret"
        assert theirs.body("PUT", f"{path}/public", permissions=["see"]).status_code == 500  # may not change rights
    assert wire.body("POST", f"{path}/custom", right_id=user, permissions=["fly"]).status_code == 400
    assert wire.body("POST", f"{path}/custom", right_id=user, permissions=["see"], apply_to=2).status_code == 400


def test_rights_below_a_folder(wire: Wire) -> None:
    user = wire.user(fresh("member").replace(" ", ""))
    folder = wire.folder(fresh("tree"))
    document = wire.document("deep.csv", b"x", wire.folder("inner", folder))
    wire.body("POST", f"/v2/nodes/{folder}/permissions/custom", right_id=user, permissions=["see", "delete"], apply_to=2)
    held = wire.http.get(f"/v2/nodes/{document}/permissions/effective/{user}").json()["results"]["data"]["permissions"]
    assert "delete" in held["permissions"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('OTName: "Quince 1" and OTSubType: 144', {"Quince 1.csv"}),
        ('[QLREGION "OTName"] *uinc*', {"Quince 1.csv", "Quince 2.csv", "Quince folder"}),
        ('[QLREGION "OTName"] *uinc* and [QLREGION "OTSubType"] IN (0,848)', {"Quince folder"}),
        ("Quince and not 1", {"Quince 2.csv", "Quince folder"}),
        (
            '(OTName: "Quince 1" or OTName: "Quince 2") and [QLREGION "OTObjectDate"] >= 20200101',
            {"Quince 1.csv", "Quince 2.csv"},
        ),
        ('quince [QLREGION "OTObjectSize"] > 1', {"Quince 2.csv"}),
        ('OTName: "Quin"', set()),
    ],
)
def test_search_language(wire: Wire, query: str, expected: set[str]) -> None:
    if not wire.plain("POST", "/v2/search", where='OTName: "Quince folder"').json()["results"]:
        folder = wire.folder("Quince folder")
        wire.document("Quince 1.csv", b"1", folder)
        wire.document("Quince 2.csv", b"22", folder)
    answer = wire.plain("POST", "/v2/search", where=query, sort="desc_OTObjectDate").json()
    assert {item["data"]["properties"]["name"] for item in answer["results"]} == expected
    assert wire.body("POST", "/v2/search", where=query, page=9).json()["results"] == []


@pytest.mark.parametrize("query", ['OTNonsense: "x"', "(OTName: x", "and", 'OTName: "x" or', "OTSubType > many"])
def test_a_bad_search_is_refused(wire: Wire, query: str) -> None:
    assert wire.plain("POST", "/v2/search", where=query).status_code == 400


# --------------------------------------------------------------------------------------------- faults


def test_server_errors_come_as_pages(wire: Wire) -> None:
    wire.faults(html500=2, burst503=1)
    answers = [wire.http.get("/v2/nodes/2000") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [500, 500, 503, 200]
    assert all("Please try again" in answer.text and "html" in answer.headers["Content-Type"] for answer in answers[:3])


def test_a_lost_answer_was_committed(wire: Wire) -> None:
    folder = wire.folder(fresh("lost"))
    wire.faults(**{"lost-answer": 1})
    assert wire.http.get(f"/v2/nodes/{folder}").status_code == 200  # reads are not touched
    with pytest.raises(httpx.RemoteProtocolError):
        wire.upload("lost.csv", b"x", folder)
    assert wire.properties(folder)["size"] == 1
    assert wire.faults()["lost-answer"] == 0
    wire.document("answered.csv", b"x", folder)


def test_the_search_index_lags(wire: Wire) -> None:
    name = fresh("Laggard").replace(" ", "")
    wire.faults(**{"search-lag": 3600})
    document = wire.document(f"{name}.csv")
    found = lambda: wire.plain("POST", "/v2/search", where=f'OTName: "{name}"').json()["results"]  # noqa: E731
    assert wire.properties(document)
    assert found() == []
    wire.faults(**{"search-lag": 0})
    assert len(found()) == 1


def test_a_slow_server_is_slow_for_everybody_at_once(wire: Wire) -> None:
    wire.faults(slow=2)
    start = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        assert {answer.status_code for answer in pool.map(lambda _: wire.http.get("/v2/nodes/2000"), range(20))} == {200}
    assert 2 <= time.monotonic() - start < 35, "one after the other they take 40 seconds"


def test_a_body_too_large_is_refused_with_an_answer(wire: Wire) -> None:
    folder = wire.folder(fresh("bounded"))
    wire.faults(**{"max-body": 100_000})
    assert wire.upload("large.csv", b"x" * 5_000_000, folder).status_code == 413
    wire.document("small.csv", b"x" * 50_000, folder)
    assert wire.properties(folder)["size"] == 1


@pytest.mark.parametrize("wanted", [{"nonsense": 1}, {"slow": "much"}, {"slow": -1}, [1]])
def test_a_mistyped_fault_is_refused(wire: Wire, wanted: Any) -> None:
    assert wire.http.post(wire.service["faults"], json=wanted).status_code == 400


# --------------------------------------------------------------------------------------------- the command


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    with sandbox("extended-ecm", data=tmp_path, options=("--base-path", "/otcs/llisapi.dll")) as services:
        assert services["extended-ecm"]["url"].endswith("/otcs/llisapi.dll")
        with Wire(services["extended-ecm"]) as wire:
            category = wire.at("Partner Exchange", "Partner Document", volume=133)
            document = wire.document("kept.csv", b"kept", roles={"categories": {f"{category}_2": "ACME"}})
            wire.http.post(f"/v2/nodes/{document}/versions", files={"file": ("x", b"newer")})
            ticket = wire.http.headers["OTCSTicket"]
            before = wire.http.get(f"/v2/nodes/{document}?fields=properties&fields=versions&fields=categories").json()
    with sandbox("extended-ecm", data=tmp_path) as services, Wire(services["extended-ecm"], None) as wire:
        wire.http.headers["OTCSTicket"] = ticket
        assert wire.http.get(f"/v2/nodes/{document}?fields=properties&fields=versions&fields=categories").json() == before
        assert wire.http.get(f"/v1/nodes/{document}/content").content == b"newer"
        assert wire.document("new.csv") > document


def test_seed_and_faults_from_the_command(tmp_path: Path) -> None:
    config = tmp_path / "seed.json"
    config.write_text(json.dumps({"users": [{"name": "Admin", "password": "other"}], "record_classes": ["Plan/Tenders"]}))
    options = ("--config", str(config))
    with (
        sandbox("extended-ecm", data=tmp_path / "data", options=options, faults={"html500": 1}) as services,
        Wire(services["extended-ecm"], None) as wire,
    ):
        assert wire.http.get("/v1/ping").status_code == 500
        wire.http.headers["OTCSTicket"] = wire.sign_in("Admin", "other")
        assert wire.at("Plan", "Tenders", volume=198)


def test_many_uploads_at_once_make_one_of_each_name(wire: Wire) -> None:
    folder = wire.folder(fresh("race"))
    barrier = threading.Barrier(4)

    def upload(_: int) -> list[int]:
        barrier.wait()
        return [wire.upload(f"{number}.csv", b"x", folder).status_code for number in range(10)]

    with ThreadPoolExecutor(4) as pool:
        statuses = [status for done in pool.map(upload, range(4)) for status in done]
    assert sorted(statuses) == [200] * 10 + [500] * 30
    assert wire.properties(folder)["size"] == 10
