"""Who may sign: one reviewed file, ``deployments/people.yaml``. It is read anew whenever somebody is asked for."""

from __future__ import annotations

from pathlib import Path

from blocks import reviewed
from blocks.errors import ConfigurationError
from blocks.outbound import PeopleFile, Person


def people_path(folder: Path) -> Path:
    """Where the file is, or would be."""
    return folder / "people.yaml"


def load_people(folder: Path) -> PeopleFile:
    """Everybody in ``<folder>/people.yaml``. Raises ``ConfigurationError`` with every problem and its line."""
    return reviewed.load(people_path(folder), PeopleFile)


def find_person(id: str, folder: Path) -> Person:
    """One of them. Raises ``ConfigurationError`` that names who was probably meant."""
    people = load_people(folder)
    person = people.get(id)
    if person is None:
        known = [person.id for person in people.people]
        raise ConfigurationError(f"{people_path(folder)}: nobody has the id {id[:80]!r}; {reviewed.nearest(id, known)}")
    return person
