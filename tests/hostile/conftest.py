"""The partner's servers, and places at them: each test gets folders of its own. ``PROTOCOLS`` of a module are those it is tried over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conformance.endpoints.checks import Ground
from tests.conformance.endpoints.rogues import PASSWORD, ground_at
from tests.hostile.bay import Bay, Server, bay_at
from tests.sandbox.ftp import FtpSandbox
from tests.sandbox.sftp import SftpSandbox
from tests.servers.prefect import PrefectServer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        metafunc.parametrize("server", metafunc.module.PROTOCOLS, indirect=True)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """For all tests of a module."""
    place = tmp_path_factory.mktemp("partner")
    users = {"partner": PASSWORD}
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setenv("PARTNER_PASSWORD", PASSWORD)
        yield {
            "sftp": stack.enter_context(SftpSandbox(place / "sftp", users=users, host_key=place / "host_key")),
            "ftps": stack.enter_context(FtpSandbox(place / "ftps", users=users, tls=True)),
            "ftp": stack.enter_context(FtpSandbox(place / "ftp", users=users)),
        }


@pytest.fixture
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Iterator[Server]:
    chosen = servers[request.param]
    yield chosen
    chosen.faults.clear()


@pytest.fixture
def ground(server: Server, tmp_path: Path) -> Ground:
    return ground_at(server, tmp_path / "spool")


@pytest.fixture
def bay(server: Server, tmp_path: Path, prefect_server: PrefectServer) -> Iterator[Bay]:
    with bay_at(tmp_path / "home", server, prefect_server) as made:
        yield made


@pytest.fixture
def sftp_bay(servers: dict[str, Server], tmp_path: Path, prefect_server: PrefectServer) -> Iterator[Bay]:
    """For what no protocol changes: once is enough."""
    with bay_at(tmp_path / "home", servers["sftp"], prefect_server) as made:
        yield made
    servers["sftp"].faults.clear()
