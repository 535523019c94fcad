"""Workflows of the Extended ECM stand-in: maps, draft processes, running processes, assignments, steps.

A map is a list of steps. A person's step has custom actions, each naming the step that comes after it; a step without a person is
done as soon as it is reached, as item handlers are. So which way a process went is told by the names of its completed steps.
Documents are attached as shortcuts in a folder of the process. Dates of processes and steps are told by the server's own clock, without
a zone, as in OpenText's samples; only those of nodes are in UTC.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from tests.sandbox.ecm_store import ADMIN_ID, FOLDER, SHORTCUT, WORKFLOW, Store, missing, now
from tests.sandbox.ecm_wire import Api, Call, Faults, Refusal, envelope, page_of, paging, whole

ENTERPRISE = 141
ENDED = ("completed", "stopped", "archived")
CLOCK = timezone(timedelta(hours=-4))

SCHEMA = """
CREATE TABLE IF NOT EXISTS workflow_map (node_id INTEGER PRIMARY KEY, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS draft_process (
    id INTEGER PRIMARY KEY, map_id INTEGER NOT NULL, user_id INTEGER NOT NULL, title TEXT NOT NULL, due_date TEXT NOT NULL,
    form TEXT NOT NULL, folder_id INTEGER NOT NULL, process_id INTEGER);
CREATE TABLE IF NOT EXISTS process (
    id INTEGER PRIMARY KEY, map_id INTEGER NOT NULL, title TEXT NOT NULL, initiator INTEGER NOT NULL, initiated TEXT NOT NULL,
    due_date TEXT NOT NULL, status TEXT NOT NULL, step INTEGER, started TEXT NOT NULL, form TEXT NOT NULL, folder_id INTEGER NOT NULL,
    completed TEXT NOT NULL DEFAULT '[]');
CREATE TABLE IF NOT EXISTS xgov_assignment (
    id INTEGER PRIMARY KEY, node_id INTEGER NOT NULL, subject TEXT NOT NULL, instruction TEXT NOT NULL, assignees TEXT NOT NULL,
    assigned_by INTEGER NOT NULL, date TEXT NOT NULL);
"""

SEED: Mapping[str, Any] = {
    "workflow_maps": [
        {
            "path": "Process Library/Document Approval",
            "start_step": True,
            "attributes": ["Reason"],
            "steps": [
                {"name": "Approver", "assignee": "DefaultGroup", "actions": {"Approve": "Approved", "Reject": "Rejected"}},
                {"name": "Approved"},
                {"name": "Rejected"},
            ],
        },
        {
            "path": "Process Library/Quality Review",
            "start_step": False,
            "attributes": [],
            "steps": [
                {"name": "Quality review", "assignee": "DefaultGroup", "actions": {"Accept": "Accepted", "Refuse": "Refused"}},
                {"name": "Accepted"},
                {"name": "Refused"},
            ],
        },
    ]
}


def register(store: Store, faults: Faults, api: Api) -> None:
    with store.transaction():
        for told in {**SEED, **store.seed}["workflow_maps"]:
            node_id = store._ensure(ENTERPRISE, told["path"], FOLDER, WORKFLOW)
            store.db.execute("INSERT OR REPLACE INTO workflow_map VALUES (?, ?)", (node_id, json.dumps(told)))
    Workflows(store, api).register()


def local_now() -> str:
    """Now, by the server's own clock."""
    return datetime.now(CLOCK).strftime("%Y-%m-%dT%H:%M:%S")


class Workflows:
    """Everything below ``workflows``, ``docworkflows``, ``draftprocesses`` and ``processes``."""

    def __init__(self, store: Store, api: Api) -> None:
        self.store = store
        self.api = api

    def register(self) -> None:
        api = self.api
        api.get("/v2/workflows/{map_id:int}/definition")(self.definition)
        api.get("/v2/docworkflows")(self.offered)
        api.post("/v2/draftprocesses")(self.draft)
        api.get("/v1/forms/draftprocesses/update")(self.draft_form)
        # Before the one below: "startwf" is no number.
        api.post("/v2/draftprocesses/startwf")(self.start)
        api.put("/v2/draftprocesses/{draft_id:int}")(self.change_draft)
        api.get("/v2/workflows/status/processes/{process_id:int}")(self.status)
        api.get("/v2/workflows/status")(self.several)
        api.get("/v1/forms/processes/tasks/update")(self.task_form)
        api.put("/v2/processes/{process_id:int}/subprocesses/{sub_id:int}/tasks/{task_id:int}")(self.step)
        api.put("/v2/processes/{process_id:int}/status")(self.set_status)
        api.get("/v2/members/assignments")(self.assignments)
        api.post("/v2/nodes/{node_id:int}/xgovassignments")(self.assign)

    # ----------------------------------------------------------------------------------------- maps

    def _map(self, call: Call, map_id: int) -> dict[str, Any]:
        node = self.store.node(call.user, map_id)
        row = self.store.db.execute("SELECT data FROM workflow_map WHERE node_id = ?", (map_id,)).fetchone()
        if row is None:
            raise missing(map_id)
        return {**json.loads(row[0]), "id": map_id, "name": node["name"]}

    def definition(self, call: Call, map_id: int) -> dict[str, Any]:
        told = self._map(call, map_id)
        tasks = [
            {
                "task_id": number,
                "title": step["name"],
                "type": 1 if "assignee" in step else 4,
                "instructions": "",
                "assignee": step.get("assignee"),
            }
            for number, step in enumerate(told["steps"], 1)
        ]
        keys = {f"{map_id}_{number}": name for number, name in enumerate(told["attributes"], 2)}
        attributes = {
            str(map_id): {"key": str(map_id), "name": "Attributes", "type_name": "Assoc"},
            **{key: {"key": key, "name": name, "type_name": "String", "required": False} for key, name in keys.items()},
        }
        packages = [
            {"data": {}, "description": None, "sub_type": 2, "type": 1},
            {"data": {"definitions": attributes}, "description": "", "sub_type": 3, "type": 1},
        ]
        return envelope(
            call,
            {"definition": {"data_packages": packages, "tasks": tasks, "workflow_id": map_id, "workflow_roles": []}},
        )

    def offered(self, call: Call) -> dict[str, Any]:
        for node_id in [*call.asked_many("doc_id"), call.asked("parent_id")]:
            self.store.node(call.user, whole("doc_id", node_id))
        found = []
        for row in self.store.db.execute("SELECT node_id FROM workflow_map ORDER BY node_id").fetchall():
            told = self._map(call, row[0])
            found.append({"DataID": told["id"], "Name": told["name"], "WorkflowType": 100})
        return envelope(call, {"data": found, "fError": "", "fErrorDetail": "", "statusMsg": None})

    # ----------------------------------------------------------------------------------------- beginning one

    def _attach(self, call: Call, title: str) -> int:
        """A folder with shortcuts to the documents that were named; its id."""
        ids = [part for given in call.many("doc_ids") for part in str(given).split(",") if part.strip()]
        nodes = [self.store.node(call.user, whole("doc_ids", part.strip())) for part in ids]
        home = self.store.personal(ADMIN_ID)
        folder_id = self.store.create(
            ADMIN_ID, home["id"], FOLDER, f"{title} {self._number('draft_process')}-{home['children']}"
        )
        for node in nodes:
            name = node["name"] if not self.store.child(folder_id, node["name"]) else f"{node['name']} {node['id']}"
            self.store.create(ADMIN_ID, folder_id, SHORTCUT, name, original_id=node["id"])
        # Whoever takes part in the process sees what is attached.
        acl = [("owner", ADMIN_ID, 1023), ("public", None, 3)]
        for row in (self.store.row(folder_id), *self.store.below(folder_id)):
            self.store.db.execute("UPDATE node SET acl = ? WHERE id = ?", (json.dumps(acl), row["id"]))
        return folder_id

    def _number(self, table: str) -> int:
        return 1 + int(self.store.db.execute(f"SELECT coalesce(max(id), 150000) FROM {table}").fetchone()[0])

    def draft(self, call: Call) -> dict[str, Any]:
        told = self._map(call, call.number("workflow_id"))
        with self.store.transaction():
            draft_id, folder_id = self._number("draft_process"), self._attach(call, told["name"])
            self.store.db.execute(
                "INSERT INTO draft_process VALUES (?, ?, ?, ?, '', '{}', ?, NULL)",
                (draft_id, told["id"], call.user, told["name"], folder_id),
            )
        return envelope(call, {"draftprocess_id": draft_id, "workflow_type": "1_1"})

    def _draft(self, call: Call, draft_id: int) -> Any:
        row = self.store.db.execute("SELECT * FROM draft_process WHERE id = ?", (draft_id,)).fetchone()
        if row is None or row["user_id"] != call.user:
            raise Refusal(400, f"Could not get a draft process for {draft_id}")
        return row

    def draft_form(self, call: Call) -> dict[str, Any]:
        draft = self._draft(call, call.asked_number("draftprocess_id", 0))
        form = {"data": {"WorkflowForm_Title": draft["title"], "WorkflowForm_WorkflowDueDate": draft["due_date"] or None}}
        data = {
            "actions": [{"key": "Initiate", "label": "Start"}],
            "attachments_on": True,
            "comments_on": True,
            "data_packages": [{"data": {"attachment_folder_id": draft["folder_id"]}, "sub_type": 1, "type": 1}],
            "process_id": draft["id"],
            "title": draft["title"],
            "workflow_type": "1_1",
        }
        return {"data": data, "forms": [{**form, "options": {}, "schema": {"properties": {}, "type": "object"}}]}

    def change_draft(self, call: Call, draft_id: int) -> dict[str, Any]:
        draft, action = self._draft(call, draft_id), call.text("action")
        if draft["process_id"] is not None:
            raise Refusal(400, f"The draft process {draft_id} was initiated already.")
        if action == "formUpdate":
            values = call.object("values")
            title = str(values.pop("WorkflowForm_Title", draft["title"]))
            due = str(values.pop("WorkflowForm_WorkflowDueDate", draft["due_date"]) or "")
            form = json.dumps({**json.loads(draft["form"]), **values})
            with self.store.transaction():
                self.store.db.execute(
                    "UPDATE draft_process SET title = ?, due_date = ?, form = ? WHERE id = ?", (title, due, form, draft_id)
                )
            return envelope(call, {"draftprocess_id": draft_id, "ok": True})
        if action != "Initiate":
            raise Refusal(400, f"Invalid value for parameter action: {action}")
        told = self._map(call, draft["map_id"])
        with self.store.transaction():
            process_id = self._begin(call, told, draft["title"], draft["due_date"], draft["form"], draft["folder_id"])
            self.store.db.execute("UPDATE draft_process SET process_id = ? WHERE id = ?", (process_id, draft_id))
        return self._begun(call, told, process_id)

    def start(self, call: Call) -> dict[str, Any]:
        told = self._map(call, call.number("workflow_id"))
        if told["start_step"]:
            raise Refusal(400, "The workflow cannot be started without its start step.")
        with self.store.transaction():
            process_id = self._begin(call, told, told["name"], "", "{}", self._attach(call, told["name"]))
        return self._begun(call, told, process_id)

    def _begin(self, call: Call, told: Mapping[str, Any], title: str, due: str, form: str, folder_id: int) -> int:
        process_id = self._number("process")
        self.store.db.execute(
            "INSERT INTO process VALUES (?, ?, ?, ?, ?, ?, 'ontime', NULL, ?, ?, ?, '[]')",
            (process_id, told["id"], title, call.user, local_now(), due, local_now(), form, folder_id),
        )
        self._reach(told, self._process(process_id), 1, [])
        self.api.stats["workflows"] += 1
        return process_id

    def _begun(self, call: Call, told: Mapping[str, Any], process_id: int) -> dict[str, Any]:
        message = f"{told['name']} was initiated successfully."
        return envelope(call, {"custom_message": message, "process_id": process_id, "WorkID": None, "WRID": None})

    def _reach(self, told: Mapping[str, Any], process: Any, number: int | None, completed: list[dict[str, Any]]) -> None:
        """The step that comes now; those without a person are done at once, and the last one ends the process."""
        steps = told["steps"]
        while number is not None and "assignee" not in steps[number - 1]:
            completed = [
                *completed,
                {"task_id": number, "name": steps[number - 1]["name"], "user": ADMIN_ID, "started": local_now()},
            ]
            following = steps[number - 1].get("then")
            number = self._numbered(told, following) if following else None
        status = "completed" if number is None else process["status"]
        self.store.db.execute(
            "UPDATE process SET step = ?, status = ?, started = ?, completed = ? WHERE id = ?",
            (number, status, local_now(), json.dumps(completed), process["id"]),
        )

    def _numbered(self, told: Mapping[str, Any], name: str) -> int:
        return 1 + [step["name"] for step in told["steps"]].index(name)

    # ----------------------------------------------------------------------------------------- how far it has come

    def _process(self, process_id: int) -> Any:
        row = self.store.db.execute("SELECT * FROM process WHERE id = ?", (process_id,)).fetchone()
        if row is None:
            raise Refusal(400, f"Could not get a process for {process_id}")
        return row

    def _person(self, member_id: int) -> dict[str, Any]:
        member = self.store.member(member_id)
        return {
            "userId": member["id"],
            "loginName": member["name"],
            "firstName": "",
            "lastName": "",
            "emailAddress": "",
            "phone": "",
        }

    def _assignee(self, told: Mapping[str, Any], process: Any) -> int | None:
        if process["step"] is None or process["status"] in ENDED:
            return None
        member = self.store.member_named(told["steps"][process["step"] - 1]["assignee"])
        if member is None:
            raise Refusal(500, "The assignee of the step does not exist.")
        return int(member["id"])

    def _task(self, process: Any, number: int, name: str, started: str, status: str, member_id: int | None) -> dict[str, Any]:
        people = [self._person(member_id)] if member_id is not None else []
        return {
            "process_id": process["id"],
            "subprocess_id": process["id"],
            "task_id": number,
            "task_name": name,
            "task_due_date": "",
            "task_start_date": started,
            "task_status": status,
            "task_assignees": {
                "assignee": people,
                "assigneeCount": len(people),
                "currentAssignee": people[0]["loginName"] if people else "",
            },
        }

    def status(self, call: Call, process_id: int) -> dict[str, Any]:
        process = self._process(process_id)
        told = self._map(call, process["map_id"])
        if not self._takes_part(call, told, process):
            raise Refusal(500, "Insufficient permissions to perform this action on the process.")
        completed = [
            self._task(process, step["task_id"], step["name"], step["started"], "completed", step["user"])
            for step in json.loads(process["completed"])
        ]
        here = self._assignee(told, process)
        current = []
        if here is not None:
            name = told["steps"][process["step"] - 1]["name"]
            current = [self._task(process, process["step"], name, process["started"], process["status"], here)]
        starter = self._person(process["initiator"])
        return envelope(
            call,
            {
                "attachments": {"attachment_folder_id": process["folder_id"]},
                "data_packages": [{"TYPE": 1, "SUBTYPE": 1, "USERDATA": process["folder_id"], "DESCRIPTION": ""}],
                "permissions": dict.fromkeys(
                    ("Archive", "ChangeAttr", "ChangeRoute", "Delete", "ManagerPerms", "SeeDetail", "Stop", "Suspend"),
                    self._manages(call, process),
                ),
                "step_list": {"completed": completed, "current": current, "next": []},
                "wf_details": {
                    "date_initiated": process["initiated"],
                    "due_date": process["due_date"],
                    "initiator": {name: starter[name] for name in ("firstName", "lastName", "loginName", "userId")},
                    "status": process["status"],
                    "wf_name": process["title"],
                    "work_workID": process["id"],
                },
            },
        )

    def _manages(self, call: Call, process: Any) -> bool:
        return call.user in (ADMIN_ID, process["initiator"])

    def _assigned(self, call: Call, told: Mapping[str, Any], process: Any) -> bool:
        here = self._assignee(told, process)
        return here is not None and (call.user in (here, ADMIN_ID) or here in self.store.groups_of(call.user))

    def _takes_part(self, call: Call, told: Mapping[str, Any], process: Any) -> bool:
        done = {step["user"] for step in json.loads(process["completed"])}
        return self._manages(call, process) or call.user in done or self._assigned(call, told, process)

    def several(self, call: Call) -> dict[str, Any]:
        kind = call.asked("kind") or call.asked("Kind") or "Both"
        if kind not in ("Managed", "Initiated", "Both"):
            raise Refusal(400, f"Invalid value for parameter kind: {kind}")
        wanted = set(call.asked_many("wstatus"))
        found = []
        for process in self.store.db.execute("SELECT * FROM process ORDER BY id").fetchall():
            mine = process["initiator"] == call.user
            if not (self._manages(call, process) if kind != "Initiated" else mine) or (
                wanted and process["status"] not in wanted
            ):
                continue
            told = self._map(call, process["map_id"])
            here = self._assignee(told, process)
            people = [self._person(here)] if here is not None else []
            found.append(
                {
                    "assignee": people,
                    "assignee_count": len(people),
                    "comments_on": True,
                    "current_assignee": people[0]["loginName"] if people else "",
                    "date_initiated": process["initiated"],
                    "due_date": process["due_date"],
                    "process_id": process["id"],
                    "status_key": process["status"],
                    "step_name": told["steps"][process["step"] - 1]["name"] if process["step"] else "",
                    "steps_count": 1 if process["step"] else 0,
                    "subprocess_id": process["id"],
                    "task_id": process["step"] or 0,
                    "wf_name": process["title"],
                }
            )
        by, _, direction = (call.asked("sort") or "date_initiated asc").partition(" ")
        found.sort(key=lambda told: str(told.get({"name": "wf_name"}.get(by, by), "")), reverse=direction == "desc")
        return envelope(call, [{"data": {"wfstatus": told}} for told in found])

    # ----------------------------------------------------------------------------------------- a step

    def task_form(self, call: Call) -> dict[str, Any]:
        process, told = self._open(call, call.asked_number("process_id", 0), call.asked_number("task_id", 1))
        step = told["steps"][process["step"] - 1]
        data = {
            "actions": [{"key": "Delegate", "label": "Forward"}],
            "attachments_on": True,
            "comments_on": True,
            "custom_actions": [{"key": action, "label": action} for action in step["actions"]],
            "data_packages": [{"data": {"attachment_folder_id": process["folder_id"]}, "sub_type": 1, "type": 1}],
            "instructions": "",
            "message": None,
            "process_id": process["id"],
            "subprocess_id": process["id"],
            "task_id": process["step"],
            "title": step["name"],
        }
        return {"data": data, "forms": [{"data": json.loads(process["form"]), "options": {}, "schema": {"properties": {}}}]}

    def _open(self, call: Call, process_id: int, task_id: int) -> tuple[Any, dict[str, Any]]:
        """A process whose open step this user has in the inbox."""
        process = self._process(process_id)
        told = self._map(call, process["map_id"])
        if process["status"] in (*ENDED, "suspended") or process["step"] != task_id:
            raise Refusal(400, "The task is not open.")
        if not self._assigned(call, told, process):
            raise Refusal(500, "Insufficient permissions to perform this action on the task.")
        return process, told

    def step(self, call: Call, process_id: int, sub_id: int, task_id: int) -> dict[str, Any]:
        process, told = self._open(call, process_id, task_id)
        action, custom = call.one("action"), call.one("custom_action")
        if (action is None) == (custom is None):
            raise Refusal(400, "Either action or custom_action is required, not both.")
        step = told["steps"][task_id - 1]
        with self.store.transaction():
            if action == "formUpdate":
                form = json.dumps({**json.loads(process["form"]), **call.object("values")})
                self.store.db.execute("UPDATE process SET form = ? WHERE id = ?", (form, process_id))
            elif custom in step["actions"]:
                done = {"task_id": task_id, "name": step["name"], "user": call.user, "started": process["started"]}
                done["action"] = custom
                done["comment"] = str(call.one("comment") or "")
                following = self._numbered(told, step["actions"][custom])
                self._reach(told, process, following, [*json.loads(process["completed"]), done])
            else:
                raise Refusal(
                    400, f"Invalid value for parameter {'action' if custom is None else 'custom_action'}: {custom or action}"
                )
        return envelope(call, {"custom_message": None, "process_id": process_id, "ok": True})

    def set_status(self, call: Call, process_id: int) -> dict[str, Any]:
        process, wanted = self._process(process_id), call.text("status")
        allowed = {
            "suspend": (("ontime",), "suspended"),
            "resume": (("suspended",), "ontime"),
            "stop": (("ontime", "suspended"), "stopped"),
        }
        allowed["archive"] = (("completed", "stopped"), "archived")
        if wanted not in allowed:
            raise Refusal(400, f"Invalid value for parameter status: {wanted}")
        if not self._manages(call, process):
            raise Refusal(500, "Insufficient permissions to perform this action on the process.")
        before, after = allowed[wanted]
        if process["status"] not in before:
            raise Refusal(400, f"The process is {process['status']}.")
        with self.store.transaction():
            self.store.db.execute("UPDATE process SET status = ? WHERE id = ?", (after, process_id))
        return envelope(call, {"ok": True, "process_id": process_id})

    # ----------------------------------------------------------------------------------------- assignments

    def assignments(self, call: Call) -> dict[str, Any]:
        found = []
        for process in self.store.db.execute("SELECT * FROM process WHERE status = 'ontime' ORDER BY id").fetchall():
            told = self._map(call, process["map_id"])
            if self._assigned(call, told, process):
                found.append(
                    {
                        "id": process["id"],
                        "name": f"{told['steps'][process['step'] - 1]['name']}: {process['title']}",
                        "type": 153,
                        "type_name": "Step",
                        "status": 0,
                        "status_name": "Ready",
                        "date_due": process["due_date"] or None,
                        "instructions": "",
                        "priority": 50,
                        "priority_name": "Medium",
                        "workflow_id": process["id"],
                        "workflow_subworkflow_id": process["id"],
                        "workflow_subworkflow_task_id": process["step"],
                        "from_user_id": process["initiator"],
                    }
                )
        for row in self.store.db.execute("SELECT * FROM xgov_assignment ORDER BY id").fetchall():
            if not set(json.loads(row["assignees"])) & {call.user, *self.store.groups_of(call.user)}:
                continue
            more = {"type": 1484, "type_name": "Assignment", "status": 0, "status_name": "Ready", "date_due": None}
            told = {
                "id": row["node_id"],
                "name": row["subject"],
                "instructions": row["instruction"],
                "from_user_id": row["assigned_by"],
            }
            found.append(
                {**told, **more, "workflow_id": None, "workflow_subworkflow_id": None, "workflow_subworkflow_task_id": None}
            )
        page, limit = page_of(call, 100)
        shown = found[(page - 1) * limit : page * limit]
        collection = {"paging": paging(call, len(found), page, limit)}
        return envelope(call, [{"data": {"assignments": told}} for told in shown], collection=collection)

    def assign(self, call: Call, node_id: int) -> dict[str, Any]:
        node, given = self.store.node(call.user, node_id), call.object("add_assignment")
        people = [self.store.member(whole("assignees", one))["id"] for one in given.get("assignees") or []]
        if not given.get("subject") or not people:
            raise Refusal(400, "Missing required parameter: add_assignment with subject and assignees")
        with self.store.transaction():
            self.store.db.execute(
                "INSERT INTO xgov_assignment VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    self._number("xgov_assignment"),
                    node["id"],
                    str(given["subject"]),
                    str(given.get("instruction") or ""),
                    json.dumps(people),
                    call.user,
                    now(),
                ),
            )
        return envelope(call, {"ok": True, "id": node_id})
