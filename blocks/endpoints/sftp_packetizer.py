"""SSH packets many at a time, for the one channel that carries files. In front of paramiko's own way, which stays as the other choice.

paramiko reads each packet with two calls to the kernel, copies it about eight times and hands it from its own thread to ours. Here
whoever waits for file data reads himself: all that has come, in one call, into one buffer; each packet is decrypted from there to where
its data belongs, so that the data of many packets lies in one piece. What goes out is encrypted where it lies, many packets in one call.

::

    socket ── all that has come ─▶ raw ── each packet decrypted in its place ─▶ one stretch of channel data ─▶ Pipe ─▶ Engine
                                    └──── any other message: to paramiko's thread, and nobody reads until it has dealt with it

Only for AES-GCM without compression. Any other cipher, the sign-in, and every message that is not file data or room for it go paramiko's
way, and so does all of a key exchange, from its first message to the new keys. This file uses names that paramiko keeps for itself, and
is the only one that does. So paramiko's minor version is pinned, and ``packetizer`` tries this class against paramiko's before using it.

SSH packets: RFC 4253, section 6; AES-GCM: RFC 5647 and OpenSSH's PROTOCOL file, section 1.6; channels: RFC 4254, section 5.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import socket
import struct
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeAlias

import paramiko
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from paramiko.buffered_pipe import PipeTimeout
from paramiko.packet import NeedRekeyException, Packetizer

PROVEN = "5.1."
"""The version of paramiko whose private names are used here; any other is left to its own way."""

RAW = 1024 * 1024
"""Bytes that are read from the socket at a time, at most."""
SENT = 512 * 1024
"""About how many bytes are encrypted before they are given to the socket."""
_LONGEST = 256 * 1024
"""Of a packet. OpenSSH takes and sends none that is longer."""
_TAG, _BLOCK = 16, 16
_KEXINIT, _ADJUST, _DATA = 20, 93, 94
_head = struct.Struct(">BBII")
"""Padding length, kind, channel, length of data: what stands before the data of a channel in a decrypted packet."""
_uint32 = struct.Struct(">I")
_MOMENT = 0.1
"""Seconds after which paramiko's thread reads again, if nobody else did."""

_log = logging.getLogger(__name__)
Bytes: TypeAlias = bytes | memoryview


class Pipe:
    """What has come on a channel and was not taken yet. Stands where paramiko has its ``BufferedPipe``, and reads when it is empty."""

    def __init__(self, channel: paramiko.Channel, packets: Quick) -> None:
        self._of, self.number = weakref.ref(channel), channel.chanid
        self._packets = packets
        self._parts: deque[Bytes] = deque()
        self._held = 0
        self.closed = False
        self._event: threading.Event | None = None

    @property
    def channel(self) -> paramiko.Channel | None:
        """Whose buffer this is; None once nobody has it any more."""
        return self._of()

    def feed(self, data: Bytes) -> None:
        """Data that has come. Raises ``SSHException`` if it is much more than the window allowed."""
        with self._packets.lock:
            self._parts.append(data)
            self._held += len(data)
            if self._event is not None:
                self._event.set()
            self._packets.came.notify_all()
        channel = self.channel
        if channel is not None and self._held > 2 * channel.in_window_size:
            raise paramiko.SSHException("the server sends more than the channel's window allows")

    def read(self, nbytes: int, timeout: float | None = None) -> Bytes:
        """The oldest piece that has come, cut if it is longer; empty when the channel is closed. Raises ``PipeTimeout``."""
        self._wait(timeout)
        with self._packets.lock:
            if not self._parts:
                if self.closed:
                    return b""
                raise PipeTimeout
            part = self._parts.popleft()
            if len(part) > nbytes:
                self._parts.appendleft(memoryview(part)[nbytes:])
                part = bytes(part[:nbytes])
            self._held -= len(part)
            if self._event is not None and not self._parts and not self.closed:
                self._event.clear()
            return part

    def _wait(self, timeout: float | None) -> None:
        until = None if timeout is None else time.monotonic() + timeout
        while not self._parts and not self.closed:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return
            self._packets.pull(self, left)

    def wait_for_room(self, timeout: float) -> bool:
        """Wait until the far side takes data again. False if there is none yet, and something else has come or the time is over."""
        until = time.monotonic() + timeout
        while not (self._parts or self.closed or self._room):
            left = until - time.monotonic()
            if left <= 0:
                break
            self._packets.pull(self, left)
        return self.closed or self._room > 0

    @property
    def _room(self) -> int:
        """So many bytes the far side takes now."""
        channel = self.channel
        return 0 if channel is None else channel.out_window_size

    def send(self, data: memoryview) -> int:
        """As much as the far side takes now, in few calls to the kernel; how much that was. Raises ``OSError`` when it is closed."""
        channel = self.channel
        if channel is None:
            raise OSError(errno.EPIPE, "the channel is closed")
        with channel.lock:
            if channel.closed or channel.eof_sent:
                raise OSError(errno.EPIPE, "the channel is closed")
            count = min(len(data), channel.out_window_size, SENT)
            channel.out_window_size -= count
        if count:
            piece = min(channel.out_max_packet_size - 64, _LONGEST - 64)
            transport: Any = channel.transport
            transport._send_user_message(_Stretch(channel.remote_chanid, data[:count], piece))
        return count

    # what else a channel asks of its buffer

    def read_ready(self) -> bool:
        return bool(self._parts)

    def empty(self) -> bytes:
        with self._packets.lock:
            data = b"".join(self._parts)
            self._parts.clear()
            self._held = 0
            return data

    def set_event(self, event: threading.Event) -> None:
        with self._packets.lock:
            self._event = event
            if self.closed or self._parts:
                event.set()
            else:
                event.clear()

    def close(self) -> None:
        with self._packets.lock:
            self.closed = True
            if self._event is not None:
                self._event.set()
            self._packets.came.notify_all()

    def __len__(self) -> int:
        return self._held


class _Stretch:
    """Channel data that becomes several packets. Goes where paramiko's transport takes one message."""

    def __init__(self, channel: int, data: memoryview, piece: int) -> None:
        self.channel, self.data, self.piece = channel, data, piece

    def pieces(self) -> Iterator[memoryview]:
        for begin in range(0, len(self.data), self.piece):
            yield self.data[begin : begin + self.piece]

    def messages(self) -> Iterator[paramiko.Message]:
        """As paramiko sends them."""
        for piece in self.pieces():
            message = paramiko.Message()
            message.add_byte(bytes([_DATA]))
            message.add_int(self.channel)
            message.add_string(bytes(piece))
            yield message


class Quick(Packetizer):
    """paramiko's packets, with a quick way for one channel.

    One at a time reads from the socket: paramiko's thread, or whoever waits at the pipe. While somebody waits there again and again,
    paramiko's thread sleeps; when it is given a message, it alone goes on until it comes back for the next one.
    """

    # What paramiko keeps for itself. ``packetizer`` makes sure that it is there.
    _Packetizer__socket: Any
    _Packetizer__closed: bool
    _Packetizer__need_rekey: bool
    _Packetizer__remainder: bytes
    _Packetizer__write_lock: Any
    _Packetizer__block_engine_in: Any
    _Packetizer__block_engine_out: Any
    _Packetizer__aead_in: bool
    _Packetizer__aead_out: bool
    _Packetizer__timer: threading.Timer | None
    _Packetizer__iv_in: bytes
    _Packetizer__iv_out: bytes
    _Packetizer__compress_engine_in: Any
    _Packetizer__compress_engine_out: Any
    _Packetizer__dump_packets: bool
    _Packetizer__sequence_number_in: int
    _Packetizer__sequence_number_out: int
    _Packetizer__received_bytes: int
    _Packetizer__received_packets: int
    _Packetizer__received_bytes_overflow: int
    _Packetizer__received_packets_overflow: int
    _Packetizer__sent_bytes: int
    _Packetizer__sent_packets: int

    def __init__(self, socket: Any) -> None:
        super().__init__(socket)
        self.lock = threading.Lock()
        self.came = threading.Condition(self.lock)
        """Something came for a pipe, or its reader may read again."""
        self._called = threading.Condition(self.lock)
        """There is something for paramiko's thread."""
        self._pipe: Pipe | None = None
        self._reading = False
        self._handling = False
        """paramiko's thread has been given a message and has not come back for the next."""
        self._pulled = False
        """Somebody waited at the pipe a moment ago."""
        self._waiting: tuple[int, paramiko.Message] | BaseException | None = None
        """For paramiko's thread, found by somebody else."""
        self._exchange = False
        """The far side has begun a key exchange."""
        self._ask_for_keys = False
        """paramiko's thread has still to be told that new keys are needed."""
        self._raw = bytearray()
        self._room = memoryview(self._raw)
        self._start = self._end = 0
        """What has been read and not yet decrypted."""
        self._stretches: list[bytearray] = []
        self._out = bytearray()

    def adopt(self, channel: paramiko.Channel) -> None:
        """From now on this is the channel with the quick way. Nothing may have come on it yet."""
        if not self._raw:
            self._raw = bytearray(RAW)
            self._room = memoryview(self._raw)
        pipe = Pipe(channel, self)
        channel.in_buffer = pipe  # type: ignore[assignment]
        with self.lock:
            self._pipe = pipe

    # ----------------------------------------------------------------------------------------- who reads

    def read_message(self) -> tuple[int, paramiko.Message]:
        """The next message that is paramiko's to deal with. For paramiko's thread."""
        with self.lock:
            self._handling = False
            self.came.notify_all()
        while True:
            if self._my_turn():
                letter, ended = None, False
                try:
                    letter = self._read()
                    ended = True
                finally:
                    with self.lock:
                        self._reading, self._handling = False, letter is not None or not ended
                        self.came.notify_all()
                if letter is not None:
                    return letter
            elif self._waiting is not None:
                with self.lock:
                    found, self._waiting = self._waiting, None
                if isinstance(found, BaseException):
                    raise found
                return found
            if self._Packetizer__closed:
                raise EOFError
            self._check_keepalive()  # type: ignore[attr-defined]

    def _my_turn(self) -> bool:
        """Sleep while somebody else reads. True if paramiko's thread is to read now; it must say when it no longer does."""
        with self.lock:
            while not (self._waiting is not None or self._Packetizer__closed):
                if self._ask_for_keys:
                    self._ask_for_keys = False
                    raise NeedRekeyException
                if not self._reading and (not self._pulled or self._exchanging or not self._quick_in):
                    self._reading = True
                    return True
                self._pulled = False
                self._called.wait(_MOMENT)
            return False

    def pull(self, pipe: Pipe, seconds: float | None) -> None:
        """Read until something has happened, for at most about ``seconds``. For whoever waits at the pipe, who then looks again."""
        letter: tuple[int, paramiko.Message] | BaseException | None = None
        mine = False
        try:
            with self.lock:
                self._pulled = True
                if pipe.read_ready() or pipe.closed:
                    return
                if self._reading or self._handling or self._exchanging or self._waiting is not None or not self._quick_in:
                    self.came.wait(seconds)
                    return
                self._reading = mine = True
            letter = self._read()
        except Exception as error:  # noqa: BLE001  paramiko's thread raises it, and ends the transport
            letter = error
        finally:
            # What comes from outside (a run that is cancelled) goes on to the caller. Had it struck within a packet, the next one
            # would not have the right tag.
            if mine:
                with self.lock:
                    self._reading = False
                    if letter is not None:
                        self._handling, self._waiting = True, letter
                    if letter is not None or self._exchanging:
                        self._called.notify_all()

    @property
    def _exchanging(self) -> bool:
        return self._exchange or self._Packetizer__need_rekey

    @property
    def _quick_in(self) -> bool:
        return (
            self._pipe is not None
            and self._Packetizer__aead_in
            and self._Packetizer__compress_engine_in is None
            and not self._Packetizer__dump_packets
        )

    def close(self) -> None:
        super().close()
        with self.lock:
            self.came.notify_all()
            self._called.notify_all()

    def let_go(self) -> None:
        """After the end: give up what leads back to us, so that our buffers go now and not when Python looks for circles."""
        with self.lock:
            self._pipe = None
        self._Packetizer__timer = None

    def set_inbound_cipher(self, *args: Any, **kwargs: Any) -> None:
        super().set_inbound_cipher(*args, **kwargs)
        self._exchange = False

    def _trigger_rekey(self) -> None:
        super()._trigger_rekey()  # type: ignore[misc]
        with self.lock:
            self._ask_for_keys = True
            self._called.notify_all()

    # ----------------------------------------------------------------------------------------- reading

    def _read(self) -> tuple[int, paramiko.Message] | None:
        """Read once and decrypt what is whole. A message for paramiko's thread, or None: nothing came, or only what has its place."""
        if not self._quick_in:
            self._acknowledge()
            letter = super().read_message()
        else:
            before = self._start
            found = self._open()
            if found is None and self._start == before and self._fill():
                found = self._open()
            if found is None:
                return None
            letter = found
        if letter[0] == _KEXINIT:
            self._exchange = True
        return letter

    def _acknowledge(self) -> None:
        """Tell the far side's TCP at once that its last message came.

        Until its subsystem runs, OpenSSH sends the second of two messages when the first is acknowledged, and the kernel would
        wait 40 ms with that: more than half of a sign-in.
        """
        if hasattr(socket, "TCP_QUICKACK") and isinstance(self._Packetizer__socket, socket.socket):
            with suppress(OSError):  # it is closed: reading tells
                self._Packetizer__socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """For paramiko's way: what was read ahead comes first."""
        if self._start == self._end:
            return super().read_all(n, check_rekey)
        taken = bytes(self._room[self._start : min(self._end, self._start + n)])
        self._start += len(taken)
        return taken if len(taken) == n else taken + super().read_all(n - len(taken))

    def _fill(self) -> bool:
        """Read what has come; False if nothing came for a moment."""
        if self._start:
            left = self._end - self._start
            self._room[:left] = self._room[self._start : self._end]
            self._start, self._end = 0, left
        if self._Packetizer__remainder:  # of the greeting
            taken, self._Packetizer__remainder = self._Packetizer__remainder, b""
            self._room[self._end : self._end + len(taken)] = taken
            self._end += len(taken)
            return True
        try:
            count = self._Packetizer__socket.recv_into(self._room[self._end :])
        except TimeoutError:
            return False
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return False
            if self._Packetizer__closed:
                raise EOFError from error
            raise
        if not count:
            raise EOFError
        self._end += count
        return True

    def _open(self) -> tuple[int, paramiko.Message] | None:
        """Decrypt the packets that are here whole, up to the first that is for paramiko's thread, which is handed back.

        Each is decrypted so that its data follows that of the one before; its head falls on the end of that, which is put back.
        """
        raw, start, end = self._room, self._start, self._end
        if end - start < 4:
            return None
        pipe = self._pipe if self._pipe is not None and not self._pipe.closed and not self._exchange else None
        decrypt, iv = self._Packetizer__block_engine_in.decrypt_into, self._Packetizer__iv_in
        fixed, counter, packets = iv[:4], int.from_bytes(iv[4:], "big"), 0
        begun = start
        stretch = view = None
        place = _head.size
        letter = None
        try:
            while end - start >= 4:
                (length,) = _uint32.unpack_from(raw, start)
                if length > _LONGEST or length < _BLOCK or length % _BLOCK:
                    raise paramiko.SSHException("Invalid packet blocking")
                after = start + 4 + length + _TAG
                if after > end:
                    break
                if view is None:
                    stretch = self._stretch(end - start)
                    view = memoryview(stretch)
                head = place - _head.size
                covered = bytes(view[head:place])
                nonce = fixed + (counter + packets).to_bytes(8, "big")
                try:
                    decrypt(nonce, raw[start + 4 : after], raw[start : start + 4], view[head : head + length])
                except InvalidTag as error:
                    view[head:place] = covered
                    raise paramiko.SSHException("Mismatched MAC") from error
                padding, kind, channel, size = _head.unpack_from(view, head)
                packets += 1
                start = after
                if kind == _DATA and pipe is not None and channel == pipe.number and size == length - padding - _head.size:
                    view[head:place] = covered
                    place += size
                    continue
                payload = bytes(view[head + 1 : head + length - padding])
                view[head:place] = covered
                if not payload:
                    raise paramiko.SSHException("a packet without a message")
                message = paramiko.Message(payload[1:])
                message.seqno = (self._Packetizer__sequence_number_in + packets - 1) & 0xFFFFFFFF
                if kind == _ADJUST and pipe is not None and len(payload) == 9 and channel == pipe.number:
                    message.get_int()
                    if (its := pipe.channel) is not None:
                        its._window_adjust(message)  # type: ignore[attr-defined]
                    continue
                letter = kind, message
                break
        finally:
            self._start = start
            self._Packetizer__iv_in = fixed + (counter + packets).to_bytes(8, "big")
            self._Packetizer__sequence_number_in = (self._Packetizer__sequence_number_in + packets) & 0xFFFFFFFF
            if view is not None and stretch is not None:
                data = view[_head.size : place]
                view.release()
                if len(stretch) > RAW:
                    self._stretches.append(stretch)
                if data and pipe is not None:
                    pipe.feed(data)
        self._count(packets, start - begun)
        return letter

    def _stretch(self, count: int) -> bytearray:
        """Room for the data of so many bytes of packets. What is looked into for long must not hold much more than it shows."""
        if count <= RAW // 2:
            return bytearray(count + _head.size)
        # One that nobody looks into any more, or a new one.
        for number, stretch in enumerate(self._stretches):
            try:
                stretch.append(stretch.pop())  # cannot change its length while it is looked into
            except BufferError:
                continue
            return self._stretches.pop(number)
        del self._stretches[:-2]  # those that are looked into live as long as that lasts
        return bytearray(RAW + _head.size)

    def _count(self, packets: int, octets: int) -> None:
        """As paramiko does after each packet: ask for new keys when they are due, and give the far side some time for that."""
        self._Packetizer__received_bytes += octets
        self._Packetizer__received_packets += packets
        if self._Packetizer__need_rekey:
            self._Packetizer__received_bytes_overflow += octets
            self._Packetizer__received_packets_overflow += packets
            if (
                self._Packetizer__received_packets_overflow >= self.REKEY_PACKETS_OVERFLOW_MAX
                or self._Packetizer__received_bytes_overflow >= self.REKEY_BYTES_OVERFLOW_MAX
            ):
                raise paramiko.SSHException("Remote transport is ignoring rekey requests")
        elif self._Packetizer__received_packets >= self.REKEY_PACKETS or self._Packetizer__received_bytes >= self.REKEY_BYTES:
            self._Packetizer__received_bytes_overflow = self._Packetizer__received_packets_overflow = 0
            self._trigger_rekey()

    # ----------------------------------------------------------------------------------------- sending

    def send_message(self, data: Any) -> None:
        """A message, or a stretch of channel data."""
        if not isinstance(data, _Stretch):
            super().send_message(data)
        elif (
            self._Packetizer__aead_out and self._Packetizer__compress_engine_out is None and not self._Packetizer__dump_packets
        ):
            with self._Packetizer__write_lock:
                self._send_stretch(data)
        else:
            for message in data.messages():
                super().send_message(message)

    def _send_stretch(self, stretch: _Stretch) -> None:
        encrypt, iv = self._Packetizer__block_engine_out.encrypt_into, self._Packetizer__iv_out
        fixed, counter, packets = iv[:4], int.from_bytes(iv[4:], "big"), 0
        most = len(stretch.data) + (len(stretch.data) // stretch.piece + 1) * (4 + _head.size + 2 * _BLOCK + _TAG)
        if len(self._out) < most:
            self._out = bytearray(max(most, SENT))
        out, place, spare = memoryview(self._out), 0, os.urandom(2 * _BLOCK)
        for piece in stretch.pieces():
            inner = _head.size + len(piece)
            padding = 3 + _BLOCK - (inner + 3) % _BLOCK
            begin, length = place + 4, inner + padding
            _uint32.pack_into(out, place, length)
            _head.pack_into(out, begin, padding, _DATA, stretch.channel, len(piece))
            out[begin + _head.size : begin + inner] = piece
            out[begin + inner : begin + length] = spare[:padding]
            after = begin + length + _TAG
            nonce = fixed + (counter + packets).to_bytes(8, "big")
            encrypt(nonce, out[begin : begin + length], out[place:begin], out[begin:after])
            place, packets = after, packets + 1
        self._Packetizer__iv_out = fixed + (counter + packets).to_bytes(8, "big")
        self._Packetizer__sequence_number_out = (self._Packetizer__sequence_number_out + packets) & 0xFFFFFFFF
        self.write_all(out[:place])
        self._Packetizer__sent_bytes += place
        self._Packetizer__sent_packets += packets
        due = self._Packetizer__sent_packets >= self.REKEY_PACKETS or self._Packetizer__sent_bytes >= self.REKEY_BYTES
        if due and not self._Packetizer__need_rekey:
            self._Packetizer__received_bytes_overflow = self._Packetizer__received_packets_overflow = 0
            self._trigger_rekey()


class Transport(paramiko.Transport):
    """Goes as soon as nobody has it any more: with its buffers that is a MiB or two, for each connection that has ended."""

    _handler_table: dict[int, Any]

    def run(self) -> None:
        try:
            super().run()
        finally:
            # What leads back to us: our own methods, and the frames of this thread, which the reason for its end would keep.
            self._handler_table.clear()
            reason: BaseException | None = self.saved_exception
            while reason is not None:
                reason.__traceback__ = None
                reason = reason.__cause__ or reason.__context__


# --------------------------------------------------------------------------------------------- which one is used


def packetizer(connection: Any) -> type[Packetizer]:
    """What is to make and read the packets of a connection: ours where it was found to do as paramiko's does, else paramiko's."""
    if not isinstance(connection, socket.socket):
        return Packetizer  # a tunnel
    if why := _unfit(paramiko.__version__):
        _log.debug("SSH packets go paramiko's own way, which is slower: %s", why)
        return Packetizer
    return Quick


def quicken(channel: paramiko.Channel, transport: paramiko.Transport) -> None:
    """Give a channel the quick way, if its connection has one. It was just opened, and nothing has come on it."""
    if isinstance(transport.packetizer, Quick):
        transport.packetizer.adopt(channel)


@functools.cache
def _unfit(version: str) -> str:
    """Why ours cannot be used with this paramiko; "" if it can. Both talk to each other once, in this process."""
    if not version.startswith(PROVEN):
        return f"paramiko is {version}, and what is known of its inside is that of {PROVEN}*"
    try:
        _try_both_ways()
    except Exception as error:  # noqa: BLE001  whatever it is: paramiko's own way works without this
        return f"the trial failed: {error!r}"
    return ""


class Loop:
    """Bytes that are sent here are received here. In place of a socket, for trials: it never waits."""

    def __init__(self, at_once: int = RAW) -> None:
        self.bytes, self._at_once = bytearray(), at_once

    def send(self, data: Bytes) -> int:
        self.bytes += data
        return len(data)

    def recv(self, count: int) -> bytes:
        """At most so many bytes as come at once; none when there are none, as at the end of a connection."""
        taken = bytes(self.bytes[: min(count, self._at_once)])
        del self.bytes[: len(taken)]
        return taken

    def recv_into(self, place: memoryview) -> int:
        taken = self.recv(len(place))
        place[: len(taken)] = taken
        return len(taken)

    def close(self) -> None:
        """Nothing to end."""


def _try_both_ways() -> None:
    """Data and another message from paramiko's to ours, a stretch back, and a packet that was spoiled on its way. A few ms."""
    loop, channel = Loop(), paramiko.Channel(7)
    ours, theirs = Quick(loop), Packetizer(loop)  # type: ignore[arg-type]
    lacking = [name for name in Quick.__annotations__ if name.startswith("_Packetizer__") and not hasattr(ours, name)]
    if lacking:
        raise AttributeError(", ".join(lacking))
    key, iv = AESGCM(os.urandom(16)), os.urandom(12)
    for one in (ours, theirs):
        one.set_outbound_cipher(key, 16, None, 16, None, aead=True, iv_out=iv)  # type: ignore[arg-type]
        one.set_inbound_cipher(key, 16, None, 16, None, aead=True, iv_in=iv)  # type: ignore[arg-type]
    channel._set_window(1024 * 1024, 32768)  # type: ignore[attr-defined]
    ours.adopt(channel)
    stretch = _Stretch(7, memoryview(os.urandom(70_000)), 30_000)
    for message in stretch.messages():
        theirs.send_message(message)
    other = paramiko.Message()
    other.add_byte(bytes([80]))
    other.add_string(b"something else")
    theirs.send_message(other)
    kind, message = ours.read_message()
    _must((kind, message.get_string(), channel.in_buffer.empty()) == (80, b"something else", bytes(stretch.data)), "reading")
    ours.send_message(stretch)
    for piece in stretch.pieces():
        kind, message = theirs.read_message()
        _must((kind, message.get_int(), message.get_string()) == (_DATA, 7, bytes(piece)), "sending")
    theirs.send_message(other)
    loop.bytes[-1] ^= 1
    try:
        ours.read_message()
    except paramiko.SSHException:
        return
    _must(False, "a spoiled packet was taken")


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
