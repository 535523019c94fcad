"""Records management, asked for by OpenText's own client."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.conformance.pyxecm.environment import Pyxecm
from tests.conformance.pyxecm.wire import Wire


@pytest.fixture
def document(wire: Wire) -> int:
    return wire.document("prices.csv", b"x", wire.folder(f"records {uuid4().hex[:8]}"))


def test_a_record_and_its_token(otcs: Pyxecm, document: int) -> None:
    def class_(name: str) -> int:
        found = otcs.get_node_by_volume_and_path(volume_type=198, path=["File Plan", name])["results"]
        found = found[0] if isinstance(found, list) else found
        return int(found["data"]["properties"]["id"])

    contracts, invoices = class_("Contracts"), class_("Invoices")
    assert otcs.get_node_records_details(node_id=document)["data"] == []
    assert otcs.assign_rm_classification(node_id=document, rm_classification=contracts)
    token = otcs.get_node_records_details(node_id=document)["rm_metadataToken"]
    assert otcs.assign_rm_classification(node_id=document, rm_classification=invoices, metadata_token=token)
    assert otcs.set_node_records_details(node_id=document, metadata_token=token, status="CLOSED") is None  # stale by now
    token = otcs.get_node_records_details(node_id=document)["rm_metadataToken"]
    assert otcs.set_node_records_details(node_id=document, metadata_token=token, rsi="No such RSI") is None
    assert otcs.set_node_records_details(node_id=document, metadata_token=token, rsi="FIN-10", official=True)
    details = otcs.get_node_records_details(node_id=document)["data"][0]
    assert (details["rmclassification_id"], details["rsi"], details["official"]) == (invoices, "FIN-10", True)


def test_schedules(otcs: Pyxecm) -> None:
    asked = {"status": "ACTIVE", "status_date": "", "description": "", "subject": "Tax", "title": "Tax records"}
    made = otcs.create_records_management_rsi(name="TAX-8", dispcontrol=False, **asked)["results"]
    assert made["ok"] is True
    assert otcs.create_records_management_rsi(name="tax-8", dispcontrol=False, **asked) is None
    assert "already exists" in " ".join(otcs.log)
    stage = otcs.create_records_management_rsi_schedule(
        rsi_id=made["id"], stage="FINAL", retention_years=8, action_code=32, date_to_use=95
    )
    assert stage["results"]["ok"] is True
    [found] = [line for line in otcs.get_records_management_rsis() if line["RSI"] == "TAX-8"]
    assert (found["RSIID"], found["RetYears"], found["ActionCode"], found["Title"]) == (made["id"], 8, "32", "Tax records")
    assert [line["rsi"] for line in otcs.search_records_management_rsis(querystring="TAX")] == ["TAX-8"]
    assert otcs.get_records_management_codes()["essential"]


def test_holds(otcs: Pyxecm, wire: Wire, document: int) -> None:
    before = wire.stats().get("POST /v1/holds", 0)
    hold = otcs.create_records_management_hold(hold_type="Legal", name="Miller", comment="Miller ./. ACME")["holdID"]
    assert wire.stats()["POST /v1/holds"] == before + 1  # it repeats a post whose answer is empty
    assert otcs.create_records_management_hold(hold_type="Legal", name="miller", comment="") is None
    assert otcs.get_hold_by_name(holdname="Miller")["results"]["data"]["hold"]["HoldID"] == hold
    listed = otcs.get_records_management_holds()["results"]["data"]["holds"]
    assert [(line["HoldName"], line["HoldComment"]) for line in listed if line["HoldID"] == hold] == [
        ("Miller", "Miller ./. ACME")
    ]
    assert otcs.assign_hold(node_id=document, hold_id=hold)
    assert otcs.delete_node(node_id=document) is None
    assert "is on hold" in " ".join(otcs.log)
    assert otcs.purge_document_versions(node_id=document, versions_to_keep=1) is None
    assert otcs.get_node(node_id=document)
