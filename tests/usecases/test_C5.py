"""C5 Validate, quarantine, notify: each kind of failure has its own reason code, is told once, and calls no system; a person decides."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pyotp
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.events import Event
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.logging import disable_run_logger
from prefect.states import Crashed, Failed, Pending

from blocks.ledger import Entry
from blocks.settings import settings
from deployments.sender.proofs import new_seed
from deployments.sender.store import Store
from tasks.connections import quarantine
from tasks.incidents import close
from tasks.retry import reject
from tasks.review_again import review_again, tries
from tasks.rules.case_form import Decision
from tasks.tell_cases import tell_cases
from tests.ledger.clock import Clock
from tests.rules.signoff.test_dialog import bones
from tests.sender.thread import sender_thread
from tests.servers.prefect import overheard, resume
from tests.world import World, price_list, review_deployed

GOOD, MENDED = price_list(), price_list(rows=4)
SHIPMENTS = b"shipment,line,sku,quantity,shipped_on\nS1,1,A-1,2,2026-11-20\n#TRAILER;rows=2;quantity=4\n"
FAILURES = {
    "Prices (1).csv": ("naming-rule", GOOD),
    "empty.csv": ("empty-file", b""),
    "huge.csv": ("too-large", GOOD * 100),
    "encoding.csv": ("wrong-encoding", GOOD.replace(b"Bolt", "Bölt".encode("latin-1"))),
    "header.csv": ("missing-column", GOOD.replace(b",price,", b",cost,", 1)),
    "type.csv": ("wrong-type", MENDED.replace(b",1.50,", b",one,")),
    "range.csv": ("out-of-range", GOOD.replace(b",1.50,", b",-1.50,")),
    "twice.csv": ("duplicate-key", GOOD + GOOD.splitlines(keepends=True)[1]),
    "ship-1.csv": ("truncated", SHIPMENTS),
}


@pytest.fixture
def opened(world: World) -> Iterator[Callable[[], list[Event]]]:
    """What was told of cases until then."""
    with overheard() as told:
        yield lambda: [one for one in told() if one.event == "countersign.case.opened"]


@pytest.fixture
def partner(world: World) -> World:
    people = [
        {"id": "anna", "name": "Anna Berg", "mail": "anna@example.com", "groups": ["pricing"]},
        {"id": "ben", "name": "Ben Ortiz", "mail": "ben@example.com", "groups": ["logistics"]},
    ]
    world.agree(
        naming=r"[a-z0-9-]+\.csv",
        classify=[
            {"pattern": r"ship-.*\.csv", "doctype": "shipment-manifest"},
            {"pattern": r".*\.csv", "doctype": "price-list"},
        ],
        limits={"largest_bytes": 5000},
        owner="pricing",
        resolve_within="PT4H",
        releasable=["naming-rule"],
    )
    (world.profiles / "people.yaml").write_text(yaml.safe_dump({"people": people}))
    return world


@pytest.fixture
def prefect(partner: World) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client, review_deployed(client):
        yield client


class Form:
    """The run that asks about one case."""

    def __init__(self, client: SyncPrefectClient, world: World, journey: str) -> None:
        [begun] = [entry.body["run"] for entry in world.ledger.journey(journey) if entry.kind == "review begun"]
        self.client, self.world, self.journey, self.run = client, world, journey, UUID(str(begun))

    def go(self) -> State[Any] | None:
        """One pass of the run, as a worker makes it. None: it waits for a person."""
        from flows.review import review

        self.client.set_flow_run_state(self.run, Pending(), force=True)
        told = self.client.read_flow_run(self.run)
        try:
            return run_flow(review, flow_run=told, parameters=told.parameters, return_type="state")  # type: ignore[return-value]
        except Pause:
            return None

    def answer(self, decision: str, who: str = "anna", **more: Any) -> State[Any] | None:
        """Somebody fills in the form; the run is made to go on."""
        [asked] = self.schema["properties"]["decision"]["allOf"]
        rendered = re.sub(r"\n(?!\n)", " ", asked["description"])
        assert bones(rendered) == bones(self.text), "the classic UI shows the form's text here only"
        [full] = [choice for choice in asked["enum"] if choice.startswith(decision)]
        assert resume(self.client, self.run, {"decision": full, "who": who, **more}) == "ACCEPT"
        return self.go()

    def plant(self, answer: dict[str, Any]) -> State[Any] | None:
        """Somebody writes an answer past the form, or another one over it, and moves the run on: the Prefect API suffices for that."""
        state = self.client.read_flow_run(self.run).state
        assert state is not None and state.state_details.run_input_keyset is not None
        key = state.state_details.run_input_keyset["response"]
        self.client.create_flow_run_input(self.run, key, json.dumps(answer))
        return self.go()

    def _kept(self, what: str) -> Any:
        details = self.client.read_flow_run(self.run).state.state_details  # type: ignore[union-attr]
        return json.loads(self.client.read_flow_run_input(self.run, details.run_input_keyset[what]))  # type: ignore[index]

    @property
    def text(self) -> str:
        return str(self._kept("description"))

    @property
    def schema(self) -> dict[str, Any]:
        return dict(self._kept("schema"))


def listening() -> socket.socket:
    """A place at which whoever calls is heard."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


def test_each_kind_of_failure_has_its_code_is_told_once_and_calls_no_system(
    partner: World, opened: Callable[[], list[Event]]
) -> None:
    repositories = partner.profiles / "repositories.yaml"
    agreed = yaml.safe_load(repositories.read_text())
    with listening() as systems:
        agreed["repositories"]["ecm"]["url"] = f"http://127.0.0.1:{systems.getsockname()[1]}/otcs/cs.exe"
        repositories.write_text(yaml.safe_dump(agreed))
        for name, (_, content) in FAILURES.items():
            partner.leave(name, content)
        assert partner.run().name == f"Nothing filed, {len(FAILURES)} quarantined"
        assert partner.run().is_completed()
        with pytest.raises(BlockingIOError):
            systems.accept()
    cases = partner.ledger.cases()
    assert {case.name: case.code for case in cases} == {name: code for name, (code, _) in FAILURES.items()}
    assert len({case.code for case in cases}) == len(FAILURES)
    told = opened()
    assert sorted(one.payload["file"] for one in told) == sorted(FAILURES), "each once"
    assert {one.resource_in_role["owner"].id for one in told} == {"countersign.owner.pricing"}
    for case in cases:
        content = quarantine().content(case.journey)
        assert case.code == "too-large" if content is None else content.read_bytes() == FAILURES[str(case.name)][1]


def test_a_person_releases_with_a_reason_and_puts_cells_right_in_the_form(
    partner: World, prefect: SyncPrefectClient, opened: Callable[[], list[Event]]
) -> None:
    for name in ("Prices (1).csv", "type.csv", "range.csv"):
        partner.leave(name, FAILURES[name][1])
    partner.run()
    cases = {case.name: case.journey for case in partner.ledger.cases()}

    named = Form(prefect, partner, cases["Prices (1).csv"])
    assert named.go() is None and "naming-rule" in named.text
    assert named.answer("release") is None, "no reason was given"
    assert "Say why" in named.text and partner.filed() == {}
    over = named.answer("release", comment="they told us on the phone")
    assert over is not None and over.name == "Resolved"
    assert partner.filed() == {"Prices (1).csv": GOOD}
    [released] = [entry for entry in partner.ledger.journey(named.journey) if entry.kind == "retried"]
    assert (released.body["by"], released.body["comment"], released.body["released"]) == (
        "anna",
        "they told us on the phone",
        True,
    )
    assert released.at is not None

    typed = Form(prefect, partner, cases["type.csv"])
    assert typed.go() is None
    assert typed.answer("assign", assign_to="ben", comment="yours") is None
    assert "assigned" in typed.text
    bad, still, good = "2, cost = 1.50", "2, price = two", "2, price = 1.50"
    assert typed.answer("correct", "ben", cells=[bad], comment="a typo") is None
    assert "no column" in typed.text
    assert typed.answer("correct", "ben", cells=[still], comment="a typo") is None
    assert "refused" in typed.text
    over = typed.answer("correct", "ben", cells=[good], comment="a typo")
    assert over is not None and over.name == "Resolved"
    assert partner.filed() == {"Prices (1).csv": GOOD, "type.csv": MENDED}
    kept = quarantine().content(typed.journey)
    assert kept is not None and kept.read_bytes() == FAILURES["type.csv"][1], "what the partner sent stays as it was"

    # Decided otherwise: the sweep ends the run that asks, and no process begins for it.
    other = Form(prefect, partner, cases["range.csv"])
    assert other.go() is None
    reject(other.journey, "not needed", "ben")
    tell_cases.fn()
    told = prefect.read_flow_run(other.run)
    assert (told.state_name, told.tags.count("awaits:anna")) == ("Resolved", 1)
    assert [entry.kind for entry in partner.ledger.journey(other.journey)].count("review ended") == 1
    assert partner.ledger.cases() == [] and len(opened()) == 3
    partner.ledger.verify()


def test_where_it_is_to_be_proven_nobody_releases_by_the_prefect_api_alone(
    partner: World, prefect: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    partner.agree(naming=r"[a-z0-9-]+\.csv", releasable=["naming-rule"], signoff={"proof": "code", "groups": ["pricing"]})
    partner.leave("Prices (1).csv", GOOD)
    partner.run()
    [case] = partner.ledger.cases()
    form, socket_, state, seed = Form(prefect, partner, case.journey), partner.home / "s", partner.home / "sender", new_seed()
    monkeypatch.setenv("COUNTERSIGN_SENDER_SOCKET", str(socket_))
    settings.cache_clear()
    with Store(state) as store:
        store.enrol("anna", seed)
    with sender_thread(socket_, state, profiles=partner.profiles, spool=partner.home / "spool"):
        assert form.go() is None
        digest = hashlib.sha256(GOOD).hexdigest()
        assert digest in form.text and "proof" in form.schema["properties"]
        release = {"decision": Decision.RELEASE.value, "who": "anna", "comment": "let it in"}
        assert form.plant(release) is None and "Prove that it is you" in form.text
        assert form.plant({**release, "proof": "000000"}) is None and "check the code" in form.text
        from flows.review import retry

        started = retry(case.journey, "let it in", "anna", release=True, return_state=True)
        assert started.is_failed() and "nobody has proven" in str(started.message)
        assert partner.filed() == {}
        assert form.answer("release", comment="they told us on the phone", proof="000001") is None
        assert "Nothing was done" in form.text and "check the code" in form.text
        over = form.answer("release", comment="they told us on the phone", proof=pyotp.TOTP(seed).now())
    assert over is not None and over.name == "Resolved"
    assert partner.filed() == {"Prices (1).csv": GOOD}
    [signed] = [entry.body["signoff"] for entry in partner.ledger.journey(case.journey) if entry.kind == "signed off"]
    assert (signed["approver"], signed["document"], signed["comment"]) == ("anna", digest, "they told us on the phone")
    partner.ledger.verify()


def test_a_case_is_asked_about_again_when_its_run_broke_off_and_never_twice(partner: World, prefect: SyncPrefectClient) -> None:
    clock = Clock(partner.ledger)
    partner.leave("type.csv", FAILURES["type.csv"][1])
    partner.run()
    [case] = partner.ledger.cases()
    form = Form(prefect, partner, case.journey)
    assert form.go() is None
    assert [sweep(), sweep()] == [0, 0], "one that waits is left alone"

    def runs() -> list[UUID]:
        begun = [entry for entry in partner.ledger.journey(case.journey) if entry.kind == "review begun"]
        return [UUID(str(entry.body["run"])) for entry in begun]

    prefect.delete_flow_run(form.run)
    assert [sweep(), sweep()] == [1, 0]
    for pause in (timedelta(minutes=11), timedelta(minutes=61)):
        prefect.set_flow_run_state(runs()[-1], Crashed(), force=True)
        assert sweep() == 0, "not at once again"
        clock.ahead += pause
        assert [sweep(), sweep()] == [1, 0]
    form.run = runs()[-1]
    assert form.go() is None and "type.csv" in form.text, "it asks as the first one did"
    prefect.set_flow_run_state(form.run, Failed(), force=True)
    clock.ahead += timedelta(hours=2)
    assert [sweep(), sweep()] == [0, 0] and len(set(runs())) == 4, "not for ever"
    [incident] = [one for one in partner.ledger.cases() if one.journey != case.journey]
    assert (incident.code, incident.owner) == ("nobody-asked", "ops") and case.journey in str(incident.reason)
    partner.ledger.append([Entry(case.journey, "review begun", {"run": str(uuid4())})])
    assert sweep() == 0, "nor when a person has begun one more by hand, which is gone as well"
    close(incident.journey, "the worker had no disk", "ben")
    assert [sweep(), sweep()] == [1, 0] and len(set(runs())) == 6
    reject(case.journey, "not needed", "ben")
    prefect.delete_flow_run(runs()[-1])
    assert sweep() == 0, "nobody is asked about what is over"


def sweep() -> int:
    with disable_run_logger():
        return review_again.fn()


@pytest.mark.parametrize(
    ("hours", "count"), [((), 0), ((0,), 0), ((0, 1, 2), 2), ((0, 30, 31), 1), ((0, 1, 1, 2), 2), ((0, 30, 60), 0)]
)
def test_runs_that_broke_off_one_after_the_other_are_counted(hours: tuple[int, ...], count: int) -> None:
    begun = datetime(2026, 11, 1, tzinfo=UTC)
    assert tries([(begun + timedelta(hours=hour), f"run {hour}") for hour in hours]) == count
