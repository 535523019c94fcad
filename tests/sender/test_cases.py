"""Who lets a refused document through proves it: judged by reviewed terms, once for each asking, and sealed for exactly these bytes."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyotp
import pytest
import yaml

from blocks.case_signoff import CASE_NAMESPACE, CaseAction, CaseDecision, CaseSignoff
from blocks.errors import SendRefused
from blocks.outbound import Refusal, SignoffProof
from blocks.seals import signed
from blocks.sender import Sender
from deployments.sender.cases import CaseJudge
from deployments.sender.proofs import new_seed
from deployments.sender.store import Store
from deployments.signing import ssh_sign
from tests.sender.keys import SshKey, ssh_key
from tests.sender.thread import sender_thread

DOCUMENT, MENDED = "1" * 64, "2" * 64


@dataclass
class Office:
    """A sender's state beside the reviewed files of ``acme``: ``prices`` by code, ``contracts`` by signature, ``free`` by nobody."""

    home: Path
    store: Store
    seeds: dict[str, str]
    keys: dict[str, SshKey]

    def newcomer(self, group: str = "pricing", **dates: str) -> str:
        """Somebody whom nothing is known about yet, enrolled with code and key."""
        name = f"p{uuid4().hex[:8]}"
        self.seeds[name], self.keys[name] = new_seed(), ssh_key(self.home, name)
        self.store.enrol(name, self.seeds[name])
        path = self.home / "people.yaml"
        people = yaml.safe_load(path.read_text())["people"] if path.exists() else []
        more = {"groups": [group], "keys": [self.keys[name].public], **dates}
        people.append({"id": name, "name": name, "mail": f"{name}@example.com", **more})
        path.write_text(yaml.safe_dump({"people": people}))
        return name

    def decision(self, who: str, stream: str = "prices", **changes: Any) -> CaseDecision:
        plain = CaseDecision(
            journey=str(uuid4()),
            partner="acme",
            stream=stream,
            action=CaseAction.RELEASE,
            document=DOCUMENT,
            approver=who,
        )
        return replace(plain, **changes)

    def code(self, who: str, off: timedelta = timedelta(0)) -> str:
        return pyotp.TOTP(self.seeds[who]).at(datetime.now(UTC) + off)

    def signature(
        self, decision: CaseDecision, who: str = "", ago: timedelta = timedelta(0), namespace: str = CASE_NAMESPACE
    ) -> str:
        time = (datetime.now(UTC) - ago).replace(microsecond=0)
        return ssh_sign(decision.statement(time), self.keys[who or decision.approver].path, namespace, time)

    def judge(
        self, decision: CaseDecision, proof: str, key: str = "", comment: str = "seen it", ago: timedelta = timedelta(0)
    ) -> CaseSignoff | Refusal:
        judge = CaseJudge(self.store, self.home)
        return judge.judge(decision, comment, proof, key or uuid4().hex, at=datetime.now(UTC) - ago)

    def refused(self, decision: CaseDecision, proof: str, **more: Any) -> str:
        outcome = self.judge(decision, proof, **more)
        assert isinstance(outcome, Refusal), outcome
        return outcome.code

    def sealed(self, signoff: object) -> bool:
        assert isinstance(signoff, CaseSignoff), signoff
        return signed(self.store.seal_key.public, signoff.text.encode("ascii"), base64.b64decode(signoff.seal))


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    home = tmp_path_factory.mktemp("office")
    stream = {
        "endpoint": "drop",
        "folder": "/out",
        "classify": [{"pattern": ".*", "doctype": "price-list"}],
        "target": {"repository": "kept", "folder": "Prices"},
    }
    by = {kind: {**stream, "signoff": {"proof": kind, "groups": ["pricing", "heads"]}} for kind in ("code", "signature")}
    partner = {
        "name": "acme",
        "title": "ACME",
        "endpoints": {"drop": {"protocol": "folder", "root": str(home)}},
        "streams": {"prices": by["code"], "contracts": by["signature"], "free": stream},
    }
    (home / "acme.yaml").write_text(yaml.safe_dump({"partner": partner}))
    with Store(home / "state") as store:
        made = Office(home, store, {}, {})
        made.newcomer()
        yield made


def test_a_release_by_code_is_sealed_and_says_of_which_bytes_by_whom_and_why(office: Office) -> None:
    anna = office.newcomer()
    decision, key, code = office.decision(anna), uuid4().hex, office.code(anna)
    outcome = office.judge(decision, code, key)
    assert office.sealed(outcome) and isinstance(outcome, CaseSignoff)
    assert (outcome.about, outcome.comment, outcome.proof) == (decision.about, "seen it", SignoffProof.CODE)
    assert CaseSignoff.parse(outcome.facts) == outcome
    assert not office.sealed(replace(outcome, document=MENDED)), "of these bytes and of no others"
    assert office.judge(decision, code, key) == outcome, "asked again, as after an answer that was lost"
    assert office.refused(decision, "000000", key=key) == "answer-changed", "a round is judged once"
    with pytest.raises(ValueError, match="holds more or other"):
        CaseSignoff.parse({**outcome.facts, "kind": "countersign request"})


def test_a_signature_covers_the_whole_decision_and_a_code_does_not_do_where_one_is_wanted(office: Office) -> None:
    anna, ben = office.newcomer(), office.newcomer("heads")
    decision = office.decision(anna, "contracts", action=CaseAction.CORRECT, corrected=MENDED)
    assert office.refused(decision, office.code(anna)) == "proof"
    office.store.unlock(anna)
    proof = office.signature(decision)
    for other in (
        replace(decision, corrected=DOCUMENT),
        replace(decision, document=MENDED),
        replace(decision, journey="another"),
        replace(decision, action=CaseAction.RELEASE, corrected=""),
        replace(decision, approver=ben),
    ):
        assert office.refused(other, proof) == "proof", other
    other_proofs = (
        office.signature(decision, ben),
        office.signature(decision, ago=timedelta(minutes=30)),
        office.signature(decision, namespace="release@countersign"),
    )
    office.store.unlock(anna)
    assert [office.refused(decision, told) for told in other_proofs] == ["proof"] * 3
    outcome = office.judge(decision, office.signature(decision))
    assert office.sealed(outcome) and isinstance(outcome, CaseSignoff)
    assert outcome.key == " ".join(office.keys[anna].public.split(" ")[:2]) and outcome.signed_at is not None


def test_only_who_the_reviewed_terms_name_and_only_today(office: Office) -> None:
    stranger, gone = office.newcomer("logistics"), office.newcomer(valid_until="2020-01-01")
    for who in (stranger, gone):
        assert office.refused(office.decision(who), office.code(who)) == "not-in-group"
    assert office.refused(office.decision("nobody"), "123456") == "not-in-group"
    anna = office.newcomer()
    assert office.refused(office.decision(anna), office.code(anna), comment="  ") == "incomplete"
    late = office.code(anna, -timedelta(minutes=20))
    assert office.refused(office.decision(anna), late, ago=timedelta(minutes=20)) == "out-of-time"
    assert office.refused(office.decision(anna), late, ago=-timedelta(minutes=20)) == "out-of-time"


def test_wrong_proofs_lock_and_a_code_serves_once_wherever_it_was_seen(office: Office) -> None:
    anna = office.newcomer()
    code = office.code(anna)
    with pytest.raises(SendRefused, match="no inbound stream 'free' with 'signoff'"):
        office.judge(office.decision(anna, "free"), code)
    assert office.refused(office.decision(anna), code) == "proof", "it was seen, where nobody needed one"
    code = office.code(anna, timedelta(seconds=30))
    CaseJudge(office.store, office.home).burn(f"or was it {code}?")
    assert office.refused(office.decision(anna), code) == "proof"
    told = [office.refused(office.decision(anna), f"00000{number}") for number in range(3)]
    assert told == ["proof", "proof", "locked"]
    assert office.refused(office.decision(anna), office.signature(office.decision(anna))) == "locked"
    assert office.store.wrong()[anna] == 5, "one lock for releases, requests and cases"
    office.store.unlock(anna)
    decision = office.decision(anna)
    assert office.sealed(office.judge(decision, office.signature(decision)))


def test_a_worker_asks_over_the_socket(office: Office, tmp_path: Path) -> None:
    anna, ben = office.newcomer(), office.newcomer()
    with Store(tmp_path / "state") as store:
        for who in (anna, ben):
            store.enrol(who, office.seeds[who])
    socket = tmp_path / "s"
    with (
        sender_thread(socket, tmp_path / "state", profiles=office.home, spool=tmp_path),
        Sender(socket, timeout_seconds=60) as sender,
    ):
        decision = office.decision(anna)
        outcome = sender.judge_case(decision, "seen it", office.code(anna), "k", at=datetime.now(UTC))
        assert isinstance(outcome, CaseSignoff) and outcome.about == decision.about
        assert signed(sender.health().public, outcome.text.encode("ascii"), base64.b64decode(outcome.seal))
        code = office.code(ben)
        sender.burn(code)
        told = sender.judge_case(office.decision(ben), "seen it", code, "l", at=datetime.now(UTC))
        assert isinstance(told, Refusal) and told.code == "proof"
        for _ in range(4):
            told = sender.judge_case(office.decision(ben), "seen it", "000000", uuid4().hex, at=datetime.now(UTC))
        assert isinstance(told, Refusal) and told.code == "locked"
        [tried] = sender.record(datetime.now(UTC) - timedelta(hours=1)).refused
        assert tried.asked == "/case" and ben in tried.reason and "locked" in tried.reason, "so that the sweep tells of it"
        with pytest.raises(SendRefused, match="a correction names"):
            sender.judge_case(replace(decision, corrected=MENDED), "seen it", "", "m", at=datetime.now(UTC))
