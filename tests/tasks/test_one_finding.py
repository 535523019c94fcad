"""A finding in file 500 of a thousand: only that one is set aside, and the others cost no call more than they do without it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandera.pandas
import pytest
import yaml

from blocks.ledger import Entry, Ledger, Recorded
from blocks.values import Stage
from tasks.consignment import Consignment
from tests.bench.sink import Sink, sink
from tests.tasks.dock import Dock, dock_at, price_list

FILES, BAD = 1000, 500
LAST = f"p{BAD:04}.csv"
OTHERS = [f"p{number:04}.csv" for number in range(1, FILES + 1) if number != BAD]


@dataclass(frozen=True)
class Calls:
    """What a run asked for until all that was accepted was filed."""

    appends: int
    entries: dict[str, int]
    """Of the files that nothing is wrong with, by kind."""
    http: dict[str, int]
    """As the repository counted them."""
    frames: int
    """Pandera's calls."""


@pytest.fixture(scope="module")
def there() -> Iterator[Sink]:
    with sink() as running:
        yield running


def test_a_finding_in_one_file_of_a_thousand_slows_nothing_else(
    tmp_path: Path, there: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SINK_PASSWORD", there.password)
    with dock_at(tmp_path / "without") as dock:
        leave(dock, there, "Without")
        without, outcomes = run(dock, there, monkeypatch)
        assert outcomes == dict.fromkeys(OTHERS, "filed")
    with dock_at(tmp_path / "with") as dock:
        leave(dock, there, "With")
        dock.leave(LAST, price_list(rows=2, first=2 * BAD).replace(b".50,", b".x,", 1))
        beside, outcomes = run(dock, there, monkeypatch)
        assert outcomes == dict.fromkeys(OTHERS, "filed") | {LAST: "quarantined"}
        [refused] = [entry for entry in dock.history(LAST) if entry.kind == "quarantined"]
    assert beside == without
    assert without.frames == 1 and without.http["POST v2/nodes (file)"] == len(OTHERS)
    assert without.entries == dict.fromkeys(("arrived", "fetched", "judged", "filing", "filed"), len(OTHERS))
    assert len(there.received(there.folder("With"))) == len(OTHERS)
    [finding] = refused.body["findings"]
    assert (finding["file"], finding["row"], finding["column"], finding["value"]) == (LAST, 2, "price", f"{2 * BAD}.x")


def leave(dock: Dock, there: Sink, folder: str) -> None:
    """The good files; what is filed goes to the sink, as into Extended ECM."""
    there.folder(folder)
    dock.agree(limits={"consignment_files": FILES}, target={"repository": "kept", "folder": folder})
    kept = {"kind": "extended-ecm", "url": there.url, "username": there.user, "password": "env:SINK_PASSWORD"}
    (dock.profiles / "repositories.yaml").write_text(yaml.safe_dump({"repositories": {"kept": kept}}))
    for name in OTHERS:
        dock.leave(name, price_list(rows=2, first=2 * int(name[1:5])))


def run(dock: Dock, there: Sink, monkeypatch: pytest.MonkeyPatch) -> tuple[Calls, dict[str, str]]:
    """One intake, and what it asked for before anything is set aside: the others do not wait for that."""
    appended, frames, before, told = list[Sequence[Entry]](), list[int](), Counter(there.calls()), list[Calls]()
    append, validate = Ledger.append, pandera.pandas.DataFrameSchema.validate

    def counted_append(ledger: Ledger, entries: Sequence[Entry], *rest: Any, **more: Any) -> list[Recorded]:
        appended.append(entries)
        return append(ledger, entries, *rest, **more)

    def counted_validate(schema: Any, frame: Any, *rest: Any, **more: Any) -> Any:
        frames.append(len(frame))
        return validate(schema, frame, *rest, **more)

    def counting(step: str, consignment: Consignment) -> None:
        if step == "set_aside":
            through = Counter(item.stage for item in consignment.items)
            assert through == Counter({Stage.FILED: len(OTHERS), Stage.JUDGED: consignment.size - len(OTHERS)})
            good = {item.journey for item in consignment.items if item.arrival.file.shown != LAST}
            kinds = Counter(entry.kind for entries in appended for entry in entries if entry.journey in good)
            asked = Counter(there.calls()) - before
            told.append(Calls(len([some for some in appended if some]), kinds, asked, len(frames)))

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", counted_append)
        patch.setattr(pandera.pandas.DataFrameSchema, "validate", counted_validate)
        outcomes = dock.run(before=counting)
    [calls] = told
    return calls, outcomes
