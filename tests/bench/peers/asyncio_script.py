"""The peer that the goals speak of: what a good engineer writes from the documentation of asyncssh, httpx and csv, with eight workers.

Nothing in it is slow on purpose, and every row is looked at; what a profiler would teach beyond that is in ``tuned_script``.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from hashlib import sha256

import asyncssh
import httpx

from tests.bench.peers.scripts import LARGE_BYTES, TABLE_BYTES, Job, about, check_rows, framed, kept, work_off

PIECE_BYTES = 4 * 1024 * 1024
"""So much of a large file is read at a time; asyncssh asks for it in parallel."""


async def bring(job: Job, sftp: asyncssh.SFTPClient, http: httpx.AsyncClient, name: str, size: int) -> None:
    path = f"{job.source}/{name}"
    if size >= LARGE_BYTES:
        post = framed(job, name, "", size)
        async with sftp.open(path, "rb") as source:
            answer = await http.post("/v2/nodes", headers=post.headers, content=post.around(streamed(source, name, size)))
    else:
        async with sftp.open(path, "rb") as source:
            data = await source.read()
        if len(data) != size:
            raise ValueError(f"{name}: {len(data)} of {size} bytes")
        digest = await asyncio.to_thread(looked_at, data) if size >= TABLE_BYTES else looked_at(data)
        answer = await http.post("/v2/nodes", data={"body": about(job, name, digest)}, files={"file": (name, data)})
    kept(answer, name)
    await sftp.rename(path, f"{job.done}/{name}")


async def streamed(source: asyncssh.SFTPClientFile[bytes], name: str, size: int) -> AsyncIterator[bytes]:
    """A large file's pieces; its digest is logged, as there is no more to do with it."""
    digest, got = sha256(), 0
    while piece := await source.read(PIECE_BYTES):
        await asyncio.to_thread(digest.update, piece)
        got += len(piece)
        yield piece
    if got != size:
        raise ValueError(f"{name}: {got} of {size} bytes")
    print(f"{name} {digest.hexdigest()}", file=sys.stderr)


def looked_at(data: bytes) -> str:
    """The digest of a table whose every row is good. Raises ``ValueError`` or ``decimal.InvalidOperation``."""
    check_rows(data)
    return sha256(data).hexdigest()


if __name__ == "__main__":
    work_off(bring)
