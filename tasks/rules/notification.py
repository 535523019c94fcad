"""What somebody is told of a thing that waits for them: what, from whom, due when, and where to open it. Nothing in it decides.

Mail programs and chats make links, pictures and mentions of whatever looks like one. So text from outside is cut down to letters,
digits and few signs, and stands in a code span.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from blocks.outbound import shortened
from blocks.values import shown

GIVEN_UP_AFTER = timedelta(days=1)
"""A message that nobody took for so long would come too late."""
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Notification:
    """One thing that people are to know of, each of them once."""

    thing: str
    """What makes it one, for ever: ``asked/<package digest>``, ``case/<journey>/<n>``, ``reminder/<package digest>/<n>``."""
    about: str
    """The journey that it is about."""
    subject: str
    """What is wanted, in our own words: ``acme/catalogue o-1 waits for your sign-off``. Ends up in one line."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Label -> text, each in a line of its own; the texts may be anybody's. No content of documents, no secret."""
    due: datetime | None = None
    run: str = ""
    """The flow run whose page is opened; "" if there is none."""

    @property
    def body(self) -> dict[str, Any]:
        """As JSON values, for the ledger."""
        due = self.due.isoformat() if self.due else None
        told = {"subject": self.subject, "facts": dict(self.facts), "due": due, "run": self.run}
        return {"thing": self.thing, "about": self.about, **told}

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Notification:
        """Back from ``body``."""
        due = datetime.fromisoformat(body["due"]) if body["due"] else None
        return cls(body["thing"], body["about"], body["subject"], dict(body["facts"]), due, body["run"])

    def journey(self, who: str) -> str:
        """Where the ledger keeps what became of telling one person or team."""
        return f"notice.{hashlib.sha256(f'{self.thing} {who}'.encode()).hexdigest()[:32]}"


def subject(what: Notification) -> str:
    """The subject: one line without anything that a mail's header or a chat would take for its own."""
    return f"Countersign: {harmless(what.subject, 150)}"


def body(what: Notification, ui: str, zone: str) -> str:
    """The message, in plain text that is Markdown as well."""
    lines = [f"{harmless(what.subject, 150)}.", ""]
    lines += [f"- {label}: `{harmless(text)}`" for label, text in what.facts.items() if text]
    if what.due is not None:
        lines.append(f"- Due: {what.due.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M} ({zone})")
    classic, newer = pages(ui, what.run)
    lines += ["", f"Open it: {classic}", f"In Prefect's newer UI: {newer}"] if classic else []
    return "\n".join([*lines, "", "This message decides nothing, and nobody needs an answer to it: that page does.", ""])


def pages(ui: str, run: str) -> tuple[str, str]:
    """A run's page, in Prefect's classic UI and in the newer one; "" where there is none."""
    address = ui.rstrip("/").removesuffix("/v2")
    return (f"{address}/runs/flow-run/{run}", f"{address}/v2/runs/flow-run/{run}") if address and run else ("", "")


def harmless(text: str, most: int = 120) -> str:
    """Text from outside: one line of which no program makes a link, a mention, markup or a header.

    >>> harmless("a\\r\\nBcc: eve@evil.example"), harmless("<http://evil.example|pay>")
    ('a..Bcc: eve.evil.example', '.http-//evil.example.pay.')
    """
    kept = "".join(char if _plain(char) else "." for char in text)
    return shortened(re.sub(r"(?i)(?<=www)\.|:(?=//)", "-", kept), most)


def _plain(char: str) -> bool:
    return (char.isalnum() or char in " .,:;-_+()=%/'") and shown(char) == char


def next_attempt(attempts: int, last: datetime) -> datetime:
    """When a message that was refused ``attempts`` times, ``last`` then, is tried again."""
    pause: timedelta = _FIRST_PAUSE * 2 ** min(attempts - 1, 10)
    return last + min(pause, _LONGEST_PAUSE)


def too_late(what: Notification, begun: datetime, now: datetime) -> bool:
    """True when telling would be no help any more."""
    return now >= min(begun + GIVEN_UP_AFTER, what.due or now + GIVEN_UP_AFTER)
