"""Tools that bring a folder of files from a server or to it, each asked for its best: as many at once as ours may have.

They do less than ours: no digest is kept, nothing is made safe against a power cut, nothing is looked at again, and a name that is
taken is overwritten. All but rclone put as ours does, under a temporary name that is renamed when the file is whole; rclone 1.60 cannot,
so a reader at the partner may see half a file of it. What each is given to do, and how its bytes are compared afterwards, is in
``tests/bench/copying.py``.
"""

from __future__ import annotations

import os
import re
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

from tests.bench.race import Failed
from tests.servers import find
from tests.servers.ftp import PASSWORD, Ftp
from tests.servers.openssh import OpenSsh

SECONDS = 900
"""The longest that one run of a tool may take."""


class Tool(ABC):
    """A program that copies. ``at_once`` is the most connections or files at a time."""

    program: ClassVar[str]
    package: ClassVar[str]
    most_over_ftps: ClassVar[int | None] = None
    """So many files it carries where there are more, and its time is multiplied: one round of it would take longer than all others."""

    def __init__(self, server: OpenSsh | Ftp, scratch: Path, at_once: int) -> None:
        self.server, self.scratch, self.at_once = server, scratch, at_once

    @classmethod
    def lacks(cls, server: OpenSsh | Ftp) -> str:
        """Why it cannot do this job here; "" if it can."""
        return "" if find(cls.program) else f"not installed (Debian's package {cls.package})"

    @classmethod
    def version(cls) -> str:
        """What it says of itself, in short."""
        said = subprocess.run([cls.program, "--version"], capture_output=True, text=True, check=False, timeout=60).stdout
        number = re.search(r"\d+\.\d+[\w.+-]*", said)
        return f"{cls.program} {number[0] if number else '?'}"

    @abstractmethod
    def fetch(self, folder: str, local: Path) -> None:
        """Everything in ``folder`` at the server, into the empty folder ``local``. Raises ``Failed``."""

    @abstractmethod
    def put(self, local: Path, folder: str) -> None:
        """Everything in ``local`` into the empty ``folder`` at the server, by way of temporary names if it can. Raises ``Failed``."""

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """What it says."""
        (said,) = self.run_all([list(arguments)], environment)
        return said

    def run_all(self, commands: Sequence[Sequence[str]], environment: Mapping[str, str] | None = None) -> list[str]:
        """Several processes of the tool at the same time."""
        env = {**os.environ, "HOME": str(self.scratch), **(environment or {})}

        def work(arguments: Sequence[str]) -> str:
            command = [self.program, *arguments]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, errors="replace", timeout=SECONDS, env=env, check=False
                )
            except subprocess.TimeoutExpired as slow:
                raise Failed(f"not done after {SECONDS} s") from slow
            if done.returncode:
                said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
                raise Failed(f"ended with {done.returncode}: {said[-1][:200] if said else 'it says nothing'}")
            return done.stdout

        with ThreadPoolExecutor(len(commands)) as processes:
            return list(processes.map(work, commands))


def temporary(name: str) -> str:
    """What a file is called until it is whole."""
    return f".in.{name}"


def _ssh_options(server: OpenSsh) -> list[str]:
    quiet = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes")
    fast = "Ciphers=aes128-gcm@openssh.com"  # as ours asks for; its own first choice is slower
    return ["-i", str(server.private_key), *(word for option in (*quiet, fast) for word in ("-o", option))]


class OpenSshSftp(Tool):
    """One connection, one file after another; requests within a file are pipelined."""

    program, package = "sftp", "openssh-client"

    @classmethod
    def lacks(cls, server: OpenSsh | Ftp) -> str:
        return super().lacks(server) if isinstance(server, OpenSsh) else "speaks SFTP only"

    @classmethod
    def version(cls) -> str:
        said = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False, timeout=60).stderr
        return f"sftp {said.partition(' ')[0].partition('_')[2].rstrip(',')}"

    def fetch(self, folder: str, local: Path) -> None:
        self.ask(f"get {folder}/* {local}/")

    def put(self, local: Path, folder: str) -> None:
        places = [(f"{local}/{name}", f"{folder}/{temporary(name)}", f"{folder}/{name}") for name in sorted(os.listdir(local))]
        self.ask(*(line for source, part, place in places for line in (f"put {source} {part}", f"rename {part} {place}")))

    def ask(self, *commands: str) -> str:
        """Give it these commands; what it says."""
        assert isinstance(self.server, OpenSsh)
        batch = self.scratch / "sftp.batch"
        batch.write_text("\n".join([*commands, ""]))
        who = f"{self.server.username}@{self.server.host}"
        return self.run("-q", *_ssh_options(self.server), "-P", str(self.server.port), "-b", str(batch), who)


class Lftp(Tool):
    """Several connections."""

    program = package = "lftp"

    def fetch(self, folder: str, local: Path) -> None:
        self._script(f"mirror --parallel={self.at_once} {folder} {local}")

    def put(self, local: Path, folder: str) -> None:
        self._script(f"mirror --reverse --parallel={self.at_once} {local} {folder}")

    def _script(self, command: str) -> None:
        server = self.server
        at = f"{server.host}:{server.port}"
        if isinstance(server, OpenSsh):
            ssh = " ".join(["ssh", "-a", "-x", *_ssh_options(server)])
            lines = [f'set sftp:connect-program "{ssh}"', f"open -u {server.username}, sftp://{at}"]
        else:
            assert server.certificate is not None
            lines = [
                "set ftp:ssl-force true",
                "set ftp:ssl-protect-data true",
                f"set ssl:ca-file {server.certificate.authority}",
                f'open -u {server.username},"{PASSWORD}" ftp://{at}',
            ]
        script = self.scratch / "lftp.script"
        # Its TLS connection to vsftpd breaks now and then in the middle of an upload: by default it would then wait for half a minute.
        patience = (
            "set cmd:fail-exit true",
            "set net:max-retries 5",
            "set net:timeout 60",
            "set net:reconnect-interval-base 1",
            "set xfer:use-temp-file yes",
            f"set xfer:temp-file-name {temporary('*')}",
        )
        script.write_text("\n".join([*patience, *lines, command, "bye", ""]))
        self.run("-f", str(script))


class LftpPut(Lftp):
    """One connection, one file after another."""

    def put(self, local: Path, folder: str) -> None:
        self._script(f"mput -O {folder} {local}/*")


class Rclone(Tool):
    """Several connections. It could compare hashes over SFTP by starting a program at the server for each file; that is left out."""

    program = package = "rclone"

    def __init__(self, server: OpenSsh | Ftp, scratch: Path, at_once: int) -> None:
        super().__init__(server, scratch, at_once)
        obscured = subprocess.run(["rclone", "obscure", PASSWORD], capture_output=True, text=True, check=True, timeout=60)
        self._password = obscured.stdout.strip()
        (scratch / "rclone.conf").touch()

    def fetch(self, folder: str, local: Path) -> None:
        self._copy(self._remote(folder), str(local))

    def put(self, local: Path, folder: str) -> None:
        self._copy(str(local), self._remote(folder))

    def _remote(self, folder: str) -> str:
        server = self.server
        about = {"host": server.host, "port": str(server.port), "user": server.username}
        if isinstance(server, OpenSsh):
            kind, more = "sftp", {"key_file": str(server.private_key), "shell_type": "none", "disable_hashcheck": "true"}
        else:
            # With TLS 1.3 this version reuses no session, and servers that require it refuse every data connection.
            kind, more = "ftp", {"pass": self._password, "explicit_tls": "true", "disable_tls13": "true"}
            more["concurrency"] = str(self.at_once + 1)
        return f":{kind},{','.join(f'{name}={value}' for name, value in (about | more).items())}:{folder}"

    def _copy(self, source: str, target: str) -> None:
        trusted = {} if isinstance(self.server, OpenSsh) else {"SSL_CERT_FILE": str(self._authority)}
        at_once = ("--transfers", str(self.at_once), "--checkers", str(self.at_once), "--retries", "1")
        config = ("--config", str(self.scratch / "rclone.conf"))
        self.run("copy", *config, *at_once, source, target, environment=trusted)

    @property
    def _authority(self) -> Path:
        assert isinstance(self.server, Ftp)
        assert self.server.certificate is not None
        return self.server.certificate.authority


class Curl(Tool):
    """Several connections, each used again for its next file; it must be told every name.

    For FTPS these are several processes: one process mixes up the TLS sessions of its connections, and a server that requires their reuse
    refuses its data connections. With TLS 1.3 this version does so even on one connection. For each file it sits still for 0.2 s and
    longer, between its data connection and the answer on the other, whatever options it is given (without SIZE, PASV for EPSV, another
    number of processes): so it carries a part, and the table says so.
    """

    program = package = "curl"
    most_over_ftps = 100

    @classmethod
    def lacks(cls, server: OpenSsh | Ftp) -> str:
        if missing := super().lacks(server):
            return missing
        said = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=False, timeout=60).stdout
        scheme = "sftp" if isinstance(server, OpenSsh) else "ftps"
        return "" if re.search(rf"^Protocols:.* {scheme}\b", said, re.MULTILINE) else f"this build has no {scheme}"

    def fetch(self, folder: str, local: Path) -> None:
        # It cannot list for itself: its names are given to it, for nothing.
        names = sorted(os.listdir(self.server.root / Path(folder).relative_to(self.server.root)))
        self._transfer([f'url = "{self._url(folder)}/{name}"\noutput = "{local}/{name}"' for name in names])

    def put(self, local: Path, folder: str) -> None:
        names = sorted(os.listdir(local))
        self._transfer([self._upload(local, folder, name) for name in names])

    def _upload(self, local: Path, folder: str, name: str) -> str:
        part, place = f"{folder}/{temporary(name)}", f"{folder}/{name}"
        renames = [f"rename {part} {place}"] if isinstance(self.server, OpenSsh) else [f"RNFR {part}", f"RNTO {place}"]
        after = [f'quote = "-{command}"' for command in renames]  # "-": once the file is there
        return "\n".join([f'upload-file = "{local}/{name}"', f'url = "{self._url(folder)}/{temporary(name)}"', *after])

    def _url(self, folder: str) -> str:
        scheme, before = (
            ("sftp", "") if isinstance(self.server, OpenSsh) else ("ftp", "/%2F")
        )  # how each spells an absolute path
        return f"{scheme}://{self.server.host}:{self.server.port}{before}{folder}"

    def _transfer(self, transfers: Sequence[str]) -> None:
        server = self.server
        if isinstance(server, OpenSsh):
            key = str(server.private_key)
            about = [f'user = "{server.username}:"', f'key = "{key}"', f'pubkey = "{key}.pub"', "insecure"]
            self.run("--parallel", "--parallel-max", str(self.at_once), "--config", self._config(0, about, transfers))
            return
        assert server.certificate is not None
        about = [f'user = "{server.username}:{PASSWORD}"', "ssl-reqd", f'cacert = "{server.certificate.authority}"']
        about += ['tls-max = "1.2"', 'ftp-method = "nocwd"']  # otherwise it changes the folder for every file
        shares = [share for number in range(self.at_once) if (share := transfers[number :: self.at_once])]
        self.run_all([["--config", self._config(number, about, share)] for number, share in enumerate(shares)])

    def _config(self, number: int, about: Sequence[str], transfers: Sequence[str]) -> str:
        """What is to be done after a transfer is an option of that transfer alone, so each has all its options for itself."""
        config = self.scratch / f"curl-{number}.config"
        config.write_text("\nnext\n".join("\n".join(["no-progress-meter", "fail", *about, one]) for one in transfers) + "\n")
        return str(config)


TOOLS: tuple[type[Tool], ...] = (OpenSshSftp, Lftp, Rclone, Curl)
