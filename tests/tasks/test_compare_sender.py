"""What the sender counted and sent is ours only if the ledger had it before."""

from __future__ import annotations

from dataclasses import replace

from blocks.ledger import Entry
from blocks.outbound import Record, Refused, Stood
from tasks.compare_sender import _cases, _gathered, _leaving
from tasks.order import order_key
from tests.rules.signoff.world import package
from tests.tasks.dock import Dock


def test_only_what_the_ledger_had_before_is_ours(dock: Dock) -> None:
    ours = package()
    other = replace(ours, files=ours.files[:1])
    unknown = replace(ours, order="never-ordered")
    dock.ledger.append(
        [
            Entry(ours.journey, "ordered", {}, once=order_key(ours.partner, ours.stream, ours.order)),
            Entry(ours.journey, "frozen", {"package": ours.text}, once=f"frozen/{ours.journey}"),
            Entry(ours.journey, "sending", {"left_out": []}, once=f"sending/{ours.digest}"),
        ]
    )
    three = (ours, other, unknown)
    stood = tuple(Stood(one.digest, one.partner, one.stream, one.order, "ann") for one in three)
    record = Record((), (), stood, tuple(one.digest for one in three))
    assert _leaving(record) == {ours.digest}
    assert [one in _gathered(record) for one in (ours.digest, other.digest, unknown.digest)] == [True, False, False]


def test_only_a_case_s_round_that_its_own_run_has_asked_in_is_ours(dock: Dock) -> None:
    dock.ledger.append([Entry("j", "case asked", {"key": "case-1-a", "run": "r"}, once="case asked/case-1-a")])
    now = dock.ledger.now()
    rounds = ("r/case-1-a", "s/case-1-a", "r/case-2-a", "by hand/1", "case-1-a")
    refused = tuple(Refused(about, 1001, "/case", about, "locked", now, 1) for about in rounds)
    assert _cases(Record((), refused)) == {"r/case-1-a"}
