"""Categories and classifications of nodes at one Content Server, beyond what a filing sets.

Values are given and read by the names of categories and attributes. A change proves with the edit token that nobody changed the node
since its values were read: if somebody did, ``EditConflict`` is raised and nothing of theirs is overwritten. Taking a row out
of a set is the one change that would do harm if it were made twice; the token settles it.

Keys as OpenText's REST reference has them: ``{category}_{attribute}``; a cell of a set ``{category}_{set}_{row}_{attribute}``,
rows from 1; ``{category}_{set}_{row}`` with an empty value takes a row out; ``{category}_1`` carries the token.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from blocks.errors import EditConflict, OutcomeUnknown, RepositoryError, RepositoryUnreachable
from blocks.repositories.otcs_names import Category, Names, Unfit, definition_key
from blocks.repositories.otcs_wire import AnswerLost, Fields, Json, NameTaken, Refusal, Wire, pauses


class Categories:
    """The categories of the nodes that one signed-in account sees. Used by several threads at once."""

    def __init__(self, wire: Wire, names: Names) -> None:
        self._wire, self._names = wire, names

    # ------------------------------------------------------------------------------------------------- reading

    def values(self, id: int) -> dict[str, dict[str, Any]]:
        """Category name -> attribute name -> value. A column of a set is ``Set:Column`` with one value per row."""
        found: dict[str, dict[str, Any]] = {}
        for category, (values, metadata) in self.described(id).items():
            named = found.setdefault(str(dig(metadata, str(category)).get("name", category)), {})
            for key in sorted(values, key=_natural):
                name = _attribute_name(key, metadata)
                if name is None:
                    continue
                if definition_key(key) != key:  # a cell of a set: one value per row
                    named.setdefault(name, []).append(values[key])
                else:
                    named[name] = values[key]
        return found

    def held(self, id: int) -> dict[int, dict[str, Any]]:
        """Category id -> attribute key -> value, of the categories a node has."""
        return {category: values for category, (values, _) in self.described(id).items()}

    def described(self, id: int) -> dict[int, tuple[dict[str, Any], dict[str, Any]]]:
        """Category id -> (values, definitions), both by attribute key."""
        what = f"categories of node {id}"
        answer = self._wire.ask(what, "GET", f"v2/nodes/{id}/categories", query={"metadata": ""})
        results = answer.get("results")
        if not isinstance(results, list):
            raise RepositoryError(f"{what} at {self._wire.url}: the answer holds no list of results")
        found: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        for entry in results:
            values = dict(dig(entry, "data", "categories"))
            # Documented below "categories", seen in OpenText's client without it.
            metadata = dig(entry, "metadata", "categories") or dig(entry, "metadata")
            for key in (*metadata, *values):
                category = int(key.partition("_")[0])
                found[category] = (values, dict(metadata))
                break
        return found

    def edit_token(self, id: int, category: int) -> str:
        """What proves that a node, which has this category, was not changed since."""
        what = f"edit token of node {id}"
        query = {"id": id, "category_id": category}
        forms = self._wire.ask(what, "GET", "v1/forms/nodes/categories/update", query=query).get("forms")
        token = dig(forms[0] if isinstance(forms, list) and forms else None, "data", f"{category}_1").get("metadata_token")
        if not token:
            raise RepositoryError(f"{what} at {self._wire.url}: the form holds none; nothing was changed")
        return str(token)

    # ------------------------------------------------------------------------------------------------- changing

    def change(self, id: int, name: str, values: Mapping[str, str | tuple[str, ...]]) -> None:
        """Set these values, putting the category on the node first where it has not got it. The others stay.

        Raises ``Unfit`` for an unknown name or a bad value, ``EditConflict`` if somebody changed the node meanwhile.
        """
        category = self._names.category(name)
        wanted, lost = category.wire(values), False
        what, path = f"values of node {id}", f"v2/nodes/{id}/categories"
        for _ in pauses():
            try:
                self._set(id, category.id, wanted, what, path)
            except (AnswerLost, NameTaken):
                lost = True  # compare again
            except EditConflict:
                if not lost:  # else it may be our own call, which came to its end only now
                    raise
            else:
                return
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that they were set; it is safe to try again")

    def _set(self, id: int, category: int, wanted: Mapping[str, Any], what: str, path: str) -> None:
        if category not in self.held(id):
            self._wire.write(what, "POST", path, fields={"category_id": category} | plain(wanted))
            return
        # The token is older than the values that we compare: whoever changes them after that makes it stale.
        token, held = self.edit_token(id, category), self.held(id).get(category, {})
        different = {key: value for key, value in wanted.items() if not same(held.get(key), value)}
        if different:
            fields = plain(different) | {"metadata_token": token}
            self._wire.write(what, "PUT", f"{path}/{category}", fields=fields)

    def drop(self, id: int, name: str) -> None:
        """Take a category off a node, with its values; none to take off is well too. Raises ``Unfit``."""
        category, what = self._names.category(name), f"category {name!r} of node {id}"
        lost = False
        for _ in pauses():
            if category.id not in self.held(id):
                return
            try:
                self._wire.write(what, "DELETE", f"v2/nodes/{id}/categories/{category.id}")
            except AnswerLost:
                lost = True
                continue
            except Refusal:
                # Refused because the call before, whose answer was lost, came to its end only now?
                if not lost:
                    raise
                lost = False
                continue
            return
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that it is gone; it is safe to try again")

    def drop_row(self, id: int, name: str, set_name: str, row: int) -> None:
        """Take one row (from 1) out of a set; those after it move up. Raises ``Unfit``, ``EditConflict``."""
        category = self._names.category(name)
        set_key = self._set_key(category, set_name)
        what = f"row {row} of {set_name!r} of node {id}"
        token, before = self.edit_token(id, category.id), self._rows(id, category.id, set_key)
        if not 1 <= row <= len(before):
            raise Unfit("bad-value", f"{set_name!r} of node {id} has {len(before)} rows, and no row {row}")
        wanted = [*before[: row - 1], *before[row:]]
        fields: Fields = {f"{set_key}_{row}": "", "metadata_token": token}
        lost = False
        for _ in pauses():
            try:
                self._wire.write(what, "PUT", f"v2/nodes/{id}/categories/{category.id}", fields=fields)
            except AnswerLost:
                lost = True
                continue
            except EditConflict:
                # The token is good for one change: this one, or somebody else's.
                if not lost:
                    raise
                if not _same_rows(self._rows(id, category.id, set_key), wanted):
                    raise OutcomeUnknown(
                        f"{what} at {self._wire.url}: the answer was lost and the set was changed since; look at it before taking a "
                        "row out again"
                    ) from None
            return
        # The token would prove nothing in a call of its own: by then one row less may be what there is to see.
        raise OutcomeUnknown(
            f"{what} at {self._wire.url}: no answer tells that it is out; look at the set before it is tried again"
        )

    def _set_key(self, category: Category, set_name: str) -> str:
        beginning = f"{set_name}:".casefold()
        for name, attribute in category.attributes.items():
            if name.startswith(beginning):
                return attribute.key.partition("_x_")[0]
        raise Unfit("unknown-attribute", f"category {category.name!r} has no set {set_name!r}")

    def _rows(self, id: int, category: int, set_key: str) -> list[dict[str, Any]]:
        """The rows of a set: column id -> value."""
        rows: dict[int, dict[str, Any]] = {}
        for key, value in self.held(id).get(category, {}).items():
            if key.startswith(f"{set_key}_") and key.count("_") == 3:
                row, column = key.split("_")[2:]
                rows.setdefault(int(row), {})[column] = value
        return [rows[number] for number in sorted(rows)]

    # ------------------------------------------------------------------------------------------------- inheritance

    def inherit(self, id: int, name: str, *, on: bool) -> None:
        """Whether what is added to a container from now on gets a category of it. Raises ``Unfit``."""
        category, method = self._names.category(name), "POST" if on else "DELETE"
        self._again(f"inheritance of {name!r} of node {id}", method, f"v2/nodes/{id}/categories/{category.id}/inheritance")

    def apply_below(self, id: int, names: Iterable[str]) -> None:
        """Put categories of a container on everything that is in it already and has not got them. Raises ``Unfit``."""
        wanted = [{"id": self._names.category(name).id, "action": "add"} for name in names]
        body: Json = {"categories": wanted, "add_version": False, "clear_existing_categories": False}
        self._again(f"categories below node {id}", "POST", f"v2/nodes/{id}/categories/apply", body)

    def _again(self, what: str, method: str, path: str, body: Json | None = None) -> None:
        """A call that nothing tells the result of, and that changes nothing when it is made twice."""
        for _ in pauses():
            try:
                self._wire.write(what, method, path, body=body, bare=True)
            except AnswerLost:
                continue
            return
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer; it is safe to try again")

    # ------------------------------------------------------------------------------------------------- classifications

    def classifications(self, id: int) -> dict[int, str]:
        """Id -> name of the classifications of a node (those of records management are told by ``records``)."""
        what = f"classifications of node {id}"
        data = self._wire.ask(what, "GET", f"v1/nodes/{id}/classifications").get("data")
        if not isinstance(data, list):
            raise RepositoryError(f"{what} at {self._wire.url}: the answer holds no list")
        return {int(entry["id"]): str(entry.get("name", "")) for entry in data}

    def classify(self, id: int, names: Iterable[str]) -> None:
        """Exactly these classifications, by name or by path below their volume. Raises ``Unfit``."""
        wanted, what = {self._names.records_class(name) for name in names}, f"classifications of node {id}"
        body: Json = {"class_id": sorted(wanted), "apply_to_sub_items": False}
        for _ in pauses():
            if set(self.classifications(id)) == wanted:
                return
            try:
                self._wire.write(what, "POST", f"v1/nodes/{id}/classifications", body=body)
            except AnswerLost:
                continue
            return
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that they were set; it is safe to try again")


# ----------------------------------------------------------------------------------------------------- values as they come


def dig(value: Any, *keys: str) -> Json:
    """A nested object, empty where a step is missing or something else."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def same(held: Any, wanted: Any) -> bool:
    """True if a value that we read is the one that we wrote."""
    if isinstance(held, list) or isinstance(wanted, list):
        both = [value if isinstance(value, list) else [] if value is None else [value] for value in (held, wanted)]
        return [_text(value) for value in both[0] if value is not None] == [_text(value) for value in both[1]]
    # A date is written as a day and read as its midnight.
    return _text(held).removesuffix("T00:00:00") == _text(wanted).removesuffix("T00:00:00")


def surplus_rows(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, str]:
    """What removes the rows that sets have beyond those wanted: ``{"7_5_3": ""}``. A set that is not meant stays as it is."""
    rows: dict[str, int] = {}
    for place, row in map(_cell, (key for key in wanted if key.count("_") == 3)):
        rows[place] = max(rows.get(place, 0), row)
    cells = map(_cell, (key for key in held if key.count("_") == 3))
    return {f"{place}_{row}": "" for place, row in cells if place in rows and row > rows[place]}


def _cell(key: str) -> tuple[str, int]:
    """The set and the row of a cell."""
    category, attribute, row, _ = key.split("_")
    return f"{category}_{attribute}", int(row)


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as plain form fields: a list repeats its key, an empty one clears it."""
    return {
        key: [_text(item) for item in value] or "" if isinstance(value, list) else _text(value) for key, value in values.items()
    }


def _text(value: Any) -> str:
    """A value as a plain form field."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _same_rows(held: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> bool:
    """A set is never without a row: the last one taken out leaves an empty one."""

    def filled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row for row in rows if any(value not in (None, "", []) for value in row.values())]

    return filled(held) == filled(wanted)


def _attribute_name(key: str, metadata: Mapping[str, Any]) -> str | None:
    parts, name = key.split("_"), dig(metadata, definition_key(key)).get("name")
    if name is None or len(parts) < 2 or (len(parts) == 2 and parts[1] == "1"):
        return None
    if len(parts) == 4:
        return f"{dig(metadata, '_'.join(parts[:2])).get('name')}:{name}"
    return str(name)


def _natural(key: str) -> list[int]:
    return [int(part) if part.isdecimal() else 0 for part in key.split("_")]
