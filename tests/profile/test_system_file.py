"""A system's file: what is wrong in it is told with its line, and nothing in it is a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocks.errors import ConfigurationError
from blocks.system_file import load_system, systems
from blocks.systems.http import HttpSystem

OURS = Path(__file__).parents[2] / "deployments"
FILE = """
system:
  kind: http
  url: https://erp.example.com/api
  auth: { kind: bearer, token: "env:ERP_TOKEN" }
  routes:
    invoice: { path: /invoices, body: { total: "{total}" }, key_header: Idempotency-Key, id: id }
"""


def written(folder: Path, text: str) -> Path:
    (folder / "systems").mkdir(exist_ok=True)
    (folder / "systems" / "erp.yaml").write_text(text)
    return folder


@pytest.mark.parametrize("name", systems(OURS))
def test_the_files_of_this_project_can_be_read(name: str) -> None:
    assert load_system(name, OURS).address


def test_it_is_read_without_its_credentials(tmp_path: Path) -> None:
    read = load_system("erp", written(tmp_path, FILE))
    assert isinstance(read, HttpSystem) and read.routes["invoice"].may_be_repeated
    assert read.address == "https://erp.example.com/api"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        pytest.param("kind: http\n", "kind: htpp\n", "line 3: system.kind: no such kind; did you mean 'http'?", id="kind"),
        pytest.param("path:", "pth:", "line 7: system.routes.invoice.pth", id="unknown key"),
        pytest.param("url: https", "url: http", "'http' is for a system on this machine itself", id="in clear"),
        pytest.param('"env:ERP_TOKEN"', "s3cret", "line 5: system.auth.bearer.token: a credential is written as env:NAME", id="secret"),
        pytest.param("kind: bearer", "kind: kerberos", "line 5: system.auth", id="kind of auth"),
        pytest.param("{total}", "{total.x}", "a fact is small letters", id="template of a body"),
        pytest.param("/invoices", "'/{a!r}'", "a fact is small letters", id="template of a path"),
        pytest.param("/invoices", "invoices", "line 7: system.routes.invoice.path", id="path"),
        pytest.param("id: id", "document: true", "'document: true' has no other body", id="two bodies"),
        pytest.param("  routes:", "  rates: 1\n  routes:", "system.rates: no such key; did you mean 'rate'?", id="rates"),
        pytest.param("url: https://erp", "url: https://me:pw@erp", "line 4: system.url", id="password in the address"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_never_with_a_secret(old: str, new: str, told: str, tmp_path: Path) -> None:
    assert old in FILE
    with pytest.raises(ConfigurationError) as error:
        load_system("erp", written(tmp_path, FILE.replace(old, new)))
    assert told in str(error.value) and "s3cret" not in str(error.value)


def test_no_system_has_the_name_of_a_partner(tmp_path: Path) -> None:
    (written(tmp_path, FILE) / "erp.yaml").write_text("partner: { name: erp }")
    with pytest.raises(ConfigurationError, match=r"systems/erp.yaml: .*/erp.yaml has that name too.*rename one"):
        load_system("erp", tmp_path)


def test_a_system_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such system; did you mean 'erp'"):
        load_system("erpp", written(tmp_path, FILE))
    with pytest.raises(ConfigurationError, match="is no system's name"):
        load_system("../erp", tmp_path)
