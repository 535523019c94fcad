"""A package shown outside in File 360: what was signed off and nothing else, to the guests agreed, until the day; else to nobody."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pydantic import ValidationError

from blocks.errors import DocumentChanged, RepositoryError, SendRefused
from blocks.outbound import DestinationTerms, canonical
from blocks.profile import load_partner
from blocks.repositories.file360 import File360, File360Session, File360Wire
from blocks.repositories.otcs_wire import Refusal
from blocks.settings import settings
from blocks.shares import Share
from blocks.spool import Spool
from blocks.values import Outgoing, Proof
from deployments.sender.lading import place_of
from deployments.sender.sharing_file360 import SharedFolders, viewers
from deployments.sender.showing import Exhibit, hide, show
from deployments.sender.store import Parcel, Step, Store
from tests.conformance.repositories.test_file360_faults import ALL, Bare, File360Bench
from tests.rules.signoff.world import package
from tests.sandbox.file360 import File360Sandbox

GUESTS = ("ann@audit.example", "bob@audit.example")
TWO = {"ledger.csv": b"account,amount\n1,2\n", "notes.txt": b""}
DAYS = 30


@dataclass
class Gallery:
    """File 360 with the sender's account and the workers', and what the sender remembers."""

    sandbox: File360Sandbox
    place: Path
    share: Share
    _number: Iterator[int] = field(default_factory=itertools.count)
    _http: dict[str, httpx.Client] = field(default_factory=dict)

    def exhibit(self, documents: dict[str, bytes] | None = None) -> Exhibit:
        """A package of these documents, its bytes checked and with the sender."""
        number, files = next(self._number), []
        for name, content in (TWO if documents is None else documents).items():
            source = self.place / f"{number} {len(files)}"
            source.write_bytes(content)
            files.append(Outgoing(source, name.encode(), len(content), hashlib.sha256(content).hexdigest()))
        digest = hashlib.sha256(f"package {number}".encode()).hexdigest()
        told = canonical(self.share.destination(f"o-{number}").facts)
        return Exhibit(digest, told, self.share, f"o-{number}", files, [file.name for file in files])

    def bring(self, exhibit: Exhibit) -> list[Parcel]:
        with Store(self.place / "state") as store:
            return show(exhibit, store, Spool(self.place / "scratch", floor_bytes=0))

    def signed_in(self, client: str = "sender") -> httpx.Client:
        """Bare HTTP with an account."""
        if client in self._http:
            return self._http[client]
        form = {"grant_type": "client_credentials", "client_id": client, "client_secret": f"{client}-secret"}
        http = httpx.Client(base_url=self.sandbox.url, timeout=60, trust_env=False)
        token = http.post("/otdsws/oauth2/token", data=form).json()["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"
        return self._http.setdefault(client, http)

    def close(self) -> None:
        for http in self._http.values():
            http.close()

    def node(self, exhibit: Exhibit) -> dict[str, Any] | None:
        """The package's folder, as it stands in the repository."""
        nodes = self.sandbox._store.nodes.values()
        found = [one for one in nodes if one["kind"] == "folder" and one["name"] == exhibit.place[-1]]
        assert len(found) <= 1, "two folders for one package"
        return found[0] if found else None

    def seen_by(self, guest: str, exhibit: Exhibit) -> dict[str, bytes]:
        """What a guest can read of the package's folder now."""
        store, folder = self.sandbox._store, self.node(exhibit)
        user = store.user_with(guest)
        if folder is None or user is None or not store.role(user["id"], folder):
            return {}
        assert store.role(user["id"], folder) == 1, "a guest may look, and nothing else"
        return self.held(exhibit)

    def held(self, exhibit: Exhibit) -> dict[str, bytes]:
        """What stands in the package's folder, each in its one version."""
        store, folder = self.sandbox._store, self.node(exhibit)
        found = {}
        for document in store.children(folder["id"]) if folder else ():
            (version,) = store.versions_of(document)
            found[document["name"]] = (store.contents / str(version["id"])).read_bytes()
        return found

    def until(self, exhibit: Exhibit) -> set[datetime]:
        """When the shares of its folder end."""
        folder = self.node(exhibit)
        assert folder is not None
        return {datetime.fromisoformat(ends) for ends in folder["until"].values()}

    def told(self, exhibit: Exhibit) -> list[str]:
        """What guests were told: each time the folder was shared with one."""
        folder = self.node(exhibit)
        assert folder is not None
        return [event["detail"] for event in self.sandbox._store.events_of(folder) if event["type"] == "Share"]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    place = tmp_path_factory.mktemp("gallery")
    (place / "state").mkdir(mode=0o700)
    (place / "secret").write_text("sender-secret")
    sandbox = File360Sandbox(place / "file360").start()
    try:
        with closing(Gallery(sandbox, place, share_at(sandbox, place))) as made:
            yield made
    finally:
        sandbox.stop()


def share_at(sandbox: File360Sandbox, place: Path, **changes: Any) -> Share:
    account = {"client_id": "sender", "client_secret": f"file:{place}/secret", "root": "Shown outside", **changes}
    return Share(repository={"kind": "file360", "url": sandbox.url, **account}, guests=GUESTS, days=DAYS)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The server is back at once."""
    monkeypatch.setenv("COUNTERSIGN_PAUSE_SECONDS", "0.02")
    settings.cache_clear()
    yield
    settings.cache_clear()


# --------------------------------------------------------------------------------------------- what the sender does


def test_a_package_is_shown_whole_and_proven_until_the_day(gallery: Gallery) -> None:
    exhibit, days = gallery.exhibit(), timedelta(days=DAYS)
    began = datetime.now(UTC).replace(microsecond=0)
    parcels = gallery.bring(exhibit)
    ended = datetime.now(UTC)
    assert [(one.name, one.step, one.proof) for one in parcels] == [
        (name.encode(), Step.PROVEN, Proof.READ_BACK) for name in TWO
    ]
    [until] = gallery.until(exhibit)
    assert began <= until - days <= ended, "to the second, and no day more"
    assert {one.replies[1].partition(" is ")[2] for one in parcels} == {f"shown until {until:%Y-%m-%d %H:%M} UTC"}
    assert [gallery.seen_by(guest, exhibit) for guest in GUESTS] == [TWO, TWO]
    writes, told = gallery.sandbox.stats["writes"], gallery.told(exhibit)
    assert gallery.bring(exhibit) == parcels and gallery.sandbox.stats["writes"] == writes, "asked again: told the same"
    assert gallery.told(exhibit) == told and len(told) == len(GUESTS), "nobody is told twice"
    gallery.sandbox.faults.set({"clock-ahead": days.total_seconds() + 1})
    assert gallery.seen_by(GUESTS[0], exhibit) == {}, "it ends by itself"
    gallery.sandbox.faults.set({"clock-ahead": 0})


def test_the_sender_shares_a_folder_until_a_day_and_stops(gallery: Gallery) -> None:
    sender, now = gallery.signed_in(), datetime.now(UTC).replace(microsecond=0)
    last = now + timedelta(days=3)
    root = sender.get("/api/v1/users/me").json()["rootId"]
    folder = sender.post("/api/v1/folders", json={"name": "By hand", "parentId": root}).json()["id"]
    with SharedFolders(gallery.share.repository.signed_in()) as opened:
        for guests, until in ((), last), (GUESTS, now):
            with pytest.raises(SendRefused, match="nothing was shared"):
                opened.share(folder, viewers(guests), until)
        assert not opened.shared(folder) and opened.seers(folder) == []
        for _ in range(2):
            opened.share(folder, viewers(GUESTS), last)
            assert [(one.who, one.role, one.until) for one in opened.seers(folder)] == [(guest, 1, last) for guest in GUESTS]
        with pytest.raises(SendRefused, match=r"shared already with others \(ann@audit.example\)"):
            opened.share(folder, viewers(GUESTS[1:]), last)
        more = {"members": [{"email": GUESTS[0], "role": 3}], "expiration": last.isoformat()}
        assert sender.post(f"/api/v1/folders/{folder}/collaborators", json=more).is_success
        assert not opened.shows(folder, viewers(GUESTS), last)
        opened.share(folder, viewers(GUESTS), last)
        assert opened.shows(folder, viewers(GUESTS), last), "a guest may look, and nothing else"
        assert sender.post(f"/api/v1/folders/{folder}/shares", json={}).is_success
        for _ in range(2):
            opened.stop(folder)
            assert not opened.shared(folder)
        below = sender.post("/api/v1/folders", json={"name": "Below", "parentId": folder}).json()["id"]
        opened.share(folder, viewers(GUESTS), last)
        with pytest.raises(SendRefused, match="by a link or a folder above"):
            opened.share(below, viewers(GUESTS), last)
        with pytest.raises(SendRefused, match="by a folder above it; stop that by hand"):
            opened.stop(below)
        opened.stop(folder)


def test_a_package_of_the_same_folder_is_shown_apart(gallery: Gallery) -> None:
    first, second = gallery.exhibit(), gallery.exhibit({"ledger.csv": b"later"})
    second = replace(second, folder=first.folder)
    gallery.bring(first)
    gallery.bring(second)
    assert (gallery.seen_by(GUESTS[0], first), gallery.seen_by(GUESTS[0], second)) == (TWO, {"ledger.csv": b"later"})


class Killed(BaseException):
    """The sender is no more."""


@pytest.mark.parametrize(
    "written", [pytest.param(False, id="after the act"), pytest.param(True, id="before the act", marks=pytest.mark.soak)]
)
def test_killed_at_every_step_it_is_shown_once(gallery: Gallery, monkeypatch: pytest.MonkeyPatch, written: bool) -> None:
    for number in itertools.count(1):
        exhibit, lived = gallery.exhibit(), True
        with monkeypatch.context() as patched:
            patched.setattr(Store, "move", killing(number, written=written))
            try:
                gallery.bring(exhibit)
            except Killed:
                lived = False
        assert all(one.step is Step.PROVEN for one in gallery.bring(exhibit))
        assert gallery.seen_by(GUESTS[1], exhibit) == TWO and len(gallery.told(exhibit)) == len(GUESTS)
        if lived:
            break
    assert number > 4, "the walk has steps"


def killing(number: int, *, written: bool) -> Callable[..., list[Parcel]]:
    """``Store.move``, which ends the sender at its N-th call, before or after that is written down."""
    move, count = Store.move, itertools.count(1)

    def counted(self: Store, moves: Mapping[Step, Iterable[Parcel]]) -> list[Parcel]:
        last = next(count) == number
        if last and not written:
            raise Killed
        moved = move(self, moves)
        if last:
            raise Killed
        return moved

    return counted


OFTEN = ("lost answer", "429 with Retry-After")


@pytest.mark.parametrize("fault", [pytest.param(name, marks=[] if name in OFTEN else pytest.mark.soak) for name in ALL])
def test_faults_at_each_call_double_nothing(gallery: Gallery, fault: str) -> None:
    """The folder is made, the document filed, the folder shared: before, meanwhile and after each of them."""
    with Bare(gallery.sandbox.url) as wire:
        wire.http.headers["Authorization"] = gallery.signed_in().headers["Authorization"]
        bench = File360Bench(gallery.sandbox, None, wire, gallery.place)  # type: ignore[arg-type]
        one = {"ledger.csv": b"account\n"}
        gallery.bring(gallery.exhibit(one))  # makes the folder around all
        before = gallery.sandbox.stats["writes"]
        gallery.bring(gallery.exhibit(one))
        writes = gallery.sandbox.stats["writes"] - before
        assert writes == 3
        for spared in range(writes):
            exhibit = gallery.exhibit(one)
            with bench.fault(ALL[fault], spared):
                try:
                    gallery.bring(exhibit)
                except RepositoryError as error:
                    assert error.worth_retrying, f"call {spared + 1}: {error!r}"
            assert bench.struck, f"call {spared + 1}: this fault met nothing"
            assert all(parcel.step is Step.PROVEN for parcel in gallery.bring(exhibit))
            assert gallery.seen_by(GUESTS[0], exhibit) == one
            assert {*gallery.told(exhibit)} == {
                f"user:{gallery.sandbox._store.user_with(guest)['id']} as 1" for guest in GUESTS
            }  # type: ignore[index]


def test_what_goes_no_further_is_taken_back_and_what_was_shown_is_kept(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, shown = gallery.exhibit(), gallery.exhibit()
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Store, "move", killing(3, written=True))  # filed both, and about to be shown
        gallery.bring(begun)
    gallery.bring(shown)
    assert gallery.held(begun) == TWO
    with Store(gallery.place / "state") as store:
        for _ in range(2):
            assert hide(begun, store) == hide(shown, store) == []
        assert hide(gallery.exhibit(), store) == [], "nothing was ever there"
    assert (gallery.held(begun), gallery.held(shown)) == ({}, TWO)
    assert gallery.seen_by(GUESTS[0], shown) == {}


# --------------------------------------------------------------------------------------------- what it does not


@contextmanager
def let_in(gallery: Gallery, folder: str = "Shown outside", role: int = 2) -> Iterator[httpx.Client]:
    """Bare HTTP of the workers' account, which somebody has let into one of the sender's folders for a while."""
    sender, worker = gallery.signed_in(), gallery.signed_in("countersign")
    top = next(str(one["id"]) for one in gallery.sandbox._store.nodes.values() if one["name"] == folder)
    path = f"/api/v1/folders/{top}/collaborators"
    assert sender.post(path, json={"members": [{"email": "countersign@example.com", "role": role}]}).is_success
    try:
        yield worker
    finally:
        assert sender.delete(f"{path}/{worker.get('/api/v1/users/me').json()['id']}").is_success


def uploaded(http: httpx.Client, folder: int, name: str) -> httpx.Response:
    path = "/api/v3/documents?collisionStrategy=overwrite"
    return http.post(path, data={"parentId": str(folder)}, files={"file": (name, b"never signed")})


BEFORE, MEANWHILE = "before it is shown", "in the moment before it is shown"


@pytest.mark.parametrize(
    ("when", "name"),
    [
        pytest.param(BEFORE, "more.csv", marks=pytest.mark.soak),
        (BEFORE, "ledger.csv"),
        (MEANWHILE, "more.csv"),
        pytest.param(MEANWHILE, "ledger.csv", marks=pytest.mark.soak),
    ],
)
def test_what_nobody_signed_is_not_shown(gallery: Gallery, monkeypatch: pytest.MonkeyPatch, when: str, name: str) -> None:
    exhibit = gallery.exhibit()
    gallery.bring(gallery.exhibit())
    share, read_back = SharedFolders.share, File360Session.fetch

    def meddle() -> None:
        folder = gallery.node(exhibit)
        assert folder is not None
        with let_in(gallery) as worker:
            assert uploaded(worker, folder["id"], name).is_success

    def meddled(*arguments: Any) -> Any:
        meddle()
        return share(*arguments)

    def late(*arguments: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patched:
        if when == BEFORE:
            patched.setattr(File360Session, "fetch", late)
            with pytest.raises(Killed):
                gallery.bring(exhibit)
            patched.setattr(File360Session, "fetch", read_back)
            meddle()
        else:
            patched.setattr(SharedFolders, "share", meddled)
        for _ in range(2):
            with pytest.raises(SendRefused, match="Ask who else writes there"):
                gallery.bring(exhibit)
            patched.setattr(SharedFolders, "share", share)
    folder = gallery.node(exhibit)
    assert folder is not None and not gallery.sandbox._store.shown_outside(folder), "shown to nobody any more"


def test_what_somebody_swaps_in_the_moment_before_it_is_shown_is_shown_to_nobody(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same name, size and journey, which whoever files says themselves; with other bytes."""
    exhibit, share = gallery.exhibit({"ledger.csv": b"account,amount"}), SharedFolders.share

    def swapped(*arguments: Any) -> Any:
        store, folder = gallery.sandbox._store, gallery.node(exhibit)
        assert folder is not None
        [document] = store.children(folder["id"])
        [version] = store.versions_of(document)
        sender = gallery.signed_in()
        assert sender.put(f"/api/v1/documents/{document['id']}", json={"state": "deleted"}).is_success
        form = {"parentId": str(folder["id"]), "externalData": version["externalData"]}
        asked = sender.post("/api/v3/documents", data=form, files={"file": ("ledger.csv", b"ACCOUNT,AMOUNT")})
        assert asked.is_success
        return share(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(SharedFolders, "share", swapped)
        with pytest.raises(SendRefused, match="another document stands in"):
            gallery.bring(exhibit)
    assert gallery.seen_by(GUESTS[0], exhibit) == {}
    with pytest.raises((SendRefused, DocumentChanged)):
        gallery.bring(exhibit)
    assert gallery.seen_by(GUESTS[0], exhibit) == {}


def test_nothing_is_shown_while_somebody_else_gets_at_the_folders_around_it(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They could add to it later. In a folder of somebody else's files the share could not even be ended."""
    gallery.bring(gallery.exhibit())  # makes the folder around all
    exhibit = gallery.exhibit()
    with let_in(gallery, role=1):
        with pytest.raises(SendRefused, match=r"countersign@example.com gets at .* by a folder around it"):
            gallery.bring(exhibit)
        assert gallery.told(exhibit) == []
    share = SharedFolders.share

    def opened(*arguments: Any) -> Any:
        share(*arguments)
        stack.enter_context(let_in(gallery))

    with ExitStack() as stack, monkeypatch.context() as patched:
        patched.setattr(SharedFolders, "share", opened)
        with pytest.raises(SendRefused, match="by a folder around it"):
            gallery.bring(exhibit)
        assert gallery.seen_by(GUESTS[0], exhibit) == {}
    assert all(parcel.step is Step.PROVEN for parcel in gallery.bring(exhibit))

    worker = gallery.signed_in("countersign")
    root = worker.get("/api/v1/users/me").json()["rootId"]
    theirs = worker.post("/api/v1/folders", json={"name": "Theirs", "parentId": root}).json()["id"]
    members = {"members": [{"email": gallery.signed_in().get("/api/v1/users/me").json()["email"], "role": 3}]}
    assert worker.post(f"/api/v1/folders/{theirs}/collaborators", json=members).is_success
    exhibit = replace(gallery.exhibit(), share=share_at(gallery.sandbox, gallery.place, root=str(theirs)))
    with pytest.raises(SendRefused, match="nobody can tell who gets at it"):
        gallery.bring(exhibit)
    assert gallery.told(exhibit) == []


@pytest.mark.parametrize("wrong", ["without end", "without a guest", "until whenever"])
def test_a_share_that_is_not_what_was_asked_for_is_stopped_and_remembered(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """The tenant shares, and not as agreed: what guests may have seen meanwhile is not taken for never shown."""
    exhibit, put = gallery.exhibit(), File360Wire.put

    def otherwise(self: File360Wire, what: str, method: str, path: str, body: Any = None) -> Any:
        if method != "POST":
            return put(self, what, method, path, body)
        if wrong == "without end":
            return put(self, what, method, path, {**body, "expiration": None})
        if wrong == "without a guest":
            return put(self, what, method, path, {**body, "members": body["members"][1:]})
        told, store, folder = put(self, what, method, path, body), gallery.sandbox._store, gallery.node(exhibit)
        assert folder is not None
        store.nodes.put(folder | {"until": dict.fromkeys(folder["until"], "whenever")})
        return told

    with monkeypatch.context() as patched:
        patched.setattr(File360Wire, "put", otherwise)
        with pytest.raises(
            RepositoryError, match="does not tell who sees it" if wrong == "until whenever" else "not shown as asked"
        ):
            gallery.bring(exhibit)
    assert gallery.seen_by(GUESTS[1], exhibit) == {} and gallery.held(exhibit) == TWO
    with Store(gallery.place / "state") as store:
        assert {one.step for one in store.parcels(exhibit.package)} == {Step.PLACED}
        assert hide(exhibit, store) == []
    assert gallery.held(exhibit) == TWO, "guests may have seen it"


def test_a_share_that_cannot_be_ended_is_said_to_stand_yet(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    exhibit, share, put = gallery.exhibit({"ledger.csv": b"account\n"}), SharedFolders.share, File360Wire.put

    def partly(*arguments: Any) -> Any:
        share(*arguments)
        raise Refusal("not shown as asked", "partial")

    def refused(self: File360Wire, what: str, method: str, path: str, body: Any = None) -> Any:
        return put(self, what, method, path, body) if method == "POST" else self.ask(what, "GET", "api/v1/folders/1")

    with monkeypatch.context() as patched:
        patched.setattr(SharedFolders, "share", partly)
        patched.setattr(File360Wire, "put", refused)
        with pytest.raises(SendRefused, match=r"as asked\. And its share could not be ended, stop it in File 360"):
            gallery.bring(exhibit)
    with Store(gallery.place / "state") as store:
        [parcel] = store.parcels(exhibit.package)
        assert parcel.step is Step.PLACED and parcel.modified is not None
        assert hide(exhibit, store) == [] and gallery.seen_by(GUESTS[0], exhibit) == {}
        # As if the share had come to its end by itself while nobody had heard that it was made.
        store.move({Step.RENAMING: [parcel._replace(modified=datetime.now(UTC))]})
        assert hide(exhibit, store) == [] and gallery.held(exhibit), "it may have been seen"


def test_a_folder_that_somebody_has_moved_is_not_said_to_be_hidden(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    exhibit, sender = gallery.exhibit(), gallery.signed_in()
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Store, "move", killing(4, written=False))  # shown, and not written down as proven
        gallery.bring(exhibit)
    folder = gallery.node(exhibit)
    assert folder is not None
    path, name = f"/api/v1/folders/{folder['id']}", folder["name"]
    assert sender.put(path, json={"name": f"{name} of old"}).is_success
    with Store(gallery.place / "state") as store:
        for again in hide, lambda *_: gallery.bring(exhibit):
            with pytest.raises(SendRefused, match="is not where it was shown from, and may be shown yet"):
                again(exhibit, store)
        assert sender.put(path, json={"name": name}).is_success
        assert gallery.seen_by(GUESTS[0], exhibit) == TWO
        assert hide(exhibit, store) == []
        assert {one.step for one in store.parcels(exhibit.package)} == {Step.PLACED}
    assert gallery.seen_by(GUESTS[0], exhibit) == {} and gallery.held(exhibit) == TWO, "it was shown, and is kept"


def test_what_is_asked_for_again_later_is_shown_no_longer(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    exhibit = gallery.exhibit({"ledger.csv": b"account\n"})
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Store, "move", killing(2, written=True))  # about to be shown
        gallery.bring(exhibit)
    with Store(gallery.place / "state") as store:
        [asked] = store.parcels(exhibit.package)
        assert asked.step is Step.RENAMING and asked.modified is not None
        earlier = asked.modified - timedelta(days=3)  # as if that had been three days ago
        store.move({Step.RENAMING: [asked._replace(modified=earlier)]})
    assert all(parcel.step is Step.PROVEN for parcel in gallery.bring(exhibit))
    assert gallery.until(exhibit) == {earlier}


def test_what_the_repository_does_not_hold_as_it_was_filed_is_not_shown(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    exhibit = gallery.exhibit({"ledger.csv": b"account\n"})
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Store, "move", killing(1, written=True))
        gallery.bring(exhibit)
    store, folder = gallery.sandbox._store, gallery.node(exhibit)
    assert folder is not None
    (document,) = store.children(folder["id"])
    (version,) = store.versions_of(document)
    (store.contents / str(version["id"])).write_bytes(b"ACCOUNT\n")
    with pytest.raises(DocumentChanged, match="other bytes than were filed"):
        gallery.bring(exhibit)
    assert not store.shown_outside(folder)


def test_a_link_that_somebody_adds_before_it_is_proven_is_closed(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    exhibit = gallery.exhibit()
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Store, "move", killing(4, written=False))  # shown, and not written down as proven
        gallery.bring(exhibit)
    folder = gallery.node(exhibit)
    assert folder is not None and gallery.seen_by(GUESTS[0], exhibit) == TWO
    assert gallery.signed_in().post(f"/api/v1/folders/{folder['id']}/shares", json={}).is_success
    with pytest.raises(SendRefused, match="by a link"):
        gallery.bring(exhibit)
    assert not gallery.sandbox._store.shown_outside(folder)


def test_a_share_that_somebody_else_made_of_it_is_stopped(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    exhibit = gallery.exhibit()
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Store, "move", killing(2, written=True))
        gallery.bring(exhibit)
    folder, sender = gallery.node(exhibit), gallery.signed_in()
    assert folder is not None
    assert sender.post(f"/api/v1/folders/{folder['id']}/shares", json={"days_to_expire": 9}).is_success
    stranger = {"members": [{"email": "eve@elsewhere.example", "role": 1}]}
    assert sender.post(f"/api/v1/folders/{folder['id']}/collaborators", json=stranger).is_success
    with pytest.raises(SendRefused, match=r"shared already with others \(eve@elsewhere.example\)"):
        gallery.bring(exhibit)
    assert not gallery.sandbox._store.shown_outside(folder)
    assert all(parcel.step is Step.PROVEN for parcel in gallery.bring(exhibit)), "then it goes its way"
    assert gallery.seen_by("eve@elsewhere.example", exhibit) == {}


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        pytest.param([b"\xff.csv"], "only names in UTF-8", id="no UTF-8"),
        pytest.param([b"a/b.csv"], "would keep this name as", id="a name that it would change"),
        pytest.param([b"a.csv", b"A.csv"], "are one there", id="two names that differ in case"),
    ],
)
def test_names_that_the_repository_does_not_keep_are_refused(gallery: Gallery, names: list[bytes], reason: str) -> None:
    exhibit = gallery.exhibit()
    files = [replace(file, name=name) for file, name in zip(exhibit.files, names, strict=False)]
    with pytest.raises(SendRefused, match=reason):
        gallery.bring(replace(exhibit, files=files, sources=names))
    assert gallery.node(exhibit) is None


def test_a_guest_or_a_day_that_nobody_signed_is_no_place_of_the_profile(gallery: Gallery) -> None:
    terms = [DestinationTerms(share="auditors", folder="{order}")]
    about = package(destinations=(gallery.share.destination("2026-11-20"),))
    assert place_of(about, about.destinations[0], terms, lambda _: gallery.share).folder == about.order
    for changed in ({"guests": (*GUESTS, "eve@elsewhere.example")}, {"days": DAYS + 1}):
        other = gallery.share.model_copy(update=changed)
        with pytest.raises(SendRefused, match="is no destination of"):
            place_of(about, about.destinations[0], terms, lambda _, other=other: other)
        place = place_of(about, about.destinations[0], terms, lambda _, other=other: other, whoever=True)
        assert place.endpoint == other, "to hide it, nobody needs to be shown it still"
    elsewhere = share_at(gallery.sandbox, gallery.place, root="Elsewhere")
    with pytest.raises(SendRefused, match="is no destination of"):
        place_of(about, about.destinations[0], terms, lambda _: elsewhere, whoever=True)


def test_a_partner_who_is_only_shown_documents_needs_no_endpoint(tmp_path: Path) -> None:
    account = {"kind": "file360", "url": "https://files.example.com", "client_id": "c", "client_secret": "env:S"}
    books = {
        "direction": "outbound",
        "gather": {"repository": "ecm", "folder": "Out/{order}"},
        "signoff": {"stages": [{"name": "legal", "groups": ["legal"]}], "proof": "code"},
        "destinations": [{"share": "auditors", "folder": "{order}"}],
        "evidence": {"repository": "ecm", "folder": "Evidence/{order}"},
        "freshness": "latest",
    }
    shares = {"auditors": {"repository": account, "guests": [*GUESTS], "days": DAYS}}
    partner = {"name": "audit", "title": "Audit", "shares": shares, "streams": {"books": books}}
    (tmp_path / "audit.yaml").write_text(yaml.safe_dump({"partner": partner}))
    profile = load_partner("audit", tmp_path)
    [terms] = profile.outbound["books"].destinations
    assert (profile.place(terms), profile.endpoints) == (profile.shares["auditors"], {})


@pytest.mark.parametrize(
    "wrong",
    [{"guests": ()}, {"guests": ("a@b.example", "A@b.example")}, {"guests": ("nobody",)}, {"days": 0}, {"days": 367}],
    ids=str,
)
def test_a_share_says_who_and_how_long(gallery: Gallery, wrong: dict[str, Any]) -> None:
    told = {"kind": "file360", "url": "https://files.example.com", "client_id": "c", "client_secret": "env:S"}
    with pytest.raises(ValidationError):
        Share(repository=told, **{"guests": GUESTS, "days": DAYS, **wrong})  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------- the attack


def test_a_worker_with_all_it_holds_shows_nothing(gallery: Gallery) -> None:
    """By the sender's own code, by bare HTTP, by adding to what guests see, and by what its session can do."""
    exhibit = gallery.exhibit()
    gallery.bring(exhibit)
    shown = gallery.node(exhibit)
    assert shown is not None
    (gallery.place / "worker").write_text("countersign-secret")
    account = File360(url=gallery.sandbox.url, client_id="countersign", client_secret=f"file:{gallery.place}/worker")
    with let_in(gallery) as worker:
        refused_to_all(account, worker, shown["id"])
    assert gallery.seen_by(GUESTS[0], exhibit) == TWO
    assert not [name for name in dir(File360Session) if "share" in name.lower()]


def refused_to_all(account: File360, worker: httpx.Client, shown: int) -> None:
    """Each way in which a worker could show something."""
    root = worker.get("/api/v1/users/me").json()["rootId"]
    own = worker.post("/api/v1/folders", json={"name": "Mine", "parentId": root}).json()["id"]
    until = datetime.now(UTC) + timedelta(days=1)
    with SharedFolders(account.signed_in()) as opened, pytest.raises(Refusal, match="may not share with anybody outside"):
        opened.share(own, viewers(["eve@elsewhere.example"]), until)
    document = worker.get(f"/api/v1/folders/{shown}/children").json()[0]["id"]
    for refused in (
        worker.post(f"/api/v1/folders/{own}/shares", json={"days_to_expire": 1}),
        worker.post(f"/api/v1/folders/{shown}/shares", json={"days_to_expire": 1}),
        worker.post(f"/api/v1/documents/{document}/shares", json={"days_to_expire": 1}),
        worker.post("/api/v1/folders", json={"name": "in there", "parentId": str(shown)}),
        uploaded(worker, shown, "more.csv"),
        uploaded(worker, shown, "ledger.csv"),
    ):
        assert refused.status_code == 403, refused.text
