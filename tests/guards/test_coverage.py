"""The coverage table of Extended ECM claims nothing that is not there."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conformance.coverage.page import DOMAINS, PAGE, page
from tests.conformance.coverage.row import Row
from tests.sandbox.routes import routes, shape

CONFORMANCE = Path(__file__).parents[1] / "conformance"
ROWS = {row.call: row for rows in DOMAINS.values() for row in rows}


def test_the_page_fits_the_rows() -> None:
    assert PAGE.read_text("utf-8") == page(), "rows have changed: run 'python -m tests.conformance.coverage.page'"


def test_every_row_is_a_route_of_the_sandbox() -> None:
    claimed = [shape(row.call) for rows in DOMAINS.values() for row in rows]
    assert len(claimed) == len(set(claimed)), "a call stands in two rows"
    assert set(claimed) - set(routes()) == set()


@pytest.mark.parametrize("call", ROWS)
def test_nothing_is_claimed_that_is_not_there(call: str) -> None:
    row = ROWS[call]
    assert list(wrong_with(row)) == []


def wrong_with(row: Row) -> Iterator[str]:
    """What a row claims and is not so."""
    if not row.tests:
        yield "no test"
    if not (row.client and row.pyxecm) and not row.why_not:
        yield "an empty cell without a reason"
    for verb in row.client:
        if not exists(verb):
            yield f"there is no {verb}"
    sources = "".join(source for test in row.tests for source in text_of(test))
    yield from (f"there is no test {test}" for test in row.tests if not text_of(test))
    for verb in (*row.client, *row.pyxecm):
        name = verb.rpartition(".")[2]
        indirect = verb.startswith(("otcs_wire.", "otcs_names."))  # what the session's own verbs go through
        if not indirect and not re.search(rf"\.{name}\(", sources):
            yield f"none of its tests calls {verb}"


def exists(verb: str) -> bool:
    """True if a dotted name leads to something callable."""
    full = verb if verb.startswith("deployments.") else f"blocks.repositories.{verb}"
    module, _, inside = full.rpartition(".")
    module, _, owner = module.rpartition(".")
    return callable(getattr(getattr(importlib.import_module(module), owner, None), inside, None))


@cache
def text_of(test: str) -> tuple[str, ...]:
    """A test's own source and that of what stands beside it and is no test; nothing where there is no such test."""
    name, _, function = test.partition("::")
    path = CONFORMANCE / name
    if not path.exists():
        return ()
    text = path.read_text("utf-8")
    parts = list(ast.parse(text).body)
    found = [part for part in parts if isinstance(part, ast.FunctionDef) and part.name == function]
    beside = [part for part in parts if not (isinstance(part, ast.FunctionDef) and part.name.startswith("test_"))]
    if not found:
        return ()
    imported = [
        (CONFORMANCE.parents[1] / f"{part.module.replace('.', '/')}.py").read_text("utf-8")
        for part in parts
        if isinstance(part, ast.ImportFrom) and part.module and re.match(r"tests\.conformance\.\w+\.checks", part.module)
    ]
    return (*(ast.get_source_segment(text, part) or "" for part in (*found, *beside)), *imported)


def test_a_false_claim_is_named() -> None:
    known = next(row for row in ROWS.values() if row.pyxecm)
    wrong = Row(
        known.call, ("extended_ecm.ExtendedEcmSession.fly",), ("get_moon",), (*known.tests, "pyxecm/test_pyxecm.py::test_x")
    )
    assert list(wrong_with(wrong)) == [
        "there is no extended_ecm.ExtendedEcmSession.fly",
        "there is no test pyxecm/test_pyxecm.py::test_x",
        "none of its tests calls extended_ecm.ExtendedEcmSession.fly",
        "none of its tests calls get_moon",
    ]
    assert list(wrong_with(Row(known.call, (), (), ()))) == ["no test", "an empty cell without a reason"]
