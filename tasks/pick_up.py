"""Pick up: bring the bytes of a consignment into the spool."""

from __future__ import annotations

from dataclasses import replace

from blocks.values import Document, EmptyFiles, Fetched, Finding, Missed, Outcome, Stage, Verdict
from tasks.connections import endpoint_session, ledger, spool
from tasks.consignment import Consignment, Item, Steps
from tasks.file_away import unknown
from tasks.pass_through import as_recorded, pass_through
from tasks.retrying import task
from tasks.rules.judge import before_fetch
from tasks.rules.passing import PASSING


@task(task_run_name="pick up ({consignment.size})")
def pick_up(consignment: Consignment) -> Consignment:
    """Fetch what is not in the spool yet. A file that is refused for its name or size alone is left where it is."""
    consignment = pass_through(_announce(as_recorded(consignment)))
    steps, wanted = Steps(consignment), []
    for item in consignment.at(Stage.CLAIMED, Stage.FETCHED, Stage.JUDGED):
        if item.verdict is not None:
            continue  # nobody knows what became of it on its way through
        digest = item.arrival.digest
        if digest is not None and spool().holds(digest):
            steps.changed[item.journey] = replace(item, document=_document(item, digest))
        elif findings := before_fetch(item.arrival, consignment.agreed.terms):
            steps.changed[item.journey] = replace(item, verdict=Verdict(item.journey, None, findings))
        else:
            wanted.append(item)
    if wanted:
        _fetch(wanted, steps)
    return steps.write(ledger().append)


def _announce(consignment: Consignment) -> Consignment:
    """A new arrival's journey begins with where it came from; once more if it went back to being watched and is another now."""
    steps = Steps(consignment)
    for item in consignment.at(Stage.CLAIMED):
        told, origin = item.recorded("arrived"), consignment.agreed.origin(item.arrival)
        if told is None or any(told.body[fact] != origin[fact] for fact in ("size", "modified")):
            steps.add(item, "arrived", origin, stage=Stage.CLAIMED)
    return steps.write(ledger().append)


def _fetch(items: list[Item], steps: Steps) -> None:
    """Nothing of this is in the ledger yet when the batch is left, which makes the bytes safe: only then may it say "fetched"."""
    by_file = {item.arrival.file: item for item in items}
    with endpoint_session(steps.consignment.agreed.endpoint) as session, spool().batch() as batch:
        fingerprint = session.capabilities.fingerprint
        for answer in session.fetch(list(by_file), batch):  # while the server has work on the next ones
            _take(by_file[answer.file], answer, fingerprint, steps)


def _take(item: Item, answer: Fetched | Missed, fingerprint: str | None, steps: Steps) -> None:
    if item.arrival.digest is not None and not (isinstance(answer, Fetched) and answer.digest == item.arrival.digest):
        _lost(item, answer, steps)
    elif isinstance(answer, Fetched) and answer.size == 0 and steps.consignment.agreed.terms.empty is EmptyFiles.MARKER:
        _only_says(item, answer, steps)
    elif isinstance(answer, Fetched):
        _fetched(item, answer, fingerprint, steps)
    else:
        _missed(item, answer, steps)


def _fetched(item: Item, answer: Fetched, fingerprint: str | None, steps: Steps) -> None:
    arrival = replace(item.arrival, digest=answer.digest)
    steps.add(
        item,
        "fetched",
        {"digest": answer.digest, "size": answer.size, "fingerprint": fingerprint},
        once=f"{item.journey}/fetched/{answer.digest}",
        stage=Stage.FETCHED,
        arrival=arrival,
        document=_document(item, answer.digest, answer.size),
    )


def _only_says(item: Item, answer: Fetched, steps: Steps) -> None:
    """An empty file on a stream where these are markers: written down, and cleared like any other."""
    steps.add(
        item,
        "marker",
        {"digest": answer.digest, "size": 0},
        once=f"{item.journey}/marker",
        stage=Stage.MARKER,
        arrival=replace(item.arrival, digest=answer.digest),
    )


def _lost(item: Item, answer: Fetched | Missed, steps: Steps) -> None:
    """The spool lost what was fetched before, and the source does not have it any more: a document is missing, a person must know."""
    stands = "other bytes stand there now" if isinstance(answer, Fetched) else answer.reason or str(answer.outcome)
    finding = Finding(
        code="bytes-lost",
        message=f"Its bytes ({str(item.arrival.digest)[:16]}…) are not in our spool any more, and cannot be fetched again: {stands}",
        file=item.arrival.file.shown,
        rule="what was fetched is kept until it is filed",
        fix="Ask the partner to send the file again",
    )
    # Without its digest: the original, whatever it is now, is all there is, and is left where it stands.
    arrival = replace(item.arrival, digest=None)
    steps.changed[item.journey] = replace(item, arrival=arrival, verdict=Verdict(item.journey, None, (finding,)))


def _missed(item: Item, answer: Missed, steps: Steps) -> None:
    if answer.outcome is Outcome.VANISHED and item.recorded(PASSING) is not None:
        why = "it broke off on its way through us, and its source does not have it any more: the repository may hold it whole"
        unknown(
            item,
            why,
            steps,
            "Look whether the repository has it; if not, ask the partner to send it again. Then close the case",
        )
    elif answer.outcome is Outcome.VANISHED:
        steps.add(item, "vanished", {"reason": answer.reason}, stage=Stage.CLEARED, note="gone before it was fetched")
    elif answer.outcome is Outcome.CHANGED:
        # Still being written after all. It goes back to being watched; its journey stays the same.
        steps.add(item, "unsettled", {"reason": answer.reason}, stage=Stage.SIGHTED, note="still being written")
    else:
        code = str(answer.outcome).replace(" ", "-")
        finding = Finding(
            code=f"not-fetched-{code}",
            message=f"The server did not let us fetch it: {answer.reason}",
            file=item.arrival.file.shown,
            rule="files can be read by our account",
            fix="Check the file's rights at the endpoint, then 'countersign quarantine retry'",
        )
        steps.changed[item.journey] = replace(item, verdict=Verdict(item.journey, None, (finding,)))


def _document(item: Item, digest: str, size: int | None = None) -> Document:
    path = spool().place(digest)
    return Document(item.journey, item.arrival.file.name, path.stat().st_size if size is None else size, digest, path)
