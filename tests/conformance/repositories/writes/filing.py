"""Filing: one verb with many writes."""

from __future__ import annotations

from typing import Any

from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.values import Filed, Filing, Grant, Right
from tests.conformance.repositories.writes.bench import Bench, Write

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
    classes = len(bench.ask(f"v1/nodes/{kept.id}/rmclassifications")["data"])
    lines = [entry["data"]["permissions"] for entry in bench.ask(f"v2/nodes/{kept.id}/permissions")["results"]]
    access = sorted((line["type"], line["permissions"]) for line in lines)
    values = bench.session.get(kept.id).categories
    return bench.names_in(int(folder.id)), versions, kept.identity == filing.journey, classes, access, values


WRITES = (
    Write("file a document with all it can have", document, file, stands),
    Write("file a version with all it can have", version, file, stands),
    Write("file a version of a named document", proposed, file, stands),
    Write("file a large document", large, file, stands),
)
