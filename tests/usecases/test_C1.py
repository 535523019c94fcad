"""C1 Landing point to LOB.

*Given* catalogue.csv routes to PIM and prices to ERP; *when* ERP is down; *then* PIM is done, ERP retries alone, the file shows "1 of 2
delivered".

Both readings: two files, each for one system; and one file for both.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.logging import disable_run_logger
from typer.testing import CliRunner

from blocks.errors import ConfigurationError, LedgerUnreachable
from blocks.ledger import Entry
from blocks.systems.traffic import traffic_of
from blocks.values import Stage
from deployments.record_commands import journey_app
from tasks import incidents, onward
from tasks.connections import spool
from tasks.correct import SETTLED, Correction, correct, corrections
from tasks.onward import Row, go_onward, load_onward, report_onward
from tasks.retry import reopened
from tests.ledger.full import no_room_for
from tests.sandbox.business import BusinessSandbox
from tests.sandbox.ftp import FtpSandbox
from tests.tasks.conftest import dock as dock
from tests.tasks.dock import STEPS, Dock, price_list
from tests.tasks.test_sidecars import agree as agree_media
from tests.world import over_ftp

NOW, PATIENCE = timedelta(0), timedelta(minutes=3)
CATALOGUE, PRICES = price_list(3), price_list(2, first=70)
BY_NAME = {
    "pim": {"system": "pim", "route": "catalogue", "when": {"kind": "catalogue"}},
    "erp": {"system": "erp", "route": "prices", "when": {"kind": ["prices", "offers"]}, "facts": {"list": "{name}"}},
}
TO_BOTH = {"pim": {"system": "pim", "route": "catalogue"}, "erp": {**BY_NAME["erp"], "when": {}}}


class Far:
    """The two systems of the far side, each a server of its own."""

    def __init__(self, pim: BusinessSandbox, erp: BusinessSandbox) -> None:
        self.pim, self.erp = pim, erp

    def took(self) -> dict[str, list[str]]:
        """What each of them was given, in its order: names of the PIM's, of the ERP's lists."""
        catalogues, prices = self.pim.books.things.get("catalogues", {}), self.erp.books.things.get("prices", {})
        return {"pim": list(catalogues), "erp": [thing["list"] for thing in prices.values()]}

    @property
    def writes(self) -> tuple[int, int]:
        return self.pim.books.writes["catalogues"], self.erp.books.writes["prices"]


@pytest.fixture
def far(dock: Dock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Far]:
    monkeypatch.setenv("FAR_TOKEN", BusinessSandbox.TOKEN)
    monkeypatch.setattr(onward, "create_table_artifact", lambda **_: None)  # Prefect's: without its server there is none
    traffic_of.cache_clear()  # another test's system may have had this one's port, and have been told to wait
    with BusinessSandbox(tmp_path / "pim") as pim, BusinessSandbox(tmp_path / "erp") as erp:
        far = Far(pim, erp)
        systems(dock, far)
        yield far


def systems(dock: Dock, far: Far, **prices: Any) -> None:
    """The PIM takes a file's bytes, the ERP is told of a list by its key."""
    catalogue = {"method": "PUT", "path": "/catalogues/{name}", "document": True}
    told = {
        "path": "/prices",
        "key_header": "Idempotency-Key",
        "body": {"list": "{list}", "digest": "{digest}", "kept_as": "{id}", "version": "{version}"},
        "id": "id",
        **prices,
    }
    (dock.profiles / "systems").mkdir(exist_ok=True)
    for name, sandbox, routes in (("pim", far.pim, {"catalogue": catalogue}), ("erp", far.erp, {"prices": told})):
        auth = {"kind": "bearer", "token": "env:FAR_TOKEN"}
        system = {"kind": "http", "url": f"{sandbox.url}/api", "auth": auth, "routes": routes, "breaker": {"failures": 1000}}
        (dock.profiles / "systems" / f"{name}.yaml").write_text(yaml.safe_dump({"system": system}))


def agree(dock: Dock, destinations: Mapping[str, Any], **more: Any) -> None:
    classify = [{"pattern": r"(?P<kind>[a-z]+).*\.csv", "doctype": "price-list"}]
    terms = {"onward": {"destinations": dict(destinations), **more.pop("others", {})}}
    dock.agree(classify=classify, **terms, **more)


def run(patience: timedelta = NOW) -> dict[str, Row]:
    """What the flow does for this stream, without Prefect: file -> what became of it."""
    with disable_run_logger():
        return {row.document: row for row in go_onward.fn(load_onward("acme", "prices"), patience)}


def said(rows: Mapping[str, Row]) -> dict[str, str]:
    return {name: f"{row.outcome}: {row.said}" for name, row in rows.items()}


def shown_of(journey: str) -> str:
    """What ``countersign journey show`` prints."""
    return CliRunner().invoke(journey_app, [journey]).output


def down(far: Far) -> None:
    far.erp.faults.set({"drop@prices": 1000})


def up(far: Far) -> None:
    far.erp.faults.set({"drop@prices": 0})


# --------------------------------------------------------------------------------------------- as required


def test_two_files_on_an_ftp_server_each_go_to_their_system_and_one_that_is_down_holds_up_only_its_own(
    dock: Dock, far: Far, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("secret")
    with FtpSandbox(tmp_path / "landing", users={"partner": "secret"}) as landing:
        (tmp_path / "landing" / "out").mkdir()
        agree(dock, BY_NAME, endpoint=over_ftp(landing.host, landing.port, tmp_path / "password"))
        for name, content in (("catalogue.csv", CATALOGUE), ("prices.csv", PRICES)):
            (tmp_path / "landing" / "out" / name).write_bytes(content)
        assert dock.run() == {"catalogue.csv": "filed", "prices.csv": "filed"}
        assert not list((tmp_path / "landing" / "out").iterdir()), "the landing point is cleared, whatever is down behind us"
    down(far)
    rows = run()
    assert said(rows) == {"catalogue.csv": "delivered: 1 of 1 delivered", "prices.csv": "waits: 0 of 1 delivered"}
    assert report_onward(list(rows.values())).name == "1 of 2 delivered"
    [catalogue] = far.pim.books.things["catalogues"].values()
    assert (far.pim.content / catalogue["sha256"]).read_bytes() == CATALOGUE, "byte by byte what was accepted"
    up(far)
    assert said(run(PATIENCE)) == {"prices.csv": "delivered: 1 of 1 delivered"} and run() == {}
    assert far.took() == {"pim": ["catalogue.csv"], "erp": ["prices.csv"]} and far.writes == (1, 1)


def test_one_file_for_two_systems_shows_1_of_2_delivered_until_the_other_is_back(dock: Dock, far: Far) -> None:
    agree(dock, TO_BOTH)
    dock.leave("catalogue.csv", CATALOGUE)
    assert dock.run() == {"catalogue.csv": "filed"}
    down(far)
    for _ in range(2):
        rows = run()
        assert said(rows) == {"catalogue.csv": "waits: 1 of 2 delivered"} and "erp" in rows["catalogue.csv"].reason
        assert report_onward(list(rows.values())).name == "1 of 2 delivered"
    assert far.writes == (1, 0), "the PIM is done, and asked no more"
    [event] = dock.events("onward-partly")
    assert (event["file"], event["said"]) == ("catalogue.csv", "1 of 2 delivered")
    [journey] = dock.journeys("catalogue.csv")
    assert "1 of 2 delivered" in shown_of(journey)
    up(far)
    assert said(run(PATIENCE)) == {"catalogue.csv": "delivered: 2 of 2 delivered"} and far.writes == (1, 1)
    assert "2 of 2 delivered" in shown_of(journey)
    assert len(dock.events("onward")) == 1 and run() == {} and not dock.cases()


# --------------------------------------------------------------------------------------------- nothing that was not accepted


def test_nothing_goes_onward_that_was_not_accepted(dock: Dock, far: Far) -> None:
    agree(dock, TO_BOTH)
    dock.leave("bad.csv", CATALOGUE.replace(b"1.50", b"-1.50"))
    dock.leave("again.csv", CATALOGUE)
    dock.leave("first.csv", CATALOGUE)
    outcomes = dock.run()
    assert sorted(outcomes.values()) == ["duplicate", "filed", "quarantined"]
    [filed] = [name for name, outcome in outcomes.items() if outcome == "filed"]
    assert list(run()) == [filed] and far.took() == {"pim": [filed], "erp": [filed]}
    [journey] = dock.journeys("bad.csv")
    assert run() == {} and "onward: " not in shown_of(journey)


def test_what_was_made_of_a_refused_file_goes_onward_and_tells_what_was_known_of_it(dock: Dock, far: Far) -> None:
    """The good rows of a table, and what a person has put right; neither was judged on a journey of its own."""
    agree(dock, TO_BOTH, rows="good-rows", notes={"folder": "/in/notes", "formats": ["html"]})
    systems(dock, far, body={"list": "{list}", "kind": "{kind}", "size": "{size}", "type": "{media_type}"})
    dock.leave("prices.csv", PRICES.replace(b"1.50", b"-1.50", 1))
    assert dock.run() == {"prices.csv": "quarantined"}, "one row is held, the other one is filed"
    [rows] = run()
    assert far.took() == {"pim": [rows], "erp": [rows]}
    agree(dock, TO_BOTH)
    dock.leave("catalogue.csv", CATALOGUE.replace(b"1.50", b"-1.50"))
    assert dock.run()["catalogue.csv"] == "quarantined"
    [journey] = dock.journeys("catalogue.csv")
    with no_room_for(dock.ledger, "filed"), pytest.raises(LedgerUnreachable):
        put_right(dock, journey)
    ledger = dock.ledger
    ledger.append(
        [Entry(f"{journey}.fix1", SETTLED, {"by": "ann", "reason": "the repository refused it"}, stage=Stage.CLEARED)]
    )
    assert run() == {}, "it may be tried again"
    put_right(dock, journey)
    assert said(run()) == {"catalogue.csv": "delivered: 2 of 2 delivered"} and run() == {} and not dock.cases("no-destination")
    told = [*far.erp.books.things["prices"].values()][-1]
    assert {"list": "catalogue.csv", "kind": "catalogue", "size": len(CATALOGUE)}.items() <= told.items()
    assert told["type"].startswith("text/")


def put_right(dock: Dock, journey: str) -> None:
    """What ``flows.review.retry`` does with it."""
    correction = Correction("ann", "they sent it by mail", file="mended")
    corrections().mkdir(exist_ok=True)
    (corrections() / "mended").write_bytes(CATALOGUE)
    again = reopened(journey, correction.comment, correction.by, corrected=True)
    with disable_run_logger(), again as consignment:
        for step in (*STEPS[:2], lambda so_far: correct.fn(so_far, correction), *STEPS[2:]):
            consignment = step(consignment)


def test_what_a_sidecar_tells_is_known(dock: Dock, far: Far) -> None:
    when = {"when": {"sku": "A-7"}, "facts": {"list": "{sku}.{extension}"}}
    agree_media(dock, onward={"destinations": {"erp": {**BY_NAME["erp"], **when}}})
    dock.leave("IMG_1.tif", b"II*\x00" + bytes(40))
    dock.leave("IMG_1.json", b'{"sku": "A-7"}')
    assert dock.run() == {"IMG_1.tif": "filed", "IMG_1.json": "filed"}
    run()
    assert sorted(far.took()["erp"]) == ["A-7.json", "A-7.tif"] and not dock.cases()


def test_other_bytes_than_were_accepted_never_go(dock: Dock, far: Far) -> None:
    """They come from the repository once the spool is empty, and are held against the digest."""
    agree(dock, TO_BOTH)
    dock.leave("catalogue.csv", CATALOGUE)
    dock.run()
    kept = [path for path in (dock.home / "kept").rglob("*") if path.is_file() and path.read_bytes() == CATALOGUE]
    digest = next(entry.body["digest"] for entry in dock.history("catalogue.csv") if entry.kind == "filed")
    spool().path(digest).unlink()
    for path in kept:
        path.write_bytes(CATALOGUE[:-1] + b" ")
    assert said(run()) == {"catalogue.csv": "waits: 1 of 2 delivered"} and far.writes == (0, 1)
    [case] = dock.cases("not-taken")
    assert case.name == "catalogue.csv"
    for path in kept:
        path.write_bytes(CATALOGUE)
    assert said(run()) == {"catalogue.csv": "delivered: 2 of 2 delivered"} and not dock.cases()
    [taken] = far.pim.books.things["catalogues"].values()
    assert taken["sha256"] == digest


def test_what_was_filed_before_it_was_agreed_stays_where_it_is(dock: Dock, far: Far) -> None:
    dock.leave("catalogue.csv", CATALOGUE)
    dock.run()
    agree(dock, TO_BOTH)
    assert run() == {}
    dock.leave("prices.csv", PRICES)
    dock.run()
    assert list(run()) == ["prices.csv"]


# --------------------------------------------------------------------------------------------- whatever happens


@pytest.mark.parametrize(
    "kind", ["onward", "telling", *(pytest.param(kind, marks=pytest.mark.soak) for kind in ("filed", "routed", "delivered"))]
)
def test_whatever_step_it_breaks_off_at_each_system_is_told_once(kind: str, dock: Dock, far: Far) -> None:
    agree(dock, TO_BOTH)
    dock.leave("catalogue.csv", CATALOGUE)
    with no_room_for(dock.ledger, kind), pytest.raises(LedgerUnreachable):
        dock.run()
        run()
    with suppress(LedgerUnreachable):
        dock.run()
    run()
    assert far.writes == (1, 1) and run() == {}


FAULTS = (
    *("busy429@catalogues", "burst503@catalogues", "lost-answer@catalogues", "drop@catalogues"),
    *("busy429@prices", "html500@prices", "lost-answer@prices", "cut@prices", "html500-after@prices"),
)


def test_a_fault_on_either_side_of_each_call_loses_nothing_and_doubles_nothing(dock: Dock, far: Far) -> None:
    agree(dock, TO_BOTH)
    names = [f"list{number}.csv" for number in range(3)]
    for number, name in enumerate(names):
        dock.leave(name, price_list(2, first=100 * (number + 1)))
    dock.run()
    for sandbox in (far.pim, far.erp):
        sandbox.faults.set({fault: 1 for fault in FAULTS if fault.endswith("prices") == (sandbox is far.erp)})
    assert said(run(PATIENCE)) == dict.fromkeys(names, "delivered: 2 of 2 delivered")
    assert not any((*far.pim.faults.as_dict().values(), *far.erp.faults.as_dict().values()))
    assert {name: sorted(told) for name, told in far.took().items()} == {"pim": names, "erp": names} and far.writes == (3, 3)


def test_later_files_of_one_name_never_overtake_the_earlier_one(dock: Dock, far: Far) -> None:
    agree(dock, BY_NAME)
    down(far)
    for first in (100, 200):
        dock.leave("prices.csv", price_list(2, first=first))
        dock.run()
        run()
    assert far.writes == (0, 0)
    up(far)
    far.erp.faults.set({"drop@prices": 1})
    run(PATIENCE)
    assert [thing["version"] for thing in far.erp.books.things["prices"].values()] == [1, 2]
    agree(dock, BY_NAME, target={"repository": "kept", "folder": "Prices", "collision": "keep both"})
    for first in (300, 400):
        dock.leave("prices.csv", price_list(2, first=first))
        dock.run()
    far.erp.faults.set({"drop@prices": 1})
    with disable_run_logger():
        assert [row.outcome for row in go_onward.fn(load_onward("acme", "prices"), NOW)] == ["waits", "waits"]


def test_a_version_that_cannot_be_told_is_not_overtaken_and_one_that_was_is_not_told_after_all(dock: Dock, far: Far) -> None:
    agree(dock, {"pim": TO_BOTH["pim"], "erp": BY_NAME["erp"]})
    refused = {"list": "{list}", "refuse": 1}
    systems(dock, far, body=refused)
    dock.leave("prices.csv", PRICES)
    dock.run()
    far.pim.faults.set({"drop@catalogues": 1})
    run()
    [case] = dock.cases("not-taken")
    systems(dock, far)
    [first] = [entry.body["digest"] for entry in dock.history("prices.csv") if entry.kind == "filed"]
    spool().path(first).unlink()
    for path in (dock.home / "kept").rglob("*"):
        if path.is_file() and path.read_bytes() == PRICES:
            path.write_bytes(PRICES[:-1] + b" ")
    dock.leave("prices.csv", CATALOGUE)
    dock.run()
    with disable_run_logger():
        rows = go_onward.fn(load_onward("acme", "prices"), NOW)
    assert sorted((row.outcome, row.said) for row in rows) == [("refused", "0 of 2 delivered"), ("waits", "1 of 2 delivered")]
    assert far.writes == (0, 1), "the PIM has no later version before the earlier one"
    incidents.close(case.journey, "try again", "ann")
    [lacks] = dock.cases("not-taken")
    incidents.close(lacks.journey, "never mind", "ann")
    with disable_run_logger():
        rows = go_onward.fn(load_onward("acme", "prices"), NOW)
    assert sorted(row.said for row in rows) == ["0 of 2 delivered", "2 of 2 delivered"] and far.writes == (1, 1)
    assert [thing["version"] for thing in far.erp.books.things["prices"].values()] == [2] and run() == {} and not dock.cases()
    assert "(erp left, pim left)" in shown_of(dock.journeys("prices.csv")[0]).replace(
        "pim left, erp left", "erp left, pim left"
    )


def test_however_many_wait_for_a_system_that_is_down_the_others_go_on(
    dock: Dock, far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onward, "MOST_AT_ONCE", 1)  # a thousand would show the same
    agree(dock, BY_NAME)
    down(far)
    for number, name in enumerate(("prices.csv", "offers.csv", "catalogue.csv")):
        dock.leave(name, price_list(1, first=number))
        dock.run()
    for _ in range(4):
        rows = run()
    assert far.took()["pim"] == ["catalogue.csv"] and rows.keys() == {"prices.csv"}


def test_what_a_system_refuses_is_an_incident_with_its_reason_and_told_again_once_it_is_closed(dock: Dock, far: Far) -> None:
    agree(dock, TO_BOTH)
    systems(dock, far, body={"refuse": 1, "list": "{list}"})
    dock.leave("catalogue.csv", CATALOGUE)
    dock.run()
    with no_room_for(dock.ledger, "incident"), pytest.raises(LedgerUnreachable):
        run()
    assert said(run()) == {"catalogue.csv": "refused: 1 of 2 delivered"} == said(run()), "a person is asked, once"
    [case] = dock.cases()
    assert case.code == "not-taken" and case.owner == "prices@example.com" and "status-422" in str(case.reason)
    assert far.erp.stats["POST /api/prices"] == 1, "and it is not told again by itself"
    incidents.close(case.journey, "try again", "ann")
    assert said(run()) == {"catalogue.csv": "refused: 1 of 2 delivered"}
    [again] = dock.cases()
    assert again.journey != case.journey
    systems(dock, far)
    incidents.close(again.journey, "its template is mended", "ann")
    dock.leave("prices.csv", PRICES)
    dock.run()
    assert said(run()) == dict.fromkeys(("catalogue.csv", "prices.csv"), "delivered: 2 of 2 delivered")
    assert far.writes == (2, 2) and not dock.cases()


def test_where_nobody_can_tell_whether_a_system_was_told_a_person_looks_and_the_other_goes_on(dock: Dock, far: Far) -> None:
    agree(dock, TO_BOTH)
    systems(dock, far, key_header=None)
    dock.leave("catalogue.csv", CATALOGUE)
    dock.run()
    far.erp.faults.set({"lost-answer@prices": 1})
    assert said(run()) == {"catalogue.csv": "in doubt: 1 of 2 delivered"} == said(run())
    [case] = dock.cases("telling-in-doubt")
    incidents.close(case.journey, "the ERP shows it", "ann")
    assert said(run()) == {"catalogue.csv": "delivered: 2 of 2 delivered"} and far.writes == (1, 1)


def test_a_route_that_is_told_to_wait_waits_alone(dock: Dock, far: Far) -> None:
    agree(dock, TO_BOTH)
    dock.leave("catalogue.csv", CATALOGUE)
    dock.run()
    far.erp.faults.set({"busy429@prices": 1, "retry-after": 3600})
    began = time.monotonic()
    assert said(run(timedelta(minutes=5))) == {"catalogue.csv": "waits: 1 of 2 delivered"}
    assert time.monotonic() - began < 120, "what would be due after its patience is not waited for"
    assert said(run()) == {"catalogue.csv": "waits: 1 of 2 delivered"} and far.erp.stats["POST /api/prices"] == 1


def test_what_fits_no_destination_is_asked_about_or_left_as_agreed(dock: Dock, far: Far) -> None:
    agree(dock, BY_NAME)
    dock.leave("stock.csv", CATALOGUE)
    dock.run()
    assert said(run()) == {"stock.csv": "triage: "}
    [case] = dock.cases("no-destination")
    assert case.reason == "it fits no destination (kind=stock)"
    agree(dock, {**BY_NAME, "stock": {**BY_NAME["erp"], "when": {"kind": "stock"}}})
    with no_room_for(dock.ledger, "resolved"), pytest.raises(LedgerUnreachable):
        run()
    assert said(run()) == {"stock.csv": "delivered: 1 of 1 delivered"} and not dock.cases()
    agree(dock, BY_NAME)
    dock.leave("other.csv", PRICES)
    dock.run()
    run()
    [case] = dock.cases("no-destination")
    incidents.close(case.journey, "for nobody", "ann")
    assert said(run()) == {"other.csv": "left: "} and run() == {}
    agree(dock, BY_NAME, others={"others": "leave"})
    dock.leave("third.csv", price_list(1, first=9))
    dock.run()
    assert said(run()) == {"third.csv": "left: "} and run() == {} and not dock.cases()


def test_a_destination_that_is_gone_forgets_nothing_that_waited_for_it(dock: Dock, far: Far) -> None:
    agree(dock, TO_BOTH)
    dock.leave("catalogue.csv", CATALOGUE)
    dock.run()
    down(far)
    run()
    agree(dock, {"pim": TO_BOTH["pim"]})
    assert said(run()) == {"catalogue.csv": "refused: 1 of 2 delivered"}
    [case] = dock.cases("not-taken")
    assert "'erp' is no destination any more" in str(case.reason)
    agree(dock, TO_BOTH)
    assert said(run()) == {"catalogue.csv": "waits: 1 of 2 delivered"} and not dock.cases()
    agree(dock, {"pim": TO_BOTH["pim"]})
    run()
    [case] = dock.cases("not-taken")
    incidents.close(case.journey, "the ERP is gone", "ann")
    assert said(run()) == {"catalogue.csv": "delivered: 1 of 2 delivered"} and run() == {}


def test_what_cannot_be_agreed_is_said_at_once(dock: Dock, far: Far) -> None:
    with pytest.raises(ConfigurationError, match="says nothing of 'onward'"):
        load_onward("acme", "prices")
    agree(dock, {"erp": {"system": "epr", "route": "prices"}})
    with pytest.raises(ConfigurationError, match="no such system; did you mean 'erp'"):
        load_onward("acme", "prices")
    agree(dock, {"erp": {"system": "erp", "route": "price"}})
    with pytest.raises(ConfigurationError, match="erp has no route 'price'"):
        load_onward("acme", "prices")
    agree(dock, {"erp": {"system": "erp", "route": "prices", "when": {"knid": "prices"}}})
    with pytest.raises(ConfigurationError, match="knid, list is never known of a document here; known are"):
        load_onward("acme", "prices")
