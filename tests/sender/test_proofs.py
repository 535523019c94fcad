"""Is it this person, now, for the first time? Real codes, real signatures."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyotp
import pytest

from blocks.errors import ConfigurationError, SenderError
from blocks.outbound import Decision, Meaning, PeopleFile, Person, PublicKey, SignoffProof, Statement
from deployments.sender.proofs import Claim, Held, Signature, kind_of, matching_step, new_seed, typed_code
from deployments.sender.store import Store
from deployments.ssh_signatures import signature_holds
from tasks.rules.certificate import Claim as SignatureClaim
from tasks.rules.policy import Attempt, locked
from tasks.rules.signing import pasted
from tests.sender.keys import SshKey, ssh_key

NOW = datetime(2026, 11, 20, 12, 0, 10, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "state") as store:
        yield store


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SshKey]:
    folder = tmp_path_factory.mktemp("keys")
    return {name: ssh_key(folder, name) for name in ("anna", "ben")}


def statement(time: datetime, decision: Decision = Decision.APPROVE) -> Statement:
    return Statement("ab" * 32, (), "run", 1, decision, Meaning.RELEASE, (), "anna", None, time)


def claim(
    proof: str,
    *keys: PublicKey,
    approver: str = "anna",
    at: datetime = NOW,
    fresh: bool = True,
    decision: Decision = Decision.APPROVE,
) -> Claim:
    person = Person(id=approver, name=approver, mail="x@example.com", keys=keys)
    code = typed_code(proof)
    return Claim(
        person=person,
        people=PeopleFile(timezone="Europe/Berlin", people=(person,)),
        proof=proof,
        fresh=frozenset({code} if code and fresh else ()),
        asked_at=at - timedelta(minutes=5),
        at=at,
        statement=lambda time: statement(time, decision).text,
    )


def holds(store: Store, told: Claim) -> Held | None:
    kind = kind_of(told.proof, SignoffProof.CODE)
    assert kind is not None
    with store.bench() as bench:
        return kind.holds(told, bench)


# --------------------------------------------------------------------------------------------- codes


@pytest.mark.parametrize(
    ("off", "accepted"),
    [
        pytest.param(timedelta(0), True, id="right on time"),
        pytest.param(timedelta(seconds=-25), True, id="phone 25 s behind"),
        pytest.param(timedelta(seconds=25), True, id="phone 25 s ahead"),
        pytest.param(timedelta(minutes=-5), False, id="phone 5 min behind"),
        pytest.param(timedelta(minutes=5), False, id="phone 5 min ahead"),
        pytest.param(timedelta(seconds=-90), False, id="phone 90 s behind"),
    ],
)
@pytest.mark.parametrize("second", [0, 10, 29])
def test_a_phone_whose_clock_is_off(store: Store, off: timedelta, accepted: bool, second: int) -> None:
    seed, at = new_seed(), NOW.replace(second=second)
    store.enrol("anna", seed)
    assert (holds(store, claim(pyotp.TOTP(seed).at(at + off), at=at)) is not None) is accepted


@pytest.mark.parametrize(
    ("proof", "code"),
    [
        pytest.param("123456", "123456", id="plain"),
        pytest.param(" 123 456\n", "123456", id="as the app shows it"),
        pytest.param("12345", None, id="too short"),
        pytest.param("1234567", None, id="too long"),
        pytest.param("12345a", None, id="a letter"),
        pytest.param("١٢٣٤٥٦", None, id="digits of another script"),
        pytest.param("1" * 100_000, None, id="very long"),
        pytest.param("", None, id="empty"),
    ],
)
def test_typed_code(proof: str, code: str | None) -> None:
    assert typed_code(proof) == code


def test_a_code_counts_once_even_for_its_neighbouring_moment(store: Store) -> None:
    seed = new_seed()
    store.enrol("anna", seed)
    code = pyotp.TOTP(seed).at(NOW)
    assert not holds(store, claim(code, fresh=False)), "seen before, in another answer"
    assert holds(store, claim(code)) == Held(SignoffProof.CODE)
    assert not holds(store, claim(code))
    assert not holds(store, claim(code, at=NOW + timedelta(seconds=25)))


def test_two_at_once_with_one_code_one_counts(store: Store) -> None:
    seed = new_seed()
    store.enrol("anna", seed)
    code = pyotp.TOTP(seed).at(NOW)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: holds(store, claim(code)) is not None, range(8)))
    assert answers.count(True) == 1


def test_without_a_seed_no_code_holds(store: Store) -> None:
    seed = new_seed()
    assert not holds(store, claim(pyotp.TOTP(seed).at(NOW)))
    store.enrol("anna", seed)
    assert store.revoke("anna")
    assert not holds(store, claim(pyotp.TOTP(seed).at(NOW)))


def test_anothers_code_does_not_hold(store: Store) -> None:
    anna, ben = new_seed(), new_seed()
    store.enrol("anna", anna)
    store.enrol("ben", ben)
    assert not holds(store, claim(pyotp.TOTP(ben).at(NOW)))


def test_the_matching_step_is_told() -> None:
    seed = new_seed()
    step = int(NOW.timestamp()) // 30
    assert matching_step(seed, pyotp.TOTP(seed).at(NOW), NOW + timedelta(seconds=30)) == step


# --------------------------------------------------------------------------------------------- what is kept


def test_seeds_are_encrypted_and_bound_to_their_person(store: Store) -> None:
    seed = new_seed()
    store.enrol("anna", seed)
    store.enrol("ben", new_seed())
    file = store.folder / "sender.sqlite"
    everything = b"".join(path.read_bytes() for path in store.folder.iterdir() if path.is_file())
    assert seed.encode() not in everything
    with sqlite3.connect(file) as edit:  # an insider gives ben's id to anna's seed
        edit.execute("UPDATE seed SET sealed = (SELECT sealed FROM seed WHERE approver = 'anna') WHERE approver = 'ben'")
    edit.close()
    with pytest.raises(SenderError, match="enrol ben again"), store.bench() as bench:
        bench.seed("ben")


def test_the_folder_and_its_keys_are_the_senders_alone(store: Store) -> None:
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert {(store.folder / name).stat().st_mode & 0o777 for name in ("seeds.key", "seal.pem")} == {0o600}
    (store.folder / "seeds.key").chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Store(store.folder)


def test_five_wrong_proofs_in_a_row_lock_until_unlocked(store: Store) -> None:
    with store.bench() as bench:
        for _ in range(4):
            bench.tried(Attempt("anna", NOW, right=False))
        bench.tried(Attempt("anna", NOW, right=True))
        for _ in range(4):
            bench.tried(Attempt("anna", NOW, right=False))
        assert locked("anna", bench.attempts("anna"), NOW) is None
        bench.tried(Attempt("anna", NOW, right=False))
        assert locked("anna", bench.attempts("anna"), NOW) is not None
        assert locked("ben", bench.attempts("ben"), NOW) is None
    assert store.wrong() == {"anna": 5}
    assert store.unlock("anna")
    assert store.wrong() == {}


def test_a_burnt_code_is_refused_to_everybody_and_kept_hidden(store: Store) -> None:
    with store.bench() as bench:
        assert bench.burn("123456", NOW)
        assert not bench.burn("123456", NOW + timedelta(hours=2))
        assert bench.burn("123456", NOW + timedelta(hours=6)), "long over: the same digits come again by chance"
    everything = b"".join(path.read_bytes() for path in store.folder.iterdir() if path.is_file())
    assert b"123456" not in everything


def test_what_a_judgement_used_up_is_kept_whole_or_not_at_all(store: Store) -> None:
    with pytest.raises(RuntimeError), store.bench() as bench:
        bench.burn("123456", NOW)
        raise RuntimeError
    with store.bench() as bench:
        assert bench.burn("123456", NOW)


# --------------------------------------------------------------------------------------------- signatures

SIGNED = NOW.replace(microsecond=0)


def signed(key: SshKey, namespace: str = "release@countersign") -> str:
    return pasted(SIGNED, key.sign(statement(SIGNED).text, namespace))


def test_a_signature_of_the_approver_holds_and_says_which_key(store: Store, keys: dict[str, SshKey], tmp_path: Path) -> None:
    other = ssh_key(tmp_path, "old")
    held = holds(store, claim(signed(keys["anna"]), PublicKey(key=other.public), PublicKey(key=keys["anna"].public)))
    assert held is not None
    assert held.key == " ".join(keys["anna"].public.split(" ")[:2])
    assert held.signed_at == SIGNED
    told = SignatureClaim("anna", held.key, statement(SIGNED).text, held.signature, NOW)
    assert signature_holds(told)
    changed = SignatureClaim("anna", held.key, statement(SIGNED, Decision.REJECT).text, held.signature, NOW)
    assert not signature_holds(changed)


DAY = timedelta(days=1)
TODAY = NOW.date()


@pytest.mark.parametrize(
    ("valid_from", "valid_until", "at", "accepted"),
    [
        pytest.param(None, None, NOW, True, id="no dates"),
        pytest.param(TODAY, TODAY, NOW, True, id="only today"),
        pytest.param(None, TODAY - DAY, NOW, False, id="until yesterday"),
        pytest.param(TODAY + DAY, None, NOW, False, id="from tomorrow"),
        pytest.param(TODAY, None, NOW.replace(day=19, hour=23, minute=1), True, id="today has begun in Berlin, not in UTC"),
        pytest.param(None, TODAY, NOW.replace(hour=23, minute=1), False, id="today is over in Berlin, not in UTC"),
    ],
)
def test_a_key_has_its_days(
    store: Store, keys: dict[str, SshKey], valid_from: date | None, valid_until: date | None, at: datetime, accepted: bool
) -> None:
    key = PublicKey(key=keys["anna"].public, valid_from=valid_from, valid_until=valid_until)
    proof = pasted(at.replace(microsecond=0), keys["anna"].sign(statement(at.replace(microsecond=0)).text))
    assert (holds(store, claim(proof, key, at=at)) is not None) is accepted


def test_what_no_signature_may_be(store: Store, keys: dict[str, SshKey]) -> None:
    anna, ben = keys["anna"], keys["ben"]
    own, good = PublicKey(key=anna.public), signed(anna)
    assert holds(store, claim(good, own))
    assert not holds(store, claim(signed(anna, namespace="git"), own)), "another namespace"
    assert not holds(store, claim(signed(ben), own)), "another person's key"
    assert not holds(store, claim(good, own, decision=Decision.REJECT)), "another decision"
    assert not holds(store, claim(good)), "no key in the people file"
    assert not holds(store, claim(good[:-8], own)), "cut off"
    assert not holds(store, claim(good.replace("120010Z", "120009Z"), own)), "another time than was signed"
    assert not holds(store, claim(good, own, at=NOW + timedelta(hours=1))), "signed before it was asked"
    with store.bench() as bench:
        assert Signature().holds(claim("123456", own), bench) is None, "a code"
    assert kind_of("123456", SignoffProof.SIGNATURE) is None, "no fallback to anything weaker"
