"""Real SSH keys and signatures for the tests, made by ssh-keygen."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.servers import need


@dataclass(frozen=True, slots=True)
class SshKey:
    """A key pair of a person."""

    path: Path
    public: str

    def sign(self, message: str, namespace: str = "release@countersign") -> str:
        """What ``ssh-keygen -Y sign`` prints: an armoured signature."""
        done = subprocess.run(
            [need("ssh-keygen", "openssh-client"), "-q", "-Y", "sign", "-n", namespace, "-f", str(self.path)],
            input=message.encode(),
            capture_output=True,
            check=True,
            timeout=300,
        )
        return done.stdout.decode()


def ssh_key(folder: Path, name: str, kind: str = "ed25519") -> SshKey:
    path = folder / name
    keygen = need("ssh-keygen", "openssh-client")
    subprocess.run([keygen, "-q", "-t", kind, "-N", "", "-C", name, "-f", str(path)], check=True, timeout=300)
    return SshKey(path, path.with_name(f"{name}.pub").read_text().strip())
