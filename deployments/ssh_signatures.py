"""SSH signatures, verified by ``ssh-keygen``: of what a verifier needs, and nothing of the sender's or of Prefect."""

from __future__ import annotations

import os
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from blocks.errors import ConfigurationError
from blocks.outbound import PublicKey
from tasks.rules.certificate import Claim


def signature_holds(claim: Claim) -> bool:
    """True if this very key made this signature; whose key it is, and when, is for the people file to say."""
    try:
        key = PublicKey(key=claim.key)
    except ValueError:
        return False
    options = f'namespaces="{claim.namespace}"'
    allowed = f"{claim.approver} {options} {key.key}"
    return verifies(claim.approver, allowed, claim.text, claim.signature, claim.at, claim.namespace)


def verifies(id: str, allowed: str, text: str, signature: str, at: datetime, namespace: str) -> bool:
    """True if somebody whom a line of an allowed_signers file names made this signature at that moment.

    Raises ``ConfigurationError`` if there is no ``ssh-keygen``.
    """
    lines = [signature[place : place + 70] for place in range(0, len(signature), 70)]
    armour = "\n".join(["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""])
    with tempfile.TemporaryDirectory(prefix="countersign-") as folder:
        signers, signed = Path(folder) / "allowed_signers", Path(folder) / "signature"
        signers.write_text(f"{allowed}\n", encoding="ascii")
        signed.write_text(armour, encoding="ascii")
        command = ["ssh-keygen", "-Y", "verify", "-n", namespace, "-I", id, "-f", str(signers), "-s", str(signed)]
        try:
            done = subprocess.run(
                [*command, "-O", f"verify-time={at.astimezone(UTC):%Y%m%d%H%M%S}"],
                input=text.encode("ascii"),
                capture_output=True,
                timeout=20,
                check=False,
                # Its times are local times unless told otherwise, and older versions cannot be told: so local is UTC.
                env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "TZ": "UTC", "LC_ALL": "C"},
            )
        except FileNotFoundError as error:
            raise ConfigurationError("ssh-keygen is missing: install Debian's package openssh-client for signatures") from error
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0
