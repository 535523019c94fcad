"""FTP and FTPS over IPv6, where the machine has it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from blocks.endpoints.ftp import Ftp, Ftps
from blocks.values import Placed
from tests.conformance.endpoints.conftest import ground_on
from tests.conformance.endpoints.enrolment import Shore
from tests.servers.ftp import PASSWORD, pyftpdlib_server


@pytest.mark.parametrize("tls", [False, True], ids=["ftp", "ftps"])
def test_ipv6(tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EPSV over ::1, on a real server."""
    monkeypatch.setenv("PARTNER_PASSWORD", PASSWORD)
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        # Nothing that could be installed, also where CI runs.
        pytest.skip(f"this machine has no IPv6 ({error.strerror})")
    with pyftpdlib_server(tmp_path / "server", tls=tls, host="::1") as server:
        agreed = {"host": "::1", "port": server.port, "username": server.username, "password": "env:PARTNER_PASSWORD"}
        if server.certificate is not None:
            end: Ftp | Ftps = Ftps.model_validate(agreed | {"ca_file": server.certificate.authority})
        else:
            end = Ftp.model_validate(agreed | {"unprotected": "accepted"})
        ground = ground_on(Shore(end, server.root, "/"), tmp_path / "spool")
        assert isinstance(ground.put([ground.outgoing(b"a.csv", b"content")])[b"a.csv"], Placed)
        assert ground.holds(ground.fetch(ground.look().values())[b"a.csv"]) == b"content"
        assert f"@[::1]:{server.port}" in end.address
