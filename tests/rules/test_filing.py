"""Templates over facts: what they may hold, and that no partner's word ever leaves its place."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.outbound import Outbound
from blocks.values import (
    Arrival,
    BusinessObject,
    Collision,
    Document,
    Filing,
    Grant,
    Inbound,
    InWorkspace,
    RemoteFile,
    Right,
    Verdict,
)
from tasks.rules.filing import check_evidence, check_templates, not_told_alike, plan, render, told_alike, unfilled

CASE = {"system": "ERP", "object": "CASE"}
RECEIVED = datetime(2026, 11, 20, 9, 5, tzinfo=UTC)


def inbound(**target: object) -> Inbound:
    return Inbound.model_validate(
        {
            "endpoint": "drop",
            "folder": "/out",
            "classify": [{"pattern": r"(?P<kind>[^_]*)_(?P<reference>.*)\.csv", "doctype": "statement"}],
            "target": {"repository": "ecm", "folder": "In/{partner}", **target},
        }
    )


def planned(stream: Inbound, name: bytes = b"a_b.csv", **facts: str) -> Filing:
    document = Document("j1", name, 7, "d" * 64, Path("/spool/d"), "text/plain")
    modified = datetime(2020, 1, 1, tzinfo=UTC)
    arrival = Arrival("j1", "acme", "statements", RemoteFile("/out", name, 7, modified), RECEIVED)
    return plan(document, Verdict("j1", "statement", facts=facts), stream, "acme", "statements", arrival)


def test_a_filing_says_everything_that_was_agreed() -> None:
    stream = inbound(
        folder="/Suppliers/{partner}/{received:%Y-%m}/",
        name="{kind} {reference}.{extension}",
        categories={"Document": {"Reference": "{reference}", "Tags": ["{stream}", "{stem}", "{received}"]}},
        records_class="Statements",
        access=[{"who": "Accounts", "right": "read"}],
        collision="keep both",
    )
    assert planned(stream, kind="stmt", reference="R/1") == Filing(
        journey="j1",
        name="stmt R_1.csv",
        folder=("Suppliers", "acme", "2026-11"),
        path=Path("/spool/d"),
        digest="d" * 64,
        size=7,
        media_type="text/plain",
        categories={"Document": {"Reference": "R/1", "Tags": ("statements", "a_b", "2026-11-20")}},
        records_class="Statements",
        access=(Grant(who="Accounts", right=Right.READ),),
        modified=datetime(2020, 1, 1, tzinfo=UTC),
        collision=Collision.KEEP_BOTH,
    )


HOSTILE = st.text(max_size=30) | st.sampled_from(
    ["..", ".", "", "/", "../..", "a/../../b", "..\\..", "/etc", "\0", "{digest}", "{x.__class__}"]
)


@given(HOSTILE, HOSTILE, st.binary(max_size=40))
def test_no_fact_adds_leaves_or_climbs_a_level(kind: str, reference: str, name: bytes) -> None:
    filing = planned(inbound(folder="In/{kind}/{reference}/x", name="{name}"), name or b"x", kind=kind, reference=reference)
    assert len(filing.folder) == 4
    assert (filing.folder[0], filing.folder[3]) == ("In", "x")
    for segment in (*filing.folder, filing.name):
        assert segment.strip()
        assert segment not in (".", "..")
        assert not {"/", "\\", "\0", "\n"} & set(segment)
    assert filing.name.encode("utf-8"), "a name that can be written down in UTF-8"


@given(st.text(max_size=40))
def test_a_fact_is_never_a_template(value: str) -> None:
    assert render("{a}|{a}", {"a": value}, RECEIVED) == f"{value}|{value}"


REFUSED = [
    "{a.__class__}",
    "{a[0]}",
    "{0}",
    "{}",
    "{a!r}",
    "{a:>99999999}",
    "{received.year}",
    "{received:{a}}",
    "{received:%-%n}",
    "{a",
    "a}",
    "{A}",
]


@pytest.mark.parametrize("template", REFUSED)
def test_no_attributes_indexes_conversions_or_widths(template: str) -> None:
    with pytest.raises(ValueError, match=r"template|can be used"):
        render(template, {"a": "x", "0": "y", "A": "z"}, RECEIVED)
    assert list(check_templates(inbound(folder=f"In/{template}")))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        pytest.param({"folder": "In/{partner}/{kind}/{rows}"}, None, id="facts of profile, name and content"),
        pytest.param({"folder": "In/{sort}"}, "{sort} is not known", id="a fact that nobody tells"),
        pytest.param({"name": "{invoice}.pdf"}, "name: {invoice}", id="the same in a name"),
        pytest.param({"categories": {"C": {"A": ["x", "{nope}"]}}}, "C/A: {nope}", id="the same in one of several values"),
        pytest.param({"folder": "In/../Secret"}, "'..'", id="a way up"),
        pytest.param({"folder": "In//x"}, "without empty", id="a level without a name"),
        pytest.param({"folder": ""}, "without empty", id="no folder"),
        pytest.param({"name": "x/{name}"}, "without /", id="a path for a name"),
        pytest.param({"workspace": {**CASE, "reference": "{reference}"}}, None, id="a workspace by a fact of the name"),
        pytest.param(
            {"workspace": {**CASE, "reference": "{nope}"}}, "workspace/reference: {nope}", id="by a fact that nobody tells"
        ),
        pytest.param(
            {"workspace": {**CASE, "reference": "{reference}", "name": "Case {kind}"}},
            "one name: add {reference}",
            id="two of one name",
        ),
    ],
)
def test_templates_are_checked_with_the_profile(target: dict[str, object], said: str | None) -> None:
    problems = list(check_templates(inbound(**target)))
    assert bool(problems) is (said is not None)
    assert said is None or said in problems[0]


def test_a_document_belongs_to_the_workspace_that_its_facts_tell() -> None:
    """What a partner writes is data: no level of a path, and no other object than the one that was agreed."""
    own = {"system": "ERP", "object": "SUPPLIER", "reference": "{partner}"}
    terms = {**CASE, "reference": "{reference}", "template": "Supplier", "roles": {"Lead": ["ann"]}, "below": own}
    filing = planned(inbound(workspace=terms), kind="stmt", reference="../R1")
    about, below = BusinessObject("ERP", "CASE", "../R1"), BusinessObject("ERP", "SUPPLIER", "acme")
    assert filing.workspace == InWorkspace(about, "CASE .._R1", "Supplier", {"Lead": ("ann",)}, below)
    assert InWorkspace.parse(json.loads(json.dumps(filing.workspace.facts))) == filing.workspace
    assert len(filing.sent) <= 255
    assert filing.sent.startswith("a_b.csv from acme/statements, received 2026-11-20 09:05:00 UTC, SHA-256 dddd")
    assert len(planned(inbound(workspace=terms), b"n" * 300, kind="stmt", reference="1").sent) == 255


def test_a_fact_must_be_known_of_every_file_that_the_stream_recognises() -> None:
    stream = inbound(folder="In/{kind}")
    other = replace_classify(stream, r".*\.pdf", "invoice")
    assert not list(check_templates(stream))
    assert "'.*\\\\.pdf'" in next(iter(check_templates(other)))


def replace_classify(stream: Inbound, pattern: str, doctype: str) -> Inbound:
    return Inbound.model_validate(
        {**stream.model_dump(), "classify": [*stream.model_dump()["classify"], {"pattern": pattern, "doctype": doctype}]}
    )


def test_a_fact_that_this_document_lacks_is_a_finding_before_anything_is_filed() -> None:
    stream = inbound(folder="In/{kind}", name="{reference}")
    assert [f.code for f in unfilled("a.csv", {"kind": "x", "reference": "y"}, stream)] == []
    found = list(unfilled("a.csv", {"kind": " "}, stream))
    assert [(finding.code, finding.rule) for finding in found] == [
        ("missing-fact", "folder uses {kind}"),
        ("missing-fact", "name uses {reference}"),
    ]


def test_a_name_that_is_not_utf_8_is_written_out() -> None:
    assert planned(inbound(), b"M\xfcller_1.csv").name == "M\\xfcller_1.csv".replace("\\", "_")


def test_an_unsniffed_document_has_no_media_type_of_its_own() -> None:
    document = Document("j1", b"a", 1, "d", Path("/x"))
    arrival = Arrival("j1", "acme", "s", RemoteFile("/out", b"a", 1, None), RECEIVED)
    filing = plan(document, Verdict("j1", "invoice"), inbound(), "acme", "s", arrival)
    assert filing.media_type == "application/octet-stream"
    assert replace(filing, media_type="") != filing


# --------------------------------------------------------------------------------------------- how long it is kept


def test_how_long_it_is_kept_counts_from_what_the_document_says() -> None:
    stream = inbound(
        records_class="Statements",
        record_date="{kind}",
        retention={"period": "P10Y", "begins": "end of year", "schedule": "FIN-10"},
        categories={"Document": {"Date": "{record_date}", "Keep Until": "{keep_until}"}},
    )
    assert list(check_templates(stream)) == []
    filing = planned(stream, kind="20240229", reference="1")
    assert (filing.record_date, filing.keep_until, filing.schedule) == (date(2024, 2, 29), date(2034, 12, 31), "FIN-10")
    assert filing.categories["Document"] == {"Date": "2024-02-29", "Keep Until": "2034-12-31"}


def test_without_another_word_it_counts_from_the_day_we_first_saw_it() -> None:
    filing = planned(inbound(retention={"period": "P90D"}))
    assert (filing.record_date, filing.keep_until) == (date(2026, 11, 20), date(2027, 2, 18))
    assert planned(inbound()).record_date is None


@pytest.mark.parametrize(
    ("said", "wrong"), [("tomorrow", True), ("2026-02-29", True), ("20260228", False), ("2026-02-28T23:00", False)]
)
def test_a_record_date_that_is_none_is_a_finding(said: str, wrong: bool) -> None:
    stream = inbound(retention={"period": "P1Y"}, record_date="{kind}")
    found = list(unfilled("a.csv", {"kind": said}, stream))
    assert [finding.code for finding in found] == (["bad-record-date"] if wrong else [])


def test_a_record_date_comes_from_facts_that_can_be_dates() -> None:
    stream = inbound(retention={"period": "P1Y"}, record_date="{stem}", categories={"Document": {"Until": "{keep_until}"}})
    assert ["record_date: {stem} is not known" in problem for problem in check_templates(stream)] == [True]
    assert [finding.code for finding in unfilled("a.csv", {}, stream)] == ["bad-record-date"]
    assert list(check_templates(inbound(categories={"Document": {"Until": "{keep_until}"}})))


def outbound(pattern: str = r"C_(?P<contract>\w+)_.*", **target: object) -> Outbound:
    return Outbound.model_validate(
        {
            "direction": "outbound",
            "gather": {"repository": "ecm", "from_order": True},
            "classify": [{"pattern": r"L_(?P<contract>\w+)", "doctype": "letter"}, {"pattern": pattern, "doctype": "contract"}],
            "destinations": [{"endpoint": "drop", "folder": "/in"}],
            "freshness": "latest",
            "signoff": {"stages": [{"name": "one", "groups": ["legal"]}], "proof": "code"},
            "evidence": {"repository": "ecm", "folder": "Sent/{contract}", "name": "{name}", **target},
        }
    )


@pytest.mark.parametrize(
    ("names", "told"),
    [
        pytest.param([b"C_1_draft"], {"contract": "1"}, id="one document"),
        pytest.param([b"C_1_draft", b"L_1"], {"contract": "1"}, id="two that say the same, by two patterns"),
        pytest.param([b"C_1_draft", b"C_2_draft"], {}, id="two that do not"),
        pytest.param([b"C_1_draft", b"other"], {}, id="one that says nothing"),
    ],
)
def test_a_package_tells_what_all_its_documents_tell(names: list[bytes], told: dict[str, str]) -> None:
    assert told_alike(names, outbound()) == told
    assert not_told_alike(names, outbound()) == ([] if told else ["contract"])
    assert not_told_alike(names, outbound(folder="Sent/{order}/{partner}")) == []


def test_evidence_is_filed_by_what_every_pattern_tells() -> None:
    terms = outbound()
    assert list(check_evidence(terms.evidence, terms)) == []
    terms = outbound(pattern="C_.*")
    (problem,) = check_evidence(terms.evidence, terms)
    assert problem.startswith("folder: {contract} is not known")
