"""Filing many documents at the same time, answered in the order asked; those under one name one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeAlias

from blocks.values import BusinessObject, Filed, Filing, NotFiled

_Place: TypeAlias = tuple[BusinessObject | None, tuple[str, ...], str]
"""Where a filing goes: its workspace's object, its folder and its name, as servers that ignore case compare them."""


def in_turns(
    filings: Iterable[Filing], connections: int, file: Callable[[Filing], Filed | NotFiled]
) -> Iterator[Filed | NotFiled]:
    """File each, so many at the same time; filings are taken a little ahead of the answers, never all of them."""
    waiting: deque[tuple[_Place, Future[Filed | NotFiled]]] = deque()
    latest: dict[_Place, Future[Filed | NotFiled]] = {}

    def oldest(count: int) -> Iterator[Filed | NotFiled]:
        # Several at once: to be woken for each would cost more than filing a small document.
        wait([future for _, future in islice(waiting, count)], return_when=FIRST_EXCEPTION)
        for _ in range(count):
            place, future = waiting.popleft()
            answer = future.result()
            if latest.get(place) is future:
                del latest[place]
            yield answer

    def after(before: Future[Filed | NotFiled] | None, filing: Filing) -> Filed | NotFiled:
        """File after the one before it under the same name. Threads take filings in order, so that one is running or done."""
        if before is not None:
            before.result()
        return file(filing)

    with ThreadPoolExecutor(connections, thread_name_prefix="filing") as pool:
        try:
            for filing in filings:
                place = _place(filing)
                latest[place] = future = pool.submit(after, latest.get(place), filing)
                waiting.append((place, future))
                if len(waiting) >= 4 * connections:
                    yield from oldest(2 * connections)
            yield from oldest(len(waiting))
        finally:
            for _, future in waiting:
                future.cancel()


def _place(filing: Filing) -> _Place:
    if filing.document is not None:
        return None, (), f"/{filing.document}"  # no name has a slash
    about = filing.workspace.about if filing.workspace else None
    return about, tuple(part.casefold() for part in filing.folder), filing.name.casefold()
