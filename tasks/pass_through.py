"""Pass through: large files straight from the source into the repository, where their first bytes are all that decides.

The order makes every break safe::

    first bytes judged ─▶ ledger: "passing" (the intent) ─▶ source ─▶ sha256 ─▶ repository ─▶ ledger: fetched, judged, filing, filed

The intent is written when the repository asks for the first byte: what it refuses before that was never begun, and nobody has to look
for it there.

A file that breaks off, is refused or whose answer is lost takes the usual way through the spool, in this run or the next one: it is
not passed through twice. What the first attempt may have filed is found there by its journey, and its bytes are compared. Where the
source does not have them any more, or looking could not tell, a person looks.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from blocks.endpoints.base import Endpoint
from blocks.errors import OutcomeUnknown, RepositoryUnreachable, TransferIncomplete
from blocks.ledger import Recorded
from blocks.relay import Pour, Relay, Take
from blocks.repositories.base import RepositorySession
from blocks.values import Document, Fetched, Filed, Filing, Inbound, Missed, NotFiled, RemoteFile, Stage, Verdict
from tasks.check import judgement
from tasks.connections import endpoint_session, ledger, repository_session, spool
from tasks.consignment import Consignment, Item, Steps, claimed_item
from tasks.file_away import filed_already, passing, unknown
from tasks.rules.filing import plan
from tasks.rules.judge import before_fetch
from tasks.rules.passing import judge_head, may_pass
from tasks.rules.sequence import UNKNOWN
from tasks.rules.sniff import HEAD_BYTES, sniff


def pass_through(consignment: Consignment) -> Consignment:
    """File what may pass through, one after the other; the rest is as it was. What is done is recorded file by file.

    A repository that is away now is asked again when there is something to file.
    """
    agreed = consignment.agreed
    if not agreed.repository.files_arriving:
        return consignment
    passing = [item for item in consignment.at(Stage.CLAIMED) if _may_pass(item, agreed.terms)]
    if not passing:
        return consignment
    with suppress(RepositoryUnreachable), repository_session(agreed.repository) as repository:
        for item in passing:
            if repository.takes_arriving(item.arrival.file.size):
                consignment = _pass(item, repository, consignment)
    return consignment


def _may_pass(item: Item, terms: Inbound) -> bool:
    if not may_pass(item.arrival.file, terms) or item.arrival.digest is not None:
        return False
    return all(entry.kind == "arrived" for entry in item.history) and not before_fetch(item.arrival, terms)


def as_recorded(consignment: Consignment) -> Consignment:
    """What may pass as the ledger knows it now: a task that is tried again is given what was known before its first try."""
    journeys = [item.journey for item in consignment.at(Stage.CLAIMED) if _may_pass(item, consignment.agreed.terms)]
    if not journeys:
        return consignment
    arrivals, histories = ledger().arrivals(journeys), ledger().journeys(journeys)
    return consignment.with_changes(
        {journey: claimed_item(arrivals[journey], histories[journey]) for journey in journeys if histories[journey]}
    )


def _pass(item: Item, repository: RepositorySession, consignment: Consignment) -> Consignment:
    agreed, relay = consignment.agreed, Relay(item.arrival.file.shown)
    with ThreadPoolExecutor(1, thread_name_prefix="passing") as source:
        fetching = source.submit(_fetch, agreed.endpoint, item.arrival.file, relay)
        try:
            return _file(item, relay, fetching, repository, consignment)
        finally:
            relay.give_up("nobody reads it any more")  # after the end this means nothing


def _fetch(endpoint: Endpoint, file: RemoteFile, relay: Relay) -> tuple[Fetched | Missed, str | None]:
    """The endpoint's answer, and the fingerprint of its host."""
    try:
        with endpoint_session(endpoint) as session:
            [answer] = session.fetch([file], relay)
            return answer, session.capabilities.fingerprint
    except BaseException as error:
        relay.give_up(f"the source broke off: {error}")
        raise
    finally:
        relay.give_up("the source did not give it")


def _file(
    item: Item,
    relay: Relay,
    fetching: Future[tuple[Fetched | Missed, str | None]],
    repository: RepositorySession,
    consignment: Consignment,
) -> Consignment:
    agreed, file = consignment.agreed, item.arrival.file
    try:
        head = relay.head(HEAD_BYTES)
    except TransferIncomplete:
        return consignment  # nothing is begun: the usual way tells what is the matter
    document = Document(item.journey, file.name, file.size, "", Path(), sniff(head))
    verdict = judge_head(document, head, agreed.terms)
    if verdict is None:
        return consignment
    filing = plan(document, verdict, agreed.terms, agreed.partner, agreed.stream, item.arrival)
    intent = _Intent(item, filing, consignment)
    answer: Filed | NotFiled | None = None
    doubt = ""
    try:
        answer = repository.file_arriving(filing, intent.before(relay.pour))
        if isinstance(answer, NotFiled) and answer.code == UNKNOWN:
            doubt = answer.reason
    except OutcomeUnknown as lost:
        doubt = str(lost)
    except (TransferIncomplete, RepositoryUnreachable):
        pass  # the usual way looks what became of it, and raises what is still so
    passed = intent.entry is not None
    if doubt or isinstance(answer, Filed):
        intent.write()  # if no byte was asked for, it is there of an attempt that this ledger does not know
    if intent.entry is not None:
        item = replace(item, history=(*item.history, intent.entry))
        consignment = consignment.with_changes({item.journey: item})
    if doubt:
        return _unknown(item, doubt, consignment)
    if not (passed and isinstance(answer, Filed)):
        return consignment  # the usual way: what is there is compared
    fetched, fingerprint = fetching.result()
    if not isinstance(fetched, Fetched) or fetched.size != file.size:
        raise TransferIncomplete(
            f"{file.shown}: filed as {answer.id}, and the source did not say that it was whole; it is compared"
        )
    return _record(item, answer, fetched, fingerprint, verdict, document, consignment)


def _record(
    item: Item,
    answer: Filed,
    fetched: Fetched,
    fingerprint: str | None,
    verdict: Verdict,
    document: Document,
    consignment: Consignment,
) -> Consignment:
    """All that is known now, in one go: what is in the repository is a document like any other."""
    digest, steps = fetched.digest, Steps(consignment)
    document = replace(document, digest=digest, path=spool().place(digest))
    item = replace(item, arrival=replace(item.arrival, digest=digest), document=document, verdict=verdict)
    told = {"digest": digest, "size": fetched.size, "fingerprint": fingerprint}
    steps.add(item, "fetched", told, once=f"{item.journey}/fetched/{digest}")
    steps.add(item, "judged", judgement(item, document, verdict, consignment.agreed))
    filed_already(item, answer, steps)
    return steps.write(ledger().append)


def _unknown(item: Item, reason: str, consignment: Consignment) -> Consignment:
    steps = Steps(consignment)
    unknown(item, reason, steps)
    return steps.write(ledger().append)


class _Intent:
    """That a file begins to pass: from the first byte that the repository asks for, it may hold it."""

    def __init__(self, item: Item, filing: Filing, consignment: Consignment) -> None:
        self._item, self._filing, self._consignment = item, filing, consignment
        self.entry: Recorded | None = None
        """As the ledger has it; None while nothing is begun."""

    def write(self) -> Recorded:
        if self.entry is None:
            entry = passing(self._consignment, self._item, self._filing)
            [self.entry] = ledger().append([entry], self._consignment.lease)
        return self.entry

    def before(self, pour: Pour) -> Pour:
        """The bytes, after it is written. Raises ``TransferIncomplete`` where another worker has begun with them."""

        def begun(take: Take) -> None:
            if not self.write().fresh:
                raise TransferIncomplete(
                    f"{self._item.arrival.file.shown}: it was begun before; it is not passed through twice"
                )
            pour(_while_leased(take, self._consignment))
            self._consignment.lease  # noqa: B018 - raises: the last bytes go out after this, and the source may have taken long to say so

        return begun


def _while_leased(take: Take, consignment: Consignment) -> Take:
    """The bytes, while the lease holds: a worker that was stalled completes nothing."""

    def leased(piece: bytes | bytearray | memoryview) -> None:
        consignment.lease  # noqa: B018 - raises
        take(piece)

    return leased
