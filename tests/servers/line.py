"""A line to a server that breaks: it carries every connection to the same port on another loopback address, and cuts them all
after so many bytes."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

AT, TO = "127.0.0.2", "127.0.0.1"
_RESET = struct.pack("ii", 1, 0)


class Line:
    """``cuts``: when so many bytes have been carried in all, both ways, everything is cut; once for each number."""

    def __init__(self, ports: Iterable[int], cuts: Sequence[int] = ()) -> None:
        self.carried = self.broken = 0
        self._cuts, self._ports = list(cuts), list(ports)
        self._open, self._lock = set[socket.socket](), threading.Lock()
        self._listeners = selectors.DefaultSelector()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="line", daemon=True)

    def __enter__(self) -> Self:
        for port in self._ports:
            self._listeners.register(socket.create_server((AT, port)), selectors.EVENT_READ, port)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        for key in list(self._listeners.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._listeners.close()
        with self._lock:
            self._cut()

    def _accept(self) -> None:
        while not self._over.is_set():
            for key, _ in self._listeners.select(0.1):
                near, _ = key.fileobj.accept()  # type: ignore[union-attr]
                try:
                    far = socket.create_connection((TO, key.data), 30)
                except OSError:
                    near.close()
                    continue
                for one in (near, far):
                    one.settimeout(None)
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                over = list[None]()
                with self._lock:
                    self._open |= {near, far}
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other, over), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket, over: list[None]) -> None:
        """One way. The last of a pair closes both: closed by anybody else, a number may be another connection's when it is read."""
        self._carry_on(one, other)
        with self._lock:
            over.append(None)
            if len(over) == 2:
                self._open -= {one, other}
                one.close()
                other.close()

    def _carry_on(self, one: socket.socket, other: socket.socket) -> None:
        block = memoryview(bytearray(256 * 1024))
        with suppress(OSError):
            while count := one.recv_into(block):
                with self._lock:
                    self.carried += count
                    if self._cuts and self.carried >= self._cuts[0]:
                        del self._cuts[0]
                        self.broken += 1
                        self._cut()
                        return
                other.sendall(block[:count])
            other.shutdown(socket.SHUT_WR)

    def _cut(self) -> None:
        for connection in self._open:
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                connection.shutdown(socket.SHUT_RDWR)  # wakes whoever waits for it, and closes it
        self._open.clear()
