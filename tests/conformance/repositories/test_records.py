"""Records management at Extended ECM, by our own client: records and their tokens, schedules, holds and their turns."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from blocks.errors import DocumentMissing, EditConflict, OnHold, RepositoryError
from blocks.repositories import otcs_wire
from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.repositories.otcs_names import Unfit
from blocks.repositories.otcs_records import Records, Stage
from blocks.repositories.otcs_wire import NameTaken, Refusal
from blocks.values import Filed, NotFiled
from tests.conformance.pyxecm.wire import Wire
from tests.conformance.repositories.enrolment import block
from tests.conformance.repositories.writes.bench import Bench
from tests.sandbox.extended_ecm import ExtendedEcmSandbox


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    place = tmp_path_factory.mktemp("records")
    sandbox = ExtendedEcmSandbox(place / "ecm").start()
    (place / "files").mkdir()
    try:
        with block(sandbox.described()).session() as session, Wire(sandbox.described()) as wire:
            yield Bench(sandbox, session, wire, place / "files")
    finally:
        sandbox.stop()


@pytest.fixture
def records(bench: Bench) -> Records:
    return bench.session.records


pytestmark = pytest.mark.usefixtures("short_pauses")


# --------------------------------------------------------------------------------------------- records


def test_a_record_is_declared_changed_and_let_go(bench: Bench, records: Records) -> None:
    node = bench.document()
    assert records.get(node) is None
    declared = records.declare(node, "File Plan/Contracts", record_date=date(2024, 2, 29), schedule="CON-6")
    assert (declared.class_name, declared.record_date, declared.schedule) == ("Contracts", date(2024, 2, 29), "CON-6")
    closed = records.change(declared, file_status="CLOSED", official=True)
    assert (closed.status, closed.official, closed.record_date) == ("CLOSED", True, date(2024, 2, 29))
    records.undeclare(closed)
    assert records.get(node) is None


def test_who_saw_an_older_state_changes_nothing(bench: Bench, records: Records) -> None:
    seen = records.declare(bench.document(), "Contracts")
    newer = records.change(seen, file_status="CLOSED")
    with pytest.raises(EditConflict):
        records.change(seen, file_status="ACTIVE")
    with pytest.raises(EditConflict):
        records.undeclare(seen)
    assert records.get(seen.node) == newer


def test_an_answer_that_was_lost_is_not_taken_for_another_ones_change(bench: Bench, records: Records) -> None:
    seen = records.declare(bench.document(), "Contracts")
    with bench.fault({"write-500": 1}, 0):

        def meanwhile() -> None:
            token = bench.ask(f"v1/nodes/{seen.node}/rmclassifications")["rm_metadataToken"]
            bench.tell("PUT", f"v1/nodes/{seen.node}/rmclassifications", rm_metadataToken=token, file_status="DESTROYED")

        original = records.get
        try:
            records.get = lambda node: (meanwhile(), original(node))[1]  # type: ignore[assignment, func-returns-value]
            with pytest.raises(EditConflict):
                records.change(seen, file_status="CLOSED")
        finally:
            del records.get  # type: ignore[method-assign]


def test_another_class_needs_no_token_from_the_caller(bench: Bench, records: Records) -> None:
    node = bench.document()
    records.declare(node, "Contracts")
    assert records.declare(node, "Invoices", schedule="FIN-10").class_name == "Invoices"


def test_what_means_nothing_there_is_refused(bench: Bench, records: Records) -> None:
    node = bench.document()
    with pytest.raises(Unfit, match="no records class"):
        records.declare(node, "No Such Class")
    with pytest.raises(Refusal, match="Invalid RSI"):
        records.declare(node, "Contracts", schedule="NO-1")
    assert records.get(node) is None
    with pytest.raises(DocumentMissing):
        records.get(4711)


def test_a_schedule_is_given_and_records_made_final(bench: Bench, records: Records) -> None:
    nodes = [bench.document() for _ in range(3)]
    for node in nodes:
        records.assign_schedule(records.declare(node, "Contracts"), "FIN-10")
    records.finalize(nodes)
    found = [records.get(node) for node in nodes]
    assert [(record.schedule, record.details["finalized"]) for record in found if record] == [("FIN-10", True)] * 3


def test_a_filing_brings_date_and_schedule_or_is_taken_back(bench: Bench) -> None:
    terms = {"records_class": "Invoices", "record_date": date(2024, 2, 29)}
    filing = bench.filing("a.txt", bench.unique("Filed"), **terms, schedule="FIN-10", keep_until=date(2034, 2, 28))
    [filed] = bench.session.file([filing])
    assert isinstance(filed, Filed)
    record = bench.session.records.get(int(filed.id))
    assert record is not None
    assert (record.class_name, record.record_date, record.schedule) == ("Invoices", date(2024, 2, 29), "FIN-10")
    [refused] = bench.session.file([bench.filing("b.txt", filing.folder[0], **terms, schedule="NO-1")])
    assert isinstance(refused, NotFiled)
    assert "Invalid RSI" in refused.reason
    assert [kept.name for kept in bench.session.look(filing.folder)] == ["a.txt"]


def test_a_server_that_takes_the_class_and_not_the_date_is_noticed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    original = otcs_wire.Wire.write

    def forgetful(wire: otcs_wire.Wire, *arguments: object, **more: object) -> object:
        if isinstance(body := more.get("body"), dict):
            body.pop("record_date", None)
        return original(wire, *arguments, **more)  # type: ignore[arg-type]

    # As a server that ignores a field; which one, the sandbox is not told.
    monkeypatch.setattr(otcs_wire.Wire, "write", forgetful)
    filing = bench.filing("a.txt", bench.unique("Filed"), records_class="Invoices", record_date=date(2001, 1, 1))
    [answer] = bench.session.file([filing])
    assert isinstance(answer, NotFiled)
    assert "was not taken" in answer.reason
    assert list(bench.session.look(filing.folder)) == []


# --------------------------------------------------------------------------------------------- schedules


def test_a_schedule_is_made_with_its_stages(bench: Bench, records: Records) -> None:
    name = bench.unique("TAX").replace(" ", "-")
    made = records.create_schedule(name, title="Tax records")
    with pytest.raises(NameTaken):
        records.create_schedule(name)
    stage = records.add_stage(made, Stage(0, "FINAL", years=10, months=6, action="32"))
    records.approve_stage(made, stage)
    [found] = [schedule for schedule in records.schedules() if schedule.id == made]
    assert (found.name, found.title, found.stages) == (
        name,
        "Tax records",
        (Stage(stage, "FINAL", 10, 6, 0, "32", approved=True),),
    )
    records.approve_stage(made, stage, approved=False)
    assert name in records.find_schedules(name[:5])
    assert records.codes()["essential"]


# --------------------------------------------------------------------------------------------- holds


def test_all_holds_are_seen_however_many_there_are(bench: Bench, records: Records) -> None:
    names = [bench.unique("Case") for _ in range(27)]  # a page has 25
    made = {bench.wire.http.post("/v1/holds", data={"type": "Legal", "name": name}).json()["holdID"] for name in names}
    told = [one.id for one in records.holds()]
    assert len(told) == len(set(told))
    assert made <= set(told)
    last = records.hold(names[-1])
    assert last is not None and last.name == names[-1]
    for id in made:
        records.remove_hold(id)


def test_a_hold_is_made_applied_listed_lifted_and_removed(bench: Bench, records: Records) -> None:
    name, nodes = bench.unique("Case"), [bench.document() for _ in range(3)]
    hold = records.create_hold(name, comment="Miller ./. ACME")
    with pytest.raises(NameTaken):
        records.create_hold(name.upper())
    found = records.hold(name.lower())
    assert found is not None
    assert (found.id, found.name, found.comment) == (hold, name, "Miller ./. ACME")
    records.apply(nodes[0], hold)
    records.apply(nodes[0], hold)
    records.apply_many(nodes[1:], hold)
    assert [one.id for one in records.of(nodes[2])] == [hold]
    assert list(records.items(hold)) == nodes
    with pytest.raises(Refusal, match="is applied to items"):
        records.remove_hold(hold)
    records.lift(nodes[0], hold)
    records.lift(nodes[0], hold)
    records.lift_many(nodes, hold)
    assert list(records.items(hold)) == []
    records.remove_hold(hold)
    assert records.hold(name) is None


def test_many_items_come_page_by_page(bench: Bench, records: Records) -> None:
    folder, hold = bench.folder(), records.create_hold(bench.unique("Case"))
    nodes = [bench.wire.document(f"{n}.txt", b"x", folder) for n in range(103)]
    records.apply_many(nodes, hold)
    assert sorted(records.items(hold)) == sorted(nodes)
    records.lift_many(nodes, hold)


def test_a_hold_on_a_folder_holds_what_is_in_it(bench: Bench, records: Records) -> None:
    folder = bench.folder()
    node, hold = bench.wire.document("in.txt", b"x", folder), records.create_hold(bench.unique("Case"))
    records.apply(folder, hold)
    assert [(one.id, one.inherited) for one in records.of(node)] == [(hold, True)]
    session = bench.session
    with pytest.raises(OnHold):
        session.remove(str(node))
    session.lift_hold(str(node), session.holds(str(node))[0].name)  # it is the folder's: nothing is lifted
    assert len(session.holds(str(node))) == 1


@pytest.mark.parametrize("moment", ["before it is looked at", "after that"])
def test_no_version_that_comes_at_the_last_moment_goes_with_its_document(bench: Bench, moment: str) -> None:
    """Somebody works with it just then: either we see what came, or the server lets nothing come."""
    node, nodes = bench.document(), bench.session.nodes
    bench.wire.user(person := bench.unique("person"))
    answers = []

    def add() -> None:
        with bench.wire.as_user(person) as other:
            files = {"file": ("b.txt", b"theirs", "text/plain")}
            answers.append(other.http.post(f"/v2/nodes/{node}/versions", files=files).status_code)

    looked_at = moment != "before it is looked at"
    seen = bench.session.filed_by(str(node))
    bench.sandbox.faults.meanwhile(f"/nodes/{node}", add, method="DELETE" if looked_at else "PUT")  # it is reserved first
    if looked_at:
        bench.session.remove(str(node), seen)
        assert answers == [500]
        with pytest.raises(DocumentMissing):
            bench.session.let_stand(str(node))
        return
    with pytest.raises(EditConflict, match="nothing was removed"):
        bench.session.remove(str(node), seen)
    assert (answers, len(nodes.versions(node)), nodes.reservation(node)) == ([200], 2, None)


def test_a_document_that_is_not_in_the_recycle_bin_any_more_may_be_hidden_from_us(bench: Bench) -> None:
    node, since = bench.document(), datetime.now(UTC)
    bench.session.remove(str(node))
    assert bench.session.was_removed(str(node), since)
    assert not bench.session.was_removed(str(node), since + timedelta(days=3)), "it was removed before"
    bench.session.nodes.purge([node])
    assert not bench.session.was_removed(str(node), since)


def test_what_a_removal_that_was_killed_has_reserved_is_given_free(bench: Bench) -> None:
    node, others = bench.document(), bench.document()
    bench.wire.user(person := bench.unique("person"))
    with bench.wire.as_user(person) as other:
        own = other.body("GET", "/v1/auth").json()["data"]["id"]
        assert other.body("PUT", f"/v2/nodes/{others}", reserved_user_id=own).status_code == 200
    bench.session.nodes.reserve(node)
    for one in (node, others):
        bench.session.let_stand(str(one))
    assert bench.session.nodes.reservation(node) is None
    assert bench.session.nodes.reservation(others) is not None, "it is somebody else's"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "v2/nodes/{node}"),
        ("DELETE", "v2/nodes/{folder}"),
        ("DELETE", "v2/nodes/{node}/versions/1"),
        ("DELETE", "v2/nodes/{node}/versions?number_to_keep=1"),
    ],
)
def test_nothing_that_is_on_hold_is_deleted_dropped_or_purged(bench: Bench, records: Records, method: str, path: str) -> None:
    folder = bench.folder()
    node = bench.wire.document("in.txt", b"first", folder)
    added = bench.wire.http.post(f"/v2/nodes/{node}/versions", files={"file": ("in.txt", b"second")})
    assert added.status_code == 200
    hold = records.create_hold(bench.unique("Case"))
    records.apply(node, hold)
    place = path.format(node=node, folder=folder)
    refused = bench.wire.http.request(method, f"/{place}")
    assert (refused.status_code, "is on hold" in refused.text) == (500, True)
    assert len(bench.ask(f"v2/nodes/{node}/versions")["results"]) == 2
    records.lift(node, hold)
    assert bench.wire.http.request(method, f"/{place}").status_code == 200


def test_our_hold_writes_take_turns_and_parallel_ones_are_refused(bench: Bench, records: Records) -> None:
    nodes, hold = [bench.document() for _ in range(6)], records.create_hold(bench.unique("Case"))
    bench.sandbox.faults.set({"slow": 0.02})
    try:
        before = bench.wire.stats().get("parallel holds", 0)
        others = [block(bench.sandbox.described()).session() for _ in range(2)]
        sessions: list[ExtendedEcmSession] = [bench.session, *others]
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda n: sessions[n % 3].records.apply(nodes[n], hold), range(6)))
        assert bench.wire.stats().get("parallel holds", 0) == before
        for session in others:
            session.close()
        # The stand-in would have noticed: two clients that know nothing of each other.
        go, statuses = threading.Barrier(4), []

        def apply(node: int) -> None:
            with Wire(bench.sandbox.described()) as wire:
                go.wait(300)
                limit = time.monotonic() + 300
                while 500 not in statuses and time.monotonic() < limit:
                    statuses.append(wire.http.post(f"/v1/nodes/{node}/holds", data={"hold_id": hold}).status_code)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(apply, nodes[:4]))
        assert set(statuses) == {200, 500}
        assert bench.wire.stats()["parallel holds"] > before
    finally:
        bench.sandbox.faults.set({"slow": 0})
    assert sorted(records.items(hold)) == sorted(nodes)


def test_an_answer_without_a_list_of_holds_is_no_answer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    node = str(bench.document())
    lines = ({"hold_name": "Case"}, {"hold_id": "Case"}, {"hold_id": None}, {"hold_id": 1, "date_applied": "yesterday"})
    for odd in ({"ok": True}, {"data": None}, {"data": {}}, {"data": ["Case"]}, *({"data": [line]} for line in lines)):
        with monkeypatch.context() as patch:
            patch.setattr(otcs_wire.Wire, "_judge", lambda *_, odd=odd, **__: odd)
            with pytest.raises(RepositoryError, match="nothing can be told"):
                bench.session.holds(node)


def test_holds_survive_a_restart(bench: Bench, tmp_path: Path) -> None:
    first = ExtendedEcmSandbox(tmp_path / "ecm").start()
    with Wire(first.described()) as wire, block(first.described()).session() as session:
        node = wire.document("a.txt", b"x", wire.folder("a"))
        session.apply_hold(str(node), "Case")
    first.stop()
    second = ExtendedEcmSandbox(tmp_path / "ecm").start()
    try:
        with block(second.described()).session() as session:
            assert [hold.name for hold in session.holds(str(node))] == ["Case"]
    finally:
        second.stop()
