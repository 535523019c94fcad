"""Conclude: what ops see of a release when a pass ends."""

from __future__ import annotations

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from tasks.ask import announce
from tasks.order import Order
from tasks.previews import drop_previews


def conclude(order: Order) -> State:
    """The run's final state, whose name says the outcome. Nobody is awaited any more, and previews are for nobody."""
    assert order.ending is not None  # noqa: S101 - every path of the story ends an order, or suspends the run
    ending = order.ending
    announce(order, None)
    drop_previews(order)
    get_run_logger().info("%s: %s", ending.name, ending.message)
    if ending.fault:
        return Failed(name=ending.name, message=ending.message)
    return Completed(name=ending.name, message=ending.message)
