"""Nodes beyond filing: moved, copied, deleted, restored, reserved, their versions; and documents filed in parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from blocks.repositories.extended_ecm import ExtendedEcmSession
from tests.conformance.repositories.writes import filing
from tests.conformance.repositories.writes.bench import AWAY, HUNG_UP, ONE_OF_A_KIND, Bench, Write

IN_PARTS = bytes(1_500_000)
"""Three of them: see ``bench.LARGE_UPLOAD``."""


def parent_of(bench: Bench, id: int) -> int:
    return int(bench.wire.properties(id)["parent_id"])


def two(bench: Bench) -> tuple[int, int]:
    """A document, and a folder to which it may go."""
    return bench.document(), bench.folder()


def in_both(bench: Bench, given: tuple[int, int]) -> object:
    document, folder = given
    return parent_of(bench, document) == folder, bench.names_in(folder), bench.wire.properties(folder)["size"]


def shown(*names: str) -> Callable[[Bench, int], object]:
    """These properties of a node."""
    return lambda bench, id: [bench.wire.properties(id)[name] for name in names]


def tree(bench: Bench) -> tuple[int, int]:
    """A folder with a document in it, and a folder to which it may go."""
    folder = bench.folder()
    bench.wire.document("inner.txt", b"inner", bench.wire.folder("deep", folder))
    return folder, bench.folder()


def below(bench: Bench, given: tuple[int, int]) -> object:
    def names(folder: int) -> object:
        nodes = [entry["data"]["properties"] for entry in bench.ask(f"v2/nodes/{folder}/nodes")["results"]]
        return sorted((node["name"], str(names(node["id"])) if node["container"] else "") for node in nodes)

    return names(given[1])


def binned(bench: Bench) -> tuple[int, int]:
    document = bench.document()
    folder = parent_of(bench, document)
    bench.wire.http.delete(f"/v2/nodes/{document}")
    return document, folder


def in_bin(bench: Bench, given: tuple[int, int]) -> object:
    """Whether a document is in its folder, and how often in the recycle bin."""
    query = {"mode": "anyone_deleted", "limit": 1000}
    held = [entry["data"]["properties"]["id"] for entry in bench.ask("v2/volumes/recyclebin/nodes", **query)["results"]]
    return bench.names_in(given[1]), held.count(given[0])


def reserved(bench: Bench) -> int:
    document = bench.document()
    bench.tell("PUT", f"v2/nodes/{document}", reserved_user_id=1000)
    return document


def queued(bench: Bench) -> int:
    document = reserved(bench)
    bench.tell("POST", f"v2/reservemanagement/nodes/{document}")
    return document


def requested(bench: Bench, document: int) -> object:
    return bench.ask(f"v2/reservemanagement/nodes/{document}")["data"]["already_requested"]


def three(bench: Bench) -> int:
    """A document with three versions."""
    return with_versions(bench, bench.folder())


def minors(bench: Bench) -> int:
    folder = bench.folder()
    bench.tell("PUT", f"v2/nodes/{folder}", versions_control_advanced=True)
    return with_versions(bench, folder)


def with_versions(bench: Bench, folder: int) -> int:
    document = bench.wire.document("document.txt", b"1", folder)
    for content in (b"22", b"333"):
        bench.wire.http.post(f"/v2/nodes/{document}/versions", files={"file": ("document.txt", content, "text/plain")})
    return document


def locked(bench: Bench) -> int:
    document = three(bench)
    bench.tell("POST", f"v2/nodes/{document}/versions/2/lock")
    return document


def versions(bench: Bench, document: int) -> object:
    held = [entry["data"]["versions"] for entry in bench.ask(f"v2/nodes/{document}/versions")["results"]]
    names = ("version_number", "version_number_name", "file_size", "description", "locked")
    return [[version[name] for name in names] for version in held]


def document_in_parts(bench: Bench) -> Any:
    return bench.filing("parts.bin", bench.unique("Filed"), IN_PARTS)


def version_in_parts(bench: Bench) -> Any:
    folder = bench.unique("Filed")
    filing.file(bench.session, bench.filing("parts.bin", folder, b"earlier"))
    return bench.filing("parts.bin", folder, IN_PARTS)


def on(verb: str, *more: Any, **named: Any) -> Callable[[ExtendedEcmSession, int], object]:
    """``session.nodes``'s verb on one node."""
    return lambda session, id: getattr(session.nodes, verb)(id, *more, **named)


WRITES = (
    Write("rename", lambda bench: bench.document(), on("rename", "new.txt", "why"), shown("name", "description")),
    Write(
        "rename what nobody changed meanwhile",
        lambda bench: bench.document(),
        lambda session, id: session.nodes.rename(id, "new.txt", token=session.nodes.edit_token(id)),
        shown("name"),
    ),
    Write("move", two, lambda session, given: session.nodes.move(*given, name="new.txt"), in_both),
    Write("copy a document", two, lambda session, given: session.nodes.copy(*given, name="copy.txt"), in_both),
    Write("copy a folder", tree, lambda session, given: session.nodes.copy(*given, name="copy"), below),
    Write("choose the versioning", Bench.folder, on("version_control", advanced=True), shown("versions_control_advanced")),
    Write(
        "delete",
        lambda bench: (document := bench.document(), parent_of(bench, document)),
        lambda session, given: session.nodes.delete(given[0]),
        in_bin,
    ),
    Write("restore", binned, lambda session, given: session.nodes.restore(given[:1]), in_bin),
    Write("purge", binned, lambda session, given: session.nodes.purge(given[:1]), in_bin),
    Write("reserve", lambda bench: bench.document(), on("reserve"), shown("reserved", "reserved_user_id")),
    Write("unreserve", reserved, on("unreserve"), shown("reserved", "reserved_user_id")),
    Write(
        "let a document stand that we meant to remove",
        reserved,
        lambda session, id: session.let_stand(str(id)),
        shown("reserved", "reserved_user_id"),
        often=ONE_OF_A_KIND,
    ),
    Write("queue for a reserved document", reserved, on("queue"), requested),
    Write("leave the queue", queued, on("leave_queue"), requested),
    Write("describe a version", three, on("describe_version", 2, "second"), versions),
    Write(
        "promote a version",
        minors,
        on("promote", 2, "final"),
        versions,
        {
            HUNG_UP: "nothing keeps a version from being promoted twice, and the server may still be at it",
            AWAY: "nothing can be looked at",
        },
    ),
    Write("lock a version", three, on("lock_version", 2), versions),
    Write("unlock a version", locked, on("unlock_version", 2), versions),
    Write("remove a version", three, on("drop_version", 2), versions),
    Write("purge versions", locked, on("purge_versions", keep=1), versions),
    Write("file a document in parts", document_in_parts, filing.file, filing.stands, long=True),
    Write("file a version in parts", version_in_parts, filing.file, filing.stands, filing.MAYBE, ONE_OF_A_KIND),
)
