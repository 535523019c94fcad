"""What goes into a package, under which names it is placed, and whether it still is what was signed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from fnmatch import fnmatchcase

from blocks.outbound import (
    Attribute,
    Destination,
    DestinationTerms,
    Freshness,
    Gather,
    Outbound,
    Package,
    PackageFile,
    Policies,
    Refusal,
    Which,
    canonical,
)
from blocks.values import Kept, shown
from tasks.rules.naming import extension, illegal, text

# --------------------------------------------------------------------------------------------- what goes in


@dataclass(frozen=True, slots=True)
class Withheld:
    """A document that was found and does not go, and why."""

    id: str
    name: str
    code: str
    reason: str


def admitted(kept: Kept, gather: Gather, freshness: Freshness, today: date) -> int | Withheld:
    """The version of a found document that goes; or why none of it does.

    Under ``latest`` an approved version goes only while it is also the newest one: what voids a waiting package is not begun.
    """
    if not any(fnmatchcase(kept.name, pattern) for pattern in gather.patterns):
        return _withheld(kept, "other-name", "its name does not belong to this stream")
    for admission in gather.admits:
        if admission.values and not set(admission.values) & values(kept, admission):
            wanted = " or ".join(admission.values)
            return _withheld(kept, "not-admitted", f"{admission.category} / {admission.attribute} is not {wanted}")
    if gather.valid_until is not None and (expired := _expired(kept, gather.valid_until, today)):
        return _withheld(kept, "approval-expired", expired)
    if gather.version is Which.NEWEST or gather.approved_in is None:
        return kept.version
    numbers = values(kept, gather.approved_in)
    number = next(iter(numbers)) if len(numbers) == 1 else ""
    if not (number.isascii() and number.isdecimal() and 0 < len(number) < 10 and 1 <= int(number) <= kept.version):
        place = f"{gather.approved_in.category} / {gather.approved_in.attribute}"
        return _withheld(kept, "no-approved-version", f"{place} holds no number of one of its versions")
    if freshness is Freshness.LATEST and int(number) != kept.version:
        return _withheld(kept, "newer-version", f"version {number} is approved, but version {kept.version} is newer")
    return int(number)


def not_reviewed(kept: Kept, why: str) -> Withheld:
    return _withheld(kept, "not-reviewed", why)


def sensitive(kept: Kept, gather: Gather) -> dict[str, list[str]]:
    """The values of a document whose change voids a waiting package, as JSON values."""
    return {f"{one.category} / {one.attribute}": sorted(values(kept, one)) for one in gather.sensitive}


def changed_values(frozen: Mapping[str, Sequence[str]], now: Mapping[str, Sequence[str]]) -> str:
    """The attributes whose values are not those that were frozen; empty if all are. One that nobody froze is not asked for."""
    return ", ".join(sorted(name for name, values in frozen.items() if list(now.get(name, ())) != list(values)))


def _withheld(kept: Kept, code: str, reason: str) -> Withheld:
    return Withheld(kept.id, shown(kept.name), code, shown(reason))


def values(kept: Kept, attribute: Attribute) -> set[str]:
    """What a document has in an attribute, as texts."""
    held = kept.categories.get(attribute.category, {}).get(attribute.attribute)
    if held is None or held == "":
        return set()
    return {str(value) for value in held} if isinstance(held, list | tuple | set | frozenset) else {str(held)}


def _expired(kept: Kept, attribute: Attribute, today: date) -> str | None:
    """Why a document may no longer leave. No date: no end. A date that is none: it may not."""
    try:
        days = [date.fromisoformat(value[:10]) for value in values(kept, attribute)]
    except ValueError:
        return f"{attribute.category} / {attribute.attribute} holds no date"
    return f"its approval ended on {min(days)}" if days and min(days) < today else None


# --------------------------------------------------------------------------------------------- is it still the same


@dataclass(frozen=True, slots=True)
class AtRepository:
    """What the repository says now about a packaged document."""

    newest: int | None
    """Its newest version; None if the document is gone or no longer ours to see."""
    admitted: bool = True
    """The stream's terms still let it go."""
    sha256: str | None = None
    """Of the packaged version's bytes, if they were read again."""
    changed: str = ""
    """Attributes with other values than when the package was frozen."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """The package may go, if its sign-off is complete."""


@dataclass(frozen=True, slots=True)
class Voided:
    """The package is void as a whole, with all its votes, and why."""

    code: str
    reason: str


def freshness(
    package: Package,
    at_repository: Mapping[str, AtRepository],
    terms: Outbound,
    *,
    destinations: Sequence[Destination],
    frozen: Policies,
    policies: Policies,
) -> Fresh | Voided:
    """Whether what was signed still is what would be sent.

    ``at_repository`` is by repository id; ``destinations`` and ``policies`` are those of now, ``frozen`` is kept beside the
    package. A change in the people file voids nothing: it is asked of each vote.
    """
    if frozen.digest != package.policy:
        return Voided("policy-unknown", "the policies kept beside the package are not those it was frozen under")
    if (policies.profile, policies.terms) != (frozen.profile, frozen.terms):
        return Voided("policy-changed", "what was agreed with the partner was changed while the package waited")
    if tuple(destinations) != package.destinations:
        return Voided("destinations-changed", "a destination is not the one that was shown: host, user, path or key differ")
    for file in package.files:
        # What is delivered again is what was: a newer version is another order.
        policy = Freshness.PINNED if package.redelivery else terms.freshness
        voided = _changed(file, at_repository.get(file.repository_id, AtRepository(None)), policy)
        if voided is not None:
            return voided
    return Fresh()


def _changed(file: PackageFile, now: AtRepository, policy: Freshness) -> Voided | None:
    if now.newest is None:
        return Voided("document-gone", f"{file.shown} is no longer in the repository as it was approved")
    if now.sha256 is not None and now.sha256 != file.sha256:
        return Voided("bytes-changed", f"version {file.version} of {file.shown} has other bytes than those that were approved")
    if now.newest < file.version:
        return Voided("version-gone", f"version {file.version} of {file.shown} is no longer in the repository")
    if now.changed:
        return Voided("sensitive-change", f"{shown(now.changed)} of {file.shown} was changed while the package waited")
    if policy is Freshness.PINNED:
        return None
    if now.newest != file.version:
        return Voided("superseded", f"{file.shown} is superseded by v{now.newest}")
    if not now.admitted:
        return Voided(
            "no-longer-admitted", f"the repository no longer admits {file.shown}: its approval was withdrawn or has ended"
        )
    return None


# --------------------------------------------------------------------------------------------- names at the partner


@dataclass(frozen=True, slots=True)
class Layout:
    """The names a package has at one destination."""

    documents: tuple[tuple[PackageFile, bytes], ...]
    sidecars: tuple[tuple[PackageFile, bytes], ...]
    manifest: bytes | None
    done_file: bytes | None
    """Placed last of all."""


def fill(template: str, facts: Mapping[str, str | datetime]) -> str:
    """A template of the terms with its facts filled in. The terms admit no attributes, so nothing else can be read."""
    return template.format_map(facts)


def layout(package: Package, files: Sequence[PackageFile], terms: DestinationTerms) -> Layout | Refusal:
    """Under which names these documents of a package go; refused if two would collide or one is no name.

    Made only of what is in the package and the terms, so that what was signed also says what things are called.
    """
    if package.corrects is not None and terms.manifest is None:
        return Refusal(
            "correction-untold", "The partner could not tell that these take the place of others: agree on a 'manifest'."
        )
    common = {"partner": package.partner, "stream": package.stream, "order": package.order}
    documents = tuple((file, fill(terms.name, common | _facts(file)).encode("utf-8", "surrogateescape")) for file in files)
    sidecars: tuple[tuple[PackageFile, bytes], ...] = ()
    if terms.sidecar is not None:
        template = terms.sidecar
        sidecars = tuple((f, fill(template, {"name": text(n)}).encode("utf-8", "surrogateescape")) for f, n in documents)
    about = common | {"package": package.digest[:16]}
    manifest = fill(terms.manifest, about).encode() if terms.manifest is not None else None
    done_file = fill(terms.done_file, about).encode() if terms.done_file is not None else None
    names = [name for _, name in (*documents, *sidecars)] + [name for name in (manifest, done_file) if name is not None]
    for name in names:
        if (why := illegal(name)) is not None:
            return Refusal("illegal-name", f"A document cannot be placed under its name at the partner: {why}.")
    if len(set(names)) != len(names):
        return Refusal(
            "names-collide", "Two files would have the same name at the partner: change the stream's name templates."
        )
    return Layout(documents, sidecars, manifest, done_file)


def _facts(file: PackageFile) -> dict[str, str]:
    name, ending = text(file.name), extension(file.name)
    return {
        "name": name,
        "stem": name[: -len(ending) - 1] if ending else name,
        "extension": ending,
        "version": str(file.version),
        "digest": file.sha256,
        "id": file.repository_id,
    }


def sidecar(file: PackageFile, name: bytes) -> bytes:
    """A checksum file that ``sha256sum --check`` reads (GNU coreutils: a name with a backslash is escaped, and so is its line)."""
    escaped = name.replace(b"\\", b"\\\\")
    return (b"\\" if escaped != name else b"") + file.sha256.encode() + b"  " + escaped + b"\n"


def manifest(package: Package, documents: Sequence[tuple[PackageFile, bytes]]) -> bytes:
    """The list that goes with the documents: names at the partner, sizes, SHA-256; in a kit their slots; the order that they correct."""
    listed = [
        {"name": shown(name), "size": file.size, "sha256": file.sha256} | ({"slot": file.slot} if file.slot else {})
        for file, name in documents
    ]
    kit, wrong = {"kit": package.kit} if package.kit else {}, package.corrects
    corrects = {"corrects": {"order": wrong.order, "package": wrong.package}} if wrong else {}
    about = {**kit, **corrects, "order": package.order, "package": package.digest}
    return (canonical({**about, "files": listed}) + "\n").encode()
