"""Reviews that do not begin: a person is told, and the stream goes on. The repository of the dock has no workflows at all."""

from __future__ import annotations

import pytest

from blocks.errors import OutcomeUnknown, RepositoryUnreachable, SignInRefused
from blocks.repositories.folder import FolderSession
from tasks import incidents
from tests.tasks.dock import Dock, price_list

MAP = "Process Library/Quality Review"


def test_a_workflow_that_is_refused_stops_no_stream(dock: Dock) -> None:
    dock.agree(workflow=MAP)
    for number in (1, 2):
        dock.leave(f"{number}.csv", price_list(first=number))
    assert dock.run() == {"1.csv": "filed", "2.csv": "filed"}
    assert not list(dock.out.iterdir())
    assert dock.codes() == ["review-not-started"] * 2
    assert [(told["file"], "no workflows" in told["reason"]) for told in dock.events("review-not-started")] == [
        ("1.csv", True), ("2.csv", True)]  # fmt: skip
    assert dock.run() == {}


def test_a_review_that_does_not_begin_is_told_also_after_a_retry(dock: Dock) -> None:
    dock.agree(workflow=MAP, naming="good.*")
    dock.leave("a.csv", price_list())
    dock.run()
    (refused,) = dock.cases()
    dock.agree(workflow=MAP)
    assert [row.outcome for row in dock.retry(refused.journey)] == ["filed"]
    (case,) = dock.cases()
    assert (case.code, case.name, case.owner) == ("review-not-started", "a.csv", "prices@example.com")
    assert len(dock.events("review-not-started")) == 1

    assert incidents.close(case.journey, "started by hand", "ann") == "review-not-started"
    dock.run()
    assert dock.codes() == []


@pytest.mark.parametrize("error", [RepositoryUnreachable, SignInRefused])
def test_what_says_nothing_about_the_document_is_tried_again_and_then_looked_for(
    dock: Dock, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def review(self: FolderSession, id: str, version: int, workflow: str, *, resumed: bool) -> str:
        asked.append(resumed)
        if not resumed:
            raise error("not now")
        return "4711"

    # The dock's folder has no workflows; Extended ECM's are tested in tests/conformance. Here: what the step does with an answer.
    monkeypatch.setattr(FolderSession, "review", review, raising=False)
    dock.agree(workflow=MAP)
    dock.leave("a.csv", price_list())
    with pytest.raises(error):
        dock.run()
    assert dock.run() == {"a.csv": "filed"}
    assert asked == [False, True], "who has asked before looks first"
    assert dock.codes() == []
    assert "review" in dock.kinds("a.csv")


def test_a_review_that_cannot_be_told_to_have_begun_is_not_asked_for_again(dock: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    def review(*_: object, **__: object) -> str:
        raise OutcomeUnknown("the answer was lost")

    dock.agree(workflow=MAP)
    dock.leave("a.csv", price_list())
    with monkeypatch.context() as patch:
        patch.setattr(FolderSession, "review", review, raising=False)
        assert dock.run() == {"a.csv": "filed"}
    assert [(case.code, case.reason) for case in dock.cases()] == [("review-not-started", "the answer was lost")]
