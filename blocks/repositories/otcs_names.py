"""What names mean at one Content Server: folders, categories and their attributes, records classes, people.

The interface speaks in node ids and attribute keys; agreements with partners speak in names. Each name is looked up once per
session, by one thread, and remembered. ``Unfit`` says that a name means nothing (or too much) there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from typing import Any

from blocks.errors import DocumentMissing, RepositoryError, RepositoryUnreachable
from blocks.repositories.naming import beside, fitted, marked
from blocks.repositories.once import Once
from blocks.repositories.otcs_wire import AnswerLost, Json, NameTaken, Query, Refusal, Wire, pauses

FOLDER, DOCUMENT, CATEGORY = 0, 144, 131
WORKFLOW_MAP = 128
CONTAINERS = -1
"""In ``where_type``: everything that holds other nodes."""
CATEGORIES, ENTERPRISE, CLASSIFICATIONS = 133, 141, 198
USER, GROUP = 0, 1
LONGEST_NAME = 248
PAGE = 100
MOST_FOLDERS_WALKED = 500


class Unfit(Exception):
    """A filing asks for something that does not exist here. Becomes ``NotFiled``."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


def units(text: str) -> int:
    """Length as the databases below Content Server count it."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def kept_name(name: str) -> str:
    """``name`` as Content Server can hold it: at most 248 characters, no ``:``, no blanks at the ends (see ``naming``)."""
    return fitted(name, forbidden=":", length=units, most=LONGEST_NAME, reserved=lambda _: False)


def twin_name(name: str) -> str:
    """Where ``name`` is kept if another one, which the server takes for the same, stands there already."""
    return marked(kept_name(name), name, length=units, most=LONGEST_NAME)


def other_name(name: str, digest: str) -> str:
    return beside(name, digest, length=units, most=LONGEST_NAME)


def described(name: str, kept: str) -> str:
    """The node's description: where the original of a fitted name is kept."""
    return "" if name == kept else f"Original name: {name.encode('utf-8', 'backslashreplace').decode()}"


@dataclass(frozen=True, slots=True)
class Node:
    """A node as its properties describe it."""

    id: int
    name: str
    type: int
    container: bool
    properties: Json


def properties(answer: Json, what: str) -> Json:
    """``data.properties`` of one result. ``RepositoryError`` names the call when the server's answer has another shape."""
    data = answer.get("data")
    found = data.get("properties") if isinstance(data, dict) else None
    if not isinstance(found, dict) or not isinstance(found.get("id"), int):
        raise RepositoryError(f"{what}: the answer holds no properties with an id; nothing was done with it")
    return found


def node_of(answer: Json, what: str) -> Node:
    found = properties(answer, what)
    kind = found.get("type", -1)
    return Node(found["id"], str(found.get("name", "")), kind, bool(found.get("container", kind == FOLDER)), found)


def one_result(answer: Json, what: str) -> Json:
    results = answer.get("results")
    if not isinstance(results, dict):
        raise RepositoryError(f"{what}: the answer holds no result; nothing was done with it")
    return results


# ----------------------------------------------------------------------------------------------------- categories


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a category. A column of a set has ``_x_`` for the row in its key and ``Set:Column`` as its name."""

    key: str
    name: str
    kind: str
    """The JSON schema's word: string, integer, number, boolean, or ``date``."""
    multiple: bool

    def wire(self, text: str) -> str | int | bool:
        """A value as the wire wants it. Raises ``Unfit``."""
        try:
            text.encode()
            if not text:
                return ""
            if self.kind == "date":
                # The day as such: the contract's attribute dates have no zone.
                return datetime.fromisoformat(text).replace(tzinfo=None).isoformat(timespec="seconds")
            if self.kind == "integer":
                return int(text)
            if self.kind == "boolean":
                return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.strip().casefold()]
        except (ValueError, KeyError) as error:
            raise Unfit("bad-value", f"attribute {self.name!r} is a {self.kind}, {text!r} is not") from error
        return text


@dataclass(frozen=True, slots=True)
class Category:
    id: int
    name: str
    attributes: Mapping[str, Attribute]
    """By casefolded name."""

    def wire(self, given: Mapping[str, str | tuple[str, ...]]) -> dict[str, Any]:
        """Values by attribute name -> values by wire key. Raises ``Unfit`` for an unknown attribute or a bad value."""
        values: dict[str, Any] = {}
        for name, value in given.items():
            attribute = self.attributes.get(name.casefold())
            if attribute is None:
                known = ", ".join(sorted(attribute.name for attribute in self.attributes.values()))
                raise Unfit("unknown-attribute", f"category {self.name!r} has no attribute {name!r}; it has: {known}")
            texts = (value,) if isinstance(value, str) else value
            if "_x_" in attribute.key:
                for row, text in enumerate(texts, 1):
                    values[attribute.key.replace("_x_", f"_{row}_")] = attribute.wire(text)
            elif attribute.multiple:
                values[attribute.key] = [attribute.wire(text) for text in texts]
            elif len(texts) > 1:
                raise Unfit("bad-value", f"attribute {name!r} of category {self.name!r} takes one value, not {len(texts)}")
            else:
                values[attribute.key] = attribute.wire(texts[0]) if texts else ""
        return values


def _attributes(fields: Mapping[str, Any], options: Mapping[str, Any], within: str = "") -> Iterator[Attribute]:
    """The attributes in a create form's schema; sets are arrays (or objects) of columns."""
    for key, schema in fields.items():
        if key.endswith("_1") and key.count("_") == 1:
            continue  # not an attribute: carries the metadata token
        option = options.get(key, {})
        label = str(schema.get("title") or option.get("label") or key)
        inner = schema.get("items") if schema.get("type") == "array" else schema
        inner = inner if isinstance(inner, dict) else {}
        if "properties" in inner:
            deeper = option.get("items", option).get("fields", option.get("fields", {}))
            columns = {definition_key(name): column for name, column in inner["properties"].items()}
            yield from _attributes(columns, deeper, f"{label}:")
            continue
        kind = str(inner.get("type", "string"))
        if kind == "string" and (
            str(inner.get("format", "")).startswith("date") or str(option.get("type", "")).startswith("date")
        ):
            kind = "date"
        yield Attribute(key, within + label, kind, schema.get("type") == "array")


def definition_key(key: str) -> str:
    """A set cell's key as its column's definition key: ``7_5_1_6`` -> ``7_5_x_6``."""
    parts = key.split("_")
    if len(parts) == 4:
        parts[2] = "x"
    return "_".join(parts)


# ----------------------------------------------------------------------------------------------------- the look-ups


class Names:
    """Looks names up, and creates the folders that are missing."""

    def __init__(self, wire: Wire, root: str) -> None:
        self._wire, self._root = wire, root.strip("/")
        self._volumes, self._folders = Once[int, int](), Once[tuple[bool, int | None, tuple[str, ...]], int]()
        self._categories, self._classes = Once[str, Category](), Once[str, int]()
        self._maps = Once[str, int]()
        self._members, self._accounts = Once[str, int](), Once[int, str]()
        self._myself = Once[None, int]()

    # -------------------------------------------------------------------------------------------- nodes and folders

    def children(self, parent: int, **query: Any) -> Iterator[Json]:
        """Everything in a container, page by page. Ends at an empty page or at the last one announced."""
        page = 1
        while True:
            answer = self._wire.ask(
                f"list of node {parent}",
                "GET",
                f"v2/nodes/{parent}/nodes",
                query={"limit": PAGE, "page": page, "sort": "asc_name", **query},
            )
            results = answer.get("results")
            if not isinstance(results, list):
                raise RepositoryError(f"list of node {parent} at {self._wire.url}: the answer holds no list of results")
            yield from results
            if not results or page >= last_page(answer, page + 1):
                return
            page += 1

    def child(self, parent: int, name: str) -> Node | None:
        """The node of that name in a container, whatever its case: the server lets only one of them be.

        In one call as a rule, and in three however much the container holds: ``where_name`` finds parts of names too, and what
        many names have in common would bring page after page.
        """
        what = f"{name!r} in node {parent}"
        query: Query = {"where_name": name, "fields": "properties", "sort": "asc_name", "limit": PAGE, "page": 1}
        answer = self._wire.ask(what, "GET", f"v2/nodes/{parent}/nodes", query=query)
        results = answer.get("results")
        if not isinstance(results, list):
            raise RepositoryError(f"{what} at {self._wire.url}: the answer holds no list of results")
        found = [node_of(entry, what) for entry in results]
        same = [node for node in found if node.name.casefold() == name.casefold()]
        if not same and last_page(answer, 1 if len(results) < PAGE else 2) > 1:
            ids = self.taken(parent, [name]).values()
            same = [held for id in ids if (held := self.node(id)) is not None and held.name.casefold() == name.casefold()]
        return next((node for node in same if node.name == name), same[0] if same else None)

    def taken(self, parent: int, names: Iterable[str]) -> dict[str, int]:
        """Which of these names are taken in a container, by the server's own comparison: name as it stands there -> id."""
        wanted = list(names)
        what = f"{len(wanted)} names in node {parent}"
        answer = self._wire.ask(what, "POST", "v1/validation/nodes/names", body={"parent_id": parent, "names": wanted})
        results = answer.get("results")
        return {
            str(entry.get("name")): entry["id"]
            for entry in (results if isinstance(results, list) else [])
            if isinstance(entry, dict) and isinstance(entry.get("id"), int)
        }

    def node(self, id: int) -> Node | None:
        """A node by its id; None where there is none, or none that we see."""
        what = f"node {id}"
        try:
            answer = self._wire.ask(what, "GET", f"v2/nodes/{id}", query={"fields": "properties"})
        except DocumentMissing:
            return None
        return node_of(one_result(answer, what), what)

    def volume(self, kind: int) -> int:
        def find() -> int:
            what = f"volume {kind}"
            return node_of(one_result(self._wire.ask(what, "GET", f"v2/volumes/{kind}"), what), what).id

        return self._volumes.get(kind, find)

    def folder(self, path: tuple[str, ...], *, create: bool, within: int | None = None) -> int | None:
        """The id of a folder below the root, or ``within`` a node; None where it is missing and not to be created. Raises ``Unfit``."""
        below = self._below_root(path) if within is None else _kept(path)
        known = self._folders.known((create, within, _folded(below)))
        if known is not None:
            return known
        here = within or (int(self._root) if self._root.isdecimal() else self.volume(ENTERPRISE))
        try:
            for depth, name in enumerate(below, 1):
                # Whoever creates must not be given the answer of somebody who only looked.
                key = (create, within, _folded(below[:depth]))
                here = self._folders.get(key, partial(self._step, here, name, create))
        except _Absent:
            return None
        return here

    def forget_folder(self, path: tuple[str, ...], within: int | None = None) -> None:
        """What is remembered about a folder has turned out to be stale."""
        below = self._below_root(path) if within is None else _kept(path)
        for depth in range(1, len(below) + 1):
            self._folders.forget((True, within, _folded(below[:depth])))
            self._folders.forget((False, within, _folded(below[:depth])))

    def _below_root(self, path: tuple[str, ...]) -> tuple[str, ...]:
        top = () if self._root.isdecimal() else tuple(part for part in self._root.split("/") if part)
        return _kept((*top, *path))

    def _step(self, parent: int, name: str, create: bool) -> int:
        for _ in pauses():
            found = self.child(parent, name)
            if found is not None:
                if not found.container:
                    raise Unfit("folder-name-taken", f"{found.name!r} in node {parent} is a document, not a folder")
                return found.id
            if not create:
                raise _Absent
            try:
                what = f"folder {name!r} in node {parent}"
                body = {"type": FOLDER, "parent_id": parent, "name": name}
                return node_of(one_result(self._wire.write(what, "POST", "v2/nodes", body=body), what), what).id
            except (AnswerLost, NameTaken):
                continue  # either it stands now, or somebody else has just made it: look again
        raise RepositoryUnreachable(
            f"folder {name!r} in node {parent} at {self._wire.url}: cannot be made and cannot be seen; nothing was filed in it. "
            "Either the server is away, or something of that name is there that this account may not see"
        )

    # -------------------------------------------------------------------------------------------- below a volume

    def _below(self, volume: int, wanted: str, what: str, kind: int | None = None) -> Node:
        """The node that a path (``A/B``) or a plain name means below a volume. A plain name means the one nearest to the top.

        ``kind``: a plain name means only nodes of this type, so that documents on the way are not even listed.
        """
        query: dict[str, Any] = {} if kind is None else {"where_type": [str(CONTAINERS), str(kind)]}
        path = [part for part in wanted.split("/") if part]
        if not path:
            raise Unfit(f"unknown-{what}", f"{wanted!r} names no {what.replace('-', ' ')}")
        if len(path) > 1:
            node: Node | None = None
            for part in path:
                node = self.child(node.id if node else self.volume(volume), part)
                if node is None:
                    break
            if node is not None:
                return node
        level, walked = deque([self.volume(volume)]), 0
        while level and len(path) == 1:
            found, deeper = [], deque[int]()
            for parent in level:
                walked += 1
                if walked > MOST_FOLDERS_WALKED:
                    raise Unfit(
                        f"unknown-{what}", f"{wanted!r} was not found in {walked} folders; give its path from the volume down"
                    )
                for entry in self.children(parent, fields="properties", **query):
                    node = node_of(entry, "list")
                    if node.name.casefold() == path[0].casefold() and kind in (None, node.type):
                        found.append(node)
                    if node.container:
                        deeper.append(node.id)
            if len(found) > 1:
                raise Unfit(f"ambiguous-{what}", f"{len(found)} are called {wanted!r}; give the path from the volume down")
            if found:
                return found[0]
            level = deeper
        raise Unfit(f"unknown-{what}", f"the repository has no {what.replace('-', ' ')} {wanted!r}")

    def category(self, name: str) -> Category:
        """Raises ``Unfit``."""

        def find() -> Category:
            node = self._below(CATEGORIES, name, "category", CATEGORY)
            if node.type != CATEGORY:
                raise Unfit("unknown-category", f"{name!r} is no category")
            # The form for adding a category names all attributes before any node has it; it wants some node to add it to.
            some = self.folder((), create=True) or node.id
            what = f"definition of category {name!r}"
            answer = self._wire.ask(
                what,
                "GET",
                "v1/forms/nodes/categories/create",
                query={"id": some, "category_id": node.id},
            )
            forms = answer.get("forms")
            form = forms[0] if isinstance(forms, list) and forms else None
            if not isinstance(form, dict) or not isinstance(form.get("schema", {}).get("properties"), dict):
                raise RepositoryError(f"{what} at {self._wire.url}: the answer holds no schema; nothing was filed")
            fields = _attributes(form["schema"]["properties"], form.get("options", {}).get("fields", {}))
            return Category(node.id, node.name, {attribute.name.casefold(): attribute for attribute in fields})

        return self._categories.get(name, find)

    def records_class(self, name: str) -> int:
        """Raises ``Unfit``."""
        return self._classes.get(name, lambda: self._below(CLASSIFICATIONS, name, "records-class").id)

    def workflow_map(self, name: str) -> int:
        """Raises ``Unfit``."""

        def find() -> int:
            node = self._below(ENTERPRISE, name, "workflow-map", WORKFLOW_MAP)
            if node.type != WORKFLOW_MAP:
                raise Unfit("unknown-workflow-map", f"{name!r} is no workflow map")
            return node.id

        return self._maps.get(name, find)

    # -------------------------------------------------------------------------------------------- people

    def member(self, name: str) -> int:
        """The id of a user by login or a group by name. Raises ``Unfit``."""

        def find() -> int:
            for kind in (USER, GROUP):
                what = f"account {name!r}"
                answer = self._wire.ask(what, "GET", "v2/members", query={"where_type": kind, "where_name": name, "limit": 20})
                for entry in answer.get("results") or []:
                    found = properties(entry, what)
                    if str(found.get("name", "")).casefold() == name.casefold():
                        return int(found["id"])
            raise Unfit("unknown-account", f"the repository has no user or group {name!r}")

        return self._members.get(name, find)

    def account(self, id: int) -> str:
        """The login behind an id."""

        def find() -> str:
            what = f"account {id}"
            try:
                answer = self._wire.ask(what, "GET", f"v2/members/{id}")
            except (DocumentMissing, Refusal):
                return f"account {id}"  # removed, or not for us to see: its number is what the trail has
            return str(properties(one_result(answer, what), what).get("name", id))

        return self._accounts.get(id, find)

    def myself(self) -> int:
        """The id of the account that we are signed in with."""

        def find() -> int:
            data = self._wire.ask("own account", "GET", "v1/auth").get("data")
            if not isinstance(data, dict) or not isinstance(data.get("id"), int):
                raise RepositoryError(f"own account at {self._wire.url}: the answer holds no id")
            return int(data["id"])

        return self._myself.get(None, find)


def last_page(answer: Json, default: int) -> int:
    """The number of pages that a listing announces; ``default`` where it does not."""
    paging = answer.get("collection", {}).get("paging", answer.get("paging", {}))
    total = paging.get("page_total") if isinstance(paging, dict) else None
    return total if isinstance(total, int) else default


class _Absent(Exception):
    """Not there, and not to be created."""


@lru_cache(maxsize=1024)
def _kept(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(kept_name(part) for part in path)


@lru_cache(maxsize=1024)
def _folded(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.casefold() for part in path)
