"""What every repository is asked: one function per promise of ``blocks/repositories/base.py``.

A check is given a ``Ground``: a repository, a folder in it that is its own and does not exist yet, and a place for files.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from blocks.errors import DocumentMissing, EditConflict, OnHold, RepositoryError, SpoolCorrupt, SpoolMissing
from blocks.repositories.base import Repository
from blocks.spool import Spool, Spooled
from blocks.values import Collision, Filed, Filing, Kept, NotFiled

_number = itertools.count()


@dataclass(frozen=True, slots=True)
class Ground:
    repository: Repository
    folder: tuple[str, ...]
    place: Path
    spool: Spool
    refusals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def filing(self, name: str, data: bytes = b"content\n", **more: Any) -> Filing:
        """A filing into the ground's folder, of a journey of its own unless one is given."""
        path = self.place / str(next(_number))
        path.write_bytes(data)
        asked = {
            "journey": f"journey-{next(_number)}-{self.folder[-1]}",
            "name": name,
            "folder": self.folder,
            "path": path,
            "digest": hashlib.sha256(data).hexdigest(),
            "size": len(data),
            "media_type": "text/plain",
        }
        return Filing(**(asked | more))

    def file(self, *filings: Filing) -> list[Filed | NotFiled]:
        with self.repository.session() as session:
            return list(session.file(filings))

    def filed(self, *filings: Filing) -> list[Filed]:
        """The same for filings that must all be taken."""
        answers = self.file(*filings)
        assert all(isinstance(answer, Filed) for answer in answers), answers
        return [answer for answer in answers if isinstance(answer, Filed)]

    def look(self) -> list[Kept]:
        with self.repository.session() as session:
            return list(session.look(self.folder))

    def find(self, name: str) -> Kept | None:
        with self.repository.session() as session:
            return session.find(self.folder, name)

    def get(self, id: str) -> Kept:
        with self.repository.session() as session:
            return session.get(id)

    def bytes(self, id: str, version: int | None = None) -> bytes:
        with self.repository.session() as session, self.spool.batch() as batch:
            spooled = session.fetch(id, version, batch)
        return self.spool.path(spooled.digest).read_bytes()


def one(filed: list[Filed]) -> Filed:
    assert len(filed) == 1
    return filed[0]


# --------------------------------------------------------------------------------------------- filing


def a_document_is_filed_found_and_fetched(ground: Ground) -> None:
    filing = ground.filing("invoice 4711.csv", b"a;b\n1;2\n", modified=datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC))
    filed = one(ground.filed(filing))
    assert filed == Filed(filing.journey, filed.id, 1, "invoice 4711.csv", ground.folder)
    found = ground.find("invoice 4711.csv")
    assert found is not None
    assert (found.id, found.name, found.container, found.size, found.version) == (filed.id, filing.name, False, 8, 1)
    assert (found.identity, found.media_type) == (filing.journey, "text/plain")
    assert found.modified is not None
    assert abs((datetime.now(UTC) - found.modified).total_seconds()) < 300
    assert ground.look() == [found]
    assert ground.get(filed.id).identity == filing.journey
    assert ground.bytes(filed.id) == ground.bytes(filed.id, 1) == b"a;b\n1;2\n"
    with ground.repository.session() as session, ground.spool.batch() as batch:
        assert session.examine(filed.id, 1, batch) == (session.get(filed.id), Spooled(filing.digest, 8))


def missing_folders_are_created_once(ground: Ground) -> None:
    folder = (*ground.folder, "Suppliers", "Zoë & Søns", "2026")
    answers = ground.filed(*(ground.filing(f"{n}.csv", folder=folder) for n in range(12)))
    assert len({answer.id for answer in answers}) == 12
    [suppliers] = ground.look()
    assert (suppliers.name, suppliers.container) == ("Suppliers", True)
    with ground.repository.session() as session:
        assert len(list(session.look(folder))) == 12
        assert session.find((*ground.folder, "Suppliers"), "Zoë & Søns") is not None


def answers_come_in_the_order_asked(ground: Ground) -> None:
    filings = [ground.filing(f"{n}.bin", bytes([n]) * (1 if n % 3 else 300_000)) for n in range(30)]
    answers = ground.filed(*filings)
    assert [answer.journey for answer in answers] == [filing.journey for filing in filings]
    for answer, filing in zip(answers, filings, strict=True):
        assert ground.bytes(answer.id) == filing.path.read_bytes()


def filing_a_journey_again_doubles_nothing(ground: Ground) -> None:
    filings = [ground.filing(f"{n}.csv", b"%d" % n) for n in range(5)]
    first = ground.filed(*filings)
    assert ground.filed(*filings) == first
    with ground.repository.session() as session:
        assert list(session.file(iter(filings))) == first
        assert list(session.file(iter(filings))) == first
    assert {(kept.id, kept.version) for kept in ground.look()} == {(answer.id, 1) for answer in first}


def another_journey_makes_a_new_version(ground: Ground) -> None:
    old, new = ground.filing("prices.csv", b"old"), ground.filing("prices.csv", b"newer")
    first, second = one(ground.filed(old)), one(ground.filed(new))
    assert (second.id, second.version) == (first.id, 2)
    assert ground.bytes(first.id) == b"newer"
    assert ground.bytes(first.id, 1) == b"old"
    [kept] = ground.look()
    assert (kept.version, kept.size, kept.identity) == (2, 5, new.journey)
    assert ground.filed(new) == [second]
    assert ground.filed(old) == [first]
    assert ground.bytes(first.id) == b"newer"
    assert ground.get(first.id).version == 2
    with ground.repository.session() as session, ground.spool.batch() as batch:
        assert session.examine(first.id, 1, batch) == (session.get(first.id), Spooled(old.digest, 3))


def each_version_tells_its_journey(ground: Ground) -> None:
    filings = [ground.filing("told.csv", b"%d" % number) for number in range(3)]
    first, *_ = ground.filed(*filings)
    with ground.repository.session() as session:
        assert session.filed_by(first.id) == tuple(filing.journey for filing in filings)
        session.remove(first.id)
        with pytest.raises(DocumentMissing):
            session.filed_by(first.id)


def a_named_document_gets_the_version(ground: Ground) -> None:
    first = one(ground.filed(ground.filing("spec.csv", b"approved")))
    edited = ground.filing("edited.csv", b"edited", folder=(*ground.folder, "elsewhere"), document=first.id)
    second = one(ground.filed(edited))
    assert (second.id, second.version, second.name) == (first.id, 2, "spec.csv")
    assert (ground.bytes(first.id, 1), ground.bytes(first.id, 2)) == (b"approved", b"edited")
    assert ground.filed(edited) == [second], "once"
    assert [kept.name for kept in ground.look()] == ["spec.csv"], "and nothing else was made"
    four = ground.filed(*(ground.filing(f"{n}.csv", b"%d" % n, document=first.id) for n in range(4)))
    assert [answer.version for answer in four] == [3, 4, 5, 6]
    with ground.repository.session() as session:
        session.remove(first.id)
    (gone,) = ground.file(ground.filing("late.csv", b"late", document=first.id))
    assert isinstance(gone, NotFiled) and gone.code == "document-missing"


def filings_under_one_name_keep_their_order(ground: Ground) -> None:
    filings = [ground.filing("stock.csv", b"%d" % n) for n in range(8)]
    answers = ground.filed(*filings)
    assert [answer.version for answer in answers] == list(range(1, 9))
    assert ground.bytes(answers[0].id) == b"7"
    assert ground.bytes(answers[0].id, 3) == b"2"


def a_taken_name_is_refused(ground: Ground) -> None:
    first = one(ground.filed(ground.filing("contract.pdf", b"theirs")))
    answers = ground.file(again := ground.filing("contract.pdf", b"ours", collision=Collision.REFUSE))
    assert answers == [NotFiled(again.journey, "name-taken", answers[0].reason if isinstance(answers[0], NotFiled) else "")]
    assert "contract.pdf" in answers[0].reason  # type: ignore[union-attr]
    assert ground.bytes(first.id) == b"theirs"
    [kept] = ground.look()
    assert kept.version == 1
    refusing = ground.filing("new.pdf", collision=Collision.REFUSE)
    assert ground.filed(refusing) == ground.filed(refusing)


def both_are_kept(ground: Ground) -> None:
    first = one(ground.filed(ground.filing("photo.jpg", b"theirs")))
    ours = ground.filing("photo.jpg", b"ours", collision=Collision.KEEP_BOTH)
    second = one(ground.filed(ours))
    assert second.id != first.id
    assert second.name == f"photo ({ours.digest[:8]}).jpg"
    assert ground.filed(ours) == [second]
    assert (ground.bytes(first.id), ground.bytes(second.id)) == (b"theirs", b"ours")
    assert sorted(kept.name for kept in ground.look()) == sorted(["photo.jpg", second.name])
    third = ground.filing("photo.jpg", b"ours", collision=Collision.KEEP_BOTH)
    assert isinstance(ground.file(third)[0], NotFiled)  # same name, same bytes, another journey: nothing to tell them apart by
    free = ground.filing("free.jpg", b"x", collision=Collision.KEEP_BOTH)
    assert one(ground.filed(free)).name == "free.jpg"
    assert ground.filed(free) == ground.filed(free)


def one_refused_filing_leaves_the_others_alone(ground: Ground) -> None:
    ground.filed(ground.filing("taken.csv"))
    refusals: dict[str, Mapping[str, Any]] = {
        "name-taken": {"name": "taken.csv", "collision": Collision.REFUSE},
        **ground.refusals,
    }
    for code, asked in refusals.items():
        good = [ground.filing(f"{code} good {n}.csv") for n in range(4)]
        bad = replace(ground.filing(f"{code} bad.csv"), **asked)
        answers = ground.file(*good[:2], bad, *good[2:])
        assert [isinstance(answer, Filed) for answer in answers] == [True, True, False, True, True], answers
        refused = answers[2]
        assert isinstance(refused, NotFiled)
        assert (refused.journey, refused.code) == (bad.journey, code)
        assert len(refused.reason) > 10
    names = {kept.name for kept in ground.look()}
    assert len(names) == 1 + 4 * len(refusals)
    assert not any(name.endswith(" bad.csv") for name in names)


def a_refused_version_leaves_the_document_as_it_was(ground: Ground) -> None:
    values = {"Partner Document": {"Partner ID": "before"}}
    first = one(ground.filed(ground.filing("prices.csv", b"old", categories=values)))
    before = ground.get(first.id)
    for code, asked in ground.refusals.items():
        [answer] = ground.file(replace(ground.filing("prices.csv", b"new"), **asked))
        assert isinstance(answer, NotFiled)
        assert answer.code == code
        after = ground.get(first.id)
        assert replace(after, modified=None) == replace(before, modified=None)
        assert ground.bytes(first.id) == b"old"


def a_filing_can_be_mended_and_filed_again(ground: Ground) -> None:
    for code, asked in ground.refusals.items():
        good = ground.filing(f"{code}.csv")
        assert isinstance(ground.file(replace(good, **asked))[0], NotFiled)
        assert one(ground.filed(good)).version == 1


def values_are_kept(ground: Ground) -> None:
    values = {"Partner ID": "Müller & Söhne", "Document Date": "2026-11-20", "Tags": ("a", "b;c", "ü")}
    filed = one(ground.filed(ground.filing("values.csv", categories={"Partner Document": values})))
    categories = ground.get(filed.id).categories
    assert list(categories) == ["Partner Document"]
    kept = categories["Partner Document"]
    assert kept["Partner ID"] == "Müller & Söhne"
    assert kept["Document Date"].removesuffix("T00:00:00") == "2026-11-20"
    assert list(kept["Tags"]) == ["a", "b;c", "ü"]


def a_version_brings_its_values(ground: Ground) -> None:
    values = {"Partner Document": {"Partner ID": "4711", "Document Date": "2026-11-20", "Tags": ("a", "b")}}
    filed = one(ground.filed(ground.filing("values.csv", categories=values)))
    again = ground.filing("values.csv", b"2", categories={"Partner Document": {"Partner ID": "4712", "Tags": ()}})
    assert one(ground.filed(again)).version == 2
    kept = ground.get(filed.id).categories["Partner Document"]
    assert (kept["Partner ID"], list(kept["Tags"])) == ("4712", [])


def a_class_is_taken_with_the_values(ground: Ground) -> None:
    values = {"Partner Document": {"Partner ID": "4711"}}
    filed = one(ground.filed(ground.filing("classed.csv", categories=values, records_class="Contracts")))
    assert ground.get(filed.id).categories["Partner Document"]["Partner ID"] == "4711"


def bytes_are_the_promised_ones(ground: Ground) -> None:
    changed = ground.filing("changed.csv", b"as fetched")
    changed.path.write_bytes(b"as chanced")
    shorter = replace(ground.filing("short.csv", b"12345"), size=9)
    longer = replace(ground.filing("long.csv", b"12345"), size=2)
    large = ground.filing("large.csv", b"x" * 3_000_000)
    large.path.write_bytes(b"x" * 2_999_999 + b"y")
    for filing in (changed, shorter, longer, large):
        with pytest.raises(SpoolCorrupt, match=filing.name):
            ground.file(filing)
    gone = ground.filing("gone.csv")
    gone.path.unlink()
    with pytest.raises(SpoolMissing, match=r"gone\.csv"):
        ground.file(gone)
    good = ground.filing("good.csv")
    ground.filed(good)
    assert [kept.name for kept in ground.look()] == ["good.csv"]


def empty_and_larger_files_are_exact(ground: Ground) -> None:
    data = bytes(range(256)) * 20_000
    empty, large = ground.filed(ground.filing("empty.txt", b""), ground.filing("large.bin", data))
    assert ground.bytes(empty.id) == b""
    assert ground.bytes(large.id) == data


def larger_versions_are_exact(ground: Ground) -> None:
    data = bytes(range(256)) * 20_000
    large = one(ground.filed(ground.filing("large.bin", data)))
    assert one(ground.filed(ground.filing("large.bin", data[::-1]))).version == 2
    assert ground.bytes(large.id) == data[::-1]
    assert ground.bytes(large.id, 1) == data


# --------------------------------------------------------------------------------------------- names

HOSTILE = (
    "a:b.csv",
    "a_b.csv",
    " leading and trailing ",
    "trailing.csv ",
    "line\nbreak\r\n.csv",
    "quote\"';--.csv",
    "faktura \u202efdp.exe",
    "../up.csv",
    "..",
    ".",
    "/etc/passwd",
    "C:\\temp\\x.csv",
    "%00{{name}}$(id).csv",
    "=cmd()",
    "*?[a].csv",
    "ø" * 200 + ".csv",
    "x" * 300 + ".csv",
    "x" * 300 + "y.csv",
    "no extension " + "x" * 300,
    "𐍈" * 150,
    ":",
    "lone \udcff surrogate.csv",
    ".countersign",
)


def every_name_can_be_filed_and_found_again(ground: Ground) -> None:
    filings = [ground.filing(name, b"%d" % n) for n, name in enumerate(HOSTILE)]
    answers = ground.filed(*filings)
    assert len({answer.id for answer in answers}) == len(HOSTILE), "two names met"
    assert all(answer.version == 1 for answer in answers)
    assert ground.filed(*filings) == answers
    for n, (name, answer) in enumerate(zip(HOSTILE, answers, strict=True)):
        found = ground.find(name)
        assert found is not None
        assert (found.id, found.name) == (answer.id, answer.name)
        assert ground.bytes(answer.id) == b"%d" % n
    assert len(ground.look()) == len(HOSTILE)


def hostile_folders_stay_below_the_root(ground: Ground) -> None:
    folder = (*ground.folder, "..", "a/b", "x: y", "f" * 300)
    filed = one(ground.filed(ground.filing("deep.csv", b"deep", folder=folder)))
    with ground.repository.session() as session:
        assert [kept.id for kept in session.look(folder)] == [filed.id]
    [kept] = ground.look()
    assert kept.container


def names_that_differ_only_in_case_are_two_documents(ground: Ground) -> None:
    lower = one(ground.filed(ground.filing("report.csv", b"1")))
    ignored = ground.find("REPORT.csv") is not None
    upper = one(ground.filed(ground.filing("REPORT.csv", b"2")))
    found = ground.find("REPORT.csv")
    assert found is not None
    assert found.id == upper.id != lower.id
    again = one(ground.filed(ground.filing("REPORT.csv", b"3")))
    assert (again.id, again.name, again.version) == (upper.id, upper.name, 2), (
        "it meets its own earlier version, and no other's"
    )
    assert isinstance(ground.file(ground.filing("REPORT.csv", b"4", collision=Collision.REFUSE))[0], NotFiled)
    third = one(ground.filed(ground.filing("Report.CSV", b"5", collision=Collision.REFUSE)))
    assert [ground.bytes(id) for id in (lower.id, upper.id, third.id)] == [b"1", b"3", b"5"]
    names = [kept.name.casefold() if ignored else kept.name for kept in ground.look()]
    assert len(set(names)) == 3, "no two of them are one name there"


def a_document_is_no_folder_and_a_folder_is_no_document(ground: Ground) -> None:
    ground.filed(ground.filing("thing"), ground.filing("x.csv", folder=(*ground.folder, "sub")))
    answers = ground.file(
        ground.filing("y.csv", folder=(*ground.folder, "thing")), ground.filing("sub"), ground.filing("z.csv")
    )
    assert [getattr(answer, "code", "filed") for answer in answers] == ["folder-name-taken", "name-taken", "filed"]
    assert sorted(kept.name for kept in ground.look()) == ["sub", "thing", "z.csv"]


# --------------------------------------------------------------------------------------------- at once


def two_sessions_file_the_same_journeys(ground: Ground) -> None:
    filings = [ground.filing(f"{n}.csv", b"%d" % n) for n in range(25)]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: ground.filed(*filings), range(3)))
    assert answers[0] == answers[1] == answers[2]
    assert len(ground.look()) == 25
    assert all(kept.version == 1 for kept in ground.look())


def one_session_serves_several_threads(ground: Ground) -> None:
    filings = [ground.filing(f"{n}.csv", b"%d" % n) for n in range(24)]
    with ground.repository.session() as session, ThreadPoolExecutor(4) as pool:
        answers = [answer for part in pool.map(lambda n: list(session.file(filings[n::4])), range(4)) for answer in part]
        found = list(pool.map(lambda filing: session.find(ground.folder, filing.name), filings))
    assert {answer.journey for answer in answers if isinstance(answer, Filed)} == {filing.journey for filing in filings}
    assert [kept.identity for kept in found if kept] == [filing.journey for filing in filings]


def answers_stream(ground: Ground) -> None:
    """The first answers come before the last filing was asked for, and none is taken without end ahead of the answers."""
    asked: list[str] = []

    def endless() -> Any:
        for n in itertools.count():
            asked.append(name := f"{n}.csv")
            yield ground.filing(name)

    with ground.repository.session() as session:
        answers = session.file(endless())
        first = next(answers)
        assert isinstance(first, Filed)
        assert len(asked) < 100
        answers.close()  # type: ignore[attr-defined]
    assert {kept.name for kept in ground.look()} <= set(asked)


# --------------------------------------------------------------------------------------------- reading


def a_long_folder_is_listed_whole(ground: Ground) -> None:
    ground.filed(*(ground.filing(f"{n:03}.csv", b"%d" % n) for n in range(205)))
    kept = ground.look()
    assert sorted(entry.name for entry in kept) == [f"{n:03}.csv" for n in range(205)]
    assert all(entry.version == 1 and entry.identity for entry in kept)
    assert {entry.size for entry in kept} == {1, 2, 3}


def what_is_not_there_is_said(ground: Ground) -> None:
    assert ground.find("nothing.csv") is None
    with pytest.raises(DocumentMissing):
        ground.look()
    filed = one(ground.filed(ground.filing("there.csv")))
    assert ground.find("nothing.csv") is None
    for id in (
        "",
        "0",
        "999999999",
        "nothing",
        "../../etc/passwd",
        "/etc/passwd",
        ".countersign/lock",
        "x\0y",
        "1/2",
        "-1",
        "²",
    ):
        with pytest.raises(DocumentMissing):
            ground.get(id)
        with pytest.raises(DocumentMissing), ground.spool.batch() as batch, ground.repository.session() as session:
            session.fetch(id, None, batch)
        with pytest.raises(DocumentMissing), ground.spool.batch() as batch, ground.repository.session() as session:
            session.examine(id, 1, batch)
        with pytest.raises(DocumentMissing), ground.repository.session() as session:
            list(session.history(id))
    with pytest.raises(DocumentMissing):
        ground.bytes(filed.id, 7)


def history_tells_newest_first(ground: Ground) -> None:
    filed = one(ground.filed(ground.filing("a.csv")))
    with ground.repository.session() as session:
        before = list(session.history(filed.id))
    assert [event.event for event in before][-1] == "Create"
    ground.filed(ground.filing("a.csv", b"2"))
    with ground.repository.session() as session:
        after = list(session.history(filed.id))
    assert len(after) > len(before)
    assert after[-len(before) :] == before
    assert [event.at for event in after] == sorted((event.at for event in after), reverse=True)
    assert "Add Version" in {event.event for event in after}
    assert all(event.user and event.at.utcoffset() is not None for event in after)


def search_finds_parts_of_names_and_words(ground: Ground) -> None:
    word = f"w{time.time_ns()}"
    ids = [
        answer.id
        for answer in ground.filed(
            ground.filing(f"{word} first.csv", categories={"Partner Document": {"Partner ID": "none"}}),
            ground.filing("second.csv", categories={"Partner Document": {"Partner ID": word}}),
            ground.filing('odd" or *.csv'),
        )
    ]
    limit = time.monotonic() + 300
    while True:
        with ground.repository.session() as session:
            by_name = {kept.id for kept in session.search(name=word[3:-1].upper() + word[-1])}
            by_text = {kept.id for kept in session.search(text=word)}
            odd = {kept.id for kept in session.search(name='odd" OR *')}
            assert not list(session.search(name=word, text="nowhere" + word))
            assert not list(session.search())
        if (by_name, by_text, odd & set(ids)) == ({ids[0]}, set(ids[:2]), {ids[2]}):
            return
        assert time.monotonic() < limit, (by_name, by_text, odd, ids)
        time.sleep(0.2)


def a_hold_is_told_until_it_is_lifted(ground: Ground) -> None:
    held, other = ground.filed(ground.filing("held.csv"), ground.filing("other.csv"))
    first, second = f"Case {ground.folder[-1]}", f"Audit {ground.folder[-1]}"
    with ground.repository.session() as session:
        assert session.holds(held.id) == ()
        session.apply_hold(held.id, first, "on counsel's word")
        session.apply_hold(held.id, first, "on counsel's word")
        session.apply_hold(held.id, second)
        assert sorted((hold.name, hold.comment) for hold in session.holds(held.id)) == [
            (second, ""),
            (first, "on counsel's word"),
        ]
        assert all(abs((datetime.now(UTC) - hold.since).total_seconds()) < 300 for hold in session.holds(held.id) if hold.since)
    with ground.repository.session() as session:
        assert session.holds(other.id) == ()
        session.lift_hold(held.id, first)
        session.lift_hold(held.id, first)
        assert [hold.name for hold in session.holds(held.id)] == [second]


def of_many_each_is_told_whether_it_is_on_hold(ground: Ground) -> None:
    """Also of those that stand around one of which nobody can tell."""
    filed = ground.filed(*(ground.filing(f"{number}.csv", str(number).encode()) for number in range(12)))
    name = f"Case {ground.folder[-1]}"
    with ground.repository.session() as session:
        for one_held in (filed[2], filed[9]):
            session.apply_hold(one_held.id, name)
        session.remove(filed[5].id)
        told = list(session.holds_of(document.id for document in filed))
        assert isinstance(told[5], DocumentMissing)
        assert [number for number, holds in enumerate(told) if holds and not isinstance(holds, RepositoryError)] == [2, 9]
        assert [told.count(()), len(told)] == [9, 12]
        some = session.holds_of(document.id for document in filed)
        assert next(some) == ()
        some.close()
        assert [hold.name for hold in session.holds(filed[2].id)] == [name], "what was not heard is nobody else's answer"


def what_is_on_hold_is_not_removed(ground: Ground) -> None:
    held, other = ground.filed(ground.filing("held.csv", b"evidence"), ground.filing("other.csv"))
    name = f"Case {ground.folder[-1]}"
    with ground.repository.session() as session:
        session.apply_hold(held.id, name)
        with pytest.raises(OnHold, match="nothing was removed"):
            session.remove(held.id)
        session.remove(other.id)
        with pytest.raises(DocumentMissing):
            session.remove(other.id)
    assert [kept.id for kept in ground.look()] == [held.id]
    assert ground.bytes(held.id) == b"evidence"
    assert one(ground.filed(ground.filing("held.csv", b"newer"))).version == 2  # a hold keeps, it does not freeze
    assert ground.bytes(held.id, 1) == b"evidence"
    with ground.repository.session() as session:
        session.lift_hold(held.id, name)
        session.remove(held.id)
    assert ground.look() == []
    assert one(ground.filed(ground.filing("held.csv", b"anew"))).version == 1


def a_version_that_comes_late_keeps_its_document(ground: Ground) -> None:
    first, second = ground.filing("first.csv"), ground.filing("first.csv", b"second")
    document = one(ground.filed(first))
    with ground.repository.session() as session:
        seen = session.filed_by(document.id)
        ground.filed(second)
        with pytest.raises(EditConflict, match="nothing was removed"):
            session.remove(document.id, seen)
        session.let_stand(document.id)
        assert ground.bytes(document.id, 1) != ground.bytes(document.id, 2) == b"second"
        since = datetime.now(UTC)
        assert not session.was_removed(document.id, since)
        session.remove(document.id, session.filed_by(document.id))
        assert ground.look() == []
        with pytest.raises(DocumentMissing):
            session.let_stand(document.id)
        assert session.was_removed(document.id, since)


def nobody_can_tell_the_holds_of_what_is_not_there(ground: Ground) -> None:
    gone = one(ground.filed(ground.filing("gone.csv")))
    with ground.repository.session() as session:
        session.remove(gone.id)
        for verb in (session.holds, lambda id: session.apply_hold(id, "Case"), lambda id: session.lift_hold(id, "Case")):
            with pytest.raises(DocumentMissing):
                verb(gone.id)


def a_session_can_be_closed_twice(ground: Ground) -> None:
    session = ground.repository.session()
    session.close()
    session.close()
    assert ground.repository.address
    assert "CONFORMANCE" not in ground.repository.address


# --------------------------------------------------------------------------------------------- what a repository does not do


def a_second_version_is_refused(ground: Ground) -> None:
    """Instead of replacing the first one, or standing beside it unasked."""
    first = one(ground.filed(ground.filing("prices.csv", b"first")))
    for again in (ground.filing("prices.csv", b"second"), ground.filing("other.csv", b"second", document=first.id)):
        [answer] = ground.file(again)
        assert isinstance(answer, NotFiled)
        assert (answer.code, answer.journey) == ("no-versions", again.journey)
    assert [(kept.id, kept.version) for kept in ground.look()] == [(first.id, 1)]
    assert ground.bytes(first.id) == b"first"
    with ground.repository.session() as session:
        session.remove(first.id)
    (gone,) = ground.file(ground.filing("late.csv", b"late", document=first.id))
    assert isinstance(gone, NotFiled) and gone.code == "document-missing"


def what_is_to_be_retained_is_refused(ground: Ground) -> None:
    day = date(2036, 12, 31)
    for asked in ({"records_class": "Contracts"}, {"record_date": day}, {"keep_until": day}, {"schedule": "TAX-10"}):
        [answer] = ground.file(replace(ground.filing("kept.csv"), **asked))  # type: ignore[arg-type]
        assert isinstance(answer, NotFiled) and answer.code == "no-retention"
    assert ground.find("kept.csv") is None


def nobody_is_told_that_there_are_no_holds(ground: Ground) -> None:
    """Who may remove only what is not on hold must not hear so from a repository that cannot tell."""
    filed = one(ground.filed(ground.filing("perhaps held.csv")))
    with ground.repository.session() as session:
        for verb in (session.holds, lambda id: session.apply_hold(id, "Case"), lambda id: session.lift_hold(id, "Case")):
            with pytest.raises(RepositoryError, match=r"no legal holds"):
                verb(filed.id)
        [told] = session.holds_of([filed.id])
        assert isinstance(told, RepositoryError) and "no legal holds" in str(told)


def no_history_is_made_up(ground: Ground) -> None:
    filed = one(ground.filed(ground.filing("a.csv")))
    with ground.repository.session() as session, pytest.raises(RepositoryError, match="no audit trail"):
        list(session.history(filed.id))


def parts_of_names_are_found_and_words_are_refused(ground: Ground) -> None:
    word = f"w{time.time_ns()}"
    first, deep, _ = ground.filed(
        ground.filing(f"{word} first.csv"),
        ground.filing(f"second {word}.csv", folder=(*ground.folder, "deeper")),
        ground.filing("third.csv", word.encode()),
    )
    with ground.repository.session() as session:
        assert {kept.id for kept in session.search(name=word[3:-1].upper() + word[-1])} == {first.id, deep.id}
        assert not list(session.search())
        with pytest.raises(RepositoryError):
            list(session.search(text=word))


LACKING: dict[str, tuple[Callable[[Ground], None], frozenset[str]]] = {
    "versions": (
        a_second_version_is_refused,
        frozenset(
            check.__name__
            for check in (
                another_journey_makes_a_new_version,
                each_version_tells_its_journey,
                a_named_document_gets_the_version,
                filings_under_one_name_keep_their_order,
                a_version_brings_its_values,
                larger_versions_are_exact,
                names_that_differ_only_in_case_are_two_documents,
                a_version_that_comes_late_keeps_its_document,
            )
        ),
    ),
    "retention": (what_is_to_be_retained_is_refused, frozenset({a_class_is_taken_with_the_values.__name__})),
    "holds": (
        nobody_is_told_that_there_are_no_holds,
        frozenset(
            check.__name__
            for check in (
                a_hold_is_told_until_it_is_lifted,
                of_many_each_is_told_whether_it_is_on_hold,
                what_is_on_hold_is_not_removed,
            )
        ),
    ),
    "history": (no_history_is_made_up, frozenset({history_tells_newest_first.__name__})),
    "words": (
        parts_of_names_are_found_and_words_are_refused,
        frozenset({search_finds_parts_of_names_and_words.__name__}),
    ),
}
"""What a repository may lack -> how it must refuse it, and the checks that cannot be asked of it then."""

CHECKS: dict[str, Callable[[Ground], None]] = {
    check.__name__: check
    for check in (
        a_document_is_filed_found_and_fetched,
        missing_folders_are_created_once,
        answers_come_in_the_order_asked,
        filing_a_journey_again_doubles_nothing,
        another_journey_makes_a_new_version,
        each_version_tells_its_journey,
        a_named_document_gets_the_version,
        filings_under_one_name_keep_their_order,
        a_taken_name_is_refused,
        both_are_kept,
        one_refused_filing_leaves_the_others_alone,
        a_refused_version_leaves_the_document_as_it_was,
        a_filing_can_be_mended_and_filed_again,
        values_are_kept,
        a_version_brings_its_values,
        a_class_is_taken_with_the_values,
        bytes_are_the_promised_ones,
        empty_and_larger_files_are_exact,
        larger_versions_are_exact,
        every_name_can_be_filed_and_found_again,
        hostile_folders_stay_below_the_root,
        names_that_differ_only_in_case_are_two_documents,
        a_document_is_no_folder_and_a_folder_is_no_document,
        two_sessions_file_the_same_journeys,
        one_session_serves_several_threads,
        answers_stream,
        a_long_folder_is_listed_whole,
        what_is_not_there_is_said,
        history_tells_newest_first,
        search_finds_parts_of_names_and_words,
        a_hold_is_told_until_it_is_lifted,
        of_many_each_is_told_whether_it_is_on_hold,
        what_is_on_hold_is_not_removed,
        a_version_that_comes_late_keeps_its_document,
        nobody_can_tell_the_holds_of_what_is_not_there,
        a_session_can_be_closed_twice,
    )
}
