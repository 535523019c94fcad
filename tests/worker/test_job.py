"""Which job variables a deployment has by the reviewed files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flows.reconcile  # noqa: F401 - as the zygote has imported it
from blocks.errors import ConfigurationError
from blocks.settings import settings
from deployments.worker import job

PROJECT = """
deployments:
  - name: sweep
    entrypoint: flows.reconcile.reconcile
    work_pool: { name: countersign, job_variables: { env: { REVIEWED: "yes" } } }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settings(), "profiles", tmp_path)
    job._of_files.cache_clear()
    yield tmp_path
    job._of_files.cache_clear()


def asked(name: str = "sweep", **variables: Any) -> dict[str, Any]:
    deployment = {"name": name, "entrypoint": "flows.reconcile.reconcile", "pool": "countersign", "steps": []}
    return {
        "run": {"id": "1", "name": "usual", "job_variables": {}},
        "deployment": {**deployment, "job_variables": variables},
        "pool": {"name": "countersign", "template": {}, "version": "1"},
    }


def test_a_deployment_has_exactly_the_job_variables_of_its_file(folder: Path) -> None:
    (folder / "prefect.yaml").write_text(PROJECT)
    assert job.refusal(asked(env={"REVIEWED": "yes"})) is None
    for other in ({}, {"env": {}}):
        found = job.refusal(asked(**other))
        assert found is not None and "other job variables than its file" in found.message
    assert job.refusal(asked("none's")) is None and job.refusal(asked("none's", env={})) is not None


def test_the_files_are_read_once_for_all_runs(folder: Path) -> None:
    (folder / "prefect.yaml").write_text(PROJECT)
    job.warm()
    (folder / "prefect.yaml").unlink()
    assert job.refusal(asked(env={"REVIEWED": "yes"})) is None


def test_files_that_are_not_in_order_stop_only_who_has_job_variables(folder: Path) -> None:
    (folder / "prefect.yaml").write_text("{")
    job.warm()
    assert job.refusal(asked()) is None
    with pytest.raises(ConfigurationError, match=r"prefect\.yaml"):
        job.refusal(asked(env={"REVIEWED": "yes"}))
