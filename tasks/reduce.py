"""Reduce: our own records end too. Closed journeys are exported, sealed, to where the checkpoints are filed; a tombstone of each stays.

Only files' journeys of inbound streams whose profile says ``reduce_after``: what later documents, holds and auditors ask of those is
known (``blocks.tombstones.KEPT``). Releases, sets, transfers of other programs and our registers stay whole.

The order makes crashes safe: intent -> export filed -> read back -> holds asked once more -> tombstones, in one transaction with
the note that it is done. The same journeys make the same export to the byte, so what broke off goes on under the same name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import NAMESPACE_URL, uuid5

from blocks.canonical import sha256
from blocks.chain import Link
from blocks.errors import (
    ChainBroken,
    ConfigurationError,
    DocumentChanged,
    JourneyReduced,
    LeaseLost,
    RepositoryError,
    SenderError,
    SpoolError,
)
from blocks.ledger import Entry, Recorded
from blocks.profile import CheckpointTerms, load_checkpoints, load_partner, partners
from blocks.repositories.base import Repository
from blocks.settings import settings
from blocks.tombstones import GONE, REDUCED, Sealed, export, over, proven, reread, texts_in, tombstone
from blocks.values import AtEnd, Filed, Filing, Inbound, Stage
from tasks.checkpoint import sealed_and_filed, sealing
from tasks.clean_up import Swept, alone, family_of
from tasks.connections import ledger, quarantine, repository_session, spool
from tasks.holds import Bar, Gate, configured
from tasks.retrying import task
from tasks.rules.holding import REMOVED
from tasks.rules.removal import NOT_REMOVED, REMOVING

REGISTER = "exports"
"""The journey under which all exports stand."""
EXPORTING, EXPORTED, GIVEN_UP = "exporting", "exported", "export-given-up"
FOLDER = "Journeys"
"""Below the folder of the checkpoints."""
BATCH = 200
"""Journeys in one export."""
MOST, LOOKED_AT = 20_000, 100_000
"""Journeys of one stream that one clean-up reduces, and looks at; the next goes on."""
DOCUMENTED = frozenset({"filed", "duplicate"})
"""Entries after which a document has a journey's bytes."""


@dataclass(frozen=True, slots=True)
class _Due:
    """A stream whose closed journeys are reduced."""

    partner: str
    stream: str
    terms: Inbound
    profile: str
    """Digest of the profile."""
    before: datetime
    """What was recorded since then keeps a journey whole."""

    @property
    def name(self) -> str:
        return f"{self.partner}/{self.stream}"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where exports go, and up to which entry the ledger is under a checkpoint that is filed there."""

    terms: CheckpointTerms
    repository: Repository
    sealed: int
    removing: frozenset[str]
    """Journeys that share a document of which nobody knew, when this began, what came of its removal."""


@dataclass
class _Tally:
    reduced: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    """Journey -> why it stays whole."""
    away: dict[str, Bar] = field(default_factory=dict)
    """Repositories that did not answer: they are not tried again."""


@task(task_run_name="reduce closed journeys")
def reduce_closed(rehearse: bool = False) -> list[Swept]:
    """Export and reduce what was closed long enough ago, by each stream's ``reduce_after``; ``rehearse``: only say what would be."""
    due, swept = _due()
    if not due:
        return swept
    tallies = {one.name: _Tally() for one in due}
    name = due[0].name
    try:
        place = _place()
        if not rehearse:
            _go_on(due, place, tallies)
        for one in due:
            name = one.name
            _reduce_stream(one, place, tallies[name], rehearse)
    except (
        ConfigurationError,
        RepositoryError,
        SenderError,
        SpoolError,
        ChainBroken,
    ) as error:  # no export can be filed now: the next night goes on
        tallies[name].kept[name] = str(error)
    told = [(f"journeys of {name}", tally) for name, tally in tallies.items() if tally.reduced or tally.kept]
    return [*swept, *(Swept(what, len(tally.reduced), kept=tuple(tally.kept.items())) for what, tally in told)]


def _due() -> tuple[list[_Due], list[Swept]]:
    now, due, problems = ledger().now(), list[_Due](), list[Swept]()
    for partner in partners(settings().profiles):
        try:
            profile = load_partner(partner, settings().profiles)
        except ConfigurationError as error:
            problems.append(Swept(f"journeys of {partner}", kept=((partner, str(error)),)))
            continue
        due += [
            _Due(partner, stream, terms, profile.digest, now - terms.reduce_after)
            for stream, terms in profile.inbound.items()
            if terms.reduce_after is not None
        ]
    return due, problems


def _place() -> _Place:
    agreed = load_checkpoints(settings().profiles)
    if agreed is None:
        raise ConfigurationError(
            "no 'checkpoints' in repositories.yaml: nothing is reduced before its seals and exports are kept elsewhere"
        )
    terms, repository = agreed
    return _Place(terms, repository, sealed_and_filed(terms, repository), _being_removed())


def _being_removed(behind: int = 0) -> frozenset[str]:
    """Journeys that share a document whose removal was begun behind that entry of the ledger, and nobody knows what came of it."""
    begun = ledger().open_intents(REMOVING, (REMOVED, NOT_REMOVED), behind=behind)
    return frozenset(one for journey in begun for one in family_of(journey))


def _go_on(due: Sequence[_Due], place: _Place, tallies: dict[str, _Tally]) -> None:
    """Finish the export that an earlier clean-up began: there is at most one, the newest entry of the register."""
    begun = ledger().newest(REGISTER)
    if begun is None or begun.kind != EXPORTING:
        return
    one = next((one for one in due if one.name == begun.body["of"]), None)
    if one is None:
        _give_up(begun, "the stream's profile says nothing of 'reduce_after' any more")
    else:
        _reduce(one, list(begun.body["journeys"]), place, tallies[one.name], begun)


def _reduce_stream(one: _Due, place: _Place, tally: _Tally, rehearse: bool) -> None:
    # what is to be removed first is not even looked at: it stays for years
    awaiting = (DOCUMENTED, REMOVED) if _removes(one.terms) else None
    rows, looked_at = ledger().closed(one.partner, one.stream, one.before, None, BATCH, awaiting=awaiting), 0
    while rows and len(tally.reduced) < MOST:
        if looked_at >= LOOKED_AT:
            tally.kept[one.name] = f"so many have to stay whole that only the oldest {looked_at} were looked at"
            return
        journeys = [row.journey for row in rows]
        if rehearse:
            tally.reduced += _sift(one, journeys, place, tally)
        else:
            _reduce(one, journeys, place, tally)
        looked_at += len(rows)
        rows = ledger().closed(one.partner, one.stream, one.before, rows[-1], BATCH, awaiting=awaiting)


def _removes(terms: Inbound) -> bool:
    """True if documents of the stream are ours to remove when their retention ends."""
    retention = terms.target.retention
    return retention is not None and retention.at_end is AtEnd.REMOVE


# --------------------------------------------------------------------------------------------- which may be reduced


def _sift(one: _Due, journeys: Sequence[str], place: _Place, tally: _Tally) -> list[str]:
    """Those of these that may be reduced; the others are noted with the reason."""
    links, removing = ledger().chains(journeys), place.removing | _being_removed(place.sealed)
    kept = {journey: reason for journey in journeys if (reason := _stays(one, journey, links[journey], place))}
    kept |= dict.fromkeys(
        (journey for journey in journeys if journey in removing),
        "its document is being removed, and nobody knows yet what came of that",
    )
    asked = [journey for journey in journeys if journey not in kept]
    kept |= {journey: bar.reason for journey, bar in Gate(tally.away).bars(asked).items()}
    tally.kept |= kept
    return [journey for journey in journeys if journey not in kept]


def _stays(one: _Due, journey: str, links: Sequence[Link], place: _Place) -> str:
    """Why a journey stays whole whatever its repository says; "" if nothing is known."""
    try:
        whole = bool(links) and links[-1].kind != REDUCED and over(proven(links))
    except ChainBroken as error:
        return str(error)
    if not whole or links[-1].at >= one.before:
        return "it is not closed, its case is open, or something was recorded about it just now"
    if links[-1].seq > place.sealed:
        return "no checkpoint that is filed has sealed all of it yet"
    if quarantine().about(journey) is not None:
        return "its bytes are still in the quarantine"
    kinds = {link.kind for link in links}
    if _removes(one.terms) and kinds & DOCUMENTED and REMOVED not in kinds:
        return "its document is to be removed by us when its retention ends: that is recorded first"
    return ""


# --------------------------------------------------------------------------------------------- exporting


def _reduce(one: _Due, journeys: list[str], place: _Place, tally: _Tally, begun: Recorded | None = None) -> None:
    """Export some journeys and leave their tombstones. ``begun``: the intent of an earlier try."""
    with alone(*journeys) as held:
        if held is None:
            tally.kept |= dict.fromkeys(journeys, "somebody works on it, or on one that would be exported with it")
            return
        free = _sift(one, journeys, place, tally)
        if begun is not None and free != journeys:
            _give_up(begun, f"{len(journeys) - len(free)} of its {len(journeys)} journeys have to stay whole now")
            begun = None
        if not free:
            return
        links = ledger().chains(free)
        tombs = _sealed([links[journey] for journey in free], place)
        text = export([(links[tomb.tombstone.journey], tomb) for tomb in tombs])
        digest = sha256(text)
        facts = {"name": f"journeys-{digest[:16]}.jsonl", "digest": digest, "repository": place.repository.address}
        if begun is not None and begun.body["export"] != facts:
            _give_up(begun, "its tombstones were sealed by another key, or it was to go elsewhere")
            begun = None
        if begun is None:
            about = {"of": one.name, "export": facts, "journeys": free}
            begun = ledger().append([Entry(REGISTER, EXPORTING, about, stage=Stage.CLEARED)])[0]
        facts["id"] = _file(place, facts["name"], text, digest)
        if bars := Gate(tally.away).bars(free):  # filing took its time
            tally.kept |= {journey: bar.reason for journey, bar in bars.items()}
            _give_up(begun, f"{len(bars)} of its {len(free)} journeys were put on hold meanwhile, or nobody can tell")
            return
        policy = {"reduce_after_days": one.terms.reduce_after.days if one.terms.reduce_after else None, "profile": one.profile}
        done = Entry(REGISTER, EXPORTED, {"of": one.name, "export": facts, "journeys": len(free)}, stage=Stage.CLEARED)
        try:
            ledger().reduce(tombs, facts, policy, done, held.lease)
        except LeaseLost as error:
            tally.kept |= dict.fromkeys(free, str(error))
            _give_up(begun, str(error))
            return
    tally.reduced += free


def _give_up(begun: Recorded, reason: str) -> None:
    """What was filed of it stays where it is: it holds nothing that the ledger does not, and no tombstone names it."""
    ledger().append([Entry(REGISTER, GIVEN_UP, {"export": begun.body["export"], "reason": reason}, stage=Stage.CLEARED)])


def _sealed(journeys: Sequence[Sequence[Link]], place: _Place) -> list[Sealed]:
    with sealing("tombstone", place.terms.public_key) as (sign, key):
        tombs = [tombstone(links, key) for links in journeys]
        return [Sealed(tomb, sign(tomb.record.encode("ascii"))) for tomb in tombs]


def _file(place: _Place, name: str, text: str, digest: str) -> str:
    """File an export and read it back; its id. Filed again, nothing is doubled: its journey is made from its bytes."""
    with spool().batch() as batch:
        sink = batch.open()
        sink.write(text.encode("ascii"))
        made = sink.finish()
    folder = (*place.terms.folder.strip("/").split("/"), FOLDER)
    journey = str(uuid5(NAMESPACE_URL, f"export/{digest}"))
    filing = Filing(journey, name, folder, spool().path(digest), digest, made.size, "application/x-ndjson")
    with repository_session(place.repository) as session:
        (filed,) = session.file([filing])
        if not isinstance(filed, Filed):
            raise RepositoryError(
                f"{name} could not be filed at {place.repository.address}: {filed.reason}; mend 'checkpoints' in repositories.yaml. "
                "The journeys stay whole"
            )
        with spool().batch() as batch:
            found = session.fetch(filed.id, filed.version, batch).digest
    if found != digest:
        raise DocumentChanged(
            f"{name} at {place.repository.address}, document {filed.id}: other bytes stand there than were filed ({found[:16]}…); "
            "find out who changed it, and remove it there. The journeys stay whole"
        )
    return filed.id


# --------------------------------------------------------------------------------------------- reading again


def with_texts(links: Sequence[Link]) -> list[Link]:
    """A journey's entries with their texts: of one that was reduced, those in its export, fetched and compared.

    Raises ``RepositoryError`` or ``ConfigurationError`` where it cannot be had, ``ChainBroken`` where it is not what was filed.
    """
    if not links or links[-1].kind != REDUCED:
        if any(link.record == GONE for link in links):
            raise JourneyReduced(f"journey {links[-1].journey}: it was reduced in this very moment; run it again")
        return list(links)
    filed = links[-1].facts["body"]["export"]
    digest = str(filed["digest"])
    if not spool().holds(digest):
        with repository_session(configured(str(filed["repository"]))) as session, spool().batch() as batch:
            found = session.fetch(str(filed["id"]), None, batch).digest
        if found != digest:
            raise ChainBroken(
                f"{filed['name']} at {filed['repository']}, document {filed['id']}: is not what was filed any more"
            )
    return reread(links, texts_in(spool().verify(digest), links[-1].journey))
