"""What things cost in a folder, counted in calls: the same in a small one and in a crowded one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from blocks.values import Collision, Filed, NotFiled
from tests.conformance.repositories.writes.bench import Bench


@contextmanager
def counted(bench: Bench) -> Iterator[Counter[str]]:
    """What is asked of the server meanwhile, by call."""
    asked, before = Counter[str](), bench.wire.stats()
    try:
        yield asked
    finally:
        asked.update({call: number for call, number in bench.wire.stats().items() if " /v" in call})
        asked.subtract({call: number for call, number in before.items() if call in asked})


def work(bench: Bench, folder: str) -> dict[str, int]:
    """Calls that it takes to do the same in a folder of any size: one that holds ``order.csv``, and others whose names end so."""
    large = os.urandom(1024**2)
    costs = {}
    with counted(bench) as asked:
        filings = [bench.filing(f"new {n}.csv", folder, b"x") for n in range(10)]
        assert all(isinstance(answer, Filed) for answer in bench.session.file(filings))
    costs["file ten"] = asked.total()
    with counted(bench) as asked:
        # From this size on the name is looked up first.
        [answer] = bench.session.file([bench.filing("order.csv", folder, large, collision=Collision.REFUSE)])
        assert isinstance(answer, NotFiled), answer
    costs["a taken name"] = asked.total()
    with counted(bench) as asked:
        assert bench.session.find((folder,), "order.csv")
        assert bench.session.find((folder,), "7 ORDER.csv")
        assert not bench.session.find((folder,), "rder.csv")
    costs["find three"] = asked.total()
    return costs
