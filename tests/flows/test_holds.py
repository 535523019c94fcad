"""Holds everywhere: nothing of ours deletes a copy of what is on hold, or of what nobody can tell about just now.

Each clean-up meets the same three: the repository is away (and somebody sets a hold there meanwhile), the hold is seen, the hold is
lifted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from blocks.errors import RepositoryUnreachable
from blocks.values import Stage
from deployments.cli import app
from flows.governance import clean_up
from tasks import clear_source, connections, holds
from tasks.clean_up import clear_what_was_held, collect_spool, purge_quarantine, remove_what_has_ended, tell_holds
from tests.world import World, price_list

CASE = "Miller ./. ACME"
NOW = timedelta(seconds=-1)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERSIGN_PAUSE_SECONDS", "0.02")


@pytest.fixture
def installed(world: World) -> Iterator[World]:
    yield world
    world.faults(burst503=0)


@dataclass
class Document:
    """A filed document, and the hold that somebody else sets on it."""

    world: World
    journey: str

    @property
    def id(self) -> str:
        return next(str(e.body["repository_id"]) for e in self.world.ledger.journey(self.journey) if e.kind == "filed")

    def hold(self) -> None:
        with self.world.repository() as session:
            session.apply_hold(self.id, CASE)

    def lift(self) -> None:
        with self.world.repository() as session:
            session.lift_hold(self.id, CASE)

    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.world.ledger.journey(self.journey)]


def only(world: World) -> Document:
    [journey] = [journey for journey in world.journeys() if journey != "holds"]
    return Document(world, journey)


def blocks(world: World, document: Document, clean: Callable[[], str], there: Callable[[], bool]) -> None:
    """A clean-up, which answers why something stays: the repository away, then the hold seen, then lifted."""
    document.hold()
    world.faults(burst503=10_000)  # from here on the repository is away, and we have not seen the hold
    assert "503" in clean()
    world.faults(burst503=0)
    assert there()
    assert CASE in clean()
    assert there()
    document.lift()
    assert clean() == ""
    assert not there()


# --------------------------------------------------------------------------------------------- each clean-up


def test_originals_at_the_partner_stay(installed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = installed
    original = world.leave("prices.csv", price_list())

    class Away(holds.Gate):
        """The repository goes away, and a hold is set there, just before the gate asks."""

        def __init__(self) -> None:
            super().__init__()
            only(world).hold()
            world.faults(burst503=10_000)

    with monkeypatch.context() as patch:
        patch.setattr(clear_source, "Gate", Away)
        state = world.run()
    assert (state.name, original.exists()) == ("Filed", True)
    document = only(world)
    assert document.kinds()[-1] == "filed"  # still in work: the next run asks again
    world.faults(burst503=0)
    world.run(patience_seconds=0)
    assert original.exists()
    assert document.kinds()[-1] == "on-hold"
    assert world.run(patience_seconds=0).name == "Nothing new"  # watched, not worked on
    [swept] = clear_what_was_held.fn()
    assert CASE in swept.kept[0][1]
    assert original.exists()
    document.lift()
    [swept] = clear_what_was_held.fn()
    assert (swept.gone, swept.kept) == (1, ())
    assert not original.exists()
    assert clear_what_was_held.fn() == []
    assert world.ledger.arrivals([document.journey])[document.journey].stage is Stage.CLEARED


def test_originals_that_would_be_moved_stay_too(installed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world = installed
    (world.remote / "done").mkdir()
    world.agree(disposition={"accepted": "move", "folder": str(world.remote / "done")})
    original = world.leave("prices.csv", price_list())

    class Held(holds.Gate):
        def __init__(self) -> None:
            super().__init__()
            only(world).hold()

    with monkeypatch.context() as patch:
        patch.setattr(clear_source, "Gate", Held)
        world.run()
    assert original.exists()
    only(world).lift()
    clear_what_was_held.fn()
    assert (original.exists(), (world.remote / "done" / "prices.csv").exists()) == (False, True)


def test_bytes_in_the_spool_stay(installed: World) -> None:
    world = installed
    world.leave("prices.csv", price_list())
    world.run()
    document, spool = only(world), connections.spool()
    digest = next(str(e.body["digest"]) for e in world.ledger.journey(document.journey) if e.kind == "filed")
    reasons = iter(("503", CASE, ""))

    def clean() -> str:
        kept, reason = collect_spool.fn(NOW).kept, next(reasons)
        assert [one for one, _ in kept] == ([digest] if reason else [])
        return reason

    blocks(world, document, clean, lambda: spool.holds(digest))


def refused_then_filed(world: World) -> Document:
    """A document that was quarantined and filed after all: the quarantine still has its bytes."""
    from flows.review import retry

    world.agree(naming=r"never\.csv")
    world.leave("prices.csv", price_list())
    world.run()
    document = only(world)
    world.agree()
    assert retry(document.journey, "mended", return_state=True).name == "Filed"
    return document


def test_bytes_in_the_quarantine_stay(installed: World) -> None:
    world = installed
    document = refused_then_filed(world)

    def clean() -> str:
        return "".join(reason for _, reason in purge_quarantine.fn(NOW).kept)

    blocks(world, document, clean, lambda: connections.quarantine().content(document.journey) is not None)
    assert document.kinds().count("purged") == 1


def test_a_document_whose_retention_has_ended_stays(installed: World) -> None:
    world = installed
    ended = {"period": "P1Y", "at_end": "remove"}
    target = {**world.terms()["target"], "record_date": "{date}", "retention": ended}
    world.agree(naming=r"prices-(?P<date>[\d-]+)\.csv", target=target)
    world.leave("prices-2001-01-01.csv", price_list())
    world.run()
    document = only(world)
    filed = next(entry.body for entry in world.ledger.journey(document.journey) if entry.kind == "filed")
    assert (filed["record_date"], filed["keep_until"]) == ("2001-01-01", "2002-01-01")

    def clean() -> str:
        [swept] = remove_what_has_ended.fn()
        return "".join(reason for _, reason in swept.kept)

    blocks(world, document, clean, lambda: bool(world.filed()))
    assert document.kinds()[-2:] == ["removing", "removed"]
    assert clean() == ""
    # Another one, whose retention was prolonged after it had been filed: the longer one counts.
    world.leave("prices-2002-02-02.csv", price_list(first=50))
    world.run()
    target["retention"] = {**ended, "period": "P200Y"}
    world.agree(naming=r"prices-(?P<date>[\d-]+)\.csv", target=target)
    assert [(swept.gone, swept.kept) for swept in remove_what_has_ended.fn()] == [(0, ())]
    assert list(world.filed()) == ["prices-2002-02-02.csv"]


def test_one_document_of_two_journeys_goes_when_both_have_ended(installed: World) -> None:
    world = installed
    target = {**world.terms()["target"], "name": "prices.csv", "record_date": "{date}"}
    target["retention"] = {"period": "P1Y", "at_end": "remove"}
    world.agree(naming=r"prices-(?P<date>[\d-]+)\.csv", target=target)
    world.leave("prices-2001-01-01.csv", price_list())
    world.run()
    world.leave("prices-2900-01-01.csv", price_list(first=50))
    world.run()
    [swept] = remove_what_has_ended.fn()
    assert ["must be kept longer" in reason for _, reason in swept.kept] == [True]
    assert world.versions() == {"prices.csv": 2}


def test_bytes_that_came_again_are_kept_as_long_as_the_later_ones(installed: World) -> None:
    world = installed
    target = {**world.terms()["target"], "record_date": "{date}", "retention": {"period": "P1Y", "at_end": "remove"}}
    world.agree(naming=r"prices-(?P<date>[\d-]+)\.csv", target=target)
    for name in ("prices-2001-01-01.csv", "prices-2900-01-01.csv"):
        world.leave(name, price_list())
        world.run()
    assert list(world.filed()) == ["prices-2001-01-01.csv"]
    [swept] = remove_what_has_ended.fn()
    assert ["must be kept longer" in reason for _, reason in swept.kept] == [True]
    assert list(world.filed()) == ["prices-2001-01-01.csv"]


# --------------------------------------------------------------------------------------------- holds that we are told of


def test_a_hold_that_is_set_here_is_in_force_before_the_repository_knows_it(installed: World) -> None:
    world, name = installed, f"Case {installed.remote.name}"
    document = refused_then_filed(world)
    world.faults(burst503=10_000)
    [problem] = holds.apply_hold(document.journey, name, "letter of counsel", "legal")
    assert "503" in problem
    with pytest.raises(RepositoryUnreachable):
        holds.lift_hold(document.journey, name, "too early", "legal")
    assert "on hold" in holds.Gate().bars([document.journey])[document.journey].reason
    world.faults(burst503=0)
    assert "on hold" in purge_quarantine.fn(NOW).kept[0][1]
    assert connections.quarantine().content(document.journey) is not None
    assert tell_holds.fn().kept == ()
    with world.repository() as session:
        assert [(hold.name, hold.comment) for hold in session.holds(document.id)] == [(name, "letter of counsel")]
    assert [{place.id for place in hold.told} for hold in holds.holds_here()] == [{document.id}]
    holds.lift_hold(document.journey, name, "settled", "legal")
    assert (holds.holds_here(), holds.Gate().bars([document.journey])) == ([], {})
    # The lifting that came too early may have reached the repository.
    assert document.kinds()[-5:] == ["hold-applied", "hold-lifting", "hold-told", "hold-lifting", "hold-lifted"]
    world.ledger.verify()


def test_a_refused_document_that_was_never_filed_can_be_on_hold_too(installed: World) -> None:
    from tasks import retry as cases

    world = installed
    world.agree(naming=r"never\.csv")
    world.leave("prices.csv", price_list())
    world.run()
    document = only(world)
    runner = CliRunner()
    assert runner.invoke(app, ["hold", "apply", document.journey, CASE, "--comment", "letter of counsel"]).exit_code == 0
    listed = runner.invoke(app, ["hold", "list", document.journey])
    assert (listed.exit_code, "Miller" in listed.output) == (0, True)
    assert runner.invoke(app, ["hold", "apply", "no such journey", CASE, "--comment", "x"]).exit_code == 2
    cases.reject(document.journey, "not wanted", by="ops")
    assert [journey for journey, _ in purge_quarantine.fn(NOW).kept] == [document.journey]
    assert connections.quarantine().content(document.journey) is not None
    purged = runner.invoke(app, ["quarantine", "purge", "--older-than-days", "0"])
    assert ("0 cases purged" in purged.output, document.journey in purged.output) == (True, True)
    assert runner.invoke(app, ["hold", "lift", document.journey, CASE, "--comment", "settled"]).exit_code == 0
    assert purge_quarantine.fn(NOW).gone == 1
    assert connections.quarantine().content(document.journey) is None


def test_a_duplicate_s_original_is_held_with_the_document_that_it_repeats(installed: World) -> None:
    world = installed
    world.leave("prices.csv", price_list())
    world.run()
    only(world).hold()
    again = world.leave("again.csv", price_list())
    world.run()
    assert again.exists()


@pytest.mark.parametrize("why", ["gone from repositories.yaml", "not visible"])
def test_what_nobody_can_be_asked_about_stays(installed: World, why: str) -> None:
    world = installed
    document = refused_then_filed(world)
    if why == "not visible":
        with world.repository() as session:
            session.remove(document.id)
    else:
        file = world.profiles / "repositories.yaml"
        told = yaml.safe_load(file.read_text())
        told["repositories"]["ecm"]["url"] = "http://127.0.0.1:9/cs/cs"
        file.write_text(yaml.safe_dump(told))
    [(_, reason)] = purge_quarantine.fn(NOW).kept
    assert ("not in repositories.yaml any more" in reason) or ("cannot be asked" in reason)
    assert connections.quarantine().content(document.journey) is not None


def test_the_nightly_clean_up_says_what_stays_and_why(installed: World) -> None:
    world = installed
    document = refused_then_filed(world)
    document.hold()
    state: Any = clean_up(spool_hours=-1, quarantine_days=-1, return_state=True)
    assert state.name == "Cleaned up, 2 stay"
    document.lift()
    assert clean_up(spool_hours=-1, quarantine_days=-1, return_state=True).name == "Cleaned up"
    assert clean_up(spool_hours=-1, quarantine_days=-1, return_state=True).name == "Nothing to clean up"
