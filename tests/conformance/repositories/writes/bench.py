"""What a row of ``writes`` is made of, and the place where it is tried."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blocks.repositories import otcs_wire
from blocks.repositories.extended_ecm import ExtendedEcmSession
from blocks.values import Filing
from tests.conformance.pyxecm.wire import Wire
from tests.conformance.repositories.enrolment import block
from tests.sandbox.extended_ecm import ExtendedEcmSandbox

_numbers = itertools.count(1)

LARGE_UPLOAD = {"min_size": 1024**2, "max_size": 2 * 1024**2, "part_size": 700_000}
"""For the seed: what is filed in parts. ``filing`` calls something larger large, which goes in one piece."""


@dataclass
class Bench:
    """A running sandbox in this process, a session of ours at it, and bare HTTP to prepare and to look past our client."""

    sandbox: ExtendedEcmSandbox
    session: ExtendedEcmSession
    wire: Wire
    files: Path

    def unique(self, name: str) -> str:
        """A name that no other row and no other turn has."""
        return f"{name} {next(_numbers)}"

    def folder(self) -> int:
        """A new folder below the root."""
        return self.wire.folder(self.unique("folder"))

    def document(self, content: bytes = b"bytes") -> int:
        """A new document in a folder of its own."""
        return self.wire.document("document.txt", content, self.folder())

    def file(self, content: bytes = b"bytes") -> Path:
        """A file on our disk."""
        path = self.files / f"{next(_numbers)}"
        path.write_bytes(content)
        return path

    def filing(self, name: str, folder: str, content: bytes = b"bytes", **more: Any) -> Filing:
        path, digest = self.file(content), hashlib.sha256(content).hexdigest()
        return Filing(self.unique("journey"), name, (folder,), path, digest, len(content), "text/plain", **more)

    def ask(self, path: str, **query: Any) -> Any:
        """What the interface itself says."""
        answer = self.wire.http.get(f"/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def tell(self, method: str, path: str, **values: Any) -> Any:
        """Change something past our client."""
        answer = self.wire.http.request(method, f"/{path}", data={"body": json.dumps(values)})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def names_in(self, folder: int) -> list[str]:
        """What stands in a folder: doubles show."""
        return sorted(entry["data"]["properties"]["name"] for entry in self.ask(f"v2/nodes/{folder}/nodes")["results"])

    def count_writes(self) -> int:
        return self.wire.stats().get("writes", 0)

    @contextmanager
    def fault(self, faults: Mapping[str, float], spared: int) -> Iterator[None]:
        """Misbehave at our session's write after so many others. One that stalls is given up after a short time."""
        original = otcs_wire.Wire.write

        def impatient(wire: otcs_wire.Wire, *arguments: Any, **more: Any) -> Any:
            patience, wire._client.timeout = wire._client.timeout, 0.3  # type: ignore[assignment]
            try:
                return original(wire, *arguments, **more)
            finally:
                wire._client.timeout = patience

        if "write-stall" in faults:
            otcs_wire.Wire.write = impatient  # type: ignore[method-assign]
        self.sandbox.faults.set({**faults, "spare-writes": spared})
        try:
            yield
        finally:
            otcs_wire.Wire.write = original  # type: ignore[method-assign]
            self.left = {name: value for name, value in self.sandbox.faults.as_dict().items() if value}
            self.sandbox.faults.set(dict.fromkeys(self.sandbox.faults.as_dict(), 0))

    left: dict[str, float] = field(default_factory=dict)
    """Faults of the last ``fault`` that met nothing."""


@dataclass(frozen=True, slots=True)
class Write:
    """One verb of ours that changes something, and how to tell what came of it."""

    name: str
    prepare: Callable[[Bench], Any]
    """What must be there before; the others are given its answer."""
    act: Callable[[ExtendedEcmSession, Any], object]
    stands: Callable[[Bench, Any], object]
    """What stands at the server, told without ids and dates, so that two turns compare and doubles show."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Name of a fault -> why looking cannot tell after it, so that ``OutcomeUnknown`` is the right answer."""


@contextmanager
def benched(place: Path, seed: Mapping[str, Any]) -> Iterator[Bench]:
    """A bench of its own in an empty folder."""
    sandbox = ExtendedEcmSandbox(place / "ecm", seed=seed).start()
    (place / "files").mkdir()
    try:
        with block(sandbox.described()).session() as session, Wire(sandbox.described()) as wire:
            yield Bench(sandbox, session, wire, place / "files")
    finally:
        sandbox.stop()
