"""The contract of ``blocks/systems/base.py``, asked of every system against its own far side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from blocks.catalog import SYSTEMS
from blocks.systems.base import Answer, Fate, Message, System, persevere
from blocks.systems.mail import MailSystem
from blocks.systems.syslog import Syslog
from tests.conformance.systems.enrolment import ENROLLED, Enrolment, Started
from tests.servers import free_port


@pytest.fixture(scope="module", params=ENROLLED)
def enrolment(request: pytest.FixtureRequest) -> Enrolment:
    return ENROLLED[request.param]


@pytest.fixture(scope="module")
def started(enrolment: Enrolment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    with enrolment.start(tmp_path_factory.mktemp("system") / "far-side") as running:
        yield running


def tell(system: System, *messages: Message) -> list[Answer]:
    with system.session() as session:
        return list(session.send(messages))


def test_every_system_is_enrolled() -> None:
    assert {kind: one.kind for kind, one in ENROLLED.items()} == SYSTEMS, "enrol the new system in enrolment.py"


def test_each_message_is_answered_in_order_and_taken_once(enrolment: Enrolment, started: Started) -> None:
    keys = [f"a-{number}" for number in range(5)]
    answers = tell(started.system, *map(enrolment.message, keys))
    assert [(answer.key, answer.fate) for answer in answers] == [(key, Fate.TAKEN) for key in keys]
    assert [key for key in started.seen(5) if key in keys] == keys


def test_what_is_refused_says_why_and_hinders_no_other(enrolment: Enrolment, started: Started) -> None:
    before = len(started.seen(0))
    answers = tell(started.system, enrolment.message("b-1"), enrolment.refused("b-2"), enrolment.message("b-3"))
    assert [answer.fate for answer in answers] == [Fate.TAKEN, Fate.REFUSED, Fate.TAKEN]
    assert answers[1].code and answers[1].reason
    assert [key for key in started.seen(before + 2) if key.startswith("b-")] == ["b-1", "b-3"]


def test_told_twice_is_taken_once(enrolment: Enrolment, started: Started) -> None:
    one, again = tell(started.system, enrolment.message("c")), tell(started.system, enrolment.message("c"))
    assert one == again and one[0].fate is Fate.TAKEN
    if "told twice is taken once" not in enrolment.tolerated:
        assert started.seen(1).count("c") == 1


def elsewhere(system: System) -> System:
    """The same, where nobody listens."""
    port = free_port()
    if isinstance(system, MailSystem):
        return system.model_copy(update={"server": system.server.model_copy(update={"port": port})})
    return system.model_copy(update={"port": port} if isinstance(system, Syslog) else {"url": f"http://127.0.0.1:{port}"})


def test_what_is_away_is_told_later_and_loses_nothing(enrolment: Enrolment, started: Started) -> None:
    with elsewhere(started.system).session() as session:
        answers = list(session.send(map(enrolment.message, ("d-1", "d-2"))))
        at_last = list(persevere(session, [enrolment.message("d-1")], timedelta(0)))
    assert [answer.fate for answer in (*answers, *at_last)] == [Fate.LATER] * 3
    assert all(answer.after_seconds > 0 and answer.reason for answer in answers), "or it would be tried without a pause"


def test_nobody_asked_twice_for_the_same_reason() -> None:
    """What is tolerated is a check of this file."""
    checks = {name.removeprefix("test_").replace("_", " ") for name in globals() if name.startswith("test_")}
    assert {name for one in ENROLLED.values() for name in one.tolerated} <= checks


def test_a_message_that_may_have_been_taken_is_sent_again_only_where_that_doubles_nothing(
    enrolment: Enrolment, started: Started
) -> None:
    [first] = tell(started.system, enrolment.message("e"))
    before = started.seen(1).count("e")
    [again] = tell(started.system, replace(enrolment.message("e"), doubted=True))
    if "told twice is taken once" not in enrolment.tolerated:
        assert again == first and started.seen(1).count("e") == before == 1
    elif again.fate is not Fate.UNKNOWN:
        assert enrolment.kind.kind in ("event-collector", "syslog"), "only events come at least once"
