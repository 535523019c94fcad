"""What a refusal in the middle of a filing takes back: what this very call made, and never what was there before or may not go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from blocks.errors import OutcomeUnknown
from blocks.repositories.otcs_wire import AnswerLost, Wire
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


def test_access_that_an_earlier_call_has_taken_away_is_no_refusal(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call whose answer was lost is carried out after we have compared, and before we ask once more."""
    folder = bench.unique("Access")
    first = filings.file(bench.session, bench.filing("seed.txt", folder))
    parent, user = (
        bench.session.nodes.get(int(first.id)).properties["parent_id"],
        bench.wire.user(bench.unique("u").replace(" ", "")),
    )
    bench.tell("POST", f"v2/nodes/{parent}/permissions/custom", right_id=user, permissions=["see"], apply_to=0)
    original, calls = Wire.write, []

    def write(wire: Wire, what: str, method: str, path: str, **more: Any) -> Any:
        if path.endswith(f"/custom/{user}"):
            calls.append(method)
            if len(calls) == 1:
                raise AnswerLost("the network went away", True)
            original(wire, what, method, path, **more)
        return original(wire, what, method, path, **more)

    monkeypatch.setattr(Wire, "write", write)
    filing = bench.filing("new.txt", folder, access=(Grant(who="DefaultGroup", right=Right.READ),))
    filed = filings.file(bench.session, filing)
    assert calls == ["DELETE", "DELETE"]
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
    original, sent = Wire.write, list[str]()

    def write(wire: Wire, what: str, method: str, path: str, **more: Any) -> Any:
        sent.append(what)
        if path.endswith("/versions") and sum(one.startswith("version of") for one in sent) == 1:
            original(wire, what, "DELETE", f"v2/multipart/{more['fields']['upload_key']}", bare=True)
            raise AnswerLost("the network went away")
        return original(wire, what, method, path, **more)

    monkeypatch.setattr(Wire, "write", write)
    with pytest.raises(OutcomeUnknown, match=r"large\.bin.*look at its versions"):
        list(bench.session.file([bench.filing("large.bin", folder, bytes(1_500_000))]))
    assert sum(one.startswith("large upload of") for one in sent) == 1
    assert sizes(bench, first.id) == [5]
