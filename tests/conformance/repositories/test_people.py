"""Our verbs for users, groups, permissions, search and the audit trail at Extended ECM, seen from both sides."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.repositories.otcs_names import GROUP
from blocks.repositories.otcs_people import Account, People, Reach, Whose
from blocks.repositories.otcs_search import (
    Where,
    below,
    changed_since,
    name_holds,
    name_is,
    of_type,
    phrase,
    words,
)
from blocks.repositories.otcs_wire import NameTaken, Refusal
from tests.conformance.repositories.writes.bench import Bench
from tests.sandbox.ecm_store import ALL_RIGHTS, RIGHTS, names_of

DEFAULT_GROUP = 1001
READ = frozenset({"see", "see_contents"})


@pytest.fixture
def people(bench: Bench) -> People:
    return bench.session.people


@pytest.fixture
def pat(bench: Bench, people: People) -> Account:
    name = bench.unique("pat").replace(" ", "")
    return people.create_user(
        name, "secret", base_group=DEFAULT_GROUP, first_name="Pat", last_name="Doe", mail="pat@example.com"
    )


# --------------------------------------------------------------------------------------------- who there is


def test_a_user_is_made_found_changed_and_removed(bench: Bench, people: People, pat: Account) -> None:
    assert (pat.first_name, pat.last_name, pat.mail, pat.base_group) == ("Pat", "Doe", "pat@example.com", DEFAULT_GROUP)
    assert people.account(pat.name.upper()) == pat == people.get(pat.id)
    assert people.change(pat.id, first_name="Sam").first_name == people.get(pat.id).first_name == "Sam"
    with pytest.raises(NameTaken):
        people.create_group(pat.name)
    with bench.wire.as_user(pat.name):
        pass  # the password works
    people.remove(pat.id)
    assert people.account(pat.name) is None
    with pytest.raises(Refusal):
        people.remove(pat.id)


def test_groups_hold_users_and_groups(bench: Bench, people: People, pat: Account) -> None:
    outer, inner = (people.create_group(bench.unique(name)) for name in ("Outer", "Inner"))
    people.join(outer.id, inner.id)
    people.join(inner.id, pat.id)
    people.join(inner.id, pat.id)
    assert [one.id for one in people.members(outer.id)] == [inner.id]
    assert [one.name for one in people.members(inner.id)] == [pat.name]
    assert list(people.members(inner.id, GROUP)) == []
    assert {inner.id, outer.id, DEFAULT_GROUP} <= {group.id for group in people.member_of(pat.id)}
    people.leave(inner.id, pat.id)
    people.leave(inner.id, pat.id)
    assert list(people.members(inner.id)) == []


def test_more_users_and_groups_than_one_page(bench: Bench, people: People) -> None:
    group = people.create_group(bench.unique("Many"))
    start = bench.unique("crowd").replace(" ", "")
    wanted = [f"{start}n{number:02}" for number in range(41)]
    for name in wanted:
        people.join(group.id, people.create_user(name, "secret", base_group=DEFAULT_GROUP).id)
    assert [one.name for one in people.users(start + "n")] == wanted
    assert [one.name for one in people.members(group.id)] == wanted
    before = bench.wire.stats()["GET /v2/members"]
    assert next(people.users(start + "n")).name == wanted[0]
    assert bench.wire.stats()["GET /v2/members"] == before + 1, "the stream asks for a page when it is needed"
    assert group in list(people.groups("Many"))


# --------------------------------------------------------------------------------------------- permissions


def rights(session: ExtendedEcmSession, node: int, who: int) -> frozenset[str]:
    return frozenset().union(
        *(line.rights for line in session.people.lines(node) if line.who == who and line.whose is Whose.CUSTOM)
    )


@pytest.mark.parametrize(
    ("reach", "expected"),
    [
        pytest.param(Reach.ITEM, (True, False, False), id="the item"),
        pytest.param(Reach.BELOW, (False, True, True), id="all below it"),
        pytest.param(Reach.ITEM_AND_BELOW, (True, True, True), id="both"),
        pytest.param(Reach.ITEM_AND_CHILDREN, (True, True, False), id="the item and what is directly in it"),
    ],
)
def test_a_grant_reaches_as_far_as_asked(
    bench: Bench, people: People, pat: Account, reach: Reach, expected: tuple[bool, ...]
) -> None:
    folder = bench.folder()
    inner = bench.wire.folder("inner", folder)
    nodes = (folder, inner, bench.wire.document("deep.txt", b"x", inner))
    people.grant(folder, pat.id, READ, reach)
    assert tuple(rights(bench.session, node, pat.id) == READ for node in nodes) == expected
    if reach is not Reach.BELOW:
        people.revoke(folder, Whose.CUSTOM, pat.id, reach)
        assert [rights(bench.session, node, pat.id) for node in nodes] == [frozenset()] * 3


def test_below_a_document_there_is_nothing(bench: Bench, people: People, pat: Account) -> None:
    document = bench.document()
    for reach in set(Reach) - {Reach.ITEM}:
        with pytest.raises(Refusal, match="apply_to"):
            people.grant(document, pat.id, READ, reach)
        with pytest.raises(Refusal, match="apply_to"):
            people.set_line(document, Whose.PUBLIC, (), reach=reach)
    assert rights(bench.session, document, pat.id) == frozenset()


def test_what_is_new_inherits_from_its_folder(bench: Bench, people: People, pat: Account) -> None:
    folder = bench.folder()
    people.grant(folder, pat.id, READ)
    people.set_line(folder, Whose.PUBLIC, ("see",))
    document = bench.wire.document("new.txt", b"x", folder)
    assert rights(bench.session, document, pat.id) == READ
    assert [line.rights for line in people.lines(document) if line.whose is Whose.PUBLIC] == [{"see"}]
    people.revoke(folder, Whose.CUSTOM, pat.id)
    assert rights(bench.session, document, pat.id) == READ, "what stands keeps its own lines"


def test_effective_rights_are_all_lines_together(bench: Bench, people: People, pat: Account) -> None:
    document, group = bench.document(), people.create_group(bench.unique("Readers"))
    for whose in (Whose.PUBLIC, Whose.GROUP):
        people.revoke(document, whose)
        people.revoke(document, whose)
    assert people.effective(document, pat.id) == frozenset()
    assert people.visible([document], pat.id) == frozenset()
    people.grant_many(document, {pat.id: ["see"], group.id: ["see_contents"]})
    assert people.effective(document, pat.id) == {"see"}
    people.join(group.id, pat.id)
    assert people.effective(document, pat.id) == READ
    people.grant(document, pat.id, ["see", "delete"])
    assert people.effective(document, pat.id) == {*READ, "delete"}
    assert people.visible([document, bench.folder()], pat.id) >= {document}
    assert people.visible([document]) == {document}
    assert people.visible([]) == frozenset()


def test_a_node_changes_hands(bench: Bench, people: People, pat: Account) -> None:
    document = bench.document()
    people.set_line(document, Whose.OWNER, names_of(ALL_RIGHTS), pat.id)
    owner = next(line for line in people.lines(document) if line.whose is Whose.OWNER)
    assert (owner.who, owner.rights) == (pat.id, frozenset(RIGHTS))
    assert bench.wire.properties(document)["owner_user_id"] == pat.id


# --------------------------------------------------------------------------------------------- search


@pytest.fixture(scope="module")
def orchard(bench: Bench) -> int:
    """A folder with 103 text files, two tables and a folder in it."""
    folder = bench.folder()
    for number in range(103):
        bench.wire.document(f"Medlar {number:03}.txt", b"m" * number, folder, description="ripe fruit")
    for name in ("Medlar prices.csv", "Other.csv"):
        bench.wire.document(name, b"x", bench.wire.folder(f"in {name}", folder))
    return folder


def test_hits_come_page_by_page(bench: Bench, orchard: int) -> None:
    index = bench.session.index
    before = bench.wire.stats().get("POST /v2/search", 0)
    hits = index.find(name_holds("edla"), within=[orchard], sort="asc_OTName")
    assert next(hits).node.name == "Medlar 000.txt"
    assert bench.wire.stats()["POST /v2/search"] == before + 1
    names = [hit.node.name for hit in index.find(name_holds("edla") & of_type(144), within=[orchard])]
    assert len(names) == len(set(names)) == 104
    assert index.page(name_holds("edla"), 9, within=[orchard]).hits == ()
    assert index.page(name_holds("edla"), 1, within=[orchard], limit=3).total == 105


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        pytest.param(name_is("Medlar 007.txt"), 1, id="a name"),
        pytest.param(name_holds("rices"), 2, id="a part of names"),
        pytest.param(name_is("Medlar prices") & of_type(144), 1, id="a name and a type"),
        pytest.param(of_type(0), 2, id="one type"),
        pytest.param(of_type(0, 144), 107, id="several types"),
        pytest.param(of_type(144) & changed_since(date(2020, 1, 1)), 105, id="changed since long ago"),
        pytest.param(of_type(144) & changed_since(date(2999, 1, 1)), 0, id="changed in the future"),
        pytest.param(words("fruit ripe"), 103, id="words in any order"),
        pytest.param(phrase("ripe fruit"), 103, id="a phrase"),
        pytest.param(phrase("fruit ripe"), 0, id="a phrase in another order"),
    ],
)
def test_a_query_means_what_it_says(bench: Bench, orchard: int, where: Where, expected: int) -> None:
    assert bench.session.index.page(where, 1, within=[orchard]).total == expected
    if where.look == "complexQuery":
        # A container is in its own place too.
        assert len({hit.node.id for hit in bench.session.index.find(where & below(orchard))} - {orchard}) == expected


def test_facets_count_everything_that_was_found(bench: Bench, orchard: int) -> None:
    facets = {facet.region: facet for facet in bench.session.index.facets(name_holds("edla"), within=[orchard])}
    kinds = {value.shown: value.count for value in facets["OTSubType"].values}
    assert kinds == {"Document": 104, "Folder": 1}
    assert {value.value: value.count for value in facets["OTMIMEType"].values} == {"text/csv": 104}
    assert [value.shown for value in facets["OTCreatedBy"].values] == ["Admin"]
    assert all(facet.complete for facet in facets.values())
    assert bench.session.index.page(name_holds("edla"), 1).facets == ()


def test_a_summary_shows_where_the_words_stand(bench: Bench, orchard: int) -> None:
    found = next(bench.session.index.find(words("ripe fruit"), within=[orchard], summaries=True))
    assert "ripe fruit" in found.summary
    assert {"type": "HH", "text": "ripe"} in found.entry["data"]["properties"]["summary"]
    assert next(bench.session.index.find(words("ripe fruit"), within=[orchard])).summary == ""


def test_nobody_finds_what_is_not_for_his_eyes(bench: Bench, people: People, pat: Account, orchard: int) -> None:
    hidden = next(hit.node.id for hit in bench.session.index.find(name_is("Medlar 007.txt"), within=[orchard]))
    for whose in (Whose.PUBLIC, Whose.GROUP):
        people.revoke(hidden, whose)
    with bench.wire.as_user(pat.name) as theirs:
        asked = {"where": name_holds("edla").text, "location_id1": orchard, "options": "{'facets'}"}
        answer = theirs.plain("POST", "/v2/search", **asked).json()
    assert answer["collection"]["paging"]["total_count"] == 104
    [kinds] = [facet for facet in answer["collection"]["searching"]["facets"]["available"] if facet["name"] == "OTSubType"]
    assert sum(item["count"] for item in kinds["facet_items"]) == 104, "facets tell nothing of it either"


def test_what_is_no_query_is_refused(bench: Bench) -> None:
    for text in ("OTName:", '("x"', "OTNonsense: 1", ""):
        with pytest.raises(Refusal, match="Error Evaluating Query"):
            bench.session.index.page(Where(text), 1)
    for wrong in ('a "quoted" name', '" or OTSubType: 144 or "'):
        with pytest.raises(ValueError, match="quotation"):
            name_is(wrong)
    with pytest.raises(ValueError, match="letters and digits"):
        name_holds("a* or b")
    with pytest.raises(ValueError, match="no word"):
        words(" ?! ")


def test_an_index_that_lags_forgets_nothing(bench: Bench) -> None:
    folder = bench.folder()
    bench.wire.document("Sloe.txt", b"x", folder)
    bench.sandbox.faults.set({"search-lag": 3600})
    try:
        assert list(bench.session.index.find(name_is("Sloe.txt"), within=[folder])) == []
        assert bench.names_in(folder) == ["Sloe.txt"]
    finally:
        bench.sandbox.faults.set({"search-lag": 0})
    assert [hit.node.name for hit in bench.session.index.find(name_is("Sloe.txt"), within=[folder])] == ["Sloe.txt"]


# --------------------------------------------------------------------------------------------- the audit trail


def test_the_trail_is_told_page_by_page_and_filtered(bench: Bench, people: People, pat: Account) -> None:
    document, audit = bench.document(), bench.session.audit
    people.grant(document, pat.id, READ)
    with bench.wire.as_user(pat.name) as theirs:
        for _ in range(104):
            assert theirs.http.get(f"/v1/nodes/{document}/content").status_code == 200
    events = list(audit.events(document))
    assert (len(events), events[-1].name) == (106, "Create")
    assert next(audit.events(document, oldest_first=True)).name == "Create"
    fetch = next(number for number, name in audit.kinds(document).items() if name == "Fetch")
    assert {event.name for event in audit.events(document, kind=fetch)} == {"Fetch"}
    assert len(list(audit.events(document, user=pat.id))) == 104
    assert [event.name for event in audit.events(document, user=1000)] == ["Permissions Changed", "Create"]
    today = datetime.now(UTC).date()
    assert len(list(audit.events(document, since=today - timedelta(days=1), until=today + timedelta(days=1)))) == 106
    assert list(audit.events(document, since=today + timedelta(days=2))) == []
    assert list(audit.events(document, until=today - timedelta(days=2))) == []
    assert next(bench.session.history(str(document))).user == pat.name
