"""YAML that means harm, or is merely surprising."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path

import pytest

from blocks import reviewed
from blocks.errors import ConfigurationError

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


def read(tmp_path: Path, text: str | bytes) -> reviewed.Source:
    path = tmp_path / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return reviewed.read(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(LAUGHS, "anchors expand to more than", id="an anchor bomb"),
        pytest.param("[\n" + "a," * 100_000 + "]", "line 2: more than 20000 values", id="many values in one line"),
        pytest.param("a: &a [*a]", "contains itself", id="an anchor inside itself"),
        pytest.param("a: &a {b: {c: *a}}", "contains itself", id="an anchor deeper inside itself"),
        pytest.param("[" * 100_000, "nested more than", id="deep nesting in one line"),
        pytest.param("\n".join(" " * n + "a:" for n in range(300)), "nested more than", id="deep nesting by indent"),
        pytest.param("a: !!python/object/apply:os.system ['true']", "line 1: the tag", id="a tag that runs code"),
        pytest.param("a:\n  b: !include /etc/passwd", "line 2: the tag !include is not allowed", id="a tag that reads files"),
        pytest.param("a: !!str 1", "the tag", id="even a harmless tag"),
        pytest.param("a: 1\nb: 2\na: 3", "line 3: a.again: 'a' stands here twice (first in line 1)", id="a key twice"),
        pytest.param("x:\n  a: 1\n  'a': 2", "line 3", id="a key twice, spelled otherwise"),
        pytest.param("d: &d {a: 1}\nx:\n  <<: *d", "line 3: a key must be a plain word", id="a merge key"),
        pytest.param("? [a, b]\n: 1", "a key must be a plain word", id="a list as a key"),
        pytest.param("a: 1\n---\nb: 2", "line 2", id="a second document"),
        pytest.param("a: *nowhere", "undefined alias", id="an alias to nothing"),
        pytest.param("a: [1, 2", "line 1", id="a list without an end"),
        pytest.param("a:\n\tb: 1", "line 2", id="a tab"),
        pytest.param(b"a: \xff\xfe", "not UTF-8", id="bytes that are no text"),
        pytest.param("a: '\x00'", "not YAML", id="a NUL"),
        pytest.param("a: \x1b[2J", "not YAML", id="an escape sequence"),
        pytest.param("#" * 300_000, "larger than 256 KiB", id="a file too large"),
    ],
)
def test_refused_with_a_reason(tmp_path: Path, text: str | bytes, told: str) -> None:
    began = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(ConfigurationError) as caught:
            read(tmp_path, text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert told in str(caught.value)
    assert "\x1b" not in str(caught.value) and "\x00" not in str(caught.value)
    assert time.monotonic() - began < 60 and peak < 100 * 1024**2


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        pytest.param("no", "no", id="Norway is a country"),
        pytest.param("on", "on", id="on is a word"),
        pytest.param("12:30", "12:30", id="a time is not a number to base 60"),
        pytest.param("2026-11-20", "2026-11-20", id="a date stays as written"),
        pytest.param("1_000", "1_000", id="underscores are no digits"),
        pytest.param("0x1F", "0x1F", id="no hexadecimal numbers"),
        pytest.param("9" * 40, "9" * 40, id="an account number is not rounded"),
        pytest.param("010", 10, id="leading zeros are not octal"),
        pytest.param("'010'", "010", id="quoted is text"),
        pytest.param("1.5", 1.5, id="a fraction"),
        pytest.param("-3", -3, id="a negative number"),
        pytest.param("true", True, id="true"),
        pytest.param("~", None, id="nothing"),
        pytest.param("", None, id="nothing written"),
        pytest.param("|\n  a\n  b", "a\nb", id="a block of text"),
        pytest.param(".inf", ".inf", id="no infinity"),
    ],
)
def test_plain_words_mean_what_their_writer_meant(tmp_path: Path, written: str, meant: object) -> None:
    content = read(tmp_path, f"a: {written}").content["a"]
    assert content == meant and type(content) is type(meant)


def test_an_anchor_that_is_used_twice_is_fine(tmp_path: Path) -> None:
    source = read(tmp_path, "a: &name text\nb: *name\nc: [*name]\n")
    assert source.content == {"a": "text", "b": "text", "c": ["text"]}
    assert source.line(("b",)) == 2


def test_of_a_file_with_too_many_values_nothing_stays_in_memory(tmp_path: Path) -> None:
    reviewed._composed.cache_clear()
    with pytest.raises(ConfigurationError, match="more than 20000 values"):
        read(tmp_path, "[" + "a," * 100_000 + "]")
    assert reviewed._composed.cache_info().currsize == 0


def test_a_key_is_no_value_and_an_anchor_is_one_wherever_it_is_used(tmp_path: Path) -> None:
    pairs = ", ".join(f"k{n}: *one" for n in range(reviewed.MOST_VALUES // 2 + 1))
    assert len(read(tmp_path, f"{{one: &one 1, {pairs}}}").content) == reviewed.MOST_VALUES // 2 + 2


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        reviewed.read(tmp_path / "none.yaml")


def test_a_file_is_read_anew_each_time_and_no_two_readers_share_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("a: [1]")
    before, first = path.stat(), reviewed.read(path)
    first.content["a"].append(2)
    assert reviewed.read(path).content == {"a": [1]}
    path.write_text("a: [3]")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert reviewed.read(path).content == {"a": [3]}, "changed within its size and its second"
