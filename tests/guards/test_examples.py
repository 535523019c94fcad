"""The examples of the notes for integrators are what the product reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from blocks import reviewed
from blocks.system_file import SystemFile
from blocks.values import Onward
from blocks.watch_file import WatchFile

NOTES = (Path(__file__).parents[2] / "docs/integrators.md").read_text(encoding="utf-8")
PARTS = {name: TypeAdapter[Any](field.annotation or Any) for name, field in SystemFile.model_fields.items() if name != "system"}
BEGIN = ("watch:", "streams:", "system:", *(f"{name}:" for name in PARTS))
EXAMPLES = [one for one in re.findall(r"^```\w*\n(.*?)^```$", NOTES, re.MULTILINE | re.DOTALL) if one.startswith(BEGIN)]


def test_every_example_of_a_system_a_watch_or_onward_is_what_the_product_reads(tmp_path: Path) -> None:
    watched = set[str]()
    for number, text in enumerate(EXAMPLES):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        told = reviewed.read(path).content
        if "system" in told:
            reviewed.load(path, SystemFile)
        elif "watch" in told:
            reviewed.load(path, WatchFile)
            watched |= told["watch"].keys()
        elif "streams" in told:
            for stream in told["streams"].values():
                Onward.model_validate(stream["onward"])
        else:
            [(name, part)] = told.items()
            PARTS[name].validate_python(part)
    assert {"onward", "index", "audit", "approval"} <= watched
