"""``python -m tests.servers.pyftpdlib_process HOST PORT ROOT [--certificate FILE] [--ports FIRST LAST] [--account NAME
HOME]...``: pyftpdlib as it comes, until SIGTERM. ``--ports`` are those of its data connections; an account more has its own home."""

from __future__ import annotations

import argparse
import logging

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
from pyftpdlib.servers import FTPServer


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("host", "port", "root", "--certificate"):
        parser.add_argument(name)
    parser.add_argument("--ports", nargs=2, type=int)
    parser.add_argument("--account", nargs=2, action="append", default=[])
    asked = parser.parse_args()
    authorizer = DummyAuthorizer()
    authorizer.add_user("partner", "not a secret", asked.root, perm="elradfmwMT")
    for name, home in asked.account:
        authorizer.add_user(name, "not a secret", home, perm="elradfmwMT")
    handler = type("Handler", (TLS_FTPHandler if asked.certificate else FTPHandler,), {})
    handler.authorizer = authorizer
    handler.auth_failed_timeout = 0
    if asked.ports:
        handler.passive_ports = range(asked.ports[0], asked.ports[1] + 1)
    if asked.certificate:
        handler.certfile = asked.certificate
        handler.tls_control_required = handler.tls_data_required = True
    logging.basicConfig(level=logging.WARNING)
    FTPServer((asked.host, int(asked.port)), handler).serve_forever(handle_exit=True)


if __name__ == "__main__":
    main()
