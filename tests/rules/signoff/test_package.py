"""The package and its digest; terms and people as they are written in reviewed files."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from blocks.outbound import (
    Destination,
    Outbound,
    Package,
    PackageFile,
    PeopleFile,
    Person,
    Policies,
    PreviewKind,
    SignoffPolicy,
    Vote,
    canonical,
)
from tests.rules.signoff.world import ANN_KEY, NOON, PLACE, answer, cast, document, matter, package, people, stage, terms

words = st.text(min_size=1, max_size=12)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
files = st.builds(PackageFile, st.binary(min_size=1, max_size=30), st.integers(0, 2**63), digests, words, st.integers(0, 10**6))
places = st.builds(
    Destination, words, words, st.integers(0, 65535), st.text(max_size=9), st.text(max_size=9), st.text(max_size=9)
)
packages = st.builds(
    Package,
    journey=words,
    order=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,20}\Z"),
    partner=words,
    stream=words,
    policy=digests,
    destinations=st.lists(places, min_size=1, max_size=3, unique=True).map(tuple),
    files=st.lists(files, min_size=1, max_size=5, unique_by=lambda file: file.name).map(tuple),
)


@given(packages)
@settings(max_examples=150, deadline=None)
def test_a_package_comes_back_from_its_text(one: Package) -> None:
    again = Package.parse(one.text)
    assert again == one
    assert again.digest == one.digest
    assert one.text.isascii()
    assert len(set(one.labels)) == len(one.files)


CHANGES: list[tuple[str, Any]] = [
    ("journey", "other"),
    ("order", "2026-11-21"),
    ("partner", "acme2"),
    ("stream", "other"),
    ("policy", "f" * 64),
    *(
        ("destinations", (replace(PLACE, **change),))
        for change in (
            {"protocol": "ftps"},
            {"host": "sftp.acme.example.org"},
            {"port": 2222},
            {"user": "root"},
            {"path": "/in2"},
            {"key_fingerprint": "SHA256:" + "B" * 43},
        )
    ),
    ("destinations", (PLACE, replace(PLACE, path="/copy"))),
    *(
        ("files", (replace(document("a.csv"), **change), document("b.csv"), document("c.csv")))
        for change in ({"name": b"A.csv"}, {"size": 1201}, {"sha256": "0" * 64}, {"repository_id": "x"}, {"version": 4})
    ),
    ("files", (document("b.csv"), document("a.csv"), document("c.csv"))),
    ("files", (document("a.csv"), document("b.csv"))),
]


@pytest.mark.parametrize(("field", "value"), CHANGES, ids=[f"{n} {field}" for n, (field, _) in enumerate(CHANGES)])
def test_any_change_changes_the_digest(field: str, value: Any) -> None:
    changed = replace(package(), **{field: value})
    assert changed.digest != package().digest


@given(packages, packages)
@settings(max_examples=50, deadline=None)
def test_two_packages_of_one_digest_are_one(one: Package, other: Package) -> None:
    assert (one.digest == other.digest) == (one == other)


def edited(change: Any) -> str:
    facts = json.loads(package().text)
    change(facts)
    return canonical(facts)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("[]", id="a list"),
        pytest.param("{", id="no JSON"),
        pytest.param("[" * 5000, id="nesting without end"),
        pytest.param(json.dumps(json.loads(package().text)), id="the same, not canonical"),
        pytest.param(edited(lambda f: f.update(note="x")), id="a field too many"),
        pytest.param(edited(lambda f: f["files"][0].update(note="x")), id="a field too many in a file"),
        pytest.param(edited(lambda f: f["destinations"][0].pop("host")), id="a destination without a host"),
        pytest.param(edited(lambda f: f["files"][0].update(name="safe.csv")), id="a shown name that is not the name"),
        pytest.param(edited(lambda f: f["files"][0].update(name_b64="?")), id="a name that is no base64"),
        pytest.param(edited(lambda f: f["files"][0].update(size=-1)), id="a negative size"),
        pytest.param(edited(lambda f: f["files"][0].update(size=True)), id="true as a size"),
        pytest.param(edited(lambda f: f["files"][0].update(size=1.0)), id="a size with a point"),
        pytest.param(edited(lambda f: f["files"][1].update(f["files"][0])), id="two files of one name"),
        pytest.param(edited(lambda f: f.update(files=[])), id="no files"),
        pytest.param(edited(lambda f: f.update(destinations=[])), id="no destinations"),
        pytest.param(edited(lambda f: f.update(version=2)), id="a later version"),
        pytest.param(edited(lambda f: f.update(version=True)), id="true as a version"),
        pytest.param(edited(lambda f: f.update(order="../x")), id="an order that is a path"),
        pytest.param(edited(lambda f: f.update(policy="x")), id="a policy that is no digest"),
    ],
)
def test_what_is_no_package(text: str) -> None:
    with pytest.raises(ValueError, match="no package"):
        Package.parse(text)


def test_a_child_keeps_the_root_order_however_deep() -> None:
    child = package().child(["1. a.csv", "3. c.csv"])
    grandchild = child.child(["2. c.csv"])
    assert grandchild.root_order == child.root_order == "2026-11-20"
    assert [file.shown for file in grandchild.files] == ["c.csv"]
    assert len({package().journey, child.journey, grandchild.journey}) == 3
    assert Package.parse(grandchild.text) == grandchild
    other = replace(package(), policy="f" * 64).child(["1. a.csv", "3. c.csv"])
    assert other.journey != child.journey, "another parent has another child"
    with pytest.raises(ValueError, match="no document"):
        child.child(["9. z.csv"])
    with pytest.raises(ValueError, match="at least one document"):
        child.child([])


def test_28_a_thousand_documents_are_one_package_without_choices() -> None:
    large = package(*(document(f"{n}.csv") for n in range(1000)))
    assert large.choices == ()
    assert len(large.labels) == 1000
    assert package(document("a.csv")).choices == ()


def test_a_name_may_be_any_bytes() -> None:
    odd = package(document(b"M\xfcller\n\x1b[31m.csv"))
    assert Package.parse(odd.text).files[0].name == b"M\xfcller\n\x1b[31m.csv"
    assert odd.labels == ("1. M\\xfcller\\x0a\\x1b[31m.csv",)


def test_the_policy_digest_holds_all_three_parts() -> None:
    one = Policies("1" * 64, "2" * 64, "3" * 64)
    changed = [replace(one, **{part: "0" * 64}) for part in ("profile", "people", "terms")]
    assert len({one.digest, *(other.digest for other in changed)}) == 4


def test_a_vote_comes_back_from_its_facts_and_nothing_else_does() -> None:
    vote = replace(cast(answer("ann", matter()), matter(), terms()), seal="c2VhbA==")
    told = json.loads(canonical(vote.facts))
    assert Vote.parse(told) == vote
    for facts in (
        {**told, "x": 1},
        {**told, "round": "1"},
        {**told, "proof": "hope"},
        {**told, "at": "noon"},
        [],
        None,
        "vote",
    ):
        with pytest.raises(ValueError, match="no vote"):
            Vote.parse(facts)
    assert "seal" not in json.loads(vote.text)


# ------------------------------------------------------------------------------------------ terms


ONE: dict[str, Any] = {"proof": "code", "stages": [stage("a")]}
FEW = {"days": 30, "files": 2, "size_bytes": 1000, "per_day": 5}


def outbound(**changed: Any) -> dict[str, Any]:
    return {**terms().model_dump(mode="json"), **changed}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        pytest.param({"gather": {"repository": "ecm"}}, "exactly one of", id="documents from nowhere"),
        pytest.param(
            {"gather": {"repository": "ecm", "folder": "a", "from_order": True}}, "exactly one of", id="from two places"
        ),
        pytest.param({"gather": {"repository": "ecm", "folder": "{host}"}}, "no fact here", id="a folder of unknown facts"),
        pytest.param(
            {"gather": {"repository": "ecm", "folder": "{partner.x}"}}, "no fact here", id="a template that looks inside"
        ),
        pytest.param({"gather": {"repository": "ecm", "folder": "{partner!r}"}}, "no fact here", id="a template that converts"),
        pytest.param(
            {"gather": {"repository": "ecm", "folder": "{ordered:{x}}"}}, "takes no format", id="a template in a template"
        ),
        pytest.param({"gather": {"repository": "ecm", "folder": "{"}}, "is no template", id="a brace left open"),
        pytest.param(
            {"gather": {"repository": "ecm", "folder": "a", "version": "approved"}},
            "approved_in",
            id="approved, told by nothing",
        ),
        pytest.param(
            {"destinations": [{"endpoint": "d", "folder": "/", "sidecar": "all.sha256"}]}, "by {name}", id="one sidecar for all"
        ),
        pytest.param({"destinations": []}, "at least 1", id="no destination"),
        pytest.param({"freshness": "maybe"}, "latest", id="no such freshness"),
        pytest.param({"signoff": {"proof": "code", "stages": []}}, "at least 1", id="nobody needs to sign"),
        pytest.param(
            {"signoff": {"proof": "code", "stages": [stage("a"), stage("A", 1, "a")]}}, "same name", id="two stages of one name"
        ),
        pytest.param(
            {"signoff": {"proof": "code", "stages": [stage("a", 0)]}}, "greater than or equal to 1", id="a quorum of none"
        ),
        pytest.param({"signoff": {"stages": [stage("a")]}}, "required", id="no word about the proof"),
        pytest.param(
            {"signoff": {**ONE, "calendar": "office"}}, "no period here is any", id="a calendar that nobody would look into"
        ),
        pytest.param(
            {"signoff": {**ONE, "expires_after": "2 business days"}}, "add 'calendar'", id="business time of no calendar"
        ),
        pytest.param({"signoff": {**ONE, "expires_after": "2 business weeks"}}, "match pattern", id="a business week"),
        pytest.param({"signoff": {**ONE, "expires_after": "P0D"}}, "greater than 0", id="no time at all"),
        pytest.param({"signoff": {**ONE, "remind_after": "P14D"}}, "comes after 'expires_after'", id="a reminder too late"),
        pytest.param(
            {"signoff": {**ONE, "wider": {"after": "P30D", "groups": ["b"]}}},
            "comes after 'expires_after'",
            id="a circle too late",
        ),
        pytest.param({"signoff": {**ONE, "wider": {"after": "P1D", "groups": []}}}, "at least 1", id="a circle of nobody"),
        pytest.param({"signoff": {**ONE, "standing": {**FEW, "rows": 9}}}, "need 'classify'", id="rows of anything"),
        pytest.param(
            {"signoff": {**ONE, "standing": {**FEW, "value": {"column": "price", "most": 9}}}},
            "need 'classify'",
            id="the value of anything",
        ),
        pytest.param({"typo": 1}, "Extra inputs", id="a typo"),
    ],
)
def test_terms_that_cannot_be_meant(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Outbound.model_validate(outbound(**changed))


def test_the_digest_of_terms_does_not_depend_on_what_was_written_out() -> None:
    assert Outbound.model_validate(outbound()).digest == terms().digest
    assert terms(veto=["legal"]).digest != terms().digest


OF_THEN: dict[str, Any] = {
    "direction": "outbound",
    "gather": {
        "repository": "ecm",
        "folder": "Exchange/{partner}/{ordered:%Y}",
        "admits": [{"category": "Partner Document", "attribute": "Partner ID", "values": ["acme"]}],
    },
    "classify": [{"pattern": r".*\.csv", "doctype": "price-list"}, {"pattern": r".*\.pdf", "doctype": "price-list"}],
    "destinations": [{"endpoint": "drop", "folder": "/in", "exists": "replace", "done_file": "{order}.done"}],
    "freshness": "latest",
    "signoff": {"proof": "code", "stages": [{"name": "pricing", "groups": ["pricing"]}]},
    "evidence": {"repository": "ecm", "folder": "Sign-offs", "records_class": "Contracts"},
    "owner": "pricing@example.com",
}


def test_an_upgrade_of_ours_voids_no_package_that_waits() -> None:
    """The number is what the first release with sign-offs made of these terms: a new key left out changes nothing."""
    of_then = "01cac2bd16d3edc129064e5b54c5fdee7f6707d02dad4b45f38ca9349e0b2d97"
    assert Outbound.model_validate(OF_THEN).digest == of_then


@pytest.mark.parametrize(
    ("key", "terms"),
    [
        ("gather", {"sensitive": [{"category": "Partner Document", "attribute": "Partner ID"}]}),
        ("gather", {"review": {"map": "Approval", "step": "Approved"}}),
        ("evidence", {"record_date": "{received:%Y-%m-%d}"}),
    ],
)
def test_what_a_new_key_says_counts(key: str, terms: dict[str, Any]) -> None:
    assert (
        Outbound.model_validate({**OF_THEN, key: {**OF_THEN[key], **terms}}).digest != Outbound.model_validate(OF_THEN).digest
    )


def test_where_the_record_goes_counts() -> None:
    told = {**OF_THEN, "record": {"repository": "ecm", "folder": "Sign-offs"}}
    assert Outbound.model_validate(told).digest != Outbound.model_validate(OF_THEN).digest


def test_every_field_of_the_terms_tells_what_it_is() -> None:
    untold = {
        f"{name}.{field}"
        for model in (Outbound, PeopleFile)
        for name, place in model.model_json_schema()["$defs"].items()
        for field, facts in place.get("properties", {}).items()
        if "description" not in facts and name not in ("Settle", "Target")
    }
    assert not untold, untold


# ------------------------------------------------------------------------------------------ people


def away(to: str, first: str, last: str) -> dict[str, dict[str, Any]]:
    return {"ann": {"delegations": [{"to": to, "valid_from": first, "valid_until": last}]}}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        pytest.param(away("ann", "2026-01-01", "2026-01-02"), "themselves", id="a delegation to oneself"),
        pytest.param(away("zoe", "2026-01-01", "2026-01-02"), "not in this file", id="a delegation to nobody"),
        pytest.param(away("bea", "2026-01-02", "2026-01-01"), "before", id="a delegation that ends before it begins"),
        pytest.param({"ann": {"delegations": [{"to": "bea"}]}}, "required", id="a delegation without dates"),
        pytest.param({"bea": {"id": "ann"}}, "two people", id="one id for two people"),
        pytest.param({"bea": {"logins": ["AWEBER"]}}, "two people", id="one login for two people"),
        pytest.param({"bea": {"keys": [ANN_KEY + " copied"]}}, "two people", id="one key for two people"),
        pytest.param({"ann": {"keys": ["ssh-rsa AAAAB3NzaC1yc2E="]}}, "Ed25519", id="a key of another kind"),
        pytest.param({"ann": {"keys": [ANN_KEY + "\nssh-ed25519 x"]}}, "Ed25519", id="two lines as one key"),
        pytest.param({"ann": {"mail": "ann"}}, "pattern", id="no mail address"),
        pytest.param({"ann": {"password": "x"}}, "Extra", id="a field that is not known"),
    ],
)
def test_people_that_cannot_be_meant(changed: dict[str, dict[str, Any]], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        people(**changed)


def test_a_key_is_written_as_a_line_or_with_its_days() -> None:
    known = people(ann={"keys": [{"key": ANN_KEY, "valid_until": "2026-12-31"}]})
    ann = known.get("ann")
    assert isinstance(ann, Person)
    assert ann.keys[0].valid_until is not None
    assert ann.keys[0].fingerprint.startswith("SHA256:")
    assert "string" in json.dumps(PeopleFile.model_json_schema()["$defs"]["Person"]["properties"]["keys"])


def test_a_day_is_a_day_where_people_live() -> None:
    assert str(people().day(NOON.replace(hour=23, minute=30))) == "2026-11-21"


def test_the_policy_goes_through_json() -> None:
    policy = terms(expires_after="P3D", veto=["legal"]).signoff
    assert TypeAdapter(SignoffPolicy).validate_json(policy.model_dump_json()) == policy


def test_what_waits_survives_the_key_preview_until_a_profile_uses_it() -> None:
    before = terms(stage("pricing"))
    assert (
        "preview" not in before.agreed and before.model_copy(update={"preview": PreviewKind.FULL}).agreed["preview"] == "full"
    )
