"""A real sender on a socket of its own, a real OpenSSH server as the partner, people with real secrets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyotp
import pytest
import yaml
from sqlalchemy import update

from blocks.outbound import Matter, Package, PackageFile, Policies, Refusal, Requester, Round, Vote
from blocks.profile import load_partner, policies_of
from blocks.sender import Seen, Sender, destination_of
from blocks.spool import Spool
from deployments.people import load_people
from deployments.sender.proofs import new_seed
from deployments.sender.store import Store, _moments, _round
from tasks.rules.signing import parse_answer, pasted, round_key, statement
from tests.sender.keys import SshKey, ssh_key
from tests.sender.process import Started, sender_process
from tests.servers.openssh import OpenSsh

ROOT = Path(__file__).parents[2]
SHOWN = hashlib.sha256(b"the dialog").hexdigest()

ROUTINE = {"days": 30, "files": 2, "size_bytes": 1000, "per_day": 50}
"""What may be signed off beforehand."""
BOUNDED = {**ROUTINE, "rows": 3, "value": {"column": "price", "most": 100}}
"""The same, also by what stands in the documents."""


@dataclass
class House:
    """Our installation with its partner ``acme``: streams ``prices``, ``patient`` (by code) and ``contracts`` (by signature)."""

    home: Path
    partner: OpenSsh
    remote: Path
    """The partner's folder for us."""
    socket: Path
    seeds: dict[str, str] = field(default_factory=dict)
    keys: dict[str, SshKey] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    """Of those who are not of pricing."""

    @property
    def profiles(self) -> Path:
        return self.home / "reviewed"

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def spool(self) -> Spool:
        return Spool(self.home / "spool", floor_bytes=0)

    # ---------------------------------------------------------------------------------------- agreed

    def agree(
        self,
        *,
        quorum: int = 1,
        four_eyes: str = "as_stated",
        freshness: str = "pinned",
        gather: Mapping[str, Any] | None = None,
        destinations: Sequence[Mapping[str, Any]] = (),
        more: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Write the partner's reviewed file; ``more`` streams by name, by what they have otherwise than ``prices``."""
        self.profiles.mkdir(exist_ok=True)
        endpoint = {
            "protocol": "sftp",
            "host": self.partner.host,
            "port": self.partner.port,
            "username": self.partner.username,
            "private_key": f"file:{self.partner.private_key}",
            "host_keys": [self.partner.fingerprint],
            "timeout_seconds": 60,
        }
        stream = {
            "direction": "outbound",
            "gather": gather or {"repository": "ecm", "folder": "Prices"},
            "destinations": list(destinations) or [{"endpoint": "drop", "folder": f"{self.remote}/{{order}}"}],
            "freshness": freshness,
            "evidence": {"repository": "ecm", "folder": "Evidence"},
        }
        policy = {"stages": [{"name": "release", "groups": ["pricing"], "quorum": quorum}], "four_eyes": four_eyes}
        pair = {"stages": [{"name": name, "groups": ["pricing"]} for name in ("first", "second")]}
        wider = {"wider": {"after": "P1D", "groups": ["heads"]}}
        then = {"stages": [{"name": group, "groups": [group]} for group in ("pricing", "heads")]}
        streams = {
            "prices": {**stream, "signoff": {"proof": "code", **policy}},
            "patient": {**stream, "signoff": {"proof": "code", **policy, **wider}},
            "slow": {**stream, "signoff": {"proof": "code", **then, **wider}},
            "contracts": {**stream, "signoff": {"proof": "signature", **policy}},
            "routine": {**stream, "signoff": {"proof": "code", **policy, "standing": ROUTINE}},
            "seldom": {**stream, "signoff": {"proof": "code", **policy, "standing": {**ROUTINE, "per_day": 1}}},
            "braked": {**stream, "signoff": {"proof": "code", **policy, "standing": ROUTINE, "brake": {"files": {"most": 1}}}},
            "bounded": {
                **stream,
                "classify": [
                    {"pattern": r".*\.csv", "doctype": "price-list"},
                    {"pattern": r".*\.pdf", "doctype": "invoice"},
                ],
                "signoff": {"proof": "code", **policy, "standing": {**BOUNDED, "doctypes": ["price-list"]}},
            },
            "kitted": {
                **stream,
                "kits": {"whole": {"slots": {"one": {"pattern": "1.csv"}, "two": {"pattern": "2.csv"}}}},
                "signoff": {"proof": "code", **policy, "standing": ROUTINE},
            },
            "pairs": {**stream, "signoff": {"proof": "code", **pair, "standing": ROUTINE}},
        }
        for name, changed in (more or {}).items():
            streams[name] = {**streams["prices"], **changed}
        partner = {"name": "acme", "title": "ACME", "endpoints": {"drop": endpoint}, "streams": streams}
        (self.profiles / "acme.yaml").write_text(yaml.safe_dump({"partner": partner}))

    def people(self, *, without: str = "", **keys: Mapping[str, Any]) -> None:
        """Write the people file; ``keys`` change somebody's one key."""
        told = [
            {
                "id": name,
                "name": name.title(),
                "mail": f"{name}@example.com",
                "groups": [self.groups.get(name, "pricing")],
                "keys": [{"key": key.public, **keys.get(name, {})}],
            }
            for name, key in self.keys.items()
            if name != without
        ]
        requester = {"id": "rita", "name": "Rita", "mail": "rita@example.com", "groups": ["pricing"]}
        (self.profiles / "people.yaml").write_text(yaml.safe_dump({"people": [*told, requester]}))

    def newcomer(self, group: str = "pricing") -> str:
        """Somebody whom nothing is known about yet, enrolled with code and key."""
        name = f"p{uuid4().hex[:8]}"
        self.groups[name] = group
        self.seeds[name], self.keys[name] = new_seed(), ssh_key(self.home, name)
        self.people()
        with Store(self.state) as store:
            store.enrol(name, self.seeds[name])
        return name

    # ---------------------------------------------------------------------------------------- a release

    def package(self, *contents: bytes, stream: str = "prices", folder: str | None = None) -> Package:
        """A package of ``1.csv``, ``2.csv``, …, its bytes in the spool and its folder at the partner there."""
        order = f"o{uuid4().hex[:8]}"
        files = []
        with self.spool.batch() as batch:
            for number, content in enumerate(contents, 1):
                sink = batch.open()
                sink.write(content)
                done = sink.finish()
                files.append(PackageFile(f"{number}.csv".encode(), done.size, done.digest, f"id-{done.digest[:8]}-{number}", 3))
        (self.remote / order).mkdir()
        endpoint = load_partner("acme", self.profiles).endpoints["drop"]
        return Package(
            journey=str(uuid4()),
            order=order,
            partner="acme",
            stream=stream,
            policy=self.policies(stream).digest,
            destinations=(destination_of(endpoint, folder or f"{self.remote}/{order}"),),
            files=tuple(files),
        )

    def policies(self, stream: str = "prices") -> Policies:
        return policies_of(load_partner("acme", self.profiles), stream, load_people(self.profiles))

    def folder(self, package: Package) -> Path:
        return self.remote / package.order

    def received(self, package: Package) -> dict[str, bytes]:
        """What stands in the package's folder at the partner, temporary names included."""
        return {path.name: path.read_bytes() for path in self.folder(package).iterdir() if path.is_file()}

    def outgoing(self, package: Package) -> Outgoing:
        return Outgoing(self, package, f"run-{uuid4().hex[:8]}", self.policies(package.stream))

    # ---------------------------------------------------------------------------------------- proofs

    def code(self, name: str, off: timedelta = timedelta(0)) -> str:
        """The code that somebody's phone shows."""
        return pyotp.TOTP(self.seeds[name]).at(datetime.now(UTC) + off)

    def asked_earlier(self, asked: Round, ago: timedelta) -> None:
        """As if the sender had been told of a round so much earlier: its clock cannot be set."""
        with Store(self.state) as store, store._writing() as connection:
            at = datetime.now(UTC) - ago
            connection.execute(update(_round).where(_round.c.round == asked.key).values(at=at))

    def widens(self, package: Package, at: datetime) -> None:
        """As if the sender had counted another moment for the wider circle of a package that was opened: likewise."""
        with Store(self.state) as store, store._writing() as connection:
            done = connection.execute(update(_moments).where(_moments.c.package == package.digest).values(widens=at))
            assert done.rowcount == 1

    # ---------------------------------------------------------------------------------------- the process

    @contextmanager
    def sender(self, *options: str, die_at: int = 0, die_in_upload: int = 0, log: str = "sender.log") -> Iterator[Started]:
        """A sender process while the block runs."""
        places = {"socket": self.socket, "state": self.state, "profiles": self.profiles}
        dying = {"die_at": die_at, "die_in_upload": die_in_upload}
        with sender_process(self.home, *options, **places, **dying, log=log) as process:
            yield process

    def client(self) -> Sender:
        return Sender(self.socket, timeout_seconds=60, sending_seconds=300)


@dataclass
class Outgoing:
    """One release as the flow would carry it."""

    house: House
    matter_package: Package
    run: str
    policies: Policies
    votes: list[Vote] = field(default_factory=list)
    n: int = 0
    requester: str = "rita"

    @property
    def matter(self) -> Matter:
        return Matter(self.matter_package, self.run, Requester(self.requester))

    def next_round(self) -> Round:
        """A round as the flow asks it: the sender was told of it."""
        self.n += 1
        digest = self.matter_package.digest
        asked = Round(self.n, round_key(self.n, digest, uuid4().hex[:8]), self.run, digest)
        with self.house.client() as client:
            client.open(self.matter, self.policies)
            client.ask(asked, SHOWN)
        return asked

    def answer(self, approver: str, proof: str, **changes: Any) -> dict[str, Any]:
        digits = self.matter_package.digits
        return {"decision": "approve", "approver": approver, "meaning": "release", "package": digits, "proof": proof, **changes}

    def sign(
        self, answer: Mapping[str, Any], asked: Round, key: SshKey, *, at: datetime | None = None, namespace: str = ""
    ) -> str:
        """What ``countersign sign`` prints."""
        parsed = parse_answer({**answer, "proof": "x"})
        assert not isinstance(parsed, Refusal)
        time = (at or datetime.now(UTC)).replace(microsecond=0)
        text = statement(parsed, self.matter, asked, time).text
        return pasted(time, key.sign(text, namespace or "release@countersign"))

    def judge(self, answer: Mapping[str, Any], asked: Round | None = None, at: datetime | None = None) -> Vote | Refusal:
        asked = asked or self.next_round()
        with self.house.client() as client:
            outcome = client.judge(
                answer, self.matter_package, self.policies, asked, votes=self.votes, at=at or datetime.now(UTC)
            )
        if isinstance(outcome, Vote) and outcome not in self.votes:
            self.votes.append(outcome)
        return outcome

    def approve(self, approver: str, **changes: Any) -> Vote:
        """Somebody's approval by code, which counts."""
        vote = self.judge(self.answer(approver, self.house.code(approver), **changes))
        assert isinstance(vote, Vote), vote
        return vote

    def seen(self, **changes: Any) -> list[Seen]:
        return [replace(Seen(file.repository_id, file.version), **changes) for file in self.matter_package.files]

    def send(self, votes: Sequence[Vote] | None = None, seen: Sequence[Seen] | None = None) -> list[Any]:
        with self.house.client() as client:
            return client.send(
                self.matter_package,
                self.policies,
                self.votes if votes is None else votes,
                self.seen() if seen is None else seen,
            )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, openssh: OpenSsh) -> Iterator[House]:
    """A house with its sender running, for all tests of a module."""
    made = make_house(tmp_path_factory.mktemp("house"), openssh)
    with made.sender():
        yield made


@pytest.fixture
def quiet_house(tmp_path: Path, openssh: OpenSsh) -> House:
    """A house whose sender is not running yet."""
    return make_house(tmp_path, openssh)


def make_house(home: Path, partner: OpenSsh) -> House:
    remote = partner.root / uuid4().hex[:8]
    remote.mkdir()
    made = House(home, partner, remote, home / "s")
    made.agree()
    made.people()
    assert made.spool.folder.is_dir()
    return made
