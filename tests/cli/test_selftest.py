"""``countersign selftest``: all is well on this checkout, and what is broken is told as what it is."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.endpoints.ftp import Ftp, Ftps, FtpSession
from blocks.endpoints.ftp_wire import Door
from blocks.endpoints.sftp import Sftp, SftpSession
from blocks.errors import CountersignError, EndpointBusy, EndpointFull, EndpointUnreachable, LoginRefused
from blocks.ledger import HEAD, Ledger
from blocks.settings import settings
from blocks.spool import Batch
from blocks.values import Exists, Fetched, FileKind, Missed, Outcome, Outgoing, Placed, Proof, RemoteFile, Unread
from deployments import rogue, selftest_verdicts
from deployments.rogue import Rogues
from deployments.selftest_verdicts import State
from deployments.trial_claims import (
    Told,
    arrived,
    became,
    ended_well,
    ended_with,
    hides,
    lists,
    proven_by,
    stand,
    within,
)
from deployments.trials import trials
from deployments.trying import try_all
from tests.cli.conftest import Countersign
from tests.servers import free_port

ROWS = set(range(1, 55))
NOT_AT_AN_ENDPOINT = {54}
"""Rows that no endpoint has a part in: calendars."""


# --------------------------------------------------------------------------------------------- on rogue servers


def test_everything_passes_on_this_checkout(countersign: Countersign) -> None:
    result = countersign("selftest", "--rogue", "--json")
    told = json.loads(result.stdout)
    assert [trial for trial in told["trials"] if not trial["passed"]] == []
    assert result.exit_code == 0
    assert {trial["protocol"] for trial in told["trials"]} == {"sftp", "ftp", "ftps"}
    assert told["passed"] == len(told["trials"]) == sum(len(trial.over) for trial in trials())
    assert set(told["rows"]) == ROWS - NOT_AT_AN_ENDPOINT


def test_what_there_is_to_try(countersign: Countersign) -> None:
    told = countersign("selftest", "--list")
    assert told.exit_code == 0
    assert len(told.stdout.splitlines()) == len(trials()) >= 30
    assert "disk-full\trow 41\tsftp, ftp, ftps\tThe partner's disk is full" in told.stdout
    (one,) = json.loads(countersign("selftest", "--list", "--only", "disk-full", "--json").stdout)
    assert (one["name"], one["rows"]) == ("disk-full", [41])
    assert all(trial.must and trial.over for trial in trials())


def test_a_trial_that_there_is_not(countersign: Countersign) -> None:
    told = countersign("selftest", "--rogue", "--only", "disk-ful")
    assert told.exit_code == 2
    assert "did you mean 'disk-full'?" in told.stderr


def test_without_a_checkout_it_says_what_to_do(countersign: Countersign, tmp_path: Path) -> None:
    told = countersign("selftest", "--rogue", "--checkout", str(tmp_path))
    assert told.exit_code == 2
    assert "--checkout" in told.stderr


def test_servers_that_do_not_start_say_why(countersign: Countersign, tmp_path: Path) -> None:
    (tmp_path / "tests" / "sandbox").mkdir(parents=True)
    (tmp_path / "tests" / "__init__.py").touch()
    (tmp_path / "tests" / "sandbox" / "__main__.py").write_text("raise SystemExit('No module named pyftpdlib')")
    told = countersign("selftest", "--rogue", "--checkout", str(tmp_path))
    assert told.exit_code == 2
    assert "No module named pyftpdlib" in told.stderr


# --------------------------------------------------------------------------------------------- broken on purpose


class TrustingSession(FtpSession):
    """Believes a server that says 226."""

    def fetch(self, files: Iterable[RemoteFile], into: Batch) -> Iterator[Fetched | Missed]:
        for answer in super().fetch(files, into):
            yield Fetched(answer.file, "0" * 64, answer.file.size) if isinstance(answer, Missed) else answer


class Trusting(Ftp):
    _block_type_slug = "trusting"

    def session(self) -> FtpSession:
        return TrustingSession(self)


class Gullible(Ftps):
    """Trusts any certificate."""

    _block_type_slug = "gullible"

    def door(self) -> Door:
        door = super().door()
        assert door.protection is not None
        door.protection.context.check_hostname = False
        door.protection.context.verify_mode = ssl.CERT_NONE
        return replace(door, protection=replace(door.protection, pins=frozenset()))


class OverwritingSession(SftpSession):
    def put(self, files: Sequence[Outgoing], folder: str, *, exists: Exists = Exists.REFUSE) -> Iterator[Placed | Missed]:
        return super().put(files, folder, exists=Exists.REPLACE)


class Overwriting(Sftp):
    _block_type_slug = "overwriting"

    def session(self) -> SftpSession:
        return OverwritingSession(self)


class ContentSession(FtpSession):
    """Takes a listing that breaks off for a whole one."""

    def look(self, folder: str) -> Iterator[RemoteFile]:
        try:
            yield from super().look(folder)
        except EndpointUnreachable:
            return


class Content(Ftp):
    _block_type_slug = "content"

    def session(self) -> FtpSession:
        return ContentSession(self)


class SurprisedSession(SftpSession):
    def look(self, folder: str) -> Iterator[RemoteFile]:
        raise KeyError(folder)


class Surprised(Sftp):
    _block_type_slug = "surprised"

    def session(self) -> SftpSession:
        return SurprisedSession(self)


class Patient(Sftp):
    """Waits as long as it takes."""

    _block_type_slug = "patient"

    def session(self) -> SftpSession:
        return SftpSession(self.model_copy(update={"timeout_seconds": 3600.0}))


BROKEN = {
    "believes 226": ("ftp", Trusting, "done-after-too-few-bytes", "short.csv: done, where changed was due"),
    "trusts any certificate": ("ftps", Gullible, "certificate-expired", "as if all were well instead of HostKeyChanged"),
    "trusts any changed certificate": (
        "ftps",
        Gullible,
        "certificate-changed",
        "as if all were well instead of HostKeyChanged",
    ),
    "overwrites": ("sftp", Overwriting, "name-taken", "a.csv: done, where exists was due"),
    "takes half a listing": ("ftp", Content, "listing-breaks-off", "instead of EndpointUnreachable"),
    "raises what nobody knows": ("sftp", Surprised, "twins", "a surprise: KeyError"),
    "waits for ever": ("sftp", Patient, "stalled", "it had not ended after"),
}


@pytest.fixture(scope="module")
def rogues(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rogues]:
    with Rogues(tmp_path_factory.mktemp("rogues")) as running:
        yield running


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_endpoint_fails(how: str, rogues: Rogues, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol, broken, name, told = BROKEN[how]
    monkeypatch.setitem(rogue.KINDS, protocol, broken)
    (trial,) = trials([name])
    seconds = {"longest_seconds": 5.0} if broken is Patient else {}
    (tried,) = try_all(rogues, [replace(trial, over=(protocol,))], **seconds)
    assert not tried.passed
    assert any(told in shortfall for shortfall in tried.shortfalls), tried.shortfalls


def test_a_failure_is_told_and_the_exit_code_is_1(countersign: Countersign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rogue.KINDS, "sftp", Overwriting)
    told = countersign("selftest", "--rogue", "--only", "name-taken")
    assert told.exit_code == 1
    assert "FAIL  sftp  name-taken  (row 40)" in told.stdout
    assert "must: A name that is taken at the partner is refused" in told.stdout
    assert "but:  a.csv: done, where exists was due" in told.stdout
    assert "pass  ftps  name-taken  (row 40)" in told.stdout
    assert "2 passed, 1 failed" in told.stdout


def test_the_servers_end_with_us(tmp_path: Path) -> None:
    with Rogues(tmp_path) as running:
        process = running.process
        assert process is not None
        running.servers["ftp"].misbehave({"no-login": 1})
        assert running.servers["ftp"].told["faults"] == {"no-login": 1}
    assert process.poll() is not None


# --------------------------------------------------------------------------------------------- claims

A = RemoteFile("/", b"a", 1, None)
DIGEST_OF_A = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"  # of b"a"


def told(*answers: RemoteFile | Fetched | Missed | Placed, error: CountersignError | None = None, seconds: float = 0) -> Told:
    names = [answer.name if isinstance(answer, RemoteFile) else answer.file.name for answer in answers]
    return Told(dict(zip(names, answers, strict=True)), error, Unread(), seconds)


FETCHED, CHANGED = Fetched(A, DIGEST_OF_A, 1), Missed(A, Outcome.CHANGED, "why")
PLACED = Placed(A, DIGEST_OF_A, Proof.SIZE_ONLY)
REFUSED_LOGIN = LoginRefused("no entry, hunter2")


@pytest.mark.parametrize(
    ("claim", "says"),
    [
        pytest.param(ended_well(told()), "", id="nothing happened"),
        pytest.param(ended_well(told(error=EndpointFull("full"))), "EndpointFull: full", id="an error where none was due"),
        pytest.param(
            ended_with(told(error=EndpointFull("full")), EndpointFull, "FULL", later=False), "", id="the error that was due"
        ),
        pytest.param(ended_with(told(), EndpointFull), "all were well", id="no error"),
        pytest.param(ended_with(told(error=EndpointBusy("x")), EndpointFull), "EndpointBusy", id="another error"),
        pytest.param(
            ended_with(told(error=EndpointFull("x")), EndpointFull, "452"), "'452'", id="an error that does not say so"
        ),
        pytest.param(ended_with(told(error=EndpointBusy("x")), EndpointBusy, later=False), "can help", id="later would help"),
        pytest.param(
            ended_with(told(error=EndpointFull("x")), EndpointFull, later=True), "cannot help", id="later would not help"
        ),
        pytest.param(hides(told(error=REFUSED_LOGIN), "hunter2"), "hunter2", id="a password in an error"),
        pytest.param(hides(told(error=REFUSED_LOGIN), "other"), "", id="no password in an error"),
        pytest.param(lists(told(A), [b"a"]), "", id="listed"),
        pytest.param(lists(told(A), [b"a", b"b\n"]), r"not b\x0a", id="not listed"),
        pytest.param(lists(told(A), []), "also a", id="listed besides"),
        pytest.param(lists(told(replace(A, kind=FileKind.LINK)), [b"a"]), "a as link", id="listed as a link"),
        pytest.param(became(told(CHANGED), b"a", Outcome.CHANGED), "", id="the outcome that was due"),
        pytest.param(became(told(CHANGED), b"a", Outcome.DONE), "changed (why)", id="another outcome"),
        pytest.param(became(told(FETCHED), b"a", Outcome.CHANGED), "a: done", id="done where it must not"),
        pytest.param(became(told(error=EndpointFull("x")), b"a", Outcome.DONE), "EndpointFull", id="nothing told of it"),
        pytest.param(arrived(told(FETCHED), {b"a": b"a"}), "", id="arrived"),
        pytest.param(arrived(told(FETCHED), {b"a": b"b"}), "other bytes", id="other bytes arrived"),
        pytest.param(arrived(told(CHANGED), {b"a": b"a"}), "changed", id="not arrived"),
        pytest.param(proven_by(told(PLACED), b"a", Proof.SIZE_ONLY), "", id="the proof that was due"),
        pytest.param(proven_by(told(PLACED), b"a", Proof.SERVER_HASH), "size only", id="another proof"),
        pytest.param(proven_by(told(CHANGED), b"a", Proof.SIZE_ONLY), "not placed", id="no proof"),
        pytest.param(stand({b"a": b"1"}, {b"a": b"1"}), "", id="stands"),
        pytest.param(stand({b"a": b"1"}, {b"a": b"2"}), "other bytes", id="other bytes stand"),
        pytest.param(stand({b".countersign-1": b"1"}, {}), "also .countersign-1", id="something of ours is left"),
        pytest.param(within(told(seconds=2), 3), "", id="in time"),
        pytest.param(within(told(seconds=4), 3), "4.0 s", id="too late"),
    ],
)
def test_claims(claim: str, says: str) -> None:
    assert bool(claim) == bool(says)
    assert says in claim


# --------------------------------------------------------------------------------------------- this installation

PARTNER = """\
partner:
  name: globex
  title: Globex
  endpoints:
    drop: {protocol: folder, root: /tmp}
  streams:
    orders:
      endpoint: drop
      folder: /out
      classify: [{pattern: '.*', doctype: price-list}]
      target: {repository: shelf, folder: In}
"""


def lines(result: str) -> dict[str, tuple[str, str]]:
    return {check["what"]: (check["state"], check["told"]) for check in json.loads(result)["checks"]}


@pytest.fixture
def no_prefect() -> Iterator[None]:
    with temporary_settings(set_defaults={}, updates={PREFECT_API_URL: None}):
        yield


def test_an_empty_installation_is_sound_and_says_what_is_not_there(
    countersign: Countersign, profiles: Path, no_prefect: None
) -> None:
    (profiles / "repositories.yaml").write_text("repositories:\n  shelf: {kind: folder, path: /tmp}\n")
    result = countersign("selftest", "--json")
    assert result.exit_code == 0
    states = {what: state for what, (state, _) in lines(result.stdout).items()}
    absent = dict.fromkeys(("partners", "ledger", "sender", "prefect"), "not configured")
    assert states == {**absent, **dict.fromkeys(("settings", "repositories", "spool"), "pass")}
    assert not settings().home.exists(), "something was made"
    text = countersign("selftest")
    assert "-> countersign partner new NAME" in text.stdout


def test_what_is_broken_is_told_with_what_to_do(
    countersign: Countersign, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (profiles / "globex.yaml").write_text(PARTNER.replace("endpoint: drop", "endpoint: drip"))
    (profiles / "people.yaml").write_text("people: nobody")
    settings().home.mkdir()
    settings().sender_socket.touch()
    monkeypatch.setenv("COUNTERSIGN_LEDGER_URL", f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    monkeypatch.setenv("COUNTERSIGN_SPOOL_FLOOR_BYTES", str(1 << 60))
    with temporary_settings(updates={PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        result = countersign("selftest", "--json")
    assert result.exit_code == 1
    told = lines(result.stdout)
    failing = {"partners", "repositories", "people", "ledger", "spool", "sender", "prefect"}
    assert {what for what, (state, _) in told.items() if state == "fail"} == failing
    assert "globex" in told["partners"][1]
    checks = json.loads(result.stdout)["checks"]
    assert all(check["do"] for check in checks if check["state"] == "fail")


def test_settings_that_cannot_be_read_are_told(countersign: Countersign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERSIGN_LEASE_SECONDS", "soon")
    result = countersign("selftest")
    assert result.exit_code == 1
    assert "COUNTERSIGN_LEASE_SECONDS" in result.stdout


def test_a_partner_in_order_and_a_ledger(countersign: Countersign, profiles: Path, no_prefect: None) -> None:
    (profiles / "globex.yaml").write_text(PARTNER)
    (profiles / "repositories.yaml").write_text("repositories:\n  shelf: {kind: folder, path: /tmp}\n")
    with Ledger(settings().ledger) as ledger:
        ledger.migrate()
    told = lines(countersign("selftest", "--json").stdout)
    assert told["partners"] == ("pass", f"1 in order in {profiles}: globex")
    assert told["ledger"] == ("pass", f"{settings().ledger}, schema {HEAD}")


@pytest.mark.parametrize(
    ("line", "state"),
    [
        pytest.param(selftest_verdicts.ledger("l", "0000", "0001", ""), State.FAIL, id="an older schema"),
        pytest.param(selftest_verdicts.ledger("l", "0002", "0001", ""), State.FAIL, id="a newer schema"),
        pytest.param(selftest_verdicts.spool(Path("s"), 5, 5, ""), State.PASS, id="just enough room"),
        pytest.param(selftest_verdicts.spool(Path("s"), 4, 5, ""), State.FAIL, id="too little room"),
        pytest.param(selftest_verdicts.spool(Path("s"), 9, 5, "denied"), State.FAIL, id="not writable"),
        pytest.param(selftest_verdicts.sender(Path("s"), True, "k1", "", ["a"]), State.PASS, id="a sender that answers"),
        pytest.param(selftest_verdicts.sender(Path("s"), True, "", "no", []), State.FAIL, id="a sender that does not answer"),
        pytest.param(selftest_verdicts.sender(Path("s"), False, "", "", ["a"]), State.FAIL, id="no sender, and one is needed"),
        pytest.param(selftest_verdicts.sender(Path("s"), False, "", "", []), State.ABSENT, id="no sender, and none is needed"),
        pytest.param(selftest_verdicts.prefect("u", "3.8.8", "3.8.8", ""), State.PASS, id="the same Prefect"),
        pytest.param(selftest_verdicts.prefect("u", "3.8.9", "3.8.8", ""), State.PASS, id="nearly the same Prefect"),
        pytest.param(selftest_verdicts.prefect("u", "3.9.0", "3.8.8", ""), State.FAIL, id="another Prefect"),
        pytest.param(selftest_verdicts.prefect("u", "", "3.8.8", "refused"), State.FAIL, id="no Prefect there"),
        pytest.param(selftest_verdicts.prefect(None, "", "3.8.8", ""), State.ABSENT, id="no Prefect named"),
    ],
)
def test_verdicts(line: selftest_verdicts.Line, state: State) -> None:
    assert line.state is state
    assert line.do or state is State.PASS
