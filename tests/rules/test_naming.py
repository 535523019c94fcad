"""Names from a partner, and what bytes are whatever their names say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.values import Inbound
from tasks.doctypes import find, known
from tasks.rules.naming import extension, facts_of_name, illegal, naming, recognise
from tasks.rules.sniff import inspect, sniff, suits
from tests.samples import making


def inbound(**changes: object) -> Inbound:
    terms = {
        "endpoint": "drop",
        "folder": "/out",
        "classify": [
            {"pattern": r"INV_(?P<number>\d+)\.pdf", "doctype": "invoice"},
            {"pattern": r".*\.csv", "doctype": "price-list"},
        ],
        "target": {"repository": "ecm", "folder": "In/{partner}"},
    }
    return Inbound.model_validate({**terms, **changes})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param(b"../../etc/passwd", "leads out", id="up and away"),
        pytest.param(b"..\\..\\windows\\win.ini", "leads out", id="up and away with backslashes"),
        pytest.param(b"..", "leads out", id="the folder above"),
        pytest.param(b".", "leads out", id="the folder itself"),
        pytest.param(b"/etc/passwd", "absolute", id="an absolute path"),
        pytest.param(b"C:\\temp\\a.csv", "absolute", id="a drive"),
        pytest.param(b"\\\\server\\share", "absolute", id="a share"),
        pytest.param(b"sub/inner.csv", "separator", id="a path below"),
        pytest.param(b"sub\\inner.csv", "separator", id="a path below, with a backslash"),
        pytest.param(b"a\0.csv", "NUL", id="a NUL byte"),
        pytest.param(b"a\r\nDELE b.csv", "control", id="a command behind a newline"),
        pytest.param(b"a\x1b[2J.csv", "control", id="an escape sequence"),
        pytest.param("a\u2028.csv".encode(), "control", id="a line separator"),
        pytest.param("invoice\u202efdp.exe".encode(), "direction", id="text turned around"),
        pytest.param("a\u200f.csv".encode(), "direction", id="an invisible direction mark"),
        pytest.param(b"a" * 256, "256 bytes", id="longer than a name can be"),
        pytest.param(b"", "empty", id="no name"),
    ],
)
def test_illegal_names(name: bytes, reason: str) -> None:
    assert reason in (illegal(name) or "")


@pytest.mark.parametrize(
    "name",
    [
        b"prices.csv", b"-rf", b"CON", b" leading and trailing ", b"a..b.csv", b"...", b"{{x}};$(id)%00=cmd", b"M\xfcller.csv",
        "Übersicht–2026.csv".encode(), "価格.csv".encode(), b"a" * 255,
    ],
)  # fmt: skip
def test_awkward_names_are_legal(name: bytes) -> None:
    assert illegal(name) is None


@given(st.binary(max_size=300))
def test_no_legal_name_can_leave_its_folder(name: bytes) -> None:
    if illegal(name) is None:
        assert Path("/drop", name.decode("utf-8", "surrogateescape")).parent == Path("/drop")
        assert name.decode("utf-8", "surrogateescape") not in ("", ".", "..")


@pytest.mark.parametrize(
    ("name", "rule", "codes"),
    [
        pytest.param(b"INV_1.pdf", r"INV_\d+\.pdf", [], id="as agreed"),
        pytest.param(b"INV_1.pdf.bak", r"INV_\d+\.pdf", ["naming-rule"], id="the whole name must fit, not its beginning"),
        pytest.param(b"INV_1.pdf\n", r"INV_\d+\.pdf", ["naming-rule"], id="not even a newline more"),
        pytest.param(b"invoice.pdf.exe", None, ["double-extension"], id="a program that reads as a PDF"),
        pytest.param(b"invoice.pdf   .EXE", None, ["double-extension"], id="blanks that push the ending out of sight"),
        pytest.param(b"setup.exe", None, ["runnable-name"], id="a program"),
        pytest.param(b"a.tar.gz", None, [], id="two harmless extensions"),
        pytest.param(b"M\xfcller.pdf", None, ["name-not-utf-8"], id="a note for bytes that are not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_legal_name(name: bytes, rule: str | None, codes: list[str]) -> None:
    found = list(naming(name, inbound(naming=rule)))
    assert [finding.code for finding in found] == codes
    if codes == ["naming-rule"] and rule:
        assert rule in found[0].rule


def test_the_first_rule_that_fits_decides_and_its_groups_are_facts() -> None:
    assert recognise(b"INV_7.pdf", inbound()) == "invoice"
    assert recognise(b"x.csv", inbound()) == "price-list"
    assert recognise(b"x.txt", inbound()) is None
    assert facts_of_name(r"INV_(?P<number>\d+)(?P<rest>x)?\.pdf", b"INV_7.pdf") == {"number": "7"}
    assert facts_of_name(r"(?P<all>.*)", b"\xff") == {"all": "\\xff"}


def test_the_last_extension_counts() -> None:
    assert [extension(name) for name in (b"a.PDF", b"a.pdf.exe", b"a", b".profile", b"a.")] == ["pdf", "exe", "", "", ""]


# --------------------------------------------------------------------------------------------- bytes


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        pytest.param(making.pdf("x"), "application/pdf", id="PDF"),
        pytest.param(making.png(4, 4), "image/png", id="PNG"),
        pytest.param(making.jpeg(80), "image/jpeg", id="JPEG"),
        pytest.param(b"II*\0rest", "image/tiff", id="TIFF, little end first"),
        pytest.param(b"MM\0*rest", "image/tiff", id="TIFF, big end first"),
        pytest.param(b"GIF89a...", "image/gif", id="GIF"),
        pytest.param(making.windows_program(), "application/vnd.microsoft.portable-executable", id="a Windows program"),
        pytest.param(b"\x7fELF\x02", "application/x-executable", id="a Linux program"),
        pytest.param(b"#!/bin/sh\nrm -rf /", "text/x-shellscript", id="a script"),
        pytest.param(making.archive(), "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", id="XLSX"),
        pytest.param(b"PK\x03\x04plain", "application/zip", id="ZIP"),
        pytest.param(b"\xef\xbb\xbf<?xml version='1.0'?><a/>", "application/xml", id="XML behind a mark"),
        pytest.param(b"<!DOCTYPE html><p>", "text/html", id="an HTML page instead of the file"),
        pytest.param(b"\0\0\0\x18ftypisom", "video/mp4", id="MP4"),
        pytest.param(b"\0\0\0\x14ftypqt  ", "video/quicktime", id="QuickTime"),
        pytest.param(b"sku,price\r\nA,1\n", "text/plain", id="a table"),
        pytest.param("größe,1".encode("cp1252"), "text/plain", id="a text of another encoding"),
        pytest.param("a,b".encode("utf-16"), "text/plain", id="a text of two-byte letters"),
        pytest.param(b"MZ is how this text begins, and no program does", "text/plain", id="two letters are no program"),
        pytest.param(b"a\0b", "application/octet-stream", id="bytes that do not tell"),
        pytest.param(b"", "application/x-empty", id="nothing"),
    ],
)
def test_what_bytes_are(head: bytes, media_type: str) -> None:
    assert sniff(head) == media_type


EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


@pytest.mark.parametrize(
    ("name", "content", "doctype", "codes"),
    [
        pytest.param(b"a.pdf", making.pdf("x"), "invoice", [], id="an invoice"),
        pytest.param(b"a.PDF", making.pdf("x"), "invoice", [], id="capitals in an extension are fine"),
        pytest.param(b"a.pdf", making.windows_program(), "invoice", ["program"], id="a program called PDF"),
        pytest.param(b"a.pdf", b"sku,price\n", "invoice", ["content-mismatch"], id="a table called PDF"),
        pytest.param(b"a.pdf", making.archive(), "invoice", ["content-mismatch"], id="a workbook called PDF"),
        pytest.param(b"a.pdf", making.pdf("x") + making.archive(), "invoice", ["appended-archive"], id="two files in one"),
        pytest.param(b"a.pdf", making.pdf("x")[:-40], "invoice", ["truncated"], id="a PDF without end"),
        pytest.param(
            b"a.pdf",
            making.pdf("x").replace(b"/Root", b"/Encrypt 9 0 R /Root"),
            "invoice",
            ["cannot-inspect"],
            id="an encrypted PDF",
        ),
        pytest.param(b"a.png", making.png(4, 4)[:-3], "product-image", ["truncated"], id="a PNG without end"),
        pytest.param(b"a.png", making.jpeg(80), "product-image", ["extension-mismatch"], id="a JPEG called PNG"),
        pytest.param(b"a.jpeg", making.jpeg(80), "product-image", [], id="both endings of JPEG"),
        pytest.param(b"a.csv", making.pdf("x"), "price-list", ["content-mismatch"], id="a PDF called CSV"),
        pytest.param(b"a.csv", b"a\0b", "price-list", [], id="a NUL in a table is told with its row, elsewhere"),
        pytest.param(b"a.csv", EICAR, "price-list", ["malware-test-file"], id="what scanners must report"),
        pytest.param(b"a.mp4", b"\0\0\0\x18ftypisom", "video", [], id="a video"),
        pytest.param(b"a.mp4", b"RIFFxxxxAVI ", "video", ["content-mismatch"], id="another kind of video"),
    ],
)
def test_content_against_name_and_type(name: bytes, content: bytes, doctype: str, codes: list[str]) -> None:
    found = inspect(name, sniff(content[:4096]), content[:4096], content[-4096:], find(doctype))
    assert [finding.code for finding in found] == codes


@given(st.binary(max_size=200), st.sampled_from(sorted(known())))
def test_any_bytes_are_looked_at_without_an_error(content: bytes, slug: str) -> None:
    media_type = sniff(content)
    findings = list(inspect(b"a.bin", media_type, content, content, find(slug)))
    assert bool(findings) or not content, "a .bin is nothing of ours"
    assert suits(media_type, find(slug)) or media_type not in find(slug).media_types


def test_the_rules_and_types_load_nothing_heavy() -> None:
    code = (
        "import sys, tasks.rules.judge, tasks.rules.tabular, tasks.rules.structure, tasks.rules.settle, tasks.rules.grouping\n"
        "from tasks.doctypes import known; known()\n"
        "print(sorted({'prefect', 'pandas', 'pandera', 'numpy'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == "[]"
