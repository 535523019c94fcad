"""Which folder at the partner a template of the reviewed profile can give."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from blocks.endpoints.ftp import Ftps
from blocks.endpoints.sftp import Sftp
from blocks.errors import SendRefused
from blocks.outbound import DestinationTerms
from blocks.sender import destination_of
from deployments.sender.lading import place_of
from tasks.rules.packing import fill
from tests.rules.signoff.world import package

PIN = "SHA256:" + "A" * 43
DROP = Sftp(host="sftp.acme.example", username="acme", host_keys=(PIN,))
ORDERED = datetime(2026, 11, 3, 9, 5, 7, 1200, UTC)


def fits(template: str, folder: str) -> bool:
    about = package(destinations=(destination_of(DROP, folder),))
    try:
        place = place_of(about, about.destinations[0], [DestinationTerms(endpoint="drop", folder=template)], lambda _: DROP)
    except SendRefused:
        return False
    return place.folder == folder


@pytest.mark.parametrize(
    "template",
    [
        "/in",
        "/in/{partner}/{stream}/{order}",
        "/in/{ordered:%Y-%m-%d}",
        "/in/{ordered:%Y/%m/%d}/{order}",
        "/in/{ordered:%d %b %Y}",
        "/in/{ordered:%H:%M}",
        "/in/{ordered}",
        "/in/{ordered:%G-W%V-%u}",
    ],
)
def test_what_a_template_gives_is_a_place_of_the_profile(template: str) -> None:
    facts: dict[str, str | datetime] = {"partner": "acme", "stream": "catalogue", "order": "2026-11-20"}
    for ordered in (ORDERED, ORDERED + timedelta(days=400, hours=15)):
        assert fits(template, fill(template, facts | {"ordered": ordered}))


@pytest.mark.parametrize(
    ("template", "folder"),
    [
        pytest.param("/in", "/out", id="another folder"),
        pytest.param("/in/{order}", "/in/2026-11-21", id="another order's"),
        pytest.param("/in/{ordered:%Y-%m-%d}", "/in/2026-13-01", id="no day"),
        pytest.param("/in/{ordered:%Y-%m-%d}", "/in/2026-1-1", id="a day, written otherwise"),
        pytest.param("/in/{ordered:%Y-%m-%d}", "/in/..", id="the folder above"),
        pytest.param("/in/{ordered}", "/in/../out", id="another folder by the folder above"),
    ],
)
def test_what_a_template_cannot_give_is_none(template: str, folder: str) -> None:
    assert not fits(template, folder)


def test_a_pinned_certificate_is_shown_to_approvers_and_held_against_the_server() -> None:
    pin = "SHA256" + ":0a" * 32
    drop = Ftps(host="ftp.acme.example", username="acme", password="env:X", certificates=(pin,))
    place = destination_of(drop, "/in")
    assert place.key_fingerprint == "SHA256" + ":0A" * 32, "as a session tells what the server shows"
    terms = [DestinationTerms(endpoint="drop", folder="/in")]
    assert place_of(package(destinations=(place,)), place, terms, lambda _: drop).pins == {place.key_fingerprint}
