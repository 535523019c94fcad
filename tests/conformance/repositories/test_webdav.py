"""What only the WebDAV repository promises: nothing is replaced whoever comes between, and what people change is noticed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from blocks.errors import DocumentChanged, DocumentMissing, EditConflict, RepositoryError, RepositoryUnreachable, SignInRefused
from blocks.repositories.webdav import WebDavSession
from blocks.spool import Spool
from blocks.values import Collision, NotFiled
from tests.conformance.repositories.checks import Ground, one
from tests.conformance.repositories.enrolment import webdav_block
from tests.servers.line import AT, TO, Line
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
