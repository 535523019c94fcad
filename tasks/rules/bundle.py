"""What a bundle of evidence holds, and what of it follows from what.

::

    manifest.json                       every other member with size and SHA-256
    index.html                          to read and print; follows from the ledger's entries
    export.jsonl                        the ledger's entries of this export: how far every journey had come, so that no end is cut off
    journeys/<journey>.jsonl            the ledger's entries of one journey, each with its hash: what all else rests on
    checkpoints/<number>.json           a seal over the ledger, as it is filed, signed with the sender's key
    checkpoints/<number>.hashes         the hashes of all entries under that seal: they show that ours are among them
    orders/<journey>/<package>.signoff.json, .transmission.json       certificate and transmission record; both follow from the entries
    documents/<SHA-256>                 bytes, if they were asked for

Nothing rests on the manifest: a name in it is believed only where the entries call for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from blocks.outbound import Package, canonical, sha256
from tasks.rules.certificate import certificate_name
from tasks.rules.transmission import Acknowledgement, Kept, acknowledged, record_name

KIND = "countersign evidence"
VERSION = 1
MANIFEST, PAGE, EXPORT = "manifest.json", "index.html", "export.jsonl"


@dataclass(frozen=True, slots=True)
class Step:
    """An entry of the ledger, as its chain has proven it."""

    journey: str
    n: int
    kind: str
    at: str
    """ISO 8601, UTC."""
    body: Mapping[str, Any]
    hash: str
    seq: int
    """Its number in the whole ledger."""

    @classmethod
    def parse(cls, facts: Mapping[str, Any], hash: str, seq: int) -> Step:
        return cls(facts["journey"], facts["n"], facts["kind"], facts["at"], facts["body"], hash, seq)


class Story:
    """One journey with all that belongs to it: an order with the journeys of its documents, or a file that came with those of its rows
    that went on without the others."""

    def __init__(self, id: str, steps: Iterable[Step]) -> None:
        self.id, self.steps = id, tuple(steps)

    @cached_property
    def own(self) -> tuple[Step, ...]:
        """Without the journeys of its parts."""
        return tuple(step for step in self.steps if step.journey == self.id)

    def last(self, *kinds: str) -> Step | None:
        return next((step for step in reversed(self.own) if step.kind in kinds), None)

    def each(self, kind: str) -> Iterator[Step]:
        return (step for step in self.own if step.kind == kind)

    @property
    def ordered(self) -> bool:
        """It is an order's, not a file's that came."""
        return bool(self.own) and self.own[0].kind == "ordered"

    @cached_property
    def package(self) -> Package | None:
        frozen = self.last("frozen") if self.ordered else None
        return Package.parse(str(frozen.body["package"])) if frozen else None

    @property
    def parts(self) -> list[str]:
        """Its own journey and those of an order's documents, which begin together once somebody is asked for a sign-off, or of a
        file's good rows (``tasks.let_go_on``). Rows of an earlier file are that one's."""
        if not self.ordered:
            named = (
                str(part) for step in self.own if step.kind in ("parted", "duplicate") for part in step.body.get("parts", [])
            )
            return list(dict.fromkeys([self.id, *(part for part in named if part.startswith(f"{self.id}.rows"))]))
        count = len(self.package.files) if self.package else 0
        return [self.id, *(f"{self.id}.{n}" for n in range(1, count + 1))]

    # ---------------------------------------------------------------------------------------- what follows from it

    @cached_property
    def certificate(self) -> str | None:
        """The certificate's text, once it was made."""
        sealed = self.last("sealed") if self.ordered else None
        return str(sealed.body["text"]) if sealed else None

    @cached_property
    def record(self) -> str | None:
        """The transmission record's text as it was filed last, or is about to be filed."""
        recording, done = self.last("recording"), self.last("recorded")
        if recording is None:
            return None
        text, count = str(recording.body["text"]), int(done.body.get("acknowledgements", 0)) if done else 0
        return acknowledged(text, self.acknowledgements[:count]) if count else text

    @property
    def acknowledgements(self) -> list[Acknowledgement]:
        return [Acknowledgement.parse(step.body["said"]) for step in self.each("acknowledged")]

    def texts(self) -> dict[str, str]:
        """Members that follow from the entries: name -> text."""
        package, found = self.package, {}
        if package is not None and self.certificate is not None:
            found[f"orders/{self.id}/{certificate_name(package)}"] = self.certificate
        if package is not None and self.record is not None:
            found[f"orders/{self.id}/{record_name(package)}"] = self.record
        return found

    @cached_property
    def documents(self) -> dict[str, list[Kept]]:
        """SHA-256 of every document that it is about -> where repositories keep it, best first."""
        found: dict[str, list[Kept]] = {}
        for step in self.own:
            for digest, copy in (step.body["copies"] if step.kind == "copied" else {}).items():
                found.setdefault(digest, []).append(Kept(copy["repository"], copy["id"], copy["version"]))
        for step in self.steps:
            told = step.body
            if step.kind in ("packaged", "fetched", "filed") and told.get("digest"):
                known = found.setdefault(str(told["digest"]), [])
                if told.get("repository_id") and told.get("version"):
                    known.append(Kept(str(told["repository"]), str(told["repository_id"]), int(told["version"])))
        for said in (one for one in self.acknowledgements if not one.picked_up):
            found.setdefault(said.digest, []).append(Kept(said.repository, said.repository_id, 1))
        return found

    @property
    def heads(self) -> str:
        """How far its journeys have come, a line for each: the last entry by number and hash."""
        newest = {step.journey: step for step in self.steps}
        return "".join(f"{step.journey} {step.n} {step.hash}\n" for step in newest.values())

    def faults(self) -> Iterator[str]:
        """What does not agree within it, in words."""
        there = list(dict.fromkeys(step.journey for step in self.steps))
        begun = not self.ordered or self.last("opened", "delivered") is not None
        if there != self.parts and (there != [self.id] or begun):
            lost = sorted(set(self.parts) - set(there)) or sorted(set(there) - set(self.parts))
            yield f"its entries should be those of {len(self.parts)} journeys in their order; see {', '.join(lost[:3]) or there[0]}"
        if self.package is not None and self.package.journey != self.id:
            yield "its package is another order's"
        for sealed in self.each("sealed"):
            if sha256(str(sealed.body["text"])) != sealed.body["certificate"]:
                yield "its certificate is not the one whose hash stands beside it"
        done = self.last("recorded")
        if done is not None and (self.record is None or sha256(self.record) != done.body["record"]):
            yield "its transmission record is not the one that was filed"


# --------------------------------------------------------------------------------------------- names


def extract_name(journey: str) -> str:
    return f"journeys/{journey}.jsonl"


def checkpoint_names(number: int) -> tuple[str, str]:
    """Of the seal, and of the hashes under it."""
    return f"checkpoints/{number:06d}.json", f"checkpoints/{number:06d}.hashes"


def document_name(digest: str) -> str:
    return f"documents/{digest}"


# --------------------------------------------------------------------------------------------- the manifest


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says is in it."""

    journeys: tuple[str, ...]
    """In the order of the page."""
    checkpoints: tuple[int, ...]
    page: int
    """Version of the page: how the same facts are shown."""
    members: Mapping[str, tuple[str, int]]
    """Name -> SHA-256 and size, of all but the manifest itself."""

    @property
    def text(self) -> str:
        members = [{"name": name, "sha256": told[0], "size": told[1]} for name, told in sorted(self.members.items())]
        facts = {
            "kind": KIND,
            "version": VERSION,
            "page": self.page,
            "journeys": list(self.journeys),
            "checkpoints": list(self.checkpoints),
            "members": members,
        }
        # Of itself, so that a byte that is changed here is not taken for one of the member that it speaks of.
        return canonical(facts | {"sha256": sha256(canonical(facts))})

    @classmethod
    def parse(cls, text: str) -> Manifest:
        """Back from ``text``. Raises ``ValueError`` for any other."""
        try:
            told = json.loads(text)
            if (told["kind"], told["version"]) != (KIND, VERSION):
                raise ValueError("it is none, or of a version that is not known here")
            members = {one["name"]: (one["sha256"], one["size"]) for one in told["members"]}
            found = cls(tuple(told["journeys"]), tuple(told["checkpoints"]), told["page"], members)
            shapes = [isinstance(id, str) for id in found.journeys] + [type(number) is int for number in found.checkpoints]
            shapes += [type(found.page) is int]
            shapes += [isinstance(told[0], str) and type(told[1]) is int for told in members.values()]
            if not all(shapes) or found.text != text:
                raise ValueError("it is not as it was written")
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"it is not whole ({type(error).__name__})") from error
        return found

    def expected(self, texts: Iterable[str]) -> set[str]:
        """The members that must be there, documents aside; ``texts`` are those that follow from the entries."""
        seals = [name for number in self.checkpoints for name in checkpoint_names(number)]
        return {PAGE, EXPORT, *map(extract_name, self.journeys), *seals, *texts}


def differing(wanted: Iterable[str], there: Iterable[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Names that are missing, and names that nothing calls for."""
    one, other = set(wanted), set(there)
    return sorted(one - other), sorted(other - one)
