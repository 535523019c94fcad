"""Filing many documents at the same time: in which order they are filed, and answered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Event, Lock, Thread, get_ident

import pytest

from blocks.repositories.routines import Routine
from blocks.repositories.turns import in_turns
from blocks.values import Filed, Filing, NotFiled

CONNECTIONS = 4


def filing(number: int, name: str | None = None) -> Filing:
    return Filing(f"journey {number}", name or f"{number}.csv", ("Inbox",), Path("x"), "", 1, "text/csv")


def filed(one: Filing) -> Filed:
    return Filed(one.journey, one.journey.split()[1], 1, one.name, one.folder)


def test_answers_come_in_the_order_asked_however_long_each_takes() -> None:
    def file(one: Filing) -> Filed:
        time.sleep(0.001 * (hash(one.journey) % 5))
        return filed(one)

    asked = [filing(number) for number in range(100)]
    assert list(in_turns(asked, CONNECTIONS, file)) == [filed(one) for one in asked]


def test_as_many_are_filed_at_the_same_time_as_there_are_connections() -> None:
    all_there = Barrier(CONNECTIONS, timeout=60)

    def file(one: Filing) -> Filed:
        all_there.wait()
        return filed(one)

    assert len(list(in_turns([filing(number) for number in range(CONNECTIONS)], CONNECTIONS, file))) == CONNECTIONS


def test_a_server_that_answers_at_once_has_them_from_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blocks.repositories.turns.AT_ONCE_SECONDS", 60)
    threads = set[int]()

    def file(one: Filing) -> Filed:
        threads.add(get_ident())
        return filed(one)

    asked = [filing(number) for number in range(100)]
    assert list(in_turns(asked, CONNECTIONS, file)) == [filed(one) for one in asked]
    assert len(threads) == 1


class Server:
    """Where filings are routines: which are on their way, the most that ever were, and in which order they were answered."""

    def __init__(self, seconds: float = 0) -> None:
        self.seconds, self.threads = seconds, set[int]()
        self.on_their_way, self.most, self.answered, self.given_up = list[str](), 0, list[str](), list[str]()

    def short(self, one: Filing) -> Routine[Filed | NotFiled]:
        self.threads.add(get_ident())
        assert not any(name.casefold() == one.name.casefold() for name in self.on_their_way), "two under one name at once"
        self.on_their_way.append(one.name)
        self.most = max(self.most, len(self.on_their_way))
        try:
            yield
        except GeneratorExit:
            self.given_up.append(one.journey)
            raise
        time.sleep(self.seconds)
        self.on_their_way.remove(one.name)
        self.answered.append(one.journey)
        if one.journey == "journey 30":
            raise RuntimeError("the server is away")
        return filed(one)


def never(one: Filing) -> Filed:
    raise AssertionError(f"{one.name}: by a thread of its own")


def test_of_short_ones_one_thread_has_several_on_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blocks.repositories.turns.SOON_SECONDS", 60)
    server, asked = Server(), [filing(number) for number in range(20)]
    assert list(in_turns(asked, CONNECTIONS, never, server.short)) == [filed(one) for one in asked]
    assert (server.threads, server.most) == ({get_ident()}, CONNECTIONS)


def test_short_ones_under_one_name_are_filed_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blocks.repositories.turns.SOON_SECONDS", 60)
    names = ["a.csv", "A.CSV", "b.csv", "a.csv", "c.csv", "c.csv", "C.csv"]
    server, asked = Server(), [filing(number, name) for number, name in enumerate(names)]
    assert list(in_turns(asked, CONNECTIONS, never, server.short)) == [filed(one) for one in asked]
    assert server.answered == [one.journey for one in asked] and server.most > 1


def test_from_one_that_is_not_short_on_several_threads_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blocks.repositories.turns.SOON_SECONDS", 60)
    server, asked = Server(), [filing(number) for number in range(20)]
    others = list[str]()

    def file(one: Filing) -> Filed:
        assert not server.on_their_way, "those before it are done: one of them may have its name"
        others.append(one.journey)
        return filed(one)

    answers = in_turns(asked, CONNECTIONS, file, lambda one: None if one.name == "7.csv" else server.short(one))
    assert list(answers) == [filed(one) for one in asked]
    assert len(server.answered) == 7 and sorted(others) == sorted(one.journey for one in asked[7:])


def test_short_ones_that_are_not_soon_done_have_several_threads() -> None:
    server, asked, others = Server(seconds=0.03), [filing(number) for number in range(40)], list[str]()

    def file(one: Filing) -> Filed:
        others.append(one.journey)
        return filed(one)

    assert list(in_turns(asked, CONNECTIONS, file, server.short)) == [filed(one) for one in asked]
    assert 1 <= len(server.answered) < 10 and len(server.answered) + len(others) == 40


def test_after_an_error_of_a_short_one_those_on_their_way_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blocks.repositories.turns.SOON_SECONDS", 60)
    server, told = Server(), list[str]()
    with pytest.raises(RuntimeError, match="away") as raised:
        for answer in in_turns((filing(number) for number in range(100)), CONNECTIONS, never, server.short):
            told.append(answer.journey)
    assert told == [f"journey {number}" for number in range(30)]
    # Not only once nobody has the error any more, whose frames have them.
    assert server.given_up == [f"journey {number}" for number in range(31, 30 + CONNECTIONS)], raised.value


def test_what_a_short_one_raises_at_once_is_told_in_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blocks.repositories.turns.SOON_SECONDS", 60)
    server, told = Server(), list[str]()

    def short(one: Filing) -> Routine[Filed | NotFiled]:
        if one.journey == "journey 2":
            raise RuntimeError("its bytes are gone")
        return (yield from server.short(one))

    with pytest.raises(RuntimeError, match="gone"):
        for answer in in_turns([filing(number) for number in range(10)], CONNECTIONS, never, short):
            told.append(answer.journey)
    assert told == ["journey 0", "journey 1"]


def test_those_under_one_name_are_filed_one_after_the_other() -> None:
    order, alone = list[str](), Lock()

    def file(one: Filing) -> Filed:
        assert alone.acquire(blocking=False), "another one under this name is being filed"
        time.sleep(0.002)
        order.append(one.journey)
        alone.release()
        return filed(one)

    asked = [filing(number, "a.csv" if number % 2 else "A.CSV") for number in range(20)]
    assert len(list(in_turns(asked, CONNECTIONS, file))) == 20
    assert order == [one.journey for one in asked]


def test_filings_are_taken_a_little_ahead_and_never_all_of_them() -> None:
    taken = list[int]()

    def asked() -> Iterator[Filing]:
        for number in range(1000):
            taken.append(number)
            yield filing(number)

    answers = in_turns(asked(), CONNECTIONS, filed)
    for received in range(1, 100):
        next(answers)
        assert len(taken) <= received + 4 * CONNECTIONS
    answers.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(taken) < 200


def test_after_an_error_what_was_answered_before_is_told_and_nothing_new_is_begun() -> None:
    """And that is told while later ones still take their time."""
    told, begun, unheard = Event(), list[str](), list[str]()

    def file(one: Filing) -> Filed:
        begun.append(one.journey)
        if one.journey == "journey 2":
            raise RuntimeError("the server is away")
        if one.journey in ("journey 3", "journey 4", "journey 5") and not told.wait(20):
            unheard.append(one.journey)
        return filed(one)

    answers = in_turns((filing(number) for number in range(100)), CONNECTIONS, file)
    assert [next(answers).journey for _ in range(2)] == ["journey 0", "journey 1"]
    told.set()
    with pytest.raises(RuntimeError, match="away"):
        next(answers)
    assert not unheard and len(begun) <= 4 * CONNECTIONS


def test_after_an_error_those_that_were_not_begun_are_not_filed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blocks.repositories.turns.AT_ONCE_SECONDS", 60)
    begun = list[str]()

    def file(one: Filing) -> Filed:
        begun.append(one.journey)
        if one.journey == "journey 2":
            raise RuntimeError("the server is away")
        if len(begun) > 3:
            time.sleep(0.2)  # so that it can be seen to go on
        return filed(one)

    with pytest.raises(RuntimeError, match="away"):
        list(in_turns((filing(number) for number in range(100)), CONNECTIONS, file))
    assert len(begun) < 4 * CONNECTIONS - 1


def test_a_system_that_has_no_more_threads_ends_it_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    start, all_of_it = Thread.start, Event()

    def second_fails(thread: Thread) -> None:
        if thread.name == "filing_1":
            raise RuntimeError("can't start new thread")
        start(thread)

    def file(one: Filing) -> Filed:
        time.sleep(0.05)
        return filed(one)

    def work() -> None:
        with pytest.raises(RuntimeError, match="new thread"):
            list(in_turns([filing(number) for number in range(40)], CONNECTIONS, file))
        all_of_it.set()

    monkeypatch.setattr(Thread, "start", second_fails)
    Thread(target=work, name="that would wait for ever", daemon=True).start()
    assert all_of_it.wait(60)
