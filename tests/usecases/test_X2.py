"""X2 Workspace provisioning: a case gets one workspace with its folders and permissions, and closing it there is told back.

*Given* case 88 is created; *when* provisioning fails after folder 2 of 5; *then* retry completes the same workspace (no "case 88 (2)"),
and closing in File 360 sets the case status once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prefect.flow_engine import run_flow
from prefect.logging import disable_run_logger

from blocks.errors import ConfigurationError, LedgerUnreachable
from blocks.settings import settings
from flows.handover import workspaces
from tasks import incidents
from tasks.provision import Row, find_created, load_workspaces, provision
from tests.ledger.full import no_room_for
from tests.sandbox.business import BusinessSandbox
from tests.sandbox.file360 import File360Sandbox
from tests.sandbox.file360_store import SEED
from tests.tasks.conftest import dock as dock
from tests.tasks.dock import Dock
from tests.world import ROOT, World

LEAD = "lead@example.com"
PEOPLE = {
    "users": [*SEED["users"], {"email": LEAD, "password": "lead", "firstName": "Lea", "lastName": "Lead"}],
    "groups": [{"name": name} for name in ("Case Handling", "Legal", "Finance")],
}
FOLDERS = {"Contracts": {"Signed": {}}, "Evidence": {}, "Letters": {}, "Money": {}}
WRITES = 11
"""Two folders around it, itself, its five, and access to three of these."""
TELLING = (2, 7, 8, 10)
"""Itself, the last folder, the first access and the last."""


class Files:
    """File 360, as its administrator sees it, and its people."""

    def __init__(self, sandbox: File360Sandbox) -> None:
        self.sandbox = sandbox
        self.us = self.as_client(grant_type="client_credentials")

    def as_client(self, **form: str) -> httpx.Client:
        http = httpx.Client(base_url=self.sandbox.url, timeout=60, trust_env=False)
        asked = {"client_id": "countersign", "client_secret": "countersign-secret", **form}
        http.headers["Authorization"] = f"Bearer {http.post('/otdsws/oauth2/token', data=asked).json()['access_token']}"
        return http

    def below(self, id: str) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = self.us.get(f"/api/v1/folders/{id}/children", params={"limit": "500"}).json()
        return told

    def workspaces(self, customer: str = "ACME") -> dict[str, str]:
        """Names and ids of all that stands where a customer's workspaces do; of two of a name, one is lost here and told by a test."""
        here = self.us.get("/api/v1/users/me").json()["rootId"]
        for name in ("Cases", customer):
            here = next((one["id"] for one in self.below(here) if one["name"] == name), None)
            if here is None:
                return {}
        found = self.below(here)
        assert len({one["id"] for one in found}) == len({one["name"] for one in found})
        return {one["name"]: one["id"] for one in found}

    def tree(self, id: str) -> dict[str, Any]:
        return {one["name"]: self.tree(one["id"]) for one in self.below(id)}

    def given(self, id: str) -> dict[str, int]:
        """Who was given a folder itself: viewer 1, collaborator 2, manager 3."""
        told = self.us.get(f"/api/v1/folders/{id}/collaborators").json()
        return {one.get("email") or one["name"]: one["role"] for one in told}

    def all_given(self, id: str) -> dict[str, dict[str, int]]:
        inside = {name: given for one in self.below(id) for name, given in self.all_given(one["id"]).items()}
        return {self.us.get(f"/api/v1/folders/{id}").json()["name"]: self.given(id), **inside}

    def rename(self, id: str, name: str, who: str = LEAD) -> None:
        """As somebody does in File 360's pages."""
        with closing(self.as_client(grant_type="password", username=who, password="lead")) as http:
            assert http.put(f"/api/v1/folders/{id}", json={"name": name}).is_success

    def change(self, id: str, **values: str) -> None:
        assert self.us.put(f"/api/v1/folders/{id}", json=values).is_success

    def calm(self) -> None:
        self.sandbox.faults.set(dict.fromkeys(self.sandbox.faults.as_dict(), 0))


GIVEN = {
    "Contracts": {},
    "Signed": {"Legal": 1},
    "Evidence": {},
    "Letters": {},
    "Money": {"Finance": 2},
}
TEAM = {"Case Handling": 2, LEAD: 3}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    monkeypatch.setenv("TEAM_SECRET", "countersign-secret")
    sandbox = File360Sandbox(tmp_path / "files", seed=PEOPLE).start()
    try:
        made = Files(sandbox)
        with closing(made.us):
            yield made
    finally:
        sandbox.stop()


@pytest.fixture
def cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BusinessSandbox]:
    monkeypatch.setenv("COUNTERSIGN_CASES_PASSWORD", BusinessSandbox.PASSWORD)
    with BusinessSandbox(tmp_path / "cases") as running:
        yield running


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A repository that is away stays away."""
    monkeypatch.setenv("COUNTERSIGN_PAUSE_SECONDS", "0.02")
    settings.cache_clear()
    yield
    settings.cache_clear()


def agree(profiles: Path, files: Files, cases: BusinessSandbox, **changes: Any) -> None:
    """The case system's file: as the one of this project, with these sandboxes' addresses."""
    file = yaml.safe_load((ROOT / "deployments" / "systems" / "cases.yaml").read_text("utf-8"))
    file["system"] |= {"url": f"{cases.url}/api", "breaker": {"failures": 1000}}
    file["workspaces"]["cases"] |= changes
    (profiles / "systems").mkdir(exist_ok=True)
    (profiles / "systems" / "cases.yaml").write_text(yaml.safe_dump(file))
    team = {"kind": "file360", "url": files.sandbox.url, "client_id": "countersign", "client_secret": "env:TEAM_SECRET"}
    other = {"kind": "folder", "path": str(profiles)}
    (profiles / "repositories.yaml").write_text(yaml.safe_dump({"repositories": {"team": team, "other": other}}))


def create(cases: BusinessSandbox, reference: str = "88", customer: str = "ACME") -> None:
    """Somebody creates a case in the system."""
    cases.books.write(kind="cases", id=reference, thing={"id": reference, "state": "open", "customer": customer})


def case(cases: BusinessSandbox, reference: str = "88") -> Mapping[str, Any]:
    return cases.books.things["cases"][reference]


def told(cases: BusinessSandbox, reference: str = "88") -> int:
    """How often the system was told of a case."""
    return cases.stats[f"PUT /api/cases/{reference}"]


# --------------------------------------------------------------------------------------------- as required


def test_a_case_gets_one_workspace_whatever_fails_and_closing_it_sets_the_case_status_once(
    world: World, files: Files, cases: BusinessSandbox
) -> None:
    agree(world.profiles, files, cases)
    create(cases)

    files.sandbox.faults.set({"spare-writes": 5, "write-500": 1_000_000})
    assert run("88")["88"].outcome == "waits"
    begun = files.workspaces()["case 88"]
    assert list(files.tree(begun)) == ["Contracts", "Evidence"], "folder 2 of 5"
    assert files.given(begun) == {} and told(cases) == 0, "nobody sees it, and the system was told nothing"

    files.calm()
    asked = {"system": "cases", "stream": "cases", "patience_seconds": -60}
    state: Any = run_flow(workspaces, parameters=asked, return_type="state")
    assert (state.name, state.message) == ("1 open", f"88: {begun}")
    assert files.workspaces() == {"case 88": begun} and files.tree(begun) == FOLDERS
    assert files.all_given(begun) == {"case 88": TEAM, **GIVEN}
    assert (case(cases)["workspace"], case(cases)["state"], told(cases)) == (begun, "open", 1)
    assert run() == {} and run("88")["88"].workspace == begun and told(cases) == 1

    files.rename(begun, "case 88 [closed]")
    assert run()["88"].outcome == "closed"
    assert (case(cases)["state"], case(cases)["closed_by"], told(cases)) == ("closed", LEAD, 2)
    assert run() == {} and run("88")["88"].outcome == "closed"
    assert told(cases) == 2 and files.workspaces() == {"case 88 [closed]": begun}


# --------------------------------------------------------------------------------------------- whatever happens


@pytest.fixture
def desk(dock: Dock, files: Files, cases: BusinessSandbox) -> Dock:
    """A dock where the case system's workspaces are agreed."""
    agree(dock.profiles, files, cases)
    return dock


def run(reference: str = "", patience: timedelta = timedelta(0)) -> dict[str, Row]:
    """What the flow does, without Prefect: reference -> what became of it."""
    agreed = load_workspaces("cases", "cases")
    with disable_run_logger():
        bundles = find_created.fn(agreed, reference)
        return {
            row.reference: row
            for references in bundles
            for row in provision.fn(agreed, references, patience, asked=bool(reference))
        }


@pytest.mark.parametrize(
    "acts", [pytest.param(TELLING, id="the telling ones"), pytest.param(range(WRITES), id="all", marks=pytest.mark.soak)]
)
def test_each_folder_and_each_access_may_be_the_last_thing_that_a_run_does(
    acts: Iterable[int], desk: Dock, files: Files, cases: BusinessSandbox
) -> None:
    """It was carried out, and whoever asked for it is not there any more to hear so."""
    for spared in acts:
        reference, customer = str(spared), f"Customer {spared}"
        create(cases, reference, customer)
        # The folder around all of them is made only once.
        files.sandbox.faults.set({"spare-writes": max(0, spared - 1), "lost-answer": 1, "away-after": 1})
        assert run(reference)[reference].outcome == "waits"
        assert told(cases, reference) == 0
        files.calm()
        row = run(reference)[reference]
        assert row.outcome == "open", row
        [(name, id)] = files.workspaces(customer).items()
        assert (name, id) == (f"case {spared}", row.workspace) and files.tree(id) == FOLDERS
        assert files.all_given(id) == {name: TEAM, **GIVEN}
        assert case(cases, reference)["workspace"] == id and told(cases, reference) == 1
    assert not desk.cases()


@pytest.mark.parametrize("kind", ["laying out", "laid out", "opened", "telling", "told", "closed"])
def test_whatever_step_it_breaks_off_at_it_goes_on_there(kind: str, desk: Dock, files: Files, cases: BusinessSandbox) -> None:
    create(cases)
    if kind == "closed":
        run()
        files.rename(files.workspaces()["case 88"], "case 88 [Closed]")
    with no_room_for(desk.ledger, kind), pytest.raises(LedgerUnreachable):
        run()
    row = run()["88"]
    [(name, id)] = files.workspaces().items()
    assert row.workspace == id and files.tree(id) == FOLDERS and files.given(id) == TEAM
    if kind != "closed":
        assert row.outcome == "open" and case(cases)["workspace"] == id
        files.rename(id, f"{name} [closed]")
        row = run()["88"]
    assert (row.outcome, case(cases)["state"]) == ("closed", "closed")
    writes = cases.books.writes["cases"]
    assert run() == {} and cases.books.writes["cases"] == writes == 3, "created, opened, closed"


def test_two_runs_at_once_make_one_workspace_and_tell_it_once(desk: Dock, files: Files, cases: BusinessSandbox) -> None:
    create(cases)
    rows: list[Row] = []
    threads = [threading.Thread(target=lambda: rows.append(run("88", timedelta(minutes=3))["88"])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [(name, id)] = files.workspaces().items()
    assert name == "case 88" and {(row.outcome, row.workspace) for row in rows} == {("open", id)} and len(rows) == 3
    assert told(cases) == 1


def test_it_is_the_same_workspace_when_it_was_renamed_or_moved_before_it_was_finished(
    desk: Dock, files: Files, cases: BusinessSandbox
) -> None:
    create(cases)
    files.sandbox.faults.set({"spare-writes": 5, "write-500": 1_000_000})
    run()
    files.calm()
    begun = files.workspaces()["case 88"]
    files.change(begun, name="renamed")
    with no_room_for(desk.ledger, "opened"), pytest.raises(LedgerUnreachable):
        run()
    files.change(begun, parentId=files.us.get("/api/v1/users/me").json()["rootId"])
    row = run()["88"]
    assert (row.outcome, row.workspace, files.workspaces()) == ("open", begun, {})
    files.rename(begun, "renamed [closed]")
    assert run()["88"].outcome == "closed" and case(cases)["state"] == "closed"


def test_a_folder_of_that_name_which_a_person_made_is_not_taken_over(desk: Dock, files: Files, cases: BusinessSandbox) -> None:
    create(cases)
    create(cases, "89")
    files.us.post("/api/v1/folders", json={"name": "Cases", "parentId": files.us.get("/api/v1/users/me").json()["rootId"]})
    run("89")
    around = files.us.get(f"/api/v1/folders/{files.workspaces()['case 89']}").json()["parentId"]
    theirs = files.us.post("/api/v1/folders", json={"name": "Case 88", "parentId": around}).json()["id"]
    row = run()["88"]
    assert row.outcome == "refused" and "name-taken" in row.reason and told(cases) == 0
    [one] = desk.cases("not-provisioned")
    assert (one.partner, one.stream, one.name, one.owner) == ("cases", "cases", "88", "cases@example.com")
    assert run()["88"].outcome == "refused" and len(desk.cases()) == 1, "told once"
    assert files.given(theirs) == {} and files.tree(theirs) == {}
    files.change(theirs, name="Case 88 of old")
    row = run()["88"]
    assert row.outcome == "open" and row.workspace != theirs and not desk.cases()


def test_the_system_is_not_told_while_anybody_else_gets_at_the_workspace(
    desk: Dock, files: Files, cases: BusinessSandbox
) -> None:
    create(cases)
    with no_room_for(desk.ledger, "laid out"), pytest.raises(LedgerUnreachable):
        run()
    begun = files.workspaces()["case 88"]
    share = {"members": [{"email": "admin@example.com", "role": 1}]}
    letters = next(one["id"] for one in files.below(begun) if one["name"] == "Letters")
    assert files.us.post(f"/api/v1/folders/{letters}/collaborators", json=share).is_success
    row = run()["88"]
    assert row.outcome == "refused" and "shown-to-others" in row.reason and "admin@example.com" in row.reason
    assert told(cases) == 0 and files.given(begun) == {}, "nor does anybody else get at it before that is mended"
    assert files.us.delete(f"/api/v1/folders/{letters}/collaborators").is_success
    assert run()["88"].outcome == "open" and told(cases) == 1 and not desk.cases()


def test_a_workspace_that_is_gone_is_not_closed_and_one_that_was_closed_stays_so(
    desk: Dock, files: Files, cases: BusinessSandbox
) -> None:
    create(cases)
    id = run()["88"].workspace
    files.change(id, state="deleted")
    row = run()["88"]
    assert row.outcome == "refused" and "it is gone" in row.reason and case(cases)["state"] == "open"
    assert len(desk.cases("not-provisioned")) == 1
    files.change(id, state="active")
    assert run("88")["88"].outcome == "open" and not desk.cases()
    cases.faults.set({"lost-answer@cases": 1})
    files.rename(id, "[CLOSED] case 88")
    assert run("88", timedelta(minutes=3))["88"].outcome == "closed"
    assert cases.books.writes["cases"] == 3 and case(cases)["closed_by"] == LEAD
    files.rename(id, "case 88")
    assert run("88")["88"].outcome == "closed" and run() == {} and cases.books.writes["cases"] == 3


def test_one_that_the_repository_cannot_tell_of_is_a_case_and_hinders_no_other(
    desk: Dock, files: Files, cases: BusinessSandbox
) -> None:
    """Whatever it answers about that one: neither this run nor the next ends there."""
    create(cases)
    create(cases, "89")
    begun = {key: row.workspace for key, row in run().items()}
    store = files.sandbox._store
    odd = store.nodes[int(begun["88"])]
    modified = odd["modified"]
    store.nodes.put({**odd, "modified": "whenever"})
    files.rename(begun["89"], "case 89 [closed]")
    create(cases, "90")
    for _ in range(2):
        rows = run()
        assert rows["88"].outcome == "refused" and "holds no item" in rows["88"].reason
    assert (case(cases, "89")["state"], told(cases, "89"), told(cases, "90")) == ("closed", 2, 1)
    assert [one.name for one in desk.cases("not-provisioned")] == ["88"], "told once"
    store.nodes.put({**store.nodes[odd["id"]], "modified": modified})
    assert run() == {} and not desk.cases(), "it is well again"


def test_what_the_system_does_not_take_is_a_case_and_hinders_no_other(desk: Dock, files: Files, cases: BusinessSandbox) -> None:
    create(cases)
    create(cases, "89")
    cases.books.things["cases"]["90"] = {"id": "90", "state": "open"}
    cases.books.things["cases"]["91"] = {"id": "91", "state": "open", "customer": "[closed] Ltd"}
    agree(desk.profiles, files, cases, name="{customer} {reference}")
    rows = run()
    assert {key: row.outcome for key, row in rows.items()} == {"88": "open", "89": "open", "90": "refused", "91": "refused"}
    assert "does not say customer" in rows["90"].reason and "says that it is closed" in rows["91"].reason
    for one in desk.cases():
        incidents.close(one.journey, "it needs none", "ann")
    assert run() == {}, "given up"
    cases.books.things["cases"]["90"]["customer"] = "ACME"
    assert run("90")["90"].outcome == "open" and not desk.cases()


def test_what_cannot_be_agreed_is_said_at_once(desk: Dock, files: Files, cases: BusinessSandbox) -> None:
    for changes, said in (
        ({"repository": "other"}, "gives nobody folders"),
        ({"repository": "elsewhere"}, "no repository 'elsewhere'"),
        ({"name": "case {number}"}, r"\{number\} is not known"),
        ({"folder": "Cases/../{customer}"}, "path of names"),
        ({"opened": "workspace-open"}, "did you mean 'workspace-opened'"),
        ({"closed": {"route": "closed"}}, r"closed\.route: no such route"),
        ({"folders": {"A/../B": []}}, "no path of names"),
        ({"folders": {"Letters": [], "letters": []}}, "differ only in case"),
        ({"access": []}, "access"),
    ):
        agree(desk.profiles, files, cases, **changes)
        with pytest.raises(ConfigurationError, match=said):
            load_workspaces("cases", "cases")
    agree(desk.profiles, files, cases)
    with pytest.raises(ConfigurationError, match="no workspaces 'deals'; its file has cases"):
        load_workspaces("cases", "deals")
    with pytest.raises(ConfigurationError, match="printable text"):
        run("a\nb")
