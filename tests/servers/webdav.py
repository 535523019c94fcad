"""Debian's lighttpd on loopback as a WebDAV server that keeps dead properties, for one account."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers import free_port, lacking, listening, need, running

USER, PASSWORD = "archive", "a password, ü"

_CONFIGURATION = """
server.modules = ("mod_auth", "mod_authn_file", "mod_webdav")
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{folder}/root"
server.upload-dirs = ("{folder}")
server.errorlog = "{folder}/errors"
webdav.activate = "enable"
webdav.sqlite-db-name = "{folder}/properties.db"
auth.backend = "plain"
auth.backend.plain.userfile = "{folder}/users"
auth.require = ("" => ("method" => "basic", "realm" => "archive", "require" => "valid-user"))
"""


@dataclass(frozen=True, slots=True)
class WebDavServer:
    """Where it is, and the folder that it serves."""

    url: str
    root: Path


@contextmanager
def webdav_server(folder: Path) -> Iterator[WebDavServer]:
    """Run lighttpd while the block runs."""
    program = need("lighttpd", "lighttpd", "/usr/sbin/lighttpd")
    if not Path("/usr/lib/lighttpd/mod_webdav.so").exists():
        lacking("lighttpd has no WebDAV: install Debian's package lighttpd-mod-webdav (make test does it as root)")
    (folder / "root" / "archive").mkdir(parents=True)
    (folder / "users").write_text(f"{USER}:{PASSWORD}\n", "utf-8")
    port, config = free_port(), folder / "lighttpd.conf"
    config.write_text(_CONFIGURATION.format(folder=folder, port=port))
    with running([program, "-D", "-f", str(config)], log=folder / "log", ready=lambda: listening(port)):
        yield WebDavServer(f"http://127.0.0.1:{port}/archive", folder / "root" / "archive")
