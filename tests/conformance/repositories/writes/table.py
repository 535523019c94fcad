"""All writes of all facets, by name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.conformance.repositories.writes import filing, people, records, shares, workspaces
from tests.conformance.repositories.writes.bench import Write

FACETS = (filing, records, workspaces, people, shares)
WRITES: Mapping[str, Write] = {write.name: write for facet in FACETS for write in facet.WRITES}
