"""Runs in the environment of OpenText's client: calls its methods as told on standard input, one JSON line each.

Asked ``{"call": "get_node", "with": {"node_id": 2000}}`` it answers ``{"answer": ...}`` or ``{"raised": "..."}``, and the log lines
the client wrote meanwhile under ``log``. Iterators become lists, bytes become text. With an OAuth 2 client and its secret as well, it is
the client of Core Share, otherwise that of Content Server.
"""

import json
import logging
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from pyxecm import coreshare, otcs
from pyxecm.coreshare import CoreShare
from pyxecm.otcs import OTCS

# It sleeps half a minute after every renewed sign-in; what it does afterwards is what we want to see.
otcs.REQUEST_RETRY_DELAY = 0.05
otcs.REQUEST_RETRY_BACKOFF = 0.05
coreshare.REQUEST_RETRY_DELAY = 0.05


class Lines(logging.Handler):
    """Keeps what the client logs until it is fetched."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def fetch(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


def plain(value: Any) -> Any:
    """What JSON can carry."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, Iterator):
        return [plain(item) for item in value]
    if hasattr(value, "status_code"):
        return {"status": value.status_code, "text": value.text}
    return list(value) if isinstance(value, tuple) else value


def content_server(url: str, user: str, password: str) -> OTCS:
    parts = urlsplit(url)
    return OTCS(
        protocol=parts.scheme,
        hostname=str(parts.hostname),
        port=parts.port or 80,
        username=user,
        password=password,
        base_path=parts.path,
    )


def core_share(url: str, user: str, password: str, client: str, secret: str) -> CoreShare:
    return CoreShare(url, url, client, secret, user, password)


def main(*given: str) -> None:
    lines = Lines()
    logging.getLogger("pyxecm").addHandler(lines)
    client: Any = content_server(*given) if len(given) == 3 else core_share(*given)
    print(json.dumps({"answer": version("pyxecm")}), flush=True)
    for text in sys.stdin:
        asked = json.loads(text)
        try:
            answer = {"answer": plain(getattr(client, asked["call"])(**asked["with"]))}
        except Exception as error:  # noqa: BLE001 - told to the test, which fails with it
            answer = {"raised": repr(error)}
        print(json.dumps({**answer, "log": lines.fetch()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
