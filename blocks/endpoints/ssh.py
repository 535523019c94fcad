"""SSH up to the point where we are signed in: jump hosts, pinned host keys, and our keys, certificates and passwords. By paramiko.

::

    us ── jump host, pinned and signed in ── ... ── server, pinned and signed in       every hop has keys and an account of its own

Host certificates (an authority vouches for host keys) are not trusted as such: paramiko reads one but checks neither its authority
nor its principals. The host's own key, which is in the certificate too, is compared with the pins as everywhere else.
"""

from __future__ import annotations

import io
import logging
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Protocol

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as keys
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from pydantic import Field, StringConstraints

from blocks.credentials import Reference
from blocks.credentials import read as read_credential
from blocks.endpoints import sftp_packetizer
from blocks.errors import (
    ConfigurationError,
    EndpointBusy,
    EndpointUnreachable,
    EndpointUnsuitable,
    HostKeyChanged,
    LoginRefused,
)
from blocks.values import Terms, shown

WINDOW = 4 * 1024 * 1024
"""Receive window of our channels in bytes: how much the far side may send before we have taken it. About six times as much is held
while a large file comes (measured), so a larger one would take a worker past 150 MiB in all."""

# What paramiko has to say reaches the reader through our errors; its own log lines would come a second time, with tracebacks.
_LOG = "countersign.ssh"
logging.getLogger(_LOG).setLevel(logging.CRITICAL)

OUTDATED = frozenset(
    {
        "aes128-cbc",
        "aes192-cbc",
        "aes256-cbc",
        "3des-cbc",
        "hmac-sha1",
        "hmac-sha1-96",
        "hmac-md5",
        "hmac-md5-96",
    }
)
"""What paramiko can still speak and we offer only to a server with a dated exception. SHA-1 key exchange is gone for good."""

# --------------------------------------------------------------------------------------------- what was agreed

Fingerprint = Annotated[str, StringConstraints(pattern=r"^SHA256:[A-Za-z0-9+/]{43}=?$")]

Host = Annotated[str, Field(min_length=1, description="Host name or address of the server")]
Port = Annotated[int, Field(ge=1, le=65535, description="TCP port of the server")]
Username = Annotated[str, Field(min_length=1, description="Account that we were given there")]
Password = Annotated[Reference | None, Field(description="Where the password is: env:NAME or file:/path")]
PrivateKey = Annotated[
    Reference | None, Field(description="Where our private key (Ed25519, ECDSA or RSA) is: file:/path or env:NAME")
]
Passphrase = Annotated[Reference | None, Field(description="Where the private key's passphrase is: env:NAME or file:/path")]
Certificate = Annotated[
    Reference | None,
    Field(description="Where the SSH certificate of our private key is (…-cert.pub), for servers that trust an authority"),
]
HostKeys = Annotated[
    tuple[Fingerprint, ...],
    Field(
        description="Fingerprints (SHA256:...) of trusted host keys, shown by 'countersign endpoint trust'; without one nothing connects"
    ),
]


class Jump(Terms):
    """A host on the way to a server that cannot be reached directly (``ProxyJump``). Pinned and signed in to like the server."""

    host: Host
    port: Port = 22
    username: Username
    password: Password = None
    private_key: PrivateKey = None
    passphrase: Passphrase = None
    certificate: Certificate = None
    host_keys: HostKeys = ()


class Hop(Protocol):
    """One host of a line: a jump host, or the server itself."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def username(self) -> str: ...
    @property
    def password(self) -> str | None: ...
    @property
    def private_key(self) -> str | None: ...
    @property
    def passphrase(self) -> str | None: ...
    @property
    def certificate(self) -> str | None: ...
    @property
    def host_keys(self) -> tuple[str, ...]: ...


# --------------------------------------------------------------------------------------------- the line

_PROHIBITED = 1
"""Reason of an SSH server that is not willing to open a channel (RFC 4254, section 5.1)."""


class Line:
    """Connections one through the other: to the jump hosts in their order, and to the server last.

    Raises the errors of ``blocks/endpoints/base.py``; messages begin with the server's ``address`` and name the jump host at fault.
    """

    def __init__(self, through: Sequence[Hop], address: str, seconds: float) -> None:
        self._address, self._seconds = address, seconds
        self._transports: list[paramiko.Transport] = []
        self.fingerprint = ""
        """Of the key of the host that was last signed in to."""
        for hop in through:
            _must_be_pinned(hop, self._at(hop))
        for hop in through:
            self.sign_in(hop, self._at(hop))

    @classmethod
    def to(
        cls, server: Hop, through: Sequence[Hop], address: str, seconds: float, outdated: frozenset[str] = frozenset()
    ) -> Line:
        """Signed in at the server, which may also use what is ``outdated``; jump hosts may not."""
        _must_be_pinned(server, address)
        line = cls(through, address, seconds)
        line.sign_in(server, address, outdated)
        return line

    def sign_in(self, hop: Hop, where: str, outdated: frozenset[str] = frozenset()) -> None:
        try:
            self.fingerprint = self.fingerprint_of(hop, where, outdated)
            _must_be(self.fingerprint, hop, where)
            with translated(where, self._seconds):
                _sign_in(self.transport, hop, where)
        except BaseException:
            self.end()
            raise

    def fingerprint_of(self, hop: Hop, where: str, outdated: frozenset[str]) -> str:
        """Connect to the next hop and agree on keys; nothing of ours is sent yet. The fingerprint of its key."""
        with translated(where, self._seconds):
            connection = self._reach(hop, where)
            try:
                transport = sftp_packetizer.Transport(
                    connection, default_window_size=WINDOW, packetizer_class=sftp_packetizer.packetizer(connection)
                )
            except BaseException:
                connection.close()
                raise
            self._transports.append(transport)
            transport.set_log_channel(_LOG)
            options = transport.get_security_options()
            # GCM needs one pass over the data where CTR with HMAC needs two; paramiko offers it last.
            options.ciphers = sorted(_offered(options.ciphers, outdated), key=lambda cipher: "gcm" not in cipher)
            options.digests = _offered(options.digests, outdated)
            transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = self._seconds
            transport.channel_timeout = transport.clear_to_send_timeout = self._seconds
            transport.start_client(timeout=self._seconds)
            # start_client does not tell that its time ran out; this does
            return str(transport.get_remote_server_key().fingerprint)

    @property
    def transport(self) -> paramiko.Transport:
        """To the host that was reached last."""
        return self._transports[-1]

    def end(self) -> None:
        for transport in reversed(self._transports):
            transport.close()
            transport.packetizer.complete_handshake()  # else its timer thread lives on until the handshake's deadline
            if isinstance(transport.packetizer, sftp_packetizer.Quick):
                transport.packetizer.let_go()

    def _at(self, hop: Hop) -> str:
        return f"{self._address}, jump host {hop.username}@{hop.host}:{hop.port}"

    def _reach(self, hop: Hop, where: str) -> Any:
        """A connection to the next hop: a socket, or a tunnel through the hop before it."""
        if self._transports:
            try:
                channel = self.transport.open_channel(
                    "direct-tcpip", (hop.host, hop.port), ("127.0.0.1", 0), window_size=WINDOW, timeout=self._seconds
                )
            except paramiko.ChannelException as error:
                if error.code == _PROHIBITED:
                    raise EndpointUnsuitable(
                        f"{where}: the jump host before it forwards nothing to {hop.host}:{hop.port}; ask whoever runs it to permit that"
                    ) from error
                raise EndpointUnreachable(
                    f"{where}: the jump host before it cannot connect to {hop.host}:{hop.port} ({error}); it will be tried again"
                ) from error
            return _Tunnel(channel, self._seconds)
        connection = socket.create_connection((hop.host, hop.port), self._seconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # paramiko's socket writes know no deadline; the kernel ends a connection whose far side takes nothing any more.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._seconds * 1000))
        return connection


def host_fingerprint(host: str, port: int = 22, timeout_seconds: float = 30.0, through: Sequence[Hop] = ()) -> str:
    """The ``SHA256:...`` fingerprint of the key a server shows now. Nothing is sent to it but the key exchange.

    The jump hosts on the way must be pinned already; these are signed in to.
    """
    line = Line(through, f"sftp://{host}:{port}", timeout_seconds)
    try:
        return line.fingerprint_of(Jump(host=host, port=port, username="-"), f"sftp://{host}:{port}", OUTDATED)
    finally:
        line.end()


def _offered(algorithms: Iterable[str], outdated: frozenset[str]) -> list[str]:
    """What we offer, what is outdated last."""
    return sorted((one for one in algorithms if one in outdated or one not in OUTDATED), key=lambda one: one in OUTDATED)


def _must_be_pinned(hop: Hop, where: str) -> None:
    if not hop.host_keys:
        raise ConfigurationError(
            f"{where}: no host key is pinned, so the server cannot be told from an impostor; nothing was sent. "
            f"Run 'countersign endpoint trust PARTNER ENDPOINT', which shows the key of {hop.host}:{hop.port}, compare it with what "
            "the partner says, and put it in host_keys"
        )


def _must_be(shows: str, hop: Hop, where: str) -> None:
    if shows not in {pin.rstrip("=") for pin in hop.host_keys}:
        raise HostKeyChanged(
            f"{where}: the server shows the key {shows}, but pinned is {', '.join(hop.host_keys)}. "
            "Nothing was sent, no login was tried. Ask the partner by another way whether they changed it"
        )


class _Tunnel:
    """A channel through a jump host, as a socket for paramiko.

    paramiko writes to a socket for ever; here a far side that takes nothing for ``seconds`` ends the tunnel. And what has come is
    taken from the channel in one piece: small reads would move the rest of its buffer each time.
    """

    def __init__(self, channel: paramiko.Channel, seconds: float) -> None:
        self._channel, self._seconds = channel, seconds
        self._come = memoryview(b"")
        self._waiting_since: float | None = None

    def send(self, data: bytes) -> int:
        try:
            sent = self._channel.send(data)
        except TimeoutError:
            now = time.monotonic()
            self._waiting_since = self._waiting_since or now
            if now - self._waiting_since > self._seconds:
                self._channel.close()
            raise
        self._waiting_since = None
        return sent

    def recv(self, size: int) -> bytes:
        if not self._come:
            self._come = memoryview(self._channel.recv(2 * WINDOW))
        taken, self._come = self._come[:size], self._come[size:]
        return bytes(taken)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


# --------------------------------------------------------------------------------------------- who we are


def _sign_in(transport: paramiko.Transport, hop: Hop, where: str) -> None:
    if hop.private_key is None and hop.password is None:
        raise ConfigurationError(f"{where}: neither password nor private_key is given; add one as env:NAME or file:/path")
    # A server may ask for both: the key first, then the password.
    wanted = ["password"]
    if hop.private_key is not None:
        key = _login_key(hop.private_key, hop.passphrase, hop.certificate)
        try:
            wanted = transport.auth_publickey(hop.username, key)
        except paramiko.AuthenticationException as error:
            if isinstance(key, paramiko.RSAKey) and str(error) == "Authentication failed.":
                raise LoginRefused(
                    f"{where}: the server refused our login with an RSA key; check username, private key and certificate. A server "
                    "that knows outdated SHA-1 signatures only refuses every RSA key: ask the partner to enable rsa-sha2-512, or "
                    "to accept an Ed25519 key of ours. It is not tried again by itself"
                ) from error
            raise
    if hop.password is not None and wanted:
        wanted = transport.auth_password(hop.username, read_credential(hop.password))
    if not transport.is_authenticated():
        raise LoginRefused(f"{where}: the server also wants {', '.join(wanted)}, which the profile does not give")


def _login_key(reference: str, passphrase: str | None, certificate: str | None) -> paramiko.PKey:
    """Our private key, with its certificate if there is one. Raises ``ConfigurationError`` that names the reference at fault."""
    private = _unlocked(reference, passphrase)
    for kind, ours in (
        (Ed25519PrivateKey, paramiko.Ed25519Key),
        (EllipticCurvePrivateKey, paramiko.ECDSAKey),
        (RSAPrivateKey, paramiko.RSAKey),
    ):
        if isinstance(private, kind):
            text = private.private_bytes(keys.Encoding.PEM, keys.PrivateFormat.OpenSSH, keys.NoEncryption()).decode()
            key: paramiko.PKey = ours.from_private_key(io.StringIO(text))
            break
    else:
        raise ConfigurationError(f"{reference}: servers accept Ed25519, ECDSA and RSA keys, and this is of another kind")
    if certificate is not None:
        key.load_certificate(_fitting(certificate, reference, private))
    return key


def _unlocked(reference: str, passphrase: str | None) -> Any:
    data = (read_credential(reference).strip() + "\n").encode()
    if b"PRIVATE KEY-----" not in data:
        other = {
            b"PuTTY": "it is one of PuTTY's; export it as an OpenSSH key",
            b"ssh-": "it is the public half; give the file without .pub",
            b"ecdsa-": "it is the public half; give the file without .pub",
        }
        hint = next((told for begin, told in other.items() if data.startswith(begin)), "it must be in OpenSSH or PEM format")
        raise ConfigurationError(f"{reference}: this is not a private key: {hint}")
    load = keys.load_ssh_private_key if b"OPENSSH PRIVATE" in data else keys.load_pem_private_key
    try:
        return load(data, None)
    except TypeError as error:  # it is encrypted
        if passphrase is None:
            raise ConfigurationError(
                f"{reference}: the private key is encrypted; give passphrase as env:NAME or file:/path"
            ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{reference}: this private key cannot be read ({error})") from error
    try:
        return load(data, read_credential(passphrase).encode())
    except ValueError as error:
        raise ConfigurationError(f"{passphrase}: this passphrase does not open the private key {reference}") from error
    except UnsupportedAlgorithm as error:
        raise ConfigurationError(f"{reference}: this private key is encrypted in a way we do not know ({error})") from error


def _fitting(reference: str, key: str, private: Any) -> str:
    """The text of our certificate, found to be one for our key and valid today; whether it is trusted is the server's to say."""
    text = read_credential(reference).strip()
    try:
        found = keys.load_ssh_public_identity(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{reference}: this is no SSH certificate ({error})") from error
    if not isinstance(found, keys.SSHCertificate):
        raise ConfigurationError(
            f"{reference}: this is a public key without a certificate; give the file that ends in -cert.pub"
        )
    if found.type is not keys.SSHCertificateType.USER:
        raise ConfigurationError(f"{reference}: this certificate is for a host, not for a login")
    if found.public_key() != private.public_key():
        raise ConfigurationError(f"{reference}: this certificate is for another key than {key}")
    now = datetime.now(UTC).timestamp()
    if not found.valid_after <= now < found.valid_before:
        begins, ends = (_day(moment) for moment in (found.valid_after, found.valid_before))
        raise ConfigurationError(f"{reference}: this certificate is valid from {begins} to {ends}, not now; ask for a new one")
    return text


def _day(moment: float) -> str:
    try:
        return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return "ever"


# --------------------------------------------------------------------------------------------- errors


@contextmanager
def translated(address: str, seconds: float) -> Iterator[None]:
    """The one place where what paramiko and the socket raise becomes an error of ours."""
    began = time.monotonic()
    try:
        yield
    except paramiko.ssh_exception.IncompatiblePeer as error:
        raise EndpointUnsuitable(_lacks(address, str(error))) from error
    except paramiko.BadAuthenticationType as error:
        allowed = ", ".join(error.allowed_types)
        raise LoginRefused(f"{address}: the server does not accept this kind of login; it accepts: {shown(allowed)}") from error
    except paramiko.AuthenticationException as error:
        if "timeout" in str(error).lower() or "EOF" in str(error):
            raise EndpointUnreachable(
                f"{address}: the server broke off during the login ({error}); it will be tried again"
            ) from error
        if "agree on a pubkey algorithm" in str(error):
            raise EndpointUnsuitable(
                f"{address}: the server takes RSA keys with outdated SHA-1 signatures only. Ask the partner to enable "
                "rsa-sha2-512, or to accept an Ed25519 key of ours"
            ) from error
        raise LoginRefused(
            f"{address}: the server refused our login; check username, password, private key and certificate. "
            "It is not tried again by itself"
        ) from error
    except paramiko.ChannelException as error:
        raise EndpointBusy(f"{address}: the server opens no channel for us ({error}); it will be tried again") from error
    except socket.gaierror as error:
        raise EndpointUnreachable(
            f"{address}: the host name is not known here ({error.strerror}); check it in the profile"
        ) from error
    except TimeoutError as error:
        raise EndpointUnreachable(f"{address}: no answer within {seconds:g} s; it will be tried again") from error
    except paramiko.SSHException as error:
        if "protocol banner" in str(error) and time.monotonic() - began < seconds:
            # OpenSSH (MaxStartups) and others drop surplus connections before greeting.
            raise EndpointBusy(
                f"{address}: the server closed before its greeting, as one with too many connections does"
            ) from error
        raise EndpointUnreachable(f"{address}: no usable SSH connection ({error}); it will be tried again") from error
    except (OSError, EOFError) as error:
        raise EndpointUnreachable(
            f"{address}: cannot connect ({error or 'closed by the server'}); it will be tried again"
        ) from error


def _lacks(address: str, words: str) -> str:
    """What a server must offer that paramiko refuses, in words for the partner."""
    with closing(socket.socket()) as unused:
        ours = paramiko.Transport(unused).get_security_options()
    for word, what, accepted in (
        ("kex", "key exchange", ours.kex),
        ("host key", "host key", ours.key_types),
        ("cipher", "cipher", ours.ciphers),
        ("mac", "message authentication", ours.digests),
    ):
        if word in words:
            return (
                f"{address}: the server offers no {what} algorithm that we accept, only outdated ones. "
                f"Ask the partner to enable one of: {', '.join(_offered(accepted, frozenset()))}"
                + (
                    ". Until then 'legacy' at the endpoint can allow named ones up to a date"
                    if word in ("cipher", "mac")
                    else ""
                )
            )
    return f"{address}: no algorithm in common ({words}); ask the partner what their server offers"
