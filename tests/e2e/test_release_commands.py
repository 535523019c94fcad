"""``countersign run release`` and ``signoff show``, as somebody types them, against a real Prefect server and a real sender."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed, Suspended
from typer.testing import CliRunner, Result

from deployments.cli import app
from deployments.run_commands import _handed_over, _released
from tasks import connections
from tests.release_world import Release, ReleaseWorld

PRICES = b"sku,price\n1,2.50\n"


def countersign(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def deployed(release_world: ReleaseWorld) -> Iterator[ReleaseWorld]:
    """The stream's deployment, as ``countersign deploy`` would name it."""
    from flows.release import release

    client = release_world.client
    made = client.create_deployment(client.create_flow(release), "acme-prices")
    yield release_world
    client.delete_deployment(made)


def asked(release: Release, *more: str) -> Result:
    order = ("--order", release.id, "--requester", "rita")
    return countersign("run", "release", "--partner", "acme", "--stream", "prices", *order, "--local", *more)


def test_asking_ends_with_4_where_a_sign_off_is_awaited_and_the_record_shows_the_way(deployed: ReleaseWorld) -> None:
    bea = deployed.newcomer()
    release = deployed.order(prices=PRICES)
    told = asked(release)
    assert told.exit_code == 4, told.output
    run = told.output.splitlines()[0].rpartition("/")[2]
    assert f"/runs/flow-run/{run}" in told.output.splitlines()[-1]
    release.run = UUID(run)

    waits = countersign("signoff", "show", release.id)
    assert waits.exit_code == 0 and "waiting, 0 of 1 signed" in waits.output
    assert release.package.digits in waits.output and release.package.digest in waits.output
    may_sign = next(line for line in waits.output.splitlines() if line.strip().startswith("may sign"))
    assert bea in may_sign and "rita" not in may_sign, "whoever asked is not among them"
    assert "prices.csv, 17 bytes" in waits.output and "until" in waits.output
    assert countersign("signoff", "show", run).output == waits.output

    assert release.sign(bea, deployed.wrong_code(bea)) is None
    refused = countersign("signoff", "show", release.id).output
    assert "check the code and the phone's clock" in refused and f"{bea}:" not in refused

    assert release.sign(bea) is not None
    after = countersign("signoff", "show", release.id).output
    assert "Delivered" in after.splitlines()[0]
    assert f"{bea}: approve, as release, by code" in after
    assert "approved ✓ read ✓ sent ✓ found ✓  prices.csv" in after and "may sign" not in after

    again = asked(release)
    assert again.exit_code == 0, "what was delivered is delivered, and nothing is sent anew"
    assert list(release.received) == ["prices.csv"]


def test_a_rejected_order_ends_with_3(deployed: ReleaseWorld) -> None:
    bea = deployed.newcomer()
    release = deployed.order(prices=PRICES)
    run = asked(release).output.splitlines()[0].rpartition("/")[2]
    release.run = UUID(run)
    release.sign(bea, decision="reject", comment="last year's prices")
    again = asked(release)
    assert again.exit_code == 3 and "last year's prices" in again.output
    assert release.received == {}


def test_an_order_without_documents_ends_with_3(deployed: ReleaseWorld) -> None:
    deployed.keep("o-none", "secret.csv", PRICES, categories={})
    told = countersign("run", "release", "--partner", "acme", "--stream", "prices", "--order", "o-none", "--local")
    assert told.exit_code == 3 and "Nothing to release" in told.output


def test_a_stream_that_is_not_deployed_says_what_to_do(release_world: ReleaseWorld) -> None:
    told = countersign("run", "release", "--partner", "acme", "--stream", "pair")
    assert told.exit_code == 2 and "run 'countersign deploy acme'" in told.stderr


def test_what_the_ledger_does_not_know_ends_with_1(release_world: ReleaseWorld) -> None:
    told = countersign("signoff", "show", str(uuid4()))
    assert told.exit_code == 1 and "no such order or run" in told.stderr


@pytest.mark.parametrize(
    ("state", "code"),
    [
        pytest.param(Suspended(), 4, id="waits"),
        pytest.param(Completed(name="Delivered"), 0, id="delivered"),
        pytest.param(Completed(name="Delivered, 1 collected before proof"), 0, id="collected by the partner already"),
        pytest.param(Completed(name="Expired"), 3, id="expired"),
        pytest.param(Completed(name="In doubt, 1 unknown"), 3, id="in doubt"),
        pytest.param(Failed(name="Not sent"), 1, id="failed"),
        pytest.param(Cancelled(), 1, id="cancelled"),
    ],
)
def test_the_exit_code_tells_what_became_of_it(state: State, code: int) -> None:
    assert _released(state) == code


@pytest.mark.parametrize(
    ("state", "code"),
    [
        pytest.param(Completed(name="Filed"), 0, id="done"),
        pytest.param(Completed(name="Nothing new"), 0, id="nothing was to do"),
        pytest.param(Completed(name="Filed, 1 refused"), 3, id="a person is asked"),
        pytest.param(Completed(name="Nothing filed, 1 in doubt"), 3, id="a person is to look"),
        pytest.param(Completed(name="Filed, 2 waits"), 1, id="it is to be run again"),
        pytest.param(Completed(name="Filed, 1 refused, 2 waits"), 1, id="a person is asked, and it is to be run again"),
        pytest.param(Failed(name="Waits"), 1, id="all waits"),
    ],
)
def test_the_exit_code_of_a_handover(state: State, code: int) -> None:
    assert _handed_over(state) == code


def test_the_self_test_of_a_running_installation_passes(release_world: ReleaseWorld) -> None:
    connections.ledger()  # made, whatever the tests before have done
    told = countersign("selftest", "--json")
    assert told.exit_code == 0, told.output
    checks = {check["what"]: check for check in json.loads(told.output)["checks"]}
    assert {check["state"] for check in checks.values()} == {"pass"}
    assert str(release_world.socket) in checks["sender"]["told"]
    assert "version" in checks["prefect"]["told"]
