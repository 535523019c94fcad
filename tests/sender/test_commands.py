"""``countersign people`` and ``signoff unlock``, as an operator types them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyotp
import pytest
import typer
from prefect.settings import PREFECT_UI_URL, temporary_settings
from typer.testing import CliRunner, Result

from blocks.errors import ConfigurationError
from blocks.settings import settings
from deployments import people_commands, sender_commands
from deployments.sender.store import Store
from tests.sender.conftest import House

root = typer.Typer()
root.add_typer(people_commands.app, name="people")
root.add_typer(sender_commands.signoff_app, name="signoff")
root.command()(sender_commands.sender)


@dataclass
class Typist:
    """Somebody at a terminal on the sender's machine."""

    house: House

    def run(self, *arguments: str, typed: str = "") -> Result:
        return CliRunner().invoke(root, list(arguments), input=typed)


@pytest.fixture
def typist(quiet_house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Typist]:
    monkeypatch.setenv("COUNTERSIGN_HOME", str(quiet_house.home))
    monkeypatch.setenv("COUNTERSIGN_PROFILES", str(quiet_house.profiles))
    monkeypatch.setenv("COUNTERSIGN_SENDER_STATE", str(quiet_house.state))
    monkeypatch.setenv("COUNTERSIGN_SENDER_SOCKET", str(quiet_house.socket))
    settings.cache_clear()
    yield Typist(quiet_house)
    settings.cache_clear()


def test_enrolled_once_a_code_was_right(typist: Typist, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    # The code that is typed hangs on the key that is shown before: a person with a phone, at one terminal.
    monkeypatch.setattr(people_commands.typer, "prompt", lambda _: pyotp.TOTP(_key(shown)).at(datetime.now(UTC)))
    echo = typer.echo
    monkeypatch.setattr(people_commands.typer, "echo", lambda text="", **more: (shown.append(str(text)), echo(text, **more)))
    result = typist.run("people", "enrol", "rita")
    assert result.exit_code == 0, result.output
    assert "█" in result.output or "▀" in result.output, "a picture to scan"
    with Store(typist.house.state) as store:
        assert list(store.enrolled()) == ["rita"]
        with store.bench() as bench:
            assert bench.seed("rita") == _key(shown)
    again = typist.run("people", "enrol", "rita")
    assert isinstance(again.exception, ConfigurationError)
    assert "--replace" in str(again.exception)
    rehearsal = typist.run("people", "check", "rita")
    assert rehearsal.exit_code == 1, "the code of the enrolment is used up"


def _key(shown: list[str]) -> str:
    return next(line.replace(" ", "") for line in shown if re.fullmatch(r"([A-Z2-7]{4} ){7}[A-Z2-7]{4}", line))


def test_nothing_is_kept_without_a_right_code(typist: Typist) -> None:
    result = typist.run("people", "enrol", "rita", typed="000000\n12\nabc\n")
    assert result.exit_code == 1
    assert "check the code and the phone's clock" in result.output
    with Store(typist.house.state) as store:
        assert store.enrolled() == {}
    stranger = typist.run("people", "enrol", "ritta")
    assert "did you mean 'rita'" in str(stranger.exception)


def test_a_rehearsal_is_judged_as_a_sign_off_and_a_revoked_code_is_worthless(typist: Typist) -> None:
    house = typist.house
    anna = house.newcomer()
    code = house.code(anna)
    assert typist.run("people", "check", anna, typed=f"{code}\n").exit_code == 0
    assert typist.run("people", "check", anna, typed=f"{code}\n").exit_code == 1, "used up"
    assert typist.run("people", "revoke", anna).exit_code == 0
    assert typist.run("people", "revoke", anna).exit_code == 1
    fresh = house.code(anna, timedelta(seconds=30))
    assert typist.run("people", "check", anna, typed=f"{fresh}\n").exit_code == 1


def test_the_list_names_who_cannot_sign(typist: Typist) -> None:
    house = typist.house
    anna = house.newcomer()
    for _ in range(5):
        typist.run("people", "check", anna, typed="000000\n")
    result = CliRunner(env={"COLUMNS": "200"}).invoke(root, ["people", "check"])
    assert result.exit_code == 1
    lines = {line.split()[1]: line for line in result.output.splitlines() if line.startswith("│")}
    assert "has nothing to sign with" in lines["rita"]
    assert "locked" in lines[anna]


def test_the_list_names_whom_no_message_reaches(typist: Typist) -> None:
    path = typist.house.profiles / "notify.yaml"

    def listed() -> str:
        return CliRunner(env={"COLUMNS": "400"}).invoke(root, ["people", "check"]).output

    try:
        assert f"there is no {path}" in listed()
        path.write_text("told: {ann: slack-webhook/ann}")
        silent = {line.split()[1] for line in listed().splitlines() if f"is told of nothing: {path} has no line" in line}
        assert "rita" in silent and "ann" not in silent
    finally:
        path.unlink(missing_ok=True)


def test_unlock_asks_the_running_sender(typist: Typist) -> None:
    house = typist.house
    anna = house.newcomer()
    for _ in range(5):
        typist.run("people", "check", anna, typed="000000\n")
    with house.sender():
        assert typist.run("signoff", "unlock", anna).exit_code == 0
        assert typist.run("signoff", "unlock", anna).exit_code == 1
    with Store(house.state) as store:
        assert store.wrong() == {}


def test_the_inbox_is_a_link_for_each_ui_and_only_of_somebody_known(typist: Typist) -> None:
    with temporary_settings({PREFECT_UI_URL: "http://prefect.example:4200"}):
        told = typist.run("people", "inbox", "rita")
        assert told.output.splitlines() == [
            "classic: http://prefect.example:4200/runs?state=Suspended&tag=awaits:rita",
            "newer: http://prefect.example:4200/v2/runs?state=Suspended&tags=awaits:rita",
        ]
        assert isinstance(typist.run("people", "inbox", "nobody").exception, ConfigurationError)
