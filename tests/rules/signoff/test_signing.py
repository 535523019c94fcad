"""Raw answers of any shape, and the text that a signature covers, verified by stock ssh-keygen."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.outbound import NAMESPACE, Answer, Decision, Meaning, Refusal, Seat, SignoffProof
from tasks.rules.signing import (
    DIGITS_PATTERN,
    MOST_CODES,
    PROOF_PATTERNS,
    answer_hash,
    codes_seen,
    parse_answer,
    pasted,
    round_key,
    statement,
    timely,
    unchanged,
    unpasted,
)
from tests.rules.signoff.world import NOON, PLACE, answer, asked, matter

FILLED = {"decision": "approve", "approver": "ann", "meaning": "approval", "package": "3F2A9C01", "proof": "123456"}
VARIABLE = {"__prefect_kind": "workspace_variable", "variable_name": "password"}


def test_a_filled_form_is_an_answer() -> None:
    raw = {**FILLED, "approver": "bea for ann", "left_out": ["1. a.csv"], "comment": " late \n"}
    expected = Answer(
        Decision.APPROVE, Seat("bea", "ann"), Meaning.APPROVAL, "3f2a9c01", "123456", left_out=("1. a.csv",), comment="late"
    )
    assert parse_answer(raw) == expected
    assert "123456" not in repr(expected), "a proof does not get into logs"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        pytest.param(None, "no-answer", id="09 10 a run resumed without an answer"),
        pytest.param({}, "incomplete", id="03 an empty form"),
        *(pytest.param({**FILLED, name: None}, "incomplete", id=f"03 {name} left out") for name in FILLED),
        *(pytest.param({**FILLED, name: "  "}, "incomplete", id=f"03 {name} blank") for name in FILLED),
        *(
            pytest.param({**FILLED, name: VARIABLE}, "malformed", id=f"26 a Prefect Variable in {name}")
            for name in (*FILLED, "comment", "left_out")
        ),
        pytest.param({**FILLED, "left_out": [VARIABLE]}, "malformed", id="26 a Prefect Variable in the list"),
        pytest.param({**FILLED, "__prefect_kind": "jinja"}, "malformed", id="26 the form itself as a template"),
        pytest.param({**FILLED, "left_out": "1. a.csv"}, "malformed", id="16 a text instead of a list"),
        pytest.param({**FILLED, "left_out": ["x"] * 1001}, "malformed", id="16 a list without end"),
        pytest.param({**FILLED, "proof": 123456}, "malformed", id="a number as proof"),
        pytest.param({**FILLED, "decision": True}, "malformed", id="true as decision"),
        pytest.param({**FILLED, "decision": "APPROVE"}, "malformed", id="a decision that is none"),
        pytest.param({**FILLED, "meaning": "fun"}, "malformed", id="a meaning that is none"),
        pytest.param({**FILLED, "comment": "x" * 10**6}, "malformed", id="a comment without end"),
        pytest.param({**FILLED, "proof": "1" * 10**6}, "malformed", id="a proof without end"),
        pytest.param({**FILLED, "quorum": 0}, "malformed", id="a field that the form does not have"),
        pytest.param([FILLED], "malformed", id="a list of forms"),
        pytest.param("approve", "malformed", id="a text"),
    ],
)
def test_what_is_no_answer_is_refused(raw: object, code: str) -> None:
    refused = parse_answer(raw)
    assert isinstance(refused, Refusal)
    assert refused.code == code
    assert "password" not in refused.first_line


@pytest.mark.parametrize(("comment", "kind"), [("\x00\u202e", Answer), ("\ud800", Refusal)])
def test_control_characters_and_half_a_surrogate_pair_do_no_harm(comment: str, kind: type[object]) -> None:
    raw = {**FILLED, "comment": comment}
    assert isinstance(parse_answer(raw), kind)
    assert unchanged(raw, answer_hash(raw))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.just("__prefect_kind"), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values | st.fixed_dictionaries({name: json_values | st.just(value) for name, value in FILLED.items()}))
@settings(max_examples=300, deadline=None)
def test_nothing_that_can_be_posted_raises(raw: object) -> None:
    assert isinstance(parse_answer(raw), Answer | Refusal)
    assert re.fullmatch("[0-9a-f]{64}", answer_hash(raw))
    assert all(re.fullmatch("[0-9]{6}", code) for code in codes_seen(raw))


@given(json_values, json_values)
def test_12_an_answer_edited_afterwards_has_another_hash(before: object, after: object) -> None:
    if repr(before) != repr(after) and before != after:
        assert not unchanged(after, answer_hash(before))


@pytest.mark.parametrize(
    ("raw", "codes"),
    [
        pytest.param(FILLED, ("123456",), id="06 the code of an answer"),
        pytest.param({"proof": "123 456"}, ("123456",), id="06 a code with a blank, in an answer that is refused"),
        pytest.param({"proof": 12345}, ("012345",), id="06 a code as a number, its zero lost"),
        pytest.param({"comment": "first 111111 then 222222"}, ("111111", "222222"), id="06 codes in the comment"),
        pytest.param({"proof": "1234567"}, (), id="seven digits are no code"),
        pytest.param({"proof": "20261120T100000Z." + "123456" * 20}, (), id="a signature holds no code"),
        pytest.param(None, (), id="no answer holds none"),
        pytest.param({"proof": VARIABLE}, (), id="nor does a Prefect Variable"),
    ],
)
def test_06_every_code_that_was_seen_is_burnt(raw: object, codes: tuple[str, ...]) -> None:
    assert codes_seen(raw) == codes


def test_one_long_text_does_not_burn_all_codes() -> None:
    flood = " and ".join(f"{n:06d}" for n in range(1000))
    assert len(codes_seen({"proof": "999999", "comment": flood})) == MOST_CODES
    assert codes_seen({"comment": flood, "proof": "999999"})[0] == "999999"


def test_a_round_has_its_own_key() -> None:
    assert round_key(2, "ab" * 32, "0badcafe") == "signoff-2-abababababababab-0badcafe"


@pytest.mark.parametrize(
    ("typed", "fits"),
    [("123456", True), (" 123 456 ", True), ("12345", False), ("１２３４５６", False), ("", False), ("123456\n123456", False)],
)
def test_the_field_for_codes_takes_codes_only(typed: str, fits: bool) -> None:
    assert bool(re.search(PROOF_PATTERNS[SignoffProof.CODE], typed)) is fits


def test_the_field_for_digits_takes_eight_hex_digits() -> None:
    assert re.search(DIGITS_PATTERN, " 3F2a9c01 ")
    assert not re.search(DIGITS_PATTERN, "3f2a9c0g")


# ------------------------------------------------------------------------------------------ statements and signatures

M = matter()
BUT = answer("ann", M, Decision.APPROVE_BUT, left_out=("3. c.csv", "1. a.csv"), comment="x")


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"package": "0" * 64}, id="package"),
        pytest.param({"destinations": (replace(PLACE, host="evil.example"),)}, id="destination"),
        pytest.param({"run": "run-2"}, id="run"),
        pytest.param({"round": 2}, id="round"),
        pytest.param({"decision": Decision.APPROVE}, id="27 decision"),
        pytest.param({"meaning": Meaning.REVIEW}, id="meaning"),
        pytest.param({"left_out": ()}, id="what is left out"),
        pytest.param({"approver": "bea"}, id="approver"),
        pytest.param({"on_behalf_of": "cem"}, id="on whose behalf"),
        pytest.param({"time": NOON + timedelta(seconds=1)}, id="time"),
    ],
)
def test_a_statement_covers_all_of_it(changed: dict[str, Any]) -> None:
    made = statement(BUT, M, asked(M), NOON)
    assert replace(made, **changed).text != made.text


def test_a_statement_does_not_depend_on_the_order_of_clicks() -> None:
    other = replace(BUT, left_out=("1. a.csv", "3. c.csv"))
    assert statement(BUT, M, asked(M), NOON).text == statement(other, M, asked(M), NOON).text


@pytest.mark.parametrize(
    ("signed_at", "expected"),
    [
        pytest.param(NOON - timedelta(seconds=25), True, id="just now"),
        pytest.param(NOON + timedelta(seconds=90), True, id="by a clock that is ahead"),
        pytest.param(NOON + timedelta(minutes=5), False, id="in the future"),
        pytest.param(NOON - timedelta(hours=2), False, id="before it was asked"),
    ],
)
def test_timely(signed_at: datetime, expected: bool) -> None:
    assert timely(signed_at, asked_at=NOON - timedelta(hours=1), now=NOON) is expected


@pytest.mark.parametrize("line", ["", "123456", "20261120T100000Z.", "20261399T100000Z.QUJDREVGR0g=", "x" * 10_000])
def test_what_is_no_pasted_line(line: str) -> None:
    assert unpasted(line) is None


def keygen(*args: str, folder: Path, message: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh-keygen", *args],
        cwd=folder,
        input=message,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={"TZ": "UTC"},
    )


def test_27_stock_ssh_keygen_signs_and_verifies_the_statement(tmp_path: Path) -> None:
    for who in ("ann", "bea"):
        assert keygen("-q", "-t", "ed25519", "-N", "", "-f", who, folder=tmp_path, message="").returncode == 0
    text = statement(BUT, M, asked(M), NOON).text
    line = pasted(NOON, keygen("-Y", "sign", "-n", NAMESPACE, "-f", "ann", folder=tmp_path, message=text).stdout)
    assert re.search(PROOF_PATTERNS[SignoffProof.SIGNATURE], line)
    found = unpasted(f" {line[:30]}\n{line[30:]} ")
    assert found is not None
    time, body = found
    assert time == NOON.astimezone(UTC)
    (tmp_path / "sig").write_text(f"-----BEGIN SSH SIGNATURE-----\n{body}\n-----END SSH SIGNATURE-----\n")

    def verifies(message: str, *, signer: str = "ann", namespace: str = NAMESPACE, key_until: str = "") -> bool:
        public = (tmp_path / f"{signer}.pub").read_text()
        (tmp_path / "allowed").write_text(f'ann namespaces="{NAMESPACE}"{key_until} {public}')
        when = f"verify-time={time:%Y%m%d%H%M%S}"
        command = ("-Y", "verify", "-n", namespace, "-I", "ann", "-f", "allowed", "-s", "sig", "-O", when)
        return keygen(*command, folder=tmp_path, message=message).returncode == 0

    again = statement(BUT, M, asked(M), time)
    assert verifies(again.text)
    assert not verifies(replace(again, decision=Decision.APPROVE, left_out=()).text), "the decision was edited"
    assert not verifies(again.text, namespace="git"), "a wrong namespace"
    assert not verifies(again.text, signer="bea"), "another user's key"
    assert not verifies(again.text, key_until=',valid-before="20261119"'), "an expired key"
