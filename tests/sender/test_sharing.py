"""A share outside is a way out: the sender's account alone can make one, and a worker's cannot, however it asks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from blocks.errors import SendRefused
from blocks.repositories.extended_ecm import ExtendedEcm, ExtendedEcmSession
from blocks.repositories.otcs_wire import Refusal
from deployments.sender.sharing import Guest, Role, Shares
from tests.conformance.pyxecm.wire import Wire
from tests.sandbox.ecm_sharing import shares
from tests.sandbox.extended_ecm import ExtendedEcmSandbox

ROOT = Path(__file__).parents[2]
TODAY = datetime.now(UTC).date()
UNTIL = TODAY + timedelta(days=7)
GUEST = (Guest("guest@partner.example"),)


@dataclass
class Estate:
    """Extended ECM with an account for workers, which may do everything but share, and one for the sender."""

    sandbox: ExtendedEcmSandbox
    worker: Wire

    def account(self, name: str) -> ExtendedEcm:
        return ExtendedEcm(url=self.sandbox.url, username=name, password=f"env:{name.upper()}_PASSWORD")

    @property
    def outside(self) -> dict[int, dict[str, Any]]:
        """What is shown outside now."""
        return shares(self.sandbox._store)


@pytest.fixture
def estate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Estate]:
    groups = {"groups": ["DefaultGroup"]}
    users = [
        {"name": "Admin", "password": "livelink", "groups": []},
        {"name": "worker", "password": "secret", **groups},
        {"name": "outbound", "password": "apart", "privilege_share": True, **groups},
    ]
    monkeypatch.setenv("WORKER_PASSWORD", "secret")
    monkeypatch.setenv("OUTBOUND_PASSWORD", "apart")
    sandbox = ExtendedEcmSandbox(tmp_path / "ecm", seed={"users": users}).start()
    try:
        with Wire(sandbox.described(), "worker", "secret") as worker:
            yield Estate(sandbox, worker)
    finally:
        sandbox.stop()


@pytest.fixture
def documents(estate: Estate) -> tuple[int, int]:
    """The worker's own, and shared with nobody; the sender's account may change who sees them."""
    made = tuple(estate.worker.document(name, b"for no other eyes", estate.worker.folder(f"in {name}")) for name in ("a", "b"))
    sender = estate.sandbox._store.member_named("outbound")
    for node in made:
        body = {"right_id": sender["id"], "permissions": ["see", "see_contents", "edit_permissions"]}
        assert estate.worker.body("POST", f"/v2/nodes/{node}/permissions/custom", **body).is_success
    return made


def asked(nodes: tuple[int, ...], **more: Any) -> dict[str, Any]:
    invitees = [{"business_email": "thief@elsewhere.example", "perm": 4, "identityType": 1}]
    return {"IDs": list(nodes), "shareProvider": "CORE", "shareOptions": {}, "providerParams": {"invitees": invitees}, **more}


# --------------------------------------------------------------------------------------------- the attack


@pytest.mark.parametrize("encoding", ["body", "plain", "multipart"])
def test_a_workers_account_gets_no_share_by_bare_http(estate: Estate, documents: tuple[int, int], encoding: str) -> None:
    wanted = asked(documents)
    match encoding:
        case "body":
            answer = estate.worker.body("POST", "/v2/shares", **wanted)
        case "plain":
            fields = {name: json.dumps(value) for name, value in wanted.items()} | {"shareProvider": "CORE"}
            answer = estate.worker.plain("POST", "/v2/shares", **fields)
        case _:
            answer = estate.worker.http.post("/v2/shares", files={"body": (None, json.dumps(wanted))})
    assert (answer.status_code, "insufficient privileges" in answer.text) == (500, True)
    assert estate.outside == {}


def test_a_workers_account_cannot_give_itself_the_privilege(estate: Estate, documents: tuple[int, int]) -> None:
    me = estate.worker.http.get("/v1/auth").json()["data"]["id"]
    attempts: list[httpx.Response] = [
        estate.worker.plain("PUT", f"/v2/members/{me}", privilege_share="True"),
        estate.worker.plain("PUT", f"/v2/members/{me}", privilege_system_admin_rights="True"),
        estate.worker.plain("PUT", f"/v2/members/{me}", first_name="x", group_id="1000"),
        estate.worker.plain("POST", "/v2/members", type=0, name="second", password="x", privilege_share="True"),
        estate.worker.plain("PUT", "/v2/members/1000", password="mine"),
    ]
    assert [answer.status_code for answer in attempts] == [500] * len(attempts)
    assert estate.worker.body("POST", "/v2/shares", **asked(documents)).status_code == 500
    assert estate.outside == {}


def test_a_workers_account_gets_no_share_from_the_senders_own_code(estate: Estate, documents: tuple[int, int]) -> None:
    with Shares(estate.account("worker")) as opened, pytest.raises(Refusal, match="insufficient privileges"):
        opened.share(documents, GUEST, UNTIL)
    assert estate.outside == {}


def test_a_session_that_workers_have_knows_no_shares() -> None:
    assert not [name for name in dir(ExtendedEcmSession) if "share" in name.lower()]
    ours = [path for part in ("blocks", "tasks", "flows") for path in (ROOT / part).rglob("*.py")]
    assert len(ours) > 100
    assert [path for path in ours if re.search(r"v\d/shares|sharing import", path.read_text("utf-8"))] == []


# --------------------------------------------------------------------------------------------- what the sender can do


def test_the_sender_shares_until_a_day_and_stops(estate: Estate, documents: tuple[int, int]) -> None:
    guests = (Guest("Guest@Partner.example"), Guest("boss@partner.example", Role.COLLABORATOR))
    with Shares(estate.account("outbound")) as opened:
        assert not opened.shared(documents[0])
        opened.share(documents, guests, UNTIL, "as agreed")
        held = estate.outside[documents[0]]
        assert (held["expire_date"], held["message"]) == (UNTIL.isoformat(), "as agreed")
        assert [(one["business_email"], one["perm"]) for one in held["invitees"]] == [
            ("guest@partner.example", 1),
            ("boss@partner.example", 2),
        ]
        assert opened.shared(documents[0]) and opened.shared(documents[1])
        with pytest.raises(SendRefused, match="shared already"):
            opened.share(documents[:1], (Guest("other@partner.example"),), UNTIL)
        opened.stop(documents[0])
        opened.stop(documents[0])
        assert list(estate.outside) == [documents[1]]


def test_what_has_expired_is_shared_no_more(estate: Estate, documents: tuple[int, int]) -> None:
    with Shares(estate.account("outbound")) as opened:
        opened.share(documents, GUEST, UNTIL)
        yesterday = (TODAY - timedelta(days=1)).isoformat()
        estate.sandbox._store.db.execute("UPDATE share SET expire_date = ?", (yesterday,))
        assert not opened.shared(documents[0])
        opened.share(documents, GUEST, UNTIL)


def test_a_share_without_guests_or_for_a_day_that_is_over_is_refused(estate: Estate, documents: tuple[int, int]) -> None:
    with Shares(estate.account("outbound")) as opened:
        for nodes, guests, until in (
            ((), GUEST, UNTIL),
            (documents, (), UNTIL),
            (documents, GUEST, TODAY - timedelta(days=2)),
        ):
            with pytest.raises(SendRefused, match="nothing was shared"):
                opened.share(nodes, guests, until)
    assert estate.outside == {}


def test_what_could_not_be_shared_is_named(estate: Estate, documents: tuple[int, int]) -> None:
    other = estate.worker.document("c", b"x", estate.worker.folder("in c"))
    with Shares(estate.account("outbound")) as opened, pytest.raises(Refusal, match=f": {other} could not be shared"):
        opened.share((documents[0], other), GUEST, UNTIL)
    assert list(estate.outside) == [documents[0]]
