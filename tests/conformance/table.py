"""The conformance table, servers x checks, as a page of the documentation: ``python -m tests.conformance.table``.

It is made from the names alone, which are also what ``test_contract`` is parametrised with: each cell is a test that runs in CI. A
cell that says "kept" is a check that must pass. One that says "tolerated" must fail as described, or that test fails: what is no
longer needed has to go. A test compares the committed page with this text.
"""

from __future__ import annotations

from pathlib import Path

from blocks.values import shown
from tests.conformance.endpoints.checks import CHECKS
from tests.conformance.endpoints.enrolment import ENROLLED

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"

_BEGINNING = """\
# Which server keeps which promise

Made by `python -m tests.conformance.table` from the conformance suite; do not edit. Columns are servers as they are
[enrolled](../tests/conformance/endpoints/enrolment.py), rows the [checks](../tests/conformance/endpoints/checks.py) of
what every endpoint [promises](../blocks/endpoints/base.py). Each cell is one test, run against the running server by every `make test`;
in CI none is skipped, and a server that is not installed is a failure there. "kept": the check passes. "tolerated": it cannot pass on
this server, for the reason below, and the test sees that it still does not.
"""


def page() -> str:
    """The whole page."""
    reasons: list[str] = []
    rows = []
    for promise in CHECKS:
        cells = [
            _tolerated(reason, reasons) if (reason := agreed.tolerated.get(promise)) else "kept" for agreed in ENROLLED.values()
        ]
        rows.append([promise.replace("_", " "), *cells])
    counted = sum(len(agreed.tolerated) for agreed in ENROLLED.values())
    total = len(CHECKS) * len(ENROLLED)
    return "\n".join(
        [
            _BEGINNING,
            f"{len(ENROLLED)} servers x {len(CHECKS)} checks = {total} cells: {total - counted} kept, {counted} tolerated, 0 skipped.",
            "",
            _line(["", *ENROLLED]),
            _line(["---"] * (len(ENROLLED) + 1)),
            *map(_line, rows),
            "",
            "Tolerated, because:",
            "",
            *(f"{number}. {reason}" for number, reason in enumerate(reasons, 1)),
            "",
            "Checks with hostile names use all of them, but for those that a protocol or server cannot carry. A check of its own "
            "sees that these disturb nothing else:",
            "",
            *(
                f"- **{name}**: {', '.join(f'`{shown(odd)}`' for odd in agreed.unspeakable)} "
                f"({'; '.join(dict.fromkeys(agreed.unspeakable.values()))})"
                for name, agreed in ENROLLED.items()
                if agreed.unspeakable
            ),
            "",
        ]
    )


def _tolerated(reason: str, reasons: list[str]) -> str:
    """A cell with the number of its reason below; the same reason has one number."""
    if reason not in reasons:
        reasons.append(reason)
    return f"tolerated ({reasons.index(reason) + 1})"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(f"{PAGE} written")
