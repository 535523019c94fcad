"""Files made by hand: tables, and the smallest PDF, PNG, JPEG and ZIP that a viewer opens."""

from __future__ import annotations

import csv
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from datetime import date
from typing import NamedTuple

HEADER = ("sku", "description", "currency", "price", "valid_from")
GOODS = (
    "Hex bolt M8 x 40",
    "Washer 8 mm",
    "Cable tie",
    "Copper pipe 15 mm",
    "Ball valve",
    "Hose clamp",
    "Anchor bolt",
    "Cutter",
)


class Row(NamedTuple):
    """One row of a price list, as text."""

    sku: str
    description: str
    currency: str
    price: str
    valid_from: str


def prices(chance: random.Random, count: int) -> list[Row]:
    """Good rows, each with an article number of its own."""
    numbers = chance.sample(range(10**7), count)
    return [
        Row(f"GT-{number:07d}", chance.choice(GOODS), "EUR", f"{chance.randrange(1, 99999) / 100:.2f}", "2026-12-01")
        for number in numbers
    ]


def csv_text(header: Sequence[str], rows: Iterable[Sequence[str]], delimiter: str = ",") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def manifest(chance: random.Random, shipment: str, count: int, day: date, *, said: int, trailer: bool) -> bytes:
    """A shipment manifest whose control line claims ``said`` rows."""
    quantities = [chance.randrange(1, 500) for _ in range(count)]
    header = ("shipment", "line", "sku", "quantity", "shipped_on")
    rows = [
        (shipment, str(line), f"GT-{chance.randrange(10**7):07d}", str(quantity), day.isoformat())
        for line, quantity in enumerate(quantities, 1)
    ]
    control = f"#TRAILER;rows={said};quantity={sum(quantities)}\n".encode() if trailer else b""
    return csv_text(header, rows, ";") + control


def pdf(text: str) -> bytes:
    """One A4 page with one line on it (ISO 32000: header, objects, cross-reference table, trailer)."""
    content = f"BT /F1 18 Tf 60 780 Td ({text}) Tj ET".encode("ascii")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


def png(width: int, height: int) -> bytes:
    """A grey gradient (ISO 15948: signature, IHDR, IDAT, IEND)."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    lines = b"".join(b"\0" + bytes(x * 255 // width for x in range(width)) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def jpeg(shade: int) -> bytes:
    """A 16 x 16 square of one grey, darker than the middle by ``shade`` of 127 (ITU T.81, baseline, smallest code tables)."""

    def segment(marker: int, body: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body

    tables = segment(0xC4, b"\x00" + bytes([1, 1, *[0] * 14]) + b"\x00\x07")  # DC: '0' no change, '10' a change of 7 bits
    tables += segment(0xC4, b"\x10" + bytes([1, *[0] * 15]) + b"\x00")  # AC: '0' end of block
    bits = "10" + f"{127 - min(max(shade, 64), 127):07b}" + "0" + "00" * 3
    bits += "1" * (-len(bits) % 8)
    scan = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)).replace(b"\xff", b"\xff\x00")
    return (
        b"\xff\xd8"
        + segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0")
        + segment(0xFE, b"shade %d" % shade)
        + segment(0xDB, b"\x00" + bytes([8] * 64))
        + segment(0xC0, struct.pack(">BHHB", 8, 16, 16, 1) + b"\x01\x11\x00")
        + tables
        + segment(0xDA, b"\x01\x01\x00\x00\x3f\x00")
        + scan
        + b"\xff\xd9"
    )


def windows_program() -> bytes:
    """The beginning of a program for Windows: enough for its magic, nothing that runs."""
    return b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + bytes(400)


def archive() -> bytes:
    """A ZIP archive with one entry."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        packed.writestr(zipfile.ZipInfo("xl/workbook.xml", (2026, 11, 20, 0, 0, 0)), "<workbook/>")
    return content.getvalue()
