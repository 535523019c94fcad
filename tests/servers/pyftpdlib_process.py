"""``python -m tests.servers.pyftpdlib_process PORT ROOT [CERTIFICATE]``: pyftpdlib as it comes, until SIGTERM."""

from __future__ import annotations

import logging
import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
from pyftpdlib.servers import FTPServer


def main(port: str, root: str, certificate: str | None = None) -> None:
    authorizer = DummyAuthorizer()
    authorizer.add_user("partner", "not a secret", root, perm="elradfmwMT")
    handler = type("Handler", (TLS_FTPHandler if certificate else FTPHandler,), {})
    handler.authorizer = authorizer
    handler.auth_failed_timeout = 0
    if certificate:
        handler.certfile = certificate
        handler.tls_control_required = handler.tls_data_required = True
    logging.basicConfig(level=logging.WARNING)
    FTPServer(("127.0.0.1", int(port)), handler).serve_forever(handle_exit=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
