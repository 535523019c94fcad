"""Tombstones: what is left of a closed journey whose texts stand in a sealed export in the repository.

::

    before    1 arrived   2 fetched   3 filed   4 cleared                  each with its canonical text
    after     1 arrived   2 fetched   3 filed   4 cleared   5 reduced      1 to 4 without; 5 is the tombstone, whole

The tombstone is the journey's last entry, chained to the head before it. Its body::

    {"tombstone": {"record": …, "signature": …}, "kept": {"3": {"stage": …, "body": {…}}}, "export": {…}, "policy": …}

``record`` is the canonical text that was sealed: journey, number of entries, head hash, a digest over everything that remains of
them (number, kind, time, unique key, hash, stage, kept facts), and the key. So of an entry that lost its text, nothing that is left
can be changed unseen; and its hash is still the one that the checkpoints sealed.

An export is a file of JSON lines: for each of its journeys the canonical texts of all entries in order, as they stood in the ledger
to the byte, then the journey's sealed tombstone. The SHA-256 of a line is the entry's hash.

Values and files only: no database, no clock.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from blocks import chain
from blocks.canonical import canonical, iso, sha256
from blocks.chain import CaseState, Link
from blocks.errors import ChainBroken
from blocks.seals import signed
from blocks.values import Stage

REDUCED = "reduced"
"""The kind of the entry that is a tombstone. Only ``Ledger.reduce`` writes it, and no entry follows it."""
GONE = ""
"""Stands for the text of an entry that was reduced."""
KEPT = (
    "digest", "duplicate_of", "from", "keep_until", "page_id", "partner", "parts", "record_date", "records_class", "repository",
    "repository_id", "round", "schedule", "size", "stream", "version",
)  # fmt: skip
"""Facts on which decisions about later documents, holds and retention rest. What is not among them goes: names, findings, comments,
who did it."""
_REPEATED = ("partner", "stream", "size")
"""Every entry says these; they are kept where they change."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is to be left of a journey."""

    journey: str
    entries: int
    head: str
    """The hash of its last entry."""
    last: int
    """The number of its last entry in the ledger."""
    record: str
    """The canonical text that is sealed."""
    kept: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sealed:
    """A tombstone and the signature over its text."""

    tombstone: Tombstone
    signature: bytes

    @property
    def facts(self) -> dict[str, str]:
        return {"record": self.tombstone.record, "signature": self.signature.hex()}


def tombstone(links: Sequence[Link], key: str) -> Tombstone:
    """What is to be left of a whole journey, for that key to seal.

    Raises ``ChainBroken`` if its chain does not hold, ``ValueError`` if it is not over.
    """
    head = links[-1]
    if head.kind == REDUCED or not over(told := proven(links)):
        raise ValueError(f"journey {head.journey} is not whole, or not over: no tombstone is made for it")
    kept = _kept(told)
    facts = {
        "v": chain.VERSION,
        "kind": "tombstone",
        "journey": head.journey,
        "entries": head.n,
        "head": head.hash,
        "remains": _remains(links, kept),
        "key": key,
    }
    return Tombstone(head.journey, head.n, head.hash, head.seq, canonical(facts), kept)


# --------------------------------------------------------------------------------------------- reading


def facts_of(links: Sequence[Link]) -> list[dict[str, Any]]:
    """The facts of a journey's entries, in order; of those that were reduced, what was kept.

    Raises ``ChainBroken`` for an entry without text over which no tombstone stands.
    """
    kept = _kept_by(links[-1]) if links and links[-1].kind == REDUCED and links[-1].record else None
    previous, found = None, []
    for link in links:
        if link.record == GONE and kept is None:
            raise ChainBroken(f"{_place(link)}: its text was taken away, and no tombstone stands over it")
        found.append(link.facts if link.record else _left(link, previous, kept or {}))
        previous = link.hash
    return found


def proven(links: Sequence[Link], keys: Mapping[str, bytes] | None = None) -> list[dict[str, Any]]:
    """The facts of a journey's entries, once its chain is shown to hold; where it was reduced, its tombstone to be sealed.

    ``keys`` (id -> public key): by one of these; without any, no tombstone holds. Raises ``ChainBroken`` that says what differs.
    """
    *rows, last = links
    if last.kind != REDUCED:
        return _proven_whole(links)
    for number, link in enumerate(rows, start=1):
        if link.n != number:
            raise ChainBroken(f"journey {link.journey}: entry {number} is missing under its tombstone")
        if link.kind == REDUCED:
            raise ChainBroken(f"{_place(link)}: an entry stands behind this tombstone")
        if link.record != GONE:
            raise ChainBroken(
                f"{_place(link)}: a tombstone stands over it, and its text is still here: somebody planted one of both"
            )
    told = chain.proven(last, rows[-1] if rows else None)
    _check_seal(told, rows, keys)
    facts = facts_of(links)
    if not over(facts):
        raise ChainBroken(f"journey {last.journey}: a tombstone stands over it, and it was still open")
    return facts


def over(facts: Sequence[Mapping[str, Any]]) -> bool:
    """True if a journey that went so is cleared, and nobody is to resolve its case."""
    index, case = chain.indexed("", facts)
    return index.stage == Stage.CLEARED and (case is None or case.state == CaseState.RESOLVED)


def reread(links: Sequence[Link], texts: Sequence[str]) -> list[Link]:
    """A reduced journey with its texts again, tombstone and all.

    Raises ``ChainBroken`` unless these are its texts, and what was kept of them is what they say.
    """
    *rows, last = links
    if len(texts) != len(rows):
        raise ChainBroken(
            f"journey {last.journey}: its export has {len(texts)} entries of it, the tombstone stands over {len(rows)}"
        )
    whole = [_with_text(link, text) for link, text in zip(rows, texts, strict=True)]
    facts = _proven_whole(whole)
    if canonical(_kept(facts)) != canonical(_kept_by(last)):
        raise ChainBroken(f"journey {last.journey}: its tombstone keeps other facts than its export tells")
    if not over(facts):
        raise ChainBroken(f"journey {last.journey}: a tombstone stands over it, and by its export it was still open")
    return [*whole, last]


def _proven_whole(links: Sequence[Link]) -> list[dict[str, Any]]:
    facts, before = [], None
    for link in links:
        if link.kind == REDUCED:
            raise ChainBroken(f"{_place(link)}: an entry stands behind this tombstone")
        if link.record == GONE:
            raise ChainBroken(f"{_place(link)}: its text was taken away, and no tombstone stands over it")
        facts.append(chain.proven(link, before))
        before = link
    return facts


def _check_seal(told: Mapping[str, Any], rows: Sequence[Link], keys: Mapping[str, bytes] | None) -> None:
    """Raise ``ChainBroken`` unless what was sealed is exactly what remains of these entries."""
    where = f"journey {told['journey']}: its tombstone"
    try:
        record, signature = str(told["body"]["tombstone"]["record"]), bytes.fromhex(told["body"]["tombstone"]["signature"])
        facts, kept = json.loads(record), told["body"]["kept"]
        key, about = str(facts["key"]), (facts["kind"], facts["journey"], facts["entries"], facts["head"])
        remains, left = facts["remains"], _remains(rows, kept)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ChainBroken(f"{where} is not whole ({type(error).__name__}): somebody planted it") from error
    if keys is None:
        raise ChainBroken(f"{where}: no key is known that could have sealed it (it says {key}); give the sender's: --key")
    if key not in keys or not signed(keys[key], record.encode("utf-8", "surrogatepass"), signature):
        raise ChainBroken(f"{where} is not sealed by any of the keys given (it says {key}): somebody planted it")
    if about != ("tombstone", told["journey"], len(rows), rows[-1].hash if rows else None):
        raise ChainBroken(f"{where} was sealed for another journey, or for other entries")
    if remains != left:
        raise ChainBroken(f"{where}: what is left of its entries is not what was sealed; a column or a kept fact was edited")


def _kept(facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By number of the entry, what stays of it besides its columns."""
    found, said = dict[str, Any](), dict[str, Any]()
    for fact in facts:
        body = {name: fact["body"][name] for name in KEPT if name in fact["body"]}
        for name in _REPEATED:
            if name in body and name in said and said[name] == body[name]:
                del body[name]
        said |= body
        if isinstance(case := fact["body"].get("case"), dict):
            body["case"] = {name: case[name] for name in ("code", "state") if name in case}
        stage = {"stage": fact["stage"]} if fact["stage"] else {}
        if body or stage:
            found[str(fact["n"])] = {**stage, **({"body": body} if body else {})}
    return found


def _kept_by(last: Link) -> Mapping[str, Any]:
    kept: Mapping[str, Any] = last.facts["body"]["kept"]
    return kept


def _remains(links: Sequence[Link], kept: Mapping[str, Any]) -> str:
    """SHA-256 over all that is left of some entries: their columns, and what was kept of their texts."""
    return sha256(canonical([[link.n, link.kind, iso(link.at), link.once, link.hash, kept.get(str(link.n))] for link in links]))


def _left(link: Link, previous: str | None, kept: Mapping[str, Any]) -> dict[str, Any]:
    of_it = kept.get(str(link.n), {})
    return {
        "v": chain.VERSION,
        "journey": link.journey,
        "n": link.n,
        "kind": link.kind,
        "at": iso(link.at),
        "previous": previous,
        "once": None if link.once is None else json.loads(f'"{link.once}"'),
        "stage": of_it.get("stage"),
        "body": dict(of_it.get("body", {})),
    }


def _with_text(link: Link, text: str) -> Link:
    return Link(link.seq, link.journey, link.n, link.kind, link.at, link.once, link.hash, text)


def _place(link: Link) -> str:
    return f"journey {link.journey}, entry {link.n} ({link.kind!r})"


# --------------------------------------------------------------------------------------------- exports


def export(journeys: Sequence[tuple[Sequence[Link], Sealed]]) -> str:
    """The text of an export: the journeys' entries to the byte, each journey followed by its sealed tombstone."""
    lines = [line for links, sealed in journeys for line in (*(link.record for link in links), canonical(sealed.facts))]
    return "".join(f"{line}\n" for line in lines)


def texts_in(path: Path, journey: str) -> list[str]:
    """The texts of one journey in an export. Raises ``ChainBroken`` if it is not in there."""
    with path.open("rb") as file:
        places = dict(_places(file))
        if journey not in places:
            raise ChainBroken(f"journey {journey}: its tombstone names {path.name}, which has no entries of it")
        return _between(file, *places[journey])


class Exports:
    """A folder with exports, fetched from the repository. Each file is read once when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[str, dict[str, tuple[int, int]] | None] = {}

    def texts(self, last: Link) -> list[str] | None:
        """The texts of the journey whose tombstone this is; None if its export is not here.

        Raises ``ChainBroken`` for a file that is not the one that was filed.
        """
        filed = last.facts["body"]["export"]
        name = str(filed["name"])
        path = self._folder / Path(name).name
        if name not in self._places:
            self._places[name] = self._read(path, str(filed["digest"])) if path.is_file() else None
        places = self._places[name]
        if places is None:
            return None
        if last.journey not in places:
            raise ChainBroken(f"journey {last.journey}: its tombstone names {path}, which has no entries of it")
        with path.open("rb") as file:
            return _between(file, *places[last.journey])

    def _read(self, path: Path, digest: str) -> dict[str, tuple[int, int]]:
        """Where each journey's entries stand in a file."""
        with path.open("rb") as file:
            if (found := hashlib.file_digest(file, "sha256").hexdigest()) != digest:
                raise ChainBroken(
                    f"{path}: it was edited, or is another file: its SHA-256 is {found[:16]}…, filed was {digest[:16]}…"
                )
            file.seek(0)
            return dict(_places(file))


def _between(file: IO[bytes], begin: int, end: int) -> list[str]:
    file.seek(begin)
    return file.read(end - begin).decode("ascii").splitlines()


def _places(lines: IO[bytes]) -> Iterator[tuple[str, tuple[int, int]]]:
    begin = end = 0
    for line in lines:
        if line.startswith(b'{"record":'):
            yield str(json.loads(json.loads(line)["record"])["journey"]), (begin, end)
            begin = end + len(line)
        end += len(line)
