"""Found cases: what a sweep finds to have gone around the sign-off, or to get no further by itself, is a case for a person.

::

    <code>.<the order's journey>     bypass, planted, edited, ...: one for each order
    sweep.<code>                     what belongs to no order: deployment, automation, mirror, sender, ...
    stuck.<the order's journey>      a run that failed, was cancelled, or was woken in vain; over when the order got further
    stream.<partner>.<stream>        files that were begun and get no further; over when they are through

The cases have journeys of their own: the order's may have one about its delivery.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from blocks.errors import ConfigurationError
from blocks.ledger import CaseState, Entry, Recorded
from blocks.values import DUE_WITHIN, Stage, Succession
from tasks.agreed import load_inbound
from tasks.cases import OPS, opened, state_of
from tasks.compare import SWEPT, found_key
from tasks.connections import ledger
from tasks.order import load_release
from tasks.rules.reconcile import AROUND, STOPPED, Finding, Remedy

_STUCK, _STREAM = "stuck.", "stream."
IN_WORK = timedelta(days=1)
"""So long nothing need be recorded about a file that was begun: a run that broke off, or a repository that is away, is mended by then."""


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


def look_for_stuck_files(patience: timedelta = IN_WORK) -> None:
    """One case for each inbound stream with files that were begun and get no further; and close those of streams that have none."""
    standing = {case.journey for case in ledger().cases() if case.code == "stuck" and case.journey.startswith(_STREAM)}
    before = ledger().now() - patience
    begun = ledger().in_work(before)
    found = dict(_stuck_files(begun, before))
    there = {f"{_STREAM}{partner}.{stream}" for partner, stream, _, _ in begun}  # also those whose profile cannot be read
    over = [
        Entry(journey, "resolved", {"case": {"state": CaseState.RESOLVED.value}}, stage=Stage.CLEARED)
        for journey in sorted(standing - there)
    ]
    ledger().append([entry for journey, entry in found.items() if journey not in standing] + over)


def _stuck_files(begun: Sequence[tuple[str, str, int, str]], before: datetime) -> Iterator[tuple[str, Entry]]:
    """The case's journey, and the entry that opens it."""
    for partner, stream, count, oldest in begun:
        try:
            agreed = load_inbound(partner, stream)
        except ConfigurationError:
            continue  # told where the mirrors are compared
        terms = agreed.terms
        # Files of these may wait for others for as long as it takes, and have cases of their own.
        if terms.sets is not None or terms.transfers is not None or terms.sequence is not Succession.FREE:
            continue
        journey = f"{_STREAM}{partner}.{stream}"
        reason = (
            f"{count} files of {agreed.key} were begun, and nothing was recorded about them since {before:%Y-%m-%d %H:%M} UTC; the "
            f"oldest is journey {oldest}. See what the stream's last run says, and start it again"
        )
        case = opened("stuck", reason, terms.owner, terms.resolve_within)
        about = {"partner": partner, "stream": stream, "name": agreed.key, "oldest": oldest, "case": case}
        history = ledger().journey(journey)
        told = [entry.body["oldest"] for entry in history if entry.kind == "incident"]
        ended = [entry.kind for entry in history if entry.kind in ("incident", "dismissed", "resolved")]
        if told[-1:] == [oldest] and ended[-1:] == ["dismissed"]:
            continue  # a person has closed it, and it is the same still
        yield journey, Entry(journey, "incident", about, f"{journey}/incident/{len(told)}", Stage.CLEARED)


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
