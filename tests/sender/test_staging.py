"""Copies of what is to be sent, where only the sender writes: whole ones under their digest, or none."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from deployments.sender.delivery import stage


def test_a_disk_that_takes_a_part_of_a_file_leaves_no_copy_and_the_next_try_is_whole(tmp_path: Path) -> None:
    data = b"x" * 600
    digest = hashlib.sha256(data).hexdigest()
    (tmp_path / digest).write_bytes(data)
    # A limit on the size of files cuts a write as a full disk does: the first one is short, only the next one fails.
    code = f"""
import resource, signal
from pathlib import Path
from deployments.sender.delivery import stage
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))
stage("package", [({digest!r}, 600)], lambda name: Path({str(tmp_path)!r}, name), Path({str(tmp_path)!r}, "outbox"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "File too large" in done.stderr
    staged = stage("package", [(digest, 600)], lambda name: tmp_path / name, tmp_path / "outbox")
    assert staged[digest].read_bytes() == data


def test_what_a_killed_staging_left_is_gone_after_the_next(tmp_path: Path) -> None:
    left = tmp_path / "outbox" / "package" / ".coming"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"half of it")
    digest = hashlib.sha256(b"whole").hexdigest()
    (tmp_path / digest).write_bytes(b"whole")
    stage("package", [(digest, 5)], lambda name: tmp_path / name, tmp_path / "outbox")
    assert [path.name for path in (tmp_path / "outbox" / "package").iterdir()] == [digest]
