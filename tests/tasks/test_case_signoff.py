"""Where a stream wants it proven, nothing that was refused goes on without the sender's seal over these very bytes."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyotp
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.logging import disable_run_logger
from typer.testing import CliRunner, Result

from blocks.case_signoff import CaseAction, CaseDecision, CaseSignoff
from blocks.errors import ConfigurationError, LedgerUnreachable, SenderUnreachable
from blocks.ledger import Entry
from blocks.outbound import SignoffProof
from blocks.seals import SealKey, key_id
from blocks.sender import Sender
from blocks.settings import settings
from deployments.cli import app
from deployments.sender.proofs import new_seed
from deployments.sender.store import Store
from deployments.ssh_signatures import signature_holds
from tasks.agreed import load_stream
from tasks.ask_about import Review, _form, settle_answer
from tasks.case_signoff import document_of, sign_off
from tasks.cases import moments
from tasks.correct import Correction, correct, digest_of
from tasks.retry import reject, reopened
from tasks.rules.case_form import Decision
from tasks.rules.certificate import Check
from tasks.verify_evidence import verify_evidence
from tests.ledger.full import no_room_for
from tests.sender.keys import ssh_key
from tests.sender.thread import sender_thread
from tests.tasks.asked import Asked
from tests.tasks.dock import STEPS, Dock, price_list

NAMED, BAD = "Prices (1).csv", price_list().replace(b"1.50", b"one")
CELLS = ["2, price = 1.50"]


@dataclass
class Office:
    """A dock whose stream wants a code of somebody in ``pricing``, beside its sender."""

    dock: Dock
    prefect: SyncPrefectClient
    seeds: dict[str, str]

    def refused(self, name: str = NAMED, content: bytes | None = None) -> str:
        """A case."""
        self.dock.leave(name, price_list() if content is None else content)
        assert list(self.dock.run().values()) == ["quarantined"]
        return self.dock.cases()[-1].journey

    def code(self, who: str) -> str:
        return pyotp.TOTP(self.seeds[who]).now()

    def answer(self, journey: str, decision: Decision, who: str, proof: str | None, **more: Any) -> Review:
        """One that stands in Prefect's database, however it came there; as it was settled."""
        given = {"decision": decision.value, "who": who, "comment": "seen it", **more}
        asked = Asked(self.prefect, self.dock, journey)
        asked.begin()
        asked.answer(uuid4().hex, given if proof is None else {**given, "proof": proof})
        return self.settle(asked)

    def settle(self, asked: Asked) -> Review:
        review = Review(asked.journey, asked.run, asked.begun)
        settle_answer.fn(review)
        return review

    def decision(self, journey: str, **changes: Any) -> CaseDecision:
        history = self.dock.ledger.journey(journey)
        plain = CaseDecision(
            journey=journey,
            partner="acme",
            stream="prices",
            action=CaseAction.RELEASE,
            document=document_of(history),
            approver="anna",
        )
        return replace(plain, **changes)

    def put_right(self, journey: str, correction: Correction) -> None:
        """What ``flows.review.retry`` does with it."""
        again = reopened(journey, correction.comment, correction.by, corrected=True)
        with disable_run_logger(), again as consignment:
            for step in STEPS[:2]:
                consignment = step(consignment)
            consignment = correct.fn(consignment, correction)
            for step in STEPS[2:]:
                consignment = step(consignment)

    def filed(self) -> dict[str, bytes]:
        return self.dock.filed() if (self.dock.home / "kept" / "Prices").exists() else {}

    def kinds(self, journey: str) -> list[str]:
        return [entry.kind for entry in self.dock.ledger.journey(journey)]


@pytest.fixture
def office(dock: Dock, prefect: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    groups = {"anna": "pricing", "ben": "pricing", "cora": "pricing", "lou": "logistics"}
    people = [{"id": id, "name": id, "mail": f"{id}@example.com", "groups": [group]} for id, group in groups.items()]
    (dock.profiles / "people.yaml").write_text(yaml.safe_dump({"people": people}))
    signoff = {"proof": "code", "groups": ["pricing"]}
    dock.agree(naming=r"[a-z0-9-]+\.csv", releasable=["naming-rule"], signoff=signoff)
    seeds = {id: new_seed() for id in groups}
    with Store(tmp_path / "state") as store:
        for id, seed in seeds.items():
            store.enrol(id, seed)
    monkeypatch.setenv("COUNTERSIGN_SENDER_SOCKET", str(tmp_path / "s"))
    settings.cache_clear()
    with sender_thread(tmp_path / "s", tmp_path / "state", profiles=dock.profiles, spool=tmp_path):
        yield Office(dock, prefect, seeds)


def test_an_answer_without_a_proof_that_holds_releases_nothing(office: Office) -> None:
    journey = office.refused()
    code = office.code("lou")
    for who, proof, why in (
        ("anna", None, "Prove that it is you"),
        ("anna", " ", "Prove that it is you"),
        ("anna", "000000", "check the code"),
        ("anna", "1" * 9000, "too long"),
        ("anna", office.code("ben"), "check the code"),
        ("lou", code, "among those"),
    ):
        review = office.answer(journey, Decision.RELEASE, who, proof)
        assert review.again is None and why in review.refusal[0], (who, proof)
        assert "signed off" not in office.kinds(journey) and "retried" not in office.kinds(journey)
        assert review.refusal[1] == {"decision": Decision.RELEASE.value, "who": who, "comment": "seen it"}, "and not the proof"
    assert office.filed() == {}


def test_what_is_proven_is_released_and_its_seal_stands_in_the_journey(office: Office) -> None:
    journey = office.refused()
    review = office.answer(journey, Decision.RELEASE, "anna", office.code("anna"))
    assert review.refusal[0] == "" and review.again is not None
    office.dock.retry(**review.again)
    assert office.filed() == {NAMED: price_list()} and office.dock.cases() == []
    [entry] = [one for one in office.dock.ledger.journey(journey) if one.kind == "signed off"]
    signoff = CaseSignoff.parse(entry.body["signoff"])
    assert signoff.about == office.decision(journey).about and signoff.comment == "seen it"
    assert [(one.what, one.by, one.said) for one in moments([entry])] == [("signed off", "anna", "seen it")]
    office.dock.ledger.verify()


def test_an_answer_that_is_settled_again_after_it_broke_off_is_judged_once(office: Office) -> None:
    journey = office.refused()
    asked = Asked(office.prefect, office.dock, journey)
    asked.begin()
    answer = {"decision": Decision.RELEASE.value, "who": "anna", "comment": "seen it", "proof": office.code("anna")}
    asked.answer("k", answer)
    with no_room_for(office.dock.ledger, "signed off"), pytest.raises(LedgerUnreachable):
        office.settle(asked)
    assert "signed off" not in office.kinds(journey), "and its code is spent"
    for _ in range(2):
        assert office.settle(asked).again is not None
    assert office.kinds(journey).count("signed off") == 1


def forged(office: Office, signoff: CaseSignoff) -> CaseSignoff:
    """With a seal, and not the sender's."""
    key = SealKey.open(office.dock.home / "own.pem")
    return replace(signoff, seal=base64.b64encode(key.sign(signoff.text.encode())).decode())


def test_who_starts_the_flow_without_a_signoff_of_these_bytes_releases_nothing(office: Office) -> None:
    journey, other = office.refused(), office.refused("Prices (2).csv", price_list(rows=4))
    own = office.decision(journey)
    assert sign_off(office.decision(other), "seen it", office.code("anna"), "k", datetime.now(UTC)) is None
    [of_another] = [one for one in office.dock.ledger.journey(other) if one.kind == "signed off"]
    sealed = CaseSignoff.parse(of_another.body["signoff"])
    named = {name: getattr(own, name) for name in own.about}
    made = CaseSignoff(**named, comment="x", at=datetime.now(UTC), proof=SignoffProof.CODE)
    for planted in (sealed, replace(sealed, **named), made, forged(office, made), replace(made, seal="no base64")):
        office.dock.ledger.append([Entry(journey, "signed off", {"by": "anna", "signoff": planted.facts})])
    office.dock.ledger.append([Entry(journey, "signed off", {"by": "anna", "signoff": "anna says so"})])
    with pytest.raises(ConfigurationError, match="nobody has proven that they release it"):
        office.dock.retry(journey, release=True)
    assert office.filed() == {} and "retried" not in office.kinds(journey)
    # Were the first who asks for it to look away, the checks would let it through no more than that.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.retry.need_signoff", lambda *_: None)
        assert [row.outcome for row in office.dock.retry(journey, release=True)] == ["quarantined"]
    assert office.filed() == {}
    office.dock.retry(other, release=True)
    assert office.filed() == {"Prices (2).csv": price_list(rows=4)}


def test_a_case_that_was_closed_needs_another_sign_off(office: Office) -> None:
    journey = office.refused()
    assert sign_off(office.decision(journey), "seen it", office.code("anna"), "k", datetime.now(UTC)) is None
    reject(journey, "not this one", "ben")
    with pytest.raises(ConfigurationError, match="since the case was closed last"):
        office.dock.retry(journey, release=True)
    assert office.filed() == {}
    assert sign_off(office.decision(journey, approver="ben"), "it is right", office.code("ben"), "l", datetime.now(UTC)) is None
    for _ in range(2):  # whatever broke off behind the filing is gone on with
        office.dock.retry(journey, by="mallory", release=True)
    assert office.filed() == {NAMED: price_list()}
    [told] = [str(one.body["findings"]) for one in office.dock.ledger.journey(journey)[::-1] if one.kind == "judged"][:1]
    assert "Let through by ben" in told and "mallory" not in told, "who proved it, and not who started the flow"


def test_a_correction_is_proven_for_what_is_filed(office: Office) -> None:
    journey = office.refused("prices.csv", BAD)
    mended = Correction("anna", "a typo", cells=CELLS)
    with pytest.raises(ConfigurationError, match="nobody has proven that they correct it"):
        office.put_right(journey, mended)
    assert office.filed() == {}
    review = office.answer(journey, Decision.CORRECT, "anna", office.code("anna"), cells=CELLS)
    assert review.again is not None, review.refusal
    with pytest.raises(ConfigurationError, match="nobody has proven that they correct it"):
        office.put_right(journey, Correction("anna", "a typo", cells=["2, price = 1.51"]))
    assert office.filed() == {}
    office.put_right(journey, replace(mended, by="mallory", comment="of my own"))
    assert office.filed() == {"prices.csv": price_list()} and office.dock.cases() == []
    [intended] = [one.body for one in office.dock.ledger.journey(journey) if one.kind == "correcting"]
    assert (intended["by"], intended["comment"]) == ("anna", "seen it"), "as it was proven, whoever starts the flow with it"


def test_a_code_that_proves_nothing_is_good_for_nothing_else(office: Office) -> None:
    journey = office.refused()
    code = office.code("anna")
    review = office.answer(journey, Decision.COMMENT, "anna", code)
    assert review.refusal[0] == "" and "commented" in office.kinds(journey)
    review = office.answer(journey, Decision.RELEASE, "anna", code)
    assert "check the code" in review.refusal[0] and office.filed() == {}
    code = office.code("ben")
    office.answer(journey, Decision.RELEASE, "ben", None, comment=f"here it is: {code}")
    review = office.answer(journey, Decision.RELEASE, "ben", code)
    assert "check the code" in review.refusal[0] and office.filed() == {}, "it was shown"
    code = office.code("cora")
    review = office.answer(office.refused("prices.csv", BAD), Decision.CORRECT, "cora", code, file="nowhere.csv")
    assert "nowhere.csv" in review.refusal[0]
    review = office.answer(journey, Decision.RELEASE, "cora", code)
    assert review.again is None, "no correction was there for the sender to judge"


def test_a_code_for_a_case_that_was_closed_meanwhile_is_good_for_nothing_else(office: Office) -> None:
    journey, another = office.refused(), office.refused("Prices (2).csv")
    asked, code = Asked(office.prefect, office.dock, journey), office.code("anna")
    asked.begin()
    asked.answer(uuid4().hex, {"decision": Decision.RELEASE.value, "who": "anna", "comment": "seen it", "proof": code})
    reject(journey, "not needed", "ben")
    office.settle(asked)
    review = office.answer(another, Decision.RELEASE, "anna", code)
    assert "check the code" in review.refusal[0] and office.filed() == {}


def test_the_form_asks_for_a_proof_and_says_of_which_document_and_whose(office: Office) -> None:
    journey = office.refused()
    [begun] = office.dock.ledger.append([Entry(journey, "review begun", {"run": "r"})])
    form = _form(Review(journey, "r", begun))
    told = str(form.model_json_schema()), str(form._description)
    assert (
        "The six digits" in told[0] and document_of(office.dock.ledger.journey(journey)) in told[1] and "`pricing`" in told[1]
    )
    office.dock.agree(naming=r"[a-z0-9-]+\.csv", releasable=["naming-rule"])
    assert "proof" not in _form(Review(journey, "r", begun)).model_fields
    review = office.answer(journey, Decision.RELEASE, "lou", None)
    assert review.again is not None, "as stated, where nothing else was agreed"
    office.dock.retry(**review.again)
    assert office.filed() == {NAMED: price_list()}


def test_without_a_sender_nothing_is_taken_for_proven(office: Office, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    journey = office.refused("prices.csv", BAD)
    correction = Correction("anna", "a typo", cells=CELLS)
    digest = digest_of(journey, load_stream("acme", "prices"), correction)
    decision = office.decision(journey, action=CaseAction.CORRECT, corrected=digest)
    assert sign_off(decision, "a typo", office.code("anna"), "k", datetime.now(UTC)) is None
    monkeypatch.setenv("COUNTERSIGN_SENDER_SOCKET", str(tmp_path / "nobody"))
    settings.cache_clear()
    with pytest.raises(SenderUnreachable):
        office.put_right(journey, correction)
    assert office.filed() == {}


def test_the_command_line_proves_too_and_signs_for_the_form(office: Office, tmp_path: Path) -> None:
    key = ssh_key(tmp_path, "anna")
    people = office.dock.profiles / "people.yaml"
    told = yaml.safe_load(people.read_text())
    told["people"][0]["keys"] = [key.public]
    people.write_text(yaml.safe_dump(told))

    def command(*words: str, typed: str = "") -> Result:
        return CliRunner().invoke(app, ["quarantine", *words], input=typed)

    journey, bad = office.refused(), office.refused("prices.csv", BAD)
    why = ("--comment", "seen it")
    for of, words, said in (
        ("release", (bad, *why), "nobody can release it"),
        ("correct", (bad, *why, "--cell", "2, nothing = 1"), "'nothing'"),
        ("release", (journey, "--comment", "x" * 2001), "at most 2000 characters"),
    ):
        done = command(of, *words, "--as", "anna", typed="000000")
        assert said in done.output and "The code" not in done.output, "what cannot be done is not asked for"
    for words, typed in (((), ""), (("--as", "lou"), office.code("lou")), (("--as", "anna"), "000000")):
        assert command("release", journey, *why, *words, typed=typed).exit_code != 0
        assert "signed off" not in office.kinds(journey) and "retried" not in office.kinds(journey)
    line = command("sign", journey, "--as", "anna", "--key", str(key.path)).stdout.strip()
    assert "check the code" in office.answer(bad, Decision.CORRECT, "anna", line, cells=CELLS).refusal[0], "for that case only"
    review = office.answer(journey, Decision.RELEASE, "anna", line)
    assert review.again is not None, review.refusal
    fixed = command("correct", bad, *why, "--cell", *CELLS, "--as", "anna", "--key", str(key.path))
    assert fixed.exit_code == 0, fixed.output
    assert office.filed() == {"prices.csv": price_list()}
    [retried] = [one for one in office.dock.ledger.journey(bad) if one.kind == "retried"]
    assert retried.body["by"] == "anna"

    # An auditor sees it in the bundle of evidence, and one that the sender has not sealed is named.
    def checks(to: Path) -> list[Check]:
        with Sender(settings().sender_socket) as sender:
            public = sender.health().public
        exported = CliRunner().invoke(app, ["evidence", "export", bad, "--to", str(to)])
        assert exported.exit_code == 0, exported.output
        return list(verify_evidence(to, {key_id(public): public}, signature_holds))

    found = checks(tmp_path / "whole")
    assert all(check.passed for check in found) and any("by anna, proven by signature" in check.words for check in found)
    [entry] = [one.body for one in office.dock.ledger.journey(bad) if one.kind == "signed off"]
    sealed = CaseSignoff.parse(entry["signoff"])
    office.dock.ledger.append([Entry(bad, "signed off", {"by": "ben", "signoff": replace(sealed, approver="ben").facts})])
    [wrong] = [check.words for check in checks(tmp_path / "planted") if not check.passed]
    assert "does not bear the sender's seal" in wrong
