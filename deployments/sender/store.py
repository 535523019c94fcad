"""What the sender must not forget: seeds, spent and burnt codes, attempts, judgements, the last checkpoint, how far deliveries have come.

One SQLite file in the sender's own folder (0700), with the key that its seeds are encrypted under beside it (0600). Every
verb is one transaction that is on the disk before it returns; writers wait for each other, so two judgements of one code
happen one after the other, also when the CLI enrols somebody meanwhile.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Select,
    String,
    Table,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as upsert

from blocks.case_signoff import CaseSignoff
from blocks.closing import Closing
from blocks.database import Database, Instant, chunks
from blocks.errors import ConfigurationError, LedgerError, SenderError, SendRefused
from blocks.outbound import (
    Deed,
    DeedKind,
    Judged,
    Package,
    Record,
    Refusal,
    Refused,
    Requested,
    Round,
    Said,
    StandingSignoff,
    Stood,
    Vote,
    canonical,
    iso,
)
from blocks.seals import SealKey
from blocks.sender import Settled
from blocks.values import Proof, name_b64, shown
from tasks.rules.policy import Attempt, Moments

BURNT_FOR = timedelta(hours=3)
"""How long a code that was seen is refused to everybody. Longer than an answer may be old plus a phone's clock wrong."""

MOST_REFUSED = 2000
"""So many different refusals are remembered, the newest."""
MOST_REASON = 500

_metadata = MetaData()

_seed = Table(
    "seed",
    _metadata,
    Column("approver", String, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("enrolled", Instant, nullable=False),
)
_spent = Table("spent", _metadata, Column("approver", String, primary_key=True), Column("step", Integer, primary_key=True))
_burnt = Table("burnt", _metadata, Column("code", String, primary_key=True), Column("seen", Instant, nullable=False))
_wrong = Table(
    "wrong",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("approver", String, nullable=False, index=True),
    Column("at", Instant, nullable=False),
)
_judgement = Table(
    "judgement",
    _metadata,
    Column("run", String, primary_key=True),
    Column("round", String, primary_key=True),
    Column("package", String, nullable=False, index=True),
    Column("answer", String, nullable=False),  # SHA-256 of what was judged
    Column("vote", String),  # null: refused
    Column("refusal", String),
    Column("at", Instant, nullable=False),
)
_opening = Table(
    "opening",
    _metadata,
    Column("package", String, primary_key=True),
    Column("partner", String, nullable=False),
    Column("stream", String, nullable=False),
    Column("order", String, nullable=False),  # that somebody made: a remainder has its parent's
    Column("requester", String),  # as stated
    Column("editors", String, nullable=False),
    Column("deadline", Instant, nullable=False),
    Column("at", Instant, nullable=False),
)
_moments = Table(
    "moments",
    _metadata,
    # What else happens to a sign-off by itself. Beside its opening, which older senders made too.
    Column("package", String, primary_key=True),
    Column("remind", Instant),
    Column("widens", Instant),
)
_brake = Table(
    "brake",
    _metadata,
    Column("package", String, primary_key=True),
    Column("reasons", String, nullable=False),  # JSON
)
_counted = Table(
    "counted",
    _metadata,
    Column("digest", String, primary_key=True),
    Column("reading", String, primary_key=True),  # how the stream's tables are read
    Column("rows", Integer, nullable=False),
    Column("value", Float),
)
_request = Table(
    "request",
    _metadata,
    # One order id, one requester.
    Column("partner", String, primary_key=True),
    Column("stream", String, primary_key=True),
    Column("order", String, primary_key=True),
    Column("facts", String, nullable=False),
)
_round = Table(
    "round",
    _metadata,
    Column("run", String, primary_key=True),
    Column("round", String, primary_key=True),
    Column("n", Integer, nullable=False),
    Column("package", String, nullable=False),
    Column("shown", String, nullable=False),
    Column("at", Instant, nullable=False),
)
_standing = Table(
    "standing",
    _metadata,
    Column("id", String, primary_key=True),
    Column("partner", String, nullable=False),
    Column("stream", String, nullable=False),
    Column("facts", String, nullable=False),
    Column("key", String, nullable=False),
    Column("signature", String, nullable=False),
    Column("at", Instant, nullable=False),
    # A row stays for ever: what was revoked cannot be handed in once more.
    Column("revoked", Instant),
    Column("by", String),
)
_stood = Table(
    "stood",
    _metadata,
    # Votes that were given by what was signed beforehand.
    Column("package", String, primary_key=True),
    Column("standing", String, primary_key=True),
    Column("partner", String, nullable=False),
    Column("stream", String, nullable=False),
    Column("vote", String, nullable=False),
    Column("at", Instant, nullable=False),
)
_deed = Table(
    "deed",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("kind", String, nullable=False),
    Column("partner", String, nullable=False),
    Column("stream", String, nullable=False),
    Column("approver", String, nullable=False),
    Column("facts", String, nullable=False),  # JSON
    Column("at", Instant, nullable=False),
)
_departure = Table(
    "departure",
    _metadata,
    # Packages that were about to leave, and when last nothing of them had left yet.
    Column("package", String, primary_key=True),
    Column("at", Instant, nullable=False, index=True),
)
_case = Table(
    "case",
    _metadata,
    # Answers about refused documents, each judged once.
    Column("round", String, primary_key=True),
    Column("answer", String, nullable=False),  # SHA-256 of what was judged
    Column("signoff", String),  # null: refused
    Column("refusal", String),
    Column("at", Instant, nullable=False),
)
_refused = Table(
    "refused",
    _metadata,
    Column("id", String, primary_key=True),  # SHA-256 of all that makes it one: asked again and again, it is one row
    Column("uid", Integer, nullable=False),
    Column("asked", String, nullable=False),
    Column("about", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("since", Instant, nullable=False),
    Column("times", Integer, nullable=False),
    Column("at", Instant, nullable=False, index=True),
)
_delivery = Table(
    "delivery",
    _metadata,
    # The unique key of a delivery: nothing of one package is ever sent twice under one name.
    Column("package", String, primary_key=True),
    Column("destination", String, primary_key=True),
    Column("name", String, primary_key=True),  # base64 of the exact bytes
    Column("position", Integer, nullable=False),
    Column("digest", String, nullable=False),
    Column("size", Integer, nullable=False),
    Column("source", String),  # base64; null for a file that we made ourselves (checksums, manifest, done file)
    Column("temporary", String, nullable=False),
    Column("step", String, nullable=False),
    Column("proof", String),
    Column("modified", Instant),
    Column("at", Instant, nullable=False),
)
_reply = Table(
    "reply",
    _metadata,
    # What the partner's server said of a delivery, and which key it showed then. Beside the delivery, which older senders made too.
    Column("package", String, primary_key=True),
    Column("destination", String, primary_key=True),
    Column("name", String, primary_key=True),  # base64, as in a delivery
    Column("server", String, nullable=False),
    Column("replies", String, nullable=False),  # JSON
)
_settled = Table(
    "settled",
    _metadata,
    Column("number", Integer, primary_key=True),
    Column("package", String, nullable=False, index=True),
    Column("destination", String, nullable=False),
    Column("name", String, nullable=False),  # base64, as in a delivery
    Column("arrived", Boolean, nullable=False),
    Column("by", String, nullable=False),
    Column("comment", String, nullable=False),
    Column("at", Instant, nullable=False),
)

_checkpoint = Table(
    "checkpoint",
    _metadata,
    Column("record", String, nullable=False),  # one row at most: the last one that was sealed
)


@dataclass(frozen=True, slots=True)
class Opening:
    """When the sign-off of a package began, and what was told then."""

    requester: str | None
    """As stated."""
    editors: frozenset[str]
    moments: Moments
    """By our own clock."""
    brake: tuple[str, ...] = ()
    """Why one more person must sign; empty: it is as usual."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted in a document of a stream with a brake."""

    rows: int
    value: float | None
    """Of the agreed column; None where a cell of it is no number."""


@dataclass(frozen=True, slots=True)
class SignedBeforehand:
    """A standing sign-off as it is kept, with what proves it."""

    signed: StandingSignoff
    key: str
    signature: str
    revoked: datetime | None = None
    by: str = ""
    """Who ended it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A round that was told of before anybody could answer it."""

    round: Round
    shown: str
    at: datetime


class Step(StrEnum):
    """How far one file has come at one destination."""

    INTENDED = "intended"  # its bytes may be on their way, under a temporary name
    UPLOADED = "uploaded"  # it stands whole under its temporary name, and was looked at
    RENAMING = "renaming"  # its rename was asked for: it may stand under its own name
    PLACED = "placed"  # the server acknowledged the rename
    PROVEN = "proven"  # it was seen under its own name afterwards, unchanged
    COLLECTED = "delivered, collected before proof"  # the rename was acknowledged, and it was gone when we looked
    UNKNOWN = "unknown"  # neither name is there and no answer came: a person asks the partner
    TOLD = "a person says that it arrived"  # was unknown until then

    @property
    def final(self) -> bool:
        return self in (Step.PROVEN, Step.COLLECTED, Step.TOLD)

    @property
    def stood(self) -> bool:
        """It stands at the partner, or has stood there."""
        return self is Step.PLACED or self.final


class Parcel(NamedTuple):
    """One file of one package on its way to one destination. Thousands come to a step at once: a tuple is made the fastest."""

    package: str
    destination: str
    name: bytes
    position: int
    """Its place in the order of renames; a done file has the last."""
    digest: str
    size: int
    temporary: bytes
    source: bytes | None = None
    """Its name in the package; None for a file that we made ourselves (checksums, manifest, done file)."""
    step: Step = Step.INTENDED
    proof: Proof | None = None
    modified: datetime | None = None
    """As the partner's server tells it for the uploaded file; in a share, until when it is to be shown."""
    at: datetime | None = None
    """When it came to this step, by our clock."""
    said: Said | None = None
    """Who says that it arrived; only at ``TOLD``."""
    server: str = ""
    """The fingerprint that the server showed when it was uploaded or renamed; "" where the protocol has none, or nobody knows."""
    replies: tuple[str, ...] = ()
    """What the server answered to upload and rename. What it answered to a sender that was killed then, nobody knows."""
    heard: bool = False
    """What the server showed and answered is not written down yet."""

    def written(self, step: Step, now: datetime) -> Parcel:
        """At this step since now, and all that was heard is written down. ``_replace`` takes twice as long."""
        what_stays = self[:8]
        return Parcel(*what_stays, step, self.proof, self.modified, now, self.said, self.server, self.replies)


class Store(Closing):
    """The sender's memory, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (mode := folder.stat().st_mode & 0o777) & 0o077:
            raise ConfigurationError(
                f"{folder}: others may look into the sender's folder (mode {mode:03o}); run: chmod 700 {folder}"
            )
        self.folder = folder
        self.seal_key = SealKey.open(folder / "seal.pem")
        self._key = _secret(folder / "seeds.key")
        self._db = Database(f"sqlite:///{folder.absolute() / 'sender.sqlite'}")
        with self._translated():
            self._db.write_ahead()
        with self._writing() as connection:
            _metadata.create_all(connection)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder for one sender process. Raises ``ConfigurationError`` if another one runs on it."""
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ConfigurationError(
                    f"{self.folder}: another sender works here already; stop it, or give another --state"
                ) from error
            yield
        finally:
            os.close(handle)

    # ---------------------------------------------------------------------------------------- people's secrets

    def enrol(self, approver: str, seed: str, *, used: int | None = None) -> None:
        """Keep an approver's seed, in place of an earlier one; what was locked is open again.

        ``used`` is the time step whose code showed that it works: it is spent.
        """
        nonce = secrets.token_bytes(12)
        # The approver's id is authenticated with it: a row moved to another id does not decrypt.
        sealed = nonce + AESGCM(self._key).encrypt(nonce, seed.encode(), approver.encode())
        row = {"approver": approver, "sealed": sealed, "enrolled": datetime.now(UTC)}
        with self._writing() as connection:
            connection.execute(upsert(_seed).values(row).on_conflict_do_update(index_elements=["approver"], set_=row))
            connection.execute(delete(_wrong).where(_wrong.c.approver == approver))
            if used is not None:
                Bench(connection, self._key).spend(approver, used)

    def revoke(self, approver: str) -> bool:
        """Forget an approver's seed. False if there was none."""
        with self._writing() as connection:
            return connection.execute(delete(_seed).where(_seed.c.approver == approver)).rowcount > 0

    def enrolled(self) -> dict[str, datetime]:
        """Who has a seed, and since when."""
        with self._reading() as connection:
            return {row.approver: row.enrolled for row in connection.execute(select(_seed.c.approver, _seed.c.enrolled))}

    def wrong(self) -> dict[str, int]:
        """Wrong proofs in a row, by approver."""
        counted = select(_wrong.c.approver, func.count()).group_by(_wrong.c.approver)
        with self._reading() as connection:
            return {row[0]: row[1] for row in connection.execute(counted)}

    def unlock(self, approver: str) -> bool:
        """Let a locked approver try again. False if there was nothing to forgive."""
        with self._writing() as connection:
            return connection.execute(delete(_wrong).where(_wrong.c.approver == approver)).rowcount > 0

    # ---------------------------------------------------------------------------------------- judging

    @contextmanager
    def bench(self) -> Iterator[Bench]:
        """One judgement: what it spends, burns and counts is kept together, or not at all. One at a time."""
        with self._writing() as connection:
            yield Bench(connection, self._key)

    def votes(self, package: str) -> list[Vote]:
        """Every vote on a package that was ever sealed here, whatever a caller tells of them."""
        with self._reading() as connection:
            return _votes(connection, package)

    def opening(self, package: str) -> Opening | None:
        """How the sign-off of a package began; None if it never did."""
        with self._reading() as connection:
            return _opened(connection, package)

    def order_of(self, package: str) -> tuple[str, str, str] | None:
        """Partner, stream and root order of a package whose sign-off was opened; None if it never was."""
        with self._reading() as connection:
            about = select(_opening.c.partner, _opening.c.stream, _opening.c.order).where(_opening.c.package == package)
            row = connection.execute(about).first()
            return (row.partner, row.stream, row.order) if row else None

    def requested(self, partner: str, stream: str, order: str) -> Requested | None:
        """The proven request for an order; None if there is none."""
        with self._reading() as connection:
            return _requested(connection, partner, stream, order)

    def standing(self, partner: str, stream: str) -> list[SignedBeforehand]:
        """Everything that was ever signed beforehand for a stream, the oldest first."""
        with self._reading() as connection:
            return _beforehand(connection, partner, stream)

    def used(self, partner: str, stream: str) -> dict[str, int]:
        """For how many packages each sign-off of a stream that was given beforehand gave a vote, by its id."""
        mine = (_stood.c.partner == partner, _stood.c.stream == stream)
        counted = select(_stood.c.standing, func.count()).where(*mine).group_by(_stood.c.standing)
        with self._reading() as connection:
            return {row[0]: row[1] for row in connection.execute(counted)}

    def deeds(self, after: str, most: int) -> list[Deed]:
        """What was done about sign-offs beforehand after the deed of this id, oldest first; from the first on if there is none of it."""
        begin = select(_deed.c.number).where(_deed.c.id == after).scalar_subquery()
        later = select(_deed).where(_deed.c.number > func.coalesce(begin, 0)).order_by(_deed.c.number).limit(most)
        with self._reading() as connection:
            return [
                Deed(row.id, DeedKind(row.kind), row.partner, row.stream, row.approver, row.at, json.loads(row.facts))
                for row in connection.execute(later)
            ]

    # ---------------------------------------------------------------------------------------- the ledger's checkpoints

    def checkpoint(self) -> str | None:
        """The text of the last checkpoint that was sealed; None if none was, as far as we remember."""
        with self._reading() as connection:
            return connection.execute(select(_checkpoint.c.record)).scalar()

    def follow(self, record: str, problem: Callable[[str | None], str]) -> None:
        """Take a checkpoint's text for the last one. Raises ``SendRefused`` with the ``problem`` that it has behind the last."""
        with self._writing() as connection:
            if told := problem(connection.execute(select(_checkpoint.c.record)).scalar()):
                raise SendRefused(told)
            connection.execute(delete(_checkpoint))
            connection.execute(insert(_checkpoint).values(record=record))

    def forget_checkpoint(self) -> None:
        """Take whatever checkpoint comes next."""
        with self._writing() as connection:
            connection.execute(delete(_checkpoint))

    # ---------------------------------------------------------------------------------------- what was tried here

    def refused(self, uid: int, asked: str, about: str, reason: str) -> None:
        """Remember that a caller was refused. However often somebody tries, it fills no disk."""
        reason = reason[:MOST_REASON]
        now = datetime.now(UTC)
        row = {"uid": uid, "asked": asked, "about": about[:200], "reason": reason, "since": now, "times": 1, "at": now}
        id = hashlib.sha256(canonical([uid, asked, about[:200], reason]).encode("ascii")).hexdigest()
        with self._writing() as connection:
            again = update(_refused).where(_refused.c.id == id).values(times=_refused.c.times + 1, at=now)
            if connection.execute(again).rowcount:
                return
            connection.execute(insert(_refused).values(id=id, **row))
            kept = select(_refused.c.id).order_by(_refused.c.at.desc()).limit(MOST_REFUSED)
            connection.execute(delete(_refused).where(_refused.c.id.not_in(kept)))

    def record(self, since: datetime) -> Record:
        """What was judged, what was refused, what counted beforehand and what left here since then, the newest first."""
        lately = select(_judgement).where(_judgement.c.at >= since).order_by(_judgement.c.at.desc()).limit(MOST_REFUSED)
        tried = select(_refused).where(_refused.c.at >= since).order_by(_refused.c.at.desc())
        counted = select(_stood, _opening.c.order).join(_opening, _opening.c.package == _stood.c.package)
        counted = counted.where(_stood.c.at >= since).order_by(_stood.c.at.desc())
        left = select(_departure.c.package).where(_departure.c.at >= since).order_by(_departure.c.at.desc())
        with self._reading() as connection:
            return Record(
                tuple(
                    Judged(
                        run=row.run,
                        round=row.round,
                        package=row.package,
                        voter=str(json.loads(row.vote)["approver"]) if row.vote else "",
                        refusal=str(json.loads(row.refusal)["code"]) if row.refusal else "",
                    )
                    for row in connection.execute(lately)
                ),
                tuple(
                    Refused(row.id, row.uid, row.asked, row.about, row.reason, row.since, row.times)
                    for row in connection.execute(tried)
                ),
                tuple(
                    Stood(row.package, row.partner, row.stream, row.order, str(json.loads(row.vote)["approver"]))
                    for row in connection.execute(counted)
                ),
                tuple(row.package for row in connection.execute(left)),
            )

    # ---------------------------------------------------------------------------------------- deliveries

    def parcels(self, package: str, destination: str | None = None) -> list[Parcel]:
        """How far the files of a package have come, in the order of their renames."""
        chosen = select(_delivery).where(_delivery.c.package == package)
        if destination is not None:
            chosen = chosen.where(_delivery.c.destination == destination)
        with self._reading() as connection:
            rows = connection.execute(chosen.order_by(_delivery.c.destination, _delivery.c.position)).all()
            heard = connection.execute(select(_reply).where(_reply.c.package == package)).all()
            replies = {(row.destination, row.name): (row.server, _replies(row.replies)) for row in heard}
            return [
                _as_parcel(
                    row,
                    _said(connection, row) if row.step == Step.TOLD else None,
                    *replies.get((row.destination, row.name), ("", ())),
                )
                for row in rows
            ]

    def replaced(self, parcel: Parcel) -> bool:
        """Another package has put, or may have put, a file of that name there since."""
        later = select(_delivery.c.package).where(
            _delivery.c.destination == parcel.destination,
            _delivery.c.name == name_b64(parcel.name),
            _delivery.c.package != parcel.package,
            _delivery.c.step.not_in([Step.INTENDED, Step.UPLOADED]),
            _delivery.c.at >= parcel.at,
        )
        with self._reading() as connection:
            return connection.execute(later.limit(1)).first() is not None

    def intend(self, parcels: Iterable[Parcel]) -> list[Parcel]:
        """Write down what is about to be sent, before anything is; none of it was written down before. Returns it as it is now."""
        now = datetime.now(UTC)
        intended = [parcel._replace(at=now) for parcel in parcels]
        with self._writing() as connection:
            connection.exec_driver_sql(_INTENDED, [_row(parcel) for parcel in intended])
        return intended

    def move(self, moves: Mapping[Step, Iterable[Parcel]]) -> list[Parcel]:
        """Write down, in one transaction, that parcels have come to these steps. Returns them as they are now."""
        now, moved = datetime.now(UTC), list[Parcel]()
        steps, heard = defaultdict[tuple[Any, ...], list[str]](list), defaultdict[tuple[Any, ...], list[str]](list)
        for step, parcels in moves.items():
            for parcel in parcels:
                name, place = name_b64(parcel.name), (parcel.package, parcel.destination)
                steps[step, parcel.proof, parcel.modified, place].append(name)
                if parcel.heard:
                    heard[place, parcel.server, parcel.replies].append(name)
                moved.append(parcel.written(step, now))
        if moved:
            with self._writing() as connection:
                for (step, proof, modified, place), names in steps.items():
                    told = (step.value, proof, iso(modified) if modified else None, iso(now))
                    connection.exec_driver_sql(_MOVED, (*told, *place, json.dumps(names)))
                for (place, server, replies), names in heard.items():
                    connection.exec_driver_sql(_HEARD, (*place, server, json.dumps(replies), json.dumps(names)))
        return moved

    def settle(self, package: str, destination: str, name: bytes, *, arrived: bool, by: str, comment: str) -> Settled:
        """Take a person's word for a file in doubt: it arrived, or it is to be sent again.

        The same answer given again is told as it was written down. Raises ``SendRefused`` for a file that is in no doubt.
        """
        what: dict[str, object] = {"package": package, "destination": destination, "name": base64.b64encode(name).decode()}
        with self._writing() as connection:
            where = [_delivery.c[part] == value for part, value in what.items()]
            found = connection.execute(select(_delivery.c.step).where(*where)).scalar()
            before = connection.execute(_settlements(what)).first()
            if found == Step.UNKNOWN:
                now = datetime.now(UTC)
                row = {**what, "arrived": arrived, "by": by, "comment": comment, "at": now}
                connection.execute(insert(_settled).values(row))
                moved = {"step": Step.TOLD, "proof": Proof.TOLD} if arrived else {"step": Step.INTENDED, "proof": None}
                connection.execute(update(_delivery).where(*where).values({**moved, "modified": None, "at": now}))
                before = connection.execute(_settlements(what)).first()
            elif before is None or before.arrived != arrived:
                stands = "it is in no such package" if found is None else f"it is {Step(found).value!r}"
                raise SendRefused(f"{shown(name)}: nobody is in doubt about it there ({stands}); nothing was changed")
            doubts = (_delivery.c.package == package, _delivery.c.step == Step.UNKNOWN)
            left = connection.execute(select(func.count()).select_from(_delivery).where(*doubts)).scalar_one()
        assert before is not None  # noqa: S101 - found, or written above
        return Settled(before.number, Said(before.by, before.comment, before.at), left)

    # ---------------------------------------------------------------------------------------- what is usual

    def releases(self, partner: str, stream: str, *, but: str, most: int) -> list[dict[bytes, tuple[str, int]]]:
        """What a stream's last orders delivered, as in ``went``, the one that was asked for last first; all orders ``but`` that one."""
        mine = (_opening.c.partner == partner, _opening.c.stream == stream, _opening.c.order != but)
        orders = select(_opening.c.order).where(*mine).group_by(_opening.c.order).order_by(func.min(_opening.c.at).desc())
        with self._reading() as connection:
            found = (_went(connection, partner, stream, row.order) for row in connection.execute(orders).all())
            return list(islice(filter(None, found), most))

    def went(self, partner: str, stream: str, order: str) -> dict[bytes, tuple[str, int]]:
        """Each document that was delivered of an order, with its remainders and as corrected: name -> digest and size."""
        with self._reading() as connection:
            return _went(connection, partner, stream, order)

    def counted(self, digests: Iterable[str], reading: str) -> dict[str, Counted]:
        """What was counted in documents before, by digest."""
        found: dict[str, Counted] = {}
        with self._reading() as connection:
            for some in chunks(sorted(set(digests)), 500):
                rows = connection.execute(select(_counted).where(_counted.c.digest.in_(some), _counted.c.reading == reading))
                found |= {row.digest: Counted(row.rows, row.value) for row in rows}
        return found

    def count(self, digest: str, reading: str, found: Counted) -> None:
        """Remember what was counted in a document."""
        row = {"digest": digest, "reading": reading, "rows": found.rows, "value": found.value}
        with self._writing() as connection:
            connection.execute(upsert(_counted).values(row).on_conflict_do_nothing())

    # ---------------------------------------------------------------------------------------- transactions

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._translated(), self._db.write() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._translated(), self._db.read() as connection:
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except LedgerError as error:
            raise SenderError(
                f"{self.folder}: the sender cannot read or write its own state ({error}); nothing was sent"
            ) from error


class Bench:
    """The facts of one judgement, inside its transaction."""

    def __init__(self, connection: Connection, key: bytes) -> None:
        self._connection, self._key = connection, key

    def open(self, package: Package, told: Opening, now: datetime) -> Opening:
        """Remember how a package's sign-off began; of several calls the first one stands."""
        row = {
            "package": package.digest,
            "partner": package.partner,
            "stream": package.stream,
            "order": package.root_order,
            "requester": told.requester,
            "editors": canonical(sorted(told.editors)),
            "deadline": told.moments.deadline,
            "at": now,
        }
        if self._connection.execute(upsert(_opening).values(row).on_conflict_do_nothing()).rowcount:
            more = {"package": package.digest, "remind": told.moments.remind, "widens": told.moments.widens}
            self._connection.execute(insert(_moments).values(more))
            if told.brake:
                self._connection.execute(insert(_brake).values(package=package.digest, reasons=json.dumps(told.brake)))
        return self.opening(package.digest) or told

    def opening(self, package: str) -> Opening | None:
        """How the sign-off of a package began; None if it never did."""
        return _opened(self._connection, package)

    def requested(self, partner: str, stream: str, order: str) -> Requested | None:
        """The proven request for an order; None if there is none."""
        return _requested(self._connection, partner, stream, order)

    def request(self, proven: Requested) -> None:
        """Remember who asked for an order; there is none of that id yet."""
        key = {"partner": proven.partner, "stream": proven.stream, "order": proven.order}
        self._connection.execute(insert(_request).values({**key, "facts": canonical(proven.facts)}))

    def standing(self, partner: str, stream: str) -> list[SignedBeforehand]:
        """As the store tells it."""
        return _beforehand(self._connection, partner, stream)

    def sign_beforehand(self, given: SignedBeforehand, now: datetime) -> SignedBeforehand:
        """Keep what somebody signs beforehand; of several times that it is handed in the first one stands."""
        signed = given.signed
        row = {"id": signed.id, "partner": signed.partner, "stream": signed.stream, "facts": canonical(signed.facts), "at": now}
        more = {"key": given.key, "signature": given.signature}
        if self._connection.execute(upsert(_standing).values({**row, **more}).on_conflict_do_nothing()).rowcount:
            told = {"standing": signed.id, "signed": signed.facts, **more}
            self.note(DeedKind.SIGNED, signed.partner, signed.stream, signed.approver, told, now)
        return next(one for one in self.standing(signed.partner, signed.stream) if one.signed.id == signed.id)

    def end_beforehand(self, ended: Sequence[StandingSignoff], by: str, now: datetime) -> int:
        """End these: they are good for no release any more. How many were not ended before."""
        which = _standing.c.id.in_([signed.id for signed in ended])
        fresh = update(_standing).where(which, _standing.c.revoked.is_(None))
        return self._connection.execute(fresh.values(revoked=now, by=by)).rowcount

    def note(self, kind: DeedKind, partner: str, stream: str, approver: str, facts: Mapping[str, Any], now: datetime) -> None:
        """Write down what was done about a sign-off beforehand, for the ledger; the same refusal once in an hour."""
        told = canonical(facts)
        about = {"kind": kind.value, "partner": partner, "stream": stream, "approver": approver, "facts": told}
        if kind is DeedKind.REFUSED:
            same = [_deed.c[name] == value for name, value in about.items()]
            if self._connection.execute(select(_deed.c.id).where(*same, _deed.c.at > now - timedelta(hours=1))).first():
                return
        self._connection.execute(insert(_deed).values(id=secrets.token_hex(16), at=now, **about))

    def stood(self, partner: str, stream: str, since: datetime) -> int:
        """How many packages of a stream had votes by what was signed beforehand since then, or left by earlier ones."""
        mine = (_stood.c.partner == partner, _stood.c.stream == stream)
        lately = or_(_stood.c.at > since, _departure.c.at > since)
        packages = select(func.count(_stood.c.package.distinct())).outerjoin(
            _departure, _departure.c.package == _stood.c.package
        )
        return self._connection.execute(packages.where(*mine, lately)).scalar_one()

    def departed(self, but: Package, since: datetime) -> int:
        """How many other packages of its stream left since then with votes by what was signed beforehand."""
        mine = (_stood.c.partner == but.partner, _stood.c.stream == but.stream, _stood.c.package != but.digest)
        packages = select(func.count(_stood.c.package.distinct())).join(_departure, _departure.c.package == _stood.c.package)
        return self._connection.execute(packages.where(*mine, _departure.c.at > since)).scalar_one()

    def depart(self, package: Package, now: datetime) -> None:
        """Remember that a package is about to leave."""
        leaving = upsert(_departure).values(package=package.digest, at=now)
        self._connection.execute(leaving.on_conflict_do_update(index_elements=["package"], set_={"at": now}))

    def stand(self, package: Package, votes: Sequence[Vote], now: datetime) -> None:
        """Keep votes that were given by what was signed beforehand."""
        about = {"package": package.digest, "partner": package.partner, "stream": package.stream, "at": now}
        rows = [{**about, "standing": vote.standing.id, "vote": canonical(vote.facts)} for vote in votes if vote.standing]
        if rows:
            self._connection.execute(insert(_stood), rows)
        for vote in votes:
            if vote.standing is not None:
                told = {"standing": vote.standing.id, "order": package.order, "package": package.digest}
                self.note(DeedKind.USED, package.partner, package.stream, vote.approver, told, now)

    def under_way(self, partner: str, stream: str, order: str) -> bool:
        """True if a package of this order was opened."""
        where = (_opening.c.partner == partner, _opening.c.stream == stream, _opening.c.order == order)
        return self._connection.execute(select(_opening.c.package).where(*where).limit(1)).first() is not None

    def ask(self, told: Asked) -> Asked:
        """Remember a round; of several calls with its key the first one stands."""
        asked = told.round
        row = {"run": asked.run, "round": asked.key, "n": asked.n, "package": asked.digest, "shown": told.shown, "at": told.at}
        self._connection.execute(upsert(_round).values(row).on_conflict_do_nothing())
        return self.asked(asked) or told

    def asked(self, asked: Round) -> Asked | None:
        """The round of this run and key, as it was told of; None if it never was."""
        where = (_round.c.run == asked.run, _round.c.round == asked.key)
        row = self._connection.execute(select(_round).where(*where)).first()
        return Asked(Round(row.n, row.round, row.run, row.package), row.shown, row.at) if row else None

    def judged(self, run: str, round_key: str) -> tuple[str, Vote | Refusal] | None:
        """The answer's hash and what became of it, if this round was judged before."""
        where = (_judgement.c.run == run, _judgement.c.round == round_key)
        row = self._connection.execute(select(_judgement).where(*where)).first()
        if row is None:
            return None
        return row.answer, Vote.parse(json.loads(row.vote)) if row.vote else Refusal(**json.loads(row.refusal))

    def heard(self, asked: Round) -> bool:
        """True if an answer to a round of this run and number, under another key, was judged."""
        same = (_round.c.run == _judgement.c.run) & (_round.c.round == _judgement.c.round)
        others = (_round.c.run == asked.run, _round.c.n == asked.n, _round.c.round != asked.key)
        found = select(_round.c.round).join(_judgement, same).where(*others).limit(1)
        return self._connection.execute(found).first() is not None

    def keep(self, asked: Round, answer: str, outcome: Vote | Refusal, at: datetime) -> None:
        """Remember how a round was judged: asked again, it is answered the same."""
        row = {"run": asked.run, "round": asked.key, "package": asked.digest, "answer": answer, "at": at}
        if isinstance(outcome, Vote):
            row["vote"] = canonical(outcome.facts)
        else:
            row["refusal"] = canonical({"code": outcome.code, "first_line": outcome.first_line})
        self._connection.execute(insert(_judgement).values(row))

    def case_judged(self, round_key: str) -> tuple[str, CaseSignoff | Refusal] | None:
        """The same for an answer about a refused document."""
        row = self._connection.execute(select(_case).where(_case.c.round == round_key)).first()
        if row is None:
            return None
        told = row.signoff or row.refusal
        return row.answer, CaseSignoff.parse(json.loads(told)) if row.signoff else Refusal(**json.loads(told))

    def keep_case(self, round_key: str, answer: str, outcome: CaseSignoff | Refusal, at: datetime) -> None:
        """The same for an answer about a refused document."""
        row = {"round": round_key, "answer": answer, "at": at}
        if isinstance(outcome, Refusal):
            row["refusal"] = canonical({"code": outcome.code, "first_line": outcome.first_line})
        else:
            row["signoff"] = canonical(outcome.facts)
        self._connection.execute(insert(_case).values(row))

    def votes(self, package: str) -> list[Vote]:
        """Every vote on a package that was ever sealed here."""
        return _votes(self._connection, package)

    def burn(self, code: str, now: datetime) -> bool:
        """Never accept this code again from anybody, as long as it could still be good. True the first time it is seen."""
        self._connection.execute(delete(_burnt).where(_burnt.c.seen < now - BURNT_FOR))
        # Kept as a keyed hash: a copy of the state does not show what is valid on somebody's phone just now.
        hidden = hmac.new(self._key, f"burnt {code}".encode(), hashlib.sha256).hexdigest()
        done = self._connection.execute(upsert(_burnt).values(code=hidden, seen=now).on_conflict_do_nothing())
        return done.rowcount == 1

    def spend(self, approver: str, step: int) -> bool:
        """Use up an approver's time step, for all runs and for ever. False if it was used."""
        done = self._connection.execute(upsert(_spent).values(approver=approver, step=step).on_conflict_do_nothing())
        return done.rowcount == 1

    def seed(self, approver: str) -> str | None:
        """The approver's seed in clear, only inside the process."""
        sealed = self._connection.execute(select(_seed.c.sealed).where(_seed.c.approver == approver)).scalar()
        if sealed is None:
            return None
        try:
            return AESGCM(self._key).decrypt(sealed[:12], sealed[12:], approver.encode()).decode()
        except InvalidTag as error:
            raise SenderError(
                f"the seed of {approver} cannot be decrypted: it was altered, or seeds.key is another one; enrol {approver} again"
            ) from error

    def attempts(self, approver: str) -> list[Attempt]:
        """The approver's wrong proofs since the last right one or unlocking, in all runs, by our own clock."""
        rows = self._connection.execute(select(_wrong.c.at).where(_wrong.c.approver == approver).order_by(_wrong.c.at))
        return [Attempt(approver, row.at, right=False) for row in rows]

    def tried(self, attempt: Attempt) -> None:
        """Count a wrong proof, or begin anew after a right one."""
        if attempt.right:
            self._connection.execute(delete(_wrong).where(_wrong.c.approver == attempt.approver))
        else:
            self._connection.execute(insert(_wrong).values(approver=attempt.approver, at=attempt.at))


def _opened(connection: Connection, package: str) -> Opening | None:
    both = select(_opening, _moments.c.remind, _moments.c.widens).outerjoin(_moments, _moments.c.package == _opening.c.package)
    row = connection.execute(both.where(_opening.c.package == package)).first()
    if row is None:
        return None
    reasons = connection.execute(select(_brake.c.reasons).where(_brake.c.package == package)).scalar()
    brake = tuple(json.loads(reasons)) if reasons else ()
    return Opening(row.requester, frozenset(json.loads(row.editors)), Moments(row.deadline, row.remind, row.widens), brake)


def _went(connection: Connection, partner: str, stream: str, order: str) -> dict[bytes, tuple[str, int]]:
    stood = [step for step in Step if step.stood]
    found = connection.execute(
        select(_delivery.c.source, _delivery.c.digest, _delivery.c.size)
        .join(_opening, _opening.c.package == _delivery.c.package)
        .where(_opening.c.partner == partner, _opening.c.stream == stream, _opening.c.order == order)
        .where(_delivery.c.source.is_not(None), _delivery.c.step.in_(stood))
        .order_by(_opening.c.at)  # what corrects a document takes its place
    )
    return {base64.b64decode(row.source): (row.digest, row.size) for row in found}


def _requested(connection: Connection, partner: str, stream: str, order: str) -> Requested | None:
    where = (_request.c.partner == partner, _request.c.stream == stream, _request.c.order == order)
    facts = connection.execute(select(_request.c.facts).where(*where)).scalar()
    return Requested.parse(json.loads(facts)) if facts else None


def _votes(connection: Connection, package: str) -> list[Vote]:
    kept = select(_judgement.c.vote).where(_judgement.c.package == package, _judgement.c.vote.is_not(None))
    stood = select(_stood.c.vote).where(_stood.c.package == package)
    rows = [*connection.execute(stood), *connection.execute(kept.order_by(_judgement.c.at))]
    return [Vote.parse(json.loads(row.vote)) for row in rows]


def _beforehand(connection: Connection, partner: str, stream: str) -> list[SignedBeforehand]:
    mine = select(_standing).where(_standing.c.partner == partner, _standing.c.stream == stream).order_by(_standing.c.at)
    return [
        SignedBeforehand(StandingSignoff.parse(row.facts), row.key, row.signature, row.revoked, row.by or "")
        for row in connection.execute(mine)
    ]


def _row(parcel: Parcel) -> tuple[object, ...]:
    """What is written down of an intended parcel."""
    return (
        *_key(parcel),
        parcel.position,
        parcel.digest,
        parcel.size,
        None if parcel.source is None else name_b64(parcel.source),
        parcel.temporary.decode(),
        Step.INTENDED.value,
        iso(parcel.at) if parcel.at else None,
    )


def _key(parcel: Parcel) -> tuple[str, str, str]:
    """What makes it one, as ``delivery`` and ``reply`` hold it: package, destination, name."""
    return parcel.package, parcel.destination, name_b64(parcel.name)


# Thousands of files come to a step at once: the driver's own statements take a third of the time, and one for all that are told alike
# half of that.
_INTENDED = """
    INSERT INTO delivery (package, destination, name, position, digest, size, source, temporary, step, at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_MOVED = """
    UPDATE delivery SET step = ?, proof = ?, modified = ?, at = ?
    WHERE package = ? AND destination = ? AND name IN (SELECT value FROM json_each(?))
"""
_HEARD = """
    INSERT INTO reply (package, destination, server, replies, name) SELECT ?, ?, ?, ?, value FROM json_each(?) WHERE true
    ON CONFLICT (package, destination, name) DO UPDATE SET server = excluded.server, replies = excluded.replies
"""


@lru_cache(256)
def _replies(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _settlements(what: Mapping[str, object]) -> Select[Any]:
    """What was settled about a file, the newest first."""
    return (
        select(_settled).where(*[_settled.c[part] == value for part, value in what.items()]).order_by(_settled.c.number.desc())
    )


def _said(connection: Connection, row: Row[tuple[object, ...]]) -> Said | None:
    found = connection.execute(_settlements({part: row._mapping[part] for part in ("package", "destination", "name")})).first()
    return Said(found.by, found.comment, found.at) if found else None


def _as_parcel(row: Row[tuple[object, ...]], said: Said | None, server: str, replies: tuple[str, ...]) -> Parcel:
    return Parcel(
        package=row.package,
        destination=row.destination,
        name=base64.b64decode(row.name),
        position=row.position,
        digest=row.digest,
        size=row.size,
        temporary=row.temporary.encode(),
        source=None if row.source is None else base64.b64decode(row.source),
        step=Step(row.step),
        proof=Proof(row.proof) if row.proof else None,
        modified=row.modified,
        at=row.at,
        said=said,
        server=server,
        replies=replies,
    )


def _secret(path: Path) -> bytes:
    """32 random bytes in a file that its owner alone may read; made on first use."""
    if not path.exists():
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(fresh)  # unlike a rename it never replaces the key that another process made meanwhile
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    if (mode := path.stat().st_mode & 0o777) & 0o077:
        raise ConfigurationError(f"{path}: others may read this key (mode {mode:03o}); run: chmod 600 {path}")
    key = path.read_bytes()
    if len(key) != 32:
        raise ConfigurationError(
            f"{path}: not the key that encrypts the seeds; restore it from a backup, or enrol everybody anew"
        )
    return key
