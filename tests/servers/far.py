"""``python -m tests.servers.far PORT TO MILLISECONDS``: a server on loopback as if it were far away, until SIGTERM.

Whoever connects to PORT speaks with TO, and each byte is on its way for half of a round trip. A process of its own, so that it takes
nothing from the interpreter of whoever is measured.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.servers import free_port, listening, running


@contextmanager
def far(to: int, milliseconds: float, log: Path) -> Iterator[int]:
    """The port under which the server at ``to`` is so far away, while the block runs."""
    port = free_port()
    command = [sys.executable, "-m", "tests.servers.far", str(port), str(to), str(milliseconds)]
    with running(command, log=log, ready=lambda: listening(port)):
        yield port


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, seconds: float) -> None:
    """All bytes, each as long after it came; then the end."""
    loop, on_the_way = asyncio.get_running_loop(), asyncio.Queue[tuple[float, bytes]]()

    async def deliver() -> None:
        while True:
            due, data = await on_the_way.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                return
            target.write(data)
            await target.drain()

    delivery = asyncio.create_task(deliver())
    with suppress(ConnectionError):
        while data := await source.read(1 << 18):
            on_the_way.put_nowait((loop.time() + seconds, data))
    on_the_way.put_nowait((loop.time() + seconds, b""))
    with suppress(ConnectionError):
        await delivery
    target.close()


async def _serve(port: int, to: int, seconds: float) -> None:
    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(_carry(reader, server_writer, seconds), _carry(server_reader, writer, seconds))

    async with await asyncio.start_server(connect, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 2000))
