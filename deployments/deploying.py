"""``countersign deploy``: the reviewed files into Prefect, through Prefect itself; a mirror of their terms for people to read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blocks.errors import ConfigurationError, CountersignError

if TYPE_CHECKING:
    from prefect.blocks.core import Block
    from prefect.client.orchestration import SyncPrefectClient

    from blocks.profile import PartnerFile
    from blocks.repositories.base import Repository

WORK_POOL = "countersign"


class DeployFailed(CountersignError):
    """Prefect did not take a deployment; its own words are in the message."""


def deploy(
    partner: Annotated[
        list[str] | None, typer.Argument(help="Partners to deploy; default: all.", metavar="[PARTNER]...")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the files and say what would be done; change nothing.")
    ] = False,
) -> None:
    """Bring the reviewed files to Prefect: the work pool, block mirrors, and the deployments of prefect.yaml and the partners.

    All files are checked before anything is changed. Run it in the project's folder, as often as you like.

    Example: countersign deploy acme
    """
    from blocks.profile import load_repositories, partner_path, partners
    from blocks.settings import settings

    folder = settings().profiles
    root = Path.cwd()
    if not (root / "prefect.yaml").is_file():
        raise ConfigurationError(f"{root}: no prefect.yaml here; run 'countersign deploy' in the project's folder")
    files = _sound_files(partner or partners(folder), folder)
    repositories = load_repositories(folder)

    if dry_run:
        typer.echo(f"would make sure of the work pool {WORK_POOL} and of the block types")
        for name, _ in _mirrors(files, repositories):
            typer.echo(f"would mirror {name}")
        for name, file in files.items():
            for deployment in file.deployments:
                typer.echo(f"would deploy {name}: {deployment.name} ({deployment.entrypoint})")
        return

    with _server() as server:
        typer.echo(f"work pool {WORK_POOL}: {_work_pool(server)}")
        typer.echo(f"block types: {', '.join(_block_types())}")
        for name, block in _mirrors(files, repositories):
            typer.echo(f"mirror {name}: {_mirror(name, block, server)}")
        _prefect_deploy(root / "prefect.yaml", root)
        for name, file in files.items():
            if file.deployments:
                _prefect_deploy(partner_path(name, folder), root)
            told = ", ".join(deployment.name for deployment in file.deployments) or "no deployments"
            typer.echo(f"{name}: {told} (digest {file.partner.digest[:12]})")
        for left_over in _left_over(files, server):
            typer.echo(
                f"NOT IN ANY FILE, and still there: {left_over}; remove it with: prefect deployment delete '{left_over}'"
            )


def _sound_files(names: list[str], folder: Path) -> dict[str, PartnerFile]:
    """All files, or all that is wrong in them."""
    from deployments.checking import sound_file

    files, wrong = {}, []
    for name in names:
        try:
            files[name] = sound_file(name, folder)[0]
        except ConfigurationError as error:
            wrong.append(str(error))
    if wrong:
        raise ConfigurationError("\n".join([*wrong, "nothing was deployed"]))
    return files


def _mirrors(files: dict[str, PartnerFile], repositories: dict[str, Repository]) -> Iterator[tuple[str, Block]]:
    """What people shall see in Prefect, under the name of its block document."""
    from blocks.mirrors import mirrors

    yield from mirrors({name: file.partner for name, file in files.items()}, repositories)


@contextmanager
def _server() -> Iterator[SyncPrefectClient]:
    """The Prefect server, and its failures as one message."""
    from httpx import HTTPError
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        # Prefect would start a server of its own for a moment, and what is deployed there is seen by nobody.
        raise ConfigurationError(
            "PREFECT_API_URL is not set: start a server ('prefect server start') and set it, e.g. http://127.0.0.1:4200/api"
        )
    try:
        with get_client(sync_client=True) as client:
            yield client
    except HTTPError as error:
        raise DeployFailed(
            f"the Prefect server at {PREFECT_API_URL.value()} did not answer as it should ({error}). Is it running, and is "
            "PREFECT_API_URL right? What was told above is done; run the same command again"
        ) from error


def _work_pool(server: SyncPrefectClient) -> str:
    """Create the pool unless it is there. Prefect's own command would ask the internet for the pool's template."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound

    from deployments.worker.worker import CountersignWorker

    try:
        return f"there ({server.read_work_pool(WORK_POOL).type})"
    except ObjectNotFound:
        template = CountersignWorker.get_default_base_job_template()
        server.create_work_pool(WorkPoolCreate(name=WORK_POOL, type=CountersignWorker.type, base_job_template=template))
        return f"created ({CountersignWorker.type})"


def _block_types() -> list[str]:
    from blocks import catalog

    kinds: list[type[Block]] = [*catalog.ENDPOINTS.values(), *catalog.REPOSITORIES.values(), catalog.PartnerMirror]
    for kind in kinds:
        kind.register_type_and_schema()
    return [kind.get_block_type_slug() for kind in kinds]


def _mirror(name: str, block: Block, server: SyncPrefectClient) -> str:
    """Save a mirror. A mirror that somebody edited in Prefect is put right, and that is said."""
    from prefect.exceptions import ObjectNotFound

    from blocks.mirrors import differs

    try:
        there = server.read_block_document_by_name(name, block.get_block_type_slug())
    except ObjectNotFound:
        block.save(name)
        return "created"
    if not differs(there, block):
        return "unchanged"
    block.save(name, overwrite=True)
    return "replaced: it differed, because the file has changed or somebody edited it in Prefect"


def _left_over(files: dict[str, PartnerFile], server: SyncPrefectClient) -> list[str]:
    """Deployments of these partners that Prefect still has from an earlier version of their files: they would go on running."""
    there: list[Any] = []
    while found := server.read_deployments(limit=200, offset=len(there)):
        there += found
    return sorted(
        f"{server.read_flow(deployment.flow_id).name}/{deployment.name}"
        for deployment in there
        if (file := files.get(str((deployment.parameters or {}).get("partner"))))
        and deployment.name not in {ours.name for ours in file.deployments}
    )


def _prefect_deploy(file: Path, root: Path) -> None:
    """Let Prefect deploy everything in a file. Entrypoints are found from the project's folder."""
    import yaml

    if not yaml.safe_load(file.read_text(encoding="utf-8")).get("deployments"):
        return
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "160"}
    done = subprocess.run(
        command, cwd=root, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise DeployFailed(
            f"{file}: Prefect did not deploy it; mend this and run the same command again:\n{done.stdout}{done.stderr}"
        )
