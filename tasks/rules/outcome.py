"""What ops see of a run: a state name that says the outcome. Failed is for faults only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def state_name(outcomes: Iterable[str], rows: int = 0) -> str:
    """The name of a finished run's state, from what became of each file; ``rows`` were filed of tables that were not filed whole.

    >>> state_name([]), state_name(["filed"]), state_name(["filed", "quarantined", "quarantined"])
    ('Nothing new', 'Filed', 'Filed, 2 quarantined')
    >>> state_name(["duplicate"]), state_name(["quarantined"]), state_name(["waits"])
    ('Nothing new, 1 duplicate', 'Nothing filed, 1 quarantined', 'Nothing new')
    >>> state_name(["quarantined"], 497), state_name(["filed", "duplicate"], 1)
    ('497 rows filed, 1 quarantined', 'Filed, 1 row filed, 1 duplicate')
    """
    count = Counter(outcomes)
    told = f"{rows} row{'s' if rows > 1 else ''} filed"
    name = "Filed" if count["filed"] else told if rows else "Nothing filed" if count["quarantined"] else "Nothing new"
    if rows and count["filed"]:
        name += f", {told}"
    if count["quarantined"]:
        name += f", {count['quarantined']} quarantined"
    if count["duplicate"]:
        name += f", {count['duplicate']} duplicate{'s' if count['duplicate'] > 1 else ''}"
    return name


def summary(outcomes: Iterable[str]) -> str:
    """All outcomes with their counts, in one line.

    >>> summary(["filed", "waits", "filed"])
    '2 filed, 1 waits'
    """
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(Counter(outcomes).items())) or "nothing to do"
