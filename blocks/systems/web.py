"""What all systems share that are spoken with over HTTP: address, trust, credentials, pace, and what may have happened to a call.

A call ends in one of four ways, because each asks for something else:

- a ``Reply``: the system has answered, whatever it said;
- ``NotNow``: surely nothing was carried out (no connection, 408, 425, 429, or nothing was sent because it is to wait);
- ``AnswerLost``: it may have been carried out (the connection ended, no answer in time, half an answer, any 5xx: also a gateway's page);
- ``ConfigurationError``: a credential is not there.

No redirect is followed, no proxy taken from the environment, no compressed answer asked for. Tokens are fetched by the grant "client
credentials" (RFC 6749, 4.4): one form and one JSON object, which is less than a library for it would ask of us.
"""

from __future__ import annotations

import ssl
import time
from abc import ABC
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from json import loads
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import httpx
from pydantic import Field, model_validator

from blocks.credentials import Reference, read
from blocks.errors import ConfigurationError, SystemRefused, SystemUnreachable
from blocks.pace import Pace
from blocks.spool import Batch, Spooled
from blocks.systems.base import System
from blocks.systems.traffic import Breaker, Rate, traffic_of
from blocks.values import Terms, shown

LARGEST_ANSWER_BYTES = 8 * 1024 * 1024
LONGEST_WAIT_SECONDS = 24 * 3600.0
PAUSE_SECONDS = 0.5
"""Before a call is made again where the system did not say; what fails again and again is left to the breaker."""
BUSY = frozenset({408, 425, 429})
"""Answers that say: not carried out, try again (RFC 9110 15.5.9, RFC 8470 5.2, RFC 6585 4)."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_URL = r"^https?://[^/@\s?#]+(/[^\s?#]*)?$"


class Basic(Terms):
    """A user name and a password with every call."""

    kind: Literal["basic"]
    username: str
    password: Reference = Field(description="env:NAME or file:/path")


class Bearer(Terms):
    """A token with every call."""

    kind: Literal["bearer"]
    token: Reference = Field(description="env:NAME or file:/path")


class ClientCredentials(Terms):
    """OAuth 2: a short-lived token for a client's id and secret."""

    kind: Literal["oauth2"]
    token_url: str = Field(pattern=_URL, description="Address of the token endpoint")
    client_id: str
    client_secret: Reference = Field(description="env:NAME or file:/path")
    scope: str = Field(default="", description="If the token endpoint asks for one")


Auth = Annotated[Basic | Bearer | ClientCredentials, Field(discriminator="kind")]


class NotNow(SystemUnreachable):
    """Surely nothing was carried out."""


class AnswerLost(SystemUnreachable):
    """It may have been carried out, and no answer tells."""


class WebSystem(System, ABC):
    """A system over HTTP."""

    url: str = Field(pattern=_URL, description="Address, below which all paths are: https://erp.example.com/api")
    ca: Path | None = Field(default=None, description="File with the authority of its certificate; default: the system's")
    certificate: Path | None = Field(
        default=None, description="Our own certificate with its key, one PEM file, where it asks for one (mTLS)"
    )
    auth: Auth | None = Field(default=None, description="How we sign in: basic, bearer or oauth2")
    rate: Rate | None = Field(default=None, description="How many calls it may be made; left out: as fast as it answers")
    breaker: Breaker = Field(default_factory=Breaker, description="When it is left alone for a while")

    @model_validator(mode="after")
    def _protected(self) -> Self:
        token_url = self.auth.token_url if isinstance(self.auth, ClientCredentials) else self.url
        for url in (self.url, token_url):
            if url.startswith("http:") and urlsplit(url).hostname not in _LOOPBACK:
                raise ValueError("'http' is for a system on this machine itself; use 'https'")
        if self.certificate is not None and self.url.startswith("http:"):
            raise ValueError("'certificate' needs an address with 'https'")
        return self

    @property
    def address(self) -> str:
        return self.url.rstrip("/")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a system has answered."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        """Its JSON; None where it has none."""
        try:
            return loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def text(self) -> str:
        """The beginning of what it says, for people."""
        return shown(self.body[:300].decode("utf-8", "replace"))[:200]


class Wire:
    """One account at one system."""

    def __init__(self, system: WebSystem) -> None:
        self._system, self._auth = system, system.auth
        self._traffic = traffic_of(system.address, system.rate, system.breaker)
        # Idle connections are given up before the usual servers do (5 s): a call on one just being closed is a lost answer.
        self._client = httpx.Client(
            verify=_trust(system),
            timeout=httpx.Timeout(system.timeout_seconds),
            limits=httpx.Limits(keepalive_expiry=3.0),
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            follow_redirects=False,
            trust_env=False,
        )
        self._token, self._token_until = "", 0.0

    def call(
        self,
        route: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | Iterable[bytes] | None = None,
    ) -> Reply:
        """Make one call. ``content`` that is no ``bytes`` must begin anew each time it is iterated."""
        with self._answered(route, method, path, query, headers, content) as answer:
            return Reply(answer.status_code, self._body(answer))

    def fetch(self, route: str, path: str, query: Mapping[str, str], into: Batch, largest: int) -> Spooled:
        """Bring what stands at a path into a spool batch. Raises ``SystemUnreachable`` and ``SystemRefused``."""
        with self._answered(route, "GET", path, query, {"Accept": "*/*"}, None) as answer:
            if answer.status_code != 200:
                raise SystemRefused(f"{self._at(path)}: {answer.status_code} instead of a document")
            if odd := _not_whole(answer.headers):
                raise SystemRefused(f"{self._at(path)}: {odd}; it was not taken")
            file, pace, complete = into.open(), self._pace(), False
            try:
                with self._translated(path):
                    pace.moved(0)
                    for piece in answer.iter_raw():
                        pace.moved(len(piece))
                        file.write(piece)
                        if file.size > largest:
                            raise SystemRefused(f"{self._at(path)}: more than {largest:,} bytes; it was not taken")
                complete = True
            finally:
                if not complete:
                    file.discard()
            return file.finish()

    def rest_seconds(self, route: str) -> float:
        """For how long no call is made on a route."""
        return self._traffic.rest_seconds(route)

    def sign_in(self) -> None:
        """Have what every call needs. Raises ``NotNow``, and ``ConfigurationError`` for a credential that is not there."""
        self._sign_in(anew=False)

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def _answered(
        self,
        route: str,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        content: bytes | Iterable[bytes] | None,
    ) -> Iterator[httpx.Response]:
        """An answer that is neither a fault nor "later", its body still to be read."""
        wait = self._traffic.wait_seconds(route)
        if wait > 0:
            raise NotNow(
                f"{self._system.address}: {route} waits for {wait:.0f} s more, as it was told to or after failures", wait
            )
        time.sleep(self._traffic.turn_seconds())
        for last in (False, True):
            sent = {**(headers or {}), **self._sign_in(anew=last)}
            request = self._client.build_request(method, self._at(path), params=query, headers=sent, content=content)
            with self._translated(path):
                answer = self._client.send(request, stream=True)
            if answer.status_code == 401 and isinstance(self._auth, ClientCredentials) and not last:
                answer.close()  # its token has ended before its time
                continue
            try:
                self._judge(route, path, answer)
                yield answer
            finally:
                answer.close()
            return

    def _judge(self, route: str, path: str, answer: httpx.Response) -> None:
        status, told = answer.status_code, _retry_after(answer.headers.get("Retry-After"))
        if status < 500:
            self._traffic.answered()
        else:
            self._traffic.failed()
        if status in BUSY or (status >= 500 and told is not None):
            self._traffic.pause(route, told or PAUSE_SECONDS)
        if status in BUSY:
            raise NotNow(f"{self._at(path)}: {status}, it is to wait", told or PAUSE_SECONDS)
        if status >= 500:
            raise AnswerLost(f"{self._at(path)}: {status}, the system or what is before it is at fault", told or PAUSE_SECONDS)

    def _body(self, answer: httpx.Response) -> bytes:
        """All that it says, within bounds and at a pace."""
        body, pace, path = bytearray(), self._pace(), answer.request.url.path
        with self._translated(path):
            pace.moved(0)
            for piece in answer.iter_raw():
                pace.moved(len(piece))
                body += piece
                if len(body) > LARGEST_ANSWER_BYTES:
                    raise AnswerLost(f"{self._at('')}: an answer of more than {LARGEST_ANSWER_BYTES:,} bytes", PAUSE_SECONDS)
        return bytes(body)

    def _pace(self) -> Pace:
        return Pace(self._system.address, self._system.timeout_seconds, lambda told: AnswerLost(told, PAUSE_SECONDS))

    def _at(self, path: str) -> str:
        return f"{self._system.address}{path}"

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            self._traffic.failed()
            raise NotNow(f"{self._system.address}: no connection ({error}); nothing was sent", PAUSE_SECONDS) from error
        except httpx.TransportError as error:
            self._traffic.failed()
            raise AnswerLost(f"{self._at(path)}: the answer was lost ({type(error).__name__})", PAUSE_SECONDS) from error

    # ------------------------------------------------------------------------------------------------- signing in

    def _sign_in(self, *, anew: bool) -> dict[str, str]:
        """The header of a call."""
        match self._auth:
            case Basic(username=username, password=password):
                request = next(httpx.BasicAuth(username, read(password)).auth_flow(httpx.Request("GET", self._system.url)))
                return {"Authorization": request.headers["Authorization"]}
            case Bearer(token=token):
                return {"Authorization": f"Bearer {read(token)}"}
            case ClientCredentials():
                if anew or time.monotonic() >= self._token_until:
                    self._fetch_token(self._auth)
                return {"Authorization": f"Bearer {self._token}"}
        return {}

    def _fetch_token(self, auth: ClientCredentials) -> None:
        """Nothing else is sent before there is one: whatever goes wrong here, nothing was carried out."""
        form = {"grant_type": "client_credentials", **({"scope": auth.scope} if auth.scope else {})}
        ours = httpx.BasicAuth(auth.client_id, read(auth.client_secret))
        try:
            request = self._client.build_request("POST", auth.token_url, data=form)
            with self._translated(""):
                answer = self._client.send(request, auth=ours, stream=True)
            try:
                reply = Reply(answer.status_code, self._body(answer))
            finally:
                answer.close()
        except AnswerLost as error:
            raise NotNow(f"{auth.token_url}: gave no token ({error})", error.after_seconds) from error
        told = reply.json if isinstance(reply.json, dict) else {}
        token, life = told.get("access_token"), told.get("expires_in", 300)
        if reply.status != 200 or not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
            if reply.status in (400, 401, 403):
                raise ConfigurationError(
                    f"{auth.token_url}: refused the client {auth.client_id!r}; check its id, secret and scope"
                )
            raise NotNow(
                f"{auth.token_url}: {reply.status} instead of a token",
                _retry_after(answer.headers.get("Retry-After")) or PAUSE_SECONDS,
            )
        # Renewed a little early: a token that ends on its way is a call in vain.
        life = float(life) if isinstance(life, int | float) else 300.0
        self._token, self._token_until = token, time.monotonic() + max(1.0, 0.9 * life)


def _trust(system: WebSystem) -> ssl.SSLContext:
    if not system.url.startswith("https:") and not getattr(system.auth, "token_url", "").startswith("https:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used: loading the authorities would cost every session 30 ms
    try:
        context = ssl.create_default_context(cafile=None if system.ca is None else str(system.ca))
        if system.certificate is not None:
            context.load_cert_chain(system.certificate)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"{system.address}: 'ca' or 'certificate' cannot be used ({error}); check the files and their owner"
        ) from error
    return context


def _not_whole(headers: httpx.Headers) -> str:
    """Why nobody could tell whether all bytes of a document came, and as they are; empty if one can."""
    if (encoding := headers.get("Content-Encoding", "identity").strip().lower()) != "identity":
        return f"it comes encoded ({shown(encoding)[:40]}), which was not asked for"
    if "Content-Length" not in headers and headers.get("Transfer-Encoding", "").strip().lower() != "chunked":
        return "neither Content-Length nor chunks tell where it ends"
    return ""


def _retry_after(told: str | None) -> float | None:
    """Seconds to wait, from either form of the header (RFC 9110, 10.2.3); None if it says nothing that can be read."""
    if told is None:
        return None
    if told.strip().isascii() and told.strip().isdigit():
        return min(float(told.strip()[:9]), LONGEST_WAIT_SECONDS)
    try:
        moment = parsedate_to_datetime(told)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - datetime.now(UTC)).total_seconds()), LONGEST_WAIT_SECONDS)
