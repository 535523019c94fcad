"""Signatures and proven requests through the flow: what ``countersign sign`` and ``countersign request`` make, and what is none."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner, Result

from blocks.outbound import Round
from blocks.sender import Sender
from deployments.cli import app
from tasks.carry_standing import carry_standing
from tasks.connections import ledger
from tasks.rules.signing import parse_answer, pasted, statement
from tests.e2e.test_release import assert_named, assert_verifies
from tests.release_world import Release, ReleaseWorld
from tests.sender.keys import SshKey, ssh_key
from tests.servers import need

PRICES = b"sku,price\n1,2.50\n"


@dataclass
class Signer:
    """Somebody with a key on a machine of their own."""

    world: ReleaseWorld
    id: str
    key: SshKey

    def runs(self, release: Release, *more: str, decision: str = "approve", what: str = "", typed: str = "") -> Result:
        """``countersign sign``, as they type it."""
        chosen = ("--decision", decision) if decision else ()
        command = ["sign", what or str(release.run), "--as", self.id, "--meaning", "release", "--key", str(self.key.path)]
        told = CliRunner().invoke(app, [*command, *chosen, *more], input=typed)
        if told.exception is not None and not isinstance(told.exception, SystemExit):
            raise told.exception
        return told

    def line(self, release: Release, *more: str, **how: str) -> str:
        told = self.runs(release, "--yes", *more, **how)
        assert told.exit_code == 0, told.output
        return told.stdout.strip()

    def by_hand(self, release: Release, namespace: str, key: SshKey | None = None) -> str:
        """What somebody makes who does not use our command."""
        answer, asked = parse_answer(release.answer(self.id, "x")), release.last("round")
        time = datetime.now(UTC).replace(microsecond=0)
        about = Round(asked["n"], asked["key"], asked["run"], asked["digest"])
        from blocks.outbound import Answer, Matter

        assert isinstance(answer, Answer)
        text = statement(answer, Matter(release.package, str(release.run), None), about, time).text
        return pasted(time, (key or self.key).sign(text, namespace))


def signer(world: ReleaseWorld, folder: Path, **key: Any) -> Signer:
    made = ssh_key(folder, f"key{len(list(folder.iterdir()))}")
    return Signer(world, world.newcomer(keys=[{"key": made.public, **key}]), made)


@contextmanager
def deployed(world: ReleaseWorld, stream: str) -> Iterator[None]:
    from flows.release import release

    made = world.client.create_deployment(world.client.create_flow(release), f"acme-{stream}")
    try:
        yield
    finally:
        world.client.delete_deployment(made)


# --------------------------------------------------------------------------------------------- case 27


def test_case_27_a_signature_made_on_ones_own_machine_lets_it_go_and_verifies_without_us(
    release_world: ReleaseWorld, tmp_path: Path
) -> None:
    ann = signer(release_world, tmp_path)
    release = release_world.order("signed", prices=PRICES, stock=b"sku,stock\n1,3\n")
    assert release.start() is None
    assert f"countersign sign {release.run}" in release.form
    told = ann.runs(release, "--yes")
    assert told.exit_code == 0, told.output
    package = release.package
    for seen in (package.digest, package.destinations[0].shown, "1. prices.csv, 17 bytes", "2 documents", "the same bytes"):
        assert seen in told.stderr
    assert "Careful" not in told.stderr
    line = told.stdout.strip()
    assert "\n" not in line
    assert_named(release.sign(ann.id, line), "Delivered")
    assert release.received == {"prices.csv": PRICES, "stock.csv": b"sku,stock\n1,3\n"}

    assert_verifies(release_world, release)
    (name,) = [name for name in release_world.evidence(release.id) if name.endswith(".signoff.json")]
    certificate = tmp_path / name
    certificate.write_bytes(release_world.evidence(release.id)[name])
    key = CliRunner().invoke(app, ["signoff", "key"]).stdout.strip()
    people = ["--people", str(release_world.profiles)]
    out = tmp_path / "out"
    checked = CliRunner().invoke(app, ["verify-signoff", str(certificate), "--key", key, "--export", str(out), *people])
    assert checked.exit_code == 0, checked.output
    assert "it covers exactly this decision" in checked.output

    # Nothing of ours from here on: the key is the one that ann gave us, the statement what the certificate says.
    (out / "allowed_signers").write_text(f"{ann.id} {ann.key.public}\n")
    covered = json.loads((out / "vote-1.json").read_text())
    assert (covered["package"], covered["decision"], covered["approver"]) == (package.digest, "approve", ann.id)
    assert stock_verifies(out, ann.id)
    (out / "vote-1.json").write_text((out / "vote-1.json").read_text().replace('"approve"', '"reject"'))
    assert not stock_verifies(out, ann.id)


def stock_verifies(folder: Path, who: str) -> bool:
    command = [need("ssh-keygen", "openssh-client"), "-Y", "verify", "-n", "release@countersign", "-I", who]
    done = subprocess.run(
        [*command, "-f", "allowed_signers", "-s", "vote-1.sig"],
        cwd=folder,
        input=(folder / "vote-1.json").read_bytes(),
        capture_output=True,
        check=False,
        timeout=300,
    )
    return done.returncode == 0


def test_case_27_edited_decisions_and_signatures_that_do_not_hold_are_refused(
    release_world: ReleaseWorld, tmp_path: Path
) -> None:
    ann, bob, eve = (signer(release_world, tmp_path) for _ in range(3))
    release = release_world.order("signed", a=b"a", b=b"b")
    assert release.start() is None

    def assert_refused(what: str) -> None:
        told = release.last("answered")["refusal"]
        assert told is not None and told["code"] == "proof", what
        assert release.received == {}, what

    answer = release.answer(ann.id, ann.line(release))
    assert release.resume(answer) == "ACCEPT"
    release.plant({**answer, "decision": "approve all but the listed", "left_out": ["1. a.csv"], "comment": "not this one"})
    assert release.go() is None
    assert_refused("edited between submit and load")

    for namespace in ("git", "request@countersign"):
        assert release.sign(ann.id, ann.by_hand(release, namespace)) is None
        assert_refused(f"made for {namespace}")
    assert release.sign(ann.id, eve.line(release)) is None
    assert_refused("of another person, for their own decision")

    yesterday = (date.today() - timedelta(days=2)).isoformat()
    release_world.people[eve.id]["keys"][0]["valid_until"] = yesterday
    release_world.write_people()
    told = eve.runs(release, "--yes")
    assert "not among" in told.stderr, "it is told early"
    assert release.sign(eve.id, told.stdout.strip()) is None
    assert_refused("a key whose last day is over")
    assert release.sign(bob.id, bob.by_hand(release, "release@countersign", eve.key)) is None
    assert_refused("with another person's key")

    line = bob.line(release, "--left-out", "2", decision="approve all but the listed")
    left = {"decision": "approve all but the listed", "left_out": ["2. b.csv"], "comment": "later"}
    assert_named(release.sign(bob.id, line, **left), "Delivered")
    assert release.received == {"a.csv": b"a"}


def test_case_27_a_code_is_no_signature(release_world: ReleaseWorld, tmp_path: Path) -> None:
    ann = signer(release_world, tmp_path)
    release = release_world.order("signed", a=b"a")
    assert release.start() is None
    assert release.resume(release.answer(ann.id)) == "REJECT", "the form does not take it"
    answer = release.answer(ann.id, ann.line(release))
    assert release.resume(answer) == "ACCEPT"
    release.plant({**answer, "proof": release_world.code(ann.id)})
    assert release.go() is None
    assert release.last("answered")["refusal"]["code"] == "proof"
    assert release.received == {}


def test_nothing_is_signed_if_the_repository_holds_other_bytes(release_world: ReleaseWorld, tmp_path: Path) -> None:
    ann = signer(release_world, tmp_path)
    release = release_world.order("signed", a=b"original bytes")
    assert release.start() is None
    assert ann.line(release)
    (document,) = (file.repository_id for file in release.package.files)
    (content,) = (Path(release_world.ecm["root"]) / "content").glob(f"*/{document}")
    content.write_bytes(b"secret changes")
    assert_not_signed(ann.runs(release, "--yes"), "1. a.csv: the repository holds other bytes than are asked about")


def test_a_package_that_somebody_planted_in_prefect_is_not_signed(release_world: ReleaseWorld, tmp_path: Path) -> None:
    from dataclasses import replace

    from prefect.client.schemas.actions import ArtifactCreate

    from tasks.rules.dialog import package_artifact, package_key

    ann = signer(release_world, tmp_path)
    release = release_world.order("signed", a=b"a")
    assert release.start() is None
    package = release.package
    forged = replace(package, destinations=(replace(package.destinations[0], path="/elsewhere"),))
    for planted in (package_artifact(forged), "no package", "[]", "```json\n{}\n```\n"):
        made = ArtifactCreate(key=package_key(package.digest), type="markdown", data=planted)
        release_world.client.create_artifact(made)
    told = ann.runs(release, "--yes")
    assert "/elsewhere" not in told.output
    assert_named(release.sign(ann.id, told.stdout.strip()), "Delivered")


def test_sign_asks_what_it_was_not_told_and_finds_the_run_by_its_order(release_world: ReleaseWorld, tmp_path: Path) -> None:
    ann = signer(release_world, tmp_path)
    release = release_world.order("signed", a=b"a", b=b"b")
    assert release.start() is None
    stopped = ann.runs(release, decision="", what=release.id, typed="reject\nn\n")
    assert stopped.exit_code == 1 and "Z." not in stopped.stdout
    told = ann.runs(release, decision="", what=release.id, typed="approve all but the listed\n1\ny\n")
    assert told.exit_code == 0, told.output
    line = told.stdout.strip().splitlines()[-1]
    left = {"decision": "approve all but the listed", "left_out": ["1. a.csv"], "comment": "later"}
    assert_named(release.sign(ann.id, line, **left), "Delivered")
    assert_not_signed(ann.runs(release), "does not wait for a sign-off")
    assert_not_signed(ann.runs(release, what=release.id), "no run waits for it")


@pytest.mark.parametrize(
    ("decision", "more", "reason"),
    [
        pytest.param("approve", ("--left-out", "1"), "goes only with", id="a list with a plain approval"),
        pytest.param("approve all but the listed", ("--left-out", "9"), "from 1 to 2", id="a number that is none"),
        pytest.param("aprove", (), "is none of: approve,", id="no decision"),
        pytest.param("approve", ("--key", "/nowhere"), "there is no key", id="no key"),
    ],
)
def test_what_cannot_be_signed(waiting: tuple[Signer, Release], decision: str, more: tuple[str, ...], reason: str) -> None:
    ann, release = waiting
    assert_not_signed(ann.runs(release, "--yes", *more, decision=decision), reason)


@pytest.fixture(scope="module")
def waiting(release_world: ReleaseWorld, tmp_path_factory: pytest.TempPathFactory) -> tuple[Signer, Release]:
    """Somebody, and a release that waits; nobody signs it."""
    ann = signer(release_world, tmp_path_factory.mktemp("keys"))
    release = release_world.order("signed", a=b"a", b=b"b")
    assert release.start() is None
    return ann, release


def assert_not_signed(told: Result, reason: str) -> None:
    assert told.exit_code == 2 and reason in told.stderr, told.output
    assert told.stdout == ""


# --------------------------------------------------------------------------------------------- proven requests


def asks(who: str, release: Release, *more: str, typed: str = "") -> Result:
    command = ["request", f"acme/{release.stream}", "--order", release.id, "--as", who, "--local", *more]
    told = CliRunner().invoke(app, command, input=typed)
    if told.exception is not None and not isinstance(told.exception, SystemExit):
        raise told.exception
    return told


def test_an_order_with_a_proven_requester_is_released_and_never_signed_by_them(release_world: ReleaseWorld) -> None:
    anna, ben, eve = (release_world.newcomer() for _ in range(3))
    release = release_world.order("proven", prices=PRICES)
    with deployed(release_world, "proven"):
        refused = asks(anna, release, typed=f"{release_world.wrong_code(anna)}\n")
        assert refused.exit_code == 1 and "not accepted" in refused.stderr
        assert release_world.code(anna) not in refused.output
        told = asks(anna, release, typed=f"{release_world.code(anna)}\n")
        assert told.exit_code == 4, told.output
        assert "proven by code" in told.output and release_world.code(anna) not in told.output
        again = asks(ben, release, typed=f"{release_world.code(ben)}\n")
        assert again.exit_code == 1 and "by somebody else" in again.stderr
    address = next(line for line in told.stdout.splitlines() if "/runs/flow-run/" in line)
    release.run = UUID(address.rpartition("/")[2])
    assert "(proven by code)" in release.form
    assert release.last("requested")["request"]["requester"] == anna
    assert release.resume(release.answer(anna)) == "REJECT", "she is not in the form"
    assert_named(release.sign(eve), "Delivered")
    certificate = json.loads(assert_verifies(release_world, release))
    assert certificate["requester"]["in_words"] == "proven by code"
    assert (certificate["requester"]["id"], certificate["requester"]["proof"]) == (anna, "code")
    shown = CliRunner().invoke(app, ["signoff", "show", release.id]).stdout
    assert f"by {anna} (proven by code)" in shown


def test_a_run_that_names_another_requester_changes_nothing(release_world: ReleaseWorld, tmp_path: Path) -> None:
    ann, ben = signer(release_world, tmp_path), release_world.newcomer()
    release = release_world.order("prices", prices=PRICES)
    with deployed(release_world, "prices"):
        told = asks(ann.id, release, "--key", str(ann.key.path))
    assert told.exit_code == 4, told.output
    another = Release(release_world, "prices", release.id, requester=ben)
    assert_named(another.start(), "Under way elsewhere")
    address = next(line for line in told.stdout.splitlines() if "/runs/flow-run/" in line)
    release.run = UUID(address.rpartition("/")[2])
    assert "(proven by signature)" in release.form
    assert_named(release.sign(ben), "Delivered")


def test_the_documents_of_a_proven_request_and_no_others(release_world: ReleaseWorld) -> None:
    from deployments.sender.store import Store

    anna, ben = release_world.newcomer(), release_world.newcomer()
    release = release_world.order("listed")
    wanted = release_world.keep(release.id, "wanted.csv", PRICES)
    secret = release_world.keep(release.id, "secret.csv", PRICES)
    with deployed(release_world, "listed"):
        told = asks(anna, release, "--id", wanted, typed=f"{release_world.code(anna)}\n")
        assert told.exit_code == 4, told.output
    lying = Release(release_world, "listed", release.id, requester="rita")
    lying.start(ids=[secret])
    address = next(line for line in told.stdout.splitlines() if "/runs/flow-run/" in line)
    release.run = UUID(address.rpartition("/")[2])
    assert [file.shown for file in release.package.files] == ["wanted.csv"]
    assert_named(release.sign(ben), "Delivered")
    assert release.received == {"wanted.csv": PRICES}
    with Store(release_world.state) as store:
        held = store.requested("acme", "listed", release.id)
    assert held is not None and held.ids == (wanted,)


# --------------------------------------------------------------------------------------------- signed off beforehand


def test_what_was_signed_off_beforehand_goes_without_asking_until_it_is_revoked(
    release_world: ReleaseWorld, tmp_path: Path
) -> None:
    """By the commands, through the flow: delivered, certified and checked without us; out of bounds, ended and revoked it asks."""
    made = ssh_key(tmp_path, "ann")
    ann = release_world.newcomer("routine", keys=[{"key": made.public}])
    what = "acme/routine"

    def runs(*command: str, typed: str = "") -> Result:
        return CliRunner().invoke(app, ["standing", *command], input=typed)

    refused = runs("sign", "acme/prices", "--as", ann, "--key", str(made.path), "--yes")
    assert refused.exit_code != 0 and "nothing be signed off beforehand" in refused.output + str(refused.exception)
    assert runs("sign", what, "--as", ann, "--key", str(made.path), typed="n\n").exit_code == 1
    assert "nothing was signed" in runs("show", what).stdout
    told = runs("sign", what, "--as", ann, "--key", str(made.path), "--days", "7", typed="y\n")
    assert told.exit_code == 0 and "at most 1 documents and 1,000 bytes" in told.stdout, told.output
    assert runs("show", what).stdout.rstrip().endswith("good")

    release = release_world.order("routine", prices=PRICES)
    assert_named(release.start(), "Delivered")
    assert release.received == {"prices.csv": PRICES} and "round" not in release.kinds
    assert_verifies(release_world, release)
    (page,) = [text.decode() for name, text in release_world.evidence(release.id).items() if name.endswith(".html")]
    assert ann in page and "Given beforehand" in page
    for entry in release.history:
        if entry.kind == "answered":
            assert entry.body["vote"]["standing"]["approver"] == ann

    assert_evidence_holds(release_world, release, tmp_path)

    larger = release_world.order("routine", prices=PRICES, stock=b"sku,stock\n1,3\n")
    assert larger.start() is None and ann in larger.form
    assert "**Not within what was signed beforehand**: 2 documents, at most 1 may go" in larger.form
    assert "used for 1 releases  good" in runs("show").stdout and "8 of 9 releases left now" in runs("show", what).stdout
    mine = ("--as", ann, "--key", str(made.path))
    assert "1 ended" in runs("end", what, *mine).stdout and "ended" in runs("end", what, *mine).stderr
    assert runs("sign", what, *mine, "--yes").exit_code == 0
    assert "1 revoked" in runs("revoke", what, "--of", ann).stdout
    first, second = runs("show", what).stdout.splitlines()[1:]
    assert f"by {ann}" in first and "user id" in second
    assert carry_standing.fn() >= 5 and carry_standing.fn() == 0
    book = [entry for entry in ledger().journey("standing.acme.routine") if entry.body["approver"] == ann]
    kinds = [entry.kind.removeprefix("standing-") for entry in book]
    assert kinds == ["signed", "used", "ended", "signed", "revoked"] and book[1].body["order"] == release.id
    later = release_world.order("routine", prices=PRICES)
    assert later.start() is None and later.received == {}


def assert_evidence_holds(world: ReleaseWorld, release: Release, folder: Path) -> None:
    """Offline it says who allowed it beforehand, within which bounds; and whatever one byte of that becomes is named."""
    with Sender(world.socket) as client:
        public = base64.b64encode(client.health().public).decode()
    bundle = folder / "evidence"

    def runs(*words: object) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words])

    assert runs("evidence", "export", release.id, "--with-bytes", "--to", bundle).exit_code == 0
    told = runs("evidence", "verify", bundle, "--key", public)
    assert told.exit_code == 0, told.output
    page = (bundle / "index.html").read_text()
    assert "This person has not seen these documents" in page and "9 releases in 24 hours" in page
    (certificate,) = bundle.glob("orders/*/*.signoff.json")
    checked = runs("verify-signoff", certificate, *bundle.glob("documents/*"), "--key", public)
    assert checked.exit_code == 0 and "within the bounds: at most 1 documents and 1,000 bytes" in checked.output, checked.output
    (extract,) = bundle.glob("journeys/*.jsonl")
    for path in (certificate, extract):
        whole = path.read_bytes()
        at = whole.index(b"until", whole.index(b"countersign" if path is extract else b"standing")) + 10
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        told = runs("evidence", "verify", bundle, "--key", public)
        assert told.exit_code == 1 and f"FAIL  {path.relative_to(bundle).as_posix()}: " in told.output, told.output
        if path is certificate:
            checked = runs("verify-signoff", certificate, "--key", public)
            assert checked.exit_code == 1 and "signature: it does not cover this decision" in checked.output, checked.output
        path.write_bytes(whole)
