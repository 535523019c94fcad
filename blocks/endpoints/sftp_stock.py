"""The same routines over paramiko's own ``SFTPClient``, one request at a time: for servers that cannot have several waiting.

Files are opened and written by paramiko (``SFTPFile``), 32 KiB in each request; what is read is asked for by its client too, and never
ahead: its prefetch knows no bound.
Slower than ``sftp_engine`` by far, by one round trip for each request. Everything above the wire is shared.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from typing import Any

import paramiko
from paramiko.sftp import CMD_STATUS, SFTPError

from blocks.endpoints import sftp_engine as wire
from blocks.endpoints.sftp_engine import Answer, Crowded, Request, Routine, Status, T, Wire, Work
from blocks.errors import EndpointError
from blocks.pace import SLOWEST
from blocks.values import shown

_MODES = {0x01: "r", 0x03: "r+", 0x2A: "wx"}
"""How paramiko calls the ways in which our routines open files."""


class Stock(Wire):
    """One request at a time."""

    def __init__(self, channel: paramiko.Channel, transport: paramiko.Transport, address: str, timeout_seconds: float) -> None:
        super().__init__(channel, transport, address, timeout_seconds)
        channel.settimeout(timeout_seconds)
        self._files: dict[bytes, paramiko.SFTPFile] = {}
        self._client: _Client = self._asked(lambda: _Client(channel, address, timeout_seconds))
        self.extensions = self._client.extensions

    def run(self, works: Iterable[Work[T]]) -> Generator[T, None, None]:
        for work in works:
            routine = work.begin()
            try:
                yield self._finished(routine)
            except Crowded as crowded:
                yield crowded.otherwise
            finally:
                routine.close()

    def ask(self, request: Request) -> Answer:
        answer: Answer = self._asked(lambda: self._answer(request))
        return answer

    def _later(self, request: Request) -> Callable[[], Answer]:
        return lambda: self.ask(request)

    def _send_only(self, request: Request) -> None:
        with suppress(EndpointError):
            self.ask(request)  # answered before the next one is sent

    def _finished(self, routine: Routine[T]) -> T:
        """A routine's outcome. Each of its requests is sent when its answer is wanted."""
        waiting: deque[Request] = deque()
        whole = False
        try:
            waiting.extend(next(routine))
            while True:
                waiting.extend(routine.send(self.ask(waiting.popleft())))
        except StopIteration as stop:
            for request in waiting:
                self.ask(request)
            whole = True
            outcome: T = stop.value
            return outcome
        except Crowded:
            whole = True
            raise
        finally:
            self.usable = self.usable and whole  # files may be open that nobody would close

    def _answer(self, request: Request) -> Answer:
        kind, body = request[0], memoryview(request[1])
        if kind == wire.OPEN:
            path, position = wire.take_string(body, 0)
            (flags,) = struct.unpack_from(">I", body, position)
            return self._open(bytes(path), _MODES[flags])
        if kind == wire.WRITE:
            handle, position = wire.take_string(body, 0)
            (offset,) = struct.unpack_from(">Q", body, position)
            file = self._files[bytes(handle)]
            file.seek(offset)
            file.write(bytes(wire.take_string(body, position + 8)[0]))
            return Status(wire.OK, "")
        if kind == wire.CLOSE and (closed := self._files.pop(bytes(body[4:]), None)) is not None:
            closed.close()  # says nothing of a lost connection; whatever is asked next will
            return Status(wire.OK, "")
        # Also to read: paramiko's file would ask again and again until it has all, and nobody would see how slowly it comes.
        told: Answer = self._client.told(request)
        return told

    def _open(self, path: bytes, mode: str) -> bytes:
        file: Any = self._client.open(path, mode, 0)
        handle: bytes = file.handle
        self._files[handle] = file
        return handle

    def _asked(self, act: Callable[[], Any]) -> Any:
        """The one place where what paramiko raises becomes an answer, or an error of ours."""
        try:
            return act()
        except _Told as told:
            return told.status
        except EndpointError:
            raise
        except EOFError:
            return Status(wire.EOF, "")
        except TimeoutError as error:
            raise self._stalled() from error
        except (OSError, paramiko.SSHException) as error:
            raise self._lost() from error
        except (SFTPError, struct.error, IndexError) as error:
            raise self.muddled("the server sent an answer that cannot be read") from error


class _Told(Exception):
    """A request that was answered by a status other than OK."""

    def __init__(self, status: Status) -> None:
        super().__init__(status)
        self.status = status


class _Raw(paramiko.SFTPAttributes):
    """The body of a request as it is: paramiko lets attributes pack themselves."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body

    def _pack(self, message: paramiko.Message) -> None:
        message.add_bytes(self.body)


_SftpClient: Any = paramiko.SFTPClient  # the types that there are for it leave out what it offers to its subclasses


class _Client(_SftpClient):  # type: ignore[misc]
    """paramiko's client, except that it keeps names as bytes, the numbers of statuses, and what the server greets us with."""

    def __init__(self, channel: paramiko.Channel, address: str, timeout_seconds: float) -> None:
        self._address, self._timeout = address, timeout_seconds
        self.extensions: dict[bytes, bytes] = {}
        super().__init__(channel)

    def told(self, request: Request) -> Answer:
        kind, body = request
        kind, message = self._request(kind, _Raw(body))
        return wire.parse(kind, memoryview(message.asbytes())[4:])

    def _send_version(self) -> int:
        greeting = paramiko.Message()
        greeting.add_int(3)
        self._send_packet(wire.INIT, greeting)
        kind, data = self._read_packet()
        if kind != wire.VERSION:
            raise SFTPError("another packet than VERSION")
        self.extensions = wire.greeting(data, self._address)
        return 3

    def _read_response(self, waitfor: int | None = None) -> tuple[int, paramiko.Message]:
        # paramiko would pass over answers to what was never asked for as long as they come.
        try:
            kind, data = self._read_packet()
        except EOFError as error:  # which would be taken for the end of a file
            raise OSError("the channel was closed") from error
        message = paramiko.Message(data)
        if message.get_int() != waitfor:
            raise SFTPError("an answer to another request")
        self._expecting.pop(waitfor, None)
        if kind == CMD_STATUS:
            self._convert_status(message)
        return kind, message

    def _read_all(self, count: int) -> bytes:
        # paramiko would wait for each single byte as long as for the whole.
        got, began = bytearray(), time.monotonic()
        while len(got) < count:
            data = self.sock.recv(count - len(got))
            if not data:
                raise EOFError
            got += data
            if time.monotonic() - began > self._timeout + len(got) / SLOWEST:
                raise TimeoutError
        return bytes(got)

    def _write_all(self, out: bytes) -> None:
        try:
            super()._write_all(out)
        except EOFError as error:  # which would be taken for the end of a file
            raise OSError("the channel was closed") from error

    def _convert_status(self, message: paramiko.Message) -> None:
        code = message.get_int()
        if code == wire.EOF:
            raise EOFError
        if code != wire.OK:
            raise _Told(Status(code, shown(message.get_binary()[:500])))
