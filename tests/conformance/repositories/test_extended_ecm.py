"""What only Extended ECM promises: lost answers settled by looking, tickets, transient pages, records classes, access."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from blocks import pace
from blocks.errors import OutcomeUnknown, RepositoryUnreachable, SignInRefused, SpoolCorrupt
from blocks.repositories import otcs_wire
from blocks.repositories.extended_ecm import RIGHTS, ExtendedEcm, ExtendedEcmSession
from blocks.repositories.routines import Routine
from blocks.spool import Spool
from blocks.values import Collision, Filed, Filing, Grant, NotFiled, Right
from tests.conformance.repositories.checks import Ground, one
from tests.conformance.repositories.enrolment import block
from tests.sandbox import sandbox

EVERYTHING: Mapping[str, Any] = {
    "categories": {"Partner Document": {"Partner ID": "4711", "Tags": ("a", "b"), "Lines:SKU": ("S1", "S2")}},
    "records_class": "Contracts",
    "access": (Grant(who="DefaultGroup", right=Right.READ),),
}


@dataclass
class Server:
    """A running sandbox, asked and disturbed from outside."""

    service: Mapping[str, Any]

    @property
    def repository(self) -> ExtendedEcm:
        return block(self.service)

    def faults(self, **faults: float) -> None:
        names = {name.replace("_", "-"): value for name, value in faults.items()}
        httpx.post(self.service["faults"], json=names, timeout=60).raise_for_status()

    def left(self) -> dict[str, float]:
        """The faults that have met nothing yet."""
        answer: dict[str, float] = httpx.get(self.service["faults"], timeout=60).json()
        return answer

    def stats(self) -> dict[str, int]:
        answer: dict[str, int] = httpx.get(self.service["faults"].replace("_faults", "_stats"), timeout=60).json()
        return answer

    def raw(self, path: str) -> Any:
        """What the interface itself says, past our client."""
        signed_in = httpx.post(
            f"{self.service['url']}/api/v1/auth", data={"username": "Admin", "password": "livelink"}, timeout=60
        ).json()
        return httpx.get(f"{self.service['url']}/api/{path}", headers={"OTCSTicket": signed_in["ticket"]}, timeout=60).json()

    def versions(self, id: str) -> list[dict[str, Any]]:
        return [entry["data"]["versions"] for entry in self.raw(f"v2/nodes/{id}/versions")["results"]]

    def permissions(self, id: str) -> dict[tuple[str, int | None], list[str]]:
        lines = [entry["data"]["permissions"] for entry in self.raw(f"v2/nodes/{id}/permissions")["results"]]
        return {(line["type"], line["right_id"]): line["permissions"] for line in lines if line["permissions"]}

    def records_classes(self, id: str) -> list[str]:
        held = self.raw(f"v1/nodes/{id}/rmclassifications").get("data") or []
        ids = [line.get("rmclassification_id") or line.get("id") for line in held]
        return [self.raw(f"v2/nodes/{id}")["results"]["data"]["properties"]["name"] for id in ids if id]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with sandbox("extended-ecm", data=tmp_path_factory.mktemp("ecm")) as services:
        yield Server(services["extended-ecm"])


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    yield running
    running.faults(clock_ahead=0, html500=0, burst503=0, lost_answer=0, search_lag=0, slow=0, max_body=0, read_trickle=0)


pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture
def ground(server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> Ground:
    (tmp_path / "files").mkdir()
    folder = ("Extended ECM", hashlib.sha256(request.node.name.encode()).hexdigest()[:12])
    return Ground(server.repository, folder, tmp_path / "files", Spool(tmp_path / "spool", floor_bytes=0))


# --------------------------------------------------------------------------------------------- everything is really set


def test_values_class_and_access_are_set_exactly(server: Server, ground: Ground) -> None:
    filed = one(ground.filed(ground.filing("all.csv", **EVERYTHING)))
    properties = server.raw(f"v2/nodes/{filed.id}")["results"]["data"]["properties"]
    assert (properties["external_source"], properties["external_identity"][:8]) == ("ftp", "journey-")
    assert server.records_classes(filed.id) == ["Contracts"]
    assert server.permissions(filed.id) == {
        ("owner", 1000): server.permissions(filed.id)[("owner", 1000)],
        ("custom", 1001): ["see", "see_contents"],
    }
    values = ground.get(filed.id).categories["Partner Document"]
    assert (values["Partner ID"], values["Tags"], values["Lines:SKU"]) == ("4711", ["a", "b"], ["S1", "S2"])


def test_a_new_version_brings_its_own_values_class_and_access(server: Server, ground: Ground) -> None:
    first = one(ground.filed(ground.filing("all.csv", **EVERYTHING)))
    more = {
        "categories": {"Partner Exchange/Partner Document": {"Partner ID": "4712"}},
        "records_class": "File Plan/Invoices",
        "access": (Grant(who="Admin", right=Right.FULL), Grant(who="DefaultGroup", right=Right.EDIT)),
    }
    second = one(ground.filed(ground.filing("all.csv", b"2", **more)))
    assert (second.id, second.version) == (first.id, 2)
    assert server.records_classes(first.id) == ["Invoices"]
    assert server.permissions(first.id)[("custom", 1001)] == list(RIGHTS[Right.EDIT])
    assert ground.get(first.id).categories["Partner Document"]["Partner ID"] == "4712"
    assert server.versions(first.id)[-1]["external_identity"] == ground.get(first.id).identity


@pytest.mark.parametrize("right", Right)
def test_each_right_includes_the_ones_before(server: Server, ground: Ground, right: Right) -> None:
    filed = one(ground.filed(ground.filing(f"{right}.csv", access=(Grant(who="DefaultGroup", right=right),))))
    held = server.permissions(filed.id)[("custom", 1001)]
    assert set(held) == set(RIGHTS[right])
    before = list(Right)[: list(Right).index(right)]
    assert all(set(RIGHTS[lesser]) < set(held) for lesser in before)


def test_an_account_without_privileges_keeps_its_promises(
    server: Server, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILER_PASSWORD", "filer")
    url = f"{server.service['url']}/api"
    ticket = httpx.post(f"{url}/v1/auth", data={"username": "Admin", "password": "livelink"}, timeout=60).json()["ticket"]
    member = {"type": 0, "name": "filer", "password": "filer", "group_id": 1001}
    httpx.post(f"{url}/v2/members", data=member, headers={"OTCSTicket": ticket}, timeout=60).raise_for_status()
    filer = server.repository.model_copy(update={"username": "filer", "password": "env:FILER_PASSWORD"})
    ground = replace(ground, repository=filer)
    filing = ground.filing("all.csv", **{**EVERYTHING, "access": (Grant(who="Admin", right=Right.SEE),)})
    filed = one(ground.filed(filing))
    assert {(kind, len(held)) for (kind, _), held in server.permissions(filed.id).items()} == {("owner", 10), ("custom", 1)}
    assert ground.filed(filing) == [filed]
    assert one(ground.filed(ground.filing("all.csv", b"2", **EVERYTHING))).version == 2
    assert ground.bytes(filed.id) == b"2"


def test_a_folder_that_may_not_be_made_is_an_outcome_and_the_other_filings_flow(
    server: Server, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHER_PASSWORD", "watcher")
    url = f"{server.service['url']}/api"
    ticket = httpx.post(f"{url}/v1/auth", data={"username": "Admin", "password": "livelink"}, timeout=60).json()["ticket"]
    headers = {"OTCSTicket": ticket}
    member = {"type": 0, "name": "watcher", "password": "watcher", "group_id": 1001}
    httpx.post(f"{url}/v2/members", data=member, headers=headers, timeout=60).raise_for_status()
    inside = ground.filing("seed.csv")
    closed = replace(inside, folder=(*inside.folder, "Closed"))
    with ground.repository.session() as session:
        list(session.file([closed]))
        node = session.find(inside.folder, "Closed")
    assert node is not None
    for whose in ("public", "group"):
        body = json.dumps({"permissions": ["see", "see_contents"]})
        path = f"{url}/v2/nodes/{node.id}/permissions/{whose}"
        httpx.put(path, data={"body": body}, headers=headers, timeout=60).raise_for_status()
    watcher = ground.repository.model_copy(update={"username": "watcher", "password": "env:WATCHER_PASSWORD"})
    refused = replace(ground.filing("a.csv"), folder=(*closed.folder, "Inner"))
    allowed = ground.filing("b.csv")
    with watcher.session() as session:
        answers = list(session.file([refused, allowed]))
    assert isinstance(answers[0], NotFiled) and answers[0].code == "refused", answers
    assert isinstance(answers[1], Filed), answers


def test_a_plain_filing_is_one_call(server: Server, ground: Ground) -> None:
    values = {"categories": EVERYTHING["categories"]}
    with ground.repository.session() as session:
        list(session.file([ground.filing("first.csv", **values)]))  # names are looked up here
        before = server.stats()["requests"]
        assert all(isinstance(answer, Filed) for answer in session.file(ground.filing(f"{n}.csv", **values) for n in range(50)))
        assert server.stats()["requests"] - before == 50


def test_filing_again_changes_nothing(server: Server, ground: Ground) -> None:
    filing = ground.filing("all.csv", **EVERYTHING)
    filed = one(ground.filed(filing))
    with ground.repository.session() as session:
        before = list(session.history(filed.id))
        assert list(session.file([filing])) == [filed]
        assert list(session.history(filed.id)) == before


# --------------------------------------------------------------------------------------------- lost answers and half-done work


def _complete(server: Server, ground: Ground, filed: Filed, filing: Filing, *, versions: int) -> None:
    found = server.versions(filed.id)
    assert [version["version_number"] for version in found] == list(range(1, versions + 1))
    assert filed.version == versions
    assert ground.bytes(filed.id) == filing.path.read_bytes()
    assert ground.get(filed.id).categories["Partner Document"]["Partner ID"] == "4711"
    assert server.records_classes(filed.id) == ["Contracts"]
    assert set(server.permissions(filed.id)) == {("owner", 1000), ("custom", 1001)}


def test_many_lost_answers_double_nothing(server: Server, ground: Ground) -> None:
    filings = [ground.filing(f"{n}.csv", b"%d" % n) for n in range(20)]
    server.faults(lost_answer=12)
    first = ground.filed(*filings)
    assert len({answer.id for answer in first}) == 20
    server.faults(lost_answer=7)
    newer = [ground.filing(f"{n}.csv", b"new %d" % n) for n in range(20)]
    assert [answer.version for answer in ground.filed(*newer)] == [2] * 20
    assert len(ground.look()) == 20
    assert all(len(server.versions(answer.id)) == 2 for answer in first)


@pytest.mark.parametrize("kind", ["document", "version"])
@pytest.mark.parametrize("after", range(1, 6))
def test_a_half_done_filing_is_completed(server: Server, ground: Ground, kind: str, after: int) -> None:
    """A process that dies between two calls; the next one finds its work by identity and completes it."""
    if kind == "version":
        ground.filed(ground.filing("half.csv", b"earlier"))
    filing = ground.filing("half.csv", b"data", **EVERYTHING)

    class Died(Exception):
        pass

    original, seen = otcs_wire.Wire.writing, iter(range(100))

    def writing(wire: otcs_wire.Wire, what: str, *args: Any, **more: Any) -> Routine[Any]:
        if not what.startswith("folder") and next(seen) == after:
            raise Died
        return (yield from original(wire, what, *args, **more))

    otcs_wire.Wire.writing = writing  # type: ignore[method-assign]
    try:
        if after < (5 if kind == "document" else 6):
            with pytest.raises(Died):
                ground.file(filing)
    finally:
        otcs_wire.Wire.writing = original  # type: ignore[method-assign]
    filed = one(ground.filed(filing))
    _complete(server, ground, filed, filing, versions=2 if kind == "version" else 1)


def test_a_late_refusal_takes_the_document_back(server: Server, ground: Ground) -> None:
    """The class is looked up before, so the refusal is provoked: the class is given as a folder that is none."""
    bad = ground.filing("bad.csv", **{**EVERYTHING, "records_class": "File Plan"})
    [answer] = ground.file(bad)
    assert isinstance(answer, NotFiled)
    assert answer.code in ("refused", "unknown-records-class")
    assert ground.find("bad.csv") is None
    good = one(ground.filed(ground.filing("bad.csv", b"before", categories={"Partner Document": {"Partner ID": "old"}})))
    [answer] = ground.file(replace(bad, journey="another"))
    assert isinstance(answer, NotFiled)
    assert len(server.versions(good.id)) == 1
    assert ground.bytes(good.id) == b"before"
    assert ground.get(good.id).categories["Partner Document"]["Partner ID"] == "old"
    assert ground.get(good.id).categories["Partner Document"]["Tags"] in ([], None)


def test_a_version_that_a_person_added_is_not_ours(server: Server, ground: Ground) -> None:
    filing = ground.filing("shared.csv", b"first")
    filed = one(ground.filed(filing))
    with ground.repository.session() as session:
        assert (session.get(filed.id).identity, session.filed_by(filed.id)) == (filing.journey, (filing.journey,))
        upload = otcs_wire.Upload(filing.path, "shared.csv", "text/csv", filing.size, filing.digest)
        assert isinstance(session, ExtendedEcmSession)
        session._wire.write("by hand", "POST", f"v2/nodes/{filed.id}/versions", fields={}, upload=upload)
        assert session.get(filed.id).identity is None
        assert session.filed_by(filed.id) == (filing.journey, None)
    assert [kept.identity for kept in ground.look()] == [None]


def test_a_version_that_somebody_added_meanwhile_is_not_taken_for_ours(server: Server, ground: Ground) -> None:
    filed = one(ground.filed(ground.filing("shared.csv", b"first")))
    ours = ground.filing("shared.csv", b"12345")
    original = otcs_wire.Wire.writing

    def writing(wire: otcs_wire.Wire, what: str, method: str, path: str, **more: Any) -> Routine[Any]:
        if path.endswith("/versions"):
            # Somebody else, with as many bytes, and our own call lost before it was carried out.
            anonymous = replace(more["upload"])
            yield from original(wire, what, method, path, fields={"description": "by hand"}, upload=anonymous)
            raise otcs_wire.AnswerLost("the network went away", True)
        return (yield from original(wire, what, method, path, **more))

    otcs_wire.Wire.writing = writing  # type: ignore[method-assign]
    try:
        with pytest.raises(OutcomeUnknown, match=r"shared\.csv.*journey"):
            ground.file(ours)
    finally:
        otcs_wire.Wire.writing = original  # type: ignore[method-assign]
    assert len(server.versions(filed.id)) == 2


def test_answers_that_are_lost_while_others_are_on_their_way_double_nothing(
    server: Server, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocks.repositories.turns.SOON_SECONDS", 60)  # so that one thread has all of them
    ground.filed(ground.filing("before.csv"))
    filings = [ground.filing(f"{n}.csv", str(n).encode()) for n in range(12)]
    server.faults(lost_answer=3)
    filed = ground.filed(*filings)
    assert [(answer.journey, answer.name) for answer in filed] == [(one.journey, one.name) for one in filings]
    assert [ground.bytes(answer.id) for answer in filed] == [str(n).encode() for n in range(12)]
    assert len(list(ground.look())) == 13 and all(len(server.versions(answer.id)) == 1 for answer in filed)


def test_what_was_on_its_way_when_another_one_failed_is_found_by_the_next_try(
    server: Server, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocks.repositories.turns.SOON_SECONDS", 60)
    filings = [ground.filing(f"{n}.csv", str(n).encode()) for n in range(8)]
    filings[1].path.write_bytes(b"?")
    with pytest.raises(SpoolCorrupt):
        ground.file(*filings)
    filings[1].path.write_bytes(b"1")
    filed = ground.filed(*filings)
    assert [ground.bytes(answer.id) for answer in filed] == [str(n).encode() for n in range(8)]
    assert len(list(ground.look())) == 8 and all(len(server.versions(answer.id)) == 1 for answer in filed)


def test_sessions_that_make_the_same_folders_meet_in_them(server: Server, ground: Ground) -> None:
    filings = [ground.filing(f"{n}.csv", folder=(*ground.folder, "a", "b")) for n in range(3)]
    server.faults(slow=0.15)  # all find the folders missing before the first has made them
    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(ground.filed, filings))
    server.faults(slow=0)
    assert [kept.name for kept in ground.look()] == ["a"]


# --------------------------------------------------------------------------------------------- transient answers


@pytest.mark.parametrize("fault", ["html500", "burst503"])
def test_a_short_burst_is_waited_out(server: Server, ground: Ground, fault: str) -> None:
    filing = ground.filing("a.csv", b"data", **EVERYTHING)
    server.faults(**{fault: 3})
    filed = one(ground.filed(filing))
    server.faults(**{fault: 3})
    assert ground.filed(filing) == [filed]
    server.faults(**{fault: 2})
    assert ground.bytes(filed.id) == b"data"
    _complete(server, ground, filed, filing, versions=1)


@pytest.mark.parametrize("fault", ["html500", "burst503"])
def test_a_long_outage_is_unreachable(server: Server, ground: Ground, fault: str) -> None:
    filing = ground.filing("a.csv")
    with ground.repository.session() as session:
        ground.filed(ground.filing("folder.csv"))
        server.faults(**{fault: 1000})
        with pytest.raises(RepositoryUnreachable, match="safe to try again") as raised:
            list(session.file([filing]))
        assert raised.value.worth_retrying
        server.faults(**{fault: 0})
        assert isinstance(next(session.file([filing])), Filed)


def test_a_slow_server_is_unreachable_and_nothing_is_doubled(server: Server, ground: Ground, tmp_path: Path) -> None:
    ground.filed(ground.filing("folder.csv"))
    filing = ground.filing("slow.csv")
    with server.repository.session() as session:
        assert session.find(ground.folder, "folder.csv")
        session._wire._lines.timeout_seconds = 3  # impatient for the filing alone
        asked = server.stats()["requests"]
        server.faults(slow=5)
        began = time.monotonic()
        with pytest.raises(RepositoryUnreachable, match="no answer in time"):
            list(session.file([filing]))
        assert time.monotonic() - began < 120
        server.faults(slow=0)
        session._wire._lines.timeout_seconds = 60
        assert server.stats()["requests"] > asked
        while server.stats()["in hand"]:  # what was sent is carried out late
            time.sleep(0.1)
        filed = one([answer for answer in session.file([filing]) if isinstance(answer, Filed)])
    assert server.versions(filed.id)[0]["version_number"] == 1
    assert len(server.versions(filed.id)) == 1
    assert len(ground.look()) == 2


@pytest.mark.parametrize("asked", ["bytes", "facts"])
def test_a_server_that_sends_a_byte_now_and_then_stands_still_all_the_same(
    server: Server, ground: Ground, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    filed = one(ground.filed(ground.filing("slow.csv", os.urandom(20_000))))
    seconds = itertools.count()
    monkeypatch.setattr(pace, "monotonic", lambda: float(next(seconds)))  # each byte comes a second after the one before
    with server.repository.session() as session, ground.spool.batch() as batch:
        server.faults(read_trickle=10)
        with pytest.raises(RepositoryUnreachable, match="standing still") as raised:
            session.fetch(filed.id, None, batch) if asked == "bytes" else session.get(filed.id)
        assert raised.value.worth_retrying
        assert server.left()["read-trickle"] == 8, "each time waited as long as was agreed"
        server.faults(read_trickle=0)
        assert next(seconds) < 1000
    assert not [path for path in (ground.spool.partial, ground.spool.store) if any(path.iterdir())]


def test_nobody_there_is_unreachable(server: Server) -> None:
    nobody = server.repository.model_copy(update={"url": "http://127.0.0.1:9/cs/cs"})
    with pytest.raises(RepositoryUnreachable, match="no connection"):
        nobody.session()


def test_a_wrong_password_is_refused_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WRONG_PASSWORD", "not the password")
    before = server.stats().get("refused sign-ins", 0)
    with pytest.raises(SignInRefused) as raised:
        server.repository.model_copy(update={"password": "env:WRONG_PASSWORD"}).session()
    assert server.stats()["refused sign-ins"] == before + 1
    assert "not the password" not in str(raised.value)


# --------------------------------------------------------------------------------------------- tickets


def test_one_sign_in_serves_all_threads(server: Server, ground: Ground) -> None:
    repository = server.repository.model_copy(update={"connections": 8})
    with repository.session() as session:
        [filed] = session.file([ground.filing("first.csv")])
        server.faults(clock_ahead=3600, slow=0.15)  # slow: all ask before the first is told that its ticket has run out
        before = server.stats()["sign-ins"]
        barrier = threading.Barrier(8)

        def ask(_: int) -> Any:
            barrier.wait()
            return session.get(filed.id).identity

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(ask, range(8)))
        assert all(found)
        assert server.stats()["sign-ins"] == before + 1


def test_calls_that_are_on_their_way_when_the_ticket_runs_out_are_repeated_after_one_sign_in(
    server: Server, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocks.repositories.turns.SOON_SECONDS", 60)  # so that one thread has all of them
    with ground.repository.session() as session:
        list(session.file([ground.filing("first.csv")]))
        server.faults(clock_ahead=3600)
        before = server.stats()["sign-ins"]
        filed = list(session.file([ground.filing(f"{n}.csv", str(n).encode()) for n in range(8)]))
        assert server.stats()["sign-ins"] == before + 1
    assert [ground.bytes(answer.id) for answer in filed if isinstance(answer, Filed)] == [str(n).encode() for n in range(8)]
    assert all(len(server.versions(answer.id)) == 1 for answer in filed if isinstance(answer, Filed))


def test_the_newest_ticket_keeps_us_signed_in(server: Server, ground: Ground) -> None:
    with ground.repository.session() as session:
        before = server.stats()["sign-ins"]
        for quarter_hours in range(4):
            server.faults(clock_ahead=quarter_hours * 900)
            session.find((), "Extended ECM")
        assert server.stats()["sign-ins"] == before


def test_a_ticket_that_ends_in_mid_upload_restarts_the_body(server: Server, ground: Ground) -> None:
    data = os.urandom(8 * 1024 * 1024)
    with ground.repository.session() as session:
        list(session.file([ground.filing("first.csv")]))
        server.faults(clock_ahead=3600)
        before = server.stats()["sign-ins"]
        # Below the limit of "look first" nothing but the upload itself meets the old ticket.
        small, large = list(session.file([ground.filing("small.bin", data[:900_000]), ground.filing("large.bin", data)]))
        assert isinstance(small, Filed)
        assert isinstance(large, Filed)
        assert server.stats()["sign-ins"] == before + 1
    assert ground.bytes(small.id) == data[:900_000]
    assert ground.bytes(large.id) == data


# --------------------------------------------------------------------------------------------- the server's own ways


def test_a_document_too_large_for_the_server_is_not_filed(server: Server, ground: Ground) -> None:
    server.faults(max_body=100_000)
    good, large = ground.filing("good.csv"), ground.filing("large.csv", b"x" * 200_000)
    answers = ground.file(large, good)
    assert isinstance(answers[0], NotFiled)
    assert "too large" in answers[0].reason
    assert isinstance(answers[1], Filed)


def test_a_removed_folder_is_made_again(server: Server, ground: Ground) -> None:
    with ground.repository.session() as session:
        list(session.file([ground.filing("first.csv")]))
        with ground.repository.session() as other:
            folder = other.find(ground.folder[:1], ground.folder[1])
        assert folder is not None
        _delete(server, folder.id)
        assert isinstance(next(session.file([ground.filing("second.csv")])), Filed)
    assert [kept.name for kept in ground.look()] == ["second.csv"]


def _delete(server: Server, id: str) -> None:
    url = f"{server.service['url']}/api"
    ticket = httpx.post(f"{url}/v1/auth", data={"username": "Admin", "password": "livelink"}, timeout=60).json()["ticket"]
    httpx.delete(f"{url}/v2/nodes/{id}", headers={"OTCSTicket": ticket}, timeout=60).raise_for_status()


def test_the_root_can_be_a_path_or_a_node(server: Server, ground: Ground) -> None:
    below = server.repository.model_copy(update={"root": "Extended ECM/Below"})
    with below.session() as session:
        filed = next(session.file([ground.filing("x.csv", folder=("y",))]))
    with ground.repository.session() as session:
        folder = session.find(("Extended ECM",), "Below")
        assert folder is not None
        assert session.find(("Extended ECM", "Below", "y"), "x.csv") is not None
    with server.repository.model_copy(update={"root": folder.id}).session() as session:
        found = session.find(("y",), "x.csv")
    assert isinstance(filed, Filed)
    assert found is not None
    assert found.id == filed.id


def test_a_restarted_server_has_everything(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    spool = Spool(tmp_path / "spool", floor_bytes=0)
    with sandbox("extended-ecm", data=tmp_path / "data") as services:
        server = Server(services["extended-ecm"])
        ground = Ground(server.repository, ("a",), files, spool)
        filing = ground.filing("kept.csv", b"data", **EVERYTHING)
        filed = one(ground.filed(filing))
        port = services["extended-ecm"]["port"]
        session = server.repository.session()
    with sandbox("extended-ecm", data=tmp_path / "data", options=("--port", str(port))) as services:
        server = Server(services["extended-ecm"])
        ground = replace(ground, repository=server.repository)
        with session:  # one that was signed in before
            assert list(session.file([filing])) == [filed]
        _complete(server, ground, filed, filing, versions=1)


# --------------------------------------------------------------------------------------------- size

LARGE = """
import hashlib, json, os, resource, sys
from pathlib import Path
from blocks.repositories.extended_ecm import ExtendedEcm
from blocks.spool import Spool
from blocks.values import Filing

asked = json.loads(sys.argv[1])
source, size = Path(asked["source"]), asked["size"]
repository = ExtendedEcm(url=asked["url"], username="Admin", password="env:" + asked["password"])
with repository.session() as session:
    warm = Filing("warm", "warm", ("large",), Path(asked["small"]), hashlib.sha256(b"x").hexdigest(), 1, "text/plain")
    next(session.file([warm]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    filing = Filing("large", "large.bin", ("large",), source, asked["digest"], size, "application/octet-stream")
    [filed] = session.file([filing])
    with Spool(Path(asked["spool"]), floor_bytes=0).batch() as batch:
        spooled = session.fetch(filed.id, None, batch)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"digest": spooled.digest, "size": spooled.size, "grown_mib": (after - before) / 1024}))
"""


def test_a_large_file_passes_in_bounded_memory(server: Server, tmp_path: Path) -> None:
    size, digest, block_ = 300 * 1024 * 1024, hashlib.sha256(), os.urandom(1024 * 1024)
    source, small = tmp_path / "large.bin", tmp_path / "small"
    with source.open("wb") as file:
        for _ in range(size // len(block_)):
            file.write(block_)
            digest.update(block_)
    small.write_bytes(b"x")
    asked = {
        "url": server.repository.url,
        "password": server.repository.password.removeprefix("env:"),
        "source": str(source),
        "small": str(small),
        "size": size,
        "digest": digest.hexdigest(),
        "spool": str(tmp_path / "spool"),
    }
    done = subprocess.run([sys.executable, "-c", LARGE, json.dumps(asked)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["digest"], told["size"]) == (digest.hexdigest(), size)
    assert told["grown_mib"] < 24, told
    source.unlink()


def test_keep_both_survives_a_freed_name(server: Server, ground: Ground) -> None:
    first = one(ground.filed(ground.filing("photo.jpg", b"theirs")))
    ours = ground.filing("photo.jpg", b"ours", collision=Collision.KEEP_BOTH)
    second = one(ground.filed(ours))
    _delete(server, first.id)
    assert ground.filed(ours) == [second]
    assert len(ground.look()) == 1
