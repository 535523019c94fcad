"""The lines beneath FTP: deadlines, ends, TLS and the group it wants, against plain sockets in a thread."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from blocks.endpoints.ftp_line import Line, connected, group_wanted
from tests.servers.certificates import make_certificate

ROOM = 64 * 1024


def meet(
    server: Callable[[socket.socket], None],
    client: Callable[[Line], Coroutine[Any, Any, None]],
    times: int = 1,
) -> None:
    """The server's side in a thread of its own, the client's in a loop, both over as many connections as it takes."""
    failures: list[Exception] = []

    def serve(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(20)
            try:
                server(connection)
            except Exception as error:  # noqa: BLE001 - told by the thread of the test
                failures.append(error)

    async def visit(port: int) -> None:
        room = memoryview(bytearray(ROOM))
        lines = [await connected("127.0.0.1", port, room) for _ in range(times)]
        try:
            await asyncio.gather(*map(client, lines))
        finally:
            for line in lines:
                line.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            sides = [threading.Thread(target=serve, args=(listening.accept()[0],)) for _ in range(times)]
            for side in sides:
                side.start()
            for side in sides:
                side.join(20)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            asyncio.run(asyncio.wait_for(visit(listening.getsockname()[1]), 20))
        finally:
            thread.join(20)
    assert not failures, failures


def contexts(folder: Path, group: str | None = None) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server, which may want a certain group, and of those who trust it."""
    certificate = make_certificate(folder)
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=certificate.authority)
    theirs.load_cert_chain(certificate.path)
    if group is not None:
        theirs.set_ecdh_curve(group)
    return theirs, ours


async def all_of(line: Line) -> bytes:
    came = b""
    while block := await line.read():
        came += block
    return came


def test_a_line_is_given_up_when_its_time_is_over_however_often_a_byte_comes() -> None:
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        while not over.wait(0.05):
            connection.sendall(b"x")

    async def read(line: Line) -> None:
        began = time.monotonic()
        line.until = asyncio.get_running_loop().time() + 0.5
        try:
            with pytest.raises(TimeoutError):
                await line.readline()
        finally:
            over.set()
        assert 0.4 < time.monotonic() - began < 5

    meet(drip, read)


def test_a_later_deadline_is_kept_and_so_is_an_earlier_one_after_it() -> None:
    def pause(connection: socket.socket) -> None:
        time.sleep(0.6)
        connection.sendall(b"late\n")
        connection.recv(1)

    async def read(line: Line) -> None:
        loop = asyncio.get_running_loop()
        line.until = loop.time() + 0.2
        with pytest.raises(TimeoutError):
            await line.readline()
        line.until = loop.time() + 10
        assert await line.readline() == b"late\n"
        began, line.until = time.monotonic(), loop.time() + 0.2
        with pytest.raises(TimeoutError):
            await line.readline()
        assert time.monotonic() - began < 5

    meet(pause, read)


def test_a_line_without_an_end_is_no_line() -> None:
    def flood(connection: socket.socket) -> None:
        connection.sendall(b"x" * 200_000)

    async def read(line: Line) -> None:
        with pytest.raises(ValueError, match="never ends"):
            await line.readline()

    meet(flood, read)


def test_whoever_waits_is_told_that_the_line_was_closed() -> None:
    over = threading.Event()

    async def read(line: Line) -> None:
        asyncio.get_running_loop().call_later(0.1, line.close)
        with pytest.raises(ConnectionResetError):
            await line.read()
        over.set()
        for again in (line.read(), line.drain()):
            with pytest.raises(ConnectionResetError):
                await again

    meet(lambda _: assert_set(over), read)


def assert_set(event: threading.Event) -> None:
    assert event.wait(10)


def test_words_that_nobody_asked_for_are_noticed() -> None:
    over = threading.Event()

    def speak(connection: socket.socket) -> None:
        connection.sendall(b"234 go\r\n")
        connection.recv(1)
        connection.sendall(b"200 and more\r\n")
        assert_set(over)

    async def listen(line: Line) -> None:
        assert await line.readline() == b"234 go\r\n"
        assert not line.unread()
        line.write(b"x")
        await line.drain()
        for _ in range(100):
            if line.unread():
                break
            await asyncio.sleep(0.05)
        assert line.unread()
        over.set()

    meet(speak, listen)


@pytest.mark.parametrize("protected", [False, True], ids=["in clear", "TLS"])
def test_lines_that_share_their_room_do_not_mix_their_bytes(protected: bool, tmp_path: Path) -> None:
    theirs, ours = contexts(tmp_path)
    digests = set[str]()

    def send(connection: socket.socket) -> None:
        number = int(connection.recv(1))
        data = bytes([65 + number]) * 3_000_000
        channel = theirs.wrap_socket(connection, server_side=True) if protected else connection
        for at in range(0, len(data), 10_000):
            channel.sendall(data[at : at + 10_000])
        (channel.unwrap() if isinstance(channel, ssl.SSLSocket) else channel).close()

    numbers = iter(range(4))

    async def read(line: Line) -> None:
        line.write(b"%d" % next(numbers))
        await line.drain()
        if protected:
            await line.start_tls(ours, "127.0.0.1")
        came = await all_of(line)
        digests.add(hashlib.sha256(came).hexdigest())
        await line.end()

    meet(send, read, times=4)
    assert digests == {hashlib.sha256(bytes([65 + number]) * 3_000_000).hexdigest() for number in range(4)}


def test_all_that_was_written_arrives_before_the_farewell_at_a_slow_reader(tmp_path: Path) -> None:
    theirs, ours = contexts(tmp_path)
    arrived = []

    def receive(connection: socket.socket) -> None:
        with theirs.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False) as channel:
            came = 0
            while block := channel.recv(16_384):  # raises if the farewell is missing
                came += len(block)
                time.sleep(0.0005)
            arrived.append(came)

    async def send(line: Line) -> None:
        await line.start_tls(ours, "127.0.0.1")
        for _ in range(8):
            line.write(b"x" * 1_000_000)
            await line.drain()
        await line.end()
        assert await line.read() == b""

    meet(receive, send)
    assert arrived == [8_000_000]


@pytest.mark.parametrize("protected", [False, True], ids=["in clear", "TLS"])
def test_what_was_written_last_goes_with_the_farewell(protected: bool, tmp_path: Path) -> None:
    theirs, ours = contexts(tmp_path)
    arrived = []

    def receive(connection: socket.socket) -> None:
        channel = theirs.wrap_socket(connection, server_side=True) if protected else connection
        came = b""
        while block := channel.recv(16_384):
            came += block
        channel.close()
        arrived.append(came)

    async def send(line: Line) -> None:
        if protected:
            await line.start_tls(ours, "127.0.0.1")
        line.write(b"all of it")
        await line.end()
        assert await line.read() == b""

    meet(receive, send)
    assert arrived == [b"all of it"]


def test_whoever_has_gone_need_not_be_told_that_nothing_follows() -> None:
    def reset(connection: socket.socket) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def send(line: Line) -> None:
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                line.write(b"x" * 10_000)
                await line.drain()
                await asyncio.sleep(0.01)
        assert await line.end()
        line.write(b"more")
        assert not await line.end()

    meet(reset, send)


@pytest.mark.parametrize("farewell", [True, False], ids=["with a farewell", "without"])
def test_the_end_is_the_end_with_a_farewell_of_tls_and_without(farewell: bool, tmp_path: Path) -> None:
    """Who sends less than was listed is found out by its size: many servers never say farewell."""
    theirs, ours = contexts(tmp_path)

    def send(connection: socket.socket) -> None:
        with theirs.wrap_socket(connection, server_side=True) as channel:
            channel.sendall(b"all of it")
            if farewell:
                channel.unwrap()

    async def read(line: Line) -> None:
        await line.start_tls(ours, "127.0.0.1")
        assert await all_of(line) == b"all of it"
        await line.end()

    meet(send, read)


def test_a_certificate_that_nobody_vouches_for_is_refused_and_the_server_told(tmp_path: Path) -> None:
    theirs, _ = contexts(tmp_path / "theirs")
    _, ours = contexts(tmp_path / "others")
    told = []

    def send(connection: socket.socket) -> None:
        with pytest.raises(ssl.SSLError) as refused, theirs.wrap_socket(connection, server_side=True) as channel:
            channel.recv(1)
        told.append(refused.value.reason)

    async def read(line: Line) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            await line.start_tls(ours, "127.0.0.1")

    meet(send, read)
    assert told == ["TLSV1_ALERT_UNKNOWN_CA"]


@pytest.mark.parametrize("group", ["prime256v1", "secp384r1", None])
def test_a_server_has_to_ask_for_its_group_once(group: str | None, tmp_path: Path) -> None:
    theirs, ours = contexts(tmp_path, group)

    def send(connection: socket.socket) -> None:
        with theirs.wrap_socket(connection, server_side=True) as channel:
            channel.sendall(b"well")

    wanted = list[str | None]()

    async def read(line: Line) -> None:
        await line.start_tls(ours, "127.0.0.1")
        assert await all_of(line) == b"well"
        wanted.append(line.group)

    meet(send, read)
    if group is not None:
        ours.set_ecdh_curve(group)
    meet(send, read)
    assert wanted == [group, None]


def test_no_other_bytes_are_taken_for_a_wish() -> None:
    retry = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
    wish = struct.pack(">HHHHHH", 51, 2, 23, 43, 2, 0x0304)
    body = b"\x03\x03" + retry + b"\x20" + b"s" * 32 + b"\x13\x02\x00" + struct.pack(">H", len(wish)) + wish
    message = b"\x02" + len(body).to_bytes(3, "big") + body
    flight = b"\x16\x03\x03" + struct.pack(">H", len(message)) + message
    assert group_wanted(memoryview(flight)) == "prime256v1"
    assert group_wanted(memoryview(flight.replace(struct.pack(">HHH", 51, 2, 23), struct.pack(">HHH", 51, 2, 999)))) is None
    assert group_wanted(memoryview(flight.replace(retry, b"r" * 32))) is None
    for cut in range(len(flight) - 6):
        assert group_wanted(memoryview(flight[:cut])) in (None, "prime256v1")
    for noise in (b"", b"220 welcome\r\n" * 9, b"\x16" * 200, flight[:43] + b"\xff" * 80):
        assert group_wanted(memoryview(noise)) is None
