"""Record: file what was sent, when, to whom, what the server said and who allowed it, as one record; and add what comes back later."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from pathlib import PurePath

from prefect.runtime import task_run

from blocks.errors import RepositoryError
from blocks.outbound import PackageFile, sha256
from blocks.sender import Arrived
from blocks.values import Filed
from tasks.connections import ledger, repository_session, spool
from tasks.evidence import file_evidence, written
from tasks.order import Order
from tasks.retrying import RETRIES, task
from tasks.rules.filing import Evidence, delivered_as
from tasks.rules.reconcile import RECORD_WAITS
from tasks.rules.transmission import Kept, kept, record_name, transmission


@task(task_run_name="record {order.id}")
def keep_record(order: Order, arrived: Sequence[Arrived]) -> bool:
    """File the transmission record, once. False: the repository does not take it now, and the sweep has it tried again.

    ::

        certified ─ copied ─ recording (its text, from now on the same) ─ recorded
                       └─────────┴─ in-doubt: record-not-filed ─ (the sweep) ─┘
    """
    if order.last("recorded"):
        return True
    try:
        copies = _copies(order, arrived)
        filed = _record(order, arrived, copies)
    except RepositoryError as error:
        if error.worth_retrying and task_run.run_count <= RETRIES:
            raise  # it may only be busy
        _wait(order, error)
        return False
    target = order.agreed.recording
    where = {"repository": target.address, "repository_id": filed.id, "version": filed.version}
    done = {"record": sha256(recorded_text(order)), **where, "filed_as": filed.name, "folder": "/".join(filed.folder)}
    order.write("recorded", done, once=f"recorded/{order.matter.package.digest}")
    return True


def _wait(order: Order, error: RepositoryError) -> None:
    """Delivered is delivered: one case until the record is filed, and nothing is sent again."""
    before = order.last("in-doubt", "recorded")
    if before is None or before.kind == "recorded" or before.body["case"]["code"] != RECORD_WAITS:
        case = order.case(RECORD_WAITS, str(error))
        order.write("in-doubt", {"reason": str(error), "case": case})
        order.tell(RECORD_WAITS, reason=str(error))
    order.end("Delivered, record waits", f"{error} All was delivered; filing its record is tried again by itself")


def _copies(order: Order, arrived: Sequence[Arrived]) -> dict[str, Kept]:
    """By digest, where the documents' bytes were filed beside the record; none where the record only refers to them."""
    agreed = order.agreed
    if not agreed.terms.recording.copies:
        return {}
    package, digest = order.matter.package, order.matter.package.digest
    done = order.last("copied")
    if done is None:
        files = {file.sha256: file for file in package.kept(order.standing().left_out)}
        delivered = max(file.at for one in arrived for file in one.files)
        pieces = []
        for file in files.values():
            if not spool().path(file.sha256).exists():
                _fetch(order, file)
            name = PurePath(file.shown)
            piece = Evidence(
                key=f"{digest}/copy/{file.sha256}",
                name=file.shown,
                stem=name.stem,
                extension=name.suffix.removeprefix("."),
                digest=file.sha256,
                size=file.size,
                media_type="application/octet-stream",
                path=spool().path(file.sha256),
                documents=((file.shown, file.sha256),),
                said=delivered_as(file, package.partner, package.stream, package.order, delivered.astimezone(UTC)),
            )
            pieces.append(piece)
        filed = file_evidence(order, agreed.terms.recording, agreed.recording, pieces)
        told = {sha: kept(one, agreed.recording.address).facts for sha, one in zip(files, filed, strict=True)}
        done = order.write("copied", {"copies": told}, once=f"copied/{digest}")
    return {sha: Kept(**facts) for sha, facts in done.body["copies"].items()}


def _fetch(order: Order, file: PackageFile) -> None:
    """Bytes that the spool lost, from the repository that they came from. Raises ``RepositoryError`` if that has others by now."""
    with repository_session(order.source) as session, spool().batch() as batch:
        found = session.fetch(file.repository_id, file.version, batch)
    if found.digest != file.sha256:
        raise RepositoryError(
            f"order {order.id}: version {file.version} of {file.shown} has other bytes by now than were sent, and ours are gone; "
            "put the bytes that were sent back there, or set 'copies: false'"
        )


def recorded_text(order: Order) -> str:
    """What the record says without acknowledgements: written down once, before any of it was filed."""
    found = order.last("recording")
    assert found is not None  # noqa: S101 - written before anything of it is filed
    return str(found.body["text"])


def _record(order: Order, arrived: Sequence[Arrived], copies: dict[str, Kept]) -> Filed:
    package, certified = order.matter.package, order.last("certified")
    assert certified is not None  # noqa: S101 - the story certifies before it records
    told = certified.body
    text = transmission(
        order.matter,
        order.people,
        order.standing().votes,
        [file for one in arrived for file in one.files],
        title=order.agreed.profile.title,
        source=order.source.address,
        copies=copies,
        certificate=str(told["certificate"]),
        certificate_at=Kept(str(told["repository"]), str(told["repository_id"]), 1),
        awaited=order.agreed.terms.recording.awaited,
        made=ledger().now(),
    )
    order.write("recording", {"text": text}, once=f"recording/{package.digest}")
    first = piece(order, recorded_text(order), "record")
    (filed,) = file_evidence(order, order.agreed.terms.recording, order.agreed.recording, [first])
    return filed


def piece(order: Order, text: str, key: str) -> Evidence:
    """The record's document; each version of it has a key of its own."""
    package = order.matter.package
    about = [(file.shown, file.sha256) for file in package.kept(order.standing().left_out)]
    # Its extension is longer than a certificate's, whatever name a stream's template makes of both.
    return written(f"{package.digest}/{key}", record_name(package), "transmission.json", text, "application/json", about)
