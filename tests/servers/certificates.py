"""Certificates for TLS servers of the tests, made in a few milliseconds and valid for a day."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A server's certificate with its key, both as PEM files, and the authority that signed it."""

    path: Path
    """The certificate and its private key in one file, as all our servers like it."""
    authority: Path
    fingerprint: str
    """``SHA256:AA:BB:…`` of the certificate."""


def make_certificate(folder: Path, *names: str, expired: bool = False) -> Certificate:
    """A certificate for ``names`` (``localhost`` and ``127.0.0.1`` if none is given), signed by an authority of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
    authority = (
        _begun(issuer, issuer, authority_key, now - _DAY - _DAY, now + _DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, SHA256())
    )
    wanted = names or ("localhost", "127.0.0.1")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted[0])])
    certificate = (
        _begun(subject, issuer, key, now - _DAY, now - _DAY / 2 if expired else now + _DAY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in wanted]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, SHA256())
    )
    path, root = folder / "server.pem", folder / "authority.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    path.touch(mode=0o600)
    path.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
    root.write_bytes(authority.public_bytes(Encoding.PEM))
    return Certificate(path, root, "SHA256:" + certificate.fingerprint(SHA256()).hex(":").upper())


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begins: datetime.datetime, ends: datetime.datetime
) -> x509.CertificateBuilder:
    number = x509.random_serial_number()
    named = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).serial_number(number)
    return named.public_key(key.public_key()).not_valid_before(begins).not_valid_after(ends)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
