"""Kits: which document fills which slot, what is said of one that is not whole, and what the sender asks of a package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from blocks.outbound import Outbound, Package, PackageFile, Redelivery
from blocks.values import Kept
from tasks.rules.kits import Filled, fill_slots, not_the_kit
from tasks.rules.packing import Withheld, manifest
from tests.rules.signoff.world import document, package, terms

REGION = {"category": "Product", "attribute": "Region", "values": ["EU"]}
KITS: dict[str, Any] = {
    "standard": {
        "slots": {
            "offer": {"pattern": "offer-*.pdf"},
            "terms": {"pattern": "terms-*.pdf"},
            "leaflet": {"pattern": "leaflet*.pdf", "required": False},
        }
    },
    "customer-7": {"like": "standard", "slots": {"terms": {"pattern": "terms-de-*.pdf"}, "safety": {"value": REGION}}},
}


def kits(told: Mapping[str, Any] = KITS, **changed: Any) -> Outbound:
    return Outbound.model_validate({**terms().model_dump(), "kits": told, **changed})


def kept(name: str, **values: Any) -> Kept:
    return Kept(f"id-{name}", name, False, 10, 1, "application/pdf", None, categories={"Product": values})


WHOLE = (kept("offer-1.pdf"), kept("terms-de-1.pdf"), kept("sheet.pdf", Region="EU"))


def filled(*found: Kept, kit: str = "customer-7", withheld: tuple[Withheld, ...] = ()) -> Filled:
    return fill_slots(kit, kits(), found, withheld)


def test_each_document_fills_its_slot_and_a_customers_own_slots_go_before_the_shared_ones() -> None:
    told = filled(*WHOLE, kept("leaflet.pdf"))
    assert told == Filled(
        {
            "id-offer-1.pdf": ("offer", False),
            "id-terms-de-1.pdf": ("terms", False),
            "id-sheet.pdf": ("safety", False),
            "id-leaflet.pdf": ("leaflet", True),
        }
    )
    assert filled(kept("offer-1.pdf"), kept("terms-us-1.pdf"), kit="standard").problem == ""


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        pytest.param(
            WHOLE[:2],
            "Kit customer-7: slot 'safety' is empty: a document with Product / Region = EU is wanted.",
            id="an empty slot is named with what would fill it",
        ),
        pytest.param(
            (*WHOLE[:1], *WHOLE[2:], kept("terms-us-1.pdf")),
            "Kit customer-7: slot 'terms' is empty: a document named 'terms-de-*.pdf' is wanted.",
            id="another customer's document does not fill it",
        ),
        pytest.param(
            (*WHOLE, kept("offer-2.pdf")),
            "Kit customer-7: 2 documents fit slot 'offer', which takes one: offer-1.pdf, offer-2.pdf.",
            id="two for one slot are both named",
        ),
        pytest.param(
            (*WHOLE, kept("leaflet.pdf"), kept("leaflet-2.pdf")),
            "Kit customer-7: 2 documents fit slot 'leaflet', which takes one: leaflet-2.pdf, leaflet.pdf.",
            id="also for one that may stay empty",
        ),
        pytest.param(
            (*WHOLE[:2], kept("leaflet.pdf", Region="EU")),
            "Kit customer-7: leaflet.pdf fits more than one slot (leaflet, safety): the stream's terms must tell them apart.",
            id="one for two slots",
        ),
    ],
)
def test_a_kit_that_is_not_whole_or_not_clear_is_no_package(found: tuple[Kept, ...], problem: str) -> None:
    assert filled(*found).problem == problem


def test_a_document_that_is_there_and_may_not_go_is_named_at_the_slot_that_it_would_fill() -> None:
    lacking = Withheld("9", "terms-de-9.pdf", "not-admitted", "Product / Status is not Approved")
    assert "terms-de-9.pdf is withheld: Product / Status is not Approved" in filled(WHOLE[0], withheld=(lacking,)).problem


def test_a_document_that_fits_no_slot_is_told_and_stays_outside() -> None:
    told = filled(*WHOLE, kept("minutes.docx"))
    assert [(one.name, one.code) for one in told.outside] == [("minutes.docx", "no-slot")]
    assert "id-minutes.docx" not in told.slots and told.problem == ""


@pytest.mark.parametrize("kit", ["", "customer-8"])
def test_an_order_of_no_kit_of_the_stream_is_no_package(kit: str) -> None:
    assert "the stream has standard, customer-7: order it anew" in filled(*WHOLE, kit=kit).problem


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        pytest.param({"kits": {"a": {"slots": {"x": {}}}}}, "say which document belongs there", id="a slot for anything"),
        pytest.param({"kits": {"a": {"like": "b", "slots": {"x": {"pattern": "*"}}}}}, "'like' names a kit", id="like nothing"),
        pytest.param(
            {"kits": {"a": {"slots": {"x": {"pattern": "*", "required": False}}}}}, "no slot of it is required", id="nothing"
        ),
        pytest.param(
            {"kits": {}, "destinations": [{"endpoint": "drop", "folder": "/in/{kit}"}]}, "{kit} is a fact only", id="no kits"
        ),
    ],
)
def test_terms_of_kits_that_cannot_be_meant_are_refused(changed: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        kits(**changed)


def test_streams_without_kits_have_the_digest_that_they_had() -> None:
    assert "kits" not in terms().agreed and "kits" in kits().agreed


# --------------------------------------------------------------------------------------------- the package


def packed(*files: PackageFile, **changed: Any) -> Package:
    return package(*(files or KIT), **{"kit": "customer-7"} | changed)


def place(name: str, slot: str, optional: bool = False) -> PackageFile:
    return replace(document(name), slot=slot, optional=optional)


KIT = (
    place("leaflet.pdf", "leaflet", optional=True),
    place("offer-1.pdf", "offer"),
    place("sheet.pdf", "safety"),
    place("terms-de-1.pdf", "terms"),
)
LAST = Redelivery("o-1", "a" * 64, 2, "lost", "rita")


def test_the_package_names_kit_and_slots_and_reads_back() -> None:
    assert Package.parse(packed().text) == packed()
    assert packed().digest != packed(kit="standard").digest
    listed = json.loads(manifest(packed(), [(file, file.name) for file in KIT]))
    assert listed["kit"] == "customer-7" and [one["slot"] for one in listed["files"]] == ["leaflet", "offer", "safety", "terms"]


def test_only_what_is_not_required_may_be_left_out_and_makes_no_package_of_its_own() -> None:
    assert packed().choices == ("1. leaflet.pdf",)
    assert packed().remainder(["1. leaflet.pdf"]) is None
    assert package().remainder(["1. a.csv"]) == package().child(["1. a.csv"])


@pytest.mark.parametrize(
    "files",
    [
        pytest.param((place("offer-1.pdf", "offer"), document("x.pdf")), id="one without a slot"),
        pytest.param((place("offer-1.pdf", "offer"), place("offer-2.pdf", "offer")), id="two in one slot"),
    ],
)
def test_a_kit_has_one_document_in_each_slot(files: tuple[PackageFile, ...]) -> None:
    with pytest.raises(ValueError, match="slot"):
        packed(*files)
    with pytest.raises(ValueError, match="slot"):
        package(place("offer-1.pdf", "offer"))


@pytest.mark.parametrize(
    ("about", "without", "problem"),
    [
        pytest.param(packed(), (), "", id="whole"),
        pytest.param(packed(), ("leaflet",), "", id="whole without what may be left out"),
        pytest.param(packed(), ("terms",), "slot 'terms' is empty, which a document named 'terms-de-", id="not whole"),
        pytest.param(packed(*KIT[:3]), (), "kit customer-7 is not whole: slot 'terms'", id="gathered without one"),
        pytest.param(packed(kit="customer-8"), (), "has no kit 'customer-8'", id="a kit that there is not"),
        pytest.param(package(), (), "has no kit ''", id="not said to be a kit"),
        pytest.param(replace(packed(*KIT[:3]), order="o~0123456789ab"), (), "is not whole", id="said to be a remainder"),
        pytest.param(
            packed(*KIT[:3], place("terms-us-1.pdf", "terms")), (), "does not belong into slot 'terms'", id="another's document"
        ),
        pytest.param(packed(*KIT, place("x.pdf", "extra")), (), "has no slot 'extra' for x.pdf", id="one more"),
        pytest.param(
            packed(*KIT[:3], place("terms-de-1.pdf", "terms", optional=True)), (), "told as optional", id="said to be optional"
        ),
        pytest.param(packed(*KIT[:1], redelivery=LAST), (), "", id="what went as a whole may be sent again in part"),
    ],
)
def test_the_sender_lets_only_whole_kits_go(about: Package, without: tuple[str, ...], problem: str) -> None:
    told = not_the_kit(about, [file for file in about.files if file.slot not in without], kits())
    assert problem in told and bool(problem) is bool(told)


def test_where_nobody_agreed_on_kits_a_package_is_none() -> None:
    assert not_the_kit(package(), package().files, terms()) == ""
    assert "has no kit 'customer-7'" in not_the_kit(packed(), KIT, terms())
