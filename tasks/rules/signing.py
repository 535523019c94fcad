"""A form's raw answer made into a value, and the text that a signature covers. Whatever is posted, nothing here raises for it.

Prefect checks a form at the door by its JSON schema only, and an answer can be planted behind that door: so nothing is believed
of what comes back, and a bad answer is a refusal, not an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from blocks.outbound import Answer, Decision, Matter, Meaning, Refusal, Round, Seat, SignoffProof, Statement, sha256

DIGITS_PATTERN = r"^\s*[0-9a-fA-F]{8}\s*$"
"""Of the form's field ``package``."""

PROOF_PATTERNS = {
    SignoffProof.CODE: r"^\s*[0-9]{3}\s?[0-9]{3}\s*$",
    SignoffProof.SIGNATURE: r"^\s*[0-9]{8}T[0-9]{6}Z\.[A-Za-z0-9+/]{80,4096}={0,2}\s*$",
}
"""Of the form's field ``proof``, by what the stream asks for."""

PROOF_REFUSED = Refusal("proof", "The proof was not accepted: check the code and the phone's clock, then try the next code.")
"""For any proof that does not hold, so that whoever tries learns nothing."""

NO_ANSWER = Refusal(
    "no-answer", "This run was resumed without an answer to its form, which decides nothing. Please use the form."
)
"""What ``parse_answer`` makes of nothing: somebody set the state, or an automation resumed. The caller records a bypass."""

MOST_CHARACTERS = {"decision": 40, "approver": 130, "meaning": 40, "package": 40, "proof": 8192, "comment": 4000}
"""Longest answer in each field. The door does not check them all, and an answer may be planted behind it."""

MOST_CODES = 8
_REQUIRED = ("decision", "approver", "meaning", "package", "proof")
_FIELDS = frozenset({*_REQUIRED, "left_out", "comment"})
SKEW = timedelta(minutes=2)
"""What two clocks may differ."""
OLDEST_SIGNATURE = timedelta(minutes=10)
"""Of a request, and of what is signed beforehand: each is handed in as soon as it is made, and one that somebody kept is signed anew."""


def round_key(n: int, digest: str, random8: str) -> str:
    """The key under which Prefect keeps a round's answer. It is never used twice: an old key answers by itself.

    >>> round_key(2, "3f2a9c01" * 8, "0badcafe")
    'signoff-2-3f2a9c013f2a9c01-0badcafe'
    """
    return f"signoff-{n}-{digest[:16]}-{random8}"


# --------------------------------------------------------------------------------------------- answers


def parse_answer(raw: object) -> Answer | Refusal:
    """What somebody filled in, or why it is no answer. Takes anything that an API caller can post, or that was planted."""
    if raw is None:
        return NO_ANSWER
    if not isinstance(raw, Mapping):
        return _malformed("form")
    if missing := [name for name in _REQUIRED if raw.get(name) is None]:
        return Refusal("incomplete", f"The field '{missing[0]}' was left empty: nothing is decided by an incomplete form.")
    if not all(name in _FIELDS for name in raw):
        return Refusal("malformed", "The answer held fields that the form does not have. Please use the form.")
    words: dict[str, str] = {}
    for name, most in MOST_CHARACTERS.items():
        value = "" if raw.get(name) is None else raw[name]
        if not isinstance(value, str) or len(value) > most or not _writable(value):
            return _malformed(name)
        words[name] = value.strip()
    if empty := [name for name in _REQUIRED if not words[name]]:
        return Refusal("incomplete", f"The field '{empty[0]}' was left empty: nothing is decided by an incomplete form.")
    left_out = _labels(raw.get("left_out"))
    if left_out is None:
        return _malformed("left_out")
    try:
        decision, meaning = Decision(words["decision"]), Meaning(words["meaning"])
    except ValueError:
        return Refusal("malformed", "The decision or its meaning is none of those in the form. Please choose from the lists.")
    seat = Seat.parse(words["approver"])
    return Answer(decision, seat, meaning, words["package"].casefold(), words["proof"], left_out, words["comment"])


def _malformed(name: str) -> Refusal:
    return Refusal("malformed", f"The field '{name}' held something that no form sends. Please use the form.")


def _labels(given: object) -> tuple[str, ...] | None:
    """Labels as listed; None if that is no list of texts."""
    if given is None:
        return ()
    if not isinstance(given, list | tuple) or len(given) > 1000:
        return None
    sound = all(isinstance(label, str) and len(label) <= 1000 and _writable(label) for label in given)
    return tuple(given) if sound else None


def _writable(text: str) -> bool:
    """False for half a surrogate pair: JSON can hold it, and no file, form or message can."""
    return text.isascii() or not re.search("[\ud800-\udfff]", text)


def answer_hash(raw: object) -> str:
    """SHA-256 of a raw answer: all that is kept of it, and enough to see whether it was edited afterwards."""
    try:
        # ASCII with escapes, so that half a surrogate pair can be hashed too.
        return sha256(json.dumps(raw, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=repr))
    except (TypeError, ValueError, RecursionError):
        return sha256(f"no JSON: {type(raw).__name__}")


def codes_seen(raw: object) -> tuple[str, ...]:
    """Everything in an answer that could be somebody's code, the proof first. All of it is burnt, whatever becomes of the answer.

    At most ``MOST_CODES``, so that nobody burns all codes there are with one long text.

    >>> codes_seen({"proof": "123 456", "comment": "or was it 654321?"})
    ('123456', '654321')
    """
    found: dict[str, None] = {}
    for text in _texts(raw):
        for code in re.findall(r"(?<![0-9])[0-9]{3}\s?[0-9]{3}(?![0-9])", text):
            found.setdefault(re.sub(r"\s", "", code))
            if len(found) == MOST_CODES:
                return tuple(found)
    return tuple(found)


def _texts(raw: object) -> Iterator[str]:
    """The first of an answer's texts and numbers. A signature's letters hold no code."""
    if not isinstance(raw, Mapping):
        return
    for name in ("proof", "comment", "package", "approver"):
        value = raw.get(name)
        if isinstance(value, str) and unpasted(value) is None:
            yield value[:4000]
        elif type(value) is int and 0 <= value < 10**6:
            yield f"{value:06d}"


# --------------------------------------------------------------------------------------------- statements


def statement(answer: Answer, matter: Matter, asked: Round, time: datetime) -> Statement:
    """What a signature over this answer covers. The signer's own machine makes the same text before it signs."""
    return Statement(
        package=matter.package.digest,
        destinations=matter.package.destinations,
        run=asked.run,
        round=asked.n,
        decision=answer.decision,
        meaning=answer.meaning,
        left_out=tuple(sorted(answer.left_out)),
        approver=answer.seat.approver,
        on_behalf_of=answer.seat.on_behalf_of,
        time=time.replace(microsecond=0),
    )


def pasted(time: datetime, signature: str) -> str:
    """The one line that ``countersign sign`` prints for the form's field: the statement's time, and the signature's body.

    >>> pasted(datetime(2026, 11, 20, 10, 0, tzinfo=UTC), "-----BEGIN SSH SIGNATURE-----\\nU1NI\\nU0lH\\n-----END SSH SIGNATURE-----")
    '20261120T100000Z.U1NIU0lH'
    """
    body = re.sub(r"-----[A-Z ]+-----|\s", "", signature)
    return f"{time.astimezone(UTC):%Y%m%dT%H%M%SZ}.{body}"


def unpasted(proof: str) -> tuple[datetime, str] | None:
    """Time and signature of such a line, blanks forgiven; None if it is none."""
    line = re.sub(r"\s", "", proof[: MOST_CHARACTERS["proof"]])
    found = re.fullmatch(r"([0-9]{8}T[0-9]{6})Z\.([A-Za-z0-9+/]{8,}={0,2})", line)
    if found is None:
        return None
    try:
        return datetime.strptime(found[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC), found[2]
    except ValueError:
        return None


def timely(signed_at: datetime, *, asked_at: datetime, now: datetime) -> bool:
    """True if a statement's time lies between the asking and now, give or take two minutes of a wrong clock."""
    return asked_at - SKEW <= signed_at <= now + SKEW


def unchanged(raw: Any, recorded: str) -> bool:
    """True if Prefect's answer still is the one that was judged, by the hash in the ledger."""
    return answer_hash(raw) == recorded
