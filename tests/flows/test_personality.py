"""A partner's server that is not as it was: told once, and files flow on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
import yaml
from prefect.events import Event

from blocks.endpoints.ftp_wire import Wire
from blocks.ledger import Entry
from blocks.profile import load_partner
from tasks.personality import MOST_A_DAY, Place, accept, look_after, open_case, remember, try_out
from tests.sandbox.ftp import FtpSandbox
from tests.servers.prefect import overheard
from tests.world import World, price_list

JOURNEY = "personality.acme.drop"


@pytest.fixture
def server(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[FtpSandbox]:
    """The partner's folder on an FTP server instead, and the profile that says so."""
    monkeypatch.setenv("PARTNER_PASSWORD", "not a secret")
    with FtpSandbox(world.remote, users={"partner": "not a secret"}) as server:
        point_at(world, server)
        yield server


def point_at(world: World, server: FtpSandbox) -> None:
    path = world.profiles / "acme.yaml"
    told = yaml.safe_load(path.read_text())
    told["partner"]["endpoints"]["drop"] = {
        "protocol": "ftp",
        "host": server.host,
        "port": server.port,
        "username": "partner",
        "password": "env:PARTNER_PASSWORD",
        "unprotected": "accepted",
        "timeout_seconds": 60,
    }
    told["partner"]["streams"]["price-lists"] |= {"folder": "/out", "owner": "edi@example.org"}
    path.write_text(yaml.safe_dump(told))


def kinds(world: World) -> list[str]:
    return [entry.kind for entry in world.ledger.journey(JOURNEY)]


def place(world: World) -> Place:
    return Place("acme", "drop", load_partner("acme", world.profiles).endpoints["drop"], "edi@example.org")


@pytest.fixture
def changed(world: World) -> Iterator[Callable[[], list[Event]]]:
    """What programs were told of the server until then."""
    with overheard() as told:
        yield lambda: [one for one in told() if one.event == "countersign.endpoint.changed"]


def test_a_server_that_changes_is_told_once_and_files_flow_on(
    world: World, server: FtpSandbox, monkeypatch: pytest.MonkeyPatch, changed: Callable[[], list[Event]]
) -> None:
    world.leave("p1.csv", price_list(first=1))
    assert world.run().name == "Filed"
    assert world.run().name == "Nothing new"
    assert kinds(world) == ["learned"], "the same is no news"
    assert world.ledger.cases() == []

    server.faults.update({"no-mlsd": 1, "dos-list": 1})
    world.leave("p2.csv", price_list(first=50))
    assert world.run().name == "Filed"
    assert sorted(world.filed()) == ["p1.csv", "p2.csv"]
    assert kinds(world) == ["learned", "changed"]
    (case,) = world.ledger.cases()
    assert (case.journey, case.code, case.owner, case.partner) == (JOURNEY, "server-changed", "edi@example.org", "acme")
    assert "lists folders by: MLSD -> LIST" in str(case.reason)
    (event,) = changed()
    assert event.resource.id == "countersign.endpoint.acme.drop"
    assert "lists folders by: MLSD -> LIST" in event.payload["changes"]

    said: list[bytes] = []
    say = Wire.say

    async def heard(wire: Wire, commands: Sequence[bytes]) -> None:
        said.extend(commands)
        await say(wire, commands)

    # Overheard, not replaced: which commands were sent.
    monkeypatch.setattr(Wire, "say", heard)
    assert world.run().name == "Nothing new"
    assert b"LIST" in said and b"LIST -a" not in said, "that it does not understand that was known"
    assert kinds(world) == ["learned", "changed"]
    assert len(changed()) == 1

    assert accept(place(world), "they upgraded", "ann")
    assert open_case(place(world)) is None and not accept(place(world), "again", "ann")
    server.faults.clear()
    assert world.run().name == "Nothing new"
    assert kinds(world) == ["learned", "changed", "accepted", "changed"]
    assert "lists folders by: LIST -> MLSD" in str(world.ledger.cases()[0].reason)
    world.ledger.verify()


def test_another_server_in_the_reviewed_file_is_no_change(world: World, server: FtpSandbox) -> None:
    assert world.run().name == "Nothing new"
    server.faults["no-mlsd"] = 1
    server.stop()
    server.port = 0
    server.start()
    point_at(world, server)
    assert world.run().name == "Nothing new"
    assert kinds(world) == ["learned", "learned"]
    assert world.ledger.cases() == []


def test_what_changes_at_every_visit_does_not_fill_the_ledger(world: World, server: FtpSandbox) -> None:
    with place(world).endpoint.session() as session:
        seen = session.personality
    told = [remember(place(world), replace(seen, server=f"ready {number}")) for number in range(3 * MOST_A_DAY)]
    assert sum(bool(changes) for changes in told) == MOST_A_DAY
    assert len(kinds(world)) == MOST_A_DAY + 1
    assert len(world.ledger.cases()) == 1


def test_what_a_killed_probe_has_left_is_removed_by_the_next(world: World, server: FtpSandbox) -> None:
    theirs = world.leave("theirs.csv", price_list())
    found = try_out(place(world), "/out")
    assert (found.longest_name, found.rename_replaces) == (255, True)
    assert kinds(world) == ["probing", "probed"]
    assert [path.name for path in world.out.iterdir()] == ["theirs.csv"]

    probing = world.ledger.journey(JOURNEY)[0].body
    stem = ".countersign-probe-killed-half-way"
    world.ledger.append([Entry(JOURNEY, "probing", {**probing, "stem": stem})])
    for ending in ("a", "b.part"):
        world.leave(stem + ending, b"half")
    look_after(place(world))
    assert list(world.out.iterdir()) == [theirs]
    assert kinds(world) == ["probing", "probed", "probing", "probed"]
