"""How people are told that something waits for them: ``notify.yaml``, one mail server, and Prefect's own notification blocks.

Reviewed like the partners' files. Where it is not there nobody is told: people look into their inbox. What a block of Prefect holds
(a webhook's address) can be changed by whoever reaches Prefect; so nothing that is sent here is secret, and nothing of it decides.
"""

from __future__ import annotations

import asyncio
import re
import smtplib
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

import httpx
from prefect.blocks.abstract import NotificationBlock, NotificationError
from prefect.blocks.core import Block
from pydantic import Field, StringConstraints, model_validator

from blocks import reviewed
from blocks.credentials import Reference, read
from blocks.errors import NoticeDelayed, NoticeError, NoticeRefused, NoticeUnanswered, NoticeUnknown
from blocks.outbound import PeopleFile
from blocks.values import Terms, shown

_MAIL = re.compile(r"\S+@\S+")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

Channel = Annotated[str, StringConstraints(pattern=r"^(\S+@\S+|[a-z0-9-]+/[a-z0-9-]+)$")]
"""Where a message goes: a mail address, or a notification block of Prefect's, ``slack-webhook/pricing``."""


class Security(StrEnum):
    """How the connection to a mail server is protected."""

    STARTTLS = "starttls"  # it begins in clear; nothing is sent before it is protected
    TLS = "tls"  # from the first byte, as on port 465
    NONE = "none"  # to a server on this very machine only


class MailServer(Terms):
    """The SMTP server that takes our messages. Connects only when asked."""

    host: str = Field(min_length=1, description="Name or address")
    port: int = Field(default=587, gt=0, lt=65536)
    security: Security = Field(default=Security.STARTTLS, description="starttls, tls, or none: only on this machine itself")
    username: str | None = Field(default=None, description="If it asks for one")
    password: Reference | None = Field(default=None, description="env:NAME or file:/path, in the environment of the workers")
    ca_file: Path | None = Field(default=None, description="Authorities that its certificate is from; left out: the system's")
    sender: str = Field(description="The address that our messages come from", pattern=r"^\S+@\S+$")
    timeout_seconds: float = Field(default=30, gt=0)

    @model_validator(mode="after")
    def _protected(self) -> Self:
        if self.security is Security.NONE and self.host not in _LOOPBACK:
            raise ValueError("'security: none' is for a mail server on this machine itself; say 'starttls' or 'tls'")
        if (self.username is None) != (self.password is None):
            raise ValueError("'username' and 'password' are given together")
        return self

    def send(self, to: str, subject: str, body: str, id: str) -> None:
        """One message to one address. ``id`` is its own for ever, so that mail programs show it once however often it comes.

        Raises ``NoticeDelayed``, ``NoticeRefused`` and ``NoticeUnknown``; only after the last may somebody have got it.
        """
        message = self._message(to, subject, body, id)
        with self._connected() as server:
            for code, answer in (server.mail(self.sender), server.rcpt(to)):
                if code not in (250, 251):
                    raise self._refusal(code, answer)
            code, answer = server.docmd(
                "DATA"
            )  # not smtplib's data(): that does not tell a silence before the message from one after it
            if code != 354:
                raise self._refusal(code, answer)
            try:
                server.send(re.sub(rb"(?m)^\.", b"..", message) + b".\r\n")  # RFC 5321, 4.5.2
                code, answer = server.getreply()
            except (OSError, smtplib.SMTPException) as error:
                lost = f"{self._place}: the answer to a message was lost ({type(error).__name__})"
                # smtplib hides a silence behind its own error.
                raise (NoticeUnanswered if _silent(error) else NoticeUnknown)(lost) from error
            if code != 250:
                raise self._refusal(code, answer)

    def _message(self, to: str, subject: str, body: str, id: str) -> bytes:
        message = EmailMessage(policy=SMTP)
        try:
            (self.sender + to).encode("ascii")  # others need a server that speaks SMTPUTF8, and a domain its ASCII form
            message["From"] = Address("Countersign", addr_spec=self.sender)
            message["To"] = Address(addr_spec=to)
        except (HeaderParseError, ValueError) as error:
            raise NoticeRefused(f"{shown(to)}: is no mail address that a message can go to; mend it") from error
        message["Subject"] = subject
        message["Message-ID"] = f"<{id}@{self.sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence answers it
        message.set_content(body, cte="quoted-printable")
        return bytes(message)

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        """A server that knows us. Whatever goes wrong until then, nothing was sent."""
        server: smtplib.SMTP | None = None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.security is Security.TLS:
                server = smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout_seconds, context=context)
            else:
                server = smtplib.SMTP(self.host, self.port, timeout=self.timeout_seconds)
            if self.security is Security.STARTTLS:
                server.starttls(context=context)
            if self.username is not None and self.password is not None:
                server.login(self.username, read(self.password))
            server.ehlo_or_helo_if_needed()
            yield server
        except smtplib.SMTPAuthenticationError as error:
            raise NoticeRefused(f"{self._place}: the user name or password was not accepted") from error
        except ssl.SSLCertVerificationError as error:
            raise NoticeRefused(f"{self._place}: its certificate is not trusted ({error.verify_message})") from error
        except (OSError, smtplib.SMTPException) as error:
            told = shown(str(error))[:200]
            raise NoticeDelayed(f"{self._place}: nothing was sent ({type(error).__name__}: {told})") from error
        finally:
            if server is not None:
                with suppress(OSError, smtplib.SMTPException):
                    server.quit()
                server.close()

    def _refusal(self, code: int, answer: bytes | str) -> NoticeDelayed | NoticeRefused:
        told = shown(answer)[:200]
        return (NoticeDelayed if 400 <= code < 500 else NoticeRefused)(f"{self._place}: {code} {told}")

    @property
    def _place(self) -> str:
        return f"mail server {self.host}:{self.port}"


def _silent(error: BaseException) -> bool:
    """True if a server let us wait for as long as it is given."""
    return isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)


class NotifyFile(Terms):
    """``notify.yaml``: how people and teams are told that something waits for them."""

    mail: MailServer | None = Field(default=None, description="Left out: nobody is told by mail")
    told: Mapping[str, Channel] = Field(
        default={},
        description="Id of a person, or a stream's owner as its profile writes it -> a mail address, or a notification block of "
        "Prefect's ('slack-webhook/pricing'). Whoever is not here is told at their own mail address",
    )

    @model_validator(mode="after")
    def _mail_has_a_server(self) -> Self:
        if self.mail is None and any(_MAIL.fullmatch(channel) for channel in self.told.values()):
            raise ValueError("'told' has mail addresses, and there is no 'mail' server to send with")
        return self

    def channel(self, who: str, people: PeopleFile | None) -> str | None:
        """Where somebody (a person's id, or a stream's owner) is told; None if nobody can say."""
        if who in self.told:
            return self.told[who]
        person = people.get(who) if people else None
        address = person.mail if person else who
        return address if self.mail is not None and _MAIL.fullmatch(address) else None

    def send(self, channel: str, subject: str, body: str, id: str) -> None:
        """One message on one channel. Raises ``NoticeDelayed``, ``NoticeRefused`` and ``NoticeUnknown``."""
        if not _MAIL.fullmatch(channel):
            send_by_block(channel, subject, body)
        elif self.mail is not None:
            self.mail.send(channel, subject, body, id)


def notify_path(folder: Path) -> Path:
    """Where the file is, or would be."""
    return folder / "notify.yaml"


def load_notify(folder: Path) -> NotifyFile | None:
    """How people are told; None where nothing was agreed about that. Raises ``ConfigurationError``."""
    path = notify_path(folder)
    return reviewed.load(path, NotifyFile) if path.exists() else None


def send_by_block(name: str, subject: str, body: str) -> None:
    """Send by one of Prefect's notification blocks. Raises ``NoticeDelayed``, ``NoticeRefused`` and ``NoticeUnknown``."""
    try:
        block = Block.load(name)
    except ValueError as error:
        raise NoticeRefused(
            f"{name}: Prefect has no such block; make it in its UI under 'Blocks', or mend notify.yaml"
        ) from error
    except httpx.HTTPError as error:
        raise NoticeDelayed(f"{name}: Prefect did not tell what is in this block ({type(error).__name__})") from error
    if not isinstance(block, NotificationBlock):
        raise NoticeRefused(f"{name}: is no notification block; mend notify.yaml")
    try:
        with block.raise_on_failure():
            sent = block.notify(body, subject)
            if sent is not None:  # Prefect's own blocks are done by now; others may only be made for event loops
                asyncio.run(sent)
    except NotificationError as error:
        raise _of_apprise(name, block, error.log) from error
    except httpx.HTTPStatusError as error:
        raise _of_status(name, error.response.status_code) from error
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise NoticeDelayed(f"{name}: nothing was sent ({type(error).__name__})") from error
    except httpx.TimeoutException as error:
        raise NoticeUnanswered(f"{name}: whether the message was taken cannot be told ({type(error).__name__})") from error
    except Exception as error:  # a block is anybody's code; what it says may hold its webhook's address
        raise NoticeUnknown(f"{name}: whether the message was taken cannot be told ({type(error).__name__})") from error


def _of_apprise(name: str, block: NotificationBlock, log: str) -> NoticeError:
    """Apprise, inside most of Prefect's blocks, tells only in words: the status where a server answered, nothing else for sure."""
    status = re.search(r"error=(\d{3})\b", log)
    several = any(isinstance(value, list) and len(value) > 1 for value in dict(block).values())
    if status is None or several:  # of several receivers some may have got it
        return NoticeUnknown(f"{name}: whether anybody got the message cannot be told")
    return _of_status(name, int(status[1]))


def _of_status(name: str, status: int) -> NoticeError:
    """A server answered otherwise than well. What it wrote is not repeated: an address in it may be a secret."""
    told = f"{name}: its server answered {status}"
    if status in (408, 425, 429, 503):
        return NoticeDelayed(told)
    return NoticeUnknown(told) if status >= 500 else NoticeRefused(told)
