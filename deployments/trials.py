"""The trials of ``countersign selftest --rogue``: what a rogue server does, and what must be true then.

Each is a generator of claims (``trial_claims``: "" or what is wrong); its docstring says what must happen, its numbers are rows of the
list of hostile inputs. ``stage`` is an empty folder at the server, seen from both sides.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from blocks.errors import (
    ConfigurationError,
    EndpointBusy,
    EndpointError,
    EndpointFull,
    EndpointUnreachable,
    EndpointUnsuitable,
    HostKeyChanged,
    LoginRefused,
)
from blocks.reviewed import nearest
from blocks.values import Exists, Fetched, FileKind, Limits, Outcome, Proof, RemoteFile, Settle, Sighting, shown
from blocks.values import Stage as Reached
from deployments.trial_claims import (
    arrived,
    became,
    ended_well,
    ended_with,
    hides,
    holds,
    lists,
    proven_by,
    stand,
    within,
)
from deployments.trying import MIB, Stage, Trial

Claims: TypeAlias = Iterator[str]

SFTP, FTP, FTPS, ALL = ("sftp",), ("ftp", "ftps"), ("ftps",), ("sftp", "ftp", "ftps")
LONG_AGO = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
_TRIALS: dict[str, Trial] = {}


def trials(only: list[str] | None = None) -> list[Trial]:
    """All of them, or those of these names. Raises ``ConfigurationError`` for a name that none has."""
    for name in only or []:
        if name not in _TRIALS:
            raise ConfigurationError(f"there is no trial {name!r}; {nearest(name, _TRIALS)}")
    return [trial for trial in _TRIALS.values() if not only or trial.name in only]


def trial(*rows: int, over: tuple[str, ...] = ALL) -> Callable[[Callable[[Stage], Claims]], Callable[[Stage], Claims]]:
    def enrol(act: Callable[[Stage], Claims]) -> Callable[[Stage], Claims]:
        name = act.__name__.replace("_", "-")
        _TRIALS[name] = Trial(name, rows, over, " ".join((act.__doc__ or "").split()), act)
        return act

    return enrol


# --------------------------------------------------------------------------------------------- names


@trial(1, 3)
def impossible_names(stage: Stage) -> Claims:
    """Names that lead out of the folder are listed, never used in a path; the good file beside them arrives."""
    stage.leave(b"good.csv")
    stage.misbehave({"odd-names": 1})
    seen = stage.look()
    yield ended_well(seen)
    yield holds({b"good.csv", b"../odd.csv", b"odd/name.csv"} <= set(seen.answers), "the listing does not tell them")
    told = stage.fetch(seen.files)
    yield ended_well(told)
    yield arrived(told, {b"good.csv": b"content\n"})
    for name in set(seen.answers) - {b"good.csv"}:
        # A backslash separates nothing there: such a name is looked for, and is not there.
        yield became(told, name, Outcome.ILLEGAL_NAME if b"/" in name or not name else Outcome.VANISHED)


@trial(1, 2, 3, 4)
def names_that_lead_elsewhere(stage: Stage) -> Claims:
    """Told to fetch, remove or place an absolute name, '..' or the neighbour 'dropEVIL', a session touches nothing."""
    elsewhere = stage.place.parent / "dropEVIL"
    elsewhere.mkdir()
    (elsewhere / "secret.csv").write_bytes(b"secret")
    names = [b"../dropEVIL/secret.csv", os.fsencode(elsewhere / "secret.csv"), b"..", b"a/b.csv", b"", b"nul\0.csv"]
    with stage.session() as session:
        for name in names:
            file = stage.file(name, len(b"secret"))
            yield became(stage.fetch([file], session), name, Outcome.ILLEGAL_NAME)
            yield became(stage.remove([file], session), name, Outcome.ILLEGAL_NAME)
            yield became(stage.put({name: b"ours"}, session), name, Outcome.ILLEGAL_NAME)
    yield holds((elsewhere / "secret.csv").read_bytes() == b"secret", "a file outside of the folder was changed")
    yield holds(stage.kept == 0, "something was fetched")
    yield stand(stage.stands(), {})


def _fetched_exactly(stage: Stage, contents: dict[bytes, bytes]) -> Claims:
    stage.leave_all(contents)
    seen = stage.look()
    yield ended_well(seen)
    yield lists(seen, contents)
    told = stage.fetch(seen.files)
    yield ended_well(told)
    yield arrived(told, contents)


@trial(5)
def control_characters(stage: Stage) -> Claims:
    """Names with escape sequences, bidirectional marks and the like are fetched by their exact bytes, and shown escaped."""
    names = [b"\x1b[2Jclear.csv", b"bell\x07.csv", "faktura \u202efdp.exe".encode(), "zero\u200bwidth.csv".encode()]
    if stage.protocol == "sftp":
        names.append(b"line\nbreak\r\n.csv")
    yield from _fetched_exactly(stage, {name: name + b"\n" for name in names})
    for name in names:
        yield holds(shown(name).isprintable(), f"{shown(name)} is shown with what it must not hold")


@trial(5, over=FTP)
def line_break_in_a_name(stage: Stage) -> Claims:
    """A line break in a name never becomes a command of its own."""
    stage.leave_all({b"a.csv": b"a", b"b.csv": b"b"})
    name = b"a.csv\r\nDELE b.csv"
    with stage.session() as session:
        file = stage.file(name, 1)
        for told in (stage.fetch([file], session), stage.remove([file], session), stage.put({name: b"c"}, session)):
            yield ended_well(told)
            yield became(told, name, Outcome.ILLEGAL_NAME, Outcome.REFUSED, Outcome.NOT_A_FILE)
    yield ended_with(stage.look(folder=f"{stage.folder}\r\nDELE {stage.folder}/b.csv"), EndpointError)
    yield stand(stage.stands(), {b"a.csv": b"a", b"b.csv": b"b"})


@trial(6)
def names_not_utf_8(stage: Stage) -> Claims:
    """Names in another encoding are listed and fetched by their bytes; the rest of the folder flows."""
    yield from _fetched_exactly(stage, {b"M\xfcller.csv": b"1", b"\xff\xfe.csv": b"2", b"plain.csv": b"3"})


@trial(7, 8)
def twins(stage: Stage) -> Claims:
    """Names that differ only in Unicode form or in case are files of their own."""
    names = ["é.csv".encode(), "e\u0301.csv".encode(), b"Upper.csv", b"upper.csv"]
    yield from _fetched_exactly(stage, {name: name for name in names})


@trial(9, 11)
def awkward_names(stage: Stage) -> Claims:
    """Blanks at the ends, dots, option signs, device names and what shells and templates act on are fetched and placed exactly."""
    names = [
        b" leading",
        b"trailing ",
        b"dots...",
        b"-rf",
        b"CON",
        b"NUL",
        b"*?[a]",
        b"%00;{{name}}$(id)`id`'\"|&.csv",
        b"=cmd()",
    ]
    contents = {name: name for name in names}
    yield from _fetched_exactly(stage, contents)
    for name in names:
        stage.leave(name).unlink()
    told = stage.put(contents)
    yield ended_well(told)
    for name in names:
        yield became(told, name, Outcome.DONE)
    yield stand(stage.stands(), contents)


@trial(10)
def longest_name(stage: Stage) -> Claims:
    """A name of 255 bytes is fetched and placed; a longer one is refused, and the others are placed."""
    longest, longer = b"x" * 251 + b".csv", b"y" * 300
    yield from _fetched_exactly(stage, {longest: b"longest"})
    stage.leave(longest).unlink()
    told = stage.put({longest: b"ours", longer: b"ours", b"short.csv": b"ours"})
    yield ended_well(told)
    yield became(told, longest, Outcome.DONE)
    yield became(told, b"short.csv", Outcome.DONE)
    yield became(told, longer, Outcome.REFUSED, Outcome.VANISHED, Outcome.ILLEGAL_NAME)
    yield stand(stage.stands(), {longest: b"ours", b"short.csv": b"ours"})


@trial(10)
def server_without_room_for_long_names(stage: Stage) -> Claims:
    """A server that takes no long names: such a file is refused, nothing of it is left, and the others are placed."""
    name = b"x" * 150 + b".csv"
    stage.misbehave({"deny-long-names": 100})
    told = stage.put({name: b"ours", b"short.csv": b"ours"})
    yield ended_well(told)
    yield became(told, name, Outcome.REFUSED, Outcome.VANISHED)
    yield became(told, b"short.csv", Outcome.DONE)
    yield stand(stage.stands(), {b"short.csv": b"ours"})


@trial(8)
def server_that_ignores_case(stage: Stage) -> Claims:
    """A server to which 'A.csv' is 'a.csv': the name counts as taken, and their file stays."""
    stage.leave(b"a.csv", b"theirs")
    stage.misbehave({"ignore-case": 1})
    yield became(stage.put({b"A.csv": b"ours"}), b"A.csv", Outcome.EXISTS)
    yield stand(stage.stands(), {b"a.csv": b"theirs"})


@trial(12)
def misleading_names(stage: Stage) -> Claims:
    """What a file is, its bytes say: 'invoice.pdf.exe' and a name that is shown backwards are told as programs."""
    from tasks.rules.naming import legality
    from tasks.rules.sniff import PROGRAM, sniff

    program = b"MZ" + bytes(58) + b"\x80\0\0\0" + bytes(64) + b"PE\0\0"
    names = [b"invoice.pdf.exe", "invoice\u202efdp.exe".encode()]
    yield from _fetched_exactly(stage, dict.fromkeys(names, program))
    for path in stage.spool.store.glob("*/*"):
        yield holds(sniff(path.read_bytes()) == PROGRAM, "its bytes are not told to be a program")
    yield holds(bool(tuple(legality(names[1]))), "the name that is shown backwards is not found illegal")


# --------------------------------------------------------------------------------------------- listings


@trial(13, 16, over=FTP)
def no_mlsd(stage: Stage) -> Claims:
    """Without MLSD the listing is read from LIST, and times from MDTM, to the second and never from the listing."""
    stage.leave(b" two  blanks.csv", b"12345", LONG_AGO)
    (stage.place / "folder").mkdir()
    stage.misbehave({"no-mlsd": 1})
    seen = stage.look()
    yield ended_well(seen)
    file = RemoteFile(stage.folder, b" two  blanks.csv", 5, LONG_AGO)
    yield holds(seen.answers.get(file.name) == file, f"it is listed as {seen.answers.get(file.name)}")
    yield holds([file.kind for file in seen.files if file.name == b"folder"] == [FileKind.FOLDER], "the folder is not told")
    yield arrived(stage.fetch(seen.files), {b" two  blanks.csv": b"12345"})


@trial(13, 14, over=FTP)
def names_alone(stage: Stage) -> Claims:
    """Where MLSD is not known and LIST cannot be read by anybody, names come from NLST, with SIZE and MDTM for each."""
    stage.leave(b"a.csv", b"12345", LONG_AGO)
    (stage.place / "folder").mkdir()
    file = RemoteFile(stage.folder, b"a.csv", 5, LONG_AGO)
    for faults in ({"no-list": 1}, {"mvs-list": 1, "nlst-paths": 1}):
        stage.misbehave({"no-mlsd": 1, **faults})
        seen = stage.look()
        yield ended_well(seen)
        yield holds(seen.answers.get(file.name) == file, f"it is listed as {seen.answers.get(file.name)}")
        yield arrived(stage.fetch([file]), {b"a.csv": b"12345"})


@trial(16, over=FTP)
def no_times(stage: Stage) -> Claims:
    """Where no exact time is told there is none: a listing's day or minute never stands in for it."""
    stage.leave(b"a.csv", b"12345")
    stage.misbehave({"no-mlsd": 1, "no-mdtm": 1})
    seen = stage.look()
    yield ended_well(seen)
    yield holds([file.modified for file in seen.files] == [None], f"it is listed as {seen.files}")
    yield arrived(stage.fetch(seen.files), {b"a.csv": b"12345"})


@trial(14, over=FTP)
def listing_as_dos_writes_it(stage: Stage) -> Claims:
    """A listing in DOS's format is read as well."""
    stage.leave(b"from windows.csv", b"12345")
    stage.misbehave({"no-mlsd": 1, "dos-list": 1})
    seen = stage.look()
    yield ended_well(seen)
    yield lists(seen, [b"from windows.csv"])
    yield holds(seen.unread.count == 0, f"{seen.unread.count} lines could not be read")
    yield arrived(stage.fetch(seen.files), {b"from windows.csv": b"12345"})


def _odd_lines(stage: Stage, faults: dict[str, float]) -> Claims:
    stage.leave(b"a.csv", b"12345")
    stage.misbehave({"odd-list": 1, **faults})
    seen = stage.look()
    yield ended_well(seen)
    yield lists(seen, [b"a.csv"])
    yield holds(seen.unread.count >= 3, f"only {seen.unread.count} lines are counted as unreadable")
    yield holds("Welcome to our new server!" in seen.unread.examples, "the banner is not shown")
    yield holds(all(line.isprintable() for line in seen.unread.examples), "a line is shown raw")
    yield arrived(stage.fetch(seen.files), {b"a.csv": b"12345"})


@trial(14, 15, over=FTP)
def garbage_in_list(stage: Stage) -> Claims:
    """Banners, garbage and lines cut short in LIST are counted and shown; no file is invented, and the folder continues."""
    return _odd_lines(stage, {"no-mlsd": 1})


@trial(15, over=FTP)
def garbage_in_mlsd(stage: Stage) -> Claims:
    """The same in MLSD."""
    return _odd_lines(stage, {})


def _sighted(file: RemoteFile, *, first: datetime, unchanged: datetime, last: datetime, looks: int) -> Sighting:
    return Sighting("j", file, Reached.SIGHTED, first, unchanged, last, looks)


@trial(14, over=FTP)
def listing_in_other_tongues(stage: Stage) -> Claims:
    """Months in German are read; lines of a mainframe are counted and shown, and become no files."""
    stage.leave(b"a.csv", b"12345", datetime(2026, 3, 3, tzinfo=UTC))
    stage.leave(b"b.csv", b"12345", datetime(2025, 10, 3, tzinfo=UTC))
    stage.misbehave({"no-mlsd": 1, "german-list": 1, "mainframe-list": 1})
    seen = stage.look()
    yield ended_well(seen)
    yield lists(seen, [b"a.csv", b"b.csv"])
    yield holds(seen.unread.count == 3, f"{seen.unread.count} of the 3 lines of a mainframe are counted as unreadable")
    yield arrived(stage.fetch(seen.files), {b"a.csv": b"12345", b"b.csv": b"12345"})


@trial(17, 28)
def clock_wrong(stage: Stage) -> Claims:
    """A server's clock decides nothing: files of 1971 and 2100 wait as long as any other, from our own first look."""
    from tasks.rules.settle import ready

    stage.leave(b"past.csv", b"1", datetime(1971, 1, 1, tzinfo=UTC))
    stage.leave(b"future.csv", b"2", datetime(2100, 1, 1, tzinfo=UTC))
    seen = stage.look()
    yield lists(seen, [b"past.csv", b"future.csv"])
    settle, now = Settle(quiet=timedelta(seconds=30), minimum_age=timedelta(minutes=1)), datetime.now(UTC)
    for waited, due in ((timedelta(seconds=20), 0), (timedelta(minutes=2), 2)):
        sighted = [_sighted(file, first=now, unchanged=now, last=now + waited, looks=2) for file in seen.files]
        count = len(ready(sighted, settle, ("*",), now + waited).ready)
        yield holds(count == due, f"after {waited.total_seconds():.0f} s {count} of 2 count as finished, {due} are due")
    yield arrived(stage.fetch(seen.files), {b"past.csv": b"1", b"future.csv": b"2"})


@trial(18, 53)
def older_than_what_came_before(stage: Stage) -> Claims:
    """A file with an older time than all before it, and new bytes under an old name, are arrivals as any other."""
    stage.leave(b"a.csv", b"first", LONG_AGO)
    first = stage.look()
    stage.ledger.sight("partner", "stream", first.files)
    yield arrived(stage.fetch(first.files), {b"a.csv": b"first"})
    stage.leave(b"older.csv", b"older", LONG_AGO - timedelta(days=1000))
    stage.leave(b"a.csv", b"other", LONG_AGO - timedelta(days=1))
    second = stage.look()
    tally = stage.ledger.sight("partner", "stream", second.files)
    yield holds((tally.new, tally.changed) == (1, 1), f"the ledger took {tally.new} for new and {tally.changed} for changed")
    yield arrived(stage.fetch(second.files), {b"a.csv": b"other", b"older.csv": b"older"})
    yield holds(stage.kept == 3, f"{stage.kept} of 3 different contents are kept")


@trial(19)
def crowd(stage: Stage) -> Claims:
    """A folder with 3,000 files is listed whole."""
    names = [f"{number:05d}.csv".encode() for number in range(3000)]
    for name in names:
        stage.leave(name, b"")
    seen = stage.look()
    yield ended_well(seen)
    yield lists(seen, names)


@trial(20)
def listing_breaks_off(stage: Stage) -> Claims:
    """A listing that breaks off is an error, never a shorter or an empty folder; nothing of it reaches the ledger."""
    names = [f"{number}.csv".encode() for number in range(50)]
    for name in names:
        stage.leave(name)
    stage.ledger.sight("partner", "stream", stage.look().files)
    with stage.session() as session:
        stage.misbehave({"lost-listing": 1})
        yield ended_with(stage.look(session), EndpointUnreachable, later=True)
    yield lists(stage.look(), names)
    still = sum(1 for _ in stage.ledger.sightings("partner", "stream"))
    yield holds(still == 50, f"{still} of 50 are still known")


@trial(20)
def suddenly_empty(stage: Stage) -> Claims:
    """A folder that is suddenly empty, by a server's error: nothing is closed for one empty listing."""
    stage.leave(b"a.csv")
    stage.ledger.sight("partner", "stream", stage.look().files)
    stage.misbehave({"empty-listing": 1})
    empty = stage.look()
    yield lists(empty, [])
    tally = stage.ledger.sight("partner", "stream", empty.files)
    yield holds(tally.doubted and tally.gone == 0, "one empty listing made the ledger forget what stands there")
    tally = stage.ledger.sight("partner", "stream", stage.look().files)
    yield holds((tally.new, tally.unchanged) == (0, 1), "what stands there again is taken for new")


@trial(21)
def two_workers(stage: Stage) -> Claims:
    """Two workers that see the same file: the ledger gives it to one, and the other gets none."""
    stage.leave(b"a.csv")
    for _ in range(2):
        stage.ledger.sight("partner", "stream", stage.look().files)
    journeys = [sighting.journey for sighting in stage.ledger.sightings("partner", "stream")]
    yield holds(len(journeys) == 1, f"one file seen twice has {len(journeys)} journeys")
    first, second = (stage.ledger.claim("partner", "stream", journeys, owner=name, seconds=60) for name in ("one", "two"))
    yield holds(first is not None and second is None, "both workers got it")


@trial(22)
def links(stage: Stage) -> Claims:
    """Links, loops among them and those that lead out, are listed as links and never followed."""
    outside = stage.place.parent / "secret.csv"
    outside.write_bytes(b"secret")
    for name, target in (("out.csv", outside), ("loop.csv", "loop.csv"), ("up", ".."), ("nowhere.csv", "nowhere")):
        (stage.place / name).symlink_to(target)
    seen = stage.look()
    yield ended_well(seen)
    yield lists(seen, [b"out.csv", b"loop.csv", b"up", b"nowhere.csv"], FileKind.LINK)
    pretended = [replace(file, kind=FileKind.FILE, size=6) for file in seen.files]
    told = stage.fetch([*seen.files, *pretended])
    for file in seen.files:
        yield became(told, file.name, Outcome.NOT_A_FILE, Outcome.CHANGED, Outcome.VANISHED, Outcome.REFUSED)
    yield holds(stage.kept == 0, "a link was followed")


@trial(23)
def pipes(stage: Stage) -> Claims:
    """A pipe is listed as what it is and never opened: nobody waits for somebody to write into it."""
    os.mkfifo(stage.place / "pipe.csv")
    stage.leave(b"a.csv", b"a")
    seen = stage.look()
    yield ended_well(seen)
    told = stage.fetch([*seen.files, replace(stage.file(b"pipe.csv"), kind=FileKind.FILE)])
    yield became(told, b"pipe.csv", Outcome.NOT_A_FILE, Outcome.REFUSED)
    yield arrived(told, {b"a.csv": b"a"})


@trial(23)
def no_kinds(stage: Stage) -> Claims:
    """A server that does not tell what is a file: files arrive, and a pipe and a folder hold nobody up."""
    os.mkfifo(stage.place / "pipe.csv")
    (stage.place / "folder.csv").mkdir()
    stage.leave(b"a.csv", b"a")
    stage.misbehave({"no-kinds": 1})
    seen = stage.look()
    yield ended_well(seen)
    with stage.hurried() as session:
        told = stage.fetch([replace(file, kind=FileKind.FILE) for file in seen.files if file.name == b"a.csv"], session)
    yield arrived(told, {b"a.csv": b"a"})
    for name in (b"pipe.csv", b"folder.csv"):
        with stage.hurried() as session:
            told = stage.fetch([replace(stage.file(name), kind=FileKind.FILE)], session)
        yield within(told, 30)
        yield holds(
            not any(isinstance(answer, Fetched) for answer in told.answers.values()), f"{shown(name)} was taken for a file"
        )


@trial(24)
def folder_where_a_file_was(stage: Stage) -> Claims:
    """A folder that took a file's place is told as such, and a folder that is missing is an error, not an empty one."""
    stage.leave(b"a.csv", b"a")
    seen = stage.look()
    (stage.place / "a.csv").unlink()
    (stage.place / "a.csv").mkdir()
    told = stage.fetch(seen.files)
    yield ended_well(told)
    yield became(told, b"a.csv", Outcome.NOT_A_FILE)
    yield ended_with(stage.look(folder=f"{stage.folder}/missing"), EndpointError)


@trial(25)
def names_of_uploads_under_way(stage: Stage) -> Claims:
    """Hidden files and the temporary names of uploading programs are listed, and are not picked up."""
    from tasks.rules.settle import belongs

    temporary = [b".hidden.csv", b"a.csv.part", b"b.csv.filepart", b"~$c.csv", b"d.csv.tmp"]
    for name in [*temporary, b"good.csv"]:
        stage.leave(name)
    seen = stage.look()
    yield lists(seen, [*temporary, b"good.csv"])
    taken = [file.name for file in seen.files if belongs(file, Settle(), ("*",))]
    yield holds(taken == [b"good.csv"], f"these would be picked up: {', '.join(map(shown, taken))}")


# --------------------------------------------------------------------------------------------- timing


@trial(26)
def still_being_written(stage: Stage) -> Claims:
    """A file that has grown since it was listed is not taken; listed anew, it is."""
    stage.leave_all({b"growing.csv": b"half", b"whole.csv": b"whole"})
    seen = stage.look()
    stage.leave(b"growing.csv", b"half and the rest")
    told = stage.fetch(seen.files)
    yield ended_well(told)
    yield became(told, b"growing.csv", Outcome.CHANGED)
    yield arrived(told, {b"whole.csv": b"whole"})
    yield arrived(stage.fetch(stage.look().files), {b"growing.csv": b"half and the rest"})


@trial(26, 34)
def grows_while_it_is_read(stage: Stage) -> Claims:
    """More bytes than were listed: what was read is thrown away, as the file is still growing."""
    content = stage.content(MIB)
    path = stage.leave(b"growing.csv", content)
    seen = stage.look()

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"more")

    told = stage.fetch(seen.files, batch=stage.meddled(grow))
    yield ended_well(told)
    yield became(told, b"growing.csv", Outcome.CHANGED)
    yield holds(stage.kept == 0, "something of it was kept")


@trial(27, 30)
def changed_before_it_is_removed(stage: Stage) -> Claims:
    """A file that grew or was replaced after it was fetched is not removed and not moved; one that is unchanged is."""
    for name in (b"grown.csv", b"replaced.csv", b"same.csv"):
        stage.leave(name, b"12345", LONG_AGO)
    seen = stage.look()
    yield ended_well(stage.fetch(seen.files))
    stage.leave(b"grown.csv", b"12345678", LONG_AGO)
    stage.leave(b"replaced.csv", b"54321", LONG_AGO + timedelta(hours=1))
    told = stage.remove(seen.files)
    yield ended_well(told)
    yield became(told, b"grown.csv", Outcome.CHANGED)
    yield became(told, b"replaced.csv", Outcome.CHANGED)
    yield became(told, b"same.csv", Outcome.DONE)
    yield stand(stage.stands(), {b"grown.csv": b"12345678", b"replaced.csv": b"54321"})


@trial(29)
def vanished(stage: Stage) -> Claims:
    """A file that vanishes between the listing and the fetch is told as vanished; the others arrive."""
    stage.leave_all({b"gone.csv": b"gone", b"here.csv": b"here"})
    seen = stage.look()
    (stage.place / "gone.csv").unlink()
    told = stage.fetch(seen.files)
    yield ended_well(told)
    yield became(told, b"gone.csv", Outcome.VANISHED)
    yield arrived(told, {b"here.csv": b"here"})


@trial(31)
def empty_file(stage: Stage) -> Claims:
    """An empty file is fetched as what it is, and refused as too small unless the stream says otherwise."""
    from tasks.rules.bounds import too_small

    yield from _fetched_exactly(stage, {b"empty.csv": b""})
    yield holds(bool(tuple(too_small(0, Limits(), "empty.csv"))), "nothing says that it is empty")
    yield holds(not tuple(too_small(0, Limits(smallest_bytes=0), "empty.csv")), "it is refused where it was agreed")


@trial(32)
def done_files(stage: Stage) -> Claims:
    """Where done files were agreed, a file without one waits, and a done file without a file is told."""
    from tasks.rules.settle import ready

    for name in (b"both.csv", b"both.csv.done", b"no-marker.csv", b"no-file.csv.done"):
        stage.leave(name)
    now = datetime.now(UTC)
    sighted = [
        replace(_sighted(file, first=now, unchanged=now, last=now, looks=2), journey=file.shown) for file in stage.look().files
    ]
    found = ready(sighted, Settle(done_file="{name}.done"), ("*",), now + timedelta(hours=1))
    yield holds([one.file.name for one in found.ready] == [b"both.csv"], "others than the file with its done file are taken")
    yield holds(found.waiting == 1, "the file without a done file does not wait")
    yield holds(
        [one.file.name for one in found.lone_markers] == [b"no-file.csv.done"], "the done file without a file is not told"
    )


# --------------------------------------------------------------------------------------------- transport


@trial(33)
def done_after_too_few_bytes(stage: Stage) -> Claims:
    """'All was sent' after too few bytes is not believed: that file is a failed attempt, and the others arrive."""
    stage.leave_all({b"short.csv": stage.content(10_000), b"whole.csv": b"whole"})
    seen = stage.look()
    stage.misbehave({"short-eof" if stage.protocol == "sftp" else "short-226": 4000})
    told = stage.fetch(seen.files)
    yield ended_well(told)
    yield became(told, b"short.csv", Outcome.CHANGED)
    yield arrived(told, {b"whole.csv": b"whole"})
    yield holds(stage.kept == 1, "something of it was kept")


@trial(34)
def more_bytes_than_listed(stage: Stage) -> Claims:
    """More bytes come than the server says that there are: the file counts as still growing, and nothing of it is kept."""
    stage.leave(b"longer.csv", stage.content(10_000))
    seen = stage.look()
    stage.misbehave({"longer": 7})
    told = stage.fetch(seen.files)
    yield ended_well(told)
    yield became(told, b"longer.csv", Outcome.CHANGED)
    yield holds(stage.kept == 0, "something of it was kept")


def _dropped(stage: Stage, *, replaced: bool) -> Claims:
    small, big = stage.content(1000), stage.content(5 * MIB)
    stage.leave(b"small.csv", small, LONG_AGO)
    stage.leave(b"big.csv", big, LONG_AGO)
    seen = stage.look()
    stage.misbehave({"drop-after": 3 * MIB})
    told = stage.fetch(sorted(seen.files, key=lambda file: file.size))
    yield ended_with(told, EndpointUnreachable, later=True)
    yield arrived(told, {b"small.csv": small})
    stage.misbehave({})
    if replaced:
        big = stage.content(5 * MIB)
        stage.leave(b"big.csv", big, LONG_AGO)
    batch = stage.meddled()
    again = stage.fetch([file for file in seen.files if file.name == b"big.csv"], batch=batch)
    yield ended_well(again)
    yield arrived(again, {b"big.csv": big})
    yield holds(batch.began_at[:1] > [MIB], "what had come was not kept to go on with")


@trial(35)
def dropped_download(stage: Stage) -> Claims:
    """A connection lost at 60 % of a download: what was complete is told, and the rest goes on where it broke."""
    return _dropped(stage, replaced=False)


@trial(35)
def dropped_download_of_other_bytes(stage: Stage) -> Claims:
    """The same, but other bytes of the same size and time stand there now: it begins again, and mixes nothing."""
    return _dropped(stage, replaced=True)


@trial(35, over=FTP)
def no_rest(stage: Stage) -> Claims:
    """A server that cannot go on in the middle of a file: the download begins again."""
    content = stage.content(3 * MIB)
    stage.leave(b"big.csv", content, LONG_AGO)
    seen = stage.look()
    stage.misbehave({"drop-after": 2 * MIB, "no-rest": 1})
    yield ended_with(stage.fetch(seen.files), EndpointUnreachable)
    stage.misbehave({"no-rest": 1})
    yield arrived(stage.fetch(seen.files), {b"big.csv": content})


@trial(36)
def lost_answer_to_a_rename(stage: Stage) -> Claims:
    """The upload was renamed and the answer lost: looking settles that it stands, and nothing is sent twice."""
    stage.misbehave({"lost-rename": 1})
    told = stage.put({b"a.csv": b"ours"})
    yield ended_with(told, EndpointUnreachable)
    yield became(told, b"a.csv", Outcome.DONE)
    yield stand(stage.stands(), {b"a.csv": b"ours"})


@trial(36)
def connection_lost_before_a_rename(stage: Stage) -> Claims:
    """Lost before the rename was done: looking settles that it does not stand, nothing is left, and it is placed by the next try."""
    stage.misbehave({"lost-before-rename": 1})
    with stage.session() as session:
        told = stage.put({b"a.csv": b"ours"}, session)
        yield ended_with(told, EndpointUnreachable, later=True)
        yield holds(not told.answers, "something is told of it")
        yield stand(stage.stands(), {})
        yield became(stage.put({b"a.csv": b"ours"}, session), b"a.csv", Outcome.DONE)
    yield stand(stage.stands(), {b"a.csv": b"ours"})


@trial(36)
def lost_answer_and_nobody_may_look(stage: Stage) -> Claims:
    """The answer is lost and nobody is let in to look: its outcome is 'unknown', for a person, and never sent again by itself."""
    with stage.session() as session:
        stage.misbehave({"lost-rename": 1, "no-login": 1})
        told = stage.put({b"a.csv": b"ours"}, session)
    yield ended_with(told, EndpointUnreachable)
    yield became(told, b"a.csv", Outcome.UNKNOWN)


@trial(36, 41)
def dropped_upload(stage: Stage) -> Claims:
    """A connection lost in mid-upload: nothing stands under the final name, and nothing under a temporary one."""
    stage.misbehave({"drop-after": 2 * MIB})
    told = stage.put({b"big.csv": stage.content(5 * MIB)})
    yield ended_with(told, EndpointUnreachable, later=True)
    yield stand(stage.stands(), {})


@trial(36, over=FTP)
def lost_answer_to_an_upload(stage: Stage) -> Claims:
    """Lost after all bytes were sent and before they were acknowledged: nothing is renamed, nothing is left, and it can be sent."""
    stage.misbehave({"lost-226": 1})
    told = stage.put({b"a.csv": b"ours"})
    yield ended_with(told, EndpointUnreachable, later=True)
    yield stand(stage.stands(), {})
    yield became(stage.put({b"a.csv": b"ours"}), b"a.csv", Outcome.DONE)


@trial(37)
def stalled(stage: Stage) -> Claims:
    """A server that stands still ends a fetch and an upload at their deadline, and the place at it is free again."""
    content = stage.content(MIB)
    stage.leave(b"big.csv", content)
    seen = stage.look()
    still: dict[str, float] = {"slow": 120} if stage.protocol == "sftp" else {"stall-after": 1000}
    for verb in ("fetch", "put"):
        with stage.hurried(connection_limit=1) as session:
            stage.misbehave(still)
            told = stage.fetch(seen.files, session) if verb == "fetch" else stage.put({b"up.csv": content}, session)
            stage.misbehave({})
        yield ended_with(told, EndpointUnreachable, later=True)
        yield within(told, 30)
    yield arrived(stage.fetch(seen.files, connection_limit=1), {b"big.csv": content})
    yield holds(b"up.csv" not in stage.stands(), "half an upload stands under its final name")


@trial(37)
def a_byte_now_and_then(stage: Stage) -> Claims:
    """A server that sends a byte now and then stands still all the same: the fetch ends long before the file would."""
    stage.leave(b"a.csv", stage.content(4000))
    seen = stage.look()
    with stage.hurried() as session:
        stage.misbehave({"trickle": 1})
        told = stage.fetch(seen.files, session)
        stage.misbehave({})
    yield ended_with(told, EndpointUnreachable, later=True)
    yield within(told, 45)


@trial(38)
def rename_denied_and_agreed(stage: Stage) -> Claims:
    """Where the profile agrees to it, such a server's files are written under their final names; a name that is taken stays."""
    stage.leave(b"theirs.csv", b"theirs")
    stage.misbehave({"deny-rename": 1})
    told = stage.put({b"a.csv": b"ours", b"theirs.csv": b"ours"}, direct_write="accepted")
    yield ended_well(told)
    yield became(told, b"a.csv", Outcome.DONE)
    yield became(told, b"theirs.csv", Outcome.EXISTS)
    yield stand(stage.stands(), {b"a.csv": b"ours", b"theirs.csv": b"theirs"})


@trial(38)
def rename_denied(stage: Stage) -> Claims:
    """A server that lets nobody rename: the upload is refused, and nothing of it is left."""
    stage.misbehave({"deny-rename": 1})
    told = stage.put({b"a.csv": b"ours"})
    yield ended_well(told)
    yield became(told, b"a.csv", Outcome.REFUSED)
    yield stand(stage.stands(), {})


@trial(39)
def no_rename_over_a_file(stage: Stage) -> Claims:
    """A server that does not rename over a file: nothing is overwritten, and what is to be replaced is, in two steps."""
    stage.leave(b"a.csv", b"theirs")
    stage.misbehave({"no-posix-rename": 1} if stage.protocol == "sftp" else {"rename-refuses-existing": 1})
    yield became(stage.put({b"a.csv": b"ours"}), b"a.csv", Outcome.EXISTS)
    yield stand(stage.stands(), {b"a.csv": b"theirs"})
    yield became(stage.put({b"a.csv": b"ours"}, exists=Exists.REPLACE), b"a.csv", Outcome.DONE)
    yield stand(stage.stands(), {b"a.csv": b"ours"})


@trial(40)
def name_taken(stage: Stage) -> Claims:
    """A name that is taken at the partner is refused: bytes that we did not write are never overwritten."""
    stage.leave(b"a.csv", b"theirs")
    told = stage.put({b"a.csv": b"ours", b"b.csv": b"ours"})
    yield ended_well(told)
    yield became(told, b"a.csv", Outcome.EXISTS)
    yield became(told, b"b.csv", Outcome.DONE)
    yield stand(stage.stands(), {b"a.csv": b"theirs", b"b.csv": b"ours"})


@trial(41)
def disk_full(stage: Stage) -> Claims:
    """The partner's disk is full: an error of its own, no half file under any name, and it goes on when there is room."""
    stage.misbehave({"full": MIB})
    yield ended_with(stage.put({b"big.csv": stage.content(3 * MIB)}), EndpointFull)
    yield stand(stage.stands(), {})
    stage.misbehave({})
    yield became(stage.put({b"a.csv": b"ours"}), b"a.csv", Outcome.DONE)


@trial(41, over=SFTP)
def disk_full_told_at_the_end(stage: Stage) -> Claims:
    """A server that tells only at the close that there was no space: nothing of it counts as sent, and nothing is left."""
    stage.misbehave({"full-when-closed": 1})
    yield ended_with(stage.put({b"a.csv": b"ours"}), EndpointFull)
    yield stand(stage.stands(), {})


@trial(42)
def delete_denied(stage: Stage) -> Claims:
    """A file that may not be removed is told as refused; it was fetched, and stays."""
    stage.leave(b"a.csv", b"a")
    stage.misbehave({"deny-delete": 1})
    seen = stage.look()
    yield arrived(stage.fetch(seen.files), {b"a.csv": b"a"})
    told = stage.remove(seen.files)
    yield ended_well(told)
    yield became(told, b"a.csv", Outcome.REFUSED)
    yield stand(stage.stands(), {b"a.csv": b"a"})


@trial(42)
def write_denied(stage: Stage) -> Claims:
    """A server that lets us create nothing: refused, and nothing is left."""
    stage.misbehave({"deny-write": 1})
    yield became(stage.put({b"a.csv": b"ours"}), b"a.csv", Outcome.REFUSED)
    yield stand(stage.stands(), {})


@trial(43)
def target_folder_missing(stage: Stage) -> Claims:
    """A folder that is missing at the partner is an error, and is not made."""
    told = stage.put({b"a.csv": b"ours"}, folder=f"{stage.folder}/missing")
    yield ended_with(told, EndpointError, "missing")
    yield holds(not (stage.place / "missing").exists(), "the folder was made")


@trial(44)
def write_only(stage: Stage) -> Claims:
    """A folder that we may only write into: what is placed is told as sent and unverifiable, never as proven; nothing is listed."""
    stage.misbehave({"write-only": 1})
    told = stage.put({b"a.csv": b"ours"}, write_only=True)
    yield ended_well(told)
    yield proven_by(told, b"a.csv", Proof.UNVERIFIABLE)
    yield stand(stage.stands(), {b"a.csv": b"ours"})
    yield ended_with(stage.look(), EndpointError)


@trial(45)
def our_own_limit(stage: Stage) -> Claims:
    """Our own limit of connections to a server holds over all sessions; who finds it reached may try again later."""
    with stage.session(connection_limit=1):
        yield ended_with(stage.look(connection_limit=1, timeout_seconds=0.3), EndpointBusy, later=True)
    yield ended_well(stage.look(connection_limit=1))


@trial(45, over=FTP)
def told_421(stage: Stage) -> Claims:
    """A server that lets in two connections: 421 is honoured, and everything arrives over those two."""
    contents = {f"{number}.csv".encode(): stage.content(2000) for number in range(40)}
    stage.leave_all(contents)
    stage.misbehave({"busy": 2})
    seen = stage.look()
    told = stage.fetch(seen.files)
    yield ended_well(told)
    yield arrived(told, contents)
    stage.misbehave({"busy": 0.1})
    yield ended_with(stage.look(), EndpointBusy, later=True)


@trial(45, over=SFTP)
def closed_before_the_greeting(stage: Stage) -> Claims:
    """A server that closes before it greets has too many connections: it is busy, and asked again later."""
    stage.misbehave({"busy": 0.1})
    yield ended_with(stage.look(), EndpointBusy, later=True)


@trial(45)
def login_refused(stage: Stage) -> Claims:
    """A refused login is never tried again by itself, and the error does not show the password."""
    stage.misbehave({"no-login": 1})
    told = stage.look()
    yield ended_with(told, LoginRefused, later=False)
    yield hides(told, stage.rogue.rogues.password_file.read_text())


@trial(46, over=FTPS)
def no_tls(stage: Stage) -> Claims:
    """A server that offers no TLS is not spoken to in clear: no login is tried."""
    before = stage.rogue.logins
    stage.misbehave({"no-auth-tls": 1})
    yield ended_with(stage.look(), EndpointUnsuitable, "TLS", later=False)
    yield holds(stage.rogue.logins == before, "a login was tried")


@trial(46, over=FTPS)
def clear_data(stage: Stage) -> Claims:
    """A server that refuses to protect its data connections is not used."""
    stage.misbehave({"no-prot": 1})
    yield ended_with(stage.look(), EndpointUnsuitable, "PROT P", later=False)


@trial(46, over=FTPS)
def clear_data_after_all(stage: Stage) -> Claims:
    """A server that says yes to PROT P and speaks in clear all the same: nothing is read from it or sent to it."""
    stage.leave(b"a.csv", b"a")
    seen = stage.look()
    stage.misbehave({"clear-data": 1})
    # Where the server waits for us to begin, and we for it, the end comes at the deadline: it is brought near.
    for told in (
        stage.look(timeout_seconds=5),
        stage.fetch(seen.files, timeout_seconds=5),
        stage.put({b"b.csv": b"secret"}, timeout_seconds=5),
    ):
        yield ended_with(told, EndpointError, "TLS")
        yield holds(not told.answers, "something was told all the same")
    yield holds(b"secret" not in stage.stands().values(), "our bytes went out in clear")


@trial(46, over=FTPS)
def wrong_mode(stage: Stage) -> Claims:
    """Implicit TLS was agreed and the server begins in clear: the message says which setting to look at."""
    yield ended_with(stage.look(mode="implicit"), EndpointUnsuitable, "mode", later=False)


@trial(47, over=FTPS)
def certificate_expired(stage: Stage) -> Claims:
    """An expired certificate is not trusted, whoever signed it, and no login is tried."""
    stage.misbehave({"expired-certificate": 1}, restart=True)
    before = stage.rogue.logins
    yield ended_with(stage.look(), HostKeyChanged, later=False)
    yield holds(stage.rogue.logins == before, "a login was tried")
    stage.misbehave({"new-certificate": 1}, restart=True)
    yield ended_well(stage.look())


@trial(47, over=FTPS)
def certificate_of_an_unknown_authority(stage: Stage) -> Claims:
    """A certificate that no authority we know has signed is not trusted."""
    yield ended_with(stage.look(ca_file=None), HostKeyChanged, "not trusted", later=False)


@trial(47, over=FTPS)
def certificate_changed(stage: Stage) -> Claims:
    """Another certificate than the pinned one: nothing moves until a person decides, and both are named."""
    pinned = stage.rogue.told["certificate"]
    yield ended_well(stage.look(certificates=(pinned,)))
    stage.misbehave({"new-certificate": 1}, restart=True)
    before = stage.rogue.logins
    yield ended_with(stage.look(certificates=(pinned,)), HostKeyChanged, pinned, stage.rogue.told["certificate"], later=False)
    yield holds(stage.rogue.logins == before, "a login was tried")


@trial(48, over=SFTP)
def host_key_changed(stage: Stage) -> Claims:
    """Another host key than the pinned one: nothing moves until a person decides, and both are named."""
    pinned = stage.rogue.told["host_key"]
    stage.misbehave({"new-host-key": 1}, restart=True)
    before = stage.rogue.logins
    yield ended_with(stage.look(host_keys=[pinned]), HostKeyChanged, pinned, stage.rogue.told["host_key"], later=False)
    yield holds(stage.rogue.logins == before, "a login was tried")


@trial(49, over=("sftp", "ftps"))
def outdated_algorithms(stage: Stage) -> Claims:
    """A server with outdated algorithms only needs an exception of this partner, with a reason and a last day."""
    stage.leave(b"a.csv", b"a")
    stage.misbehave({"legacy-algorithms": 1}, restart=True)
    try:
        yield ended_with(stage.look(), EndpointUnsuitable, "legacy", later=False)
        algorithms = ["aes128-cbc", "hmac-sha1"] if stage.protocol == "sftp" else ["ECDHE-ECDSA-AES128-SHA"]
        terms = {"algorithms": algorithms, "reason": "their new server comes in May"}
        today = datetime.now(UTC).date()
        seen = stage.look(legacy={**terms, "until": today + timedelta(days=1)})
        yield ended_well(seen)
        yield lists(seen, [b"a.csv"])
        ended = stage.look(legacy={**terms, "until": today - timedelta(days=1)})
        yield ended_with(ended, ConfigurationError, "ended on", later=False)
    finally:
        stage.misbehave({}, restart=True)


@trial(50, over=FTP)
def foreign_address(stage: Stage) -> Claims:
    """PASV names another machine: the control connection's host is used, and no other is ever connected to."""
    stage.leave(b"a.csv", b"a")
    stage.misbehave({"no-epsv": 1, "foreign-pasv": 1})
    seen = stage.look()
    yield ended_well(seen)
    yield arrived(stage.fetch(seen.files), {b"a.csv": b"a"})


@trial(51)
def line_ends_and_binary(stage: Stage) -> Claims:
    """Bytes stay as they are in both directions: line ends of all kinds, NUL, end-of-file marks."""
    content = b"unix\nwindows\r\nmac\rnul\0eof\x1a\xff\xfe telnet \xff\xff" + bytes(range(256)) * 100
    yield from _fetched_exactly(stage, {b"mixed.csv": content})
    told = stage.put({b"back.csv": content})
    yield became(told, b"back.csv", Outcome.DONE)
    yield stand(stage.stands(), {b"mixed.csv": content, b"back.csv": content})


@trial(52)
def same_bytes_under_new_names(stage: Stage) -> Claims:
    """The same bytes under two names have one digest, and are kept once."""
    yield from _fetched_exactly(stage, {b"monday.csv": b"the same", b"tuesday.csv": b"the same"})
    yield holds(stage.kept == 1, f"{stage.kept} objects are kept")


# --------------------------------------------------------------------------------------------- awkward, and lawful


@trial(over=SFTP)
def short_reads_in_any_order(stage: Stage) -> Claims:
    """A server that shortens reads, answers in another order and allows three open files costs nothing but time."""
    contents = {f"{number}.csv".encode(): stage.content(number * 97 % 5000) for number in range(40)}
    contents[b"big.csv"] = stage.content(300_001)
    stage.leave_all(contents)
    seen = stage.look()
    stage.misbehave({"short-reads": 3000, "reorder": 1, "max-handles": 3})
    told = stage.fetch(seen.files)
    yield ended_well(told)
    yield arrived(told, contents)


@trial(over=SFTP)
def extensions_that_lie(stage: Stage) -> Claims:
    """A server that names extensions and limits that it does not keep is used without them."""
    stage.misbehave({"lying-extensions": 1})
    yield from _fetched_exactly(stage, {b"a.csv": stage.content(300_000)})
    yield became(stage.put({b"b.csv": b"ours"}), b"b.csv", Outcome.DONE)


@trial(over=SFTP)
def muddled_answers(stage: Stage) -> Claims:
    """A server that muddles up its answers once several wait: no byte is taken for another's; the next try asks one at a time."""
    contents = {f"{number}.csv".encode(): stage.content(2000) for number in range(20)}
    stage.leave_all(contents)
    seen = stage.look()
    stage.misbehave({"muddles-after": 10})
    yield ended_with(stage.fetch(seen.files), EndpointUnreachable, later=True)
    again = stage.fetch(seen.files)
    yield ended_well(again)
    yield arrived(again, contents)


@trial(over=FTP)
def wrong_digest(stage: Stage) -> Claims:
    """A server that tells another digest than ours holds other bytes: nothing is placed; one that tells none is told as weaker proof."""
    yield proven_by(stage.put({b"a.csv": b"ours"}), b"a.csv", Proof.SERVER_HASH)
    stage.misbehave({"wrong-hash": 1})
    yield became(stage.put({b"b.csv": b"ours"}), b"b.csv", Outcome.REFUSED)
    stage.misbehave({"no-hash": 1})
    yield proven_by(stage.put({b"c.csv": b"ours"}), b"c.csv", Proof.SIZE_ONLY)
    yield stand(stage.stands(), {b"a.csv": b"ours", b"c.csv": b"ours"})
