"""OpenText Extended ECM: documents in Content Server, with category values, records classification and access.

How a filing is done, and what it costs in calls (after names were looked up once per session):

1. One POST makes the document with its content, category values and identity (``external_source=ftp``,
   ``external_identity`` = the journey). Nothing is looked up before: a taken name is told by the refusal. (From 1 MiB on we look
   first, because a refusal would cost the whole upload.)
2. A taken name is looked up. Ours already: completed. Else by the filing's ``collision``: a new version (identity on the
   version, values with one PUT per category), another name, or ``NotFiled``.
3. The records class: one POST. Access: one GET, then one call per line that differs.

If 2 or 3 is refused, what this call made is taken back: the document into the recycle bin, or the version removed and the old
values put back. What an earlier call made is never removed, nor what may not be (a hold, another's version upon it): then
``OutcomeUnknown`` names it. If it fails otherwise, an error is raised and the half-done document stays; filing the journey again
finds it by its identity, compares what is there with what was asked, and completes it.

Between 1 and 3 a document has the access of its folder; where even that moment matters, restrict the folder. Access that was
asked for is set exactly: group, public and inherited lines go. Only the owner stays where it is the account that files, because
without it later versions could not be added; ``RIGHTS`` is how a grant is spelled.

A name that Content Server cannot hold, or takes for another one that stands there, is fitted (``naming``); a document's original
name is then its description.

Facts about the interface are in ``otcs_wire``, names in ``otcs_names``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from blocks import credentials
from blocks.errors import (
    DocumentMissing,
    EditConflict,
    OnHold,
    OutcomeUnknown,
    RepositoryError,
    RepositoryUnreachable,
)
from blocks.relay import Pour
from blocks.repositories.arriving import Arriving
from blocks.repositories.base import Repository, RepositorySession
from blocks.repositories.once import Once
from blocks.repositories.otcs_audit import AuditTrail
from blocks.repositories.otcs_categories import Categories, dig, plain, same, surplus_rows
from blocks.repositories.otcs_large import LargeFiles, session_ended
from blocks.repositories.otcs_names import (
    DOCUMENT,
    PAGE,
    Names,
    Node,
    Unfit,
    described,
    kept_name,
    last_page,
    node_of,
    one_result,
    other_name,
    twin_name,
)
from blocks.repositories.otcs_nodes import Nodes, raw_versions, version_in
from blocks.repositories.otcs_people import People
from blocks.repositories.otcs_records import Records
from blocks.repositories.otcs_search import SearchIndex, name_holds, words
from blocks.repositories.otcs_wire import (
    CHUNK_BYTES,
    SMALL_BYTES,
    AnswerLost,
    Json,
    NameTaken,
    Refusal,
    Stalled,
    Upload,
    Wire,
    moment,
    pauses,
)
from blocks.repositories.otcs_workflows import COMPLETED, Attached, Process, Workflows, stood_there
from blocks.repositories.otcs_workspaces import Workspaces
from blocks.repositories.routines import Routine, finished, or_error, overlapped
from blocks.repositories.turns import in_turns
from blocks.spool import Batch, Spooled, SpoolFile
from blocks.values import Collision, Filed, Filing, HistoryEvent, Hold, Kept, NotFiled, Right

SOURCE = "ftp"
"""From the interface's list of external sources: a node with it carries a journey as its external identity."""

_READ = ("see", "see_contents")
_EDIT = (*_READ, "modify", "edit_attributes", "reserve")
_DELETE = (*_EDIT, "delete_versions", "delete")
RIGHTS: Mapping[Right, tuple[str, ...]] = {
    Right.SEE: ("see",),
    Right.READ: _READ,
    Right.EDIT: _EDIT,
    Right.DELETE: _DELETE,
    Right.FULL: (*_DELETE, "edit_permissions"),
}
"""A grant in Content Server's words. ``add_items`` is for containers, ``add_major_version`` for another versioning."""


class ExtendedEcm(Repository):
    """An OpenText Extended ECM platform, reached over its REST interface."""

    _block_type_name = "Extended ECM"

    kind: ClassVar[str] = "extended-ecm"
    has_processes: ClassVar[bool] = True
    files_arriving: ClassVar[bool] = True

    url: str = Field(pattern=r"^https?://[^/@\s]+(/\S*)?$", description="Address with base path: https://ecm.example.com/cs/cs")
    username: str = Field(description="Login of the account that files")
    password: credentials.Reference = Field(description="Its password, as env:NAME or file:/path")
    root: str = Field(
        default="", description="Where filing paths begin: empty for the Enterprise volume, a path below it, or a node id"
    )
    connections: int = Field(default=4, ge=1, le=32, description="Documents filed at the same time")
    ca: Path | None = Field(
        default=None, description="File with the certificate authority of the server; default: the system's"
    )

    @property
    def address(self) -> str:
        return self.url.rstrip("/")

    def session(self) -> ExtendedEcmSession:
        wire = self.signed_in()
        return ExtendedEcmSession(wire, Names(wire, self.root), self.connections)

    def signed_in(self) -> Wire:
        """The bare interface, for what is no part of a session."""
        wire = Wire(
            self.address,
            self.username,
            partial(credentials.read, self.password),
            timeout_seconds=self.timeout_seconds,
            connections=self.connections,
            ca=self.ca,
        )
        try:
            wire.sign_in()
        except BaseException:
            wire.close()
            raise
        return wire


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A filing in the server's terms: every name was looked up, so nothing is made for one that means nothing."""

    filing: Filing
    name: str
    values: Mapping[int, Mapping[str, Any]]
    """Category id -> attribute key -> value."""
    class_id: int | None
    grants: Mapping[int, frozenset[str]] | None
    arriving: Pour | None = None
    """Its bytes, if they come only once."""

    @property
    def journey(self) -> str:
        return self.filing.journey

    def upload(self, name: str) -> Upload | Arriving:
        filing = self.filing
        if self.arriving is not None:
            return Arriving(self.arriving, name, filing.media_type, filing.size)
        return Upload(filing.path, name, filing.media_type, filing.size, filing.digest)

    def external(self) -> dict[str, str]:
        fields = {"external_source": SOURCE, "external_identity": self.journey}
        if self.filing.modified is not None:
            fields["external_modify_date"] = (
                f"{self.filing.modified.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z"
            )
        return fields


class _Content:
    """The bytes of a document or a version, sent with the call that makes it, or before it in parts where the server offers that."""

    def __init__(self, large: LargeFiles, upload: Upload | Arriving) -> None:
        self._large, self._upload, self._key = large, upload, ""
        self.in_parts = isinstance(upload, Upload) and upload.size >= SMALL_BYTES and large.offer().covers(upload.size)
        self.to_be_counted = self.in_parts or isinstance(upload, Arriving)
        """The server's own count of its bytes must be looked at."""

    def writing(
        self, wire: Wire, what: str, path: str, *, body: Json | None = None, fields: Mapping[str, str] | None = None
    ) -> Routine[Json]:
        """``Wire.writing`` with the bytes. May be called again after an ``AnswerLost``: parts that are there are not sent again."""
        if not self.in_parts or isinstance(self._upload, Arriving):
            return (yield from wire.writing(what, "POST", path, body=body, fields=fields, upload=self._upload))
        fresh = not self._key
        self._key = self._key or self._large.bring(self._upload)
        key = {"upload_key": self._key}
        try:
            if body is None:
                return (yield from wire.writing(what, "POST", path, fields={**(fields or {}), **key}))
            return (yield from wire.writing(what, "POST", path, body=body | key))
        except Refusal as refusal:
            if fresh or not session_ended(refusal):
                raise
            # A key is good for one call: the one whose answer was lost has taken it, and may still be at it.
            self._key = ""
            raise AnswerLost(
                f"{what} at {wire.url}: an earlier call has used its bytes, and its answer was lost", True
            ) from refusal

    def give_up(self) -> None:
        if self._key:
            self._large.cancel(self._key)


def _fits(held: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    """True if a category has the wanted values; None for a category that is not there."""
    return (
        held is not None and all(same(held.get(key), value) for key, value in wanted.items()) and not surplus_rows(held, wanted)
    )


class ExtendedEcmSession(RepositorySession):
    def __init__(self, wire: Wire, names: Names, connections: int) -> None:
        self._wire, self._names, self._connections = wire, names, connections
        self._large = LargeFiles(wire)
        # Made at once: several threads use them, and each must be the only one of its kind for what it remembers.
        self.categories = Categories(wire, names)
        """Categories and classifications beyond what a filing sets."""
        self.people = People(wire, names)
        """Users, groups, and who may do what with a node."""
        self.index = SearchIndex(wire)
        """The search index, with facets."""
        self.audit = AuditTrail(wire)
        """The repository's own audit trail, filtered."""
        self.nodes = Nodes(wire, names)
        """Documents and folders beyond filing: what only Extended ECM has."""
        self.workspaces = Workspaces(wire, names, self.nodes)
        """Business workspaces: what only Extended ECM has."""
        self.workflows = Workflows(wire, names, connections)
        """Workflow maps and processes."""
        self.records = Records(wire, names)
        """Records management: records, schedules, legal holds."""
        self._version_events = Once[None, frozenset[int]]()
        """Kinds of events that are about versions, in whatever language of Europe the server speaks."""

    def close(self) -> None:
        self._wire.close()

    # ------------------------------------------------------------------------------------------------- filing

    def file(self, filings: Iterable[Filing]) -> Iterator[Filed | NotFiled]:
        return in_turns(filings, self._connections, self._file_one, self._short)

    def takes_arriving(self, size: int) -> bool:
        """Not where the server wants large files in parts: each may have to be sent again."""
        return not self._large.offer().covers(size)

    def file_arriving(self, filing: Filing, pour: Pour) -> Filed | NotFiled:
        return finished(self._filing(filing, pour))

    def _file_one(self, filing: Filing) -> Filed | NotFiled:
        return finished(self._filing(filing))

    def _short(self, filing: Filing) -> Routine[Filed | NotFiled] | None:
        """The same with others beside it, for a filing that is one short call as a rule; None for any other."""
        more = filing.document or filing.workspace or filing.records_class or filing.access
        if more or filing.size >= SMALL_BYTES or filing.collision is Collision.KEEP_BOTH:
            return None
        return self._filing(filing)

    def _filing(self, filing: Filing, arriving: Pour | None = None) -> Routine[Filed | NotFiled]:
        try:
            return (yield from self._file(self._wanted(filing, arriving)))
        except Unfit as unfit:
            return NotFiled(filing.journey, unfit.code, unfit.reason)
        except Refusal as refusal:  # while making its folders: nothing of the document is there yet
            return NotFiled(filing.journey, "refused", str(refusal))

    def _wanted(self, filing: Filing, arriving: Pour | None) -> _Wanted:
        values: dict[int, dict[str, Any]] = {}
        for name, given in filing.categories.items():
            category = self._names.category(name)
            values.setdefault(category.id, {}).update(category.wire(given))
        return _Wanted(
            filing,
            kept_name(filing.name),
            values,
            None if filing.records_class is None else self._names.records_class(filing.records_class),
            {self._names.member(grant.who): frozenset(RIGHTS[grant.right]) for grant in filing.access}
            if filing.access
            else None,
            arriving,
        )

    def _file(self, wanted: _Wanted) -> Routine[Filed]:
        filing = wanted.filing
        if filing.document is not None:
            return self._file_as_version(filing.document, wanted)
        for _ in range(2):
            within = None if filing.workspace is None else self.workspaces.ensure(filing.workspace)
            parent = self._names.folder(filing.folder, create=True, within=within)
            assert parent is not None  # noqa: S101 - it was to be created
            try:
                return (yield from self._file_in(parent, wanted))
            except (DocumentMissing, Refusal):
                # Perhaps a remembered folder was removed in the meantime; then make it again, once.
                if self._exists(parent):
                    raise
                self._names.forget_folder(filing.folder, within)
                if filing.workspace is not None:
                    self.workspaces.forget(filing.workspace.about)
        raise RepositoryError(f"{filing.name!r}: its folder is removed while we file; nothing was filed")

    def _file_as_version(self, id: str, wanted: _Wanted) -> Filed:
        try:
            node = self._node(self._number(id))
        except DocumentMissing as error:
            raise Unfit("document-missing", str(error)) from error
        if node.type != DOCUMENT:
            raise Unfit("document-missing", f"node {id} is no document; nothing was filed")
        return self._resume(node, wanted) if self._version_of(node, wanted.journey) else self._add_version(node, wanted)

    def _file_in(self, parent: int, wanted: _Wanted) -> Routine[Filed]:
        filing, name = wanted.filing, wanted.name
        if filing.collision is Collision.KEEP_BOTH:
            # Filed before, beside another one? Then that place is ours, even if the plain name is free by now.
            other = other_name(name, filing.digest)
            found = self._names.child(parent, other)
            if found is not None and self._version_of(found, wanted.journey):
                return self._resume(found, wanted)
        found = self._names.child(parent, name) if filing.size >= SMALL_BYTES else None
        if found is None:
            made = yield from self._create(parent, name, wanted)
            if isinstance(made, Filed):
                return made
            found = made
        if found.type == DOCUMENT and self._version_of(found, wanted.journey):
            return self._resume(found, wanted)
        own = twin_name(filing.name)
        if name not in (found.name, own):
            # The server takes two names for one (case, accents) that their senders tell apart: another document, not a version.
            return (yield from self._file_in(parent, replace(wanted, name=own)))
        if filing.collision is Collision.NEW_VERSION:
            if found.type != DOCUMENT:
                raise Unfit("name-taken", f"{name!r} in folder {'/'.join(filing.folder)!r} is no document")
            return self._add_version(found, wanted)
        if filing.collision is Collision.KEEP_BOTH:
            made = yield from self._create(parent, other, wanted)
            if isinstance(made, Filed):
                return made
            if self._version_of(made, wanted.journey):
                return self._resume(made, wanted)
            raise Unfit(
                "name-taken", f"{name!r} and {other!r} are both taken in folder {'/'.join(filing.folder)!r} by other journeys"
            )
        raise Unfit(
            "name-taken", f"{name!r} is taken in folder {'/'.join(filing.folder)!r} (node {found.id}); nothing was replaced"
        )

    def _create(self, parent: int, name: str, wanted: _Wanted) -> Routine[Filed | Node]:
        """A new document; or the node that holds its name, which after a lost answer may be this very document."""
        what = f"document {name!r} in node {parent}"
        flat = {key: value for values in wanted.values.values() for key, value in values.items()}
        body: Json = {"type": DOCUMENT, "parent_id": parent, "name": name, "roles": {"categories": flat} if flat else {}}
        body |= wanted.external()
        if text := described(wanted.filing.name, name) or wanted.filing.sent:
            body["description"] = text
        content = _Content(self._large, wanted.upload(name))
        for _ in pauses():
            try:
                answer = yield from content.writing(self._wire, what, "v2/nodes", body=body)
            except AnswerLost:
                found = self._names.child(parent, name)
                if found is not None:
                    return found
                continue  # certainly not there: and if the server should still be at it, the name lets only one of them be
            except NameTaken:
                content.give_up()
                return self._holder(parent, name)
            except Refusal as refusal:
                content.give_up()
                found = self._names.child(parent, name)
                if found is not None and self._identity(found.properties) == wanted.journey:
                    return found  # of this call, or of one long ago that people have gone on from since: it is completed, never removed
                raise Unfit("refused", refusal.text) from refusal
            node = node_of(one_result(answer, what), what)
            if content.to_be_counted and self._announced(node.id, 1) != wanted.filing.size:
                self._take_back(node, 1, (), "its bytes were put together wrongly")
                raise RepositoryError(f"{what} at {self._wire.url}: its bytes were put together wrongly; it was taken back")
            self._finish(node, 1, wanted, fresh=True)
            return self._filed(node, 1, wanted)
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that it was filed; it is safe to try again")

    def _holder(self, parent: int, name: str) -> Node:
        """The node that holds a name which is said to exist."""
        found = self._names.child(parent, name)
        if found is None:
            # The server compares names by its database's rules, which may differ from ours: ask it which one it means.
            for id in self._names.taken(parent, [name]).values():
                if (held := self._names.node(id)) is not None:
                    return held
            raise Unfit("name-taken", f"{name!r} is taken in node {parent} by something that this account may not see")
        return found

    # ------------------------------------------------------------------------------------------------- versions

    def _version_of(self, node: Node, journey: str) -> int | None:
        """The number of the version that a journey filed."""
        if node.type != DOCUMENT:
            return None
        for version in reversed(raw_versions(self._wire, node.id)):
            if self._version_identity(version, node.properties) == journey:
                return int(version["version_number"])
        return None

    def _add_version(self, node: Node, wanted: _Wanted) -> Filed:
        before = raw_versions(self._wire, node.id)
        highest = int(before[-1]["version_number"]) if before else 0
        what = f"version of {node.name!r} (node {node.id})"
        fields = wanted.external() | ({"description": wanted.filing.sent} if wanted.filing.sent else {})
        content = _Content(self._large, wanted.upload(node.name))
        for _ in pauses():
            try:
                answer = finished(content.writing(self._wire, what, f"v2/nodes/{node.id}/versions", fields=fields))
            except AnswerLost as lost:
                number = self._lost_version(node, wanted, highest, lost)
                if number is None:
                    continue
            except Refusal as refusal:
                content.give_up()
                raise Unfit("refused", refusal.text) from refusal
            else:
                version = version_in(one_result(answer, what))
                number = int(version["version_number"]) if version else self._version_of(node, wanted.journey)
                if number is None:
                    raise OutcomeUnknown(
                        f"{what} at {self._wire.url}: said to be added and not found; look before filing it again"
                    )
            if content.to_be_counted and self._announced(node.id, number) != wanted.filing.size:
                self._take_back(node, number, (), "its bytes were put together wrongly")
                raise RepositoryError(f"{what} at {self._wire.url}: its bytes were put together wrongly; it was taken back")
            self._finish(node, number, wanted, fresh=False)
            return self._filed(node, number, wanted)
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that it was added; it is safe to try again")

    def _lost_version(self, node: Node, wanted: _Wanted, highest: int, lost: AnswerLost) -> int | None:
        """The version whose answer was lost; None if it certainly was not added.

        Unlike a new document's name, nothing at the server keeps a version from being added twice.
        """
        for _ in pauses():
            if number := self._version_of(node, wanted.journey):
                return number
            newer = [version for version in raw_versions(self._wire, node.id) if int(version["version_number"]) > highest]
            if any(not self._identity(version) and version.get("file_size") == wanted.filing.size for version in newer):
                break  # ours without its identity, or a person's: we cannot tell
            if not lost.running:
                return None
        raise OutcomeUnknown(
            f"version of {node.name!r} (node {node.id}) at {self._wire.url}: the answer was lost and looking does not tell whether "
            f"the server still adds it; look at its versions, then file journey {wanted.journey} again or close it by hand"
        ) from lost

    def _continued(self, id: int, number: int) -> bool:
        """True if somebody has added a version since: then the values of the document are theirs to say."""
        return int(raw_versions(self._wire, id)[-1]["version_number"]) > number

    def _resume(self, node: Node, wanted: _Wanted) -> Filed:
        """Complete what an earlier call or a lost answer left; nothing is done to a document that somebody else has continued."""
        versions = raw_versions(self._wire, node.id)
        number = self._version_of(node, wanted.journey)
        if number is None or not versions:
            raise OutcomeUnknown(
                f"{node.name!r} (node {node.id}): its versions change while we look; look before filing it again"
            )
        ours = next(version for version in versions if version["version_number"] == number)
        if ours.get("file_size", wanted.filing.size) != wanted.filing.size:
            raise OutcomeUnknown(
                f"{node.name!r} (node {node.id}) version {number} at {self._wire.url} carries journey {wanted.journey} and holds "
                f"{ours['file_size']} bytes instead of {wanted.filing.size}; a person decides, nothing was changed"
            )
        if versions[-1] is ours:
            self._finish(node, number, wanted, fresh=False, ours=False)
        return self._filed(node, number, wanted)

    # ------------------------------------------------------------------------------------------------- values, class, access

    def _finish(self, node: Node, number: int, wanted: _Wanted, *, fresh: bool, ours: bool = True) -> None:
        """Everything but the content. ``fresh``: just made in one POST with its values.

        A refusal takes the content back if it is ``ours``, of this very call. What was there before may have been filed well and
        used since: it stays, for a person to look at.
        """
        undo: list[Callable[[], None]] = []
        try:
            if not fresh:
                self._set_values(node.id, number, wanted.values, undo)
            if wanted.class_id is not None:
                filing = wanted.filing
                self.records.classify(
                    node.id, wanted.class_id, record_date=filing.record_date, schedule=filing.schedule, fresh=fresh
                )
            if wanted.grants is not None:
                self._grant(node.id, wanted.grants)
        except (Refusal, Unfit) as refusal:
            why = refusal.reason if isinstance(refusal, Unfit) else refusal.text
            if not ours:
                raise OutcomeUnknown(
                    f"{node.name!r} (node {node.id}) version {number} at {self._wire.url} was filed before by journey {wanted.journey} "
                    f"and cannot be completed ({why}); nothing was removed, a person decides"
                ) from refusal
            self._take_back(node, number, undo, why)
            if isinstance(refusal, Unfit):
                raise
            raise Unfit("refused", refusal.text) from refusal

    def _take_back(self, node: Node, number: int, undo: Sequence[Callable[[], None]], why: str) -> None:
        """Remove what this call made, the document with its only version. Where that may not be (a hold), a person decides."""
        where = f"{node.name!r} (node {node.id}) version {number} at {self._wire.url}"
        if number == 1 and len(raw_versions(self._wire, node.id)) > 1:
            raise OutcomeUnknown(
                f"{where}: {why}; somebody has added a version meanwhile, so it was not taken back: a person decides"
            )
        try:
            for step in reversed(undo):
                step()
            if number == 1:
                self._delete(node.id)
            else:
                self.nodes.drop_version(node.id, number)
        except Refusal as refusal:
            raise OutcomeUnknown(
                f"{where}: {why}; it stands, because taking it back was refused as well ({refusal.text}): a person decides"
            ) from refusal

    def _set_values(
        self, id: int, number: int, wanted: Mapping[int, Mapping[str, Any]], undo: list[Callable[[], None]]
    ) -> None:
        """Set category values where they differ. Repeating this changes nothing, so a lost answer is settled by comparing again.

        What was there when we looked first is replaced; what somebody changes after that is not, and nothing once there is a version
        after ``number``.
        """
        if not wanted:
            return
        first = held = self.categories.held(id)
        for _ in pauses():
            try:
                for category, values in wanted.items():
                    if not _fits(held.get(category), values):
                        new = category not in held
                        self._set_category(id, number, category, values, first.get(category, {}), undo, new=new)
            except (AnswerLost, NameTaken):
                held = self.categories.held(id)
            except EditConflict:
                held = self.categories.held(id)
            else:
                return
        raise RepositoryUnreachable(f"values of node {id} at {self._wire.url}: could not be set; filing it again completes it")

    def _set_category(
        self,
        id: int,
        number: int,
        category: int,
        values: Mapping[str, Any],
        first: Mapping[str, Any],
        undo: list[Callable[[], None]],
        *,
        new: bool,
    ) -> None:
        what, path = f"values of node {id}", f"v2/nodes/{id}/categories"
        # The token is older than all that we look at: whoever changes it after that makes it stale.
        token = "" if new else self.categories.edit_token(id, category)
        if self._continued(id, number):
            return
        if new:
            undo.append(partial(self._put_back, id, category, None, values))
            self._wire.write(what, "POST", path, fields={"category_id": category} | plain(values))
            return
        held = self.categories.held(id).get(category)
        if held is None:
            raise EditConflict(f"{what} at {self._wire.url}: somebody has just taken the category off")
        surplus = surplus_rows(held, values)
        theirs = [
            key for key, value in values.items() if not (same(held.get(key), first.get(key)) or same(held.get(key), value))
        ]
        if theirs or not surplus.keys() <= surplus_rows(first, values).keys():
            raise OutcomeUnknown(
                f"{what} at {self._wire.url}: somebody has changed the same ones while they were set; theirs stand, and those of the "
                "filing are not there: a person decides"
            )
        old = {key: held.get(key) for key in values}
        old |= {key: value for key, value in held.items() if key.rpartition("_")[0] in surplus}
        undo.append(partial(self._put_back, id, category, old, values))
        fields = plain({**values, **surplus}) | {"metadata_token": token}
        self._wire.write(what, "PUT", f"{path}/{category}", fields=fields)

    def _put_back(self, id: int, category: int, old: Mapping[str, Any] | None, wrote: Mapping[str, Any]) -> None:
        """What we ``wrote`` becomes what was there before; no category at all where ``old`` is None.

        Raises ``Refusal`` where somebody has changed it since: theirs stands.
        """
        what, path = f"values of node {id}", f"v2/nodes/{id}/categories/{category}"
        for _ in pauses():
            if category not in self.categories.held(id):
                return
            token, held = self.categories.edit_token(id, category), self.categories.held(id).get(category, {})
            if old is not None and all(same(held.get(key), value) for key, value in old.items()):
                return
            others = [] if old is not None else [value for key, value in held.items() if key not in wrote]
            if any(others) or not all(same(held.get(key), wrote.get(key)) for key in old or wrote):
                text = "somebody has changed its values since"
                raise Refusal(f"{what} at {self._wire.url}: {text}", text)
            try:
                if old is None:
                    self._wire.write(f"category of node {id}", "DELETE", path)
                else:
                    self._wire.write(what, "PUT", path, fields=plain(old) | {"metadata_token": token})
            except (AnswerLost, EditConflict):
                continue
            return
        raise RepositoryUnreachable(
            f"values of node {id} at {self._wire.url}: could not be put back; filing it again settles it"
        )

    def _grant(self, id: int, grants: Mapping[int, frozenset[str]]) -> None:
        """Exactly these, and our own account as the owner: without it we could not keep what we promise about the document."""
        path, lost = f"v2/nodes/{id}/permissions", False
        for _ in pauses():
            try:
                for method, where, body in self._changes(id, grants):
                    self._wire.write(f"access to node {id}", method, f"{path}/{where}", body=body)
            except AnswerLost:
                lost = True
                continue  # compare again
            except (Refusal, DocumentMissing):
                # Refused because the call before, whose answer was lost, has done it after we compared?
                if not lost:
                    raise
                lost = False
                continue
            return
        raise RepositoryUnreachable(f"access to node {id} at {self._wire.url}: could not be set; filing it again completes it")

    def _changes(self, id: int, grants: Mapping[int, frozenset[str]]) -> list[tuple[str, str, Json]]:
        """What is to be done, removals first: method, path below permissions, body."""
        remove: list[tuple[str, str, Json]] = []
        set_: list[tuple[str, str, Json]] = []
        missing = dict(grants)
        for line in self._permissions(id):
            kind, who, held = line.get("type"), line.get("right_id"), frozenset(line.get("permissions") or ())
            if kind == "owner" and who == self._names.myself():
                missing.pop(who, None)
            elif kind == "custom" and who in missing:
                if held != missing.pop(who):
                    set_.append(("PUT", f"custom/{who}", {"permissions": sorted(grants[who]), "apply_to": 0}))
            elif kind == "custom":
                remove.append(("DELETE", f"custom/{who}", {"apply_to": 0}))
            elif held:
                remove.append(("DELETE", str(kind), {"apply_to": 0}))
        for who, rights in missing.items():
            set_.append(("POST", "custom", {"permissions": sorted(rights), "right_id": who, "apply_to": 0}))
        return remove + set_

    def _permissions(self, id: int) -> Iterator[Json]:
        what, page = f"access to node {id}", 1
        while True:
            answer = self._wire.ask(what, "GET", f"v2/nodes/{id}/permissions", query={"limit": PAGE, "page": page})
            results = answer.get("results")
            if not isinstance(results, list):
                raise RepositoryError(f"{what} at {self._wire.url}: the answer holds no list of results")
            for entry in results:
                yield dig(entry, "data", "permissions")
            if not results or page >= last_page(answer, 1):
                return
            page += 1

    # ------------------------------------------------------------------------------------------------- taking back

    def _delete(self, id: int) -> None:
        """Into the recycle bin; gone already is as well."""
        with suppress(DocumentMissing):
            self.nodes.delete(id)

    # ------------------------------------------------------------------------------------------------- holds and removal

    def holds(self, id: str) -> tuple[Hold, ...]:
        return finished(self._holds(id))

    def holds_of(self, ids: Iterable[str]) -> Generator[tuple[Hold, ...] | RepositoryError]:
        return overlapped((or_error(self._holds(id)) for id in ids), self._connections)

    def _holds(self, id: str) -> Routine[tuple[Hold, ...]]:
        found = yield from self.records.asked_of(self._number(id))
        return tuple(Hold(one.name, one.applied, one.comment) for one in found)

    def apply_hold(self, id: str, name: str, comment: str = "") -> None:
        number = self._number(id)
        self._node(number)  # no hold is made for a document that is not there
        hold = self.records.hold(name)
        try:
            made = hold.id if hold else self.records.create_hold(name, comment=comment)
        except NameTaken:
            hold = self.records.hold(name)  # somebody else has just made it
            if hold is None:
                raise
            made = hold.id
        self.records.apply(number, made)

    def lift_hold(self, id: str, name: str) -> None:
        number = self._number(id)
        for hold in self.records.of(number):
            if hold.name.casefold() == name.casefold() and not hold.inherited:
                self.records.lift(number, hold.id)

    def remove(self, id: str, made_by: Sequence[str | None] | None = None) -> None:
        """Into the recycle bin, where records management has the last word.

        The server removes what stands there by then. It is reserved first, so that no other account can add to what we have looked at;
        our own still can, so that is looked at again before each time that the server is asked.
        """
        number = self._number(id)
        self._node(number)
        self._refuse_if_held(number)
        if made_by is not None:
            self.nodes.reserve(number)
        try:
            with suppress(DocumentMissing):
                self.nodes.delete(number, partial(self._refuse_if_continued, id, made_by))
        except (Refusal, EditConflict):
            if made_by is not None:
                self.let_stand(id)
            self._refuse_if_held(number)  # put on hold at this very moment
            raise

    def was_removed(self, id: str, since: datetime) -> bool:
        number = self._number(id)
        # Dates are whole seconds, and clocks differ.
        newer = takewhile(lambda one: one.at is None or one.at > since - timedelta(days=1), self.nodes.deleted())
        try:
            return any(one.id == number for one in newer)
        except Refusal:
            return False  # a recycle bin that this account may not see

    def let_stand(self, id: str) -> None:
        number = self._number(id)
        if self._node(number).properties.get("reserved_user_id") == self._names.myself():
            self.nodes.unreserve(number)

    def _refuse_if_continued(self, id: str, made_by: Sequence[str | None] | None) -> None:
        if made_by is not None and self.filed_by(id) != tuple(made_by):
            raise EditConflict(f"node {id} at {self._wire.url}: another version has come meanwhile; nothing was removed")

    def _refuse_if_held(self, id: int) -> None:
        if held := self.records.of(id):
            raise OnHold(f"node {id} at {self._wire.url}: is on hold ({held[0].name}); nothing was removed")

    # ------------------------------------------------------------------------------------------------- reading

    def find(self, folder: tuple[str, ...], name: str) -> Kept | None:
        parent = self._names.folder(folder, create=False)
        found = None if parent is None else self._names.child(parent, kept_name(name))
        if parent is not None and found is not None and found.name != kept_name(name):
            found = self._names.child(parent, twin_name(name)) or found
        return None if found is None else self._kept(self._described(found.id), f"node {found.id}")

    def look(self, folder: tuple[str, ...]) -> Iterator[Kept]:
        parent = self._names.folder(folder, create=False)
        if parent is None:
            raise DocumentMissing(f"folder {'/'.join(folder)!r} at {self._wire.url}: there is none below the root")
        for entry in self._names.children(parent, fields=["properties", "versions.element(0)"]):
            yield self._kept(entry, f"list of node {parent}")

    def get(self, id: str) -> Kept:
        number = self._number(id)
        kept = self._kept(self._described(number), f"node {number}")
        return replace(kept, categories=self.categories.values(number))

    def filed_by(self, id: str) -> tuple[str | None, ...]:
        number = self._number(id)
        node = self._node(number)
        return tuple(self._version_identity(held, node.properties) for held in raw_versions(self._wire, number))

    def search(self, *, name: str | None = None, text: str | None = None) -> Iterator[Kept]:
        # Only the longest plain run of the name goes into the query.
        part = max(re.findall(r"[A-Za-z0-9]+", name or ""), key=len, default="")
        if re.search(r"\w", text or ""):
            where = words(text or "")
        elif part:
            where = name_holds(part)
        else:
            return
        for hit in self.index.find(where):
            if hit.node.type == DOCUMENT and (name is None or name.casefold() in hit.node.name.casefold()):
                yield self._kept(hit.entry, "search")

    def fetch(self, id: str, version: int | None, into: Batch) -> Spooled:
        number = self._number(id)
        what = f"content of node {number}" + ("" if version is None else f" version {version}")
        path = f"v2/nodes/{number}/content" if version is None else f"v2/nodes/{number}/versions/{version}/content"
        file = into.open()
        try:
            self._download(what, path, number, version, file)
        except Refusal:
            file.discard()
            self._announced(number, version)  # raises DocumentMissing: a version that is gone is refused like anything else
            raise
        except BaseException:
            file.discard()
            raise
        return file.finish()

    def _download(self, what: str, path: str, id: int, version: int | None, file: SpoolFile) -> None:
        stalls = 0
        for _ in pauses():
            try:
                with self._wire.download(what, path) as response:
                    for piece in response.iter_bytes(CHUNK_BYTES):
                        file.write(piece)
                # A length of a packed body would count other bytes than we get.
                counted = response.headers.get("Content-Length") if "Content-Encoding" not in response.headers else None
                announced = self._announced(id, version) if counted is None else int(counted)
                if file.size == announced:
                    return
                failure = RepositoryUnreachable(
                    f"{what} at {self._wire.url}: {file.size} of {announced} bytes; it is safe to try again"
                )
            except RepositoryUnreachable as error:
                failure = error
                stalls += isinstance(error, Stalled)
                if stalls == 2:  # each has already waited as long as was agreed
                    break
            file.restart()
        raise RepositoryUnreachable(*failure.args) from failure

    def history(self, id: str) -> Iterator[HistoryEvent]:
        for event in self.audit.events(self._number(id)):
            yield HistoryEvent(event.at, event.name, self._names.account(event.user))

    def review(self, id: str, version: int, workflow: str, *, resumed: bool) -> str:
        number = self._number(id)
        since = self._versions_made(id).get(version)
        if since is None:
            raise DocumentMissing(f"node {id} at {self._wire.url}: no version {version}")
        try:
            held = self.workflows.about(number, workflow, since) if resumed else []
            return str(held[0][0].id if held else self.workflows.start(workflow, [number], since=since))
        except Unfit as unfit:
            raise RepositoryError(f"workflow {workflow!r} with node {id} at {self._wire.url}: {unfit.reason}") from unfit

    def unreviewed(self, versions: Mapping[str, int], workflow: str, step: str) -> dict[str, str]:
        with ThreadPoolExecutor(self._connections, thread_name_prefix="versions") as pool:
            made = dict(zip(versions, pool.map(self._versions_made, versions), strict=True))
        told = [at for id, version in versions.items() if (at := made[id].get(version)) is not None]
        try:
            ended = self.workflows.of(workflow, min(told), COMPLETED) if told else []
        except Unfit as unfit:
            raise RepositoryError(f"workflow {workflow!r} at {self._wire.url}: {unfit.reason}") from unfit
        about = defaultdict[int, list[tuple[Process, Attached]]](list)
        for process, attached in ended:
            for one in attached if process.status == COMPLETED and step in process.completed else ():
                about[one.document].append((process, one))

        def look(id: str, version: int) -> str | None:
            number = self._number(id)
            return self._unreviewed(number, made[id], version, about[number], workflow, step)

        with ThreadPoolExecutor(self._connections, thread_name_prefix="reviews") as pool:
            found = dict(zip(versions, pool.map(look, versions, versions.values()), strict=True))
        return {id: why for id, why in found.items() if why is not None}

    def _unreviewed(
        self,
        id: int,
        made: Mapping[int, datetime | None],
        version: int,
        about: Sequence[tuple[Process, Attached]],
        workflow: str,
        step: str,
    ) -> str | None:
        """Why a version does not count as let through by any of the processes that its document is attached to."""
        since, again = made.get(version), f"start {workflow} with version {version}"
        if since is None:
            return f"the repository tells no date of version {version}"
        if not set(range(version, max(made))) <= made.keys():
            return f"a version newer than {version} was removed, and nobody can tell any more when it was the newest; {again} again"
        # A newer version without a date may have been there all the time.
        following = min((at or since for other, at in made.items() if other > version), default=None)
        why = f"no completed workflow {workflow} with step {step} was started with version {version}"
        for process, one in about:
            if one.at <= since or (following is not None and one.at >= following):
                # Dates are whole seconds: within one it cannot be told which came first.
                continue
            folder = self.workflows.folder_made(process)
            if process.until(step) is None or folder is None:
                why = f"the repository does not tell when workflow process {process.id} came to step {step}: nothing can count by it"
            elif stood_there(one, folder, process, step, following):
                return None if version != max(made) else self._newest_removed(id, version, since)
            else:
                why = (
                    f"version {version} did not provably stand in workflow process {process.id} when it came to step {step}: it was "
                    f"attached, or replaced by a newer version, about then or later; {again} again"
                )
        return why

    def _newest_removed(self, id: int, version: int, since: datetime) -> str | None:
        """Why the newest version, made at ``since``, may not always have been the newest; None if it certainly was.

        The audit trail tells it: each later version was added. What to call that in the server's language is told by the version's own
        addition; the first one has none, so for it whatever is about versions counts.
        """
        untold = f"the audit trail does not tell whether a version newer than {version} was there and removed"
        try:
            about = self._version_events.get(
                None, lambda: frozenset(kind for kind, name in self.audit.kinds(id).items() if "vers" in name.casefold())
            )
            trail = list(self.audit.events(id, since=since.date() - timedelta(days=1), oldest_first=True))
        except (Refusal, DocumentMissing):
            return untold
        # A second before, because a version and its line in the trail are dated one after the other.
        kinds = [event.kind for event in trail if event.kind in about and event.at >= since - timedelta(seconds=1)]
        if not about or not trail or (version > 1 and not kinds):
            return untold
        later = kinds if version == 1 else [kind for kind in kinds[1:] if kind == kinds[0]]
        return f"a version newer than {version} was removed since" if later else None

    def _versions_made(self, id: str) -> dict[int, datetime | None]:
        """Of each version, when it was made; None where that is not told."""
        held = raw_versions(self._wire, self._number(id))
        return {int(one["version_number"]): moment(one.get("create_date")) for one in held}

    # ------------------------------------------------------------------------------------------------- small things

    def _number(self, id: str) -> int:
        if not (id.isascii() and id.isdecimal()):
            raise DocumentMissing(f"{id!r}: not an id of {self._wire.url}, which are numbers")
        return int(id)

    def _node(self, id: int) -> Node:
        return node_of(self._described(id), f"node {id}")

    def _described(self, id: int) -> Json:
        what = f"node {id}"
        answer = self._wire.ask(what, "GET", f"v2/nodes/{id}", query={"fields": ["properties", "versions.element(0)"]})
        return one_result(answer, what)

    def _exists(self, id: int) -> bool:
        try:
            self._node(id)
        except DocumentMissing:
            return False
        return True

    def _announced(self, id: int, version: int | None) -> int:
        for held in reversed(raw_versions(self._wire, id)):
            if version in (None, held["version_number"]):
                return int(held["file_size"])
        raise DocumentMissing(f"node {id} at {self._wire.url}: no version {version}")

    def _filed(self, node: Node, number: int, wanted: _Wanted) -> Filed:
        return Filed(wanted.journey, str(node.id), number, node.name or wanted.name, wanted.filing.folder)

    def _identity(self, described: Mapping[str, Any]) -> str | None:
        identity = described.get("external_identity")
        return str(identity) if identity and described.get("external_source") == SOURCE else None

    def _version_identity(self, version: Mapping[str, Any], node: Mapping[str, Any]) -> str | None:
        """Whose a version is. A document keeps the identity of who made it, whatever versions others add to it later.

        Whether a document's first version repeats the document's identity is not documented.
        """
        first = int(version.get("version_number") or 0) == 1
        return self._identity(version) or (self._identity(node) if first else None)

    def _kept(self, entry: Json, what: str) -> Kept:
        node = node_of(entry, f"{what} at {self._wire.url}")
        newest = version_in(entry) or {}
        found = node.properties
        return Kept(
            id=str(node.id),
            name=node.name,
            container=node.container,
            size=0 if node.container else int(newest.get("file_size") or found.get("size") or 0),
            version=0 if node.container else int(newest.get("version_number") or 1),
            media_type=str(found.get("mime_type") or ""),
            modified=moment(found.get("modify_date")),
            identity=self._version_identity(newest, found),
        )
