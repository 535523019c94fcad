"""C6 Backup and offsite archive: the target's disk is full. No half file has a final name, the journey pauses with one case, and goes on
when there is space again.

On real servers with a disk that is really full (OpenSSH, proftpd), and on a stand-in that answers 452 whenever it is told to.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.schemas.objects import State

from blocks.endpoints.base import TEMPORARY
from blocks.ledger import Case, CaseState
from flows.reconcile import reconcile
from tasks import connections
from tests.release_world import Release, ReleaseWorld
from tests.sandbox.ftp import FtpSandbox
from tests.servers.ftp import PASSWORD, Ftp, proftpd_server
from tests.servers.openssh import openssh_server
from tests.servers.users import need_root

SMALL, LARGE = 64 * 1024, 1024 * 1024
AGREEMENTS = {f"agreement-{n}.pdf": b"%PDF-1.7\n" + os.urandom(300 * 1024) for n in range(1, 5)}
PAUSED = "Waits for room at the partner"


@dataclass(frozen=True, slots=True)
class Vault:
    """Where copies are kept, by somebody whose disk is full."""

    endpoint: Mapping[str, Any]
    folder: str
    """As the profile spells it."""
    place: Path
    make_room: Callable[[], None]

    @property
    def named(self) -> dict[str, bytes]:
        """What stands there under names of its own."""
        there = [path for path in self.place.iterdir() if not path.name.startswith(TEMPORARY.decode())]
        return {path.name: path.read_bytes() for path in there}


@contextmanager
def openssh_vault(folder: Path) -> Iterator[Vault]:
    with openssh_server(folder) as server, small_disk(server.root / "vault") as make_room:
        about = {"host": server.host, "port": server.port, "username": server.username}
        signing_in = {"private_key": f"file:{server.private_key}", "host_keys": [server.fingerprint]}
        place = server.root / "vault"
        yield Vault({"protocol": "sftp", **about, **signing_in}, str(place), place, make_room)


@contextmanager
def proftpd_vault(folder: Path) -> Iterator[Vault]:
    with proftpd_server(folder) as server, small_disk(server.root / "vault") as make_room:
        yield Vault(ftps(server, folder), f"{server.prefix}/vault", server.root / "vault", make_room)


@contextmanager
def sandbox_vault(folder: Path) -> Iterator[Vault]:
    users = {"partner": PASSWORD}
    with FtpSandbox(folder / "root", users=users, tls=True, certificates=folder / "tls", faults={"full": SMALL}) as server:
        (server.root / "vault").mkdir()
        told = Ftp(server.host, server.port, "partner", server.root, "/", server.certificate)
        yield Vault(ftps(told, folder), "/vault", server.root / "vault", server.faults.clear)


def ftps(server: Ftp, folder: Path) -> dict[str, Any]:
    password = folder / "password"
    password.write_text(PASSWORD)
    assert server.certificate is not None
    about = {"host": server.host, "port": server.port, "username": server.username, "password": f"file:{password}"}
    return {"protocol": "ftps", **about, "ca_file": str(server.certificate.authority)}


@contextmanager
def small_disk(place: Path) -> Iterator[Callable[[], None]]:
    """A disk of its own that holds three of the four agreements and not the last; what makes it larger."""
    need_root()
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "vault", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        # Many containers forbid it, also where CI runs: nothing that could be installed.
        pytest.skip(f"no disk can be mounted here, not even by root: {mounted.stderr.strip()}")
    try:
        yield lambda: subprocess.run(["mount", "-o", f"remount,size={4 * LARGE}", str(place)], check=True) and None
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(params=[openssh_vault, proftpd_vault, sandbox_vault], ids=lambda made: made.__name__)
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vault]:
    with request.param(tmp_path / "server") as made:
        yield made


@contextmanager
def never_half(vault: Vault) -> Iterator[None]:
    """Somebody at the partner looks a hundred times a second: what has a name of its own is whole."""
    halves: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            halves.update(name for name, data in vault.named.items() if name in AGREEMENTS and data != AGREEMENTS[name])

    reader = threading.Thread(target=look)
    reader.start()
    with ExitStack() as ending:
        ending.callback(reader.join)
        ending.callback(over.set)
        yield
    assert not halves


def signed(world: ReleaseWorld, vault: Vault) -> tuple[Release, State | None]:
    """A backup of four agreements that somebody has signed, and what came of it."""
    place = {"endpoint": "vault", "folder": vault.folder, "done_file": "{order}.done", "manifest": "{order}.json"}
    world.agree(backups=world.terms(destinations=[place]))
    reviewed = world.profiles / "acme.yaml"
    profile = yaml.safe_load(reviewed.read_text())
    profile["partner"]["endpoints"]["vault"] = {**vault.endpoint, "timeout_seconds": 60}
    reviewed.write_text(yaml.safe_dump(profile))
    bea, release = world.newcomer(), world.order("backups")
    for name, content in AGREEMENTS.items():
        world.keep(release.id, name, content)
    assert release.start() is None
    return release, release.sign(bea)


def case(release: Release) -> Case:
    (found,) = [one for one in connections.ledger().cases(open_only=False) if one.journey == release.history[0].journey]
    return found


def sweep() -> None:
    assert reconcile(patience_seconds=0, return_state=True).is_completed()


def test_a_full_disk_pauses_the_journey_with_one_case_and_it_goes_on_when_there_is_space(
    release_world: ReleaseWorld, vault: Vault
) -> None:
    with never_half(vault):
        release, state = signed(release_world, vault)
        assert state is not None and (state.name, state.is_completed()) == (PAUSED, True), state
        assert re.search("no space left|disk may be full", str(state.message))
        assert vault.named == {}, "all or none: what fitted has no name of its own either"
        assert (case(release).code, case(release).state) == ("partner-full", CaseState.NEW)

        again = release.go()
        assert again is not None and again.name == PAUSED, again
        sweep()
        assert release.told.state is not None and release.told.state.is_scheduled(), "the sweep lets it try again"
        again = release.go()
        assert again is not None and again.name == PAUSED, again
        assert release.kinds.count("in-doubt") == 1 and vault.named == {}

        vault.make_room()
        sweep()
        assert release.told.state is not None and release.told.state.is_scheduled()
        state = release.go()
        assert state is not None and state.name == "Delivered", state
    done = {f"{release.id}.done", f"{release.id}.json"}
    assert vault.named.keys() == AGREEMENTS.keys() | done
    assert {name: data for name, data in vault.named.items() if name not in done} == AGREEMENTS
    assert len(list(vault.place.iterdir())) == len(vault.named), "nothing of ours is left under a temporary name"
    assert case(release).state is CaseState.RESOLVED
    sweep()
    assert release.kinds.count("in-doubt") == 1 and release.kinds[-1] == "closed"
