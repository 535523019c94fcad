"""A TCP connection in an event loop, in clear or behind TLS: what aioftp's streams, and the data connections, stand on here.

asyncio's own streams cost more CPU than TLS itself where a connection lives for one small file: a transport and a protocol for TCP,
the same again for TLS, a task and several timers. Here one object reads its socket when the loop says that there is something, and
leaves the rest to OpenSSL.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from errno import EINPROGRESS
from math import inf
from typing import Any

_LONGEST_LINE = 64 * 1024
_RECORD = 16 * 1024
"""Bytes in a record of TLS at most."""
_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The "random" number by which a ServerHello asks for another ClientHello (RFC 8446, 4.1.3)."""
_GROUPS = {23: "prime256v1", 24: "secp384r1", 25: "secp521r1", 29: "X25519", 30: "X448"}
"""Groups for key agreement by their numbers in TLS, as OpenSSL names them."""


class Line:
    """One connection. ``until`` is when, by the loop's clock, what is waited for must have come; then it is a ``TimeoutError``.

    Only one task at a time may wait on it. Lines of one loop may share the ``room`` that they receive and decrypt in, as nothing stays
    there.
    """

    def __init__(self, family: int, room: memoryview) -> None:
        self._socket, self._room = socket.socket(family, socket.SOCK_STREAM), room
        self._socket.setblocking(False)
        # An answer is never long, and nothing follows it that it could wait for.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop, self._number = asyncio.get_running_loop(), self._socket.fileno()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._lines = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._watched = self._over = False
        self.until = inf
        self.tls: ssl.SSLObject | None = None
        self.ended = False
        """The other side has said its last, and all of it was read."""
        self.group: str | None = None
        """The group for key agreement that the server wanted instead of our first choice, which cost a round trip."""

    # ----------------------------------------------------------------------------------------- beginning and end

    async def reach(self, address: Any) -> None:
        """Connect to an address as ``socket.getaddrinfo`` tells it."""
        error = self._socket.connect_ex(address)
        if error == EINPROGRESS:
            await self._writable()
            error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))

    @property
    def family(self) -> int:
        return self._socket.family

    @property
    def peer(self) -> tuple[Any, ...]:
        """The address of the other side."""
        told: tuple[Any, ...] = self._socket.getpeername()
        return told

    def keep_alive(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    async def end(self) -> bool:
        """Send what was written, and say that nothing more follows. False if the other side had gone before it could have all."""
        owed, sent = self._outgoing.pending > 0, True
        if self.tls is not None:
            with suppress(ssl.SSLError):
                self.tls.unwrap()
        try:
            await self.drain()
        except ConnectionError:
            sent = not owed  # who has gone need not be told that nothing follows
        if not self.ended:
            # Not closed: what the other side has sent unread (tickets of TLS 1.3) would break off what is still on its way to it.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
        if self.ended:
            self.close()
        return sent

    def close(self) -> None:
        """End the connection at once. Whoever waits on it is told."""
        if self._number < 0:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._loop.remove_reader(self._number)
        self._loop.remove_writer(self._number)
        self._number = -1
        self._socket.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionResetError("closed"))

    # ----------------------------------------------------------------------------------------- TLS

    async def start_tls(
        self,
        sslcontext: ssl.SSLContext,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        *,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """Begin TLS. (Named as in asyncio, as aioftp calls it.)"""
        if ssl_handshake_timeout is not None:
            self.until = self._loop.time() + ssl_handshake_timeout
        self.tls = sslcontext.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname, session=session)
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.drain()
                if not await self._received():
                    raise ConnectionResetError("closed by the server") from None
            except ssl.SSLError:
                with suppress(OSError):
                    self._socket.send(self._outgoing.read())  # why we do not go on
                raise
            else:
                return  # our last words of the handshake go with the first of what follows

    # ----------------------------------------------------------------------------------------- reading

    async def read(self) -> bytes:
        """The next bytes; none at the end, which a missing farewell of TLS is taken for."""
        while not (came := self._decrypted()) and not self.ended:
            if self._outgoing.pending:
                await self.drain()
            if not await self._received():
                self.ended = True
        return came

    async def readline(self) -> bytes:
        """The next line with its end, or what there is before the end of all."""
        while (end := self._lines.find(b"\n")) < 0:
            if len(self._lines) > _LONGEST_LINE:
                raise ValueError(f"{bytes(self._lines[:100])!r} never ends")
            if not (came := await self.read()):
                end = len(self._lines)
                break
            self._lines.extend(came)
        line = bytes(self._lines[: end + 1])
        del self._lines[: end + 1]
        return line

    def unread(self) -> bool:
        """Whether something has come that nobody asked for."""
        with suppress(BlockingIOError):
            return bool(self._lines or self._incoming.pending or self._socket.recv(1, socket.MSG_PEEK))
        return False

    def _decrypted(self) -> bytes:
        """What is there already."""
        if self.tls is None:
            return self._incoming.read()
        count, most = 0, len(self._room)
        try:
            while count < most and (self._incoming.pending or self.tls.pending()):
                # With a buffer it tells how many, which its types do not know.
                more: int = self.tls.read(min(_RECORD, most - count), self._room[count:])  # type: ignore[assignment]
                count += more
                if not more:
                    self.ended = True
                    break
        except ssl.SSLWantReadError:
            pass  # the rest of a record is still to come
        except ssl.SSLZeroReturnError:
            self.ended = True
        return bytes(self._room[:count])

    async def _received(self) -> bool:
        """Wait for more; False at the end."""
        self._must_be_open()
        if not self._watched:
            self._loop.add_reader(self._number, self._readable)
            self._watched = True
        await self._waited()
        return not self._over

    def _must_be_open(self) -> None:
        if self._number < 0:
            raise ConnectionResetError("closed")

    def _readable(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            self._loop.remove_reader(self._number)
            self._watched = False
            return
        try:
            count = self._socket.recv_into(self._room)
        except BlockingIOError:
            return
        except OSError as error:
            waiter.set_exception(error)
            return
        if self.group is None and self.tls is not None:
            self.group = group_wanted(self._room[:count])
        self._incoming.write(self._room[:count])
        self._over = count == 0
        waiter.set_result(None)

    async def _waited(self) -> None:
        self._waiter = self._loop.create_future()
        if self.until < inf and (self._alarm is None or self._alarm.when() > self.until):
            self._wait_no_longer()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wait_no_longer(self) -> None:
        """Set the alarm. It is not set anew for each wait: when it rings too early, it is set for the rest."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self.until == inf:
            return
        if self._loop.time() < self.until:
            self._alarm = self._loop.call_at(self.until, self._wait_no_longer)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TimeoutError())

    # ----------------------------------------------------------------------------------------- writing

    def write(self, block: bytes) -> None:
        """Have bytes sent by the next ``drain``."""
        if self.tls is not None:
            self.tls.write(block)
        else:
            self._outgoing.write(block)

    async def drain(self) -> None:
        """Send what was written."""
        self._must_be_open()
        left = memoryview(self._outgoing.read())
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                await self._writable()

    async def _writable(self) -> None:
        self._must_be_open()
        self._loop.add_writer(self._number, self._writable_now)
        try:
            await self._waited()
        finally:
            if self._number >= 0:
                self._loop.remove_writer(self._number)

    def _writable_now(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def connected(host: str, port: int, room: memoryview) -> Line:
    """A line to one of the addresses of a host, in clear as yet."""
    errors = list[OSError]()
    for family, *_, address in await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM):
        line = Line(family, room)
        try:
            await line.reach(address)
        except BaseException as error:
            line.close()
            if not isinstance(error, OSError):
                raise
            errors.append(error)
        else:
            return line
    raise errors[0] if len({str(error) for error in errors}) == 1 else OSError(", ".join(map(str, errors)))


def group_wanted(flight: memoryview) -> str | None:
    """The group that a server asks for in its HelloRetryRequest; None for any other beginning of a handshake (RFC 8446, 4.1.4)."""
    # Record: type, version, length; message: type, length; version, random, session, cipher, compression, extensions.
    if len(flight) < 44 or flight[0] != 22 or flight[5] != 2 or flight[11:43] != _RETRY:
        return None
    at = 44 + flight[43] + 2 + 1 + 2
    for kind, told in _extensions(bytes(flight[at:])):
        if kind == 51 and len(told) == 2:
            return _GROUPS.get(int.from_bytes(told, "big"))
    return None


def _extensions(rest: bytes) -> Iterable[tuple[int, bytes]]:
    while len(rest) >= 4:
        kind, length = int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:4], "big")
        yield kind, rest[4 : 4 + length]
        rest = rest[4 + length :]
