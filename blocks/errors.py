"""The error tree: surprises only. Expected outcomes (a duplicate, a refusal, a vanished file) are values.

::

    CountersignError
    ├── ConfigurationError            a profile, a setting or a credential reference is wrong: a person mends it
    ├── EndpointError                 a partner's place for files
    │   ├── EndpointUnreachable  ↻    cannot connect, stalled, or the connection was lost
    │   ├── TransferIncomplete   ↻    fewer or other bytes arrived than were announced
    │   ├── EndpointBusy         ↻    the server allows no more connections just now
    │   ├── EndpointFull              no space left at the partner
    │   ├── HostKeyChanged            not the server we were told to trust: nothing moves until a person decides
    │   ├── LoginRefused              credentials were not accepted; never tried again by itself
    │   └── EndpointUnsuitable        the server lacks something we need; the message names it
    ├── RepositoryError               a governed repository
    │   ├── RepositoryUnreachable ↻   no answer, or one that means "later" (502, 503, 504, an HTML page)
    │   ├── SignInRefused             credentials were not accepted
    │   ├── DocumentMissing           no such document, or not visible to us
    │   ├── DocumentChanged           other bytes stand there than were filed: somebody changed them behind the repository
    │   ├── OnHold                    a legal hold forbids to remove it
    │   ├── EditConflict         ↻    someone else changed it in between
    │   └── OutcomeUnknown            an answer was lost and looking could not tell: a person decides
    ├── SystemFailure                 a line-of-business system
    │   ├── SystemUnreachable    ↻    no answer to a question, or one that means "later"
    │   └── SystemRefused             it answered, and said no
    ├── SpoolError
    │   ├── SpoolFull                 less free disk than the floor
    │   ├── SpoolMissing         ↻    bytes are not (or no longer) in the spool: fetch them again
    │   └── SpoolCorrupt         ↻    bytes in the spool are not what their digest says; set aside, fetch again
    ├── LedgerError
    │   ├── LedgerUnreachable    ↻    the database did not answer
    │   ├── LeaseLost                 somebody else works on this now: stop, change nothing
    │   ├── JourneyMoved         ↻    something was recorded about that journey meanwhile: read it anew, decide anew
    │   ├── SealedMeanwhile      ↻    another checkpoint was made at the same moment: seal what it left
    │   ├── JourneyReduced            only a tombstone is left of that journey: nothing more is recorded about it
    │   └── ChainBroken               the record was altered; names the first broken link
    ├── BundleBroken                  a bundle of evidence that we were given is none, or was altered; names the member
    ├── NoticeError                   a person or team could not be told of what waits for them
    │   ├── NoticeDelayed        ↻    nobody took it: unreachable, or not now
    │   ├── NoticeRefused             nobody took it, and trying again will not help
    │   └── NoticeUnknown             the answer was lost: they may have been told
    │       └── NoticeUnanswered      and it was waited for as long as was agreed
    └── SenderError                   the process that alone sends could not do as asked
        ├── SenderUnreachable    ↻    it does not answer, or is busy with this very package
        └── SendRefused               it will not send this: seals, signatures, policy or bytes do not hold

↻ = ``worth_retrying``: the same call may succeed later, and is safe to make again.
Every message says what, where, and what the reader may do or may stop worrying about.
"""

from __future__ import annotations


class CountersignError(Exception):
    """Anything that went wrong for a reason we know. Pickles: positional arguments only."""

    worth_retrying = False


class ConfigurationError(CountersignError):
    """A profile, a setting or a credential reference is wrong."""


class EndpointError(CountersignError):
    """Something failed at a partner's endpoint."""


class EndpointUnreachable(EndpointError):
    """Cannot connect, the server stalled past its deadline, or the connection was lost."""

    worth_retrying = True


class TransferIncomplete(EndpointError):
    """Fewer or other bytes arrived than were announced."""

    worth_retrying = True


class EndpointBusy(EndpointError):
    """The server allows no more connections just now."""

    worth_retrying = True


class EndpointFull(EndpointError):
    """The partner's disk or quota is full."""


class HostKeyChanged(EndpointError):
    """The server's key is not the pinned one."""


class LoginRefused(EndpointError):
    """The server did not accept our credentials."""


class EndpointUnsuitable(EndpointError):
    """The server lacks an algorithm, an extension or a right that we need."""


class RepositoryError(CountersignError):
    """Something failed at a repository."""


class RepositoryUnreachable(RepositoryError):
    """No answer, or an answer that means "later"."""

    worth_retrying = True


class SignInRefused(RepositoryError):
    """The repository did not accept our credentials."""


class DocumentMissing(RepositoryError):
    """No such document, or not visible to us."""


class DocumentChanged(RepositoryError):
    """Other bytes stand there than were filed."""


class OnHold(RepositoryError):
    """A legal hold forbids to remove the document, or any copy of it."""


class EditConflict(RepositoryError):
    """Someone else changed the document in between."""

    worth_retrying = True


class OutcomeUnknown(RepositoryError):
    """An answer was lost and looking could not tell what happened."""


class SystemFailure(CountersignError):
    """Something failed at a line-of-business system. What became of a message that it was sent is an ``Answer``, and no error."""


class SystemUnreachable(SystemFailure):
    """A question got no answer, or one that means "later": not before ``after_seconds`` have passed."""

    worth_retrying = True

    def __init__(self, message: str, after_seconds: float = 0.0) -> None:
        super().__init__(message, after_seconds)
        self.message, self.after_seconds = message, after_seconds

    def __str__(self) -> str:
        return self.message


class SystemRefused(SystemFailure):
    """The system answered, and said no: credentials, address or route are not what it takes."""


class SpoolError(CountersignError):
    """Something failed in the spool."""


class SpoolFull(SpoolError):
    """Less free disk than the floor allows."""


class SpoolMissing(SpoolError):
    """The bytes are not, or no longer, in the spool."""

    worth_retrying = True


class SpoolCorrupt(SpoolError):
    """The bytes in the spool are not what their digest says."""

    worth_retrying = True


class LedgerError(CountersignError):
    """Something failed in the ledger."""


class LedgerUnreachable(LedgerError):
    """The database did not answer."""

    worth_retrying = True


class SealedMeanwhile(LedgerError):
    """Another checkpoint was made at the same moment; nothing was written."""

    worth_retrying = True


class LeaseLost(LedgerError):
    """Our lease ran out or was taken over; nothing was written."""


class JourneyMoved(LedgerError):
    """Something was recorded about this journey since it was read; nothing was written."""

    worth_retrying = True


class JourneyReduced(LedgerError):
    """Only a tombstone is left of this journey, and nothing follows it; nothing was written."""


class ChainBroken(LedgerError):
    """A recorded entry is not what it was when it was written."""


class BundleBroken(CountersignError):
    """What we were given is no bundle, or not as it was made. ``member`` is what is wrong with it, "bundle" if it is all of it."""

    def __init__(self, member: str, reason: str) -> None:
        super().__init__(f"{member}: {reason}")
        self.member, self.reason = member, reason


class NoticeError(CountersignError):
    """A person or team could not be told of what waits for them."""


class NoticeDelayed(NoticeError):
    """Surely nobody took the message: there was no server, or it said "later"."""

    worth_retrying = True


class NoticeRefused(NoticeError):
    """Surely nobody took the message, and nobody will: no such mailbox, wrong credentials, no such block."""


class NoticeUnknown(NoticeError):
    """The message was on its way when its answer was lost: it is not sent again."""


class NoticeUnanswered(NoticeUnknown):
    """The answer did not come for as long as a server is given: waiting with the next message, too, would take as long again."""


class SenderError(CountersignError):
    """The sender could not do as it was asked."""


class SenderUnreachable(SenderError):
    """The sender does not answer, or is busy with this very package."""

    worth_retrying = True


class SendRefused(SenderError):
    """The sender will not send this: its seals, signatures, policy or bytes do not hold. Nothing (more) was sent."""
