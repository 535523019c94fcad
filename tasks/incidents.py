"""Incidents: cases that belong to no content. A run opens each once, and closes it when its reason is gone.

======================  ============================================================================================
code                    and it is over when
======================  ============================================================================================
done-file-missing       the done file has come, or the file has gone
file-missing            the file has come, or the done file has gone
changed-after-fetch     the newer version of the file has been filed
late                    something has come
host-key-changed        the server shows a key or certificate that is trusted: a person has decided
======================  ============================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from blocks.errors import HostKeyChanged
from blocks.ledger import Case, Entry
from tasks.connections import ledger
from tasks.consignment import Agreed
from tasks.report import tell
from tasks.rules.expected import last_due
from tasks.rules.settle import Readiness, overdue

CHANGED, LATE, OTHER_KEY = "changed-after-fetch", "late", "host-key-changed"
HALVES = frozenset({"done-file-missing", "file-missing"})
DUE = timedelta(days=2)


def case(agreed: Agreed, code: str, reason: str) -> dict[str, Any]:
    """A case for the stream's owner, for the body of an entry."""
    return {
        "code": code,
        "reason": reason,
        "owner": agreed.terms.owner,
        "due": (ledger().now() + DUE).isoformat(),
        "state": "new",
    }


def after_look(agreed: Agreed, readiness: Readiness) -> None:
    """Open what a look at the partner shows to be wrong, and close what is so no more."""
    standing = ledger().cases(partner=agreed.partner, stream=agreed.stream)
    now = ledger().now()
    halves = overdue(readiness, agreed.terms.settle, now)
    for half in halves:
        _open(agreed, half.sighting.journey, half.sighting.file.shown, half.code, half.reason)
    waiting = {half.sighting.journey for half in halves}
    _close(agreed, (one for one in standing if one.code in HALVES and one.journey not in waiting))
    _close(agreed, (one for one in standing if one.code == CHANGED and _filed_anew(agreed, one)))
    _close(agreed, (one for one in standing if one.code == OTHER_KEY))
    if agreed.terms.expect is not None:
        _expect(agreed, [one for one in standing if one.code == LATE], bool(readiness.ready or readiness.waiting))


def other_server(agreed: Agreed, error: HostKeyChanged) -> None:
    """Tell once that a server is not the one we were told to trust. Nothing moves until a person has decided."""
    _open(agreed, f"endpoint.{agreed.partner}.{agreed.terms.endpoint}", agreed.endpoint.address, OTHER_KEY, str(error))


def _expect(agreed: Agreed, standing: list[Case], waits: bool) -> None:
    expected = agreed.terms.expect
    moments = last_due(expected, agreed.timezone, ledger().now()) if expected else None
    if moments is None:
        return
    before, last = moments
    found = ledger().search(partner=agreed.partner, stream=agreed.stream, since=before, limit=100)
    # A file's journey has no dot in its id; what we write about servers, looks and expectations has.
    came = waits or any("." not in one.journey for one in found)
    if came:
        _close(agreed, standing)
    elif not standing:
        told = (
            f"nothing has come on {agreed.key} since {before:%Y-%m-%d %H:%M} UTC; it was expected by {last:%Y-%m-%d %H:%M} UTC"
        )
        _open(agreed, f"expected.{agreed.partner}.{agreed.stream}.{last:%Y%m%dT%H%M}Z", agreed.key, LATE, told)


def _filed_anew(agreed: Agreed, changed: Case) -> bool:
    found = ledger().search(partner=agreed.partner, stream=agreed.stream, name=changed.name, since=changed.opened, limit=100)
    return any(one.name == changed.name and one.journey > changed.journey and one.repository_id for one in found)


def _open(agreed: Agreed, journey: str, name: str, code: str, reason: str) -> None:
    history = ledger().journey(journey)
    stands = next((entry.kind == "incident" for entry in reversed(history) if entry.kind in ("incident", "resolved")), False)
    if stands:
        return
    body = {"partner": agreed.partner, "stream": agreed.stream, "name": name, "case": case(agreed, code, reason)}
    number = sum(entry.kind == "incident" for entry in history)
    (entry,) = ledger().append([Entry(journey, "incident", body, once=f"{journey}/incident/{number}")])
    if entry.fresh:
        tell(agreed, code, {"file": name, "reason": reason, "journey": journey})


def _close(agreed: Agreed, over: Iterable[Case]) -> None:
    about = {"partner": agreed.partner, "stream": agreed.stream}
    entries = [Entry(one.journey, "resolved", {**about, "case": {"state": "resolved"}}) for one in over]
    if entries:
        ledger().append(entries)
