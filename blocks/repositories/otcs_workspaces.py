"""Business workspaces of one Content Server: looked up by what they are about, made from templates, with their roles and relations.

A workspace is about a business object of an external system (``BusinessObject``): that is its identity, its name is only how people
call it. ``ensure`` gives the one workspace of an object, however often and from wherever it is asked:

- Where roles are to be filled, or another workspace is to be its parent, the reference is set last. So whatever is found by its
  reference is complete, and people's later changes to it are never undone. A half-done one (a kill, a lost answer) has its name and
  no reference yet: it is completed.
- A name lets only one node be, and the name is made of the reference (the terms see to that). So two that create the same workspace
  at once end at the same one.
- Two partners' files may name one new object at once, each by a name of its own or below a workspace of its own. The reference is
  set once: who comes second removes what it has just made, and takes the other one. A half-done workspace below another partner's
  is not touched; of two that relate it at the same moment, the one with the older workspace keeps it and takes the other's relation
  off, and the other's file waits for a person.

A workspace of that name that is about something else, or was made from another template, is never touched: ``Unfit``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from blocks.errors import DocumentMissing, RepositoryError, RepositoryUnreachable
from blocks.repositories.once import Once
from blocks.repositories.otcs_names import Names, Unfit, kept_name, last_page, one_result, properties
from blocks.repositories.otcs_nodes import Nodes
from blocks.repositories.otcs_wire import AnswerLost, Json, NameTaken, Refusal, Wire, pauses
from blocks.values import BusinessObject, InWorkspace

WORKSPACE = "848"
PAGE = 100


@dataclass(frozen=True, slots=True)
class WorkspaceType:
    """A kind of workspace, with the templates from which one can be made (name -> id)."""

    id: int
    name: str
    templates: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Workspace:
    id: int
    name: str
    type_id: int | None
    template_id: int | None
    objects: tuple[BusinessObject, ...] = ()
    """What it is about; empty where that was not asked for."""


@dataclass(frozen=True, slots=True)
class Role:
    """A role of one workspace, with the logins or names of those who are in it."""

    id: int
    name: str
    leader: bool
    members: tuple[str, ...] = ()


class Workspaces:
    """The business workspaces of one signed-in account."""

    def __init__(self, wire: Wire, names: Names, nodes: Nodes) -> None:
        self._wire, self._names, self._nodes = wire, names, nodes
        # What another partner's files call by the same reference is a question of its own: is it below theirs?
        self._ensured = Once[tuple[BusinessObject, BusinessObject | None], int]()
        self._types = Once[None, tuple[WorkspaceType, ...]]()

    # ------------------------------------------------------------------------------------------------- the one workspace

    def ensure(self, wanted: InWorkspace) -> int:
        """The id of the object's workspace, made from the template if there is none. Raises ``Unfit``."""
        return self._ensured.get((wanted.about, wanted.below), lambda: self._ensure(wanted))

    def forget(self, about: BusinessObject) -> None:
        """What is remembered about an object's workspace has turned out to be stale."""
        self._ensured.forget_where(lambda known: known[0] == about)

    def _ensure(self, wanted: InWorkspace) -> int:
        about = wanted.about
        for _ in pauses():
            found = self.find(about)
            if found is not None:
                self._belongs(found, wanted)
                return found.id
            if wanted.template is None:
                raise Unfit(
                    "no-workspace", f"there is no workspace of {about.shown}, and the profile names no template for one"
                )
            made: int | None = None
            try:
                id = self._named(wanted)
                if id is None:
                    id, fresh = self._create(wanted)
                    made = id if fresh else None
                self._complete(id, wanted)
            except AnswerLost:
                continue  # look again: whatever was done is found, and completed
            except Unfit:
                other = self.find(about)
                if other is None or other.id == made:
                    raise
                if made is not None:
                    # Somebody was quicker, under another name. Ours is about nothing and holds nothing.
                    self._nodes.delete(made)
                self._belongs(other, wanted)
                return other.id
            return id
        raise RepositoryUnreachable(
            f"workspace of {about.shown} at {self._wire.url}: no answer tells that it is complete; filing again completes it"
        )

    def _belongs(self, found: Workspace, wanted: InWorkspace) -> None:
        """What a partner calls a reference may be another partner's. Raises ``Unfit``."""
        if wanted.below is not None and not self._is_below(found.id, self._above(wanted.below)):
            raise Unfit(
                "foreign-workspace",
                f"the workspace of {wanted.about.shown} is no child of that of {wanted.below.shown}; relate them if it should be",
            )

    def _is_below(self, child: int, parent: int) -> bool:
        """Asked upwards: a partner may have thousands of workspaces below its own, and each of these has few above it."""
        return any(one.id == parent for one in self.related(child, "parent"))

    def _above(self, below: BusinessObject) -> int:
        above = self.find(below)
        if above is None:
            raise Unfit("no-workspace", f"there is no workspace of {below.shown}, below which others are filed into")
        return above.id

    def _create(self, wanted: InWorkspace) -> tuple[int, bool]:
        """The workspace's id, and whether it was made here: else somebody was quicker."""
        kind, template = self._template(str(wanted.template))
        self._fits(wanted, template)
        name = kept_name(wanted.name)
        body: Json = {
            "template_id": str(template),
            "wksp_type_id": str(kind.id),
            "type": WORKSPACE,
            "name": name,
            "description": "",
            "roles": {},
        }
        if not wanted.roles and wanted.below is None:
            body |= _reference(wanted.about)
        what = f"workspace {name!r}"
        try:
            results = one_result(self._wire.write(what, "POST", "v2/businessworkspaces", body=body), what)
        except NameTaken as taken:
            found_id = self._named(wanted)  # somebody has just made it
            if found_id is None:
                raise Unfit(
                    "workspace-name-taken", f"{name!r} is taken by something that is no workspace of this type"
                ) from taken
            return found_id, False
        except Refusal as refusal:
            found = self.find(wanted.about)
            if found is None:
                raise Unfit("workspace-refused", refusal.text) from refusal
            self._belongs(found, wanted)
            return found.id, False
        if not isinstance(results.get("id"), int):
            raise AnswerLost(f"{what} at {self._wire.url}: the answer holds no id")
        return int(results["id"]), True

    def _fits(self, wanted: InWorkspace, template: int) -> None:
        """Every name means something, so that nothing is made for one that does not. Raises ``Unfit``."""
        if wanted.below is not None:
            self._above(wanted.below)
        known = {role.name.casefold() for role in self.roles(template)} if wanted.roles else set()
        for name, logins in wanted.roles.items():
            if name.casefold() not in known:
                raise Unfit("unknown-role", f"template {wanted.template!r} has no role {name!r}")
            for login in logins:
                self._names.member(login)

    def _named(self, wanted: InWorkspace) -> int | None:
        """The half-done workspace under the wanted name; None if nothing has it. Raises ``Unfit`` for another one."""
        kind, template = self._template(str(wanted.template))
        name = kept_name(wanted.name)
        same = [one for one in self.look(type_id=kind.id, name=name) if one.name.casefold() == name.casefold()]
        for one in same:
            found = self.get(one.id)
            if found.objects and wanted.about not in found.objects:
                raise Unfit("workspace-name-taken", f"workspace {name!r} (node {one.id}) is about {found.objects[0].shown}")
            if found.template_id not in (None, template):
                raise Unfit("workspace-name-taken", f"workspace {name!r} (node {one.id}) was made from another template")
            return one.id
        return None

    def _complete(self, id: int, wanted: InWorkspace) -> None:
        """Relate it, fill the roles, then set the reference: in that order, because the reference says that all is done."""
        if wanted.about in self.get(id).objects:  # somebody has just completed it
            self._belongs(self.get(id), wanted)
            return
        above = None if wanted.below is None else self._relate_below(id, wanted, wanted.below)
        roles = {role.name.casefold(): role for role in self.roles(id)} if wanted.roles else {}
        for name, logins in wanted.roles.items():
            role = roles.get(name.casefold())
            if role is None:
                raise Unfit("unknown-role", f"workspace {wanted.name!r} has no role {name!r}")
            held = {login.casefold() for login in role.members}
            for login in logins:
                if login.casefold() not in held:
                    self.add_member(id, role.id, login)
        if above is not None:
            self._keep(id, wanted, above)
        self.bind(id, wanted.about)
        if above is not None:
            self._belongs(self.get(id), wanted)  # not taken off by another who saw it before it was bound
            for other in self._parents(id) - {above}:  # it came too late, and may not live to see that itself
                self.unrelate(other, id)

    def _relate_below(self, id: int, wanted: InWorkspace, below: BusinessObject) -> int:
        """Make a half-done workspace a child of the partner's own, unless it is another partner's; its own. Raises ``Unfit``."""
        above = self._above(below)
        if self._parents(id) - {above}:
            raise _foreign(wanted)
        self.relate(above, id)
        self._keep(id, wanted, above)
        return above

    def _keep(self, id: int, wanted: InWorkspace, above: int) -> None:
        """Of several who related a half-done workspace at the same moment, one keeps it. Raises ``Unfit`` for the others.

        It takes their relations off: they may not live to do it, and what is left would let them in once it is complete.
        """
        parents = self._parents(id)
        if above not in parents:
            raise _foreign(wanted)
        others = parents - {above}
        if not others:
            return
        if min(others) > above and wanted.about not in self.get(id).objects:
            for other in others:
                self.unrelate(other, id)
            if wanted.about not in self.get(id).objects:
                return
            for other in others:
                self.relate(other, id)
        # What is complete by now was completed by them.
        self.unrelate(above, id)
        raise _foreign(wanted)

    def _parents(self, id: int) -> set[int]:
        return {one.id for one in self.related(id, "parent")}

    # ------------------------------------------------------------------------------------------------- looking

    def types(self) -> tuple[WorkspaceType, ...]:
        """The kinds of workspaces that this account may make."""

        def find() -> tuple[WorkspaceType, ...]:
            query = {"expand_templates": "true", "expand_wksp_info": "true"}
            answer = self._wire.ask("workspace types", "GET", "v2/businessworkspacetypes", query=query)
            found = []
            for entry in _results(answer, "workspace types"):
                told = _properties(entry)
                templates = {str(one["name"]): int(one["id"]) for one in told.get("templates") or []}
                found.append(WorkspaceType(int(told["wksp_type_id"]), str(told["wksp_type_name"]), templates))
            return tuple(found)

        return self._types.get(None, find)

    def _template(self, wanted: str) -> tuple[WorkspaceType, int]:
        """``Type/Template``, or ``Type`` where it has only one. Raises ``Unfit``."""
        type_name, _, template = wanted.partition("/")
        kind = next((one for one in self.types() if one.name.casefold() == type_name.casefold()), None)
        if kind is None:
            known = ", ".join(sorted(one.name for one in self.types())) or "none"
            raise Unfit("unknown-workspace-type", f"the repository has no workspace type {type_name!r}; it has: {known}")
        fits = [id for name, id in kind.templates.items() if not template or name.casefold() == template.casefold()]
        if len(fits) != 1:
            known = ", ".join(sorted(kind.templates)) or "none"
            raise Unfit("unknown-template", f"workspace type {kind.name!r}: {wanted!r} names none of its templates: {known}")
        return kind, fits[0]

    def find(self, about: BusinessObject) -> Workspace | None:
        """The workspace of a business object; None if it has none. Raises ``Unfit`` where the server does not know the system."""
        system, kind, id = (quote(part, safe="") for part in (about.system, about.type, about.id))
        if "/" in about.id:  # a path of the interface cannot hold it
            raise Unfit("bad-reference", f"{about.shown}: a business object's id cannot hold '/'")
        what = f"workspace of {about.shown}"
        try:
            answer = self._wire.ask(what, "GET", f"v2/externalsystems/{system}/botypes/{kind}/boids/{id}")
        except DocumentMissing:
            return None
        except Refusal as refusal:
            raise Unfit("unknown-business-object", refusal.text) from refusal
        results = answer.get("results")
        if isinstance(results, list):  # one of the documented shapes
            results = results[0] if results else None
        return None if not results else self._workspace(results, what)

    def get(self, id: int) -> Workspace:
        """A workspace and what it is about. Raises ``DocumentMissing``."""
        what = f"workspace {id}"
        answer = self._wire.ask(
            what, "GET", f"v2/businessworkspaces/{id}", query={"fields": ["properties", "workspace_references"]}
        )
        return self._workspace(one_result(answer, what), what)

    def look(
        self, *, type_id: int | None = None, name: str | None = None, about: BusinessObject | None = None
    ) -> Iterator[Workspace]:
        """Workspaces of a type, with a part of their name, or of an object; all without any."""
        query: dict[str, str | int | list[str]] = {"expanded_view": "true", "limit": PAGE}
        if type_id is not None:
            query["where_workspace_type_id"] = type_id
        if name is not None:
            query["where_name"] = f"contains_{name}"
        if about is not None:
            query |= {"where_ext_system_id": about.system, "where_bo_type": about.type, "where_bo_id": about.id}
        yield from (self._workspace(entry, "list of workspaces") for entry in self._pages("v2/businessworkspaces", query))

    def _pages(self, path: str, query: Mapping[str, Any]) -> Iterator[Json]:
        page = 1
        while True:
            answer = self._wire.ask("list of workspaces", "GET", path, query={**query, "page": page})
            results = _results(answer, "list of workspaces")
            yield from results
            if not results or page >= last_page(answer, page + 1):
                return
            page += 1

    def _workspace(self, entry: Json, what: str) -> Workspace:
        told = properties(entry, f"{what} at {self._wire.url}")
        references = entry["data"].get("workspace_references") or []
        objects = (
            BusinessObject(str(one["external_system_id"]), str(one["business_object_type"]), str(one["business_object_id"]))
            for one in references
        )
        return Workspace(
            told["id"],
            str(told.get("name", "")),
            told.get("wnf_wksp_type_id"),
            told.get("wnf_wksp_template_id"),
            tuple(objects),
        )

    # ------------------------------------------------------------------------------------------------- references

    def bind(self, id: int, about: BusinessObject) -> None:
        """Say what a workspace is about. Setting it again changes nothing, so a lost answer is settled by looking."""
        self._changed(id, about, True)

    def unbind(self, id: int, about: BusinessObject) -> None:
        self._changed(id, about, False)
        self.forget(about)

    def _changed(self, id: int, about: BusinessObject, wanted: bool) -> None:
        what = f"reference of workspace {id} to {about.shown}"
        lost = False
        for _ in pauses():
            if (about in self.get(id).objects) is wanted:
                return
            try:
                self._wire.write(
                    what,
                    "PUT" if wanted else "DELETE",
                    f"v2/businessworkspaces/{id}/workspacereferences",
                    fields=_reference(about),
                )
            except AnswerLost:
                lost = True
                continue
            except Refusal as refusal:
                if lost:  # by the call before, whose answer was lost, and which came to its end only now?
                    lost = False
                    continue
                raise Unfit("reference-refused", refusal.text) from refusal
            return
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells whether it was set; it is safe to try again")

    # ------------------------------------------------------------------------------------------------- roles

    def roles(self, id: int) -> tuple[Role, ...]:
        """The roles of a workspace and who is in them."""
        found = []
        for entry in _results(self._wire.ask(f"roles of workspace {id}", "GET", f"v2/businessworkspaces/{id}/roles"), "roles"):
            told = _properties(entry)
            role = int(told["id"])
            members = tuple(str(one.get("name", "")) for one in self._members(id, role))
            found.append(Role(role, str(told.get("name", "")), bool(told.get("leader")), members))
        return tuple(found)

    def _members(self, id: int, role: int) -> list[Json]:
        what = f"members of role {role}"
        answer = self._wire.ask(what, "GET", f"v2/businessworkspaces/{id}/roles/{role}/members")
        return [_properties(entry) for entry in _results(answer, what)]

    def add_member(self, id: int, role: int, login: str) -> None:
        """Put a user or group into a role; nothing happens where they are in it. Raises ``Unfit`` for an unknown account."""
        member = self._names.member(login)
        self._set_member(id, role, member, f"{login} in role {role} of workspace {id}", True)

    def remove_member(self, id: int, role: int, login: str) -> None:
        member = self._names.member(login)
        self._set_member(id, role, member, f"{login} out of role {role} of workspace {id}", False)

    def _set_member(self, id: int, role: int, member: int, what: str, wanted: bool) -> None:
        path = f"v2/businessworkspaces/{id}/roles/{role}/members"
        lost = False
        for _ in pauses():
            if (member in {one.get("id") for one in self._members(id, role)}) is wanted:
                return
            try:
                if wanted:
                    self._wire.write(what, "POST", path, fields={"id": member})
                else:
                    self._wire.write(what, "DELETE", f"{path}/{member}")
            except (AnswerLost, NameTaken):
                lost = True
                continue
            except Refusal as refusal:
                if lost:  # by the call before, whose answer was lost, and which came to its end only now?
                    lost = False
                    continue
                raise Unfit("role-refused", refusal.text) from refusal
            return
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells whether it was done; it is safe to try again")

    # ------------------------------------------------------------------------------------------------- related workspaces

    def related(self, id: int, kind: str = "child") -> Iterator[Workspace]:
        """Workspaces below (``child``) or above (``parent``) one."""
        query = {"where_relationtype": kind, "limit": PAGE}
        entries = self._pages(f"v2/businessworkspaces/{id}/relateditems", query)
        yield from (self._workspace(entry, f"relations of workspace {id}") for entry in entries)

    def relate(self, id: int, other: int, kind: str = "child") -> None:
        """Make ``other`` the child (or parent) of a workspace; nothing happens where it is."""
        self._set_relation(id, other, kind, True)

    def unrelate(self, id: int, other: int, kind: str = "child") -> None:
        self._set_relation(id, other, kind, False)

    def _set_relation(self, id: int, other: int, kind: str, wanted: bool) -> None:
        what, path = f"relation of workspaces {id} and {other}", f"v2/businessworkspaces/{id}/relateditems"
        child, parent = (other, id) if kind == "child" else (id, other)
        lost = False
        for _ in pauses():
            if self._is_below(child, parent) is wanted:
                return
            try:
                if wanted:
                    self._wire.write(what, "POST", path, fields={"rel_bw_id": other, "rel_type": kind})
                else:
                    self._wire.write(what, "DELETE", f"{path}/{other}?rel_type={quote(kind)}")
            except (AnswerLost, NameTaken):
                lost = True
                continue
            except (Refusal, DocumentMissing):
                if not lost:
                    raise
                lost = False  # by the call before, whose answer was lost, and which came to its end only now?
                continue
            return
        raise RepositoryUnreachable(f"{what} at {self._wire.url}: no answer tells whether it was done; it is safe to try again")

    # ------------------------------------------------------------------------------------------------- external systems

    def systems(self) -> list[str]:
        """Names of the external systems that the server knows."""
        what = "external systems"
        answer = self._wire.ask(what, "GET", "v2/externalsystems")
        return [str(entry.get("external_system_name") or entry.get("id_extsystem")) for entry in _results(answer, what)]


def _foreign(wanted: InWorkspace) -> Unfit:
    below = wanted.below.shown if wanted.below else ""
    return Unfit(
        "foreign-workspace", f"the workspace of {wanted.about.shown} is being made below another one than that of {below}"
    )


def _reference(about: BusinessObject) -> dict[str, str]:
    return {"ext_system_id": about.system, "bo_type": about.type, "bo_id": about.id}


def _results(answer: Json, what: str) -> list[Json]:
    results = answer.get("results")
    if not isinstance(results, list):
        raise RepositoryError(f"{what}: the answer holds no list of results")
    return results


def _properties(entry: Json) -> Json:
    data = entry.get("data")
    found = data.get("properties") if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}
