"""Rights bite on every route of the sandbox: who may only read changes nothing, by whatever call.

Without this our own tests would prove little: a call that the sandbox lets anybody make is one that a real server refuses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.conformance.pyxecm.wire import Wire
from tests.conformance.repositories.writes.bench import Bench
from tests.conformance.repositories.writes.people import user
from tests.sandbox.routes import routes, shape, writes

READ = ["see", "see_contents"]


@dataclass
class Ground:
    """A folder with a document of two versions in it, which everybody may read and only Admin may change."""

    bench: Bench
    reader: Wire
    reader_id: int
    folder: int
    document: int

    @property
    def category(self) -> int:
        return self.bench.wire.at("Partner Exchange", "Partner Document", volume=133)

    @property
    def contracts(self) -> int:
        return self.bench.wire.at("File Plan", "Contracts", volume=198)

    def tell(self, method: str, path: str, **values: Any) -> Any:
        return self.bench.tell(method, path, **values)

    def categorised(self, node: int) -> int:
        """The category, applied to a node."""
        self.tell("POST", f"v2/nodes/{node}/categories", category_id=self.category)
        return self.category

    def handed_down(self) -> int:
        """The category on the folder, for all that comes into it."""
        category = self.categorised(self.folder)
        self.tell("POST", f"v2/nodes/{self.folder}/categories/{category}/inheritance")
        return category

    def record(self) -> str:
        """The document becomes a record; the token that a change of it needs."""
        path = f"v1/nodes/{self.document}/rmclassifications"
        self.tell("POST", path, class_id=self.contracts)
        return str(self.bench.ask(path)["rm_metadataToken"])

    def hold(self, *nodes: int) -> int:
        made = self.tell("POST", "v1/holds", name=self.bench.unique("hold"), type="Legal")["holdID"]
        for node in nodes:
            self.tell("POST", f"v1/nodes/{node}/holds", hold_id=made)
        return int(made)

    def schedule(self) -> int:
        return int(self.tell("POST", "v2/rsischedules", name=self.bench.unique("rsi"))["results"]["id"])

    def stage(self) -> str:
        rsi = self.schedule()
        made = self.tell("POST", f"v2/rsischedules/{rsi}/stages", objectType="LIV", stage="FINAL", eventType=1)
        return f"v2/rsischedules/{rsi}/approve/{made['results']['id']}"

    def granted(self) -> int:
        """A user with a line of his own."""
        member = user(self.bench)
        self.tell("POST", f"v2/nodes/{self.document}/permissions/custom", right_id=member, permissions=["see"])
        return member

    def group(self, *members: int) -> int:
        made = self.tell("POST", "v2/members", type=1, name=self.bench.unique("group"))["results"]["data"]["properties"]["id"]
        for member in members:
            self.tell("POST", f"v2/members/{made}/members", member_id=member)
        return int(made)

    def deleted(self) -> int:
        inner = self.bench.wire.document("gone.txt", b"x", self.folder)
        self.tell("DELETE", f"v2/nodes/{inner}")
        return inner

    def minor(self) -> int:
        """A minor version, under the kind of versioning that has them."""
        self.tell("PUT", f"v2/nodes/{self.document}", versions_control_advanced=True)
        return 2

    def locked(self) -> int:
        self.tell("POST", f"v2/nodes/{self.document}/versions/1/lock")
        return 1

    def shared(self) -> int:
        invitees = [{"business_email": "guest@partner.example"}]
        self.tell("POST", "v2/shares", IDs=[self.document], shareProvider="CORE", providerParams={"invitees": invitees})
        return self.document

    def workspace(self) -> int:
        """A workspace that everybody may read."""
        kind = self.bench.ask("v2/businessworkspacetypes", expand_templates="true")["results"][0]["data"]["properties"]
        body = {"template_id": kind["templates"][0]["id"], "name": self.bench.unique("workspace"), "parent_id": self.folder}
        made = int(self.tell("POST", "v2/businessworkspaces", **body)["results"]["id"])
        self.tell("PUT", f"v2/nodes/{made}/permissions/public", permissions=READ, apply_to=2)
        return made

    def bound(self) -> tuple[int, dict[str, str]]:
        made, told = self.workspace(), self.reference()
        self.tell("PUT", f"v2/businessworkspaces/{made}/workspacereferences", **told)
        return made, told

    def reference(self) -> dict[str, str]:
        return {"ext_system_id": "ERP", "bo_type": "SUPPLIER", "bo_id": self.bench.unique("4711")}

    def role(self, *members: int) -> str:
        made = self.workspace()
        [first, *_] = self.bench.ask(f"v2/businessworkspaces/{made}/roles")["results"]
        path = f"v2/businessworkspaces/{made}/roles/{first['data']['properties']['id']}"
        for member in members:
            self.tell("POST", f"{path}/members", id=member)
        return path

    def related(self) -> tuple[int, int]:
        pair = self.workspace(), self.workspace()
        self.tell("POST", f"v2/businessworkspaces/{pair[0]}/relateditems", rel_bw_id=pair[1], rel_type="child")
        return pair

    def draft(self) -> int:
        library = self.bench.wire.at("Process Library", "Document Approval")
        made = self.tell("POST", "v2/draftprocesses", workflow_id=library, doc_ids=str(self.document))
        return int(made["results"]["draftprocess_id"])

    def process(self) -> int:
        return int(self.tell("PUT", f"v2/draftprocesses/{self.draft()}", action="Initiate")["results"]["process_id"])


Asked = tuple[str, dict[str, Any]]


def on_document(rest: str = "", **body: Any) -> Callable[[Ground], Asked]:
    return lambda ground: (f"v2/nodes/{ground.document}{rest}", body)


def with_system_name(ground: Ground) -> Asked:
    return "v2/externalsystems", {"external_system_name": ground.bench.unique("SYS"), "conn_type": "HTTP"}


REFUSED: dict[str, Callable[[Ground], Asked]] = {
    "POST v2/nodes": lambda ground: ("v2/nodes", {"type": 0, "parent_id": ground.folder, "name": "new"}),
    "POST v1/nodes": lambda ground: ("v1/nodes", {"type": 0, "parent_id": ground.folder, "name": "new"}),
    "PUT v2/nodes/{id}": on_document(name="renamed.txt"),
    "DELETE v2/nodes/{id}": on_document(),
    "POST v2/volumes/recyclebin/nodes/restore": lambda ground: (
        "v2/volumes/recyclebin/nodes/restore",
        {"ids": [ground.deleted()]},
    ),
    "POST v2/volumes/recyclebin/nodes/purge": lambda ground: ("v2/volumes/recyclebin/nodes/purge", {"ids": [ground.deleted()]}),
    "POST v2/nodes/{id}/versions": on_document("/versions", file=True),
    "DELETE v2/nodes/{id}/versions": on_document("/versions", number_to_keep=1),
    "PUT v2/nodes/{id}/versions/{n}": on_document("/versions/1", description="changed"),
    "DELETE v2/nodes/{id}/versions/{n}": on_document("/versions/1"),
    "POST v2/nodes/{id}/versions/{n}/promote": lambda ground: (
        f"v2/nodes/{ground.document}/versions/{ground.minor()}/promote",
        {},
    ),
    "POST v2/nodes/{id}/versions/{n}/lock": on_document("/versions/1/lock"),
    "POST v2/nodes/{id}/versions/{n}/unlock": lambda ground: (
        f"v2/nodes/{ground.document}/versions/{ground.locked()}/unlock",
        {},
    ),
    "POST v2/nodes/{id}/categories": lambda ground: (
        f"v2/nodes/{ground.document}/categories",
        {"category_id": ground.category},
    ),
    "PUT v2/nodes/{id}/categories/{cat}": lambda ground: (
        f"v2/nodes/{ground.document}/categories/{ground.categorised(ground.document)}",
        {f"{ground.category}_2": "ACME"},
    ),
    "DELETE v2/nodes/{id}/categories/{cat}": lambda ground: (
        f"v2/nodes/{ground.document}/categories/{ground.categorised(ground.document)}",
        {},
    ),
    "POST v2/nodes/{id}/categories/apply": lambda ground: (
        f"v2/nodes/{ground.folder}/categories/apply",
        {"categories": [{"id": ground.categorised(ground.folder), "action": "add"}]},
    ),
    "POST v2/nodes/{id}/categories/{cat}/inheritance": lambda ground: (
        f"v2/nodes/{ground.folder}/categories/{ground.categorised(ground.folder)}/inheritance",
        {},
    ),
    "DELETE v2/nodes/{id}/categories/{cat}/inheritance": lambda ground: (
        f"v2/nodes/{ground.folder}/categories/{ground.handed_down()}/inheritance",
        {},
    ),
    "POST v1/nodes/{id}/classifications": lambda ground: (
        f"v1/nodes/{ground.document}/classifications",
        {"class_id": [ground.contracts]},
    ),
    "POST v1/nodes/{id}/rmclassifications": lambda ground: (
        f"v1/nodes/{ground.document}/rmclassifications",
        {"class_id": ground.contracts},
    ),
    "PUT v1/nodes/{id}/rmclassifications": lambda ground: (
        f"v1/nodes/{ground.document}/rmclassifications",
        {"rm_metadataToken": ground.record(), "file_status": "CLOSED"},
    ),
    "DELETE v1/nodes/{id}/rmclassifications/{class}": lambda ground: (
        f"v1/nodes/{ground.document}/rmclassifications/{ground.contracts}",
        {"rm_metadataToken": ground.record()},
    ),
    "POST v1/nodes/{id}/rmclassifications/{class}/rsis": lambda ground: (
        f"v1/nodes/{ground.document}/rmclassifications/{ground.contracts}/rsis",
        {"rm_metadataToken": ground.record(), "rsi": ground.bench.ask("v2/rsis")["results"]["data"]["rsis"][0]["RSI"]},
    ),
    "PUT v1/rmclassifications/finalizerecords": lambda ground: (
        "v1/rmclassifications/finalizerecords",
        {"ids": [ground.document], "unused": ground.record()},
    ),
    "POST v2/rsischedules": lambda ground: ("v2/rsischedules", {"name": ground.bench.unique("rsi")}),
    "POST v2/rsischedules/{rsi}/stages": lambda ground: (
        f"v2/rsischedules/{ground.schedule()}/stages",
        {"objectType": "LIV", "stage": "FINAL", "eventType": 1},
    ),
    "PUT v2/rsischedules/{rsi}/approve/{stage}": lambda ground: (ground.stage(), {"updateApproval": "updateapproval"}),
    "POST v1/holds": lambda ground: ("v1/holds", {"name": ground.bench.unique("hold"), "type": "Legal"}),
    "DELETE v2/hold": lambda ground: (f"v2/hold?id={ground.hold()}", {}),
    "POST v1/nodes/{id}/holds": lambda ground: (f"v1/nodes/{ground.document}/holds", {"hold_id": ground.hold()}),
    "DELETE v1/nodes/{id}/holds/{hold}": lambda ground: (
        f"v1/nodes/{ground.document}/holds/{ground.hold(ground.document)}",
        {},
    ),
    "POST v1/rmclassifications/applyhold": lambda ground: (
        "v1/rmclassifications/applyhold",
        {"ids": [ground.document], "holdID": ground.hold()},
    ),
    "POST v1/rmclassifications/removehold": lambda ground: (
        "v1/rmclassifications/removehold",
        {"ids": [ground.document], "holdID": ground.hold(ground.document)},
    ),
    "POST v2/nodes/{id}/permissions/custom": lambda ground: (
        f"v2/nodes/{ground.document}/permissions/custom",
        {"right_id": ground.reader_id, "permissions": ["delete"]},
    ),
    "POST v2/nodes/{id}/permissions/custom/bulk": lambda ground: (
        f"v2/nodes/{ground.document}/permissions/custom/bulk",
        {"permissions_array": [{"right_id": ground.reader_id, "permissions": ["delete"]}]},
    ),
    "PUT v2/nodes/{id}/permissions/custom/{right_id}": lambda ground: (
        f"v2/nodes/{ground.document}/permissions/custom/{ground.granted()}",
        {"permissions": ["see", "delete"]},
    ),
    "DELETE v2/nodes/{id}/permissions/custom/{right_id}": lambda ground: (
        f"v2/nodes/{ground.document}/permissions/custom/{ground.granted()}",
        {"apply_to": 0},
    ),
    "PUT v2/nodes/{id}/permissions/{whose}": on_document("/permissions/public", permissions=["see", "delete"]),
    "DELETE v2/nodes/{id}/permissions/{whose}": on_document("/permissions/public", apply_to=0),
    "POST v2/members": lambda ground: ("v2/members", {"type": 1, "name": ground.bench.unique("group")}),
    "PUT v2/members/{id}": lambda ground: (f"v2/members/{user(ground.bench)}", {"first_name": "x"}),
    "DELETE v2/members/{id}": lambda ground: (f"v2/members/{user(ground.bench)}", {}),
    "POST v2/members/{id}/members": lambda ground: (f"v2/members/{ground.group()}/members", {"member_id": ground.reader_id}),
    "DELETE v2/members/{id}/members/{member}": lambda ground: (
        f"v2/members/{ground.group(ground.reader_id)}/members/{ground.reader_id}",
        {},
    ),
    "POST v2/shares": lambda ground: (
        "v2/shares",
        {
            "IDs": [ground.document],
            "shareProvider": "CORE",
            "providerParams": {"invitees": [{"business_email": "guest@partner.example"}]},
        },
    ),
    "DELETE v2/shares/{id}": lambda ground: (f"v2/shares/{ground.shared()}", {}),
    "POST v2/businessworkspaces": lambda ground: (
        "v2/businessworkspaces",
        {
            "template_id": ground.bench.ask("v2/businessworkspacetypes", expand_templates="true")["results"][0]["data"][
                "properties"
            ]["templates"][0]["id"],
            "name": "mine",
            "parent_id": ground.folder,
        },
    ),
    "PUT v2/businessworkspaces/{id}/workspacereferences": lambda ground: (
        f"v2/businessworkspaces/{ground.workspace()}/workspacereferences",
        ground.reference(),
    ),
    "DELETE v2/businessworkspaces/{id}/workspacereferences": lambda ground: (
        lambda bound: (f"v2/businessworkspaces/{bound[0]}/workspacereferences", bound[1])
    )(ground.bound()),
    "PUT v2/businessworkspaces/{id}/roles/{role}": lambda ground: (ground.role(), {"permissions": ["see"], "apply_to": 0}),
    "POST v2/businessworkspaces/{id}/roles/{role}/members": lambda ground: (
        f"{ground.role()}/members",
        {"id": ground.reader_id},
    ),
    "DELETE v2/businessworkspaces/{id}/roles/{role}/members/{member}": lambda ground: (
        f"{ground.role(user(ground.bench))}/members",
        {},
    ),
    "POST v2/businessworkspaces/{id}/relateditems": lambda ground: (
        f"v2/businessworkspaces/{ground.workspace()}/relateditems",
        {"rel_bw_id": ground.workspace(), "rel_type": "child"},
    ),
    "DELETE v2/businessworkspaces/{id}/relateditems/{other}": lambda ground: (
        "v2/businessworkspaces/{}/relateditems/{}?rel_type=child".format(*ground.related()),
        {},
    ),
    "POST v2/externalsystems": with_system_name,
    "PUT v2/draftprocesses/{id}": lambda ground: (f"v2/draftprocesses/{ground.draft()}", {"action": "Initiate"}),
    "PUT v2/processes/{id}/status": lambda ground: (f"v2/processes/{ground.process()}/status", {"status": "suspend"}),
    "PUT v2/processes/{id}/subprocesses/{sub}/tasks/{task}": lambda ground: (
        "v2/processes/{0}/subprocesses/{0}/tasks/1".format(ground.process()),
        {"custom_action": "Approve"},
    ),
}
"""A call that changes something -> how a reader asks for it. Admin then asks for the same and gets it."""

OPEN = {
    "POST v2/multipart": "what is uploaded in parts is nothing until a call that asks for rights takes it",
    "POST v2/multipart/{key}/{part}": "only who started it, by its key",
    "POST v2/multipart/{key}": "only who started it, by its key",
    "DELETE v2/multipart/{key}": "only who started it, by its key",
    "POST v2/reservemanagement/nodes/{id}": "whoever sees a reserved document may wait for it",
    "DELETE v2/reservemanagement/nodes/{id}": "only one's own waiting",
    "POST v2/draftprocesses": "whoever sees a map and a document may propose to start it",
    "POST v2/draftprocesses/startwf": "whoever sees a map and a document may start it",
    "POST v2/nodes/{id}/xgovassignments": "whoever sees a document may ask somebody to look at it",
}
"""Calls that change something and need no right to change a node, and why."""


@pytest.fixture
def ground(bench: Bench) -> Iterator[Ground]:
    folder = bench.folder()
    document = bench.wire.document("document.txt", b"one", folder)
    bench.wire.http.post(f"/v2/nodes/{document}/versions", files={"file": ("document.txt", b"two")}).raise_for_status()
    name = bench.unique("reader").replace(" ", "")
    own = bench.tell("POST", "v2/members", type=1, name=f"{name}s")["results"]["data"]["properties"]["id"]
    reader_id = bench.wire.user(name, group_id=own)
    bench.tell("DELETE", f"v2/nodes/{folder}/permissions/group", apply_to=2)
    bench.tell("PUT", f"v2/nodes/{folder}/permissions/public", permissions=READ, apply_to=2)
    with bench.wire.as_user(name) as reader:
        assert reader.http.get(f"/v2/nodes/{document}/content").content == b"two"
        yield Ground(bench, reader, reader_id, folder, document)


def ask(wire: Wire, method: str, path: str, body: dict[str, Any]) -> httpx.Response:
    if "file" in body:
        return wire.http.request(method, f"/{path}", files={"file": ("document.txt", b"three")})
    return wire.http.request(method, f"/{path}", data={"body": json.dumps(body)})


def everything(bench: Bench) -> str:
    """All that the sandbox keeps, but for who looked at what."""
    return "\n".join(line for line in bench.sandbox._store.db.iterdump() if 'INTO "audit"' not in line)


def test_every_call_that_changes_something_is_here() -> None:
    assert {shape(call) for call in (*REFUSED, *OPEN)} == {shape(call) for call in writes()}


@pytest.mark.parametrize("call", REFUSED)
def test_who_may_only_read_changes_nothing(ground: Ground, call: str) -> None:
    method = call.partition(" ")[0]
    path, body = REFUSED[call](ground)
    if call.endswith("roles/{role}/members/{member}"):
        [member] = ground.bench.ask(path)["results"]
        path = f"{path}/{member['data']['properties']['id']}"
    before = everything(ground.bench)
    refused = ask(ground.reader, method, path, body)
    assert refused.status_code in (400, 403, 404, 500), f"{refused.status_code}: {refused.text}"
    assert everything(ground.bench) == before
    done = ask(ground.bench.wire, method, path, body)
    assert done.is_success, f"refused to everybody, so nothing is shown by it: {done.text}"
    assert everything(ground.bench) != before


LOOKS = sorted(call for call in routes() if call.startswith(("GET v1/nodes/{}", "GET v2/nodes/{}")))


@pytest.mark.parametrize("call", LOOKS)
def test_who_may_not_see_a_node_is_told_nothing_of_it(ground: Ground, call: str) -> None:
    """Neither that it is there: an invisible node answers as one that is missing."""
    version_or_member = "1" if "versions" in call else str(ground.reader_id)
    first = ground.categorised(ground.document) if "categories" in call else version_or_member
    node = ground.folder if call.endswith("nodes/{}/nodes") else ground.document
    path = call.partition(" ")[2].replace("{}", "{0}", 1).replace("{}", "{1}").format(node, first)
    assert ground.reader.http.get(f"/{path}").is_success
    ground.tell("DELETE", f"v2/nodes/{node}/permissions/public")
    hidden = ground.reader.http.get(f"/{path}")
    missing = ground.reader.http.get(f"/{path}".replace(str(node), "99999999", 1))
    assert not hidden.is_success
    assert (hidden.status_code, hidden.text.replace(str(node), "99999999")) == (missing.status_code, missing.text)
