"""What every endpoint is asked: one function per promise of ``blocks/endpoints/base.py``.

A check is given a ``Ground``: an endpoint, a folder there that is empty and its own, and the same folder as a path on this
machine, so that what the endpoint says can be compared with what is.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blocks.endpoints.base import Endpoint, temporary_name
from blocks.endpoints.probing import probe
from blocks.errors import EndpointError, SpoolError, SpoolFull, SpoolMissing
from blocks.spool import Batch, Spool, SpoolFile, Unkept
from blocks.values import CaseRule, Exists, Fetched, FileKind, Missed, Move, Outcome, Outgoing, Placed, Proof, RemoteFile
from deployments import trying

MIB = 1024 * 1024
LONG_AGO = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)

HOSTILE = (
    b"\xff\xfe not utf-8.csv",
    b"M\xfcller.csv",
    b"line\nbreak\r\n.csv",
    b"\x1b[2Jescape.csv",
    b"-rf",
    b" leading and trailing ",
    b"dots...",
    b"CON",
    b"%00;{{name}}$(id)`id`'\"|&.csv",
    b"=cmd()",
    "faktura \u202efdp.exe".encode(),
    "e\u0301.csv".encode(),
    "é.csv".encode(),
    b"back\\slash..\\up.csv",
    b"*?[a]",
    b"Upper.CSV",
    b"upper.csv",
    b"x" * 255,
)
ILLEGAL = (b"", b".", b"..", b"../outside", b"a/b", b"/etc/passwd", b"nul\0.csv")


@dataclass(frozen=True, slots=True)
class Ground:
    endpoint: Endpoint
    folder: str
    place: Path
    spool: Spool
    crowd: int = 20_000
    unspeakable: frozenset[bytes] = frozenset()
    """Names that this protocol or server cannot carry; everything is asked with all others."""
    rename_replaces: bool = True
    """This server can replace a file in one step."""

    @property
    def hostile(self) -> list[bytes]:
        return [name for name in HOSTILE if name not in self.unspeakable]

    def write(self, name: bytes, data: bytes = b"content\n", modified: datetime | None = None) -> Path:
        path = Path(os.fsdecode(os.fsencode(self.place) + b"/" + name))
        path.write_bytes(data)
        if modified is not None:
            os.utime(path, (modified.timestamp(), modified.timestamp()))
        return path

    def look(self) -> dict[bytes, RemoteFile]:
        with self.endpoint.session() as session:
            return {file.name: file for file in session.look(self.folder)}

    def fetch(self, files: Iterable[RemoteFile], batch: Batch | None = None) -> dict[bytes, Fetched | Missed]:
        with self.endpoint.session() as session, batch or self.spool.batch() as into:
            return {answer.file.name: answer for answer in session.fetch(files, into)}

    def put(self, files: Iterable[Outgoing], exists: Exists = Exists.REFUSE) -> dict[bytes, Placed | Missed]:
        with self.endpoint.session() as session:
            return {answer.file.name: answer for answer in session.put(list(files), self.folder, exists=exists)}

    def outgoing(self, name: bytes, data: bytes) -> Outgoing:
        digest = hashlib.sha256(data).hexdigest()
        source = self.spool.folder / f"source-{digest}"
        source.write_bytes(data)
        return Outgoing(source, name, len(data), digest)

    def names(self) -> set[bytes]:
        return set(os.listdir(os.fsencode(self.place)))

    def holds(self, answer: Fetched | Missed) -> bytes:
        """The bytes that a fetch brought, from the spool."""
        assert isinstance(answer, Fetched), answer
        data = self.spool.path(answer.digest).read_bytes()
        assert answer.size == len(data)
        assert hashlib.sha256(data).hexdigest() == answer.digest
        return data

    def carry_both_ways(self, content: Mapping[bytes, bytes]) -> None:
        """Files come down as they stand there, and go up beside them under other names."""
        for name, data in content.items():
            self.write(name, data)
        answers = self.fetch(self.look().values())
        assert {name: self.holds(answer) for name, answer in answers.items()} == content
        self.put(self.outgoing(b"to " + name, data) for name, data in content.items())
        assert {name: (self.place / f"to {name.decode()}").read_bytes() for name in content} == content


Check = Callable[[Ground], None]
CHECKS: dict[str, Check] = {}


def check(promise: Check) -> Check:
    CHECKS[promise.__name__] = promise
    return promise


class Meddled(trying.Meddled):
    """A spool batch that does something to the source when the first bytes of a file have come, or breaks off after some."""

    def __init__(self, spool: Spool, meddle: Callable[[], object] | None = None, *, break_after: int | None = None) -> None:
        super().__init__(spool, meddle)
        self.break_after = break_after

    def open(self, resume_key: str | None = None) -> SpoolFile:
        sink = super().open(resume_key)
        write = sink.write

        def limited(data: bytes | bytearray | memoryview) -> None:
            if self.break_after is not None and sink.size + len(data) > self.break_after:
                raise SpoolFull("on purpose")
            write(data)

        sink.write = limited  # type: ignore[method-assign]
        return sink


def outcomes(answers: dict[bytes, Fetched | Missed]) -> dict[bytes, Outcome]:
    return {name: answer.outcome if isinstance(answer, Missed) else Outcome.DONE for name, answer in answers.items()}


# --------------------------------------------------------------------------------------------- look


@check
def names_are_listed_byte_for_byte(ground: Ground) -> None:
    for name in ground.hostile:
        ground.write(name)
    assert set(ground.look()) == set(ground.hostile)


@check
def a_name_that_cannot_be_carried_disturbs_nothing(ground: Ground) -> None:
    for name in HOSTILE:
        ground.write(name, b"theirs")
    seen = ground.look()
    assert set(ground.hostile) <= set(seen), "the rest of the folder goes on"
    files = [seen.get(name, RemoteFile(ground.folder, name, 6, None)) for name in ground.unspeakable]
    unharmed = {Outcome.ILLEGAL_NAME, Outcome.VANISHED, Outcome.REFUSED, Outcome.NOT_A_FILE}
    assert set(outcomes(ground.fetch(files)).values()) <= unharmed
    with ground.endpoint.session() as session:
        assert {gone.outcome for gone in session.remove(files)} <= unharmed
        moves = [Move(file, ground.folder, b"new") for file in files]
        assert {moved.outcome for moved in session.rename(moves, exists=Exists.REPLACE)} <= unharmed
    assert ground.names() == set(HOSTILE)
    invented = set(seen) - set(ground.hostile) - set(ground.unspeakable)
    assert all(not isinstance(answer, Fetched) for answer in ground.fetch([seen[name] for name in invented]).values())


@check
def names_with_a_dot_before_are_listed_too(ground: Ground) -> None:
    for name in (b".countersign-1", b".hidden", b"plain"):
        ground.write(name)
    assert set(ground.look()) == {b".countersign-1", b".hidden", b"plain"}


@check
def size_and_time_are_listed(ground: Ground) -> None:
    ground.write(b"a.csv", b"x" * 1234, LONG_AGO)
    file = ground.look()[b"a.csv"]
    assert (file.folder, file.size, file.modified, file.kind) == (ground.folder, 1234, LONG_AGO, FileKind.FILE)


@check
def a_folder_is_made_with_those_above_it(ground: Ground) -> None:
    deep = ground.folder + "/2026/november"
    with ground.endpoint.session() as session:
        session.make_folder(deep)
        session.make_folder(deep)
        assert list(session.look(deep)) == []
        ground.write(b"taken")
        with pytest.raises(EndpointError, match="taken"):
            session.make_folder(ground.folder + "/taken")
    assert (ground.place / "2026" / "november").is_dir()


@check
def an_empty_folder_is_empty(ground: Ground) -> None:
    assert ground.look() == {}
    assert ground.fetch([]) == {}


@check
def a_missing_folder_is_an_error(ground: Ground) -> None:
    folder = ground.folder + "/missing"
    file = RemoteFile(folder, b"a.csv", 3, None)
    outgoing = ground.outgoing(b"a.csv", b"abc")
    kept = ground.write(b"kept.csv", b"abc")
    there = ground.look()[b"kept.csv"]
    with ground.endpoint.session() as session, ground.spool.batch() as batch:
        for verb in (
            lambda: session.look(folder),
            lambda: session.fetch([file], batch),
            lambda: session.put([outgoing], folder),
            lambda: session.remove([file]),
            lambda: session.rename([Move(file, ground.folder, b"b.csv")]),
            lambda: session.rename([Move(there, folder, b"b.csv")]),
        ):
            with pytest.raises(EndpointError, match="missing"):
                list(verb())
    assert kept.read_bytes() == b"abc"


@check
def kinds_are_told_and_only_files_are_touched(ground: Ground) -> None:
    outside = ground.spool.folder / "outside"
    outside.write_bytes(b"not for us")
    (ground.place / "folder").mkdir()
    (ground.place / "link").symlink_to(outside)
    seen = ground.look()
    kinds = {b"folder": FileKind.FOLDER, b"link": FileKind.LINK}
    assert {name: file.kind for name, file in seen.items()} == kinds
    # Also when the listing lied, or the name was given to something else since.
    lied = [replace(file, kind=FileKind.FILE) for file in seen.values()]
    lied.append(RemoteFile(ground.folder, b"link", len(b"not for us"), None))
    for files in (list(seen.values()), lied):
        assert set(outcomes(ground.fetch(files)).values()) == {Outcome.NOT_A_FILE}
        with ground.endpoint.session() as session:
            assert {moved.outcome for moved in session.remove(files)} == {Outcome.NOT_A_FILE}
            moves = [Move(file, ground.folder, b"new-" + file.name) for file in files]
            assert {moved.outcome for moved in session.rename(moves)} == {Outcome.NOT_A_FILE}
    assert ground.names() == set(kinds)
    assert outside.read_bytes() == b"not for us"


@check
def a_link_that_leads_nowhere_is_told(ground: Ground) -> None:
    (ground.place / "loop").symlink_to("loop")
    lied = RemoteFile(ground.folder, b"loop", 4, None)
    assert not isinstance(ground.fetch([lied])[b"loop"], Fetched)
    with ground.endpoint.session() as session:
        assert [gone.outcome for gone in session.remove([lied])] != [Outcome.DONE]
    assert ground.names() == {b"loop"}
    assert {name: file.kind for name, file in ground.look().items()} == {b"loop": FileKind.LINK}


@check
def a_pipe_is_told_and_never_opened(ground: Ground) -> None:
    os.mkfifo(ground.place / "fifo")
    seen = ground.look()
    lied = [replace(file, kind=FileKind.FILE) for file in seen.values()]
    assert set(outcomes(ground.fetch(lied)).values()) == {Outcome.NOT_A_FILE}
    assert [file.kind for file in seen.values()] == [FileKind.OTHER]


@check
def a_long_listing_takes_little_memory(ground: Ground) -> None:
    place = os.open(ground.place, os.O_RDONLY)
    for number in range(ground.crowd):
        os.mknod(f"a-name-of-usual-length-{number:06}.csv", dir_fd=place)
    os.close(place)
    count = 0
    with ground.endpoint.session() as session:
        tracemalloc.start()
        try:
            for _ in session.look(ground.folder):
                count += 1
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert count == ground.crowd
    # Held all at once, an entry takes 250 bytes and more. A TLS connection alone takes half a MiB.
    assert peak < MIB + 50 * ground.crowd, f"{peak / MIB:.1f} MiB"


# --------------------------------------------------------------------------------------------- fetch


@check
def many_files_arrive_whole(ground: Ground) -> None:
    content = {f"{number}.csv".encode(): os.urandom(number * 37 % 9000) for number in range(300)}
    content |= {b"empty": b"", b"32k": os.urandom(32768), b"255k": os.urandom(261120), b"5M": os.urandom(5 * MIB + 1)}
    for name, data in content.items():
        ground.write(name, data)
    answers = ground.fetch(ground.look().values())
    assert {name: ground.holds(answer) for name, answer in answers.items()} == content


@check
def hostile_names_are_fetched_moved_and_removed(ground: Ground) -> None:
    for name in ground.hostile:
        ground.write(name, b"from " + name)
    (ground.place / "moved").mkdir()
    seen = ground.look()
    files = [seen[name] for name in ground.hostile]
    answers = ground.fetch(files)
    assert {name: ground.holds(answer) for name, answer in answers.items()} == {
        name: b"from " + name for name in ground.hostile
    }
    with ground.endpoint.session() as session:
        folder = ground.folder + "/moved"
        assert {moved.outcome for moved in session.rename(Move(file, folder, file.name) for file in files)} == {Outcome.DONE}
        moved = list(session.look(folder))
        assert {file.name for file in moved} == set(ground.hostile)
        assert {gone.outcome for gone in session.remove(moved)} == {Outcome.DONE}
        assert list(session.look(folder)) == []
    assert ground.names() == {b"moved"}


@check
def vanished_and_changed_files_are_outcomes_beside_the_others(ground: Ground) -> None:
    for name in (b"gone", b"longer", b"shorter", b"later", b"fine"):
        ground.write(name, b"12345678", LONG_AGO)
    seen = ground.look()
    (ground.place / "gone").unlink()
    ground.write(b"longer", b"123456789", LONG_AGO)
    ground.write(b"shorter", b"1234567", LONG_AGO)
    ground.write(b"later", b"87654321", LONG_AGO + timedelta(seconds=1))
    answers = ground.fetch(seen.values())
    assert outcomes(answers) == {
        b"gone": Outcome.VANISHED,
        b"longer": Outcome.CHANGED,
        b"shorter": Outcome.CHANGED,
        b"later": Outcome.CHANGED,
        b"fine": Outcome.DONE,
    }
    assert ground.holds(answers[b"fine"]) == b"12345678"


def _meddled(ground: Ground, meddle: Callable[[Path], None]) -> Missed | Fetched:
    path = ground.write(b"a.csv", b"x" * (3 * MIB), LONG_AGO)
    seen = ground.look()
    with Meddled(ground.spool, lambda: meddle(path)) as batch, ground.endpoint.session() as session:
        (answer,) = session.fetch(seen.values(), batch)
    assert isinstance(answer, Fetched) or not any(ground.spool.store.glob("*/*")), "nothing of a changed file may be kept"
    return answer


@check
def a_file_that_grows_while_it_is_read_is_changed(ground: Ground) -> None:
    def grow(path: Path) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    answer = _meddled(ground, grow)
    assert isinstance(answer, Missed)
    assert answer.outcome is Outcome.CHANGED


@check
def a_file_that_is_rewritten_while_it_is_read_is_changed(ground: Ground) -> None:
    answer = _meddled(ground, lambda path: path.write_bytes(b"y" * (3 * MIB)))
    assert isinstance(answer, Missed)
    assert answer.outcome is Outcome.CHANGED


@check
def a_file_that_becomes_a_link_while_it_is_read_is_not_taken(ground: Ground) -> None:
    def swap(path: Path) -> None:
        target = ground.place.parent / "target"
        path.rename(target)
        path.symlink_to(target)

    answer = _meddled(ground, swap)
    assert isinstance(answer, Missed)
    assert answer.outcome in (Outcome.NOT_A_FILE, Outcome.CHANGED)


@check
def a_link_among_many_files_is_noticed_before_and_after_it_is_read(ground: Ground) -> None:
    paths = [ground.write(b"%02d.csv" % number, b"%02d" % number, LONG_AGO) for number in range(40)]
    seen = list(ground.look().values())
    others = ground.place.parent / "others"
    others.mkdir()

    def swap(path: Path) -> None:
        path.rename(others / path.name)
        path.symlink_to(others / path.name)

    swap(paths[7])
    with Meddled(ground.spool, lambda: [swap(path) for path in paths[8:]]) as batch, ground.endpoint.session() as session:
        answers = {answer.file.name: answer for answer in session.fetch(seen, batch)}
    taken = {name for name, answer in answers.items() if isinstance(answer, Fetched)}
    assert taken <= {b"%02d.csv" % number for number in range(7)}
    assert outcomes(answers)[b"07.csv"] is Outcome.NOT_A_FILE
    assert len(list(ground.spool.store.glob("*/*"))) == len(taken), "nothing of what became a link may be kept"
    with ground.endpoint.session() as session:
        gone = {moved.file.name: moved.outcome for moved in session.remove(seen)}
    links = {b"%02d.csv" % number for number in range(7, 40)}
    assert {name for name, outcome in gone.items() if outcome is Outcome.NOT_A_FILE} == links == ground.names()


@check
def a_twin_of_the_same_size_and_time_that_takes_its_place_is_noticed(ground: Ground) -> None:
    def swap(path: Path) -> None:
        ground.write(b"twin", b"y" * (3 * MIB), LONG_AGO).replace(path)

    answer = _meddled(ground, swap)
    assert isinstance(answer, Missed)
    assert answer.outcome is Outcome.CHANGED


@check
def a_file_that_goes_while_it_is_read_has_vanished(ground: Ground) -> None:
    answer = _meddled(ground, Path.unlink)
    assert isinstance(answer, Missed)
    assert answer.outcome is Outcome.VANISHED


@check
def what_was_put_is_read_back_as_it_stands(ground: Ground) -> None:
    content = {b"%d" % number: os.urandom(number * 37 % 9000) for number in range(1, 200)}
    content |= {b"empty": b"", b"255k": os.urandom(261120), b"5M": os.urandom(5 * MIB + 1)}
    meddled = {b"spoilt", b"longer", b"gone", b"folder", b"link"}
    names = {name: temporary_name().ljust(60, b"_") for name in [*content, *meddled]}
    told = ground.put(ground.outgoing(names[name], content.get(name, b"12345678")) for name in names)
    assert all(isinstance(answer, Placed) for answer in told.values()), told
    for name in meddled:
        ground.write(names[name], b"12345678", LONG_AGO)
    seen = ground.look()
    ground.write(names[b"spoilt"], b"87654321", LONG_AGO)
    ground.write(names[b"longer"], b"123456789", LONG_AGO)
    for name in (b"gone", b"folder", b"link"):
        (ground.place / names[name].decode()).unlink()
    (ground.place / names[b"folder"].decode()).mkdir()
    (ground.place / names[b"link"].decode()).symlink_to(names[b"longer"].decode())
    with ground.endpoint.session() as session, closing(Unkept(ground.spool)) as into:
        back = {answer.file.name: answer for answer in session.read_back([seen[name] for name in names.values()], into)}
    answers = {name: back[names[name]] for name in names}
    digests = {name: answer.digest for name, answer in answers.items() if isinstance(answer, Fetched)}
    stands = content | {b"spoilt": b"87654321"}
    assert digests == {name: hashlib.sha256(data).hexdigest() for name, data in stands.items()}
    assert outcomes(answers)[b"gone"] is Outcome.VANISHED
    assert outcomes(answers)[b"longer"] is Outcome.CHANGED
    assert outcomes(answers)[b"folder"] is outcomes(answers)[b"link"] is Outcome.NOT_A_FILE


@check
def a_large_file_takes_little_memory(ground: Ground) -> None:
    size = 64 * MIB
    with ground.write(b"large", b"start", LONG_AGO).open("r+b") as file:
        file.truncate(size)
    seen = ground.look()
    tracemalloc.start()
    try:
        answer = ground.fetch(seen.values())[b"large"]
        assert isinstance(answer, Fetched)
        placed = ground.put([Outgoing(ground.spool.path(answer.digest), b"copy", answer.size, answer.digest)])[b"copy"]
        assert isinstance(placed, Placed)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.size == size
    assert peak < 40 * MIB, f"{peak / MIB:.1f} MiB"


@check
def trouble_in_our_own_spool_is_not_the_partners(ground: Ground) -> None:
    def fail() -> None:
        raise OSError(errno.EIO, "on purpose")

    ground.write(b"a.csv", b"content")
    with pytest.raises((SpoolError, OSError), match="on purpose"):
        ground.fetch(ground.look().values(), Meddled(ground.spool, fail))
    gone = ground.outgoing(b"b.csv", b"content")
    gone.source.unlink()
    with pytest.raises(SpoolMissing):
        ground.put([gone])
    assert ground.names() == {b"a.csv"}


@check
def a_broken_fetch_goes_on_where_it_stopped(ground: Ground) -> None:
    data = os.urandom(6 * MIB)
    ground.write(b"a.csv", data, LONG_AGO)
    seen = ground.look()
    _broken_fetch(ground, seen)
    batch = Meddled(ground.spool)
    answers = ground.fetch(seen.values(), batch)
    assert batch.began_at[0] >= MIB, "it began again from the start"
    assert ground.holds(answers[b"a.csv"]) == data


def _broken_fetch(ground: Ground, seen: dict[bytes, RemoteFile]) -> None:
    with pytest.raises(SpoolFull):
        ground.fetch(seen.values(), Meddled(ground.spool, break_after=4 * MIB))
    assert any(ground.spool.partial.iterdir()), "nothing was kept for later"


@check
def other_bytes_of_the_same_size_and_time_are_not_mixed(ground: Ground) -> None:
    ground.write(b"a.csv", os.urandom(6 * MIB), LONG_AGO)
    seen = ground.look()
    _broken_fetch(ground, seen)
    other = os.urandom(6 * MIB)
    ground.write(b"a.csv", other, LONG_AGO)
    assert ground.holds(ground.fetch(seen.values())[b"a.csv"]) == other


@check
def another_time_or_size_is_not_resumed(ground: Ground) -> None:
    ground.write(b"a.csv", os.urandom(6 * MIB), LONG_AGO)
    _broken_fetch(ground, ground.look())
    for data, modified in ((os.urandom(6 * MIB), LONG_AGO + timedelta(hours=1)), (os.urandom(6 * MIB + 1), LONG_AGO)):
        ground.write(b"a.csv", data, modified)
        batch = Meddled(ground.spool)
        assert ground.holds(ground.fetch(ground.look().values(), batch)[b"a.csv"]) == data
        assert batch.began_at == [0]


@check
def a_verb_left_half_way_does_not_spoil_the_session(ground: Ground) -> None:
    for number in range(200):
        ground.write(f"{number}.csv".encode(), os.urandom(5000))
    sources = [ground.outgoing(f"up-{number}".encode(), os.urandom(5000)) for number in range(100)]
    with ground.endpoint.session() as session:
        half = session.look(ground.folder)
        next(half)
        files = list(session.look(ground.folder))
        assert 1 + sum(1 for _ in half) == len(files) == 200, "one listing disturbed the other"
        with ground.spool.batch() as batch:
            for _ in session.fetch(files, batch):
                break
            for _ in session.put(sources, ground.folder):
                break
            answers = list(session.fetch(files, batch))
        assert sum(isinstance(answer, Fetched) for answer in answers) == 200
        session.close()
        session.close()
    assert not [name for name in ground.names() if name.startswith(b".countersign-")]


# --------------------------------------------------------------------------------------------- put


@check
def files_are_placed_whole_under_their_names(ground: Ground) -> None:
    content = {name: b"to " + name for name in ground.hostile}
    content |= {f"{number}.csv".encode(): os.urandom(number * 91) for number in range(150)}
    content |= {b"empty": b"", b"big": os.urandom(3 * MIB + 7)}
    answers = ground.put(ground.outgoing(name, data) for name, data in content.items())
    for name, data in content.items():
        placed = answers[name]
        assert isinstance(placed, Placed), placed
        assert placed.proof is not Proof.UNVERIFIABLE
        assert placed.digest == hashlib.sha256(data).hexdigest()
        assert Path(os.fsdecode(os.fsencode(ground.place) + b"/" + name)).read_bytes() == data
    assert ground.names() == set(content), "something else was left behind"
    seen = ground.look()
    assert {name: answer.file for name, answer in answers.items()} == seen, "what was placed is not what is listed"


@check
def links_among_the_names_of_many_files_are_not_replaced(ground: Ground) -> None:
    theirs = ground.write(b"theirs", b"theirs")
    (ground.place / "07.csv").symlink_to("theirs")
    (ground.place / "08.csv").symlink_to(ground.place.parent)
    ours = [ground.outgoing(b"%02d.csv" % number, b"ours") for number in range(40)]
    answers = ground.put(ours, Exists.REPLACE)
    links = {b"07.csv", b"08.csv"}
    assert {name for name, answer in answers.items() if not isinstance(answer, Placed)} == links
    assert {answer.outcome for answer in answers.values() if isinstance(answer, Missed)} == {Outcome.EXISTS}
    assert ground.names() == {b"theirs", *(b"%02d.csv" % number for number in range(40))}
    with ground.endpoint.session() as session:
        moves = [Move(answer.file, ground.folder, b"new-" + name) for name, answer in answers.items() if name not in links]
        (ground.place / "new-00.csv").symlink_to("theirs")
        moved = {told.file.name: told.outcome for told in session.rename(moves, exists=Exists.REPLACE)}
    assert moved.pop(b"00.csv") is Outcome.EXISTS
    assert set(moved.values()) == {Outcome.DONE}
    assert theirs.read_bytes() == b"theirs"


@check
def a_taken_name_is_never_overwritten_unless_agreed(ground: Ground) -> None:
    ground.write(b"taken", b"theirs")
    (ground.place / "folder").mkdir()
    (ground.place / "link").symlink_to("taken")
    ours = [ground.outgoing(name, b"ours") for name in (b"taken", b"free", b"folder", b"link")]
    answers = ground.put(ours)
    assert {name for name, answer in answers.items() if isinstance(answer, Placed)} == {b"free"}
    assert {answer.outcome for answer in answers.values() if isinstance(answer, Missed)} == {Outcome.EXISTS}
    assert (ground.place / "taken").read_bytes() == b"theirs"
    answers = ground.put(ours, Exists.REPLACE)
    assert {name for name, answer in answers.items() if isinstance(answer, Placed)} == {b"taken", b"free"}
    assert (ground.place / "taken").read_bytes() == b"ours"
    assert (ground.place / "link").is_symlink()
    assert ground.names() == {b"taken", b"free", b"folder", b"link"}


@check
def a_name_taken_during_the_upload_is_not_overwritten(ground: Ground) -> None:
    ours = ground.outgoing(b"a.csv", b"ours")
    ours.source.unlink()
    os.mkfifo(ours.source)  # so that their file comes after we have looked and before we have all bytes

    def rival() -> None:
        with ours.source.open("wb") as source:
            ground.write(b"a.csv", b"theirs")
            source.write(b"ours")

    thread = threading.Thread(target=rival, daemon=True)
    thread.start()
    answer = ground.put([ours])[b"a.csv"]
    thread.join(5)
    assert isinstance(answer, Missed), answer
    assert answer.outcome is Outcome.EXISTS
    assert (ground.place / "a.csv").read_bytes() == b"theirs"
    assert ground.names() == {b"a.csv"}


@check
def a_reader_never_sees_half_a_file(ground: Ground) -> None:
    size, stop, seen = 2 * MIB, threading.Event(), set[tuple[bytes, int]]()

    def watch() -> None:
        while not stop.is_set():
            with os.scandir(os.fsencode(ground.place)) as entries:
                for entry in entries:
                    try:
                        seen.add((entry.name, entry.stat().st_size))
                    except FileNotFoundError:
                        continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answers = ground.put(ground.outgoing(f"{number}.bin".encode(), os.urandom(size)) for number in range(8))
    finally:
        stop.set()
        watcher.join()
    assert all(isinstance(answer, Placed) for answer in answers.values())
    assert {kept for name, kept in seen if not name.startswith(b".countersign-")} <= {size}
    assert any(name.startswith(b".countersign-") for name, _ in seen), "no temporary name was ever seen: nothing was tested"


@check
def a_source_that_is_not_what_its_digest_says_is_not_placed(ground: Ground) -> None:
    right, wrong = ground.outgoing(b"right", b"right"), ground.outgoing(b"wrong", b"wrong")
    wrong.source.write_bytes(b"WRONG")
    answers = ground.put([wrong, right])
    assert isinstance(answers[b"right"], Placed)
    assert isinstance(answers[b"wrong"], Missed)
    assert ground.names() == {b"right"}


HALF = b".countersign-0123456789abcdef"
"""A name that its sender wrote down, and so looks for again."""


def _broken_off(ground: Ground, whole: bytes, left: bytes) -> tuple[Placed | Missed, bool]:
    """Put ``whole`` where a broken upload has left ``left``. The answer, and whether that was gone on with: as far as it went, no
    byte of it was ever away."""
    part = ground.write(HALF + b".part", left)
    part.chmod(0o666)
    shortest, stop = [len(left)], threading.Event()
    with part.open("rb") as file:

        def watch() -> None:
            while not stop.wait(0.0005):
                shortest[0] = min(shortest[0], os.fstat(file.fileno()).st_size)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            (answer,) = ground.put([ground.outgoing(HALF, whole)]).values()
        finally:
            stop.set()
            watcher.join()
        # The open file keeps its number from being given to another one.
        same = HALF in ground.names() and os.stat(ground.place / os.fsdecode(HALF)).st_ino == os.fstat(file.fileno()).st_ino
        return answer, same and shortest[0] == len(left)


@check
def a_broken_upload_under_a_known_name_goes_on_where_it_stopped(ground: Ground) -> None:
    whole = os.urandom(16 * MIB)
    for length in (9 * MIB + 17, len(whole)):
        answer, same = _broken_off(ground, whole, whole[:length])
        assert isinstance(answer, Placed), answer
        assert same, "it began anew"
        assert ground.names() == {HALF}
        (ground.place / os.fsdecode(HALF)).rename(ground.place.parent / "done")
        assert (ground.place.parent / "done").read_bytes() == whole


@check
def half_an_upload_of_other_bytes_is_not_gone_on_with(ground: Ground) -> None:
    whole = os.urandom(9 * MIB)
    for left in (os.urandom(8 * MIB), whole[1 : 8 * MIB], whole + b"more", whole[:10], b""):
        answer, _ = _broken_off(ground, whole, left)
        assert isinstance(answer, Placed), answer
        assert ground.names() == {HALF}
        (ground.place / os.fsdecode(HALF)).rename(ground.place.parent / "done")
        assert (ground.place.parent / "done").read_bytes() == whole


@check
def a_link_planted_where_half_an_upload_would_be_is_not_written_through(ground: Ground) -> None:
    whole = os.urandom(6 * MIB)
    theirs = ground.write(b"theirs", whole[: 5 * MIB])
    (ground.place / os.fsdecode(HALF + b".part")).symlink_to("theirs")
    (answer,) = ground.put([ground.outgoing(HALF, whole)]).values()
    assert theirs.read_bytes() == whole[: 5 * MIB], "somebody else's file was written"
    assert isinstance(answer, Placed), answer
    assert (ground.place / os.fsdecode(HALF)).read_bytes() == whole
    assert not (ground.place / os.fsdecode(HALF)).is_symlink()
    assert ground.names() == {HALF, b"theirs"}


# --------------------------------------------------------------------------------------------- rename, remove


@check
def only_what_we_saw_is_moved_or_removed(ground: Ground) -> None:
    names = (b"gone", b"longer", b"later", b"fine")
    for name in names:
        ground.write(name, b"12345678", LONG_AGO)
    seen = ground.look()
    (ground.place / "gone").unlink()
    ground.write(b"longer", b"123456789", LONG_AGO)
    ground.write(b"later", b"87654321", LONG_AGO + timedelta(seconds=1))
    expected = {b"gone": Outcome.VANISHED, b"longer": Outcome.CHANGED, b"later": Outcome.CHANGED, b"fine": Outcome.DONE}
    with ground.endpoint.session() as session:
        moves = [Move(seen[name], ground.folder, b"new-" + name) for name in names]
        assert {moved.file.name: moved.outcome for moved in session.rename(moves)} == expected
        assert ground.names() == {b"longer", b"later", b"new-fine"}
        (ground.place / "new-fine").rename(ground.place / "fine")
        assert {gone.file.name: gone.outcome for gone in session.remove(seen[name] for name in names)} == expected
    assert ground.names() == {b"longer", b"later"}


@check
def a_move_never_overwrites_unless_agreed(ground: Ground) -> None:
    ground.write(b"ours", b"ours", LONG_AGO)
    ground.write(b"theirs", b"theirs", LONG_AGO)
    move = Move(ground.look()[b"ours"], ground.folder, b"theirs")
    with ground.endpoint.session() as session:
        (moved,) = session.rename([move])
        assert moved.outcome is Outcome.EXISTS
        assert (ground.place / "theirs").read_bytes() == b"theirs"
        (moved,) = session.rename([move], exists=Exists.REPLACE)
        assert moved.outcome is Outcome.DONE
    assert (ground.place / "theirs").read_bytes() == b"ours"
    assert ground.names() == {b"theirs"}


@check
def illegal_names_are_never_used(ground: Ground) -> None:
    outside = ground.place.parent / "outside"
    outside.write_bytes(b"theirs")
    ground.write(b"legal", b"theirs", LONG_AGO)
    legal = ground.look()[b"legal"]
    files = [RemoteFile(ground.folder, name, 6, None) for name in ILLEGAL]
    assert [answer.outcome for answer in ground.fetch(files).values() if isinstance(answer, Missed)] == [
        Outcome.ILLEGAL_NAME
    ] * len(ILLEGAL)
    placed = ground.put((ground.outgoing(name, b"ours") for name in ILLEGAL), Exists.REPLACE)
    assert {answer.outcome for answer in placed.values() if isinstance(answer, Missed)} == {Outcome.ILLEGAL_NAME}
    with ground.endpoint.session() as session:
        assert {gone.outcome for gone in session.remove(files)} == {Outcome.ILLEGAL_NAME}
        away = [Move(file, ground.folder, b"new") for file in files] + [Move(legal, ground.folder, name) for name in ILLEGAL]
        assert {moved.outcome for moved in session.rename(away, exists=Exists.REPLACE)} == {Outcome.ILLEGAL_NAME}
    assert outside.read_bytes() == b"theirs"
    assert ground.names() == {b"legal"}


# --------------------------------------------------------------------------------------------- personality


@check
def what_a_server_is_like_is_learned_by_looking_and_without_writing(ground: Ground) -> None:
    ground.write(b"a.csv", modified=LONG_AGO)
    before = os.stat(ground.place).st_mtime_ns
    with ground.endpoint.session() as session:
        list(session.look(ground.folder))
        seen = session.personality
    assert os.stat(ground.place).st_mtime_ns == before, "something was written"
    assert seen.server and seen.listing
    assert (seen.hashes, seen.resumes) == (session.capabilities.hashes, session.capabilities.resume)
    assert (seen.protection == "none") == (not ground.endpoint.protected)
    assert seen.tells_times is (ground.look()[b"a.csv"].modified is not None)
    assert (seen.case_rule, seen.longest_name, seen.clock_seconds) == (None, None, None)


@check
def a_probe_tells_the_truth_and_leaves_nothing_behind(ground: Ground) -> None:
    ground.write(b"theirs.csv", b"theirs", LONG_AGO)
    scratch = ground.spool.folder / "scratch"
    scratch.mkdir()
    with ground.endpoint.session() as session:
        found = probe(session, ground.folder, b".countersign-probe-0123456789", scratch, lambda: datetime.now(UTC))
    # As a program on the server's own machine finds it: it keeps what its file system keeps, and stamps by our clock.
    ground.write(b"case")
    ground.write(b"CASE")
    told_apart = {b"case", b"CASE"} <= ground.names()
    longest = os.pathconf(ground.place, "PC_NAME_MAX")
    assert found.case_rule is (CaseRule.TOLD_APART if told_apart else CaseRule.NOT_TOLD_APART)
    assert (found.longest_name, found.clock_seconds) == (longest, 0)
    assert found.rename_replaces is ground.rename_replaces
    assert ground.names() == {b"theirs.csv", b"case", b"CASE"}, "something of ours stands there"
    assert (ground.place / "theirs.csv").read_bytes() == b"theirs"


@check
def what_is_known_from_an_earlier_visit_changes_no_answer(ground: Ground) -> None:
    for name in (b".hidden", b"a.csv", b"b.csv"):
        ground.write(name, name, LONG_AGO)
    with ground.endpoint.session() as session:
        seen = {file.name: file for file in session.look(ground.folder)}
        first = session.personality
    with ground.endpoint.session() as session:
        session.recall(replace(first, rename_replaces=False))  # wrong, for most
        assert {file.name: file for file in session.look(ground.folder)} == seen
        assert session.personality == replace(first, rename_replaces=session.personality.rename_replaces)
        (moved,) = session.rename([Move(seen[b"a.csv"], ground.folder, b"b.csv")], exists=Exists.REPLACE)
        assert moved.outcome is Outcome.DONE
    assert ground.names() == {b".hidden", b"b.csv"}
    assert (ground.place / "b.csv").read_bytes() == b"a.csv"
