"""What approvers are told of the last release: from the bytes that are kept, wherever they are, and honestly where they are not."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import yaml

from blocks.ledger import Entry, Ledger, Recorded, new_journey
from blocks.outbound import Decision, Destination, Meaning, Package, PackageFile, Redelivery, SignoffProof, Vote
from blocks.profile import load_repositories
from blocks.values import Filing, name_b64
from tasks import ask, connections, previews, since_last
from tasks.holds import apply_hold
from tasks.order import Order, documents, find_order, in_hand, load_release, order_key
from tasks.rules.dialog import _document
from tasks.rules.difference import CellChange, Difference
from tests.tasks.dock import Dock
from tests.world import COLUMNS

PLACE = Destination("folder", "", 0, "", "/in", "")


def table(rows: int = 1000, **prices: str) -> bytes:
    """A price list; ``A0612="825.00"`` plants a price."""
    lines = [f"A{n:04},,EUR,{prices.get(f'A{n:04}', f'{n % 90 + 10}.50')},2026-01-01" for n in range(rows)]
    return "\n".join([COLUMNS, *lines, ""]).encode()


class Stream:
    """A stream that releases price lists from a folder repository: its orders are written as a release writes them."""

    def __init__(self, dock: Dock) -> None:
        self.dock = dock
        self.agree()

    def agree(self, **changes: Any) -> None:
        specs = {
            "direction": "outbound",
            "gather": {"repository": "kept", "folder": "Prices"},
            "destinations": [{"endpoint": "drop", "folder": "/in"}],
            "classify": [{"pattern": r".*\.csv", "doctype": "price-list"}],
            "freshness": "pinned",
            "signoff": {"stages": [{"name": "release", "groups": ["pricing"]}], "proof": "code"},
            "evidence": {"repository": "kept", "folder": "Evidence"},
            **changes,
        }
        self.dock.agree(more={"specs": {name: terms for name, terms in specs.items() if terms is not None}})
        (self.dock.profiles / "people.yaml").write_text(yaml.safe_dump({"people": []}))

    def file(self, name: str, content: bytes) -> PackageFile:
        """A document in the repository, a new version of it if there is one of that name; its bytes are in the spool."""
        with connections.spool().batch() as batch:
            sink = batch.open()
            sink.write(content)
            done = sink.finish()
        path = connections.spool().path(done.digest)
        filing = Filing(str(uuid4()), name, ("Prices",), path, done.digest, done.size, "text/csv")
        with load_repositories(self.dock.profiles)["kept"].session() as session:
            (filed,) = session.file([filing])
        return PackageFile(name.encode(), done.size, done.digest, filed.id, filed.version)  # type: ignore[union-attr]

    def freeze(self, id: str, *files: PackageFile, redelivery: Redelivery | None = None) -> Package:
        """An order whose package waits."""
        agreed, journey = load_release("acme", "specs"), new_journey()
        package = Package(journey, id, "acme", "specs", agreed.policies.digest, (PLACE,), files, redelivery=redelivery)
        about = {"partner": "acme", "stream": "specs", "name": id, "order": id}
        ordered = {**about, "requester": "", "ids": [], "run": "r"}
        checked = {"documents": len(files), "findings": []}
        frozen = {**about, "package": package.text, "policies": agreed.policies.facts, "editors": [], "checked": checked}
        self.dock.ledger.append(
            [Entry(journey, "ordered", ordered, order_key("acme", "specs", id)), Entry(journey, "frozen", frozen)]
        )
        return package

    def end(self, package: Package, state: str = "Delivered", without: str = "", vote: Vote | None = None) -> None:
        """The order is released, but for the file ``without``; or it ends otherwise."""
        sent = [{"source": name_b64(file.name)} for file in package.files if file.shown != without]
        entries = [Entry(package.journey, "answered", {"vote": vote.facts})] if vote else []
        if state == "Delivered":
            chain = "certificates.acme.specs"
            count = len(self.dock.ledger.journey(chain))
            entries += [
                Entry(package.journey, "delivered", {"files": sent}),
                Entry(chain, "certified", {"release": package.journey}, f"{chain}/{count + 1}"),
            ]
        self.dock.ledger.append([*entries, Entry(package.journey, "closed", {"state": state})])

    def waiting(self, id: str) -> AbstractContextManager[Order]:
        agreed = load_release("acme", "specs")
        return in_hand(Order(agreed, id, find_order(agreed, id)[0].journey, "r", None))

    def since(self, id: str) -> Difference | None:
        with self.waiting(id) as order:
            found: Difference | None = since_last.since_last(order)
            return found


@pytest.fixture
def stream(dock: Dock) -> Stream:
    return Stream(dock)


def forget(file: PackageFile) -> None:
    """The spool was collected since."""
    connections.spool().place(file.sha256).unlink()


def test_the_first_release_is_beside_nothing(stream: Stream) -> None:
    stream.freeze("o-1", stream.file("a.csv", table()))
    assert stream.since("o-1") is None


@pytest.mark.parametrize("spooled", [True, False], ids=["from the spool", "from the repository's version"])
def test_one_planted_price_is_found_once_and_kept(stream: Stream, spooled: bool) -> None:
    old = stream.file("a.csv", table())
    stream.end(stream.freeze("o-1", old))
    stream.freeze("o-2", stream.file("a.csv", table(A0612="825.00")))
    if not spooled:
        forget(old)
    found = stream.since("o-2")
    assert found is not None and (found.order, found.changed) == ("o-1", 1)
    (one,) = found.documents
    assert one.rows is not None and (one.rows.changed, one.rows.added, one.rows.removed) == (1, 0, 0)
    assert one.rows.biggest == (CellChange("A0612, EUR", "price", "82.50", "825.00", 9000),)
    shutil.rmtree(stream.dock.home / "kept")
    shutil.rmtree(connections.spool().store)
    assert stream.since("o-2") == found, "what was read is not read again"


def test_a_later_release_is_compared_anew(stream: Stream) -> None:
    stream.end(stream.freeze("o-1", stream.file("a.csv", table())))
    stream.freeze("o-3", stream.file("a.csv", table(A0001="1.00")))
    assert (first := stream.since("o-3")) is not None and first.order == "o-1"
    stream.end(stream.freeze("o-2", stream.file("a.csv", table(A0001="2.00"))))
    assert (then := stream.since("o-3")) is not None and then.order == "o-2"
    assert then.documents[0].rows is not None and then.documents[0].rows.biggest[0].before == "2.00"


def test_bytes_that_nobody_has_any_more_are_told_honestly(stream: Stream) -> None:
    old = PackageFile(b"a.csv", 7, hashlib.sha256(b"gone").hexdigest(), "Prices/no such.csv", 1)
    other = PackageFile(b"b.csv", 7, hashlib.sha256(b"other").hexdigest(), stream.file("b.csv", table(3)).repository_id, 1)
    stream.end(stream.freeze("o-1", old, other))
    stream.freeze("o-2", stream.file("a.csv", table()), stream.file("b.csv", table(4)))
    found = stream.since("o-2")
    assert found is not None
    assert {one.name: one.note for one in found.documents} == {
        "a.csv": "the repository no longer has what was released",
        "b.csv": "the repository has other bytes than were released",
    }
    assert all(one.rows is None for one in found.documents)


def test_a_remainder_belongs_to_the_release_that_it_was_left_out_of(stream: Stream) -> None:
    files = [stream.file(name, table(2)) for name in ("a.csv", "b.csv", "c.csv")]
    stream.end(first := stream.freeze("o-1", *files), without="c.csv")
    stream.end(stream.freeze("o-1~5e6f7a8b9c0d", files[2]))
    assert first.root_order == "o-1"
    stream.freeze("o-2", stream.file("a.csv", table(2, A0001="115.00")), *files[1:])
    found = stream.since("o-2")
    assert found is not None and (found.added, found.changed, found.same) == (0, 1, 2)
    (one,) = found.documents
    assert one.name == "a.csv" and one.rows is not None and one.rows.biggest[0].after == "115.00"


def test_what_is_only_sent_again_is_no_release_to_compare_with(stream: Stream) -> None:
    old, new = stream.file("a.csv", table(2)), stream.file("a.csv", table(3))
    stream.end(first := stream.freeze("o-1", old))
    stream.end(stream.freeze("o-2", new))
    why = Redelivery("o-1", first.digest, 2, "lost", "ann")
    stream.end(stream.freeze("o-1~5e6f7a8b9c0d", old, redelivery=why))
    stream.freeze("o-3", new)
    found = stream.since("o-3")
    assert found is not None and (found.order, found.changed, found.same) == ("o-2", 0, 1)


def test_what_was_left_out_was_not_released(stream: Stream) -> None:
    files = [stream.file(name, table(2)) for name in ("a.csv", "b.csv")]
    stream.end(stream.freeze("o-1", *files), without="b.csv")
    stream.freeze("o-2", *files)
    found = stream.since("o-2")
    assert found is not None and (found.same, found.names_added) == (1, ("b.csv",))


@pytest.mark.parametrize("typed", [True, False], ids=["by the type's key", "line by line"])
def test_a_large_table_is_compared_in_parts(stream: Stream, typed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # A table of more than 4 MiB takes seconds to be made and compared.
    monkeypatch.setattr(since_last, "PART_BYTES", 4096)
    stream.agree(**({} if typed else {"classify": None}))
    stream.end(stream.freeze("o-1", stream.file("a.csv", table(3000))))
    stream.freeze("o-2", stream.file("a.csv", table(3001, A2999="0.01")))
    found = stream.since("o-2")
    assert found is not None and (rows := found.documents[0].rows) is not None
    assert (rows.after, rows.changed, rows.added, rows.removed) == (3001 if typed else 3002, 1, 1, 0)
    assert rows.biggest[0].after == "0.01" and "A3000" in rows.first_added


def test_a_first_field_that_names_nothing_is_no_key_and_fills_no_memory(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As above.
    monkeypatch.setattr(since_last, "PART_BYTES", 1024)
    stream.agree(classify=None)
    lines = [f"x,{n},{n}" for n in range(2000)]
    stream.end(stream.freeze("o-1", stream.file("a.csv", "\n".join(lines).encode())))
    stream.freeze("o-2", stream.file("a.csv", "\n".join([*lines[:-1], "x,1999,5"]).encode()))
    found = stream.since("o-2")
    assert found is not None and (rows := found.documents[0].rows) is not None
    assert (rows.changed, rows.added, rows.removed, rows.first_added) == (0, 1, 1, "x, 1999, 5")


@pytest.mark.parametrize(
    ("lines", "reordered"),
    [
        pytest.param(["<a>", "<price>20</price>", "</a>", "<a>", "<price>10</price>", "</a>"], True, id="two exchanged"),
        pytest.param(["<a>", "<price>10</price>\r", "</a>", "<a>", "<price>20</price>", "</a>"], False, id="another line end"),
    ],
)
def test_the_order_of_lines_is_told_where_nobody_knows_what_they_mean(
    stream: Stream, lines: list[str], reordered: bool
) -> None:
    stream.agree(classify=None)
    old = ["<a>", "<price>10</price>", "</a>", "<a>", "<price>20</price>", "</a>"]
    stream.end(stream.freeze("o-1", stream.file("a.xml", "\n".join(["<?xml version='1.0'?>", *old]).encode())))
    stream.freeze("o-2", stream.file("a.xml", "\n".join(["<?xml version='1.0'?>", *lines]).encode()))
    found = stream.since("o-2")
    assert found is not None and (rows := found.documents[0].rows) is not None
    assert (rows.changed, rows.added, rows.removed, rows.reordered) == (0, 0, 0, reordered)
    assert ("in **another order**" in _document(found.documents[0])) == reordered


@pytest.mark.parametrize(("more", "note"), [(0, ""), (1, "too wide to be compared row by row")])
def test_a_document_of_very_many_fields_is_told_by_its_size(stream: Stream, more: int, note: str) -> None:
    stream.agree(classify=None)
    row = ",".join(map(str, range(since_last.MOST_FIELDS + more)))
    stream.end(stream.freeze("o-1", stream.file("a.csv", row.encode())))
    stream.freeze("o-2", stream.file("a.csv", row.replace(",7,", ",8,").encode()))
    found = stream.since("o-2")
    assert found is not None and (found.documents[0].rows is None, found.documents[0].note) == (bool(note), note)


def test_other_documents_are_told_by_their_sizes(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    stream.agree(classify=None)
    stream.end(stream.freeze("o-1", stream.file("a.pdf", b"%PDF-1.4 one"), stream.file("b.csv", table(50))))
    stream.freeze("o-2", stream.file("a.pdf", b"%PDF-1.4 three"), stream.file("b.csv", table(51)))
    # Not 256 MiB for one comparison of two numbers.
    monkeypatch.setattr(since_last, "MOST_BYTES", 100)
    found = stream.since("o-2")
    assert found is not None
    told = {one.name: (one.size_before, one.size, one.rows, one.note) for one in found.documents}
    assert told["a.pdf"] == (12, 14, None, "")
    assert told["b.csv"][2:] == (None, "too large to be compared row by row")


def test_how_the_last_orders_ended(stream: Stream) -> None:
    file = stream.file("a.csv", table(2))
    for number, state in enumerate(("Expired", "Delivered", "Rejected", "Delivered"), 1):
        against = state == "Rejected"
        decision, comment = (Decision.REJECT, "no") if against else (Decision.APPROVE, "")
        vote = Vote(
            package="0" * 64,
            run="r",
            round=1,
            approver=f"p{number}",
            on_behalf_of=None,
            stage=None if against else 0,
            decision=decision,
            meaning=Meaning.RELEASE,
            left_out=(),
            comment=comment,
            at=datetime.now(UTC),
            shown="0" * 64,
            proof=SignoffProof.CODE,
        )
        package = stream.freeze(f"o-{number}", file)
        stream.end(package, state, vote=None if state == "Expired" else vote)
    stream.freeze("o-5", file)
    with stream.waiting("o-5") as order:
        told = [(one.order, one.state, one.by, one.comment) for one in since_last.decided_before(order)]
    assert told == [("o-4", "Delivered", ("p4",), ""), ("o-3", "Rejected", ("p3",), "no"), ("o-2", "Delivered", ("p2",), "")]


def test_the_list_behind_the_dialog_follows_what_was_released_meanwhile(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect would keep what is published: here it is only looked at."""
    published: list[str] = []

    def publish(markdown: str, key: str, **_: str) -> str:
        published.append(markdown)
        return f"{key}-{len(published)}"

    monkeypatch.setattr(ask, "create_markdown_artifact", publish)
    monkeypatch.setattr(ask, "_link", lambda artifact: artifact)
    stream.end(stream.freeze("o-1", stream.file("a.csv", table())))
    stream.freeze("o-2", stream.file("a.csv", table(A0612="825.00")))
    other = stream.freeze("o-3", stream.file("a.csv", table(A0612="825.00", A0613="9.00")))
    with stream.waiting("o-2") as order:
        first = ask._list(order, order.matter.package)
        opened = order.write("opened", {"deadline": "2100-01-01T00:00:00+00:00", "link": first, "beside": ask._beside(order)})
        assert ask._everything(order, opened) == first
    stream.end(other)
    with stream.waiting("o-2") as order:
        again = ask._everything(order, opened)
        assert (again != first, ask._everything(order, opened)) == (True, again)
    assert ["order `o-1`" in page for page in published] == [True, False] and "order `o-3`" in published[1]


def test_whether_a_preview_may_go_asks_about_its_own_documents_alone(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = stream.file("a.csv", table()), stream.file("b.csv", table(A0001="1.00"))
    mine, alike, strange = stream.freeze("o-1", one), stream.freeze("o-2", one), stream.freeze("o-3", other)
    for package in (mine, alike, strange):
        stream.dock.ledger.append(documents(package, load_release("acme", "specs").repository.address))
    asked: list[str] = []

    def journeys(ledger: Ledger, some: Sequence[str], **more: Any) -> dict[str, list[Recorded]]:
        asked.extend(some)
        return read(ledger, some, **more)

    read = Ledger.journeys
    # Counted, not replaced: what else is read is seen in no result.
    monkeypatch.setattr(Ledger, "journeys", journeys)
    assert previews._may_go(mine.journey, [one.sha256])
    assert mine.journey in asked and alike.journey in asked and not [id for id in asked if id.startswith(strange.journey)]
    apply_hold(alike.journey, "Miller", "letter", "ann")
    assert not previews._may_go(mine.journey, [one.sha256])
    assert previews._may_go(strange.journey, [other.sha256])
