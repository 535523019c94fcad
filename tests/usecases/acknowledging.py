"""A partner that answers what it was sent, and what the ledger then knows of it."""

from __future__ import annotations

from flows.intake import intake
from flows.reconcile import reconcile
from tasks import connections
from tests.release_world import Release, ReleaseWorld


def said(world: ReleaseWorld, name: str) -> None:
    """The partner answers, and the next sweep has seen it."""
    (world.remote / "acks" / name).write_bytes(name.encode())
    assert intake("acme", "acknowledgements", patience_seconds=5, return_state=True).name == "Filed"
    reconcile(patience_seconds=0)


def cases(release: Release) -> list[tuple[str | None, str]]:
    """Those about the order's acknowledgement, open or not."""
    found = connections.ledger().cases(open_only=False)
    return [(case.code, case.state.value) for case in found if case.journey == f"acknowledgement.{release.history[0].journey}"]
