"""More of the cases of the sign-off's specification, by API: clocks, deadlines, crowds, and what Prefect does by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from prefect.client.schemas.actions import VariableCreate
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from tasks.rules.certificate import certificate_name
from tests.release_world import Release, ReleaseWorld

T = TypeVar("T")
PRICES = b"sku,price\n1,2.50\n"
SECRET = "s3cr3t-tariff"
"""What stands in every Variable of a test, and must not be found anywhere else."""


def until(found: Callable[[], T | None], seconds: float = 60) -> T:
    """The first answer that is one."""
    limit = time.monotonic() + seconds
    while (answer := found()) is None:
        assert time.monotonic() < limit, f"not within {seconds} s"
        time.sleep(0.2)
    return answer


def kind(name: str, **more: Any) -> dict[str, Any]:
    """A value that Prefect fills in by itself when a form is posted."""
    return {"__prefect_kind": name, **more}


def variable(name: str) -> dict[str, Any]:
    return kind("workspace_variable", variable_name=name)


def refused_as(release: Release, answer: dict[str, Any], stored: str) -> str:
    """The code with which an answer was refused that went through the form's door; the run asks again."""
    assert release.resume(answer) == "ACCEPT"
    assert stored in release.stored_answer.values(), "Prefect did put the Variable's value into the answer"
    assert release.go() is None and release.received == {}
    return str(release.last("answered")["refusal"]["code"])


def everything_kept(release: Release) -> Iterator[tuple[str, str]]:
    """All that was kept or told of an order, in our files and in Prefect, but the answer's own row; where -> text."""
    world, api = release.world, release.world.client
    for row in api.filter_flow_run_input(release.told.id, "", 200, set()):
        if not row.key.endswith("-response"):
            yield row.key, row.value
    yield "run", release.told.model_dump_json()
    yield "states", str([state.model_dump_json() for state in api.read_flow_run_states(release.told.id)])
    yield "ledger", str([entry.body for entry in release.history])
    for name, content in world.evidence(release.id).items():
        yield name, content.decode()
    for artifact in api.request("POST", "/artifacts/filter", json={"limit": 200, "sort": "CREATED_DESC"}).json():
        yield "artifact", json.dumps(artifact)
    for line in logged(release):
        yield "log", line
    for path in world.home.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes().decode(errors="replace")


def logged(release: Release) -> list[str]:
    """What the run has written into Prefect's log, down to the end of its last pass; it gets there a little later."""
    wanted = {"logs": {"flow_run_id": {"any_": [str(release.run)]}}, "limit": 200, "sort": "TIMESTAMP_DESC"}

    def ended() -> list[str] | None:
        APILogHandler().flush()
        lines = [str(line["message"]) for line in release.world.client.request("POST", "/logs/filter", json=wanted).json()]
        return lines if lines and f"Finished in state {release.told.state.name}" in lines[0] else None  # type: ignore[union-attr]

    return until(ended)


@pytest.fixture
def variables(release_world: ReleaseWorld) -> Iterator[None]:
    """Variables that hold something which is nobody's business, in all forms that Prefect knows how to fill in."""
    told = {
        "tariff": SECRET,
        "as_json": json.dumps(SECRET).replace("-", "\\u002d"),
        "as_template": "{{ 'x' }}" + SECRET,
        "nested": {"deep": [SECRET]},
        "digits": "deadbeef",
        "code": "271828",
    }
    for name, value in told.items():
        release_world.client.create_variable(VariableCreate(name=name, value=value))
    yield
    for name in told:
        release_world.client.delete_variable_by_name(name)


def test_case_26_nothing_of_what_prefect_fills_in_is_kept_or_told(release_world: ReleaseWorld, variables: None) -> None:
    """Each field and each kind; a field of the form's own choices takes no other value, so only a comment can hold one.

    Prefect itself stores and serves a run's answers in clear, Variables filled in: that row is not ours.
    """
    bea, ann = release_world.newcomer(), release_world.newcomer()
    fillings = {
        "variable": variable("tariff"),
        "json": kind("json", value=variable("as_json")),
        "jinja": kind("jinja", template=variable("as_template")),
    }
    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: True}):
        release = release_world.order(prices=PRICES, terms=b"no refunds")
        release.start()
        given = release.answer(bea, "000000", decision="approve all but the listed", left_out=["2. terms.csv"], comment="later")
        for name, given_value in given.items():
            for filling in (*fillings.values(), variable("nested")):
                if name != "comment" or filling == variable("nested"):
                    value = [filling] if isinstance(given_value, list) else filling
                    assert release.resume({**given, name: value}) == "REJECT", (name, filling)
        assert refused_as(release, {**given, "package": variable("digits")}, "deadbeef") == "package"
        assert refused_as(release, {**given, "proof": variable("code")}, "271828") == "proof"
        for name, filling in fillings.items():
            answer = {**given, "proof": release_world.code(bea), "comment": filling}
            assert refused_as(release, answer, f"x{SECRET}" if name == "jinja" else SECRET) == "variable"
            assert "the value of Prefect's Variable" in release.form
        # Kinds without a Variable are another way to write down one's own words.
        own = {"decision": kind("json", value='"approve"'), "comment": kind("jinja", template="{{ 'looks' }} good")}
        state = release.sign(ann, **own)
        assert state is not None and state.name == "Delivered", state
        kept = list(everything_kept(release))
    places = {where for where, _ in kept}
    assert {"artifact", "log"} <= places and any(Path(where).match("sender-*.log") for where in places)
    assert ["looks good" in text for where, text in kept if where == certificate_name(release.package)] == [True]
    for where, text in kept:
        assert not any(told in text for told in (SECRET, "deadbeef", "271828", "__prefect_kind")), where
