"""Prefect's schedules, on which intakes and the sweep rest: whatever versions are installed, one must make runs."""

from __future__ import annotations

import time
from datetime import timedelta

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.schedules import IntervalSchedule

from flows.reconcile import reconcile
from tests.servers.prefect import PrefectServer, client_of


def test_a_schedule_makes_runs(prefect_server: PrefectServer) -> None:
    with client_of(prefect_server), get_client(sync_client=True) as client:
        every_minute = DeploymentScheduleCreate(schedule=IntervalSchedule(interval=timedelta(minutes=1)), active=True)
        made = client.create_deployment(client.create_flow(reconcile), "every-minute", schedules=[every_minute])
        try:
            runs = _scheduled(client, DeploymentFilter(id=DeploymentFilterId(any_=[made])))
        finally:
            client.delete_deployment(made)
    # On a busy machine one may be late already.
    assert all(run.auto_scheduled and run.state_type is StateType.SCHEDULED for run in runs)


def _scheduled(client: SyncPrefectClient, deployment: DeploymentFilter) -> list[FlowRun]:
    until = time.monotonic() + 300
    while not (runs := client.read_flow_runs(deployment_filter=deployment)):
        assert time.monotonic() < until, "no run was made for the schedule: see the Prefect server's log"
        time.sleep(0.5)
    return runs
