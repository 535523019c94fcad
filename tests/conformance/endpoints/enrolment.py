"""Which endpoints the suite asks, how their servers are started, and which differences we tolerate, with the reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal
from unittest import mock

from paramiko.packet import Packetizer

from blocks.endpoints import sftp_packetizer
from blocks.endpoints.base import Endpoint
from blocks.endpoints.folder import Folder
from blocks.endpoints.ftp import Ftp as FtpEndpoint
from blocks.endpoints.ftp import Ftps
from blocks.endpoints.sftp import Sftp, SftpSession
from tests.sandbox import sandbox
from tests.sandbox.sftp import SftpSandbox
from tests.servers.ftp import PASSWORD as FTP_PASSWORD
from tests.servers.ftp import Ftp, proftpd_server, pyftpdlib_server, vsftpd_server
from tests.servers.openssh import openssh_server


@dataclass(frozen=True, slots=True)
class Shore:
    """A running server, the endpoint that leads to it, and the folder on this machine that is its root."""

    endpoint: Endpoint
    root: Path
    prefix: str
    """How the endpoint spells the root."""
    sandbox: SftpSandbox | None = None


@dataclass(frozen=True, slots=True)
class Enrolment:
    kind: type[Endpoint]
    start: Callable[[Path], AbstractContextManager[Shore]]
    tolerated: Mapping[str, str] = field(default_factory=dict)
    """Name of a check -> why this server need not keep it."""
    unspeakable: Mapping[bytes, str] = field(default_factory=dict)
    """A hostile name -> why this server cannot carry it."""
    crowd: int = 20_000
    """Entries in the listing that must take bounded memory."""
    rename_replaces: bool = True
    """This server can replace a file in one step; what is found out about it must say the same."""


@contextmanager
def _folder(place: Path) -> Iterator[Shore]:
    place.mkdir()
    yield Shore(Folder(root=place), place, "")


@contextmanager
def _openssh(place: Path, *lines: str, engine: Literal["pipelined", "stock"] = "pipelined") -> Iterator[Shore]:
    with openssh_server(place, *lines) as server:
        endpoint = Sftp(
            host=server.host,
            port=server.port,
            username=server.username,
            private_key=f"file:{server.private_key}",
            host_keys=(server.fingerprint,),
            engine=engine,
            timeout_seconds=60,
        )
        yield Shore(endpoint, server.root, str(server.root))


class PlainPackets(Sftp):
    """As where paramiko is of a version whose inside we do not know: every packet goes its own way."""

    _block_type_slug = "plain-packets"

    def session(self) -> SftpSession:
        with mock.patch.object(sftp_packetizer, "packetizer", lambda connection: Packetizer):
            return super().session()


@contextmanager
def _bare_openssh(place: Path) -> Iterator[Shore]:
    """With the protocol as it was drafted, and no extension; and with paramiko's own packets."""
    bare = "Subsystem sftp internal-sftp -P limits,posix-rename,statvfs,fstatvfs,hardlink,fsync,lsetstat"
    with _openssh(place, bare) as shore:
        yield replace(shore, endpoint=PlainPackets.model_validate(shore.endpoint.model_dump()))


@contextmanager
def _sandbox(
    place: Path, faults: Mapping[str, float] | None = None, engine: Literal["pipelined", "stock"] = "pipelined"
) -> Iterator[Shore]:
    os.environ["CONFORMANCE_SFTP_PASSWORD"] = "not a secret"
    with SftpSandbox(place, users={"partner": "not a secret"}, faults=dict(faults or {})) as server:
        endpoint = Sftp(
            host=server.host,
            port=server.port,
            username="partner",
            password="env:CONFORMANCE_SFTP_PASSWORD",
            host_keys=(server.fingerprint,),
            engine=engine,
            timeout_seconds=60,
        )
        yield Shore(endpoint, server.root, "/", server)


def _ftp(server: Callable[[Path], AbstractContextManager[Ftp]]) -> Callable[[Path], AbstractContextManager[Shore]]:
    @contextmanager
    def start(place: Path) -> Iterator[Shore]:
        os.environ["CONFORMANCE_FTP_PASSWORD"] = FTP_PASSWORD
        with server(place) as running:
            agreed: dict[str, object] = {
                "host": running.host,
                "port": running.port,
                "username": running.username,
                "password": "env:CONFORMANCE_FTP_PASSWORD",
                "timeout_seconds": 60,
            }
            if running.certificate is None:
                yield Shore(FtpEndpoint.model_validate(agreed | {"unprotected": "accepted"}), running.root, running.prefix)
            else:
                trusted = {"ca_file": running.certificate.authority}
                yield Shore(Ftps.model_validate(agreed | trusted), running.root, running.prefix)

    return start


@contextmanager
def _ftp_sandbox(place: Path) -> Iterator[Ftp]:
    with sandbox("ftp", data=place, options=("--user", "partner", "--password", FTP_PASSWORD)) as services:
        told = services["ftp"]
        yield Ftp(told["host"], told["port"], told["user"], Path(told["root"]), "/", None)


_LINE_BREAKS = {b"line\nbreak\r\n.csv": "FTP ends commands and listed names with a line break"}
_NOT_UTF8 = dict.fromkeys((b"\xff\xfe not utf-8.csv", b"M\xfcller.csv"), "pyftpdlib puts question marks for what is not UTF-8")
_FOLLOWS_LINKS = {
    "kinds_are_told_and_only_files_are_touched": "pyftpdlib as it comes tells in MLSD what a link leads to",
}
_LOST_LINKS = {
    "a_link_that_leads_nowhere_is_told": "this server's MLSD leaves such links out; nothing touches them all the same"
}
_PIPES = {"a_pipe_is_told_and_never_opened": "this server's MLSD calls a pipe a file; it is not opened all the same"}
_TWINS = {
    "a_twin_of_the_same_size_and_time_that_takes_its_place_is_noticed": (
        "without MLST an FTP server tells size and seconds and nothing else; what was read is one whole file all the same"
    )
}

_SFTP = {
    "a_twin_of_the_same_size_and_time_that_takes_its_place_is_noticed": (
        "SFTP version 3 tells size, owner, mode and seconds of a file and nothing else; what was read is one whole file all the same"
    )
}

_IN_PROCESS = {"a_long_listing_takes_little_memory": "the sandbox runs in this process and builds its whole listing there"}
_AWKWARD = {"short-reads": 20_000, "reorder": 1, "max-handles": 3, "no-posix-rename": 1}
_STINGY_LIAR = {"max-handles": 1, "lying-extensions": 1}

ENROLLED: Mapping[str, Enrolment] = {
    "folder": Enrolment(Folder, _folder),
    "ftp on pyftpdlib": Enrolment(
        FtpEndpoint,
        _ftp(pyftpdlib_server),
        tolerated=_FOLLOWS_LINKS | _LOST_LINKS | _PIPES,
        unspeakable=_LINE_BREAKS | _NOT_UTF8,
        crowd=10_000,
    ),
    "ftps on pyftpdlib": Enrolment(
        Ftps,
        _ftp(partial(pyftpdlib_server, tls=True)),
        tolerated=_FOLLOWS_LINKS | _LOST_LINKS | _PIPES,
        unspeakable=_LINE_BREAKS | _NOT_UTF8,
        crowd=10_000,
    ),
    "ftp on the sandbox": Enrolment(FtpEndpoint, _ftp(_ftp_sandbox), unspeakable=_LINE_BREAKS, crowd=10_000),
    "ftps on vsftpd": Enrolment(Ftps, _ftp(vsftpd_server), tolerated=_TWINS, unspeakable=_LINE_BREAKS, crowd=10_000),
    "ftps on proftpd": Enrolment(
        Ftps, _ftp(proftpd_server), tolerated=_LOST_LINKS | _PIPES, unspeakable=_LINE_BREAKS, crowd=10_000
    ),
    "sftp on OpenSSH": Enrolment(Sftp, _openssh, tolerated=_SFTP, crowd=100_000),
    "sftp on OpenSSH without extensions": Enrolment(Sftp, _bare_openssh, tolerated=_SFTP, crowd=10_000, rename_replaces=False),
    "stock sftp on OpenSSH": Enrolment(Sftp, partial(_openssh, engine="stock"), tolerated=_SFTP, crowd=10_000),
    "sftp on the sandbox": Enrolment(Sftp, _sandbox, tolerated=_SFTP | _IN_PROCESS),
    "sftp on the sandbox, awkward": Enrolment(
        Sftp, partial(_sandbox, faults=_AWKWARD), tolerated=_SFTP | _IN_PROCESS, crowd=5_000, rename_replaces=False
    ),
    "sftp on the sandbox, stingy liar": Enrolment(
        Sftp, partial(_sandbox, faults=_STINGY_LIAR), tolerated=_SFTP | _IN_PROCESS, crowd=5_000, rename_replaces=False
    ),
    "stock sftp on the sandbox, awkward": Enrolment(
        Sftp,
        partial(_sandbox, faults=_AWKWARD | {"forgets-waiting": 1}, engine="stock"),
        tolerated=_SFTP | _IN_PROCESS,
        crowd=5_000,
        rename_replaces=False,
    ),
}
