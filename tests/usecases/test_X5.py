"""X5 Onboarding documents: how a vendor's papers stand is told to the vendor system, people are reminded, and what has expired blocks.

*Given* vendor V must provide 4 documents and its insurance expires in 30 days; *when* the day comes; *then* the vendor system shows
3 approved, 1 expiring, reminders at 30/14/3 days, and expired blocks export journeys to V by policy.

The papers are kept in File 360, and a line-of-business system is told. A person approves one there by a value of the document, as is
our decision: File 360 has no approval of its own that is publicly known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect.client.schemas.objects import State
from prefect.logging import disable_run_logger

from blocks.errors import ConfigurationError, LedgerUnreachable, RepositoryError
from blocks.profile import load_partner, load_repositories
from blocks.values import Filed, Filing
from deployments.checking import sound_file
from flows.governance import onboarding
from flows.reconcile import reconcile
from tasks import connections
from tasks.onboard import Row, load_onboardings, onboard
from tasks.papers import lacking_papers
from tasks.rules.papers import counts, summary
from tests.ledger.clock import Clock
from tests.ledger.full import no_room_for
from tests.release_world import Release, ReleaseWorld
from tests.sandbox.business import BusinessSandbox
from tests.sandbox.file360 import File360Sandbox
from tests.servers.mail import mail_server
from tests.tasks.conftest import clock as clock
from tests.tasks.conftest import dock as dock
from tests.tasks.dock import Dock

TITLES = {
    "insurance": "Liability insurance",
    "iso": "ISO 9001",
    "tax": "Tax form",
    "code": "Code of conduct",
}
ENDS = date(2027, 6, 30)
"""The last day on which the insurance is good."""
PATIENCE = timedelta(minutes=3)


def papers(**changes: Any) -> dict[str, Any]:
    """The key ``papers:`` of the vendor's profile."""
    status, paper = {"category": "Vendor Paper", "attribute": "Status"}, {"expires": False}
    required = {name: {"title": title, "pattern": f"{name}*.pdf", **paper} for name, title in TITLES.items()}
    required["insurance"] |= {"expires": True}
    return {
        "repository": "team",
        "folder": "Vendors/acme",
        "required": required,
        "approved": {**status, "values": ["Approved"]},
        "rejected": {**status, "values": ["Rejected"]},
        "valid_until": {"category": "Vendor Paper", "attribute": "Valid Until"},
        "owner": "procurement@example.com",
        "tells": {"system": "vendors", "route": "papers"},
        **changes,
    }


def provide(profiles: Path, name: str, status: str | None = "Approved", until: date | str | None = None) -> str:
    """Somebody puts a document, or a new version of it, into the vendor's folder of papers, with what they say of it; its id."""
    values = {key: str(told) for key, told in (("Status", status), ("Valid Until", until)) if told is not None}
    content = f"%PDF-1.7 {name} {uuid4().hex}".encode()
    path = profiles.parent / f"{uuid4().hex}.pdf"
    path.write_bytes(content)
    filing = Filing(
        journey=str(uuid4()),
        name=name,
        folder=("Vendors", "acme"),
        path=path,
        digest=hashlib.sha256(content).hexdigest(),
        size=len(content),
        media_type="application/pdf",
        categories={"Vendor Paper": values},
    )
    with load_repositories(profiles)["team"].session() as session:
        [filed] = session.file([filing])
    assert isinstance(filed, Filed), filed
    return filed.id


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """File 360, and how it is reached; each test has a root folder of its own."""
    home = tmp_path_factory.mktemp("team")
    (home / "secret").write_text(File360Sandbox.SECRET)
    service = File360Sandbox(home / "file360").start()
    told = {"kind": "file360", "url": service.url, "client_id": File360Sandbox.CLIENT, "timeout_seconds": 60}
    try:
        yield {**told, "client_secret": f"file:{home / 'secret'}"}
    finally:
        service.stop()


@pytest.fixture
def vendors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BusinessSandbox]:
    """The vendor system."""
    monkeypatch.setenv("VENDORS_TOKEN", "token")
    with BusinessSandbox(tmp_path / "vendors") as running:
        yield running


def rooted(team: Mapping[str, Any]) -> dict[str, Any]:
    """File 360 below a folder that is empty."""
    name = f"papers-{uuid4().hex[:8]}"
    return {**team, "root": name}


def agree(profiles: Path, vendors: BusinessSandbox, team: Mapping[str, Any], **changes: Any) -> None:
    """Write the reviewed files anew: the vendor's papers, where they are, and the vendor system."""
    reviewed = profiles / "acme.yaml"
    profile = yaml.safe_load(reviewed.read_text())
    profile["partner"] |= {"timezone": "America/New_York", "papers": papers(**changes)}
    reviewed.write_text(yaml.safe_dump(profile))
    repositories = yaml.safe_load((profiles / "repositories.yaml").read_text())
    repositories["repositories"]["team"] = dict(team)
    (profiles / "repositories.yaml").write_text(yaml.safe_dump(repositories))
    route = {
        "method": "PUT",
        "path": "/vendors/{partner}",
        "body": {
            "shows": "{summary}",
            "papers": "{papers}",
            "changed": "{paper}",
            "reminder": "{reminder}",
            "days": "{days_left}",
        },
        "id": "id",
    }
    system = {"kind": "http", "url": f"{vendors.url}/api", "auth": {"kind": "bearer", "token": "env:VENDORS_TOKEN"}}
    system |= {"routes": {"papers": route}, "breaker": {"failures": 1000}}
    (profiles / "systems").mkdir(exist_ok=True)
    (profiles / "systems" / "vendors.yaml").write_text(yaml.safe_dump({"system": system}))


@pytest.fixture
def vendor(dock: Dock, vendors: BusinessSandbox, team: Mapping[str, Any]) -> BusinessSandbox:
    """The vendor system, and a dock whose vendor must provide four papers."""
    agree(dock.profiles, vendors, rooted(team))
    return vendors


@pytest.fixture
def on(dock: Dock, clock: Clock) -> Any:
    """The daily run, on a day of the vendor's."""

    def run(day: date, hour: int = 8) -> Row:
        moment = datetime(day.year, day.month, day.day, hour, tzinfo=ZoneInfo("America/New_York"))
        clock.ahead = moment - datetime.now(UTC)
        return look()

    return run


def look(patience: timedelta = PATIENCE) -> Row:
    """What the flow does, without Prefect, for the one vendor."""
    with disable_run_logger():
        [row] = [onboard.fn(partner, patience) for partner in load_onboardings()]
    return row


def stands(row: Row) -> str:
    return summary(counts(row.papers))


def shows(vendors: BusinessSandbox) -> dict[str, Any]:
    """What the vendor system shows of the vendor."""
    return dict(vendors.books.things["vendors"]["acme"])


def writes(vendors: BusinessSandbox) -> int:
    return vendors.books.writes["vendors"]


def kinds(dock: Dock, kind: str) -> list[str]:
    """The papers that entries of a kind are about."""
    return [str(entry.body["paper"]) for entry in dock.ledger.journey("papers.acme") if entry.kind == kind]


# --------------------------------------------------------------------------------------------- as required


def test_the_day_comes_and_the_vendor_system_shows_it_with_reminders_until_it_is_renewed(
    dock: Dock, vendor: BusinessSandbox, on: Any
) -> None:
    with mail_server() as box:
        mail = {"host": "127.0.0.1", "port": box.port, "security": "none", "sender": "countersign@example.com"}
        (dock.profiles / "notify.yaml").write_text(yaml.safe_dump({"mail": mail}))
        assert stands(on(ENDS - timedelta(days=90))) == "4 missing" == shows(vendor)["shows"]
        for name in TITLES:
            provide(dock.profiles, f"{name}.pdf", None)
        assert stands(on(ENDS - timedelta(days=80))) == "4 waiting for approval" == shows(vendor)["shows"]
        provide(dock.profiles, "tax.pdf", "Rejected")
        assert stands(on(ENDS - timedelta(days=79))) == "3 waiting for approval, 1 rejected" == shows(vendor)["shows"]
        for name in TITLES:
            provide(dock.profiles, f"{name}.pdf", until=ENDS)
        assert stands(on(ENDS - timedelta(days=31))) == "4 approved" == shows(vendor)["shows"]
        told = writes(vendor)
        assert told == 4 + 4 + 1 + 4 and box.messages == []

        on(ENDS - timedelta(days=30))
        assert (shows(vendor)["shows"], shows(vendor)["papers"]["insurance"]) == ("3 approved, 1 expiring", "expiring")
        assert (writes(vendor), shows(vendor)["reminder"], shows(vendor)["days"]) == (told + 2, 30, 30), (
            "the change, the reminder"
        )
        on(ENDS - timedelta(days=30), hour=20)
        on(ENDS - timedelta(days=15))
        assert (writes(vendor), len(box.messages)) == (told + 2, 1), "each once"
        on(ENDS - timedelta(days=14))
        assert (writes(vendor), shows(vendor)["reminder"]) == (told + 3, 14)
        on(ENDS - timedelta(days=2))  # nobody looked the day before
        assert (writes(vendor), shows(vendor)["reminder"], shows(vendor)["days"]) == (told + 4, 3, 2)
        assert shows(vendor)["shows"] == "3 approved, 1 expiring"
        on(ENDS, hour=23)
        assert writes(vendor) == told + 4, "its last day is a good one, where the vendor is"
        on(ENDS + timedelta(days=1), hour=0)
        assert shows(vendor)["shows"] == "3 approved, 1 expired" and writes(vendor) == told + 6
        assert [str(message["Subject"]).removeprefix("Countersign: ") for message in box.messages] == [
            "Liability insurance of ACME ends in 30 days",
            "Liability insurance of ACME ends in 14 days",
            "Liability insurance of ACME ends in 2 days",
            "Liability insurance of ACME has expired",
        ]
        assert set(box.receivers) == {"procurement@example.com"} and kinds(dock, "paper reminded") == ["insurance"] * 4

        # It is renewed: a new version, good until another day, is another state of the paper, and has reminders of its own.
        provide(dock.profiles, "insurance.pdf", until=date(2028, 6, 30))
        on(ENDS + timedelta(days=2))
        assert shows(vendor)["shows"] == "4 approved" and len(box.messages) == 4
        on(date(2028, 5, 31))
        assert shows(vendor)["reminder"] == 30 and len(box.messages) == 5
    dock.ledger.verify()


def test_a_date_that_nobody_can_read_is_an_incident_and_nothing_is_guessed(
    dock: Dock, vendor: BusinessSandbox, on: Any
) -> None:
    for name in TITLES:
        provide(dock.profiles, f"{name}.pdf", until="30.6.27")
    row = on(ENDS)
    assert stands(row) == "3 approved, 1 unreadable" == shows(vendor)["shows"]
    [case] = dock.cases("paper-unreadable")
    assert (case.owner, case.name) == ("procurement@example.com", "Liability insurance") and "30.6.27" in str(case.reason)
    assert "Liability insurance: unreadable" in lacking_papers(load_partner("acme", dock.profiles), "catalogue"), (
        "releases wait"
    )
    on(ENDS)
    assert len(dock.cases()) == 1 and len(dock.events("paper-unreadable")) == 1
    provide(dock.profiles, "insurance.pdf", until=ENDS + timedelta(days=300))
    assert stands(on(ENDS)) == "4 approved" and dock.cases() == []


# --------------------------------------------------------------------------------------------- told once, whatever happens

FAULTS = ("busy429@vendors", "burst503@vendors", "lost-answer@vendors", "cut@vendors")


def test_whatever_the_vendor_system_does_it_is_told_each_change_once(dock: Dock, vendor: BusinessSandbox, on: Any) -> None:
    vendor.faults.set(dict.fromkeys(FAULTS, 1))
    row = on(ENDS)
    assert row.untold == "" and vendor.faults.as_dict() == dict.fromkeys(FAULTS, 0), row
    assert (shows(vendor)["shows"], writes(vendor)) == ("4 missing", 4)
    look()
    assert writes(vendor) == 4 and [e.kind for e in dock.ledger.journey("papers.acme")].count("told") == 4


def test_a_run_that_is_killed_at_any_step_is_gone_on_with_and_nothing_is_told_twice(
    dock: Dock, vendor: BusinessSandbox, on: Any
) -> None:
    provide(dock.profiles, "insurance.pdf", until=ENDS)
    for kind in ("paper changed", "paper reminded", "telling", "told"):
        with no_room_for(dock.ledger, kind), pytest.raises(LedgerUnreachable):
            on(ENDS)
    on(ENDS)
    assert (shows(vendor)["shows"], writes(vendor)) == ("1 expiring, 3 missing", 5), "four changes and a reminder"


def test_a_system_that_says_later_is_told_every_change_in_order_afterwards(dock: Dock, vendor: BusinessSandbox) -> None:
    vendor.faults.set({"busy429@vendors": 1000, "retry-after": 1})
    assert look(timedelta(0)).untold
    provide(dock.profiles, "iso.pdf")
    assert look(timedelta(0)).untold and writes(vendor) == 0
    vendor.faults.set({"busy429@vendors": 0})
    assert look().untold == ""
    assert (shows(vendor)["shows"], shows(vendor)["changed"], writes(vendor)) == ("1 approved, 3 missing", "iso", 5)


def test_what_the_system_refuses_is_for_a_person_and_nothing_goes_ahead_of_it(
    dock: Dock, vendor: BusinessSandbox, on: Any
) -> None:
    vendor.faults.set({"largest-body": 1})
    assert on(ENDS).untold and look().untold
    [case] = dock.cases("paper-not-told")
    assert case.owner == "procurement@example.com" and writes(vendor) == 0
    assert vendor.stats["PUT /api/vendors/acme"] == 2, "one try of the first message by each run"
    vendor.faults.set({"largest-body": 0})
    assert look().untold == "" and (writes(vendor), dock.cases()) == (4, [])


def test_where_the_repository_cannot_be_asked_nothing_is_told_to_have_changed(
    dock: Dock, vendor: BusinessSandbox, on: Any
) -> None:
    provide(dock.profiles, "iso.pdf")
    on(ENDS)
    told = writes(vendor)
    repositories = yaml.safe_load((dock.profiles / "repositories.yaml").read_text())
    repositories["repositories"]["team"]["client_secret"] = f"file:{dock.profiles / 'acme.yaml'}"
    (dock.profiles / "repositories.yaml").write_text(yaml.safe_dump(repositories))
    with pytest.raises((RepositoryError, ConfigurationError)):
        look()
    assert writes(vendor) == told


def test_a_paper_that_is_asked_for_no_more_and_another_route_are_told_too(
    dock: Dock, vendor: BusinessSandbox, vendors: BusinessSandbox
) -> None:
    look()
    reviewed = dock.profiles / "acme.yaml"
    profile = yaml.safe_load(reviewed.read_text())
    del profile["partner"]["papers"]["required"]["iso"]
    reviewed.write_text(yaml.safe_dump(profile))
    look()
    assert (shows(vendor)["shows"], shows(vendor)["changed"], writes(vendor)) == ("3 missing", "iso", 5)
    look()
    assert writes(vendor) == 5

    # Its system does not take it: where another route is agreed, nobody is asked about the first one any more.
    vendor.faults.set({"largest-body": 1})
    profile["partner"]["papers"]["required"]["code"] |= {"title": "Rules"}
    del profile["partner"]["papers"]["required"]["tax"]
    reviewed.write_text(yaml.safe_dump(profile))
    assert look().untold and dock.codes() == ["paper-not-told"]
    vendor.faults.set({"largest-body": 0})
    profile["partner"]["papers"]["tells"]["route"] = "again"
    reviewed.write_text(yaml.safe_dump(profile))
    system = dock.profiles / "systems" / "vendors.yaml"
    agreed = yaml.safe_load(system.read_text())
    agreed["system"]["routes"]["again"] = {**agreed["system"]["routes"]["papers"], "path": "/suppliers/{partner}"}
    system.write_text(yaml.safe_dump(agreed))
    look()
    assert (writes(vendor), vendor.books.things["suppliers"]["acme"]["shows"]) == (5, "2 missing")
    assert dock.codes() == []


# --------------------------------------------------------------------------------------------- what has expired blocks


@pytest.fixture
def export(release_world: ReleaseWorld, vendors: BusinessSandbox, team: Mapping[str, Any]) -> Iterator[Release]:
    """An export journey to the vendor; its papers are in File 360, and good."""
    release_world.agree(export=release_world.terms())
    agree(release_world.profiles, vendors, rooted(team), blocks=["export"])
    good = datetime.now(UTC).date() + timedelta(days=200)
    for name in TITLES:
        provide(release_world.profiles, f"{name}.pdf", until=good)
    yield release_world.order("export", catalogue=b"sku;price\n1;2\n")
    release_world.agree()


def ended() -> date:
    """A day that is over in every time zone."""
    return datetime.now(UTC).date() - timedelta(days=3)


def case_of(release: Release) -> tuple[str, str]:
    """Code and state of the order's case."""
    [found] = [one for one in connections.ledger().cases(open_only=False) if one.journey == release.history[0].journey]
    return str(found.code), str(found.state)


def onboarded() -> State:
    """The flow, through Prefect."""
    return onboarding(return_state=True)


def test_what_has_expired_stops_a_release_and_what_is_signed_waits_until_it_is_renewed(
    release_world: ReleaseWorld, export: Release, vendors: BusinessSandbox
) -> None:
    bea, profiles = release_world.newcomer(), release_world.profiles
    renewed = datetime.now(UTC).date() + timedelta(days=400)
    provide(profiles, "insurance.pdf", until=ended())
    broken = profiles / "globex.yaml"
    broken.write_text("partner: {}\n")
    state: State | None = onboarded()
    assert state is not None and state.is_failed() and "globex" in str(state.message), "it is told, and hinders no other"
    broken.unlink()
    assert (shows(vendors)["shows"], onboarded().name) == ("3 approved, 1 expired", "Nothing new")

    # Before anybody is asked.
    state = export.start()
    assert state is not None and state.name == "Stopped by checks", state
    assert f"Liability insurance: expired on {ended()}" in str(state.message) and case_of(export)[0] == "outbound-check"
    assert "round" not in export.kinds and "frozen" not in export.kinds
    assert lacking_papers(load_partner("acme", profiles), "free") == "", "by policy another stream goes on"
    provide(profiles, "insurance.pdf", until=renewed)
    assert export.go() is None

    # It expires between the signature and the sending.
    provide(profiles, "insurance.pdf", until=ended())
    state = export.sign(bea)
    assert state is not None and (state.name, state.is_completed()) == ("Waits for the partner's papers", True), state
    assert f"Liability insurance: expired on {ended()}" in str(state.message)
    assert export.received == {} and case_of(export) == ("papers-lacking", "new")

    # Where the sender cannot ask, nothing leaves either, whatever a worker says.
    repositories = (profiles / "repositories.yaml").read_text()
    (profiles / "repositories.yaml").write_text(repositories.replace(File360Sandbox.CLIENT, "somebody-else"))
    state = export.go()
    assert state is not None and "cannot be asked just now" in str(state.message)
    assert export.received == {} and export.kinds.count("in-doubt") == 1
    (profiles / "repositories.yaml").write_text(repositories)

    provide(profiles, "insurance.pdf", until=renewed)
    assert reconcile(patience_seconds=0, return_state=True).is_completed()
    assert export.told.state is not None and export.told.state.is_scheduled(), "the sweep lets it try again"
    state = export.go()
    assert state is not None and state.name == "Delivered", state
    assert set(export.received) == {"catalogue.csv"} and case_of(export)[1] == "resolved"


def test_what_cannot_be_agreed_about_papers_is_said_at_once(
    dock: Dock, vendor: BusinessSandbox, team: Mapping[str, Any]
) -> None:
    sound_file("acme", dock.profiles)
    for changes, said in (
        ({"repository": "elsewhere"}, "not in repositories.yaml"),
        ({"tells": {"system": "vendors", "route": "paper"}}, "no such route of vendors; did you mean 'papers'"),
        ({"tells": {"system": "crm", "route": "papers"}}, "there is no such system"),
        ({"valid_until": None}, "'insurance' expires: add 'valid_until'"),
        ({"blocks": ["exports"]}, "no such outbound stream"),
        ({"blocks": [], "lacking": "tell"}, "leave one of them out"),
    ):
        agree(dock.profiles, vendor, team, **changes)
        with pytest.raises(ConfigurationError, match=said):
            sound_file("acme", dock.profiles)
    writes_them = {
        "repository": "team-for-filing",
        "folder": "In",
        "categories": {"Vendor Paper": {"Valid Until": "{received:%Y}"}},
    }
    dock.agree(target=writes_them)
    agree(dock.profiles, vendor, team)
    with pytest.raises(ConfigurationError, match="what the partner sends must not say it"):
        sound_file("acme", dock.profiles)
