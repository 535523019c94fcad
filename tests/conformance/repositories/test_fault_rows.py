"""Nothing that our client does at Extended ECM is left out of the tests of faults: found in the client itself, not in a list."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blocks.repositories import otcs_names
from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.repositories.otcs_wire import Wire
from deployments.sender import sharing
from tests.conformance.repositories.writes.bench import Bench
from tests.conformance.repositories.writes.reads import READS
from tests.conformance.repositories.writes.table import WRITES

SENDS = ("write", "writing", "ask", "asking", "download")
"""The ways of ``Wire`` to the server."""
UNTRIED = {
    "ExtendedEcmSession.file_arriving": "what passes through breaks in tests/tasks/test_pass_through.py",
    "ExtendedEcmSession.takes_arriving": "the same",
    "ExtendedEcmSession.close": "signs out; a ticket that is not given back runs out",
    "Workspaces.forget": "asks nothing",
    "Shares.close": "signs out; a ticket that is not given back runs out",
}
"""Verb -> why it needs no row."""


def facets(session: ExtendedEcmSession) -> Iterator[type]:
    """The classes whose public methods speak with the server."""
    yield from (ExtendedEcmSession, sharing.Shares)
    yield from (type(facet) for name, facet in vars(session).items() if not name.startswith("_"))


def sources() -> list[Path]:
    """All that speaks with Extended ECM, but for ``Wire`` itself; File 360, which shares it, has faults of its own."""
    package = Path(otcs_names.__file__).parent
    others = {package / name for name in ("otcs_wire.py", "file360.py")}
    return [*(path for path in package.glob("*.py") if path not in others), Path(sharing.__file__)]


def sendings() -> set[tuple[str, int, int]]:
    """Where in the client something is sent: file, first and last line."""
    found = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SENDS:
                of = node.func.value
                if (isinstance(of, ast.Attribute) and of.attr == "_wire") or (isinstance(of, ast.Name) and of.id == "wire"):
                    found.add((str(path), node.lineno, node.end_lineno or node.lineno))
    return found


def test_every_verb_and_every_call_meets_the_faults(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    tried, sent, acting = set[str](), set[tuple[str, int]](), False

    def recorded(name: str, verb: Any, place: bool) -> Any:
        @functools.wraps(verb)
        def called(*arguments: Any, **more: Any) -> Any:
            if acting:
                tried.add(name)
                if place:
                    frame = sys._getframe(1)
                    sent.add((frame.f_code.co_filename, frame.f_lineno))
            return verb(*arguments, **more)

        return called

    verbs = set[str]()
    for facet in facets(bench.session):
        for name, verb in vars(facet).items():
            if inspect.isfunction(verb) and not name.startswith("_"):
                verbs.add(f"{facet.__name__}.{name}")
                monkeypatch.setattr(facet, name, recorded(f"{facet.__name__}.{name}", verb, False))
    for name in SENDS:
        monkeypatch.setattr(Wire, name, recorded(name, getattr(Wire, name), True))
    for row in (*WRITES.values(), *READS.values()):
        given = row.prepare(bench)
        acting = True
        (row.act if hasattr(row, "act") else row.tell)(bench.session, given)
        acting = False

    assert sorted(verbs - tried - UNTRIED.keys()) == [], "verbs without a row"
    lines = sendings()
    assert len(lines) > 50, "the client is not found any more"
    untried = [
        f"{Path(path).name}:{first}"
        for path, first, last in sorted(lines)
        if not any(file == path and first <= line <= last for file, line in sent)
    ]
    assert untried == [], "calls without a row"
