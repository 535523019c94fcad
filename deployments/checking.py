"""Checking a partner before anything moves: first the file against everything here, then against the living servers."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from blocks import reviewed
from blocks.credentials import read as read_credential
from blocks.endpoints.base import Endpoint, EndpointSession
from blocks.errors import ConfigurationError, CountersignError
from blocks.notifying import load_notify, notify_path
from blocks.outbound import Destination, Outbound
from blocks.profile import PartnerFile, PartnerProfile, load_calendars, load_file, load_repositories, partner_path
from blocks.repositories.base import Repository
from blocks.reviewed import Loc, Problem, nearest
from blocks.sender import destination_of
from blocks.system_file import load_system
from blocks.systems.http import HttpSystem
from blocks.values import Exists, Inbound, RowPolicy
from deployments.people import load_people, people_path
from tasks.doctypes.base import Doctype
from tasks.rules.enough import case_shortfall, shortfalls, tight
from tasks.rules.packing import fill


@dataclass(frozen=True, slots=True)
class Result:
    """One line of what a check found."""

    good: bool
    text: str


def sound_file(name: str, folder: Path) -> tuple[PartnerFile, dict[str, Repository]]:
    """A partner's file that fits everything it names. Raises ``ConfigurationError`` with all problems and their lines."""
    file, repositories = load_file(name, folder), load_repositories(folder)
    problems = [
        *_streams(file, repositories),
        *_calendars(file, folder),
        *_papers(file, repositories, folder),
        *_deployments(file),
    ]
    if problems:
        raise reviewed.read(partner_path(name, folder)).refuse(problems)
    return file, repositories


def check_partner(name: str, folder: Path, *, offline: bool) -> Iterator[Result]:
    """Everything that can be known without writing anything anywhere; a broken server does not hide the next."""
    try:
        file, repositories = sound_file(name, folder)
    except ConfigurationError as error:
        yield Result(False, str(error))
        return
    partner = file.partner
    counts = f"{len(partner.endpoints)} endpoint(s), {len(partner.streams)} stream(s), {len(file.deployments)} deployment(s)"
    yield Result(True, f"{name}: the file is in order: {counts}, digest {partner.digest[:12]}")
    for account in _shared_accounts(partner):
        yield Result(
            True,
            f"WARNING: {account} is used in both directions: a worker then holds a credential that can write at the partner, and "
            "the sign-off only binds those who keep to it. Ask the partner for another account for deliveries, and give it to the "
            "sender alone",
        )
    yield from _signers(partner, folder)
    yield from _owners(partner, folder)
    if offline:
        return
    inbound = {stream.endpoint for stream in partner.inbound.values()}
    for endpoint_name, endpoint in partner.endpoints.items():
        if endpoint_name not in inbound and (missing := absent_credential(endpoint)):
            yield Result(
                True, f"endpoint {endpoint_name}: not signed in: {missing} is not here, as it should be away from the sender"
            )
            continue
        streams = {key: stream for key, stream in partner.inbound.items() if stream.endpoint == endpoint_name}
        try:
            with endpoint.session() as session:
                pin = f", {session.capabilities.fingerprint}" if session.capabilities.fingerprint else ""
                slow = "" if not session.personality.one_by_one else "; asked one thing at a time, as it bears no more: slow"
                yield Result(
                    True,
                    f"endpoint {endpoint_name}: signed in at {endpoint.address} ({session.capabilities.server}{pin}{slow})",
                )
                for stream_name, stream in streams.items():
                    yield _look(session, stream_name, stream)
                yield from _destinations(session, partner, endpoint_name)
        except CountersignError as error:
            yield Result(False, f"endpoint {endpoint_name}: {error}")
    wanted_by_all = {stream.target.repository for stream in partner.inbound.values()}
    wanted_by_all |= {
        name
        for stream in partner.outbound.values()
        for name in (stream.gather.repository, stream.evidence.repository, stream.recording.repository)
    }
    for wanted in sorted(wanted_by_all):
        try:
            with repositories[wanted].session():
                yield Result(True, f"repository {wanted}: signed in at {repositories[wanted].address}")
        except CountersignError as error:
            yield Result(False, f"repository {wanted}: {error}")


def _signers(partner: PartnerProfile, folder: Path) -> Iterator[Result]:
    """Whether there is anybody to sign for each outbound stream, and for cases where that is to be proven."""
    proving = {name: stream.signoff for name, stream in partner.inbound.items() if stream.signoff is not None}
    if not partner.outbound and not proving:
        return
    try:
        people = load_people(folder)
    except ConfigurationError as error:
        yield Result(False, str(error))
        return
    today = people.day(datetime.now(UTC))
    for name, terms in proving.items():
        if told := case_shortfall(terms, people, today):
            yield Result(False, f"stream {name}: {told}: no refused document can be released or corrected")
    for name, stream in partner.outbound.items():
        short = shortfalls(stream.signoff, people, today)
        for told in short:
            yield Result(False, f"stream {name}: {told}: nothing can leave")
        if not short:
            for told in tight(stream.signoff, people, today):
                yield Result(True, f"WARNING: stream {name}: {told}")


def _owners(partner: PartnerProfile, folder: Path) -> Iterator[Result]:
    """Owners of cases whom no inbox shows them, or whom nobody could tell."""
    try:
        people = load_people(folder) if people_path(folder).exists() else None
        notify = load_notify(folder)
    except ConfigurationError as error:
        yield Result(False, str(error))
        return
    told = {"partner.owner": partner.owner} | {
        f"partner.streams.{name}.owner": one.owner for name, one in partner.streams.items()
    }
    for key, owner in told.items():
        where = f"WARNING: {partner_path(partner.name, folder)}: {key}: {owner!r}"
        if owner and people is not None and "@" not in owner and owner not in (known := people.known):
            yield Result(
                True,
                f"{where} is no person and no group of people.yaml, so no inbox shows these cases; {nearest(owner, known)}",
            )
        if owner and notify is not None and notify.channel(owner, people) is None:
            yield Result(True, f"{where} is told of no case: {notify_path(folder)} has no line for it under 'told'")


def _destinations(session: EndpointSession, partner: PartnerProfile, endpoint: str) -> Iterator[Result]:
    """Folders that deliveries go to. One that is an order's own cannot be looked for before there is an order."""
    for name, stream in partner.outbound.items():
        for place in stream.destinations:
            if place.endpoint != endpoint:
                continue
            if "{order}" in place.folder or "{ordered" in place.folder:
                yield Result(
                    True, f"stream {name}: {place.folder} is each order's own; the partner makes it, or it must be there"
                )
                continue
            folder = fill(place.folder, {"partner": partner.name, "stream": name})
            try:
                next(iter(session.look(folder)), None)
                yield Result(True, f"stream {name}: {folder} is there")
                if place.exists is Exists.REPLACE and not session.capabilities.rename_replaces:
                    yield Result(
                        True,
                        f"WARNING: stream {name}: this server is not known to replace a file in one step. Where it cannot, the old "
                        "file is set aside first, and for a moment nothing stands under the name",
                    )
            except CountersignError as error:
                yield Result(False, f"stream {name}: {error}")


def _shared_accounts(partner: PartnerProfile) -> list[str]:
    """Accounts at the partner with which documents come in and go out; else credentials that open an account for each."""
    inbound = [partner.endpoints[stream.endpoint] for stream in partner.inbound.values()]
    going = [place.endpoint for stream in partner.outbound.values() for place in stream.destinations]
    outbound = [partner.endpoints[name] for name in going if name is not None]
    outbound += [
        partner.endpoints[told.endpoint or stream.endpoint]
        for stream in partner.inbound.values()
        for told in (stream.notes, stream.receipts)
        if told
    ]
    accounts = {endpoint.address for endpoint in inbound} & {endpoint.address for endpoint in outbound}
    own = [
        {getattr(endpoint, field, None) for endpoint in ends for field in ("password", "private_key")}
        for ends in (inbound, outbound)
    ]
    return sorted(accounts or (reference for reference in own[0] & own[1] if reference))


def absent_credential(endpoint: Endpoint) -> str:
    """The reference to a credential that cannot be read here; "" if all can."""
    for reference in sorted(_credentials(endpoint)):
        try:
            read_credential(reference)
        except ConfigurationError:
            return reference
    return ""


def _credentials(endpoint: Endpoint) -> set[str]:
    """References to what opens an endpoint, jump hosts on the way included."""
    doors = [endpoint, *getattr(endpoint, "jump", ())]
    fields = ("password", "private_key", "passphrase", "certificate")
    return {reference for door in doors for field in fields if (reference := getattr(door, field, None))}


def _look(session: EndpointSession, name: str, stream: Inbound) -> Result:
    """What of the stream's folder would be picked up, and as what."""
    from tasks.rules.naming import recognise
    from tasks.rules.settle import belongs

    try:
        seen, types = 0, Counter[str]()
        for file in session.look(stream.folder):
            seen += 1
            if belongs(file, stream.settle, stream.patterns):
                types[recognise(file.name, stream) or "of no document type by name"] += 1
    except CountersignError as error:
        return Result(False, f"stream {name}: {error}")
    told = ", ".join(f"{count} {what}" for what, count in types.most_common())
    odd, unread = session.unread, ""
    if odd.count:
        unread = f"; {odd.count} lines of the server's listing cannot be read and become no files, such as {odd.examples[0]!r}"
    return Result(
        not odd.count,
        f"stream {name}: {types.total()} of {seen} files match in {stream.folder}{f' ({told})' if told else ''}{unread}",
    )


_NO_PROCESSES = "the repository keeps no business workspaces and no workflows: only Extended ECM does"


def _rows_stand_alone(doctype: Doctype) -> bool:
    return doctype.table is not None and doctype.table.rows_stand_alone


def _streams(file: PartnerFile, repositories: Mapping[str, Repository]) -> Iterator[Problem]:
    """Targets, document types and templates that a stream names, and that are not there."""
    from tasks.doctypes import known
    from tasks.rules.filing import check_evidence, check_templates
    from tasks.rules.transfers import check_transfers

    for name, stream in file.partner.inbound.items():
        loc = ("partner", "streams", name)
        if stream.target.repository not in repositories:
            known_ones = nearest(stream.target.repository, repositories)
            yield Problem((*loc, "target", "repository"), f"not in repositories.yaml; {known_ones}")
        for number, rule in enumerate(stream.classify):
            if rule.doctype not in known():
                yield Problem((*loc, "classify", number, "doctype"), f"no such document type; {nearest(rule.doctype, known())}")
            elif stream.rows is RowPolicy.GOOD_ROWS and not _rows_stand_alone(known()[rule.doctype]):
                said = "is told only together, or no table: none of it goes on in part; leave out 'rows: good-rows'"
                yield Problem((*loc, "classify", number, "doctype"), said)
        yield from _templates(check_templates(stream), (*loc, "target"))
        keeps = repositories.get(stream.target.repository)
        for below, wanted in ((("target", "workspace"), stream.target.workspace), (("workflow",), stream.workflow)):
            if wanted is not None and keeps is not None and not keeps.has_processes:
                yield Problem((*loc, *below), _NO_PROCESSES)
        for told in check_transfers(stream):
            where, _, problem = told.partition(": ")
            place: Loc = ("transfers", *where.split("/"))
            if where.startswith("classify/"):
                place = ("classify", int(where[9:]), "pattern")
            yield Problem((*loc, *place), problem)
    for name, leaving in file.partner.outbound.items():
        loc = ("partner", "streams", name)
        places = [("gather", leaving.gather.repository), ("evidence", leaving.evidence.repository)]
        places += [("record", leaving.record.repository)] if leaving.record else []
        for key, repository in places:
            if repository not in repositories:
                yield Problem((*loc, key, "repository"), f"not in repositories.yaml; {nearest(repository, repositories)}")
        for key, target in (("evidence", leaving.evidence), ("record", leaving.record)):
            keeps = repositories.get(target.repository) if target is not None and target.workspace is not None else None
            if keeps is not None and not keeps.has_processes:
                yield Problem((*loc, key, "workspace"), _NO_PROCESSES)
        taken = repositories.get(leaving.gather.repository)
        if leaving.gather.review is not None and taken is not None and not taken.has_processes:
            yield Problem((*loc, "gather", "review"), _NO_PROCESSES)
        for number, rule in enumerate(leaving.classify):
            if rule.doctype not in known():
                yield Problem((*loc, "classify", number, "doctype"), f"no such document type; {nearest(rule.doctype, known())}")
        yield from _templates(check_evidence(leaving.evidence, leaving), (*loc, "evidence"))
        if leaving.record is not None:
            yield from _templates(check_evidence(leaving.record, leaving), (*loc, "record"))
            yield from _acknowledged(file.partner, leaving.record.acknowledged_by, (*loc, "record", "acknowledged_by"))
            yield from _out_of_sight(file.partner, leaving, (*loc, "record", "picked_up_within"))
        yield from _twice(file.partner, name, (*loc, "destinations"))


def _calendars(file: PartnerFile, folder: Path) -> Iterator[Problem]:
    """Business calendars that a sign-off counts its time by, or something is expected by, and that are not there."""
    named = [(name, "signoff", stream.signoff.calendar) for name, stream in file.partner.outbound.items()]
    named += [(name, "expect", stream.expect.calendar) for name, stream in file.partner.inbound.items() if stream.expect]
    wanted = [(name, word, calendar) for name, word, calendar in named if calendar is not None]
    calendars = load_calendars(folder) if wanted else {}
    for name, word, calendar in wanted:
        if calendar not in calendars:
            loc = ("partner", "streams", name, word, "calendar")
            yield Problem(loc, f"not in calendars.yaml; {nearest(calendar, calendars)}")


def _papers(file: PartnerFile, repositories: Mapping[str, Repository], folder: Path) -> Iterator[Problem]:
    """Papers in a repository, and told to a system, that are not there."""
    papers = file.partner.papers
    if papers is None:
        return
    if papers.repository not in repositories:
        yield Problem(
            ("partner", "papers", "repository"), f"not in repositories.yaml; {nearest(papers.repository, repositories)}"
        )
    if (tells := papers.tells) is not None:
        loc = ("partner", "papers", "tells")
        try:
            system = load_system(tells.system, folder)
        except ConfigurationError as error:
            yield Problem((*loc, "system"), str(error))
            return
        if isinstance(system, HttpSystem) and tells.route not in system.routes:
            yield Problem((*loc, "route"), f"no such route of {tells.system}; {nearest(tells.route, system.routes)}")


def _out_of_sight(partner: PartnerProfile, leaving: Outbound, loc: Loc) -> Iterator[Problem]:
    """Pickups that nobody here could see."""
    if leaving.recording.picked_up_within is None:
        return
    for destination in leaving.destinations:
        if destination.endpoint is None:
            yield Problem(loc, f"nobody takes anything away from a share ({destination.place!r}), so no pickup is ever seen")
        elif partner.endpoints[destination.endpoint].write_only:
            yield Problem(
                loc, f"the folder at {destination.endpoint!r} cannot be looked into ('write_only'), so no pickup is ever seen"
            )


def _acknowledged(partner: PartnerProfile, stream: str | None, loc: Loc) -> Iterator[Problem]:
    """Acknowledgements whose names tell nobody what they speak of."""
    if stream is None:
        return
    if stream not in partner.inbound:
        yield Problem(loc, f"no such inbound stream; {nearest(stream, partner.inbound)}")
        return
    terms = partner.inbound[stream]
    for rule in terms.classify:
        groups = {*re.compile(rule.pattern).groupindex, *re.compile(terms.naming or "").groupindex}
        if not groups & {"order", "document"}:
            yield Problem(
                loc, f"{stream}: {rule.pattern!r} has neither a group 'order' nor 'document': nobody knows of what it speaks"
            )


def _templates(found: Iterable[str], loc: Loc) -> Iterator[Problem]:
    for told in found:
        where, _, problem = told.partition(": ")
        inside = ("categories",) if "/" in where and not where.startswith("workspace/") else ()
        below = (*inside, *where.split("/", 1))
        yield Problem((*loc, *below), problem)


def _twice(partner: PartnerProfile, stream: str, loc: Loc) -> Iterator[Problem]:
    """Destinations whose templates fill to one and the same place: no package could be made."""
    facts: dict[str, str | datetime] = {"partner": partner.name, "stream": stream, "order": "o", "ordered": datetime.now(UTC)}
    facts["kit"] = next(iter(partner.outbound[stream].kits), "")
    seen: set[Destination] = set()
    for number, place in enumerate(partner.outbound[stream].destinations):
        destination = destination_of(partner.place(place), fill(place.folder, facts))
        if destination in seen:
            yield Problem((*loc, number, "folder"), f"is the same place as another destination: {destination.shown}")
        seen.add(destination)


def _deployments(file: PartnerFile) -> Iterator[Problem]:
    """Flows that are not there. They are looked for, not imported."""
    for number, deployment in enumerate(file.deployments):
        module = deployment.entrypoint.rpartition(".")[0]
        try:
            found = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            yield Problem(("deployments", number, "entrypoint"), f"there is no module {module}")
