"""Large files that pass straight from the source into the repository, and what becomes of them when something breaks."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from blocks.endpoints.base import Endpoint
from blocks.errors import ConfigurationError, LeaseLost, RepositoryUnreachable, TransferIncomplete
from blocks.ledger import Recorded
from blocks.profile import load_repositories
from blocks.relay import HELD_BYTES, Relay, Take
from blocks.repositories.arriving import Arriving
from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.spool import Spool
from blocks.values import Fetched, Filing, Inbound, Missed, Outcome, RemoteFile
from tasks import connections, pass_through
from tasks.connections import repository_session
from tasks.consignment import Consignment
from tasks.pick_up import pick_up
from tasks.retry import reopened
from tasks.rules.holding import nobody_knows
from tasks.rules.passing import may_pass, seen_whole
from tests.ledger.clock import Clock
from tests.sandbox.extended_ecm import ExtendedEcmSandbox
from tests.tasks.dock import Dock
from tests.tasks.test_cases import offered

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


def test_only_what_passes_through_goes_in_larger_groups(dock: Dock, ecm: ExtendedEcmSandbox) -> None:
    groups = list[int]()

    def seen(step: str, consignment: Consignment) -> None:
        if step == pick_up.fn.__name__:
            groups.append(consignment.size)

    into_ecm = (dock.profiles / "repositories.yaml").read_text()
    dock.agree(**{**VIDEOS, "limits": {"pass_through_bytes": LEAST, "consignment_bytes": LEAST + 2}})
    into_a_folder = (dock.profiles / "repositories.yaml").read_text()
    for first, repositories in ((1, into_ecm), (3, into_a_folder)):
        (dock.profiles / "repositories.yaml").write_text(repositories)
        for seed in (first, first + 1):
            dock.leave(f"{seed}.mp4", video(seed=seed))
        assert set(dock.run(before=seen).values()) == {"filed"}
    assert groups == [2, 1, 1]


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


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"categories": {"None": {"such": "one"}}}, "unknown-category", id="no such category"),
        pytest.param({"access": [{"who": "Nobody", "right": "read"}]}, "unknown-account", id="no such account"),
        pytest.param({"collision": "refuse"}, "name-taken", id="the name is taken"),
    ],
)
def test_refused_at_once_nothing_is_begun(dock: Dock, ecm: ExtendedEcmSandbox, changes: dict[str, Any], code: str) -> None:
    """The repository has answered that it takes nothing, so nobody is sent there to look."""
    folder = f"Videos/{dock.home.parent.name}"
    dock.leave("a.mp4", video(seed=2))
    assert dock.run() == {"a.mp4": "filed"}
    named, agreed = (dock.profiles / "repositories.yaml").read_text(), (dock.profiles / "acme.yaml").read_text()
    dock.agree(**{**VIDEOS, "target": {"repository": "kept", "folder": folder, **changes}})
    (dock.profiles / "repositories.yaml").write_text(named)
    dock.leave("a.mp4", video(HELD_BYTES + LEAST))  # more than is held: its source waits, and must be told
    assert dock.run() == {"a.mp4": "quarantined"}
    assert dock.kinds("a.mp4")[:5] == ["arrived", "fetched", "judged", "filing", "quarantined"]
    assert not {"passing", "unknown"} & set(dock.kinds("a.mp4"))
    [case] = dock.cases(code)
    assert "may hold it" not in str(case.reason)
    assert "perhaps-filed" not in [finding["code"] for finding in dock.history("a.mp4")[4].body["findings"]]
    assert not nobody_knows(dock.history("a.mp4"))
    assert kept(dock) == {"a.mp4": [video(seed=2)]}

    (dock.profiles / "acme.yaml").write_text(agreed)
    [row] = dock.retry(case.journey)
    assert row.outcome == "filed"
    assert kept(dock) == {"a.mp4": [video(seed=2), video(HELD_BYTES + LEAST)]}


def test_a_source_that_gives_nothing_is_not_waited_for(dock: Dock, ecm: ExtendedEcmSandbox) -> None:
    stands = dock.leave("a.mp4", video())

    def gone(step: str, _: Consignment) -> None:
        if step == pick_up.fn.__name__:
            stands.unlink(missing_ok=True)

    assert set(dock.run(before=gone).values()).isdisjoint({"filed"})
    assert "passing" not in dock.kinds("a.mp4")


def test_no_byte_leaves_before_it_is_recorded_that_it_begins(
    dock: Dock, ecm: ExtendedEcmSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_: object) -> None:
        raise Killed

    monkeypatch.setattr(pass_through, "_while_leased", lambda *_: die)
    dock.leave("a.mp4", video())
    with pytest.raises(Killed):
        dock.run()
    assert dock.kinds("a.mp4") == ["arrived", "passing"]


def test_refused_once_the_bytes_are_there_is_told(dock: Dock, ecm: ExtendedEcmSandbox) -> None:
    """A class that is none is found out when the document is to get it."""
    named = (dock.profiles / "repositories.yaml").read_text()
    target = {"repository": "kept", "folder": f"Videos/{dock.home.parent.name}", "records_class": "File Plan"}
    dock.agree(**{**VIDEOS, "target": target})
    (dock.profiles / "repositories.yaml").write_text(named)
    dock.leave("a.mp4", video())
    assert dock.run() == {"a.mp4": "quarantined"}
    assert dock.kinds("a.mp4")[:2] == ["arrived", "passing"]
    [case] = dock.cases()
    assert case.code == "refused"
    assert "may hold it" in str(case.reason)
    assert nobody_knows(dock.history("a.mp4"))


@pytest.mark.parametrize(
    ("there", "outcome"),
    [
        pytest.param(video(12 * LEAST), "filed", id="these bytes"),
        pytest.param(video(12 * LEAST, seed=2), "quarantined", id="others"),
        pytest.param(video(12 * LEAST - 1), "quarantined", id="fewer"),
    ],
)
def test_what_a_ledger_restored_from_a_backup_does_not_know_of_is_compared(
    dock: Dock, ecm: ExtendedEcmSandbox, there: bytes, outcome: str, tmp_path: Path
) -> None:
    """It was filed as this journey before; larger than what a relay holds, so that nobody waits for bytes that nobody reads."""
    before = tmp_path / "before.mp4"
    before.write_bytes(there)

    def filed_before(step: str, consignment: Consignment) -> None:
        if step == "pick_up":
            [item], folder = consignment.items, ("Videos", dock.home.parent.name)
            digest = hashlib.sha256(there).hexdigest()
            filing = Filing(item.journey, "a.mp4", folder, before, digest, len(there), "video/mp4")
            with load_repositories(dock.profiles)["kept"].session() as session:
                list(session.file([filing]))

    dock.leave("a.mp4", video(12 * LEAST))
    assert dock.run(before=filed_before) == {"a.mp4": outcome}
    assert kept(dock) == {"a.mp4": [there]}
    assert dock.codes() == ([] if outcome == "filed" else ["outcome-unknown"])


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


def test_after_a_kill_a_source_that_has_it_no_more_is_for_a_person(dock: Dock, killed_once: Callable[[bytes], None]) -> None:
    killed_once(video())
    (dock.out / "a.mp4").unlink()
    assert dock.run()["a.mp4"] == "quarantined"
    assert dock.codes() == ["outcome-unknown"]
    [journey] = dock.journeys("a.mp4")
    [row] = dock.retry(journey)
    assert (row.outcome, dock.codes()) == ("quarantined", ["outcome-unknown"]), "until a person closes it"
    assert kept(dock)["a.mp4"] == [video()]


def test_after_a_kill_nothing_is_filed_in_its_place(dock: Dock, killed_once: Callable[[bytes], None]) -> None:
    killed_once(video())
    named = (dock.profiles / "repositories.yaml").read_text()
    dock.agree(**{**VIDEOS, "limits": {"largest_bytes": LEAST}})
    (dock.profiles / "repositories.yaml").write_text(named)
    assert dock.run() == {"a.mp4": "quarantined"}
    [journey] = dock.journeys("a.mp4")
    with pytest.raises(ConfigurationError, match="may have filed it"), reopened(journey, "mine", "ann", corrected=True):
        pass


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"limits": {"largest_bytes": LEAST}}, "too-large", id="before it is fetched"),
        pytest.param({"naming": "[0-9]+[.]mp4"}, "naming-rule", id="when it is checked"),
        pytest.param(
            {"target": {"repository": "kept", "folder": "V", "categories": {"None": {"such": "one"}}}},
            "unknown-category",
            id="by the repository",
        ),
    ],
)
def test_after_a_kill_a_refusal_says_that_the_repository_may_hold_it(
    dock: Dock, killed_once: Callable[[bytes], None], changes: dict[str, Any], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_once(video())
    named, agreed = (dock.profiles / "repositories.yaml").read_text(), (dock.profiles / "acme.yaml").read_text()
    dock.agree(**{**VIDEOS, **changes})
    (dock.profiles / "repositories.yaml").write_text(named)
    assert dock.run() == {"a.mp4": "quarantined"}
    [case] = dock.cases(code)
    assert "the repository may hold it" in str(case.reason)
    [refused] = [entry for entry in dock.history("a.mp4") if entry.kind == "quarantined"]
    [told] = [finding for finding in refused.body["findings"] if finding["code"] == "perhaps-filed"]
    [begun] = [entry.body for entry in dock.history("a.mp4") if entry.kind == "passing"]
    assert all(word in told["message"] for word in (begun["repository"], *begun["folder"], begun["filed_as"]))
    assert "retry" in told["fix"] and "remove" in told["fix"]
    form, _, _ = offered(dock, case.journey, monkeypatch)
    assert "the repository may hold it whole" in form and begun["filed_as"] in form and told["fix"] in form
    assert nobody_knows(dock.history("a.mp4")), "nothing that we hold of it goes before that is known"

    (dock.profiles / "acme.yaml").write_text(agreed)
    [row] = dock.retry(case.journey)
    assert row.outcome == "filed"
    assert kept(dock) == {"a.mp4": [video()]}, "it was there, and is completed"
    assert not dock.cases()
    assert not nobody_knows(dock.history("a.mp4"))


@pytest.fixture
def in_doubt(dock: Dock, ecm: ExtendedEcmSandbox) -> Iterator[str]:
    """A file whose answer is lost, where looking does not tell what becomes of it: a version of a document that is there."""
    dock.leave("a.mp4", video())
    dock.run()
    dock.leave("a.mp4", video(seed=2))
    ecm.faults.set({"write-late": 1, "late-calls": 100_000})
    yield "a.mp4"
    assert not ecm.faults["write-late"], "it struck"
    assert dock.codes() == ["outcome-unknown"]
    assert [kind for kind in dock.kinds("a.mp4") if kind in ("passing", "unknown", "filed")] == ["passing", "unknown"]
    assert kept(dock)["a.mp4"] == [video()]


def test_what_looking_does_not_tell_is_for_a_person(dock: Dock, in_doubt: str) -> None:
    assert dock.run() == {in_doubt: "quarantined"}


def test_doubt_outlives_a_kill(dock: Dock, in_doubt: str) -> None:
    def die(step: str, _: object) -> None:
        if step == "set_aside":
            raise Killed

    with pytest.raises(Killed):
        dock.run(before=die)
    assert "quarantined" not in dock.kinds(in_doubt)
    assert dock.run() == {in_doubt: "quarantined"}


def tried_again(step: str, consignment: Consignment) -> None:
    """The task's first try broke off at its end, so it is given the same consignment once more."""
    if step == "pick_up":
        pick_up.fn(consignment)


def test_doubt_outlives_a_task_that_is_tried_again(dock: Dock, in_doubt: str) -> None:
    assert dock.run(before=tried_again) == {in_doubt: "quarantined"}


def test_a_task_that_is_tried_again_knows_what_it_filed(dock: Dock, ecm: ExtendedEcmSandbox) -> None:
    dock.leave("a.mp4", video())
    assert dock.run(before=tried_again) == {"a.mp4": "filed"}
    assert dock.kinds("a.mp4") == ["arrived", "passing", "fetched", "judged", "filing", "filed", "clearing", "cleared"]
    assert kept(dock) == {"a.mp4": [video()]}


def test_filed_and_the_source_does_not_say_that_it_was_whole(
    dock: Dock, ecm: ExtendedEcmSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = pass_through._fetch

    def changed(endpoint: Endpoint, file: RemoteFile, relay: Relay) -> tuple[Fetched | Missed, str | None]:
        fetch(endpoint, file, relay)
        return Missed(file, Outcome.CHANGED, "said too late"), None

    monkeypatch.setattr(pass_through, "_fetch", changed)
    dock.leave("a.mp4", video())
    with pytest.raises(TransferIncomplete, match="did not say that it was whole"):
        dock.run()
    assert dock.kinds("a.mp4") == ["arrived", "passing"]
    assert dock.run() == {"a.mp4": "filed"}, "its bytes are those that the source has"
    assert kept(dock) == {"a.mp4": [video()]}


def test_a_source_that_changes_on_the_way_files_nothing(
    dock: Dock, ecm: ExtendedEcmSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, stands = Relay.put, dock.leave("a.mp4", video())

    def written(relay: Relay, piece: bytes | memoryview) -> None:
        stands.write_bytes(video(LEAST + 2, seed=2))
        put(relay, piece)

    with monkeypatch.context() as patch:
        patch.setattr(Relay, "put", written)
        dock.run()
    assert "filed" not in dock.kinds("a.mp4")
    assert dock.run() == {"a.mp4": "filed"}
    assert kept(dock) == {"a.mp4": [video(LEAST + 2, seed=2)]}


def test_a_worker_that_stalls_past_its_lease_completes_nothing(
    dock: Dock, ecm: ExtendedEcmSandbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In mid-body; another one files it meanwhile."""
    while_leased, others = pass_through._while_leased, list[dict[str, str]]()

    def stalled(take: Take, consignment: Consignment) -> Take:
        monkeypatch.setattr(pass_through, "_while_leased", while_leased)

        def stall(piece: bytes | memoryview) -> None:
            while_leased(take, consignment)(piece)
            if not others:
                clock.ahead += timedelta(minutes=5)
                others.append(dock.run())
                consignment._held._deadline = 0.0

        return stall

    monkeypatch.setattr(pass_through, "_while_leased", stalled)
    dock.leave("a.mp4", video())
    with pytest.raises(LeaseLost):
        dock.run()
    assert others == [{"a.mp4": "filed"}]
    assert dock.kinds("a.mp4").count("passing") == dock.kinds("a.mp4").count("filed") == 1
    assert kept(dock) == {"a.mp4": [video()]}


def test_a_worker_that_stalls_past_its_lease_before_the_source_says_that_it_is_whole_completes_nothing(
    dock: Dock, ecm: ExtendedEcmSandbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All bytes have come, and the last ones are held back for it; another one files it meanwhile."""
    while_leased, end, pour = pass_through._while_leased, Relay.end, Arriving.pour
    consignments, others, given = list[Consignment](), list[dict[str, str]](), list[int]()

    def counted(arriving: Arriving, take: Take) -> None:
        pour(arriving, lambda piece: (take(piece), given.append(len(piece))))

    def seen(take: Take, consignment: Consignment) -> Take:
        consignments.append(consignment)
        return while_leased(take, consignment)

    def stalled(relay: Relay) -> None:
        monkeypatch.setattr(Relay, "end", end)
        monkeypatch.setattr(pass_through, "_while_leased", while_leased)
        clock.ahead += timedelta(minutes=5)
        others.append(dock.run())
        consignments[0]._held._deadline = 0.0
        end(relay)

    monkeypatch.setattr(Arriving, "pour", counted)
    monkeypatch.setattr(pass_through, "_while_leased", seen)
    monkeypatch.setattr(Relay, "end", stalled)
    content = video(HELD_BYTES + 1)  # so that it goes out while it comes
    dock.leave("a.mp4", content)
    with pytest.raises(LeaseLost):
        dock.run()
    assert 0 < sum(given) < len(content)
    assert others == [{"a.mp4": "filed"}]
    assert dock.kinds("a.mp4").count("passing") == dock.kinds("a.mp4").count("filed") == 1
    assert kept(dock) == {"a.mp4": [content]}


def test_what_another_has_begun_with_is_not_passed_through_twice(
    dock: Dock, ecm: ExtendedEcmSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = pass_through._Intent.write

    def second(intent: pass_through._Intent) -> Recorded:
        write(pass_through._Intent(intent._item, intent._filing, intent._consignment))
        return write(intent)

    monkeypatch.setattr(pass_through._Intent, "write", second)
    dock.leave("a.mp4", video())
    assert dock.run() == {"a.mp4": "filed"}
    assert spooled(dock), "it took the usual way"
    assert dock.kinds("a.mp4").count("passing") == 1
    assert kept(dock) == {"a.mp4": [video()]}


def test_a_repository_that_is_away_keeps_nothing_from_being_fetched(dock: Dock, ecm: ExtendedEcmSandbox) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        there = (dock.profiles / "repositories.yaml").read_text()
        away = there.replace(ecm.url, f"http://127.0.0.1:{nobody.getsockname()[1]}")
        (dock.profiles / "repositories.yaml").write_text(away)
        dock.leave("a.mp4", video())
        dock.leave("small.mp4", video(1000))
        with pytest.raises(RepositoryUnreachable):
            dock.run()
    for name in ("a.mp4", "small.mp4"):
        assert dock.kinds(name) == ["arrived", "fetched", "judged", "filing"]


def test_large_files_share_a_session(dock: Dock, ecm: ExtendedEcmSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(
        pass_through, "repository_session", lambda repository: opened.append(repository) or repository_session(repository)
    )
    dock.leave("a.mp4", video())
    dock.leave("b.mp4", video())
    assert set(dock.run().values()) == {"filed"}
    assert len(opened) == 1
    dock.agree(**VIDEOS)  # into a folder, where nothing passes through
    dock.leave("a.mp4", video())
    assert dock.run() == {"a.mp4": "filed"}
    assert len(opened) == 1


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
            session.file_arriving(filing, relay.pour)
        assert session.find(("Videos", "broken"), "a.mp4") is None


def test_what_is_written_while_somebody_takes_is_neither_held_nor_copied() -> None:
    relay = Relay("a", held_bytes=10)
    sink, taken, writers = relay.open(), list[bytes | memoryview](), set[int]()

    def take(piece: bytes | memoryview) -> None:
        taken.append(piece)
        writers.add(threading.get_ident())

    sink.write(b"held")
    with ThreadPoolExecutor(1) as reader:
        poured = reader.submit(relay.pour, take)
        while not taken:
            time.sleep(0.001)
        piece = memoryview(b"x" * 100)
        sink.write(piece)
        assert taken[0] == b"held" and taken[1] is piece
        assert threading.get_ident() in writers
        assert not poured.done(), "nobody has said yet that it is whole"
        digest = sink.finish().digest
        poured.result(10)
    assert digest == hashlib.sha256(b"".join(taken)).hexdigest()


def test_what_ends_who_takes_ends_who_writes_too() -> None:
    relay, ended = Relay("a"), BrokenPipeError("hung up")
    sink = relay.open()

    def take(piece: bytes | memoryview) -> None:
        if bytes(piece) == b"second":
            raise ended

    with ThreadPoolExecutor(1) as reader:
        poured = reader.submit(relay.pour, take)
        sink.write(b"first")
        while relay._take is None:
            time.sleep(0.001)
        with pytest.raises(TransferIncomplete, match="nobody takes it any more"):
            sink.write(b"second")
        with pytest.raises(BrokenPipeError) as told:
            poured.result(10)
    assert told.value is ended


def test_who_takes_does_not_end_while_a_piece_is_on_its_way() -> None:
    """A run that is cancelled while it waits for the end: the connection it closes must not be written to any more."""
    relay, order, going = Relay("a"), list[str](), threading.Event()
    sink = relay.open()

    class Cancelled(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            while not going.is_set():
                super().wait(0.01)
            raise KeyboardInterrupt

    def take(piece: bytes | memoryview) -> None:
        going.set()
        time.sleep(0.1)
        order.append("taken")

    def write() -> None:
        while relay._take is None:
            time.sleep(0.001)
        with pytest.raises(TransferIncomplete, match="nobody takes it any more"):
            while True:
                sink.write(b"piece")
                time.sleep(0.01)  # as hashing takes its time

    relay._changed = Cancelled()
    with ThreadPoolExecutor(1) as writer:
        written = writer.submit(write)
        with pytest.raises(KeyboardInterrupt):
            relay.pour(take)
        order.append("ended")
        written.result(10)
    assert order[-1] == "ended" and "taken" in order


def test_what_is_held_goes_out_before_what_is_written_then() -> None:
    relay, taken = Relay("a"), list[bytes]()
    sink = relay.open()
    sink.write(b"1")
    sink.write(b"2")
    with ThreadPoolExecutor(1) as writer:

        def take(piece: bytes | memoryview) -> None:
            if not taken:
                writer.submit(lambda: (sink.write(b"3"), sink.write(b"4"), sink.finish()))
                time.sleep(0.05)
            taken.append(bytes(piece))

        relay.pour(take)
    assert taken == [b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize(
    "pieces", [[b"abc", b"d"], [b"a", b"bcdef"], [b"abcde", b"f"]], ids=["fewer", "more", "more after all"]
)
def test_what_arrives_otherwise_than_announced_is_never_given_whole(pieces: list[bytes]) -> None:
    given = list[bytes | memoryview]()
    arriving = Arriving(lambda take: [take(piece) for piece in pieces], "a", "", 5)
    with pytest.raises(TransferIncomplete, match="5 were announced"):
        arriving.pour(given.append)
    assert sum(map(len, given)) < 5


def test_the_last_bytes_that_arrive_are_given_when_they_are_known_to_be_right() -> None:
    given = list[bytes | memoryview]()

    def pour(take: Take) -> None:
        take(b"abc")
        take(memoryview(b"de"))
        assert given == [b"abc"]

    Arriving(pour, "a", "", 5).pour(given.append)
    assert given == [b"abc", b"de"]


def test_more_than_announced_is_not_taken_to_its_end() -> None:
    """It may have none, and what is held back is in memory."""
    taken = list[bytes]()

    def pour(take: Take) -> None:
        while len(taken) < 100:
            taken.append(b"abc")
            take(b"abc")

    with pytest.raises(TransferIncomplete, match="5 were announced"):
        Arriving(pour, "a", "", 5).pour(lambda _: None)
    assert len(taken) == 2


def test_what_is_kept_of_bytes_that_come_does_not_change_with_them() -> None:
    """Whoever gives them reads the next ones into the same place."""
    relay, given, room = Relay("a"), list[bytes](), bytearray(b"abc")
    sink = relay.open()
    sink.write(memoryview(room))
    room[:] = b"def"
    sink.write(memoryview(room))
    room[:] = b"ghi"
    sink.finish()
    relay.pour(lambda piece: given.append(bytes(piece)))
    assert given == [b"abc", b"def"]

    def pour(take: Take) -> None:
        take(memoryview(room))
        room[:] = b"xyz"
        take(b"")

    given.clear()
    Arriving(pour, "a", "", 3).pour(lambda piece: given.append(bytes(piece)))
    assert given == [b"ghi"]


def test_bytes_that_all_came_and_are_not_right_are_never_given_whole() -> None:
    relay, given = Relay("a"), list[bytes]()
    sink, arriving = relay.open(), Arriving(relay.pour, "a", "", 6)

    def change() -> None:
        while relay._take is None:
            time.sleep(0.001)
        sink.write(b"abc")
        sink.write(b"def")
        sink.discard()

    with ThreadPoolExecutor(1) as writer:
        changed = writer.submit(change)
        with pytest.raises(TransferIncomplete, match="it was changed"):
            arriving.pour(lambda piece: given.append(bytes(piece)))
        changed.result(10)
    assert given == [b"abc"]


def test_a_relay_holds_no_more_than_it_may() -> None:
    relay, written = Relay("a", held_bytes=10), list[bytes]()
    sink = relay.open()

    def write() -> None:
        for piece in (b"x" * 10, b"y"):
            sink.write(piece)
            written.append(piece)

    with ThreadPoolExecutor(1) as writer:
        ended = writer.submit(write)
        with pytest.raises(TimeoutError):
            ended.result(0.2)
        assert written == [b"x" * 10]
        relay.give_up("nobody reads")
        with pytest.raises(TransferIncomplete, match="nobody reads"):
            ended.result(10)


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


def test_what_is_too_small_does_not_pass() -> None:
    limits = {"pass_through_bytes": 1, "smallest_bytes": LEAST}
    stream = Inbound.model_validate({"endpoint": "drop", "folder": "/out", **VIDEOS, "limits": limits})
    assert may_pass(RemoteFile("/out", b"a.mp4", LEAST, None), stream)
    assert not may_pass(RemoteFile("/out", b"a.mp4", LEAST - 1, None), stream)
