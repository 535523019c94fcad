"""Processes for tests: forked from one that has imported what they need, and opened nothing. An import costs seconds each time."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext


def processes() -> ForkServerContext:
    """There is one such server for each process of tests: whoever comes first starts it, so it imports what anybody needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.ledger.workers", "tests.sender.driver"])
    return context
