"""A probe tells each server's ways as they are, also where they are unusual; and what is known of a server saves asking again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from blocks.endpoints import sftp_engine
from blocks.endpoints.connections import OneByOne
from blocks.endpoints.ftp import _lasting
from blocks.endpoints.ftp_wire import Wire
from blocks.endpoints.probing import clear, probe
from blocks.errors import EndpointError, EndpointUnreachable
from blocks.values import CaseRule, Exists, Move, Outcome, Personality
from tests.conformance.endpoints.checks import Ground
from tests.conformance.endpoints.rogues import PASSWORD, ROGUES, ground_at
from tests.sandbox.ftp import FtpSandbox
from tests.sandbox.sftp import SftpSandbox

STEM = b".countersign-probe-0123456789"


@pytest.fixture(params=["sftp", "ftp"])
def sandbox(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SftpSandbox | FtpSandbox]:
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)
    with ROGUES[request.param](tmp_path) as server:
        yield server


@pytest.fixture
def ground(sandbox: SftpSandbox | FtpSandbox, tmp_path: Path) -> Ground:
    return ground_at(sandbox, tmp_path / "spool")


@pytest.fixture
def ftp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FtpSandbox]:
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)
    with FtpSandbox(tmp_path / "sandbox", users={"partner": PASSWORD}) as server:
        yield server


def tried(ground: Ground) -> Personality:
    scratch = ground.spool.folder / "scratch"
    scratch.mkdir(exist_ok=True)
    with ground.endpoint.session() as session:
        return probe(session, ground.folder, STEM, scratch, lambda: datetime.now(UTC))


# --------------------------------------------------------------------------------------------- the truth

REFUSES = {"sftp": "no-posix-rename", "ftp": "rename-refuses-existing"}


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        pytest.param({"ignore-case": 1}, {"case_rule": CaseRule.NOT_TOLD_APART}, id="case makes no difference"),
        pytest.param({"upper-case": 1}, {"case_rule": CaseRule.CHANGED}, id="names become upper case"),
        pytest.param({"deny-long-names": 77}, {"longest_name": 77}, id="long names are refused"),
        pytest.param({"cut-long-names": 100}, {"longest_name": 100}, id="long names are cut short"),
        pytest.param({"clock-ahead": 7200}, {"clock_seconds": 7200}, id="its clock is ahead"),
        pytest.param({"clock-ahead": 0.0}, {"clock_seconds": 0}, id="its clock is right"),
        pytest.param({"rename": 1}, {"rename_replaces": False}, id="no rename over a file"),
    ],
)
def test_an_unusual_server_is_seen_as_it_is(
    sandbox: SftpSandbox | FtpSandbox, ground: Ground, faults: Mapping[str, float], expected: Mapping[str, object]
) -> None:
    kind = "sftp" if isinstance(sandbox, SftpSandbox) else "ftp"
    sandbox.faults.update({REFUSES[kind] if name == "rename" else name: value for name, value in faults.items()})
    usual = {
        "case_rule": CaseRule.TOLD_APART,
        "longest_name": 255,
        "clock_seconds": 0,
        "renames": True,
        "rename_replaces": True,
    }
    found = tried(ground)
    for trait, value in {**usual, **expected}.items():
        told = getattr(found, trait)
        assert told == value or (trait == "clock_seconds" and abs(told - int(str(value))) <= 60), (trait, told)
    assert ground.names() == set()


def test_where_nothing_may_be_written_nothing_is_claimed(sandbox: SftpSandbox | FtpSandbox, ground: Ground) -> None:
    sandbox.faults["deny-write"] = 1
    with pytest.raises(EndpointError, match="nothing can be placed there"):
        tried(ground)
    assert ground.names() == set()


def test_a_server_that_lets_nobody_rename_says_so(sandbox: SftpSandbox | FtpSandbox, ground: Ground) -> None:
    sandbox.faults["deny-rename"] = 1
    scratch = ground.spool.folder / "scratch"
    scratch.mkdir()
    with ground.endpoint.session() as session:
        with pytest.raises(EndpointError, match="nothing can be placed there"):
            probe(session, ground.folder, STEM, scratch, lambda: datetime.now(UTC))
        assert session.personality.renames is False
    assert ground.names() == set()


def test_one_name_that_is_refused_does_not_mean_that_none_may_be_given(
    sandbox: SftpSandbox | FtpSandbox, ground: Ground
) -> None:
    ground.write(b"a.csv")
    sandbox.faults["deny-rename"] = 1
    with ground.endpoint.session() as session:
        (moved,) = session.rename([Move(file, ground.folder, b"b.csv") for file in session.look(ground.folder)])
        assert moved.outcome is Outcome.REFUSED
        assert session.personality.renames is None


def test_what_cannot_be_removed_is_named_and_others_files_are_never_touched(
    sandbox: SftpSandbox | FtpSandbox, ground: Ground
) -> None:
    ours, anothers = STEM + b"a", b".countersign-probe-of another"
    ground.write(ours)
    ground.write(anothers)
    sandbox.faults["deny-delete"] = 1
    with ground.endpoint.session() as session, pytest.raises(EndpointError, match=STEM.decode() + "a could not be removed"):
        clear(session, ground.folder, STEM)
    sandbox.faults["deny-delete"] = 0
    with ground.endpoint.session() as session:
        clear(session, ground.folder, STEM)
        with pytest.raises(ValueError, match="others"):
            clear(session, ground.folder, b".countersign-")
    assert ground.names() == {anothers}


def test_a_probe_that_broke_off_is_cleared_by_its_stem(sandbox: SftpSandbox | FtpSandbox, ground: Ground) -> None:
    sandbox.faults["lost-before-rename"] = 1
    with pytest.raises(EndpointUnreachable):
        tried(ground)
    with ground.endpoint.session() as session:
        clear(session, ground.folder, STEM)
    assert ground.names() == set()


# --------------------------------------------------------------------------------------------- the saving


def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said to FTP servers from now on."""
    said: list[str] = []
    say = Wire.say

    async def heard(wire: Wire, commands: Sequence[bytes]) -> None:
        said.extend(command.decode("latin-1") for command in commands)
        await say(wire, commands)

    monkeypatch.setattr(Wire, "say", heard)
    return said


def test_what_a_server_does_not_understand_is_asked_once_in_its_life(
    ftp: FtpSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ftp.faults.update({"no-mlsd": 1, "no-epsv": 1, "dos-list": 1})
    ground = ground_at(ftp, tmp_path / "spool")
    ground.write(b"a.csv")
    said = commands(monkeypatch)
    with ground.endpoint.session() as session:
        seen = list(session.look(ground.folder))
        first = session.personality
    assert (first.listing, first.list_form, first.extended_passive) == ("LIST", "DOS", False)
    assert {"EPSV", "LIST -a", "LIST"} <= set(said)
    said.clear()
    with ground.endpoint.session() as session:
        session.recall(first)
        assert list(session.look(ground.folder)) == seen
        assert session.personality == first
    assert "LIST" in said and not {"EPSV", "LIST -a"} & set(said)


def test_a_server_that_says_other_things_of_itself_is_asked_anew(
    ftp: FtpSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ftp.faults.update({"no-mlsd": 1, "no-epsv": 1, "dos-list": 1})
    ground = ground_at(ftp, tmp_path / "spool")
    with ground.endpoint.session() as session:
        list(session.look(ground.folder))
        first = session.personality
    ftp.faults.clear()
    with ground.endpoint.session() as session:
        session.recall(first)
        list(session.look(ground.folder))
        assert (session.personality.listing, session.personality.extended_passive) == ("MLSD", True)


def test_an_empty_folder_does_not_tell_how_its_lines_are_written(ftp: FtpSandbox, tmp_path: Path) -> None:
    ftp.faults.update({"no-mlsd": 1, "mvs-list": 1})
    ground = ground_at(ftp, tmp_path / "spool")
    for name, listing in ((b"", None), (b"a.csv", "NLST")):
        if name:
            ground.write(name)
        with ground.endpoint.session() as session:
            assert {file.name for file in session.look(ground.folder)} == ({name} if name else set())
            assert session.personality.listing in ((listing,) if listing is None else (listing, f"{listing} -a"))


def test_a_server_that_loses_questions_is_known_before_we_connect(
    ftp: FtpSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ftp.faults["one-question"] = 1
    ground = ground_at(ftp, tmp_path / "spool", timeout_seconds=2)
    ground.write(b"a.csv")
    at_once: list[int] = []
    say = Wire.say

    async def heard(wire: Wire, commands: Sequence[bytes]) -> None:
        at_once.append(len(commands))
        await say(wire, commands)

    monkeypatch.setattr(Wire, "say", heard)

    def visit(known: Personality) -> Personality:
        monkeypatch.setattr(Wire, "careful", OneByOne())  # as in another process
        at_once.clear()
        ground.endpoint.expect(known)
        with ground.endpoint.session() as session:
            assert {file.name for file in session.look(ground.folder)} == {b"a.csv"}
            return session.personality

    known = visit(Personality())
    assert known.one_by_one and max(at_once) > 1
    again = visit(known)
    assert again.one_by_one is None and max(at_once) == 1, "nothing was lost, and nobody waited for it"
    ground.endpoint.expect(Personality(one_by_one=False))  # somebody found out that it bears more now
    ftp.faults.clear()
    at_once.clear()
    with ground.endpoint.session() as session:
        found = probe(session, ground.folder, STEM, tmp_path, lambda: datetime.now(UTC))
    assert found.one_by_one is False and max(at_once) > 1


def test_a_rename_that_is_known_to_be_refused_is_not_tried(
    sandbox: SftpSandbox | FtpSandbox, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.faults[REFUSES["sftp" if isinstance(sandbox, SftpSandbox) else "ftp"]] = 1
    said, rename = commands(monkeypatch), sftp_engine.rename

    def heard(old: bytes, new: bytes) -> sftp_engine.Request:
        said.append("RNTO in SFTP")
        return rename(old, new)

    # Overheard, not replaced.
    monkeypatch.setattr(sftp_engine, "rename", heard)
    counts, known = [], Personality()
    for _ in range(2):
        ground.write(b"a.csv", b"ours")
        ground.write(b"b.csv", b"theirs")
        said.clear()
        with ground.endpoint.session() as session:
            session.recall(known)
            file = {file.name: file for file in session.look(ground.folder)}[b"a.csv"]
            (moved,) = session.rename([Move(file, ground.folder, b"b.csv")], exists=Exists.REPLACE)
            assert moved.outcome is Outcome.DONE
            known = session.personality
        assert known.rename_replaces is False
        assert ground.names() == {b"b.csv"}
        assert (ground.place / "b.csv").read_bytes() == b"ours"
        counts.append(sum(command.startswith("RNTO") for command in said))
    assert counts == [3, 2]


# --------------------------------------------------------------------------------------------- greetings


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("You are user number 1 of 50 allowed.", "You are user number 23 of 50 allowed."),
        ("Local time is now 15:40. Server port: 21.", "Local time is now 09:07. Server port: 21."),
        ("ftp ready at Sat Nov 21 14:05:11 UTC 2026", "ftp ready at Mon Dec  1 01:00:00 UTC 2026"),
    ],
)
def test_a_greeting_is_the_same_at_every_hour(one: str, another: str) -> None:
    squeezed = [re.sub(r"\s+", " ", _lasting(f"Welcome to Pure-FTPd 1.0 / {line}")) for line in (one, another)]
    assert squeezed[0] == squeezed[1]
    assert squeezed[0].startswith("Welcome to Pure-FTPd 1.0 / ")


def test_another_version_is_another_greeting() -> None:
    assert _lasting("(vsFTPd 3.0.3)") != _lasting("(vsFTPd 3.0.5)")
