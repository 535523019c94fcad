"""A refused document, another try, and what the commands say about it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.world import World, price_list

ROOT = Path(__file__).parents[2]


def countersign(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deployments.cli", *arguments],
        cwd=ROOT,
        env=world.prefect.environment(**world.environment, COLUMNS="250"),
        capture_output=True,
        text=True,
        timeout=400,
    )


def refuse_one(world: World) -> str:
    """A file whose name was not agreed, in the quarantine; its journey."""
    world.agree(naming=r"p\d+\.csv")
    world.leave("prices-7.csv", price_list())
    assert world.run().name == "Nothing filed, 1 quarantined"
    (case,) = world.ledger.cases()
    return case.journey


def test_a_refused_document_goes_through_once_the_rule_is_mended(world: World) -> None:
    journey = refuse_one(world)
    still = countersign(world, "quarantine", "retry", journey, "--comment", "nothing changed")
    assert still.returncode == 1, still.stdout + still.stderr
    assert len(world.ledger.cases()) == 1
    world.agree(naming=r"p.*\.csv")
    done = countersign(world, "quarantine", "retry", journey, "--comment", "the rule was too narrow")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "Filed: 1 filed"), done.stdout + done.stderr
    assert world.filed() == {"prices-7.csv": price_list()}
    assert world.ledger.cases() == []
    retried = [entry.body["comment"] for entry in world.ledger.journey(journey) if entry.kind == "retried"]
    assert retried == ["nothing changed", "the rule was too narrow"]
    world.ledger.verify()


def test_the_commands_tell_what_happened(world: World) -> None:
    journey = refuse_one(world)
    listed = countersign(world, "quarantine", "list", "--partner", "acme")
    assert "prices-7.csv" in listed.stdout and "naming-rule" in listed.stdout
    shown = countersign(world, "quarantine", "show", journey)
    assert '"code": "naming-rule"' in shown.stdout and "quarantine" in shown.stdout
    assert countersign(world, "quarantine", "show", "no-such").returncode == 1
    steps = countersign(world, "journey", "show", journey).stdout
    assert [line.split()[3] for line in steps.splitlines() if line[:3].strip().isdigit()][:3] == [
        "arrived",
        "fetched",
        "judged",
    ]
    found = countersign(world, "ledger", "search", "--name", "PRICES-7")
    assert journey in found.stdout
    assert countersign(world, "ledger", "search", "--name", "nothing like it").returncode == 1
    assert countersign(world, "ledger", "checkpoint").stdout.startswith("checkpoint 1: ")
    verified = countersign(world, "ledger", "verify")
    assert verified.returncode == 0 and "1 signatures checked" in verified.stdout
    assert "MiB freed" in countersign(world, "spool", "collect").stdout


def test_a_local_run_tells_its_outcome_by_its_exit_code(world: World) -> None:
    world.leave("p1.csv", price_list())
    run = ("run", "intake", "--partner", "acme", "--stream", "price-lists", "--local")
    rehearsed = countersign(world, *run, "--dry-run")
    assert (rehearsed.returncode, "Dry run: Filed" in rehearsed.stdout) == (0, True), rehearsed.stderr
    assert countersign(world, *run).returncode == 0
    world.leave("bad.csv", b"x\n")
    assert countersign(world, *run).returncode == 3
    unknown = countersign(world, "run", "intake", "--partner", "acme", "--stream", "no-such", "--local")
    assert unknown.returncode == 1 or "no stream" in unknown.stderr
