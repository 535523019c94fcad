"""A delivery of which no server tells: a person asks, ``countersign signoff settle`` takes their word, the release goes on."""

from __future__ import annotations

import pytest

from blocks.sender import delivered_of
from deployments.sender.store import Store
from tests.e2e.test_release import assert_named, assert_verifies
from tests.e2e.test_release_commands import countersign
from tests.release_world import Release, ReleaseWorld


def in_doubt(world: ReleaseWorld) -> Release:
    """A signed release of a.csv and b.csv, both of whose temporary names were gone after the sender had been killed."""
    bea = world.newcomer()
    release = world.order("prices", a=b"1", b=b"2")
    with world.sender(die_at=5):  # two uploaded, two read back, one step for all renames
        release.start()
        state = release.sign(bea)
        assert state is not None and state.is_failed(), state
    with Store(world.state) as store:
        for parcel in store.parcels(release.package.digest):
            (world.remote / release.id / parcel.temporary.decode()).unlink()
    return release


def test_a_person_says_what_became_of_each_file_and_the_release_goes_on(quiet_release_world: ReleaseWorld) -> None:
    world = quiet_release_world
    release = in_doubt(world)
    with world.sender():
        assert_named(release.go(), "In doubt, 2 unknown")
        shown = countersign("signoff", "show", release.id).output
        assert "in doubt" in shown and "a.csv at destination 1" in shown and "b.csv at destination 1" in shown
        settle = ("signoff", "settle", release.id, "--comment", "Ms Ito: has <a>", "--file")
        assert countersign(*settle, "c.csv", "--arrived").exit_code == 1
        assert countersign(*settle, "a.csv").exit_code == 2, "neither --arrived nor --send-again"
        assert countersign(*settle, "a.csv", "--destination", "2", "--arrived").exit_code == 1

        first = countersign(*settle, "a.csv", "--arrived")
        assert first.exit_code == 0 and "1 of the package still in doubt" in first.output, first.output
        assert release.told.state is not None and release.told.state.is_final(), "it waits for the other one"
        second = countersign(*settle, "b.csv", "--destination", "1", "--send-again")
        assert second.exit_code == 0 and f"run {release.run} goes on" in second.output, second.output
        assert release.told.state is not None and release.told.state.is_scheduled()

        assert_named(release.go(), "Delivered, 1 told by a person")
        assert release.received == {"b.csv": b"2"}, "exactly what was to be sent again"
        told = release.last("settled")
        assert told["file"] == "b.csv" and not told["arrived"] and told["case"] == {"state": "resolved"}
        after = countersign("signoff", "show", release.id).output
        assert "found –  a.csv: a person says it arrived" in after and "Ms Ito: has <a>" in after
        assert "in doubt" not in after
        certificate = assert_verifies(world, release).decode()
        assert '"weakest":"a person says it arrived' in certificate and "Ms Ito: has <a>" in certificate
        (page,) = [text.decode() for name, text in world.evidence(release.id).items() if name.endswith(".html")]
        assert "says so: Ms Ito: has &lt;a&gt;" in page
        assert countersign(*settle, "a.csv", "--arrived").exit_code == 1, "nothing is in doubt any more"


def test_several_files_are_settled_by_one_answer_of_the_partner_or_none_of_them(quiet_release_world: ReleaseWorld) -> None:
    world = quiet_release_world
    release = in_doubt(world)
    with world.sender():
        assert_named(release.go(), "In doubt, 2 unknown")
        settle = ("signoff", "settle", release.id, "--comment", "Ms Ito: all here", "--arrived", "--file", "a.csv", "--file")
        assert countersign(*settle, "c.csv").exit_code == 1
        assert "settled" not in release.kinds
        done = countersign(*settle, "b.csv")
        assert done.exit_code == 0 and f"run {release.run} goes on" in done.output, done.output
        assert_named(release.go(), "Delivered, 2 told by a person")
        assert release.received == {}


def test_what_was_begun_to_be_sent_is_cleared_away_when_the_package_is_void(quiet_release_world: ReleaseWorld) -> None:
    world = quiet_release_world
    bea = world.newcomer()
    release = world.order("prices", a=b"1", b=b"2")
    with world.sender(die_at=4):  # two uploaded, two read back
        release.start()
        state = release.sign(bea)
        assert state is not None and state.is_failed(), state
    assert len(release.received) == 2 and all(name.startswith(".countersign-") for name in release.received)
    world.keep(release.id, "a.csv", b"3")
    with world.sender():
        assert_named(release.go(), "Voided: a.csv is superseded by v2")
    assert release.received == {}
    assert release.last("withdrawn")["left"] == [] and "may still stand" not in release.last("closed")["reason"]


def test_what_had_left_before_the_package_was_void_is_named_with_its_proofs(quiet_release_world: ReleaseWorld) -> None:
    world = quiet_release_world
    bea = world.newcomer()
    release = world.order("prices", a=b"1", b=b"2")
    with world.sender(die_at=6):
        release.start()
        state = release.sign(bea)
        assert state is not None and state.is_failed(), state
    arrived = sorted(name for name in release.received if not name.startswith(".countersign-"))
    assert arrived in (["a.csv"], ["a.csv", "b.csv"]), release.received
    world.keep(release.id, "a.csv", b"3")
    with world.sender():
        assert_named(release.go(), "Voided: a.csv is superseded by v2")
    stands = sorted(release.received)
    told = [delivered_of(file) for file in release.last("withdrawn")["files"]]
    assert sorted(file.name.decode() for file in told) == stands and stands >= arrived[:1]
    assert all(file.approved == file.sent == file.proven for file in told)
    assert (
        f"{len(stands)} of its files stand at the partner already, and stay (a.csv at destination 1"
        in release.last("closed")["reason"]
    )
    after = countersign("signoff", "show", release.id).output
    assert "found ✓  a.csv" in after and f"{bea}: approve" in after
    assert "certified" not in release.kinds, "a certificate is of a whole release"


def test_what_the_sender_knows_and_the_ledger_does_not_is_settled_again(
    quiet_release_world: ReleaseWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the sender and the ledger: typed again, it is the same settlement."""
    from tasks.order import Order

    world = quiet_release_world
    release = in_doubt(world)
    with world.sender():
        release.go()
        settle = ("signoff", "settle", release.id, "--comment", "has it", "--arrived", "--file")
        with monkeypatch.context() as patch:
            patch.setattr(Order, "write", None)
            with pytest.raises(TypeError):
                countersign(*settle, "a.csv")
        assert release.kinds.count("settled") == 0
        assert countersign(*settle, "a.csv").exit_code == 0
        assert countersign(*settle, "b.csv").exit_code == 0
        assert_named(release.go(), "Delivered, 2 told by a person")
        assert release.received == {}
        assert_verifies(world, release)
