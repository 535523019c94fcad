"""The demo's release: price lists go back to ACME once you have signed; or, unattended, once the API's form was filled in."""

from __future__ import annotations

import ftplib
import hashlib
import json
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pyotp
from rich.console import Console

from blocks.endpoints.ftp import Ftps
from blocks.endpoints.sftp import Sftp
from blocks.errors import EndpointError
from blocks.ledger import Recorded
from blocks.outbound import Package
from blocks.profile import load_partner, load_repositories
from blocks.settings import settings
from blocks.spool import Spool
from tasks.connections import ledger
from tests.demo.stage import DELIVERY_PASSWORD, Stage, jobs_of
from tests.samples import Sample

ORDER, REQUESTER, STREAM = "autumn-2026", "rita", "catalogue"
STEP_SECONDS = 30
LONG = 240.0
"""Seconds within which what must happen happens, also on a busy machine."""

# --------------------------------------------------------------------------------------------- signed by you


def sign_off(here: Stage, console: Console) -> None:
    """Start a release and stay: prints the codes to type while anything waits, and what became of it. Never ends by itself."""
    console.print(f"\n{REQUESTER} asks for ACME's price lists to go back to ACME, as a catalogue:\n")
    asked = ("--partner", "acme", "--stream", STREAM, "--order", ORDER, "--requester", REQUESTER)
    here.countersign("run", "release", *asked, check=False)
    told: set[str] = set()
    step = 0
    while True:
        waiting = [entries for entries in _orders() if _asked(entries) and "closed" not in _kinds(entries)]
        for entries in _orders():
            for line in _news(here, entries, told):
                console.print(line, soft_wrap=True)
            if "closed" in _kinds(entries) and _once(f"closed {entries[0].journey}", told):
                here.countersign("signoff", "show", str(entries[0].body["order"]))
                there = sorted(path.name for path in here.catalogue.iterdir())
                console.print(f"\nAt the partner, in {here.catalogue}:\n  {', '.join(there) or 'nothing'}\n", soft_wrap=True)
        if waiting and step != _step():
            step = _step()
            codes = ", ".join(f"{id}: {pyotp.TOTP(seed).now()}" for id, seed in sorted(here.seeds.items()))
            console.print(f"  codes until {datetime.fromtimestamp((step + 1) * STEP_SECONDS):%H:%M:%S}   {codes}")
        time.sleep(0.5)


def _news(here: Stage, entries: list[Recorded], told: set[str]) -> Iterator[str]:
    """What a person at the screen has to know now, once."""
    asked = _asked(entries)
    if asked is None or not _once(f"round {asked.body['key']}", told) or "closed" in _kinds(entries):
        return
    refused = next((entry.body.get("refusal") for entry in reversed(entries) if entry.kind in ("answered", "bypass")), None)
    if refused:
        yield f"\nRefused: {refused['first_line']}\nIt asks again:"
    package = _package(entries)
    others = ", ".join(id for id in sorted(here.seeds) if id != entries[0].body["requester"])
    yield (
        f"\nNothing leaves until you have signed. Open   {here.prefect_url}/runs/flow-run/{asked.body['run']}\n"
        f"Press Resume, read what would go where, and fill in (lists open at the two small arrows at their right end):\n"
        f"  decision   approve\n"
        f"  approver   who you are: {others} (not whoever asked)\n"
        f"  meaning    release\n"
        f"  package    {package.digits}\n"
        f"  proof      the code of that person from the newest line below; their phone would show it\n"
        f"Then press Submit."
    )


def _orders() -> list[list[Recorded]]:
    found = ledger().search(partner="acme", stream=STREAM, limit=1000)
    histories = ledger().journeys([one.journey for one in found]).values()
    return [entries for entries in histories if entries[0].kind == "ordered"]


def _asked(entries: list[Recorded]) -> Recorded | None:
    return next((entry for entry in reversed(entries) if entry.kind == "round"), None)


def _kinds(entries: list[Recorded]) -> list[str]:
    return [entry.kind for entry in entries]


def _package(entries: list[Recorded]) -> Package:
    return Package.parse(next(entry.body["package"] for entry in entries if entry.kind == "frozen"))


def _once(what: str, told: set[str]) -> bool:
    if what in told:
        return False
    told.add(what)
    return True


def _step() -> int:
    return int(datetime.now(UTC).timestamp()) // STEP_SECONDS


# --------------------------------------------------------------------------------------------- signed through the API


def unreleased(here: Stage, samples: list[Sample]) -> list[str]:
    """Release as a program does, with nothing but HTTP. What is not as it must be, in words; empty if all is well."""
    with httpx.Client(base_url=f"{here.prefect_url}/api/", timeout=120) as api:
        return list(_faults(here, samples, api))


def start_release(api: httpx.Client, stream: str = STREAM, order: str = ORDER) -> str:
    """Ask for the demo's release, or for another one of its partner; the run's id."""
    deployment = api.get(f"deployments/name/release/acme-{STREAM}").json()["id"]
    parameters = {"partner": "acme", "stream": stream, "order": order, "requester": REQUESTER}
    asked = {"parameters": parameters, "idempotency_key": f"order {order}"}
    return str(_post(api, f"deployments/{deployment}/create_flow_run", asked)["id"])


def until_asked(api: httpx.Client, run: str, round: int) -> str:
    """Wait until the release waits for an answer in this round; the digits to type."""
    limit = time.monotonic() + LONG
    while True:
        state = until_state(api, run, {"PAUSED", "COMPLETED", "FAILED", "CRASHED"})
        asked = [row for entries in _orders() if (row := _asked(entries)) and row.body["n"] == round]
        if state["type"] == "PAUSED" and asked:
            return _package(_orders()[0]).digits
        if state["type"] != "PAUSED" or time.monotonic() > limit:
            raise RuntimeError(f"round {round} is not asked: the run is {state['name']}, {state['message']}")
        time.sleep(0.3)


def _faults(here: Stage, samples: list[Sample], api: httpx.Client) -> Iterator[str]:
    yield from _exposed(here)
    run = start_release(api)
    state = until_state(api, run, {"PAUSED", "COMPLETED", "FAILED", "CRASHED"})
    if state["type"] != "PAUSED":
        yield f"the release does not wait for a sign-off: {state['name']}, {state['message']}"
        return
    if there := _received(here):
        yield f"before anybody signed, {', '.join(there)} stood at the partner"
    (entries,) = _orders()
    package = _package(entries)
    answer = {"decision": "approve", "meaning": "release", "package": package.digits}
    own = {**answer, "approver": REQUESTER, "proof": pyotp.TOTP(here.seeds[REQUESTER]).now()}
    if (status := answer_form(api, run, own)) != "REJECT":
        yield f"whoever asked could fill in the form: {status}"
    anna = {**answer, "approver": "anna", "proof": pyotp.TOTP(here.seeds["anna"]).now()}
    if (status := answer_form(api, run, anna)) != "ACCEPT":
        yield f"anna's answer was not taken: {status}"
        return
    state = until_state(api, run, {"COMPLETED", "FAILED", "CRASHED"})
    if state["name"] != "Delivered":
        yield f"the signed release ended as {state['name']}, {state['message']}"
        return
    here.countersign("signoff", "show", ORDER)
    yield from _misplaced(here, samples)
    yield from _unproven(here, package)
    yield from _not_asked_again(here, api, package)
    yield from _not_collected(here, api)
    ledger().verify()


def _run(api: httpx.Client, deployment: str, **parameters: str) -> dict[str, Any]:
    """The last state of a run of a deployment (``flow/name``) on the worker."""
    id = api.get(f"deployments/name/{deployment}").raise_for_status().json()["id"]
    run = str(_post(api, f"deployments/{id}/create_flow_run", {"parameters": parameters})["id"])
    return until_state(api, run, {"COMPLETED", "FAILED", "CRASHED"})


def _not_asked_again(here: Stage, api: httpx.Client, package: Package) -> Iterator[str]:
    """What was delivered is asked for once more, by the deployment for that; nothing is sent before somebody signs it."""
    before = {path: path.stat().st_ino for path in here.catalogue.iterdir()}
    state = _run(api, "resend/acme-catalogue-again", order=ORDER, comment="lost in their restore", by=REQUESTER)
    if state["name"] != "Asked, attempt 2":
        yield f"the resend ended as {state['name']}, {state['message']}"
        return
    (run,) = [entry.body["child_run"] for told in _orders() for entry in told if entry.kind == "parted"]
    if (state := until_state(api, run, {"PAUSED", "COMPLETED", "FAILED", "CRASHED"}))["type"] != "PAUSED":
        yield f"the redelivery does not wait for a sign-off: {state['name']}, {state['message']}"
    if before != {path: path.stat().st_ino for path in here.catalogue.iterdir()}:
        yield "something was sent again before anybody signed that"


def _not_collected(here: Stage, api: httpx.Client) -> Iterator[str]:
    """What another program has sent is recorded by its deployment."""
    jobs, content = jobs_of(here.state), b"sku,price\nA-1,9.90\n"
    (jobs / "sent/prices.csv").write_bytes(content)
    line = f"2026-11-19 23:10:02 sftp.acme.example PUT /in/prices.csv {len(content)} 226 Transfer complete\n"
    (jobs / "logs/prices.log").write_text(line)
    state = _run(api, "collect/acme-job-transfers")
    found = ledger().search(partner="acme", stream="job-transfers", limit=100)
    kinds = {entry.kind for told in ledger().journeys([one.journey for one in found]).values() for entry in told}
    if state["type"] != "COMPLETED" or "recorded" not in kinds or list((jobs / "sent").iterdir()):
        yield f"the job's transfer is not recorded: {state['name']}, {state['message']}; {', '.join(sorted(kinds))}"


def _exposed(here: Stage) -> Iterator[str]:
    """Only the sender may hold what opens the partner's folder for deliveries, and no worker's account may get in there."""
    holders = {name for name, pid in here.processes.items() if DELIVERY_PASSWORD.encode() in _environment(pid)}
    if holders != {"sender"}:
        yield f"the credential for deliveries is in the environment of {', '.join(sorted(holders)) or 'nobody'}, not of the sender alone"
    endpoints = load_partner("acme", settings().profiles).endpoints
    drop, deliveries = endpoints["drop"], endpoints["deliveries"]
    assert isinstance(drop, Sftp) and isinstance(deliveries, Ftps)
    with deliveries.model_copy(update={"username": drop.username, "password": drop.password}).session() as session:
        try:
            there = list(session.look("/in/catalogue"))
        except EndpointError:
            return
    yield f"the workers' own account gets into the folder for deliveries, and sees {len(there)} files"


def _environment(pid: int) -> bytes:
    """What a process was started with."""
    return Path(f"/proc/{pid}/environ").read_bytes()


def answer_form(api: httpx.Client, run: str, answer: dict[str, Any]) -> str:
    """Post the form; what Prefect says. A refused one is HTTP 200 too, so its status is what counts."""
    for _ in range(20):
        told = _post(api, f"flow_runs/{run}/resume", {"run_input": answer})
        reason = str((told.get("details") or {}).get("reason"))
        if "schema" not in reason or "not found" not in reason:  # the run is Suspended a moment before its form is stored
            break
        time.sleep(0.5)
    return str(told["status"])


def _post(api: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Prefect on SQLite says 503 while its database is locked: callers ask again."""
    for _ in range(20):
        answer = api.post(path, json=body)
        if answer.status_code != 503:
            break
        time.sleep(0.5)
    told: dict[str, Any] = answer.raise_for_status().json()
    return told


def until_state(api: httpx.Client, run: str, types: set[str]) -> dict[str, Any]:
    """The run's state, once it is of one of these types, or when the time is over."""
    limit = time.monotonic() + LONG
    while True:
        state: dict[str, Any] = api.get(f"flow_runs/{run}").raise_for_status().json()["state"]
        if state["type"] in types or time.monotonic() > limit:
            return state
        time.sleep(0.3)


def _received(here: Stage) -> dict[str, str]:
    """What the partner gets from its own server with a client that is not ours: name -> SHA-256."""
    place, received = here.services["ftps"], {}
    context = ssl.create_default_context(cafile=place["ca_file"])
    with _PartnersClient(context=context, encoding="utf-8", timeout=120) as client:
        client.connect(place["host"], place["port"])
        client.login(place["delivery_user"], place["delivery_password"])
        client.prot_p()
        for name in client.nlst("/in/catalogue"):
            digest = hashlib.sha256()
            client.retrbinary(f"RETR /in/catalogue/{name}", digest.update)
            received[name] = digest.hexdigest()
    return received


class _PartnersClient(ftplib.FTP_TLS):
    """Python's own client, which must be taught that servers want the TLS session of the control connection again."""

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        data, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        assert isinstance(self.sock, ssl.SSLSocket)
        return self.context.wrap_socket(data, server_hostname=self.host, session=self.sock.session), size


def _misplaced(here: Stage, samples: list[Sample]) -> Iterator[str]:
    wanted = {s.name.decode(): s.digest for s in samples if (s.stream, s.outcome) == ("price-lists", "filed")}
    there = _received(here)
    manifest = here.catalogue / f"{ORDER}.json"
    on_disk = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in here.catalogue.iterdir()}
    if there != on_disk:
        yield f"the partner's server gives {', '.join(sorted(there))}, and its folder holds {', '.join(sorted(on_disk))}"
    elif set(there) != {*wanted, f"{ORDER}.json", f"{ORDER}.done"}:
        yield f"at the partner are {', '.join(sorted(there))}"
    elif any(there[name] != digest for name, digest in wanted.items()):
        yield "the partner holds other bytes than it once sent us"
    elif {file["sha256"] for file in json.loads(manifest.read_text())["files"]} != set(wanted.values()):
        yield "the manifest names other bytes"


def _unproven(here: Stage, package: Package) -> Iterator[str]:
    """The filed certificate must hold without us for the partner's files, and not for others."""
    kept = here.state / f"{package.digits}.signoff.json"
    kept.write_bytes(_certificate())
    key = here.countersign("signoff", "key", quiet=True).stdout.strip()
    names = [file.name.decode() for file in package.files]
    received = [str(here.catalogue / name) for name in names]
    if (done := here.countersign("verify-signoff", str(kept), *received, "--key", key, check=False, quiet=True)).returncode:
        yield f"the certificate does not verify: {done.stdout}"
    other = here.state / names[0]
    other.write_bytes((here.catalogue / names[0]).read_bytes()[:-1] + b"X")
    if not here.countersign("verify-signoff", str(kept), str(other), "--key", key, check=False, quiet=True).returncode:
        yield "the certificate verifies for a file that was changed"


def _certificate() -> bytes:
    """As it was filed beside the documents."""
    spool = Spool(settings().home / "read-back", floor_bytes=0)
    folder = ("Partner Exchange", "acme", "Sign-offs", f"{datetime.now(UTC):%Y}")
    with load_repositories(settings().profiles)["ecm"].session() as session, spool.batch() as batch:
        (found,) = [kept for kept in session.look(folder) if kept.name.endswith(".signoff.json")]
        done = session.fetch(found.id, None, batch)
    return Path(spool.path(done.digest)).read_bytes()
