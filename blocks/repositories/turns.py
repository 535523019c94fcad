"""Filing many documents at the same time, answered in the order asked; those under one name one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from queue import SimpleQueue
from typing import TypeAlias

from blocks.values import BusinessObject, Filed, Filing, NotFiled

AT_ONCE_SECONDS = 0.005
"""A server that files several documents within this time has them from one of us after the other: more of us at the same time would only
wait for Python's lock, which doubles what a small document costs."""

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
    filings: Iterable[Filing], connections: int, file: Callable[[Filing], Filed | NotFiled]
) -> Iterator[Filed | NotFiled]:
    """File each; filings are taken a little ahead of the answers, never all of them.

    ``connections``: so many are filed at the same time, where the server takes its time with each.
    """
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
