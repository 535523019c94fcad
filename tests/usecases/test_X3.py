"""X3 Uploads routed onward.

*Given* an upload with type=claim, project=12; *when* the claims API answers 429 then 503; *then* back-off honours Retry-After, other
routes are not blocked, delivered once; missing metadata -> triage, not a guess.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.logging import disable_run_logger

from blocks.errors import ConfigurationError, DocumentMissing, LedgerUnreachable
from blocks.repositories.file360 import File360Session
from blocks.systems.traffic import traffic_of
from flows.handover import onward as onward_flow
from tasks import incidents, onward
from tasks.connections import repository_session, spool
from tasks.follow import load_watch
from tasks.onward import Row, find_sources, go_onward, load_uploads, report_onward
from tests.ledger.full import no_room_for
from tests.sandbox.business import BusinessSandbox
from tests.sandbox.file360 import File360Sandbox
from tests.tasks.conftest import dock as dock
from tests.tasks.conftest import prefect as prefect
from tests.tasks.dock import Dock, price_list
from tests.world import reached

NOW, PATIENCE = timedelta(0), timedelta(minutes=3)
DESTINATIONS = {
    "claims": {"system": "crm", "route": "claim", "when": {"type": "claim"}, "facts": {"title": "Claim {project}: {name}"}},
    "letters": {"system": "crm", "route": "letter", "when": {"type": ["letter", "reminder"]}},
    "archive": {"system": "crm", "route": "archive", "when": {"type": "claim", "secret": "no"}},
}
FACTS = {"type": "claim", "project": "12", "secret": "yes"}


class Team:
    """A File 360 with a person's own account in it."""

    def __init__(self, sandbox: File360Sandbox) -> None:
        self.sandbox, self.described = sandbox, sandbox.described()
        form = {"client_id": File360Sandbox.CLIENT, "client_secret": File360Sandbox.SECRET, "grant_type": "password"}
        person = {"username": "admin@example.com", "password": "admin"}
        answer = httpx.post(f"{sandbox.url}/otdsws/oauth2/token", data=form | person, timeout=60)
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        self.person = httpx.Client(base_url=sandbox.url, headers=headers, timeout=60)
        self.folder = ""

    def upload(self, name: str, content: bytes = b"a claim", journey: str = "", **values: Any) -> str:
        """As somebody does who adds a document, or a version of it; its id."""
        about = {"journey": journey} if journey else {}
        external = {"countersign": {**about, "categories": {"Case": {key.title(): value for key, value in values.items()}}}}
        answer = self.person.post(
            "/api/v3/documents?collisionStrategy=overwrite",
            data={"parentId": self.folder, "externalData": json.dumps(external)},
            files={"file": (name, content, "text/plain")},
        )
        assert answer.is_success, answer.text
        return str(answer.json()["id"])


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    sandbox = File360Sandbox(tmp_path_factory.mktemp("team")).start()
    try:
        team = Team(sandbox)
        yield team
        team.person.close()
    finally:
        sandbox.stop()


@pytest.fixture
def crm(
    dock: Dock, team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[BusinessSandbox]:
    monkeypatch.setenv("ECM_PASSWORD", team.described["password"])
    monkeypatch.setenv("CRM_TOKEN", BusinessSandbox.TOKEN)
    if "prefect" not in request.fixturenames:
        monkeypatch.setattr(onward, "create_table_artifact", lambda **_: None)  # Prefect's: without its server there is none
    traffic_of.cache_clear()  # another test's system may have had this one's port, and have been told to wait
    kept = {"team": reached(team.described), "kept": {"kind": "folder", "path": str(dock.home / "kept")}}
    (dock.profiles / "repositories.yaml").write_text(yaml.safe_dump({"repositories": kept}))
    with BusinessSandbox(tmp_path / "crm") as crm:
        agree(dock, crm, request.node.name.replace("[", "-").rstrip("]")[:80])
        watch = load_watch("claims")
        with repository_session(watch.repository) as session:
            assert isinstance(session, File360Session)
            session.retain(watch.folder, "none")  # which makes it
            made = session.find((), watch.terms.folder)
            assert made is not None
            team.folder = made.id
            sharing = f"{team.sandbox.url}/api/v1/folders/{made.id}/collaborators"
            members = {"members": [{"email": "admin@example.com", "role": 2}]}
            assert httpx.post(sharing, json=members, headers=bearer(team), timeout=60).is_success
        yield crm


def bearer(team: Team) -> dict[str, str]:
    """Of the account whose the folder is."""
    form = {"client_id": File360Sandbox.CLIENT, "client_secret": File360Sandbox.SECRET, "grant_type": "client_credentials"}
    answer = httpx.post(f"{team.sandbox.url}/otdsws/oauth2/token", data=form, timeout=60)
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def agree(dock: Dock, crm: BusinessSandbox, folder: str = "", **more: Any) -> None:
    keyed = {"key_header": "Idempotency-Key", "id": "id"}
    routes = {
        "claim": {"path": "/claims", "body": {"title": "{title}", "document": "{id}", "version": "{version}"}, **keyed},
        "letter": {"path": "/letters", "body": {"name": "{name}", "by": "{by}", "digest": "{digest}"}, **keyed},
        "archive": {"method": "PUT", "path": "/archive/{name}", "document": True},
    }
    auth = {"kind": "bearer", "token": "env:CRM_TOKEN"}
    system = {"kind": "http", "url": f"{crm.url}/api", "auth": auth, "routes": routes, "breaker": {"failures": 1000}}
    for name in ("systems", "watches"):
        (dock.profiles / name).mkdir(exist_ok=True)
    (dock.profiles / "systems" / "crm.yaml").write_text(yaml.safe_dump({"system": system}))
    path = dock.profiles / "watches" / "claims.yaml"
    folder = folder or yaml.safe_load(path.read_text())["watch"]["folder"]
    told = {fact: {"category": "Case", "attribute": fact.title()} for fact in ("type", "project", "secret")}
    onward = {"told": told, "destinations": DESTINATIONS, **more}
    watch = {"repository": "team", "folder": folder, "owner": "claims@example.com", "onward": onward}
    path.write_text(yaml.safe_dump({"watch": watch}))


def run(patience: timedelta = NOW) -> dict[str, Row]:
    """What the flow does for this watch, without Prefect: document -> what became of it."""
    with disable_run_logger():
        return {row.document: row for row in go_onward.fn(load_uploads("claims"), patience)}


def said(rows: Mapping[str, Row]) -> dict[str, str]:
    return {name: f"{row.outcome}: {row.said}" for name, row in rows.items()}


def claims(crm: BusinessSandbox) -> list[tuple[str, int]]:
    return [(thing["title"], thing["version"]) for thing in crm.books.things.get("claims", {}).values()]


# --------------------------------------------------------------------------------------------- as required


def test_an_upload_is_delivered_once_although_the_claims_api_says_429_and_then_503(
    dock: Dock, crm: BusinessSandbox, team: Team
) -> None:
    team.upload("a.txt", **FACTS)
    team.upload("b.txt", b"a letter", type="letter")
    crm.faults.set({"busy429@claims": 1, "burst503@claims": 1, "retry-after": 1})
    began = time.monotonic()
    rows = run(NOW)
    assert said(rows) == {"a.txt": "waits: 0 of 1 delivered", "b.txt": "delivered: 1 of 1 delivered"}, "other routes go on"
    assert report_onward(list(rows.values())).name == "1 of 2 delivered"
    assert said(run(PATIENCE)) == {"a.txt": "delivered: 1 of 1 delivered"}
    assert time.monotonic() - began >= 2, "it waited a second, as it was told to, and another one"
    assert claims(crm) == [("Claim 12: a.txt", 1)] and crm.stats["POST /api/claims"] == 3
    [letter] = crm.books.things["letters"].values()
    assert (letter["name"], letter["by"]) == ("b.txt", "admin@example.com") and len(letter["digest"]) == 64
    assert run() == {} and crm.books.writes == {"claims": 1, "letters": 1} and not dock.cases()


def test_missing_metadata_is_for_a_person_and_never_guessed(dock: Dock, crm: BusinessSandbox, team: Team) -> None:
    team.upload("a.txt", type="claim", secret="yes")
    team.upload("b.txt")
    team.upload("c.txt", type="memo")
    team.upload("d.txt", type="claim", project="12")
    assert said(run()) == dict.fromkeys(("a.txt", "b.txt", "c.txt", "d.txt"), "triage: ") == said(run())
    cases = {case.name: case for case in dock.cases("no-destination")}
    assert {name: case.reason for name, case in cases.items()} == {
        "a.txt": "nobody has told project of it, and claims may need it",
        "b.txt": "nobody has told project, secret, type of it, and archive, claims, letters may need it",
        "c.txt": "it fits no destination (type=memo)",
        "d.txt": "nobody has told secret of it, and archive, claims may need it",
    }
    assert {case.owner for case in dock.cases()} == {"claims@example.com"} and not crm.books.writes
    team.upload("a.txt", **FACTS)  # where values belong to versions, this is how a person adds them
    rows = run()
    assert said(rows)["a.txt"] == "delivered: 1 of 1 delivered" and claims(crm) == [("Claim 12: a.txt", 2)]
    assert sorted(str(case.name) for case in dock.cases()) == ["b.txt", "c.txt", "d.txt"]
    incidents.close(cases["c.txt"].journey, "a memo is for nobody", "ann")
    assert said(run())["c.txt"] == "left: " and "c.txt" not in run() and crm.books.writes == {"claims": 1}


# --------------------------------------------------------------------------------------------- versions, and what is ours


def test_each_version_is_a_delivery_of_its_own_and_none_overtakes_another(dock: Dock, crm: BusinessSandbox, team: Team) -> None:
    crm.faults.set({"drop@claims": 1000})
    for number in range(2):
        team.upload("a.txt", b"version %d" % number, **FACTS)
        assert run()["a.txt"].outcome == "waits"
    crm.faults.set({"drop@claims": 1})
    run(PATIENCE)
    assert [version for _, version in claims(crm)] == [1, 2] and run() == {}


def test_what_an_intake_of_ours_has_filed_is_not_routed_again_and_nobody_can_claim_that(
    dock: Dock, crm: BusinessSandbox, team: Team
) -> None:
    watched = load_watch("claims").terms.folder
    terms = dock.terms(target={"repository": "team", "folder": watched, "categories": {"Case": {"Type": "letter"}}})
    partner = yaml.safe_load((dock.profiles / "acme.yaml").read_text())
    partner["partner"]["streams"]["prices"] = terms
    (dock.profiles / "acme.yaml").write_text(yaml.safe_dump(partner))
    dock.leave("ours.csv", price_list())
    assert dock.run() == {"ours.csv": "filed"} and run() == {}
    team.upload("theirs.txt", journey="01a20239-7cda-7ba4-8ff2-000000000001", type="letter")
    assert said(run()) == {"theirs.txt": "delivered: 1 of 1 delivered"}


def test_what_is_removed_before_anybody_was_told_goes_nowhere(dock: Dock, crm: BusinessSandbox, team: Team) -> None:
    id = team.upload("a.txt", type="claim")
    assert run()["a.txt"].outcome == "triage"
    team.upload("b.txt", type="letter")
    gone = httpx.put(f"{team.sandbox.url}/api/v1/documents/{id}", json={"state": "deleted"}, headers=bearer(team), timeout=60)
    assert gone.is_success
    assert {name: row.outcome for name, row in run().items()} == {"a.txt": "left", "b.txt": "delivered"} and not dock.cases()


# --------------------------------------------------------------------------------------------- whatever happens


@pytest.mark.parametrize("kind", [pytest.param("onward", marks=pytest.mark.soak), "followed", "told"])
def test_whatever_step_it_breaks_off_at_it_is_delivered_once(kind: str, dock: Dock, crm: BusinessSandbox, team: Team) -> None:
    team.upload("a.txt", b"for both", **{**FACTS, "secret": "no"})
    with no_room_for(dock.ledger, kind), pytest.raises(LedgerUnreachable):
        run()
    run()
    assert crm.books.writes == {"claims": 1, "archive": 1} and run() == {}
    [kept] = crm.books.things["archive"].values()
    assert (crm.content / kept["sha256"]).read_bytes() == b"for both"


FAULTS = ("busy429", "burst503", "html500", "drop", "lost-answer", "html500-after", "cut")


def test_a_fault_on_either_side_of_each_call_loses_nothing_and_doubles_nothing(
    dock: Dock, crm: BusinessSandbox, team: Team
) -> None:
    names = [f"{number}.txt" for number in range(3)]
    for name in names:
        team.upload(name, name.encode(), **{**FACTS, "secret": "no"})
    crm.faults.set(
        {f"{fault}@{place}": 1 for fault in FAULTS for place in ("claims", "archive") if (fault, place) != ("cut", "archive")}
    )
    team.sandbox.faults.set({"read-429": 1, "retry-after": 0})
    assert said(run(PATIENCE)) == dict.fromkeys(names, "delivered: 2 of 2 delivered")
    assert not any(crm.faults.as_dict().values())
    assert sorted(claims(crm)) == [(f"Claim 12: {name}", 1) for name in names] and sorted(crm.books.things["archive"]) == names
    assert crm.books.writes == {"claims": 3, "archive": 3}


def test_what_is_in_hand_goes_on_while_the_feed_cannot_be_followed_and_however_many_wait(
    dock: Dock, crm: BusinessSandbox, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onward, "MOST_AT_ONCE", 1)  # a thousand documents would show the same
    crm.faults.set({"drop@letters": 1000})
    for name in ("a.txt", "b.txt"):
        team.upload(name, type="letter")
        assert run()["a.txt"].outcome == "waits"
    team.upload("c.txt", **FACTS)
    run(), run()
    assert claims(crm) == [("Claim 12: c.txt", 1)]
    crm.faults.set({"drop@letters": 0})
    agree(dock, crm, "renamed")
    for _ in range(2):
        with pytest.raises(DocumentMissing):
            run()
    assert crm.books.writes == {"letters": 2, "claims": 1}


def test_what_waits_goes_on_once_its_route_takes_the_document_and_never_with_other_bytes(
    dock: Dock, crm: BusinessSandbox, team: Team
) -> None:
    """The repository itself knows no digest of what people put there."""
    team.upload("a.txt", b"only here", **{**FACTS, "secret": "no"})
    crm.faults.set({"drop@archive": 1000, "drop@claims": 1000})
    run()
    [routed] = [entry for entry in dock.ledger.journey(run()["a.txt"].journey) if entry.kind == "routed"]
    spool().path(str(routed.body["digest"])).unlink()
    for path in team.sandbox.data.rglob("*"):
        if path.is_file() and path.read_bytes() == b"only here":
            path.write_bytes(b"elsewhere")
    crm.faults.set({"drop@archive": 0, "drop@claims": 0})
    assert run()["a.txt"].said == "1 of 2 delivered" and crm.books.writes == {"claims": 1}
    team.upload("b.txt", b"a claim", **FACTS)
    crm.faults.set({"drop@claims": 1000})
    assert run()["b.txt"].outcome == "waits"
    path = dock.profiles / "systems" / "crm.yaml"
    system = yaml.safe_load(path.read_text())
    system["system"]["routes"]["claim"] = {"method": "PUT", "path": "/scans/{digest}", "document": True}
    path.write_text(yaml.safe_dump(system))
    assert run()["b.txt"].outcome == "delivered" and list(crm.books.things["scans"]) == [sha256(b"a claim").hexdigest()]


def test_all_that_says_onward_is_found_and_a_file_that_cannot_be_read_stops_no_other(dock: Dock, crm: BusinessSandbox) -> None:
    (dock.profiles / "watches" / "other.yaml").write_text("watch: { repository: team }")
    found, wrong = find_sources()
    assert [one.key for one in found] == ["claims/watch"] and len(wrong) == 1 and "other.yaml" in wrong[0]
    assert report_onward([], wrong).is_failed()


def test_the_flow_serves_all_of_them_and_its_state_says_how_far_it_came(
    dock: Dock, crm: BusinessSandbox, team: Team, prefect: SyncPrefectClient
) -> None:
    team.upload("a.txt", **{**FACTS, "secret": "no"})
    crm.faults.set({"drop@archive": 1})
    first, second, third = (onward_flow(patience_seconds=0, return_state=True) for _ in range(3))
    assert (first.name, second.name, third.name) == ("1 of 2 delivered", "Delivered", "Nothing new")
    other = yaml.safe_load((dock.profiles / "watches" / "claims.yaml").read_text())
    (dock.profiles / "watches" / "gone.yaml").write_text(yaml.safe_dump({"watch": {**other["watch"], "folder": "gone"}}))
    team.upload("b.txt", type="letter")
    broken = onward_flow(patience_seconds=0, return_state=True)
    assert broken.is_failed() and broken.name == "Broken off" and crm.books.writes["letters"] == 1
    assert "gone/watch: " in str(broken.message) and "of the others: Delivered" in str(broken.message)
    assert prefect.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["onward-claims-watch"])))


def test_what_cannot_be_agreed_is_said_at_once(dock: Dock, crm: BusinessSandbox) -> None:
    agree(dock, crm, destinations={"claims": {**DESTINATIONS["claims"], "when": {"typ": "claim"}}})
    with pytest.raises(ConfigurationError, match="claims: typ is never known of a document here"):
        load_uploads("claims")
    agree(dock, crm, destinations={"claims": {**DESTINATIONS["claims"], "wehn": {}}})
    with pytest.raises(ConfigurationError, match="wehn: no such key; did you mean 'when'"):
        load_uploads("claims")
