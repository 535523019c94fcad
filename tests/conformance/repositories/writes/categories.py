"""Categories and classifications of nodes, beyond what a filing sets."""

from __future__ import annotations

from tests.conformance.repositories.writes.bench import AWAY, Bench, Write

NAME = "Partner Document"
ROWS = {"Partner ID": "4711", "Tags": ("a", "b"), "Lines:SKU": ("S1", "S2", "S3")}


def filled(bench: Bench) -> int:
    """A document with values, three of them in a set."""
    document = bench.document()
    bench.session.categories.change(document, NAME, ROWS)
    return document


def values(bench: Bench, document: int) -> object:
    return bench.session.categories.values(document)


def container(bench: Bench) -> int:
    """A folder that has the category, with a document in it that has not."""
    folder = bench.folder()
    bench.wire.document("inner.txt", b"x", folder)
    bench.session.categories.change(folder, NAME, {"Partner ID": "4711"})
    return folder


def inheriting(bench: Bench) -> int:
    folder = container(bench)
    bench.session.categories.inherit(folder, NAME, on=True)
    return folder


def handed_down(bench: Bench, folder: int) -> object:
    """Read past the interface: none of its calls tells."""
    query = "SELECT inherited FROM applied_category WHERE node_id = ?"
    return [row["inherited"] for row in bench.sandbox._store.db.execute(query, (folder,)).fetchall()]


def of_what_is_there(bench: Bench, folder: int) -> object:
    inner = bench.session.nodes.taken(folder, ["inner.txt"])["inner.txt"]
    return bench.session.categories.values(inner)


def classified(bench: Bench) -> int:
    document = bench.document()
    bench.session.categories.classify(document, ["Contracts"])
    return document


def classes(bench: Bench, document: int) -> object:
    return sorted(entry["name"] for entry in bench.ask(f"v1/nodes/{document}/classifications")["data"])


WRITES = (
    Write(
        "put a category on a node",
        lambda bench: bench.document(),
        lambda session, id: session.categories.change(id, NAME, ROWS),
        values,
    ),
    Write(
        "change values",
        filled,
        lambda session, id: session.categories.change(id, NAME, {"Partner ID": "4712", "Tags": (), "Lines:SKU": ("T1",)}),
        values,
    ),
    Write("take a category off", filled, lambda session, id: session.categories.drop(id, NAME), values),
    Write(
        "take a row out of a set",
        filled,
        lambda session, id: session.categories.drop_row(id, NAME, "Lines", 2),
        values,
        {AWAY: "a second call would take another row out"},
    ),
    Write(
        "let a category be inherited", container, lambda session, id: session.categories.inherit(id, NAME, on=True), handed_down
    ),
    Write("inherit it no more", inheriting, lambda session, id: session.categories.inherit(id, NAME, on=False), handed_down),
    Write(
        "put a folder's categories on what is in it",
        container,
        lambda session, id: session.categories.apply_below(id, [NAME]),
        of_what_is_there,
    ),
    Write(
        "classify a node",
        lambda bench: bench.document(),
        lambda session, id: session.categories.classify(id, ["File Plan/Contracts", "Invoices"]),
        classes,
    ),
)
