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
