"""Every enrolled endpoint keeps every promise, and the suite would notice one that does not."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import blocks.endpoints
from blocks.endpoints.base import Endpoint, EndpointSession, legal
from blocks.endpoints.folder import Folder, FolderSession
from blocks.errors import EndpointError
from blocks.spool import Batch
from blocks.values import Exists, Fetched, Missed, Move, Outcome, Outgoing, Placed, Proof, RemoteFile
from tests.conformance.endpoints.checks import CHECKS, Ground
from tests.conformance.endpoints.conftest import Shores, ground_on
from tests.conformance.endpoints.enrolment import ENROLLED, Shore

# --------------------------------------------------------------------------------------------- the suite


@pytest.mark.parametrize("promise", CHECKS)
@pytest.mark.parametrize("enrolled", ENROLLED)
def test_contract(enrolled: str, promise: str, ground: Ground) -> None:
    if reason := ENROLLED[enrolled].tolerated.get(promise):
        with pytest.raises(AssertionError):  # a tolerance that is no longer needed must go
            CHECKS[promise](ground)
        pytest.xfail(reason)
    CHECKS[promise](ground)


def test_tolerated_differences_name_checks_that_exist() -> None:
    assert {promise for enrolment in ENROLLED.values() for promise in enrolment.tolerated} <= set(CHECKS)


# --------------------------------------------------------------------------------------------- nobody is left out


def back_ends() -> set[type[Endpoint]]:
    """Every endpoint class that the package defines."""
    modules = [
        importlib.import_module(found.name) for found in pkgutil.iter_modules(blocks.endpoints.__path__, "blocks.endpoints.")
    ]
    return {
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Endpoint) and not inspect.isabstract(kind)
    }


def left_out(kinds: Iterable[type[Endpoint]]) -> set[str]:
    return {kind.__name__ for kind in kinds} - {enrolment.kind.__name__ for enrolment in ENROLLED.values()}


def test_every_back_end_is_enrolled() -> None:
    assert Folder in back_ends()
    assert left_out(back_ends()) == set(), "enrol it in tests/conformance/endpoints/enrolment.py"


def test_a_back_end_that_is_not_enrolled_is_noticed() -> None:
    assert left_out([*back_ends(), Overwriting]) == {"Overwriting"}


def test_every_field_tells_an_operator_what_it_is_for() -> None:
    for kind in back_ends():
        silent = [name for name, field in kind.model_fields.items() if not field.description]
        assert not silent, f"{kind.__name__}: {silent}"


@pytest.mark.parametrize("kind", sorted(back_ends(), key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_a_typo_in_a_profile_is_loud(kind: type[Endpoint]) -> None:
    with pytest.raises(ValueError, match="time_out_seconds"):
        kind(time_out_seconds=3)


# --------------------------------------------------------------------------------------------- broken on purpose


class _BrokenSession(FolderSession):
    def __init__(self, endpoint: Folder) -> None:
        super().__init__(endpoint)
        self.root = endpoint.root

    def path(self, folder: str, name: bytes) -> Path:
        return self.root / folder.lstrip("/") / os.fsdecode(name)


class _OverwritingSession(_BrokenSession):
    def put(self, files: Iterable[Outgoing], folder: str, *, exists: Exists = Exists.REFUSE) -> Iterator[Placed | Missed]:
        return super().put(list(files), folder, exists=Exists.REPLACE)


class _DirectSession(_BrokenSession):
    def put(self, files: Iterable[Outgoing], folder: str, *, exists: Exists = Exists.REFUSE) -> Iterator[Placed | Missed]:
        for file in files:
            with self.path(folder, file.name).open("wb") as target, file.source.open("rb") as source:
                while data := source.read(64 * 1024):
                    target.write(data)
                    target.flush()
            yield Placed(RemoteFile(folder, file.name, file.size, None), file.digest, Proof.SIZE_ONLY)


class _TrustingSession(_BrokenSession):
    def fetch(self, files: Iterable[RemoteFile], into: Batch) -> Iterator[Fetched | Missed]:
        for file in files:
            sink = into.open()
            with suppress(OSError), self.path(file.folder, file.name).open("rb") as source:
                while data := source.read(1024 * 1024):
                    sink.write(data)
            done = sink.finish()
            yield Fetched(file, done.digest, done.size)


class _LossySession(_BrokenSession):
    def look(self, folder: str) -> Iterator[RemoteFile]:
        for file in super().look(folder):
            name = file.name.decode(errors="replace").encode()
            yield RemoteFile(folder, name, file.size, file.modified, file.kind)


class _HoardingSession(_BrokenSession):
    def look(self, folder: str) -> Iterator[RemoteFile]:
        yield from list(super().look(folder))


class Overwriting(Folder):
    _block_type_slug = "broken-overwriting"

    def session(self) -> EndpointSession:
        return _OverwritingSession(self)


class Direct(Folder):
    _block_type_slug = "broken-direct"

    def session(self) -> EndpointSession:
        return _DirectSession(self)


class Trusting(Folder):
    _block_type_slug = "broken-trusting"

    def session(self) -> EndpointSession:
        return _TrustingSession(self)


class Lossy(Folder):
    _block_type_slug = "broken-lossy"

    def session(self) -> EndpointSession:
        return _LossySession(self)


class Hoarding(Folder):
    _block_type_slug = "broken-hoarding"

    def session(self) -> EndpointSession:
        return _HoardingSession(self)


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (Hoarding, "a_long_listing_takes_little_memory"),
        (Overwriting, "a_name_taken_during_the_upload_is_not_overwritten"),
        (Overwriting, "a_taken_name_is_never_overwritten_unless_agreed"),
        (Direct, "a_reader_never_sees_half_a_file"),
        (Direct, "a_source_that_is_not_what_its_digest_says_is_not_placed"),
        (Trusting, "vanished_and_changed_files_are_outcomes_beside_the_others"),
        (Trusting, "a_file_that_grows_while_it_is_read_is_changed"),
        (Trusting, "a_file_that_becomes_a_link_while_it_is_read_is_not_taken"),
        (Trusting, "a_broken_fetch_goes_on_where_it_stopped"),
        (Lossy, "names_are_listed_byte_for_byte"),
    ],
)
def test_the_suite_notices_a_broken_endpoint(broken: type[Folder], promise: str, shores: Shores, tmp_path: Path) -> None:
    good = shores["folder"]
    CHECKS[promise](ground_on(good, tmp_path / "good"))
    with pytest.raises(AssertionError):
        CHECKS[promise](ground_on(replace(good, endpoint=broken(root=good.root)), tmp_path / "bad"))


# --------------------------------------------------------------------------------------------- any name at all


@settings(max_examples=60, deadline=None, derandomize=True)
@given(name=st.binary(min_size=1, max_size=255).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_")).filter(legal))
def test_any_legal_name_makes_the_whole_way(name: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "root"
        root.mkdir()
        ground = ground_on(Shore(Folder(root=root), root, ""), Path(place) / "spool")
        assert isinstance(ground.put([ground.outgoing(name, b"content")])[name], Placed)
        (file,) = ground.look().values()
        assert file.name == name
        assert ground.holds(ground.fetch([file])[name]) == b"content"
        with ground.endpoint.session() as session:
            (moved,) = session.rename([Move(file, ground.folder, b"other" if name != b"other" else b"another")])
            assert moved.outcome is Outcome.DONE
            (gone,) = session.remove(session.look(ground.folder))
            assert gone.outcome is Outcome.DONE


@settings(max_examples=60, deadline=None, derandomize=True)
@given(name=st.binary(max_size=20))
def test_a_name_that_cannot_be_one_segment_is_never_legal(name: bytes) -> None:
    assert legal(name) == (name not in (b"", b".", b"..") and not {0, 47} & set(name))


def test_the_root_of_a_folder_endpoint_is_never_left(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path)
    with Folder(root=root).session() as session:
        for folder in ("..", "a/../..", "link", "../root"):
            with pytest.raises(EndpointError, match=r"leads out|cannot be opened"):
                list(session.look(folder))
