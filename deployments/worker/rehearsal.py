"""What every run does once before it can do anything else, done before the first fork: each run of it has it already.

Nothing may be left open, so nobody is called: no connection, no thread (which Arrow's reader of CSV starts), no file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pyarrow as pa
from prefect.client.schemas import OrchestrationResult
from pydantic import BaseModel

from blocks.catalog import ENDPOINTS, REPOSITORIES, SYSTEMS
from blocks.chosen import credentials
from blocks.errors import LedgerError
from blocks.ledger import Entry, Ledger
from blocks.settings import settings
from blocks.values import RemoteFile, Stage
from tasks import connections, doctypes
from tasks.rules import tabular

ANSWERS = OrchestrationResult[Any]
"""What Prefect reads its server's answer to a new state as. Pydantic forgets it where nobody has it, and takes 10 ms to make it."""


def rehearse() -> None:
    """Takes 0.4 s of CPU once, and each run a sixth to a fifth less."""
    for model in _below(BaseModel):
        if not model.__pydantic_complete__:  # Prefect's are finished when they are first used
            model.model_rebuild(raise_errors=False)
    for kind in (*ENDPOINTS.values(), *REPOSITORIES.values(), *SYSTEMS.values()):
        credentials(kind)
    for doctype in doctypes.known().values():
        if table := doctype.table:  # pandera finds out what fits which frame when it first sees one
            row = pa.table({name: pa.array(["1"]) for name in table.names})
            tabular.judge(row, table, ".")
    with suppress(LedgerError, OSError):  # no room for an empty one, say: then each run finds out by itself, as it did before
        _ask_ledger(settings().ledger)


def _ask_ledger(url: str) -> None:
    """Ask an empty ledger all that an intake asks: SQLAlchemy finds out once what a question is in SQL."""
    if not url.startswith("sqlite"):
        return  # only its own server could stand in for it, and nobody is called
    ledger = Ledger(url)
    with ledger.rehearsing():
        if (child := os.fork()) == 0:  # the schema is Alembic's to make, which would stay in every fork with 10 MiB
            try:
                ledger.migrate()
            finally:
                os._exit(0)  # whatever went wrong goes wrong once more below
        os.waitpid(child, 0)
        ledger.migrate()
        ledger.sight("partner", "stream", [RemoteFile("folder", b"name", 1, ledger.now())])
        [journey] = [sighting.journey for sighting in ledger.sightings("partner", "stream")]
        claimed = ledger.claim("partner", "stream", [journey], owner="owner", seconds=60)
        assert claimed is not None  # noqa: S101 - nobody else knows of it
        with ledger.holding(claimed[0], 60) as held:
            ledger.append([Entry(journey, "arrived", once="once", stage=Stage.CLAIMED)], held.lease)
            ledger.append([Entry(journey, "cleared", stage=Stage.CLEARED)], behind=1)
        alone = ledger.lease(["cases"], owner="owner", seconds=60)
        assert alone is not None  # noqa: S101 - nobody else knows of it
        ledger.release(alone)
        ledger.journeys([journey])
        ledger.journeys([journey], without=["cleared"])
        ledger.arrivals([journey])
        ledger.cases(partner="partner", stream="stream")
        ledger.cases_without("case told", since=("incident", "quarantined"), partner="partner", stream="stream")
        ledger.cases_left("review begun", "review ended", since=ledger.now() - timedelta(days=7))
    connections.rehearsed(ledger, url)


def _below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for kind in model.__subclasses__():
        yield kind
        yield from _below(kind)
