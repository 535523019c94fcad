"""SFTP version 3 with many requests in flight on one SSH channel.

What is done to one file is written as a *routine*: a generator that yields the requests it wants sent and is resumed with the
oldest answer it has not seen yet. The engine runs many routines at once: it packs their requests into few channel sends, finds
the routine of each answer by request id, holds answers that come early, and bounds the bytes in flight. A routine that eats
its data before it asks for more therefore opens the window only after it has eaten.

::

    routine ── yields requests ─▶ Engine ── packed ─▶ channel ─▶ server
       ▲                            │
       └── oldest unseen answer ────┘  (by request id, any order on the wire)

Wire format: draft-ietf-secsh-filexfer-02; extensions: OpenSSH's PROTOCOL file, section 4.
"""

from __future__ import annotations

import stat as modes
import struct
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, BinaryIO, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

import paramiko

from blocks.endpoints.base import MOST_ENTRIES, endless
from blocks.endpoints.sftp_packetizer import Pipe
from blocks.endpoints.ssh import WINDOW
from blocks.errors import EndpointError, EndpointUnreachable, EndpointUnsuitable
from blocks.pace import SLOWEST
from blocks.values import FileKind, shown

FILES = 64
"""Files in flight at a server that does not tell how many it allows."""
MOST_FILES = 128
"""Files in flight at one that does. More gain nothing."""
UPLOAD_WINDOW = 4 * 1024 * 1024
"""Bytes of one upload in flight."""
_PIECE = 32_000
_LONGEST_ANSWER = 4 * 1024 * 1024
_LONGEST_DATA = 255 * 1024
"""Most bytes of a file in one request, whatever a server says of itself: what OpenSSH takes, and longer ones gain nothing."""

(INIT, VERSION, OPEN, CLOSE, READ, WRITE, _LSTAT, _FSTAT) = range(1, 9)
_OPENDIR, _READDIR, _REMOVE, _MKDIR, _STAT, _RENAME = 11, 12, 13, 14, 17, 18
_STATUS, _HANDLE, _DATA, _NAME, _ATTRS, _EXTENDED, _EXTENDED_REPLY = 101, 102, 103, 104, 105, 200, 201

OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE = 0, 1, 2, 3, 4, 5
OP_UNSUPPORTED = 8
# Codes of later protocol versions that some version 3 servers send all the same.
NO_SPACE, QUOTA_EXCEEDED, FILE_EXISTS = 14, 15, 11

_uint32 = struct.Struct(">I")
_uint64 = struct.Struct(">Q")
_stretch = struct.Struct(">QI")
"""Of a file: offset and length."""
_header = struct.Struct(">IBI")
_usual = struct.Struct(">IQIIIII")
"""Attributes as nearly every server tells them: flags, size, owner and group, mode, two times."""
_KIND = 0o170000
_KINDS = {modes.S_IFREG: FileKind.FILE, modes.S_IFDIR: FileKind.FOLDER, modes.S_IFLNK: FileKind.LINK}


# --------------------------------------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True)
class Status:
    """The server's word on a request that has no other answer."""

    code: int
    message: str

    def to(self, request: str) -> str:
        """As evidence: ``RENAME: 0 Success``."""
        return f"{request}: {self.code} {self.message}".rstrip()

    @property
    def words(self) -> str:
        return f"the server says: {self.message or 'nothing'} (code {self.code})"


FINE = Status(OK, "")


class Attributes(NamedTuple):
    """What the server tells about a file; None where it does not tell."""

    size: int | None
    mode: int | None
    owner: tuple[int, int] | None
    written: int | None
    """Seconds since 1970."""

    @property
    def modified(self) -> datetime | None:
        return None if self.written is None else _moment(self.written)

    @property
    def kind(self) -> FileKind | None:
        return None if self.mode is None else _KINDS.get(self.mode & _KIND, FileKind.OTHER)


@lru_cache(maxsize=1024)
def _moment(written: int) -> datetime:
    return datetime.fromtimestamp(written, UTC)


class Muddled(EndpointUnreachable):
    """The server's answers fit no request of ours. Perhaps it can have but one request waiting at a time."""


class Entry(NamedTuple):
    """One line of a listing: the exact bytes of a name, and what the server tells about it."""

    name: bytes
    attributes: Attributes


Bytes: TypeAlias = bytes | memoryview
"""A handle, a file's data, or an extension's answer."""
Answer: TypeAlias = Status | Attributes | Bytes | list[Entry]


# --------------------------------------------------------------------------------------------- requests


Request: TypeAlias = tuple[int, bytes]
"""Its kind and its body. Its length, and the id that its answer names, are added when it is sent."""


def lstat(path: bytes) -> Request:
    """Attributes of what stands under a name; a link is told as a link."""
    return _LSTAT, _string(path)


def stat(path: bytes) -> Request:
    return _STAT, _string(path)


def fstat(handle: Bytes) -> Request:
    return _FSTAT, _string(handle)


def open_to_read(path: bytes) -> Request:
    return OPEN, _string(path) + b"\0\0\0\x01" + b"\0\0\0\0"


def open_new(path: bytes) -> Request:
    """Create a file that must not exist (WRITE, CREAT, EXCL), so that a planted link is never written through."""
    return OPEN, _string(path) + b"\0\0\0\x2a" + b"\0\0\0\0"


def open_again(path: bytes) -> Request:
    """Open a file that stands there, to read it and write on."""
    return OPEN, _string(path) + b"\0\0\0\x03" + b"\0\0\0\0"


def read(handle: Bytes, offset: int, length: int) -> Request:
    return READ, _string(handle) + _stretch.pack(offset, length)


def write(handle: Bytes, offset: int, data: bytes) -> Request:
    return WRITE, b"".join((_string(handle), _stretch.pack(offset, len(data)), data))


def close(handle: Bytes) -> Request:
    return CLOSE, _string(handle)


def remove(path: bytes) -> Request:
    return _REMOVE, _string(path)


def mkdir(path: bytes) -> Request:
    """Create a folder, with the rights that the server gives."""
    return _MKDIR, _string(path) + bytes(4)


def rename(old: bytes, new: bytes) -> Request:
    """Rename, an error if the new name is taken (the draft says so, and OpenSSH keeps it by link and unlink)."""
    return _RENAME, _string(old) + _string(new)


def posix_rename(old: bytes, new: bytes) -> Request:
    """Rename, atomically over what stands under the new name. Only where the server offers it."""
    return _EXTENDED, _string(b"posix-rename@openssh.com") + _string(old) + _string(new)


def statvfs(path: bytes) -> Request:
    return _EXTENDED, _string(b"statvfs@openssh.com") + _string(path)


def _owed(kind: int, body: bytes) -> int:
    """About how many bytes the answer to a request may take."""
    if kind == READ:
        (length,) = _uint32.unpack_from(body, len(body) - 4)
        return 32 + int(length)
    return 128 * 1024 if kind == _READDIR else 512


def _string(value: Bytes) -> bytes:
    return _uint32.pack(len(value)) + value


# --------------------------------------------------------------------------------------------- routines

T = TypeVar("T")
Routine: TypeAlias = Generator[Sequence[Request], Answer, T]
"""Yields requests to send (perhaps none), is resumed with its oldest unseen answer, returns its outcome."""


class Crowded(Exception):
    """A signal, not an error: an OPEN failed for no stated reason, perhaps because the server allows no more open handles."""

    def __init__(self, otherwise: Any) -> None:
        super().__init__(otherwise)
        self.otherwise = otherwise
        """The routine's outcome if the reason was another."""


class Work(NamedTuple, Generic[T]):
    """One file's routine, and about how many bytes it will have in flight."""

    begin: Callable[[], Routine[T]]
    weight: int = 0


def each(requests: Sequence[Request]) -> Routine[list[Answer]]:
    """Send several requests together and wait for all their answers."""
    answers = [(yield requests)]
    for _ in requests[1:]:
        answers.append((yield ()))
    return answers


class Sink(Protocol):
    @property
    def size(self) -> int: ...

    def write(self, data: bytes | bytearray | memoryview) -> None: ...


def read_into(sink: Sink, handle: Bytes, size: int, wire: Wire) -> Routine[Status]:
    """Bring a file's bytes from ``sink.size`` on into ``sink``, in order; ``OK`` when it held exactly ``size`` bytes.

    Asks for one byte more than announced, so that a growing file shows: ``FAILURE`` then, and ``EOF`` when it was shorter.
    """
    asked = sink.size
    outstanding: deque[tuple[int, int]] = deque()
    early: dict[int, bytes] = {}
    requests: list[Request] = []
    verdict = FINE
    while True:
        while verdict.code == OK and asked <= size and asked - sink.size < wire.read_window:
            length = min(wire.read_bytes, size + 1 - asked)
            outstanding.append((asked, length))
            requests.append(read(handle, asked, length))
            asked += length
        if not outstanding:
            return verdict
        answer = yield requests
        requests = []
        offset, length = outstanding.popleft()
        if isinstance(answer, Status) and answer.code != EOF:
            verdict = answer
        if verdict.code != OK:
            continue  # only the answers still on their way are awaited
        data = b"" if isinstance(answer, Status) else _as_bytes(answer)
        end = offset + len(data)
        if len(data) > length:
            raise wire.muddled(f"the server answered {len(data)} bytes where {length} were asked for")
        if end > size:
            verdict = Status(FAILURE, "it has more bytes than it was listed with")
        elif not data and offset < size:
            verdict = Status(EOF, f"it ended after {offset} of {size} bytes")
        elif end < size and len(data) < length:
            # A short answer is legal at any time: ask for the rest, and from now on for no more than this server gives.
            outstanding.append((end, length - len(data)))
            requests.append(read(handle, end, length - len(data)))
            wire.read_bytes = max(4096, min(wire.read_bytes, len(data)))
        if verdict.code != OK or not data:
            continue
        if offset != sink.size:
            early[offset] = bytes(data)
            continue
        sink.write(data)
        while sink.size in early:
            sink.write(early.pop(sink.size))


def read_exactly(handle: Bytes, offset: int, length: int, wire: Wire) -> Routine[bytes]:
    """One stretch of an open file; shorter where the file ends."""
    got = bytearray()
    while len(got) < length:
        answer = yield [read(handle, offset + len(got), min(length - len(got), wire.read_bytes))]
        if isinstance(answer, Status) or not (data := _as_bytes(answer)):
            break
        got += data
    return bytes(got)


def write_from(source: BinaryIO, handle: Bytes, wire: Wire, seen: Callable[[bytes], None], offset: int = 0) -> Routine[Status]:
    """Write the rest of ``source``, which is at ``offset``, to an open handle; ``seen`` is shown every piece. The first bad
    status, or ``OK``."""
    outstanding, verdict = 0, FINE
    depth = max(2, min(64, UPLOAD_WINDOW // wire.write_bytes))
    requests: list[Request] = []
    while True:
        while verdict.code == OK and outstanding < depth and (data := source.read(wire.write_bytes)):
            seen(data)
            requests.append(write(handle, offset, data))
            offset += len(data)
            outstanding += 1
        if not outstanding:
            return verdict
        answer = yield requests
        requests = []
        outstanding -= 1
        if verdict.code == OK:
            verdict = status(answer)


def handle(answer: Answer) -> bytes:
    """The handle that an OPEN was answered with."""
    return bytes(_as_bytes(answer))


def status(answer: Answer) -> Status:
    """The status that a request was answered with."""
    return answer if isinstance(answer, Status) else Status(FAILURE, "an answer of another kind than asked for")


def _as_bytes(answer: Answer) -> Bytes:
    if isinstance(answer, bytes | memoryview):
        return answer
    raise Muddled("the server gave an answer of another kind than asked for; it may not speak SFTP version 3")


# --------------------------------------------------------------------------------------------- what runs routines


class Wire(ABC):
    """SFTP on one channel that is open and bound to the server's ``sftp`` subsystem. One thread at a time.

    Every wait for the server ends after ``timeout_seconds`` without a byte of progress. Raises ``EndpointUnreachable`` when
    the channel is lost (with the transport's reason as its cause) or stalls, and ``Muddled``; the wire is of no more use then.
    """

    read_bytes: int
    """Most bytes to ask for in one request; may sink while the server is met."""
    write_bytes: int
    read_window: int
    """Most bytes of files that are asked for and not taken yet."""
    extensions: Mapping[bytes, bytes]

    def __init__(self, channel: paramiko.Channel, transport: paramiko.Transport, address: str, timeout_seconds: float) -> None:
        self.address, self.transport = address, transport
        self._channel, self._timeout = channel, timeout_seconds
        self.read_bytes = self.write_bytes = self.read_window = 32768
        self.usable = True

    @abstractmethod
    def run(self, works: Iterable[Work[T]]) -> Generator[T, None, None]:
        """Run many routines; outcomes come as routines return, in any order. ``works`` is taken from as there is room."""

    @abstractmethod
    def ask(self, request: Request) -> Answer:
        """One request, one answer: for the few that stand alone."""

    @abstractmethod
    def _later(self, request: Request) -> Callable[[], Answer]:
        """A request whose answer is awaited when the function that is returned is called."""

    @abstractmethod
    def _send_only(self, request: Request) -> None:
        """A request whose answer nobody awaits."""

    def listing(self, folder: bytes) -> Iterator[list[Entry]]:
        """Everything in a folder, ``.`` and ``..`` too, in the pages that the server sends. A missing folder is an ``EndpointError``."""
        opened = self.ask((_OPENDIR, _string(folder)))
        if isinstance(opened, Status):
            raise EndpointError(f"{self.address}: the folder {shown(folder)} cannot be listed; {opened.words}")
        folder_handle = handle(opened)
        ask = _READDIR, _string(folder_handle)
        ahead = deque(self._later(ask) for _ in range(4))
        ended, left = False, MOST_ENTRIES
        try:
            while ahead:
                answer = ahead.popleft()()
                if isinstance(answer, Status):
                    if answer.code != EOF:
                        raise EndpointError(f"{self.address}: the listing of {shown(folder)} broke off; {answer.words}")
                    ended = True
                elif isinstance(answer, list):
                    left -= max(1, len(answer))
                    if left < 0:
                        self.usable = False
                        raise endless(self.address, "a listing")
                    if not ended:
                        ahead.append(self._later(ask))
                    yield answer
        finally:
            if not self._channel.closed:
                self._send_only(close(folder_handle))

    def close(self) -> None:
        self.usable = False
        self._channel.close()

    def muddled(self, words: str) -> Muddled:
        self.usable = False
        return Muddled(f"{self.address}: {words}; it will be tried again")

    def _stalled(self) -> EndpointUnreachable:
        self.usable = False
        return EndpointUnreachable(
            f"{self.address}: no answer for {self._timeout:g} s; nothing half-done stands under a final name, it will be tried again"
        )

    def _lost(self) -> EndpointUnreachable:
        self.usable = False
        cause = self.transport.get_exception()
        error = EndpointUnreachable(
            f"{self.address}: the connection was lost ({cause or 'closed by the server'}); "
            "nothing half-done stands under a final name, it will be tried again"
        )
        error.__cause__ = cause
        return error


# --------------------------------------------------------------------------------------------- the engine


class _Alone:
    """A request for which no routine waits, and its answer when that has come."""

    __slots__ = ("answer", "numbers")

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.numbers: list[int] = []

    def take(self, _: int, answer: Answer) -> None:
        self.answer = answer


class _Runner:
    """A routine under way in one run, which goes on with one answer after the other in the order of its requests.

    ``ready`` is that run's list of routines that can go on, each with the answer to go on with.
    """

    __slots__ = ("early", "go_on", "numbers", "ready", "routine", "work")

    def __init__(self, work: Work[Any], ready: deque[tuple[_Runner, Any]]) -> None:
        self.work, self.ready = work, ready
        self.routine: Routine[Any] = work.begin()
        self.go_on = self.routine.send
        self.numbers: deque[int] = deque()
        """Of its requests whose answers have not come, or have come ``early``; the oldest first."""
        self.early: dict[int, Answer] = {}
        ready.append((self, None))  # which begins a routine

    def take(self, number: int, answer: Answer) -> None:
        numbers, early = self.numbers, self.early
        if numbers[0] != number:
            early[number] = answer
            return
        numbers.popleft()
        self.ready.append((self, answer))
        while early and numbers[0] in early:
            self.ready.append((self, early.pop(numbers.popleft())))


class Engine(Wire):
    """Many requests in flight."""

    def __init__(self, channel: paramiko.Channel, transport: paramiko.Transport, address: str, timeout_seconds: float) -> None:
        super().__init__(channel, transport, address, timeout_seconds)
        self._out, self._unsent = bytearray(), 0
        self._begun = bytearray()
        """An answer that has come in part."""
        self._pipe = channel.in_buffer if isinstance(channel.in_buffer, Pipe) else None
        self._dribbled = 0.0
        """Seconds that we have waited for the rest of an answer that has begun to come."""
        self._asked: dict[int, _Runner | _Alone] = {}
        """Who waits for the answer to a request on its way, by its number."""
        self._last_number = 0
        self._owed, self._owing = 0, dict[int, int]()
        """About how many bytes the answers on their way may take: where paramiko's own buffer has to hold them."""
        self._greeting: bytes | None = None
        self._handles = self._most_handles = FILES
        self.extensions = self._greet()
        self.read_window = 32 * self.read_bytes

    def run(self, works: Iterable[Work[T]]) -> Generator[T, None, None]:
        """Run many routines, up to 64 files at once, more if the server says so; outcomes come as routines return, in any order.

        ``works`` is taken from only as far as there is room. Whatever is raised, outcomes that were known are yielded first.
        A run that is given up half-way leaves the engine unusable, because answers nobody waits for are still to come.
        """
        source, again, waiting = iter(works), deque[Work[T]](), None
        running: set[_Runner] = set()
        ready: deque[tuple[_Runner, Any]] = deque()
        done: deque[T] = deque()
        weight, whole = 0, False
        try:
            while True:
                while len(running) < self._handles:
                    if waiting is None:
                        waiting = again.popleft() if again else next(source, None)
                    if waiting is None or (running and weight + waiting.weight > self.read_window):
                        break
                    runner, waiting = _Runner(waiting, ready), None
                    running.add(runner)
                    weight += runner.work.weight
                if not running:
                    break
                if not ready:
                    self._flush()
                    self._receive()
                while ready:
                    runner, answer = ready.popleft()
                    try:
                        if requests := runner.go_on(answer):
                            self._post(requests, runner)
                    except StopIteration as stop:
                        outcome = stop.value
                    except Crowded as crowded:
                        if len(running) > 1:
                            # Learn how many handles this server allows; this file has its turn when others have closed theirs.
                            self._handles = max(1, min(self._handles, len(running) - 1))
                            again.append(runner.work)
                            outcome = None
                        else:
                            self._handles = self._most_handles
                            outcome = crowded.otherwise
                    else:
                        # The server has work on one half of the files while we deal with the other.
                        if 2 * self._unsent >= self._handles:
                            self._flush()
                        continue
                    running.discard(runner)
                    weight -= runner.work.weight
                    if outcome is not None:
                        done.append(outcome)
                while done:
                    yield done.popleft()
            whole = True
        except Exception:
            # An outcome that was reached stays true, so it is told before the error.
            done.extend(self._last_words(ready))
            yield from done
            raise
        finally:
            self.usable = self.usable and whole
            for runner in running:
                runner.routine.close()

    def ask(self, request: Request) -> Answer:
        """One request, one answer: for the few that stand alone."""
        return self._later(request)()

    def _later(self, request: Request) -> Callable[[], Answer]:
        alone = _Alone()
        self._post([request], alone)
        return lambda: self._wait(alone)

    def _send_only(self, request: Request) -> None:
        self._post([request], _Alone())
        self._flush()

    # ----------------------------------------------------------------------------------------- routines, step by step

    def _last_words(self, ready: deque[tuple[_Runner, Any]]) -> Iterator[Any]:
        for runner, answer in tuple(ready):
            with suppress(Exception):  # the first error is already on its way to the caller
                try:
                    self._post(runner.go_on(answer), runner)
                except StopIteration as stop:
                    if stop.value is not None:  # the routine that failed may be among them
                        yield stop.value

    def _post(self, requests: Sequence[Request], who: _Runner | _Alone) -> None:
        """Have requests sent; ``who`` takes their answers."""
        asked, numbers = self._asked, who.numbers
        for kind, body in requests:
            number = self._last_number = (self._last_number + 1) & 0xFFFFFFFF
            asked[number] = who
            numbers.append(number)
            if self._pipe is None:
                self._owing[number] = owed = _owed(kind, body)
                self._owed += owed
            self._out += _header.pack(len(body) + 5, kind, number)
            self._out += body
            self._unsent += 1
            if len(self._out) > 16 * _PIECE:
                self._flush()

    def _wait(self, alone: _Alone) -> Answer:
        self._flush()
        while alone.answer is None:
            self._receive()
        return alone.answer

    # ----------------------------------------------------------------------------------------- the wire

    def _flush(self) -> None:
        out, self._out, self._unsent = memoryview(self._out), bytearray(), 0
        stalled_since = time.monotonic()
        while out:
            if not self._channel.send_ready() and (
                self._owed > WINDOW // 2 if self._pipe is None else not self._pipe.wait_for_room(0.05)
            ):
                # The server may itself be waiting for us to take its answers: blocking here would lock both.
                if self._receive(wait_seconds=0.05):
                    stalled_since = time.monotonic()
                elif time.monotonic() - stalled_since > self._timeout:
                    raise self._stalled()
                continue
            try:
                self._channel.settimeout(self._timeout)
                sent = self._channel.send(bytes(out[:_PIECE])) if self._pipe is None else self._pipe.send(out)
            except TimeoutError as error:
                raise self._stalled() from error
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise self._lost() from error
            if sent == 0:
                raise self._lost()
            stalled_since = time.monotonic()
            out = out[sent:]

    def _receive(self, wait_seconds: float | None = None) -> bool:
        """Take what has come and hand out complete answers. With ``wait_seconds``: False if nothing came in that time."""
        self._channel.settimeout(self._timeout if wait_seconds is None else wait_seconds)
        began = time.monotonic()
        try:
            # Asking for more than the window takes the whole buffer in one piece; parts of it would be moved again and again.
            data = self._channel.recv(2 * WINDOW)
        except TimeoutError as error:
            if wait_seconds is not None:
                return False
            raise self._stalled() from error
        except (OSError, EOFError, paramiko.SSHException) as error:  # taking data also sends: it opens the window
            raise self._lost() from error
        if not data:
            raise self._lost()
        if self._cut(memoryview(data)):
            self._dribbled = 0.0
        else:
            self._dribbled += time.monotonic() - began
            if self._dribbled > self._timeout + len(self._begun) / SLOWEST:
                raise self._stalled()
        return True

    def _cut(self, data: memoryview) -> int:
        """Cut what has come into answers and hand them out; how many. Only one that comes in parts is copied."""
        whole, start, end = 0, 0, len(data)
        head, unpack, take = _header.size, _header.unpack_from, self._take
        while start < end:
            if not self._begun and end - start >= head:
                length, kind, number = unpack(data, start)
                after = start + 4 + length
                if after <= end and 5 <= length <= _LONGEST_ANSWER:
                    take(kind, number, data[start + head : after])
                    start = after
                    whole += 1
                    continue
            missing = (4 if len(self._begun) < 4 else self._length()) - len(self._begun)
            self._begun += data[start : start + missing]
            start += missing
            if len(self._begun) >= 4 and len(self._begun) == self._length():
                answer, self._begun = memoryview(self._begun), bytearray()
                _, kind, number = _header.unpack_from(answer)
                self._take(kind, number, answer[_header.size :])
                whole += 1
        return whole

    def _length(self) -> int:
        """Of an answer whose first four bytes have come, and tell it."""
        (length,) = _uint32.unpack_from(self._begun)
        if not 5 <= length <= _LONGEST_ANSWER:
            if self._greeting is not None:
                raise self.muddled("the server sent something that is not SFTP")
            raise EndpointError(f"{self.address}: the server sent something that is not SFTP; does its login print text?")
        return 4 + int(length)

    def _take(self, kind: int, number: int, body: memoryview) -> None:
        if kind == VERSION:  # which has no number: it is the version itself
            self._greeting = _uint32.pack(number) + body
            return
        who = self._asked.pop(number, None)
        if who is None:
            raise self.muddled(f"the server answered request {number}, which was never sent")
        if self._pipe is None:
            self._owed -= self._owing.pop(number)
        try:
            answer = parse(kind, body)
        except (struct.error, IndexError) as error:
            raise self.muddled("the server sent an answer that cannot be read") from error
        who.take(number, answer)

    def _greet(self) -> dict[bytes, bytes]:
        self._out += _uint32.pack(5) + bytes([INIT]) + _uint32.pack(3)
        self._flush()
        while self._greeting is None:
            self._receive()
        return greeting(self._greeting, self.address)

    def prove(self, seconds: float) -> None:
        """Have several requests wait at once, before anything depends on it; and learn the server's limits if it tells them.

        Raises ``EndpointUnreachable`` if they are not all answered, with no more than ``seconds`` from one to the next.
        """
        usual, self._timeout = self._timeout, seconds
        requests = [stat(b".")] * 3
        if tells := b"limits@openssh.com" in self.extensions:
            requests.append((_EXTENDED, _string(b"limits@openssh.com")))
        told = [answer() for answer in [self._later(request) for request in requests]][-1]
        if tells and isinstance(told, bytes | memoryview) and len(told) >= 32:
            packet, reading, writing, handles = struct.unpack_from(">QQQQ", told)
            longest = min((packet or 34000) - 1024, _LONGEST_DATA)
            self.read_bytes = max(4096, min(reading or 32768, longest))
            self.write_bytes = max(4096, min(writing or 32768, longest))
            self.read_window = 64 * self.read_bytes
            self._handles = self._most_handles = max(1, min(MOST_FILES, handles or FILES))
        self._timeout = usual


def greeting(data: bytes, address: str) -> dict[bytes, bytes]:
    """The extensions that a server names in its VERSION packet. Raises ``EndpointUnsuitable``, and ``EndpointError`` for nonsense."""
    position, words = 4, []
    try:
        (version,) = _uint32.unpack_from(data)
        while position < len(data):
            word, position = take_string(memoryview(data), position)
            words.append(bytes(word))
    except (struct.error, IndexError) as error:
        raise EndpointError(
            f"{address}: the server's greeting cannot be read; ask the partner what SFTP server it is"
        ) from error
    if version < 3:
        raise EndpointUnsuitable(f"{address}: the server speaks SFTP version {version}; we need version 3")
    return dict(zip(words[::2], words[1::2], strict=False))


def parse(kind: int, body: memoryview) -> Answer:
    """An answer without its length and number. Raises ``IndexError`` and ``struct.error`` if it is not one."""
    if kind == _ATTRS:
        said = bytes(body)
        return _short_attributes(said) if len(said) < _SHORT else _attributes(said)
    if kind == _STATUS:
        said = bytes(body)
        return _short_status(said) if len(said) < _SHORT else _status(said)
    if kind in (_DATA, _HANDLE):
        return take_string(body, 0)[0]
    if kind == _NAME:
        data = bytes(body)
        (count,) = _uint32.unpack_from(data)
        position, entries = 4, []
        for _ in range(count):  # a length that leads beyond the end is noticed by what is read next
            (length,) = _uint32.unpack_from(data, position)
            begin, position = position + 4, position + 4 + length
            name = data[begin:position]
            (length,) = _uint32.unpack_from(data, position)
            position += 4 + length  # a line for people, in the server's own format
            attributes, position = _take_attributes(data, position)
            entries.append(Entry(name, attributes))
        return entries
    if kind == _EXTENDED_REPLY:
        return body
    raise IndexError(kind)


def _status(said: bytes) -> Status:
    (code,) = _uint32.unpack_from(said)
    # Servers older than version 3 send no message.
    message = bytes(take_string(memoryview(said), 4)[0]) if len(said) >= 8 else b""
    return Status(code, shown(message[:500]))


_SHORT = 64
_short_status = lru_cache(maxsize=256)(_status)
"""Most statuses say the same."""


def take_string(packet: memoryview, position: int) -> tuple[memoryview, int]:
    (length,) = _uint32.unpack_from(packet, position)
    end = position + 4 + length
    if end > len(packet):
        raise IndexError(end)
    return packet[position + 4 : end], end


def _attributes(said: bytes) -> Attributes:
    """Of one file."""
    return _take_attributes(said, 0)[0]


_short_attributes = lru_cache(maxsize=1024)(_attributes)
"""A file is looked at more than once, and usually they say the same."""


def _take_attributes(packet: Bytes, position: int) -> tuple[Attributes, int]:
    if len(packet) - position >= _usual.size:
        flags, size, user, group, mode, _, written = _usual.unpack_from(packet, position)
        if flags == 0x0F:
            return Attributes(size, mode, (user, group), written), position + 32
    return _take_unusual_attributes(packet, position)


def _take_unusual_attributes(packet: Bytes, position: int) -> tuple[Attributes, int]:
    (flags,) = _uint32.unpack_from(packet, position)
    position += 4
    size = mode = owner = written = None
    if flags & 1:
        (size,) = _uint64.unpack_from(packet, position)
        position += 8
    if flags & 2:
        owner = struct.unpack_from(">II", packet, position)
        position += 8
    if flags & 4:
        (mode,) = _uint32.unpack_from(packet, position)
        position += 4
    if flags & 8:
        (written,) = _uint32.unpack_from(packet, position + 4)
        position += 8
    if flags & 0x80000000:
        (count,) = _uint32.unpack_from(packet, position)
        position += 4
        for _ in range(2 * count):
            _, position = take_string(memoryview(packet), position)
    return Attributes(size, mode, owner, written), position
