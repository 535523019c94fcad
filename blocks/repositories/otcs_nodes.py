"""Documents and folders at one Content Server beyond filing: moved, copied, deleted and given back, reserved, their versions.

Each verb that changes something settles a lost answer itself, by looking whether what was wanted stands; only where it does not is
the call made again. Where looking cannot tell, ``OutcomeUnknown`` leaves it to a person. Refusals are raised as the server words
them: ``NameTaken``, ``DocumentMissing``, ``Refusal`` (no right to it, reserved by somebody else, kept by a hold).

Facts from OpenText's REST reference: a version number is never given twice, not even after a purge; a locked version stays through
purges; only a document with major and minor versions can have one promoted; a deleted container is one item of the recycle bin
and comes back with everything in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, TypeVar

from blocks.errors import DocumentMissing, EditConflict, OutcomeUnknown, RepositoryError, RepositoryUnreachable
from blocks.repositories.otcs_names import PAGE, Names, Node, kept_name, last_page, node_of, one_result, properties
from blocks.repositories.otcs_wire import AnswerLost, Json, NameTaken, Query, Refusal, Wire, moment, pauses, settling

MANY = 200
"""Ids in one call about several nodes."""

Value = TypeVar("Value")


class Inheritance(IntEnum):
    """Which categories something has after it was copied or moved."""

    ORIGINAL = 0
    DESTINATION = 1
    BOTH = 2


@dataclass(frozen=True, slots=True)
class Deleted:
    """One item of the recycle bin. ``parent`` is where it was, and where it would go back to."""

    id: int
    name: str
    parent: int
    container: bool
    at: datetime | None
    by: int | None
    purged_at: datetime | None
    """When the server will purge it by itself."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of a call about several nodes."""

    done: tuple[int, ...]
    refused: Mapping[int, str]
    """Id -> the reason, in the server's words."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """Who has a document reserved, and who waits for it."""

    by: str
    since: datetime | None
    waiting: int
    """Users in the queue, ourselves not counted."""
    requested: bool
    """True if we are in the queue."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a document. ``number`` counts through; ``name`` is what people see (``3``, or ``1.2``)."""

    number: int
    name: str
    major: int
    minor: int
    size: int
    description: str
    by: int | None
    """Account that made it."""
    locked_by: int | None
    identity: str
    created: datetime | None


class Nodes:
    """The nodes that one signed-in account sees. Used by several threads at once."""

    def __init__(self, wire: Wire, names: Names) -> None:
        self._wire, self._names = wire, names

    # ------------------------------------------------------------------------------------------------- looking

    def get(self, id: int) -> Node:
        """Raises ``DocumentMissing``."""
        what = f"node {id}"
        return node_of(one_result(self._wire.ask(what, "GET", f"v2/nodes/{id}", query={"fields": "properties"}), what), what)

    def several(self, ids: Iterable[int]) -> dict[int, Node]:
        """Many nodes in few calls. Missing and invisible ones are left out."""
        wanted, found = list(dict.fromkeys(ids)), dict[int, Node]()
        for start in range(0, len(wanted), MANY):
            some = wanted[start : start + MANY]
            what = f"{len(some)} nodes"
            answer = self._wire.ask(what, "POST", "v2/nodes/list", body={"ids": some})
            for entry in _listed(answer, f"{what} at {self._wire.url}"):
                node = node_of(entry, what)
                found[node.id] = node
        return found

    def look(self, parent: int, *, kinds: Sequence[int] = (), name: str = "", sort: str = "asc_name") -> Iterator[Node]:
        """What is directly in a container, as a stream: of some types only, or with a part of a name (in any case).

        ``kinds`` may be -1 for containers and -3 for everything else; ``sort`` is ``asc_`` or ``desc_`` and ``name``,
        ``modify_date``, ``size``... What is added or removed while we page may be missed or come twice.
        """
        query: dict[str, Any] = {"sort": sort, "fields": "properties"}
        if kinds:
            query["where_type"] = [str(kind) for kind in kinds]
        if name:
            query["where_name"] = name
        for entry in self._names.children(parent, **query):
            yield node_of(entry, f"list of node {parent}")

    def ancestors(self, id: int) -> list[tuple[int, str]]:
        """Ids and names from the volume down to the node itself, as far as we see them."""
        what = f"ancestors of node {id}"
        found = self._wire.ask(what, "GET", f"v1/nodes/{id}/ancestors").get("ancestors")
        if not isinstance(found, list):
            raise RepositoryError(f"{what} at {self._wire.url}: the answer holds none")
        return [(int(entry["id"]), str(entry["name"])) for entry in found]

    def taken(self, parent: int, names: Iterable[str]) -> dict[str, int]:
        """Which of these names are taken in a container, by the server's own comparison: name as it stands there -> id."""
        return self._names.taken(parent, names)

    # ------------------------------------------------------------------------------------------------- changing

    def edit_token(self, id: int) -> str:
        """What proves to ``rename`` and ``move`` that nobody changed a node since: ask for it, look at the node, decide, act."""
        what = f"edit token of node {id}"
        query: Query = {"fields": "properties{id}", "state": ""}
        state = one_result(self._wire.ask(what, "GET", f"v2/nodes/{id}", query=query), what).get("state")
        token = (state.get("properties") or {}).get("metadata_token") if isinstance(state, dict) else None
        if not token:
            raise RepositoryError(f"{what} at {self._wire.url}: the answer holds none")
        return str(token)

    def rename(self, id: int, name: str, description: str | None = None, *, token: str | None = None) -> Node:
        """Another name and, if given, another description. Raises ``NameTaken``, with a token ``EditConflict``."""
        wanted: Json = {"name": kept_name(name)} | ({} if description is None else {"description": description})
        return self._change(id, wanted, f"new name of node {id}", _proven(token))

    def move(
        self,
        id: int,
        parent: int,
        *,
        name: str | None = None,
        categories: Inheritance = Inheritance.ORIGINAL,
        token: str | None = None,
    ) -> Node:
        """Into another container, under another name if one is given. Raises ``NameTaken``, with a token ``EditConflict``."""
        wanted: Json = {"parent_id": parent} | ({} if name is None else {"name": kept_name(name)})
        more: Json = {"roles": {"categories": {"inheritance": categories}}} | _proven(token)
        return self._change(id, wanted, f"move of node {id}", more)

    def version_control(self, id: int, *, advanced: bool) -> Node:
        """Whether what is added to a container from now on has major and minor versions."""
        return self._change(id, {"versions_control_advanced": advanced}, f"versioning of node {id}")

    def copy(self, id: int, parent: int, *, name: str, categories: Inheritance = Inheritance.ORIGINAL) -> Node:
        """A copy of the newest version, or of a container with everything in it. Raises ``NameTaken``.

        A copy carries nothing that tells whose it is: after a lost answer it is taken for ours if it was not there before, and is
        of our account and of the original's size. Else ``OutcomeUnknown``.
        """
        name = kept_name(name)
        what = f"copy of node {id} as {name!r} in node {parent}"
        original = self.get(id)
        if (found := self._names.child(parent, name)) is not None:
            raise NameTaken(
                f"{what} at {self._wire.url}: node {found.id} already exists there under this name; nothing was copied"
            )
        body: Json = {"original_id": id, "parent_id": parent, "name": name}
        body["roles"] = {"categories": {"inheritance": categories}}
        lost = False
        for _ in pauses():
            try:
                return node_of(one_result(self._wire.write(what, "POST", "v2/nodes", body=body), what), what)
            except AnswerLost:
                lost = True
            except NameTaken:
                if not lost:  # somebody was faster
                    raise
            if (found := self._names.child(parent, name)) is not None:
                return self._ours(found, original, what)
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that it was made; it is safe to try again")

    def _ours(self, found: Node, original: Node, what: str) -> Node:
        alike = all(found.properties.get(key) == original.properties.get(key) for key in ("type", "size"))
        if alike and found.properties.get("create_user_id") == self._names.myself():
            return found
        raise OutcomeUnknown(
            f"{what} at {self._wire.url}: the answer was lost, and node {found.id} of that name looks like another one; look there "
            "before copying again"
        )

    def delete(self, id: int, look: Callable[[], None] = lambda: None) -> None:
        """Into the recycle bin, with everything in it. Raises ``DocumentMissing`` if it was not there to begin with.

        ``look`` comes before each time that the server is asked, and says by what it raises that it is not to be removed.
        """
        what, lost = f"removal of node {id}", False
        for _ in pauses():
            try:
                look()
                self._wire.write(what, "DELETE", f"v2/nodes/{id}")
            except AnswerLost:
                lost = True
                continue
            except DocumentMissing:
                if not lost:
                    raise
            return
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer; it is safe to try again")

    def _change(self, id: int, wanted: Json, what: str, more: Json | None = None) -> Node:
        """Set properties to what is ``wanted``; repeating that changes nothing."""

        def stands() -> Node | None:
            node = self.get(id)
            return node if all(node.properties.get(key) == value for key, value in wanted.items()) else None

        def act() -> Node:
            self._wire.write(what, "PUT", f"v2/nodes/{id}", body={**wanted, **(more or {})})
            return self.get(id)

        return self._settle(what, act, stands)

    def _settle(self, what: str, act: Callable[[], Value], stands: Callable[[], Value | None]) -> Value:
        """Act once; after a lost answer look first, and act again only where what was wanted does not stand."""
        lost = False
        for _ in pauses():
            try:
                return act()
            except AnswerLost:
                lost = True
                if (found := stands()) is not None:
                    return found
            except (Refusal, DocumentMissing, EditConflict):
                # The call before this one may have come to its end only now, so that there is nothing left to do.
                if not lost or (found := stands()) is None:
                    raise
                return found
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that it was done; it is safe to try again")

    # ------------------------------------------------------------------------------------------------- the recycle bin

    def deleted(self, *, name: str = "", anyone: bool = False) -> Iterator[Deleted]:
        """The recycle bin, last deleted first: of our account, or of everybody as far as we may see it.

        ``name`` is its beginning, in any case.
        """
        what, page = "recycle bin", 1
        query: Query = {"mode": "anyone_deleted" if anyone else "user_deleted", "sort": "desc_deleted_date", "limit": PAGE}
        if name:
            query = {**query, "where_name": name}
        while True:
            answer = self._wire.ask(what, "GET", "v2/volumes/recyclebin/nodes", query={**query, "page": page})
            results = _listed(answer, f"{what} at {self._wire.url}")
            for entry in results:
                found = properties(entry, what)
                yield Deleted(
                    found["id"],
                    str(found.get("name", "")),
                    int(found.get("parent_id") or 0),
                    bool(found.get("container")),
                    moment(found.get("deleted_date")),
                    found.get("deleted_user_id"),
                    moment(found.get("purged_date")),
                )
            if not results or page >= last_page(answer, page + 1):
                return
            page += 1

    def restore(self, ids: Iterable[int]) -> Settled:
        """Back from the recycle bin to where each was."""
        return self._in_bin("restore", ids)

    def purge(self, ids: Iterable[int]) -> Settled:
        """Out of the recycle bin, for good. Nothing brings it back."""
        return self._in_bin("purge", ids)

    def _in_bin(self, verb: str, ids: Iterable[int]) -> Settled:
        wanted, lost = list(dict.fromkeys(ids)), False
        what = f"{verb} of {len(wanted)} nodes"
        if not wanted:
            return Settled((), {})
        for _ in pauses():
            try:
                answer = self._wire.write(what, "POST", f"v2/volumes/recyclebin/nodes/{verb}", body={"ids": wanted})
            except AnswerLost:
                lost = True
                continue
            except Refusal as refusal:
                if "results" not in refusal.answer:
                    raise
                answer = refusal.answer  # some could not be done, and the answer says which
            results = one_result(answer, what)
            done = set((results.get("success") or {}).get("ids") or ())
            errors = (results.get("failure") or {}).get("errors") or {}
            refused = {int(id): str(told.get("message") if isinstance(told, dict) else told) for id, told in errors.items()}
            if lost:
                # What the call before this one has done is not in the bin any more.
                absent = {id for id, why in refused.items() if "could not get" in why.casefold()}
                live = set(self.several(absent))
                done |= absent & live if verb == "restore" else absent - live
            if untold := [id for id in wanted if id not in done and id not in refused]:
                raise OutcomeUnknown(f"{what} at {self._wire.url}: the answer says nothing of {untold}; look at them")
            return Settled(tuple(id for id in wanted if id in done), {id: why for id, why in refused.items() if id not in done})
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer; it is safe to try again")

    # ------------------------------------------------------------------------------------------------- reserving

    def reserve(self, id: int) -> None:
        """For our account: nobody else can change it then. Raises ``Refusal`` where somebody else has it."""
        self._change(id, {"reserved_user_id": self._names.myself()}, f"reserving node {id}")

    def unreserve(self, id: int) -> None:
        what = f"giving node {id} free"

        def stands() -> bool | None:
            return True if not self.get(id).properties.get("reserved_user_id") else None

        def act() -> bool:
            self._wire.write(what, "PUT", f"v2/nodes/{id}", body={"reserved_user_id": None})
            return True

        self._settle(what, act, stands)

    def reservation(self, id: int) -> Reservation | None:
        """Who has a document; None if nobody."""
        if not self.get(id).properties.get("reserved_user_id"):
            return None
        what = f"reservation of node {id}"
        data = self._wire.ask(what, "GET", f"v2/reservemanagement/nodes/{id}").get("data")
        if not isinstance(data, dict):
            raise RepositoryError(f"{what} at {self._wire.url}: the answer holds no data")
        return Reservation(
            str(data.get("reserved_by", "")),
            moment(data.get("reserved_date")),
            int(data.get("num_users") or 0),
            bool(data.get("already_requested")),
        )

    def queue(self, id: int) -> None:
        """Ask for a document that somebody has reserved."""
        self._queue(id, "POST", wanted=True)

    def leave_queue(self, id: int) -> None:
        self._queue(id, "DELETE", wanted=False)

    def _queue(self, id: int, method: str, *, wanted: bool) -> None:
        what = f"queue for node {id}"

        def stands() -> bool | None:
            held = self.reservation(id)
            return True if held is None or held.requested is wanted else None

        def act() -> bool:
            # The reference shows no body for its answer.
            self._wire.write(what, method, f"v2/reservemanagement/nodes/{id}", bare=True)
            return True

        self._settle(what, act, stands)

    def reserved(self) -> Iterator[Node]:
        """What our account has reserved."""
        what, page = "reserved nodes", 1
        while True:
            query: Query = {"limit": PAGE, "page": page, "fields": "properties"}
            answer = self._wire.ask(what, "GET", "v2/members/reserved", query=query)
            results = _listed(answer, f"{what} at {self._wire.url}")
            yield from (node_of(entry, what) for entry in results)
            if not results or page >= last_page(answer, page + 1):
                return
            page += 1

    # ------------------------------------------------------------------------------------------------- versions

    def versions(self, id: int) -> list[Version]:
        """All of a document, oldest first."""
        return [_version(held) for held in raw_versions(self._wire, id)]

    def version(self, id: int, number: int) -> Version:
        what = f"version {number} of node {id}"
        answer = self._wire.ask(what, "GET", f"v2/nodes/{id}/versions/{number}")
        held = version_in(one_result(answer, what))
        if held is None:
            raise DocumentMissing(f"{what} at {self._wire.url}: there is none")
        return _version(held)

    def describe_version(self, id: int, number: int, description: str) -> None:
        what, path = f"description of version {number} of node {id}", f"v2/nodes/{id}/versions/{number}"

        def stands() -> bool | None:
            return True if self.version(id, number).description == description else None

        def act() -> bool:
            self._wire.write(what, "PUT", path, fields={"description": description})
            return True

        self._settle(what, act, stands)

    def promote(self, id: int, number: int, description: str = "") -> Version:
        """The content of a version once more, as the next major version.

        Nothing keeps a version from being promoted twice. After a lost answer a new major version of our account and of the same
        size is taken for ours; without one it is done again, unless the server may still be at it (``OutcomeUnknown``).
        """
        what = f"promotion of version {number} of node {id}"
        before = {version.number: version for version in self.versions(id)}
        if number not in before:
            raise DocumentMissing(f"{what} at {self._wire.url}: there is no such version")
        for _ in pauses():
            try:
                fields = {"description": description} if description else {}
                answer = self._wire.write(what, "POST", f"v2/nodes/{id}/versions/{number}/promote", fields=fields)
            except AnswerLost as lost:
                with settling(what):
                    made = self._promoted(id, before, before[number].size, lost)
                if len(made) == 1:
                    return made[0]
                if made or lost.running:
                    raise OutcomeUnknown(
                        f"{what} at {self._wire.url}: the answer was lost and looking does not tell whether it was done; look at its "
                        "versions before promoting it again"
                    ) from lost
                continue
            held = version_in(one_result(answer, what))
            if held is None:
                raise OutcomeUnknown(f"{what} at {self._wire.url}: the answer holds no version; look at its versions")
            return _version(held)
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that it was done; it is safe to try again")

    def _promoted(self, id: int, before: Mapping[int, Version], size: int, lost: AnswerLost) -> list[Version]:
        """Major versions that were not there before. A server that may still be at it is given a while."""
        for _ in pauses():
            made = [version for version in self.versions(id) if version.number not in before and version.minor == 0]
            if made or not lost.running:
                return [version for version in made if version.size == size and version.by in (None, self._names.myself())]
        return []

    def lock_version(self, id: int, number: int) -> None:
        """From now on it is neither changed nor purged."""
        self._lock(id, number, "lock")

    def unlock_version(self, id: int, number: int) -> None:
        self._lock(id, number, "unlock")

    def _lock(self, id: int, number: int, verb: str) -> None:
        what = f"{verb} of version {number} of node {id}"

        def stands() -> bool | None:
            return True if (self.version(id, number).locked_by is not None) is (verb == "lock") else None

        def act() -> bool:
            self._wire.write(what, "POST", f"v2/nodes/{id}/versions/{number}/{verb}")
            return True

        self._settle(what, act, stands)

    def drop_version(self, id: int, number: int) -> None:
        """Remove one version for good. One that is gone already is as well."""
        what = f"removal of version {number} of node {id}"

        def stands() -> bool | None:
            return None if any(int(held["version_number"]) == number for held in raw_versions(self._wire, id)) else True

        def act() -> bool:
            self._wire.write(what, "DELETE", f"v2/nodes/{id}/versions/{number}")
            return True

        if not stands():
            self._settle(what, act, stands)

    def purge_versions(self, id: int, *, keep: int) -> None:
        """Remove all but the newest ``keep`` for good; under major and minor versions only minor ones. Locked ones stay."""
        if keep < 1:
            raise ValueError(f"at least one version is kept, not {keep}")
        what = f"purge of node {id} to {keep} versions"

        def stands() -> bool | None:
            held = self.versions(id)
            minor = [version for version in held if version.minor]
            return True if not [version for version in minor[:-keep] if version.locked_by is None] else None

        def act() -> bool:
            self._wire.write(what, "DELETE", f"v2/nodes/{id}/versions", fields={"number_to_keep": keep})
            return True

        self._settle(what, act, stands)


# ----------------------------------------------------------------------------------------------------- versions as they come


def raw_versions(wire: Wire, id: int) -> list[Json]:
    """All versions as the server describes them, oldest first."""
    what, page, found = f"versions of node {id}", 1, list[Json]()
    while True:
        answer = wire.ask(what, "GET", f"v2/nodes/{id}/versions", query={"limit": PAGE, "page": page})
        results = _listed(answer, f"{what} at {wire.url}")
        found += [version for entry in results if (version := version_in(entry))]
        # Without paging in the answer it holds all of them.
        if not results or page >= last_page(answer, 1):
            return sorted(found, key=lambda version: int(version["version_number"]))
        page += 1


def version_in(entry: Json) -> Json | None:
    """The (newest) version in an answer, which holds one or a list."""
    held = entry.get("data", {}).get("versions")
    if isinstance(held, list):
        held = max(held, key=lambda version: int(version.get("version_number", 0)), default=None)
    return held if isinstance(held, dict) and "version_number" in held else None


def _version(held: Json) -> Version:
    number = int(held["version_number"])
    return Version(
        number,
        str(held.get("version_number_name") or number),
        int(held.get("version_number_major") or 0),
        int(held.get("version_number_minor", number) or 0),
        int(held.get("file_size") or 0),
        str(held.get("description") or ""),
        held.get("owner_id"),
        held.get("locked_user_id") if held.get("locked") else None,
        str(held.get("external_identity") or ""),
        moment(held.get("create_date")),
    )


def _proven(token: str | None) -> Json:
    return {} if token is None else {"metadata_token": token}


def _listed(answer: Json, what: str) -> list[Any]:
    results = answer.get("results")
    if not isinstance(results, list):
        raise RepositoryError(f"{what}: the answer holds no list of results")
    return results
