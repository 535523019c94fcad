"""Transfers that other programs made: their files, logs and acknowledgements become one record each, whatever happens on the way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from blocks.ledger import Entry, Ledger
from flows.collect import collect
from tests.world import World

PRICES = b"sku,price\nA-1,9.90\n"
LINE = "2026-11-19 23:10:02 sftp.brightware.example PUT /in/prices.csv {size} 226 Transfer complete"
NOISE = "2026-11-19 23:10:00 job 4711 begins\n"
FOLDERS = ("out", "logs", "acks")
STEPS = {"judged", "filed", "recording", "recorded", "cleared"}


def agree(world: World, **transfers: Any) -> None:
    for folder in FOLDERS:
        (world.remote / folder).mkdir(exist_ok=True)
    world.agree(
        classify=[{"pattern": r"(?P<set>.+)\.csv", "doctype": "transfer"}],
        transfers={
            "log": {"folder": str(world.remote / "logs"), "pattern": r"(?P<set>.+)\.log"},
            "acknowledgement": {"folder": str(world.remote / "acks"), "pattern": r"(?P<set>.+)\.ack"},
            "line": r"(?P<time>\S+ \S+) (?P<server>\S+) PUT (?P<path>\S+) (?P<size>\d+) (?P<reply>.+)",
            "time_format": "%Y-%m-%d %H:%M:%S",
            **transfers,
        },
        target={
            "repository": "ecm",
            "folder": f"Tests/{world.remote.name}",
            "categories": {"Partner Document": {"Reference": "{server} {sent}", "SHA-256": "{digest}"}},
            "records_class": "Contracts",
        },
        owner="jobs@example.com",
    )


def leave(world: World, *, log: str = LINE.format(size=len(PRICES)), ack: bytes | None = None, document: bool = True) -> None:
    """Another program has sent a file, and leaves what it leaves."""
    if document:
        (world.remote / "out" / "prices.csv").write_bytes(PRICES)
    if log:
        (world.remote / "logs" / "prices.log").write_text(f"{NOISE}{log}\n")
    if ack is not None:
        (world.remote / "acks" / "prices.ack").write_bytes(ack)


def run(world: World) -> State:
    state: State = collect("acme", world.stream, patience_seconds=5, return_state=True)
    return state


def left(world: World) -> list[str]:
    return sorted(path.name for folder in FOLDERS for path in (world.remote / folder).iterdir())


def cases(world: World) -> list[str | None]:
    return [case.code for case in world.ledger.cases()]


def test_file_log_and_acknowledgement_are_one_record(world: World) -> None:
    agree(world)
    leave(world, ack=b"OK")
    assert run(world).name == "Filed"
    filed = world.filed()
    assert set(filed) == {"prices.csv", "prices.log", "prices.ack", "prices.transmission.json"}
    record = json.loads(filed["prices.transmission.json"])
    (sent,) = record["transmissions"]
    assert (sent["to"], sent["path"], sent["replies"]) == (
        "sftp.brightware.example",
        "/in/prices.csv",
        ["226 Transfer complete"],
    )
    assert sent["at"] == "2026-11-19T23:10:02.000000Z" and sent["sha256"] == hashlib.sha256(PRICES).hexdigest()
    assert sent["in_words"].startswith("as line 2 of the log says")
    assert [one["name"] for one in record["acknowledgements"]] == ["prices.ack"]
    assert record["told_by"] and record["approvers"] == [] and record["certificate"] is None
    with world.repository() as session:
        kept = session.find(("Tests", world.remote.name), "prices.transmission.json")
        assert kept is not None
        values = session.get(kept.id).categories["Partner Document"]
        assert values["Reference"] == "sftp.brightware.example 2026-11-19"
        assert kept.id in {found.id for found in session.search(text="sftp.brightware.example")}
    assert left(world) == [], "and only then the originals go"
    assert run(world).name == "Nothing new" and world.versions() == dict.fromkeys(filed, 1)


def test_an_incomplete_set_waits_becomes_a_case_and_goes_on_when_it_is_complete(world: World) -> None:
    agree(world, wait="PT0.000001S")
    leave(world, log="")
    for _ in range(2):
        run(world)
    assert world.filed() == {} and left(world) == ["prices.csv"]
    assert cases(world) == ["transfer-incomplete"], "one case, however often it is looked at"
    (case,) = world.ledger.cases()
    assert "log has not come" in str(case.reason) and case.owner == "jobs@example.com"
    leave(world, document=False)
    assert run(world).name == "Filed"
    assert "prices.transmission.json" in world.filed() and cases(world) == [] and left(world) == []


@pytest.mark.parametrize(
    ("log", "code"),
    [
        pytest.param(LINE.format(size=18), "size-differs", id="another size"),
        pytest.param(
            LINE.format(size=19).replace("226 Transfer complete", "550 No"), "transfer-failed", id="the server said no"
        ),
        pytest.param(LINE.format(size=19).replace("prices", "stock"), "not-in-log", id="another file"),
    ],
)
def test_what_is_not_as_its_log_says_is_refused_with_its_set(world: World, log: str, code: str) -> None:
    agree(world)
    leave(world, log=log)
    assert run(world).name == "Nothing filed, 2 quarantined"
    assert world.filed() == {} and cases(world) == [code, code]


def test_an_acknowledgement_that_comes_later_is_added_to_the_record(world: World) -> None:
    agree(world)
    leave(world)
    assert run(world).name == "Filed"
    assert json.loads(world.filed()["prices.transmission.json"])["acknowledgements"] == []
    leave(world, log="", document=False, ack=b"OK")
    assert run(world).name == "Filed"
    assert world.versions() == {"prices.csv": 1, "prices.log": 1, "prices.ack": 1, "prices.transmission.json": 2}
    record = json.loads(world.filed()["prices.transmission.json"])
    assert [one["name"] for one in record["acknowledgements"]] == ["prices.ack"]
    leave(world, log="", document=False, ack=b"OK, posted")
    assert run(world).name == "Filed"
    record = json.loads(world.filed()["prices.transmission.json"])
    assert [one["name"] for one in record["acknowledgements"]] == ["prices.ack"] * 2, "what was said before stands"
    assert [one["path"] for one in record["transmissions"]] == ["/in/prices.csv"] and left(world) == []


def test_a_run_that_is_killed_anywhere_is_gone_on_with(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped dead before every step, one after the other: at the end there is one record, and nothing else is left."""
    agree(world)
    leave(world, ack=b"OK")
    append, survived = Ledger.append, set[str]()

    def dying(self: Ledger, entries: Sequence[Entry], *more: Any) -> Any:
        kind = entries[0].kind if entries else ""
        if kind in STEPS and kind not in survived:
            survived.add(kind)
            raise RuntimeError("killed here")
        return append(self, entries, *more)

    # A kill between two steps, once at each; real kills of processes are in test_crashes.py.
    monkeypatch.setattr(Ledger, "append", dying)
    while (state := run(world)).is_failed():
        assert "killed here" in str(state.message), state
    assert survived == STEPS and left(world) == []
    assert world.versions() == {"prices.csv": 1, "prices.log": 1, "prices.ack": 1, "prices.transmission.json": 1}
    world.ledger.verify()


def test_the_intake_leaves_such_a_stream_alone(world: World) -> None:
    agree(world)
    leave(world)
    state = world.run()
    assert state.is_failed() and "flow 'collect'" in str(state.message)
