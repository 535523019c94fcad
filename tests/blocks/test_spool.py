"""The spool keeps bytes by digest, survives breaks, and never removes what an open journey needs."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.errors import RepositoryUnreachable, SpoolCorrupt, SpoolFull, SpoolMissing
from blocks.spool import HELD, Spool, Unkept


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", floor_bytes=0)


def nothing_more(digests: Sequence[str]) -> Sequence[str]:
    """Nothing must stay beside what is needed."""
    return ()


def put(spool: Spool, *contents: bytes) -> list[str]:
    digests = []
    with spool.batch() as batch:
        for content in contents:
            file = batch.open()
            file.write(content)
            digests.append(file.finish().digest)
    return digests


def test_bytes_are_found_by_their_digest(spool: Spool) -> None:
    (digest,) = put(spool, b"price list")
    assert digest == hashlib.sha256(b"price list").hexdigest()
    assert spool.path(digest).read_bytes() == b"price list"
    assert spool.verify(digest) == spool.path(digest)


def test_nothing_is_visible_before_the_batch_commits(spool: Spool) -> None:
    with spool.batch() as batch:
        file = batch.open()
        file.write(b"half")
        done = file.finish()
        assert not spool.holds(done.digest)
    assert spool.holds(done.digest)


def test_what_was_complete_before_a_break_is_kept_and_the_rest_is_not(spool: Spool) -> None:
    with pytest.raises(ConnectionError), spool.batch() as batch:
        whole = batch.open()
        whole.write(b"whole")
        digest = whole.finish().digest
        batch.open().write(b"only a part")
        raise ConnectionError
    assert spool.path(digest).read_bytes() == b"whole"
    assert not list(spool.incoming.iterdir())


def test_an_interrupted_file_goes_on_where_it_was(spool: Spool) -> None:
    with spool.batch() as batch:
        file = batch.open("key")
        file.write(b"first half, ")
        file.keep()
    with spool.batch() as batch:
        file = batch.open("key")
        assert (file.size, file.tail(5)) == (12, b"alf, ")
        file.write(b"second half")
        done = file.finish()
    assert spool.path(done.digest).read_bytes() == b"first half, second half"
    assert done.digest == hashlib.sha256(b"first half, second half").hexdigest()


def test_what_a_full_disk_broke_off_can_be_written_on(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, data: bytes) -> int:
        written.append(really(file, data[:5]))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    written: list[int] = []
    really = os.write
    with pytest.raises(OSError, match="No space"), spool.batch() as batch:
        file = batch.open("key")
        file.write(b"first half")
        monkeypatch.setattr(os, "write", full)
        file.finish()
    monkeypatch.undo()
    assert written == [5]
    assert stat.S_IMODE((spool.partial / "key").stat().st_mode) & stat.S_IWUSR
    with spool.batch() as batch:
        assert batch.open("key").size == 5


def test_a_file_whose_source_changed_starts_again(spool: Spool) -> None:
    with spool.batch() as batch:
        file = batch.open("key")
        file.write(b"old bytes")
        file.keep()
    with spool.batch() as batch:
        file = batch.open("key")
        file.restart()
        file.write(b"new")
        done = file.finish()
    assert spool.path(done.digest).read_bytes() == b"new"


def test_what_is_only_compared_is_hashed_and_written_nowhere(spool: Spool) -> None:
    content = os.urandom(200_000)
    before = sorted(spool.folder.rglob("*"))
    with Unkept(spool) as batch:
        sink = batch.open("a-key")
        sink.write(content[:7])
        sink.restart()
        sink.write(content[:150_000])
        sink.write(memoryview(content)[150_000:])
        assert sorted(spool.folder.rglob("*")) == before
        done = sink.finish()
        batch.open("a-key").write(b"half")
    assert (done.digest, done.size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert sorted(spool.folder.rglob("*")) == before, "nor is anything kept to go on with"


def test_missing_bytes_say_that_they_will_be_fetched_again(spool: Spool) -> None:
    with pytest.raises(SpoolMissing, match="fetched again"):
        spool.path("ab" * 32)


def test_one_changed_byte_is_found_and_set_aside(spool: Spool) -> None:
    (digest,) = put(spool, b"signed bytes")
    place = spool.path(digest)
    place.chmod(0o640)
    place.write_bytes(b"signed byteZ")
    with pytest.raises(SpoolCorrupt, match="nothing was sent or filed"):
        spool.verify(digest)
    assert not spool.holds(digest)
    assert len(list(spool.corrupt.iterdir())) == 1


def test_a_disk_under_the_floor_is_refused_with_what_to_do(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", floor_bytes=2**62)
    with pytest.raises(SpoolFull, match="COUNTERSIGN_SPOOL_FLOOR_BYTES"):
        spool.batch()


def test_the_floor_is_watched_while_writing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", floor_bytes=0)
    with pytest.raises(SpoolFull), spool.batch() as batch:
        file = batch.open()
        spool.floor_bytes = 2**62
        file.write(b"more")
    assert not list(spool.incoming.iterdir())


def test_collection_removes_only_what_nobody_needs_and_has_rested(spool: Spool) -> None:
    needed, old, fresh = put(spool, b"needed", b"old", b"fresh")
    for digest in (needed, old):
        os.utime(spool.path(digest), (0, 0))
    # ctime cannot be set back, so "rested" is shown by asking for no rest at all, and for a day.
    assert spool.collect({needed}, nothing_more, older_than=timedelta(hours=24)) == 0
    freed = spool.collect({needed, fresh}, nothing_more, older_than=timedelta(seconds=-1))
    assert freed == len(b"old")
    assert spool.holds(needed)
    assert spool.holds(fresh)
    assert not spool.holds(old)


def test_collection_asks_what_must_stay_before_anything_goes(spool: Spool) -> None:
    needed, held, old = put(spool, b"needed", b"held", b"old")
    asked: list[list[str]] = []

    def kept(digests: Sequence[str]) -> list[str]:
        asked.append(sorted(digests))
        assert all(spool.holds(digest) for digest in digests)
        return [held]

    assert spool.collect({needed}, kept, older_than=timedelta(seconds=-1)) == len(b"old")
    assert asked == [sorted([held, old])]
    assert [spool.holds(digest) for digest in (needed, held, old)] == [True, True, False]


def test_when_nobody_can_tell_nothing_goes(spool: Spool) -> None:
    (digest,) = put(spool, b"bytes")

    def away(digests: Sequence[str]) -> list[str]:
        raise RepositoryUnreachable("away")

    with pytest.raises(RepositoryUnreachable):
        spool.collect([], away, older_than=timedelta(seconds=-1))
    assert spool.holds(digest)


def test_collection_removes_the_batch_of_a_dead_writer_and_leaves_a_living_one(spool: Spool) -> None:
    code = (
        "import os, sys; from pathlib import Path; from blocks.spool import Spool\n"
        f"batch = Spool(Path({str(spool.folder)!r}), floor_bytes=0).batch(); batch.open().write(b'left behind' * 10000)\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], timeout=300, check=False)
    assert len(list(spool.incoming.iterdir())) == 1
    with spool.batch() as living:
        file = living.open()
        file.write(b"alive")
        assert spool.collect(set(), nothing_more) == len(b"left behind" * 10000)
        digest = file.finish().digest
    assert spool.path(digest).read_bytes() == b"alive"


@settings(deadline=None)  # it syncs a disk
@given(st.lists(st.binary(max_size=300), max_size=6))
def test_any_pieces_add_up_to_their_digest(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"), floor_bytes=0)
    with spool.batch() as batch:
        file = batch.open()
        for piece in pieces:
            file.write(piece)
        done = file.finish()
    assert spool.path(done.digest).read_bytes() == b"".join(pieces)
    assert done.size == sum(map(len, pieces))


def test_a_batch_that_begins_while_garbage_is_collected_stays(tmp_path: Path) -> None:
    spool = Spool(tmp_path, floor_bytes=0)
    over = threading.Event()

    def collect() -> None:
        while not over.is_set():
            spool.collect([], nothing_more)

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for number in range(1000):
            with spool.batch() as batch:
                file = batch.open()
                file.write(b"%d" % number)
                file.finish()
    finally:
        over.set()
        collector.join()


@pytest.mark.parametrize("size", [0, 100, HELD + 1])
def test_the_sender_may_read_what_somebody_with_a_narrow_umask_brought_in(spool: Spool, size: int) -> None:
    before = os.umask(0o077)
    try:
        [digest] = put(spool, bytes(size))
    finally:
        os.umask(before)
    assert stat.S_IMODE(spool.place(digest).stat().st_mode) == 0o440
