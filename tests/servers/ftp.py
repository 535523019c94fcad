"""Real FTP servers on loopback with configurations of their own: vsftpd and proftpd over TLS, pyftpdlib plain and over TLS."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import free_port, listening, need, running
from tests.servers.certificates import Certificate, make_certificate
from tests.servers.users import need_root

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "not a secret"
# Debian's packages of vsftpd and proftpd exclude each other: one is installed, the other lies unpacked beside the project.
_VSFTPD = str(ROOT / ".servers" / "vsftpd" / "usr" / "sbin")


@dataclass(frozen=True, slots=True)
class Ftp:
    """Where the server is and how to sign in. ``root`` is a folder on this machine that the account may use."""

    host: str
    port: int
    username: str
    root: Path
    prefix: str
    """How the server spells ``root``."""
    certificate: Certificate | None


@contextmanager
def vsftpd_server(folder: Path, *lines: str) -> Iterator[Ftp]:
    """vsftpd that insists on TLS for everything and on the reuse of the control connection's TLS session. Root or not."""
    vsftpd = need("vsftpd", "vsftpd", _VSFTPD)
    root, certificate, port = _prepared(folder)
    (folder / "passwords").write_text(PASSWORD + "\n")
    (folder / "empty").mkdir()
    config = folder / "vsftpd.conf"
    config.write_text(
        "\n".join(
            [
                "listen=YES",
                "listen_address=127.0.0.1",
                f"listen_port={port}",
                "background=NO",
                # Anonymous accounts need no PAM and no root. The password is compared with a list of "e-mail addresses".
                "run_as_launching_user=YES",
                "anonymous_enable=YES",
                "local_enable=NO",
                f"ftp_username={pwd.getpwuid(os.geteuid()).pw_name}",
                "secure_email_list_enable=YES",
                f"email_password_file={folder / 'passwords'}",
                f"anon_root={root}",
                f"secure_chroot_dir={folder / 'empty'}",
                "anon_world_readable_only=NO",
                "anon_upload_enable=YES",
                "anon_mkdir_write_enable=YES",
                "anon_other_write_enable=YES",
                "anon_umask=022",
                "write_enable=YES",
                "xferlog_enable=NO",
                "seccomp_sandbox=NO",
                "delay_failed_login=0",
                "ssl_enable=YES",
                "allow_anon_ssl=YES",
                "force_anon_logins_ssl=YES",
                "force_anon_data_ssl=YES",
                "require_ssl_reuse=YES",
                "ssl_ciphers=HIGH",
                f"rsa_cert_file={certificate.path}",
                f"rsa_private_key_file={certificate.path}",
                *lines,
                "",
            ]
        )
    )
    with running([vsftpd, str(config)], log=folder / "vsftpd.log", ready=lambda: listening(port)):
        yield Ftp("127.0.0.1", port, "anonymous", root, str(root), certificate)


@contextmanager
def proftpd_server(folder: Path, *lines: str) -> Iterator[Ftp]:
    """proftpd with mod_tls (its default asks for session reuse) and mod_digest, which offers HASH."""
    need_root()  # it changes its user
    proftpd, openssl = need("proftpd", "proftpd-core proftpd-mod-crypto"), need("openssl", "openssl")
    root, certificate, port = _prepared(folder)
    hashed = subprocess.run([openssl, "passwd", "-6", PASSWORD], check=True, capture_output=True, text=True).stdout.strip()
    users = folder / "users"
    users.touch(mode=0o600)
    users.write_text(f"partner:{hashed}:0:0::{root}:/bin/sh\n")
    config = folder / "proftpd.conf"
    config.write_text(
        "\n".join(
            [
                "ServerType standalone",
                "ServerName Partner",
                "DefaultAddress 127.0.0.1",
                f"Port {port}",
                "SocketBindTight on",
                "UseIPv6 off",
                "User root",
                "Group root",
                f"PidFile {folder / 'proftpd.pid'}",
                f"ScoreboardFile {folder / 'scoreboard'}",
                f"DelayTable {folder / 'delay'}",
                "DelayEngine off",
                f"SystemLog {folder / 'system.log'}",
                "TransferLog none",
                "WtmpLog off",
                "ModulePath /usr/lib/proftpd",
                "LoadModule mod_tls.c",
                "LoadModule mod_digest.c",
                "AuthOrder mod_auth_file.c",
                f"AuthUserFile {users}",
                "RequireValidShell off",
                "RootLogin on",
                "UseReverseDNS off",
                f"DefaultChdir {root}",
                "Umask 022",
                "UseEncoding off",
                "AllowOverwrite on",
                "AllowRetrieveRestart on",
                "AllowStoreRestart on",
                "DigestEngine on",
                "TLSEngine on",
                "TLSRequired on",
                f"TLSLog {folder / 'tls.log'}",
                "TLSProtocol TLSv1.2 TLSv1.3",
                f"TLSECCertificateFile {certificate.path}",
                f"TLSECCertificateKeyFile {certificate.path}",
                *lines,
                "",
            ]
        )
    )
    command = [proftpd, "--nodaemon", "--config", str(config)]
    with running(command, log=folder / "proftpd.log", ready=lambda: listening(port)):
        yield Ftp("127.0.0.1", port, "partner", root, str(root), certificate)


@contextmanager
def pyftpdlib_server(folder: Path, *options: str, tls: bool = False, host: str = "127.0.0.1") -> Iterator[Ftp]:
    """pyftpdlib as it comes, in a process of its own; ``options`` as in ``pyftpdlib_process``."""
    root, certificate, port = _prepared(folder, *([] if host == "127.0.0.1" else [host]))
    command = [sys.executable, "-m", "tests.servers.pyftpdlib_process", host, str(port), str(root), *options]
    if tls:
        command += ["--certificate", str(certificate.path)]
    with running(command, log=folder / "pyftpdlib.log", ready=lambda: listening(port, host), cwd=ROOT):
        yield Ftp(host, port, "partner", root, "/", certificate if tls else None)


def _prepared(folder: Path, *names: str) -> tuple[Path, Certificate, int]:
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / "root"
    root.mkdir()
    return root, make_certificate(folder / "tls", *names), free_port()
