"""E1 Governed intake: naming and structure checked, then metadata, records class and access, whole or not at all."""

from __future__ import annotations

import httpx

from tests.world import World, price_list

NAMING = r"INV_(?P<number>\d+)_(?P<date>\d{8})\.csv"
TARGET = {
    "repository": "ecm",
    "categories": {"Partner Document": {"Partner ID": "{partner}", "Reference": "{number}", "SHA-256": "{digest}"}},
    "records_class": "Invoices",
    "access": [{"who": "DefaultGroup", "right": "read"}],
}


def agree(world: World, **target: object) -> None:
    world.agree(naming=NAMING, target={**TARGET, "folder": f"Tests/{world.remote.name}", **target})


def test_a_fitting_name_is_filed_with_its_values_and_the_other_is_quarantined_with_the_rule(world: World) -> None:
    agree(world)
    world.leave("INV_4711_20261120.csv", price_list())
    world.leave("invoice(1).csv", price_list(first=50))
    state = world.run()
    assert state.name == "Filed, 1 quarantined"
    assert world.filed() == {"INV_4711_20261120.csv": price_list()}
    with world.repository() as session:
        kept = session.find(("Tests", world.remote.name), "INV_4711_20261120.csv")
        assert kept is not None
        values = session.get(kept.id).categories["Partner Document"]
    assert (values["Reference"], values["Partner ID"]) == ("4711", "acme")
    (case,) = world.ledger.cases()
    assert case.code == "naming-rule"
    assert NAMING in case.reason
    # Both originals are cleared: one is filed, the other's bytes are in the quarantine.
    assert not list(world.out.iterdir())


def test_records_class_and_access_are_set_in_the_same_step_as_the_filing(world: World) -> None:
    agree(world)
    world.leave("INV_4711_20261120.csv", price_list())
    world.run()
    with world.repository() as session:
        kept = session.find(("Tests", world.remote.name), "INV_4711_20261120.csv")
        assert kept is not None
    ticket = httpx.post(
        f"{world.services['url']}/api/v1/auth",
        data={"username": world.services["user"], "password": world.services["password"]},
        timeout=60,
    ).json()["ticket"]
    headers = {"OTCSTicket": ticket}
    records = httpx.get(
        f"{world.services['url']}/api/v1/nodes/{kept.id}/rmclassifications", headers=headers, timeout=60
    ).json()["data"]
    assert [record["name"] for record in records if record.get("name")] == ["Invoices"] or len(records) == 1
    grants = httpx.get(f"{world.services['url']}/api/v2/nodes/{kept.id}/permissions", headers=headers, timeout=60).json()[
        "results"
    ]
    kinds = [grant["data"]["permissions"]["type"] for grant in grants if grant["data"]["permissions"]["permissions"]]
    assert "custom" in kinds
    assert "public" not in kinds
    filed = [entry for entries in world.journeys().values() for entry in entries if entry.kind == "filed"]
    assert [entry.body["repository_id"] for entry in filed] == [kept.id]


def test_nothing_is_left_half_filed_when_the_category_is_refused(world: World) -> None:
    agree(world, categories={"Partner Document": {"No Such Attribute": "{number}"}})
    world.leave("INV_4711_20261120.csv", price_list())
    state = world.run()
    assert state.name == "Nothing filed, 1 quarantined"
    assert world.filed() == {}
    (case,) = world.ledger.cases()
    assert "No Such Attribute" in case.reason
