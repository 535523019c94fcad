"""The zygote and its other end, without Prefect: what is forked here ends, or sleeps until it is ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

import flows
from blocks.settings import settings
from deployments.worker.forks import LOST, Fork, Forks, NoFork
from deployments.worker.zygote import code, is_stale
from tasks import doctypes

LONG = 300.0
LIGHT = """
import os, sys, time, socket, threading
from deployments.worker import zygote
{before}

def become(asked):
    zygote.part(quiet=asked.quiet)
    if "status" in asked.environment:
        os._exit(int(asked.environment["status"]))
    time.sleep(900)

{instead}
zygote.warm, zygote.read, zygote.become = lambda: None, lambda: [], become
zygote.main()
"""
"""A zygote that imports nothing, and whose forks are no runs."""


def light(before: str = "", instead: str = "") -> tuple[str, ...]:
    """``instead``: another ``become``."""
    return sys.executable, "-c", LIGHT.format(before=before, instead=instead)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, LONG))


async def begun(forks: Forks, **environment: str) -> Fork:
    return await forks.begin(environment, {}, quiet=False)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def gone(pid: int) -> None:
    while Path(f"/proc/{pid}").exists():
        await asyncio.sleep(0.02)


def test_how_each_fork_ends_is_told() -> None:
    async def story() -> None:
        forks = Forks(light())
        ends = [await begun(forks, status=str(status)) for status in (0, 3)]
        stays = await begun(forks)
        for fork in ends:
            await fork.wait()
        assert [fork.returncode for fork in ends] == [0, 3] and stays.returncode is None
        stays.signal(signal.SIGTERM)
        at_once = await begun(forks)
        at_once.signal(signal.SIGTERM)  # it may not even have begun
        for fork in (stays, at_once):
            await fork.wait()
            assert fork.returncode == -signal.SIGTERM
        await forks.close()

    run(story())


ENDS = """
import atexit

class Global:
    def __del__(self):
        os.write(told, b"taken apart ")

def become(asked):
    global told, one
    zygote.part(quiet=True)
    told, one = os.open(asked.environment["told"], os.O_WRONLY | os.O_CREAT), Global()
    atexit.register(lambda: os.write(told, b"at exit "))
    threading.Thread(target=lambda: (time.sleep(0.2), os.write(told, b"thread "))).start()
    {how}
"""


@pytest.mark.parametrize(
    ("how", "status", "told"),
    [
        pytest.param("return", 0, "thread at exit ", id="returns"),
        pytest.param("sys.exit()", 0, "thread at exit ", id="exits"),
        pytest.param("sys.exit(3)", 3, "thread at exit ", id="exits with a status"),
        pytest.param("sys.exit('why')", 1, "thread at exit taken apart ", id="exits with words"),
        pytest.param("1 / 0", 1, "thread at exit taken apart ", id="fails"),
    ],
)
def test_a_run_ends_after_its_threads_and_takes_nothing_apart(how: str, status: int, told: str, tmp_path: Path) -> None:
    async def story() -> None:
        forks = Forks(light(instead=ENDS.format(how=how)))
        fork = await begun(forks, told=str(tmp_path / "told"))
        await fork.wait()
        assert (fork.returncode, (tmp_path / "told").read_text()) == (status, told)
        await forks.close()

    run(story())


def test_the_zygote_ends_after_its_last_fork_when_nobody_asks_for_more() -> None:
    async def story() -> None:
        forks = Forks(light())
        one = await begun(forks)
        zygote = parent(one.pid)
        os.kill(zygote, signal.SIGTERM)  # as a supervisor does to all
        other = await begun(forks)
        assert parent(one.pid) == parent(other.pid) == zygote
        closed = asyncio.create_task(forks.close())
        for fork in (one, other):
            assert not closed.done()
            fork.signal(signal.SIGKILL)
            await fork.wait()
        await closed
        await gone(zygote)

    run(story())


def test_forks_go_on_when_their_zygote_is_killed_and_the_next_has_another() -> None:
    async def story() -> None:
        forks = Forks(light())
        fork = await begun(forks)
        zygote = parent(fork.pid)
        os.kill(zygote, signal.SIGKILL)
        await gone(zygote)
        other = await begun(forks)
        assert parent(other.pid) != zygote and fork.returncode is None and Path(f"/proc/{fork.pid}").exists()
        for one in (fork, other):
            os.kill(one.pid, signal.SIGKILL)
            await one.wait()
        assert (fork.returncode, other.returncode) == (LOST, -signal.SIGKILL)
        await forks.close()

    run(story())


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        pytest.param("threading.Thread(target=time.sleep, args=(900,), daemon=True).start()", "2 threads", id="a thread"),
        pytest.param("open_ = socket.socket()", "socket:", id="a connection"),
        pytest.param("open_ = open(sys.executable)", "python", id="a file"),
    ],
)
def test_nothing_is_forked_beside(before: str, reason: str) -> None:
    async def story() -> None:
        forks = Forks(light(before))
        with pytest.raises(NoFork, match=reason):
            await begun(forks)
        await forks.close()

    run(story())


def test_after_a_file_that_was_imported_has_changed_the_next_fork_is_of_another_zygote(tmp_path: Path) -> None:
    (tmp_path / "imported_here.py").write_text("")

    async def story() -> None:
        forks = Forks(light(f"sys.path.insert(0, {str(tmp_path)!r}); import imported_here"))
        one, same = await begun(forks), await begun(forks)
        os.utime(tmp_path / "imported_here.py", ns=(0, 0))
        other = await begun(forks)
        assert parent(one.pid) == parent(same.pid) != parent(other.pid)
        for fork in (one, same, other):
            os.kill(fork.pid, signal.SIGKILL)
            await fork.wait()
            assert fork.returncode == -signal.SIGKILL
        await forks.close()

    run(story())


@pytest.mark.parametrize(
    "what",
    [
        pytest.param("'nonsense'", id="no JSON"),
        pytest.param('\'{"pid": 1, "status": 0}\'', id="of a fork that there is not"),
        pytest.param("'x' * (1 << 17)", id="without end"),
    ],
)
def test_who_asked_a_zygote_that_answers_nonsense_is_told(what: str) -> None:
    says = f"line = socket.socket(fileno=int(sys.argv[1])); line.sendall(({what}).encode() + b'\\n')"
    until_closed = "list(iter(lambda: line.recv(1 << 16), b'')); sys.exit()"

    async def story() -> None:
        forks = Forks(light(f"{says}; {until_closed}"))
        with pytest.raises(NoFork, match="nobody understands"):
            await begun(forks)
        await forks.close()

    run(story())


@pytest.mark.parametrize(
    "what", [".env", "prefect.yaml", "flows/new.py", "doctypes/new.py", "deployments/partner.yaml", "deployments/new.yaml"]
)
def test_a_file_that_is_read_or_comes_among_those_makes_a_zygote_stale(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("flows/one.py", "doctypes/one.py", "deployments/partner.yaml"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    for path in tmp_path.rglob("*"):
        os.utime(path, ns=(0, 0))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(flows, "__path__", [str(tmp_path / "flows")])
    monkeypatch.setattr(doctypes, "__path__", [str(tmp_path / "doctypes")])
    monkeypatch.setattr(settings(), "profiles", Path("deployments"))
    taken = code(time.time_ns())
    assert not is_stale(taken)
    (tmp_path / what).write_text("new")
    assert is_stale(taken)


def test_what_was_changed_while_it_was_imported_makes_a_zygote_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings(), "profiles", tmp_path)
    file = tmp_path / "partner.yaml"
    file.touch()
    for path in (file, tmp_path):
        os.utime(path, ns=(0, 0))
    began = time.time_ns()
    assert not is_stale(code(began))
    os.utime(file, ns=(began, began))
    assert is_stale(code(began)), "it may have been read before"
    assert not is_stale(code(time.time_ns()))


def test_a_zygote_that_cannot_begin_is_told() -> None:
    async def story() -> None:
        with pytest.raises(NoFork, match="status 7"):
            await begun(Forks(light("sys.exit(7)")))

    run(story())


SETTLES = """
import json, os
from deployments.worker import zygote
from prefect.settings import get_current_settings
from blocks.settings import settings

def seen():
    return get_current_settings().logging.level, settings().home.name, os.environ.get("OWN")

told = [seen()]
zygote._settle_in({**os.environ, "PREFECT__FLOW_RUN_ID": "1"})
told.append((*seen(), os.environ["PREFECT__FLOW_RUN_ID"]))
zygote._settle_in({**os.environ, "PREFECT_LOGGING_LEVEL": "ERROR", "COUNTERSIGN_HOME": "/tmp/its-own", "OWN": "yes"})
print(json.dumps([*told, seen()]))
"""


def test_a_run_with_an_environment_of_its_own_reads_its_settings_anew(tmp_path: Path) -> None:
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path), "PREFECT_LOGGING_LEVEL": "INFO", "COUNTERSIGN_HOME": "/tmp/all"}
    done = subprocess.run([sys.executable, "-c", SETTLES], env=environment, capture_output=True, check=True, timeout=LONG)
    assert json.loads(done.stdout) == [["INFO", "all", None], ["INFO", "all", None, "1"], ["ERROR", "its-own", "yes"]]
