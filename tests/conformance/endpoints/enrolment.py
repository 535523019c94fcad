"""Which endpoints the suite asks, how their servers are started, and which differences we tolerate, with the reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from blocks.endpoints.base import Endpoint
from blocks.endpoints.folder import Folder
from blocks.endpoints.sftp import Sftp
from tests.sandbox.sftp import SftpSandbox
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
    crowd: int = 20_000
    """Entries in the listing that must take bounded memory."""


@contextmanager
def _folder(place: Path) -> Iterator[Shore]:
    place.mkdir()
    yield Shore(Folder(root=place), place, "")


@contextmanager
def _openssh(place: Path) -> Iterator[Shore]:
    with openssh_server(place) as server:
        endpoint = Sftp(
            host=server.host,
            port=server.port,
            username=server.username,
            private_key=f"file:{server.private_key}",
            host_keys=(server.fingerprint,),
            timeout_seconds=20,
        )
        yield Shore(endpoint, server.root, str(server.root))


@contextmanager
def _sandbox(place: Path) -> Iterator[Shore]:
    os.environ["CONFORMANCE_SFTP_PASSWORD"] = "not a secret"
    with SftpSandbox(place, users={"partner": "not a secret"}) as server:
        endpoint = Sftp(
            host=server.host,
            port=server.port,
            username="partner",
            password="env:CONFORMANCE_SFTP_PASSWORD",
            host_keys=(server.fingerprint,),
            timeout_seconds=20,
        )
        yield Shore(endpoint, server.root, "/", server)


_SFTP = {
    "a_twin_of_the_same_size_and_time_that_takes_its_place_is_noticed": (
        "SFTP version 3 tells size, owner, mode and seconds of a file and nothing else; what was read is one whole file all the same"
    )
}

ENROLLED: Mapping[str, Enrolment] = {
    "folder": Enrolment(Folder, _folder),
    "sftp on OpenSSH": Enrolment(Sftp, _openssh, tolerated=_SFTP, crowd=100_000),
    "sftp on the sandbox": Enrolment(
        Sftp,
        _sandbox,
        tolerated={
            **_SFTP,
            "a_long_listing_takes_little_memory": "the sandbox runs in this process and builds its whole listing there",
        },
    ),
}
