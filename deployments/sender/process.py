"""``countersign sender``: the HTTP service on a Unix socket. It parses what is asked, and tells what came of it.

Workers may judge, send, seal; ops may unlock approvers and settle doubts. No answer and no log line holds
a proof, a seed or a credential.
"""

from __future__ import annotations

import base64
import gc
import logging
import os
import pwd
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import AwareDatetime, Base64Bytes, BaseModel, ConfigDict, Field
from pydantic_core import to_json

from blocks import outbound
from blocks.case_signoff import CaseAction, CaseDecision
from blocks.errors import ConfigurationError, CountersignError, SenderUnreachable, SendRefused
from blocks.outbound import Package, Policies, Refusal, Requester, Round, Vote, iso
from blocks.sender import Arrived, MessageKind, Seen, ServiceMessage, delivered_facts
from blocks.spool import place_in
from blocks.values import RemoteFile, name_b64, shown
from deployments.sender.beforehand import Beforehand
from deployments.sender.cases import CaseJudge
from deployments.sender.dispatch import Dispatcher
from deployments.sender.judging import CHANGED, NEVER_ASKED, Judge
from deployments.sender.messages import Messenger
from deployments.sender.peers import Peer, listening, serve
from deployments.sender.register import Register
from deployments.sender.sealing import seal
from deployments.sender.store import Store
from deployments.sender.turns import Lanes
from deployments.sender.watch import APART, Watch

SENDS_AT_ONCE = 8
"""More packages than these wait for their turn, so that partners who answer slowly never keep anybody from signing."""
COPIES_AT_ONCE = 4
"""Of packages that are prepared: no partner is asked for that, so none keeps them waiting."""
MESSAGES_AT_ONCE = 2
"""To each partner: so that one who answers slowly holds up no other, and none of them a release."""
DEEDS_AT_ONCE = 200
_log = logging.getLogger("countersign.sender")


def run(
    socket: Path,
    state: Path,
    *,
    profiles: Path,
    spool: Path,
    allowed: Iterable[int],
    ops: Iterable[int],
    group: int | None = None,
    floor_bytes: int = 1024**3,
    forget_checkpoint: bool = False,
) -> None:
    """Serve until told to end. ``allowed`` and ``ops`` are user ids of callers; ``group`` owns the socket.

    ``forget_checkpoint``: the next checkpoint is sealed as it comes, whatever was sealed before.

    Raises ``ConfigurationError`` if it cannot begin.
    """
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    for chatty in ("httpx", "paramiko"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    operators = frozenset(ops)
    store = Store(state)
    try:
        with store.alone(), listening(socket, group) as server:
            if forget_checkpoint:
                store.forget_checkpoint()
                _log.warning("the last checkpoint is forgotten: the next one is sealed as it comes")
            application = service(store, profiles, spool, operators, floor_bytes=floor_bytes)

            def cut_off(peer: Peer) -> None:
                store.refused(peer.uid, "connect", "", "may not call the sender: cut off")

            # What is here stays: a release with thousands of files is not to look through all of it again and again. Through its own
            # a third as often as Python would: most of that stays to its end, and what is over and in circles must not wait for long.
            gc.collect()
            gc.freeze()
            gc.set_threshold(2_000, 10, 50)
            serve(application, server, frozenset(allowed) | operators, cut_off)
    finally:
        store.close()


def service(
    store: Store, profiles: Path, spool: Path, ops: frozenset[int], *, floor_bytes: int, apart: timedelta = APART
) -> FastAPI:
    """The application. ``spool`` is the workers' folder of bytes by digest, which we only read; ``apart``: the looks for a pickup."""
    app = FastAPI(title="Countersign sender", docs_url=None, redoc_url=None, openapi_url=None)
    place = partial(place_in, spool)
    judge, register, beforehand = Judge(store, profiles, place), Register(store, profiles), Beforehand(store, profiles)
    dispatcher = Dispatcher(store, judge, profiles, place, floor_bytes=floor_bytes)
    messenger = Messenger(store, profiles, floor_bytes=floor_bytes)
    cases = CaseJudge(store, profiles)
    watch = Watch(store, profiles, apart)
    sends, messages = CapacityLimiter(SENDS_AT_ONCE), Lanes(MESSAGES_AT_ONCE)
    copies = CapacityLimiter(COPIES_AT_ONCE)
    _tell_errors(app, store)

    @app.get("/health")
    def health() -> dict[str, str]:
        public = base64.b64encode(store.seal_key.public).decode()
        return {"key": store.seal_key.id, "public": public, "checkpoint": store.checkpoint() or ""}

    @app.post("/request")
    def request(asked: RequestRequest) -> dict[str, Any]:
        outcome = register.request(asked.parsed(), asked.proof)
        order = shown(f"{asked.partner}/{asked.stream} {asked.order}"[:200])
        if isinstance(outcome, Refusal):
            _log.info("request for %s: refused (%s)", order, outcome.code)
            return {"refusal": {"code": outcome.code, "first_line": outcome.first_line}}
        _log.info("request for %s: by %s, proven by %s", order, outcome.requester, outcome.proof)
        return {"requested": outcome.facts}

    @app.post("/requested")
    def requested(asked: RequestedRequest) -> dict[str, Any]:
        found = store.requested(asked.partner, asked.stream, asked.order)
        return {"requested": found.facts if found else None}

    @app.post("/open")
    def opened(asked: OpenRequest, request: Request) -> dict[str, Any]:
        package, policies = asked.parsed()
        request.state.about = package.digest
        stated = Requester(asked.requester) if asked.requester else None
        known = judge.open(package, policies, stated, frozenset(asked.editors))
        moments = {"deadline": known.deadline, "remind": known.remind, "widens": known.widens}
        told: dict[str, Any] = {name: iso(at) if at else None for name, at in moments.items()}
        told |= {"brake": list(known.brake), "votes": [vote.facts for vote in known.votes], "outside": list(known.outside)}
        return {"requester": _requester(known.requester), **told}

    @app.post("/ask")
    def told(asked: AskRequest, request: Request) -> dict[str, str]:
        request.state.about = asked.round.key
        return {"at": iso(judge.ask(asked.round.parsed(), asked.shown))}

    @app.post("/judge")
    def judged(asked: JudgeRequest, request: Request) -> dict[str, Any]:
        request.state.about = asked.round.key
        package, policies = asked.parsed()
        outcome = judge.judge(asked.answer, package, policies, asked.round.parsed(), _votes(asked.votes), at=asked.at)
        if isinstance(outcome, Refusal):
            _log.info("package %s, round %d: refused (%s)", package.digits, asked.round.n, outcome.code)
            if outcome in (NEVER_ASKED, CHANGED):  # of these there is no judgement
                store.refused(request.state.peer.uid, "/judge", asked.round.key, f"({outcome.code}) {outcome.first_line}")
            return {"refusal": {"code": outcome.code, "first_line": outcome.first_line}}
        _log.info("package %s, round %d: %s by %s", package.digits, asked.round.n, outcome.decision, outcome.seat.text)
        return {"vote": outcome.facts}

    @app.post("/prepare")
    async def prepared(asked: PrepareRequest, request: Request) -> dict[str, list[str]]:
        package, policies = asked.parsed()
        request.state.about = package.digest
        votes = _votes(asked.votes)
        lacking = await run_sync(lambda: dispatcher.prepare(judge.known(package), policies, votes), limiter=copies)
        return {"lacking": lacking}

    @app.post("/send")
    async def sent(asked: SendRequest, request: Request) -> Response:
        package, policies = asked.parsed()
        request.state.about = package.digest
        seen, votes = [Seen(**vars(one)) for one in asked.seen], _votes(asked.votes)

        def send() -> list[Arrived]:
            return dispatcher.send(judge.known(package), policies, votes, seen)

        arrived = await run_sync(send, limiter=sends)
        for one in arrived:
            _log.info("package %s, destination %d: %s", package.digits, one.destination, one.problem or "complete")
        # As an answer: FastAPI would look through values of thousands of files for what is no JSON.
        told = to_json({"destinations": [_arrived_facts(one) for one in arrived]})
        return Response(told, media_type="application/json")

    @app.post("/tell")
    async def told_partner(asked: TellRequest, request: Request) -> dict[str, Any]:
        message = asked.parsed()
        request.state.about = message.id
        arrived = await messages.run(message.partner, lambda: messenger.tell(message), request.is_disconnected)
        _log.info("%s: %s", message.shown, arrived.problem or "complete")
        return _arrived_facts(arrived)

    @app.post("/standing/sign")
    def signed_beforehand(asked: StandingSignRequest) -> dict[str, Any]:
        outcome = beforehand.sign(asked.partner, asked.stream, asked.approver, asked.until, asked.proof)
        about = shown(f"{asked.partner}/{asked.stream} by {asked.approver}"[:200])
        if isinstance(outcome, Refusal):
            _log.info("standing sign-off of %s: refused (%s)", about, outcome.code)
            return {"refusal": {"code": outcome.code, "first_line": outcome.first_line}}
        _log.warning("standing sign-off of %s: until %s", about, iso(outcome.until))
        return {"signed": outcome.facts}

    @app.post("/standing")
    def standing(asked: StreamRequest) -> dict[str, Any]:
        book = beforehand.book(asked.partner, asked.stream)
        held = [{"signed": one.signed.facts, "ended": one.ended, "used": one.used} for one in book.held]
        return {"standing": held, "today": book.today}

    @app.post("/standing/end")
    def ended(asked: StandingEndRequest) -> dict[str, Any]:
        outcome = beforehand.end(asked.partner, asked.stream, asked.approver, tuple(asked.ends), asked.proof)
        about = shown(f"{asked.partner}/{asked.stream} by {asked.approver}"[:200])
        if isinstance(outcome, Refusal):
            _log.info("end of standing sign-offs of %s: refused (%s)", about, outcome.code)
            return {"refusal": {"code": outcome.code, "first_line": outcome.first_line}}
        _log.warning("standing sign-offs of %s: %d ended by who had signed", about, outcome)
        return {"ended": outcome}

    @app.post("/standing/deeds")
    def deeds(asked: DeedsRequest) -> dict[str, Any]:
        return {"deeds": [deed.told for deed in store.deeds(asked.after, DEEDS_AT_ONCE)]}

    @app.post("/standing/revoke")
    def revoked(asked: StandingRevokeRequest, request: Request) -> dict[str, int]:
        caller = operator(request, "revoke what was signed off beforehand")
        _log.warning(
            "standing sign-offs of %s/%s %r were revoked by user id %d", asked.partner, asked.stream, asked.approver, caller
        )
        return {"revoked": beforehand.revoke(asked.partner, asked.stream, asked.approver, _account(caller))}

    @app.post("/case")
    def case_judged(asked: CaseRequest, request: Request) -> dict[str, Any]:
        request.state.about = asked.round
        decision = asked.parsed()
        outcome = cases.judge(decision, asked.comment, asked.proof, asked.round, at=asked.at)
        about = shown(f"{asked.action} of {asked.partner}/{asked.stream} {asked.journey}"[:200])
        if isinstance(outcome, Refusal):
            _log.info("%s: refused (%s)", about, outcome.code)
            if outcome.code == "locked":  # whoever guesses past our flows is found by that
                reason = f"{decision.approver[:80]}: {outcome.first_line}"
                store.refused(request.state.peer.uid, "/case", asked.round, reason)
            return {"refusal": {"code": outcome.code, "first_line": outcome.first_line}}
        _log.info("%s: signed off by %s", about, outcome.approver)
        return {"signoff": outcome.facts}

    @app.post("/burn")
    def burnt(asked: BurnRequest) -> dict[str, int]:
        return {"burnt": cases.burn(asked.text)}

    @app.post("/withdraw")
    def withdrawn(asked: PackageRequest) -> dict[str, Any]:
        package = asked.parsed()
        told = dispatcher.withdraw(package)
        _log.info("package %s: withdrawn; %d temporary names left %s", package.digits, len(told.left), told.problem)
        files = [delivered_facts(file) for file in told.files]
        return {**asdict(told), "left": [name_b64(name) for name in told.left], "files": files}

    @app.post("/picked-up")
    async def picked_up(asked: PackageRequest, request: Request) -> dict[str, Any]:
        package = asked.parsed()
        told = await messages.run(package.partner, lambda: watch.look(package), request.is_disconnected)
        if told.problem:
            _log.info("package %s: whether it was picked up cannot be told now: %s", package.digits, told.problem)
        files = [
            {"destination": one.destination, "name": name_b64(one.name), "gone": iso(one.gone) if one.gone else None}
            for one in told.files
        ]
        return {"files": files, "problem": told.problem}

    @app.post("/staged")
    def staged() -> dict[str, Any]:
        return {"packages": dispatcher.staged()}

    @app.post("/unstage")
    def unstaged(asked: UnstageRequest) -> dict[str, int]:
        freed = dispatcher.unstage(asked.package)
        _log.info("package %s: its copies are removed, %d bytes", asked.package[:8], freed)
        return {"freed": freed}

    @app.post("/seal")
    def sealed(asked: SealRequest) -> dict[str, str]:
        return {"signature": base64.b64encode(seal(asked.purpose, asked.text, store)).decode()}

    @app.post("/record")
    def record(asked: RecordRequest) -> dict[str, Any]:
        return asdict(store.record(asked.since))

    @app.post("/unlock")
    def unlock(asked: UnlockRequest, request: Request) -> dict[str, bool]:
        caller = operator(request, "unlock approvers")
        _log.warning("approver %r was unlocked by user id %d", asked.approver, caller)
        return {"unlocked": store.unlock(asked.approver)}

    @app.post("/settle")
    def settle(asked: SettleRequest, request: Request) -> dict[str, Any]:
        caller = operator(request, "settle a delivery in doubt")
        settled = dispatcher.settle(
            asked.package,
            asked.destination,
            asked.name,
            arrived=asked.arrived,
            by=_account(caller),
            comment=asked.comment.strip(),
        )
        what = "has arrived" if asked.arrived else "is to be sent again"
        _log.warning("package %s: user id %d says that %s %s", asked.package[:8], caller, shown(asked.name), what)
        return {"number": settled.number, "said": settled.said.facts, "left": settled.left}

    @app.post("/hide")
    def hidden(asked: PackageRequest, request: Request) -> dict[str, Any]:
        caller, package = operator(request, "end a share"), asked.parsed()
        request.state.about = package.digest
        places = dispatcher.hide(package)
        _log.warning("package %s: user id %d had it hidden at %s", package.digits, caller, ", ".join(places))
        return {"places": places, "by": _account(caller)}

    def operator(request: Request, act: str) -> int:
        caller: int = request.state.peer.uid
        if caller not in ops:
            raise SendRefused(f"user id {caller} may not {act}: that is for operations (countersign sender --ops-uid)")
        return caller

    return app


def _account(uid: int) -> str:
    """Who that is, as this machine knows them."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (user id {uid})"
    except KeyError:
        return f"user id {uid}"


# --------------------------------------------------------------------------------------------- what is asked


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class PackageAsked(_Asked):
    package: str
    policies: dict[str, str]

    def parsed(self) -> tuple[Package, Policies]:
        try:
            return Package.parse(self.package), Policies(**self.policies)
        except (ValueError, TypeError) as error:
            raise SendRefused(f"{error}; nothing was sent") from error


class RequestedRequest(_Asked):
    partner: str
    stream: str
    order: str


class RequestRequest(RequestedRequest):
    ids: list[str] = Field(max_length=10_000)
    requester: str
    proof: str = Field(max_length=8192)
    kit: str = Field(default="", max_length=100)

    def parsed(self) -> outbound.Request:
        try:
            return outbound.Request(self.partner, self.stream, self.order, tuple(self.ids), self.requester, self.kit)
        except ValueError as error:
            raise SendRefused(f"{error}; nothing was asked for") from error


class StreamRequest(_Asked):
    partner: str = Field(max_length=100)
    stream: str = Field(max_length=100)


class StandingRevokeRequest(StreamRequest):
    approver: str = Field(max_length=100)


class DeedsRequest(_Asked):
    after: str = Field(max_length=100)


class StandingEndRequest(StreamRequest):
    approver: str = Field(max_length=100)
    ends: list[str] = Field(max_length=1000)
    proof: str = Field(max_length=8192)


class StandingSignRequest(StreamRequest):
    approver: str = Field(max_length=100)
    until: AwareDatetime
    proof: str = Field(max_length=8192)


class CaseRequest(StreamRequest):
    journey: str = Field(min_length=1, max_length=200)
    action: CaseAction
    document: str = Field(pattern="^([0-9a-f]{64})?$")
    corrected: str = Field(pattern="^([0-9a-f]{64})?$")
    approver: str = Field(max_length=200)
    comment: str = Field(max_length=2000)
    proof: str = Field(max_length=8192)
    round: str = Field(min_length=1, max_length=200)
    at: AwareDatetime

    def parsed(self) -> CaseDecision:
        return CaseDecision(**{name: getattr(self, name) for name in CaseDecision.__dataclass_fields__})


class BurnRequest(_Asked):
    text: str = Field(max_length=20_000)


class OpenRequest(PackageAsked):
    requester: str | None
    editors: list[str]


class RoundAsked(_Asked):
    n: int = Field(ge=1)
    key: str = Field(min_length=1, max_length=200)
    run: str = Field(min_length=1, max_length=200)
    digest: str

    def parsed(self) -> Round:
        return Round(self.n, self.key, self.run, self.digest)


class RecordRequest(_Asked):
    since: AwareDatetime


class AskRequest(_Asked):
    round: RoundAsked
    shown: str = Field(pattern="^[0-9a-f]{64}$")


class JudgeRequest(PackageAsked):
    answer: Any
    round: RoundAsked
    votes: list[dict[str, Any]]
    at: AwareDatetime


class SeenAsked(_Asked):
    repository_id: str
    newest: int | None
    admitted: bool
    sha256: str | None


class PrepareRequest(PackageAsked):
    votes: list[dict[str, Any]]


class SendRequest(PrepareRequest):
    seen: list[SeenAsked]


class TellRequest(_Asked):
    kind: MessageKind
    partner: str = Field(max_length=100)
    stream: str = Field(max_length=100)
    folder: str = Field(max_length=4096)
    name: Base64Bytes = Field(max_length=255)
    size: int = Field(ge=0)
    modified: AwareDatetime | None
    digest: str | None = Field(pattern="^[0-9a-f]{64}$")
    facts: dict[str, Any]

    def parsed(self) -> ServiceMessage:
        file = RemoteFile(self.folder, self.name, self.size, self.modified)
        return ServiceMessage(self.kind, self.partner, self.stream, file, self.digest, self.facts)


class PackageRequest(_Asked):
    package: str

    def parsed(self) -> Package:
        try:
            return Package.parse(self.package)
        except ValueError as error:
            raise SendRefused(f"{error}; nothing was done") from error


class UnstageRequest(_Asked):
    package: str = Field(pattern="^[0-9a-f]{64}$")


class SealRequest(_Asked):
    purpose: Literal["checkpoint", "tombstone", "certificate"]
    text: str


class UnlockRequest(_Asked):
    approver: str


class SettleRequest(_Asked):
    package: str
    destination: str
    name: Base64Bytes
    arrived: bool
    comment: str = Field(pattern=r"\S", max_length=2000)


def _votes(told: Sequence[dict[str, Any]]) -> list[Vote]:
    try:
        return [Vote.parse(facts) for facts in told]
    except ValueError as error:
        raise SendRefused(f"{error}; nothing was sent") from error


# --------------------------------------------------------------------------------------------- what is told


def _requester(known: Requester | None) -> dict[str, Any] | None:
    return {"id": known.id, "proof": known.proof} if known else None


def _arrived_facts(one: Arrived) -> dict[str, Any]:
    return {
        "destination": one.destination,
        "files": [delivered_facts(file) for file in one.files],
        "unknown": [name_b64(name) for name in one.unknown],
        "problem": one.problem,
        "worth_retrying": one.worth_retrying,
        "full": one.full,
        "withheld": one.withheld,
        "endpoint": one.endpoint,
        "personality": one.personality.facts if one.personality else None,
    }


def _tell_errors(app: FastAPI, store: Store) -> None:
    """Errors of ours as an HTTP status with one reason; what was posted is never repeated, a proof may be in it."""

    async def remember(request: Request, reason: str) -> None:
        about = str(getattr(request.state, "about", ""))
        await run_in_threadpool(store.refused, request.state.peer.uid, request.url.path[:40], about, reason)

    @app.exception_handler(CountersignError)
    async def known(request: Request, error: CountersignError) -> JSONResponse:
        kinds: list[tuple[type[CountersignError], int]] = [
            (SendRefused, 409),
            (ConfigurationError, 501),
            (SenderUnreachable, 503),
        ]
        status = next((status for kind, status in kinds if isinstance(error, kind)), 503 if error.worth_retrying else 500)
        _log.warning("user id %d, %s: %s: %s", request.state.peer.uid, request.url.path, type(error).__name__, error)
        if isinstance(error, SendRefused):
            await remember(request, str(error))
        return JSONResponse({"reason": str(error)}, status)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['type']}" for one in error.errors()[:5])
        reason = f"the request is none that this sender knows ({places}); is the worker of the same version?"
        await remember(request, reason)
        return JSONResponse({"reason": reason}, 422)

    @app.exception_handler(Exception)
    async def surprise(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"reason": f"a mistake in the sender ({type(error).__name__}); its log says where"}, 500)
