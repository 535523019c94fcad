"""Gather: find what an order is about in the repository, take what its terms admit, check it, and freeze the package."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from prefect.artifacts import create_markdown_artifact

from blocks.errors import DocumentMissing
from blocks.outbound import Matter, Outbound, Package, PackageFile, Refusal
from blocks.repositories.base import RepositorySession
from blocks.values import Classification, Document, Finding, Inbound, InboundLimits, Kept, Severity, Target, Verdict
from tasks import tables
from tasks.connections import repository_session, spool
from tasks.order import Order, sender, sent_before
from tasks.papers import lacking_papers
from tasks.retrying import task
from tasks.rules.bounds import too_large, too_small
from tasks.rules.dialog import stopped
from tasks.rules.filing import not_told_alike
from tasks.rules.judge import as_facts, verdict
from tasks.rules.kits import fill_slots
from tasks.rules.naming import legality, naming
from tasks.rules.packing import Withheld, admitted, fill, layout, not_reviewed, sensitive
from tasks.rules.policy import four_eyes

MOST_FINDINGS = 500
"""That are written down about an order that was stopped; the approvers' page lists no more either."""
_EDITS = re.compile(r"creat|version|add|edit|modif|fil", re.IGNORECASE)
"""In a repository's audit trail: what changes a document's content. Names differ; too many editors are safer than too few."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A document that goes into the package."""

    file: PackageFile
    editor: str | None
    """Who changed it last, as the repository names them."""
    sensitive: Mapping[str, Sequence[str]]
    """Attributes whose change voids the package, with their values."""


class Gathered:
    """What was found for an order, its bytes in the spool. Opaque to Prefect, like the order."""

    def __init__(self, order: Order, taken: Sequence[Taken], withheld: Sequence[Withheld], refused: str = "") -> None:
        self.order, self.taken, self.withheld = order, tuple(taken), tuple(withheld)
        self.refused = refused
        """Why no package can be made of it."""
        self.findings: tuple[Finding, ...] = ()


@task(task_run_name="gather {order.id}")
def gather(order: Order) -> Gathered:
    """Bring what the stream's terms admit into the spool, each document in the version that goes."""
    terms = order.agreed.terms
    with sender() as holder:
        order.learn(holder)
    if papers := lacking_papers(order.agreed.profile, order.agreed.stream):
        return Gathered(order, (), (), f"{papers}: nobody is asked, and nothing goes out before they are good.")
    withheld: list[Withheld] = []
    chosen: list[tuple[Kept, int]] = []
    with repository_session(order.agreed.repository) as session:
        for kept in _found(session, order):
            version = _version(kept, terms, order)
            if isinstance(version, Withheld):
                withheld.append(version)
            else:
                chosen.append((kept, version))
        if (review := terms.gather.review) is not None:
            lacking = session.unreviewed({kept.id: version for kept, version in chosen}, review.map, review.step)
            withheld += [not_reviewed(kept, lacking[kept.id]) for kept, _ in chosen if kept.id in lacking]
            chosen = [one for one in chosen if one[0].id not in lacking]
        if len(chosen) > terms.gather.most_files:
            return Gathered(
                order, (), withheld, f"{len(chosen)} documents, and the stream lets {terms.gather.most_files} go at once"
            )
        in_kit = fill_slots(order.kit, terms, [kept for kept, _ in chosen], withheld)
        withheld += in_kit.outside
        if in_kit.problem:
            return Gathered(order, (), withheld, in_kit.problem)
        chosen = [one for one in chosen if one[0].id in in_kit.slots] if terms.kits or order.kit else chosen
        chosen.sort(key=lambda pair: (pair[0].name, pair[0].id))
        with spool().batch() as batch:
            fetched = [session.fetch(kept.id, version, batch) for kept, version in chosen]
        editors = [_editor(session, kept.id) for kept, _ in chosen]
    before = sent_before(order)
    taken = [
        Taken(
            PackageFile(
                kept.name.encode("utf-8", "surrogateescape"),
                done.size,
                done.digest,
                kept.id,
                version,
                *in_kit.place(kept.id),
            ),
            editor,
            sensitive(kept, terms.gather),
        )
        for (kept, version), done, editor in zip(chosen, fetched, editors, strict=True)
        if done.digest not in before
    ]
    withheld += [
        Withheld(kept.id, kept.name, "already-sent", f"the bytes of version {version} are what the partner was sent last")
        for (kept, version), done in zip(chosen, fetched, strict=True)
        if done.digest in before
    ]
    return Gathered(order, taken, withheld)


def _found(session: RepositorySession, order: Order) -> Iterator[Kept]:
    """Documents with their category values. An id that was ordered and is not there is an error, not a smaller package."""
    asked, about = order.agreed.terms.gather, order.ordered
    if order.corrects is not None:
        listed: Iterable[str] = order.ids
    elif asked.folder is not None:
        facts: dict[str, str | datetime] = {
            "partner": order.agreed.partner,
            "stream": order.agreed.stream,
            "order": order.id,
            "ordered": about.at,
            "kit": order.kit,
        }
        listed = [
            kept.id for kept in session.look(tuple(fill(asked.folder, facts).strip("/").split("/"))) if not kept.container
        ]
    elif asked.search is not None:
        listed = [kept.id for kept in session.search(text=asked.search) if not kept.container]
    else:
        listed = order.ids
    for id in dict.fromkeys(listed):
        yield session.get(id)


def _version(kept: Kept, terms: Outbound, order: Order) -> int | Withheld:
    name = kept.name.encode("utf-8", "surrogateescape")
    early = [*legality(name), *(naming(name, terms_as_inbound(terms)) if terms.naming else ())]
    early += too_large(kept.size, terms.limits, kept.name)
    if early:
        return Withheld(kept.id, kept.name, early[0].code, early[0].message)
    return admitted(kept, terms.gather, terms.freshness, order.agreed.people.day(order.ordered.at))


def _editor(session: RepositorySession, id: str) -> str | None:
    return next((event.user for event in session.history(id) if _EDITS.search(event.event)), None)


# --------------------------------------------------------------------------------------------- the checks


def terms_as_inbound(terms: Outbound) -> Inbound:
    """The words for checks are the same in both directions, so the same rules read them."""
    classify = terms.classify or (Classification(pattern="(?s).*", doctype="any"),)
    return Inbound(
        endpoint="none",
        folder="none",
        limits=InboundLimits.model_validate(terms.limits.model_dump()),
        naming=terms.naming,
        classify=classify,
        encoding=terms.encoding,
        delimiter=terms.delimiter,
        decimal=terms.decimal,
        target=Target(repository=terms.gather.repository, folder="none"),
    )


@task(task_run_name="check {gathered.order.id}")
def check_outbound(gathered: Gathered) -> Gathered:
    """Judge the documents as if they had come in. What is wrong stands in the findings, what was withheld is a note."""
    terms = gathered.order.agreed.terms
    found = [
        Document(str(n), one.file.name, one.file.size, one.file.sha256, spool().path(one.file.sha256))
        for n, one in enumerate(gathered.taken, 1)
    ]
    inbound = terms_as_inbound(terms)
    if terms.classify:
        judged = [told for _, told in tables.judge(found, inbound)]
    else:
        judged = [verdict(d, "any", {}, too_small(d.size, terms.limits, d.shown), {}, inbound) for d in found]
    findings = [finding for told in judged for finding in told.findings]
    findings += [Finding(one.code, f"Withheld: {one.reason}.", one.name, severity=Severity.NOTE) for one in gathered.withheld]
    gathered.findings = tuple(findings)
    return gathered


# --------------------------------------------------------------------------------------------- the package


@task(task_run_name="freeze {gathered.order.id}")
def freeze(gathered: Gathered) -> None:
    """Write the package down under its order, once: whatever runs later goes on with exactly this one."""
    order = gathered.order
    wrong = [finding for finding in gathered.findings if finding.severity is Severity.ERROR]
    if gathered.refused or wrong:
        _refuse(order, gathered.refused or f"{wrong[0].file}: {wrong[0].message}", wrong)
    elif not gathered.taken:
        ends = order.close if order.corrects else order.end  # a correction is asked for again as another one
        ends("Nothing to release", f"order {order.id}: nothing was found that may leave ({len(gathered.withheld)} withheld)")
    else:
        _freeze(gathered)


def _refuse(order: Order, reason: str, wrong: Sequence[Finding] = ()) -> None:
    """Nobody is asked before it is mended; what is wrong stands on the run's page."""
    told = as_facts(Verdict("", None, tuple(wrong[:MOST_FINDINGS])))["findings"]
    order.write("refused", {"reason": reason, "case": order.case("outbound-check", reason), "findings": told})
    order.tell("refused-by-checks", reason=reason)
    documents = {finding.file for finding in wrong}
    if wrong:
        create_markdown_artifact(stopped(order.id, wrong), key=f"stopped-{order.journey}", description="What the checks found")
    name = f"Stopped by checks, {len(documents)} wrong" if documents else "Stopped by checks"
    order.end(name, f"order {order.id}: {reason} Nothing was frozen; correct it in the repository and run the order again")


def _freeze(gathered: Gathered) -> None:
    order, agreed = gathered.order, gathered.order.agreed
    root, due = order.root
    destinations = agreed.destinations(root, due, order.kit)
    files = tuple(one.file for one in gathered.taken)
    if untold := not_told_alike([file.name for file in files], agreed.terms):
        facts = ", ".join(untold)
        _refuse(order, f"Its documents do not tell {facts} alike, by which what is sent is recorded: order them apart.")
        return
    try:
        package = Package(
            order.journey,
            order.id,
            agreed.partner,
            agreed.stream,
            agreed.policies.digest,
            destinations,
            files,
            kit=order.kit,
            corrects=order.corrects,
        )
    except ValueError as error:
        _refuse(order, f"{error}.")
        return
    for terms in agreed.terms.destinations:
        if isinstance(laid := layout(package, files, terms), Refusal):
            _refuse(order, laid.first_line)
            return
    matter = Matter(package, order.run, order.requester)
    if unproven := four_eyes(matter, agreed.terms.signoff, agreed.people):
        _refuse(order, unproven.first_line)
        return
    told = as_facts(Verdict("", None, gathered.findings))
    frozen = {
        "package": package.text,
        "package_digest": package.digest,
        "policies": agreed.policies.facts,
        "ordered": due.isoformat(),
        "requester": order.ordered.body["requester"],
        "editors": sorted({one.editor for one in gathered.taken if one.editor}),
        "checked": {"documents": len(files), "findings": told["findings"]},
        "sensitive": {one.file.repository_id: one.sensitive for one in gathered.taken if one.sensitive},
    }
    if order.last("refused"):
        frozen["case"] = {"state": "resolved"}
    order.write("frozen", frozen, once=f"frozen/{order.journey}")


def still_there(session: RepositorySession, id: str) -> Kept | None:
    """A document as the repository has it now; None if it is gone, or no longer ours to see."""
    try:
        return session.get(id)
    except DocumentMissing:
        return None
