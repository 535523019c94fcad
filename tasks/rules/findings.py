"""Findings about one document, collected up to a bound: a table of a million bad cells needs a hundred examples, not a million."""

from __future__ import annotations

from dataclasses import replace

from blocks.values import Finding, Severity

MOST = 100
"""Errors kept per document; the rest is counted."""


class Findings:
    """A bounded list. Notes of one code are kept once."""

    def __init__(self, file: str, most: int = MOST) -> None:
        self._file, self._most = file, most
        self._kept: list[Finding] = []
        self._notes: dict[str, Finding] = {}
        self.errors = 0

    def add(self, finding: Finding) -> None:
        finding = finding if finding.file else replace(finding, file=self._file)
        if finding.severity is Severity.NOTE:
            self._notes.setdefault(finding.code, finding)
            return
        self.errors += 1
        if len(self._kept) < self._most:
            self._kept.append(finding)

    def more(self, count: int) -> None:
        """Count errors that nobody wrote out."""
        self.errors += count

    @property
    def full(self) -> bool:
        return len(self._kept) >= self._most

    def all(self) -> tuple[Finding, ...]:
        """Errors in the order of their rows, then how many were left out, then the notes."""
        errors = sorted(self._kept, key=lambda finding: finding.row or 0)
        left_out = self.errors - len(errors)
        if left_out > 0:
            errors.append(
                Finding(
                    code="more-findings",
                    message=f"{left_out} more errors were found; the first {len(errors)} are listed.",
                    file=self._file,
                    fix="Mend the listed ones first: they often have one cause.",
                )
            )
        return (*errors, *self._notes.values())


def note(code: str, message: str, *, row: int | None = None, rule: str = "") -> Finding:
    """Something worth knowing that refuses nothing."""
    return Finding(code=code, message=message, row=row, rule=rule, severity=Severity.NOTE)
