"""What must not happen when a run breaks off at a bad moment and the world goes on meanwhile: a document lost, doubled or mixed up."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State
from prefect.logging import disable_run_logger

from blocks.errors import LedgerUnreachable, OutcomeUnknown, RepositoryUnreachable, SpoolCorrupt
from blocks.ledger import Entry, Ledger
from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.values import Filed, Filing, NotFiled, Stage
from tests.world import World, price_list

MODIFIED = 1_790_000_000


@pytest.fixture
def break_before(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """The ledger goes away just before entries of one kind are written, and stays away; an empty kind brings it back."""
    broken, append = [""], Ledger.append

    def with_breaks(self: Ledger, entries: Sequence[Entry], lease: Any = None) -> Any:
        if any(entry.kind == broken[0] for entry in entries):
            raise LedgerUnreachable("the ledger is away")
        return append(self, entries, lease)

    monkeypatch.setattr(Ledger, "append", with_breaks)
    return lambda kind: broken.__setitem__(0, kind)


def lose_the_spool(world: World) -> None:
    for part in (world.home / "spool" / "store").iterdir():
        shutil.rmtree(part)


def retry(journey: str) -> State:
    from flows.review import retry as again

    return again(journey, "the cause is mended", by="a test", return_state=True)


def codes(world: World) -> list[str | None]:
    return [case.code for case in world.ledger.cases()]


def test_a_look_alike_that_came_before_the_clearing_was_recorded_is_not_removed(
    world: World, break_before: Callable[[str], None]
) -> None:
    world.leave("p1.csv", price_list(first=1), modified=MODIFIED)
    break_before("cleared")
    assert world.run().is_failed()
    assert not list(world.out.iterdir()), "the original was removed, and nobody wrote it down"
    break_before("")
    world.leave("p1.csv", price_list(first=2), modified=MODIFIED)
    assert world.run().name == "Filed", "what the broken run had filed is reported by this one"
    assert world.run().name == "Filed"
    assert world.filed() == {"p1.csv": price_list(first=2)}
    assert world.versions() == {"p1.csv": 2}
    assert not list(world.out.iterdir())
    world.ledger.verify()


def test_a_look_alike_that_replaced_the_original_while_nobody_worked_is_not_removed(
    world: World, break_before: Callable[[str], None]
) -> None:
    world.leave("p1.csv", price_list(first=1), modified=MODIFIED)
    break_before("clearing")
    assert world.run().is_failed()
    break_before("")
    world.leave("p1.csv", price_list(first=2), modified=MODIFIED)
    world.run()
    assert world.run().name == "Filed"
    assert world.versions() == {"p1.csv": 2}


def test_a_retried_document_whose_bytes_were_filed_since_is_a_duplicate(world: World) -> None:
    target = {"repository": "ecm", "folder": f"Tests/{world.remote.name}"}
    world.agree(target={**target, "categories": {"No Such Category": {"A": "{partner}"}}})
    world.leave("p1.csv", price_list())
    assert world.run().name == "Nothing filed, 1 quarantined"
    (case,) = world.ledger.cases()
    world.agree(target=target)
    world.leave("p2.csv", price_list())
    assert world.run().name == "Filed"
    assert retry(case.journey).name == "Nothing new, 1 duplicate"
    assert list(world.filed()) == ["p2.csv"]
    assert codes(world) == []
    world.leave("p3.csv", price_list())
    assert world.run().name == "Nothing new, 1 duplicate"


def test_an_outcome_that_nobody_can_tell_becomes_a_case_and_is_never_tried_again_by_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        world.leave(f"p{number}.csv", price_list(first=number * 10 + 1))
    asked: list[str] = []
    file = ExtendedEcmSession.file

    def unsure(self: ExtendedEcmSession, filings: Iterable[Filing]) -> Iterator[Filed | NotFiled]:
        if "p1.csv" in asked and "break" not in asked:
            asked.append("break")
            raise RepositoryUnreachable("away, so that the task is tried again with what it was first given")
        for filing in filings:
            asked.append(filing.name)
            if filing.name == "p1.csv":
                raise OutcomeUnknown("the answer was lost and looking did not tell")
            yield from file(self, [filing])

    # Both at once, an answer that looking does not tell and a break behind it, at two files of one consignment.
    monkeypatch.setattr(ExtendedEcmSession, "file", unsure)
    assert world.run().name == "Filed, 1 quarantined"
    assert asked.count("p1.csv") == 1
    assert sorted(world.filed()) == ["p0.csv", "p2.csv", "p3.csv"]
    assert codes(world) == ["outcome-unknown"]
    world.leave("p4.csv", price_list(first=11))
    assert world.run().name == "Nothing new", "the same bytes wait until a person has looked"
    monkeypatch.setattr(ExtendedEcmSession, "file", file)
    (case,) = world.ledger.cases()
    assert retry(case.journey).name == "Filed"
    assert world.run().name == "Nothing new, 1 duplicate"
    assert codes(world) == []


def test_a_target_that_needs_more_since_the_break_makes_a_case_and_no_crash(world: World) -> None:
    world.leave("p1.csv", price_list())
    world.faults(burst503=1000)
    assert world.run().is_failed()
    world.faults(burst503=0)
    world.agree(
        classify=[{"pattern": r"(?P<number>p\d+)\.csv", "doctype": "price-list"}],
        target={"repository": "ecm", "folder": f"Tests/{world.remote.name}", "name": "{number} {name}"},
    )
    assert world.run().name == "Nothing filed, 1 quarantined"
    (case,) = world.ledger.cases()
    assert case.code == "missing-fact"
    assert retry(case.journey).name == "Filed"
    assert list(world.filed()) == ["p1 p1.csv"]


def test_a_target_folder_changed_since_the_break_leaves_one_object(world: World, break_before: Callable[[str], None]) -> None:
    world.leave("p1.csv", price_list())
    break_before("filed")
    assert world.run().is_failed()
    assert list(world.filed()) == ["p1.csv"]
    break_before("")
    world.agree(target={"repository": "ecm", "folder": f"Tests/{world.remote.name}/elsewhere"})
    assert world.run().name == "Filed"
    assert world.versions() == {"p1.csv": 1}


def test_bytes_that_are_lost_here_and_gone_there_make_a_case(world: World) -> None:
    world.leave("p1.csv", price_list(first=1))
    stays = world.leave("p2.csv", price_list(first=20))
    world.faults(burst503=1000)
    assert world.run().is_failed()
    world.faults(burst503=0)
    lose_the_spool(world)
    (world.out / "p1.csv").unlink()
    assert world.run().name == "Filed, 1 quarantined"
    assert codes(world) == ["bytes-lost"]
    assert world.filed() == {"p2.csv": price_list(first=20)}
    assert not stays.exists()


def test_bytes_that_are_lost_here_and_others_there_are_not_taken_for_each_other(world: World) -> None:
    world.leave("p1.csv", price_list(first=1), modified=MODIFIED)
    world.faults(burst503=1000)
    assert world.run().is_failed()
    world.faults(burst503=0)
    lose_the_spool(world)
    world.leave("p1.csv", price_list(first=2), modified=MODIFIED)
    assert world.run().name == "Nothing filed, 1 quarantined"
    assert codes(world) == ["bytes-lost"]
    assert (world.out / "p1.csv").read_bytes() == price_list(first=2), "nobody has these bytes but the partner"


def test_two_files_of_one_name_in_an_old_and_a_new_folder_are_not_mixed_up(world: World) -> None:
    world.leave("p1.csv", price_list(first=1))
    world.faults(burst503=1000)
    assert world.run().is_failed()
    world.faults(burst503=0)
    lose_the_spool(world)
    moved: Path = world.remote / "moved"
    moved.mkdir()
    (moved / "p1.csv").write_bytes(price_list(rows=500, first=2))
    world.agree(folder=str(moved))
    assert world.run().name == "Filed"
    assert world.versions() == {"p1.csv": 2}
    filed = {(e.body["digest"], e.body["name"]) for entries in world.journeys().values() for e in entries if e.kind == "filed"}
    assert len(filed) == 2
    assert not [*world.out.iterdir(), *moved.iterdir()]


def test_a_file_that_another_run_saw_growing_is_given_back(world: World) -> None:
    from tasks.agreed import load_stream
    from tasks.connections import endpoint_session
    from tasks.desk import Desk
    from tasks.look import look

    path = world.leave("p1.csv", price_list())
    agreed = load_stream("acme", world.stream)
    with disable_run_logger():
        readiness = look.fn(agreed, timedelta(seconds=5))
    assert [sighting.file.name for sighting in readiness.ready] == [b"p1.csv"]
    path.write_bytes(price_list(rows=20)[:-5])
    with endpoint_session(agreed.endpoint) as session:
        world.ledger.sight("acme", world.stream, session.look(agreed.terms.folder))
    with Desk(agreed, readiness) as desk:
        assert [item for consignment in desk for item in consignment.items] == []
    (sighting,) = world.ledger.sightings("acme", world.stream)
    assert (sighting.stage, sighting.looks) == (Stage.SIGHTED, 1)


def test_quarantined_bytes_that_somebody_edited_are_not_filed_as_the_partners(world: World) -> None:
    world.agree(naming=r"x\d+\.csv")
    world.leave("p1.csv", price_list())
    assert world.run().name == "Nothing filed, 1 quarantined"
    (case,) = world.ledger.cases()
    lose_the_spool(world)
    content = world.home / "quarantine" / case.journey / "content"
    content.unlink()
    content.write_bytes(price_list(first=99))
    world.agree()
    state = retry(case.journey)
    assert state.is_failed()
    with pytest.raises(SpoolCorrupt, match="ask the partner"):
        state.result()
    assert world.filed() == {}
