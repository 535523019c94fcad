"""The production files: users apart, secrets where they belong, and commands that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer

from deployments.cli import app
from tests.servers import need

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deployments/production"
SERVICES = ("server", "worker", "sender", "sweep")
README = (FOLDER / "README.md").read_text(encoding="utf-8")


def unit(name: str) -> dict[str, list[str]]:
    """The settings of a service; a setting may stand there several times."""
    told: dict[str, list[str]] = {}
    for line in (FOLDER / f"countersign-{name}.service").read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            told.setdefault(key, []).append(value)
    return told


UNITS = {name: unit(name) for name in SERVICES}


def test_each_service_has_a_user_of_its_own_that_the_instructions_make() -> None:
    users = [UNITS[name]["User"][0] for name in SERVICES]
    assert len(set(users)) == len(users) and "root" not in users
    made = set(re.findall(r"countersign-(?:server|worker|sender|ops)", README))
    assert set(users) <= made and all(f"| `{user}` |" in README for user in users)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_no_more_than_it_must(name: str) -> None:
    told = UNITS[name]
    wanted = {
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "ProtectProc": "invisible",
        "PrivateTmp": "yes",
        "RestrictSUIDSGID": "yes",
    }
    assert {key: told.get(key) for key in wanted} == {key: [value] for key, value in wanted.items()}
    assert "PrivateUsers" not in told, "the sender reads its callers' user ids from the socket"
    assert told["UMask"] == ["0027" if name == "worker" else "0077"], "only the spool is read by another user"
    assert told["StateDirectoryMode"] == ["0750" if name == "worker" else "0700"]


def test_only_the_sender_is_given_what_opens_the_partners_folders() -> None:
    assert [name for name in SERVICES if "LoadCredential" in UNITS[name]] == ["sender"]
    (given,) = UNITS["sender"]["LoadCredential"]
    assert given.partition(":")[2].startswith("/etc/countersign/credentials/")
    assert "EnvironmentFile" not in UNITS["sender"], "nothing that a worker has too"
    files = [UNITS[name]["EnvironmentFile"][0] for name in SERVICES if name != "sender"]
    assert len(set(files)) == len(files) and all(Path(file).name in README for file in files)
    for name in ("server", "worker", "sweep"):
        (closed,) = UNITS[name]["InaccessiblePaths"]
        assert "-/etc/countersign/credentials" in closed.split() and "-/var/lib/countersign-sender" in closed.split()


def test_socket_spool_and_reviewed_files_are_the_same_for_all() -> None:
    def environment(name: str) -> dict[str, str]:
        return dict(pair.split("=", 1) for line in UNITS[name]["Environment"] for pair in line.split())

    for setting in ("COUNTERSIGN_PROFILES", "COUNTERSIGN_SENDER_SOCKET"):
        assert len({environment(name)[setting] for name in ("worker", "sender", "sweep")}) == 1
    assert environment("sender")["COUNTERSIGN_SENDER_SOCKET"].startswith(f"/run/{UNITS['sender']['RuntimeDirectory'][0]}/")
    assert f"--spool {environment('worker')['COUNTERSIGN_HOME']}/spool" in UNITS["sender"]["ExecStart"][0]
    assert {UNITS[name]["Group"][0] for name in ("worker", "sender", "sweep")} == {"countersign"}
    assert "--limit" not in UNITS["worker"]["ExecStart"][0]


@pytest.mark.parametrize("name", ["sender", "sweep"])
def test_our_own_commands_are_known_with_these_options(name: str) -> None:
    (line,) = UNITS[name]["ExecStart"]
    inner = shlex.split(line)[-1] if line.startswith("/bin/sh") else line
    words = shlex.split(re.sub(r"\$\$\([^)]*\)", "7", inner).removeprefix("exec "))
    assert words[0] == "/srv/countersign/.venv/bin/countersign"
    command: click.Command = typer.main.get_command(app)
    context, rest = click.Context(command), words[1:]
    while isinstance(command, click.Group):
        found = command.get_command(context, rest.pop(0))
        assert found is not None, line
        command = found
    command.make_context(str(command.name), rest)  # fails on an option that does not exist


def test_every_file_is_in_the_instructions() -> None:
    for file in FOLDER.iterdir():
        kind = f"countersign-*{file.suffix}"
        assert file.name == "README.md" or kind in README


def test_systemd_takes_the_files(tmp_path: Path) -> None:
    program = need("systemd-analyze", "systemd")
    copies = []
    for file in FOLDER.glob("countersign-*"):
        # Programs must exist: those of this environment stand for those in production.
        text = file.read_text(encoding="utf-8").replace("/srv/countersign/.venv/bin", str(Path(sys.executable).parent))
        copy = tmp_path / file.name
        copy.write_text(text.replace("/srv/countersign", str(ROOT)), encoding="utf-8")
        copies.append(str(copy))
    done = subprocess.run([program, "verify", "--man=no", *copies], capture_output=True, text=True, timeout=120, check=False)
    ours = [line for line in done.stderr.splitlines() if "countersign-" in line]
    assert done.returncode == 0 and not ours, done.stderr
