"""The command line itself: quick, with an example for every command, and one message for what went wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from blocks.errors import ConfigurationError
from deployments.cli import OneMessage, app


def commands(of: typer.Typer, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command of the tree, as it is typed."""
    for group in of.registered_groups:
        assert group.typer_instance is not None and group.name
        yield from commands(group.typer_instance, (*path, group.name))
    for command in of.registered_commands:
        assert command.callback is not None
        yield (*path, command.name or command.callback.__name__.replace("_", "-"))


@pytest.mark.parametrize("command", list(commands(app)), ids=" ".join)
def test_every_command_explains_itself_with_an_example(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert f"countersign {' '.join(command)}" in result.output.partition("Example:")[2]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from deployments.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('prefect', 'pydantic', 'paramiko', 'httpx', 'sqlalchemy', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_known_error_is_one_message_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = typer.Typer(cls=OneMessage, pretty_exceptions_enable=False)

    @failing.callback()
    def main(debug: bool = False) -> None: ...

    @failing.command()
    def fail(known: bool) -> None:
        raise ConfigurationError("acme.yaml: line 3: what is wrong") if known else ZeroDivisionError("a surprise")

    told = CliRunner().invoke(failing, ["fail", "True"])
    assert (told.exit_code, told.stderr, told.stdout) == (2, "countersign: acme.yaml: line 3: what is wrong\n", "")
    assert isinstance(CliRunner().invoke(failing, ["--debug", "fail", "True"]).exception, ConfigurationError)
    assert isinstance(CliRunner().invoke(failing, ["fail", "False"]).exception, ZeroDivisionError)
