"""The peer that a good engineer writes: asyncssh, httpx and csv (polars for larger tables), eight workers, nothing but the job
itself.

Fetch, compare name and size, sha256, check five columns of every row, post as multipart on reused connections, rename at the
source. What it has learned the hard way is in it: the fast cipher asked for, one connection (more cost and gain nothing), small
bodies framed in one piece, large files streamed through with their reads pipelined, checks and digests of more than a little in
threads. What it does not do: know after a crash what was filed, notice a file that is still being written, see a lost answer,
tell a person, keep a record.

It runs in an environment of its own (``requirements.txt`` beside it), loads nothing of ours, and takes jobs as lines of JSON
from standard input, so that it can be timed with its imports behind it.
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
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from hashlib import sha256
from uuid import uuid4

import asyncssh
import httpx
import polars

WORKERS = 8
LARGE_BYTES = 8 * 1024 * 1024
"""From here on a file is streamed from the source to the repository and never held. Only videos are so large."""
TABLE_BYTES = 64 * 1024
"""From here on polars is faster than csv, and a thread pays."""
READ_BYTES, READS_AHEAD = 255 * 1024, 16

NAME = re.compile(r"prices_\d{6}\.csv|clip_\d{6}\.mp4")
SKU, CURRENCY = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,39}", r"[A-Z]{3}"
COLUMNS = {
    "sku": polars.String,
    "description": polars.String,
    "currency": polars.String,
    "price": polars.Decimal(scale=2),
    "valid_from": polars.Date,
}
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


async def run(job: Job) -> int:
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
            encryption_algs=["aes128-gcm@openssh.com"],
            compression_algs=["none"],
        ) as ssh,
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
                await bring(job, sftp, http, name, size)

        async with asyncio.TaskGroup() as workers:
            for _ in range(WORKERS):
                workers.create_task(work())
        return files


async def bring(job: Job, sftp: asyncssh.SFTPClient, http: httpx.AsyncClient, name: str, size: int) -> None:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name}: not a name that was agreed")
    path = f"{job.source}/{name}"
    if size >= LARGE_BYTES:
        post = framed(job, name, "", size)
        async with sftp.open(path, "rb", block_size=-1) as source:
            answer = await http.post("/v2/nodes", headers=post.headers, content=post.around(streamed(source, name, size)))
    else:
        # For a small file one read is all: without a block size it is sent as asked.
        async with sftp.open(path, "rb", block_size=0 if size < TABLE_BYTES else -1) as source:
            data = await source.read(size)
        if len(data) != size:
            raise ValueError(f"{name}: {len(data)} of {size} bytes")
        digest = await asyncio.to_thread(looked_at, data) if size >= TABLE_BYTES else looked_at(data)
        post = framed(job, name, digest, size)
        answer = await http.post("/v2/nodes", headers=post.headers, content=post.head + data + post.tail)
    answer.raise_for_status()
    if not answer.json()["results"]["data"]["properties"]["id"]:
        raise ValueError(f"{name}: not kept")
    await sftp.rename(path, f"{job.done}/{name}")


async def streamed(source: asyncssh.SFTPClientFile, name: str, size: int) -> AsyncIterator[bytes]:
    """A large file's pieces, several of which are on their way; its digest is logged, as there is no more to do with it."""
    digest, asked, coming = sha256(), 0, deque[asyncio.Task[bytes]]()
    got = 0
    while got < size:
        while asked < size and len(coming) < READS_AHEAD:
            length = min(READ_BYTES, size - asked)
            coming.append(asyncio.create_task(source.read(length, asked)))
            asked += length
        piece = await coming.popleft()
        if not piece:
            raise ValueError(f"{name}: {got} of {size} bytes")
        await asyncio.to_thread(digest.update, piece)
        got += len(piece)
        yield piece
    print(f"{name} {digest.hexdigest()}", file=sys.stderr)


def looked_at(data: bytes) -> str:
    """The digest of a table whose every row is good. Raises ``ValueError``, or an error of polars."""
    (check_small if len(data) < TABLE_BYTES else check)(data)
    return sha256(data).hexdigest()


def check_small(data: bytes, sku: re.Pattern[str] = re.compile(SKU), currency: re.Pattern[str] = re.compile(CURRENCY)) -> None:
    rows = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
    if next(rows) != list(COLUMNS):
        raise ValueError("other columns than were agreed")
    for row in rows:
        article, description, money, price, day = row
        if not sku.fullmatch(article) or len(description) > LONGEST or not currency.fullmatch(money):
            raise ValueError(f"line {rows.line_num}: {row}")
        if not 0 <= Decimal(price) <= MOST:
            raise ValueError(f"line {rows.line_num}: {row}")
        date.fromisoformat(day)


def check(data: bytes) -> None:
    table = polars.read_csv(data, schema=COLUMNS)
    column = polars.col
    good = (
        column("sku").str.contains(f"^{SKU}$")
        & (column("description").fill_null("").str.len_chars() <= LONGEST)
        & column("currency").str.contains(f"^{CURRENCY}$")
        & column("price").is_between(0, MOST)
        & column("valid_from").is_not_null()
    )
    if not table.select(good.fill_null(False).all()).item():
        raise ValueError("a bad row")


@dataclass(frozen=True)
class Framed:
    """A multipart body without its file. httpx frames one too, in many small writes."""

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
    body = json.dumps({"type": 144, "parent_id": job.parent, "name": name, "description": digest})
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="body"\r\n\r\n{body}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: {media_type}\r\n\r\n'
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    length = str(len(head) + size + len(tail))
    return Framed({"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": length}, head, tail)


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps({"files": asyncio.run(run(Job(**json.loads(line))))}), flush=True)
