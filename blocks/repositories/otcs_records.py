"""Records management at one Content Server: records and their details, retention schedules (RSIs), and legal holds.

Facts, from OpenText's interface description and clients:

- A record's details are changed with the token that came with them (``rm_metadataToken``): who has seen an older state is refused
  with ``EditConflict``, never overwritten by us.
- Calls that change holds must not run in parallel: the servers reject that. All sessions of this process take turns, per server;
  where another process is in the way, the call is made again once looking has shown that it was not carried out.
- A hold on a folder holds what is in it.

Every change that lost its answer is settled by looking.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import islice
from threading import Lock
from typing import Any
from urllib.parse import quote

from blocks.errors import DocumentMissing, EditConflict, OutcomeUnknown, RepositoryError, RepositoryUnreachable
from blocks.repositories.otcs_names import PAGE, Names, Unfit, last_page
from blocks.repositories.otcs_wire import AnswerLost, Fields, Json, NameTaken, Refusal, Wire, moment, pauses, settling
from blocks.repositories.routines import Routine, finished

MANY = 100
"""Items in one call that changes several."""
NOT_HELD = "does not have this hold"

_turns: defaultdict[str, Lock] = defaultdict(Lock)
"""By server: who may change holds there just now."""


@dataclass(frozen=True, slots=True)
class Record:
    """A node's classification of records management, as it was seen."""

    node: int
    class_id: int
    class_name: str
    token: str
    """Proves, when something is changed, that this state was seen."""
    schedule: str | None
    record_date: date | None
    status: str
    official: bool
    details: Mapping[str, Any] = field(default_factory=dict)
    """All of it, in the server's words."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a schedule: so long after a date, something is done."""

    id: int
    name: str
    years: int = 0
    months: int = 0
    days: int = 0
    action: str = "0"
    approved: bool = False


@dataclass(frozen=True, slots=True)
class Schedule:
    """A retention schedule (RSI)."""

    id: int
    name: str
    title: str = ""
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True, slots=True)
class LegalHold:
    """A hold as the server keeps it; ``inherited`` where a node is under it because of what it lies in."""

    id: int
    name: str
    kind: str = ""
    comment: str = ""
    applied: datetime | None = None
    inherited: bool = False


class Records:
    """What records management offers, at one server, for one session."""

    def __init__(self, wire: Wire, names: Names) -> None:
        self._wire, self._names, self._turn = wire, names, _turns[wire.url]

    # ------------------------------------------------------------------------------------------------- records

    def get(self, node: int) -> Record | None:
        """A node's record; None where it is not one."""
        what = f"record of node {node}"
        answer = self._wire.ask(what, "GET", f"v1/nodes/{node}/rmclassifications")
        data = answer.get("data")
        if not isinstance(data, list):
            raise RepositoryError(f"{what} at {self._wire.url}: the answer holds no list of records")
        held = data[0] if data and isinstance(data[0], dict) else {}
        # The interface's examples have both names for it.
        class_id = held.get("rmclassification_id") or held.get("id")
        if not isinstance(class_id, int):
            return None
        return Record(
            node,
            class_id,
            str(held.get("name") or class_id),
            str(answer.get("rm_metadataToken") or ""),
            str(held["rsi"]) if held.get("rsi") else None,
            _day(held.get("record_date")),
            str(held.get("file_status") or ""),
            held.get("official") in (True, 1, "true", "True"),
            held,
        )

    def classify(
        self, node: int, class_id: int, *, record_date: date | None = None, schedule: str | None = None, fresh: bool = False
    ) -> None:
        """Make a node a record of that class. Repeating this changes nothing. ``fresh``: it certainly is none yet.

        What is given besides the class is read back: a server that takes the class and not the date is a refusal.
        """
        what, path = f"records class of node {node}", f"v1/nodes/{node}/rmclassifications"
        more: Json = {} if record_date is None else {"record_date": record_date.isoformat()}
        more |= {} if schedule is None else {"rsi": schedule}
        current = None if fresh else self.get(node)
        for _ in pauses():
            if current is not None and _is(current, class_id, record_date, schedule):
                return
            body: Json = {"class_id": class_id, "apply_to_sub_items": False, **more}
            if current is not None and current.token:
                body["rm_metadataToken"] = current.token
            try:
                self._wire.write(what, "POST", path, body=body)
            except AnswerLost:
                current = self.get(node)
                continue
            except (Refusal, EditConflict):
                # A class inherited from the folder can be replaced only with the token of what is there.
                seen = current
                current = self.get(node)
                if current is None or (not _is(current, class_id, record_date, schedule) and (seen or not current.token)):
                    raise
                continue
            if more:
                self._read_back(what, node, class_id, record_date, schedule)
            return
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: could not be set; filing it again completes it")

    def _read_back(self, what: str, node: int, class_id: int, record_date: date | None, schedule: str | None) -> None:
        told = self.get(node)
        if told is None or not _is(told, class_id, record_date, schedule):
            has = "none" if told is None else f"{told.class_name}, {told.record_date}, {told.schedule}"
            text = f"the record date or schedule that was asked for was not taken (asked: {record_date}, {schedule}; it has: {has})"
            raise Refusal(f"{what} at {self._wire.url}: {text}", text)

    def declare(self, node: int, records_class: str, *, record_date: date | None = None, schedule: str | None = None) -> Record:
        """Make a node a record, the class by its name or path in the file plan. Raises ``Unfit`` for one that is not there."""
        self.classify(node, self._names.records_class(records_class), record_date=record_date, schedule=schedule)
        return self._must_be(node)

    def change(self, seen: Record, **details: str | bool) -> Record:
        """Change details (``rsi``, ``file_status``, ``essential``, ``storage``, ``official``) of a record that was seen.

        Raises ``EditConflict`` if somebody changed it since.
        """
        what = f"record of node {seen.node}"

        def done() -> bool:
            now = self._must_be(seen.node)
            if now.token == seen.token:
                return False
            if all(_text(now.details.get(name)) == _text(value) for name, value in details.items()):
                return True
            raise EditConflict(f"{what} at {self._wire.url}: somebody changed it in between, it is safe to try again")

        self._until(
            what,
            "PUT",
            f"v1/nodes/{seen.node}/rmclassifications",
            done,
            body={"rm_metadataToken": seen.token, **details},
        )
        return self._must_be(seen.node)

    def undeclare(self, seen: Record) -> None:
        """Let a node be no record any more. Raises ``EditConflict`` if somebody changed it since it was seen."""
        what = f"record of node {seen.node}"

        def done() -> bool:
            now = self.get(seen.node)
            if now is not None and now.token != seen.token:
                raise EditConflict(f"{what} at {self._wire.url}: somebody changed it in between; it is still a record")
            return now is None

        path = f"v1/nodes/{seen.node}/rmclassifications/{seen.class_id}?rm_metadataToken={quote(seen.token)}"
        self._until(what, "DELETE", path, done)

    def assign_schedule(self, record: Record, schedule: str) -> None:
        """Give a record its retention schedule, by name."""
        path = f"v1/nodes/{record.node}/rmclassifications/{record.class_id}/rsis"
        what = f"schedule of node {record.node}"
        self._until(what, "POST", path, lambda: self._must_be(record.node).schedule == schedule, fields={"rsi": schedule})

    def finalize(self, nodes: Sequence[int]) -> None:
        """Mark records as final: nothing about them changes any more. Doing it twice changes nothing."""
        for some in _portions(nodes):
            what = f"finalizing {len(some)} records"
            self._until(what, "PUT", "v1/rmclassifications/finalizerecords", lambda: False, fields={"ids": some})

    def _must_be(self, node: int) -> Record:
        found = self.get(node)
        if found is None:
            raise DocumentMissing(f"record of node {node} at {self._wire.url}: it is none")
        return found

    # ------------------------------------------------------------------------------------------------- schedules

    def schedules(self) -> list[Schedule]:
        """All retention schedules with their stages."""
        what = "retention schedules"
        answer = self._wire.ask(what, "GET", "v2/rsis", query={"limit": 10_000})
        found: dict[int, Schedule] = {}
        for line in _listed(answer, what, "results", "data", "rsis"):
            known = found.get(line["RSIID"], Schedule(line["RSIID"], str(line.get("RSI", "")), str(line.get("Title") or "")))
            stages = known.stages if line.get("RSIScheduleID") is None else (*known.stages, _stage(line))
            found[known.id] = Schedule(known.id, known.name, known.title, stages)
        return list(found.values())

    def find_schedules(self, part: str) -> list[str]:
        """Names of schedules that have this in them."""
        what = f"retention schedules like {part!r}"
        answer = self._wire.ask(what, "POST", "v1/rsis", fields={"query": part})
        return [str(line.get("rsi", "")) for line in _listed(answer, what, "data", "fast_codes")]

    def create_schedule(self, name: str, *, title: str = "", description: str = "", status: str = "ACTIVE") -> int:
        """A new schedule, without stages yet. Raises ``NameTaken``."""
        what = f"retention schedule {name!r}"
        about = {
            "name": name,
            "title": title,
            "description": description,
            "subject": "",
            "status": status,
            "dispcontrol": "false",
        }
        about["statusDate"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        asked = False
        for _ in pauses():
            try:
                return _made(self._wire.write(what, "POST", "v2/rsischedules", fields=about), what, "results", "id")
            except AnswerLost:
                asked = True
            except NameTaken:
                if not asked:
                    raise
            # Its name is unique: if it is there after we asked for it, nobody can tell it from ours, and it is as we wanted it.
            ours = next((one.id for one in self.schedules() if one.name.casefold() == name.casefold()), None)
            if ours is not None:
                return ours
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that it was made; it is safe to try again")

    def add_stage(self, schedule: int, stage: Stage, *, date_to_use: int = 95) -> int:
        """Add a stage to a schedule; ``date_to_use``: 91 created, 93 modified, 94 status, 95 record date. It is not approved yet."""
        what = f"stage {stage.name!r} of retention schedule {schedule}"
        before = {one.id for one in self._stages(schedule)}
        about: dict[str, str | int] = {
            "objectType": "LIV",
            "stage": stage.name,
            "eventType": 1,
            "dateToUse": date_to_use,
            "retentionYears": stage.years,
            "retentionMonths": stage.months,
            "retentionDays": stage.days,
            "actionCode": stage.action,
        }
        for _ in pauses():
            try:
                answer = self._wire.write(what, "POST", f"v2/rsischedules/{schedule}/stages", fields=about)
                return _made(answer, what, "results", "id")
            except AnswerLost as lost:
                # Nothing at the server keeps a stage from being added twice.
                with settling(what):
                    newer = [one for one in self._stages(schedule) if one.id not in before]
                if len(newer) == 1 and newer[0].name == stage.name:
                    return newer[0].id
                if newer or lost.running:
                    raise OutcomeUnknown(
                        f"{what} at {self._wire.url}: the answer was lost, and looking does not tell; look at the schedule"
                    ) from lost
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that it was added; it is safe to try again")

    def approve_stage(self, schedule: int, stage: int, approved: bool = True) -> None:
        """Approve a stage, or take that back."""
        what, word = f"approval of stage {stage}", "updateapproval" if approved else "removeapproval"

        def done() -> bool:
            return any(one.id == stage and one.approved is approved for one in self._stages(schedule))

        self._until(what, "PUT", f"v2/rsischedules/{schedule}/approve/{stage}", done, fields={"updateApproval": word})

    def _stages(self, schedule: int) -> tuple[Stage, ...]:
        return next((one.stages for one in self.schedules() if one.id == schedule), ())

    def codes(self) -> Mapping[str, Any]:
        """The codes that details of records may have, by kind."""
        what = "codes of records management"
        answer = self._wire.ask(what, "GET", "v2/recordsmanagement/rmcodes")
        found = _dug(answer, "results", "data")
        if not isinstance(found, dict):
            raise RepositoryError(f"{what} at {self._wire.url}: the answer holds none")
        return found

    # ------------------------------------------------------------------------------------------------- holds

    def holds(self) -> list[LegalHold]:
        """All holds that are in force."""
        what, page, seen, found = "list of holds", 1, set[int](), list[LegalHold]()
        while True:
            answer = self._wire.ask(what, "GET", "v2/holds", query={"limit": PAGE, "page": page})
            lines = _listed(answer, what, "results", "data", "holds")
            told = zip(_holds(what, lines, _hold), lines, strict=True)
            fresh = [(hold, line) for hold, line in told if hold.id not in seen]
            if not fresh:  # nothing tells how many pages there are, and a server may take no notice of the one that we ask for
                return found
            found += [hold for hold, line in fresh if line.get("ActiveHold") not in (0, False)]
            seen |= {hold.id for hold, _ in fresh}
            page += 1

    def hold(self, name: str) -> LegalHold | None:
        """The hold of that name, whatever its case."""
        return next((one for one in self.holds() if one.name.casefold() == name.casefold()), None)

    def create_hold(self, name: str, *, kind: str = "Legal", comment: str = "") -> int:
        """A new hold on nothing yet. Raises ``NameTaken``."""
        what = f"hold {name!r}"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
        about = {"type": kind, "name": name, "comment": comment, "date_applied": now}
        asked = False
        with self._turn:
            for _ in pauses():
                try:
                    return _made(self._wire.write(what, "POST", "v1/holds", fields=about), what, "holdID")
                except AnswerLost:
                    asked = True
                except NameTaken:
                    if not asked:
                        raise
                if (ours := self.hold(name)) is not None:  # its name is unique
                    return ours.id
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that it was made; it is safe to try again")

    def remove_hold(self, hold: int) -> None:
        """Remove a hold that nothing is under."""

        def done() -> bool:
            return all(one.id != hold for one in self.holds())

        with self._turn:
            self._until(f"hold {hold}", "DELETE", f"v2/hold?id={hold}", done)

    def of(self, node: int) -> list[LegalHold]:
        """The holds that a node is under, through what it lies in too."""
        return finished(self.asked_of(node))

    def asked_of(self, node: int) -> Routine[list[LegalHold]]:
        """``of``, with others beside it."""
        what = f"holds of node {node}"
        lines = _listed((yield from self._wire.asking(what, "GET", f"v1/nodes/{node}/holds")), what, "data")
        return _holds(what, [line for line in lines if line.get("active") not in (0, False)], _hold_of_node)

    def apply(self, node: int, hold: int) -> None:
        """Put a node under a hold. Doing it twice changes nothing."""
        with self._turn:
            if not self._is_under(node, hold):
                self._until(
                    f"hold {hold} on node {node}",
                    "POST",
                    f"v1/nodes/{node}/holds",
                    lambda: self._is_under(node, hold),
                    body={"hold_id": hold},
                )

    def lift(self, node: int, hold: int) -> None:
        """Take a node out of a hold that was applied to it. Nothing happens where it is not under it."""
        with self._turn:
            try:
                self._until(
                    f"hold {hold} on node {node}",
                    "DELETE",
                    f"v1/nodes/{node}/holds/{hold}",
                    lambda: not self._is_under(node, hold),
                )
            except Refusal as refusal:
                if NOT_HELD not in refusal.text.casefold():
                    raise

    def apply_many(self, nodes: Iterable[int], hold: int) -> None:
        """Put many nodes under a hold."""
        self._change_many("applyhold", nodes, hold, under=True)

    def lift_many(self, nodes: Iterable[int], hold: int) -> None:
        """Take many nodes out of a hold."""
        self._change_many("removehold", nodes, hold, under=False)

    def items(self, hold: int) -> Iterator[int]:
        """Ids of the nodes that a hold was applied to, as a stream."""
        what, page = f"items of hold {hold}", 1
        while True:
            answer = self._wire.ask(what, "GET", f"v2/holditems/{hold}/{page}", query={"limit": PAGE})
            lines = _listed(answer, what, "results")
            yield from (int(line["id"]) for line in lines)
            if not lines or page >= last_page(answer, page + 1):
                return
            page += 1

    def _change_many(self, verb: str, nodes: Iterable[int], hold: int, *, under: bool) -> None:
        for some in _portions(nodes):
            with self._turn:
                left = [node for node in some if self._is_under(node, hold) is not under]
                for _ in pauses():
                    if not left:
                        break
                    try:
                        what = f"{verb} {hold}, {len(left)} nodes"
                        self._wire.write(what, "POST", f"v1/rmclassifications/{verb}", fields={"ids": left, "holdID": hold})
                    except AnswerLost:
                        left = [node for node in left if self._is_under(node, hold) is not under]
                        continue
                    left = []
                if left:
                    raise RepositoryUnreachable(
                        f"{verb} {hold} at {self._wire.url}: no answer tells that it was done for {len(left)} nodes; try again"
                    )

    def _is_under(self, node: int, hold: int) -> bool:
        """True if the hold was applied to the node itself."""
        return any(one.id == hold and not one.inherited for one in self.of(node))

    # ------------------------------------------------------------------------------------------------- small things

    def _until(
        self,
        what: str,
        method: str,
        path: str,
        done: Callable[[], bool],
        *,
        body: Json | None = None,
        fields: Fields | None = None,
    ) -> None:
        """Make a change that may be made twice; where its answer is lost, look first whether it was made."""
        lost = False
        for _ in pauses():
            try:
                self._wire.write(what, method, path, body=body, fields=fields)
            except AnswerLost:
                lost = True
                if not done():
                    continue
            except (Refusal, EditConflict):
                # The server may have gone on with the first one after we had looked: then the second comes too late.
                if not lost or not done():
                    raise
            return
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that it was changed; it is safe to try again")


def _portions(nodes: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(nodes)
    while some := list(islice(rest, MANY)):
        yield some


def _is(record: Record, class_id: int, record_date: date | None, schedule: str | None) -> bool:
    return (
        record.class_id == class_id
        and record_date in (None, record.record_date)
        and (schedule is None or schedule.casefold() == (record.schedule or "").casefold())
    )


def _stage(line: Mapping[str, Any]) -> Stage:
    return Stage(
        int(line["RSIScheduleID"]),
        str(line.get("RetStage") or ""),
        int(line.get("RetYears") or 0),
        int(line.get("RetMonths") or 0),
        int(line.get("RetDays") or 0),
        str(line.get("ActionCode") or "0"),
        line.get("ApprovalFlag") in (1, True),
    )


def _holds(what: str, lines: Sequence[Json], read: Callable[[Json], LegalHold]) -> list[LegalHold]:
    """Holds as lines of an answer tell them. A line that cannot be read is no answer: it may be the very hold that matters."""
    try:
        return [read(line) for line in lines]
    except (KeyError, ValueError, TypeError) as error:
        raise RepositoryError(f"{what}: a line of the answer is no hold ({error!r}); nothing can be told from it") from error


def _hold_of_node(line: Mapping[str, Any]) -> LegalHold:
    return LegalHold(
        int(line["hold_id"]),
        str(line.get("hold_name", "")),
        str(line.get("hold_type") or ""),
        str(line.get("hold_comment") or ""),
        moment(line.get("date_applied")),
        line.get("removable") is False,
    )


def _hold(line: Mapping[str, Any]) -> LegalHold:
    return LegalHold(
        int(line["HoldID"]),
        str(line.get("HoldName", "")),
        str(line.get("HoldType") or ""),
        str(line.get("HoldComment") or ""),
        moment(line.get("DateApplied")),
    )


def _dug(answer: Any, *keys: str) -> Any:
    for key in keys:
        answer = answer.get(key) if isinstance(answer, dict) else None
    return answer


def _listed(answer: Json, what: str, *keys: str) -> list[Json]:
    """A list in an answer. No list is no answer: what nobody told is never taken for "none"."""
    found = _dug(answer, *keys)
    if not isinstance(found, list) or not all(isinstance(line, dict) for line in found):
        raise RepositoryError(f"{what}: the answer holds no list; nothing can be told from it")
    return found


def _made(answer: Json, what: str, *keys: str) -> int:
    found = _dug(answer, *keys)
    if not isinstance(found, int) or isinstance(found, bool):
        raise OutcomeUnknown(f"{what}: said to be made, and the answer does not tell its id; look before making it again")
    return found


def _day(text: Any) -> date | None:
    found = moment(text)
    return found.date() if found else None


def _text(value: Any) -> str:
    return str(value).casefold() if value is not None else ""


__all__ = ["LegalHold", "Record", "Records", "Schedule", "Stage", "Unfit"]
