"""Documents of Extended ECM shown to people outside, at Core Share, until a day; and what all shares have in common.

A share is a way out, like a delivery to a partner. So this stands in the sender and not beside the session's other facets, which
workers have: it signs in with an account of the sender's own, the only one that may share, whose password workers do not have.
A worker's own account must lack the privilege; then neither our code nor bare HTTP gets it a share.

No stream can ask for a share of a node. Whoever lets one must keep this in mind: it shows the *node*, and so every version that comes
later, while a sign-off is for the bytes of one version. What streams can ask for is in ``showing``: a folder of File 360 that only the
sender writes to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import IntEnum
from typing import Any

from blocks.closing import Closing
from blocks.errors import OutcomeUnknown, RepositoryUnreachable, SendRefused
from blocks.repositories.extended_ecm import ExtendedEcm
from blocks.repositories.otcs_names import one_result, properties
from blocks.repositories.otcs_wire import AnswerLost, Refusal, Wire, pauses


class Role(IntEnum):
    """What a guest may do, as Core Share counts it."""

    VIEWER = 1
    COLLABORATOR = 2
    MANAGER = 3
    OWNER = 4


@dataclass(frozen=True, slots=True)
class Guest:
    """Somebody outside who is shown documents."""

    mail: str
    role: Role = Role.VIEWER


def must_be_possible(what: str, things: Sequence[object], guests: Sequence[Guest], until: date) -> None:
    """Raise ``SendRefused`` for a share of nothing, with nobody, or for a day that is over."""
    if not things or not guests:
        raise SendRefused(f"{what}: nothing to share, or nobody to share it with; nothing was shared")
    if until < datetime.now(UTC).date():
        raise SendRefused(f"{what}: {until} is over; nothing was shared")


class Shares(Closing):
    """The shares of one Extended ECM. Open it with the sender's own account."""

    def __init__(self, repository: ExtendedEcm) -> None:
        self._wire: Wire = repository.signed_in()

    def share(self, nodes: Sequence[int], guests: Sequence[Guest], until: date, message: str = "") -> None:
        """Show documents to guests until the end of a day, all of them or an error that names those that are not shown.

        Raises ``SendRefused`` without guests, for a day that is over, and for what is shared already: with whom cannot be asked, so
        it is stopped first.
        """
        what = f"share of {', '.join(f'node {node}' for node in nodes)}"
        must_be_possible(what, nodes, guests, until)
        if already := [node for node in nodes if self.shared(node)]:
            raise SendRefused(f"{what}: {', '.join(map(str, already))} is shared already; stop that first, nothing was changed")
        body = {
            "IDs": list(nodes),
            "shareProvider": "CORE",
            "shareOptions": {"expire_date": until.isoformat(), "shareInitiatorRole": int(Role.VIEWER)},
            "providerParams": {
                "sharing_message": message,
                "invitees": [
                    {"business_email": guest.mail, "id": guest.mail, "perm": int(guest.role), "identityType": 1}
                    for guest in guests
                ],
            },
        }
        for _ in pauses():
            try:
                answer = self._wire.write(what, "POST", "v2/shares", body=body)
            except AnswerLost as lost:
                if self._settled(what, nodes, lost):
                    return
                continue
            told: Any = one_result(answer, what).get("data")
            if isinstance(told, dict) and told.get("partial"):
                self._partial(what, nodes)
            return
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that it was done; nothing is shared")

    def _settled(self, what: str, nodes: Sequence[int], lost: AnswerLost) -> bool:
        """True if a share whose answer was lost was made, False if it certainly was not."""
        for _ in pauses():
            shared = [self.shared(node) for node in nodes]
            if all(shared):
                return True  # nothing of it was shared before, so this is ours
            if not lost.running:
                if any(shared):
                    self._partial(what, nodes)
                return False
        raise OutcomeUnknown(
            f"{what} at {self._wire.url}: the answer was lost, and the server may still be at it; look at what is shared, and stop or "
            "repeat it by hand"
        ) from lost

    def _partial(self, what: str, nodes: Sequence[int]) -> None:
        missing = ", ".join(str(node) for node in nodes if not self.shared(node))
        raise Refusal(f"{what} at {self._wire.url}: {missing} could not be shared; the others are", "partial")

    def stop(self, node: int) -> None:
        """Show a document to nobody outside any more; one that is not shared stays so."""
        what, lost = f"share of node {node}", False
        for _ in pauses():
            if not self.shared(node):
                return
            try:
                self._wire.write(what, "DELETE", f"v2/shares/{node}")
            except AnswerLost:
                lost = True
                continue
            except Refusal:
                if not lost:
                    raise
                lost = False  # by the call before, whose answer was lost, and which came to its end only now?
                continue
            return
        raise RepositoryUnreachable(
            f"{what} at {self._wire.url}: no answer tells that it was stopped; it is safe to say it again"
        )

    def shared(self, node: int) -> bool:
        """True if anybody outside is shown a document now."""
        what = f"node {node}"
        answer = self._wire.ask(what, "GET", f"v2/nodes/{node}", query={"fields": "properties"})
        return bool(properties(one_result(answer, what), what).get("reserved_shared_collaboration"))

    def close(self) -> None:
        """Sign out. Safe to call twice."""
        self._wire.close()
