"""What a refusal in the middle of a filing takes back: what this very call made, and never what was there before or may not go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from blocks.errors import EditConflict, OutcomeUnknown
from blocks.repositories.otcs_wire import AnswerLost, Wire
from blocks.repositories.routines import Routine, finished
from blocks.values import Filed, Filing, Grant, NotFiled, Right
from tests.conformance.repositories.writes import filing as filings
from tests.conformance.repositories.writes.bench import Bench

NO_CLASS = "File Plan"
"""A folder where a records class is due: looked up well, and refused once the content is there."""


@pytest.fixture(autouse=True)
def _no_long_pauses(short_pauses: None) -> None:
    """The server is back at once."""


def held(bench: Bench, folder: str) -> str:
    """A folder that is there and on hold."""
    first = filings.file(bench.session, bench.filing("seed.txt", folder))
    parent = bench.session.nodes.get(int(first.id)).properties["parent_id"]
    bench.session.apply_hold(str(parent), bench.unique("Case"))
    return first.id


def sizes(bench: Bench, id: str) -> list[int]:
    return [version.size for version in bench.session.nodes.versions(int(id))]


def refuse_all(bench: Bench) -> None:
    """From now on every body is too large for the server."""
    bench.sandbox.faults.set({"max-body": 1})


def test_a_document_that_may_not_be_taken_back_is_never_called_not_filed(bench: Bench) -> None:
    folder = bench.unique("Held")
    held(bench, folder)
    with pytest.raises(OutcomeUnknown, match=r"'new\.txt' \(node \d+\) version 1 .*is on hold"):
        list(bench.session.file([bench.filing("new.txt", folder, records_class=NO_CLASS)]))
    assert bench.session.find((folder,), "new.txt") is not None


def test_a_version_that_may_not_be_taken_back_is_never_called_not_filed(bench: Bench) -> None:
    folder = bench.unique("Held")
    id = held(bench, folder)
    with pytest.raises(OutcomeUnknown, match=rf"'seed\.txt' \(node {id}\) version 2 .*is on hold"):
        list(bench.session.file([bench.filing("seed.txt", folder, b"second", records_class=NO_CLASS)]))
    assert sizes(bench, id) == [5, 6]


def test_filed_before_and_continued_by_a_person_stays_when_it_is_refused_today(bench: Bench) -> None:
    filing = bench.filing("report.txt", bench.unique("Continued"))
    filed = filings.file(bench.session, filing)
    bench.wire.http.post(f"/v2/nodes/{filed.id}/versions", files={"file": ("report.txt", b"by a person")})
    assert sizes(bench, filed.id) == [5, 11]
    refuse_all(bench)
    try:
        assert list(bench.session.file([filing])) == [filed]
    finally:
        bench.sandbox.faults.set({"max-body": 0})
    assert sizes(bench, filed.id) == [5, 11]


@pytest.mark.parametrize("earlier", [False, True], ids=["the only version", "the second version"])
def test_filed_before_is_never_taken_back(bench: Bench, earlier: bool) -> None:
    folder = bench.unique("Intact")
    if earlier:
        filings.file(bench.session, bench.filing("report.txt", folder, b"earlier"))
    filing = bench.filing("report.txt", folder, access=(Grant(who="DefaultGroup", right=Right.READ),))
    filed = filings.file(bench.session, filing)
    stands = sizes(bench, filed.id)
    [other] = bench.session.file([replace(filing, records_class="Contracts")])
    assert other == filed  # what is asked for beyond is set
    refuse_all(bench)
    try:
        with pytest.raises(OutcomeUnknown, match=f"node {filed.id}.*cannot be completed.*nothing was removed"):
            list(bench.session.file([regranted(filing)]))
    finally:
        bench.sandbox.faults.set({"max-body": 0})
    assert sizes(bench, filed.id) == stands
    assert list(bench.session.file([regranted(filing)])) == [filed]


def regranted(filing: Filing) -> Filing:
    return replace(filing, access=(Grant(who="DefaultGroup", right=Right.EDIT),))


def test_access_that_an_earlier_call_has_taken_away_is_no_refusal(bench: Bench) -> None:
    """The call whose answer was lost is carried out after we have compared, and before we ask once more."""
    folder = bench.unique("Access")
    first = filings.file(bench.session, bench.filing("seed.txt", folder))
    parent, user = (
        bench.session.nodes.get(int(first.id)).properties["parent_id"],
        bench.wire.user(bench.unique("u").replace(" ", "")),
    )
    bench.tell("POST", f"v2/nodes/{parent}/permissions/custom", right_id=user, permissions=["see"], apply_to=0)
    line, lost = f"/permissions/custom/{user}", list[str]()

    def carry_out() -> None:
        """What the first call asked for; whose it is, its path tells no more."""
        document = bench.session.find((folder,), "new.txt")
        assert document is not None
        lost.append(document.id)
        bench.tell("DELETE", f"v2/nodes/{document.id}{line}")

    bench.sandbox.faults.meanwhile(line, method="DELETE", struck="write-drop")
    bench.sandbox.faults.meanwhile(line, carry_out, method="DELETE")
    filing = bench.filing("new.txt", folder, access=(Grant(who="DefaultGroup", right=Right.READ),))
    filed = filings.file(bench.session, filing)
    assert lost == [filed.id]
    lines = [entry["data"]["permissions"] for entry in bench.ask(f"v2/nodes/{filed.id}/permissions")["results"]]
    assert {line["right_id"] for line in lines if line["type"] == "custom"} == {1001}


def test_what_this_call_made_is_taken_back(bench: Bench) -> None:
    folder = bench.unique("Refused")
    [refused] = bench.session.file([bench.filing("new.txt", folder, records_class=NO_CLASS)])
    assert isinstance(refused, NotFiled)
    assert bench.session.find((folder,), "new.txt") is None
    [filed] = bench.session.file([bench.filing("new.txt", folder)])
    assert isinstance(filed, Filed)
    [refused] = bench.session.file([bench.filing("new.txt", folder, b"second", records_class=NO_CLASS)])
    assert isinstance(refused, NotFiled)
    assert sizes(bench, filed.id) == [5]


def test_bytes_that_an_earlier_call_has_used_are_not_sent_again_unlooked(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of a file in parts is used up by a call whose answer was lost: that call may still be at it."""
    folder = bench.unique("Parts")
    first = filings.file(bench.session, bench.filing("large.bin", folder))
    original, sent = Wire.writing, list[str]()

    def writing(wire: Wire, what: str, method: str, path: str, **more: Any) -> Routine[Any]:
        sent.append(what)
        if path.endswith("/versions") and sum(one.startswith("version of") for one in sent) == 1:
            finished(original(wire, what, "DELETE", f"v2/multipart/{more['fields']['upload_key']}", bare=True))
            raise AnswerLost("the network went away")
        return (yield from original(wire, what, method, path, **more))

    # The key of the upload, which is used up here, is known to this call alone.
    monkeypatch.setattr(Wire, "writing", writing)
    with pytest.raises(OutcomeUnknown, match=r"large\.bin.*look at its versions"):
        list(bench.session.file([bench.filing("large.bin", folder, bytes(1_500_000))]))
    assert sum(one.startswith("large upload of") for one in sent) == 1
    assert sizes(bench, first.id) == [5]


CATEGORY = "Partner Document"


def valued(bench: Bench) -> tuple[Filing, int, str]:
    """A document with values and another filing for it; with it its node, and the end of the path of its category."""
    folder, named = bench.unique("Valued"), {"Partner ID": "1", "Tags": ("a",)}
    id = filings.file(bench.session, bench.filing("one.txt", folder, b"first", categories={CATEGORY: named})).id
    category = bench.session._names.category(CATEGORY).id
    return bench.filing("one.txt", folder, categories={CATEGORY: {"Partner ID": "2"}}), int(id), f"{id}/categories/{category}"


def by_a_person(bench: Bench, path: str, name: str, value: str) -> Callable[[], object]:
    key = bench.session._names.category(CATEGORY).attributes[name.casefold()].key
    return lambda: bench.tell("PUT", f"v2/nodes/{path}", **{key: value})


def test_a_value_that_somebody_changes_while_we_set_ours_is_never_overwritten(bench: Bench) -> None:
    filing, id, path = valued(bench)
    bench.sandbox.faults.meanwhile(path, by_a_person(bench, path, "Partner ID", "by a person"))
    with pytest.raises(OutcomeUnknown, match=f"values of node {id}.*somebody has changed the same ones.*a person decides"):
        list(bench.session.file([filing]))
    assert bench.session.categories.values(id)[CATEGORY]["Partner ID"] == "by a person"


def test_another_value_that_somebody_changes_while_we_set_ours_stands_beside_them(bench: Bench) -> None:
    filing, id, path = valued(bench)
    bench.sandbox.faults.meanwhile(path, by_a_person(bench, path, "Tags", "by a person"))
    filings.file(bench.session, filing)
    values = bench.session.categories.values(id)[CATEGORY]
    assert (values["Partner ID"], values["Tags"]) == ("2", ["by a person"])


@pytest.mark.parametrize("name", ["Partner ID", "Tags"])
def test_values_that_somebody_has_changed_since_are_not_put_back(bench: Bench, name: str) -> None:
    """The same one: a person decides. Another one: it stands, and ours is put back."""
    filing, id, path = valued(bench)
    bench.sandbox.faults.meanwhile(f"{id}/rmclassifications", by_a_person(bench, path, name, "by a person"))
    refused = replace(filing, records_class=NO_CLASS)
    if name == "Partner ID":
        with pytest.raises(OutcomeUnknown, match=r"it stands.*somebody has changed its values since.*a person decides"):
            list(bench.session.file([refused]))
        assert sizes(bench, str(id)) == [5, 5]
    else:
        [answer] = bench.session.file([refused])
        assert isinstance(answer, NotFiled)
        assert bench.session.categories.values(id)[CATEGORY]["Partner ID"] == "1"
        assert sizes(bench, str(id)) == [5]
    assert "by a person" in bench.session.categories.values(id)[CATEGORY][name]


def test_a_category_of_ours_that_somebody_has_filled_in_since_is_not_taken_off(bench: Bench) -> None:
    folder = bench.unique("Filled in")
    id = int(filings.file(bench.session, bench.filing("one.txt", folder, b"first")).id)
    path = f"{id}/categories/{bench.session._names.category(CATEGORY).id}"
    bench.sandbox.faults.meanwhile(f"{id}/rmclassifications", by_a_person(bench, path, "Tags", "by a person"))
    filing = bench.filing("one.txt", folder, categories={CATEGORY: {"Partner ID": "2"}}, records_class=NO_CLASS)
    with pytest.raises(OutcomeUnknown, match="somebody has changed its values since"):
        list(bench.session.file([filing]))
    assert bench.session.categories.values(id)[CATEGORY]["Tags"] == ["by a person"]


def test_of_two_filings_of_one_name_at_once_the_later_version_says_the_values(bench: Bench) -> None:
    second, id, _ = valued(bench)
    third = replace(bench.filing("one.txt", second.folder[0], b"third"), categories={CATEGORY: {"Partner ID": "3"}})
    versions = list[int]()
    bench.sandbox.faults.meanwhile(  # as the second one asks for its token
        "/forms/nodes/categories/update", lambda: versions.append(filings.file(bench.session, third).version), method="GET"
    )
    assert (filings.file(bench.session, second).version, versions) == (2, [3])
    assert bench.session.categories.values(id)[CATEGORY]["Partner ID"] == "3"


def test_the_values_of_a_document_that_somebody_has_continued_since_are_theirs_and_its_class_is_set(bench: Bench) -> None:
    filing, id, _ = valued(bench)

    def add_version() -> None:
        answer = bench.wire.http.post(f"/v2/nodes/{id}/versions", files={"file": ("one.txt", b"by a person")})
        assert answer.status_code == 200, answer.text

    bench.sandbox.faults.meanwhile(f"{id}/versions", add_version, after=True)
    filed = filings.file(bench.session, replace(filing, records_class="Contracts"))
    assert filed.version == 2
    assert bench.session.categories.values(id)[CATEGORY]["Partner ID"] == "1"
    record = bench.session.records.get(id)
    assert record is not None and record.class_name == "Contracts", "as the filing says"
    assert sizes(bench, str(id)) == [5, 5, 11]


def test_a_version_of_somebody_else_is_not_ours_because_ours_before_it_is_gone(bench: Bench) -> None:
    filing = bench.filing("one.txt", bench.unique("Purged"), b"ours")
    filed = filings.file(bench.session, filing)
    answer = bench.wire.http.post(f"/v2/nodes/{filed.id}/versions", files={"file": ("one.txt", b"them")})
    assert answer.status_code == 200, answer.text
    bench.session.nodes.drop_version(int(filed.id), 1)
    assert filings.file(bench.session, filing).version == 3
    assert bench.session.filed_by(filed.id) == (None, filing.journey)


def test_a_removal_that_is_asked_for_again_looks_again_at_what_stands_there(bench: Bench) -> None:
    """Its reservation keeps others from adding a version, not another worker of our own account."""
    filing = bench.filing("one.txt", bench.unique("Removed"), b"first")
    id = filings.file(bench.session, filing).id
    seen = bench.session.filed_by(id)

    def second() -> None:
        filings.file(bench.session, bench.filing("one.txt", filing.folder[0], b"second"))

    bench.sandbox.faults.meanwhile(f"/nodes/{id}", second, method="DELETE", struck="write-503")
    with pytest.raises(EditConflict, match="another version has come meanwhile"):
        bench.session.remove(id, seen)
    assert sizes(bench, id) == [5, 6]
    filings.file(bench.session, bench.filing("one.txt", filing.folder[0], b"a third"))
    assert bench.session.get(id).version == 3
