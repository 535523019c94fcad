"""A partner's SFTP server for the demo, the tests and the benchmarks: paramiko's server side over a folder, on loopback."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import hmac
import io
import logging
import os
import posixpath
import random
import socket
import stat
import threading
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paramiko.message import Message
from paramiko.sftp import (
    CMD_CLOSE,
    CMD_EXTENDED,
    CMD_EXTENDED_REPLY,
    CMD_NAMES,
    SFTP_FAILURE,
    SFTP_NO_SUCH_FILE,
    SFTP_OK,
    SFTP_OP_UNSUPPORTED,
    SFTP_PERMISSION_DENIED,
    int64,
)

from tests.sandbox.partner import ODD_NAMES, PERSONALITY, PartnerServer, Value

FAULTS: Mapping[str, str] = {
    "slow": "seconds before each answer",
    "drop-after": "cut each connection after so many bytes of file content",
    "short-reads": "at most so many bytes in one answer",
    "trickle": "at most so many bytes of file content at a time, twenty times in a second",
    "short-eof": "end a download after so many bytes, as if the file had no more",
    "longer": "files have so many bytes more than the server says",
    "reorder": "answer waiting requests in another order",
    "no-posix-rename": "no renaming over an existing name",
    "lying-extensions": "name extensions in the greeting that are refused when used; tell limits that nobody could keep",
    "forgets-waiting": "lose the requests that come while another one waits for its answer",
    "muddles-after": "after so many answers on a connection, answer those requests that waited under numbers never asked for",
    "chatters": "seconds between answers under numbers never asked for, which then come for ever, and nothing else",
    "max-handles": "at most so many open files on a connection",
    "full": "no space left after so many bytes of an upload",
    "full-when-closed": "tell only when a written file is closed that there was no space left",
    "deny-delete": "nothing may be removed or renamed away",
    "deny-write": "nothing may be created",
    "deny-rename": "nothing may be renamed",
    "renames-left": "so many renames may still be done, less one; the others are denied",
    "dribble": "seconds before each byte of an answer",
    "write-only": "nothing may be listed, looked at or read",
    "busy": "let in at most so many connections; the others are closed before the greeting",
    "legacy-algorithms": "speak no cipher but aes128-cbc and no MAC but hmac-sha1",
    "lost-rename": "do the next so many renames, and cut the connection before answering",
    "lost-before-rename": "cut the connection before the next so many renames are done",
    "late-rename": "cut the connection instead of doing the next so many renames to names without a dot before; each is done when it is "
    "asked for again",
    "quick-partner": "what a late rename has brought is collected at once",
    "lying-rename": "say that the next so many renames to names without a dot before are done; each is done when it is asked for "
    "again",
    "odd-names": "listings also hold names that lead out of the folder, and an empty one, each time with another size",
    "no-kinds": "tell neither kind nor rights of what is there",
    "lost-listing": "cut the connection in the middle of the next so many listings",
    "empty-listing": "tell the next so many listings as empty",
    "no-login": "let nobody in",
    "new-host-key": "show another host key after the next start",
    **PERSONALITY,
}

_NO_SPACE = 14
_LOG = "sandbox.ssh"
logging.getLogger(_LOG).setLevel(logging.CRITICAL)
_libc = ctypes.CDLL(None, use_errno=True)


class SftpSandbox(PartnerServer):
    """The server. ``public_keys`` maps names to ``authorized_keys`` lines. With ``host_key`` the key is kept in that file, else it
    lives as long as this object."""

    known = FAULTS

    def __init__(
        self,
        root: Path,
        *,
        users: Mapping[str, str] | None = None,
        public_keys: Mapping[str, str] | None = None,
        reserved: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        host_key: Path | None = None,
        faults: MutableMapping[str, Value] | None = None,
    ) -> None:
        super().__init__(root, users or {}, reserved or {}, host, port, faults)
        self.public_keys = dict(public_keys or {})
        self._key_file, self._key = host_key, _host_key(host_key)
        self._transports: list[paramiko.Transport] = []
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def fingerprint(self) -> str:
        return str(self._key.fingerprint)

    @property
    def url(self) -> str:
        return f"sftp://{self.host}:{self.port}"

    @property
    def trust(self) -> Mapping[str, str]:
        return {"host_key": self.fingerprint}

    def start(self) -> Self:
        if self.fault("new-host-key"):
            if self._key_file is not None:
                self._key_file.unlink(missing_ok=True)
            self._key = _host_key(self._key_file)
            self.faults.pop("new-host-key", None)
        self.stopping.clear()
        self._listener = socket.create_server((self.host, self.port), backlog=100)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, args=(self._listener,), name="sftp sandbox", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self.stopping.set()
        if self._listener is not None and self._thread is not None:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() alone does not
            self._thread.join(10)
            self._listener.close()
            self._listener = None
        self.cut()

    def cut(self) -> None:
        """End all connections."""
        for transport in self._transports:
            transport.close()
            transport.packetizer.complete_handshake()  # ends its timer thread
        self._transports.clear()

    def _serve(self, listener: socket.socket) -> None:
        while not self.stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.knocks += 1
            self._transports = [transport for transport in self._transports if transport.is_active()]
            most = self.fault("busy")
            if most and len(self._transports) + 1 > most:
                with connection, suppress(OSError):
                    connection.sendall(b"Exceeded MaxStartups\r\n")
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = paramiko.Transport(connection)
            transport.set_log_channel(_LOG)
            transport.add_server_key(self._key)
            if self.fault("legacy-algorithms"):
                options = transport.get_security_options()
                options.ciphers, options.digests = ["aes128-cbc"], ["hmac-sha1"]
            transport.set_subsystem_handler("sftp", _Wire, _Files, self)
            self._transports.append(transport)
            transport.start_server(event=threading.Event(), server=_Door(self))


def _host_key(place: Path | None) -> paramiko.PKey:
    """The key kept in ``place``, or a new one."""
    if place is not None and place.exists():
        private = place.read_text()
    else:
        private = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch(mode=0o600)
            place.write_text(private)
    return paramiko.Ed25519Key.from_private_key(io.StringIO(private))


class _Door(paramiko.ServerInterface):
    """Who may come in."""

    def __init__(self, sandbox: SftpSandbox) -> None:
        self._sandbox = sandbox
        self.user = ""

    def get_allowed_auths(self, username: str) -> str:
        return ",".join([*(["publickey"] if self._sandbox.public_keys else []), *(["password"] if self._sandbox.users else [])])

    def check_auth_password(self, username: str, password: str) -> int:
        self.user, wanted = username, self._sandbox.users.get(username)
        return self._let_in(wanted is not None and hmac.compare_digest(wanted.encode(), password.encode()))

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.user = username
        return self._let_in(key.get_base64() in self._sandbox.public_keys.get(username, "").split())

    def _let_in(self, fits: bool) -> int:
        # Asked of a public key without a signature too, which paramiko answers by itself: then this counts one too many.
        fits = fits and not self._sandbox.fault("no-login")
        self._sandbox.logins += fits
        self._sandbox.refusals += not fits
        return paramiko.AUTH_SUCCESSFUL if fits else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED if kind == "session" else paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED


class _ByteNames(Message):
    """A request whose names need not be UTF-8: other bytes become surrogates, as in Python's own file functions."""

    def get_text(self) -> str:
        return self.get_string().decode("utf-8", "surrogateescape")


class _Dropped(EOFError):
    """This connection was cut on purpose."""


class _Wire(paramiko.SFTPServer):
    """paramiko's server with byte-exact names, the posix-rename extension, and the faults that concern the wire."""

    def __init__(self, channel: paramiko.Channel, name: str, server: paramiko.ServerInterface, *args: Any) -> None:
        super().__init__(channel, name, server, *args)
        self._sandbox: SftpSandbox = args[1]
        self._held: list[tuple[int, Message]] = []
        self.server.wire = self
        self._moved = self._answers = 0
        self._cut = False

    def _read_packet(self) -> Any:
        # What had come before the cut waits in the channel; a server that is gone does none of it.
        if self._cut:
            raise EOFError
        return super()._read_packet()

    def _send_server_version(self) -> int:
        kind, data = self._read_packet()
        version = int.from_bytes(data[:4])
        greeting = Message()
        greeting.add_int(3)
        offered = [] if self._sandbox.fault("no-posix-rename") else [b"posix-rename@openssh.com"]
        if self._sandbox.fault("lying-extensions"):
            offered = [b"posix-rename@openssh.com", b"statvfs@openssh.com", b"limits@openssh.com"]
        for extension in offered:
            greeting.add_string(extension)
            greeting.add_string(b"1")
        self._send_packet(2, greeting)
        return version if kind else 0

    def _process(self, kind: int, number: int, message: Message) -> None:
        self._sandbox.stopping.wait(self._sandbox.fault("slow"))
        if kind not in CMD_NAMES or self._sandbox.stopping.is_set():
            raise EOFError
        if self._sandbox.fault("forgets-waiting"):
            while self.sock.recv_ready():
                self.sock.recv(1024 * 1024)
        asked = _ByteNames(message.get_remainder())
        if kind == CMD_EXTENDED and self._sandbox.fault("lying-extensions"):
            if asked.get_string() != b"limits@openssh.com":
                self._send_status(number, SFTP_OP_UNSUPPORTED)
                return
            self._response(number, CMD_EXTENDED_REPLY, *[int64(2**62)] * 3, int64(0))
            return
        if kind == CMD_CLOSE and self._sandbox.fault("full-when-closed"):
            handle = asked.get_string()
            if (file := self.file_table.get(handle)) is not None and file.written:
                file.close()
                del self.file_table[handle]
                self._send_status(number, _NO_SPACE)
                return
            asked.rewind()
        super()._process(kind, number, asked)

    def _send_status(self, number: int, code: int, desc: str | None = None) -> None:
        # Version 3 has no code for a full disk; like other servers we say it in words.
        if code == _NO_SPACE:
            code, desc = SFTP_FAILURE, "No space left on device"
        super()._send_status(number, code, desc)

    def _send_packet(self, kind: int, packet: Message) -> None:
        self._answers += 1
        if pause := self._sandbox.fault("chatters"):
            told = packet.asbytes()
            while not self._sandbox.stopping.wait(pause):
                super()._send_packet(kind, Message(bytes([told[0] ^ 0x40]) + told[1:]))
        if 0 < self._sandbox.fault("muddles-after") < self._answers and self.sock.recv_ready():
            told = packet.asbytes()
            packet = Message(bytes([told[0] ^ 0x40]) + told[1:])
        if not self._sandbox.fault("reorder"):
            super()._send_packet(kind, packet)
            return
        self._held.append((kind, packet))
        if not self.sock.recv_ready() or len(self._held) > 20:
            held, self._held = self._held, []
            random.shuffle(held)
            for kind, packet in held:
                super()._send_packet(kind, packet)

    def _write_all(self, out: bytes) -> None:
        pause = self._sandbox.fault("dribble")
        for piece in [out[place : place + 1] for place in range(len(out))] if pause else [out]:
            super()._write_all(piece)
            self._sandbox.stopping.wait(pause)

    def carried(self, count: int) -> None:
        """Count file content; cut the connection when it is due."""
        self._moved += count
        limit = self._sandbox.fault("drop-after")
        if limit and self._moved > limit:
            self.drop()

    def drop(self) -> None:
        self._cut = True
        self.sock.get_transport().sock.shutdown(socket.SHUT_RDWR)
        raise _Dropped

    @property
    def open_files(self) -> int:
        return len(self.file_table)


P = ParamSpec("P")


def _answered(act: Callable[Concatenate[Any, P], Any]) -> Callable[Concatenate[Any, P], Any]:
    """What the operating system refuses becomes an SFTP status."""

    @functools.wraps(act)
    def wrapped(self: Any, *args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return act(self, *args, **kwargs)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return _NO_SPACE
            return paramiko.SFTPServer.convert_errno(error.errno or 0)

    return wrapped


class _Files(paramiko.SFTPServerInterface):
    """The folder, never left: neither by ``..`` nor through a link."""

    wire: _Wire

    def __init__(self, server: _Door, sandbox: SftpSandbox) -> None:
        super().__init__(server)
        self._sandbox, self._door = sandbox, server

    def _place(self, path: str, *, follow: bool = True) -> str:
        """Where a path is on this machine. What is outside of the root does not exist."""
        inside = posixpath.normpath("/" + path)
        if not self._sandbox.may(self._door.user, inside):
            raise PermissionError(errno.EACCES, "another account's folder")
        root = str(self._sandbox.root)
        place = root + inside if inside not in ("/", "//") else root
        anchor = os.path.realpath(place if follow else os.path.dirname(place)) if place != root else root
        if anchor != root and not anchor.startswith(root + "/"):
            raise PermissionError(errno.EACCES, "outside of the sandbox")
        return self._sandbox.kept_name(place)

    @_answered
    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> Any:
        writing = flags & (os.O_WRONLY | os.O_RDWR)
        if self._sandbox.fault("deny-write" if writing else "write-only"):
            return SFTP_PERMISSION_DENIED
        most = self._sandbox.fault("max-handles")
        if most and self.wire.open_files >= most:
            return SFTP_FAILURE
        place = self._place(path, follow=not flags & os.O_EXCL)
        return _Open(os.open(place, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o644), self._sandbox, self.wire)

    @_answered
    def list_folder(self, path: str) -> Any:
        if self._sandbox.fault("write-only"):
            return SFTP_PERMISSION_DENIED
        entries = []
        with os.scandir(self._place(path)) as found:
            for entry in found:
                entries.append(_attributes(self._sandbox, entry.stat(follow_symlinks=False), entry.name))
        self._sandbox.listings += 1
        if self._sandbox.fault("odd-names"):
            for name in ODD_NAMES:
                odd = _attributes(self._sandbox, self._sandbox.root.stat(), os.fsdecode(name))
                odd.st_mode, odd.st_size = stat.S_IFREG | 0o644, self._sandbox.listings
                entries.append(odd)
        if self._sandbox.spend("lost-listing"):
            self.wire.drop()
        return [] if self._sandbox.spend("empty-listing") else entries

    @_answered
    def stat(self, path: str) -> Any:
        if self._sandbox.fault("write-only"):
            return SFTP_PERMISSION_DENIED
        return _attributes(self._sandbox, os.stat(self._place(path)))

    @_answered
    def lstat(self, path: str) -> Any:
        if self._sandbox.fault("write-only"):
            return SFTP_PERMISSION_DENIED
        return _attributes(self._sandbox, os.lstat(self._place(path, follow=False)))

    @_answered
    def remove(self, path: str) -> int:
        if self._sandbox.fault("deny-delete"):
            return SFTP_PERMISSION_DENIED
        os.unlink(self._place(path, follow=False))
        return SFTP_OK

    @_answered
    def rename(self, oldpath: str, newpath: str) -> int:
        return self._renamed(oldpath, newpath, _rename_new)

    @_answered
    def posix_rename(self, oldpath: str, newpath: str) -> int:
        if self._sandbox.fault("no-posix-rename"):
            return SFTP_OP_UNSUPPORTED
        return self._renamed(oldpath, newpath, os.replace)

    def _renamed(self, old: str, new: str, act: Callable[[str, str], None]) -> int:
        if self._sandbox.fault("deny-delete") or self._sandbox.fault("deny-rename") or self._sandbox.fault("renames-left") == 1:
            return SFTP_PERMISSION_DENIED
        places = self._place(old, follow=False), self._place(new, follow=False)
        self._sandbox.catch_up(places[0])
        if self._sandbox.late_rename(*places, "late-rename") or self._sandbox.spend("lost-before-rename"):
            self.wire.drop()
        if self._sandbox.late_rename(*places, "lying-rename"):
            return SFTP_OK
        act(*places)
        if self._sandbox.fault("renames-left") > 1:
            self._sandbox.spend("renames-left")
        if self._sandbox.spend("lost-rename"):
            self.wire.drop()
        return SFTP_OK

    @_answered
    def mkdir(self, path: str, attr: paramiko.SFTPAttributes) -> int:
        os.mkdir(self._place(path, follow=False))
        return SFTP_OK

    @_answered
    def rmdir(self, path: str) -> int:
        os.rmdir(self._place(path, follow=False))
        return SFTP_OK

    @_answered
    def chattr(self, path: str, attr: paramiko.SFTPAttributes) -> int:
        paramiko.SFTPServer.set_file_attr(self._place(path), attr)
        return SFTP_OK

    @_answered
    def readlink(self, path: str) -> Any:
        return os.readlink(self._place(path, follow=False))

    def canonicalize(self, path: str) -> bytes:  # type: ignore[override]  # bytes, so that no name is lost
        return posixpath.normpath("/" + path).encode("utf-8", "surrogateescape")

    def symlink(self, target_path: str, path: str) -> int:
        return SFTP_NO_SUCH_FILE


class _Open(paramiko.SFTPHandle):
    """An open file."""

    def __init__(self, descriptor: int, sandbox: SftpSandbox, wire: _Wire) -> None:
        super().__init__()
        self._descriptor, self._sandbox, self._wire = descriptor, sandbox, wire

    def close(self) -> None:
        if self._descriptor >= 0:
            if self.written:
                self._sandbox.written(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def written(self) -> bool:
        return fcntl.fcntl(self._descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY

    @_answered
    def read(self, offset: int, length: int) -> Any:
        short, few, end, more = (int(self._sandbox.fault(name)) for name in ("short-reads", "trickle", "short-eof", "longer"))
        if few:
            self._sandbox.stopping.wait(0.05)
        if end:
            length = min(length, max(0, end - offset))
        data = os.pread(self._descriptor, min(length, short or length, few or length, 256 * 1024), offset)
        if more and (size := os.fstat(self._descriptor).st_size) < offset + length:
            data += b"x" * (min(offset + length, size + more) - offset - len(data))
        self._wire.carried(len(data))
        return data

    @_answered
    def write(self, offset: int, data: bytes) -> int:
        limit = self._sandbox.fault("full")
        if limit and offset + len(data) > limit:
            return _NO_SPACE
        os.pwrite(self._descriptor, data, offset)
        self._wire.carried(len(data))
        return SFTP_OK

    @_answered
    def stat(self) -> Any:
        return _attributes(self._sandbox, os.fstat(self._descriptor))

    @_answered
    def chattr(self, attr: paramiko.SFTPAttributes) -> int:
        if attr.st_atime is not None and attr.st_mtime is not None:
            os.utime(self._descriptor, (attr.st_atime, attr.st_mtime))
        return SFTP_OK


def _attributes(sandbox: SftpSandbox, status: os.stat_result, name: str = "") -> paramiko.SFTPAttributes:
    told = paramiko.SFTPAttributes.from_stat(status)
    if sandbox.fault("no-kinds"):
        told.st_mode = None
    told.filename = name.encode("utf-8", "surrogateescape")
    return told


def _rename_new(old: str, new: str) -> None:
    """Rename without overwriting, in one step (renameat2 with RENAME_NOREPLACE)."""
    if _libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), 1) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
