"""Filings that are refused once their content is there: what they made is taken back, and the next one is filed."""

from __future__ import annotations

from dataclasses import dataclass

from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.values import Filing, NotFiled
from tests.conformance.repositories.writes import filing
from tests.conformance.repositories.writes.bench import AWAY, FAULTS, HUNG_UP, ONE_OF_A_KIND, Bench, Write

NO_CLASS = "File Plan"
"""A folder where a records class is due: looked up well, and refused once the content is there."""
VALUES = {"Partner Document": {"Partner ID": "4712", "Lines:SKU": ("T1",)}}


@dataclass(frozen=True, slots=True)
class Two:
    """A filing that will be refused, and one of the same name that will not."""

    refused: Filing
    good: Filing


def documents(bench: Bench) -> Two:
    folder = bench.unique("Filed")
    return Two(bench.filing("one.txt", folder, b"refused", records_class=NO_CLASS), bench.filing("one.txt", folder))


def versions(bench: Bench, **earlier: object) -> Two:
    folder = bench.unique("Filed")
    filing.file(bench.session, bench.filing("one.txt", folder, b"earlier", **earlier))
    refused = bench.filing("one.txt", folder, b"refused", categories=VALUES, records_class=NO_CLASS)
    return Two(refused, bench.filing("one.txt", folder, b"good"))


def with_values(bench: Bench) -> Two:
    return versions(bench, categories={"Partner Document": {"Partner ID": "4711", "Lines:SKU": ("S1", "S2")}})


def in_parts(bench: Bench) -> Two:
    """The parts are all there when the document is refused for a value."""
    folder = bench.unique("Filed")
    bad = {"Partner Document": {"Document Date": "the day before yesterday"}}
    refused = bench.filing("one.txt", folder, bytes(1_500_000), categories=bad)
    return Two(refused, bench.filing("one.txt", folder))


def file(session: ExtendedEcmSession, given: Two) -> None:
    [answer] = session.file([given.refused])
    assert isinstance(answer, NotFiled), answer
    filing.file(session, given.good)


def stands(bench: Bench, given: Two) -> object:
    return filing.stands(bench, given.good)


def refused_stands(bench: Bench, given: Two) -> bool:
    """Once, upon what was there before it."""
    kept = bench.session.find(given.refused.folder, given.refused.name)
    assert kept is not None
    sizes = [version.size for version in bench.session.nodes.versions(int(kept.id))]
    return len(bench.names_in(bench.wire.properties(int(kept.id))["parent_id"])) == 1 and sizes in ([7], [7, 7])


LOST = "what a lost answer has made is not removed: it may be of an earlier call, and people may have gone on from it"
FOUND = dict.fromkeys(
    (fault for fault in FAULTS if fault not in ("401 in mid-upload", "500 with a page", "a burst of 503", HUNG_UP)), LOST
)
LATE = dict.fromkeys((HUNG_UP, AWAY), "what the server may still be doing, or has done while we could not look, is not removed")

WRITES = (
    Write("take a refused document back", documents, file, stands, FOUND, ONE_OF_A_KIND, refused_stands, long=True),
    Write("give up the parts of a refused document", in_parts, file, stands, often=ONE_OF_A_KIND, long=True),
    Write(
        "take a refused version back, and its category",
        versions,
        file,
        stands,
        LATE | {"comes late, after one look": LOST},
        ONE_OF_A_KIND,
        refused_stands,
        long=True,
    ),
    Write(
        "take a refused version back, and its values",
        with_values,
        file,
        stands,
        LATE,
        ONE_OF_A_KIND,
        refused_stands,
        long=True,
    ),
)
