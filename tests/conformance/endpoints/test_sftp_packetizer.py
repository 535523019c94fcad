"""SSH packets many at a time: the same bytes as paramiko's own way, however they are cut, keyed anew, enciphered or broken off."""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from paramiko.packet import Packetizer

from blocks.endpoints import sftp_packetizer
from blocks.endpoints.sftp import Sftp, SftpSession
from blocks.endpoints.sftp_packetizer import RAW, Loop, Pipe, Quick, _Stretch, packetizer
from blocks.errors import EndpointUnreachable
from blocks.spool import Spool
from tests.conformance.endpoints.checks import MIB, Ground
from tests.conformance.endpoints.test_ssh import endpoint, ground_at
from tests.servers.openssh import OpenSsh, openssh_server

CHANNEL = 7


# --------------------------------------------------------------------------------------------- packets alone


def keyed(*ends: Packetizer) -> None:
    key, iv = AESGCM(os.urandom(16)), os.urandom(12)
    for one in ends:
        one.set_outbound_cipher(key, 16, None, 16, b"", aead=True, iv_out=iv)  # type: ignore[arg-type]
        one.set_inbound_cipher(key, 16, None, 16, b"", aead=True, iv_in=iv)  # type: ignore[arg-type]


def pair(at_once: int) -> tuple[Quick, Packetizer, paramiko.Channel, Loop]:
    loop, channel = Loop(at_once), paramiko.Channel(CHANNEL)
    channel._set_window(64 * MIB, 32768)  # type: ignore[attr-defined]
    ours, theirs = Quick(loop), Packetizer(loop)  # type: ignore[arg-type]
    keyed(ours, theirs)
    ours.adopt(channel)
    return ours, theirs, channel, loop


def other(number: int) -> paramiko.Message:
    """A message that is paramiko's to deal with."""
    message = paramiko.Message()
    message.add_byte(bytes([80]))
    message.add_int(number)
    return message


@pytest.mark.parametrize("at_once", [1, 3, 21, 4096, RAW], ids=lambda count: f"{count} bytes at once")
def test_however_packets_are_cut_the_same_comes_out(at_once: int) -> None:
    numbers = random.Random(at_once)
    ours, theirs, channel, _ = pair(at_once)
    sent, got = bytearray(), bytearray()
    for number in range(30):
        data = numbers.randbytes(numbers.choice([1, 2, 15, 16, 17, 900, 6000 if at_once < 20 else 90_000]))
        for message in _Stretch(CHANNEL, memoryview(data), numbers.choice([1000, 32_000])).messages():
            theirs.send_message(message)
        sent += data
        theirs.send_message(other(number))
        kind, message = ours.read_message()
        assert (kind, message.get_int()) == (80, number)
        got += channel.in_buffer.empty()
        assert got == sent
        if number == 20:
            keyed(ours, theirs)


def test_what_is_sent_in_one_stretch_is_what_paramiko_reads() -> None:
    ours, theirs, _, _ = pair(RAW)
    for size in (1, 31, 32_000, 32_001, 500_000):
        data = os.urandom(size)
        ours.send_message(_Stretch(CHANNEL, memoryview(data), 32_000))
        ours.send_message(other(size))
        got = bytearray()
        while True:
            kind, message = theirs.read_message()
            number = message.get_int()
            if kind == 80:
                break
            assert (kind, number) == (94, CHANNEL)
            got += message.get_binary()
        assert (number, got) == (size, data)


@pytest.mark.parametrize("where", [0, 3, 5, 40, -1])
def test_a_packet_that_was_changed_on_its_way_is_not_taken_and_what_came_before_is(where: int) -> None:
    ours, theirs, channel, loop = pair(RAW)
    (good,) = _Stretch(CHANNEL, memoryview(b"good"), 100).messages()
    theirs.send_message(good)
    begun = len(loop.bytes)
    (bad,) = _Stretch(CHANNEL, memoryview(bytes(80)), 100).messages()
    theirs.send_message(bad)
    loop.bytes[where if where < 0 else begun + where] ^= 0x10
    with pytest.raises((paramiko.SSHException, EOFError)):
        ours.read_message()
    assert channel.in_buffer.empty() == b"good"


def test_data_for_another_channel_or_with_a_wrong_length_goes_paramikos_way() -> None:
    ours, theirs, channel, _ = pair(RAW)
    (stray,) = _Stretch(CHANNEL + 1, memoryview(b"stray"), 100).messages()
    odd = paramiko.Message()
    odd.add_byte(bytes([94]))
    odd.add_int(CHANNEL)
    odd.add_int(1000)
    odd.add_bytes(b"too few")
    for message, number in ((stray, CHANNEL + 1), (odd, CHANNEL)):
        theirs.send_message(message)
        kind, got = ours.read_message()
        assert (kind, got.get_int()) == (94, number)
    assert not channel.in_buffer.read_ready()


def test_a_server_that_does_not_keep_to_the_window_is_cut_off() -> None:
    ours, theirs, channel, _ = pair(RAW)
    channel._set_window(100_000, 32768)  # type: ignore[attr-defined]
    for message in _Stretch(CHANNEL, memoryview(bytes(300_000)), 30_000).messages():
        theirs.send_message(message)
    with pytest.raises(paramiko.SSHException, match="more than the channel's window"):
        ours.read_message()


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="only Linux can be told")
def test_what_comes_before_a_subsystem_runs_is_acknowledged_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as near:
        far, _ = listener.accept()
        with far:
            near.settimeout(5)
            ours, theirs = Quick(near), Packetizer(far)  # type: ignore[arg-type]
            theirs.send_message(other(1))
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK) == 0, "the kernel may wait with it"
            kind, message = ours.read_message()
            assert (kind, message.get_int()) == (80, 1)
            assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK) == 1


# --------------------------------------------------------------------------------------------- which one is used


def test_ours_is_used_where_it_was_found_good_and_no_version_is_trusted_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as connection:
        assert packetizer(connection) is Quick
        monkeypatch.setattr(paramiko, "__version__", "5.2.0")
        assert packetizer(connection) is Packetizer
    monkeypatch.undo()
    assert packetizer(object()) is Packetizer, "a tunnel is not read into a buffer"


@pytest.mark.parametrize("lost", ["_open", "_send_stretch"])
def test_a_trial_that_fails_leaves_paramikos_own_way(
    lost: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise AttributeError("a name that has changed")

    sftp_packetizer._unfit.cache_clear()
    monkeypatch.setattr(Quick, lost, fails)
    with socket.socket() as connection, caplog.at_level("DEBUG", logger=sftp_packetizer.__name__):
        assert packetizer(connection) is Packetizer
    sftp_packetizer._unfit.cache_clear()
    assert "paramiko's own way" in caplog.text


# --------------------------------------------------------------------------------------------- at a real server


@contextmanager
def serving(place: Path, *lines: str) -> Iterator[tuple[Ground, OpenSsh]]:
    with openssh_server(place / "server", *lines) as server:
        yield ground_at(server, endpoint(server, engine="pipelined"), place), server


def both_ways(ground: Ground, size: int) -> None:
    """A large file and small ones beside it, down and up."""
    small = {f"{number}.csv".encode(): os.urandom(number * 40) for number in range(60)}
    ground.carry_both_ways({b"large": os.urandom(size)} | small)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(("RekeyLimit 1M",), id="the server wants new keys every MiB"),
        pytest.param(("Ciphers aes256-gcm@openssh.com", "RekeyLimit 2M"), id="aes256-gcm"),
        pytest.param(("Ciphers aes128-ctr", "RekeyLimit 1M"), id="aes-ctr"),
    ],
)
def test_new_keys_in_mid_transfer_by_the_server(lines: tuple[str, ...], tmp_path: Path) -> None:
    with serving(tmp_path, *lines) as (ground, _):
        both_ways(ground, 5 * MIB)


def test_new_keys_in_mid_transfer_by_us(openssh: OpenSsh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[Quick] = []
    set_inbound = Quick.set_inbound_cipher

    def noted(self: Quick, *args: object, **named: object) -> None:
        keys.append(self)
        set_inbound(self, *args, **named)

    monkeypatch.setattr(Quick, "set_inbound_cipher", noted)
    monkeypatch.setattr(Quick, "REKEY_BYTES", 1 * MIB)
    both_ways(ground_at(openssh, endpoint(openssh, engine="pipelined"), tmp_path), 5 * MIB)
    again = {one for one in keys if keys.count(one) > 1}
    assert len(again) == 2, "one connection brings the files and one takes them: both must have agreed on new keys"


class Cut:
    """Between us and the server: passes on what each says, and ends the connection after so many bytes from the server."""

    def __init__(self, server: OpenSsh, after: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._server, self._left = server, after
        self._thread = threading.Thread(target=self._pass, daemon=True)
        self._thread.start()

    def _pass(self) -> None:
        with ExitStack() as ends:
            near, _ = self._listener.accept()
            far = socket.create_connection((self._server.host, self._server.port))
            ends.enter_context(near)
            ends.enter_context(far)
            up = threading.Thread(target=self._copy, args=(near, far), daemon=True)
            up.start()
            while self._left and (data := far.recv(min(65536, self._left))):
                near.sendall(data)
                self._left -= len(data)
            near.shutdown(socket.SHUT_RDWR)
            far.shutdown(socket.SHUT_RDWR)
            up.join(60)

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            return

    def end(self) -> None:
        self._listener.close()
        self._thread.join(60)


@pytest.mark.parametrize("after", [1_000_003, 1_032_768, 2_500_001])
def test_a_server_that_ends_in_the_middle_of_a_packet_wakes_whoever_waits(after: int, openssh: OpenSsh, tmp_path: Path) -> None:
    ground = ground_at(openssh, endpoint(openssh, engine="pipelined"), tmp_path)
    ground.write(b"large", os.urandom(4 * MIB))
    files = list(ground.look().values())
    cut = Cut(openssh, after)
    agreed = endpoint(openssh, engine="pipelined", port=cut.port)
    try:
        with agreed.session() as session, pytest.raises(EndpointUnreachable, match="connection was lost") as lost:
            assert isinstance(session, SftpSession)
            with Spool(tmp_path / "other", floor_bytes=0).batch() as batch:
                list(session.fetch(files, batch))
        assert isinstance(lost.value.__cause__, EOFError | OSError | paramiko.SSHException)
    finally:
        cut.end()


def test_the_quick_way_is_the_one_that_is_taken(openssh: OpenSsh) -> None:
    agreed = endpoint(openssh, engine="pipelined")
    assert isinstance(agreed, Sftp)
    with agreed.session() as session:
        wire = session._wire()
        assert isinstance(wire.transport.packetizer, Quick)
        assert isinstance(wire._channel.in_buffer, Pipe)
