"""Categories and classifications of Extended ECM beyond filing: nothing of anybody's is overwritten, no row is taken out twice."""

from __future__ import annotations

from typing import Any

import pytest

from blocks.errors import EditConflict, OutcomeUnknown
from blocks.repositories.otcs_categories import surplus_rows
from blocks.repositories.otcs_names import Unfit
from blocks.values import Filed
from tests.conformance.repositories.writes.bench import Bench
from tests.conformance.repositories.writes.categories import NAME, ROWS, container, filled

pytestmark = pytest.mark.usefixtures("short_pauses")


def shown(bench: Bench, document: int) -> dict[str, Any]:
    return bench.session.categories.values(document)[NAME]


def meddle(bench: Bench, document: int, *, lost: bool) -> None:
    """Somebody changes the document just before our write is carried out; where ``lost``, ours is then not carried out either."""
    category = bench.wire.at("Partner Exchange", "Partner Document", volume=133)
    path = f"/v2/nodes/{document}/categories/{category}"

    def by_hand() -> None:
        bench.wire.plain("PUT", path, **{f"{category}_2": "by hand"})

    bench.sandbox.faults.meanwhile("", by_hand, struck="write-503" if lost else "")


def test_values_several_values_and_rows(bench: Bench) -> None:
    document = filled(bench)
    assert {name: shown(bench, document)[name] for name in ROWS} == {
        "Partner ID": "4711",
        "Tags": ["a", "b"],
        "Lines:SKU": ["S1", "S2", "S3"],
    }
    bench.session.categories.change(document, NAME, {"Tags": ("c",)})
    assert (shown(bench, document)["Tags"], shown(bench, document)["Partner ID"]) == (["c"], "4711")  # the others stay
    bench.session.categories.drop_row(document, NAME, "lines", 2)
    assert shown(bench, document)["Lines:SKU"] == ["S1", "S3"]
    for _ in range(2):
        bench.session.categories.drop_row(document, NAME, "Lines", 1)
    assert shown(bench, document)["Lines:SKU"] == [None]  # a set is never without a row
    bench.session.categories.drop(document, NAME)
    bench.session.categories.drop(document, NAME)
    assert bench.session.categories.values(document) == {}


def test_setting_what_stands_writes_nothing(bench: Bench) -> None:
    document = filled(bench)
    before = bench.count("writes")
    bench.session.categories.change(document, NAME, ROWS)
    assert bench.count("writes") == before


def test_what_somebody_changed_meanwhile_is_not_overwritten(bench: Bench) -> None:
    document = filled(bench)
    meddle(bench, document, lost=False)
    with pytest.raises(EditConflict) as raised:
        bench.session.categories.change(document, NAME, {"Partner ID": "ours"})
    assert raised.value.worth_retrying
    assert shown(bench, document)["Partner ID"] == "by hand"


def test_a_row_is_left_to_a_person_when_looking_does_not_tell(bench: Bench) -> None:
    document = filled(bench)
    meddle(bench, document, lost=True)
    with pytest.raises(OutcomeUnknown, match="look at it before"):
        bench.session.categories.drop_row(document, NAME, "Lines", 2)
    assert shown(bench, document)["Lines:SKU"] == ["S1", "S2", "S3"]


@pytest.mark.parametrize(("set_name", "row"), [("Lines", 0), ("Lines", 4), ("No Such Set", 1), ("Tags", 1)])
def test_rows_that_are_not_there(bench: Bench, set_name: str, row: int) -> None:
    document = filled(bench)
    with pytest.raises(Unfit):
        bench.session.categories.drop_row(document, NAME, set_name, row)
    assert shown(bench, document)["Lines:SKU"] == ["S1", "S2", "S3"]


def test_what_a_folder_hands_down(bench: Bench) -> None:
    folder = container(bench)

    def made(name: str) -> dict[str, Any]:
        return bench.session.categories.values(bench.wire.folder(name, folder))

    assert made("before") == {}
    bench.session.categories.inherit(folder, NAME, on=True)
    assert made("while")[NAME]["Partner ID"] == "4711"
    bench.session.categories.inherit(folder, NAME, on=False)
    assert made("after") == {}
    inner = bench.session.nodes.taken(folder, ["inner.txt"])["inner.txt"]
    bench.session.categories.apply_below(folder, [NAME])
    assert shown(bench, inner)["Partner ID"] == "4711"


def test_classifications(bench: Bench) -> None:
    document = bench.document()
    assert bench.session.categories.classifications(document) == {}
    bench.session.categories.classify(document, ["Contracts", "File Plan/Invoices"])
    assert sorted(bench.session.categories.classifications(document).values()) == ["Contracts", "Invoices"]
    bench.session.categories.classify(document, ["Invoices"])
    assert list(bench.session.categories.classifications(document).values()) == ["Invoices"]
    bench.session.categories.classify(document, [])
    assert bench.session.categories.classifications(document) == {}
    with pytest.raises(Unfit):
        bench.session.categories.classify(document, ["No Such Class"])


def test_a_version_with_fewer_rows_has_fewer_rows(bench: Bench) -> None:
    folder = bench.unique("Filed")
    for skus in (("S1", "S2", "S3"), ("S9",)):
        filing = bench.filing("a.txt", folder, skus[0].encode(), categories={NAME: {"Lines:SKU": skus}})
        [filed] = bench.session.file([filing])
        assert isinstance(filed, Filed)
        assert bench.session.get(filed.id).categories[NAME]["Lines:SKU"] == list(skus)


def test_a_refused_version_puts_the_rows_back(bench: Bench) -> None:
    folder = bench.unique("Filed")
    rows = {"Lines:SKU": ("S1", "S2"), "Lines:Description": ("one", "two")}
    [filed] = bench.session.file([bench.filing("a.txt", folder, b"1", categories={NAME: rows})])
    assert isinstance(filed, Filed)
    refused: dict[str, Any] = {"categories": {NAME: {"Lines:SKU": ("S9",)}}, "records_class": "Contracts", "schedule": "NO-1"}
    [answer] = bench.session.file([bench.filing("a.txt", folder, b"2", **refused)])
    assert not isinstance(answer, Filed)
    kept = bench.session.get(filed.id)
    assert {name: tuple(kept.categories[NAME][name]) for name in rows} == rows
    assert kept.version == 1


@pytest.mark.parametrize(
    ("held", "wanted", "surplus"),
    [
        pytest.param({"7_5_1_6": "a", "7_5_2_6": "b", "7_5_3_6": "c"}, {"7_5_1_6": "z"}, {"7_5_2", "7_5_3"}, id="two too many"),
        pytest.param({"7_5_1_6": "a"}, {"7_5_1_6": "z", "7_5_2_6": "y"}, set(), id="more than before"),
        pytest.param({"7_5_1_6": "a", "7_5_2_6": "b"}, {"7_2": "z"}, set(), id="a set that is not meant stays"),
        pytest.param({"7_5_2_6": "b", "7_8_2_9": "x"}, {"7_5_1_6": "z"}, {"7_5_2"}, id="only the set that is meant"),
    ],
)
def test_rows_beyond_those_wanted_go(held: dict[str, str], wanted: dict[str, str], surplus: set[str]) -> None:
    assert surplus_rows(held, wanted) == dict.fromkeys(surplus, "")
