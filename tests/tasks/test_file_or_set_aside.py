"""One task files and sets aside, another closes cases and clears the source: what is tried again does nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from blocks.errors import LedgerUnreachable
from blocks.repositories.folder import FolderSession
from blocks.values import Filed, Filing, NotFiled
from tasks import close, file_or_set_aside
from tasks.agreed import load_stream
from tasks.check import check
from tasks.consignment import Consignment, Row
from tasks.desk import Desk
from tasks.pick_up import pick_up
from tasks.set_aside import set_aside
from tasks.tell_partner import tell_partner
from tests.tasks.dock import Dock, price_list
from tests.tasks.test_let_go_on import good_rows_go_on, prices

Verb = Callable[[Consignment], Consignment]
BREAKS = {
    "while rows go on": (file_or_set_aside, "let_go_on"),
    "while it is filed": (file_or_set_aside.file_away, "fn"),
    "while it is set aside": (file_or_set_aside.set_aside, "fn"),
    "while cases are closed": (close, "resolve"),
    "while the source is cleared": (close.clear_source, "fn"),
}


@pytest.fixture
def noting_dock(dock: Dock) -> Iterator[Dock]:
    with good_rows_go_on(dock):
        yield dock


def patiently(verb: Verb, consignment: Consignment) -> Consignment:
    """As Prefect does: the same task once more, with what it was given."""
    try:
        return verb(consignment)
    except LedgerUnreachable as error:
        assert error.worth_retrying
        return verb(consignment)


def bring_in(dock: Dock) -> list[Row]:
    agreed, readiness = load_stream("acme", "prices"), dock.look()
    with disable_run_logger(), Desk(agreed, readiness) as desk:
        [consignment] = desk
        checked = check.fn(pick_up.fn(consignment))
        return patiently(close.close.fn, tell_partner.fn(patiently(file_or_set_aside.file_or_set_aside.fn, checked))).rows()


@pytest.mark.parametrize("where", BREAKS)
def test_what_breaks_off_when_its_work_is_done_and_is_tried_again_does_nothing_twice(
    noting_dock: Dock, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dock = noting_dock
    dock.leave("p.csv", prices("1.00", "x"))
    assert dock.run() == {"p.csv": "quarantined"}
    dock.leave("p.csv", prices("1.00", "2.00"))
    dock.leave("good.csv", prices("3.00"))
    dock.leave("partly.csv", prices("4.00", "x"))
    dock.leave("bad.txt", b"no table")
    owner, name = BREAKS[where]
    verb: Verb = getattr(owner, name)
    broken: list[Consignment] = []

    def breaks_off_once(consignment: Consignment) -> Consignment:
        done = verb(consignment)
        if not broken:
            broken.append(done)
            raise LedgerUnreachable("its answer was lost")
        return done

    monkeypatch.setattr(owner, name, breaks_off_once)
    outcomes = {row.file: row.outcome for row in bring_in(dock)}
    assert broken
    assert outcomes == {"p.csv": "duplicate", "good.csv": "filed", "partly.csv": "quarantined", "bad.txt": "quarantined"}
    rows = [row.split(",")[3] for content in dock.filed().values() for row in content.decode().splitlines()[1:]]
    assert sorted(rows) == ["1.00", "2.00", "3.00", "4.00"]
    assert sorted(case.name or "" for case in dock.cases()) == ["bad.txt", "partly.csv"]
    assert list(dock.out.iterdir()) == []
    for name in ("p.csv", "good.csv", "partly.csv", "bad.txt"):
        kinds = dock.kinds(name)
        twice = {kind for kind in kinds if kinds.count(kind) > 1}
        # An original that was moved away by us before the answer was lost is seen to be gone.
        assert twice <= ({"cleared"} if where == "while the source is cleared" else set()), (name, kinds)


@pytest.mark.parametrize(
    "written", [pytest.param(True, id="its answer was lost"), pytest.param(False, id="nothing was written")]
)
@pytest.mark.parametrize("terms", [pytest.param({}, id="free"), pytest.param({"sequence": "latest"}, id="latest")])
def test_what_a_repository_refused_stays_refused_when_setting_it_aside_is_tried_again(
    dock: Dock, monkeypatch: pytest.MonkeyPatch, terms: dict[str, Any], written: bool
) -> None:
    dock.agree(**terms)
    dock.leave("a.csv", price_list(first=1))
    dock.look()
    dock.leave("b.csv", price_list(first=9))
    file, aside, refusals, breaks = FolderSession.file, set_aside.fn, [1], [1]

    def refuses_once(self: FolderSession, filings: Iterable[Filing]) -> Iterator[Filed | NotFiled]:
        for one in filings:
            if one.name.startswith("a") and refusals:
                refusals.clear()
                yield NotFiled(one.journey, "refused-by-repository", "its category is locked")
            else:
                yield from file(self, [one])

    def breaks_off_once(consignment: Consignment) -> Consignment:
        done = aside(consignment) if written or not breaks else consignment
        if breaks:
            breaks.clear()
            raise LedgerUnreachable("another writer kept the ledger locked")
        return done

    monkeypatch.setattr(FolderSession, "file", refuses_once)
    monkeypatch.setattr(set_aside, "fn", breaks_off_once)
    agreed, readiness = load_stream("acme", "prices"), dock.look()
    with disable_run_logger(), Desk(agreed, readiness) as desk:
        [consignment] = desk
        filed = patiently(file_or_set_aside.file_or_set_aside.fn, check.fn(pick_up.fn(consignment)))
    assert not refusals and not breaks
    outcomes = {row.file: (row.outcome, row.reason.partition(":")[0]) for row in filed.rows()}
    assert outcomes == {"a.csv": ("quarantined", "refused-by-repository"), "b.csv": ("filed", "")}
    assert "filed" not in dock.kinds("a.csv")
