"""``countersign selftest``: is this installation sound, and does it survive what partners' servers do?"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deployments.trying import Trial, Tried


def selftest(
    rogue: Annotated[
        bool, typer.Option("--rogue", help="Try the endpoints on servers that misbehave, started for this from a checkout.")
    ] = False,
    only: Annotated[list[str] | None, typer.Option(help="With --rogue: this trial only; several times for several.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="With --rogue: say which trials there are; try none.")] = False,
    checkout: Annotated[
        Path | None, typer.Option(help="With --rogue: where Countersign's checkout is; default: where this runs from.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="For programs: one JSON object.")] = False,
) -> None:
    """Look at this installation: settings, reviewed files, ledger, spool, sender, Prefect. Nothing is changed.

    With --rogue: let its endpoints work with SFTP, FTP and FTPS servers that misbehave, each in its own way, and say whether what must
    happen happens. It takes about a minute, and needs no partner, no ledger and no sender: all is on loopback, in a temporary folder.

    Exit code 0: all pass; 1: something failed; 2: it could not be tried.

    Example: countersign selftest --rogue --only disk-full
    """
    if rogue or only or list_:
        _rogue(only, list_, checkout, json_)
    else:
        _installation(json_)


def _installation(as_json: bool) -> None:
    from deployments.selftest import check_installation
    from deployments.selftest_verdicts import State

    sound, told = True, []
    for line in check_installation():
        sound = sound and line.state is not State.FAIL
        told.append({"what": line.what, "state": line.state, "told": line.told, "do": line.do})
        if not as_json:
            typer.echo(f"{line.state:<15} {line.what}: {line.told}")
            if line.do:
                typer.echo(f"{'':15} {'-> ' + line.do}")
    if as_json:
        typer.echo(json.dumps({"passed": sound, "checks": told}, indent=1))
    raise typer.Exit(0 if sound else 1)


def _rogue(only: list[str] | None, list_: bool, checkout: Path | None, as_json: bool) -> None:
    import logging
    import tempfile

    from deployments.rogue import CHECKOUT, Rogues
    from deployments.trials import trials
    from deployments.trying import try_all

    wanted = trials(only)
    if list_:
        _told_list(wanted, as_json)
        return
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each write to a connection that was cut on purpose
    results: list[Tried] = []
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="countersign-selftest-") as place,
        Rogues(Path(place), checkout or CHECKOUT) as rogues,
    ):
        for tried in try_all(rogues, wanted):
            results.append(tried)
            if not as_json:
                _tell(tried)
    failed = [tried for tried in results if not tried.passed]
    if as_json:
        typer.echo(json.dumps(_facts(results), indent=1))
    else:
        typer.echo(_summary(results, time.monotonic() - began))
    raise typer.Exit(1 if failed else 0)


def _told_list(wanted: Sequence[Trial], as_json: bool) -> None:
    if as_json:
        facts = [{"name": one.name, "rows": one.rows, "protocols": one.over, "must": one.must} for one in wanted]
        typer.echo(json.dumps(facts, indent=1))
        return
    for one in wanted:
        typer.echo(f"{one.name}\t{_rows(one)}\t{', '.join(one.over)}\t{one.must}")


def _tell(tried: Tried) -> None:
    trial = tried.trial
    typer.echo(f"{'pass' if tried.passed else 'FAIL'}  {tried.protocol:<4}  {trial.name}  ({_rows(trial)})")
    if not tried.passed:
        typer.echo(f"            must: {trial.must}")
        for shortfall in tried.shortfalls:
            typer.echo(f"            but:  {shortfall}")


def _rows(trial: Trial) -> str:
    if not trial.rows:
        return "no row"
    return f"row{'s' if len(trial.rows) > 1 else ''} {', '.join(map(str, trial.rows))}"


def _summary(results: Sequence[Tried], seconds: float) -> str:
    failed = sum(not tried.passed for tried in results)
    rows = {row for tried in results for row in tried.trial.rows}
    return (
        f"{len({tried.trial.name for tried in results})} trials, {len(results)} over all protocols in {seconds:.0f} s: "
        f"{len(results) - failed} passed, {failed} failed. They stand for {len(rows)} rows of the hostile inputs"
    )


def _facts(results: Sequence[Tried]) -> dict[str, object]:
    return {
        "passed": sum(tried.passed for tried in results),
        "failed": sum(not tried.passed for tried in results),
        "rows": sorted({row for tried in results for row in tried.trial.rows}),
        "trials": [
            {
                "name": tried.trial.name,
                "protocol": tried.protocol,
                "rows": tried.trial.rows,
                "must": tried.trial.must,
                "passed": tried.passed,
                "shortfalls": tried.shortfalls,
                "seconds": round(tried.seconds, 2),
            }
            for tried in results
        ],
    }
