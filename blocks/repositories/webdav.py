"""A WebDAV server as a repository (RFC 4918): for firms whose archive is a share behind HTTP.

::

    <url>/<folder>/<name>            the document, with one dead property {urn:countersign}filed: journey, digest, values, original name
    <url>/.countersign/<random>      on its way: a document gets its name, with all that is known of it, by one MOVE

Nothing is overwritten: ``If-None-Match: *`` and ``Overwrite: F`` refuse a taken name. A lost answer is settled by looking, and as
nothing is replaced, the same may be said again. A document that somebody changes keeps our property: its digest tells.

What WebDAV has no word for is refused, and never made up (``lacks``): a second version, retention, legal holds (nobody can tell
them, so nothing that depends on them goes on), an audit trail, words in documents. Access is its folder's; there are no workspaces.
Where a server gives no ETags, or none that it compares, a document that somebody changes while we remove it is lost with it.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self, cast
from urllib.parse import quote, unquote, urlsplit
from uuid import uuid4
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import httpx
from pydantic import Field, model_validator

from blocks import credentials
from blocks.errors import (
    DocumentChanged,
    DocumentMissing,
    EditConflict,
    RepositoryError,
    RepositoryUnreachable,
    SignInRefused,
)
from blocks.pace import Pace
from blocks.repositories.base import Repository, RepositorySession
from blocks.repositories.naming import beside, fitted
from blocks.repositories.otcs_names import Unfit
from blocks.repositories.otcs_wire import SMALL_BYTES, Upload
from blocks.repositories.turns import in_turns
from blocks.spool import Batch, Spooled
from blocks.values import Collision, Filed, Filing, HistoryEvent, Hold, Kept, NotFiled

OURS = ".countersign"
LONGEST_NAME_BYTES = 240
ABANDONED = timedelta(days=1)
MOST_TOLD_BYTES = 1024 * 1024
"""Of what came of a call, and about one document of a list."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_DAV, _FILED = "{DAV:}", "{urn:countersign}filed"
_ASKED = (
    '<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:" xmlns:c="urn:countersign"><prop>'
    "<resourcetype/><getcontentlength/><getcontenttype/><getlastmodified/><getetag/><c:filed/></prop></propfind>"
)
_SET = (
    '<?xml version="1.0" encoding="utf-8"?><propertyupdate xmlns="DAV:" xmlns:c="urn:countersign"><set><prop>'
    "<c:filed>{}</c:filed></prop></set></propertyupdate>"
)
_XML = {"Content-Type": "application/xml; charset=utf-8"}

Place = tuple[str, ...]
"""Folders and name, below the address."""


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _reserved(name: str) -> bool:
    return name in (".", "..") or name.startswith(OURS)


def kept_name(name: str) -> str:
    """``name`` as one path segment (see ``naming``)."""
    return fitted(name, forbidden="/\\", length=_length, most=LONGEST_NAME_BYTES, reserved=_reserved)


class WebDav(Repository):
    """A folder on a WebDAV server that keeps dead properties."""

    _block_type_name = "WebDAV Repository"

    kind: ClassVar[str] = "webdav"
    lacks: ClassVar[frozenset[str]] = frozenset({"versions", "retention", "holds", "history", "words"})

    url: str = Field(pattern=r"^https?://[^/@\s?#]+(/[^\s?#]*)?$", description="Address of the folder. It must exist")
    username: str = Field(description="Account that files")
    password: credentials.Reference = Field(description="Its password (Basic), as env:NAME or file:/path")
    connections: int = Field(default=4, ge=1, le=32, description="Documents filed at the same time")
    ca: Path | None = Field(
        default=None, description="File with the certificate authority of the server; default: the system's"
    )

    @model_validator(mode="after")
    def _protected(self) -> Self:
        if self.url.startswith("http:") and urlsplit(self.url).hostname not in _LOOPBACK:
            raise ValueError("'http' is for a server on this machine itself; use 'https'")
        return self

    @property
    def address(self) -> str:
        return self.url.rstrip("/")

    def session(self) -> WebDavSession:
        session = WebDavSession(self)
        try:
            session.sign_in()
        except BaseException:
            session.close()
            raise
        return session


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder or document as the server lists it, with what we know of it."""

    place: Place
    container: bool
    size: int
    media_type: str
    modified: datetime | None
    etag: str
    filed: Mapping[str, Any]

    @property
    def journey(self) -> str | None:
        return self.filed.get("journey")

    def kept(self) -> Kept:
        known = self.filed.get("media_type") or self.media_type
        values = self.filed.get("categories") or {}
        return Kept(
            "/".join(self.place),
            self.place[-1],
            self.container,
            self.size,
            0 if self.container else 1,
            known,
            self.modified,
            self.journey,
            values,
        )


class WebDavSession(RepositorySession):
    def __init__(self, block: WebDav) -> None:
        self._url, self._seconds, self._connections = block.address, block.timeout_seconds, block.connections
        self._base = tuple(part for part in unquote(urlsplit(self._url).path).split("/") if part)
        self._client = httpx.Client(
            auth=(block.username, credentials.read(block.password)),
            verify=ssl.create_default_context(cafile=block.ca) if block.url.startswith("https:") else False,
            timeout=httpx.Timeout(block.timeout_seconds),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=3.0),
            headers={"Accept-Encoding": "identity"},
            follow_redirects=False,
            trust_env=False,
        )
        self._folders: set[Place] = {()}

    def sign_in(self) -> None:
        """See that the folder is there, and sweep up what killed processes have left on its way."""
        self._there(())
        with suppress(DocumentMissing):  # nothing was filed yet
            for left in self._list((OURS,)):
                if left.modified and left.modified < datetime.now(UTC) - ABANDONED:
                    self._drop(left.place)

    def close(self) -> None:
        self._client.close()

    # ------------------------------------------------------------------------------------------------- filing

    def file(self, filings: Iterable[Filing]) -> Iterator[Filed | NotFiled]:
        return in_turns(filings, self._connections, self._file_one)

    def _file_one(self, filing: Filing) -> Filed | NotFiled:
        try:
            return self._file(filing)
        except Unfit as unfit:
            return NotFiled(filing.journey, unfit.code, unfit.reason)

    def _file(self, filing: Filing) -> Filed:
        if filing.workspace is not None:
            raise Unfit("no-workspaces", "a WebDAV server keeps no business workspaces")
        if filing.access:
            raise Unfit("access-by-folder", "WebDAV has no word for access; give it to the folder on the server")
        if filing.records_class or filing.record_date or filing.keep_until or filing.schedule:
            raise Unfit("no-retention", "WebDAV has no word for classes and retention; agree on none, or file elsewhere")
        if filing.document is not None:
            self._no_version(filing, filing.document)
        folder, name = tuple(map(kept_name, filing.folder)), kept_name(filing.name)
        names = [name]
        if filing.collision is Collision.KEEP_BOTH:
            names.append(beside(name, filing.digest, length=_length, most=LONGEST_NAME_BYTES))
        lost: RepositoryError = EditConflict(f"{filing.name!r} at {self._url}: its name is taken and free by turns; try again")
        for _ in range(3):  # the second time it is ours, or somebody was faster
            self._make_folders(folder)
            stand = {one: self._look_at((*folder, one)) for one in names}
            for one, entry in stand.items():
                if entry is not None and entry.journey == filing.journey:
                    return Filed(filing.journey, "/".join(entry.place), 1, one, filing.folder)
            free = next((one for one, entry in stand.items() if entry is None), None)
            if free is None:
                taken = stand[name]
                if filing.collision is Collision.NEW_VERSION and taken is not None and not taken.container:
                    self._no_version(filing, "/".join(taken.place))
                raise Unfit("name-taken", f"{'/'.join((*folder, name))!r} is taken at {self._url}; nothing was replaced")
            try:
                self._place((*folder, free), filing)
            except (RepositoryUnreachable, EditConflict) as error:
                lost = error  # it may stand there all the same
        raise lost

    def _no_version(self, filing: Filing, id: str) -> NoReturn:
        try:
            self._document(id)
        except DocumentMissing as error:
            raise Unfit("document-missing", str(error)) from error
        raise Unfit(
            "no-versions", f"{id!r} is there at {self._url}, and WebDAV keeps one version; {filing.name!r} was not filed"
        )

    def _place(self, place: Place, filing: Filing) -> None:
        """Bring a document beside, with all that is known of it, and give it its name if that is free."""
        known = {
            "journey": filing.journey,
            "sha256": filing.digest,
            "size": filing.size,
            "name": filing.name,
            "media_type": filing.media_type,
            "categories": {name: dict(values) for name, values in filing.categories.items()},
            "modified": filing.modified and filing.modified.astimezone(UTC).isoformat(),
            "sent": filing.sent,
        }
        self._make_folders((OURS,))
        upload = Upload(filing.path, filing.name, filing.media_type, filing.size, filing.digest)
        pieces: Iterable[bytes] | bytes = upload.pieces() if filing.size >= SMALL_BYTES else b"".join(upload.pieces())
        beside = (OURS, uuid4().hex)
        try:
            headers = {"Content-Length": str(filing.size), "Content-Type": "application/octet-stream", "If-None-Match": "*"}
            self._call("PUT", beside, headers, pieces)
            # ASCII, whatever the names are: not every server keeps other properties as they are.
            self._call("PROPPATCH", beside, _XML, _SET.format(escape(json.dumps(known))).encode())
            self._whole(beside, filing)
            self._call("MOVE", beside, {"Destination": self._at(place), "Overwrite": "F"})
        except BaseException as error:
            with suppress(RepositoryError):  # swept up by a later session
                self._drop(beside)
            if isinstance(error, DocumentMissing):  # a folder was removed meanwhile
                self._folders = {()}
                raise EditConflict(f"{error}; nothing was filed, it is safe to try again") from error
            raise

    def _whole(self, place: Place, filing: Filing) -> None:
        stands = self._there(place)
        if stands.size != filing.size or stands.journey != filing.journey:
            raise RepositoryError(f"{filing.name!r} at {self._url}: it does not keep bytes and dead properties as given")

    def _make_folders(self, folder: Place) -> None:
        for depth in range(1, len(folder) + 1):
            here = folder[:depth]
            if here in self._folders:
                continue
            entry = self._look_at(here)
            if entry is None:
                with suppress(EditConflict):  # somebody else has just made it
                    self._call("MKCOL", here)
            elif not entry.container:
                raise Unfit("folder-name-taken", f"{'/'.join(here)!r} is a document at {self._url}, not a folder")
            self._folders.add(here)

    def _drop(self, place: Place) -> None:
        with suppress(DocumentMissing):
            self._call("DELETE", place)

    # ------------------------------------------------------------------------------------------------- reading

    def find(self, folder: Place, name: str) -> Kept | None:
        entry = self._look_at((*map(kept_name, folder), kept_name(name)))
        return None if entry is None else entry.kept()

    def look(self, folder: Place) -> Iterator[Kept]:
        for entry in self._list(tuple(map(kept_name, folder))):
            if not _reserved(entry.place[-1]):
                yield entry.kept()

    def get(self, id: str) -> Kept:
        return self._there(_place_of(id)).kept()

    def filed_by(self, id: str) -> tuple[str | None, ...]:
        return (self._document(id).journey,)

    def search(self, *, name: str | None = None, text: str | None = None) -> Iterator[Kept]:
        if text:
            raise RepositoryError(f"{self._url}: WebDAV does not look into documents; search by name")
        folders: list[Place] = [()] if name else []
        while folders:
            for entry in self._list(folders.pop()):
                if _reserved(entry.place[-1]):
                    continue
                if entry.container:
                    folders.append(entry.place)
                elif str(name).casefold() in entry.place[-1].casefold():
                    yield entry.kept()

    def fetch(self, id: str, version: int | None, into: Batch) -> Spooled:
        return self._read(id, self._document(id), version, into)

    def examine(self, id: str, version: int, into: Batch) -> tuple[Kept, Spooled]:
        entry = self._document(id)
        return entry.kept(), self._read(id, entry, version, into)

    def _read(self, id: str, entry: Entry, version: int | None, into: Batch) -> Spooled:
        if version not in (None, 1):
            raise DocumentMissing(f"{id!r} at {self._url}: has no version {version}")
        file = into.open()
        try:
            for piece in self._bytes(entry.place):
                file.write(piece)
        except BaseException:
            file.discard()
            raise
        spooled = file.finish()
        if entry.filed.get("sha256") not in (None, spooled.digest):
            raise DocumentChanged(f"{id!r} at {self._url}: other bytes than were filed; somebody changed them")
        return spooled

    def history(self, id: str) -> Iterator[HistoryEvent]:
        self._document(id)
        raise RepositoryError(f"{id!r} at {self._url}: WebDAV keeps no audit trail; the server's own log may")

    # ------------------------------------------------------------------------------------------------- holds and removal

    def holds(self, id: str) -> tuple[Hold, ...]:
        self._no_holds(id)

    def apply_hold(self, id: str, name: str, comment: str = "") -> None:
        self._no_holds(id)

    def lift_hold(self, id: str, name: str) -> None:
        self._no_holds(id)

    def _no_holds(self, id: str) -> NoReturn:
        self._document(id)
        raise RepositoryError(f"{id!r} at {self._url}: WebDAV keeps no legal holds, so nobody can tell; nothing was changed")

    def remove(self, id: str, made_by: Sequence[str | None] | None = None) -> None:
        entry = self._document(id)
        if made_by is not None:
            digest = sha256()
            for piece in self._bytes(entry.place):
                digest.update(piece)
            if list(made_by) != [entry.journey] or entry.filed.get("sha256") not in (None, digest.hexdigest()):
                raise EditConflict(f"{id!r} at {self._url}: somebody has changed it meanwhile; nothing was removed")
        self._call("DELETE", entry.place, {"If-Match": entry.etag} if entry.etag else {})

    def was_removed(self, id: str, since: datetime) -> bool:
        """WebDAV does not tell what was removed from what it does not show us."""
        return False

    def let_stand(self, id: str) -> None:
        self._document(id)

    # ------------------------------------------------------------------------------------------------- speaking with it

    def _look_at(self, place: Place) -> Entry | None:
        try:
            return self._there(place)
        except DocumentMissing:
            return None

    def _document(self, id: str) -> Entry:
        entry = self._there(_place_of(id))
        if entry.container:
            raise DocumentMissing(f"{id!r} at {self._url}: is a folder, no document")
        return entry

    def _there(self, place: Place) -> Entry:
        for entry in list(self._found(place, "0")):  # to its end: else the connection is lost with the rest
            return entry
        raise RepositoryError(f"{'/'.join(place)!r} at {self._url}: the answer tells nothing; is this WebDAV?")

    def _list(self, folder: Place) -> Iterator[Entry]:
        """What is directly in a folder, as the answer comes."""
        for entry in self._found(folder, "1"):
            if entry.place == folder and not entry.container:
                raise DocumentMissing(f"{'/'.join(folder)!r} at {self._url}: is no folder")
            if len(entry.place) == len(folder) + 1 and entry.place[:-1] == folder:
                yield entry

    def _found(self, place: Place, depth: str) -> Iterator[Entry]:
        parser: ElementTree.XMLPullParser[Any] = ElementTree.XMLPullParser(["end"])
        with self._answered("PROPFIND", place, {**_XML, "Depth": depth}, _ASKED.encode()) as answer:
            try:
                unread = 0
                for piece in self._pieces(answer):
                    parser.feed(piece)
                    unread += len(piece)
                    for _, element in cast("Iterator[tuple[str, ElementTree.Element]]", parser.read_events()):
                        if element.tag == f"{_DAV}response":
                            yield self._entry(element)
                            element.clear()
                            unread = 0
                    if unread > MOST_TOLD_BYTES:
                        raise RepositoryError(
                            f"{'/'.join(place)!r} at {self._url}: more than {MOST_TOLD_BYTES:,} bytes about one thing"
                        )
                parser.close()
            except (ElementTree.ParseError, ValueError) as error:
                raise RepositoryError(f"{'/'.join(place)!r} at {self._url}: no WebDAV answer ({error!r})") from error

    def _entry(self, response: ElementTree.Element) -> Entry:
        told: dict[str, ElementTree.Element] = {}
        for stat in response.iter(f"{_DAV}propstat"):
            if " 200 " in f"{stat.findtext(f'{_DAV}status')} ":
                told |= {element.tag: element for element in stat.iterfind(f"{_DAV}prop/*")}
        path = urlsplit(response.findtext(f"{_DAV}href") or "").path
        parts = tuple(unquote(part) for part in path.split("/") if part)
        if parts[: len(self._base)] != self._base:
            raise RepositoryError(
                f"{path!r}: is not below {self._url}, and stands in its answer; mend the address, or the server"
            )
        text = {tag: element.text or "" for tag, element in told.items()}
        modified = text.get(f"{_DAV}getlastmodified")
        kind = told.get(f"{_DAV}resourcetype")
        try:
            filed = json.loads(text.get(_FILED) or "{}")
        except ValueError:
            filed = {}
        return Entry(
            parts[len(self._base) :],
            kind is not None and kind.find(f"{_DAV}collection") is not None,
            int(text.get(f"{_DAV}getcontentlength") or 0),
            text.get(f"{_DAV}getcontenttype", ""),
            parsedate_to_datetime(modified).astimezone(UTC) if modified else None,
            text.get(f"{_DAV}getetag", ""),
            filed if isinstance(filed, dict) else {},
        )

    def _bytes(self, place: Place) -> Iterator[bytes]:
        with self._answered("GET", place, {}, b"") as answer:
            yield from self._pieces(answer)

    def _pieces(self, answer: httpx.Response) -> Iterator[bytes]:
        """A body as it comes, and as long as it moves."""
        pace = Pace(self._url, self._seconds, RepositoryUnreachable)
        pace.moved(0)
        for piece in answer.iter_raw():
            pace.moved(len(piece))
            yield piece

    def _call(self, method: str, place: Place, headers: Mapping[str, str] = {}, content: Iterable[bytes] | bytes = b"") -> None:
        body = bytearray()
        with self._answered(method, place, headers, content) as answer:
            for piece in self._pieces(answer):
                body += piece
                if len(body) > MOST_TOLD_BYTES:
                    raise RepositoryUnreachable(
                        f"{method} {'/'.join(place)!r} at {self._url}: an answer of more than {MOST_TOLD_BYTES:,} bytes"
                    )
        if answer.status_code == 207 and not 0 < body.count(b" 200 ") == body.count(b"HTTP/1."):
            raise RepositoryError(f"{method} {'/'.join(place)!r} at {self._url}: it does not take all of it")

    @contextmanager
    def _answered(
        self, method: str, place: Place, headers: Mapping[str, str], content: Iterable[bytes] | bytes
    ) -> Iterator[httpx.Response]:
        """An answer that says yes, its body still to be read."""
        what = f"{method} {'/'.join(place)!r} at {self._url}"
        try:
            with self._client.stream(method, self._at(place), headers=dict(headers), content=content or None) as answer:
                status = answer.status_code
                if status == 401:
                    raise SignInRefused(f"{what}: the account is not accepted; nothing was changed")
                if status in (404, 409, 410):  # 409: the folder above is not there
                    raise DocumentMissing(f"{what}: is not there")
                if status in (405, 412, 423):
                    raise EditConflict(f"{what}: {status}, somebody else was there first or works on it; nothing was changed")
                if status == 429 or (status >= 500 and status != 507):
                    raise RepositoryUnreachable(f"{what}: {status}, the server is away or too busy; it is safe to try again")
                if not 200 <= status < 300:
                    raise RepositoryError(f"{what}: {status} {answer.reason_phrase}")
                yield answer
        except httpx.TransportError as error:
            raise RepositoryUnreachable(f"{what}: {error!r}; it is safe to try again") from error

    def _at(self, place: Place) -> str:
        return "/".join((self._url, *(quote(part, safe="") for part in place)))


def _place_of(id: str) -> Place:
    """The path that an id is. Anything that could lead elsewhere is no id."""
    place = tuple(id.split("/"))
    if not all(place) or any(_reserved(part) or "\0" in part for part in place):
        raise DocumentMissing(f"{id!r}: there is no such document")
    return place
