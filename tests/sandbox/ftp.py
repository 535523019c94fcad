"""A partner's FTP or FTPS server for the demo and the tests: pyftpdlib over a folder, on loopback, with names byte for byte."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import stat
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from tests.sandbox.partner import ODD_NAMES, PERSONALITY, PartnerServer, Value
from tests.servers.certificates import Certificate, make_certificate

with warnings.catch_warnings():
    # It stands on asyncore, which Python 3.11 warns of and later ones get from a package.
    warnings.simplefilter("ignore", DeprecationWarning)
    from pyftpdlib.authorizers import AuthenticationFailed, DummyAuthorizer
    from pyftpdlib.filesystems import AbstractedFS
    from pyftpdlib.handlers import DTPHandler, FTPHandler, TLS_DTPHandler, TLS_FTPHandler
    from pyftpdlib.ioloop import IOLoop
    from pyftpdlib.servers import FTPServer

FAULTS: Mapping[str, str] = {
    "slow": "seconds before each answer",
    "stall-after": "send and take nothing more on a data connection after so many bytes of file content",
    "trickle": "at most so many bytes of file content at a time, twenty times in a second",
    "longer": "files have so many bytes more than the server says",
    "drop-after": "cut each connection after so many bytes of file content",
    "short-226": "end a download after so many bytes, and say 226 all the same",
    "no-mlsd": "know neither MLSD nor MLST",
    "no-list": "know no LIST",
    "no-mdtm": "know no MDTM",
    "no-rest": "know no REST",
    "no-epsv": "know no EPSV",
    "no-hash": "tell no digests of files",
    "wrong-hash": "tell wrong digests of files",
    "whole-hash": "take a range for a digest, and tell that of the whole file",
    "one-question": "lose questions that come before the last one is answered",
    "no-restart": "refuse to write on in the middle of a file",
    "no-append": "refuse to write on at the end of a file",
    "restart-anywhere": "take REST for an upload, and write from the start all the same",
    "odd-list": "listings hold a banner, garbage, and lines cut short",
    "odd-names": "listings also hold names that lead out of the folder, and an empty one, each time with another size",
    "mainframe-list": "listings also hold lines as AS/400 and MVS write them",
    "no-kinds": "MLSD and MLST tell no kinds",
    "dos-list": "LIST as IIS writes it",
    "german-list": "LIST with the months in German, in ISO 8859-1",
    "empty-listing": "tell the next so many listings as empty",
    "mvs-list": "LIST as a mainframe writes it, which nobody can read",
    "nlst-paths": "NLST puts the folder before every name",
    "lost-listing": "cut the connection in the middle of the next so many listings",
    "foreign-pasv": "PASV tells another machine's address",
    "no-login": "let nobody in",
    "no-auth-tls": "know no AUTH TLS",
    "no-prot": "refuse PROT P",
    "clear-data": "accept PROT P, and speak in clear on data connections all the same",
    "legacy-algorithms": "speak no newer cipher than ECDHE-ECDSA-AES128-SHA after the next start",
    "one-group": "take only P-256 for key agreement after the next start",
    "expired-certificate": "show an expired certificate after the next start",
    "new-certificate": "show another certificate after the next start",
    "busy": "let in at most so many connections; the others are told 421",
    "full": "no space left after so many bytes of an upload",
    "deny-write": "nothing may be created",
    "deny-read": "no file may be fetched",
    "deny-delete": "nothing may be removed",
    "deny-rename": "nothing may be renamed",
    "renames-left": "so many renames may still be done, less one; the others are denied",
    "says-it-again": "say before the end of each transfer once more that it is under way",
    "rename-refuses-existing": "no renaming over an existing name",
    "write-only": "nothing may be listed, looked at or read",
    "lost-226": "cut the connection after the next so many uploads, before answering",
    "lost-rename": "do the next so many renames, and cut the connection before answering",
    "lost-before-rename": "cut the connection before the next so many renames are done",
    "late-rename": "cut the connection instead of doing the next so many renames to names without a dot before; each is done when it is "
    "asked for again",
    "quick-partner": "what a late rename has brought is collected at once",
    "lying-rename": "say that the next so many renames to names without a dot before are done; each is done when it is asked for "
    "again",
    **PERSONALITY,
}

_KINDS = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "dir"), (stat.S_ISLNK, "OS.unix=slink:"), (stat.S_ISFIFO, "OS.unix=fifo"))
_MAINFRAME_LINES = (
    b"QSYS            28672 06/07/22 10:00:00 *FILE      A.FILE",
    b"QPGMR                                    *MEM       A.FILE/A.MBR",
    b"U00001 2022/06/07  1   15  VB   27998  PO  MVS.DATA",
)
_ODD_LINES = (b"Welcome to our new server!", b"-rw-r--r-- 1 cut", b"\x00\x01\x02", b"type=file;size=12", b"total nonsense")
logging.getLogger("pyftpdlib").setLevel(logging.CRITICAL)
logging.getLogger("pyftpdlib").addHandler(logging.NullHandler())  # without one it makes its own, and raises the level


class FtpSandbox(PartnerServer):
    """The server. With ``tls`` nothing is said in clear, and each data connection must resume the TLS session of its control
    connection, as vsftpd and proftpd demand it: so nobody else can take a transfer over."""

    known = FAULTS

    def __init__(
        self,
        root: Path,
        *,
        users: Mapping[str, str],
        reserved: Mapping[str, str] | None = None,
        tls: bool = False,
        implicit: bool = False,
        certificates: Path | None = None,
        names: tuple[str, ...] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        faults: MutableMapping[str, Value] | None = None,
    ) -> None:
        super().__init__(root, users, reserved or {}, host, port, faults)
        self.tls, self.implicit = tls or implicit, implicit
        self.certificate: Certificate | None = None
        self.commands: deque[tuple[str, ...]] = deque(maxlen=1000)
        """The last ones that came over control connections, with their arguments."""
        self.turns = self.carried = 0
        """How often a client had to wait for an answer before it went on asking; bytes of files, both ways."""
        self._names = names
        self._certificates = certificates or self.root.parent / f"{self.root.name}-tls"
        self._server: FTPServer | None = None
        self._loop: IOLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"{'ftps' if self.tls else 'ftp'}://{self.host}:{self.port}"

    @property
    def trust(self) -> Mapping[str, str]:
        if self.certificate is None:
            return {}
        return {"certificate": self.certificate.fingerprint, "ca_file": str(self.certificate.authority)}

    def start(self) -> Self:
        handler: Any = type("Handler", (_TlsChannel if self.tls else _Channel,), {"sandbox": self})
        if self.tls:
            if self.certificate is None or self.fault("new-certificate") or self.fault("expired-certificate"):
                self.certificate = make_certificate(
                    self._certificates, *self._names, expired=bool(self.fault("expired-certificate"))
                )
            self.faults.pop("new-certificate", None)
            handler.certfile = str(self.certificate.path)
            handler.tls_control_required = handler.tls_data_required = True
            if self.fault("legacy-algorithms"):
                handler.ssl_context = _legacy(self.certificate.path)
            if self.fault("one-group"):
                handler.ssl_context = SSL.Context(SSL.TLS_SERVER_METHOD)
                handler.ssl_context.use_certificate_chain_file(str(self.certificate.path))
                handler.ssl_context.use_privatekey_file(str(self.certificate.path))
                handler.ssl_context.set_tmp_ecdh(ec.SECP256R1())
        handler.authorizer = _Users(self)
        for name, password in self.users.items():
            handler.authorizer.add_user(name, password, str(self.root), perm="elradfmwMT")
        self.stopping.clear()
        self._loop = IOLoop()
        self._server = FTPServer((self.host, self.port), handler, ioloop=self._loop, backlog=100)
        self.port = self._server.address[1]
        self._thread = threading.Thread(target=self._serve, args=(self._server,), name="ftp sandbox", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self.stopping.set()
        if self._server is not None and self._thread is not None:
            self._thread.join(10)
            self._server.close_all()
            self._server = None

    def _serve(self, server: FTPServer) -> None:
        while not self.stopping.is_set():
            server.serve_forever(timeout=0.05, blocking=False, handle_exit=False)


def _legacy(certificate: Path) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate_chain_file(str(certificate))
    context.use_privatekey_file(str(certificate))
    context.set_options(SSL.OP_NO_TLSv1_3)
    context.set_cipher_list(b"ECDHE-ECDSA-AES128-SHA")
    return context


class _Users(DummyAuthorizer):  # type: ignore[misc]  # pyftpdlib has no types
    """Who may come in, and what they may do."""

    def __init__(self, sandbox: FtpSandbox) -> None:
        super().__init__()
        self._sandbox = sandbox

    def has_perm(self, username: str, perm: str, path: str | None = None) -> bool:
        if perm in "lr" and self._sandbox.fault("write-only"):
            return False
        return bool(super().has_perm(username, perm, path))

    def validate_authentication(self, username: str, password: str, handler: _Channel) -> None:
        if handler.sandbox.fault("no-login"):
            raise AuthenticationFailed("Authentication failed.")
        super().validate_authentication(username, password, handler)


class _Data(DTPHandler):
    """A data connection that answers 452 when there is no space, and stands still on demand."""

    def handle_error(self) -> None:
        if getattr(self.file_obj, "full", False):
            self._resp = ("452 No space left on device.", logging.debug)
            self.close()
        else:
            super().handle_error()

    def readable(self) -> bool:
        return not getattr(self.file_obj, "stalled", False) and super().readable()

    def writable(self) -> bool:
        return not getattr(self.file_obj, "stalled", False) and super().writable()


class _TlsData(_Data, TLS_DTPHandler):
    def send(self, data: bytes) -> int:
        """pyftpdlib sends even nothing (NLST of an empty folder), and before the handshake is over. OpenSSL then takes it, if the
        client has spoken by now, for the end of the connection: 226 would be answered without TLS and its session."""
        return int(super().send(data)) if data else 0

    def handle_ssl_established(self) -> None:
        super().handle_ssl_established()
        if not SSL._lib.SSL_session_reused(self.socket._ssl):  # pyOpenSSL has no name of its own for it
            self.cmd_channel.respond("522 The TLS session of the control connection was not reused.")
            self.close()


class _Content:
    """A file at the partner, counted for the faults."""

    def __init__(self, path: str, mode: str, channel: _Channel) -> None:
        self._file = open(path, mode)  # noqa: SIM115  # pyftpdlib closes it
        self.name, self._channel, self._sandbox, self._moved = self._file.name, channel, channel.sandbox, 0
        self.full = self.stalled = False
        self._extra = 0

    def read(self, count: int) -> bytes:
        short, few, more = (int(self._sandbox.fault(name)) for name in ("short-226", "trickle", "longer"))
        if few:
            self._sandbox.stopping.wait(0.05)
            count = min(count, few)
        data: bytes = self._file.read(min(count, max(0, short - self._file.tell())) if short else count)
        if not data and self._extra < more:
            data, self._extra = b"x" * more, more
        self._carried(len(data))
        return data

    def write(self, data: bytes) -> None:
        limit = self._sandbox.fault("full")
        if limit and self._moved + len(data) > limit:
            self.full = True
            raise OSError(errno.ENOSPC, "No space left on device")
        self._file.write(data)
        self._carried(len(data))

    def _carried(self, count: int) -> None:
        self._moved += count
        self._sandbox.carried += count
        limit, still = self._sandbox.fault("drop-after"), self._sandbox.fault("stall-after")
        self.stalled = bool(still and self._moved > still)
        if limit and self._moved > limit:
            self._channel.cut()
            raise OSError(errno.ECONNABORTED, "cut on purpose")

    def seek(self, offset: int) -> None:
        self._file.seek(offset)

    def close(self) -> None:
        self._file.close()
        if "r" not in self._file.mode:
            self._sandbox.written(self.name)

    @property
    def closed(self) -> bool:
        return self._file.closed


class _Files(AbstractedFS):  # type: ignore[misc]  # pyftpdlib has no types
    """The folder, never left. Links are told as links, and names are bytes."""

    def ftp2fs(self, ftppath: str) -> str:
        place = str(super().ftp2fs(ftppath))
        with suppress(OSError):  # too long a name is refused where it is used
            return self.cmd_channel.sandbox.kept_name(place)
        return place

    def open(self, filename: str, mode: str) -> Any:
        self.cmd_channel.sandbox.kept_name(filename)
        if self.cmd_channel.sandbox.fault("deny-read" if mode == "rb" else "deny-write"):
            raise PermissionError(errno.EACCES, "Permission denied")
        if os.path.lexists(filename) and not stat.S_ISREG(os.lstat(filename).st_mode):
            raise PermissionError(errno.EACCES, "Not a regular file")
        return _Content(filename, mode, self.cmd_channel)

    def validpath(self, path: str) -> bool:
        if not self.cmd_channel.sandbox.may(self.cmd_channel.username, os.path.normpath(path)[len(self.root) :]):
            return False
        # A link may be named, wherever it leads; nothing opens or lists it.
        return bool(super().validpath(os.path.dirname(path) if os.path.islink(path) else path))

    def listdir(self, path: str) -> list[str]:
        if os.path.islink(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return os.listdir(path)

    def chdir(self, path: str) -> None:
        self.listdir(path)  # pyftpdlib would change the folder of this whole process to see whether it can
        self.cwd = self.fs2ftp(path)

    def remove(self, path: str) -> None:
        if self.cmd_channel.sandbox.fault("deny-delete"):
            raise PermissionError(errno.EACCES, "Permission denied")
        super().remove(path)

    def rename(self, src: str, dst: str) -> None:
        sandbox = self.cmd_channel.sandbox
        if sandbox.fault("deny-rename") or sandbox.fault("renames-left") == 1:
            raise PermissionError(errno.EACCES, "Permission denied")
        if sandbox.fault("rename-refuses-existing") and os.path.lexists(dst):
            raise FileExistsError(errno.EEXIST, "File exists")
        sandbox.kept_name(dst)
        super().rename(src, dst)
        if sandbox.fault("renames-left") > 1:
            sandbox.spend("renames-left")

    def format_mlsx(
        self, basedir: str, listing: Iterable[str], perms: str, facts: Any, ignore_err: bool = True
    ) -> Iterator[bytes]:
        listing = self._all(listing) if ignore_err else listing
        for name in listing:
            try:
                status = os.lstat(os.path.join(basedir, name))
            except OSError:
                if ignore_err:
                    continue
                raise
            kind = next((word for fits, word in _KINDS if fits(status.st_mode)), "OS.unix=other")
            moment = time.strftime("%Y%m%d%H%M%S", time.gmtime(status.st_mtime))
            unique = f"{status.st_dev:x}g{status.st_ino:x}"
            told = "" if self.cmd_channel.sandbox.fault("no-kinds") else f"type={kind};"
            yield f"{told}size={status.st_size};modify={moment};unique={unique}; ".encode() + os.fsencode(name) + b"\r\n"
        if ignore_err:
            yield from self._odd(b"type=file;size=%d;modify=20260101000000; ")

    def format_list(self, basedir: str, listing: Iterable[str], ignore_err: bool = True) -> Iterator[bytes]:
        listing = self._all(listing)
        if self.cmd_channel.sandbox.fault("mvs-list"):
            yield b"Volume Unit    Referred Ext Used Recfm Lrecl BlkSz Dsorg Dsname\r\n"
            for name in listing:
                yield b"WYOSPT 3420   2003/05/21  1  200  FB      80  8053  PS  " + os.fsencode(name) + b"\r\n"
        elif not self.cmd_channel.sandbox.fault("dos-list"):
            for line in super().format_list(basedir, listing, ignore_err):
                yield _german(line) if self.cmd_channel.sandbox.fault("german-list") else line
        else:
            for name in listing:
                status = os.lstat(os.path.join(basedir, name))
                moment = time.strftime("%m-%d-%y  %I:%M%p", time.gmtime(status.st_mtime)).encode()
                size = b"<DIR>         " if stat.S_ISDIR(status.st_mode) else b"%20d" % status.st_size
                yield moment + b"       " + size + b" " + os.fsencode(name) + b"\r\n"
        yield from self._odd(b"-rw-r--r--   1 u        g               %d Jan 01 00:00 ")

    def _all(self, listing: Iterable[str]) -> Iterable[str]:
        """The names of a listing, unless it is to be told as empty."""
        sandbox = self.cmd_channel.sandbox
        sandbox.listings += 1
        return [] if sandbox.spend("empty-listing") else listing

    def _odd(self, beginning: bytes) -> Iterator[bytes]:
        """What no honest listing holds, as far as the faults ask for it."""
        channel = self.cmd_channel
        if channel.sandbox.fault("odd-list"):
            yield b"".join(line + b"\r\n" for line in _ODD_LINES)
        if channel.sandbox.fault("odd-names"):
            yield b"".join(beginning % channel.sandbox.listings + name + b"\r\n" for name in ODD_NAMES)
        if channel.sandbox.fault("mainframe-list"):
            yield b"".join(line + b"\r\n" for line in _MAINFRAME_LINES)
        if channel.sandbox.spend("lost-listing"):
            channel.cut()


_MONTHS = ((b" Mar ", b" M\xe4r "), (b" May ", b" Mai "), (b" Oct ", b" Okt "), (b" Dec ", b" Dez "))


def _german(line: bytes) -> bytes:
    for english, german in _MONTHS:
        line = line.replace(english, german, 1)
    return line


class _Channel(FTPHandler):  # type: ignore[misc]  # pyftpdlib has no types
    """A control connection."""

    sandbox: FtpSandbox
    dtp_handler = _Data
    abstracted_fs = _Files
    use_sendfile = False
    unicode_errors = "surrogateescape"
    auth_failed_timeout = 0
    banner = "The sandbox."
    _asked = ""
    proto_cmds = FTPHandler.proto_cmds | {
        "XSHA256": {"perm": "r", "auth": True, "arg": True, "help": "Syntax: XSHA256 <SP> path (digest of a file)."}
    }
    _off: Mapping[str, tuple[str, ...]] = {
        "no-mlsd": ("MLSD", "MLST"),
        "no-list": ("LIST",),
        "no-mdtm": ("MDTM",),
        "no-rest": ("REST",),
        "no-epsv": ("EPSV",),
        "no-hash": ("XSHA256",),
        "no-auth-tls": ("AUTH",),
        "no-prot": ("PROT",),
    }

    def handle(self) -> None:
        self.sandbox.knocks += 1
        most = self.sandbox.fault("busy")
        if most and len(self.server.ip_map) > most:
            self.handle_max_cons()
            return
        self.proto_cmds = dict(self.proto_cmds)
        for fault, commands in self._off.items():
            for command in commands if self.sandbox.fault(fault) else ():
                self.proto_cmds.pop(command, None)
        if "XSHA256" in self.proto_cmds:
            self._extra_feats = [*self._extra_feats, "XSHA256"]
        super().handle()

    def handle_read(self) -> None:
        self._heard = 0
        super().handle_read()
        self.sandbox.turns += bool(self._heard)

    def found_terminator(self) -> None:
        self._heard += 1
        if self._heard > 1 and self.sandbox.fault("one-question"):
            self._in_buffer.clear()
            self._in_buffer_len = 0
        else:
            super().found_terminator()

    def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
        if cmd == "XSHA256":
            quoted = re.fullmatch(r'"([^"]*)"(?: (\d+) (\d+))?', arg)
            if quoted is None and " " in arg:
                self.respond("501 Invalid number of parameters.")  # as proftpd does
                return
            arg, *span = quoted.groups() if quoted else (arg, None, None)
            self._span = slice(*(int(number) if number else None for number in span))
        super().pre_process_command(line, cmd, arg)

    def push_dtp_data(self, data: Any, isproducer: bool = False, file: Any = None, cmd: str | None = None) -> None:
        if cmd == "NLST":
            before = os.fsencode(self.fs.cwd) + b"/" if self.sandbox.fault("nlst-paths") else b""
            data = b"".join(before + name + b"\r\n" for name in data.split(b"\r\n") if name)
            data += b"Welcome to our new server!\r\n" if self.sandbox.fault("odd-list") else b""
        super().push_dtp_data(data, isproducer, file, cmd)

    def ftp_STOR(self, file: str, mode: str = "w") -> Any:  # noqa: N802  # pyftpdlib's names
        refused = "no-append" if "a" in mode else "no-restart" if self._restart_position else ""
        if refused and self.sandbox.fault(refused):
            self.respond("451 Append/Restart not permitted, try again.")
            return None
        if self.sandbox.fault("restart-anywhere"):
            self._restart_position = 0
        return super().ftp_STOR(file, mode)

    def on_login_failed(self, username: str, password: str) -> None:
        self.sandbox.refusals += 1

    def on_login(self, username: str) -> None:
        self.sandbox.logins += 1

    def push(self, data: str) -> None:
        super(FTPHandler, self).push(data.encode("utf-8", "surrogateescape"))

    def process_command(self, cmd: str, *args: Any, **kwargs: Any) -> None:
        self.sandbox.commands.append((cmd, *map(str, args)))
        self.sandbox.stopping.wait(self.sandbox.fault("slow"))
        self._asked = cmd
        super().process_command(cmd, *args, **kwargs)

    def respond(self, resp: str, logfun: Any = logging.debug) -> None:
        if resp.startswith("226") and self.sandbox.fault("says-it-again"):
            super().respond("150 Still at it.", logfun)
        if resp.startswith("226") and self._asked == "STOR" and self.sandbox.spend("lost-226"):
            self.cut()
            return
        if self.sandbox.fault("foreign-pasv") and resp.startswith("227"):
            numbers = resp[resp.index("(") + 1 : resp.index(")")].split(",")
            resp = f"227 Entering passive mode (203,0,113,7,{numbers[4]},{numbers[5]})."
        super().respond(resp)

    def ftp_RNTO(self, path: str) -> Any:  # noqa: N802  # pyftpdlib's names
        self.sandbox.catch_up(self._rnfr)
        if self.sandbox.late_rename(self._rnfr, path, "late-rename") or self.sandbox.spend("lost-before-rename"):
            self.cut()
            return None
        if self.sandbox.spend("lost-rename"):
            os.rename(self._rnfr, path)
            self.cut()
            return None
        if self.sandbox.late_rename(self._rnfr, path, "lying-rename"):
            self._rnfr = None
            self.respond("250 Renamed.")
            return None
        return super().ftp_RNTO(path)

    def ftp_XSHA256(self, path: str) -> None:  # noqa: N802
        try:
            data = b"" if os.path.islink(path) else Path(path).read_bytes()
            digest = hashlib.sha256(data if self.sandbox.fault("whole-hash") else data[self._span]).hexdigest()
        except OSError:
            self.respond("550 No such file.")
        else:
            self.respond(f"250 {'0' * 64 if self.sandbox.fault('wrong-hash') else digest.upper()}")

    def cut(self) -> None:
        """End this connection without a word."""
        self.close()


class _TlsChannel(_Channel, TLS_FTPHandler):  # type: ignore[misc]  # pyftpdlib has no types
    dtp_handler = _TlsData
    proto_cmds = TLS_FTPHandler.proto_cmds | _Channel.proto_cmds

    def ftp_PROT(self, level: str) -> None:  # noqa: N802
        if self.sandbox.fault("clear-data"):
            self.tls_data_required = False
            self.respond("200 Protection level set to P")
        else:
            super().ftp_PROT(level)

    def handle(self) -> None:
        if self.sandbox.implicit:
            self.secure_connection(self.ssl_context)
        super().handle()
