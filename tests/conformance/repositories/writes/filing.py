"""Filing: one verb with many writes."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.values import Collision, Filed, Filing, Grant, Right
from tests.conformance.repositories.writes.bench import HUNG_UP, ONE_OF_A_KIND, Bench, Write

EVERYTHING: dict[str, Any] = {
    "categories": {"Partner Document": {"Partner ID": "4711", "Tags": ("a", "b")}},
    "records_class": "Contracts",
    "access": (Grant(who="DefaultGroup", right=Right.READ),),
}
LARGE = bytes(3 * 1024 * 1024)
"""More than any socket holds: the fault comes while the rest is still on its way."""


def document(bench: Bench) -> Filing:
    return bench.filing("one.txt", bench.unique("Filed"), **EVERYTHING)


def version(bench: Bench) -> Filing:
    folder = bench.unique("Filed")
    file(bench.session, bench.filing("one.txt", folder, b"earlier"))
    return bench.filing("one.txt", folder, **EVERYTHING)


def proposed(bench: Bench) -> Filing:
    folder = bench.unique("Filed")
    first = file(bench.session, bench.filing("one.txt", folder, b"earlier"))
    return bench.filing("one.txt", folder, document=first.id, **EVERYTHING)


def over_values(bench: Bench) -> Filing:
    """A version of a document whose set has more rows than the filing gives it."""
    folder, name = bench.unique("Filed"), "Partner Document"
    earlier = {name: {"Partner ID": "4711", "Tags": ("a", "b", "c"), "Lines:SKU": ("S1", "S2", "S3")}}
    file(bench.session, bench.filing("one.txt", folder, b"earlier", categories=earlier))
    values = {name: {"Partner ID": "4712", "Tags": ("d", "e"), "Lines:SKU": ("T1", "T2")}}
    return bench.filing("one.txt", folder, categories=values)


def scheduled(bench: Bench) -> Filing:
    details: dict[str, Any] = {"record_date": date(2001, 2, 3), "schedule": "CON-6"}
    return bench.filing("one.txt", bench.unique("Filed"), records_class="Contracts", **details)


def beside(bench: Bench) -> Filing:
    folder = bench.unique("Filed")
    file(bench.session, bench.filing("one.txt", folder, b"of another journey"))
    return bench.filing("one.txt", folder, collision=Collision.KEEP_BOTH, **EVERYTHING)


def large(bench: Bench) -> Filing:
    return bench.filing("one.txt", bench.unique("Filed"), LARGE)


def file(session: ExtendedEcmSession, filing: Filing) -> Filed:
    [answer] = session.file([filing])
    assert isinstance(answer, Filed), answer
    return answer


def stands(bench: Bench, filing: Filing) -> object:
    folder = bench.session.find((), filing.folder[0])
    if folder is None:
        return None
    kept = bench.session.find(filing.folder, filing.name)
    if kept is None:
        return bench.names_in(int(folder.id))
    versions = [entry["data"]["versions"]["file_size"] for entry in bench.ask(f"v2/nodes/{kept.id}/versions")["results"]]
    told = bench.ask(f"v1/nodes/{kept.id}/rmclassifications")["data"]
    # A day of ours, or that of the filing.
    classes = [(line.get("rsi"), line["record_date"] if line["record_date"] < "2020" else "") for line in told]
    lines = [entry["data"]["permissions"] for entry in bench.ask(f"v2/nodes/{kept.id}/permissions")["results"]]
    access = sorted((line["type"], line["permissions"]) for line in lines)
    values = bench.session.get(kept.id).categories
    return bench.names_in(int(folder.id)), versions, kept.identity == filing.journey, classes, access, values


def beside_stands(bench: Bench, filing: Filing) -> object:
    """Both documents, and who filed the second."""
    kept = [kept for kept in bench.session.look(filing.folder) if kept.identity == filing.journey]
    named = [replace(filing, name=one.name) for one in kept]
    return [stands(bench, one) for one in named], len(list(bench.session.look(filing.folder)))


MAYBE = {HUNG_UP: "nothing keeps a version from being added twice, and a server that has the whole call may still be at it"}

WRITES = (
    Write("file a document with all it can have", document, file, stands, long=True),
    Write("file a version with all it can have", version, file, stands, MAYBE, long=True),
    Write("file a version of a named document", proposed, file, stands, MAYBE, ONE_OF_A_KIND),
    Write("file a version over other values and rows", over_values, file, stands, MAYBE, ONE_OF_A_KIND),
    Write("file a record with its date and schedule", scheduled, file, stands, often=ONE_OF_A_KIND),
    Write("file beside a document of that name", beside, file, beside_stands, often=ONE_OF_A_KIND),
    Write("file a large document", large, file, stands),
)
