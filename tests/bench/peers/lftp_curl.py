"""The peer that needs no code: lftp fetches in parallel, sha256sum hashes, curl posts over eight reused connections, lftp renames.

It does less than ours: no row is looked at, nothing is recorded, and a crash between two commands leaves a person to sort it out.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.bench.race import Failed

SECONDS = 900
"""The longest that one command may take."""


def intake(job: Mapping[str, Any], scratch: Path) -> None:
    """Bring in everything that is there, by way of the folder ``scratch``; ``job`` is as for ``scripts``. Raises ``Failed``."""
    shutil.rmtree(scratch, ignore_errors=True)
    local = scratch / "files"
    local.mkdir(parents=True)
    ssh = (
        f"ssh -a -x -c aes128-gcm@openssh.com -i {job['key']} "
        "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    )
    opened = f'set sftp:connect-program "{ssh}"; set net:max-retries 1; open -u {job["username"]}, -p {job["port"]} sftp://{job["host"]}'
    _run(["lftp", "-c", f"{opened}; mirror --no-recursion --parallel=8 {job['source']} {local}"])
    files = sorted(path for path in local.iterdir() if path.is_file())
    with (scratch / "digests").open("wb") as digests:
        subprocess.run(["sha256sum", *map(str, files)], stdout=digests, check=True, timeout=SECONDS)
    ticket = httpx.post(
        f"{job['url']}/api/v1/auth", data={"username": job["login"], "password": job["password"]}, timeout=30
    ).json()["ticket"]
    config = scratch / "curl.config"
    config.write_text("\nnext\n".join(_post(job, ticket, file) for file in files))
    _run(["curl", "--silent", "--fail", "--parallel", "--parallel-max", "8", "--config", str(config)])
    _run(["lftp", "-c", f"{opened}; mmv {job['source']}/*_* {job['done']}"])


def _post(job: Mapping[str, Any], ticket: str, file: Path) -> str:
    body = json.dumps({"type": 144, "parent_id": job["parent"], "name": file.name}).replace('"', '\\"')
    return "\n".join(
        [
            f'url = "{job["url"]}/api/v2/nodes"',
            f'header = "OTCSTicket: {ticket}"',
            f'form-string = "body={body}"',
            f'form = "file=@{file}"',
            'output = "/dev/null"',
            "silent",
            "fail",
        ]
    )


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        raise Failed(f"{command[0]} ended with {done.returncode}: {done.stderr[-300:].strip()}")
