"""Previews of documents that may do what they like to whoever reads them: a small picture, or an honest word, and never more."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tasks.previews import CHILD, picture_of
from tasks.rules.preview import Preview, first_rows, page
from tests.rules.signoff.test_dialog import EVIL, assert_harmless
from tests.rules.signoff.world import document, package
from tests.samples.pages import pdf

JPEG = b"\xff\xd8\xff"


def image(form: str, size: tuple[int, int] = (40, 20)) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(written, form)
    return written.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of some kilobytes that unpacks to a square of this side; of a very large one, not all rows are there."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(bytes(side // 8 + 1) * min(side, 10_000))
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture
def kept(tmp_path: Path) -> Callable[[bytes], Path]:
    def keep(content: bytes) -> Path:
        (tmp_path / "document").write_bytes(content)
        return tmp_path / "document"

    return keep


@pytest.mark.parametrize(
    ("content", "media_type", "size"),
    [
        pytest.param(pdf(b"1 0 0 rg 10 10 50 50 re f"), "application/pdf", (640, 320), id="the first page of a PDF"),
        pytest.param(image("PNG", (2000, 1000)), "image/png", (640, 320), id="an image, made small"),
        pytest.param(image("TIFF"), "image/tiff", (40, 20), id="a small one stays as it is"),
    ],
)
def test_a_picture(kept: Callable[[bytes], Path], content: bytes, media_type: str, size: tuple[int, int]) -> None:
    picture = picture_of(kept(content), media_type)
    assert isinstance(picture, bytes), picture
    with Image.open(io.BytesIO(picture)) as made:
        assert made.format == "JPEG" and made.size == size
        red = made.resize((1, 1)).getpixel((0, 0)) if media_type != "application/pdf" else made.getpixel((100, 200))
    assert isinstance(red, tuple) and red[0] > 150 and red[1] < 80


@pytest.mark.parametrize(("mode", "form", "packed"), [("I;16", "PNG", "<H"), ("I", "TIFF", "<i"), ("F", "TIFF", "<f")])
def test_a_grey_picture_of_more_than_eight_bits_is_grey(
    kept: Callable[[bytes], Path], mode: str, form: str, packed: str
) -> None:
    line = b"".join(struct.pack(packed, grey) * 1000 for grey in (0, 32768, 65535))
    written = io.BytesIO()
    Image.frombytes(mode, (3000, 100), line * 100).save(written, form)
    picture = picture_of(kept(written.getvalue()), "image/" + form.lower())
    assert isinstance(picture, bytes), picture
    with Image.open(io.BytesIO(picture)) as made:
        thirds = [made.convert("L").getpixel((x, 10)) for x in (100, 320, 540)]
    assert thirds == pytest.approx([0, 128, 255], abs=8)


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        pytest.param(bomb(10_000), "image/png", id="a decompression bomb that would fit into the memory"),
        pytest.param(bomb(100_000), "image/png", id="a decompression bomb that would not"),
        pytest.param(image("PNG")[:60], "image/png", id="cut"),
        pytest.param(b"%PDF-1.4 nothing more", "application/pdf", id="no PDF"),
        pytest.param(pdf(b"", "0 0 0 0")[:-30], "application/pdf", id="broken"),
        pytest.param(image("BMP"), "image/png", id="a kind that is not among those we read"),
    ],
)
def test_what_cannot_be_drawn_is_said_to_be_so(kept: Callable[[bytes], Path], content: bytes, media_type: str) -> None:
    told = picture_of(kept(content), media_type)
    assert told == "no preview: it is encrypted, broken, too large, or made to break what reads it"


def child(source: str, tmp_path: Path) -> Path:
    """In place of the child: it takes the same limits upon itself, and then does this."""
    script = tmp_path / "child.py"
    lines = f"import importlib.util, sys\nspec = importlib.util.spec_from_file_location('child', {str(CHILD)!r})\n"
    lines += "child = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(child)\nchild.limit()\n"
    script.write_text(lines + textwrap.dedent(source))
    return script


def test_the_child_has_no_environment_and_is_held_to_its_limits(
    kept: Callable[[bytes], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECM_PASSWORD", "secret")
    source = """
        import json, os, resource
        names = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_NPROC")
        limits = {name: resource.getrlimit(getattr(resource, name)) for name in names}
        told = {"environment": dict(os.environ), "limits": limits, "open": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
                "cwd": os.listdir(".")}
        sys.stdout.buffer.write(b"\\xff\\xd8\\xff" + json.dumps(told).encode())
    """
    script = child(source, tmp_path)
    read, write = os.pipe()
    os.set_inheritable(write, True)
    told = picture_of(kept(b"x"), "image/png", child=script)
    os.close(read)
    os.close(write)
    assert isinstance(told, bytes), told
    found = json.loads(told[len(JPEG) :])
    assert set(found["environment"]) <= {"LC_CTYPE"}, "Python's own"
    assert found["open"] == [0, 1, 2] and found["cwd"] == []
    assert all(soft == hard != resource.RLIM_INFINITY for soft, hard in found["limits"].values())
    assert found["limits"]["RLIMIT_CORE"] == [0, 0] and found["limits"]["RLIMIT_AS"][0] <= 1024**3


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("bytearray(1 << 31)", id="memory"),
        pytest.param("open('f', 'wb').write(bytes(1 << 20))", id="disk"),
        pytest.param("sys.stdout.buffer.write(b'\\xff\\xd8\\xff' + bytes(1 << 20))", id="an answer without an end"),
        pytest.param("kept = [open('/dev/null') for _ in range(1000)]", id="files"),
        pytest.param("sys.stdout.buffer.write(b'<svg onload=alert(1)>')", id="an answer that is no picture"),
    ],
)
def test_a_child_that_wants_too_much_ends_without_a_picture(source: str, kept: Callable[[bytes], Path], tmp_path: Path) -> None:
    script = child(f"{source}\nsys.stdout.buffer.write(b'\\xff\\xd8\\xff')" if "stdout" not in source else source, tmp_path)
    assert isinstance(picture_of(kept(b"x"), "image/png", child=script), str)


def test_a_child_that_never_ends_is_killed(kept: Callable[[bytes], Path], tmp_path: Path) -> None:
    script = child("import time\ntime.sleep(3600)", tmp_path)
    told = picture_of(kept(b"x"), "image/png", child=script, patience_seconds=1.0)
    assert told == "no preview: making it took too long"


def test_a_page_that_is_drawn_without_an_end_stops_at_the_limit_of_its_processor_time(tmp_path: Path) -> None:
    """A thousand fills, each with a formula of a hundred steps for every point: little memory, and hours of work."""
    formula = b"{add " + b"sin cos " * 50 + b"}"
    shading = (
        b"5 0 obj<</ShadingType 1/ColorSpace/DeviceGray/Domain[0 1 0 1]/Matrix[200 0 0 100 0 0]/Function 6 0 R>>endobj\n"
        b"6 0 obj<</FunctionType 4/Domain[0 1 0 1]/Range[0 1]/Length %d>>stream\n%s\nendstream endobj\n"
    ) % (len(formula), formula)
    whole = pdf(b"/S sh " * 1000).replace(b"/Contents 4 0 R", b"/Contents 4 0 R/Resources<</Shading<</S 5 0 R>>>>")
    whole = whole.replace(b"trailer", shading + b"trailer")
    lower = re.sub(r"(?m)^CPU_SECONDS = \d+$", "CPU_SECONDS = 5", CHILD.read_text())
    assert lower != CHILD.read_text()
    (tmp_path / "child.py").write_text(lower)

    def drawn(content: bytes) -> subprocess.CompletedProcess[bytes]:
        (tmp_path / "document.pdf").write_bytes(content)
        with (tmp_path / "document.pdf").open("rb") as document:
            return subprocess.run(
                [sys.executable, "-I", "-B", str(tmp_path / "child.py"), "application/pdf"],
                stdin=document,
                capture_output=True,
                timeout=300,
            )

    assert drawn(pdf(b"1 0 0 rg 10 10 50 50 re f")).stdout.startswith(JPEG), "the limit leaves time for a page that has an end"
    done = drawn(whole)
    assert done.returncode in (-signal.SIGXCPU, -signal.SIGKILL) and not done.stdout, done


# --------------------------------------------------------------------------------------------- the page


def test_first_rows_of_a_table() -> None:
    text = "\n".join(f"A{n},{n}.50" for n in range(1000)).encode()
    assert first_rows(text, "utf-8", ",", whole=True)[:2] == (("A0", "0.50"), ("A1", "1.50"))
    assert len(first_rows(text, "utf-8", ",", whole=True)) == 11
    assert first_rows(b"a,b\nc,d\ne", "utf-8", ",", whole=False) == (("a", "b"), ("c", "d")), "a row that was cut is not shown"
    assert first_rows(b"a,b\rc,d\re", "utf-8", ",", whole=False) == (("a", "b"), ("c", "d")), "lines may end as on old Macs"
    assert first_rows(b"x;" * 100, "utf-8", ";", whole=True)[0][-1] == "…"
    assert first_rows(b"\xff\xfe", "utf-8", ",", whole=True) == (("\ufffd\ufffd",),)


@pytest.mark.parametrize("text", EVIL)
def test_the_page_shows_every_text_literally(text: str) -> None:
    made = page(package(), [Preview(text, rows=((text, "b"), (text,))), Preview(text, note=text)])
    assert_harmless(made)
    assert "Of the other 1 documents there is no preview." in made


def test_a_picture_is_a_data_uri_of_what_we_encoded() -> None:
    made = page(package(document("a.pdf")), [Preview("a.pdf", jpeg=JPEG + b"](http://evil.example)")])
    assert "![](data:image/jpeg;base64,/9j/XShodHRwOi8vZXZpbC5leGFtcGxlKQ==)" in made and "evil" not in made
