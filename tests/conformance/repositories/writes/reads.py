"""What our client asks Extended ECM, verb by verb."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.repositories.otcs_search import below, of_type
from blocks.repositories.otcs_workflows import Workflows
from blocks.spool import Spool
from tests.conformance.repositories.writes import categories, filing, nodes, people, records, workflows, workspaces
from tests.conformance.repositories.writes.bench import Bench, Read


@cache
def filled(bench: Bench) -> tuple[str, str, str]:
    """A folder with 103 documents of ours, so that its list has two pages; its name, and one document's name and id."""
    filed = filing.file(bench.session, bench.filing("one.txt", bench.unique("Filled"), **filing.EVERYTHING))
    folder = bench.wire.properties(int(filed.id))["parent_id"]
    for number in range(102):
        bench.wire.document(f"{number:03}.txt", b"x", folder)
    return filed.folder[0], filed.name, filed.id


def looked_at(bench: Bench) -> int:
    """A document with 101 lines in its trail, so that it has two pages."""
    document = bench.document()
    for _ in range(100):
        assert bench.wire.http.get(f"/v1/nodes/{document}/content").is_success
    return document


def crowd(bench: Bench) -> int:
    """A group of 21, so that its members are two pages."""
    group = people.group(bench)
    bench.tell("POST", f"v2/members/{group}/members", member_id=[people.user(bench) for _ in range(21)])
    return group


def fetched(session: ExtendedEcmSession, given: tuple[str, str, str]) -> object:
    with tempfile.TemporaryDirectory() as place, Spool(Path(place), floor_bytes=0).batch() as batch:
        spooled = session.fetch(given[2], None, batch)
        return spooled.digest, spooled.size


def found(session: ExtendedEcmSession, given: tuple[str, str, str]) -> list[str]:
    parent = session.nodes.get(int(given[2])).properties["parent_id"]
    return [hit.node.name for hit in session.index.find(of_type(144) & below(parent))]


def audited(session: ExtendedEcmSession, node: int) -> list[str]:
    return [event.name for event in session.audit.events(node)]


def deleted(bench: Bench) -> str:
    name = bench.unique("gone")
    made = bench.wire.document(name, b"x", bench.folder())
    bench.tell("DELETE", f"v2/nodes/{made}")
    return name


def removed(bench: Bench) -> tuple[str, datetime]:
    made, since = bench.document(), datetime.now(UTC)
    bench.tell("DELETE", f"v2/nodes/{made}")
    return str(made), since


def many(bench: Bench) -> int:
    """A folder with 101 folders in it, so that its list has two pages."""
    folder = bench.folder()
    for number in range(101):
        bench.wire.folder(f"{number:03}", folder)
    return folder


def attached(session: ExtendedEcmSession, given: workflows.Running) -> object:
    return session.workflows.attached(session.workflows.status(given.step.process))


def folder_made(session: ExtendedEcmSession, given: workflows.Running) -> object:
    """Asked anew: a session asks it once."""
    return Workflows(session._wire, session._names, 1).folder_made(session.workflows.status(given.step.process))


REVIEW = "Process Library/Quality Review"


def filed_twice(bench: Bench) -> str:
    folder = bench.unique("Filed")
    filing.file(bench.session, bench.filing("one.txt", folder, b"first"))
    return filing.file(bench.session, bench.filing("one.txt", folder, b"second")).id


def named_alike(session: ExtendedEcmSession, given: tuple[str, str, str]) -> object:
    return [kept.id for kept in session.search(name=given[1])]


def under_review(bench: Bench) -> str:
    document = str(bench.document())
    bench.session.review(document, 1, REVIEW, resumed=False)
    return document


def processes_about(session: ExtendedEcmSession, id: str) -> object:
    return [process.id for process, _ in session.workflows.about(int(id), REVIEW, datetime(2020, 1, 1, tzinfo=UTC))]


def offered(session: ExtendedEcmSession, document: int) -> object:
    return session.workflows.offered(document, int(session.nodes.get(document).properties["parent_id"]))


def alike(bench: Bench) -> tuple[str]:
    """A folder in which more than a page of documents have a name in theirs, and the last of all has it."""
    folder = bench.unique("Alike")
    filed = filing.file(bench.session, bench.filing("a x 00.txt", folder))
    parent = bench.wire.properties(int(filed.id))["parent_id"]
    for number in range(101):
        bench.wire.document(f"{number:03} x 00.txt", b"x", parent)
    bench.wire.document("x 00.txt", b"x", parent)
    return (folder,)


_READS: tuple[Read, ...] = (
    Read("find a document", filled, lambda session, given: session.find((given[0],), given[1])),
    Read("list a folder", filled, lambda session, given: list(session.look((given[0],)))),
    Read("get a document with its values", filled, lambda session, given: session.get(given[2])),
    Read("list classifications", categories.classified, lambda session, id: session.categories.classifications(id)),
    Read("prove what was seen", Bench.document, lambda session, id: session.nodes.edit_token(id)),
    Read("fetch a document", filled, fetched),
    Read("search", filled, found),
    Read("count facets", filled, lambda session, given: session.index.facets(of_type(144))),
    Read("read the audit trail", looked_at, audited),
    Read("tell kinds of events", looked_at, lambda session, node: session.audit.kinds(node)),
    Read("find an account", people.fresh_user, lambda session, name: session.people.account(name)),
    Read("list members", crowd, lambda session, group: list(session.people.members(group))),
    Read("list groups of a member", people.joined, lambda session, held: list(session.people.member_of(held[1]))),
    Read("read permissions", people.granted, lambda session, held: session.people.lines(held[0])),
    Read("read effective rights", people.granted, lambda session, held: session.people.effective(*held)),
    Read("get a node", Bench.document, lambda session, id: session.nodes.get(id)),
    Read(
        "get several nodes", lambda bench: [bench.document(), bench.folder()], lambda session, ids: session.nodes.several(ids)
    ),
    Read("list nodes", many, lambda session, folder: [node.name for node in session.nodes.look(folder)]),
    Read("tell ancestors", Bench.document, lambda session, id: session.nodes.ancestors(id)),
    Read("tell taken names", many, lambda session, folder: session.nodes.taken(folder, ["007", "no"])),
    Read("look into the recycle bin", deleted, lambda session, name: list(session.nodes.deleted(name=name))),
    Read("tell who has reserved", nodes.reserved, lambda session, id: session.nodes.reservation(id)),
    Read("list what we have reserved", nodes.reserved, lambda session, _: list(session.nodes.reserved())),
    Read("list versions", nodes.three, lambda session, id: session.nodes.versions(id)),
    Read("get a version", nodes.three, lambda session, id: session.nodes.version(id, 2)),
    Read("get a record", records.record, lambda session, record: session.records.get(record.node)),
    Read("list schedules", records.schedule, lambda session, _: session.records.schedules()),
    Read("find schedules", records.schedule, lambda session, _: session.records.find_schedules("Named")),
    Read("list codes of records", Bench.folder, lambda session, _: session.records.codes()),
    Read("list holds", records.hold, lambda session, _: session.records.holds()),
    Read("tell a node's holds", records.held, lambda session, held: session.records.of(held[0])),
    Read("ask whether anything holds a document", records.held, lambda session, held: session.holds(str(held[0]))),
    Read("ask it of several", records.held, lambda session, held: list(session.holds_of([str(held[0])] * 5))),
    Read("list what is on hold", records.several_held, lambda session, held: list(session.records.items(held[1]))),
    Read("find a workspace", workspaces.bound, lambda session, two: session.workspaces.find(two.also)),
    Read("get a workspace", workspaces.two, lambda session, two: session.workspaces.get(two.first)),
    Read("list workspaces", workspaces.two, lambda session, _: [one.id for one in session.workspaces.look()]),
    Read("list roles", workspaces.with_member, lambda session, two: session.workspaces.roles(two.first)),
    Read("list related workspaces", workspaces.related, lambda session, two: list(session.workspaces.related(two.first))),
    Read("list external systems", Bench.folder, lambda session, _: session.workspaces.systems()),
    Read("read a map", Bench.folder, lambda session, _: session.workflows.definition("Process Library/Quality Review")),
    Read("list processes", workflows.running, lambda session, _: [one.id for one in session.workflows.look()]),
    Read("follow a process", workflows.running, lambda session, given: session.workflows.status(given.step.process)),
    Read("list what a process is about", workflows.running, attached),
    Read("tell since when documents could be attached", workflows.running, folder_made),
    Read("list assignments", workflows.running, lambda session, _: session.workflows.assignments()),
    Read("list a step's actions", workflows.running, lambda session, given: session.workflows.actions(given.step)),
    Read("tell who filed each version", filed_twice, lambda session, id: session.filed_by(id)),
    Read("tell that a document was removed", removed, lambda session, given: session.was_removed(*given)),
    Read("tell a document's history", looked_at, lambda session, node: list(session.history(str(node)))),
    Read("find documents by their name", filled, named_alike),
    Read("tell what no workflow let pass", under_review, lambda session, id: session.unreviewed({id: 1}, REVIEW, "Accept")),
    Read("find the workflow of a version", under_review, lambda session, id: session.review(id, 1, REVIEW, resumed=True)),
    Read("list the workflows of a document", under_review, processes_about),
    Read("list workflows that may be started", Bench.document, offered),
    Read("get an account", people.user, lambda session, id: session.people.get(id)),
    Read("list users", people.fresh_user, lambda session, name: list(session.people.users(name))),
    Read("list groups", crowd, lambda session, _: [one.id for one in session.people.groups()]),
    Read("tell a name among many alike", alike, lambda session, given: session.find(given, "x 00.txt")),
    Read("tell visible nodes", people.granted, lambda session, held: session.people.visible([held[0]], held[1])),
)
READS: Mapping[str, Read] = {read.name: read for read in _READS}
