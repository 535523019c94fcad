"""X1 Generated documents: what a system has made is in the governed repository exactly once by its key, and everybody who asks for it
is told the same id."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound
from prefect.flow_engine import run_flow
from prefect.logging import disable_run_logger
from prefect.workers.process import ProcessWorker

from blocks.errors import ConfigurationError, LedgerUnreachable, SystemUnreachable
from flows.handover import handover
from tasks import incidents
from tasks.hand_over import Row, find_offers, hand_over, load_handover
from tests.ledger.full import no_room_for
from tests.sandbox.business import BusinessSandbox
from tests.tasks.conftest import dock as dock
from tests.tasks.dock import Dock
from tests.world import HERE, ROOT, World

PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\ninvoice 4711\n%%EOF\n"
PATIENCE = timedelta(minutes=3)


def agree(profiles: Path, shop: BusinessSandbox, repository: str = "kept", folder: str = "Prices", **more: Any) -> None:
    """The ERP's file: as the one of this project, with this sandbox's address and that repository."""
    file = yaml.safe_load((ROOT / "deployments" / "systems" / "erp.yaml").read_text("utf-8"))
    file["system"] |= {"url": f"{shop.url}/api", "rate": None, "breaker": {"failures": 1000}}
    file["system"]["auth"]["token_url"] = f"{shop.url}/oauth2/token"
    terms = file["handovers"]["invoices"]
    terms["target"] |= {"repository": repository, "folder": folder}
    file["handovers"]["invoices"] = terms | more
    (profiles / "systems").mkdir(exist_ok=True)
    (profiles / "systems" / "erp.yaml").write_text(yaml.safe_dump(file))


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BusinessSandbox]:
    monkeypatch.setenv("COUNTERSIGN_ERP_SECRET", BusinessSandbox.SECRET)
    with BusinessSandbox(tmp_path / "erp") as running:
        yield running


def invoice(shop: BusinessSandbox, key: str, content: bytes = PDF) -> None:
    shop.offer(key, content, name=f"{key}.pdf", number=key, customer="ACME")


def run(document: str = "", patience: timedelta = PATIENCE) -> dict[str, Row]:
    """What the flow does, without Prefect: key -> what became of it."""
    agreed = load_handover("erp", "invoices")
    with disable_run_logger():
        batches = find_offers.fn(agreed, document)
        return {row.document: row for batch in batches for row in hand_over.fn(agreed, batch, patience)}


def told(shop: BusinessSandbox) -> dict[str, dict[str, Any]]:
    """What the ERP was told of its documents."""
    return shop.books.things.get("filed-invoices", {})


# --------------------------------------------------------------------------------------------- as required


@contextmanager
def deployed() -> Iterator[Any]:
    """The deployment as ``prefect.yaml`` has it, and a way to its runs; there is no worker."""
    stanza = next(
        one for one in yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))["deployments"] if one["tags"] == ["handover"]
    )
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool("countersign")
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name="countersign", type="process", base_job_template=template))
        ours = {"entrypoint": stanza["entrypoint"], "work_pool_name": stanza["work_pool"]["name"], "pull_steps": HERE}
        made = client.create_deployment(client.create_flow(handover), stanza["name"], **ours)

        def post(document: str, key: str) -> Any:
            """As the ERP does: POST /deployments/ID/create_flow_run."""
            asked = {"system": "erp", "stream": "invoices", "document": document}
            return client.create_flow_run_from_deployment(made, parameters=asked, idempotency_key=key)

        try:
            yield post
        finally:
            client.delete_deployment(made)


def test_an_invoice_that_is_posted_twice_and_retried_is_one_document_with_one_id(world: World, shop: BusinessSandbox) -> None:
    agree(world.profiles, shop, "ecm", f"Tests/{world.remote.name}")
    invoice(shop, "4711")
    with deployed() as post:
        first, again, retried = post("4711", "post-1"), post("4711", "post-1"), post("4711", "retry after a timeout")
        assert first.id == again.id != retried.id
        parameters = {"patience_seconds": 60, **first.parameters}
        states = [run_flow(handover, flow_run=one, parameters=parameters, return_type="state") for one in (first, retried)]
    assert [state.name for state in states] == ["Filed", "Filed"]  # type: ignore[union-attr]
    [message] = {state.message for state in states}  # type: ignore[union-attr]
    assert world.filed() == {"4711.pdf": PDF} and world.versions() == {"4711.pdf": 1}
    with world.repository() as session:
        kept = session.find(("Tests", world.remote.name), "4711.pdf")
    assert kept is not None and message == f"4711: id {kept.id}, version 1"
    assert {key: thing["kept_as"] for key, thing in told(shop).items()} == {"4711": kept.id} and shop.books.writes[
        "filed-invoices"
    ] == 1


# --------------------------------------------------------------------------------------------- whatever happens


@pytest.fixture
def erp(dock: Dock, shop: BusinessSandbox) -> BusinessSandbox:
    agree(dock.profiles, shop)
    return shop


@pytest.mark.parametrize("kind", ["fetched", "filing", "filed", "telling", "told"])
def test_whatever_step_it_breaks_off_at_it_goes_on_there(kind: str, dock: Dock, erp: BusinessSandbox) -> None:
    invoice(erp, "1")
    with no_room_for(dock.ledger, kind), pytest.raises(LedgerUnreachable):
        run()
    row = run()["1"]
    assert row.outcome == "filed" and dock.filed() == {"1.pdf": PDF}
    assert row.version == 1 and erp.books.writes["filed-invoices"] == 1 and told(erp)["1"]["kept_as"]
    assert run("1")["1"] == row


FAULTS = (
    *("busy429@documents", "cut@documents", "html500@content", "drop@content"),
    *("busy429@filed-invoices", "burst503@filed-invoices", "lost-answer@filed-invoices", "cut@filed-invoices"),
)


def test_a_fault_on_either_side_of_each_call_loses_nothing_and_doubles_nothing(dock: Dock, erp: BusinessSandbox) -> None:
    """Each fault strikes once; what must wait is taken up in the same run, or by the next one where not even the list came."""
    keys = [f"I-{number}" for number in range(len(FAULTS))]
    for key in keys:
        invoice(erp, key, PDF + key.encode())
    erp.faults.set(dict.fromkeys(FAULTS, 1))
    for _ in FAULTS:
        try:
            rows = run()
            break
        except SystemUnreachable as error:
            time.sleep(error.after_seconds)
    assert {key: row.outcome for key, row in rows.items()} == dict.fromkeys(keys, "filed")
    assert erp.faults.as_dict() == dict.fromkeys(FAULTS, 0)
    assert dock.filed() == {f"{key}.pdf": PDF + key.encode() for key in keys}
    assert {key: thing["kept_as"] for key, thing in told(erp).items()} == {key: row.repository_id for key, row in rows.items()}
    assert erp.books.writes["filed-invoices"] == len(keys) and {row.version for row in rows.values()} == {1}
    assert not dock.cases()


def test_a_system_that_says_later_is_asked_when_it_said_and_what_waits_too_long_waits_for_the_next_run(
    dock: Dock, erp: BusinessSandbox
) -> None:
    invoice(erp, "1")
    erp.faults.set({"busy429@content": 1, "retry-after": 3600})
    row = run("1", timedelta(0))["1"]
    assert row.outcome == "waits" and row.after_seconds == 3600 and not row.repository_id
    assert run("1", timedelta(0))["1"].outcome == "waits" and erp.stats["GET /api/documents/1/content"] == 1


def test_two_runs_at_once_are_told_the_same_id(dock: Dock, erp: BusinessSandbox) -> None:
    invoice(erp, "1")
    rows: list[Row] = []
    threads = [threading.Thread(target=lambda: rows.append(run("1")["1"])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows) == 3 and len(set(rows)) == 1 and rows[0].outcome == "filed"
    assert dock.filed() == {"1.pdf": PDF} and erp.books.writes["filed-invoices"] == 1


def test_another_document_under_a_key_that_is_taken_is_a_case_and_not_lost(dock: Dock, erp: BusinessSandbox) -> None:
    invoice(erp, "1")
    first = run()["1"]
    invoice(erp, "1", PDF + b"changed")
    again = run()["1"]
    assert (again.outcome, again.repository_id) == (
        "refused",
        first.repository_id,
    ) and "is offered under it now" in again.reason
    [case] = dock.cases("key-reused")
    assert (case.partner, case.stream, case.name, case.owner) == ("erp", "invoices", "1", "finance@example.com")
    run()
    assert len(dock.cases()) == 1 and dock.filed() == {"1.pdf": PDF}, "told once, and nothing is overwritten"


def test_what_is_refused_hinders_no_other_and_its_case_ends_when_it_is_handed_over(dock: Dock, erp: BusinessSandbox) -> None:
    invoice(erp, "1", b"no PDF at all")
    erp.offer("2", PDF, name="2.pdf", customer="ACME")
    invoice(erp, "3")
    assert {key: row.outcome for key, row in run().items()} == {"1": "refused", "2": "refused", "3": "filed"}
    reasons = {case.name: case.reason for case in dock.cases("not-handed-over")}
    assert reasons == {
        "1": "its bytes are text/plain, and only application/pdf was agreed",
        "2": "the system does not say number of it",
    }
    invoice(erp, "2")
    assert run()["2"].outcome == "filed" and [case.name for case in dock.cases()] == ["1"]


def test_an_offer_without_a_sound_key_is_a_case_and_hinders_no_other(dock: Dock, erp: BusinessSandbox) -> None:
    erp.offer("odd", PDF, name="odd.pdf", number="odd", customer="ACME", key="a\nb")
    invoice(erp, "1")
    assert {key: row.outcome for key, row in run().items()} == {"1": "filed"}
    run()
    [case] = dock.cases("not-handed-over")
    assert case.name == "a\\x0ab" and "printable text" in str(case.reason)


def test_bytes_that_are_not_what_the_system_says_are_never_kept(dock: Dock, erp: BusinessSandbox) -> None:
    invoice(erp, "1")
    digest = erp.books.things["documents"]["1"]["sha256"]
    (erp.content / digest).write_bytes(PDF[:-1] + b"x")
    row = run("1", timedelta(0))["1"]
    assert row.outcome == "waits" and "came instead of" in row.reason and not (dock.home / "kept" / "Prices").exists()
    (erp.content / digest).write_bytes(PDF)
    assert run("1")["1"].outcome == "filed"


@pytest.mark.parametrize("broken_off", [False, True], ids=["its answer was lost", "we broke off before we wrote it down"])
def test_where_nobody_can_tell_whether_the_system_was_told_a_person_looks(
    broken_off: bool, dock: Dock, erp: BusinessSandbox
) -> None:
    """A route that may not be repeated and cannot be looked at: never told twice."""
    change(dock.profiles, method="POST", path="/filed-invoices")
    invoice(erp, "1")
    if broken_off:
        with no_room_for(dock.ledger, "told"), pytest.raises(LedgerUnreachable):
            run()
    else:
        erp.faults.set({"lost-answer@filed-invoices": 1})
    first, again = run()["1"], run()["1"]
    assert (first.outcome, again.outcome) == ("in doubt", "in doubt") and first.repository_id
    assert erp.books.writes["filed-invoices"] == 1
    [case] = dock.cases("handover-in-doubt")
    assert incidents.close(case.journey, "the ERP shows it", "ann") == "handover-in-doubt"
    assert run()["1"].outcome == "filed" and not dock.cases()
    assert erp.books.writes["filed-invoices"] == 1


def change(profiles: Path, **route: Any) -> None:
    """How the ERP is told, otherwise than agreed so far."""
    path = profiles / "systems" / "erp.yaml"
    file = yaml.safe_load(path.read_text())
    file["system"]["routes"]["invoice-filed"] |= route
    path.write_text(yaml.safe_dump(file))


@pytest.mark.parametrize("ends", ["done", "failed"])
def test_a_system_that_says_its_last_word_later_is_asked_for_it_and_not_told_again(
    ends: str, dock: Dock, erp: BusinessSandbox
) -> None:
    poll = {"path": "/jobs/{id}", "field": "state", "done": ["done"], "failed": ["failed"], "every": "PT0.01S"}
    body = {"document": "{document}", "ends": ends}
    change(dock.profiles, method="POST", path="/jobs", body=body, poll=poll)
    erp.faults.set({"job-looks": 3})
    invoice(erp, "1")
    rows = [run("1", timedelta(0))["1"] for _ in range(4)]
    assert [row.outcome for row in rows] == ["waits"] * 4 and "last word is still to come" in rows[0].reason
    assert erp.books.writes["jobs"] == 1
    last = run("1", timedelta(0))["1"]
    assert last.outcome == ("filed" if ends == "done" else "refused") and erp.books.writes["jobs"] == 1
    if ends == "failed":
        assert last.reason.endswith("state-failed: state is failed") and len(dock.cases("not-handed-over")) == 1
        change(dock.profiles, body={"document": "{document}"})
        erp.faults.set({"job-looks": 0})
        assert run("1")["1"].outcome == "filed" and erp.books.writes["jobs"] == 2


def test_each_doubt_is_a_case_of_its_own_whatever_else_stands(dock: Dock, erp: BusinessSandbox) -> None:
    """A refusal stands; nobody can tell what was kept; then nobody can tell what was told. Each is closed before anything is tried."""
    change(dock.profiles, method="POST", path="/filed-invoices", body={"refuse": 1})
    kept = {name: {"kind": "folder", "path": str(dock.home / name)} for name in ("kept", "other")}
    (dock.home / "other").mkdir()
    (dock.profiles / "repositories.yaml").write_text(yaml.safe_dump({"repositories": kept}))
    invoice(erp, "1", b"no PDF at all")
    assert run()["1"].outcome == "refused" and len(dock.cases("not-handed-over")) == 1
    invoice(erp, "1")
    with no_room_for(dock.ledger, "filed"), pytest.raises(LedgerUnreachable):
        run()
    agree(dock.profiles, erp, "other")
    change(dock.profiles, method="POST", path="/filed-invoices", key_header=None)
    with no_room_for(dock.ledger, "incident"), pytest.raises(LedgerUnreachable):
        run()
    first, again = run()["1"], run()["1"]
    assert (first.outcome, again.outcome) == ("in doubt", "in doubt") and not (dock.home / "other" / "Prices").exists()
    [case] = dock.cases("handover-in-doubt")
    assert "may be kept at" in str(case.reason) and len(dock.cases()) == 2
    incidents.close(case.journey, "it is not needed there", "ann")
    with no_room_for(dock.ledger, "told"), pytest.raises(LedgerUnreachable):
        run()
    second, again = run()["1"], run()["1"]  # closing the first doubt says nothing of this one
    assert (second.outcome, again.outcome) == ("in doubt", "in doubt") and second.repository_id
    assert (dock.home / "other" / "Prices" / "1.pdf").read_bytes() == PDF and erp.books.writes["filed-invoices"] == 1
    [later] = dock.cases("handover-in-doubt")
    assert later.journey != case.journey and "was told" in str(later.reason)
    incidents.close(later.journey, "the ERP shows it", "ann")
    assert run()["1"].outcome == "filed" and not dock.cases() and erp.books.writes["filed-invoices"] == 1


def test_what_was_not_filed_binds_nobody_to_its_place_and_bytes(dock: Dock, erp: BusinessSandbox) -> None:
    (dock.home / "kept" / "Taken").write_bytes(b"no folder")
    agree(dock.profiles, erp, folder="Taken")
    invoice(erp, "1")
    row = run()["1"]
    assert row.outcome == "refused" and "folder-name-taken" in row.reason
    agree(dock.profiles, erp)
    invoice(erp, "1", PDF + b"corrected")
    assert run()["1"].outcome == "filed" and dock.filed() == {"1.pdf": PDF + b"corrected"} and not dock.cases()


def test_what_is_kept_and_refused_the_next_time_is_for_a_person(dock: Dock, erp: BusinessSandbox) -> None:
    invoice(erp, "1")
    with no_room_for(dock.ledger, "filed"), pytest.raises(LedgerUnreachable):
        run()
    path = dock.profiles / "systems" / "erp.yaml"
    file = yaml.safe_load(path.read_text())
    case_of = {"system": "ERP", "object": "Invoice", "reference": "{number}", "template": "Invoices"}
    file["handovers"]["invoices"]["target"]["workspace"] = case_of
    path.write_text(yaml.safe_dump(file))
    row = run()["1"]
    assert row.outcome == "in doubt" and "it is kept as" in row.reason and "no-workspaces" in row.reason
    agree(dock.profiles, erp)
    [case] = dock.cases()
    incidents.close(case.journey, "the workspace was a mistake", "ann")
    assert run()["1"].outcome == "filed" and dock.filed() == {"1.pdf": PDF} and run()["1"].version == 1


def test_what_a_person_has_given_up_is_asked_for_no_more_unless_a_call_names_it(dock: Dock, erp: BusinessSandbox) -> None:
    invoice(erp, "1", b"no PDF at all")
    run("mistyped")
    run()
    cases = dock.cases("not-handed-over")
    assert sorted(case.name for case in cases) == ["1", "mistyped"]
    for case in cases:
        incidents.close(case.journey, "never mind", "ann")
    before = dict(erp.stats)
    assert run() == {} and not dock.cases()
    assert {path for path in erp.stats if erp.stats[path] > before.get(path, 0)} <= {"GET /api/documents", "POST /oauth2/token"}
    invoice(erp, "1")
    assert run("1")["1"].outcome == "filed"


def test_a_document_that_is_said_to_be_too_large_is_not_even_fetched(dock: Dock, erp: BusinessSandbox) -> None:
    agree(dock.profiles, erp, largest_bytes=10)
    invoice(erp, "1")
    row = run()["1"]
    assert row.outcome == "refused" and "at most 10 were agreed" in row.reason
    assert not erp.stats["GET /api/documents/1/content"]


def test_what_a_system_says_goes_shortened_and_harmless_into_cases(dock: Dock, erp: BusinessSandbox) -> None:
    invoice(erp, "1")
    run()
    erp.books.things["documents"]["1"]["sha256"] = "a\x1b[31m" + 10_000 * "b"
    assert run("1")["1"].outcome == "refused"
    [case] = dock.cases("key-reused")
    assert "\x1b" not in str(case.reason) and len(str(case.reason)) < 300


def test_what_cannot_be_agreed_is_said_at_once(dock: Dock, erp: BusinessSandbox) -> None:
    with pytest.raises(ConfigurationError, match="no handover 'orders'; its file has invoices"):
        load_handover("erp", "orders")
    with pytest.raises(ConfigurationError, match="printable text"):
        run("a\nb")
    agree(dock.profiles, erp, "elsewhere")
    with pytest.raises(ConfigurationError, match="no repository 'elsewhere'"):
        load_handover("erp", "invoices")
    agree(dock.profiles, erp, folder="{costumer}")
    with pytest.raises(ConfigurationError, match=r"\{costumer\} is not known of a document that is handed over"):
        load_handover("erp", "invoices")
    agree(dock.profiles, erp, done="invoice-field")
    with pytest.raises(ConfigurationError, match=r"handovers\.invoices\.done: no such route; did you mean 'invoice-filed'"):
        load_handover("erp", "invoices")
