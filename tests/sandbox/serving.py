"""A stand-in over HTTP: an application on a port of its own, in a thread of its own."""

from __future__ import annotations

import socket
import threading
import time

import uvicorn
from starlette.applications import Starlette

from tests.sandbox.ecm_wire import WireProtocol


class Serving:
    """Takes its port when it is made, and answers from ``start`` until ``stop``."""

    def __init__(self, name: str, app: Starlette, host: str, port: int) -> None:
        self._name = name
        self._socket = socket.create_server((host, port), backlog=512)
        # asyncio does this only for sockets made with an explicit protocol; without it each small answer waits 40 ms.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host, self.port = self._socket.getsockname()[:2]
        config = uvicorn.Config(
            app,
            http=WireProtocol,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=2,
            timeout_keep_alive=60,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, name=name, daemon=True)

    def start(self) -> None:
        """Raises ``RuntimeError`` if that takes more than a minute."""
        self._thread.start()
        limit = time.monotonic() + 60
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > limit:
                raise RuntimeError(f"the sandbox {self._name} did not start on {self.host}:{self.port}; its log is on stderr")
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()
