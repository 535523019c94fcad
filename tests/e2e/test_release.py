"""The cases of the sign-off's specification that need no browser, against a real Prefect server and a real sender."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import yaml
from prefect.client.schemas.objects import State, StateType
from prefect.events import Event, Resource
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.states import Cancelled, Completed, Running, Scheduled

from blocks.errors import SenderError
from blocks.ledger import Entry, Ledger
from blocks.repositories.folder import FolderSession
from blocks.seals import signed
from blocks.sender import Sender
from blocks.spool import Batch, Spooled, Unkept
from blocks.values import Kept
from deployments.sender.store import Step, Store
from deployments.ssh_signatures import signature_holds
from tasks import connections
from tasks.rules.certificate import COLLECTED_WORDS, verified, verify
from tasks.rules.dialog import grouped
from tasks.rules.signing import unchanged
from tests.release_world import Release, ReleaseWorld
from tests.world import price_list


class Dying:
    """A method that is stopped dead, once, before each of its calls and after it: the second try of each gets further.
    With ``only`` a kind, just there."""

    def __init__(self, method: Callable[..., Any], only: str = "") -> None:
        self.method, self.survived, self.only = method, set[tuple[str, str]](), only

    def __get__(self, ledger: Ledger, _: type) -> Callable[..., Any]:
        return lambda *arguments, **options: self(ledger, *arguments, **options)

    def __call__(self, ledger: Ledger, entries: Sequence[Entry], *more: Any) -> Any:
        kind = entries[0].kind if entries else ""
        self._die(kind, "before")
        done = self.method(ledger, entries, *more)
        self._die(kind, "after")
        return done

    def _die(self, *where: str) -> None:
        if where not in self.survived and self.only in ("", where[0]):
            self.survived.add(where)  # type: ignore[arg-type]
            raise RuntimeError(f"killed here: {where}")


PRICES = b"sku,price\n1,2.50\n"


def assert_named(state: State | None, name: str) -> None:
    assert state is not None, "the run is suspended"
    assert state.name == name, f"{state.name}: {state.message}"


def assert_verifies(world: ReleaseWorld, release: Release) -> bytes:
    """The certificate that was filed holds without us, for what stands at the partner; its text."""
    (certificate,) = [text for name, text in world.evidence(release.id).items() if name.endswith(".signoff.json")]
    documents = {name: hashlib.sha256(content).hexdigest() for name, content in release.received.items()}
    with Sender(world.socket) as client:
        key = client.health().public
    checks = verify(certificate.decode(), public_key=key, sealed=signed, signed=signature_holds, documents=documents)
    assert verified(checks), [check for check in checks if not check.passed]
    return certificate


def test_case_01_at_the_wait_nothing_is_at_the_partner_and_the_dialog_says_what_goes(release_world: ReleaseWorld) -> None:
    release = release_world.order(prices=PRICES, terms=b"no refunds")
    bea = release_world.newcomer()
    assert release.start() is None
    told = release.told
    assert told.state is not None and told.state.name == "Suspended"
    assert release.received == {}
    form = release.form
    assert "`prices.csv` · 17 bytes" in form and "`terms.csv` · 10 bytes" in form
    assert grouped(release.package.digest) in form and release.package.digits in form
    assert form.count("\n") < 40
    assert f"awaits:{bea}" in told.tags and "awaits:rita" not in told.tags
    assert "waits for 1 of pricing" in told.name


def test_case_02_a_right_code_lets_all_arrive_and_the_certificate_holds_without_us(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order(prices=PRICES, terms=b"no refunds")
    release.start()
    state = release.sign(bea)
    assert state is not None and (state.name, state.is_completed()) == ("Delivered", True), state
    assert release.received == {"prices.csv": PRICES, "terms.csv": b"no refunds"}
    certificate = assert_verifies(release_world, release)
    assert any(name.endswith(".html") and b"<html" in text.lower() for name, text in release_world.evidence(release.id).items())
    assert json.loads(certificate)["votes"][0]["vote"]["approver"] == bea
    assert not [tag for tag in release.told.tags if tag.startswith("awaits:")]
    assert release.kinds[-1] == "closed"
    learned = connections.ledger().journey("personality.acme.drop")[0].body["personality"]
    assert learned["listing"] == "SFTP", "what only the sender can see is in the ledger"


def test_case_03_an_empty_form_is_refused_at_the_door(release_world: ReleaseWorld) -> None:
    release = release_world.order(prices=PRICES)
    release_world.newcomer()
    release.start()
    assert release.resume({}) == "REJECT"
    assert release.resume(None) == "REJECT"
    assert release.told.state is not None and release.told.state.name == "Suspended"
    assert release.received == {} and "answered" not in release.kinds


def test_case_04_a_wrong_code_is_asked_for_again_and_the_form_says_why(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order(prices=PRICES)
    release.start()
    first = release.last("round")["key"]
    assert release.sign(bea, release_world.wrong_code(bea)) is None
    assert release.form.startswith("**Asked again: The proof was not accepted: check the code and the phone's clock")
    assert release.last("round")["n"] == 2 and release.last("round")["key"] != first
    assert release.received == {}
    assert_named(release.sign(bea), "Delivered")
    assert release.received == {"prices.csv": PRICES}


def test_case_06_a_code_that_was_seen_on_one_run_is_refused_on_another(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    one, other = release_world.order(prices=PRICES), release_world.order(prices=PRICES)
    one.start(), other.start()
    code = release_world.code(bea)
    assert one.sign(bea, code, decision="reject") is None, "no comment: refused, and its code is burnt"
    assert other.sign(bea, code) is None
    assert other.last("answered")["refusal"]["code"] == "proof"
    assert other.received == {}


def test_case_07_of_two_runs_resumed_at_once_with_one_code_one_counts(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    pair = [release_world.order(prices=PRICES), release_world.order(prices=PRICES)]
    for release in pair:
        release.start()
    code = release_world.code(bea)
    for release in pair:
        assert release.resume(release.answer(bea, code)) == "ACCEPT"
    ended = [release.go() for release in pair]
    assert [state.name if state else None for state in ended] == ["Delivered", None]
    assert [bool(release.received) for release in pair] == [True, False]


def test_case_08_the_requester_cannot_sign_in_the_form_or_behind_it(release_world: ReleaseWorld) -> None:
    rex = release_world.newcomer()
    release_world.newcomer()
    release = release_world.order(prices=PRICES)
    release.requester = rex.upper()
    release.start()
    assert release.resume(release.answer(rex)) == "REJECT"
    release.plant(release.answer(rex))
    release_world.client.set_flow_run_state(release.told.id, Scheduled(), force=True)
    assert release.go() is None
    assert release.last("answered")["refusal"]["code"] == "requester"
    assert release.received == {}


def test_case_09_setting_the_state_sends_nothing_and_is_told(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order(prices=PRICES)
    release.start()
    states: tuple[State[Any], ...] = (Scheduled(), Running(), Completed())
    tricks = [(state, forced) for state in states for forced in (False, True)]
    for number, (state, forced) in enumerate(tricks, 1):
        release_world.client.set_flow_run_state(release.told.id, state, force=forced)
        assert release.received == {}
        assert release.go() is None, state
        assert release.kinds.count("bypass") == number and release.last("round")["n"] == number + 1
        assert release.form.startswith("**Asked again: This run was resumed without an answer")
    assert release.received == {}
    assert_named(release.sign(bea), "Delivered")


def test_case_11_a_planted_answer_sends_nothing_and_the_human_still_decides(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order(prices=PRICES)
    release.start()
    for planted in ({"decision": "approve"}, "approve", release.answer(bea, "000000"), None):
        release.plant(planted)
        release_world.client.set_flow_run_state(release.told.id, Scheduled(), force=True)
        assert release.go() is None
        assert release.received == {}
    assert_named(release.sign(bea), "Delivered")


def test_case_12_an_answer_edited_afterwards_changes_nothing_and_shows(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order(prices=PRICES)
    release.start()
    given = release.answer(bea)
    assert release.resume(given) == "ACCEPT"
    assert_named(release.go(), "Delivered")
    recorded = release.last("answered")["answer"]
    assert unchanged(release.stored_answer, recorded)
    release.plant({**given, "decision": "reject"})
    assert not unchanged(release.stored_answer, recorded)
    assert_verifies(release_world, release)
    assert_named(release.go(), "Delivered")


def test_case_13_a_byte_changed_in_the_spool_never_leaves(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order(prices=PRICES, terms=b"no refunds")
    release.start()
    for file in release.package.files:
        place = connections.spool().place(file.sha256)
        place.chmod(0o600)
        place.write_bytes(b"X" + place.read_bytes()[1:])
    assert_named(release.sign(bea), "Delivered")
    assert release.kinds.count("spool-changed") == 2
    assert release.received == {"prices.csv": PRICES, "terms.csv": b"no refunds"}


@pytest.mark.parametrize("prepares", [pytest.param(True, id="told by the sender"), pytest.param(False, id="by a look")])
def test_case_13_bytes_that_are_gone_from_the_spool_are_fetched_again(
    prepares: bool, release_world: ReleaseWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unknown(*_: object) -> None:
        raise SenderError("the sender could not do this (HTTP 404)")  # as one of the version before

    monkeypatch.setattr(logging.getLogger("prefect"), "propagate", True)
    if not prepares:
        monkeypatch.setattr(Sender, "prepare", unknown)
    bea = release_world.newcomer()
    release = release_world.order(prices=b"sku,price\n7,7\n")
    release.start()
    connections.spool().place(release.package.files[0].sha256).unlink()
    assert_named(release.sign(bea), "Delivered")
    assert release.received == {"prices.csv": b"sku,price\n7,7\n"}
    told = [one.getMessage() for one in caplog.records if "has not prepared" in one.getMessage()]
    assert ["HTTP 404" in one for one in told] == ([] if prepares else [True])


def test_case_13_a_worker_that_is_killed_while_it_fetches_again_keeps_what_it_has(
    release_world: ReleaseWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    bea = release_world.newcomer()
    release = release_world.order("shelf", repository="shelf", prices=PRICES, terms=b"no refunds")
    release.start()
    places = [connections.spool().place(file.sha256) for file in release.package.files]
    for place in places:
        place.unlink()
    had, examine = list[list[bool]](), FolderSession.examine

    def watched(session: FolderSession, id: str, version: int, into: Batch) -> tuple[Kept, Spooled]:
        if not isinstance(into, Unkept):
            had.append([place.exists() for place in places])
        return examine(session, id, version, into)

    monkeypatch.setattr(FolderSession, "examine", watched)
    assert_named(release.sign(bea), "Delivered")
    assert had == [[False, False], [True, False]], "when each of them was asked for"


@pytest.mark.parametrize(
    ("stream", "name", "received"),
    [
        pytest.param("prices", "Voided: prices.csv is superseded by v2", {}, id="latest"),
        pytest.param("pinned", "Delivered", {"prices.csv": PRICES}, id="pinned"),
    ],
)
def test_case_14_a_new_version_voids_or_not_as_agreed(
    release_world: ReleaseWorld, stream: str, name: str, received: dict[str, bytes]
) -> None:
    bea = release_world.newcomer()
    release = release_world.order(stream, prices=PRICES)
    release.start()
    release_world.keep(release.id, "prices.csv", b"sku,price\n1,99.00\n")
    assert_named(release.sign(bea), name)
    assert release.received == received


@pytest.mark.parametrize("stream", ["prices", "pinned"])
def test_case_14_other_bytes_under_the_approved_version_void_as_well(release_world: ReleaseWorld, stream: str) -> None:
    """Somebody writes into the repository's own storage: number, date and size of the version stay as they are."""
    bea = release_world.newcomer()
    mine = f"sku,price\n{stream},1\n".encode()
    release = release_world.order(stream, prices=mine)
    release.start()
    (stored,) = [path for path in release_world.ecm["data"].rglob("*") if path.is_file() and path.read_bytes() == mine]
    stored.write_bytes(mine.replace(b",1", b",9"))
    assert_named(release.sign(bea), "Voided: version 1 of prices.csv has other bytes than those that were approved")
    assert release.received == {}


def test_case_14_changed_terms_void_what_waits_on_their_stream_and_no_other(release_world: ReleaseWorld) -> None:
    ann, bea = release_world.newcomer(), release_world.newcomer()
    release, other = release_world.order("pinned", prices=PRICES), release_world.order("prices", prices=PRICES)
    release.start()
    other.start()
    reviewed = release_world.profiles / "acme.yaml"
    before = reviewed.read_text()
    changed = yaml.safe_load(before)
    changed["partner"]["streams"]["pinned"]["owner"] = "nobody@example.com"
    reviewed.write_text(yaml.safe_dump(changed))
    try:
        assert_named(release.sign(bea), "Voided: what was agreed with the partner was changed while the package waited")
        assert_named(other.sign(ann), "Delivered")
    finally:
        reviewed.write_text(before)
    assert release.received == {} and other.received == {"prices.csv": PRICES}


def test_case_14_an_approval_that_was_withdrawn_voids(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order(prices=PRICES)
    release.start()
    withdrawn = {"Partner Document": {"Reference": "Withdrawn"}}
    release_world.keep(release.id, "prices.csv", PRICES, categories=withdrawn)
    state = release.sign(bea)
    assert state is not None and state.name is not None and state.name.startswith("Voided: "), state
    assert release.received == {}


def test_a_stream_for_proven_requesters_takes_no_order_that_only_says_so(release_world: ReleaseWorld) -> None:
    release = release_world.order("proven", prices=PRICES)
    assert_named(release.start(), "Stopped by checks")
    assert "requester" in str(release.last("refused")["reason"]) and "frozen" not in release.kinds


def test_case_15_two_of_three_are_sent_and_the_third_is_asked_about_anew(release_world: ReleaseWorld) -> None:
    bea, ann = release_world.newcomer(), release_world.newcomer()
    release = release_world.order(a=b"1", b=b"2", c=b"3")
    release.start()
    assert_named(release.sign(bea, decision="approve all but the listed", left_out=["3. c.csv"], comment="later"), "Delivered")
    assert release.received == {"a.csv": b"1", "b.csv": b"2"}
    parted = release.last("parted")
    child = release.part(parted["child_order"], parted["child_run"])
    assert release.go() is not None and release.kinds.count("parted") == 1
    assert child.go() is None
    assert child.package.digest == parted["child"] and [file.shown for file in child.package.files] == ["c.csv"]
    assert "what was left out of an earlier package" in child.form
    assert child.resume(child.answer("rita", "000000")) == "REJECT", "who asked for the whole does not sign the rest"
    assert_named(child.sign(ann), "Delivered")
    assert release.received == {"a.csv": b"1", "b.csv": b"2", "c.csv": b"3"}


def test_case_16_duplicate_or_foreign_names_in_the_list_are_refused(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order(a=b"1", b=b"2", c=b"3")
    release.start()
    assert release.resume(release.answer(bea, decision="approve all but the listed", left_out=["9. z.csv"])) == "REJECT"
    told = {"decision": "approve all but the listed", "comment": "twice"}
    assert release.sign(bea, left_out=["1. a.csv", "1. a.csv"], **told) is None
    assert release.last("answered")["refusal"]["code"] == "list-twice"
    ann = release_world.newcomer()
    release.plant(release.answer(ann, left_out=["9. z.csv"], **told))
    release_world.client.set_flow_run_state(release.told.id, Scheduled(), force=True)
    assert release.go() is None
    assert release.last("answered")["refusal"]["code"] == "list-foreign"
    assert release.received == {}


def test_case_17_a_rejection_says_why_and_ends_it(release_world: ReleaseWorld) -> None:
    bea, ann = release_world.newcomer(), release_world.newcomer()
    release = release_world.order(prices=PRICES)
    release.start()
    assert release.sign(bea, decision="reject") is None
    assert release.last("answered")["refusal"]["code"] == "comment"
    ended = release.sign(ann, decision="reject", comment="last year's\u202e\x00prices")
    assert_named(ended, "Rejected")
    assert (
        ended is not None
        and ended.message == f"order {release.id} was rejected: last year's\\u202e\\x00prices; nothing was sent"
    )
    assert release.received == {}
    assert_named(release.go(), "Rejected")


def test_case_17_changes_asked_for_end_it_too(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order(prices=PRICES)
    release.start()
    assert_named(release.sign(bea, decision="request changes", comment="row 3"), "Changes requested")
    assert release.received == {}


def test_case_18_a_quorum_of_two_needs_two_people(release_world: ReleaseWorld) -> None:
    bea, ann = release_world.newcomer(), release_world.newcomer()
    release = release_world.order("pair", prices=PRICES)
    release.start()
    assert release.sign(bea) is None
    assert "**1 of 2** signed" in release.form and "waits for 1 of pricing" in release.told.name
    assert f"awaits:{bea}" not in release.told.tags and f"awaits:{ann}" in release.told.tags
    assert release.resume(release.answer(bea, "123456")) == "REJECT"
    release.plant(release.answer(bea, "123456"))
    release_world.client.set_flow_run_state(release.told.id, Scheduled(), force=True)
    assert release.go() is None and release.received == {}
    assert_named(release.sign(ann), "Delivered")


def test_case_19_the_second_stage_cannot_sign_before_the_first(release_world: ReleaseWorld) -> None:
    bea, lea = release_world.newcomer(), release_world.newcomer("legal")
    release = release_world.order("stages", prices=PRICES)
    release.start()
    early = release.answer(lea)
    assert release.resume(early) == "REJECT"
    release.plant(early)
    release_world.client.set_flow_run_state(release.told.id, Scheduled(), force=True)
    assert release.go() is None
    assert release.last("answered")["refusal"]["code"] == "not-your-turn"
    assert release.sign(bea) is None
    assert "waits for 1 of legal" in release.told.name and release.received == {}
    max_ = release_world.newcomer("legal")
    assert release.go() is None, "asked again, for somebody new may sign"
    assert_named(release.sign(max_), "Delivered")


def test_case_20_a_delegate_signs_for_another_on_dated_days_and_once(release_world: ReleaseWorld) -> None:
    today = datetime.now(UTC).date()
    bea = release_world.newcomer("none")
    now = {"to": bea, "valid_from": str(today - timedelta(days=1)), "valid_until": str(today + timedelta(days=1))}
    ann = release_world.newcomer("pricing", delegations=[now])
    past = {"to": bea, "valid_from": str(today - timedelta(days=9)), "valid_until": str(today - timedelta(days=2))}
    old = release_world.newcomer("pricing", delegations=[past])
    release = release_world.order("pair", prices=PRICES)
    release.start()
    assert release.resume(release.answer(f"{bea} for {old}", "123456")) == "REJECT"
    assert release.sign(f"{bea} for {ann}", release_world.code(bea)) is None
    assert "waits for 1 of pricing" in release.told.name
    assert release.resume(release.answer(ann)) == "REJECT", "ann's vote was cast"
    assert_named(release.sign(old), "Delivered")


@pytest.mark.parametrize("collects", [False, True], ids=["partner-leaves-them", "partner-collects-at-once"])
def test_case_22_after_a_crash_the_rest_is_sent_and_nothing_twice(quiet_release_world: ReleaseWorld, collects: bool) -> None:
    world = quiet_release_world
    bea = world.newcomer()
    release = world.order("prices", a=b"1", b=b"2", c=b"3")
    # Steps of three files: uploaded, read back, asked to be renamed, placed; the first is placed at the eighth.
    with world.sender(die_at=8):
        release.start()
        state = release.sign(bea)
        assert state is not None and state.is_failed(), state
    with Store(world.state) as store:
        (placed,) = [one.name.decode() for one in store.parcels(release.package.digest) if one.step is Step.PLACED]
    before = release.stands
    if collects:
        (world.remote / release.id / placed).unlink()
    whole = {"a.csv": b"1", "b.csv": b"2", "c.csv": b"3"}
    with world.sender():
        state = release.go()
        if collects:
            assert_named(state, "Delivered, 1 collected before proof")
            assert release.received == {name: content for name, content in whole.items() if name != placed}
            assert_weak_tick(world, release, placed)
            assert_named(release.go(), "Delivered, 1 collected before proof")
            assert placed not in release.received, "what the partner has is not sent again"
        else:
            assert_named(state, "Delivered")
            assert release.received == whole
            assert before.items() <= release.stands.items(), "what stood there was left alone"
            assert_verifies(world, release)
    assert [release.kinds.count(kind) for kind in ("round", "answered", "delivered")] == [1, 1, 1]


def assert_weak_tick(world: ReleaseWorld, release: Release, collected: str) -> None:
    """The certificate names the file that nobody saw standing at the partner as its weakest link, and its page shows it so."""
    evidence = world.evidence(release.id)
    (certificate,) = [json.loads(text) for name, text in evidence.items() if name.endswith(".signoff.json")]
    (page,) = [text.decode() for name, text in evidence.items() if name.endswith(".html")]
    assert [one["name"] for one in certificate["deliveries"] if one["collected"]] == [collected]
    assert certificate["weakest"] == COLLECTED_WORDS and page.count(COLLECTED_WORDS) >= 1


def test_a_pass_that_is_killed_anywhere_is_gone_on_with(release_world: ReleaseWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped dead at every write to the ledger, one after the other: each pass is run again and goes one step further."""
    bea = release_world.newcomer()
    release = release_world.order(a=b"1", b=b"2")
    monkeypatch.setattr(Ledger, "append", Dying(Ledger.append))
    while (state := release.start() if release.run is None else release.go()) is not None:
        assert state.is_failed() and "killed here" in str(state.message), state
    assert release.received == {} and release.last("round")["n"] == release.kinds.count("round")
    assert release.resume(release.answer(bea)) == "ACCEPT"
    while not (state := release.go()) or state.is_failed():
        assert state is not None and "killed here" in str(state.message), state
    assert_named(state, "Delivered")
    assert release.received == {"a.csv": b"1", "b.csv": b"2"}
    once = ("frozen", "opened", "answered", "sending", "delivered", "certified", "recording", "recorded", "closed")
    assert [release.kinds.count(kind) for kind in once] == [1] * len(once)
    assert release.kinds.count("bypass") == 0
    monkeypatch.undo()
    assert_verifies(release_world, release)
    assert len(release_world.evidence(release.id)) == 3, "certificate, page and record, once"
    connections.ledger().verify()


def test_case_31_an_approver_removed_after_the_delivery_does_not_undo_it(
    release_world: ReleaseWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    bea = release_world.newcomer()
    release = release_world.order(prices=PRICES)
    release.start()
    assert release.resume(release.answer(bea)) == "ACCEPT"
    with monkeypatch.context() as broken:
        broken.setattr(Ledger, "append", Dying(Ledger.append, only="sealed"))
        state = release.go()
    assert state is not None and state.is_failed() and release.received == {"prices.csv": PRICES}
    removed = release_world.people.pop(bea)
    release_world.write_people()
    try:
        assert_named(release.go(), "Delivered")
    finally:
        release_world.people[bea] = removed
        release_world.write_people()
    assert_verifies(release_world, release)


def test_case_24_after_the_deadline_nobody_can_sign(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order("short", prices=PRICES)
    release.start()
    until = datetime.fromisoformat(release.last("opened")["deadline"])
    time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()) + 0.1)
    assert_named(release.sign(bea), "Expired")
    assert release.received == {}


def test_case_30_a_finished_release_is_never_sent_again(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order(prices=PRICES)
    release.start()
    assert_named(release.sign(bea), "Delivered")
    (release_world.remote / release.id / "prices.csv").unlink()
    before = release.kinds
    assert_named(release.go(), "Delivered")
    assert release.received == {} and release.kinds == before


def test_case_30_a_cancelled_release_asks_anew_when_it_is_retried(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order(prices=PRICES)
    release.start()
    release_world.client.set_flow_run_state(release.told.id, Cancelled(), force=True)
    assert release.go() is None and release.received == {}
    assert_named(release.sign(bea), "Delivered")


def test_case_30_a_sign_off_is_never_used_for_new_bytes(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order("pair", prices=PRICES)
    release.start()
    assert release.sign(bea) is None and "**1 of 2** signed" in release.form
    release_world.client.set_flow_run_state(release.told.id, Cancelled(), force=True)
    release_world.keep(release.id, "prices.csv", b"sku,price\n1,99.00\n")
    assert_named(release.go(), "Voided: prices.csv is superseded by v2")  # retried, it looks before it asks anybody else
    assert release.received == {}


def test_case_31_an_approver_removed_while_waiting_is_refused(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order(prices=PRICES)
    release.start()
    answer = release.answer(bea)
    removed = release_world.people.pop(bea)
    release_world.write_people()
    try:
        assert release.resume(answer) == "ACCEPT"
        assert release.go() is None
    finally:
        release_world.people[bea] = removed
    assert release.last("answered")["refusal"]["code"] == "unknown-approver"
    assert release.received == {}


def test_case_10_an_automation_that_resumes_the_run_sends_nothing(release_world: ReleaseWorld) -> None:
    release_world.newcomer()
    release = release_world.order(prices=PRICES)
    release.start()
    about = {"prefect.resource.id": f"prefect.flow-run.{release.run}"}
    trigger = EventTrigger(expect={"countersign.test.nudge"}, match=about, posture=Posture.Reactive)
    resume = ChangeFlowRunState(state=StateType.SCHEDULED, name="Resumed")
    core = AutomationCore(name=f"resume {release.id}", trigger=trigger, actions=[resume])
    automation = release_world.client.create_automation(core)
    try:
        give_up = time.monotonic() + 300
        while release.told.state is not None and release.told.state.is_paused() and time.monotonic() < give_up:
            nudge = Event(event="countersign.test.nudge", resource=Resource(about))
            # Not emitted: this process sends what it emits in turn, and the events of hundreds of runs are before it.
            httpx.post(
                f"{release_world.client.api_url}events", json=[nudge.model_dump(mode="json")], timeout=60
            ).raise_for_status()
            time.sleep(1)
    finally:
        release_world.client.delete_automation(automation)
    assert release.told.state is not None and not release.told.state.is_paused(), "the automation resumed the run"
    assert release.go() is None
    assert release.kinds.count("bypass") == 1 and release.received == {}


# --------------------------------------------------------------------------------------------- orders


def test_one_order_is_led_by_one_run(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order(prices=PRICES)
    release.start()
    twin = replace(release, run=None)
    assert_named(twin.start(), "Under way elsewhere")
    assert_named(release.sign(bea), "Delivered")
    assert_named(replace(release, run=None).start(), "Delivered")
    assert release.kinds.count("round") == 1


def test_a_run_whose_leader_was_deleted_takes_over(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order(prices=PRICES)
    release.start()
    release_world.client.delete_flow_run(release.told.id)
    heir = replace(release, run=None)
    assert heir.start() is None
    assert heir.kinds.count("abandoned") == 1 and heir.last("round")["n"] == 2
    assert_named(heir.sign(bea), "Delivered")


def test_what_the_repository_does_not_admit_is_withheld_and_told(release_world: ReleaseWorld) -> None:
    release_world.newcomer()
    release = release_world.order(prices=PRICES)
    release_world.keep(release.id, "draft.csv", b"x", categories={"Partner Document": {"Reference": "Draft"}})
    release.start()
    assert [file.shown for file in release.package.files] == ["prices.csv"]
    assert "`draft.csv`" in release.form and "Reference is not Approved" in release.form


def test_nothing_that_may_leave_is_no_release(release_world: ReleaseWorld) -> None:
    release = release_world.order()
    release_world.keep(release.id, "draft.csv", b"x", categories={"Partner Document": {"Reference": "Draft"}})
    assert_named(release.start(), "Nothing to release")
    assert "frozen" not in release.kinds


def test_a_document_that_fails_its_checks_stops_the_order_until_it_is_mended(release_world: ReleaseWorld) -> None:
    release_world.newcomer()
    release = release_world.order("checked", good=price_list(), bad=b"not,the,header\n1,2,3\n")
    assert_named(release.start(), "Stopped by checks, 1 wrong")
    assert [case.code for case in connections.ledger().cases() if case.journey == release.history[0].journey] == [
        "outbound-check"
    ]
    release_world.keep(release.id, "bad.csv", price_list(first=9))
    assert release.go() is None
    assert len(release.package.files) == 2


def test_documents_by_their_ids_and_nothing_else(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order("listed")
    wanted = release_world.keep(release.id, "wanted.csv", b"1")
    release_world.keep(release.id, "other.csv", b"2")
    assert release.start(ids=[wanted]) is None
    assert_named(release.sign(bea), "Delivered")
    assert release.received == {"wanted.csv": b"1"}


def test_from_a_folder_repository(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order("shelf", "shelf", prices=PRICES)
    release.start()
    assert_named(release.sign(bea), "Delivered")
    assert release.received == {"prices.csv": PRICES}
    assert len(release_world.evidence(release.id, "shelf")) == 3


def test_an_order_without_an_id_is_the_same_on_every_pass(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order("listed")
    document = release_world.keep(release.id, "wanted.csv", b"1")
    release.start(order=None, ids=[document])
    release.id = release.ordered_as
    (release_world.remote / release.id).mkdir()
    assert_named(release.sign(bea), "Delivered")
