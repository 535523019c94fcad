"""The desk: claims consignments, keeps their leases alive while they are worked on, and gathers what became of them."""

from __future__ import annotations

import gc
import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cache, partial
from threading import get_ident
from types import TracebackType
from typing import Self

from prefect import get_run_logger
from prefect.futures import PrefectFuture

from blocks.settings import settings
from blocks.values import Sighting, Stage
from tasks.connections import hang_up, ledger
from tasks.consignment import Agreed, Consignment, Row, claimed_item
from tasks.report import announce, publish
from tasks.rules.grouping import consignments
from tasks.rules.passing import may_pass
from tasks.rules.settle import Readiness

AHEAD = 3
"""How many consignments are open at once: one is fetched while another is checked and a third is filed."""
YOUNG = 100_000
"""So many more objects than at the last look there are before garbage is looked for again: more than a consignment of a thousand
files has. What is left of them in circles then is some MiB; a large file makes few objects."""

Steps = Sequence[PrefectFuture[Consignment]]


class Desk:
    """One run's work. Iterating claims the next consignment as soon as fewer than ``AHEAD`` are open.

    Two runs at once share the work: what somebody else holds is skipped, unless the stream is ordered; then nothing later is begun
    either. Leaving the ``with`` block gives back what is not finished, so that the next run goes on there at once; after a kill the
    leases run out by themselves.
    """

    def __init__(self, agreed: Agreed, readiness: Readiness, groups: Sequence[tuple[Sighting, ...]] | None = None) -> None:
        """``groups``: what each consignment carries, where that is not only a matter of bounds."""
        self.agreed = agreed
        self.rows = [Row(notice.file, "noticed", f"{notice.code}: {notice.message}") for notice in readiness.notices]
        self._groups = deque(_grouped(agreed, readiness.ready) if groups is None else groups)
        self._done, self._all = 0, sum(map(len, self._groups))
        self._markers = {journey: marker.file for journey, marker in readiness.markers.items()}
        self._open: deque[tuple[ExitStack, Steps]] = deque()

    def __iter__(self) -> Iterator[Consignment]:
        while self._groups:
            while len(self._open) >= AHEAD:
                self._finish()
            group = self._groups.popleft()
            claimed = self._claim(group)
            if claimed is not None:
                yield claimed
            if self.agreed.terms.ordered and (claimed is None or claimed.size < len(group)):
                return  # what somebody else has in hand is earlier than all that follows

    def follow(self, *steps: PrefectFuture[Consignment]) -> None:
        """The steps submitted for the consignment that was claimed last; the last step's result is what became of it."""
        held, _ = self._open.pop()
        self._open.append((held, steps))

    def _claim(self, group: Sequence[Sighting]) -> Consignment | None:
        agreed, seconds = self.agreed, settings().lease_seconds
        owner = f"{socket.gethostname()}/{os.getpid()}/{get_ident()}"
        claimed = ledger().claim(
            agreed.partner, agreed.stream, [sighting.journey for sighting in group], owner=owner, seconds=seconds
        )
        if claimed is None:
            return None
        lease, arrivals = claimed
        open_until = ExitStack()
        held = open_until.enter_context(ledger().holding(lease, seconds))
        self._open.append((open_until, ()))
        history = ledger().journeys([arrival.journey for arrival in arrivals])
        # Another run may have been here since: seen that a file is still being written after all, or settled it.
        settled = {sighting.journey: sighting.file for sighting in group}
        items = [
            claimed_item(arrival, history[arrival.journey])
            for arrival in arrivals
            if arrival.file == settled[arrival.journey] and arrival.stage is not Stage.LEFT
        ]
        return Consignment(agreed, held, items, self._markers)

    def _finish(self) -> None:
        """Wait for the oldest consignment. The first step that failed is the one whose error is raised."""
        _, steps = self._open[0]
        results = [step.result() for step in steps]
        held, _ = self._open.popleft()
        held.close()
        if results:
            announce(results[-1])
            self.rows += results[-1].rows()
            self._done += results[-1].size
            if results[-1].size < self._all:
                get_run_logger().info("%s: %d of %d files of this run are done", self.agreed.key, self._done, self._all)

    def __enter__(self) -> Self:
        _leave_what_is_here()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            while self._open and error is None:
                self._finish()
        finally:
            if error is not None and self.rows:
                publish(self.agreed, self.rows)  # what was done before the fault is worth knowing too
            # A step that still runs must not outlive its lease: wait before giving back.
            for held, steps in self._open:
                for step in steps:
                    step.wait()
                held.close()
            hang_up()


def _grouped(agreed: Agreed, ready: Sequence[Sighting]) -> list[tuple[Sighting, ...]]:
    limits = agreed.terms.limits
    if not agreed.repository.files_arriving:  # all go into the spool
        return consignments(ready, limits)
    return consignments(ready, limits, partial(may_pass, stream=agreed.terms))


@cache
def _leave_what_is_here() -> None:
    """Once in a process: what was imported stays, and to look through it for garbage costs a quarter of a second each time; an intake,
    which makes much and throws away little of it in circles, would do so once or twice a run.

    What is made since then is hardly looked through: by Python's own measure it would be 250 times for a thousand files, and find next
    to nothing each time.
    """
    gc.collect(1)
    gc.freeze()
    gc.set_threshold(YOUNG)
