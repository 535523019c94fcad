"""What is known of partners' servers: kept in the ledger, compared at each visit, told when it changes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from prefect.events import emit_event
from prefect.settings import get_current_settings

from blocks.endpoints.base import TEMPORARY, Endpoint
from blocks.endpoints.probing import clear, probe
from blocks.errors import EndpointError
from blocks.ledger import Case, Entry, Recorded
from blocks.values import Personality, Stage
from tasks.cases import opened
from tasks.connections import ledger
from tasks.rules.personality import Change, changes, merged

MOST_A_DAY = 10
"""Changes of one server that are told in one day."""
STEM = TEMPORARY + b"probe-"
"""How the names of all that is tried begin."""


@dataclass(frozen=True, slots=True)
class Place:
    """An endpoint as its partner's profile names it."""

    partner: str
    name: str
    endpoint: Endpoint
    owner: str = ""
    """Who hears of a change."""

    @property
    def journey(self) -> str:
        """Where the ledger keeps what is known of it, append-only like everything else."""
        return f"personality.{self.partner}.{self.name}"

    @property
    def about(self) -> dict[str, Any]:
        return {"partner": self.partner, "name": self.name, "address": self.endpoint.address}


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger holds of a server."""

    personality: Personality
    since: datetime
    """When the newest of it was written."""


def known(place: Place) -> Known | None:
    """What earlier visits found out; None if there was none at this address."""
    return _known(place, ledger().journey(place.journey))


def _known(place: Place, history: Sequence[Recorded]) -> Known | None:
    told = next((entry for entry in reversed(history) if "personality" in entry.body), None)
    if told is None or told.body["address"] != place.endpoint.address:
        return None  # where the reviewed file names another server, nothing has changed: it is another one
    return Known(Personality.parse(told.body["personality"]), told.at)


def remember(place: Place, seen: Personality) -> tuple[Change, ...]:
    """Add what a visit found out to what is known. What is not as it was becomes a case and an event, and is the answer.

    At most ``MOST_A_DAY`` a day: a greeting that is another one each time, or servers that take turns under one name, would fill the
    ledger. Their case is open anyway.
    """
    history, at = ledger().journey(place.journey), ledger().now()
    before = _known(place, history)
    was = before.personality if before else Personality()
    now = merged(was, seen)
    if before is not None and now == was:
        return ()
    changed = changes(was, seen)
    if sum(entry.kind == "changed" and entry.at.date() == at.date() for entry in history) >= MOST_A_DAY:
        return ()
    facts = {**place.about, "personality": now.facts, "changes": [change.text for change in changed]}
    if changed:
        reason = f"{place.name}: {'; '.join(facts['changes'])}. See 'countersign endpoint show {place.partner} {place.name}'"
        facts["case"] = opened("server-changed", reason, place.owner)
    # The number in the key: of two that see the same at the same moment, one tells it.
    once = f"{place.journey}/{len(history) + 1}"
    kind = "changed" if changed else "learned"
    if not ledger().append([Entry(place.journey, kind, facts, once, Stage.CLEARED)])[0].fresh:
        return ()
    if changed:
        _tell(place, facts["changes"])
    return changed


def _tell(place: Place, changed: Sequence[str]) -> None:
    if not get_current_settings().api.url:
        return  # a command line without a Prefect server: the case is what tells
    emit_event(
        event="countersign.endpoint.changed",
        resource={
            "prefect.resource.id": f"countersign.endpoint.{place.partner}.{place.name}",
            "prefect.resource.name": f"{place.partner}/{place.name}",
        },
        payload={"address": place.endpoint.address, "changes": list(changed), "journey": place.journey},
    )


def accept(place: Place, comment: str, by: str) -> bool:
    """Close the case of a change: somebody has looked at it. False if there is none."""
    if open_case(place) is None:
        return False
    facts = {**place.about, "comment": comment, "by": by, "case": {"state": "resolved"}}
    ledger().append([Entry(place.journey, "accepted", facts, stage=Stage.CLEARED)])
    return True


def open_case(place: Place) -> Case | None:
    """The case of a change that nobody has accepted yet."""
    return next((case for case in ledger().cases(partner=place.partner) if case.journey == place.journey), None)


# --------------------------------------------------------------------------------------------- trying it


def try_out(place: Place, folder: str) -> Personality:
    """Find out by writing into a folder at the partner, and remove what was written. Only ever called because somebody asked.

    What we are about to write there is written down first; what a probe that was killed has left is removed by the next.
    """
    look_after(place)
    place.endpoint.expect(Personality())  # what it could not bear once, it may have learned
    stem = STEM + uuid4().hex[:12].encode()
    _note(place, "probing", {"folder": folder, "stem": stem.decode()})
    try:
        with place.endpoint.session() as session, tempfile.TemporaryDirectory(prefix="countersign-") as scratch:
            try:
                found = probe(session, folder, stem, Path(scratch), ledger().now)
            except EndpointError:
                remember(place, session.personality)  # that we may not rename there, say
                raise
    except EndpointError:
        with suppress(EndpointError):  # the first one says what is wrong
            look_after(place)
        raise
    _note(place, "probed", {"stem": stem.decode()})
    return found


def look_after(place: Place) -> None:
    """Remove what probes that broke off may have left at the partner. Raises ``EndpointError``."""
    history = ledger().journey(place.journey)
    done = {entry.body["stem"] for entry in history if entry.kind == "probed"}
    here = place.endpoint.address
    for begun in history:
        if begun.kind == "probing" and begun.body["stem"] not in done and begun.body["address"] == here:
            with place.endpoint.session() as session:
                clear(session, begun.body["folder"], begun.body["stem"].encode())
            _note(place, "probed", {"stem": begun.body["stem"]})


def _note(place: Place, kind: str, facts: Mapping[str, Any]) -> None:
    ledger().append([Entry(place.journey, kind, {**place.about, **facts}, stage=Stage.CLEARED)])
