"""Pictures for the documentation, of the demo as it really is: ``make screenshots``."""

from __future__ import annotations

from pathlib import Path

import httpx
import pyotp
from PIL import Image
from playwright.sync_api import FloatRect

from tests.browser import Chromium, Classic
from tests.demo import supplier
from tests.demo.releasing import ORDER, start_release, until_asked
from tests.demo.stage import Stage

HIGH = 1120
TOP: FloatRect = {"x": 0, "y": 0, "width": 1280, "height": 800}
LIST: FloatRect = {"x": 255, "y": 590, "width": 1025, "height": 510}
GRAPH: FloatRect = {"x": 280, "y": 120, "width": 800, "height": 320}
COLOURS = 96
"""Of a picture: pages have few, and each costs bytes."""


def take(here: Stage, folder: Path) -> None:
    """The intakes: the list of runs, the page of one, its table of files. A release: inbox, run, dialog, refused, ticks. A note."""
    folder.mkdir(parents=True, exist_ok=True)
    with Chromium.running(graphs=True) as chromium, httpx.Client(base_url=f"{here.prefect_url}/api/", timeout=60) as api:
        _intakes(Classic(chromium, here.prefect_url, 1280, HIGH), api, folder)
        run = _release(here, Classic(chromium, here.prefect_url, 1280, 900), api, folder)
        ticks(Classic(chromium, here.prefect_url, 1280, 900), api, run, folder)
    supplier.take(folder)
    for picture in folder.glob("*.png"):
        with Image.open(picture) as drawn:
            drawn.convert("RGB").quantize(COLOURS).save(picture, optimize=True)


def _intakes(window: Classic, api: httpx.Client, folder: Path) -> None:
    window.go("/runs?tag=intake", "intake acme/price-lists")
    window.picture(folder / "runs.png", LIST)
    runs = api.post("flow_runs/filter", json={"limit": 50}).json()
    prices = next(run for run in runs if run["name"] == "intake acme/price-lists")
    window.go(f"/runs/flow-run/{prices['id']}", "Artifacts")
    window.drawn(GRAPH)
    window.picture(folder / "run.png", TOP)
    found = api.post("artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [prices["id"]]}}}).json()
    table = next(artifact for artifact in found if artifact["type"] == "table")
    window.go(f"/artifacts/artifact/{table['id']}", "quarantined")
    window.picture(folder / "files.png", TOP)
    window.close()


def _release(here: Stage, window: Classic, api: httpx.Client, folder: Path) -> str:
    """Sign a release as anna: first with a wrong code, then with the right one. The run's id."""
    run = start_release(api)
    digits = until_asked(api, run, round=1)
    window.go("/runs?state=Suspended&tag=awaits:anna", ORDER)
    window.picture(folder / "inbox.png", LIST | {"height": 310})
    window.go(f"/runs/flow-run/{run}", "Suspended")
    window.picture(folder / "waiting.png", TOP | {"height": 196})
    window.open_dialog(run)
    window.picture(folder / "dialog.png")
    right = pyotp.TOTP(here.seeds["anna"])
    wrong = f"{(int(right.now()) + 500_000) % 1_000_000:06d}"
    answers = {"decision": "approve", "approver": "anna", "meaning": "release", "package": digits}
    window.fill(**answers, proof=wrong)
    window.submit()
    until_asked(api, run, round=2)
    window.open_dialog(run)
    window.picture(folder / "refused.png", TOP | {"height": 420})
    window.fill(**answers)
    window.fill(proof=right.now())
    window.submit()
    window.go(f"/runs/flow-run/{run}", "Delivered")
    window.picture(folder / "delivered.png", TOP | {"height": 330})
    window.close()
    return run


def ticks(window: Classic, api: httpx.Client, run: str, folder: Path) -> None:
    """What arrived, as the run's artifact tells it."""
    found = api.post("artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [run]}}}).json()
    (told,) = [artifact for artifact in found if artifact["key"].startswith("delivered-")]
    window.go(f"/artifacts/artifact/{told['id']}", "weakest proof")
    window.picture(folder / "ticks.png", TOP | {"height": 560})
    window.close()
