"""A package shown outside in File 360: what was signed off and nothing else, to the guests agreed, until the day; else to nobody."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from blocks.errors import DocumentChanged, RepositoryError, SendRefused
from blocks.outbound import DestinationTerms, canonical
from blocks.repositories.file360 import File360, File360Session
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
    exhibit = gallery.exhibit()
    parcels = gallery.bring(exhibit)
    assert [(one.name, one.step, one.proof) for one in parcels] == [
        (name.encode(), Step.PROVEN, Proof.READ_BACK) for name in TWO
    ]
    last = datetime.now(UTC).date() + timedelta(days=DAYS)
    assert [one.replies[1].rpartition(" ")[2] for one in parcels] == [last.isoformat()] * 2
    assert [gallery.seen_by(guest, exhibit) for guest in GUESTS] == [TWO, TWO]
    writes, told = gallery.sandbox.stats["writes"], gallery.told(exhibit)
    assert gallery.bring(exhibit) == parcels and gallery.sandbox.stats["writes"] == writes, "asked again: told the same"
    assert gallery.told(exhibit) == told and len(told) == len(GUESTS), "nobody is told twice"
    gallery.sandbox.faults.set({"clock-ahead": (DAYS + 2) * 86400})
    assert gallery.seen_by(GUESTS[0], exhibit) == {}, "it ends by itself"
    gallery.sandbox.faults.set({"clock-ahead": 0})


def test_the_sender_shares_a_folder_until_a_day_and_stops(gallery: Gallery) -> None:
    sender, last = gallery.signed_in(), datetime.now(UTC).date() + timedelta(days=3)
    root = sender.get("/api/v1/users/me").json()["rootId"]
    folder = sender.post("/api/v1/folders", json={"name": "By hand", "parentId": root}).json()["id"]
    with SharedFolders(gallery.share.repository.signed_in()) as opened:
        for guests, until in ((), last), (GUESTS, last - timedelta(days=5)):
            with pytest.raises(SendRefused, match="nothing was shared"):
                opened.share(folder, viewers(guests), until)
        assert not opened.shared(folder) and opened.seers(folder) == []
        for _ in range(2):
            opened.share(folder, viewers(GUESTS), last)
            assert [(one.who, one.role, one.until.date()) for one in opened.seers(folder) if one.until] == [
                (guest, 1, last) for guest in GUESTS
            ]
        with pytest.raises(SendRefused, match=r"shared already with others \(ann@audit.example\)"):
            opened.share(folder, viewers(GUESTS[1:]), last)
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

    def counted(self: Store, parcels: Iterable[Parcel], step: Step) -> list[Parcel]:
        last = next(count) == number
        if last and not written:
            raise Killed
        moved = move(self, parcels, step)
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
        assert hide(begun, store) == hide(shown, store) == []
        assert hide(gallery.exhibit(), store) == [], "nothing was ever there"
    assert (gallery.held(begun), gallery.held(shown)) == ({}, TWO)
    assert gallery.seen_by(GUESTS[0], shown) == {}


# --------------------------------------------------------------------------------------------- what it does not


def meddler(gallery: Gallery, exhibit: Exhibit) -> httpx.Client:
    """Bare HTTP of the workers' account, which somebody has let into the sender's folders."""
    sender = gallery.signed_in()
    root = sender.get("/api/v1/users/me").json()["rootId"]
    top = next(one["id"] for one in sender.get(f"/api/v1/folders/{root}/children").json() if one["name"] == "Shown outside")
    members = {"members": [{"email": "countersign@example.com", "role": 2}]}
    assert sender.post(f"/api/v1/folders/{top}/collaborators", json=members).is_success
    return gallery.signed_in("countersign")


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
    worker, share, read_back = meddler(gallery, exhibit), SharedFolders.share, File360Session.fetch

    def meddled(*arguments: Any) -> Any:
        folder = gallery.node(exhibit)
        assert folder is not None
        assert uploaded(worker, folder["id"], name).is_success
        return share(*arguments)

    def late(*arguments: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patched:
        if when == BEFORE:
            patched.setattr(File360Session, "fetch", late)
            with pytest.raises(Killed):
                gallery.bring(exhibit)
            patched.setattr(File360Session, "fetch", read_back)
            folder = gallery.node(exhibit)
            assert folder is not None and uploaded(worker, folder["id"], name).is_success
        else:
            patched.setattr(SharedFolders, "share", meddled)
        for _ in range(2):
            with pytest.raises(SendRefused, match="Ask who else writes there"):
                gallery.bring(exhibit)
            patched.setattr(SharedFolders, "share", share)
    folder = gallery.node(exhibit)
    assert folder is not None and not gallery.sandbox._store.shown_outside(folder), "shown to nobody any more"


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
    shown, worker = gallery.node(exhibit), meddler(gallery, exhibit)
    assert shown is not None
    (gallery.place / "worker").write_text("countersign-secret")
    account = File360(url=gallery.sandbox.url, client_id="countersign", client_secret=f"file:{gallery.place}/worker")
    root = worker.get("/api/v1/users/me").json()["rootId"]
    own = worker.post("/api/v1/folders", json={"name": "Mine", "parentId": root}).json()["id"]
    until = datetime.now(UTC).date() + timedelta(days=1)
    with SharedFolders(account.signed_in()) as opened, pytest.raises(Refusal, match="may not share with anybody outside"):
        opened.share(own, viewers(["eve@elsewhere.example"]), until)
    document = worker.get(f"/api/v1/folders/{shown['id']}/children").json()[0]["id"]
    for refused in (
        worker.post(f"/api/v1/folders/{own}/shares", json={"days_to_expire": 1}),
        worker.post(f"/api/v1/folders/{shown['id']}/shares", json={"days_to_expire": 1}),
        worker.post(f"/api/v1/documents/{document}/shares", json={"days_to_expire": 1}),
        worker.post("/api/v1/folders", json={"name": "in there", "parentId": str(shown["id"])}),
        uploaded(worker, shown["id"], "more.csv"),
        uploaded(worker, shown["id"], "ledger.csv"),
    ):
        assert refused.status_code == 403, refused.text
    assert gallery.seen_by(GUESTS[0], exhibit) == TWO
    assert not [name for name in dir(File360Session) if "share" in name.lower()]
