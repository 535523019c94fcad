"""Reduced to a tombstone: the database lets go of nothing else, answers stay what they were, and whatever is changed is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from blocks.canonical import canonical, sha256
from blocks.errors import ChainBroken, JourneyReduced, LeaseLost, SendRefused
from blocks.ledger import Entry, Ledger, Verification
from blocks.seals import SealKey, signed
from blocks.tombstones import REDUCED, Exports, Sealed, export, tombstone
from blocks.values import FileKind, RemoteFile, Stage
from deployments.sender.sealing import seal
from deployments.sender.store import Store
from tests.ledger.conftest import Tamper

ABOUT = {"partner": "acme", "stream": "prices", "name": "Müller.csv", "size": 7}
FILED = {"digest": "ab12", "repository": "kept", "repository_id": "9", "keep_until": "2030-01-01", "folder": "Prices"}

# What is read is the same in both databases.
on_sqlite = pytest.mark.parametrize("fresh", ["sqlite"], indirect=True)


@pytest.fixture
def key(tmp_path: Path) -> SealKey:
    return SealKey.open(tmp_path / "seal.pem")


def fill(ledger: Ledger) -> None:
    """Journeys j0 to j3, through and closed; j1 had a case, j3 is open still."""
    for kind, facts, stage in (
        ("arrived", {"folder": "/out"}, None),
        ("filed", FILED, Stage.FILED),
        ("cleared", {"outcome": "done"}, Stage.CLEARED),
    ):
        journeys = [n for n in range(4) if (n, kind) != (3, "cleared")]
        ledger.append([Entry(f"j{n}", kind, {**ABOUT, **facts, "by": "Ann"}, f"{kind}/Mü{n}", stage) for n in journeys])
    for state in ("new", "resolved"):
        case = {"code": "empty", "reason": "Ann's file", "owner": "ann@example.com", "state": state}
        ledger.append([Entry("j1", "told", {"case": case})])


def reduced(ledger: Ledger, key: SealKey, folder: Path, *journeys: str) -> str:
    """Export and reduce them; the export's name."""
    links = ledger.chains(journeys)
    tombs = [Sealed(tomb, key.sign(tomb.record.encode())) for tomb in (tombstone(links[one], key.id) for one in journeys)]
    text = export([(links[tomb.tombstone.journey], tomb) for tomb in tombs])
    name = f"{sha256(text)[:16]}.jsonl"
    (folder / name).write_text(text)
    told = {"name": name, "digest": sha256(text), "repository": "kept", "id": "77"}
    lease = ledger.lease([f"journey:{one}" for one in journeys], owner="test", seconds=60)
    assert lease is not None
    try:
        ledger.reduce(tombs, told, {"reduce_after_days": 30}, Entry("exports", "exported", {"export": told}), lease)
    finally:
        ledger.release(lease)
    return name


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    (tmp_path / "exports").mkdir()
    return tmp_path / "exports"


@pytest.fixture
def buried(ledger: Ledger, key: SealKey, exports: Path) -> str:
    """j1 and j2 are reduced; the name of their export."""
    fill(ledger)
    ledger.checkpoint(key.sign, key.id)
    return reduced(ledger, key, exports, "j1", "j2")


def test_what_is_left_answers_as_before(ledger: Ledger, key: SealKey, exports: Path) -> None:
    fill(ledger)
    ledger.checkpoint(key.sign, key.id)
    before, [row] = ledger.journeys(["j1", "j2"]), ledger.search(digest="ab12", repository_id="9", limit=9)[1:2]
    name = reduced(ledger, key, exports, "j1", "j2")
    after = ledger.journeys(["j1", "j2"])
    for journey in ("j1", "j2"):
        *rest, tomb = after[journey]
        assert [(e.n, e.seq, e.kind, e.at, e.hash, e.once, e.stage) for e in rest] == [
            (e.n, e.seq, e.kind, e.at, e.hash, e.once, e.stage) for e in before[journey]
        ]
        assert tomb.kind == REDUCED and tomb.body["export"]["name"] == name
        filed = next(entry.body for entry in rest if entry.kind == "filed")
        assert filed == {key: FILED[key] for key in ("digest", "repository", "repository_id", "keep_until")}
    assert ledger.holder("filed/Mü2") == after["j2"][1]
    again = ledger.append([Entry("new", "filed", {}, "filed/Mü2")])[0]
    assert (again.fresh, again.journey, again.body["repository_id"]) == (False, "j2", "9")
    [same] = [one for one in ledger.search(digest="ab12", repository_id="9") if one.journey == row.journey]
    assert (same.partner, same.stream, same.size, same.stage, same.opened) == (
        row.partner,
        row.stream,
        7,
        Stage.CLEARED,
        row.opened,
    )
    [case] = ledger.cases(open_only=False)
    assert (case.code, case.state, case.reason, case.owner, case.name) == ("empty", "resolved", None, None, None)
    found = ledger.verify(keys={key.id: key.public}, exports=Exports(exports))
    assert found == Verification(5, 13 + 3, 1, 13, 1, reduced=2, reread=2)
    assert ledger.verify("j2", keys={key.id: key.public}).reduced == 1
    summaries = ledger.search(limit=9)
    ledger.reindex()
    assert ledger.search(limit=9) == summaries
    assert ledger.verify(keys={key.id: key.public}).reread == 0
    ledger.append([Entry("later", "arrived")])
    assert ledger.checkpoint(key.sign, key.id) is not None
    ledger.verify(keys={key.id: key.public})


def test_a_reduced_journey_comes_whole_where_others_come_without_some_kinds(ledger: Ledger, buried: str) -> None:
    whole, thin = (ledger.journeys(["j0", "j1"], without=without) for without in ((), ("arrived", "cleared")))
    assert [entry.kind for entry in thin["j0"]] == ["filed"]
    assert thin["j1"] == whole["j1"]
    assert [entry.body for entry in thin["j1"]] == [entry.body for entry in whole["j1"]]


def test_no_name_and_no_person_is_left_in_the_database(ledger: Ledger, buried: str) -> None:
    with ledger._db.read() as connection:
        kept = [
            str(tuple(row))
            for table in ("entry", "journey", "quarantine_case")
            for row in connection.exec_driver_sql(f"SELECT * FROM {table} WHERE journey IN ('j1', 'j2')")
        ]
    assert len(kept) == 6 + 4 + 2 + 1
    assert not [row for row in kept if "ller.csv" in row or "Ann" in row or "ann@" in row]


def test_nothing_follows_a_tombstone(ledger: Ledger, url: str, buried: str) -> None:
    with pytest.raises(JourneyReduced, match=r"j2: it was closed long ago and reduced to a tombstone.*'late' was not"):
        ledger.append([Entry("j0", "note"), Entry("j2", "late")])
    assert [entry.kind for entry in ledger.journey("j0")] == ["arrived", "filed", "cleared"], "all or nothing"
    with pytest.raises(ValueError, match="only written by reduce"):
        ledger.append([Entry("j0", REDUCED)])
    late = "INSERT INTO entry SELECT 99, journey, n + 1, kind, at, 'x', hash, record FROM entry WHERE journey = 'j2' AND n = 4"
    with pytest.raises(DBAPIError, match="nothing follows"), ledger._db.write() as connection:
        connection.exec_driver_sql(late)


def test_the_database_lets_go_of_nothing_else(ledger: Ledger, key: SealKey, buried: str) -> None:
    for statement in (
        "UPDATE entry SET record = '' WHERE journey = 'j0'",  # no tombstone
        "UPDATE entry SET record = 'x' WHERE journey = 'j2' AND n = 1",  # another text
        "UPDATE entry SET kind = 'x' WHERE journey = 'j2' AND n = 1",  # a column
        "UPDATE entry SET record = '' WHERE journey = 'j2' AND n = 4",  # the tombstone
        "DELETE FROM entry WHERE journey = 'j2' AND n = 1",
        "DELETE FROM entry WHERE journey = 'j2' AND n = 4",  # the tombstone
    ):
        with pytest.raises(DBAPIError, match="append-only"), ledger._db.write() as connection:
            connection.exec_driver_sql(statement)
    ledger.verify(keys={key.id: key.public})


def test_a_tombstone_that_names_another_head_frees_no_text(ledger: Ledger) -> None:
    fill(ledger)
    record = '{"previous":"ff"}'
    tomb = f"INSERT INTO entry SELECT 99, journey, 4, 'reduced', at, NULL, 'ff', '{record}' FROM entry WHERE journey = 'j0' AND n = 1"
    with ledger._db.write() as connection:
        connection.exec_driver_sql(tomb)
    with pytest.raises(DBAPIError, match="append-only"), ledger._db.write() as connection:
        connection.exec_driver_sql("UPDATE entry SET record = '' WHERE journey = 'j0' AND n = 1")


# --------------------------------------------------------------------------------------------- what stays whole


def test_only_what_is_sealed_closed_and_unchanged_is_reduced(ledger: Ledger, key: SealKey, exports: Path) -> None:
    fill(ledger)
    with pytest.raises(LeaseLost, match="j0: no checkpoint has sealed all of it"):
        reduced(ledger, key, exports, "j0")
    ledger.checkpoint(key.sign, key.id)
    with pytest.raises(ValueError, match="j3 is not whole, or not over"):
        tombstone(ledger.chains(["j3"])["j3"], key.id)
    links = ledger.chains(["j0"])["j0"]
    tomb = tombstone(links, key.id)
    ledger.append([Entry("j0", "hold-applied")])
    lease = ledger.lease(["journey:j0"], owner="test", seconds=60)
    assert lease is not None
    with pytest.raises(LeaseLost, match="j0: something was recorded about it just now"):
        ledger.reduce([Sealed(tomb, b"")], {}, {}, Entry("exports", "exported"), lease)
    ledger.release(lease)
    with pytest.raises(LeaseLost):
        ledger.reduce([Sealed(tomb, b"")], {}, {}, Entry("exports", "exported"), lease)
    assert ledger.journey("exports") == []
    assert ledger.verify().reduced == 0


def test_closed_journeys_come_page_by_page_without_those_that_were_reduced(ledger: Ledger, key: SealKey, exports: Path) -> None:
    ledger.sight("acme", "prices", [RemoteFile("/out", f"{n}.csv".encode(), 1, None, FileKind.FILE) for n in range(5)])
    found = [sighting.journey for sighting in ledger.sightings("acme", "prices")]
    for n, journey in enumerate(found):
        ledger.append([Entry(journey, "arrived", ABOUT), Entry(journey, "cleared", stage=Stage.CLEARED if n else Stage.LEFT)])
    ledger.append([Entry("no-file", "noticed", ABOUT, stage=Stage.CLEARED)])
    until = ledger.search()[0].changed.replace(year=2999)
    first = ledger.closed("acme", "prices", until, limit=3)
    rest = ledger.closed("acme", "prices", until, after=first[-1], limit=3)
    assert [row.journey for row in (*first, *rest)] == found[1:]
    assert ledger.closed("acme", "prices", first[0].changed) == []
    ledger.append(
        [Entry(found[n], kind, ABOUT) for n, kind in ((2, "filed"), (3, "duplicate"), (3, "removed"), (4, "removed"))]
    )
    awaiting = (("filed", "duplicate"), "removed")
    assert [row.journey for row in ledger.closed("acme", "prices", until, awaiting=awaiting)] == [found[1], *found[3:]]
    ledger.checkpoint(key.sign, key.id)
    reduced(ledger, key, exports, *found[1:4])
    assert [row.journey for row in ledger.closed("acme", "prices", until)] == found[4:]
    assert list(ledger.arrivals(found)) == [found[0], found[4]]
    assert ledger.sight("acme", "prices", []).seen == 0
    ledger.verify(keys={key.id: key.public}, exports=Exports(exports))


@on_sqlite
def test_the_sender_seals_tombstones_for_its_own_key_and_nothing_else_as_one(ledger: Ledger, tmp_path: Path) -> None:
    fill(ledger)
    with Store(tmp_path / "sender") as store:
        made = tombstone(ledger.chains(["j0"])["j0"], store.seal_key.id)
        assert signed(store.seal_key.public, made.record.encode(), seal("tombstone", made.record, store))
        other = tombstone(ledger.chains(["j0"])["j0"], "another")
        for text in (other.record, canonical({**json.loads(made.record), "decision": "approve"}), canonical({"v": 1})):
            with pytest.raises(SendRefused, match="no tombstone"):
                seal("tombstone", text, store)
        with pytest.raises(SendRefused, match="no checkpoint"):
            seal("checkpoint", made.record, store)


# --------------------------------------------------------------------------------------------- tampering

TAMPERED = {
    "journey removed": ("DELETE FROM entry WHERE journey = 'j2'; DELETE FROM journey WHERE journey = 'j2'", "journey was removed"),
    "entry removed": ("DELETE FROM entry WHERE journey = 'j2' AND n = 2", "j2: entry 2 is missing under its tombstone"),
    "last entry removed": ("DELETE FROM entry WHERE journey = 'j2' AND n = 3", "j2: entry 3 is missing before entry 4"),
    "tombstone removed": ("DELETE FROM entry WHERE journey = 'j2' AND n = 4", "j2, entry 1 .*text was taken away, and no tombstone"),
    "text taken away": ("UPDATE entry SET record = '' WHERE journey = 'j0' AND n = 2", "j0, entry 2 .*text was taken away, and no"),
    "text put back": ("UPDATE entry SET record = '{}' WHERE journey = 'j2' AND n = 2", "j2, entry 2 .*its text is still here"),
    "column": ("UPDATE entry SET kind = 'x' WHERE journey = 'j2' AND n = 2", "j2: its tombstone: what is left .* was edited"),
    "unique key": ("UPDATE entry SET once = NULL WHERE journey = 'j2' AND n = 2", "j2: its tombstone: what is left .* was edited"),
    "hash": ("UPDATE entry SET hash = 'ff' WHERE journey = 'j2' AND n = 2", "j2: its tombstone: what is left .* was edited"),
    "head": ("UPDATE entry SET hash = 'ff' WHERE journey = 'j2' AND n = 3", "j2, entry 4 .* one was replaced"),
    "kept fact": ("UPDATE entry SET record = replace(record, 'ab12', 'f') WHERE journey = 'j2' AND n = 4", "j2, entry 4 .* was edited"),
    "index": ("UPDATE journey SET name = 'x' WHERE journey = 'j2'", "index .* name 'x', the record says None"),
}  # fmt: skip


@on_sqlite
@pytest.mark.parametrize(("statement", "told"), TAMPERED.values(), ids=TAMPERED.keys())
def test_what_was_changed_is_named(
    ledger: Ledger, key: SealKey, tamper: Tamper, buried: str, statement: str, told: str
) -> None:
    ledger.verify(keys={key.id: key.public})
    tamper(*statement.split(";"))
    with pytest.raises(ChainBroken, match=told):
        ledger.verify(keys={key.id: key.public})


def plant(
    ledger: Ledger,
    key: SealKey,
    tamper: Tamper,
    journey: str,
    forge: Callable[[str], str] = str,
    sealed: Callable[[str], str] = str,
) -> None:
    """What an intruder with all rights on the database does: a tombstone that is chained as it should be, and the texts gone.

    ``forge``: its text, as he puts it there; ``sealed``: as the key signed it.
    """
    links = ledger.chains([journey])[journey]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blocks.tombstones.over", lambda facts: True)
        tomb = tombstone(links, key.id)
    seal = key.sign(sealed(tomb.record).encode()).hex()
    body = {"tombstone": {"record": forge(tomb.record), "signature": seal}, "kept": tomb.kept}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blocks.ledger.REDUCED", "")  # our own refusal is out of his way as well
        ledger.append([Entry(journey, REDUCED, {**body, "export": {"name": "x", "digest": "x"}})])
    tamper(
        f"UPDATE entry SET record = '' WHERE journey = '{journey}' AND kind <> 'reduced'",
        f"UPDATE journey SET name = NULL, folded = NULL WHERE journey = '{journey}'",
    )


@on_sqlite
def test_a_planted_tombstone_is_named(ledger: Ledger, key: SealKey, tamper: Tamper, tmp_path: Path, buried: str) -> None:
    ledger.verify(keys={key.id: key.public})
    plant(ledger, SealKey.open(tmp_path / "his.pem"), tamper, "j0")
    with pytest.raises(ChainBroken, match="j0: its tombstone is not sealed by any of the keys given"):
        ledger.verify(keys={key.id: key.public})


@on_sqlite
def test_no_tombstone_is_believed_where_no_key_is_known(ledger: Ledger, buried: str) -> None:
    for one in (None, "j1"):
        with pytest.raises(ChainBroken, match=r"j1: its tombstone: no key is known that could have sealed it .*--key"):
            ledger.verify(one, keys=None)
    assert ledger.verify("j0", keys=None).entries == 3


def of_another(record: str) -> str:
    return record.replace('"j0"', '"j5"')


@on_sqlite
@pytest.mark.parametrize(
    ("sealed", "told"),
    [
        pytest.param(str, "not sealed by any of the keys", id="its text changed"),
        pytest.param(of_another, "j0: its tombstone was sealed for another journey", id="with its seal"),
    ],
)
def test_a_planted_tombstone_of_another_is_named(
    ledger: Ledger, key: SealKey, tamper: Tamper, buried: str, sealed: Callable[[str], str], told: str
) -> None:
    plant(ledger, key, tamper, "j0", of_another, sealed)
    with pytest.raises(ChainBroken, match=told):
        ledger.verify(keys={key.id: key.public})


@on_sqlite
def test_a_tombstone_over_an_open_journey_is_named_even_if_it_is_sealed(
    ledger: Ledger, key: SealKey, tamper: Tamper, buried: str
) -> None:
    plant(ledger, key, tamper, "j3")
    with pytest.raises(ChainBroken, match="j3: a tombstone stands over it, and it was still open"):
        ledger.verify(keys={key.id: key.public})


@on_sqlite
def test_a_tombstone_over_what_no_checkpoint_sealed_is_named(ledger: Ledger, key: SealKey, tamper: Tamper, buried: str) -> None:
    ledger.append([Entry("late", "cleared", ABOUT, stage=Stage.CLEARED)])
    plant(ledger, key, tamper, "late")
    with pytest.raises(ChainBroken, match="late: a tombstone stands over it, and no checkpoint ever sealed its entry 1"):
        ledger.verify(keys={key.id: key.public})


@on_sqlite
def test_an_edited_export_is_named(ledger: Ledger, key: SealKey, exports: Path, buried: str) -> None:
    path, known = exports / buried, {key.id: key.public}
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"Ann", b"Bob", 1))
    with pytest.raises(ChainBroken, match=f"{buried}: it was edited"):
        ledger.verify(keys=known, exports=Exports(exports))
    path.write_bytes(whole)
    assert ledger.verify(keys=known, exports=Exports(exports)).reread == 2
    path.unlink()
    assert ledger.verify(keys=known, exports=Exports(exports)).reread == 0, "what is not here is not claimed to be whole"


@on_sqlite
@pytest.mark.parametrize(
    ("edit", "told"),
    [
        pytest.param(lambda lines: [lines[0].replace("Ann", "Bob"), *lines[1:]], "j1, entry 1 .*text was edited", id="a text"),
        pytest.param(
            lambda lines: lines[1:], "j1: its export has 4 entries of it, the tombstone stands over 5", id="without one"
        ),
        pytest.param(lambda lines: lines[6:], "j1: its tombstone names .*, which has no entries of it", id="without a journey"),
    ],
)
def test_an_export_edited_with_its_digest_in_the_tombstone_is_named(
    ledger: Ledger, key: SealKey, tamper: Tamper, exports: Path, buried: str, edit: Callable[[list[str]], list[str]], told: str
) -> None:
    """As somebody would who can write to the repository and to the database, before a checkpoint covers the tombstone."""
    path = exports / buried
    before = path.read_text()
    after = "".join(f"{line}\n" for line in edit(before.splitlines()))
    path.write_text(after)
    for journey in ("j1", "j2"):
        [tomb] = [link for link in ledger.chains([journey])[journey] if link.kind == REDUCED]
        forged = tomb.record.replace(sha256(before), sha256(after))
        tamper(f"UPDATE entry SET record = '{forged}', hash = '{sha256(forged)}' WHERE seq = {tomb.seq}")
    with pytest.raises(ChainBroken, match=told):
        ledger.verify(keys={key.id: key.public}, exports=Exports(exports))
