"""HTTP on a Unix socket, where the kernel says who is calling.

Who may call is decided by the peer's user id (``SO_PEERCRED``, unix(7)), taken from the connection itself: nothing in a request
can claim it. A caller that is not allowed is cut off before a byte of its request is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from blocks.errors import ConfigurationError

SOCKET_MODE = 0o660


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end."""

    pid: int
    uid: int
    gid: int


def peer_of(connection: socket.socket) -> Peer:
    """Who was at the other end when the connection was made."""
    return Peer(*struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))))


def protocol_for(allowed: frozenset[int], cut_off: Callable[[Peer], None]) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol for these user ids; it hands the caller on as ``request.state.peer``, and tells whom it cut off."""

    class PeerProtocol(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            peer = peer_of(transport.get_extra_info("socket"))
            self.app_state = {**self.app_state, "peer": peer}
            super().connection_made(transport)
            if peer.uid not in allowed:
                self.logger.warning("user id %d (process %d) may not call the sender: cut off", peer.uid, peer.pid)
                transport.abort()
                asyncio.get_running_loop().run_in_executor(None, cut_off, peer)

    return PeerProtocol


@contextlib.contextmanager
def listening(path: Path, group: int | None = None) -> Iterator[socket.socket]:
    """A Unix socket at this path, for its owner and group. What an earlier, killed sender left there is replaced."""
    if path.exists() and not path.is_socket():
        raise ConfigurationError(f"{path}: something that is no socket stands there; give another --socket")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    path.unlink(missing_ok=True)  # the caller holds the state folder's lock: nobody else serves here
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o777 & ~SOCKET_MODE)  # the mode from its first moment, not a moment later
    try:
        server.bind(os.fspath(path))
    except OSError as error:
        server.close()
        raise ConfigurationError(
            f"{path}: no socket can be made there ({error}); give a shorter or another --socket"
        ) from error
    finally:
        os.umask(before)
    try:
        if group is not None:
            os.chown(path, -1, group)
        server.listen()  # from now on the kernel keeps callers waiting until somebody answers
        yield server
    finally:
        server.close()
        path.unlink(missing_ok=True)


def serve(app: Any, server: socket.socket, allowed: frozenset[int], cut_off: Callable[[Peer], None]) -> None:
    """Answer on this socket until the process is told to end; what is being sent then is finished or left resumable."""
    config = uvicorn.Config(
        app,
        http=protocol_for(allowed, cut_off),
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=20,
    )
    uvicorn.Server(config).run(sockets=[server])
