"""X7 Metadata to search/catalogue, from File 360 to a search index.

*Given* 10,000 files, 3 restricted; *when* indexed; *then* no content bytes leave, restricted titles follow policy, deletes and permission
changes propagate within the agreed time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.logging import disable_run_logger

from blocks.errors import ConfigurationError, DocumentMissing, RepositoryError, SystemFailure, SystemRefused
from blocks.repositories.file360 import File360Session, File360Wire
from blocks.values import Filing
from tasks import connections
from tasks.catalogue import Tally, catalogue_watch, load_catalogue
from tasks.connections import repository_session
from tests.ledger.clock import Clock
from tests.sandbox.business import BusinessSandbox
from tests.sandbox.file360 import File360Sandbox
from tests.servers.prefect import PrefectServer, client_of
from tests.tasks.dock import Dock, dock_at
from tests.world import reached

FOLDERS = 20
MARKER = b"what-stands-in-the-files-7731"
SECRET = "Dismissal of Mr Smith.pdf"
RESTRICTED = [("HR", SECRET), ("HR", "Salaries", "Bonuses.pdf"), ("Box 3", "Merger.pdf")]
EVERYBODY = "group:Marketing"


def stock(top: str, files: int) -> Iterator[tuple[tuple[str, ...], bytes, dict[str, Any]]]:
    for number in range(files - len(RESTRICTED)):
        path = (top, f"Box {number % FOLDERS}", f"Report {number}.pdf")
        yield path, MARKER, {"Report": {"Number": str(number), "Author": "Ann"}}
    for path in RESTRICTED:
        yield (top, *path), MARKER, {"Report": {"Number": "0", "Secrecy": "secret" if path[-1] == "Merger.pdf" else "none"}}


@dataclass
class Place:
    """One installation with a watch, a repository and an index."""

    dock: Dock
    repository: File360Sandbox
    business: BusinessSandbox

    def agree(self, folder: str, *, watch: str = "team", **index: Any) -> None:
        restricted = {
            "policy": "mask",
            "folders": ["HR"],
            "marked": [{"category": "Report", "attribute": "Secrecy", "values": ["secret"]}],
        }
        told = {"system": "search", "fields": ["name", "folder", "readers", "Report/Number"], "restricted": restricted, **index}
        agreed = {"repository": "team", "folder": folder, "owner": "search@example.com", "index": told}
        for kind, name, content in (
            ("watches", watch, {"watch": agreed}),
            ("systems", "search", {"system": self.system(folder.casefold())}),
        ):
            (self.dock.profiles / kind).mkdir(exist_ok=True)
            (self.dock.profiles / kind / f"{name}.yaml").write_text(yaml.safe_dump(content))

    def system(self, index: str) -> dict[str, Any]:
        auth = {"kind": "basic", "username": "user", "password": "env:SEARCH_PASSWORD"}
        more = {"timeout_seconds": 60, "breaker": {"failures": 1000, "rest": "PT1S"}}
        return {"kind": "opensearch", "url": self.business.url, "index": index, "auth": auth, **more}

    def run(self, watch: str = "team", patience: float = 60) -> Tally:
        with disable_run_logger():
            return catalogue_watch(load_catalogue(watch), timedelta(seconds=patience))

    def index(self, name: str) -> dict[str, dict[str, Any]]:
        """Id -> what the index knows of it."""
        entries = self.business.books.index.items()
        return {
            place.partition("/")[2]: entry["_source"]
            for place, entry in entries
            if place.startswith(f"{name}/") and entry["_source"] is not None
        }

    def titles(self, name: str) -> list[str]:
        return sorted(entry["name"] for entry in self.index(name).values())

    def act(self, method: str, path: str, **body: Any) -> Any:
        """Somebody does something in the repository."""
        wire = self.wire()
        try:
            return wire.write("a person", method, path, body=body or None)
        finally:
            wire.close()

    def wire(self) -> File360Wire:
        from blocks.profile import load_repositories
        from blocks.repositories.file360 import File360

        block = load_repositories(self.dock.profiles)["team"]
        assert isinstance(block, File360)
        return block.signed_in()

    def file(self, folder: tuple[str, ...], *names: str) -> list[str]:
        """Documents that come in; their ids."""
        source = self.dock.home / "document"
        source.write_bytes(MARKER)
        digest = sha256(MARKER).hexdigest()
        filings = [
            Filing(f"{'/'.join(folder)}/{name}", name, folder, source, digest, len(MARKER), "application/pdf") for name in names
        ]
        with self.session() as session:
            return [getattr(filed, "id") for filed in session.file(filings)]  # noqa: B009 - one that was not filed has none

    def session(self) -> Any:
        from blocks.profile import load_repositories

        return repository_session(load_repositories(self.dock.profiles)["team"])

    def folder(self, *path: str) -> str:
        with self.session() as session:
            assert isinstance(session, File360Session)
            found = session.find(path[:-1], path[-1])
            assert found is not None
            return found.id


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[File360Sandbox, BusinessSandbox]]:
    home = tmp_path_factory.mktemp("x7")
    repository = File360Sandbox(home / "file360").start()
    with BusinessSandbox(home / "business", recorded=home / "recorded") as business:
        yield repository, business
    repository.stop()


@pytest.fixture
def place(services: tuple[File360Sandbox, BusinessSandbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    repository, business = services
    monkeypatch.setenv("ECM_PASSWORD", repository.described()["password"])
    monkeypatch.setenv("SEARCH_PASSWORD", business.PASSWORD)
    with dock_at(tmp_path / "home") as dock:
        kept = {"repositories": {"team": reached(repository.described()), "kept": {"kind": "folder", "path": str(dock.home)}}}
        (dock.profiles / "repositories.yaml").write_text(yaml.safe_dump(kept))
        yield Place(dock, repository, business)


@pytest.mark.parametrize("files", [1000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_files_are_told_by_what_is_known_of_them_and_the_restricted_by_policy(place: Place, files: int) -> None:
    top = f"Team-{files}"
    team = top.casefold()
    place.repository.stock(stock(top, files))
    before = Counter(place.repository.stats)
    place.agree(top)
    assert place.run().told == files

    known = place.index(team)
    assert len(known) == files
    plain = next(entry for entry in known.values() if entry["name"] == "Report 7.pdf")
    assert plain.keys() == {
        "watch", "repository", "folders", "as_of", "restricted", "name", "folder", "readers", "values",
    }, "what was agreed, and nothing else: an author, a size, ..."  # fmt: skip
    assert (plain["folder"], plain["values"]) == ("Box 7", {"Report": {"Number": "7"}})
    assert plain["readers"] == ["user:countersign@example.com"]

    # Restricted ones: that there is one, and nothing of what it is called, or where it is.
    masked = [entry for entry in known.values() if entry["restricted"]]
    assert [(entry["name"], "folder" in entry, "values" in entry) for entry in masked] == [
        ("Restricted document", False, False)
    ] * len(RESTRICTED)
    told = Path(str(place.business.recorded)).read_bytes()
    for path in RESTRICTED:
        assert path[-1].encode() not in told
    assert b"Salaries" not in told and b"Report 7.pdf" in told

    # No content: nothing asked the repository for any, it has told nobody of any, and nothing of it came to the index.
    assert MARKER not in told
    asked = place.repository.stats - before
    assert asked and not [call for call in asked if "content" in call or "view" in call]
    assert place.run() == Tally(), "nothing has happened"

    # A permission change within the agreed time: everybody may see a box now.
    box = place.folder(top, "Box 3")
    group = place.act("GET", "api/v1/groups")["results"][0]["id"]
    place.act("POST", f"api/v1/folders/{box}/collaborators", members=[{"groupId": group, "role": 1}])
    inside = sum(box in entry["folders"] for entry in known.values())
    assert place.run().told == inside
    assert files // FOLDERS - 1 <= inside <= files // FOLDERS + 1
    seen = [entry for entry in place.index(team).values() if EVERYBODY in entry["readers"]]
    assert len(seen) == inside and all(box in entry["folders"] for entry in seen)
    place.act("DELETE", f"api/v1/folders/{box}/collaborators")
    place.run()
    assert not [entry for entry in place.index(team).values() if EVERYBODY in entry["readers"]]

    # Deletes, of one and of a folder with all that is in it, and what is restored.
    one = next(id for id, entry in known.items() if entry["name"] == "Report 8.pdf")
    place.act("PUT", f"api/v1/documents/{one}", state="deleted")
    gone = place.folder(top, "Box 5")
    below = sum(gone in entry["folders"] for entry in known.values())
    place.act("PUT", f"api/v1/folders/{gone}", state="deleted")
    assert place.run().removed == 1 + below
    left = place.index(team)
    assert one not in left and not [id for id, entry in left.items() if gone in entry["folders"]]
    place.act("PUT", f"api/v1/folders/{gone}", state="active")
    place.act("PUT", f"api/v1/documents/{one}", state="active")
    place.run()
    assert place.titles(team) == sorted(entry["name"] for entry in known.values())


def test_what_becomes_restricted_is_masked_and_what_moves_away_goes(place: Place) -> None:
    place.agree("Move", restricted={"policy": "mask", "folders": ["HR"]})
    a, b, c = place.file(("Move", "Open"), "a.pdf", "b.pdf", "c.pdf")
    place.file(("Move", "HR"), "h.pdf")
    place.file(("Elsewhere",), "e.pdf")
    place.run()
    assert place.titles("move") == ["Restricted document", "a.pdf", "b.pdf", "c.pdf"]
    hr, elsewhere = place.folder("Move", "HR"), place.folder("Elsewhere")
    place.act("PUT", f"api/v1/documents/{a}", parentId=hr)
    place.act("PUT", f"api/v1/documents/{b}", parentId=elsewhere)
    place.act("PUT", f"api/v1/documents/{c}", name="d.pdf")
    place.run()
    assert place.titles("move") == ["Restricted document", "Restricted document", "d.pdf"]
    place.act("PUT", f"api/v1/folders/{place.folder('Move', 'Open')}", parentId=hr)
    place.run()
    assert set(place.titles("move")) == {"Restricted document"}

    # Another agreement about the same documents is told at once.
    place.agree("Move", restricted={"policy": "leave-out", "folders": ["HR"]})
    assert place.run().left_out == 3
    assert place.titles("move") == []
    place.agree("Move", restricted=None)
    place.run()
    assert place.titles("move") == ["a.pdf", "d.pdf", "h.pdf"]


def test_a_document_that_not_everybody_may_see_is_restricted(place: Place) -> None:
    place.agree("Access", restricted={"policy": "mask", "open_to": [EVERYBODY]})
    place.file(("Access", "Open"), "a.pdf")
    place.run()
    assert place.titles("access") == ["Restricted document"]
    group = place.act("GET", "api/v1/groups")["results"][0]["id"]
    folder = place.folder("Access", "Open")
    place.act("POST", f"api/v1/folders/{folder}/collaborators", members=[{"groupId": group, "role": 1}])
    place.run()
    assert place.titles("access") == ["a.pdf"]
    place.agree("Access", restricted={"policy": "mask", "open_to": [EVERYBODY]}, compare_every="PT1H")
    assert place.run().told == 1
    assert place.titles("access") == ["a.pdf"], "a comparison sees the same"
    place.act("DELETE", f"api/v1/folders/{folder}/collaborators")
    place.run()
    assert place.titles("access") == ["Restricted document"]


SOAK = pytest.mark.soak


@pytest.mark.parametrize(
    "fault", ["busy429", "lost-answer", *(pytest.param(fault, marks=SOAK) for fault in ("burst503", "drop", "cut"))]
)
def test_nothing_is_lost_and_nothing_doubled_whatever_breaks(place: Place, fault: str) -> None:
    folder = f"Fault {fault}".replace(" ", "-")
    place.agree(folder)
    a, b = place.file((folder,), "a.pdf", "b.pdf")
    place.business.faults.set({fault: 1})
    try:
        assert place.run().told >= 2
        c, *_ = place.file((folder,), "c.pdf")
        place.act("PUT", f"api/v1/documents/{a}", state="deleted")
        place.business.faults.set({f"{fault}@_bulk": 2})
        place.run()
    finally:
        place.business.faults.set({fault: 0, f"{fault}@_bulk": 0})
    assert place.index(folder.casefold()).keys() == {b, c}


def test_an_index_that_is_away_is_told_later_and_a_person_once_the_agreed_time_is_over(place: Place) -> None:
    clock = Clock(connections.ledger())
    place.agree("Late", agreed_time="PT5M")
    [a] = place.file(("Late",), "a.pdf")
    place.run()
    place.act("PUT", f"api/v1/documents/{a}", state="deleted")
    place.business.faults.set({"burst503@_bulk": 1000})
    try:
        for minutes, cases in ((1, []), (10, ["catalogue-late"]), (11, ["catalogue-late"])):
            clock.ahead = timedelta(minutes=minutes)
            with pytest.raises(SystemFailure):
                place.run(patience=0)
            assert place.dock.codes() == cases
    finally:
        place.business.faults.set({"burst503@_bulk": 0})
    assert a in place.index("late")
    place.run()
    assert a not in place.index("late") and place.dock.codes() == []


def test_a_comparison_that_fails_from_the_beginning_or_since_it_was_agreed_anew_is_late_too(place: Place) -> None:
    clock = Clock(connections.ledger())
    place.agree("First", agreed_time="PT5M")
    place.file(("First",), "a.pdf")
    for begins, fields in ((timedelta(0), ["name"]), (timedelta(hours=1), ["name", "folder"])):
        place.agree("First", agreed_time="PT5M", fields=fields)
        place.business.faults.set({"burst503@first": 1000})
        try:
            for minutes, cases in ((0, []), (4, []), (6, ["catalogue-late"])):
                clock.ahead = begins + timedelta(minutes=minutes)
                with pytest.raises(SystemFailure):
                    place.run(patience=0)
                assert place.dock.codes() == cases
        finally:
            place.business.faults.set({"burst503@first": 0})
        place.run()
        assert place.titles("first") == ["a.pdf"] and place.dock.codes() == []


def test_a_folder_that_is_gone_is_told_to_a_person(place: Place) -> None:
    place.agree("Gone")
    place.file(("Gone",), "a.pdf")
    place.run()
    folder = place.folder("Gone")
    place.act("PUT", f"api/v1/folders/{folder}", state="deleted")
    with pytest.raises(DocumentMissing):
        place.run()
    assert place.dock.codes() == ["catalogue-late"]
    place.act("PUT", f"api/v1/folders/{folder}", state="active")
    place.run()
    assert place.titles("gone") == ["a.pdf"] and place.dock.codes() == []


def test_nothing_is_passed_over_in_a_folder_that_shrinks_while_it_is_read(place: Place) -> None:
    place.repository.stock((("Shrinks", f"{number}.pdf"), MARKER, {}) for number in range(250))
    place.agree("Shrinks")
    with place.session() as session:
        described = session.describe(("Shrinks",))
        found = [next(described).kept for _ in range(100)]
        for one in found[:3]:
            place.act("PUT", f"api/v1/documents/{one.id}", state="deleted")
        found += [one.kept for one in described]
    assert sorted(int(one.name.removesuffix(".pdf")) for one in found) == list(range(250))


def test_one_that_the_index_refuses_holds_no_other_up_and_is_not_left_as_it_was(place: Place) -> None:
    place.agree("Poison")
    a, b = place.file(("Poison",), "a.pdf", "b.pdf")
    place.run()
    for id in (a, b):
        place.act("PUT", f"api/v1/documents/{id}", name=f"new {id}.pdf")
    place.business.faults.set({"bulk-refuses": 1})
    try:
        tally = place.run()
    finally:
        place.business.faults.set({"bulk-refuses": 0})
    assert tally.refused and place.dock.codes() == ["not-catalogued"] * len(tally.refused)
    assert not [title for title in place.titles("poison") if title in ("a.pdf", "b.pdf")], "what it knew before is gone"
    for id in tally.refused:
        place.act("PUT", f"api/v1/documents/{id}", name=f"mended {id}.pdf")
    assert place.run().refused == []
    assert len(place.titles("poison")) == 2 and place.dock.codes() == []


def test_an_older_look_replaces_nothing_and_a_comparison_finds_what_was_missed(place: Place) -> None:
    clock = Clock(connections.ledger())
    place.agree("Order")
    a, b = place.file(("Order",), "a.pdf", "b.pdf")
    place.run()
    books, system = place.business.books, load_catalogue("team").system
    from blocks.systems.base import Message

    number = place.index("order")[a]["as_of"]
    with system.session() as slow:  # a worker that was stalled: what it saw is old by now
        stale = {"id": a, "version": number - 1, "document": {"name": "old.pdf", "watch": "team"}}
        list(slow.send([Message("slow", "index", stale)]))
    assert place.index("order")[a]["name"] == "a.pdf"

    # The feed told nothing of these: one went, one came, one was changed in the index by somebody else.
    books.write(entry="order/999", source={"watch": "team", "as_of": 1, "name": "ghost.pdf"}, version=1)
    books.write(entry="order/998", source={"watch": "other", "as_of": 1, "name": "another watch's.pdf"}, version=1)
    books.write(entry=f"order/{b}", source=None, version=number + 1)
    assert place.run() == Tally()
    clock.ahead = timedelta(days=1, minutes=1)
    assert place.run() == Tally(told=2, removed=1)
    assert place.titles("order") == ["a.pdf", "another watch's.pdf", "b.pdf"]
    clock.ahead = timedelta(days=-30)  # put back, or the ledger is an older copy: numbers rise all the same
    place.act("PUT", f"api/v1/documents/{a}", name="c.pdf")
    place.run()
    assert place.titles("order") == ["another watch's.pdf", "b.pdf", "c.pdf"]


def test_a_run_that_breaks_off_is_gone_on_with(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.agree("Broken")
    [a] = place.file(("Broken",), "a.pdf")
    place.run()
    place.act("PUT", f"api/v1/documents/{a}", name="b.pdf")
    with monkeypatch.context() as patch:

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("tasks.catalogue._Run._send", killed)
        with pytest.raises(KeyboardInterrupt):
            place.run()
    assert place.run().told == 1
    assert place.titles("broken") == ["b.pdf"]


def test_an_index_that_is_not_for_us_and_a_repository_that_cannot_tell_say_so(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.file(("Refused",), "a.pdf")
    place.agree("Refused", watch="other")
    monkeypatch.setenv("SEARCH_PASSWORD", "wrong")
    with pytest.raises(SystemRefused, match="401"):
        place.run("other")
    monkeypatch.setenv("SEARCH_PASSWORD", place.business.PASSWORD)
    file = place.dock.profiles / "watches" / "other.yaml"
    file.write_text(file.read_text().replace("repository: team", "repository: kept"))
    with pytest.raises(RepositoryError, match="cannot be"):
        place.run("other")
    file.write_text(yaml.safe_dump({"watch": {"repository": "team", "folder": "Refused"}}))
    with pytest.raises(ConfigurationError, match="nothing under 'index'"):
        load_catalogue("other")


def test_it_is_a_flow(place: Place, prefect_server: PrefectServer) -> None:
    from flows.governance import catalogue

    place.agree("Flow")
    place.file(("Flow",), "a.pdf")
    with client_of(prefect_server):
        assert catalogue("team", return_state=True).name == "Catalogued"
        place.file(("Flow",), "b.pdf")
        broken = place.dock.profiles / "watches" / "broken.yaml"
        broken.write_text(yaml.safe_dump({"watch": {"repository": "nowhere", "folder": "Flow", "index": {"system": "search"}}}))
        assert catalogue(return_state=True).is_failed(), "a file that nobody can read is told"
        assert place.titles("flow") == ["a.pdf", "b.pdf"], "and holds no other watch up"
        broken.unlink()
        assert catalogue(return_state=True).name == "Nothing new"
