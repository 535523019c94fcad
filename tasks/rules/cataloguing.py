"""Cataloguing: what a search index is told of a document, and what of a restricted one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import Any

from blocks.index_terms import IndexTerms, Restricted, RestrictedPolicy
from blocks.values import Change, Described

AS_OF, WATCH, FOLDERS = "as_of", "watch", "folders"
MAPPING = {
    WATCH: "keyword",
    "repository": "keyword",
    FOLDERS: "keyword",
    AS_OF: "long",
    "restricted": "boolean",
    "readers": "keyword",
}
"""What the index must take these fields for: by some of them entries are found again."""
IDLE = frozenset({"Download", "Download by link", "View", "Lock", "Unlock", "Comment", "Link", "Link closed"})
"""Events after which nothing is to be told. Any other one is looked into, also one that nobody has heard of."""


def to_look_at(changes: Iterable[Change]) -> list[Change]:
    """The newest change of each document and folder to which something has happened that may have to be told."""
    return list({change.target: change for change in changes if change.event not in IDLE}.values())


def is_restricted(one: Described, terms: Restricted | None) -> bool:
    """True if one of the agreed signs says so."""
    if terms is None:
        return False
    path = tuple(name.casefold() for name in one.path)
    within = [tuple(name.casefold() for name in folder.strip("/").split("/")) for folder in terms.folders]
    return (
        any(path[: len(folder)] == folder for folder in within)
        or any(
            not _words(mark.values).isdisjoint(_words(one.kept.categories.get(mark.category, {}).get(mark.attribute)))
            for mark in terms.marked
        )
        or bool(terms.open_to and not one.readers & {*terms.open_to})
    )


def entry(one: Described, terms: IndexTerms, watch: str, repository: str, as_of: int) -> dict[str, Any] | None:
    """What the index is told; None: nothing, and what it was told before is taken back.

    ``as_of``: the number of the look at it; a later look has a higher one.
    """
    restricted = is_restricted(one, terms.restricted)
    if restricted and terms.restricted is not None and terms.restricted.policy is RestrictedPolicy.LEAVE_OUT:
        return None
    told: dict[str, Any] = {
        WATCH: watch,
        "repository": repository,
        FOLDERS: list(one.folders),
        AS_OF: as_of,
        "restricted": restricted,
    }
    known = _known(one)
    if restricted and terms.restricted is not None:
        known = {"name": terms.restricted.title, "readers": known["readers"]}
    told |= {field: known[field] for field in terms.fields if field in known}
    values = {} if restricted else _values(one, terms.fields)
    return {**told, "values": values} if values else told


def _known(one: Described) -> dict[str, Any]:
    kept = one.kept
    return {
        "name": kept.name,
        "folder": "/".join(one.path),
        "media_type": kept.media_type,
        "size": kept.size,
        "version": kept.version,
        "modified": kept.modified.astimezone(UTC).isoformat() if kept.modified else None,
        "readers": sorted(one.readers),
    }


def _values(one: Described, fields: Iterable[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for field in fields:
        category, _, attribute = field.partition("/")
        value = one.kept.categories.get(category, {}).get(attribute)
        if attribute and value not in (None, "", []):
            found.setdefault(category, {})[attribute] = value
    return found


def _words(value: Any) -> set[str]:
    """All that a value says, as texts in which case does not matter: of 3 or 3.0 it is "3", of true "true"; of rows, what each says."""
    if isinstance(value, Mapping):
        return _words([*value.values()])
    if isinstance(value, list | tuple | set | frozenset):
        return {word for each in value for word in _words(each)}
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return set() if value is None else {str(value).strip().casefold()}
