"""The sink of the intake benches holds what our own client files there, and tells what a contender did wrong."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from blocks.repositories.extended_ecm import ExtendedEcm
from blocks.values import Collision, Filed, Filing, NotFiled
from tests.bench.sink import BUFFER_BYTES, PASSWORD, Received, sink

FOLDER = ("Bench", "Ours")


def test_it_keeps_what_our_client_files_small_and_large_and_refuses_a_name_that_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SINK_PASSWORD", PASSWORD)

    def filing(name: str, size: int, journey: str) -> Filing:
        path = tmp_path / journey
        path.write_bytes(os.urandom(size))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        category = {"Partner Document": {"Partner ID": "acme", "SHA-256": digest}}
        return Filing(
            journey=journey,
            path=path,
            name=name,
            folder=FOLDER,
            media_type="text/csv",
            size=size,
            digest=digest,
            categories=category,
            collision=Collision.REFUSE,
        )

    sizes = (1, 4096, BUFFER_BYTES - 700, BUFFER_BYTES, 3 * 1024 * 1024 + 1)
    filings = [filing(f'Preise "{size}" ä.csv', size, f"journey-{size}") for size in sizes]
    with sink() as there:
        repository = ExtendedEcm(url=there.url, username=there.user, password="env:SINK_PASSWORD")
        with repository.session() as session:
            filed = list(session.file(filings))
            assert [type(answer) for answer in filed] == [Filed] * len(sizes)
            again = list(session.file([filing(filings[1].name, 4096, "another")]))
            assert [answer.code for answer in again if isinstance(answer, NotFiled)] == ["name-taken"]
            # An answer that was lost is settled by the identity that stands there.
            assert list(session.file([replace(filings[1], categories={})])) == [filed[1]]
        folder = there.folder(*FOLDER)
        assert there.received(folder) == {one.name: Received(one.size, one.digest) for one in filings}
        assert there.calls()["POST v2/nodes (file)"] == len(sizes)
        assert there.cpu_seconds() > 0
        there.forget(folder)
        assert there.received(folder) == {}

        api = f"{there.url}/api"
        body = {"body": json.dumps({"type": 144, "parent_id": folder, "name": "x"})}
        assert httpx.post(f"{api}/v2/nodes", data=body, files={"file": b"x"}).status_code == 401
        assert httpx.post(f"{api}/v1/auth", data={"username": there.user, "password": "x"}).status_code == 401
        assert there.received(folder) == {}
