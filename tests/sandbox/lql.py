"""The part of the search language (LQL) that public clients are seen to use.

``OTName: "x" and OTSubType: 144``, ``[QLREGION "OTName"] *mid*``, ``[QLREGION "OTSubType"] IN (1,2)``, comparisons, ``not``,
parentheses, plain words and phrases, ``*`` for everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"[^"]*")|(?P<paren>[(),])|(?P<compare><=|>=|!=|<>|[=<>])|(?P<region>\[\s*[Qq][Ll][Rr][Ee][Gg][Ii][Oo][Nn]\s+"[^"]+"\s*\])"""
    r"""|(?P<word>[^\s(),"=<>\[\]:]+:?))""",
)
WORD = re.compile(r"\w+")


class BadQueryError(ValueError):
    """The text is no query."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One indexed node: its row, its path of ids, and the words about it (asked for only where they matter)."""

    row: Any
    path: tuple[int, ...]
    words: Callable[[], str]


Test = Callable[[Entry], bool]


REGIONS: dict[str, Callable[[Any, tuple[int, ...]], Any]] = {
    "otname": lambda row, path: row["name"],
    "otsubtype": lambda row, path: row["type"],
    "otdataid": lambda row, path: row["id"],
    "otparentid": lambda row, path: row["parent_id"],
    "otlocation": lambda row, path: " ".join(map(str, path)),
    "otmimetype": lambda row, path: row["mime_type"] or "",
    "otobjectsize": lambda row, path: row["size"],
    "otcreatedby": lambda row, path: row["create_user_id"],
    "otobjectdate": lambda row, path: row["modify_date"][:10].replace("-", ""),
    "otmodifydate": lambda row, path: row["modify_date"][:10].replace("-", ""),
    "otcreatedate": lambda row, path: row["create_date"][:10].replace("-", ""),
    "otdcomment": lambda row, path: row["description"],
}


def region(name: str) -> Callable[[Any, tuple[int, ...]], Any]:
    """How to read a search region from a row and its path. ``BadQueryError`` for one that is not indexed here."""
    if name.lower() not in REGIONS:
        raise BadQueryError(f"unknown region {name}")
    return REGIONS[name.lower()]


def compiled(text: str, mode: str) -> Test:
    """A test for one entry. ``mode`` is ``complexquery``, ``allwords``, ``anywords`` or ``exactphrase``."""
    words = [word.lower() for word in WORD.findall(text)]
    match mode:
        case "complexquery":
            return Query(text).parsed()
        case "allwords":
            return lambda entry: set(words) <= set(tokens(entry.words()))
        case "anywords":
            return lambda entry: not set(words).isdisjoint(tokens(entry.words()))
        case "exactphrase":
            return lambda entry: phrase_in(words, entry.words())
        case _:
            raise BadQueryError(f"unknown lookfor {mode}")


def tokens(text: str) -> list[str]:
    return [word.lower() for word in WORD.findall(text)]


def phrase_in(words: list[str], text: str) -> bool:
    """The words stand in the text, in this order and next to each other."""
    held = tokens(text)
    return any(held[start : start + len(words)] == words for start in range(len(held) - len(words) + 1))


def matches(wanted: str, text: str) -> bool:
    """A word or phrase, or a pattern over the whole text or one of its words."""
    if "*" in wanted or "?" in wanted:
        pattern = wanted.lower().replace("[", "[[]")
        return any(fnmatchcase(held, pattern) for held in (text.lower(), *tokens(text)))
    return phrase_in(tokens(wanted), text)


class Query:
    """Reads a query from left to right. ``and`` binds closer than ``or``."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        position = 0
        text = text.rstrip()
        while position < len(text):
            found = TOKEN.match(text, position)
            if not found or found.lastgroup is None:
                raise BadQueryError(f"unexpected {text[position : position + 20]!r}")
            self.tokens.append((found.lastgroup, found.group(found.lastgroup)))
            position = found.end()
        self.position = 0

    def parsed(self) -> Test:
        test = self._any()
        if self.position < len(self.tokens):
            raise BadQueryError(f"unexpected {self.tokens[self.position][1]!r}")
        return test

    def _peek(self) -> tuple[str, str]:
        return self.tokens[self.position] if self.position < len(self.tokens) else ("end", "")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        if token[0] == "end":
            raise BadQueryError("the query ends too early")
        self.position += 1
        return token

    def _word(self, word: str) -> bool:
        kind, value = self._peek()
        if kind in ("word", "paren") and value.lower() == word:
            self.position += 1
            return True
        return False

    def _any(self) -> Test:
        tests = [self._all()]
        while self._word("or"):
            tests.append(self._all())
        return tests[0] if len(tests) == 1 else lambda entry: any(test(entry) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while True:
            if self._word("and"):
                tests.append(self._one())
            elif self._word("and-not"):
                unwanted = self._one()
                tests.append(lambda entry, unwanted=unwanted: not unwanted(entry))  # type: ignore[misc]
            elif self._peek()[0] in ("word", "quoted", "region") and self._peek()[1].lower() != "or":
                tests.append(self._one())  # words next to each other are all wanted
            else:
                return tests[0] if len(tests) == 1 else lambda entry: all(test(entry) for test in tests)

    def _one(self) -> Test:
        if self._word("not"):
            unwanted = self._one()
            return lambda entry: not unwanted(entry)
        if self._word("("):
            test = self._any()
            if not self._word(")"):
                raise BadQueryError("missing )")
            return test
        kind, value = self._next()
        if kind == "region":
            return self._region(value.split('"')[1])
        if kind == "word" and value.endswith(":"):
            return self._region(value[:-1])
        if kind not in ("word", "quoted") or value.lower() in ("and", "or"):
            raise BadQueryError(f"unexpected {value!r}")
        wanted = value.strip('"')
        if wanted == "*":
            return lambda entry: True
        return lambda entry: matches(wanted, entry.words())

    def _region(self, name: str) -> Test:
        read = region(name)
        if self._word("in"):
            wanted = self._values()
            return lambda entry: any(compared(read(entry.row, entry.path), "=", value) for value in wanted)
        if self._word("qlleft-truncation"):
            ending = self._value().lower()
            return lambda entry: str(read(entry.row, entry.path)).lower().endswith(ending)
        if self._word("qlright-truncation"):
            start = self._value().lower()
            return lambda entry: str(read(entry.row, entry.path)).lower().startswith(start)
        compare = self._next()[1] if self._peek()[0] == "compare" else "="
        bound = self._value()
        return lambda entry: compared(read(entry.row, entry.path), compare, bound)

    def _values(self) -> list[str]:
        if not self._word("("):
            raise BadQueryError("expected ( after IN")
        values = [self._value()]
        while self._word(","):
            values.append(self._value())
        if not self._word(")"):
            raise BadQueryError("missing )")
        return values

    def _value(self) -> str:
        kind, value = self._next()
        if kind not in ("word", "quoted"):
            raise BadQueryError(f"unexpected {value!r}")
        return value.strip('"')


def compared(held: Any, compare: str, wanted: str) -> bool:
    if compare in ("=", "!=", "<>"):
        same = wanted == "*" or (str(held) == wanted if isinstance(held, int) else matches(wanted, str(held)))
        return same if compare == "=" else not same
    try:
        difference = held - int(wanted) if isinstance(held, int) else (str(held) > wanted) - (str(held) < wanted)
    except ValueError as error:
        raise BadQueryError(f"{wanted!r} is not a number") from error
    return {"<": difference < 0, "<=": difference <= 0, ">": difference > 0, ">=": difference >= 0}[compare]
