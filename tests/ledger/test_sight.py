"""What our looks tell: a table of before, look, after; then the hard cases."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from blocks.errors import EndpointUnreachable
from blocks.ledger import Entry, Ledger, SightTally
from blocks.values import FileKind, RemoteFile, Sighting, Stage

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def file(name: bytes | str = "a.csv", size: int = 10, modified: datetime | None = NOON) -> RemoteFile:
    return RemoteFile("/in", name.encode() if isinstance(name, str) else name, size, modified)


def look(ledger: Ledger, *files: RemoteFile) -> SightTally:
    return ledger.sight("acme", "prices", files)


def standing(ledger: Ledger) -> list[Sighting]:
    return list(ledger.sightings("acme", "prices"))


def bring(ledger: Ledger, stage: Stage | None) -> str:
    """One file in sight, at a stage (None: sighted, without any entry). Its journey."""
    look(ledger, file(), file("other"))
    journey = next(each.journey for each in standing(ledger) if each.file.name == b"a.csv")
    if stage is Stage.CLAIMED:
        assert ledger.claim("acme", "prices", [journey], owner="w", seconds=60)
    elif stage is not None:
        ledger.append([Entry(journey, "brought", {"digest": "d1"}, stage=stage)])
    return journey


IN_WORK = [Stage.CLAIMED, Stage.FETCHED, Stage.JUDGED, Stage.FILED, Stage.DUPLICATE, Stage.QUARANTINED]


@pytest.mark.parametrize(
    ("stage", "now", "same_journey", "looks", "last_kind"),
    [
        pytest.param(None, file(), True, 2, None, id="sighted, as it was: looked at twice"),
        pytest.param(None, file(size=11), True, 1, None, id="sighted, grown: watched anew"),
        pytest.param(None, file(modified=NOON + timedelta(seconds=1)), True, 1, None, id="sighted, later time: watched anew"),
        pytest.param(None, file(modified=None), True, 1, None, id="sighted, no time any more: watched anew"),
        pytest.param(None, None, None, 0, None, id="sighted, gone: forgotten"),
        pytest.param(Stage.SIGHTED, None, None, 0, "vanished", id="put back, gone: vanished"),
        pytest.param(Stage.LEFT, file(), True, 2, "brought", id="left, as it was: still left"),
        pytest.param(Stage.LEFT, file(size=11), False, 1, "replaced", id="left, other size: a new arrival"),
        pytest.param(Stage.LEFT, None, None, 0, "seen absent", id="left, gone: closed"),
        *(pytest.param(stage, file(size=11), True, 1, ..., id=f"{stage.value}, grown: untouched") for stage in IN_WORK),
        *(pytest.param(stage, file(), True, 1, ..., id=f"{stage.value}, as it was: untouched") for stage in IN_WORK),
        *(pytest.param(stage, None, True, 1, ..., id=f"{stage.value}, gone: untouched") for stage in IN_WORK),
    ],
)
def test_a_look(
    ledger: Ledger, stage: Stage | None, now: RemoteFile | None, same_journey: bool | None, looks: int, last_kind: object
) -> None:
    journey = bring(ledger, stage)
    [before] = [each for each in standing(ledger) if each.journey == journey]
    time.sleep(0.005)  # SQLite's clock has milliseconds
    look(ledger, file("other"), *([now] if now else []))
    found = [each for each in standing(ledger) if each.file.name == b"a.csv"]
    assert [each.journey == journey for each in found] == ([] if same_journey is None else [same_journey])
    for after in found:
        assert after.looks == looks
        if stage in IN_WORK:
            assert after == before
        elif same_journey:
            assert after.first_seen == before.first_seen
            assert (after.unchanged_since == before.unchanged_since) is (now == before.file)
            assert after.last_seen > before.last_seen
        else:
            assert (after.stage, after.file) == (Stage.SIGHTED, now)
    if last_kind is not ...:
        kinds = [entry.kind for entry in ledger.journey(journey)]
        assert (kinds[-1] if kinds else None) == last_kind
    if last_kind in ("vanished", "seen absent", "replaced"):
        assert ledger.arrivals([journey])[journey].stage is Stage.CLEARED
        assert ledger.search(stage=Stage.CLEARED, name="A.CSV", partner="acme")[0].journey == journey
    ledger.verify()


def test_a_look_alike_of_the_next_day_is_a_new_arrival(ledger: Ledger) -> None:
    journey = bring(ledger, Stage.CLEARED)
    assert journey not in [each.journey for each in standing(ledger)]
    assert look(ledger, file(), file("other")).new == 1
    [again] = [each for each in standing(ledger) if each.file == file()]
    assert again.journey > journey
    assert (again.stage, again.looks, again.digest) == (Stage.SIGHTED, 1, None)


def test_one_empty_look_is_doubted_and_two_are_believed(ledger: Ledger) -> None:
    journey = bring(ledger, Stage.LEFT)
    assert look(ledger).doubted
    assert len(standing(ledger)) == 2
    look(ledger, file())  # it was an error: "other" is gone, ours is not
    assert [each.journey for each in standing(ledger)] == [journey]
    assert look(ledger).doubted
    assert look(ledger) == SightTally(0, gone=1)
    assert standing(ledger) == []
    assert ledger.journey(journey)[-1].kind == "seen absent"
    assert not look(ledger).doubted  # nothing stands there that could be lost


def test_a_look_without_most_of_what_was_left_is_doubted_once(ledger: Ledger) -> None:
    files = [file(f"{number:02d}.csv") for number in range(50)]
    look(ledger, *files)
    ledger.append([Entry(one.journey, "brought", {"digest": "d1"}, stage=Stage.LEFT) for one in standing(ledger)])
    journeys = [one.journey for one in standing(ledger)]
    assert look(ledger, *files[:24]).doubted
    assert look(ledger, *files).gone == 0, "it was an error"
    assert [one.journey for one in standing(ledger)] == journeys
    assert look(ledger, *files[:25]).gone == 25, "half of them may go"
    assert look(ledger, *files[:6]).gone == 19, "few files may go as they please"
    assert [one.file for one in standing(ledger)] == files[:6]


def test_streams_do_not_see_each_other(ledger: Ledger) -> None:
    look(ledger, file())
    ledger.sight("acme", "assets", [file()])
    ledger.sight("acme", "assets", [file("b")])
    assert [each.file for each in standing(ledger)] == [file()]


def test_a_look_that_breaks_off_leaves_nothing(ledger: Ledger) -> None:
    look(ledger, file(), file("b"))
    before = standing(ledger)

    def broken() -> Iterator[RemoteFile]:
        yield file(size=99)
        yield file("new")
        raise EndpointUnreachable("the connection was lost")

    with pytest.raises(EndpointUnreachable):
        ledger.sight("acme", "prices", broken())
    assert standing(ledger) == before
    assert look(ledger, file(), file("b")) == SightTally(2, unchanged=2)


@pytest.mark.parametrize(
    "hostile",
    [
        RemoteFile("/in", b"\xff\xfe.csv", 1, NOON),
        RemoteFile("/in", b"two\nlines\r\x1b[31m", 1, NOON),
        RemoteFile("/in", b"x" * 255, 1, NOON),
        RemoteFile("/in", bytes(range(256)) * 40, 1, NOON),
        RemoteFile("/in", b"../up", 1, NOON),
        RemoteFile("/in", b"", 1, None, FileKind.OTHER),
        RemoteFile("/in", b"link", 0, datetime(1, 1, 1, tzinfo=UTC), FileKind.LINK),
        RemoteFile("/in", b"late", 2**63 - 1, datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        RemoteFile("/in", "e\u0301.csv".encode(), 1, NOON),
    ],
    ids=lambda each: ascii(each.name[:12]),
)
def test_hostile_files_come_back_exactly(ledger: Ledger, hostile: RemoteFile) -> None:
    look(ledger, hostile, file(), hostile)  # listed twice, too
    assert look(ledger, hostile, file()).unchanged == 2
    [found] = [each for each in standing(ledger) if each.file != file()]
    assert found.file == hostile
    ledger.append([Entry(found.journey, "left", stage=Stage.LEFT)])
    look(ledger, file())
    assert ledger.journey(found.journey)[-1].kind == "seen absent"
    ledger.verify()


def test_a_size_that_no_column_takes_does_not_stop_the_look(ledger: Ledger) -> None:
    assert look(ledger, file(size=2**64 - 1), file("b")).new == 2


def test_oldest_first_then_the_bytes_of_the_name(ledger: Ledger) -> None:
    look(ledger, file(b"b"), file(b"\xff"), file(b"B"))
    time.sleep(0.005)
    look(ledger, file(b"a"), file(b"b"), file(b"\xff"), file(b"B"))
    assert [each.file.name for each in standing(ledger)] == [b"B", b"b", b"\xff", b"a"]


MANY = """
import resource, sys, time
from datetime import UTC, datetime
from blocks.ledger import Ledger
from blocks.values import RemoteFile

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def seen(size):
    for number in range(100_000):
        yield RemoteFile("/in", b"file-%06d-" % number + b"x" * 50, size, datetime(2026, 1, 1, tzinfo=UTC))

with Ledger(sys.argv[1]) as ledger:
    ledger.sight("p", "s", list(zip(*[iter([])])))
    before, began = peak(), time.process_time()
    assert ledger.sight("p", "s", seen(1)).new == 100_000
    assert ledger.sight("p", "s", seen(1)).unchanged == 100_000
    taken = (time.process_time() - began) / 2
    assert sum(1 for _ in ledger.sightings("p", "s")) == 100_000
    print(peak() - before, taken)
"""


def test_a_hundred_thousand_files_in_bounded_memory(url: str) -> None:
    done = subprocess.run([sys.executable, "-c", MANY, url], capture_output=True, text=True, timeout=1500, check=True)
    mebibytes, seconds = map(float, done.stdout.split())
    assert mebibytes < 60
    assert seconds < 100  # of the processor; a few on an idle machine
