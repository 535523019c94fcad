"""The demo is the first thing anyone sees: it must work unattended, on loopback only, and leave the user's own Prefect alone."""

from __future__ import annotations

import ftplib
import os
import re
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.demo.stage import environment_for
from tests.sandbox import sandbox
from tests.servers import free_port, running
from tests.servers.prefect import PrefectServer

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(1900)
def test_demo_check_finds_every_file_where_it_must_be(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.demo", "--check"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert re.search(r"demo-check: \d\d files, 0 not where they must be", done.stdout)
    assert not (tmp_path / ".prefect").exists(), "the user's own Prefect profile is untouched"


def test_the_demos_prefect_server_is_on_loopback_and_closed_to_other_origins(tmp_path: Path) -> None:
    services = {name: {"password": "x", "client_secret": "x"} for name in ("sftp", "extended-ecm", "file360", "business")}
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = environment_for(tmp_path, services, url)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/api/health", timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    with running(command, log=tmp_path / "server.log", ready=ready, seconds=300, env=environment, cwd=ROOT) as server:
        stranger = httpx.get(f"{url}/api/health", headers={"Origin": "http://evil.example"}, timeout=60)
        assert "access-control-allow-origin" not in stranger.headers
        ours = httpx.get(f"{url}/api/health", headers={"Origin": url}, timeout=60)
        assert ours.headers["access-control-allow-origin"] == url
        assert listeners(server.pid, port) == {"127.0.0.1"}
        settings = httpx.get(f"{url}/api/admin/settings", timeout=60).json()
        assert settings["server"]["analytics_enabled"] is False
        assert settings["server"]["ui"]["show_promotional_content"] is False


def test_an_ordinary_server_would_have_answered_the_stranger(prefect_server: PrefectServer) -> None:
    stranger = httpx.get(f"{prefect_server.url}/health", headers={"Origin": "http://evil.example"}, timeout=60)
    assert stranger.headers["access-control-allow-origin"] == "*"


def test_the_demos_partner_wants_the_control_connections_tls_session_again_and_keeps_accounts_apart(tmp_path: Path) -> None:
    with sandbox("ftps", data=tmp_path) as services:
        place = services["ftps"]
        (Path(place["root"]) / "in").mkdir()
        context = ssl.create_default_context(cafile=place["ca_file"])
        with ftplib.FTP_TLS(context=context, timeout=60) as stock:  # which never resumes a session
            stock.connect(place["host"], place["port"])
            stock.login(place["delivery_user"], place["delivery_password"])
            stock.prot_p()
            with stock.transfercmd("NLST /in"), pytest.raises(ftplib.error_perm, match="522 The TLS session"):
                stock.voidresp()
        with ftplib.FTP_TLS(context=context, timeout=60) as stranger:
            stranger.connect(place["host"], place["port"])
            stranger.login(place["user"], place["password"])
            assert stranger.sendcmd("MLST /").startswith("250")
            with pytest.raises(ftplib.error_perm, match="550"):
                stranger.sendcmd("MLST /in")


def listeners(pid: int, port: int) -> set[str]:
    """Addresses on which that port is listened to on this machine."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state = line.split()[:4]
            address, _, hexport = local.rpartition(":")
            if state == "0A" and int(hexport, 16) == port:
                found.add(".".join(str(byte) for byte in reversed(bytes.fromhex(address))) if table == "tcp" else "::")
    return found
