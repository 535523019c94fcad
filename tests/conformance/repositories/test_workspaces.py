"""Business workspaces: one for each business object, however often and wherever it is asked for, killed or without answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from blocks.repositories import otcs_workspaces
from blocks.repositories.extended_ecm import ExtendedEcm, ExtendedEcmSession
from blocks.repositories.lines import Answer, Lines, Said
from blocks.repositories.otcs_names import Unfit
from blocks.repositories.otcs_workspaces import Workspaces
from blocks.spool import Spool
from blocks.values import BusinessObject, Filed, Filing, InWorkspace, NotFiled
from tests.conformance.repositories.checks import Ground
from tests.conformance.repositories.enrolment import block
from tests.sandbox.extended_ecm import ExtendedEcmSandbox

_number = itertools.count(4711)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExtendedEcm]:
    server = ExtendedEcmSandbox(tmp_path_factory.mktemp("ecm")).start()
    try:
        yield block(server.described())
    finally:
        server.stop()


pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture
def ground(repository: ExtendedEcm, tmp_path: Path) -> Ground:
    (tmp_path / "files").mkdir()
    return Ground(repository, ("Contracts", "Drafts"), tmp_path / "files", Spool(tmp_path / "spool", floor_bytes=0))


@pytest.fixture
def session(repository: ExtendedEcm) -> Iterator[ExtendedEcmSession]:
    with repository.session() as session:
        yield session


@pytest.fixture
def wanted() -> InWorkspace:
    """The workspace of a contract that has none yet."""
    number = next(_number)
    about = BusinessObject("ERP", "CONTRACT", f"{number}/a".replace("/", "-"))
    return InWorkspace(about, f"Contract {number}", "Supplier/Supplier", {"Team Lead": ("Admin",), "Reader": ("DefaultGroup",)})


def called(session: ExtendedEcmSession, name: str) -> list[otcs_workspaces.Workspace]:
    return [one for one in session.workspaces.look(name=name) if one.name == name]


def in_roles(workspaces: Workspaces, id: int) -> dict[str, tuple[str, ...]]:
    return {role.name: role.members for role in workspaces.roles(id)}


def stands_once(session: ExtendedEcmSession, wanted: InWorkspace) -> int:
    """The one workspace, complete; its id."""
    (found,) = called(session, wanted.name)
    assert session.workspaces.get(found.id).objects == (wanted.about,)
    assert session.workspaces.find(wanted.about) is not None
    assert in_roles(session.workspaces, found.id) == {"Team Lead": ("Admin",), "Reader": ("DefaultGroup",)}
    return found.id


def filed_in(session: ExtendedEcmSession, wanted: InWorkspace) -> list[tuple[str, int]]:
    """Names and newest versions of what is filed in the ground's folder of a workspace."""
    return [(kept.name, kept.version) for kept in session.look(("Suppliers", wanted.name, "Contracts", "Drafts"))]


# --------------------------------------------------------------------------------------------- the one workspace


def test_it_is_made_from_the_template_once_and_found_ever_after(ground: Ground, wanted: InWorkspace) -> None:
    (first,) = ground.filed(ground.filing("draft.txt", workspace=wanted))
    (second,) = ground.filed(
        ground.filing("draft.txt", b"redline", workspace=replace(wanted, name="Another name", template=None))
    )
    assert (second.id, first.version, second.version) == (first.id, 1, 2)
    with ground.repository.session() as session:
        assert isinstance(session, ExtendedEcmSession)
        stands_once(session, wanted)
        assert filed_in(session, wanted) == [("draft.txt", 2)]
        folders = {kept.name for kept in session.look(("Suppliers", wanted.name))}
        assert folders == {"Contracts", "Reports"}
        assert {kept.name for kept in session.look(("Suppliers", wanted.name, "Contracts"))} == {"Signed", "Drafts"}


def test_without_roles_one_call_makes_it_with_its_reference(session: ExtendedEcmSession, wanted: InWorkspace) -> None:
    id = session.workspaces.ensure(replace(wanted, roles={}))
    assert session.workspaces.get(id).objects == (wanted.about,)
    assert in_roles(session.workspaces, id) == {"Team Lead": (), "Reader": ()}


def test_what_people_changed_later_stays_changed(ground: Ground, session: ExtendedEcmSession, wanted: InWorkspace) -> None:
    id = session.workspaces.ensure(wanted)
    lead = next(role for role in session.workspaces.roles(id) if role.name == "Team Lead")
    session.workspaces.remove_member(id, lead.id, "Admin")
    ground.filed(ground.filing("draft.txt", workspace=wanted))
    assert in_roles(session.workspaces, id) == {"Team Lead": (), "Reader": ("DefaultGroup",)}


def test_two_objects_with_folders_of_one_name_are_not_mixed_up(ground: Ground, wanted: InWorkspace) -> None:
    number = next(_number)
    other = replace(wanted, about=BusinessObject("ERP", "CONTRACT", str(number)), name=f"Contract {number}")
    filings = [ground.filing("same.txt", str(n).encode(), workspace=one) for n, one in enumerate((wanted, other))]
    answers = ground.filed(*filings)
    assert [answer.version for answer in answers] == [1, 1]
    assert answers[0].id != answers[1].id


def test_who_sent_what_stands_at_each_version(ground: Ground, session: ExtendedEcmSession, wanted: InWorkspace) -> None:
    ground.filed(ground.filing("draft.txt", b"1", workspace=wanted, sent="acme sent draft.txt"))
    (second,) = ground.filed(ground.filing("draft.txt", b"2", workspace=wanted, sent="we sent draft.txt back"))
    told = session._wire.ask("versions", "GET", f"v2/nodes/{second.id}/versions")["results"]
    assert [one["data"]["versions"]["description"] for one in told] == [None, "we sent draft.txt back"]
    node = session._wire.ask("node", "GET", f"v2/nodes/{second.id}")["results"]["data"]["properties"]
    assert node["description"] == "acme sent draft.txt"


# --------------------------------------------------------------------------------------------- killed, and without answers


class _Killed(BaseException):
    """The process ends here."""


def count_writes(monkeypatch: pytest.MonkeyPatch, at: int, act: Callable[[], None], *, sent: bool) -> list[int]:
    """Do something at the n-th call that changes anything, before or after it was sent; how many there were."""
    counted = [0]

    def ours(method: str, url: object) -> bool:
        writes = method != "GET" and not str(url).endswith("v1/auth")
        counted[0] += writes
        return writes and counted[0] == at

    def request(client: httpx.Client, method: str, url: Any, **more: Any) -> httpx.Response:
        now = ours(method, url)
        if now and not sent:
            act()
        answer = original(client, method, url, **more)
        if now and sent:
            act()
        return answer

    def say(lines: Lines, method: str, address: str, *arguments: Any) -> Said:
        now = ours(method, address)
        if now and not sent:
            act()
        on_its_way = said(lines, method, address, *arguments)
        if now and sent:
            answered.append(on_its_way)
        return on_its_way

    def hear(lines: Lines, one: Said) -> Answer:
        answer = heard(lines, one)
        if one in answered:
            answered.remove(one)
            act()
        return answer

    # Our own process is killed around one call: no server can do that.
    original, said, heard, answered = httpx.Client.request, Lines.say, Lines.hear, list[Said]()
    monkeypatch.setattr(httpx.Client, "request", request)
    monkeypatch.setattr(Lines, "say", say)
    monkeypatch.setattr(Lines, "hear", hear)
    return counted


WRITES = 6
"""The workspace, two members, its reference, the folder below it, the document."""


@pytest.mark.parametrize("sent", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, WRITES + 1))
def test_killed_around_any_write_it_is_resumed(
    ground: Ground, session: ExtendedEcmSession, wanted: InWorkspace, monkeypatch: pytest.MonkeyPatch, at: int, sent: bool
) -> None:
    filing = ground.filing("draft.txt", workspace=wanted)

    def die() -> None:
        raise _Killed

    with monkeypatch.context() as patch:
        counted = count_writes(patch, at, die, sent=sent)
        with pytest.raises(_Killed):
            ground.file(filing)
        assert counted == [at]
    assert isinstance(ground.file(filing)[0], Filed)
    stands_once(session, wanted)
    assert filed_in(session, wanted) == [("draft.txt", 1)]


def test_asked_for_by_several_at_once_it_is_made_once(
    repository: ExtendedEcm, session: ExtendedEcmSession, wanted: InWorkspace
) -> None:
    def ensure(_: int) -> int:
        with repository.session() as own:
            return own.workspaces.ensure(wanted)

    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(ensure, range(12)))
    assert ids == {stands_once(session, wanted)}


BEFORE, AFTER = False, True


@pytest.mark.parametrize(
    ("apart", "moments"),
    [
        # Writes: the workspace, two members, its reference.
        ("names", [(1, BEFORE), (1, AFTER), (2, BEFORE), (4, BEFORE), (4, AFTER)]),
        # The workspace, its parent, two members, its reference.
        ("parents", [(1, AFTER), (2, BEFORE), (2, AFTER), (5, BEFORE)]),
        ("names and parents", [(5, BEFORE)]),
    ],
)
def test_two_partners_who_name_one_new_object_at_once_have_one_workspace(
    repository: ExtendedEcm,
    session: ExtendedEcmSession,
    wanted: InWorkspace,
    monkeypatch: pytest.MonkeyPatch,
    apart: str,
    moments: list[tuple[int, bool]],
) -> None:
    """The other one does all of its own around a write of the first; whichever of their own workspaces is the older one."""
    suppliers = [BusinessObject("ERP", "SUPPLIER", f"{who} of {wanted.about.id}") for who in ("us", "them")]
    above = [session.workspaces.ensure(InWorkspace(one, one.id, "Supplier")) for one in suppliers]
    for (at, sent), first in itertools.product(moments, (0, 1) if apart == "parents" else (0,)):
        about = BusinessObject("ERP", "CONTRACT", f"{wanted.about.id}-{at}-{sent}-{first}")
        asked = [replace(wanted, about=about, name=f"Contract {about.id}")] * 2
        if "names" in apart:
            asked[1] = replace(asked[1], name=f"Vertrag {about.id}")
        if "parents" in apart:
            asked = [replace(one, below=below) for one, below in zip(asked, suppliers, strict=True)]
        got: dict[int, int | str] = {}

        def ensure(which: int, asked: list[InWorkspace] = asked, got: dict[int, int | str] = got) -> None:
            with repository.session() as own:
                try:
                    got[which] = own.workspaces.ensure(asked[which])
                except Unfit as unfit:
                    got[which] = unfit.code

        with monkeypatch.context() as patch:
            count_writes(patch, at, partial(ensure, 1 - first), sent=sent)
            ensure(first)
        found = session.workspaces.find(about)
        assert found is not None, (at, sent, first)
        assert [one.id for name in {one.name for one in asked} for one in called(session, name)] == [found.id], (
            at,
            sent,
            first,
        )
        if "parents" in apart:
            (parent,) = session.workspaces.related(found.id, "parent")
            ours = above.index(parent.id)
            assert got == {ours: found.id, 1 - ours: "foreign-workspace"}, (at, sent, first)
        else:
            assert got == {0: found.id, 1: found.id}, (at, sent, first)
        assert in_roles(session.workspaces, found.id) == {"Team Lead": ("Admin",), "Reader": ("DefaultGroup",)}


@pytest.mark.parametrize("late", [False, True], ids=["while it is made", "just when it is complete"])
def test_a_partner_who_came_second_and_is_killed_before_it_can_go_away_is_not_let_in(
    repository: ExtendedEcm, session: ExtendedEcmSession, wanted: InWorkspace, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    suppliers = [BusinessObject("ERP", "SUPPLIER", f"{who} of {wanted.about.id}") for who in ("us", "them")]
    above = [session.workspaces.ensure(InWorkspace(one, one.id, "Supplier")) for one in suppliers]
    mine, theirs = (replace(wanted, below=below) for below in suppliers)
    relate, bind = Workspaces.relate, Workspaces.bind

    def related(made: Workspaces, id: int, other: int, kind: str = "child") -> None:
        relate(made, id, other, kind)
        relate(made, above[1], other)  # theirs, which saw nobody either; and it is heard of no more

    def bound(made: Workspaces, id: int, about: BusinessObject) -> None:
        bind(made, id, about)
        relate(made, above[1], id)

    with monkeypatch.context() as patch:
        patch.setattr(Workspaces, *(("bind", bound) if late else ("relate", related)))
        made = session.workspaces.ensure(mine)
    assert [one.id for one in session.workspaces.related(made, "parent")] == [above[0]]
    with repository.session() as again, pytest.raises(Unfit, match="no child"):
        again.workspaces.ensure(theirs)


# --------------------------------------------------------------------------------------------- not ours


def test_a_workspace_about_something_else_is_left_alone(
    ground: Ground, session: ExtendedEcmSession, wanted: InWorkspace
) -> None:
    other = BusinessObject("ERP", "CASE", wanted.about.id)
    id = session.workspaces.ensure(replace(wanted, about=other, roles={}))
    (answer,) = ground.file(ground.filing("draft.txt", workspace=wanted))
    assert isinstance(answer, NotFiled)
    assert (answer.code, session.workspaces.get(id).objects) == ("workspace-name-taken", (other,))
    assert session.workspaces.find(wanted.about) is None


def test_only_workspaces_below_the_partners_own_are_filed_into(
    ground: Ground, session: ExtendedEcmSession, wanted: InWorkspace
) -> None:
    """Whatever number a partner writes into a name: another partner's contract is out of reach."""
    ours, theirs = (BusinessObject("ERP", "SUPPLIER", f"{who} of {wanted.about.id}") for who in ("us", "them"))
    mine = replace(wanted, below=ours)

    def code(asked: InWorkspace) -> str:
        (answer,) = ground.file(ground.filing("draft.txt", workspace=asked))
        return answer.code if isinstance(answer, NotFiled) else "filed"

    assert code(mine) == "no-workspace", "ours is not there yet"
    assert called(session, wanted.name) == [], "and nothing was made"
    above = [session.workspaces.ensure(InWorkspace(one, one.id, "Supplier")) for one in (ours, theirs)]
    assert code(mine) == "filed"
    (made,) = session.workspaces.related(above[0])
    assert made.id == stands_once(session, wanted)
    assert code(mine) == "filed", "once more"
    assert code(replace(wanted, below=theirs)) == "foreign-workspace"
    one, other = (ground.filing("draft.txt", workspace=asked) for asked in (mine, replace(wanted, below=theirs)))
    known = list(session.file([one, other]))
    assert isinstance(known[0], Filed)
    assert isinstance(known[1], NotFiled), "what was found for the one is no answer for the other"
    assert known[1].code == "foreign-workspace"
    with pytest.raises(Unfit, match="no child"):  # somebody completes it while we are about to
        session.workspaces._complete(made.id, replace(wanted, below=theirs))
    session.workspaces.unrelate(above[0], made.id)
    assert code(mine) == "foreign-workspace", "people may take it away"


def test_a_folder_of_that_name_is_no_workspace(ground: Ground, session: ExtendedEcmSession, wanted: InWorkspace) -> None:
    ground.filed(ground.filing("other.txt", folder=("Suppliers", wanted.name)))
    (answer,) = ground.file(ground.filing("draft.txt", workspace=wanted))
    assert isinstance(answer, NotFiled)
    assert answer.code == "workspace-name-taken"


def test_a_workspace_that_was_deleted_is_made_again(ground: Ground, session: ExtendedEcmSession, wanted: InWorkspace) -> None:
    id = session.workspaces.ensure(wanted)
    filing = ground.filing("draft.txt", workspace=wanted)
    (first,) = session.file([filing])
    assert isinstance(first, Filed)
    session.nodes.delete(id)
    (again,) = session.file([replace(filing, journey="another journey")])
    assert isinstance(again, Filed)
    assert again.id != first.id
    assert stands_once(session, wanted) != id


# --------------------------------------------------------------------------------------------- the facet


def test_types_templates_and_systems_are_told(session: ExtendedEcmSession) -> None:
    (supplier,) = [kind for kind in session.workspaces.types() if kind.name == "Supplier"]
    assert list(supplier.templates) == ["Supplier"]
    assert "ERP" in session.workspaces.systems()


def test_lists_go_through_all_pages_and_can_be_narrowed(
    session: ExtendedEcmSession, wanted: InWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A hundred workspaces take seconds to be made.
    monkeypatch.setattr(otcs_workspaces, "PAGE", 2)
    made = []
    for letter in "abcde":
        about = BusinessObject("ERP", "CASE", f"{wanted.about.id}-{letter}")
        made.append(session.workspaces.ensure(InWorkspace(about, f"{wanted.name} {letter}", "Supplier")))
    assert sorted(one.id for one in session.workspaces.look(name=f"{wanted.name} ")) == sorted(made)
    assert [one.id for one in session.workspaces.look(about=BusinessObject("ERP", "CASE", f"{wanted.about.id}-c"))] == [made[2]]


def test_references_can_be_changed_and_removed(session: ExtendedEcmSession, wanted: InWorkspace) -> None:
    id = session.workspaces.ensure(wanted)
    other = BusinessObject("ERP", "SUPPLIER", wanted.about.id)
    session.workspaces.bind(id, other)
    session.workspaces.bind(id, other)
    assert set(session.workspaces.get(id).objects) == {wanted.about, other}
    session.workspaces.unbind(id, wanted.about)
    session.workspaces.unbind(id, wanted.about)
    assert session.workspaces.get(id).objects == (other,)
    assert session.workspaces.find(wanted.about) is None
    stranger = session.workspaces.ensure(InWorkspace(wanted.about, f"{wanted.name} again", "Supplier"))
    with pytest.raises(Unfit, match="connected to the workspace"):
        session.workspaces.bind(stranger, other)


def test_workspaces_are_related_both_ways(session: ExtendedEcmSession, wanted: InWorkspace) -> None:
    contract = session.workspaces.ensure(wanted)
    supplier = session.workspaces.ensure(
        InWorkspace(BusinessObject("ERP", "SUPPLIER", wanted.about.id), f"{wanted.name} supplier", "Supplier")
    )
    for _ in range(2):
        session.workspaces.relate(supplier, contract)
    assert [one.id for one in session.workspaces.related(supplier)] == [contract]
    assert [one.id for one in session.workspaces.related(contract, "parent")] == [supplier]
    for _ in range(2):
        session.workspaces.unrelate(contract, supplier, "parent")
    assert list(session.workspaces.related(supplier)) == []


def test_a_role_opens_the_workspace_for_its_members(
    repository: ExtendedEcm, session: ExtendedEcmSession, wanted: InWorkspace, ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a role may do holds for what is filed later, too."""
    login = f"lead{wanted.about.id}"
    session._wire.write("user", "POST", "v2/members", fields={"type": 0, "name": login, "password": "lead"})
    id = session.workspaces.ensure(wanted)
    lead = next(role for role in session.workspaces.roles(id) if role.name == "Team Lead")
    session.workspaces.add_member(id, lead.id, login)
    (filed,) = ground.filed(ground.filing("draft.txt", workspace=wanted))
    monkeypatch.setenv("LEAD", "lead")
    with repository.model_copy(update={"username": login, "password": "env:LEAD"}).session() as theirs:
        (answer,) = theirs.file([_over(ground, filed, wanted)])
    assert isinstance(answer, Filed)
    assert answer.version == 2


def _over(ground: Ground, filed: Filed, wanted: InWorkspace) -> Filing:
    return ground.filing(filed.name, b"redline", workspace=wanted)
