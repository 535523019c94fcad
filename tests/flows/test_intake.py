"""The intake as a whole: what becomes of files, one run after another, and two at once."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest
import yaml
from prefect import task_engine
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import TaskRun

from tests.world import ONE_LOOK, World, price_list


def test_a_good_file_is_filed_and_its_original_cleared(world: World) -> None:
    world.leave("p1.csv", price_list())
    assert world.run().name == "Filed"
    assert world.filed() == {"p1.csv": price_list()}
    assert not list(world.out.iterdir())
    assert world.kinds() == [["arrived", "fetched", "judged", "filing", "filed", "clearing", "cleared"]]
    world.ledger.verify()


def test_the_server_is_told_which_task_a_task_waited_for_and_asked_nothing_about_it_and_not_where_results_are_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    steps: dict[str, TaskRun] = {}
    tell = task_engine.emit_task_run_state_change_event

    def read(_: SyncPrefectClient, *about: Any, **more: Any) -> None:
        asked.append((about, more))
        raise AssertionError("the server knows nothing of it that is not known here")

    def told(task_run: TaskRun, *more: Any, **still_more: Any) -> Any:
        steps[task_run.name] = task_run
        return tell(task_run, *more, **still_more)

    world.leave("p1.csv", price_list())
    with monkeypatch.context() as watched:
        watched.setattr(SyncPrefectClient, "read_task_run", read)
        watched.setattr(SyncPrefectClient, "read_server_default_result_storage", read)
        watched.setattr(task_engine, "emit_task_run_state_change_event", told)
        state = world.run()
    assert (state.name, asked) == ("Filed", [])
    names = ["look in acme/price-lists", "pick up (1)", "check (1)", "file away or set aside (1)"]
    names += ["close cases and clear the source (1)", "tell of cases"]
    assert names == [name for name in steps if name in names]
    for waits, behind in pairwise(names[1:5]):
        [[waited]] = [inputs for inputs in steps[behind].task_inputs.values() if inputs]
        assert waited.id == steps[waits].id


def test_a_second_run_finds_nothing_new(world: World) -> None:
    world.leave("p1.csv", price_list())
    world.run()
    assert world.run().name == "Nothing new"


def test_a_bad_file_holds_nobody_else(world: World) -> None:
    for number in range(5):
        world.leave(f"p{number}.csv", price_list(first=number * 10 + 1))
    world.leave("p2.csv", b"not,the,header\n1,2,3\n")
    state = world.run()
    assert state.name == "Filed, 1 quarantined"
    assert sorted(world.filed()) == ["p0.csv", "p1.csv", "p3.csv", "p4.csv"]


def test_the_same_bytes_under_another_name_are_a_duplicate_and_no_second_object(world: World) -> None:
    world.leave("p1.csv", price_list())
    world.run()
    world.leave("copy of p1.csv", price_list())
    assert world.run().name == "Nothing new, 1 duplicate"
    assert list(world.filed()) == ["p1.csv"]


def test_the_same_bytes_twice_in_one_consignment_are_filed_once(world: World) -> None:
    world.leave("p1.csv", price_list())
    world.leave("p2.csv", price_list())
    assert world.run().name == "Filed, 1 duplicate"
    assert len(world.filed()) == 1


def test_identical_bytes_in_two_streams_are_two_objects(world: World) -> None:
    (world.remote / "other").mkdir()
    other = {
        "folder": str(world.remote / "other"),
        "target": {"repository": "ecm", "folder": f"Tests/{world.remote.name}", "name": "other {name}"},
    }
    world.agree(streams={"price-lists": {}, "other": other})
    world.leave("p1.csv", price_list())
    (world.remote / "other" / "p1.csv").write_bytes(price_list())
    assert world.run("price-lists").name == "Filed"
    assert world.run("other").name == "Filed"
    assert sorted(world.filed()) == ["other p1.csv", "p1.csv"]


def test_same_name_size_and_minute_the_next_day_is_a_new_arrival(world: World) -> None:
    world.leave("p1.csv", price_list(first=1), modified=1_790_000_000)
    assert world.run().name == "Filed"
    world.leave("p1.csv", price_list(first=2), modified=1_790_000_000)
    assert len(price_list(first=1)) == len(price_list(first=2))
    assert world.run().name == "Filed"
    assert world.filed() == {"p1.csv": price_list(first=2)}
    assert world.versions() == {"p1.csv": 2}


def test_a_file_left_at_the_source_is_filed_once(world: World) -> None:
    world.agree(disposition={"accepted": "leave"})
    world.leave("p1.csv", price_list())
    assert world.run().name == "Filed"
    assert world.run().name == "Nothing new"
    assert (world.out / "p1.csv").exists()
    world.leave("p1.csv", price_list(first=7), modified=time.time() + 5)
    assert world.run().name == "Filed"
    assert world.versions() == {"p1.csv": 2}


def test_originals_are_moved_where_the_profile_says_and_a_taken_name_is_not_overwritten(world: World) -> None:
    done = world.remote / "done"
    done.mkdir()
    (done / "p1.csv").write_bytes(b"an older one")
    world.agree(disposition={"accepted": "move", "folder": str(done)})
    world.leave("p1.csv", price_list())
    assert world.run().name == "Filed"
    assert (done / "p1.csv").read_bytes() == b"an older one"
    assert sorted(path.read_bytes() for path in done.iterdir()) == sorted([b"an older one", price_list()])


def test_records_of_cases_are_kept_where_they_are_agreed_and_no_task_runs_for_them_where_they_are_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = b"not,the,header\n1,2,3\n"
    with monkeypatch.context() as unasked:
        unasked.setattr("flows.intake.keep_case_records", None)
        world.leave("p1.csv", bad)
        assert world.run().name == "Nothing filed, 1 quarantined"
    reviewed = world.profiles / "repositories.yaml"
    cases = {"repository": "ecm", "folder": f"Tests/{world.remote.name}/cases"}
    reviewed.write_text(yaml.safe_dump({**yaml.safe_load(reviewed.read_text()), "cases": cases}))
    world.leave("p2.csv", bad)
    assert world.run().name == "Nothing filed, 1 quarantined"
    assert all("case-recorded" in kinds for kinds in world.kinds())


def test_a_half_written_file_is_never_ingested(world: World) -> None:
    world.agree(settle={"quiet": "PT1S"})
    path = world.leave("growing.csv", price_list(rows=1))
    with path.open("ab") as growing:
        for number in range(3):
            assert world.run(patience_seconds=ONE_LOOK).name == "Nothing new"
            growing.write(b"0000009%d,Bolt,EUR,1.00,2026-12-01\n" % number)
            growing.flush()
    whole = path.read_bytes()
    assert world.filed() == {}
    assert world.run(patience_seconds=5).name == "Filed"
    assert world.filed() == {"growing.csv": whole}


def test_temporary_names_are_left_alone(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.leave("p1.csv.part", price_list())
    world.leave(".hidden.csv", price_list())
    assert world.run().name == "Nothing new"
    assert len(list(world.out.iterdir())) == 2
    assert "left alone: 2 temporary names, such as .hidden.csv" in caplog.text


def test_a_done_file_says_when(world: World) -> None:
    world.agree(settle={"quiet": "PT0S", "done_file": "{name}.done"})
    world.leave("p1.csv", price_list())
    assert world.run().name == "Nothing new"
    world.leave("p1.csv.done", b"")
    assert world.run().name == "Filed"
    assert world.filed() == {"p1.csv": price_list()}
    assert not list(world.out.iterdir()), "the marker goes with its file"


def test_a_hostile_name_is_quarantined_and_the_rest_flows(world: World) -> None:
    world.leave(b"new\nline.csv", price_list())
    world.leave("evil‮vsc.exe", price_list(first=20))
    world.leave("p1.csv", price_list(first=40))
    state = world.run()
    assert state.name == "Filed, 2 quarantined"
    assert list(world.filed()) == ["p1.csv"]
    assert world.run().name == "Nothing new"


def test_a_file_too_large_for_the_stream_is_not_even_fetched(world: World) -> None:
    world.agree(limits={"largest_bytes": 100})
    world.leave("p1.csv", price_list(rows=100))
    assert world.run().name == "Nothing filed, 1 quarantined"
    assert (world.out / "p1.csv").exists(), "its bytes are nowhere else"
    assert "fetched" not in world.kinds()[0]


def test_a_target_that_is_away_and_back_gets_everything_once_and_in_order(world: World) -> None:
    world.agree(limits={"consignment_files": 1})
    for number in range(3):
        world.leave(f"p{number}.csv", price_list(first=number * 10 + 1))
    world.faults(burst503=1000)
    assert world.run().is_failed()
    world.faults(burst503=0)
    assert world.filed() == {}
    assert world.run().name == "Filed"
    order = sorted((e.seq, e.body["filed_as"]) for entries in world.journeys().values() for e in entries if e.kind == "filed")
    assert [name for _, name in order] == ["p0.csv", "p1.csv", "p2.csv"]
    assert set(world.versions().values()) == {1}


def test_in_an_ordered_stream_nothing_overtakes_what_somebody_else_has_in_hand(world: World) -> None:
    world.agree(limits={"consignment_files": 1})
    for number in range(3):
        world.leave(f"p{number}.csv", price_list(first=number * 10 + 1))
    world.run(patience_seconds=ONE_LOOK)
    first = next(iter(world.ledger.sightings("acme", "price-lists")))
    lease = world.ledger.lease([f"journey:{first.journey}"], owner="somebody else", seconds=3600)
    assert lease is not None
    assert world.run().name == "Nothing new"
    world.ledger.release(lease)
    assert world.run().name == "Filed"
    assert len(world.filed()) == 3


def test_an_old_done_file_does_not_speak_for_a_new_half_written_file(world: World) -> None:
    world.agree(settle={"quiet": "PT3S", "done_file": "{name}.done"}, disposition={"accepted": "leave"})
    world.leave("p1.csv", price_list())
    world.leave("p1.csv.done", b"")
    assert world.run().name == "Filed"
    world.leave("p1.csv", price_list(rows=2, first=50)[:-20])
    assert world.run(patience_seconds=ONE_LOOK).name == "Nothing new"
    world.leave("p1.csv", price_list(rows=2, first=50))
    world.leave("p1.csv.done", b"again")
    assert world.run(patience_seconds=0).name == "Filed"
    assert world.filed() == {"p1.csv": price_list(rows=2, first=50)}


def test_two_runs_at_once_share_the_work_without_doubling_it(world: World) -> None:
    world.agree(limits={"consignment_files": 5}, ordered=False)
    for number in range(40):
        world.leave(f"p{number:02d}.csv", price_list(first=number * 10 + 1))
    both = [world.run_apart(), world.run_apart()]
    outputs = [process.communicate(timeout=400)[0] for process in both]
    assert all("COMPLETED" in output for output in outputs), outputs
    assert len(world.filed()) == 40
    assert set(world.versions().values()) == {1}
    filed = [kinds for kinds in world.kinds() if "filed" in kinds]
    assert len(filed) == 40
    assert all(kinds.count("filed") == 1 for kinds in filed)
    # A listing may be older than the other run's clearing: what it still showed is found to be gone, and that is told.
    assert all(kinds == ["arrived", "vanished"] for kinds in world.kinds() if "filed" not in kinds)
    world.ledger.verify()


def test_a_dry_run_writes_nothing(world: World) -> None:
    world.leave("p1.csv", price_list())
    world.leave("bad.csv", b"x\n")
    state = world.run(dry_run=True)
    assert state.name == "Dry run: Filed, 1 quarantined"
    assert world.filed() == {}
    assert world.journeys() == {}
    assert len(list(world.out.iterdir())) == 2
