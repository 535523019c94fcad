"""A refused document, another try, and what the commands say about it."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from deployments.cli import app
from tests.world import World, price_list


def countersign(*arguments: str) -> Result:
    """Run a command in this process, as the terminal would: one of its own would take seconds to import Prefect."""
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "250"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refuse_one(world: World) -> str:
    """A file whose name was not agreed, in the quarantine; its journey."""
    world.agree(naming=r"p\d+\.csv")
    world.leave("prices-7.csv", price_list())
    assert world.run().name == "Nothing filed, 1 quarantined"
    (case,) = world.ledger.cases()
    return case.journey


def test_a_refused_document_goes_through_once_the_rule_is_mended(world: World) -> None:
    journey = refuse_one(world)
    still = countersign("quarantine", "retry", journey, "--comment", "nothing changed")
    assert still.exit_code == 1, still.stdout + still.stderr
    assert len(world.ledger.cases()) == 1
    world.agree(naming=r"p.*\.csv")
    done = countersign("quarantine", "retry", journey, "--comment", "the rule was too narrow")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "Filed: 1 filed"), done.stdout + done.stderr
    assert world.filed() == {"prices-7.csv": price_list()}
    assert world.ledger.cases() == []
    retried = [entry.body["comment"] for entry in world.ledger.journey(journey) if entry.kind == "retried"]
    assert retried == ["nothing changed", "the rule was too narrow"]
    world.ledger.verify()


def test_the_commands_tell_what_happened(world: World) -> None:
    journey = refuse_one(world)
    listed = countersign("quarantine", "list", "--partner", "acme")
    assert "prices-7.csv" in listed.stdout and "naming-rule" in listed.stdout
    shown = countersign("quarantine", "show", journey)
    assert '"code": "naming-rule"' in shown.stdout and "quarantine" in shown.stdout
    assert countersign("quarantine", "show", "no-such").exit_code == 1
    steps = countersign("journey", "show", journey).stdout
    assert [line.split()[3] for line in steps.splitlines() if line[:3].strip().isdigit()][:3] == [
        "arrived",
        "fetched",
        "judged",
    ]
    found = countersign("ledger", "search", "--name", "PRICES-7")
    assert journey in found.stdout
    assert countersign("ledger", "search", "--name", "nothing like it").exit_code == 1
    assert countersign("ledger", "checkpoint").stdout.startswith("checkpoint 1: ")
    verified = countersign("ledger", "verify")
    assert verified.exit_code == 0 and "1 signatures checked" in verified.stdout
    assert "MiB freed" in countersign("spool", "collect").stdout


def test_a_local_run_tells_its_outcome_by_its_exit_code(world: World) -> None:
    world.leave("p1.csv", price_list())
    run = ("run", "intake", "--partner", "acme", "--stream", "price-lists", "--local")
    rehearsed = countersign(*run, "--dry-run")
    assert (rehearsed.exit_code, "Dry run: Filed" in rehearsed.stdout) == (0, True), rehearsed.stderr
    assert countersign(*run).exit_code == 0
    world.leave("bad.csv", b"x\n")
    assert countersign(*run).exit_code == 3
    unknown = countersign("run", "intake", "--partner", "acme", "--stream", "no-such", "--local")
    assert unknown.exit_code == 1 or "no stream" in unknown.stderr
