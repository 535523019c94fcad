"""Documents and folders of Extended ECM beyond filing, large files in parts, and folders that hold very many documents."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from blocks.errors import DocumentMissing, EditConflict, OutcomeUnknown, RepositoryUnreachable, SpoolCorrupt, SpoolMissing
from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.repositories.otcs_names import PAGE
from blocks.repositories.otcs_nodes import Inheritance
from blocks.repositories.otcs_wire import NameTaken, Refusal
from blocks.values import Collision, Filed, NotFiled
from tests.conformance.repositories.crowd import counted, work
from tests.conformance.repositories.writes.bench import Bench, benched
from tests.sandbox.ecm_wire import Upload

KIB = 1024
SMALL_PARTS = {"min_size": 1024 * KIB, "max_size": 3 * 1024 * KIB, "part_size": 500 * KIB}
DATA = os.urandom(1600 * KIB)  # four parts


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with benched(tmp_path_factory.mktemp("nodes"), {"large_upload": SMALL_PARTS}) as bench:
        yield bench


@pytest.fixture(autouse=True)
def _calm_after(bench: Bench, short_pauses: None) -> Iterator[None]:
    yield
    bench.sandbox.faults.set(dict.fromkeys(bench.sandbox.faults.as_dict(), 0))
    assert bench.sandbox.faults.unmet == []


@pytest.fixture
def session(bench: Bench) -> ExtendedEcmSession:
    return bench.session


# --------------------------------------------------------------------------------------------- moving about


def test_renaming_and_moving(bench: Bench, session: ExtendedEcmSession) -> None:
    document, target = bench.document(), bench.folder()
    assert session.nodes.rename(document, "new.txt", "why").name == "new.txt"
    moved = session.nodes.move(document, target, name="moved: once.txt")
    assert (moved.properties["parent_id"], moved.properties["description"]) == (target, "why")
    assert ":" not in moved.name  # as filing does with a name that cannot be
    assert [id for id, _ in session.nodes.ancestors(document)] == [2000, target, document]
    bench.wire.document("taken.txt", b"x", target)
    with pytest.raises(NameTaken):
        session.nodes.rename(document, "TAKEN.txt")
    with pytest.raises(DocumentMissing):
        session.nodes.rename(999_999, "x")


def test_what_somebody_changed_meanwhile_is_not_renamed(bench: Bench, session: ExtendedEcmSession) -> None:
    document, target = bench.document(), bench.folder()
    token = session.nodes.edit_token(document)
    bench.tell("PUT", f"v2/nodes/{document}", description="by hand")
    for act in (session.nodes.rename, session.nodes.move):
        with pytest.raises(EditConflict):
            act(document, *(("ours.txt",) if act == session.nodes.rename else (target,)), token=token)  # type: ignore[operator]
    token = session.nodes.edit_token(document)
    assert session.nodes.rename(document, "ours.txt", token=token).properties["description"] == "by hand"


def test_a_copy_is_another_document(bench: Bench, session: ExtendedEcmSession) -> None:
    document, target = bench.document(b"original"), bench.folder()
    copy = session.nodes.copy(document, target, name="copy.txt", categories=Inheritance.BOTH)
    assert copy.id != document
    assert bench.wire.http.get(f"/v2/nodes/{copy.id}/content").content == b"original"
    with pytest.raises(NameTaken, match="nothing was copied"):
        session.nodes.copy(document, target, name="Copy.txt")


def instead(bench: Bench, act: Callable[[], object], *, running: bool = True) -> None:
    """Our next write is not carried out, and somebody else does something meanwhile. ``running``: as far as we know, the server may
    still be at it."""
    bench.sandbox.faults.meanwhile("", act, struck="write-drop" if running else "write-503")


def test_a_copy_that_may_be_somebody_elses_is_left_to_a_person(bench: Bench) -> None:
    document, target = bench.document(b"original"), bench.folder()
    instead(bench, lambda: bench.wire.document("copy.txt", b"another one", target))
    with pytest.raises(OutcomeUnknown, match="look there"):
        bench.session.nodes.copy(document, target, name="copy.txt")
    assert bench.names_in(target) == ["copy.txt"]


def test_a_copy_that_never_arrived_is_made(bench: Bench) -> None:
    document, target = bench.document(), bench.folder()
    instead(bench, lambda: None)
    assert bench.session.nodes.copy(document, target, name="copy.txt").name == "copy.txt"


def test_a_promotion_is_made_again_only_where_that_is_certain(bench: Bench) -> None:
    folder = bench.folder()
    bench.session.nodes.version_control(folder, advanced=True)
    document = bench.wire.document("a.txt", b"1", folder)
    instead(bench, lambda: None)
    with pytest.raises(OutcomeUnknown, match="before promoting it again"):
        bench.session.nodes.promote(document, 1)  # the server may still be at it
    assert len(bench.session.nodes.versions(document)) == 1
    instead(bench, lambda: None, running=False)
    assert bench.session.nodes.promote(document, 1).name == "1.0"
    major = {"add_major_version": "true"}
    other = {"files": {"file": ("a.txt", b"by hand", "text/plain")}, "data": major}
    instead(bench, lambda: bench.wire.http.post(f"/v2/nodes/{document}/versions", **other), running=False)
    assert bench.session.nodes.promote(document, 1).name == "3.0"  # the second is plainly another one
    assert [version.name for version in bench.session.nodes.versions(document)] == ["0.1", "1.0", "2.0", "3.0"]


def test_several_nodes_and_taken_names(bench: Bench, session: ExtendedEcmSession) -> None:
    folder = bench.folder()
    ids = [bench.wire.document(f"{n}.txt", b"x", folder) for n in range(3)]
    with counted(bench) as asked:
        assert list(session.nodes.several([*ids, 999_999, ids[0]])) == ids
        assert session.nodes.taken(folder, ["1.TXT", "no.txt"]) == {"1.txt": ids[1]}
    assert asked.total() == 2


def test_looking_with_a_filter(bench: Bench, session: ExtendedEcmSession) -> None:
    folder = bench.folder()
    for n in range(3):
        bench.wire.document(f"{n}.txt", b"x" * n, folder)
    bench.wire.folder("inner", folder)

    def names(**query: Any) -> list[str]:
        return [node.name for node in session.nodes.look(folder, **query)]

    assert names(kinds=[-1]) == ["inner"]
    assert names(kinds=[-3], sort="desc_name") == ["2.txt", "1.txt", "0.txt"]
    assert names(name="INN") == ["inner"]


def test_deleted_restored_and_purged(bench: Bench, session: ExtendedEcmSession) -> None:
    folder = bench.folder()
    ids = [bench.wire.document(f"bin {folder} {n}.txt", b"x", folder) for n in range(3)]
    for id in ids:
        session.nodes.delete(id)
    with pytest.raises(DocumentMissing):
        session.nodes.delete(ids[0])
    found = {item.id: item for item in session.nodes.deleted(name=f"BIN {folder}")}
    assert set(found) == set(ids)
    assert {(item.parent, item.by, item.container) for item in found.values()} == {(folder, 1000, False)}
    assert all(item.at and item.purged_at and item.purged_at > item.at for item in found.values())
    settled = session.nodes.restore([ids[0], 999_999])
    assert settled.done == (ids[0],)
    assert settled.refused == {999_999: "Could not get a node for 999999"}
    assert session.nodes.purge(ids[1:]).done == tuple(ids[1:])
    assert session.nodes.purge(ids[1:]).refused.keys() == set(ids[1:])
    assert bench.names_in(folder) == [f"bin {folder} 0.txt"]


def test_what_somebody_restored_is_not_taken_for_purged(bench: Bench, session: ExtendedEcmSession) -> None:
    folder = bench.folder()
    document = bench.wire.document("a.txt", b"x", folder)
    session.nodes.delete(document)
    instead(bench, lambda: bench.tell("POST", "v2/volumes/recyclebin/nodes/restore", ids=[document]))
    settled = session.nodes.purge([document])
    assert settled.done == () and document in settled.refused
    assert bench.names_in(folder) == ["a.txt"]


def test_a_call_that_comes_to_its_end_only_now_is_not_a_refusal(bench: Bench) -> None:
    """Its answer is lost, a look finds nothing, and then it is done after all: the call that was made again is refused."""
    document = bench.document()
    bench.session.nodes.reserve(document)
    bench.session.nodes.queue(document)
    path = f"v2/reservemanagement/nodes/{document}"
    bench.sandbox.faults.meanwhile(path, struck="write-drop")
    bench.sandbox.faults.meanwhile(path, lambda: bench.tell("DELETE", path))
    bench.session.nodes.leave_queue(document)
    with pytest.raises(Refusal, match="not in reservation queue"):
        bench.session._wire.write("queue", "DELETE", path)


def test_reserving(bench: Bench, session: ExtendedEcmSession) -> None:
    document = bench.document()
    assert session.nodes.reservation(document) is None
    session.nodes.reserve(document)
    assert document in [node.id for node in session.nodes.reserved()]
    bench.wire.user("reviewer")
    with bench.wire.as_user("reviewer") as other:
        other.http.post(f"/v2/reservemanagement/nodes/{document}")
        assert other.body("PUT", f"/v2/nodes/{document}", name="theirs.txt").status_code == 500
    held = session.nodes.reservation(document)
    assert held and (held.by, held.waiting, held.requested) == ("Admin", 1, False) and held.since
    session.nodes.queue(document)
    held = session.nodes.reservation(document)
    assert held and held.requested
    session.nodes.leave_queue(document)
    session.nodes.unreserve(document)
    assert session.nodes.reservation(document) is None
    with pytest.raises(Refusal, match="not reserved"):
        session.nodes.queue(document)


def test_versions_have_names_locks_and_numbers_for_ever(bench: Bench, session: ExtendedEcmSession) -> None:
    folder = bench.folder()
    session.nodes.version_control(folder, advanced=True)
    document = bench.wire.document("a.txt", b"1", folder)
    for content in (b"22", b"333"):
        bench.wire.http.post(f"/v2/nodes/{document}/versions", files={"file": ("a.txt", content, "text/plain")})
    promoted = session.nodes.promote(document, 2, "final")
    assert (promoted.number, promoted.name, promoted.size, promoted.description) == (4, "1.0", 2, "final")
    session.nodes.describe_version(document, 3, "third")
    session.nodes.lock_version(document, 1)
    with pytest.raises(Refusal, match="locked"):
        session.nodes.drop_version(document, 1)
    session.nodes.drop_version(document, 3)
    session.nodes.drop_version(document, 3)  # gone already
    session.nodes.purge_versions(document, keep=1)
    assert [(version.number, version.name, version.locked_by) for version in session.nodes.versions(document)] == [
        (1, "0.1", 1000),
        (2, "0.2", None),
        (4, "1.0", None),
    ]
    session.nodes.unlock_version(document, 1)
    assert session.nodes.version(document, 1).locked_by is None
    with pytest.raises(ValueError, match="at least one"):
        session.nodes.purge_versions(document, keep=0)


# --------------------------------------------------------------------------------------------- large files in parts


def file(bench: Bench, data: bytes = DATA, name: str = "large.bin") -> Any:
    [answer] = bench.session.file([bench.filing(name, bench.unique("Large"), data)])
    return answer


def content(bench: Bench, filed: Filed) -> bytes:
    return bench.wire.http.get(f"/v2/nodes/{filed.id}/content").content


@pytest.mark.parametrize(
    ("size", "in_parts"),
    [
        pytest.param(1024 * KIB - 1, 0, id="too small for the server"),
        pytest.param(1024 * KIB, 3, id="the smallest"),
        pytest.param(3 * 1024 * KIB, 7, id="the largest"),
        pytest.param(3 * 1024 * KIB + 1, 0, id="too large for it"),
    ],
)
def test_parts_are_sent_where_the_server_takes_them(bench: Bench, size: int, in_parts: int) -> None:
    data = os.urandom(size)
    with counted(bench) as asked:
        filed = file(bench, data)
    assert asked["POST /v2/multipart/{key}/{number:int}"] == in_parts
    assert content(bench, filed) == data


def test_parts_pass_where_a_whole_body_does_not(bench: Bench) -> None:
    bench.sandbox.faults.set({"max-body": 600 * KIB})
    assert content(bench, file(bench)) == DATA


@pytest.mark.parametrize("settings", [{"is_enabled": False}, None], ids=["switched off", "an older server"])
def test_a_server_without_parts_gets_the_file_in_one(
    tmp_path: Path, settings: Mapping[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if settings is None:
        register = "tests.sandbox.ecm_large.LargeUploads.register"
        # An older server has no such routes.
        monkeypatch.setattr(register, lambda self: None)  # its routes are unknown then, as before this was built
    with benched(tmp_path, {"large_upload": {**SMALL_PARTS, **(settings or {})}}) as bench:
        assert content(bench, file(bench)) == DATA


def test_a_session_that_ran_out_is_started_again(bench: Bench) -> None:
    faults = bench.sandbox.faults

    def run_out() -> None:
        faults.set({"upload-life": 1e-9})
        faults.meanwhile("/multipart", lambda: faults.set({"upload-life": 0}), method="POST")

    faults.meanwhile("/3", run_out)  # as the third part comes
    with counted(bench) as asked:
        assert content(bench, file(bench)) == DATA
    assert asked["POST /v2/multipart"] == 2


def test_sessions_that_always_run_out_are_worth_another_try(bench: Bench) -> None:
    bench.sandbox.faults.set({"upload-life": 1e-9})
    with pytest.raises(RepositoryUnreachable, match="safe to try again"):
        file(bench)


@pytest.mark.parametrize("change", ["other bytes", "one byte more", "one byte less", "gone"])
def test_other_bytes_than_promised_are_never_filed_in_parts(bench: Bench, change: str) -> None:
    folder = bench.unique("Large")
    filing = bench.filing("large.bin", folder, DATA)
    match change:
        case "other bytes":
            filing.path.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
        case "one byte more":
            filing.path.write_bytes(DATA + b"x")
        case "one byte less":
            filing.path.write_bytes(DATA[:-1])
        case "gone":
            filing.path.unlink()
    with pytest.raises((SpoolCorrupt, SpoolMissing)), counted(bench) as asked:
        list(bench.session.file([filing]))
    assert bench.session.find((folder,), "large.bin") is None
    assert asked["DELETE /v2/multipart/{key}"] == 1


def test_bytes_that_change_before_a_part_is_sent_again_are_noticed(bench: Bench) -> None:
    """The server keeps the part that came first; the whole that is hashed at last is the promised one."""
    filing = bench.filing("large.bin", bench.unique("Large"), DATA)
    filing.path.write_bytes(b"other" + DATA[5:])
    bench.sandbox.faults.meanwhile("/1", lambda: filing.path.write_bytes(DATA), after=True, struck="lost-answer")
    with pytest.raises(SpoolCorrupt):
        list(bench.session.file([filing]))
    assert bench.session.find(filing.folder, "large.bin") is None


def test_a_taken_name_costs_no_upload_and_a_refusal_ends_the_session(bench: Bench) -> None:
    folder = bench.unique("Large")
    [first] = bench.session.file([bench.filing("large.bin", folder, b"small")])
    assert isinstance(first, Filed)
    with counted(bench) as asked:
        [answer] = bench.session.file([bench.filing("large.bin", folder, DATA, collision=Collision.REFUSE)])
    assert isinstance(answer, NotFiled) and answer.code == "name-taken"
    assert asked["POST /v2/multipart"] == 0
    late = bench.filing("other.bin", folder, DATA, categories={"Partner Document": {"Document Date": "not a date"}})
    [answer] = bench.session.file([late])
    assert isinstance(answer, NotFiled)


# --------------------------------------------------------------------------------------------- very many documents


def fill(bench: Bench, count: int) -> str:
    """A folder with so many documents, put there past the interface. The name of the last one is a part of all others."""
    folder, store = bench.unique("Many"), bench.sandbox._store
    id = bench.wire.folder(folder)
    with store.transaction():
        for number in range(count):
            name = f"{number} order.csv" if number else "order.csv"
            node = store.create(1000, id, 144, name)
            empty = store.incoming / "empty"
            empty.write_bytes(b"")
            store.add_version(1000, store.row(node), Upload(empty, name, "text/csv"), {})
    return folder


def test_a_crowded_folder_costs_no_more_than_an_empty_one(bench: Bench) -> None:
    """Calls, not seconds: as many for the twentieth document as for the thousandth."""
    crowded = {count: fill(bench, count) for count in (20, 1200)}
    few, many = (work(bench, crowded[count]) for count in crowded)
    assert few["file ten"] == many["file ten"]
    # A name that is a part of very many others is asked for by itself: two calls more for each.
    assert many["a taken name"] <= few["a taken name"] + 2, (few, many)
    assert many["find three"] <= few["find three"] + 6, (few, many)
    with counted(bench) as asked:
        names = [kept.name for kept in bench.session.look((crowded[1200],))]
    assert len(names) == len(set(names)) == 1210
    assert asked["GET /v2/nodes/{node_id:int}/nodes"] <= -(-1210 // PAGE) + 2
