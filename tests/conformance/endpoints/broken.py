"""Ways to break an endpoint, and which check of the suite catches each. They lie over the verbs of any session class."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_type_hints

from blocks.endpoints.base import PART, Endpoint, EndpointSession
from blocks.errors import EndpointError
from blocks.spool import Batch, SpoolFile
from blocks.values import Exists, Fetched, FileKind, Missed, Move, Moved, Outcome, Outgoing, Placed, Proof, RemoteFile

if TYPE_CHECKING:
    from blocks.endpoints.folder import FolderSession as _Session  # any whose verbs are there to be called
else:
    _Session = EndpointSession


def broken(good: Endpoint, breakage: type[EndpointSession]) -> Endpoint:
    """The same endpoint, of a class whose sessions are broken in one way."""
    made = type(f"{breakage.__name__}Session", (breakage, get_type_hints(type(good).session)["return"]), {})
    kind: type[Endpoint] = type(
        f"{breakage.__name__}{type(good).__name__}",
        (type(good),),
        {"__module__": __name__, "_block_type_slug": f"broken-{breakage.__name__.lower()}", "session": lambda self: made(self)},
    )
    return kind.model_validate(good.model_dump())


class Lossy(_Session):
    """Names are text to it."""

    def look(self, folder: str) -> Iterator[RemoteFile]:
        for file in super().look(folder):
            yield replace(file, name=file.name.decode(errors="replace").encode())


class Hoarding(_Session):
    """Holds a whole listing before it tells of it."""

    def look(self, folder: str) -> Iterator[RemoteFile]:
        yield from list(super().look(folder))


class Silent(_Session):
    """Takes a folder that is missing for an empty one."""

    def look(self, folder: str) -> Iterator[RemoteFile]:
        with suppress(EndpointError):
            yield from super().look(folder)


class Blind(_Session):
    """Takes everything for a file."""

    def look(self, folder: str) -> Iterator[RemoteFile]:
        for file in super().look(folder):
            yield replace(file, kind=FileKind.FILE)


class Trusting(_Session):
    """Fetches what stands there now, as if it were what was listed."""

    def fetch(self, files: Iterable[RemoteFile], into: Batch) -> Iterator[Fetched | Missed]:
        for answer in list(super().fetch(files, into)):
            if isinstance(answer, Missed) and answer.outcome is Outcome.CHANGED:
                now = [file for file in self.look(answer.file.folder) if file.name == answer.file.name]
                for again in list(super().fetch(now, into)):
                    yield replace(again, file=answer.file)
            else:
                yield answer


class Lenient(_Session):
    """Reads back what stands there now, as if it were what was put."""

    def read_back(self, files: Iterable[RemoteFile], into: Batch) -> Iterator[Fetched | Missed]:
        for answer in list(super().read_back(files, into)):
            now = [file for file in self.look(answer.file.folder) if file.name == answer.file.name]
            again = list(super().read_back(now, into)) if isinstance(answer, Missed) else []
            yield from (replace(one, file=answer.file) for one in again or [answer])


class Forgetting(_Session):
    """Begins every interrupted download anew."""

    def fetch(self, files: Iterable[RemoteFile], into: Batch) -> Iterator[Fetched | Missed]:
        return super().fetch(files, _over(into, lambda key: into.open()))


class Credulous(_Session):
    """Goes on with an interrupted download without comparing what it has."""

    def fetch(self, files: Iterable[RemoteFile], into: Batch) -> Iterator[Fetched | Missed]:
        def believing(key: str | None) -> SpoolFile:
            sink = into.open(key)
            sink.head = sink.tail = lambda count: b""  # type: ignore[method-assign]
            return sink

        return super().fetch(files, _over(into, believing))


class Overwriting(_Session):
    """Replaces what has the name, agreed or not."""

    def put(self, files: Sequence[Outgoing], folder: str, *, exists: Exists = Exists.REFUSE) -> Iterator[Placed | Missed]:
        return super().put(files, folder, exists=Exists.REPLACE)


class Direct(_Session):
    """Lets a first half stand under the final name until the whole is there."""

    def put(self, files: Sequence[Outgoing], folder: str, *, exists: Exists = Exists.REFUSE) -> Iterator[Placed | Missed]:
        halves = [_half(file) for file in files]
        first = list(super().put(halves, folder, exists=exists))
        taken = {answer.file.name for answer in first if isinstance(answer, Missed)}
        yield from super().put([file for file in files if file.name not in taken], folder, exists=Exists.REPLACE)


class Wasteful(_Session):
    """Begins every interrupted upload anew."""

    def put(self, files: Sequence[Outgoing], folder: str, *, exists: Exists = Exists.REFUSE) -> Iterator[Placed | Missed]:
        halves = {file.name + PART for file in files}
        list(super().remove([file for file in self.look(folder) if file.name in halves]))
        yield from super().put(files, folder, exists=exists)


class Boasting(_Session):
    """Calls everything placed that was to be placed."""

    def put(self, files: Sequence[Outgoing], folder: str, *, exists: Exists = Exists.REFUSE) -> Iterator[Placed | Missed]:
        for answer in super().put(files, folder, exists=exists):
            yield Placed(answer.file, "", Proof.SIZE_ONLY) if isinstance(answer, Missed) else answer


class Littering(_Session):
    """Leaves a temporary file behind."""

    def put(self, files: Sequence[Outgoing], folder: str, *, exists: Exists = Exists.REFUSE) -> Iterator[Placed | Missed]:
        yield from super().put(files, folder, exists=exists)
        for _ in super().put([replace(files[0], name=b".countersign-left")], folder):
            pass


class Bending(_Session):
    """Makes a usable name of one that no file can have."""

    def put(self, files: Sequence[Outgoing], folder: str, *, exists: Exists = Exists.REFUSE) -> Iterator[Placed | Missed]:
        bent = [replace(file, name=file.name.rpartition(b"/")[2].strip(b".\0") or b"unnamed") for file in files]
        return super().put(bent, folder, exists=exists)


class Clearing(_Session):
    """Removes what has the name, whether or not it is what we saw."""

    def remove(self, files: Iterable[RemoteFile]) -> Iterator[Moved]:
        for answer in list(super().remove(files)):
            if answer.outcome is Outcome.CHANGED:
                now = [file for file in self.look(answer.file.folder) if file.name == answer.file.name]
                yield from (replace(gone, file=answer.file) for gone in list(super().remove(now)))
            else:
                yield answer


class Pushing(_Session):
    """Moves over what stands in the way."""

    def rename(self, moves: Iterable[Move], *, exists: Exists = Exists.REFUSE) -> Iterator[Moved]:
        return super().rename(moves, exists=Exists.REPLACE)


BREAKAGES: Mapping[type[EndpointSession], str] = {
    Lossy: "names_are_listed_byte_for_byte",
    Hoarding: "a_long_listing_takes_little_memory",
    Silent: "a_missing_folder_is_an_error",
    Blind: "kinds_are_told_and_only_files_are_touched",
    Trusting: "vanished_and_changed_files_are_outcomes_beside_the_others",
    Lenient: "what_was_put_is_read_back_as_it_stands",
    Forgetting: "a_broken_fetch_goes_on_where_it_stopped",
    Credulous: "other_bytes_of_the_same_size_and_time_are_not_mixed",
    Overwriting: "a_taken_name_is_never_overwritten_unless_agreed",
    Direct: "a_reader_never_sees_half_a_file",
    Wasteful: "a_broken_upload_under_a_known_name_goes_on_where_it_stopped",
    Boasting: "a_source_that_is_not_what_its_digest_says_is_not_placed",
    Littering: "files_are_placed_whole_under_their_names",
    Bending: "illegal_names_are_never_used",
    Clearing: "only_what_we_saw_is_moved_or_removed",
    Pushing: "a_move_never_overwrites_unless_agreed",
}
"""A way to break a session -> the check that catches it, over every protocol."""


def _over(batch: Batch, opened: Callable[[str | None], SpoolFile]) -> Batch:
    """The same batch, whose files are opened in another way."""
    other = copy(batch)
    other.open = opened  # type: ignore[assignment, method-assign]
    return other


def _half(file: Outgoing) -> Outgoing:
    try:
        data = file.source.read_bytes()[: file.size // 2]
    except OSError:
        return file
    digest = hashlib.sha256(data).hexdigest()
    source = Path(f"{file.source}-half")
    source.write_bytes(data)
    return Outgoing(source, file.name, len(data), digest)
