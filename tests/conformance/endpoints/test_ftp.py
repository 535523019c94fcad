"""What only FTP and FTPS promise: who the server is, what is said in clear, and what happens when server or line misbehave."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from blocks.endpoints import ftp_wire
from blocks.endpoints.ftp import Ftp, Ftps, certificate_fingerprint
from blocks.endpoints.ftp_line import Line
from blocks.errors import (
    ConfigurationError,
    EndpointBusy,
    EndpointError,
    EndpointUnreachable,
    EndpointUnsuitable,
    HostKeyChanged,
    LoginRefused,
)
from blocks.values import Fetched, FileKind, Missed, Move, Outcome, Placed, Proof
from tests.conformance.endpoints.checks import LONG_AGO, MIB, Ground, Meddled, outcomes
from tests.conformance.endpoints.rogues import PASSWORD, USERS, endpoint, ground_at, patiently
from tests.sandbox import sandbox as sandbox_process
from tests.sandbox.ftp import FtpSandbox
from tests.servers.listener import Listener


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[FtpSandbox]:
    with FtpSandbox(tmp_path / "sandbox", users=USERS) as server:
        yield server


@pytest.fixture
def protected(tmp_path: Path) -> Iterator[FtpSandbox]:
    with FtpSandbox(tmp_path / "protected", users=USERS, tls=True) as server:
        yield server


@pytest.fixture
def ground(sandbox: FtpSandbox, tmp_path: Path) -> Ground:
    return ground_at(sandbox, tmp_path / "spool")


# --------------------------------------------------------------------------------------------- who they are


def test_a_pinned_certificate_is_trusted_and_no_other(protected: FtpSandbox) -> None:
    assert protected.certificate is not None
    agreed = endpoint(protected, certificates=(protected.certificate.fingerprint.lower().replace("sha256", "SHA256"),))
    assert isinstance(agreed, Ftps)
    assert certificate_fingerprint(agreed) == protected.certificate.fingerprint
    with agreed.session() as session:
        assert session.capabilities.fingerprint == protected.certificate.fingerprint
        list(session.look("/"))
    before, logins = protected.certificate.fingerprint, protected.logins
    protected.stop()
    protected.faults["new-certificate"] = 1
    protected.start()
    with pytest.raises(HostKeyChanged) as caught:
        agreed.session()
    assert before in str(caught.value)
    assert protected.certificate.fingerprint in str(caught.value)
    assert not caught.value.worth_retrying
    assert protected.logins == logins, "a login was tried"


def test_an_unknown_authority_is_not_trusted(protected: FtpSandbox) -> None:
    with pytest.raises(HostKeyChanged, match="not trusted"):
        endpoint(protected, ca_file=None).session()
    assert protected.logins == 0


def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path) -> None:
    with FtpSandbox(tmp_path / "other", users=USERS, tls=True, names=("ftp.partner.example",)) as server:
        with pytest.raises(HostKeyChanged, match=r"127\.0\.0\.1"):
            endpoint(server).session()
        assert server.logins == 0


@pytest.mark.parametrize("pinned", [False, True], ids=["signed", "pinned"])
def test_an_expired_certificate_is_not_trusted(pinned: bool, protected: FtpSandbox) -> None:
    protected.stop()
    protected.faults["expired-certificate"] = 1
    protected.start()
    assert protected.certificate is not None
    trust = {"certificates": (protected.certificate.fingerprint,)} if pinned else {}
    with pytest.raises(HostKeyChanged, match=r"expired|valid from"):
        endpoint(protected, **trust).session()
    assert protected.logins == 0


def test_a_private_authority_that_cannot_be_read_says_so(protected: FtpSandbox, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ca_file"):
        endpoint(protected, ca_file=tmp_path / "missing.pem").session()


def test_implicit_tls(tmp_path: Path) -> None:
    with FtpSandbox(tmp_path / "implicit", users=USERS, implicit=True) as server:
        ground = ground_at(server, tmp_path / "spool", mode="implicit")
        ground.write(b"a.csv", b"content")
        answers = ground.fetch(ground.look().values())
        assert ground.holds(answers[b"a.csv"]) == b"content"
        with pytest.raises(EndpointError):
            endpoint(server, mode="explicit", timeout_seconds=1).session()


def test_implicit_tls_where_the_server_begins_in_clear_says_what_to_look_at(protected: FtpSandbox) -> None:
    with pytest.raises(EndpointUnsuitable, match="mode"):
        endpoint(protected, mode="implicit").session()


@pytest.mark.parametrize(("fault", "says"), [("no-auth-tls", "explicit TLS"), ("no-prot", "PROT P")])
def test_protection_is_never_given_up(fault: str, says: str, protected: FtpSandbox) -> None:
    protected.faults[fault] = 1
    with pytest.raises(EndpointUnsuitable, match=says) as caught:
        endpoint(protected).session()
    assert not caught.value.worth_retrying


def test_clear_text_must_be_accepted_in_so_many_words(sandbox: FtpSandbox) -> None:
    agreed = endpoint(sandbox).model_dump(exclude={"unprotected", "block_type_slug"})
    with pytest.raises(ValidationError, match="unprotected"):
        Ftp.model_validate(agreed)
    with pytest.raises(ValidationError, match="accepted"):
        Ftp.model_validate(agreed | {"unprotected": "yes"})


def at(port: int, **fields: object) -> Ftps:
    agreed: dict[str, object] = {"host": "127.0.0.1", "port": port, "username": "us", "password": "env:PARTNER_PASSWORD"}
    return Ftps.model_validate(agreed | {"timeout_seconds": 60} | fields)


def test_words_put_between_clear_and_tls_are_noticed() -> None:
    def inject(connection: socket.socket) -> None:
        connection.sendall(b"220 hello\r\n")
        connection.recv(100)
        connection.sendall(b"234 go on\r\n230 you are in\r\n200 fine\r\n")
        connection.recv(100)

    with Listener(inject) as port, pytest.raises(HostKeyChanged, match="between"):
        at(port).session()


def test_a_server_that_says_nothing_or_nonsense_ends_in_time() -> None:
    with Listener(lambda connection: bool(connection.recv(100))) as port, pytest.raises(EndpointUnreachable, match="no answer"):
        at(port, timeout_seconds=1).session()
    with (
        Listener(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n") or bool(connection.recv(9))) as port,
        pytest.raises((EndpointUnsuitable, EndpointUnreachable)),
    ):
        at(port).session()


def deaf(connection: socket.socket) -> None:
    """A server that resets the data connection of an upload, says that all went well, and tells no sizes."""
    connection.sendall(b"220 hello\r\n")
    commands = connection.makefile("rb")
    with socket.create_server(("127.0.0.1", 0)) as data:
        for command in commands:
            match command.split()[0]:
                case b"EPSV":
                    answer = b"229 here (|||%d|)" % data.getsockname()[1]
                case b"STOR":
                    reset, _ = data.accept()
                    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    reset.close()
                    connection.sendall(b"150 go on\r\n")
                    answer = b"226 I have it all"
                case b"FEAT" | b"SIZE" | b"STAT" | b"MDTM" | b"LIST":
                    answer = b"502 what?"
                case b"CWD":
                    answer = b"250 you are in" if command.split()[1] == b"/in" else b"550 no such folder"
                case b"RNFR":
                    answer = b"350 and then?"
                case _:
                    answer = b"230 fine"
            connection.sendall(answer + b"\r\n")


def test_226_for_an_upload_that_was_reset_is_not_believed_though_nothing_else_tells(ground: Ground) -> None:
    with Listener(deaf) as port:
        agreed = Ftp(host="127.0.0.1", port=port, username="us", password="env:PARTNER_PASSWORD", unprotected="accepted")
        with agreed.session() as session, pytest.raises(EndpointUnreachable, match="lost before all was sent"):
            list(session.put([ground.outgoing(b"a.csv", b"content")], "/in"))


def speaking(line: bytes, pause: float) -> Callable[[socket.socket], object]:
    """A server that goes on saying the same."""

    def speak(connection: socket.socket) -> None:
        while True:
            connection.sendall(line)
            time.sleep(pause)

    return speak


def test_a_server_that_is_always_about_to_be_ready_ends_in_time() -> None:
    began = time.monotonic()
    with Listener(speaking(b"120 ready in 3 minutes\r\n", 0.2)) as port, pytest.raises(EndpointUnreachable, match="no answer"):
        at(port, timeout_seconds=3).session()
    assert time.monotonic() - began < 60


def test_an_answer_without_an_end_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not 16 MiB of a reply, for each server.
    monkeypatch.setattr(ftp_wire, "_LONGEST_REPLY", 100_000)
    endless = speaking(b"220-welcome\r\n" * 1000, 0)
    with Listener(endless) as port, pytest.raises(EndpointUnsuitable, match="an answer that has no end"):
        at(port, timeout_seconds=60).session()


def test_a_server_that_says_more_than_once_that_it_is_at_it_is_understood(sandbox: FtpSandbox, ground: Ground) -> None:
    sandbox.faults["says-it-again"] = 1
    content = {b"%d.csv" % number: b"%d" % number for number in range(5)}
    answers = ground.put(ground.outgoing(name, data) for name, data in content.items())
    assert all(isinstance(answer, Placed) and answer.proof is Proof.SERVER_HASH for answer in answers.values())
    fetched = ground.fetch(ground.look().values())
    assert {name: ground.holds(answer) for name, answer in fetched.items()} == content


def test_what_ftp_cannot_keep_is_refused_in_the_profile(sandbox: FtpSandbox) -> None:
    with pytest.raises(ValidationError, match="STOR replaces what stands there"):
        endpoint(sandbox, direct_write="accepted", write_only=True)


def test_a_line_break_in_a_folder_or_password_reaches_no_command(
    sandbox: FtpSandbox, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground.write(b"a.csv")
    with ground.endpoint.session() as session, pytest.raises(EndpointError, match="line break"):
        list(session.look(f"/\r\nDELE {ground.folder}/a.csv"))
    monkeypatch.setenv("PARTNER_PASSWORD", "a\r\nDELE b")
    with pytest.raises(EndpointError, match="line break"):
        endpoint(sandbox).session()
    assert ground.names() == {b"a.csv"}


# --------------------------------------------------------------------------------------------- connections


def test_421_is_busy_and_no_more_connections_are_opened_than_let_in(sandbox: FtpSandbox, ground: Ground) -> None:
    content = {f"{number}.csv".encode(): os.urandom(2000) for number in range(60)}
    for name, data in content.items():
        ground.write(name, data)
    sandbox.faults["busy"] = 2
    answers = ground.fetch(ground.look().values())
    assert {name: ground.holds(answer) for name, answer in answers.items()} == content
    sandbox.faults["busy"] = 1
    with ground.endpoint.session(), pytest.raises(EndpointBusy) as caught:
        ground.endpoint.session()
    assert caught.value.worth_retrying


def test_our_own_limit_of_connections_holds_over_all_sessions(sandbox: FtpSandbox, ground: Ground) -> None:
    for number in range(60):
        ground.write(f"{number}.csv".encode())
    agreed = endpoint(sandbox, connection_limit=3)
    with agreed.session() as first, ground.spool.batch() as batch, agreed.session():
        assert sum(isinstance(answer, Fetched) for answer in first.fetch(list(first.look(ground.folder)), batch)) == 60
        assert sandbox.logins == 3
        with pytest.raises(EndpointBusy, match="connection_limit"):
            endpoint(sandbox, connection_limit=3, timeout_seconds=1).session()
    with agreed.session(), agreed.session(), agreed.session():
        pass


def test_a_connection_that_ends_leaves_no_thread(sandbox: FtpSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    session = endpoint(sandbox).session()
    session.close()
    session.close()
    monkeypatch.setenv("PARTNER_PASSWORD", "wrong")
    with pytest.raises(LoginRefused):
        endpoint(sandbox).session()
    assert {thread for thread in threading.enumerate() if thread.name.startswith("ftp 1")} <= before
    with pytest.raises(EndpointError, match="closed"):
        list(session.look("/"))


# --------------------------------------------------------------------------------------------- listings


@pytest.mark.parametrize(
    "faults",
    [
        {"no-mlsd": 1},
        {"no-mlsd": 1, "dos-list": 1},
        {"no-mlsd": 1, "no-mdtm": 1},
        {"no-mlsd": 1, "no-list": 1},
        {"no-mlsd": 1, "no-list": 1, "no-mdtm": 1},
        {"no-mlsd": 1, "mvs-list": 1, "nlst-paths": 1},
        {"one-question": 1},
        {"no-epsv": 1, "foreign-pasv": 1},
        {"no-rest": 1},
    ],
    ids=lambda faults: " ".join(faults),
)
def test_servers_that_know_less_are_used_all_the_same(faults: dict[str, float], sandbox: FtpSandbox, ground: Ground) -> None:
    sandbox.faults.update(faults)
    ground.write(b" two  blanks.csv", b"12345", LONG_AGO)
    (ground.place / "folder").mkdir()
    seen = ground.look()
    assert {name: file.kind for name, file in seen.items()} == {b" two  blanks.csv": FileKind.FILE, b"folder": FileKind.FOLDER}
    file = seen[b" two  blanks.csv"]
    assert (file.size, file.modified) == (5, None if "no-mdtm" in faults else LONG_AGO)
    assert ground.holds(ground.fetch([file])[file.name]) == b"12345"
    assert isinstance(ground.put([ground.outgoing(b"up.csv", b"ours")])[b"up.csv"], Placed)
    assert (ground.place / "up.csv").read_bytes() == b"ours"


@pytest.mark.parametrize("faults", [{}, {"no-mlsd": 1}], ids=["MLSD", "LIST"])
def test_odd_lines_are_counted_and_shown_and_become_no_files(
    faults: dict[str, float], sandbox: FtpSandbox, ground: Ground
) -> None:
    ground.write(b"a.csv")
    ground.write(b"first half\nsecond half.csv")
    sandbox.faults.update(faults | {"odd-list": 1})
    with ground.endpoint.session() as session:
        names = {file.name for file in session.look(ground.folder)}
        assert names == {b"a.csv"}
        assert session.unread.count >= 5
        assert "Welcome to our new server!" in session.unread.examples
        assert "first half" in session.unread.examples
        assert all(line.isprintable() for line in session.unread.examples)
        sandbox.faults["odd-list"] = 0
        (ground.place / "first half\nsecond half.csv").unlink()
        list(session.look(ground.folder))
        assert session.unread.count == 0


def test_what_only_names_tell_is_asked_and_a_banner_becomes_no_file(sandbox: FtpSandbox, ground: Ground) -> None:
    """Where nobody can read LIST, the names of NLST are asked for one by one: SIZE, MDTM, and CWD for folders."""
    ground.write(b"a.csv", b"12345", LONG_AGO)
    halves = ground.write(b"first half\nsecond half.csv")
    (ground.place / "folder").mkdir()
    sandbox.faults.update({"no-mlsd": 1, "mvs-list": 1, "odd-list": 1})
    with ground.endpoint.session() as session:
        seen = {file.name: file for file in session.look(ground.folder)}
        assert set(seen) == {b"a.csv", b"folder"}
        assert (seen[b"a.csv"].size, seen[b"a.csv"].modified) == (5, LONG_AGO)
        assert {"Welcome to our new server!", "first half"} <= set(session.unread.examples)
        for path in (ground.place / "a.csv", halves):
            path.unlink()
        (ground.place / "folder").rmdir()
        assert list(session.look(ground.folder)) == []
        assert session.unread.examples == ("Welcome to our new server!",)


def test_a_listing_that_breaks_off_never_looks_whole(sandbox: FtpSandbox, ground: Ground) -> None:
    for number in range(50):
        ground.write(f"{number}.csv".encode())
    sandbox.faults["lost-listing"] = 1
    with ground.endpoint.session() as session:
        with pytest.raises(EndpointUnreachable):
            list(session.look(ground.folder))
        assert len(list(session.look(ground.folder))) == 50


# --------------------------------------------------------------------------------------------- downloads


def test_226_after_too_few_bytes_is_not_believed(sandbox: FtpSandbox, ground: Ground) -> None:
    ground.write(b"a.csv", os.urandom(10_000))
    ground.write(b"b.csv", b"whole")
    sandbox.faults["short-226"] = 4000
    answers = ground.fetch(ground.look().values())
    missed = answers[b"a.csv"]
    assert isinstance(missed, Missed)
    assert missed.outcome is Outcome.CHANGED
    assert "4000 of 10000" in missed.reason
    assert ground.holds(answers[b"b.csv"]) == b"whole"
    assert len(list(ground.spool.store.glob("*/*"))) == 1


@pytest.mark.parametrize("kept", [True, False], ids=["unchanged", "other bytes"])
def test_a_dropped_download_goes_on_only_where_the_bytes_are_the_same(kept: bool, sandbox: FtpSandbox, ground: Ground) -> None:
    small, big = os.urandom(1000), os.urandom(5 * MIB)
    ground.write(b"small", small, LONG_AGO)
    ground.write(b"big", big, LONG_AGO)
    seen = ground.look()
    sandbox.faults["drop-after"] = 3 * MIB
    arrived = []
    with ground.endpoint.session() as session, ground.spool.batch() as batch, pytest.raises(EndpointUnreachable):
        for answer in session.fetch([seen[b"small"], seen[b"big"]], batch):
            arrived.append(answer)
    assert [answer.file.name for answer in arrived] == [b"small"], "what was complete must be told before the error"
    sandbox.faults.clear()
    if not kept:
        big = os.urandom(5 * MIB)
        ground.write(b"big", big, LONG_AGO)
    batch = Meddled(ground.spool)
    assert ground.holds(ground.fetch([seen[b"big"]], batch)[b"big"]) == big
    assert batch.began_at[0] > MIB


def test_a_server_without_rest_begins_again(sandbox: FtpSandbox, ground: Ground) -> None:
    data = os.urandom(3 * MIB)
    ground.write(b"big", data, LONG_AGO)
    seen = ground.look()
    sandbox.faults["drop-after"] = 2 * MIB
    with pytest.raises(EndpointUnreachable):
        ground.fetch(seen.values())
    sandbox.faults.clear()
    sandbox.faults["no-rest"] = 1
    assert ground.holds(ground.fetch(seen.values())[b"big"]) == data


def test_a_stalled_server_ends_every_verb_in_time(sandbox: FtpSandbox, ground: Ground) -> None:
    ground.write(b"a.csv", os.urandom(3 * MIB))
    seen = ground.look()
    hurried = endpoint(sandbox, timeout_seconds=0.5)
    outgoing = [ground.outgoing(b"b.csv", os.urandom(3 * MIB))]
    with ground.spool.batch() as batch:
        for verb in ("look", "fetch", "put", "remove", "rest of fetch", "rest of put"):
            sandbox.faults.clear()
            session = patiently(hurried)
            sandbox.faults.update({"stall-after": MIB} if verb.startswith("rest") else {"slow": 2})
            calls: dict[str, Callable[[], object]] = {
                "look": lambda session=session: list(session.look(ground.folder)),
                "fetch": lambda session=session: list(session.fetch(seen.values(), batch)),
                "put": lambda session=session: list(session.put(outgoing, ground.folder)),
                "remove": lambda session=session: list(session.remove(seen.values())),
            }
            began = time.monotonic()
            with pytest.raises(EndpointUnreachable, match=r"no answer for 0\.5 s"):
                calls[verb.rpartition(" ")[2]]()
            session.close()
            assert time.monotonic() - began < 60, verb
    assert b"b.csv" not in ground.names()


@pytest.mark.parametrize("faults", [{}, {"no-mlsd": 1}], ids=["MLST", "SIZE"])
def test_what_happened_to_some_of_many_files_is_told_and_the_others_are_taken(
    faults: dict[str, float], sandbox: FtpSandbox, ground: Ground
) -> None:
    """Of many small files that were listed as plain files just now nothing is asked before they are read, only after."""
    sandbox.faults.update(faults)
    paths = [ground.write(b"%02d.csv" % number, b"12345678", LONG_AGO) for number in range(50)]
    seen = list(ground.look().values())
    paths[3].unlink()
    paths[8].write_bytes(b"123456789")
    os.utime(paths[8], (LONG_AGO.timestamp(), LONG_AGO.timestamp()))
    paths[21].write_bytes(b"87654321")
    paths[34].unlink()
    paths[34].mkdir()
    answers = ground.fetch(seen)
    assert {name: outcome for name, outcome in outcomes(answers).items() if outcome is not Outcome.DONE} == {
        b"03.csv": Outcome.VANISHED,
        b"08.csv": Outcome.CHANGED,
        b"21.csv": Outcome.CHANGED,
        b"34.csv": Outcome.NOT_A_FILE,
    }
    taken = [answer for answer in answers.values() if isinstance(answer, Fetched)]
    assert len(taken) == 46
    assert {ground.holds(answer) for answer in taken} == {b"12345678"}
    assert len(list(ground.spool.store.glob("*/*"))) == 1, "nothing of what changed may be kept"


@pytest.mark.parametrize("faults", [{}, {"no-mlsd": 1}], ids=["MLST", "SIZE"])
def test_many_files_that_are_rewritten_while_they_are_read_are_changed(
    faults: dict[str, float], sandbox: FtpSandbox, ground: Ground
) -> None:
    sandbox.faults.update(faults)
    paths = [ground.write(b"%02d.csv" % number, b"12345678", LONG_AGO) for number in range(40)]
    seen = list(ground.look().values())

    def rewrite() -> None:
        for path in paths:
            path.write_bytes(b"87654321")

    with Meddled(ground.spool, rewrite) as batch, ground.endpoint.session() as session:
        answers = {answer.file.name: answer for answer in session.fetch(seen, batch)}
    assert {ground.holds(answer) for answer in answers.values() if isinstance(answer, Fetched)} <= {b"12345678"}
    assert list(outcomes(answers).values()).count(Outcome.CHANGED) > 20


@pytest.mark.parametrize("wanted", ["prime256v1", None])
def test_data_connections_need_no_second_try_for_the_key_agreement(
    wanted: str | None, protected: FtpSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vsftpd takes one group only, which is not the first that we offer: asking again would cost a round trip at every file."""
    if wanted is not None:
        protected.faults["one-group"] = 1
        protected.stop()
        protected.start()
    groups = list[str | None]()
    start_tls = Line.start_tls

    async def seen(line: Line, *arguments: Any, **more: Any) -> None:
        await start_tls(line, *arguments, **more)
        groups.append(line.group)

    monkeypatch.setattr(Line, "start_tls", seen)
    ground = ground_at(protected, tmp_path / "spool")
    content = {b"%d.csv" % number: b"%d" % number * 1000 for number in range(10)}
    for name, data in content.items():
        ground.write(name, data)
    with (
        replace(ground, endpoint=endpoint(protected, connection_limit=1)).endpoint.session() as session,
        ground.spool.batch() as batch,
    ):
        answers = list(session.fetch(list(session.look(ground.folder)), batch))
    assert {answer.file.name: ground.holds(answer) for answer in answers} == content
    assert groups == [wanted, *[None] * 11]


# --------------------------------------------------------------------------------------------- long lines


@pytest.mark.parametrize("faults", [{}, {"no-mlsd": 1}], ids=["MLST", "SIZE"])
def test_few_answers_are_waited_for(faults: dict[str, float], sandbox: FtpSandbox, ground: Ground) -> None:
    """On a long line each of them costs more than a small file's bytes."""
    sandbox.faults.update(faults)
    took = dict[str, float]()
    with endpoint(sandbox, connection_limit=1).session() as session, ground.spool.batch() as batch:

        def turns(verb: str, answers: Iterable[object]) -> None:
            before = sandbox.turns
            assert len(list(answers)) == 10
            took[verb] = (sandbox.turns - before) / 10

        turns("put", session.put([ground.outgoing(b"%d.csv" % number, b"content") for number in range(10)], ground.folder))
        files = list(session.look(ground.folder))
        turns("fetch", session.fetch(files, batch))
        turns("rename", session.rename(Move(file, ground.folder, b"new-" + file.name) for file in files))
        turns("remove", session.remove(list(session.look(ground.folder))))
    print(faults, took)
    most = {"fetch": 3, "put": 4, "rename": 2, "remove": 2}
    assert all(took[verb] < limit + 0.5 for verb, limit in most.items()), took


# --------------------------------------------------------------------------------------------- uploads


def test_what_the_server_says_of_its_digest_is_the_proof(sandbox: FtpSandbox, ground: Ground) -> None:
    outgoing = [ground.outgoing(b"a.csv", b"content")]
    placed = ground.put(outgoing)[b"a.csv"]
    assert isinstance(placed, Placed)
    assert placed.proof is Proof.SERVER_HASH
    sandbox.faults["wrong-hash"] = 1
    missed = ground.put([ground.outgoing(b"b.csv", b"content")])[b"b.csv"]
    assert isinstance(missed, Missed)
    assert missed.outcome is Outcome.REFUSED
    sandbox.faults.clear()
    sandbox.faults["no-hash"] = 1
    placed = ground.put([ground.outgoing(b"c.csv", b"content")])[b"c.csv"]
    assert isinstance(placed, Placed)
    assert placed.proof is Proof.SIZE_ONLY
    assert ground.names() == {b"a.csv", b"c.csv"}


def test_the_sandbox_is_not_left(sandbox: FtpSandbox) -> None:
    (sandbox.root.parent / "secret").write_bytes(b"secret")
    (sandbox.root / "up").symlink_to("..")
    with endpoint(sandbox).session() as session:
        for folder in ("/up", "/..", "/../sandbox/../"):
            with suppress(EndpointError):
                assert b"secret" not in {file.name for file in session.look(folder)}


def test_the_sandbox_is_served_as_a_process_with_faults_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sandbox_process("ftp", "ftps", data=tmp_path / "served", faults={"no-hash": 1}) as services:
        for name, more in (("ftp", {"unprotected": "accepted"}), ("ftps", {"ca_file": services["ftps"]["ca_file"]})):
            told = services[name]
            monkeypatch.setenv("PARTNER_PASSWORD", told["password"])
            kind = Ftp if name == "ftp" else Ftps
            agreed = kind.model_validate(
                {"host": told["host"], "port": told["port"], "username": told["user"], "password": "env:PARTNER_PASSWORD"}
                | more
            )
            (Path(told["root"]) / "a.csv").write_bytes(b"content")
            with agreed.session() as session:
                assert [file.name for file in session.look("/")] == [b"a.csv"]
                assert session.capabilities.hashes == ()
                assert session.capabilities.fingerprint == told.get("certificate")


def test_a_server_that_repeats_our_password_does_not_get_it_into_an_error(sandbox: FtpSandbox) -> None:
    def repeat(connection: socket.socket) -> None:
        lines = connection.makefile("rwb", buffering=0)
        lines.write(b"220 welcome\r\n")
        lines.readline()
        lines.write(b"331 and the password?\r\n")
        lines.write(b"530 it is not " + lines.readline().removeprefix(b"PASS ").strip() + b"\r\n")
        lines.readline()

    agreed = endpoint(sandbox)
    with Listener(repeat) as port, pytest.raises(LoginRefused) as told:
        agreed.model_copy(update={"port": port}).session()
    assert PASSWORD not in str(told.value) and "it is not ***" in str(told.value)
