"""C4 Inventory and price alignment, as far as an intake goes: never an old price after a newer one.

Price files 1, 2 and 3, of which 2 is refused: by what was agreed 3 waits for it, or supersedes it. All are filed as versions of one
document, so that the order in which they were filed is the history of the prices. That these go on to system B and back to marketplaces
in the same order is for the handover to show.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from typer.testing import CliRunner

from blocks.errors import RepositoryUnreachable
from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.values import Filed, Filing, NotFiled
from deployments.quarantine_commands import app
from flows.review import retry
from tests.world import ONE_LOOK, World, price_list

NAMES = ("prices_1.csv", "prices_2.csv", "prices_3.csv")
BOUND = 3
"""Most rows of a file, until somebody mends the rule."""


def prices(number: int, rows: int = 3) -> bytes:
    """The price list of a day."""
    return price_list(rows, first=number * 100)


SECOND = prices(2, rows=BOUND + 1)


def agree(world: World, sequence: str, at_a_time: int = 500, rows: int = BOUND) -> None:
    target = {**world.terms()["target"], "name": "prices.csv"}
    world.agree(sequence=sequence, target=target, limits={"consignment_files": at_a_time, "rows": rows})


def arrive(world: World) -> str:
    """The three arrive and are worked on; the journey of the refused one."""
    for number, name in enumerate(NAMES, 1):
        world.leave(name, SECOND if number == 2 else prices(number))
    assert world.run().name == "Filed, 1 quarantined"
    (case,) = world.ledger.cases(open_only=False)
    assert case.name == NAMES[1]
    return case.journey


def mend(world: World, sequence: str, journey: str) -> str:
    """The rule is mended, and somebody tries the refused one again; the name of the run's final state."""
    agree(world, sequence, rows=1000)
    return str(retry(journey, "rule mended", by="ann", return_state=True).name)


def history(world: World) -> list[str]:
    """Names in the order in which they were filed."""
    filed = [entry for entries in world.journeys().values() for entry in entries if entry.kind == "filed"]
    return [entry.body["name"] for entry in sorted(filed, key=lambda entry: entry.seq)]


@pytest.mark.parametrize("sequence", ["ordered", "latest"])
def test_what_was_filed_before_the_repository_went_away_is_not_taken_for_late(
    sequence: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect tries the task again with what it was first given, and then all three look as if none were filed."""
    agree(world, sequence)
    for number, name in enumerate(NAMES, 1):
        world.leave(name, prices(number))
    asked, file = [0], ExtendedEcmSession.file

    def away_once(self: ExtendedEcmSession, filings: Iterable[Filing]) -> Iterator[Filed | NotFiled]:
        asked[0] += 1
        if asked[0] == len(NAMES):
            raise RepositoryUnreachable("away for a moment")
        yield from file(self, filings)

    # The server's faults count calls; which call is the third document's depends on its categories and folders.
    monkeypatch.setattr(ExtendedEcmSession, "file", away_once)
    assert world.run().name == "Filed"
    assert asked[0] > len(NAMES), "it was away"
    assert history(world) == list(NAMES)
    assert world.ledger.cases(open_only=False) == []


@pytest.mark.parametrize("at_a_time", [1, 500], ids=["each in a consignment", "in one consignment"])
def test_ordered_the_third_waits_for_the_second(world: World, at_a_time: int) -> None:
    agree(world, "ordered", at_a_time)
    second = arrive(world)
    assert world.filed() == {"prices.csv": prices(1)}
    world.leave("prices_4.csv", prices(4))
    assert world.run().name == "Nothing new"
    assert world.filed() == {"prices.csv": prices(1)}, "nor does a later one overtake it"

    assert mend(world, "ordered", second) == "Filed"
    assert world.filed() == {"prices.csv": SECOND}
    assert world.run().name == "Filed"
    assert history(world) == [*NAMES, "prices_4.csv"]
    assert world.filed() == {"prices.csv": prices(4)}
    assert world.ledger.cases() == []


def test_ordered_what_a_person_rejects_is_waited_for_no_more_and_never_filed_late(world: World) -> None:
    agree(world, "ordered")
    second = arrive(world)
    rejected = CliRunner().invoke(app, ["reject", second, "--comment", "ACME sends it again"])
    assert rejected.exit_code == 0, rejected.output
    assert world.run().name == "Filed"
    assert world.filed() == {"prices.csv": prices(3)}
    assert mend(world, "ordered", second) == "Nothing filed, 1 quarantined"
    assert history(world) == [NAMES[0], NAMES[2]]


def test_latest_the_third_supersedes_the_second(world: World) -> None:
    agree(world, "latest")
    second = arrive(world)
    assert history(world) == [NAMES[0], NAMES[2]]
    assert world.ledger.cases() == [], "nobody is needed for the second any more"
    assert [entry.kind for entry in world.ledger.journey(second)][-1] in ("superseded", "cleared")

    assert mend(world, "latest", second) == "Nothing filed, 1 quarantined"
    assert world.filed() == {"prices.csv": prices(3)}
    assert "prices_3.csv came later" in str(world.ledger.cases(open_only=False)[0].reason)
    assert world.ledger.cases() == []


@pytest.mark.parametrize(("sequence", "filed"), [("ordered", list(NAMES[:1] + NAMES[2:])), ("latest", [NAMES[2]])])
def test_one_that_is_written_slowly_is_not_filed_after_a_later_one(world: World, sequence: str, filed: list[str]) -> None:
    agree(world, sequence)
    slow = world.leave(NAMES[0], prices(1)[:-20])
    world.leave(NAMES[2], prices(3))
    assert world.run(patience_seconds=ONE_LOOK).name == "Nothing new", "a first look tells nothing yet"
    slow.write_bytes(prices(1))
    world.run(patience_seconds=ONE_LOOK)
    assert history(world) == ([] if sequence == "ordered" else [NAMES[2]])
    world.run()
    assert history(world) == filed
    assert world.filed() == {"prices.csv": prices(3)}
    assert not list(world.out.iterdir())
    world.ledger.verify()
