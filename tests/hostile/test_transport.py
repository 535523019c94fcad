"""Rows 26 to 54 of the hostile inputs: timing and transport. Each row's required outcome, over FTPS and SFTP where both can meet it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from pydantic import ValidationError

from blocks.endpoints.base import EndpointSession
from blocks.endpoints.ftp import Ftps, FtpSession
from blocks.endpoints.sftp import SftpSession
from blocks.errors import (
    ConfigurationError,
    EndpointBusy,
    EndpointError,
    EndpointFull,
    EndpointUnreachable,
    EndpointUnsuitable,
    HostKeyChanged,
    SendRefused,
    TransferIncomplete,
)
from blocks.profile import PartnerProfile
from blocks.spool import Batch, Spool
from blocks.values import Exists, Expected, Fetched, Missed, Move, Outcome, Placed, Proof, Stage
from deployments.sender.store import Step
from tasks import connections
from tasks.rules.certificate import DELIVERY_WORDS
from tasks.rules.expected import due, last_due
from tests.conformance.endpoints.checks import CHECKS, LONG_AGO, MIB, Ground, Meddled
from tests.conformance.endpoints.rogues import PASSWORD, ROGUES, endpoint, ground_at, patiently
from tests.hostile.bay import Bay, Crate, Server, agreed_endpoint, agreed_with, at, bay_at, crate
from tests.release_world import ReleaseWorld, installed
from tests.sandbox.ftp import FtpSandbox
from tests.sandbox.sftp import SftpSandbox
from tests.servers import need
from tests.servers.certificates import make_certificate
from tests.servers.ftp import PASSWORD as FTP_PASSWORD
from tests.servers.ftp import vsftpd_server
from tests.servers.listener import Listener
from tests.servers.openssh import OpenSsh
from tests.servers.prefect import PrefectServer, overheard
from tests.world import ONE_LOOK, price_list

PROTOCOLS = ("sftp", "ftps")


def meddled(bay: Bay, monkeypatch: pytest.MonkeyPatch, task: str, act: Any) -> None:
    """Somebody acts at the partner just before a task of the next run begins its work."""
    from flows import intake

    before = getattr(intake, task)
    done = []

    def submit(*args: Any, **kwargs: Any) -> Any:
        for future in args:
            if hasattr(future, "wait"):
                future.wait()
        if not done:
            done.append(act())
        return before.submit(*args, **kwargs)

    class Meddler:
        pass

    meddler = Meddler()
    meddler.submit = submit  # type: ignore[attr-defined]
    # Nothing else acts exactly between two tasks of a run.
    monkeypatch.setattr(intake, task, meddler)


# --------------------------------------------------------------------------------------------- 26 to 30: files that move


@pytest.mark.parametrize(
    "promise", ["a_file_that_grows_while_it_is_read_is_changed", "a_file_that_is_rewritten_while_it_is_read_is_changed"]
)
def test_row_26_a_file_that_is_written_while_it_is_read_is_thrown_away(promise: str, ground: Ground) -> None:
    CHECKS[promise](ground)  # it also sees that nothing of it is kept in the spool


def test_row_26_a_half_written_file_waits_for_two_equal_looks(bay: Bay) -> None:
    bay.agree(settle={"quiet": "PT1S"})
    path = bay.leave("growing.csv", price_list(rows=1))
    with path.open("ab") as growing:
        for number in range(2):
            assert bay.run(patience_seconds=ONE_LOOK).name == "Nothing new"
            growing.write(b"0000009%d,Bolt,EUR,1.00,2026-12-01\n" % number)
            growing.flush()
    whole = path.read_bytes()
    assert bay.filed() == {}
    assert bay.run().name == "Filed"
    assert bay.filed() == {"growing.csv": [whole]}


def test_row_26_or_for_its_done_file(sftp_bay: Bay) -> None:
    bay = sftp_bay
    bay.agree(settle={"quiet": "PT0S", "done_file": "{name}.done"})
    bay.leave("p1.csv", price_list())
    assert bay.run().name == "Nothing new"
    bay.leave("p1.csv.done", b"")
    assert bay.run().name == "Filed"


def test_row_27_late_growth_is_a_new_version_and_a_person_is_told_once(bay: Bay, monkeypatch: pytest.MonkeyPatch) -> None:
    half, whole = price_list(rows=1), price_list(rows=3)
    path = bay.leave("p1.csv", half, modified=1_700_000_000)

    def goes_on() -> None:
        with path.open("ab") as writer:
            writer.write(whole[len(half) :])

    with monkeypatch.context() as patch:
        meddled(bay, patch, "close", goes_on)  # fetched and filed, and only then does the writer go on
        assert bay.run().name == "Filed"
    assert path.read_bytes() == whole, "looked at once more before it would have been removed"
    assert bay.filed() == {"p1.csv": [half]}
    assert bay.codes() == ["changed-after-fetch"]
    assert bay.run().name == "Filed"
    assert bay.filed() == {"p1.csv": [half, whole]}
    assert not path.exists()
    assert bay.run().name == "Nothing new"
    assert bay.codes() == [], "over, as the whole file has come"
    assert bay.codes(everything=True) == ["changed-after-fetch"]


def test_row_28_a_file_copied_with_an_old_time_is_as_young_as_our_first_sight_of_it(bay: Bay) -> None:
    bay.agree(settle={"quiet": "PT0S", "minimum_age": "PT2S"})
    bay.leave("p1.csv", price_list(), modified=LONG_AGO.timestamp())
    assert bay.run(patience_seconds=ONE_LOOK).name == "Nothing new"
    (sighting,) = bay.ledger.sightings("acme", "prices")
    assert (sighting.stage, sighting.file.modified) == (Stage.SIGHTED, LONG_AGO)
    assert bay.run().name == "Filed"
    ((arrived, fetched, *_),) = bay.histories().values()
    assert fetched.at - sighting.first_seen >= timedelta(seconds=2)
    assert arrived.kind == "arrived"


def test_row_29_a_file_that_vanishes_before_it_is_fetched_is_told_and_not_tried_again(
    bay: Bay, told: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = bay.leave("gone.csv", price_list())
    bay.leave("stays.csv", price_list(first=10))
    with monkeypatch.context() as patch:
        meddled(bay, patch, "pick_up", gone.unlink)
        state = bay.run()
    assert (state.name, state.message) == ("Filed", "1 filed, 1 vanished"), "it is counted"
    assert bay.kinds() == [["arrived", "vanished"], ["arrived", "fetched", "judged", "filing", "filed", "clearing", "cleared"]]
    assert told().count("countersign.intake.vanished") == 1
    assert bay.run().name == "Nothing new"
    assert len(bay.kinds()) == 2
    assert bay.codes(everything=True) == []


@pytest.fixture
def told() -> Iterator[Callable[[], list[str]]]:
    """The names of the events that were sent until then."""
    with overheard() as sent:
        yield lambda: [one.event for one in sent()]


@pytest.mark.parametrize("moves", [False, True], ids=["remove", "move"])
def test_row_30_what_took_the_files_place_is_left_alone(moves: bool, bay: Bay, monkeypatch: pytest.MonkeyPatch) -> None:
    done = bay.out / "done"
    done.mkdir()
    folder = f"/{done.relative_to(bay.server.root)}"
    bay.agree(disposition={"accepted": "move", "folder": folder} if moves else {"accepted": "remove"})
    path = bay.leave("p1.csv", price_list(first=1), modified=1_700_000_000)
    with monkeypatch.context() as patch:
        meddled(bay, patch, "close", lambda: bay.leave("p1.csv", price_list(first=2), modified=1_700_000_060))
        assert bay.run().name == "Filed"
    assert path.read_bytes() == price_list(first=2)
    assert list(done.iterdir()) == []
    assert bay.run().name == "Filed"
    assert bay.filed() == {"p1.csv": [price_list(first=1), price_list(first=2)]}


# --------------------------------------------------------------------------------------------- 31, 32: halves and nothing


def test_row_31_an_empty_file_is_an_error_unless_the_stream_says_otherwise(sftp_bay: Bay) -> None:
    bay = sftp_bay
    bay.leave("p1.csv", b"")
    assert bay.run().name == "Nothing filed, 1 quarantined"
    assert bay.codes() == ["empty-file"]
    assert bay.filed() == {}


def test_row_31_an_empty_file_is_accepted_as_it_is_where_that_was_agreed(sftp_bay: Bay) -> None:
    bay = sftp_bay
    bay.agree(empty="accept")
    bay.leave("p1.csv", b"")
    assert bay.run().name == "Filed"
    assert bay.filed() == {"p1.csv": [b""]}
    (judged,) = [entry for entries in bay.histories().values() for entry in entries if entry.kind == "judged"]
    assert [finding["code"] for finding in judged.body["findings"]] == ["empty-accepted"], "and that is said"


def test_row_31_an_empty_file_is_a_marker_where_that_was_agreed_and_never_silent(sftp_bay: Bay) -> None:
    bay = sftp_bay
    bay.agree(empty="marker")
    path = bay.leave("all.csv", b"")
    state = bay.run()
    assert (state.name, state.message) == ("Nothing new", "1 marker")
    assert bay.kinds() == [["arrived", "marker", "clearing", "cleared"]]
    assert bay.filed() == {}
    assert not path.exists()
    assert bay.codes(everything=True) == []


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [("p1.csv", "p1.csv.done", "done-file-missing"), ("p1.csv.done", "p1.csv", "file-missing")],
    ids=["no done file", "no file"],
)
def test_row_32_after_the_agreed_time_a_person_is_told_once_which_half_is_missing(
    first: str, second: str, code: str, sftp_bay: Bay, told: Callable[[], list[str]]
) -> None:
    bay = sftp_bay
    contents = {"p1.csv": price_list(), "p1.csv.done": b""}
    bay.agree(settle={"quiet": "PT0S", "done_file": "{name}.done", "done_wait": "PT4S"})
    bay.leave(first, contents[first])
    assert bay.run(patience_seconds=0).name == "Nothing new"
    assert bay.codes() == [], "not at once"
    until(lambda: bay.run(patience_seconds=0).name == "Nothing new" and bay.codes() == [code])
    (case,) = bay.cases()
    assert first in str(case.reason) and case.owner == "prices@example.com" and case.due is not None
    assert bay.run(patience_seconds=0).name == "Nothing new"
    assert told().count(f"countersign.intake.{code}") == 1
    assert bay.filed() == {}
    bay.leave(second, contents[second])
    until(
        lambda: bay.run(patience_seconds=0).name == "Filed"
    )  # a file that is younger than its done file must be quiet as well
    assert bay.filed() == {"p1.csv": [price_list()]}
    assert bay.codes() == []
    assert list(bay.out.iterdir()) == []


def test_row_32_a_done_file_that_came_before_its_file_does_not_speak_for_half_of_it(sftp_bay: Bay) -> None:
    bay = sftp_bay
    bay.agree(settle={"quiet": "PT2S", "done_file": "{name}.done"})
    bay.leave("p1.csv.done", b"")
    assert bay.run(patience_seconds=ONE_LOOK).name == "Nothing new"
    whole = price_list(rows=2)
    path = bay.leave("p1.csv", whole[:-20])
    assert bay.run(patience_seconds=ONE_LOOK).name == "Nothing new"
    path.write_bytes(whole)
    assert bay.run(patience_seconds=ONE_LOOK).name == "Nothing new"
    until(lambda: bay.run(patience_seconds=0).name == "Filed")
    assert bay.filed() == {"p1.csv": [whole]}


def until(claim: Callable[[], bool], seconds: float = 300) -> None:
    """Wait for it to become true."""
    limit = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < limit, "it never became true"
        time.sleep(0.1)


# --------------------------------------------------------------------------------------------- 33 to 37: bytes on their way

SHORT: dict[type, str] = {SftpSandbox: "short-eof", FtpSandbox: "short-226"}


def test_row_33_fewer_bytes_than_listed_are_no_success_whatever_the_server_says(bay: Bay, tmp_path: Path) -> None:
    bay.server.faults[SHORT[type(bay.server)]] = 1000
    missed = not_whole(bay, tmp_path)
    assert f"1000 of {len(LONG)} bytes" in missed.reason


def test_row_34_more_bytes_than_listed_are_a_file_still_growing(bay: Bay, tmp_path: Path) -> None:
    bay.server.faults["longer"] = 7
    missed = not_whole(bay, tmp_path)
    assert "more" in missed.reason


LONG = price_list(rows=100)


def not_whole(bay: Bay, spool: Path) -> Missed:
    """One file does not come as it is listed: it is a failed attempt, another one at its side is not affected if it is whole."""
    bay.leave("p1.csv", LONG)
    ground = Ground(agreed_with(bay), f"/{bay.out.relative_to(bay.server.root)}", bay.out, Spool(spool / "s", floor_bytes=0))
    missed = ground.fetch(ground.look().values())[b"p1.csv"]
    assert isinstance(missed, Missed) and missed.outcome is Outcome.CHANGED
    assert not any(ground.spool.store.glob("*/*")), "nothing of it is kept"
    assert bay.run().name == "Nothing new"
    assert bay.kinds() == [["arrived", "unsettled"]], "a failed attempt: it goes back to being watched"
    assert (bay.filed(), (bay.out / "p1.csv").exists()) == ({}, True)
    bay.server.faults.clear()
    assert bay.run().name == "Filed"
    assert bay.filed() == {"p1.csv": [LONG]}
    return missed


@pytest.mark.parametrize("changed", ["nothing", "bytes", "size", "time"])
def test_row_35_a_lost_download_goes_on_only_where_size_time_and_bytes_are_the_same(
    changed: str, server: Server, ground: Ground
) -> None:
    big = os.urandom(3 * MIB)
    ground.write(b"big", big, LONG_AGO)
    server.faults["drop-after"] = 2 * MIB
    with pytest.raises(EndpointUnreachable):
        ground.fetch(ground.look().values())
    server.faults.clear()
    if changed == "bytes":
        big = os.urandom(3 * MIB)
    elif changed == "size":
        big += b"more"
    ground.write(b"big", big, LONG_AGO + timedelta(seconds=changed == "time"))
    batch = Meddled(ground.spool)
    assert ground.holds(ground.fetch(ground.look().values(), batch)[b"big"]) == big
    assert (batch.began_at[0] > MIB) is (changed in ("nothing", "bytes")), "what another file left is not even looked at"


LOST: dict[str, tuple[dict[type, str], int]] = {
    # An upload ends with a rename of its own, from half to whole; the one to the final name is the second to be lost.
    "before the upload was answered": ({SftpSandbox: "drop-after", FtpSandbox: "lost-226"}, 1),
    "before the rename": ({SftpSandbox: "lost-before-rename", FtpSandbox: "lost-before-rename"}, 2),
    "before the rename was answered": ({SftpSandbox: "lost-rename", FtpSandbox: "lost-rename"}, 2),
}


def losing(box: Crate, server: Server, when: str) -> None:
    """Visits that break off, until the one at this moment has."""
    faults, times = LOST[when]
    for _ in range(times):
        server.faults[faults[type(server)]] = 1
        with pytest.raises(EndpointUnreachable):
            box.send()
        server.faults.clear()


def test_row_36_a_rename_that_was_only_said_to_be_done_is_asked_for_again(
    server: Server, ground: Ground, tmp_path: Path
) -> None:
    box = crate(ground, tmp_path / "state", p1=b"one", p2=b"two")
    server.faults["lying-rename"] = 1
    with pytest.raises(TransferIncomplete, match="said that it was renamed, and it stands under its temporary name"):
        box.send()
    assert sorted(len(name) < 45 for name in box.received()) == [False, True]
    assert {parcel.step for parcel in box.send()} == {Step.PROVEN}
    assert box.received() == {"p1.csv": b"one", "p2.csv": b"two"}


def test_row_36_where_another_file_has_the_name_then_only_the_partner_knows(
    server: Server, ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deployments.sender import delivery

    box, look_after = crate(ground, tmp_path / "state", p1=b"one"), delivery._Courier._look_after

    def replaced(courier: delivery._Courier, *standing: Any) -> None:
        if (ground.place / "p1.csv").exists():
            (ground.place / "p1.csv").write_bytes(b"theirs, longer")
        look_after(courier, *standing)

    # Exactly between the rename and our look.
    monkeypatch.setattr(delivery._Courier, "_look_after", replaced)
    assert [parcel.step for parcel in box.send()] == [Step.UNKNOWN]
    assert box.received() == {"p1.csv": b"theirs, longer"}


@pytest.mark.parametrize("when", LOST)
def test_row_36_after_a_loss_we_look_before_anything_is_sent_again(
    when: str, server: Server, ground: Ground, tmp_path: Path
) -> None:
    box = crate(ground, tmp_path / "state", p1=b"one")
    losing(box, server, when)
    stood = {path.name: path.stat().st_ino for path in ground.place.iterdir()}
    assert ("p1.csv" in stood) is (when == "before the rename was answered")
    (parcel,) = box.send()
    assert (parcel.step, parcel.proof) == (Step.PROVEN, Proof.READ_BACK)
    assert box.received() == {"p1.csv": b"one"}
    if "p1.csv" in stood:
        assert (ground.place / "p1.csv").stat().st_ino == stood["p1.csv"], "it was not sent again"


def test_row_36_what_looking_cannot_tell_stays_unknown_and_is_not_sent_again(
    server: Server, ground: Ground, tmp_path: Path
) -> None:
    box = crate(ground, tmp_path / "state", p1=b"one")
    losing(box, server, "before the rename was answered")
    (ground.place / "p1.csv").unlink()  # the partner was quick
    for _ in range(2):
        assert [parcel.step for parcel in box.send()] == [Step.UNKNOWN]
        assert box.received() == {}


@pytest.mark.parametrize("collected", [False, True], ids=["there", "collected"])
@pytest.mark.parametrize("fault", ["late-rename", "lying-rename"])
def test_row_36_a_rename_that_is_done_after_we_have_looked_is_never_taken_for_one_that_was_not(
    fault: str, collected: bool, server: Server, ground: Ground, tmp_path: Path
) -> None:
    box = crate(ground, tmp_path / "state", p1=b"one", p2=b"two")
    server.faults[fault] = 1
    with pytest.raises((EndpointUnreachable, TransferIncomplete)):
        box.send()
    (late,) = server.late.values()
    assert Path(late).name not in box.received(), "it still has its temporary name"
    server.faults["quick-partner"] = int(collected)
    steps = {parcel.name.decode(): parcel.step for parcel in box.send()}
    assert steps.pop(Path(late).name) is (Step.UNKNOWN if collected else Step.PROVEN)
    assert set(steps.values()) == {Step.PROVEN}
    assert box.received().keys() == {"p1.csv", "p2.csv"} - ({Path(late).name} if collected else set()), "it is not sent again"


def test_row_36_what_may_still_be_renamed_is_withdrawn_only_by_its_own_removal(
    server: Server, ground: Ground, tmp_path: Path
) -> None:
    box = crate(ground, tmp_path / "state", p1=b"one")
    server.faults["late-rename"] = 1
    with pytest.raises(EndpointUnreachable):
        box.send()
    assert box.withdraw() == []
    assert [parcel.step for parcel in box.parcels] == [Step.INTENDED]
    assert box.received() == {}


def test_row_37_every_operation_has_a_deadline_and_gives_its_place_back(server: Server, ground: Ground) -> None:
    ground.write(b"a.csv", b"content")
    seen = list(ground.look().values())
    hurried = endpoint(server, timeout_seconds=0.4, connection_limit=1)
    calls: dict[str, Callable[[EndpointSession, Batch], object]] = {
        "look": lambda session, _: list(session.look(ground.folder)),
        "fetch": lambda session, batch: list(session.fetch(seen, batch)),
        "put": lambda session, _: list(session.put([ground.outgoing(b"b.csv", b"x")], ground.folder)),
        "rename": lambda session, _: list(session.rename([Move(seen[0], ground.folder, b"c.csv")])),
        "remove": lambda session, _: list(session.remove(seen)),
        "make_folder": lambda session, _: session.make_folder(ground.folder + "/new"),
    }
    for verb, call in calls.items():
        session = patiently(hurried)  # the only place there is: the last session must have given it back
        server.faults["slow"] = 0.8
        with ground.spool.batch() as batch, pytest.raises(EndpointUnreachable, match=r"no answer|lost"):
            call(session, batch)
        began = time.monotonic()
        session.close()
        assert time.monotonic() - began < 60, verb
        server.faults.clear()
    patiently(hurried).close()
    assert ground.names() == {b"a.csv"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_row_37_a_server_that_never_speaks_holds_no_place(protocol: str, servers: dict[str, Server]) -> None:
    with Listener(lambda connection: connection.recv(10_000) and connection.recv(10_000)) as port:
        agreed = endpoint(servers[protocol], port=port, timeout_seconds=0.4, connection_limit=1)
        for _ in range(2):
            with pytest.raises(EndpointUnreachable):
                agreed.session()


def test_row_37_a_server_that_sends_a_byte_now_and_then_stands_still_all_the_same(server: Server, ground: Ground) -> None:
    ground.write(b"a.csv", os.urandom(4000))
    seen = ground.look()
    hurried = endpoint(server, timeout_seconds=3)
    server.faults["trickle"] = 1
    began = time.monotonic()
    with (
        patiently(hurried) as session,
        ground.spool.batch() as batch,
        pytest.raises(EndpointUnreachable, match="standing still"),
    ):
        list(session.fetch(seen.values(), batch))
    assert time.monotonic() - began < 120, "a byte each 50 ms makes 200 s"


# --------------------------------------------------------------------------------------------- 38 to 44: at the target


def consenting(ground: Ground, server: Server, **fields: Any) -> Ground:
    """The same folder under other terms of the endpoint."""
    return replace(ground, endpoint=endpoint(server, **fields))


def test_row_38_where_nobody_may_rename_nothing_appears_without_consent_and_the_message_says_what_it_takes(
    server: Server, ground: Ground, tmp_path: Path
) -> None:
    server.faults["deny-rename"] = 1
    box = crate(ground, tmp_path / "state", p1=b"one")
    with pytest.raises(EndpointError, match=r"rename.*direct_write: accepted.*done_file") as caught:
        box.send()
    assert not caught.value.worth_retrying
    assert "p1.csv" not in box.received()


def test_row_38_with_consent_files_are_written_under_their_names_and_the_done_file_last(
    server: Server, ground: Ground, tmp_path: Path
) -> None:
    server.faults["deny-rename"] = 1
    agreed = consenting(ground, server, direct_write="accepted")
    with pytest.raises(SendRefused, match="done_file"):
        crate(agreed, tmp_path / "state", p1=b"one").send()
    assert ground.names() == set()
    box = crate(agreed, tmp_path / "state", last=1, p1=b"one", p2=b"two" * 1000, done=b"")
    parcels = box.send()
    assert [(parcel.step, parcel.proof) for parcel in parcels] == [(Step.PROVEN, Proof.READ_BACK)] * 3
    assert box.received() == {"p1.csv": b"one", "p2.csv": b"two" * 1000, "done.csv": b""}
    written = {path.name: path.stat().st_ctime_ns for path in ground.place.iterdir()}
    assert max(written, key=lambda name: written[name]) == "done.csv"


@pytest.mark.parametrize("theirs", [False, True], ids=["half of ours", "somebody else's"])
def test_row_38_what_a_break_left_is_replaced_only_if_it_is_the_beginning_of_ours(
    theirs: bool, server: Server, ground: Ground, tmp_path: Path
) -> None:
    box = crate(consenting(ground, server, direct_write="accepted"), tmp_path / "state", last=1, p1=b"one two three", done=b"")
    with pytest.MonkeyPatch.context() as patch:  # killed while the bytes of the first file were on their way
        patch.setattr(SftpSession if isinstance(server, SftpSandbox) else FtpSession, "put", broken_put)
        with pytest.raises(EndpointUnreachable):
            box.send()
    half = b"six se" if theirs else b"one tw"
    (ground.place / "p1.csv").write_bytes(half)
    if theirs:
        with pytest.raises(SendRefused, match="did not write"):
            box.send()
        assert box.received() == {"p1.csv": half}
    else:
        assert all(parcel.step is Step.PROVEN for parcel in box.send())
        assert box.received() == {"p1.csv": b"one two three", "done.csv": b""}


def broken_put(*_: object, **__: object) -> Iterator[None]:
    raise EndpointUnreachable("on purpose")
    yield


def test_row_38_the_consent_needs_a_done_file_in_the_reviewed_profile(servers: dict[str, Server]) -> None:
    drop = agreed_endpoint(servers["sftp"], direct_write="accepted")
    place = {"endpoint": "drop", "folder": "/in"}
    for destination, problem in (
        (place, "add a 'done_file'"),
        ({**place, "done_file": "all.done", "exists": "replace"}, "no name is ever replaced"),
    ):
        with pytest.raises(ValidationError, match=problem):
            PartnerProfile.model_validate(outbound_profile(drop, destination))
    PartnerProfile.model_validate(outbound_profile(drop, {**place, "done_file": "all.done"}))


def outbound_profile(drop: dict[str, Any], destination: dict[str, Any]) -> dict[str, Any]:
    stream = {
        "direction": "outbound",
        "gather": {"repository": "kept", "folder": "Outbox"},
        "destinations": [destination],
        "freshness": "latest",
        "signoff": {"stages": [{"name": "release", "groups": ["pricing"]}], "proof": "code"},
        "evidence": {"repository": "kept", "folder": "Evidence"},
    }
    return {"name": "acme", "title": "ACME", "endpoints": {"drop": drop}, "streams": {"out": stream}}


TWO_STEPS = {SftpSandbox: "no-posix-rename", FtpSandbox: "rename-refuses-existing"}


def test_row_39_where_a_rename_over_a_file_fails_the_policy_decides_and_the_old_file_is_never_lost(
    server: Server, ground: Ground
) -> None:
    server.faults[TWO_STEPS[type(server)]] = 1
    ground.write(b"a.csv", b"theirs")
    ours = [ground.outgoing(b"a.csv", b"ours")]
    refused = ground.put(ours)[b"a.csv"]
    assert isinstance(refused, Missed) and refused.outcome is Outcome.EXISTS
    assert (ground.place / "a.csv").read_bytes() == b"theirs"
    assert isinstance(ground.put(ours, Exists.REPLACE)[b"a.csv"], Placed)
    assert (ground.place / "a.csv").read_bytes() == b"ours"
    assert ground.names() == {b"a.csv"}


def test_row_39_where_posix_rename_is_offered_the_name_is_never_without_a_file(
    servers: dict[str, Server], tmp_path: Path
) -> None:
    ground = ground_at(servers["sftp"], tmp_path / "spool")
    ground.write(b"a.csv", b"0")
    absent, stop = [], threading.Event()

    def look() -> None:
        while not stop.is_set():
            if not (ground.place / "a.csv").exists():
                absent.append(1)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        with ground.endpoint.session() as session:
            assert session.capabilities.rename_replaces
            for number in range(1, 20):
                content = [ground.outgoing(b"a.csv", str(number).encode())]
                assert isinstance(next(iter(session.put(content, ground.folder, exists=Exists.REPLACE))), Placed)
    finally:
        stop.set()
        watcher.join()
    assert not absent


def test_row_39_the_moment_without_a_file_is_stated_before_anything_moves(
    server: Server, ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deployments.checking import check_partner

    server.faults[TWO_STEPS[type(server)]] = 1
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)
    destination = {"endpoint": "drop", "folder": ground.folder, "exists": "replace"}
    profile = outbound_profile(agreed_endpoint(server), destination)
    (tmp_path / "acme.yaml").write_text(yaml.safe_dump({"partner": profile}))
    (tmp_path / "kept").mkdir()
    kept = {"kept": {"kind": "folder", "path": str(tmp_path / "kept")}}
    (tmp_path / "repositories.yaml").write_text(yaml.safe_dump({"repositories": kept}))
    (tmp_path / "people.yaml").write_text(yaml.safe_dump({"people": []}))
    told = [result.text for result in check_partner("acme", tmp_path, offline=False)]
    assert any("for a moment nothing stands under the name" in text for text in told), told


def test_row_40_a_name_that_is_taken_is_refused_and_no_byte_of_theirs_is_touched(
    server: Server, ground: Ground, tmp_path: Path
) -> None:
    box = crate(ground, tmp_path / "state", p1=b"one", p2=b"two")
    ground.write(b"p2.csv", b"theirs")
    with pytest.raises(SendRefused, match=r"taken.*p2\.csv.*nothing was overwritten"):
        box.send()
    assert box.received() == {"p2.csv": b"theirs"}, "all or none, and no temporary name is left"
    (ground.place / "p2.csv").unlink()
    assert all(parcel.step is Step.PROVEN for parcel in box.send())


def test_row_40_also_if_it_is_taken_at_the_last_moment(
    server: Server, ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deployments.sender import delivery

    box = crate(ground, tmp_path / "state", p1=b"one")
    looked = delivery._Courier._must_fit

    def and_then(self: Any) -> None:
        looked(self)
        ground.write(b"p1.csv", b"theirs")

    # Exactly between our look and the rename.
    monkeypatch.setattr(delivery._Courier, "_must_fit", and_then)
    with pytest.raises(SendRefused, match="exists"):
        box.send()
    assert box.received()["p1.csv"] == b"theirs"


def test_row_41_a_full_disk_leaves_nothing_under_a_final_name_and_it_goes_on_when_there_is_room(
    server: Server, ground: Ground, tmp_path: Path
) -> None:
    box = crate(ground, tmp_path / "state", p1=b"one", p2=os.urandom(MIB))
    server.faults["full"] = 300_000
    with pytest.raises(EndpointFull) as caught:
        box.send()
    assert not caught.value.worth_retrying, "trying again at once would not help"
    assert not ground.names() & {b"p1.csv", b"p2.csv"}
    server.faults.clear()
    assert all(parcel.step is Step.PROVEN for parcel in box.send())
    assert ground.names() == {b"p1.csv", b"p2.csv"}


@pytest.fixture(scope="module")
def release(
    servers: dict[str, Server],
    tmp_path_factory: pytest.TempPathFactory,
    ecm: Mapping[str, Any],
    prefect_server: PrefectServer,
) -> Iterator[ReleaseWorld]:
    """An installation that releases to the sandbox's SFTP server, with its sender running."""
    server, place = servers["sftp"], tmp_path_factory.mktemp("login")
    assert isinstance(server, SftpSandbox)
    key = place / "login"
    subprocess.run([need("ssh-keygen", "openssh-client"), "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    server.public_keys["us"] = key.with_suffix(".pub").read_text()
    partner = OpenSsh(server.host, server.port, "us", key, server.fingerprint, server.root)
    with installed(tmp_path_factory.mktemp("release"), partner, ecm, prefect_server) as made:
        profile = made.profiles / "acme.yaml"
        profile.write_text(profile.read_text().replace(str(made.remote), f"/{made.remote.name}"))  # as the sandbox spells it
        with made.sender():
            yield made


def test_row_40_a_taken_name_is_one_case_for_a_person(release: ReleaseWorld) -> None:
    anna, order = release.newcomer(), release.order(prices=price_list())
    (release.remote / order.id / "prices.csv").write_bytes(b"theirs")
    assert order.start() is None
    state = order.sign(anna)
    assert state is not None and (state.name, state.is_failed()) == ("Not delivered", True)
    order.go()
    assert [entry.body["case"]["code"] for entry in order.history if entry.kind == "in-doubt"] == ["not-delivered"]
    assert order.received == {"prices.csv": b"theirs"}
    (release.remote / order.id / "prices.csv").unlink()
    done = order.go()
    assert done is not None and done.name == "Delivered"
    assert not [case for case in connections.ledger().cases() if case.journey == order.history[0].journey]


def test_row_41_the_release_waits_with_one_case_and_goes_on(release: ReleaseWorld, servers: dict[str, Server]) -> None:
    anna, order = release.newcomer(), release.order(prices=price_list())
    servers["sftp"].faults["full"] = 10
    try:
        assert order.start() is None
        for state in (order.sign(anna), order.go()):
            assert state is not None and (state.name, state.is_failed()) == ("Waits for room at the partner", False)
    finally:
        servers["sftp"].faults.clear()
    assert [entry.body["case"]["code"] for entry in order.history if entry.kind == "in-doubt"] == ["partner-full"], "one case"
    assert order.received == {}
    done = order.go()
    assert done is not None and done.name == "Delivered"
    assert order.received == {"prices.csv": price_list()}
    assert not [case for case in connections.ledger().cases() if case.journey == order.history[0].journey]


@pytest.mark.parametrize("moves", [False, True], ids=["remove", "move"])
def test_row_42_what_we_may_not_clear_is_left_and_never_comes_in_again(moves: bool, bay: Bay) -> None:
    (bay.out / "done").mkdir()
    folder = f"/{(bay.out / 'done').relative_to(bay.server.root)}"
    bay.agree(disposition={"accepted": "move", "folder": folder} if moves else {"accepted": "remove"})
    bay.server.faults.update({"deny-delete": 1, "deny-rename": 1})
    path = bay.leave("p1.csv", price_list())
    assert bay.run().name == "Filed"
    for _ in range(2):
        assert bay.run().name == "Nothing new"
    assert path.exists()
    assert bay.filed() == {"p1.csv": [price_list()]}
    (entries,) = bay.histories().values()
    assert (entries[-1].kind, entries[-1].stage) == ("left", Stage.LEFT)
    assert "left at the source" in entries[-1].body["reason"]
    (sighting,) = [one for one in bay.ledger.sightings("acme", "prices") if one.file.name == b"p1.csv"]
    assert sighting.stage is Stage.LEFT


def test_row_43_a_missing_folder_is_made_only_if_that_was_agreed(server: Server, ground: Ground, tmp_path: Path) -> None:
    box = crate(ground, tmp_path / "state", p1=b"one")
    away = at(box, folder=f"{ground.folder}/2026/11")
    with pytest.raises(EndpointError, match="2026/11"):
        away.send()
    assert ground.names() == set()
    made = at(away, create_folder=True)
    assert [parcel.step for parcel in made.send()] == [Step.PROVEN]
    assert (ground.place / "2026" / "11" / "p1.csv").read_bytes() == b"one"


def test_row_44_what_nobody_can_look_at_is_sent_and_marked_unverifiable(server: Server, ground: Ground, tmp_path: Path) -> None:
    server.faults["write-only"] = 1
    with pytest.raises(EndpointError):
        crate(ground, tmp_path / "state", p1=b"one").send()
    agreed = consenting(ground, server, write_only=True)
    box = crate(agreed, tmp_path / "state", last=1, p2=b"two", done=b"")
    assert [(parcel.step, parcel.proof) for parcel in box.send()] == [(Step.PROVEN, Proof.UNVERIFIABLE)] * 2
    received = box.received()
    assert (received["p2.csv"], received["done.csv"]) == (b"two", b"")
    (ground.place / "p2.csv").unlink()
    assert all(parcel.step is Step.PROVEN for parcel in box.send())
    assert "p2.csv" not in box.received(), "and it is not sent twice"
    assert DELIVERY_WORDS[Proof.UNVERIFIABLE].startswith("sent, unverifiable"), "as the certificate says it"


def test_row_44_after_a_break_there_nobody_can_tell_so_a_person_is_asked(
    server: Server, ground: Ground, tmp_path: Path
) -> None:
    box = crate(consenting(ground, server, write_only=True), tmp_path / "state", p1=b"one")
    server.faults.update({"write-only": 1, "lost-rename": 1})
    with pytest.raises(EndpointUnreachable):
        box.send()
    assert [parcel.step for parcel in box.send()] == [Step.UNKNOWN]


def test_row_44_killed_there_it_is_in_doubt_as_well(
    server: Server, ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> Iterator[None]:
        raise SystemExit
        yield

    box = crate(consenting(ground, server, write_only=True), tmp_path / "state", p1=b"one")
    server.faults["write-only"] = 1
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(SftpSession if isinstance(server, SftpSandbox) else FtpSession, "put", killed)
        box.send()
    assert [parcel.step for parcel in box.send()] == [Step.UNKNOWN]
    assert box.received() == {}, "nothing is sent on a guess"


# --------------------------------------------------------------------------------------------- 45 to 51: the connection


def test_row_45_a_server_that_lets_in_nobody_more_is_asked_again_later_and_seldom(bay: Bay) -> None:
    from tasks.look import look

    bay.leave("p1.csv", price_list())
    bay.server.faults["busy"] = 0.1
    knocks = bay.server.knocks
    with pytest.raises(EndpointBusy) as caught:
        agreed_with(bay).session()
    assert caught.value.worth_retrying
    assert bay.server.knocks == knocks + 1
    assert bay.run().is_failed()
    assert bay.server.knocks <= knocks + 1 + 4, "one try and three more"
    assert look.retries == 3 and look.retry_jitter_factor == 0.5, "not all workers at the same moment"
    bay.server.faults.clear()
    assert bay.run().name == "Filed"


def test_row_45_all_sessions_share_one_pool_of_connections(server: Server, ground: Ground) -> None:
    for number in range(60):
        ground.write(f"{number}.csv".encode())
    agreed = endpoint(server, connection_limit=2)
    knocks = server.knocks
    with agreed.session() as first, ground.spool.batch() as batch, agreed.session():
        assert sum(isinstance(answer, Fetched) for answer in first.fetch(list(first.look(ground.folder)), batch)) == 60
        assert server.knocks <= knocks + 2
        with pytest.raises(EndpointBusy, match="connection_limit"):
            endpoint(server, connection_limit=2, timeout_seconds=1).session()
    assert server.knocks <= knocks + 2, "what our own limit refuses is not even tried"


def test_row_45_421_to_a_further_connection_means_to_go_on_with_those_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)
    with ROGUES["ftps"](tmp_path) as server:  # its own: it counts who is there
        ground = ground_at(server, tmp_path / "spool")
        content = {f"{number}.csv".encode(): os.urandom(2000) for number in range(60)}
        for name, data in content.items():
            ground.write(name, data)
        seen, knocks = ground.look(), server.knocks
        server.faults["busy"] = 2  # one that is just being closed may still count
        answers = ground.fetch(seen.values())
        assert {name: ground.holds(answer) for name, answer in answers.items()} == content
        assert server.knocks - knocks <= 4, "no more than were agreed, let in or not"


def test_row_45_a_refused_login_is_tried_once_and_never_looks_like_brute_force(
    bay: Bay, monkeypatch: pytest.MonkeyPatch
) -> None:
    bay.leave("p1.csv", price_list())
    refusals = bay.server.refusals
    monkeypatch.setenv("PARTNER_PASSWORD", "wrong")
    state = bay.run()
    assert state.is_failed() and "refused our login" in str(state.message)
    assert bay.server.refusals == refusals + 1
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)
    assert bay.run().name == "Filed"


def test_row_46_a_server_that_demands_tls_session_reuse_gets_it_on_every_data_connection(tmp_path: Path) -> None:
    with vsftpd_server(tmp_path / "vsftpd") as running, pytest.MonkeyPatch.context() as patch:  # require_ssl_reuse=YES
        patch.setenv("VSFTPD_PASSWORD", FTP_PASSWORD)
        assert running.certificate is not None
        agreed = Ftps.model_validate(
            {
                "host": running.host,
                "port": running.port,
                "username": running.username,
                "password": "env:VSFTPD_PASSWORD",
                "ca_file": running.certificate.authority,
                "timeout_seconds": 60,
            }
        )
        place = running.root / "drop"
        place.mkdir()
        ground = Ground(agreed, f"{running.prefix}/drop", place, Spool(tmp_path / "spool", floor_bytes=0))
        ground.write(b"a.csv", b"content")
        assert ground.holds(ground.fetch(ground.look().values())[b"a.csv"]) == b"content"
        assert isinstance(ground.put([ground.outgoing(b"b.csv", b"ours")])[b"b.csv"], Placed)


@pytest.mark.parametrize(
    ("fault", "says"),
    [("no-prot", "PROT P"), ("no-auth-tls", "mode: implicit"), ("clear-data", "TLS")],
    ids=["PROT C only", "no explicit TLS", "says P and does C"],
)
def test_row_46_nothing_is_read_or_sent_in_clear_and_the_message_says_what_is_missing(
    fault: str, says: str, servers: dict[str, Server], tmp_path: Path
) -> None:
    server = servers["ftps"]
    ground = ground_at(server, tmp_path / "spool")
    ground.write(b"a.csv", b"content")
    # A handshake on a data connection that does C never ends: only then is the deadline what is seen.
    agreed = endpoint(server, timeout_seconds=6 if fault == "clear-data" else 60)
    server.faults[fault] = 1
    try:
        with pytest.raises(EndpointError, match=says), patiently(agreed) as session:
            list(session.look(ground.folder))
        with pytest.raises(EndpointError, match=says), patiently(agreed) as session:
            list(session.put([ground.outgoing(b"b.csv", b"secret")], ground.folder))
    finally:
        server.faults.clear()
    assert not any(b"secret" in path.read_bytes() for path in ground.place.iterdir())


def test_row_46_implicit_and_explicit_are_told_apart(servers: dict[str, Server], tmp_path: Path) -> None:
    with pytest.raises(EndpointUnsuitable, match="mode"):
        endpoint(servers["ftps"], mode="implicit").session()
    with FtpSandbox(tmp_path / "implicit", users={"partner": PASSWORD}, implicit=True) as server:
        endpoint(server, mode="implicit").session().close()
        with pytest.raises(EndpointError):
            endpoint(server, timeout_seconds=1).session()


@pytest.fixture(params=PROTOCOLS)
def own_server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that a test may start again with other keys."""
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)
    with ROGUES[request.param](tmp_path / "own") as made:
        yield made


@pytest.mark.parametrize("wrong", ["expired", "another name", "another authority", "another certificate than pinned"])
def test_row_47_a_certificate_that_is_not_the_agreed_one_ends_it_before_the_login(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)
    names = ("ftp.partner.example",) if wrong == "another name" else ()
    faults: dict[str, str | float] = {"expired-certificate": 1} if wrong == "expired" else {}
    with FtpSandbox(tmp_path / "s", users={"partner": PASSWORD}, tls=True, names=names, faults=faults) as server:
        trust: dict[str, Any] = {}
        if wrong == "another authority":
            trust = {"ca_file": make_certificate(tmp_path / "other").authority}
        elif wrong == "another certificate than pinned":
            trust = {"certificates": ("SHA256" + ":AA" * 32,)}
        with pytest.raises(HostKeyChanged) as caught:
            endpoint(server, **trust).session()
        assert not caught.value.worth_retrying
        assert server.logins + server.refusals == 0, "nothing was tried"


def test_row_47_a_planned_rotation_is_a_second_pin_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)
    with FtpSandbox(tmp_path / "s", users={"partner": PASSWORD}, tls=True) as server:
        assert server.certificate is not None
        old = server.certificate.fingerprint
        server.stop()
        server.faults["new-certificate"] = 1
        server.start()
        new = server.certificate.fingerprint
        assert old != new
        with pytest.raises(HostKeyChanged, match=new):
            endpoint(server, certificates=(old,)).session()
        with endpoint(server, certificates=(old, new)).session() as session:
            assert session.capabilities.fingerprint == new


def test_row_48_another_key_stops_everything_with_one_incident_until_a_person_has_decided(
    own_server: Server, tmp_path: Path, prefect_server: PrefectServer, told: Callable[[], list[str]]
) -> None:
    server = own_server
    with bay_at(tmp_path / "home", server, prefect_server) as bay:
        pinned = {"certificates": [server.trust["certificate"]]} if isinstance(server, FtpSandbox) else {}
        bay.agree(at=pinned)
        bay.leave("p1.csv", price_list())
        server.stop()
        server.faults["new-certificate" if isinstance(server, FtpSandbox) else "new-host-key"] = 1
        server.start()
        logins = server.logins
        for _ in range(2):
            assert bay.run().is_failed()
        assert server.logins + server.refusals == logins, "no login was tried"
        assert (bay.filed(), bay.histories()) == ({}, {})
        assert (bay.out / "p1.csv").exists()
        assert bay.codes() == ["host-key-changed"]
        assert told().count("countersign.intake.host-key-changed") == 1
        (case,) = bay.cases()
        shows = server.trust.get("certificate") or server.trust["host_key"]
        assert shows in str(case.reason) and "Ask the partner by another way" in str(case.reason)
        bay.agree(at={"certificates": [shows]} if isinstance(server, FtpSandbox) else {})  # a person wrote the new one down
        assert bay.run().name == "Filed"
        assert bay.codes() == []


def test_row_49_outdated_algorithms_need_an_exception_of_this_partner_that_ends(own_server: Server, tmp_path: Path) -> None:
    own_server.stop()
    own_server.faults["legacy-algorithms"] = 1
    own_server.start()
    algorithms = ["aes128-cbc", "hmac-sha1"] if isinstance(own_server, SftpSandbox) else ["ECDHE-ECDSA-AES128-SHA"]
    with pytest.raises(EndpointUnsuitable, match="'legacy'"):
        endpoint(own_server).session()
    today = datetime.now(UTC).date()

    def exception(days: int) -> dict[str, Any]:
        return {"algorithms": algorithms, "until": today + timedelta(days=days), "reason": "their new server comes in May"}

    ground = ground_at(own_server, tmp_path / "spool", legacy=exception(days=1))
    ground.write(b"a.csv", b"content")
    assert ground.holds(ground.fetch(ground.look().values())[b"a.csv"]) == b"content"
    with pytest.raises(ConfigurationError, match=r"ended on .*their new server comes in May"):
        endpoint(own_server, legacy=exception(days=-1)).session()


@pytest.mark.parametrize(("protocol", "algorithm"), [("sftp", "ssh-rsa"), ("ftps", "TLSv1")])
def test_row_49_what_cannot_be_allowed_at_all_is_said_when_the_profile_is_read(
    protocol: str, algorithm: str, servers: dict[str, Server]
) -> None:
    legacy = {"algorithms": [algorithm], "until": "2099-01-01", "reason": "?"}
    with pytest.raises(ValidationError, match="not among those that an exception can allow"):
        endpoint(servers[protocol], legacy=legacy)


@pytest.fixture
def connected() -> Iterator[list[Any]]:
    """Every address to which a socket of this process is connected from now on."""
    addresses: list[Any] = []
    _listening.append(addresses)
    yield addresses
    _listening.remove(addresses)


_listening: list[list[Any]] = []


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        for addresses in _listening:
            addresses.append(arguments[1])


sys.addaudithook(_heard)


@pytest.mark.parametrize("protocol", ["ftp", "ftps"])
def test_row_50_data_connections_go_to_the_host_of_the_control_connection_whatever_pasv_says(
    protocol: str, servers: dict[str, Server], tmp_path: Path, connected: list[Any]
) -> None:
    server = servers[protocol]
    ground = ground_at(server, tmp_path / "spool")
    ground.write(b"a.csv", b"content")
    server.faults.update({"no-epsv": 1, "foreign-pasv": 1})
    try:
        assert ground.holds(ground.fetch(ground.look().values())[b"a.csv"]) == b"content"
        assert isinstance(ground.put([ground.outgoing(b"b.csv", b"ours")])[b"b.csv"], Placed)
    finally:
        server.faults.clear()
    hosts = {address[0] for address in connected if isinstance(address, tuple)}
    assert hosts == {server.host}


@pytest.mark.parametrize("protocol", ["ftp", "ftps", "sftp"])
def test_row_51_every_byte_arrives_as_it_was_also_line_ends(protocol: str, servers: dict[str, Server], tmp_path: Path) -> None:
    ground = ground_at(servers[protocol], tmp_path / "spool")  # the FTP server is in ASCII mode until it is told otherwise
    content = b"unix\nwindows\r\nmac\r\r\n\n" + bytes(range(256)) * 40 + b"\x1a\r"
    ground.write(b"a.bin", content)
    assert ground.holds(ground.fetch(ground.look().values())[b"a.bin"]) == content
    assert isinstance(ground.put([ground.outgoing(b"b.bin", content)])[b"b.bin"], Placed)
    assert (ground.place / "b.bin").read_bytes() == content


# --------------------------------------------------------------------------------------------- 52 to 54: again, anew, in time


def test_row_52_the_same_bytes_every_day_under_new_names_are_one_object(sftp_bay: Bay) -> None:
    bay = sftp_bay
    bay.leave("monday.csv", price_list())
    assert bay.run().name == "Filed"
    for day in ("tuesday", "wednesday"):
        bay.leave(f"{day}.csv", price_list())
        assert bay.run().name == "Nothing new, 1 duplicate"
    assert bay.filed() == {"monday.csv": [price_list()]}
    first, *others = bay.histories()
    duplicates = [entry for entries in bay.histories().values() for entry in entries if entry.kind == "duplicate"]
    assert [entry.body["duplicate_of"] for entry in duplicates] == [first] * len(others)
    assert bay.codes(everything=True) == []


@pytest.mark.parametrize(
    ("policy", "second", "codes", "objects"),
    [("refuse", "Nothing filed, 1 quarantined", ["duplicate-content"], 1), ("file", "Filed", [], 2)],
)
def test_row_52_unless_the_stream_says_otherwise(
    policy: str, second: str, codes: list[str], objects: int, sftp_bay: Bay
) -> None:
    bay = sftp_bay
    bay.agree(duplicates=policy)
    bay.leave("monday.csv", price_list())
    assert bay.run().name == "Filed"
    bay.leave("tuesday.csv", price_list())
    assert bay.run().name == second
    assert bay.codes() == codes
    assert len(bay.filed()) == objects


@pytest.mark.parametrize("disposition", ["remove", "leave"])
def test_row_53_other_bytes_under_the_same_name_are_a_new_version_and_both_digests_are_kept(disposition: str, bay: Bay) -> None:
    bay.agree(disposition={"accepted": disposition})
    versions = [price_list(first=1), price_list(first=2)]
    for number, content in enumerate(versions):
        bay.leave("p1.csv", content, modified=1_790_000_000 + 60 * number)
        assert bay.run().name == "Filed"
    assert bay.filed() == {"p1.csv": versions}
    filed = [entry.body for entries in bay.histories().values() for entry in entries if entry.kind == "filed"]
    assert [(body["digest"], body["version"]) for body in filed] == [
        (hashlib.sha256(content).hexdigest(), number) for number, content in enumerate(versions, 1)
    ]


BERLIN = "Europe/Berlin"


def expected(**terms: Any) -> Expected:
    return Expected.model_validate({"by": "06:30", **terms})


@pytest.mark.parametrize(
    ("terms", "zone", "day", "utc"),
    [
        pytest.param({}, BERLIN, "2026-03-28", "05:30", id="the day before clocks go forward"),
        pytest.param({}, BERLIN, "2026-03-29", "04:30", id="on that day, of 23 hours"),
        pytest.param({"by": "02:30"}, BERLIN, "2026-03-29", "01:30", id="a time that never comes that day"),
        pytest.param({}, BERLIN, "2026-10-24", "04:30", id="the day before clocks go back"),
        pytest.param({}, BERLIN, "2026-10-25", "05:30", id="on that day, of 25 hours"),
        pytest.param({"by": "02:30"}, BERLIN, "2026-10-25", "01:30", id="a time that comes twice: the later one"),
        pytest.param({}, "Asia/Kolkata", "2026-03-29", "01:00", id="a zone of half hours without summer time"),
        pytest.param({"days": ["mon", "fri"]}, BERLIN, "2026-03-29", None, id="not on a Sunday"),
        pytest.param({"month_days": [-1]}, BERLIN, "2026-11-30", "05:30", id="the end of a month of 30 days"),
        pytest.param({"month_days": [-1]}, BERLIN, "2026-11-29", None, id="and not the day before"),
        pytest.param({"month_days": [31]}, BERLIN, "2026-02-28", "05:30", id="the 31st of February is its last day"),
        pytest.param({"month_days": [29]}, BERLIN, "2028-02-29", "05:30", id="a leap day"),
        pytest.param({"month_days": [-1]}, BERLIN, "2028-02-28", None, id="the day before a leap day is no month's end"),
        pytest.param({"except_on": ["2026-12-25"]}, BERLIN, "2026-12-25", None, id="a holiday"),
    ],
)
def test_row_54_what_is_expected_is_so_on_the_partners_clock(
    terms: dict[str, Any], zone: str, day: str, utc: str | None
) -> None:
    moment = due(expected(**terms), zone, date.fromisoformat(day))
    assert moment == (None if utc is None else datetime.fromisoformat(f"{day}T{utc}:00+00:00"))


@pytest.mark.parametrize(
    ("now", "hours"),
    [("2026-03-29T12:00:00+00:00", 23), ("2026-10-25T12:00:00+00:00", 25), ("2026-06-01T12:00:00+00:00", 24)],
)
def test_row_54_a_day_has_23_24_or_25_hours(now: str, hours: int) -> None:
    moments = last_due(expected(), BERLIN, datetime.fromisoformat(now))
    assert moments is not None
    assert moments[1] - moments[0] == timedelta(hours=hours)


def test_row_54_what_has_not_come_in_time_is_told_once_and_over_when_it_comes(
    sftp_bay: Bay, told: Callable[[], list[str]]
) -> None:
    bay, zone = sftp_bay, "Pacific/Auckland"
    a_minute_ago = (datetime.now(ZoneInfo(zone)) - timedelta(minutes=1)).strftime("%H:%M:%S")
    bay.agree(zone=zone, expect={"by": a_minute_ago})
    for _ in range(2):
        assert bay.run().name == "Nothing new"
    assert bay.codes() == ["late"]
    assert told().count("countersign.intake.late") == 1
    bay.leave("p1.csv", price_list())
    assert bay.run().name == "Filed"
    assert bay.run().name == "Nothing new"
    assert (bay.codes(), bay.codes(everything=True)) == ([], ["late"])
