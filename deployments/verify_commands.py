"""``countersign verify-signoff``: what an auditor runs, on any machine, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify_signoff(
    certificate: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A file <package>.signoff.json.")],
    documents: Annotated[
        list[Path] | None, typer.Argument(exists=True, dir_okay=False, help="Documents at hand: are they the ones signed?")
    ] = None,
    key: Annotated[str, typer.Option(help="The sender's public key, base64, from a source other than the certificate.")] = "",
    people: Annotated[
        Path | None, typer.Option(exists=True, help="Folder with the people.yaml of that time: whose signatures are they?")
    ] = None,
    previous: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The stream's certificate before this one.")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Write statements, signatures and allowed_signers here, for ssh-keygen."),
    ] = None,
) -> None:
    """Check a certificate: seal, votes, signatures, policy, deliveries, documents. Exit code 0 only if everything holds.

    Example: countersign verify-signoff 1f3a9c20.signoff.json prices.csv --key 6tB0...=
    """
    import hashlib

    from blocks.seals import signed as sealed
    from deployments.people import load_people
    from deployments.ssh_signatures import signature_holds
    from tasks.rules.certificate import verified, verify

    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    checks = verify(
        certificate.read_text(encoding="ascii", errors="replace"),
        public_key=public_key(key),
        sealed=sealed,
        signed=signature_holds,
        documents={path.name: digest(path) for path in documents or []},
        people=load_people(people) if people else None,
        previous=previous.read_text(encoding="ascii", errors="replace") if previous else None,
    )
    if export is not None:
        _export(certificate.read_text(encoding="ascii"), export)
    for check in checks:
        typer.echo(f"{'ok  ' if check.passed else 'FAIL'}  {check.told}")
    raise typer.Exit(0 if verified(checks) else 1)


def public_key(text: str) -> bytes:
    """The sender's key as ``countersign signoff key`` prints it. Raises ``ConfigurationError`` for anything else."""
    import base64
    import binascii

    from blocks.errors import ConfigurationError

    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigurationError(f"--key: {text[:20]!r} is not base64; 'countersign signoff key' prints it") from error
    if len(key) != 32:
        raise ConfigurationError("--key: the sender's public key is 32 bytes in base64; ask for it where the sender runs")
    return key


def _export(text: str, folder: Path) -> None:
    """Each signature with what it covers, as ``ssh-keygen -Y verify`` takes them: nothing of ours is needed to repeat it."""
    from tasks.rules.certificate import signatures

    folder.mkdir(parents=True, exist_ok=True)
    allowed = []
    for number, claim in enumerate(signatures(text), 1):
        lines = [claim.signature[place : place + 70] for place in range(0, len(claim.signature), 70)]
        armour = ["-----BEGIN SSH SIGNATURE-----", *lines, "-----END SSH SIGNATURE-----", ""]
        (folder / f"vote-{number}.sig").write_text("\n".join(armour), encoding="ascii")
        (folder / f"vote-{number}.json").write_text(claim.text, encoding="ascii")
        allowed.append(f'{claim.approver} namespaces="{claim.namespace}" {claim.key}\n')
        verify = f"ssh-keygen -Y verify -n {claim.namespace} -I {claim.approver} -f allowed_signers -s vote-{number}.sig"
        typer.echo(f"in {folder}: {verify} < vote-{number}.json")
    (folder / "allowed_signers").write_text("".join(allowed), encoding="ascii")
