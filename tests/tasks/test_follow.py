"""What happens in a watched folder is told to each reader at least once and in order, whatever breaks off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
import yaml
from prefect.logging import disable_run_logger

from blocks.errors import ConfigurationError, DocumentMissing, LeaseLost, RepositoryError
from blocks.repositories.file360 import File360Session
from tasks import follow as module
from tasks.connections import repository_session
from tasks.follow import Watching, follow, load_watch
from tests.ledger.clock import Clock
from tests.tasks.conftest import clock as clock
from tests.tasks.dock import Dock
from tests.world import file360, reached


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    with file360(tmp_path_factory.mktemp("team")) as service:
        yield service


def agree(dock: Dock, name: str = "claims", **terms: str) -> None:
    (dock.profiles / "watches").mkdir(exist_ok=True)
    watch = {"repository": "team", "folder": "Claims", "owner": "claims@example.com", **terms}
    (dock.profiles / "watches" / f"{name}.yaml").write_text(yaml.safe_dump({"watch": watch}))


@pytest.fixture
def agreed(
    dock: Dock, team: Mapping[str, Any], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Watching]:
    monkeypatch.setenv("ECM_PASSWORD", team["password"])
    kept = {"team": reached(team), "kept": {"kind": "folder", "path": str(dock.home / "kept")}}
    (dock.profiles / "repositories.yaml").write_text(yaml.safe_dump({"repositories": kept}))
    agree(dock, folder=request.node.name)
    with disable_run_logger():
        yield load_watch("claims")


def happen(agreed: Watching, times: int) -> None:
    """The folder's rule is set so many times: an event each. The first makes the folder, which is one before it."""
    with repository_session(agreed.repository) as session:
        assert isinstance(session, File360Session)
        for days in range(times):
            session.retain(agreed.folder, "trash", days + 1)


def told(agreed: Watching, reader: str = "audit") -> list[str]:
    return [change.id for changes in follow(agreed, reader) for change in changes]


def test_each_reader_is_told_what_came_since_it_last_asked(agreed: Watching) -> None:
    happen(agreed, 2)
    first = told(agreed)
    assert len(first) == 3 and first == sorted(first, key=int)
    assert told(agreed) == []
    happen(agreed, 1)
    [later] = told(agreed)
    assert told(agreed, "onward") == [*first, later], "another reader has a place of its own"


def test_what_broke_off_is_told_again_and_what_was_done_is_not(agreed: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CHANGES", 2)  # hundreds of events would show the same
    happen(agreed, 4)
    feed = follow(agreed, "audit")
    first, second = next(feed), next(feed)
    feed.close()  # as an error, or the end of the process, in the middle of the second bundle
    assert (len(first), len(second)) == (2, 2)
    again = told(agreed)
    assert again[:2] == [change.id for change in second] and len(again) == 3


def test_one_follows_at_a_time_and_who_was_overtaken_writes_nothing(agreed: Watching, clock: Clock) -> None:
    happen(agreed, 1)
    slow = follow(agreed, "audit")
    seen = next(slow)
    assert told(agreed) == [], "another run has it in hand"
    clock.ahead = timedelta(days=1)
    assert told(agreed) == [change.id for change in seen], "its lease ran out"
    with pytest.raises(LeaseLost):
        next(slow)
    assert told(agreed) == []


def test_another_folder_is_followed_from_its_beginning(agreed: Watching, dock: Dock) -> None:
    happen(agreed, 1)
    seen = told(agreed)
    agree(dock, folder=f"{agreed.terms.folder}/below")
    other = load_watch("claims")
    with pytest.raises(DocumentMissing):
        told(other)
    happen(other, 1)
    assert len(told(other)) == 2 and not set(told(other)) & set(seen)


def test_a_repository_that_tells_nothing_says_so(agreed: Watching, dock: Dock) -> None:
    agree(dock, repository="kept")
    with pytest.raises(RepositoryError, match="cannot be followed"):
        told(load_watch("claims"))


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"repository": "teem"}, "no repository 'teem'.*did you mean 'team'"),
        ({"folder": "Claims/../HR"}, "line 2: watch.folder: is a path below the repository's root"),
        ({"folder": "/Claims"}, "line 2: watch.folder: is a path below the repository's root"),
        ({"fulder": "Claims"}, "watch.fulder: no such key; did you mean 'folder'?"),
    ],
)
def test_a_mistake_in_its_file_is_told(agreed: Watching, dock: Dock, terms: dict[str, str], said: str) -> None:
    agree(dock, **terms)
    with pytest.raises(ConfigurationError, match=said.replace("?", r"\?")):
        load_watch("claims")


def test_its_name_is_no_partner_s_and_no_system_s(agreed: Watching, dock: Dock) -> None:
    dock.agree()
    agree(dock, "acme")
    with pytest.raises(ConfigurationError, match="rename one"):
        load_watch("acme")
    with pytest.raises(ConfigurationError, match="no such watch; did you mean 'claims'"):
        load_watch("claim")
    with pytest.raises(ConfigurationError, match="no watch's name"):
        load_watch("../acme")
