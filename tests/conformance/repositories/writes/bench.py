"""What a row of ``writes`` is made of, and the place where it is tried."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

import httpx
import pytest

from blocks.repositories import otcs_wire
from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.repositories.lines import Answer, Lines, Said
from blocks.repositories.routines import Routine
from blocks.values import Filing
from tests.conformance.pyxecm.wire import Wire
from tests.conformance.repositories.enrolment import block
from tests.sandbox.extended_ecm import ExtendedEcmSandbox

_numbers = itertools.count(1)

LARGE_UPLOAD = {"min_size": 1024**2, "max_size": 2 * 1024**2, "part_size": 700_000}
"""For the seed: what is filed in parts. ``filing`` calls something larger large, which goes in one piece."""


AWAY, HUNG_UP = "lost answer, and then away", "hung up in mid-upload"
FAULTS: Mapping[str, Mapping[str, float]] = {
    "401 in mid-upload": {"write-401": 1},
    "500 with a page": {"write-500": 1},
    "a burst of 503": {"write-503": 3},
    HUNG_UP: {"write-drop": 1},
    "slow, and goes on": {"write-stall": 1},
    "comes late, after one look": {"write-late": 1, "late-calls": 1},
    "lost answer": {"lost-answer": 1},
    "500 after it was done": {"write-500-after": 1},
    "503 after it was done": {"write-503-after": 1},
    "half an answer": {"write-cut": 1},
    AWAY: {"lost-answer": 1, "away-after": 1},
}
OFTEN = ("401 in mid-upload", "500 with a page", "a burst of 503", "slow, and goes on", "lost answer", "half an answer")
"""Faults that every run of the tests brings. The others look to us like one of these most of the time: they are for the long campaigns
(``make soak``)."""
ONE_OF_A_KIND = ("a burst of 503", "lost answer")
"""Nothing was done, and it was done: what every run brings to rows that cost much and whose calls other rows make too."""
READ_FAULTS: Mapping[str, Mapping[str, float]] = {
    "401": {"read-401": 1},
    "500 with a page": {"read-500": 1},
    "a burst of 503": {"read-503": 3},
    "hung up": {"read-drop": 1},
    "slow, and goes on": {"read-stall": 1},
    "half an answer": {"read-cut": 1},
}


@dataclass(eq=False)
class Bench:
    """A running sandbox in this process, a session of ours at it, and bare HTTP to prepare and to look past our client."""

    sandbox: ExtendedEcmSandbox
    session: ExtendedEcmSession
    wire: Wire
    files: Path

    def unique(self, name: str) -> str:
        """A name that no other row and no other turn has."""
        return f"{name} {next(_numbers)}"

    def folder(self) -> int:
        """A new folder below the root."""
        return self.wire.folder(self.unique("folder"))

    def document(self, content: bytes = b"bytes") -> int:
        """A new document in a folder of its own."""
        return self.wire.document("document.txt", content, self.folder())

    def file(self, content: bytes = b"bytes") -> Path:
        """A file on our disk."""
        path = self.files / f"{next(_numbers)}"
        path.write_bytes(content)
        return path

    def filing(self, name: str, folder: str, content: bytes = b"bytes", **more: Any) -> Filing:
        path, digest = self.file(content), hashlib.sha256(content).hexdigest()
        return Filing(self.unique("journey"), name, (folder,), path, digest, len(content), "text/plain", **more)

    def ask(self, path: str, **query: Any) -> Any:
        """What the interface itself says."""
        answer = self.wire.http.get(f"/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def tell(self, method: str, path: str, **values: Any) -> Any:
        """Change something past our client."""
        answer = self.wire.http.request(method, f"/{path}", data={"body": json.dumps(values)})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def names_in(self, folder: int) -> list[str]:
        """What stands in a folder: doubles show."""
        return sorted(entry["data"]["properties"]["name"] for entry in self.ask(f"v2/nodes/{folder}/nodes")["results"])

    def count(self, kind: str) -> int:
        """How many calls that change something (``writes``) or nothing (``reads``) there were."""
        return self.sandbox.stats[kind]

    @contextmanager
    def fault(self, faults: Mapping[str, float], spared: int) -> Iterator[None]:
        """Misbehave at our session's call after so many of its kind. One that stalls is given up after a short time.

        At the end everything that the server was to do late is done.
        """
        kind = "reads" if any(name.startswith("read-") for name in faults) else "writes"
        patched = pytest.MonkeyPatch()
        if stall := next((name for name in faults if name.endswith("-stall")), ""):
            self._be_impatient(patched, stall, lambda: self.sandbox.faults[stall] >= 1 > self.sandbox.faults[f"spare-{kind}"])
        self.sandbox.faults.set({**faults, f"spare-{kind}": spared})
        try:
            yield
        finally:
            patched.undo()
            now = self.sandbox.faults
            self.left = {name: now[name] for name in now.COUNTED if now[name]}
            self.struck = any(now[name] < faults[name] for name in now.COUNTED if name in faults)
            now.set(dict.fromkeys(now.as_dict(), 0))
            while self.count("write-late") > self.count("came late"):
                self.ask("v1/serverinfo")

    def _be_impatient(self, patched: pytest.MonkeyPatch, stall: str, struck: Callable[[], bool]) -> None:
        """Give up after a short time the one call that the server will not answer, and no other: a busy machine is slow too.

        The server is done with it before we go on.
        """
        ours = ContextVar("ours", default=False)
        send, say, hear = httpx.Client.send, Lines.say, Lines.hear
        stalling = dict[Said, int]()

        def marked(verb: Callable[..., Routine[Any]]) -> Callable[..., Routine[Any]]:
            def called(*arguments: Any, **more: Any) -> Routine[Any]:
                routine = verb(*arguments, **more)
                with alone:
                    while True:
                        token = ours.set(True)
                        try:
                            next(routine)
                        except StopIteration as stop:
                            return stop.value
                        finally:
                            ours.reset(token)
                        yield

            return called

        @contextmanager
        def download(*arguments: Any, **more: Any) -> Iterator[httpx.Response]:
            token = ours.set(True)
            try:
                with original(*arguments, **more) as response:
                    yield response
            finally:
                ours.reset(token)

        def impatient(client: httpx.Client, request: httpx.Request, **more: Any) -> httpx.Response:
            if not ours.get():
                return send(client, request, **more)
            with alone:
                if not struck():
                    return send(client, request, **more)
                request.extensions["timeout"]["read"] = 0.05
                before = self.count("went on")
                try:
                    return send(client, request, **more)
                except httpx.ReadTimeout:
                    done(before)
                    raise

        def impatient_say(lines: Lines, *arguments: Any) -> Said:
            hit = ours.get() and struck()
            on_its_way = say(lines, *arguments)
            if hit:
                on_its_way.line.sock.settimeout(0.05)
                stalling[on_its_way] = self.count("went on")
            return on_its_way

        def impatient_hear(lines: Lines, said: Said) -> Answer:
            try:
                return hear(lines, said)
            except TimeoutError:
                said.line.close()  # as is done next anyway; the server goes on when it sees that
                done(stalling[said])
                raise

        def done(before: int) -> None:
            until = time.monotonic() + 300
            while self.count("went on") == before and time.monotonic() < until:
                time.sleep(0.002)

        alone = RLock()  # of several threads of ours one calls at a time: so it is known which call is struck
        original = otcs_wire.Wire.download
        if stall == "read-stall":
            patched.setattr(otcs_wire.Wire, "asking", marked(otcs_wire.Wire.asking))
            patched.setattr(otcs_wire.Wire, "download", download)
        else:
            patched.setattr(otcs_wire.Wire, "writing", marked(otcs_wire.Wire.writing))
        patched.setattr(httpx.Client, "send", impatient)
        patched.setattr(Lines, "say", impatient_say)
        patched.setattr(Lines, "hear", impatient_hear)

    left: dict[str, float] = field(default_factory=dict)
    """Faults of the last ``fault`` that met nothing."""
    struck: bool = False
    """Whether the last ``fault`` met anything."""


@dataclass(frozen=True, slots=True)
class Write:
    """One verb of ours that changes something, and how to tell what came of it."""

    name: str
    prepare: Callable[[Bench], Any]
    """What must be there before; the others are given its answer."""
    act: Callable[[ExtendedEcmSession, Any], object]
    stands: Callable[[Bench, Any], object]
    """What stands at the server, told without ids and dates, so that two turns compare and doubles show."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Name of a fault -> why looking cannot tell after it, so that ``OutcomeUnknown`` is the right answer."""
    often: Collection[str] = OFTEN
    """The faults that it meets in every run, each on each of its calls that change something. The others it meets in ``make soak``."""
    half: Callable[[Bench, Any], object] = lambda *_: False
    """True for what may stand half-done where a person is left to look. Nothing is doubled then either."""
    long: bool = False
    """It makes many calls: in every run each of them meets every other fault, except those of ``unknown``."""


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """What stands before and after a write that met no fault, and which of its calls change something and nothing."""

    before: object
    stands: object
    writes: int
    looks: Sequence[str]
    """What each of its questions is about, in order."""


def measured(bench: Bench, write: Write) -> Undisturbed:
    """Makes a write that meets no fault."""
    given = write.prepare(bench)
    before = write.stands(bench, given)
    writes = bench.count("writes")
    with asked() as looks:
        write.act(bench.session, given)
    return Undisturbed(before, write.stands(bench, given), bench.count("writes") - writes, looks)


@contextmanager
def asked() -> Iterator[list[str]]:
    """Our calls that change nothing, as they are made: ``GET v2/nodes/{}``."""
    found = list[str]()

    def told(ask: Callable[..., Any]) -> Callable[..., Any]:
        def called(wire: otcs_wire.Wire, what: str, method: str, path: str, **more: Any) -> Any:
            found.append(re.sub(r"\b\d+\b", "{}", f"{method} {path}"))
            return ask(wire, what, method, path, **more)

        return called

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(otcs_wire.Wire, "asking", told(otcs_wire.Wire.asking))
        yield found


@contextmanager
def benched(place: Path, seed: Mapping[str, Any]) -> Iterator[Bench]:
    """A bench of its own in an empty folder."""
    sandbox = ExtendedEcmSandbox(place / "ecm", seed=seed).start()
    (place / "files").mkdir()
    try:
        with block(sandbox.described()).session() as session, Wire(sandbox.described()) as wire:
            yield Bench(sandbox, session, wire, place / "files")
    finally:
        sandbox.stop()


@dataclass(frozen=True, slots=True)
class Read:
    """One verb of ours that changes nothing, and what it tells."""

    name: str
    prepare: Callable[[Bench], Any]
    tell: Callable[[ExtendedEcmSession, Any], object]
    """Told so that two answers to the same question compare."""
