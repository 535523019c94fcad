"""What approvers see. Whatever a partner calls a document, it is text and nothing else."""

from __future__ import annotations

import re
import time
import unicodedata
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from blocks.outbound import (
    Decision,
    Delivered,
    Destination,
    Meaning,
    PackageFile,
    Redelivery,
    Requester,
    SignoffProof,
    StandingSignoff,
    iso,
)
from blocks.values import Finding, Proof, Severity, shown
from deployments import signoff_commands
from tasks.ask import _form
from tasks.rules import bundle_page
from tasks.rules.bundle import Step, Story
from tasks.rules.certificate import link_words
from tasks.rules.dialog import (
    MOST_LINES,
    Checked,
    Form,
    arrivals,
    form,
    grouped,
    inbox,
    listing,
    moment,
    rows,
    run_name,
    size,
)
from tasks.rules.difference import CellChange, Changed, Columns, Decided, Difference, RowChanges, compare
from tasks.rules.literal import cell, code, literal, words
from tasks.rules.signing import parse_answer
from tasks.rules.transmission import Kept, transmission
from tests.rules.signoff.world import (
    DEADLINE,
    NOON,
    PLACE,
    TWO,
    answer,
    asked,
    cast,
    document,
    matter,
    package,
    people,
    stage,
    stands,
    terms,
)

CHECKED = Checked(3)


def shown_form(*files: PackageFile, **told: Any) -> Form:
    about = matter(package(*files))
    given: dict[str, Any] = {"partner": "ACME Corporation", "checked": CHECKED, "zone": "Europe/Berlin", **told}
    return form(about, terms(), people(), stands(about, terms()), asked(about), **given)


def flat(markdown: str) -> list[Token]:
    """All tokens of a text, as a renderer with HTML and tables sees it."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(markdown)
    return [inner for token in tokens for inner in (token, *(token.children or ()))]


def bones(markdown: str) -> list[tuple[str, str]]:
    """Everything but what stands in code spans: kinds of tokens, and the texts around."""
    return [(token.type, token.content if token.type == "text" else "") for token in flat(markdown)]


def spans(markdown: str) -> list[str]:
    return [token.content for token in flat(markdown) if token.type == "code_inline"]


def test_01_the_dialog_lists_partner_places_names_sizes_and_digest() -> None:
    about = matter()
    text = shown_form(link="http://127.0.0.1:4200/artifacts/1").description
    for expected in (
        "**3 documents**",
        "**ACME Corporation**",
        "`sftp://acme@sftp.acme.example:22/in`",
        PLACE.key_fingerprint,
        "`a.csv` · 1.2 kB (1,200 bytes)",
        f"**`{about.package.digest[:8]}`**",
        grouped(about.package.digest),
        "Fay Moor (`fay`) (as stated, not proven)",
        "nobody yet",
        "Ann Weber (`ann`)",
        "0 of 1",
        "2026-11-22 12:00 UTC (2026-11-22 13:00 Europe/Berlin)",
        "](http://127.0.0.1:4200/artifacts/1)",
        "nothing found",
    ):
        assert expected in text


def test_01_the_field_that_the_classic_ui_shows_holds_the_same_text() -> None:
    """Both UIs take the last of each row of line ends in a field's description for a blank."""
    one = shown_form(document("a.csv"), document("b.csv"), link="http://127.0.0.1:4200/artifacts/1")
    schema = _form(one).model_json_schema()
    decision = schema["properties"]["decision"]
    assert "description" not in decision, "the newer UI would show it as it stands, below the rendered text"
    (classic,) = decision["allOf"]
    rendered = re.sub(r"\n(?!\n)", " ", classic["description"])
    assert bones(rendered) == bones(one.description) and spans(rendered) == spans(one.description)
    assert classic["enum"] == list(one.decisions)
    assert "decision" in schema["required"] and next(iter(schema["properties"])) == "decision"


def test_the_only_approver_can_be_chosen() -> None:
    about, under = matter(), terms(stage("legal"))
    one = form(about, under, people(), stands(about, under), asked(about), partner="ACME", checked=CHECKED)
    assert one.approvers == ("eve",)
    approver = _form(one).model_json_schema()["properties"]["approver"]
    assert approver["enum"] == ["eve"] and "const" not in approver


def test_04_the_first_line_says_why_the_last_answer_did_not_count() -> None:
    refused = parse_answer({})
    text = shown_form(refused=refused).description
    assert text.splitlines()[0].startswith("**Asked again: The field 'decision' was left empty")
    assert "Asked again" not in shown_form().description


def test_18_one_of_two_is_shown_with_who_signed_and_who_may() -> None:
    about, under = matter(), terms(stage("pricing", 2))
    vote = cast(answer("ann", about), about, under)
    one = form(about, under, people(), stands(about, under, (vote,)), asked(about, 2), partner="ACME", checked=CHECKED)
    assert "round 2; **1 of 2** signed" in one.description
    assert "- Signed: Ann Weber (`ann`), approval" in one.description
    assert one.approvers == ("bea", "cem")


def test_who_has_signed_beforehand_reads_why_they_are_asked_all_the_same() -> None:
    about, under = matter(outside=("3 documents, at most 2 may go", "<b>120</b> rows")), terms(stage("pricing"))
    one = form(about, under, people(), stands(about, under), asked(about), partner="ACME", checked=CHECKED)
    (told,) = [line for line in one.description.splitlines() if line.startswith("**Not within what was signed beforehand**")]
    assert "3 documents, at most 2 may go; " in told and told.endswith("`<b>120</b> rows`")


def test_wherever_a_vote_is_told_it_says_that_it_was_given_beforehand() -> None:
    about, under = matter(), terms(stage("pricing", 2))
    own = cast(answer("ann", about), about, under)
    signed = StandingSignoff(
        partner="acme", stream="catalogue", profile="1" * 64, terms="3" * 64, approver="ann", until=DEADLINE, time=NOON
    )
    for vote, times in ((own, 0), (replace(own, standing=signed), 1)):
        now = stands(about, under, (vote,))
        kept = Kept("ecm", "1", 1)
        record = transmission(
            about,
            people(),
            [vote],
            (),
            title="",
            source="",
            copies={},
            certificate="",
            certificate_at=kept,
            awaited=False,
            made=NOON,
        )
        answered = Step("j", 1, "answered", iso(NOON), {"vote": vote.facts}, "0" * 64, 1)
        told = (
            form(about, under, people(), now, asked(about, 2), partner="ACME", checked=CHECKED).description,
            signoff_commands._signed(vote),
            record,
            "".join(bundle_page._answers(Story("j", [answered]))),
        )
        assert [one.count("has not seen these documents") for one in told] == [times] * 4


@pytest.mark.parametrize(
    ("signers", "at", "expected"),
    [
        pytest.param((), NOON, "due 2026-11-22 13:00, waits for 1 of pricing", id="another day is named"),
        pytest.param((), DEADLINE - timedelta(hours=9), "due 13:00, waits for 1 of pricing", id="on the day, the hour"),
        pytest.param(("ann",), NOON, "due 2026-11-22 13:00, waits for 2 of legal or content", id="the next stage"),
    ],
)
def test_the_name_of_a_run_says_what_it_waits_for(signers: tuple[str, ...], at: datetime, expected: str) -> None:
    about, under = matter(), terms(stage("pricing"), stage("second", 2, "legal", "content"))
    votes = tuple(cast(answer(name, about), about, under) for name in signers)
    named = run_name(about, under, stands(about, under, votes), at, "Europe/Berlin")
    assert named == f"release acme/catalogue 2026-11-20: 3 files, {expected}"


def test_the_inbox_of_an_approver_in_both_uis() -> None:
    for address in ("http://p.example:4200", "http://p.example:4200/v2/"):
        assert inbox(address, "ann") == (
            "http://p.example:4200/runs?state=Suspended&tag=awaits:ann",
            "http://p.example:4200/v2/runs?state=Suspended&tags=awaits:ann",
        )


def test_the_facts_of_the_form() -> None:
    one = shown_form()
    assert one.files == ("1. a.csv", "2. b.csv", "3. c.csv")
    assert one.decisions == tuple(decision.value for decision in Decision)
    assert one.meanings == tuple(meaning.value for meaning in Meaning)
    single = shown_form(document("a.csv"))
    assert single.files == ()
    assert Decision.APPROVE_BUT.value not in single.decisions
    assert one.shown != single.shown


ROWS = [(f"A-{n:04}", "", "EUR", "10.50", "2026-01-01") for n in range(1000)]
PRICES = Columns(("sku", "description", "currency", "price", "valid_from"), ((0, 2),), frozenset({3}))


def since(text: str = "b.csv", documents: int = 1) -> Difference:
    """A difference in which one price changed; every text from outside is this one, or has it."""
    row = (text, "", text, "105.00", text)
    rows = compare([(text, "", text, "10.50", text), *ROWS[1:]], [row, *ROWS[1:]], PRICES)
    more = RowChanges(1, 2, 1, texts=(CellChange(text, text, text, text),), first_added=text, first_removed=text)
    told = [Changed(text, text + "-old", 100, 101, rows + more), Changed(text, text, 100, 1200, note="too large")]
    return Difference(
        text,
        "0" * 64,
        NOON,
        3,
        documents,
        2,
        1,
        tuple(told * documents)[:documents],
        (text,) * documents,
        (text,),
        (PLACE.shown, text),
        (text,),
    )


def test_one_planted_change_among_a_thousand_rows_is_told() -> None:
    rows = compare(ROWS, [*ROWS[:612], ("A-0612", "", "EUR", "105.00", "2026-01-01"), *ROWS[613:]], PRICES)
    told = Difference("o-1", "0" * 64, NOON, 2, 1, 0, 0, (Changed("b.csv", "b.csv", 30000, 30001, rows),))
    text = shown_form(since=told).description
    line = "- `b.csv`: of 1,000 rows **1 changed** (`price` 1); `A-0612, EUR`: `price` `10.50` → **`105.00`** (+900 %)"
    assert line in text.splitlines()
    assert "Since the last release, order `o-1` of 2026-11-20: 0 new, 1 changed, 2 the same, 0 not among them" in text
    assert text.index(line) < text.index("1. `a.csv`"), "before the list of documents"
    assert line in listing(package(), CHECKED, told).splitlines()


@pytest.mark.parametrize(
    ("before", "after", "cells"),
    [
        pytest.param("blue", "red", "`blue` → **`red`**", id="short texts stand whole"),
        pytest.param(
            "a" * 60 + "1" + "z" * 60,
            "a" * 60 + "2" + "z" * 60,
            f"`…{'a' * 10}1{'z' * 27}…` → **`…{'a' * 10}2{'z' * 27}…`**",
            id="a difference in the middle",
        ),
        pytest.param("a" * 500 + "1", "a" * 500, f"`…{'a' * 10}1` → **`…{'a' * 10}`**", id="the end of a long one"),
        pytest.param("\u202e" * 30 + "1", "\u202e" * 30, "\\u202e1` → **`", id="what is written out takes more room"),
    ],
)
def test_texts_that_differ_are_seen_to_differ(before: str, after: str, cells: str) -> None:
    columns = Columns(("sku", "colour"), ((0,),))
    rows = compare([("A-1", before)], [("A-1", after)], columns)
    told = Difference("o-1", "0" * 64, NOON, 0, 1, 0, 0, (Changed("b.csv", "b.csv", 1, 1, rows),))
    assert cells in shown_form(since=told).description


def test_what_else_changed_since_the_last_release() -> None:
    text = shown_form(since=since()).description
    assert "**the destinations are not the same**" in text
    assert f"- to `{PLACE.shown}`, key `{PLACE.key_fingerprint}`, **new**" in text
    assert "- new: `b.csv`; gone: `b.csv`" in text
    assert "was `b.csv-old`" in text
    two = shown_form(since=since(documents=2)).description
    assert "- `b.csv`: other content, 100 bytes before, now 1.2 kB (1,200 bytes) (too large)" in two


def test_earlier_decisions_stand_in_one_line() -> None:
    earlier = [
        Decided("o-2", "Rejected", NOON - timedelta(days=1), ("bea",), "last year's prices"),
        Decided("o-1", "Delivered", NOON - timedelta(days=8), ("ann", "gone")),
        Decided("o-0", "Expired", NOON - timedelta(days=9), ()),
    ]
    assert shown_form(earlier=earlier).description.splitlines()[-1] == (
        "- Before this: `o-2` Rejected by Bea Öztürk (`bea`), 2026-11-19: `last year's prices`; "
        "`o-1` Delivered by Ann Weber (`ann`); `gone`, 2026-11-12; `o-0` Expired, 2026-11-11"
    )


LONG = "x" * 250 + ".pdf.exe"


def findings(count: int) -> Checked:
    row = Finding("bad", "`price` is <b>negative</b>", LONG, row=7, column="price", fix="mend it")
    return Checked(1000, (row,) * count + (Finding("note", "odd", "a.csv", severity=Severity.NOTE),) * count)


@pytest.mark.parametrize("count", [1, 2, 6, 7, 50, 51, 1000])
def test_28_the_dialog_stays_short_for_any_package(count: int) -> None:
    places = tuple(
        Destination("sftp", f"h{n}.example", 22, "acme", "/" + "y" * 300, "SHA256:" + "k" * 43) for n in range(min(count, 20))
    )
    again = Redelivery(LONG[:100], "0" * 64, 9, LONG, LONG)
    why = (f"1 in column {LONG[:100]}, usually 0",) * 6 if count == 51 else ()  # what goes once more is never unusual
    about = matter(
        package(*(document(f"{n}{LONG}") for n in range(count)), destinations=places, redelivery=None if why else again),
        requester=LONG,
        editors=("x",) * 9,
        brake=why,
        outside=why[:4],
    )
    under = terms(*TWO, stage("legal"), veto=["legal", "content"], proof="signature", brake={"files": 3})
    signed = replace(stands(about, under), left_out=about.package.choices[:9])
    started = time.thread_time()
    one = form(
        about,
        under,
        people(),
        signed,
        asked(about, 99),
        partner=LONG * 3,
        checked=findings(count),
        link="https://prefect.example/artifacts/artifact/0196",
        refused=parse_answer(None),
        since=since(LONG, count),
        earlier=[Decided(LONG, LONG, NOON, (LONG,) * 9, LONG)] * 3,
        zone="Europe/Berlin",
    )
    listing(about.package, findings(count), since(LONG, count))
    assert time.thread_time() - started < 15
    assert len(one.description.splitlines()) < MOST_LINES
    assert len(one.description) < 8000
    if count > 4:
        assert f"and {count - 4} more, in the full list" in one.description


def test_a_long_name_keeps_its_ending() -> None:
    assert ".pdf.exe`" in shown_form(document(LONG)).description


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a" * 53, "a" * 53, id="fits into one line"),
        pytest.param("a" * 40 + "_" + "b" * 20, "a" * 35 + "…" + "b" * 17, id="one long part"),
        pytest.param(
            "sftp://" + "h" * 58 + ".example:22/in", "sftp://" + "h" * 35 + "…" + "h" * 6 + ".example:22/in", id="a host"
        ),
        pytest.param("Data Sheet - Industrial Bearing 6204-2RS1 - EN - 2026.pdf", None, id="breaks at blanks and hyphens"),
    ],
)
def test_nothing_is_wider_than_the_dialog(text: str, expected: str | None) -> None:
    assert code(text) == f"`{expected or text}`"


EVIL = [
    "<img src=x onerror=alert(1)>.csv",
    "![](http://evil.example/pixel.png)",
    "[click](http://evil.example)",
    "http://evil.example/a.csv",
    "www.evil.example",
    "mail@evil.example",
    "<http://evil.example>",
    "`code` **bold** _it_ ~~no~~",
    "``` fence",
    "a|b|c",
    "| - | - |",
    "# heading",
    "\n\n# heading\n",
    "\r\n---\r\n",
    "invoice\u202efdp.exe",
    "\u2066hidden\u2069\u200b\ufeff",
    "&lt;b&gt; &#60;",
    "\\`\\<b>",
    "`",
    "``",
    " ` ",
    "   ",
    "\x1b[31mred",
    "{{ 1 + 1 }} {% raw %}",
    "- [ ] todo",
    "[x]: http://evil.example",
    "$x^2$",
    ":smile: @everyone #1",
]
nasty = st.lists(
    st.sampled_from(
        [
            "`",
            "``",
            "<",
            ">",
            "![",
            "](",
            ")",
            "|",
            "\n",
            "\r",
            "\\",
            "http://e.x",
            "<img src=x>",
            "&",
            "*",
            "_",
            "\u202e",
            " ",
            "a",
        ]
    )
    | st.characters(),
    min_size=1,
    max_size=12,
).map("".join)


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def evil_form(text: str) -> str:
    """A dialog in which every text from outside is this one."""
    files = tuple(PackageFile(as_bytes(text) + bytes([65 + n]), 1200, "0" * 64, text, 3) for n in range(3))
    place = Destination(text, text, 22, text, text, text)
    about = matter(package(*files, destinations=(place,)), requester=text)
    told = {"ann": {"name": (text + "\u2026")[:80]}, "bea": {"name": "x"}, "cem": {"groups": []}}
    known = people(**told)
    under = terms(stage("pricing", 2))
    vote = cast(answer("ann", about), about, under, known=people())
    now = stands(about, under, (vote,), known=known)
    checked = Checked(3, (Finding(text, text, text, row=1, column=text, value=text, rule=text, fix=text),))
    one = form(
        about,
        under,
        known,
        now,
        asked(about),
        partner=text,
        checked=checked,
        since=since(text, 2),
        earlier=[Decided(text, text, NOON, (text,), text)],
    )
    return one.description


@given(nasty | st.text(min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_25_any_text_from_outside_changes_nothing_but_itself(text: str) -> None:
    known = people()
    if any(person.known_as(text) for person in known.people) or text.strip().casefold() in ("", "x"):
        return
    _unmoved(text)


@pytest.mark.parametrize("text", EVIL)
def test_25_markup_links_and_bidi_marks_are_shown_literally(text: str) -> None:
    _unmoved(text)
    description = shown_form(PackageFile(as_bytes(text), 1, "0" * 64, "id", 1)).description
    literal = shown(as_bytes(text)).replace("\\\\", "\\")
    assert any(span == literal for span in (s.replace("\\\\", "\\") for s in spans(description))), spans(description)


def _unmoved(text: str) -> None:
    hostile = evil_form(text)
    assert_harmless(hostile)
    # Two plain words that are too long, or too odd, to stand outside a code span: the same skeleton.
    assert bones(hostile) == bones(evil_form("~~")) or _plain(text)
    artifact = listing(
        package(document(text), document(text + "b")), Checked(1, (Finding(text, text, text, fix=text),)), since(text, 2)
    )
    assert_harmless(artifact)
    assert bones(artifact) == bones(
        listing(package(document("~"), document("b")), Checked(1, (Finding("~", "~", "~", fix="~"),)), since("~", 2))
    )


def _plain(text: str) -> bool:
    """It may stand as it is: words and nothing else."""
    return words(text) == text or words((text + "…")[:80]) == (text + "…")[:80]


def assert_harmless(markdown: str) -> None:
    kinds = {token.type for token in flat(markdown)}
    assert not kinds & {"link_open", "image", "html_inline", "html_block", "fence", "code_block", "hr", "html"}, kinds
    assert all(char == "\n" or char == " " or unicodedata.category(char)[0] not in "CZ" for char in markdown)


@given(nasty | st.text(max_size=90))
@example("a`b")
@example("` ")
@settings(max_examples=300, deadline=None)
def test_a_code_span_is_one_span_with_the_text_in_it(text: str) -> None:
    for made in (code(text), cell(text)):
        kinds = [token.type for token in flat(f"- x {made} y")]
        assert kinds.count("code_inline") == (1 if text else 0), made
        assert not {"html_inline", "link_open", "image", "em_open", "strong_open"} & set(kinds)
    assert "|" not in cell(text)
    row = f"| a | b |\n|---|---|\n| {cell(text)} | 2 |"
    assert [token.type for token in flat(row)].count("td_open") == 2


PLAIN = {"paragraph_open", "paragraph_close", "inline", "text", "code_inline"}


@given(nasty | st.text(max_size=30) | st.text("ab1. _-+=()w:/?,;'\"é", max_size=12))
@example("1. a")
@example("_a_ b_c")
@example("www.a.b http://a.b")
@settings(max_examples=300, deadline=None)
def test_a_cell_of_a_table_artifact_reads_the_same_as_markdown_and_as_text(text: str) -> None:
    made = literal(text)
    tokens = [token for token in flat(made) if token.children is None or token.type != "inline"]
    assert {token.type for token in flat(made)} <= PLAIN
    if made == text:
        assert "".join(token.content for token in tokens) == text
        assert not re.search(r"://|www\.|@", text, re.IGNORECASE), "an address becomes a link"
    else:
        assert [token.type for token in tokens].count("code_inline") == 1 and "text" not in {token.type for token in tokens}


@pytest.mark.parametrize(
    "text",
    ["prices_2026-11-20.csv", "Row 7: the price is negative", "bolt (M8).pdf", "Größe 10%", "already filed as 4711; see it"],
)
def test_an_ordinary_cell_stands_as_it_is(text: str) -> None:
    assert literal(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ann Weber", "Ann Weber"),
        ("Dan O’Neill, Dr.", "Dan O’Neill, Dr."),
        ("Öztürk-Li", "Öztürk-Li"),
        ("www.evil.example", "`www.evil.example`"),
        ("_x_", "`_x_`"),
        ("- x", "`- x`"),
        ("", "–"),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert words(text) == expected


def test_a_link_that_is_no_plain_address_is_left_out() -> None:
    for link in ("javascript:alert(1)", "http://x/) ![](http://evil", "data:text/html,x", "http://x/`<b>"):
        assert "](" not in shown_form(link=link).description


def test_the_full_list_has_every_document() -> None:
    text = listing(package(*(document(f"{n}.csv") for n in range(1000))))
    assert text.count("| `") >= 1000
    assert "| 1000 | `999.csv` |" in text
    assert rows(package())[2]["name"] == "c.csv"


@pytest.mark.parametrize("name", EVIL)
def test_what_arrived_is_shown_literally_with_its_ticks(name: str) -> None:
    digest = "0" * 64
    placed = Delivered(0, as_bytes(name), b"b.csv", digest, digest, digest, Proof.READ_BACK, digest, NOON)
    gone = placed._replace(proof=Proof.UNVERIFIABLE, proven=None, collected=True)
    text = arrivals(package(), (placed, gone))
    assert_harmless(text)
    assert [row.count("✓") for row in text.splitlines()[-2:]] == [3, 2]
    assert shown(as_bytes(name)).replace("|", "\\x7c") in spans(text)
    assert link_words(gone) in text.splitlines()[2]


def test_a_proven_requester_is_told_apart() -> None:
    about = matter()
    proven = matter(requester=None)
    assert (
        "a schedule or event"
        in form(proven, terms(), people(), stands(proven, terms()), asked(proven), partner="A", checked=CHECKED).description
    )
    told = type(about)(about.package, about.run, Requester("fay", SignoffProof.CODE))
    text = form(told, terms(), people(), stands(told, terms()), asked(told), partner="A", checked=CHECKED).description
    assert "(proven by code)" in text
    assert "Until" not in text


def test_sizes_and_moments() -> None:
    assert [size(n) for n in (0, 1, 1000, 5 * 1024**3)] == [
        "0 bytes",
        "1 byte",
        "1.0 kB (1,000 bytes)",
        "5.4 GB (5,368,709,120 bytes)",
    ]
    assert moment(NOON, "UTC") == "2026-11-20 12:00 UTC"
    assert moment(NOON + timedelta(days=200), "Europe/Berlin") == "2027-06-08 12:00 UTC (2027-06-08 14:00 Europe/Berlin)"
