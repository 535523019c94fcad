"""Found cases: what a sweep finds to have gone around the sign-off, or to get no further by itself, is a case for a person.

::

    <code>.<the order's journey>     bypass, planted, edited, ...: one for each order
    sweep.<code>                     what belongs to no order: deployment, automation, mirror, sender, ...
    stuck.<the order's journey>      a run that failed, was cancelled, or was woken in vain; over when the order got further

The cases have journeys of their own: the order's may have one about its delivery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from blocks.errors import ConfigurationError
from blocks.ledger import CaseState, Entry, Recorded
from blocks.values import DUE_WITHIN, Stage
from tasks.cases import OPS, opened, state_of
from tasks.compare import SWEPT, found_key
from tasks.connections import ledger
from tasks.order import load_release
from tasks.rules.reconcile import AROUND, STOPPED, Finding, Remedy

_STUCK = "stuck."


def open_found_case(finding: Finding, about: Mapping[str, Any], journey: str) -> None:
    """Open a case for what a person must look at, once for each finding; ``about`` is empty where it belongs to no order."""
    if finding.code in STOPPED and finding.remedy is Remedy.NONE:
        place = f"{_STUCK}{journey}"
    elif finding.code in AROUND:
        place = f"{finding.code}.{journey}" if about else f"sweep.{finding.code}"
    else:
        return
    once = f"case/{found_key(finding)}"
    if ledger().holder(once) is not None:
        return
    told = {name: about[name] for name in ("partner", "stream", "order") if name in about}
    name = str(about.get("order") or finding.code)
    if state_of(ledger().journey(place)) in (None, CaseState.RESOLVED):
        entry = Entry(place, "incident", {**told, "name": name, "case": _case(finding, about)}, once, Stage.CLEARED)
    else:  # whoever has it goes on having it
        entry = Entry(place, "found", {**told, "case": {"reason": finding.message}}, once, Stage.CLEARED)
    ledger().append([entry])


def _case(finding: Finding, about: Mapping[str, Any]) -> dict[str, Any]:
    owner, within = _owner(about)
    return opened(finding.code, finding.message, owner, within)


def _owner(about: Mapping[str, Any]) -> tuple[str, timedelta]:
    """Whose it is and by when it is to be resolved, as its stream says."""
    if not about:
        return OPS, DUE_WITHIN
    try:
        agreed = load_release(str(about["partner"]), str(about["stream"]))
    except ConfigurationError:
        return OPS, DUE_WITHIN  # told where the mirrors are compared
    return agreed.terms.owner or agreed.profile.owner, agreed.terms.resolve_within


def close_found_cases() -> None:
    """Close the cases of orders that were stuck, and got further since."""
    standing = [case.journey for case in ledger().cases() if case.code in STOPPED and case.journey.startswith(_STUCK)]
    if not standing:
        return
    orders = ledger().journeys([journey.removeprefix(_STUCK) for journey in standing])
    histories = ledger().journeys(standing)
    entries = [
        Entry(journey, "resolved", {"case": {"state": CaseState.RESOLVED.value}}, stage=Stage.CLEARED)
        for journey in standing
        if _further(orders[journey.removeprefix(_STUCK)], histories[journey])
    ]
    ledger().append(entries)


def _further(order: Sequence[Recorded], case: Sequence[Recorded]) -> bool:
    """True if the order made a step of its own since it was last found to be stuck."""
    found = max(entry.seq for entry in case if entry.kind in ("incident", "found"))
    return any(entry.seq > found and entry.kind not in SWEPT for entry in order)
