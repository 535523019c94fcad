"""A case has an owner, a due time, a state and a history, and all of it is what the ledger tells."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableCreate
from prefect.logging import disable_run_logger
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from typer.testing import CliRunner

from blocks.errors import ConfigurationError, CountersignError, JourneyMoved, LedgerUnreachable, OutcomeUnknown
from blocks.ledger import CaseState, Entry
from blocks.profile import load_repositories
from blocks.repositories.folder import FolderSession
from blocks.values import Filed, Filing, NotFiled
from deployments.cli import app
from tasks import cases, connections, retry
from tasks.agreed import load_stream
from tasks.ask_about import Review, ask_about
from tasks.clean_up import collect_spool
from tasks.consignment import Consignment
from tasks.correct import Correction, correct, corrections, unfit
from tasks.rules.case_form import Decision
from tasks.tell_cases import tell_cases
from tests.ledger.full import no_room_for
from tests.servers.listener import Listener
from tests.tasks.asked import Asked
from tests.tasks.dock import STEPS, Dock, price_list
from tests.world import review_deployed

BAD = price_list().replace(b"1.50", b"one")


@pytest.fixture
def dock(dock: Dock) -> Dock:
    people = [
        {"id": "anna", "name": "Anna Berg", "mail": "anna@example.com", "groups": ["pricing"]},
        {"id": "ben", "name": "Ben Ortiz", "mail": "ben@example.com", "groups": ["pricing", "ops"]},
    ]
    (dock.profiles / "people.yaml").write_text(yaml.safe_dump({"people": people}))
    dock.agree(owner="pricing", resolve_within="PT4H")
    return dock


def refused(dock: Dock, name: str = "prices.csv", content: bytes = BAD) -> str:
    """A case."""
    dock.leave(name, content)
    assert list(dock.run().values()) == ["quarantined"]
    return dock.cases()[0].journey


def test_a_case_is_its_streams_due_when_agreed_and_lives_in_the_ledger(dock: Dock) -> None:
    journey = refused(dock)
    case = cases.find_case(journey)
    assert (case.owner, case.state) == ("pricing", CaseState.NEW)
    assert case.due is not None and timedelta(hours=3) < case.due - case.opened <= timedelta(hours=4)
    cases.remark(journey, "called them", "anna")
    cases.assign(journey, "ben", "knows them", "anna")
    assert (cases.find_case(journey).owner, cases.find_case(journey).state) == ("ben", CaseState.ASSIGNED)
    cases.wait_for_partner(journey, "", "ben")
    assert cases.find_case(journey).state is CaseState.WAITING
    retry.reject(journey, "given up", "ben")
    told = [(one.what, one.state, one.by, one.said) for one in cases.moments(dock.ledger.journey(journey))]
    assert told[0][:3] == ("quarantined", "new", "") and told[0][3]
    assert told[1:] == [
        ("commented", "", "anna", "called them"),
        ("assigned", "assigned", "anna", "to ben: knows them"),
        ("returned", "waiting for partner", "ben", ""),
        ("rejected", "resolved", "ben", "given up"),
    ]
    dock.ledger.verify()


def test_who_is_not_in_people_yaml_gets_no_case_and_a_case_that_is_over_takes_no_more(dock: Dock) -> None:
    journey = refused(dock)
    before = dock.ledger.journey(journey)
    for wrong in (
        lambda: cases.assign(journey, "nobody", "", "anna"),
        lambda: cases.remark(journey, "  ", "anna"),
        lambda: cases.remark(journey, "x" * 2001, "anna"),
        lambda: cases.remark("no-such", "hello", "anna"),
    ):
        with pytest.raises(ConfigurationError):
            wrong()
    assert dock.ledger.journey(journey) == before
    retry.reject(journey, "given up", "ben")
    with pytest.raises(ConfigurationError, match="resolved already"):
        cases.assign(journey, "anna", "", "ben")
    assert cases.find_case(journey).state is CaseState.RESOLVED


def test_what_was_decided_from_a_history_that_has_grown_is_not_written(dock: Dock) -> None:
    journey = refused(dock)
    read = dock.ledger.journey(journey)
    dock.ledger.append([Entry(journey, "commented")])
    with pytest.raises(JourneyMoved):
        dock.ledger.append([Entry(journey, "assigned")], behind=len(read))
    assert dock.ledger.append([Entry(journey, "assigned")], behind=len(read) + 1)[0].fresh


def test_another_try_that_fails_leaves_the_case_with_whom_it_was_given_to(dock: Dock) -> None:
    journey = refused(dock)
    due = cases.find_case(journey).due
    cases.assign(journey, "anna", "", "ben")
    dock.retry(journey)
    case = cases.find_case(journey)
    assert (case.owner, case.state, case.due) == ("anna", CaseState.ASSIGNED, due)
    retry.reject(journey, "no", "anna")
    dock.retry(journey, "after all")
    case = cases.find_case(journey)
    assert (case.owner, case.state) == ("pricing", CaseState.NEW), "opened anew"
    assert [one.kind for one in cases.openings(dock.ledger.journey(journey))] == ["quarantined", "quarantined"]


def test_the_command_line_tells_whose_a_case_is_and_what_was_done(dock: Dock) -> None:
    journey = refused(dock)

    def command(*words: str) -> str:
        ran = CliRunner(env={"COLUMNS": "250"}).invoke(app, ["quarantine", *words])
        assert ran.exit_code == 0, ran.output
        return ran.output

    command("comment", journey, "called them")
    command("assign", journey, "--to", "ben")
    assert "ben" in command("list") and "assigned" in command("list")
    told = json.loads(command("show", journey))
    assert (told["case"]["owner"], told["case"]["state"]) == ("ben", "assigned")
    assert [one["what"] for one in told["history"]] == ["quarantined", "commented", "assigned"]
    assert told["findings"] and told["bytes"]


@pytest.mark.parametrize(("stream", "partner", "owner"), [("", "", "ops"), ("", "edi", "edi"), ("pricing", "edi", "pricing")])
def test_who_has_a_case_that_nobody_was_named_for(dock: Dock, stream: str, partner: str, owner: str) -> None:
    dock.agree(owner=stream)
    profile = yaml.safe_load((dock.profiles / "acme.yaml").read_text())
    profile["partner"]["owner"] = partner
    (dock.profiles / "acme.yaml").write_text(yaml.safe_dump(profile))
    assert cases.find_case(refused(dock)).owner == owner


def opened_events(dock: Dock) -> list[tuple[str, str]]:
    return [(one["journey"], one["owner"]) for one in dock.told if one["event"] == "countersign.case.opened"]


def test_a_case_is_told_once_whoever_runs_and_however_often(dock: Dock) -> None:
    journey = refused(dock)
    assert tell_cases.fn("acme", "prices") == 1
    cases.assign(journey, "anna", "", "ben")
    dock.retry(journey)
    assert tell_cases.fn() == 0 and dock.run() == {} and tell_cases.fn("acme", "prices") == 0
    assert opened_events(dock) == [(journey, "pricing")]
    retry.reject(journey, "given up", "ben")
    dock.retry(journey, "after all")
    assert tell_cases.fn() == 1 and tell_cases.fn() == 0, "opened anew, and refused again"
    assert opened_events(dock) == [(journey, "pricing")] * 2


def test_who_breaks_off_between_telling_and_writing_so_down_tells_it_under_the_same_id(dock: Dock) -> None:
    journey = refused(dock)
    with no_room_for(dock.ledger, "case told"), pytest.raises(LedgerUnreachable):
        tell_cases.fn()
    assert tell_cases.fn() == 1 and tell_cases.fn() == 0
    dock.ledger.append([Entry(journey, "resolved", {"case": {"state": "resolved"}})])
    dock.ledger.append([Entry(journey, "incident", {"case": {"code": "late", "state": "new"}})])
    assert tell_cases.fn() == 1
    first, again, anew = (one["id"] for one in dock.told if one["event"] == "countersign.case.opened")
    assert first == again, "Prefect takes two events of one id as one"
    assert anew != first, "opened anew, it is another"


def test_while_somebody_else_tells_nobody_does_it_twice(dock: Dock) -> None:
    refused(dock)
    lease = dock.ledger.lease(["cases"], owner="another", seconds=60)
    assert lease is not None and tell_cases.fn() == 0
    dock.ledger.release(lease)
    assert tell_cases.fn() == 1


def test_after_a_rejection_to_the_partner_the_right_file_closes_the_case(dock: Dock) -> None:
    journey = refused(dock)
    dock.leave("prices.csv", price_list(first=7))
    dock.run()
    assert dock.codes() == ["wrong-type"], "the same name may mean tomorrow's file: nobody had asked for it"
    retry.return_to_partner(journey, "called them", "anna")
    assert cases.find_case(journey).state is CaseState.WAITING
    dock.leave("prices.csv", price_list())
    assert dock.run() == {"prices.csv": "filed"}
    assert dock.cases() == []
    assert cases.moments(dock.ledger.journey(journey))[-1].what == "corrected"


def _reopened(journey: str, correction: Correction) -> AbstractContextManager[Consignment]:
    asked = bool(correction.cells or correction.file)
    return retry.reopened(journey, correction.comment, correction.by, corrected=asked)


def put_right(dock: Dock, journey: str, correction: Correction) -> None:
    """What ``flows.review.retry`` does with it."""
    with disable_run_logger(), _reopened(journey, correction) as consignment:
        for step in STEPS[:2]:
            consignment = step(consignment)
        consignment = correct.fn(consignment, correction)
        for step in STEPS[2:]:
            consignment = step(consignment)


def test_a_corrected_file_is_filed_as_its_own_and_the_partners_stays_as_it_was(dock: Dock) -> None:
    journey = refused(dock)
    corrections().mkdir()
    (corrections() / "mended").write_bytes(price_list())
    put_right(dock, journey, Correction("anna", "they sent it by mail", file="mended"))
    assert dock.filed() == {"prices.csv": price_list()} and dock.cases() == []
    [derived] = [entry.body for entry in dock.ledger.journey(f"{journey}.fix1") if entry.kind == "derived"]
    assert (derived["from"], derived["by"], derived["comment"]) == (journey, "anna", "they sent it by mail")
    kept = connections.quarantine().content(journey)
    assert kept is not None and kept.read_bytes() == BAD
    dock.ledger.verify()


def test_what_is_put_right_and_is_still_wrong_files_nothing(dock: Dock) -> None:
    journey = refused(dock)
    put_right(dock, journey, Correction("anna", "a typo", cells=["2, price = two"]))
    assert not (dock.home / "kept" / "Prices").exists() and cases.find_case(journey).state is not CaseState.RESOLVED
    assert "correction refused" in [entry.kind for entry in dock.ledger.journey(journey)]
    put_right(dock, journey, Correction("anna", "a typo", cells=["2, price = 1.50"]))
    assert dock.filed() == {"prices.csv": price_list()} and dock.cases() == []


class Killed(BaseException):
    """Whoever works on it is gone in that moment."""


RIGHT, OTHER = (Correction("anna", "a typo", cells=[f"2, price = {price}"]) for price in ("1.50", "1.51"))
AGAIN = Correction("ben", "once more")


def versions(dock: Dock) -> int:
    """How many there are of all that was filed."""
    with load_repositories(dock.profiles)["kept"].session() as session:
        return sum(kept.version for kept in session.look(("Prices",)))


def kill_once_filed(dock: Dock, journey: str, correction: Correction = RIGHT) -> None:
    def killed(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        # A kill just there: the ledger knows that it was filed, and nothing came after.
        patch.setattr("tasks.correct.rely_on", killed)
        put_right(dock, journey, correction)
    assert dock.filed() == {"prices.csv": price_list()}


@pytest.mark.parametrize(("correction", "duplicates"), [(RIGHT, "file"), (AGAIN, "record")])
def test_a_correction_that_was_filed_when_its_try_broke_off_is_gone_on_with(
    dock: Dock, correction: Correction, duplicates: str
) -> None:
    dock.agree(owner="pricing", duplicates=duplicates)
    journey = refused(dock)
    kill_once_filed(dock, journey)
    with pytest.raises(ConfigurationError, match="is filed"):
        retry.reject(journey, "not needed", "ben")
    with pytest.raises(ConfigurationError, match="is filed"):
        retry.return_to_partner(journey, "send it again", "ben")
    with pytest.raises(ConfigurationError, match="nothing else is filed"):
        put_right(dock, journey, OTHER)
    dock.run()
    assert versions(dock) == 1 and [case.journey for case in dock.cases()] == [journey]
    put_right(dock, journey, correction)
    assert versions(dock) == 1 and dock.filed() == {"prices.csv": price_list()} and dock.cases() == []
    assert dock.ledger.journey(f"{journey}.fix2") == []
    dock.ledger.verify()


def test_clean_up_leaves_what_was_put_right_while_the_case_is_open(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise Killed

    def clean_up() -> int:
        return collect_spool.fn(timedelta(0)).freed_bytes

    journey = refused(dock)
    put_right(dock, journey, Correction("anna", "a typo", cells=["2, price = two"]))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("tasks.correct.file_derived", killed)
        put_right(dock, journey, RIGHT)
    assert clean_up() == 0
    put_right(dock, journey, RIGHT)
    assert dock.filed() == {"prices.csv": price_list()} and dock.cases() == []
    assert clean_up() > 0, "nobody needs them any more"


def test_a_correction_waits_for_a_repository_that_is_away(dock: Dock) -> None:
    dock.agree(owner="pricing", naming=r"[a-z]+\.csv")
    journey = refused(dock, "p1.csv", price_list())
    dock.agree(owner="pricing")  # as the partner wrote it, it would pass today
    (dock.home / "kept").rename(dock.home / "away")
    with pytest.raises(CountersignError, match="kept"):
        put_right(dock, journey, OTHER)
    assert [entry.kind for entry in dock.ledger.journey(f"{journey}.fix1")] == ["derived", "filing"]
    (dock.home / "away").rename(dock.home / "kept")
    dock.run()
    assert not (dock.home / "kept" / "Prices").exists()
    with pytest.raises(ConfigurationError, match="may be filed"):
        retry.reject(journey, "not needed", "ben")
    with pytest.raises(ConfigurationError, match="nothing else is filed"):
        put_right(dock, journey, Correction("anna", "a typo", cells=["2, price = 1.52"]))
    put_right(dock, journey, AGAIN)
    assert dock.filed() == {"p1.csv": price_list().replace(b"1.50", b"1.51")} and versions(dock) == 1 and dock.cases() == []


@pytest.mark.parametrize("correction", [RIGHT, AGAIN])
def test_a_correction_of_which_nobody_knows_is_filed_once(dock: Dock, correction: Correction) -> None:
    journey, file = refused(dock), FolderSession.file

    def lost(session: FolderSession, filings: Iterable[Filing]) -> Iterator[Filed | NotFiled]:
        list(file(session, filings))
        raise OutcomeUnknown("the answer was lost")
        yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FolderSession, "file", lost)
        put_right(dock, journey, RIGHT)
    assert versions(dock) == 1 and [case.journey for case in dock.cases()] == [journey]
    with pytest.raises(ConfigurationError, match="look into the repository"):
        put_right(dock, journey, OTHER)
    put_right(dock, journey, correction)
    assert versions(dock) == 1 and dock.cases() == []


def test_a_correction_that_the_repository_refused_gives_way_to_another(dock: Dock) -> None:
    journey = refused(dock)
    (dock.home / "kept" / "Prices").write_text("no folder")
    put_right(dock, journey, RIGHT)
    assert [entry.kind for entry in dock.ledger.journey(f"{journey}.fix1")] == ["derived", "filing", "rejected"]
    (dock.home / "kept" / "Prices").unlink()
    put_right(dock, journey, OTHER)
    assert list(dock.filed().values()) == [price_list().replace(b"1.50", b"1.51")] and dock.cases() == []


def test_nothing_is_put_right_once_the_case_is_over(dock: Dock) -> None:
    journey = refused(dock)
    retry.return_to_partner(journey, "a typo", "anna")
    dock.leave("prices.csv", price_list(rows=9))
    assert dock.run() == {"prices.csv": "filed"} and dock.cases() == []
    with pytest.raises(ConfigurationError, match="resolved"):
        put_right(dock, journey, RIGHT)
    assert versions(dock) == 1 and "retried" not in [entry.kind for entry in dock.ledger.journey(journey)]


def test_the_partners_own_bytes_are_not_filed_where_a_correction_is_refused(dock: Dock) -> None:
    dock.agree(owner="pricing", naming=r"[a-z]+\.csv")
    journey = refused(dock, "p1.csv", price_list())
    dock.agree(owner="pricing")
    put_right(dock, journey, Correction("anna", "a typo", cells=["2, price = two"]))
    assert [case.code for case in dock.cases()] == ["put-right"] and not (dock.home / "kept" / "Prices").exists()
    put_right(dock, journey, AGAIN)
    assert dock.filed() == {"p1.csv": price_list()} and dock.cases() == []


@pytest.mark.parametrize("name", ["prices\x1b[2J.csv", "a\u202ecsv.csv"])
def test_no_correction_makes_a_name_legal(dock: Dock, name: str) -> None:
    journey = refused(dock, name)
    corrections().mkdir()
    (corrections() / "mended").write_bytes(price_list())
    with pytest.raises(ConfigurationError, match=r"keeps its name.*\(illegal-name\)"):
        put_right(dock, journey, Correction("anna", "x", file="mended"))
    assert [case.code for case in dock.cases()] == ["illegal-name"] and not (dock.home / "kept" / "Prices").exists()


def offered(dock: Dock, journey: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, set[str], list[str]]:
    """What the form about a case says, its fields, and the decisions that it offers."""
    monkeypatch.setattr("tasks.ask_about._announce", lambda review: None)  # the run's name and tags
    [begun] = dock.ledger.append([Entry(journey, "review begun", {"run": "r"})])
    schema = ask_about.fn(Review(journey, "r", begun)).form.model_json_schema()
    [decision] = schema["properties"]["decision"]["allOf"]
    return decision["description"], set(schema["properties"]), decision["enum"]


@pytest.mark.parametrize("name", ["a\x1b.csv", "P1.csv", "prices.txt", "prices.csv"])
def test_the_form_offers_to_correct_only_what_that_can_help_and_says_why_not(
    dock: Dock, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    dock.agree(owner="pricing", naming=r"[a-z]+\.\w+", limits={"largest_bytes": len(BAD)})
    text, fields, decisions = offered(dock, refused(dock, name), monkeypatch)
    helps = name == "prices.csv"
    assert helps == ("cells" in fields) == ("file" in fields) == (Decision.CORRECT.value in decisions)
    assert helps != ("Not to be corrected here: what is put right keeps its name" in text)


def test_the_form_asks_for_no_cells_of_what_was_never_fetched(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    dock.agree(owner="pricing", limits={"largest_bytes": len(BAD) - 1})
    text, fields, decisions = offered(dock, refused(dock), monkeypatch)
    assert Decision.CORRECT.value in decisions and "file" in fields and "cells" not in fields
    assert "Not by single cells: it was refused before it was fetched" in text


def test_no_name_leads_out_of_the_corrections(dock: Dock) -> None:
    journey, agreed = refused(dock), load_stream("acme", "prices")
    corrections().mkdir()
    (dock.home / "secret").write_bytes(price_list())
    (corrections() / "link").symlink_to(dock.home / "secret")
    (corrections() / "folder").mkdir()
    for name in ("../secret", "link", "folder", "..", "not there", str(dock.home / "secret")):
        assert unfit(journey, agreed, Correction("anna", "x", file=name)), name
    dock.agree(sequence="ordered")
    (corrections() / "mended").write_bytes(price_list())
    assert "ask the partner" in unfit(journey, load_stream("acme", "prices"), Correction("anna", "x", file="mended"))


def test_a_mail_server_that_does_not_answer_is_waited_for_once_and_not_once_for_each_case(dock: Dock) -> None:
    called: list[int] = []

    def silent(connection: socket.socket) -> None:
        called.append(1)
        connection.sendall(b"421 not now\r\n")

    for number in range(3):
        dock.leave(f"{number}.csv", BAD.replace(b"one", b"one%d" % number))
    dock.run()
    with Listener(silent) as port:
        mail = {"host": "127.0.0.1", "port": port, "security": "none", "sender": "countersign@example.com"}
        (dock.profiles / "notify.yaml").write_text(yaml.safe_dump({"mail": mail, "told": {"pricing": "p@example.com"}}))
        assert tell_cases.fn() == 3
    assert len(called) == 1 and len(opened_events(dock)) == 3


@pytest.fixture
def no_prefect() -> Iterator[None]:
    """Prefect is said to be where nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with (
        temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api", PREFECT_CLIENT_MAX_RETRIES: 0}),
        disable_run_logger(),
    ):
        yield


def test_who_has_a_case_is_told_while_prefect_is_away(dock: Dock, no_prefect: None) -> None:
    journey = refused(dock)
    assert tell_cases.fn("acme", "prices") == 1
    assert opened_events(dock) == [(journey, "pricing")]
    assert "review begun" not in [entry.kind for entry in dock.ledger.journey(journey)], "the sweep begins it"


def test_what_prefect_refuses_about_one_case_keeps_nobody_from_the_next(dock: Dock, prefect: SyncPrefectClient) -> None:
    for number in range(2):
        dock.leave(f"{number}.csv", BAD.replace(b"one", b"one%d" % number))
    dock.run()
    first, second = (case.journey for case in dock.cases())
    anything_but = {"type": "object", "properties": {"journey": {"type": "string", "not": {"const": first}}}}
    with review_deployed(prefect, parameter_openapi_schema=anything_but, enforce_parameter_schema=True):
        assert tell_cases.fn() == 2
    begun = [journey for journey in (first, second) if "review begun" in [one.kind for one in dock.ledger.journey(journey)]]
    assert begun == [second]


FINE: dict[str, Any] = {"decision": Decision.COMMENT.value, "who": "anna", "comment": "fine"}


def test_no_value_that_prefect_put_into_an_answer_is_kept(dock: Dock, prefect: SyncPrefectClient) -> None:
    secret = f"s3cr3t-{uuid4().hex}"
    asked = Asked(prefect, dock, refused(dock))
    asked.begin()
    filled = [
        ("comment", secret),
        ("decision", secret),
        ("who", secret),
        ("assign_to", secret),
        ("file", secret),
        ("cells", [f"2, price = {secret}"]),
        (secret, "x"),
    ]
    values = {"of_a_case": secret, "of_a_person": "anna"}
    for name, value in values.items():
        prefect.create_variable(VariableCreate(name=name, value=value))
    try:
        for field, value in filled:
            asked.answer(f"key-of-{field[:4]}", {**FINE, field: value})
            asked.settle()
            settled = dock.ledger.journey(asked.journey)[-1]
            assert settled.kind == "case answered" and "'of_a_case'" in settled.body["refusal"], settled
            assert not settled.body["typed"] and secret not in str(settled.body), field
        asked.answer("typed", FINE)
        asked.settle()
    finally:
        for name in values:
            prefect.delete_variable_by_name(name)
    assert asked.comments == ["fine"]


def test_what_was_answered_to_a_run_that_failed_is_carried_out_by_the_next(dock: Dock, prefect: SyncPrefectClient) -> None:
    asked = Asked(prefect, dock, refused(dock))
    asked.begin()
    asked.answer("k", FINE)
    asked.begin()
    asked.settle()
    assert asked.comments == ["fine"]
