"""Pictures for the documentation, of the demo as it really is: ``make screenshots``."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
from playwright.sync_api import Browser, FloatRect, sync_playwright

from tests.demo.stage import Stage

CHROMIUM = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
)

TOP: FloatRect = {"x": 0, "y": 0, "width": 1280, "height": 800}


def take(here: Stage, folder: Path) -> None:
    """The list of runs, the page of one, and its table of files."""
    folder.mkdir(parents=True, exist_ok=True)
    found = shutil.which("chromium")
    if found is None:
        raise SystemExit("chromium is missing: as root on Debian, apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=arguments())
        try:
            _runs(here, browser, folder)
        finally:
            browser.close()


def arguments() -> list[str]:
    """How Chromium is started here: no sandbox (tests run as root), and no word to the internet."""
    flags, rules = CHROMIUM.split(" --host-resolver-rules=")
    return [*flags.split(), f"--host-resolver-rules={rules}"]


def _runs(here: Stage, browser: Browser, folder: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 1120})
    page.goto(f"{here.prefect_url}/runs")
    page.get_by_text("intake acme/price-lists").first.wait_for(timeout=30_000)
    page.wait_for_timeout(1500)
    page.screenshot(path=folder / "runs.png", clip={"x": 255, "y": 590, "width": 1025, "height": 510})
    runs = httpx.post(f"{here.prefect_url}/api/flow_runs/filter", json={"limit": 50}, timeout=10).json()
    prices = next(run for run in runs if run["name"] == "intake acme/price-lists")
    page.goto(f"{here.prefect_url}/runs/flow-run/{prices['id']}")
    page.get_by_text("Artifacts").first.wait_for(timeout=30_000)
    page.wait_for_timeout(1500)
    page.screenshot(path=folder / "run.png", clip=TOP)
    filter = {"artifacts": {"flow_run_id": {"any_": [prices["id"]]}}}
    artifacts = httpx.post(f"{here.prefect_url}/api/artifacts/filter", json=filter, timeout=10).json()
    table = next(artifact for artifact in artifacts if artifact["type"] == "table")
    page.goto(f"{here.prefect_url}/artifacts/artifact/{table['id']}")
    page.get_by_text("quarantined").first.wait_for(timeout=30_000)
    page.wait_for_timeout(1000)
    page.screenshot(path=folder / "files.png", clip=TOP)
    page.close()
