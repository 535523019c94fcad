"""Closed journeys are exported and reduced: nothing of them is lost, and nothing can be filed twice because of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from blocks.errors import (
    ChainBroken,
    ConfigurationError,
    DocumentChanged,
    JourneyReduced,
    LedgerUnreachable,
    RepositoryUnreachable,
    SpoolFull,
)
from blocks.ledger import Entry, Ledger
from blocks.repositories.folder import FolderSession
from blocks.seals import key_id
from blocks.tombstones import REDUCED, Exports
from deployments.cli import app
from deployments.ssh_signatures import signature_holds
from flows import governance
from tasks import checkpoint, clean_up, connections, holds, reduce
from tasks.clean_up import Swept, collect_spool, remove_what_has_ended, tell_holds
from tasks.export_evidence import export
from tasks.reduce import reduce_closed
from tasks.retry import reject, reopened
from tasks.rules.holding import same_bytes
from tasks.rules.removal import NOT_REMOVED, REMOVING
from tasks.verify_evidence import verify_evidence
from tests.tasks.dock import Dock, price_list

YEARS = timedelta(days=800)
HOLD = "Miller ./. ACME"


@pytest.fixture
def old(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> Dock:
    """A dock that reduces what was closed two years ago, where three files came and were filed three years ago."""
    agree(dock)
    for n in range(3):
        dock.leave(f"{n}.csv", price_list(first=10 * n))
    dock.run()
    checkpoint.checkpoint.fn()
    # What is asked alone, and not the database's clock: what a test does after this counts as done years ago as well.
    now = Ledger.now
    monkeypatch.setattr(Ledger, "now", lambda ledger: now(ledger) + YEARS)
    return dock


def agree(dock: Dock, **terms: Any) -> None:
    dock.agree(reduce_after="P730D", **terms)
    path = dock.profiles / "repositories.yaml"
    path.write_text(
        yaml.safe_dump({**yaml.safe_load(path.read_text()), "checkpoints": {"repository": "kept", "folder": "Seals"}})
    )


def sweep() -> Swept:
    [swept] = reduce_closed.fn()
    return swept


def filed(dock: Dock) -> list[Path]:
    """The exports in the repository, as they lie on its disk."""
    return sorted((dock.home / "kept" / "Seals" / "Journeys").glob("*.jsonl"))


def journeys(dock: Dock) -> list[str]:
    return [one.journey for one in dock.ledger.search(partner="acme", stream="prices") if "." not in one.journey]


def whole(dock: Dock) -> list[str]:
    histories = dock.ledger.journeys(journeys(dock))
    return [journey for journey, history in histories.items() if history[-1].kind != REDUCED]


def verify(dock: Dock) -> tuple[int, int]:
    """How many journeys are reduced, and how many of them were read again."""
    exports = Exports(dock.home / "kept" / "Seals" / "Journeys")
    found = dock.ledger.verify(keys=checkpoint.keys(), exports=exports)
    return found.reduced, found.reread


def test_what_was_closed_long_ago_is_exported_and_reduced(old: Dock) -> None:
    texts = {link.record for links in old.ledger.chains(journeys(old)).values() for link in links}
    assert sweep() == Swept("journeys of acme/prices", 3)
    [path] = filed(old)
    assert texts <= set(path.read_text().splitlines())
    assert (whole(old), verify(old)) == ([], (3, 3))
    assert reduce_closed.fn() == [], "there is nothing left to reduce"
    assert [entry.kind for entry in old.ledger.journey("exports")] == ["exporting", "exported"]
    checkpoint.checkpoint.fn()
    assert verify(old) == (3, 3)


def test_the_same_bytes_are_a_duplicate_still(old: Dock) -> None:
    first = journeys(old)
    sweep()
    again = old.leave("again.csv", price_list(first=10))
    assert old.run() == {"again.csv": "duplicate"}
    assert (again.exists(), sorted(old.filed())) == (False, ["0.csv", "1.csv", "2.csv"])
    [told] = [entry.body["duplicate_of"] for entry in old.history("again.csv") if entry.kind == "duplicate"]
    assert told in first
    assert holds.Gate().bars(journeys(old)) == {}
    with_hold = holds.apply_hold(old.journeys("again.csv")[-1], HOLD, "letter", "ann")
    assert with_hold == [] and set(holds.Gate().bars(first)) == {told}, "it is the same document"


def test_a_document_is_put_on_hold_after_its_journey_was_reduced(old: Dock) -> None:
    [journey, *_] = journeys(old)
    sweep()
    with pytest.raises(JourneyReduced, match="nothing more can be recorded about it"):
        old.ledger.append([Entry(journey, "note")])
    assert holds.apply_hold(journey, HOLD, "letter of counsel", "ann") == []
    assert [hold.name for place in holds.holds_there(journey).values() for hold in place] == [HOLD]
    assert "on hold" in holds.Gate().bars([journey])[journey].reason
    [digest] = {str(entry.body["digest"]) for entry in old.ledger.journey(journey) if "digest" in entry.body}
    assert digest in dict(collect_spool.fn(timedelta(0)).kept), "its bytes in the spool stay as well"
    holds.lift_hold(journey, HOLD, "settled", "ann")
    assert holds.Gate().bars([journey]) == {}
    assert verify(old) == (3, 3)


# --------------------------------------------------------------------------------------------- what stays whole


def test_a_hold_keeps_a_journey_whole(old: Dock) -> None:
    held = journeys(old)[1]
    place = next(entry.body for entry in old.ledger.journey(held) if entry.kind == "filed")
    with connections.repository_session(holds.configured(place["repository"])) as session:
        session.apply_hold(place["repository_id"], HOLD, "set in the repository")
    swept = sweep()
    assert (swept.gone, swept.kept) == (2, ((held, f"on hold: {HOLD}"),))
    assert whole(old) == [held]


def test_a_hold_that_is_set_while_the_repository_is_away_keeps_a_journey_whole(
    old: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = journeys(old)[1]

    asked = []

    def away(session: FolderSession, *_: Any, **__: Any) -> Any:
        asked.append(1)
        raise RepositoryUnreachable("kept: is away")

    with monkeypatch.context() as patch:
        patch.setattr(reduce, "BATCH", 1)
        for verb in ("holds", "apply_hold"):
            patch.setattr(FolderSession, verb, away)
        assert holds.apply_hold(held, HOLD, "letter of counsel", "ann") == ["kept: is away"]
        asked.clear()
        swept = sweep()
        assert swept.gone == 0 and len(swept.kept) == 3
        assert len(asked) == 1, "it is not tried again for each batch"
        assert sorted(reason for _, reason in swept.kept)[0].startswith("cannot be asked for holds")
    monkeypatch.setattr(Ledger, "now", lambda ledger, now=Ledger.now: now(ledger) + YEARS)  # so the hold was long ago
    checkpoint.checkpoint.fn()
    assert sweep().kept == ((held, f"on hold: {HOLD}"),)
    assert tell_holds.fn().kept == ()
    assert (whole(old), filed(old)[1:]) == ([held], [])


def test_what_is_not_sealed_and_filed_stays_whole(old: Dock) -> None:
    late = old.leave("late.csv", price_list(first=90))
    old.run()
    assert not late.exists()
    [(journey, reason)] = sweep().kept
    assert (journey, reason) == (old.journeys("late.csv")[0], "no checkpoint that is filed has sealed all of it yet")
    old.ledger.checkpoint(*_own())
    assert sweep().gone == 0, "sealed here, and filed nowhere"
    checkpoint.checkpoint.fn()
    assert sweep().gone == 1


def _own() -> tuple[Callable[[bytes], bytes], str]:
    with checkpoint.sealing("checkpoint", None) as (sign, key):
        return sign, key


@pytest.mark.parametrize("where", ["in the repository", "in the ledger"])
def test_nothing_is_reduced_when_a_seal_was_changed(old: Dock, where: str) -> None:
    if where == "in the repository":
        [path] = (old.home / "kept" / "Seals").glob("checkpoint-*.json")
        path.write_text("{}")
    else:
        with old.ledger._db.write() as connection:
            connection.exec_driver_sql("DROP TRIGGER checkpoint_no_update")
            connection.exec_driver_sql("UPDATE checkpoint SET signature = '00'")
    swept = sweep()
    assert (swept.gone, len(whole(old))) == (0, 3)
    assert ("other bytes than were filed" if where == "in the repository" else "not the ledger's") in swept.kept[0][1]


@pytest.mark.parametrize(
    "terms",
    [
        pytest.param({"target": {"repository": "kept", "folder": "Prices"}, "reduce_after": None}, id="without the key"),
        pytest.param({}, id="not long enough ago"),
    ],
)
def test_journeys_stay_whole(old: Dock, monkeypatch: pytest.MonkeyPatch, terms: dict[str, Any]) -> None:
    if terms:
        old.agree(**terms)
    else:
        monkeypatch.setattr(Ledger, "now", lambda ledger: datetime.now().astimezone() + timedelta(days=700))
    assert reduce_closed.fn() == []
    assert len(whole(old)) == 3


def test_an_open_case_keeps_a_journey_whole_and_a_resolved_one_does_not(old: Dock) -> None:
    agree(old, naming="good.*")
    old.leave("bad.csv", price_list(first=70))
    old.run()
    [bad] = old.journeys("bad.csv")
    checkpoint.checkpoint.fn()
    assert "it is not closed" in dict(sweep().kept)[bad]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "now", lambda ledger: datetime.now().astimezone())
        reject(bad, "not wanted", "ann")
    checkpoint.checkpoint.fn()
    assert dict(sweep().kept) == {bad: "its bytes are still in the quarantine"}
    connections.quarantine().drop(bad)
    assert sweep().gone == 1
    with pytest.raises(ConfigurationError, match="reduced to a tombstone; ask the partner"), reopened(bad, "once more", "ann"):
        pass
    with pytest.raises(ConfigurationError, match="reduced to a tombstone"):
        reject(bad, "once more", "ann")
    again = old.leave("good.csv", price_list(first=70))
    assert old.run() == {"good.csv": "filed"}
    assert not again.exists()
    assert verify(old)[0] == 4


def test_what_we_are_to_remove_is_removed_first_and_its_duplicates_wait_for_that(
    old: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are one document: the record of each takes its removal."""
    sweep()
    kept = {"record_date": "2026-01-01", "retention": {"period": "P100Y", "at_end": "remove"}}
    agree(old, naming=r".*\.csv", target={"repository": "kept", "folder": "Prices", **kept})
    for name in ("5.csv", "again.csv"):
        old.leave(name, price_list(first=60))
        old.run()
    checkpoint.checkpoint.fn()
    monkeypatch.setattr(Ledger, "now", lambda ledger, now=Ledger.now: now(ledger) + YEARS)
    assert (reduce_closed.fn(), len(whole(old))) == ([], 2)
    [due], place = reduce._due()[0], reduce._place()
    told = reduce._Tally()
    assert reduce._sift(due, whole(old), place, told) == [], "nor if an export with them was begun"
    assert set(told.kept.values()) == {"its document is to be removed by us when its retention ends: that is recorded first"}
    monkeypatch.setattr(Ledger, "now", lambda ledger, now=Ledger.now: now(ledger) + 50 * YEARS)
    [swept] = remove_what_has_ended.fn()
    assert (swept.gone, swept.kept) == (1, ())
    checkpoint.checkpoint.fn()
    assert (sweep().gone, whole(old)) == (2, [])
    old.leave("6.csv", price_list(first=60))
    assert old.run() == {"6.csv": "filed"}, "it was removed, so the same bytes are filed anew"
    assert "6.csv" in old.filed()


def test_a_journey_stays_whole_while_nobody_knows_what_came_of_the_removal_of_a_document_that_it_shares(
    old: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    old.leave("again.csv", price_list(first=0))
    old.run()
    [again] = old.journeys("again.csv")
    checkpoint.checkpoint.fn()
    [first] = same_bytes(old.ledger.journey(again))
    filed = next(entry.body for entry in old.ledger.journey(first) if entry.kind == "filed")
    place = {name: filed[name] for name in ("repository", "repository_id")}
    old.ledger.append([Entry(first, REMOVING, place)])
    told = dict.fromkeys([first, again], "its document is being removed, and nobody knows yet what came of that")
    assert dict(reduce_closed.fn(rehearse=True)[0].kept) == told
    with monkeypatch.context() as patch:
        patch.setattr(
            reduce, "_being_removed", lambda behind=0, ask=reduce._being_removed: ask(behind) if behind else frozenset()
        )
        assert dict(reduce_closed.fn(rehearse=True)[0].kept) == told, "it was begun after this clean-up"
    checkpoint.checkpoint.fn()
    assert dict(sweep().kept) == told
    old.ledger.append([Entry(first, NOT_REMOVED, place)])
    assert sweep().gone == 1
    assert whole(old) == [first]


def test_one_clean_up_looks_at_so_many_and_says_so(old: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in (("BATCH", 1), ("LOOKED_AT", 2)):
        monkeypatch.setattr(reduce, name, number)
    for journey in journeys(old):
        holds.apply_hold(journey, HOLD, "letter", "ann")
    swept = sweep()
    assert (swept.gone, len(swept.kept)) == (0, 3)
    assert dict(swept.kept)["acme/prices"] == "so many have to stay whole that only the oldest 2 were looked at"


def test_a_reduced_journey_keeps_the_document_that_it_shares(old: Dock) -> None:
    sweep()
    kept = {"record_date": "2001-01-01", "retention": {"period": "P1Y", "at_end": "remove"}}
    agree(old, target={"repository": "kept", "folder": "Prices", **kept})
    old.leave("again.csv", price_list(first=0))
    assert old.run() == {"again.csv": "duplicate"}
    [swept] = remove_what_has_ended.fn()
    assert (swept.gone, swept.kept) == (0, ())
    assert sorted(old.filed()) == ["0.csv", "1.csv", "2.csv"]


def test_a_document_stays_that_is_a_version_of_a_reduced_journey_too(old: Dock) -> None:
    sweep()
    kept = {"record_date": "2001-01-01", "retention": {"period": "P1Y", "at_end": "remove"}}
    agree(old, target={"repository": "kept", "folder": "Prices", "name": "0.csv", **kept})
    old.leave("new.csv", price_list(first=70))
    assert old.run() == {"new.csv": "filed"}
    [swept] = remove_what_has_ended.fn()
    assert (swept.gone, [reason for _, reason in swept.kept if "which was reduced" in reason] != []) == (0, True)
    assert sorted(old.filed()) == ["0.csv", "1.csv", "2.csv"]


# --------------------------------------------------------------------------------------------- evidence


def test_evidence_of_a_reduced_journey_is_whole_and_comes_from_its_export(old: Dock, tmp_path: Path) -> None:
    journey = journeys(old)[-1]
    [public] = (checkpoint.keys() or {}).values()
    sweep()
    connections.spool().collect(set(), lambda digests: set(), older_than=timedelta(0))
    export(journeys(old), tmp_path / "bundle", with_bytes=True, by="ann")
    checks = list(verify_evidence(tmp_path / "bundle", {key_id(public): public}, signature_holds))
    assert checks and [check for check in checks if not check.passed] == []
    [extract] = (tmp_path / "bundle" / "journeys").glob(f"{journey}*")
    assert "0.csv" in extract.read_text()
    [path] = filed(old)
    path.write_text(path.read_text().replace("acme", "acne"))
    connections.spool().collect(set(), lambda digests: set(), older_than=timedelta(0))
    with pytest.raises((ChainBroken, DocumentChanged)):
        export([journey], tmp_path / "other", with_bytes=False, by="ann")


# --------------------------------------------------------------------------------------------- crashes


class Killed(BaseException):
    """The process ends here."""


def killed(*_: Any, **__: Any) -> Any:
    raise Killed


@pytest.mark.parametrize(
    ("where", "verb"),
    [
        pytest.param(Ledger, "reduce", id="exported and not reduced"),
        pytest.param(FolderSession, "fetch", id="filed and not read back"),
        pytest.param(reduce, "_file", id="intended and not filed"),
    ],
)
def test_a_clean_up_that_was_killed_goes_on_under_the_same_name(
    old: Dock, monkeypatch: pytest.MonkeyPatch, where: Any, verb: str
) -> None:
    sealed = checkpoint.sealed_and_filed(*_place())
    with monkeypatch.context() as patch:
        if verb == "fetch":  # with which the checkpoint is read back before that
            patch.setattr(reduce, "sealed_and_filed", lambda *_: sealed)
        patch.setattr(where, verb, killed)
        with pytest.raises(Killed):
            reduce_closed.fn()
    assert len(whole(old)) == 3
    names = {entry.body["export"]["name"] for entry in old.ledger.journey("exports")}
    old.leave("more.csv", price_list(first=90))  # there is more to export by now
    old.run()
    checkpoint.checkpoint.fn()
    assert sweep().gone == 4
    kinds = [(entry.kind, entry.body["export"]["name"] in names) for entry in old.ledger.journey("exports")]
    assert kinds == [("exporting", True), ("exported", True), ("exporting", False), ("exported", False)]
    assert len(filed(old)) == 2
    assert verify(old) == (4, 4)


def _place() -> tuple[Any, Any]:
    from blocks.profile import load_checkpoints
    from blocks.settings import settings

    agreed = load_checkpoints(settings().profiles)
    assert agreed is not None
    return agreed


def test_a_lost_answer_makes_no_second_export(old: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    file = FolderSession.file

    def lost(session: FolderSession, filings: Any) -> Any:
        list(file(session, filings))
        raise RepositoryUnreachable("kept: the answer was lost")

    with monkeypatch.context() as patch:
        patch.setattr(FolderSession, "file", lost)
        swept = sweep()
    assert (swept.gone, swept.kept) == (0, (("acme/prices", "kept: the answer was lost"),))
    [path] = filed(old)
    assert sweep().gone == 3
    assert filed(old) == [path]
    [place] = {entry.body["export"]["id"] for entry in old.ledger.journey("exports") if entry.kind == "exported"}
    with connections.repository_session(_place()[1]) as session:
        assert len(session.filed_by(place)) == 1


def test_an_export_that_reads_back_as_other_bytes_reduces_nothing(old: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = FolderSession.fetch

    def other(session: FolderSession, id: str, version: int | None, into: Any) -> Any:
        done = fetch(session, id, version, into)
        return replace(done, digest="0" * 64) if "Journeys" in id else done

    with monkeypatch.context() as patch:
        patch.setattr(FolderSession, "fetch", other)
        for _ in range(2):  # and so until a person has looked
            [(_, reason)] = sweep().kept
            assert "other bytes stand there than were filed" in reason
    assert len(whole(old)) == 3
    assert sweep().gone == 3
    assert len(filed(old)) == 1


@pytest.mark.parametrize("what", ["a hold", "an entry"])
def test_what_happens_while_the_export_is_filed_keeps_the_journeys_whole(
    old: Dock, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    journey, file = journeys(old)[0], reduce._file

    def filing(*given: Any) -> Any:
        done = file(*given)
        if what == "a hold":
            old.ledger.append([Entry(holds.REGISTER, holds.APPLIED, {"journey": journey, "hold": HOLD})])
        else:
            old.ledger.append([Entry(journey, "note")])
        return done

    with monkeypatch.context() as patch:
        patch.setattr(reduce, "_file", filing)
        swept = sweep()
    assert (swept.gone, len(whole(old))) == (0, 3)
    assert (journey in dict(swept.kept), [entry.kind for entry in old.ledger.journey("exports")]) == (
        True,
        ["exporting", "export-given-up"],
    )
    assert sweep().gone == 2
    assert whole(old) == [journey]
    assert verify(old) == (2, 2)


def test_a_journey_that_somebody_works_on_stays_whole(old: Dock) -> None:
    [journey, *_] = journeys(old)
    lease = old.ledger.lease([f"journey:{journey}"], owner="ann", seconds=60)
    assert lease is not None
    assert sweep().gone == 0
    old.ledger.release(lease)
    assert sweep().gone == 3


def test_an_altered_journey_is_told_and_hinders_no_other(old: Dock) -> None:
    altered = journeys(old)[0]
    with old.ledger._db.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER entry_no_update")
        connection.exec_driver_sql(
            f"UPDATE entry SET record = replace(record, 'acme', 'acne') WHERE journey = '{altered}' AND n = 1"
        )
    [(journey, reason)] = sweep().kept
    assert journey == altered and "its text was edited" in reason
    assert whole(old) == [altered]


def test_a_full_disk_reduces_nothing_and_is_told(old: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise SpoolFull("the spool's disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(reduce, "_file", full)
        assert sweep() == Swept("journeys of acme/prices", kept=(("acme/prices", "the spool's disk is full"),))
    assert sweep().gone == 3


def test_a_step_that_breaks_off_hinders_none_behind_it_and_the_table_tells_of_all(
    old: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables: list[dict[str, Any]] = []
    for name in (
        "hear_flags",
        "tell_holds",
        "clear_outbox",
        "purge_quarantine",
        "remove_what_has_ended",
        "clear_what_was_held",
        "reduce_closed",
    ):
        monkeypatch.setattr(governance, name, getattr(governance, name).fn)  # as steps of no run of Prefect
    monkeypatch.setattr(clean_up, "create_table_artifact", lambda **table: tables.append(table))

    def away(*_: Any) -> Any:
        raise LedgerUnreachable("the ledger's database is away")

    monkeypatch.setattr(governance, "collect_spool", away)
    held = journeys(old)[1]
    holds.apply_hold(held, HOLD, "letter", "ann")
    with pytest.raises(LedgerUnreachable):
        governance.clean_up.fn()
    [table] = tables
    assert [(row["of"], row["journey"]) for row in table["table"]] == [("spool", "spool"), ("journeys of acme/prices", held)]
    assert "database is away" in table["table"][0]["stays because"]
    assert whole(old) == [held]


# --------------------------------------------------------------------------------------------- by hand


def test_by_hand(old: Dock, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        done = CliRunner().invoke(app, words, env={"COLUMNS": "300"})
        assert done.exit_code == 0, done.output
        return done.output

    held, *others = journeys(old)
    holds.apply_hold(held, HOLD, "letter", "ann")
    told = run("ledger", "reduce", "--dry-run")
    assert f"journeys of acme/prices: 2 would be reduced, 1 stay whole\n  {held}: " in told
    assert len(whole(old)) == 3 and filed(old) == []
    assert "2 reduced, 1 stay whole" in run("ledger", "reduce")
    [path] = filed(old)
    assert path.name in run("journey", "show", others[0])
    nothing = run("ledger", "verify", "--exports", str(tmp_path))
    assert "reduced: 2 of these journeys; their texts are not here, their heads are as sealed" in nothing
    assert "Read again from exports: 0, not: 2" in nothing
    assert "Read again from exports: 2, not: 0" in run("ledger", "verify", "--exports", str(path.parent))
