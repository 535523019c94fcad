"""Every verb that changes something at File 360 meets faults on each side of each of its calls; so do its questions.

As ``test_faults.py`` has it for Extended ECM, with 429 and ``Retry-After`` besides. In every run the filings meet what looks like
something of its own, the other verbs what was done and what was not; the rest is for ``make soak``.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType
from typing import Any

import httpx
import pytest

from blocks.errors import OutcomeUnknown, RepositoryError
from blocks.repositories.file360 import File360Session
from blocks.spool import Spool
from blocks.values import Collision, Filed, Filing, FolderTree, Grant, NotFiled, Right
from tests.conformance.repositories.enrolment import file360_block
from tests.conformance.repositories.writes.bench import (
    AWAY,
    FAULTS,
    HUNG_UP,
    OFTEN,
    READ_FAULTS,
    Bench,
    Undisturbed,
    Write,
    measured,
)
from tests.sandbox.file360 import File360Sandbox

BUSY = "429 with Retry-After"
ALL = {**FAULTS, BUSY: {"write-429": 2, "retry-after": 0.01}}
READS = {**READ_FAULTS, BUSY: {"read-429": 2, "retry-after": 0.01}}
FEW = ("lost answer", "slow, and goes on", BUSY)
MAYBE = {HUNG_UP: "nothing keeps a version from being added twice, and a server that has the whole call may still be at it"}


class File360Bench(Bench):
    """Bare HTTP at File 360 where the sandbox's own bench has that of Extended ECM."""

    def ask(self, path: str, **query: Any) -> Any:
        return super().ask("api/v1/users/me" if path == "v1/serverinfo" else path, **query)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    place = tmp_path_factory.mktemp("file360")
    (place / "files").mkdir()
    sandbox = File360Sandbox(place / "data").start()
    form = {"grant_type": "client_credentials", "client_id": sandbox.CLIENT, "client_secret": "countersign-secret"}
    try:
        with file360_block(sandbox.described()).session() as session, Bare(sandbox.url) as wire:
            token = wire.http.post("/otdsws/oauth2/token", data=form).json()["access_token"]
            wire.http.headers["Authorization"] = f"Bearer {token}"
            yield File360Bench(sandbox, session, wire, place / "files")  # type: ignore[arg-type]
    finally:
        sandbox.stop()


class Bare:
    """Bare HTTP, to look past our client."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def __enter__(self) -> Bare:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Undisturbed]:
    """By the name of a write; filled as it is asked for."""
    return {}


@pytest.fixture(autouse=True)
def _no_long_pauses(short_pauses: None) -> None:
    """The server is back at once."""


# --------------------------------------------------------------------------------------------- the verbs


def new(bench: Bench) -> Filing:
    return bench.filing("one.txt", bench.unique("Filed"), categories={"Partner Document": {"Partner ID": "4711"}})


def version(bench: Bench) -> Filing:
    folder = bench.unique("Filed")
    file(bench.session, bench.filing("one.txt", folder, b"earlier"))
    return bench.filing("one.txt", folder)


def beside(bench: Bench) -> Filing:
    folder = bench.unique("Filed")
    file(bench.session, bench.filing("one.txt", folder, b"of another journey"))
    return bench.filing("one.txt", folder, collision=Collision.KEEP_BOTH)


def large(bench: Bench) -> Filing:
    return bench.filing("one.txt", bench.unique("Filed"), bytes(3 * 1024 * 1024))


TEAM = (Grant(who="Marketing"), Grant(who="admin@example.com", right=Right.EDIT))


def given(bench: Bench) -> Filing:
    return bench.filing("one.txt", bench.unique("Given"), access=TEAM)


def file_once_given(session: Any, filing: Filing) -> None:
    file(session, filing)


def tree(bench: Bench) -> FolderTree:
    """A workspace of two folders, one in the other."""
    access = {(): TEAM, ("Contracts",): (), ("Contracts", "Signed"): (Grant(who="sender@example.com"),)}
    folder = bench.unique("Cases")
    return FolderTree(f"j-{folder}", (folder,), "case 88", access)


def laid_out(bench: Bench) -> FolderTree:
    wanted = tree(bench)
    bench.session.lay_out(wanted, resumed=False)
    return wanted


def lay_out(session: Any, wanted: FolderTree) -> None:
    made = session.lay_out(wanted, resumed=True)
    assert not isinstance(made, NotFiled), made


def admit(session: Any, wanted: FolderTree) -> None:
    made = session.lay_out(wanted, resumed=True)
    assert session.admit(wanted, made) is None


def tree_stands(bench: Bench, wanted: FolderTree) -> object:
    """Names of all folders, and who was given which: doubles show."""

    def inside(path: tuple[str, ...]) -> object:
        found = bench.session.find(path[:-1], path[-1])
        if found is None:
            return None
        told = bench.ask(f"api/v1/folders/{found.id}/collaborators")
        given = sorted((one.get("email") or one["name"], one["role"]) for one in told)
        return given, [(kept.name, kept.container and inside((*path, kept.name))) for kept in bench.session.look(path)]

    return inside(wanted.folder)


def given_stands(bench: Bench, filing: Filing) -> object:
    return stands(bench, filing), tree_stands(bench, FolderTree("", filing.folder, "", {(): ()}))


def file(session: Any, filing: Filing) -> Filed:
    [answer] = session.file([filing])
    assert isinstance(answer, Filed), answer
    return answer


def filed(bench: Bench) -> Filed:
    return file(bench.session, new(bench))


def held(bench: Bench) -> Filed:
    document = filed(bench)
    bench.session.apply_hold(document.id, "Case")
    return document


def stands(bench: Bench, filing: Filing) -> object:
    """Names and sizes of all versions in the folder, and which the journey made: doubles show."""
    folder = bench.session.find((), filing.folder[0])
    if folder is None:
        return None
    told = bench.ask(f"api/v1/folders/{folder.id}/children")
    return sorted(
        (one["name"], tuple(version["size"] for version in versions), tuple(by == filing.journey for by in made))
        for one in told
        for versions in [bench.ask(f"api/v1/documents/{one['id']}/versions")]
        for made in [bench.session.filed_by(one["id"])]
    )


def document_stands(bench: Bench, document: Filed) -> object:
    told = bench.ask(f"api/v1/documents/{document.id}")
    holds = [] if told["isDeleted"] else [hold["name"] for hold in bench.ask(f"api/v1/documents/{document.id}/holds")]
    return told["isDeleted"], len(told["locks"]), holds, told["commentCount"]


def folder_stands(bench: Bench, document: Filed) -> object:
    folder = bench.session.find((), document.folder[0])
    assert folder is not None
    return bench.ask(f"api/v1/folders/{folder.id}")["retention"]


def remove(session: Any, document: Filed) -> None:
    session.remove(document.id, session.filed_by(document.id))


def locked(bench: Bench) -> Filed:
    document = filed(bench)
    assert bench.wire.http.put(f"/api/v1/documents/{document.id}/lock").is_success
    return document


COMMENT: Mapping[str, str] = {
    HUNG_UP: "two people may write the same, and a server that has the whole call may still be at it",
    "comes late, after one look": "the same",
    AWAY: "where looking fails too, nobody can tell, and a comment is not written twice",
}
WRITES: Mapping[str, Write] = {
    write.name: write
    for write in (
        Write("file a document", new, file, stands),
        Write("file a version", version, file, stands, MAYBE),
        Write("file beside another", beside, file, stands, often=FEW),
        Write("file a large document", large, file, stands, often=(HUNG_UP, "401 in mid-upload", "lost answer", BUSY)),
        Write("file into a given folder", given, file_once_given, given_stands, often=("lost answer",)),
        Write("lay out a workspace", tree, lay_out, tree_stands, often=("lost answer", "comes late, after one look")),
        Write("admit to a workspace", laid_out, admit, tree_stands, often=("lost answer",)),
        Write("remove a document", filed, remove, document_stands, often=(*FEW, "comes late, after one look")),
        Write("apply a hold", filed, lambda s, one: s.apply_hold(one.id, "Case", "why"), document_stands, often=FEW),  # type: ignore[arg-type]
        Write("lift a hold", held, lambda s, one: s.lift_hold(one.id, "Case"), document_stands, often=FEW),
        Write("let a document stand", locked, lambda s, one: s.let_stand(one.id), document_stands, often=FEW),
        Write(
            "write a comment",
            filed,
            lambda s, one: s.comment(one.id, "seen"),  # type: ignore[attr-defined]
            document_stands,
            COMMENT,
            often=FEW,
        ),
        Write("remark on a document", filed, lambda s, one: s.remark(one.id, "seen"), document_stands, COMMENT, often=()),  # type: ignore[arg-type]
        Write("rule a folder", filed, lambda s, one: s.retain(one.folder, "keep", 9), folder_stands, often=FEW),  # type: ignore[attr-defined]
    )
}


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        pytest.param(
            name, fault, marks=[] if fault in (*write.often, *((BUSY,) if write.often is OFTEN else ())) else pytest.mark.soak
        )
        for name, write in WRITES.items()
        for fault in ALL
    ],
)
def test_nothing_is_lost_and_nothing_doubled(bench: Bench, undisturbed: dict[str, Undisturbed], name: str, fault: str) -> None:
    write = WRITES[name]
    if name not in undisturbed:
        undisturbed[name] = measured(bench, write)
    wanted = undisturbed[name]
    assert wanted.writes, f"{name!r} changes nothing"
    assert wanted.before != wanted.stands, f"{name!r}: what stands does not tell whether it was done"
    for spared in range(wanted.writes):
        where = f"{fault}, call {spared + 1} of {wanted.writes}"
        given, again, unknown = write.prepare(bench), False, False
        with bench.fault(ALL[fault], spared):
            try:
                write.act(bench.session, given)
            except OutcomeUnknown:
                unknown = True
            except RepositoryError as error:
                assert error.worth_retrying, f"{where}: {error!r}"
                assert bench.sandbox.url in str(error), f"the error does not say where: {error}"
                again = True
        assert bench.struck and (unknown or not bench.left), f"{where}: this fault met nothing"
        assert not unknown or fault in write.unknown, f"{where}: left to a person"
        if again:
            try:
                write.act(bench.session, given)
            except RepositoryError:
                assert write.stands(bench, given) == wanted.stands, where  # done, and whoever says it again is told so
        now = write.stands(bench, given)
        assert now == wanted.stands or (unknown and now in (wanted.before, wanted.stands)), f"{where}: {now}"


# --------------------------------------------------------------------------------------------- the questions


def fetched(session: Any, given: Filed) -> object:
    with tempfile.TemporaryDirectory() as place, Spool(Path(place), floor_bytes=0).batch() as batch:
        return session.fetch(given.id, None, batch).digest


def examined(session: Any, given: Filed) -> object:
    with tempfile.TemporaryDirectory() as place, Spool(Path(place), floor_bytes=0).batch() as batch:
        return session.examine(given.id, given.version, batch)


def folder_id(session: Any, given: Filed) -> str:
    folder = session.find((), given.folder[0])
    assert folder is not None
    return str(folder.id)


SINCE = datetime(2026, 1, 1, tzinfo=UTC)
QUESTIONS: Mapping[str, Callable[[Any, Filed], object]] = {
    "fetch": fetched,
    "examine": examined,
    "get": lambda session, one: session.get(one.id),
    "find": lambda session, one: session.find(one.folder, one.name),
    "look": lambda session, one: list(session.look(one.folder)),
    "filed by": lambda session, one: session.filed_by(one.id),
    "holds": lambda session, one: session.holds(one.id),
    "history": lambda session, one: [event for event in session.history(one.id) if event.event == "Create"],
    "search": lambda session, one: list(session.search(name=one.name)),
    "comments": lambda session, one: session.comments(one.id),
    "changes": lambda session, one: [change for change in session.changes(one.folder) if change.event == "Create"],
    "trail of a folder": lambda session, one: [event.id for event in session.trail(folder_id(session, one), "folder")],
    "named by": lambda session, one: session.named_by(folder_id(session, one)),
    "workspace": lambda session, one: session.workspace(folder_id(session, one)),
    "describe": lambda session, one: list(session.describe(one.folder)),
    "rule": lambda session, one: [session.rule(one.folder)],
    "was removed": lambda session, one: [session.was_removed(one.id, SINCE)],
    "shown outside": lambda session, one: [session.shown_outside(one.id)],
    "reached from": lambda session, one: [session.reached_from(folder_id(session, one))],
}
UNTRIED = {
    "close": "signs out; a token that is not given back runs out",
    "me": "asked once in a session, by the writes that need it: their faults meet it",
}
"""Verb -> why it needs no row."""


def names(code: CodeType) -> Iterator[str]:
    """What a function, with those inside it, says by name."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from names(inner)


def test_every_verb_of_file_360_has_a_row() -> None:
    """Found in the client itself, not in a list: a new verb that meets no fault fails here."""
    verbs = {name for name, verb in vars(File360Session).items() if inspect.isfunction(verb) and not name.startswith("_")}
    rows = (*(write.act for write in WRITES.values()), *QUESTIONS.values())
    tried = {name for row in rows for name in names(row.__code__)}  # type: ignore[attr-defined]
    assert len(verbs) > 20, "the client is not found any more"
    assert sorted(verbs - tried - UNTRIED.keys()) == [], "verbs without a row"
    assert UNTRIED.keys() <= verbs - tried, "a verb that has a row by now"


@pytest.mark.parametrize(
    "question",
    [pytest.param(name, marks=[] if name in ("fetch", "examine", "find") else pytest.mark.soak) for name in QUESTIONS],
)
def test_a_question_is_answered_all_the_same(bench: Bench, question: str) -> None:
    ask, given = QUESTIONS[question], held(bench)
    session: File360Session = bench.session  # type: ignore[assignment]
    session.comment(given.id, "seen")
    ask(session, given)
    before = bench.count("reads")
    wanted = ask(session, given)
    calls = bench.count("reads") - before
    assert wanted and calls
    for fault, faults in READS.items():
        for spared in range(calls):
            with bench.fault(faults, spared):
                assert ask(session, given) == wanted, f"{fault}, call {spared + 1} of {calls}"
            assert not bench.left, f"{fault}, call {spared + 1} of {calls}: this fault met nothing"
