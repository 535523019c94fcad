"""A document that the partner took is told from one that is only out of sight: a real sender, a real OpenSSH server."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest

from blocks.errors import SendRefused
from blocks.outbound import Package
from blocks.sender import PickedUp, Watched
from tests.sender.conftest import House
from tests.sender.thread import sender_thread


def test_what_was_taken_is_told_and_nothing_that_only_looks_so(quiet_house: House) -> None:
    house, folder = quiet_house, quiet_house.remote / "in"
    folder.mkdir()
    place = {"endpoint": "drop", "folder": str(folder)}
    record = {"repository": "ecm", "folder": "Records", "picked_up_within": "P1D"}
    house.agree(destinations=[place], more={"watched": {"record": record}})
    anna, bert = house.newcomer(), house.newcomer()
    release = house.outgoing(house.package(b"one", b"two", stream="watched", folder=str(folder)))
    unwatched = house.package(b"one", folder=str(folder))

    def look(package: Package = release.matter_package) -> PickedUp:
        with house.client() as client:
            return client.picked_up(package)

    def gone(package: Package = release.matter_package) -> list[bytes]:
        return [file.name for file in look(package).files if file.gone]

    with sender_thread(
        house.socket, house.state, profiles=house.profiles, spool=house.spool.folder, apart=timedelta(microseconds=1)
    ):
        with pytest.raises(SendRefused, match="nothing of it was sent"):
            look()
        with pytest.raises(SendRefused, match="nobody agreed"):
            look(unwatched)
        release.approve(anna)
        [arrived] = release.send()
        assert arrived.complete and look() == PickedUp((Watched(0, b"1.csv", None), Watched(0, b"2.csv", None)))
        (folder / "1.csv").rename(house.remote / "taken")
        assert gone() == [], "seen gone once"
        assert gone() == [b"1.csv"]
        (house.remote / "taken").rename(folder / "1.csv")
        assert gone() == [], "it is back"
        # The folder is gone; an older one is there, as where a mount was lost; a link to another is there.
        folder.rename(house.remote / "aside")
        assert look().problem and gone() == []
        folder.mkdir()
        os.utime(folder, (0, 0))
        assert not look().problem and gone() == []
        folder.rmdir()
        folder.symlink_to(house.remote / "aside")
        assert "cannot be told" in look().problem
        folder.unlink()
        (house.remote / "aside").rename(folder)
        # A later package puts a file of the same name there: whether the first was taken before, nobody can tell.
        (folder / "1.csv").unlink()
        later = house.outgoing(house.package(b"new", stream="watched", folder=str(folder)))
        later.approve(bert)
        assert later.send()[0].complete
        (folder / "1.csv").unlink()
        (folder / "2.csv").unlink()
        assert gone() == gone(later.matter_package) == []
        assert gone() == [b"2.csv"] and gone(later.matter_package) == [b"1.csv"]
