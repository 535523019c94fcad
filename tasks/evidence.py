"""Evidence: file what we write about a release beside what it is about, each piece under a journey of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from blocks.errors import RepositoryError
from blocks.outbound import sha256
from blocks.repositories.base import Repository
from blocks.values import Filed, Target
from tasks.connections import repository_session, spool
from tasks.order import Order
from tasks.rules.filing import Evidence, plan_evidence, told_alike


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


def file_pieces(
    repository: Repository, target: Target, about: Mapping[str, str], at: datetime, pieces: Sequence[Evidence]
) -> list[Filed]:
    """File all of these, or say what the repository will not take. Filed again, nothing is doubled.

    Raises ``RepositoryError``, and what the repository raises.
    """
    filings = [plan_evidence(piece, target, about, at) for piece in pieces]
    with repository_session(repository) as session:
        filed = list(session.file(filings))
    if refused := [answer for answer in filed if not isinstance(answer, Filed)]:
        raise RepositoryError(f"{filings[filed.index(refused[0])].name} could not be filed: {refused[0].reason}")
    return [answer for answer in filed if isinstance(answer, Filed)]


def file_evidence(order: Order, target: Target, repository: Repository, pieces: Sequence[Evidence]) -> list[Filed]:
    """File what an order's delivery comes to. Raises ``RepositoryError`` that says what to mend, and what the repository raises."""
    package = order.matter.package
    told = told_alike([file.name for file in package.files], order.agreed.terms)
    about = {**told, "partner": package.partner, "stream": package.stream, "order": package.order}
    try:
        return file_pieces(repository, target, about, order.frozen.at, pieces)
    except KeyError as fact:
        # The patterns were changed after it was frozen, or the place.
        raise RepositoryError(
            f"order {order.id} was delivered, and its documents do not tell {fact}; mend where it is filed"
        ) from fact
    except RepositoryError as error:
        if type(error) is not RepositoryError:
            raise
        raise RepositoryError(
            f"order {order.id} was delivered, and {error}; mend where the stream's profile files it and run it again, nothing is "
            "sent twice"
        ) from error
