"""What of File 360 is built, and what each call rests on, as a page: ``python -m tests.conformance.coverage.file360``."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tests.conformance.coverage.row import Row
from tests.sandbox.ecm_wire import Tickets
from tests.sandbox.file360 import File360Api, File360Faults, routes
from tests.sandbox.file360_store import Store
from tests.sandbox.routes import shape

PAGE = Path(__file__).parents[3] / "docs" / "file360.md"


class Rests(StrEnum):
    """What a call of the contract rests on."""

    CLIENT = "OpenText's client"
    SEEN = "public code"
    NAMED = "named by OpenText, form ours"
    OURS = "our decision"


@dataclass(frozen=True, slots=True)
class Call:
    """One call, what it rests on, our verbs that make it, methods of ``pyxecm.coreshare`` that do, and tests of it."""

    call: str
    rests: Rests
    client: tuple[str, ...] = ()
    pyxecm: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()

    def row(self) -> Row:
        """As the guard of Extended ECM's table checks one."""
        client = tuple(verb if verb.startswith("deployments.") else f"file360.{verb}" for verb in self.client)
        return Row(self.call, client, self.pyxecm, self.tests, why_not="its table tells what it rests on")


_OWN, _CORE, _FAULTS = (
    "repositories/test_file360.py::test_",
    "pyxecm/test_core_share.py::test_",
    "repositories/test_file360_faults.py::test_nothing_is_lost_and_nothing_doubled",
)
USERS, GROUPS, FOLDERS = (
    f"{_CORE}users_are_invited_found_and_changed",
    f"{_CORE}groups_have_members",
    f"{_CORE}folders_are_listed_shared_and_deleted",
)
_SHARED = "deployments.sender.sharing_file360.SharedFolders"
SHARES = "../sender/test_showing.py::test_the_sender_shares_a_folder_until_a_day_and_stops"
LEAVES, SIGNS_IN = f"{_CORE}somebody_leaves_a_share_and_is_cleaned_up", f"{_CORE}signs_in_both_ways"
BOTH_HOLDS, TRASH, COMMENTS, LINK = (
    f"{_OWN}a_hold_on_a_folder_holds_what_is_in_it",
    f"{_OWN}out_of_the_trash_and_for_ever_gone",
    f"{_OWN}comments_are_told_in_order",
    f"{_OWN}a_link_ends",
)
CHANGES, EVERY_ACCESS, ROLES, OUTSIDE = (
    f"{_OWN}changes_are_told_once_and_in_order",
    f"{_OWN}every_access_is_told_also_of_what_was_moved_away_or_is_gone_for_ever",
    f"{_OWN}roles_say_who_may_do_what",
    f"{_OWN}the_account_that_files_shows_nothing_to_anybody_outside",
)
RENAMED = f"{_OWN}a_workspace_that_was_renamed_before_it_was_finished_is_the_same_one"
GIVEN, OTHERS, OPENED, REMADE = (
    f"{_OWN}a_folder_is_given_to_exactly_those_who_were_agreed_before_anything_is_in_it",
    f"{_OWN}nothing_is_filed_where_somebody_else_gets_at_it",
    f"{_OWN}a_workspace_is_seen_by_nobody_before_it_stands_and_then_by_those_who_are_to",
    f"{_OWN}a_folder_removed_meanwhile_is_made_again",
)
_S = "File360Session"

ROWS: tuple[Call, ...] = (
    Call(
        "POST otdsws/oauth2/token",
        Rests.CLIENT,
        ("File360.signed_in",),
        ("authenticate_user",),
        (SIGNS_IN, f"{_OWN}a_person_s_login_files_into_their_own_files", f"{_OWN}the_bare_interface_is_signed_in"),
    ),
    Call("POST api/v1/sessions", Rests.CLIENT, (), ("authenticate_admin",), (SIGNS_IN,)),
    Call("GET api/v1/users", Rests.CLIENT, (), ("get_users",), (USERS,)),
    Call(
        "GET api/v1/users/{id}",
        Rests.CLIENT,
        (f"{_S}.me",),
        ("get_user_by_id",),
        (USERS, f"{_OWN}a_person_s_login_files_into_their_own_files"),
    ),
    Call(
        "PUT api/v1/users/{id}",
        Rests.CLIENT,
        (),
        ("resend_user_invite", "update_user", "update_user_password", "update_user_access_roles"),
        (USERS,),
    ),
    Call("PUT api/v1/users/{id}/roles/{role}", Rests.CLIENT, (), ("add_user_access_role",), (USERS,)),
    Call("DELETE api/v1/users/{id}/roles/{role}", Rests.CLIENT, (), ("remove_user_access_role",), (USERS,)),
    Call("POST api/v3/users/{id}/photo", Rests.CLIENT, (), ("update_user_photo",), (USERS,)),
    Call("POST api/v1/invites", Rests.CLIENT, (), ("add_user",), (USERS,)),
    Call("POST api/v1/invites/accept", Rests.OURS, (), (), (LEAVES,)),
    Call("DELETE api/v3/users/{id}/emptyAllTrash", Rests.CLIENT, (), ("empty_trash",), (FOLDERS,)),
    Call("PUT api/v3/users/{id}/emptyAllTrash", Rests.CLIENT, (), ("empty_trash",), (FOLDERS,)),
    Call(
        "GET search/v1/user/{status}",
        Rests.CLIENT,
        (f"{_S}.file", f"{_S}.lay_out"),
        ("get_user_by_name", "get_user_by_email", "search_users", "get_group_by_name", "search_groups"),
        (USERS, GROUPS, f"{_OWN}who_cannot_be_given_a_folder"),
    ),
    Call("GET api/v1/groups", Rests.CLIENT, (), ("get_groups", "get_groups_iterator"), (GROUPS,)),
    Call("POST api/v1/groups", Rests.CLIENT, (), ("add_group",), (GROUPS,)),
    Call("GET api/v1/groups/{id}", Rests.CLIENT, (), ("get_group_by_id",), (GROUPS,)),
    Call("GET api/v1/groups/{id}/members", Rests.CLIENT, (), ("get_group_members",), (GROUPS,)),
    Call("POST api/v1/groups/{id}/members", Rests.CLIENT, (), ("add_group_member",), (GROUPS,)),
    Call("DELETE api/v1/groups/{id}/members", Rests.CLIENT, (), ("remove_group_member",), (GROUPS,)),
    Call("GET api/v1/groups/{id}/shares/incoming", Rests.CLIENT, (), ("get_group_shares",), (FOLDERS,)),
    Call(
        "GET api/v1/folders/{id}/collaborators",
        Rests.OURS,
        (f"{_S}.file", f"{_S}.admit", f"{_SHARED}.seers"),
        (),
        (OUTSIDE, OTHERS, OPENED, SHARES),
    ),
    Call(
        "POST api/v1/folders/{id}/collaborators",
        Rests.NAMED,
        (f"{_S}.file", f"{_S}.admit", f"{_SHARED}.share"),
        (),
        (ROLES, OUTSIDE, GIVEN, OPENED, _FAULTS, SHARES),
    ),
    Call(
        "DELETE api/v1/folders/{id}/collaborators",
        Rests.CLIENT,
        (f"{_SHARED}.stop",),
        ("unshare_folder", "stop_share"),
        (FOLDERS, ROLES, SHARES),
    ),
    Call(
        "DELETE api/v1/folders/{id}/collaborators/{user}",
        Rests.CLIENT,
        (),
        ("leave_share", "cleanup_user_files"),
        (LEAVES,),
    ),
    Call(
        "DELETE api/v1/folders/{id}/collaboratorsAsAdmin/{group}",
        Rests.CLIENT,
        (),
        ("revoke_group_share", "cleanup_group_shares"),
        (FOLDERS,),
    ),
    Call("GET api/v1/folders/{id}/shares", Rests.NAMED, (f"{_SHARED}.stop",), (), (OUTSIDE, SHARES)),
    Call("POST api/v1/folders/{id}/shares", Rests.NAMED, (), (), (OUTSIDE,)),
    Call("GET api/v1/documents/{id}/shares", Rests.NAMED, (), (), (OUTSIDE,)),
    Call("POST api/v1/documents/{id}/shares", Rests.NAMED, (), (), (LINK,)),
    Call("DELETE api/v1/shares/{id}", Rests.NAMED, (f"{_SHARED}.stop",), (), (LINK, SHARES)),
    Call("GET api/v1/s/{token}/contents", Rests.SEEN, (), (), (LINK,)),
    Call("POST api/v1/folders", Rests.NAMED, (f"{_S}.file", f"{_S}.lay_out"), (), (REMADE, OPENED, _FAULTS)),
    Call(
        "GET api/v1/folders/{id}",
        Rests.OURS,
        (f"{_S}.file", f"{_S}.workspace", f"{_SHARED}.shared"),
        (),
        (REMADE, OPENED, SHARES),
    ),
    Call(
        "GET api/v1/folders/{id}/children",
        Rests.CLIENT,
        (f"{_S}.find", f"{_S}.look"),
        ("get_folders",),
        (FOLDERS, f"{_OWN}a_filing_below_a_folder_by_its_id", TRASH),
    ),
    Call("PUT api/v1/folders/{id}", Rests.CLIENT, (), ("delete_folder",), (FOLDERS,)),
    Call(
        "PUT api/v1/folders/{id}/retention",
        Rests.OURS,
        (f"{_S}.retain",),
        (),
        (f"{_OWN}rules_of_a_folder_keep_and_let_go",),
    ),
    Call("GET api/v1/folders/{id}/library_changes", Rests.NAMED, (f"{_S}.changes",), (), (CHANGES,)),
    Call("POST api/v3/documents", Rests.SEEN, (f"{_S}.file",), (), (f"{_OWN}a_token_that_ran_out_is_renewed_in_mid_upload",)),
    Call("GET api/v1/documents/{id}", Rests.NAMED, (f"{_S}.get", f"{_S}.was_removed"), (), (TRASH,)),
    Call("PUT api/v1/documents/{id}", Rests.CLIENT, (f"{_S}.remove",), ("delete_document",), (FOLDERS, TRASH)),
    Call(
        "GET api/v1/documents/{id}/versions",
        Rests.NAMED,
        (f"{_S}.filed_by",),
        (),
        (f"{_OWN}a_version_of_somebody_else_leaves_our_values",),
    ),
    Call("GET api/v1/documents/{id}/content", Rests.NAMED, (), (), (f"{_OWN}the_newest_content_has_an_address_of_its_own",)),
    Call(
        "GET api/v1/documents/{id}/versions/{version}/content",
        Rests.NAMED,
        (f"{_S}.fetch",),
        (),
        (f"{_OWN}a_large_file_passes_in_bounded_memory",),
    ),
    Call("PUT api/v1/documents/{id}/lock", Rests.NAMED, (f"{_S}.remove",), (), (_FAULTS,)),
    Call("DELETE api/v1/documents/{id}/lock", Rests.NAMED, (f"{_S}.let_stand",), (), (_FAULTS,)),
    Call("GET api/v1/folders/{id}/holds", Rests.OURS, (), (), (BOTH_HOLDS,)),
    Call("POST api/v1/folders/{id}/holds", Rests.OURS, (), (), (BOTH_HOLDS,)),
    Call("DELETE api/v1/folders/{id}/holds/{hold}", Rests.OURS, (), (), (BOTH_HOLDS,)),
    Call("GET api/v1/documents/{id}/holds", Rests.OURS, (f"{_S}.holds",), (), (BOTH_HOLDS,)),
    Call(
        "POST api/v1/documents/{id}/holds",
        Rests.OURS,
        (f"{_S}.apply_hold",),
        (),
        (f"{_OWN}rules_of_a_folder_keep_and_let_go", _FAULTS),
    ),
    Call("DELETE api/v1/documents/{id}/holds/{hold}", Rests.OURS, (f"{_S}.lift_hold",), (), (_FAULTS,)),
    Call("GET api/v1/documents/{id}/preview", Rests.NAMED, (), (), (EVERY_ACCESS,)),
    Call("GET api/v1/folders/{id}/audit", Rests.NAMED, (f"{_S}.named_by", f"{_S}.trail"), (), (BOTH_HOLDS, RENAMED)),
    Call(
        "GET api/v1/documents/{id}/audit",
        Rests.NAMED,
        (f"{_S}.history",),
        (),
        ("repositories/test_contract.py::test_contract",),
    ),
    Call("GET api/v1/folders/{id}/replies", Rests.NAMED, (), (), (COMMENTS,)),
    Call("POST api/v1/folders/{id}/replies", Rests.NAMED, (), (), (COMMENTS,)),
    Call("GET api/v1/documents/{id}/replies", Rests.NAMED, (f"{_S}.comments",), (), (COMMENTS,)),
    Call("POST api/v1/documents/{id}/replies", Rests.NAMED, (f"{_S}.comment",), (), (COMMENTS,)),
    Call("PUT api/v1/replies/{id}", Rests.NAMED, (), (), (COMMENTS,)),
    Call("DELETE api/v1/replies/{id}", Rests.NAMED, (), (), (COMMENTS,)),
    Call("GET search/v1/resources", Rests.OURS, (f"{_S}.search",), (), ("repositories/test_contract.py::test_contract",)),
)

_BEGINNING = """\
# File 360: what is built, and what it rests on

Made by `python -m tests.conformance.coverage.file360`; do not edit.

No reference of File 360's interface is public. So the repository (`blocks/repositories/file360.py`) and the stand-in that it is tested
with (`python -m tests.sandbox serve file360`) speak an interface in the shape of Core Share's, and each call below says what it rests on:

- **OpenText's client**: `pyxecm.coreshare` makes it, and drives the stand-in with it in every test run, every call it has.
- **public code**: somebody's program makes it.
- **named by OpenText, form ours**: that it can do this is documented (roles, a connector's operations, the sister product's reference);
  how the call looks is our decision.
- **our decision**: neither.

**A real tenant needs `blocks/repositories/file360.py` adapted, and nothing else.** What it then has to keep is asked by the conformance
suite of repositories. Three decisions matter most, because exactly-once rests on them: that `externalData` goes with an upload, is kept
per version and is told again; that `collisionStrategy=fail` refuses a taken name; that a document's versions can be listed.

Also ours: names are unique in a folder whatever their case, have no `/ \\ : * ? " < > |` and at most 255 characters; 423 for what
somebody else has locked; 409 with `code` `onHold` or `retention`; 403 with `code` `external` for an account that may not share with
anybody outside the tenant, also for an upload to a folder, or of a version of a document, that somebody outside can see; `externalData`
of a version holds journey, digest, category values and dates.

And of access: a folder is given to people and groups as viewer (1), collaborator (2) or manager (3), to all that a call names or to none;
who gets at a folder gets at all below it, by the strongest of all roles; its collaborators are those whom it was given to itself, and its
owner is whose files it is in; a group's guests show in `isSharedExternally`; given once more, only role and end change, for a share may
end by itself (`expiration`, or `days_to_expire`), as links do. What we make of `read`, `edit` and `full`: these roles;
`see` and `delete` have none (`no-such-role`). An address that nobody has is refused before it is asked for, for it would be invited.

And of workspaces: that a folder takes `externalData` when it is made, and tells it again: by that mark, and never by its name alone, a
workspace that was begun is known. A manager closes one by renaming it so that its name holds the agreed word (`[closed]`): that can be
done in its pages, nobody gets at more by it (as by moving it somebody might), and the trail tells who did.

Known of OpenText's client (3.6.2): `get_folders` documents a bare list, which `cleanup_user_files` reads as if it had `results`; with a
file in the user's folder it raises. `empty_trash` deletes there, and puts in later versions; the stand-in takes both.

## Calls

**client**: verbs in `blocks.repositories.file360`; those that show something outside are the sender's. **sandbox**: what answers in
`tests/sandbox`. **tests**: below `tests/conformance`.
A guard test fails for a line whose route, verb or test is not there, and for a route that no line names.
"""

_END = """\
## Faults

`repositories/test_file360_faults.py`: each verb that changes something meets, on each of its calls, what comes before (429 with
`Retry-After`, a 401 in mid-upload, a page, a burst of 503, a connection that ends), meanwhile (slow, late) and after (no answer, a page,
half an answer, no answer and then no server). Nothing is lost and nothing doubled; a person looks where a version or a comment may yet
be added by a server that has hung up. Questions meet them too. `make test` brings the telling ones, `make soak` all.

## Left out

Business workspaces and workflows (it has none), access of single documents (who gets at one gets at its folder), tags, likes. Sharing
outside is no verb of the repository: the workers' account must lack the right to it, and the sender's own shows only folders that it
has filled, and to which nobody else was let in (`deployments/sender/showing.py`). Access is given in that account's own files only:
below another one's folder, whose own folders cannot be seen, nobody can tell who gets at it (`access-unknown`).
"""


def answered() -> dict[str, str]:
    """Every call of the stand-in, by its shape, and the name of what answers."""
    with tempfile.TemporaryDirectory() as place:
        faults = File360Faults()
        store = Store(Path(place), faults)
        try:
            api = File360Api(tickets=Tickets(store.secret, faults), faults=faults, incoming=store.incoming)
            routes(store, api)
        finally:
            store.close()
    told = {shape(f"{method} {route.path[1:]}"): str(route.name) for method, route in api.routes}
    return {"POST otdsws/oauth2/token": "file360.token", **told}


def page() -> str:
    """The whole page."""
    names: Any = answered()
    cells = [("contract", "rests on", "client", "sandbox", "pyxecm", "tests"), ("---",) * 6]
    for one in ROWS:
        tests = tuple(test.removeprefix("repositories/") for test in one.tests)
        cells.append(
            (f"`{one.call}`", one.rests, codes(one.client), f"`{names[shape(one.call)]}`", codes(one.pyxecm), codes(tests))
        )
    return "\n".join([_BEGINNING, *(f"| {' | '.join(line)} |" for line in cells), "", _END])


def codes(texts: tuple[str, ...]) -> str:
    return ", ".join(f"`{text}`" for text in texts) or "-"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    print(f"{PAGE} written")
