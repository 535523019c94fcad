"""Workflows: started with and without a draft, a step completed, stopped, and tasks put into inboxes."""

from __future__ import annotations

from dataclasses import dataclass

from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.repositories.otcs_workflows import Step
from tests.conformance.repositories.writes.bench import AWAY, FAULTS, HUNG_UP, Bench, Write


@dataclass(frozen=True, slots=True)
class Document:
    """A document, and the newest process before anything was done with it."""

    id: int
    newest: int


def document(bench: Bench) -> Document:
    return Document(bench.document(), max((one.id for one in bench.session.workflows.look()), default=0))


def started(bench: Bench, given: Document) -> object:
    """The processes that have a document, with how far they have come: doubles show."""
    workflows = bench.session.workflows
    found = [workflows.status(process.id) for process in workflows.look() if process.id > given.newest]
    about = [one for one in found if given.id in {on.document for on in workflows.attached(one)}]
    return [(one.status, one.completed, [step.name for step in one.current]) for one in about]


@dataclass(frozen=True, slots=True)
class Running:
    document: Document
    step: Step


def running(bench: Bench) -> Running:
    about = document(bench)
    process = bench.session.workflows.start("Process Library/Quality Review", [about.id])
    return Running(about, bench.session.workflows.status(process).current[0])


def how_far(bench: Bench, given: Running) -> object:
    return started(bench, given.document)


@dataclass(frozen=True, slots=True)
class Task:
    node: int
    subject: str


def task(bench: Bench) -> Task:
    return Task(bench.document(), bench.unique("Look at it"))


def assigned(bench: Bench, given: Task) -> object:
    """Read past the interface: nobody sees others' inboxes."""
    query = "SELECT COUNT(*) FROM xgov_assignment WHERE subject = ?"
    return bench.sandbox._store.db.execute(query, (given.subject,)).fetchone()[0]


def start(session: ExtendedEcmSession, given: Document) -> None:
    session.workflows.start("Process Library/Quality Review", [given.id])


def start_by_draft(session: ExtendedEcmSession, given: Document) -> None:
    session.workflows.start("Process Library/Document Approval", [given.id])


MAYBE = dict.fromkeys((HUNG_UP, AWAY), "a server that may still be starting a process cannot be asked whether it will")
INBOX = dict.fromkeys((HUNG_UP, AWAY), "whether a task is still being put into an inbox cannot be asked")
UNSEEN = "nobody sees others' inboxes"

WRITES = (
    Write("start a workflow", document, start, started, MAYBE),
    Write(
        "start a workflow by a draft",
        document,
        start_by_draft,
        started,
        MAYBE
        | dict.fromkeys(("slow, and goes on", "comes late, after one look"), "the server refuses it to nobody who listens"),
    ),
    Write("complete a step", running, lambda s, given: s.workflows.complete(given.step, "Accept", "fine"), how_far),
    Write("stop a workflow", running, lambda s, given: s.workflows.set(given.step.process, "stop"), how_far),
    Write(
        "assign a node to ourselves",
        task,
        lambda s, given: s.workflows.assign(given.node, given.subject, "please", ["Admin"]),
        assigned,
        INBOX,
    ),
    Write(
        "assign a node to others",
        task,
        lambda s, given: s.workflows.assign(given.node, given.subject, "please", ["DefaultGroup"]),
        assigned,
        dict.fromkeys((fault for fault in FAULTS if not fault.startswith("401")), UNSEEN),
    ),
)
