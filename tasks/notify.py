"""Notify: tell people that something waits for them, each of them once. The link opens a page, and nothing in the message decides.

::

    notice.<thing and person>:   notification ─ attempt ─ not taken ─ attempt ─ notified | not notified | unknown

The entry comes before the message. Where surely nobody took it, the sweep tries again, ever more seldom; where its answer was lost, or
whoever sent it was killed, it is not sent again: the sweep says so. No release and no intake waits for a message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from prefect.settings import PREFECT_UI_URL

from blocks import reviewed
from blocks.errors import ConfigurationError, NoticeDelayed, NoticeError, NoticeUnanswered, NoticeUnknown
from blocks.ledger import JOURNEY, Entry, Lease, Recorded
from blocks.notifying import NotifyFile, load_notify
from blocks.outbound import PeopleFile
from blocks.settings import settings
from blocks.values import Stage
from tasks.connections import ledger
from tasks.retrying import task
from tasks.rules.notification import Notification, body, next_attempt, subject, too_late
from tasks.rules.reconcile import Finding

NOTIFICATION, ATTEMPT, NOT_TAKEN = "notification", "attempt", "not taken"
NOTIFIED, NOT_NOTIFIED, UNKNOWN = "notified", "not notified", "unknown"
"""What telling somebody ends with."""


def notify(to: Iterable[str], what: Notification) -> None:
    """Tell these of it (ids of people, or streams' owners as profiles write them): each once, however often this is called."""
    notify_all([(to, what)])


def notify_all(told: Iterable[tuple[Iterable[str], Notification]]) -> None:
    """Tell of several things, each of them to these. A server that does not answer is waited for once, and not once for each of them.

    Nobody is told where there is no ``notify.yaml``. Raises nothing for a server that is away or a file that is to be mended: what could
    not be sent now is the sweep's.
    """
    if not (settings().profiles / "notify.yaml").exists():
        return
    entries = []
    for to, what in told:
        for who in dict.fromkeys(to):
            journey = what.journey(who)
            entries.append(Entry(journey, NOTIFICATION, {**what.body, "who": who}, once=journey))
    _tell([entry.journey for entry in ledger().append(entries) if entry.fresh])


@task(task_run_name="notify again")
def notify_again(look_back: timedelta) -> list[Finding]:
    """Try again what nobody took. What cannot be told, or may have been told, is a finding."""
    since = ledger().now() - look_back
    problem = _tell(ledger().begun(NOTIFICATION, since))
    findings = [Finding("not-notified", f"notify/{problem}", problem)] if problem else []
    return findings + [
        found for history in ledger().journeys(ledger().begun(NOTIFICATION, since)).values() if (found := _finding(history))
    ]


def _finding(history: Sequence[Recorded]) -> Finding | None:
    """What a person should know of one notification."""
    first, last = history[0].body, history[-1]
    told = f"{first['who']}: {first['subject']}"
    if last.kind == UNKNOWN:
        return Finding(
            "notice-unknown", last.journey, f"may not have been told to {told} ({last.body['reason']}); it is not sent again"
        )
    if last.kind == NOT_NOTIFIED:
        return Finding("not-notified", last.journey, f"was not told to {told} ({last.body['reason']})")
    return None


# --------------------------------------------------------------------------------------------- sending


class _Post:
    """What is needed to send; read from the reviewed files once for all that is sent together."""

    def __init__(self, agreed: NotifyFile, people: PeopleFile | None) -> None:
        self.agreed, self.people = agreed, people
        self.away: set[str] = set()
        """Servers that do not answer are not waited for again and again: that of mail (""), or a block's."""


def _tell(journeys: Sequence[str]) -> str:
    """Send what is due of these; why nothing can be sent at all, if that is so."""
    if not journeys:
        return ""
    folder = settings().profiles
    try:
        agreed = load_notify(folder)
        known = folder / "people.yaml"
        people = reviewed.load(known, PeopleFile) if known.exists() else None
    except ConfigurationError as error:
        return str(error)
    if agreed is not None:
        post = _Post(agreed, people)
        for journey in journeys:
            _hold(journey, post)
    return ""


def _hold(journey: str, post: _Post) -> None:
    """Whoever else sends this one just now will write down what becomes of it."""
    seconds = settings().lease_seconds
    lease = ledger().lease([f"{JOURNEY}{journey}"], owner="notify", seconds=seconds)
    if lease is not None:
        with ledger().holding(lease, seconds):
            _advance(journey, post, lease)


def _advance(journey: str, post: _Post, lease: Lease) -> None:
    history = ledger().journey(journey)
    first, last, now = history[0], history[-1], ledger().now()
    what, who = Notification.parse(first.body), str(first.body["who"])
    if last.kind in (NOTIFIED, NOT_NOTIFIED, UNKNOWN):
        return
    if last.kind == ATTEMPT:
        _write(lease, journey, UNKNOWN, {"reason": "whoever sent it was killed meanwhile"})
        return
    refused = sum(entry.kind == NOT_TAKEN for entry in history)
    if refused and now < next_attempt(refused, last.at):
        return
    channel = post.agreed.channel(who, post.people)
    if channel is None:
        _write(lease, journey, NOT_NOTIFIED, {"reason": f"notify.yaml does not say where {who!r} is told"})
    elif too_late(what, first.at, now):
        reason = last.body["reason"] if refused else "nothing was sent in time"
        _write(lease, journey, NOT_NOTIFIED, {"reason": reason})
    elif _server(channel) not in post.away:
        _attempt(what, channel, post, lease, journey, refused)


def _attempt(what: Notification, channel: str, post: _Post, lease: Lease, journey: str, refused: int) -> None:
    """The intent first; then the message, and what became of it."""
    ui, zone = PREFECT_UI_URL.value() or "", post.people.timezone if post.people else "UTC"
    _write(lease, journey, ATTEMPT, {"channel": channel, "number": refused + 1})
    try:
        post.agreed.send(channel, subject(what), body(what, ui, zone), journey)
    except NoticeDelayed as error:
        post.away.add(_server(channel))
        _write(lease, journey, NOT_TAKEN, {"channel": channel, "reason": str(error)})
    except NoticeUnknown as error:
        if isinstance(error, NoticeUnanswered):
            post.away.add(_server(channel))
        _write(lease, journey, UNKNOWN, {"channel": channel, "reason": str(error)})
    except (NoticeError, ConfigurationError) as error:
        _write(lease, journey, NOT_NOTIFIED, {"channel": channel, "reason": str(error)})
    else:
        _write(lease, journey, NOTIFIED, {"channel": channel})


def _server(channel: str) -> str:
    """Whose answer is waited for: all mail goes by one server."""
    return "" if "@" in channel else channel


def _write(lease: Lease, journey: str, kind: str, facts: dict[str, object]) -> None:
    ended = kind in (NOTIFIED, NOT_NOTIFIED, UNKNOWN)
    ledger().append([Entry(journey, kind, facts, stage=Stage.CLEARED if ended else None)], lease)
