"""One intake in a process of its own, which can stop itself dead at any step boundary: ``python -m tests.driver PARTNER STREAM``.

Boundaries are counted before and after every write to the ledger and every answer of a remote verb: the moments between which the
world differs. ``--stop-at N`` sends SIGSTOP at the N-th (a worker that stalls), ``--stop-when NAME`` at the first of that name.
``--walk`` runs the intake of the streams s1, s2, ... and sends SIGKILL at the first, second, ... boundary, each in a forked process,
until one survives; then it runs them all again. With ``--kill-when NAME`` (as often as needed) s1 is killed at the first boundary of
the first such name, s2 at that of the second, and so on, and nothing is run again. ``--walk --plain`` takes the same steps one after
the other without a run of Prefect, which costs a fifth.
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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

counter = itertools.count(1)
plan: dict[int, int] = {}
named: dict[str, int] = {}
"""What happens at the first boundary of a name."""
passed: list[str] = []


def peak_mib() -> float:
    """This process's peak memory. What ``getrusage`` calls so is at least that of the process that started us."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def boundary(where: str) -> None:
    number = next(counter)
    passed.append(where)
    strike = plan.get(number) or named.pop(where, None)
    if strike is None:
        return
    print(f"boundary {number}: {where}", flush=True)
    if strike == signal.SIGSTOP:
        stop()
    else:
        os.kill(os.getpid(), strike)


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


def around_append(method: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """By the last kind that is written: "before append filed"."""

    def append(ledger: Any, entries: Sequence[Any], *arguments: Any, **options: Any) -> list[Any]:
        name = f"append {entries[-1].kind}" if entries else "append"
        answer: list[Any] = around(method, name)(ledger, entries, *arguments, **options)
        return answer

    return append


def around_bytes(method: Callable[..., None]) -> Callable[..., None]:
    """What passes through us: each piece was sent when the next one comes."""

    def pour(arriving: Any, take: Callable[..., object]) -> None:
        sent = 0

        def seen(piece: bytes) -> None:
            nonlocal sent
            if sent < arriving.size / 2 <= sent + len(piece):
                boundary("in mid-body")
            take(piece)
            sent += len(piece)

        method(arriving, seen)
        boundary("after the last byte")

    return pour


def put_hooks() -> None:
    from blocks.endpoints.sftp import SftpSession
    from blocks.ledger import Ledger
    from blocks.quarantine import Quarantine
    from blocks.repositories.arriving import Arriving
    from blocks.repositories.extended_ecm import ExtendedEcmSession
    from blocks.repositories.otcs_wire import Wire
    from blocks.spool import Batch

    Ledger.append = around_append(Ledger.append)  # type: ignore[method-assign]
    Ledger.claim = around(Ledger.claim, "claim")  # type: ignore[method-assign]
    Arriving.pour = around_bytes(Arriving.pour)  # type: ignore[method-assign]
    writing = Wire.writing

    def answered(wire: Wire, *arguments: Any, **options: Any) -> Any:
        answer = yield from writing(wire, *arguments, **options)
        if isinstance(options.get("upload"), Arriving):
            boundary("after the answer")
        return answer

    Wire.writing = answered  # type: ignore[method-assign]
    Batch.commit = around(Batch.commit, "commit")  # type: ignore[method-assign]
    Quarantine.keep = around(Quarantine.keep, "keep")  # type: ignore[method-assign]
    ExtendedEcmSession.file_arriving = around(ExtendedEcmSession.file_arriving, "file_arriving")  # type: ignore[method-assign]
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


def warm() -> None:
    """Import before the forks, so that each child is quick; as the worker does it, which starts no thread."""
    from deployments.worker import zygote

    zygote.warm()
    import tests.tasks.dock  # noqa: F401

    assert not zygote.crowd(()), "a fork would find the locks of other threads taken"


def walk(partner: str, intake: Callable[[str, str], bool]) -> None:
    """Die at every boundary once, then go on with everything."""
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


def kill_when(names: Sequence[str], partner: str, intake: Callable[[str, str], bool]) -> None:
    """Die once at each of these boundaries."""
    for number, name in enumerate(names, 1):
        named.clear()
        named[name] = signal.SIGKILL
        status = forked(lambda stream=f"s{number}": intake(partner, stream))  # type: ignore[misc]
        print(f"{name}: ended with {status}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("partner")
    parser.add_argument("stream")
    parser.add_argument("--stop-at", type=int)
    parser.add_argument("--stop-when", help="a boundary's name: 'before file'")
    parser.add_argument("--walk", action="store_true", help="die at every boundary")
    parser.add_argument("--kill-when", action="append", help="a boundary's name: die there, in a stream of its own")
    parser.add_argument("--plain", action="store_true", help="walk without a run of Prefect")
    parser.add_argument("--memory", action="store_true", help="tell this process's peak at the end, without hooks")
    given = parser.parse_args()
    if given.memory:
        completed = run(given.partner, given.stream)
        print(f"peak {peak_mib():.0f} MiB")
        sys.exit(0 if completed else 1)
    if given.walk or given.kill_when:
        warm()  # which passes boundaries of its own, in an empty ledger
    put_hooks()
    if given.walk or given.kill_when:
        one = run_plainly if given.plain else run
        return kill_when(given.kill_when, given.partner, one) if given.kill_when else walk(given.partner, one)
    if given.stop_when:
        named[given.stop_when] = signal.SIGSTOP
    if given.stop_at:
        plan[given.stop_at] = signal.SIGSTOP
    sys.exit(0 if run(given.partner, given.stream) else 1)


if __name__ == "__main__":
    main()
