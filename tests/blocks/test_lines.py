"""Short calls over kept connections: what an odd server does to them, and what its errors are called."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.errors import RepositoryUnreachable
from blocks.relay import Take
from blocks.repositories.lines import PIECE, Answer, Lines, Said, _Line
from tests.servers import free_port
from tests.servers.certificates import Certificate, make_certificate
from tests.servers.listener import Listener

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Says its answers one after the other, each in one piece or in several, and remembers what it was asked; None: hangs up without a
    word."""

    def __init__(
        self, answers: Sequence[bytes | tuple[bytes, ...] | None], then: Callable[[socket.socket], object] = lambda _: None
    ) -> None:
        self.answers, self.then = list(answers), then
        self.asked = list[bytes]()
        self.connections = 0

    def __call__(self, connection: socket.socket) -> None:
        self.connections += 1
        with connection.makefile("rb") as source:
            while self.answers:
                head = b""
                while (line := source.readline()) not in (b"\r\n", b""):
                    head += line
                if not head:
                    return
                length = next((int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:")), 0)
                self.asked.append(head + b"\r\n" + source.read(length))
                answer = self.answers.pop(0)
                if answer is None:
                    return
                pieces = answer if isinstance(answer, tuple) else (answer,)
                for piece in pieces:
                    connection.sendall(piece)
                if b"connection: close" in pieces[0].lower() or pieces[-1].endswith(b"cut"):
                    return
            self.then(connection)


@contextmanager
def lines(server: Server, **more: float) -> Iterator[tuple[Lines, str]]:
    with Listener(server) as port:
        url = f"http://127.0.0.1:{port}/base"
        with closed(url, **more) as found:
            yield found, url


@contextmanager
def closed(
    url: str, *, timeout_seconds: float = 60, idle_seconds: float = 60, authority: Path | None = None
) -> Iterator[Lines]:
    # Loading the system's authorities takes 20 ms; a context without any trusts nobody.
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if authority is None else ssl.create_default_context(cafile=str(authority))
    found = Lines(
        url,
        {"Accept": "application/json"},
        httpx.Cookies(),
        timeout_seconds=timeout_seconds,
        kept=2,
        idle_seconds=idle_seconds,
        trust=trust,
        stalled=RepositoryUnreachable,
    )
    try:
        yield found
    finally:
        found.close()


def test_one_connection_carries_call_after_call() -> None:
    server = Server([OK, OK, OK])
    with lines(server) as (ours, url):
        ours.call("GET", f"{url}/a?b=c%20d", {"Ticket": "t"})
        ours.call("POST", f"{url}/a", {}, b"body")
        assert ours.call("GET", f"{url}/ä b", {}).json() == {}
    assert server.connections == 1
    first, second, third = server.asked
    assert (
        first.startswith(b"GET /base/a?b=c%20d HTTP/1.1\r\n") and b"Ticket: t\r\n" in first and b"Accept: application" in first
    )
    assert second.endswith(b"\r\n\r\nbody")
    assert third.startswith(b"GET /base/%C3%A4%20b HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", id="in chunks"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + OK, id="after a 100"),
        pytest.param(
            b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nContent-Length: 9\r\n\r\n" + OK,
            id="after other words in between",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", id="to the end of the connection"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nX: \xe4\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(gzip.compress(b"{}"))
            + gzip.compress(b"{}"),
            id="packed although nobody asked for that",
        ),
    ],
)
def test_an_answer_is_understood(answer: bytes) -> None:
    server = Server([answer, OK])
    with lines(server) as (ours, url):
        assert ours.call("GET", url, {}).json() == {}
        assert ours.call("GET", url, {}).json() == {}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(None, id="none"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut", id="cut"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ncut", id="cut in a chunk"),
        pytest.param(b"SSH-2.0-cut", id="of another kind of server"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", id="a change to another protocol"),
        pytest.param(b"HTTP/1.1 102 Processing\r\n\r\ncut", id="cut after a word in between"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", id="packed badly"),
    ],
)
def test_an_answer_that_is_none_is_told(answer: bytes | None) -> None:
    server = Server([answer, OK])
    with lines(server) as (ours, url):
        with pytest.raises(httpx.RemoteProtocolError):
            ours.call("POST", url, {}, b"body")
        assert ours.call("GET", url, {}).json() == {}, "the next call has a connection of its own"
    assert len(server.asked) == 2, "nothing is said twice"


SIZED = st.sampled_from([[], [b"Content-Length: 2"], [b"content-length:2"]])
STATUS = st.sampled_from(
    [
        b"1.1 200 OK",
        b"1.1 200",
        b"1.1 500 Not now",
        b"1.0 200 OK",
        b"1.1 204 None",
        b"1.1 304 Same",
        b"1.1 99 x",
        b"1.1 2000 OK",
        b"1.1 200abc",
    ]
)
HEADS = st.lists(
    st.sampled_from(
        [
            b"Content-Length: 2", b"Content-Length: 3", b"Content-Length: -2", b"Content-Length: 2, 2", b"Content-Length: \xb2",
            b"Transfer-Encoding: chunked", b"Connection: close", b"connection: Keep-Alive", b"Set-Cookie: a=b",
            b"Set-Cookie: c=d; Path=/",
            b"X:", b"X:  y z\t", b"X: \xe4", b" folded", b"no name", b"X : y", b"OTCSTicket: t", b"X: a\rb", b"X: a\nb",
        ]
    ),
    max_size=2,
)  # fmt: skip
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\n"])


@settings(deadline=None, max_examples=2000)
@given(
    STATUS, SIZED, HEADS, ENDS, st.sampled_from([b"{}", b"{} ", b"{", b"2\r\n{}\r\n0\r\n\r\n"]), st.sampled_from([1, 40, 1000])
)
def test_an_answer_is_what_the_library_says_it_is(
    status: bytes, sized: list[bytes], heads: list[bytes], end: bytes, body: bytes, at_once: int
) -> None:
    whole = end.join([b"HTTP/" + status, *sized, *heads, b"", b""]) + body
    try:
        with said(whole) as theirs, HTTPResponse(theirs, method="GET") as answer:
            answer.begin()
            headers = [(name, value.strip(" \t")) for name, value in answer.getheaders()]
            library = answer.status, headers, answer.will_close, answer.read()
    except HTTPException:
        library = None
    with closed("http://localhost") as ours, said(whole, at_once) as connection:
        try:
            heard = ours._heard(Said(_Line(connection), "GET", ""))
        except (HTTPException, httpx.RemoteProtocolError):
            assert library is None
            return
    told = [(name, value.strip(" \t")) for name, value in heard.headers]
    assert (heard.status, told, heard.body) == (library and (*library[:2], library[3]))
    if library and heard.ends != library[2]:
        assert heard.ends and not whole.endswith(heard.body), "what came after it may belong to nothing"


class Slow(socket.socket):
    """What comes on it comes in small pieces."""

    at_once = 1000

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        return super().recv(min(bufsize, self.at_once), flags)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        return super().recv_into(buffer, min(nbytes or len(buffer), self.at_once), flags)


@contextmanager
def said(answer: bytes, at_once: int = 1000) -> Iterator[Slow]:
    """A connection on which a server has said something already, and hung up."""
    server, client = socket.socketpair()
    with server, Slow(fileno=client.detach()) as ours:
        ours.at_once = at_once
        server.sendall(answer)
        server.shutdown(socket.SHUT_WR)
        yield ours


def test_nobody_there_is_another_error_than_no_answer() -> None:
    with closed(f"http://127.0.0.1:{free_port()}") as ours, pytest.raises(httpx.ConnectError):
        ours.call("GET", f"{ours._origin}/", {})
    server = Server([b""], then=lambda connection: connection.recv(1))
    with lines(server, timeout_seconds=0.2) as (ours, url), pytest.raises(httpx.ReadTimeout):
        ours.call("GET", url, {})


def test_a_connection_that_the_server_ended_meanwhile_is_not_used() -> None:
    server = Server([OK])  # and hangs up
    with lines(server) as (ours, url):
        ours.call("GET", url, {})
        ours._idle[0][1].sock.recv(1, socket.MSG_PEEK)  # until that has come to us
        server.answers.append(OK)
        assert ours.call("POST", url, {}, b"body").json() == {}
    assert server.connections == 2


def test_an_old_connection_is_not_used() -> None:
    server = Server([OK, OK])
    with lines(server, idle_seconds=0) as (ours, url):
        first = ours._connected()
        ours._keep(first, since=time.monotonic())
        ours.call("GET", url, {})
        assert first.sock.fileno() == -1


def test_a_connection_whose_answer_was_heard_late_is_as_old_as_its_call() -> None:
    """The server counts from its answer on, and may just be hanging up."""
    server = Server([OK, OK])
    with lines(server, idle_seconds=0.2) as (ours, url):
        with ours.say("GET", url, {}) as said:
            time.sleep(0.25)  # as while others are heard
            ours.hear(said)
        ours.call("GET", url, {})
    assert server.connections == 2


def test_what_the_server_wants_to_hear_again_it_hears() -> None:
    node = b"HTTP/1.1 200 OK\r\nSet-Cookie: node=7; Path=/\r\nContent-Length: 2\r\n\r\n{}"
    server = Server([node, OK])
    with lines(server) as (ours, url):
        ours.call("GET", url, {})
        ours.call("GET", url, {})
    assert b"cookie" not in server.asked[0].lower() and b"Cookie: node=7\r\n" in server.asked[1]


def test_a_large_body_has_the_time_limit_for_each_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    written = sizes_sent(monkeypatch)
    server, content = Server([OK, OK]), bytes(range(256)) * (PIECE // 100)
    with lines(server) as (ours, url):
        ours.call("POST", url, {}, content)
        ours.call("GET", url, {})
    assert server.asked[0].partition(b"\r\n\r\n")[2] == content
    assert b"chunked" not in server.asked[0].partition(b"\r\n\r\n")[0].lower()
    assert len(content) > 2 * PIECE >= 2 * max(written)


class Poured:
    """A body in pieces, of which one may raise."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = pieces
        self.size = sum(len(piece) if isinstance(piece, bytes) else 1 for piece in pieces)

    def pour(self, take: Take) -> None:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            take(memoryview(piece))


def poured(ours: Lines, address: str, *pieces: bytes | Exception) -> Answer:
    with ours.say("POST", address, {}, poured=Poured(*pieces)) as said:
        return ours.hear(said)


POURED = [b"head", bytes(range(256)) * (PIECE // 64), b"tail"]


def test_a_body_is_poured_out_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    written, server = sizes_sent(monkeypatch), Server([OK, OK])
    with lines(server) as (ours, url):
        poured(ours, url, *POURED)
        ours.call("GET", url, {})
    head, _, content = server.asked[0].partition(b"\r\n\r\n")
    assert content == b"".join(POURED)
    assert b"Content-Length: %d" % len(content) in head.splitlines() and b"chunked" not in head.lower()
    assert len(content) > 2 * PIECE >= 2 * max(written)
    assert server.connections == 1


def test_a_body_is_poured_out_over_tls(tmp_path: Path) -> None:
    server, certificate = Server([OK, OK]), make_certificate(tmp_path)
    with (
        over_tls(server, certificate) as port,
        closed(f"https://localhost:{port}", authority=certificate.authority) as ours,
    ):
        for _ in range(2):
            assert poured(ours, f"https://localhost:{port}/", *POURED).json() == {}
    assert [asked.partition(b"\r\n\r\n")[2] for asked in server.asked] == [b"".join(POURED)] * 2
    assert server.connections == 1


def test_a_body_that_breaks_off_ends_its_connection() -> None:
    server, broken = Server([OK, OK]), RepositoryUnreachable("broken")
    with lines(server) as (ours, url):
        with pytest.raises(RepositoryUnreachable) as told:
            poured(ours, url, b"head", broken)
        assert told.value is broken
        assert ours.call("GET", url, {}).json() == {}
    assert server.connections == 2


def test_a_server_that_wants_no_more_of_a_body_is_heard() -> None:
    refused = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"

    def refuse(connection: socket.socket) -> None:
        connection.recv(PIECE)
        connection.sendall(refused)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(PIECE):
            """Read until they stop: what is thrown away unread would take the answer with it."""

    with Listener(refuse) as port, closed(f"http://127.0.0.1:{port}") as ours:
        answer = poured(ours, f"http://127.0.0.1:{port}/", *POURED)
        assert answer.status_code == 413
        assert not ours._idle


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_a_server_that_hangs_up_in_mid_body_is_heard_all_the_same(tmp_path: Path, tls: bool) -> None:
    """What ends our sending is another error with TLS."""
    refused = b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"

    def refuse(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(20):
            connection.recv(PIECE)
        connection.sendall(refused)

    certificate = make_certificate(tmp_path)
    listening = over_tls(refuse, certificate) if tls else Listener(refuse)
    with listening as port, closed(f"http{'s' if tls else ''}://localhost:{port}", authority=certificate.authority) as ours:
        answer = poured(ours, f"http{'s' if tls else ''}://localhost:{port}/", *[bytes(PIECE)] * 1000)
        assert answer.status_code == 413
        assert not ours._idle


def test_what_breaks_a_body_off_is_not_taken_for_a_server_that_hung_up() -> None:
    server = Server([OK])
    with lines(server) as (ours, url), pytest.raises(httpx.RemoteProtocolError, match="where it came from"):
        poured(ours, url, b"head", ConnectionResetError("where it came from"))


def test_a_server_that_takes_nothing_of_a_body_is_told() -> None:
    over = threading.Event()
    with Listener(lambda _: over.wait(10)) as port, closed(f"http://127.0.0.1:{port}", timeout_seconds=0.2) as ours:
        with pytest.raises(httpx.ReadTimeout):
            poured(ours, f"http://127.0.0.1:{port}/", bytes(32 * 1024 * 1024))
        over.set()


def test_a_small_call_goes_out_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server([OK])
    with lines(server) as (ours, url):
        written = sizes_sent(monkeypatch)
        ours.call("POST", url, {}, b"body")
    assert sorted(written) == sorted([len(server.asked[0]), len(OK)])


def sizes_sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is given to any socket at once from now on, the server's too."""
    written, send = list[int](), socket.socket.sendall

    def seen(sock: socket.socket, data: bytes) -> None:
        written.append(len(data))
        send(sock, data)

    monkeypatch.setattr(socket.socket, "sendall", seen)
    return written


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"Ticket": "a\r\nOther: b"}, id="another header in its value"),
        pytest.param({"Ticket": "a\nb"}, id="half a line end"),
        pytest.param({"Ticket": "a\0b"}, id="an end of text"),
        pytest.param({"Ticket: a\r\nOther": "b"}, id="another header in its name"),
        pytest.param({"": "b"}, id="no name"),
    ],
)
def test_a_header_that_would_be_several_is_not_said(header: dict[str, str]) -> None:
    server = Server([OK])
    with lines(server) as (ours, url):
        with pytest.raises(ValueError, match="no header"):
            ours.call("GET", url, header)
        ours.call("GET", url, {})
    assert len(server.asked) == 1


def test_what_comes_after_an_answer_is_not_taken_for_the_next_one() -> None:
    server = Server([OK + OK.replace(b"{}", b"[]"), OK])
    with lines(server) as (ours, url):
        assert ours.call("GET", url, {}).json() == {}
        assert ours.call("GET", url, {}).json() == {}
    assert server.connections == 2


def test_an_answer_may_come_in_pieces_and_not_at_no_pace() -> None:
    def slowly(connection: socket.socket) -> None:
        with suppress(OSError):
            for _ in range(100):
                time.sleep(0.02)
                connection.sendall(b" ")

    long = b"[" + b"1," * PIECE + b"1]"
    in_pieces = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(long) + long
    server = Server([in_pieces, OK.replace(b": 2", b": 100")], then=slowly)
    with lines(server, timeout_seconds=0.3) as (ours, url):
        assert len(ours.call("GET", url, {}).json()) == PIECE + 1
        with pytest.raises(RepositoryUnreachable, match=r"only .* bytes in"):
            ours.call("GET", url, {})


@contextmanager
def over_tls(server: Callable[[socket.socket], object], certificate: Certificate) -> Iterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.path)

    def speak(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            server(secured)

    with Listener(speak) as port:
        yield port


def test_a_server_with_a_trusted_certificate_is_spoken_to(tmp_path: Path) -> None:
    server, certificate = Server([OK, OK, OK]), make_certificate(tmp_path)
    with (
        over_tls(server, certificate) as port,
        closed(f"https://localhost:{port}/base", authority=certificate.authority) as ours,
    ):
        for _ in range(3):
            assert ours.call("POST", f"https://localhost:{port}/base/a", {}, b"body").json() == {}
    assert server.connections == 1
    assert [asked.endswith(b"\r\n\r\nbody") for asked in server.asked] == [True] * 3


def test_what_came_in_one_record_with_the_end_of_an_answer_is_not_taken_for_the_next_one(tmp_path: Path) -> None:
    """The wire shows nothing of it any more: it is decrypted, and waits."""
    head, body = OK[:-2], OK[-2:]
    server, certificate = Server([(head, body + OK.replace(b"{}", b"[]")), OK]), make_certificate(tmp_path)
    with (
        over_tls(server, certificate) as port,
        closed(f"https://localhost:{port}", authority=certificate.authority) as ours,
    ):
        assert ours.call("GET", f"https://localhost:{port}/", {}).json() == {}
        assert ours.call("GET", f"https://localhost:{port}/", {}).json() == {}
    assert server.connections == 2


@pytest.mark.parametrize(
    ("names", "expired", "trusted"),
    [
        pytest.param(("localhost",), False, False, id="of an authority that nobody trusts"),
        pytest.param(("elsewhere.example",), False, True, id="of another host"),
        pytest.param(("localhost",), True, True, id="of the past"),
    ],
)
def test_a_server_with_a_wrong_certificate_hears_nothing(
    tmp_path: Path, names: tuple[str, ...], expired: bool, trusted: bool
) -> None:
    server, certificate = Server([OK]), make_certificate(tmp_path, *names, expired=expired)
    authority = certificate.authority if trusted else None
    with (
        over_tls(server, certificate) as port,
        closed(f"https://localhost:{port}", authority=authority) as ours,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        ours.call("GET", f"https://localhost:{port}/", {})
    assert not server.asked


def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    with lines(Server([OK])) as (ours, url):
        assert ours.call("GET", url, {}).json() == {}


def test_a_call_is_on_its_way_before_its_answer_is_heard_and_others_are_heard_meanwhile() -> None:
    server = Server([OK, OK, OK])
    with lines(server) as (ours, url):
        with ours.say("GET", f"{url}/first", {}) as first, ours.say("GET", f"{url}/second", {}) as second:
            assert ours.hear(second).is_success and ours.hear(first).is_success
        assert server.connections == 2
        ours.call("GET", f"{url}/third", {})
    assert server.connections == 2, "both are kept"


def test_the_answer_to_a_call_that_was_given_up_is_nobody_elses() -> None:
    server = Server([OK.replace(b"{}", b"[]"), OK])
    with lines(server) as (ours, url):
        with pytest.raises(RuntimeError), ours.say("GET", f"{url}/given-up", {}):
            raise RuntimeError("something else has failed")
        assert ours.call("GET", f"{url}/next", {}).json() == {} and server.connections == 2
