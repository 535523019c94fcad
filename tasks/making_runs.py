"""Making runs: a client of Prefect's API that asks again soon where its database was only busy.

Prefect with SQLite answers 503 to whoever makes a run while something else is written, which is over a moment later (its own words:
``is_client_retryable_exception`` in ``prefect/server/api/server.py``). Its client waits two seconds before it asks again, then four, then
eight: with every second call, so that a run for each of 16 cases took 16 to 27 s. These three waits are short here; who is away for
longer is asked twice more, after Prefect's own 16 and 32 s.
"""

from __future__ import annotations

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client

PAUSES = (0.1, 0.2, 0.4)
"""Seconds, of the first tries of a call."""
_TRIES = "countersign.tries"


def making_runs() -> SyncPrefectClient:
    """A client for a ``with`` block that makes runs; each with its idempotency key, as it may be asked for twice."""
    client: SyncPrefectClient = get_client(httpx_settings={"event_hooks": {"response": [_ask_again_soon]}}, sync_client=True)
    return client


def _ask_again_soon(answer: httpx.Response) -> None:
    """Say when, as the server could have: Prefect's client goes by it."""
    if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and "Retry-After" not in answer.headers:
        asked = answer.request.extensions
        asked[_TRIES] = asked.get(_TRIES, 0) + 1
        if asked[_TRIES] <= len(PAUSES):
            answer.headers["Retry-After"] = str(PAUSES[asked[_TRIES] - 1])
