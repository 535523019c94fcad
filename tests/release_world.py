"""A world for tests of releases: documents in Extended ECM's sandbox, people with phones, a real sender in a process of its own,
a partner on a real OpenSSH server, and a real Prefect server in which runs are suspended and resumed as approvers do it.

There is no worker: a pass of a run is made here, by Prefect's own engine, so that a test says when it happens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pyotp
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.states import Pending

from blocks.ledger import Recorded
from blocks.outbound import Package
from blocks.profile import load_repositories
from blocks.settings import settings
from blocks.spool import Spool
from blocks.values import Filing
from deployments.sender.proofs import new_seed
from deployments.sender.store import Store
from tasks import connections
from tests.sender.process import Started, sender_process
from tests.servers.openssh import OpenSsh
from tests.servers.prefect import PrefectServer, client_of, resume
from tests.world import reached

ROOT = Path(__file__).parents[1]
APPROVED = {"Partner Document": {"Reference": "Approved"}}


@dataclass
class ReleaseWorld:
    """Our installation with its partner ``acme`` and one outbound stream per policy."""

    home: Path
    remote: Path
    partner: OpenSsh
    ecm: Mapping[str, Any]
    client: SyncPrefectClient
    deployment: UUID
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    seeds: dict[str, str] = field(default_factory=dict)

    @property
    def profiles(self) -> Path:
        return self.home / "profiles"

    @property
    def socket(self) -> Path:
        return self.home / "s"

    @property
    def state(self) -> Path:
        return self.home / "sender"

    # ---------------------------------------------------------------------------------------- agreed

    def agree(
        self,
        *,
        endpoints: Mapping[str, Mapping[str, Any]] | None = None,
        shares: Mapping[str, Mapping[str, Any]] | None = None,
        **more: dict[str, Any],
    ) -> None:
        """Write the reviewed files; ``more`` streams by name, as :meth:`terms` makes them; more ``endpoints`` beside ``drop``."""
        self.profiles.mkdir(parents=True, exist_ok=True)
        one = {"stages": [{"name": "release", "groups": ["pricing"]}], "proof": "code"}
        pair = {**one, "stages": [{"name": "release", "groups": ["pricing"], "quorum": 2}]}
        stages = {**one, "stages": [{"name": "pricing", "groups": ["pricing"]}, {"name": "legal", "groups": ["legal"]}]}
        standing = {"days": 30, "files": 1, "size_bytes": 1000, "per_day": 9}
        shelf = {"repository": "shelf", "folder": "Outbox/{order}"}
        streams = {
            "prices": self.terms(signoff=one),
            "pinned": self.terms(signoff=one, freshness="pinned"),
            "pair": self.terms(signoff=pair),
            "stages": self.terms(signoff=stages),
            "proven": self.terms(signoff={**one, "four_eyes": "proven"}),
            "signed": self.terms(signoff={**one, "proof": "signature"}),
            "short": self.terms(signoff={**one, "expires_after": "PT10S"}),
            "slow": self.terms(signoff={**one, "remind_after": "PT20S", "wider": {"after": "PT20S", "groups": ["heads"]}}),
            "routine": self.terms(
                signoff={**one, "stages": [{"name": "release", "groups": ["routine"]}], "standing": standing}
            ),
            "listed": self.terms(signoff=one, gather={"repository": "ecm", "from_order": True}),
            "shown": self.terms(signoff=one, preview="full"),
            "checked": self.terms(signoff=one, classify=[{"pattern": r".*\.csv", "doctype": "price-list"}]),
            "shelf": self.terms(signoff=one, gather=shelf, evidence={"repository": "shelf", "folder": "Evidence/{order}"}),
            **more,
        }
        endpoint = {
            "protocol": "sftp",
            "host": self.partner.host,
            "port": self.partner.port,
            "username": self.partner.username,
            "private_key": f"file:{self.partner.private_key}",
            "host_keys": [self.partner.fingerprint],
            "timeout_seconds": 60,
        }
        places = {"drop": endpoint, **(endpoints or {})}
        partner = {"name": "acme", "title": "ACME", "endpoints": places, "shares": dict(shares or {}), "streams": streams}
        (self.profiles / "acme.yaml").write_text(yaml.safe_dump({"partner": partner}))
        shelf_terms = {"kind": "folder", "path": str(self.home / "shelf")}
        (self.home / "shelf").mkdir(exist_ok=True)
        repositories = {"ecm": reached(self.ecm), "shelf": shelf_terms}
        (self.profiles / "repositories.yaml").write_text(yaml.safe_dump({"repositories": repositories}))

    def terms(self, **changes: Any) -> dict[str, Any]:
        admits = [{"category": "Partner Document", "attribute": "Reference", "values": ["Approved"]}]
        return {
            "direction": "outbound",
            "gather": {"repository": "ecm", "folder": "Outbox/{order}", "admits": admits},
            "destinations": [{"endpoint": "drop", "folder": f"{self.remote}/{{order}}"}],
            "freshness": "latest",
            "signoff": {"stages": [{"name": "release", "groups": ["pricing"]}], "proof": "code"},
            "evidence": {"repository": "ecm", "folder": "Evidence/{order}"},
            "owner": "pricing@example.com",
            **changes,
        }

    def newcomer(self, *groups: str, **facts: Any) -> str:
        """Somebody new, with a phone."""
        name = f"p{uuid4().hex[:6]}"
        told = {"id": name, "name": name.title(), "mail": f"{name}@example.com", "groups": list(groups or ("pricing",))}
        self.people[name] = {**told, **facts}
        self.write_people()
        self.seeds[name] = new_seed()
        with Store(self.state) as store:
            store.enrol(name, self.seeds[name])
        return name

    def write_people(self) -> None:
        (self.profiles / "people.yaml").write_text(yaml.safe_dump({"people": list(self.people.values())}))

    def code(self, person: str) -> str:
        return pyotp.TOTP(self.seeds[person]).now()

    def wrong_code(self, person: str) -> str:
        return f"{(int(self.code(person)) + 500_000) % 1_000_000:06d}"

    @contextmanager
    def sender(self, die_at: int = 0, *, timed: bool = False) -> Iterator[Started]:
        """A sender process while the block runs; it may be killed at a step of its delivery, or tell when each was written down."""
        log = f"sender-{uuid4().hex[:4]}.log"
        places = {"socket": self.socket, "state": self.state, "profiles": self.profiles}
        with sender_process(self.home, **places, die_at=die_at, timed=timed, log=log) as process:
            yield process

    # ---------------------------------------------------------------------------------------- documents

    def keep(
        self, order: str, name: str, content: bytes, *, repository: str = "ecm", categories: Mapping[str, Any] = APPROVED
    ) -> str:
        """Somebody puts a document, or a new version of it, into the order's folder of the repository; its id."""
        desk = Spool(self.home / "desk", floor_bytes=0)
        with desk.batch() as batch:
            sink = batch.open()
            sink.write(content)
            done = sink.finish()
        filing = Filing(
            journey=str(uuid4()),
            name=name,
            folder=("Outbox", order),
            path=desk.path(done.digest),
            digest=done.digest,
            size=done.size,
            media_type="text/csv",
            categories=categories if repository == "ecm" else {},
        )
        with load_repositories(self.profiles)[repository].session() as session:
            (filed,) = session.file([filing])
        return str(filed.id)  # type: ignore[union-attr]

    def shelve(self, order: str, name: str, content: bytes) -> None:
        """Somebody puts a file into the order's folder of the folder repository, by hand: whatever its name is."""
        folder = self.home / "shelf" / "Outbox" / order
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    def evidence(self, order: str, repository: str = "ecm") -> dict[str, bytes]:
        """What was filed as evidence of an order: name -> bytes."""
        found: dict[str, bytes] = {}
        desk = Spool(self.home / "desk", floor_bytes=0)
        with load_repositories(self.profiles)[repository].session() as session:
            for kept in list(session.look(("Evidence", order))):
                with desk.batch() as batch:
                    done = session.fetch(kept.id, None, batch)
                found[kept.name] = desk.path(done.digest).read_bytes()
        return found

    def order(self, stream: str = "prices", /, repository: str = "ecm", **documents: bytes) -> Release:
        """An order for these documents (``prices=b"..."`` is prices.csv), its folder at the partner there, its run created."""
        id = f"o-{uuid4().hex[:8]}"
        for name, content in documents.items():
            self.keep(id, f"{name}.csv", content, repository=repository)
        (self.remote / id).mkdir()
        return Release(self, stream, id)


@dataclass
class Release:
    """One order, with the run that leads it."""

    world: ReleaseWorld
    stream: str
    id: str
    run: UUID | None = None
    requester: str = "rita"

    def start(self, **parameters: Any) -> State | None:
        """Create the order's run, and make its first pass. None: it is suspended."""
        asked = {"partner": "acme", "stream": self.stream, "order": self.id, "requester": self.requester, **parameters}
        created = self.world.client.create_flow_run_from_deployment(self.world.deployment, parameters=asked)
        self.run = created.id
        return self.go()

    def go(self) -> State | None:
        """One pass of the run, as a worker makes it after a resume. None: it is suspended (again)."""
        from flows.release import release

        told = self.told
        self.world.client.set_flow_run_state(told.id, Pending(), force=True)
        told = self.told
        try:
            parameters = {"order": None, "requester": "", "ids": None, "kit": "", **told.parameters}
            return run_flow(release, flow_run=told, parameters=parameters, return_type="state")  # type: ignore[return-value]
        except Pause:
            return None

    @property
    def told(self) -> FlowRun:
        assert self.run is not None
        return self.world.client.read_flow_run(self.run)

    # ---------------------------------------------------------------------------------------- signing

    def answer(self, approver: str, proof: str | None = None, **changes: Any) -> dict[str, Any]:
        filled = {"decision": "approve", "approver": approver, "meaning": "release", "package": self.package.digits}
        return {**filled, "proof": proof or self.world.code(approver), **changes}

    def resume(self, answer: Mapping[str, Any] | None) -> str:
        """Post the form, as both UIs do; what Prefect says: ACCEPT, REJECT, ABORT."""
        assert self.run is not None
        return resume(self.world.client, self.run, answer)

    @property
    def stands(self) -> dict[str, tuple[int, float]]:
        """What stands at the partner under its own name: inode and time, which a file that is sent again does not keep."""
        there = (self.world.remote / self.id).iterdir()
        return {path.name: (path.stat().st_ino, path.stat().st_mtime) for path in there if not path.name.startswith(".")}

    def plant(self, answer: Any) -> None:
        """Write an answer behind the form's door, as anybody with the API can; in place of the one that may be there."""
        key, api = f"suspended-{self.last('round')['key']}-response", self.world.client
        assert self.run is not None
        if any(row.key == key for row in api.filter_flow_run_input(self.run, key, 10, set())):
            api.delete_flow_run_input(self.run, key)
        api.create_flow_run_input(self.run, key, json.dumps(answer))

    def sign(self, approver: str, proof: str | None = None, **changes: Any) -> State | None:
        """Somebody fills in the form, and the run is made to go on."""
        assert self.resume(self.answer(approver, proof, **changes)) == "ACCEPT"
        return self.go()

    # ---------------------------------------------------------------------------------------- what there is

    @property
    def form(self) -> str:
        """The text of the form that is open now."""
        assert self.run is not None
        details = self.told.state.state_details  # type: ignore[union-attr]
        key = details.run_input_keyset["description"]  # type: ignore[index]
        return str(json.loads(self.world.client.read_flow_run_input(self.run, key)))

    @property
    def stored_answer(self) -> Any:
        """The last round's answer, as Prefect stores it now."""
        assert self.run is not None
        return json.loads(self.world.client.read_flow_run_input(self.run, f"suspended-{self.last('round')['key']}-response"))

    @property
    def ordered_as(self) -> str:
        """The id of the order that the run made for itself."""
        ledger = connections.ledger()
        found = ledger.journeys([one.journey for one in ledger.search(partner="acme", stream=self.stream, limit=1000)])
        (order,) = [told[0].body["order"] for told in found.values() if told[0].body.get("run") == str(self.run)]
        return str(order)

    def part(self, order: str, run: str) -> Release:
        """The order that was made of what was left out of this one. It goes to the same place."""
        return replace(self, id=order, run=UUID(run))

    @property
    def received(self) -> dict[str, bytes]:
        """What stands at the partner, temporary names included."""
        return {path.name: path.read_bytes() for path in (self.world.remote / self.id.partition("~")[0]).iterdir()}

    @property
    def history(self) -> list[Recorded]:
        ledger = connections.ledger()
        found = ledger.search(name=self.id, partner="acme", stream=self.stream, limit=1000)
        own = [
            entries
            for entries in ledger.journeys([one.journey for one in found]).values()
            if entries[0].body["order"] == self.id
        ]
        (entries,) = [entries for entries in own if entries[0].kind == "ordered"]
        return entries

    @property
    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.history]

    def last(self, kind: str) -> Mapping[str, Any]:
        return [entry.body for entry in self.history if entry.kind == kind][-1]

    @property
    def package(self) -> Package:
        return Package.parse(self.last("frozen")["package"])


@pytest.fixture(scope="module")
def release_world(
    tmp_path_factory: pytest.TempPathFactory, openssh: OpenSsh, ecm: Mapping[str, Any], prefect_server: PrefectServer
) -> Iterator[ReleaseWorld]:
    """One installation with its sender running, for all tests of a module."""
    with installed(tmp_path_factory.mktemp("release"), openssh, ecm, prefect_server) as made, made.sender():
        yield made


@pytest.fixture
def quiet_release_world(
    tmp_path: Path, openssh: OpenSsh, ecm: Mapping[str, Any], prefect_server: PrefectServer
) -> Iterator[ReleaseWorld]:
    """An installation of a test's own, whose sender is not running yet."""
    with installed(tmp_path / "home", openssh, ecm, prefect_server) as made:
        yield made


@contextmanager
def installed(
    home: Path, openssh: OpenSsh, ecm: Mapping[str, Any], prefect_server: PrefectServer, **settled: str
) -> Iterator[ReleaseWorld]:
    """An installation with its partner, and no sender yet; ``settled`` are more settings of it."""
    remote = openssh.root / f"release-{uuid4().hex[:8]}"
    remote.mkdir()
    environment = {
        "COUNTERSIGN_HOME": str(home),
        "COUNTERSIGN_PROFILES": str(home / "profiles"),
        "COUNTERSIGN_SENDER_SOCKET": str(home / "s"),
        "COUNTERSIGN_SENDER_STATE": str(home / "sender"),
        "COUNTERSIGN_SPOOL_FLOOR_BYTES": "0",
        "COUNTERSIGN_RETRY_SECONDS": "0.1",
        "ECM_PASSWORD": str(ecm["password"]),
        **settled,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        _forget()
        from flows.release import release  # only now: how long tasks wait for another try is settled when they are imported

        with client_of(prefect_server), get_client(sync_client=True) as client:
            deployment = client.create_deployment(client.create_flow(release), f"release-{uuid4().hex[:6]}")
            made = ReleaseWorld(home, remote, openssh, ecm, client, deployment)
            made.agree()
            made.people["rita"] = {"id": "rita", "name": "Rita", "mail": "rita@example.com", "groups": ["pricing"]}
            made.write_people()
            connections.spool()
            try:
                yield made
            finally:
                connections.hang_up()
                connections.ledger().close()
    _forget()


def _forget() -> None:
    for cached in (settings, connections.ledger, connections.spool, connections.quarantine):
        cached.cache_clear()
