"""What the servers of all protocols may do wrong alike, and what must then be true over each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.endpoints import ftp_wire, sftp_engine
from blocks.errors import EndpointFull, EndpointUnreachable, EndpointUnsuitable, LoginRefused
from blocks.values import CaseRule, Exists, Fetched, Missed, Move, Outcome, Placed
from tests.conformance.endpoints.checks import MIB, Ground
from tests.conformance.endpoints.rogues import PASSWORD, ROGUES, endpoint, ground_at
from tests.sandbox import ftp, sftp
from tests.sandbox.control import answers
from tests.sandbox.ftp import FtpSandbox
from tests.sandbox.partner import ODD_NAMES
from tests.sandbox.sftp import SftpSandbox


@pytest.fixture(params=[*ROGUES, "stock sftp"])
def sandbox(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SftpSandbox | FtpSandbox]:
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)
    with ROGUES[request.param.removeprefix("stock ")](tmp_path) as server:
        yield server


@pytest.fixture
def ground(request: pytest.FixtureRequest, sandbox: SftpSandbox | FtpSandbox, tmp_path: Path) -> Ground:
    stock = {"engine": "stock"} if request.node.callspec.params["sandbox"] == "stock sftp" else {}
    return ground_at(sandbox, tmp_path / "spool", **stock)


@pytest.mark.parametrize("faults", [ftp.FAULTS, sftp.FAULTS], ids=["ftp", "sftp"])
def test_every_fault_of_the_sandbox_is_described(faults: dict[str, str]) -> None:
    assert all(faults.values())


def test_a_wrong_password_is_refused_without_showing_it(
    sandbox: SftpSandbox | FtpSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTNER_PASSWORD", "hunter2")
    with pytest.raises(LoginRefused) as caught:
        endpoint(sandbox).session()
    assert "hunter2" not in str(caught.value)
    assert not caught.value.worth_retrying


def test_a_listing_with_impossible_names_tells_them_and_goes_on(sandbox: SftpSandbox | FtpSandbox, ground: Ground) -> None:
    ground.write(b"a.csv")
    sandbox.faults["odd-names"] = 1
    seen = ground.look()
    assert set(seen) == {b"a.csv", *ODD_NAMES}
    answers = ground.fetch(seen.values())
    assert [name for name, answer in answers.items() if isinstance(answer, Fetched)] == [b"a.csv"]
    outcomes = {name: answer.outcome for name, answer in answers.items() if isinstance(answer, Missed)}
    assert outcomes.pop(b"..\\odd.csv") is Outcome.VANISHED, "a name like any other to these servers"
    assert set(outcomes.values()) == {Outcome.ILLEGAL_NAME}


def test_a_dropped_upload_leaves_nothing_behind(sandbox: SftpSandbox | FtpSandbox, ground: Ground) -> None:
    sandbox.faults["drop-after"] = 2 * MIB
    with pytest.raises(EndpointUnreachable):
        ground.put([ground.outgoing(b"big", os.urandom(5 * MIB))])
    assert ground.names() == set(), "not even a temporary file, as the server could be reached again"


def test_a_lost_answer_to_a_rename_is_settled_by_looking(sandbox: SftpSandbox | FtpSandbox, ground: Ground) -> None:
    sandbox.faults["lost-rename"] = 1
    told = []
    with ground.endpoint.session() as session, pytest.raises(EndpointUnreachable):
        for answer in session.put([ground.outgoing(b"a.csv", b"content")], ground.folder):
            told.append(answer)
    assert [type(answer) for answer in told] == [Placed]
    assert ground.names() == {b"a.csv"}


def test_a_rename_that_was_not_done_leaves_nothing(sandbox: SftpSandbox | FtpSandbox, ground: Ground) -> None:
    sandbox.faults["lost-before-rename"] = 1
    told = []
    with ground.endpoint.session() as session:
        with pytest.raises(EndpointUnreachable):
            for answer in session.put([ground.outgoing(b"a.csv", b"content")], ground.folder):
                told.append(answer)
        assert told == []
        assert ground.names() == set()
        (placed,) = session.put([ground.outgoing(b"a.csv", b"content")], ground.folder)
        assert isinstance(placed, Placed), "the session goes on with the connection it made to look"


def test_a_lost_answer_that_looking_cannot_settle_is_unknown(sandbox: SftpSandbox | FtpSandbox, ground: Ground) -> None:
    told = []
    with ground.endpoint.session() as session:
        sandbox.faults.update({"lost-rename": 1, "no-login": 1})  # nobody gets in to look
        with pytest.raises(EndpointUnreachable):
            for answer in session.put([ground.outgoing(b"a.csv", b"content")], ground.folder):
                told.append(answer)
    assert [answer.outcome for answer in told if isinstance(answer, Missed)] == [Outcome.UNKNOWN]
    assert len(told) == 1


def test_a_full_server_is_an_error_of_its_own_and_nothing_is_left(sandbox: SftpSandbox | FtpSandbox, ground: Ground) -> None:
    sandbox.faults["full"] = MIB
    with pytest.raises(EndpointFull, match="452" if isinstance(sandbox, FtpSandbox) else "no space left"):
        ground.put([ground.outgoing(b"a.csv", os.urandom(5 * MIB))])
    assert ground.names() == set()
    sandbox.faults.clear()
    assert isinstance(ground.put([ground.outgoing(b"a.csv", b"content")])[b"a.csv"], Placed)


def test_what_the_server_does_not_let_us_do_is_refused(sandbox: SftpSandbox | FtpSandbox, ground: Ground) -> None:
    ground.write(b"a.csv")
    (file,) = ground.look().values()
    with ground.endpoint.session() as session:
        sandbox.faults.update({"deny-delete": 1, "deny-write": 1})
        (gone,) = session.remove([file])
        assert gone.outcome is Outcome.REFUSED
        (placed,) = session.put([ground.outgoing(b"b.csv", b"content")], ground.folder)
        assert isinstance(placed, Missed)
        assert placed.outcome is Outcome.REFUSED
        sandbox.faults.clear()
        sandbox.faults["deny-rename"] = 1
        (placed,) = session.put([ground.outgoing(b"b.csv", b"content")], ground.folder)
        assert isinstance(placed, Missed)
        assert placed.outcome is Outcome.REFUSED
    assert ground.names() == {b"a.csv"}


def test_a_server_that_does_not_rename_over_a_file_replaces_in_two_steps(
    sandbox: SftpSandbox | FtpSandbox, ground: Ground
) -> None:
    sandbox.faults["no-posix-rename" if isinstance(sandbox, SftpSandbox) else "rename-refuses-existing"] = 1
    ground.write(b"a.csv", b"theirs")
    outgoing = [ground.outgoing(b"a.csv", b"ours")]
    refused = ground.put(outgoing)[b"a.csv"]
    assert isinstance(refused, Missed)
    assert refused.outcome is Outcome.EXISTS
    assert isinstance(ground.put(outgoing, Exists.REPLACE)[b"a.csv"], Placed)
    assert (ground.place / "a.csv").read_bytes() == b"ours"
    assert ground.names() == {b"a.csv"}


def test_a_file_that_was_set_aside_and_cannot_be_put_back_is_told_by_its_name(
    sandbox: SftpSandbox | FtpSandbox, ground: Ground
) -> None:
    sandbox.faults["no-posix-rename" if isinstance(sandbox, SftpSandbox) else "rename-refuses-existing"] = 1
    sandbox.faults["renames-left"] = 2  # theirs is set aside, and nothing is renamed after that
    ground.write(b"a.csv", b"theirs")
    refused = ground.put([ground.outgoing(b"a.csv", b"ours")], Exists.REPLACE)[b"a.csv"]
    assert isinstance(refused, Missed) and refused.outcome is Outcome.REFUSED
    (aside,) = ground.names()
    assert (ground.place / os.fsdecode(aside)).read_bytes() == b"theirs"
    assert f"stands under {os.fsdecode(aside)} now and could not be put back" in refused.reason


def test_half_a_file_that_cannot_be_removed_from_under_its_final_name_is_told(
    sandbox: SftpSandbox | FtpSandbox, ground: Ground
) -> None:
    agreed = replace(ground, endpoint=ground.endpoint.model_copy(update={"direct_write": "accepted"}))
    sandbox.faults["deny-delete"] = 1
    ours = replace(
        ground.outgoing(b"a.csv", b"ours"), digest="0" * 64
    )  # it turns out only at the end that these are not the bytes
    missed = agreed.put([ours])[b"a.csv"]
    assert isinstance(missed, Missed) and missed.outcome is Outcome.CHANGED
    assert "stands under its final name and could not be removed" in missed.reason
    assert ground.names() == {b"a.csv"}
    again = agreed.put([ours])[b"a.csv"]
    assert isinstance(again, Missed) and again.outcome is Outcome.EXISTS, "it is found again, and not taken for free"


def test_a_final_name_that_ends_like_a_part_of_ours_is_no_temporary_name(
    sandbox: SftpSandbox | FtpSandbox, ground: Ground
) -> None:
    agreed = replace(ground, endpoint=ground.endpoint.model_copy(update={"direct_write": "accepted"}))
    sandbox.faults["drop-after"] = 2 * MIB
    with pytest.raises(EndpointUnreachable):
        agreed.put([ground.outgoing(b"a.csv.part", os.urandom(5 * MIB))])
    assert ground.names() == set(), "nobody would go on with it, so it must not stay under its final name"


def test_a_server_that_changes_the_case_of_names_is_known_by_our_own_names(
    sandbox: SftpSandbox | FtpSandbox, ground: Ground
) -> None:
    sandbox.faults["upper-case"] = 1
    hidden = b".countersign-" + b"0a" * 16
    with ground.endpoint.session() as session:
        (placed,) = session.put([ground.outgoing(hidden, b"ours")], ground.folder)
        assert isinstance(placed, Placed)
        assert session.personality.case_rule is None
        assert [file.name for file in session.look(ground.folder)] == [hidden.upper()]
        assert session.personality.case_rule is CaseRule.CHANGED
        moves = [Move(placed.file, ground.folder, name) for name in (b"a.csv", b"A.CSV")]
        refused, done = (next(iter(session.rename([move]))) for move in moves)
    assert refused.outcome is Outcome.ILLEGAL_NAME and "it would stand there as A.CSV" in refused.reason
    assert done.outcome is Outcome.DONE
    assert ground.names() == {b"A.CSV"}


def test_a_listing_without_an_end_is_broken_off(
    sandbox: SftpSandbox | FtpSandbox, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        ground.write(b"%02d.csv" % number)
    # Not two million entries, nor 256 MiB of a listing.
    monkeypatch.setattr(sftp_engine, "MOST_ENTRIES", 40)
    monkeypatch.setattr(ftp_wire, "LONGEST_LISTING", 1000)
    with pytest.raises(EndpointUnsuitable, match="a listing that has no end"):
        ground.look()
    monkeypatch.undo()
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)
    assert len(ground.look()) == 50


def test_lines_change_the_faults_of_a_running_server(sandbox: SftpSandbox | FtpSandbox) -> None:
    before = dict(sandbox.trust)
    shown_anew = "new-host-key" if isinstance(sandbox, SftpSandbox) else "new-certificate"

    def answer(line: str) -> dict[str, object]:
        (told,) = answers([line.encode()], {"it": sandbox})
        return json.loads(told)

    assert answer('{"service": "it", "faults": {"no-login": 1, "full": "7"}}')["faults"] == {"no-login": 1, "full": 7}
    with pytest.raises(LoginRefused):
        endpoint(sandbox).session()
    for wrong in ('{"service": "other"}', '{"service": "it", "faults": {"fool": 1}}', '{"service": "it", "fault": {}}', "no"):
        assert set(answer(wrong)) == {"error"}
    assert answer('{"service": "it"}')["faults"] == {"no-login": 1, "full": 7}, "what is wrong changes nothing"
    told = answer(f'{{"service": "it", "faults": {{"{shown_anew}": 1}}, "restart": true}}')
    assert {name: told[name] for name in before} == dict(sandbox.trust)
    assert not before or dict(sandbox.trust) != before
    logins = told["logins"]
    endpoint(sandbox).session().close()
    assert answer('{"service": "it", "faults": {}}')["logins"] == int(str(logins)) + 1
