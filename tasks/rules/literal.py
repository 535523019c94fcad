"""Text from outside, shown literally where Prefect's UIs render Markdown.

They load images and make links of whatever looks like one. So every text from outside stands in a code span: the one place where
Markdown knows neither markup, links nor HTML (CommonMark 0.31, 6.1), and where no extension looks for addresses. Control
characters, bidi marks and odd blanks are written out.
"""

from __future__ import annotations

import re

from blocks.outbound import shortened
from blocks.values import shown

_LONGEST = 80
_WIDEST = 53
"""Characters in a code span that stand in one line of both dialogs. More without a place to break at would be cut off at the edge."""

_PLAIN = re.compile(r"""[A-Za-z0-9 ,.;:'"()+%=/?_\x80-\U0010ffff-]*""")
_TAKEN = re.compile(
    r"://|www\.|  |(?<![^\W_])_|_(?![^\W_])"  # what becomes an address (GFM 6.9), blanks that would be merged, emphasis
    r"|^[ +=-]|^[0-9]+[.)]|[ ]$",  # lists, rules, blocks of code
    re.IGNORECASE,
)


def code(text: str, most: int = _LONGEST, unbroken: int = _WIDEST) -> str:
    """Text from outside as a code span: shown literally, its middle left out if it is long, and of each long part without a break.

    >>> code("<img src=x>"), code("a`b"), code("")
    ('`<img src=x>`', '``a`b``', '–')
    """
    plain = shortened("".join(char if char == "\\" else shown(char) for char in text), most)
    # Browsers break lines there; the last stands for what was left out already.
    plain = re.sub(r"[^ /…-]+", lambda part: shortened(part[0], unbroken), plain)
    if not plain:
        return "–"
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", plain)), default=0))
    # A blank inside the fence is taken off again by the renderer, on both sides or not at all.
    pad = " " if plain[0] in "` " or plain[-1] in "` " else ""
    return f"{fence}{pad}{plain}{pad}{fence}" if plain.strip() else f"{fence}{plain}{fence}"


def cell(text: str, most: int = 300) -> str:
    """The same for a table's cell, where a bar would end it."""
    return code(text.replace("|", "\\x7c"), most, most)


def words(text: str) -> str:
    """Reviewed text, as of a person's name: plain if it is nothing but words, else a code span."""
    harmless = all(char.isalnum() or char in " ,.'’-" for char in text) and not re.search(r"\.\S|^\W|  ", text)
    return text if harmless and text and len(text) <= _LONGEST else code(text)


def literal(text: str) -> str:
    """The same for a table artifact's cell: as it stands if Markdown has nothing to say about it, else a code span.

    Such a cell is Markdown in the classic UI and plain text in the newer one, so most should read well as both.

    >>> literal("prices_2026.csv"), literal("<img src=x>"), literal("www.evil.example")
    ('prices_2026.csv', '`<img src=x>`', '`www.evil.example`')
    """
    if not text or (_PLAIN.fullmatch(text) and not _TAKEN.search(text) and text == shown(text)):
        return text
    return code(text, most=len(text) * 10, unbroken=len(text) * 10)
