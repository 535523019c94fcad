"""Returns: whose bytes they are, and which document an edited copy belongs to, however many orders there were."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from blocks.errors import ConfigurationError, LedgerUnreachable
from blocks.ledger import Entry, new_journey
from blocks.outbound import PackageFile, Redelivery
from blocks.profile import load_partner, load_repositories
from blocks.values import Kept
from tasks.agreed import load_stream
from tasks.returns import delivered
from tests.ledger.full import no_room_for
from tests.rules.signoff.world import package
from tests.tasks.dock import Dock, price_list


def b64(name: str) -> str:
    return base64.b64encode(name.encode()).decode()


def deliver(dock: Dock, *, repeats: str | None = None, **documents: tuple[str, bytes]) -> str:
    """An order sent these documents (id in the repository and bytes), as ``<name>.csv``; its journey. ``repeats``: another one's."""
    files = [
        PackageFile(f"{name}.csv".encode(), len(content), hashlib.sha256(content).hexdigest(), id, 1)
        for name, (id, content) in documents.items()
    ]
    journey, about = new_journey(), {"partner": "acme", "stream": "specs", "name": "an order"}
    again = Redelivery("an-order", "0" * 64, 2, "lost there", "ann") if repeats else None
    told = [{"name": b64(file.shown), "source": b64(file.shown), "sent": file.sha256} for file in files]
    dock.ledger.append(
        [
            Entry(journey, "ordered", {**about, **({"parent": repeats} if repeats else {})}),
            Entry(journey, "frozen", {**about, "package": package(*files, redelivery=again).text}),
            Entry(journey, "sending", about),
            Entry(journey, "delivered", {**about, "files": told}),
        ]
    )
    return journey


@pytest.fixture
def specs(dock: Dock) -> dict[str, str]:
    """Two documents of ours in the repository, by name; and the stream that takes returns."""
    for number in (1, 2):
        dock.leave(f"{number}.csv", price_list(first=number))
    dock.run()
    ids = {name: kept(dock, name).id for name in ("1.csv", "2.csv")}
    agree(dock)
    return ids


APPROVED = {"category": "Spec", "attribute": "Approved"}


def agree(dock: Dock, gather: dict[str, Any] | None = None, freshness: str = "pinned", **target: Any) -> None:
    """A stream of approved specifications, and one of their returns."""
    specs = {
        "direction": "outbound",
        "gather": {"repository": "kept", "folder": "Prices", "version": "approved", "approved_in": APPROVED, **(gather or {})},
        "destinations": [{"endpoint": "drop", "folder": "/in"}],
        "freshness": freshness,
        "signoff": {"stages": [{"name": "release", "groups": ["pricing"]}], "proof": "code"},
        "evidence": {"repository": "kept", "folder": "Evidence"},
    }
    target = {"repository": "kept", "folder": "Prices", **target}
    dock.agree(more={"specs": specs}, returns="specs", target=target)


def kept(dock: Dock, name: str) -> Kept:
    with load_repositories(dock.profiles)["kept"].session() as session:
        found = session.find(("Prices",), name)
    assert found is not None
    return found


def test_our_own_bytes_are_skipped_under_any_name_however_long_ago_they_went(dock: Dock, specs: dict[str, str]) -> None:
    order = deliver(dock, **{"1": (specs["1.csv"], price_list(first=1))})
    for number in range(5):
        deliver(dock, **{f"other{number}": (specs["2.csv"], price_list(first=number + 50))})
    digest = hashlib.sha256(price_list(first=1)).hexdigest()
    assert delivered(load_stream("acme", "prices"), digests=[digest], page=2).orders.keys() == {digest}, "page by page"
    dock.leave("whatever.csv", price_list(first=1))
    assert dock.run() == {"whatever.csv": "duplicate"}
    assert dock.history("whatever.csv")[2].body["duplicate_of"] == order
    assert kept(dock, "1.csv").version == 1
    assert not list(dock.out.iterdir())


def test_the_same_edit_of_two_documents_is_a_version_of_each_and_of_no_other(dock: Dock, specs: dict[str, str]) -> None:
    deliver(dock, **{"1": (specs["1.csv"], price_list(first=1)), "2": (specs["2.csv"], price_list(first=2))})
    edited = price_list(rows=9)
    for name in ("1.csv", "2.csv", "3.csv"):
        dock.leave(name, edited)
    assert dock.run() == {"1.csv": "filed", "2.csv": "filed", "3.csv": "quarantined"}
    assert [kept(dock, name).version for name in ("1.csv", "2.csv")] == [2, 2]
    assert dock.filed() == {"1.csv": edited, "2.csv": edited}
    assert dock.codes() == ["unknown-return"]


def test_a_document_that_is_gone_gets_no_version_and_a_person_is_told(dock: Dock, specs: dict[str, str]) -> None:
    deliver(dock, **{"1": ("Prices/no such.csv", price_list(first=1))})
    dock.leave("1.csv", price_list(rows=9))
    assert dock.run() == {"1.csv": "quarantined"}
    assert dock.codes() == ["document-missing"]


def test_a_name_of_several_documents_tells_none_of_them(dock: Dock, specs: dict[str, str]) -> None:
    deliver(dock, spec=(specs["1.csv"], price_list(first=1)), other=(specs["1.csv"], price_list(first=1)))
    deliver(dock, spec=(specs["2.csv"], price_list(first=2)))
    for name in ("spec.csv", "other.csv"):
        dock.leave(name, price_list(rows=9))
    assert dock.run() == {"spec.csv": "quarantined", "other.csv": "filed"}
    (case,) = dock.cases()
    assert (case.code, case.name) == ("ambiguous-return", "spec.csv")
    assert all(id in str(case.reason) for id in specs.values())
    assert [kept(dock, name).version for name in ("1.csv", "2.csv")] == [2, 1]


def test_one_edit_under_two_names_of_a_document_is_one_version(dock: Dock, specs: dict[str, str]) -> None:
    deliver(dock, spec=(specs["1.csv"], price_list(first=1)), other=(specs["1.csv"], price_list(first=1)))
    for name in ("spec.csv", "other.csv"):
        dock.leave(name, price_list(rows=9))
    assert sorted(dock.run().values()) == ["duplicate", "filed"]
    assert kept(dock, "1.csv").version == 2


def test_what_went_again_from_the_record_is_a_copy_of_the_document_that_went_first(dock: Dock, specs: dict[str, str]) -> None:
    first = deliver(dock, spec=(specs["1.csv"], price_list(first=1)))
    second = deliver(dock, repeats=first, spec=(specs["2.csv"], price_list(first=1)))
    deliver(dock, repeats=second, spec=(specs["2.csv"], price_list(first=1)))
    dock.leave("spec.csv", price_list(rows=9))
    assert dock.run() == {"spec.csv": "filed"}
    assert [kept(dock, name).version for name in ("1.csv", "2.csv")] == [2, 1]


def test_what_was_begun_for_one_document_is_finished_whatever_was_delivered_since(dock: Dock, specs: dict[str, str]) -> None:
    deliver(dock, spec=(specs["1.csv"], price_list(first=1)))
    dock.leave("spec.csv", price_list(rows=9))
    with no_room_for(dock.ledger, "filed"), pytest.raises(LedgerUnreachable):
        dock.run()
    deliver(dock, spec=(specs["2.csv"], price_list(first=2)))
    assert dock.run() == {"spec.csv": "filed"}
    assert [kept(dock, name).version for name in ("1.csv", "2.csv")] == [2, 1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({}, None, id="as it should be"),
        pytest.param({"freshness": "latest"}, "add 'freshness: pinned'", id="a newer version would void what waits"),
        pytest.param({"categories": {"Spec": {"Approved": "1"}}}, "decides what 'specs' sends", id="which version is approved"),
        pytest.param(
            {"gather": {"admits": [{"category": "Spec", "attribute": "Status", "values": ["Released"]}]},
             "categories": {"Spec": {"Status": "Proposed"}}},
            "categories.Spec.Status", id="whether it may leave",
        ),
        pytest.param(
            {"gather": {"valid_until": {"category": "Spec", "attribute": "Until"}}, "categories": {"Spec": {"Until": "{name}"}}},
            "categories.Spec.Until", id="until when it may leave",
        ),
        pytest.param(
            {"gather": {"sensitive": [{"category": "Spec", "attribute": "Text"}]}, "categories": {"Spec": {"Text": "{name}"}}},
            "categories.Spec.Text", id="what voids a package that waits",
        ),
        pytest.param({"categories": {"Spec": {"Came back": "{received:%Y}"}}}, None, id="anything else"),
    ],
)  # fmt: skip
def test_what_comes_back_neither_stops_nor_changes_what_goes_out(dock: Dock, changes: dict[str, Any], told: str | None) -> None:
    agree(dock, **changes)
    if told is None:
        load_partner("acme", dock.profiles)
        return
    with pytest.raises(ConfigurationError) as refused:
        load_partner("acme", dock.profiles)
    assert told in str(refused.value)
