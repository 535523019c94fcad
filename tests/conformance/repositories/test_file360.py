"""What only File 360 does: asking to come back later, tokens, roles, guests, links, comments, changes, retention, trash."""

from __future__ import annotations

import hashlib
import os
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from blocks.errors import (
    ConfigurationError,
    DocumentChanged,
    DocumentMissing,
    OnHold,
    OutcomeUnknown,
    RepositoryUnreachable,
    SignInRefused,
)
from blocks.repositories import file360
from blocks.repositories.file360 import File360, File360Session
from blocks.values import Collision, Filed, FolderTree, Grant, NotFiled, Right
from tests.conformance.repositories.checks import Ground, one
from tests.conformance.repositories.conftest import Repositories
from tests.conformance.repositories.enrolment import file360_block
from tests.sandbox.file360 import File360Sandbox

MANY = 24 * 1024**2


@pytest.fixture
def enrolled() -> str:
    return "file360"


@dataclass(slots=True)
class Server:
    """A stand-in of this module's own, whose faults a test may set."""

    sandbox: File360Sandbox
    repository: File360
    stack: ExitStack

    def bare(self, email: str = "", password: str = "") -> httpx.Client:
        """Bare HTTP as somebody; as the account that files, if nobody is named."""
        http = self.anybody()
        form = {"client_id": "countersign", "client_secret": "countersign-secret", "grant_type": "client_credentials"}
        if email:
            form |= {"grant_type": "password", "username": email, "password": password}
        http.headers["Authorization"] = f"Bearer {http.post('/otdsws/oauth2/token', data=form).json()['access_token']}"
        return http

    def anybody(self) -> httpx.Client:
        """Bare HTTP as nobody."""
        return self.stack.enter_context(httpx.Client(base_url=self.sandbox.url, timeout=60, trust_env=False))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    sandbox = File360Sandbox(tmp_path_factory.mktemp("file360") / "data").start()
    try:
        with ExitStack() as stack:
            yield Server(sandbox, file360_block(sandbox.described()), stack)
    finally:
        sandbox.stop()


@pytest.fixture
def ours(server: Server, ground: Ground) -> Iterator[Ground]:
    """A ground in that stand-in. Faults end with the test."""
    yield replace(ground, repository=server.repository)
    server.sandbox.faults.set(dict.fromkeys(server.sandbox.faults.as_dict(), 0))


@pytest.fixture
def session(server: Server) -> Iterator[File360Session]:
    with server.repository.session() as session:
        yield session


def folder_of(session: File360Session, ground: Ground) -> str:
    found = session.find(ground.folder[:-1], ground.folder[-1])
    assert found is not None and found.container
    return found.id


# --------------------------------------------------------------------------------------------- the wire


def test_it_comes_back_when_it_is_asked_to_and_keeps_nobody_else_waiting(
    server: Server, ours: Ground, session: File360Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call waits as long as the server says; a call of another thread comes through meanwhile."""
    waited: list[float] = []
    asked, others = threading.Event(), threading.Event()

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        asked.set()
        assert others.wait(60), "the other call did not come through"

    first = one(ours.filed(ours.filing("there.csv")))
    monkeypatch.setattr(file360, "time", SimpleNamespace(sleep=sleep))
    server.sandbox.faults.set({"write-429": 1, "retry-after": 7})
    waiting = threading.Thread(target=lambda: ours.filed(ours.filing("late.csv")))
    waiting.start()
    try:
        assert asked.wait(60), "it did not wait"
        assert session.get(first.id).name == "there.csv"
    finally:
        others.set()
        waiting.join(60)
    assert waited == [7.0]
    assert sorted(kept.name for kept in ours.look()) == ["late.csv", "there.csv"]


def test_what_would_have_to_wait_too_long_is_left_for_another_time(
    server: Server, ours: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(file360, "time", SimpleNamespace(sleep=waited.append))
    server.sandbox.faults.set({"write-429": 1, "retry-after": 3600})
    with pytest.raises(RepositoryUnreachable, match="3600 s; nothing was done") as told:
        ours.file(ours.filing("later.csv"))
    assert told.value.worth_retrying
    assert waited == []
    assert server.sandbox.faults["write-429"] == 0, "it was asked once"
    one(ours.filed(ours.filing("later.csv")))


def test_a_sign_on_that_is_too_busy_is_asked_once_and_left_for_another_time(server: Server, ours: Ground) -> None:
    server.sandbox.faults.set({"sign-in-429": 6, "retry-after": 3600})
    with pytest.raises(RepositoryUnreachable, match="3600 s; nothing was done"):
        server.repository.session()
    assert server.sandbox.faults["sign-in-429"] == 5, "it was asked once"


@pytest.mark.parametrize(
    ("where", "address", "told"),
    [
        ("url", "http://files.example.com", "use 'https'"),
        ("sign_on", "http://login.example.com", "use 'https'"),
        ("sign_on", "https://me:pw@login.example.com", "sign_on"),
        ("sign_on", "login.example.com", "sign_on"),
    ],
)
def test_a_secret_goes_to_no_odd_address(where: str, address: str, told: str) -> None:
    agreed: Any = {"url": "https://files.example.com", "client_id": "us", "client_secret": "env:SECRET"}
    assert File360(**agreed, sign_on="https://login.example.com").address == "https://files.example.com"
    with pytest.raises(ValueError, match=told):
        File360(**agreed | {where: address})


def test_a_date_says_when_to_come_back_too() -> None:
    assert file360._retry_after("Fri, 31 Dec 1999 23:59:59 GMT") == 0
    assert file360._retry_after("2.5") == 2.5
    assert file360._retry_after("soon") == 1


def test_a_token_that_ran_out_is_renewed_in_mid_upload(server: Server, ours: Ground) -> None:
    signed_in = server.sandbox.stats["sign-ins"]
    with server.repository.session() as session:
        server.sandbox.faults.set({"clock-ahead": 3600})
        [answer] = session.file([ours.filing("large.bin", os.urandom(3 * 1024**2))])
        assert isinstance(answer, Filed)
        assert session.get(answer.id).version == 1
    assert server.sandbox.stats["sign-ins"] == signed_in + 2


def test_a_wrong_secret_is_refused_and_asked_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRONG_SECRET", "no")
    before = server.sandbox.stats["refused sign-ins"]
    with pytest.raises(SignInRefused, match="check the account") as told:
        server.repository.model_copy(update={"client_secret": "env:WRONG_SECRET"}).session()
    assert server.sandbox.stats["refused sign-ins"] == before + 1
    assert "no" not in str(told.value).replace("nothing", "").replace("not", "").split()
    with pytest.raises(ConfigurationError):
        server.repository.model_copy(update={"client_secret": "env:NOT_SET_ANYWHERE"}).session()


def test_a_person_s_login_files_into_their_own_files(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADA", "admin")
    block = server.repository.model_copy(update={"username": "admin@example.com", "password": "env:ADA"})
    with block.session() as theirs, server.repository.session() as session:
        assert theirs.me()["email"] == "admin@example.com"
        assert session.me()["email"] == "countersign@example.com"


def test_the_bare_interface_is_signed_in(server: Server) -> None:
    wire = server.repository.signed_in()
    assert wire.some("our files", f"api/v1/folders/{wire.ask('us', 'GET', 'api/v1/users/me')['rootId']}/children") is not None
    wire.close()
    wire.close()


def test_the_newest_content_has_an_address_of_its_own(server: Server, ours: Ground) -> None:
    filed = one(ours.filed(ours.filing("a.csv", b"newest")))
    answer = server.bare().get(f"/api/v1/documents/{filed.id}/content")
    assert (answer.content, answer.headers["content-length"]) == (b"newest", "6")


@pytest.mark.parametrize("size", [MANY, pytest.param(1024**3, marks=pytest.mark.soak)])
def test_a_large_file_passes_in_bounded_memory(ours: Ground, session: File360Session, tmp_path: Path, size: int) -> None:
    """Both ways; the server, which is in this process too, streams as well."""
    source, digest, piece = tmp_path / "large.bin", hashlib.sha256(), os.urandom(1024**2)
    with source.open("wb") as file:
        for _ in range(size // len(piece)):
            file.write(piece)
            digest.update(piece)
    filing = replace(ours.filing("large.bin"), path=source, size=size, digest=digest.hexdigest())
    tracemalloc.start()
    try:
        [answer] = session.file([filing])
        assert isinstance(answer, Filed)
        with ours.spool.batch() as batch:
            spooled = session.fetch(answer.id, None, batch)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (spooled.digest, spooled.size) == (filing.digest, size)
    assert peak < 8 * 1024**2, f"{peak / 1024**2:.0f} MiB"


# --------------------------------------------------------------------------------------------- filing


def test_a_filing_below_a_folder_by_its_id(server: Server, ours: Ground, session: File360Session) -> None:
    one(ours.filed(ours.filing("a.csv")))
    id = folder_of(session, ours)
    with server.repository.model_copy(update={"root": id}).session() as below:
        assert below.find((), "a.csv") is not None
    with server.repository.model_copy(update={"root": "/".join(ours.folder)}).session() as below:
        assert below.find((), "a.csv") is not None


def test_other_bytes_than_were_filed_are_told(server: Server, ours: Ground) -> None:
    filed = one(ours.filed(ours.filing("a.csv", b"as filed")))
    version = server.bare().get(f"/api/v1/documents/{filed.id}").json()["currentVersionId"]
    (server.sandbox.data / "content" / version).write_bytes(b"as tamp.")
    with pytest.raises(DocumentChanged, match="a person looks"):
        ours.bytes(filed.id)


def test_a_version_of_somebody_else_leaves_our_values(server: Server, ours: Ground, session: File360Session) -> None:
    filed = one(ours.filed(ours.filing("a.csv", b"1", categories={"Partner Document": {"Partner ID": "4711"}})))
    theirs = server.bare().post(
        "/api/v3/documents?collisionStrategy=overwrite",
        data={"parentId": folder_of(session, ours)},
        files={"file": ("a.csv", b"22", "text/csv")},
    )
    assert theirs.is_success
    kept = session.get(filed.id)
    assert (kept.version, kept.identity, kept.categories) == (2, None, {"Partner Document": {"Partner ID": "4711"}})
    assert session.filed_by(filed.id)[1] is None
    again = one(
        ours.filed(
            ours.filing("a.csv", b"333", collision=Collision.NEW_VERSION, categories={"Partner Document": {"Reference": "7"}})
        )
    )
    assert again.id == filed.id
    assert session.get(filed.id).categories == {"Partner Document": {"Partner ID": "4711", "Reference": "7"}}, "each attribute"


def test_what_carries_our_journey_and_has_another_size_is_left_to_a_person(
    server: Server, ours: Ground, session: File360Session
) -> None:
    one(ours.filed(ours.filing("first.csv")))
    filing = ours.filing("a.csv", b"four")
    theirs = server.bare().post(
        "/api/v3/documents?collisionStrategy=fail",
        data={"parentId": folder_of(session, ours), "externalData": file360._about(filing)},
        files={"file": ("a.csv", b"other", "text/csv")},
    )
    assert theirs.is_success
    with pytest.raises(OutcomeUnknown, match="a person decides"):
        ours.file(filing)


def test_a_folder_removed_meanwhile_is_made_again(server: Server, ours: Ground, session: File360Session) -> None:
    [first] = session.file([ours.filing("a.csv")])
    assert isinstance(first, Filed)
    server.bare().put(f"/api/v1/folders/{folder_of(session, ours)}", json={"state": "deleted"})
    [second] = session.file([ours.filing("b.csv")])
    assert isinstance(second, Filed)
    assert [kept.name for kept in ours.look()] == ["b.csv"]


def test_an_old_name_that_others_took_is_no_version_of_theirs(ours: Ground) -> None:
    first = one(ours.filed(ours.filing("Report.csv", b"1")))
    refused = ours.file(ours.filing("Report.csv", b"2", collision=Collision.REFUSE))[0]
    assert isinstance(refused, NotFiled) and first.id in refused.reason


# --------------------------------------------------------------------------------------------- people and guests


def test_roles_say_who_may_do_what(server: Server, ours: Ground, session: File360Session) -> None:
    filed = one(ours.filed(ours.filing("a.csv")))
    folder, files = folder_of(session, ours), server.bare()
    admin = server.bare("admin@example.com", "admin")
    at = f"/api/v1/documents/{filed.id}"
    sent: dict[str, Any] = {"data": {"parentId": folder}, "files": {"file": ("new.csv", b"x", "text/csv")}}

    def may(role: int) -> list[bool]:
        if role:
            members = {"members": [{"email": "admin@example.com", "role": role}]}
            assert files.post(f"/api/v1/folders/{folder}/collaborators", json=members).is_success
        return [
            admin.get(at).is_success,
            admin.post("/api/v3/documents?collisionStrategy=overwrite", **sent).is_success,
            admin.put(at, json={"name": f"renamed {role}.csv"}).is_success,
            admin.post(f"{at}/holds", json={"name": "Case"}).is_success,
        ]

    assert may(0) == [False, False, False, False], "an administrator sees nobody's files"
    assert may(1) == [True, False, False, False]
    assert may(2) == [True, True, False, False]
    assert may(3) == [True, True, True, False]
    assert files.delete(f"/api/v1/folders/{folder}/collaborators").is_success
    assert may(0) == [False, False, False, False]


def test_the_account_that_files_shows_nothing_to_anybody_outside(server: Server, ours: Ground, session: File360Session) -> None:
    """No verb of ours does; and bare HTTP with the workers' account is refused, whatever way it takes."""
    filed = one(ours.filed(ours.filing("a.csv")))
    folder, files = folder_of(session, ours), server.bare()
    admin = server.bare("admin@example.com", "admin")
    group = admin.post("/api/v1/groups", json={"name": f"Agency {ours.folder[-1]}"}).json()["id"]
    guest = f"guest-{folder}@agency.example.org"
    admin.post("/api/v1/invites", json={"email": guest, "firstName": "Gus", "lastName": "Guest"})
    assert admin.post(f"/api/v1/groups/{group}/members", json={"members": [guest]}).json()[0]["success"]
    for method, path, body in (
        ("POST", f"folders/{folder}/collaborators", {"members": [{"email": "new@agency.example.org", "role": 1}]}),
        ("POST", f"folders/{folder}/collaborators", {"members": [{"email": guest, "role": 1}]}),
        ("POST", f"folders/{folder}/collaborators", {"members": [{"groupId": group, "role": 1}]}),
        ("POST", f"folders/{folder}/shares", {"days_to_expire": 1}),
        ("POST", f"documents/{filed.id}/shares", {"days_to_expire": 1}),
    ):
        answer = files.request(method, f"/api/v1/{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "external"), path
    assert files.get(f"/api/v1/folders/{folder}").json()["isSharedExternally"] is False
    assert files.get(f"/api/v1/folders/{folder}/collaborators").json() == []
    assert files.get(f"/api/v1/documents/{filed.id}/shares").json() == []


def test_nothing_is_filed_where_guests_see_it(server: Server, ours: Ground, session: File360Session) -> None:
    """Somebody else, who may, has shown the folder to a guest: what is filed there would be shown without a sign-off."""
    filed = one(ours.filed(ours.filing("before.csv")))
    folder, files = folder_of(session, ours), server.bare()
    sender = server.bare("sender@example.com", "sender")
    members = [{"email": "sender@example.com", "role": 3}]
    assert files.post(f"/api/v1/folders/{folder}/collaborators", json={"members": members}).is_success
    guests = {"members": [{"email": "guest@agency.example.org", "role": 1}]}
    assert sender.post(f"/api/v1/folders/{folder}/collaborators", json=guests).is_success
    answers = [
        *ours.file(ours.filing("after.csv")),
        *ours.file(ours.filing("before.csv", b"2")),
        *ours.file(ours.filing("other.csv", b"2", document=filed.id)),
        *ours.file(ours.filing("below.csv", folder=(*ours.folder, "below"))),
    ]
    assert [getattr(answer, "code", "filed") for answer in answers] == ["shown-outside"] * 4
    into = {"parentId": folder}
    bare = files.post("/api/v3/documents?collisionStrategy=fail", data=into, files={"file": ("x.csv", b"x", "text/csv")})
    assert (bare.status_code, bare.json()["code"]) == (403, "external"), "and bare HTTP is refused too"
    assert [(kept.name, kept.version) for kept in ours.look()] == [("before.csv", 1)]


def test_what_a_link_shows_gets_no_new_version(server: Server, ours: Ground, session: File360Session) -> None:
    """A link shows the newest version, whichever that is."""
    filed = one(ours.filed(ours.filing("a.csv", b"signed off")))
    folder, files = folder_of(session, ours), server.bare()
    files.post(f"/api/v1/folders/{folder}/collaborators", json={"members": [{"email": "sender@example.com", "role": 3}]})
    sender = server.bare("sender@example.com", "sender")
    link = sender.post(f"/api/v1/documents/{filed.id}/shares", json={"days_to_expire": 1}).json()
    answers = [*ours.file(ours.filing("a.csv", b"2")), *ours.file(ours.filing("b.csv", b"2", document=filed.id))]
    assert [getattr(answer, "code", "filed") for answer in answers] == ["shown-outside"] * 2
    sent: dict[str, Any] = {"data": {"parentId": folder}, "files": {"file": ("a.csv", b"3", "text/csv")}}
    bare = files.post("/api/v3/documents?collisionStrategy=overwrite", **sent)
    assert (bare.status_code, bare.json()["code"]) == (403, "external"), "and bare HTTP is refused too"
    assert server.anybody().get(link["permalinks"][0]["href"]).content == b"signed off"
    assert sender.delete(f"/api/v1/shares/{link['id']}").is_success
    assert one(ours.filed(ours.filing("a.csv", b"2"))).version == 2


def test_a_folder_that_is_shown_while_we_file_gets_nothing_more(server: Server, ours: Ground, session: File360Session) -> None:
    """What was filed there before is still told to be."""
    before = ours.filing("before.csv")
    [first] = session.file([before])
    folder = folder_of(session, ours)
    server.bare().post(
        f"/api/v1/folders/{folder}/collaborators", json={"members": [{"email": "sender@example.com", "role": 3}]}
    )
    guests = {"members": [{"email": "guest@agency.example.org", "role": 1}]}
    assert server.bare("sender@example.com", "sender").post(f"/api/v1/folders/{folder}/collaborators", json=guests).is_success
    again, after = session.file([before, ours.filing("after.csv")])
    assert isinstance(first, Filed) and again == first
    assert isinstance(after, NotFiled) and after.code == "shown-outside"


# --------------------------------------------------------------------------------------------- folders that some people get at

TEAM = (Grant(who="Marketing", right=Right.READ), Grant(who="ADMIN@example.com", right=Right.EDIT))


def who_gets_at(server: Server, folder: str) -> dict[str, int]:
    told = server.bare().get(f"/api/v1/folders/{folder}/collaborators").json()
    return {one.get("email") or one["name"]: one["role"] for one in told}


def give(server: Server, folder: str, who: str, role: int = 1) -> None:
    members = {"members": [{"email": who, "role": role}]}
    assert server.bare().post(f"/api/v1/folders/{folder}/collaborators", json=members).is_success


def test_a_folder_is_given_to_exactly_those_who_were_agreed_before_anything_is_in_it(
    server: Server, ours: Ground, session: File360Session
) -> None:
    filings = [ours.filing(f"{number}.csv", access=TEAM) for number in range(6)]
    answers = [*session.file(filings)]
    assert all(isinstance(answer, Filed) for answer in answers) and [*session.file(filings)] == answers
    folder = folder_of(session, ours)
    assert who_gets_at(server, folder) == {"Marketing": 1, "admin@example.com": 2}
    happened = [change.event for change in session.changes(ours.folder)]
    assert happened[:3] == ["Create", "Share", "Share"] and happened.count("Create") == 7, happened
    admin = server.bare("admin@example.com", "admin")
    assert admin.get(f"/api/v1/folders/{folder}").json()["permission"] == 2
    assert server.bare("sender@example.com", "sender").get(f"/api/v1/folders/{folder}").status_code == 404


@pytest.mark.parametrize("how", ["this folder", "the folder around it", "another's files", "a stronger role", "a link"])
def test_nothing_is_filed_where_somebody_else_gets_at_it(
    how: str, server: Server, ours: Ground, session: File360Session
) -> None:
    before = ours.filing("before.csv", folder=(*ours.folder, "below"), access=TEAM)
    [filed] = session.file([before])
    around, inside = folder_of(session, ours), str(session.find(ours.folder, "below").id)  # type: ignore[union-attr]
    if how == "another's files":
        admin = server.bare("admin@example.com", "admin")
        root = admin.get("/api/v1/users/me").json()["rootId"]
        theirs = admin.post("/api/v1/folders", json={"parentId": root, "name": ours.folder[-1]}).json()["id"]
        give_us = {"members": [{"email": "countersign@example.com", "role": 3}]}
        assert admin.post(f"/api/v1/folders/{theirs}/collaborators", json=give_us).is_success
        with server.repository.model_copy(update={"root": theirs}).session() as there:
            [answer] = there.file([ours.filing("after.csv", folder=("below",), access=TEAM)])
        assert isinstance(answer, NotFiled) and answer.code == "access-unknown"
        return
    if how == "a stronger role":
        give(server, inside, "admin@example.com", 3)
    elif how == "a link":
        give(server, around, "sender@example.com", 3)
        sender = server.bare("sender@example.com", "sender")
        assert sender.post(f"/api/v1/folders/{inside}/shares", json={"days_to_expire": 1}).is_success
        assert server.bare().delete(f"/api/v1/folders/{around}/collaborators").is_success
    else:
        give(server, inside if how == "this folder" else around, "sender@example.com")
    again, after = session.file([before, ours.filing("after.csv", folder=(*ours.folder, "below"), access=TEAM)])
    assert again == filed, "what was filed while it was right is still told to be"
    assert isinstance(after, NotFiled) and after.code == ("shown-outside" if how == "a link" else "shown-to-others")
    version = ours.filing("x.csv", b"2", document=filed.id, access=TEAM)  # type: ignore[union-attr]
    [proposed] = session.file([version])
    assert isinstance(proposed, NotFiled) and proposed.code == after.code
    assert [kept.name for kept in session.look((*ours.folder, "below"))] == ["before.csv"]


def test_what_stands_in_a_folder_is_shown_to_nobody_by_a_filing(server: Server, ours: Ground, session: File360Session) -> None:
    one(ours.filed(ours.filing("private.csv")))
    [answer] = session.file([ours.filing("a.csv", access=TEAM)])
    assert (
        isinstance(answer, NotFiled)
        and answer.code == "access-missing"
        and "Marketing, admin@example.com should" in answer.reason
    )
    folder = folder_of(session, ours)
    assert who_gets_at(server, folder) == {}
    give(server, folder, "admin@example.com", 2)
    assert [answer.code for answer in session.file([ours.filing("a.csv", access=TEAM)])] == ["access-missing"]  # type: ignore[union-attr]
    assert [answer.code for answer in session.file([ours.filing("a.csv", access=TEAM[:1])])] == ["shown-to-others"]  # type: ignore[union-attr]
    one(ours.filed(ours.filing("a.csv", access=TEAM[1:])))


@pytest.mark.parametrize(
    ("who", "right", "code"),
    [
        pytest.param("typo@example.com", "read", "no-such-member", id="nobody's address, who would be invited"),
        pytest.param("Market", "read", "no-such-member", id="half a group's name"),
        pytest.param("Marketing", "see", "no-such-role", id="to see and not to read"),
        pytest.param("Marketing", "delete", "no-such-role", id="to delete and not to share"),
        pytest.param("guest@agency.example.org", "read", "shown-outside", id="a guest"),
    ],
)
def test_who_cannot_be_given_a_folder(who: str, right: str, code: str, server: Server, ours: Ground) -> None:
    admin = server.bare("admin@example.com", "admin")
    admin.post("/api/v1/invites", json={"email": "guest@agency.example.org", "firstName": "Gus", "lastName": "Guest"})
    people = len(admin.get("/api/v1/users").json())
    [answer] = ours.file(ours.filing("a.csv", access=(Grant(who=who, right=Right(right)),)))
    assert isinstance(answer, NotFiled) and answer.code == code
    assert list(ours.look()) == [] and len(admin.get("/api/v1/users").json()) == people


def tree(ours: Ground, **changes: Any) -> FolderTree:
    """A workspace of five folders, one of them in another."""
    access = {(): TEAM, ("Contracts",): (), ("Contracts", "Signed"): (Grant(who="sender@example.com"),)}
    access |= {(name,): () for name in ("Letters", "Minutes", "Money")}
    return FolderTree(
        **{"journey": f"j-{ours.folder[-1]}", "folder": ours.folder, "name": "case 88", "access": access, **changes}
    )


def laid_out(session: File360Session, wanted: FolderTree, *, resumed: bool = True) -> dict[tuple[str, ...], str]:
    made = session.lay_out(wanted, resumed=resumed)
    assert not isinstance(made, NotFiled), made
    return dict(made)


def test_a_workspace_is_seen_by_nobody_before_it_stands_and_then_by_those_who_are_to(
    server: Server, ours: Ground, session: File360Session
) -> None:
    wanted = tree(ours)
    made = laid_out(session, wanted, resumed=False)
    assert laid_out(session, wanted) == laid_out(session, wanted, resumed=False) == made
    assert [who_gets_at(server, id) for id in made.values()] == [{}] * 6
    assert session.admit(wanted, made) is None and session.admit(wanted, made) is None
    assert who_gets_at(server, made[()]) == {"Marketing": 1, "admin@example.com": 2}
    assert who_gets_at(server, made["Contracts", "Signed"]) == {"sender@example.com": 1}
    assert [who_gets_at(server, made[name,]) for name in ("Contracts", "Letters")] == [{}, {}]
    assert sorted(kept.name for kept in session.look((*ours.folder, "case 88"))) == ["Contracts", "Letters", "Minutes", "Money"]
    kept = session.workspace(made[()])
    assert (kept.name, kept.identity) == ("case 88", wanted.journey)


def test_a_workspace_that_was_renamed_before_it_was_finished_is_the_same_one(
    server: Server, ours: Ground, session: File360Session
) -> None:
    wanted = tree(ours)
    made = laid_out(session, wanted)
    for path in ((), ("Letters",)):
        assert server.bare().put(f"/api/v1/folders/{made[path]}", json={"name": "renamed"}).is_success
    assert laid_out(session, wanted) == made
    assert [kept.name for kept in ours.look()] == ["renamed"]
    assert session.named_by(made[()]) == "countersign@example.com"


def test_a_folder_that_somebody_else_made_is_not_taken_over(server: Server, ours: Ground, session: File360Session) -> None:
    laid_out(session, tree(ours, journey="another"))
    answer = session.lay_out(tree(ours, name="CASE 88"), resumed=True)
    assert isinstance(answer, NotFiled) and answer.code == "name-taken"
    assert [kept.name for kept in ours.look()] == ["case 88"]


def test_no_workspace_is_begun_where_others_look_in_nor_opened_to_them(
    server: Server, ours: Ground, session: File360Session
) -> None:
    wanted = tree(ours)
    made = laid_out(session, wanted)
    give(server, folder_of(session, ours), "sender@example.com")
    refused = [session.lay_out(replace(wanted, journey="another", name="case 89"), resumed=False), session.admit(wanted, made)]
    assert [answer.code for answer in refused] == ["shown-to-others"] * 2  # type: ignore[union-attr]
    assert [kept.name for kept in ours.look()] == ["case 88"] and who_gets_at(server, made[()]) == {}
    assert server.bare().delete(f"/api/v1/folders/{folder_of(session, ours)}/collaborators").is_success
    assert server.bare().put(f"/api/v1/folders/{made['Letters',]}", json={"state": "deleted"}).is_success
    gone = session.admit(wanted, made)
    assert gone is not None and gone.code == "folder-removed" and who_gets_at(server, made[()]) == {}
    assert session.admit(wanted, laid_out(session, wanted)) is None
    with pytest.raises(DocumentMissing):
        session.workspace(made["Letters",])


def test_a_link_ends(server: Server, ours: Ground, session: File360Session) -> None:
    filed = one(ours.filed(ours.filing("a.csv", b"shown")))
    folder, files = folder_of(session, ours), server.bare()
    files.post(f"/api/v1/folders/{folder}/collaborators", json={"members": [{"email": "sender@example.com", "role": 3}]})
    sender = server.bare("sender@example.com", "sender")
    both = {"days_to_expire": 1, "expiration": "2099-01-01T00:00:00+00:00"}
    assert sender.post(f"/api/v1/documents/{filed.id}/shares", json=both).status_code == 400
    link = sender.post(f"/api/v1/documents/{filed.id}/shares", json={"days_to_expire": 1, "comment": "for the printer"}).json()
    anybody, path = server.anybody(), link["permalinks"][0]["href"]
    assert anybody.get(path).content == b"shown"
    server.sandbox.faults.set({"clock-ahead": 86_401})
    assert anybody.get(path).status_code == 404
    assert sender.get(f"/api/v1/documents/{filed.id}").status_code == 401, "so is the token"
    server.sandbox.faults.set({"clock-ahead": 0})
    assert sender.delete(f"/api/v1/shares/{link['id']}").is_success
    assert anybody.get(path).status_code == 404


# --------------------------------------------------------------------------------------------- what is kept, and for how long


def test_rules_of_a_folder_keep_and_let_go(server: Server, ours: Ground, session: File360Session) -> None:
    kept, held = ours.filed(ours.filing("kept.csv"), ours.filing("held.csv"))
    session.retain(ours.folder, "keep", 9)
    with pytest.raises(OnHold, match="kept until"):
        session.remove(kept.id)
    session.retain(ours.folder, "trash", 9)
    session.apply_hold(held.id, "Case")
    server.sandbox.faults.set({"clock-ahead": 10 * 86_400})
    assert [entry.name for entry in ours.look()] == ["held.csv"], "what is on hold stays"
    with server.repository.session() as later:
        assert later.was_removed(kept.id, datetime.now(UTC))
        later.retain(ours.folder, "none")


def test_a_hold_on_a_folder_holds_what_is_in_it(server: Server, ours: Ground, session: File360Session) -> None:
    filed = one(ours.filed(ours.filing("a.csv")))
    folder = folder_of(session, ours)
    assert server.bare().post(f"/api/v1/folders/{folder}/holds", json={"name": "Case"}).is_success
    assert [hold.name for hold in session.holds(filed.id)] == ["Case"]
    session.lift_hold(filed.id, "Case")
    with pytest.raises(OnHold):
        session.remove(filed.id)
    gone = server.bare().put(f"/api/v1/folders/{folder}", json={"state": "deleted"})
    assert (gone.status_code, gone.json()["code"]) == (409, "onHold")
    files = server.bare()
    [hold] = files.get(f"/api/v1/folders/{folder}/holds").json()
    assert files.delete(f"/api/v1/folders/{folder}/holds/{hold['id']}").json() == []
    assert [event["type"] for event in files.get(f"/api/v1/folders/{folder}/audit").json()] == ["Hold lifted", "Hold", "Create"]
    assert [event.event for event in session.trail(folder, "folder")] == ["Hold lifted", "Hold", "Create"]
    session.remove(filed.id)


def test_out_of_the_trash_and_for_ever_gone(server: Server, ours: Ground, session: File360Session) -> None:
    since, files = datetime.now(UTC), server.bare()
    back, gone = ours.filed(ours.filing("back.csv"), ours.filing("gone.csv"))
    for document in (back, gone):
        session.remove(document.id)
        assert session.was_removed(document.id, since)
    assert files.put(f"/api/v1/documents/{back.id}", json={"state": "active"}).is_success
    assert [kept.name for kept in ours.look()] == ["back.csv"]
    assert files.delete(f"/api/v3/users/{session.me()['id']}/emptyAllTrash").json()["count"] >= 1
    assert not session.was_removed(gone.id, since), "nobody can tell any more"
    with pytest.raises(DocumentMissing):
        session.get(gone.id)
    assert session.get(back.id).version == 1


# --------------------------------------------------------------------------------------------- comments, changes


def test_comments_are_told_in_order(server: Server, ours: Ground, session: File360Session) -> None:
    filed = one(ours.filed(ours.filing("a.csv")))
    ids = [session.comment(filed.id, text) for text in ("first", "second", "first")]
    assert [(note.id, note.text, note.author) for note in session.comments(filed.id)] == [
        (ids[0], "first", "countersign@example.com"),
        (ids[1], "second", "countersign@example.com"),
        (ids[2], "first", "countersign@example.com"),
    ]
    files = server.bare()
    assert files.put(f"/api/v1/replies/{ids[1]}", json={"text": "mended"}).json()["text"] == "mended"
    assert files.delete(f"/api/v1/replies/{ids[0]}").is_success
    assert [note.text for note in session.comments(filed.id)] == ["mended", "first"]
    about = f"/api/v1/folders/{folder_of(session, ours)}/replies"
    assert files.post(about, json={"text": "to all of it"}).is_success
    assert [note["text"] for note in files.get(about).json()] == ["to all of it"]


def test_changes_are_told_once_and_in_order(ours: Ground, session: File360Session) -> None:
    filed = one(ours.filed(ours.filing("a.csv")))
    below = one(ours.filed(ours.filing("b.csv", folder=(*ours.folder, "below"))))
    seen = list(session.changes(ours.folder))
    assert [(change.event, change.target) for change in seen if change.target in (filed.id, below.id)] == [
        ("Create", filed.id),
        ("Create", below.id),
    ]
    assert list(session.changes(ours.folder, seen[-1].id)) == []
    session.comment(filed.id, "seen")
    assert [change.event for change in session.changes(ours.folder, seen[-1].id)] == ["Comment"]
    for number in range(file360.PAGE):
        session.apply_hold(filed.id, f"Case {number}")
    many = list(session.changes(ours.folder, seen[-1].id))
    assert len(many) == len({change.id for change in many}) == file360.PAGE + 1
    with pytest.raises(DocumentMissing):
        list(session.changes((*ours.folder, "nowhere")))


def test_every_access_is_told_also_of_what_was_moved_away_or_is_gone_for_ever(
    server: Server, ours: Ground, session: File360Session
) -> None:
    seen, moved, gone = ours.filed(ours.filing("seen.csv"), ours.filing("moved.csv"), ours.filing("gone.csv"))
    files, folder = server.bare(), folder_of(session, ours)
    before = list(session.changes(ours.folder))[-1].id
    assert files.get(f"/api/v1/documents/{seen.id}/preview").is_success
    assert files.get(f"/api/v1/documents/{seen.id}/content").is_success
    member = {"members": [{"email": "admin@example.com", "role": 1}]}
    assert files.post(f"/api/v1/folders/{folder}/collaborators", json=member).is_success
    elsewhere = files.post("/api/v1/folders", json={"name": f"away from {folder}", "parentId": session.me()["rootId"]}).json()
    assert files.put(f"/api/v1/documents/{moved.id}", json={"parentId": elsewhere["id"]}).is_success
    session.remove(gone.id)
    assert files.delete(f"/api/v3/users/{session.me()['id']}/emptyAllTrash").is_success
    told = [(change.event, change.target, change.name) for change in session.changes(ours.folder, before)]
    assert told == [
        ("View", seen.id, "seen.csv"),
        ("Download", seen.id, "seen.csv"),
        ("Share", folder, ours.folder[-1]),
        ("Move", moved.id, "moved.csv"),
        ("Delete", gone.id, "gone.csv"),
        ("Purge", gone.id, "gone.csv"),
    ]
    [share] = [change for change in session.changes(ours.folder, before) if change.event == "Share"]
    assert (share.kind, share.address, share.detail[-4:]) == ("folder", "127.0.0.1", "as 1")
    assert [event.event for event in session.history(seen.id)][:2] == ["Download", "View"]
    assert [event.id for event in session.history(seen.id)][1] == next(
        change.id for change in session.changes(ours.folder, before) if change.event == "View"
    )


def test_what_was_there_is_there_after_a_restart(tmp_path: Path, ground: Ground, repositories: Repositories) -> None:
    sandbox = File360Sandbox(tmp_path / "kept").start()
    filed = one(replace(ground, repository=file360_block(sandbox.described())).filed(ground.filing("a.csv", b"kept")))
    sandbox.stop()
    again = File360Sandbox(tmp_path / "kept").start()
    try:
        assert replace(ground, repository=file360_block(again.described())).bytes(filed.id) == b"kept"
    finally:
        again.stop()
