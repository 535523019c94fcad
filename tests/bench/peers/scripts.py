"""What ``asyncio_script`` and ``tuned_script`` share: the job and how it arrives, the terms of a price list, signing in, eight workers.

Both do fetch, compare name and size, sha256, check five columns of every row, post as multipart on reused connections, rename at the
source. What neither does: know after a crash what was filed, notice a file that is still being written, see a lost answer, tell a person,
keep a record.

They run in an environment of their own (``requirements.txt`` beside them), load nothing of ours, and take jobs as lines of JSON from
standard input, so that they can be timed with their imports behind them.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import mimetypes
import re
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TypeAlias
from uuid import uuid4

import asyncssh
import httpx

WORKERS = 8
LARGE_BYTES = 8 * 1024 * 1024
"""From here on a file is streamed from the source to the repository and never held. Only videos are so large."""
TABLE_BYTES = 64 * 1024
"""From here on the rows of a table are looked at in a thread, so that the others' transfers go on."""

NAME = re.compile(r"prices_\d{6}\.csv|clip_\d{6}\.mp4")
COLUMNS = ["sku", "description", "currency", "price", "valid_from"]
SKU, CURRENCY = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,39}", r"[A-Z]{3}"
MOST, LONGEST = 10_000_000, 500


@dataclass(frozen=True)
class Job:
    host: str
    port: int
    username: str
    key: str
    source: str
    done: str
    """Folder that the originals are moved to."""
    url: str
    login: str
    password: str
    parent: int


Bring: TypeAlias = Callable[[Job, asyncssh.SFTPClient, httpx.AsyncClient, str, int], Awaitable[None]]
"""Carries one file, given its name and the size that the listing told."""


def work_off(bring: Bring) -> None:
    """Do every job that comes on standard input, and say so on standard output."""
    for line in sys.stdin:
        print(json.dumps({"files": asyncio.run(run(Job(**json.loads(line)), bring))}), flush=True)


async def run(job: Job, bring: Bring) -> int:
    """Bring in everything that is there; how many files that were."""
    limits = httpx.Limits(max_connections=WORKERS, max_keepalive_connections=WORKERS)
    async with (
        asyncssh.connect(
            job.host,
            job.port,
            username=job.username,
            client_keys=[job.key],
            known_hosts=None,
            config=None,
            encryption_algs=["aes128-gcm@openssh.com"],  # its own first choice is slower
            compression_algs=["none"],
        ) as ssh,  # one: more of them cost and gain nothing
        ssh.start_sftp_client() as sftp,
        httpx.AsyncClient(base_url=f"{job.url}/api", limits=limits, timeout=60, trust_env=False) as http,
    ):
        signed_in = await http.post("/v1/auth", data={"username": job.login, "password": job.password})
        http.headers["OTCSTicket"] = signed_in.raise_for_status().json()["ticket"]
        waiting = deque(
            [(str(entry.filename), int(entry.attrs.size)) async for entry in sftp.scandir(job.source) if entry.attrs.type == 1]
        )
        files = len(waiting)

        async def work() -> None:
            while waiting:
                name, size = waiting.popleft()
                if not NAME.fullmatch(name):
                    raise ValueError(f"{name}: not a name that was agreed")
                await bring(job, sftp, http, name, size)

        async with asyncio.TaskGroup() as workers:
            for _ in range(WORKERS):
                workers.create_task(work())
        return files


def kept(answer: httpx.Response, name: str) -> None:
    """Raises ``httpx.HTTPStatusError`` or ``ValueError`` if the repository did not take the file."""
    if not answer.raise_for_status().json()["results"]["data"]["properties"]["id"]:
        raise ValueError(f"{name}: not kept")


def check_rows(data: bytes, sku: re.Pattern[str] = re.compile(SKU), currency: re.Pattern[str] = re.compile(CURRENCY)) -> None:
    """Every row by ``csv``. Raises ``ValueError`` or ``decimal.InvalidOperation``."""
    rows = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
    if next(rows) != COLUMNS:
        raise ValueError("other columns than were agreed")
    for row in rows:
        article, description, money, price, day = row
        if not sku.fullmatch(article) or len(description) > LONGEST or not currency.fullmatch(money):
            raise ValueError(f"line {rows.line_num}: {row}")
        if not 0 <= Decimal(price) <= MOST:
            raise ValueError(f"line {rows.line_num}: {row}")
        date.fromisoformat(day)


@dataclass(frozen=True)
class Framed:
    """A multipart body without its file: httpx has none for a file that comes in pieces from elsewhere."""

    headers: dict[str, str]
    head: bytes
    tail: bytes

    async def around(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        yield self.head
        async for piece in pieces:
            yield piece
        yield self.tail


def framed(job: Job, name: str, digest: str, size: int) -> Framed:
    boundary, media_type = uuid4().hex, mimetypes.guess_type(name)[0]
    body = about(job, name, digest)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="body"\r\n\r\n{body}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: {media_type}\r\n\r\n'
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    length = str(len(head) + size + len(tail))
    return Framed({"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": length}, head, tail)


def about(job: Job, name: str, digest: str) -> str:
    """What the repository is told of a file."""
    return json.dumps({"type": 144, "parent_id": job.parent, "name": name, "description": digest})
