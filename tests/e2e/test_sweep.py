"""The sweep against a real Prefect server: what goes around the sign-off is told once, and people are asked again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
import yaml
from prefect.blocks.core import Block
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Crashed, Failed, Pending, Running, Scheduled, Suspended

from blocks.mirrors import mirrors
from blocks.profile import load_partner, load_repositories
from flows.reconcile import reconcile
from tasks.connections import ledger
from tasks.incidents import close
from tests.release_world import Release, ReleaseWorld
from tests.servers.mail import Mailbox, mail_server
from tests.servers.prefect import overheard

PRICES = b"sku,price\n1,2.50\n"


def sweep(**parameters: float) -> str:
    """The name of a sweep's final state. Nothing is given any time here: what is not as it should be is found at once."""
    state: State = reconcile(**{"patience_seconds": 0, **parameters}, return_state=True)  # type: ignore[call-overload]
    assert state.is_completed(), state.message
    return str(state.name)


def findings(release: Release) -> list[str]:
    return [entry.body["code"] for entry in release.history if entry.kind == "found"]


def assert_told(release: Release, *codes: str) -> None:
    """After a sweep these have been told, each once; and nothing has left."""
    sweep()
    assert findings(release) == list(codes)
    assert release.received == {}


def assert_asks_again(release: Release, person: str, round: int = 2) -> None:
    """The run was woken: it asks in a new round, and the person can still decide."""
    assert release.told.state is not None and release.told.state.is_scheduled(), release.told.state
    assert release.go() is None
    assert release.last("round")["n"] == round and release.received == {}
    state = release.sign(person)
    assert state is not None and state.name == "Delivered", state
    assert release.received == {"prices.csv": PRICES}


@pytest.fixture
def started(release_world: ReleaseWorld) -> tuple[Release, str]:
    """A release that waits for a person, and the person."""
    release = release_world.order(prices=PRICES)
    person = release_world.newcomer()
    assert release.start() is None
    return release, person


def test_an_order_in_good_health_gives_no_finding(started: tuple[Release, str]) -> None:
    release, bea = started
    sweep()
    assert sweep() == "All in order"
    assert findings(release) == []
    assert release.told.state is not None and release.told.state.name == "Suspended"
    state = release.sign(bea)
    assert state is not None and state.name == "Delivered"
    assert sweep() == "All in order"
    assert findings(release) == [] and release.kinds[-1] == "closed"


def test_case_09_what_was_set_to_scheduled_asks_again_and_is_told(started: tuple[Release, str]) -> None:
    release, bea = started
    release.world.client.set_flow_run_state(release.told.id, Scheduled(), force=True)
    assert sweep() == "All in order", "the run goes on by itself, and finds it out"
    assert release.go() is None
    assert_told(release, "bypass")
    [case] = [one for one in ledger().cases() if one.name == release.id]
    assert (case.code, case.owner, case.due is None) == ("bypass", "pricing@example.com", False)
    assert close(case.journey, "an operator's mistake", "ann") == "bypass"
    sweep()
    assert [one for one in ledger().cases() if one.name == release.id] == [], "the same is not told again"
    assert release.sign(bea) is not None and release.received == {"prices.csv": PRICES}


@pytest.mark.parametrize("state", [Completed(), Running()], ids=lambda state: str(state.name))
def test_case_09_what_was_set_to_an_end_is_told_and_asks_again(started: tuple[Release, str], state: State) -> None:
    release, bea = started
    release.world.client.set_flow_run_state(release.told.id, state, force=True)
    assert_told(release, "bypass")
    assert "redrive" in release.kinds
    assert_asks_again(release, bea)


def test_case_11_behind_a_planted_answer_the_run_is_not_stuck(started: tuple[Release, str]) -> None:
    release, bea = started
    release.plant(release.answer(bea, "000000"))
    assert_told(release, "planted")
    assert_asks_again(release, bea)
    assert "refused" not in str(release.last("unasked")), "nobody has judged it"


def test_case_11_answers_under_guessed_keys_are_told_and_never_read(started: tuple[Release, str]) -> None:
    release, bea = started
    digest = release.package.digest[:16]
    for key in (f"suspended-signoff-2-{digest}-00000000-response", "paused-1-response"):
        release.world.client.create_flow_run_input(release.told.id, key, '{"decision": "approve"}')
    assert_told(release, "planted")
    state = release.sign(bea)
    assert state is not None and state.name == "Delivered"


def test_case_12_an_answer_edited_afterwards_is_told(started: tuple[Release, str]) -> None:
    release, bea = started
    given = release.answer(bea)
    assert release.resume(given) == "ACCEPT"
    state = release.go()
    assert state is not None and state.name == "Delivered"
    sweep()
    assert findings(release) == []
    release.plant({**given, "decision": "reject"})
    sweep()
    assert findings(release) == ["edited"]
    assert release.told.state is not None and release.told.state.name == "Delivered"


def test_a_deleted_run_is_told_and_its_order_asked_in_a_new_one(started: tuple[Release, str]) -> None:
    release, bea = started
    release.world.client.delete_flow_run(release.told.id)
    assert_told(release, "deleted")
    heir = replace(release, run=UUID(release.last("redrive")["run"]))
    release.world.client.delete_flow_run(heir.told.id)
    assert_told(release, "deleted", "deleted")
    heir = replace(release, run=UUID(release.last("redrive")["run"]))
    assert heir.told.parameters["order"] == release.id and heir.told.parameters["requester"] == "rita"
    assert heir.go() is None
    assert heir.kinds.count("abandoned") == 1 and heir.last("round")["n"] == 2
    state = heir.sign(bea)
    assert state is not None and state.name == "Delivered"


def test_a_run_that_was_turned_to_another_order_is_told_and_its_own_is_asked_in_a_new_one(started: tuple[Release, str]) -> None:
    release, bea = started
    other = {**release.told.parameters, "order": f"{release.id}-other"}
    release.world.client.update_flow_run(release.told.id, parameters=other)
    assert_told(release, "diverted")
    assert release.told.state is not None and release.told.state.is_cancelled()
    heir = replace(release, run=UUID(release.last("redrive")["run"]))
    assert heir.go() is None
    assert heir.kinds.count("abandoned") == 1 and heir.last("round")["n"] == 2
    state = heir.sign(bea)
    assert state is not None and state.name == "Delivered"
    assert release.received == {"prices.csv": PRICES}
    assert sweep() == "All in order"


def test_a_run_whose_form_was_never_stored_asks_again(started: tuple[Release, str]) -> None:
    release, bea = started
    release.world.client.delete_flow_run_input(release.told.id, f"suspended-{release.last('round')['key']}-schema")
    assert release.resume(release.answer(bea)) == "REJECT"
    assert_told(release, "stuck")
    assert_asks_again(release, bea)


def test_a_wait_that_nobody_asked_for_asks_again(started: tuple[Release, str]) -> None:
    release, bea = started
    release.world.client.set_flow_run_state(release.told.id, Suspended(pause_key="elsewhere"), force=True)
    assert_told(release, "stuck")
    assert_asks_again(release, bea)


def test_a_crashed_run_goes_on_and_an_answer_given_meanwhile_counts(started: tuple[Release, str]) -> None:
    release, bea = started
    assert release.resume(release.answer(bea)) == "ACCEPT"
    release.world.client.set_flow_run_state(release.told.id, Crashed(), force=True)
    assert_told(release, "crashed")
    state = release.go()
    assert state is not None and state.name == "Delivered", "the answer went through the door, and nothing voids it"


@pytest.mark.parametrize("state", [Pending(name="Submitting"), Running(), Crashed()], ids=lambda state: str(state.name))
def test_a_run_that_was_killed_before_it_took_its_order_begins_again(release_world: ReleaseWorld, state: State) -> None:
    bea = release_world.newcomer()
    release = release_world.order(prices=PRICES)
    asked = {"partner": "acme", "stream": "prices", "order": release.id, "requester": "rita"}
    release.run = release_world.client.create_flow_run_from_deployment(release_world.deployment, parameters=asked).id
    sweep()
    assert release.told.state is not None and release.told.state.is_scheduled(), "nobody was killed yet"
    release_world.client.set_flow_run_state(release.told.id, state, force=True)
    sweep(patience_seconds=0 if state.is_crashed() else 3600)
    assert release.told.state is not None and release.told.state.is_scheduled() == state.is_crashed()
    sweep()
    assert release.told.state is not None and release.told.state.is_scheduled(), release.told.state
    assert release.go() is None
    delivered = release.sign(bea)
    assert delivered is not None and delivered.name == "Delivered", delivered
    assert sweep() == "All in order"


def test_a_run_that_crashes_again_and_again_is_left_to_a_person(started: tuple[Release, str]) -> None:
    release, bea = started
    assert release.resume(release.answer(bea)) == "ACCEPT"
    for _ in range(5):
        release.world.client.set_flow_run_state(release.told.id, Crashed(), force=True)
        sweep()
    assert release.kinds.count("redrive") == 3 and findings(release) == ["crashed"] * 4
    assert release.told.state is not None and release.told.state.is_crashed()
    [case] = [one for one in ledger().cases() if one.name == release.id]
    assert (case.code, case.owner, case.journey) == ("crashed", "pricing@example.com", f"stuck.{release.history[0].journey}")
    assert case.due is not None and "a person is needed" in str(case.reason)
    release.go()
    sweep()
    assert [one for one in ledger().cases() if one.name == release.id] == [], "it got further"


def test_case_24_after_the_deadline_the_run_ends_as_expired(release_world: ReleaseWorld) -> None:
    release_world.newcomer()
    release = release_world.order("short", prices=PRICES)
    assert release.start() is None
    until = datetime.fromisoformat(release.last("opened")["deadline"])
    time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()) + 0.1)
    assert_told(release, "expired")
    state = release.go()
    assert state is not None and state.name == "Expired" and release.received == {}


@pytest.fixture
def box(release_world: ReleaseWorld) -> Iterator[Mailbox]:
    """A mail server that the people of the world are told by, while the test runs."""
    agreed = release_world.profiles / "notify.yaml"
    with mail_server() as box:
        mail = {"host": "127.0.0.1", "port": box.port, "security": "none", "sender": "countersign@example.com"}
        agreed.write_text(yaml.safe_dump({"mail": {**mail, "timeout_seconds": 120}}))
        yield box
        agreed.unlink()


def test_case_24_whoever_may_sign_is_reminded_once_and_then_the_wider_circle_is_asked_too(
    release_world: ReleaseWorld, box: Mailbox
) -> None:
    anna, head = release_world.newcomer(), release_world.newcomer("heads")
    release = release_world.order("slow", prices=PRICES)
    assert release.start() is None
    late = max(datetime.fromisoformat(release.last("opened")[moment]) for moment in ("remind", "widens"))
    time.sleep(max(0.0, (late - datetime.now(UTC)).total_seconds()) + 0.1)
    assert_told(release, "reminder", "widened")
    reminder = next(entry.body["reason"] for entry in release.history if entry.body.get("code") == "reminder")
    assert anna in reminder and "it expires at" in reminder
    assert release.go() is None
    assert release.last("round")["n"] == 2
    assert {f"awaits:{anna}", f"awaits:{head}"} <= set(release.told.tags) and "of pricing or heads" in release.told.name
    assert "`heads` may sign too" in release.form
    assert_told(release, "reminder", "widened")
    told = [
        (to, str(mail["subject"]).rpartition(f"{release.id} ")[2]) for to, mail in zip(box.receivers, box.messages, strict=True)
    ]
    asked, again = "waits for your sign-off", "still waits for your sign-off"
    assert [one for one in told if anna in one[0]] == [(f"{anna}@example.com", asked), (f"{anna}@example.com", again)]
    assert [one for one in told if head in one[0]] == [(f"{head}@example.com", asked)]
    state = release.sign(head)
    assert state is not None and state.name == "Delivered" and release.received == {"prices.csv": PRICES}


def test_what_has_just_begun_is_given_time(started: tuple[Release, str]) -> None:
    release, _ = started
    release.world.client.set_flow_run_state(release.told.id, Running(), force=True)
    sweep(patience_seconds=3600)
    assert findings(release) == []
    sweep()
    assert findings(release) == ["bypass"]


def test_a_second_sweep_tells_nothing_again(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    left, planted, guessed, bare, gone, cancelled = (release_world.order(prices=PRICES) for _ in range(6))
    releases, api = (left, planted, guessed, bare, gone, cancelled), release_world.client
    for release in releases:
        assert release.start() is None
    api.set_flow_run_state(left.told.id, Failed(), force=True)
    planted.plant(planted.answer(bea, "000000"))
    api.create_flow_run_input(guessed.told.id, "suspended-elsewhere-response", "{}")
    api.delete_flow_run_input(bare.told.id, f"suspended-{bare.last('round')['key']}-schema")
    api.delete_flow_run(gone.told.id)
    api.set_flow_run_state(cancelled.told.id, Cancelled(), force=True)
    assert sweep() == "6 findings"
    told = [findings(release) for release in releases]
    assert told == [["bypass"], ["planted"], ["planted"], ["stuck"], ["deleted"], ["cancelled"]]
    for release in (left, planted, bare):
        assert release.go() is None
    assert sweep() == "All in order"
    assert [findings(release) for release in releases] == told
    assert not any(release.received for release in releases)


@pytest.fixture
def shown(release_world: ReleaseWorld) -> Iterator[Mapping[str, Block]]:
    """The mirrors of the world's partner, in Prefect while the test runs: the server is everybody's, whose "acme" is another."""
    profile = load_partner("acme", release_world.profiles)
    made = dict(mirrors({"acme": profile}, load_repositories(release_world.profiles)))
    kept = {name: block.save(name, overwrite=True) for name, block in made.items()}
    yield made
    for document in kept.values():
        release_world.client.delete_block_document(document)


def test_a_mirror_edited_in_prefect_is_told_once(shown: Mapping[str, Block]) -> None:
    sweep()
    assert sweep() == "All in order"
    edited = shown["acme-drop"].model_copy(update={"host": "elsewhere.example"})
    edited.save("acme-drop", overwrite=True)
    assert sweep() == "1 finding"
    assert sweep() == "All in order"


def test_a_finding_is_an_event_and_a_line_in_the_table(started: tuple[Release, str]) -> None:
    release, _ = started
    release.world.client.set_flow_run_state(release.told.id, Completed(), force=True)
    with overheard() as told:
        sweep()
        events = [one.payload for one in told() if one.event == "countersign.signoff.bypass"]
    artifact = release.world.client.request("GET", "/artifacts/sweep/latest").json()
    assert f"acme/prices {release.id}" in artifact["data"] and "asked again" in artifact["data"]
    assert [event for event in events if event.get("order") == release.id]
