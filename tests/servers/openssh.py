"""A real OpenSSH server on loopback, with its own configuration, host key and login key. Works as root and without."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers import free_port, listening, need, running

SFTP_SERVERS = "/usr/lib/openssh:/usr/libexec/openssh:/usr/lib/ssh:/usr/libexec"


@dataclass(frozen=True, slots=True)
class OpenSsh:
    """Where the server is and how to sign in. ``root`` is a folder on this machine that the account may use."""

    host: str
    port: int
    username: str
    private_key: Path
    fingerprint: str
    root: Path


@contextmanager
def openssh_server(folder: Path, *lines: str) -> Iterator[OpenSsh]:
    """Run sshd while the block runs; ``lines`` are added to its configuration."""
    sshd, keygen = need("sshd", "openssh-server"), need("ssh-keygen", "openssh-client")
    folder.mkdir(parents=True, exist_ok=True)
    root, host_key, login_key = folder / "root", folder / "host_key", folder / "login_key"
    root.mkdir()
    for key in (host_key, login_key):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where root's sshd locks its pre-login child in
    port = free_port()
    config = folder / "sshd_config"
    config.write_text(
        "\n".join(
            [
                *lines,  # the first value of a keyword counts
                f"Port {port}",
                "ListenAddress 127.0.0.1",
                f"HostKey {host_key}",
                f"PidFile {folder / 'sshd.pid'}",
                f"AuthorizedKeysFile {login_key}.pub",
                "PasswordAuthentication no",
                "KbdInteractiveAuthentication no",
                "PermitRootLogin prohibit-password",
                "StrictModes no",
                "UsePAM no",
                "UseDNS no",
                "MaxStartups 100",
                "LogLevel VERBOSE",
                # A program would be started by the account's shell, after whatever its start-up files do: a quarter of a second here.
                *([] if any(line.startswith("Subsystem") for line in lines) else ["Subsystem sftp internal-sftp"]),
                "",
            ]
        )
    )
    shown = subprocess.run([keygen, "-lf", f"{host_key}.pub"], check=True, capture_output=True, text=True).stdout
    fingerprint = shown.split()[1]
    with running([sshd, "-D", "-e", "-f", str(config)], log=folder / "sshd.log", ready=lambda: listening(port)):
        yield OpenSsh("127.0.0.1", port, getpass.getuser(), login_key, fingerprint, root)


@pytest.fixture(scope="session")
def openssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSsh]:
    """One OpenSSH server for the whole run."""
    with openssh_server(tmp_path_factory.mktemp("openssh") / "server") as server:
        yield server
