"""Runs the sender as its command does, also as a fork (``become``).

With ``--die-at N`` it is killed when it writes down its N-th step of a delivery, with ``--die-in-upload N`` when it has begun to send N
bytes of one file. With ``--timed`` it says on its standard error when each step was written down, for those who measure.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence

import typer

import deployments.sender.process  # noqa: F401 - which the command imports only when it runs
from blocks.endpoints import sftp_engine
from blocks.endpoints.sftp_engine import Request
from deployments.sender.store import Parcel, Step, Store
from deployments.sender_commands import sender

ONE_BY_ONE = (Step.UPLOADED, Step.PLACED)
"""Steps that a delivery writes down as the server answers: several answers together if they come fast, with what is asked for next.
Here each is one, and so may be the last: it is as if the answer after it had come too late."""


def die_at(number: int, *, written: bool) -> None:
    """From now on: kill -9 of this process at the N-th step that a delivery writes down, just before or just after it is."""
    move, count = Store.move, 0

    def counted(self: Store, moves: Mapping[Step, Iterable[Parcel]]) -> list[Parcel]:
        nonlocal count
        moved: list[Parcel] = []
        for step, parcels in moves.items():
            told = list(parcels)
            for some in [[one] for one in told] if step in ONE_BY_ONE else [told]:
                count += bool(some)
                if some and count == number and not written:
                    os.kill(os.getpid(), signal.SIGKILL)
                moved += move(self, {step: some})
                if some and count == number and written:
                    os.kill(os.getpid(), signal.SIGKILL)
        return moved

    Store.move = counted  # type: ignore[method-assign]


def die_in_upload(size: int) -> None:
    """From now on: kill -9 of this process before it asks a server to write what comes after so many bytes of a file."""
    write = sftp_engine.write

    def counted(handle: sftp_engine.Bytes, offset: int, data: sftp_engine.Bytes) -> Request:
        if offset >= size:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(handle, offset, data)

    sftp_engine.write = counted


def timed() -> None:
    """From now on: a line ``timed SECONDS STEP PROOF`` whenever a delivery has written down a step."""
    intend, move = Store.intend, Store.move

    def say(step: Step, parcels: Sequence[Parcel]) -> None:
        for proof in {parcel.proof for parcel in parcels}:
            print("timed", time.time(), step.value, proof and proof.value, file=sys.stderr, flush=True)

    def intended(self: Store, parcels: Iterable[Parcel]) -> list[Parcel]:
        told = intend(self, parcels)
        say(Step.INTENDED, told)
        return told

    def moved(self: Store, moves: Mapping[Step, Iterable[Parcel]]) -> list[Parcel]:
        told = move(self, moves)
        for step in moves:
            say(step, [parcel for parcel in told if parcel.step is step])
        return told

    Store.intend = intended  # type: ignore[method-assign]
    Store.move = moved  # type: ignore[method-assign]


def main() -> None:
    if sys.argv[1] == "--die-at":
        die_at(int(sys.argv[2]), written=True)
        del sys.argv[1:3]
    elif sys.argv[1] == "--die-in-upload":
        die_in_upload(int(sys.argv[2]))
        del sys.argv[1:3]
    elif sys.argv[1] == "--timed":
        timed()
        del sys.argv[1]
    typer.run(sender)


def become(arguments: Sequence[str], environment: Mapping[str, str], log: str) -> None:
    """In a fork: what ``python -m tests.sender.driver`` would be with these arguments, this environment, and its output in a file."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for standard in (1, 2):
        os.dup2(output, standard)
    os.close(output)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    main()


if __name__ == "__main__":
    main()
