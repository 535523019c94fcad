"""Evidence: file what we write about a release beside what it is about, each piece under a journey of its own."""

from __future__ import annotations

from collections.abc import Sequence

from blocks.errors import RepositoryError
from blocks.outbound import sha256
from blocks.repositories.base import Repository
from blocks.values import Filed, Target
from tasks.connections import repository_session, spool
from tasks.order import Order
from tasks.rules.filing import Evidence, plan_evidence


def written(
    key: str, name: str, extension: str, text: str, media_type: str, documents: Sequence[tuple[str, str]] = ()
) -> Evidence:
    """A text of ours, put into the spool. ``documents`` are name and SHA-256 of what it is about."""
    content = text.encode()
    with spool().batch() as batch:
        sink = batch.open()
        sink.write(content)
        sink.finish()
    digest = sha256(text)
    stem = name.partition(".")[0]
    return Evidence(key, name, stem, extension, digest, len(content), media_type, spool().path(digest), tuple(documents))


def file_evidence(order: Order, target: Target, repository: Repository, pieces: Sequence[Evidence]) -> list[Filed]:
    """File all of these, or say what the repository will not take. Filed again, nothing is doubled.

    Raises ``RepositoryError``, and what the repository raises.
    """
    package = order.matter.package
    about = {"partner": package.partner, "stream": package.stream, "order": package.order}
    filings = [plan_evidence(piece, target, about, order.frozen.at) for piece in pieces]
    with repository_session(repository) as session:
        filed = list(session.file(filings))
    if refused := [answer for answer in filed if not isinstance(answer, Filed)]:
        raise RepositoryError(
            f"order {order.id} was delivered, and {filings[filed.index(refused[0])].name} could not be filed: "
            f"{refused[0].reason}; mend where the stream's profile files it and run it again, nothing is sent twice"
        )
    return [answer for answer in filed if isinstance(answer, Filed)]
