"""E7 Failed jobs become cases: a truncated file, its error and the last good one are filed in Extended ECM, every change with them, and
the complete file ends the case."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.logging import disable_run_logger

from blocks.errors import OutcomeUnknown
from blocks.ledger import Case, CaseState
from blocks.profile import load_repositories
from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.spool import Spool
from tasks import case_record, cases
from tasks.case_record import PAGE, keep_case_records
from tasks.holds import Gate, apply_hold, holds_there
from tests.sandbox.extended_ecm import ExtendedEcmSandbox
from tests.sandbox.ftp import FtpSandbox
from tests.tasks.dock import Dock, dock_at
from tests.world import over_ftp

HEADER = "shipment;line;sku;quantity;shipped_on"
NAME, BEFORE = "manifest_2.csv", "manifest_1.csv"


def manifest(rows: int, told: int | None = None, shipment: str = "S2") -> bytes:
    """A shipment of so many rows; its control line tells of as many, or of ``told``."""
    lines = [f"{shipment};{line};A-{line};2;2026-11-20" for line in range(1, rows + 1)]
    return "\n".join([HEADER, *lines, f"#TRAILER;rows={rows if told is None else told}", ""]).encode()


CUT, WHOLE = manifest(812, 1000), manifest(1000)
GOOD = manifest(3, shipment="S1")


@dataclass
class Exchange:
    """A partner's FTP server, Extended ECM, and the steps of an intake between them."""

    dock: Dock
    ftp: FtpSandbox
    ecm: ExtendedEcmSandbox

    def leave(self, name: str, content: bytes) -> None:
        (self.ftp.root / "out" / name).write_bytes(content)

    def case(self) -> Case:
        (case,) = self.dock.cases()
        return case

    def sweep(self) -> list[str]:
        """What the sweep does about records; the codes of what it found."""
        with disable_run_logger():
            return [finding.code for finding in keep_case_records.fn()]

    def record(self, journey: str) -> dict[str, tuple[int, bytes]]:
        """Name -> newest version and its bytes, of all that stands in the case's folder."""
        spool, found = Spool(self.dock.home / "read-back", floor_bytes=0), {}
        with load_repositories(self.dock.profiles)["ecm"].session() as session:
            assert session.find(("Cases", "acme", "prices"), journey)
            for kept in session.look(("Cases", "acme", "prices", journey)):
                with spool.batch() as batch:
                    done = session.fetch(kept.id, None, batch)
                assert kept.name not in found
                found[kept.name] = (kept.version, spool.path(done.digest).read_bytes())
        return found

    def page(self, journey: str) -> str:
        """The page as it is read: without markup."""
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", self.record(journey)[PAGE][1].decode())).split())

    def kinds(self, name: str = NAME) -> list[str]:
        return [entry.kind for entry in self.dock.ledger.journey(self.dock.journeys(name)[0])]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FtpSandbox, ExtendedEcmSandbox]]:
    home = tmp_path_factory.mktemp("servers")
    ecm = ExtendedEcmSandbox(home / "ecm").start()
    try:
        with FtpSandbox(home / "ftp", users={"partner": "secret"}) as ftp:
            yield ftp, ecm
    finally:
        ecm.stop()


@pytest.fixture
def exchange(
    tmp_path: Path, servers: tuple[FtpSandbox, ExtendedEcmSandbox], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Exchange]:
    ftp, ecm = servers
    monkeypatch.setenv("COUNTERSIGN_PAUSE_SECONDS", "0.05")
    monkeypatch.setenv("ECM_PASSWORD", ecm.PASSWORD)
    (ftp.root / "out").mkdir(exist_ok=True)
    (tmp_path / "password").write_text("secret")
    with dock_at(tmp_path / "home") as dock:
        dock.agree(
            classify=[{"pattern": r"manifest_\d+\.csv", "doctype": "shipment-manifest"}],
            delimiter=";",
            target={"repository": "ecm", "folder": f"In/{tmp_path.name}"},
            owner="logistics",
        )
        reviewed = dock.profiles / "acme.yaml"
        profile = yaml.safe_load(reviewed.read_text())
        profile["partner"]["endpoints"]["drop"] = over_ftp(ftp.host, ftp.port, tmp_path / "password")
        reviewed.write_text(yaml.safe_dump(profile))
        carla = {"id": "carla", "name": "Carla Neri", "mail": "carla@example.com", "groups": ["logistics"]}
        (dock.profiles / "people.yaml").write_text(yaml.safe_dump({"people": [carla]}))
        told = {"kind": "extended-ecm", "url": ecm.url, "username": ecm.USER, "password": "env:ECM_PASSWORD"}
        kept = {"repository": "ecm", "folder": "Cases/{partner}/{stream}", "records_class": "Contracts"}
        repositories = {"repositories": {"ecm": told}, "cases": kept}
        (dock.profiles / "repositories.yaml").write_text(yaml.safe_dump(repositories))
        try:
            yield Exchange(dock, ftp, ecm)
        finally:
            ecm.faults.set(dict.fromkeys(("burst503", "away-after", "write-503", "spare-writes"), 0))
            for path in (ftp.root / "out").iterdir():
                path.unlink()


@pytest.fixture
def after_a_good_one(exchange: Exchange) -> Exchange:
    """The stream has filed a document before."""
    exchange.leave(BEFORE, GOOD)
    assert exchange.dock.run() == {BEFORE: "filed"}
    return exchange


def test_a_truncated_file_is_a_case_with_its_record_until_the_complete_one_comes(after_a_good_one: Exchange) -> None:
    world = after_a_good_one
    world.leave(NAME, CUT)
    assert world.dock.run() == {NAME: "quarantined"}
    case = world.case()
    assert (case.code, case.owner, case.state) == ("truncated", "logistics", CaseState.NEW)
    assert case.due is not None and case.due - case.opened >= timedelta(hours=1)
    first = world.record(case.journey)
    beside = {name: content for name, (_, content) in first.items() if name != PAGE}
    assert beside == {f"problem - {NAME}": CUT, f"sample - {BEFORE}": GOOD}
    page = world.page(case.journey)
    assert "tells of 1,000 rows, and the file has 812: 188 are missing" in page
    assert "logistics" in page and f"{case.due:%Y-%m-%d %H:%M:%S} UTC" in page and "State new" in page

    cases.assign(case.journey, "carla", "see <b>to it</b>", "ann")
    assert world.sweep() == []
    cases.wait_for_partner(case.journey, "they send it again", "carla")
    cases.remark(case.journey, "by noon, they say", "carla")
    assert world.sweep() == []
    page = world.page(case.journey)
    assert world.record(case.journey)[PAGE][0] == 3, "what is said at once is one version"
    assert "carla" in page and "State waiting for partner" in page
    for said in ("see <b>to it</b>", "they send it again", "by noon, they say"):
        assert said in page
    assert b"<b>to it" not in world.record(case.journey)[PAGE][1]

    world.leave(NAME, WHOLE)
    assert world.dock.run() == {NAME: "filed"}
    assert world.dock.cases() == []
    record, page = world.record(case.journey), world.page(case.journey)
    assert {name: version for name, (version, _) in record.items()} == dict.fromkeys(beside, 1) | {PAGE: 4}
    assert "State resolved" in page and world.dock.journeys(NAME)[-1] in page
    states = re.findall(r"state: (new|assigned|waiting for partner|resolved)", page)
    assert states == ["new", "assigned", "waiting for partner", "resolved"]
    before = world.kinds()
    assert world.sweep() == [] and world.kinds() == before, "nothing more is to be told"
    world.dock.ledger.verify()


def test_tomorrow_s_file_of_that_name_does_not_end_the_case(exchange: Exchange) -> None:
    exchange.leave(NAME, CUT)
    exchange.dock.run()
    for other in (WHOLE.replace(b"S2;7;A-7;2;", b"S2;7;A-7;3;"), manifest(1001)):
        exchange.leave(NAME, other)
        assert exchange.dock.run() == {NAME: "filed"}
        assert exchange.case().code == "truncated"


def test_the_case_is_open_while_extended_ecm_is_away_and_its_record_follows(after_a_good_one: Exchange) -> None:
    world = after_a_good_one
    world.leave(NAME, CUT)
    world.ecm.faults.set({"burst503": 1_000_000})
    assert world.dock.run() == {NAME: "quarantined"}
    case = world.case()
    assert (case.code, case.owner, case.due is None) == ("truncated", "logistics", False)
    assert "case-recorded" not in world.kinds()
    assert world.sweep() == [], "it is away: that is told by what needs it"
    world.ecm.faults.set({"burst503": 0})
    assert world.sweep() == []
    assert {name: version for name, (version, _) in world.record(case.journey).items()} == {
        f"problem - {NAME}": 1, f"sample - {BEFORE}": 1, PAGE: 1}  # fmt: skip


class Killed(BaseException):
    """The process ends here."""


def _before(file: Callable[..., Any], repository: Any, target: Any, about: Any, at: Any, pieces: Any) -> Any:
    raise Killed


def _halfway(file: Callable[..., Any], repository: Any, target: Any, about: Any, at: Any, pieces: Any) -> Any:
    file(repository, target, about, at, pieces[:1])
    raise Killed


def _behind(file: Callable[..., Any], repository: Any, target: Any, about: Any, at: Any, pieces: Any) -> Any:
    file(repository, target, about, at, pieces)
    raise Killed


def test_killed_between_its_steps_the_record_is_whole_and_nothing_of_it_twice(
    after_a_good_one: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, file = after_a_good_one, case_record.file_pieces
    world.leave(NAME, CUT)
    for act, killed in ((world.dock.run, _before), (world.sweep, _halfway), (world.sweep, _behind)):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(case_record, "file_pieces", partial(killed, file))
            act()
    case = world.case()
    cases.remark(case.journey, "meanwhile", "carla")
    assert world.sweep() == []
    record = world.record(case.journey)
    assert {name: version for name, (version, _) in record.items()} == {
        f"problem - {NAME}": 1,
        f"sample - {BEFORE}": 1,
        PAGE: 2,
    }
    assert world.kinds().count("case-recording") == world.kinds().count("case-recorded") == 2


def test_a_lost_answer_doubles_nothing_and_a_hold_on_the_journey_is_for_its_record_too(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange.leave(NAME, CUT)

    def unknown(*_: object, **__: object) -> Iterator[Any]:
        raise OutcomeUnknown("nobody knows")

    with monkeypatch.context() as patch:
        patch.setattr(ExtendedEcmSession, "file", unknown)
        assert exchange.dock.run() == {NAME: "quarantined"}
        assert exchange.sweep() == exchange.sweep() == ["case-record"], "the same finding, which the sweep tells once"
    exchange.ecm.faults.set({"lost-answer": 1})
    assert exchange.sweep() == []
    case = exchange.case()
    record = exchange.record(case.journey)
    assert {name: version for name, (version, _) in record.items()} == {f"problem - {NAME}": 1, PAGE: 1}
    assert "nothing of this kind was filed on the stream before" in exchange.page(case.journey)
    assert apply_hold(case.journey, "Dispute 7", "", "ann") == []
    assert [[hold.name for hold in holds] for holds in holds_there(case.journey).values()] == [["Dispute 7"]] * 2, (
        "its record too"
    )
    assert "on hold" in Gate().bars([case.journey])[case.journey].reason
