"""Verify evidence: is a bundle as it was written? With nothing but its files and the sender's public key: no ledger, no network."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from blocks.bundle import Bundle, open_bundle
from blocks.case_signoff import CASE_NAMESPACE, SIGNED_OFF, CaseSignoff
from blocks.chain import Link, proven
from blocks.errors import BundleBroken, ChainBroken
from blocks.ledger import Checkpoint
from blocks.seals import signed as sealed
from blocks.values import shown
from tasks.rules import bundle_page
from tasks.rules.bundle import (
    EXPORT,
    MANIFEST,
    PAGE,
    Manifest,
    Step,
    Story,
    checkpoint_names,
    differing,
    document_name,
    extract_name,
)
from tasks.rules.certificate import Check, Claim, verify

_LARGEST_TEXT = 256 * 1024**2
"""Bytes of a member, or of one line of it, that is read at once: the entry that holds a package of some hundred thousand documents."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DOCUMENTS = document_name("")

MALFORMED = (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError, OverflowError, ArithmeticError)
"""What reading entries raises that no ledger of ours holds, whoever sealed them."""


def verify_evidence(
    path: Path, keys: Mapping[str, bytes], signed: Callable[[Claim], bool], filed: Sequence[Checkpoint] = ()
) -> Iterator[Check]:
    """Every check of a bundle, in words that name the member; never raises for what the bundle holds.

    ``keys`` (id -> public key) are whose seals count, from a source other than the bundle; ``signed`` verifies approvers' signatures;
    ``filed`` are checkpoints from where they are filed: the bundle's must be among them, or next to them.
    """
    try:
        with open_bundle(path) as bundle:
            yield from _checks(bundle, keys, signed, filed)
    except BundleBroken as error:
        yield Check(error.member, False, error.reason)


def _checks(
    bundle: Bundle, keys: Mapping[str, bytes], signed: Callable[[Claim], bool], filed: Sequence[Checkpoint]
) -> Iterator[Check]:
    if MANIFEST not in bundle.sizes:
        yield Check(MANIFEST, False, "it is missing: this is no bundle of evidence, or not all of it")
        return
    try:
        manifest = Manifest.parse(bundle.text(MANIFEST, _LARGEST_TEXT))
    except ValueError as error:
        yield Check(MANIFEST, False, f"it was changed: {error}")
        return
    whole = list(_members(bundle, manifest))
    yield from whole
    if whole:
        return  # what differs from the manifest has been named; the rest would only say so again
    yield Check("members", True, f"{len(manifest.members)} files, each with the SHA-256 that the manifest tells")
    yield from _content(bundle, manifest, keys, signed, filed)


def _members(bundle: Bundle, manifest: Manifest) -> Iterator[Check]:
    """What is not as the manifest says."""
    missing, strange = differing(manifest.members, set(bundle.sizes) - {MANIFEST})
    for name in missing:
        yield Check(shown(name), False, "it is missing")
    for name in strange:
        yield Check(name, False, "it was added: the manifest does not know it")
    for name, (digest, size) in sorted(manifest.members.items()):
        if name not in bundle.sizes:
            continue
        if bundle.sizes[name] != size:
            yield Check(name, False, f"it has {bundle.sizes[name]:,} bytes, the manifest says {size:,}")
        elif _digest(bundle, name) != digest:
            yield Check(name, False, "its bytes were changed: their SHA-256 is not the one in the manifest")


def _digest(bundle: Bundle, name: str) -> str:
    told = hashlib.sha256()
    for data in bundle.chunks(name):
        told.update(data)
    return told.hexdigest()


# --------------------------------------------------------------------------------------------- what follows from what


class _Found:
    """What the journeys told, for what is looked at after them."""

    def __init__(self) -> None:
        self.hashes: dict[int, bytes] = {}
        """Number in the ledger -> hash."""
        self.documents: set[str] = set()
        self.texts: set[str] = set()
        self.page, self.heads = hashlib.sha256(), hashlib.sha256()


def _content(
    bundle: Bundle, manifest: Manifest, keys: Mapping[str, bytes], signed: Callable[[Claim], bool], filed: Sequence[Checkpoint]
) -> Iterator[Check]:
    """Whether the members agree with each other, whoever may have written the manifest anew."""
    here = {name.removeprefix(_DOCUMENTS) for name in manifest.members if name.startswith(_DOCUMENTS)}
    found = _Found()
    bad, export = 0, None
    try:
        export = _export(bundle, len(manifest.journeys), found)
        found.page.update(bundle_page.begin(export, len(here)).encode())
    except (ChainBroken, *MALFORMED) as error:
        bad += 1
        yield _odd(EXPORT, error)
    for id in manifest.journeys:
        for check in _journey(bundle, id, here, found, keys, signed):
            bad += not check.passed
            yield check
    if export is not None and not bad:
        whole = found.heads.hexdigest() == export.steps[1].body["heads"]
        words = (
            "every journey is as whole as it was in the ledger then"
            if whole
            else ("a journey is missing, or has lost its last entries: the ledger held others when this was exported")
        )
        yield Check(EXPORT, whole, words)
    yield from _seals(bundle, manifest, found, keys, filed)
    missing, strange = differing(
        manifest.expected(found.texts), {name for name in manifest.members if not name.startswith(_DOCUMENTS)}
    )
    strange = [*strange, *(document_name(digest) for digest in sorted(here - found.documents))]
    for name in missing:
        yield Check(shown(name), False, "it is missing: a journey in the bundle calls for it")
    for name in strange:
        yield Check(name, False, "nothing in the bundle calls for it")
    for digest in sorted(_called_for(export, found.documents) - here) if export is not None else []:
        yield Check(document_name(digest), False, "it is missing: this was exported with bytes, and these could be had")
    for digest in sorted(here):
        if manifest.members[document_name(digest)][0] != digest:
            yield Check(document_name(digest), False, "its bytes are others than those whose SHA-256 it is named by")
    found.page.update(bundle_page.END.encode())
    if not bad:
        yield _page(manifest, found.page.hexdigest())
    yield Check("documents", True, f"{len(here)} in the bundle, each with the bytes that its journey tells")


def _odd(name: str, error: Exception) -> Check:
    """What cannot be read, or has a broken chain."""
    return Check(name, False, str(error) if isinstance(error, ChainBroken) else f"it is not whole: {shown(str(error))[:200]}")


def _export(bundle: Bundle, journeys: int, found: _Found) -> Story:
    """The journey of the export itself: what it was about, and how far all others had come."""
    if EXPORT not in bundle.sizes:
        raise ValueError("it is missing")
    story = _story(bundle, EXPORT, found)
    if [step.kind for step in story.own] != ["exporting", "exported"] or len(story.steps) != 2:
        raise ValueError("it is no export's")
    if story.steps[0].body["journeys"] != journeys:
        raise ValueError(f"it tells of {story.steps[0].body['journeys']} journeys, the manifest lists {journeys}")
    begun, done = (step.body for step in story.steps)
    if type(begun["with_bytes"]) is not bool or not all(isinstance(digest, str) for digest in done.get("lacking", [])):
        raise ValueError("it does not tell which bytes were wanted, and not had")
    return story


def _called_for(export: Story, documents: set[str]) -> set[str]:
    """Of the documents that the journeys tell, those whose bytes must be there: none, or all but those that could not be had."""
    begun, done = export.steps
    return documents - set(done.body.get("lacking", [])) if begun.body["with_bytes"] else set()


def _journey(
    bundle: Bundle, id: str, here: set[str], found: _Found, keys: Mapping[str, bytes], signed: Callable[[Claim], bool]
) -> Iterator[Check]:
    name = extract_name(id)
    if name not in bundle.sizes:
        yield Check(shown(name), False, "it is missing: the manifest lists the journey")
        return
    try:
        story = _story(bundle, name, found)
        if story.id != id:
            raise ValueError("it is another journey's")
        faults = list(story.faults())
        texts, section = story.texts(), bundle_page.section(story, here)
        found.documents.update(story.documents)
    except (ChainBroken, *MALFORMED) as error:
        yield _odd(name, error)
        return
    found.texts.update(texts)
    found.page.update(section.encode())
    found.heads.update(story.heads.encode())
    yield Check(name, not faults, "; ".join(faults) or f"{len(story.steps)} entries, each holding the hash of the one before")
    for step in story.steps:
        if step.kind == SIGNED_OFF:
            yield _case_signoff(name, step, keys, signed)
    for other, text in texts.items():
        if other in bundle.sizes and bundle.text(other, _LARGEST_TEXT) != text:
            yield Check(other, False, "it is not what the ledger's entries say")
        elif story.certificate == text:
            yield _certificate(other, text, keys, signed)


def _story(bundle: Bundle, name: str, found: _Found) -> Story:
    """An extract's entries, once each chain is proven. Raises ``ChainBroken``, and ``ValueError`` for what is no entry."""
    before: Link | None = None
    steps: list[Step] = []
    for line in bundle.lines(name, _LARGEST_TEXT):
        link = Link.parse(line.decode("ascii"))
        if before is not None and before.journey != link.journey:
            before = None
        facts = proven(link, before)
        before = link
        steps.append(Step.parse(facts, link.hash, link.seq))
        if link.seq in found.hashes:
            raise ChainBroken(f"the ledger's entry {link.seq} stands in this bundle twice")
        found.hashes[link.seq] = bytes.fromhex(link.hash)
    if not steps:
        raise ValueError("it has no entries")
    return Story(steps[0].journey, steps)


def _case_signoff(name: str, step: Step, keys: Mapping[str, bytes], signed: Callable[[Claim], bool]) -> Check:
    """Who let a refused document through, or put it right: as the sender sealed it."""
    try:
        signoff = CaseSignoff.parse(step.body.get("signoff"))
    except ValueError as error:
        return Check(name, False, f"entry {step.n}: {error}")
    if signoff.journey != step.journey or not any(map(signoff.sealed_by, keys.values())):
        return Check(name, False, f"entry {step.n}: this sign-off of a case is another's, or does not bear the sender's seal")
    if signoff.signed_at is not None:
        text = signoff.statement(signoff.signed_at)
        if not signed(Claim(signoff.approver, signoff.key, text, signoff.signature, signoff.at, CASE_NAMESPACE)):
            return Check(name, False, f"entry {step.n}: the signature of {shown(signoff.approver)} does not hold")
    of = signoff.corrected or signoff.document
    who = f"{signoff.action} of {of[:16]}… by {shown(signoff.approver)}, proven by {signoff.proof.value}"
    return Check(name, True, f"entry {step.n}: {who} and sealed by the sender")


def _certificate(name: str, text: str, keys: Mapping[str, bytes], signed: Callable[[Claim], bool]) -> Check:
    """All that ``verify-signoff`` asks, as one."""
    wrong: list[str] = []
    for key in keys.values():
        checks = verify(text, public_key=key, sealed=sealed, signed=signed)
        if not (failed := [f"{check.name}: {check.words}" for check in checks if not check.passed]):
            return Check(name, True, f"sealed by the sender; {len(checks)} checks passed")
        wrong = failed if _key(text) == key or not wrong else wrong
    return Check(name, False, "; ".join(wrong))


def _key(text: str) -> bytes:
    """Whose seal a certificate says it bears."""
    try:
        return base64.b64decode(json.loads(text)["seal"]["public_key"], validate=True)
    except (binascii.Error, *MALFORMED):
        return b""


# --------------------------------------------------------------------------------------------- seals and page


def _seals(
    bundle: Bundle, manifest: Manifest, found: _Found, keys: Mapping[str, bytes], filed: Sequence[Checkpoint]
) -> Iterator[Check]:
    """Every entry stands at its place under a seal of the sender, and the seals are of one line."""
    open_still = dict(found.hashes)
    line: list[Checkpoint] = []
    for number in manifest.checkpoints:
        names = checkpoint_names(number)
        if any(name not in bundle.sizes for name in names):
            continue  # told as missing
        try:
            made = Checkpoint.parse(bundle.text(names[0], _LARGEST_TEXT))
            if made.text != bundle.text(names[0], _LARGEST_TEXT) or made.number != number:
                raise ValueError("it is not in its canonical form, or another's")
            made.prove(keys)
            first, last, root = made.facts["first"], made.facts["last"], str(made.facts["root"])
            if type(first) is not int or type(last) is not int:
                raise ValueError("it is over no entries")
        except (ChainBroken, *MALFORMED) as error:
            yield Check(names[0], False, shown(str(error))[:300])
            continue
        line.append(made)
        yield _under(bundle, names[1], first, last, root, open_still)
    yield from _line(line, filed)
    for seq in sorted(open_still)[:3]:
        yield Check(
            "seals", False, f"the ledger's entry {seq} is under none of the seals in this bundle, or not as it was sealed"
        )
    if not open_still:
        yield Check("seals", True, f"{len(found.hashes)} entries, all as the sender sealed them")


def _line(seals: Sequence[Checkpoint], filed: Sequence[Checkpoint]) -> Iterator[Check]:
    """The seals follow each other, as far as neighbours are here, and are those that were filed."""
    before: Checkpoint | None = None
    for made in sorted(seals, key=lambda one: one.number):
        if before is not None and not _before(before, made):
            yield Check(
                checkpoint_names(made.number)[0], False, f"it does not follow checkpoint {before.number}: one of them is forged"
            )
        before = made
    here = {made.number: made for made in seals}
    held: set[int] = set()
    for kept in filed:
        name, near = checkpoint_names(kept.number)[0], {kept.number - 1, kept.number, kept.number + 1} & set(here)
        ours = here.get(kept.number)
        if ours is not None and ours.hash != kept.hash:
            yield Check(name, False, "it is not the one that was filed")
        elif (kept.number - 1 in here and not _before(here[kept.number - 1], kept)) or (
            kept.number + 1 in here and not _before(kept, here[kept.number + 1])
        ):
            yield Check(name, False, "the one that was filed does not go with the checkpoint next to it in the bundle")
        elif not near:
            yield Check(
                name,
                False,
                f"it was filed, and is next to none in the bundle ({', '.join(map(str, sorted(here)))}): fetch those",
            )
        else:
            # The hash of the one before stands in each: what was filed holds itself and the one before, not the one behind.
            held |= near - {kept.number + 1}
            yield Check(
                name, True, "it is as it was filed" if ours else "what was filed goes with the checkpoint next to it here"
            )
    if filed and (rest := sorted(set(here) - held)):
        yield Check(
            "seals",
            True,
            f"held by the sender's signature alone: checkpoint {', '.join(map(str, rest))}; fetch it once it is filed",
        )


def _before(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether one can stand before the other; told for certain only of neighbours."""
    if other.number == one.number + 1:
        return bool(other.facts["previous"] == one.hash and other.facts["first"] == one.facts["last"] + 1)
    return bool(other.number > one.number and other.facts["first"] > one.facts["last"])


def _under(bundle: Bundle, name: str, first: int, last: int, root: str, open_still: dict[int, bytes]) -> Check:
    """The hashes under one seal; takes those that are found as they should be off ``open_still``."""
    told, seq, good = hashlib.sha256(), first, list[int]()
    for line in bundle.lines(name, 64 + 1):
        if not _DIGEST.fullmatch(digest := line.decode("ascii", "replace")):
            return Check(name, False, f"line {seq - first + 1} is no hash")
        told.update(line)
        if open_still.get(seq) == bytes.fromhex(digest):
            good.append(seq)
        seq += 1
    if seq != last + 1 or told.hexdigest() != root:
        return Check(name, False, "these are not the hashes that were sealed")
    for one in good:
        del open_still[one]
    return Check(name, True, f"{last - first + 1} entries, sealed by the sender")


def _page(manifest: Manifest, told: str) -> Check:
    if manifest.page != bundle_page.VERSION:
        words = f"it was made by another version of Countersign (page {manifest.page}, here {bundle_page.VERSION}): compare it there"
        return Check(PAGE, False, words)
    same = manifest.members.get(PAGE, ("", 0))[0] == told
    return Check(PAGE, same, "it shows what the entries say" if same else "it shows something else than the entries say")
