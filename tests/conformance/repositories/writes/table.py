"""All writes of all facets, by name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.conformance.repositories.writes import (
    categories,
    filing,
    nodes,
    people,
    records,
    shares,
    taking_back,
    workflows,
    workspaces,
)
from tests.conformance.repositories.writes.bench import Write

FACETS = (filing, taking_back, nodes, categories, records, workspaces, workflows, people, shares)
WRITES: Mapping[str, Write] = {write.name: write for facet in FACETS for write in facet.WRITES}
