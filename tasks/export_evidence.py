"""Export evidence: journeys with all that proves them, for somebody who has neither our ledger nor our repositories.

Nothing is gathered anew: all of it stands in the ledger's entries, which are sealed before they leave, and the bytes, where they are
wanted, come from the spool, the quarantine or the repository that keeps them.
"""

from __future__ import annotations

import bisect
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path

from blocks.bundle import BundleWriter
from blocks.chain import Link
from blocks.errors import ConfigurationError, RepositoryError, SpoolError
from blocks.ledger import Checkpoint, Entry, Recorded, new_journey
from blocks.profile import load_repositories
from blocks.settings import settings
from blocks.values import Stage
from tasks.checkpoint import seal
from tasks.connections import ledger, quarantine, repository_session, spool
from tasks.order import order_key
from tasks.reduce import with_texts
from tasks.rules import bundle_page
from tasks.rules.bundle import EXPORT, MANIFEST, PAGE, Manifest, Step, Story, checkpoint_names, document_name, extract_name
from tasks.rules.transmission import Kept

_JOURNEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,199}")
"""An order's or a file's journey; the ledger's own books (``personality.acme.drop``) and the journeys of an order's documents
and of a file's good rows have dots."""
_PAGE = 500


@dataclass
class Exported:
    """What a bundle came to."""

    journeys: int
    entries: int = 0
    documents: int = 0
    lacking: list[str] = field(default_factory=list)
    """Documents whose bytes were wanted and could not be had, with the reason."""
    without: set[str] = field(default_factory=set)
    """Their SHA-256."""


def meant(what: str, partner: str | None = None) -> list[str]:
    """The journeys that an id means: a journey's own, an order's on each stream where there is one; empty if there is none.

    An order comes with what was left out of it, sent again, or sent in its place, and with the order that it was made of.
    """
    if "." in what and ledger().journey(what):
        what = what.partition(".")[0]  # a document's journey is part of its order's, that of good rows of their file's
    if _JOURNEY.fullmatch(what) and (own := ledger().journey(what)):
        return _with_kin([what]) if partner in (None, own[0].body.get("partner")) else []
    found = ledger().search(name=what, partner=partner, limit=1000)
    firsts = {id: entries[0] for id, entries in ledger().journeys([one.journey for one in found]).items()}
    return _with_kin(sorted(id for id, first in firsts.items() if first.kind == "ordered" and first.body["order"] == what))


def _with_kin(journeys: list[str]) -> list[str]:
    """These journeys, and of orders all that are linked with them, however many steps away; a family stands together, oldest first."""
    found: dict[str, None] = {}
    for journey in journeys:
        family: dict[str, datetime] = {}
        wanted = {journey} - found.keys()
        while wanted:
            histories = ledger().journeys(sorted(wanted))
            family |= {one: history[0].at for one, history in histories.items()}
            wanted = {kin for history in histories.values() for kin in _kin(history)} - family.keys()
        found |= dict.fromkeys(sorted(family, key=lambda one: (family[one], one)))
    return list(found)


def _kin(history: Sequence[Recorded]) -> Iterator[str]:
    """The orders that one was made of, or that were made of it."""
    first = history[0].body
    if history[0].kind != "ordered":
        return
    if first.get("parent"):
        yield str(first["parent"])
    for entry in history:
        if entry.kind == "parted":
            child = ledger().holder(order_key(first["partner"], first["stream"], entry.body["child_order"]))
            if child is not None:
                yield child.journey


def chosen(
    partner: str | None, stream: str | None = None, since: datetime | None = None, until: datetime | None = None
) -> list[str]:
    """The journeys of a partner, or one of its streams, that began in that time; oldest first."""
    found: set[str] = set()
    while page := ledger().search(partner=partner, stream=stream, since=since, until=until, limit=_PAGE):
        found |= {one.journey for one in page if _JOURNEY.fullmatch(one.journey)}
        if len(page) < _PAGE:
            break
        reached = page[-1].opened + timedelta(microseconds=1)  # those of the same moment come twice: none is left out
        if until is not None and reached >= until:
            raise ConfigurationError(f"more than {_PAGE} journeys began at the same moment; name a stream or journeys")
        until = reached
    return sorted(found)


def export(journeys: Sequence[str], to: Path, *, with_bytes: bool, by: str) -> Exported:
    """Write the bundle of these journeys, as they stood when this began; whole or not at all. ``by``: who asks, as stated.

    Raises ``ConfigurationError`` for a place that is taken, and what sealing the ledger raises.
    """
    own = f"evidence.{new_journey()}"
    with BundleWriter(to) as bundle:
        asked = {"journeys": len(journeys), "with_bytes": with_bytes, "by": by}
        (begun,) = ledger().append([Entry(own, "exporting", asked)])
        told, heads, entries = Exported(len(journeys)), hashlib.sha256(), list[int]()
        for story in _stories(journeys, begun.seq, bundle):
            told.entries += len(story.steps)
            heads.update(story.heads.encode())
            entries += [step.seq for step in story.steps]
            for name, text in story.texts().items():
                bundle.text(name, [text])
            if with_bytes:
                _documents(story, bundle, told)
        # How far every journey has come and which bytes are not there, before it is sealed: nobody can leave out any unseen afterwards.
        found = {"heads": heads.hexdigest(), **({"lacking": sorted(told.without)} if with_bytes else {})}
        ledger().append([Entry(own, "exported", found, stage=Stage.CLEARED)])
        mark = list(ledger().links([own]))
        bundle.text(EXPORT, (f"{link.line}\n" for link in mark))
        seal()
        needed = []
        for made in _over([*entries, *(link.seq for link in mark)]):
            names, facts = checkpoint_names(made.number), made.facts
            bundle.text(names[0], [made.text])
            bundle.text(names[1], (f"{digest}\n" for digest in ledger().hashes(facts["first"], facts["last"])))
            needed.append(made.number)
        bundle.text(PAGE, _page(journeys, mark, bundle))
        manifest = Manifest(tuple(journeys), tuple(needed), bundle_page.VERSION, dict(bundle.members))
        bundle.text(MANIFEST, [manifest.text])
    return told


def _stories(journeys: Sequence[str], last: int, bundle: BundleWriter) -> Iterator[Story]:
    """One journey after the other, as it stood when the export began; its entries are written into the bundle."""
    for id in journeys:
        links = _links(id, last)
        bundle.text(extract_name(id), (f"{link.line}\n" for link in links))
        yield _story(id, links)


def _over(entries: Iterable[int]) -> list[Checkpoint]:
    """The seals that entries are under, by their numbers in the ledger; in order."""
    seals = ledger().checkpoints()
    ends = [made.facts["last"] for made in seals]
    return [seals[place] for place in sorted({bisect.bisect_left(ends, seq) for seq in entries})]


def _links(id: str, last: int) -> list[Link]:
    """A journey's entries and those of its parts, up to the ledger's entry ``last``."""
    own = with_texts(list(ledger().links([id], last)))
    parts = ledger().links(_story(id, own).parts[1:], last)
    return [*own, *(link for _, links in groupby(parts, lambda link: link.journey) for link in with_texts(list(links)))]


def _story(id: str, links: Sequence[Link]) -> Story:
    return Story(id, [Step.parse(link.facts, link.hash, link.seq) for link in links])


def _page(journeys: Sequence[str], mark: Sequence[Link], bundle: BundleWriter) -> Iterator[str]:
    here = {name.removeprefix(document_name("")) for name in bundle.members if name.startswith(document_name(""))}
    yield bundle_page.begin(_story(mark[0].journey, mark), len(here))
    for id in journeys:
        yield bundle_page.section(_story(id, _links(id, mark[0].seq)), here)
    yield bundle_page.END


# --------------------------------------------------------------------------------------------- bytes


def _documents(story: Story, bundle: BundleWriter, told: Exported) -> None:
    for digest, places in story.documents.items():
        name = document_name(digest)
        if name in bundle.members:
            continue
        duplicate = story.last("duplicate")
        alike = [story.id] if duplicate is None else [story.id, str(duplicate.body["duplicate_of"])]
        path = _kept_here(alike, digest) or _fetched(digest, places)
        if isinstance(path, str):
            told.lacking.append(f"{digest} of journey {story.id}: {path}")
            told.without.add(digest)
            continue
        if bundle.copy(name, path) != digest:
            raise SpoolError(f"{path}: other bytes stand there than {digest[:16]}…; nothing was exported, run it again")
        told.documents += 1


def _kept_here(journeys: Sequence[str], digest: str) -> Path | None:
    """Where we have the bytes ourselves: in the spool, or in the quarantine under one of these journeys."""
    if spool().holds(digest):
        try:
            return spool().verify(digest)
        except SpoolError:
            return None  # set aside by now: the repository has them
    for kept in filter(None, map(quarantine().content, journeys)):
        with kept.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == digest:
                return kept
    return None


def _fetched(digest: str, places: Sequence[Kept]) -> Path | str:
    """The bytes from the first repository that gives them; else why none does."""
    known = {repository.address: repository for repository in load_repositories(settings().profiles).values()}
    why = "no repository keeps it, and we do not have it any more"
    for address, group in groupby(dict.fromkeys(places), key=lambda place: place.repository):
        if address not in known:
            why = f"{address} is not in repositories.yaml any more"
            continue
        for place in group:
            try:
                with repository_session(known[address]) as session, spool().batch() as batch:
                    found = session.fetch(place.id, place.version, batch).digest
            except RepositoryError as error:
                why = str(error)
                continue
            if found == digest:
                return spool().path(digest)
            why = f"version {place.version} of {place.id} at {address} has other bytes by now"
    return why
