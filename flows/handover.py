"""Handover: what a line-of-business system has made -> repository -> the system is told; what is kept -> the systems it is for."""

from __future__ import annotations

from datetime import timedelta

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import wait
from prefect.task_runners import ThreadPoolTaskRunner

from tasks.connections import hang_up
from tasks.hand_over import find_offers, hand_over, load_handover, report_handover
from tasks.onward import Row, find_sources, go_onward, report_onward
from tasks.provision import find_created, load_workspaces, provision, report_workspaces
from tasks.report import run_name


@flow(name="handover", flow_run_name="handover {system}/{stream}", validate_parameters=True)
def handover(system: str, stream: str, document: str = "", patience_seconds: float = 60) -> State:
    """Keep documents that a system has made, each exactly once by its key, and tell the system where.

    Run it again at any moment: it goes on where it stopped, and whoever asks for a document twice is told the same id.

    Args:
        system: Name of the system's file in the folder ``systems`` of the profiles.
        stream: One of its handovers.
        document: Key of the one document that is asked for; left out: all that the system offers, and what is not through yet.
        patience_seconds: Longest wait for a system that says "later"; the rest waits for the next run.
    """
    agreed = load_handover(system, stream)
    rows = []
    try:
        for documents in find_offers(agreed, document):
            rows += hand_over(agreed, documents, timedelta(seconds=patience_seconds))
    finally:
        hang_up()
    return report_handover(agreed, rows)


@flow(name="workspaces", flow_run_name="workspaces {system}/{stream}", validate_parameters=True)
def workspaces(system: str, stream: str, reference: str = "", patience_seconds: float = 60) -> State:
    """Make one workspace for each project, deal or case of a system, and tell the system when it is open and when people close it.

    Run it again at any moment: it goes on where it stopped, with the same workspace.

    Args:
        system: Name of the system's file in the folder ``systems`` of the profiles.
        stream: One of its workspaces.
        reference: The one project, deal or case that is asked for; left out: all that the system offers, and all that are open.
        patience_seconds: Longest wait for a system that says "later"; the rest waits for the next run.
    """
    agreed = load_workspaces(system, stream)
    rows = []
    try:
        for references in find_created(agreed, reference):
            rows += provision(agreed, references, timedelta(seconds=patience_seconds), asked=bool(reference))
    finally:
        hang_up()
    return report_workspaces(agreed, rows)


@flow(
    name="onward",
    flow_run_name=run_name("onward", "partner", "watch", "stream"),
    task_runner=ThreadPoolTaskRunner(max_workers=8),  # type: ignore[arg-type]
    validate_parameters=True,
)
def onward(partner: str = "", stream: str = "", watch: str = "", patience_seconds: float = 45) -> State:
    """Give systems the documents that are for them: what intakes have filed, and what people have put into watched folders.

    Each goes to each of its systems on its own, exactly once. Run it again at any moment: it goes on where it stopped.

    Args:
        partner: Name of a partner's file in the profiles folder, for one of its streams; left out, with all: every stream and watch
            that says where its documents go.
        stream: One of the partner's inbound streams.
        watch: Name of a file in the folder ``watches`` of the profiles.
        patience_seconds: Longest wait for a system that says "later"; the rest waits for the next run.
    """
    sources, wrong = find_sources(partner, stream, watch)
    rows, broken = list[Row](), list[str]()
    try:
        going = [go_onward.submit(source, timedelta(seconds=patience_seconds)) for source in sources]
        wait(going)
    finally:
        hang_up()
    for source, each in zip(sources, going, strict=True):
        came = each.result(raise_on_failure=False)
        if isinstance(came, BaseException):
            broken.append(f"{source.key}: {came}")
        else:
            rows += came
    return report_onward(rows, wrong, broken)
