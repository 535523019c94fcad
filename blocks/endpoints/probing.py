"""Finding out by trying what no server tells of itself: case, long names, its clock, a rename over an existing file.

It writes at the partner, so it is done only where somebody asks for it. Everything it places bears a name that begins with the
stem it was given (``.countersign-...``: no program picks such names up), and is removed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from blocks.endpoints.base import TEMPORARY, EndpointSession
from blocks.errors import EndpointError
from blocks.values import CaseRule, Exists, Missed, Move, Outcome, Outgoing, Personality, Placed, RemoteFile, shown

LONGEST = 255
"""Longer names are not tried: few systems keep more bytes."""
_SECOND = timedelta(seconds=1)


def probe(session: EndpointSession, folder: str, stem: bytes, scratch: Path, now: Callable[[], datetime]) -> Personality:
    """All that can be found out about a server by writing into a folder of it. ``scratch`` is a folder of ours.

    Raises ``EndpointError``, where it may not write there too. What stands there after an error is removed by ``clear`` with the
    same stem, on another session.
    """
    trial = _Probe(session, folder, stem, scratch, now)
    try:
        trial.run()
    except EndpointError:
        with suppress(EndpointError):
            clear(session, folder, stem, trial.ours.values())
        raise
    clear(session, folder, stem, trial.ours.values())
    return replace(
        session.personality,
        one_by_one=bool(session.personality.one_by_one),
        case_rule=trial.case_rule,
        longest_name=trial.longest_name,
        clock_seconds=trial.clock_seconds,
    )


def clear(session: EndpointSession, folder: str, stem: bytes, placed: Iterable[RemoteFile] = ()) -> None:
    """Remove what stands under names with this stem; ``placed`` may be there too, though the server does not list it.

    Raises ``EndpointError`` that names what could not be removed.
    """
    if not stem.startswith(TEMPORARY) or len(stem) < len(TEMPORARY) + 8:
        raise ValueError(f"{stem!r}: that may be the beginning of others' names too")
    standing = {file.name: file for file in placed} | {file.name: file for file in _listed(session, folder, stem)}
    left = [gone for gone in session.remove(standing.values()) if gone.outcome not in (Outcome.DONE, Outcome.VANISHED)]
    if left:
        names = ", ".join(gone.file.shown for gone in left)
        raise EndpointError(
            f"{shown(folder)}: {names} could not be removed again ({left[0].reason}); ask the partner to remove it"
        )


def _listed(session: EndpointSession, folder: str, stem: bytes) -> list[RemoteFile]:
    # Some servers change the case of names.
    return [file for file in session.look(folder) if file.name.lower().startswith(stem.lower())]


class _Probe:
    """One round of trying, in one folder."""

    case_rule: CaseRule | None = None
    longest_name: int | None = None
    clock_seconds: int | None = None

    def __init__(self, session: EndpointSession, folder: str, stem: bytes, scratch: Path, now: Callable[[], datetime]) -> None:
        self._session, self._folder, self._stem, self._scratch, self._now = session, folder, stem, scratch, now
        self.ours: dict[bytes, RemoteFile] = {}
        """What we placed, by the name under which it should stand."""

    def run(self) -> None:
        began = self._now()
        first = self._place(b"a")
        if isinstance(first, Missed):
            raise EndpointError(
                f"{shown(self._folder)}: nothing can be placed there ({first.outcome}: {first.reason}), so nothing was tried"
            )
        self.clock_seconds = _ahead(first.file.modified, began, self._now())
        self.case_rule = self._case_rule(first.file.name)
        # Where names with a dot before are not listed, one that was cut short would be taken for kept.
        if first.file.name.lower() in self._listed():
            self.longest_name = self._longest_name(first.file.name)
        self._rename_over()

    # ----------------------------------------------------------------------------------------- what is tried

    def _case_rule(self, lower: bytes) -> CaseRule | None:
        upper = self._place(b"A")
        if isinstance(upper, Missed) and upper.outcome is not Outcome.EXISTS:
            return None
        listed = [file.name for file in _listed(self._session, self._folder, self._stem)]
        if listed and lower not in listed:
            return CaseRule.CHANGED
        if isinstance(upper, Missed):
            return CaseRule.NOT_TOLD_APART
        if listed and upper.file.name not in listed:
            return CaseRule.CHANGED
        return CaseRule.TOLD_APART if listed else None

    def _longest_name(self, name: bytes) -> int:
        """By halving between a name that is kept and one that is not."""
        kept, refused, wanted = len(name), LONGEST + 1, LONGEST
        for filling in range(ord("f"), ord("z")):  # another letter each time: what was cut short stands in nobody's way
            if refused - kept <= 1:
                break
            if self._bears(name, self._stem.ljust(wanted, bytes([filling]))):
                kept = wanted
            else:
                refused = wanted
            wanted = (kept + refused) // 2
        return kept

    def _bears(self, name: bytes, longer: bytes) -> bool:
        """Whether a file of ours can have a longer name, and be found under exactly that one."""
        file = self.ours[name]
        (there,) = self._session.rename([Move(file, self._folder, longer)])
        if there.outcome is not Outcome.DONE:
            return False
        self.ours[longer] = replace(file, name=longer)
        found = longer.lower() in self._listed()
        (back,) = self._session.rename([Move(self.ours[longer], self._folder, name)])
        if back.outcome is Outcome.DONE:
            del self.ours[longer]
            return found
        # It stands under another name than we gave, cut short as a rule, and will be found by its beginning.
        del self.ours[name]
        if isinstance(again := self._place(name.removeprefix(self._stem)), Missed):
            raise EndpointError(f"{shown(self._folder)}: a name of {len(longer)} bytes was lost ({again.reason})")
        return False

    def _rename_over(self) -> None:
        """The session learns from it whether that replaces in one step."""
        old, new = self._place(b"b"), self._place(b"c")
        if isinstance(old, Placed) and isinstance(new, Placed):
            for moved in self._session.rename([Move(old.file, self._folder, new.file.name)], exists=Exists.REPLACE):
                if moved.outcome is Outcome.DONE:
                    self.ours[new.file.name] = replace(self.ours.pop(old.file.name), name=new.file.name)

    # ----------------------------------------------------------------------------------------- our files

    def _listed(self) -> set[bytes]:
        """What is listed of ours, whatever the server makes of case."""
        return {file.name.lower() for file in _listed(self._session, self._folder, self._stem)}

    def _place(self, ending: bytes) -> Placed | Missed:
        name = self._stem + ending
        data = b"A probe of Countersign's: it may be removed.\n" + ending * (1 + len(self.ours))
        source = self._scratch / hashlib.sha256(name).hexdigest()
        source.write_bytes(data)
        (answer,) = self._session.put([Outgoing(source, name, len(data), hashlib.sha256(data).hexdigest())], self._folder)
        if isinstance(answer, Placed):
            self.ours[name] = answer.file
        return answer


def _ahead(told: datetime | None, began: datetime, ended: datetime) -> int | None:
    """Seconds by which the time of a file is ahead of ours, when it was written between two moments of ours."""
    if told is None:
        return None
    if began - _SECOND <= told <= ended + _SECOND:
        return 0
    return round((told - (began if told < began else ended)).total_seconds())
