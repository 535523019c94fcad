"""Something on a port that is no honest server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress


class Listener:
    """``with Listener(speak) as port``: ``speak`` is called with each connection, one after the other."""

    def __init__(self, speak: Callable[[socket.socket], object]) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, args=(speak,), daemon=True)

    def _serve(self, speak: Callable[[socket.socket], object]) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(30)
                speak(connection)

    def __enter__(self) -> int:
        self.thread.start()
        return self.port

    def __exit__(self, *_: object) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(5)
