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


def test_the_rows_are_the_routes_of_the_sandbox() -> None:
    claimed = [shape(row.call) for rows in DOMAINS.values() for row in rows]
    assert len(claimed) == len(set(claimed)), "a call stands in two rows"
    assert set(claimed) - set(routes()) == set(), "rows without a route"
    assert set(routes()) - set(claimed) == set(), "routes without a row in tests/conformance/coverage"


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
    tests, beside = sources(CONFORMANCE / name)
    return (tests[function], beside) if function in tests else ()


@cache
def sources(path: Path) -> tuple[dict[str, str], str]:
    """The source of each test in a file, and of everything else in it and in the checks that it imports."""
    if not path.exists():
        return {}, ""
    text = path.read_text("utf-8")
    lines, tests, beside = text.splitlines(), dict[str, str](), list[str]()
    for part in ast.parse(text).body:
        source = "\n".join(lines[part.lineno - 1 : part.end_lineno])
        if isinstance(part, ast.FunctionDef) and part.name.startswith("test_"):
            tests[part.name] = source
        else:
            beside.append(source)
        if isinstance(part, ast.ImportFrom) and re.match(r"tests\.conformance\.\w+\.checks", part.module or ""):
            beside.append((CONFORMANCE.parents[1] / f"{str(part.module).replace('.', '/')}.py").read_text("utf-8"))
    return tests, "\n".join(beside)


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
