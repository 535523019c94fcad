"""How we get to the door and through it: jump hosts, keys, passphrases, certificates, and servers of another age. All with OpenSSH."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import paramiko
import pytest

from blocks.endpoints.sftp import Sftp
from blocks.endpoints.ssh import Jump, Line, host_fingerprint
from blocks.errors import (
    ConfigurationError,
    EndpointError,
    EndpointUnreachable,
    EndpointUnsuitable,
    HostKeyChanged,
    LoginRefused,
)
from blocks.spool import Spool
from tests.conformance.endpoints.checks import MIB, Ground
from tests.servers import free_port, need
from tests.servers.listener import Listener
from tests.servers.openssh import OpenSsh, openssh_server

OTHER = "SHA256:" + "A" * 43


def endpoint(server: OpenSsh, **fields: object) -> Sftp:
    agreed = {
        "host": server.host,
        "port": server.port,
        "username": server.username,
        "private_key": f"file:{server.private_key}",
        "host_keys": (server.fingerprint,),
        "timeout_seconds": 60,
    }
    return Sftp.model_validate(agreed | fields)


def ground_at(server: OpenSsh, agreed: Sftp, place: Path) -> Ground:
    """A folder of its own at a running server."""
    folder = server.root / place.name
    folder.mkdir()
    return Ground(agreed, str(folder), folder, Spool(place / "spool", floor_bytes=0))


def keygen(*options: str | Path) -> None:
    subprocess.run([need("ssh-keygen", "openssh-client"), "-q", *map(str, options)], check=True)


# --------------------------------------------------------------------------------------------- jump hosts


@pytest.fixture(scope="module")
def bastion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSsh]:
    """Another OpenSSH server, which lets nobody do anything but pass."""
    lines = ("Subsystem sftp /nonexistent", "PermitTTY no")
    with openssh_server(tmp_path_factory.mktemp("bastion") / "server", *lines) as server:
        yield server


def through(server: OpenSsh, **fields: object) -> dict[str, object]:
    agreed = {
        "host": server.host,
        "port": server.port,
        "username": server.username,
        "private_key": f"file:{server.private_key}",
        "host_keys": (server.fingerprint,),
    }
    return agreed | fields


def named(server: OpenSsh) -> str:
    return f"jump host {server.username}@{server.host}:{server.port}"


@pytest.mark.parametrize("hops", [1, 2])
def test_files_go_both_ways_through_jump_hosts(hops: int, bastion: OpenSsh, openssh: OpenSsh, tmp_path: Path) -> None:
    ground = ground_at(openssh, endpoint(openssh, jump=[through(bastion)] * hops), tmp_path)
    content = {f"{number}.csv".encode(): os.urandom(number * 1000) for number in range(20)} | {b"big": os.urandom(12 * MIB)}
    ground.carry_both_ways(content)


def test_the_key_of_a_server_behind_a_jump_host(bastion: OpenSsh, openssh: OpenSsh) -> None:
    jump = Jump.model_validate(through(bastion))
    assert host_fingerprint(openssh.host, openssh.port, 20, [jump]) == openssh.fingerprint


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        pytest.param({"host_keys": ()}, ConfigurationError, "no host key is pinned", id="no pin"),
        pytest.param({"host_keys": (OTHER,)}, HostKeyChanged, "no login was tried", id="another key"),
        pytest.param({"username": "nobody-of-that-name"}, LoginRefused, "refused our login", id="login refused"),
        pytest.param({"private_key": None}, ConfigurationError, "neither password nor private_key", id="no credential"),
        pytest.param({"port": 1}, EndpointUnreachable, "cannot connect", id="nobody listens"),
    ],
)
def test_what_a_jump_host_does_is_said_of_the_jump_host(
    changed: dict[str, object], error: type[Exception], says: str, bastion: OpenSsh, openssh: OpenSsh
) -> None:
    port = changed.get("port", bastion.port)
    user = changed.get("username", bastion.username)
    with pytest.raises(error, match=rf"jump host {user}@127\.0\.0\.1:{port}: .*{says}"):
        endpoint(openssh, jump=[through(bastion, **changed)]).session()


def test_what_the_server_does_is_said_of_the_server(bastion: OpenSsh, openssh: OpenSsh) -> None:
    with pytest.raises(HostKeyChanged) as changed:
        endpoint(openssh, jump=[through(bastion)], host_keys=(OTHER,)).session()
    with pytest.raises(LoginRefused) as refused:
        endpoint(openssh, jump=[through(bastion)], username="nobody-of-that-name").session()
    with pytest.raises(EndpointUnreachable, match="the jump host before it cannot connect") as silent:
        endpoint(openssh, jump=[through(bastion)], port=free_port()).session()
    assert not any(named(bastion) in str(caught.value) for caught in (changed, refused, silent))


def test_a_jump_host_that_lets_nobody_pass(openssh: OpenSsh, tmp_path: Path) -> None:
    with (
        openssh_server(tmp_path / "closed", "AllowTcpForwarding no") as closed,
        pytest.raises(EndpointUnsuitable, match="forwards nothing") as caught,
    ):
        endpoint(openssh, jump=[through(closed)]).session()
    assert not caught.value.worth_retrying


def test_a_tunnel_whose_far_side_takes_nothing_more_ends(bastion: OpenSsh) -> None:
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        server = Jump(host="127.0.0.1", port=deaf.getsockname()[1], username="-")
        line = Line([Jump.model_validate(through(bastion))], "sftp://deaf", 1)
        try:
            tunnel = line._reach(server, "sftp://deaf")
            held.append(deaf.accept()[0])
            tunnel.settimeout(0.1)
            limit = time.monotonic() + 300
            while not tunnel.closed and time.monotonic() < limit:
                with suppress(OSError):
                    tunnel.send(bytes(32_000))
            assert tunnel.closed
        finally:
            line.end()
            for connection in held:
                connection.close()


# --------------------------------------------------------------------------------------------- keys and certificates


@dataclass(frozen=True, slots=True)
class Door:
    """A server that lets in whom an authority vouches for, and the keys in a list."""

    server: OpenSsh
    authority: Path
    admitted: Path

    def admit(self, key: Path) -> None:
        self.admitted.write_text(key.with_name(f"{key.name}.pub").read_text())

    def certify(self, key: Path, *options: str) -> Path:
        public = key.with_name(f"{key.name}.pub")
        keygen("-s", self.authority, "-I", "us", "-n", self.server.username, *options, public)
        return key.with_name(f"{key.name}-cert.pub")


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    place = tmp_path_factory.mktemp("door")
    authority, admitted = place / "authority", place / "admitted"
    keygen("-t", "ed25519", "-N", "", "-f", authority)
    admitted.touch()
    lines = (f"TrustedUserCAKeys {authority}.pub", f"AuthorizedKeysFile {admitted}")
    with openssh_server(place / "server", *lines) as server:
        yield Door(server, authority, admitted)


@pytest.fixture
def make_key(tmp_path: Path) -> Callable[..., Path]:
    def make(kind: str = "ed25519", passphrase: str = "", form: str = "") -> Path:
        key = tmp_path / f"key-{len(list(tmp_path.iterdir()))}"
        keygen("-t", kind, "-N", passphrase, *(["-m", form] if form else []), "-f", key)
        return key

    return make


KEYS = [
    pytest.param("ed25519", "", id="ed25519"),
    pytest.param("ecdsa", "", id="ecdsa"),
    pytest.param("ecdsa", "PKCS8", id="ecdsa in PKCS8"),
    pytest.param("rsa", "", id="rsa"),
    pytest.param("rsa", "PEM", id="rsa in PEM"),
]


@pytest.mark.parametrize(("kind", "form"), KEYS)
def test_private_keys_with_a_passphrase(
    kind: str, form: str, door: Door, make_key: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key(kind, "open sesame", form)
    door.admit(key)
    monkeypatch.setenv("PASSPHRASE", "open sesame")
    agreed = {"private_key": f"file:{key}", "passphrase": "env:PASSPHRASE"}
    endpoint(door.server, **agreed).session().close()
    with pytest.raises(ConfigurationError, match=f"{key}: the private key is encrypted; give passphrase"):
        endpoint(door.server, **agreed | {"passphrase": None}).session()
    monkeypatch.setenv("PASSPHRASE", "hunter2")
    with pytest.raises(ConfigurationError, match="env:PASSPHRASE: this passphrase does not open the private key") as caught:
        endpoint(door.server, **agreed).session()
    assert "hunter2" not in str(caught.value)


def test_what_is_no_private_key_is_told_by_what_it_is(door: Door, make_key: Callable[..., Path], tmp_path: Path) -> None:
    public = make_key().with_suffix(".pub")
    putty, broken = tmp_path / "putty", tmp_path / "broken"
    putty.write_text("PuTTY-User-Key-File-3: ssh-ed25519\n")
    broken.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nbm90IGEga2V5\n-----END OPENSSH PRIVATE KEY-----\n")
    for path, says in ((public, "public half"), (putty, "PuTTY"), (broken, "cannot be read")):
        with pytest.raises(ConfigurationError, match=f"{path}: .*{says}"):
            endpoint(door.server, private_key=f"file:{path}").session()


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_certificate_lets_us_in(kind: str, door: Door, make_key: Callable[..., Path]) -> None:
    key = make_key(kind)
    with pytest.raises(LoginRefused):
        endpoint(door.server, private_key=f"file:{key}").session()
    certificate = door.certify(key)
    endpoint(door.server, private_key=f"file:{key}", certificate=f"file:{certificate}").session().close()


def test_a_certificate_the_server_does_not_take_is_a_refused_login(door: Door, make_key: Callable[..., Path]) -> None:
    key, stranger = make_key(), make_key()
    certificate = Door(door.server, stranger, door.admitted).certify(key)
    with pytest.raises(LoginRefused, match="certificate"):
        endpoint(door.server, private_key=f"file:{key}", certificate=f"file:{certificate}").session()


def test_a_certificate_that_cannot_fit_is_told_before_anything_is_sent(door: Door, make_key: Callable[..., Path]) -> None:
    key, other = make_key(), make_key()
    public = key.with_suffix(".pub")

    def refused(certificate: Path, says: str) -> None:
        with pytest.raises(ConfigurationError, match=f"file:{certificate}: .*{says}"):
            endpoint(door.server, private_key=f"file:{key}", certificate=f"file:{certificate}").session()

    refused(door.certify(key, "-V", "20200101:20200201"), "valid from 20.*, not now")
    refused(door.certify(key, "-h"), "for a host")
    refused(door.certify(other), "another key")
    refused(public, "without a certificate")
    refused(key, "no SSH certificate")


@pytest.mark.parametrize(
    "only", ["HostKeyAlgorithms ssh-ed25519-cert-v01@openssh.com", "LogLevel VERBOSE"], ids=["certificate only", "both"]
)
def test_of_a_host_certificate_the_hosts_own_key_is_what_is_pinned(only: str, door: Door, tmp_path: Path) -> None:
    host_key = tmp_path / "certified"
    keygen("-t", "ed25519", "-N", "", "-f", host_key)
    keygen("-s", door.authority, "-I", "host", "-h", "-n", "127.0.0.1", f"{host_key}.pub")
    lines = (only, f"HostKey {host_key}", f"HostCertificate {host_key}-cert.pub")
    shown = subprocess.run(
        [need("ssh-keygen", "openssh-client"), "-lf", f"{host_key}.pub"], check=True, capture_output=True, text=True
    ).stdout.split()[1]
    with openssh_server(tmp_path / "server", *lines) as server:
        endpoint(server, host_keys=(shown,)).session().close()
        with pytest.raises(HostKeyChanged):
            endpoint(server, host_keys=(OTHER,)).session()


# --------------------------------------------------------------------------------------------- servers of another age


@pytest.mark.parametrize(
    ("line", "lacks"),
    [
        pytest.param(
            "KexAlgorithms diffie-hellman-group1-sha1,diffie-hellman-group14-sha1", "key exchange", id="SHA-1 key exchange"
        ),
        pytest.param("HostKeyAlgorithms ssh-rsa", "host key", id="ssh-rsa host key"),
        pytest.param("Ciphers chacha20-poly1305@openssh.com", "cipher", id="only chacha20"),
        pytest.param("Ciphers aes128-ctr\nMACs umac-64@openssh.com", "message authentication", id="only umac-64"),
    ],
)
def test_a_server_with_outdated_algorithms_only_is_told_what_it_lacks(line: str, lacks: str, tmp_path: Path) -> None:
    rsa = tmp_path / "rsa"
    keygen("-t", "rsa", "-N", "", "-f", rsa)
    with (
        openssh_server(tmp_path / "server", line, f"HostKey {rsa}") as server,
        pytest.raises(EndpointUnsuitable, match=f"no {lacks} algorithm") as caught,
    ):
        host_fingerprint(server.host, server.port, 20)
    assert not caught.value.worth_retrying


def test_a_server_that_refuses_our_rsa_key_may_know_outdated_signatures_only(
    make_key: Callable[..., Path], tmp_path: Path
) -> None:
    key = make_key("rsa")
    lines = ("PubkeyAcceptedAlgorithms ssh-rsa", f"AuthorizedKeysFile {key}.pub")
    with (
        openssh_server(tmp_path / "server", *lines) as server,
        pytest.raises(LoginRefused, match=r"SHA-1 signatures only.*rsa-sha2-512"),
    ):
        endpoint(server, private_key=f"file:{key}").session()


def test_a_server_that_says_it_knows_outdated_signatures_only(openssh: OpenSsh, make_key: Callable[..., Path]) -> None:
    key, shows = make_key("rsa"), paramiko.ECDSAKey.generate()

    def serve(connection: socket.socket) -> None:
        transport = paramiko.Transport(connection, disabled_algorithms={"pubkeys": ["rsa-sha2-256", "rsa-sha2-512"]})
        transport.add_server_key(shows)
        transport.start_server(event=threading.Event(), server=paramiko.ServerInterface())
        transport.join(20)

    with Listener(serve) as port, pytest.raises(EndpointUnsuitable, match=r"SHA-1 signatures only.*rsa-sha2-512") as caught:
        endpoint(openssh, port=port, private_key=f"file:{key}", host_keys=(shows.fingerprint,)).session()
    assert not caught.value.worth_retrying


def test_a_server_without_sftp(tmp_path: Path) -> None:
    with (
        openssh_server(tmp_path / "server", "Subsystem sftp /nonexistent") as server,
        pytest.raises(EndpointError, match=r"lost|no SFTP"),
    ):
        endpoint(server).session()
