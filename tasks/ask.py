"""Ask: open a round. Its row is in the ledger before anybody can see the form, and its key was never used before."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.input import RunInput
from prefect.settings import PREFECT_UI_URL
from pydantic import Field, WithJsonSchema, create_model

from blocks.ledger import Recorded
from blocks.outbound import Package, Round
from blocks.sender import Opened
from tasks.connections import ledger
from tasks.notify import notify
from tasks.order import Order, documents, sender
from tasks.previews import publish_previews
from tasks.retrying import task
from tasks.rules import dialog
from tasks.rules.dialog import AWAITS, listing, package_artifact, package_key, run_name, tags
from tasks.rules.notification import Notification
from tasks.rules.policy import Standing
from tasks.rules.signing import MOST_CHARACTERS, round_key
from tasks.since_last import decided_before, since_last


@dataclass(frozen=True, slots=True)
class Asking:
    """What the flow suspends itself with."""

    form: type[RunInput]
    key: str


@task(task_run_name="ask {order.id}")
def ask(order: Order) -> Asking:
    """Open the next round: the form as it will be shown, and a fresh key for its answer."""
    order.reload()
    with sender() as holder:
        # With each round anew: the sender may have come back from a backup, and it judges only what it was told of before.
        told = holder.open(order.matter, order.policies)
        order.learn(holder)  # from now on nobody can prove another request for it
        opened = _open(order, told)
        # A row that is open now was written by this very call, before its answer from the database was lost: nobody was asked yet.
        asked = order.open_round[0] if order.open_round else _fresh(order)
        form = _dialog(order, asked, _everything(order, opened), _link(opened.body.get("preview", "")))
        holder.ask(asked, form.shown)
    facts = {"n": asked.n, "key": asked.key, "run": asked.run, "digest": asked.digest, "shown": form.shown}
    order.write("round", facts, once=f"round/{order.journey}/{asked.n}")
    now = order.standing()
    announce(order, now)
    _notify(order, now)
    return Asking(_form(form), asked.key)


@task(task_run_name="count what was signed beforehand for {order.id}")
def count_standing(order: Order) -> None:
    """Count what people have signed off beforehand, where that is agreed: only who is still wanted then is asked."""
    if order.agreed.terms.signoff.standing is None or order.last("round"):
        return
    with sender() as holder:
        told = holder.open(order.matter, order.policies)
        order.learn(holder)
    _open(order, told)
    for vote in told.votes:
        key = f"standing-{vote.approver}-{vote.package}"
        facts = {"n": 0, "key": key, "answer": "", "at": vote.at.isoformat(), "vote": vote.facts, "refusal": None}
        if order.write("answered", facts, once=f"settled/{key}").fresh:
            order.tell("signed", round=0, approver=vote.approver, decision=vote.decision.value)


def _fresh(order: Order) -> Round:
    digest, number = order.matter.package.digest, len(order.each("round")) + 1
    return Round(number, round_key(number, digest, secrets.token_hex(4)), order.run, digest)


def _notify(order: Order, now: Standing) -> None:
    """Tell whoever may sign now, each once for this package: who is asked again because of a wrong code knows of it already."""
    package, asked_by = order.matter.package, order.matter.requester
    what = Notification(
        thing=f"asked/{package.digest}",
        about=order.journey,
        subject=f"{package.partner}/{package.stream} {package.order} waits for your sign-off",
        facts={
            "To": order.agreed.profile.title,
            "Documents": f"{len(package.files)}, {package.size} bytes",
            "Asked for by": f"{asked_by.id} ({asked_by.in_words})" if asked_by else "a schedule or an event",
        },
        due=order.matter.deadline,
        run=order.run,
    )
    notify((seat.approver for seat in now.may_sign), what)


def _open(order: Order, told: Opened) -> Recorded:
    """What the sender holds is what is shown: the deadline counts from the first asking, by its clock."""
    if opened := order.last("opened"):
        return opened
    package = order.matter.package
    # Again with each try: a pass may have been killed between the package and its documents.
    ledger().append(documents(package, order.source.address))
    facts = {
        "deadline": told.deadline.isoformat(),
        "remind": told.remind.isoformat() if told.remind else None,
        "widens": told.widens.isoformat() if told.widens else None,
        "brake": list(told.brake),
        **({"outside": list(told.outside)} if told.outside else {}),
        "link": _publish(order, package),
        "beside": _beside(order),
        "preview": publish_previews(order),
    }
    return order.write("opened", facts, once=f"opened/{order.journey}")


def _publish(order: Order, package: Package) -> str:
    """The artifact with every document, and a link to it; beside it, what ``countersign sign`` reads."""
    create_markdown_artifact(package_artifact(package), key=package_key(package.digest), description="For countersign sign")
    return _list(order, package)


def _list(order: Order, package: Package) -> str:
    listed = listing(package, order.checked, since_last(order))
    return _link(str(create_markdown_artifact(listed, key=f"release-{order.journey}")))


def _everything(order: Order, opened: Recorded) -> str:
    """The link to the artifact with every document: another one once the stream has released something since the first asking."""
    beside = _beside(order)
    if beside == opened.body.get("beside", beside):
        return str(opened.body["link"])
    again = next((entry for entry in order.each("listed again") if entry.body["beside"] == beside), None)
    if again is None:
        facts = {"beside": beside, "link": _list(order, order.matter.package)}
        again = order.write("listed again", facts, once=f"listed/{order.journey}/{beside}")
    return str(again.body["link"])


def _beside(order: Order) -> str:
    """Digest of the package that the documents are compared with."""
    since = since_last(order)
    return since.package if since else ""


def _link(artifact: str) -> str:
    return f"{PREFECT_UI_URL.value()}/artifacts/artifact/{artifact}" if artifact and PREFECT_UI_URL.value() else ""


def _dialog(order: Order, asked: Round, link: str, preview: str) -> dialog.Form:
    agreed = order.agreed
    return dialog.form(
        order.matter,
        agreed.terms,
        agreed.people,
        order.standing(),
        asked,
        partner=agreed.profile.title,
        checked=order.checked,
        link=link,
        preview=preview,
        refused=order.refusal,
        since=since_last(order),
        earlier=decided_before(order),
        zone=agreed.people.timezone,
    )


def _form(form: dialog.Form) -> type[RunInput]:
    """The form as Prefect wants it: the choices of this round, nothing prefilled but the text above it.

    Prefect checks an answer by this schema only, and an answer may be planted behind it: it is judged again, as raw JSON.
    """
    fields: dict[str, Any] = {
        "decision": (one_of(form.decisions), Field(json_schema_extra=told_by_the_classic_ui(form.description))),
        "approver": (
            one_of(form.approvers or ("nobody",)),
            Field(description="Who you are; 'bea for ann': bea signs for ann"),
        ),
        "meaning": (one_of(form.meanings), Field(description="What your signature means")),
        "package": (str, Field(pattern=form.package_pattern, description="The first eight digits of the package, typed")),
        "proof": (str, Field(pattern=form.proof_pattern, description=form.proof_asked)),
        "comment": (
            str,
            Field(default="", max_length=MOST_CHARACTERS["comment"], description="Needed for anything but a plain approval"),
        ),
    }
    if form.files:
        listed: Any = Field(default=[], description="Only with 'approve all but the listed'")
        fields["left_out"] = (list[one_of(form.files)], listed)  # type: ignore[misc]
    made: type[RunInput] = create_model("Signoff", __base__=RunInput, **fields)
    return made.with_initial_data(description=form.description)


def told_by_the_classic_ui(text: str) -> Callable[[dict[str, Any]], None]:
    """Put Markdown above a field's choices, for the classic UI only.

    The form's own text is all that the newer UI needs. The classic one gives that text no height when the window is lower than form
    and text together (an ``article`` with ``overflow: auto`` among flex items that do not shrink). Both merge the members of an
    ``allOf``; but for a description only the classic one looks into it, and takes the last of each row of line ends in it for a
    blank. The browser tests notice if a Prefect changes that.
    """
    in_field = re.sub(r"\n+", lambda ends: ends[0] + "\n", text)

    def into(schema: dict[str, Any]) -> None:
        schema["allOf"] = [{"description": in_field, "type": schema.pop("type"), "enum": schema.pop("enum")}]

    return into


def one_of(choices: tuple[str, ...]) -> Any:
    """A choice. Of a single one pydantic makes a constant, which the classic UI does not let anybody fill in."""
    return Annotated[Literal[choices], WithJsonSchema({"type": "string", "enum": list(choices)})]


def announce(order: Order, now: Standing | None) -> None:
    """Keep the run's name and tags true: lists of runs show nothing else, and ``awaits:<id>`` is an approver's inbox."""
    with get_client(sync_client=True) as client:
        kept = [tag for tag in client.read_flow_run(UUID(order.run)).tags if not tag.startswith(AWAITS)]
        if now is None:
            client.update_flow_run(UUID(order.run), name=f"release {order.agreed.key} {order.id}", tags=kept)
        else:
            agreed = order.agreed
            name = run_name(order.matter, agreed.terms, now, ledger().now(), agreed.people.timezone)
            client.update_flow_run(UUID(order.run), name=name, tags=[*kept, *tags(now)])
