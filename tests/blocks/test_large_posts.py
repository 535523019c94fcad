"""Large bodies on their way to a repository that answers before it has all of them, and hangs up."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from blocks.errors import RepositoryUnreachable
from blocks.relay import Take
from blocks.repositories.arriving import Arriving
from blocks.repositories.otcs_wire import AnswerLost, FilePart, Refusal, Upload, Wire
from tests.blocks.test_lines import over_tls
from tests.servers.certificates import make_certificate

CONTENT = bytes(range(256)) * 128 * 1024
"""More than a connection's buffers hold."""
PIECE = 64 * 1024


class Early:
    """Says each of its answers after the first bytes of a call, and hangs up; after the last one, when it has all of it."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        self.answers, self.bodies = list(answers), list[bytes]()

    def __call__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection.makefile("rb") as source:
            head = b"".join(iter(source.readline, b"\r\n")).lower()
            length = next(int(line[15:]) for line in head.splitlines() if line.startswith(b"content-length:"))
            self.bodies.append(source.read(length if length < PIECE or len(self.answers) == 1 else 20 * PIECE))
        status, body = self.answers.pop(0)
        connection.sendall(b"HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


@contextmanager
def wire(server: Callable[[socket.socket], object], folder: Path) -> Iterator[Wire]:
    certificate = make_certificate(folder)
    with over_tls(server, certificate) as port:
        yield Wire(f"https://localhost:{port}", "u", lambda: "p", timeout_seconds=10, connections=1, ca=certificate.authority)


def spooled(folder: Path) -> Upload:
    path = folder / "content"
    path.write_bytes(CONTENT)
    return Upload(path, "a.mp4", "video/mp4", len(CONTENT), sha256(CONTENT).hexdigest())


def arriving() -> Arriving:
    def pour(take: Take) -> None:
        for at in range(0, len(CONTENT), PIECE):
            take(CONTENT[at : at + PIECE])

    return Arriving(pour, "a.mp4", "video/mp4", len(CONTENT))


def post(wire: Wire, upload: FilePart) -> object:
    return wire.write("filing", "POST", "v2/nodes", fields={"type": "144"}, upload=upload)


def test_a_refusal_in_mid_body_is_heard(tmp_path: Path) -> None:
    with wire(Early((400, b'{"error": "no"}'), (200, b"")), tmp_path) as ours, pytest.raises(Refusal, match="no"):
        post(ours, arriving())


def test_a_ticket_that_ends_in_mid_body_is_renewed_and_all_is_sent_again(tmp_path: Path) -> None:
    server = Early((401, b"{}"), (200, b'{"ticket": "t"}'), (200, b'{"id": 1}'))
    with wire(server, tmp_path) as ours:
        assert post(ours, spooled(tmp_path)) == {"id": 1}
    assert [CONTENT in body for body in server.bodies] == [False, False, True]


def test_what_comes_only_once_is_not_sent_again_when_the_ticket_ends(tmp_path: Path) -> None:
    server = Early((401, b"{}"), (200, b'{"ticket": "t"}'), (200, b'{"id": 1}'))
    with wire(server, tmp_path) as ours, pytest.raises(RepositoryUnreachable, match="came only once"):
        post(ours, arriving())


@pytest.mark.parametrize("upload", [lambda _: arriving(), spooled], ids=["arriving", "spooled"])
def test_a_success_of_half_a_body_is_no_success(tmp_path: Path, upload: Callable[[Path], FilePart]) -> None:
    server = Early((200, b'{"id": 1}'), (200, b'{"id": 2}'))
    with wire(server, tmp_path) as ours, pytest.raises(AnswerLost, match="before it was sent whole"):
        post(ours, upload(tmp_path))
    assert len(server.bodies) == 1
