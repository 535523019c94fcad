"""A bundle of evidence from a ledger on either database."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocks.seals import SealKey
from blocks.settings import settings
from tasks.export_evidence import chosen, export
from tasks.verify_evidence import verify_evidence
from tests.tasks.dock import dock_at, price_list


def test_what_is_exported_from_either_database_verifies(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERSIGN_LEDGER_URL", url)
    with dock_at(tmp_path / "home") as dock:
        dock.leave("a.csv", price_list(2))
        dock.leave("bad.csv", b"no,price,list\n")
        dock.run()
        assert dock.ledger.address.startswith(url.partition(":")[0])
        told = export(chosen("acme"), tmp_path / "bundle", with_bytes=True, by="anna")
        assert (told.journeys, told.documents, told.lacking) == (2, 2, [])
        key = SealKey.open(settings().keys / "seal.pem")
        checks = list(verify_evidence(tmp_path / "bundle", {key.id: key.public}, lambda claim: False))
        assert checks and [check.told for check in checks if not check.passed] == []
