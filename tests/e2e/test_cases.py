"""More of the cases of the sign-off's specification, by API: clocks, deadlines, crowds, and what Prefect does by itself."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pyotp
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import VariableCreate
from prefect.exceptions import PrefectHTTPStatusError
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.states import Scheduled

from deployments.sender.proofs import STEP_SECONDS
from flows.reconcile import reconcile
from tasks import connections
from tasks.rules.certificate import certificate_name
from tests.e2e.test_release import assert_named
from tests.e2e.test_release_commands import countersign
from tests.release_world import Release, ReleaseWorld
from tests.servers.prefect import overheard

T = TypeVar("T")
PRICES = b"sku,price\n1,2.50\n"
SECRET = "s3cr3t-tariff"
"""What stands in every Variable of a test, and must not be found anywhere else."""


def until(found: Callable[[], T | None], seconds: float = 300) -> T:
    """The first answer that is one."""
    limit = time.monotonic() + seconds
    while (answer := found()) is None:
        assert time.monotonic() < limit, f"not within {seconds} s"
        time.sleep(0.2)
    return answer


def kind(name: str, **more: Any) -> dict[str, Any]:
    """A value that Prefect fills in by itself when a form is posted."""
    return {"__prefect_kind": name, **more}


def variable(name: str) -> dict[str, Any]:
    return kind("workspace_variable", variable_name=name)


def refused_as(release: Release, answer: dict[str, Any], stored: str = "") -> str:
    """The code with which an answer was refused that went through the form's door, and holds this text; the run asks again."""
    assert release.resume(answer) == "ACCEPT"
    assert not stored or stored in release.stored_answer.values(), "Prefect did put the Variable's value into the answer"
    assert release.go() is None and release.received == {}
    return str(release.last("answered")["refusal"]["code"])


def everything_kept(release: Release) -> Iterator[tuple[str, str]]:
    """All that was kept or told of an order, in our files and in Prefect, but the answer's own row; where -> text."""
    world, api = release.world, release.world.client
    for row in api.filter_flow_run_input(release.told.id, "", 200, set()):
        if not row.key.endswith("-response"):
            yield row.key, row.value
    yield "run", release.told.model_dump_json()
    yield "states", str([state.model_dump_json() for state in api.read_flow_run_states(release.told.id)])
    yield "ledger", str([entry.body for entry in release.history])
    for name, content in world.evidence(release.id).items():
        yield name, content.decode()
    for artifact in api.request("POST", "/artifacts/filter", json={"limit": 200, "sort": "CREATED_DESC"}).json():
        yield "artifact", json.dumps(artifact)
    for line in logged(release):
        yield "log", line
    for path in world.home.rglob("*"):
        with suppress(FileNotFoundError):  # a database's journal comes and goes
            if path.is_file():
                yield str(path), path.read_bytes().decode(errors="replace")


def logged(release: Release) -> list[str]:
    """What the run has written into Prefect's log, down to the end of its last pass; it gets there a little later."""
    wanted = {"logs": {"flow_run_id": {"any_": [str(release.run)]}}, "limit": 200, "sort": "TIMESTAMP_DESC"}

    def ended() -> list[str] | None:
        APILogHandler().flush()
        lines = [str(line["message"]) for line in release.world.client.request("POST", "/logs/filter", json=wanted).json()]
        return lines if lines and f"Finished in state {release.told.state.name}" in lines[0] else None  # type: ignore[union-attr]

    return until(ended)


@pytest.fixture
def variables(release_world: ReleaseWorld) -> Iterator[None]:
    """Variables that hold something which is nobody's business, in all forms that Prefect knows how to fill in."""
    told = {
        "tariff": SECRET,
        "as_json": json.dumps(SECRET).replace("-", "\\u002d"),
        "as_template": "{{ 'x' }}" + SECRET,
        "nested": {"deep": [SECRET]},
        "digits": "deadbeef",
        "code": "271828",
    }
    for name, value in told.items():
        release_world.client.create_variable(VariableCreate(name=name, value=value))
    yield
    for name in told:
        release_world.client.delete_variable_by_name(name)


def test_case_26_nothing_of_what_prefect_fills_in_is_kept_or_told(release_world: ReleaseWorld, variables: None) -> None:
    """Each field and each kind; a field of the form's own choices takes no other value, so only a comment can hold one.

    Prefect itself stores and serves a run's answers in clear, Variables filled in: that row is not ours.
    """
    bea, ann = release_world.newcomer(), release_world.newcomer()
    fillings = {
        "variable": variable("tariff"),
        "json": kind("json", value=variable("as_json")),
        "jinja": kind("jinja", template=variable("as_template")),
    }
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: True}):
        release = release_world.order(prices=PRICES, terms=b"no refunds")
        release.start()
        given = release.answer(bea, "000000", decision="approve all but the listed", left_out=["2. terms.csv"], comment="later")
        for name, given_value in given.items():
            for filling in (*fillings.values(), variable("nested")):
                if name != "comment" or filling == variable("nested"):
                    value = [filling] if isinstance(given_value, list) else filling
                    assert release.resume({**given, name: value}) == "REJECT", (name, filling)
        assert refused_as(release, {**given, "package": variable("digits")}, "deadbeef") == "package"
        assert refused_as(release, {**given, "proof": variable("code")}, "271828") == "proof"
        for name, filling in fillings.items():
            answer = {**given, "proof": release_world.code(bea), "comment": filling}
            assert refused_as(release, answer, f"x{SECRET}" if name == "jinja" else SECRET) == "variable"
            assert "the value of Prefect's Variable" in release.form
        release.plant({**given, "comment": fillings["variable"]})
        release_world.client.set_flow_run_state(release.told.id, Scheduled(), force=True)
        assert release.go() is None and release.last("answered")["refusal"]["code"] == "malformed", (
            "behind the door it stays as it is"
        )
        # Kinds without a Variable are another way to write down one's own words.
        own = {"decision": kind("json", value='"approve"'), "comment": kind("jinja", template="{{ 'looks' }} good")}
        state = release.sign(ann, **own)
        assert state is not None and state.name == "Delivered", state
        kept = list(everything_kept(release))
    places = {where for where, _ in kept}
    assert {"artifact", "log"} <= places and any(Path(where).match("sender-*.log") for where in places)
    assert ["looks good" in text for where, text in kept if where == certificate_name(release.package)] == [True]
    for where, text in kept:
        assert not any(told in text for told in (SECRET, "deadbeef", "__prefect_kind")), where
        # Six digits come up by chance within digests and fractions of a second, of which there are thousands.
        assert not re.search("(?<![0-9a-f.])271828(?![0-9a-f])", text), where


# --------------------------------------------------------------------------------------------- bytes that change while waiting


def spoil_spool(release: Release) -> None:
    """Change one byte of every document of a package in our spool."""
    for file in release.package.files:
        place = connections.spool().place(file.sha256)
        place.chmod(0o600)
        spoil(place)


def spoil(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


@contextmanager
def events(release: Release, name: str) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What programs were told about an order until then, while the block runs."""
    with overheard() as told:
        yield lambda: [
            one.payload
            for one in told()
            if one.event == f"countersign.signoff.{name}" and one.payload.get("order") == release.id
        ]


def test_case_13_other_bytes_under_the_approved_version_void_it_and_it_is_asked_anew(release_world: ReleaseWorld) -> None:
    """A repository's administrator can put other bytes under a version that was approved; its number stays the same."""
    bea, ann = release_world.newcomer(), release_world.newcomer()
    release = release_world.order("listed")
    document = release_world.keep(release.id, "prices.csv", PRICES)
    release.start(ids=[document])
    spoil_spool(release)
    (content,) = (Path(release_world.ecm["root"]) / "content").glob(f"*/{document}")
    spoil(content)
    with events(release, "spool-changed") as told:
        assert_named(release.sign(bea), "Voided: version 1 of prices.csv has other bytes than those that were approved")
        (alert,) = told()
    assert release.received == {} and "sending" not in release.kinds
    assert alert["document"] == "prices.csv"
    anew = release_world.order("listed")
    assert anew.start(ids=[document]) is None, "asked anew, about the bytes that are there now"
    assert anew.package.digest != release.package.digest
    assert_named(anew.sign(ann), "Delivered")
    assert anew.received == {"prices.csv": content.read_bytes()} and anew.received["prices.csv"] != PRICES


def test_case_13_an_approved_version_that_is_nowhere_any_more_voids_it(release_world: ReleaseWorld) -> None:
    bea = release_world.newcomer()
    release = release_world.order("pinned", prices=PRICES)
    release.start()
    spoil_spool(release)
    release_world.keep(release.id, "prices.csv", b"sku,price\n1,99.00\n")
    (file,) = release.package.files
    api = f"{release_world.ecm['url']}/api"
    user = {"username": release_world.ecm["user"], "password": release_world.ecm["password"]}
    ticket = httpx.post(f"{api}/v1/auth", data=user, timeout=60).json()["ticket"]
    removed = httpx.delete(f"{api}/v2/nodes/{file.repository_id}/versions/1", headers={"OTCSTicket": ticket}, timeout=60)
    assert removed.is_success, removed.text
    assert_named(release.sign(bea), "Voided: prices.csv is no longer in the repository as it was approved")
    assert release.received == {}


def test_case_13_a_document_edited_behind_the_repository_voids_it(release_world: ReleaseWorld) -> None:
    """Somebody edits a document in place on the share that is the repository, past it and its record of what was filed."""
    bea = release_world.newcomer()
    release = release_world.order("shelf", "shelf", prices=PRICES)
    release.start()
    spoil_spool(release)
    edited = release_world.home / "shelf" / "Outbox" / release.id / "prices.csv"
    edited.chmod(0o600)
    spoil(edited)
    assert_named(release.sign(bea), "Voided: prices.csv is no longer in the repository as it was approved")
    assert release.received == {}


# --------------------------------------------------------------------------------------------- five wrong


def test_case_05_five_wrong_proofs_lock_that_approver_until_unlocked_and_nobody_else(release_world: ReleaseWorld) -> None:
    bea, ann = release_world.newcomer(), release_world.newcomer()
    release = release_world.order("pair", prices=PRICES)
    release.start()
    with events(release, "locked") as told:
        for number in range(1, 6):
            code = refused_as(release, release.answer(bea, release_world.wrong_code(bea)))
            assert code == ("proof" if number < 5 else "locked")
        assert [one["approver"] for one in told()] == [bea]
    assert refused_as(release, release.answer(bea)) == "locked", "a right sixth"
    assert "locked after five wrong proofs" in release.form
    assert release.sign(ann) is None and "**1 of 2** signed" in release.form, "another approver can still sign"
    assert countersign("signoff", "unlock", bea).exit_code == 0
    # The code of this moment was seen while bea was locked; the phone shows the next one soon.
    assert_named(release.sign(bea, code_of_a_wrong_clock(release_world, bea, STEP_SECONDS)), "Delivered")


# --------------------------------------------------------------------------------------------- six at once


def at_once(release: Release, answers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Post these answers to the form at one moment; what Prefect says to each."""
    together, run = threading.Barrier(len(answers)), release.told.id

    def post(answer: Mapping[str, Any]) -> str:
        with get_client(sync_client=True) as client:
            together.wait(120)
            try:
                return str(client.resume_flow_run(run, run_input=dict(answer)).status.value)
            except PrefectHTTPStatusError as error:
                return str(error.response.status_code)

    with ThreadPoolExecutor(len(answers)) as pool:
        # Which server is meant stands in the context, which threads do not inherit.
        return [told.result() for told in [pool.submit(copy_context().run, post, answer) for answer in answers]]


def assert_one_of_six_counts(world: ReleaseWorld) -> None:
    crowd, ann = [world.newcomer() for _ in range(6)], world.newcomer()
    release = world.order("pair", prices=PRICES)
    release.start()
    told = at_once(release, [release.answer(person) for person in crowd])
    assert told.count("ACCEPT") <= 1 and set(told) <= {"ACCEPT", "ABORT", "409", "503"}, told
    names = [state.name for state in world.client.read_flow_run_states(release.told.id)]
    assert names.count("Resuming") == 1, names
    assert release.go() is None, "two are needed, and one has signed"
    assert release.kinds.count("answered") == 1 and release.last("answered")["vote"] is not None
    assert "**1 of 2** signed" in release.form and release.received == {}
    assert_named(release.sign(ann), "Delivered")
    assert release.received == {"prices.csv": PRICES}


def test_case_23_of_six_resumes_at_once_one_is_a_vote(release_world: ReleaseWorld) -> None:
    """Prefect's database and our ledger on SQLite; ``test_apart.py`` has the same on PostgreSQL."""
    assert_one_of_six_counts(release_world)


# --------------------------------------------------------------------------------------------- clocks


def test_case_24_a_resume_after_the_deadline_changes_nothing(release_world: ReleaseWorld) -> None:
    """Once the sweep has told it, and once more when the run has ended. Reminders and a wider circle come with a later issue."""
    bea = release_world.newcomer()
    release = release_world.order("short", prices=PRICES)
    release.start()
    until(lambda: datetime.now(UTC) > datetime.fromisoformat(release.last("opened")["deadline"]) or None)
    state = reconcile(patience_seconds=0, return_state=True)
    assert state.is_completed() and "expired" in [entry.body["code"] for entry in release.history if entry.kind == "found"]
    assert release.resume(release.answer(bea)) == "ABORT", "it waits for nobody any more"
    release.plant(release.answer(bea))
    assert_named(release.go(), "Expired")
    ended = release.history
    assert release.resume(release.answer(bea)) == "ABORT"
    release_world.client.set_flow_run_state(release.told.id, Scheduled(), force=True)
    assert_named(release.go(), "Expired")
    assert release.received == {} and release.history == ended


def code_of_a_wrong_clock(world: ReleaseWorld, person: str, seconds: int) -> str:
    """What a phone shows whose clock is so many seconds off."""
    return pyotp.TOTP(world.seeds[person]).at(int(time.time()) + seconds)


def test_case_32_a_phone_25_s_off_is_taken_and_one_5_min_off_is_not(release_world: ReleaseWorld) -> None:
    slow, fast, late, early = (release_world.newcomer() for _ in range(4))
    release = release_world.order("pair", prices=PRICES)
    release.start()
    for person, seconds in ((late, -300), (early, 300)):
        assert release.sign(person, code_of_a_wrong_clock(release_world, person, seconds)) is None
        assert release.last("answered")["refusal"]["code"] == "proof"
        assert release.form.startswith("**Asked again: The proof was not accepted: check the code and the phone's clock")
    # Only while this phone has not shown its code for long: before its next, and 30 s more, the answer must be taken.
    until(lambda: (time.time() - 25) % STEP_SECONDS < 8 or None)
    assert release.sign(slow, code_of_a_wrong_clock(release_world, slow, -25)) is None
    assert release.last("answered")["vote"] is not None and "**1 of 2** signed" in release.form and release.received == {}
    assert_named(release.sign(fast, code_of_a_wrong_clock(release_world, fast, 25)), "Delivered")
