"""From the command to the signed-off files at the partner, as a newcomer: what the demo prints is read, and what it asks for is done
in a real Chromium with mouse and keyboard. Prints the minutes, the clicks and the digits, for the README.

    python -m tests.demo.newcomer
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Locator

from tests.browser import PATIENCE, Chromium, Classic, in_its_thread
from tests.demo.stage import ROOT

PATIENCE_SECONDS = 600


class ByHand(Classic):
    """A window in which a person clicks and types; both are counted."""

    clicks = digits = 0

    @in_its_thread
    def type(self, name: str, text: str) -> None:
        self._click(self._field(name).locator("textarea"))
        self.page.keyboard.type(text, delay=200)
        self.digits += len(text)

    def _click(self, target: Locator, patience: float = PATIENCE) -> None:
        """Where it is to be seen, and with a finger that stays down for a moment, as fingers do."""
        target.wait_for(timeout=patience)
        target.scroll_into_view_if_needed()
        box = target.bounding_box()
        assert box is not None
        self.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=8)
        self.page.mouse.down()
        self.page.wait_for_timeout(80)
        self.page.mouse.up()
        self.clicks += 1


@dataclass
class Terminal:
    """What the demo has printed until now."""

    process: subprocess.Popen[str]
    text: str = ""
    ended: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def follow(self) -> None:
        for line in self.process.stdout or ():
            with self.changed:
                self.text += line
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def read(self, pattern: str) -> str:
        """The last text that fits, as soon as there is one."""
        with self.changed:
            self.changed.wait_for(lambda: self.ended or re.search(pattern, self.text), PATIENCE_SECONDS)
            if found := re.findall(pattern, self.text):
                return str(found[-1])
            raise RuntimeError(f"the demo did not print {pattern}:\n{self.text}")


@contextmanager
def demo() -> Iterator[Terminal]:
    """``make demo``, whose environment is built already."""
    command = [sys.executable, "-m", "tests.demo"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    terminal = Terminal(process)
    reader = threading.Thread(target=terminal.follow, daemon=True)
    reader.start()
    try:
        yield terminal
    finally:
        process.terminate()
        process.wait(120)
        reader.join(10)


def main() -> None:
    print(f"load {', '.join(f'{load:.1f}' for load in os.getloadavg())} on {os.cpu_count()} processors")
    began = last = time.monotonic()

    def tell(what: str) -> None:
        nonlocal last
        now = time.monotonic()
        print(f"{now - began:6.1f} s  (+{now - last:5.1f})  {what}", flush=True)
        last = now

    with demo() as terminal, Chromium.running() as chromium:
        terminal.read(r"ACME left \d+ files")
        tell("everything has started")
        catalogue = Path(terminal.read(r"(\S+)   \(the same, as a folder"))
        tell("the files of four streams are in, or set aside, and listed")
        run = terminal.read(r"Open +(\S+)")
        tell("a release waits, and the demo says where")
        address = urlsplit(run)
        window = ByHand(chromium, f"{address.scheme}://{address.netloc}", 1280, 900)
        window.open_dialog(address.path.rpartition("/")[2])
        tell("its page and its dialog are open")
        window.fill(decision="approve", approver="anna", meaning="release")
        window.type("package", terminal.read(r"package +(\w{8})"))
        window.type("proof", terminal.read(r"codes until .*\banna: (\d{6})"))
        tell("the form is filled in, by a hand that need not read")
        window.submit()
        limit = time.monotonic() + PATIENCE_SECONDS
        while not any(catalogue.glob("*.done")):
            if time.monotonic() > limit:
                raise RuntimeError(f"no done file in {catalogue}: {terminal.text}")
            time.sleep(0.1)
        tell(f"{len(list(catalogue.iterdir()))} files stand at the partner, the done file last")
        window.go(address.path, "Delivered")
        tell("the page says Delivered")
        print(f"{window.clicks} clicks, {window.digits} digits typed, {len(list(catalogue.iterdir()))} files in {catalogue}")


if __name__ == "__main__":
    main()
