"""Kits: which document fills which slot, and whether a package is the whole kit that was agreed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from blocks.outbound import Outbound, Package, PackageFile, Slot
from blocks.values import Kept, shown
from tasks.rules.naming import text
from tasks.rules.packing import Withheld, values


@dataclass(frozen=True, slots=True)
class Filled:
    """What was found for a kit."""

    slots: Mapping[str, tuple[str, bool]]
    """By repository id, the slot that a document fills, and whether the kit may go without it."""
    outside: tuple[Withheld, ...] = ()
    """Documents that fit no slot."""
    problem: str = ""
    """Why no package can be made of it; "" if one can."""

    def place(self, id: str) -> tuple[str, bool]:
        """Slot and whether it is optional, of a document that goes."""
        return self.slots.get(id, ("", False))


def fits(kept: Kept, slot: Slot) -> bool:
    """True if a document of the repository belongs into a slot."""
    named = slot.pattern is None or fnmatchcase(kept.name, slot.pattern)
    return named and (slot.value is None or bool(set(slot.value.values) & values(kept, slot.value)))


def fill_slots(kit: str, terms: Outbound, found: Sequence[Kept], withheld: Sequence[Withheld]) -> Filled:
    """Each document in its slot. One that fits no slot stays outside; what is missing or not clear makes a problem.

    ``withheld`` are documents that may not go: one that would fill an empty slot is named there, so that somebody mends that.
    """
    slots = terms.slots(kit)
    if not slots:
        kits = ", ".join(terms.kits)
        problem = f"It was ordered as kit {shown(kit)!r}, and the stream has {kits or 'none'}: order it anew."
        return Filled({}, problem=problem if kit or terms.kits else "")
    fitting = {kept.id: [name for name, slot in slots.items() if fits(kept, slot)] for kept in found}
    outside = tuple(
        Withheld(kept.id, shown(kept.name), "no-slot", f"it fits no slot of kit {kit}, so it is not in it")
        for kept in found
        if not fitting[kept.id]
    )
    problems = [
        f"{shown(kept.name)} fits more than one slot ({', '.join(fitting[kept.id])}): the stream's terms must tell them apart"
        for kept in found
        if len(fitting[kept.id]) > 1
    ]
    for name, slot in slots.items():
        inside = [shown(kept.name) for kept in found if name in fitting[kept.id]]
        if len(inside) > 1:
            problems.append(f"{len(inside)} documents fit slot '{name}', which takes one: {', '.join(sorted(inside))}")
        if not inside and slot.required:
            problems.append(f"slot '{name}' is empty: {slot.wants} is wanted{_nearly(slot, withheld)}")
    if problems:
        return Filled({}, outside, f"Kit {kit}: {'; '.join(problems)}.")
    places = {id: (names[0], not slots[names[0]].required) for id, names in fitting.items() if names}
    return Filled(places, outside)


def _nearly(slot: Slot, withheld: Sequence[Withheld]) -> str:
    """Documents that are there under a right name, and may not go."""
    named = [one for one in withheld if slot.pattern is not None and fnmatchcase(one.name, slot.pattern)]
    return "".join(f" ({one.name} is withheld: {one.reason})" for one in named[:3])


def not_the_kit(package: Package, files: Sequence[PackageFile], terms: Outbound) -> str:
    """Why these documents of a package are not the whole kit of its name; "" if they are, or if the stream has no kits.

    It asks what a package tells: names, slots, and which are filled. Values in the repository are for those who can see it. What is
    sent once more went as a whole before.
    """
    return "" if package.redelivery else "; ".join(_amiss(package, files, terms))


def _amiss(package: Package, files: Sequence[PackageFile], terms: Outbound) -> Iterator[str]:
    slots = terms.slots(package.kit)
    if not slots and (package.kit or terms.kits):
        yield f"the reviewed profile has no kit {shown(package.kit)!r} for {package.partner}/{package.stream}"
    for file in package.files if slots else ():
        slot = slots.get(file.slot)
        if slot is None:
            yield f"kit {package.kit} has no slot '{shown(file.slot)}' for {file.shown}"
        elif slot.pattern is not None and not fnmatchcase(text(file.name), slot.pattern):
            yield f"{file.shown} does not belong into slot '{file.slot}' of kit {package.kit}"
        elif file.optional is slot.required:
            yield f"{file.shown} is told as {'optional' if file.optional else 'required'}, and kit {package.kit} has it otherwise"
    filled = {file.slot for file in files}
    for name, slot in slots.items():
        if slot.required and name not in filled:
            yield f"kit {package.kit} is not whole: slot '{name}' is empty, which {slot.wants} must fill"
