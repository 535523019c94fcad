"""Runs are made although Prefect's database is busy just then, and without long waits for it."""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest

from tasks.making_runs import PAUSES, _ask_again_soon, making_runs
from tests.servers.prefect import PrefectServer, client_of


@contextmanager
def busy(database: Path, enough: Event) -> Iterator[None]:
    """Somebody writes to a database all the time, as Prefect's own services do now and then, until it is enough."""

    def write() -> None:
        with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as there:
            there.execute("CREATE TABLE IF NOT EXISTS somebody (n INTEGER)")
            while not enough.is_set():
                there.execute("INSERT INTO somebody VALUES (1)")
            there.execute("DROP TABLE somebody")

    writer = Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        enough.set()
        writer.join()


class Waits(logging.Handler):
    """What Prefect's client says of its waits, in seconds; sets the event when there are so many."""

    def __init__(self, most: int, reached: Event) -> None:
        super().__init__(logging.DEBUG)
        self.seconds: list[float] = []
        self._most, self._reached = most, reached

    def emit(self, record: logging.LogRecord) -> None:
        if said := re.search(r"Another attempt will be made in ([\d.]+)s", record.getMessage()):
            self.seconds.append(float(said[1]))
            if len(self.seconds) == self._most:
                self._reached.set()


@contextmanager
def heard(waits: Waits) -> Iterator[Waits]:
    log = logging.getLogger("prefect.client")
    before = log.level
    log.addHandler(waits)
    log.setLevel(logging.DEBUG)
    try:
        yield waits
    finally:
        log.setLevel(before)
        log.removeHandler(waits)


@pytest.mark.parametrize("times", [1, len(PAUSES)])
def test_a_run_is_made_although_something_else_is_written_and_the_waits_are_short(
    times: int, prefect_server: PrefectServer
) -> None:
    enough = Event()
    with heard(Waits(times, enough)) as waits, client_of(prefect_server), making_runs() as client:
        flow = client.create_flow_from_name("made")
        deployment = client.create_deployment(flow, f"while busy {times}")
        with busy(Path(prefect_server.env["PREFECT_HOME"]) / "prefect.db", enough):
            run = client.create_flow_run_from_deployment(deployment, idempotency_key=f"while busy {times}")
        assert client.read_flow_run(run.id).deployment_id == deployment
        client.delete_deployment(deployment)
    assert waits.seconds == pytest.approx(list(PAUSES[:times]), rel=0.3)  # Prefect adds a fifth at most


def test_who_is_away_for_longer_is_asked_when_prefect_would_or_when_the_server_says() -> None:
    call = httpx.Request("POST", "http://prefect/api/deployments/1/create_flow_run")
    answers = [httpx.Response(503, request=call) for _ in range(len(PAUSES) + 2)]
    for answer in answers:
        _ask_again_soon(answer)
    assert [answer.headers.get("Retry-After") for answer in answers] == [*map(str, PAUSES), None, None]
    told = httpx.Response(503, headers={"Retry-After": "7"}, request=httpx.Request("POST", call.url))
    _ask_again_soon(told)
    assert told.headers["Retry-After"] == "7"
