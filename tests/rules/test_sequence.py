"""What a file that is not through means for later ones of its stream."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from blocks.values import Classification, FileKind, Inbound, RemoteFile, Settle, Sighting, Stage, Succession, Target
from tasks.rules.sequence import settled_by, under_way, waits_for

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("sequence", "not_through", "expected"),
    [
        pytest.param(Succession.FREE, {"1"}, None, id="free: nothing keeps it"),
        pytest.param(Succession.LATEST, {"1"}, None, id="latest: nothing keeps it"),
        pytest.param(Succession.ORDERED, {"2", "1"}, "1", id="ordered: the first one that is not through"),
        pytest.param(Succession.ORDERED, {"3", "4"}, None, id="neither itself nor a later one"),
        pytest.param(Succession.ORDERED, set(), None, id="nothing before it"),
    ],
)
def test_waits_for(sequence: Succession, not_through: set[str], expected: str | None) -> None:
    assert waits_for("3", not_through, sequence) == expected


@pytest.mark.parametrize(
    ("sequence", "expected"),
    [(Succession.FREE, []), (Succession.ORDERED, []), (Succession.LATEST, ["1"])],
)
def test_only_where_the_latest_wins_an_older_case_needs_nobody(sequence: Succession, expected: list[str]) -> None:
    refused = {"1": "schema", "2": "outcome-unknown", "4": "schema"}
    assert settled_by("3", refused, sequence) == expected


def sighting(journey: str, name: bytes, stage: Stage, kind: FileKind = FileKind.FILE) -> Sighting:
    return Sighting(journey, RemoteFile("/out", name, 1, None, kind), stage, NOON, NOON, NOON, 2)


def test_under_way_is_what_belongs_to_the_stream_and_is_not_settled() -> None:
    seen = [
        sighting("being written", b"a.csv", Stage.SIGHTED),
        sighting("another stream's", b"a.pdf", Stage.SIGHTED),
        sighting("an illegal name", b"../a.csv", Stage.SIGHTED),
        sighting("a temporary name", b".a.csv", Stage.SIGHTED),
        sighting("a folder", b"b.csv", Stage.SIGHTED, FileKind.FOLDER),
        sighting("in work", b"c.csv", Stage.JUDGED),
        sighting("filed", b"d.csv", Stage.FILED),
        sighting("refused: its case tells", b"e.csv", Stage.QUARANTINED),
        sighting("left", b"f.csv", Stage.LEFT),
    ]
    assert [one.journey for one in under_way(seen, Settle(), ("*.csv",))] == ["being written", "in work"]


def test_a_sequence_of_files_that_overtake_one_another_is_refused() -> None:
    terms = {
        "endpoint": "drop",
        "folder": "/out",
        "classify": (Classification(pattern=".*", doctype="price-list"),),
        "target": Target(repository="ecm", folder="Prices"),
    }
    assert Inbound.model_validate(terms | {"ordered": False}).sequence is Succession.FREE
    with pytest.raises(ValueError, match="'sequence: latest' needs 'ordered: true'"):
        Inbound.model_validate(terms | {"ordered": False, "sequence": "latest"})
