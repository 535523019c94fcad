"""A partner's file: what is in order is read, and what is not is named with its line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from blocks.endpoints.sftp import Sftp
from blocks.errors import ConfigurationError
from blocks.outbound import PeopleFile
from blocks.profile import (
    digest_of,
    editor_schema,
    load_file,
    load_partner,
    load_repositories,
    partners,
    policies_of,
    terms_of,
)
from blocks.values import Right
from deployments.people import load_people

ROOT = Path(__file__).parents[2]
GLOBEX = """\
partner:
  name: globex
  title: Globex
  endpoints:
    drop:
      protocol: sftp
      host: sftp.globex.example
      username: us
      password: env:GLOBEX
  streams:
    orders:
      endpoint: drop
      folder: /out
      naming: '(?P<reference>\\d+)\\.csv'
      settle:
        quiet: PT5S
      classify:
        - pattern: '.*\\.csv'
          doctype: price-list
      target:
        repository: ecm
        folder: In/{partner}
        access:
          - who: Buyers
            right: edit
deployments:
  - name: globex-orders
    entrypoint: flows.intake.intake
    parameters:
      partner: globex
      stream: orders
    work_pool:
      name: countersign
    schedules:
      - cron: "*/5 * * * *"
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "globex") -> Path:
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def refused(folder: Path, name: str = "globex") -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_partner(name, folder)
    return str(caught.value)


def test_a_file_in_order_is_read(write: Write) -> None:
    profile = load_partner("globex", write(GLOBEX))
    drop = profile.endpoints["drop"]
    assert isinstance(drop, Sftp) and (drop.host, drop.port, drop.password) == ("sftp.globex.example", 22, "env:GLOBEX")
    orders = profile.streams["orders"]
    assert orders.settle.quiet == timedelta(seconds=5)
    assert [(grant.who, grant.right) for grant in orders.target.access] == [("Buyers", Right.EDIT)]


def test_the_example_files_are_in_order() -> None:
    file = load_file("acme", ROOT / "deployments")
    assert {d.parameters["stream"] for d in file.deployments} == set(file.partner.streams)
    partner, repositories = file.partner, set(load_repositories(ROOT / "deployments"))
    assert {stream.target.repository for stream in partner.inbound.values()} <= repositories
    assert {
        terms.repository for stream in partner.outbound.values() for terms in (stream.gather, stream.evidence)
    } <= repositories
    people = load_people(ROOT / "deployments").people
    for stream in partner.outbound.values():
        for stage in stream.signoff.stages:
            able = [person for person in people if not set(stage.groups).isdisjoint(person.groups)]
            assert len(able) > stage.quorum, "enough people to sign also what one of them has asked for"
    assert partners(ROOT / "deployments") == ["acme"]


@pytest.mark.parametrize(
    ("old", "new", "at", "told"),
    [
        pytest.param("      host:", "      hots:", "hots:", "no such key; did you mean 'host'?", id="a typo in an endpoint"),
        pytest.param("      host:", "      hots:", "drop:", "host: is missing", id="what the typo left missing"),
        pytest.param("quiet:", "quite:", "quite:", "did you mean 'quiet'?", id="a typo deep in a stream"),
        pytest.param("title:", "titel:", "titel:", "did you mean 'title'?", id="a typo at the top"),
        pytest.param("doctype:", "doc_type:", "doc_type:", "did you mean 'doctype'?", id="a typo in a list"),
        pytest.param("deployments:", "deploymnts:", "deploymnts:", "did you mean 'deployments'?", id="a typo in a section"),
        pytest.param("schedules:", "scheduels:", "scheduels:", "did you mean 'schedules'?", id="what Prefect would ignore"),
        pytest.param("cron:", "corn:", "corn:", "did you mean 'cron'?", id="a typo in a schedule"),
        pytest.param("cron: ", "slug: ", "- slug:", "exactly one of cron, interval, rrule", id="a schedule that says no time"),
        pytest.param(
            "protocol: sftp", "protocol: sfpt", "protocol:", "no such protocol; did you mean 'sftp'?", id="a protocol"
        ),
        pytest.param("      protocol: sftp\n", "", "drop:", "protocol: is missing", id="no protocol"),
        pytest.param(
            "endpoint: drop", "endpoint: dorp", "endpoint: ", "did you mean 'drop'?", id="an endpoint that is not there"
        ),
        pytest.param("env:GLOBEX", "hunter2", "password:", "env:NAME or file:/path, never in clear", id="a password in clear"),
        pytest.param("sftp.globex.example", "env:HOST", "host:", "must be written out", id="a host from the environment"),
        pytest.param("sftp.globex.example", "'{{ $HOST }}'", "host:", "must be written out", id="a host from a template"),
        pytest.param("username: us", "username: 12", "username:", "put it in quotes", id="a number where text is meant"),
        *(
            pytest.param(
                "      naming:", f"      expect: {{ by: {by} }}\n      naming:", "by:", "'16:30'", id=f"{by} as a time"
            )
            for by in ("1630", "630.0")
        ),
        pytest.param(
            "      naming:",
            "      limits: { smallest_bytes: 0 }\n      naming:",
            "smallest_bytes:",
            "add 'empty: accept'",
            id="empty files both let in and refused",
        ),
        pytest.param("right: edit", "right: edti", "right:", "'edit'", id="a right that does not exist"),
        pytest.param("(?P<reference>", "(?P<reference", "naming:", "is not a regular expression", id="a broken expression"),
        pytest.param("'.*\\.csv'", "'*.csv'", "pattern:", "is not a regular expression", id="a shell pattern as an expression"),
        pytest.param("<reference>", "<partner>", "naming:", "'partner' is taken", id="a group that hides a fact"),
        pytest.param("quiet: PT5S", "quiet: -5", "quiet:", "cannot be negative", id="a negative time"),
        pytest.param("quiet: PT5S", "quiet: soon", "quiet:", "duration", id="a time that is none"),
        pytest.param("quiet: PT5S", "done_file: ready", "done_file:", "{name}", id="a done file for every file alike"),
        pytest.param(
            "title: Globex", "title: G\n  timezone: Mars/Base", "timezone:", "no time zone", id="a time zone that is none"
        ),
        pytest.param("folder: /out", "encoding: utf-9\n      folder: /out", "encoding:", "no text encoding", id="an encoding"),
        pytest.param("      stream: orders", "      stream: odrers", "stream: ", "did you mean 'orders'?", id="another stream"),
        pytest.param(
            "      partner: globex", "      partner: acme", "      partner:", "another partner's", id="another partner"
        ),
        pytest.param(
            "name: globex\n", "name: globox\n", "name: globox", "must be the file's name", id="another name than the file's"
        ),
        pytest.param(
            "flows.intake.intake", "flows/intake.py:intake", "entrypoint:", "pattern", id="a second copy of the module"
        ),
        pytest.param("    work_pool:", "    pull: []\n    work_pool:", "pull:", "no such key", id="steps that run commands"),
    ],
)
def test_a_mistake_is_named_with_its_line(write: Write, old: str, new: str, at: str, told: str) -> None:
    assert old in GLOBEX
    text = GLOBEX.replace(old, new, 1)
    message = refused(write(text))
    line = f"  line {line_of(text, at)}: "
    assert any(part.startswith(line) and told in part for part in message.splitlines()), message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("disposition", "told"),
    [
        pytest.param("{accepted: move}", "'move' needs a folder", id="move without a folder"),
        pytest.param("{folder: /done}", "nothing is moved", id="a folder without move"),
        pytest.param("{accepted: move, folder: /out}", "would come in again", id="move to where we look"),
    ],
)
def test_a_disposition_that_cannot_be_meant(write: Write, disposition: str, told: str) -> None:
    assert told in refused(write(GLOBEX.replace("      settle:", f"      disposition: {disposition}\n      settle:")))


def test_all_mistakes_at_once(write: Write) -> None:
    text = GLOBEX
    for old, new in [
        ("host:", "hots:"),
        ("quiet:", "quite:"),
        ("right: edit", "right: edti"),
        ("cron:", "corn:"),
        ("stream: o", "stream: x"),
    ]:
        text = text.replace(old, new, 1)
    message = refused(write(text))
    assert all(word in message for word in ("hots", "quite", "access.0.right", "corn", "parameters.stream")), message
    lines = [int(part.split()[1].rstrip(":")) for part in message.splitlines()[1:]]
    assert lines == sorted(lines), "in the order of the file"


@pytest.mark.parametrize("name", ["../globex", "Globex", "", "a/b", "globex.yaml", "repositories", "x" * 64, "a\nb"])
def test_what_cannot_be_a_partners_name_never_becomes_a_path(write: Write, name: str) -> None:
    assert "no partner's name" in refused(write(GLOBEX), name)


def test_an_unknown_partner_is_told_with_the_nearest_one(write: Write) -> None:
    assert "did you mean 'globex'?" in refused(write(GLOBEX), "globx")


def test_partners_are_the_files_with_a_profile_broken_ones_included(write: Write) -> None:
    write("partner: [", "broken")
    write("repositories: {}", "repositories")
    assert partners(write(GLOBEX)) == ["broken", "globex"]


# --------------------------------------------------------------------------------------------- the digest


def test_the_digest_is_of_the_meaning_not_of_the_spelling(write: Write) -> None:
    before = load_partner("globex", write(GLOBEX)).digest
    same = GLOBEX.replace("quiet: PT5S", "quiet: 5  # seconds").replace("title: Globex", 'title: "Globex"')
    assert load_partner("globex", write(same)).digest == before
    assert digest_of({"a": {"b": 1, "c": "ü"}, "d": 2}) == digest_of({"d": 2, "a": {"c": "ü", "b": 1}})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("sftp.globex.example", "sftp.globex2.example", id="host"),
        pytest.param("username: us", "username: us\n      port: 23", id="port"),
        pytest.param("env:GLOBEX", "env:OTHER", id="credential"),
        pytest.param("right: edit", "right: read", id="access"),
        pytest.param("In/{partner}", "Out/{partner}", id="target folder"),
    ],
)
def test_the_digest_changes_with_any_term(write: Write, old: str, new: str) -> None:
    before = load_partner("globex", write(GLOBEX)).digest
    assert load_partner("globex", write(GLOBEX.replace(old, new))).digest != before


TWO_WAYS = """\
partner:
  name: globex
  title: Globex
  owner: desk@example.com
  endpoints:
    drop:
      { protocol: sftp, host: a.example, username: u, password: env:G, host_keys: ["SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] }
    spare:
      { protocol: sftp, host: b.example, username: u, password: env:G, host_keys: ["SHA256:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"] }
  streams:
    prices:
      direction: outbound
      gather: { repository: ecm, folder: Prices }
      destinations: [{ endpoint: drop, folder: /prices }]
      freshness: latest
      evidence: { repository: ecm, folder: Evidence }
      signoff: { proof: code, stages: [{ name: release, groups: [pricing] }] }
    kits:
      direction: outbound
      gather: { repository: ecm, folder: Kits }
      destinations: [{ endpoint: spare, folder: /kits }]
      freshness: latest
      evidence: { repository: ecm, folder: Evidence }
      signoff: { proof: code, stages: [{ name: release, groups: [design] }] }
"""


@pytest.mark.parametrize(
    ("old", "new", "voids"),
    [
        pytest.param("folder: Kits", "folder: Boxes", False, id="another stream's terms"),
        pytest.param(
            "SHA256:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB",
            "SHA256:CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC",
            False,
            id="a pin that only another stream's endpoint has",
        ),
        pytest.param("owner: desk", "owner: office", False, id="who of us answers for the partner"),
        pytest.param("folder: Prices", "folder: Costs", True, id="this stream's terms"),
        pytest.param("groups: [pricing]", "groups: [pricing, design]", True, id="who may sign on this stream"),
        pytest.param(
            "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "SHA256:CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC",
            True,
            id="a pin of this stream's endpoint",
        ),
        pytest.param("host: a.example", "host: evil.example", True, id="the host of this stream's endpoint"),
        pytest.param("title: Globex", "title: Initech", True, id="the partner's name as approvers see it"),
    ],
)
def test_a_package_is_frozen_under_what_its_stream_uses(write: Write, old: str, new: str, voids: bool) -> None:
    def digests(text: str) -> tuple[str, str]:
        told = policies_of(load_partner("globex", write(text)), "prices", PeopleFile(people=()))
        return told.profile, told.terms

    assert TWO_WAYS.count(old) == 1
    assert (digests(TWO_WAYS.replace(old, new)) != digests(TWO_WAYS)) is voids


def test_a_stream_with_proven_requesters_never_goes_over_plain_ftp(write: Write) -> None:
    spare = next(line for line in TWO_WAYS.splitlines() if "b.example" in line)
    plain = "      { protocol: ftp, host: b.example, username: u, password: env:G, unprotected: accepted }"
    weak = TWO_WAYS.replace(spare, plain)
    assert load_partner("globex", write(weak)), "other streams may, where it was agreed"
    with pytest.raises(ConfigurationError, match=r"kits.*plain FTP"):
        load_partner("globex", write(weak.replace("groups: [design] }]", "groups: [design] }], four_eyes: proven")))


def test_terms_are_json_without_what_prefect_adds(write: Write) -> None:
    profile = load_partner("globex", write(GLOBEX))
    assert profile.digest == digest_of(json.loads(json.dumps(profile.terms)))
    drop = profile.terms["endpoints"]["drop"]
    assert drop == terms_of(profile.endpoints["drop"]) and drop["protocol"] == "sftp"
    assert not [key for key in drop if key.startswith(("_", "block"))]


# --------------------------------------------------------------------------------------------- schema, repositories


def test_the_committed_schema_is_current() -> None:
    committed = json.loads((ROOT / "deployments/partner.schema.json").read_text(encoding="utf-8"))
    assert committed == editor_schema(), "run: countersign partner schema > deployments/partner.schema.json"


def test_the_schema_tells_editors_every_key_of_a_back_end() -> None:
    endpoints = editor_schema()["$defs"]["PartnerProfile"]["properties"]["endpoints"]
    forms = next(iter(endpoints["patternProperties"].values()))["oneOf"]
    sftp = next(form for form in forms if form["properties"]["protocol"]["const"] == "sftp")
    assert {"host", "port", "username", "password", "host_keys"} <= sftp["properties"].keys()
    assert sftp["additionalProperties"] is False and {"protocol", "host"} <= set(sftp["required"])


@pytest.mark.parametrize("file", ["acme.yaml", "templates/partner.yaml"])
def test_files_point_editors_to_the_schema(file: str) -> None:
    first = (ROOT / "deployments" / file).read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=partner.schema.json"


KEPT = "repositories:\n  kept: {kind: folder, path: /tmp}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("repositories:\n  ecm: {kind: extended-emc}", "did you mean 'extended-ecm'?", id="kind"),
        pytest.param("repositories:\n  ecm: {kind: extended-ecm, ulr: http://x/cs/cs}", "did you mean 'url'?", id="key"),
        pytest.param("repositories:\n  ecm:\n    kind: extended-ecm\n    url: '${ECM}'", "must be written out", id="url"),
        pytest.param(f"{KEPT}cases: {{repository: kep, folder: Cases}}", "did you mean 'kept'?", id="cases kept nowhere"),
        pytest.param(
            f"{KEPT}cases: {{repository: kept, folder: 'Cases/{{who}}'}}", "known of a case are {case}", id="an unknown fact"
        ),
        pytest.param(f"{KEPT}cases: {{repository: kept, folder: ../Cases}}", "is a path of names", id="a way up"),
        pytest.param(f"{KEPT}cases: {{repository: kept, folder: 'Cases/{{'}}", "cases", id="no template"),
        pytest.param(
            f"{KEPT}cases: {{repository: kept, folder: Cases, retention: {{period: P1Y, at_end: remove}}}}",
            "after the last day the repository decides",
            id="records of cases are not removed",
        ),
    ],
)
def test_repositories_are_read_as_strictly(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "repositories.yaml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_repositories(tmp_path)
    assert told in str(caught.value)


def test_a_profile_needs_no_server(tmp_path: Path) -> None:
    """Reading a profile talks to nobody: it works with no Prefect server and no home folder."""
    code = "from pathlib import Path; from blocks.profile import load_partner; load_partner('acme', Path('deployments'))"
    env = {"PATH": "/usr/bin:/bin", "PREFECT_API_URL": "http://127.0.0.1:1/api", "PREFECT_HOME": str(tmp_path / "none")}
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, env=env, check=True, timeout=300)
