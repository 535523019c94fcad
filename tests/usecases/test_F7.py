"""F7 Archive of scheduled outputs: 400 daily reports, each found again with the last day it must be kept; no original strays.

File 360 is the repository of this use case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from blocks.repositories.base import RepositorySession
from deployments.cli import app
from tests.sandbox.ftp import FtpSandbox
from tests.world import World, file360, over_ftp, price_list

FIRST = date(2025, 10, 1)
REPORTS = {f"report_{day}.csv": price_list(rows=2, first=2 * n + 1) for n in range(400) if (day := FIRST + timedelta(days=n))}
RULES = {"archived": "leave", "moved": "move", "removed": "remove"}
"""Streams, with what was agreed to happen to the originals."""


def share(stream: str) -> dict[str, bytes]:
    """Each stream brings every third report."""
    place = list(RULES).index(stream)
    return {name: content for n, (name, content) in enumerate(REPORTS.items()) if n % 3 == place}


def keep_until(name: str) -> date:
    """Ten years from the end of the year of the report's day."""
    return date(date.fromisoformat(name[7:17]).year + 10, 12, 31)


@pytest.fixture(scope="module")
def ecm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """File 360 is this use case's repository."""
    with file360(tmp_path_factory.mktemp("file360")) as service:
        yield service


@pytest.fixture
def server(world: World, tmp_path: Path) -> Iterator[FtpSandbox]:
    """Where the scheduled jobs leave their reports; our profile leads there."""
    password = tmp_path / "password"
    password.write_text("not a secret")
    with FtpSandbox(tmp_path / "jobs", users={"partner": "not a secret"}) as server:
        kept = {"Document Date": "{record_date}", "SHA-256": "{digest}", "Keep Until": "{keep_until}"}
        terms = {
            "classify": [{"pattern": r"report_(?P<day>\d{4}-\d\d-\d\d)\.csv", "doctype": "price-list"}],
            "target": {
                "repository": "ecm",
                "folder": f"Tests/{world.remote.name}",
                "categories": {"Partner Document": kept},
                "record_date": "{day}",
                "retention": {"period": "P10Y", "begins": "end of year"},
            },
        }
        streams = {}
        for stream, rule in RULES.items():
            (server.root / stream / "done").mkdir(parents=True)
            for name, content in share(stream).items():
                (server.root / stream / name).write_bytes(content)
            folder = {"folder": f"/{stream}/done"} if rule == "move" else {}
            streams[stream] = {**terms, "folder": f"/{stream}", "disposition": {"accepted": rule, **folder}}
        world.agree(endpoint=over_ftp(server.host, server.port, password), streams=streams)
        yield server


def standing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def found(session: RepositorySession, asked: Mapping[str, str]) -> set[str]:
    """Names of what the repository's own search finds."""
    return {kept.name for kept in session.search(**asked)}


def test_every_report_is_found_with_the_last_day_it_must_be_kept_and_no_original_strays(
    world: World, server: FtpSandbox
) -> None:
    began = datetime.now(UTC) - timedelta(minutes=1)
    for stream in RULES:
        assert world.run(stream).name == "Filed"
    assert world.run("archived").name == "Nothing new", "what was left is filed once"

    # The originals follow the rule.
    for stream, rule in RULES.items():
        reports = share(stream)
        assert standing(server.root / stream) == (reports if rule == "leave" else {})
        assert standing(server.root / stream / "done") == (reports if rule == "move" else {})

    with world.repository() as session:
        kept = {one.name: one for one in session.look(("Tests", world.remote.name))}
        assert kept.keys() == REPORTS.keys()
        assert {one.version for one in kept.values()} == {1}
        # A user searches by date, by a part of the name, by hash. (The server's answers are the sandbox's: a few of each tell.)
        for name in list(REPORTS)[::16]:
            for asked in ({"text": name[7:17]}, {"name": name[3:17]}, {"text": hashlib.sha256(REPORTS[name]).hexdigest()}):
                assert name in found(session, asked), asked
        # Each has the last day that it must be kept.
        for name, one in kept.items():
            values = session.get(one.id).categories["Partner Document"]
            assert str(values["Keep Until"])[:10] == keep_until(name).isoformat(), name
            assert str(values["Document Date"])[:10] == name[7:17]

    # So does ops, in the ledger: by the day it came, by a part of the name, by the beginning of a hash.
    came = [one for one in world.ledger.search(since=began, limit=10_000) if (one.name or "").startswith("report_")]
    histories = world.ledger.journeys([one.journey for one in came])
    told = {one.name: [entry.body for entry in histories[one.journey] if entry.kind == "filed"] for one in came}
    assert {name: body["keep_until"] for name, (body,) in told.items()} == {name: str(keep_until(name)) for name in REPORTS}
    for name, content in REPORTS.items():
        for part in ({"digest": hashlib.sha256(content).hexdigest()[:12]}, {"name": name[3:17]}):
            (one,) = world.ledger.search(**part)
            assert one.name == name
    for words in (["--name", name[3:17]], ["--digest", hashlib.sha256(content).hexdigest()[:12]]):
        shown = CliRunner(env={"COLUMNS": "250"}).invoke(app, ["ledger", "search", *words])
        assert name in shown.output and str(keep_until(name)) in shown.output, shown.output
    world.ledger.verify()
