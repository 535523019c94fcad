"""What may pass straight from a source into a repository, without being looked at whole before it is filed. When in doubt: nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from blocks.values import Collision, Document, Duplicates, Finding, Inbound, RemoteFile, Severity, Verdict, shown
from tasks.doctypes import find
from tasks.rules.filing import uses
from tasks.rules.findings import Findings
from tasks.rules.judge import classify, verdict
from tasks.rules.sniff import inspect, needs_its_end, sniff

PASSING = "passing"
"""Kind of the intent with which a file begins to pass through: from then on the repository may hold it."""
PERHAPS_FILED = "perhaps-filed"
"""Code of the note that a refused file may be in the repository nevertheless."""


def seen_whole(stream: Inbound) -> Iterator[str]:
    """Why every file of a stream is looked at whole before it is filed; nothing if large ones may pass through."""
    target = stream.target
    reasons = {
        "limits.pass_through_bytes is 0": stream.limits.pass_through_bytes == 0,
        "its digest tells whether it was filed before ('duplicates' is not 'file')": stream.duplicates is not Duplicates.FILE,
        "later files wait for earlier ones ('ordered')": stream.ordered,
        "its files belong together ('sets' or 'transfers')": stream.sets is not None or stream.transfers is not None,
        "its digest tells which document comes back ('returns')": stream.returns is not None,
        "people tell what it is about ('triage')": bool(stream.triage),
        "others are given it, or look at it, by its digest ('onward' or 'workflow')": bool(stream.onward or stream.workflow),
        "the target names its digest": uses(target, "digest") or target.workspace is not None,
        "its digest tells two of one name apart ('collision: keep both')": target.collision is Collision.KEEP_BOTH,
    }
    return (reason for reason, applies in reasons.items() if applies)


def may_pass(file: RemoteFile, stream: Inbound) -> bool:
    """True if nothing but the first bytes of a file decides whether it is filed, as far as its name tells."""
    if file.size < max(stream.limits.pass_through_bytes, stream.limits.smallest_bytes):
        return False
    slug, _ = classify(file.name, stream)
    return slug is not None and find(slug).table is None and next(seen_whole(stream), None) is None


def perhaps_filed(intent: Mapping[str, Any], file: str) -> Finding:
    """What a person must know who decides about a file that was refused after it had begun to pass through (``intent``)."""
    place = f"as '{shown(intent['filed_as'])}' in folder '{shown('/'.join(intent['folder']))}' of {intent['repository']}"
    return Finding(
        code=PERHAPS_FILED,
        message=f"It broke off on its way through us before this was found: the repository may hold it whole, {place}",
        file=file,
        rule="What is refused is not in the repository",
        fix="Look there first. If it is there and shall not be, remove it there by hand, then reject the case. If it shall be, "
        "have the cause mended, then 'countersign quarantine retry', which completes it and does not file it twice",
        severity=Severity.NOTE,
    )


def judge_head(document: Document, head: bytes, stream: Inbound) -> Verdict | None:
    """The verdict on a document of which the first bytes are here; None if it takes all of them, or if anything is to be told of it.

    ``document.sniffed`` is what ``sniff`` makes of them.
    """
    slug, facts = classify(document.name, stream)
    if slug is None or document.sniffed != sniff(head) or needs_its_end(document.sniffed):
        return None
    findings = Findings(document.shown)
    for finding in inspect(document.name, document.sniffed, head, b"", find(slug)):
        findings.add(finding)
    judged = verdict(document, slug, facts, findings.all(), {}, stream)
    return None if judged.findings else judged
