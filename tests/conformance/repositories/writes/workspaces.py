"""Workspaces: made complete, filed into, and what is changed about them one by one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.values import BusinessObject, Filed, Filing, InWorkspace
from tests.conformance.repositories.writes.bench import ONE_OF_A_KIND, Bench, Write


def wanted(bench: Bench) -> InWorkspace:
    name = bench.unique("Contract")
    return InWorkspace(BusinessObject("ERP", "CONTRACT", name), name, "Supplier", {"Team Lead": ("Admin", "DefaultGroup")})


def filing(bench: Bench) -> Filing:
    return bench.filing("one.txt", "Drafts", workspace=wanted(bench))


def below(bench: Bench) -> Filing:
    """Into a workspace that is made below another one."""
    above = wanted(bench)
    bench.session.workspaces.ensure(above)
    return bench.filing("one.txt", "Drafts", workspace=replace(wanted(bench), below=above.about))


def file(session: ExtendedEcmSession, given: Filing) -> None:
    [answer] = session.file([given])
    assert isinstance(answer, Filed), answer


def what_is_filed(bench: Bench, given: Filing) -> object:
    assert given.workspace is not None
    asked = bench.ask("v2/businessworkspaces", where_name=f"startswith_{given.workspace.name}")["results"]
    ids = [entry["data"]["properties"]["id"] for entry in asked]
    roles = [[role.members for role in bench.session.workspaces.roles(id)] for id in ids]
    above = [len(list(bench.session.workspaces.related(id, "parent"))) for id in ids]
    about = [len(bench.session.workspaces.get(id).objects) for id in ids]
    held = [bench.names_in(id) for id in ids]
    drafts = bench.session.find(("Suppliers", given.workspace.name), "Drafts")
    return roles, about, above, held, bench.names_in(int(drafts.id)) if drafts else None


@dataclass(frozen=True, slots=True)
class Two:
    """Two workspaces, and an object that the first can be about as well."""

    first: int
    second: int
    role: int
    also: BusinessObject


def two(bench: Bench) -> Two:
    # Past the memory of the session: each turn has workspaces of its own.
    made = [
        bench.session.workspaces.ensure(InWorkspace(wanted(bench).about, bench.unique("Case"), "Supplier")) for _ in range(2)
    ]
    return Two(
        made[0], made[1], bench.session.workspaces.roles(made[0])[0].id, BusinessObject("ERP", "CASE", bench.unique("c"))
    )


def bound(bench: Bench) -> Two:
    given = two(bench)
    bench.session.workspaces.bind(given.first, given.also)
    return given


def with_member(bench: Bench) -> Two:
    given = two(bench)
    bench.session.workspaces.add_member(given.first, given.role, "Admin")
    return given


def related(bench: Bench) -> Two:
    given = two(bench)
    bench.session.workspaces.relate(given.first, given.second)
    return given


def state(bench: Bench, given: Two) -> object:
    spaces = bench.session.workspaces
    return (
        given.also in spaces.get(given.first).objects,
        [role.members for role in spaces.roles(given.first)],
        [one.id == given.second for one in spaces.related(given.first)],
    )


WRITES = (
    Write("file into a workspace that is made", filing, file, what_is_filed, long=True),
    Write("file into a workspace that is made below another", below, file, what_is_filed, often=ONE_OF_A_KIND, long=True),
    Write("bind a workspace", two, lambda s, two: s.workspaces.bind(two.first, two.also), state),
    Write("unbind a workspace", bound, lambda s, two: s.workspaces.unbind(two.first, two.also), state),
    Write("add a member to a role", two, lambda s, two: s.workspaces.add_member(two.first, two.role, "Admin"), state),
    Write(
        "remove a member from a role",
        with_member,
        lambda s, two: s.workspaces.remove_member(two.first, two.role, "Admin"),
        state,
    ),
    Write("relate workspaces", two, lambda s, two: s.workspaces.relate(two.first, two.second), state),
    Write("unrelate workspaces", related, lambda s, two: s.workspaces.unrelate(two.first, two.second), state),
)
