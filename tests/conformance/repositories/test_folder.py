"""What only the folder repository promises: readable by people, one filing at a time, nothing half done after a crash."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.errors import DocumentChanged, DocumentMissing, RepositoryError, RepositoryUnreachable
from blocks.repositories import folder
from blocks.repositories.folder import FolderRepository
from blocks.spool import Spool, SpoolFile, Unkept
from blocks.values import Filed, Filing, Grant
from tests.conformance.repositories.checks import Ground, one


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    for part in ("root", "files"):
        (tmp_path / part).mkdir()
    repository = FolderRepository(path=tmp_path / "root", timeout_seconds=20)
    return Ground(repository, ("Suppliers", "acme"), tmp_path / "files", Spool(tmp_path / "spool", floor_bytes=0))


def root(ground: Ground) -> Path:
    assert isinstance(ground.repository, FolderRepository)
    return ground.repository.path


def test_a_person_reads_the_newest_version_under_its_name(ground: Ground) -> None:
    ground.filed(ground.filing("prices.csv", b"old"), ground.filing("prices.csv", b"new"))
    assert (root(ground) / "Suppliers/acme/prices.csv").read_bytes() == b"new"
    assert sorted(path.name for path in root(ground).iterdir()) == [".countersign", "Suppliers"]
    assert list((root(ground) / ".countersign/incoming").iterdir()) == []


def test_the_record_tells_what_a_folder_cannot_do(ground: Ground) -> None:
    access = (Grant(who="DefaultGroup"),)
    ground.filed(ground.filing("a:b/c.csv", records_class="Contracts", access=access, categories={"X": {"y": "z"}}))
    [record] = root(ground).rglob("record.json")
    text = record.read_text()
    assert all(word in text for word in ("a:b/c.csv", "Contracts", "DefaultGroup", '"y": "z"'))


def test_a_long_record_is_read_whole_and_nothing_read_stays_open(ground: Ground) -> None:
    told = {"X": {"y": "z" * 100_000}}
    filed = one(ground.filed(ground.filing("a.csv", b"12345", categories=told)))
    before = len(os.listdir("/proc/self/fd"))
    with ground.repository.session() as session, ground.spool.batch() as batch:
        kept, spooled = session.examine(filed.id, 1, batch)
        assert (kept.categories, spooled.size) == (told, 5)
        [record] = root(ground).rglob("record.json")
        (record.parent / "1").write_bytes(b"54321")
        with pytest.raises(DocumentChanged):
            session.fetch(filed.id, 1, batch)
        record.write_text("{")
        with pytest.raises(RepositoryError, match="not readable as a record"):
            session.fetch(filed.id, 1, batch)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_missing_root_is_unreachable_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(RepositoryUnreachable, match="mount"):
        FolderRepository(path=tmp_path / "not mounted").session()
    assert not (tmp_path / "not mounted").exists()


def test_a_held_lock_is_waited_for_and_then_unreachable(ground: Ground) -> None:
    ground.filed(ground.filing("first.csv"))
    impatient = ground.repository.model_copy(update={"timeout_seconds": 0.2})
    with (root(ground) / ".countersign/lock").open("r+") as lock, impatient.session() as session:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RepositoryUnreachable, match="lock"):
            list(session.file([ground.filing("second.csv")]))
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert [kept.name for kept in ground.look()] == ["first.csv"]
        assert isinstance(next(session.file([ground.filing("second.csv")])), Filed)


def test_a_persons_file_is_a_document_and_becomes_version_one(ground: Ground) -> None:
    ground.filed(ground.filing("ours.csv"))
    (root(ground) / "Suppliers/acme/theirs.csv").write_bytes(b"by hand")
    found = ground.find("theirs.csv")
    assert found is not None
    assert (found.version, found.identity, found.size) == (1, None, 7)
    with ground.repository.session() as session:
        assert session.filed_by(found.id) == (None,)
    assert ground.bytes(found.id) == b"by hand"
    filed = one(ground.filed(ground.filing("theirs.csv", b"from us")))
    assert (filed.id, filed.version) == (found.id, 2)
    assert ground.bytes(filed.id, 1) == b"by hand"
    assert ground.bytes(filed.id) == b"from us"


def test_a_persons_file_is_read_where_it_stands(ground: Ground) -> None:
    """What a filing left that was killed before it wrote its record is no version of it."""
    ground.filed(ground.filing("ours.csv"))
    (root(ground) / "Suppliers/acme/theirs.csv").write_bytes(b"by hand")
    left = root(ground) / ".countersign/records/Suppliers/acme/theirs.csv/1"
    left.parent.mkdir()
    left.write_bytes(b"of ours")
    assert ground.bytes("Suppliers/acme/theirs.csv", 1) == b"by hand"


def test_a_pipe_is_no_document_and_nobody_waits_for_it(ground: Ground) -> None:
    ground.filed(ground.filing("ours.csv"))
    os.mkfifo(root(ground) / "Suppliers/acme/pipe.csv")
    with ground.repository.session() as session, ground.spool.batch() as batch:
        with pytest.raises(DocumentMissing):
            session.examine("Suppliers/acme/pipe.csv", 1, batch)
        with pytest.raises(DocumentMissing):
            session.fetch("Suppliers/acme/pipe.csv", None, batch)


def test_changed_bytes_are_noticed(ground: Ground) -> None:
    filed = one(ground.filed(ground.filing("a.csv", b"12345")))
    (root(ground) / filed.id).write_bytes(b"54321")
    with pytest.raises(DocumentChanged, match="somebody changed them"):
        ground.bytes(filed.id)


@pytest.mark.parametrize("seen", [0, 3])
def test_a_file_that_a_person_is_just_copying_in_is_not_read_to_its_end(ground: Ground, seen: int) -> None:
    theirs = root(ground) / "Suppliers/acme/theirs.csv"
    ground.filed(ground.filing("ours.csv"))
    theirs.write_bytes(b"x" * seen)

    class GrowsMeanwhile(Unkept):
        def open(self, resume_key: str | None = None) -> SpoolFile:
            theirs.write_bytes(b"x" * 100_000)
            self.file = super().open(resume_key)
            return self.file

    with ground.repository.session() as session, GrowsMeanwhile(ground.spool) as batch:
        with pytest.raises(DocumentChanged):
            session.fetch("Suppliers/acme/theirs.csv", 1, batch)
        assert seen < batch.file.size <= seen + 1


@pytest.mark.parametrize("step", ["_write", "_show"])
@pytest.mark.parametrize("earlier", [False, True], ids=["document", "version"])
def test_a_crash_between_the_steps_is_completed(
    ground: Ground, step: str, earlier: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if earlier:
        ground.filed(ground.filing("a.csv", b"earlier"))
    filing = ground.filing("a.csv", b"data")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(folder.FolderSession, step, dies)
        ground.file(filing)
    shown = root(ground) / "Suppliers/acme/a.csv"
    assert (shown.read_bytes() if shown.exists() else b"") == (b"earlier" if earlier else b"")
    filed = one(ground.filed(filing))
    assert filed.version == (2 if earlier else 1)
    assert shown.read_bytes() == ground.bytes(filed.id) == b"data"


class Killed(BaseException):
    """The process ended here."""


def break_off(ground: Ground, id: str, where: object, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove a document, and end before that step."""

    def dies(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, ground.repository.session() as session:
        patch.setattr(where, step, dies)
        with pytest.raises(Killed):
            session.remove(id)


@pytest.mark.parametrize("left", ["its name", "its record", "its record, and a person's file"])
def test_a_removal_that_was_broken_off_is_finished(ground: Ground, monkeypatch: pytest.MonkeyPatch, left: str) -> None:
    ground.filed(ground.filing("prices.csv", b"old"))
    kept = one(ground.filed(ground.filing("prices.csv", b"new")))
    shown, records = root(ground) / "Suppliers/acme/prices.csv", root(ground) / ".countersign/records/Suppliers/acme/prices.csv"

    break_off(ground, kept.id, *((Path, "unlink") if left == "its name" else (os, "utime")), monkeypatch)
    assert (shown.exists(), records.exists()) == (left == "its name", True)
    if "person" in left:
        shown.write_bytes(b"by hand")
    theirs = [(None, 7)] if "person" in left else []
    assert [(found.identity, found.size) for found in ground.look()] == theirs, "nobody takes the rest for a document"
    with ground.repository.session() as session:
        if left == "its record":
            with pytest.raises(DocumentMissing):
                session.get(kept.id)
        else:
            session.remove(kept.id)
    assert not records.exists(), "not one version is left"
    assert [(found.identity, found.size) for found in ground.look()] == theirs
    assert list((root(ground) / ".countersign/incoming").iterdir()) == []


def test_what_is_filed_after_a_removal_that_was_broken_off_is_a_new_document(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = one(ground.filed(ground.filing("prices.csv", b"old")))
    break_off(ground, kept.id, os, "utime", monkeypatch)
    assert one(ground.filed(ground.filing("prices.csv", b"anew"))).version == 1
    assert ground.bytes(kept.id) == b"anew"


def _file_all(path: Path, filings: list[Filing], copies: int) -> None:
    with FolderRepository(path=path).session() as session:
        for n in range(copies):
            list(session.file([replace(filing, journey=f"{filing.journey} {os.getpid()} {n}") for filing in filings]))


def test_several_processes_lose_no_version(ground: Ground) -> None:
    filings = [ground.filing("shared.csv", b"%d" % n) for n in range(3)]
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_file_all, args=(root(ground), filings, 15)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
        assert worker.exitcode == 0
    [kept] = ground.look()
    assert kept.version == 90
    assert {ground.bytes(kept.id, n + 1) for n in range(90)} == {b"0", b"1", b"2"}


def test_a_killed_process_leaves_whole_documents_and_no_lock(ground: Ground) -> None:
    filings = [ground.filing(f"{n}.csv", b"%d" % n * 50_000) for n in range(10)]
    worker = multiprocessing.get_context("spawn").Process(target=_file_all, args=(root(ground), filings, 1000))
    worker.start()
    limit = time.monotonic() + 180
    while not (root(ground) / "Suppliers/acme/9.csv").exists():
        assert time.monotonic() < limit
        time.sleep(0.01)
    time.sleep(0.1)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(10)
    for kept in ground.look():
        assert ground.bytes(kept.id) == b"%d" % int(kept.name.partition(".")[0]) * 50_000
    assert all(isinstance(answer, Filed) for answer in ground.file(*filings))
