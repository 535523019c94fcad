"""Sets: what belongs together, what is missing, and what a manifest says about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from blocks.values import SetTerms
from tasks.rules.sets import Member, assemble, listed, set_of, wanted

TERMS = SetTerms(
    pattern=r"(?P<set>\d{2})_.*", files=("{set}_a.csv", "{set}_b.csv"), manifest="{set}_list.sha256", window=timedelta(hours=1)
)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
A, B, LIST = "11_a.csv", "11_b.csv", "11_list.sha256"


def came(name: str, digest: str = "d", *, minute: int = 0, accepted: bool = True, journey: str = "") -> Member:
    return Member(
        journey or f"j-{name}-{minute}",
        name,
        digest,
        NOON + timedelta(minutes=minute),
        accepted,
        "" if accepted else "bad: it is",
    )


@pytest.mark.parametrize(
    ("there", "manifest", "missing"),
    [
        pytest.param([], None, (A, B, LIST), id="nothing is there"),
        pytest.param([A, B, LIST], {A: None, B: None}, (), id="bare names are enough"),
        pytest.param([A, B, LIST], {A: "d", B: "d"}, (), id="digests agree"),
        pytest.param(
            [A, B, LIST], {A: "x", B: "d"}, (f"{A} (what came has other bytes than the manifest says)",), id="other bytes"
        ),
        pytest.param([A, B, LIST], {A: "d"}, (f"{B} (not listed in the manifest)",), id="not listed"),
        pytest.param(
            [A, B, LIST], {A: "d", B: "d", "c": "d"}, ("c (listed in the manifest, and not agreed)",), id="not agreed"
        ),
        pytest.param([A, B, LIST], None, (f"{LIST} (it is no list of names)",), id="no list"),
        pytest.param([A, LIST], {A: "d", B: "d"}, (B,), id="one is missing"),
        pytest.param([B], None, (A, LIST), id="the manifest is missing too"),
    ],
)
def test_what_is_missing_is_named(there: list[str], manifest: dict[str, str | None] | None, missing: tuple[str, ...]) -> None:
    state = assemble("11", [came(name) for name in there], manifest, TERMS)
    assert (state.missing, state.whole) == (missing, not missing)


def test_the_newest_that_the_manifest_admits_counts() -> None:
    files = [
        came(A, "old", minute=1, journey="1"),
        came(A, "right", minute=2, journey="2"),
        came(A, "other", minute=3, journey="3"),
    ]
    assert assemble("11", files, {A: "right"}, TERMS).members == {A: "2"}
    assert assemble("11", files, None, TERMS).members == {A: "3"}
    refused = assemble("11", [came(A, accepted=False)], None, TERMS)
    assert refused.missing[0] == f"{A} (bad: it is)"


@pytest.mark.parametrize(("minutes", "late"), [(59, False), (60, False), (61, True)])
def test_the_window_counts_from_the_first_file(minutes: int, late: bool) -> None:
    state = assemble("11", [came(A, minute=0), came(B, minute=50)], None, TERMS)
    assert state.late(TERMS, NOON + timedelta(minutes=minutes)) is late


def test_names_say_which_set() -> None:
    assert (set_of("11_x.csv", TERMS), set_of("x.csv", TERMS)) == ("11", None)
    assert wanted("11", TERMS) == (A, B, LIST)


def test_lists_are_read_as_sha256sum_writes_them() -> None:
    digest = "ab" * 32
    assert listed(f"{digest}  a b.csv\n{digest.upper()} *c.csv\r\n# no\n\nplain.csv\n".encode()) == {
        "a b.csv": digest,
        "c.csv": digest,
        "plain.csv": None,
    }
    with pytest.raises(ValueError, match="more than"):
        listed(b"x\n" * 20_000)
    with pytest.raises(ValueError):
        listed(b"\xff\xfe")


@pytest.mark.parametrize(
    "changes",
    [{"pattern": "("}, {"pattern": r"\d+"}, {"files": ("a.csv",)}, {"files": ("{set}", "{set}")}, {"manifest": "{set}_a.csv"}],
)
def test_terms_that_mean_nothing_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        SetTerms.model_validate({"pattern": TERMS.pattern, "files": TERMS.files, **changes})
