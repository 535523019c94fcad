"""``python -m tests.sandbox serve extended-ecm|file360|sftp|ftp|ftps|business|all``: stand-ins for repositories, servers and systems."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from tests.sandbox import ALL, SERVICES
from tests.sandbox.control import answers
from tests.sandbox.partner import PartnerServer

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


class Running(Protocol):
    def stop(self) -> None: ...


@app.callback()
def main() -> None:
    """Stand-ins for the outside world, on loopback, kept in a folder."""


@app.command()
def serve(
    services: Annotated[
        list[str],
        typer.Argument(help="extended-ecm, file360, sftp, ftp, ftps, business, or all (what the demo needs: all but ftp)"),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="First port; each further service takes the next one; 0 chooses free ones")] = 0,
    base_path: Annotated[str, typer.Option(help="Where Extended ECM is mounted")] = "/cs/cs",
    data: Annotated[Path, typer.Option(help="Everything is kept here and survives a restart")] = Path(".countersign/sandbox"),
    config: Annotated[
        Path | None, typer.Option(help="JSON that replaces entries of the seed of Extended ECM or File 360")
    ] = None,
    fault: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, as often as needed: lost-answer=3")] = None,
    user: Annotated[str, typer.Option(help="Login at the partner's server")] = "acme",
    password: Annotated[str, typer.Option(help="Its password")] = "acme",
    delivery_user: Annotated[str, typer.Option(help="Login that alone may use the folder 'in'")] = "acme-deliveries",
    delivery_password: Annotated[str, typer.Option(help="Its password")] = "acme-deliveries",
    mutual_tls: Annotated[bool, typer.Option(help="business: speak TLS, and ask for the client's certificate")] = False,
    until_stdin_closes: Annotated[
        bool, typer.Option(help="End also when standard input closes; until then a JSON line on it changes a server's faults")
    ] = False,
) -> None:
    """Serve until SIGTERM or Ctrl-C. Prints one JSON line per service when it is ready.

    With --until-stdin-closes, faults of the partner's servers are changed while they run, by lines on standard input such as
    {"service": "ftps", "faults": {"short-226": 4000}}; each is answered by a line when it is done. tests/sandbox/control.py says more.

    Example: python -m tests.sandbox serve all --port 9000 --fault lost-answer=1
    """
    wanted = list(ALL) if "all" in services else services
    unknown = set(wanted) - set(SERVICES)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: choose from {', '.join(SERVICES)}, all")
    faults = dict(item.partition("=")[::2] for item in fault or [])
    known = {name: faults_of(name) for name in wanted}
    if strange := {name.partition("@")[0] for name in faults} - set().union(*known.values()):
        raise typer.BadParameter(f"{', '.join(sorted(strange))}: choose from {', '.join(sorted(set().union(*known.values())))}")
    accounts = (user, password), (delivery_user, delivery_password)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    running: list[Running] = []
    try:
        for position, name in enumerate(wanted):
            its_port = port + position if port else 0
            its_faults = {fault: value for fault, value in faults.items() if fault.partition("@")[0] in known[name]}
            if name == "extended-ecm":
                seed = json.loads(config.read_text("utf-8")) if config else None
                started, line = extended_ecm(data / "extended-ecm", host, its_port, base_path, seed, its_faults)
            elif name == "business":
                started, line = business(data, host, its_port, mutual_tls, its_faults)
            elif name == "file360":
                seed = json.loads(config.read_text("utf-8")) if config else None
                started, line = file360(data / "file360", host, its_port, seed, its_faults)
            else:
                started, line = partner(name, data, host, its_port, *accounts, its_faults)
            running.append(started)
            print(json.dumps(line), flush=True)
        if until_stdin_closes:
            servers = {name: one for name, one in zip(wanted, running, strict=True) if isinstance(one, PartnerServer)}
            threading.Thread(target=take_orders, args=(servers, ended), daemon=True).start()
        ended.wait()
    finally:
        for service in reversed(running):
            service.stop()


def faults_of(service: str) -> frozenset[str]:
    """The names of the faults that a service knows."""
    if service == "extended-ecm":
        from tests.sandbox.ecm_wire import Faults

        return frozenset((*Faults.COUNTED, *Faults.LASTING))
    if service == "file360":
        from tests.sandbox.file360 import File360Faults

        return frozenset((*File360Faults.COUNTED, *File360Faults.LASTING))
    if service == "business":
        from tests.sandbox.business import FAULTS
    elif service == "sftp":
        from tests.sandbox.sftp import FAULTS
    else:
        from tests.sandbox.ftp import FAULTS
    return frozenset(FAULTS)


def extended_ecm(
    data: Path, host: str, port: int, base_path: str, seed: Any, faults: dict[str, str]
) -> tuple[Running, dict[str, Any]]:
    from tests.sandbox.extended_ecm import ExtendedEcmSandbox

    try:
        service = ExtendedEcmSandbox(data, host=host, port=port, base_path=base_path, seed=seed, faults=faults)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    service.start()
    return service, service.described()


def business(data: Path, host: str, port: int, mutual_tls: bool, faults: dict[str, str]) -> tuple[Running, dict[str, Any]]:
    """With ``mutual_tls``, its line says with which certificate a client may come."""
    from tests.sandbox.business import BusinessSandbox
    from tests.servers.certificates import make_certificate

    trust: dict[str, Any] = {}
    more: dict[str, Any] = {}
    if mutual_tls:
        server = make_certificate(data / "business-tls", "localhost", "127.0.0.1", host)
        client = make_certificate(data / "business-client", "countersign")
        more = {"certificate": server.path, "clients": client.authority}
        trust = {"ca_file": str(server.authority), "client_certificate": str(client.path)}
    try:
        service = BusinessSandbox(data / "business", host=host, port=port, faults=faults, **more)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return service.start(), {**service.described(), **trust}


def file360(data: Path, host: str, port: int, seed: Any, faults: dict[str, str]) -> tuple[Running, dict[str, Any]]:
    from tests.sandbox.file360 import File360Sandbox

    try:
        service = File360Sandbox(data, host=host, port=port, seed=seed, faults=faults)
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(str(error)) from error
    service.start()
    return service, service.described()


def partner(
    name: str, data: Path, host: str, port: int, ours: tuple[str, str], deliveries: tuple[str, str], faults: dict[str, str]
) -> tuple[Running, dict[str, Any]]:
    """A partner with two accounts: what it has for us is fetched with one, what is for it comes with the other."""
    agreed: dict[str, Any] = {"users": dict([ours, deliveries]), "reserved": {"in": deliveries[0]}, "host": host, "port": port}
    service: PartnerServer
    if name == "sftp":
        from tests.sandbox.sftp import SftpSandbox

        service = SftpSandbox(data / name, **agreed, host_key=data / "sftp_host_key", faults={**faults})
    else:
        from tests.sandbox.ftp import FtpSandbox

        certificates = data / f"{name}-tls"
        service = FtpSandbox(data / name, **agreed, tls=name == "ftps", certificates=certificates, faults={**faults})
    service.start()
    line = {
        "service": name,
        "url": service.url,
        "user": ours[0],
        "password": ours[1],
        "delivery_user": deliveries[0],
        "delivery_password": deliveries[1],
        "host": host,
        "port": service.port,
        "root": str(data / name),
    }
    return service, {**line, **service.trust}


def take_orders(servers: Mapping[str, PartnerServer], ended: threading.Event) -> None:
    for answer in answers(lines(sys.stdin.fileno()), servers):
        print(answer, flush=True)
    ended.set()


def lines(descriptor: int) -> Iterator[bytes]:
    """Lines as they come, until it closes. Read past Python's own stream, whose lock a thread must not hold at the end."""
    begun = b""
    while data := os.read(descriptor, 4096):
        *whole, begun = (begun + data).split(b"\n")
        yield from whole


if __name__ == "__main__":
    app(prog_name="python -m tests.sandbox")
