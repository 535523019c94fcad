"""Users, groups, memberships, permissions."""

from __future__ import annotations

from typing import Any

from blocks.repositories.otcs_people import Reach, Whose
from tests.conformance.repositories.writes.bench import Bench, Write

DEFAULT_GROUP = 1001
READ = ("see", "see_contents")


def fresh(bench: Bench) -> str:
    return bench.unique("member").replace(" ", "")


def user(bench: Bench) -> int:
    return bench.wire.user(fresh(bench))


def fresh_user(bench: Bench) -> str:
    """A user's login."""
    return str(bench.ask(f"v2/members/{user(bench)}")["results"]["data"]["properties"]["name"])


def group(bench: Bench) -> int:
    made = bench.tell("POST", "v2/members", type=1, name=fresh(bench))
    return int(made["results"]["data"]["properties"]["id"])


def group_and_user(bench: Bench) -> tuple[int, int]:
    return group(bench), user(bench)


def joined(bench: Bench) -> tuple[int, int]:
    held = group_and_user(bench)
    bench.tell("POST", f"v2/members/{held[0]}/members", member_id=held[1])
    return held


def tree(bench: Bench) -> tuple[int, int]:
    """A folder with another and a document in it, and a user."""
    folder = bench.folder()
    bench.wire.document("inner.txt", b"x", bench.wire.folder("inner", folder))
    return folder, user(bench)


def granted(bench: Bench) -> tuple[int, int]:
    folder, member = tree(bench)
    bench.tell("POST", f"v2/nodes/{folder}/permissions/custom", right_id=member, permissions=["see"], apply_to=2)
    return folder, member


def named(bench: Bench, name: str) -> object:
    """How many accounts have a name, and what else is known of them."""
    found = [entry["data"]["properties"] for entry in bench.ask("v2/members", where_name=name)["results"]]
    return [(one["type"], one.get("first_name"), one.get("business_email")) for one in found]


def account(bench: Bench, id: int) -> object:
    """What is known of somebody, without what differs from turn to turn; nothing if it was removed."""
    answer = bench.wire.http.get(f"/v2/members/{id}")
    return [answer.json()["results"]["data"]["properties"]["first_name"]] if answer.is_success else []


def members(bench: Bench, held: tuple[int, int]) -> int:
    return len(bench.ask(f"v2/members/{held[0]}/members", where_type=0)["results"])


def access(bench: Bench, held: tuple[int, int]) -> object:
    """The lines of a folder and of all below it, the user's told by its place only."""
    told: list[Any] = []
    waiting = [held[0]]
    while waiting:
        node = waiting.pop()
        lines = [entry["data"]["permissions"] for entry in bench.ask(f"v2/nodes/{node}/permissions")["results"]]
        told.append(sorted((line["type"], line["right_id"] == held[1], line["permissions"]) for line in lines))
        listed = bench.wire.http.get(f"/v2/nodes/{node}/nodes")
        waiting += [entry["data"]["properties"]["id"] for entry in listed.json()["results"]] if listed.is_success else []
    return told


WRITES = (
    Write(
        "create a user",
        fresh,
        lambda session, name: session.people.create_user(
            name, "secret", base_group=DEFAULT_GROUP, first_name="Pat", mail="pat@example.com"
        ),
        named,
    ),
    Write("create a group", fresh, lambda session, name: session.people.create_group(name), named),
    Write("change a user", user, lambda session, id: session.people.change(id, first_name="Sam"), account),
    Write("remove a user", user, lambda session, id: session.people.remove(id), account),
    Write("put a user into a group", group_and_user, lambda session, held: session.people.join(*held), members),
    Write("take a user out of a group", joined, lambda session, held: session.people.leave(*held), members),
    Write("grant access", tree, lambda session, held: session.people.grant(*held, READ), access),
    Write(
        "grant access to a folder and all below",
        tree,
        lambda session, held: session.people.grant(*held, READ, Reach.ITEM_AND_BELOW),
        access,
    ),
    Write("change access", granted, lambda session, held: session.people.grant(*held, READ), access),
    Write("grant access to several", tree, lambda session, held: session.people.grant_many(held[0], {held[1]: READ}), access),
    Write("set the public's access", tree, lambda session, held: session.people.set_line(held[0], Whose.PUBLIC, ()), access),
    Write(
        "give a folder to another owner",
        tree,
        lambda session, held: session.people.set_line(held[0], Whose.OWNER, (*READ, "edit_permissions"), held[1]),
        access,
    ),
    Write("revoke access", granted, lambda session, held: session.people.revoke(held[0], Whose.CUSTOM, held[1]), access),
    Write(
        "revoke access to a folder and all below",
        granted,
        lambda session, held: session.people.revoke(held[0], Whose.CUSTOM, held[1], Reach.ITEM_AND_BELOW),
        access,
    ),
    Write("revoke the public's access", tree, lambda session, held: session.people.revoke(held[0], Whose.PUBLIC), access),
)
