"""Checkpoint: seal what the ledger holds and is not sealed yet, and file the seals where whoever can edit the ledger cannot reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import NAMESPACE_URL, uuid5

from blocks.errors import ChainBroken, ConfigurationError, DocumentMissing, RepositoryError, SealedMeanwhile, SendRefused
from blocks.ledger import Checkpoint
from blocks.profile import CheckpointTerms, load_checkpoints
from blocks.repositories.base import Repository
from blocks.seals import SealKey, key_id, signed
from blocks.sender import Health, Sender
from blocks.settings import settings
from blocks.values import Filed, Filing
from tasks.connections import ledger, repository_session, spool
from tasks.order import sender
from tasks.retrying import task


@dataclass(frozen=True, slots=True)
class Kept:
    """What a checkpoint came to."""

    sealed: Checkpoint | None
    """None if there was nothing new to seal."""
    filed: tuple[str, ...]
    """Names of the files that the repository was given just now."""
    place: str
    """Where they are filed; "" if nothing was agreed about that."""


_AT_ONCE = 20
"""So many others may be first, one after the other."""


@task(task_run_name="checkpoint")
def checkpoint() -> Kept:
    """Seal the entries that are not sealed yet, by the sender's key where there is a sender, and file every seal that is not filed."""
    agreed = load_checkpoints(settings().profiles)
    sealed = seal()
    if agreed is None:
        return Kept(sealed, (), "")
    terms, repository = agreed
    return Kept(sealed, tuple(_file(terms, repository)), f"{repository.address}, folder {terms.folder}")


def keys(given: Sequence[bytes] = ()) -> dict[str, bytes] | None:
    """By which keys checkpoints may be sealed here: this installation's, the one in ``repositories.yaml``, and those given.

    None if there is none at all.
    """
    own, agreed = _own(), load_checkpoints(settings().profiles)
    known = [own.public] if own else []
    known += [agreed[0].public_key] if agreed and agreed[0].public_key else []
    return {key_id(public): public for public in (*known, *given)} or None


# --------------------------------------------------------------------------------------------- sealing


def seal() -> Checkpoint | None:
    """Seal what is not sealed yet, and file nothing: the next ``checkpoint`` does. None if there was nothing new.

    Of several who seal at once each goes on behind the others' seals, so that whoever needs a seal over its entries has one.
    """
    agreed = load_checkpoints(settings().profiles)
    pinned = agreed[0].public_key if agreed else None
    for _ in range(_AT_ONCE):
        with suppress(SealedMeanwhile):
            return _sealed(pinned)
    return _sealed(pinned)


def public_key() -> tuple[bytes, str]:
    """The key that seals here, and whose it is in words. Raises ``ConfigurationError`` where nothing was ever sealed."""
    agreed = load_checkpoints(settings().profiles)
    pinned = agreed[0].public_key if agreed else None
    if _by_sender(pinned):
        with _sender(pinned) as (_, health):
            return health.public, "the sender's"
    own = _own()
    if own is None:
        raise ConfigurationError("nothing was sealed here yet, so there is no key: 'countersign ledger checkpoint' makes one")
    return own.public, "this installation's own: there is no sender, and whoever controls a worker can seal with it too"


def _own() -> SealKey | None:
    path = settings().keys / "seal.pem"
    return SealKey.open(path) if path.exists() else None


def _sealed(pinned: bytes | None) -> Checkpoint | None:
    if not _by_sender(pinned):
        own = SealKey.open(settings().keys / "seal.pem")
        return ledger().checkpoint(own.sign, own.id)
    with _sender(pinned) as (asked, health):

        def sign(text: bytes) -> bytes:
            try:
                return asked.seal("checkpoint", text.decode("ascii"))
            except SendRefused as error:
                if asked.health().checkpoint == health.checkpoint:
                    raise
                raise SealedMeanwhile("another checkpoint was sealed at the same moment; this is tried again") from error

        # The sender seals no second one of a number: what it sealed when somebody was stopped is the ledger's next.
        taken = ledger().take(health.checkpoint, sign) if health.checkpoint else None
        return ledger().checkpoint(sign, health.key) or taken


@contextmanager
def sealing(
    purpose: Literal["checkpoint", "tombstone"], pinned: bytes | None
) -> Iterator[tuple[Callable[[bytes], bytes], str]]:
    """What signs a canonical text, and the id of its key: the sender's where there is a sender.

    Raises ``ConfigurationError`` if that has another key than ``pinned``.
    """
    if not _by_sender(pinned):
        own = SealKey.open(settings().keys / "seal.pem")
        yield own.sign, own.id
        return
    with _sender(pinned) as (asked, health):

        def sign(text: bytes) -> bytes:
            return asked.seal(purpose, text.decode("ascii"))

        yield sign, health.key


@contextmanager
def _sender(pinned: bytes | None) -> Iterator[tuple[Sender, Health]]:
    """The sender, once it has the key that was agreed."""
    with sender() as asked:
        health = asked.health()
        if pinned is not None and health.public != pinned:
            raise ConfigurationError(
                f"the sender's key is {health.key}, and repositories.yaml names {key_id(pinned)} for checkpoints; nothing was sealed"
            )
        yield asked, health


def _by_sender(pinned: bytes | None) -> bool:
    """True if a sender seals here. Once one has, we never fall back to a key that workers can read."""
    own, before = _own(), ledger().checkpoints()
    others = before and (own is None or before[-1].facts["key"] != own.id)
    return bool(pinned or others or settings().sender_socket.exists())


# --------------------------------------------------------------------------------------------- filing


def checkpoint_name(number: int) -> str:
    return f"checkpoint-{number:06d}.json"


def from_file(path: Path) -> Checkpoint:
    """A filed checkpoint. Raises ``ConfigurationError`` for any other file."""
    try:
        return Checkpoint.parse(path.read_text(encoding="ascii"))
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def sealed_and_filed(terms: CheckpointTerms, repository: Repository) -> int:
    """The number of the last entry under a checkpoint that the repository has; 0 if it has none of ours.

    It is fetched and compared. Raises ``ChainBroken`` for one that is not the ledger's, and what the repository raises.
    """
    ours = {checkpoint_name(made.number): made for made in ledger().checkpoints()}
    with repository_session(repository) as session:
        try:
            there = {kept.name: kept.id for kept in session.look(_folder(terms)) if kept.name in ours}
        except DocumentMissing:
            there = {}
        if not there:
            return 0
        newest = max(there)
        with spool().batch() as batch:
            content = spool().path(session.fetch(there[newest], None, batch).digest).read_bytes()
    made = ours[newest]
    if content != made.text.encode("ascii"):
        raise ChainBroken(f"{newest}: the one at {repository.address} is not the ledger's; find out who changed either of them")
    known = keys() or {}
    if made.facts["key"] not in known or not signed(known[made.facts["key"]], made.record.encode(), made.signature):
        raise ChainBroken(f"{newest}: is not signed by a key that is known here")
    return int(made.facts["last"])


def _folder(terms: CheckpointTerms) -> tuple[str, ...]:
    return tuple(terms.folder.strip("/").split("/"))


def _file(terms: CheckpointTerms, repository: Repository) -> list[str]:
    """File every checkpoint that is not there: also those that an earlier try could not file."""
    folder = _folder(terms)
    with repository_session(repository) as session:
        try:
            there = {kept.name for kept in session.look(folder)}
        except DocumentMissing:
            there = set()
        missing = [made for made in ledger().checkpoints() if checkpoint_name(made.number) not in there]
        filings = [_filing(made, folder) for made in missing]
        answers = list(session.file(filings))
    if refused := [answer for answer in answers if not isinstance(answer, Filed)]:
        raise RepositoryError(
            f"the ledger is sealed, and a checkpoint could not be filed at {repository.address}: {refused[0].reason}; mend "
            "'checkpoints' in repositories.yaml and run it again"
        )
    return [filing.name for filing in filings]


def _filing(made: Checkpoint, folder: tuple[str, ...]) -> Filing:
    content = made.text.encode("ascii")
    with spool().batch() as batch:
        sink = batch.open()
        sink.write(content)
        done = sink.finish()
    journey = str(uuid5(NAMESPACE_URL, f"checkpoint/{made.hash}"))
    name = checkpoint_name(made.number)
    return Filing(journey, name, folder, spool().path(done.digest), done.digest, done.size, "application/json")
