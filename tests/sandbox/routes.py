"""What the Extended ECM stand-in answers, without starting it."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path

from tests.sandbox.ecm_store import Store
from tests.sandbox.ecm_wire import Api, Faults, Tickets
from tests.sandbox.extended_ecm import DOMAINS, session_routes


def shape(call: str) -> str:
    """A call without the names of its parameters: ``GET v2/nodes/{}``."""
    return re.sub(r"{[^}]*}", "{}", call)


def routes() -> dict[str, str]:
    """Every call, by its shape, and the name of what answers."""
    return {shape(f"{method} {route.path[1:]}"): route.name for method, route in _api().routes}


def writes() -> list[str]:
    """Every call that changes something."""
    return _api().writes


@cache
def _api() -> Api:
    faults = Faults()
    with tempfile.TemporaryDirectory() as place:
        store = Store(Path(place), schemas=[domain.SCHEMA for domain in DOMAINS])
        try:
            api = Api(tickets=Tickets(store.secret, faults), faults=faults, incoming=store.incoming)
            for domain in DOMAINS:
                domain.register(store, faults, api)
            session_routes(store, api)
        finally:
            store.close()
    return api
