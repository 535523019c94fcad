"""X4 Retention and hold sync; audit to SIEM. *Given* a hold is set in governance; *when* sync is down for an hour; *then* deletion stays
blocked locally meanwhile (fail closed), flags converge, and every access event reaches the SIEM at least once, in order per object, with
a gap detector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from hashlib import sha256
from typing import Any

import httpx
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.logging import disable_run_logger

from blocks.errors import LedgerUnreachable, SystemUnreachable
from blocks.flag_file import Flags
from blocks.profile import load_repositories
from flows.governance import audit as audit_flow
from flows.governance import govern as govern_flow
from tasks import incidents
from tasks.audit import Audited, audit_watches, check_events, load_audit, tell_events
from tasks.clean_up import Swept, hear_flags, remove_what_has_ended
from tasks.connections import repository_session
from tasks.flags import flag_of
from tasks.govern import Governed, govern_all
from tasks.holds import Gate, apply_hold
from tasks.rules.flagging import Flag
from tasks.telling import holding
from tests.ledger.clock import Clock
from tests.ledger.full import no_room_for
from tests.sandbox.business import BusinessSandbox
from tests.sandbox.file360 import File360Sandbox
from tests.sandbox.file360_content import ending
from tests.servers.prefect import PrefectServer, client_of
from tests.tasks.conftest import clock as clock
from tests.tasks.conftest import dock as dock
from tests.tasks.dock import Dock, price_list
from tests.world import reached

OLD = "prices-2002-01-01.csv"
CASE = "Miller ./. ACME"
AWAY = {"drop@flags": 1_000_000}


@pytest.fixture(scope="module")
def tenant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[File360Sandbox]:
    service = File360Sandbox(tmp_path_factory.mktemp("team")).start()
    try:
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def team(tenant: File360Sandbox) -> Mapping[str, Any]:
    return tenant.described()


@pytest.fixture
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BusinessSandbox]:
    """The governance system."""
    with BusinessSandbox(tmp_path_factory.mktemp("records")) as running:
        yield running


@pytest.fixture
def governed(
    dock: Dock,
    team: Mapping[str, Any],
    records: BusinessSandbox,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Dock]:
    """A dock that files into File 360, which a governance system governs, and removes what has ended."""
    monkeypatch.setenv("ECM_PASSWORD", team["password"])
    monkeypatch.setenv("RECORDS_TOKEN", BusinessSandbox.TOKEN)
    ends = {"record_date": "{date}", "retention": {"period": "P1Y", "at_end": "remove"}}
    dock.agree(naming=r"[a-z]*-(?P<date>[\d-]+)\.csv", target={"repository": "kept", "folder": folder_of(request), **ends})
    (dock.profiles / "repositories.yaml").write_text(yaml.safe_dump({"repositories": {"kept": reached(team)}}))
    agree(dock, records)
    with disable_run_logger():
        yield dock


def folder_of(request: pytest.FixtureRequest) -> str:
    """The test's own in File 360."""
    return sha256(request.node.name.encode()).hexdigest()[:16]


def agree(dock: Dock, records: BusinessSandbox, **terms: Any) -> None:
    """The governance system's file."""
    system = {
        "kind": "http",
        "url": f"{records.url}/api",
        "auth": {"kind": "bearer", "token": "env:RECORDS_TOKEN"},
        "breaker": {"failures": 1_000_000},
    }
    ask = {"path": "/flags", "query": {"after": "{after}", "limit": "2"}, "items": "results", "next": "next", "total": "total"}
    flags = {"owner": "records@example.com", "repository": "kept", "ask": ask, **terms}
    (dock.profiles / "systems").mkdir(exist_ok=True)
    (dock.profiles / "systems" / "records.yaml").write_text(yaml.safe_dump({"system": system, "flags": flags}))


def flag(records: BusinessSandbox, id: str, state: str = "set", **facts: Any) -> None:
    """Somebody sets or lifts a flag in the governance system."""
    records.books.write(kind="flags", id=id, thing={"id": id, "kind": "hold", "name": CASE, **facts, "state": state})


def file(dock: Dock, name: str = OLD, first: int = 1) -> str:
    """Have a document filed; its id."""
    dock.leave(name, price_list(first=first))
    assert dock.run()[name] == "filed"
    return str(next(entry for entry in dock.history(name) if entry.kind == "filed").body["repository_id"])


def sync() -> Governed:
    [done] = govern_all.fn()
    return done


def sweep() -> Swept:
    [swept] = remove_what_has_ended.fn()
    return swept


def holds(dock: Dock, id: str) -> list[str]:
    """As File 360 tells them."""
    with load_repositories(dock.profiles)["kept"].session() as session:
        return [hold.name for hold in session.holds(id)]


# --------------------------------------------------------------------------------------------- flags in


def test_a_hold_that_is_set_while_sync_is_down_for_an_hour_blocks_deletion_and_flags_converge(
    governed: Dock, records: BusinessSandbox, clock: Clock
) -> None:
    id = file(governed)
    assert sync().why == ""
    records.faults.set(AWAY)
    flag(records, "1", document=id)  # and nobody can tell us
    clock.ahead = timedelta(minutes=20)
    [(_, reason)] = sweep().kept
    assert "nobody can tell whether governance system records has flagged it" in reason
    assert sync().why
    clock.ahead = timedelta(hours=1)
    assert sweep().gone == 0 and holds(governed, id) == []
    [case] = governed.cases(incidents.FLAGS_UNHEARD)
    assert case.owner == "records@example.com" and "Nothing is removed of what http" in str(case.reason)
    records.faults.set({"drop@flags": 0})
    done = sync()
    assert (done.why, done.set, done.in_force, done.differs) == ("", 1, 1, [])
    assert holds(governed, id) == [CASE] and not governed.cases()
    assert {reason for _, reason in sweep().kept} == {f"on hold: {CASE}"}
    assert (sync().set, sync().differs) == (0, []), "doing it again changes nothing"
    flag(records, "1", "lifted")
    assert sync().lifted == 1 and holds(governed, id) == []
    assert sweep().gone == 1
    governed.ledger.verify()


def test_while_nobody_can_tell_what_is_flagged_nothing_goes_wherever_it_is(
    governed: Dock, records: BusinessSandbox, clock: Clock
) -> None:
    file(governed)
    [journey] = governed.journeys(OLD)
    digest = str(next(entry for entry in governed.history(OLD) if entry.kind == "filed").body["digest"])
    assert not Gate().bars([journey]) and not Gate().kept_digests([digest])
    records.faults.set(AWAY)
    assert not Gate().bars([journey]), "its last answer is as recent as was agreed"
    hear_flags.fn()  # as each clean-up begins
    assert "has flagged it" in Gate().bars([journey])[journey].reason, "and it was asked in vain since then"
    assert Gate().kept_digests([digest]) == {digest}
    records.faults.set({"drop@flags": 0})
    assert not Gate().bars([journey])
    (governed.profiles / "systems" / "other.yaml").write_text("system: { kind: htpp }")
    assert "nobody can tell whether a governance system" in Gate().bars([journey])[journey].reason


def test_half_an_answer_lifts_nothing_and_what_it_says_is_set_is_in_force(governed: Dock, records: BusinessSandbox) -> None:
    """Three flags in pages of two. A flag that is not told is lifted only where that was agreed, and the whole list says so twice."""
    ids = [file(governed, f"prices-2002-01-0{n}.csv", first=10 * n) for n in (1, 2, 3)]
    agree(governed, records, unsaid="are-lifted")
    for n, id in enumerate(ids):
        flag(records, str(n), document=id)
    records.faults.set({"list-loses": 1})
    done = sync()
    assert "announced 3" in done.why and done.set == 1
    flag(records, "0", "lifted")
    records.faults.set({"list-loses": 0, "cut@flags": 1})
    assert sync().why and holds(governed, ids[0]) == [CASE], "half an answer"
    assert sync().lifted == 1 and [holds(governed, id) for id in ids] == [[], [CASE], [CASE]]
    records.faults.set({"list-loses": 1})
    del records.books.things["flags"]["0"]
    assert sync().lifted == 0, "a page is a line short"
    records.faults.set({"list-loses": 0})
    del records.books.things["flags"]["1"]
    assert sync().lifted == 1 and [holds(governed, id) for id in ids] == [[], [], [CASE]]
    agree(governed, records)
    records.books.things["flags"].clear()
    [differs] = sync().differs
    assert "says nothing of it any more; it stays" in differs and holds(governed, ids[2]) == [CASE]
    assert [case.code for case in governed.cases()] == [incidents.FLAGS_DIFFER]
    flag(records, "2", "lifted")
    assert sync().lifted == 1 and holds(governed, ids[2]) == [] and not governed.cases()


def test_flags_are_in_force_at_another_repository_as_soon_as_its_system_is_asked_about_that(
    governed: Dock, team: Mapping[str, Any], records: BusinessSandbox
) -> None:
    """Or at the same one under another address. What was set at the old one stays, and is told."""
    id = file(governed)
    flag(records, "1", document=id)
    moved = {**reached(team), "url": team["url"].replace("127.0.0.1", "localhost")}
    (governed.profiles / "repositories.yaml").write_text(
        yaml.safe_dump({"repositories": {"kept": reached(team), "old": moved}})
    )
    agree(governed, records, repository="old", unsaid="are-lifted")
    assert (sync().set, sync().set) == (1, 0)
    agree(governed, records, unsaid="are-lifted")
    done = sync()
    [differs] = done.differs
    assert done.set == 1 and "asked about another repository now; it stays" in differs
    assert sync().lifted == 0 and holds(governed, id) == [CASE] and governed.cases(incidents.FLAGS_DIFFER)
    flag(records, "1", "lifted")
    done = sync()
    assert (done.lifted, done.differs, done.in_force) == (2, [], 0) and not governed.cases()


def test_a_person_s_own_hold_of_the_same_name_is_never_lifted_by_a_flag(governed: Dock, records: BusinessSandbox) -> None:
    here, there = file(governed, first=1), file(governed, "prices-2003-01-01.csv", first=50)
    [journey] = governed.journeys(OLD)
    apply_hold(journey, CASE, "counsel's letter", "ann")
    with repository_session(load_repositories(governed.profiles)["kept"]) as session:
        session.apply_hold(there, CASE)
    for n, id in enumerate((here, there)):
        flag(records, str(n), document=id)
    assert sync().differs == []
    for n in (0, 1):
        flag(records, str(n), "lifted")
    assert sync().lifted == 2
    assert (holds(governed, here), holds(governed, there)) == ([CASE], [CASE])
    assert "on hold" in Gate().bars([journey])[journey].reason


def test_a_flag_that_broke_off_on_its_way_goes_on_and_is_ours_to_lift(governed: Dock, records: BusinessSandbox) -> None:
    id = file(governed)
    flag(records, "1", document=id)
    flag(records, "2", document="4711", name="Of a document that is not there")
    with no_room_for(governed.ledger, "hold-told"), pytest.raises(LedgerUnreachable):
        govern_all.fn()
    assert holds(governed, id) == [CASE]
    [differs] = sync().differs
    assert "4711" in differs and governed.cases(incidents.FLAGS_DIFFER)
    flag(records, "1", "lifted")
    flag(records, "2", "lifted")
    with no_room_for(governed.ledger, "hold-lifted"), pytest.raises(LedgerUnreachable):
        govern_all.fn()
    [journey] = governed.journeys(OLD)
    assert "on hold" in Gate().bars([journey])[journey].reason, "in force here until it is written down that it is lifted"
    assert sync().why == "" and holds(governed, id) == [] and not Gate().bars([journey])


def test_a_rule_for_a_folder_keeps_what_is_in_it_here_and_there(governed: Dock, records: BusinessSandbox, clock: Clock) -> None:
    file(governed)
    [filed] = [entry.body for entry in governed.history(OLD) if entry.kind == "filed"]
    folder, repository = (str(filed["folder"]),), load_repositories(governed.profiles)["kept"]
    rules = {"1": 3650, "2": 30}
    for id, days in rules.items():
        flag(records, id, kind="retention", folder=folder[0].upper(), days=days)
    assert (sync().in_force, sync().differs) == (2, [])
    with repository_session(repository) as session:
        assert session.rule(folder) == ("keep", 3650), "the longer one"
        [(_, reason)] = sweep().kept
        assert reason.startswith("must be kept for 3650 days in")
        flag(records, "1", "lifted")
        assert sync().lifted == 1 and session.rule(folder) == ("keep", 30)
        session.retain(folder, "trash", 9)
        flag(records, "2", "lifted")
        assert sync().lifted == 1 and session.rule(folder) == ("trash", 9), "somebody else's"
        flag(records, "3", kind="retention", folder=folder[0], days=30)
        [differs] = sync().differs
        assert "somebody has ruled" in differs and session.rule(folder) == ("trash", 9)
        session.retain(folder, "none")
    assert sync().differs == [] and sweep().kept
    clock.ahead = timedelta(days=31)
    assert "must be kept" not in str(sweep().kept), "its days are over here"


@pytest.mark.parametrize(
    "odd",
    [
        {"state": "sett"},
        {"kind": "holt"},
        {"name": ""},
        {"name": 7.5},
        {"document": None},
        {"kind": "retention", "folder": "../x", "days": 1},
        {"kind": "retention", "folder": "x", "days": "1"},
        {"kind": "retention", "folder": "x", "days": True},
    ],
    ids=str,
)
def test_a_flag_that_cannot_be_read_may_be_on_anything(odd: dict[str, Any]) -> None:
    terms = Flags.model_validate({"repository": "kept", "ask": {"path": "/flags", "items": "results"}})
    sound = {"id": "1", "state": "set", "kind": "hold", "name": CASE, "document": 4711}
    assert flag_of(sound, terms) == Flag("1", "hold", CASE, document="4711")
    assert "flag 1: " in str(flag_of({**sound, **odd}, terms))
    assert "(without an id)" in str(flag_of({**sound, "id": ""}, terms)) and isinstance(flag_of("x", terms), str)
    assert flag_of({"id": "1", "state": "lifted"}, terms) == Flag("1", is_set=False)


# --------------------------------------------------------------------------------------------- audit events out


@pytest.fixture
def watched(governed: Dock, records: BusinessSandbox, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Dock:
    """A dock whose folder in File 360 is watched, and its events told to a SIEM; the same stand-in takes them."""
    monkeypatch.setenv("SIEM_TOKEN", BusinessSandbox.COLLECTOR)
    siem = {"kind": "event-collector", "url": records.url, "token": "env:SIEM_TOKEN", "breaker": {"failures": 1_000_000}}
    (governed.profiles / "systems" / "siem.yaml").write_text(yaml.safe_dump({"system": siem}))
    (governed.profiles / "watches").mkdir()
    watch = {"repository": "kept", "folder": folder_of(request), "owner": "security@example.com", "audit": {"system": "siem"}}
    (governed.profiles / "watches" / "team.yaml").write_text(yaml.safe_dump({"watch": watch}))
    return governed


class Files:
    """Bare HTTP at File 360, as the people have it who work there."""

    def __init__(self, team: Mapping[str, Any]) -> None:
        self.http = httpx.Client(base_url=team["url"], timeout=60, trust_env=False)
        form = {"grant_type": "client_credentials", "client_id": team["user"], "client_secret": team["password"]}
        token = self.http.post("/otdsws/oauth2/token", data=form).json()["access_token"]
        self.http.headers["Authorization"] = f"Bearer {token}"

    def view(self, *ids: str) -> None:
        for id in ids:
            assert self.http.get(f"/api/v1/documents/{id}/preview").is_success

    def history(self, id: str) -> list[str]:
        """Ids of what happened to a document, newest first."""
        return [str(event["id"]) for event in self.http.get(f"/api/v1/documents/{id}/audit").json()]


@pytest.fixture
def files(tenant: File360Sandbox) -> Iterator[Files]:
    bare = Files(tenant.described())
    try:
        yield bare
    finally:
        bare.http.close()
        tenant.faults.set(dict.fromkeys(("feed-hides", "trail-hides", "trail-begins"), 0))


def audit(everything: bool = False) -> Audited:
    agreed = load_audit("team")
    done = tell_events(agreed, timedelta(0))
    return done.and_then(check_events(agreed, timedelta(0))) if everything else done


def heard(records: BusinessSandbox, *targets: str) -> list[dict[str, Any]]:
    """What the SIEM was told of these objects, or of all, each event as often as it came."""
    told = [one["event"] for one in records.books.events]
    return [one for one in told if not targets or one["object"] in targets]


def holes(told: Iterable[Mapping[str, Any]]) -> list[str]:
    """As a SIEM finds them: objects of which a number is missing, or came before an earlier one, or after another event than it says."""
    found, last = [], dict[str, tuple[int, str]]()
    for one in told:
        number, id = last.get(one["object"], (0, ""))
        if one["number"] > number:
            if (one["number"], one["previous"]) != (number + 1, id):
                found.append(str(one["object"]))
            last[one["object"]] = one["number"], one["event_id"]
    return found


def test_every_access_event_reaches_the_siem_in_order_whatever_is_lost_on_the_way(
    watched: Dock, records: BusinessSandbox, files: Files
) -> None:
    one, other = file(watched), file(watched, "prices-2003-01-01.csv", first=50)
    with repository_session(load_repositories(watched.profiles)["kept"]) as session:
        folder = session.find((), load_audit("team").watching.folder[0])
    assert folder is not None
    files.view(one, other, one)
    files.http.get(f"/api/v1/documents/{one}/content")
    shared = {"members": [{"email": "admin@example.com", "role": 1}]}
    assert files.http.post(f"/api/v1/folders/{folder.id}/collaborators", json=shared).is_success
    records.faults.set({"lost-answer@collector": 1})
    with pytest.raises(SystemUnreachable):
        audit()
    records.faults.set({"html500@collector": 1})
    with pytest.raises(SystemUnreachable):
        audit()
    with no_room_for(watched.ledger, "told"), pytest.raises(LedgerUnreachable):
        audit()
    assert audit().told
    assert files.http.put(f"/api/v1/documents/{other}", json={"state": "deleted"}).is_success
    assert audit_watches.fn("", False, timedelta(0)).told == 1 and audit().told == 0
    told = heard(records)
    assert holes(told) == [] and len({event["key"] for event in told}) < len(told), "at least once"
    kinds = {
        target: list({event["number"]: event["event"] for event in heard(records, target)}.values())
        for target in (one, other, folder.id)
    }
    assert kinds[one] == ["Create", "View", "View", "Download"]
    assert kinds[other][-2:] == ["View", "Delete"] and kinds[folder.id][-1] == "Share"
    [share] = [event for event in told if event["event"] == "Share"][:1]
    assert share["detail"].endswith("as 1") and share["actor"] == "countersign@example.com" and not watched.cases()


def test_a_gap_is_seen_by_the_siem_and_by_us_and_is_told_after_all(
    watched: Dock, records: BusinessSandbox, tenant: File360Sandbox, files: Files, clock: Clock
) -> None:
    """The feed leaves an event out; the SIEM loses one; an event vanishes from the history."""
    id = file(watched)
    audit()
    files.view(id, id)
    lost = files.history(id)[1]
    tenant.faults.set({"feed-hides": ending(lost)})
    with no_room_for(watched.ledger, "incident"), pytest.raises(LedgerUnreachable):
        audit()
    # The SIEM goes away in the very moment in which the gap is found.
    tenant.faults.meanwhile(f"{id}/audit", lambda: records.faults.set({"drop@collector": 1_000_000}), method="GET")
    with pytest.raises(SystemUnreachable):
        audit(everything=True)
    [gap] = watched.cases(incidents.AUDIT_GAP)
    assert gap.owner == "security@example.com"
    assert "1 missing in the feed" in str(gap.reason) and lost in str(gap.reason)
    clock.ahead = timedelta(minutes=16)
    with pytest.raises(SystemUnreachable):
        audit()
    [late] = watched.cases(incidents.AUDIT_LATE)
    assert lost in str(late.reason)
    records.faults.set({"drop@collector": 0})
    assert audit().told == 1 and watched.cases() == [gap]
    told = heard(records, id)
    assert holes(told) == [] and told[-1]["event_id"] == lost and told[-1]["late"] is True
    assert audit().gaps == [], "it is told once"
    dropped = records.books.events.pop(-2)["event"]
    assert holes(heard(records)) == [id] and dropped["object"] == id, "and what is lost at the SIEM shows there"
    vanished = told[-2]["event_id"]
    tenant.faults.set({"trail-hides": ending(vanished)})
    [(_, reason)] = audit(everything=True).gaps
    assert "1 vanished" in reason and vanished in reason
    tenant.faults.set({"trail-begins": 1e30})
    clock.ahead = timedelta(days=1)
    before = len(heard(records))
    assert audit(everything=True).told >= 1 and len(heard(records)) > before, "each object's last event once more"
    records.faults.set({"largest-body": 100})
    assert audit(everything=True) == Audited() and watched.cases() == [gap], "refused now, it was told before all the same"


@pytest.mark.parametrize(
    ("given_up", "says"), [(False, 413), (True, 422)], ids=["it takes it after all", "a person gives it up"]
)
def test_an_event_that_the_siem_refuses_holds_up_its_own_object_alone(
    given_up: bool, says: int, watched: Dock, records: BusinessSandbox, files: Files
) -> None:
    one, other = file(watched), file(watched, "prices-2003-01-01.csv", first=50)
    audit()
    assert files.http.put(f"/api/v1/documents/{one}", json={"name": f"{'x' * 230}.csv"}).is_success
    files.view(other, one)
    records.faults.set({"largest-body": 900, "largest-says": says})  # less than an event with that name twice
    assert [target for target, _ in audit().refused] == [one]
    assert [event["event"] for event in heard(records, other)][-1] == "View"
    [case] = watched.cases(incidents.AUDIT_REFUSED)
    assert files.http.put(f"/api/v1/documents/{one}", json={"name": OLD}).is_success
    files.view(one)  # which it would take
    assert [target for target, _ in audit().refused] == [one] and len(watched.cases()) == 1, "tried again, told once"
    with holding(["watch.team.audit"], timedelta(0)):
        assert audit() == Audited(), "another run is at it"
    assert heard(records, one)[-1]["event"] == "Rename", "and what came later waits behind it"
    if given_up:
        incidents.close(case.journey, "its name is known here", "ann")
    records.faults.set({"largest-body": 0})
    assert audit().refused == [] and not watched.cases()
    told = heard(records, one)
    assert told[-1]["event"] == "View" and holes(told) == ([one] if given_up else []), "what was given up shows as a hole"


def test_they_are_flows(watched: Dock, records: BusinessSandbox, files: Files, prefect_server: PrefectServer) -> None:
    id = file(watched)
    flag(records, "1", document=id)
    with client_of(prefect_server):
        assert govern_flow(return_state=True).name == "Heard"
        records.faults.set(AWAY)
        state = govern_flow(return_state=True)
        assert state.is_failed() and "nothing that it may have flagged is removed" in str(state.message)

        files.view(id)
        broken = watched.profiles / "watches" / "broken.yaml"
        broken.write_text(yaml.safe_dump({"watch": {"repository": "nowhere", "folder": "x", "audit": {"system": "siem"}}}))
        assert audit_flow(return_state=True).is_failed(), "a file that nobody can read is told"
        assert heard(records, id)[-1]["event"] == "View", "and holds no other watch up"
        broken.unlink()
        state = audit_flow(return_state=True)
        assert (state.name, called(state)) == ("Nothing new", "audit all")
        assert files.http.put(f"/api/v1/documents/{id}", json={"name": f"{'x' * 230}.csv"}).is_success
        files.view(id)
        records.faults.set({"largest-body": 900})
        state = audit_flow("team", everything=True, return_state=True)
        assert str(state.name).endswith("told, 1 refused") and called(state) == "audit team", state


def called(state: State) -> str:
    """What Prefect calls a run."""
    id = state.state_details.flow_run_id
    assert id is not None
    with get_client(sync_client=True) as client:
        return client.read_flow_run(id).name
