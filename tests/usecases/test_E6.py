"""E6 Copy of every transfer: last night's batch is in the archive, and file k of it goes out once more: the same bytes, signed anew."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import UUID

import pytest
from prefect.client.schemas.objects import State
from typer.testing import CliRunner

from blocks.errors import ConfigurationError, SendRefused
from blocks.outbound import FourEyes, Package
from blocks.profile import load_repositories
from deployments.cli import app
from flows.resend import resend
from tasks import connections
from tasks.order import Order, load_release, sender
from tasks.resend import order_again, recall
from tests.release_world import Release, ReleaseWorld

BATCH = {"a.csv": b"sku,price\nA,1\n", "b.csv": b"sku,price\nB,2\n", "c.csv": b"sku,price\nC,3\n"}
WHY = "the partner's disk was restored from the day before"


@pytest.fixture(scope="module")
def world(release_world: ReleaseWorld) -> ReleaseWorld:
    """Batches go with a record that holds copies; so many categories as that these documents would not be admitted again."""
    record = {"repository": "ecm", "folder": "Archive/{partner}/{order}", "copies": True}
    release_world.agree(batches=release_world.terms(record=record))
    return release_world


@pytest.fixture(scope="module")
def batch(world: ReleaseWorld) -> Release:
    """Last night's batch, delivered and collected by the partner."""
    bea, release = world.newcomer(), world.order("batches")
    for name, content in BATCH.items():
        world.keep(release.id, name, content)
    assert release.start() is None
    state = release.sign(bea)
    assert state is not None and state.name == "Delivered", state
    for path in (world.remote / release.id).iterdir():
        path.unlink()
    return release


def again(world: ReleaseWorld, batch: Release, comment: str = WHY, by: str = "rita", **asked: object) -> tuple[State, Release]:
    """What the operator's request came to, and the release that asks for it."""
    state: State = resend("acme", "batches", batch.id, comment, by, return_state=True, **asked)
    asked_for = [entry.body for entry in batch.history if entry.kind == "parted"]
    child = batch.part(asked_for[-1]["child_order"], asked_for[-1]["child_run"]) if asked_for else batch
    return state, child


def test_file_k_goes_out_again_as_it_was_under_a_new_attempt_with_a_sign_off_of_its_own(
    world: ReleaseWorld, batch: Release
) -> None:
    # Somebody has worked on it since, and the original is not admitted any more: neither changes what is in the archive.
    world.keep(batch.id, "b.csv", b"sku,price\nB,999\n", categories={})
    state, child = again(world, batch, files=["b.csv"])
    assert state.name == "Asked, attempt 2", state
    assert child.received == {}, "nothing leaves without a sign-off"
    assert child.go() is None
    assert f"**Redelivery of order `{batch.id}`**, attempt 2" in child.form and WHY in child.form
    assert child.package.redelivery is not None and child.package.redelivery.package == batch.package.digest
    assert "rita" not in child.form.partition("May sign now")[2].partition("\n")[0], "who asks for it never signs it"
    assert "refused" not in child.kinds and child.history[0].body["ids"] == []

    ann = world.newcomer()
    assert child.go() is None, "asked again, for somebody new may sign"
    done = child.sign(ann)
    assert done is not None and done.name == "Delivered", done
    assert child.received == {"b.csv": BATCH["b.csv"]}, "the bytes of then, and no others"
    assert child.package.destinations == batch.package.destinations
    once_more = resend("acme", "batches", child.id, WHY, "rita", return_state=True)
    assert once_more.is_failed() and f"name the order that it repeats: {batch.id}" in str(once_more.message), once_more
    record = archived(child)
    assert (record["attempt"], record["redelivery"]["order"], record["redelivery"]["reason"]) == (2, batch.id, WHY)
    assert [sent["sha256"] for sent in record["transmissions"]] == [batch.package.files[1].sha256]
    (world.remote / batch.id / "b.csv").unlink()
    third, _ = again(world, batch, files=["b.csv"], comment="once more")
    assert third.name == "Asked, attempt 3", third


def archived(release: Release) -> dict[str, object]:
    """The transmission record, read from the repository."""
    told, spool = release.last("recorded"), connections.spool()
    with load_repositories(release.world.profiles)["ecm"].session() as session, spool.batch() as into:
        found = session.fetch(told["repository_id"], None, into)
    record: dict[str, object] = json.loads(spool.path(found.digest).read_bytes())
    return record


def test_the_preview_tells_and_writes_nothing(world: ReleaseWorld, batch: Release) -> None:
    before = batch.kinds
    state, _ = again(world, batch, dry_run=True)
    assert state.name == "Preview: all 3 can go", state
    assert f"{sum(map(len, BATCH.values()))} bytes to 1 destinations" in str(state.message)
    assert batch.kinds == before


@pytest.mark.parametrize(
    ("order", "arguments", "said"),
    [
        pytest.param("", {"comment": "  "}, "say why", id="no comment"),
        pytest.param("", {"files": ["d.csv"]}, "did not send d.csv", id="a file that was not sent"),
        pytest.param("o-nobody", {}, "there is no order", id="an order that never was"),
    ],
)
def test_what_cannot_be_sent_again_is_refused(
    world: ReleaseWorld, batch: Release, order: str, arguments: dict[str, object], said: str
) -> None:
    state = resend("acme", "batches", order or batch.id, return_state=True, **{"comment": WHY, **arguments})
    assert state.is_failed() and said in str(state.message), state


def test_asked_twice_it_is_one_attempt_and_another_one_waits_for_it(world: ReleaseWorld, batch: Release) -> None:
    first, child = again(world, batch, files=["a.csv"])
    second, same = again(world, batch, files=["a.csv"])
    assert (first.name, child.run, child.id) == (second.name, same.run, same.id)
    other, _ = again(world, batch, files=["a.csv"], comment="another reason")
    assert other.is_failed() and "is under way" in str(other.message), other


def test_an_attempt_whose_request_broke_off_is_asked_for_by_the_next_one(
    world: ReleaseWorld, batch: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> str:
        raise RuntimeError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr("tasks.resend._asked", killed)
        assert again(world, batch, files=["c.csv"], comment="broken off")[0].is_failed()
    other, child = again(world, batch, files=["c.csv"], comment="another reason")
    assert other.is_failed() and "is under way" in str(other.message), other
    assert child.go() is None and "broken off" in child.form


def test_remainders_are_counted_with_their_order_and_the_stream_s_own_deployment_asks_where_theirs_was_deleted(
    world: ReleaseWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, parameters = world.client.read_deployment(world.deployment).flow_id, {"partner": "acme", "stream": "batches"}
    mine = world.client.create_deployment(flow, "used then")
    bea, ann, whole = world.newcomer(), world.newcomer(), replace(world, deployment=mine).order("batches")
    for name in ("a.csv", "b.csv"):
        world.keep(whole.id, name, BATCH[name])
    assert whole.start() is None
    state = whole.sign(bea, decision="approve all but the listed", left_out=["2. b.csv"], comment="later")
    assert state is not None and state.name == "Delivered", state
    rest = whole.part(whole.last("parted")["child_order"], whole.last("parted")["child_run"])
    assert rest.go() is None
    state = rest.sign(ann)
    assert state is not None and state.name == "Delivered", state

    world.client.delete_deployment(mine)
    own = world.client.create_deployment(flow, "of the stream", parameters=parameters)
    try:
        first, child = again(world, whole)
        assert first.name == "Asked, attempt 2", first
        assert child.told.deployment_id == own
        # Somebody asks for the remainder at the same moment: what they counted is not true any more when they write it down.
        with monkeypatch.context() as patch:
            patch.setattr("tasks.resend._next_attempt", lambda order: 2)
            second, other = again(world, rest)
        assert second.name == "Asked, attempt 3", second
        assert (other.told.deployment_id, other.package.files[0].shown) == (own, "b.csv")
        assert [entry.body["package"] for entry in rest.history if entry.kind == "again"] == [other.package.text]
    finally:
        world.client.delete_deployment(own)


def test_where_only_proven_requests_count_nobody_is_asked(batch: Release) -> None:
    agreed = load_release("acme", "batches")
    signoff = agreed.terms.signoff.model_copy(update={"four_eyes": FourEyes.PROVEN})
    agreed.terms = agreed.terms.model_copy(update={"signoff": signoff})
    recalled, before = recall.fn(agreed, batch.id, []), batch.kinds
    assert [one.problem for one in recalled.repeats] == [""] * 3
    with pytest.raises(ConfigurationError, match="ask for a new order by 'countersign request'"):
        order_again(recalled, WHY, "rita")
    assert batch.kinds == before


def test_where_records_are_filed_elsewhere_today_the_originals_go(world: ReleaseWorld, batch: Release) -> None:
    agreed = load_release("acme", "batches")
    assert recall.fn(agreed, batch.id, []).from_record
    agreed.recording = load_repositories(world.profiles)["shelf"]
    recalled = recall.fn(agreed, batch.id, [])
    assert not recalled.from_record and [one.problem for one in recalled.repeats] == [""] * 3


def test_the_sender_sends_nothing_again_that_it_did_not_send(world: ReleaseWorld, batch: Release) -> None:
    """A worker that calls something new a redelivery, so as to get around what the stream admits, gets nobody asked."""
    agreed = load_release("acme", "batches")
    genuine = Order(agreed, batch.id, batch.history[0].journey, "", None)
    other = world.order("batches", secret=b"never approved")
    assert other.start() is None
    forged = batch.package.again(other.package.files, 2, WHY, "rita", agreed.policies)
    assert Package.parse(forged.text) == forged
    with sender() as asking, pytest.raises(SendRefused, match="did not go to"):
        asking.open(genuine.matter.__class__(forged, "run", None), agreed.policies)
    assert UUID(forged.journey).version == 8


def test_the_command_shows_what_would_go(world: ReleaseWorld, batch: Release) -> None:
    asked = ["run", "resend", "--partner", "acme", "--stream", "batches", "--order", batch.id, "--comment", WHY, "--dry-run"]
    told = CliRunner().invoke(app, asked)
    assert told.exit_code == 0 and "Preview: all 3 can go" in told.output, told.output
