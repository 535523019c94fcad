"""What only SFTP promises: who the server is, who we are, and what happens when server or line misbehave."""

from __future__ import annotations

import gc
import os
import socket
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import paramiko
import pytest

from blocks.endpoints import sftp
from blocks.endpoints.base import EndpointSession
from blocks.endpoints.sftp import Sftp, SftpSession
from blocks.endpoints.sftp_engine import Engine, Routine, Wire, Work, lstat
from blocks.endpoints.sftp_stock import Stock
from blocks.endpoints.ssh import host_fingerprint
from blocks.errors import (
    ConfigurationError,
    EndpointBusy,
    EndpointFull,
    EndpointUnreachable,
    HostKeyChanged,
    LoginRefused,
)
from blocks.spool import Spool
from blocks.values import Exists, Personality, Placed
from tests.conformance.endpoints.checks import LONG_AGO, MIB, Ground, Meddled
from tests.conformance.endpoints.rogues import PASSWORD, USERS, endpoint, ground_at, patiently
from tests.conformance.endpoints.test_ssh import endpoint as at_openssh
from tests.sandbox.sftp import SftpSandbox
from tests.servers import free_port
from tests.servers.listener import Listener
from tests.servers.openssh import OpenSsh


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SftpSandbox]:
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)
    with SftpSandbox(tmp_path / "sandbox", users=USERS, host_key=tmp_path / "host_key") as server:
        yield server


@pytest.fixture
def ground(sandbox: SftpSandbox, tmp_path: Path) -> Ground:
    return ground_at(sandbox, tmp_path / "spool")


# --------------------------------------------------------------------------------------------- who they are, who we are


def test_the_fingerprint_for_trust_is_the_one_ssh_keygen_shows(openssh: OpenSsh) -> None:
    assert host_fingerprint(openssh.host, openssh.port, 5) == openssh.fingerprint


def test_without_a_pin_nothing_connects_and_the_message_says_what_to_run(sandbox: SftpSandbox) -> None:
    with pytest.raises(ConfigurationError, match=f"countersign endpoint trust PARTNER ENDPOINT.*127.0.0.1:{sandbox.port}"):
        endpoint(sandbox, host_keys=()).session()


def test_a_changed_host_key_stops_before_the_login_and_names_both(sandbox: SftpSandbox) -> None:
    before = endpoint(sandbox)
    before.session().close()
    sandbox.stop()
    sandbox.faults["new-host-key"] = 1
    sandbox.start()
    old, new = before.host_keys[0], sandbox.fingerprint
    assert old != new
    sandbox.users.clear()  # a login would be refused: it must not come that far
    with pytest.raises(HostKeyChanged) as caught:
        before.session()
    assert old in str(caught.value)
    assert new in str(caught.value)
    assert not caught.value.worth_retrying


def test_a_kept_host_key_survives_a_restart(sandbox: SftpSandbox, tmp_path: Path) -> None:
    with SftpSandbox(tmp_path / "other", users=USERS, host_key=tmp_path / "host_key") as again:
        assert again.fingerprint == sandbox.fingerprint


def test_one_of_several_pins_is_enough(sandbox: SftpSandbox) -> None:
    other = "SHA256:" + "A" * 43
    endpoint(sandbox, host_keys=(other, sandbox.fingerprint + "=")).session().close()


def test_a_password_where_only_keys_are_accepted_says_so(openssh: OpenSsh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)
    agreed = Sftp(
        host=openssh.host,
        port=openssh.port,
        username=openssh.username,
        password="env:PARTNER_PASSWORD",
        host_keys=(openssh.fingerprint,),
    )
    with pytest.raises(LoginRefused, match="publickey"):
        agreed.session()


def test_credentials_that_are_not_there_name_the_reference(sandbox: SftpSandbox) -> None:
    with pytest.raises(ConfigurationError, match="env:NOT_SET_ANYWHERE"):
        endpoint(sandbox, password="env:NOT_SET_ANYWHERE").session()
    with pytest.raises(ConfigurationError, match="neither password nor private_key"):
        endpoint(sandbox, password=None).session()


# --------------------------------------------------------------------------------------------- servers we cannot use


def test_nobody_listens() -> None:
    with pytest.raises(EndpointUnreachable, match="refused"):
        host_fingerprint("127.0.0.1", free_port(), 2)


def test_a_host_that_does_not_exist(sandbox: SftpSandbox) -> None:
    with pytest.raises(EndpointUnreachable, match="not known"):
        endpoint(sandbox, host="nowhere.invalid").session()


def test_a_server_that_says_nothing_ends_in_time() -> None:
    began = time.monotonic()
    with (
        Listener(lambda connection: connection.recv(10_000) and connection.recv(10_000)) as port,  # until we hang up
        pytest.raises(EndpointUnreachable),
    ):
        host_fingerprint("127.0.0.1", port, 1)
    assert time.monotonic() - began < 60


def test_a_server_that_closes_before_its_greeting_is_busy() -> None:
    def too_many(connection: socket.socket) -> None:
        connection.sendall(b"Exceeded MaxStartups\r\n")

    with Listener(too_many) as port, pytest.raises(EndpointBusy):
        host_fingerprint("127.0.0.1", port, 3)


def test_our_own_limit_of_connections(sandbox: SftpSandbox) -> None:
    agreed = endpoint(sandbox, connection_limit=2)
    with agreed.session(), agreed.session() as second:
        with pytest.raises(EndpointBusy, match="connection_limit") as caught:
            endpoint(sandbox, connection_limit=2, timeout_seconds=1).session()
        assert caught.value.worth_retrying
        second.close()
        agreed.session().close()


def test_a_refused_login_gives_its_place_back(sandbox: SftpSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    agreed = endpoint(sandbox, connection_limit=1, timeout_seconds=60)
    monkeypatch.setenv("PARTNER_PASSWORD", "wrong")
    for _ in range(2):
        with pytest.raises(LoginRefused):
            agreed.session()
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)
    agreed.session().close()


# --------------------------------------------------------------------------------------------- stalls


def test_a_stalled_server_ends_every_verb_in_time(sandbox: SftpSandbox, ground: Ground) -> None:
    ground.write(b"a.csv")
    seen = ground.look()
    hurried = endpoint(sandbox, timeout_seconds=1.5)
    outgoing = [ground.outgoing(b"b.csv", b"x")]
    with ground.spool.batch() as batch:
        for verb in ("look", "fetch", "put", "remove"):
            sandbox.faults.clear()
            session = patiently(hurried)
            sandbox.faults["slow"] = 30
            calls = {
                "look": lambda session=session: session.look(ground.folder),
                "fetch": lambda session=session: session.fetch(seen.values(), batch),
                "put": lambda session=session: session.put(outgoing, ground.folder),
                "remove": lambda session=session: session.remove(seen.values()),
            }
            began = time.monotonic()
            with pytest.raises(EndpointUnreachable, match=r"no answer for 1\.5 s"):
                list(calls[verb]())
            session.close()
            assert time.monotonic() - began < 29, verb
    assert b"b.csv" not in ground.names()


@pytest.mark.parametrize("engine", ["pipelined", "stock"])
def test_an_answer_that_comes_a_byte_at_a_time_is_no_answer(sandbox: SftpSandbox, ground: Ground, engine: str) -> None:
    ground.write(b"a.csv")
    with patiently(endpoint(sandbox, engine=engine, timeout_seconds=1)) as session:
        sandbox.faults["dribble"] = 0.5  # less than a byte's deadline, more than half a minute for the first entry
        began = time.monotonic()
        with pytest.raises(EndpointUnreachable, match="no answer for 1 s"):
            list(session.look(ground.folder))
        assert time.monotonic() - began < 25
        sandbox.faults.clear()


@pytest.mark.parametrize("engine", ["pipelined", "stock"])
def test_a_file_that_comes_in_crumbs_stands_still(sandbox: SftpSandbox, ground: Ground, engine: str) -> None:
    """Each request is answered soon, by 20 bytes."""
    ground.write(b"a.csv", bytes(256 * 1024))
    with patiently(endpoint(sandbox, engine=engine, timeout_seconds=1)) as session, ground.spool.batch() as batch:
        [seen] = session.look(ground.folder)
        sandbox.faults["trickle"] = 20
        began = time.monotonic()
        with pytest.raises(EndpointUnreachable, match="standing still"):
            list(session.fetch([seen], batch))
        assert time.monotonic() - began < 25
        sandbox.faults.clear()


@pytest.mark.parametrize("engine", ["pipelined", "stock"])
def test_answers_to_what_nobody_asked_are_no_answers(sandbox: SftpSandbox, ground: Ground, engine: str) -> None:
    ground.write(b"a.csv")
    with patiently(endpoint(sandbox, engine=engine, timeout_seconds=2)) as session:
        sandbox.faults["chatters"] = 0.2  # long before the deadline for the next byte, again and again
        began = time.monotonic()
        with pytest.raises(EndpointUnreachable):
            list(session.look(ground.folder))
        assert time.monotonic() - began < 25
        sandbox.faults.clear()


class Pipe:
    """A line between us and a server that at some point takes nothing more, without closing: a dead firewall."""

    def __init__(self, port: int, after: int) -> None:
        self.server_port, self.after = port, after
        self.listener = socket.create_server(("127.0.0.1", 0))
        # With small buffers on both ends the writes to the socket themselves block, and paramiko knows no deadline for those.
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        self.port: int = self.listener.getsockname()[1]
        self.threads: list[threading.Thread] = []
        self.ends: list[socket.socket] = []

    def __enter__(self) -> Pipe:
        self._spawn(self._serve)
        return self

    def __exit__(self, *_: object) -> None:
        for end in [self.listener, *self.ends]:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(5)
        for end in [self.listener, *self.ends]:
            end.close()

    def _spawn(self, act: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=act, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.server_port))
            self.ends += [near, far]
            self._spawn(self._carry, near, far, self.after)
            self._spawn(self._carry, far, near, 1 << 60)

    def _carry(self, source: socket.socket, target: socket.socket, left: int) -> None:
        with suppress(OSError):
            while left > 0 and (data := source.recv(65536)):
                target.sendall(data)
                left -= len(data)
            if left > 0:
                target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("jumps", [False, True], ids=["straight", "behind a jump host"])
def test_a_line_that_takes_nothing_more_ends_an_upload_in_time(
    jumps: bool, openssh: OpenSsh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = socket.create_connection

    def connect_with_little_room(*args: Any, **kwargs: Any) -> socket.socket:
        connection = connect(*args, **kwargs)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
        return connection

    # The system's buffers take megabytes on loopback; real lines to partners do not.
    monkeypatch.setattr(socket, "create_connection", connect_with_little_room)
    spool = Spool(tmp_path / "spool", floor_bytes=0)
    place = openssh.root / f"dead-line-{jumps}"
    place.mkdir()
    with Pipe(openssh.port, 2 * MIB) as pipe:
        agreed = Sftp(
            host="127.0.0.1",
            port=pipe.port,
            username=openssh.username,
            private_key=f"file:{openssh.private_key}",
            host_keys=(openssh.fingerprint,),
            timeout_seconds=3,
        )
        if jumps:
            way = {name: getattr(agreed, name) for name in ("host", "username", "private_key", "host_keys")}
            agreed = Sftp.model_validate(agreed.model_dump() | {"jump": [way | {"port": openssh.port}]})
        ground = Ground(agreed, str(place), place, spool)
        outgoing = [ground.outgoing(b"big", os.urandom(24 * MIB))]
        began = time.monotonic()
        with pytest.raises(EndpointUnreachable):
            ground.put(outgoing)
        assert time.monotonic() - began < 120
    assert b"big" not in ground.names()


# --------------------------------------------------------------------------------------------- servers that misbehave


@pytest.mark.parametrize(
    "faults",
    [
        {"short-reads": 1000},
        {"reorder": 1},
        {"max-handles": 1},
        {"max-handles": 3},
        {"short-reads": 3000, "reorder": 1, "max-handles": 7},
    ],
    ids=str,
)
def test_awkward_but_lawful_servers_cost_nothing_but_time(
    faults: dict[str, float], sandbox: SftpSandbox, ground: Ground
) -> None:
    content = {f"{number}.csv".encode(): os.urandom(number * 97 % 5000) for number in range(60)}
    content[b"big"] = os.urandom(400_001)
    for name, data in content.items():
        ground.write(name, data)
    sandbox.faults.update(faults)
    answers = ground.fetch(ground.look().values())
    assert {name: ground.holds(answer) for name, answer in answers.items()} == content
    for path in ground.place.iterdir():
        path.unlink()
    placed = ground.put(ground.outgoing(name, data) for name, data in content.items())
    assert all(isinstance(answer, Placed) for answer in placed.values())
    assert {path.name.encode(): path.read_bytes() for path in ground.place.iterdir()} == content


def wire_of(session: EndpointSession) -> type[Wire]:
    assert isinstance(session, SftpSession)
    return type(session._wire())


def test_a_server_that_loses_waiting_requests_is_asked_one_at_a_time(
    sandbox: SftpSandbox, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {f"{number}.csv".encode(): os.urandom(number * 97) for number in range(20)}
    for name, data in content.items():
        ground.write(name, data)
    with ground.endpoint.session() as session:
        assert wire_of(session) is Engine
        assert session.personality.one_by_one is None
    sandbox.faults["forgets-waiting"] = 1
    # Not twenty seconds of silence; and below it would be seen, if it were waited for once more.
    monkeypatch.setattr(sftp, "_PROOF_SECONDS", 0.5)
    agreed = endpoint(sandbox, timeout_seconds=60)
    with agreed.session() as session:
        assert wire_of(session) is Stock
        assert session.personality.one_by_one
    monkeypatch.setattr(sftp, "_PROOF_SECONDS", 60)
    began = time.monotonic()
    with agreed.session() as session:
        assert time.monotonic() - began < 60, "it was tried once more what this server cannot bear"
        assert wire_of(session) is Stock
    answers = replace(ground, endpoint=agreed).fetch(ground.look().values())
    assert {name: ground.holds(answer) for name, answer in answers.items()} == content
    with pytest.raises(EndpointUnreachable, match="no answer"):
        endpoint(sandbox, engine="pipelined", timeout_seconds=2).session()


def test_a_server_that_gets_muddled_is_asked_one_at_a_time_when_it_is_tried_again(sandbox: SftpSandbox, ground: Ground) -> None:
    content = {f"{number}.csv".encode(): os.urandom(number * 97) for number in range(20)}
    for name, data in content.items():
        ground.write(name, data)
    seen = ground.look()
    sandbox.faults["muddles-after"] = 10
    with pytest.raises(EndpointUnreachable, match="which was never sent; it will be tried again") as caught:
        ground.fetch(seen.values())
    assert caught.value.worth_retrying
    answers = ground.fetch(seen.values())
    assert {name: ground.holds(answer) for name, answer in answers.items()} == content
    with pytest.raises(EndpointUnreachable, match="never sent"):
        replace(ground, endpoint=endpoint(sandbox, engine="pipelined")).fetch(seen.values())


def test_what_an_earlier_process_found_out_is_not_tried_again(sandbox: SftpSandbox, ground: Ground) -> None:
    known = Personality(one_by_one=True)
    with ground.endpoint.session() as session:
        assert wire_of(session) is Engine
    ground.endpoint.expect(known)
    with ground.endpoint.session() as session:
        assert wire_of(session) is Stock
        assert list(session.look(ground.folder)) == []
        assert session.personality.one_by_one is None, "this process has not seen it"
    told = endpoint(sandbox, engine="pipelined")
    told.expect(known)
    with told.session() as session:
        assert wire_of(session) is Engine, "the profile says so"


@pytest.mark.parametrize("engine", ["pipelined", "stock"])
def test_a_server_that_tells_only_at_the_end_that_it_is_full(engine: str, sandbox: SftpSandbox, ground: Ground) -> None:
    sandbox.faults["full-when-closed"] = 1
    with pytest.raises(EndpointFull):
        replace(ground, endpoint=endpoint(sandbox, engine=engine)).put([ground.outgoing(b"a.csv", b"content")])
    assert ground.names() == set()


def test_an_extension_that_was_offered_and_is_refused_is_not_used_again(sandbox: SftpSandbox, ground: Ground) -> None:
    sandbox.faults["lying-extensions"] = 1
    with ground.endpoint.session() as session:
        assert session.capabilities.rename_replaces
        assert session.capabilities.read_bytes <= 256 * 1024
        for number in range(2):
            ground.write(b"a.csv", b"theirs")
            outgoing = [ground.outgoing(b"a.csv", f"ours {number}".encode())]
            assert [type(answer) for answer in session.put(outgoing, ground.folder, exists=Exists.REPLACE)] == [Placed]
            assert (ground.place / "a.csv").read_text() == f"ours {number}"
        assert not session.capabilities.rename_replaces
    assert ground.names() == {b"a.csv"}


def test_a_dropped_download_goes_on_where_it_broke(sandbox: SftpSandbox, ground: Ground) -> None:
    small, big = os.urandom(1000), os.urandom(5 * MIB)
    ground.write(b"small", small, LONG_AGO)
    ground.write(b"big", big, LONG_AGO)
    seen = ground.look()
    sandbox.faults["drop-after"] = 3 * MIB
    arrived = []
    with ground.endpoint.session() as session, ground.spool.batch() as batch, pytest.raises(EndpointUnreachable, match="lost"):
        for answer in session.fetch([seen[b"small"], seen[b"big"]], batch):
            arrived.append(answer)
    assert [answer.file.name for answer in arrived] == [b"small"], "what was complete must be told before the error"
    assert ground.holds(arrived[0]) == small
    sandbox.faults.clear()
    batch = Meddled(ground.spool)
    assert ground.holds(ground.fetch([seen[b"big"]], batch)[b"big"]) == big
    assert batch.began_at[0] > 2 * MIB


def test_the_sandbox_is_not_left(sandbox: SftpSandbox) -> None:
    secret = sandbox.root.parent / "secret"
    secret.write_bytes(b"secret")
    (sandbox.root / "link").symlink_to(secret)
    (sandbox.root / "up").symlink_to("..")
    transport = paramiko.Transport((sandbox.host, sandbox.port))
    try:
        transport.connect(username="partner", password=PASSWORD)
        client = paramiko.SFTPClient.from_transport(transport)
        assert client is not None
        for path in ("../secret", "/../secret", "link", "up/secret", "/up/../../secret"):
            with pytest.raises(OSError):
                client.open(path).read()
        client.close()
    finally:
        transport.close()


def test_a_fetch_left_half_way_leaves_no_file_open_at_the_server(sandbox: SftpSandbox, ground: Ground) -> None:
    ground.write(b"small")
    ground.write(b"larger", os.urandom(900_000))
    sandbox.faults["short-reads"] = 1000  # so that the larger one takes many rounds
    seen = ground.look()
    with ground.endpoint.session() as session, ground.spool.batch() as batch:
        for _ in session.fetch([seen[b"larger"], seen[b"small"]], batch):
            assert open_below(ground.place), "nothing is open half-way: nothing is tested"
            break
        assert len(list(session.look(ground.folder))) == 2
        limit = time.monotonic() + 300
        while (left := open_below(ground.place)) and time.monotonic() < limit:
            time.sleep(0.05)
        assert not left


def open_below(place: Path) -> list[str]:
    """Files below a folder that this process (and so the sandbox in it) has open."""
    paths = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            paths.append(os.readlink(descriptor))
    return [path for path in paths if path.startswith(str(place))]


def test_outcomes_that_were_known_are_told_before_an_error(sandbox: SftpSandbox, ground: Ground) -> None:
    with ground.endpoint.session() as session:
        assert isinstance(session, SftpSession)
        wire = session._wire()

        def asks(number: int) -> Routine[int]:
            yield [lstat(b"/")]
            return number

        def fails() -> Routine[int]:
            wire.ask(lstat(b"/"))  # its answer comes after theirs
            raise ValueError("on purpose")
            yield []

        told = []
        with pytest.raises(ValueError, match="on purpose"):
            for number in wire.run([*(Work(partial(asks, number)) for number in range(5)), Work(fails)]):
                told.append(number)
        assert sorted(told) == [0, 1, 2, 3, 4]


class Mute:
    """A channel to a server that greets, tells its limits if it has any, and keeps all answers about files to itself."""

    closed, in_buffer = False, None

    def __init__(self, handles: int | None) -> None:
        self.waiting = 0
        """Requests about files that have come."""
        self._handles, self._asked, self._answers = handles, bytearray(), bytearray()

    def settimeout(self, seconds: float) -> None:
        """It says at once that nothing comes."""

    def send_ready(self) -> bool:
        return True

    def send(self, data: bytes) -> int:
        self._asked += data
        while len(self._asked) >= 4 and len(self._asked) >= (end := 4 + int.from_bytes(self._asked[:4], "big")):
            self._hear(bytes(self._asked[4:end]))
            del self._asked[:end]
        return len(data)

    def _hear(self, asked: bytes) -> None:
        kind, number, no_such_file = asked[0], asked[1:5], struct.pack(">I", 2)
        limits = struct.pack(">QQQQ", 262144, 261120, 261120, self._handles or 0)
        offers = _text(b"limits@openssh.com") + _text(b"1") if self._handles is not None else b""
        match kind:
            case 1:
                self._answers += _text(b"\x02" + number + offers)
            case 17:  # by which it is seen that several may wait
                self._answers += _text(b"\x65" + number + no_such_file)
            case 200:
                self._answers += _text(b"\xc9" + number + limits)
            case _:
                self.waiting += 1

    def recv(self, count: int) -> bytes:
        if not self._answers:
            raise TimeoutError
        came, self._answers = bytes(self._answers[:count]), self._answers[count:]
        return came


def _text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


@pytest.mark.parametrize(
    ("handles", "at_once"),
    [
        pytest.param(None, 64, id="a server that tells no limits"),
        pytest.param(0, 64, id="one that tells no limit of open files"),
        pytest.param(1019, 128, id="one that takes many"),
        pytest.param(10, 10, id="one that takes few"),
    ],
)
def test_so_many_files_are_asked_for_before_the_first_answer(handles: int | None, at_once: int) -> None:
    def asks() -> Routine[None]:
        yield [lstat(b"/")]

    channel: Any = Mute(handles)
    with socket.socket() as nowhere:
        wire = Engine(channel, paramiko.Transport(nowhere), "sftp://nobody", 5)
        wire.prove(5)
        with pytest.raises(EndpointUnreachable, match="no answer"):
            list(wire.run(Work(asks) for _ in range(1000)))
    assert channel.waiting == at_once


def test_a_connection_that_ends_leaves_no_thread(sandbox: SftpSandbox) -> None:
    with endpoint(sandbox).session():
        pass
    with pytest.raises(HostKeyChanged):
        endpoint(sandbox, host_keys=("SHA256:" + "A" * 43,)).session()
    limit = time.monotonic() + 300
    while (
        left := [thread for thread in threading.enumerate() if isinstance(thread, paramiko.Transport | threading.Timer)]
    ) and (time.monotonic() < limit):
        time.sleep(0.05)
    assert not left


def test_a_session_that_has_ended_goes_with_its_buffers_and_waits_for_no_garbage_collector(openssh: OpenSsh) -> None:
    gc.disable()
    try:
        session = at_openssh(openssh).session()
        list(session.look(str(openssh.root)))
        assert session._line is not None and session._wire_in_use is not None
        transport, wire = session._line.transport, session._wire_in_use
        parts = [session, transport, transport.packetizer, wire, wire._channel]
        left = [weakref.ref(part) for part in parts]
        session.close()
        del session, transport, wire, parts
        limit = time.monotonic() + 30  # paramiko's thread ends a moment later
        while any(part() is not None for part in left) and time.monotonic() < limit:
            time.sleep(0.01)
        assert [type(part()).__name__ for part in left if part() is not None] == []
    finally:
        gc.enable()
