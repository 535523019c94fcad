"""Whether there are enough people for a sign-off at all, told before anybody waits for one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

from blocks.outbound import PeopleFile, Person, SignoffPolicy, SignoffProof, StageTerms, on
from blocks.values import CaseSignoffTerms


def shortfalls(policy: SignoffPolicy, people: PeopleFile, today: date) -> list[str]:
    """Why a package could never be signed off with the people of today; empty if it could.

    Delegations are left out: nobody signs twice, so they add no signature. Whoever asks for a release never signs it, nor does the
    last editor: a quorum that needs everybody is enough here, and ``tight`` names it.
    """
    policy = policy.braked  # an unusual release must not wait for somebody who is not there
    unknown = sorted(policy.groups - {group for person in people.people for group in person.groups})
    told = [f"nobody in people.yaml is in the group '{group}'" for group in unknown]
    for stage in policy.stages:
        able, members = able_people(stage, policy, people, today), _members(stage, people, today)
        if len(able) >= stage.quorum or set(stage.groups) <= set(unknown):
            continue
        keyless = [person.id for person in members if person not in able]
        without = f"; without a key that is valid today: {', '.join(keyless)}" if keyless else ""
        told.append(
            f"stage '{stage.name}' asks for {stage.quorum}, and {len(able)} of {', '.join(stage.groups)} can sign today"
            f"{f' ({_ids(able)})' if able else ''}{without}"
        )
    if not told and not _seated(policy, people, today):
        told.append("nobody signs twice, and there are not enough different people for all stages together")
    return told


def tight(policy: SignoffPolicy, people: PeopleFile, today: date) -> Iterator[str]:
    """Stages that have nobody to spare: they cannot be completed when one of their people has asked for the release."""
    for stage in policy.braked.stages:
        able = able_people(stage, policy, people, today)
        if len(able) == stage.quorum:
            yield (
                f"stage '{stage.name}' needs everybody who can sign ({_ids(able)}): a release that one of them asks for, or a "
                "document that one of them edited last, cannot be signed off"
            )


def able_people(stage: StageTerms, policy: SignoffPolicy, people: PeopleFile, today: date) -> list[Person]:
    """Who of a stage's groups could sign today. Codes are the sender's to know (``countersign people check``)."""
    return [person for person in _members(stage, people, today) if _proves(person, policy.proof, today)]


def case_shortfall(terms: CaseSignoffTerms, people: PeopleFile, today: date) -> str:
    """Why nobody could release or correct a refused document with the people of today; "" if somebody could."""
    if any(_proves(person, terms.proof, today) for person in _members(terms, people, today)):
        return ""
    key = "" if terms.proof is SignoffProof.CODE else " with a key that is valid"
    return f"nobody of {', '.join(terms.groups)}{key} is in people.yaml today"


def _proves(person: Person, proof: SignoffProof, today: date) -> bool:
    return proof is SignoffProof.CODE or any(on(today, key.valid_from, key.valid_until) for key in person.keys)


def _members(stage: StageTerms | CaseSignoffTerms, people: PeopleFile, today: date) -> list[Person]:
    return [p for p in people.people if set(p.groups) & set(stage.groups) and on(today, p.valid_from, p.valid_until)]


def _seated(policy: SignoffPolicy, people: PeopleFile, today: date) -> bool:
    """True if every place of every stage can be given to somebody else (a matching, found by augmenting paths)."""
    wanted = [stage for stage in policy.stages for _ in range(stage.quorum)]
    able = [[person.id for person in able_people(stage, policy, people, today)] for stage in wanted]
    holder: dict[str, int] = {}

    def seat(place: int, asked: set[str]) -> bool:
        for id in able[place]:
            if id not in asked:
                asked.add(id)
                if id not in holder or seat(holder[id], asked):
                    holder[id] = place
                    return True
        return False

    return all(seat(place, set()) for place in range(len(wanted)))


def _ids(people: Sequence[Person]) -> str:
    return ", ".join(person.id for person in people)
