"""What the facts about an installation mean: one line each, and what to do. Values in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

MIB = 1024 * 1024


class State(StrEnum):
    PASS = "pass"  # noqa: S105 - a word on the screen
    FAIL = "fail"
    ABSENT = "not configured"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at."""

    what: str
    state: State
    told: str
    do: str = ""
    """What to do about it; "" where there is nothing to do."""


def passed(what: str, told: str) -> Line:
    return Line(what, State.PASS, told)


def failed(what: str, told: str, do: str) -> Line:
    return Line(what, State.FAIL, told, do)


def profiles(folder: Path, problems: Mapping[str, str]) -> Line:
    """``problems``: every partner's file, and what is wrong with it; "" if nothing is."""
    broken = {name: told for name, told in problems.items() if told}
    if broken:
        name, told = next(iter(broken.items()))
        return failed(
            "partners",
            f"{len(broken)} of {len(problems)} files in {folder} are not in order: {told}",
            f"countersign partner check {name} --offline",
        )
    if not problems:
        return Line("partners", State.ABSENT, f"there is no partner's file in {folder}", "countersign partner new NAME")
    return passed("partners", f"{len(problems)} in order in {folder}: {', '.join(problems)}")


def reviewed(what: str, path: Path, problem: str, count: int) -> Line:
    """Another reviewed file; ``problem`` is None's word "" where it is in order."""
    if problem:
        return failed(what, problem, f"mend {path}")
    return passed(what, f"{count} in {path}")


def ledger(address: str, revision: str | None, head: str, problem: str) -> Line:
    """``revision``: of the schema that is there; None if there is none."""
    if problem:
        return failed("ledger", problem, "see COUNTERSIGN_LEDGER_URL and COUNTERSIGN_HOME, and whether the database runs")
    if revision is None:
        told = f"{address}: there is none yet"
        return Line("ledger", State.ABSENT, told, "nothing: the first run or countersign ledger command makes it")
    if revision < head:
        told = f"{address}: its schema {revision} is older than this version's {head}"
        return failed("ledger", told, "nothing was lost: 'countersign ledger verify', as any run, brings it up to date")
    if revision > head:
        told = f"{address}: its schema {revision} was made by a newer version than this one ({head})"
        return failed("ledger", told, "upgrade Countersign here")
    return passed("ledger", f"{address}, schema {revision}")


def spool(folder: Path, free: int, floor: int, problem: str) -> Line:
    if problem:
        return failed("spool", f"{folder}: cannot be written ({problem})", "let this user write there, or set COUNTERSIGN_HOME")
    room = f"{folder}: {free // MIB} MiB free, the floor is {floor // MIB} MiB"
    if free < floor:
        do = (
            "free disk space, 'countersign spool collect', or lower COUNTERSIGN_SPOOL_FLOOR_BYTES: nothing is fetched like this"
        )
        return failed("spool", room, do)
    return passed("spool", room)


def sender(socket: Path, there: bool, key: str, problem: str, outbound: Iterable[str]) -> Line:
    """``outbound``: the partners with streams that need one."""
    needed = sorted(outbound)
    if key:
        return passed("sender", f"answers at {socket}, seals with key {key}")
    if there:
        return failed("sender", problem, "is it running, and may this user reach its socket (--worker-uid)?")
    if needed:
        told = f"there is none at {socket}, and what goes out to {', '.join(needed)} needs one"
        return failed("sender", told, "start 'countersign sender', or set COUNTERSIGN_SENDER_SOCKET")
    return Line("sender", State.ABSENT, f"there is none at {socket}", "nothing, as long as nothing goes out")


def prefect(url: str | None, version: str, ours: str, problem: str) -> Line:
    if not url:
        return Line(
            "prefect", State.ABSENT, "PREFECT_API_URL is not set", "set it to the server's address: http://HOST:4200/api"
        )
    if problem:
        return failed(
            "prefect", f"{url}: {problem}", "is the server running, and is PREFECT_API_URL its address (ending in /api)?"
        )
    if version != ours:
        told = f"{url} answers; it is version {version}, and {ours} is installed here"
        same = version.split(".")[:2] == ours.split(".")[:2]
        return passed("prefect", told) if same else failed("prefect", told, "install the same version on both sides")
    return passed("prefect", f"{url} answers, version {version}")
