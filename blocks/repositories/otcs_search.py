"""The search index of one Content Server, reached as ``session.index``: facets, summaries, and hits as a stream.

An index lags: what was filed a moment ago may not be in it, and what was deleted may. Nothing correct rests on it. The server gives
each account only what it may see.

Queries are ``Where`` values, in the few forms of Livelink Query Language (LQL) that public clients are seen to use. A value is always
quoted, so that nothing in it is taken for query language.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from blocks.errors import RepositoryError
from blocks.repositories.otcs_names import PAGE, Node, last_page, node_of
from blocks.repositories.otcs_wire import Json, Wire


class Look(StrEnum):
    """How the text of a query is read."""

    ALL_WORDS = "allwords"
    ANY_WORDS = "anywords"
    PHRASE = "exactphrase"
    LQL = "complexQuery"


@dataclass(frozen=True, slots=True)
class Where:
    """What to look for. ``&`` wants both."""

    text: str
    look: Look = Look.LQL

    def __and__(self, other: Where) -> Where:
        if self.look is not Look.LQL or other.look is not Look.LQL:
            raise ValueError("words and phrases cannot be joined with other queries; use name_holds and its like")
        return Where(f"{self.text} and {other.text}")


def words(text: str) -> Where:
    """All of these words, anywhere in a document or its metadata. Raises ``ValueError`` if there is no word in it."""
    found = re.findall(r"\w+", text)
    if not found:
        raise ValueError(f"{text!r} holds no word to look for")
    return Where(" ".join(found), Look.ALL_WORDS)


def phrase(text: str) -> Where:
    """These words next to each other, in this order."""
    return Where(words(text).text, Look.PHRASE)


def name_is(name: str) -> Where:
    """The words of a name. The index reads names as words: compare the names of what is found."""
    return Where(f"OTName: {_quoted(name)}")


def name_holds(part: str) -> Where:
    """A part of the name, of letters and digits only. Raises ``ValueError`` for anything else."""
    if not re.fullmatch(r"[A-Za-z0-9]+", part):
        raise ValueError(f"{part!r}: a part of a name may hold only letters and digits in a query")
    return Where(f'[QLREGION "OTName"] *{part}*')


def of_type(*types: int) -> Where:
    """Nodes of these types: 0 folders, 144 documents, 848 workspaces."""
    if not types:
        raise ValueError("no type to look for")
    listed = ",".join(str(int(kind)) for kind in types)
    return Where(f'[QLREGION "OTSubType"] IN ({listed})' if len(types) > 1 else f"OTSubType: {listed}")


def below(node: int) -> Where:
    """What is somewhere below a container, and the container itself."""
    return Where(f"OTLocation: {int(node)}")


def changed_since(day: date) -> Where:
    """What was changed on this day or later. The index knows days, not times."""
    return Where(f'[QLREGION "OTModifyDate"] >= {day:%Y%m%d}')


def _quoted(value: str) -> str:
    if '"' in value:
        raise ValueError(f"{value!r}: a quotation mark cannot stand in a query")
    return f'"{value}"'


@dataclass(frozen=True, slots=True)
class FacetValue:
    """One value of a facet and how many hits have it."""

    value: str
    shown: str
    """As the server shows it to people."""
    count: int


@dataclass(frozen=True, slots=True)
class Facet:
    """What all hits of a query have in common, counted: ``OTMIMEType``, ``OTSubType``, ..."""

    region: str
    shown: str
    values: tuple[FacetValue, ...]
    complete: bool
    """False if the server had more values than it tells."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing found. ``entry`` is the server's whole answer about it."""

    node: Node
    summary: str
    """Where the words stand, if summaries were asked for and the server has one."""
    entry: Json


@dataclass(frozen=True, slots=True)
class Hits:
    """One page of what was found, and what is known of the rest."""

    total: int
    hits: tuple[Hit, ...]
    facets: tuple[Facet, ...]
    pages: int


class SearchIndex:
    """Finds documents by words, names and regions."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def find(self, where: Where, *, within: Iterable[int] = (), sort: str = "", summaries: bool = False) -> Iterator[Hit]:
        """All hits as a stream, page after page; ends at the first empty one. Raises ``Refusal`` if the server takes it for no query.

        ``within``: containers to look in. ``sort``: a region with its direction, ``desc_OTObjectDate``; default: relevance.
        """
        places, page = tuple(within), 1
        while True:
            found = self.page(where, page, within=places, sort=sort, summaries=summaries)
            yield from found.hits
            if not found.hits or page >= found.pages:
                return
            page += 1

    def facets(self, where: Where, *, within: Iterable[int] = ()) -> tuple[Facet, ...]:
        """What all hits have in common, counted by the server over everything that our account may see."""
        return self.page(where, 1, within=within, facets=True, limit=1).facets

    def page(
        self,
        where: Where,
        page: int,
        *,
        within: Iterable[int] = (),
        sort: str = "",
        facets: bool = False,
        summaries: bool = False,
        limit: int = PAGE,
    ) -> Hits:
        """One page, counted from 1. One past the end is empty."""
        fields: dict[str, str | int] = {"where": where.text, "lookfor": where.look, "limit": limit, "page": page}
        fields |= {f"location_id{number}": place for number, place in enumerate(within, 1)}
        options = [name for name, wanted in (("facets", facets), ("highlight_summaries", summaries)) if wanted]
        if options:
            # The interface's own notation for a list of words.
            fields["options"] = "{" + ",".join(f"'{name}'" for name in options) + "}"
        if sort:
            fields["sort"] = sort
        answer = self._wire.ask("search", "POST", "v2/search", fields=fields)
        results = answer.get("results")
        if not isinstance(results, list):
            raise RepositoryError(f"search at {self._wire.url}: the answer holds no list of results")
        collection = answer.get("collection")
        collection = collection if isinstance(collection, dict) else {}
        total = collection.get("paging", {}).get("total_count")
        return Hits(
            total if isinstance(total, int) else len(results),
            tuple(Hit(node_of(entry, f"search at {self._wire.url}"), _summary(entry), entry) for entry in results),
            tuple(_facets(collection.get("searching", {}).get("facets"))),
            last_page(answer, page + 1),
        )


def _facets(answer: object) -> Iterator[Facet]:
    available = answer.get("available") if isinstance(answer, dict) else None
    for entry in available if isinstance(available, list) else []:
        values = tuple(
            FacetValue(str(item.get("value", "")), str(item.get("display_name", "")), int(item.get("count", 0)))
            for item in entry.get("facet_items") or []
        )
        yield Facet(str(entry.get("name", "")), str(entry.get("display_name", "")), values, not entry.get("count_exceeded"))


def _summary(entry: Json) -> str:
    """Text as it is, or in pieces of which those with the words are objects."""
    found = entry["data"]["properties"].get("summary") or ""
    pieces = found if isinstance(found, list) else [found]
    return "".join(str(piece.get("text", "")) if isinstance(piece, dict) else str(piece) for piece in pieces)
