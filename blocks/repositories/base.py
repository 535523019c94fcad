"""The contract of a repository: where documents are kept and governed.

A ``Repository`` is a Prefect block; ``with repository.session() as session`` signs in. Every back-end keeps every promise
below; ``tests/conformance/repositories`` asks it of each.

- Synchronous; a session may be used from several threads at once.
- Filing is whole or not at all: a filing that cannot be completed (values, classification, access) is taken back.
- Every remote act can lose its answer. ``file`` settles that itself by looking for the journey's identity; when looking cannot
  tell it raises ``OutcomeUnknown``, and never repeats.
- Filing the same journey twice yields the same id and version: nothing is doubled.

Errors: ``RepositoryUnreachable``, ``SignInRefused``, ``DocumentMissing``, ``OnHold``, ``EditConflict``, ``OutcomeUnknown``, and
``RepositoryError`` for the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import Field

from blocks.closing import Closing
from blocks.errors import RepositoryError
from blocks.relay import Pour
from blocks.spool import Batch, Spooled
from blocks.values import Change, Described, Filed, Filing, FolderTree, HistoryEvent, Hold, Kept, NotFiled

AT_ONCE = 4
"""Documents that one repository is asked about at the same time."""


class RepositorySession(Closing):
    """Signed in to one repository, between ``__enter__`` and ``__exit__``."""

    @abstractmethod
    def file(self, filings: Iterable[Filing]) -> Iterator[Filed | NotFiled]:
        """Keep many documents, answered in the order given: content, name, values, classification, access.

        Missing folders are created. ``NotFiled`` where the repository refuses this one (unknown category, bad value, name
        taken under ``REFUSE``); nothing of it is left behind, and the others are not affected. Under ``NEW_VERSION`` a document
        of that name in that folder gets a new version, unless its newest version already came from this journey. Where the filing
        names its ``document``, that one gets it, and keeps its name and place; ``NotFiled`` where it is not there.
        """

    def takes_arriving(self, size: int) -> bool:
        """True if a document of so many bytes can be filed while it still arrives."""
        return False

    def file_arriving(self, filing: Filing, pour: Pour) -> Filed | NotFiled:
        """Keep one document whose bytes come only once; its filing names no digest, which is known when they have all come.

        The bytes are asked for only when all that can be refused without it was looked at: until then this call has put nothing
        of the document there, and ``NotFiled`` says that nothing is.

        What ``pour`` raises ends the call, and the repository never takes it for a whole document. An answer that is lost is settled
        by looking; where it does not tell, ``RepositoryUnreachable``: ``file`` it then, from bytes that can be read again.
        """
        raise RepositoryError("documents cannot be filed here while they still arrive")

    @abstractmethod
    def find(self, folder: tuple[str, ...], name: str) -> Kept | None:
        """The document or folder of that name (case is ignored where the repository ignores it); None where there is none."""

    @abstractmethod
    def look(self, folder: tuple[str, ...]) -> Iterator[Kept]:
        """Everything directly in a folder, as a stream. A missing folder raises ``DocumentMissing``."""

    @abstractmethod
    def get(self, id: str) -> Kept:
        """One document with its category values."""

    @abstractmethod
    def filed_by(self, id: str) -> tuple[str | None, ...]:
        """The journey of each version of a document, oldest first; None for a version that somebody else made."""

    @abstractmethod
    def search(self, *, name: str | None = None, text: str | None = None) -> Iterator[Kept]:
        """Documents by part of their name or by words. An index may lag: never rest correctness on it."""

    @abstractmethod
    def fetch(self, id: str, version: int | None, into: Batch) -> Spooled:
        """Bring a version's bytes (None: the newest) into a spool batch; counted against what was announced.

        Raises ``DocumentMissing``, and ``DocumentChanged`` where the repository itself knows that other bytes were filed.
        """

    def examine(self, id: str, version: int, into: Batch) -> tuple[Kept, Spooled]:
        """``get`` and ``fetch`` of one document, with no more questions than both together need."""
        return self.get(id), self.fetch(id, version, into)

    @abstractmethod
    def history(self, id: str) -> Iterator[HistoryEvent]:
        """The repository's own audit trail of one document, newest first."""

    def trail(self, id: str, kind: str) -> Iterator[HistoryEvent]:
        """The same of a document or a folder, as a change's ``kind`` says; with the events' ids."""
        return self.history(id)

    def changes(self, folder: tuple[str, ...], since: str = "0") -> Iterator[Change]:
        """What happened in a folder and below it after the change of that id, oldest first; "0": from the beginning.

        Raises ``DocumentMissing`` for a missing folder, and ``RepositoryError`` where the repository keeps no such record.
        """
        raise RepositoryError("what happens in a folder cannot be followed: this repository does not tell it")

    def describe(self, folder: tuple[str, ...], within: str | None = None) -> Iterator[Described]:
        """What is known of every document in a folder and below it, as a stream. No document is opened for that.

        ``within``: only of the document of that id, or of all below the folder of that id; nothing where it is not there (any more), or
        elsewhere. Raises ``DocumentMissing`` for a missing folder, and ``RepositoryError`` where the repository does not tell all of it.
        """
        raise RepositoryError("its documents cannot be catalogued: this repository does not tell who may see them")

    def remark(self, id: str, text: str) -> None:
        """Write to a document, for people who read it there; once, however often the same is said.

        Raises ``OutcomeUnknown``, and ``RepositoryError`` where nobody can write to documents.
        """
        raise RepositoryError("nobody can write to a document in this repository")

    def shown_outside(self, id: str) -> bool:
        """True if anybody outside can see a document. Raises ``RepositoryError`` where the repository does not tell."""
        raise RepositoryError("whether people outside can see a document this repository does not tell")

    def review(self, id: str, version: int, workflow: str, *, resumed: bool) -> str:
        """Start a workflow with a document; its process. ``resumed``: one that was started since this version was filed will do.

        Only who has asked for it before needs to look: looking costs two calls for each process that is there. Raises
        ``OutcomeUnknown``, and ``RepositoryError`` where there is no such workflow, or there are none at all.
        """
        raise RepositoryError(f"{workflow!r} cannot be started: this repository has no workflows")

    def unreviewed(self, versions: Mapping[str, int], workflow: str, step: str) -> dict[str, str]:
        """Which of these versions (id -> number) a workflow has not let through, each with the reason.

        Let through is what provably stood there when a completed process of the workflow came to this step: attached to it as this
        very version, the newest one until then. All in a repository that has no workflows. Raises ``DocumentMissing``.
        """
        return dict.fromkeys(versions, "this repository has no workflows")

    def lay_out(self, tree: FolderTree, *, resumed: bool) -> Mapping[tuple[str, ...], str] | NotFiled:
        """Make a workspace's folders, which nobody gets at yet but who gets at the folder around it; their ids.

        ``resumed``: it was asked for before, and what was made then is taken up, also if it was renamed there. A folder of that name
        that this journey did not make is nobody's to take: ``NotFiled``, as where somebody would get at it who is not to.
        """
        raise RepositoryError(f"{tree.name!r} cannot be made: this repository makes no workspaces of folders")

    def admit(self, tree: FolderTree, folders: Mapping[tuple[str, ...], str]) -> NotFiled | None:
        """Have exactly those get at the folders of a workspace who are to, itself last; None when it is so.

        ``NotFiled`` where it cannot be, or is not so: somebody else gets at one of them, or one was removed. Doing it twice changes
        nothing.
        """
        raise RepositoryError(f"{tree.name!r} cannot be opened: this repository makes no workspaces of folders")

    def named_by(self, id: str) -> str:
        """Who gave a workspace's folder the name that it has, as the repository's trail tells."""
        raise RepositoryError(f"{id}: this repository makes no workspaces of folders")

    def workspace(self, id: str) -> Kept:
        """A workspace's folder, wherever it is by now. Raises ``DocumentMissing``."""
        raise RepositoryError(f"{id}: this repository makes no workspaces of folders")

    @abstractmethod
    def holds(self, id: str) -> tuple[Hold, ...]:
        """The legal holds that a document is under now; its folder's too, where a folder can be on hold.

        Raises ``DocumentMissing`` for one that is not there, or not visible to us: then nobody can tell. An answer is never made up.
        """

    def holds_of(self, ids: Iterable[str]) -> Generator[tuple[Hold, ...] | RepositoryError]:
        """``holds`` of many, asked at the same time and answered in the order given. Where it raises, the error is the answer."""
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="holds") as pool:
            yield from pool.map(self._holds_told, ids)

    def _holds_told(self, id: str) -> tuple[Hold, ...] | RepositoryError:
        try:
            return self.holds(id)
        except RepositoryError as error:
            return error

    @abstractmethod
    def apply_hold(self, id: str, name: str, comment: str = "") -> None:
        """Put a document under the legal hold of that name, which is made if there is none. Doing it twice changes nothing."""

    @abstractmethod
    def lift_hold(self, id: str, name: str) -> None:
        """Take a document out of that hold; its other holds stay. Nothing happens where it is not under it."""

    def rule(self, folder: tuple[str, ...]) -> tuple[str, int] | None:
        """What becomes of a folder's documents after so many days, by the repository's own rule: a word of ``retain`` and the days.

        None where there is none, or no such folder. Only where it ``rules_folders``.
        """
        raise RepositoryError("this repository has no rules for folders")

    def retain(self, folder: tuple[str, ...], action: str, days: int = 0) -> None:
        """Rule a folder, in place of what was ruled before: ``trash`` or ``delete`` what is so old, ``keep`` what is not, or ``none``.

        A missing folder is made. Doing it twice changes nothing. Only where it ``rules_folders``.
        """
        raise RepositoryError("this repository has no rules for folders")

    @abstractmethod
    def remove(self, id: str, made_by: Sequence[str | None] | None = None) -> None:
        """Remove a document with all its versions, as far as the repository lets go of anything.

        ``made_by``: whose its versions are, as ``filed_by`` told; no other one goes with it. Raises ``EditConflict`` where there is
        another one by then, ``OnHold`` where a legal hold forbids it: nothing was removed. ``DocumentMissing`` where it is not there.
        Where one account files and removes at the same moment, a repository may not tell these apart: keep them from doing so.
        """

    @abstractmethod
    def was_removed(self, id: str, since: datetime) -> bool:
        """True if the repository tells that a document which it does not show was removed, and not before that moment.

        False where nobody can tell: it may stand there, hidden from us and on hold.
        """

    @abstractmethod
    def let_stand(self, id: str) -> None:
        """Give up the removal of a document: nothing that it began with stays behind, if it broke off.

        Raises ``DocumentMissing`` where there is nothing to give up: it was removed.
        """

    @abstractmethod
    def close(self) -> None:
        """Sign out. Safe to call twice."""


class Repository(Block, ABC):
    """Where documents are kept. Parsed from ``repositories.yaml``; connects only when asked."""

    kind: ClassVar[str]
    """The word in the file that chooses this back-end."""

    has_processes: ClassVar[bool] = False
    """It keeps business workspaces and workflows."""

    lacks: ClassVar[frozenset[str]] = frozenset()
    """What it does not keep of the promises above, of ``versions``, ``retention``, ``holds``, ``history`` and ``words`` (in search).

    A filing that needs it is ``NotFiled`` (``no-versions``, ``no-retention``), a call raises ``RepositoryError``: never an empty answer.
    """

    has_shared_folders: ClassVar[bool] = False
    """It gives people folders, by role: a workspace can be made of them."""

    rules_folders: ClassVar[bool] = False
    """It has rules for what becomes of a folder's documents after so many days."""

    files_arriving: ClassVar[bool] = False
    """Documents can be filed while they still arrive; a session tells of how many bytes (``takes_arriving``)."""

    timeout_seconds: float = Field(default=60.0, gt=0, description="Longest wait for any single answer, in seconds")

    @abstractmethod
    def session(self) -> RepositorySession:
        """Sign in."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where this is, for people and for the ledger. Holds no secret."""
