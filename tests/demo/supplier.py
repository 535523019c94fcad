"""The supplier's side of a refused file: a bad price list, the note that comes back, and pictures of it.

``python -m tests.demo.supplier FOLDER`` leaves the bad file and its notes in ``FOLDER`` for whoever wants to mend it from the note
alone; ``--mended FILE`` says what we make of the mended one; ``--pictures FOLDER`` takes those of ``docs/suppliers.md``.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blocks.settings import settings
from tests.browser import Chromium
from tests.samples.making import HEADER, csv_text, prices
from tests.sender.thread import sender_thread
from tests.tasks.dock import Dock, dock_at

NAME = "prices_autumn_2026-11-20.csv"


def bad_price_list() -> bytes:
    """Twelve good rows, and what goes wrong when a price list comes out of a spreadsheet."""
    rows = [list(row) for row in prices(random.Random(6), 19)]
    rows[2][3] = "1.234,50"
    rows[4][4] = "01.12.2026"
    rows[7][2] = ""
    rows[8][0] = "GT 0815 B"
    rows[10][3] = "-4.20"
    rows[12][3] = "=D2*1.1"
    rows[14] = list(rows[13])
    return csv_text(HEADER, rows)


@contextmanager
def exchange(language: str) -> Iterator[Dock]:
    """A partner's folder and our intake, with a sender."""
    with tempfile.TemporaryDirectory(prefix="supplier-") as folder, dock_at(Path(folder) / "h") as dock:
        (dock.home / "partner/in/notes").mkdir(parents=True)
        dock.agree(
            naming=r"prices_[a-z]+_\d{4}-\d{2}-\d{2}\.csv",
            notes={"folder": "/in/notes", "language": language, "good_name": NAME},
        )
        with sender_thread(settings().sender_socket, dock.home / "state", profiles=dock.profiles, spool=settings().spool):
            yield dock


def notes(folder: Path, language: str) -> list[Path]:
    """Have the bad file refused; it and its notes in a folder of theirs."""
    (place := folder / language).mkdir(parents=True, exist_ok=True)
    with exchange(language) as dock:
        shutil.copy(dock.leave(NAME, bad_price_list()), place)
        assert dock.run() == {NAME: "quarantined"}
        return [Path(shutil.copy(path, place)) for path in sorted((dock.home / "partner/in/notes").iterdir())]


def verdict(mended: Path) -> str:
    """What becomes of a file under the same name."""
    with exchange("en") as dock:
        dock.leave(NAME, mended.read_bytes())
        return str(dock.run()[NAME])


def take(folder: Path) -> None:
    """The note as a supplier sees it: in English on a desk, in German on a telephone."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="notes-") as made, Chromium.running() as chromium:
        for language, width, name in (("en", 1280, "note"), ("de", 390, "note-narrow")):
            page = next(path for path in notes(Path(made), language) if path.suffix == ".html")
            chromium.thread.submit(_picture, chromium, page, width, folder / f"{name}.png").result()


def _picture(chromium: Chromium, page: Path, width: int, picture: Path) -> None:
    window = chromium.session.new_page()
    window.set_viewport_size({"width": width, "height": 800})
    window.goto(page.as_uri())
    wide = window.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, f"{picture.name}: {wide} pixels are wider than the screen"
    window.screenshot(path=picture, full_page=width > 600)
    window.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="where the bad file and its notes go")
    parser.add_argument("--mended", type=Path, help="a mended file")
    parser.add_argument("--pictures", type=Path, help="where pictures of the note go")
    given = parser.parse_args()
    if given.folder:
        for language in ("en", "de"):
            notes(given.folder, language)
    if given.mended:
        print(verdict(given.mended))
    if given.pictures:
        take(given.pictures)


if __name__ == "__main__":
    main()
