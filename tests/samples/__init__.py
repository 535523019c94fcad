"""What a partner may leave on a day: files as they should be, and one of each way in which they are not.

``drop`` writes them as the partner's own programs would; every ``Sample`` says what must become of it under the terms of
``deployments/acme.yaml``. Everything is made by the standard library alone and is the same for the same seed.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from tests.samples import making
from tests.samples.making import HEADER, Row

TOO_LARGE = 256 * 1024 * 1024 + 1
"""One byte more than acme's price lists may have."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One file, and what must become of it."""

    stream: str
    name: bytes
    outcome: str
    """``filed``, ``quarantined``, ``duplicate`` (same bytes as a file of another name), or ``not picked up``."""
    code: str = ""
    """Of the finding that names the reason; "" where there is none."""
    shows: str = ""
    digest: str = ""
    """SHA-256 of its bytes; "" for the one that is too large to be read."""
    stays: bool = False
    """True if the original must still be where it was: it was never fetched."""


def drop(folder: Path, seed: int = 1) -> list[Sample]:
    """Write the samples below ``<folder>/out/<stream>/``, in an order that a partner's program could have."""
    samples = []
    for sample, content in _all(random.Random(seed)):
        place = folder / "out" / sample.stream
        place.mkdir(parents=True, exist_ok=True)
        path = os.fsencode(place) + b"/" + sample.name
        with open(path, "wb") as file:
            if content is None:
                file.truncate(TOO_LARGE)  # sparse: costs no disk
            else:
                file.write(content)
        digest = "" if content is None else hashlib.sha256(content).hexdigest()
        samples.append(Sample(sample.stream, sample.name, sample.outcome, sample.code, sample.shows, digest, sample.stays))
    return samples


Made = Iterator[tuple[Sample, bytes | None]]


def _all(chance: random.Random) -> Made:
    yield from _price_lists(chance)
    yield from _manifests(chance)
    yield from _invoices(chance)
    yield from _images()


def _price_lists(chance: random.Random) -> Made:
    def good(name: str, content: bytes, shows: str) -> tuple[Sample, bytes]:
        return Sample("price-lists", name.encode(), "filed", shows=shows), content

    def bad(
        name: str | bytes, code: str, content: bytes | None, shows: str, *, stays: bool = False
    ) -> tuple[Sample, bytes | None]:
        raw = name.encode() if isinstance(name, str) else name
        return Sample("price-lists", raw, "quarantined", code, shows, stays=stays), content

    def rows(count: int = 20) -> list[Row]:
        return making.prices(chance, count)

    def table(lines: list[Row]) -> bytes:
        return making.csv_text(HEADER, lines)

    autumn = table(rows(88))
    yield good("prices_bolts_2026-11-02.csv", autumn, "as agreed")
    yield good("prices_cables_2026-11-03.csv", table(rows(5000)), "five thousand rows")
    quoted = [*rows(), Row("Q-1", 'Rohr 1/2", verzinkt, 3 m – "Müller & Söhne"', "EUR", "12.50", "2026-12-01")]
    yield good("prices_pipes_2026-11-04.csv", table(quoted), "quotes, commas and umlauts in texts")
    yield good("prices_tools_2026-11-05.csv", b"\xef\xbb\xbf" + table(rows()), "one byte order mark")
    yield good("prices_screws_2026-11-06.csv", table(rows()).replace(b"\n", b"\r\n"), "lines as Windows ends them")
    zeros = [Row("00012345", "NA", "EUR", "0.00", "2026-12-01"), Row("1E5", "=1+1", "EUR", "7", "2026-12-01")]
    yield good("PRICES_Washers_2026-11-07.CSV", table(zeros), "leading zeros, NA and 1E5 are texts")
    # Names decide the order among files first seen together: the copy must come after its original.
    copy = Sample("price-lists", b"prices_bolts_2026-11-09.csv", "duplicate", shows="the first one's bytes under another name")
    yield copy, autumn
    temporary = Sample(
        "price-lists", b"prices_nails_2026-11-10.csv.part", "not picked up", shows="still under its temporary name", stays=True
    )
    yield temporary, table(rows())[:300]

    yield bad("price list final(2).csv", "naming-rule", table(rows()), "not a name that was agreed")
    yield bad(b"prices_\xfcbersicht_2026-11-11.csv", "naming-rule", table(rows()), "a name that is not UTF-8")
    yield bad(b"prices_new\nline_2026-11-11.csv", "illegal-name", table(rows()), "a newline in the name", stays=True)
    yield bad("prices_everything_2026-11-11.csv", "too-large", None, "more bytes than agreed", stays=True)
    yield bad("prices_empty_2026-11-11.csv", "empty-file", b"", "no bytes at all")
    foreign = table([Row("A-1", "Stahlträger, geölt", "EUR", "99.00", "2026-12-01")]).decode().encode("cp1252")
    yield bad("prices_cp1252_2026-11-12.csv", "wrong-encoding", foreign, "cp1252 instead of UTF-8")
    yield bad("prices_twobom_2026-11-12.csv", "double-bom", b"\xef\xbb\xbf" * 2 + table(rows()), "two byte order marks")
    renamed = making.csv_text(("sku", "description", "currency", "unit_price", "valid_from"), rows())
    yield bad("prices_header_2026-11-12.csv", "missing-column", renamed, "a column has another name")
    yield bad("prices_semicolon_2026-11-12.csv", "wrong-delimiter", making.csv_text(HEADER, rows(), ";"), "another separator")
    ragged = table(rows()) + b"R-1,Seal, flat,EUR,1.00,2026-12-01\n"
    yield bad("prices_ragged_2026-11-13.csv", "ragged-row", ragged, "a comma too many")
    unclosed = table(rows()) + b'U-1,"Hose 3/4,EUR,4.00,2026-12-01\nU-2,Hose,EUR,4.00,2026-12-01\n'
    yield bad("prices_unclosed_2026-11-13.csv", "unclosed-quote", unclosed, "a quote that never closes")
    yield bad(
        "prices_nul_2026-11-13.csv", "nul-byte", table(rows()) + b"N-1,Nut\0,EUR,1.00,2026-12-01\n", "a NUL byte in a text"
    )
    typed = [*rows(), Row("T-1", "Tape", "EUR", "1,250.00", "2026-12-01"), Row("T-2", "Tape", "EUR", "n/a", "2026-12-01")]
    yield bad("prices_type_2026-11-14.csv", "wrong-type", table(typed), "a price that is no number")
    dated = [*rows(), Row("D-1", "Dowel", "EUR", "1.00", "03/04/2026")]
    yield bad("prices_date_2026-11-14.csv", "ambiguous-date", table(dated), "March or April?")
    negative = [*rows(), Row("M-1", "Magnet", "EUR", "-3.10", "2026-12-01")]
    yield bad("prices_range_2026-11-14.csv", "out-of-range", table(negative), "a negative price")
    twice = rows()
    yield bad("prices_twice_2026-11-14.csv", "duplicate-key", table([*twice, twice[3]]), "an article twice")


def _manifests(chance: random.Random) -> Made:
    def manifest(number: int, count: int, *, said: int | None = None, trailer: bool = True) -> bytes:
        day = date(2026, 11, 1) + timedelta(days=number)
        return making.manifest(chance, f"ACME-{number:05d}", count, day, said=count if said is None else said, trailer=trailer)

    for number, count in ((101, 12), (102, 1), (103, 400), (104, 40), (105, 7)):
        name = f"manifest_ACME-{number}_2026-11-{number - 99:02d}.csv".encode()
        yield Sample("manifests", name, "filed", shows=f"{count} lines and a control line"), manifest(number, count)
    cut = Sample(
        "manifests", b"manifest_ACME-106_2026-11-07.csv", "quarantined", "truncated", "the control line tells of more rows"
    )
    yield cut, manifest(106, 30, said=31)
    lost = Sample("manifests", b"manifest_ACME-107_2026-11-08.csv", "quarantined", "trailer-missing", "cut at the end of a row")
    yield lost, manifest(107, 30, trailer=False)


def _invoices(chance: random.Random) -> Made:
    for number in range(4711, 4716):
        content = making.pdf(f"Invoice {number}: {chance.randrange(100, 99999) / 100:.2f} EUR")
        yield Sample("invoices", f"INV_{number}_202611{number - 4700:02d}.pdf".encode(), "filed", shows="a PDF"), content
    program = making.windows_program()
    disguised = Sample("invoices", b"INV_4720_20261118.pdf", "quarantined", "program", "a program that calls itself PDF")
    yield disguised, program
    double = Sample(
        "invoices", b"INV_4721_20261118.pdf.exe", "not picked up", shows="two extensions, of which the last counts", stays=True
    )
    yield double, program + b"2"
    cut = Sample("invoices", b"INV_4722_20261118.pdf", "quarantined", "truncated", "a PDF without its end")
    yield cut, making.pdf("Invoice 4722")[:-60]
    both = Sample("invoices", b"INV_4723_20261118.pdf", "quarantined", "appended-archive", "a PDF with an archive behind it")
    yield both, making.pdf("Invoice 4723") + making.archive()


def _images() -> Made:
    for number, view in enumerate(("front", "back", "detail1")):
        yield Sample("images", f"bolt{number}_{view}.png".encode(), "filed", shows="a PNG image"), making.png(16 + number, 16)
    yield Sample("images", b"WASHER7_front.JPG", "filed", shows="a JPEG image"), making.jpeg(90)
    yield (
        Sample("images", b"nut42_back.png", "quarantined", "extension-mismatch", "a JPEG that calls itself PNG"),
        making.jpeg(40),
    )
    readme = Sample("images", b"readme.txt", "not picked up", shows="nothing that was agreed", stays=True)
    yield readme, b"Pictures of the autumn range.\n"
