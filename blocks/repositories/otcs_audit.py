"""The audit trail that one Content Server keeps of a node, reached as ``session.audit``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

from blocks.errors import RepositoryError
from blocks.repositories.otcs_names import PAGE, last_page, one_result
from blocks.repositories.otcs_wire import Json, Wire


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One line of the trail."""

    at: datetime
    kind: int
    name: str
    """What happened, in the server's words."""
    user: int
    agent: int | None
    """The account that did it for ``user``, where it was another one."""


class AuditTrail:
    """What happened to a node, as the server itself recorded it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def events(
        self,
        node: int,
        *,
        kind: int | None = None,
        user: int | None = None,
        since: date | None = None,
        until: date | None = None,
        oldest_first: bool = False,
    ) -> Iterator[AuditEvent]:
        """The trail as a stream, page after page; newest first unless asked otherwise.

        ``kind`` is a number from ``kinds``. ``since`` and ``until`` are whole days, both included: the server ignores times.
        """
        query: dict[str, str | int] = {"sort": "asc_audit_date" if oldest_first else "desc_audit_date", "limit": PAGE}
        wanted = {"where_type": kind, "where_user_id": user}
        query |= {name: value for name, value in wanted.items() if value is not None}
        days = {"where_audit_date_start": since, "where_audit_date_end": until}
        query |= {name: day.isoformat() for name, day in days.items() if day is not None}
        page = 1
        while True:
            answer, data = self._page(node, {**query, "page": page})
            kinds = _kinds(data)
            yield from (self._event(node, line, kinds) for line in data["audit"])
            if not data["audit"] or page >= last_page(answer, page + 1):
                return
            page += 1

    def kinds(self, node: int) -> dict[int, str]:
        """Number of a kind of event -> the server's word for it."""
        return _kinds(self._page(node, {"limit": 1, "page": 1})[1])

    def _page(self, node: int, query: dict[str, str | int]) -> tuple[Json, Json]:
        what = f"audit trail of node {node}"
        answer = self._wire.ask(what, "GET", f"v2/nodes/{node}/audit", query=query)
        data = one_result(answer, f"{what} at {self._wire.url}").get("data")
        if not isinstance(data, dict) or not isinstance(data.get("audit"), list):
            raise RepositoryError(f"{what} at {self._wire.url}: the answer holds no events")
        return answer, data

    def _event(self, node: int, line: Json, kinds: dict[int, str]) -> AuditEvent:
        kind, text, agent = line.get("event_type"), line.get("audit_date"), line.get("agent_id")
        if not isinstance(text, str) or not text:
            raise RepositoryError(f"audit trail of node {node} at {self._wire.url}: an event without a date")
        at = datetime.fromisoformat(text)
        number = kind if isinstance(kind, int) else 0
        return AuditEvent(
            at if at.tzinfo else at.replace(tzinfo=UTC),
            number,
            str(line.get("audit_name") or kinds.get(number) or kind),
            int(line["user_id"]),
            agent if isinstance(agent, int) else None,
        )


def _kinds(data: Json) -> dict[int, str]:
    return {
        kind["id"]: str(kind.get("name")) for kind in data.get("audit_event_types") or [] if isinstance(kind.get("id"), int)
    }
