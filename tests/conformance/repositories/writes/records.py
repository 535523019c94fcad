"""Records, schedules, holds."""

from __future__ import annotations

from datetime import date

from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.repositories.otcs_records import Record, Stage
from tests.conformance.repositories.writes.bench import AWAY, HUNG_UP, Bench, Write

FOLDED = "a stage has no name of its own: nothing at the server keeps one from being added twice"


def document(bench: Bench) -> int:
    return bench.document()


def record(bench: Bench) -> Record:
    return bench.session.records.declare(bench.document(), "Contracts")


def name(bench: Bench) -> str:
    return bench.unique("Named")


def schedule(bench: Bench) -> int:
    return bench.session.records.create_schedule(name(bench))


def stage(bench: Bench) -> tuple[int, int]:
    made = schedule(bench)
    return made, bench.session.records.add_stage(made, Stage(0, "FINAL", years=6))


def hold(bench: Bench) -> int:
    return bench.session.records.create_hold(name(bench))


def free(bench: Bench) -> tuple[int, int]:
    return bench.document(), hold(bench)


def held(bench: Bench) -> tuple[int, int]:
    node, made = free(bench)
    bench.session.records.apply(node, made)
    return node, made


def several_free(bench: Bench) -> tuple[list[int], int]:
    return [bench.document() for _ in range(3)], hold(bench)


def several_held(bench: Bench) -> tuple[list[int], int]:
    nodes, made = several_free(bench)
    bench.session.records.apply_many(nodes, made)
    return nodes, made


def record_stands(bench: Bench, node: int) -> object:
    held = bench.ask(f"v1/nodes/{node}/rmclassifications")["data"]
    told = ("name", "rsi", "record_date", "file_status", "official", "finalized")
    return [{key: line.get(key) for key in told if key != "record_date" or line.get(key, "") < "2020"} for line in held]


def schedules_stand(bench: Bench, made: int) -> object:
    lines = bench.ask("v2/rsis", limit=1000)["results"]["data"]["rsis"]
    told = ("RetStage", "RetYears", "ApprovalFlag")
    return [[line.get(key) for key in told] for line in lines if line["RSIID"] == made]


def named_schedules(bench: Bench, name: str) -> int:
    return sum(line["RSI"] == name for line in bench.ask("v2/rsis", limit=1000)["results"]["data"]["rsis"])


def named_holds(bench: Bench, name: str) -> int:
    return sum(line["HoldName"] == name for line in bench.ask("v2/holds")["results"]["data"]["holds"])


def hold_is_there(bench: Bench, made: int) -> bool:
    return any(line["HoldID"] == made for line in bench.ask("v2/holds")["results"]["data"]["holds"])


def holds_of(bench: Bench, node: int) -> int:
    return len(bench.ask(f"v1/nodes/{node}/holds")["data"])


def holds_and_name(bench: Bench, given: tuple[int, str]) -> object:
    return holds_of(bench, given[0]), named_holds(bench, given[1])


def there(bench: Bench, node: int) -> bool:
    return bench.wire.http.get(f"/v2/nodes/{node}").status_code == 200


def put_on_hold(session: ExtendedEcmSession, given: tuple[int, str]) -> None:
    session.apply_hold(str(given[0]), given[1])


def named_hold(bench: Bench) -> tuple[int, str]:
    given = bench.document(), name(bench)
    put_on_hold(bench.session, given)
    return given


WRITES = (
    Write(
        "declare a record",
        document,
        lambda session, node: session.records.declare(node, "Contracts", record_date=date(2001, 2, 3), schedule="CON-6"),
        record_stands,
    ),
    Write(
        "change a record",
        record,
        lambda session, record: session.records.change(record, file_status="CLOSED", official=True),
        lambda bench, record: record_stands(bench, record.node),
    ),
    Write(
        "undeclare a record",
        record,
        lambda session, record: session.records.undeclare(record),
        lambda bench, record: record_stands(bench, record.node),
    ),
    Write(
        "give a record its schedule",
        record,
        lambda session, record: session.records.assign_schedule(record, "FIN-10"),
        lambda bench, record: record_stands(bench, record.node),
    ),
    Write(
        "make records final",
        record,
        lambda session, record: session.records.finalize([record.node]),
        lambda bench, record: record_stands(bench, record.node),
    ),
    Write("create a schedule", name, lambda session, name: session.records.create_schedule(name), named_schedules),
    Write(
        "add a stage to a schedule",
        schedule,
        lambda session, made: session.records.add_stage(made, Stage(0, "FINAL", years=6)),
        schedules_stand,
        unknown=dict.fromkeys((HUNG_UP, "comes late, after one look", AWAY), FOLDED),
    ),
    Write(
        "approve a stage",
        stage,
        lambda session, given: session.records.approve_stage(*given),
        lambda bench, given: schedules_stand(bench, given[0]),
    ),
    Write("create a hold", name, lambda session, name: session.records.create_hold(name), named_holds),
    Write("remove a hold", hold, lambda session, made: session.records.remove_hold(made), hold_is_there),
    Write(
        "apply a hold",
        free,
        lambda session, given: session.records.apply(*given),
        lambda bench, given: holds_of(bench, given[0]),
    ),
    Write(
        "lift a hold",
        held,
        lambda session, given: session.records.lift(*given),
        lambda bench, given: holds_of(bench, given[0]),
    ),
    Write(
        "apply a hold to many",
        several_free,
        lambda session, given: session.records.apply_many(*given),
        lambda bench, given: [holds_of(bench, node) for node in given[0]],
    ),
    Write(
        "lift a hold from many",
        several_held,
        lambda session, given: session.records.lift_many(*given),
        lambda bench, given: [holds_of(bench, node) for node in given[0]],
    ),
    Write(
        "put a document on a hold that is made for it",
        lambda bench: (bench.document(), name(bench)),
        put_on_hold,
        holds_and_name,
    ),
    Write(
        "take a document out of a hold by its name",
        named_hold,
        lambda session, given: session.lift_hold(str(given[0]), given[1]),
        holds_and_name,
    ),
    Write("remove a document", document, lambda session, node: session.remove(str(node), session.filed_by(str(node))), there),
)
