"""A flow that does nothing, to be deployed."""

from __future__ import annotations

from prefect import flow


@flow(name="sample")
def nothing(partner: str, stream: str, order: str | None = None) -> str:
    return f"{partner}/{stream} {order}"
