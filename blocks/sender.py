"""The sender's client: how a worker asks the process that alone judges proofs, sends and seals.

It speaks HTTP over a Unix socket. Nothing of a proof's secret ever comes back; what comes back is sealed by the sender.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
from binascii import a2b_base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from blocks.case_signoff import CaseDecision, CaseSignoff
from blocks.closing import Closing
from blocks.errors import ConfigurationError, SenderError, SenderUnreachable, SendRefused
from blocks.outbound import (
    Deed,
    Delivered,
    Destination,
    HeldStanding,
    Judged,
    Matter,
    Package,
    Policies,
    Record,
    Refusal,
    Refused,
    Request,
    Requested,
    Requester,
    Round,
    Said,
    SignoffProof,
    StandingBook,
    StandingEnd,
    StandingSignoff,
    Stood,
    Vote,
    canonical,
    iso,
    sha256,
)
from blocks.values import Personality, Proof, ReceiptState, RemoteFile, name_b64

if TYPE_CHECKING:
    from blocks.endpoints.base import Endpoint
    from blocks.shares import Share


@dataclass(frozen=True, slots=True)
class Seen:
    """What the repository says of one document now, as a worker looked it up just before asking to send."""

    repository_id: str
    newest: int | None
    """Its newest version; None if it is gone, or the version that was approved is."""
    admitted: bool = True
    """The stream's terms still let it go."""
    sha256: str | None = None
    """Of the version that the package names, if its bytes were read again."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """How far a package has come at one destination."""

    destination: int
    """Its place in the package's destinations, from 0."""
    files: tuple[Delivered, ...]
    """Those that stand there, or stood."""
    unknown: tuple[bytes, ...] = ()
    """Names of which nobody here can tell whether they arrived: a person asks the partner. They are never sent again by us."""
    problem: str = ""
    """Why not all is there; "" if it is."""
    worth_retrying: bool = False
    """True if the same call may do better later; it never sends a file twice."""
    full: bool = False
    """The partner has no room; once there is some, the same call goes on."""
    withheld: bool = False
    """A paper that the partner must provide is lacking; once it is good, the same call goes on."""
    endpoint: str = field(default="", compare=False)
    """The name of the endpoint in the reviewed profile, if it was visited this time."""
    personality: Personality | None = field(default=None, compare=False)
    """What the sender found out about its server then."""

    @property
    def complete(self) -> bool:
        return not self.problem and not self.unknown


@dataclass(frozen=True, slots=True)
class Settled:
    """What a person settled about one file in doubt, as the sender wrote it down."""

    number: int
    """Of all that were ever settled there."""
    said: Said
    left: int
    """Files of the package that are still in doubt."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """Shares that were ended because a person said so."""

    places: tuple[str, ...]
    by: str


@dataclass(frozen=True, slots=True)
class Opened:
    """What the sender holds of a package whose sign-off has begun. It is what counts, whatever anybody tells later."""

    requester: Requester | None
    deadline: datetime
    """Counted by the sender's clock from the moment when it was opened first, as are the others."""
    remind: datetime | None = None
    """When whoever may still sign is reminded."""
    widens: datetime | None = None
    """From when on the wider circle may sign too."""
    brake: tuple[str, ...] = ()
    """Why one more person must sign; empty: it is as usual."""
    votes: tuple[Vote, ...] = ()
    """Those that were signed beforehand."""
    outside: tuple[str, ...] = ()
    """Why what people have signed beforehand is not good for it; told when it is opened first."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What was cleared away at the partner of a package that goes no further."""

    stand: int = 0
    """Files that stand there under their own names, or stood: they stay."""
    unknown: int = 0
    """Files of which nobody here can tell."""
    left: tuple[bytes, ...] = ()
    """Temporary names of ours that stand there still, or may."""
    problem: str = ""
    """Why they could not be removed."""
    files: tuple[Delivered, ...] = ()
    """The documents among those that stand there, each with what was sent and how that is known."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A document that was delivered, as it was looked for where it stood."""

    destination: int
    """Its place in the package's destinations, from 0."""
    name: bytes
    """Its name there."""
    gone: datetime | None
    """When it was first seen to be gone, after it was seen to stand there; None: it stands there, or nobody can tell."""


@dataclass(frozen=True, slots=True)
class PickedUp:
    """Which documents of a package the partner has taken, as far as the folders tell."""

    files: tuple[Watched, ...]
    problem: str = ""
    """Why some of it cannot be told now."""


class MessageKind(StrEnum):
    """What partners are told without anybody's signature: fixed schemas, and nothing in them that is not theirs or ours to say."""

    NOTE = "note"
    RECEIVED = "received"
    ACCEPTED = "accepted"
    REJECTED = "rejected"

    @property
    def receipt(self) -> ReceiptState | None:
        """What this kind of receipt says of a file; None for what is none."""
        return None if self is MessageKind.NOTE else ReceiptState(self.value)


@dataclass(frozen=True, slots=True)
class ServiceMessage:
    """What a worker asks the sender to tell a partner about one file of theirs. The sender makes the message itself."""

    kind: MessageKind
    partner: str
    stream: str
    file: RemoteFile
    """As it stands at the partner."""
    digest: str | None
    """Of its bytes; None if it was not fetched."""
    facts: Mapping[str, Any]
    """JSON values, as the kind wants them."""

    @property
    def id(self) -> str:
        """One message of a kind for each file of these bytes: asked for again, it is the same.

        Receipts are for each time that the partner has left it, as far as its server tells times.
        """
        as_listed = [self.file.size, iso(self.file.modified) if self.file.modified else None]
        about: Any = self.digest or as_listed
        if self.kind.receipt is not None:
            about = [self.digest, *as_listed]
        return sha256(canonical(["message", self.kind, self.partner, self.stream, name_b64(self.file.name), about]))

    @property
    def shown(self) -> str:
        return f"{self.kind} about {self.partner}/{self.stream} {self.file.shown}"


@dataclass(frozen=True, slots=True)
class Health:
    """What the sender says about itself."""

    key: str
    """Id of its seal key."""
    public: bytes
    """Its public key, 32 bytes: what a verifier keeps."""
    checkpoint: str = ""
    """The text of the last checkpoint that it sealed; "" if it remembers none."""


class Sender(Closing):
    """The process behind a socket. Each verb is safe to repeat.

    Raises ``SenderUnreachable`` if it does not answer, ``SendRefused`` if it will not, ``SenderError`` if it cannot.
    """

    def __init__(self, path: Path, *, timeout_seconds: float = 30.0, sending_seconds: float = 3600.0) -> None:
        self._socket = path
        self._sending = httpx.Timeout(timeout_seconds, read=sending_seconds)
        # A bare context: no TLS is spoken on the socket, and reading all certificates of this machine takes 40 ms each time.
        transport = httpx.HTTPTransport(uds=str(path), verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        self._client = httpx.Client(transport=transport, base_url="http://sender", timeout=timeout_seconds, trust_env=False)

    # ---------------------------------------------------------------------------------------- what workers ask

    def open(self, matter: Matter, policies: Policies) -> Opened:
        """Begin the sign-off of a package, before anybody is asked. Its deadline is the sender's to say; asked again, it is the same.

        ``policies`` are the parts of the package's policy digest. Who asked for it and who edited it last are held from now on.
        """
        asked = matter.requester
        told = self._post(
            "/open",
            {
                **_package(matter.package, policies),
                "requester": asked.id if asked else None,
                "editors": sorted(matter.editors),
            },
            self._sending,  # where bounds were signed beforehand, it may read the documents
        )
        known = told["requester"]
        requester = Requester(known["id"], SignoffProof(known["proof"]) if known["proof"] else None) if known else None
        remind, widens = (datetime.fromisoformat(told[name]) if told.get(name) else None for name in ("remind", "widens"))
        brake, votes = tuple(told.get("brake", ())), tuple(Vote.parse(facts) for facts in told.get("votes", ()))
        outside = tuple(told.get("outside", ()))
        return Opened(requester, datetime.fromisoformat(told["deadline"]), remind, widens, brake, votes, outside)

    def requested(self, partner: str, stream: str, order: str) -> Requested | None:
        """Who has proven that they asked for this order; None if nobody has."""
        told = self._post("/requested", {"partner": partner, "stream": stream, "order": order})["requested"]
        return Requested.parse(told) if told else None

    def ask(self, asked: Round, shown: str) -> datetime:
        """Tell that a round is about to be asked, before anybody can answer it: only then is its answer ever judged.

        ``shown`` is the SHA-256 of the text that its form shows. Returns when this was told first.
        """
        return datetime.fromisoformat(self._post("/ask", {"round": _round(asked), "shown": shown})["at"])

    def judge(
        self,
        answer: Mapping[str, Any],
        package: Package,
        policies: Policies,
        asked: Round,
        *,
        votes: Iterable[Vote] = (),
        at: datetime,
    ) -> Vote | Refusal:
        """Judge what a person filled in: their sealed vote, or why it does not count.

        ``votes`` are the sealed ones so far, ``at`` the Prefect server's time at which the run left Paused. When the round was asked,
        what it showed, who asked for the release and until when, the sender knows itself (``open``, ``ask``). A round is judged
        once: asked again with the same answer, it is answered the same.
        """
        told = self._post(
            "/judge",
            {
                "answer": dict(answer),
                **_package(package, policies),
                "round": _round(asked),
                "votes": [vote.facts for vote in votes],
                "at": iso(at),
            },
        )
        if refusal := told.get("refusal"):
            return Refusal(refusal["code"], refusal["first_line"])
        return Vote.parse(told["vote"])

    def prepare(self, package: Package, policies: Policies, votes: Iterable[Vote]) -> frozenset[str]:
        """Have the bytes of a package that these votes release copied, before it is sent: nothing of it leaves.

        The digests that the spool does not hold; the others it has read, and they are what was approved. Raises ``SendRefused`` if
        the package is not released.
        """
        told = self._post("/prepare", {**_package(package, policies), "votes": [vote.facts for vote in votes]}, self._sending)
        return frozenset(told["lacking"])

    def send(self, package: Package, policies: Policies, votes: Iterable[Vote], seen: Sequence[Seen]) -> list[Arrived]:
        """Send a package that these votes release, as far as it can be sent now; one answer per destination.

        ``seen`` tells of every document of the package what the repository says now.
        """
        told = self._post(
            "/send",
            {
                **_package(package, policies),
                "votes": [vote.facts for vote in votes],
                "seen": [{name: getattr(one, name) for name in Seen.__dataclass_fields__} for one in seen],
            },
            self._sending,
        )
        return [_arrived(one) for one in told["destinations"]]

    def tell(self, message: ServiceMessage) -> Arrived:
        """Tell a partner about a file of theirs, once. It must still stand at the partner when this is asked for first."""
        file = message.file
        told = self._post(
            "/tell",
            {
                "kind": message.kind,
                "partner": message.partner,
                "stream": message.stream,
                "folder": file.folder,
                "name": name_b64(file.name),
                "size": file.size,
                "modified": iso(file.modified) if file.modified else None,
                "digest": message.digest,
                "facts": dict(message.facts),
            },
            self._sending,
        )
        return _arrived(told)

    def judge_case(
        self, decision: CaseDecision, comment: str, proof: str, round_key: str, *, at: datetime
    ) -> CaseSignoff | Refusal:
        """What somebody decides about a refused document, judged by the stream's reviewed terms: sealed, or why it does not count.

        ``round_key``: which asking this answers, for ever; it is judged once, and asked again with the same answer it is answered the
        same. ``at``: when it was answered.
        """
        about = {**decision.about, "comment": comment, "proof": proof, "round": round_key, "at": iso(at)}
        told = self._post("/case", about)
        if refusal := told.get("refusal"):
            return Refusal(refusal["code"], refusal["first_line"])
        return CaseSignoff.parse(told["signoff"])

    def burn(self, text: str) -> None:
        """Have every code in a text never accepted: it was seen where it decides nothing."""
        self._post("/burn", {"text": text[:20_000]})

    def sign_beforehand(self, signed: StandingSignoff, proof: str) -> StandingSignoff | Refusal:
        """Hand in what somebody signs beforehand, as ``countersign standing sign`` does; or why it does not count."""
        about = {"partner": signed.partner, "stream": signed.stream, "approver": signed.approver}
        told = self._post("/standing/sign", {**about, "until": iso(signed.until), "proof": proof})
        if refusal := told.get("refusal"):
            return Refusal(refusal["code"], refusal["first_line"])
        return StandingSignoff.parse(canonical(told["signed"]))

    def standing(self, partner: str, stream: str) -> StandingBook:
        """What was signed beforehand for a stream."""
        told = self._post("/standing", {"partner": partner, "stream": stream})
        held = [
            HeldStanding(StandingSignoff.parse(canonical(one["signed"])), str(one["ended"]), int(one["used"]))
            for one in told["standing"]
        ]
        return StandingBook(tuple(held), int(told["today"]))

    def end_standing(self, ending: StandingEnd, proof: str) -> int | Refusal:
        """Hand in what somebody signs to end what they have signed beforehand; how many that are, or why it does not count."""
        about = {"partner": ending.partner, "stream": ending.stream, "approver": ending.approver}
        told = self._post("/standing/end", {**about, "ends": list(ending.ends), "proof": proof})
        if refusal := told.get("refusal"):
            return Refusal(refusal["code"], refusal["first_line"])
        return int(told["ended"])

    def deeds(self, after: str = "") -> tuple[Deed, ...]:
        """What was done about sign-offs beforehand, for the ledger, oldest first: the next ones after the deed of this id."""
        return tuple(Deed.parse(one) for one in self._post("/standing/deeds", {"after": after})["deeds"])

    def revoke_standing(self, partner: str, stream: str, approver: str) -> int:
        """End what somebody, or with an empty id everybody, has signed beforehand; how many that are. Ops only."""
        return int(self._post("/standing/revoke", {"partner": partner, "stream": stream, "approver": approver})["revoked"])

    def withdraw(self, package: Package) -> Withdrawn:
        """Clear away what stands at the partner under temporary names of ours, because the package goes no further now.

        Harmless at any time: what is sent again is uploaded anew.
        """
        told = self._post("/withdraw", {"package": package.text}, self._sending)
        left = tuple(base64.b64decode(name) for name in told["left"])
        files = tuple(delivered_of(file) for file in told.get("files", ()))
        return Withdrawn(told["stand"], told["unknown"], left, told["problem"], files)

    def picked_up(self, package: Package) -> PickedUp:
        """Look whether the documents of a delivered package still stand at the partner. Raises ``SendRefused`` for any other."""
        told = self._post("/picked-up", {"package": package.text}, self._sending)
        files = [
            Watched(
                one["destination"],
                base64.b64decode(one["name"]),
                datetime.fromisoformat(one["gone"]) if one["gone"] else None,
            )
            for one in told["files"]
        ]
        return PickedUp(tuple(files), told["problem"])

    def staged(self) -> tuple[str, ...]:
        """Digests of the packages of whose documents it has copies, for what it sends."""
        return tuple(str(package) for package in self._post("/staged", {})["packages"])

    def unstage(self, package: str) -> int:
        """Remove its copies of a package's documents; the bytes that this frees. Harmless at any time: what is sent is copied anew."""
        return int(self._post("/unstage", {"package": package})["freed"])

    def seal(self, purpose: str, text: str) -> bytes:
        """The sender's signature over the canonical text of a ``checkpoint``, a ``tombstone`` or a ``certificate``.

        A checkpoint must follow the last one that was sealed (``Health.checkpoint``), or be that one.
        """
        return base64.b64decode(self._post("/seal", {"purpose": purpose, "text": text})["signature"])

    def health(self) -> Health:
        told = self._ask("GET", "/health")
        return Health(told["key"], base64.b64decode(told["public"]), told.get("checkpoint", ""))

    def record(self, since: datetime) -> Record:
        """What was judged, refused and sent since then, whoever asked: what the ledger does not know of it went around our flows."""
        told = self._post("/record", {"since": iso(since)})
        return Record(
            tuple(Judged(**one) for one in told["judged"]),
            tuple(Refused(**{**one, "since": datetime.fromisoformat(one["since"])}) for one in told["refused"]),
            tuple(Stood(**one) for one in told["stood"]),
            tuple(told["sent"]),
        )

    # ---------------------------------------------------------------------------------------- what requesters ask

    def request(self, asked: Request, proof: str) -> Requested | Refusal:
        """Ask for a release as somebody who proves who they are; the sealed request, or why it is none.

        ``proof`` is what a form's field takes: a code, or the line of a signature over ``Request.statement``. Asked again by the
        same person for the same documents, with another proof, it is the same request.
        """
        facts = {"partner": asked.partner, "stream": asked.stream, "order": asked.order, "ids": list(asked.ids)}
        facts |= {"kit": asked.kit} if asked.kit else {}
        told = self._post("/request", {**facts, "requester": asked.requester, "proof": proof})
        if refusal := told.get("refusal"):
            return Refusal(refusal["code"], refusal["first_line"])
        return Requested.parse(told["requested"])

    # ---------------------------------------------------------------------------------------- what ops ask

    def unlock(self, approver: str) -> bool:
        """Let an approver who gave too many wrong proofs try again. False if nothing was counted against them. Ops only."""
        return bool(self._post("/unlock", {"approver": approver})["unlocked"])

    def settle(self, package: str, destination: Destination, name: bytes, *, arrived: bool, comment: str) -> Settled:
        """Say what the partner says of a file in doubt: it arrived, or it did not and is to be sent again. Ops only.

        Asked again with the same answer, it is told the same. Raises ``SendRefused`` for a file that is in no doubt.
        """
        asked = {"package": package, "destination": canonical(destination.facts), "name": name_b64(name)}
        told = self._post("/settle", {**asked, "arrived": arrived, "comment": comment})
        said = told["said"]
        return Settled(told["number"], Said(said["by"], said["comment"], datetime.fromisoformat(said["at"])), told["left"])

    def hide(self, package: Package) -> Hidden:
        """Show a package to nobody outside any more, in whatever shares it is shown. Ops only. Safe to repeat.

        Raises ``SendRefused`` where nothing of it is shown in a share, or it is still on its way.
        """
        told = self._post("/hide", {"package": package.text}, self._sending)
        return Hidden(tuple(told["places"]), told["by"])

    # ---------------------------------------------------------------------------------------- the wire

    def _post(self, path: str, body: Mapping[str, Any], timeout: httpx.Timeout | None = None) -> dict[str, Any]:
        # In ASCII: an answer may be planted, and hold what httpx cannot write as text (half a surrogate pair, no number).
        return self._ask(
            "POST",
            path,
            content=json.dumps(dict(body)),
            headers={"Content-Type": "application/json"},
            **({"timeout": timeout} if timeout else {}),
        )

    def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            # httpcore leaves its socket open when nobody listens; so we knock first, with one of our own.
            with socket.socket(socket.AF_UNIX) as knock:
                knock.connect(str(self._socket))
            response = self._client.request(method, path, **request)
        except (httpx.TransportError, OSError) as error:
            raise SenderUnreachable(
                f"the sender at {self._socket} does not answer ({error or type(error).__name__}); see that 'countersign sender' "
                "runs and that this user may call it. Nothing is lost, and it will be tried again"
            ) from error
        try:
            told = response.json()
        except ValueError as error:
            raise SenderError(
                f"the sender at {self._socket} gave an answer that is none (HTTP {response.status_code})"
            ) from error
        if response.is_success and isinstance(told, dict):
            return told
        raise _error(response.status_code, told)

    def close(self) -> None:
        self._client.close()


def _error(status: int, told: Any) -> SenderError | ConfigurationError:
    """What an HTTP status of the sender means."""
    reason = told.get("reason") if isinstance(told, dict) else None
    said = str(reason) if reason else f"the sender could not do this (HTTP {status}); its log says why"
    kinds: dict[int, type[SenderError | ConfigurationError]] = {
        403: SendRefused,
        409: SendRefused,
        500: SenderError,
        501: ConfigurationError,
        503: SenderUnreachable,
    }
    return kinds.get(status, SenderError)(said)


def destination_of(endpoint: Endpoint | Share, folder: str) -> Destination:
    """A folder at an endpoint or in a share, as a package names it and approvers agree to it."""
    from blocks.shares import Share  # heavy, and whoever has an endpoint or a share has loaded it

    if isinstance(endpoint, Share):
        return endpoint.destination(folder)
    root = getattr(endpoint, "root", None)
    keys = [pin.rstrip("=") for pin in getattr(endpoint, "host_keys", ())]
    certificates = [pin.upper() for pin in getattr(endpoint, "certificates", ())]
    return Destination(
        protocol=endpoint.protocol,
        host=getattr(endpoint, "host", ""),
        port=getattr(endpoint, "port", 0),
        user=getattr(endpoint, "username", ""),
        path=folder if root is None else f"{root}/{folder}",
        key_fingerprint=" ".join(sorted([*keys, *certificates])),
    )


def _package(package: Package, policies: Policies) -> dict[str, Any]:
    return {"package": package.text, "policies": policies.facts}


def _round(asked: Round) -> dict[str, Any]:
    return {"n": asked.n, "key": asked.key, "run": asked.run, "digest": asked.digest}


def _arrived(told: Mapping[str, Any]) -> Arrived:
    return Arrived(
        destination=told["destination"],
        files=tuple(delivered_of(file) for file in told["files"]),
        unknown=tuple(base64.b64decode(name) for name in told["unknown"]),
        problem=told["problem"],
        worth_retrying=told["worth_retrying"],
        full=bool(told.get("full")),
        withheld=bool(told.get("withheld")),
        endpoint=told.get("endpoint", ""),  # a sender of the version before tells neither
        personality=Personality.parse(told["personality"]) if told.get("personality") else None,
    )


def delivered_of(told: Mapping[str, Any]) -> Delivered:
    """Back from :func:`delivered_facts`, as they stand on the wire and in the ledger."""
    # Each by name: thousands come at once, and to put them together from mappings takes twice as long.
    return Delivered(
        destination=told["destination"],
        name=a2b_base64(told["name"]),
        source=a2b_base64(told["source"]),
        approved=told["approved"],
        read=told["read"],
        sent=told["sent"],
        proof=Proof(told["proof"]),
        proven=told["proven"],
        at=datetime.fromisoformat(told["at"]),
        collected=told["collected"],
        said=Said.parse(told.get("said")),
        server=told.get("server", ""),  # the version before tells neither this nor the replies
        replies=tuple(told.get("replies", ())),
    )


def delivered_facts(file: Delivered) -> dict[str, Any]:
    """As JSON values, for the wire."""
    return {
        "destination": file.destination,
        "name": name_b64(file.name),
        "source": name_b64(file.source),
        "approved": file.approved,
        "read": file.read,
        "sent": file.sent,
        "proof": file.proof.value,
        "proven": file.proven,
        "at": iso(file.at),
        "collected": file.collected,
        "said": file.said.facts if file.said else None,
        "server": file.server,
        "replies": list(file.replies),
    }
