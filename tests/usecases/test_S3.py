"""S3 Recurring drops to records: an old time stamp hides nothing, and a reference links the file to its case."""

from __future__ import annotations

from tests.world import World

MODIFIED_2019 = 1_556_700_000.0
STATEMENT = b"""reference,booked_on,text,amount,currency
REF-20261119,2026-11-19,first,12.50,EUR
REF-20261119,2026-11-19,second,-3.00,EUR
"""


def agree(world: World) -> None:
    world.agree(
        naming=r"stmt_(?P<day>\d{8})\.csv",
        classify=[{"pattern": r"stmt_(?P<day>\d{8})\.csv", "doctype": "statement"}],
        target={
            "repository": "ecm",
            "folder": f"Tests/{world.remote.name}",
            "categories": {"Partner Document": {"Reference": "{reference}"}},
        },
    )


def test_a_file_with_an_old_time_that_comes_after_a_later_one_is_still_picked_up(world: World) -> None:
    agree(world)
    world.leave("stmt_20261120.csv", STATEMENT.replace(b"20261119", b"20261120"))
    assert world.run().name == "Filed"
    world.leave("stmt_20261119.csv", STATEMENT, modified=MODIFIED_2019)
    assert world.run().name == "Filed"
    assert sorted(world.filed()) == ["stmt_20261119.csv", "stmt_20261120.csv"]


def test_it_is_linked_to_its_case_by_the_reference(world: World) -> None:
    agree(world)
    world.leave("stmt_20261119.csv", STATEMENT, modified=MODIFIED_2019)
    world.run()
    with world.repository() as session:
        kept = session.find(("Tests", world.remote.name), "stmt_20261119.csv")
        assert kept is not None
        assert session.get(kept.id).categories["Partner Document"]["Reference"] == "REF-20261119"
