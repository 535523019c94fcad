"""What is told of a delivered file, on the wire and in the ledger: back as it was, also as earlier versions told it."""

import json
from datetime import UTC, datetime

from blocks.outbound import Delivered, Said
from blocks.sender import delivered_facts, delivered_of
from blocks.values import Proof

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
TOLD = Delivered(
    destination=3,
    name=b"caf\xe9.csv",
    source=b"prices.csv",
    approved="a" * 64,
    read="b" * 64,
    sent="c" * 64,
    proof=Proof.TOLD,
    proven="d" * 64,
    at=NOON,
    collected=True,
    said=Said("olga (user id 1002)", "Mr Ito has it", NOON),
    server="SHA256:abc",
    replies=("CLOSE: OK", "RENAME: OK"),
)


def test_every_part_comes_back_in_its_place() -> None:
    assert delivered_of(json.loads(json.dumps(delivered_facts(TOLD)))) == TOLD


def test_earlier_versions_told_neither_who_says_so_nor_what_the_server_answered() -> None:
    facts = {part: told for part, told in delivered_facts(TOLD).items() if part not in ("said", "server", "replies")}
    assert delivered_of(facts) == TOLD._replace(said=None, server="", replies=())
