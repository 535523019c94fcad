"""Pictures for the documentation, of the demo as it really is: ``make screenshots``."""

from __future__ import annotations

import random
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pyotp
import yaml
from PIL import Image, ImageDraw
from playwright.sync_api import FloatRect

from blocks.ledger import Recorded
from blocks.outbound import Package
from blocks.profile import load_repositories
from blocks.settings import settings
from blocks.spool import Spool
from blocks.values import Filing
from tasks.connections import ledger
from tasks.rules.bundle import PAGE
from tasks.tell_cases import REVIEW_BEGUN
from tests.browser import Chromium, Classic, Newer
from tests.demo import supplier
from tests.demo.releasing import ORDER, REQUESTER, answer_form, start_release, until_asked, until_state
from tests.demo.stage import Stage
from tests.samples.making import HEADER, csv_text, prices

HIGH = 1120
TOP: FloatRect = {"x": 0, "y": 0, "width": 1280, "height": 800}
LIST: FloatRect = {"x": 255, "y": 590, "width": 1025, "height": 510}
GRAPH: FloatRect = {"x": 280, "y": 120, "width": 800, "height": 320}
BROCHURE = "brochure"
COLOURS = 96
"""Of a picture: pages have few, and each costs bytes."""


def take(here: Stage, folder: Path) -> None:
    """The intakes: the list of runs, the page of one, its table of files; the form of a case. A release: inbox, run, dialog, refused,
    ticks; its evidence. Another one: what changed since the last, an image, the dialog on a telephone. A note."""
    folder.mkdir(parents=True, exist_ok=True)
    with Chromium.running(graphs=True) as chromium, httpx.Client(base_url=f"{here.prefect_url}/api/", timeout=60) as api:
        _intakes(Classic(chromium, here.prefect_url, 1280, HIGH), api, folder)
        _case(Newer(chromium, here.prefect_url, 1280, 900), api, folder)
        run = _release(here, Classic(chromium, here.prefect_url, 1280, 900), api, folder)
        ticks(Classic(chromium, here.prefect_url, 1280, 900), api, run, folder)
        _evidence(here, chromium, folder)
        _changes(here, chromium, api, folder)
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


def _case(window: Newer, api: httpx.Client, folder: Path) -> None:
    """The form that asks what shall become of a price list with a price that is none; once the other cases ask too, and all is quiet."""
    asking = {}
    for case in ledger().cases():
        for run in [entry.body["run"] for entry in ledger().journey(case.journey) if entry.kind == REVIEW_BEGUN]:
            state = until_state(api, run, {"PAUSED", "COMPLETED", "FAILED", "CRASHED"})
            assert state["type"] == "PAUSED", (case, state)
            asking[case.code] = run
    window.open_dialog(asking["wrong-type"])
    assert "is not a number" in window.visible("is not a number")
    window.picture(folder / "case.png", TOP | {"height": 572})  # below it stands a folder of this machine
    window.show("decision")
    window.picture(folder / "case-answer.png")
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


def _evidence(here: Stage, chromium: Chromium, folder: Path) -> None:
    """The page of the bundle that proves the release, as somebody else opens it, from the sign-off on."""
    bundle = here.state / "evidence"
    here.countersign("evidence", "export", ORDER, "--to", str(bundle), quiet=True)

    def picture() -> None:
        page = chromium.session.new_page()
        page.set_viewport_size({"width": 1000, "height": 900})
        page.goto((bundle / PAGE).as_uri())
        page.get_by_role("heading", name="Sign-off of package").evaluate("one => one.scrollIntoView()")
        page.screenshot(path=folder / "evidence.png")
        page.close()

    chromium.thread.submit(picture).result()


# --------------------------------------------------------------------------------------------- what changed since the last release


def _changes(here: Stage, chromium: Chromium, api: httpx.Client, folder: Path) -> None:
    """One price among a thousand was changed between two releases; with a picture, on a stream that shows what its documents hold."""
    _agree(here)
    rows = prices(random.Random(7), 1000)
    _keep("bolt.png", _drawing())
    _keep("prices_brochure.csv", csv_text(HEADER, rows))
    first = _order(api, "spring")
    assert answer_form(api, first, _answer(here, _asked(api, first), "ben")) == "ACCEPT"
    assert until_state(api, first, {"COMPLETED", "FAILED", "CRASHED"})["name"] == "Delivered"
    rows[516] = (*rows[516][:3], f"{float(rows[516][3]) * 100:.2f}", *rows[516][4:])
    _keep("prices_brochure.csv", csv_text(HEADER, rows))
    second = _order(api, "summer")
    _asked(api, second)
    window = Classic(chromium, here.prefect_url, 1280, 900)
    window.open_dialog(second)
    window.visible("Since the last release")
    window.picture(folder / "changes.png")
    (shown,) = [one for one in _artifacts(api, second) if one["key"].startswith("preview-")]
    window.go(f"/artifacts/artifact/{shown['id']}", "bolt.png")
    window.pictures(1)
    window.picture(folder / "preview.png", TOP)
    window.close()
    telephone = Newer(chromium, here.prefect_url, 390, 844)  # the classic page's dialog is wider than that
    telephone.open_dialog(second)
    assert "70777.00" in telephone.visible("70777.00")
    telephone.picture(folder / "dialog-narrow.png")
    telephone.close()


def _agree(here: Stage) -> None:
    """One more stream of the demo's partner: all that lies in a folder, with a full preview."""
    path = here.state / "profiles/acme.yaml"
    agreed = yaml.safe_load(path.read_text(encoding="utf-8"))
    streams = agreed["partner"]["streams"]
    kinds = [{"pattern": r".*\.csv", "doctype": "price-list"}, {"pattern": r".*\.png", "doctype": "product-image"}]
    place = {"repository": "ecm", "folder": f"Partner Exchange/{{partner}}/{BROCHURE}"}
    streams[BROCHURE] = {
        **{key: streams["catalogue"][key] for key in ("direction", "freshness", "signoff", "evidence", "owner")},
        "gather": place,
        "classify": kinds,
        "destinations": [{"endpoint": "deliveries", "folder": f"/in/{BROCHURE}", "exists": "replace"}],
        "preview": "full",
    }
    path.write_text(yaml.safe_dump(agreed, sort_keys=False), encoding="utf-8")
    (here.catalogue.parent / BROCHURE).mkdir(exist_ok=True)


def _keep(name: str, content: bytes) -> None:
    """Somebody puts a document, or a new version of it, into the stream's folder."""
    desk = Spool(settings().home / "desk", floor_bytes=0)
    with desk.batch() as batch:
        sink = batch.open()
        sink.write(content)
        done = sink.finish()
    place, path = ("Partner Exchange", "acme", BROCHURE), desk.path(done.digest)
    kind = "image/png" if name.endswith(".png") else "text/csv"
    filing = Filing(
        journey=str(uuid4()), name=name, folder=place, path=path, digest=done.digest, size=done.size, media_type=kind
    )
    with load_repositories(settings().profiles)["ecm"].session() as session:
        list(session.file([filing]))


def _drawing() -> bytes:
    """A bolt, seen from its side."""
    drawn = Image.new("RGB", (900, 420), "#f4f1ea")
    pen = ImageDraw.Draw(drawn)
    pen.rounded_rectangle((90, 90, 250, 330), 24, fill="#7d8894", outline="#39424c", width=6)
    pen.rectangle((250, 150, 780, 270), fill="#a9b3bd", outline="#39424c", width=6)
    for x in range(420, 770, 24):
        pen.line((x, 150, x - 14, 270), fill="#39424c", width=5)
    kept = BytesIO()
    drawn.save(kept, "PNG")
    return kept.getvalue()


def _order(api: httpx.Client, order: str) -> str:
    return start_release(api, stream=BROCHURE, order=order)


def _asked(api: httpx.Client, run: str) -> Package:
    """What the run asks about, once it asks."""
    state = until_state(api, run, {"PAUSED", "COMPLETED", "FAILED", "CRASHED"})
    assert state["type"] == "PAUSED", state
    found = ledger().search(partner="acme", stream=BROCHURE, limit=1000)
    told: list[Recorded] = next(
        history
        for history in ledger().journeys([one.journey for one in found]).values()
        if history[0].kind == "ordered" and history[0].body["run"] == run
    )
    return Package.parse(next(entry.body["package"] for entry in told if entry.kind == "frozen"))


def _answer(here: Stage, package: Package, approver: str) -> dict[str, Any]:
    assert approver != REQUESTER
    code = pyotp.TOTP(here.seeds[approver]).now()
    return {"decision": "approve", "approver": approver, "meaning": "release", "package": package.digits, "proof": code}


def _artifacts(api: httpx.Client, run: str) -> list[dict[str, Any]]:
    asked = {"artifacts": {"flow_run_id": {"any_": [run]}}}
    found: list[dict[str, Any]] = api.post("artifacts/filter", json=asked).raise_for_status().json()
    return found
