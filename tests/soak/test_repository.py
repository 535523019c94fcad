"""Very many and very large documents in Extended ECM: calls that do not grow with a folder, memory that does not grow with a file."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.repositories.otcs_names import PAGE
from blocks.spool import Spool
from blocks.values import Filed
from tests.conformance.repositories.crowd import counted, work
from tests.conformance.repositories.enrolment import PASSWORD, block
from tests.conformance.repositories.writes.bench import benched
from tests.sandbox import ROOT, sandbox

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3000)]

MIB = 1024**2
MOST_MIB = 150


def test_twenty_thousand_documents_in_one_folder(tmp_path: Path) -> None:
    count = 20_000
    with benched(tmp_path, {}) as bench:
        folder = bench.unique("Crowd")
        one = bench.filing("order.csv", folder, b"x")
        names = ["order.csv", *(f"{number} order.csv" for number in range(1, count))]
        filings = (replace(one, journey=f"crowd {name}", name=name) for name in names)
        with counted(bench) as asked:
            assert sum(isinstance(answer, Filed) for answer in bench.session.file(filings)) == count
        assert asked.total() <= count + 20, asked
        with counted(bench) as asked:
            assert len({kept.id for kept in bench.session.look((folder,))}) == count
        assert asked.total() <= count // PAGE + 3, asked
        costs = work(bench, folder)
        assert costs["file ten"] <= 12 and costs["a taken name"] <= 6 and costs["find three"] <= 12, costs
        with counted(bench) as asked:
            assert sum(1 for _ in bench.session.search(name="new 7")) == 1
            assert bench.session.find((folder,), "19999 order.csv")
        assert asked.total() <= 6, asked
        with Spool(tmp_path / "spool", floor_bytes=0).batch() as batch:
            found = bench.session.find((folder,), "12345 order.csv")
            assert found and bench.session.fetch(found.id, None, batch).digest == one.digest


ROUND_TRIP = """
import json, re, sys
from pathlib import Path
from blocks.repositories.extended_ecm import ExtendedEcm
from blocks.spool import Spool
from blocks.values import Filing

asked = json.loads(sys.argv[1])
repository = ExtendedEcm(url=asked["url"], username="Admin", password="env:" + asked["password"])
with repository.session() as session:
    source = Path(asked["source"])
    filing = Filing("large", "large.bin", ("large",), source, asked["digest"], asked["size"], "application/octet-stream")
    [filed] = session.file([filing])
    with Spool(Path(asked["spool"]), floor_bytes=0).batch() as batch:
        spooled = session.fetch(filed.id, None, batch)
# Not ru_maxrss: that begins with what the process which started us had.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
print(json.dumps({"digest": spooled.digest, "size": spooled.size, "peak_mib": peak}))
"""


@pytest.mark.parametrize("in_parts", [True, False], ids=["in parts", "in one piece"])
def test_a_gibibyte_up_and_down_in_bounded_memory(tmp_path: Path, in_parts: bool) -> None:
    size, digest, block_ = 1024 * MIB, hashlib.sha256(), os.urandom(MIB)
    source = tmp_path / "large.bin"
    with source.open("wb") as file:
        for number in range(size // MIB):
            piece = number.to_bytes(8, "big") + block_[8:]  # no part is like another: swapped ones would show
            file.write(piece)
            digest.update(piece)
    config = tmp_path / "seed.json"
    config.write_text(json.dumps({"large_upload": {"is_enabled": in_parts}}))
    with sandbox("extended-ecm", data=tmp_path / "ecm", options=("--config", str(config))) as services:
        service = services["extended-ecm"]
        block(service)  # puts the password into the environment
        asked = {
            "url": service["url"],
            "password": PASSWORD,
            "source": str(source),
            "size": size,
            "digest": digest.hexdigest(),
            "spool": str(tmp_path / "spool"),
        }
        command = [sys.executable, "-c", ROUND_TRIP, json.dumps(asked)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=2000, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    print(f"peak {told['peak_mib']:.0f} MiB")
    assert (told["digest"], told["size"]) == (digest.hexdigest(), size)
    assert told["peak_mib"] < MOST_MIB, told
