"""What was signed beforehand: whether a release lies within its bounds. Asked by the sender, and of a certificate by anybody."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from blocks.outbound import Extent, HeldStanding, Outbound, Package, PeopleFile, Policies, on


def outside(package: Package, extent: Extent | None, terms: Outbound) -> tuple[str, ...]:
    """Why this release asks people, in words; empty if it lies within the bounds.

    ``extent``: None if nobody looked, as in votes of senders that knew of no types, rows and values yet: no terms bounded these then.
    """
    return tuple(_outside(package, extent, terms))


def _outside(package: Package, extent: Extent | None, terms: Outbound) -> Iterator[str]:
    bounds, found = terms.signoff.standing, extent or Extent()
    if bounds is None:
        yield "the terms let nothing be signed off beforehand"
        return
    # What was left out, goes once more or corrects what went was looked at by people: they go on with it.
    if package.redelivery or package.corrects or package.order != package.root_order:
        yield "it was left of another release, goes once more or corrects what went"
    if len(package.files) > bounds.files:
        yield f"{len(package.files)} documents, at most {bounds.files} may go"
    if package.size > bounds.size_bytes:
        yield f"{package.size:,} bytes, at most {bounds.size_bytes:,} may go"
    if len(package.files) > bounds.files or package.size > bounds.size_bytes:
        return  # no more of it was looked at
    looked = extent is not None or bounds.doctypes
    if terms.routine and looked and not (found.doctypes and set(found.doctypes) <= set(terms.routine)):
        yield f"not every document is of type {' or '.join(terms.routine)} by its name and its bytes"
    if bounds.rows is not None:
        yield from _more("rows", found.rows, bounds.rows)
    if bounds.value is not None:
        yield from _more(f"in column {bounds.value.column}", found.value, bounds.value.most)


def _more(what: str, found: float | None, most: float) -> Iterator[str]:
    if found is None:
        yield f"nobody could count what it has {what}" if what.startswith("in ") else f"nobody could count its {what}"
    elif found > most:
        yield f"{found:,.15g} {what}, at most {most:,.15g} may go"


def state(held: HeldStanding, terms: Outbound, policies: Policies, people: PeopleFile, now: datetime) -> str:
    """Whether it is good for a release that is asked for now, in words."""
    signed, person = held.signed, people.get(held.signed.approver)
    if held.ended:
        return f"ended {held.ended}"
    if signed.until <= now:
        return "over"
    if (signed.profile, signed.terms) != (policies.profile, policies.terms):
        return "void: the terms are others now"
    groups = {group for stage in terms.signoff.stages for group in stage.groups}
    if person is None or not on(people.day(now), person.valid_from, person.valid_until) or groups.isdisjoint(person.groups):
        return "void: this person may not sign here today"
    return "good"
