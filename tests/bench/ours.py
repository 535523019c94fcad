"""Ours as a worker runs it: a process that has everything imported, and of which each run is a fork (``deployments/worker/zygote.py``).

``python -m tests.bench.ours`` is warm as the zygote is. Each line that comes on standard input is ``{"run"}``, a run of the flow
``intake`` that Prefect's server knows, and is taken up by a fork of its own, which says ``{"state", "peak_mib"}`` as soon as the flow
is through; what a worker's run does after that (sending the last events, for one) follows then. ``{"status"}`` is said once the fork
has ended, as ``subprocess`` tells it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any
from uuid import UUID

from deployments.worker import zygote
from tests.bench.cost import peak_mib


def main() -> None:
    end = zygote.End()
    zygote.warm()
    for line in sys.stdin:
        if crowded := zygote.crowd(()):
            sys.exit(f"a run cannot be forked beside {', '.join(crowded)}")
        if (pid := os.fork()) == 0:
            with end:
                zygote.part(quiet=False)
                _run(UUID(json.loads(line)["run"]))
            return
        _, status = os.waitpid(pid, 0)
        _say(status=os.waitstatus_to_exitcode(status))


def _run(id: UUID) -> None:
    """As ``prefect.engine`` does, but with the flow at hand."""
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow

    from flows.intake import intake

    with get_client(sync_client=True) as client:
        run = client.read_flow_run(id)
    state = run_flow(intake, flow_run=run, return_type="state")
    _say(state=state.name, peak_mib=peak_mib(os.getpid()))


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
