"""The supplier's side of a refused file: a bad price list, the note that comes back, and pictures of it.

``python -m tests.demo.supplier FOLDER`` sends a bad file for each language over SFTP and leaves it, with the notes that came back, in
``FOLDER`` for whoever wants to mend it from the note alone; ``--language de --mended FILE`` sends the bad one and then the mended one
under the same name, and says what came of it; ``--pictures FOLDER`` takes those of ``docs/suppliers.md``.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocks.settings import settings
from tests.browser import Chromium
from tests.samples.making import HEADER, csv_text, prices
from tests.sender.thread import sender_thread
from tests.servers import need
from tests.servers.openssh import OpenSsh, openssh_server
from tests.tasks.dock import Dock, dock_at

NAME = "prices_autumn_2026-11-20.csv"
_IN_ENGLISH: dict[str, Any] = {}
_IN_GERMAN: dict[str, Any] = {"delimiter": ";", "decimal": ","}


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


def bad_german_price_list() -> bytes:
    """The same from a German spreadsheet, with other mistakes: ten good rows of seventeen, and one of them is cut in two."""
    rows = [[*row[:3], row.price.replace(".", ","), row.valid_from] for row in prices(random.Random(7), 17)]
    rows[1][3] = rows[1][3].replace(",", ".")
    rows[3][2] = "€"
    rows[5][0] = "4,2E+06"
    rows[6][3] = ""
    rows[9][4] = "2027-02-30"
    rows[11][2] = " EUR"
    rows[13][1] = "Rohr 3/4"
    text = csv_text(HEADER, rows, ";")
    return text.replace(b"Rohr 3/4", b"Rohr; 3/4")


BAD = {"en": (bad_price_list, _IN_ENGLISH), "de": (bad_german_price_list, _IN_GERMAN)}
"""Language -> the file that is sent, and what the stream agreed about tables."""


@dataclass
class Exchange:
    """A supplier's account on an OpenSSH server, and our intake behind it."""

    dock: Dock
    server: OpenSsh

    def send(self, content: Path) -> None:
        """The supplier sends a file, as a supplier does."""
        self._sftp(f"put {content} out/{NAME}")

    def collect(self, to: Path) -> list[Path]:
        """The supplier fetches the notes that are there, and removes them."""
        before = set(to.iterdir())
        self._sftp(f"-get notes/* {to}/", "-rm notes/*")
        return sorted(set(to.iterdir()) - before)

    def _sftp(self, *commands: str) -> None:
        server, told = self.server, [f"cd {self.server.root}", *commands, ""]
        call = [need("sftp", "openssh-client"), "-q", "-b", "-", "-i", str(server.private_key), "-P", str(server.port)]
        # It is this machine's own server, made a moment ago.
        call += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", f"{server.username}@{server.host}"]
        subprocess.run(call, input="\n".join(told), text=True, check=True, timeout=120, capture_output=True)


@contextmanager
def exchange(language: str) -> Iterator[Exchange]:
    """A server of the partner's and our intake, with a sender."""
    with (
        tempfile.TemporaryDirectory(prefix="supplier-") as folder,
        openssh_server(Path(folder) / "server") as server,
        dock_at(Path(folder) / "h") as dock,
    ):
        for place in ("out", "notes"):
            (server.root / place).mkdir()
        dock.agree(
            endpoint={
                "protocol": "sftp",
                "host": server.host,
                "port": server.port,
                "username": server.username,
                "private_key": f"file:{server.private_key}",
                "host_keys": [server.fingerprint],
            },
            folder=f"{server.root}/out",
            naming=r"prices_[a-z]+_\d{4}-\d{2}-\d{2}\.csv",
            notes={"folder": f"{server.root}/notes", "language": language, "good_name": NAME},
            **BAD[language][1],
        )
        with sender_thread(settings().sender_socket, dock.home / "state", profiles=dock.profiles, spool=settings().spool):
            yield Exchange(dock, server)


def notes(folder: Path, language: str) -> list[Path]:
    """Have the bad file refused; it and its notes in a folder of theirs."""
    (place := folder / language).mkdir(parents=True, exist_ok=True)
    with exchange(language) as made:
        _refused(made, language, place)
        return made.collect(place)


def _refused(made: Exchange, language: str, place: Path) -> None:
    (place / NAME).write_bytes(BAD[language][0]())
    made.send(place / NAME)
    assert made.dock.run() == {NAME: "quarantined"}


def verdict(mended: Path, language: str) -> str:
    """What becomes of a file that is sent after the bad one, under the same name."""
    with exchange(language) as made, tempfile.TemporaryDirectory(prefix="collected-") as folder:
        _refused(made, language, Path(folder))
        made.collect(Path(folder))
        made.send(mended)
        outcome = made.dock.run()[NAME]
        came = [shutil.copy(path, mended.parent) for path in made.collect(Path(folder))]
        return f"{outcome}; open cases: {len(made.dock.cases())}; notes that came: {', '.join(map(str, came)) or 'none'}"


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
    parser.add_argument("folder", type=Path, nargs="?", help="where the bad files and their notes go")
    parser.add_argument("--mended", type=Path, help="a mended file")
    parser.add_argument("--language", choices=sorted(BAD), default="en", help="which one was mended")
    parser.add_argument("--pictures", type=Path, help="where pictures of the note go")
    given = parser.parse_args()
    if given.folder:
        for language in BAD:
            notes(given.folder, language)
    if given.mended:
        print(verdict(given.mended, given.language))
    if given.pictures:
        take(given.pictures)


if __name__ == "__main__":
    main()
