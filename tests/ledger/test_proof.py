"""Whatever is changed afterwards, verify names it."""

from __future__ import annotations

import json
import shutil
import sqlite3
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from blocks.canonical import canonical
from blocks.errors import ChainBroken, ConfigurationError, SendRefused
from blocks.ledger import Entry, Ledger
from blocks.seals import SealKey, signed
from blocks.values import Stage
from deployments.sender.sealing import seal
from deployments.sender.store import Store
from tests.ledger.conftest import Tamper


@pytest.fixture
def key(tmp_path: Path) -> SealKey:
    return SealKey.open(tmp_path / "seal.pem")


def fill(ledger: Ledger) -> None:
    for kind in ("arrived", "fetched", "filed"):
        ledger.append([Entry(f"j{n}", kind, {"name": f"{n}.csv", "kind": kind}, once=f"{kind} {n}") for n in range(4)])
    ledger.append([Entry("j1", "quarantined", {"case": {"code": "empty"}}, stage=Stage.QUARANTINED)])


SECOND = "WHERE journey = 'j2' AND n = 2"
THIRD = "WHERE journey = 'j2' AND n = 3"
TAMPERED = {
    "body": (
        f"UPDATE entry SET record = replace(record, '2.csv', '9.csv') {SECOND}",
        r"j2, entry 2 \('fetched'\): its text was",
    ),
    "hash": (f"UPDATE entry SET hash = 'ff' {SECOND}", r"j2, entry 2 \('fetched'\): its text was edited, or its hash"),
    "kind": (f"UPDATE entry SET kind = 'x' {SECOND}", r"j2, entry 2 .* column kind says 'x', the sealed text says 'fetched'"),
    "unique key": (f"UPDATE entry SET once = 'x' {SECOND}", r"j2, entry 2 .* column once says 'x'"),
    "time": (f"UPDATE entry SET at = '2020-01-01T00:00:00.000000Z' {SECOND}", r"j2, entry 2 .* column at says '2020"),
    "other journey": ("UPDATE entry SET journey = 'j9' WHERE journey = 'j2'", r"j9, entry 1 .* column journey says 'j9'"),
    "entry removed": (f"DELETE FROM entry {SECOND}", r"j2: entry 2 is missing before entry 3"),
    "last entry removed": (
        f"DELETE FROM entry {THIRD}",
        r"j2: the index \(journey\) says kind 'filed', the record says 'fetched'",
    ),
    "journey removed": ("DELETE FROM entry WHERE journey = 'j2'", r"j2: the index knows it, and the record has no entry"),
    "journey removed, index too": (
        "DELETE FROM entry WHERE journey = 'j2'; DELETE FROM journey WHERE journey = 'j2'",
        r"entry number 3 is missing \(3 in all\)",
    ),
    "index": (
        "UPDATE journey SET name = 'x' WHERE journey = 'j2'",
        r"j2: the index .* name 'x', the record says '2.csv'.*reindex",
    ),
    "case": ("DELETE FROM quarantine_case", r"j1: the index \(quarantine_case\) does not know it"),
}


@pytest.mark.parametrize(("statement", "told"), TAMPERED.values(), ids=TAMPERED.keys())
def test_what_was_changed_is_named(ledger: Ledger, tamper: Tamper, statement: str, told: str) -> None:
    fill(ledger)
    assert ledger.verify().entries == 13
    tamper(*statement.split(";"))
    with pytest.raises(ChainBroken, match=told):
        ledger.verify()
    if "j2" in told:
        assert ledger.verify("j0").entries == 3
        if "number" not in told:
            with pytest.raises(ChainBroken, match=told):
                ledger.verify("j2")


def test_an_entry_forged_with_its_hash_breaks_the_next_link(ledger: Ledger, tamper: Tamper) -> None:
    fill(ledger)
    with ledger._db.read() as connection:
        record = connection.exec_driver_sql("SELECT record FROM entry WHERE journey = 'j2' AND n = 2").scalar_one()
    forged = record.replace("2.csv", "9.csv")
    digest = sha256(forged.encode()).hexdigest()
    tamper(f"UPDATE entry SET record = '{forged}', hash = '{digest}' WHERE journey = 'j2' AND n = 2")
    with pytest.raises(
        ChainBroken, match=r"journey j2, entry 3 \('filed'\): it was written behind the hash .* one was replaced"
    ):
        ledger.verify()


def test_reindex_makes_the_same_index_again(ledger: Ledger, tamper: Tamper) -> None:
    fill(ledger)
    before = (ledger.search(), ledger.cases())
    tamper(
        "UPDATE journey SET name = 'x', stage = NULL", "DELETE FROM journey WHERE journey = 'j3'", "DELETE FROM quarantine_case"
    )
    ledger.reindex()
    assert (ledger.search(), ledger.cases()) == before
    ledger.verify()


# --------------------------------------------------------------------------------------------- checkpoints


def test_checkpoints_seal_what_is_new_and_are_chained(ledger: Ledger, key: SealKey) -> None:
    assert ledger.checkpoint(key.sign, key.id) is None
    fill(ledger)
    first = ledger.checkpoint(key.sign, key.id)
    assert first is not None
    assert ledger.checkpoint(key.sign, key.id) is None
    ledger.append([Entry("late", "arrived")])
    second = ledger.checkpoint(key.sign, key.id)
    assert second is not None
    assert (first.facts["first"], first.facts["last"], second.facts["first"], second.facts["last"]) == (1, 13, 14, 14)
    assert second.facts["previous"] == first.hash
    assert signed(key.public, second.record.encode(), second.signature)
    assert ledger.checkpoints() == [first, second]
    ledger.append([Entry("later", "arrived")])
    found = ledger.verify(keys={key.id: key.public}, filed=second)
    assert (found.journeys, found.entries, found.checkpoints, found.sealed, found.signatures) == (6, 15, 2, 14, 2)


NEWEST_JOURNEY_REMOVED = (
    "DELETE FROM entry WHERE journey = 'last'",
    "DELETE FROM journey WHERE journey = 'last'",
)


def test_the_removal_of_a_whole_journey_shows(ledger: Ledger, tamper: Tamper, key: SealKey) -> None:
    """The newest journey, removed from the record and the index: no number is left out, no chain is broken."""
    fill(ledger)
    ledger.append([Entry("last", "arrived"), Entry("last", "fetched")])
    ledger.checkpoint(key.sign, key.id)
    tamper(*NEWEST_JOURNEY_REMOVED)
    with pytest.raises(ChainBroken, match="checkpoint 1: it sealed the entries 1 to 15, and 2 of them are missing"):
        ledger.verify()


def test_a_checkpoint_removed_with_its_entries_shows_by_the_filed_one(ledger: Ledger, tamper: Tamper, key: SealKey) -> None:
    fill(ledger)
    ledger.checkpoint(key.sign, key.id)
    ledger.append([Entry("last", "arrived")])
    filed = ledger.checkpoint(key.sign, key.id)
    tamper(*NEWEST_JOURNEY_REMOVED, "DELETE FROM checkpoint WHERE number = 2")
    assert ledger.verify().entries == 13
    with pytest.raises(ChainBroken, match="checkpoint 2: it was filed, and the ledger has only 1"):
        ledger.verify(filed=filed)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE checkpoint SET record = replace(record, '13', '12') WHERE number = 1", "checkpoint 1: its text was edited"),
        ("DELETE FROM checkpoint WHERE number = 1", "checkpoint 1: it is missing before checkpoint 2"),
        ("UPDATE checkpoint SET signature = '00' WHERE number = 2", "checkpoint 2: its signature does not fit"),
    ],
)
def test_a_changed_checkpoint_is_named(ledger: Ledger, tamper: Tamper, key: SealKey, statement: str, told: str) -> None:
    fill(ledger)
    ledger.checkpoint(key.sign, key.id)
    ledger.append([Entry("late", "arrived")])
    ledger.checkpoint(key.sign, key.id)
    tamper(statement)
    with pytest.raises(ChainBroken, match=told):
        ledger.verify(keys={key.id: key.public})


def test_a_last_entry_forged_with_its_hash_breaks_the_seal(ledger: Ledger, tamper: Tamper, key: SealKey) -> None:
    ledger.append([Entry("a", "vote", {"yes": 1})])
    ledger.checkpoint(key.sign, key.id)
    with ledger._db.read() as connection:
        forged = connection.exec_driver_sql("SELECT record FROM entry").scalar_one().replace('"yes":1', '"yes":0')
    tamper(f"UPDATE entry SET record = '{forged.replace(':', chr(58))}', hash = '{sha256(forged.encode()).hexdigest()}'")
    with pytest.raises(ChainBroken, match="checkpoint 1: one of the entries 1 to 1 is not the one it sealed"):
        ledger.verify()


def test_a_foreign_key_is_refused(ledger: Ledger, key: SealKey, tmp_path: Path) -> None:
    other = SealKey.open(tmp_path / "other.pem")
    fill(ledger)
    ledger.checkpoint(other.sign, key.id)
    with pytest.raises(ChainBroken, match="signature does not fit"):
        ledger.verify(keys={key.id: key.public})
    with pytest.raises(ChainBroken, match="none of those given"):
        ledger.verify(keys={other.id: other.public})


def test_what_was_sealed_here_before_goes_on_being_whole_when_the_sender_seals(
    ledger: Ledger, tamper: Tamper, key: SealKey, tmp_path: Path
) -> None:
    with Store(tmp_path / "sender") as sender:

        def sign(text: bytes) -> bytes:
            return seal("checkpoint", text.decode(), sender)

        fill(ledger)
        before = ledger.checkpoint(key.sign, key.id)
        ledger.append([Entry("late", "arrived")])
        after = ledger.checkpoint(sign, sender.seal_key.id)
        assert before is not None and after is not None and after.facts["previous"] == before.hash
        both = {key.id: key.public, sender.seal_key.id: sender.seal_key.public}
        assert ledger.verify(keys=both, filed=before).signatures == 2
        with pytest.raises(ChainBroken, match=r"checkpoint 2: it is signed with the key .*, which is none of those given"):
            ledger.verify(keys={key.id: key.public})
        tamper("UPDATE checkpoint SET signature = (SELECT signature FROM checkpoint WHERE number = 1) WHERE number = 2")
        with pytest.raises(ChainBroken, match="checkpoint 2: its signature does not fit"):
            ledger.verify(keys=both)


def test_the_key_of_the_installation_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "seal.pem"
    key = SealKey.open(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SealKey.open(path).public == key.public
    assert list(path.parent.iterdir()) == [path]
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        SealKey.open(path)
    path.chmod(0o600)
    path.write_text("nothing")
    with pytest.raises(ConfigurationError, match="not a private key"):
        SealKey.open(path)


# --------------------------------------------------------------------------------------------- properties

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FACTS = st.dictionaries(
    st.sampled_from(["partner", "stream", "name", "digest", "repository_id", "size", "else"]), JSON, max_size=4
)
ENTRIES = st.lists(
    st.builds(
        Entry,
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["arrived", "filed"]),
        FACTS,
        st.none() | st.text(min_size=1, max_size=3),
        st.none() | st.sampled_from(Stage),
    ),
    max_size=6,
)
relaxed = settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@relaxed
@given(st.lists(ENTRIES, max_size=4))
def test_any_sequence_of_appends_verifies(fresh: Callable[[], str], batches: list[list[Entry]]) -> None:
    with Ledger(fresh()) as ledger:
        written = [entry for batch in batches for entry in ledger.append(batch) if entry.fresh]
        assert ledger.verify().entries == len(written)
        for entry in written:
            assert ledger.journey(entry.journey)[entry.n - 1] == entry
        ledger.reindex()
        ledger.verify()


@settings(relaxed, max_examples=60)
@given(entry=st.integers(1, 13), place=st.integers(0), char=st.integers(0x20, 0x7E))
def test_any_changed_byte_of_any_text_is_found(sqlite_file: Path, tmp_path: Path, entry: int, place: int, char: int) -> None:
    written = tmp_path / "written.sqlite"
    if not written.exists():
        shutil.copy(sqlite_file, written)
        with Ledger(f"sqlite:///{written}") as ledger:
            fill(ledger)
    copy = tmp_path / "copy.sqlite"
    for old in tmp_path.glob("copy.sqlite*"):
        old.unlink()
    shutil.copy(written, copy)
    file = sqlite3.connect(copy)
    try:
        file.execute("DROP TRIGGER entry_no_update")
        [record] = file.execute("SELECT record FROM entry WHERE seq = ?", [entry]).fetchone()
        place %= len(record)
        changed = record[:place] + chr(char) + record[place + 1 :]
        file.execute("UPDATE entry SET record = ? WHERE seq = ?", [changed, entry])
        file.commit()
    finally:
        file.close()
    facts = json.loads(record)
    with Ledger(f"sqlite:///{copy}") as ledger:
        if changed == record:
            ledger.verify()
        else:
            with pytest.raises(ChainBroken, match=f"journey {facts['journey']}, entry {facts['n']} .*its text was edited"):
                ledger.verify()


def test_one_byte_edited_in_a_copy_of_the_file_is_named(sqlite_file: Path, tmp_path: Path) -> None:
    """Not through SQLite: the byte itself, as an editor of hexadecimal would."""
    file = tmp_path / "copy.sqlite"
    shutil.copy(sqlite_file, file)
    with Ledger(f"sqlite:///{file}") as ledger:
        fill(ledger)
    content = file.read_bytes()
    needle = b'"journey":"j2","kind":"fetched"'
    assert content.count(needle) == 1
    file.write_bytes(content.replace(needle, needle.replace(b"fetched", b"fetchee")))
    with Ledger(f"sqlite:///{file}") as ledger, pytest.raises(ChainBroken, match=r"journey j2, entry 2 .*its text was edited"):
        ledger.verify()


# --------------------------------------------------------------------------------------------- the sender's line of checkpoints


def test_the_sender_seals_one_line_of_checkpoints_and_no_second_past(ledger: Ledger, tmp_path: Path) -> None:
    with Store(tmp_path / "state") as store:

        def sign(text: bytes) -> bytes:
            return seal("checkpoint", text.decode(), store)

        fill(ledger)
        first = ledger.checkpoint(sign, store.seal_key.id)
        assert first is not None and store.checkpoint() == first.record
        assert sign(first.record.encode()) == first.signature, "asked for the same again, it is the same"
        behind = {**first.facts, "number": 2, "first": first.facts["last"] + 1, "last": 99, "previous": first.hash}
        for forged in (
            {**behind, "number": 12},
            {**behind, "previous": "f" * 64},
            {**behind, "first": 1},
            {**behind, "last": 1},
            {**behind, "last": "99"},
            {**first.facts, "root": "f" * 64},
        ):
            with pytest.raises(SendRefused, match="was not sealed"):
                sign(canonical(forged).encode())
        ledger.append([Entry("later", "arrived")])
        second = ledger.checkpoint(sign, store.seal_key.id)
        assert second is not None and second.number == 2
        with pytest.raises(SendRefused, match="does not follow checkpoint 2"):
            sign(first.record.encode())
        store.forget_checkpoint()
        assert sign(first.record.encode()), "by operations alone, where ledger or sender came back from a backup"


def test_what_was_sealed_when_somebody_was_stopped_is_the_ledgers_next(ledger: Ledger, tmp_path: Path) -> None:
    with Store(tmp_path / "state") as store:

        def sign(text: bytes) -> bytes:
            return seal("checkpoint", text.decode(), store)

        def stopped(text: bytes) -> bytes:
            sign(text)
            raise KeyboardInterrupt

        fill(ledger)
        with pytest.raises(KeyboardInterrupt):
            ledger.checkpoint(stopped, store.seal_key.id)
        ledger.append([Entry("later", "arrived")])
        record = store.checkpoint()
        assert record is not None and ledger.checkpoints() == []
        taken = ledger.take(record, sign)
        assert taken is not None and ledger.take(record, sign) is None, "once"
        second = ledger.checkpoint(sign, store.seal_key.id)
        assert second is not None and second.number == 2
        assert ledger.verify(keys={store.seal_key.id: store.seal_key.public}).checkpoints == 2
        ledger.append([Entry("last", "arrived")])
        forged = {**second.facts, "number": 3, "first": second.facts["last"] + 1, "last": second.facts["last"] + 1}
        sign(canonical({**forged, "previous": second.hash}).encode())
        with pytest.raises(ChainBroken, match="checkpoint 3: one was sealed over other entries"):
            ledger.take(store.checkpoint() or "", sign)
        with pytest.raises(ChainBroken, match="checkpoint 2: another one of that number"):
            ledger.take(canonical({**second.facts, "at": "2020-01-01T00:00:00.000000Z"}), sign)
