"""Holds that people tell us of reach every repository that keeps the document, also one that gets it later."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256

import pytest
import yaml
from typer.testing import CliRunner

from blocks.errors import ConfigurationError, DocumentMissing, RepositoryUnreachable
from blocks.ledger import Entry
from blocks.outbound import PackageFile
from blocks.profile import load_repositories
from blocks.repositories.base import RepositorySession
from blocks.repositories.folder import FolderSession
from blocks.values import Hold, Stage
from deployments.cli import app
from tasks import connections, holds
from tasks.clean_up import clear_what_was_held, collect_spool, tell_holds
from tasks.order import documents
from tests.rules.signoff.world import package
from tests.tasks.dock import Dock, price_list

CASE = "Miller ./. ACME"


def on_hold(dock: Dock) -> dict[str, list[str]]:
    """The holds on documents of the repository, as it tells them itself."""
    with load_repositories(dock.profiles)["kept"].session() as session:
        return {kept.name: [hold.name for hold in session.holds(kept.id)] for kept in session.look(("Prices",))}


def hold(verb: str, journey: str) -> str:
    """What ``countersign hold`` prints."""
    comment = () if verb == "list" else (CASE, "--comment", "letter of counsel")
    done = CliRunner().invoke(app, ["hold", verb, journey, *comment], env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.output
    return done.output


def test_a_hold_that_was_set_in_the_quarantine_is_told_once_the_document_is_filed(dock: Dock) -> None:
    dock.agree(naming="good.*")
    dock.leave("a.csv", price_list())
    dock.run()
    [journey] = dock.journeys("a.csv")
    hold("apply", journey)
    assert "repository" not in hold("list", journey), "none has the document"
    dock.agree()
    dock.retry(journey)
    assert on_hold(dock) == {"a.csv": []}
    assert "a repository does not know yet" in hold("list", journey)
    assert tell_holds.fn().kept == ()
    assert on_hold(dock) == {"a.csv": [CASE]}
    assert "here and in its repository" in hold("list", journey)
    told = dock.kinds("a.csv").count("hold-told")
    tell_holds.fn()
    assert dock.kinds("a.csv").count("hold-told") == told == 1, "it is told once"


def test_a_hold_on_a_duplicate_is_on_the_document_that_it_repeats(dock: Dock) -> None:
    for name in ("a.csv", "b.csv"):
        dock.leave(name, price_list())
        dock.run()
    [first], [second] = dock.journeys("a.csv"), dock.journeys("b.csv")
    hold("apply", second)
    assert on_hold(dock) == {"a.csv": [CASE]}
    assert "on hold" in holds.Gate().bars([first])[first].reason
    hold("apply", first)
    hold("lift", second)
    assert on_hold(dock) == {"a.csv": [CASE]}, "the other hold stands"
    hold("lift", first)
    assert on_hold(dock) == {"a.csv": []}
    assert holds.Gate().bars([first, second]) == {}


def test_a_lifting_that_broke_off_is_undone_where_it_had_come_through(dock: Dock) -> None:
    for name, first in (("a.csv", 1), ("b.csv", 50)):
        dock.leave(name, price_list(first=first))
        dock.run()
    [journey] = dock.journeys("a.csv")
    place = next(entry.body["repository"] for entry in dock.history("b.csv") if entry.kind == "filed")
    dock.ledger.append([Entry(journey, "recorded", {"repository": place, "repository_id": "Prices/b.csv"})])  # as a release's
    hold("apply", journey)
    assert on_hold(dock) == {"a.csv": [CASE], "b.csv": [CASE]}
    beside = dock.home / "kept" / "Prices" / "b.csv"
    beside.rename(dock.home / "elsewhere")
    with pytest.raises(DocumentMissing):
        holds.lift_hold(journey, CASE, "settled", "legal")
    assert on_hold(dock) == {"a.csv": []}
    (dock.home / "elsewhere").rename(beside)
    assert "a repository does not know yet" in hold("list", journey)
    tell_holds.fn()
    assert on_hold(dock) == {"a.csv": [CASE], "b.csv": [CASE]}


def test_the_done_file_of_what_was_on_hold_goes_with_it(dock: Dock) -> None:
    dock.agree(settle={"quiet": "PT0S", "done_file": "{name}.done", "done_wait": "PT0.001S"})
    dock.leave("a.csv", price_list())
    dock.leave("a.csv.done")

    def held(step: str, _: object) -> None:
        if step == "clear_source":
            hold("apply", dock.journeys("a.csv")[0])

    dock.run(before=held)
    assert sorted(path.name for path in dock.out.iterdir()) == ["a.csv", "a.csv.done"]
    hold("lift", dock.journeys("a.csv")[0])
    assert [(swept.gone, swept.kept) for swept in clear_what_was_held.fn()] == [(1, ())]
    assert list(dock.out.iterdir()) == []
    dock.look()
    assert dock.codes() == []


def test_case_makes_no_other_hold_of_a_name_and_only_what_is_in_force_is_lifted(dock: Dock) -> None:
    dock.leave("a.csv", price_list())
    dock.run()
    [journey] = dock.journeys("a.csv")
    holds.apply_hold(journey, CASE, "letter of counsel", "legal")
    holds.apply_hold(journey, CASE.upper(), "another letter", "legal")
    assert on_hold(dock) == {"a.csv": [CASE]}
    with pytest.raises(ConfigurationError, match="no hold 'Miler'"):
        holds.lift_hold(journey, "Miler", "settled", "legal")
    holds.lift_hold(journey, CASE.lower(), "settled", "legal")
    assert (on_hold(dock), holds.holds_here()) == ({"a.csv": []}, [])


def test_bytes_that_came_again_while_holds_were_asked_for_stay(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    dock.leave("a.csv", price_list())
    dock.run()
    digest = next(str(entry.body["digest"]) for entry in dock.history("a.csv") if entry.kind == "filed")
    asked = holds.Gate.kept_digests

    class Broken(Exception):
        """Its run ended there; the next one goes on."""

    def slow(self: holds.Gate, digests: Sequence[str]) -> set[str]:
        def ends(step: str, _: object) -> None:
            if step == "file_away":
                raise Broken

        kept = asked(self, digests)
        dock.leave("b.csv", price_list())
        with pytest.raises(Broken):
            dock.run(before=ends)
        return kept

    # Nothing else happens exactly between the question and the collection.
    monkeypatch.setattr(holds.Gate, "kept_digests", slow)
    collect_spool.fn(timedelta(seconds=-60))
    assert connections.spool().holds(digest)


def test_a_released_document_is_asked_for_where_it_was_taken_from(dock: Dock) -> None:
    """The stream takes its releases from another repository by now, where the same id means another document."""
    catalogue = {
        "direction": "outbound",
        "gather": {"repository": "now", "folder": "Out"},
        "destinations": [{"endpoint": "drop", "folder": "/in"}],
        "freshness": "pinned",
        "signoff": {"stages": [{"name": "release", "groups": ["pricing"]}], "proof": "code"},
        "evidence": {"repository": "now", "folder": "Evidence"},
    }
    dock.agree(more={"catalogue": catalogue})
    places = {name: {"kind": "folder", "path": str(dock.home / name)} for name in ("kept", "then", "now")}
    for name in places:
        (dock.home / name / "Out").mkdir(parents=True)
        (dock.home / name / "Out" / "a.csv").write_bytes(b"signed")
    (dock.profiles / "repositories.yaml").write_text(yaml.safe_dump({"repositories": places}))
    repositories = load_repositories(dock.profiles)
    with repositories["then"].session() as session:
        session.apply_hold("Out/a.csv", CASE)
    digest = sha256(b"signed").hexdigest()
    released = package(PackageFile(b"a.csv", 6, digest, "Out/a.csv", 1))
    dock.ledger.append(
        [
            Entry(released.journey, "ordered", {"partner": "acme", "stream": "catalogue", "order": released.order}),
            Entry(released.journey, "frozen", {"package": released.text}),
            Entry(released.journey, "closed", stage=Stage.CLEARED),
            *documents(released, repositories["then"].address),
        ]
    )
    assert holds.Gate().kept_digests([digest]) == {digest}


def test_what_we_wrote_about_another_program_s_transfer_is_held_with_its_record(dock: Dock) -> None:
    dock.leave("a.csv", price_list())
    dock.run()
    filed = next(entry.body for entry in dock.history("a.csv") if entry.kind == "filed")
    place = {key: filed[key] for key in ("repository", "repository_id")}
    with connections.spool().batch() as batch:
        sink = batch.open()
        sink.write(b'{"set": "11"}')
        text = sink.finish().digest
    dock.ledger.append([Entry("transfers.acme.11", "recorded", {"record": text, **place}, stage=Stage.CLEARED)])
    with load_repositories(dock.profiles)["kept"].session() as session:
        session.apply_hold(str(filed["repository_id"]), CASE)
        assert {digest for digest, _ in collect_spool.fn(timedelta(seconds=-1)).kept} == {text, filed["digest"]}
        session.lift_hold(str(filed["repository_id"]), CASE)
    assert collect_spool.fn(timedelta(seconds=-1)).kept == ()
    assert not connections.spool().holds(text)


@pytest.mark.parametrize("count", [1, 3, 70])
def test_each_document_is_asked_about_once_however_many_there_are(
    dock: Dock, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    for number in range(count):
        dock.leave(f"{number:02d}.csv", price_list(first=100 * number))
    dock.run()
    journeys = {name: dock.journeys(name)[0] for name in (f"{number:02d}.csv" for number in range(count))}
    held = f"{count // 2:02d}.csv"
    with load_repositories(dock.profiles)["kept"].session() as session:
        [place] = [kept.id for kept in session.look(("Prices",)) if kept.name == held]
        session.apply_hold(place, CASE)
    asked, ask = list[str](), FolderSession.holds

    def noted(session: FolderSession, id: str) -> tuple[Hold, ...]:
        asked.append(id)
        return ask(session, id)

    monkeypatch.setattr(FolderSession, "holds", noted)
    assert holds.Gate().bars(journeys.values()).keys() == {journeys[held]}
    assert len(asked) == len(set(asked)) == count


class Broken(Exception):
    """No error of a repository's."""


@pytest.mark.parametrize("asked_by", [FolderSession, RepositorySession], ids=["one after the other", "several at once"])
@pytest.mark.parametrize("error", [Broken, RepositoryUnreachable])
def test_where_asking_breaks_off_no_further_document_is_asked_about(
    dock: Dock, monkeypatch: pytest.MonkeyPatch, asked_by: type[RepositorySession], error: type[Exception]
) -> None:
    for number in range(70):
        dock.leave(f"{number:02d}.csv", price_list(first=100 * number))
    dock.run()
    journeys = [dock.journeys(f"{number:02d}.csv")[0] for number in range(70)]
    asked = list[str]()

    def noted(session: FolderSession, id: str) -> tuple[Hold, ...]:
        asked.append(id)
        if asked.index(id) == 3:
            raise error("away")
        time.sleep(0.1)
        return ()

    monkeypatch.setattr(FolderSession, "holds", noted)
    monkeypatch.setattr(FolderSession, "holds_of", asked_by.holds_of)
    if error is Broken:
        with pytest.raises(Broken):
            holds.Gate().bars(journeys)
    else:
        bars = holds.Gate().bars(journeys)
        assert len(bars) > 50 and all(bar.away for bar in bars.values()), "what is not known of is kept"
    assert len(asked) < len(journeys)
