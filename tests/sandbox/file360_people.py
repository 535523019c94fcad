"""Users, guests, groups, shares and links of the File 360 stand-in.

The calls of users, guests and groups are those of OpenText's own client, ``pyxecm.coreshare``.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from starlette.responses import Response

from tests.sandbox.ecm_wire import Api, Call, Refusal, content, truth
from tests.sandbox.file360_content import KINDS, Content
from tests.sandbox.file360_store import COLLABORATOR, DOCUMENT, FOLDER, MANAGER, OWNER, VIEWER, Row, Store, told

STATUSES = ("internal-native", "internal", "external", "any")


def register(store: Store, api: Api, content_: Content) -> None:
    """Put the endpoints on ``api``."""
    people(store, api, content_)
    teams(store, api, content_)
    sharing(store, api, content_)
    linking(store, api, content_)


def administrator(store: Store, call: Call) -> None:
    if not store.users[call.user]["isAdmin"]:
        raise Refusal(403, "Only an administrator of the tenant may do this")


def found(table: dict[int, Row], id: str, what: str) -> Row:
    row = table.get(int(id)) if id.isascii() and id.isdecimal() else None
    if row is None:
        raise Refusal(404, f"There is no such {what}: {id}")
    return row


def account(store: Store, content_: Content, user: Row) -> dict[str, Any]:
    root = store.nodes[user["rootId"]]
    return {
        **content_.user(user["id"]),
        "title": user["title"],
        "company": user["company"],
        "state": user["state"],
        "isEnabled": user["state"] == "enabled",
        "isConfirmed": user["state"] != "pending",
        "isAdmin": user["isAdmin"],
        "isExternal": store.outside(user["email"]),
        "accessRoles": user["accessRoles"],
        "quota": user["quota"],
        "createdAt": user["created"],
        "rootId": str(user["rootId"]),
        "userRoot": {"id": str(root["id"]), "name": root["name"], "childCount": str(len(store.children(root["id"])))},
    }


def people(store: Store, api: Api, content_: Content) -> None:
    @api.get("/api/v1/users")
    def users(call: Call) -> Any:
        administrator(store, call)
        return [account(store, content_, user) for user in store.users.values()]

    @api.get("/api/v1/users/{id}")
    def user(call: Call, id: str) -> Any:
        one = store.users[call.user] if id == "me" else found(store.users, id, "user")
        return account(store, content_, one)

    @api.put("/api/v1/users/{id}")
    def update(call: Call, id: str) -> Any:
        one = found(store.users, id, "user")
        if one["id"] != call.user:
            administrator(store, call)
        given = call.values
        if ("newpassword" in given or "email" in given) and given.get("password") != one["password"]:
            raise Refusal(403, "The password is not the account's")
        if "newpassword" in given:
            one["password"] = str(given["newpassword"])
        if "resend" in given:
            one["invited"] += 1
        if "isAdmin" in given:
            administrator(store, call)
            one["isAdmin"] = truth(given["isAdmin"])
        if (state := given.get("state")) is not None:
            administrator(store, call)
            if state not in ("enabled", "disabled", "locked"):
                raise Refusal(400, "state is enabled, disabled or locked")
            one["state"] = state
        one.update({key: given[key] for key in ("firstName", "lastName", "title", "company", "email", "quota") if key in given})
        return account(store, content_, store.users.put(one))

    @api.put("/api/v1/users/{id}/roles/{role}")
    def add_role(call: Call, id: str, role: str) -> Any:
        return roles(call, id, {int(role)}, set())

    @api.delete("/api/v1/users/{id}/roles/{role}")
    def remove_role(call: Call, id: str, role: str) -> Any:
        return roles(call, id, set(), {int(role)})

    def roles(call: Call, id: str, more: set[int], fewer: set[int]) -> Any:
        administrator(store, call)
        one = found(store.users, id, "user")
        one["accessRoles"] = sorted(({*one["accessRoles"]} | more) - fewer)
        return account(store, content_, store.users.put(one))

    @api.post("/api/v3/users/{id}/photo")
    def photo(call: Call, id: str) -> Any:
        one = found(store.users, id, "user")
        if not call.body.files:
            raise Refusal(400, "Missing part: file")
        return account(store, content_, one)

    @api.post("/api/v1/invites")
    def invite(call: Call) -> Any:
        administrator(store, call)
        if store.user_with(call.text("email")):
            raise Refusal(409, f"A user with the address '{call.text('email')}' already exists")
        return account(store, content_, store.add_user(**call.values | {"state": "pending"}))

    @api.post("/api/v1/invites/accept", anyone=True)
    def accept(call: Call) -> Any:
        """What somebody does who got the mail."""
        one = store.user_with(call.text("email"))
        if one is None or one["state"] != "pending":
            raise Refusal(404, "There is no such invitation")
        one.update(state="enabled", password=call.text("password"))
        return account(store, content_, store.users.put(one))

    def empty(call: Call, id: str) -> Any:
        one = found(store.users, id, "user")
        if one["id"] != call.user:
            administrator(store, call)
        gone = [node for node in store.nodes.values() if node["deleted"] and store.owner(node) == one["id"]]
        for node in gone:
            if node["id"] in store.nodes:  # else it went with the folder around it
                store.purge(node, call.user)
        return {"success": True, "count": len(gone)}

    # One version of OpenText's client deletes, another puts.
    api.delete("/api/v3/users/{id}/emptyAllTrash")(empty)
    api.put("/api/v3/users/{id}/emptyAllTrash")(empty)

    @api.get("/search/v1/user/{status}")
    def search(call: Call, status: str) -> Any:
        wanted = (call.asked("q") or "").casefold()
        if status == "group-all":
            return {"results": [team(store, one) for one in store.groups.values() if wanted in one["name"].casefold()]}
        if status not in STATUSES:
            raise Refusal(400, f"{status}: choose from {', '.join((*STATUSES, 'group-all'))}")
        told_ = [account(store, content_, user) for user in store.users.values()]
        fits = [
            one
            for one in told_
            if (wanted in one["displayName"].casefold() or wanted in one["email"].casefold())
            and (status == "any" or one["isExternal"] == (status == "external"))
        ]
        return {"results": fits[: call.asked_number("pageSize", 25)]}


def team(store: Store, group: Row) -> dict[str, Any]:
    return {
        "id": str(group["id"]),
        "type": "group",
        "tenantId": store.seed["tenant"],
        "name": group["name"],
        "displayName": group["name"],
        "description": group["description"],
        "createdAt": group["created"],
        "state": "enabled",
        "isEnabled": True,
        "memberCount": len(group["members"]),
        "uri": f"/api/v1/groups/{group['id']}",
    }


def teams(store: Store, api: Api, content_: Content) -> None:
    @api.get("/api/v1/groups")
    def groups(call: Call) -> Any:
        offset, count = call.asked_number("offset", 0), call.asked_number("count", 25)
        every = list(store.groups.values())
        links = {"self": {"href": f"/api/v1/groups?offset={offset}&count={count}"}}
        if offset + count < len(every):
            links["next"] = {"href": f"/api/v1/groups?offset={offset + count}&count={count}"}
        return {"_links": links, "results": [team(store, one) for one in every[offset : offset + count]]}

    @api.post("/api/v1/groups")
    def add(call: Call) -> Any:
        administrator(store, call)
        if any(one["name"].casefold() == call.text("name").casefold() for one in store.groups.values()):
            raise Refusal(409, f"A group with the name '{call.text('name')}' already exists")
        return team(store, store.add_group(call.text("name"), str(call.one("description", ""))))

    @api.get("/api/v1/groups/{id}")
    def get(call: Call, id: str) -> Any:
        return team(store, found(store.groups, id, "group"))

    @api.get("/api/v1/groups/{id}/members")
    def members(call: Call, id: str) -> Any:
        group = found(store.groups, id, "group")
        everybody = [
            {**account(store, content_, store.users[int(user)]), "isSpecificGroupAdmin": leads}
            for user, leads in group["members"].items()
        ]
        return {
            "groupMembers": [one for one in everybody if one["isConfirmed"]],
            "pending": [one for one in everybody if not one["isConfirmed"]],
            "count": len(everybody),
        }

    def each_member(call: Call, id: str, change: Any) -> Any:
        administrator(store, call)
        group, answers = found(store.groups, id, "group"), []
        for email in call.many("members"):
            user = store.user_with(email)
            trouble = {"code": "userMissing", "message": f"There is no user {email}"} if user is None else change(group, user)
            answer = {"member": email, "success": not trouble}
            answers.append({**answer, "errors": [trouble]} if trouble else {**answer, "user": content_.user(user["id"])})  # type: ignore[index]
        store.groups.put(group)
        return answers

    @api.post("/api/v1/groups/{id}/members")
    def join(call: Call, id: str) -> Any:
        def change(group: Row, user: Row) -> dict[str, str] | None:
            if str(user["id"]) in group["members"]:
                return {"code": "groupInvitationExists", "message": "The user has already been invited to the group"}
            group["members"][str(user["id"])] = truth(call.one("specificGroupRole", False))
            return None

        return each_member(call, id, change)

    @api.delete("/api/v1/groups/{id}/members")
    def leave(call: Call, id: str) -> Any:
        def change(group: Row, user: Row) -> dict[str, str] | None:
            gone = group["members"].pop(str(user["id"]), None)
            return {"code": "notAMember", "message": "The user is not in the group"} if gone is None else None

        return each_member(call, id, change)

    @api.get("/api/v1/groups/{id}/shares/incoming")
    def incoming(call: Call, id: str) -> Any:
        who = f"group:{found(store.groups, id, 'group')['id']}"
        shared = [node for node in store.nodes.values() if who in store.collaborators(node) and not store.deleted(node)]
        return {"shares": [content_.described(node, call.user) for node in shared], "count": len(shared)}


# --------------------------------------------------------------------------------------------- who may do what with a folder


def expiry(store: Store, call: Call) -> str | None:
    """When what a call shares is to end."""
    days, until = call.one("days_to_expire"), call.one("expiration")
    if days is not None and until is not None:
        raise Refusal(400, "days_to_expire or expiration, not both")
    if days is not None:
        return told(store.now() + timedelta(days=int(days)))
    return None if until is None else told(datetime.fromisoformat(str(until)))


def sharing(store: Store, api: Api, content_: Content) -> None:
    def collaborators(folder: Row) -> list[dict[str, Any]]:
        return [
            {**collaborator(who), "role": role, "expiration": folder.get("until", {}).get(who)}
            for who, role in store.collaborators(folder).items()
        ]

    def collaborator(who: str) -> dict[str, Any]:
        kind, _, id = who.partition(":")
        return team(store, store.groups[int(id)]) if kind == "group" else account(store, content_, store.users[int(id)])

    @api.get("/api/v1/folders/{id}/collaborators")
    def several(call: Call, id: str) -> Any:
        return collaborators(content_.node(call, id, FOLDER))

    @api.post("/api/v1/folders/{id}/collaborators")
    def share(call: Call, id: str) -> Any:
        """With all of them, or with nobody. An address that nobody has is a guest's, who is invited by this.

        What one call gives is given again by another: role and end are those of the last one.
        """
        folder, until = content_.node(call, id, FOLDER, MANAGER), expiry(store, call)
        asked: list[tuple[str, int]] = []
        for member in call.many("members"):
            role = int(member.get("role", VIEWER))
            if role not in (VIEWER, COLLABORATOR, MANAGER) or role > store.role(call.user, folder):
                raise Refusal(400, "role is 1 (viewer), 2 (collaborator) or 3 (manager), and not more than your own")
            if "groupId" in member:
                group = found(store.groups, str(member["groupId"]), "group")
                mails = [store.users[int(user)]["email"] for user in group["members"]]
                asked.append((f"group:{group['id']}", role))
            else:
                mails = [str(member.get("email", ""))]
                if "@" not in mails[0]:
                    raise Refusal(400, "A member has an email or a groupId")
                asked.append((mails[0], role))
            content_.allow_outside(call, any(map(store.outside, mails)))
        for who, role in asked:
            if not who.startswith("group:"):
                who = f"user:{(store.user_with(who) or store.add_user(email=who))['id']}"
            folder["collaborators"][who] = role
            ends = folder.setdefault("until", {})
            ends.pop(who, None)
            if until is not None:
                ends[who] = until
            store.note("Share", call.user, folder, f"{who} as {role}")
        store.nodes.put(folder)
        return collaborators(folder)

    def unshare(call: Call, folder: Row, gone: set[str]) -> Any:
        for who in gone & folder["collaborators"].keys():
            del folder["collaborators"][who]
            store.note("Unshare", call.user, folder, who)
        store.nodes.put(folder)
        return {"success": True}

    @api.delete("/api/v1/folders/{id}/collaborators")
    def stop(call: Call, id: str) -> Any:
        folder = content_.node(call, id, FOLDER, OWNER)
        return unshare(call, folder, {*folder["collaborators"]})

    @api.delete("/api/v1/folders/{id}/collaborators/{user}")
    def leave(call: Call, id: str, user: str) -> Any:
        folder = content_.node(call, id, FOLDER, VIEWER if user == str(call.user) else MANAGER)
        if f"user:{user}" not in folder["collaborators"]:
            raise Refusal(404, f"The folder is not shared with {user}")
        return unshare(call, folder, {f"user:{user}"})

    @api.delete("/api/v1/folders/{id}/collaboratorsAsAdmin/{group}")
    def revoke(call: Call, id: str, group: str) -> Any:
        administrator(store, call)
        folder = found(store.nodes, id, "folder")
        if f"group:{group}" not in folder["collaborators"]:
            raise Refusal(404, f"The folder is not shared with {group}")
        return unshare(call, folder, {f"group:{group}"})


# --------------------------------------------------------------------------------------------- links


def linking(store: Store, api: Api, content_: Content) -> None:
    def link_of(link: Row) -> dict[str, Any]:
        return {
            "id": str(link["id"]),
            "recipient": {"type": "public_link"},
            "shared_entity": {"type": link["kind"], "id": str(link["node"])},
            "sharer": content_.user(link["sharer"]),
            "sharing_date": link["created"],
            "expiration": link["expiration"],
            "access": {"role": "VIEWER", "sharing": {"public_link": True}},
            "comment": link["comment"],
            "permalinks": [{"rel": "content", "href": f"/api/v1/s/{link['token']}/contents"}],
        }

    def add(word: str, kind: str) -> None:
        @api.get(f"/api/v1/{word}/{{id}}/shares")
        def links(call: Call, id: str) -> Any:
            node = content_.node(call, id, kind)
            return [link_of(one) for one in store.links.values() if one["node"] == node["id"] and store.open_link(one)]

        @api.post(f"/api/v1/{word}/{{id}}/shares")
        def link(call: Call, id: str) -> Any:
            node = content_.node(call, id, kind, MANAGER)
            content_.allow_outside(call, True)
            row = {
                "id": store.new_id(),
                "node": node["id"],
                "kind": kind,
                "sharer": call.user,
                "created": store.stamp(),
                "expiration": expiry(store, call),
                "comment": str(call.one("comment", "")),
            }
            row["token"] = api.tickets.issue(0, kind="link", session=str(row["id"]))
            store.note("Link", call.user, node, str(row["expiration"] or "without end"))
            return link_of(store.links.put(row))

    for word, kind in KINDS.items():
        add(word, kind)

    @api.delete("/api/v1/shares/{id}")
    def close(call: Call, id: str) -> Any:
        link = found(store.links, id, "share")
        node = content_.node(call, str(link["node"]), None, MANAGER)
        store.links.drop(link["id"])
        store.note("Link closed", call.user, node)
        return {"success": True}

    @api.get("/api/v1/s/{token}/contents", anyone=True)
    def contents(call: Call, token: str) -> Any:
        link = next((one for one in store.links.values() if one["token"] == token), None)
        node = store.nodes.get(link["node"]) if link else None
        if link is None or node is None or node["kind"] != DOCUMENT or store.deleted(node) or not store.open_link(link):
            raise Refusal(404, "This link shows nothing, or nothing any more")
        version = store.versions_of(node)[-1]
        store.note("Download by link", link["sharer"], node)
        response: Response = content(store.contents / str(version["id"]), version["size"], version["name"], version["mimeType"])
        return response
