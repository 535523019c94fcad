"""Consignments: how many documents one task call carries together."""

from __future__ import annotations

from collections.abc import Iterable

from blocks.values import Limits, Sighting


def consignments(ready: Iterable[Sighting], limits: Limits) -> list[tuple[Sighting, ...]]:
    """Groups in the given order, bounded by count and bytes. A file larger than the bound of bytes goes alone."""
    groups: list[tuple[Sighting, ...]] = []
    group: list[Sighting] = []
    size = 0
    for sighting in ready:
        full = len(group) >= limits.consignment_files or size + sighting.file.size > limits.consignment_bytes
        if group and full:
            groups.append(tuple(group))
            group, size = [], 0
        group.append(sighting)
        size += sighting.file.size
    if group:
        groups.append(tuple(group))
    return groups
