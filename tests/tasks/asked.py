"""Runs of Prefect that ask about a case, on a real server."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient

from blocks.ledger import Entry
from tasks.ask_about import Review, settle_answer
from tests.tasks.dock import Dock


@flow
def asks() -> None:
    """Whose run a review is said to be of."""


class Asked:
    """Runs of Prefect that ask about a case, and what is answered to them: no flow of ours runs."""

    def __init__(self, client: SyncPrefectClient, dock: Dock, journey: str) -> None:
        self.client, self.dock, self.journey = client, dock, journey

    def begin(self) -> None:
        """A run begins, and is the one that asks."""
        self.run = str(self.client.create_flow_run(asks).id)
        [self.begun] = self.dock.ledger.append([Entry(self.journey, "review begun", {"run": self.run})])

    def answer(self, key: str, answer: dict[str, Any]) -> None:
        """It asks, and somebody answers."""
        self.dock.ledger.append([Entry(self.journey, "case asked", {"run": self.run, "key": key})])
        self.client.create_flow_run_input(UUID(self.run), f"suspended-{key}-response", json.dumps(answer))

    def settle(self) -> None:
        settle_answer.fn(Review(self.journey, self.run, self.begun))

    @property
    def comments(self) -> list[str]:
        return [one.body["comment"] for one in self.dock.ledger.journey(self.journey) if one.kind == "commented"]
