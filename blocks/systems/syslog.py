"""A SIEM that takes syslog: messages as RFC 5424 writes them, over TLS as RFC 5425 carries them.

Syslog has no acknowledgement. What we have instead is the end of the connection: we say that we are done, and wait for the collector to
end it too, which it does when it has read all that came before. Its own "done" (RFC 5425, 4.4) is not waited for: rsyslog ends the
connection without one. A connection that is reset, or not ended in time, has told nothing, and what was sent on it is told again: each
event carries its key, by which repeats are dropped. What a collector had read and not yet kept when it was killed is lost, and nobody
is told: syslog can do no better.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC
from itertools import islice
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from blocks.errors import ConfigurationError
from blocks.systems.base import Answer, Fate, Message, System, SystemSession
from blocks.systems.collector import moment_of
from blocks.systems.templates import BadFact
from blocks.values import shown

MOST_MESSAGES = 500
"""On one connection."""
PAUSE_SECONDS = 1.0
_SEVERITIES = {"alert": 1, "critical": 2, "error": 3, "warning": 4, "notice": 5, "info": 6}
_ENOUGH = 32 * 1024
"""Bytes of one message at most; receivers must take 2,048 and should take 8,192 (RFC 5425, 4.3.1). Longer texts are cut."""


class Syslog(System):
    """A collector of syslog over TLS."""

    _block_type_name = "Syslog over TLS"

    kind: ClassVar[str] = "syslog"

    host: str = Field(min_length=1, description="Name or address; its certificate is for this name")
    port: int = Field(default=6514, gt=0, lt=65536)
    ca: Path | None = Field(default=None, description="File with the authority of its certificate; default: the system's")
    certificate: Path | None = Field(
        default=None, description="Our own certificate with its key, one PEM file, if it asks for one"
    )
    facility: int = Field(default=13, ge=0, le=23, description="13 is 'log audit', 10 'security', 16 to 23 are local")
    application: str = Field(default="countersign", pattern=r"^[!-~]{1,48}$", description="As the messages name us")
    enterprise: int = Field(
        default=32473,
        gt=0,
        description="Your private enterprise number at IANA, for the name of our fields; 32473 is for examples",
    )

    @property
    def address(self) -> str:
        return f"syslog {self.host}:{self.port}"

    def session(self) -> SyslogSession:
        return SyslogSession(self)


class SyslogSession(SystemSession):
    """``route`` is the kind of event; the fact ``at`` its moment, ``severity`` a word, ``text`` its sentence, all others are fields."""

    def __init__(self, system: Syslog) -> None:
        self._system = system
        try:
            self._trust = ssl.create_default_context(cafile=None if system.ca is None else str(system.ca))
            if system.certificate is not None:
                self._trust.load_cert_chain(system.certificate)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"{system.address}: 'ca' or 'certificate' cannot be used ({error}); check the files and their owner"
            ) from error

    def close(self) -> None:
        """Nothing is held between calls."""

    def send(self, messages: Iterable[Message]) -> Iterator[Answer]:
        source = iter(messages)
        while some := list(islice(source, MOST_MESSAGES)):
            yield from self._tell(some)

    def _tell(self, messages: Sequence[Message]) -> Iterator[Answer]:
        refused, frames = dict[int, Answer](), list[bytes]()
        for place, message in enumerate(messages):
            try:
                frames.append(self.frame(message))
            except BadFact as bad:
                refused[place] = Answer(message.key, Fate.REFUSED, code=bad.code, reason=bad.reason)
        why = self._write(b"".join(frames)) if frames else ""
        for place, message in enumerate(messages):
            if place in refused:
                yield refused[place]
            elif why:
                yield Answer(message.key, Fate.LATER, reason=why, after_seconds=PAUSE_SECONDS)
            else:
                yield Answer(message.key, Fate.TAKEN)

    def _write(self, content: bytes) -> str:
        """Send all; empty if the collector has read it, else why nobody can tell."""
        system = self._system
        try:
            with (
                socket.create_connection((system.host, system.port), system.timeout_seconds) as plain,
                self._trust.wrap_socket(plain, server_hostname=system.host) as secure,
            ):
                secure.sendall(content)
                # A system that closes a connection with bytes in it that nobody has read sends a reset, and no mere end.
                with suppress(ssl.SSLEOFError):
                    secure.unwrap()
        except OSError as error:  # of which those of TLS are kinds
            return f"{system.address}: it did not say that it has read all ({type(error).__name__}: {shown(str(error))[:200]})"
        return ""

    def frame(self, message: Message) -> bytes:
        """One message behind the number of its bytes. Raises ``BadFact``."""
        facts = dict(message.facts)
        moment = moment_of(message).astimezone(UTC)
        facts.pop("at")
        word, text = str(facts.pop("severity", "info")), str(facts.pop("text", ""))
        if word not in _SEVERITIES:
            raise BadFact("bad-fact", f"{{severity}} is one of {', '.join(_SEVERITIES)}")
        priority = self._system.facility * 8 + _SEVERITIES[word]
        fields = " ".join(f'{_name(name)}="{_escaped(str(value))}"' for name, value in {"key": message.key, **facts}.items())
        header = (
            f"<{priority}>1 {moment.strftime('%Y-%m-%dT%H:%M:%S.%f')}Z {_word(socket.gethostname(), 255)} {self._system.application} "
            f"{os.getpid()} {_word(message.route, 32)} [countersign@{self._system.enterprise} {fields}]"
        )
        whole = header.encode()
        if text:
            # The mark says that what follows is UTF-8 (RFC 5424, 6.4).
            whole += b" \xef\xbb\xbf" + shown(text).encode()[: _ENOUGH // 2].decode("utf-8", "ignore").encode()
        if len(whole) > _ENOUGH:
            raise BadFact("bad-fact", f"an event of {len(whole):,} bytes; {_ENOUGH:,} is the most")
        return f"{len(whole)} ".encode() + whole


def _word(text: str, most: int) -> str:
    """A field of the header: printable ASCII without blanks; "-" is nothing."""
    return "".join(char if "!" <= char <= "~" else "_" for char in text)[:most] or "-"


def _name(text: str) -> str:
    return "".join("_" if char in '="]' else char for char in _word(text, 32))


def _escaped(text: str) -> str:
    """A value, in which three characters are written with a backslash (RFC 5424, 6.3.3); control characters are written out."""
    plain = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
