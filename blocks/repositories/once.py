"""Finding something out once, however many threads ask for it at the same moment."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Once(Generic[Key, Value]):
    """The first to ask for a key finds it out, the others wait for that answer. Failures are not remembered."""

    def __init__(self) -> None:
        self._lock, self._known = Lock(), dict[Key, Future[Value]]()

    def get(self, key: Key, find: Callable[[], Value]) -> Value:
        with self._lock:
            known = self._known.get(key)
            if known is None:
                mine = self._known[key] = Future[Value]()
        if known is not None:
            return known.result()
        try:
            value = find()
        except BaseException as error:
            self.forget(key)
            mine.set_exception(error)
            raise
        mine.set_result(value)
        return value

    def known(self, key: Key) -> Value | None:
        """What was found out; None while it was not."""
        with self._lock:
            known = self._known.get(key)
        return known.result() if known is not None and known.done() and known.exception() is None else None

    def forget(self, key: Key) -> None:
        """What was found out has turned out to be stale."""
        with self._lock:
            self._known.pop(key, None)

    def forget_where(self, stale: Callable[[Key], bool]) -> None:
        with self._lock:
            self._known = {key: known for key, known in self._known.items() if not stale(key)}
