"""Which files are finished being written, and how they are grouped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.values import FileKind, InboundLimits, Limits, RemoteFile, Settle, Sighting, Stage
from tasks.rules.grouping import consignments
from tasks.rules.settle import belongs, ready

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
CSV = ("*.csv",)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def sighting(
    name: str | bytes = "a.csv",
    *,
    first: float = 0,
    since: float | None = None,
    last: float = 60,
    looks: int = 2,
    stage: Stage = Stage.SIGHTED,
    kind: FileKind = FileKind.FILE,
    size: int = 10,
) -> Sighting:
    raw = name.encode() if isinstance(name, str) else name
    file = RemoteFile("/out", raw, size, None, kind)
    return Sighting(f"j-{raw!r}", file, stage, at(first), at(first if since is None else since), at(last), looks)


def names(sightings: tuple[Sighting, ...]) -> list[bytes]:
    return [one.file.name for one in sightings]


QUIET = Settle(quiet=timedelta(seconds=30))
AGED = Settle(quiet=timedelta(seconds=30), minimum_age=timedelta(minutes=5))


@pytest.mark.parametrize(
    ("seen", "settle", "now", "expected"),
    [
        pytest.param(sighting(last=0, looks=1), QUIET, 0, False, id="first sight is never enough"),
        pytest.param(sighting(last=60, looks=1), QUIET, 60, False, id="one look is not two, however long ago it was"),
        pytest.param(sighting(last=29), QUIET, 29, False, id="two looks too close together"),
        pytest.param(sighting(last=30), QUIET, 30, True, id="two equal looks as far apart as agreed"),
        pytest.param(sighting(since=50, last=60, looks=2), QUIET, 60, False, id="it grew ten seconds ago"),
        pytest.param(sighting(last=29), QUIET, 3600, False, id="our clock alone proves nothing: a second look must have been"),
        pytest.param(sighting(last=60), AGED, 60, False, id="quiet and too young"),
        pytest.param(sighting(last=60), AGED, 300, True, id="quiet and old enough"),
        pytest.param(sighting(looks=1, last=0, stage=Stage.FETCHED), QUIET, 0, True, id="what is in work is gone on with"),
        pytest.param(
            sighting(looks=1, last=0, stage=Stage.QUARANTINED), QUIET, 0, True, id="a quarantined one is not cleared yet"
        ),
        pytest.param(sighting(stage=Stage.LEFT), QUIET, 60, False, id="what was left at the source is left alone"),
        pytest.param(sighting(stage=Stage.CLEARED), QUIET, 60, False, id="what is closed is closed"),
        pytest.param(sighting("b.txt"), QUIET, 60, False, id="another stream's file"),
        pytest.param(sighting("A.CSV"), QUIET, 60, False, id="patterns tell capitals from small letters"),
        pytest.param(sighting(kind=FileKind.LINK), QUIET, 60, False, id="a link is not followed"),
        pytest.param(sighting(kind=FileKind.FOLDER), QUIET, 60, False, id="a folder called a.csv"),
        pytest.param(sighting(".a.csv"), QUIET, 60, False, id="a hidden name is temporary"),
        pytest.param(sighting(b"M\xfcller.csv"), QUIET, 60, True, id="a name that is not UTF-8 is as good as any"),
        pytest.param(sighting(b"../a.csv"), QUIET, 60, True, id="an illegal name goes on, to be refused once"),
        pytest.param(sighting(b"a\n.csv"), QUIET, 60, True, id="a newline does not hide a name from its pattern"),
    ],
)
def test_a_file_is_ready(seen: Sighting, settle: Settle, now: float, expected: bool) -> None:
    assert bool(ready([seen], settle, CSV, at(now)).ready) is expected


@pytest.mark.parametrize(
    ("seen", "settle", "now", "expected"),
    [
        pytest.param(sighting(last=0, looks=1), QUIET, 0, 30, id="after the quiet time"),
        pytest.param(sighting(since=20, last=20), QUIET, 20, 50, id="counted from its last change"),
        pytest.param(sighting(last=0, looks=1), QUIET, 99, 99, id="a look was missing, so now"),
        pytest.param(sighting(last=0, looks=1), AGED, 0, 300, id="not before it is old enough"),
    ],
)
def test_the_earliest_next_look(seen: Sighting, settle: Settle, now: float, expected: float) -> None:
    readiness = ready([seen], settle, CSV, at(now))
    assert (readiness.waiting, readiness.earliest) == (1, at(expected))


DONE = Settle(done_file="{name}.done")


@pytest.mark.parametrize(
    ("settle", "seen", "expected"),
    [
        pytest.param(DONE, [sighting(looks=1, last=0), sighting("a.csv.done", last=0)], [b"a.csv"], id="its marker is there"),
        pytest.param(DONE, [sighting(looks=9)], [], id="no marker, however quiet"),
        pytest.param(DONE, [sighting(), sighting("b.csv.done")], [], id="another file's marker"),
        pytest.param(
            DONE,
            [sighting(first=50), sighting("a.csv.done", first=-90, last=-60)],
            [],
            id="the marker of an earlier file of that name",
        ),
        pytest.param(
            Settle(done_file="{stem}.ok"), [sighting(), sighting("a.ok")], [b"a.csv"], id="a marker named by the stem"
        ),
    ],
)
def test_done_files(settle: Settle, seen: list[Sighting], expected: list[bytes]) -> None:
    readiness = ready(seen, settle, CSV, at(60))
    assert names(readiness.ready) == expected
    assert readiness.earliest is None
    assert {marker.file.name for marker in readiness.markers.values()} == {one.file.name for one in seen[1:] if expected}
    assert names(readiness.lone_markers) == [one.file.name for one in seen if one.file.name == b"b.csv.done"]


def test_what_is_not_ready_is_told_apart() -> None:
    seen = [sighting("x.csv.part"), sighting("l.csv", kind=FileKind.LINK), sighting(b"../e.txt"), sighting("y.csv", looks=1)]
    readiness = ready(seen, QUIET, CSV, at(60))
    assert names(readiness.excluded) == [b"x.csv.part"]
    assert names(readiness.not_files) == [b"l.csv"]
    assert names(readiness.illegal) == [b"../e.txt"]
    assert (readiness.ready, readiness.waiting) == ((), 1)


def test_the_oldest_first_sight_goes_first_whatever_the_servers_times_say() -> None:
    seen = [sighting("b.csv", first=5), sighting("c.csv", first=1), sighting("a.csv", first=5)]
    assert names(ready(seen, QUIET, CSV, at(60)).ready) == [b"c.csv", b"a.csv", b"b.csv"]


def test_what_belongs_is_what_could_become_ready() -> None:
    for one in (sighting(), sighting("x.csv.part"), sighting("b.txt"), sighting(kind=FileKind.OTHER), sighting(".a.csv")):
        assert belongs(one.file, QUIET, CSV) is bool(ready([one], QUIET, CSV, at(60)).ready)


def test_a_done_file_is_never_an_arrival_of_its_own() -> None:
    seen = [sighting("a.csv"), sighting("a.csv.done"), sighting("lost.csv.done")]
    readiness = ready(seen, DONE, ("*",), at(60))
    assert names(readiness.ready) == [b"a.csv"]
    assert names(readiness.lone_markers) == [b"lost.csv.done"]
    assert not belongs(seen[1].file, DONE, ("*",))


@given(st.lists(st.integers(0, 300), max_size=60), st.integers(1, 7), st.integers(1, 200))
def test_consignments_keep_order_and_bounds(sizes: list[int], files: int, size: int) -> None:
    seen = [sighting(f"{number}.csv", size=one) for number, one in enumerate(sizes)]
    groups = consignments(seen, Limits(consignment_files=files, consignment_bytes=size))
    assert [one for group in groups for one in group] == seen
    for group in groups:
        assert 1 <= len(group) <= files
        assert len(group) == 1 or sum(one.file.size for one in group) <= size
    for one, following in pairwise(groups):
        assert len(one) == files or sum(s.file.size for s in one) + following[0].file.size > size


def test_small_files_travel_in_their_thousands_and_large_ones_by_a_hundred_mib() -> None:
    limits = InboundLimits()
    assert [len(group) for group in consignments([sighting(f"{number}.csv", size=4096) for number in range(1500)], limits)] == [
        1000,
        500,
    ]
    assert [
        len(group) for group in consignments([sighting(f"{number}.csv", size=1024**2) for number in range(200)], limits)
    ] == [100, 100]


def test_what_passes_through_goes_six_times_as_many_bytes_together() -> None:
    seen = [sighting(f"{number}.mp4", size=256 * 1024**2) for number in range(4)]
    assert [len(group) for group in consignments(seen, InboundLimits())] == [1, 1, 1, 1]
    assert [len(group) for group in consignments(seen, InboundLimits(), lambda file: True)] == [2, 2]
    first = seen[0].file
    assert [len(group) for group in consignments(seen, InboundLimits(), lambda file: file != first)] == [1, 2, 1]
