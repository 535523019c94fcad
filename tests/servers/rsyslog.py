"""Debian's rsyslog on loopback, taking syslog over TLS from clients that show a certificate, and writing down what it understood."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import free_port, lacking, listening, need, running
from tests.servers.certificates import Certificate, make_certificate

_CONFIGURATION = """
global(workDirectory="{folder}" net.enableDNS="off"
       defaultNetstreamDriverCAFile="{clients}" defaultNetstreamDriverCertFile="{server}" defaultNetstreamDriverKeyFile="{server}")
module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/certvalid")
input(type="imtcp" address="127.0.0.1" port="{port}")
template(name="understood" type="list" option.jsonf="on") {{
  property(outname="priority" name="pri" format="jsonf")
  property(outname="at" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="application" name="app-name" format="jsonf")
  property(outname="kind" name="msgid" format="jsonf")
  property(outname="fields" name="structured-data" format="jsonf")
  property(outname="text" name="msg" format="jsonf")
}}
action(type="omfile" file="{messages}" template="understood")
"""


@dataclass(frozen=True, slots=True)
class Rsyslog:
    """Where it is, what a client has to trust and to show."""

    port: int
    certificate: Certificate
    """Its own."""
    client: Certificate
    """For a client."""
    messages: Path

    def understood(self) -> list[dict[str, Any]]:
        """What it has written down so far; the last line may still be being written."""
        text = self.messages.read_text("utf-8") if self.messages.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1]]


@contextmanager
def rsyslog_server(folder: Path) -> Iterator[Rsyslog]:
    """Run rsyslogd while the block runs."""
    program = need("rsyslogd", "rsyslog")
    if not list(Path("/usr/lib").glob("*/rsyslog/lmnsd_gtls.so")):
        lacking("rsyslog cannot speak TLS: install Debian's package rsyslog-gnutls (make test does it as root)")
    server, client = make_certificate(folder / "server"), make_certificate(folder / "client", "countersign")
    port, config, messages = free_port(), folder / "rsyslog.conf", folder / "messages"
    config.write_text(
        _CONFIGURATION.format(folder=folder, clients=client.authority, server=server.path, port=port, messages=messages)
    )
    command = [program, "-n", "-f", str(config), "-i", str(folder / "rsyslog.pid")]
    with running(command, log=folder / "rsyslog.log", ready=lambda: listening(port)):
        yield Rsyslog(port, server, client, messages)
