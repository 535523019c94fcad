"""A bundle of evidence: it holds what proves a journey, nothing secret, and whatever is changed in it is named."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from typer.testing import CliRunner, Result

from blocks.bundle import BundleWriter, open_bundle
from blocks.canonical import canonical, sha256
from blocks.chain import Link
from blocks.errors import BundleBroken, ConfigurationError
from blocks.ledger import Checkpoint, Entry
from blocks.seals import SealKey
from blocks.settings import settings
from deployments.cli import app
from tasks.checkpoint import seal
from tasks.rules import bundle_page
from tasks.rules.bundle import EXPORT, MANIFEST, PAGE, Manifest, Step, Story, extract_name
from tasks.rules.certificate import Claim
from tasks.verify_evidence import verify_evidence
from tests.tasks.dock import Dock, dock_at, price_list

EVIL = "<script>alert(1)<script>.csv"


def countersign(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def nobody(claim: Claim) -> bool:
    raise AssertionError("there are no signatures here")


@pytest.fixture(scope="module")
def dock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dock]:
    """Two files that were filed, and one that was refused, under a name that would be markup."""
    with dock_at(tmp_path_factory.mktemp("evidence") / "home") as made:
        made.leave("a.csv", price_list(2))
        made.leave("b.csv", price_list(3))
        made.run()
        made.leave(EVIL, b"no,price,list\n")
        made.run()
        yield made


@pytest.fixture(scope="module")
def whole(dock: Dock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that nobody has touched."""
    to = tmp_path_factory.mktemp("bundles") / "whole"
    told = countersign("evidence", "export", "--partner", "acme", "--with-bytes", "--to", to)
    assert told.exit_code == 0, told.output + told.stderr
    assert "journeys: 3, " in told.output and "documents: 3;" in told.output
    return to


@pytest.fixture
def bundle(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


def key() -> SealKey:
    return SealKey.open(settings().keys / "seal.pem")


def test_all_who_seal_at_once_have_their_entries_sealed(tmp_path: Path) -> None:
    with dock_at(tmp_path / "home") as dock:
        key()

        def sealed(number: int) -> int:
            [written] = dock.ledger.append([Entry(f"evidence.{number}", "exporting")])
            ready.wait(timeout=600)
            seal()
            return written.seq

        ready = Barrier(6)
        with ThreadPoolExecutor(6) as several:
            numbers = list(several.map(sealed, range(6)))
        assert dock.ledger.checkpoints()[-1].facts["last"] == max(numbers)
        assert dock.ledger.verify(keys={key().id: key().public}).sealed == 6


def failed(bundle: Path) -> dict[str, str]:
    """What the verifier names: member -> why."""
    found = list(verify_evidence(bundle, {key().id: key().public}, nobody))
    assert found, "there is always something that was looked at"
    return {check.name: check.words for check in found if not check.passed}


def members(bundle: Path) -> list[str]:
    return sorted(path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file())


def extracts(bundle: Path) -> list[Path]:
    return sorted((bundle / "journeys").iterdir())


def manifest_anew(bundle: Path, **changes: object) -> None:
    """What somebody does who changes a member and knows how manifests are made."""
    old = Manifest.parse((bundle / MANIFEST).read_text())
    there = {
        name: (hashlib.sha256((bundle / name).read_bytes()).hexdigest(), (bundle / name).stat().st_size)
        for name in members(bundle)
        if name != MANIFEST
    }
    told = {"journeys": old.journeys, "checkpoints": old.checkpoints, "page": old.page, "members": there, **changes}
    (bundle / MANIFEST).write_text(Manifest(**told).text)  # type: ignore[arg-type]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def test_it_holds_what_proves_each_journey_and_verifies_offline(whole: Path, dock: Dock) -> None:
    public = base64.b64encode(key().public).decode()
    told = countersign("evidence", "verify", whole, "--key", public)
    assert told.exit_code == 0 and "whole:" in told.output, told.output
    assert {name.partition("/")[0] for name in members(whole)} == {
        "checkpoints", "documents", "journeys", EXPORT, PAGE, MANIFEST,
    }  # fmt: skip
    for name in ("a.csv", "b.csv", EVIL):
        (journey,) = dock.journeys(name)
        lines = (whole / "journeys" / f"{journey}.jsonl").read_text().splitlines()
        assert [json.loads(json.loads(line)["record"])["kind"] for line in lines] == dock.kinds(name)
    contents = {path.read_bytes() for path in (whole / "documents").iterdir()}
    assert contents == {price_list(2), price_list(3), b"no,price,list\n"}
    page = (whole / PAGE).read_text()
    assert "&lt;script&gt;alert(1)" in page and "<script" not in page
    for fact in ("a.csv", "quarantined", str(dock.home / "kept"), str(dock.codes()[0])):
        assert fact in page, fact
    other = countersign("evidence", "verify", whole, "--key", base64.b64encode(bytes(32)).decode())
    assert other.exit_code == 1 and "none of those given" in other.output


def test_the_key_that_verifies_it_is_printed_also_without_a_sender(whole: Path, tmp_path: Path) -> None:
    told = countersign("evidence", "key")
    assert told.exit_code == 0 and "there is no sender" in told.stderr, told.output
    assert countersign("evidence", "verify", whole, "--key", told.stdout.strip()).exit_code == 0
    with dock_at(tmp_path / "nothing sealed"):
        none = countersign("evidence", "key")
        assert none.exit_code and "nothing was sealed here yet" in none.output


def test_one_edited_byte_of_any_member_is_named(bundle: Path) -> None:
    for name in members(bundle):
        path = bundle / name
        for at in {0, path.stat().st_size // 2, path.stat().st_size - 1}:
            flip(path, at)
            assert name in failed(bundle), (name, at)
            flip(path, at)
    assert failed(bundle) == {}


def test_one_edited_byte_is_named_though_the_manifest_was_made_anew(bundle: Path, whole: Path) -> None:
    for name in members(bundle):
        path = bundle / name
        if name == MANIFEST:
            continue
        for at in {0, path.stat().st_size // 2, path.stat().st_size - 1}:
            flip(path, at)
            manifest_anew(bundle)
            assert name in failed(bundle), (name, at)
            flip(path, at)
        shutil.copyfile(whole / MANIFEST, bundle / MANIFEST)
    assert failed(bundle) == {}


def _cut(bundle: Path) -> str:
    """The last entry of a journey, as if it had never been."""
    path = extracts(bundle)[0]
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    return EXPORT


def _reorder(bundle: Path) -> str:
    path = extracts(bundle)[0]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    return f"journeys/{path.name}"


def _rewrite(bundle: Path) -> str:
    """An entry that says something else, with hashes that fit: only the seal knows."""
    path = extracts(bundle)[0]
    lines, before = [], None
    for line in path.read_text().splitlines():
        told = json.loads(line)
        facts = json.loads(told["record"]) | {"previous": before}
        facts["body"] |= {"size": 1} if facts["n"] == 1 else {}
        record = canonical(facts)
        before = hashlib.sha256(record.encode()).hexdigest()
        lines.append(canonical(told | {"record": record, "hash": before}) + "\n")
    path.write_text("".join(lines))
    return "seals"


def _swap_journeys(bundle: Path) -> str:
    one, other = extracts(bundle)[:2]
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    return f"journeys/{one.name}"


def _swap_documents(bundle: Path) -> str:
    one, other = sorted((bundle / "documents").iterdir())[:2]
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    return f"documents/{one.name}"


def _remove_journey(bundle: Path) -> str:
    path = extracts(bundle)[0]
    path.unlink()
    return f"journeys/{path.name}"


def _add_document(bundle: Path) -> str:
    content = b"never seen"
    path = bundle / "documents" / hashlib.sha256(content).hexdigest()
    path.write_bytes(content)
    return f"documents/{path.name}"


def _remove_seal(bundle: Path) -> str:
    path = sorted((bundle / "checkpoints").iterdir())[-1]
    path.unlink()
    return f"checkpoints/{path.name}"


def _shorten_hashes(bundle: Path) -> str:
    path = sorted((bundle / "checkpoints").glob("*.hashes"))[-1]
    path.write_bytes(path.read_bytes()[:-65])
    return f"checkpoints/{path.name}"


def _other_page(bundle: Path) -> str:
    path = bundle / PAGE
    path.write_text(path.read_text().replace("a.csv", "c.csv"))
    return PAGE


CHANGES: list[Callable[[Path], str]] = [
    _cut, _reorder, _rewrite, _swap_journeys, _swap_documents, _remove_journey, _add_document, _remove_seal, _shorten_hashes,
    _other_page,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
@pytest.mark.parametrize("anew", [False, True], ids=["", "manifest-anew"])
def test_what_was_done_to_it_is_named(bundle: Path, change: Callable[[Path], str], anew: bool) -> None:
    before = set(members(bundle))
    named = change(bundle)
    changed = before ^ set(members(bundle)) or {named}
    if anew:
        manifest_anew(bundle)
        assert named in failed(bundle), failed(bundle)
    else:
        assert changed & failed(bundle).keys() or change in (_cut, _rewrite), failed(bundle)
        assert failed(bundle)


def test_a_journey_left_out_of_everything_is_missed(bundle: Path) -> None:
    """Also out of the manifest: the export's own sealed entry says how many there were."""
    path = extracts(bundle)[0]
    path.unlink()
    manifest_anew(bundle, journeys=tuple(one.stem for one in extracts(bundle)))
    assert EXPORT in failed(bundle)


def page_anew(bundle: Path) -> None:
    """The page that the entries call for with the documents that are there."""
    journeys = Manifest.parse((bundle / MANIFEST).read_text()).journeys
    here = {path.name for path in (bundle / "documents").iterdir()}

    def story(name: str) -> Story:
        links = [Link.parse(line) for line in (bundle / name).read_text().splitlines()]
        return Story(links[0].journey, [Step.parse(link.facts, link.hash, link.seq) for link in links])

    sections = [bundle_page.section(story(extract_name(id)), here) for id in journeys]
    (bundle / PAGE).write_text(bundle_page.begin(story(EXPORT), len(here)) + "".join(sections) + bundle_page.END)


def test_a_document_left_out_of_everything_is_missed(bundle: Path) -> None:
    """Also out of page and manifest: the export's own sealed entry says that bytes were wanted, and which could not be had."""
    page = (bundle / PAGE).read_text()
    page_anew(bundle)
    assert (bundle / PAGE).read_text() == page
    path = sorted((bundle / "documents").iterdir())[0]
    path.unlink()
    page_anew(bundle)
    manifest_anew(bundle)
    assert set(failed(bundle)) == {f"documents/{path.name}"}


def test_a_page_of_another_version_is_not_taken_for_ours(bundle: Path) -> None:
    (bundle / PAGE).write_text("anything")
    manifest_anew(bundle, page=bundle_page.VERSION + 1)
    assert "another version" in failed(bundle)[PAGE]


def test_no_control_character_of_a_bundle_reaches_a_terminal(bundle: Path) -> None:
    """Asked as a terminal is told: ``CliRunner`` itself takes escape sequences away."""
    path = extracts(bundle)[0]
    lines = path.read_text().splitlines()
    told = json.loads(lines[1])
    record = canonical(json.loads(told["record"]) | {"journey": "\x1b[2Jwhole: 9 checks passed", "n": 7})
    lines[1] = canonical(told | {"record": record})
    path.write_text("".join(f"{line}\n" for line in lines))
    manifest_anew(bundle)
    found = list(verify_evidence(bundle, {key().id: key().public}, nobody))
    assert any("\\u001b[2Jwhole" in check.told or "\\x1b[2Jwhole" in check.told for check in found)
    assert all(check.told.isprintable() for check in found)
    manifest_anew(bundle, page="\x1b[2Jwhole: 9 checks passed")
    assert failed(bundle) == {MANIFEST: "it was changed: it is not as it was written"}


def test_a_verifier_needs_nothing_of_prefect(whole: Path) -> None:
    words = ["evidence", "verify", str(whole), "--key", base64.b64encode(key().public).decode()]
    code = f"""
import sys
from deployments.cli import app
try:
    app({words!r})
except SystemExit as end:
    print(end.code, "prefect" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.splitlines()[-1] == "0 False", done.stdout


@pytest.mark.parametrize(
    "line", [b"{}", b"[" * 100_000, b"\xff", b'{"seq":1,"record":"{}","hash":"x"}', b"", b"null", b"1e999"]
)
def test_an_extract_that_is_none_is_told(bundle: Path, line: bytes) -> None:
    path = extracts(bundle)[0]
    path.write_bytes(line + b"\n")
    manifest_anew(bundle)
    assert f"journeys/{path.name}" in failed(bundle)
    (bundle / MANIFEST).write_bytes(line)
    assert MANIFEST in failed(bundle)


# --------------------------------------------------------------------------------------------- as one file


def zipped(bundle: Path, to: Path) -> Path:
    with zipfile.ZipFile(to, "w") as made:
        for name in members(bundle):
            made.write(bundle / name, name)
    return to


def test_one_zip_holds_the_same(dock: Dock, whole: Path, tmp_path: Path) -> None:
    to = tmp_path / "evidence.zip"
    (journey,) = dock.journeys("a.csv")
    assert countersign("evidence", "export", journey, "--to", to).exit_code == 0
    assert failed(to) == {} and to.stat().st_mode & 0o077 == 0
    with zipfile.ZipFile(to) as made:
        assert f"journeys/{journey}.jsonl" in made.namelist() and not [n for n in made.namelist() if n.startswith("documents")]
    taken = countersign("evidence", "export", journey, "--to", to)
    assert taken.exit_code == 2 and "nothing is overwritten" in taken.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["evidence.zip"], "nothing unfinished is left"
    assert failed(zipped(whole, tmp_path / "packed-by-hand.zip")) == {}


def test_a_byte_in_a_zip_is_named(whole: Path, tmp_path: Path) -> None:
    path = zipped(whole, tmp_path / "evidence.zip")
    with zipfile.ZipFile(path) as made:
        places = {about.filename: about.header_offset + 30 + len(about.filename) for about in made.infolist()}
    for name, at in places.items():
        flip(path, at)
        words = failed(path)
        assert name in words, (name, words)
        flip(path, at)
    assert failed(path) == {}


def test_a_zip_that_was_cut_off_is_told(whole: Path, tmp_path: Path) -> None:
    content = zipped(whole, tmp_path / "evidence.zip").read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.zip").write_bytes(content[:length])
        assert "bundle" in failed(tmp_path / "cut.zip"), length


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../b", "a\\b", ".hidden", "a//b", "con\n", "a/b/c/d/e/f", ""])
def test_a_name_that_no_bundle_has_is_told_and_nothing_is_written(whole: Path, tmp_path: Path, name: str) -> None:
    path = zipped(whole, tmp_path / "evidence.zip")
    with zipfile.ZipFile(path, "a") as made:
        made.writestr(zipfile.ZipInfo(name or "x"), b"x")
        if not name:
            made.filelist[-1].orig_filename = made.filelist[-1].filename = ""
    assert len(failed(path)) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["evidence.zip"]


def test_a_bomb_is_not_unpacked(whole: Path, tmp_path: Path) -> None:
    path = zipped(whole, tmp_path / "evidence.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as made, made.open("documents/bomb", "w", force_zip64=True) as bomb:
        for _ in range(64):
            bomb.write(bytes(1024**2))
    assert "compressed" in failed(path)["documents/bomb"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_told(whole: Path, tmp_path: Path) -> None:
    path = zipped(whole, tmp_path / "evidence.zip")
    with zipfile.ZipFile(path, "a") as made:
        made.writestr(PAGE, b"another page")
    assert "twice" in failed(path)[PAGE]


def lone(name: str, content: bytes) -> bytes:
    """A member as it stands in a zip, without any directory."""
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as made:
            made.writestr(name, content)
        return file.getvalue()[: file.getvalue().rfind(b"PK\1\2")]


def test_a_zip_holds_nothing_that_another_program_could_find_in_it(whole: Path, tmp_path: Path) -> None:
    raw = zipped(whole, tmp_path / "evidence.zip").read_bytes()
    end = raw.rfind(b"PK\5\6")
    (start,) = struct.unpack("<I", raw[end + 16 : end + 20])
    other, path = lone(PAGE, b"another page"), tmp_path / "forged.zip"
    behind = struct.pack("<I", start + len(other))
    forged = {
        "before": other + raw,
        "between": raw[:start] + other + raw[start : end + 16] + behind + raw[end + 20 :],
        "before the end": raw[:end] + other + raw[end:],
        "behind": raw + other,
        "comment": raw[: end + 20] + struct.pack("<H", 4) + b"more",
        "fewer": raw[: end + 8] + struct.pack("<HH", 1, 1) + raw[end + 12 :],
        "its own name": raw.replace(PAGE.encode(), b"index.htmX", 1),
    }
    for how, content in forged.items():
        path.write_bytes(content)
        assert failed(path), how
    path.unlink()
    unicode_path = struct.pack("<BI", 1, zlib.crc32(MANIFEST.encode())) + PAGE.encode()
    for extra in (struct.pack("<HH", 0x7075, len(unicode_path)) + unicode_path, struct.pack("<HH4s", 0x5455, 4, b"time")):
        with zipfile.ZipFile(path, "w") as made:
            for name in members(whole):
                about = zipfile.ZipInfo(name)
                about.extra = extra if name == MANIFEST else b""
                made.writestr(about, (whole / name).read_bytes())
        assert "another name" in failed(path)[MANIFEST]
        path.unlink()


def test_a_bundle_with_the_long_form_of_a_zip_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The long form is written from 65,536 files on; the library's own limit makes it with three.
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    with BundleWriter(tmp_path / "one.zip") as writer:
        for name in ("a", "b", "c"):
            writer.text(name, [name])
    with open_bundle(tmp_path / "one.zip") as bundle:
        assert bundle.sizes == dict.fromkeys("abc", 1)
    raw = (tmp_path / "one.zip").read_bytes()
    (tmp_path / "one.zip").write_bytes(raw.replace(b"PK\6\7\0", b"PK\6\7\1"))
    with pytest.raises(BundleBroken), open_bundle(tmp_path / "one.zip"):
        pass


def test_links_are_not_followed(bundle: Path, tmp_path: Path) -> None:
    (bundle / PAGE).unlink()
    (bundle / PAGE).symlink_to(tmp_path / "elsewhere")
    assert "no plain file" in failed(bundle)[PAGE]


# --------------------------------------------------------------------------------------------- exporting


def test_bytes_that_nobody_has_are_named_and_all_else_is_there(tmp_path: Path) -> None:
    with dock_at(tmp_path / "home") as dock:
        dock.leave("a.csv", price_list(2))
        dock.run()
        digest = hashlib.sha256(price_list(2)).hexdigest()
        shutil.rmtree(dock.home / "kept")
        (dock.home / "kept").mkdir()
        from tasks.connections import spool

        spool().path(digest).unlink()
        told = countersign("evidence", "export", *dock.journeys("a.csv"), "--with-bytes", "--to", tmp_path / "bundle")
        assert told.exit_code == 1 and digest in told.stderr, told.output
        assert failed(tmp_path / "bundle") == {}
        none = countersign("evidence", "export", "nothing", "--to", tmp_path / "none")
        assert none.exit_code == 1 and not (tmp_path / "none").exists()


def test_an_export_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    for name in ("folder", "one.zip"):
        with pytest.raises(ZeroDivisionError), BundleWriter(tmp_path / name) as bundle:
            bundle.text("index.html", ["half"])
            raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigurationError):
        BundleWriter(tmp_path / "no" / "folder")


# --------------------------------------------------------------------------------------------- the line of seals


def resealed(bundle: Path, **changes: object) -> str:
    """The newest seal, made anew by somebody who has the sender's key sign it; its name."""
    path = sorted((bundle / "checkpoints").glob("*.json"))[-1]
    told = Checkpoint.parse(path.read_text())
    record = canonical({**told.facts, **changes})
    path.write_text(Checkpoint(told.number, record, sha256(record), key().sign(record.encode())).text)
    manifest_anew(bundle)
    return f"checkpoints/{path.name}"


def test_seals_must_be_those_that_were_filed(bundle: Path, whole: Path, tmp_path: Path) -> None:
    public = base64.b64encode(key().public).decode()
    kept = sorted((whole / "checkpoints").glob("*.json"))[-1]
    good = countersign("evidence", "verify", bundle, "--key", public, "--filed", kept)
    assert good.exit_code == 0, good.output
    name = resealed(bundle, previous="f" * 64)
    assert failed(bundle) == {}, "by itself the bundle cannot tell"
    told = countersign("evidence", "verify", bundle, "--key", public, "--filed", kept)
    assert told.exit_code == 1 and f"FAIL  {name}: it is not the one that was filed" in told.output, told.output
    record = canonical({**Checkpoint.parse(kept.read_text()).facts, "number": 77})
    far = tmp_path / "far.json"
    far.write_text(Checkpoint(77, record, sha256(record), key().sign(record.encode())).text)
    told = countersign("evidence", "verify", whole, "--key", public, "--filed", far)
    assert told.exit_code == 1 and "next to none in the bundle" in told.output, "it says nothing about this one"
    far.write_text(Checkpoint(77, record, sha256(record), bytes(64)).text)
    assert countersign("evidence", "verify", whole, "--key", public, "--filed", far).exit_code == 2


def test_seals_that_do_not_follow_each_other_are_named(tmp_path: Path) -> None:
    with dock_at(tmp_path / "home") as dock:
        for name, rows in (("a.csv", 2), ("b.csv", 3)):
            dock.leave(name, price_list(rows))
            dock.run()
            seal()
        bundle = tmp_path / "bundle"
        assert countersign("evidence", "export", "--partner", "acme", "--to", bundle).exit_code == 0
        assert failed(bundle) == {}
        assert len(list((bundle / "checkpoints").glob("*.json"))) == 3
        name = resealed(bundle, previous="f" * 64)
        assert "does not follow checkpoint 2" in failed(bundle)[name]
