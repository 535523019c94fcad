"""E8 Regulated exchange: a quality record goes to an authority, four eyes proven, to the pinned server, and never by a weaker way.

The requirement names FTPS; SFTP stands in for it here: a pinned host key in place of a pinned certificate.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml

from blocks.errors import ConfigurationError
from blocks.outbound import Request, Requested
from blocks.profile import load_partner, load_repositories
from blocks.sender import Sender
from tasks import connections
from tests.release_world import Release, ReleaseWorld
from tests.servers.openssh import OpenSsh, openssh_server

RECORD = "quality-record.pdf"
DRAFT, FINAL = b"%PDF-1.7\n% a draft", b"%PDF-1.7\n% batch 4711: 12 of 12 in order"


@pytest.fixture(scope="module")
def openssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSsh]:
    """The authority's server, whose host key may change."""
    with openssh_server(tmp_path_factory.mktemp("authority") / "server") as server:
        yield server


@pytest.fixture(scope="module")
def world(release_world: ReleaseWorld) -> ReleaseWorld:
    signoff = {"stages": [{"name": "quality", "groups": ["pricing"]}], "proof": "code", "four_eyes": "proven"}
    release_world.agree(records=release_world.terms(signoff=signoff))
    return release_world


@pytest.fixture
def asked(world: ReleaseWorld) -> tuple[Release, str, str]:
    """A record that waits for its second pair of eyes; whoever asked for it, by a proof; and its id in the repository."""
    asker = world.newcomer()
    release = world.order("records")
    release.requester = asker
    for content in (DRAFT, FINAL):
        document = world.keep(release.id, RECORD, content)
    with Sender(world.socket) as sender:
        told = sender.request(Request("acme", "records", release.id, (), asker), world.code(asker))
    assert isinstance(told, Requested), told
    assert release.start() is None
    return release, asker, document


def test_four_eyes_are_proven_the_pinned_key_is_shown_and_the_copy_is_linked(
    world: ReleaseWorld, openssh: OpenSsh, asked: tuple[Release, str, str]
) -> None:
    release, asker, document = asked
    bea = world.newcomer()
    assert release.go() is None, "asked again, for somebody new may sign"
    assert openssh.fingerprint.rstrip("=") in release.form
    assert f"`{asker}`) (proven" in release.form
    assert release.resume(release.answer(asker, "123456")) == "REJECT", "whoever asked is not the second pair of eyes"
    state = release.sign(bea)
    assert state is not None and state.name == "Delivered", state
    assert release.received == {RECORD: FINAL}

    (text,) = [text for name, text in world.evidence(release.id).items() if name.endswith(".signoff.json")]
    certificate = json.loads(text)
    assert (certificate["requester"]["id"], certificate["requester"]["proof"]) == (asker, "code")
    assert [told["vote"]["approver"] for told in certificate["votes"]] == [bea]
    (place,) = certificate["package"]["destinations"]
    assert (place["protocol"], place["key_fingerprint"]) == ("sftp", openssh.fingerprint.rstrip("="))
    (file,) = certificate["package"]["files"]
    assert (file["repository_id"], file["version"]) == (document, 2)
    assert file["sha256"] == hashlib.sha256(FINAL).hexdigest()
    with load_repositories(world.profiles)["ecm"].session() as session:
        kept = session.get(document)
    assert (kept.name, kept.version) == (RECORD, 2), "the authoritative version stays where it was"
    (copy,) = connections.ledger().search(repository_id=document)
    assert connections.ledger().journey(copy.journey)[0].body["package"] == release.package.digest


def test_an_order_whose_requester_is_not_proven_is_not_even_asked_about(world: ReleaseWorld) -> None:
    release = world.order("records", record=FINAL)
    state = release.start()
    assert state is not None and state.name == "Stopped by checks", state
    assert "requester" in str(release.last("refused")["reason"])
    assert "round" not in release.kinds and release.received == {}


def test_a_server_with_another_key_is_sent_nothing(
    world: ReleaseWorld, openssh: OpenSsh, asked: tuple[Release, str, str]
) -> None:
    release, _, _ = asked
    bea = world.newcomer()
    assert release.go() is None
    with another_host_key(openssh) as fingerprint:
        state = release.sign(bea)
        assert state is not None and state.is_failed(), state
        assert fingerprint.rstrip("=") in str(state.message) and openssh.fingerprint.rstrip("=") in str(state.message)
        assert release.received == {}
    state = release.go()
    assert state is not None and state.name == "Delivered", "the approval stands, for the server that was approved"
    assert release.received == {RECORD: FINAL}


def test_plain_ftp_is_no_way_out(world: ReleaseWorld, asked: tuple[Release, str, str]) -> None:
    release, _, _ = asked
    bea = world.newcomer()
    assert release.go() is None
    assert release.resume(release.answer(bea)) == "ACCEPT"
    reviewed = world.profiles / "acme.yaml"
    before = reviewed.read_text()
    profile = yaml.safe_load(before)
    drop = profile["partner"]["endpoints"]["drop"]
    plain = {"protocol": "ftp", "password": "env:FTP_PASSWORD", "unprotected": "accepted"}
    profile["partner"]["endpoints"]["drop"] = plain | {key: drop[key] for key in ("host", "port", "username")}
    reviewed.write_text(yaml.safe_dump(profile))
    try:
        with pytest.raises(ConfigurationError, match=r"records.*plain FTP"):
            load_partner("acme", world.profiles)
        state = release.go()
        assert state is not None and state.is_failed() and "plain FTP" in str(state.message), state
        assert release.received == {}
    finally:
        reviewed.write_text(before)
    state = release.go()
    assert state is not None and state.name == "Delivered", state


@contextmanager
def another_host_key(server: OpenSsh) -> Iterator[str]:
    """The server shows another host key while the block runs; its fingerprint."""
    folder = server.root.parent
    own, kept = folder / "host_key", folder / "host_key.kept"
    shutil.copy(own, kept)
    own.unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(own)], input=b"y\n", check=True)
    try:
        yield _restarted(server, not_shown=server.fingerprint)
    finally:
        kept.replace(own)
        own.with_suffix(".pub").unlink()  # it is the other key's, and a server skips a pair that does not match
        assert _restarted(server, shown=server.fingerprint)


def _restarted(server: OpenSsh, *, shown: str = "", not_shown: str = "") -> str:
    """Make it read its key again, and wait until that shows."""
    os.kill(int((server.root.parent / "sshd.pid").read_text()), signal.SIGHUP)
    until = time.monotonic() + 300
    while not (found := _fingerprint(server)) or found == not_shown or (shown and found != shown):
        assert time.monotonic() < until, "the server still shows its other key"
        time.sleep(0.1)
    return found


def _fingerprint(server: OpenSsh) -> str:
    """What the server shows now; "" while it does not listen."""
    scanned = subprocess.run(
        ["ssh-keyscan", "-t", "ed25519", "-p", str(server.port), server.host], capture_output=True, text=True, check=False
    ).stdout
    if not scanned:
        return ""
    return subprocess.run(["ssh-keygen", "-lf", "-"], input=scanned, capture_output=True, text=True, check=True).stdout.split()[
        1
    ]
