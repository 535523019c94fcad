"""What is ended by ``close`` is ended by the end of a ``with`` block, too."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Closing(ABC):
    """Something open. ``with`` closes it, whatever happens in the block."""

    @abstractmethod
    def close(self) -> None:
        """End it. Safe to call twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
