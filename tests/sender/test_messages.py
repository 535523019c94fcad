"""Service messages: what a worker in wrong hands can put into them, which is nothing; and that they arrive, once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from blocks.endpoints.folder import FolderSession
from blocks.errors import EndpointError, SendRefused
from blocks.profile import load_partner
from blocks.sender import MessageKind, ServiceMessage
from blocks.spool import Batch, place_in
from blocks.values import Fetched, Missed, Outcome, Proof, RemoteFile
from deployments.sender.messages import Messenger
from deployments.sender.store import Step, Store

SECRET = "the merger is on 4 December"
BAD = b"sku,description,currency,price,valid_from\nA,Bolt,EUR,1.50,2026-12-01\nB,Nut,EUR,one,2026-12-01\nC,Cap,EUR,=2+3,2026-12-01\n"
LINES: list[dict[str, Any]] = [
    {"code": "wrong-type", "row": 3, "column": "price", "fix": "Give a number."},
    {"code": "wrong-type", "row": 4, "column": "price", "fix": "Give a number."},
]


@dataclass
class Desk:
    """A partner with a folder, and our messenger; no process, no server."""

    home: Path
    store: Store
    messenger: Messenger

    @property
    def out(self) -> Path:
        return self.home / "partner" / "out"

    @property
    def notes(self) -> Path:
        return self.home / "partner" / "in" / "notes"

    def agree(self, **notes: Any) -> None:
        stream = {
            "endpoint": "drop",
            "folder": "/out",
            "classify": [{"pattern": r".*\.csv", "doctype": "price-list"}],
            "target": {"repository": "kept", "folder": "Prices"},
        }
        told = {**stream, "notes": {"folder": "/in/notes", **notes}}
        place = {"protocol": "folder", "root": str(self.home / "partner")}
        partner = {"name": "acme", "title": "ACME", "endpoints": {"drop": place}, "streams": {"prices": told, "quiet": stream}}
        self.home.joinpath("profiles", "acme.yaml").write_text(yaml.safe_dump({"partner": partner}))

    def leave(self, content: bytes = BAD, name: str = "prices.csv", **changes: Any) -> ServiceMessage:
        """The partner leaves a file; what a worker would ask to tell about it."""
        self.out.joinpath(name).write_bytes(content)
        with load_partner("acme", self.home / "profiles").endpoints["drop"].session() as session:
            [file] = [file for file in session.look("/out") if file.name == name.encode()]
        facts = {"doctype": "price-list", "lines": LINES, "more": 0}
        message = ServiceMessage(MessageKind.NOTE, "acme", "prices", file, hashlib.sha256(content).hexdigest(), facts)
        return replace(message, **changes)

    def received(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.notes.iterdir()}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Store(tmp_path / "state") as store:
        made = Desk(tmp_path, store, Messenger(store, tmp_path / "profiles", floor_bytes=0))
        for folder in (made.out, made.notes, tmp_path / "profiles"):
            folder.mkdir(parents=True)
        made.agree()
        yield made


def test_a_note_names_row_column_value_rule_and_what_to_do(desk: Desk) -> None:
    message = desk.leave()
    arrived = desk.messenger.tell(message)
    assert arrived.complete, arrived
    assert [file.proof for file in arrived.files] == [Proof.READ_BACK] * 2
    digest = str(message.digest)[:8]
    received = desk.received()
    assert set(received) == {f"prices.csv.{digest}.note.csv", f"prices.csv.{digest}.note.html"}
    page = received[f"prices.csv.{digest}.note.html"].decode()
    table = received[f"prices.csv.{digest}.note.csv"].decode("utf-8-sig")
    assert "<code>one</code>" in page and "Give a number." in page
    assert "3,price,one," in table
    assert "4,price,'=2+3," in table, "no formula"


def test_what_a_file_says_is_told_in_the_agreed_language_and_formats(desk: Desk) -> None:
    desk.agree(language="de", formats=["csv"])
    desk.messenger.tell(desk.leave())
    [(name, table)] = desk.received().items()
    assert name.endswith(".note.csv") and "Geben Sie eine Zahl an." in table.decode("utf-8-sig")


def test_told_once_however_often_it_is_asked_for(desk: Desk) -> None:
    message = desk.leave()
    first = desk.messenger.tell(message)
    for path in desk.notes.iterdir():
        path.unlink()  # the partner collects
    desk.out.joinpath("prices.csv").unlink()
    assert desk.messenger.tell(message) == first
    assert desk.messenger.tell(replace(message, facts={**message.facts, "more": 7})) == first
    assert desk.received() == {}


# --------------------------------------------------------------------------------------------- a worker in wrong hands


def test_a_file_that_does_not_stand_at_the_partner_is_not_written_about(desk: Desk) -> None:
    """The attack: a secret document as an arrival of this partner, with 'bad rows' in it that a note would quote."""
    message = desk.leave()
    secret = f"sku,description,currency,price,valid_from\n{SECRET},,,,\n".encode()
    planted = replace(message, digest=hashlib.sha256(secret).hexdigest())
    spooled = place_in(desk.home / "spool", str(planted.digest))  # where workers write, and where we do not read
    spooled.parent.mkdir(parents=True)
    spooled.write_bytes(secret)
    with pytest.raises(SendRefused, match="other bytes stand there"):
        desk.messenger.tell(planted)
    gone = replace(message, file=replace(message.file, name=SECRET.encode()))
    with pytest.raises(SendRefused, match="it is not there"):
        desk.messenger.tell(gone)
    with pytest.raises(SendRefused, match="not there as it is told"):
        desk.messenger.tell(replace(gone, digest=None))
    elsewhere = replace(message, file=replace(message.file, folder="/in"))
    with pytest.raises(SendRefused, match="cannot be a file of this stream"):
        desk.messenger.tell(elsewhere)
    assert desk.received() == {}


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"lines": [{**LINES[0], "value": SECRET}]}, id="a value"),
        pytest.param({"lines": LINES, "comment": SECRET}, id="another fact"),
        pytest.param({"lines": [{"code": SECRET}]}, id="nothing but a code that is none"),
        pytest.param({"lines": LINES * 51}, id="more lines than there may be"),
        pytest.param({"lines": []}, id="nothing to mend"),
        pytest.param({"lines": [{**LINES[0], "row": SECRET}]}, id="a row that is no number"),
    ],
)
def test_what_is_no_note_is_refused(desk: Desk, facts: dict[str, Any]) -> None:
    message = desk.leave()
    with pytest.raises(SendRefused):
        desk.messenger.tell(replace(message, facts={"doctype": "price-list", "more": 0, **facts}))
    assert desk.received() == {}


def test_words_of_a_worker_do_not_get_into_a_note(desk: Desk) -> None:
    lines = [{"code": "wrong-type", "row": 3, "column": SECRET, "rule": SECRET, "fix": SECRET}, *LINES]
    assert desk.messenger.tell(desk.leave(facts={"doctype": SECRET, "lines": lines, "more": 0})).complete
    assert all(SECRET.encode() not in content for content in desk.received().values())


def test_words_and_numbers_of_a_worker_do_not_get_into_a_rule(desk: Desk) -> None:
    """The attack: what is filled into our sentences, in the shape that it has there."""
    rule = "The last line is #PAY;rows=<number of rows>[;the_merger_is_on_4_december=<sum>]"
    lines = [{"code": "wrong-type", "row": 3, "column": "price", "rule": rule, "fix": "At most 123456789012345678901 bytes"}]
    assert desk.messenger.tell(desk.leave(facts={"doctype": "price-list", "lines": lines, "more": 0})).complete
    received = b"".join(desk.received().values())
    assert received and not any(word in received for word in (b"PAY", b"merger", b"123456789012"))


def test_nothing_is_sent_that_was_not_agreed(desk: Desk) -> None:
    for message in (desk.leave(stream="quiet"), desk.leave(stream=SECRET)):
        with pytest.raises(SendRefused, match="no note was agreed"):
            desk.messenger.tell(message)
    assert desk.received() == {}


# --------------------------------------------------------------------------------------------- on its way


def test_a_name_that_is_taken_is_left_alone(desk: Desk) -> None:
    message = desk.leave()
    taken = desk.notes / f"prices.csv.{str(message.digest)[:8]}.note.csv"
    taken.write_bytes(b"theirs")
    with pytest.raises(SendRefused, match="taken"):
        desk.messenger.tell(message)
    assert desk.received() == {taken.name: b"theirs"}
    taken.unlink()
    assert desk.messenger.tell(message).complete, "and later it goes"


def test_after_a_break_what_was_built_first_goes_on_its_way(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between both formats: the other one follows, though the original was cleared meanwhile."""
    message, move = desk.leave(), Store.move

    def killed(self: Store, moves: Any) -> Any:
        if moves.get(Step.RENAMING):
            raise KeyboardInterrupt
        return move(self, moves)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "move", killed)
        with pytest.raises(KeyboardInterrupt):
            desk.messenger.tell(message)
    desk.out.joinpath("prices.csv").unlink()
    again = Messenger(desk.store, desk.home / "profiles", floor_bytes=0)
    assert again.tell(message).complete
    assert len(desk.received()) == 2
    assert not list((desk.home / "state" / "messages").iterdir()), "nothing of it is kept"


def test_a_folder_that_is_not_there_is_told_and_tried_again(desk: Desk) -> None:
    message = desk.leave()
    desk.notes.rmdir()
    assert "in/notes" in desk.messenger.tell(message).problem
    desk.notes.mkdir()
    assert desk.messenger.tell(message).complete


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.VANISHED, Outcome.UNKNOWN])
def test_while_the_server_does_not_let_us_fetch_a_file_nothing_is_given_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    """As a crowded FTP server says 450 or 451: that is no word about the file."""
    message, busy = desk.leave(), "451 local error in processing, try again later"

    def missed(_: object, files: Iterable[RemoteFile], __: object) -> Iterator[Missed]:
        return (Missed(file, outcome, busy) for file in files)

    with monkeypatch.context() as patch:
        patch.setattr(FolderSession, "fetch", missed)
        with pytest.raises(EndpointError, match=busy):
            desk.messenger.tell(message)
    assert desk.messenger.tell(message).complete


def test_a_file_that_goes_while_it_is_fetched_is_not_written_about(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    message, fetch = desk.leave(), FolderSession.fetch

    def collected(self: FolderSession, files: Iterable[RemoteFile], into: Batch) -> Iterator[Fetched | Missed]:
        desk.out.joinpath("prices.csv").unlink()
        return fetch(self, files, into)

    monkeypatch.setattr(FolderSession, "fetch", collected)
    with pytest.raises(SendRefused, match="it is not there"):
        desk.messenger.tell(message)


def test_a_receipt_is_for_a_file_of_theirs_and_says_nothing_else(desk: Desk) -> None:
    message = replace(desk.leave(), kind=MessageKind.ACCEPTED, facts={"sku": SECRET, "state": SECRET})
    with pytest.raises(SendRefused, match="no receipt 'accepted' was agreed"):
        desk.messenger.tell(message)
    profile = desk.home / "profiles" / "acme.yaml"
    told = yaml.safe_load(profile.read_text())
    desk.home.joinpath("partner", "receipts").mkdir()
    told["partner"]["streams"]["prices"]["receipts"] = {"folder": "/receipts", "states": ["accepted", "rejected"]}
    profile.write_text(yaml.safe_dump(told))
    with pytest.raises(SendRefused, match="other bytes stand there"):
        desk.messenger.tell(replace(message, digest="0" * 64))
    with pytest.raises(SendRefused, match="it is not there"):
        desk.messenger.tell(replace(message, file=replace(message.file, name=SECRET.encode())))
    with pytest.raises(SendRefused, match="no receipt 'received' was agreed"):
        desk.messenger.tell(replace(message, kind=MessageKind.RECEIVED))
    assert desk.messenger.tell(message).complete and desk.messenger.tell(message).complete
    desk.out.joinpath("prices.csv").unlink()
    assert desk.messenger.tell(replace(message, kind=MessageKind.REJECTED)).complete, "we saw it there before"
    with pytest.raises(SendRefused, match="it is not there"):
        desk.messenger.tell(replace(message, kind=MessageKind.REJECTED, digest="0" * 64))
    receipts = {path.name: path.read_text() for path in (desk.home / "partner" / "receipts").iterdir()}
    assert {name.rsplit(".", 2)[1] for name in receipts} == {"accepted", "rejected"}
    assert not any(SECRET in text for text in receipts.values())


def with_receipts(desk: Desk) -> Path:
    """Receipts are agreed for every state; where they are left."""
    profile, folder = desk.home / "profiles" / "acme.yaml", desk.home / "partner" / "receipts"
    told = yaml.safe_load(profile.read_text())
    told["partner"]["streams"]["prices"]["receipts"] = {"folder": "/receipts"}
    profile.write_text(yaml.safe_dump(told))
    folder.mkdir()
    return folder


def test_one_file_in_one_state_has_one_receipt_whatever_time_is_told(desk: Desk) -> None:
    """The attack: the same file once more under another time, or without a time, or without its digest."""
    receipts = with_receipts(desk)
    message = replace(desk.leave(), kind=MessageKind.ACCEPTED, facts={})
    assert desk.messenger.tell(message).complete
    assert message.file.modified is not None
    for modified in (None, message.file.modified + timedelta(microseconds=1)):
        with pytest.raises(SendRefused, match="not there as it is told"):
            desk.messenger.tell(replace(message, file=replace(message.file, modified=modified)))
    with pytest.raises(SendRefused, match="its digest must be told"):
        desk.messenger.tell(replace(message, digest=None))
    with pytest.raises(SendRefused, match="its digest must be told"):
        desk.messenger.tell(desk.leave(digest=None))
    assert len(list(receipts.iterdir())) == 1 and desk.received() == {}


def test_where_the_server_tells_no_times_no_time_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    receipts = with_receipts(desk)
    monkeypatch.setattr("blocks.endpoints.folder._modified", lambda _: None)
    message = replace(desk.leave(), kind=MessageKind.ACCEPTED, facts={})
    assert message.file.modified is None
    with pytest.raises(SendRefused, match="not there as it is told"):
        desk.messenger.tell(replace(message, file=replace(message.file, modified=datetime.now(UTC))))
    assert desk.messenger.tell(message).complete
    assert len(list(receipts.iterdir())) == 1


def test_a_file_that_nobody_may_fetch_is_told_of_without_its_digest(desk: Desk) -> None:
    receipts = with_receipts(desk)
    profile = desk.home / "profiles" / "acme.yaml"
    told = yaml.safe_load(profile.read_text())
    told["partner"]["streams"]["prices"]["limits"] = {"largest_bytes": 10}
    profile.write_text(yaml.safe_dump(told))
    message = replace(desk.leave(), kind=MessageKind.REJECTED, facts={}, digest=None)
    assert desk.messenger.tell(message).complete
    assert len(list(receipts.iterdir())) == 1
