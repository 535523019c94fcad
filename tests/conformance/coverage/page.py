"""The coverage table as a page of the documentation: ``python -m tests.conformance.coverage.page``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.conformance.coverage import metadata, nodes, people, records, workflows, workspaces
from tests.conformance.coverage.row import Row
from tests.conformance.repositories.writes.bench import Write
from tests.conformance.repositories.writes.table import WRITES
from tests.sandbox.routes import routes, shape

PAGE = Path(__file__).parents[3] / "docs" / "extended-ecm.md"
DOMAINS: Mapping[str, tuple[Row, ...]] = {
    "Signing in, nodes, versions, content": nodes.ROWS,
    "Categories, classifications": metadata.ROWS,
    "Records, schedules, holds": records.ROWS,
    "Permissions, members, search, audit, shares": people.ROWS,
    "Business workspaces": workspaces.ROWS,
    "Workflows": workflows.ROWS,
}

_BEGINNING = """\
# What of Extended ECM is built

Made by `python -m tests.conformance.coverage.page`; do not edit. One line per call of the Content Server REST interface:

- **client**: our verbs that make it, below `blocks.repositories` or in the sender.
- **sandbox**: what answers it in `tests/sandbox`.
- **pyxecm**: the methods of OpenText's own Python client that make it. The suite drives the sandbox with that client; the names of all
  its methods that were called are printed at the end of a test run.
- **tests**: below `tests/conformance`.

A guard test fails for a line whose route the sandbox does not have, whose verb or test does not exist, or whose tests do not call
what stands in the line; and for a route of the sandbox that no line names.
"""

_FAULTS = """\
## Faults

Each of these writes meets faults on each of its calls that change something (`repositories/test_faults.py`). Before the server does
anything: a 401 in mid-upload, a page with 500, a burst of 503, a connection that ends. While it does: a server that is slow and goes on
after we have hung up, one that does it only after we have looked. After it did: no answer, a page with 500, a gateway's 503, half an
answer, no answer and then no server at all. The write comes through, or says that it is worth retrying and comes through then; nothing
is lost and nothing doubled. Each of its looks meets a burst of 503, a connection that ends, a page with 500, half an answer. Each
question meets, call by call, a 401, a page with 500, a burst of 503, a connection that ends, a server that is silent, half an answer.
All of them are answered as if nothing had been (`repositories/test_faults_of_questions.py`). A fault that meets nothing fails its test,
and so does a fault after which, below, a person looks, and nobody has to. `repositories/test_fault_rows.py` fails for a verb, and for a
call in it, that no row makes.

`make test` and `make soak` together bring all of that. `make test` alone leaves out what mostly looks like something that it brings:
five of the eleven faults, the looks of a row that ask for the same, each other call of rows with many, and faults of rows whose calls
other rows make too.
"""

_LEFT_OUT = """\
## Left out

Nicknames, document templates, and editing the stages of a records schedule.
"""


def page() -> str:
    """The whole page."""
    answered = routes()
    parts = [_BEGINNING]
    for domain, rows in DOMAINS.items():
        parts += [f"## {domain}", ""]
        parts += [_line(("contract", "client", "sandbox", "pyxecm", "tests")), _line(("---",) * 5)]
        parts += [_line(_cells(row, answered)) for row in rows]
        parts += [""]
    parts += [_FAULTS, *(f"- {name}{_doubts(write)}" for name, write in WRITES.items()), "", _LEFT_OUT]
    return "\n".join(parts)


def _doubts(write: Write) -> str:
    """After which of the faults a person has to look."""
    told: dict[str, list[str]] = {}
    for fault, reason in write.unknown.items():
        told.setdefault(reason, []).append(f"'{fault}'")
    return "".join(f". After {', '.join(faults)} a person looks: {reason}" for reason, faults in told.items())


def _cells(row: Row, answered: Mapping[str, str]) -> tuple[str, ...]:
    return (
        f"`{row.call}`",
        _codes(row.client) or row.why_not,
        f"`{answered[shape(row.call)]}`",
        _codes(row.pyxecm) or row.why_not,
        _codes(test.removeprefix("repositories/") for test in row.tests),
    )


def _codes(texts: object) -> str:
    return ", ".join(f"`{text}`" for text in texts)  # type: ignore[attr-defined]


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(f"{PAGE} written")
