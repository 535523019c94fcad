"""Previews: the beginning of documents, shown to approvers while they decide, on streams that agreed to it; then gone.

Pictures are made by a child process without credentials and with limits, see :mod:`tasks.render_child`. They stand in an artifact at
Prefect, and are deleted when the order has ended, by its own run or, where that was killed, by the sweep; never while one of the
documents is under a legal hold, or nobody can tell.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact
from prefect.exceptions import ObjectNotFound

from blocks.outbound import Package, PackageFile, PreviewKind
from blocks.values import Inbound
from tasks.connections import ledger
from tasks.gather import terms_as_inbound
from tasks.holds import MANY, Gate
from tasks.order import Order
from tasks.retrying import task
from tasks.rules import preview
from tasks.rules.preview import Preview
from tasks.rules.sniff import EMPTY, sniff
from tasks.since_last import bytes_of

KEY = "preview-"
CHILD = Path(__file__).with_name("render_child.py")
PATIENCE_SECONDS = 120.0
"""For one picture, start of the process included; its own limit of processor time is lower."""
MOST_BYTES = 64 * 1024 * 1024
"""Of a document of which a picture is made."""
_JPEG = b"\xff\xd8\xff"
_PAGE = 200


def publish_previews(order: Order) -> str:
    """The artifact with previews of the order's documents; its id, or "" on streams without."""
    terms, package = order.agreed.terms, order.matter.package
    if terms.preview is not PreviewKind.FULL:
        return ""
    markdown = preview.page(package, list(_previews(order, package, terms_as_inbound(terms))))
    return str(create_markdown_artifact(markdown, key=f"{KEY}{order.journey}", description="While people decide"))


def _previews(order: Order, package: Package, stream: Inbound) -> Iterator[Preview]:
    room = preview.MOST_PICTURES
    for file in package.files[: preview.MOST_DOCUMENTS]:
        one = _preview(order, file, stream)
        if len(one.jpeg) > room:
            one = Preview(file.shown, note="no preview: those before it took all the room")
        room -= len(one.jpeg)
        yield one


def _preview(order: Order, file: PackageFile, stream: Inbound) -> Preview:
    path = bytes_of(order, file)
    if isinstance(path, str):
        return Preview(file.shown, note=path)
    with path.open("rb") as document:
        head = document.read(preview.HEAD_BYTES)
    media_type = sniff(head)
    if media_type in preview.PICTURES:
        picture = picture_of(path, media_type)
        return Preview(file.shown, note=picture) if isinstance(picture, str) else Preview(file.shown, jpeg=picture)
    if media_type.startswith("text/"):
        whole = file.size <= len(head)
        rows = preview.first_rows(head, stream.encoding, stream.delimiter, whole=whole)
        return Preview(
            file.shown, rows=rows, note="" if rows else "no preview: its first line is too long, or no row of a table"
        )
    return Preview(file.shown, note="it is empty" if media_type == EMPTY else "no preview of this kind of document")


def picture_of(path: Path, media_type: str, *, child: Path = CHILD, patience_seconds: float = PATIENCE_SECONDS) -> bytes | str:
    """A JPEG of a document; or why there is none: it may do what it likes to the process that reads it, the ``child``."""
    if path.stat().st_size > MOST_BYTES:
        return "no preview: it is too large"
    command = [sys.executable, "-I", "-B", str(child), media_type]
    with tempfile.TemporaryDirectory() as empty, path.open("rb") as document, tempfile.TemporaryFile() as drawn:
        try:
            done = subprocess.run(  # killed when its time is over
                command,
                stdin=document,
                stdout=drawn,
                stderr=subprocess.DEVNULL,
                env={},
                cwd=empty,
                start_new_session=True,
                timeout=patience_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "no preview: making it took too long"
        drawn.seek(0)
        jpeg = drawn.read(preview.MOST_PICTURES + 1)
    sound = done.returncode == 0 and jpeg.startswith(_JPEG) and len(jpeg) <= preview.MOST_PICTURES
    return jpeg if sound else "no preview: it is encrypted, broken, too large, or made to break what reads it"


# --------------------------------------------------------------------------------------------- gone again


def drop_previews(order: Order) -> None:
    """Delete the previews of an order that has ended."""
    opened = order.last("opened")
    if opened is not None and opened.body.get("preview") and order.last("closed"):
        with get_client(sync_client=True) as client:
            _drop(client, order.journey, _found(client, ArtifactFilterKey(any_=[f"{KEY}{order.journey}"])))


@task(task_run_name="delete previews")
def delete_previews() -> int:
    """Delete what is left of the previews of orders that have ended; how many orders' that were."""
    deleted = 0
    with get_client(sync_client=True) as client:
        by_journey: dict[str, list[Artifact]] = {}
        for artifact in _found(client, ArtifactFilterKey(like_=f"{KEY}%")):
            by_journey.setdefault(str(artifact.key).removeprefix(KEY), []).append(artifact)
        for journey, history in ledger().journeys(list(by_journey)).items():
            if any(entry.kind == "closed" for entry in history):
                deleted += _drop(client, journey, by_journey[journey])
    return deleted


def _found(client: SyncPrefectClient, key: ArtifactFilterKey) -> list[Artifact]:
    found: list[Artifact] = []
    while page := client.read_artifacts(artifact_filter=ArtifactFilter(key=key), limit=_PAGE, offset=len(found)):
        found += page
    return found


def _drop(client: SyncPrefectClient, journey: str, artifacts: list[Artifact]) -> bool:
    """False: they stay, for the time being."""
    if not artifacts:
        return False
    frozen = [entry for entry in ledger().journey(journey) if entry.kind == "frozen"]
    digests = sorted({file.sha256 for entry in frozen for file in Package.parse(entry.body["package"]).files})
    if not _may_go(journey, digests):
        return False
    for artifact in artifacts:
        try:
            client.delete_artifact(artifact.id)
        except ObjectNotFound:
            continue  # somebody else was faster
    return True


def _may_go(journey: str, digests: list[str]) -> bool:
    """True if no document of these bytes, in this order or any other that was asked about, is on hold, as far as all can be asked."""
    alike = {row.journey.partition(".")[0] for digest in digests for row in ledger().search(digest=digest, limit=MANY)}
    return not Gate(orders={journey, *alike}).kept_digests(digests)
