"""OpenText File 360: documents in folders that teams and guests share, over a REST interface in the shape of Core Share's.

No reference of File 360's interface is public. What rests on public evidence and what is our decision:

- From OpenText's own client (``pyxecm.coreshare``): signing in with OAuth 2, users, guests and groups, the children of a folder and
  their fields (``externalData`` among them), the trash, collaborators. A 401 is answered by one new sign-in and one more try.
- Seen in public code: ``POST api/v3/documents?collisionStrategy=overwrite`` adds a version to the document of that name.
- Named by OpenText, without a public form: versions and their content, locks, comments, links, changes, the audit trail.
- Our decision alone: that ``externalData`` is taken with an upload and kept per version, ``collisionStrategy=fail``, the filter ``name``
  of a list, search, retention, holds, ``users/me``, and the shapes and paths of all that is only named.

``docs/file360.md`` tells it call by call. A real tenant needs this one file adapted, and nothing else.

How a filing is done: one POST makes the document with its bytes, and with what we know of it in ``externalData`` (journey, digest,
values, original name, retention), so nothing can be half filed. A taken name is told by the refusal; then a look tells whose it is. A
version's values are its own: a document's are those of all its versions, each attribute as the newest tells it that names it. Class,
schedule and dates of retention are recorded and not enforced: the legal record belongs into records management.

People get access to folders, not to single documents. Where a filing says who gets at it, exactly those get at its folder: a folder that
is empty is given to them, and before each document it is asked whether anybody else gets at it, here or by a folder around it, or
somebody does no more. Then nothing is filed (``shown-to-others``, ``access-missing``): we never show what stands in a folder already.
A workspace is a tree of folders, each marked as ours in its ``externalData`` (our decision); nobody is let in before all of it stands.

Folders and documents that anybody outside can see are no place for a filing: what is shown outside leaves by a sign-off, and the sender's
own account. That is asked before each document, for somebody may show a folder at any moment; in the moment between, only the server can.
The account of the workers must lack the right to share outside; then neither this file nor bare HTTP can do it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import quote, urlsplit

from pydantic import Field, model_validator

from blocks import credentials
from blocks.errors import (
    DocumentChanged,
    DocumentMissing,
    EditConflict,
    OnHold,
    OutcomeUnknown,
    RepositoryError,
    RepositoryUnreachable,
    SignInRefused,
)
from blocks.repositories.base import Repository, RepositorySession
from blocks.repositories.lines import Answer
from blocks.repositories.naming import beside, fitted, marked
from blocks.repositories.once import Once
from blocks.repositories.otcs_names import Unfit
from blocks.repositories.otcs_wire import (
    CHUNK_BYTES,
    SMALL_BYTES,
    Answered,
    AnswerLost,
    Fields,
    FilePart,
    Json,
    NameTaken,
    NotCarriedOut,
    Query,
    Refusal,
    Stalled,
    Upload,
    Wire,
    moment,
    pauses,
    settling,
)
from blocks.repositories.routines import Routine
from blocks.repositories.turns import in_turns
from blocks.spool import Batch, Spooled, SpoolFile
from blocks.values import (
    Change,
    Collision,
    Described,
    Filed,
    Filing,
    FolderTree,
    Grant,
    HistoryEvent,
    Hold,
    Kept,
    NotFiled,
    Right,
)

FORBIDDEN = '/\\:*?"<>|'
LONGEST_NAME = 240
PAGE = 100
_MOST_LISTS = 10
"""Of one folder, which changes while it is read."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
OURS = "countersign"
"""The key in ``externalData`` below which our own knowledge of a version, or of a folder, stands."""
ROLES: Mapping[Right, int] = {Right.READ: 1, Right.EDIT: 2, Right.FULL: 3}
"""Viewer, collaborator, manager. There is none that only sees, and none that deletes and does not share."""


def kept_name(name: str) -> str:
    """``name`` as File 360 can hold it (see ``naming``)."""
    return fitted(name, forbidden=FORBIDDEN, length=len, most=LONGEST_NAME, reserved=lambda one: one in (".", ".."))


def twin_name(name: str) -> str:
    """Where ``name`` is kept if another one, which differs only in case, stands there already."""
    return marked(kept_name(name).lstrip(".") or "_", name, length=len, most=LONGEST_NAME)


def other_name(name: str, digest: str) -> str:
    return beside(name, digest, length=len, most=LONGEST_NAME)


class File360(Repository):
    """A tenant of OpenText File 360, reached over its REST interface."""

    _block_type_name = "File 360"

    kind: ClassVar[str] = "file360"
    has_shared_folders: ClassVar[bool] = True
    rules_folders: ClassVar[bool] = True

    url: str = Field(pattern=r"^https?://[^/@\s]+(/\S*)?$", description="Address of the tenant: https://files.example.com")
    sign_on: str = Field(
        default="",
        pattern=r"^(https?://[^/@\s]+(/\S*)?)?$",
        description="Address of its sign-on (OTDS); empty: the same as the tenant's",
    )
    client_id: str = Field(description="OAuth 2 client of the account that files")
    client_secret: credentials.Reference = Field(description="Its secret, as env:NAME or file:/path")
    username: str = Field(default="", description="Login of the account; empty: the client's own service account")
    password: credentials.Reference | None = Field(default=None, description="The login's password, as env:NAME or file:/path")
    root: str = Field(
        default="",
        description="Where filing paths begin: empty for the account's own files, a path below them, or a folder's id",
    )
    connections: int = Field(default=4, ge=1, le=32, description="Documents filed at the same time")
    ca: Path | None = Field(
        default=None, description="File with the certificate authority of the server; default: the system's"
    )

    @model_validator(mode="after")
    def _protected(self) -> Self:
        for url in (self.url, self.sign_on):
            if url.startswith("http:") and urlsplit(url).hostname not in _LOOPBACK:
                raise ValueError("'http' is for a stand-in on this machine itself; use 'https'")
        return self

    @property
    def address(self) -> str:
        return self.url.rstrip("/")

    def session(self) -> File360Session:
        return File360Session(self.signed_in(), self.root, self.connections)

    def signed_in(self) -> File360Wire:
        """The bare interface, for what is no part of a session."""
        wire = File360Wire(self)
        try:
            wire.sign_in()
        except BaseException:
            wire.close()
            raise
        return wire


# --------------------------------------------------------------------------------------------- speaking with it


class File360Wire(Wire):
    """The HTTP of ``otcs_wire``, with File 360's own bodies (JSON), tokens (OAuth 2), meanings, and its asking to come back later."""

    SERVER: ClassVar = "File 360's sign-on"

    def __init__(self, block: File360) -> None:
        self._patience = block.timeout_seconds
        self._block = block
        secret = partial(credentials.read, block.client_secret)
        super().__init__(
            block.address,
            block.username or block.client_id,
            secret,
            timeout_seconds=block.timeout_seconds,
            connections=block.connections,
            ca=block.ca,
        )

    def _door(self) -> tuple[str, dict[str, str], str]:
        block = self._block
        form = {"client_id": block.client_id, "client_secret": self._password(), "grant_type": "client_credentials"}
        if block.username:
            form |= {"grant_type": "password", "username": block.username}
            form["password"] = credentials.read(block.password) if block.password else ""
        return f"{block.sign_on.rstrip('/') or self.url}/otdsws/oauth2/token", form, "access_token"

    def _keys(self) -> tuple[int, dict[str, str]]:
        with self._lock:
            return self._sign_ins, {"Authorization": f"Bearer {self._ticket}"}

    def _renew(self, generation: int, response: Answered) -> None:
        """A token is good for as long as it was issued for; no answer brings another."""

    def _at(self, path: str) -> str:
        return f"{self.url}/{path}"

    def _encoded(self, fields: Fields) -> tuple[bytes, dict[str, str]]:
        return str(fields["body"]).encode(), {}  # as the calls' common form has it: JSON in the one field ``body``

    def _sending(
        self,
        what: str,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        fields: Fields | None = None,
        upload: FilePart | None = None,
    ) -> Routine[Answer]:
        response = yield from super()._sending(what, method, path, query=query, fields=fields, upload=upload)
        if response.status_code == 429:
            self._come_back(what, response)
        return response

    def _come_back(self, what: str, response: Answered) -> None:
        """Wait as long as the server asks for, if that is no longer than we wait for any answer. Raises ``NotCarriedOut``."""
        seconds = _retry_after(response.headers.get("retry-after", ""))
        error = NotCarriedOut(
            f"{what} at {self.url}: too many calls, it asks to come back in {seconds:.0f} s; nothing was done"
        )
        error.soon = seconds <= self._patience
        if error.soon:
            time.sleep(seconds)
        raise error

    def _judge(self, what: str, response: Answered, *, bare: bool = False) -> Json:
        where, status = f"{what} at {self.url}", response.status_code
        if status == 429:
            self._come_back(what, response)
        if status in (502, 503, 504):
            raise RepositoryUnreachable(f"{where}: {status}, the server is away or too busy; it is safe to try again")
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.is_success:
            if isinstance(answer, list):  # OpenText's client reads some lists as they are, and some as ``results``
                return {"results": answer}
            if isinstance(answer, dict) and (answer or bare):
                return answer
            raise RepositoryUnreachable(f"{where}: {status} without a JSON answer; it is safe to try again")
        if not isinstance(answer, dict):
            if status not in (401, 413):
                raise RepositoryUnreachable(f"{where}: {status} with a page instead of an answer; it is safe to try again")
            answer = {}
        text = str(answer.get("error_description") or answer.get("error") or f"status {status} without a reason")
        if status == 401 or answer.get("error") in ("invalid_client", "invalid_grant"):
            raise SignInRefused(f"{where}: {text}; check the account, nothing was changed")
        if status == 404:
            raise DocumentMissing(f"{where}: {text}")
        if status == 423:
            raise EditConflict(f"{where}: {text}; nothing was changed")
        if answer.get("code") in ("onHold", "retention"):
            raise OnHold(f"{where}: {text}; nothing was removed")
        if "already exists" in text.casefold():
            raise NameTaken(f"{where}: {text}", text)
        raise Refusal(f"{where}: {text}", text, answer)

    def put(self, what: str, method: str, path: str, body: Json | None = None) -> Json:
        """A write that changes nothing when it is made twice: after a lost answer it is said again."""
        for _ in pauses():
            try:
                return self.write(what, method, path, body=body)
            except AnswerLost as error:
                failure = error
        raise RepositoryUnreachable(f"{failure}; it is safe to say it again") from failure

    def every(self, what: str, path: str, **query: str) -> Iterator[Json]:
        """What a list holds, page after page."""
        offset = 0
        while True:
            found = self.some(what, path, **query, limit=str(PAGE), offset=str(offset))
            yield from found
            if len(found) < PAGE:
                return
            offset += PAGE

    def some(self, what: str, path: str, **query: str) -> list[Json]:
        """What a list that has no pages, or one page of it, holds."""
        results = self.ask(what, "GET", path, query=query).get("results")
        if not isinstance(results, list):
            raise RepositoryError(f"{what} at {self.url}: the answer holds no list")
        return results

    def close(self) -> None:
        """Close the connections; the token runs out by itself. Safe to call twice."""
        self._lines.close()
        self._client.close()


def _retry_after(text: str) -> float:
    """Seconds, from either form of the header (RFC 9110); 1 where it tells nothing."""
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 1.0


# --------------------------------------------------------------------------------------------- what it tells


@dataclass(frozen=True, slots=True)
class Item:
    """A folder or document as lists describe it."""

    id: str
    name: str
    folder: bool
    parent: str | None
    size: int
    version: int
    media_type: str
    modified: datetime | None
    deleted: bool
    deleted_at: datetime | None
    shown_outside: bool
    locked_by: str | None
    external: Mapping[str, Any]
    """What we know of its newest version."""

    @property
    def journey(self) -> str | None:
        return self.external.get("journey")

    def kept(self) -> Kept:
        return Kept(
            self.id, self.name, self.folder, self.size, self.version, self.media_type, self.modified, identity=self.journey
        )


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a document."""

    id: str
    number: int
    size: int
    external: Mapping[str, Any]

    @property
    def journey(self) -> str | None:
        return self.external.get("journey")


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody who can be given a folder: ``user:<id>`` or ``group:<id>``."""

    key: str
    asked: tuple[str, str]
    """How a call names them: ``email`` or ``groupId``, and which."""
    who: str
    """As people know them."""


@dataclass(frozen=True, slots=True)
class Comment:
    """What somebody wrote to a document."""

    id: str
    text: str
    author: str
    at: datetime | None


def item_of(told: Json, what: str) -> Item:
    """An item of an answer. Raises ``RepositoryError`` where it is none."""
    try:
        locks = told.get("locks") or []
        return Item(
            id=str(told["id"]),
            name=str(told["name"]),
            folder=told["resourceType"] == "folder",
            parent=None if told.get("parentId") is None else str(told["parentId"]),
            size=int(told.get("size") or 0),
            version=int(told.get("currentVersionNumber") or 0),
            media_type=str(told.get("mimeType") or ""),
            modified=moment(told.get("lastModified")),
            deleted=bool(told.get("isDeleted")),
            deleted_at=moment(told.get("deletedAt")),
            shown_outside=bool(told.get("isSharedExternally")),
            locked_by=str(locks[0].get("user")) if locks else None,
            external=_ours(told.get("externalData")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RepositoryError(f"{what}: the answer holds no item ({error!r}); is this File 360?") from error


def _ours(text: Any) -> Mapping[str, Any]:
    """What we wrote into ``externalData``; nothing where somebody else did."""
    try:
        held = json.loads(text).get(OURS)
    except (ValueError, TypeError, AttributeError):
        return {}
    return held if isinstance(held, dict) else {}


def _described(document: Item, held: Iterable[Version]) -> Kept:
    """A document with what is known of its versions."""
    return replace(document.kept(), categories=_values(version.external for version in held))


def _values(told: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A document's values, of what is known of its versions, oldest first: of each attribute what the newest says that names it."""
    values = dict[str, Any]()
    for external in told:
        categories = external.get("categories")
        for category, given in categories.items() if isinstance(categories, dict) else ():
            values[category] = {**values.get(category, {}), **(given if isinstance(given, dict) else {})}
    return values


def _about(filing: Filing) -> str:
    """What is known of a version, for ``externalData``. ASCII, whatever the names are."""
    known = {
        "journey": filing.journey,
        "sha256": filing.digest,
        "name": filing.name,
        "categories": {name: dict(values) for name, values in filing.categories.items()},
        "recordsClass": filing.records_class,
        "schedule": filing.schedule,
        "recordDate": filing.record_date and filing.record_date.isoformat(),
        "keepUntil": filing.keep_until and filing.keep_until.isoformat(),
        "modified": filing.modified and filing.modified.astimezone(UTC).isoformat(),
        "sent": filing.sent,
    }
    return json.dumps({OURS: {key: value for key, value in known.items() if value}})


# --------------------------------------------------------------------------------------------- the session


class File360Session(RepositorySession):
    def __init__(self, wire: File360Wire, root: str, connections: int) -> None:
        self._wire, self._root, self._connections = wire, root, connections
        self._me = Once[None, Json]()
        self._members = Once[str, Member]()
        self._folders = Once[tuple[bool, tuple[str, ...]], str | None]()
        """Ids of folders by their path below the root, whatever its case; of those that were to be made apart from the others."""

    def close(self) -> None:
        self._wire.close()

    # ------------------------------------------------------------------------------------------------- filing

    def file(self, filings: Iterable[Filing]) -> Iterator[Filed | NotFiled]:
        return in_turns(filings, self._connections, self._file_one)

    def _file_one(self, filing: Filing) -> Filed | NotFiled:
        try:
            return self._file(filing)
        except (Unfit, Refusal) as error:
            return _not_filed(filing.journey, error)

    def _file(self, filing: Filing) -> Filed:
        if filing.workspace is not None:
            raise Unfit("no-workspaces", "File 360 keeps no business workspaces")
        if filing.document is not None:
            return self._file_as_version(filing.document, filing)
        for _ in range(2):
            parent = self._folder(filing.folder, create=True)
            assert parent is not None  # noqa: S101 - it was to be created
            try:
                return self._before(parent, filing) or self._file_in(parent, kept_name(filing.name), filing)
            except DocumentMissing:
                # Perhaps a remembered folder was removed in the meantime; then make it again, once.
                if self._is_there(parent):
                    raise
                self._forget_folder(filing.folder)
        raise RepositoryError(f"{filing.name!r}: its folder is removed while we file; nothing was filed")

    def _file_as_version(self, id: str, filing: Filing) -> Filed:
        try:
            document = self._document(id)
        except DocumentMissing as error:
            raise Unfit("document-missing", str(error)) from error
        if filed := self._filed_before(document, filing):
            return filed
        if filing.access:
            self._reaches(str(document.parent), self._roles(filing.access), {})
        return self._add_version(document, filing)

    def _before(self, parent: str, filing: Filing) -> Filed | None:
        """Have exactly those get at a folder who are to, before anything is filed there; or what was filed when it was still so."""
        if not filing.access:
            return None
        try:
            self._give(parent, filing)
        except Unfit:
            for name in (kept_name(filing.name), twin_name(filing.name), other_name(filing.name, filing.digest)):
                found = self._child(parent, name)
                if found is not None and (filed := self._filed_before(found, filing)):
                    return filed
            raise
        return None

    def _file_in(self, parent: str, name: str, filing: Filing) -> Filed:
        keeps_both = filing.collision is Collision.KEEP_BOTH
        other = other_name(name, filing.digest)
        if keeps_both:
            # Filed before, beside another one? Then that place is ours, even if the plain name is free by now.
            held = self._child(parent, other)
            if held is not None and (filed := self._filed_before(held, filing)):
                return filed
        # A refusal costs the whole upload: of a large one the name is looked up first.
        found = (self._child(parent, name) if filing.size >= SMALL_BYTES else None) or self._create(parent, name, filing)
        if isinstance(found, Filed):
            return found
        if filed := self._filed_before(found, filing):
            return filed
        if found.name != name and name != twin_name(filing.name):
            # The server takes two names for one that their senders tell apart: another document, not a version.
            return self._file_in(parent, twin_name(filing.name), filing)
        where = f"{name!r} in folder {'/'.join(filing.folder)!r}"
        if filing.collision is Collision.NEW_VERSION:
            if found.folder:
                raise Unfit("name-taken", f"{where} is no document")
            return self._add_version(found, filing)
        if keeps_both:
            made = self._create(parent, other, filing)
            if isinstance(made, Filed):
                return made
            if filed := self._filed_before(made, filing):
                return filed
            raise Unfit("name-taken", f"{where} and {other!r} are both taken by other journeys")
        raise Unfit("name-taken", f"{where} is taken (item {found.id}); nothing was replaced")

    def _create(self, parent: str, name: str, filing: Filing) -> Filed | Item:
        """A new document; or what holds its name, which after a lost answer may be this very document.

        A name is taken only once, so that this may be said again: what came late is refused then.
        """
        what = f"document {name!r} in folder {parent}"
        if self._outside(parent):
            if found := self._child(parent, name):
                return found  # perhaps filed by this very journey, before the folder was shown
            raise self._shown(what)
        for _ in pauses():
            try:
                made = self._upload(what, "fail", parent, name, filing)
                return Filed(filing.journey, made.id, made.version, made.name, filing.folder)
            except (AnswerLost, NameTaken) as error:
                failure: RepositoryError = error
                if found := self._child(parent, name):
                    return found
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: {failure}; it is safe to try again") from failure

    def _add_version(self, document: Item, filing: Filing) -> Filed:
        what = f"version of {document.name!r} ({document.id})"
        if document.shown_outside or self._outside(document.parent):
            raise self._shown(what)
        before = {version.id for version in self._versions(document.id)}
        for _ in pauses():
            try:
                made = self._upload(what, "overwrite", str(document.parent), document.name, filing)
            except AnswerLost as lost:
                if filed := self._lost_version(document, filing, before, lost):
                    return filed
                continue
            if made.id == document.id:
                return self._filed_before(document, filing) or self._vanished(what)
            # It was moved, renamed or removed in between, and a new document stands under its name: ours alone, so it goes again.
            self.remove(made.id, (filing.journey,))
            raise EditConflict(
                f"{what} at {self._wire.url}: it is not where it was; nothing was filed, it is safe to try again"
            )
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that it was added; it is safe to try again")

    def _lost_version(self, document: Item, filing: Filing, before: set[str], lost: AnswerLost) -> Filed | None:
        """The version whose answer was lost; None if it certainly was not added: nothing keeps a version from being added twice."""
        for _ in pauses():
            if filed := self._filed_before(document, filing):
                return filed
            newer = [version for version in self._versions(document.id) if version.id not in before]
            if any(version.journey is None and version.size == filing.size for version in newer):
                break  # ours without its identity, or a person's: we cannot tell
            if not lost.running:
                return None
        raise OutcomeUnknown(
            f"version of {document.name!r} ({document.id}) at {self._wire.url}: the answer was lost and looking does not tell whether "
            f"the server still adds it; look at its versions, then file journey {filing.journey} again or close it by hand"
        ) from lost

    def _vanished(self, what: str) -> Filed:
        raise OutcomeUnknown(f"{what} at {self._wire.url}: said to be added and not found; look before filing it again")

    def _filed_before(self, item: Item, filing: Filing) -> Filed | None:
        """The version that this journey made of a document, with the bytes that it was to have."""
        if item.folder:
            return None
        for version in self._versions(item.id):
            if version.journey != filing.journey:
                continue
            if version.size != filing.size:
                raise OutcomeUnknown(
                    f"{item.name!r} ({item.id}) version {version.number} at {self._wire.url} carries journey {filing.journey} and holds "
                    f"{version.size} bytes instead of {filing.size}; a person decides, nothing was changed"
                )
            return Filed(filing.journey, item.id, version.number, item.name, filing.folder)
        return None

    def _upload(self, what: str, collision: str, parent: str, name: str, filing: Filing) -> Item:
        upload = Upload(filing.path, name, filing.media_type, filing.size, filing.digest)
        fields = {"parentId": parent, "externalData": _about(filing)}
        path = f"api/v3/documents?collisionStrategy={collision}"
        return item_of(self._wire.write(what, "POST", path, fields=fields, upload=upload), what)

    # ------------------------------------------------------------------------------------------------- folders

    def _folder(self, path: tuple[str, ...], *, create: bool) -> str | None:
        """The id of a folder below the root; None where it is missing and not to be created. Raises ``Unfit``."""
        here: str | None = self._root if self._root.isdecimal() else str(self.me()["rootId"])
        below = self._below_root(path)
        for depth, name in enumerate(below, 1):
            key = (create, _folded(below[:depth]))
            here = self._folders.get(key, partial(self._step, str(here), name, create))
            if here is None:
                self._folders.forget(key)
                return None
        return here

    def _below_root(self, path: tuple[str, ...]) -> tuple[str, ...]:
        top = () if self._root.isdecimal() else tuple(part for part in self._root.split("/") if part)
        return tuple(kept_name(part) for part in (*top, *path))

    def _forget_folder(self, path: tuple[str, ...]) -> None:
        gone = _folded(self._below_root(path))
        self._folders.forget_where(lambda key: gone[: len(key[1])] == key[1])

    def _step(self, parent: str, name: str, create: bool) -> str | None:
        what = f"folder {name!r} in {parent}"
        for _ in pauses():
            found = self._child(parent, name)
            if found is None and create:
                if self._outside(parent):
                    raise self._shown(what)
                try:
                    body = {"name": name, "parentId": parent}
                    found = item_of(self._wire.write(what, "POST", "api/v1/folders", body=body), what)
                except (AnswerLost, NameTaken):
                    continue  # either it stands now, or somebody else has just made it: look again
            if found is None:
                return None
            if not found.folder:
                raise Unfit("folder-name-taken", f"{found.name!r} in {parent} is a document, not a folder")
            return found.id
        raise RepositoryUnreachable(
            f"{what} at {self._wire.url}: cannot be made and cannot be seen; nothing was filed, try again"
        )

    def _folder_item(self, folder: str | None) -> Item:
        what = f"folder {folder}"
        return item_of(self._wire.ask(what, "GET", f"api/v1/folders/{folder}"), what)

    def _outside(self, folder: str | None) -> bool:
        return self._folder_item(folder).shown_outside

    def _shown(self, what: str) -> Unfit:
        return Unfit("shown-outside", f"{what}: people outside can see it; nothing is filed there, a release shows it to them")

    def _is_there(self, folder: str) -> bool:
        try:
            told = self._wire.ask(f"folder {folder}", "GET", f"api/v1/folders/{folder}")
        except DocumentMissing:
            return False
        return not told.get("isDeleted")

    def _child(self, parent: str, name: str) -> Item | None:
        """What a folder holds under a name, whatever its case."""
        what = f"{name!r} in folder {parent}"
        found = self._wire.some(what, f"api/v1/folders/{parent}/children", filter="any", name=name, limit="25")
        items = [item_of(one, what) for one in found]
        return next((one for one in items if one.name.casefold() == name.casefold()), None)

    # ------------------------------------------------------------------------------------------------- who gets at folders

    def _roles(self, *grants: Sequence[Grant]) -> dict[Member, int]:
        """Who is to have which role. Of two for one, the stronger. Raises ``Unfit``."""
        roles = dict[Member, int]()
        for grant in (grant for some in grants for grant in some):
            role = ROLES.get(grant.right)
            if role is None:
                raise Unfit("no-such-role", f"File 360 has no role for {grant.right.value!r}: read, edit or full")
            member = self._members.get(grant.who.casefold(), partial(self._member, grant.who))
            roles[member] = max(role, roles.get(member, 0))
        return roles

    def _member(self, who: str) -> Member:
        """A person of the tenant's own by their address, or a group by its name: an address that nobody has would be invited."""
        what, person = f"{who!r}", "@" in who
        field, status = ("email", "any") if person else ("name", "group-all")
        told = self._wire.some(what, f"search/v1/user/{status}", q=who, pageSize=str(PAGE))
        found = [one for one in told if str(one.get(field)).casefold() == who.casefold()]
        if len(found) != 1:
            there = f"{len(found)} have that name" if found else "nobody has that name"
            raise Unfit("no-such-member", f"{what} at {self._wire.url}: {there}; mend who gets access")
        if found[0].get("isExternal"):
            raise Unfit("shown-outside", f"{what} at {self._wire.url} is a guest; what is shown outside leaves by a sign-off")
        id = str(found[0]["id"])
        known = str(found[0][field])
        return Member(f"user:{id}", ("email", known), known) if person else Member(f"group:{id}", ("groupId", id), known)

    def _given(self, folder: str, seen: dict[str, tuple[Item, dict[str, tuple[int, str]]]]) -> dict[str, tuple[int, str]]:
        """Who gets at a folder besides us: member -> role and name, with whoever gets at the folders around it. Raises ``Unfit``."""
        reach, me = dict[str, tuple[int, str]](), f"user:{self.me()['id']}"
        here: str | None = folder
        while here is not None:
            if here not in seen:
                try:
                    seen[here] = self._own(here)
                except DocumentMissing as error:
                    if here == folder:
                        raise
                    raise Unfit(
                        "access-unknown",
                        f"folder {folder}: what it is in cannot be seen, so nobody can tell who gets at it ({error})",
                    ) from error
            item, own = seen[here]
            for who, (role, name) in own.items():
                reach[who] = max((role, name), reach.get(who, (0, "")))
            here = item.parent
        reach.pop(me, None)
        return reach

    def reached_from(self, folder: str) -> set[str]:
        """Who besides us gets at a folder by one around it, as people know them. Raises ``Unfit`` where that cannot be told."""
        seen: dict[str, tuple[Item, dict[str, tuple[int, str]]]] = {}
        self._given(folder, seen)
        item, _ = seen.pop(folder)
        me = f"user:{self.me()['id']}"
        names = {name for _, own in seen.values() for who, (_, name) in own.items() if who != me}
        by_link = item.parent is not None and seen[item.parent][0].shown_outside
        return names or ({"somebody outside"} if by_link else set())

    def _own(self, folder: str) -> tuple[Item, dict[str, tuple[int, str]]]:
        """A folder, and who was given it itself; its owner, where it is in nothing."""
        what = f"who gets at folder {folder}"
        told = self._wire.ask(what, "GET", f"api/v1/folders/{folder}")
        item = item_of(told, what)
        given = self._wire.some(what, f"api/v1/folders/{folder}/collaborators")
        try:
            own = {f"{one['type']}:{one['id']}": (int(one["role"]), str(one.get("email") or one["name"])) for one in given}
            if item.parent is None:
                own[f"user:{told['owner']['id']}"] = (ROLES[Right.FULL], _account(told["owner"]))
        except (KeyError, TypeError, ValueError) as error:
            raise RepositoryError(f"{what}: the answer does not tell ({error!r}); is this File 360?") from error
        return item, own

    def _nobody_else(self, folder: str, wanted: Mapping[Member, int], seen: dict[str, Any]) -> dict[str, tuple[int, str]]:
        """Who gets at a folder. Raises ``Unfit`` where somebody does who is not to, or does more than they are to."""
        reach, roles = self._given(folder, seen), {member.key: role for member, role in wanted.items()}
        item = seen[folder][0]
        if item.deleted:
            raise Unfit("folder-removed", f"{item.name!r} (folder {folder}) is in the trash; nothing was changed")
        if item.shown_outside:
            raise self._shown(f"{item.name!r} (folder {folder})")
        if others := sorted(name for who, (role, name) in reach.items() if role > roles.get(who, 0)):
            raise Unfit(
                "shown-to-others",
                f"{item.name!r} (folder {folder}): {', '.join(others)} would get at it, or could do more there than was agreed, by "
                "this folder or one around it; take that away in File 360, or agree to it in the reviewed file",
            )
        return reach

    def _reaches(self, folder: str, wanted: Mapping[Member, int], seen: dict[str, Any]) -> None:
        """Exactly these get at a folder. Raises ``Unfit`` where they do not."""
        reach = self._nobody_else(folder, wanted, seen)
        if lost := sorted(member.who for member, role in wanted.items() if reach.get(member.key, (0,))[0] < role):
            raise Unfit(
                "access-missing",
                f"folder {folder}: {', '.join(lost)} should get at it, and what stands in a folder already we show to nobody; give it "
                "to them in File 360, or change the reviewed file",
            )

    def _give(self, folder: str, filing: Filing) -> None:
        """Have exactly those get at a folder who are to; one that holds something is given to nobody. Raises ``Unfit``."""
        wanted = self._roles(filing.access)
        # In this order: whoever filed something here meanwhile had given it to them before.
        empty = not self._wire.some(f"what is in folder {folder}", f"api/v1/folders/{folder}/children", filter="any", limit="1")
        reach = self._nobody_else(folder, wanted, {})
        if all(reach.get(member.key, (0,))[0] >= role for member, role in wanted.items()):
            return
        if empty:
            self._grant(folder, wanted)
        self._reaches(folder, wanted, {})

    def _grant(self, folder: str, wanted: Mapping[Member, int]) -> None:
        """Give a folder to all of these. Saying it twice changes nothing."""
        members = [{**dict([member.asked]), "role": role} for member, role in wanted.items()]
        self._wire.put(f"access to folder {folder}", "POST", f"api/v1/folders/{folder}/collaborators", {"members": members})

    # ------------------------------------------------------------------------------------------------- workspaces

    def lay_out(self, tree: FolderTree, *, resumed: bool) -> Mapping[tuple[str, ...], str] | NotFiled:
        try:
            return self._lay_out(tree, resumed)
        except (DocumentMissing, Unfit, Refusal) as error:
            return _not_filed(tree.journey, error)

    def _lay_out(self, tree: FolderTree, resumed: bool) -> dict[tuple[str, ...], str]:
        for path in tree.paths():
            self._roles(*tree.line(path))  # nothing is begun for somebody who is not there
        parent = self._folder(tree.folder, create=True)
        assert parent is not None  # noqa: S101 - it was to be created
        if not self._is_there(parent):
            self._forget_folder(tree.folder)
            raise RepositoryUnreachable(f"folder {parent} at {self._wire.url}: was removed meanwhile; it is safe to try again")
        self._nobody_else(parent, self._roles(tree.access[()]), {})
        ids = dict[tuple[str, ...], str]()
        for path in tree.paths():
            above, name = (ids[path[:-1]], path[-1]) if path else (parent, tree.name)
            ids[path] = self._make(above, kept_name(name), {"journey": tree.journey, "folder": "/".join(path)}, resumed)
        return ids

    def _make(self, parent: str, name: str, mark: Json, resumed: bool) -> str:
        """A folder of ours; what stands under its name and is not ours is left as it is. Raises ``Unfit``."""
        what, body = (
            f"folder {name!r} in {parent}",
            {"name": name, "parentId": parent, "externalData": json.dumps({OURS: mark})},
        )
        path = f"api/v1/folders/{parent}/children"
        for _ in pauses():
            if resumed:  # it may have been renamed since
                for told in self._wire.every(what, path, filter="folder", order="created:asc"):
                    if (found := item_of(told, what)).external == mark:
                        return found.id
            there = self._child(parent, name)
            if there is not None and there.external == mark:
                return there.id
            if there is not None:
                raise Unfit(
                    "name-taken", f"{there.name!r} in folder {parent} is not ours (item {there.id}); it was not taken over"
                )
            try:
                return item_of(self._wire.write(what, "POST", "api/v1/folders", body=body), what).id
            except (AnswerLost, NameTaken):
                continue  # either it stands now, or somebody else has just made one: look again
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: cannot be made and cannot be seen; it is safe to try again")

    def admit(self, tree: FolderTree, folders: Mapping[tuple[str, ...], str]) -> NotFiled | None:
        try:
            wanted = {path: self._roles(*tree.line(path)) for path in tree.paths()}
            seen: dict[str, Any] = {}
            for path in tree.paths():
                self._nobody_else(folders[path], wanted[path], seen)
            for path in reversed(tree.paths()):
                self._complete(folders[path], self._roles(tree.access[path]), seen)
            seen = {}
            for path in tree.paths():
                self._reaches(folders[path], wanted[path], seen)
        except (DocumentMissing, Unfit, Refusal) as error:
            return _not_filed(tree.journey, error)
        return None

    def _complete(self, folder: str, wanted: Mapping[Member, int], seen: Mapping[str, Any]) -> None:
        """Give a folder to those who were not given it itself yet."""
        own = seen[folder][1]
        if lost := {member: role for member, role in wanted.items() if own.get(member.key, (0,))[0] < role}:
            self._grant(folder, lost)

    def named_by(self, id: str) -> str:
        """Of the trail's newest entry that tells of a name; it begins with who made the folder."""
        trail = self._wire.every(f"trail of folder {id}", f"api/v1/folders/{self._number(id)}/audit")
        return next((_account(told.get("actor")) for told in trail if told.get("type") in ("Rename", "Create")), "unknown")

    def workspace(self, id: str) -> Kept:
        found = self._folder_item(self._number(id))
        if found.deleted:
            raise DocumentMissing(f"folder {id} at {self._wire.url}: is in the trash")
        return found.kept()

    # ------------------------------------------------------------------------------------------------- holds and removal

    def holds(self, id: str) -> tuple[Hold, ...]:
        return tuple(Hold(str(one["name"]), moment(one.get("since")), str(one.get("comment") or "")) for one in self._holds(id))

    def _holds(self, id: str) -> list[Json]:
        return self._wire.some(f"holds of {id}", f"api/v1/documents/{self._number(id)}/holds")

    def apply_hold(self, id: str, name: str, comment: str = "") -> None:
        body = {"name": name, "comment": comment}
        self._wire.put(f"hold on {id}", "POST", f"api/v1/documents/{self._number(id)}/holds", body)

    def lift_hold(self, id: str, name: str) -> None:
        for held in self._holds(id):
            if held["name"] == name and not held.get("inherited"):
                try:
                    path = f"api/v1/documents/{self._number(id)}/holds/{quote(str(held['id']), safe='')}"
                    self._wire.put(f"hold on {id}", "DELETE", path)
                except DocumentMissing:
                    self._document(id)  # the hold is gone, by the call whose answer was lost or by somebody else

    def remove(self, id: str, made_by: Sequence[str | None] | None = None) -> None:
        """Into the trash. It is locked first, so that nobody else can add to what we have looked at; our own account still can."""
        self._document(id)
        self._refuse_if_held(id)
        if made_by is not None:
            self._wire.put(f"lock of {id}", "PUT", f"api/v1/documents/{id}/lock")
        try:
            self._trash(id, made_by)
        except (Refusal, EditConflict, OnHold):
            if made_by is not None:
                self.let_stand(id)
            raise

    def _trash(self, id: str, made_by: Sequence[str | None] | None) -> None:
        lost = False
        for _ in pauses():
            try:
                if made_by is not None and self.filed_by(id) != tuple(made_by):
                    raise EditConflict(f"{id} at {self._wire.url}: another version has come meanwhile; nothing was removed")
                self._wire.write(f"document {id}", "PUT", f"api/v1/documents/{id}", body={"state": "deleted"})
            except DocumentMissing:
                if not lost:
                    raise
            except AnswerLost:
                lost = True
                continue
            return
        raise RepositoryUnreachable(f"document {id} at {self._wire.url}: no answer tells that it was removed; try again")

    def was_removed(self, id: str, since: datetime) -> bool:
        try:
            found = self._any(id)
        except DocumentMissing:
            return False  # perhaps hidden from us
        # Clocks differ.
        return found.deleted and (found.deleted_at is None or found.deleted_at > since - timedelta(days=1))

    def let_stand(self, id: str) -> None:
        if self._document(id).locked_by == str(self.me()["id"]):
            self._wire.put(f"lock of {id}", "DELETE", f"api/v1/documents/{id}/lock")

    def _refuse_if_held(self, id: str) -> None:
        if held := self.holds(id):
            raise OnHold(f"{id} at {self._wire.url}: is on hold ({held[0].name}); nothing was removed")

    # ------------------------------------------------------------------------------------------------- reading

    def find(self, folder: tuple[str, ...], name: str) -> Kept | None:
        parent = self._looked_up(folder)
        found = None if parent is None else self._child(parent, kept_name(name))
        if parent is not None and found is not None and found.name != kept_name(name):
            found = self._child(parent, twin_name(name)) or found
        return None if found is None else found.kept()

    def look(self, folder: tuple[str, ...]) -> Iterator[Kept]:
        parent = self._looked_up(folder)
        if parent is None:
            raise DocumentMissing(f"folder {'/'.join(folder)!r} at {self._wire.url}: there is none below the root")
        what = f"list of folder {parent}"
        for told in self._wire.every(what, f"api/v1/folders/{parent}/children", filter="any", order="created:asc"):
            yield item_of(told, what).kept()

    def _looked_up(self, folder: tuple[str, ...]) -> str | None:
        """A folder that is there now: one that is remembered may have been removed."""
        for _ in range(2):
            try:
                parent = self._folder(folder, create=False)
            except Unfit:
                return None
            if parent is None or self._is_there(parent):
                return parent
            self._forget_folder(folder)
        return None

    def get(self, id: str) -> Kept:
        return _described(self._document(id), self._versions(id))

    def filed_by(self, id: str) -> tuple[str | None, ...]:
        return tuple(version.journey for version in self._versions(id))

    def search(self, *, name: str | None = None, text: str | None = None) -> Iterator[Kept]:
        words = (text or "").strip()
        if not (name or words):
            return
        # What a name may not hold stands there as "_"; the original name tells whether it is meant.
        fit = "".join("_" if char in FORBIDDEN else char for char in name or "").strip()
        query = {"q": words} if words else {"q": fit, "in": "name"}
        for told in self._wire.every("search", "search/v1/resources", **query):
            found = item_of(told, "search")
            called = (found.name, str(found.external.get("name", "")))
            if not found.folder and (name is None or any(name.casefold() in one.casefold() for one in called)):
                yield found.kept()

    def fetch(self, id: str, version: int | None, into: Batch) -> Spooled:
        return self._read(id, self._versions(id), version, into)

    def examine(self, id: str, version: int, into: Batch) -> tuple[Kept, Spooled]:
        document, held = self._document(id), self._versions(id)
        return _described(document, held), self._read(id, held, version, into)

    def _read(self, id: str, held: Sequence[Version], version: int | None, into: Batch) -> Spooled:
        wanted = next((one for one in reversed(held) if version in (None, one.number)), None)
        if wanted is None:
            raise DocumentMissing(f"document {id} at {self._wire.url}: no version {version}")
        what = f"content of {id} version {wanted.number}"
        file = into.open()
        try:
            self._download(what, f"api/v1/documents/{id}/versions/{quote(wanted.id, safe='')}/content", wanted.size, file)
        except BaseException:
            file.discard()
            raise
        spooled = file.finish()
        if wanted.external.get("sha256", spooled.digest) != spooled.digest:
            raise DocumentChanged(f"{what} at {self._wire.url}: other bytes than were filed; a person looks")
        return spooled

    def _download(self, what: str, path: str, announced: int, file: SpoolFile) -> None:
        stalls = 0
        for _ in pauses():
            try:
                with self._wire.download(what, path) as response:
                    for piece in response.iter_bytes(CHUNK_BYTES):
                        file.write(piece)
                if file.size == announced:
                    return
                failure = RepositoryUnreachable(
                    f"{what} at {self._wire.url}: {file.size} of {announced} bytes; it is safe to try again"
                )
            except RepositoryUnreachable as error:
                failure = error
                stalls += isinstance(error, Stalled)
                if stalls == 2 or (isinstance(error, NotCarriedOut) and not error.soon):
                    break
            file.restart()
        raise RepositoryUnreachable(*failure.args) from failure

    def history(self, id: str) -> Iterator[HistoryEvent]:
        return self.trail(id, "document")

    def trail(self, id: str, kind: str) -> Iterator[HistoryEvent]:
        kinds = "folders" if kind == "folder" else "documents"
        for told in self._wire.every(f"trail of {id}", f"api/v1/{kinds}/{self._number(id)}/audit"):
            at, who = moment(told.get("at")), _account(told.get("actor"))
            if at is not None:
                more = (str(told.get(key) or "") for key in ("id", "detail", "ip"))
                yield HistoryEvent(at, str(told["type"]), who, *more)

    # ------------------------------------------------------------------------------------------------- what only File 360 has

    def me(self) -> Json:
        """The account that is signed in, as the tenant describes it."""
        return self._me.get(None, lambda: self._wire.ask("our own account", "GET", "api/v1/users/me"))

    def comments(self, id: str) -> list[Comment]:
        """What people wrote to a document, oldest first."""
        told = self._wire.some(f"comments on {id}", f"api/v1/documents/{self._number(id)}/replies")
        return [
            Comment(str(one["id"]), str(one["text"]), _account(one.get("createdBy")), moment(one.get("created")))
            for one in told
        ]

    def remark(self, id: str, text: str) -> None:
        if not any(one.text == text for one in self.comments(id)):
            self.comment(id, text)

    def comment(self, id: str, text: str) -> str:
        """Write to a document; the comment's id. Raises ``OutcomeUnknown`` where nobody can tell whether it stands there."""
        what, before = f"comment on {id}", {one.id for one in self.comments(id)}
        for _ in pauses():
            try:
                return str(
                    self._wire.write(what, "POST", f"api/v1/documents/{self._number(id)}/replies", body={"text": text})["id"]
                )
            except AnswerLost as error:
                lost = error
            with settling(what):
                if written := self._lost_comment(id, text, before, lost):
                    return written
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells that it was written; try again") from lost

    def _lost_comment(self, id: str, text: str, before: set[str], lost: AnswerLost) -> str | None:
        """The comment whose answer was lost; None if it certainly was not written."""
        for _ in pauses():
            for one in self.comments(id):
                if one.id not in before and one.text == text and one.author == _account(self.me()):
                    return one.id
            if not lost.running:
                return None
        raise OutcomeUnknown(
            f"comment on {id} at {self._wire.url}: the answer was lost; look before it is written again"
        ) from lost

    def shown_outside(self, id: str) -> bool:
        document = self._document(id)
        return document.shown_outside or self._outside(document.parent)

    def changes(self, folder: tuple[str, ...], since: str = "0") -> Iterator[Change]:
        """What happened in a folder and below it after the change of that id, oldest first."""
        parent = self._looked_up(folder)
        if parent is None:
            raise DocumentMissing(f"folder {'/'.join(folder)!r} at {self._wire.url}: there is none below the root")
        what = f"changes in folder {parent}"
        while True:
            query = {"since": since, "limit": str(PAGE)}
            told = self._wire.ask(what, "GET", f"api/v1/folders/{parent}/library_changes", query=query)
            for one in told.get("changes") or ():
                yield _change(one)
            if len(told.get("changes") or ()) < PAGE:
                return
            since = str(told["cursor"])

    def rule(self, folder: tuple[str, ...]) -> tuple[str, int] | None:
        parent = self._looked_up(folder)
        if parent is None:
            return None
        told = self._wire.ask(f"retention of folder {parent}", "GET", f"api/v1/folders/{parent}").get("retention")
        return (str(told["action"]), int(told["days"])) if told else None

    def describe(self, folder: tuple[str, ...], within: str | None = None) -> Iterator[Described]:
        """Access is by folder: who may see a folder may see all below it. Folders above that are hidden from us tell nobody's access."""
        top = self._looked_up(folder)
        if top is None:
            raise DocumentMissing(f"folder {'/'.join(folder)!r} at {self._wire.url}: there is none below the root")
        if within is None:
            yield from self._described(top, (), (top,), self._readers(top))
        elif (found := self._somewhere(within)) is not None and not found.deleted:
            inner = found.id if found.folder else str(found.parent)
            if (place := self._between(top, inner)) is None:
                return
            path, folders = place
            if found.folder:
                yield from self._described(inner, path, folders, self._readers(inner))
            else:
                yield Described(self._catalogued(found), path, folders, self._readers(inner))

    def _described(
        self, folder: str, path: tuple[str, ...], folders: tuple[str, ...], readers: frozenset[str]
    ) -> Iterator[Described]:
        for told in self._all_in(folder):
            found = item_of(told, f"list of folder {folder}")
            if found.folder:
                inner = readers | self._own_readers(told)
                yield from self._described(found.id, (*path, found.name), (*folders, found.id), inner)
            else:
                yield Described(self._catalogued(found), path, folders, readers)

    def _all_in(self, folder: str) -> Iterator[Json]:
        """Everything directly in a folder, nothing left out though some goes meanwhile: pages overlap by one, which tells."""
        what, path, seen = f"list of folder {folder}", f"api/v1/folders/{folder}/children", set[str]()
        for _ in range(_MOST_LISTS):
            offset, last = 0, ""
            while True:
                page = self._wire.some(what, path, filter="any", order="created:asc", limit=str(PAGE), offset=str(offset))
                ids = [str(told["id"]) for told in page]
                if last not in ("", *ids[:1]):
                    break  # what stood before it has moved up
                for id, told in zip(ids, page, strict=True):
                    if id not in seen:
                        seen.add(id)
                        yield told
                if len(page) < PAGE:
                    return
                offset, last = offset + PAGE - 1, ids[-1]
        raise RepositoryUnreachable(
            f"{what} at {self._wire.url}: it changes faster than it can be read; it is safe to try again"
        )

    def _catalogued(self, found: Item) -> Kept:
        """A version's values are its own: of a document with several, all are asked."""
        told = [found.external] if found.version <= 1 else [one.external for one in self._versions(found.id)]
        return replace(found.kept(), categories=_values(told))

    def _somewhere(self, id: str) -> Item | None:
        """A document or folder; None where it is not there for us."""
        for kind in ("document", "folder") if id.isascii() and id.isdecimal() else ():
            try:
                return item_of(self._wire.ask(f"{kind} {id}", "GET", f"api/v1/{kind}s/{id}"), f"{kind} {id}")
            except DocumentMissing:
                continue
        return None

    def _between(self, top: str, folder: str) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Names below a folder and ids from it on, down to another one; None where that one is not in it."""
        names, ids, here = list[str](), [folder], folder
        while here != top:
            above = self._somewhere(here)
            if above is None or above.parent is None:
                return None
            names.append(above.name)
            ids.append(here := above.parent)
        return tuple(reversed(names)), tuple(reversed(ids))

    def _readers(self, folder: str | None) -> frozenset[str]:
        """Who may see what is in a folder: its own, and those of the folders around it."""
        readers = frozenset[str]()
        while folder is not None:
            what = f"folder {folder}"
            try:
                told = self._wire.ask(what, "GET", f"api/v1/folders/{folder}")
            except DocumentMissing:
                break
            readers |= self._own_readers(told) | {f"user:{_account(told.get('owner'))}"}
            folder = item_of(told, what).parent
        return readers

    def _own_readers(self, told: Json) -> frozenset[str]:
        """Whom a folder itself is shared with."""
        if not told.get("shareCount"):
            return frozenset()
        found = self._wire.some(
            f"collaborators of folder {told['id']}", f"api/v1/folders/{quote(str(told['id']), safe='')}/collaborators"
        )
        return frozenset(f"group:{one['name']}" if one["type"] == "group" else f"user:{_account(one)}" for one in found)

    def retain(self, folder: tuple[str, ...], action: str, days: int = 0) -> None:
        parent = self._folder(folder, create=True)
        self._wire.put(
            f"retention of folder {parent}",
            "PUT",
            f"api/v1/folders/{parent}/retention",
            {"action": action, "days": days},
        )

    # ------------------------------------------------------------------------------------------------- small things

    def _number(self, id: str) -> str:
        if not (id.isascii() and id.isdecimal()):
            raise DocumentMissing(f"{id!r}: not an id of {self._wire.url}, which are numbers")
        return id

    def _any(self, id: str) -> Item:
        """A document, also one in the trash."""
        what = f"document {id}"
        return item_of(self._wire.ask(what, "GET", f"api/v1/documents/{self._number(id)}"), what)

    def _document(self, id: str) -> Item:
        found = self._any(id)
        if found.deleted:
            raise DocumentMissing(f"document {id} at {self._wire.url}: is in the trash")
        return found

    def _versions(self, id: str) -> list[Version]:
        """Oldest first."""
        what = f"versions of {id}"
        found = [
            Version(str(told["id"]), int(told["label"]), int(told.get("size") or 0), _ours(told.get("externalData")))
            for told in self._wire.some(what, f"api/v1/documents/{self._number(id)}/versions")
        ]
        return sorted(found, key=lambda version: version.number)


def _not_filed(journey: str, error: DocumentMissing | Unfit | Refusal) -> NotFiled:
    """An error about one journey alone, as the answer to it."""
    if isinstance(error, Unfit):
        return NotFiled(journey, error.code, error.reason)
    if isinstance(error, Refusal):
        return NotFiled(journey, "refused", str(error))
    return NotFiled(journey, "folder-removed", f"{error}; restore it from the trash, if it is there")


def _folded(path: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.casefold() for part in path)


def _change(told: Json) -> Change:
    target = told.get("target") or {}
    return Change(
        str(told["id"]),
        str(told["type"]),
        str(target.get("id")),
        _account(told.get("actor")),
        moment(told.get("at")),
        str(target.get("resourceType") or ""),
        str(target.get("name") or ""),
        str(told.get("detail") or ""),
        str(told.get("ip") or ""),
    )


def _account(told: Any) -> str:
    """A person's address, as people know them."""
    return str(told.get("email") or told.get("id")) if isinstance(told, dict) else "unknown"
