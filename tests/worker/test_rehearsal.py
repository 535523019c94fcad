"""What is done before the first fork is done, and leaves nothing open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

LONG = 300.0
WARMS = """
import json
from pydantic import BaseModel
from deployments.worker import zygote

opened = set(zygote._files())
zygote.warm()
crowd = zygote.crowd(opened)

from deployments.worker.rehearsal import _below
from blocks import catalog, chosen
from tasks import doctypes
from tasks.rules import tabular

unfinished = [str(model) for model in _below(BaseModel) if not model.__pydantic_complete__]
schemas = {one.table.schema for one in doctypes.known().values() if one.table}
kinds = {*catalog.ENDPOINTS.values(), *catalog.REPOSITORIES.values(), *catalog.SYSTEMS.values()}
made = [(len(schemas), tabular._schema.cache_info().currsize), (len(kinds), chosen.credentials.cache_info().currsize)]
print(json.dumps([crowd, unfinished, made]))
"""


def test_a_rehearsal_leaves_nothing_open_and_nothing_for_the_first_run(tmp_path: Path) -> None:
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", WARMS], env=environment, capture_output=True, check=True, timeout=LONG)
    crowd, unfinished, made = json.loads(done.stdout)
    assert (crowd, unfinished) == ([], [])
    assert all(there == seen > 0 for there, seen in made), made


ASKS = """
import json
from pathlib import Path
from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import CacheStats
from deployments.worker import zygote

opened = set(zygote._files())
zygote.warm()
crowd = zygote.crowd(opened)

from blocks.settings import settings
from tasks import connections
from tasks.tell_cases import tell_cases
from prefect.logging import disable_run_logger
from tests.tasks.dock import dock_at, price_list

asked = []

def hear(connection, cursor, statement, parameters, context, many):
    asked.append((context.cache_hit is CacheStats.CACHE_MISS, statement))

home = settings().home
before = sorted(path.name for path in home.iterdir()) if home.exists() else []
with dock_at(home) as dock:
    connections.ledger()  # it is made, which only the first run of all does
    event.listen(Engine, "before_cursor_execute", hear)
    dock.leave("prices.csv", price_list())
    outcomes = dock.run()
    with disable_run_logger():
        tell_cases.fn("acme", "prices")
    event.remove(Engine, "before_cursor_execute", hear)
    kept = (home / "ledger.sqlite").exists() and len(connections.ledger().search())
print(json.dumps([crowd, before, outcomes, kept, len(asked), [statement for missed, statement in asked if missed]]))
"""


def test_an_intake_asks_its_ledger_nothing_that_was_not_asked_before_the_first_fork(tmp_path: Path) -> None:
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "COUNTERSIGN_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", ASKS], env=environment, capture_output=True, check=True, timeout=LONG)
    crowd, before, outcomes, kept, asked, unrehearsed = json.loads(done.stdout)
    assert (crowd, before) == ([], []), "a rehearsal leaves nothing, here neither"
    assert (outcomes, kept) == ({"prices.csv": "filed"}, 2), "the file, and what is known of its server"
    assert asked > 50 and unrehearsed == []


NO_ROOM = """
import resource

resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))  # as of a disk without room: no file may grow beyond it

from deployments.worker import zygote

opened = set(zygote._files())
zygote.warm()
print(zygote.crowd(opened))
"""


def test_a_worker_starts_where_there_is_no_room_to_rehearse(tmp_path: Path) -> None:
    """What makes room again is a run of its own."""
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "COUNTERSIGN_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-B", "-c", NO_ROOM]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, text=True, timeout=LONG)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
