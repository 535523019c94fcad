"""The journeys are the same over every kind of endpoint. The other tests run them over SFTP, so here are FTPS and FTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from blocks.values import Proof
from tasks.rules.certificate import DELIVERY_WORDS
from tests.release_world import ReleaseWorld
from tests.sandbox.ftp import FtpSandbox
from tests.servers.certificates import make_certificate
from tests.world import World, price_list

OVER = ("ftps", "ftp")
PASSWORD = "not a secret"
GOOD = ["arrived", "fetched", "judged", "filing", "filed", "clearing", "cleared"]


@contextmanager
def partner(protocol: str, root: Path, place: Path) -> Iterator[tuple[FtpSandbox, dict[str, Any]]]:
    """A partner's server over a folder, and what its profile says of it."""
    place.mkdir(exist_ok=True)
    (place / "password").write_text(PASSWORD)
    with FtpSandbox(root, users={"acme": PASSWORD}, tls=protocol == "ftps", certificates=place / "tls") as server:
        agreed: dict[str, Any] = {
            "protocol": protocol,
            "host": server.host,
            "port": server.port,
            "username": "acme",
            "password": f"file:{place / 'password'}",
            "timeout_seconds": 60,
        }
        pinned = {"certificates": [server.certificate.fingerprint]} if server.certificate else {"unprotected": "accepted"}
        yield server, agreed | pinned


@pytest.mark.parametrize("protocol", OVER)
def test_an_intake_is_the_same(world: World, tmp_path: Path, protocol: str) -> None:
    with partner(protocol, world.remote, tmp_path / "partner") as (server, agreed):
        world.agree(endpoint=agreed, folder="/out")
        world.leave("p1.csv", price_list())
        world.leave("copy of p1.csv", price_list())
        world.leave("Größe p2.csv", price_list(first=50))
        world.leave("p3.csv", b"not,the,header\n1,2,3\n")
        world.leave("p4.csv.part", price_list(first=70))
        assert world.run().name == "Filed, 1 quarantined, 1 duplicate"
        assert server.logins
    filed = world.filed()
    assert sorted(filed.values()) == sorted([price_list(), price_list(first=50)])
    assert "Größe p2.csv" in filed and "p3.csv" not in filed
    assert [path.name for path in world.out.iterdir()] == ["p4.csv.part"]
    assert world.kinds().count(GOOD) == 2
    world.ledger.verify()


def test_nothing_is_fetched_from_a_server_with_another_certificate(world: World, tmp_path: Path) -> None:
    other = make_certificate(tmp_path / "other").fingerprint
    with partner("ftps", world.remote, tmp_path / "partner") as (server, agreed):
        world.agree(endpoint=agreed | {"certificates": [other]}, folder="/out")
        world.leave("p1.csv", price_list())
        state = world.run()
        assert server.certificate is not None
        assert state.is_failed() and other in str(state.message) and server.certificate.fingerprint in str(state.message)
        assert server.logins == 0, "who it is was asked before we said who we are"
    assert world.journeys() == {} and (world.out / "p1.csv").exists()


@pytest.mark.parametrize(
    ("protocol", "faults", "proof"),
    [
        pytest.param("ftps", {}, Proof.READ_BACK, id="ftps, read back"),
        pytest.param("ftps", {"deny-read": 1}, Proof.SERVER_HASH, id="ftps that lets us write only and tells digests"),
        pytest.param("ftp", {}, Proof.READ_BACK, id="ftp, read back"),
        pytest.param("ftp", {"deny-read": 1, "no-hash": 1}, Proof.SIZE_ONLY, id="ftp that lets us write only, and no more"),
    ],
)
def test_a_release_is_the_same(
    release_world: ReleaseWorld, tmp_path: Path, protocol: str, faults: Mapping[str, float], proof: Proof
) -> None:
    with partner(protocol, release_world.remote, tmp_path / "partner") as (server, agreed):
        server.faults.update(faults)
        place = {"endpoint": "theirs", "folder": "/{order}", "manifest": "{order}.json", "done_file": "{order}.done"}
        release_world.agree(endpoints={"theirs": agreed}, over=release_world.terms(destinations=[place]))
        bea = release_world.newcomer()
        release = release_world.order("over", prices=price_list(), terms=b"no refunds")
        assert release.start() is None
        assert f"{protocol}://acme@{server.host}:{server.port}" in release.form
        assert release.received == {}
        state = release.sign(bea)
        assert state is not None and state.name == "Delivered", state
    received = release.received
    assert (received.pop("prices.csv"), received.pop("terms.csv")) == (price_list(), b"no refunds")
    assert set(received) == {f"{release.id}.json", f"{release.id}.done"}
    (text,) = [text for name, text in release_world.evidence(release.id).items() if name.endswith(".signoff.json")]
    filed = release_world.evidence(release.id)
    (record,) = [json.loads(content) for name, content in filed.items() if name.endswith(".transmission.json")]
    for sent in record["transmissions"]:
        stored, *renamed = [reply.partition(" ")[0::2] for reply in sent["replies"]]
        assert stored[0] == "STOR:" and stored[1].startswith("226"), sent
        assert {command for command, _ in renamed} == {"RNTO:"} and all(reply.startswith("250") for _, reply in renamed), sent
        assert sent["server_key"] == (server.certificate.fingerprint if server.certificate else "")
    certificate = json.loads(text)
    assert certificate["weakest"] == DELIVERY_WORDS[proof]
    (destination,) = certificate["package"]["destinations"]
    pin = server.certificate.fingerprint if server.certificate else ""
    assert (destination["protocol"], destination["key_fingerprint"]) == (protocol, pin)
