"""S1 Sensitive intake: a changed host key stops everything until a person decides; then the backlog flows in order."""

from __future__ import annotations

import os

from tests.world import World, price_list

OTHER = "SHA256:" + "A" * 43


def test_a_changed_host_key_fetches_nothing_and_names_both(world: World) -> None:
    world.agree(host_keys=[OTHER])
    world.leave("p1.csv", price_list())
    state = world.run()
    assert state.is_failed()
    message = str(state.message)
    assert OTHER in message
    assert world.server.fingerprint in message
    assert world.filed() == {}
    assert world.journeys() == {}
    assert [case.code for case in world.ledger.cases()] == ["host-key-changed"]
    assert (world.out / "p1.csv").exists()


def test_nothing_is_accepted_by_itself_and_the_backlog_flows_in_order_afterwards(world: World) -> None:
    world.agree(host_keys=[OTHER], limits={"consignment_files": 1})
    for number in range(3):
        world.leave(f"p{number}.csv", price_list(first=number * 10 + 1), modified=1_700_000_000 + number)
        os.utime(world.out / f"p{number}.csv", (1_700_000_000 + number,) * 2)
    for _ in range(2):
        assert world.run().is_failed()
    world.agree(limits={"consignment_files": 1})  # a person looked, and wrote the new key into the reviewed file
    assert world.run().name == "Filed"
    assert sorted(world.filed()) == ["p0.csv", "p1.csv", "p2.csv"]
    filed = sorted(
        (entry.seq, entry.body["filed_as"])
        for entries in world.journeys().values()
        for entry in entries
        if entry.kind == "filed"
    )
    assert [name for _, name in filed] == ["p0.csv", "p1.csv", "p2.csv"]
