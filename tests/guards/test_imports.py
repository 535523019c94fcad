"""Imports run one way: deployments -> flows -> tasks -> blocks; rules and document types import only each other and values."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("blocks", "tasks", "flows", "deployments")
MAY_IMPORT = {
    "blocks": {"blocks"},
    "tasks": {"blocks", "tasks"},
    "flows": {"blocks", "tasks", "flows"},
    "deployments": {"blocks", "tasks", "flows", "deployments"},
}
PURE = ("tasks/rules", "tasks/doctypes")


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where things come from"
            yield node.module or ""


def at_top(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def wrong_way(layer: str, names: Iterator[str]) -> list[str]:
    ours = {*LAYERS, "tests"}
    return [name for name in names if name.split(".")[0] in ours and name.split(".")[0] not in MAY_IMPORT[layer]]


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_run_one_way(layer: str) -> None:
    wrong = {str(path.relative_to(ROOT)): found for path in modules(layer) if (found := wrong_way(layer, imports(path)))}
    assert not wrong, f"these imports run against the arrow: {wrong}"


def test_of_deployments_only_the_cli_and_the_worker_import_flows() -> None:
    importers = {path.name for path in modules("deployments") if any(n.split(".")[0] == "flows" for n in imports(path))}
    assert all(name in ("cli.py", "zygote.py") or name.endswith("_commands.py") for name in importers), importers


def test_no_flow_of_ours_has_hooks_that_a_worker_would_have_to_run() -> None:
    """The worker type 'countersign' runs none: see _NoHooks."""
    importlib.import_module("prefect")
    flows = [
        (name, one)
        for path in modules("flows")
        for name, one in vars(importlib.import_module(f"flows.{path.stem}")).items()
        if type(one).__name__ == "Flow"
    ]
    assert len(flows) > 5
    assert not [name for name, flow in flows if flow.on_crashed_hooks or flow.on_cancellation_hooks]


@pytest.mark.parametrize("folder", PURE)
def test_rules_and_doctypes_import_only_each_other_and_values(folder: str) -> None:
    terms = ("blocks.outbound", "blocks.calendars", "blocks.papers", "blocks.index_terms")
    allowed = ("tasks.rules", "tasks.doctypes", "blocks.values", *terms)
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in modules(folder)
        if (found := [n for n in imports(path) if n.split(".")[0] in LAYERS and not n.startswith(allowed)])
    }
    assert not wrong


@pytest.mark.parametrize("folder", PURE)
def test_rules_and_doctypes_load_nothing_heavy_at_import(folder: str) -> None:
    heavy = {"prefect", "pandas", "pandera", "polars", "pyarrow", "numpy", "paramiko", "httpx", "sqlalchemy"}
    wrong = {str(p.relative_to(ROOT)): hit for p in modules(folder) if (hit := {n.split(".")[0] for n in at_top(p)} & heavy)}
    assert not wrong


def test_importing_the_rules_and_what_commands_read_with_does_not_load_prefect() -> None:
    names = ["tasks.connections", "tasks.cases", "blocks.sender"] + [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for folder in PURE
        for path in modules(folder)
        if path.name != "__init__.py"
    ]
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\nprint('prefect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "False"


def test_the_guard_sees_a_wrong_arrow() -> None:
    assert wrong_way("blocks", iter(["tasks.look", "json", "blocks.values"])) == ["tasks.look"]


def test_flow_files_hold_flows_only() -> None:
    for path in modules("flows"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                decorated = isinstance(node, ast.FunctionDef) and any("flow" in ast.unparse(d) for d in node.decorator_list)
                assert decorated, f"{path.name}: {node.name} is not a flow; values and forms live below the flows"
