"""Changing what runs: a line of JSON on standard input, a line of JSON back on standard output.

::

    {"service": "ftps", "faults": {"short-226": 4000}}       from now on these faults, and no others
    {"service": "ftps", "faults": {"new-certificate": 1}, "restart": true}
                                                             the same, and the server is stopped and started on its port: all its
                                                             connections end, and what is "shown after the next start" is shown
    {"service": "ftps"}                                      change nothing, and tell

The answer has ``service``, the faults as they are then (those that count down say how many are left), ``logins`` so far, and what a
client has to trust (``host_key``, or ``certificate`` and ``ca_file``). It comes when the change is made. What cannot be done is
answered with ``error``, and nothing was changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.sandbox.partner import PartnerServer


def answers(lines: Iterable[bytes], servers: Mapping[str, PartnerServer]) -> Iterator[str]:
    """Do what each line asks, until there are no more."""
    for line in lines:
        try:
            told = _changed(json.loads(line), servers)
        except (ValueError, TypeError) as error:
            told = {"error": str(error)}
        yield json.dumps(told)


def _changed(asked: Any, servers: Mapping[str, PartnerServer]) -> dict[str, Any]:
    if not isinstance(asked, dict) or asked.keys() - {"service", "faults", "restart"}:
        raise ValueError("a line is an object with service, faults, restart")
    server = servers.get(asked.get("service", ""))
    if server is None:
        raise ValueError(f"service is one of {', '.join(servers)}")
    if (faults := asked.get("faults")) is not None:
        if unknown := faults.keys() - server.known.keys():
            raise ValueError(f"{', '.join(sorted(unknown))}: choose from {', '.join(server.known)}")
        values = {name: float(value) for name, value in faults.items()}
        server.faults.clear()
        server.faults.update(values)
    if asked.get("restart"):
        server.stop()
        server.start()
    return {"service": asked["service"], "faults": dict(server.faults), "logins": server.logins, **server.trust}
