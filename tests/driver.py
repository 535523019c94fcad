"""One intake in a process of its own, which can stop itself dead at any step boundary: ``python -m tests.driver PARTNER STREAM``.

Boundaries are counted before and after every write to the ledger and every answer of a remote verb: the moments between which the
world differs. ``--stop-at N`` sends SIGSTOP at the N-th (a worker that stalls), ``--stop-when NAME`` at the first of that name.
``--walk`` runs the intake of the streams s1, s2, ... and sends SIGKILL at the first, second, ... boundary, each in a forked process,
until one survives; then it runs them all again. ``--walk --plain`` takes the same steps one after the other without a run of Prefect,
which costs a fifth.
The product has no such hooks; they are put around its classes here.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

counter = itertools.count(1)
plan: dict[int, int] = {}
stops: set[str] = set()
passed: list[str] = []


def peak_mib() -> float:
    """This process's peak memory. What ``getrusage`` calls so is at least that of the process that started us."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def boundary(where: str) -> None:
    number = next(counter)
    passed.append(where)
    if number in plan:
        print(f"boundary {number}: {where}", flush=True)
        if plan[number] == signal.SIGSTOP:
            stop()
        else:
            os.kill(os.getpid(), plan[number])
    if where in stops:
        stops.discard(where)
        stop()


def stop() -> None:
    """Stop the whole process, this thread first.

    A signal sent to the process is taken by whichever thread the kernel picks; until that one is scheduled this thread would
    run on, past the boundary.
    """
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def around(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        boundary(f"before {name}")
        result = method(*arguments, **options)
        boundary(f"after {name}")
        return result

    return call


def around_many(method: Callable[..., Iterator[Any]], name: str) -> Callable[..., Iterator[Any]]:
    def call(*arguments: Any, **options: Any) -> Iterator[Any]:
        boundary(f"before {name}")
        for answer in method(*arguments, **options):
            boundary(f"after one of {name}")
            yield answer

    return call


def put_hooks() -> None:
    from blocks.endpoints.sftp import SftpSession
    from blocks.ledger import Ledger
    from blocks.quarantine import Quarantine
    from blocks.repositories.extended_ecm import ExtendedEcmSession
    from blocks.spool import Batch

    for verb in ("append", "claim"):
        setattr(Ledger, verb, around(getattr(Ledger, verb), verb))
    Batch.commit = around(Batch.commit, "commit")  # type: ignore[method-assign]
    Quarantine.keep = around(Quarantine.keep, "keep")  # type: ignore[method-assign]
    ExtendedEcmSession.file = around_many(ExtendedEcmSession.file, "file")  # type: ignore[method-assign]
    for verb in ("fetch", "remove"):
        setattr(SftpSession, verb, around_many(getattr(SftpSession, verb), verb))


def run(partner: str, stream: str) -> bool:
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows.intake import intake

    # At the end of a run its heartbeat is waited for, up to a second.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        state = intake(partner, stream, patience_seconds=5, return_state=True)
    print(f"{stream}: {state.type.value} {state.name}: {state.message}", flush=True)
    return state.is_completed()


def run_plainly(partner: str, stream: str) -> bool:
    """The steps of an intake, without Prefect around them."""
    from tests.tasks.dock import Dock

    assert partner == "acme", "the dock's partner"
    print(f"{stream}: {Dock(Path()).run(stream)}", flush=True)
    return True


def forked(work: Callable[[], bool]) -> int:
    """Do it in a child process; its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def walk(partner: str, intake: Callable[[str, str], bool]) -> None:
    """Die at every boundary once, then go on with everything."""
    # Imported before the fork, so that each child is quick.
    import flows.intake  # noqa: F401
    import tests.tasks.dock  # noqa: F401

    ended = {}
    for number in itertools.count(1):
        plan.clear()
        plan[number] = signal.SIGKILL
        stream = f"s{number}"
        status = forked(lambda stream=stream: intake(partner, stream))  # type: ignore[misc]
        print(f"{stream}: ended with {status}", flush=True)
        ended[number] = time.monotonic()
        if status != -signal.SIGKILL:
            break
    plan.clear()
    free, again = float(os.environ["COUNTERSIGN_LEASE_SECONDS"]) + 0.2, 0
    for number, moment in ended.items():
        time.sleep(max(0.0, moment + free - time.monotonic()))  # until then the one that died has what it worked on
        again += forked(lambda number=number: intake(partner, f"s{number}"))  # type: ignore[misc]
    print(f"walked {number} again {again}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("partner")
    parser.add_argument("stream")
    parser.add_argument("--stop-at", type=int)
    parser.add_argument("--stop-when", help="a boundary's name: 'before file'")
    parser.add_argument("--walk", action="store_true", help="die at every boundary")
    parser.add_argument("--plain", action="store_true", help="walk without a run of Prefect")
    parser.add_argument("--memory", action="store_true", help="tell this process's peak at the end, without hooks")
    given = parser.parse_args()
    if given.memory:
        completed = run(given.partner, given.stream)
        print(f"peak {peak_mib():.0f} MiB")
        sys.exit(0 if completed else 1)
    put_hooks()
    if given.walk:
        return walk(given.partner, run_plainly if given.plain else run)
    if given.stop_when:
        stops.add(given.stop_when)
    if given.stop_at:
        plan[given.stop_at] = signal.SIGSTOP
    sys.exit(0 if run(given.partner, given.stream) else 1)


if __name__ == "__main__":
    main()
