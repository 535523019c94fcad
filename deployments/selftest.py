"""Looking at this installation before anything moves: is everything there that a run needs? Nothing is changed anywhere."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

from pydantic import ValidationError

from blocks.errors import ConfigurationError, CountersignError
from blocks.settings import Settings
from deployments import selftest_verdicts as verdicts
from deployments.selftest_verdicts import Line


def check_installation() -> Iterator[Line]:
    """One line for each thing a run needs; a broken one does not hide the next."""
    try:
        settings = Settings()
    except ValidationError as error:
        wrong = "; ".join(f"COUNTERSIGN_{'_'.join(map(str, one['loc'])).upper()}: {one['msg']}" for one in error.errors())
        yield verdicts.failed("settings", wrong, "mend the environment or the .env file, then look again")
        return
    yield verdicts.passed("settings", f"home is {settings.home.absolute()}")
    outbound = yield from _profiles(settings.profiles)
    yield _ledger(settings.ledger)
    yield _spool(settings.spool, settings.spool_floor_bytes)
    yield _sender(settings.sender_socket, outbound)
    yield _prefect()


def _profiles(folder: Path) -> Generator[Line, None, list[str]]:
    """The reviewed files. Returns the partners to whom something goes out."""
    from blocks.profile import load_repositories, partners
    from deployments.checking import sound_file
    from deployments.people import load_people, people_path

    problems: dict[str, str] = {}
    outbound: list[str] = []
    for name in partners(folder):
        try:
            file, _ = sound_file(name, folder)
        except ConfigurationError as error:
            problems[name] = str(error).partition("\n")[0]
        else:
            problems[name] = ""
            outbound += [name] if file.partner.outbound else []
    yield verdicts.profiles(folder, problems)
    try:
        yield verdicts.reviewed("repositories", folder / "repositories.yaml", "", len(load_repositories(folder)))
    except ConfigurationError as error:
        yield verdicts.reviewed("repositories", folder / "repositories.yaml", str(error), 0)
    if outbound or people_path(folder).exists():
        try:
            yield verdicts.reviewed("people", people_path(folder), "", len(load_people(folder).people))
        except ConfigurationError as error:
            yield verdicts.reviewed("people", people_path(folder), str(error), 0)
    return outbound


def _ledger(url: str) -> Line:
    from blocks.ledger import HEAD, Ledger

    try:
        with Ledger(url, timeout_seconds=10) as ledger:
            return verdicts.ledger(ledger.address, ledger.revision(), HEAD, "")
    except CountersignError as error:
        return verdicts.ledger("", None, HEAD, str(error))


def _spool(folder: Path, floor: int) -> Line:
    # The spool itself would be made by its first user; whether it can be is told by the nearest folder that is there.
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(b"written and read back")
            probe.flush()
        return verdicts.spool(folder, shutil.disk_usage(place).free, floor, "")
    except OSError as error:
        return verdicts.spool(folder, 0, floor, error.strerror or str(error))


def _sender(socket: Path, outbound: list[str]) -> Line:
    from blocks.sender import Sender

    there = socket.exists()
    key = problem = ""
    if there:
        try:
            with Sender(socket, timeout_seconds=10) as sender:
                key = sender.health().key
        except CountersignError as error:
            problem = str(error)
    return verdicts.sender(socket, there, key, problem, outbound)


def _prefect() -> Line:
    import httpx
    import prefect
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    url, version, problem = get_current_settings().api.url, "", ""
    if url:
        try:
            with get_client(httpx_settings={"timeout": 10}, sync_client=True) as client:
                version = client.api_version()
        except (httpx.HTTPError, RuntimeError, ValueError) as error:  # what Prefect's client lets through
            problem = str(error) or type(error).__name__
    return verdicts.prefect(url, version, prefect.__version__, problem)
