"""Flows that tell of the process they run in. Tests and benches put this file beside our flows in a checkout of their own."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy
from prefect import flow, get_run_logger
from prefect.flow_runs import suspend_flow_run


def _told(path: str, **more: Any) -> None:
    """Whole, or not there."""
    fresh = Path(f"{path}.{os.getpid()}")
    fresh.write_text(json.dumps({"at": time.time(), "pid": os.getpid(), "parent": os.getppid(), **more}))
    fresh.rename(path)


@flow
def look(path: str) -> None:
    """Where am I?"""
    began = time.time()
    get_run_logger().warning("a word from the probe")
    print("a word on the output")  # what a run prints is the worker's output
    others = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
    _told(
        path,
        began=began,
        group=os.getpgid(0),
        folder=str(Path.cwd()),
        environment=dict(os.environ),
        random=[random.random(), float(numpy.random.random()), str(uuid4())],
        threads=[thread.name for thread in threading.enumerate()],
        files=others,
        modules=sorted(sys.modules),
        spent=time.process_time(),
    )


@flow
def linger(path: str) -> None:
    """Until somebody ends it, or a test has forgotten it."""
    _told(path)
    time.sleep(900)


@flow
def wait(path: str, again: str, after: str = "") -> None:
    """Suspend, once the file ``after`` is there; and tell of the line after it."""
    if not Path(path).exists():
        _told(path)
    while after and not Path(after).exists():
        time.sleep(0.05)
    suspend_flow_run(timeout=None, key="one")
    _told(again)
