"""Users, groups and permissions of one Content Server, reached as ``session.people``.

Every write is settled after a lost answer: what can be repeated is repeated, what cannot is looked at first. A name belongs to one
user or group only, so an account is never made twice; a line of permissions is set or gone, however often it was said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TypeVar

from blocks.errors import DocumentMissing, OutcomeUnknown, RepositoryError, RepositoryUnreachable
from blocks.repositories.otcs_names import GROUP, PAGE, USER, Names, last_page, one_result, properties
from blocks.repositories.otcs_wire import AnswerLost, Json, NameTaken, Refusal, Wire, pauses

T = TypeVar("T")

MEMBERS_PAGE = 20
"""The server gives no more members at once, whatever is asked for."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user or a group."""

    id: int
    name: str
    kind: int
    """``USER`` or ``GROUP``, as Content Server numbers them."""
    first_name: str = ""
    last_name: str = ""
    mail: str = ""
    base_group: int | None = None
    """The group that a user's documents belong to; None for a group."""


class Whose(StrEnum):
    """The four kinds of lines in a node's permissions."""

    OWNER = "owner"
    GROUP = "group"
    PUBLIC = "public"
    CUSTOM = "custom"


class Reach(IntEnum):
    """What a change of permissions applies to. A document has nothing below it, and takes ``ITEM`` only."""

    ITEM = 0
    BELOW = 1
    ITEM_AND_BELOW = 2
    ITEM_AND_CHILDREN = 3


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a node's permissions. ``who`` is None for the public."""

    whose: Whose
    who: int | None
    rights: frozenset[str]
    """In Content Server's words: see, see_contents, modify, edit_attributes, add_items, reserve, add_major_version,
    delete_versions, delete, edit_permissions."""


class People:
    """Who there is, and who may do what with a node. Ids everywhere; ``account`` finds them by name."""

    def __init__(self, wire: Wire, names: Names) -> None:
        self._wire, self._names = wire, names

    # ------------------------------------------------------------------------------------------------- who there is

    def users(self, starting: str = "") -> Iterator[Account]:
        """All users, or those whose login, first or last name begins so, as a stream."""
        return self._accounts("users", "v2/members", {"where_type": USER, **_query(starting)})

    def groups(self, starting: str = "") -> Iterator[Account]:
        """All groups, or those whose name begins so, as a stream."""
        return self._accounts("groups", "v2/members", {"where_type": GROUP, **_query(starting)})

    def account(self, name: str, kind: int = USER) -> Account | None:
        """The user of that login or group of that name, whatever its case."""
        asked: dict[str, str | int] = {"where_type": kind, "where_name": name}
        for found in self._accounts(f"account {name!r}", "v2/members", asked):
            if found.name.casefold() == name.casefold():
                return found
        return None

    def get(self, id: int) -> Account:
        """Raises ``Refusal`` where there is none."""
        what = f"account {id}"
        return _account(one_result(self._wire.ask(what, "GET", f"v2/members/{id}"), what), what)

    def members(self, group: int, kind: int | None = None) -> Iterator[Account]:
        """Who is directly in a group: users, groups, or both."""
        for wanted in (USER, GROUP) if kind is None else (kind,):
            yield from self._accounts(f"members of group {group}", f"v2/members/{group}/members", {"where_type": wanted})

    def member_of(self, id: int) -> Iterator[Account]:
        """The groups that a user or group is in."""
        return self._accounts(f"groups of account {id}", f"v2/members/{id}/memberof", {})

    def create_user(
        self, name: str, password: str, *, base_group: int, first_name: str = "", last_name: str = "", mail: str = ""
    ) -> Account:
        """A new user. Raises ``NameTaken`` if there is a user or group of that name."""
        named = {"first_name": first_name, "last_name": last_name, "business_email": mail}
        secret = {"password": password, "group_id": str(base_group)}
        return self._create({"type": str(USER), "name": name} | {key: value for key, value in named.items() if value} | secret)

    def create_group(self, name: str) -> Account:
        """A new, empty group. Raises ``NameTaken`` if there is a user or group of that name."""
        return self._create({"type": str(GROUP), "name": name})

    def _create(self, fields: Mapping[str, str]) -> Account:
        name, what = fields["name"], f"account {fields['name']!r}"
        lost = False
        for _ in pauses():
            try:
                answer = self._wire.write(what, "POST", "v2/members", fields=fields)
                return _account(one_result(answer, what), what)
            except AnswerLost:
                lost = True  # the name lets only one of them be, so it is safe to ask again
            except NameTaken:
                if not lost:
                    raise
                return self._ours(name, fields)
            found = self.account(name, int(fields["type"]))
            if found is not None:
                return self._ours(name, fields)
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that it was made; it is safe to try again")

    def _ours(self, name: str, fields: Mapping[str, str]) -> Account:
        """The account that stands after an answer was lost, if it is as we asked."""
        found = self.account(name, int(fields["type"]))
        told = (
            {}
            if found is None
            else {"first_name": found.first_name, "last_name": found.last_name, "business_email": found.mail}
        )
        if found is None or any(fields.get(key, "") != value for key, value in told.items()):
            raise OutcomeUnknown(
                f"account {name!r} at {self._wire.url}: the answer was lost, and another account has that name; look at it before "
                "you go on"
            )
        return found

    def change(self, id: int, **fields: str) -> Account:
        """Set what a user or group is known by, under the interface's names: ``first_name``, ``business_email``, ``name``, ..."""
        what = f"account {id}"

        def write() -> Account:
            return _account(one_result(self._wire.write(what, "PUT", f"v2/members/{id}", fields=fields), what), what)

        return self._again(what, write)

    def remove(self, id: int) -> None:
        """Remove a user or group. What it owns stays."""
        what = f"account {id}"
        for attempt, _ in enumerate(pauses()):
            try:
                self._wire.write(what, "DELETE", f"v2/members/{id}")
            except AnswerLost:
                continue
            except (Refusal, DocumentMissing):
                # Refused because an earlier call, whose answer was lost, has removed it?
                if not attempt or self._there(id):
                    raise
            return
        raise self._unanswered(what)

    def _there(self, id: int) -> bool:
        try:
            self.get(id)
        except (Refusal, DocumentMissing):
            return False
        return True

    def join(self, group: int, member: int) -> None:
        """Put a user or group into a group; one who is in it stays."""
        what, path = f"member {member} of group {group}", f"v2/members/{group}/members"
        self._again(what, lambda: self._wire.write(what, "POST", path, fields={"member_id": member}))

    def leave(self, group: int, member: int) -> None:
        """Take a user or group out of a group; one who is not in it stays out."""
        what, path = f"member {member} of group {group}", f"v2/members/{group}/members/{member}"
        self._again(what, lambda: self._wire.write(what, "DELETE", path))

    # ------------------------------------------------------------------------------------------------- permissions

    def lines(self, node: int) -> tuple[Line, ...]:
        """A node's permissions, line by line."""
        found = self._pages(f"access to node {node}", f"v2/nodes/{node}/permissions", {}, PAGE)
        return tuple(_line(entry, f"access to node {node} at {self._wire.url}") for entry in found)

    def grant(self, node: int, who: int, rights: Iterable[str], reach: Reach = Reach.ITEM) -> None:
        """Give a user or group a line of its own with exactly these rights. Raises ``Refusal`` for more than ``ITEM`` on a document."""
        body = {"permissions": sorted(rights), "apply_to": int(reach)}
        what, path = f"access of {who} to node {node}", f"v2/nodes/{node}/permissions/custom"

        def write() -> None:
            if any(line.whose is Whose.CUSTOM and line.who == who for line in self.lines(node)):
                self._wire.write(what, "PUT", f"{path}/{who}", body=body)
            else:
                self._wire.write(what, "POST", path, body={**body, "right_id": who})

        self._again(what, write)

    def grant_many(self, node: int, rights: Mapping[int, Iterable[str]], reach: Reach = Reach.ITEM) -> None:
        """Give several users or groups lines of their own, all or none."""
        lines = [{"right_id": who, "permissions": sorted(named)} for who, named in rights.items()]
        what, path = f"access of {len(lines)} to node {node}", f"v2/nodes/{node}/permissions/custom/bulk"
        body = {"permissions_array": lines, "apply_to": int(reach)}
        self._again(what, lambda: self._wire.write(what, "POST", path, body=body))

    def set_line(
        self, node: int, whose: Whose, rights: Iterable[str], who: int | None = None, reach: Reach = Reach.ITEM
    ) -> None:
        """Set the owner's, the group's or the public's rights; with ``who`` the node changes hands."""
        body: Json = {"permissions": sorted(rights), "apply_to": int(reach)} | ({} if who is None else {"right_id": who})
        what, path = f"access of the {whose} to node {node}", f"v2/nodes/{node}/permissions/{whose}"
        self._again(what, lambda: self._wire.write(what, "PUT", path, body=body))

    def revoke(self, node: int, whose: Whose, who: int | None = None, reach: Reach = Reach.ITEM) -> None:
        """Remove a line: a custom one by whose it is, or the owner's, the group's, the public's. One that is not there stays away."""
        what = f"access of {who or whose} to node {node}"
        path = f"v2/nodes/{node}/permissions/{whose}" + (f"/{who}" if whose is Whose.CUSTOM else "")

        def write() -> None:
            if reach in (Reach.BELOW, Reach.ITEM_AND_BELOW, Reach.ITEM_AND_CHILDREN) or self._holds(node, whose, who):
                self._wire.write(what, "DELETE", path, body={"apply_to": int(reach)})

        for attempt, _ in enumerate(pauses()):
            try:
                write()
            except AnswerLost:
                continue
            except Refusal:
                # Refused because an earlier call, whose answer was lost, has removed it? Then it is gone below too.
                if not attempt or self._holds(node, whose, who):
                    raise
                if reach is not Reach.ITEM and any(
                    self._holds(properties(entry, what)["id"], whose, who) for entry in self._names.children(node)
                ):
                    raise OutcomeUnknown(
                        f"{what} at {self._wire.url}: the answer was lost; the line is gone here and not below. Look at what is in it"
                    ) from None
            return
        raise self._unanswered(what)

    def _holds(self, node: int, whose: Whose, who: int | None) -> bool:
        return any(
            line.whose is whose and (whose is not Whose.CUSTOM or line.who == who) and line.rights for line in self.lines(node)
        )

    def effective(self, node: int, who: int) -> frozenset[str]:
        """What a user or group may do with a node in the end: its own lines, its groups' and the public's."""
        what = f"effective access of {who} to node {node}"
        answer = one_result(self._wire.ask(what, "GET", f"v2/nodes/{node}/permissions/effective/{who}"), what)
        return frozenset(_permissions(answer, f"{what} at {self._wire.url}")["permissions"])

    def visible(self, nodes: Iterable[int], who: int | None = None) -> frozenset[int]:
        """Those of some nodes that a user (None: our own account) sees."""
        asked = [str(node) for node in nodes]
        if not asked:
            return frozenset()
        what = "visible nodes"
        path = "v2/ai/nodes/permissions/check" if who is None else "v2/nodes/permissions/check"
        body: Json = {"ids": [int(node) for node in asked]} | ({} if who is None else {"right_id": who})
        ids = one_result(self._wire.ask(what, "POST", path, body=body), what).get("ids")
        if not isinstance(ids, list):
            raise RepositoryError(f"{what} at {self._wire.url}: the answer holds no ids")
        return frozenset(int(id) for id in ids)

    # ------------------------------------------------------------------------------------------------- small things

    def _again(self, what: str, write: Callable[[], T]) -> T:
        """A write that may be said twice, until an answer tells that it was done."""
        for _ in pauses():
            try:
                return write()
            except AnswerLost:
                continue
        raise self._unanswered(what)

    def _unanswered(self, what: str) -> RepositoryUnreachable:
        return RepositoryUnreachable(
            f"{what} at {self._wire.url}: no answer tells that it was done; it is safe to say it again"
        )

    def _accounts(self, what: str, path: str, asked: Mapping[str, str | int]) -> Iterator[Account]:
        return (_account(entry, f"{what} at {self._wire.url}") for entry in self._pages(what, path, asked, MEMBERS_PAGE))

    def _pages(self, what: str, path: str, asked: Mapping[str, str | int], limit: int) -> Iterator[Json]:
        page = 1
        while True:
            answer = self._wire.ask(what, "GET", path, query={**asked, "limit": limit, "page": page})
            results = answer.get("results")
            if not isinstance(results, list):
                raise RepositoryError(f"{what} at {self._wire.url}: the answer holds no list of results")
            yield from results
            # A server that tells no number of pages has given all if it gave less than was asked for.
            if not results or page >= last_page(answer, page + (len(results) == limit)):
                return
            page += 1


def _query(starting: str) -> dict[str, str | int]:
    return {"query": starting} if starting else {}


def _account(entry: Json, what: str) -> Account:
    found = properties(entry, what)
    group = found.get("group_id")
    return Account(
        id=found["id"],
        name=str(found.get("name") or ""),
        kind=int(found.get("type") or USER),
        first_name=str(found.get("first_name") or ""),
        last_name=str(found.get("last_name") or ""),
        mail=str(found.get("business_email") or ""),
        base_group=group if isinstance(group, int) else None,
    )


def _line(entry: Json, what: str) -> Line:
    found = _permissions(entry, what)
    who = found.get("right_id")
    return Line(Whose(str(found.get("type"))), who if isinstance(who, int) else None, frozenset(found["permissions"]))


def _permissions(entry: Json, what: str) -> Json:
    data = entry.get("data")
    found = data.get("permissions") if isinstance(data, dict) else None
    if not isinstance(found, dict) or not isinstance(found.get("permissions"), list):
        raise RepositoryError(f"{what}: the answer holds no permissions")
    return found
