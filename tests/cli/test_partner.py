"""``countersign partner``: drafting, listing, and a check that says what matches and writes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Countersign
from tests.sandbox.ftp import FtpSandbox
from tests.servers.openssh import OpenSsh

FOLDERS = """\
partner:
  name: globex
  title: Globex
  endpoints:
    drop:
      protocol: folder
      root: {root}
  streams:
    orders:
      endpoint: drop
      folder: out
      patterns: ["*.csv"]
      classify:
        - pattern: 'orders_.*\\.csv'
          doctype: price-list
      target:
        repository: archive
        folder: "In/{{partner}}"
    pictures:
      endpoint: drop
      folder: pictures
      classify:
        - pattern: '.*'
          doctype: product-image
      target:
        repository: archive
        folder: "In/{{partner}}"
deployments:
  - name: globex-orders
    entrypoint: flows.intake.intake
    parameters: {{ partner: globex, stream: orders }}
    work_pool: {{ name: countersign }}
"""


@pytest.fixture
def globex(profiles: Path, tmp_path: Path) -> Path:
    """A partner whose endpoint and repository are folders; gives the endpoint's root."""
    root, archive = tmp_path / "partner", tmp_path / "archive"
    for folder in (root / "out", root / "pictures", archive):
        folder.mkdir(parents=True)
    for name in ("orders_1.csv", "orders_2.csv", "other.csv", "notes.txt", "orders_3.csv.part"):
        (root / "out" / name).write_text("x")
    (profiles / "globex.yaml").write_text(FOLDERS.format(root=root))
    (profiles / "repositories.yaml").write_text(f"repositories:\n  archive: {{kind: folder, path: {archive}}}\n")
    return root


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    """All that stands below a folder. A folder repository makes its empty bookkeeping folders when it is opened: left out."""
    found = {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}
    ours = ("archive", "archive/.countersign", "archive/.countersign/incoming", "archive/.countersign/records")
    return {name: told for name, told in found.items() if name not in ours}


def test_check_says_how_many_files_match_and_writes_nothing(countersign: Countersign, globex: Path, tmp_path: Path) -> None:
    before = everything(tmp_path)
    result = countersign("partner", "check", "globex")
    assert result.exit_code == 0, result.output
    assert "stream orders: 3 of 5 files match in out (2 price-list, 1 of no document type by name)" in result.stdout
    assert "stream pictures: 0 of 0 files match in pictures" in result.stdout
    assert "repository archive: signed in" in result.stdout
    assert everything(tmp_path) == before


def test_check_goes_on_after_a_problem_and_fails(countersign: Countersign, globex: Path) -> None:
    (globex / "pictures").rmdir()
    result = countersign("partner", "check", "globex")
    assert result.exit_code == 1
    assert "PROBLEM: stream pictures: " in result.stderr
    assert "stream orders: 3 of 5 files match" in result.stdout and "repository archive: signed in" in result.stdout


def test_check_tells_when_the_endpoint_is_away(countersign: Countersign, globex: Path) -> None:
    globex.rename(globex.with_name("elsewhere"))
    result = countersign("partner", "check", "globex")
    assert result.exit_code == 1 and "PROBLEM: endpoint drop: " in result.stderr
    assert countersign("partner", "check", "globex", "--offline").exit_code == 0


@pytest.mark.parametrize(
    ("old", "new", "at", "told"),
    [
        pytest.param("doctype: price-list", "doctype: price-lits", 15, "did you mean 'price-list'?", id="document type"),
        pytest.param("repository: archive", "repository: archiv", 17, "did you mean 'archive'?", id="repository"),
        pytest.param("In/{partner}", "In/{partnr}", 18, "{partnr} is not known", id="template"),
        pytest.param(
            'folder: "In/{partner}"',
            'folder: "In/{partner}"\n        workspace: {system: ERP, object: CASE, reference: "{name}"}',
            19,
            "only Extended ECM does",
            id="workspaces in a folder",
        ),
        pytest.param("flows.intake.intake", "flows.intak.intake", 30, "there is no module flows.intak", id="flow"),
    ],
)
def test_check_names_what_is_not_there(
    countersign: Countersign, globex: Path, profiles: Path, old: str, new: str, at: int, told: str
) -> None:
    file = profiles / "globex.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    result = countersign("partner", "check", "globex", "--offline")
    assert result.exit_code == 1
    assert any(line.startswith(f"  line {at}:") and told in line for line in result.stderr.splitlines()), result.stderr


def test_check_over_sftp(countersign: Countersign, globex: Path, profiles: Path, openssh: OpenSsh) -> None:
    out = openssh.root / "check"
    out.mkdir()
    (out / "orders_1.csv").write_text("x")
    (out / "notes.txt").write_text("x")
    terms = yaml.safe_load((profiles / "globex.yaml").read_text())
    terms["partner"]["endpoints"]["drop"] = {
        "protocol": "sftp",
        "host": openssh.host,
        "port": openssh.port,
        "username": openssh.username,
        "private_key": f"file:{openssh.private_key}",
        "host_keys": [openssh.fingerprint],
    }
    terms["partner"]["streams"]["orders"]["folder"] = str(out)
    del terms["partner"]["streams"]["pictures"]
    (profiles / "globex.yaml").write_text(yaml.safe_dump(terms))
    result = countersign("partner", "check", "globex")
    assert result.exit_code == 0, result.output
    assert openssh.fingerprint in result.stdout
    assert f"stream orders: 1 of 2 files match in {out}" in result.stdout


def test_check_over_ftps_tells_lines_of_the_listing_that_cannot_be_read(
    countersign: Countersign, globex: Path, profiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOBEX_FTPS", "secret")
    with FtpSandbox(tmp_path / "ftps", users={"us": "secret"}, tls=True) as server:
        assert server.certificate is not None
        (server.root / "orders_1.csv").write_text("x")
        terms = yaml.safe_load((profiles / "globex.yaml").read_text())
        terms["partner"]["endpoints"]["drop"] = {
            "protocol": "ftps",
            "host": server.host,
            "port": server.port,
            "username": "us",
            "password": "env:GLOBEX_FTPS",
            "certificates": [server.certificate.fingerprint],
        }
        terms["partner"]["streams"]["orders"]["folder"] = "/"
        del terms["partner"]["streams"]["pictures"]
        (profiles / "globex.yaml").write_text(yaml.safe_dump(terms))
        result = countersign("partner", "check", "globex")
        assert result.exit_code == 0, result.output
        assert server.certificate.fingerprint in result.stdout
        assert "stream orders: 1 of 1 files match in /" in result.stdout
        server.faults["odd-list"] = 1
        result = countersign("partner", "check", "globex")
        assert result.exit_code == 1
        assert "5 lines of the server's listing cannot be read" in result.stderr
        assert "Welcome to our new server!" in result.stderr


def test_new_writes_a_file_that_is_in_order(countersign: Countersign, profiles: Path) -> None:
    result = countersign("partner", "new", "globex", "--title", 'Globex "Ltd": #1 {x}')
    assert result.exit_code == 0 and "globex.yaml written" in result.stdout
    from blocks.profile import load_file

    file = load_file("globex", profiles)
    assert file.partner.title == 'Globex "Ltd": #1 {x}'
    assert [d.parameters for d in file.deployments] == [{"partner": "globex", "stream": "documents"}]


def test_new_never_overwrites(countersign: Countersign, profiles: Path) -> None:
    (profiles / "globex.yaml").write_text("precious")
    result = countersign("partner", "new", "globex")
    assert result.exit_code == 2 and "it was not touched" in result.stderr
    assert (profiles / "globex.yaml").read_text() == "precious"


def test_new_refuses_a_name_that_is_a_path(countersign: Countersign, profiles: Path) -> None:
    assert countersign("partner", "new", "../globex").exit_code == 2
    assert not list(profiles.parent.glob("globex*"))


def test_list_shows_partners_and_which_files_are_broken(countersign: Countersign, globex: Path, profiles: Path) -> None:
    assert countersign("partner", "list").stdout.split("\t")[:3] == ["globex", "Globex", "orders, pictures"]
    (profiles / "acme.yaml").write_text("partner: {name: acme, titel: A}")
    result = countersign("partner", "list")
    assert result.exit_code == 1
    assert [line.partition("\t")[0] for line in result.stdout.splitlines()] == ["acme", "globex"]
    assert "NOT IN ORDER" in result.stdout


def test_schema_prints_the_committed_one(countersign: Countersign) -> None:
    committed = Path(__file__).parents[2] / "deployments/partner.schema.json"
    assert json.loads(countersign("partner", "schema").stdout) == json.loads(committed.read_text(encoding="utf-8"))


def test_check_leaves_alone_what_only_the_sender_can_open(countersign: Countersign, globex: Path, profiles: Path) -> None:
    terms = yaml.safe_load((profiles / "globex.yaml").read_text())
    closed = {"protocol": "sftp", "host": "127.0.0.1", "port": 1, "username": "out", "password": "env:NOBODY_SET_THIS"}
    terms["partner"]["endpoints"]["deliveries"] = {**closed, "host_keys": [f"SHA256:{'A' * 43}"]}
    (profiles / "globex.yaml").write_text(yaml.safe_dump(terms))
    result = countersign("partner", "check", "globex")
    assert result.exit_code == 0, result.output
    assert "endpoint deliveries: not signed in: env:NOBODY_SET_THIS is not here" in result.stdout


def test_check_warns_of_one_account_for_both_directions(countersign: Countersign, profiles: Path) -> None:
    committed = Path(__file__).parents[2] / "deployments"
    terms = yaml.safe_load((committed / "acme.yaml").read_text(encoding="utf-8"))
    for name in ("repositories.yaml", "people.yaml"):
        (profiles / name).write_text((committed / name).read_text(encoding="utf-8"))
    (profiles / "acme.yaml").write_text(yaml.safe_dump(terms))
    assert "WARNING" not in countersign("partner", "check", "acme", "--offline").stdout
    terms["partner"]["streams"]["catalogue"]["destinations"][0]["endpoint"] = "drop"
    (profiles / "acme.yaml").write_text(yaml.safe_dump(terms))
    result = countersign("partner", "check", "acme", "--offline")
    assert result.exit_code == 0 and "WARNING: sftp://acme@127.0.0.1:2222 is used in both directions" in result.stdout


def test_check_warns_of_one_credential_for_two_accounts(countersign: Countersign, profiles: Path) -> None:
    committed = Path(__file__).parents[2] / "deployments"
    terms = yaml.safe_load((committed / "acme.yaml").read_text(encoding="utf-8"))
    for name in ("repositories.yaml", "people.yaml"):
        (profiles / name).write_text((committed / name).read_text(encoding="utf-8"))
    terms["partner"]["endpoints"]["deliveries"]["password"] = terms["partner"]["endpoints"]["drop"]["password"]
    (profiles / "acme.yaml").write_text(yaml.safe_dump(terms))
    result = countersign("partner", "check", "acme", "--offline")
    assert result.exit_code == 0 and "WARNING: env:COUNTERSIGN_ACME_PASSWORD is used in both directions" in result.stdout


SIGNOFF = {"proof": "signature", "stages": [{"name": "release", "groups": ["pricing"], "quorum": 2}]}
LEAVING = {
    "direction": "outbound",
    "gather": {"repository": "archive", "folder": "Out/{order}"},
    "destinations": [{"endpoint": "drop", "folder": "in"}, {"endpoint": "drop", "folder": "in/{order}"}],
    "freshness": "latest",
    "signoff": SIGNOFF,
    "evidence": {"repository": "archive", "folder": "Evidence/{order}", "name": "{name}"},
}
KEYS = [f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{who * 13}A{who}" for who in ("Ann", "Bea")]


def leaving(profiles: Path, **changed: object) -> None:
    """An outbound stream ``kits`` beside the others, and people for it."""
    terms = yaml.safe_load((profiles / "globex.yaml").read_text())
    terms["partner"]["streams"]["kits"] = {**LEAVING, **changed}
    (profiles / "globex.yaml").write_text(yaml.safe_dump(terms))


def signers(profiles: Path, *keys: str) -> None:
    told = [
        {"id": f"p{n}", "name": f"P{n}", "mail": "p@example.com", "groups": ["pricing"], "keys": [key] if key else []}
        for n, key in enumerate(keys)
    ]
    (profiles / "people.yaml").write_text(yaml.safe_dump({"people": told}))


def test_check_of_what_goes_out(countersign: Countersign, globex: Path, profiles: Path, tmp_path: Path) -> None:
    (globex / "in").mkdir()
    leaving(profiles)
    signers(profiles, *KEYS)
    before = everything(tmp_path)
    result = countersign("partner", "check", "globex")
    assert result.exit_code == 0, result.output
    assert "stream kits: in is there" in result.stdout
    assert "stream kits: in/{order} is each order's own" in result.stdout
    assert "WARNING: stream kits: stage 'release' needs everybody who can sign (p0, p1)" in result.stdout
    assert everything(tmp_path) == before

    signers(profiles, KEYS[0], "")
    (globex / "in").rmdir()
    result = countersign("partner", "check", "globex")
    assert result.exit_code == 1
    assert (
        "asks for 2, and 1 of pricing can sign today (p0); without a key that is valid today: p1: nothing can leave"
        in result.stderr
    )
    assert "PROBLEM: stream kits: " in result.stderr.splitlines()[-1], "the folder of a destination is not there"
    terms = yaml.safe_load((profiles / "globex.yaml").read_text())
    inbound = next(stream for stream in terms["partner"]["streams"].values() if "gather" not in stream)
    inbound["signoff"] = {"proof": "code", "groups": ["sales"]}
    (profiles / "globex.yaml").write_text(yaml.safe_dump(terms))
    nobody = "nobody of sales is in people.yaml today: no refused document can be released or corrected"
    assert nobody in countersign("partner", "check", "globex", "--offline").stderr
    (profiles / "people.yaml").unlink()
    assert "people.yaml" in countersign("partner", "check", "globex", "--offline").stderr


def test_check_tells_of_owners_that_nobody_knows_or_tells(countersign: Countersign, globex: Path, profiles: Path) -> None:
    def told() -> list[str]:
        result = countersign("partner", "check", "globex", "--offline")
        assert result.exit_code == 0, result.output
        return [line for line in result.stdout.splitlines() if ".owner: " in line]

    signers(profiles, *KEYS)
    leaving(profiles, owner="pricng")
    [line] = told()
    assert f"{profiles / 'globex.yaml'}: partner.streams.kits.owner: 'pricng' is no person and no group" in line
    assert "did you mean 'pricing'?" in line
    leaving(profiles, owner="pricing")
    assert told() == []
    server = {"host": "127.0.0.1", "port": 25, "security": "none", "sender": "us@example.com"}
    (profiles / "notify.yaml").write_text(yaml.safe_dump({"mail": server}))
    [line] = told()
    assert "partner.streams.kits.owner: 'pricing' is told of no case" in line and str(profiles / "notify.yaml") in line
    (profiles / "notify.yaml").write_text(yaml.safe_dump({"mail": server, "told": {"pricing": "slack-webhook/pricing"}}))
    assert told() == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        pytest.param({"gather": {"repository": "archiv", "folder": "Out"}}, "did you mean 'archive'?", id="source"),
        pytest.param({"evidence": {"repository": "archiv", "folder": "E"}}, "did you mean 'archive'?", id="evidence"),
        pytest.param(
            {"evidence": {"repository": "archive", "folder": "E/{sku}"}}, "{sku} is not known of a cert", id="template"
        ),
        pytest.param({"classify": [{"pattern": ".*", "doctype": "price-lits"}]}, "did you mean 'price-list'?", id="type"),
        pytest.param(
            {"signoff": {**SIGNOFF, "expires_after": "2 business days", "calendar": "office"}},
            "not in calendars.yaml",
            id="calendar",
        ),
        pytest.param(
            {"destinations": [{"endpoint": "drop", "folder": "{partner}"}, {"endpoint": "drop", "folder": "globex"}]},
            "is the same place as another destination",
            id="one place twice",
        ),
    ],
)
def test_check_names_what_an_outbound_stream_lacks(
    countersign: Countersign, globex: Path, profiles: Path, changed: dict[str, object], told: str
) -> None:
    leaving(profiles, **changed)
    result = countersign("partner", "check", "globex", "--offline")
    assert result.exit_code == 1
    assert any(line.startswith("  line ") and told in line for line in result.stderr.splitlines()), result.stderr
