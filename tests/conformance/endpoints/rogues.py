"""The sandbox's servers in this process, whose faults a test sets while they run, and the endpoints that lead to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import overload

from blocks.endpoints.base import Endpoint, EndpointSession
from blocks.endpoints.ftp import Ftp, Ftps
from blocks.endpoints.sftp import Sftp
from blocks.errors import EndpointUnreachable
from tests.conformance.endpoints.checks import Ground
from tests.conformance.endpoints.conftest import ground_on
from tests.conformance.endpoints.enrolment import Shore
from tests.sandbox.ftp import FtpSandbox
from tests.sandbox.sftp import SftpSandbox

PASSWORD = "not a secret"
"""Must stand in the environment as PARTNER_PASSWORD."""
USERS = {"partner": PASSWORD}
ROGUES: Mapping[str, Callable[[Path], SftpSandbox | FtpSandbox]] = {
    "sftp": lambda place: SftpSandbox(place / "sandbox", users=USERS, host_key=place / "host_key"),
    "ftp": lambda place: FtpSandbox(place / "sandbox", users=USERS),
    "ftps": lambda place: FtpSandbox(place / "sandbox", users=USERS, tls=True),
}


@overload
def endpoint(server: SftpSandbox, **fields: object) -> Sftp: ...
@overload
def endpoint(server: FtpSandbox, **fields: object) -> Ftp | Ftps: ...
def endpoint(server: SftpSandbox | FtpSandbox, **fields: object) -> Sftp | Ftp | Ftps:
    """What was agreed about a running server; ``fields`` change it."""
    agreed: dict[str, object] = {
        "host": server.host,
        "port": server.port,
        "username": "partner",
        "password": "env:PARTNER_PASSWORD",
        "timeout_seconds": 60,
    }
    if isinstance(server, SftpSandbox):
        return Sftp.model_validate(agreed | {"host_keys": (server.fingerprint,)} | fields)
    if server.certificate is None:
        return Ftp.model_validate(agreed | {"unprotected": "accepted"} | fields)
    trust = {} if "certificates" in fields else {"ca_file": server.certificate.authority}
    return Ftps.model_validate(agreed | trust | fields)


def patiently(agreed: Endpoint) -> EndpointSession:
    """A session as soon as the sandbox, which may still be asleep, is there again, however short the deadline that was agreed."""
    limit = time.monotonic() + 300
    while True:
        try:
            return agreed.session()
        except EndpointUnreachable:
            if time.monotonic() > limit:
                raise


def ground_at(server: SftpSandbox | FtpSandbox, spool: Path, **fields: object) -> Ground:
    """An empty folder at a running server."""
    return ground_on(Shore(endpoint(server, **fields), server.root, "/"), spool)
