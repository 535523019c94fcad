"""Lanes: one partner who answers slowly holds up nobody else, and nothing is done for whoever has left."""

from __future__ import annotations

import threading

import anyio
import pytest

from blocks.errors import SenderUnreachable
from deployments.sender.turns import Lanes

LONG_SECONDS = 600.0


async def listening() -> bool:
    return False


async def gone() -> bool:
    return True


def test_a_slow_partner_holds_up_no_other() -> None:
    lanes, end, begun = Lanes(1, patience_seconds=LONG_SECONDS), threading.Event(), threading.Event()
    done: list[str] = []

    def slow() -> None:
        begun.set()
        end.wait()
        done.append("slow")

    async def asked() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(lanes.run, "slow", slow, listening)
            await anyio.to_thread.run_sync(begun.wait)
            group.start_soon(lanes.run, "slow", lambda: done.append("behind"), listening)
            await lanes.run("fast", lambda: done.append("fast"), listening)
            end.set()

    anyio.run(asked)
    assert done == ["fast", "slow", "behind"]
    assert not lanes._lanes, "nothing is kept of partners whom nobody asks about"


def test_nobody_waits_for_ever_behind_a_slow_partner() -> None:
    lanes, end, begun = Lanes(1, patience_seconds=0.01), threading.Event(), threading.Event()

    async def asked() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(lanes.run, "slow", lambda: (begun.set(), end.wait()), listening)
            await anyio.to_thread.run_sync(begun.wait)
            with pytest.raises(SenderUnreachable, match="nothing was begun"):
                await lanes.run("slow", lambda: pytest.fail("it was begun"), listening)
            end.set()
        await lanes.run("slow", end.wait, listening)

    anyio.run(asked)


def test_nothing_is_begun_for_whoever_has_left() -> None:
    lanes = Lanes(1, patience_seconds=LONG_SECONDS)

    async def asked() -> None:
        with pytest.raises(SenderUnreachable, match="does not listen"):
            await lanes.run("acme", lambda: pytest.fail("it was begun"), gone)
        await lanes.run("acme", lambda: None, listening)  # and the place is free again

    anyio.run(asked)
