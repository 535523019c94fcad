"""E3 Transmission record: one record says what went, when, to whom, what the server said and who allowed it."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from blocks.errors import OnHold
from blocks.ledger import CaseState
from blocks.profile import load_repositories
from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.seals import SealKey
from blocks.values import Kept
from deployments.cli import app
from flows.intake import intake
from flows.reconcile import reconcile
from tasks import connections, holds
from tasks.clean_up import clear_outbox
from tasks.sweep import MIRRORS
from tests.release_world import ROOT, Release, ReleaseWorld
from tests.usecases.acknowledging import cases, said

LETTER = b"sku,price\nA-1,9.90\n"


RECORD = {
    "repository": "ecm",
    "folder": "Transmissions/{partner}/{order}",
    "categories": {"Partner Document": {"Reference": "{partner}/{stream} {order}", "Tags": ["{documents}", "{digests}"]}},
    "records_class": "Contracts",
    "copies": True,
    "acknowledged_by": "acknowledgements",
}


@pytest.fixture
def world(release_world: ReleaseWorld) -> ReleaseWorld:
    """Letters go with a record that holds their bytes, found again by partner, name and hash."""
    agree(release_world)
    return release_world


def agree(world: ReleaseWorld, *, name: str = "{name}", says: str = "order", **changes: Any) -> None:
    """``name``: of a document at the partner; ``says``: what an acknowledgement's name tells."""
    acks = world.remote / "acks"
    acks.mkdir(exist_ok=True)
    acknowledgements = {
        "direction": "inbound",
        "endpoint": "drop",
        "folder": str(acks),
        "settle": {"quiet": "PT0S"},
        "classify": [
            {"pattern": rf"(?P<{says}>[^@]+)@.*\.ack", "doctype": "acknowledgement"},
            {"pattern": rf"(?P<{says}>[^@]+)@.*\.nack", "doctype": "acknowledgement", "facts": {"acknowledged": "no"}},
        ],
        "target": {"repository": "ecm", "folder": f"Transmissions/{{partner}}/{{{says}}}"},
    }
    places = [{"endpoint": "drop", "folder": f"{world.remote}/{{order}}", "name": name}]
    letters = world.terms(record={**RECORD, **changes}, destinations=places)
    world.agree(letters=letters, acknowledgements=acknowledgements)


def filed(world: ReleaseWorld, release: Release) -> dict[str, Kept]:
    with load_repositories(world.profiles)["ecm"].session() as session:
        found = {kept.name: kept for kept in session.look(("Transmissions", "acme", release.id))}
        return {name: session.get(kept.id) for name, kept in found.items()}


def written(release: Release) -> set[str]:
    """SHA-256 of what was written about a release and filed: its certificate, the page to print, its record."""
    certified = release.last("certified")
    return {certified["certificate"], certified["page"], release.last("recorded")["record"]}


def read(world: ReleaseWorld, id: str) -> bytes:
    spool = connections.spool()
    with load_repositories(world.profiles)["ecm"].session() as session, spool.batch() as batch:
        digest = session.fetch(id, None, batch).digest
    return spool.path(digest).read_bytes()


def signed(world: ReleaseWorld) -> tuple[Release, str]:
    """A letter that somebody has signed, and how its run ended."""
    bea = world.newcomer()
    release = world.order("letters", letter=LETTER)
    assert release.start() is None
    state = release.sign(bea)
    assert state is not None and state.is_completed(), state
    return release, str(state.name)


def swept(release: Release) -> bool:
    """True if the sweep has the order's run go on."""
    assert reconcile(patience_seconds=0, return_state=True).is_completed()
    state = release.told.state
    return state is not None and state.is_scheduled()


def test_one_record_says_what_when_to_whom_and_who_allowed_it(world: ReleaseWorld) -> None:
    release, outcome = signed(world)
    assert outcome == "Delivered"
    documents = filed(world, release)
    (name,) = [name for name in documents if name.endswith(".transmission.json")]
    assert set(documents) == {name, "letter.csv"}
    record = json.loads(read(world, documents[name].id))
    digest = hashlib.sha256(LETTER).hexdigest()
    # What: the bytes, beside the record and where they came from.
    (document,) = record["documents"]
    assert (document["name"], document["size"], document["sha256"]) == ("letter.csv", len(LETTER), digest)
    assert read(world, document["copy"]["id"]) == LETTER and document["copy"]["id"] == documents["letter.csv"].id
    assert document["taken_from"]["id"] != document["copy"]["id"]
    # When and to whom, and what the other side said.
    (sent,) = record["transmissions"]
    assert sent["path"] == f"{world.remote}/{release.id}/letter.csv" and sent["sha256"] == digest
    assert sent["server_key"] == world.partner.fingerprint == sent["destination"]["key_fingerprint"]
    assert sent["replies"] == ["CLOSE: 0 Success", "RENAME: 0 Success", "RENAME: 0 Success"]
    assert sent["proof"] == "read back" and sent["at"] >= release.history[0].at.isoformat()[:19]
    # Who: the approver, with the certificate that is sealed.
    (approver,) = record["approvers"]
    assert approver["decision"] == "approve" and approver["name"] and approver["at"] < record["made"]
    assert record["certificate"]["sha256"] == release.last("certified")["certificate"]
    # Found by partner, stream, name and hash, in a records class.
    values = documents[name].categories["Partner Document"]
    assert values["Reference"] == f"acme/letters {release.id}" and list(values["Tags"]) == ["letter.csv", digest]
    with load_repositories(world.profiles)["ecm"].session() as session:
        found = {kept.id for kept in session.search(text=digest)}
    assert {documents[name].id, documents["letter.csv"].id} <= found


def test_a_record_that_cannot_be_filed_is_shown_and_tried_again_and_nothing_is_sent_twice(world: ReleaseWorld) -> None:
    agree(world, records_class="No such class")
    release, outcome = signed(world)
    assert outcome == "Delivered, record waits"
    there = release.stands
    assert list(there) == ["letter.csv"] and release.last("in-doubt")["case"]["code"] == "record-not-filed"
    assert "No such class" in release.last("in-doubt")["reason"]
    assert swept(release), "the sweep lets it try again"
    again = release.go()
    assert again is not None and again.name == outcome and release.kinds.count("in-doubt") == 1, "one case, however often"

    agree(world)
    assert swept(release)
    state = release.go()
    assert state is not None and state.name == "Delivered", state
    assert release.stands == there and release.kinds[-1] == "closed"
    assert len(filed(world, release)) == 2, "the record and its document, once"
    (case,) = [c for c in connections.ledger().cases(open_only=False) if c.journey == release.history[0].journey]
    assert case.state is CaseState.RESOLVED
    assert not swept(release)


OFFLINE = """
import sys

def nothing_else(event, args):
    if event in ("socket.connect", "sqlite3.connect", "subprocess.Popen"):
        raise SystemExit(f"{event} {args}")

sys.addaudithook(nothing_else)
from deployments.cli import app
app(["evidence", "verify", *sys.argv[1:]])
"""


def handed_on(world: ReleaseWorld, release: Release, said: str, tmp_path: Path) -> None:
    """What proves the order is one bundle, which verifies with nothing but the sender's key; a byte that is changed is named."""
    run, bundle = CliRunner(), tmp_path / "bundle"
    told = run.invoke(app, ["evidence", "export", release.id, "--with-bytes", "--to", str(bundle)])
    assert told.exit_code == 0, told.output + told.stderr
    contents = {path.relative_to(bundle).as_posix(): path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    assert {LETTER, b"received letter.csv, 19 bytes"} <= set(contents.values())
    (record,) = [json.loads(told) for name, told in contents.items() if name.endswith(".transmission.json")]
    assert [one["name"] for one in record["acknowledgements"]] == [said], "the record as it was filed last"
    page = contents["index.html"].decode()
    for fact in ("letter.csv", release.id, world.partner.fingerprint, "RENAME: 0 Success", "read back", said, "approve"):
        assert fact in page, fact
    secrets = [*world.seeds.values(), str(world.ecm["password"]), world.partner.private_key.read_text()]
    assert not [name for name, told in contents.items() if any(secret.encode() in told for secret in secrets)]

    key = run.invoke(app, ["signoff", "key"]).output.strip()
    words = [sys.executable, "-c", OFFLINE, str(bundle), "--key", key, "--all"]
    environment = {"PATH": "/usr/bin:/bin", "COUNTERSIGN_HOME": str(tmp_path / "none"), "PYTHONPATH": str(ROOT)}
    alone = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert alone.returncode == 0 and "whole:" in alone.stdout, alone.stdout + alone.stderr
    assert "signoff.json: sealed by the sender" in alone.stdout and not (tmp_path / "none").exists()
    for name, content in contents.items():
        middle = len(content) // 2
        (bundle / name).write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        found = run.invoke(app, ["evidence", "verify", str(bundle), "--key", key])
        assert found.exit_code == 1 and f"FAIL  {name}:" in found.output, found.output
        (bundle / name).write_bytes(content)
    other = base64.b64encode(SealKey.open(tmp_path / "other.pem").public).decode()
    foreign = run.invoke(app, ["evidence", "verify", str(bundle), "--key", other]).output
    assert "signoff.json: seal" in foreign and "none of those given" in foreign, foreign


def test_what_the_partner_says_later_becomes_part_of_the_record(world: ReleaseWorld, tmp_path: Path) -> None:
    release, _ = signed(world)
    first = {name: kept.version for name, kept in filed(world, release).items()}
    said = f"{release.id}@2026-11-20.ack"
    for name, text in ((said, b"received letter.csv, 19 bytes"), ("o-nobody@x.ack", b"received what nobody sent")):
        (world.remote / "acks" / name).write_bytes(text)
    taken = intake("acme", "acknowledgements", patience_seconds=5, return_state=True)
    assert taken.name == "Filed", taken
    for _ in range(2):  # the second sweep adds nothing
        reconcile(patience_seconds=0)
    documents = filed(world, release)
    (name,) = [name for name in first if name.endswith(".transmission.json")]
    assert documents[name].version == first[name] + 1
    record = json.loads(read(world, documents[name].id))
    (acknowledgement,) = record["acknowledgements"]
    assert (acknowledgement["name"], acknowledgement["repository_id"]) == (said, documents[said].id)
    assert acknowledgement["sha256"] == hashlib.sha256(b"received letter.csv, 19 bytes").hexdigest()
    assert record["approvers"] and [sent["document"] for sent in record["transmissions"]] == ["letter.csv"]
    assert release.kinds.count("acknowledged") == 1 and release.last("recorded")["acknowledgements"] == 1
    # What speaks of nothing we know is filed all the same, and told once.
    unknown = [entry for entry in connections.ledger().journey(MIRRORS) if entry.body["code"] == "acknowledgement"]
    assert ["o-nobody@x.ack" in entry.body["reason"] for entry in unknown] == [True]
    handed_on(world, release, said, tmp_path)


def test_what_it_says_of_a_document_names_it_as_the_partner_got_it(world: ReleaseWorld) -> None:
    agree(world, name="for you {name}", says="document", acknowledged_within="PT0.001S")
    release, _ = signed(world)
    assert cases(release) == [] and record_of(world, release)["state"] == "TO_ACK"
    # Nothing has come in time: a person is told, once.
    for _ in range(2):
        reconcile(patience_seconds=0)
    assert cases(release) == [("not-acknowledged", "new")]
    # It has come, and says no: the case says what to do.
    said(world, "for you letter.csv@1.nack")
    (case,) = [case for case in connections.ledger().cases() if case.name == release.id]
    assert (
        case.code == "answered-no" and "countersign run resend" in str(case.reason) and "for you letter.csv" in str(case.reason)
    )
    assert record_of(world, release)["state"] == "NACKED"
    shown = CliRunner().invoke(app, ["signoff", "show", release.id])
    assert "NACKED" in shown.output
    # It is taken after all: that is over.
    said(world, "for you letter.csv@2.ack")
    assert cases(release) == [("answered-no", "resolved")]
    record = record_of(world, release)
    assert record["state"] == "ACKED" and [one["document"] for one in record["acknowledgements"]] == ["for you letter.csv"] * 2
    assert release.kinds.count("acknowledged") == 2 and release.last("recorded")["acknowledgements"] == 2
    reconcile(patience_seconds=0)
    assert cases(release) == [("answered-no", "resolved")]


def record_of(world: ReleaseWorld, release: Release) -> Any:
    """The record as it was filed last."""
    (record,) = [kept for name, kept in filed(world, release).items() if name.endswith(".transmission.json")]
    return json.loads(read(world, record.id))


def test_a_hold_keeps_the_record_and_its_copies_after_their_period_has_ended(
    world: ReleaseWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(world, record_date="2020-01-01", retention={"period": "P30D"})
    release, outcome = signed(world)
    assert outcome == "Delivered"
    order, spool, letter = release.history[0].journey, connections.spool(), hashlib.sha256(LETTER).hexdigest()
    certificate = release.last("certified")["repository_id"]
    kept = {**filed(world, release), "certificate": certificate}

    def told(verb: str, *options: str) -> None:
        done = CliRunner().invoke(app, ["hold", verb, order, "Miller ./. ACME", *options])
        assert done.exit_code == 0, done.output

    copies, texts = world.state / "outbox" / release.package.digest, written(release)

    def all_stays() -> None:
        spool.collect((), holds.Gate().kept_digests, older_than=timedelta(seconds=-1))
        assert spool.holds(letter), "the bytes that were sent are on hold too"
        assert len(texts) == 3 and all(map(spool.holds, texts)), "and what was written about them"
        assert order in [journey for journey, _ in clear_outbox.fn().kept] and (copies / letter).exists(), (
            "and the sender's copies"
        )

    with monkeypatch.context() as patch:
        patch.setattr(holds, "_repositories", dict)
        all_stays()  # nobody can tell
    told("apply", "--comment", "letter of counsel")
    all_stays()
    with load_repositories(world.profiles)["ecm"].session() as session:
        assert isinstance(session, ExtendedEcmSession)
        assert len(kept) == 3
        for one in kept.values():
            id = one if isinstance(one, str) else one.id
            assert [hold.name for hold in session.holds(id)] == ["Miller ./. ACME"]
            with pytest.raises(OnHold, match="Miller"):
                session.remove(id)
            assert read(world, id)
        told("lift", "--comment", "settled")
        clear_outbox.fn()
        assert not copies.exists()
        spool.collect((), holds.Gate().kept_digests, older_than=timedelta(seconds=-1))
        assert not any(map(spool.holds, [letter, *texts]))
        for document in filed(world, release).values():
            record = session.records.get(int(document.id))
            assert record is not None and record.record_date == date(2020, 1, 1), record
            session.remove(document.id)  # nobody needs it any more: the period ended in January 2020
        assert not list(session.look(("Transmissions", "acme", release.id)))
