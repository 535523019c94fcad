"""A checkout of ours with one more file of flows in it, :mod:`tests.worker.probe`, and a worker that runs in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate

from deployments.worker.worker import CountersignWorker
from tests.servers import running
from tests.servers.prefect import PrefectServer
from tests.world import ROOT


def checkout(folder: Path) -> Path:
    """Make it: everything of ours by links, the flows with the probe among them."""
    (folder / "flows").mkdir(parents=True)
    for package in ("blocks", "tasks", "deployments", "prefect.yaml"):
        (folder / package).symlink_to(ROOT / package)
    for file in (ROOT / "flows").glob("*.py"):
        (folder / "flows" / file.name).symlink_to(file)
    shutil.copy(Path(__file__).with_name("probe.py"), folder / "flows/probe.py")
    return folder


def deploy(client: SyncPrefectClient, flow: str, pool: str, folder: Path, **more: Any) -> UUID:
    """A deployment of one of the probe's flows, as 'countersign deploy' makes them."""
    steps = [{"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}]
    ours: dict[str, Any] = {"work_pool_name": pool, "entrypoint": f"flows.probe.{flow}", "pull_steps": steps, **more}
    return client.create_deployment(client.create_flow_from_name(flow), f"{flow}-{pool}", **ours)


def make_pool(client: SyncPrefectClient, name: str, kind: str = CountersignWorker.type) -> None:
    template = CountersignWorker.get_default_base_job_template()
    client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))


@contextmanager
def worker(
    server: PrefectServer, pool: str, folder: Path, *, kind: str = CountersignWorker.type, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that runs in the folder; its output is in ``worker-<pool>.log`` there."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", kind]
    told = {"PREFECT_WORKER_QUERY_SECONDS": "1", "TMPDIR": str(folder), "COUNTERSIGN_HOME": str(folder / "home"), **environment}
    options: dict[str, Any] = {"cwd": folder, "env": server.environment(**told), "start_new_session": True}
    with running(command, log=folder / f"worker-{pool}.log", ready=lambda: True, **options) as process:
        yield process
