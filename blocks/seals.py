"""Seal keys: the sender's own, and the installation's, which seals the ledger's checkpoints where there is no sender."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from blocks.errors import ConfigurationError


class SealKey:
    """An Ed25519 key (RFC 8032). ``sign`` and ``id`` are what ``Ledger.checkpoint`` wants; ``public`` what a verifier keeps."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public: bytes = private.public_key().public_bytes_raw()
        """32 bytes; no secret."""
        self.id = key_id(self.public)

    @classmethod
    def open(cls, path: Path) -> SealKey:
        """The key kept in a file (PKCS #8, readable by its owner alone); made on first use.

        Raises ``ConfigurationError`` if the file is no such key, or others may read it.
        """
        if not path.exists():
            _make(path)
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            raise ConfigurationError(f"{path}: others may read this key (mode {mode:03o}); run: chmod 600 {path}")
        try:
            private = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                f"{path}: not a private key; restore it from a backup, or move it away for a new one"
            ) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise ConfigurationError(f"{path}: an Ed25519 key is wanted here, this is another kind")
        return cls(private)

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


def key_id(public: bytes) -> str:
    """A short name for a public key: the beginning of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """True if the holder of this key signed this message."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(fresh)  # unlike a rename it never replaces the key that another process made meanwhile
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
