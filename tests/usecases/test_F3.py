"""F3 Recurring feeds to repository: what is due by a calendar is late, then missing, and then it comes; nobody is alarmed on a holiday.

*Given* feed "inventory" is due weekdays 06:00 with grace 08:00 and Monday is a holiday in its calendar; *when* no file comes Monday and
none on Tuesday by 06:00; *then* no alert Monday, "late" Tuesday 06:00, "missing" incident 08:00 to the owner; a file at 07:10 instead
closes it as late.

File 360 is the repository of this use case: each feed is kept in a folder that exactly those get at who were agreed to, for as long as it
must be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from blocks.errors import ConfigurationError
from blocks.profile import load_repositories
from deployments.checking import sound_file
from tasks.incidents import close
from tests.ledger.clock import Clock
from tests.sandbox.ftp import FtpSandbox
from tests.tasks.conftest import clock as clock
from tests.tasks.conftest import dock as dock
from tests.tasks.dock import Dock, price_list
from tests.world import file360, over_ftp, reached

MONDAY, TUESDAY, WEDNESDAY = date(2027, 3, 29), date(2027, 3, 30), date(2027, 3, 31)
"""Easter Monday, on whose eve the partner's clocks are set forward; and the days after."""
FEEDS = {"inventory": "P1Y", "order-extracts": "P6Y", "compliance-reports": "P10Y"}
"""Streams, and how long what they bring must be kept."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """File 360; each test has folders of its own."""
    with file360(tmp_path_factory.mktemp("file360")) as running:
        yield running


@pytest.fixture
def feeds(request: pytest.FixtureRequest) -> str:
    """The test's own folder in File 360."""
    return f"Feeds {request.node.name}"[:60]


@pytest.fixture
def partner(
    dock: Dock, service: Mapping[str, Any], feeds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FtpSandbox]:
    """The partner's FTP server; our profile leads there, and to File 360."""
    password = tmp_path / "password"
    password.write_text("not a secret")
    calendars = {"warehouse": {"timezone": "Europe/Berlin", "country": "DE"}}
    (dock.profiles / "calendars.yaml").write_text(yaml.safe_dump({"calendars": calendars}))
    with FtpSandbox(tmp_path / "partner", users={"partner": "not a secret"}) as server:
        streams = {feed: terms(feed, kept, feeds) for feed, kept in FEEDS.items()}
        for feed in FEEDS:
            (server.root / feed).mkdir()
        dock.agree(zone="Europe/Berlin", endpoint=over_ftp(server.host, server.port, password), streams=streams)
        monkeypatch.setenv("ECM_PASSWORD", str(service["password"]))
        repositories = {"repositories": {"kept": reached(service)}}
        (dock.profiles / "repositories.yaml").write_text(yaml.safe_dump(repositories))
        yield server


def terms(feed: str, kept: str, folder: str) -> dict[str, Any]:
    due = {"by": "06:00", "days": ["mon", "tue", "wed", "thu", "fri"], "calendar": "warehouse", "grace": "PT2H"}
    return {
        "folder": f"/{feed}",
        "expect": due if feed == "inventory" else None,
        "owner": f"{feed}@example.com",
        "target": {
            "repository": "kept",
            "folder": f"{folder}/{feed}",
            "categories": {"Partner Document": {"Keep Until": "{keep_until}"}},
            "retention": {"period": kept, "begins": "end of year"},
            "access": [{"who": "Marketing", "right": "read"}, {"who": "admin@example.com", "right": "edit"}],
        },
    }


@pytest.fixture
def at(dock: Dock, clock: Clock) -> Any:
    """Look at the feed at a moment of the partner's day."""
    from zoneinfo import ZoneInfo

    def look(day: date, hour: int, minute: int = 0) -> dict[str, str]:
        moment = datetime(day.year, day.month, day.day, hour, minute, 30, tzinfo=ZoneInfo("Europe/Berlin"))
        clock.ahead = moment - datetime.now(UTC)
        return dock.run("inventory")

    return look


def told(dock: Dock) -> list[tuple[str, str, str]]:
    """Each alert so far, and whose it is: code, owner, state."""
    cases = [(str(one.code), one.owner or "", str(one.state)) for one in dock.ledger.cases(open_only=False)]
    return sorted(cases)


def alerts(dock: Dock) -> list[str]:
    """What programs and people were told, in order."""
    events = [str(one["event"]).removeprefix("countersign.intake.") for one in dock.told]
    return [event for event in events if event in ("late", "missing")]


def test_no_alert_on_a_holiday_then_late_then_missing_to_its_owner(dock: Dock, partner: FtpSandbox, at: Any) -> None:
    (partner.root / "inventory" / "friday.csv").write_bytes(price_list())
    assert at(date(2027, 3, 25), 5) == {"friday.csv": "filed"}, "Thursday: the day after is Good Friday"
    for day, hour in ((date(2027, 3, 26), 12), (MONDAY, 7), (MONDAY, 9), (MONDAY, 23), (TUESDAY, 5)):
        at(day, hour)
        assert alerts(dock) == [], (day, hour)
    at(TUESDAY, 6)
    assert alerts(dock) == ["late"]
    at(TUESDAY, 7, 59)
    assert alerts(dock) == ["late"] and [case.code for case in dock.cases()] == ["late"], "told once"
    at(TUESDAY, 8)
    [case] = dock.cases()
    assert (case.code, case.owner) == ("missing", "inventory@example.com") and "2027-03-30 04:00 UTC" in str(case.reason)
    at(TUESDAY, 9)
    assert alerts(dock) == ["late", "missing"]

    # Its owner acknowledges it; the same is not told again, and the next day's is.
    close(case.journey, "their system is down until tomorrow", "olga")
    at(TUESDAY, 10)
    assert dock.cases() == [] and alerts(dock) == ["late", "missing"]
    (partner.root / "inventory" / "tuesday.csv").write_bytes(price_list(rows=4))
    assert at(TUESDAY, 11) == {"tuesday.csv": "filed"}
    at(WEDNESDAY, 6)
    assert alerts(dock) == ["late", "missing", "late"]
    dock.ledger.verify()


def test_a_file_at_ten_past_seven_closes_it_as_late(dock: Dock, partner: FtpSandbox, at: Any) -> None:
    at(TUESDAY, 6)
    [case] = dock.cases("late")
    (partner.root / "inventory" / "stock.csv").write_bytes(price_list())
    assert at(TUESDAY, 7, 10) == {"stock.csv": "filed"}
    assert dock.cases() == []
    at(TUESDAY, 8)
    at(TUESDAY, 12)
    assert alerts(dock) == ["late"] and dock.cases() == []
    over = dock.ledger.journey(case.journey)[-1]
    assert (over.kind, over.body["reason"]) == ("resolved", "it came late, at 2027-03-30 05:10 UTC")


def test_what_never_came_is_not_said_to_have_come_late(dock: Dock, partner: FtpSandbox, at: Any) -> None:
    at(TUESDAY, 8)
    at(WEDNESDAY, 6)
    missing, late = sorted(dock.cases(), key=lambda case: case.journey)
    assert (missing.code, late.code) == ("missing", "late")
    (partner.root / "inventory" / "stock.csv").write_bytes(price_list())
    at(WEDNESDAY, 6, 5)
    said = [dock.ledger.journey(case.journey)[-1].body["reason"] for case in (missing, late)]
    came = "2027-03-31 04:05 UTC"
    assert said == [f"nothing came for it; the next came at {came}", f"it came late, at {came}"] and dock.cases() == []


def test_where_nobody_looked_in_its_time_of_grace_it_is_missing_at_once(dock: Dock, partner: FtpSandbox, at: Any) -> None:
    at(TUESDAY, 8, 5)
    assert alerts(dock) == ["missing"]
    (partner.root / "inventory" / "stock.csv").write_bytes(price_list())
    at(TUESDAY, 10)
    assert dock.cases() == [], "over by itself all the same"


class Someone(httpx.Client):
    """An account of File 360's, by its client: ``pyxecm`` is admin@example.com's."""

    def __init__(self, url: str, client: str) -> None:
        form = {"grant_type": "client_credentials", "client_id": client, "client_secret": f"{client}-secret"}
        token = httpx.post(f"{url}/otdsws/oauth2/token", data=form, timeout=60, trust_env=False).json()["access_token"]
        super().__init__(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60, trust_env=False)

    def reads(self, id: str) -> bool:
        answer = self.get(f"/api/v1/documents/{id}/content")
        assert answer.status_code in (200, 404), answer.text
        return answer.is_success


def test_what_the_feeds_bring_is_kept_in_their_folders_for_as_long_as_each_must(
    dock: Dock, partner: FtpSandbox, feeds: str, at: Any
) -> None:
    at(TUESDAY, 5)
    for number, feed in enumerate(FEEDS):
        (partner.root / feed / f"{feed}.csv").write_bytes(price_list(rows=number + 1))
        assert dock.run(feed) == {f"{feed}.csv": "filed"}
    reached = yaml.safe_load((dock.profiles / "repositories.yaml").read_text())["repositories"]["kept"]
    with (
        load_repositories(dock.profiles)["kept"].session() as session,
        Someone(reached["url"], "pyxecm") as admin,
        Someone(reached["url"], "sender") as stranger,
    ):
        for feed, period in FEEDS.items():
            [kept] = session.look((feeds, feed))
            assert admin.reads(kept.id) and not stranger.reads(kept.id), "who was agreed to, and nobody else"
            until = f"{2027 + int(period[1:-1])}-12-31"
            assert str(session.get(kept.id).categories["Partner Document"]["Keep Until"])[:10] == until


def test_a_calendar_that_is_not_there_is_told_before_anything_moves(dock: Dock, partner: FtpSandbox) -> None:
    (dock.profiles / "calendars.yaml").write_text(yaml.safe_dump({"calendars": {}}))
    with pytest.raises(ConfigurationError, match="calendar 'warehouse'"):
        dock.run("inventory")
    with pytest.raises(ConfigurationError, match=r"inventory(.|\n)*not in calendars\.yaml"):
        sound_file("acme", dock.profiles)
