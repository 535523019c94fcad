"""Workflows of one Content Server: maps, processes with the documents attached to them, assignments, steps.

What the interface does not tell, and how it is known here:

- Which map a process was made from: its title is the map's name (with the number of a draft, if it was ours), and it has no step
  that the map has not. One for which somebody chose another title counts for nothing.
- Which way it went: by the names of its completed steps. A map whose outcome matters has a step for each ("Approved", "Rejected").
- Which documents it is about: shortcuts in its folder of attachments. When these were made tells which version was looked at.
- What stood there when it was let through (``stood_there``). No date of completion is told, but when each completed step began
  (``task_start_date``); the step that comes after an approval begins with it. Steps are dated by the server's own clock, without a
  zone, and nodes in UTC. So of attachments only how long something took is compared, each by one clock: from the process's
  beginning to the step, and from the making of its folder, which comes first, to the attachment. That is no bound for a next version,
  because a folder is made with a draft, which may wait for days until it begins: it must have come so long after the step that it came
  later in any zone. What was attached later or followed sooner counts for nothing, and neither does anything where a date is not told.

A process that was asked for and never answered is looked for among ours. A draft can be initiated only once; without a draft, what is
new since we asked and has our documents is ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from blocks.errors import OutcomeUnknown, RepositoryError, RepositoryUnreachable
from blocks.repositories.once import Once
from blocks.repositories.otcs_names import Names, Unfit, one_result
from blocks.repositories.otcs_wire import AnswerLost, Json, Refusal, Wire, moment, pauses, settling

RUNNING, SUSPENDED, STOPPED, COMPLETED = "ontime", "suspended", "stopped", "completed"
LATE = "workflowlate"
_ANY_ZONE = timedelta(days=2)
_PUT_FORWARD = timedelta(hours=1)
"""By so much a clock without a zone may count too long: it is put forward once a year."""
_WESTMOST = timedelta(hours=12)
"""No clock of any zone, summer or winter, is farther behind UTC."""
_AFTER = {"suspend": (SUSPENDED,), "resume": (RUNNING, LATE), "stop": (STOPPED,), "archive": ("archived",)}


@dataclass(frozen=True, slots=True)
class Definition:
    """A workflow map: its steps in order, and the attributes of its form (name -> key)."""

    id: int
    steps: tuple[str, ...]
    attributes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Step:
    process: int
    sub: int
    task: int
    name: str


@dataclass(frozen=True, slots=True)
class Process:
    """A running or ended workflow."""

    id: int
    title: str
    status: str
    completed: tuple[str, ...] = ()
    """Names of the steps that are done, in order."""
    current: tuple[Step, ...] = ()
    attachments: int | None = None
    """The folder of what is attached."""
    initiated: str = ""
    """When it was started, by the server's own clock: no zone is told."""
    began: Mapping[str, str] = field(default_factory=dict)
    """When each completed step began, by that same clock; the last time, where the map came back to it. Only what is told."""

    @property
    def ended(self) -> bool:
        return self.status not in (RUNNING, LATE, SUSPENDED)

    def until(self, step: str) -> timedelta | None:
        """How long it took until a completed step began; None where that is not told."""
        start, end = moment(self.initiated), moment(self.began.get(step))
        return None if start is None or end is None else end - start


@dataclass(frozen=True, slots=True)
class Attached:
    """A document of a process."""

    document: int
    at: datetime
    """When it was attached."""
    changed: datetime
    """When its attachment was last changed, as by being moved there; else when it was attached."""


def stood_there(one: Attached, made: datetime, process: Process, step: str, following: datetime | None) -> bool:
    """True if a document was certainly attached before a step began, and its next version (``following``) was not there yet.

    ``made``: when the process's folder of attachments was. It comes before the process: so whatever took less time from there on than
    the step from the process's beginning was there before the step. Dates are whole seconds; what is equal is not less.
    """
    took, began = process.until(step), moment(process.began.get(step))
    if took is None or began is None or one.at < made:
        return False
    if following is not None and following <= began + _WESTMOST:
        return False
    return one.changed - made < (took if took < _PUT_FORWARD else took - _PUT_FORWARD)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Something in our account's inbox; ``step`` for what a workflow waits for."""

    name: str
    step: Step | None


class Workflows:
    """The workflows of one signed-in account."""

    def __init__(self, wire: Wire, names: Names, connections: int) -> None:
        self._wire, self._names, self._connections = wire, names, connections
        self._steps = Once[str, frozenset[str]]()
        """Of maps, by name."""
        self._over = Once[int, tuple[Process, list[Attached]]]()
        """Completed processes: what is attached to them later counts for nothing."""
        self._folders = Once[int, datetime | None]()

    # ------------------------------------------------------------------------------------------------- maps

    def definition(self, name: str) -> Definition:
        """What a map consists of. ``name`` is its path below the Enterprise volume, or a plain name. Raises ``Unfit``."""
        id = self._names.workflow_map(name)
        what = f"definition of workflow {name!r}"
        told = one_result(self._wire.ask(what, "GET", f"v2/workflows/{id}/definition"), what).get("definition")
        if not isinstance(told, dict):
            raise RepositoryError(f"{what} at {self._wire.url}: the answer holds no definition")
        attributes = {}
        for package in told.get("data_packages") or []:
            for key, one in ((package.get("data") or {}).get("definitions") or {}).items():
                if one.get("type_name") != "Assoc":
                    attributes[str(one.get("name"))] = str(key)
        steps = tuple(str(task.get("title") or task.get("name") or "") for task in told.get("tasks") or [])
        return Definition(id, steps, attributes)

    def offered(self, document: int, parent: int) -> dict[str, int]:
        """The maps that can be started with a document: name -> id."""
        what = f"workflows for node {document}"
        query: dict[str, str | int | list[str]] = {"doc_id": document, "parent_id": parent}
        told = one_result(self._wire.ask(what, "GET", "v2/docworkflows", query=query), what)
        return {str(one["Name"]): int(one["DataID"]) for one in told.get("data") or []}

    # ------------------------------------------------------------------------------------------------- beginning one

    def start(self, name: str, documents: Sequence[int], *, since: datetime | None = None) -> int:
        """Start a process with these documents; its id. Raises ``Unfit`` where the server will not, and ``OutcomeUnknown``.

        A lost answer is settled by what is new. ``since``: whatever these documents were attached to after that moment will do; so
        nobody needs to know what was there before, which is one call for each process more.
        """
        map_id, title = self._names.workflow_map(name), name.rpartition("/")[2]
        before = {process.id for process in self.look("Initiated")} if since is None else set()
        what = f"workflow {title!r} with nodes {', '.join(map(str, documents))}"
        body: Json = {"workflow_id": map_id, "doc_ids": ",".join(map(str, documents))}
        for _ in pauses():
            try:
                answer = self._wire.write(what, "POST", "v2/draftprocesses/startwf", body=body)
            except AnswerLost as lost:
                with settling(what):
                    found = self._new(title, documents, before, since, lost, what)
                if found is not None:
                    return found
                continue
            except Refusal:
                return self._by_draft(title, body, what)  # as documented: its start step is for somebody to fill in
            return self._process_id(answer, what)
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that it was started; it is safe to try again")

    def _new(
        self, title: str, documents: Sequence[int], before: set[int], since: datetime | None, lost: AnswerLost, what: str
    ) -> int | None:
        """The process whose answer was lost; None if it certainly was not started."""
        for _ in pauses():
            fresh = [one for one in self._begun(title, since, "Initiated") if one.id not in before]
            ours = []
            for one in fresh:
                held = self.attached(self.status(one.id))
                if {on.document for on in held} == set(documents) and all(since is None or on.at >= since for on in held):
                    ours.append(one.id)
            if len(ours) == 1:
                return ours[0]
            if ours:
                break
            if not lost.running:
                return None
        raise OutcomeUnknown(
            f"{what} at {self._wire.url}: the answer was lost and looking does not tell whether it was started; look at the workflows, "
            "then start it again or let the one that runs go on"
        ) from lost

    def _by_draft(self, title: str, body: Json, what: str) -> int:
        """Through a draft, whose number makes the title unlike any other: so the process can be found again."""
        draft, lost, initiated = None, False, False
        for _ in pauses():
            try:
                if draft is None:
                    # One whose answer was lost is nobody's: it has not begun, and nobody sees it.
                    made = self._wire.write(
                        f"draft of {what}", "POST", "v2/draftprocesses", body=body | {"AttachDocuments": "true"}
                    )
                    draft = int(one_result(made, what)["draftprocess_id"])
                path, name = f"v2/draftprocesses/{draft}", f"{title} ({draft})"
                form: Json = {"action": "formUpdate", "values": {"WorkflowForm_Title": name}}
                with settling(what) if initiated else nullcontext():
                    found = self._titled(name) if lost else None
                if found is not None:
                    return found
                self._wire.write(f"title of {what}", "PUT", path, body=form)
                initiated = True
                return self._process_id(self._wire.write(what, "PUT", path, body={"action": "Initiate"}), what)
            except AnswerLost:
                lost = True
            except Refusal as refusal:
                with settling(what) if initiated else nullcontext():
                    found = None if draft is None else self._titled(name)
                if found is not None:
                    return found
                raise Unfit("workflow-refused", refusal.text) from refusal
        if initiated:  # the answer to the last one was lost too
            with settling(what):
                found = self._titled(name)
            if found is not None:
                return found
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that it was started; it is safe to try again")

    def _titled(self, title: str) -> int | None:
        """The process of ours with this very title."""
        return next((one.id for one in self.look("Initiated") if one.title == title), None)

    def _process_id(self, answer: Json, what: str) -> int:
        id = one_result(answer, what).get("process_id")
        if not isinstance(id, int):
            raise OutcomeUnknown(
                f"{what} at {self._wire.url}: said to be started, and the answer holds no id; look at the workflows"
            )
        return id

    # ------------------------------------------------------------------------------------------------- looking

    def look(self, kind: str = "Both", *states: str) -> Iterator[Process]:
        """Processes that this account started (``Initiated``), manages (``Managed``) or either; in these states, or in all."""
        query: dict[str, str | int | list[str]] = {"kind": kind, "sort": "date_initiated desc"}
        if states:
            query["wstatus"] = list(states)
        results = self._wire.ask("workflows", "GET", "v2/workflows/status", query=query).get("results")
        if not isinstance(results, list):
            raise RepositoryError(f"workflows at {self._wire.url}: the answer holds no list of results")
        for entry in results:
            told = (entry.get("data") or {}).get("wfstatus") or {}
            yield Process(
                int(told["process_id"]),
                str(told.get("wf_name", "")),
                str(told.get("status_key", "")),
                initiated=str(told.get("date_initiated", "")),
            )

    def status(self, process: int) -> Process:
        """How far a process has come."""
        what = f"workflow process {process}"
        told = one_result(self._wire.ask(what, "GET", f"v2/workflows/status/processes/{process}"), what)
        details, steps = told.get("wf_details") or {}, told.get("step_list") or {}
        folder = (told.get("attachments") or {}).get("attachment_folder_id")
        completed = [
            (str(one.get("task_name", "")), str(one.get("task_start_date") or "")) for one in steps.get("completed") or []
        ]
        began: dict[str, str] = {}
        for name, at in completed:  # dates of one clock and one form: as texts they are in order
            began[name] = max(at, began.get(name, ""))
        return Process(
            process,
            str(details.get("wf_name", "")),
            str(details.get("status", "")),
            tuple(name for name, _ in completed),
            tuple(map(_step, steps.get("current") or [])),
            folder if isinstance(folder, int) else None,
            str(details.get("date_initiated") or ""),
            began,
        )

    def attached(self, process: Process) -> list[Attached]:
        """The documents of a process."""
        if process.attachments is None:
            return []
        found = []
        for entry in self._names.children(process.attachments, fields="properties"):
            told = entry["data"]["properties"]
            at = moment(str(told["create_date"])) or datetime.max.replace(tzinfo=UTC)
            changed = max(at, moment(told.get("modify_date")) or at)
            found.append(Attached(int(told.get("original_id") or told["id"]), at, changed))
        return found

    def folder_made(self, process: Process) -> datetime | None:
        """When a process's folder of attachments was made; None where that is not told."""

        def find() -> datetime | None:
            folder = None if process.attachments is None else self._names.node(process.attachments)
            return None if folder is None else moment(folder.properties.get("create_date"))

        return self._folders.get(process.id, find)

    def of(self, name: str, since: datetime, *states: str) -> list[tuple[Process, list[Attached]]]:
        """The processes of a map that were begun after a moment, in these states or in all, each with its documents.

        Two calls for each, and one for all. Raises ``Unfit`` where there is no such map.
        """
        steps = self._steps.get(name, lambda: frozenset(self.definition(name).steps))
        with ThreadPoolExecutor(self._connections, thread_name_prefix="workflows") as pool:
            found = list(pool.map(self._whole, self._begun(name.rpartition("/")[2], since, "Both", *states)))
        return [
            (told, attached)
            for told, attached in found
            if steps.issuperset((*told.completed, *(step.name for step in told.current)))
        ]

    def about(self, document: int, name: str, since: datetime, *states: str) -> list[tuple[Process, datetime]]:
        """The processes of a map that a document was attached to after a moment, and when; newest first.

        All, or those in these states. Raises ``Unfit`` where there is no such map.
        """
        found = [
            (told, one.at)
            for told, attached in self.of(name, since, *states)
            for one in attached
            if one.document == document and one.at >= since
        ]
        return sorted(found, key=lambda pair: (pair[1], pair[0].id), reverse=True)

    def _begun(self, title: str, since: datetime | None, kind: str, *states: str) -> Iterator[Process]:
        """Processes that are called what a map's are, without those that began long before. Each of them will cost calls."""
        # Dates there have no zone, so a day or two is close.
        earliest = "" if since is None else f"{since.astimezone(UTC) - _ANY_ZONE:%Y-%m-%dT%H:%M:%S}"
        return (one for one in self.look(kind, *states) if _entitled(one, title) and one.initiated >= earliest)

    def _whole(self, process: Process) -> tuple[Process, list[Attached]]:
        def ask() -> tuple[Process, list[Attached]]:
            told = self.status(process.id)
            return told, self.attached(told)

        return self._over.get(process.id, ask) if process.status == COMPLETED else ask()

    # ------------------------------------------------------------------------------------------------- steps

    def assignments(self) -> list[Assignment]:
        """What waits in our account's inbox."""
        found, page = [], 1
        while True:
            answer = self._wire.ask("assignments", "GET", "v2/members/assignments", query={"limit": 100, "page": page})
            results = answer.get("results") or []
            for entry in results:
                told = (entry.get("data") or {}).get("assignments") or {}
                name, process = str(told.get("name", "")), told.get("workflow_id")
                if process is None:
                    found.append(Assignment(name, None))
                    continue
                sub, task = told.get("workflow_subworkflow_id") or process, told.get("workflow_subworkflow_task_id") or 1
                found.append(Assignment(name, Step(int(process), int(sub), int(task), name)))
            total = ((answer.get("collection") or {}).get("paging") or {}).get("page_total", page)
            if not results or page >= total:
                return found
            page += 1

    def actions(self, step: Step) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What can be done with an open step: the server's own actions, and those of its map."""
        what = f"step {step.task} of process {step.process}"
        query: dict[str, str | int | list[str]] = {"process_id": step.process, "subprocess_id": step.sub, "task_id": step.task}
        data = self._wire.ask(what, "GET", "v1/forms/processes/tasks/update", query=query).get("data") or {}
        own, map_ones = (tuple(str(one["key"]) for one in data.get(key) or []) for key in ("actions", "custom_actions"))
        return own, map_ones

    def complete(self, step: Step, action: str, comment: str = "") -> None:
        """Send a step on. ``action`` is one of :meth:`actions`; the interface wants to know which kind, and never both."""
        what = f"step {step.task} of process {step.process}"
        own, map_ones = self.actions(step)
        if action not in (*own, *map_ones):
            raise Unfit("unknown-action", f"{what}: {action!r} is none of {', '.join((*own, *map_ones)) or 'nothing'}")
        body: Json = {"custom_action" if action in map_ones else "action": action}
        if comment:
            body["comment"] = comment
        path = f"v2/processes/{step.process}/subprocesses/{step.sub}/tasks/{step.task}"
        before = len(self.status(step.process).completed)

        def done() -> bool:
            now = self.status(step.process)
            # A map may come back to the same step: then more is completed than before.
            return len(now.completed) > before or all(one.task != step.task for one in now.current)

        lost = False
        for _ in pauses():
            try:
                self._wire.write(what, "PUT", path, body=body)
            except AnswerLost:
                lost = True
                if done():
                    return
                continue
            except Refusal as refusal:
                if lost and done():
                    return  # by the call whose answer was lost
                raise Unfit("step-refused", refusal.text) from refusal
            return
        raise RepositoryUnreachable(
            f"{what} at {self._wire.url}: no answer tells that it was completed; it is safe to try again"
        )

    def set(self, process: int, order: str) -> None:
        """``suspend``, ``resume``, ``stop`` or ``archive`` a process; nothing happens to one that is so already."""
        what = f"{order} of process {process}"
        lost = False
        for _ in pauses():
            if self.status(process).status in _AFTER[order]:
                return
            try:
                self._wire.write(what, "PUT", f"v2/processes/{process}/status", body={"status": order})
            except AnswerLost:
                lost = True
                continue
            except Refusal as refusal:
                if lost:  # by the call before, whose answer was lost, and which came to its end only now?
                    lost = False
                    continue
                raise Unfit("process-refused", refusal.text) from refusal
            return
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that it was done; it is safe to try again")

    def assign(self, node: int, subject: str, instruction: str, who: Sequence[str]) -> None:
        """Put a task about a node into people's inboxes.

        After a lost answer we look into our own inbox, if it is one of them. Nobody sees others': then it is ``OutcomeUnknown``.
        """
        assignees = [self._names.member(one) for one in who]
        told = {"subject": subject, "instruction": instruction, "assignees": assignees}
        what = f"assignment of node {node}"
        ours = self._names.myself() in assignees
        before = self._tasks(subject) if ours else 0
        for _ in pauses():
            try:
                self._wire.write(what, "POST", f"v2/nodes/{node}/xgovassignments", fields={"add_assignment": json.dumps(told)})
            except AnswerLost as lost:
                with settling(what):
                    there = ours and self._assigned(subject, before, lost)
                if there:
                    return
                if ours and not lost.running:
                    continue
                raise OutcomeUnknown(
                    f"{what} at {self._wire.url}: the answer was lost, and nobody but {', '.join(who)} can tell whether it is there; ask "
                    "them"
                ) from lost
            return
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that it was made; it is safe to try again")

    def _assigned(self, subject: str, before: int, lost: AnswerLost) -> bool:
        """True if a task has come into our inbox. A server that may still be at it is given a while."""
        for _ in pauses():
            if self._tasks(subject) > before:
                return True
            if not lost.running:
                break
        return False

    def _tasks(self, subject: str) -> int:
        return sum(one.step is None and one.name == subject for one in self.assignments())


def _entitled(process: Process, title: str) -> bool:
    """True if a process is called what a map's processes are: one map's name may be the beginning of another's."""
    return re.fullmatch(re.escape(title) + r"( \(\d+\))?", process.title) is not None


def _step(told: Any) -> Step:
    process = int(told["process_id"])
    return Step(process, int(told.get("subprocess_id") or process), int(told["task_id"]), str(told.get("task_name", "")))
