"""SSH signatures made on the signer's own machine, by ``ssh-keygen``: the private key stays in its file, its agent or its token."""

from __future__ import annotations

import subprocess
from datetime import datetime
from pathlib import Path

from blocks.errors import ConfigurationError
from tasks.rules.signing import pasted

DEFAULT_KEY = Path("~/.ssh/id_ed25519")


def ssh_sign(text: str, key: Path, namespace: str, time: datetime) -> str:
    """The one line for a field ``proof``: the statement's time, and the signature over its text.

    ``key`` is a private key, or a public one whose private key an ssh-agent holds. A passphrase is asked for at the terminal.
    Raises ``ConfigurationError`` that says what ssh-keygen said.
    """
    place = key.expanduser()
    if not place.exists():
        raise ConfigurationError(f"{place}: there is no key; give another --key (a .pub file if an ssh-agent holds the key)")
    try:
        done = subprocess.run(
            ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(place)],
            input=text.encode("ascii"),
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise ConfigurationError("ssh-keygen is missing: install Debian's package openssh-client") from error
    if done.returncode:
        raise ConfigurationError(f"{place}: ssh-keygen did not sign: {done.stderr.decode(errors='replace').strip()}")
    return pasted(time, done.stdout.decode("ascii"))
