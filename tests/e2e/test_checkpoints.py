"""The ledger's seals: made by a real sender, filed in a repository, checked with the key that was pinned."""

from __future__ import annotations

import base64
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml

from blocks.errors import ChainBroken
from blocks.ledger import Entry
from blocks.profile import load_repositories
from blocks.seals import SealKey, key_id
from blocks.sender import Sender
from blocks.settings import settings
from blocks.spool import Spool
from tasks import connections
from tests.e2e.test_release_commands import countersign
from tests.release_world import ReleaseWorld


def agree(world: ReleaseWorld, **checkpoints: Any) -> None:
    path = world.profiles / "repositories.yaml"
    told = yaml.safe_load(path.read_text())
    place = {"repository": "ecm", "folder": f"Checkpoints/{world.home.parent.name}", **checkpoints}
    path.write_text(yaml.safe_dump({**told, "checkpoints": place}))


def filed(world: ReleaseWorld, folder: Path) -> dict[str, Path]:
    """What the repository holds, fetched into a folder."""
    desk = Spool(world.home / "desk", floor_bytes=0)
    found = {}
    with load_repositories(world.profiles)["ecm"].session() as session:
        for kept in list(session.look(("Checkpoints", world.home.parent.name))):
            with desk.batch() as batch:
                done = session.fetch(kept.id, None, batch)
            found[kept.name] = folder / kept.name
            found[kept.name].write_bytes(desk.path(done.digest).read_bytes())
    return found


def test_the_sender_seals_and_the_seals_are_filed(quiet_release_world: ReleaseWorld, tmp_path: Path) -> None:
    from flows.reconcile import seal

    world, ledger = quiet_release_world, connections.ledger()
    ledger.append([Entry("first", "arrived")])
    old = SealKey.open(settings().keys / "seal.pem")
    ledger.checkpoint(old.sign, old.id)  # as it was before there was a sender
    with world.sender():
        key = countersign("signoff", "key").output.strip()
        nowhere = countersign("ledger", "checkpoint")
        assert "nothing to seal" in nowhere.output and "filed nowhere" in nowhere.output
        agree(world, key=key)
        ledger.append([Entry("second", "arrived")])

        def stopped(text: bytes) -> bytes:
            with Sender(settings().sender_socket) as asked:
                asked.seal("checkpoint", text.decode())
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ledger.checkpoint(stopped, key_id(base64.b64decode(key)))
        told = countersign("ledger", "checkpoint").output  # the sender seals no other of that number: it is taken
        assert told.startswith("checkpoint 2: ") and "filed checkpoint-000001.json" in told, "the old one is filed as well"
        ledger.append([Entry("third", "arrived")])
        state = seal(return_state=True)
        assert state.name == "Sealed, checkpoint 3" and "1 filed at" in str(state.message), state
        assert seal(return_state=True).name == "Nothing to seal"
        agree(world, key=key[:-2] + ("0=" if key[-2] != "0" else "4="))
        ledger.append([Entry("fourth", "arrived")])
        other = countersign("ledger", "checkpoint")
        assert other.exit_code == 2 and "nothing was sealed" in other.stderr, "a sender whose key was not agreed"

    agree(world, key=key)
    copies = filed(world, tmp_path)
    assert set(copies) == {f"checkpoint-00000{n}.json" for n in (1, 2, 3)}
    newest = ("--filed", str(copies["checkpoint-000003.json"]))
    whole = countersign("ledger", "verify", *newest)
    assert whole.exit_code == 0 and "3 checkpoints over 3 entries (3 signatures checked)" in whole.output, whole.output
    agree(world)
    assert countersign("ledger", "verify", "--key", key, *newest).exit_code == 0
    with pytest.raises(ChainBroken, match="none of those given"):
        connections.ledger().verify(keys={old.id: old.public})
    down = countersign("ledger", "checkpoint")
    assert down.exit_code == 2 and "does not answer" in down.stderr, "never again by a key that workers can read"
    assert countersign("ledger", "verify", "--key", key, "--filed", str(world.profiles / "people.yaml")).exit_code == 2

    ledger.close()
    with sqlite3.connect(world.home / "ledger.sqlite") as connection:  # somebody with the database takes the newest back
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("DELETE FROM checkpoint WHERE number = 3")
        for table in ("entry", "journey"):
            connection.execute(f"DELETE FROM {table} WHERE journey IN ('third', 'fourth')")
    assert countersign("ledger", "verify", "--key", key).exit_code == 0, "by itself the ledger cannot tell"
    gone = countersign("ledger", "verify", "--key", key, *newest)
    assert gone.exit_code == 2 and "checkpoint 3: it was filed, and the ledger has only 2" in gone.stderr
