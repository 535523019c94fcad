"""``release-many``: 2,000 documents of 4 KiB to one SFTP partner, once they are signed off, beside ``lftp`` put of the same files.

Everything is real: a Prefect server, the flow ``release`` in Prefect's engine, the sender as a process of its own, OpenSSH as the
partner, a folder as the repository of the documents. All of it is on loopback, in memory where there is room.

**Our clock** is the ledger's. It starts when the vote that completes the sign-off is recorded (``answered``), and stops when the ledger
says ``delivered``. What lies between is counted, all of it: every document is looked at and read again in the repository and in
the spool; the sender checks seals, policy and freshness, copies the bytes where nobody else writes and hashes them, writes down what
it is about to do, signs in at the partner, uploads all under temporary names, hashes what it sends, reads every byte back, looks for
names that are taken, renames a few at a time with each intent on record before, looks once more, and tells the worker. Not
counted: gathering and asking before (then the run waits for people), certificate and transmission record afterwards. The sender is
warm, as it is in production.

**Theirs** starts with the program and ends with it: sign in, and put each file under a temporary name that is renamed. It only copies.
The goal speaks of ``put``, which has one connection; ``mirror`` with eight of them is shown.
"""

from __future__ import annotations

import gc
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from blocks.ledger import Entry, Ledger, Recorded
from blocks.values import Proof
from deployments.sender.store import Step
from tests.bench.copying import roomy
from tests.bench.cost import Cost, Watch
from tests.bench.peers.copying import Lftp, LftpPut
from tests.bench.race import Contender, Failed, Goal, Outcome, race
from tests.release_world import Release, ReleaseWorld, installed
from tests.servers.openssh import OpenSsh, openssh_server
from tests.servers.prefect import UNUSED, PrefectServer, serve

FILES, SIZE, AT_ONCE = 2000, 4096, 8
NO_ECM = {"service": "extended-ecm", "url": "http://127.0.0.1:1", "user": "nobody", "password": "none"}
"""The world names one in its profiles; nothing here asks it."""


def main(rounds: int, *, name: str = "release-many", scale: float = 1.0) -> Outcome:
    files = max(2, int(FILES * scale))
    without = {f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false" for service in UNUSED}
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=roomy(20 * files * SIZE)) as scratch,
        openssh_server(Path(scratch) / "server") as ssh,
        serve(Path(scratch) / "prefect", **without) as prefect,
    ):
        return run(Path(scratch), ssh, prefect, files, rounds, name)


def run(base: Path, ssh: OpenSsh, prefect: PrefectServer, files: int, rounds: int, name: str = "release-many") -> Outcome:
    """Both of them on one server. Raises ``Failed`` if a byte of ours was wrong."""
    numbers = random.Random(files)
    documents = {f"prices_{number:05d}.csv": numbers.randbytes(SIZE) for number in range(files)}
    with installed(base / "home", ssh, NO_ECM, prefect) as world:
        gather = {"repository": "shelf", "folder": "Outbox/{order}", "most_files": 10_000}
        evidence = {"repository": "shelf", "folder": "Evidence/{order}"}
        world.agree(many=world.terms(gather=gather, evidence=evidence))
        with world.sender(timed=True) as sender:
            ours = Contender("ours", lambda: _ours(world, documents, prefect))
            return race(
                name,
                f"{files:,} x {SIZE // 1024} KiB to one SFTP partner, from sign-off to 'delivered'",
                ours,
                [
                    _lftp(LftpPut, "put", base, ssh, documents),
                    _lftp(Lftp, f"mirror, {AT_ONCE} connections", base, ssh, documents, counts=False),
                ],
                rounds=rounds,
                goal=Goal(2),
                processes=[sender.pid],
            )


def _ours(world: ReleaseWorld, documents: Mapping[str, bytes], prefect: PrefectServer) -> Cost:
    """By the ledger's clock, and so is the CPU."""
    approver = world.newcomer()
    release = Release(world, "many", f"o-{uuid4().hex[:8]}")
    for name, content in documents.items():
        world.shelve(release.id, name, content)
    (world.remote / release.id).mkdir()
    assert release.start() is None, "it waits for its sign-off"
    gc.collect()
    gc.freeze()  # what goes on is a fork of its own with a worker: it searches nothing for garbage that was there before
    began, watch = time.time(), Watch([prefect.process.pid])
    with _between("answered", "delivered", watch):
        state = release.sign(approver)
    if state is None or state.name != "Delivered" or release.received != documents:
        raise Failed(f"it ended as {state and state.name}, or other bytes stand at the partner")
    at = {entry.kind: entry.at.timestamp() for entry in release.history}
    _tell(
        {
            "signed": began,
            **{kind: at[kind] for kind in ("answered", "sending")},
            **_steps(world, began),
            "delivered": at["delivered"],
            "closed": at["closed"],
        }
    )
    shutil.rmtree(world.remote / release.id)
    return replace(watch.cost, seconds=at["delivered"] - at["answered"])


@contextmanager
def _between(first: str, last: str, watch: Watch) -> Iterator[None]:
    """Watch from the writing of one kind of entry until another is written."""
    append = Ledger.append

    def watched(self: Ledger, entries: Sequence[Entry], *about: Any, **more: Any) -> list[Recorded]:
        kinds = {entry.kind for entry in entries}
        if first in kinds:
            watch.begin()
        recorded = append(self, entries, *about, **more)
        if last in kinds:
            watch.end()
        return recorded

    with patch.object(Ledger, "append", watched):
        yield


def _steps(world: ReleaseWorld, since: float) -> dict[str, float]:
    """When the sender had each step of all files on record; the last time of each counts."""
    (log,) = world.home.glob("sender-*.log")
    ends: dict[str, float] = {}
    for moment, step, proof in re.findall(r"^timed (\S+) (\S+) (.*)$", log.read_text(), re.MULTILINE):
        if float(moment) >= since:
            ends["read back" if (step, proof) == (Step.UPLOADED, Proof.READ_BACK) else step] = float(moment)
    return {step: ends[step] for step in (Step.INTENDED, Step.UPLOADED, "read back", Step.PLACED, Step.PROVEN)}


def _tell(ends: Mapping[str, float]) -> None:
    """How our time divides."""
    spans = (f"{after} +{ends[after] - ends[before]:.2f} s" for before, after in pairwise(ends))
    print(f"where our time goes: {', '.join(spans)}", file=sys.stderr)


def _lftp(
    kind: type[Lftp], how: str, base: Path, ssh: OpenSsh, documents: Mapping[str, bytes], *, counts: bool = True
) -> Contender:
    if missing := kind.lacks(ssh):
        return Contender(f"lftp {how}", None, missing, counts=counts)
    return Contender(f"{kind.version()} {how}", lambda: _theirs(kind, base, ssh, documents), counts=counts)


def _theirs(kind: type[Lftp], base: Path, ssh: OpenSsh, documents: Mapping[str, bytes]) -> Cost:
    source, place, scratch = base / "source", ssh.root / "put", base / "lftp"
    for folder in (source, place, scratch):
        folder.mkdir()
    try:
        for name, content in documents.items():
            (source / name).write_bytes(content)
        tool = kind(ssh, scratch, AT_ONCE)
        with Watch() as watch:
            tool.put(source, str(place))
        if {path.name: path.read_bytes() for path in place.iterdir()} != documents:
            raise Failed("other bytes stand at the partner")
        return watch.cost
    finally:
        for folder in (source, place, scratch):
            shutil.rmtree(folder)
