"""Close: what came through needs nobody any more, neither us nor its partner."""

from __future__ import annotations

from tasks.clear_source import clear_source
from tasks.consignment import Consignment
from tasks.resolve import resolve
from tasks.retrying import task


@task(task_run_name="close cases and clear the source ({consignment.size})")
def close(consignment: Consignment) -> Consignment:
    """End the cases of documents that came through; then what was agreed happens to the originals. Tried again it does nothing twice."""
    return clear_source.fn(resolve(consignment))
