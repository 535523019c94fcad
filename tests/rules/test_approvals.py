"""Which changes start an approval, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from blocks.outbound import Admission
from blocks.values import Change, Kept
from tasks.rules.approvals import asked, is_sensitive, kind_of, order_id, over

KIND = Admission(category="Pricing", attribute="Kind", values=("exception", "waiver"))
STATE = Admission(category="Pricing", attribute="State", values=("open",))


def change(event: str) -> Change:
    return Change("1", event, "7", "ann@example.com", None)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("Create", "upload"),
        ("Restore", "upload"),
        ("Move", "upload"),
        ("Rename", "modify"),
        ("Add Version", "modify"),
        ("Share", "share"),
        ("Link", "share"),
        ("Download", None),
        ("Unshare", None),
        ("Delete", None),
        ("create", None),
    ],
)
def test_kind_of(event: str, kind: str | None) -> None:
    every = ("upload", "modify", "share")
    assert kind_of(change(event), every) == kind
    assert kind_of(change(event), [one for one in every if one != kind]) is None


def kept(name: str = "exception-7.csv", *, container: bool = False, **values: Any) -> Kept:
    return Kept("7", name, container, 3, 1, "text/csv", None, categories={"Pricing": values})


@pytest.mark.parametrize(
    ("document", "patterns", "having", "expected"),
    [
        pytest.param(kept(), ["*"], [], True, id="any document"),
        pytest.param(kept(), ["list-*", "exception-*"], [], True, id="one of several patterns"),
        pytest.param(kept("Exception-7.csv"), ["exception-*"], [], False, id="case counts"),
        pytest.param(kept(container=True), ["*"], [], False, id="a folder"),
        pytest.param(kept(Kind="waiver"), ["*"], [KIND], True, id="one of the values"),
        pytest.param(kept(Kind=["list", "waiver"]), ["*"], [KIND], True, id="it has several"),
        pytest.param(kept(Kind="list"), ["*"], [KIND], False, id="another value"),
        pytest.param(kept(), ["*"], [KIND], False, id="no value"),
        pytest.param(kept(Kind="waiver", State="open"), ["*"], [KIND, STATE], True, id="all of them"),
        pytest.param(kept(Kind="waiver", State="shut"), ["*"], [KIND, STATE], False, id="not all of them"),
        pytest.param(kept(Kind="waiver"), ["list-*"], [KIND], False, id="the value and another name"),
    ],
)
def test_is_sensitive(document: Kept, patterns: list[str], having: list[Admission], expected: bool) -> None:
    assert is_sensitive(document, patterns, having) is expected


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("4711", "pricing-4711-v3"),
        ("a" * 24, f"pricing-{'a' * 24}-v3"),
        ("a" * 25, "pricing-2f521e2a7d0bd812-v3"),
        ("Outbox/x.csv", "pricing-08ea8637355366e3-v3"),
    ],
)
def test_an_orders_id_is_short_and_plain_whatever_the_document_is_called(document: str, expected: str) -> None:
    assert order_id("pricing", document, 3, 0) == expected
    assert order_id("pricing", document, 3, 2) == f"{expected}.2"


@pytest.mark.parametrize(
    ("state", "digest", "by", "expected"),
    [
        ("Delivered", "ab12", ["ann", "bea"], "approved. Signed by ann, bea. SHA-256 ab12. Order o-1."),
        ("Delivered, record waits", "ab12", ["ann"], "approved. Signed by ann. SHA-256 ab12. Order o-1."),
        ("Rejected", "ab12", [], "rejected. SHA-256 ab12. Order o-1."),
        ("Voided: x.csv is superseded by v4", "", [], "voided: x.csv is superseded by v4. Order o-1."),
    ],
)
def test_over(state: str, digest: str, by: list[str], expected: str) -> None:
    assert over(3, "o-1", state, digest, by) == f"Approval of version 3: {expected}"


def test_asked_shows_a_name_harmlessly() -> None:
    told = "Approval of version 3: pending. Asked as order o-1, because of: share by ann\\x0a."
    assert asked(3, "o-1", "share", "ann\n") == told
