"""What a catalogue holds, and which texts there are to translate.

A finding's rule and fix are English sentences, some with something filled in. ``PHRASES`` lists them; what is filled in is the document
type's and the stream's own, and nothing else (``tasks.rules.note.sayings``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PHRASES = (
    # rules of cells
    "{column} has a value in every row",
    "{column} is a date of ISO 8601, YYYY-MM-DD, such as 2026-11-20",
    "{column} is a whole number of up to 15 digits, without separators",
    "{column} is a number with {mark} before its decimals and no other separators, such as {sample}",
    "{column}: an article number of up to 40 letters, digits and . _ / - without blanks",
    "{column}: a currency code of ISO 4217, such as EUR",
    "{column}: a shipment number of up to 30 capital letters, digits and -",
    "{column}: a reference of up to 35 letters, digits, / and -",
    "{column}: at most {length} characters",
    "{column}: a day from 2000 to 2099",
    "{column}: from {lowest} to {highest}",
    # rules of rows and tables
    "{columns} together occur once per file",
    "{column} is the same in the whole file",
    "Every row has {width} fields",
    "No blank rows between rows",
    'A quoted field is "…", and a double quote inside it is written twice',
    "At most {field_characters} characters in a field",
    "At most {rows} rows",
    "At most {largest_bytes} bytes",
    "At least {smallest_bytes} bytes",
    "The header is exactly: {header}",
    "The last line is {trailer}",
    "The text is {encoding}",
    # what to do about cells
    "Fill it in.",
    "Fill in a date.",
    "Fill in a number.",
    "Fill in a whole number.",
    "Write the year first: YYYY-MM-DD.",
    "Remove the blanks around it.",
    "Give a day that the calendar has, as YYYY-MM-DD.",
    "Write it without separators of thousands, and with {mark} before its decimals.",
    "A spreadsheet has shortened it: format the column as a plain number and export again.",
    "Give a date.",
    "Give a number.",
    "Give a whole number.",
    "A spreadsheet has shortened it: format the column as text, enter it in full and export again.",
    "Write it as the rule says.",
    "Correct the value.",
    # what to do about rows and tables
    "Send each once; if both rows are meant, their keys must differ.",
    "Send one file for each.",
    "Send the complete file, with its control line.",
    "Write the control line as agreed.",
    "Rows are missing or were added on the way: send the complete file again.",
    'Most often a separator inside a text: put that text into double quotes ("…").',
    "Remove the blank row; if rows are missing there, send them.",
    'Write a double quote inside a text as "" and put the text in double quotes.',
    "Send the agreed columns in the agreed order; columns are never renamed or moved by us.",
    "Send the file with its header as the first row.",
    "The file was cut; send it again completely.",
)

LENGTHS = ("500",)
RANGES = (("0", "10,000,000"), ("1", "999,999"), ("1", "1,000,000"), ("-1,000,000,000,000", "1,000,000,000,000"))
"""The numbers in rules of document types' columns: told here too, so that the sender knows them without their schemas."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason code in words."""

    what: str
    """What is wrong; it stands for the rule where that is none of ``PHRASES``."""
    fix: str


@dataclass(frozen=True, slots=True)
class Headings:
    """What stands around the findings."""

    title: str
    refused: str
    """Knows {file}, {title} and {bytes}."""
    how: str
    how_named: str
    """Instead of ``how``, where the name is what is wrong."""
    parted: str
    """Instead of ``refused``, where only the listed rows were held; the same facts."""
    how_parted: str
    row: str
    column: str
    value: str
    problem: str
    rule: str
    fix: str
    whole_file: str
    earlier: str
    """Which row came first with the same key: {row}."""
    joined: str
    """Between the names of columns."""
    thousands: str
    """Between thousands."""
    counted: str
    """How rows are counted."""
    example: str
    """Of a document of the type {title}."""
    more: str
    """{count} more than are listed."""
    digest: str
    empty: str
    """An empty cell's value."""
    quoted: str
    """That values which a spreadsheet would run have a quote before them."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One language."""

    code: str
    headings: Headings
    reasons: Mapping[str, Reason]
    """By reason code: every one that a partner's file can be refused for."""
    phrases: Mapping[str, str]
    """By the English phrase, of ``PHRASES``."""
    titles: Mapping[str, str]
    """What document types are called, by slug."""
