"""Watch: whether a document that we delivered was picked up, told by its absence.

::

    proven: seen under its name ──look──▶ not listed ──look, later──▶ still not listed: picked up
                    ▲                         └──look──▶ listed after all: nothing was
                    └─ a listing that fails or is not whole, another folder, a file of ours in its place: nothing is told

A file that somebody moves away by mistake looks the same; so it is told as seen, never as what the partner said.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from blocks.endpoints.base import EndpointSession
from blocks.errors import ConfigurationError, EndpointError, SendRefused, TransferIncomplete
from blocks.outbound import Package, canonical
from blocks.profile import load_partner
from blocks.sender import PickedUp, Watched
from blocks.shares import Share
from blocks.values import FileKind
from deployments.sender.delivery import connected
from deployments.sender.lading import Place, place_of
from deployments.sender.store import Parcel, Step, Store
from deployments.sender.turns import Turns

APART = timedelta(minutes=10)
"""Between the two looks that find a file gone: a folder that is swapped or mounted anew is back by then."""
REMEMBERED = timedelta(days=7)
"""So long a first look is remembered, however seldom the sweep comes."""
COARSE = timedelta(minutes=1)
"""So much earlier than our file a server may tell its folder's time, which some tell without seconds."""


class Watch:
    """Looks for what was delivered, in folders where the sender itself has put it, and at nothing else there."""

    def __init__(self, store: Store, profiles: Path, apart: timedelta = APART) -> None:
        self._store, self._profiles, self._apart = store, profiles, apart
        self._gone: dict[tuple[str, str, bytes], datetime] = {}
        """First seen gone. Not written down: a sender that starts anew looks twice again."""
        self._turns = Turns()

    def look(self, package: Package) -> PickedUp:
        """Tell of each document that was delivered. Raises ``SendRefused`` where nothing of it was, or its pickup is not agreed."""
        with self._turns.alone(package.digest, "pickup"):
            terms = load_partner(package.partner, self._profiles)
            leaving = terms.outbound.get(package.stream)
            if leaving is None or leaving.recording.picked_up_within is None:
                raise SendRefused(f"{package.partner}/{package.stream}: nobody agreed that pickups are looked for")
            if not self._store.parcels(package.digest):
                raise SendRefused(f"package {package.digits}: nothing of it was sent from here")
            files: list[Watched] = []
            problems: list[str] = []
            for number, told in enumerate(package.destinations):
                parcels = [
                    parcel
                    for parcel in self._store.parcels(package.digest, canonical(told.facts))
                    if parcel.source is not None and parcel.step.stood
                ]
                missing: list[Parcel] = []
                try:
                    place = place_of(package, told, leaving.destinations, terms.place)
                    missing = self._missing(place, parcels)
                except (EndpointError, SendRefused, ConfigurationError) as error:
                    problems.append(str(error))
                files += [Watched(number, one.name, self._since(one) if one in missing else None) for one in parcels]
            return PickedUp(tuple(files), "; ".join(problems))

    def _missing(self, place: Place, parcels: list[Parcel]) -> list[Parcel]:
        """Those that stood there, by the sender's own record, and are not listed now. Raises ``EndpointError`` if that cannot be told."""
        if isinstance(place.endpoint, Share):
            raise SendRefused(
                f"{place.endpoint.address}: nobody takes anything away from a share; no pickup is ever seen there"
            )
        with connected(place.endpoint, place.pins) as session:
            changed = _changed(session, place)
            standing = {file.name for file in session.look(place.folder)}
            if session.unread.count:
                raise TransferIncomplete(f"{place.endpoint.address}: not all of the listing of {place.folder} can be read")
        for parcel in parcels:
            if parcel.name in standing:
                self._gone.pop(_key(parcel), None)
        return [parcel for parcel in parcels if parcel.name not in standing and self._can_tell(parcel, changed)]

    def _can_tell(self, parcel: Parcel, changed: datetime) -> bool:
        """It was seen there, in this very folder, and nothing of ours has taken its place."""
        if parcel.step is not Step.PROVEN or parcel.modified is None or self._store.replaced(parcel):
            return False
        # Whatever removes a file changes its folder. One that was not changed since is another one: what a mount has covered.
        return changed + COARSE >= parcel.modified

    def _since(self, parcel: Parcel) -> datetime | None:
        now = datetime.now(UTC)
        for key in [key for key, first in self._gone.items() if now - first > REMEMBERED]:
            del self._gone[key]
        first = self._gone.setdefault(_key(parcel), now)
        return first if now - first >= self._apart else None


def _changed(session: EndpointSession, place: Place) -> datetime:
    """When the folder was last changed, by the server's clock, as the folder above it tells. Raises ``EndpointError``."""
    above, _, name = place.folder.rstrip("/").rpartition("/")
    found = None
    for entry in session.look(above or ("/" if place.folder.startswith("/") else "")):
        if entry.name == os.fsencode(name) and entry.kind is FileKind.FOLDER:
            found = entry.modified
    if found is None:
        raise TransferIncomplete(
            f"{place.endpoint.address}: the folder above {place.folder} does not list it, as a folder with its time; whether it is "
            "the one that we delivered to cannot be told"
        )
    return found


def _key(parcel: Parcel) -> tuple[str, str, bytes]:
    return parcel.package, parcel.destination, parcel.name
