"""A search index: OpenSearch's bulk interface (https://docs.opensearch.org/latest/api-reference/document-apis/bulk/).

Only what a message's facts say goes there, and never a document's bytes. Two routes:

- ``index``: facts ``id``, ``version`` and ``document`` (a JSON object)
- ``delete``: facts ``id`` and ``version``

Versions are ours (``version_type: external``): an index that already has this version or a newer one keeps what it has. So a lost answer
is followed by the same bulk again, and an older message does not undo a newer one, in whatever order they come. Of what was removed the
index remembers the version only for a while (``index.gc_deletes``, 60 seconds unless it is set otherwise): an older message that comes
later than that brings the document back. Who tells of removals keeps them in order, or has the index remember for longer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar

from pydantic import Field

from blocks.errors import SystemRefused, SystemUnreachable
from blocks.systems.base import Answer, Fate, Message, SystemSession
from blocks.systems.templates import BadFact
from blocks.systems.web import PAUSE_SECONDS, Reply, WebSystem, Wire
from blocks.values import shown

MOST_MESSAGES = 500
"""In one bulk."""
_LATER = frozenset({429, 500, 502, 503, 504})


class OpenSearch(WebSystem):
    """An index of OpenSearch, or of what speaks its bulk format."""

    _block_type_name = "OpenSearch"

    kind: ClassVar[str] = "opensearch"

    index: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,254}$", description="Name of the index")

    def session(self) -> OpenSearchSession:
        return OpenSearchSession(self)


class OpenSearchSession(SystemSession):
    def __init__(self, system: OpenSearch) -> None:
        self._index, self._wire = system.index, Wire(system)

    def close(self) -> None:
        self._wire.close()

    def send(self, messages: Iterable[Message]) -> Iterator[Answer]:
        source = iter(messages)
        while some := list(islice(source, MOST_MESSAGES)):
            yield from self._bulk(some)

    # ------------------------------------------------------------------------------------------------- the index itself

    def prepare(self, fields: Mapping[str, str]) -> None:
        """Have the index know what these fields are (``keyword``, ``long``): it is made if it is not there.

        Raises ``SystemUnreachable`` and ``SystemRefused``: one of them is another thing there already, for one.
        """
        mapping = {"properties": {name: {"type": kind} for name, kind in fields.items()}}
        reply = self._told("prepare", "PUT", f"/{self._index}", {"mappings": mapping})
        if reply.status == 400 and "resource_already_exists" in reply.text:
            reply = self._told("prepare", "PUT", f"/{self._index}/_mapping", mapping)
        if reply.status != 200:
            raise SystemRefused(f"index {self._index}: {reply.status} {reply.text}")

    def remove_older(self, than: tuple[str, int], where: Mapping[str, str]) -> int:
        """Remove what has less than this in a field, of those entries that have these values in theirs; how many went.

        What is written while this goes on stays. Doing it twice changes nothing. Raises ``SystemUnreachable`` and ``SystemRefused``.
        """
        field, least = than
        conditions: list[Any] = [{"term": {name: value}} for name, value in where.items()]
        query = {"query": {"bool": {"filter": [*conditions, {"range": {field: {"lt": least}}}]}}}
        # Only what the index has made visible to searches is found.
        for path, body in ((f"/{self._index}/_refresh", None), (f"/{self._index}/_delete_by_query", query)):
            reply = self._told("remove", "POST", path, body, {"conflicts": "proceed"} if body else None)
            if reply.status != 200:
                raise SystemRefused(f"{path}: {reply.status} {reply.text}")
        told = reply.json
        if (
            not isinstance(told, dict)
            or told.get("failures")
            or told.get("timed_out")
            or not isinstance(told.get("deleted"), int)
        ):
            raise SystemUnreachable(f"{path}: not all of it was removed: {reply.text}", PAUSE_SECONDS)
        return int(told["deleted"])

    def _told(self, route: str, method: str, path: str, body: Any, query: Mapping[str, str] | None = None) -> Reply:
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if content is not None else None
        return self._wire.call(route, method, path, query=query, headers=headers, content=content)

    def _bulk(self, messages: Sequence[Message]) -> Iterator[Answer]:
        refused: dict[int, Answer] = {}
        lines = list[str]()
        for place, message in enumerate(messages):
            try:
                lines += [json.dumps(line) for line in self._lines(message)]
            except BadFact as bad:
                refused[place] = Answer(message.key, Fate.REFUSED, code=bad.code, reason=bad.reason)
        sent = [message for place, message in enumerate(messages) if place not in refused]
        told = iter(self._send(sent, lines) if sent else ())
        yield from (refused.get(place) or next(told) for place in range(len(messages)))

    def _send(self, messages: Sequence[Message], lines: Sequence[str]) -> list[Answer]:
        content = "".join(f"{line}\n" for line in lines).encode()
        try:
            reply = self._wire.call(
                "_bulk", "POST", "/_bulk", headers={"Content-Type": "application/x-ndjson"}, content=content
            )
        except SystemUnreachable as error:
            after = max(PAUSE_SECONDS, error.after_seconds)
            return [Answer(message.key, Fate.LATER, reason=str(error), after_seconds=after) for message in messages]
        if (
            reply.status in (400, 413) and len(messages) > 1
        ):  # too much at once, or one of them spoils the call: nothing was taken
            half = len(messages) // 2
            return [*self._bulk(messages[:half]), *self._bulk(messages[half:])]
        return self._judge(messages, reply)

    def _judge(self, messages: Sequence[Message], reply: Reply) -> list[Answer]:
        if reply.status != 200:
            code, reason = f"status-{reply.status}", reply.text
            return [Answer(message.key, Fate.REFUSED, code=code, reason=reason) for message in messages]
        told = reply.json
        items = told.get("items") if isinstance(told, dict) else None
        if not isinstance(items, list) or len(items) != len(messages):
            reason = "an answer that does not tell of each message"
            return [Answer(message.key, Fate.LATER, reason=reason, after_seconds=PAUSE_SECONDS) for message in messages]
        return [_judged(message, item) for message, item in zip(messages, items, strict=True)]

    def _lines(self, message: Message) -> Iterator[Mapping[str, Any]]:
        if message.route not in ("index", "delete"):
            raise BadFact("no-such-route", f"an index knows 'index' and 'delete', not {message.route!r}")
        facts = message.facts
        id, version = facts.get("id"), facts.get("version")
        if (
            not isinstance(id, str)
            or not id
            or len(id.encode()) > 512
            or isinstance(version, bool)
            or not isinstance(version, int)
        ):
            raise BadFact("missing-fact", "an index needs {id}, a text of at most 512 bytes, and {version}, a whole number")
        yield {message.route: {"_index": self._index, "_id": id, "version": version, "version_type": "external"}}
        if message.route == "index":
            if not isinstance(facts.get("document"), Mapping):
                raise BadFact("missing-fact", "an index needs {document}, an object")
            yield facts["document"]


def _judged(message: Message, item: Any) -> Answer:
    about = next(iter(item.values()), None) if isinstance(item, dict) else None
    status = about.get("status") if isinstance(about, dict) else None
    id = str(message.facts["id"])
    if status in _LATER or not isinstance(status, int):
        return Answer(message.key, Fate.LATER, reason=f"status {status}", after_seconds=PAUSE_SECONDS)
    # 409: this version or a newer one is there. 404 answers the removal of what is not there.
    if 200 <= status < 300 or status == 409 or (status == 404 and message.route == "delete"):
        return Answer(message.key, Fate.TAKEN, id)
    error = about.get("error") if isinstance(about, dict) else None
    told = error.get("reason") if isinstance(error, dict) else error
    return Answer(message.key, Fate.REFUSED, code=f"status-{status}", reason=shown(str(told))[:200])
