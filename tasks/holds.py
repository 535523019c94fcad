"""Holds: the gate that every clean-up of ours passes, and the holds that people tell us of.

Nothing of a journey is deleted (the original at the partner, bytes in spool and quarantine, the document in the repository) while its
document is under a legal hold, or while nobody can tell whether it is: the repository is away, is not configured any more, or does
not show us the document; or a system that governs the repository has not told its flags lately (``flags``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from blocks.errors import ConfigurationError, JourneyReduced, RepositoryError, RepositoryUnreachable
from blocks.ledger import Entry, Recorded
from blocks.outbound import Package
from blocks.profile import load_partner, load_repositories
from blocks.repositories.base import Repository, RepositorySession
from blocks.settings import settings
from blocks.values import Hold, Stage
from tasks.connections import ledger, repository_session
from tasks.flags import unheard
from tasks.order import document_journey
from tasks.rules.flagging import Rule, kept_by, rules_in_force
from tasks.rules.holding import (
    APPLIED,
    FLAG,
    LIFTED,
    LIFTING,
    ON_ITS_WAY,
    REGISTER,
    TELLING,
    TOLD,
    HoldHere,
    Place,
    in_force,
    kept_at,
    nobody_knows,
    same_bytes,
    texts,
)

MANY = 10_000


@dataclass(frozen=True, slots=True)
class Bar:
    """Why nothing of a journey may be deleted now."""

    reason: str
    away: bool = False
    """The repository does not answer: it may in a minute."""


class Gate:
    """What one clean-up may delete. Every document is asked about once; make a new gate for the next clean-up.

    ``away``: repositories that did not answer (address -> bar); given to several gates, one that is away is not tried by each.
    ``orders``: the only ones whose releases can matter (their journeys); None: all that were ever made.
    """

    def __init__(self, away: dict[str, Bar] | None = None, orders: Iterable[str] | None = None) -> None:
        self._answers: dict[Place, Bar | None] = {}
        self._away = {} if away is None else away
        self._only = None if orders is None else sorted(orders)

    def bars(self, journeys: Iterable[str]) -> dict[str, Bar]:
        """The journeys of these that nothing may be deleted of, and why."""
        wanted = list(dict.fromkeys(journeys))
        histories = with_same_bytes(wanted)
        places = {journey: kept_at(history) for journey, history in histories.items()}
        self._ask({place for some in places.values() for place in some})
        found = {}
        for journey in wanted:
            for one in (journey, *sharers(journey, histories)):
                if bar := self._bar(one, histories[one], places[one]):
                    found[journey] = bar
                    break
        return found

    def kept_digests(self, digests: Sequence[str]) -> set[str]:
        """The bytes of these that must stay: some journey's that nothing may be deleted of, or of a release or what tells of it."""
        journeys = {digest: [row.journey for row in ledger().search(digest=digest, limit=MANY)] for digest in digests}
        released = {digest: self._released.get(digest, {}) for digest in digests} if digests else {}
        self._ask({place for orders in released.values() for place in orders.values() if place})
        barred = self.bars(journey for some in (*journeys.values(), *released.values()) for journey in some)
        return {
            digest
            for digest, some in journeys.items()
            if any(journey in barred for journey in (*some, *released[digest]))
            or len(some) >= MANY
            or any(self._answers[place] for place in released[digest].values() if place)
        }

    @cached_property
    def packages_over(self) -> Mapping[str, Package]:
        """Digest -> package, of all whose order is over."""
        over = [history for history in self._orders.values() if any(entry.kind == "closed" for entry in history)]
        frozen = [Package.parse(str(entry.body["package"])) for told in over for entry in told if entry.kind == "frozen"]
        return {package.digest: package for package in frozen}

    def _bar(self, journey: str, history: Sequence[Recorded], places: Sequence[Place]) -> Bar | None:
        if here := self._here.get(journey):
            return Bar(f"on hold: {', '.join(hold.name for hold in here.values())}")
        if rule := kept_by(history, self._rules, self._now):
            return Bar(f"must be kept for {rule.days} days in {rule.folder}, by {rule.by}")
        if nobody_knows(history):
            return Bar("nobody knows whether it was filed, and so whether it is on hold")
        return next((bar for place in places if (bar := self._answers[place])), None)

    def _ask(self, places: Iterable[Place]) -> None:
        by_repository: dict[str, list[Place]] = {}
        for place in places:
            if place not in self._answers:
                by_repository.setdefault(place.repository, []).append(place)
        for address, every in by_repository.items():
            unheard = self._unheard.get(address) or self._unheard.get("")  # asked first: what is flagged now is known after it
            self._answers |= {place: self._flagged[place] for place in every if place in self._flagged}
            some = [place for place in every if place not in self._flagged]
            if unheard or address in self._away or address not in self._repositories:
                bar = unheard or self._away.get(
                    address, Bar(f"{address}: is not in repositories.yaml any more; nobody can ask it for holds")
                )
                self._answers |= dict.fromkeys(some, bar)
                continue
            try:
                with (
                    repository_session(self._repositories[address]) as session,
                    closing(session.holds_of([place.id for place in some])) as answers,
                ):
                    for place, told in zip(some, answers, strict=True):
                        if isinstance(told, RepositoryUnreachable):
                            raise told  # about the others nothing more is asked
                        self._answers[place] = _bar(told)
            except RepositoryError as error:  # it could not be signed in to, or is away
                self._away[address] = Bar(f"cannot be asked for holds: {error}", away=True)
                self._answers |= {place: self._away[address] for place in some if place not in self._answers}

    @cached_property
    def _unheard(self) -> Mapping[str, Bar]:
        return {address: Bar(why, away=True) for address, why in unheard().items()}

    @cached_property
    def _register(self) -> Sequence[Recorded]:
        return ledger().journey(REGISTER)

    @cached_property
    def _held(self) -> Mapping[str, Mapping[str, HoldHere]]:
        return in_force(self._register)

    @cached_property
    def _histories(self) -> Mapping[str, Sequence[Recorded]]:
        """Of all that are on hold here."""
        return with_same_bytes(sorted(self._held))

    @cached_property
    def _here(self) -> Mapping[str, Mapping[str, HoldHere]]:
        found: dict[str, dict[str, HoldHere]] = {journey: dict(holds) for journey, holds in self._held.items()}
        for journey, holds in self._held.items():
            for one in sharers(journey, self._histories):  # its document is that one's
                found[one] = {**holds, **found.get(one, {})}
        return found

    @cached_property
    def _flagged(self) -> Mapping[Place, Bar]:
        """Documents that governance systems have on hold, whoever's journeys they are: such a system knows documents, and no journeys."""
        return {
            place: Bar(f"on hold: {', '.join(hold.name for hold in holds.values())}")
            for journey, holds in self._held.items()
            if journey.startswith(FLAG)
            for place in kept_at(self._histories[journey])
        }

    @cached_property
    def _rules(self) -> Sequence[Rule]:
        return list(rules_in_force(self._register).values())

    @cached_property
    def _now(self) -> datetime:
        return ledger().now()

    @cached_property
    def _repositories(self) -> dict[str, Repository]:
        return _repositories()

    @cached_property
    def _orders(self) -> Mapping[str, Sequence[Recorded]]:
        return ledger().journeys(
            ledger().begun("ordered", datetime.fromtimestamp(0, UTC)) if self._only is None else self._only
        )

    @cached_property
    def _released(self) -> dict[str, dict[str, Place | None]]:
        """Digest -> the orders that released it, and the document that each took it from (None: the order wrote it); and the transfers
        of others that it tells of. Those bytes passed through the spool too."""
        found: dict[str, dict[str, Place | None]] = {}
        recorded = ledger().open_intents("recorded", ()) if self._only is None else ()
        transfers = [one for one in recorded if one not in self._orders]
        for journey, history in {**self._orders, **ledger().journeys(transfers)}.items():
            for digest in texts(history):
                found.setdefault(digest, {})[journey] = None
            for entry in history:
                if entry.kind == "frozen":
                    package = Package.parse(str(entry.body["package"]))
                    address = _taken_from(package, bool(entry.body.get("from_record")))
                    for file in package.files:
                        found.setdefault(file.sha256, {})[journey] = Place(address, file.repository_id)
        return found


def _bar(told: tuple[Hold, ...] | RepositoryError) -> Bar | None:
    """What a repository's answer about a document comes to."""
    if isinstance(told, RepositoryError):
        return Bar(f"cannot be asked for holds: {told}")
    return Bar(f"on hold: {', '.join(hold.name for hold in told)}") if told else None


def with_same_bytes(journeys: Sequence[str]) -> dict[str, list[Recorded]]:
    """The histories of journeys, as far as they tell of holding (without ``ON_ITS_WAY``), and of all whose documents hold their bytes,
    however many steps away: a part of a table may be the same bytes as an earlier document."""
    found: dict[str, list[Recorded]] = {}
    wanted = set(journeys)
    while wanted:
        read = ledger().journeys(sorted(wanted), without=ON_ITS_WAY)
        found |= {one: read.get(one, []) for one in wanted}
        wanted = {other for one in wanted for other in same_bytes(found[one])} - found.keys()
    return found


def sharers(journey: str, histories: Mapping[str, Sequence[Recorded]]) -> tuple[str, ...]:
    """Other journeys whose documents hold a journey's bytes, of what ``with_same_bytes`` found."""
    found = {journey: None}
    for one in (waiting := [journey]):
        fresh = [other for other in same_bytes(histories[one]) if other not in found]
        found |= dict.fromkeys(fresh)
        waiting += fresh
    return tuple(found)[1:]


def _repositories() -> dict[str, Repository]:
    """Address -> repository, of all that are configured."""
    return {repository.address: repository for repository in load_repositories(settings().profiles).values()}


def _taken_from(package: Package, from_record: bool) -> str:
    """The address of the repository that a package was taken from: as it was written down with its documents. Of one that was never
    asked about, by what is agreed now; and one that nobody can ask where that is not known any more."""
    partner, stream = package.partner, package.stream
    written = (entry for entry in ledger().journey(document_journey(package, 1)) if entry.kind == "packaged")
    if packaged := next(written, None):
        return str(packaged.body["repository"])
    try:
        terms = load_partner(partner, settings().profiles).outbound.get(stream)
        name = (terms.recording.repository if from_record else terms.gather.repository) if terms else ""
        repository = load_repositories(settings().profiles).get(name)
    except ConfigurationError:
        repository = None
    return repository.address if repository else f"the repository of {partner}/{stream}"


# --------------------------------------------------------------------------------------------- what people tell us


def apply_hold(journey: str, name: str, comment: str, by: str) -> list[str]:
    """Put a journey on hold: here at once, and in the repositories that keep its document. Answers what could not be told yet."""
    _known(journey)
    name = before.name if (before := _held(journey, name)) else name
    _record(APPLIED, journey, {"hold": name, "comment": comment, "by": by})
    return tell_hold(HoldHere(journey, name, comment, by))


def tell_hold(hold: HoldHere) -> list[str]:
    """Tell a hold that is in force here where it is not known yet. Answers what could not be told; doing it again changes nothing."""
    problems, told, stood = [], [], []
    for place in untold(hold):
        try:
            with repository_session(configured(place.repository)) as session:
                if hold.journey.startswith(FLAG) and _stood(hold, place, session):
                    stood.append(place.facts)
                else:
                    session.apply_hold(place.id, hold.name, hold.comment)
            told.append(place.facts)
        except (RepositoryError, ConfigurationError) as error:
            problems.append(str(error))
    if told:
        _record(TOLD, hold.journey, {"hold": hold.name, "places": told, **({"stood": stood} if stood else {})})
    return problems


def _stood(hold: HoldHere, place: Place, session: RepositorySession) -> bool:
    """True if one of a flag's name stands there and is none of ours; if not, it is written down that it is ours from now on."""
    if any(entry.kind == TELLING and entry.body["at"] == place.facts for entry in _since_applied(hold.journey)):
        return False  # begun before: what stands there may be what came of it
    alike = [one for one in holds_here() if one.name.casefold() == hold.name.casefold() and place in one.told]
    if alike:
        stood = all(place in one.stood for one in alike)
    else:
        stood = any(found.name.casefold() == hold.name.casefold() for found in session.holds(place.id))
    if not stood:
        ledger().append([Entry(hold.journey, TELLING, {"hold": hold.name, "at": place.facts})])
    return stood


def _since_applied(journey: str) -> Sequence[Recorded]:
    """A flag's entries since it was set, the last time."""
    history = ledger().journey(journey)
    return history[max(n for n, entry in enumerate(history) if entry.kind == APPLIED) :]


def untold(hold: HoldHere) -> tuple[Place, ...]:
    """Where the journey's document is kept by now, and the hold is not known."""
    return tuple(place for place in _places(hold.journey) if place not in hold.told)


def lift_hold(journey: str, name: str, comment: str, by: str) -> None:
    """Lift a hold, in the repositories first: as long as one of them cannot be told, it stays in force here, and the next clean-up
    puts it back into those that were told. Raises ``ConfigurationError`` for one that was not set here."""
    _known(journey)
    held = _held(journey, name)
    if held is None:
        raise ConfigurationError(
            f"{journey}: no hold {name!r} was set here; 'countersign hold list {journey}' shows what it is under, and what a repository "
            "set itself is lifted there"
        )
    name = held.name
    if places := _places(journey):
        _record(LIFTING, journey, {"hold": name, "by": by})
    alike = [hold.journey for hold in holds_here() if hold.name.casefold() == name.casefold() and hold.journey != journey]
    others = {place for one in alike for place in _places(one)}  # another version of the document, say, is on that hold still
    for place in places:
        if place not in others and place not in held.stood:
            with repository_session(configured(place.repository)) as session:
                session.lift_hold(place.id, name)
    _record(LIFTED, journey, {"hold": name, "comment": comment, "by": by})


def _held(journey: str, name: str) -> HoldHere | None:
    return in_force(ledger().journey(REGISTER)).get(journey, {}).get(name.casefold())


def holds_here() -> list[HoldHere]:
    """Every hold that we were told of and that is in force."""
    return [hold for holds in in_force(ledger().journey(REGISTER)).values() for hold in holds.values()]


def holds_there(journey: str) -> dict[Place, tuple[Hold, ...]]:
    """What the repositories say of a journey's document. Raises ``RepositoryError`` where one cannot be asked."""
    _known(journey)
    found = {}
    for place in _places(journey):
        with repository_session(configured(place.repository)) as session:
            found[place] = session.holds(place.id)
    return found


def _places(journey: str) -> tuple[Place, ...]:
    """Where a journey's document is kept; a duplicate's is the one that its bytes were filed as, a parted table's are its parts'."""
    histories = with_same_bytes([journey])
    return tuple({place: None for one in (journey, *sharers(journey, histories)) for place in kept_at(histories[one])})


def configured(address: str) -> Repository:
    """The repository at an address. Raises ``ConfigurationError`` for one that is not in ``repositories.yaml`` any more."""
    repository = _repositories().get(address)
    if repository is None:
        raise ConfigurationError(f"{address}: is not in repositories.yaml any more; add it, so that it can be asked and told")
    return repository


def _known(journey: str) -> None:
    if journey == REGISTER or not ledger().journey(journey):
        raise ConfigurationError(f"{journey}: no such journey; search with 'countersign ledger search --name ...'")


def _record(kind: str, journey: str, facts: Mapping[str, Any]) -> None:
    """In the journey's own chain, and in the register, in one transaction; in the register alone where the chain is closed."""
    registered = Entry(REGISTER, kind, {"journey": journey, **facts}, stage=Stage.CLEARED)
    try:
        ledger().append([Entry(journey, kind, dict(facts)), registered])
    except JourneyReduced:  # its document may be in the repository for long, and can be put on hold like any other
        ledger().append([registered])
