"""S5 Compliance reports: a set of three files and a manifest is filed as a whole, or not at all, and a person is told what is missing."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from typer.testing import CliRunner

from blocks.errors import OnHold
from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.repositories.otcs_people import Whose
from blocks.repositories.otcs_workspaces import Workspace
from blocks.values import BusinessObject
from deployments.cli import app
from tasks.tell_cases import CASE_TOLD
from tests.world import World, price_list

PARTS = ("balance", "exposure", "liquidity")


def report(part: str, month: str = "202611") -> tuple[str, bytes]:
    return f"{month}_{part}.csv", price_list(first=1000 * (1 + PARTS.index(part)) + int(month) % 100)


def manifest(month: str = "202611", **digests: str) -> bytes:
    """As sha256sum writes it."""
    told = {part: hashlib.sha256(report(part, month)[1]).hexdigest() for part in PARTS} | digests
    return "".join(f"{digest}  {month}_{part}.csv\n" for part, digest in told.items()).encode()


def agree(world: World, window: str = "PT1H") -> None:
    world.agree(
        classify=[
            {"pattern": r"(?P<month>\d{6})_\w+\.csv", "doctype": "price-list"},
            {"pattern": r"(?P<month>\d{6})\.sha256", "doctype": "checksum-list"},
        ],
        sets={
            "pattern": r"(?P<set>\d{6})[_.].*",
            "files": [f"{{set}}_{part}.csv" for part in PARTS],
            "manifest": "{set}.sha256",
            "window": window,
        },
        target={
            "repository": "ecm",
            "folder": f"Tests/{world.remote.name}",
            "categories": {"Partner Document": {"Reference": "{month}"}},
            "records_class": "Invoices",
        },
        owner="compliance@example.com",
    )


CLOSED = "PT0.000001S"
"""A window that has closed by the next run."""


def cases(world: World) -> list[tuple[str | None, str | None]]:
    return [(case.code, case.reason) for case in world.ledger.cases()]


def waits(world: World) -> dict[str, Any]:
    """What is written about the sets themselves: that somebody was told is no news of one."""
    found = {entries[0].body["name"]: entries for id, entries in world.journeys().items() if id.startswith("set.")}
    return {name: [entry.kind for entry in entries if entry.kind != CASE_TOLD] for name, entries in found.items()}


def test_two_of_three_by_the_windows_end_are_an_incomplete_set(world: World) -> None:
    agree(world)
    for part in ("balance", "liquidity"):
        world.leave(*report(part))
    world.leave("202611.sha256", manifest())
    world.run()
    assert world.filed() == {}
    assert cases(world) == [], "the window is still open"

    agree(world, CLOSED)
    for _ in range(2):
        world.run()
    assert cases(world) == [("set-incomplete", "Set 202611 is incomplete: missing 202611_exposure.csv")]
    assert world.ledger.cases()[0].owner == "compliance@example.com"
    assert world.filed() == {}, "nothing is filed as complete"
    assert len(list(world.out.iterdir())) == 3, "nor taken away at the partner"
    assert waits(world) == {"202611": ["incomplete"]}

    # It comes after all: then the set is filed as a whole, and nobody is needed any more.
    world.leave(*report("exposure"))
    assert world.run().name == "Filed"
    assert set(world.filed()) == {"202611_balance.csv", "202611_exposure.csv", "202611_liquidity.csv", "202611.sha256"}
    assert cases(world) == []
    assert not list(world.out.iterdir())
    assert waits(world) == {"202611": ["incomplete", "complete"]}

    # What comes after is no part of it: the same bytes are a duplicate, others are for a person to judge.
    world.leave(*report("balance"))
    world.leave("202611_exposure.csv", price_list(first=7))
    world.leave("202611_notes.csv", price_list(first=8))
    assert world.run().name == "Nothing filed, 2 quarantined, 1 duplicate"
    assert [case.code for case in world.ledger.cases()] == ["set-complete"] * 2
    assert set(world.versions().values()) == {1}


def test_a_whole_set_does_not_wait_for_another_one(world: World) -> None:
    agree(world)
    for part in PARTS:
        world.leave(*report(part, "202610"))
    world.leave("202610.sha256", manifest("202610"))
    world.leave(*report("balance", "202611"))
    world.run()
    assert set(world.filed()) == {*(f"202610_{part}.csv" for part in PARTS), "202610.sha256"}
    assert [path.name for path in world.out.iterdir()] == ["202611_balance.csv"]


@pytest.mark.parametrize(
    ("wrong", "missing"),
    [
        pytest.param(
            manifest(exposure="0" * 64),
            "202611_exposure.csv (what came has other bytes than the manifest says)",
            id="other bytes",
        ),
        pytest.param(
            manifest() + b"more.csv\n", "more.csv (listed in the manifest, and not agreed)", id="a file that nobody agreed to"
        ),
        pytest.param(
            manifest().partition(b"\n")[2], "202611_balance.csv (not listed in the manifest)", id="a file that it does not list"
        ),
    ],
)
def test_a_manifest_that_does_not_agree_files_nothing(world: World, wrong: bytes, missing: str) -> None:
    agree(world, CLOSED)
    for part in PARTS:
        world.leave(*report(part))
    world.leave("202611.sha256", wrong)
    world.run()
    assert world.filed() == {}
    assert cases(world) == [("set-incomplete", f"Set 202611 is incomplete: missing {missing}")]


def test_a_refused_file_is_named_with_the_reason(world: World) -> None:
    agree(world, CLOSED)
    world.leave(*report("balance"))
    world.leave("202611_exposure.csv", b"sku;price\n1;2\n")
    world.leave(*report("liquidity"))
    world.leave("202611.sha256", manifest())
    world.run()
    assert world.filed() == {}
    (told,) = [reason for code, reason in cases(world) if code == "set-incomplete"]
    assert told is not None
    assert told.startswith("Set 202611 is incomplete: missing 202611_exposure.csv (")


def test_what_was_filed_and_cleared_still_belongs_to_its_set(world: World) -> None:
    """As after a kill between two of its files: each is in a consignment of its own here, and the first cannot see the last one yet."""
    agree(world)
    profile = world.profiles / "acme.yaml"
    profile.write_text(profile.read_text().replace("      owner:", "      limits: {consignment_files: 1}\n      owner:"))
    for part in PARTS:
        world.leave(*report(part))
    world.leave("202611.sha256", manifest())
    world.run()
    filed = len(world.filed())
    assert 1 <= filed <= 3
    assert len(list(world.out.iterdir())) == 4 - filed
    world.run()
    assert set(world.filed()) == {*(f"202611_{part}.csv" for part in PARTS), "202611.sha256"}
    assert set(world.versions().values()) == {1}


# --------------------------------------------------------------------------------------------- into the compliance workspace

READER = frozenset({"see", "see_contents"})


def agree_workspace(world: World) -> BusinessObject:
    """Reports of a month belong to its audit, whose auditors may read them; nobody was named to be its officer."""
    audit = world.remote.name.removeprefix("world-")
    world.agree(
        classify=[
            {"pattern": r"(?P<month>\d{6})_\w+\.csv", "doctype": "price-list", "facts": {"audit": audit}},
            {"pattern": r"(?P<month>\d{6})\.sha256", "doctype": "checksum-list", "facts": {"audit": audit}},
        ],
        sets={
            "pattern": r"(?P<set>\d{6})[_.].*",
            "files": [f"{{set}}_{part}.csv" for part in PARTS],
            "manifest": "{set}.sha256",
            "window": "PT1H",
        },
        target={
            "repository": "ecm",
            "workspace": {
                "system": "ERP",
                "object": "AUDIT",
                "reference": "{audit}",
                "template": "Compliance/Audit",
                "name": "Audit {audit}",
                "roles": {"Auditor": ["DefaultGroup"]},
            },
            "folder": "Evidence/{month}",
            "records_class": "Invoices",
        },
        owner="compliance@example.com",
    )
    return BusinessObject("ERP", "AUDIT", audit)


def begun(session: ExtendedEcmSession, name: str) -> int:
    """The workspace as a run that was killed leaves it: made from the template, about nothing, nobody in its roles."""
    (kind,) = [kind for kind in session.workspaces.types() if kind.name == "Compliance"]
    body = {"template_id": str(kind.templates["Audit"]), "wksp_type_id": str(kind.id), "type": "848", "name": name}
    return int(session._wire.write("a killed run", "POST", "v2/businessworkspaces", body=body)["results"]["id"])


def test_a_set_is_filed_into_its_compliance_workspace_and_kept_there(world: World) -> None:
    about = agree_workspace(world)
    with world.repository() as session:
        assert isinstance(session, ExtendedEcmSession)
        half_done = begun(session, f"Audit {about.id}")
    for part in PARTS:
        world.leave(*report(part))
    assert world.run().name == "Nothing new", "of a set without its manifest nothing is filed"
    with world.repository() as session:
        assert isinstance(session, ExtendedEcmSession)
        assert session.workspaces.find(about) is None
    world.leave("202611.sha256", manifest())
    assert world.run().name == "Filed"

    with world.repository() as session:
        assert isinstance(session, ExtendedEcmSession)
        workspace: Workspace | None = session.workspaces.find(about)
        assert workspace is not None and workspace.id == half_done, "begun before, and completed now"
        filed = list(session.look(("Compliance", workspace.name, "Evidence", "202611")))
        assert {kept.name for kept in filed} == {
            "202611_balance.csv",
            "202611_exposure.csv",
            "202611_liquidity.csv",
            "202611.sha256",
        }
        roles = {role.name: role for role in session.workspaces.roles(workspace.id)}
        assert {name: role.members for name, role in roles.items()} == {"Officer": (), "Auditor": ("DefaultGroup",)}
        officer, auditor = roles["Officer"].id, roles["Auditor"].id
        for kept in filed:
            lines = {line.who: line.rights for line in session.people.lines(int(kept.id)) if line.whose is Whose.CUSTOM}
            assert lines[auditor] == READER and set(lines) == {officer, auditor}, "as the template has it, and nobody else"
            record = session.records.get(int(kept.id))
            assert record is not None and record.class_name == "Invoices"

        (journey, *_) = [id for id, entries in world.journeys().items() if entries[0].body["name"] == "202611_balance.csv"]
        told = CliRunner().invoke(app, ["hold", "apply", journey, "Inquiry 7", "--comment", "the regulator asked"])
        assert told.exit_code == 0, told.output
        balance = next(kept for kept in filed if kept.name == "202611_balance.csv")
        assert [hold.name for hold in session.holds(balance.id)] == ["Inquiry 7"]
        with pytest.raises(OnHold, match="Inquiry 7"):
            session.remove(balance.id)
