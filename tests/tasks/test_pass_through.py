"""Large files that pass straight from the source into the repository, and what becomes of them when something breaks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from blocks.errors import TransferIncomplete
from blocks.profile import load_repositories
from blocks.relay import Relay
from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.spool import Spool
from blocks.values import Filing, Inbound, RemoteFile
from tasks import connections, pass_through
from tasks.rules.passing import may_pass, seen_whole
from tests.sandbox.extended_ecm import ExtendedEcmSandbox
from tests.tasks.dock import Dock

HEAD = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"
LEAST = 1024 * 1024 + 1
"""Smaller bodies are sent in one piece."""
VIDEOS: dict[str, Any] = {
    "classify": [{"pattern": r".*\.(mp4|pdf)", "doctype": "video"}],
    "target": {"repository": "kept", "folder": "Videos"},
    "duplicates": "file",
    "ordered": False,
    "limits": {"pass_through_bytes": LEAST},
    "disposition": {"accepted": "remove"},
}


def video(size: int = LEAST + 1, seed: int = 1) -> bytes:
    return HEAD + hashlib.shake_256(bytes([seed])).digest(size - len(HEAD))


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExtendedEcmSandbox]:
    """Extended ECM in this process; without uploads in parts."""
    running = ExtendedEcmSandbox(tmp_path_factory.mktemp("ecm"), seed={}).start()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def ecm(sandbox: ExtendedEcmSandbox, dock: Dock, monkeypatch: pytest.MonkeyPatch) -> ExtendedEcmSandbox:
    """The dock's repository, with a folder of this test's own."""
    monkeypatch.setenv("ECM_PASSWORD", sandbox.PASSWORD)
    monkeypatch.setenv("COUNTERSIGN_PAUSE_SECONDS", "0.02")
    sandbox.faults.set(dict.fromkeys(sandbox.faults.as_dict(), 0))
    dock.agree(**{**VIDEOS, "target": {"repository": "kept", "folder": f"Videos/{dock.home.parent.name}"}})
    repository = {"kind": "extended-ecm", "url": sandbox.url, "username": sandbox.USER, "password": "env:ECM_PASSWORD"}
    (dock.profiles / "repositories.yaml").write_text(yaml.safe_dump({"repositories": {"kept": repository}}))
    return sandbox


def kept(dock: Dock) -> dict[str, list[bytes]]:
    """All versions of all documents in the folder."""
    spool = Spool(dock.home / "read-back", floor_bytes=0)
    found: dict[str, list[bytes]] = {}
    with load_repositories(dock.profiles)["kept"].session() as session:
        for document in session.look(("Videos", dock.home.parent.name)):
            found[document.name] = []
            for number in range(1, len(session.filed_by(document.id)) + 1):
                with spool.batch() as batch:
                    done = session.fetch(document.id, number, batch)
                found[document.name].append(spool.path(done.digest).read_bytes())
    return found


def spooled(dock: Dock) -> list[Path]:
    return list(connections.spool().store.glob("*/*"))


def test_a_large_video_passes_through(dock: Dock, ecm: ExtendedEcmSandbox) -> None:
    dock.leave("a.mp4", video())
    dock.leave("small.mp4", video(1000))
    assert dock.run() == {"a.mp4": "filed", "small.mp4": "filed"}
    assert kept(dock) == {"a.mp4": [video()], "small.mp4": [video(1000)]}
    assert dock.kinds("a.mp4") == ["arrived", "passing", "fetched", "judged", "filing", "filed", "clearing", "cleared"]
    assert "passing" not in dock.kinds("small.mp4")
    told = {entry.kind: entry.body for entry in dock.history("a.mp4")}
    digest = hashlib.sha256(video()).hexdigest()
    assert {told[kind]["digest"] for kind in ("fetched", "judged", "filing", "filed")} == {digest}
    assert (told["filed"]["size"], told["filed"]["media_type"]) == (LEAST + 1, "video/mp4")
    assert told["passing"]["digest"] is None
    assert [path.name for path in spooled(dock)] == [hashlib.sha256(video(1000)).hexdigest()], (
        "the large one was never on our disk"
    )
    assert not list(dock.out.iterdir())


def test_what_is_no_video_takes_the_usual_way(dock: Dock, ecm: ExtendedEcmSandbox) -> None:
    dock.leave("a.mp4", b"%PDF-1.7\n" + bytes(LEAST))
    assert dock.run() == {"a.mp4": "quarantined"}
    assert "passing" not in dock.kinds("a.mp4")
    assert spooled(dock)


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param({"lost-answer": 1}, id="the answer is lost"),
        pytest.param({"write-drop": 1}, id="the server hangs up in mid-body"),
        pytest.param({"write-401": 1}, id="the ticket ends in mid-body"),
    ],
)
def test_a_lost_answer_is_settled_by_looking(dock: Dock, ecm: ExtendedEcmSandbox, faults: dict[str, float]) -> None:
    dock.leave("first.mp4", video(1000))
    dock.run()  # the folder is there now: the next call that changes something makes the document
    dock.leave("a.mp4", video())
    ecm.faults.set(faults)
    assert dock.run()["a.mp4"] == "filed"
    assert not any(ecm.faults[name] for name in faults), "it struck"
    assert kept(dock)["a.mp4"] == [video()]
    assert dock.kinds("a.mp4").count("filed") == 1


class Killed(BaseException):
    """What a kill looks like to the steps before it."""


@pytest.fixture
def killed_once(dock: Dock, ecm: ExtendedEcmSandbox) -> Callable[[bytes], None]:
    def run(content: bytes) -> None:
        """The repository has it, and we end before the ledger hears of that."""
        dock.leave("a.mp4", content)

        def die(*_: object) -> None:
            raise Killed

        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr(pass_through, "_record", die)
            dock.run()
        assert dock.kinds("a.mp4") == ["arrived", "passing"]
        assert kept(dock)["a.mp4"] == [content]

    return run


def test_after_a_kill_the_next_run_finds_what_was_filed(dock: Dock, killed_once: Callable[[bytes], None]) -> None:
    killed_once(video())
    [place] = [entry.body["folder"] for entry in dock.history("a.mp4") if entry.kind == "passing"]
    named = (dock.profiles / "repositories.yaml").read_text()
    dock.agree(**{**VIDEOS, "target": {"repository": "kept", "folder": "Elsewhere"}, "duplicates": "record"})
    (dock.profiles / "repositories.yaml").write_text(named)
    dock.leave("b.mp4", video())
    assert dock.run() == {"a.mp4": "filed", "b.mp4": "filed"}, "it is nobody's duplicate, and its key is its own"
    assert kept(dock) == {"a.mp4": [video()]}, "once"
    assert dock.kinds("a.mp4")[:6] == ["arrived", "passing", "fetched", "judged", "filing", "filed"]
    assert dock.history("a.mp4")[5].body["folder"] == "/".join(place), "where it was meant to be then, whatever is agreed now"
    assert not list(dock.out.iterdir())


def test_after_a_kill_other_bytes_at_the_source_are_for_a_person(dock: Dock, killed_once: Callable[[bytes], None]) -> None:
    killed_once(video())
    stands = dock.out / "a.mp4"
    before = stands.stat()
    stands.write_bytes(video(seed=2))
    os.utime(stands, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert dock.run() == {"a.mp4": "quarantined"}
    assert dock.codes() == ["outcome-unknown"]
    assert kept(dock)["a.mp4"] == [video()]


def test_a_source_that_breaks_off_files_nothing(ecm: ExtendedEcmSandbox, dock: Dock) -> None:
    relay = Relay("a.mp4", held_bytes=4 * LEAST)
    sink = relay.open()
    sink.write(video()[:LEAST])
    sink.write(video()[LEAST:])
    sink.keep()  # every byte came, and the endpoint did not say that this was all
    filing = Filing("j-broken", "a.mp4", ("Videos", "broken"), Path(), "", LEAST + 1, "video/mp4")
    with load_repositories(dock.profiles)["kept"].session() as session:
        assert isinstance(session, ExtendedEcmSession)
        with pytest.raises(TransferIncomplete, match="did not pass through us whole"):
            session.file_arriving(filing, relay.pieces())
        assert session.find(("Videos", "broken"), "a.mp4") is None


def test_a_relay_holds_no_more_than_it_may() -> None:
    relay = Relay("a", held_bytes=10)
    sink = relay.open()
    sink.write(b"x" * 10)
    relay.give_up("nobody reads")
    with pytest.raises(TransferIncomplete, match="nobody reads"):
        sink.write(b"y")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        pytest.param({}, None, id="as agreed"),
        pytest.param({"duplicates": "record"}, "duplicates", id="duplicates are told by their digest"),
        pytest.param({"ordered": True}, "ordered", id="later files wait"),
        pytest.param({"limits": {"pass_through_bytes": 0}}, "pass_through_bytes", id="switched off"),
        pytest.param({"target": {"repository": "kept", "folder": "V", "name": "{digest}.mp4"}}, "digest", id="a name with it"),
        pytest.param(
            {"target": {"repository": "kept", "folder": "V", "categories": {"C": {"SHA-256": "{digest}"}}}},
            "digest",
            id="a value with it",
        ),
        pytest.param({"target": {"repository": "kept", "folder": "V", "collision": "keep both"}}, "keep both", id="keep both"),
        pytest.param({"triage": ["project"]}, "triage", id="people tell more"),
        pytest.param({"workflow": "Library/Review"}, "workflow", id="somebody looks at it"),
    ],
)
def test_what_is_looked_at_whole(changes: dict[str, Any], why: str | None) -> None:
    stream = Inbound.model_validate({"endpoint": "drop", "folder": "/out", **VIDEOS, **changes})
    reasons = list(seen_whole(stream))
    assert [why in reason for reason in reasons] == ([] if why is None else [True])
    assert may_pass(RemoteFile("/out", b"a.mp4", LEAST, None), stream) is (why is None)
    assert not may_pass(RemoteFile("/out", b"a.mp4", LEAST - 1, None), stream)
    assert not may_pass(RemoteFile("/out", b"a.csv", LEAST, None), stream)
