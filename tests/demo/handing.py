"""The demo's business system: an ERP has made invoices, and offers them to be kept in Extended ECM, and asks for one twice."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx

from tasks.connections import ledger
from tests.demo.stage import Stage
from tests.demo.verifying import digest_of
from tests.samples.making import pdf

SYSTEM, HANDOVER = "erp", "invoices"
INVOICES = {f"INV-{number}": pdf(f"Invoice {number}") for number in (4711, 4712)}


def hand_over(here: Stage) -> None:
    """The ERP makes its invoices, and all that it offers is kept; then it asks for one by its key, and is told the same id."""
    business = here.services["business"]
    with httpx.Client(base_url=f"{business['url']}/api", auth=(business["user"], business["password"])) as erp:
        for number, content in INVOICES.items():
            erp.put(f"/documents/{number}", content=content).raise_for_status()
            facts = {"key": number, "state": "ready", "name": f"{number}.pdf", "number": number, "customer": "ACME"}
            erp.put(f"/documents/{number}", json=facts).raise_for_status()
    asked = ("run", "handover", "--system", SYSTEM, "--stream", HANDOVER)
    here.countersign(*asked, check=False)
    here.countersign(*asked, "--document", next(iter(INVOICES)), check=False)


def unkept(here: Stage) -> list[str]:
    """What is not as it must be, in words: each invoice is kept once, byte for byte, and the ERP knows where."""
    business = here.services["business"]
    kept = ledger().search(partner=SYSTEM, stream=HANDOVER)
    problems = [] if len(kept) == len(INVOICES) else [f"{len(kept)} invoices of the ERP are kept, {len(INVOICES)} should be"]
    with httpx.Client(base_url=f"{business['url']}/api", auth=(business["user"], business["password"])) as erp:
        for one in kept:
            number, content = str(one.name), INVOICES.get(str(one.name), b"")
            if digest_of(str(one.repository), str(one.repository_id)) != hashlib.sha256(content).hexdigest():
                problems.append(f"{number}: the repository holds other bytes")
            told: dict[str, Any] = erp.get(f"/filed-invoices/{number}").json()
            if told.get("kept_as") != one.repository_id:
                problems.append(f"{number}: the ERP was told {told}, and it is kept as {one.repository_id}")
    return problems
