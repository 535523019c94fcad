"""``make demo``: a partner leaves about 40 files, and you watch what becomes of them. ``--check`` compares every byte instead."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from blocks.values import shown
from tests.demo.stage import ROOT, Stage, stage
from tests.samples import Sample, drop

STREAMS = ("price-lists", "manifests", "invoices", "images")
console = Console(highlight=False, markup=False)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--check", action="store_true", help="unattended; exit 0 only if every file is where it must be")
    parser.add_argument("--screenshots", type=Path, help="take the pictures of the documentation into this folder, then end")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    state = ROOT / ".countersign" / ("demo-check" if given.check else "demo-pictures" if given.screenshots else "demo")
    with alone(state), contextlib.suppress(KeyboardInterrupt):
        sys.exit(play(state, given.check, given.screenshots))


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Each demo begins afresh; a second one at the same time in the same folder is refused."""
    state.parent.mkdir(exist_ok=True)
    with state.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"A demo is running in {state} already; end it with Ctrl-C first.")
        shutil.rmtree(state, ignore_errors=True)
        yield


def play(state: Path, check: bool, screenshots: Path | None) -> int:
    console.print(
        "Starting the partner's servers, Extended ECM, File 360 and an ERP (stand-ins), Prefect, a worker and the sender; about half a "
        "minute ...\n"
        "(Here the sender runs as the worker's own user. In production it has one of its own, so that workers cannot read its secrets.)",
        soft_wrap=True,
    )
    with stage(state) as here:
        samples = drop(here.drop)
        console.print(f"\nACME left {len(samples)} files on its SFTP server. Bringing them in, stream by stream:\n")
        with growing(here.drop / "out/price-lists/prices_still-growing_2026-11-20.csv"):
            for name in STREAMS:
                here.countersign("run", "intake", "--partner", "acme", "--stream", name, check=False)
        problems = verify(here, samples)
        tell(here, samples)
        from tests.demo.handing import hand_over, unkept

        console.print("The ERP has made two invoices, which are kept; then it asks for one of them, and is told the same id:\n")
        hand_over(here)
        problems += unkept(here)
        if screenshots:
            from tests.demo.screenshots import take

            take(here, screenshots)
            return 0
        if check:
            from tests.demo.releasing import unreleased

            lost = unreleased(here, samples)
            console.print(
                f"\nrelease: {'NOT ' if lost else ''}signed through the API, at the partner byte for byte, and certified"
            )
            problems += lost
            for problem in problems:
                console.print(f"WRONG: {problem}")
            console.print(f"demo-check: {len(samples)} files, {len(problems)} not where they must be")
            return 1 if problems else 0
        invite(here)
        from tests.demo.releasing import sign_off

        sign_off(here, console)
    return 0


@contextmanager
def growing(path: Path) -> Iterator[None]:
    """A file that its sender keeps writing while we look: it must never be picked up."""
    stop = threading.Event()

    def write() -> None:
        with path.open("a") as file:
            file.write("sku,description,currency,price,valid_from\n")
            number = 0
            while not stop.wait(0.3):
                number += 1
                file.write(f"{number:08d},Washer,EUR,1.00,2026-12-01\n")
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


def verify(here: Stage, samples: list[Sample]) -> list[str]:
    """Is every file where it must be, byte for byte? Returns what is not."""
    from tests.demo.verifying import misplaced

    return misplaced(here, samples)


def tell(here: Stage, samples: list[Sample]) -> None:
    """What happened, from the ledger."""
    from tasks.connections import ledger
    from tests.demo.verifying import documents

    found = documents()
    reasons = {case.journey: case.reason or "" for case in ledger().cases()}
    console.print()
    for row in sorted(found, key=lambda row: (str(row.stream), row.journey in reasons, str(row.name))):
        steps = [entry.kind for entry in ledger().journey(row.journey)]
        became = next((step for step in ("quarantined", "duplicate", "filed") if step in steps), steps[-1])
        reason = reasons.get(row.journey, "").partition(" Rule: ")[0]
        console.print(f"  {row.stream:<12} {became:<12} {row.name:<40} {reason}".rstrip(), soft_wrap=True)
    left = [sample.name for sample in samples if sample.outcome == "not picked up"]
    console.print(
        f"\nNot picked up: {', '.join(shown(name) for name in left)}, and the file that is still growing.\n", soft_wrap=True
    )


def invite(here: Stage) -> None:
    from tests.demo.releasing import ORDER

    ecm, team, sftp, ftps, erp = (here.services[name] for name in ("extended-ecm", "file360", "sftp", "ftps", "business"))
    home = f"COUNTERSIGN_HOME={here.state / 'home'} COUNTERSIGN_PROFILES={here.state / 'profiles'}"
    console.print(
        f"Look at:\n"
        f"  Prefect         {here.prefect_url}/runs                (runs, their states and tables of files)\n"
        f"  the partner     {sftp['url']}  user {sftp['user']}, password {sftp['password']}   (what it has for us)\n"
        f"                  {ftps['url']}  user {ftps['delivery_user']}, password {ftps['delivery_password']}   (what is for it)\n"
        f"                  {here.catalogue}   (the same, as a folder: your release appears there)\n"
        f"                  {here.notes}   (our notes on its refused price lists: what to mend, row by row)\n"
        f"  Extended ECM    {ecm['url']}  user {ecm['user']}, password {ecm['password']} (the REST interface of a stand-in)\n"
        f"  File 360        {team['url']}  client {team['user']}, secret {team['password']} (the same; ACME's images are there)\n"
        f"  the ERP         {erp['url']}/api/filed-invoices  user {erp['user']}, password {erp['password']} (what it was told)\n"
        f"  ledger          {home} {Path(sys.executable).parent}/countersign ledger search --partner acme\n"
        f"  quarantine      {home} {Path(sys.executable).parent}/countersign quarantine list\n"
        f"  sign-offs       {home} {Path(sys.executable).parent}/countersign signoff show {ORDER}\n"
        f"\nDrop files into {here.drop}/out/<stream> and run an intake from the Prefect page. Ctrl-C ends everything.",
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
