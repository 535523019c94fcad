"""What only the WebDAV repository promises: nothing is replaced whoever comes between, and what people change is noticed."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import parse_headers
from pathlib import Path

import pytest
from pydantic import ValidationError

from blocks.errors import DocumentChanged, DocumentMissing, EditConflict, RepositoryError, RepositoryUnreachable, SignInRefused
from blocks.repositories.webdav import WebDav, WebDavSession
from blocks.spool import Spool
from blocks.values import Collision, NotFiled
from tests.conformance.repositories.checks import Ground, one
from tests.conformance.repositories.enrolment import WEBDAV_PASSWORD, webdav_block
from tests.servers.line import AT, TO, Line
from tests.servers.listener import Listener
from tests.servers.webdav import WebDavServer, webdav_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDavServer]:
    with webdav_server(tmp_path_factory.mktemp("webdav")) as running:
        yield running


@pytest.fixture
def ground(server: WebDavServer, tmp_path: Path) -> Ground:
    (tmp_path / "files").mkdir()
    spool = Spool(tmp_path / "spool", floor_bytes=0)
    return Ground(webdav_block(server), ("Suppliers", tmp_path.name), tmp_path / "files", spool)


def on_disk(server: WebDavServer, ground: Ground, name: str) -> Path:
    return server.root.joinpath(*ground.folder, name)


def test_anybody_reads_a_document_under_its_name(server: WebDavServer, ground: Ground) -> None:
    ground.filed(ground.filing("a:b ü.csv", b"data"))
    assert on_disk(server, ground, "a:b ü.csv").read_bytes() == b"data"
    assert not list((server.root / ".countersign").iterdir()), "nothing is left on its way"


def test_wherever_the_line_is_cut_a_filing_is_made_once(server: WebDavServer, ground: Ground) -> None:
    port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    away = ground.repository.model_copy(update={"url": server.url.replace(TO, AT)})
    data = os.urandom(3000)

    def through(name: str, cuts: list[int]) -> tuple[int, int]:
        """File over a line, again until it is filed; bytes carried, and how often it was said."""
        filing, said = ground.filing(name, data, folder=(*ground.folder, name)), 0
        with Line([port], cuts) as line:
            while True:
                said += 1
                try:
                    with away.session() as session:
                        (answer,) = session.file([filing])
                except RepositoryError as error:
                    assert error.worth_retrying, error
                    continue
                assert not isinstance(answer, NotFiled), answer
                assert ground.bytes(answer.id) == data and ground.get(answer.id).identity == filing.journey
                assert len(list(on_disk(server, ground, name).iterdir())) == 1
                return line.carried, said

    whole, once = through("whole", [])
    assert once == 1
    met = [through(f"cut {n}", [whole * n // 10])[1] for n in range(1, 10)]
    assert max(met) == 2, "no cut met anything"


def test_a_lost_answer_is_settled_by_looking(server: WebDavServer, ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has moved it, and its answer does not come."""
    real, lost = WebDavSession._call, list[str]()

    def call(session: WebDavSession, method: str, *more: object) -> None:
        real(session, method, *more)  # type: ignore[arg-type]
        if method == "MOVE" and not lost:
            lost.append(method)
            raise RepositoryUnreachable("no answer")

    # Only the moment is ours: the move is made.
    monkeypatch.setattr(WebDavSession, "_call", call)
    filing = ground.filing("moved.csv")
    assert one(ground.filed(filing)).version == 1 and lost == ["MOVE"]
    assert [kept.identity for kept in ground.look()] == [filing.journey]


def test_what_somebody_puts_there_meanwhile_is_not_replaced(
    server: WebDavServer, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, theirs = WebDavSession._whole, on_disk(server, ground, "prices.csv")

    def meanwhile(session: WebDavSession, *more: object) -> None:
        real(session, *more)  # type: ignore[arg-type]
        theirs.write_bytes(b"theirs")

    # Only the moment is ours: the name is taken just before the document gets it.
    monkeypatch.setattr(WebDavSession, "_whole", meanwhile)
    for collision, code in ((Collision.REFUSE, "name-taken"), (Collision.NEW_VERSION, "no-versions")):
        theirs.unlink(missing_ok=True)
        (refused,) = ground.file(ground.filing("prices.csv", b"ours", collision=collision))
        assert isinstance(refused, NotFiled) and refused.code == code
        assert theirs.read_bytes() == b"theirs"
    assert not list((server.root / ".countersign").iterdir())


def test_what_somebody_changes_is_noticed_and_not_removed(server: WebDavServer, ground: Ground) -> None:
    filing = ground.filing("a.csv", b"12345")
    filed = one(ground.filed(filing))
    on_disk(server, ground, "a.csv").write_bytes(b"54321")
    with pytest.raises(DocumentChanged, match="somebody changed them"):
        ground.bytes(filed.id)
    with ground.repository.session() as session, pytest.raises(EditConflict, match="nothing was removed"):
        session.remove(filed.id, (filing.journey,))
    assert on_disk(server, ground, "a.csv").read_bytes() == b"54321"


def test_a_change_in_the_moment_of_removal_keeps_the_document(
    server: WebDavServer, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    filing = ground.filing("a.csv", b"12345")
    filed = one(ground.filed(filing))
    real = WebDavSession._bytes

    def meanwhile(session: WebDavSession, place: tuple[str, ...]) -> Iterator[bytes]:
        yield from real(session, place)
        on_disk(server, ground, "a.csv").write_bytes(b"by a person")

    # Only the moment is ours: it is changed when we have seen that it is as it was filed.
    monkeypatch.setattr(WebDavSession, "_bytes", meanwhile)
    with ground.repository.session() as session, pytest.raises(EditConflict, match="nothing was changed"):
        session.remove(filed.id, session.filed_by(filed.id))
    assert on_disk(server, ground, "a.csv").read_bytes() == b"by a person"


def test_a_persons_file_is_a_document_of_nobodys_journey(server: WebDavServer, ground: Ground) -> None:
    ground.filed(ground.filing("ours.csv"))
    on_disk(server, ground, "theirs.csv").write_bytes(b"by hand")
    found = ground.find("theirs.csv")
    assert found is not None and (found.version, found.identity, found.size) == (1, None, 7)
    assert ground.bytes(found.id) == b"by hand"
    both = one(ground.filed(ground.filing("theirs.csv", b"from us", collision=Collision.KEEP_BOTH)))
    assert both.id != found.id and ground.bytes(found.id) == b"by hand"


def test_a_folder_that_is_removed_meanwhile_is_made_again(server: WebDavServer, ground: Ground) -> None:
    with ground.repository.session() as session:
        (first,) = session.file([ground.filing("a.csv")])
        session.remove(first.id)  # type: ignore[union-attr]
        on_disk(server, ground, "").rmdir()
        filing = ground.filing("b.csv")
        (second,) = session.file([filing])
    assert ground.get(second.id).identity == filing.journey  # type: ignore[union-attr]


def test_what_a_killed_process_left_on_its_way_is_swept_up_after_a_day(server: WebDavServer, ground: Ground) -> None:
    ground.filed(ground.filing("a.csv"))
    old, new = (server.root / ".countersign" / name for name in ("old", "new"))
    for left in (old, new):
        left.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    with ground.repository.session():
        assert not old.exists() and new.exists()
    new.unlink()


@pytest.mark.parametrize(
    ("more", "error"),
    [
        pytest.param({"username": "nobody"}, SignInRefused, id="another account"),
        pytest.param({"url": "/no such folder"}, DocumentMissing, id="no such folder"),
    ],
)
def test_it_says_at_once_why_it_does_not_sign_in(server: WebDavServer, more: dict[str, str], error: type[Exception]) -> None:
    more = {key: f"{server.url}{value}".replace(" ", "%20") if key == "url" else value for key, value in more.items()}
    with pytest.raises(error), webdav_block(server, **more).session():
        pass


def test_without_tls_only_on_this_machine(server: WebDavServer) -> None:
    with pytest.raises(ValidationError, match="use 'https'"):
        webdav_block(server, url="http://archive.example.com/dav")


def listed(*paths: str) -> bytes:
    """What a server answers that has these folders."""
    entry = "<response><href>{}</href><propstat><prop><resourcetype><collection/></resourcetype></prop>{}</propstat></response>"
    entries = (entry.format(path, "<status>HTTP/1.1 200 OK</status>") for path in paths)
    return f'<multistatus xmlns="DAV:">{"".join(entries)}</multistatus>'.encode()


def slowly(connection: socket.socket, body: bytes) -> None:
    for place in range(len(body)):
        connection.sendall(body[place : place + 1])
        time.sleep(0.02)


def at_once(connection: socket.socket, body: bytes) -> None:
    connection.sendall(body)


@pytest.mark.parametrize(
    ("send", "answer", "error", "why"),
    [
        pytest.param(at_once, listed("/else/f/", "/else/f/a/"), RepositoryError, "'/else/f/': is not below", id="elsewhere"),
        pytest.param(at_once, listed("/archive"), None, "", id="a list of nothing"),
        pytest.param(at_once, listed("/archive/f/a/", "/archive/f/b/"), None, "", id="a list"),
        pytest.param(at_once, listed("/archive/" + "a" * 2**21), RepositoryError, "about one thing", id="no end of one thing"),
        pytest.param(slowly, listed("/archive/f/a/") * 3, RepositoryUnreachable, "standing still", id="hardly moves"),
    ],
)
def test_an_odd_list_is_no_list(
    send: Callable[[socket.socket, bytes], None], answer: bytes, error: type[Exception] | None, why: str
) -> None:
    with odd_server(send, answer) as session:
        if error is None:
            assert [kept.name for kept in session.look(("f",))] in ([], ["a", "b"])
        else:
            with pytest.raises(error, match=why):
                list(session.look(("f",)))


@pytest.mark.parametrize(
    ("send", "answer", "why"),
    [
        pytest.param(at_once, b"x" * 2**21, "more than 1,048,576 bytes", id="no end"),
        pytest.param(slowly, b"x" * 400, "standing still", id="hardly moves"),
    ],
)
def test_what_came_of_a_call_is_told_briefly_or_not_believed(
    send: Callable[[socket.socket, bytes], None], answer: bytes, why: str
) -> None:
    with odd_server(send, answer) as session, pytest.raises(RepositoryUnreachable, match=why):
        session._call("MKCOL", ("f",))


@contextmanager
def odd_server(send: Callable[[socket.socket, bytes], None], answer: bytes) -> Iterator[WebDavSession]:
    """Signed in to a server that answers so of all below its folder; it may take 0.3 seconds, and one for each KiB."""

    def speak(connection: socket.socket) -> None:
        with connection.makefile("rb") as asked:
            path = asked.readline().split(b" ")[1]
            headers = parse_headers(asked)
            asked.read(int(headers.get("Content-Length", 0)))
        signs_in = path in (b"/archive", b"/archive/.countersign")
        body = listed("/archive") if signs_in else answer
        connection.sendall(b"HTTP/1.1 207 Multi-Status\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        (at_once if signs_in else send)(connection, body)

    os.environ[WEBDAV_PASSWORD] = "a password"
    with Listener(speak) as port:
        block = WebDav(url=f"http://127.0.0.1:{port}/archive", username="archive", password=f"env:{WEBDAV_PASSWORD}")
        with block.session() as session:
            session._seconds = 0.3  # once it has signed in: a busy machine takes its time
            yield session
