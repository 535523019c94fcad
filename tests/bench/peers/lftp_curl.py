"""The peer that needs no code: lftp fetches in parallel, sha256sum hashes, curl posts over eight reused connections, lftp removes.

It does less than ours: no row is looked at, nothing is recorded, and a crash between two commands leaves a person to sort it out.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import httpx

from tests.servers.openssh import OpenSsh


def intake(server: OpenSsh, source: Path, ecm: dict[str, str], parent: int, scratch: Path) -> None:
    """Fetch everything in ``source``, post it below the node ``parent``, remove it at the source."""
    shutil.rmtree(scratch, ignore_errors=True)
    local = scratch / "files"
    local.mkdir(parents=True)
    ssh = f"ssh -a -x -i {server.private_key} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    opened = f'set sftp:connect-program "{ssh}"; set net:max-retries 1; open -u {server.username}, -p {server.port} sftp://{server.host}'
    _run(["lftp", "-c", f"{opened}; mirror --parallel=8 {source} {local}"])
    files = sorted(local.iterdir())
    with (scratch / "digests").open("wb") as digests:
        subprocess.run(["sha256sum", *map(str, files)], stdout=digests, check=True, timeout=300)
    ticket = httpx.post(
        f"{ecm['url']}/api/v1/auth", data={"username": ecm["user"], "password": ecm["password"]}, timeout=30
    ).json()["ticket"]
    config = scratch / "curl.config"
    config.write_text("\nnext\n".join(_post(ecm, ticket, parent, file) for file in files))
    _run(["curl", "--silent", "--fail", "--parallel", "--parallel-max", "8", "--config", str(config)])
    _run(["lftp", "-c", f"{opened}; cd {source}; mrm *"])


def _post(ecm: dict[str, str], ticket: str, parent: int, file: Path) -> str:
    body = json.dumps({"type": 144, "parent_id": parent, "name": file.name}).replace('"', '\\"')
    return "\n".join(
        [
            f'url = "{ecm["url"]}/api/v2/nodes"',
            f'header = "OTCSTicket: {ticket}"',
            f'form-string = "body={body}"',
            f'form = "file=@{file}"',
            'output = "/dev/null"',
            "silent",
            "fail",
        ]
    )


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-500:]}")
