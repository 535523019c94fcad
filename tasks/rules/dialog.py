"""What an approver sees: the form's text, its choices, the full list behind it, the run's name and tags.

The text is Markdown, rendered by two UIs of Prefect: every text from outside stands in a code span (see ``tasks.rules.literal``).

Prefect's classic UI shrinks the form's text to nothing when form and text are together higher than its window; so the same text
stands in the first field's description too, in a place of the schema where only that UI looks (see ``tasks.ask``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from blocks.outbound import (
    BEFOREHAND,
    Decision,
    Delivered,
    Matter,
    Meaning,
    Outbound,
    Package,
    PackageFile,
    PeopleFile,
    Refusal,
    Round,
    Seat,
    SignoffProof,
    Vote,
    sha256,
)
from blocks.values import Finding, Severity, shown
from tasks.rules.certificate import link_words, ticks, weakest
from tasks.rules.difference import MOST_IN_CELL, CellChange, Changed, Decided, Difference, RowChanges
from tasks.rules.literal import cell, code, words
from tasks.rules.policy import Standing, in_force
from tasks.rules.signing import DIGITS_PATTERN, PROOF_PATTERNS

AWAITS = "awaits:"
"""How the tags of an approver's inbox begin."""

MOST_LINES = 40
"""The dialog stays below this many lines, whatever is in the package."""

_FILES, _DESTINATIONS, _FINDINGS, _NAMES = 6, 2, 2, 6
_CHANGES, _FEW, _SHORT = 3, 3, 40
_LISTED = 500
"""Findings on the page behind the dialog."""

_ADDRESS = re.compile(r"(https?://|/)[A-Za-z0-9._~:/?#@!$&*+,;=%-]*")
_PROOFS = {
    SignoffProof.CODE: "The six digits that your phone shows now",
    SignoffProof.SIGNATURE: "The line that 'countersign sign' prints on your own machine",
}

# --------------------------------------------------------------------------------------------- sizes and times


def size(count: int) -> str:
    """Bytes for people, and exactly.

    >>> size(999), size(1_234_567)
    ('999 bytes', '1.2 MB (1,234,567 bytes)')
    """
    if count < 1000:
        return f"{count} byte{'' if count == 1 else 's'}"
    amount, unit = count / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.1f} {unit} ({count:,} bytes)"


def grouped(digest: str) -> str:
    """A digest that wraps, and that people can compare.

    >>> grouped("3f2a9c01" * 3)
    '3f2a9c01 3f2a9c01 3f2a9c01'
    """
    return " ".join(re.findall(".{1,8}", digest))


def moment(at: datetime, zone: str) -> str:
    """UTC, and local time if that is another."""
    utc = f"{at.astimezone(ZoneInfo('UTC')):%Y-%m-%d %H:%M} UTC"
    local = at.astimezone(ZoneInfo(zone))
    return utc if not local.utcoffset() else f"{utc} ({local:%Y-%m-%d %H:%M} {zone})"


# --------------------------------------------------------------------------------------------- the form


@dataclass(frozen=True, slots=True)
class Form:
    """All that the form's schema is made of."""

    description: str
    """Markdown, fewer than ``MOST_LINES`` lines."""
    decisions: tuple[str, ...]
    approvers: tuple[str, ...]
    """``bea``, or ``bea for ann``."""
    meanings: tuple[str, ...]
    package_pattern: str
    proof_pattern: str
    proof_asked: str
    """Which proof, in words."""
    files: tuple[str, ...]
    """What ``left_out`` chooses from; empty: there is no such field."""

    @property
    def shown(self) -> str:
        """SHA-256 of the text, for votes and the certificate."""
        return sha256(self.description)


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checks before the sign-off found."""

    documents: int
    findings: tuple[Finding, ...] = ()
    before: tuple[Finding, ...] = ()
    """For which the same order was stopped before it was corrected."""


def form(
    matter: Matter,
    terms: Outbound,
    people: PeopleFile,
    now: Standing,
    asked: Round,
    *,
    partner: str,
    checked: Checked,
    link: str = "",
    preview: str = "",
    refused: Refusal | None = None,
    since: Difference | None = None,
    earlier: Sequence[Decided] = (),
    zone: str = "UTC",
) -> Form:
    """The form of one round. ``partner`` is the partner's title; ``since`` what is not as in the stream's last release, ``earlier``
    how its last orders ended; ``link`` leads to the artifact with everything, ``preview`` to that with the beginning of the documents;
    ``refused`` says why the round before did not count."""
    package, choices = matter.package, matter.package.choices
    parts = [
        [f"**Asked again: {refused.first_line}**"] if refused else [],
        [*_what(package, partner), *_unusual(matter)],
        _where(package, since),
        _since(since, zone) if since else [],
        _files(package, _FILES - 2 if since else _FILES),
        _digest(package, link, preview),
        _checks(checked),
        [*_who(matter, terms, people, now, asked, zone), *([_earlier(earlier, people, zone)] if earlier else [])],
    ]
    description = "\n\n".join("\n".join(part) for part in parts if part)
    return Form(
        description=description,
        decisions=tuple(d.value for d in Decision if choices or d is not Decision.APPROVE_BUT),
        approvers=tuple(seat.text for seat in (*now.may_sign, *now.may_veto)),
        meanings=tuple(meaning.value for meaning in Meaning),
        package_pattern=DIGITS_PATTERN,
        proof_pattern=PROOF_PATTERNS[terms.signoff.proof],
        proof_asked=_PROOFS[terms.signoff.proof],
        files=choices,
    )


def _what(package: Package, partner: str) -> list[str]:
    count = f"{len(package.files)} document{'' if len(package.files) == 1 else 's'}"
    part = " (what was left out of an earlier package)" if package.order != package.root_order else ""
    whole = f"kit {code(package.kit)}, " if package.kit else ""
    again, lines = package.redelivery, []
    if again is not None:
        part = ""
        why = f"{code(again.reason, 300)}, says {code(again.by or 'nobody')} (as stated)"
        lines = [f"**Redelivery of order {code(again.order)}**, attempt {again.attempt}, the same bytes: {why}", ""]
    elif package.corrects is not None:
        part = ""
        why = f"{code(package.corrects.reason, 300)}, says {code(package.corrects.by or 'nobody')} (as stated)"
        lines += [
            f"**Correction of order {code(package.corrects.order)}**, newer versions in place of what went then: {why}",
            "",
        ]
    return [
        *lines,
        f"Send {whole}**{count}**, {size(package.size)}, to **{words(partner)}**"
        f" · stream {code(package.stream)} · order {code(package.order)}{part}",
    ]


def _unusual(matter: Matter) -> list[str]:
    """Why one more person than usual must sign, or anybody at all though somebody has signed beforehand."""
    why = {"One more signature than usual": matter.brake, "Not within what was signed beforehand": matter.outside}
    told = [f"**{what}**: {'; '.join(map(words, reasons))}" for what, reasons in why.items() if reasons]
    return ["", " · ".join(told)] if told else []


def _where(package: Package, since: Difference | None) -> list[str]:
    lines = [
        f"- to {code(place.shown, 160)}"
        + (f", key {code(place.key_fingerprint)}" if place.key_fingerprint else "")
        + (", **new**" if since and place.shown in since.places_added else "")
        for place in package.destinations[:_DESTINATIONS]
    ]
    return [*lines, *_more(len(package.destinations) - _DESTINATIONS, "destination")]


def _files(package: Package, most: int) -> list[str]:
    lines = [f"{n}. {code(file.shown)} · {size(file.size)}{_slot(file)}" for n, file in enumerate(package.files[:most], 1)]
    more = len(package.files) - most
    return [*lines, *(["", f"and {more} more, in the full list"] if more > 0 else [])]


def _slot(file: PackageFile) -> str:
    return f" · slot {code(file.slot)}{' (may be left out)' if file.optional else ''}" if file.slot else ""


def _more(count: int, what: str) -> list[str]:
    return [f"- and {count} more {what}{'' if count == 1 else 's'}, in the full list"] if count > 0 else []


def _digest(package: Package, link: str, preview: str) -> list[str]:
    lines = [f"Package **`{package.digits}`**: type these eight digits. The whole digest: `{grouped(package.digest)}`"]
    links = [("Everything, document by document", link), ("Preview of the documents", preview)]
    plain = [f"[{what}]({where})" for what, where in links if _ADDRESS.fullmatch(where)]
    return [*lines, "", " · ".join(plain)] if plain else lines


def _checks(checked: Checked) -> list[str]:
    errors = [finding for finding in checked.findings if finding.severity is Severity.ERROR]
    notes = [finding for finding in checked.findings if finding.severity is Severity.NOTE]
    passed = f"Checks: {checked.documents} document{'' if checked.documents == 1 else 's'} looked at"
    before = [f"- **Stopped before, and corrected since**: {_found(finding)}" for finding in checked.before[:1]]
    before += _more(len(checked.before) - 1, "finding that stopped it") if before else []
    if not checked.findings:
        return [f"{passed}, nothing found", *before]
    lines = [f"{passed}, **{len(errors)} wrong**, {len(notes)} to note"]
    lines += [f"- {_found(finding)}" for finding in (*errors, *notes)[:_FINDINGS]]
    return [*lines, *_more(len(checked.findings) - _FINDINGS, "finding"), *before]


def _found(finding: Finding) -> str:
    row = f" row {finding.row}" if finding.row is not None else ""
    return f"{code(finding.file)}{row}: {code(finding.message, 200)}"


def _since(since: Difference, zone: str) -> list[str]:
    """What an approver should look at first: the documents that changed most, and of those the cells that did."""
    counts = f"{since.added} new, {since.changed} changed, {since.same} the same, {since.gone} not among them"
    moved = "; **the destinations are not the same**" if since.places_added or since.places_gone else ""
    lines = [f"Since the last release, order {code(since.order)} of {_day(since.at, zone)}: {counts}{moved}"]
    lines += [f"- {told}" for told in _changes(since)[:_CHANGES]]
    parted = [("new", since.names_added), ("gone", since.names_gone)] if since.documents or since.same else []
    named = "; ".join(f"{what}: {', '.join(code(name) for name in names[:_FEW])}" for what, names in parted if names)
    return [*lines, f"- {named}"] if named else lines


def _changes(since: Difference) -> list[str]:
    """For each changed document a line, and then what else changed in them."""
    first = [f"{code(one.name)}: {_document(one)}" for one in since.documents]
    more = [f"also in {code(one.name)}: {told}" for one in since.documents for told in _examples(one.rows)[1:]]
    return [*first, *more]


def _document(one: Changed) -> str:
    renamed = f"was {code(one.before)}; " if one.before != one.name else ""
    if one.rows is None:
        why = f" ({words(one.note)})" if one.note else ""
        return f"{renamed}other content, {size(one.size_before)} before, now {size(one.size)}{why}"
    rows = one.rows
    counts = [
        f"**{count:,} {what}**"
        for count, what in ((rows.changed, "changed"), (rows.added, "added"), (rows.removed, "removed"))
        if count
    ]
    columns = sorted(rows.columns.items(), key=lambda pair: (pair[1], pair[0]))[:_FEW]
    where = f" ({', '.join(f'{code(name, _SHORT)} {count:,}' for name, count in columns)})" if columns else ""
    same = f"the same {rows.after:,} {'lines in **another order**' if rows.reordered else 'rows, written in another way'}"
    told = f"of {rows.after:,} rows {', '.join(counts)}{where}" if counts else same
    return "; ".join([renamed + told, *_examples(rows)[:1]])


def _examples(rows: RowChanges | None) -> list[str]:
    """Cells and rows, what should be seen first at the beginning."""
    if rows is None:
        return []
    cells = [_cell(one) for one in (*rows.biggest, *rows.texts)]
    examples = (("added", rows.first_added), ("removed", rows.first_removed))
    return [*cells, *(f"{what}: {code(row)}" for what, row in examples if row)]


def _cell(one: CellChange) -> str:
    percent = f" ({one.percent})" if one.percent else ""
    before, after = (code(text, MOST_IN_CELL) for text in (one.before, one.after))
    return f"{code(one.row, _SHORT)}: {code(one.column, _SHORT)} {before} → **{after}**{percent}"


def _earlier(earlier: Sequence[Decided], people: PeopleFile, zone: str) -> str:
    told = []
    for one in earlier:
        by = f" by {_listed([_name(people, id) for id in one.by])}" if one.by else ""
        why = f": {code(one.comment, _SHORT)}" if one.comment else ""
        told.append(f"{code(one.order, _SHORT)} {words(one.state)}{by}, {_day(one.at, zone)}{why}")
    return f"- Before this: {'; '.join(told)}"


def _day(at: datetime, zone: str) -> str:
    return f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d}"


def _who(matter: Matter, terms: Outbound, people: PeopleFile, now: Standing, asked: Round, zone: str) -> list[str]:
    asker = "a schedule or event"
    if matter.requester is not None:
        asker = f"{_name(people, matter.requester.id)} ({matter.requester.in_words})"
    lines = [f"- Asked for by {asker}; round {asked.n}; **{now.progress}** signed"]
    signed = [_signature(people, vote) for vote in now.votes]
    left_out = f"; **left out by them**: {_listed([code(label) for label in now.left_out])}" if now.left_out else ""
    lines.append(f"- Signed: {_listed(signed) or 'nobody yet'}{left_out}")
    lines.append(f"- May sign now: {_listed([_seat(people, seat) for seat in now.may_sign]) or 'nobody: tell operations'}")
    if now.may_veto:
        lines.append(f"- May reject: {_listed([_seat(people, seat) for seat in now.may_veto])}")
    if matter.deadline is not None:
        wider = f"; from {moment(matter.widens, zone)} on {_groups(terms)} may sign too" if matter.widens else ""
        lines.append(f"- Until {moment(matter.deadline, zone)}; then it expires, unsent{wider}")
    if terms.signoff.proof is SignoffProof.SIGNATURE:
        lines.append(f"- Proof: run {code(f'countersign sign {matter.run}')} on your own machine and paste its line")
    return lines


def _groups(terms: Outbound) -> str:
    return " and ".join(code(group) for group in terms.signoff.wider.groups) if terms.signoff.wider else ""


def _name(people: PeopleFile, id: str) -> str:
    person = people.get(id)
    return f"{words(person.name)} ({code(id)})" if person else code(id)


def _seat(people: PeopleFile, seat: Seat) -> str:
    behalf = f" for {_name(people, seat.on_behalf_of)}" if seat.on_behalf_of else ""
    return _name(people, seat.approver) + behalf


def _signature(people: PeopleFile, vote: Vote) -> str:
    return f"{_seat(people, vote.seat)}, {vote.meaning.value}" + (f", {BEFOREHAND}" if vote.standing else "")


def _listed(parts: Sequence[str]) -> str:
    more = len(parts) - _NAMES
    return "; ".join(parts[:_NAMES]) + (f"; and {more} more" if more > 0 else "")


# --------------------------------------------------------------------------------------------- behind the form


def listing(package: Package, checked: Checked | None = None, since: Difference | None = None) -> str:
    """The artifact with everything, in Markdown: however many documents there are, each with its digest."""
    return "\n".join(_listing(package, checked, since)) + "\n"


def _listing(package: Package, checked: Checked | None, since: Difference | None) -> Iterator[str]:
    yield f"# Package `{package.digits}`"
    yield ""
    yield f"- Digest: `{package.digest}`"
    yield f"- Partner, stream, order: {code(package.partner)}, {code(package.stream)}, {code(package.order)}"
    if package.kit:
        yield f"- Kit: {code(package.kit)}"
    yield f"- Journey: {code(package.journey)}"
    yield f"- Digest of the policy: `{package.policy}`"
    for place in package.destinations:
        yield f"- To {code(place.shown, 1000, 1000)}, key {code(place.key_fingerprint, 1000, 1000)}"
    yield ""
    yield f"| | name | bytes | SHA-256 | in the repository | version |{' slot |' if package.kit else ''}"
    yield f"|---:|---|---:|---|---|---:|{'---|' if package.kit else ''}"
    for n, file in enumerate(package.files, 1):
        name, kept = cell(file.shown, 2000), cell(file.repository_id)
        slot = f" {cell(file.slot)} |" if file.slot else ""
        yield f"| {n} | {name} | {file.size:,} | `{file.sha256}` | {kept} | {file.version} |{slot}"
    if checked is not None:
        yield from _table(checked.findings)
        if checked.before:
            yield from ("", "## Stopped before, and corrected since")
            yield from _table(checked.before)
    if since is not None:
        yield from _all_since(since)


def stopped(order: str, findings: Sequence[Finding]) -> str:
    """The artifact of an order that its checks have stopped: what is wrong, and how to mend it."""
    return "\n".join([f"# Order {code(order)} was stopped by its checks", *_table(findings)]) + "\n"


def _table(findings: Sequence[Finding]) -> Iterator[str]:
    if not findings:
        return
    yield ""
    yield "| | document | row | column | value | finding | mend |"
    yield "|---|---|---:|---|---|---|---|"
    for finding in findings[:_LISTED]:
        where = f"{cell(finding.file, 1000)} | {'' if finding.row is None else finding.row} | {cell(finding.column or '')}"
        where = f"{where} | {cell(finding.value or '')}"
        yield f"| {finding.severity.value} | {where} | {cell(finding.message, 1000)} | {cell(finding.fix, 1000)} |"
    if len(findings) > _LISTED:
        yield ""
        yield f"and {len(findings) - _LISTED:,} more findings"


def _all_since(since: Difference) -> Iterator[str]:
    yield ""
    yield f"## Since order {code(since.order)}, released {since.at:%Y-%m-%d %H:%M} UTC"
    yield ""
    yield f"{since.added} new, {since.changed} changed, {since.same} the same, {since.gone} not among them"
    yield ""
    for what, names in (
        ("new destination", since.places_added),
        ("no longer a destination", since.places_gone),
        ("new", since.names_added),
        ("not among them", since.names_gone),
    ):
        yield from (f"- {what}: {code(name, 1000, 1000)}" for name in names)
    yield from (f"- {told}" for told in _changes(since))
    if since.changed > len(since.documents):
        yield f"- and {since.changed - len(since.documents)} more that changed"


def arrivals(package: Package, delivered: Sequence[Delivered]) -> str:
    """The artifact of what arrived, in Markdown: approved = read = sent = found, document by document, and the weakest of the proofs."""
    return "\n".join(_arrivals(package, delivered)) + "\n"


def _arrivals(package: Package, delivered: Sequence[Delivered]) -> Iterator[str]:
    yield f"# Delivered: package `{package.digits}`"
    yield ""
    yield f"Order {code(package.order)}, {len(delivered)} placed; weakest proof: **{weakest(delivered)}**"
    yield ""
    yield "| name at the partner | destination | approved = read | read = sent | sent = found | how we know |"
    yield "|---|---:|:---:|:---:|:---:|---|"
    for file in delivered:
        told = ticks(file)
        marks = " | ".join("✓" if holds else "–" for holds in (told.read, told.sent, told.found))
        yield f"| {cell(shown(file.name), 2000)} | {file.destination + 1} | {marks} | {link_words(file)} |"


_FENCE, _END = "```json\n", "\n```\n"


def package_key(digest: str) -> str:
    """The key of the artifact that holds a package, by the first 16 digits of its digest."""
    return f"package-{digest[:16]}"


def package_artifact(package: Package) -> str:
    """The canonical text of a package as Markdown, for ``countersign sign``. It is one line, so nothing in it ends the fence."""
    return f"{_FENCE}{package.text}{_END}"


def as_package(markdown: str) -> Package | None:
    """Back from :func:`package_artifact`; None for anything else: whoever reaches Prefect can write there."""
    try:
        return Package.parse(markdown.removeprefix(_FENCE).removesuffix(_END))
    except ValueError:
        return None


def rows(package: Package) -> list[dict[str, str]]:
    """The documents as plain rows, for programs; names are written out, but not made safe for Markdown."""
    return [
        {
            "n": str(n),
            "name": f.shown,
            "bytes": str(f.size),
            "sha256": f.sha256,
            "id": f.repository_id,
            "version": str(f.version),
        }
        for n, f in enumerate(package.files, 1)
    ]


def run_name(matter: Matter, terms: Outbound, now: Standing, at: datetime, zone: str) -> str:
    """What lists of runs show, changed after every round: ``release acme/catalogue o-1: 3 files, due 14:00, waits for 1 of legal``."""
    package = matter.package
    parts = [f"{len(package.files)} file{'' if len(package.files) == 1 else 's'}"]
    if matter.deadline is not None:
        parts.append(f"due {_due(matter.deadline, at, ZoneInfo(zone))}")
    if now.stage is None or now.open is None:
        parts.append(now.status.value)
    else:
        stage = in_force(terms.signoff, matter).stages[now.stage]
        wider = terms.signoff.wider.groups if terms.signoff.wider and matter.widened(at) else ()
        groups = " or ".join(dict.fromkeys((*stage.groups, *wider)))
        parts.append(f"waits for {stage.quorum - len(now.open.approvals)} of {groups}")
    return f"release {package.partner}/{package.stream} {package.order}: {', '.join(parts)}"


def _due(deadline: datetime, at: datetime, zone: ZoneInfo) -> str:
    """The hour, with its day if that is not the day on which somebody was asked."""
    local = deadline.astimezone(zone)
    return f"{local:%H:%M}" if local.date() == at.astimezone(zone).date() else f"{local:%Y-%m-%d %H:%M}"


def inbox(ui: str, person: str) -> tuple[str, str]:
    """Where an approver's waiting runs are listed, in Prefect's classic UI and in the newer one."""
    address = ui.rstrip("/").removesuffix("/v2")
    return f"{address}/runs?state=Suspended&tag={AWAITS}{person}", f"{address}/v2/runs?state=Suspended&tags={AWAITS}{person}"


def tags(now: Standing) -> tuple[str, ...]:
    """What makes each approver's inbox: ``awaits:<id>`` for everybody who may sign now."""
    return tuple(sorted({f"{AWAITS}{seat.approver}" for seat in now.may_sign}))
