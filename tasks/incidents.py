"""Incidents: cases that belong to no content. A run opens each once, and closes it when its reason is gone.

======================  ============================================================================================
code                    and it is over when
======================  ============================================================================================
done-file-missing       the done file has come, or the file has gone
file-missing            the file has come, or the done file has gone
never-settles           the file is finished at last, or has gone
changed-after-fetch     the newer version of the file is through: filed, a duplicate, rejected or superseded
late, missing           what was due has come, or nothing is expected any more; what is late is missing when its grace is over
host-key-changed        the server shows a key or certificate that is trusted: a person has decided
review-not-started      a person has looked at the repository's workflows, and closes it
set-incomplete          the set is whole; or a person closes it, and what came of it is refused (``in_sets``)
removed-meanwhile       a person has had the original filed anew, and closes it
removal-unknown         a person has seen that the document is gone, and closes it
nobody-asked            a person has mended what breaks the runs that ask about cases, and closes it (``review_again``)
not-acknowledged        the partner has acknowledged what was sent (``await_answer``)
answered-no             the partner has acknowledged it after all, or it was sent again and is delivered (``await_answer``)
not-handed-over         the document was handed over after all; or a person gives it up, and closes it (``hand_over``)
not-provisioned         the workspace stands, and the system knows; or a person gives it up, and closes it (``provision``)
key-reused              a person has looked: one key of a system, and two documents (``hand_over``)
handover-in-doubt       a person has looked, and closes it; then it goes on (``hand_over``)
audit-refused           the SIEM takes the event after all; or a person gives it up, and closes it (``audit``)
audit-late              the SIEM takes events again (``audit``)
audit-gap               a person has looked why an event was not told in time, or has vanished, and closes it (``audit``)
flags-unheard           the governance system gives a whole answer again (``govern``)
flags-differ            its flags are in force here and at the repository, and none that it tells no more is left (``govern``)
not-taken               a person has mended what a system refused, and closes it; then it is told again (``onward``)
no-destination          it is clear where a document goes; or a person closes it, and it goes nowhere (``onward``)
telling-in-doubt        a person has looked, and closes it: the system has what it was told (``telling``)
paper-unreadable        it can be read until when the partner's paper is good, or another one is (``onboard``)
paper-not-told          the system was told of it after all; or a person gives it up, and closes it (``onboard``)
not-catalogued          the index has taken what is known of the document after all (``catalogue``)
catalogue-late          the index has been told of all that has changed (``catalogue``)
approval-stopped        somebody is asked after all, or the approval is over (``approvals``)
approval-not-told       the system has taken it after all; or a person gives it up, and closes it (``approvals``)
shown-unsigned          a person has looked who may see the document, and closes it (``approvals``)
failed, cancelled, ...  the order got further (``found_cases``)
bypass, planted, ...    a person knows who went around the sign-off, and how (``found_cases``)
======================  ============================================================================================

A person may close any of them before that ("dismissed"), and the same is not told again. What a sequence waits for at the partner, and
what a person has closed the incident of, is waited for no more (``in_sequence``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prefect import get_run_logger

from blocks.errors import ConfigurationError, HostKeyChanged
from blocks.ledger import Case, Entry, Recorded, first_sight
from blocks.tombstones import REDUCED
from blocks.values import Owned, Sighting, Stage
from tasks.cases import opened
from tasks.connections import ledger
from tasks.consignment import Agreed
from tasks.report import Stream, tell
from tasks.rules.expected import last_due, owed
from tasks.rules.holding import REMOVED
from tasks.rules.reconcile import AROUND, STOPPED
from tasks.rules.settle import Readiness, overdue

CHANGED, LATE, MISSING, OTHER_KEY = "changed-after-fetch", "late", "missing", "host-key-changed"
REMOVED_MEANWHILE = "removed-meanwhile"
"""A document was removed, its retention over, in the very moment in which a new journey came to share it. A person closes it."""
REMOVAL_UNKNOWN = "removal-unknown"
"""A document is not shown since its removal was begun, and nobody can tell whether that is why. A person looks, and closes it."""
WAITING = frozenset({"done-file-missing", "file-missing", "never-settles"})
"""About one file that stands at the partner."""
TRANSFER_INCOMPLETE = "transfer-incomplete"
"""About what another program has left, and of which its log, its file or its acknowledgement has not come."""
NOT_STARTED = "review-not-started"
"""About a document that is filed, and whose agreed workflow was refused or cannot be told to have begun."""
SET_INCOMPLETE = "set-incomplete"
"""About files that belong together, of which some have not come."""
NOT_ACKNOWLEDGED, ANSWERED_NO = "not-acknowledged", "answered-no"
"""About an order that was delivered: the partner's acknowledgement has not come in time, or says no."""
NOBODY_ASKED = "nobody-asked"
"""About the runs that ask people about cases: they break off again and again."""
NOT_HANDED_OVER, KEY_REUSED, HANDOVER_IN_DOUBT = "not-handed-over", "key-reused", "handover-in-doubt"
"""About a document that a system has made: refused, or another one under a key that is taken, or nobody can tell what became of it."""
TELLING_IN_DOUBT = "telling-in-doubt"
"""About what a system was told, and nobody can tell whether it was carried out."""
PAPER_UNREADABLE, PAPER_NOT_TOLD = "paper-unreadable", "paper-not-told"
"""About a document that a partner must provide: nobody can read until when it is good; a system does not take how it stands."""
AUDIT_REFUSED, AUDIT_GAP, AUDIT_LATE = "audit-refused", "audit-gap", "audit-late"
"""About one object's events: the SIEM does not take one; or its own history and what was told of it do not agree. About a whole watch:
the SIEM is told nothing for longer than was agreed."""
FLAGS_UNHEARD, FLAGS_DIFFER = "flags-unheard", "flags-differ"
"""About a governance system: nobody knows what it has flagged now; or a flag is not the same there, here and at the repository."""
NOT_CATALOGUED, CATALOGUE_LATE = "not-catalogued", "catalogue-late"
"""About a search index: it refuses what is known of a document, or could not be told of a change for longer than was agreed."""
NOT_PROVISIONED = "not-provisioned"
"""About a project, deal or case whose workspace cannot be made, is gone, or cannot be told to its system."""
APPROVAL_STOPPED, APPROVAL_NOT_TOLD, SHOWN_UNSIGNED = "approval-stopped", "approval-not-told", "shown-unsigned"
"""About a sensitive document: nobody is asked to sign it; a system does not take it; it was shared, and is shown outside."""
NOT_TAKEN, NO_DESTINATION = "not-taken", "no-destination"
"""About a document that goes onward: a system refused it, or nobody can tell where it goes."""
_OURS = frozenset(
    {
        NOT_PROVISIONED,
        NOT_TAKEN,
        NO_DESTINATION,
        PAPER_UNREADABLE,
        PAPER_NOT_TOLD,
        AUDIT_REFUSED,
        AUDIT_GAP,
        AUDIT_LATE,
        FLAGS_UNHEARD,
        FLAGS_DIFFER,
        NOT_CATALOGUED,
        CATALOGUE_LATE,
        APPROVAL_STOPPED,
        APPROVAL_NOT_TOLD,
        SHOWN_UNSIGNED,
        TELLING_IN_DOUBT,
        NOBODY_ASKED,
        NOT_HANDED_OVER,
        KEY_REUSED,
        HANDOVER_IN_DOUBT,
        NOT_ACKNOWLEDGED,
        ANSWERED_NO,
        CHANGED,
        LATE,
        MISSING,
        OTHER_KEY,
        TRANSFER_INCOMPLETE,
        NOT_STARTED,
        SET_INCOMPLETE,
        REMOVED_MEANWHILE,
        REMOVAL_UNKNOWN,
    }
)
CODES = WAITING | AROUND | STOPPED | _OURS
MOST = 100
"""Incidents about waiting files of one stream that are open at once, the oldest: ten thousand lone files are one thing gone wrong."""
_THROUGH = frozenset({"filed", "duplicate", "marker", "rejected", "superseded"})


@dataclass(frozen=True, slots=True)
class _Incident:
    """What is to be told."""

    journey: str
    name: str
    code: str
    reason: str


class About(Stream, Protocol):
    """What an incident is about: an inbound stream, or a system's handover."""

    @property
    def terms(self) -> Owned: ...


def case(agreed: About, code: str, reason: str) -> dict[str, Any]:
    """A case for the stream's owner, for the body of an entry."""
    return opened(code, reason, agreed.terms.owner, agreed.terms.resolve_within)


def after_look(agreed: Agreed, readiness: Readiness) -> None:
    """Open what a look at the partner shows to be wrong, and close what is so no more."""
    standing = ledger().cases(partner=agreed.partner, stream=agreed.stream)
    _waiting(agreed, readiness, [one for one in standing if one.code in WAITING])
    _close(agreed, (one for one in standing if one.code == CHANGED and _through_anew(agreed, one)))
    _close(agreed, (one for one in standing if one.code == OTHER_KEY))
    _trusted_again(agreed)
    _expect(agreed, readiness, [one for one in standing if one.code in (LATE, MISSING)])


def other_server(agreed: Agreed, error: HostKeyChanged) -> None:
    """Tell once that a server is not the one we were told to trust. Nothing moves until a person has decided."""
    _open(agreed, [_Incident(_server(agreed), agreed.endpoint.address, OTHER_KEY, str(error))])


def _server(agreed: Agreed) -> str:
    return f"endpoint.{agreed.partner}.{agreed.terms.endpoint}"


def _trusted_again(agreed: Agreed) -> None:
    """What a person closed is over now: should the very same key show weeks later, it is told again."""
    journey = _server(agreed)
    if _newest(ledger().journey(journey)) == "dismissed":
        about = {"partner": agreed.partner, "stream": agreed.stream}
        ledger().append([Entry(journey, "resolved", {**about, "case": {"state": "resolved"}}, stage=_over(journey))])


def close(journey: str, comment: str, by: str) -> str:
    """Close an incident because a person says so; its code. Raises ``ConfigurationError`` for what is none, or is over."""
    standing = next((one for one in ledger().cases() if one.journey == journey), None)
    if standing is None:
        raise ConfigurationError(f"{journey}: no open incident; see 'countersign incident list'")
    code = str(standing.code)
    if code not in CODES:
        refused = any(entry.kind == "quarantined" for entry in ledger().journey(journey))
        how = "'countersign quarantine retry' or 'reject' decides it" if refused else "the notes for ops say how it ends"
        raise ConfigurationError(f"{journey}: is a case '{code}' and no incident; {how}")
    about = {"partner": standing.partner, "stream": standing.stream}
    body = {**about, "by": by, "comment": comment, "case": {"state": "resolved"}}
    said = _said_to_be_gone(journey) if code == REMOVAL_UNKNOWN else []
    ledger().append([Entry(journey, "dismissed", body, stage=_over(journey)), *said])
    return code


def _said_to_be_gone(journey: str) -> list[Entry]:
    """What is written of all journeys that shared a document, once a person says that it is gone: its bytes may go too."""
    told = next(entry.body for entry in reversed(ledger().journey(journey)) if entry.kind == REMOVED)
    facts = {key: told[key] for key in ("repository", "repository_id", "removed_as")} | {"outcome": "removed, says a person"}
    family = {one: history for one, history in ledger().journeys(told["family"]).items() if history[-1].kind != REDUCED}
    return [Entry(one, REMOVED, facts, once=f"{one}/{REMOVED}/said") for one in family]


def given_up(journeys: Sequence[str]) -> set[str]:
    """Of files at a partner those that a person has closed the incident of: nobody waits for them any more."""
    return {journey for journey, history in ledger().journeys(journeys).items() if _newest(history) == "dismissed"}


# --------------------------------------------------------------------------------------------- files that wait


def _waiting(agreed: Agreed, readiness: Readiness, standing: list[Case]) -> None:
    """Files that wait for their other half, or are never finished. As many as a person can look at are cases at once."""
    found = overdue(readiness, agreed.terms.settle, ledger().now(), _given_back(readiness, agreed))
    told = {one.journey for one in standing}
    _close(agreed, (one for one in standing if one.journey not in {each.sighting.journey for each in found}))
    news = [
        _Incident(each.sighting.journey, each.sighting.file.shown, each.code, each.reason)
        for each in found
        if each.sighting.journey not in told
    ]
    later = _open(agreed, news, MOST - len(standing))
    if later:
        get_run_logger().warning(
            "%s: %d more files wait for longer than was agreed; they are told when some of the %d open incidents are over",
            agreed.key, later, MOST,
        )  # fmt: skip


def _given_back(readiness: Readiness, agreed: Agreed) -> list[Sighting]:
    """Of old files that look finished, those that were found to be written to whenever they were fetched."""
    since = ledger().now() - agreed.terms.settle.abandoned_after
    old = [one for one in readiness.ready[:MOST] if one.stage is Stage.SIGHTED and one.first_seen <= since]
    histories = ledger().journeys([one.journey for one in old]) if old else {}
    return [one for one in old if any(entry.kind == "unsettled" for entry in histories[one.journey])]


# --------------------------------------------------------------------------------------------- what is expected


def _expect(agreed: Agreed, readiness: Readiness, standing: list[Case]) -> None:
    expected, now = agreed.terms.expect, ledger().now()
    moments = last_due(expected, agreed.timezone, now, agreed.calendar) if expected else None
    if expected is None or moments is None:
        _close(agreed, standing)
        return
    before, last = moments
    found = ledger().search(partner=agreed.partner, stream=agreed.stream, since=before, limit=1000)
    # A file's journey has no dot in its id; what we write about servers, looks and expectations has.
    came = {one.journey for one in found if "." not in one.journey} | {one.journey for one in readiness.ready}
    if readiness.newest is not None:
        came.add(readiness.newest.journey)
    missed = any(entry.kind == "incident" for entry in ledger().journey(_expectation(agreed, before)))
    sights = [first_sight(journey) for journey in came]
    if not owed(sights, before, last, missed):
        came_at, now_due = f"{max(sights):%Y-%m-%d %H:%M} UTC", _expectation(agreed, last)
        _close(agreed, (one for one in standing if one.journey == now_due), f"it came late, at {came_at}")
        _close(agreed, (one for one in standing if one.journey != now_due), f"nothing came for it; the next came at {came_at}")
        return
    code = MISSING if expected.grace and now >= last + expected.grace else LATE
    _close(
        agreed, (one for one in standing if code is MISSING and one.code == LATE), "its time of grace is over: it is missing"
    )
    told = f"nothing has come on {agreed.key} since {before:%Y-%m-%d %H:%M} UTC; it was expected by {last:%Y-%m-%d %H:%M} UTC"
    if missed:
        told += ", and what came after that was what had been expected before"
    if code is MISSING:
        told += f", and by {last + expected.grace:%H:%M} UTC at the latest"
    _open(agreed, [_Incident(_expectation(agreed, last), agreed.key, code, told)])


def _expectation(agreed: Agreed, moment: Any) -> str:
    return f"expected.{agreed.partner}.{agreed.stream}.{moment:%Y%m%dT%H%M}Z"


# --------------------------------------------------------------------------------------------- opened and closed


def _through_anew(agreed: Agreed, changed: Case) -> bool:
    """True if what stood there after the change has come in, whatever became of it then."""
    found = ledger().search(partner=agreed.partner, stream=agreed.stream, name=changed.name, since=changed.opened, limit=1000)
    newer = [one.journey for one in found if one.name == changed.name and one.journey > changed.journey]
    return any(entry.kind in _THROUGH for history in ledger().journeys(newer).values() for entry in history)


def _open(agreed: About, wanted: Sequence[_Incident], most: int = MOST) -> int:
    """Open the first ``most`` of those that are news; how many are left."""
    histories = ledger().journeys([one.journey for one in wanted]) if wanted else {}
    news = [one for one in wanted if _is_news(one, histories[one.journey])]
    entries = []
    for one in news[: max(0, most)]:
        about = {"partner": agreed.partner, "stream": agreed.stream, "name": one.name}
        number = sum(entry.kind == "incident" for entry in histories[one.journey])
        body = {**about, "case": case(agreed, one.code, one.reason)}
        entries.append(Entry(one.journey, "incident", body, f"{one.journey}/incident/{number}", _over(one.journey)))
    for one, entry in zip(news, ledger().append(entries), strict=False):
        if entry.fresh:
            tell(agreed, one.code, {"file": one.name, "reason": one.reason, "journey": one.journey})
    return len(news) - len(entries)


def _is_news(wanted: _Incident, history: Sequence[Recorded]) -> bool:
    """False for what stands, and for what a person closed and is still the same."""
    if _newest(history) == "dismissed":
        before = next(entry for entry in reversed(history) if entry.kind == "incident")
        return bool(before.body["case"]["reason"] != wanted.reason)
    return _newest(history) != "incident"


def _newest(history: Sequence[Recorded]) -> str:
    """What was last done about a journey's incident: "incident" (opened), "resolved", "dismissed"; "" if it never had one."""
    kinds = [entry.kind for entry in history if entry.kind in ("incident", "resolved", "dismissed")]
    return kinds[-1] if "incident" in kinds else ""


def open_incident(agreed: About, journey: str, name: str, code: str, reason: str) -> None:
    """Tell a person of something, once while it stands."""
    _open(agreed, [_Incident(journey, name, code, reason)])


def close_incidents(agreed: About, code: str, journeys: Collection[str]) -> None:
    """What these were about is so no more."""
    standing = ledger().cases(partner=agreed.partner, stream=agreed.stream)
    _close(agreed, [one for one in standing if one.code == code and one.journey in journeys])


def _close(agreed: About, over: Iterable[Case], reason: str = "") -> None:
    about = {"partner": agreed.partner, "stream": agreed.stream, **({"reason": reason} if reason else {})}
    entries = [
        Entry(one.journey, "resolved", {**about, "case": {"state": "resolved"}}, stage=_over(one.journey)) for one in over
    ]
    if entries:
        ledger().append(entries)


def _over(journey: str) -> Stage | None:
    """What we write about servers and expectations carries no bytes: such a journey is never open."""
    return Stage.CLEARED if "." in journey else None
