"""Sidecars that are odd, late, alone or twice: nothing is guessed, and a person is told why a file waits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks import incidents
from tasks.consignment import Consignment
from tests.tasks.dock import Dock

OPEN, CLOSED = "PT1H", "PT0.000001S"


def agree(dock: Dock, window: str = OPEN, *, onward: Any = None, **target: Any) -> None:
    """Pictures that a sidecar names; ``onward``: where they go."""
    dock.agree(
        **({"onward": onward} if onward else {}),
        classify=[{"pattern": r".*\.tif", "doctype": "product-image"}, {"pattern": r".*\.json", "doctype": "sidecar"}],
        triage=["sku"],
        sets={
            "pattern": r"(?P<set>IMG_\d+)\..*",
            "files": ["{set}.tif"],
            "sidecar": {"name": "{set}.json", "facts": {"sku": {"at": "sku"}}},
            "window": window,
        },
        target={"repository": "kept", "folder": "Prices", "name": "{sku}.{extension}", **target},
    )


def picture(dock: Dock, number: int = 1) -> None:
    dock.leave(f"IMG_{number}.tif", b"II*\x00" + bytes([number]) * 40)


def sidecar(dock: Dock, sku: Any, number: int = 1, more: str = "") -> None:
    dock.leave(f"IMG_{number}.json", json.dumps({"sku": sku, "more": more}).encode())


def journey(dock: Dock, name: str) -> str:
    return dock.journeys(name)[-1]


@pytest.mark.parametrize(
    ("sku", "code"),
    [
        pytest.param("", "sidecar-without-fact", id="empty"),
        pytest.param("../../home/.ssh/authorized_keys", "sidecar-odd-value", id="a way out"),
    ],
)
def test_what_an_odd_sidecar_says_is_not_used(dock: Dock, sku: str, code: str) -> None:
    agree(dock)
    picture(dock)
    sidecar(dock, sku)
    assert dock.run() == {"IMG_1.tif": "waits", "IMG_1.json": "quarantined"}
    assert dock.codes() == [code]
    agree(dock, CLOSED)
    assert dock.run() == {"IMG_1.tif": "quarantined"}
    (case,) = dock.cases("needs-triage")
    assert case.reason is not None and ": IMG_1.json. Nobody tells its sku." in case.reason
    assert dock.codes() == [code, "needs-triage"], "each has one case"
    dock.look()
    assert dock.codes() == [code, "needs-triage"]
    assert not [path for path in (dock.home / "kept").rglob("*") if path.is_file()]

    agree(dock)
    sidecar(dock, "A-7", more="mended")
    assert dock.run() == {"IMG_1.json": "waits"}, "its picture is a person's business by now"
    assert [row.outcome for row in dock.retry(journey(dock, "IMG_1.tif"))] == ["filed"]
    assert dock.run() == {"IMG_1.json": "filed"}
    assert sorted(dock.filed()) == ["A-7.json", "A-7.tif"]


def test_a_sidecar_without_its_file_is_a_case(dock: Dock) -> None:
    agree(dock, CLOSED)
    sidecar(dock, "A-7")
    assert dock.run() == {"IMG_1.json": "waits"}
    (case,) = dock.cases()
    assert (case.code, case.reason) == ("set-incomplete", "Set IMG_1 is incomplete: missing IMG_1.tif")
    assert incidents.close(case.journey, "the picture was never taken", "ann") == "set-incomplete"
    assert dock.run() == {"IMG_1.json": "quarantined"}
    assert dock.codes() == ["set-given-up"]


@pytest.mark.parametrize(
    ("collision", "outcomes", "versions"),
    [
        pytest.param("new version", {"filed"}, 1, id="one document with two versions"),
        pytest.param("keep both", {"filed"}, 2, id="two documents"),
        pytest.param("refuse", {"quarantined"}, 1, id="a person decides"),
    ],
)
def test_a_second_picture_of_a_product_is_filed_as_was_agreed(
    dock: Dock, collision: str, outcomes: set[str], versions: int
) -> None:
    agree(dock, collision=collision)
    picture(dock, 1)
    sidecar(dock, "A-7", 1, "first")
    assert set(dock.run().values()) == {"filed"}
    first = dock.filed()["A-7.tif"]
    picture(dock, 2)
    sidecar(dock, "A-7", 2, "second")
    assert set(dock.run().values()) == outcomes
    pictures = {name: content for name, content in dock.filed().items() if name.endswith(".tif")}
    assert len(pictures) == versions
    assert (pictures["A-7.tif"] == first) is (collision != "new version")


class Killed(Exception):
    """As if the worker had been killed."""


@pytest.mark.parametrize("broken", ["set_aside", "clear_source"])
def test_a_run_that_was_killed_goes_on_with_what_the_sidecar_told(dock: Dock, broken: str) -> None:
    agree(dock)
    picture(dock)
    sidecar(dock, "A-7")

    def killed(step: str, consignment: Consignment) -> None:
        if step == broken:
            raise Killed

    with pytest.raises(Killed):
        dock.run(before=killed)
    dock.leave("IMG_9.tif", b"II*\x00 of another set")
    assert dock.run() | {"IMG_9.tif": "waits"} == {"IMG_1.tif": "filed", "IMG_1.json": "filed", "IMG_9.tif": "waits"}
    assert sorted(dock.filed()) == ["A-7.json", "A-7.tif"]


def test_a_killed_run_that_had_only_written_down_the_set_files_by_what_was_written(
    dock: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(dock)
    picture(dock)
    sidecar(dock, "A-7")
    with monkeypatch.context() as patch:

        def killed(*_: object) -> None:
            raise Killed

        patch.setattr("tasks.file_away._intend", killed)
        with pytest.raises(Killed):
            dock.run()
    (dock.out / "IMG_1.json").unlink()  # taken back; what it told stands in the ledger
    assert dock.run()["IMG_1.tif"] == "filed"
    assert "A-7.tif" in dock.filed()


def test_a_picture_whose_name_says_another_product_is_for_a_person(dock: Dock) -> None:
    agree(dock)
    profile = dock.profiles / "acme.yaml"
    profile.write_text(profile.read_text().replace(r".*\.tif", r"IMG_(?P<sku>\d+)\.tif"))
    picture(dock)
    sidecar(dock, "A-7")
    assert dock.run() == {"IMG_1.tif": "quarantined", "IMG_1.json": "filed"}
    (case,) = dock.cases()
    assert (case.code, "sku is A-7, and not 1" in str(case.reason)) == ("sidecar-differs", True)
