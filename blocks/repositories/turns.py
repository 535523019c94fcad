"""Filing many documents at the same time, answered in the order asked; those under one name one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import chain, islice
from queue import SimpleQueue
from time import monotonic
from typing import TypeAlias

from blocks.repositories.routines import Result, Routine, overlapped
from blocks.values import BusinessObject, Filed, Filing, NotFiled

AT_ONCE_SECONDS = 0.005
"""A server that files several documents within this time has them from one of us after the other: more of us at the same time would only
wait for Python's lock, which doubles what a small document costs."""

SOON_SECONDS, HICCUPS = 0.001, 20
"""Short calls are soon done where each takes no longer than this on average. It takes some to tell."""

_Place: TypeAlias = tuple[BusinessObject | None, tuple[str, ...], str]
"""Where a filing goes: its workspace's object, its folder and its name, as servers that ignore case compare them."""


@dataclass(slots=True)
class _Turn:
    """A filing that was taken, and what becomes of it."""

    filing: Filing
    place: _Place
    before: Future[Filed | NotFiled] | None
    """Of the one before it under the same name. Turns are begun in order, so that one is running or done."""
    answer: Future[Filed | NotFiled] = field(default_factory=Future)

    def take(self, file: Callable[[Filing], Filed | NotFiled]) -> None:
        if not self.answer.set_running_or_notify_cancel():
            return
        try:
            if self.before is not None:
                self.before.result()
            self.answer.set_result(file(self.filing))
        except BaseException as error:  # noqa: BLE001 - told to whoever asks for the answer
            self.answer.set_exception(error)


def in_turns(
    filings: Iterable[Filing],
    connections: int,
    file: Callable[[Filing], Filed | NotFiled],
    short: Callable[[Filing], Routine[Filed | NotFiled] | None] = lambda _: None,
) -> Iterator[Filed | NotFiled]:
    """File each; filings are taken a little ahead of the answers, never all of them.

    ``connections``: so many are filed at the same time, where the server takes its time with each. ``short``: for a filing that is one
    short call as a rule, that as a routine. One thread has several of these on their way, until another filing comes, or the server
    takes its time: then what such a call leaves to be done must not wait for each other.
    """
    left = iter(filings)
    longer = yield from _by_one(left, connections, short)
    if longer is not None:
        yield from _by_several(chain([longer], left), connections, file)


def _by_one(
    filings: Iterator[Filing], connections: int, short: Callable[[Filing], Routine[Filed | NotFiled] | None]
) -> Generator[Filed | NotFiled, None, Filing | None]:
    """File those that are short, as long as that is soon done. Returns the first that was taken and not begun; None: there is none."""
    latest = deque[_Place](maxlen=connections)
    longer, spent, answered = None, 0.0, 0

    def begun() -> Iterator[Routine[Filed | NotFiled]]:
        nonlocal longer
        for filing in filings:
            routine = short(filing) if spent <= SOON_SECONDS * (answered + HICCUPS) else None
            if routine is None:
                longer = filing
                return
            place = _place(filing)
            yield _in_its_turn(routine) if place in latest else routine
            latest.append(place)

    answers = overlapped(begun(), connections)
    while True:
        before = monotonic()
        answer = next(answers, None)
        if answer is None:
            return longer
        spent, answered = spent + monotonic() - before, answered + 1
        yield answer


def _in_its_turn(routine: Routine[Result]) -> Routine[Result]:
    """The same, begun when all that were begun before are done."""
    yield
    return (yield from routine)


def _by_several(
    filings: Iterable[Filing], connections: int, file: Callable[[Filing], Filed | NotFiled]
) -> Iterator[Filed | NotFiled]:
    """File each, by as many threads as the server can use."""
    turns, waiting = SimpleQueue[_Turn | None](), deque[_Turn]()
    latest: dict[_Place, _Turn] = {}

    def work() -> None:
        while (turn := turns.get()) is not None:
            turn.take(file)

    def oldest(count: int) -> Iterator[Filed | NotFiled]:
        # Several at once: to be woken for each would cost more than filing a small document.
        answers = [turn.answer for turn in islice(waiting, count)]
        while len(workers) < connections:
            so_far = wait(answers, AT_ONCE_SECONDS, FIRST_EXCEPTION)
            if not so_far.not_done or any(answer.exception() for answer in so_far.done):
                break
            workers.append(pool.submit(work))
        wait(answers, return_when=FIRST_EXCEPTION)
        for _ in range(count):
            turn = waiting.popleft()
            answer = turn.answer.result()
            if latest.get(turn.place) is turn:
                del latest[turn.place]
            yield answer

    with ThreadPoolExecutor(connections, thread_name_prefix="filing") as pool:
        workers = [pool.submit(work)]
        try:
            for filing in filings:
                place = _place(filing)
                before = latest.get(place)
                turn = latest[place] = _Turn(filing, place, before.answer if before else None)
                turns.put(turn)
                waiting.append(turn)
                if len(waiting) >= 4 * connections:
                    yield from oldest(2 * connections)
            yield from oldest(len(waiting))
        finally:
            for turn in waiting:
                turn.answer.cancel()
            for _ in range(connections):  # one more may be in the pool's queue, if the system had no thread for it
                turns.put(None)


def _place(filing: Filing) -> _Place:
    if filing.document is not None:
        return None, (), f"/{filing.document}"  # no name has a slash
    about = filing.workspace.about if filing.workspace else None
    return about, tuple(part.casefold() for part in filing.folder), filing.name.casefold()
