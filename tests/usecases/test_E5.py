"""E5 Controlled product content, both ways: an edited copy comes back as a proposed version, our own bytes come back as nothing.

Approved specifications go out; what the partner sends back belongs to the document that was delivered under its name. What is
approved stays approved, and goes next time as well.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.client.schemas.objects import State

from blocks.errors import ConfigurationError
from blocks.profile import load_partner, load_repositories
from blocks.spool import Spool
from blocks.values import Kept
from tasks import connections
from tests.release_world import Release, ReleaseWorld

SPEC = "spec.pdf"


def version(number: int, by: str = "us") -> bytes:
    return b"%PDF-1.7\n% the specification, version " + f"{number} of {by}".encode() * 3 + b"\n%%EOF\n"


def approved(number: int) -> dict[str, dict[str, str]]:
    return {"Partner Document": {"Reference": str(number)}}


@pytest.fixture(scope="module")
def world(release_world: ReleaseWorld) -> ReleaseWorld:
    """Specifications go in the version whose number stands in their category; their returns come to a folder of the partner's."""
    gather = {
        "repository": "ecm",
        "folder": "Outbox/{order}",
        "version": "approved",
        "approved_in": {"category": "Partner Document", "attribute": "Reference"},
    }
    specs = release_world.terms(gather=gather, freshness="pinned")
    returned = release_world.remote / "returned"
    returned.mkdir()
    returns = {
        "endpoint": "drop",
        "folder": str(returned),
        "settle": {"quiet": "PT0S"},
        "classify": [{"pattern": r"(?i).*\.pdf", "doctype": "contract"}],
        "target": {
            "repository": "ecm",
            "folder": "Returned",
            "categories": {"Partner Document": {"Partner ID": "proposed by {partner}"}},
        },
        "returns": "specs",
    }
    release_world.agree(specs=specs, returns=returns)
    return release_world


def come_back(world: ReleaseWorld, name: str, content: bytes) -> State:
    """The partner sends a file back, and it is taken in."""
    from flows.intake import intake

    (world.remote / "returned" / name).write_bytes(content)
    return intake("acme", "returns", return_state=True, patience_seconds=5)  # type: ignore[no-any-return]


def kept(world: ReleaseWorld, order: str) -> Kept:
    """The specification as the repository has it now, and nothing beside it."""
    with load_repositories(world.profiles)["ecm"].session() as session:
        (one,) = list(session.look(("Outbox", order)))
        return session.get(one.id)


def content(world: ReleaseWorld, id: str, number: int) -> bytes:
    spool = Spool(world.home / "desk", floor_bytes=0)
    with load_repositories(world.profiles)["ecm"].session() as session, spool.batch() as batch:
        done = session.fetch(id, number, batch)
    return spool.path(done.digest).read_bytes()


def again(world: ReleaseWorld, first: Release) -> Release:
    """The next export: the documents of the first one, under an order of its own."""
    release = world.order("specs")
    terms = world.terms(
        gather={
            "repository": "ecm",
            "folder": f"Outbox/{first.id}",
            "version": "approved",
            "approved_in": {"category": "Partner Document", "attribute": "Reference"},
        },
        freshness="pinned",
    )
    profile = load_partner("acme", world.profiles).terms["streams"]
    world.agree(specs=terms, returns={**profile["returns"]})
    return release


def test_an_edited_copy_is_proposed_and_the_approved_version_still_goes(world: ReleaseWorld) -> None:
    bea, ann = world.newcomer(), world.newcomer()
    release = world.order("specs")
    for number in range(1, 7):
        world.keep(release.id, SPEC, version(number), categories={})
    world.keep(release.id, SPEC, version(7), categories=approved(7))
    assert release.start() is None
    state = release.sign(bea)
    assert state is not None and state.name == "Delivered", state
    assert release.received == {SPEC: version(7)}

    # Our own bytes come back, under whatever name.
    assert come_back(world, SPEC, version(7)).name == "Nothing new, 1 duplicate"
    assert come_back(world, "as received.pdf", version(7)).name == "Nothing new, 1 duplicate"
    assert kept(world, release.id).version == 7

    # An edited copy does.
    assert come_back(world, SPEC, version(7, "the partner")).name == "Filed"
    now = kept(world, release.id)
    assert now.version == 8
    assert content(world, now.id, 8) == version(7, "the partner")
    assert now.categories["Partner Document"]["Reference"] == "7", "what is approved stays approved"
    assert now.categories["Partner Document"]["Partner ID"] == "proposed by acme"
    assert come_back(world, SPEC, version(7, "the partner")).name == "Nothing new, 1 duplicate", "the same edit, once more"
    assert kept(world, release.id).version == 8
    with load_repositories(world.profiles)["ecm"].session() as session:
        newest = session.nodes.versions(int(now.id))[-1]  # type: ignore[attr-defined]
    assert "Proposed, edited from version 7: spec.pdf from acme/returns" in str(newest)

    # The next export sends the approved one, and that coming back is recognised as well.
    following = again(world, release)
    assert following.start() is None
    assert [file.version for file in following.package.files] == [7]
    state = following.sign(ann)
    assert state is not None and state.name == "Delivered", state
    assert following.received == {SPEC: version(7)}
    assert come_back(world, SPEC, version(7)).name == "Nothing new, 1 duplicate"
    assert kept(world, release.id).version == 8, "no ping-pong"
    assert not list((world.remote / "returned").iterdir())

    # What was never delivered under its name belongs to no document: a person is asked.
    assert come_back(world, "other.pdf", version(1, "somebody")).name == "Nothing filed, 1 quarantined"
    assert [case.code for case in connections.ledger().cases(partner="acme", stream="returns")] == ["unknown-return"]
    connections.ledger().verify()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"returns": "spec"}, "did you mean 'specs'"),
        ({"returns": "prices"}, "add 'version: approved'"),
        ({"target": {"repository": "shelf", "folder": "Returned"}}, "another repository"),
    ],
)
def test_returns_that_would_go_out_again_are_refused(world: ReleaseWorld, changes: dict[str, object], told: str) -> None:
    profile = load_partner("acme", world.profiles).terms["streams"]
    before = (world.profiles / "acme.yaml").read_text()
    world.agree(specs=profile["specs"], returns={**profile["returns"], **changes})
    try:
        with pytest.raises(ConfigurationError, match=told):
            load_partner("acme", world.profiles)
    finally:
        Path(world.profiles / "acme.yaml").write_text(before)
