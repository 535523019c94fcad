"""A finding in one file of a hundred keeps none of the others waiting, and says where it is."""

from __future__ import annotations

from collections import Counter

import pytest

from blocks.values import Stage
from tasks import tables
from tasks.consignment import Consignment
from tests.tasks.dock import Dock, price_list

FILES, BAD = 100, 50


def test_a_finding_in_one_file_of_a_hundred_slows_nothing_else(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    dock.agree(limits={"consignment_files": FILES})
    for number in range(1, FILES + 1):
        content = price_list(rows=2, first=2 * number)
        dock.leave(f"p{number:04}.csv", content.replace(b".50,", b".x,", 1) if number == BAD else content)
    judged, steps, through = list[int](), list[tuple[str, int]](), Counter[Stage]()
    judge = tables.judge
    monkeypatch.setattr(tables, "judge", lambda some, *told: (judged.append(len(some)), judge(some, *told))[1])

    def before(step: str, consignment: Consignment) -> None:
        steps.append((step, consignment.size))
        if step == "set_aside":
            through.update(item.stage for item in consignment.items)

    outcomes = dock.run(before=before)
    assert judged == [FILES]
    assert [size for step, size in steps if step in ("check", "file_away")] == [FILES, FILES]
    assert through == {Stage.FILED: FILES - 1, Stage.JUDGED: 1}, "the others do not wait until the one is set aside"
    assert Counter(outcomes.values()) == {"filed": FILES - 1, "quarantined": 1}
    assert outcomes[f"p{BAD:04}.csv"] == "quarantined"
    [finding] = next(entry for entry in dock.history(f"p{BAD:04}.csv") if entry.kind == "quarantined").body["findings"]
    assert (finding["file"], finding["row"], finding["column"], finding["value"]) == (
        f"p{BAD:04}.csv",
        2,
        "price",
        f"{2 * BAD}.x",
    )
