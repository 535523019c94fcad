"""Trying the endpoints of this installation on rogue servers: real sessions, a real spool and ledger in a temporary folder.

A trial leaves files at a server, makes it misbehave, lets an endpoint's session work, and claims what must be true of what was told
and of what stands there then. ``trials`` has them all; ``trial_claims`` the claims.
"""

from __future__ import annotations

import os
import random
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from blocks.endpoints.base import Endpoint, EndpointSession
from blocks.errors import CountersignError, EndpointUnreachable
from blocks.ledger import Ledger
from blocks.spool import Batch, Spool, SpoolFile
from blocks.values import Exists, Move, Outgoing, RemoteFile, shown
from deployments.rogue import KINDS, Rogue, Rogues
from deployments.trial_claims import Answer, Told

MIB = 1024 * 1024
LONGEST_SECONDS = 60.0
"""A trial that takes longer has failed: a session must never wait for ever."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One way in which a partner's server misbehaves, and what must happen then."""

    name: str
    rows: tuple[int, ...]
    """Of the list of hostile partner inputs."""
    over: tuple[str, ...]
    """The protocols in which it can be shown."""
    must: str
    """In a sentence."""
    act: Callable[[Stage], Iterator[str]]


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one trial over one protocol."""

    trial: Trial
    protocol: str
    shortfalls: tuple[str, ...]
    """What was not as it must be; empty: it passed."""
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.shortfalls


def try_all(rogues: Rogues, trials: Iterable[Trial], longest_seconds: float = LONGEST_SECONDS) -> Iterator[Tried]:
    """Each trial, over its protocols at once: much of it is waiting, and each has a server of its own."""
    with ThreadPoolExecutor(len(KINDS)) as pool:
        for trial in trials:
            yield from pool.map(partial(_tried, rogues, trial, longest_seconds), trial.over)


def _tried(rogues: Rogues, trial: Trial, longest_seconds: float, protocol: str) -> Tried:
    stage = Stage(rogues.servers[protocol], KINDS[protocol], f"{trial.name}-{uuid4().hex[:6]}", rogues.place)
    shortfalls: list[str] = []
    began = time.monotonic()
    # In a thread of its own: a session that waits for ever is what some trials are about.
    thread = threading.Thread(target=_act, args=(trial, stage, shortfalls), name=f"trial {trial.name}", daemon=True)
    thread.start()
    thread.join(longest_seconds)
    if thread.is_alive():
        shortfalls.append(f"it had not ended after {longest_seconds:g} s")
    stage.rogue.misbehave({})
    return Tried(trial, protocol, tuple(shortfalls), time.monotonic() - began)


def _act(trial: Trial, stage: Stage, shortfalls: list[str]) -> None:
    try:
        shortfalls.extend(shortfall for shortfall in trial.act(stage) if shortfall)
    except Exception as error:  # noqa: BLE001 - told as what it is: an endpoint that raises what its contract does not know
        where = traceback.extract_tb(error.__traceback__)[-1]
        shortfalls.append(
            f"a surprise: {type(error).__name__}: {shown(str(error))} ({Path(where.filename).name}, line {where.lineno})"
        )
    finally:
        stage.end()


class Stage:
    """One trial over one protocol: an empty folder at the server, which is also a folder here, and a spool of its own."""

    def __init__(self, rogue: Rogue, kind: type[Endpoint], name: str, place: Path) -> None:
        self.rogue, self._kind = rogue, kind
        self.folder = f"/{name}/drop"
        self.place = rogue.root / name / "drop"
        self.place.mkdir(parents=True)
        self._own = place / "ours" / f"{name}-{rogue.service}"
        self._own.mkdir(parents=True)
        self.spool = Spool(self._own / "spool", floor_bytes=0)
        self._random = random.Random(name)  # noqa: S311 - content, not a secret

    @property
    def protocol(self) -> str:
        return self.rogue.service

    @cached_property
    def ledger(self) -> Ledger:
        ledger = Ledger(f"sqlite:///{self._own / 'ledger.sqlite'}")
        ledger.migrate()
        return ledger

    def end(self) -> None:
        if "ledger" in self.__dict__:
            self.ledger.close()

    # ---------------------------------------------------------------------------------------- the partner's side

    def content(self, count: int) -> bytes:
        """Bytes like nobody else's."""
        return self._random.randbytes(count)

    def leave(self, name: bytes, content: bytes = b"content\n", modified: datetime | None = None) -> Path:
        """The partner puts a file into the folder, whole."""
        path = Path(os.fsdecode(os.fsencode(self.place) + b"/" + name))
        path.write_bytes(content)
        if modified is not None:
            os.utime(path, (modified.timestamp(), modified.timestamp()))
        return path

    def leave_all(self, contents: Mapping[bytes, bytes]) -> None:
        for name, content in contents.items():
            self.leave(name, content)

    def stands(self) -> dict[bytes, bytes]:
        """The files in the folder now, temporary ones included."""
        files = [path for path in self.place.iterdir() if path.is_file() and not path.is_symlink()]
        return {os.fsencode(path.name): path.read_bytes() for path in files}

    def file(self, name: bytes, size: int = 0, modified: datetime | None = None) -> RemoteFile:
        """As if the server had listed it."""
        return RemoteFile(self.folder, name, size, modified)

    def misbehave(self, faults: Mapping[str, float], *, restart: bool = False) -> None:
        self.rogue.misbehave(faults, restart=restart)

    # ---------------------------------------------------------------------------------------- our side

    def endpoint(self, **fields: object) -> Endpoint:
        return self.rogue.endpoint(self._kind, **fields)

    @contextmanager
    def session(self, **fields: object) -> Iterator[EndpointSession]:
        with self.endpoint(**fields).session() as session:
            yield session

    @contextmanager
    def hurried(self, **fields: object) -> Iterator[EndpointSession]:
        """A session that waits only briefly for each answer. A busy machine may take longer to connect, so that is tried again."""
        limit = time.monotonic() + LONGEST_SECONDS / 2
        while True:
            try:
                session = self.endpoint(timeout_seconds=1.5, **fields).session()
                break
            except EndpointUnreachable:
                if time.monotonic() > limit:
                    raise
        with session:
            yield session

    def look(self, session: EndpointSession | None = None, folder: str | None = None, **fields: object) -> Told:
        place = self.folder if folder is None else folder
        return self._tell(session, lambda its: ((file.name, file) for file in its.look(place)), fields)

    def fetch(
        self, files: Iterable[RemoteFile], session: EndpointSession | None = None, batch: Batch | None = None, **fields: object
    ) -> Told:
        def verb(its: EndpointSession) -> Iterator[tuple[bytes, Answer]]:
            with batch or self.spool.batch() as into:
                for answer in its.fetch(files, into):
                    yield answer.file.name, answer

        return self._tell(session, verb, fields)

    def put(
        self,
        contents: Mapping[bytes, bytes],
        session: EndpointSession | None = None,
        exists: Exists = Exists.REFUSE,
        folder: str | None = None,
        **fields: object,
    ) -> Told:
        place, files = folder or self.folder, [self.outgoing(name, content) for name, content in contents.items()]
        return self._tell(
            session, lambda its: ((told.file.name, told) for told in its.put(files, place, exists=exists)), fields
        )

    def remove(self, files: Iterable[RemoteFile], session: EndpointSession | None = None) -> Told:
        return self._tell(session, lambda its: ((told.file.name, told) for told in its.remove(files)), {})

    def rename(self, moves: Iterable[Move], session: EndpointSession | None = None) -> Told:
        return self._tell(session, lambda its: ((told.file.name, told) for told in its.rename(moves)), {})

    def outgoing(self, name: bytes, content: bytes) -> Outgoing:
        digest = sha256(content).hexdigest()
        source = self._own / digest
        source.write_bytes(content)
        return Outgoing(source, name, len(content), digest)

    def meddled(self, meddle: Callable[[], object] | None = None) -> Meddled:
        return Meddled(self.spool, meddle)

    @property
    def kept(self) -> int:
        """How many objects the spool holds."""
        return sum(1 for _ in self.spool.store.glob("*/*"))

    def _tell(
        self,
        session: EndpointSession | None,
        verb: Callable[[EndpointSession], Iterable[tuple[bytes, Answer]]],
        fields: Mapping[str, object],
    ) -> Told:
        """Let a session, or one made for this, do something; what it told before it ended, and what ended it."""
        answers: dict[bytes, Answer] = {}
        error: CountersignError | None = None
        unread = Told().unread
        began = time.monotonic()
        try:
            if session is not None:
                _gather(verb(session), answers)
                unread = session.unread
            else:
                with self.session(**fields) as own:
                    _gather(verb(own), answers)
                    unread = own.unread
        except CountersignError as broke:
            error = broke
        return Told(answers, error, unread, time.monotonic() - began)


def _gather(told: Iterable[tuple[bytes, Answer]], answers: dict[bytes, Answer]) -> None:
    """Note each answer as it comes, so that those before an error are not lost."""
    for name, answer in told:
        answers[name] = answer


class Meddled(Batch):
    """A batch of the spool that does something to the partner's file when the first bytes of it have come."""

    def __init__(self, spool: Spool, meddle: Callable[[], object] | None) -> None:
        super().__init__(spool)
        self._meddle = meddle
        self.began_at: list[int] = []
        """How many bytes each file held already when it was begun."""

    def open(self, resume_key: str | None = None) -> SpoolFile:
        sink = super().open(resume_key)
        self.began_at.append(sink.size)
        write = sink.write

        def meddled(data: bytes | bytearray | memoryview) -> None:
            write(data)
            if self._meddle is not None:
                meddle, self._meddle = self._meddle, None
                meddle()

        sink.write = meddled  # type: ignore[method-assign]
        return sink
