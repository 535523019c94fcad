"""What is tested is what is committed: the environment has just the versions of constraints.txt."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import httpx

from tests.servers.prefect import PrefectServer

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


def wanted() -> dict[str, str]:
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if re.match(r"^[\w.-]+==", line))


def test_the_environment_is_the_constraints() -> None:
    installed = {dist.metadata["Name"].lower().replace("_", "-"): dist.version for dist in metadata.distributions()}
    differing = {
        name: (version, installed.get(name.lower().replace("_", "-")))
        for name, version in wanted().items()
        if installed.get(name.lower().replace("_", "-"), version) != version
    }
    assert not differing, f"constraint and installed: {differing}"
    assert "prefect" in wanted()
    assert "fastapi" in wanted()


def test_the_prefect_server_of_the_constraints_starts(prefect_server: PrefectServer) -> None:
    version = httpx.get(f"{prefect_server.url}/admin/version", timeout=120).json()
    assert version == wanted()["prefect"]
