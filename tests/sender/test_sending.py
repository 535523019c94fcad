"""What leaves, and what does not: a real sender, a real OpenSSH server as the partner."""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from blocks.endpoints import sftp_engine
from blocks.endpoints.base import TEMPORARY, EndpointSession
from blocks.endpoints.sftp import SftpSession
from blocks.errors import (
    EndpointError,
    EndpointUnreachable,
    HostKeyChanged,
    SenderError,
    SenderUnreachable,
    SendRefused,
    TransferIncomplete,
)
from blocks.outbound import Delivered, Package, Refusal
from blocks.profile import load_partner
from blocks.seals import signed as sealed_by
from blocks.sender import Arrived, MessageKind, ServiceMessage, Withdrawn
from blocks.spool import Batch, Spool, place_in
from blocks.values import Exists, Fetched, FileKind, Missed, Move, Moved, Placed, Proof, RemoteFile
from deployments.people import load_people
from deployments.sender import delivery
from deployments.sender.delivery import MOST_IN_DOUBT, Freight, deliver, signing_in
from deployments.sender.dispatch import Dispatcher
from deployments.sender.store import Parcel, Step, Store
from deployments.ssh_signatures import signature_holds
from tests.conformance.endpoints.checks import LONG_AGO
from tests.sender.conftest import ROOT, House, Outgoing
from tests.sender.driver import die_at
from tests.sender.thread import sender_thread
from tests.servers.users import need_root

THREE = (b"one", b"two" * 1000, b"")


def test_a_signed_package_arrives_whole_and_proven(house: House) -> None:
    release = house.outgoing(house.package(*THREE))
    release.approve(house.newcomer())
    [arrived] = release.send()
    assert arrived.complete
    assert house.received(release.matter_package) == {"1.csv": THREE[0], "2.csv": THREE[1], "3.csv": THREE[2]}
    assert [(file.name, file.proof, file.approved == file.read == file.sent == file.proven) for file in arrived.files] == [
        (name, Proof.READ_BACK, True) for name in (b"1.csv", b"2.csv", b"3.csv")
    ]
    house.folder(release.matter_package).joinpath("1.csv").unlink()  # the partner collects
    assert arrived.endpoint == "drop" and arrived.personality is not None and arrived.personality.listing == "SFTP"
    assert release.send() == [arrived], "asked again: told the same"
    assert "1.csv" not in house.received(release.matter_package), "and not sent again"


def test_the_sender_copies_what_was_released_before_it_is_asked_to_send_and_nothing_of_it_leaves(house: House) -> None:
    release = house.outgoing(house.package(b"one", b"two"))
    package, outbox = release.matter_package, house.state / "outbox" / release.matter_package.digest
    release.next_round()
    with house.client() as client:
        with pytest.raises(SendRefused, match="not complete"):
            client.prepare(package, release.policies, release.votes)
        assert not outbox.exists(), "not before people have released it"
        release.approve(house.newcomer())
        changed = place_in(house.home / "spool", package.files[1].sha256)
        changed.chmod(0o600)
        changed.write_bytes(b"TWO")
        assert client.prepare(package, release.policies, release.votes) == {package.files[1].sha256}
        changed.write_bytes(b"two")
        assert client.prepare(package, release.policies, release.votes) == frozenset()
        assert sorted(path.read_bytes() for path in outbox.iterdir()) == [b"one", b"two"]
        assert house.received(package) == {}
        void = [replace(one, newest=None) for one in release.seen()]
        with pytest.raises(SendRefused, match="void"):
            release.send(seen=void)
        changed.write_bytes(b"TWO")  # what was copied is what was approved
        assert release.send()[0].complete
        assert house.received(package) == {"1.csv": b"one", "2.csv": b"two"}
        client.unstage(package.digest)
        assert client.prepare(package, release.policies, release.votes) == frozenset()
    assert not outbox.exists(), "it has been sent"


def test_several_who_have_a_package_prepared_at_once_are_no_bother_to_each_other(quiet_house: House) -> None:
    house = quiet_house
    release = house.outgoing(house.package(*(b"%d" % number for number in range(300))))
    with house.sender(), house.client() as client, ThreadPoolExecutor(4) as together:
        release.approve(house.newcomer())
        asked = [release.matter_package, release.policies, release.votes]
        assert list(together.map(lambda _: client.prepare(*asked), range(8))) == [frozenset()] * 8
        assert release.send()[0].complete


def test_checksums_a_manifest_and_the_done_file_last(quiet_house: House) -> None:
    house = quiet_house
    place = {"endpoint": "drop", "folder": f"{house.remote}/{{order}}"}
    house.agree(destinations=[{**place, "sidecar": "{name}.sha256", "manifest": "{order}.json", "done_file": "{order}.done"}])
    anna = house.newcomer()
    release = house.outgoing(house.package(b"one", b"two"))
    order = release.matter_package.order
    with house.sender(), watched(house.folder(release.matter_package)) as seen:
        release.approve(anna)
        [arrived] = release.send()
    assert arrived.complete
    received = house.received(release.matter_package)
    assert set(received) == {"1.csv", "2.csv", "1.csv.sha256", "2.csv.sha256", f"{order}.json", f"{order}.done"}
    checked = subprocess.run(
        ["sha256sum", "--strict", "-c", "1.csv.sha256", "2.csv.sha256"], cwd=house.folder(release.matter_package), check=False
    )
    assert checked.returncode == 0
    assert all(names >= set(received) for names in seen if f"{order}.done" in names), "whoever sees the done file sees all"
    assert [file.name for file in arrived.files] == [b"1.csv", b"2.csv"]


@contextmanager
def watched(folder: Path) -> Iterator[list[set[str]]]:
    """What a partner's program sees, looking without a pause."""
    seen: list[set[str]] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            seen.append({name for name in os.listdir(folder) if not name.startswith(".")})
            time.sleep(0.01)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


# --------------------------------------------------------------------------------------------- what does not leave


def test_bytes_changed_in_the_spool_never_leave_not_even_under_a_temporary_name(house: House) -> None:
    release = house.outgoing(house.package(b"one", b"two"))
    release.approve(house.newcomer())
    changed = place_in(house.home / "spool", release.matter_package.files[1].sha256)
    changed.chmod(0o600)
    changed.write_bytes(b"TWO")
    with (
        watched_raw(house.folder(release.matter_package)) as names,
        pytest.raises(SendRefused, match="other bytes stand there"),
    ):
        release.send()
    assert names == set()
    changed.write_bytes(b"two")
    assert release.send()[0].complete, "fetched again with an equal digest: the votes stand"


@contextmanager
def watched_raw(folder: Path) -> Iterator[set[str]]:
    names: set[str] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            names.update(os.listdir(folder))
            time.sleep(0.01)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield names
    finally:
        stop.set()
        thread.join()


def test_a_link_in_the_spool_does_not_carry_the_senders_secrets_out(house: House) -> None:
    secret = (house.state / "seal.pem").read_bytes()
    package = house.package(secret)
    release = house.outgoing(package)
    release.approve(house.newcomer())
    place = place_in(house.home / "spool", package.files[0].sha256)
    place.unlink()
    place.symlink_to(house.state / "seal.pem")
    with pytest.raises(SendRefused, match="cannot be read"):
        release.send()
    assert house.received(package) == {}


def test_votes_that_do_not_hold(house: House) -> None:
    anna, ben = house.newcomer(), house.newcomer()
    release, other = house.outgoing(house.package(b"one")), house.outgoing(house.package(b"two"))
    vote = other.approve(anna)
    with pytest.raises(SendRefused, match="never opened"):
        release.send([vote])
    release.next_round()
    with pytest.raises(SendRefused, match="not complete"):
        release.send([])
    with pytest.raises(SendRefused, match="not complete"):
        release.send([vote])
    forged = replace(vote, package=release.matter_package.digest, run=release.run)
    for seal in (vote.seal, "", base64.b64encode(b"x" * 64).decode()):
        with pytest.raises(SendRefused, match="does not bear this sender's seal"):
            release.send([replace(forged, seal=seal)])
    assert house.received(release.matter_package) == {}
    rejected = release.judge(release.answer(ben, house.code(ben), decision="reject", comment="no"))
    assert not isinstance(rejected, Refusal)
    assert isinstance(release.judge(release.answer(ben, "111111")), Refusal)
    with pytest.raises(SendRefused, match="rejected"):
        release.send([]), "a rejection that the caller keeps to itself"
    assert house.received(release.matter_package) == {}


def test_who_was_taken_out_of_the_people_file_has_lost_the_vote(house: House) -> None:
    anna = house.newcomer()
    release = house.outgoing(house.package(b"one"))
    release.approve(anna)
    house.people(without=anna)
    try:
        with pytest.raises(SendRefused, match="not complete"):
            release.send()
    finally:
        house.people()
    assert house.received(release.matter_package) == {}


def test_destinations_come_from_the_reviewed_profile_only(house: House) -> None:
    anna = house.newcomer()
    honest = house.package(b"one")
    (destination,) = honest.destinations
    elsewhere = house.remote / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    for change in (
        {"path": str(elsewhere)},
        {"path": f"{house.remote}/{honest.order}/../elsewhere"},
        {"user": "mallory"},
        {"port": 2200},
        {"key_fingerprint": ""},
    ):
        release = house.outgoing(replace(honest, order=f"{honest.order}", destinations=(replace(destination, **change),)))
        with house.client():
            release.judge(release.answer(anna, house.code(anna)))
        with Store(house.state) as store:
            _forget(store, anna)
        if not release.votes:
            pytest.fail("the vote is not what this test asks about")
        with pytest.raises(SendRefused, match="in the reviewed profile"):
            release.send()
    assert list(elsewhere.iterdir()) == []
    assert house.received(honest) == {}


def _forget(store: Store, approver: str) -> None:
    """So that one code serves a test several times."""
    from sqlalchemy import text

    with store._writing() as connection:
        connection.execute(text("DELETE FROM spent"))
        connection.execute(text("DELETE FROM burnt"))


def test_an_edited_profile_voids_what_was_signed(quiet_house: House) -> None:
    house = quiet_house
    anna = house.newcomer()
    release = house.outgoing(house.package(b"one"))
    with house.sender():
        release.approve(anna)
        house.agree(quorum=2)
        with pytest.raises(SendRefused, match="have changed since it was frozen"):
            release.send()
        house.agree()
        edit(house, lambda partner: partner["endpoints"]["drop"]["host_keys"].append("SHA256:" + 43 * "A"))
        with pytest.raises(SendRefused, match="have changed since it was frozen"):
            release.send()
        house.agree()
        edit(house, lambda partner: partner["streams"]["contracts"].update(freshness="latest"))  # no business of this package
        with pytest.raises(SendRefused, match="bytes-changed"):
            release.send(seen=release.seen(sha256="0" * 64))
        assert house.received(release.matter_package) == {}
        assert release.send()[0].complete


def edit(house: House, change: Callable[[dict[str, Any]], object]) -> None:
    """Somebody edits the partner's reviewed file."""
    path = house.profiles / "acme.yaml"
    told = yaml.safe_load(path.read_text())
    change(told["partner"])
    path.write_text(yaml.safe_dump(told))


def test_a_lacking_paper_stops_what_has_not_arrived_and_leaves_what_has(house: House) -> None:
    """The sender reads the profile and the repository itself: nothing that a caller tells says how the papers stand."""
    folder, attribute = f"{house.remote}/{{order}}", {"category": "Papers", "attribute": "Status"}
    needs = {
        "repository": "papers",
        "folder": "acme",
        "required": {"iso": {"title": "ISO 9001", "pattern": "iso*", "expires": False}},
    }
    kept = {"repositories": {"papers": {"kind": "folder", "path": str(house.home / "papers")}}}
    (house.home / "papers").mkdir()
    house.agree(more={"twice": {"destinations": [{"endpoint": "drop", "folder": one} for one in (folder, f"{folder}-2")]}})
    try:
        package = house.package(b"one", stream="twice")
        [first] = package.destinations
        second = house.remote / f"{package.order}-2"
        release = house.outgoing(replace(package, destinations=(first, replace(first, path=str(second)))))
        release.approve(house.newcomer())
        assert [one.complete for one in release.send()] == [True, False], "its folder is not there"

        edit(house, lambda partner: partner.update(papers={**needs, "approved": {**attribute, "values": ["Approved"]}}))
        second.mkdir()
        for said in ("repositories.yaml", "ISO 9001: missing"):
            arrived = release.send()
            assert [(one.complete, one.withheld) for one in arrived] == [(True, False), (False, True)]
            assert said in arrived[1].problem and not arrived[1].worth_retrying and list(second.iterdir()) == []
            (house.profiles / "repositories.yaml").write_text(yaml.safe_dump(kept))
        edit(house, lambda partner: partner["papers"].update(lacking="tell"))
        assert all(one.complete for one in release.send()) and (second / "1.csv").read_bytes() == b"one"
    finally:
        house.agree()
        (house.profiles / "repositories.yaml").unlink(missing_ok=True)


def test_a_name_that_is_taken_stops_all_files_and_overwrites_nothing(house: House) -> None:
    release = house.outgoing(house.package(b"one", b"two"))
    release.approve(house.newcomer())
    theirs = house.folder(release.matter_package) / "2.csv"
    theirs.write_bytes(b"theirs")
    [arrived] = release.send()
    assert "taken" in arrived.problem
    assert not arrived.worth_retrying
    assert house.received(release.matter_package) == {"2.csv": b"theirs"}
    theirs.unlink()
    assert release.send()[0].complete
    assert house.received(release.matter_package) == {"1.csv": b"one", "2.csv": b"two"}


def test_two_callers_at_once_send_once(house: House) -> None:
    release = house.outgoing(house.package(*THREE))
    release.approve(house.newcomer())
    with collecting(house.folder(release.matter_package)) as collected:
        threads = [threading.Thread(target=release.send) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(0.1)
    assert collected == Counter({"1.csv": 1, "2.csv": 1, "3.csv": 1})


def test_partners_who_never_answer_keep_nobody_from_signing(quiet_house: House) -> None:
    house, waiting = quiet_house, 48
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        house.partner = replace(house.partner, port=silent.getsockname()[1])
        house.agree()
        edit(house, lambda partner: partner["endpoints"]["drop"].update(timeout_seconds=300))  # longer than all else here takes
        anna, bea = house.newcomer(), house.newcomer()
        ended: list[str] = []

        def send(release: Outgoing) -> None:
            try:
                ended.append(str(release.send()))
            except SenderUnreachable as error:
                ended.append(str(error))

        with house.sender() as process:
            stuck, next_one = (house.outgoing(house.package(content)) for content in THREE[:2])
            stuck.approve(anna)
            threads = [threading.Thread(target=send, args=(stuck,)) for _ in range(waiting)]
            for thread in threads:
                thread.start()
            until = time.monotonic() + 200
            while connections(house.socket) < waiting and time.monotonic() < until:
                time.sleep(0.02)
            next_one.approve(bea)
            assert ended == [], "they all still wait for their partner, or for their turn"
            process.kill()
        for thread in threads:
            thread.join(300)
    assert len(ended) == waiting


def connections(path: Path) -> int:
    """How many callers are connected to a Unix socket."""
    return sum(line.endswith(str(path)) for line in Path("/proc/net/unix").read_text().splitlines()) - 1


# --------------------------------------------------------------------------------------------- killed


@contextmanager
def collecting(folder: Path) -> Iterator[Counter[str]]:
    """A partner who takes every file the moment it appears."""
    taken: Counter[str] = Counter()
    stop = threading.Event()

    def collect() -> None:
        while True:
            last = stop.is_set()
            for name in os.listdir(folder):
                if not name.startswith("."):
                    (folder / name).unlink()
                    taken[name] += 1
            if last:
                return
            time.sleep(0.01)

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        yield taken
    finally:
        stop.set()
        thread.join()


def freight(house: House, package: Package) -> Freight:
    from blocks.values import Outgoing

    paths = [place_in(house.home / "spool", file.sha256) for file in package.files]
    outgoing = [Outgoing(path, f.name, f.size, f.sha256) for path, f in zip(paths, package.files, strict=True)]
    endpoint = load_partner("acme", house.profiles).endpoints["drop"]
    return Freight(
        package=package.digest,
        destination="d",
        endpoint=endpoint,
        folder=str(house.folder(package)),
        pins=frozenset({house.partner.fingerprint}),
        files=outgoing,
        sources=[file.name for file in package.files],
        last=1,
    )


def visit(house: House, package: Package, number: int, *, written: bool) -> bool:
    """One delivery in a process that is killed at its N-th written step; True if it lived to the end."""
    child = os.fork()
    if child == 0:
        try:
            die_at(number, written=written)
            with Store(house.state) as store:
                deliver(freight(house, package), store, Spool(house.state / "scratch", floor_bytes=0))
        except BaseException:  # noqa: BLE001 - nothing of this process may go on in the tests
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, "it ended by an error"
    return os.WIFEXITED(status)


@pytest.mark.parametrize(
    ("collects", "written"),
    [
        pytest.param(False, False, id="after the act, partner leaves files", marks=pytest.mark.soak),
        pytest.param(True, False, id="after the act, partner collects at once"),
        pytest.param(True, True, id="before the act, partner collects at once"),
    ],
)
def test_killed_at_every_step_each_file_arrives_once(quiet_house: House, collects: bool, written: bool) -> None:
    house, number, unknown = quiet_house, 1, 0
    while True:
        package = house.package(*THREE)
        if collects:
            with collecting(house.folder(package)) as taken:
                lived = visit(house, package, number, written=written)
                assert visit(house, package, 1000, written=True)
        else:
            lived = visit(house, package, number, written=written)
            assert visit(house, package, 1000, written=True)
            visible = {name: content for name, content in house.received(package).items() if not name.startswith(".")}
            assert visible == {"1.csv": THREE[0], "2.csv": THREE[1], "3.csv": THREE[2]}
            taken = Counter(visible.keys())
        with Store(house.state) as store:
            parcels = store.parcels(package.digest)
        lost = {parcel.name.decode() for parcel in parcels if parcel.step is Step.UNKNOWN}
        unknown += bool(lost)
        assert collects or not lost
        assert max(taken.values()) == 1, "nothing arrives twice"
        if not lost:
            assert dict(taken) == {"1.csv": 1, "2.csv": 1, "3.csv": 1}
            assert all(parcel.step.final for parcel in parcels)
        number += 1
        if lived:
            break
    assert number > 10, "the walk has steps"
    # Renamed, collected, and killed before it was written down: nobody here can know, so a person is asked.
    assert unknown > 0 or not collects or written


def test_so_many_renames_are_in_doubt_at_a_time_and_none_is_asked_for_unwritten(
    quiet_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The intent is on record before the name appears; and the record is a few transactions, not one for each file."""
    house, move, doubted, written = quiet_house, Store.move, list[int](), list[set[Step]]()
    package = house.package(*(f"{number}".encode() for number in range(3 * MOST_IN_DOUBT + 1)))

    def watched(self: Store, moves: Mapping[Step, Iterable[Parcel]]) -> list[Parcel]:
        moved = move(self, moves)
        stand = {name for name in house.received(package) if not name.startswith(".")}
        steps = {parcel.name.decode(): parcel.step for parcel in self.parcels(package.digest)}
        assert all(steps[name] in (Step.RENAMING, Step.PLACED, Step.PROVEN) for name in stand)
        doubted.append(list(steps.values()).count(Step.RENAMING))
        written.append({parcel.step for parcel in moved})
        return moved

    monkeypatch.setattr(Store, "move", watched)
    with Store(house.state) as store:
        parcels = deliver(freight(house, package), store, Spool(house.state / "scratch", floor_bytes=0))
    assert {parcel.step for parcel in parcels} == {Step.PROVEN}
    assert max(doubted) == MOST_IN_DOUBT and len(doubted) < len(package.files)
    assert {Step.PLACED, Step.RENAMING} in written, "what became of the last ones, and what is asked for next"


def test_what_goes_is_written_down_while_we_sign_in_and_before_anything_is_placed(
    quiet_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, intend, put, connect = quiet_house, Store.intend, SftpSession.put, SftpSession._connect
    package, calling, begun = house.package(b"one", b"two"), threading.Event(), list[set[Step]]()

    def connected(self: SftpSession) -> None:
        calling.set()
        connect(self)

    def intended(self: Store, parcels: Iterable[Parcel]) -> list[Parcel]:
        assert calling.wait(30), "nobody waits for that before we call"
        time.sleep(0.5)  # longer than it takes to sign in
        return intend(self, parcels)

    def placing(self: SftpSession, *given: Any, **more: Any) -> Iterator[Placed | Missed]:
        with Store(house.state) as other:
            begun.append({parcel.step for parcel in other.parcels(package.digest)})
        return put(self, *given, **more)

    monkeypatch.setattr(Store, "intend", intended)
    monkeypatch.setattr(SftpSession, "_connect", connected)
    monkeypatch.setattr(SftpSession, "put", placing)
    with Store(house.state) as store:
        parcels = deliver(freight(house, package), store, Spool(house.state / "scratch", floor_bytes=0))
    assert {parcel.step for parcel in parcels} == {Step.PROVEN} and begun == [{Step.INTENDED}]


@pytest.mark.parametrize("fails", [False, True], ids=["which succeeds", "which fails"])
def test_we_sign_in_while_the_files_are_made_ready(fails: bool, quiet_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house, connect, close, outgoing = quiet_house, SftpSession._connect, SftpSession.close, Dispatcher._outgoing
    calling, ended = threading.Event(), list[SftpSession]()

    def connected(self: SftpSession) -> None:
        calling.set()
        connect(self)

    def closed(self: SftpSession) -> None:
        close(self)
        ended.append(self)

    def made(self: Dispatcher, *about: Any) -> Any:
        assert calling.wait(30), "nobody waits for that before we call"
        if fails:
            raise SendRefused("no room")
        return outgoing(self, *about)

    with sender_thread(house.socket, house.state, profiles=house.profiles, spool=house.home / "spool"):
        release = house.outgoing(house.package(*THREE))
        release.approve(house.newcomer())
        monkeypatch.setattr(SftpSession, "_connect", connected)
        monkeypatch.setattr(SftpSession, "close", closed)
        monkeypatch.setattr(Dispatcher, "_outgoing", made)
        [arrived] = release.send()
        assert (arrived.complete, arrived.problem) == ((False, "no room") if fails else (True, ""))
        assert len(set(ended)) == 1, "nobody stays signed in"
        if not fails:
            calling.clear()
            monkeypatch.setattr(Dispatcher, "_outgoing", outgoing)
            monkeypatch.setattr(Dispatcher, "_complete", lambda self, package: False)  # as where another destination is not
            assert release.send() == [replace(arrived, endpoint="", personality=None)]
            assert not calling.is_set(), "nobody is called where all is settled"


@pytest.mark.parametrize(
    ("when", "known"),
    [
        pytest.param("before", set(), id="before it is written down"),
        pytest.param("signing in", {Step.INTENDED}, id="while we sign in"),
        pytest.param("after", {Step.INTENDED}, id="before anything is placed"),
    ],
)
def test_killed_about_the_intent_nothing_is_placed_and_the_next_visit_sends_all(
    quiet_house: House, when: str, known: set[Step]
) -> None:
    house, intend, connect = quiet_house, Store.intend, SftpSession._connect
    package = house.package(*THREE)

    def killed() -> None:
        time.sleep(0.5)  # the other of the two gets through meanwhile
        os.kill(os.getpid(), signal.SIGKILL)

    def intended(self: Store, parcels: Iterable[Parcel]) -> list[Parcel]:
        if when == "before":
            killed()
        done = intend(self, parcels)
        if when == "after":
            killed()
        return done

    def connected(self: SftpSession) -> None:
        if when == "signing in":
            killed()
        connect(self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Store, "intend", intended)
        patched.setattr(SftpSession, "_connect", connected)
        assert not visit(house, package, sys.maxsize, written=True)
    assert house.received(package) == {}
    with Store(house.state) as store:
        assert {parcel.step for parcel in store.parcels(package.digest)} == known
    assert visit(house, package, sys.maxsize, written=True)
    assert sorted(house.received(package)) == ["1.csv", "2.csv", "3.csv"]


def test_what_cannot_be_written_down_is_not_begun(quiet_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house, sessions, close = quiet_house, list[SftpSession](), SftpSession.close
    package = house.package(b"one", b"two")

    def closed(self: SftpSession) -> None:
        close(self)
        sessions.append(self)

    def full(self: Store, parcels: Iterable[Parcel]) -> list[Parcel]:
        raise SenderError("no room")

    monkeypatch.setattr(SftpSession, "close", closed)
    monkeypatch.setattr(Store, "intend", full)
    with Store(house.state) as store, pytest.raises(SenderError, match="no room"):
        deliver(freight(house, package), store, Spool(house.state / "scratch", floor_bytes=0))
    assert house.received(package) == {} and len(sessions) == 1, "nothing was placed, and nobody stays signed in"


@pytest.mark.parametrize("early", [True, False], ids=["signed in to before", "called now"])
def test_a_server_that_was_not_approved_is_given_nothing(early: bool, quiet_house: House) -> None:
    house, opened = quiet_house, list[EndpointSession]()
    package = house.package(b"one", b"two")
    asked = replace(freight(house, package), pins=frozenset({"SHA256:of-another"}))
    with Store(house.state) as store, signing_in(asked.endpoint) as session, pytest.raises(HostKeyChanged, match="of-another"):
        opened.append(session())
        deliver(asked, store, Spool(house.state / "scratch", floor_bytes=0), session=session if early else None)
    assert house.received(package) == {}
    with pytest.raises(EndpointError, match="closed"):
        list(opened[0].look("."))


def test_what_was_settled_with_others_renames_is_asked_for_no_more(quiet_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server did late what a killed sender had asked for. One file's answer has us look, and that settles the other's too."""
    house, rename, rounds = quiet_house, SftpSession.rename, itertools.count(1)
    package = house.package(b"one", b"two", b"the last one")
    assert not visit(house, package, 7, written=True), "killed when it had written down that it asks for two"
    with Store(house.state) as store:
        parcels = [parcel for parcel in store.parcels(package.digest) if parcel.step is Step.RENAMING]
    assert [parcel.name for parcel in parcels] == [b"1.csv", b"2.csv"]

    def late(self: SftpSession, moves: Iterable[Move], *, exists: Exists) -> Iterator[Moved]:
        if next(rounds) == 1:
            for parcel in parcels:
                (house.folder(package) / parcel.temporary.decode()).rename(house.folder(package) / parcel.name.decode())
        else:
            (house.folder(package) / "2.csv").unlink(missing_ok=True)  # the partner collects it
        return rename(self, moves, exists=exists)

    monkeypatch.setattr(SftpSession, "rename", late)
    monkeypatch.setattr(delivery, "MOST_IN_DOUBT", 1)
    with Store(house.state) as store:
        ended = deliver(freight(house, package), store, Spool(house.state / "scratch", floor_bytes=0))
    assert [parcel.step for parcel in ended] == [Step.PROVEN, Step.COLLECTED, Step.PROVEN], "it is known that it stood there"


@pytest.mark.parametrize("size", [3, 200_000], ids=["small", "large"])
def test_bytes_that_the_server_keeps_otherwise_than_they_were_sent_get_no_name(
    size: int, quiet_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, write = quiet_house, sftp_engine.write
    spoilt, whole = b"x" * size, b"y" * size
    package = house.package(whole, spoilt)

    def spoiling(handle: sftp_engine.Bytes, offset: int, data: bytes) -> sftp_engine.Request:
        return write(handle, offset, b"z" + data[1:] if data[:1] == b"x" and not offset else data)

    with Store(house.state) as store:
        monkeypatch.setattr(sftp_engine, "write", spoiling)
        with pytest.raises(TransferIncomplete, match=r"2\.csv: .* does not hold the bytes that were sent"):
            deliver(freight(house, package), store, Spool(house.state / "scratch", floor_bytes=0))
        assert all(name.startswith(".") for name in house.received(package)), "nobody sees either of them"
        monkeypatch.setattr(sftp_engine, "write", write)
        parcels = deliver(freight(house, package), store, Spool(house.state / "scratch", floor_bytes=0))
    assert [(parcel.step, parcel.proof) for parcel in parcels] == [(Step.PROVEN, Proof.READ_BACK)] * 2
    assert house.received(package) == {"1.csv": whole, "2.csv": spoilt}


@pytest.mark.parametrize("other", ["link", "file", "pipe", "nothing"])
@pytest.mark.parametrize("before", [True, False], ids=["before it is read back", "after"])
def test_what_took_the_place_of_an_upload_gets_no_name_nor_do_the_others_and_all_are_read_anew(
    other: str, before: bool, quiet_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, read_back, read = quiet_house, SftpSession.read_back, set[bytes]()
    package = house.package(b"one", b"two", b"the last one")

    def swap(file: RemoteFile) -> None:
        path = house.folder(package) / file.name.decode()
        path.rename(house.home / "moved")
        if other == "link":  # to the very bytes
            path.symlink_to(house.home / "moved")
        elif other == "file":
            path.write_bytes(b"more than that")
        elif other == "pipe":
            os.mkfifo(path)

    def meddled(self: SftpSession, files: Sequence[RemoteFile], into: Batch) -> Iterator[Fetched | Missed]:
        if before:
            swap(files[1])
        yield from read_back(self, files, into)
        if not before:
            swap(files[1])

    def noted(self: SftpSession, files: Sequence[RemoteFile], into: Batch) -> Iterator[Fetched | Missed]:
        read.update(file.name for file in files)
        return read_back(self, files, into)

    monkeypatch.setattr(SftpSession, "read_back", meddled)
    asked = freight(house, package)
    impatient = replace(asked, endpoint=asked.endpoint.model_copy(update={"timeout_seconds": 1.0}))
    waits = other == "pipe" and before
    with Store(house.state) as store:
        scratch = Spool(house.state / "scratch", floor_bytes=0)
        with pytest.raises(EndpointUnreachable if waits else TransferIncomplete, match=r"will be tried again"):
            deliver(impatient, store, scratch)
        left = list(house.folder(package).iterdir())
        assert all(path.name.startswith(".") for path in left), "nobody sees any of them"
        assert waits or len(left) == (other != "nothing"), "of ours nothing is left"
        for path in left:
            if path.is_fifo() and waits:  # the server's process still waits for somebody who writes
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            path.unlink()
        monkeypatch.setattr(SftpSession, "read_back", noted)
        parcels = deliver(asked, store, scratch)
    assert {(parcel.step, parcel.proof) for parcel in parcels} == {(Step.PROVEN, Proof.READ_BACK)}
    assert read == {parcel.temporary for parcel in parcels}


@pytest.mark.parametrize("told", [{"modified": LONG_AGO}, {"size": 0}, {"kind": FileKind.LINK}], ids=["time", "size", "kind"])
def test_a_listing_that_tells_of_other_files_than_stand_there_stops_nothing(
    told: Mapping[str, Any], quiet_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, look, fetch, asked = quiet_house, SftpSession.look, SftpSession.fetch, list[bytes]()
    package = house.package(b"one", b"two", b"the last one")

    def listed(self: SftpSession, folder: str) -> Iterator[RemoteFile]:
        return (replace(file, **told) if file.name.startswith(TEMPORARY) else file for file in look(self, folder))

    def fetched(self: SftpSession, files: Sequence[RemoteFile], into: Batch) -> Iterator[Fetched | Missed]:
        asked.extend(file.name for file in files)
        return fetch(self, files, into)

    monkeypatch.setattr(SftpSession, "look", listed)
    monkeypatch.setattr(SftpSession, "fetch", fetched)
    with Store(house.state) as store:
        parcels = deliver(freight(house, package), store, Spool(house.state / "scratch", floor_bytes=0))
    assert {(parcel.step, parcel.proof) for parcel in parcels} == {(Step.PROVEN, Proof.READ_BACK)}
    assert asked == [parcel.temporary for parcel in parcels], "each was asked for by itself"


def test_a_killed_sender_goes_on_when_it_is_asked_again(quiet_house: House) -> None:
    house = quiet_house
    house.agree(destinations=[{"endpoint": "drop", "folder": f"{house.remote}/{{order}}", "done_file": "all.done"}])
    anna = house.newcomer()
    package = house.package(*THREE)
    release = house.outgoing(package)
    with house.sender(die_at=12, log="first.log") as process:  # 4 uploaded, 4 read back, 1 to rename, 3 renamed
        release.approve(anna)
        with pytest.raises(SenderUnreachable):
            release.send()
        assert process.wait(300) == -9
    assert {name for name in house.received(package) if not name.startswith(".")} == {"1.csv", "2.csv", "3.csv"}
    (house.folder(package) / "1.csv").unlink()  # collected meanwhile
    with house.sender(log="second.log"):
        [arrived] = release.send()
    assert arrived.complete
    assert house.received(package) == {"2.csv": THREE[1], "3.csv": THREE[2], "all.done": b""}
    assert [file.collected for file in arrived.files] == [True, False, False]


LARGE = 16 * 1024 * 1024


@pytest.mark.parametrize("goes_on", [True, False], ids=["sent again", "withdrawn"])
def test_what_a_killed_upload_left_is_gone_after_the_next_visit(goes_on: bool, quiet_house: House) -> None:
    house = quiet_house
    anna = house.newcomer()
    release = house.outgoing(house.package(b"one", b"x" * LARGE))
    folder = house.folder(release.matter_package)
    (folder / ".countersign-theirs").write_bytes(b"a name that looks like ours, and is not in our store")

    with house.sender(die_in_upload=LARGE // 2, log="killed.log"):
        release.approve(anna)
        with pytest.raises(SenderUnreachable):
            release.send()
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert max(sizes.values()) < LARGE and all(name.startswith(".countersign-") for name in sizes), "killed in the middle"
    half = max(folder.glob("*.part"), key=lambda path: path.stat().st_size)
    with half.open("rb") as begun, house.sender(), house.client() as client:
        if goes_on:
            assert release.send()[0].complete
            assert {path.name for path in folder.iterdir()} == {"1.csv", "2.csv", ".countersign-theirs"}
            assert (folder / "2.csv").read_bytes() == b"x" * LARGE
            assert (folder / "2.csv").stat().st_ino == os.fstat(begun.fileno()).st_ino, "all of it was sent again"
        else:
            assert client.withdraw(release.matter_package) == Withdrawn()
            assert {path.name for path in folder.iterdir()} == {".countersign-theirs"}


def test_what_was_begun_is_cleared_away_when_the_package_goes_no_further_or_told(quiet_house: House) -> None:
    house = quiet_house
    anna = house.newcomer()
    release = house.outgoing(house.package(b"one", b"two"))
    with house.sender(die_at=5, log="killed.log"):
        release.approve(anna)
        with pytest.raises(SenderUnreachable):
            release.send()
    edit(house, lambda partner: partner["streams"]["prices"]["destinations"][0].update(folder="/elsewhere"))
    with house.sender(), house.client() as client:
        told = client.withdraw(release.matter_package)
        assert len(told.left) == 2 and "no destination of acme/prices in the reviewed profile" in told.problem
        assert {name.decode() for name in told.left} == set(house.received(release.matter_package))
        house.agree()
        assert client.withdraw(release.matter_package) == Withdrawn()
        assert house.received(release.matter_package) == {}
        assert client.withdraw(release.matter_package) == Withdrawn(), "asked again: nothing is left to do"
        assert release.send()[0].complete, "and if it is sent after all, it is uploaded anew"
        left_alone = client.withdraw(release.matter_package)
        assert (left_alone.stand, left_alone.left, left_alone.problem) == (2, (), ""), "what has arrived is left alone"
        assert list(left_alone.files) == list(release.send()[0].files), "and told as when it was sent"
        assert set(house.received(release.matter_package)) == {"1.csv", "2.csv"}


# --------------------------------------------------------------------------------------------- in doubt


def left_in_doubt(house: House, *contents: bytes) -> Outgoing:
    """A release whose sender was killed before it asked for the renames; then the first file's temporary was cleaned away."""
    anna = house.newcomer()
    release = house.outgoing(house.package(*contents))
    with house.sender(die_at=2 * len(contents) + 1, log="killed.log"):  # uploaded, read back, one step for all renames
        release.approve(anna)
        with pytest.raises(SenderUnreachable):
            release.send()
    with Store(house.state) as store:
        lost = store.parcels(release.matter_package.digest)[0]
    (house.folder(release.matter_package) / lost.temporary.decode()).unlink()
    return release


@pytest.mark.parametrize("arrived", [True, False], ids=["it-arrived", "send-it-again"])
def test_what_is_in_doubt_a_person_settles(quiet_house: House, arrived: bool) -> None:
    house = quiet_house
    release = left_in_doubt(house, b"one", b"two")
    package = release.matter_package
    with house.sender(), house.client() as client:
        [doubtful] = release.send()
        assert doubtful.unknown == (b"1.csv",) and not doubtful.complete and not doubtful.worth_retrying
        assert [name for name in house.received(package) if not name.startswith(".")] == []
        assert release.send() == [doubtful], "nothing is sent until somebody says so"
        ask: dict[str, Any] = {"package": package.digest, "destination": package.destinations[0], "comment": "asked Ms Ito"}
        with pytest.raises(SendRefused, match=r"2\.csv: nobody is in doubt"):
            client.settle(name=b"2.csv", arrived=arrived, **ask)
        settled = client.settle(name=b"1.csv", arrived=arrived, **ask)
        assert settled.left == 0 and settled.said.comment == "asked Ms Ito" and f"user id {os.geteuid()}" in settled.said.by
        assert client.settle(name=b"1.csv", arrived=arrived, **ask) == settled, "asked again: told the same"
        with pytest.raises(SendRefused, match="nobody is in doubt"):
            client.settle(name=b"1.csv", arrived=not arrived, **ask)
        [done] = release.send()
        assert done.complete
        if arrived:
            assert house.received(package) == {"2.csv": b"two"}, "exactly what was missing is sent"
            assert (done.files[0].proof, done.files[0].proven, done.files[0].said) == (Proof.TOLD, None, settled.said)
        else:
            assert house.received(package) == {"1.csv": b"one", "2.csv": b"two"}
            assert [(file.proof, file.said) for file in done.files] == [(Proof.READ_BACK, None)] * 2
        with pytest.raises(SendRefused, match="nobody is in doubt"):
            client.settle(name=b"1.csv", arrived=not arrived, **ask)


# --------------------------------------------------------------------------------------------- who may call

CALL = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
try:
    s.sendall(b"GET /health HTTP/1.1\\r\\nHost: sender\\r\\n\\r\\n")
    print(len(s.recv(100)))
except (BrokenPipeError, ConnectionResetError):
    print(0)
"""


def test_a_socket_for_its_owner_and_group_and_a_second_sender_is_refused(house: House) -> None:
    assert house.socket.stat().st_mode & 0o777 == 0o660
    command = [sys.executable, "-m", "tests.sender.driver", "--socket", str(house.home / "t"), "--state", str(house.state)]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert second.returncode != 0
    assert "another sender works here already" in " ".join(second.stderr.split())


def test_a_user_who_is_not_allowed_is_cut_off_and_only_operations_unlock_and_settle(quiet_house: House) -> None:
    need_root()
    worker, stranger = 54321, 65534
    with tempfile.TemporaryDirectory(prefix="sender-") as open_to_all:
        Path(open_to_all).chmod(0o755)  # so that it is not the folder that keeps them out
        house = replace(quiet_house, socket=Path(open_to_all) / "s")

        def call(uid: int) -> int:
            command = ["/usr/bin/python3", "-c", CALL, str(house.socket)]
            done = subprocess.run(command, user=uid, group=uid, extra_groups=[], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            return int(done.stdout)

        with house.sender("--worker-uid", str(worker), "--ops-uid", str(os.geteuid())):
            house.socket.chmod(0o666)
            assert call(worker) > 0
            assert call(stranger) == 0
        package = house.package(b"one")
        with house.sender("--worker-uid", str(os.geteuid()), "--ops-uid", "12345"), house.client() as client:
            with pytest.raises(SendRefused, match="that is for operations"):
                client.unlock("rita")
            with pytest.raises(SendRefused, match="that is for operations"):
                client.settle(package.digest, package.destinations[0], b"1.csv", arrived=True, comment="it is there")


# --------------------------------------------------------------------------------------------- the certificate


def test_a_certificate_is_sealed_only_for_what_was_signed_and_sent_here(house: House) -> None:
    from tasks.rules.certificate import certificate, verified, verify
    from tasks.rules.policy import standing

    anna = house.newcomer()
    release = house.outgoing(house.package(b"one", b"two"))
    release.approve(anna)
    [arrived] = release.send()
    terms = load_partner("acme", house.profiles).outbound["prices"]
    people, now = load_people(house.profiles), datetime.now(UTC)
    how_far = standing(release.matter, terms.signoff, people, release.votes, now)
    with house.client() as client:
        public = client.health().public

        def made(files: tuple[Delivered, ...], **otherwise: Any) -> str:
            return certificate(
                replace(release.matter, **otherwise),
                terms,
                release.policies,
                people,
                how_far,
                files,
                issued=now,
                zone="UTC",
                previous=None,
                public_key=public,
                seal=lambda message: client.seal("certificate", message.decode()),
            )

        text = made(arrived.files)
        checks = verify(text, public_key=public, sealed=sealed_by, signed=signature_holds, people=people)
        assert verified(checks), [check for check in checks if not check.passed]
        assert "1.csv" in text
        with pytest.raises(SendRefused, match="was not made, or not so"):
            made((arrived.files[0]._replace(proof=Proof.SERVER_HASH), arrived.files[1]))
        with pytest.raises(SendRefused, match="was not made, or not so"):
            made((arrived.files[0]._replace(name=b"3.csv"),))
        with pytest.raises(SendRefused, match="why one more person signed is told otherwise"):
            made(arrived.files, brake=("10 files, usually 2 to 3",))


def test_a_service_message_over_the_socket_and_sftp(house: House) -> None:
    """All else of them is in ``test_messages.py``."""
    bad = b"sku,description,currency,price,valid_from\nA,,EUR,one,2026-12-01\n"
    for folder in ("out", "notes"):
        (house.remote / folder).mkdir()
    path = house.profiles / "acme.yaml"
    agreed = yaml.safe_load(path.read_text())
    agreed["partner"]["streams"]["bad"] = {
        "endpoint": "drop",
        "folder": f"{house.remote}/out",
        "classify": [{"pattern": ".*", "doctype": "price-list"}],
        "target": {"repository": "ecm", "folder": "Prices"},
        "notes": {"folder": f"{house.remote}/notes", "formats": ["html"]},
    }
    path.write_text(yaml.safe_dump(agreed))
    (house.remote / "out" / "prices.csv").write_bytes(bad)
    with load_partner("acme", house.profiles).endpoints["drop"].session() as session:
        [file] = session.look(f"{house.remote}/out")
    facts = {"doctype": "price-list", "lines": [{"code": "wrong-type", "row": 2, "column": "price"}], "more": 0}
    message = ServiceMessage(MessageKind.NOTE, "acme", "bad", file, hashlib.sha256(bad).hexdigest(), facts)
    with house.client() as client:
        arrived: Arrived = client.tell(message)
        assert arrived.complete and client.tell(message) == arrived
        with pytest.raises(SendRefused, match="other bytes"):
            client.tell(replace(message, digest="0" * 64))
    [note] = (house.remote / "notes").iterdir()
    assert b"<code>one</code>" in note.read_bytes()
