"""Case 33: with the workers' OS user and the whole Prefect API, not a byte reaches the partner, and every attempt is named.

Three users: the sender's, the workers', and one who is neither. A real Prefect server, a real worker, a real partner. The attempts
are in ``attack.py``, which runs as the workers' user.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pyotp
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.objects import State

from blocks.outbound import Package
from blocks.sender import Sender
from blocks.settings import settings
from deployments.sender.proofs import new_seed
from deployments.sender.store import Store
from flows.reconcile import reconcile
from tasks import connections
from tasks.sweep import MIRRORS
from tests.e2e.attack import ATTEMPTS, EVIL, PRICES, Attempt, Named, Place
from tests.servers import running
from tests.servers.openssh import OpenSsh
from tests.servers.prefect import PrefectServer, client_of, resume, serve
from tests.servers.users import OsUser, Reachable, need_root, reachable, unused_ids
from tests.worker.checkout import make_pool

POOL = "countersign"
PLAIN = "plain"
"""A pool with Prefect's process worker, which runs what it is told."""
SPOILED = "other-bytes-under-the-digest"
DIVERTED = "set-to-running"
"""The order whose approver's code is taken for something else."""
HONEST = "planted-in-the-next-round"
"""The order that somebody signs in the end."""
LONG = 400.0
"""Seconds within which what must happen happens, also on a busy machine."""


@dataclass
class Estate:
    """An installation whose sender, workers and strangers are different users of one machine."""

    home: Path
    sender: OsUser
    worker: OsUser
    stranger: OsUser
    ours: Reachable
    partner: OpenSsh
    remote: Path
    """The partner's folder."""
    prefect: PrefectServer
    deployment: str = ""
    plain: str = ""
    sender_pid: int = 0
    seeds: dict[str, str] = field(default_factory=dict)

    @property
    def reviewed(self) -> Path:
        """The reviewed files, as operations have them."""
        return self.home / "reviewed"

    @property
    def checkout(self) -> Path:
        """The workers' own copy of the project's files."""
        return self.worker.home / "checkout"

    @property
    def socket(self) -> Path:
        return self.home / "run/s"

    # ---------------------------------------------------------------------------------------- agreed

    def agree(self) -> None:
        endpoint = {
            "protocol": "sftp",
            "host": self.partner.host,
            "port": self.partner.port,
            "username": self.partner.username,
            "private_key": f"file:{self.sender.home}/partner_key",
            "host_keys": [self.partner.fingerprint],
            "timeout_seconds": 60,
        }
        stream = {
            "direction": "outbound",
            "gather": {"repository": "shelf", "folder": "Outbox/{order}"},
            "destinations": [{"endpoint": "drop", "folder": f"{self.remote}/{{order}}"}],
            "freshness": "latest",
            "evidence": {"repository": "shelf", "folder": "Evidence/{order}"},
        }
        one = {"proof": "code", "stages": [{"name": "release", "groups": ["pricing"]}]}
        two = {"proof": "code", "stages": [{"name": "release", "groups": ["pricing"], "quorum": 2}]}
        streams = {"prices": {**stream, "signoff": one}, "pair": {**stream, "signoff": two}}
        partner = {"name": "acme", "title": "ACME", "endpoints": {"drop": endpoint}, "streams": streams}
        deployment = {"name": "acme", "entrypoint": "flows.release.release", "parameters": {"partner": "acme"}}
        files = {
            "acme.yaml": {
                "partner": partner,
                "deployments": [
                    {**deployment, "work_pool": {"name": POOL}},
                    {**deployment, "name": "acme-plain", "work_pool": {"name": PLAIN}},
                ],
            },
            "repositories.yaml": {"repositories": {"shelf": {"kind": "folder", "path": str(self.worker.home / "shelf")}}},
            "people.yaml": {"people": [_person(id) for id in ("ann", "bea", "zoe", "rita")]},
        }
        for copy in (self.reviewed, self.sender.home / "reviewed", self.checkout / "profiles"):
            copy.mkdir(parents=True, exist_ok=True)
            for name, told in files.items():
                (copy / name).write_text(yaml.safe_dump(told))
        (self.checkout / "prefect.yaml").write_text("name: countersign\n")

    def enrol(self) -> None:
        with Store(self.sender.home / "state") as store:
            for id in ("ann", "bea", "zoe", "rita"):
                self.seeds[id] = new_seed()
                store.enrol(id, self.seeds[id])

    def code(self, person: str) -> str:
        return pyotp.TOTP(self.seeds[person]).now()

    # ---------------------------------------------------------------------------------------- processes

    def environment(self, user: OsUser) -> dict[str, str]:
        """Of one user: nothing of root's, and nothing of another user's."""
        return {
            **self.ours.environment,
            **self.prefect.env,
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(user.home),
            "USER": f"u{user.uid}",
            "TMPDIR": str(user.home),
            "PREFECT_HOME": str(user.home / "prefect"),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
            "COUNTERSIGN_HOME": str(user.home),
            "COUNTERSIGN_SENDER_SOCKET": str(self.socket),
            "COUNTERSIGN_SPOOL_FLOOR_BYTES": "0",
            "COUNTERSIGN_RETRY_SECONDS": "0.2",
        }

    def worker_environment(self) -> dict[str, str]:
        return {**self.environment(self.worker), "COUNTERSIGN_PROFILES": str(self.checkout / "profiles")}

    @contextmanager
    def sending(self) -> Iterator[None]:
        """The sender, as its own user."""
        command = [str(self.ours.python), "-m", "deployments.cli", "sender", "--group", str(self.worker.gid)]
        command += ["--worker-uid", str(self.worker.uid), "--ops-uid", "0", "--socket", str(self.socket)]
        command += ["--state", str(self.sender.home / "state"), "--profiles", str(self.sender.home / "reviewed")]
        command += ["--spool", str(self.worker.home / "spool")]
        environment = {name: told for name, told in self.environment(self.sender).items() if not name.startswith("PREFECT_API")}
        options = {**self.sender.options, "cwd": self.ours.root, "env": environment}
        with running(command, log=self.home / "sender.log", ready=self._answers, seconds=LONG, **options) as process:
            self.sender_pid = process.pid
            yield

    def _answers(self) -> bool:
        try:
            with Sender(self.socket, timeout_seconds=5) as client:
                client.health()
        except Exception:  # noqa: BLE001 - not ready yet
            return False
        return True

    def deploy(self, api: SyncPrefectClient) -> None:
        """As operations do, from the reviewed files."""
        environment = {**self.environment(self.worker), "HOME": str(self.home), "PREFECT_HOME": str(self.home / "prefect")}
        environment["COUNTERSIGN_PROFILES"] = str(self.reviewed)
        make_pool(api, PLAIN, "process")
        command = [str(self.ours.python), "-m", "deployments.cli", "deploy"]
        done = subprocess.run(command, cwd=self.checkout, env=environment, capture_output=True, text=True, timeout=LONG)
        assert done.returncode == 0, done.stdout + done.stderr
        self.deployment = str(api.read_deployment_by_name("release/acme").id)
        self.plain = str(api.read_deployment_by_name("release/acme-plain").id)

    @contextmanager
    def working(self, api: SyncPrefectClient, pool: str, kind: str) -> Iterator[None]:
        """A worker, as its own user."""
        command = [str(self.ours.python), "-m", "prefect", "worker", "start", "--pool", pool, "--type", kind]
        options = {**self.worker.options, "cwd": self.checkout, "env": self.worker_environment()}

        def ready() -> bool:
            return str(api.read_work_pool(pool).status) == "WorkPoolStatus.READY"

        with running(command, log=self.home / f"worker-{pool}.log", ready=ready, seconds=LONG, **options):
            yield

    @contextmanager
    def intruder(self) -> Iterator[Intruder]:
        """The attack, as the workers' user."""
        work = self.worker.own(self.worker.home / "intruder", 0o700)
        (work / "seen-over-a-shoulder").write_text(pyotp.TOTP(self.seeds["ann"]).at(datetime.now(UTC) - timedelta(minutes=10)))
        config = work / "config.json"
        config.write_text(json.dumps(asdict(self.known(work))))
        for file in work.iterdir():
            self.worker.own(file, 0o600)
        with (self.home / "attack.log").open("wb") as log:
            process = subprocess.Popen(
                [str(self.ours.python), "-m", "tests.e2e.attack", str(config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.checkout,
                env=self.worker_environment(),
                **self.worker.options,
            )
        try:
            yield Intruder(process, config)
        finally:
            process.kill()
            process.wait(300)
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()

    def known(self, work: Path) -> Place:
        own = self.sender.home
        return Place(
            socket=str(self.socket),
            sender_pid=self.sender_pid,
            secrets=tuple(
                str(own / name)
                for name in (
                    "state/seeds.key",
                    "state/seal.pem",
                    "state/sender.sqlite",
                    "state/sender.sqlite-wal",
                    "state/sender.sqlite-shm",
                    "partner_key",
                )
            ),
            reviewed=str(own / "reviewed"),
            work=str(work),
            spool=str(self.worker.home / "spool"),
            python=str(self.ours.python),
            root=str(self.ours.root),
            deployment=self.deployment,
            plain=self.plain,
            drop=str(self.remote),
        )

    def strangers_try(self) -> None:
        """A third user: without the socket's group not let in, with it cut off; and the sender's files are closed to both."""
        for number, groups in enumerate(((), (self.worker.gid,))):
            home = self.stranger.own(self.stranger.home / str(number), 0o700)
            config, output = home / "config.json", home / "told.json"
            config.write_text(json.dumps(asdict(self.known(home))))
            self.stranger.own(config, 0o600)
            script = self.ours.root / "tests/e2e/attack.py"
            subprocess.run(
                [str(self.ours.python), str(script), "--inside", str(config), str(output)],
                env={**self.environment(self.stranger), "HOME": str(home)},
                check=True,
                timeout=LONG,
                **{**self.stranger.options, "extra_groups": list(groups)},
            )
            said = json.loads(output.read_text())
            assert said["uid"] == self.stranger.uid and "OPEN" not in said["secrets"], said
            assert said["send"].startswith("cut off" if groups else "PermissionError"), said

    # ---------------------------------------------------------------------------------------- what there is

    @property
    def touched(self) -> dict[str, int]:
        """All that stands at the partner, and when a folder there was last changed: a file that came and went leaves that behind."""
        return {str(path.relative_to(self.remote)): path.stat().st_ctime_ns for path in (self.remote, *self.remote.rglob("*"))}


def _person(id: str) -> dict[str, Any]:
    return {"id": id, "name": id.title(), "mail": f"{id}@example.com", "groups": ["pricing"]}


@dataclass
class Intruder:
    """The attack's process."""

    process: subprocess.Popen[str]
    config: Path

    def ready(self) -> None:
        assert self._answer() == "ready"

    def order(self, order: str, stream: str = "prices") -> str:
        return self._ask({"order": order, "stream": stream})

    def attempt(self, name: str) -> str:
        return self._ask({"do": name})

    def outcome(self, place: str) -> str:
        """What a worker's process told that was made to run the intruder's code."""
        return self._ask({"await": place})

    def _ask(self, asked: Mapping[str, str]) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the attack's process ended; see attack.log"
        return str(json.loads(line)["said"])


@pytest.fixture
def estate(openssh: OpenSsh, monkeypatch: pytest.MonkeyPatch) -> Iterator[Estate]:
    """Everything but the worker, running."""
    need_root()
    # pytest's own folders are closed to other users.
    home = Path(tempfile.mkdtemp(prefix="countersign-", dir="/tmp"))
    remote = openssh.root / f"attack-{uuid4().hex[:8]}"
    remote.mkdir()
    try:
        home.chmod(0o755)
        senders, workers, strangers, group = unused_ids(4)
        sender = OsUser(senders, senders, home / "sender", (group,))
        worker = OsUser(workers, group, home / "worker")
        stranger = OsUser(strangers, strangers, home / "stranger")
        with serve(home / "server") as prefect:
            made = Estate(home, sender, worker, stranger, reachable(home / "everybody"), openssh, remote, prefect)
            worker.own(worker.home, 0o750)
            made.agree()
            made.enrol()
            shutil.copy(openssh.private_key, sender.home / "partner_key")
            for place, _, files in os.walk(sender.home):
                for name in files:
                    sender.own(Path(place) / name, 0o600)
                sender.own(Path(place), 0o700)
            sender.own(made.socket.parent, 0o750, group=group)
            for place, _, files in os.walk(worker.home):
                for path in (Path(place), *(Path(place) / name for name in files)):
                    os.chown(path, worker.uid, group)
            worker.own(worker.home / "shelf", 0o750)
            for name, told in made.worker_environment().items():
                if name.startswith("COUNTERSIGN_"):
                    monkeypatch.setenv(name, told)
            monkeypatch.setenv("COUNTERSIGN_PROFILES", str(made.reviewed))
            monkeypatch.chdir(made.checkout)
            _forget()
            with client_of(prefect), made.sending():
                yield made
    finally:
        connections.hang_up()
        _forget()
        if not os.environ.get("KEEP"):
            shutil.rmtree(home, ignore_errors=True)


def _forget() -> None:
    for cached in (settings, connections.ledger, connections.spool, connections.quarantine):
        cached.cache_clear()


def until(what: str, fits: Callable[[], bool], instead: Callable[[], object] = lambda: "") -> None:
    give_up = time.monotonic() + LONG
    while not fits():
        assert time.monotonic() < give_up, f"it did not happen: {what}; {instead()}"
        time.sleep(0.3)


def history(order: str) -> list[Any]:
    ledger = connections.ledger()
    journeys = ledger.journeys([one.journey for one in ledger.search(name=order, limit=10)]).values()
    return next(entries for entries in journeys if entries and entries[0].kind == "ordered")


def bodies(order: str, kind: str) -> list[Mapping[str, Any]]:
    return [entry.body for entry in history(order) if entry.kind == kind]


def rounds(order: str) -> int:
    return len(bodies(order, "round"))


def sweep() -> None:
    """As operations run it: with the reviewed files, not with those that workers can write."""
    state: State = reconcile(patience_seconds=0, return_state=True)  # type: ignore[call-overload]
    assert state.is_completed(), state.message


def asks_again(api: SyncPrefectClient, order: str, round_: int = 2) -> None:
    """The run waits in its second round: what was tried did not decide anything, and people still can."""

    def waits() -> bool:
        if rounds(order) < round_:
            return False
        state = api.read_flow_run(UUID(bodies(order, "round")[-1]["run"])).state
        return state is not None and state.is_paused()

    def stands() -> str:
        state = api.read_flow_run(UUID(bodies(order, "round")[-1]["run"])).state
        return f"{rounds(order)} rounds, and the run is {state!r}"

    until(f"{order} asks again", waits, stands)


def reasons(journey: str) -> list[str]:
    """What was found, in words."""
    return [entry.body["reason"] for entry in connections.ledger().journey(journey) if entry.kind == "found"]


def named(name: str, attempt: Attempt, told: str) -> list[str]:
    """How an attempt was named, in the place where it must be."""
    order = attempt.about or name
    if attempt.where is Named.ORDER:
        return [body["code"] for body in bodies(order, "found")]
    if attempt.where is Named.LEDGER:
        return [body["refusal"]["code"] for body in bodies(order, "answered") if body["refusal"]]
    if attempt.where is Named.PREFECT:
        found = [entry.body for entry in connections.ledger().journey(MIRRORS) if entry.kind == "found"]
        return [body["code"] for body in found if attempt.about in body["reason"]]
    if attempt.where is Named.SENDER:
        found = reasons(MIRRORS)
        said = re.findall(r'"reason":"([^"]{20,80})', told) + [f"({code})" for code in re.findall(r'"code":"([a-z-]+)"', told)]
        missing = [reason for reason in said if not any(one.startswith("/") and reason in one for one in found)]
        return missing or [attempt.code]
    return [attempt.code]


@pytest.mark.timeout(1200)
def test_case_33_with_the_workers_user_and_the_whole_api_nothing_leaves(estate: Estate) -> None:
    with ExitStack() as open_:
        api = open_.enter_context(get_client(sync_client=True))
        estate.deploy(api)
        attack = open_.enter_context(estate.intruder())
        open_.enter_context(estate.working(api, POOL, "countersign"))
        open_.enter_context(estate.working(api, PLAIN, "process"))
        attack.ready()
        own = [name for name, attempt in ATTEMPTS.items() if attempt.release]
        for order in ("pair", *own, "an-edited-profile", "evil", "elsewhere"):
            (estate.remote / order).mkdir()
        runs = {order: UUID(attack.order(order, "pair" if order == "pair" else "prices")) for order in ("pair", *own)}
        before, told = estate.touched, dict[str, str]()

        def tried(*names: str) -> None:
            for name in names:
                began = time.monotonic()
                told[name] = attack.attempt(name)
                print(f"{time.monotonic() - began:5.1f} s  {name}: {told[name][:200]}")
                assert estate.touched == before, f"{name}: something has changed at the partner"

        # 1. bea signs the pair, which needs two; nobody signs anything else
        assert sign(api, estate, "bea", "pair", runs["pair"]) == "ACCEPT"
        through_prefect = [name for name, one in ATTEMPTS.items() if one.where is not Named.SENDER and not one.late]
        tried(*through_prefect)
        told.update({name: attack.outcome(said) for name, said in told.items() if said.startswith(str(estate.home))})
        for order in ("pair", "a-made-up-code", "set-to-scheduled", "an-automation-that-resumes"):
            asks_again(api, order)
        sweep()
        for order in own:
            if order != HONEST:
                asks_again(api, order)
        assert estate.touched == before

        # 2. at the sender's own door
        at_the_door = [name for name, one in ATTEMPTS.items() if one.where is Named.SENDER and name != SPOILED]
        tried(*at_the_door)
        estate.strangers_try()
        assert estate.touched == before

        # 3. ann signs one: before a worker hears of it the intruder exchanges the bytes; then it goes on as it should
        api.update_work_pool(POOL, WorkPoolUpdate(is_paused=True))
        assert sign(api, estate, "ann", HONEST, runs[HONEST]) == "ACCEPT"
        tried(SPOILED)
        api.update_work_pool(POOL, WorkPoolUpdate(is_paused=False))
        until("what ann signed is delivered", lambda: bool(bodies(HONEST, "closed")))
        there = {str(path.relative_to(estate.remote)): path.read_bytes() for path in estate.remote.rglob("*") if path.is_file()}
        assert there == {f"{HONEST}/prices.csv": PRICES + HONEST.encode()}, "what ann signed, and nothing else"

        # 4. afterwards
        before = estate.touched
        tried(*(name for name, one in ATTEMPTS.items() if one.late))
        sweep()
        assert estate.touched == before
        # 5. what a code cannot prevent, as docs/auditors.md says: whoever reads it first has it judged for another package
        api.update_work_pool(POOL, WorkPoolUpdate(is_paused=True))
        assert sign(api, estate, "bea", DIVERTED, runs[DIVERTED]) == "ACCEPT"
        assert re.search(r'200 \{"destinations".*"problem":""', attack.attempt("a-code-that-is-just-typed"))
        assert (estate.remote / "evil/prices.csv").read_bytes() == EVIL
        sweep()
        assert any("a vote of bea was sealed" in reason for reason in reasons(MIRRORS)), "but it is told, and at once"
    wrong = {name: told[name] for name, one in ATTEMPTS.items() if not re.search(one.told, told[name])}
    assert not wrong, "these were answered otherwise than they must be"
    unnamed = {name: found for name, one in ATTEMPTS.items() if one.code not in (found := named(name, one, told[name]))}
    assert not unnamed, "nobody would hear of these"


def sign(api: SyncPrefectClient, estate: Estate, person: str, order: str, run: UUID) -> str:
    """Somebody fills in the form, as both UIs do."""
    package = Package.parse(bodies(order, "frozen")[-1]["package"])
    answer = {"decision": "approve", "approver": person, "meaning": "release", "package": package.digits}
    return resume(api, run, {**answer, "proof": estate.code(person)})
