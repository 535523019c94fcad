"""S8 Retransmit corrected file: an invoice fails at the partner, the newest approved version goes in its place, and is told to do so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from blocks.errors import SendRefused
from blocks.ledger import Entry
from blocks.outbound import Correction, Package
from flows.resend import resend
from tasks import connections
from tasks.export_evidence import meant
from tasks.order import Order, load_release, sender
from tests.release_world import Release, ReleaseWorld
from tests.usecases.acknowledging import cases, said

V1, V2 = b"invoice,total\n77,100.00\n", b"invoice,total\n77,90.00\n"
WHY = "the total was wrong"


@pytest.fixture(scope="module")
def world(release_world: ReleaseWorld) -> ReleaseWorld:
    """Invoices go with a manifest, and the partner says of each by its name whether it could be booked."""
    acks = release_world.remote / "acks"
    acks.mkdir()
    acknowledgements = {
        "direction": "inbound",
        "endpoint": "drop",
        "folder": str(acks),
        "settle": {"quiet": "PT0S"},
        "classify": [
            {"pattern": r"(?P<document>[^@]+)@.*\.ack", "doctype": "acknowledgement"},
            {"pattern": r"(?P<document>[^@]+)@.*\.nack", "doctype": "acknowledgement", "facts": {"acknowledged": "no"}},
        ],
        "target": {"repository": "ecm", "folder": "Said/{partner}"},
    }
    place = {"endpoint": "drop", "folder": f"{release_world.remote}/{{order}}", "name": "{stem}.v{version}.csv"}
    record = {"repository": "ecm", "folder": "Sent/{order}", "acknowledged_by": "acknowledgements"}
    invoices = release_world.terms(record=record, destinations=[{**place, "manifest": "{package}.json"}])
    untold = release_world.terms()
    release_world.agree(invoices=invoices, acknowledgements=acknowledgements, untold=untold)
    return release_world


def corrected(release: Release, comment: str = WHY, **more: Any) -> State:
    state: State = resend("acme", release.stream, release.id, comment, "rita", latest=True, return_state=True, **more)
    return state


def correction(release: Release) -> Release:
    """The order that was made last to correct one, with its run."""
    told = [entry.body for entry in release.history if entry.kind == "parted"][-1]
    return release.part(told["child_order"], told["child_run"])


def manifests(folder: Path) -> list[dict[str, Any]]:
    return sorted((json.loads(path.read_bytes()) for path in folder.glob("*.json")), key=lambda one: "corrects" in one)


def killed(*_: object) -> Entry:
    raise RuntimeError("killed here")


def test_the_newest_approved_version_takes_the_place_of_what_failed(
    world: ReleaseWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    bea, ann = world.newcomer(), world.newcomer()
    first = world.order("invoices", **{"invoice-77": V1})
    assert first.start() is None
    assert (done := first.sign(bea)) is not None and done.name == "Delivered", done
    said(world, "invoice-77.v1.csv@1.nack")
    assert cases(first) == [("answered-no", "new")]
    (case,) = [case for case in connections.ledger().cases() if case.name == first.id]
    assert f"countersign run resend --latest --partner acme --stream invoices --order {first.id}" in str(case.reason)

    # Nobody has approved anything newer: v1 is what the partner has.
    assert "say why" in str(corrected(first, "  ").message)
    assert corrected(first, "too early").name == "Asked, correction"
    nothing = correction(first).go()
    assert nothing is not None and nothing.name == "Nothing to release", nothing

    # v2 is approved, and v1 is in the spool still.
    world.keep(first.id, "invoice-77.csv", V2)
    assert corrected(first).name == corrected(first).name == "Asked, correction"
    assert "is under way" in str(corrected(first, "another reason").message)
    second = correction(first)
    assert [entry.kind for entry in first.history].count("correction") == 2, "the same one, however often"
    assert second.go() is None
    assert f"**Correction of order `{first.id}`**" in second.form and WHY in second.form
    assert "1 changed" in second.form and "rita" not in second.form.partition("May sign now")[2].partition("\n")[0]
    assert not (world.remote / first.id / "invoice-77.v2.csv").exists(), "nothing leaves without a sign-off of its own"
    assert (done := second.sign(ann)) is not None and done.name == "Delivered", done
    folder = world.remote / first.id
    assert (folder / "invoice-77.v2.csv").read_bytes() == V2 and (folder / "invoice-77.v1.csv").read_bytes() == V1
    one, other = manifests(folder)
    assert "corrects" not in one
    assert other["corrects"] == {"order": first.id, "package": first.package.digest}
    assert other["order"] == second.id and second.package.corrects == Correction(first.id, first.package.digest, WHY, "rita")

    # The case waits for what the partner says of it, by the name that the new version has there.
    assert cases(first) == [("answered-no", "new")]
    said(world, "invoice-77.v2.csv@1.ack")
    assert cases(first) == [("answered-no", "resolved")]

    # Sent twice it cannot be. Nor does a request that broke off bar others for ever: the next one has it asked for.
    with monkeypatch.context() as patch:
        patch.setattr("tasks.resend._ordered", killed)
        assert corrected(first, "broken off").is_failed()
    before = first.kinds.count("parted")
    assert "is under way" in str(corrected(first, "once more").message)
    assert first.kinds.count("parted") == before + 1
    again = correction(first).go()
    assert again is not None and again.name == "Nothing to release", again
    assert len(list(folder.glob("*.csv"))) == 2
    nothing_else_is_called_a_correction(first, second)
    family = meant(second.id)
    assert family == meant(first.id) == meant(first.history[0].journey) and len(family) == 4, "evidence has all of them"
    assert family[0] == first.history[0].journey and second.history[0].journey in family


def nothing_else_is_called_a_correction(first: Release, second: Release) -> None:
    """A worker that calls something a correction of what never went, or of the same bytes, gets nobody asked."""
    agreed = load_release("acme", "invoices")
    genuine = Order(agreed, second.id, second.history[0].journey, "", None)
    told = second.package
    for wrong in (Correction(first.id, "0" * 64, WHY, "rita"), Correction(second.id, told.digest, WHY, "rita")):
        forged = replace(told, corrects=wrong, journey="another")
        assert Package.parse(forged.text) == forged
        with sender() as holder, pytest.raises(SendRefused, match="corrects what order"):
            holder.open(replace(genuine.matter, package=forged), genuine.policies)


def test_where_the_partner_could_not_tell_nothing_is_corrected(world: ReleaseWorld) -> None:
    bea, release = world.newcomer(), world.order("untold", letter=V1)
    assert release.start() is None
    assert release.sign(bea) is not None
    state = corrected(release)
    assert state.is_failed() and "the manifest tells a partner what is corrected" in str(state.message), state
    assert "correction" not in release.kinds
