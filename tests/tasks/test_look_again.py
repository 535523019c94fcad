"""Documents are looked at again before they go: one after the other, or several at a time where one has to be waited for."""

from __future__ import annotations

import threading

import pytest

from blocks.outbound import PackageFile
from blocks.sender import Seen
from tasks import deliver
from tasks.deliver import _each, _Looked

FILES = [PackageFile(f"{n}.csv".encode(), 1, "0" * 64, str(n), 1) for n in range(100)]


def test_quick_ones_are_looked_at_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second thread would only wait for the first one."""
    monkeypatch.setattr(deliver, "_QUICK_SECONDS", 60.0)
    threads = set[int]()

    def look(file: PackageFile) -> _Looked:
        threads.add(threading.get_ident())
        return _Looked(Seen(file.repository_id, 1))

    assert [one.seen.repository_id for one in _each(look, FILES)] == [file.repository_id for file in FILES]
    assert threads == {threading.get_ident()}


def test_from_one_that_is_waited_for_on_several_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliver, "_QUICK_SECONDS", 0.001)
    together, late = threading.Barrier(4), threading.Event()

    def look(file: PackageFile) -> _Looked:
        if file is FILES[0]:
            late.wait(0.1)
        elif 50 <= int(file.repository_id) < 54:
            together.wait(60)  # broken, if they come one after the other
        return _Looked(Seen(file.repository_id, 1))

    assert [one.seen.repository_id for one in _each(look, FILES)] == [file.repository_id for file in FILES]
