"""Which repositories the suite asks, how they are started, and which differences we tolerate, with the reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from blocks.repositories.base import Repository
from blocks.repositories.extended_ecm import ExtendedEcm
from blocks.repositories.file360 import File360
from blocks.repositories.folder import FolderRepository
from blocks.repositories.webdav import WebDav
from blocks.values import BusinessObject, Grant, InWorkspace
from tests.sandbox import sandbox
from tests.sandbox.file360 import File360Sandbox
from tests.servers import webdav


@dataclass(frozen=True, slots=True)
class Enrolment:
    kind: type[Repository]
    start: Callable[[Path], AbstractContextManager[Repository]]
    tolerated: Mapping[str, str] = field(default_factory=dict)
    """Name of a check -> why this repository need not keep it."""
    refusals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Code of a ``NotFiled`` -> what a filing must ask for to get it. Beside a taken name, which all refuse."""


PASSWORD = "CONFORMANCE_ECM_PASSWORD"
SECRET = "CONFORMANCE_FILE360_SECRET"


def block(service: Mapping[str, Any], **more: Any) -> ExtendedEcm:
    """The repository block for a running sandbox."""
    os.environ[PASSWORD] = service["password"]
    return ExtendedEcm(url=service["url"], username=service["user"], password=f"env:{PASSWORD}", **more)


def file360_block(service: Mapping[str, Any], **more: Any) -> File360:
    """The same for File 360."""
    os.environ[SECRET] = service["password"]
    return File360(url=service["url"], client_id=service["user"], client_secret=f"env:{SECRET}", **more)


@contextmanager
def _extended_ecm(place: Path) -> Iterator[Repository]:
    with sandbox("extended-ecm", data=place) as services:
        yield block(services["extended-ecm"])


@contextmanager
def _file360(place: Path) -> Iterator[Repository]:
    service = File360Sandbox(place).start()
    try:
        yield file360_block(service.described())
    finally:
        service.stop()


@contextmanager
def _folder(place: Path) -> Iterator[Repository]:
    place.mkdir()
    yield FolderRepository(path=place)


WEBDAV_PASSWORD = "CONFORMANCE_WEBDAV_PASSWORD"


def webdav_block(server: webdav.WebDavServer, **more: Any) -> WebDav:
    """The same for a WebDAV server."""
    os.environ[WEBDAV_PASSWORD] = webdav.PASSWORD
    return WebDav(**({"url": server.url, "username": webdav.USER, "password": f"env:{WEBDAV_PASSWORD}"} | more))


@contextmanager
def _webdav(place: Path) -> Iterator[Repository]:
    place.mkdir()
    with webdav.webdav_server(place) as server:
        yield webdav_block(server)


def _workspace(template: str | None, system: str = "ERP", **roles: tuple[str, ...]) -> InWorkspace:
    """A workspace of an object that has none."""
    return InWorkspace(BusinessObject(system, "CASE", "of nobody"), "of nobody", template, roles)


ENROLLED: Mapping[str, Enrolment] = {
    "extended-ecm": Enrolment(
        ExtendedEcm,
        _extended_ecm,
        refusals={
            "unknown-category": {"categories": {"No Such Category": {"Partner ID": "4711"}}},
            "unknown-attribute": {"categories": {"Partner Document": {"No Such Attribute": "4711"}}},
            "bad-value": {"categories": {"Partner Document": {"Partner ID": ("4711", "4712")}}},
            "refused": {"categories": {"Partner Document": {"Document Date": "the day before yesterday"}}},
            "unknown-records-class": {"records_class": "No Such Class"},
            "unknown-account": {"access": (Grant(who="no such person"),)},
            "no-workspace": {"workspace": _workspace(None)},
            "unknown-workspace-type": {"workspace": _workspace("No Such Type")},
            "unknown-template": {"workspace": _workspace("Supplier/No Such Template")},
            "unknown-role": {"workspace": _workspace("Supplier", **{"No Such Role": ("Admin",)})},
            "unknown-business-object": {"workspace": _workspace("Supplier", system="No Such System")},
        },
    ),
    "file360": Enrolment(
        File360,
        _file360,
        refusals={
            "no-workspaces": {"workspace": _workspace("Supplier")},
            "no-such-member": {"access": (Grant(who="somebody"),)},
        },
    ),
    "folder": Enrolment(FolderRepository, _folder, refusals={"no-workspaces": {"workspace": _workspace("Supplier")}}),
    "webdav": Enrolment(
        WebDav,
        _webdav,
        refusals={
            "no-workspaces": {"workspace": _workspace("Supplier")},
            "access-by-folder": {"access": (Grant(who="somebody"),)},
            "no-retention": {"keep_until": date(2036, 12, 31)},
        },
    ),
}
