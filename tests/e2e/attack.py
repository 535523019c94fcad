"""The attack: whoever has the workers' OS user and the whole Prefect API tries every way around the sign-off.

``python -m tests.e2e.attack CONFIG`` runs as that user. It reads one JSON line per command and answers with one: ``{"do": NAME}``
tries an attempt and tells what was said to it, or where that will stand, to be asked for by ``{"await": PLACE}``. ``test_attack.py``
looks after each whether a byte has reached the partner, and in the end whether every attempt was named: by a finding of the sweep,
by a refusal in the ledger, or by the sender's own record.

``python attack.py --inside CONFIG PLACE`` is what the attempts that run code on a worker run there; it needs the standard library only.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

PRICES = b"sku,price\n1,2.50\n"
EVIL = b"sku,price\n1,0.01\n"
NOBODY = "0" * 6


class Named(Enum):
    """Where an attempt is named afterwards."""

    ORDER = "a finding of the sweep in the order's journey"
    PREFECT = "a finding of the sweep that belongs to no order"
    LEDGER = "a refusal in the order's journey"
    SENDER = "a refusal in the sender's own record"
    NOWHERE = "nothing: the operating system refused it, and our programs never heard of it"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way around the sign-off."""

    do: Callable[[Intruder], str | Path]
    """What it was told; or where that will stand, once a worker has run the intruder's code."""
    told: str
    """Regular expression of what the attempt is answered."""
    where: Named
    code: str = ""
    """The finding's or the refusal's code."""
    release: bool = False
    """It needs a release of its own that waits for a sign-off; the order is called as the attempt."""
    about: str = ""
    """What the finding names, if it belongs to no order of the attempt's own."""
    late: bool = False
    """Tried only after the one delivery that people wanted."""


ATTEMPTS: dict[str, Attempt] = {}


def attempt(told: str, where: Named, code: str = "", **more: Any) -> Callable[[Any], Any]:
    def known(do: Callable[[Intruder], str]) -> Callable[[Intruder], str]:
        ATTEMPTS[do.__name__.replace("_", "-")] = Attempt(do, told, where, code, **more)
        return do

    return known


# --------------------------------------------------------------------------------------------- with the standard library


@dataclass(frozen=True, slots=True)
class Place:
    """What the intruder knows of this machine."""

    socket: str
    sender_pid: int
    secrets: tuple[str, ...]
    """Files of the sender."""
    reviewed: str
    """The sender's copy of the reviewed files."""
    work: str
    """A folder of the intruder's own."""
    spool: str
    python: str
    root: str
    deployment: str
    plain: str
    """The deployment whose pool has Prefect's process worker."""
    drop: str
    """The partner's folder."""

    @classmethod
    def read(cls, path: str) -> Place:
        told = json.loads(Path(path).read_text())
        return cls(**{**told, "secrets": tuple(told["secrets"])})


def post(place: Place, path: str, body: Any) -> str:
    """What the sender says to a request; "cut off" if it does not listen, the system's error if nobody gets that far."""
    connection = http.client.HTTPConnection("sender", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    try:
        connection.sock.connect(place.socket)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return f"{answer.status} {answer.read().decode()}"
    except PermissionError as error:
        return f"{type(error).__name__}: {error.strerror}"
    except (OSError, http.client.HTTPException) as error:
        return f"cut off ({type(error).__name__})"
    finally:
        connection.close()


def each(acts: Mapping[str, Callable[[], object]]) -> str:
    """Try all; what was said to each. What succeeds is told in capitals."""
    said = []
    for name, act in acts.items():
        try:
            result = act()
        except OSError as error:
            said.append(f"{name}: {type(error).__name__}")
        else:
            said.append(f"{name}: OPEN {str(result)[:40]!r}")
    return "; ".join(said)


def secrets(place: Place) -> str:
    """Read what only the sender may read: seeds, keys, the account for deliveries; also out of the running process."""
    process = Path("/proc") / str(place.sender_pid)
    files: dict[str, Callable[[], object]] = {path: Path(path).read_bytes for path in place.secrets}
    files |= {f"list {path}": (lambda path=path: os.listdir(Path(path).parent)) for path in place.secrets[:1]}  # type: ignore[misc]
    for name in ("environ", "mem", "maps", "root/etc/hostname", "cwd", "fd"):
        files[f"/proc/{name}"] = lambda name=name: _look(process / name)  # type: ignore[misc]
    files["ptrace"] = lambda: _ptrace(place.sender_pid)
    files["kill"] = lambda: os.kill(place.sender_pid, signal.SIGSTOP)
    return each(files)


def _look(path: Path) -> object:
    if path.is_dir() or path.name in ("fd", "cwd"):
        return os.listdir(path)
    with path.open("rb") as file:
        return file.read(64)


def _ptrace(pid: int) -> object:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, 0, 0) != 0:  # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), "ptrace")
    return "attached"


def inside(config: str, output: str) -> None:
    """What code that a worker was made to run can do: it is the workers' user, and no more."""
    place = Place.read(config)
    said = {
        "uid": os.geteuid(),
        "secrets": secrets(place),
        "send": post(place, "/send", {"package": "{}", "policies": {}, "votes": [], "seen": []}),
        "unlock": post(place, "/unlock", {"approver": "zoe"}),
    }
    fresh = Path(output).with_suffix(".new")
    fresh.write_text(json.dumps(said))
    fresh.replace(output)


# --------------------------------------------------------------------------------------------- the intruder


class Intruder:
    """The workers' OS user, with the Prefect API, the ledger, the spool, and everything else that workers have."""

    def __init__(self, config: str) -> None:
        from prefect.client.orchestration import get_client

        self.config, self.place = config, Place.read(config)
        self.api = get_client(sync_client=True)
        self.runs: dict[str, UUID] = {}
        self._numbers = itertools.count(100)

    # ---------------------------------------------------------------------------------------- releases

    def order(self, order: str, stream: str = "prices") -> None:
        """Ask for a release, and lead it to its sign-off as ``countersign run release --local`` does."""
        from prefect.exceptions import Pause
        from prefect.flow_engine import run_flow
        from prefect.states import Pending

        from flows.release import release

        self.keep(order)
        asked = {"partner": "acme", "stream": stream, "order": order, "requester": "rita", "ids": None}
        run = self.again(
            lambda: self.api.create_flow_run_from_deployment(UUID(self.place.deployment), parameters=asked, state=Pending())
        )
        self.runs[order] = run.id
        with contextlib.suppress(Pause):
            run_flow(release, flow_run=run, parameters=run.parameters, return_type="state")

    def keep(self, order: str) -> None:
        """Put a document into the order's folder of the repository."""
        from blocks.profile import load_repositories
        from blocks.settings import settings
        from blocks.spool import Spool
        from blocks.values import Filing

        desk = Spool(Path(self.place.work) / "desk", floor_bytes=0)
        with desk.batch() as batch:
            sink = batch.open()
            sink.write(PRICES + order.encode())
            done = sink.finish()
        filing = Filing(
            journey=str(uuid4()),
            name="prices.csv",
            folder=("Outbox", order),
            path=desk.path(done.digest),
            digest=done.digest,
            size=done.size,
            media_type="text/csv",
            categories={},
        )
        with load_repositories(settings().profiles)["shelf"].session() as session:
            list(session.file([filing]))

    def history(self, order: str) -> list[Any]:
        """The order's journey, as the ledger shows it to every worker."""
        from tasks.connections import ledger

        found = ledger().search(name=order, limit=10)
        journeys = ledger().journeys([one.journey for one in found]).values()
        return next(
            entries for entries in journeys if entries and (entries[0].kind, entries[0].body.get("order")) == ("ordered", order)
        )

    def last(self, order: str, kind: str) -> Any:
        return [entry.body for entry in self.history(order) if entry.kind == kind][-1]

    def frozen(self, order: str) -> dict[str, Any]:
        """Package and policies of an order, as the sender wants to hear them."""
        told = self.last(order, "frozen")
        return {"package": told["package"], "policies": dict(told["policies"])}

    def votes(self, order: str) -> list[dict[str, Any]]:
        """Sealed votes, as they stand in the ledger."""
        return [entry.body["vote"] for entry in self.history(order) if entry.kind == "answered" and entry.body["vote"]]

    def seen(self, frozen: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What the repository is said to say: all is as it was."""
        files = json.loads(frozen["package"])["files"]
        return [
            {"repository_id": f["repository_id"], "newest": f["version"], "admitted": True, "sha256": f["sha256"]}
            for f in files
        ]

    # ---------------------------------------------------------------------------------------- the doors

    def again(self, ask: Callable[[], Any]) -> Any:
        """Prefect on SQLite says 503 while its database is locked."""
        from prefect.exceptions import PrefectHTTPStatusError

        for _ in range(30):
            try:
                return ask()
            except PrefectHTTPStatusError as error:
                if error.response.status_code != 503:
                    raise
            time.sleep(0.5)
        return ask()

    def set_state(self, order: str, state: Any) -> str:
        return str(self.again(lambda: self.api.set_flow_run_state(self.runs[order], state, force=True)).status.value)

    def answer(self, order: str, approver: str, proof: str, **changes: Any) -> dict[str, Any]:
        digits = digest_of(self.last(order, "frozen")["package"])[:8]
        return {"decision": "approve", "approver": approver, "meaning": "release", "package": digits, "proof": proof, **changes}

    def resume(self, order: str, answer: Mapping[str, Any]) -> str:
        return str(self.again(lambda: self.api.resume_flow_run(self.runs[order], run_input=dict(answer))).status.value)

    def plant(self, order: str, key: str, answer: Any) -> str:
        self.again(lambda: self.api.create_flow_run_input(self.runs[order], f"suspended-{key}-response", json.dumps(answer)))
        return "planted"

    def post(self, path: str, body: Any) -> str:
        return post(self.place, path, body)

    def send(self, order: str, votes: list[dict[str, Any]], **changes: Any) -> str:
        told = {**self.frozen(order), **changes}
        return self.post("/send", {**told, "votes": votes, "seen": self.seen(told)})

    def asked(self, order: str, digest: str | None = None, **told: Any) -> dict[str, Any]:
        """A round of the intruder's own making, which the sender is told of as a worker would."""
        frozen = {**self.frozen(order), **told}
        digest = digest or digest_of(frozen["package"])
        n = next(self._numbers)  # one that was judged is not judged again under another key
        asked = {"n": n, "key": f"signoff-{n}-{digest[:16]}-{uuid4().hex[:8]}", "run": str(self.runs[order]), "digest": digest}
        self.post("/open", {**frozen, "requester": "rita", "editors": []})
        self.post("/ask", {"round": asked, "shown": "0" * 64})
        return asked

    def judge(self, order: str, approver: str, proof: str, at: datetime | None = None, **changes: Any) -> str:
        """Have the sender judge an answer that nobody gave."""
        asked, frozen = self.asked(order), self.frozen(order)
        answer = self.answer(order, approver, proof, **changes)
        moment = (at or datetime.now(UTC)).isoformat()
        return self.post("/judge", {**frozen, "answer": answer, "round": asked, "votes": [], "at": moment})

    # ---------------------------------------------------------------------------------------- code on a worker

    def inside(self, name: str) -> tuple[list[str], Path]:
        """The command that code on a worker shall run, and where it tells what came of it."""
        output = Path(self.place.work) / f"{name}.json"
        script = Path(self.place.root) / "tests/e2e/attack.py"
        return [self.place.python, str(script), "--inside", self.config, str(output)], output

    def found_inside(self, output: Path) -> str:
        give_up = time.monotonic() + 180
        while not output.exists():
            if time.monotonic() > give_up:
                return "it never ran"
            time.sleep(0.2)
        said = json.loads(output.read_text())
        own = "as the workers' user" if said["uid"] == os.geteuid() else f"as user {said['uid']}"
        return f"ran {own}; {said['secrets']}; send: {said['send']}; unlock: {said['unlock']}"

    def refused(self, run: UUID, output: Path) -> str:
        """What became of a run that a worker which forks was asked for, and whether anything of it ran."""
        give_up = time.monotonic() + 180
        while (state := self.again(lambda: self.api.read_flow_run(run).state)) is None or not state.is_final():
            if time.monotonic() > give_up:
                return f"it has not ended: {state}"
            time.sleep(0.2)
        return f"{'OPEN ' if output.exists() else ''}{state.name}: {state.message}"

    def close(self) -> None:
        self.api.__exit__(None, None, None)


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


# --------------------------------------------------------------------------------------------- through Prefect: the form


@attempt("ACCEPT", Named.LEDGER, "proof", release=True)
def a_made_up_code(intruder: Intruder) -> str:
    """Fill in the form as somebody else, with a code that is none."""
    return intruder.resume("a-made-up-code", intruder.answer("a-made-up-code", "ann", NOBODY))


@attempt("ACCEPT", Named.ORDER, "bypass", release=True)
def set_to_scheduled(intruder: Intruder) -> str:
    from prefect.states import Scheduled

    return intruder.set_state("set-to-scheduled", Scheduled())


@attempt("ACCEPT", Named.ORDER, "bypass", release=True)
def set_to_running(intruder: Intruder) -> str:
    from prefect.states import Running

    return intruder.set_state("set-to-running", Running())


@attempt("ACCEPT", Named.ORDER, "bypass", release=True)
def set_to_completed(intruder: Intruder) -> str:
    from prefect.states import Completed

    return intruder.set_state("set-to-completed", Completed(name="Delivered"))


@attempt("planted", Named.ORDER, "planted", release=True)
def planted_in_this_round(intruder: Intruder) -> str:
    """Put the answer behind the form, where its rules do not reach."""
    order = "planted-in-this-round"
    return intruder.plant(order, intruder.last(order, "round")["key"], intruder.answer(order, "ann", NOBODY))


@attempt("planted", Named.ORDER, "planted", release=True)
def planted_in_the_next_round(intruder: Intruder) -> str:
    """The next round's key is guessed: its last eight digits are random."""
    order = "planted-in-the-next-round"
    digest = digest_of(intruder.frozen(order)["package"])
    return intruder.plant(order, f"signoff-2-{digest[:16]}-00000000", intruder.answer(order, "ann", NOBODY))


@attempt("woken", Named.ORDER, "bypass", release=True)
def an_automation_that_resumes(intruder: Intruder) -> str:
    """Let the server itself resume the run."""
    from prefect.client.schemas.objects import StateType
    from prefect.events import emit_event
    from prefect.events.actions import ChangeFlowRunState, ResumeFlowRun
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    run = intruder.runs["an-automation-that-resumes"]
    about = {"prefect.resource.id": f"prefect.flow-run.{run}"}
    trigger = EventTrigger(expect={"attack.ring"}, match=about, posture=Posture.Reactive)  # type: ignore[arg-type]
    actions = [ResumeFlowRun(), ChangeFlowRunState(state=StateType.SCHEDULED, name="Resumed")]
    intruder.api.create_automation(AutomationCore(name="attack-automation", trigger=trigger, actions=actions))
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:
        emit_event("attack.ring", resource=about)
        state = intruder.api.read_flow_run(run).state
        if state is None or not state.is_paused():
            return "woken"
        time.sleep(1)
    return "it slept on"


@attempt("deleted", Named.ORDER, "deleted", release=True)
def a_deleted_run(intruder: Intruder) -> str:
    """Make the wait and all its answers go away."""
    intruder.again(lambda: intruder.api.delete_flow_run(intruder.runs["a-deleted-run"]))
    return "deleted"


@attempt("changed", Named.ORDER, "diverted", release=True)
def a_run_turned_to_another_order(intruder: Intruder) -> str:
    """Its parameters name an order that nobody placed."""
    run = intruder.runs["a-run-turned-to-another-order"]
    other = {"partner": "acme", "stream": "prices", "order": "nobody-placed-this"}
    intruder.again(lambda: intruder.api.update_flow_run(run, parameters=other))
    return "changed"


@attempt("stripped", Named.ORDER, "stuck", release=True)
def a_form_taken_away(intruder: Intruder) -> str:
    """Without its form nobody can decide; maybe something else then does."""
    order = "a-form-taken-away"
    key = f"suspended-{intruder.last(order, 'round')['key']}-schema"
    intruder.again(lambda: intruder.api.delete_flow_run_input(intruder.runs[order], key))
    return "stripped"


# --------------------------------------------------------------------------------------------- through Prefect: code on a worker


NOT_CARRIED_OUT = "^Crashed: Not carried out: "


def _denied_inside() -> str:
    return r"^ran as the workers' user; (?!.*OPEN).*PermissionError.*send: 409 .*unlock: 409 "


@attempt(_denied_inside(), Named.PREFECT, "overridden", about="attack-plain-job-variables")
def job_variables(intruder: Intruder) -> Path:
    """A run of a real deployment, whose command is another."""
    return _with_job_variables(intruder, "plain")[1]


@attempt(NOT_CARRIED_OUT, Named.PREFECT, "overridden", about="attack-countersign-job-variables")
def job_variables_where_runs_are_forked(intruder: Intruder) -> str:
    return intruder.refused(*_with_job_variables(intruder, "countersign"))


@attempt(NOT_CARRIED_OUT, Named.PREFECT, "overridden", about="attack-environment")
def an_environment_where_runs_are_forked(intruder: Intruder) -> str:
    """Python's own way to run something first, in a run of the real deployment."""
    command, output = intruder.inside("environment")
    early = Path(intruder.place.work) / "early"
    early.mkdir()
    (early / "sitecustomize.py").write_text(f"import subprocess\nsubprocess.run({command!r})\n")
    asked = {"partner": "acme", "stream": "prices", "order": "environment"}
    run = intruder.api.create_flow_run_from_deployment(
        UUID(intruder.place.deployment),
        name="attack-environment",
        parameters=asked,
        job_variables={"env": {"PYTHONPATH": str(early)}},
    )
    return intruder.refused(run.id, output)


@attempt(_denied_inside(), Named.PREFECT, "deployment", about="attack-plain-pull-step")
def pull_step(intruder: Intruder) -> Path:
    """A deployment of the real flow that runs a script before it."""
    return _with_pull_step(intruder, "plain")[1]


@attempt(NOT_CARRIED_OUT, Named.PREFECT, "deployment", about="attack-countersign-pull-step")
def pull_step_where_runs_are_forked(intruder: Intruder) -> str:
    return intruder.refused(*_with_pull_step(intruder, "countersign"))


@attempt(_denied_inside(), Named.PREFECT, "deployment", about="attack-plain-own")
def a_deployment_of_its_own(intruder: Intruder) -> Path:
    """Own flow code, deployed for the workers; it asks the sender directly."""
    return _with_own_code(intruder, "plain")[1]


@attempt(NOT_CARRIED_OUT, Named.PREFECT, "deployment", about="attack-countersign-own")
def a_deployment_of_its_own_where_runs_are_forked(intruder: Intruder) -> str:
    return intruder.refused(*_with_own_code(intruder, "countersign"))


def _with_job_variables(intruder: Intruder, pool: str) -> tuple[UUID, Path]:
    command, output = intruder.inside(f"{pool}-job-variables")
    deployment = intruder.place.deployment if pool == "countersign" else intruder.place.plain
    run = intruder.api.create_flow_run_from_deployment(
        UUID(deployment),
        name=f"attack-{pool}-job-variables",
        parameters={"partner": "acme", "stream": "prices", "order": "job-variables"},
        job_variables={"command": " ".join(command)},
    )
    return run.id, output


def _with_pull_step(intruder: Intruder, pool: str) -> tuple[UUID, Path]:
    command, output = intruder.inside(f"{pool}-pull-step")
    flow = intruder.api.read_deployment(UUID(intruder.place.deployment)).flow_id
    steps = [
        {"prefect.deployments.steps.set_working_directory": {"directory": intruder.place.root}},
        {"prefect.deployments.steps.run_shell_script": {"script": " ".join(command)}},
    ]
    made = intruder.api.create_deployment(
        flow,
        f"attack-{pool}-pull-step",
        entrypoint="tests.cli.sample.nothing" if pool == "plain" else "flows.release.release",
        parameters={"partner": "acme", "stream": "prices"},
        work_pool_name=pool,
        pull_steps=steps,
    )
    return intruder.api.create_flow_run_from_deployment(made, name=f"attack-{pool}-pull-step").id, output


def _with_own_code(intruder: Intruder, pool: str) -> tuple[UUID, Path]:
    command, output = intruder.inside(f"{pool}-own")
    code = Path(intruder.place.work) / f"own_{pool}.py"
    code.write_text(
        "import subprocess\nfrom prefect import flow\n\n\n@flow(name='own')\ndef own() -> None:\n"
        f"    subprocess.run({command!r}, check=True)\n"
    )
    made = intruder.api.create_deployment(
        intruder.api.create_flow_from_name("own"),
        f"attack-{pool}-own",
        entrypoint=f"{code.name}:own",
        path=str(code.parent),
        work_pool_name=pool,
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(code.parent)}}],
    )
    return intruder.api.create_flow_run_from_deployment(made, name=f"attack-{pool}-own").id, output


@attempt("edited", Named.PREFECT, "deployment", about="the deployment acme runs", late=True)
def the_deployment_itself(intruder: Intruder) -> str:
    """The reviewed deployment, with another entry point. What the next order would run is the intruder's."""
    from prefect.client.schemas.actions import DeploymentUpdate

    api, id = intruder.api, UUID(intruder.place.deployment)
    api.update_deployment(id, DeploymentUpdate(entrypoint="tests.cli.sample.nothing"))
    return "edited"


@attempt("edited", Named.PREFECT, "work-pool", about="countersign", late=True)
def the_work_pool(intruder: Intruder) -> str:
    """A command for every run of the pool."""
    pool = intruder.api.read_work_pool("countersign")
    template = json.loads(json.dumps(pool.base_job_template))
    template["variables"]["properties"]["command"]["default"] = "true"
    intruder.again(lambda: intruder.api.request("PATCH", "/work_pools/countersign", json={"base_job_template": template}))
    return "edited"


@attempt("edited", Named.PREFECT, "mirror", about="acme-drop")
def a_mirror(intruder: Intruder) -> str:
    """What ops see of the partner's endpoint: another host."""
    from blocks.endpoints.sftp import Sftp

    block = Sftp.load("acme-drop")
    block.model_copy(update={"host": "elsewhere.example"}).save("acme-drop", overwrite=True)
    return "edited"


# --------------------------------------------------------------------------------------------- the files that workers have


@attempt("409 .*have changed.*409 .*never opened", Named.ORDER, "terms")
def an_edited_profile(intruder: Intruder) -> str:
    """In a checkout of the workers: one more approver, another folder, no second pair of eyes; and then an order under these terms."""
    import pyotp
    import yaml

    from blocks.settings import settings

    ours = settings().profiles
    theirs = Path(shutil.copytree(ours, Path(intruder.place.work) / "edited"))
    people = yaml.safe_load((theirs / "people.yaml").read_text())
    people["people"].append({"id": "mallory", "name": "Mallory", "mail": "m@example.com", "groups": ["pricing"]})
    (theirs / "people.yaml").write_text(yaml.safe_dump(people))
    acme = yaml.safe_load((theirs / "acme.yaml").read_text())
    acme["partner"]["streams"]["prices"]["destinations"][0]["folder"] = f"{intruder.place.drop}/elsewhere"
    (theirs / "acme.yaml").write_text(yaml.safe_dump(acme))
    os.environ["COUNTERSIGN_PROFILES"] = str(theirs)
    settings.cache_clear()
    order = "an-edited-profile"
    try:
        intruder.order(order)
        said = intruder.judge(order, "mallory", pyotp.TOTP(pyotp.random_base32()).now())
        return f"{said}; send: {intruder.send(order, [])}"
    finally:
        os.environ["COUNTERSIGN_PROFILES"] = str(ours)
        settings.cache_clear()


@attempt(r"^(?!.*OPEN).*PermissionError", Named.NOWHERE)
def the_senders_own_files(intruder: Intruder) -> str:
    """The copy of the reviewed files that the sender believes; its socket's name."""
    place = intruder.place
    return each(
        {
            "people": lambda: (Path(place.reviewed) / "people.yaml").write_text("people: []"),
            "another file": lambda: (Path(place.reviewed) / "mallory.yaml").write_text(""),
            "take the socket's place": lambda: Path(place.socket).unlink(),
            "rename its folder": lambda: Path(place.socket).parent.rename(Path(place.work) / "run"),
            "link in its folder": lambda: (Path(place.socket).parent / "s2").symlink_to("/tmp"),
        }
    )


@attempt(r"^(?!.*OPEN)(?=.*/proc/mem: PermissionError)(?=.*ptrace: PermissionError).*kill: PermissionError", Named.NOWHERE)
def the_senders_secrets(intruder: Intruder) -> str:
    return secrets(intruder.place)


# --------------------------------------------------------------------------------------------- at the sender's socket


@attempt("409 .*not complete", Named.SENDER, "/send")
def no_vote_at_all(intruder: Intruder) -> str:
    return intruder.send("set-to-completed", [])


@attempt("409 .*does not bear this sender's seal", Named.SENDER, "/send")
def a_forged_vote(intruder: Intruder) -> str:
    order = "set-to-completed"
    vote = _forged(intruder, order, "ann")
    return intruder.send(order, [{**vote, "seal": base64.b64encode(os.urandom(64)).decode()}])


@attempt("409 .*not complete", Named.SENDER, "/send")
def a_vote_on_another_package(intruder: Intruder) -> str:
    """Bea has signed the pair, and nothing else."""
    return intruder.send("set-to-completed", intruder.votes("pair"))


@attempt("409 .*not complete", Named.SENDER, "/send")
def one_vote_counted_twice(intruder: Intruder) -> str:
    """The pair needs two."""
    return intruder.send("pair", [*intruder.votes("pair"), *intruder.votes("pair")])


@attempt("409 .*does not bear this sender's seal", Named.SENDER, "/send")
def a_vote_with_another_name(intruder: Intruder) -> str:
    (vote,) = intruder.votes("pair")
    return intruder.send("pair", [vote, {**vote, "approver": "ann"}])


@attempt("409 .*does not bear this sender's seal", Named.SENDER, "/send")
def a_vote_moved_to_another_package(intruder: Intruder) -> str:
    order = "set-to-completed"
    (vote,) = intruder.votes("pair")
    return intruder.send(order, [{**vote, "package": digest_of(intruder.frozen(order)["package"])}])


@attempt("409 .*does not bear this sender's seal", Named.SENDER, "/send")
def a_package_of_its_own(intruder: Intruder) -> str:
    """Other bytes, for another folder, under the terms in force; with a vote that nobody gave."""
    told = intruder.frozen("set-to-completed")
    facts = json.loads(told["package"])
    facts["order"], facts["journey"] = "evil", str(uuid4())
    facts["destinations"][0]["path"] = f"{intruder.place.drop}/elsewhere"
    package = canonical(facts)
    vote = {**_forged(intruder, "set-to-completed", "ann"), "package": digest_of(package)}
    vote["seal"] = base64.b64encode(os.urandom(64)).decode()
    intruder.post("/open", {"package": package, "policies": told["policies"], "requester": None, "editors": []})
    return intruder.send("set-to-completed", [vote], package=package)


@attempt("409 .*have changed.*409 .*never opened", Named.SENDER, "/send")
def terms_of_its_own(intruder: Intruder) -> str:
    """The package says under which terms it was frozen: let them be others."""
    told = intruder.frozen("set-to-completed")
    policies = {**told["policies"], "terms": "0" * 64}
    facts = {**json.loads(told["package"]), "policy": digest_of(canonical(policies))}
    own = {"package": canonical(facts), "policies": policies}
    opened = intruder.post("/open", {**own, "requester": None, "editors": []})
    return f"{opened} | {intruder.send('set-to-completed', [], **own)}"


@attempt("409 .*never opened", Named.SENDER, "/prepare")
def a_package_of_its_own_copied(intruder: Intruder) -> str:
    """The sender makes copies of what is to leave: let it make some of what nobody has signed."""
    told = intruder.frozen("set-to-completed")
    package = canonical({**json.loads(told["package"]), "order": "copied", "journey": str(uuid4())})
    return intruder.post("/prepare", {**told, "package": package, "votes": []})


@attempt("409 .*may not unlock", Named.SENDER, "/unlock")
def unlock_an_approver(intruder: Intruder) -> str:
    return intruder.post("/unlock", {"approver": "zoe"})


@attempt("^(409 [^|]*\\|?){3}$", Named.SENDER, "/seal")
def a_seal_on_what_is_none(intruder: Intruder) -> str:
    """A vote, sealed as something else; a certificate of a delivery that never was."""
    vote = {key: told for key, told in _forged(intruder, "set-to-completed", "ann").items() if key != "seal"}
    frozen = intruder.frozen("set-to-completed")
    certificate = {
        "kind": "countersign sign-off certificate",
        "package": json.loads(frozen["package"]),
        "votes": [],
        "deliveries": [],
    }
    certificate["package_digest"] = digest_of(frozen["package"])
    texts = [("certificate", vote), ("checkpoint", vote), ("certificate", certificate)]
    return "|".join(intruder.post("/seal", {"purpose": purpose, "text": canonical(facts)}) for purpose, facts in texts)


@attempt("locked", Named.SENDER, "/judge")
def guessed_codes(intruder: Intruder) -> str:
    """Zoe's code, one after the other, each in a round of its own."""
    said = [intruder.judge("set-to-completed", "zoe", f"{number:06d}") for number in range(100001, 100009)]
    return " | ".join(said)


@attempt("refusal.*out-of-time", Named.SENDER, "/judge")
def a_code_of_ten_minutes_ago(intruder: Intruder) -> str:
    """Seen over somebody's shoulder, and said to have been typed then."""
    old = (Path(intruder.place.work) / "seen-over-a-shoulder").read_text()
    return intruder.judge("set-to-completed", "ann", old, datetime.now(UTC) - timedelta(minutes=10))


@attempt("never-asked", Named.SENDER, "/judge")
def a_round_that_was_never_asked(intruder: Intruder) -> str:
    order = "set-to-completed"
    frozen = intruder.frozen(order)
    digest = digest_of(frozen["package"])
    asked = {"n": 7, "key": f"signoff-7-{digest[:16]}-ffffffff", "run": str(intruder.runs[order]), "digest": digest}
    answer = intruder.answer(order, "ann", NOBODY)
    return intruder.post(
        "/judge", {**frozen, "answer": answer, "round": asked, "votes": [], "at": datetime.now(UTC).isoformat()}
    )


def _forged(intruder: Intruder, order: str, approver: str) -> dict[str, Any]:
    """A vote as the sender makes them, but for the seal."""
    (vote,) = intruder.votes("pair")
    package = digest_of(intruder.frozen(order)["package"])
    return {**vote, "approver": approver, "package": package, "run": str(intruder.runs[order])}


# --------------------------------------------------------------------------------------------- in the spool


@attempt("^(409 [^|]*the spool does not hold what was approved[^|]*\\|?){5}$", Named.SENDER, "/send")
def other_bytes_under_the_digest(intruder: Intruder) -> str:
    """Somebody has signed; the intruder has the answer judged before the worker does, and sends other bytes under the name of those
    that were signed: other ones, more, a link to the sender's secrets, a pipe, nothing."""
    order = "planted-in-the-next-round"
    asked, frozen = intruder.last(order, "round"), intruder.frozen(order)
    answer = json.loads(intruder.api.read_flow_run_input(intruder.runs[order], f"suspended-{asked['key']}-response"))
    round_ = {name: asked[name] for name in ("n", "key", "run", "digest")}
    at = datetime.now(UTC).isoformat()
    judged = json.loads(
        intruder.post("/judge", {**frozen, "answer": answer, "round": round_, "votes": [], "at": at}).partition(" ")[2]
    )
    (file,) = json.loads(frozen["package"])["files"]
    digest = file["sha256"]
    spooled = next(path for path in Path(intruder.place.spool).rglob(digest) if path.is_file())
    said, kept = [], spooled.read_bytes()
    for put in _spoiled(spooled, kept, intruder.place):
        put()
        said.append(intruder.send(order, [judged["vote"]]))
        spooled.unlink(missing_ok=True)
    spooled.write_bytes(kept)
    spooled.chmod(0o440)
    return "|".join(said)


def _spoiled(spooled: Path, kept: bytes, place: Place) -> Iterator[Callable[[], object]]:
    spooled.unlink()
    yield lambda: spooled.write_bytes(kept.replace(b"2.50", b"0.01"))
    yield lambda: spooled.write_bytes(kept + b"1,0.01\n")
    yield lambda: spooled.symlink_to(place.secrets[0])
    yield lambda: os.mkfifo(spooled)
    yield lambda: None


# --------------------------------------------------------------------------------------------- after the delivery


@attempt("edited", Named.ORDER, "edited", about="planted-in-the-next-round", late=True)
def an_answer_edited_afterwards(intruder: Intruder) -> str:
    """What was signed shall have been a rejection. (The delivered order's.)"""
    order = "planted-in-the-next-round"
    key = f"suspended-{intruder.last(order, 'round')['key']}-response"
    given = json.loads(intruder.api.read_flow_run_input(intruder.runs[order], key))
    intruder.again(lambda: intruder.api.delete_flow_run_input(intruder.runs[order], key))
    intruder.again(
        lambda: intruder.api.create_flow_run_input(
            intruder.runs[order], key, json.dumps({**given, "decision": "reject", "comment": "no"})
        )
    )
    return "edited"


# --------------------------------------------------------------------------------------------- what a code cannot prevent


def a_code_that_is_just_typed(intruder: Intruder) -> str:
    """Bea has typed her code for one package. Before a worker reads it, it is judged for another one, of the intruder's making: a code
    says who and when, and neither what nor to whom. Not an attempt that must fail; one of which people must know."""
    order = "set-to-running"
    asked, told = intruder.last(order, "round"), intruder.frozen(order)
    typed = json.loads(intruder.api.read_flow_run_input(intruder.runs[order], f"suspended-{asked['key']}-response"))
    digest = hashlib.sha256(EVIL).hexdigest()
    spooled = Path(intruder.place.spool) / "store" / digest[:2] / digest
    spooled.parent.mkdir(exist_ok=True)
    spooled.write_bytes(EVIL)
    facts = json.loads(told["package"])
    facts |= {"order": "evil", "journey": str(uuid4())}
    facts["destinations"][0]["path"] = f"{intruder.place.drop}/evil"
    facts["files"][0] |= {"sha256": digest, "size": len(EVIL)}
    own = {"package": canonical(facts), "policies": told["policies"]}
    round_ = intruder.asked(order, **own)
    answer = {**typed, "package": digest_of(own["package"])[:8]}
    at = datetime.now(UTC).isoformat()
    judged = intruder.post("/judge", {**own, "answer": answer, "round": round_, "votes": [], "at": at})
    return intruder.send(order, [json.loads(judged.partition(" ")[2])["vote"]], **own)


LIMITS = {"a-code-that-is-just-typed": a_code_that_is_just_typed}


# --------------------------------------------------------------------------------------------- the process


def _answer(intruder: Intruder, asked: Mapping[str, str]) -> str:
    if "order" in asked:
        intruder.order(asked["order"], asked["stream"])
        return str(intruder.runs[asked["order"]])
    if "await" in asked:
        return intruder.found_inside(Path(asked["await"]))
    name = asked["do"]
    return str(LIMITS[name](intruder) if name in LIMITS else ATTEMPTS[name].do(intruder))


def main(config: str) -> None:
    """Do as told, one line after the other. What libraries print goes to the log, not among the answers."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    intruder = Intruder(config)
    print(json.dumps({"said": "ready"}), file=answers)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            said = _answer(intruder, asked)
        except Exception as error:  # noqa: BLE001 - told to the test, which does not expect it
            said = f"{type(error).__name__}: {error}"
            import traceback

            traceback.print_exc()
        print(json.dumps({"said": re.sub(r"\s+", " ", said)}), file=answers)
    intruder.close()


if __name__ == "__main__":
    if sys.argv[1] == "--inside":
        inside(*sys.argv[2:])
    else:
        main(sys.argv[1])
