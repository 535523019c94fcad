"""2 GiB over each protocol, down and up, over a line that breaks twice: every byte arrives, none is brought again that was there,
and memory stays flat. ``COUNTERSIGN_SOAK_MIB=96`` makes a rehearsal of it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.ftp import PASSWORD, Ftp, proftpd_server, pyftpdlib_server, vsftpd_server
from tests.servers.line import AT, TO, Line
from tests.servers.openssh import openssh_server

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3000)]

ROOT = Path(__file__).parents[2]
MIB = 1024**2
SIZE = int(os.environ.get("COUNTERSIGN_SOAK_MIB", "2048")) * MIB + 17
AGAIN = 12 * MIB
"""At each break so much may be on its way, or be sent again to be sure: SFTP goes back by 4 MiB of writes under way."""
MOST_MIB = 150
PORTS = 24


@dataclass(frozen=True, slots=True)
class Partner:
    """A running server, and how it is reached over the line."""

    protocol: str
    agreed: dict[str, Any]
    root: Path
    prefix: str
    ports: range
    """Control and data connections."""


@contextmanager
def _sftp(place: Path, ports: range) -> Iterator[Partner]:
    with openssh_server(place) as server:
        agreed = {
            "host": AT,
            "port": server.port,
            "username": server.username,
            "private_key": f"file:{server.private_key}",
            "host_keys": [server.fingerprint],
        }
        yield Partner("sftp", agreed, server.root, str(server.root), range(server.port, server.port + 1))


def _ftp(server: Ftp, ports: range) -> Partner:
    agreed = {"host": AT, "port": server.port, "username": server.username, "password": "env:PARTNER_PASSWORD"}
    # The certificate bears the server's own address, not the line's: it is pinned.
    more = {"certificates": [server.certificate.fingerprint]} if server.certificate else {"unprotected": "accepted"}
    return Partner("ftps" if server.certificate else "ftp", agreed | more, server.root, server.prefix, ports)


@contextmanager
def _vsftpd(place: Path, ports: range) -> Iterator[Partner]:
    with vsftpd_server(place, f"pasv_min_port={ports[0]}", f"pasv_max_port={ports[-1]}") as server:
        yield _ftp(server, ports)


@contextmanager
def _proftpd(place: Path, ports: range) -> Iterator[Partner]:
    with proftpd_server(place, f"PassivePorts {ports[0]} {ports[-1]}") as server:
        yield _ftp(server, ports)


@contextmanager
def _pyftpdlib(place: Path, ports: range) -> Iterator[Partner]:
    with pyftpdlib_server(place, "--ports", str(ports[0]), str(ports[-1])) as server:
        yield _ftp(server, ports)


SERVERS: dict[str, Callable[[Path, range], Any]] = {
    "sftp on OpenSSH": _sftp,
    "ftps on vsftpd": _vsftpd,
    "ftps on proftpd": _proftpd,
    "ftp on pyftpdlib": _pyftpdlib,
}


def _free_ports() -> range:
    """Ports in a row that nobody uses, at the server and at the line."""
    while True:
        first = random.randint(15_000, 32_000)
        ports = range(first, first + PORTS)
        with suppress(OSError), ExitStack() as probes:
            for port in ports:
                for host in (AT, TO):
                    probes.enter_context(socket.socket()).bind((host, port))
            return ports


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Bytes that repeat nowhere, and their digest."""
    path, digest = tmp_path_factory.mktemp("film") / "film.bin", hashlib.sha256()
    with path.open("wb") as file:
        left = SIZE
        while left:
            block = random.randbytes(min(MIB, left))
            digest.update(block)
            left -= file.write(block)
    yield path, digest.hexdigest()
    path.unlink()


@pytest.mark.parametrize("way", ["down", "up"])
@pytest.mark.parametrize("server", SERVERS)
def test_a_large_file_over_a_line_that_breaks_twice(
    server: str, way: str, film: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)
    source, digest = film
    name, spool = ".countersign-0123456789abcdef", tmp_path / "spool"
    with SERVERS[server](tmp_path / "server", _free_ports()) as partner:
        there = partner.root / name
        if way == "down":
            os.link(source, there)
        ports = {partner.agreed["port"], *partner.ports}
        with Line(ports, cuts=(SIZE * 3 // 10, SIZE * 6 // 10)) as line:
            command = [sys.executable, "-m", "tests.soak.carry", way, partner.protocol, json.dumps(partner.agreed)]
            command += [partner.prefix, name, str(spool), str(source), str(SIZE), digest]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=2500, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        told = json.loads(done.stdout.splitlines()[-1])
        carried, peak = line.carried / MIB, told["peak_mib"]
        print(f"{server} {way}: {SIZE / MIB:.0f} MiB, {told['breaks']} breaks, {carried:.0f} MiB carried, peak {peak:.0f} MiB")
        assert line.broken == told["breaks"] == 2
        arrived = spool / "store" / digest[:2] / digest if way == "down" else there
        with arrived.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == told["digest"] == digest
        assert line.carried < SIZE * 1.02 + 2 * AGAIN, "what was there was brought again"
        assert peak < MOST_MIB
        arrived.unlink()
