"""``countersign endpoint``: the key a server shows, one edit that pins it, and how the server behaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from blocks.errors import ConfigurationError
from deployments.pinning import pin
from tasks import connections
from tests.cli.conftest import Countersign
from tests.sandbox.ftp import FtpSandbox
from tests.servers.openssh import OpenSsh

OTHER = "SHA256:" + "B" * 43
ROTTEN = "SHA256:" + "C" * 43
TERMS = """\
# who reads this?   Somebody.
partner:
  name: globex
  title:    "Globex"    # odd blanks stay
  endpoints:
    spare: {{ protocol: sftp, host: 127.0.0.1, port: 1, username: us, password: env:P }}
    drop:
      protocol: sftp
      host: 127.0.0.1
      port: {port}
      username: us
      password: env:P{pins}
  streams:
    orders:   # after the pins
      endpoint: drop
      folder: /out
      classify: [{{ pattern: '.*', doctype: price-list }}]
      target: {{ repository: ecm, folder: 'In/{{partner}}' }}
# the end
"""
FORMS = {
    "no pins": ("", "      host_keys:\n        - {key}\n"),
    "empty list": ("\n      host_keys: []  # soon", "      host_keys: [{key}]  # soon\n"),
    "list in one line": (f"\n      host_keys: [ {OTHER} ]", "      host_keys: [{key}]\n"),
    "block": (
        f"\n      host_keys:\n        - {OTHER} # until May\n\n      # a remark",
        "      host_keys:\n        - {key} # until May\n",
    ),
    "block at the margin": (f"\n      host_keys:\n      - {OTHER}\n      - {ROTTEN}", "      host_keys:\n      - {key}\n"),
    "quoted": (f'\n      host_keys: ["{OTHER}"]', "      host_keys: [{key}]\n"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_pin_replaces_exactly_the_pins(tmp_path: Path, form: str) -> None:
    pins, expected = FORMS[form]
    path = tmp_path / "globex.yaml"
    before = TERMS.format(port=22, pins=pins)
    path.write_text(before)
    path.chmod(0o640)
    pin(path, "drop", (ROTTEN, OTHER)[:1])
    after = path.read_text()
    assert expected.format(key=ROTTEN) in after
    untouched = [line for line in before.splitlines() if "SHA256" not in line and "host_keys" not in line]
    assert [line for line in after.splitlines() if "SHA256" not in line and "host_keys" not in line] == untouched
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["globex.yaml"]


def test_what_cannot_be_edited_safely_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "globex.yaml"
    path.write_text(TERMS.format(port=22, pins=""))
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="by hand"):
        pin(path, "spare", (OTHER,))
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("old", "new", "second"),
    [
        pytest.param(
            "host_keys: [", "host_keys: &keys [", "{protocol: sftp, host: h, username: u, host_keys: *keys}", id="pins"
        ),
        pytest.param("drop:\n", "drop: &drop\n", "*drop", id="a whole endpoint"),
    ],
)
def test_terms_shared_by_an_anchor_are_not_edited(tmp_path: Path, old: str, new: str, second: str) -> None:
    """Else the pin of another endpoint would change with it."""
    path = tmp_path / "globex.yaml"
    shared = TERMS.format(port=22, pins=f"\n      host_keys: [{OTHER}]").replace(old, new, 1)
    shared = shared.replace("  streams:", f"    second: {second}\n  streams:", 1)
    path.write_text(shared)
    with pytest.raises(ConfigurationError):
        pin(path, "second", (ROTTEN,))
    assert path.read_text() == shared


@pytest.fixture
def globex(profiles: Path, openssh: OpenSsh) -> Path:
    path = profiles / "globex.yaml"
    path.write_text(TERMS.format(port=openssh.port, pins=f"\n      host_keys: [{OTHER}]"))
    return path


def test_trust_shows_the_key_and_the_line_to_write(countersign: Countersign, globex: Path, openssh: OpenSsh) -> None:
    before = globex.read_bytes()
    result = countersign("endpoint", "trust", "globex", "drop")
    assert result.exit_code == 1
    assert openssh.fingerprint in result.stdout and OTHER in result.stdout and "NOT THE PINNED KEY" in result.stdout
    assert f"host_keys:\n        - {openssh.fingerprint}" in result.stdout
    assert globex.read_bytes() == before


def test_trust_asks_before_it_writes(countersign: Countersign, globex: Path, openssh: OpenSsh) -> None:
    before = globex.read_bytes()
    assert countersign("endpoint", "trust", "globex", "drop", "--write", answer="n\n").exit_code == 1
    assert globex.read_bytes() == before
    assert countersign("endpoint", "trust", "globex", "drop", "--write", answer="y\n").exit_code == 0
    assert f"host_keys: [{openssh.fingerprint}]" in globex.read_text()
    again = countersign("endpoint", "trust", "globex", "drop")
    assert again.exit_code == 0 and "nothing to do" in again.stdout


def test_trust_can_keep_the_old_pins_beside_the_new_one(countersign: Countersign, globex: Path, openssh: OpenSsh) -> None:
    assert countersign("endpoint", "trust", "globex", "drop", "--write", "--keep", "--yes").exit_code == 0
    assert f"host_keys: [{OTHER}, {openssh.fingerprint}]" in globex.read_text()


def test_trust_begins_with_the_jump_hosts(countersign: Countersign, globex: Path, openssh: OpenSsh) -> None:
    def on_the_way(pin: str) -> None:
        told = {"host": openssh.host, "port": openssh.port, "username": openssh.username, "host_keys": [pin]}
        terms = yaml.safe_load(globex.read_text())
        terms["partner"]["endpoints"]["drop"]["jump"] = [{**told, "private_key": f"file:{openssh.private_key}"}]
        globex.write_text(yaml.safe_dump(terms))

    on_the_way(OTHER)
    result = countersign("endpoint", "trust", "globex", "drop")
    assert result.exit_code == 1 and f"jump host 127.0.0.1:{openssh.port} shows   {openssh.fingerprint}" in result.stdout
    assert "NOT THE PINNED KEY" in result.stdout and "partner.endpoints.drop.jump, entry 1" in result.stdout
    assert openssh.fingerprint not in globex.read_text(), "the server's key was asked of somebody who is not trusted"

    def pinned() -> tuple[list[str], list[str]]:
        drop = yaml.safe_load(globex.read_text())["partner"]["endpoints"]["drop"]
        return drop["jump"][0]["host_keys"], drop["host_keys"]

    blind = countersign("endpoint", "trust", "globex", "drop", "--write", "--yes")
    assert blind.exit_code == 1 and "not compared yet" in blind.stdout
    assert pinned() == ([openssh.fingerprint], [OTHER]), "what nobody had seen was trusted"
    assert countersign("endpoint", "trust", "globex", "drop", "--write", "--yes").exit_code == 0
    assert pinned() == ([openssh.fingerprint], [openssh.fingerprint])
    on_the_way(OTHER)
    asked = countersign("endpoint", "trust", "globex", "drop", "--write", "--keep", answer="y\n")
    assert asked.exit_code == 0 and asked.stdout.count("that you were told by another way?") == 1
    assert pinned() == ([OTHER, openssh.fingerprint], [openssh.fingerprint])


def test_trust_tells_what_it_cannot_do(countersign: Countersign, globex: Path) -> None:
    wrong = countersign("endpoint", "trust", "globex", "dorp")
    assert wrong.exit_code == 2 and "did you mean 'drop'?" in wrong.stderr
    away = countersign("endpoint", "trust", "globex", "spare")
    assert away.exit_code == 2 and "127.0.0.1" in away.stderr


def test_trust_pins_the_certificate_of_an_ftps_server(countersign: Countersign, profiles: Path, tmp_path: Path) -> None:
    with FtpSandbox(tmp_path / "partner", users={"us": "secret"}, tls=True) as server:
        path, certificate = profiles / "globex.yaml", server.certificate
        assert certificate is not None
        path.write_text(TERMS.format(port=server.port, pins="").replace("protocol: sftp\n", "protocol: ftps\n"))
        shown = countersign("endpoint", "trust", "globex", "drop")
        assert shown.exit_code == 1
        assert f"certificates:\n        - {certificate.fingerprint}" in shown.stdout
        assert countersign("endpoint", "trust", "globex", "drop", "--write", "--yes").exit_code == 0
        assert f"      certificates:\n        - {certificate.fingerprint}\n" in path.read_text()
        again = countersign("endpoint", "trust", "globex", "drop")
        assert again.exit_code == 0 and "nothing to do" in again.stdout
        server.stop()
        server.faults["new-certificate"] = 1
        server.start()
        changed = countersign("endpoint", "trust", "globex", "drop")
        assert changed.exit_code == 1 and "NOT THE PINNED CERTIFICATE" in changed.stdout
        assert server.logins == 0


# --------------------------------------------------------------------------------------------- show


@pytest.fixture
def partner(profiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FtpSandbox]:
    """Globex on an FTP server, with a folder for us, and a ledger of our own."""
    monkeypatch.setenv("P", "secret")
    with FtpSandbox(tmp_path / "partner", users={"us": "secret"}) as server:
        (server.root / "out").mkdir()
        (server.root / "tests").mkdir()
        terms = TERMS.format(port=server.port, pins="\n      unprotected: accepted")
        (profiles / "globex.yaml").write_text(terms.replace("protocol: sftp\n", "protocol: ftp\n"))
        connections.ledger.cache_clear()
        yield server
        connections.ledger().close()
        connections.ledger.cache_clear()


def test_show_tells_what_a_server_is_like_without_writing(countersign: Countersign, partner: FtpSandbox) -> None:
    assert "Nothing is known of it yet." in countersign("endpoint", "show", "globex", "drop", "--offline").stdout
    assert partner.logins == 0
    before = (partner.root / "out").stat().st_mtime_ns
    shown = countersign("endpoint", "show", "globex", "drop")
    assert shown.exit_code == 0, shown.output
    told = " ".join(shown.stdout.split())
    assert "lists folders by MLSD" in told and "digests of files sha256" in told and "protection none" in told
    assert "longest name not known yet; 'endpoint show --probe FOLDER' tries it" in told
    assert (partner.root / "out").stat().st_mtime_ns == before
    logins = partner.logins
    assert "lists folders by MLSD" in " ".join(countersign("endpoint", "show", "globex", "drop", "--offline").stdout.split())
    assert partner.logins == logins


def test_show_tries_out_what_only_writing_tells_where_it_is_asked_to(countersign: Countersign, partner: FtpSandbox) -> None:
    partner.faults.update({"deny-long-names": 99, "rename-refuses-existing": 1, "clock-ahead": 3600})
    shown = countersign("endpoint", "show", "globex", "drop", "--probe", "/tests")
    told = " ".join(shown.stdout.split())
    assert shown.exit_code == 0, shown.output
    assert "longest name 99 bytes" in told and "rename over a file refused" in told and "case told apart" in told
    assert "s ahead of ours" in told
    assert not list((partner.root / "tests").iterdir()) and not list((partner.root / "out").iterdir())
    partner.faults["deny-rename"] = 1
    denied = countersign("endpoint", "show", "globex", "drop", "--probe", "/tests")
    assert denied.exit_code == 2 and "nothing can be placed there" in denied.stderr
    assert "lets us rename no" in " ".join(denied.stdout.split())
    assert not list((partner.root / "tests").iterdir())
    missing = countersign("endpoint", "show", "globex", "drop", "--probe", "/missing")
    assert missing.exit_code == 2 and "missing" in missing.stderr and "longest name" in missing.stdout


def test_show_does_not_try_it_out_where_a_stream_would_pick_it_up(
    countersign: Countersign, partner: FtpSandbox, profiles: Path
) -> None:
    path = profiles / "globex.yaml"
    path.write_text(path.read_text().replace("folder: /out\n", "folder: /out\n      settle: { exclude: [] }\n"))
    refused = countersign("endpoint", "show", "globex", "drop", "--probe", "/out/.")
    assert refused.exit_code == 2 and "the stream orders would pick up" in refused.stderr
    assert not list((partner.root / "out").iterdir())


def test_show_tells_what_changed_until_somebody_accepts_it(
    countersign: Countersign, partner: FtpSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    assert countersign("endpoint", "show", "globex", "drop").exit_code == 0
    partner.faults["no-hash"] = 1
    for _ in range(2):
        changed = countersign("endpoint", "show", "globex", "drop")
        assert changed.exit_code == 1 and "CHANGED: drop: " in changed.stdout
        assert "digests of files: sha256 -> without them" in changed.stdout
    listed = countersign("quarantine", "list", "--partner", "globex").stdout
    assert listed.count("personality.globex.drop") == 1 and "globex/None" not in listed
    accepted = countersign("endpoint", "show", "globex", "drop", "--accept", "they say it costs them too much")
    assert accepted.exit_code == 0 and "Closed." in accepted.stdout
    assert countersign("endpoint", "show", "globex", "drop").exit_code == 0
    steps = countersign("journey", "show", "personality.globex.drop")
    assert steps.exit_code == 0 and "changed" in steps.stdout and "they say it costs them too much" in steps.stdout


def test_show_tells_what_the_sender_found_where_only_the_sender_can_sign_in(
    countersign: Countersign, partner: FtpSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert countersign("endpoint", "show", "globex", "drop").exit_code == 0
    monkeypatch.delenv("P")
    logins = partner.logins
    shown = countersign("endpoint", "show", "globex", "drop")
    assert shown.exit_code == 0, shown.output
    assert "Not signed in: env:P is not here" in shown.stdout and "MLSD" in shown.stdout
    assert partner.logins == logins
