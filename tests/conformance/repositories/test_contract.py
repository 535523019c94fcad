"""Every enrolled repository keeps every promise, and the suite would notice one that does not."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import blocks.repositories
from blocks.repositories.base import Repository
from blocks.repositories.folder import FolderRepository, FolderSession
from blocks.spool import Batch, Spooled
from blocks.values import Collision, Filed, Filing, Hold, Kept, NotFiled
from tests.conformance.repositories.checks import CHECKS, LACKING, Ground
from tests.conformance.repositories.conftest import ground_in
from tests.conformance.repositories.enrolment import ENROLLED

# --------------------------------------------------------------------------------------------- the suite

REFUSALS = {check.__name__: check for check, _ in LACKING.values()}


def promises() -> Iterator[tuple[str, str]]:
    """Each repository with what it is asked: all checks, or in place of those that it cannot keep, how it refuses them."""
    for enrolled, enrolment in ENROLLED.items():
        without = set().union(*(LACKING[lack][1] for lack in enrolment.kind.lacks))
        for promise in (*CHECKS, *(LACKING[lack][0].__name__ for lack in sorted(enrolment.kind.lacks))):
            if promise not in without:
                yield enrolled, promise


@pytest.mark.parametrize(("enrolled", "promise"), list(promises()))
def test_contract(enrolled: str, promise: str, ground: Ground) -> None:
    if reason := ENROLLED[enrolled].tolerated.get(promise):
        pytest.xfail(reason)
    (CHECKS | REFUSALS)[promise](ground)


def test_what_may_be_lacking_is_known_and_the_governed_repositories_lack_nothing() -> None:
    assert set().union(*(without for _, without in LACKING.values())) <= set(CHECKS)
    lacking = {name for name, enrolment in ENROLLED.items() if enrolment.kind.lacks}
    assert lacking == {"webdav"}


def test_tolerated_differences_name_checks_that_exist() -> None:
    assert {promise for enrolment in ENROLLED.values() for promise in enrolment.tolerated} <= set(CHECKS)


# --------------------------------------------------------------------------------------------- nobody is left out


def back_ends() -> set[type[Repository]]:
    """Every repository class that the package defines."""
    modules = [
        importlib.import_module(found.name)
        for found in pkgutil.iter_modules(blocks.repositories.__path__, "blocks.repositories.")
    ]
    return {
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Repository) and not inspect.isabstract(kind)
    }


def left_out(kinds: Iterable[type[Repository]]) -> set[str]:
    return {kind.__name__ for kind in kinds} - {enrolment.kind.__name__ for enrolment in ENROLLED.values()}


def test_every_back_end_is_enrolled() -> None:
    assert len(back_ends()) >= 2
    assert left_out(back_ends()) == set()


def test_a_back_end_that_is_not_enrolled_is_named() -> None:
    class Forgotten(FolderRepository):
        _block_type_name = "Forgotten"

    assert left_out({Forgotten, FolderRepository}) == {"Forgotten"}


# --------------------------------------------------------------------------------------------- the suite notices


class Doubling(FolderSession):
    """Files every journey anew."""

    def file(self, filings: Iterable[Filing]) -> Iterator[Filed | NotFiled]:
        for n, filing in enumerate(filings):
            [answer] = super().file([replace(filing, journey=f"{filing.journey} {n} {id(self)}")])
            yield replace(answer, journey=filing.journey)


class Disorderly(FolderSession):
    """Answers in another order than asked."""

    def file(self, filings: Iterable[Filing]) -> Iterator[Filed | NotFiled]:
        yield from reversed(list(super().file(filings)))


class Replacing(FolderSession):
    """Takes REFUSE for a suggestion."""

    def file(self, filings: Iterable[Filing]) -> Iterator[Filed | NotFiled]:
        return super().file(replace(filing, collision=Collision.NEW_VERSION) for filing in filings)


class Cutting(FolderSession):
    """Files whatever bytes come."""

    def file(self, filings: Iterable[Filing]) -> Iterator[Filed | NotFiled]:
        from hashlib import sha256

        for filing in filings:
            data = filing.path.read_bytes()[: filing.size]
            filing.path.write_bytes(data)
            yield from super().file([replace(filing, digest=sha256(data).hexdigest(), size=len(data))])


class ShortSighted(FolderSession):
    """Lists one page."""

    def look(self, folder: tuple[str, ...]) -> Iterator[Kept]:
        return iter(list(super().look(folder))[:100])


class Newest(FolderSession):
    """Knows one version."""

    def fetch(self, id: str, version: int | None, into: Batch) -> Spooled:
        return super().fetch(id, None, into)


class Glancing(FolderSession):
    """Reads the newest version, whichever it is to examine."""

    def examine(self, id: str, version: int, into: Batch) -> tuple[Kept, Spooled]:
        return super().examine(id, self.get(id).version, into)


class Forgetful(FolderSession):
    """Loses values."""

    def get(self, id: str) -> Kept:
        return replace(super().get(id), categories={})


class Carefree(FolderSession):
    """Knows of no holds."""

    def holds(self, id: str) -> tuple[Hold, ...]:
        super().holds(id)
        return ()


class Ruthless(FolderSession):
    """Removes whatever it is told to."""

    def remove(self, id: str, made_by: Sequence[str | None] | None = None) -> None:
        for hold in self.holds(id):
            self.lift_hold(id, hold.name)
        super().remove(id, made_by)


class Heedless(FolderSession):
    """Removes what stands there by then."""

    def remove(self, id: str, made_by: Sequence[str | None] | None = None) -> None:
        super().remove(id)


class Hasty(FolderSession):
    """Asks for all filings before the first answer."""

    def file(self, filings: Iterable[Filing]) -> Iterator[Filed | NotFiled]:
        some = []
        for filing in filings:
            some.append(filing)
            if len(some) > 500:
                break
        return super().file(some)


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (Doubling, "filing_a_journey_again_doubles_nothing"),
        (Disorderly, "answers_come_in_the_order_asked"),
        (Replacing, "a_taken_name_is_refused"),
        (Cutting, "bytes_are_the_promised_ones"),
        (ShortSighted, "a_long_folder_is_listed_whole"),
        (Newest, "another_journey_makes_a_new_version"),
        (Glancing, "another_journey_makes_a_new_version"),
        (Forgetful, "values_are_kept"),
        (Hasty, "answers_stream"),
        (Carefree, "a_hold_is_told_until_it_is_lifted"),
        (Heedless, "a_version_that_comes_late_keeps_its_document"),
        (Ruthless, "what_is_on_hold_is_not_removed"),
    ],
)
def test_a_broken_repository_fails_the_suite(broken: type[FolderSession], promise: str, tmp_path: Path) -> None:
    class Broken(FolderRepository):
        _block_type_name = f"Broken {broken.__name__}"

        def session(self) -> FolderSession:
            return broken(self.path, self.timeout_seconds)

    root = tmp_path / "root"
    root.mkdir()
    CHECKS[promise](ground_in(FolderRepository(path=root), _made(tmp_path / "sound"), "folder"))
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        CHECKS[promise](ground_in(Broken(path=root), _made(tmp_path / "broken"), "folder"))


def _made(place: Path) -> Path:
    place.mkdir()
    return place
