"""The sender's service on a real socket, in a thread of the test: milliseconds where a process of its own takes seconds."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import uvicorn

from deployments.sender.peers import listening, protocol_for
from deployments.sender.process import service
from deployments.sender.store import Store
from deployments.sender.watch import APART


@contextmanager
def sender_thread(socket: Path, state: Path, *, profiles: Path, spool: Path, apart: timedelta = APART) -> Iterator[None]:
    """A sender that answers this user while the block runs; ``apart``: its looks for a pickup."""
    with Store(state) as store, store.alone(), listening(socket, None) as server:
        application = service(store, profiles, spool, frozenset(), floor_bytes=0, apart=apart)
        protocol = protocol_for(frozenset({os.getuid()}), lambda peer: None)
        config = uvicorn.Config(application, http=protocol, ws="none", lifespan="off", access_log=False, log_level="warning")
        uvicorn_server = uvicorn.Server(config)
        thread = threading.Thread(target=uvicorn_server.run, kwargs={"sockets": [server]}, name="sender")
        thread.start()
        try:
            yield  # the kernel keeps callers waiting until it answers
        finally:
            uvicorn_server.should_exit = True
            thread.join()
