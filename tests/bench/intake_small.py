"""``intake-small``: 1,000 CSV of 4 KiB from OpenSSH into the Extended ECM sandbox.

Ours does a whole flow run: look, fetch, hash, name, structure and every row checked, filed with category values, ledger, original
removed. Warm is a call in a process that has everything imported; cold is ``countersign run intake --local`` as a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.peers import lftp_curl
from tests.bench.race import Contender, Outcome, race
from tests.sandbox import sandbox
from tests.servers.openssh import OpenSsh, openssh_server
from tests.servers.prefect import serve

FILES, SIZE = 1000, 4096


def content(number: int) -> bytes:
    """A good price list of just 4 KiB; every number gives other bytes."""
    text = "sku,description,currency,price,valid_from\n"
    row = 0
    while True:
        line = f"{number:05d}{row:05d},Bolt M{row},EUR,{row + 1}.50,2026-12-01\n"
        if len(text) + len(line) > SIZE - 60:
            break
        text, row = text + line, row + 1
    last = f"{number:05d}{row:05d},,EUR,1.50,2026-12-01\n"
    return text.encode() + last.replace(",,", f",{'x' * (SIZE - len(text) - len(last))},").encode()


def fill(folder: Path, first: int, count: int) -> dict[str, bytes]:
    files = {f"prices_{first + number:06d}.csv": content(first + number) for number in range(count)}
    for name, data in files.items():
        assert len(data) == SIZE
        (folder / name).write_bytes(data)
    return files


def main(rounds: int, *, name: str = "intake-small", scale: float = 1.0) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        base = Path(scratch)
        with (
            openssh_server(base / "ssh") as server,
            sandbox("extended-ecm", data=base / "ecm") as services,
            serve(base / "prefect") as prefect,
        ):
            return Bench(base, server, services["extended-ecm"], dict(prefect.env), max(2, int(FILES * scale))).run(rounds)


class Bench:
    def __init__(self, base: Path, server: OpenSsh, ecm: dict[str, str], prefect: dict[str, str], count: int) -> None:
        self.base, self.server, self.ecm, self.count = base, server, ecm, count
        self.out = server.root / "out"
        self.out.mkdir()
        self.first = 1
        os.environ.update(prefect)
        os.environ.update(
            {
                "COUNTERSIGN_HOME": str(base / "home"),
                "COUNTERSIGN_PROFILES": str(base / "profiles"),
                "COUNTERSIGN_SPOOL_FLOOR_BYTES": "0",
                "ECM_PASSWORD": ecm["password"],
                "PREFECT_LOGGING_LEVEL": "WARNING",
            }
        )
        write_profiles(base / "profiles", server, self.out, ecm)
        self.theirs = self.folders()

    def run(self, rounds: int) -> Outcome:
        from flows.intake import intake

        def warm() -> None:
            state = intake("acme", "price-lists", return_state=True, patience_seconds=1)
            assert state.name == "Filed", state

        def cold() -> None:
            command = [sys.executable, "-m", "deployments.cli", "run", "intake", "--partner", "acme", "--stream", "price-lists"]
            done = subprocess.run([*command, "--local"], timeout=300, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr

        def peer() -> None:
            lftp_curl.intake(self.server, self.out, self.ecm, self.theirs, self.base / "peer")

        self.timed(warm)  # once uncounted: connections, schema, imports
        ours = Contender("ours", lambda: self.timed(warm), cold=lambda: self.timed(cold))
        theirs = [Contender("lftp+curl", lambda: self.timed(peer))]
        outcome = race("intake-small", f"{self.count:,} x 4 KiB", ours, theirs, rounds=rounds)
        self.where_the_time_goes()
        return outcome

    def timed(self, work: Callable[[], None]) -> float:
        files = fill(self.out, self.first, self.count)
        self.first += self.count
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
        self.verify(files)
        return seconds

    def verify(self, files: dict[str, bytes]) -> None:
        """Every byte of every file is in the repository, and none is left at the source."""
        assert not list(self.out.iterdir())
        from blocks.profile import load_repositories
        from blocks.spool import Spool

        spool = Spool(self.base / "verify", floor_bytes=0)
        with load_repositories(self.base / "profiles")["ecm"].session() as session, spool.batch() as batch:
            found = {kept.name: kept for folder in ("Ours", "Theirs") for kept in session.look(("Bench", folder))}
            digests = {name: session.fetch(found[name].id, None, batch).digest for name in files}
        for name, data in files.items():
            assert spool.path(digests[name]).read_bytes() == data

    def folders(self) -> int:
        """Make the folders Bench/Ours and Bench/Theirs; the node id of the latter, which the peer posts into."""
        import httpx

        api = f"{self.ecm['url']}/api"
        signed_in = httpx.post(f"{api}/v1/auth", data={"username": self.ecm["user"], "password": self.ecm["password"]})
        with httpx.Client(headers={"OTCSTicket": signed_in.json()["ticket"]}) as client:

            def made(parent: int, name: str) -> int:
                body = json.dumps({"type": 0, "parent_id": parent, "name": name})
                answer = client.post(f"{api}/v2/nodes", data={"body": body})
                return int(answer.json()["results"]["data"]["properties"]["id"])

            volume = client.get(f"{api}/v2/volumes/141").json()["results"]["data"]["properties"]["id"]
            bench = made(volume, "Bench")
            made(bench, "Ours")
            return made(bench, "Theirs")

    def where_the_time_goes(self) -> None:
        """Seconds per task of the last warm run, from Prefect's own record. Steps overlap: they add up to more than the whole."""
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs(limit=200)
            last = max((run for run in runs if run.end_time), key=lambda run: run.end_time)
            from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

            tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[last.id])), limit=200)
        spent: dict[str, float] = {}
        for task in tasks:
            name = task.task_key.partition("-")[0]
            spent[name] = spent.get(name, 0.0) + task.total_run_time.total_seconds()
        parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in sorted(spent.items(), key=lambda pair: -pair[1]))
        print(f"where the time goes (a whole run {last.total_run_time.total_seconds():.2f} s, steps overlap): {parts}")


def write_profiles(folder: Path, server: OpenSsh, out: Path, ecm: dict[str, str]) -> None:
    import yaml

    folder.mkdir()
    drop = {
        "protocol": "sftp",
        "host": server.host,
        "port": server.port,
        "username": server.username,
        "private_key": f"file:{server.private_key}",
        "host_keys": [server.fingerprint],
    }
    stream = {
        "endpoint": "drop",
        "folder": str(out),
        "settle": {"quiet": "PT0S"},
        "naming": r"prices_\d{6}\.csv",
        "classify": [{"pattern": r".*\.csv", "doctype": "price-list"}],
        "target": {
            "repository": "ecm",
            "folder": "Bench/Ours",
            "categories": {"Partner Document": {"Partner ID": "{partner}", "SHA-256": "{digest}"}},
        },
    }
    partner = {"name": "acme", "title": "ACME", "endpoints": {"drop": drop}, "streams": {"price-lists": stream}}
    (folder / "acme.yaml").write_text(yaml.safe_dump({"partner": partner}))
    repository = {"kind": "extended-ecm", "url": ecm["url"], "username": ecm["user"], "password": "env:ECM_PASSWORD"}
    (folder / "repositories.yaml").write_text(yaml.safe_dump({"repositories": {"ecm": repository}}))
