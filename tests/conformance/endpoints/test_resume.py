"""After a break: what came is not sent again, and nothing is gone on with that was not compared."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.errors import EndpointFull, EndpointUnreachable
from blocks.values import Exists, Missed, Outcome, Placed, RemoteFile
from tests.conformance.endpoints.checks import HALF, LONG_AGO, MIB, Ground
from tests.conformance.endpoints.conftest import Shores, ground_on
from tests.conformance.endpoints.rogues import PASSWORD, USERS, ground_at
from tests.sandbox.ftp import FtpSandbox
from tests.sandbox.sftp import SftpSandbox

PART = HALF + b".part"


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[FtpSandbox]:
    with FtpSandbox(tmp_path / "sandbox", users=USERS) as server:
        yield server


@pytest.fixture
def ground(sandbox: FtpSandbox, tmp_path: Path) -> Ground:
    return ground_at(sandbox, tmp_path / "spool")


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[SftpSandbox]:
    with SftpSandbox(tmp_path / "sftp", users=USERS) as server:
        yield server


@pytest.fixture
def calm(sftp: SftpSandbox, tmp_path: Path) -> Ground:
    return ground_at(sftp, tmp_path / "spool")


# --------------------------------------------------------------------------------------------- downloads


def _dropped(sandbox: FtpSandbox, ground: Ground, whole: bytes) -> dict[bytes, RemoteFile]:
    """The listing of a folder with one file, of which a fetch has brought three of five MiB."""
    ground.write(b"big", whole, LONG_AGO)
    seen = ground.look()
    sandbox.faults["drop-after"] = 3 * MIB
    with pytest.raises(EndpointUnreachable):
        ground.fetch(seen.values())
    return seen


@pytest.mark.parametrize("fault", ["", "no-hash", "whole-hash"])
def test_what_was_brought_is_not_brought_again(fault: str, sandbox: FtpSandbox, ground: Ground) -> None:
    whole = os.urandom(5 * MIB)
    seen = _dropped(sandbox, ground, whole)
    if fault:
        sandbox.faults[fault] = 1
    # The connection still breaks after three of five MiB: only what goes on can come to the end.
    assert ground.holds(ground.fetch(seen.values())[b"big"]) == whole


def test_one_other_byte_is_noticed_where_the_server_tells_digests_of_ranges(sandbox: FtpSandbox, ground: Ground) -> None:
    whole = bytearray(os.urandom(5 * MIB))
    seen = _dropped(sandbox, ground, bytes(whole))
    whole[MIB] ^= 1
    ground.write(b"big", bytes(whole), LONG_AGO)
    sandbox.faults.clear()
    assert ground.holds(ground.fetch(seen.values())[b"big"]) == whole


@pytest.mark.parametrize("where", ["first", "last"])
def test_other_bytes_at_the_start_or_at_the_break_are_noticed_anywhere(where: str, sandbox: FtpSandbox, ground: Ground) -> None:
    whole = bytearray(os.urandom(5 * MIB))
    seen = _dropped(sandbox, ground, bytes(whole))
    (kept,) = ground.spool.partial.iterdir()
    whole[0 if where == "first" else kept.stat().st_size - 1] ^= 1
    ground.write(b"big", bytes(whole), LONG_AGO)
    sandbox.faults.clear()
    sandbox.faults["no-hash"] = 1
    assert ground.holds(ground.fetch(seen.values())[b"big"]) == whole


# --------------------------------------------------------------------------------------------- uploads


@pytest.mark.parametrize(
    ("faults", "anew"),
    [
        ([], False),
        (["no-hash"], False),
        (["no-restart"], False),
        (["no-rest"], False),
        (["no-append"], False),
        (["no-restart", "no-append"], True),
        (["no-rest", "no-hash"], True),
        (["deny-read", "no-hash"], True),
        (["restart-anywhere"], True),
    ],
    ids=lambda value: " ".join(value) or "none" if isinstance(value, list) else "anew" if value else "goes on",
)
def test_a_dropped_upload_goes_on_where_the_server_lets_us(
    faults: list[str], anew: bool, sandbox: FtpSandbox, ground: Ground
) -> None:
    whole = os.urandom(5 * MIB)
    outgoing = [ground.outgoing(HALF, whole)]
    sandbox.faults["drop-after"] = 3 * MIB
    with pytest.raises(EndpointUnreachable):
        ground.put(outgoing)
    assert ground.names() == {PART}, "it is not there for the next attempt"
    sandbox.faults.update(dict.fromkeys(faults, 1))
    if anew:
        with pytest.raises(EndpointUnreachable):
            ground.put(outgoing)
        sandbox.faults["drop-after"] = 0
    # The connection still breaks after three of five MiB, unless all must be sent anew: only what goes on can come to the end.
    placed = ground.put(outgoing)[HALF]
    assert isinstance(placed, Placed), placed
    assert (ground.place / os.fsdecode(HALF)).read_bytes() == whole
    assert ground.names() == {HALF}


def test_a_server_that_lets_nobody_write_on_is_sent_all_anew(shores: Shores, tmp_path: Path) -> None:
    """proftpd's own default."""
    ground = ground_on(shores["ftps on proftpd"], tmp_path / "spool")
    (ground.place / ".ftpaccess").write_text("AllowStoreRestart off\n")
    whole = os.urandom(5 * MIB)
    ground.write(PART, whole[: 3 * MIB]).chmod(0o666)
    assert isinstance(ground.put([ground.outgoing(HALF, whole)])[HALF], Placed)
    assert (ground.place / os.fsdecode(HALF)).read_bytes() == whole


def test_a_dropped_upload_by_sftp_goes_on(tmp_path: Path) -> None:
    whole = os.urandom(16 * MIB)
    with SftpSandbox(tmp_path / "sandbox", users=USERS) as server:
        ground = ground_at(server, tmp_path / "spool")
        outgoing = [ground.outgoing(HALF, whole)]
        server.faults["drop-after"] = 12 * MIB
        with pytest.raises(EndpointUnreachable):
            ground.put(outgoing)
        assert ground.names() == {PART}, "it is not there for the next attempt"
        # The connection still breaks after twelve of sixteen MiB: only what goes on can come to the end.
        placed = ground.put(outgoing)[HALF]
        assert isinstance(placed, Placed), placed
        assert (ground.place / os.fsdecode(HALF)).read_bytes() == whole
        assert ground.names() == {HALF}


@pytest.mark.parametrize("fault", ["", "reorder", "no-posix-rename", "no-kinds", "upper-case"])
def test_a_small_file_is_written_at_once_under_a_name_that_its_sender_wrote_down(
    fault: str, sftp: SftpSandbox, calm: Ground
) -> None:
    """Once the server has shown that it lets us rename; where something has the name, the long way decides as it always does."""
    taken, link, theirs = (HALF + word for word in (b"-taken", b"-link", b"-theirs"))
    calm.write(taken, b"whatever stands there")
    calm.write(theirs, b"somebody else's")
    (calm.place / os.fsdecode(link)).symlink_to(os.fsdecode(theirs))
    wrong = calm.outgoing(HALF + b"-wrong", b"right")
    wrong.source.write_bytes(b"WRONG")
    if fault:
        sftp.faults[fault] = 1
    with calm.endpoint.session() as session:
        (first,) = session.put([calm.outgoing(HALF + b"-first", b"first")], calm.folder)
        (second, empty) = session.put(
            [calm.outgoing(HALF + word, data) for word, data in ((b"2", b"2"), (b"0", b""))], calm.folder
        )
        assert [[reply.split()[0] for reply in one.replies] for one in (first, second, empty) if isinstance(one, Placed)] == [
            ["CLOSE:", "RENAME:"],
            ["CLOSE:"],
            ["CLOSE:"],
        ]
        if fault == "upper-case":
            return
        some = [calm.outgoing(taken, b"ours"), calm.outgoing(link, b"ours"), wrong]
        refused = {one.file.name: one for one in session.put(some, calm.folder)}
        assert {name: one.outcome for name, one in refused.items() if isinstance(one, Missed)} == {
            taken: Outcome.EXISTS,
            link: Outcome.EXISTS,
            wrong.name: Outcome.CHANGED,
        }
        (replaced,) = session.put(some[:1], calm.folder, exists=Exists.REPLACE)
        assert isinstance(replaced, Placed), replaced
    held = {name.removeprefix(HALF): (calm.place / os.fsdecode(name)).read_bytes() for name in calm.names()}
    same = {b"-first": b"first", b"2": b"2", b"0": b"", b"-theirs": b"somebody else's"}
    assert held == same | {b"-taken": b"ours", b"-link": b"somebody else's"}
    assert (calm.place / os.fsdecode(link)).is_symlink()


@pytest.mark.parametrize("fault", ["full", "full-when-closed", "drop-after"])
def test_what_a_small_file_left_that_broke_off_is_cleared_away(fault: str, sftp: SftpSandbox, calm: Ground) -> None:
    with calm.endpoint.session() as session:
        (first,) = session.put([calm.outgoing(HALF + b"-first", b"f")], calm.folder)
        sftp.faults[fault] = 2
        with pytest.raises((EndpointFull, EndpointUnreachable)):
            list(session.put([calm.outgoing(HALF, b"x" * 4096)], calm.folder))
        sftp.faults.clear()
        assert calm.names() == {first.file.name}
        (placed,) = session.put([calm.outgoing(HALF, b"x" * 4096)], calm.folder)
    assert isinstance(placed, Placed)
    assert (calm.place / os.fsdecode(HALF)).read_bytes() == b"x" * 4096


def test_a_hole_that_writes_in_another_order_left_is_filled(shores: Shores, tmp_path: Path) -> None:
    """SFTP has many writes under way, and a server may do them in any order: what broke off may lack some before its end."""
    ground = ground_on(shores["sftp on OpenSSH"], tmp_path / "spool")
    whole = os.urandom(20 * MIB)
    half = bytearray(whole[: 12 * MIB])
    half[9 * MIB : 10 * MIB] = bytes(MIB)
    ground.write(PART, bytes(half)).chmod(0o666)
    assert isinstance(ground.put([ground.outgoing(HALF, whole)])[HALF], Placed)
    assert (ground.place / os.fsdecode(HALF)).read_bytes() == whole


def test_what_nobody_will_look_for_again_is_cleared_away(sandbox: FtpSandbox, ground: Ground) -> None:
    sandbox.faults["drop-after"] = 3 * MIB
    with pytest.raises(EndpointUnreachable):
        ground.put([ground.outgoing(b"big.csv", os.urandom(5 * MIB))])
    assert ground.names() == set()
