"""Putting a pin into a partner's file: exactly that value is replaced, and every other byte of the file stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from blocks import reviewed
from blocks.errors import ConfigurationError
from blocks.profile import PartnerFile


def pin(path: Path, endpoint: str, keys: tuple[str, ...], under: str = "host_keys", *, jump: int | None = None) -> None:
    """Write the pins of an endpoint (``host_keys``, or ``certificates``), or of one of its jump hosts, counted from 0.

    Raises ``ConfigurationError``, the file untouched, where that cannot be done safely."""
    before = reviewed.load(path, PartnerFile)
    text = path.read_bytes().decode("utf-8-sig")
    draft = path.with_name(f".{path.stem}.{uuid4().hex[:8]}.yaml")
    try:
        draft.write_bytes(_pinned(text, endpoint, jump, keys, under).encode())
        after, terms = reviewed.load(draft, PartnerFile).model_dump(mode="json"), before.model_dump(mode="json")
        _at(terms, endpoint, jump).pop(under, None)
        if _at(after, endpoint, jump).pop(under, None) != list(keys) or after != terms:
            raise ConfigurationError(f"{path}: is written in a way that cannot be edited here; put the {under} in by hand")
        draft.chmod(path.stat().st_mode & 0o777)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _pinned(text: str, endpoint: str, jump: int | None, keys: tuple[str, ...], under: str) -> str:
    terms = _child(_child(_child(yaml.compose(text, Loader=yaml.SafeLoader), "partner"), "endpoints"), endpoint)
    if jump is not None:
        hops = _child(terms, "jump")
        terms = hops.value[jump] if isinstance(hops, yaml.SequenceNode) else None
    listed = _child(terms, under)
    if listed is not None and not listed.flow_style and isinstance(listed, yaml.SequenceNode):
        between = "\n" + " " * listed.start_mark.column
        # A block sequence "ends" where the next token begins: its last item ends where its text does.
        return (
            text[: listed.start_mark.index] + between.join(f"- {key}" for key in keys) + text[listed.value[-1].end_mark.index :]
        )
    if listed is not None:
        return text[: listed.start_mark.index] + f"[{', '.join(keys)}]" + text[listed.end_mark.index :]
    if terms is None or terms.flow_style:
        return text  # the caller sees that nothing was pinned
    first, margin = terms.value[0][0].start_mark, " " * terms.start_mark.column
    lines = [f"{under}:\n{margin}  - {keys[0]}", *(f"  - {key}" for key in keys[1:])]
    return text[: first.index] + f"\n{margin}".join([*lines, ""]) + text[first.index :]


def _child(node: Any, key: str) -> Any:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def _at(file: dict[str, Any], endpoint: str, jump: int | None) -> dict[str, Any]:
    """The terms that hold the pins."""
    terms: dict[str, Any] = file["partner"]["endpoints"][endpoint]
    return terms if jump is None else terms["jump"][jump]
