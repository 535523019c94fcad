"""One row of the coverage table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One call of the contract. The sandbox's part is looked up in its routes."""

    call: str
    """As the contract has it: ``GET v2/nodes/{id}``."""
    client: tuple[str, ...]
    """Our verbs that make it: ``extended_ecm.ExtendedEcmSession.get``, below ``blocks.repositories`` unless it begins with
    ``deployments``."""
    pyxecm: tuple[str, ...]
    """Methods of OpenText's client that make it."""
    tests: tuple[str, ...]
    """Below ``tests/conformance``: ``pyxecm/test_pyxecm.py::test_audit``. Between them they call each of the verbs above."""
    why_not: str = ""
    """Where ``client`` or ``pyxecm`` is empty: why."""
