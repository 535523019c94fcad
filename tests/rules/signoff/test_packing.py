"""What goes into a package, whether it still is the same, and what it is called at the partner."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from blocks.outbound import DestinationTerms, Freshness, Gather, Package, Policies, Refusal
from blocks.values import Kept
from tasks.rules.packing import AtRepository, Fresh, Layout, Voided, Withheld, admitted, freshness, layout, manifest, sidecar
from tests.rules.signoff.world import PLACE, POLICIES, document, package, terms

TODAY = date(2026, 11, 20)
STATUS = {"category": "Product", "attribute": "Status", "values": ["Approved", "Released"]}
NUMBER = {"category": "Product", "attribute": "Approved Version"}
UNTIL = {"category": "Product", "attribute": "Valid Until"}


def kept(version: int = 5, **values: Any) -> Kept:
    return Kept("4711", "manual.pdf", False, 10, version, "application/pdf", None, categories={"Product": values})


def gather(**told: Any) -> Gather:
    return Gather.model_validate({"repository": "ecm", "folder": "Manuals", **told})


APPROVED = gather(version="approved", approved_in=NUMBER)


@pytest.mark.parametrize(
    ("found", "asked", "policy", "expected"),
    [
        pytest.param(kept(), gather(), "latest", 5, id="the newest version goes"),
        pytest.param(kept(Status="Approved"), gather(admits=[STATUS]), "latest", 5, id="an admitted one goes"),
        pytest.param(
            kept(Status=["Draft", "Released"]), gather(admits=[STATUS]), "latest", 5, id="one of several values will do"
        ),
        pytest.param(
            kept(Status="approved"), gather(admits=[STATUS]), "latest", "not-admitted", id="values are compared exactly"
        ),
        pytest.param(kept(), gather(admits=[STATUS]), "latest", "not-admitted", id="no value is not admitted"),
        pytest.param(kept(), gather(patterns=["*.csv"]), "latest", "other-name", id="another name does not belong here"),
        pytest.param(kept(**{"Approved Version": 4}), APPROVED, "pinned", 4, id="E2 version 4 of 5 is approved and goes"),
        pytest.param(
            kept(**{"Approved Version": "4"}), APPROVED, "latest", "newer-version", id="14 not so where only the latest goes"
        ),
        pytest.param(kept(**{"Approved Version": "5"}), APPROVED, "latest", 5, id="14 the latest is approved and goes"),
        pytest.param(
            kept(**{"Approved Version": "6"}), APPROVED, "pinned", "no-approved-version", id="a version there is none of"
        ),
        pytest.param(kept(**{"Approved Version": "²"}), APPROVED, "pinned", "no-approved-version", id="a number that is none"),
        pytest.param(
            kept(**{"Approved Version": [4, 5]}), APPROVED, "pinned", "no-approved-version", id="two approved versions"
        ),
        pytest.param(kept(), APPROVED, "pinned", "no-approved-version", id="nothing approved"),
        pytest.param(
            kept(**{"Valid Until": "2026-11-19"}),
            gather(valid_until=UNTIL),
            "latest",
            "approval-expired",
            id="S2 its approval expired yesterday",
        ),
        pytest.param(
            kept(**{"Valid Until": "2026-11-20T00:00:00"}),
            gather(valid_until=UNTIL),
            "latest",
            5,
            id="S2 its approval ends today",
        ),
        pytest.param(
            kept(**{"Valid Until": "soon"}),
            gather(valid_until=UNTIL),
            "latest",
            "approval-expired",
            id="S2 a date that is none",
        ),
        pytest.param(kept(), gather(valid_until=UNTIL), "latest", 5, id="S2 an approval without end"),
    ],
)
def test_admitted(found: Kept, asked: Gather, policy: str, expected: int | str) -> None:
    result = admitted(found, asked, Freshness(policy), TODAY)
    assert (result.code if isinstance(result, Withheld) else result) == expected


P = package()


def there(changed: Mapping[str, AtRepository | None] | None = None) -> dict[str, AtRepository]:
    """What the repository says of a, b and c."""
    now = {file.repository_id: AtRepository(3, True, file.sha256) for file in P.files}
    for name, told in (changed or {}).items():
        id = next(file.repository_id for file in P.files if file.shown == name)
        if told is None:
            del now[id]
        else:
            now[id] = told
    return now


A = P.files[0]


@pytest.mark.parametrize(
    ("changed", "latest", "pinned"),
    [
        pytest.param({}, None, None, id="nothing changed"),
        pytest.param({"a.csv": AtRepository(4, True, A.sha256)}, "superseded", None, id="14 a newer version"),
        pytest.param(
            {"a.csv": AtRepository(3, False, A.sha256)}, "no-longer-admitted", None, id="14 its approval was withdrawn"
        ),
        pytest.param(
            {"a.csv": AtRepository(3, True, "0" * 64)},
            "bytes-changed",
            "bytes-changed",
            id="13 other bytes under the approved version",
        ),
        pytest.param(
            {"a.csv": AtRepository(4, True, "0" * 64)},
            "bytes-changed",
            "bytes-changed",
            id="13 other bytes, and a newer version",
        ),
        pytest.param({"a.csv": AtRepository(3)}, None, None, id="13 bytes that were not read again"),
        pytest.param({"a.csv": AtRepository(2)}, "version-gone", "version-gone", id="the version was purged"),
        pytest.param({"a.csv": None}, "document-gone", "document-gone", id="the document is gone"),
    ],
)
def test_14_freshness(changed: dict[str, AtRepository | None], latest: str | None, pinned: str | None) -> None:
    for policy, expected in (("latest", latest), ("pinned", pinned)):
        under = terms(freshness=policy)
        result = freshness(P, there(changed), under, destinations=(PLACE,), frozen=POLICIES, policies=POLICIES)
        assert (result.code if isinstance(result, Voided) else None) == expected, policy


def test_f2_a_void_package_says_by_what_it_is_superseded() -> None:
    now = there({"a.csv": AtRepository(4)})
    result = freshness(P, now, terms(), destinations=(PLACE,), frozen=POLICIES, policies=POLICIES)
    assert isinstance(result, Voided)
    assert result.reason == "a.csv is superseded by v4"


def test_s6_one_changed_of_twelve_voids_the_whole_kit() -> None:
    kit = package(*(document(f"{n}.pdf") for n in range(12)))
    now = {file.repository_id: AtRepository(4 if file.shown == "7.pdf" else 3) for file in kit.files}
    result = freshness(kit, now, terms(), destinations=(PLACE,), frozen=POLICIES, policies=POLICIES)
    assert isinstance(result, Voided)


@pytest.mark.parametrize("policy", ["latest", "pinned"])
@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param({"destinations": (replace(PLACE, host="evil.example"),)}, "destinations-changed", id="another host"),
        pytest.param({"destinations": (replace(PLACE, key_fingerprint="SHA256:x"),)}, "destinations-changed", id="another key"),
        pytest.param({"destinations": ()}, "destinations-changed", id="no destination"),
        pytest.param({"policies": replace(POLICIES, profile="0" * 64)}, "policy-changed", id="33 an edited profile"),
        pytest.param({"policies": replace(POLICIES, terms="0" * 64)}, "policy-changed", id="edited terms"),
        pytest.param({"policies": replace(POLICIES, people="0" * 64)}, None, id="31 an edited people file: asked of each vote"),
        pytest.param(
            {"frozen": replace(POLICIES, people="0" * 64)}, "policy-unknown", id="policies that are not the package's"
        ),
    ],
)
def test_changed_destinations_or_policy_void_under_both(policy: str, told: dict[str, Any], expected: str | None) -> None:
    given: dict[str, Any] = {"destinations": (PLACE,), "frozen": POLICIES, "policies": POLICIES, **told}
    result = freshness(P, there(), terms(freshness=policy), **given)
    assert (result.code if isinstance(result, Voided) else None) == expected
    assert isinstance(result, Fresh) is (expected is None)


def test_policies_kept_beside_cannot_be_made_up() -> None:
    made_up = Policies("7" * 64, "8" * 64, "9" * 64)
    result = freshness(P, there(), terms(), destinations=(PLACE,), frozen=made_up, policies=made_up)
    assert isinstance(result, Voided)


# ------------------------------------------------------------------------------------------ names at the partner


def place(**told: Any) -> DestinationTerms:
    return DestinationTerms.model_validate({"endpoint": "drop", "folder": "/in", **told})


def laid(of: Package, **told: Any) -> Layout | Refusal:
    return layout(of, of.files, place(**told))


def test_names_are_made_of_the_package_and_the_terms() -> None:
    told = {
        "name": "{stem}_v{version}.{extension}",
        "sidecar": "{name}.sha256",
        "manifest": "{order}.json",
        "done_file": "{order}.done",
    }
    result = laid(P, **told)
    assert isinstance(result, Layout)
    assert [name for _, name in result.documents] == [b"a_v3.csv", b"b_v3.csv", b"c_v3.csv"]
    assert result.sidecars[0][1] == b"a_v3.csv.sha256"
    assert (result.manifest, result.done_file) == (b"2026-11-20.json", b"2026-11-20.done")
    listed = json.loads(manifest(P, result.documents))
    assert listed["package"] == P.digest
    assert [one["name"] for one in listed["files"]] == ["a_v3.csv", "b_v3.csv", "c_v3.csv"]


@pytest.mark.parametrize(
    ("of", "told", "code"),
    [
        pytest.param(P, {"name": "all.csv"}, "names-collide", id="one name for all"),
        pytest.param(
            package(document("a"), document("a.sha256")),
            {"sidecar": "{name}.sha256"},
            "names-collide",
            id="a document named as a sidecar",
        ),
        pytest.param(
            package(document("2026-11-20.done")),
            {"done_file": "{order}.done"},
            "names-collide",
            id="a document named as the done file",
        ),
        pytest.param(package(document("../a.csv")), {}, "illegal-name", id="a name that leads out"),
        pytest.param(P, {"name": "sub/{name}"}, "illegal-name", id="a template that leads elsewhere"),
        pytest.param(package(document("a\n.csv")), {}, "illegal-name", id="25 a newline in a name"),
        pytest.param(package(document("{order}{x}.csv")), {}, None, id="a name that looks like a template"),
        pytest.param(package(document(b"M\xfcller.csv")), {}, None, id="a name that is not UTF-8"),
    ],
)
def test_names_that_cannot_be(of: Package, told: dict[str, Any], code: str | None) -> None:
    result = laid(of, **told)
    assert (result.code if isinstance(result, Refusal) else None) == code
    if isinstance(result, Layout):
        assert [name for _, name in result.documents] == [file.name for file in of.files], "names are kept to the byte"


def test_a_sidecar_is_read_by_sha256sum(tmp_path: Path) -> None:
    for name in (b"a.csv", b"M\xfcller 1.csv", b"back\\slash.csv"):
        content = b"x" + name
        (Path(str(tmp_path)) / name.decode("utf-8", "surrogateescape")).write_bytes(content)
        file = replace(document(name), sha256=hashlib.sha256(content).hexdigest())
        (tmp_path / "sums").write_bytes(sidecar(file, name))
        done = subprocess.run(
            ["sha256sum", "--check", "--strict", "sums"], cwd=tmp_path, capture_output=True, timeout=300, check=False
        )
        assert done.returncode == 0, done
