"""Every enrolled endpoint keeps every promise, and the suite would notice one that does not."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import blocks.endpoints
from blocks.endpoints.base import Endpoint, EndpointSession, legal
from blocks.endpoints.folder import Folder
from blocks.errors import EndpointError
from blocks.values import Move, Outcome, Placed
from tests.conformance.endpoints.broken import BREAKAGES, Overwriting, broken
from tests.conformance.endpoints.checks import CHECKS, Ground
from tests.conformance.endpoints.conftest import ground_on
from tests.conformance.endpoints.enrolment import ENROLLED, Shore

# --------------------------------------------------------------------------------------------- the suite


DEAR = {"a_long_listing_takes_little_memory", "many_files_arrive_whole"}
USUAL = {"folder", "ftp on pyftpdlib", "ftps on vsftpd", "sftp on OpenSSH"}
"""What keeps the dear promises in each run of the suite; the others in ``make soak``."""


@pytest.mark.parametrize(
    ("enrolled", "promise"),
    [
        pytest.param(
            *(enrolled, promise),
            id=f"{enrolled}-{promise}",
            marks=[pytest.mark.soak] if promise in DEAR and enrolled not in USUAL else [],
        )
        for enrolled in ENROLLED
        for promise in CHECKS
    ],
)
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
    broken_one = type(broken(Folder(root=Path("/")), Overwriting))
    assert left_out([*back_ends(), broken_one]) == {"OverwritingFolder"}


def test_every_field_tells_an_operator_what_it_is_for() -> None:
    for kind in back_ends():
        silent = [name for name, field in kind.model_fields.items() if not field.description]
        assert not silent, f"{kind.__name__}: {silent}"


@pytest.mark.parametrize("kind", sorted(back_ends(), key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_a_typo_in_a_profile_is_loud(kind: type[Endpoint]) -> None:
    with pytest.raises(ValueError, match="time_out_seconds"):
        kind(time_out_seconds=3)


# --------------------------------------------------------------------------------------------- broken on purpose


@pytest.mark.parametrize(
    ("enrolled", "breakage"),
    [
        pytest.param(enrolled, breakage, id=f"{breakage.__name__} {enrolled}, caught by {promise}")
        for enrolled in ("folder", "sftp on the sandbox", "ftp on the sandbox")
        for breakage, promise in BREAKAGES.items()
        if promise not in ENROLLED[enrolled].tolerated
    ],
)
def test_the_suite_notices_a_broken_endpoint(enrolled: str, breakage: type[EndpointSession], ground: Ground) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        CHECKS[BREAKAGES[breakage]](replace(ground, endpoint=broken(ground.endpoint, breakage)))


def test_every_way_to_break_is_caught_by_a_check_there_is() -> None:
    assert set(BREAKAGES.values()) <= set(CHECKS)


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
