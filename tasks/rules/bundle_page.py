"""The page on top of a bundle of evidence: what was sent or came, when, to whom or from where, who allowed it. Made from the bundle's
entries alone, piece by piece, so that a verifier can make it again and compare."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from blocks.outbound import BEFOREHAND
from tasks.rules import certificate, printed
from tasks.rules.bundle import Step, Story, document_name, extract_name
from tasks.rules.printed import code, literally, table, when

VERSION = 2
"""Raise it with every change of what this page, or the certificate's, looks like: a page is compared only with its own version's."""
_LONG = 2000
"""Characters of a fact that are shown; the entry holds all of it."""


def begin(export: Story, documents: int) -> str:
    """What stands above the first journey. ``export`` is the journey of the export itself."""
    begun, done = export.steps
    journeys = int(begun.body["journeys"])
    told = f"{journeys} journeys" if journeys != 1 else "1 journey"
    bytes_ = f"the bytes of {documents} documents" if documents else "no bytes: documents are told by digest and place"
    return (
        printed.begin("Evidence")
        + f"<h1>Evidence: {told}</h1>\n<p>Taken from the ledger {when(done.at)} by {code(begun.body['by'])} (as stated), with {bytes_}. "
        "This page shows what the ledger's entries in this bundle say; <code>countersign evidence verify</code> says whether they are "
        "as they were written.</p>"
    )


END = printed.END


def section(story: Story, here: Collection[str]) -> str:
    """One journey; ``here`` are the digests whose bytes are in the bundle. Raises ``ValueError``, ``KeyError`` or ``TypeError`` for
    entries that no ledger of ours holds."""
    parts = _order(story) if story.ordered else _file(story)
    return "\n" + "\n".join([*parts, *_documents(story, here), *_ledger(story)])


# --------------------------------------------------------------------------------------------- an order


def _order(story: Story) -> list[str]:
    asked, closed, package = story.own[0], story.last("closed"), story.package
    about = [
        ("Partner, stream", f"{code(asked.body['partner'])}, {code(asked.body['stream'])}"),
        ("Ordered", f"{when(asked.at)}, by {code(asked.body['requester'] or 'a schedule or event')} (as stated)"),
        ("Came to", f"{literally(closed.body['state'])}, {when(closed.at)}" if closed else "it is not over"),
        *([("Which means", code(closed.body["reason"]))] if closed else []),
        *_arrivals(story),
    ]
    parts = [f"<h1>Order {code(asked.body['order'])}</h1>", table(about)]
    if story.certificate is not None:
        parts.append(certificate.printed(story.certificate)[1])
    elif package is not None:
        places = ", ".join(code(place.shown) for place in package.destinations)
        parts.append("<h2>What was to be sent, and is not certified</h2>")
        parts.append(table([("To", places), *((code(file.shown), f"{file.size:,} bytes") for file in package.files)]))
        parts += _answers(story)
    return parts


def _answers(story: Story) -> list[str]:
    votes = [step.body["vote"] for step in story.each("answered") if step.body["vote"]]
    rows = [
        (
            code(vote["approver"]),
            f"{literally(vote['decision'])}, {when(vote['at'])}, comment {code(vote['comment'])}"
            + (f", {literally(BEFOREHAND)}" if vote.get("standing") else ""),
        )
        for vote in votes
    ]
    return ["<h2>Who decided</h2>", table(rows)] if rows else []


def _arrivals(story: Story) -> list[tuple[str, str]]:
    """What the partner's server said, and what the partner sent back or was seen to do."""
    told = json.loads(story.record)["transmissions"] if story.record is not None else []
    rows = [(f"Sent {code(one['document'])}", _transmission(one)) for one in told]
    said = story.acknowledgements
    return rows + [
        ("Picked up", f"{code(one.document)}, seen gone at {when(one.facts['seen_gone'])}; the partner itself said nothing")
        if one.picked_up
        else ("Sent back", f"{code(one.name)}, {when(one.facts['received'])}, SHA-256 {code(one.digest)}")
        for one in said
    ]


def _transmission(one: Mapping[str, Any]) -> str:
    replies = "; ".join(code(reply) for reply in one["replies"]) or "nobody knows"
    return (
        f"to {code(one['to'])} as {code(one['path'])}, {when(one['at'])}<br>the server showed the key "
        f"{code(one['server_key'] or 'none')} and answered {replies}<br>{literally(one['in_words'])}"
    )


# --------------------------------------------------------------------------------------------- a file that came


def _file(story: Story) -> list[str]:
    name = next((step.body["name"] for step in story.own if step.body.get("name")), story.id)
    parts = [f"<h1>File {code(name)}</h1>", table([(_step(step), _facts(step.body)) for step in story.own])]
    for part in story.parts[1:]:
        rows = [(_step(step), _facts(step.body)) for step in story.steps if step.journey == part]
        parts += [f"<h2>Rows that went on, journey {code(part)}</h2>", table(rows)]
    return parts


def _step(step: Step) -> str:
    return f"{literally(step.kind)}<br>{when(step.at)}"


def _facts(body: Mapping[str, Any]) -> str:
    """All that an entry says, a line for each fact."""
    return "<br>".join(
        f"{literally(fact)}: {code(_short(value))}" for fact, value in sorted(body.items()) if value not in (None, [])
    )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=True, sort_keys=True)
    return text if len(text) <= _LONG else f"{text[:_LONG]}… ({len(text):,} characters)"


# --------------------------------------------------------------------------------------------- for both


def _documents(story: Story, here: Collection[str]) -> Iterable[str]:
    if not story.documents:
        return []
    rows = []
    for digest, places in story.documents.items():
        kept = [f"{code(place.repository)}, id {code(place.id)}, version {place.version}" for place in dict.fromkeys(places)]
        link = [f'<a href="{document_name(digest)}">in this bundle</a>'] if digest in here else []
        rows.append((code(digest), "<br>".join([*link, *kept]) or "in no repository that the ledger knows of"))
    return ["<h2>Its bytes, by SHA-256</h2>", table(rows)]


def _ledger(story: Story) -> list[str]:
    """Every entry by its hash; what it says stands in the extract."""
    told = story.own if story.ordered else story.steps
    rows = [(str(step.n), f"{literally(step.kind)}, {when(step.at)}, {code(step.hash)}") for step in told]
    return [
        "<h2>In the ledger</h2>",
        table([("Journey", f'<a href="{extract_name(story.id)}">{code(story.id)}</a>'), *rows]),
    ]
