"""Rows 1 to 25 of the hostile inputs: names and listings. Each row's required outcome, over FTP and SFTP where both can meet it.

Most rows are read off one visit per protocol: a partner's folder with every oddity in it at once, and an installation that takes
it in, run after run. So each row also shows that none of the others is disturbed by it.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import hashlib
import json
import logging
import os
import shutil
import socket
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import State
from prefect.logging.configuration import setup_logging

from blocks.endpoints.folder import Folder
from blocks.endpoints.ftp_listing import Entry, Odd, entries, list_line, mlsd_line
from blocks.endpoints.sftp import Sftp
from blocks.errors import EndpointError, EndpointUnreachable, SendRefused
from blocks.ledger import Recorded
from blocks.spool import Spool
from blocks.values import (
    FileKind,
    Inbound,
    Missed,
    Outcome,
    Placed,
    RemoteFile,
    Settle,
    Sighting,
    Stage,
    Unread,
    shown,
)
from deployments.sender.store import Step
from tasks.rules.literal import literal
from tasks.rules.naming import illegal
from tasks.rules.notice import MOST, notices
from tasks.rules.settle import folded, ready
from tests.conformance.endpoints.checks import CHECKS, Ground
from tests.conformance.endpoints.rogues import ground_at
from tests.hostile.bay import Bay, Server, bay_at, crate
from tests.sandbox.ftp import FtpSandbox
from tests.servers.openssh import OpenSsh
from tests.servers.prefect import PrefectServer, overheard
from tests.world import ONE_LOOK, World, price_list

PROTOCOLS = ("sftp", "ftp")
LONG = b"l" * 251 + b".csv"
CAFE_NFC, CAFE_NFD = "café.csv".encode(), "cafe\u0301.csv".encode()
PROGRAM = b"MZ\x90\0" + bytes(60) + b"PE\0\0" + bytes(200)
_number = iter(range(1, 10_000_000))


def unlike() -> bytes:
    """A good price list whose bytes no other has."""
    return price_list(first=next(_number) * 10)


# --------------------------------------------------------------------------------------------- servers


@pytest.fixture
def ftp(servers: dict[str, Server]) -> Iterator[FtpSandbox]:
    chosen = servers["ftp"]
    assert isinstance(chosen, FtpSandbox)
    yield chosen
    chosen.faults.clear()


@pytest.fixture
def ftp_ground(ftp: FtpSandbox, tmp_path: Path) -> Ground:
    return ground_at(ftp, tmp_path / "spool")


@pytest.fixture
def ftp_bay(ftp: FtpSandbox, tmp_path: Path, prefect_server: PrefectServer) -> Iterator[Bay]:
    with bay_at(tmp_path / "home", ftp, prefect_server) as made:
        yield made


def leave(bay: Bay, name: bytes, content: bytes) -> bytes:
    """The partner puts a file with any name into its folder."""
    Path(os.fsdecode(os.fsencode(bay.out) + b"/" + name)).write_bytes(content)
    return content


def inbound() -> Inbound:
    """A stream's terms, with everything as it is by default."""
    target = {"repository": "kept", "folder": "Prices"}
    terms = {"endpoint": "drop", "folder": "/out", "classify": [{"pattern": ".*", "doctype": "price-list"}], "target": target}
    return Inbound.model_validate(terms)


def noticed(bay: Bay) -> list[Recorded]:
    """What looks at the partner's folder told, each once."""
    return bay.ledger.journey("look.acme.prices")


def standing(bay: Bay) -> set[bytes]:
    return set(os.listdir(os.fsencode(bay.out)))


@contextmanager
def logged() -> Iterator[list[str]]:
    """Everything that runs log while the block runs, as it is written."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    setup_logging()  # the first run would do so, and take every handler off that is there
    ear, logger = Ear(), logging.getLogger()
    logger.addHandler(ear)
    try:
        yield heard
    finally:
        logger.removeHandler(ear)


def tables(state: State) -> list[list[dict[str, str]]]:
    """The table artifacts of a run, as Prefect's UIs get them."""
    run = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run])))
    return [json.loads(str(artifact.data)) for artifact in found if artifact.type == "table"]


# --------------------------------------------------------------------------------------------- one visit with everything


@dataclass
class Visit:
    """What became of a folder that holds every oddity at once."""

    protocol: str
    content: dict[bytes, bytes] = field(default_factory=dict)
    """What the partner left: name -> bytes, of files that are files."""
    states: list[str] = field(default_factory=list)
    """Of the runs, one after the other."""
    log: str = ""
    tables: list[list[dict[str, str]]] = field(default_factory=list)
    """That the runs published, one after the other; a run that has nothing to tell publishes none."""
    left: set[bytes] = field(default_factory=set)
    """Names that stand at the partner afterwards."""
    filed: dict[str, list[bytes]] = field(default_factory=dict)
    histories: dict[str, list[Recorded]] = field(default_factory=dict)
    notices: list[Recorded] = field(default_factory=list)
    outside: dict[str, bytes] = field(default_factory=dict)
    """Files of others, beside the folder."""
    spooled: set[str] = field(default_factory=set)
    """Names of all files in our spool and quarantine."""
    commands: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def table(self) -> list[dict[str, str]]:
        """Of the first run."""
        return self.tables[0]

    def of(self, name: bytes) -> list[list[Recorded]]:
        """The histories of the journeys of a name."""
        wanted = base64.b64encode(name).decode()
        return [
            entries
            for entries in self.histories.values()
            if any(entry.kind == "arrived" and entry.body["name_b64"] == wanted for entry in entries)
        ]

    def case(self, name: bytes) -> dict[str, Any]:
        """The one case that was opened for a name."""
        opened = [entry.body["case"] for entries in self.of(name) for entry in entries if entry.kind == "quarantined"]
        assert len(opened) == 1, f"{name!r}: {opened}"
        return dict(opened[0])

    def fetched(self, name: bytes) -> list[str]:
        return [entry.body["digest"] for entries in self.of(name) for entry in entries if entry.kind == "fetched"]

    def noticed(self, code: str) -> list[Recorded]:
        return [entry for entry in self.notices if entry.body["code"] == code]


LEGAL = {
    "not UTF-8": (b"M\xfcller.csv", b"\xff\xfe.csv"),
    "accents": (CAFE_NFC, CAFE_NFD),
    "case": (b"Prices.csv", b"PRICES.csv"),
    "awkward": (b" leading.csv", b"trailing .csv", b"-rf.csv", b"CON.csv", b"NUL.csv", b"dots...csv"),
    "long": (LONG,),
    "active": (
        b"%00;{{name}}$(touch pwned)`id`.csv",
        b"=cmd().csv",
        b"{partner}.csv",
        b"<img src=x onerror=y>.csv",
        b"a|b.csv",
    ),
    "plain": (b"victim.csv", b"plain.csv"),
}
CONTROL = (b"\x1b[2Jescape.csv", "evil\u202evsc.exe.csv".encode())
CRLF = b"cr\r\nDELE victim.csv"


@pytest.fixture(scope="module", params=PROTOCOLS)
def visit(
    request: pytest.FixtureRequest,
    servers: dict[str, Server],
    tmp_path_factory: pytest.TempPathFactory,
    prefect_server: PrefectServer,
) -> Iterator[Visit]:
    server, home = servers[request.param], tmp_path_factory.mktemp(f"visit-{request.param}") / "home"
    told = Visit(request.param)
    others = {name: server.root / name for name in ("dropEVIL", "elsewhere")}
    for place in others.values():
        place.mkdir(exist_ok=True)
        (place / "odd.csv").write_bytes(b"somebody else's")
    with bay_at(home, server, prefect_server) as bay, logged() as heard:
        bay.agree(limits={"consignment_files": 7}, ordered=False, settle={"quiet": "PT0S", "abandoned_after": "PT0S"})
        for name in (*(name for group in LEGAL.values() for name in group), *CONTROL, CRLF):
            told.content[name] = leave(bay, name, unlike())
        told.content[b"invoice.csv.exe"] = leave(bay, b"invoice.csv.exe", PROGRAM)
        told.content[b"disguised.csv"] = leave(bay, b"disguised.csv", PROGRAM + b"\0")
        for name in (b".hidden.csv", b"upload.csv.part", b"~$lock.csv"):
            leave(bay, name, unlike())
        (bay.out / "folder.csv").mkdir()
        (bay.out / "link.csv").symlink_to(others["elsewhere"] / "odd.csv")
        (bay.out / "linked").symlink_to(others["elsewhere"])
        (bay.out / "loop.csv").symlink_to("loop.csv")
        os.mkfifo(bay.out / "pipe.csv")
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as ends, in_folder(bay.out):
            ends.bind("socket.csv")
        server.faults["odd-names"] = 1
        for _ in range(3):
            state = bay.run()
            told.states.append(str(state.name))
            told.tables += tables(state)
        server.faults.clear()
        told.log = "\n".join(heard)
        told.left, told.filed, told.histories, told.notices = standing(bay), bay.filed(), bay.histories(), noticed(bay)
        told.outside = {name: (place / "odd.csv").read_bytes() for name, place in others.items()}
        told.spooled = {path.name for part in ("spool", "quarantine") for path in (home / part).rglob("*") if path.is_file()}
        if isinstance(server, FtpSandbox):
            told.commands = list(server.commands)
    yield told


@contextmanager
def in_folder(place: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(before)


def illegal_name_is_told_once_and_left(visit: Visit, name: bytes, why: str) -> None:
    """What rows 1 to 3 ask: never joined, reported, left where it is, one incident for the name."""
    case = visit.case(name)
    assert case["code"] == "illegal-name"
    assert why in case["reason"]
    assert visit.fetched(name) == []
    assert not any(entry.kind in ("filing", "clearing", "cleared") for entries in visit.of(name) for entry in entries)
    (row,) = [row for row in visit.table if row["outcome"] == "quarantined" and row["file"] == literal(shown(name))]
    assert "illegal-name" in row["reason"]
    assert visit.states[1:] == ["Nothing new"] * 2, "it is listed with another size each time, and told once"
    assert visit.outside == dict.fromkeys(visit.outside, b"somebody else's")


# --------------------------------------------------------------------------------------------- 1 to 6: illegal and odd names


@pytest.mark.parametrize("name", [b"../odd.csv", b"..\\odd.csv"])
def test_row_01_a_name_that_climbs_is_refused_once_and_left(name: bytes, visit: Visit) -> None:
    illegal_name_is_told_once_and_left(visit, name, "leads out of the folder")


def test_row_01_a_name_that_is_listed_only_at_times_is_one_case(sftp_bay: Bay) -> None:
    sftp_bay.agree(disposition={"accepted": "leave"})
    leave(sftp_bay, b"plain.csv", unlike())
    names = []
    for on in (1, 0, 1):
        sftp_bay.server.faults["odd-names"] = on
        names.append(sftp_bay.run().name)
    cases = sftp_bay.codes(everything=True)
    assert set(cases) == {"illegal-name"}
    assert names == [f"Filed, {len(cases)} quarantined", "Nothing new", "Nothing new"]
    assert any(kinds[-1] == "seen absent" for kinds in sftp_bay.kinds()), "it was gone in between"


def test_row_02_an_absolute_name_is_refused_once_and_left(visit: Visit) -> None:
    illegal_name_is_told_once_and_left(visit, b"/etc/odd.csv", "absolute")


def test_row_03_a_name_with_a_separator_is_refused_once_and_left(visit: Visit) -> None:
    illegal_name_is_told_once_and_left(visit, b"odd/name.csv", "separator")


def test_row_03_a_name_that_fits_no_pattern_of_the_stream_is_told_too(sftp_bay: Bay) -> None:
    sftp_bay.agree(patterns=["*.csv"])
    sftp_bay.server.faults["odd-names"] = 1
    sftp_bay.run()
    sftp_bay.run()
    (told,) = noticed(sftp_bay)
    assert told.body["code"] == "illegal-name", "the empty name, and once; the others are cases"
    assert "it is empty" in told.body["reason"]


def test_row_04_a_sibling_whose_name_begins_alike_is_another_folder(visit: Visit, tmp_path: Path) -> None:
    illegal_name_is_told_once_and_left(visit, b"../dropEVIL/odd.csv", "leads out")
    (tmp_path / "drop").mkdir()
    (tmp_path / "dropEVIL").mkdir()
    (tmp_path / "dropEVIL" / "a.csv").write_bytes(b"not ours")
    with Folder(root=tmp_path / "drop").session() as session:
        for folder in ("../dropEVIL", "/../dropEVIL", "x/../../dropEVIL"):
            with pytest.raises(EndpointError):
                list(session.look(folder))


@pytest.mark.parametrize(("moved_to", "is_the_same"), [("EVIL", False), ("/", True), ("/.", True), ("/done", False)])
def test_row_04_folders_are_compared_by_segments(moved_to: str, is_the_same: bool, sftp_bay: Bay) -> None:
    from blocks.errors import ConfigurationError
    from blocks.profile import load_partner

    folder = f"/{sftp_bay.out.relative_to(sftp_bay.server.root)}"
    sftp_bay.agree(disposition={"accepted": "move", "folder": folder + moved_to})
    if is_the_same:
        with pytest.raises(ConfigurationError, match="the folder we look in"):
            load_partner("acme", sftp_bay.profiles)
    else:
        load_partner("acme", sftp_bay.profiles)


@pytest.mark.parametrize("name", CONTROL)
def test_row_05_control_and_direction_marks_are_kept_raw_and_shown_escaped(name: bytes, visit: Visit) -> None:
    case = visit.case(name)
    assert case["code"] == "illegal-name"
    ((arrived, *_),) = visit.of(name)
    assert base64.b64decode(arrived.body["name_b64"]) == name
    assert arrived.body["name"] == shown(name)
    assert name in visit.left
    recorded = [entry.body for entries in (*visit.histories.values(), visit.notices) for entry in entries]
    told = visit.log + str(visit.tables) + str(recorded)
    assert all(char.isprintable() or char == "\n" for char in told), "something raw reached a log, a table or the ledger"
    assert "\u202e" not in told


def test_row_05_a_line_break_in_a_name_never_becomes_a_command(visit: Visit, server: Server, ground: Ground) -> None:
    # Whatever the listing made of it, the other files are as they were, and no command was put in.
    assert [visit.content[b"victim.csv"]] == visit.filed["victim.csv"]
    assert CRLF in visit.left
    assert not any(command[0] == "DELE" and "cr" in command[1] for command in visit.commands)
    injected = RemoteFile(ground.folder, CRLF, 6, None)
    victim = ground.write(b"victim.csv", b"theirs")
    if isinstance(server, FtpSandbox):
        server.commands.clear()
    answers = ground.fetch([injected])
    with ground.endpoint.session() as session:
        gone = list(session.remove([injected]))
    if isinstance(server, FtpSandbox):
        answer = answers[CRLF]
        assert isinstance(answer, Missed)
        assert (answer.outcome, gone[0].outcome) == (Outcome.ILLEGAL_NAME, Outcome.ILLEGAL_NAME)
        assert not [command for command in server.commands if "victim" in " ".join(command)]
    assert victim.read_bytes() == b"theirs"


@pytest.mark.parametrize("name", LEGAL["not UTF-8"])
def test_row_06_a_name_that_is_not_utf_8_makes_the_whole_way(name: bytes, visit: Visit) -> None:
    ((*_,),) = visit.of(name)
    assert visit.fetched(name) == [hashlib.sha256(visit.content[name]).hexdigest()]
    assert [visit.content[name]] in visit.filed.values()
    assert name not in visit.left, "cleared at the source by its exact name"


def test_row_06_the_rest_of_the_folder_flows(visit: Visit) -> None:
    assert visit.filed["plain.csv"] == [visit.content[b"plain.csv"]]


# --------------------------------------------------------------------------------------------- 7 to 12: names that mislead


def test_row_07_accents_written_in_two_ways_are_two_files_and_flagged(visit: Visit) -> None:
    for name in (CAFE_NFC, CAFE_NFD):
        assert visit.filed[name.decode()] == [visit.content[name]], "both are kept"
        assert name not in visit.left
    (notice,) = [one for one in visit.noticed("twin-names") if "accents" in one.body["reason"]]
    assert [row["outcome"] for row in visit.table if "accents" in row["reason"]] == ["noticed"]
    assert base64.b64decode(notice.body["name_b64"]) in (CAFE_NFC, CAFE_NFD)


def test_row_08_names_that_differ_in_case_are_two_files_and_flagged(visit: Visit) -> None:
    for name in LEGAL["case"]:
        assert len(visit.of(name)) == 1
        assert visit.filed[name.decode()] == [visit.content[name]]
    (notice,) = [one for one in visit.noticed("twin-names") if "only in case" in one.body["reason"]]
    assert all(name.decode() in notice.body["reason"] for name in LEGAL["case"])
    assert visit.log.count("Prices.csv and PRICES.csv") + visit.log.count("PRICES.csv and Prices.csv") == 1, "warned once"


def test_row_08_a_target_that_takes_them_for_one_name_keeps_them_apart_in_the_same_way_each_time(world: World) -> None:
    """Content Server lets only one of ``Prices.csv`` and ``PRICES.csv`` be in a folder."""
    world.agree(disposition={"accepted": "leave"})
    first = {name: price_list(first=number) for number, name in enumerate(("PRICES.csv", "Prices.csv", "prices.csv"), 1)}
    for name, content in first.items():
        world.leave(name, content)
    assert world.run().name == "Filed"
    names = {content: name for name, content in world.filed().items()}
    filed_as = {name: names[content] for name, content in first.items()}
    assert len({name.casefold() for name in filed_as.values()}) == 3
    assert filed_as["PRICES.csv"] == "PRICES.csv"
    second = {name: price_list(first=number) for number, name in enumerate(first, 50)}
    for name, content in reversed(second.items()):
        world.leave(name, content, modified=time.time() + 5)
    assert world.run().name == "Filed"
    assert world.filed() == {filed_as[name]: content for name, content in second.items()}
    assert set(world.versions().values()) == {2}, "each is a new version of its own"


@pytest.mark.parametrize("name", LEGAL["awkward"])
def test_row_09_awkward_names_are_fetched_by_their_exact_bytes(name: bytes, visit: Visit) -> None:
    assert visit.fetched(name) == [hashlib.sha256(visit.content[name]).hexdigest()]
    assert [visit.content[name]] in visit.filed.values()
    assert name not in visit.left


def test_row_09_local_names_are_ours(visit: Visit) -> None:
    hexadecimal = set("0123456789abcdef")
    for name in visit.spooled:
        stem = name.partition(".")[0]
        assert set(stem) <= hexadecimal or stem in ("verdict", "facts", "content", "case", "lock"), f"{name} is not ours"


def test_row_10_a_name_of_255_bytes_goes_both_ways(visit: Visit, ground: Ground) -> None:
    assert visit.fetched(LONG) == [hashlib.sha256(visit.content[LONG]).hexdigest()]
    assert [visit.content[LONG]] in visit.filed.values(), "under a name that the target can hold"
    placed = ground.put([ground.outgoing(LONG, b"ours")])[LONG]
    assert isinstance(placed, Placed), "our temporary name is of our own length"
    assert ground.names() == {LONG}


def test_row_10_what_a_target_cannot_hold_is_a_clear_answer(ground: Ground) -> None:
    longer = b"x" * 300 + b".csv"
    answers = ground.put([ground.outgoing(longer, b"ours"), ground.outgoing(b"short.csv", b"ours")])
    refused = answers[longer]
    assert isinstance(refused, Missed)
    assert refused.outcome in (Outcome.REFUSED, Outcome.ILLEGAL_NAME)
    assert refused.reason
    assert isinstance(answers[b"short.csv"], Placed)
    assert ground.names() == {b"short.csv"}
    assert "300" in str(illegal(b"x" * 300))


def test_row_10_a_target_that_cuts_names_short_gets_nothing(server: Server, ground: Ground, tmp_path: Path) -> None:
    server.faults["cut-long-names"] = 100
    long, short = (crate(ground, tmp_path / "state", **{"p" * length: b"ours"}) for length in (120, 96))
    with pytest.raises(SendRefused, match=r"keeps 100 bytes of a name .* has 124. Nothing was sent. Give a shorter 'name'"):
        long.send()
    assert long.received() == {}
    assert [parcel.step for parcel in short.send()] == [Step.PROVEN]
    assert short.received() == {"p" * 96 + ".csv": b"ours"}


def test_row_10_a_target_that_changes_the_case_of_names_is_not_taken_for_one_that_has_collected(
    server: Server, ground: Ground, tmp_path: Path
) -> None:
    server.faults["upper-case"] = 1
    box = crate(ground, tmp_path / "state", p1=b"ours")
    with pytest.raises(SendRefused, match=r"changes the case of names: it would stand there as P1.CSV.* Agree on a 'name'"):
        box.send()
    assert not any(parcel.step in (Step.PLACED, Step.COLLECTED, Step.PROVEN) for parcel in box.parcels)
    assert "P1.CSV" not in box.received()


@pytest.mark.parametrize("name", LEGAL["active"])
def test_row_11_active_characters_do_nothing(name: bytes, visit: Visit) -> None:
    assert visit.filed[name.decode()] == [visit.content[name]], "neither template nor shell nor URL made anything of it"
    (row,) = [row for row in visit.table if row["file"] == literal(shown(name))]
    assert row["outcome"] == "filed"
    assert not any("pwned" in path.name for path in Path.cwd().iterdir())
    if set(name) & set(b"<|`"):
        assert row["file"].startswith("`"), "a code span: no markup"


def test_row_12_a_double_extension_is_refused_with_its_real_type(visit: Visit) -> None:
    case = visit.case(b"invoice.csv.exe")
    assert case["code"] == "double-extension"
    assert "ends in .exe" in case["reason"]
    assert "Windows program" in case["reason"]


def test_row_12_the_bytes_decide_and_not_the_name(visit: Visit) -> None:
    case = visit.case(b"disguised.csv")
    assert case["code"] == "program"
    assert "disguised.csv is a Windows program" in case["reason"]


def test_row_12_a_name_that_reads_backwards_is_shown_as_it_is(visit: Visit) -> None:
    case = visit.case(CONTROL[1])
    assert "evil\\u202evsc.exe.csv" in case["reason"]
    assert "direction" in case["reason"]


# --------------------------------------------------------------------------------------------- 13 to 18: listings and clocks


def test_row_13_without_mlsd_list_and_questions_tell_the_same(ftp: FtpSandbox, ftp_ground: Ground) -> None:
    long_ago = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
    ftp_ground.write(b"a.csv", b"x" * 1234, long_ago)
    ftp_ground.write(b" b c.csv ", b"y", long_ago + timedelta(days=9000))
    (ftp_ground.place / "folder").mkdir()
    whole = ftp_ground.look()
    ftp.faults["no-mlsd"] = 1
    assert {name: one for name, one in ftp_ground.look().items() if one.kind is FileKind.FILE} == {
        name: one for name, one in whole.items() if one.kind is FileKind.FILE
    }
    assert {command[0] for command in list(ftp.commands)[-20:]} >= {"LIST", "MDTM"}
    ftp.faults["no-mdtm"] = 1
    assert ftp_ground.look()[b"a.csv"] == replace(whole[b"a.csv"], modified=None), "no time is better than a guessed one"


@pytest.mark.parametrize("without", ["no-list", "mvs-list"])
def test_row_13_without_a_list_that_can_be_read_names_are_asked_for_one_by_one(
    without: str, ftp: FtpSandbox, ftp_ground: Ground
) -> None:
    ftp_ground.write(b"a.csv", b"x" * 1234, datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC))
    whole = ftp_ground.look()
    ftp.faults.update({"no-mlsd": 1, without: 1})
    ftp.commands.clear()
    assert ftp_ground.look() == whole
    assert {command[0] for command in ftp.commands} >= {"NLST", "SIZE", "MDTM"}


def test_row_13_how_a_server_lists_is_kept_in_its_personality(ftp_bay: Bay) -> None:
    ftp_bay.server.faults.update({"no-mlsd": 1, "no-list": 1})
    content = leave(ftp_bay, b"p1.csv", unlike())
    assert ftp_bay.run().name == "Filed"
    assert ftp_bay.filed() == {"p1.csv": [content]}
    (learned, *_) = ftp_bay.ledger.journey("personality.acme.drop")
    assert learned.body["personality"]["listing"].startswith("NLST")


def test_row_14_unread_lines_are_counted_shown_and_told_and_the_folder_goes_on(ftp_bay: Bay) -> None:
    ftp_bay.server.faults.update({"no-mlsd": 1, "mainframe-list": 1})
    content = leave(ftp_bay, b"p1.csv", unlike())
    with logged() as heard, overheard() as told_programs:
        first = ftp_bay.run()
        assert first.name == "Filed"
        assert ftp_bay.run().name == "Nothing new"
        [alert] = [one.payload for one in told_programs() if one.event == "countersign.intake.noticed"]
    assert alert["code"] == "unread-lines" and "3 lines of the server's listing" in alert["reason"]
    assert ftp_bay.filed() == {"p1.csv": [content]}
    assert any("3 lines" in line and "cannot be read" in line and "QSYS" in line for line in heard)
    (told,) = noticed(ftp_bay)
    assert told.body["code"] == "unread-lines", "one a day"
    assert "3 lines" in told.body["reason"]
    assert [row["outcome"] for row in tables(first)[0] if "unread-lines" in row["reason"]] == ["noticed"]


@pytest.mark.parametrize("form", ["dos-list", "german-list"])
def test_row_14_forms_of_list_that_are_known_are_read(form: str, ftp: FtpSandbox, ftp_ground: Ground) -> None:
    march = datetime(2026, 3, 5, 12, tzinfo=UTC)
    ftp_ground.write(b"a b.csv", b"x" * 77, march)
    whole = ftp_ground.look()
    ftp.faults.update({"no-mlsd": 1, form: 1})
    with ftp_ground.endpoint.session() as session:
        assert {file.name: file for file in session.look(ftp_ground.folder)} == whole
        assert session.unread.count == 0


@pytest.mark.parametrize("kind", ["MLSD", "LIST"])
def test_row_15_garbage_in_a_listing_is_counted_and_never_a_file(kind: str, ftp: FtpSandbox, ftp_ground: Ground) -> None:
    ftp_ground.write(b"a.csv", b"x")
    ftp.faults["odd-list"] = 1
    if kind == "LIST":
        ftp.faults["no-mlsd"] = 1
    with ftp_ground.endpoint.session() as session:
        assert [file.name for file in session.look(ftp_ground.folder)] == [b"a.csv"]
        assert session.unread.count >= 4
        assert "Welcome to our new server!" in session.unread.examples
        assert all(line.isprintable() for line in session.unread.examples)


def test_row_16_list_without_a_year_and_dates_to_come_decide_nothing(ftp_bay: Bay) -> None:
    ftp_bay.server.faults.update({"no-mlsd": 1, "no-mdtm": 1})
    now = time.time()
    for number, moment in enumerate((now + 300 * 86400, now - 40 * 86400, now - 20 * 365 * 86400)):
        path = ftp_bay.leave(f"{number}.csv", unlike())
        os.utime(path, (moment, moment))
    began = ftp_bay.ledger.now()
    assert ftp_bay.run().name == "Filed"
    assert len(ftp_bay.filed()) == 3
    arrived = [entry.body for entries in ftp_bay.histories().values() for entry in entries if entry.kind == "arrived"]
    assert {body["modified"] for body in arrived} == {None}, "the time of LIST is read by nobody"
    assert all(began <= datetime.fromisoformat(body["first_seen"]) <= ftp_bay.ledger.now() for body in arrived)


@pytest.mark.parametrize("off", [timedelta(days=4000), timedelta(days=-4000), timedelta(hours=5)], ids=str)
def test_row_17_a_file_is_settled_by_our_clock_whatever_the_servers_says(off: timedelta) -> None:
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    told = RemoteFile("/out", b"a.csv", 10, noon + off)
    settle = Settle(quiet=timedelta(seconds=30))
    still = Sighting("j", told, Stage.SIGHTED, noon, noon, noon + timedelta(seconds=30), 2)
    moved = replace(still, unchanged_since=noon + timedelta(seconds=20))
    assert ready([still], settle, ("*",), noon + timedelta(seconds=30)).ready == (still,)
    assert ready([moved], settle, ("*",), noon + timedelta(seconds=30)).ready == ()


def test_row_17_a_change_between_two_of_our_looks_is_seen_on_a_server_with_a_wrong_clock(bay: Bay) -> None:
    bay.agree(settle={"quiet": "PT1S"})
    future = time.time() + 4000 * 86400
    path = bay.leave("growing.csv", price_list(rows=1), modified=future)
    assert bay.run(patience_seconds=ONE_LOOK).name == "Nothing new"
    with path.open("ab") as writer:
        writer.write(b"00000091,Bolt,EUR,1.00,2026-12-01\n")
    os.utime(path, (future, future))
    whole = path.read_bytes()
    assert bay.run(patience_seconds=ONE_LOOK).name == "Nothing new", "its size changed, though its time did not"
    assert bay.run().name == "Filed"
    assert bay.filed() == {"growing.csv": [whole]}


def test_row_18_what_is_older_than_what_came_before_comes_in_too(bay: Bay) -> None:
    first = leave(bay, b"new.csv", unlike())
    assert bay.run().name == "Filed"
    contents = {"new.csv": [first]}
    for name, moment in (("old.csv", 981_173_106), ("older.csv", 3600)):
        contents[name] = [leave(bay, name.encode(), unlike())]
        os.utime(bay.out / name, (moment, moment))
    contents["new.csv"].append(leave(bay, b"new.csv", unlike()))
    os.utime(bay.out / "new.csv", (981_173_106, 981_173_106))
    assert bay.run().name == "Filed"
    assert bay.filed() == contents, "and the older time of a known name is another version"


# --------------------------------------------------------------------------------------------- 19 to 21: many, none, several


def test_row_19_a_long_listing_is_streamed_in_bounded_memory(openssh: OpenSsh, tmp_path: Path) -> None:
    """The conformance suite asks the same of every server, of this one with 100,000 files."""
    place = openssh.root / f"crowd-{uuid4().hex[:8]}"
    place.mkdir()
    agreed = Sftp(
        host=openssh.host,
        port=openssh.port,
        username=openssh.username,
        private_key=f"file:{openssh.private_key}",
        host_keys=(openssh.fingerprint,),
    )
    CHECKS["a_long_listing_takes_little_memory"](
        Ground(agreed, str(place), place, Spool(tmp_path / "spool", floor_bytes=0), crowd=10_000)
    )
    shutil.rmtree(place)


def test_row_19_of_a_hundred_thousand_files_a_run_holds_its_slice_the_oldest_first() -> None:
    """What lies between, the ledger's look at as many, is bounded in ``tests/ledger``."""
    count, most = 100_000, 500
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)

    def seen() -> Iterator[Sighting]:
        for number in range(count):
            first = noon - timedelta(seconds=number)
            file = RemoteFile("/out", f"a-name-of-usual-length-{number:06}.csv".encode(), 10, None)
            yield Sighting(f"j-{number}", file, Stage.SIGHTED, first, first, noon, 2)
            if number % 25_000 == 24_999:
                held.append(sum(isinstance(one, Sighting) for one in gc.get_objects()))

    held: list[int] = []
    found = ready(seen(), Settle(quiet=timedelta(0)), ("*.csv",), noon, most)
    assert (len(found.ready), found.later) == (most, count - most)
    assert [one.file.name[-10:] for one in found.ready[:2]] == [b"099999.csv", b"099998.csv"]
    assert max(held) < 3 * most, "what is not of this slice is not held"


def test_row_19_each_run_takes_its_slice_oldest_first_and_shows_how_far_it_is(bay: Bay) -> None:
    bay.agree(run_files=6, limits={"consignment_files": 2}, settle={"quiet": "PT0S"})
    for number in range(8):
        leave(bay, b"%d.csv" % number, unlike())
    bay.run(patience_seconds=ONE_LOOK)
    for number in range(3):
        leave(bay, b"0-newer-%d.csv" % number, unlike())
    with logged() as heard:
        assert bay.run().name == "Filed"
    assert set(bay.filed()) == {f"{number}.csv" for number in range(6)}, "the oldest, whatever they are called"
    assert any("6 of 11 ready files are taken now" in line and "5 wait" in line for line in heard)
    assert any("2 of 6 files of this run are done" in line for line in heard)
    assert bay.run().name == "Filed"
    assert len(bay.filed()) == 11
    assert bay.run().name == "Nothing new"


def test_row_20_one_empty_listing_is_not_taken_for_all_gone(bay: Bay) -> None:
    bay.agree(disposition={"accepted": "leave"})
    for number in range(3):
        leave(bay, b"%d.csv" % number, unlike())
    assert bay.run().name == "Filed"
    before = bay.kinds()
    bay.server.faults["empty-listing"] = 1
    assert bay.run().name == "Nothing new"
    assert bay.kinds() == before, "nothing was closed"
    assert [entry.body["code"] for entry in noticed(bay)] == ["folder-emptied"]
    assert bay.run().name == "Nothing new", "they stand there, and are known"
    assert len(bay.filed()) == 3
    assert all(len(versions) == 1 for versions in bay.filed().values())


def test_row_20_a_listing_that_breaks_off_is_an_error_and_changes_nothing(server: Server, ground: Ground) -> None:
    for number in range(50):
        ground.write(f"{number}.csv".encode())
    server.faults["lost-listing"] = 1
    with ground.endpoint.session() as session, pytest.raises(EndpointUnreachable):
        list(session.look(ground.folder))
    assert len(ground.look()) == 50


def test_row_21_of_two_workers_at_the_same_file_one_has_it(sftp_bay: Bay) -> None:
    files = [RemoteFile("/out", b"%d.csv" % number, 10, None) for number in range(20)]
    sftp_bay.ledger.sight("acme", "prices", files)
    journeys = [one.journey for one in sftp_bay.ledger.sightings("acme", "prices")]
    start, claimed = threading.Barrier(4), list[str]()

    def claim(worker: int) -> None:
        start.wait(120)
        for journey in journeys if worker % 2 else reversed(journeys):
            mine = sftp_bay.ledger.claim("acme", "prices", [journey], owner=f"worker {worker}", seconds=60)
            if mine is not None and mine[1]:
                claimed.append(journey)

    workers = [threading.Thread(target=claim, args=(worker,)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert sorted(claimed) == sorted(journeys), "each exactly once"


def test_row_21_the_loser_backs_off_and_goes_on_when_it_is_free(bay: Bay) -> None:
    content = leave(bay, b"p1.csv", unlike())
    bay.run(patience_seconds=ONE_LOOK)
    (first,) = bay.ledger.sightings("acme", "prices")
    held = bay.ledger.lease([f"journey:{first.journey}"], owner="somebody else", seconds=3600)
    assert held is not None
    assert bay.run().name == "Nothing new"
    assert not any("arrived" in kinds for kinds in bay.kinds()), "nothing was begun"
    bay.ledger.release(held)
    assert bay.run().name == "Filed"
    assert bay.filed() == {"p1.csv": [content]}


# --------------------------------------------------------------------------------------------- 22 to 25: what is no file for us


@pytest.mark.parametrize("name", [b"link.csv", b"loop.csv", b"linked"])
def test_row_22_a_link_is_recorded_and_never_followed(name: bytes, visit: Visit) -> None:
    assert visit.of(name) == []
    (notice,) = [one for one in visit.noticed("not-a-file") if base64.b64decode(one.body["name_b64"]) == name]
    assert "link" in notice.body["reason"]
    assert name in visit.left
    assert visit.outside["elsewhere"] == b"somebody else's"
    assert b"somebody else's" not in [content for versions in visit.filed.values() for content in versions]


def test_row_22_depth_and_number_are_bounded(ground: Ground) -> None:
    deep = ground.place / "sub" / "deeper"
    deep.mkdir(parents=True)
    (deep / "a.csv").write_bytes(b"x")
    (deep / "up").symlink_to(ground.place)
    assert set(ground.look()) == {b"sub"}, "no folder is entered but the one that was agreed"
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    links = [
        Sighting(f"j-{number}", RemoteFile("/out", b"%d" % number, 0, None, FileKind.LINK), Stage.SIGHTED, noon, noon, noon, 1)
        for number in range(5 * MOST)
    ]
    readiness = ready(links, Settle(), ("*",), noon)
    assert len(notices(readiness, Unread(), False, inbound(), noon)) == MOST


@pytest.mark.parametrize("name", [b"pipe.csv", b"socket.csv"])
def test_row_23_pipes_and_sockets_are_recorded_and_never_opened(name: bytes, visit: Visit) -> None:
    assert visit.of(name) == []
    (notice,) = [one for one in visit.noticed("not-a-file") if base64.b64decode(one.body["name_b64"]) == name]
    assert "device, pipe or socket" in notice.body["reason"]
    assert name in visit.left


def test_row_23_where_no_kind_is_told_size_and_reading_decide(server: Server, ground: Ground) -> None:
    server.faults["no-kinds"] = 1
    ground.write(b"a.csv", b"content")
    seen = ground.look()
    assert seen[b"a.csv"].kind is FileKind.FILE
    answers = ground.fetch(seen.values())
    assert ground.holds(answers[b"a.csv"]) == b"content"


@pytest.mark.parametrize("what", ["folder", "pipe"])
def test_row_23_what_turns_out_to_be_no_file_holds_nobody_up(what: str, server: Server, ground: Ground) -> None:
    place = ground.place / "odd.csv"
    place.mkdir() if what == "folder" else os.mkfifo(place)
    ground.write(b"a.csv", b"content")
    told = place.lstat()
    lied = RemoteFile(ground.folder, b"odd.csv", told.st_size, datetime.fromtimestamp(int(told.st_mtime), UTC))
    began = time.monotonic()
    answers = ground.fetch([lied, ground.look()[b"a.csv"]])
    odd = answers[b"odd.csv"]
    assert isinstance(odd, Missed)
    assert odd.outcome is Outcome.NOT_A_FILE
    assert ground.holds(answers[b"a.csv"]) == b"content"
    assert time.monotonic() - began < 60, "under a deadline"


def test_row_24_a_folder_with_a_files_name_is_told_by_a_code(visit: Visit) -> None:
    (notice,) = [one for one in visit.noticed("not-a-file") if base64.b64decode(one.body["name_b64"]) == b"folder.csv"]
    assert "is a folder" in notice.body["reason"]
    (row,) = [row for row in visit.table if row["file"] == "folder.csv"]
    assert (row["outcome"], row["reason"].strip("`").partition(":")[0]) == ("noticed", "not-a-file")
    assert visit.states[0].startswith("Filed"), "and no run failed for it"


def test_row_24_a_file_where_our_folder_should_be_is_a_clear_error(ground: Ground) -> None:
    ground.write(b"drop", b"a file")
    folder = f"{ground.folder}/drop"
    with ground.endpoint.session() as session:
        with pytest.raises(EndpointError, match="drop"):
            list(session.look(folder))
        assert [file.name for file in session.look(ground.folder)] == [b"drop"], "the session goes on"


def test_row_24_a_file_that_became_a_folder_is_a_case_with_a_code(bay: Bay) -> None:
    leave(bay, b"p1.csv", b"")
    bay.agree(settle={"quiet": "PT0S"})
    content = leave(bay, b"p2.csv", unlike())
    bay.run(patience_seconds=ONE_LOOK)
    (bay.out / "p1.csv").unlink()
    (bay.out / "p1.csv").mkdir()
    assert bay.run().name == "Filed"
    assert bay.filed() == {"p2.csv": [content]}
    assert [entry.body["code"] for entry in noticed(bay)] == ["not-a-file"]


@pytest.mark.parametrize("name", [b".hidden.csv", b"upload.csv.part", b"~$lock.csv"])
def test_row_25_temporary_names_are_left_alone_shown_and_told_when_old(name: bytes, visit: Visit) -> None:
    assert visit.of(name) == []
    assert name in visit.left
    assert "left alone: 3 temporary names, such as" in visit.log
    (notice,) = [one for one in visit.noticed("abandoned-upload") if base64.b64decode(one.body["name_b64"]) == name]
    assert "Ask the partner" in notice.body["reason"], "a hint what to do"
    assert [row["outcome"] for row in visit.table if row["file"] == literal(shown(name))] == ["noticed"]
    assert sum(row["file"] == literal(shown(name)) for table in visit.tables for row in table) == 1, "once"


def test_row_25_a_young_one_raises_no_hint() -> None:
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    part = RemoteFile("/out", b"a.part", 3, None)
    readiness = ready([Sighting("j", part, Stage.SIGHTED, noon, noon, noon, 1)], Settle(), ("*",), noon)
    told = [notices(readiness, Unread(), False, inbound(), noon + timedelta(hours=hours)) for hours in (23, 25)]
    assert [[notice.code for notice in found] for found in told] == [[], ["abandoned-upload"]]
    assert set(Settle().exclude) >= {".*", "*.part", "*.tmp", "~$*"}, "the list by default"


# --------------------------------------------------------------------------------------------- any name, any listing

SEGMENT = st.binary(min_size=1, max_size=255).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b".."))


@settings(max_examples=8, deadline=None, derandomize=True)
@given(names=st.lists(SEGMENT, min_size=8, max_size=16, unique=True), data=st.binary(min_size=1, max_size=40))
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_any_name_is_listed_fetched_and_removed_by_its_exact_bytes(
    protocol: str, servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory, names: list[bytes], data: bytes
) -> None:
    if protocol == "ftp":
        names = [name for name in names if not set(name) & set(b"\r\n")]  # FTP cannot carry them
    ground = ground_at(servers[protocol], tmp_path_factory.mktemp("spool"))
    for name in names:
        ground.write(name, data + name)
    seen = ground.look()
    assert set(seen) == set(names)
    answers = ground.fetch(seen.values())
    assert {name: ground.holds(answer) for name, answer in answers.items()} == {name: data + name for name in names}
    with ground.endpoint.session() as session:
        assert {gone.outcome for gone in session.remove(seen.values())} <= {Outcome.DONE}
    assert ground.names() == set()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_a_shown_name_is_harmless_and_tells_names_apart(name: bytes, other: bytes) -> None:
    for one in (shown(name), shown(other)):
        assert all(char.isprintable() and unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in one)
    assert (shown(name) == shown(other)) == (name == other)


@pytest.mark.parametrize("point", [0x80, 0x85, 0x9F, 0xA0, 0xAD])
def test_a_byte_and_the_character_of_its_number_are_shown_apart(point: int) -> None:
    assert shown(bytes([point])) != shown(chr(point).encode())


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(min_size=1, max_size=30))
def test_accents_and_case_fold_to_one(name: str) -> None:
    assert folded(unicodedata.normalize("NFC", name)) == folded(unicodedata.normalize("NFD", name))
    assert folded(folded(name)) == folded(name)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 10**6)), max_size=60, unique=True), st.integers(1, 20))
def test_a_slice_is_always_the_oldest(seen: list[tuple[int, int]], most: int) -> None:
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    sightings = []
    for second, number in seen:
        first = noon + timedelta(seconds=second)
        file = RemoteFile("/out", b"%07d" % number, 1, None)
        sightings.append(Sighting(f"j-{second}-{number}", file, Stage.SIGHTED, first, first, noon + timedelta(hours=1), 2))
    found = ready(sightings, Settle(quiet=timedelta(0)), ("*",), noon + timedelta(hours=1), most)
    oldest = sorted(sightings, key=lambda one: (one.first_seen, one.file.name))
    assert list(found.ready) == oldest[:most]
    assert found.later == max(0, len(seen) - most)


NAME = st.binary(min_size=1, max_size=40).filter(lambda name: not set(name) & set(b"\r\n\0/") and name not in (b".", b".."))
GARBAGE = st.binary(max_size=60).filter(lambda line: b"\n" not in line and odd_to_both(line))


def odd_to_both(line: bytes) -> bool:
    for parse in (list_line, mlsd_line):
        try:
            parse(line.removesuffix(b"\r"))
        except ValueError:
            continue
        return False
    return True


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.one_of(NAME.map(lambda name: (True, name)), GARBAGE.map(lambda line: (False, line))), max_size=20))
def test_whatever_stands_between_them_the_entries_of_a_listing_are_found_and_no_others(lines: list[tuple[bool, bytes]]) -> None:
    for form, parse in (
        (b"-rw-r--r--   1 owner group           12 Nov 21 11:13 %b\r\n", list_line),
        (b"type=file;size=12;modify=20261121111300; %b\r\n", mlsd_line),
    ):
        told = [one for one, _ in entries([form % text if good else text + b"\r\n" for good, text in lines], parse)]
        assert [one.name for one in told if isinstance(one, Entry)] == [text for good, text in lines if good]
        assert sum(isinstance(one, Odd) for one in told) == sum(not good for good, _ in lines)
