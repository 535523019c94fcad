"""``countersign deploy`` against a real Prefect server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from blocks.profile import load_partner
from tests.cli.test_partner import FOLDERS
from tests.servers.prefect import PrefectServer, client_of

ROOT = Path(__file__).parents[2]
SFTP = "      protocol: sftp\n      host: sftp.globex.example\n      username: us\n      password: env:GLOBEX_PASSWORD\n"
ECM = "  ecm: {kind: extended-ecm, url: 'http://ecm.example/cs/cs', username: Admin, password: 'env:ECM_PASSWORD'}\n"
Deploy = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's folder with one partner, whose only deployment runs a flow that does nothing."""
    (tmp_path / "prefect.yaml").write_text("name: sample\ndeployments: []\n")
    profiles = tmp_path / "deployments"
    profiles.mkdir()
    text = FOLDERS.format(root=tmp_path).replace("flows.intake.intake", "tests.cli.sample.nothing")
    text = text.replace("  streams:", f"    mail:\n{SFTP}  streams:", 1)
    text += (
        "    schedules:\n      - { slug: often, cron: '*/5 * * * *', active: false }\n"
        "    concurrency_limit: { limit: 2, collision_strategy: ENQUEUE }\n    tags: ['partner:globex']\n"
    )
    (profiles / "globex.yaml").write_text(text)
    (profiles / "repositories.yaml").write_text(f"repositories:\n  archive: {{kind: folder, path: {tmp_path}}}\n{ECM}")
    return tmp_path


@pytest.fixture
def deploy(project: Path, prefect_server: PrefectServer) -> Iterator[Deploy]:
    def deploy(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = prefect_server.environment(PYTHONPATH=str(ROOT), COUNTERSIGN_PROFILES="deployments", **environment)
        command = [sys.executable, "-m", "deployments.cli", "deploy", *arguments]
        return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=400, check=False)

    yield deploy
    # The server is everybody's: a sweep of another test would tell of deployments that are in no file of its own.
    for left in ask(prefect_server, "deployments/filter", deployments={"name": {"like_": "globex-"}}):
        request(prefect_server, "DELETE", f"deployments/{left['id']}")


def ask(server: PrefectServer, path: str, **body: Any) -> Any:
    return request(server, "POST", path, json=body).json()


def request(server: PrefectServer, method: str, path: str, **body: Any) -> httpx.Response:
    """By Prefect's own client, which asks again where a busy server answers with an error."""
    with client_of(server), get_client(sync_client=True) as client:
        return client.request(method, f"/{path}", **body)  # type: ignore[arg-type]


def mirrors(server: PrefectServer) -> dict[str, Any]:
    documents = ask(server, "block_documents/filter", include_secrets=True)
    return {document["name"]: document for document in documents if document["block_type"]["slug"].startswith("countersign")}


def test_deploy_brings_everything_to_prefect_and_can_be_repeated(
    deploy: Deploy, project: Path, prefect_server: PrefectServer
) -> None:
    # 1. a first time, for which there is no pool yet: other tests make one of another type, and again when it is gone
    with client_of(prefect_server), get_client(sync_client=True) as client, suppress(ObjectNotFound):
        client.delete_work_pool("countersign")
    done = deploy()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "globex: globex-orders (digest " in done.stdout
    pool = request(prefect_server, "GET", "work_pools/countersign").json()
    assert pool["type"] == "countersign" and "command" in pool["base_job_template"]["job_configuration"]
    (deployed,) = ask(prefect_server, "deployments/filter", deployments={"name": {"any_": ["globex-orders"]}})
    assert deployed["entrypoint"] == "tests.cli.sample.nothing"
    assert deployed["parameters"] == {"partner": "globex", "stream": "orders"}
    assert deployed["work_pool_name"] == "countersign" and deployed["tags"] == ["partner:globex"]
    assert deployed["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    assert [schedule["active"] for schedule in deployed["schedules"]] == [False]

    # 2. what people see of the profile is the profile
    profile = load_partner("globex", project / "deployments")
    documents = mirrors(prefect_server)
    assert {"globex", "globex-drop", "globex-mail"} <= documents.keys()
    assert documents["globex"]["data"]["digest"] == profile.digest
    assert documents["globex"]["data"]["terms"] == profile.terms
    assert documents["globex-drop"]["data"]["root"] == str(project)

    # 3. a mirror that somebody edited is told and put right; the rest stays
    mirror = documents["globex-drop"]
    edited = {"data": {**mirror["data"], "root": "/elsewhere"}, "merge_existing_data": False}
    request(prefect_server, "PATCH", f"block_documents/{mirror['id']}", json=edited)
    file = project / "deployments/globex.yaml"
    file.write_text(file.read_text().replace("name: globex-orders", "name: globex-new-orders"))
    again = deploy("globex")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "mirror globex-drop: replaced" in again.stdout
    for unchanged in ("globex-mail", "archive", "ecm", "globex"):
        assert f"mirror {unchanged}: unchanged" in again.stdout
    assert "work pool countersign: there (countersign)" in again.stdout
    assert mirrors(prefect_server)["globex-drop"]["data"]["root"] == str(project)

    # 4. a deployment that is in no file any more would go on running: it is told
    assert "prefect deployment delete 'sample/globex-orders'" in again.stdout
    assert "globex-new-orders'" not in again.stdout


def test_an_event_starts_a_run_with_what_it_tells(deploy: Deploy, project: Path, prefect_server: PrefectServer) -> None:
    event = f"repository.approved.{uuid4().hex[:8]}"
    file = project / "deployments/globex.yaml"
    file.write_text(
        file.read_text().replace("globex-orders", "globex-on-event")
        + "    triggers:\n"
        + f"      - {{ name: '{event}', type: event, enabled: true, posture: Reactive, threshold: 1, within: 0,\n"
        + f"          expect: ['{event}'], parameters: {{ order: '{{{{ event.payload.order }}}}' }} }}\n"
    )
    done = deploy()
    assert done.returncode == 0, done.stdout + done.stderr
    (deployed,) = ask(prefect_server, "deployments/filter", deployments={"name": {"any_": ["globex-on-event"]}})
    # An automation is known to the server's trigger service a moment after it is made; until then an event passes unseen.
    limit = time.monotonic() + 300
    while not (runs := ask(prefect_server, "flow_runs/filter", deployments={"id": {"any_": [deployed["id"]]}})):
        assert time.monotonic() < limit, "no event started a run"
        told = {
            "occurred": datetime.now(UTC).isoformat(),
            "event": event,
            "resource": {"prefect.resource.id": "repository.folder.7"},
            "payload": {"order": "autumn-2026"},
            "id": str(uuid4()),
        }
        request(prefect_server, "POST", "events", json=[told])
        time.sleep(1)
    assert runs[0]["parameters"] == {"partner": "globex", "stream": "orders", "order": "autumn-2026"}


def test_nothing_is_deployed_while_any_file_is_wrong(deploy: Deploy, project: Path, prefect_server: PrefectServer) -> None:
    (project / "deployments/acme.yaml").write_text("partner: {name: acme, titel: A}\n")
    before = mirrors(prefect_server).keys()
    done = deploy()
    assert done.returncode == 2 and "did you mean 'title'?" in done.stderr and "nothing was deployed" in done.stderr
    assert mirrors(prefect_server).keys() == before


def test_what_prefect_refuses_is_told_in_its_words(deploy: Deploy, project: Path) -> None:
    file = project / "deployments/globex.yaml"
    file.write_text(file.read_text().replace("tests.cli.sample.nothing", "tests.cli.sample.nowhere"))
    done = deploy()
    assert done.returncode == 2
    assert "Prefect did not deploy it" in done.stderr and "nowhere" in done.stderr


def test_a_rehearsal_needs_no_server(deploy: Deploy) -> None:
    done = deploy("--dry-run", PREFECT_API_URL="http://127.0.0.1:1/api")
    assert done.returncode == 0
    assert "would deploy globex: globex-orders (tests.cli.sample.nothing)" in done.stdout
    assert "would mirror globex-drop" in done.stdout


def test_a_server_that_is_away_is_one_message(deploy: Deploy) -> None:
    done = deploy(PREFECT_API_URL="http://127.0.0.1:1/api")
    assert done.returncode == 2
    assert "did not answer" in done.stderr and "127.0.0.1:1" in done.stderr and "Traceback" not in done.stderr


def test_without_a_project_it_says_where_to_run(deploy: Deploy, project: Path) -> None:
    (project / "prefect.yaml").unlink()
    done = deploy()
    assert done.returncode == 2 and "no prefect.yaml here" in done.stderr
