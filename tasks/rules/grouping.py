"""Consignments: how many documents one task call carries together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from blocks.values import Limits, RemoteFile, Sighting

PASSING = 6
"""What may pass straight through takes no room here, and its consignment costs Prefect's server as much as any: so many times as many of
its bytes go together. Not all of them, because consignments pass side by side, and the files of one do not."""


def consignments(
    ready: Iterable[Sighting], limits: Limits, passes: Callable[[RemoteFile], bool] = lambda _: False
) -> list[tuple[Sighting, ...]]:
    """Groups in the given order, bounded by count and bytes. A file larger than the bound of bytes goes alone.

    Args:
        passes: True for a file that may pass straight through.
    """
    groups: list[tuple[Sighting, ...]] = []
    group: list[Sighting] = []
    size = 0
    for sighting in ready:
        own = sighting.file.size // PASSING if passes(sighting.file) else sighting.file.size
        if group and (len(group) >= limits.consignment_files or size + own > limits.consignment_bytes):
            groups.append(tuple(group))
            group, size = [], 0
        group.append(sighting)
        size += own
    if group:
        groups.append(tuple(group))
    return groups
