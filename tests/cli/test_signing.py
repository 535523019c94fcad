"""Keys that are not a bare file: ``countersign sign`` and ``request`` leave them to ssh-keygen, as it stands on the signer's machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from blocks.errors import ConfigurationError
from blocks.outbound import NAMESPACE
from deployments.signing import ssh_sign
from deployments.ssh_signatures import signature_holds
from tasks.rules.certificate import Claim
from tasks.rules.signing import unpasted
from tests.sender.keys import SshKey, ssh_key
from tests.servers import need, running

NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
TEXT = '{"decision":"approve"}'


def holds(line: str, key: SshKey) -> bool:
    told = unpasted(line)
    assert told is not None
    time, signature = told
    return signature_holds(Claim(approver="ann", key=key.public, text=TEXT, signature=signature, at=time, namespace=NAMESPACE))


@contextmanager
def agent(place: Path) -> Iterator[Path]:
    """An ssh-agent of our own, at a socket."""
    socket = place / "agent"
    command = [need("ssh-agent", "openssh-client"), "-D", "-a", str(socket)]
    with running(command, log=place / "agent.log", ready=socket.exists, cwd=place, env=dict(os.environ)):
        yield socket


def test_a_key_that_only_an_agent_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ssh_key(tmp_path, "key")
    with agent(tmp_path) as socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        subprocess.run([need("ssh-add", "openssh-client"), "-q", str(key.path)], check=True, timeout=300)
        key.path.unlink()
        assert holds(ssh_sign(TEXT, key.path.with_name("key.pub"), NAMESPACE, NOW), key)
    with pytest.raises(ConfigurationError, match="ssh-keygen did not sign"):
        ssh_sign(TEXT, key.path.with_name("key.pub"), NAMESPACE, NOW)


def test_a_key_with_a_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ssh_key(tmp_path, "key")
    change = [need("ssh-keygen", "openssh-client"), "-q", "-p", "-N", "tell nobody", "-f", str(key.path)]
    subprocess.run(change, check=True, timeout=300)
    typed = tmp_path / "typed"
    # What somebody types at the terminal, where there is none: ssh-keygen(1), SSH_ASKPASS_REQUIRE.
    typed.write_text('#!/bin/sh\necho "$TYPED"\n')
    typed.chmod(0o700)
    monkeypatch.setenv("SSH_ASKPASS", str(typed))
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    monkeypatch.setenv("TYPED", "tell nobody")
    assert holds(ssh_sign(TEXT, key.path, NAMESPACE, NOW), key)
    monkeypatch.setenv("TYPED", "mistyped")
    with pytest.raises(ConfigurationError, match=r"did not sign: .*passphrase"):
        ssh_sign(TEXT, key.path, NAMESPACE, NOW)


def test_no_key_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no key; give another --key"):
        ssh_sign(TEXT, tmp_path / "none", NAMESPACE, NOW)
