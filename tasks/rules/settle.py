"""Settling: which files of a listing belong to a stream, and which of them are finished being written.

A server may list a file while its sender is still writing it, so one look is never enough. All times are ours: a server's
clock, zone and dates decide nothing here.
"""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from blocks.values import FileKind, Notice, RemoteFile, Settle, Sighting, Stage
from tasks.rules.naming import illegal, text

IN_WORK = frozenset({Stage.CLAIMED, Stage.FETCHED, Stage.JUDGED, Stage.FILED, Stage.DUPLICATE, Stage.MARKER, Stage.QUARANTINED})
OVER = frozenset({Stage.LEFT, Stage.CLEARED})
ALL = 2**63


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a look says about a stream's files."""

    ready: tuple[Sighting, ...] = ()
    """To be worked on in this run, oldest first sight first, then by name."""
    later: int = 0
    """How many more are ready, and wait for the next run."""
    waiting: int = 0
    """How many belong to the stream and may still be being written, or lack their done file."""
    earliest: datetime | None = None
    """When the next look could find one of the waiting ready; None if only a done file can tell."""
    excluded: tuple[Sighting, ...] = ()
    """Temporary names of uploading programs. An old one is the rest of a broken upload."""
    illegal: tuple[Sighting, ...] = ()
    """Names that no honest listing holds. Those that fit the stream are also ready: to be refused, once."""
    not_files: tuple[Sighting, ...] = ()
    """Links, folders, devices: never followed, never fetched."""
    markers: Mapping[str, Sighting] = field(default_factory=dict)
    """Done files by the journey of the file they speak for, so that they can be cleared together."""
    lone_markers: tuple[Sighting, ...] = ()
    """Done files whose file is missing."""
    unmarked: tuple[Sighting, ...] = ()
    """Files whose done file is missing."""
    unsettled: tuple[Sighting, ...] = ()
    """Files that are not finished though we saw them first as long ago as was agreed ('abandoned_after')."""
    newest: Sighting | None = None
    """Of all that is ready or waits, what we first saw last."""
    twins: tuple[tuple[bytes, Sighting], ...] = ()
    """Files of the stream whose names differ only in case, or in how their accents are written: two for us, one elsewhere."""
    notices: tuple[Notice, ...] = ()
    """What of all this nobody was told before."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """A file that waits for longer than was agreed: for its other half, or for its writer to finish."""

    sighting: Sighting
    code: str
    reason: str


def ready(
    sightings: Iterable[Sighting], settle: Settle, patterns: tuple[str, ...], now: datetime, most: int = ALL
) -> Readiness:
    """Sort what was seen. What is in work already is always ready to be gone on with; what was left at the source never is.

    Of what is ready, the ``most`` oldest are told, and only they are kept in memory. (Where done files speak for others, so is
    everything whose done file may still come.)
    """
    go = _Oldest(most)
    not_yet = _NotYet(settle, now)
    names: dict[str, bytes] = {}
    twins: list[tuple[bytes, Sighting]] = []
    excluded: list[Sighting] = []
    bad: list[Sighting] = []
    not_files: list[Sighting] = []
    candidates: list[Sighting] = []
    markers: dict[str, Sighting] = {}
    unsettled: list[Sighting] = []
    announced: set[str] = set()
    """Names of the done files of all files that we have begun to work on or are through with, and of other streams' files."""
    speaks: dict[str, set[str]] = {}
    """Journeys of the files that stand there, other streams' too, by the name of their done file."""
    for sighting in sightings:
        file, name = sighting.file, text(sighting.file.name)
        fitting, temporary, marking = _fits(name, patterns), _is_temporary(file, settle), _is_marker(name, settle)
        if settle.done_file is not None:
            if sighting.stage not in OVER and file.kind is FileKind.FILE and not (temporary or marking):
                speaks.setdefault(_marker_of(name, settle), set()).add(sighting.journey)
            if sighting.stage is not Stage.SIGHTED or not fitting:
                announced.add(_marker_of(name, settle))
        if sighting.stage is not Stage.CLEARED and file.kind is FileKind.FILE and fitting and not (temporary or marking):
            twin = names.setdefault(folded(name), sighting.file.name)
            if twin != sighting.file.name:
                twins.append((twin, sighting))
        if sighting.stage in OVER:
            continue
        if sighting.stage in IN_WORK:
            go.add(sighting)
        elif file.kind is not FileKind.FILE:
            not_files.append(sighting)
        elif marking:
            markers[name] = sighting
        elif temporary:
            excluded.append(sighting)
        else:
            if illegal(file.name) is not None:
                bad.append(sighting)
            if not fitting:
                continue
            if settle.done_file is not None:
                candidates.append(sighting)  # its marker may be listed after it
            elif _settled(sighting, settle, now, False):
                go.add(sighting)
            else:
                not_yet.add(sighting, False)
                if _is_never_finished(sighting, settle, now):
                    unsettled.append(sighting)

    spoken_for: dict[str, Sighting] = {}
    unmarked: list[Sighting] = []
    for sighting in candidates:
        marker = markers.get(_marker_of(text(sighting.file.name), settle))
        # A marker that stood there before this file did, or before it last grew, may speak for an earlier file of the same name:
        # then the file must be quiet as well, as if there were no marker.
        if marker is not None and (marker.unchanged_since >= sighting.unchanged_since or _quiet(sighting, settle)):
            spoken_for[sighting.journey] = marker
        marked = sighting.journey in spoken_for
        if _settled(sighting, settle, now, marked):
            go.add(sighting)
        else:
            not_yet.add(sighting, marked)
            if marker is None:
                unmarked.append(sighting)
            elif _is_never_finished(sighting, settle, now):
                unsettled.append(sighting)

    chosen = go.chosen()
    for sighting in chosen:  # what is in work already keeps its marker, so that both are cleared together
        marker = markers.get(_marker_of(text(sighting.file.name), settle))
        if marker is not None and sighting.stage in IN_WORK:
            spoken_for[sighting.journey] = marker
    # A done file that speaks for others too (it tells the stem only) stays until they are worked on as well.
    here = {sighting.journey for sighting in chosen}
    going = {journey: marker for journey, marker in spoken_for.items() if speaks.get(text(marker.file.name), set()) <= here}
    return Readiness(
        ready=chosen,
        later=go.count - len(chosen),
        waiting=not_yet.count,
        earliest=not_yet.earliest,
        excluded=tuple(excluded),
        illegal=tuple(bad),
        not_files=tuple(not_files),
        markers=going,
        lone_markers=tuple(
            marker
            for name, marker in markers.items()
            if name not in speaks and name not in announced and _may_be_ours(name, settle, patterns)
        ),
        unmarked=tuple(unmarked),
        unsettled=tuple(unsettled),
        newest=max((one for one in (go.newest, not_yet.newest) if one), key=lambda one: one.first_seen, default=None),
        twins=tuple(twins),
    )


def overdue(readiness: Readiness, settle: Settle, now: datetime, given_back: Iterable[Sighting] = ()) -> tuple[Overdue, ...]:
    """Files and done files whose other half has not come in the time that was agreed, and files that are never finished; oldest first.

    All is counted from when we first saw them. ``given_back``: those that were still being written whenever they were fetched.
    """
    hours = f"{settle.done_wait.total_seconds() / 3600:g} h"
    halves = [
        *(
            Overdue(s, "done-file-missing", f"{s.file.shown} is there, and its done file has not come within {hours}")
            for s in readiness.unmarked
        ),
        *(
            Overdue(s, "file-missing", f"the done file {s.file.shown} is there, and its file has not come within {hours}")
            for s in readiness.lone_markers
        ),
    ]
    unfinished = [
        Overdue(
            s,
            "never-settles",
            f"{s.file.shown} has stood there since {s.first_seen:%Y-%m-%d %H:%M} UTC and is still written to",
        )
        for s in {s.journey: s for s in (*readiness.unsettled, *given_back)}.values()
    ]
    late = [half for half in halves if now - half.sighting.first_seen >= settle.done_wait]
    return tuple(sorted([*late, *unfinished], key=lambda one: (one.sighting.first_seen, one.sighting.file.name)))


class _Oldest:
    """The oldest of many, of which few are held."""

    def __init__(self, most: int) -> None:
        self.count = 0
        self.newest: Sighting | None = None
        self._most, self._kept = most, list[Sighting]()

    def add(self, sighting: Sighting) -> None:
        self.count += 1
        self.newest = _newer(self.newest, sighting)
        self._kept.append(sighting)
        if len(self._kept) >= 2 * self._most:
            self._kept = list(self.chosen())

    def chosen(self) -> tuple[Sighting, ...]:
        return tuple(sorted(self._kept, key=lambda sighting: (sighting.first_seen, sighting.file.name))[: self._most])


class _NotYet:
    """How many are not settled, and when the first of them may be."""

    def __init__(self, settle: Settle, now: datetime) -> None:
        self.count = 0
        self.earliest: datetime | None = None
        self.newest: Sighting | None = None
        self._settle, self._now = settle, now

    def add(self, sighting: Sighting, marked: bool) -> None:
        self.count += 1
        self.newest = _newer(self.newest, sighting)
        at = _earliest(sighting, self._settle, self._now, marked)
        if at is not None and (self.earliest is None or at < self.earliest):
            self.earliest = at


def _newer(one: Sighting | None, other: Sighting) -> Sighting:
    return other if one is None or other.first_seen > one.first_seen else one


def folded(name: str) -> str:
    """A name as the least careful of systems compares it: without case, and with accents written in one way.

    >>> folded("Caf\u00e9.CSV") == folded("cafe\u0301.csv")
    True
    """
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def fits(name: bytes, patterns: tuple[str, ...]) -> bool:
    """True for a name that one of the stream's patterns means."""
    return _fits(text(name), patterns)


def belongs(file: RemoteFile, settle: Settle, patterns: tuple[str, ...]) -> bool:
    """True for a file that the stream would pick up once it is finished."""
    name = text(file.name)
    return (
        file.kind is FileKind.FILE
        and _fits(name, patterns)
        and not _is_temporary(file, settle)
        and not _is_marker(name, settle)
    )


def _settled(sighting: Sighting, settle: Settle, now: datetime, marked: bool) -> bool:
    if now - sighting.first_seen < settle.minimum_age:
        return False
    if settle.done_file is not None:
        return marked
    return _quiet(sighting, settle)


def _is_never_finished(sighting: Sighting, settle: Settle, now: datetime) -> bool:
    return now - sighting.first_seen >= settle.minimum_age + settle.abandoned_after


def _quiet(sighting: Sighting, settle: Settle) -> bool:
    return sighting.looks >= 2 and sighting.last_seen - sighting.unchanged_since >= settle.quiet


def _earliest(sighting: Sighting, settle: Settle, now: datetime, marked: bool) -> datetime | None:
    of_age = sighting.first_seen + settle.minimum_age
    if settle.done_file is not None:
        return max(now, of_age) if marked else None
    return max(now, of_age, sighting.unchanged_since + settle.quiet)


@lru_cache(maxsize=256)
def _pattern(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns) or r"(?!)")


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return _pattern(patterns).match(name) is not None


def _is_temporary(file: RemoteFile, settle: Settle) -> bool:
    # "../x" begins with a dot and is no temporary name: it is to be refused, loudly.
    return _fits(text(file.name), settle.exclude) and illegal(file.name) is None


def _marker_of(name: str, settle: Settle) -> str:
    """The name of the done file that speaks for a file; "" where the stream has none."""
    if settle.done_file is None:
        return ""
    stem = name.rpartition(".")[0] or name
    return settle.done_file.replace("{name}", name).replace("{stem}", stem)


def markers_of(sightings: Iterable[Sighting], settle: Settle) -> dict[str, RemoteFile]:
    """By journey, the done file that stands there for it, whatever has become of the journey."""
    if settle.done_file is None:
        return {}
    there = list(sightings)
    markers = {(one.file.folder, text(one.file.name)): one.file for one in there if one.file.kind is FileKind.FILE}
    wanted = {
        one.journey: (one.file.folder, _marker_of(text(one.file.name), settle))
        for one in there
        if _may_be_spoken_for(one, settle)
    }
    return {journey: markers[place] for journey, place in wanted.items() if place in markers}


@lru_cache(maxsize=256)
def _marker_shape(done_file: str) -> re.Pattern[str]:
    shape = re.escape(done_file)
    for part in ("name", "stem"):
        shape = shape.replace(rf"\{{{part}\}}", f"(?P<{part}>.+)", 1).replace(rf"\{{{part}\}}", f"(?P={part})")
    return re.compile(shape, re.DOTALL)


def _is_marker(name: str, settle: Settle) -> bool:
    return settle.done_file is not None and _marker_shape(settle.done_file).fullmatch(name) is not None


def _may_be_spoken_for(sighting: Sighting, settle: Settle) -> bool:
    file = sighting.file
    return file.kind is FileKind.FILE and not _is_temporary(file, settle) and not _is_marker(text(file.name), settle)


def _may_be_ours(marker: str, settle: Settle, patterns: tuple[str, ...]) -> bool:
    """True if a file of the stream's could bear the name that a done file speaks for; another stream may look in the same folder."""
    found = _marker_shape(settle.done_file or "").fullmatch(marker)
    told = found.groupdict() if found else {}
    if "name" in told:
        return _fits(told["name"], patterns)
    # Of the file's name only the stem is told. Where a pattern ends in an extension that is written out, it tells of the stem as well.
    stems = tuple(
        stem if stem and not set(end) & set("*?[]") else "*" for stem, _, end in (p.rpartition(".") for p in patterns)
    )
    return _fits(told.get("stem", ""), stems)
