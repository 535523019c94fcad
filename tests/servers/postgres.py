"""A real PostgreSQL for the tests: a cluster of its own in a temporary folder, on a free loopback port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.servers import find, free_port, need, running

# Debian keeps the server's programs beside the version, outside the PATH.
BINARIES = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty server while the block runs. Safety of the disk is switched off: it is thrown away."""
    initdb, server = need("initdb", "postgresql", *BINARIES), need("postgres", "postgresql", *BINARIES)
    as_user, owner = _unprivileged()
    # Not pytest's folder: that is closed to the user we become.
    folder = Path(tempfile.mkdtemp(prefix="countersign-postgres-"))
    try:
        if owner is not None:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        cluster = folder / "cluster"
        subprocess.run(
            [
                *as_user,
                initdb,
                "-D",
                str(cluster),
                "-U",
                "countersign",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            cwd=folder,
            timeout=120,
        )
        port = free_port()
        url = f"postgresql://countersign@127.0.0.1:{port}/postgres"
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": "100",
        }
        command = [*as_user, server, "-D", str(cluster), *(f"--{name}={value}" for name, value in options.items())]
        with running(command, log=folder.with_suffix(".log"), ready=lambda: _answers(url), seconds=180, cwd=folder) as process:
            try:
                yield url
            finally:
                # SIGTERM would wait for clients that forgot to leave; SIGINT ends their sessions.
                process.send_signal(signal.SIGINT)
                process.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_suffix(".log").unlink(missing_ok=True)


def _answers(url: str) -> bool:
    # It listens before it lets anybody in ("the database system is starting up").
    try:
        psycopg.connect(url, connect_timeout=10).close()
    except psycopg.OperationalError:
        return False
    return True


def _unprivileged() -> tuple[list[str], pwd.struct_passwd | None]:
    """PostgreSQL refuses to run as root: the words before a command that change the user, and who that is."""
    if os.geteuid() != 0:
        return [], None
    owner = next(entry for entry in pwd.getpwall() if entry.pw_name in ("postgres", "nobody"))
    setpriv = find("setpriv") or need("runuser", "util-linux")
    if setpriv.endswith("setpriv"):
        # It becomes the command, so the process id that we end is the server's own.
        return [setpriv, f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"], owner
    return [setpriv, "-u", owner.pw_name, "--"], owner
