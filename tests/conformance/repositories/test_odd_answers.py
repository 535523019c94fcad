"""Answers that no sound server gives, from a real socket: the client says which call and node, and takes nothing for granted."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from blocks.errors import DocumentMissing, EditConflict, RepositoryError, RepositoryUnreachable, SignInRefused
from blocks.repositories import otcs_wire
from blocks.repositories.extended_ecm import ExtendedEcm, ExtendedEcmSession
from blocks.repositories.otcs_wire import AnswerLost
from blocks.spool import Spool


class Odd(ThreadingHTTPServer):
    """Answers sign-ins, and everything else with what it is told."""

    answer: tuple[int, str, bytes, int | None]
    """Status, media type, body, announced length."""
    requests = 0

    def says(self, status: int, body: Any, *, media_type: str = "application/json", announced: int | None = None) -> None:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answer, self.requests = (status, media_type, text, announced), 0


class Handler(BaseHTTPRequestHandler):
    server: Odd
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/auth"):
            self.reply(200, "application/json", b'{"ticket": "t"}', None)
        else:
            self.do_GET()

    def do_DELETE(self) -> None:
        self.do_POST()

    def do_GET(self) -> None:
        self.server.requests += 1
        self.reply(*self.server.answer)

    def reply(self, status: int, media_type: str, body: bytes, announced: int | None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body) if announced is None else announced))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = announced is not None

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch, short_pauses: None) -> Iterator[Odd]:
    monkeypatch.setenv("ODD_PASSWORD", "x")
    with Odd(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def session(odd: Odd) -> Iterator[ExtendedEcmSession]:
    url = f"http://127.0.0.1:{odd.server_port}/otcs/cs.exe"
    with ExtendedEcm(url=url, username="u", password="env:ODD_PASSWORD").session() as session:
        yield session


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        pytest.param(200, {"results": []}, RepositoryError, "node 4711.*no result", id="a list where one thing was due"),
        pytest.param(200, {"results": {"data": {}}}, RepositoryError, "node 4711.*no properties", id="no properties"),
        pytest.param(
            200, {"results": {"data": {"properties": {"id": "7"}}}}, RepositoryError, "node 4711", id="an id that is text"
        ),
        pytest.param(200, b"", RepositoryUnreachable, "node 4711.*without a JSON answer", id="an empty success"),
        pytest.param(200, [1], RepositoryUnreachable, "node 4711", id="a list"),
        pytest.param(500, b"<html>Please try again</html>", RepositoryUnreachable, "page", id="an HTML page"),
        pytest.param(504, {"error": "x"}, RepositoryUnreachable, "504", id="a gateway"),
        pytest.param(400, {"error": "Could not get a node for 4711"}, DocumentMissing, "4711", id="missing by text"),
        pytest.param(
            500, {"errorDetail": "Sorry, the item could not be accessed."}, DocumentMissing, "item", id="invisible by text"
        ),
        pytest.param(
            409, {"error": "Could not update metadata (edit conflict)."}, EditConflict, "in between", id="edit conflict"
        ),
        pytest.param(401, {"error": "Authentication Required"}, SignInRefused, "Authentication", id="a ticket is never good"),
        pytest.param(
            400, {"results": {"ok": False, "errMsg": "No RM"}}, RepositoryError, "No RM", id="records management's own shape"
        ),
        pytest.param(302, b"<html>sign in elsewhere</html>", RepositoryUnreachable, "302 with a page", id="a redirect"),
        pytest.param(400, b"<html>Bad Request</html>", RepositoryUnreachable, "400 with a page", id="a proxy that is confused"),
        pytest.param(403, b"<html>Forbidden</html>", RepositoryUnreachable, "403 with a page", id="a proxy that says no"),
        pytest.param(404, b"<html>Not Found</html>", RepositoryUnreachable, "404 with a page", id="a web server by itself"),
    ],
)
def test_an_odd_answer_is_an_error_that_names_the_call(
    odd: Odd, session: ExtendedEcmSession, status: int, body: Any, error: type[Exception], words: str
) -> None:
    odd.says(status, body)
    with pytest.raises(error, match=words) as raised:
        session.get("4711")
    assert type(raised.value) is error or error is RepositoryError
    assert odd.requests == (otcs_wire.ATTEMPTS if error is RepositoryUnreachable else 2 if status == 401 else 1)


@pytest.mark.parametrize("status", [302, 400, 403, 404, 500])
def test_a_page_never_tells_that_something_was_done_or_refused(odd: Odd, session: ExtendedEcmSession, status: int) -> None:
    """A proxy's page: what is to be removed may stand, and what is to be filed may be good."""
    odd.says(status, b"<html>from a proxy</html>")
    with pytest.raises(AnswerLost, match=f"{status} with a page"):
        session._wire.write("removal", "DELETE", "v2/nodes/4711")
    assert odd.requests == 1
    with pytest.raises(RepositoryUnreachable, match="removal of node 4711"):
        session.nodes.delete(4711)


@pytest.mark.parametrize("announced", [5, 9])
def test_a_short_download_is_never_taken_for_whole(
    odd: Odd, session: ExtendedEcmSession, announced: int, tmp_path: Path
) -> None:
    odd.says(200, b"1234", media_type="text/csv", announced=announced)
    spool = Spool(tmp_path / "spool", floor_bytes=0)
    with pytest.raises(RepositoryUnreachable, match="content of node 4711"), spool.batch() as batch:
        session.fetch("4711", None, batch)
    assert odd.requests == otcs_wire.ATTEMPTS
    assert not list(spool.store.glob("*/*"))
