"""An approver's browser: real Chromium on both of Prefect's UIs, with a record of every address that it asked for.

Playwright keeps an event loop running in its thread, which Prefect's own calls would take for theirs: so it has a thread of its own.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import ClassVar, Concatenate, ParamSpec, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

from PIL import Image
from playwright.sync_api import BrowserContext, FloatRect, Locator, TimeoutError, sync_playwright

from tests.servers import need

CHROMIUM = (
    *("--no-sandbox", "--disable-gpu", "--disable-3d-apis", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
"""How Chromium is started here: no sandbox (tests run as root), no 3D drawn by the processor, and no word to the internet."""

FEW_FRAMES = """
  const frame = requestAnimationFrame.bind(window);
  window.requestAnimationFrame = draw => setTimeout(() => frame(draw), 250);
  window.cancelAnimationFrame = clearTimeout;
"""
"""A page that only waits draws itself four times a second, not sixty: the newer UI's takes a quarter of a processor so."""

Given = ParamSpec("Given")
Result = TypeVar("Result")
PATIENCE = 180_000
"""Milliseconds until something must have happened; a busy machine takes its time."""

VISIBLE = """root => {
  const seen = [], walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT), range = document.createRange();
  while (walker.nextNode()) {
    const node = walker.currentNode;
    range.selectNodeContents(node);
    const boxes = [...range.getClientRects()].filter(box => box.width > 2 && box.height > 2);
    const block = node.parentElement.closest("p, li, td, label, button, h1, h2, h3, div");
    const onTop = (x, y) => block.contains(document.elementFromPoint(x, y));
    const whole = box => onTop(box.left + 1, box.top + box.height / 2) && onTop(box.right - 1, box.top + box.height / 2);
    if (node.data.trim() && boxes.length && boxes.every(whole)) seen.push(node.data);
  }
  return seen.join(" ");
}"""
"""The texts that a person sees now: of some size, in the window, not cut off at either end, and with nothing above them."""


def in_its_thread(
    method: Callable[Concatenate[Window, Given], Result],
) -> Callable[Concatenate[Window, Given], Result]:
    @wraps(method)
    def call(self: Window, /, *given: Given.args, **named: Given.kwargs) -> Result:
        return self.thread.submit(method, self, *given, **named).result()

    return call


class Chromium:
    """One browser for many windows."""

    def __init__(self, thread: ThreadPoolExecutor, session: BrowserContext) -> None:
        self.thread, self.session = thread, session

    @classmethod
    @contextmanager
    def running(cls, *, graphs: bool = False) -> Iterator[Chromium]:
        """``graphs``: runs' graphs are drawn too, which costs the processor a lot."""
        args = [arg for arg in CHROMIUM if not graphs or arg not in ("--disable-gpu", "--disable-3d-apis")]
        program = need("chromium", "chromium")
        with ThreadPoolExecutor(1, "chromium") as thread:
            playwright = thread.submit(sync_playwright().start).result()
            try:
                browser = thread.submit(
                    playwright.chromium.launch, executable_path=program, args=args, timeout=PATIENCE
                ).result()
                # One session, so that the UIs' own programs are fetched once.
                session = thread.submit(browser.new_context).result()
                if not graphs:
                    thread.submit(session.add_init_script, FEW_FRAMES).result()
                yield cls(thread, session)
                thread.submit(browser.close).result()
            finally:
                thread.submit(playwright.stop).result()


class Window(ABC):
    """One window, as high as a common screen leaves it, and the dialog in it."""

    tolerated: ClassVar[frozenset[str]] = frozenset()
    """Hosts that this UI asks for by itself, whatever it shows."""

    def __init__(self, chromium: Chromium, origin: str, width: int = 1440, height: int = 900) -> None:
        self.thread, self.origin, self.asked = chromium.thread, origin, list[str]()
        self._open(chromium.session, width, height)

    @in_its_thread
    def _open(self, session: BrowserContext, width: int, height: int) -> None:
        self.page = session.new_page()
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.set_default_timeout(PATIENCE)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("websocket", lambda socket: self.asked.append(socket.url))

    @in_its_thread
    def close(self) -> None:
        self.page.close()

    @property
    def strangers(self) -> set[str]:
        """What was asked of anybody but the Prefect server."""
        own = urlsplit(self.origin).netloc
        told = [urlsplit(url.removeprefix("blob:")) for url in self.asked]
        return {one.geturl() for one in told if one.scheme != "data" and one.netloc not in {own, *self.tolerated}}

    @in_its_thread
    def go(self, path: str, *signs: str) -> str:
        """Open an address of this UI and wait until these are there; all text of the page at that moment: it may draw itself anew.
        A page that shows nothing is loaded again, as a person would: a busy server may have answered with an error."""
        whole = "signs => signs.every(sign => document.body.innerText.includes(sign)) && document.body.innerText"

        def read() -> str:
            self.page.goto(self.origin + self.path(path))
            return str(self.page.wait_for_function(whole, arg=signs, timeout=PATIENCE / 3).json_value())

        return self._again(read)

    @in_its_thread
    def picture(self, path: Path, clip: FloatRect | None = None) -> None:
        """Take a picture once the page has drawn itself: nothing tells when it has."""
        self.page.wait_for_timeout(2000)
        self.page.screenshot(path=path, clip=clip)

    @in_its_thread
    def drawn(self, area: FloatRect) -> None:
        """Wait until there is more than a plain ground in this part of the page: a run's graph is drawn long after all else."""
        limit = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < limit:
            with Image.open(BytesIO(self.page.screenshot(clip=area))) as seen:
                if seen.convert("RGB").getcolors(8) is None:
                    return
            self.page.wait_for_timeout(500)
        raise AssertionError("nothing was drawn there")

    @in_its_thread
    def open_dialog(self, run: UUID | str | None) -> float:
        """Open the page of a waiting run, and its form; seconds from the click until the form was there. Begun again where
        nothing comes: a menu may be gone with the page that draws itself anew."""

        def open_form() -> float:
            self.page.goto(self.origin + self.path(f"/runs/flow-run/{run}"))
            self._prepare()
            began = time.monotonic()
            self._resume()
            self._field("decision").wait_for(timeout=PATIENCE / 3)
            return time.monotonic() - began

        return self._again(open_form)

    def _again(self, act: Callable[[], Result]) -> Result:
        """What this gives, tried again while it comes to nothing."""
        limit = time.monotonic() + PATIENCE / 1000
        while True:
            try:
                return act()
            except TimeoutError:
                if time.monotonic() > limit:
                    raise

    @in_its_thread
    def visible(self, *signs: str) -> str:
        """What is to be seen of the dialog without scrolling, once these are: its form is there before what stands above it."""
        return self._once(signs, lambda: self._plain(self._dialog.evaluate(VISIBLE)))

    @in_its_thread
    def text(self, *signs: str) -> str:
        """All that is to be seen of the dialog by somebody who scrolls down, once these are."""
        return self._once(signs, self._scrolled)

    def _once(self, signs: Sequence[str], look: Callable[[], str]) -> str:
        """What is seen once all these are among it, or at last."""
        limit = time.monotonic() + PATIENCE / 1000
        while True:
            seen = look()
            if all(sign in seen for sign in signs) or time.monotonic() > limit:
                return seen
            self.page.wait_for_timeout(200)

    def _scrolled(self) -> str:
        box = self._dialog.evaluate_handle(
            "root => [root, ...root.querySelectorAll('*')].find(e => e.scrollHeight > e.clientHeight + 20"
            " && ['auto', 'scroll'].includes(getComputedStyle(e).overflowY) && e.clientHeight > 100) ?? root"
        )
        seen = []
        box.evaluate("e => { e.scrollTop = 0 }")
        for _ in range(50):
            seen.append(self._plain(self._dialog.evaluate(VISIBLE)))
            before = box.evaluate("e => e.scrollTop")
            if box.evaluate("e => { e.scrollTop += e.clientHeight / 2; return e.scrollTop }") == before:
                break
        return "\n".join(seen)

    @in_its_thread
    def pictures(self, count: int) -> list[tuple[str, int]]:
        """How the addresses of so many pictures begin, and how wide they were drawn, once all are."""
        told = "[...document.images].filter(i => i.complete && i.naturalWidth > 100).map(i => [i.src.slice(0, 22), i.naturalWidth])"
        drawn = self.page.wait_for_function(f"{told}.length >= {count} && {told}").json_value()
        return [(begins, width) for begins, width in drawn]

    @in_its_thread
    def markup(self) -> set[str]:
        """What the page is made of: names of elements, with the attributes that lead somewhere or run something."""
        acts = "one => /^(href|src|srcset|xlink:href|data|action|on.*)$/.test(one.name)"
        made = (
            f"e => [e.tagName, ...Array.from(e.attributes).filter({acts}).map(one => `${{one.name}}=${{one.value}}`)].join(' ')"
        )
        return set(self.page.locator("body *").evaluate_all(f"all => all.map({made})"))

    @in_its_thread
    def fill(self, **answers: str | list[str]) -> None:
        """Fill in the form by mouse and keyboard."""
        for name, answer in answers.items():
            if name in ("decision", "approver", "meaning", "left_out"):
                for one in [answer] if isinstance(answer, str) else answer:
                    self._choose(name, one)
                if isinstance(answer, str):  # while its list folds up, it must not be taken for the next field's
                    self._options.first.wait_for(state="hidden")
            else:
                self._field(name).locator("textarea").fill(str(answer))

    @in_its_thread
    def show(self, name: str) -> None:
        """Scroll down to a field."""
        self._field(name).evaluate("one => one.scrollIntoView({block: 'start'})")

    @in_its_thread
    def offered(self, name: str) -> list[str]:
        """What can be chosen in a field."""
        limit = time.monotonic() + PATIENCE / 1000
        while True:
            self._again(lambda: self._unfold(name))
            found = self._options.all_inner_texts()  # none, if the page drew itself anew just now
            if found or time.monotonic() > limit:
                self.page.keyboard.press("Escape")
                return [one.strip() for one in found]

    @in_its_thread
    def submit(self) -> None:
        """Send the form, and wait until it is gone. It is sent again, as a person would, if the busy server answers with an
        error, or if the click went nowhere because the page drew itself anew."""
        limit = time.monotonic() + PATIENCE / 1000
        while self._dialog.is_visible() and time.monotonic() < limit:
            try:
                with self.page.expect_request(lambda asked: asked.url.endswith("/resume"), timeout=PATIENCE / 12) as sent:
                    self._send(PATIENCE / 12)
            except TimeoutError:
                continue
            answer = sent.value.response()
            if answer is not None and answer.status < 500:
                break
        try:
            self._dialog.wait_for(state="hidden")
        except TimeoutError:
            raise AssertionError(f"sent, and still there: {self._plain(self._dialog.inner_text())}") from None

    @in_its_thread
    def submit_refused(self) -> str:
        """Send a form that Prefect does not take; what it says."""
        said = """where => [...document.querySelectorAll(where)].filter(one => one.checkVisibility())
            .map(one => one.innerText).join(" ")"""

        def read() -> str:
            self._send()
            # Seen and read in one step, by the page itself: a complaint may be gone after some seconds.
            return str(self.page.wait_for_function(said, arg=self.complaints, timeout=PATIENCE / 6).json_value())

        return self._again(read)

    @staticmethod
    def _plain(text: str) -> str:
        return re.sub(r"\s+", " ", text)

    def _send(self, patience: float = PATIENCE) -> None:
        self._click(self._dialog.get_by_role("button", name=self.submits, exact=True), patience)

    def _click(self, target: Locator, patience: float = PATIENCE) -> None:
        target.click(timeout=patience)

    def _choose(self, name: str, option: str) -> None:
        """Choose in a list, which a page that draws itself anew may fold up under the pointer: then it is unfolded again."""

        def choose() -> None:
            if not self._options.first.is_visible():
                self._unfold(name)
            self._click(self._options.get_by_text(option, exact=True), PATIENCE / 6)

        self._again(choose)

    def _field(self, name: str) -> Locator:
        title = re.compile(rf"^\s*{name.replace('_', ' ')}(\s*\(Optional\))?\s*$", re.IGNORECASE)
        return self._dialog.locator(self.fields).filter(has=self.page.locator(self.labels).filter(has_text=title))

    submits: ClassVar[str]
    fields: ClassVar[str]
    labels: ClassVar[str]
    complaints: ClassVar[str]

    @abstractmethod
    def path(self, path: str) -> str:
        """The address of a page in this UI."""

    @property
    @abstractmethod
    def _dialog(self) -> Locator: ...

    @property
    @abstractmethod
    def _options(self) -> Locator: ...

    @abstractmethod
    def _prepare(self) -> None:
        """Bring the button that opens the form into sight."""

    @abstractmethod
    def _resume(self) -> None:
        """Press it."""

    @abstractmethod
    def _unfold(self, name: str) -> None:
        """Show what can be chosen in a field."""


class Classic(Window):
    """The UI at ``/``."""

    submits, fields, labels = "Submit", ".schema-form-property", ".schema-form-property__label"
    complaints = ".p-modal__card .p-label__message"

    def path(self, path: str) -> str:
        return path

    @property
    def _dialog(self) -> Locator:
        return self.page.locator(".p-modal__card")

    @property
    def _options(self) -> Locator:
        return self.page.locator(".p-select-option")

    def _prepare(self) -> None:
        self.page.get_by_role("button", name="Resume", exact=True).wait_for(timeout=PATIENCE / 3)

    def _resume(self) -> None:
        self._click(self.page.get_by_role("button", name="Resume", exact=True), PATIENCE / 6)

    def _unfold(self, name: str) -> None:
        # A click on the middle opens the list and closes it at once (Prefect 3.8.8: the button and the box around it both listen).
        # The box alone is hit at the arrows at its right end; docs/approvers.md tells people so.
        self._click(self._field(name).locator(".p-select-button__icon").first, PATIENCE / 6)
        self._options.first.wait_for(timeout=PATIENCE / 6)


class Newer(Window):
    """The UI at ``/v2``."""

    submits, fields, labels = "Resume", "div.group", "label"
    complaints = "[data-sonner-toast][data-type=error]"
    tolerated = frozenset({"sr-client-cfg.amplitude.com"})  # tried with analytics off too; see docs/ops.md

    def path(self, path: str) -> str:
        return f"/v2{path}"

    @property
    def _dialog(self) -> Locator:
        return self.page.locator("[role=dialog][data-slot=dialog-content]")

    @property
    def _options(self) -> Locator:
        return self.page.get_by_role("option")

    def _prepare(self) -> None:
        self.page.locator("button[aria-haspopup=menu]").last.click(timeout=PATIENCE / 3)

    def _resume(self) -> None:
        self.page.get_by_role("menuitem", name="Resume").click(timeout=PATIENCE / 6)

    def _unfold(self, name: str) -> None:
        self._field(name).locator("button[aria-haspopup=listbox]").click(timeout=PATIENCE / 6)
        self._options.first.wait_for(timeout=PATIENCE / 6)
