"""Verdicts: all findings about one document merged, and what was learned from it on the way."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from blocks.values import Arrival, Document, Finding, Inbound, Severity, Verdict, shown
from tasks.rules.bounds import too_large
from tasks.rules.filing import unfilled
from tasks.rules.naming import facts_of_name, legality, naming
from tasks.rules.sidecar import to_come
from tasks.rules.sniff import spoken

# --------------------------------------------------------------------------------------------- before any byte moves


def before_fetch(arrival: Arrival, stream: Inbound) -> tuple[Finding, ...]:
    """Findings for which a file is not even fetched: an illegal name, too many bytes. It stays where it is."""
    file = arrival.file
    return (*legality(file.name), *too_large(file.size, stream.limits, file.shown))


# --------------------------------------------------------------------------------------------- what it is


def classify(name: bytes, stream: Inbound) -> tuple[str | None, dict[str, str]]:
    """The document type by the first rule that fits the whole name, and the facts of its (and the naming rule's) groups."""
    facts = facts_of_name(stream.naming, name) or {} if stream.naming is not None else {}
    for rule in stream.classify:
        groups = facts_of_name(rule.pattern, name)
        if groups is not None:
            return rule.doctype, {**rule.facts, **facts, **groups}
    return None, facts


def _unrecognised(name: bytes, stream: Inbound) -> Finding:
    tried = "; ".join(f"{rule.pattern} ({rule.doctype})" for rule in stream.classify)
    return Finding(
        code="unrecognised",
        message=f"No document type of this stream fits the name {shown(name)}.",
        file=shown(name),
        value=shown(name),
        rule=f"The whole name fits one of: {tried}",
        fix="Rename the file as agreed, or add a rule under 'classify' of the stream.",
    )


def name_refused(name: bytes, stream: Inbound) -> str | None:
    """The code for which a file of this name is refused, whatever is in it; None if its content decides."""
    found = next(iter((*legality(name), *naming(name, stream))), None)
    if found is not None:
        return found.code
    return _unrecognised(name, stream).code if classify(name, stream)[0] is None else None


# --------------------------------------------------------------------------------------------- the verdict


def verdict(
    document: Document,
    doctype: str | None,
    facts: Mapping[str, str],
    findings: Iterable[Finding],
    content_facts: Mapping[str, str],
    stream: Inbound,
) -> Verdict:
    """Everything that is known about one document, merged. Errors come first, in the order in which they were looked for."""
    merged = [*naming(document.name, stream, spoken(document.sniffed)), *findings]
    named = any(finding.code == "naming-rule" for finding in merged)
    if doctype is None and not named:  # the same news twice helps nobody
        merged.append(_unrecognised(document.name, stream))
    merged += _disagreements(document, facts, content_facts)
    together = {**facts, **content_facts}
    if doctype is not None and not _refused(merged):
        merged += unfilled(document.shown, together, stream, to_come(document.name, together, stream))
    merged.sort(key=lambda finding: finding.severity is Severity.NOTE)
    return Verdict(document.journey, doctype, tuple(merged), together)


ACCEPTABLE = frozenset({"cannot-inspect"})
"""Findings that say only that we could not look: a person who did may let the document through."""
NEVER = frozenset({"illegal-name", "too-large", "malware-test-file", "more-findings"})
"""Findings that no agreement lets a person overrule: nothing was fetched, it is told to be harmful, or nobody has seen them all."""


def not_acceptable(verdict: Verdict, releasable: Collection[str] = ()) -> str | None:
    """The first reason for which nobody may let a refused document through; None if a person may.

    ``releasable``: codes that a person may overrule on this stream.
    """
    errors = [finding for finding in verdict.findings if finding.severity is Severity.ERROR]
    held = (finding for finding in errors if not _may_pass(finding, releasable))
    return next((f"{finding.code}: {finding.message}" for finding in held), None)


def _may_pass(finding: Finding, releasable: Collection[str]) -> bool:
    return finding.code in ACCEPTABLE or (finding.code in releasable and finding.code not in NEVER)


def accepting(verdict: Verdict, by: str, releasable: Collection[str] = ()) -> Verdict:
    """The verdict once a person has looked: what may be accepted refuses no more, and says who accepted it."""
    findings = [
        replace(finding, severity=Severity.NOTE, message=f"{finding.message} Let through by {by}.")
        if finding.severity is Severity.ERROR and _may_pass(finding, releasable)
        else finding
        for finding in verdict.findings
    ]
    findings.sort(key=lambda finding: finding.severity is Severity.NOTE)
    return replace(verdict, findings=tuple(findings))


def _refused(findings: Iterable[Finding]) -> bool:
    return any(finding.severity is Severity.ERROR for finding in findings)


def _disagreements(document: Document, named: Mapping[str, str], found: Mapping[str, str]) -> Iterator[Finding]:
    """Facts that name and content both tell, and differently."""
    for fact in sorted(named.keys() & found.keys()):
        if named[fact] != found[fact]:
            yield Finding(
                code="name-content-mismatch",
                message=f"The name says {fact} '{shown(named[fact])}', the content says '{shown(found[fact])}'.",
                file=document.shown,
                column=fact,
                value=shown(found[fact]),
                rule=f"{fact} is the same in name and content",
                fix="Correct the one that is wrong, and send the file again.",
            )


# --------------------------------------------------------------------------------------------- for the ledger


def as_facts(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON values; what is empty is left out of a finding."""
    return {
        "doctype": verdict.doctype,
        "accepted": verdict.accepted,
        "findings": [_as_json(finding) for finding in verdict.findings],
        "facts": dict(verdict.facts),
    }


def from_facts(journey: str, body: Mapping[str, Any]) -> Verdict:
    """The verdict that ``as_facts`` wrote down."""
    findings = tuple(Finding(**{**finding, "severity": Severity(finding["severity"])}) for finding in body["findings"])
    return Verdict(journey, body["doctype"], findings, dict(body["facts"]))


def _as_json(finding: Finding) -> dict[str, Any]:
    fields = ("code", "severity", "message", "file", "row", "column", "value", "rule", "fix")
    return {name: _plain(value) for name in fields if (value := getattr(finding, name)) not in (None, "")} | {
        "message": finding.message
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Severity) else value
