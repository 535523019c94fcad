"""Sidecars: what a small JSON file tells about the files it came with, and what is no fact."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pydantic import ValidationError

from blocks.values import Inbound
from tasks.rules.sidecar import LARGEST_BYTES, ODD, UNREADABLE, WITHOUT, is_sidecar, read, to_come

FACTS = {"sku": {"at": "product.sku", "matches": r"[A-Z0-9-]+"}, "campaign": {"at": "campaign"}}
TERMS: dict[str, Any] = {
    "endpoint": "drop",
    "folder": "/out",
    "classify": [{"pattern": r".*\.tif", "doctype": "product-image"}, {"pattern": r".*\.json", "doctype": "sidecar"}],
    "triage": ["sku", "campaign"],
    "sets": {
        "pattern": r"(?P<set>IMG_\d+)\..*",
        "files": ["{set}.tif"],
        "sidecar": {"name": "{set}.json", "facts": FACTS},
    },
    "target": {"repository": "kept", "folder": "Media", "name": "{sku}.{extension}"},
}
STREAM = Inbound.model_validate(TERMS)


def sidecar(sku: Any = "A-77", campaign: Any = "Spring") -> bytes:
    return json.dumps({"product": {"sku": sku}, "campaign": campaign}).encode()


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        pytest.param(sidecar(), {"sku": "A-77", "campaign": "Spring"}, id="as agreed"),
        pytest.param(b'{"product": {"sku": 0.50e1}, "campaign": 12}', None, id="a number is the text that it is written as"),
        pytest.param(b'{"product": {"sku": 4711}, "campaign": 12}', {"sku": "4711", "campaign": "12"}, id="numbers"),
        pytest.param(b"\xef\xbb\xbf" + sidecar(), {"sku": "A-77", "campaign": "Spring"}, id="with a byte order mark"),
        pytest.param(sidecar(campaign="Frühling & Co"), {"sku": "A-77", "campaign": "Frühling & Co"}, id="other letters"),
    ],
)
def test_a_sidecar_tells_facts(content: bytes, facts: dict[str, str] | None) -> None:
    found, findings = read(content, STREAM)
    assert found == (facts or {})
    assert [one.code for one in findings] == ([] if facts else [ODD])


@pytest.mark.parametrize(
    ("content", "code", "why"),
    [
        pytest.param(b"{", UNREADABLE, "Expecting property name", id="half a file"),
        pytest.param(b"\xff\xfe{\x00}\x00", UNREADABLE, "can't decode", id="UTF-16"),
        pytest.param(b"[]", UNREADABLE, "no JSON object", id="a list"),
        pytest.param(b'{"campaign": "a", "campaign": "b"}', UNREADABLE, "twice", id="a key twice"),
        pytest.param(b'{"a":' * 9000 + b"1" + b"}" * 9000, UNREADABLE, "too deep|larger", id="nested without end"),
        pytest.param(b" " * LARGEST_BYTES + b"{}", UNREADABLE, "larger than", id="too large"),
        pytest.param(sidecar(sku=""), WITHOUT, "tells no sku", id="empty"),
        pytest.param(sidecar(sku="  "), WITHOUT, "tells no sku", id="blanks"),
        pytest.param(sidecar(sku=None), WITHOUT, "tells no sku", id="null"),
        pytest.param(b'{"product": "A-77", "campaign": "a"}', WITHOUT, "tells no sku", id="not where it was agreed"),
        pytest.param(sidecar(sku="tbd"), ODD, "not as agreed", id="not as agreed"),
        pytest.param(sidecar(sku=["A-77"]), ODD, "neither a text nor a number", id="a list instead of a text"),
        pytest.param(sidecar(sku=True), ODD, "neither a text nor a number", id="true"),
        pytest.param(sidecar(campaign="../../etc/passwd"), ODD, "leads out of the folder", id="a path up"),
        pytest.param(sidecar(campaign="/etc/passwd"), ODD, "an absolute path", id="a path from the root"),
        pytest.param(sidecar(campaign="a\\b"), ODD, "a path separator", id="a path of Windows"),
        pytest.param(sidecar(campaign="a\nb"), ODD, "cannot be seen", id="two lines"),
        pytest.param(sidecar(campaign="gpj\u202efdp"), ODD, "cannot be seen", id="reads as another word"),
        pytest.param(sidecar(campaign="x" * 201), ODD, "longer than", id="too long"),
        pytest.param(sidecar(campaign="\ud800"), ODD, "cannot be seen", id="half a character"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_counts(content: bytes, code: str, why: str) -> None:
    found, findings = read(content, STREAM)
    assert found == {}, "also the other fact, which was good"
    assert [one.code for one in findings] == [code]
    assert re.search(why, findings[0].message), findings[0].message


def test_names_say_what_is_a_sidecar_and_who_waits_for_one() -> None:
    assert is_sidecar(b"IMG_1.json", STREAM) and not is_sidecar(b"IMG_1.tif", STREAM) and not is_sidecar(b"x.json", STREAM)
    assert to_come(b"IMG_1.tif", {"sku": "A"}, STREAM) == {"campaign"}
    assert to_come(b"IMG_1.json", {}, STREAM) == to_come(b"x.tif", {}, STREAM) == frozenset()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        pytest.param({"triage": ["sku"]}, "'triage' lacks campaign", id="nobody could tell it"),
        pytest.param(
            {"sets": {**TERMS["sets"], "sidecar": {"name": "a.json", "facts": FACTS}}}, "{set}", id="one for all sets"
        ),
        pytest.param(
            {"sets": {**TERMS["sets"], "sidecar": {"name": "{set}.tif", "facts": FACTS}}}, "they differ", id="it is the file"
        ),
        pytest.param(
            {"sets": {**TERMS["sets"], "sidecar": {"name": "{set}.json", "facts": {"sku": {"at": "a", "matches": "("}}}}},
            "regular expression",
            id="no expression",
        ),
    ],
)
def test_terms_that_mean_nothing_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Inbound.model_validate({**TERMS, **changes})
