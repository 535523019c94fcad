"""Every call of OpenText's own Core Share client, at the stand-in for File 360."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conformance.coverage.file360 import ROWS
from tests.conformance.pyxecm.environment import Pyxecm
from tests.sandbox.file360 import File360Sandbox

ADMIN, PASSWORD = "admin@example.com", "admin"
NOTHING_SENT = {
    "config",
    "credentials",
    "set_credentials",
    "request_header_admin",
    "request_header_user",
    "do_request",
    "parse_request_response",
    "lookup_result_value",
    "exist_result_item",
    "get_result_value",
    "logger",
}
"""Names of the client that are no call of their own."""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[File360Sandbox]:
    sandbox = File360Sandbox(tmp_path_factory.mktemp("file360")).start()
    yield sandbox
    sandbox.stop()


@pytest.fixture(scope="module")
def core(sandbox: File360Sandbox) -> Iterator[Pyxecm]:
    with Pyxecm(sandbox.url, ADMIN, PASSWORD, "pyxecm", "pyxecm-secret") as client:
        yield client


class Bare:
    """Bare HTTP as the administrator, for what OpenText's client cannot do: make folders and documents, accept an invitation."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        form = {"grant_type": "password", "client_id": "pyxecm", "client_secret": "pyxecm-secret"}
        answer = http.post("/otdsws/oauth2/token", data={**form, "username": ADMIN, "password": PASSWORD})
        http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def tell(self, path: str, **values: Any) -> Any:
        answer = self.http.post(f"/api/v1/{path}", json=values)
        assert answer.is_success, answer.text
        return answer.json()

    def root(self) -> str:
        return str(self.http.get("/api/v1/users/me").json()["rootId"])

    def folder(self, name: str) -> str:
        return str(self.tell("folders", name=name, parentId=self.root())["id"])

    def document(self, name: str, parent: str) -> str:
        sent: dict[str, Any] = {"data": {"parentId": parent}, "files": {"file": (name, b"x", "text/plain")}}
        return str(self.http.post("/api/v3/documents?collisionStrategy=fail", **sent).json()["id"])


@pytest.fixture
def bare(sandbox: File360Sandbox) -> Iterator[Bare]:
    with httpx.Client(base_url=sandbox.url, timeout=60, trust_env=False) as http:
        yield Bare(http)


def added(core: Pyxecm, name: str) -> dict[str, Any]:
    """A user who was invited and has not come yet."""
    made = core.add_user(first_name=name, last_name="Guest", email=f"{name}@example.com", password="secret", company="Acme")
    assert made["state"] == "pending" and made["isConfirmed"] is False
    return dict(made)


def test_signs_in_both_ways(core: Pyxecm) -> None:
    assert core.authenticate_admin(revalidate=True)
    assert core.authenticate_user(revalidate=True, grant_type="client_credentials")
    assert core.authenticate_user(revalidate=True)
    core.set_credentials(username=ADMIN, password="wrong")
    try:
        assert core.authenticate_admin(revalidate=True) is None
        assert any("Failed to request" in line for line in core.log)
        assert core.authenticate_user(revalidate=True) is None
    finally:
        core.set_credentials(username=ADMIN, password=PASSWORD)


def test_a_token_that_ran_out_is_renewed(core: Pyxecm, sandbox: File360Sandbox) -> None:
    assert core.authenticate_admin() and core.authenticate_user()
    sandbox.faults.set({"clock-ahead": 3600})
    try:
        assert core.get_users()
        assert core.get_groups()
    finally:
        sandbox.faults.set({"clock-ahead": 0})


def test_users_are_invited_found_and_changed(core: Pyxecm, tmp_path: Path) -> None:
    kim = added(core, "kim")["id"]
    assert kim in [user["id"] for user in core.get_users()]
    assert core.get_user_by_id(user_id=kim)["email"] == "kim@example.com"
    assert [user["id"] for user in core.get_user_by_name(first_name="kim", last_name="Guest")["results"]] == [kim]
    assert [user["id"] for user in core.get_user_by_email(email="kim@example.com")["results"]] == [kim]
    assert [user["id"] for user in core.search_users(query_string="kim", page_size=1)["results"]] == [kim]
    assert core.resend_user_invite(user_id=kim)
    assert core.update_user(user_id=kim, update_data={"title": "Buyer"})["title"] == "Buyer"
    assert core.add_user_access_role(user_id=kim, role_id=5)["accessRoles"] == [5]
    assert core.remove_user_access_role(user_id=kim, role_id=5)["accessRoles"] == []
    told = core.update_user_access_roles(user_id=kim, is_admin=True, is_content_manager=True, is_group_admin=True)
    assert (told["isAdmin"], told["accessRoles"]) == (True, [3, 5])
    assert core.update_user_password(user_id=kim, password="secret", new_password="better")
    assert core.update_user_password(user_id=kim, password="secret", new_password="worse") is None, "the old one is another"
    (tmp_path / "kim.jpg").write_bytes(b"\xff\xd8\xff")
    assert core.update_user_photo(user_id=kim, photo_path=str(tmp_path / "kim.jpg"))
    assert core.add_user(first_name="kim", last_name="Again", email="kim@example.com") is None, "an address is taken once"


def test_groups_have_members(core: Pyxecm) -> None:
    lee = added(core, "lee")["id"]
    group = core.add_group(group_name="Buyers", description="All who buy")["id"]
    assert core.get_group_by_id(group_id=group)["name"] == "Buyers"
    assert [one["id"] for one in core.get_group_by_name(name="Buyers")["results"]] == [group]
    assert [one["id"] for one in core.search_groups(query_string="buy")["results"]] == [group]
    assert core.get_groups(offset=0, count=1)["_links"]["next"]
    assert group in [one["id"] for one in core.get_groups_iterator(count=1)]
    [joined] = core.add_group_member(group_id=group, user_id=lee, is_group_admin=True)
    assert joined["success"] and joined["user"]["id"] == lee
    [again] = core.add_group_member(group_id=group, user_id=lee)
    assert again["errors"][0]["code"] == "groupInvitationExists"
    assert [one["id"] for one in core.get_group_members(group_id=group)["pending"]] == [lee]
    [gone] = core.remove_group_member(group_id=group, user_id=lee)
    assert gone["success"] and core.get_group_members(group_id=group)["count"] == 0


def test_folders_are_listed_shared_and_deleted(core: Pyxecm, bare: Bare) -> None:
    folder, empty = bare.folder("Campaign"), bare.folder("Empty")
    document = bare.document("brief.txt", folder)
    assert {one["id"] for one in core.get_folders(parent_id=bare.root())} == {folder, empty}
    [held] = core.get_folders(parent_id=folder)
    assert (held["id"], held["resourceType"], held["isShared"], held["permission"]) == (document, "document", False, 4)
    group = core.add_group(group_name="Printers")["id"]

    def share() -> None:
        bare.tell(f"folders/{folder}/collaborators", members=[{"groupId": group, "role": 1}])

    share()
    assert [one["id"] for one in core.get_group_shares(group_id=group)["shares"]] == [folder]
    assert core.unshare_folder(resource_id=folder)
    assert core.get_group_shares(group_id=group)["shares"] == []
    share()
    assert core.revoke_group_share(group_id=group, resource_id=folder)
    assert core.get_group_shares(group_id=group)["shares"] == []
    share()
    assert core.cleanup_group_shares(group_id=group) is True
    assert core.get_group_shares(group_id=group)["shares"] == []
    share()
    me = bare.http.get("/api/v1/users/me").json()["id"]
    assert core.stop_share(user_id=me, resource_id=folder)
    assert core.get_group_shares(group_id=group)["shares"] == []
    assert core.delete_document(resource_id=document)["isDeleted"]
    assert core.get_folders(parent_id=folder) == []
    assert core.delete_folder(resource_id=folder)["isDeleted"]
    assert core.delete_folder(resource_id=empty)
    assert core.empty_trash(user_id=me)["count"] == 3
    assert core.get_folders(parent_id=bare.root()) == []


def test_somebody_leaves_a_share_and_is_cleaned_up(core: Pyxecm, bare: Bare) -> None:
    mia, folder = added(core, "mia"), bare.folder("Shown to Mia")
    assert core.cleanup_user_files(user_id=mia["id"], user_login=mia["email"], user_password="none") is True, "never came"
    bare.tell("invites/accept", email=mia["email"], password="hers")
    bare.tell(f"folders/{folder}/collaborators", members=[{"email": mia["email"], "role": 2}])
    core.set_credentials(username=mia["email"], password="hers")
    try:
        assert core.authenticate_user(revalidate=True)
        assert core.get_folders(parent_id=folder) == []
        assert core.leave_share(user_id=mia["id"], resource_id=folder)
        assert core.get_folders(parent_id=folder) is None, "it is not hers to see any more"
    finally:
        core.set_credentials(username=ADMIN, password=PASSWORD)
        assert core.authenticate_user(revalidate=True)
    assert core.cleanup_user_files(user_id=mia["id"], user_login=mia["email"], user_password="hers") is True
    assert core.delete_folder(resource_id=folder)


def test_every_call_of_the_client_stands_in_the_table(core: Pyxecm) -> None:
    public = {name for name in core.__getattr__("__dir__")() if not name.startswith("_")} - NOTHING_SENT
    assert public == {method for row in ROWS for method in row.pyxecm}
