"""A mail server in this process: real SMTP with STARTTLS, TLS from the first byte and log-in, on a free loopback port."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.servers.certificates import Certificate


@dataclass
class Mailbox:
    """What came in, and how the next ones are answered."""

    port: int = 0
    messages: list[EmailMessage] = field(default_factory=list)
    receivers: list[str] = field(default_factory=list)
    """Of each message, as the envelope says."""
    at_receiver: str = "250 OK"
    at_data: str = "250 OK"
    hang_up: bool = False
    """The connection is cut when a message is there, instead of an answer."""
    silent: bool = False
    """A message is taken, and never answered."""
    meanwhile: Callable[[], object] = lambda: None
    """What happens while a message is there and not answered yet."""
    protected: list[bool] = field(default_factory=list)
    """Of each message: whether it came behind TLS."""

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.at_receiver.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.at_receiver

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.at_data.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.messages.append(message_from_bytes(envelope.content, policy=policy.default))  # type: ignore[arg-type]
            self.receivers += envelope.rcpt_tos
            self.protected.append(server.transport.get_extra_info("ssl_object") is not None)  # type: ignore[union-attr]
        self.meanwhile()
        if self.silent:
            await asyncio.Event().wait()
        if self.hang_up:
            assert server.transport is not None
            server.transport.abort()  # type: ignore[attr-defined]
        return self.at_data


@contextmanager
def mail_server(
    certificate: Certificate | None = None, *, at_once: bool = False, login: tuple[str, str] | None = None
) -> Iterator[Mailbox]:
    """A server while the block runs. ``at_once``: TLS from the first byte, else STARTTLS, which it demands if it has a certificate."""
    box, context = Mailbox(), None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.path)

    def known(server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
        fits = isinstance(given, LoginPassword) and (given.login.decode(), given.password.decode()) == login
        return AuthResult(success=fits, handled=False)

    more: dict[str, Any] = (
        {"authenticator": known, "auth_required": not at_once, "auth_require_tls": not at_once} if login else {}
    )
    if context is not None and not at_once:
        more |= {"tls_context": context, "require_starttls": True}
    loop = asyncio.new_event_loop()
    # aiosmtpd's own controller gives a server few seconds to begin, which a busy machine may not have.
    listening = loop.create_server(
        lambda: SMTP(box, hostname="mail.example", loop=loop, **more), "127.0.0.1", 0, ssl=context if at_once else None
    )
    server = loop.run_until_complete(listening)
    box.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield box
    finally:
        loop.call_soon_threadsafe(server.close)
        asyncio.run_coroutine_threadsafe(_ended(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _ended() -> None:
    """Whatever still speaks with somebody stops."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
