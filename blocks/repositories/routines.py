"""Routines: work that steps aside while a call of its own is on its way, so that one thread has several calls at a server.

For short calls to a server that answers at once. Threads would hand them over to each other and wait for Python's lock, which costs
more than the calls do; and a single one that waits for each answer leaves the server idle in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from typing import Generic, TypeAlias, TypeVar

from blocks.errors import RepositoryError

Result = TypeVar("Result")
Routine: TypeAlias = Generator[None, None, Result]
"""Yields while a call is on its way, and returns what came of it all."""


def finished(routine: Routine[Result]) -> Result:
    """What comes of a routine that has nothing else done beside it."""
    while True:
        try:
            next(routine)
        except StopIteration as stop:
            result: Result = stop.value
            return result


def or_error(routine: Routine[Result]) -> Routine[Result | RepositoryError]:
    """The same, with the repository's error for an answer where that is what comes of it."""
    try:
        return (yield from routine)
    except RepositoryError as error:
        return error


def overlapped(routines: Iterable[Routine[Result]], most: int) -> Generator[Result]:
    """What comes of each, in the order given. ``most``: so many have a call on its way at the same time.

    The error of one is raised in its turn. Then, and where nobody asks for the rest, those on their way are given up: whether the server
    does what it was asked is not known.
    """
    begun = deque[_Begun[Result]]()
    try:
        for routine in routines:
            begun.append(_Begun(routine))
            if len(begun) >= most:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        for left in begun:
            left.give_up()


class _Begun(Generic[Result]):
    """A routine that has stepped aside, or ended before it did."""

    def __init__(self, routine: Routine[Result]) -> None:
        self._routine = routine
        self._end: Exception | None = None
        try:
            next(routine)
        except Exception as end:  # noqa: BLE001 - raised in its turn
            self._end = end

    def result(self) -> Result:
        if self._end is None:
            return finished(self._routine)
        if isinstance(self._end, StopIteration):
            result: Result = self._end.value
            return result
        raise self._end

    def give_up(self) -> None:
        self._routine.close()
